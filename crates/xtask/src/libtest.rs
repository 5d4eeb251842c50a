//! Tests and how they ended: by what their binaries print.

use crate::image::IMAGE_VARIABLE;
use crate::workspace::{cargo, printed};
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;

/// Where the outcomes of tests come from.
pub enum Tests<'a> {
    /// From running them; the variable names an image. Without [`IMAGE_VARIABLE`] the simulated machines load the linked driver.
    Run(Option<(&'a str, &'a Path)>),
    /// From what `cargo test --locked` has printed, on both of its streams.
    Printed(String),
}

impl Tests<'_> {
    /// The tests that a file tells of, or else those that run.
    pub fn new(printed: Option<&Path>) -> Result<Self> {
        let Some(path) = printed else {
            return Ok(Self::Run(None));
        };
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Ok(Self::Printed(text))
    }

    /// Each test of a binary of a package that libtest chooses by these arguments, with its outcome, as `binary::path::of::the_test`.
    /// The binary that has the package's name is that of its library. What was printed may tell of more tests than were asked for.
    pub fn of(
        &self,
        package: &str,
        binary: &str,
        arguments: &[&str],
    ) -> Result<Vec<(String, Outcome)>> {
        let outcomes = match self {
            Self::Run(variable) => run(package, binary, arguments, *variable)?,
            Self::Printed(text) => {
                let section = section(text, binary)?;
                parse(section).with_context(|| format!("the tests of {binary}"))?
            }
        };
        let named = |(name, outcome)| (format!("{binary}::{name}"), outcome);
        Ok(outcomes.into_iter().map(named).collect())
    }
}

fn run(
    package: &str,
    binary: &str,
    arguments: &[&str],
    variable: Option<(&str, &Path)>,
) -> Result<Vec<(String, Outcome)>> {
    let mut command = cargo();
    command.args(["test", "--locked"]);
    if binary == package {
        command.args(["--package", package, "--lib"]);
    } else {
        // Of all default members, whose features `cargo test` joins: a package by itself would be built once more.
        command.args(["--test", binary]);
    }
    command.arg("--").args(arguments).env_remove(IMAGE_VARIABLE);
    if let Some((name, image)) = variable {
        command.env(name, image);
    }
    let output = printed(&mut command)?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() && text.is_empty() {
        bail!("the tests of {binary} did not run ({})", output.status);
    }
    let outcomes = parse(&text)
        .with_context(|| format!("the tests of {binary} did not report to the end:\n{text}"))?;
    let failed = |(_, outcome): &(String, Outcome)| *outcome == Outcome::Failed;
    if outcomes.iter().any(failed) {
        print!("{text}");
    }
    Ok(outcomes)
}

/// What a binary printed, of all that `cargo test` did.
fn section<'a>(text: &'a str, binary: &str) -> Result<&'a str> {
    // As `     Running tests/ndk/main.rs (target/debug/deps/ndk-dc34205d2c8e4334)`; what comes after the last one are doc tests.
    let begins = |line: &str| {
        let line = line.trim_start();
        line.starts_with("Running ") || line.starts_with("Doc-tests ")
    };
    let is_of = |line: &str| {
        let file = line.rsplit(['/', '\\']).next().unwrap_or_default();
        let name = file.trim_end().strip_suffix(')').unwrap_or_default();
        line.trim_start().starts_with("Running ")
            && name
                .rsplit_once('-')
                .is_some_and(|(name, _)| name == binary)
    };
    let mut found = None;
    let mut at = 0;
    let mut inside = false;
    for line in text.split_inclusive('\n') {
        let next = at + line.len();
        if is_of(line) {
            ensure!(found.is_none(), "two test binaries are called {binary}");
            found = Some((next, next));
            inside = true;
        } else if begins(line) {
            inside = false;
        } else if inside && let Some((_, end)) = &mut found {
            *end = next;
        }
        at = next;
    }
    let (start, end) =
        found.with_context(|| format!("no test binary {binary} is in what was printed"))?;
    Ok(&text[start..end])
}

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// It did not run.
    Ignored,
}

/// The tests that a binary reported, with their outcomes.
///
/// The format is libtest's own for people: a line for each test, and a last one with the totals. A binary that ends early (a panic
/// that cannot unwind ends the process) has no last line, and is an error here.
pub fn parse(output: &str) -> Result<Vec<(String, Outcome)>> {
    let mut tests = Vec::new();
    let mut totals = None;
    for line in output.lines() {
        if let Some(result) = line.strip_prefix("test result: ") {
            totals = Some((
                count(result, "passed"),
                count(result, "failed"),
                count(result, "ignored"),
            ));
        } else if let Some((name, outcome)) = line.strip_prefix("test ").and_then(test) {
            tests.push((name.to_owned(), outcome));
        }
    }
    let of = |wanted| {
        let these = tests.iter().filter(|(_, outcome)| *outcome == wanted);
        Some(these.count())
    };
    let found = (
        of(Outcome::Passed),
        of(Outcome::Failed),
        of(Outcome::Ignored),
    );
    match totals {
        None => bail!("it ended without a result"),
        Some(totals) if totals != found => {
            bail!("its totals {totals:?} are not those of its tests {found:?}")
        }
        Some(_) => Ok(tests),
    }
}

fn test(line: &str) -> Option<(&str, Outcome)> {
    let (name, outcome) = line.rsplit_once(" ... ")?;
    let outcome = match outcome.split([' ', ',']).next()? {
        "ok" => Outcome::Passed,
        "FAILED" => Outcome::Failed,
        "ignored" => Outcome::Ignored,
        _ => return None,
    };
    Some((
        name.strip_suffix(" - should panic").unwrap_or(name),
        outcome,
    ))
}

/// The number before a word: 3 of `passed` in `ok. 3 passed; 0 failed`.
fn count(result: &str, word: &str) -> Option<usize> {
    let words: Vec<&str> = result.split([' ', ';']).collect();
    let at = words.iter().position(|this| *this == word)?;
    words.get(at.checked_sub(1)?)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
running 4 tests
test objects::h06_no_slot_is_null ... ok
test a_test_that_panics - should panic ... ok
test memory::r01_slow ... ignored, takes an hour
test e01_it_fails ... FAILED

failures:

---- e01_it_fails stdout ----
test this is no test

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s
";

    #[test]
    fn every_test_has_its_outcome() {
        let tests = parse(GOOD).unwrap();
        let of = |name: &str| tests.iter().find(|(this, _)| this == name).unwrap().1;
        assert_eq!(tests.len(), 4);
        assert_eq!(of("objects::h06_no_slot_is_null"), Outcome::Passed);
        assert_eq!(of("a_test_that_panics"), Outcome::Passed);
        assert_eq!(of("memory::r01_slow"), Outcome::Ignored);
        assert_eq!(of("e01_it_fails"), Outcome::Failed);
    }

    #[test]
    fn a_binary_is_found_in_what_cargo_has_printed() {
        let printed = format!(
            "   Compiling a v0.1.0\n     Running unittests src/lib.rs (target/debug/deps/a_b-0123456789abcdef)\n{GOOD}\
             \x20    Running tests/c/main.rs (target/debug/deps/c-0123456789abcdef)\n\nrunning 1 test\ntest other ... ok\n\n\
             test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\n\
             \x20  Doc-tests a_b\n\nrunning 1 test\ntest src/lib.rs - f (line 3) ... ok\n"
        );
        let twice = format!("{printed}{printed}");
        let printed = Tests::Printed(printed);
        let names = |binary: &str| {
            let tests = printed.of("a", binary, &[]).unwrap();
            tests.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(names("a_b").len(), 4);
        assert!(names("a_b").contains(&"a_b::e01_it_fails".to_owned()));
        assert_eq!(names("c"), ["c::other"]);
        for (text, binary, says) in [
            (&printed, "b", "no test binary b"),
            (&Tests::Printed(twice), "c", "two test binaries"),
        ] {
            let error = text.of("a", binary, &[]).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
        }
    }

    #[test]
    fn a_binary_that_died_is_an_error() {
        let died = GOOD.split("test result").next().unwrap();
        assert!(
            parse(died)
                .unwrap_err()
                .to_string()
                .contains("without a result")
        );
    }

    #[test]
    fn a_test_that_went_missing_is_an_error() {
        let fewer = GOOD.replace("test objects::", "testobjects::");
        assert!(parse(&fewer).unwrap_err().to_string().contains("totals"));
    }
}
