//! `cargo xtask conformance`: which requirement of NDKPI is proven by which test.

mod list;
mod page;
mod proofs;
mod rules;

use crate::image::IMAGE_VARIABLE;
use crate::libtest::{Outcome, Tests};
use crate::workspace::root;
use anyhow::{Context, Result};
use list::List;
pub use list::rows;
pub use page::escape;
use proofs::{Proofs, Status};
use rules::Rules;
use std::path::{Path, PathBuf};

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
    /// Run nothing: take what `cargo test --locked 2>&1` has printed into this file.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

/// Runs the driver's tests and writes, or checks, the page; `false` when a requirement or the page is not as it should be.
pub fn run(options: &Options) -> Result<bool> {
    let root = root();
    let list = List::load()?;
    let rules = Rules::load(&root, &list)?;
    let tests = Tests::new(options.from.as_deref())?;
    let (proofs, failing) = judge_driver(&tests, &list)?;
    let mut culprits = Vec::new();
    for (binary, these) in rules.culprits() {
        if !these.is_empty() {
            let exactly: Vec<&str> = std::iter::once("--exact").chain(these).collect();
            culprits.extend(tests.of("ntsim", binary, &exactly)?);
        }
    }
    if complain(
        "a rule whose culprit did not pass",
        rules.toothless(&culprits),
    ) || failing
    {
        return Ok(false);
    }
    let unstated = complain(
        "not stated where the list of decisions says",
        list.unstated(&root)?,
    );
    let page = page::render(&list, &proofs, &rules);
    let kept = keep(&root, PAGE, &page, options.check, "conformance")?;
    println!("{}", proofs.summary());
    let open = options.strict && complain_of_open(&proofs);
    Ok(kept && !(unstated || open))
}

/// Writes a page that a task makes, or, to `check`, only compares it with what is there: `false` if that is something else.
pub fn keep(root: &Path, file: &str, page: &str, check: bool, task: &str) -> Result<bool> {
    let path = root.join(file);
    if !check {
        std::fs::write(&path, page).with_context(|| path.display().to_string())?;
        println!("wrote {file}");
        return Ok(true);
    }
    let current = std::fs::read_to_string(&path).is_ok_and(|there| there == page);
    if !current {
        println!("{file} is not up to date: run `cargo xtask {task}`");
    }
    Ok(current)
}

/// Judges the driver's image as `run` judges the linked driver: by the same list and the same tests, of which none may fail, and with
/// no requirement open.
pub fn judge_image(image: &Path) -> Result<bool> {
    let tests = Tests::Run(Some((IMAGE_VARIABLE, image)));
    let (proofs, failing) = judge_driver(&tests, &List::load()?)?;
    println!("{}", proofs.summary());
    let open = complain_of_open(&proofs);
    Ok(!(failing || open))
}

/// What the driver's tests prove, and whether any fails.
fn judge_driver(source: &Tests, list: &List) -> Result<(Proofs, bool)> {
    let mut tests = Vec::new();
    for binary in BINARIES {
        tests.extend(source.of("vroce", binary, &[])?);
    }
    let proofs = Proofs::new(list, &tests)?;
    complain(
        "proven by a test that fails",
        proofs.with(|status| matches!(status, Status::Failing(_))),
    );
    // Whether it has a number or not: the page is made of tests that pass.
    let failing = complain("fails", failing(&tests));
    Ok((proofs, failing))
}

fn complain_of_open(proofs: &Proofs) -> bool {
    complain(
        "open: no test proves it",
        proofs.with(|status| *status == Status::Open),
    )
}

/// The tests that failed.
fn failing(tests: &[(String, Outcome)]) -> Vec<String> {
    let failed =
        |(name, outcome): &(String, Outcome)| (*outcome == Outcome::Failed).then(|| name.clone());
    tests.iter().filter_map(failed).collect()
}

/// Prints what is wrong with these; `false` if there are none.
pub fn complain(what: &str, ids: Vec<String>) -> bool {
    for id in &ids {
        println!("{id}  {what}");
    }
    !ids.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_fails_is_found_without_a_number_too() {
        let tests = [
            ("a::good".to_owned(), Outcome::Passed),
            ("a::bad".to_owned(), Outcome::Failed),
            ("a::later".to_owned(), Outcome::Ignored),
        ];
        assert_eq!(failing(&tests), ["a::bad"]);
        assert_eq!(failing(&tests[..1]), [""; 0]);
    }
}
