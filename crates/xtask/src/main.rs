//! `cargo xtask ...`: what cargo alone cannot do for vroce.

mod conformance;
mod consumer;
mod debian;
mod faults;
mod fuzz;
mod image;
mod inf;
mod interop;
mod libtest;
mod package;
mod parity;
mod requirements;
mod speed;
mod workspace;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

/// Project tasks that need more than cargo.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run the driver's tests, and write which requirement of NDKPI they prove.
    Conformance(conformance::Options),
    /// Build the example of an NDK consumer in C, consumer.sys, with clang.
    Consumer(consumer::Options),
    /// Look at the driver's image: whether Windows would load it, and what it could do wrong there.
    AuditImage(image::audit::Options),
    /// Type-check how the driver is built on Windows with the WDK.
    CheckWdk(image::wdk::Options),
    /// Build the driver's image, vroce.sys, for Windows. On Linux; nobody has tried it on Windows.
    Image(image::Options),
    /// Run the driver's tests and the demo while everything that may fail around the driver fails once.
    ///
    /// Each runs until it comes across no new path by which the driver calls something that may fail, each time with the next one
    /// failing. What breaks a rule of the simulator then is a finding, and so is a panic of the driver or a process that ends; that a
    /// test's own assertions fail is not.
    Faults(faults::Options),
    /// Look for frames, datagrams and conversations that the engine cannot bear.
    ///
    /// The targets run at the same time: where there are fewer processors than targets, each has less than its seconds. They begin with
    /// what is kept in the repository and what earlier runs have found, so that no two machines try the same; without `fuzz/corpus` in
    /// the target folder, it is the repository's inputs alone.
    Fuzz(fuzz::Options),
    /// Check an INF against the rules of infverif and of network adapters.
    LintInf(inf::Options),
    /// Run vroce against a real Linux kernel (rdma_rxe) in QEMU.
    Interop(interop::Options),
    /// Make the zip that a tester installs on Windows: image, INF, catalog, signatures, scripts.
    Package(package::Options),
    /// Write what the facts of Windows's interfaces say of what the simulated kernel exports; needs the facts.
    Parity(parity::Options),
    /// Run the engine's and the driver's tests that prove requirements of RoCEv2, and write which.
    Requirements(requirements::Options),
    /// Run the driver's tests, the demo and the spinner with the driver's image in place of the linked driver, and compare what both do.
    TestImage(image::test::Options),
    /// Run the example of an NDK consumer on two simulated machines with vroce, to its end and into its mistakes.
    TestConsumer(consumer::test::Options),
    /// Compare the benchmark with that of an earlier commit, or the driver's image with the linked driver.
    Speed(speed::Options),
}

/// Arguments that mean nothing: exit status 2.
#[derive(Debug)]
struct BadArgument(String);

impl std::fmt::Display for BadArgument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadArgument {}

fn main() -> std::process::ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(help) if help.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            eprint!("{help}");
            return std::process::ExitCode::from(2);
        }
        Err(error) if error.use_stderr() => {
            eprintln!("{}", one_line(&error.to_string()));
            return std::process::ExitCode::from(2);
        }
        Err(help) => {
            print!("{help}");
            return std::process::ExitCode::SUCCESS;
        }
    };
    let result = match cli.task {
        Task::Conformance(options) => conformance::run(&options),
        Task::Consumer(options) => consumer::run(&options),
        Task::AuditImage(options) => image::audit::run(&options),
        Task::CheckWdk(options) => image::wdk::run(&options),
        Task::Image(options) => image::run(&options),
        Task::Faults(options) => faults::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::LintInf(options) => inf::run(&options),
        Task::Interop(options) => interop::run(&options),
        Task::Package(options) => package::run(&options),
        Task::Parity(options) => parity::run(&options),
        Task::Requirements(options) => requirements::run(&options),
        Task::TestImage(options) => image::test::run(&options),
        Task::TestConsumer(options) => consumer::test::run(&options),
        Task::Speed(options) => speed::run(&options),
    };
    match result {
        Ok(true) => std::process::ExitCode::SUCCESS,
        Ok(false) => std::process::ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<BadArgument>() {
                std::process::ExitCode::from(2)
            } else {
                std::process::ExitCode::FAILURE
            }
        }
    }
}

/// What is wrong, of clap's several paragraphs.
fn one_line(text: &str) -> String {
    let paragraph = text.split("\n\n").next().unwrap_or(text);
    paragraph.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_arguments_is_one_line() {
        for (arguments, part) in [
            (vec!["cargo xtask", "interop", "--bogus"], "--bogus"),
            (vec!["cargo xtask", "interop", "--only"], "--only"),
            (vec!["cargo xtask", "speed", "--rounds", "0"], "--rounds"),
            (vec!["cargo xtask", "nothing"], "nothing"),
        ] {
            let error = Cli::try_parse_from(arguments).err().expect("bad arguments");
            let line = one_line(&error.to_string());
            assert!(line.contains(part) && !line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn without_a_task_all_are_listed() {
        let error = Cli::try_parse_from(["cargo xtask"]).err().expect("no task");
        assert_eq!(
            error.kind(),
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        );
        let text = error.to_string();
        for task in ["check-wdk", "conformance", "interop", "speed"] {
            assert!(text.contains(task), "{text}");
        }
    }
}
