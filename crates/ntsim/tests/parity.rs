//! What the simulated kernel demands is what Windows's documentation demands.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use ntsim::exports::TABLES;
use ntsim::world::processor::{APC, DEVICE, DISPATCH, HIGH, PASSIVE};

/// For each function the IRQL that its page gives, and where that is none that can be compared (`-`), why it is as it is here.
const IRQL: &str = include_str!("../data/irql.tsv");

/// The levels that words of a page mean.
fn levels(words: &str) -> RangeInclusive<u8> {
    let level = |name: &str| match name {
        "PASSIVE_LEVEL" => PASSIVE,
        "APC_LEVEL" => APC,
        "DISPATCH_LEVEL" => DISPATCH,
        "DIRQL" => DEVICE,
        "HIGH_LEVEL" => HIGH,
        name => panic!("no level: {name}"),
    };
    match words.split_once(' ') {
        None if words == "any" => PASSIVE..=HIGH,
        None => level(words)..=level(words),
        Some(("<=", name)) => PASSIVE..=level(name),
        Some(("<", name)) => PASSIVE..=level(name) - 1,
        Some((">=", name)) => level(name)..=HIGH,
        Some(_) => panic!("not understood: {words}"),
    }
}

#[test]
fn every_function_may_be_called_where_its_page_says() {
    let mut rows: HashMap<_, _> = IRQL
        .lines()
        .skip(1)
        .map(|line| line.split_once('\t').expect("a tab"))
        .collect();
    let mut wrong = Vec::new();
    for export in TABLES.iter().flat_map(|table| table.iter()) {
        let function = export.function;
        match rows.remove(function.name) {
            None => wrong.push(format!("{} is not in the list", function.name)),
            Some(row) => match row.split_once('\t') {
                Some(("-", why)) => assert!(!why.is_empty(), "{}", function.name),
                Some(_) => panic!("{}: {row}", function.name),
                None if levels(row) == (function.min_irql..=function.max_irql) => {}
                None => wrong.push(format!(
                    "{}: {row}, not {} to {}",
                    function.name, function.min_irql, function.max_irql
                )),
            },
        }
    }
    wrong.extend(rows.keys().map(|name| format!("{name} is not exported")));
    assert!(wrong.is_empty(), "{wrong:#?}");
}
