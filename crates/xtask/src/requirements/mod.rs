//! `cargo xtask requirements`: which requirement of RoCEv2 is proven by which test.

mod list;
mod page;
mod proofs;

use crate::conformance::{self, complain};
use crate::interop::is_case;
use crate::libtest::{Outcome, Tests};
use crate::workspace::root;
use anyhow::{Context, Result};
use list::{List, Place};
use proofs::{Proofs, Test};
use std::path::{Path, PathBuf};

/// Where the page is, from the root of the repository.
const PAGE: &str = "docs/requirements.md";

/// Parts of the names of all tests that have a number, and of few others.
const NUMBERED: [&str; 10] = ["r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9"];

/// The driver's test binaries.
const DRIVER: [&str; 2] = ["miniport", "ndk"];

/// Options of `cargo xtask requirements`.
#[derive(clap::Args)]
pub struct Options {
    /// Write nothing; fail if docs/requirements.md is not up to date.
    #[arg(long)]
    check: bool,
    /// Run nothing: take what `cargo test --locked 2>&1` has printed into this file.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

/// Runs the tests that have a number, prints the table, and writes, or checks, the page; `false` when a requirement is proven nowhere, a
/// test fails, or the page is not as it should be.
pub fn run(options: &Options) -> Result<bool> {
    let root = root();
    let list = List::load()?;
    let source = Tests::new(options.from.as_deref())?;
    let mut tests = Vec::new();
    for binary in engine(&root)? {
        tests.extend(tests_of(&source, &root, "roce", &binary, Place::Engine)?);
    }
    for binary in DRIVER {
        tests.extend(tests_of(&source, &root, "vroce", binary, Place::Driver)?);
    }
    let failing = tests.iter().filter(|test| test.outcome == Outcome::Failed);
    let failing = complain("fails", failing.map(|test| test.name.clone()).collect());
    let proofs = Proofs::new(&list, &tests)?;
    print!("{}", page::table(&list, &proofs));
    let holes = proofs.holes(&list, is_case);
    let total = list.requirements().count();
    println!("{total} requirements, {} holes", holes.len());
    let open = complain("", holes);
    let kept = conformance::keep(
        &root,
        PAGE,
        &page::render(&list, &proofs),
        options.check,
        "requirements",
    )?;
    Ok(!failing && !open && kept)
}

/// The engine's test binaries: that of its library, and one for each file of `tests` and each folder there that has a `main.rs`.
fn engine(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("crates/roce/tests");
    let mut binaries = vec!["roce".to_owned()];
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let source = path.is_file() && path.extension().is_some_and(|end| end == "rs");
        let name = path.file_stem().and_then(|name| name.to_str());
        if (source || path.join("main.rs").is_file())
            && let Some(name) = name
        {
            binaries.push(name.to_owned());
        }
    }
    binaries.sort();
    Ok(binaries)
}

/// The numbered tests of one binary.
fn tests_of(
    source: &Tests,
    root: &Path,
    package: &str,
    binary: &str,
    place: Place,
) -> Result<Vec<Test>> {
    let folder = match place {
        Place::Driver => "",
        _ => "crates/roce/",
    };
    let outcomes = source.of(package, binary, &NUMBERED)?;
    let test = |(path, outcome): (String, _)| {
        let modules: Vec<&str> = path.split("::").skip(1).collect();
        let (name, modules) = modules.split_last()?;
        Some(Test {
            place: place.clone(),
            name: (*name).to_owned(),
            file: file_of(root, folder, binary == package, binary, modules),
            outcome,
        })
    };
    Ok(outcomes.into_iter().filter_map(test).collect())
}

/// The source of a module of a test binary, or of the nearest one around it that has a file of its own.
fn file_of(root: &Path, folder: &str, library: bool, binary: &str, modules: &[&str]) -> String {
    let (top, below) = if library {
        (vec![format!("{folder}src/lib.rs")], format!("{folder}src"))
    } else {
        let below = format!("{folder}tests/{binary}");
        (
            vec![format!("{below}.rs"), format!("{below}/main.rs")],
            below,
        )
    };
    let nested = (1..=modules.len()).rev().flat_map(|depth| {
        let path = format!("{below}/{}", modules[..depth].join("/"));
        [format!("{path}.rs"), format!("{path}/mod.rs")]
    });
    let all: Vec<String> = nested.chain(top).collect();
    let there = all.iter().find(|file| root.join(file).is_file());
    there.or(all.last()).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_binary_of_the_engine_is_known() {
        let found = engine(&root()).unwrap();
        // What is in the folder `util` is shared by all of them.
        assert_eq!(found, ["allocations", "engine", "fuzz", "property", "roce"]);
    }

    #[test]
    fn a_test_is_in_the_file_of_its_module() {
        let file = |folder, library, binary, modules: &[&str]| {
            file_of(&root(), folder, library, binary, modules)
        };
        let roce = "crates/roce/";
        for (modules, want) in [
            (&["cm", "tests", "active"][..], "cm/tests/active.rs"),
            (&["cm", "tests"], "cm/tests/mod.rs"),
            (&["path", "tests"], "path.rs"),
            (&[], "lib.rs"),
        ] {
            let want = format!("crates/roce/src/{want}");
            assert_eq!(file(roce, true, "roce", modules), want);
        }
        let want = "crates/roce/tests/allocations.rs";
        assert_eq!(file(roce, false, "allocations", &[]), want);
        for (modules, want) in [
            (&["naks"][..], "naks.rs"),
            (&["exhaustive", "keys"], "exhaustive/keys.rs"),
        ] {
            let want = format!("crates/roce/tests/engine/{want}");
            assert_eq!(file(roce, false, "engine", modules), want);
        }
        assert_eq!(file("", false, "ndk", &["jumbo"]), "tests/ndk/jumbo.rs");
        assert_eq!(file("", false, "ndk", &[]), "tests/ndk/main.rs");
    }
}
