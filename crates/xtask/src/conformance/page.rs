//! `docs/conformance.md`.

use super::list::List;
use super::proofs::{Proofs, Status};
use std::fmt::Write;

const HEAD: &str = "\
# Conformance

What NDKPI and NDIS require of an NDK provider, and which test proves that vroce does it. Written by `cargo xtask conformance`, which
runs the tests: do not edit. The requirements are listed in `crates/xtask/data/requirements.tsv`; a test that proves M-01 has `m01` in
its name. Documents are pages of Microsoft's Windows driver documentation.

*Proven*: the tests named pass. *Open*: no test proves it. *Unreachable*: no test can, for the reason given.

";

/// The page.
pub fn render(list: &List, proofs: &Proofs) -> String {
    let mut page = String::from(HEAD);
    summary(&mut page, list, proofs);
    for group in &list.groups {
        let _ = write!(
            page,
            "\n## {}: {}\n\n| | requirement | document | status | tests |\n|---|---|---|---|---|\n",
            group.letter, group.title
        );
        for requirement in &group.requirements {
            let (status, tests) = match proofs.status(&requirement.id) {
                Status::Proven(tests) => ("proven", code(tests)),
                Status::Failing(tests) => ("**failing**", code(tests)),
                Status::Open => ("**open**", String::new()),
                Status::Unreachable => (
                    "unreachable",
                    requirement.unreachable.clone().unwrap_or_default(),
                ),
            };
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
    page
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
            code(proofs.of_decision(&decision.id)),
        );
    }
}

fn code(tests: &[String]) -> String {
    let tests: Vec<String> = tests.iter().map(|test| format!("`{test}`")).collect();
    tests.join("<br>")
}

/// Text for a cell of a table.
fn escape(text: &str) -> String {
    text.replace('|', "\\|")
        .replace('*', "\\*")
        .replace('_', "\\_")
}
