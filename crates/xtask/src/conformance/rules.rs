//! Requirements that the simulator judges in every story: the rule of its verifier, and the test that breaks it and is accused.
//!
//! A test that needs nothing to be wrong proves little by passing. A rule looks on in all of them, and its culprit shows that it bites.

use super::list::{List, rows};
use crate::libtest::Outcome;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the rules are declared, from the root of the repository.
const DECLARED: [&str; 3] = [
    "crates/ntsim/src/ndk/rules.rs",
    "crates/ntsim/src/ndis/rules.rs",
    "crates/ntsim/src/verifier/rules.rs",
];

/// One requirement that a rule holds drivers to.
#[derive(Debug, PartialEq, Eq)]
pub struct ByRule {
    /// The requirement.
    pub id: String,
    /// The rule's name in reports.
    pub rule: String,
    /// The test that breaks it, as `binary::path::of::the_test`; the binary `ntsim` is the library's own tests.
    pub culprit: String,
}

/// All of them.
pub struct Rules {
    all: Vec<ByRule>,
    /// What each rule says.
    texts: BTreeMap<String, String>,
}

impl Rules {
    /// The project's list.
    ///
    /// # Errors
    /// If it names what there is not: a requirement, a rule, or a culprit that speaks of the rule.
    pub fn load(root: &Path, list: &List) -> Result<Rules> {
        let all = parse(include_str!("../../data/rules.tsv")).context("rules.tsv")?;
        let mut texts = BTreeMap::new();
        for ByRule { id, rule, culprit } in &all {
            ensure!(
                list.requirements().any(|requirement| requirement.id == *id),
                "rules.tsv: there is no requirement {id}"
            );
            let (constant, text) = declaration(root, rule)?;
            ensure!(
                body(root, culprit)?.contains(&format!("::{constant}")),
                "{culprit} does not speak of {rule}"
            );
            texts.insert(rule.clone(), text);
        }
        Ok(Rules { all, texts })
    }

    /// The rules by which a requirement is judged.
    pub fn of<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a ByRule> {
        self.all.iter().filter(move |by| by.id == id)
    }

    /// Each rule with what it says and its culprits.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &str, Vec<&str>)> {
        self.texts.iter().map(|(rule, text)| {
            let of_it = self.all.iter().filter(|by| by.rule == *rule);
            let mut culprits: Vec<&str> = of_it.map(|by| by.culprit.as_str()).collect();
            culprits.sort_unstable();
            culprits.dedup();
            (rule.as_str(), text.as_str(), culprits)
        })
    }

    /// The culprits by binary, without its name.
    pub fn culprits(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut by_binary: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for by in &self.all {
            if let Some((binary, test)) = by.culprit.split_once("::") {
                by_binary.entry(binary).or_default().push(test);
            }
        }
        for tests in by_binary.values_mut() {
            tests.sort_unstable();
            tests.dedup();
        }
        by_binary
    }

    /// The rules that were not shown to bite: whose culprit is not among the tests that passed.
    pub fn toothless(&self, tests: &[(String, Outcome)]) -> Vec<String> {
        let shown = |culprit: &str| {
            let passed = |(name, outcome): &(String, Outcome)| {
                name == culprit && *outcome == Outcome::Passed
            };
            tests.iter().any(passed)
        };
        let missing = self.all.iter().filter(|by| !shown(&by.culprit));
        missing
            .map(|by| format!("{} ({}, {})", by.rule, by.culprit, by.id))
            .collect()
    }
}

fn parse(text: &str) -> Result<Vec<ByRule>> {
    let mut all = Vec::new();
    for (line, row) in rows(text) {
        let [id, rule, culprit] = row[..] else {
            bail!("line {line}: not a requirement, a rule and a culprit");
        };
        ensure!(
            culprit.contains("::"),
            "line {line}: {culprit} names no binary"
        );
        all.push(ByRule {
            id: id.into(),
            rule: rule.into(),
            culprit: culprit.into(),
        });
    }
    Ok(all)
}

/// The constant of a rule, and what it says.
fn declaration(root: &Path, rule: &str) -> Result<(String, String)> {
    for file in DECLARED {
        let source = fs::read_to_string(root.join(file)).with_context(|| file.to_owned())?;
        if let Some(found) = declared_in(&source, rule) {
            return Ok(found);
        }
    }
    bail!("rules.tsv: the simulator has no rule {rule}")
}

/// Both forms of declaration: `NAME Whose "rule" "text" "source";`, and a constant with its documentation.
fn declared_in(source: &str, rule: &str) -> Option<(String, String)> {
    let quoted = format!("\"{rule}\"");
    let at = source.find(&quoted)?;
    let begin = source[..at].rfind('\n').map_or(0, |end| end + 1);
    let head = source[begin..at].trim();
    if let Some(constant) = head.strip_prefix("pub const ") {
        let before: Vec<&str> = source[..begin].lines().collect();
        let documentation = before.iter().rev();
        let mut text: Vec<&str> = documentation
            .map_while(|line| line.trim().strip_prefix("///"))
            .map(str::trim)
            .collect();
        text.reverse();
        return Some((constant.split(':').next()?.into(), text.join(" ")));
    }
    let text = source[at + quoted.len()..].split('"').nth(1)?;
    let words: Vec<&str> = text
        .split_whitespace()
        .filter(|word| *word != "\\")
        .collect();
    Some((head.split_whitespace().next()?.into(), words.join(" ")))
}

/// The source of a test function.
fn body(root: &Path, culprit: &str) -> Result<String> {
    let path: Vec<&str> = culprit.split("::").collect();
    let [binary, modules @ .., function] = &path[..] else {
        bail!("{culprit} is no test");
    };
    let folder = root.join("crates/ntsim");
    let candidates: Vec<PathBuf> = if *binary == "ntsim" {
        let base = modules
            .iter()
            .fold(folder.join("src"), |at, module| at.join(module));
        vec![base.with_extension("rs"), base.join("mod.rs")]
    } else {
        vec![folder.join("tests").join(format!("{binary}.rs"))]
    };
    let source = candidates
        .iter()
        .find_map(|file| fs::read_to_string(file).ok());
    let source = source.with_context(|| format!("{culprit}: no such module"))?;
    let begin = source.find(&format!("fn {function}("));
    let rest = &source[begin.with_context(|| format!("{culprit}: no such test"))?..];
    Ok(rest.split("\n}\n").next().unwrap_or(rest).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::root;

    #[test]
    fn the_projects_list_names_what_there_is() {
        let rules = Rules::load(&root(), &List::load().unwrap()).unwrap();
        let (name, text, culprits) = rules.texts().find(|(rule, ..)| *rule == "ndk.lam").unwrap();
        assert_eq!(name, "ndk.lam");
        assert!(
            text.starts_with("A logical address mapping covers"),
            "{text}"
        );
        assert!(text.ends_with("leaves the MDL as it was."), "{text}");
        assert_eq!(culprits, ["ntsim::ndk::tests::culprits::objects::mappings"]);
    }

    #[test]
    fn both_forms_of_declaration_are_understood() {
        const SOURCE: &str = r#"
/// A limit was
/// passed.
pub const LIMIT: &str = "limit";
    LAM Provider "ndk.lam"
        "It covers \
         all."
        "a-page";
"#;
        let found = |rule| declared_in(SOURCE, rule);
        let pair = |constant: &str, text: &str| Some((constant.to_owned(), text.to_owned()));
        assert_eq!(found("limit"), pair("LIMIT", "A limit was passed."));
        assert_eq!(found("ndk.lam"), pair("LAM", "It covers all."));
        assert_eq!(found("other"), None);
    }

    #[test]
    fn a_culprit_speaks_of_its_rule() {
        let of = |function: &str| {
            body(
                &root(),
                &format!("ntsim::ndk::tests::culprits::objects::{function}"),
            )
        };
        assert!(of("mappings").unwrap().contains("::LAM"));
        assert!(!of("headers").unwrap().contains("::LAM"));
        assert!(of("no_such_test").is_err());
        assert!(body(&root(), "nowhere::test").is_err());
    }

    #[test]
    fn a_rule_whose_culprit_did_not_pass_is_toothless() {
        let rules = Rules {
            all: parse("H-01\ta\tb::c\n").unwrap(),
            texts: BTreeMap::new(),
        };
        let ran = |outcome| [("b::c".to_owned(), outcome)];
        assert_eq!(rules.toothless(&ran(Outcome::Passed)), [""; 0]);
        for tests in [&ran(Outcome::Failed)[..], &ran(Outcome::Ignored), &[]] {
            assert_eq!(rules.toothless(tests), ["a (b::c, H-01)"]);
        }
        assert!(parse("H-01\ta\n").is_err() && parse("H-01\ta\tb\n").is_err());
    }
}
