//! `vroce-lab`: what a newcomer runs first, what measures, and our half of the interop cases.

mod bench;
mod cli;
mod demo;
mod flow;
mod peer;
mod table;

use std::process::ExitCode;
use vroce_lab::{server, side, status};

fn main() -> ExitCode {
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let result = match (&cli.command, &cli.demo.peer) {
        (Some(cli::Command::Peer(options)), _) => peer::run(options),
        (None, Some(path)) => peer::serve(path, &cli.demo),
        (None, None) if cli.demo.bench => bench::run(&cli.demo),
        (None, None) => demo::run(&cli.demo),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
