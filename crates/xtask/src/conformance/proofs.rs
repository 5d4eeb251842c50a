//! Which tests prove which requirement: a test has the numbers of what it proves in its name.

use super::list::List;
use crate::libtest::Outcome;
use anyhow::{Result, bail};
use std::collections::BTreeMap;

/// How it stands with a requirement.
#[derive(Debug, PartialEq, Eq)]
pub enum Status {
    /// These tests prove it.
    Proven(Vec<String>),
    /// These tests should prove it and do not pass.
    Failing(Vec<String>),
    /// No test proves it.
    Open,
    /// No test can.
    Unreachable,
}

/// How it stands with all requirements, and with the decisions that tests name.
pub struct Proofs {
    statuses: BTreeMap<String, Status>,
    decisions: BTreeMap<String, Status>,
}

impl Proofs {
    /// Matches tests with requirements.
    ///
    /// # Errors
    /// If a test names what does not exist, or proves what the list calls unreachable.
    pub fn new(list: &List, tests: &[(String, Outcome)]) -> Result<Proofs> {
        let mut by_id: BTreeMap<String, Vec<(&str, Outcome)>> = BTreeMap::new();
        for (name, outcome) in tests {
            for id in ids(name)? {
                by_id.entry(id).or_default().push((name, *outcome));
            }
        }
        let mut statuses = BTreeMap::new();
        for requirement in list.requirements() {
            let these = by_id.remove(&requirement.id).unwrap_or_default();
            if let (Some((test, _)), Some(_)) = (these.first(), &requirement.unreachable) {
                bail!(
                    "{test} proves {}, which the list calls unreachable",
                    requirement.id
                );
            }
            let status = match requirement.unreachable {
                Some(_) => Status::Unreachable,
                None => status(&these),
            };
            statuses.insert(requirement.id.clone(), status);
        }
        let mut decisions = BTreeMap::new();
        for (id, these) in by_id {
            if !list.decides(&id) {
                bail!(
                    "{} names {id}, which is neither requirement nor decision",
                    these[0].0
                );
            }
            decisions.insert(id, status(&these));
        }
        Ok(Proofs {
            statuses,
            decisions,
        })
    }

    /// How it stands with a requirement.
    pub fn status(&self, id: &str) -> &Status {
        self.statuses.get(id).unwrap_or(&Status::Open)
    }

    /// How it stands with a decision, which need not be proven.
    pub fn decision(&self, id: &str) -> &Status {
        self.decisions.get(id).unwrap_or(&Status::Open)
    }

    /// The requirements of such a status.
    pub fn with(&self, wanted: impl Fn(&Status) -> bool) -> Vec<String> {
        self.statuses
            .iter()
            .filter(|(_, status)| wanted(status))
            .map(|(id, status)| match status {
                Status::Failing(tests) => format!("{id} ({})", tests.join(", ")),
                _ => id.clone(),
            })
            .collect()
    }

    /// One line of totals.
    pub fn summary(&self) -> String {
        let count = |wanted: fn(&Status) -> bool| self.with(wanted).len();
        format!(
            "{} requirements: {} proven, {} unreachable, {} open",
            self.statuses.len(),
            count(|status| matches!(status, Status::Proven(_))),
            count(|status| *status == Status::Unreachable),
            count(|status| *status == Status::Open),
        )
    }
}

fn status(tests: &[(&str, Outcome)]) -> Status {
    let failing = names(tests, |outcome| outcome == Outcome::Failed);
    let proving = names(tests, |outcome| outcome == Outcome::Passed);
    if !failing.is_empty() {
        Status::Failing(failing)
    } else if proving.is_empty() {
        Status::Open
    } else {
        Status::Proven(proving)
    }
}

fn names(tests: &[(&str, Outcome)], wanted: impl Fn(Outcome) -> bool) -> Vec<String> {
    let mut names: Vec<String> = tests
        .iter()
        .filter(|(_, outcome)| wanted(*outcome))
        .map(|(name, _)| (*name).to_owned())
        .collect();
    names.sort();
    names
}

/// The numbers in a test's name: `m01`, or `m16_to_m19` for all of them, between underscores.
fn ids(test: &str) -> Result<Vec<String>> {
    let function = test.rsplit("::").next().unwrap_or(test);
    let tokens: Vec<&str> = function.split('_').collect();
    let mut ids = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let Some((letter, number)) = id(token) else {
            continue;
        };
        let from = match index
            .checked_sub(2)
            .map(|before| (id(tokens[before]), tokens[before + 1]))
        {
            Some((Some((first, from)), "to")) => {
                if first != letter || from >= number {
                    bail!("{test}: the range that ends in {token} is none");
                }
                from + 1
            }
            _ => number,
        };
        ids.extend((from..=number).map(|number| format!("{letter}-{number:02}")));
    }
    Ok(ids)
}

/// `m01` as `('M', 1)`.
fn id(token: &str) -> Option<(char, u32)> {
    let mut characters = token.chars();
    let letter = characters.next().filter(char::is_ascii_lowercase)?;
    let digits = characters.as_str();
    let two_digits = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse().ok().filter(|_| two_digits)?;
    Some((letter.to_ascii_uppercase(), number))
}

#[cfg(test)]
mod tests {
    use super::super::list::{Decision, Group, Requirement};
    use super::*;

    fn list() -> List {
        let requirement = |id: &str, unreachable: Option<&str>| Requirement {
            id: id.into(),
            text: "so and so".into(),
            document: "a page".into(),
            unreachable: unreachable.map(Into::into),
        };
        List {
            groups: vec![Group {
                letter: "H".into(),
                title: "Headers".into(),
                requirements: vec![
                    requirement("H-01", None),
                    requirement("H-02", None),
                    requirement("H-03", Some("nobody knows how")),
                ],
            }],
            decisions: vec![Decision {
                id: "X-01".into(),
                text: "this way".into(),
                file: None,
            }],
        }
    }

    fn proofs(tests: &[(&str, Outcome)]) -> Result<Proofs> {
        let tests: Vec<_> = tests
            .iter()
            .map(|(name, outcome)| ((*name).to_owned(), *outcome))
            .collect();
        Proofs::new(&list(), &tests)
    }

    #[test]
    fn numbers_are_found_anywhere_in_a_name() {
        let found = |name: &str| ids(name).unwrap();
        assert_eq!(found("ndk::l07_l08_antecedents_outlive"), ["L-07", "L-08"]);
        assert_eq!(
            found("w03_posts_need_one_and_w04_receives_do_not"),
            ["W-03", "W-04"]
        );
        assert_eq!(found("m16_to_m19_data"), ["M-16", "M-17", "M-18", "M-19"]);
        assert_eq!(found("e01_m02_to_m03"), ["E-01", "M-02", "M-03"]);
        for none in ["port_0_means", "in_h01x", "a1b_01_h1_h001", "H01"] {
            assert_eq!(found(none), [""; 0], "{none}");
        }
        assert_eq!(found("h01::no_number_here"), [""; 0]);
    }

    #[test]
    fn a_range_goes_upwards_within_a_group() {
        for bad in ["m05_to_m04", "m05_to_m05", "m05_to_n06"] {
            assert!(ids(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_requirement_is_proven_by_tests_that_pass() {
        let proofs = proofs(&[
            ("b::h01_x01_it_works", Outcome::Passed),
            ("a::h01_it_works_otherwise", Outcome::Passed),
            ("h02_it_will_work", Outcome::Ignored),
        ])
        .unwrap();
        let both = ["a::h01_it_works_otherwise", "b::h01_x01_it_works"].map(String::from);
        assert_eq!(*proofs.status("H-01"), Status::Proven(both.into()));
        assert_eq!(*proofs.status("H-02"), Status::Open);
        assert_eq!(*proofs.status("H-03"), Status::Unreachable);
        let one = vec!["b::h01_x01_it_works".into()];
        assert_eq!(*proofs.decision("X-01"), Status::Proven(one));
        assert_eq!(
            proofs.summary(),
            "3 requirements: 1 proven, 1 unreachable, 1 open"
        );
    }

    #[test]
    fn one_failing_test_outweighs_those_that_pass() {
        let proofs =
            proofs(&[("h01_good", Outcome::Passed), ("h01_bad", Outcome::Failed)]).unwrap();
        assert_eq!(
            *proofs.status("H-01"),
            Status::Failing(vec!["h01_bad".into()])
        );
        assert_eq!(
            proofs.with(|status| matches!(status, Status::Failing(_))),
            ["H-01 (h01_bad)"]
        );
    }

    #[test]
    fn a_decision_is_shown_by_tests_that_pass_and_no_others() {
        let decision = |tests: &[(&str, Outcome)]| match proofs(tests).unwrap().decision("X-01") {
            Status::Open => "open",
            Status::Proven(_) => "proven",
            Status::Failing(_) => "failing",
            Status::Unreachable => "unreachable",
        };
        let (good, bad) = (("x01_good", Outcome::Passed), ("x01_bad", Outcome::Failed));
        assert_eq!(decision(&[]), "open");
        assert_eq!(decision(&[("x01_later", Outcome::Ignored)]), "open");
        assert_eq!(decision(&[good, ("x01_later", Outcome::Ignored)]), "proven");
        assert_eq!(decision(&[good, bad]), "failing");
    }

    #[test]
    fn what_is_not_on_the_lists_cannot_be_proven() {
        for bad in ["h04_four_of_three", "z01_no_such_group", "h03_unreachable"] {
            assert!(proofs(&[(bad, Outcome::Passed)]).is_err(), "{bad}");
        }
    }
}
