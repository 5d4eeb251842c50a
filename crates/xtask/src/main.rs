//! `cargo xtask ...`: what cargo alone cannot do for vroce.

mod conformance;
mod interop;

use clap::{Parser, Subcommand};

/// Project tasks that need more than cargo.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run the driver's tests, and write which requirement of NDKPI they prove.
    Conformance(conformance::Options),
    /// Run vroce against a real Linux kernel (rdma_rxe) in QEMU.
    Interop(interop::Options),
}

fn main() -> std::process::ExitCode {
    let result = match Cli::parse().task {
        Task::Conformance(options) => conformance::run(&options),
        Task::Interop(options) => interop::run(&options),
    };
    match result {
        Ok(true) => std::process::ExitCode::SUCCESS,
        Ok(false) => std::process::ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
