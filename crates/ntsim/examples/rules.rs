//! Lists what the simulated kernel accuses of: rule, class, what Driver Verifier calls it, whose fault it is, and the tests that break it
//! and are accused.
//!
//! `cargo run -p ntsim --example rules`
//!
//! With the file that tests have written with `NTSIM_FIRED`: whether each of these tests had its rule broken.
//! `cargo run -p ntsim --example rules -- FILE`

use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;

use ntsim::verifier::{Class, Rule, all_rules};

/// A rule and a test that breaks it, on each line.
pub const CULPRITS: &str = include_str!("../data/culprits.tsv");
/// What Driver Verifier calls a class, or, further down, a rule that another option is about; and of classes, whose fault it is.
pub const OPTIONS: &str = include_str!("../data/options.tsv");

/// The tests that break a rule and are accused of it.
pub fn culprits(rule: &str) -> impl Iterator<Item = &'static str> {
    let rows = CULPRITS.lines().skip(1);
    let of_it = rows.filter_map(|row| row.split_once('\t'));
    let of_it = of_it.filter(move |(name, _)| *name == rule);
    of_it.map(|(_, test)| test)
}

/// What a row says of that class or rule: the option, and whose fault it is.
pub fn option(name: &str) -> Option<(&'static str, &'static str)> {
    let rows = OPTIONS.lines().skip(1);
    let mut found = rows.filter_map(|row| row.split_once('\t'));
    found.find(|(of, _)| *of == name)?.1.split_once('\t')
}

fn of_class(class: Class) -> (&'static str, &'static str) {
    option(&format!("{class:?}")).unwrap_or(("", ""))
}

/// All rules, a line each, and below it a line for each of its culprits.
pub fn table() -> String {
    let mut table = String::new();
    for Rule { name, class, .. } in all_rules() {
        let (verified, whose) = of_class(class);
        let verified = option(name).map_or(verified, |(own, _)| own);
        let line = format!("{name:<29} {class:<12?} {whose}; Driver Verifier: {verified}\n");
        table.push_str(&line);
        for test in culprits(name) {
            table.push_str(&format!("{:29} <- {test}\n", ""));
        }
    }
    table
}

/// The lines of [`CULPRITS`] that are not among those which tests have written.
pub fn not_fired(fired: &str) -> Vec<&'static str> {
    let fired: BTreeSet<_> = fired.lines().collect();
    let rows = CULPRITS.lines().skip(1);
    rows.filter(|row| !fired.contains(row)).collect()
}

fn main() -> ExitCode {
    let Some(file) = std::env::args_os().nth(1) else {
        // An error is that whoever reads has had enough.
        let _ = std::io::stdout().lock().write_all(table().as_bytes());
        return ExitCode::SUCCESS;
    };
    let fired = match std::fs::read_to_string(&file) {
        Ok(fired) => fired,
        Err(error) => {
            eprintln!("{}: {error}", file.display());
            return ExitCode::FAILURE;
        }
    };
    let missing = not_fired(&fired);
    for row in &missing {
        eprintln!("in culprits.tsv, but no violation of that rule came in that test: {row}");
    }
    match missing.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
