//! The list of requirements: `data/rocev2.tsv`.

use crate::conformance::rows;
use anyhow::{Context, Result, bail, ensure};

/// Where something has to be proven.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// By a test of the engine that has the number in its name.
    Engine,
    /// By a test of the driver that has.
    Driver,
    /// By a case of `cargo xtask interop`, this one.
    Interop(String),
}

/// One testable requirement.
#[derive(Debug)]
pub struct Requirement {
    /// 1 for the first.
    pub number: u32,
    /// What is required.
    pub text: String,
    /// Where it is proven: everywhere of these.
    pub places: Vec<Place>,
}

/// Requirements of one subject.
#[derive(Debug)]
pub struct Group {
    /// `Responder`.
    pub title: String,
    /// In the order of their numbers.
    pub requirements: Vec<Requirement>,
}

/// All requirements, by subject.
pub struct List(pub Vec<Group>);

impl List {
    /// The project's list.
    pub fn load() -> Result<List> {
        List::parse(include_str!("../../data/rocev2.tsv")).context("rocev2.tsv")
    }

    pub(super) fn parse(text: &str) -> Result<List> {
        let mut groups: Vec<Group> = Vec::new();
        let mut next = 1;
        for (line, row) in rows(text) {
            let (number, text, places) = match row[..] {
                [title] => {
                    groups.push(Group {
                        title: title.into(),
                        requirements: Vec::new(),
                    });
                    continue;
                }
                [number, text] => (number, text, "engine"),
                [number, text, places] => (number, text, places),
                _ => bail!("line {line}: neither a group nor a requirement"),
            };
            let Some(group) = groups.last_mut() else {
                bail!("line {line}: {number} has no group");
            };
            ensure!(
                number.parse() == Ok(next),
                "line {line}: {number} where {next} should be"
            );
            let places = places.split(' ').map(place).collect::<Result<_>>();
            group.requirements.push(Requirement {
                number: next,
                text: text.into(),
                places: places.with_context(|| format!("line {line}"))?,
            });
            next += 1;
        }
        Ok(List(groups))
    }

    /// The requirements of all groups.
    pub fn requirements(&self) -> impl Iterator<Item = &Requirement> {
        self.0.iter().flat_map(|group| &group.requirements)
    }
}

fn place(word: &str) -> Result<Place> {
    Ok(match word.split_once(':') {
        None if word == "engine" => Place::Engine,
        None if word == "driver" => Place::Driver,
        Some(("interop", case)) => Place::Interop(case.into()),
        _ => bail!("{word:?} is no place where something is proven"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interop::is_case;

    #[test]
    fn the_projects_list_is_whole() {
        let list = List::load().unwrap();
        assert_eq!(list.requirements().count(), 100);
        for requirement in list.requirements() {
            assert!(!requirement.text.is_empty());
            for place in &requirement.places {
                if let Place::Interop(case) = place {
                    assert!(is_case(case), "{}: {case}", requirement.number);
                }
            }
        }
    }

    #[test]
    fn numbers_follow_each_other_and_places_are_known() {
        let list = List::parse("A\n1\ta\nB\n2\tb\tengine interop:x driver\n").unwrap();
        let places: Vec<_> = list.requirements().map(|r| &r.places[..]).collect();
        let interop = Place::Interop("x".into());
        assert_eq!(places[0], [Place::Engine]);
        assert_eq!(places[1], [Place::Engine, interop, Place::Driver]);
        for bad in [
            "1\ta\n",
            "A\n2\ta\n",
            "A\n1\ta\tnowhere\n",
            "A\n1\ta\tengine:x\n",
            "A\n1\ta\tengine\tmore\n",
            "A\n1\ta\n1\tb\n",
        ] {
            assert!(List::parse(bad).is_err(), "{bad:?}");
        }
    }
}
