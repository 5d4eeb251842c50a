//! `cargo xtask conformance`: which requirement of NDKPI is proven by which test.

mod libtest;
mod list;
mod page;
mod proofs;

use crate::workspace::root;
use anyhow::{Context, Result, bail};
use libtest::Outcome;
use list::List;
use proofs::{Proofs, Status};
use std::path::Path;
use std::process::{Command, Stdio};

/// The driver's test binaries: those whose tests carry requirement numbers in their names.
const BINARIES: &[&str] = &["inf", "miniport", "ndk"];

/// Where the page is, from the root of the repository.
const PAGE: &str = "docs/conformance.md";

/// Options of `cargo xtask conformance`.
#[derive(clap::Args)]
pub struct Options {
    /// Write nothing; fail if docs/conformance.md is not up to date.
    #[arg(long)]
    check: bool,
    /// Fail if a requirement is open: reachable, and proven by no test.
    #[arg(long)]
    strict: bool,
}

/// Runs the driver's tests and writes, or checks, the page; `false` when a requirement or the page is not as it should be.
pub fn run(options: &Options) -> Result<bool> {
    let root = root();
    let list = List::load()?;
    let mut tests = Vec::new();
    for binary in BINARIES {
        let output = run_binary(&root, binary)?;
        let outcomes = libtest::parse(&output).with_context(|| {
            format!("the tests of {binary} did not report to the end:\n{output}")
        })?;
        if outcomes
            .iter()
            .any(|(_, outcome)| *outcome == Outcome::Failed)
        {
            print!("{output}");
        }
        tests.extend(
            outcomes
                .into_iter()
                .map(|(name, outcome)| (format!("{binary}::{name}"), outcome)),
        );
    }
    let proofs = Proofs::new(&list, &tests)?;

    let failing = complain(
        "proven by a test that fails",
        proofs.with(|status| matches!(status, Status::Failing(_))),
    );
    if failing {
        return Ok(false);
    }
    let unstated = complain(
        "not stated where the list of decisions says",
        list.unstated(&root)?,
    );
    let page = page::render(&list, &proofs);
    let path = root.join(PAGE);
    let stale = if options.check {
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        let stale = there != page;
        if stale {
            println!("{PAGE} is not up to date: run `cargo xtask conformance`");
        }
        stale
    } else {
        std::fs::write(&path, page).with_context(|| path.display().to_string())?;
        println!("wrote {PAGE}");
        false
    };
    println!("{}", proofs.summary());
    let open = options.strict
        && complain(
            "open: no test proves it",
            proofs.with(|status| *status == Status::Open),
        );
    Ok(!(unstated || stale || open))
}

/// Prints what is wrong with these requirements; `false` if there are none.
fn complain(what: &str, ids: Vec<String>) -> bool {
    for id in &ids {
        println!("{id}  {what}");
    }
    !ids.is_empty()
}

/// Runs one of the driver's test binaries; what it printed, whether its tests passed or not.
fn run_binary(root: &Path, binary: &str) -> Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["test", "--locked", "--package", "vroce", "--test", binary])
        .current_dir(root)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cargo")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() && text.is_empty() {
        bail!("the tests of {binary} did not run ({})", output.status);
    }
    Ok(text)
}
