//! The table of exports is complete: whatever a driver can import is there.

use std::collections::HashSet;

use ntsim::exports::{TABLES, find};

/// The declarations that drivers compile against, as text.
const DECLARATIONS: [(&str, &str); 4] = [
    (
        "ntoskrnl.exe",
        include_str!("../../ndis-sys/src/imports/ntoskrnl.rs"),
    ),
    (
        "ndis.sys",
        include_str!("../../ndis-sys/src/imports/ndis.rs"),
    ),
    (
        "netio.sys",
        include_str!("../../ndis-sys/src/imports/netio.rs"),
    ),
    (
        "WDFLDR.SYS",
        include_str!("../../ndis-sys/src/imports/wdfldr.rs"),
    ),
];

fn declared(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("fn "))
        .filter_map(|rest| rest.split_once('(').map(|(name, _)| name))
        .collect()
}

#[test]
fn every_function_that_can_be_imported_is_exported() {
    let mut total = 0;
    for (module, text) in DECLARATIONS {
        let names = declared(text);
        assert!(!names.is_empty(), "{module}");
        for name in names {
            let export = find(name).unwrap_or_else(|| panic!("{module}: {name} is missing"));
            assert!(
                export.function.module.eq_ignore_ascii_case(module),
                "{name} is in {module}, not in {}",
                export.function.module
            );
            assert!(!export.address.is_null());
            total += 1;
        }
    }
    assert!(total > 150, "{total}");
}

#[test]
fn the_documentation_lists_what_the_kernel_has() {
    let page = include_str!("../../../docs/testing-a-consumer.md");
    let (_, list) = page.split_once("Of `ntoskrnl.exe` there are:").unwrap();
    let (there, missing) = list.split_once("Not there,").unwrap();
    let (missing, _) = missing.split_once(". A function").unwrap();
    let words = |text: &'static str| text.split(|c: char| !c.is_ascii_alphanumeric());
    let listed: HashSet<_> = words(there).collect();
    for name in declared(DECLARATIONS[0].1) {
        assert!(listed.contains(name), "{name} is not listed");
    }
    let (_, names) = missing.split_once(": ").unwrap();
    for name in words(names).filter(|word| !word.is_empty()) {
        assert!(find(name).is_none(), "{name} is there by now");
    }
}

#[test]
fn no_name_is_exported_twice() {
    let mut seen = HashSet::new();
    for export in TABLES.iter().flat_map(|table| table.iter()) {
        assert!(
            seen.insert(export.function.name),
            "{}",
            export.function.name
        );
        assert!(export.function.min_irql <= export.function.max_irql);
    }
}
