//! docs/simulator.md says of every function that crosses the boundary how faithful it is; the list is `data/functions.tsv`.
//!
//! `UPDATE_DOCS=1 cargo test -p ntsim --test functions` writes the tables into the page again.

#[path = "../examples/rules.rs"]
#[allow(
    dead_code,
    reason = "the example's own entry point, and its list of rules"
)]
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use ntsim::exports::TABLES;

const FUNCTIONS: &str = include_str!("../data/functions.tsv");

/// What a function does of what its page says.
const FIDELITIES: [&str; 4] = ["full", "simplified", "fixed answer", "passed on"];

/// Where functions come from that are no exports, and what heads their table.
const OTHERS: [(&str, &str); 5] = [
    (
        "DMA_OPERATIONS",
        "`DMA_OPERATIONS`, the table of a DMA adapter",
    ),
    (
        "WSK",
        "WSK and WSKNDK: the tables of a provider of Winsock Kernel",
    ),
    ("WDF", "The framework's table of functions"),
    ("NDK", "NDK: dispatch tables and callbacks"),
    ("callback", "Callbacks and handlers of drivers"),
];

struct Row {
    name: &'static str,
    module: &'static str,
    fidelity: &'static str,
    checked: &'static str,
    different: &'static str,
}

fn rows() -> Vec<Row> {
    let row = |line: &'static str| {
        let cells: Vec<_> = line.split('\t').collect();
        let [name, module, fidelity, checked, different] = cells[..] else {
            panic!("functions.tsv: {line:?} has not five cells");
        };
        Row {
            name,
            module,
            fidelity,
            checked,
            different,
        }
    };
    FUNCTIONS.lines().skip(1).map(row).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn every_export_has_one_row() {
    let rows = rows();
    let mut of_export: BTreeMap<_, _> = BTreeMap::new();
    for row in rows
        .iter()
        .filter(|row| OTHERS.iter().all(|(m, _)| *m != row.module))
    {
        let before = of_export.insert(row.name, row.module);
        assert_eq!(before, None, "functions.tsv: {} twice", row.name);
    }
    for export in TABLES.iter().flat_map(|table| table.iter()) {
        let function = export.function;
        let module = of_export.remove(function.name).unwrap_or_else(|| {
            panic!(
                "functions.tsv has no line for {}: name, module, one of {FIDELITIES:?}, what is checked, what is different",
                function.name
            )
        });
        assert_eq!(module, function.module, "{}", function.name);
    }
    assert!(of_export.is_empty(), "not exported: {:?}", of_export.keys());
}

#[test]
fn every_row_says_something() {
    for row in rows() {
        let Row {
            name,
            fidelity,
            checked,
            different,
            ..
        } = row;
        assert!(FIDELITIES.contains(&fidelity), "{name}: {fidelity}");
        assert!(!checked.is_empty() && !different.is_empty(), "{name}");
        if ["simplified", "fixed answer"].contains(&fidelity) {
            assert_ne!(
                different, "-",
                "functions.tsv: {name} is {fidelity}, but not how"
            );
        }
        assert!(!name.contains('|') && !checked.contains('|') && !different.contains('|'));
    }
}

/// What the sources name by these beginnings, up to the quotation mark.
fn named(text: &str, begin: &str, found: &mut BTreeSet<String>) {
    for (at, _) in text.match_indices(begin) {
        let rest = text[at + begin.len()..].trim_start();
        if let Some(name) = rest
            .strip_prefix('"')
            .and_then(|rest| rest.split('"').next())
        {
            found.insert(name.to_owned());
        }
    }
}

/// Everything else that crosses the boundary: what sources declare with [`ntsim::verifier::Function`].
fn others(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap();
        if path.is_dir() {
            if name != "tests" {
                others(&path, found);
            }
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            let text = fs::read_to_string(&path).unwrap();
            let code: String = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect::<Vec<_>>()
                .join("\n");
            let code = code.split("\nmod tests {").next().unwrap_or("");
            named(code, "Function::callback(", found);
            for module in ["\"WSK\"", "\"WDF\""] {
                named(code, &format!("Function::export({module},"), found);
            }
            if name == "dma.rs" {
                named(code, "entry(", found);
            }
        }
    }
}

#[test]
fn everything_else_that_crosses_the_boundary_has_one_row() {
    let mut declared = BTreeSet::new();
    others(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut declared,
    );
    declared.extend(ntsim::ndk::functions().map(|(_, function)| function.name.to_owned()));
    // What a test calls, and what runs as a driver's.
    declared.remove("test driver code");
    declared.remove("a consumer's thread");
    let rows = rows();
    let of_others = rows
        .iter()
        .filter(|row| OTHERS.iter().any(|(m, _)| *m == row.module));
    let mut listed = BTreeSet::new();
    for row in of_others {
        assert!(
            listed.insert(row.name.to_owned()),
            "functions.tsv: {} twice",
            row.name
        );
    }
    let missing: Vec<_> = declared.difference(&listed).collect();
    assert!(
        missing.is_empty(),
        "functions.tsv has no line for {missing:?}"
    );
    let unknown: Vec<_> = listed.difference(&declared).collect();
    assert!(unknown.is_empty(), "no such functions: {unknown:?}");
}

fn table(module: &str, title: &str) -> String {
    let mut table = format!(
        "#### {title}\n\n| function | how far | checked | different, or worth knowing |\n|---|---|---|---|\n"
    );
    for row in rows().iter().filter(|row| row.module == module) {
        table.push_str(&format!(
            "| {} | {} | {} | {} |\n",
            row.name, row.fidelity, row.checked, row.different
        ));
    }
    table
}

fn functions() -> String {
    let exported = ["ntoskrnl.exe", "ndis.sys", "netio.sys", "WDFLDR.SYS"];
    let mut tables: Vec<_> = exported
        .iter()
        .map(|module| table(module, &format!("`{module}`")))
        .collect();
    tables.extend(OTHERS.iter().map(|(module, title)| table(module, title)));
    tables.join("\n")
}

fn classes() -> String {
    let mut table = String::from("| class | Driver Verifier | whose fault |\n|---|---|---|\n");
    for line in rules::OPTIONS.lines().skip(1) {
        let cells: Vec<_> = line.split('\t').collect();
        if let [name, option, whose] = cells[..]
            && !whose.is_empty()
        {
            table.push_str(&format!("| {name} | {option} | {whose} |\n"));
        }
    }
    table.push_str("\n| rule of another option than its class | Driver Verifier |\n|---|---|\n");
    for line in rules::OPTIONS.lines().skip(1) {
        let cells: Vec<_> = line.split('\t').collect();
        if let [name, option, ""] = cells[..] {
            table.push_str(&format!("| `{name}` | {option} |\n"));
        }
    }
    table
}

#[test]
fn the_page_has_the_tables() {
    let path = root().join("docs/simulator.md");
    let old = fs::read_to_string(&path).unwrap();
    let mut page = old.clone();
    for (name, generated) in [("functions", functions()), ("classes", classes())] {
        let begin = format!("<!-- {name}: written by crates/ntsim/tests/functions.rs -->\n");
        let end = format!("<!-- end of {name} -->");
        let from = page.find(&begin).expect("a mark where the table begins") + begin.len();
        let to = page.find(&end).expect("a mark where it ends");
        page.replace_range(from..to, &format!("\n{generated}\n"));
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, page).unwrap();
    } else {
        assert!(
            page == old,
            "docs/simulator.md is not what crates/ntsim/data says: UPDATE_DOCS=1 cargo test -p ntsim --test functions"
        );
    }
}
