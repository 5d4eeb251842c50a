//! What the simulated kernel exports and demands is what Windows's headers and documentation say.
//!
//! `data/parity.tsv` is what the facts say of everything that is simulated; `cargo xtask parity --facts DIR` makes it. That an export has
//! the signature of its declaration in `ndis-sys`, the compiler checks (`exports!`); that the declarations of `ndis-sys` and `ndkpi` are as
//! their files of facts say, their own tests do (`fact_tests.rs`); that they have the types of C, a test of xtask, which reads their sources
//! (`parity/signatures.rs`). What is left is checked here: those files, the exports, and the tables
//! are all of one opinion with `parity.tsv`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

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

const PARITY: &str = include_str!("../data/parity.tsv");
const FUNCTIONS: &str = include_str!("../data/functions.tsv");

/// What the crates declare their interfaces from: prototypes, and layouts.
const DECLARED: [(&str, &str); 2] = [
    (
        include_str!("../../ndis-sys/data/prototypes.tsv"),
        include_str!("../../ndis-sys/data/layouts.tsv"),
    ),
    (
        include_str!("../../ndkpi/data/prototypes.tsv"),
        include_str!("../../ndkpi/data/layouts.tsv"),
    ),
];

/// Exports of which the facts have no prototype: `crates/ndis-sys/tests/windows_sys.rs` compares them with windows-sys.
const WITHOUT_A_FACT: [&str; 12] = [
    "CancelMibChangeNotify2",
    "ConvertInterfaceIndexToLuid",
    "ConvertInterfaceLuidToIndex",
    "ExReInitializeRundownProtection",
    "FreeMibTable",
    "GetBestRoute2",
    "GetIpNetEntry2",
    "GetUnicastIpAddressEntry",
    "GetUnicastIpAddressTable",
    "NotifyRouteChange2",
    "NotifyUnicastIpAddressChange",
    "ResolveIpNetEntry2",
];

struct Fact {
    module: &'static str,
    result: &'static str,
    parameters: &'static str,
    irql: &'static str,
    source: &'static str,
}

/// The rows of a kind, by name.
fn facts(kind: &str) -> BTreeMap<&'static str, Fact> {
    let mut found = BTreeMap::new();
    for row in PARITY.lines().skip(1) {
        let cells: Vec<_> = row.split('\t').collect();
        let [of, name, module, result, parameters, irql, source, _] = cells[..] else {
            panic!("parity.tsv: {row:?}");
        };
        let fact = Fact {
            module,
            result,
            parameters,
            irql,
            source,
        };
        // A structure that both crates declare has two rows, which say the same.
        if of == kind && found.insert(name, fact).is_some() && kind != "layout" {
            panic!("parity.tsv: {name} twice");
        }
    }
    assert!(!found.is_empty(), "{kind}");
    found
}

/// Result and parameters that the crates declare, by name.
fn declared() -> HashMap<&'static str, (&'static str, &'static str)> {
    let rows = DECLARED
        .iter()
        .flat_map(|(prototypes, _)| prototypes.lines().skip(1));
    rows.map(|row| {
        let cells: Vec<_> = row.split('\t').collect();
        (cells[0], (cells[2], cells[3]))
    })
    .collect()
}

/// The same names and sizes, but for a name that the facts lack.
fn same(fact: &str, declared: &str) -> bool {
    let (fact, declared): (Vec<_>, Vec<_>) =
        (fact.split(' ').collect(), declared.split(' ').collect());
    let one = |(fact, declared): (&&str, &&str)| {
        fact == declared
            || fact
                .strip_prefix('?')
                .is_some_and(|size| declared.ends_with(size))
    };
    fact.len() == declared.len() && fact.iter().zip(&declared).all(one)
}

#[test]
fn every_export_has_the_signature_of_windows() {
    let (mut facts, declared) = (facts("export"), declared());
    let mut wrong = Vec::new();
    for export in TABLES.iter().flat_map(|table| table.iter()) {
        let name = export.function.name;
        let Some(fact) = facts.remove(name) else {
            wrong.push(format!(
                "{name} is not in parity.tsv: cargo xtask parity --facts DIR"
            ));
            continue;
        };
        if !fact.module.eq_ignore_ascii_case(export.function.module) {
            wrong.push(format!(
                "{name} is in {}, not {}",
                fact.module, export.function.module
            ));
        }
        if fact.source == "none" {
            if !WITHOUT_A_FACT.contains(&name) {
                wrong.push(format!("{name} has no fact"));
            }
            continue;
        }
        match declared.get(name) {
            Some((result, parameters))
                if *result == fact.result && same(fact.parameters, parameters) => {}
            other => wrong.push(format!(
                "{name}: {} {}, declared {other:?}",
                fact.result, fact.parameters
            )),
        }
    }
    wrong.extend(facts.keys().map(|name| format!("{name} is not exported")));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn callbacks_are_called_with_what_windows_gives_them() {
    let facts = facts("callback");
    let exports: BTreeSet<_> = TABLES
        .iter()
        .flat_map(|table| table.iter())
        .map(|e| e.function.name)
        .collect();
    let mut wrong = Vec::new();
    for (name, (result, parameters)) in declared() {
        // Those of the framework's functions are of its table.
        if exports.contains(name) || name.starts_with("PFN_WDF") {
            continue;
        }
        match facts.get(name) {
            Some(fact) if fact.result == result && same(fact.parameters, parameters) => {}
            Some(fact) => wrong.push(format!(
                "{name}: {} {}, declared {result} {parameters}",
                fact.result, fact.parameters
            )),
            None => wrong.push(format!("{name} is not in parity.tsv")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Fields with offset and size, as `offset+size`; more than one where Windows's versions differ.
fn fields(fact: &Fact) -> Vec<(&'static str, Vec<&'static str>)> {
    let field = |text: &'static str| {
        let (name, at) = text.rsplit_once(':').expect("a field and where it is");
        (name, at.split('/').collect())
    };
    fact.parameters.split(' ').map(field).collect()
}

#[test]
fn structures_are_laid_out_as_in_windows() {
    let facts = facts("layout");
    let mut wrong = Vec::new();
    let mut compared = 0;
    for row in DECLARED
        .iter()
        .flat_map(|(_, layouts)| layouts.lines().skip(1))
    {
        let cells: Vec<_> = row.split('\t').collect();
        let [name, size, field, offset, field_size] = cells[..] else {
            panic!("{row:?}");
        };
        let Some(fact) = facts.get(name) else {
            wrong.push(format!("{name} is not in parity.tsv"));
            continue;
        };
        let at = format!("{offset}+{field_size}");
        let right = fields(fact)
            .iter()
            .any(|(of, places)| *of == field && places.contains(&at.as_str()));
        if fact.result != size || !right {
            wrong.push(format!(
                "{name}.{field} at {at} of {size}: {} {}",
                fact.result, fact.parameters
            ));
        }
        compared += 1;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(compared > 1000, "{compared}");
}

/// The level of a page's words; None for those that are none.
fn told(words: &str) -> Option<RangeInclusive<u8>> {
    let words = words
        .split('(')
        .next()
        .unwrap_or("")
        .trim()
        .trim_end_matches('.');
    let words = words.strip_prefix("Called at").unwrap_or(words).trim();
    let words = words.strip_prefix("IRQL").unwrap_or(words).trim();
    if ["Any level", "Any IRQL"]
        .iter()
        .any(|any| words.starts_with(any))
    {
        return Some(PASSIVE..=HIGH);
    }
    let words = words.trim_start_matches("= ");
    let (relation, name) = match words.find(|c: char| c.is_ascii_alphabetic()) {
        Some(at) => (words[..at].trim(), words[at..].trim()),
        None => return None,
    };
    let names = [
        "PASSIVE_LEVEL",
        "APC_LEVEL",
        "DISPATCH_LEVEL",
        "DIRQL",
        "HIGH_LEVEL",
    ];
    let known = names.contains(&name) && ["", "<=", ">=", "<"].contains(&relation);
    known.then(|| levels(format!("{relation} {name}").trim()))
}

#[test]
fn the_list_of_levels_says_what_the_facts_say() {
    let facts = facts("export");
    let mut wrong = Vec::new();
    let mut compared = 0;
    for row in IRQL.lines().skip(1) {
        let (name, words) = row.split_once('\t').expect("a tab");
        let fact = facts.get(name).and_then(|fact| told(fact.irql));
        match (words.starts_with('-'), fact) {
            (true, _) => {}
            (false, Some(fact)) if fact == levels(words) => compared += 1,
            (false, fact) => wrong.push(format!("{name}: {words}, {fact:?}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(compared > 150, "{compared}");
}

/// The rows of functions.tsv for a module that is none: a table, NDK, callbacks.
fn simulated(module: &str) -> Vec<&'static str> {
    let rows = FUNCTIONS
        .lines()
        .skip(1)
        .map(|row| row.split('\t').collect::<Vec<_>>());
    rows.filter(|cells| cells[1] == module)
        .map(|cells| cells[0])
        .collect()
}

#[test]
fn tables_of_functions_have_them_where_windows_has() {
    let layouts = facts("layout");
    for (module, tables) in [
        ("DMA_OPERATIONS", &["DMA_OPERATIONS"][..]),
        (
            "WSK",
            &["WSK_PROVIDER_DISPATCH", "WSK_PROVIDER_NDK_DISPATCH"],
        ),
    ] {
        let slots: Vec<_> = tables
            .iter()
            .flat_map(|table| fields(&layouts[table]))
            .collect();
        for name in simulated(module)
            .into_iter()
            .filter(|name| !name.contains(' '))
        {
            assert!(
                slots.iter().any(|(slot, _)| *slot == name),
                "{name} is in none of {tables:?}"
            );
        }
    }
    // The last version: what a driver may call of later ones is answered, if only by ending the run.
    assert_eq!(layouts["DMA_OPERATIONS"].result, "320");
    let constants = include_str!("../../ndis-sys/data/constants.tsv");
    let prototypes = declared();
    let mut framework = facts("framework");
    for name in simulated("WDF")
        .into_iter()
        .filter(|name| !name.contains(' '))
    {
        let fact = framework
            .remove(name)
            .unwrap_or_else(|| panic!("{name} has no fact"));
        let index = format!("{name}TableIndex\t");
        let index = constants
            .lines()
            .find_map(|row| row.strip_prefix(&index))
            .expect(name);
        let number = index
            .strip_prefix("0x")
            .map_or_else(|| index.parse(), |hex| u32::from_str_radix(hex, 16));
        assert_eq!(number.unwrap().to_string(), fact.module, "{name}");
        let found = prototypes.get(format!("PFN_{}", name.to_uppercase()).as_str());
        let (result, parameters) = *found.unwrap_or_else(|| panic!("{name} is not declared"));
        assert!(
            result == fact.result && same(fact.parameters, parameters),
            "{name}"
        );
    }
    assert!(framework.is_empty());
}

/// The type of a handler or callback that the kernel calls, by the name that reports call it.
const CALLBACKS: &[(&str, &str)] = &[
    ("AdapterListControl routine", "DRIVER_LIST_CONTROL"),
    ("DPC routine", "KDEFERRED_ROUTINE"),
    ("DriverEntry", "DRIVER_INITIALIZE"),
    ("DriverUnload", "DRIVER_UNLOAD"),
    ("MiniportAddDevice", "MINIPORT_ADD_DEVICE"),
    (
        "MiniportCancelDirectOidRequest",
        "MINIPORT_CANCEL_DIRECT_OID_REQUEST",
    ),
    ("MiniportCancelOidRequest", "MINIPORT_CANCEL_OID_REQUEST"),
    ("MiniportCancelSend", "MINIPORT_CANCEL_SEND"),
    ("MiniportCheckForHangEx", "MINIPORT_CHECK_FOR_HANG"),
    (
        "MiniportDevicePnPEventNotify",
        "MINIPORT_DEVICE_PNP_EVENT_NOTIFY",
    ),
    ("MiniportDirectOidRequest", "MINIPORT_DIRECT_OID_REQUEST"),
    ("MiniportDriverUnload", "MINIPORT_UNLOAD"),
    ("MiniportHaltEx", "MINIPORT_HALT"),
    ("MiniportInitializeEx", "MINIPORT_INITIALIZE"),
    ("MiniportInterruptDPC", "MINIPORT_INTERRUPT_DPC"),
    (
        "MiniportMessageInterruptDPC",
        "MINIPORT_MESSAGE_INTERRUPT_DPC",
    ),
    ("MiniportOidRequest", "MINIPORT_OID_REQUEST"),
    ("MiniportPause", "MINIPORT_PAUSE"),
    ("MiniportProcessSGList", "MINIPORT_PROCESS_SG_LIST"),
    ("MiniportRemoveDevice", "MINIPORT_REMOVE_DEVICE"),
    ("MiniportResetEx", "MINIPORT_RESET"),
    ("MiniportRestart", "MINIPORT_RESTART"),
    (
        "MiniportReturnNetBufferLists",
        "MINIPORT_RETURN_NET_BUFFER_LISTS",
    ),
    (
        "MiniportSendNetBufferLists",
        "MINIPORT_SEND_NET_BUFFER_LISTS",
    ),
    ("MiniportSetOptions", "SET_OPTIONS"),
    // What NDIS puts in its place.
    ("ndis DriverUnload", "DRIVER_UNLOAD"),
    ("NetTimerCallback", "NDIS_TIMER_FUNCTION"),
    ("system thread", "KSTART_ROUTINE"),
    ("timer callback", "EXT_CALLBACK"),
    ("timer delete callback", "EXT_DELETE_CALLBACK"),
    ("work item routine", "IO_WORKITEM_ROUTINE"),
];

/// Those whose pages give their level in prose, if at all, by type; None where the facts have none.
const IN_PROSE: &[(&str, Option<&str>)] = &[
    ("EtwEnableCallback", None),
    ("EvtCleanupCallback", Some("EVT_WDF_OBJECT_CONTEXT_CLEANUP")),
    ("EvtDestroyCallback", Some("EVT_WDF_OBJECT_CONTEXT_DESTROY")),
    ("LookasideListAllocateEx", Some("ALLOCATE_FUNCTION_EX")),
    ("LookasideListFreeEx", Some("FREE_FUNCTION_EX")),
    ("MiniportInterrupt", Some("MINIPORT_ISR")),
    (
        "MiniportMessageInterrupt",
        Some("MINIPORT_MESSAGE_INTERRUPT"),
    ),
    ("MiniportShutdownEx", Some("MINIPORT_SHUTDOWN")),
    (
        "MiniportSynchronizeMessageInterrupt",
        Some("MINIPORT_SYNCHRONIZE_INTERRUPT"),
    ),
    ("NdisIoWorkitemFunction", Some("NDIS_IO_WORKITEM_FUNCTION")),
    ("unicast address change callback", None),
];

fn level(word: &str) -> Option<u8> {
    let levels = [
        ("PASSIVE", PASSIVE),
        ("APC", APC),
        ("DISPATCH", DISPATCH),
        ("DEVICE", DEVICE),
        ("HIGH", HIGH),
    ];
    let found = levels.iter().find(|(name, _)| *name == word.trim());
    found.map(|(_, level)| *level)
}

/// The levels at which sources declare that callbacks are called, by their names.
fn limits(folder: &Path, found: &mut BTreeMap<String, RangeInclusive<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            limits(&path, found);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for (at, _) in text.match_indices("Function::callback(") {
            let rest = &text[at..];
            let declared = &rest[..rest.find(");").unwrap_or(rest.len())];
            let name = declared.split('"').nth(1);
            let range = declared
                .rsplit(',')
                .find_map(|range| range.split_once("..="));
            let range = range.and_then(|(low, high)| Some(level(low)?..=level(high)?));
            if let (Some(name), Some(range)) = (name, range) {
                found.insert(name.to_owned(), range);
            }
        }
    }
}

#[test]
fn callbacks_are_called_at_levels_that_their_pages_allow() {
    let facts = facts("callback");
    let mut declared = BTreeMap::new();
    limits(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut declared,
    );
    let mut wrong = Vec::new();
    let mut compared = 0;
    for (name, prototype) in CALLBACKS {
        let Some(here) = declared.get(*name) else {
            wrong.push(format!("{name}: nothing is called so"));
            continue;
        };
        if let Some(page) = told(facts[*prototype].irql) {
            compared += 1;
            if !(page.contains(here.start()) && page.contains(here.end())) {
                wrong.push(format!(
                    "{name}: {here:?}, the page says {}",
                    facts[prototype].irql
                ));
            }
        }
    }
    for (name, prototype) in IN_PROSE {
        let fact = prototype.map(|prototype| facts[prototype].irql);
        if let Some(page) = fact.and_then(told) {
            wrong.push(format!("{name}: the page says {page:?}"));
        }
    }
    let listed = CALLBACKS.iter().map(|(name, _)| *name);
    let listed = listed.chain(IN_PROSE.iter().map(|(name, _)| *name));
    let all = simulated("callback").into_iter().collect();
    assert_eq!(listed.collect::<BTreeSet<_>>(), all);
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(compared, CALLBACKS.len());
}

#[test]
fn the_list_of_levels_of_ndk_says_what_the_facts_say() {
    let facts = facts("callback");
    let mut wrong = Vec::new();
    for row in NDK_IRQL.lines().skip(1) {
        let cells: Vec<_> = row.split('\t').collect();
        let [_, name, prototype, words] = cells[..] else {
            panic!("ndk-irql.tsv: {row:?}");
        };
        let fact = facts.get(prototype).and_then(|fact| told(fact.irql));
        if fact != Some(levels(words)) {
            wrong.push(format!("{name}: {words}, {prototype} {fact:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_slot_of_a_dispatch_table_is_where_windows_has_it() {
    let layouts = facts("layout");
    let mut tables: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (of, function) in ntsim::ndk::functions() {
        // Functions of one name are told apart by what has them.
        let name = function.name.split(" (").next().unwrap_or("");
        tables.entry(of).or_default().push(name);
    }
    for (of, functions) in tables {
        let table = format!("NDK_{}_DISPATCH", of.to_uppercase().replace(' ', "_"));
        if ["consumer", "miniport"].contains(&of) {
            continue;
        }
        let fact = layouts
            .get(table.as_str())
            .unwrap_or_else(|| panic!("no fact of {table}"));
        let here = functions
            .iter()
            .enumerate()
            .map(|(slot, name)| format!("{name}:{}+8", slot * 8));
        assert_eq!(
            fact.parameters.split(' ').collect::<Vec<_>>(),
            here.collect::<Vec<_>>(),
            "{table}"
        );
        assert_eq!(fact.result, (functions.len() * 8).to_string(), "{table}");
    }
}
