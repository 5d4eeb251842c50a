//! What a test binary prints.

use anyhow::{Result, bail};

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
