//! `cargo xtask test-image`: everything that judges the driver, once more, with its image loaded by the simulated kernel.

use super::same::Comparison;
use super::{Arch, IMAGE_VARIABLE};
use crate::conformance;
use crate::interop;
use crate::libtest::{Outcome, Tests};
use crate::workspace::{build_lab, root, target};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Options of `cargo xtask test-image`.
#[derive(clap::Args)]
pub struct Options {
    /// The image to test [default: builds vroce.sys for x64].
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Install what is missing (Debian, needs root): a compiler for the image, and for --interop QEMU.
    #[arg(long)]
    install: bool,
    /// Functions that the spinner calls; 0 leaves it out.
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    calls: u64,
    /// Run the image against a real Linux kernel too: all cases, or those whose name contains CASE.
    #[arg(long, value_name = "CASE", num_args = 0..=1)]
    interop: Option<Option<String>>,
    /// Only the tests whose names contain this, and nothing else.
    #[arg(value_name = "NAME", conflicts_with_all = ["interop", "calls"])]
    filter: Option<String>,
}

/// Runs everything that judges the linked driver on the image; `false` when something failed.
pub fn run(options: &Options) -> Result<bool> {
    let image = match &options.image {
        Some(image) => image.clone(),
        None => super::build(Arch::X64, options.install)?.image,
    };
    let image = image
        .canonicalize()
        .with_context(|| image.display().to_string())?;
    println!("testing {}", image.display());
    if let Some(filter) = &options.filter {
        return run_tests(&image, filter);
    }
    if !conformance::judge_image(&image)? {
        return Ok(false);
    }
    if !fail_as_a_driver(options.install)? {
        return Ok(false);
    }
    let target = target()?;
    let lab = build_lab(&root(), &target)?;
    let comparison = Comparison {
        lab: &lab,
        image: &image,
        folder: &target.join("image"),
    };
    if !comparison.demo()? || (options.calls > 0 && !comparison.walk(options.calls)?) {
        return Ok(false);
    }
    if !starts(&lab, &image)? {
        return Ok(false);
    }
    let Some(only) = &options.interop else {
        return Ok(true);
    };
    let out = target.join("image/interop");
    interop::run(&interop::Options::of_image(
        &image,
        out,
        only.as_deref(),
        options.install,
    ))
}

/// Runs the driver's tests with such a name on the image.
fn run_tests(image: &Path, filter: &str) -> Result<bool> {
    let mut tests = Vec::new();
    for binary in ["miniport", "ndk"] {
        let source = Tests::Run(Some((IMAGE_VARIABLE, image)));
        tests.extend(source.of("vroce", binary, &[filter])?);
    }
    Ok(all_passed(&format!("whose names contain {filter}"), &tests))
}

/// Tests what becomes of a panic, of missing memory and of a stack that is used up: on an image that does such things, which the
/// driver's never does, and has the driver's own means for them.
fn fail_as_a_driver(install: bool) -> Result<bool> {
    let faulty = super::build_package("faulty", Arch::X64, install)?.image;
    let faulty = faulty.canonicalize()?;
    let source = Tests::Run(Some(("NTSIM_FAULTY_IMAGE", &faulty)));
    let tests = source.of("ntsim", "faulty", &["--include-ignored"])?;
    Ok(all_passed("of an image that fails", &tests))
}

/// Says how many tests passed; `false` if there was none, or one failed or did not run.
fn all_passed(which: &str, tests: &[(String, Outcome)]) -> bool {
    let passed = tests.iter().filter(|(_, o)| *o == Outcome::Passed).count();
    println!("{passed} of {} tests {which} passed", tests.len());
    for (name, outcome) in tests {
        if *outcome != Outcome::Passed {
            println!("{name}: {outcome:?}");
        }
    }
    passed > 0 && passed == tests.len()
}

/// Has the lab start servers with the image; `false` if it takes longer than it may.
fn starts(lab: &Path, image: &Path) -> Result<bool> {
    let status = Command::new(lab)
        .args(["--bench", "--starts", "--against-image"])
        .arg(image)
        .status()
        .with_context(|| lab.display().to_string())?;
    Ok(status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_that_did_not_run_have_not_passed() {
        use Outcome::{Failed, Ignored, Passed};
        let good = |outcomes: &[Outcome]| {
            let tests = outcomes.iter().map(|outcome| ("a::b".to_owned(), *outcome));
            all_passed("", &tests.collect::<Vec<_>>())
        };
        assert!(good(&[Passed, Passed]));
        assert!(!good(&[]));
        assert!(!good(&[Ignored]));
        assert!(!good(&[Passed, Ignored]));
        assert!(!good(&[Passed, Failed]));
    }
}
