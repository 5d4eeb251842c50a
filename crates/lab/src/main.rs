//! `vroce-lab`: what a newcomer runs first, what measures, and our half of the interop cases.

/// As `println!`; see [`output`].
macro_rules! out {
    () => { $crate::output::line(format_args!("")) };
    ($($argument:tt)*) => { $crate::output::line(format_args!($($argument)*)) };
}

mod bench;
mod cli;
mod consumer;
mod demo;
mod figures;
mod flow;
mod output;
mod peer;
mod spinner;
mod table;
mod trace_file;
mod tracer;
mod versus;

use std::process::ExitCode;
use vroce_lab::{driver, server, side, status};

fn main() -> ExitCode {
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let result = match (&cli.command, &cli.demo.peer) {
        (Some(cli::Command::Consumer(options)), _) => consumer::run(options),
        (Some(cli::Command::Peer(options)), _) => peer::run(options),
        (Some(cli::Command::Spin(options)), _) => spinner::run(options),
        (Some(cli::Command::Trace(options)), _) => trace_file::run(options),
        (None, Some(path)) => peer::serve(path, &cli.demo),
        (None, None) if cli.demo.bench => match &cli.demo.against_image {
            Some(image) => versus::run(image, &cli.demo),
            None => bench::run(&cli.demo),
        },
        (None, None) => demo::run(&cli.demo),
    };
    if let Err(error) = &result {
        output::error(format_args!("{error:#}"));
    }
    if let Some(failure) = output::failure() {
        output::error(format_args!("writing the output: {failure}"));
    }
    if result.is_ok() && output::failure().is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
