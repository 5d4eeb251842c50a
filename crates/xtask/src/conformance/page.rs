//! `docs/conformance.md`.

use super::list::List;
use super::proofs::{Proofs, Status};
use super::rules::Rules;
use std::fmt::Write;

const HEAD: &str = "\
# Conformance

What NDKPI and NDIS require of an NDK provider, and which test proves that vroce does it. Written by `cargo xtask conformance`, which
runs the tests: do not edit. The requirements are listed in `crates/xtask/data/requirements.tsv`; a test that proves M-01 has `m01` in
its name. Documents are pages of Microsoft's Windows driver documentation.

**What is proven is proven in the simulator that comes with vroce, as the public pages were read.** None of it was ever tried on Windows.

*Proven*: the tests named pass. *Open*: no test proves it. *Unreachable*: no test can, for the reason given.

*Rule*: the simulator's verifier judges it as well, in these tests and in all others; what the rules say, and which test of the simulator
breaks each and is accused, is [at the end](#rules-of-the-verifier).

";

/// The page.
pub fn render(list: &List, proofs: &Proofs, rules: &Rules) -> String {
    let mut page = String::from(HEAD);
    summary(&mut page, list, proofs);
    for group in &list.groups {
        let _ = write!(
            page,
            "\n## {}: {}\n\n| | requirement | document | status | tests |\n|---|---|---|---|---|\n",
            group.letter, group.title
        );
        for requirement in &group.requirements {
            let (status, mut tests) = match proofs.status(&requirement.id) {
                Status::Proven(tests) => ("proven", code(tests)),
                Status::Failing(tests) => ("**failing**", code(tests)),
                Status::Open => ("**open**", String::new()),
                Status::Unreachable => (
                    "unreachable",
                    requirement.unreachable.clone().unwrap_or_default(),
                ),
            };
            for by in rules.of(&requirement.id) {
                let _ = write!(tests, "<br>rule `{}`", by.rule);
            }
            let _ = writeln!(
                page,
                "| {} | {} | {} | {status} | {tests} |",
                requirement.id,
                escape(&requirement.text),
                escape(&requirement.document),
            );
        }
    }
    decisions(&mut page, list, proofs);
    by_rule(&mut page, rules);
    page
}

fn by_rule(page: &mut String, rules: &Rules) {
    page.push_str(
        "\n## Rules of the verifier\n\nThose of the simulator's that judge a requirement above. The tests named are the simulator's own: each \
         breaks the rule and is accused.\n\n| rule | what it says | culprits |\n|---|---|---|\n",
    );
    for (rule, text, culprits) in rules.texts() {
        let culprits: Vec<String> = culprits.iter().map(|&culprit| culprit.into()).collect();
        let _ = writeln!(
            page,
            "| `{rule}` | {} | {} |",
            escape(text),
            code(&culprits)
        );
    }
}

fn summary(page: &mut String, list: &List, proofs: &Proofs) {
    page.push_str(
        "| group | requirements | proven | unreachable | open |\n|---|---|---|---|---|\n",
    );
    let mut total = [0; 4];
    for group in &list.groups {
        let mut row = [0; 4];
        for requirement in &group.requirements {
            row[0] += 1;
            match proofs.status(&requirement.id) {
                Status::Proven(_) => row[1] += 1,
                Status::Unreachable => row[2] += 1,
                Status::Open | Status::Failing(_) => row[3] += 1,
            }
        }
        for (total, row) in total.iter_mut().zip(row) {
            *total += row;
        }
        let [all, proven, unreachable, open] = row;
        let _ = writeln!(
            page,
            "| {}: {} | {all} | {proven} | {unreachable} | {open} |",
            group.letter, group.title
        );
    }
    let [all, proven, unreachable, open] = total;
    let _ = writeln!(page, "| all | {all} | {proven} | {unreachable} | {open} |");
    let tested = list.decisions.iter().filter(|decision| {
        let status = proofs.decision(&decision.id);
        matches!(status, Status::Proven(_))
    });
    let tested = tested.count();
    let _ = writeln!(
        page,
        "\nOf {} [decisions](#x-decisions) {tested} are tested, {} stated only.",
        list.decisions.len(),
        list.decisions.len() - tested
    );
}

fn decisions(page: &mut String, list: &List, proofs: &Proofs) {
    page.push_str(
        "\n## X: Decisions\n\nWhere the documentation is silent, ambiguous or contradicts itself.\n\n\
         | | decision | stated in | tests |\n|---|---|---|---|\n",
    );
    for decision in &list.decisions {
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} |",
            decision.id,
            escape(&decision.text),
            decision
                .file
                .as_ref()
                .map_or(String::new(), |file| format!("`{file}`")),
            match proofs.decision(&decision.id) {
                Status::Proven(tests) => code(tests),
                Status::Failing(tests) => format!("**failing**: {}", code(tests)),
                Status::Open | Status::Unreachable => String::new(),
            },
        );
    }
}

fn code(tests: &[String]) -> String {
    let tests: Vec<String> = tests.iter().map(|test| format!("`{test}`")).collect();
    tests.join("<br>")
}

/// Text for a cell of a table.
pub fn escape(text: &str) -> String {
    text.replace('|', "\\|")
        .replace('*', "\\*")
        .replace('_', "\\_")
}
