//! What the simulated kernel demands is what Windows's documentation demands.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use ntsim::exports::TABLES;
use ntsim::world::processor::{APC, DEVICE, DISPATCH, HIGH, PASSIVE};

/// For each function the IRQL that its page gives, and where that is none that can be compared (`-`), why it is as it is here.
const IRQL: &str = include_str!("../data/irql.tsv");

/// The same for each function of NDK: who has it, its name, its type in the header, the IRQL.
const NDK_IRQL: &str = include_str!("../data/ndk-irql.tsv");

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

#[test]
fn every_function_of_ndk_may_be_called_where_its_page_says() {
    let mut rows: HashMap<_, _> = NDK_IRQL
        .lines()
        .skip(1)
        .map(|line| {
            let [of, name, _, irql] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("four columns: {line}");
            };
            ((of, name), irql)
        })
        .collect();
    let mut wrong = Vec::new();
    for (of, function) in ntsim::ndk::functions() {
        let name = function.name;
        match rows.remove(&(of, name)) {
            None => wrong.push(format!("{name} of {of} is not in the list")),
            Some(row) if levels(row) == (function.min_irql..=function.max_irql) => {}
            Some(row) => wrong.push(format!(
                "{name} of {of}: {row}, not {} to {}",
                function.min_irql, function.max_irql
            )),
        }
    }
    wrong.extend(
        rows.keys()
            .map(|(of, name)| format!("{of}: there is no {name}")),
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_list_of_ndk_has_every_type_of_function_that_is_in_a_table() {
    let types: Vec<_> = NDK_IRQL
        .lines()
        .filter_map(|l| l.split('\t').nth(2))
        .collect();
    let facts = include_str!("../../ndkpi/data/prototypes.tsv");
    let missing: Vec<_> = facts
        .lines()
        .skip(1)
        .filter_map(|line| line.split('\t').next())
        .filter(|name| !types.contains(name))
        .collect();
    // The first two are declared by the header and in no table; the others are WSK's, and have no page.
    assert_eq!(
        missing,
        [
            "NDK_FN_DISCONNECT_EX",
            "NDK_FN_QUERY_ADAPTER_INFO_EX",
            "PFN_WSK_NDK_CLOSE_ADAPTER",
            "PFN_WSK_NDK_OPEN_ADAPTER",
        ]
    );
}
