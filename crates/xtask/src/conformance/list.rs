//! The lists of requirements and of decisions: `data/requirements.tsv` and `data/decisions.tsv`.

use anyhow::{Context, Result, bail};
use std::path::Path;

/// One testable requirement.
#[derive(Debug, PartialEq, Eq)]
pub struct Requirement {
    /// `M-01`.
    pub id: String,
    /// What is required.
    pub text: String,
    /// The document that requires it.
    pub document: String,
    /// Why no test can reach it, if none can.
    pub unreachable: Option<String>,
}

/// Requirements of one subject, whose numbers begin with the same letter.
#[derive(Debug, PartialEq, Eq)]
pub struct Group {
    /// `M`.
    pub letter: String,
    /// `Setting up connections`.
    pub title: String,
    /// In the order of their numbers.
    pub requirements: Vec<Requirement>,
}

/// One decision where the documentation leaves a choice.
#[derive(Debug, PartialEq, Eq)]
pub struct Decision {
    /// `X-01`.
    pub id: String,
    /// What was decided.
    pub text: String,
    /// The file whose documentation states it, from the root of the repository.
    pub file: Option<String>,
}

/// All requirements and decisions.
pub struct List {
    /// Requirements by subject.
    pub groups: Vec<Group>,
    /// Decisions.
    pub decisions: Vec<Decision>,
}

impl List {
    /// The project's lists.
    pub fn load() -> Result<List> {
        List::parse(
            include_str!("../../data/requirements.tsv"),
            include_str!("../../data/decisions.tsv"),
        )
    }

    fn parse(requirements: &str, decisions: &str) -> Result<List> {
        Ok(List {
            groups: groups(requirements).context("requirements.tsv")?,
            decisions: self::decisions(decisions).context("decisions.tsv")?,
        })
    }

    /// The requirements of all groups.
    pub fn requirements(&self) -> impl Iterator<Item = &Requirement> {
        self.groups.iter().flat_map(|group| &group.requirements)
    }

    /// Whether there is such a decision.
    pub fn decides(&self, id: &str) -> bool {
        self.decisions.iter().any(|decision| decision.id == id)
    }

    /// The decisions that the file named for them does not mention.
    pub fn unstated(&self, root: &Path) -> Result<Vec<String>> {
        let mut unstated = Vec::new();
        for Decision { id, file, .. } in &self.decisions {
            let Some(file) = file else { continue };
            let text = std::fs::read_to_string(root.join(file)).with_context(|| file.clone())?;
            let stated = text
                .lines()
                .map(str::trim_start)
                .any(|line| line.starts_with("//") && line.contains(id.as_str()));
            if !stated {
                unstated.push(format!("{id} ({file})"));
            }
        }
        Ok(unstated)
    }
}

/// Lines that are neither empty nor comments, with their numbers, split at tabs.
pub fn rows(text: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(index, line)| (index + 1, line.split('\t').collect()))
}

fn groups(text: &str) -> Result<Vec<Group>> {
    let mut groups: Vec<Group> = Vec::new();
    for (line, row) in rows(text) {
        match row[..] {
            [letter, title] => groups.push(Group {
                letter: letter.into(),
                title: title.into(),
                requirements: Vec::new(),
            }),
            [id, text, document, ref unreachable @ ..] if unreachable.len() <= 1 => {
                let Some(group) = groups.last_mut() else {
                    bail!("line {line}: {id} has no group");
                };
                let expected = format!("{}-{:02}", group.letter, group.requirements.len() + 1);
                if id != expected {
                    bail!("line {line}: {id} where {expected} should be");
                }
                group.requirements.push(Requirement {
                    id: id.into(),
                    text: text.into(),
                    document: document.into(),
                    unreachable: unreachable.first().map(|&reason| reason.into()),
                });
            }
            _ => bail!("line {line}: neither a group nor a requirement"),
        }
    }
    Ok(groups)
}

fn decisions(text: &str) -> Result<Vec<Decision>> {
    let mut decisions: Vec<Decision> = Vec::new();
    for (line, row) in rows(text) {
        let [id, text, ref file @ ..] = row[..] else {
            bail!("line {line}: not a decision");
        };
        let expected = format!("X-{:02}", decisions.len() + 1);
        if id != expected || file.len() > 1 {
            bail!("line {line}: {id} where {expected} should be, with one file at most");
        }
        decisions.push(Decision {
            id: id.into(),
            text: text.into(),
            file: file.first().map(|&file| file.into()),
        });
    }
    Ok(decisions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_projects_lists_are_whole() {
        let list = List::load().unwrap();
        assert_eq!(list.requirements().count(), 193);
        assert_eq!(list.decisions.len(), 68);
        for requirement in list.requirements() {
            assert!(!requirement.text.is_empty() && !requirement.document.is_empty());
        }
    }

    #[test]
    fn numbers_follow_each_other_within_their_group() {
        let parse = |requirements: &str| List::parse(requirements, "");
        assert!(parse("H\tHeaders\nH-01\ta\tdoc\nH-02\tb\tdoc\tno way\n").is_ok());
        for bad in [
            "H-01\ta\tdoc\n",
            "H\tHeaders\nH-02\ta\tdoc\n",
            "H\tHeaders\nC-01\ta\tdoc\n",
            "H\tHeaders\nH-01\ta\tdoc\tno way\tmore\n",
            "H\n",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
