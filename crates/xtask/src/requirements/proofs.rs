//! Which tests prove which requirement: a test has the numbers of what it proves in its name, `r001` for the first.

use super::list::{List, Place};
use crate::libtest::Outcome;
use anyhow::{Result, ensure};
use std::collections::BTreeMap;

/// A test that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// Whose it is: the engine's or the driver's.
    pub place: Place,
    /// The function.
    pub name: String,
    /// Its source, from the root of the repository.
    pub file: String,
    /// How it ended.
    pub outcome: Outcome,
}

/// What was found of each requirement.
pub struct Proofs(BTreeMap<u32, Vec<Test>>);

impl Proofs {
    /// Matches tests with requirements.
    ///
    /// # Errors
    /// If a test names a requirement that does not exist.
    pub fn new(list: &List, tests: &[Test]) -> Result<Proofs> {
        let mut proofs: BTreeMap<u32, Vec<Test>> = BTreeMap::new();
        for requirement in list.requirements() {
            proofs.insert(requirement.number, Vec::new());
        }
        for test in tests {
            for number in numbers(&test.name) {
                let these = proofs.get_mut(&number);
                ensure!(
                    these.is_some(),
                    "{} in {} names requirement {number}, and there is none",
                    test.name,
                    test.file
                );
                these.into_iter().for_each(|these| these.push(test.clone()));
            }
        }
        for these in proofs.values_mut() {
            these.sort_by(|a, b| (&a.file, &a.name).cmp(&(&b.file, &b.name)));
        }
        Ok(Proofs(proofs))
    }

    /// The tests that prove a requirement.
    pub fn of(&self, number: u32) -> impl Iterator<Item = &Test> {
        let these = self.0.get(&number).into_iter().flatten();
        these.filter(|test| test.outcome == Outcome::Passed)
    }

    /// The places where a requirement should be proven and is not, as text. `is_case` knows the cases of interop.
    pub fn holes(&self, list: &List, is_case: impl Fn(&str) -> bool) -> Vec<String> {
        let mut holes = Vec::new();
        for requirement in list.requirements() {
            let number = requirement.number;
            for place in &requirement.places {
                let (proven, what) = match place {
                    Place::Interop(case) => (is_case(case), format!("interop case {case}")),
                    Place::Engine => (self.is_proven(number, place), "engine's test".into()),
                    Place::Driver => (self.is_proven(number, place), "driver's test".into()),
                };
                if !proven {
                    holes.push(format!("requirement {number}: no {what} proves it"));
                }
            }
        }
        holes
    }

    fn is_proven(&self, number: u32, place: &Place) -> bool {
        self.of(number).any(|test| test.place == *place)
    }
}

/// The numbers in a test's name: `r001` between underscores.
pub fn numbers(name: &str) -> Vec<u32> {
    let number = |token: &str| {
        let digits = token.strip_prefix('r')?;
        let three = digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| three)
    };
    name.split('_').filter_map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "Encoding\n1\ta\n2\tb\tengine driver\nNetwork\n3\tc\tinterop:there\n";

    fn test(place: Place, name: &str, outcome: Outcome) -> Test {
        Test {
            place,
            name: name.into(),
            file: "a.rs".into(),
            outcome,
        }
    }

    fn holes(tests: &[Test]) -> Vec<String> {
        let list = List::parse(LIST).unwrap();
        let proofs = Proofs::new(&list, tests).unwrap();
        proofs.holes(&list, |case| case == "there")
    }

    #[test]
    fn numbers_have_three_digits_and_stand_alone() {
        assert_eq!(numbers("r001_r072_frames"), [1, 72]);
        assert_eq!(numbers("frames_of_r100"), [100]);
        for none in ["r01_windows", "r1000_x", "rr001_x", "r0a1_x", "x001"] {
            assert_eq!(numbers(none), [0; 0], "{none}");
        }
    }

    #[test]
    fn a_requirement_is_proven_where_the_list_says() {
        use Outcome::{Failed, Ignored, Passed};
        let one = || test(Place::Engine, "r001_r002_both", Passed);
        let two = || test(Place::Driver, "r002_too", Passed);
        assert_eq!(holes(&[one(), two()]), [""; 0]);
        let missing = [
            "requirement 1: no engine's test proves it",
            "requirement 2: no engine's test proves it",
            "requirement 2: no driver's test proves it",
        ];
        assert_eq!(holes(&[]), missing);
        assert_eq!(holes(&[two()]), missing[..2]);
        assert_eq!(holes(&[one()]), missing[2..]);
        for outcome in [Failed, Ignored] {
            let driver = test(Place::Driver, "r002_too", outcome);
            assert_eq!(holes(&[one(), driver]), missing[2..]);
        }
    }

    #[test]
    fn a_case_that_does_not_exist_is_a_hole() {
        let list = List::parse(LIST).unwrap();
        let holes = Proofs::new(&list, &[]).unwrap().holes(&list, |_| false);
        let last = holes.last().unwrap();
        assert_eq!(last, "requirement 3: no interop case there proves it");
    }

    #[test]
    fn a_number_that_does_not_exist_is_an_error() {
        let list = List::parse(LIST).unwrap();
        let tests = [test(Place::Engine, "r001_r004_x", Outcome::Passed)];
        assert!(Proofs::new(&list, &tests).is_err());
    }
}
