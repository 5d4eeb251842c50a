//! Which test had which rule broken: `NTSIM_FIRED` names a file to which a line `rule<TAB>test` is appended for each violation, with the test as in
//! `data/culprits.tsv`. The example `rules` compares the two.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::OnceLock;

/// The environment variable.
const FIRED: &str = "NTSIM_FIRED";

thread_local! {
    /// What the test of this thread has had told already.
    static TOLD: RefCell<BTreeSet<&'static str>> = const { RefCell::new(BTreeSet::new()) };
}

/// A rule was broken. Test programs run each test in a thread of its own, with its name.
pub(super) fn note(rule: &'static str) {
    static FILE: OnceLock<Option<File>> = OnceLock::new();
    let file = FILE.get_or_init(|| {
        let path = std::env::var_os(FIRED).filter(|path| !path.is_empty())?;
        let file = OpenOptions::new().append(true).create(true).open(&path);
        Some(file.unwrap_or_else(|error| panic!("{FIRED}: {}: {error}", path.display())))
    });
    let Some(mut file) = file.as_ref() else {
        return;
    };
    if !TOLD.with_borrow_mut(|told| told.insert(rule)) {
        return;
    }
    let line = line(rule, &program(), std::thread::current().name());
    // In one piece: other threads and programs write there too.
    let written = file.write_all(line.as_bytes());
    written.unwrap_or_else(|error| panic!("{FIRED}: {error}"));
}

fn line(rule: &str, program: &str, test: Option<&str>) -> String {
    format!("{rule}\t{program}::{}\n", test.unwrap_or("?"))
}

/// The name of the test program, without what cargo puts behind it.
fn program() -> String {
    let path = std::env::current_exe().unwrap_or_default();
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    name.rsplit_once('-')
        .map_or(&*name, |(name, _)| name)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::{line, program};

    #[test]
    fn a_rule_and_the_test_that_broke_it() {
        let thread = std::thread::current();
        let told = line("lock-order", &program(), thread.name());
        let test = "ntsim::verifier::fired::tests::a_rule_and_the_test_that_broke_it";
        assert_eq!(told, format!("lock-order\t{test}\n"));
    }
}
