//! `docs/requirements.md`.

use super::list::{List, Place, Requirement};
use super::proofs::Proofs;
use crate::conformance::escape;
use std::fmt::Write;

const HEAD: &str = "\
# Requirements of RoCEv2

What an implementation of RoCEv2's reliable connections and of their connection manager has to do, and which test proves that this one
does. Written by `cargo xtask requirements`, which runs the tests: do not edit. The requirements are listed in
`crates/xtask/data/rocev2.tsv`; a test that proves the first has `r001` in its name. What needs the driver or a real peer is proven by
its tests or by a case of `cargo xtask interop` as well.
";

/// The page.
pub fn render(list: &List, proofs: &Proofs) -> String {
    let mut page = String::from(HEAD);
    for group in &list.0 {
        let _ = write!(
            page,
            "\n## {}\n\n| | requirement | proven by |\n|---|---|---|\n",
            group.title
        );
        for requirement in &group.requirements {
            let by: Vec<String> = by(requirement, proofs)
                .into_iter()
                .map(|(name, file)| format!("`{name}` ({file})"))
                .collect();
            let _ = writeln!(
                page,
                "| {} | {} | {} |",
                requirement.number,
                escape(&requirement.text),
                by.join("<br>")
            );
        }
    }
    page
}

/// The table for a terminal.
pub fn table(list: &List, proofs: &Proofs) -> String {
    let mut table = String::new();
    for requirement in list.requirements() {
        let _ = writeln!(table, "{:>3}  {}", requirement.number, requirement.text);
        for (name, file) in by(requirement, proofs) {
            let _ = writeln!(table, "       {name} ({file})");
        }
    }
    table
}

/// What proves a requirement: names, and where they are.
fn by(requirement: &Requirement, proofs: &Proofs) -> Vec<(String, String)> {
    let tests = proofs.of(requirement.number);
    let tests = tests.map(|test| (test.name.clone(), test.file.clone()));
    let cases = requirement.places.iter().filter_map(|place| match place {
        Place::Interop(case) => Some((case.clone(), "cargo xtask interop".into())),
        Place::Engine | Place::Driver => None,
    });
    tests.chain(cases).collect()
}
