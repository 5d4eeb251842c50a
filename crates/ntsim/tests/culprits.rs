//! No rule without its culprit: for each there is a test in which a driver breaks it and is accused of just that.
//!
//! `data/culprits.tsv` says which; see [`MISSING`] for what to do about a new rule. `cargo run -p ntsim --example rules` prints it all.

#[path = "../examples/rules.rs"]
#[allow(dead_code, reason = "the example's own entry point")]
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use ntsim::verifier::all_rules;

/// What to do if these tests fail.
const MISSING: &str = "crates/ntsim/data/culprits.tsv names for each rule the tests that break it: a line `rule<TAB>test`, sorted. A test \
    is named as `cargo test -p ntsim -- --list` prints it, after its binary: `locks::two_locks_in_both_orders` for one of \
    tests/locks.rs, `ntsim::` for the library's own. Its source, or an item of the same file that it uses, must name the rule's constant \
    (`rules::LOCK_ORDER`). A new rule needs a test first, then the line";

fn crate_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rows() -> Vec<(&'static str, &'static str)> {
    let lines = rules::CULPRITS.lines().skip(1);
    lines
        .map(|line| line.split_once('\t').unwrap_or_else(|| panic!("{line:?}")))
        .collect()
}

/// A file and the inline modules in it that a path of modules leads to.
fn file<'a>(binary: &str, modules: &'a [&'a str]) -> Option<(PathBuf, &'a [&'a str])> {
    let mut folder = crate_folder().join("src");
    let mut found = (folder.join("lib.rs"), 0);
    if binary != "ntsim" {
        folder = crate_folder().join("tests").join(binary);
        let alone = folder.with_extension("rs");
        let main = folder.join("main.rs");
        found = (if main.exists() { main } else { alone }, 0);
    }
    for (depth, module) in modules.iter().enumerate() {
        folder.push(module);
        let candidates = [folder.with_extension("rs"), folder.join("mod.rs")];
        if let Some(file) = candidates.into_iter().find(|file| file.exists()) {
            found = (file, depth + 1);
        }
    }
    found.0.exists().then(|| (found.0, &modules[found.1..]))
}

/// The items of a source, that is the text from a line that begins one to the line that ends it, by name. Those of inline modules as
/// well.
fn items(source: &str) -> Vec<(&str, &str)> {
    const KINDS: [&str; 4] = ["fn ", "const ", "static ", "macro_rules! "];
    let mut found = Vec::new();
    let mut at = 0;
    for line in source.split_inclusive('\n') {
        let begin = at;
        at += line.len();
        let text = line.trim_start();
        let indent = &line[..line.len() - text.len()];
        let Some(rest) = KINDS.iter().find_map(|kind| {
            let (before, rest) = text.split_once(kind)?;
            let words = ["", "pub", "unsafe", "extern", "\"efiapi\"", "pub(super)"];
            let all = before.split_whitespace().all(|word| words.contains(&word));
            all.then_some(rest)
        }) else {
            continue;
        };
        let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_');
        let ends = ["}", "];", "]);", ");", "};"].map(|end| format!("\n{indent}{end}\n"));
        let same_line = line.trim_end().ends_with([';', '}']);
        let end = ends
            .iter()
            .filter_map(|end| source[begin..].find(end))
            .min();
        let end = if same_line {
            at
        } else {
            end.map_or(source.len(), |end| begin + end)
        };
        found.push((name.into_iter().next().unwrap_or(""), &source[begin..end]));
    }
    found
}

/// The word occurs, and is not a part of another.
fn names(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

/// The source of a test with what it uses of its file; or why it is none that runs.
fn source(test: &str) -> Result<String, String> {
    let path: Vec<&str> = test.split("::").collect();
    let [binary, modules @ .., function] = &path[..] else {
        return Err("names no binary".into());
    };
    let (file, inline) = file(binary, modules).ok_or("its module does not exist")?;
    let text = fs::read_to_string(&file).map_err(|error| error.to_string())?;
    let begin = match inline {
        [] => 0,
        [module] => text
            .find(&format!("\nmod {module} {{"))
            .ok_or_else(|| format!("{} has no module {module}", file.display()))?,
        _ => return Err(format!("{} has no such modules", file.display())),
    };
    let all = items(&text);
    let start = text.as_ptr() as usize;
    let offset = |body: &str| body.as_ptr() as usize - start;
    let of_it = all
        .iter()
        .find(|(name, body)| name == function && offset(body) >= begin);
    let (_, body) = of_it.ok_or_else(|| format!("{} has no such function", file.display()))?;
    let above = text[..offset(body)].lines().rev();
    let attributes: Vec<&str> = above
        .take_while(|line| line.trim_start().starts_with(['#', '/']))
        .collect();
    if !attributes.iter().any(|line| line.trim() == "#[test]") {
        return Err("is no test".into());
    }
    if attributes.iter().any(|line| line.contains("#[ignore")) {
        return Err("is ignored, so it proves nothing here".into());
    }
    let used = all
        .iter()
        .filter(|(name, item)| name != function && !item.contains("#[test]") && names(body, name));
    Ok(used.fold((*body).to_owned(), |all, (_, item)| all + item))
}

/// The names of the constants of all rules, by the rule's name in reports.
fn constants() -> BTreeMap<String, String> {
    fn gather(folder: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                gather(&path, found);
            } else if path.file_name().is_some_and(|name| name == "rules.rs") {
                let text = fs::read_to_string(&path).unwrap();
                for line in text.lines() {
                    // `pub const NAME: &str = "rule";`, or `NAME Whose "rule"`.
                    let mut quoted = line.split('"');
                    let (Some(head), Some(rule)) = (quoted.next(), quoted.next()) else {
                        continue;
                    };
                    let head = head.trim();
                    let head = head.strip_prefix("pub const ").unwrap_or(head);
                    let name = head.split([':', ' ']).next().unwrap_or("");
                    if !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
                    {
                        found.insert(rule.to_owned(), name.to_owned());
                    }
                }
            }
        }
    }
    let mut found = BTreeMap::new();
    gather(&crate_folder().join("src"), &mut found);
    found
}

#[test]
fn every_rule_has_a_culprit_and_every_culprit_a_rule() {
    let rows = rows();
    let named: BTreeSet<_> = rows.iter().map(|(rule, _)| *rule).collect();
    let all: BTreeSet<_> = all_rules().iter().map(|rule| rule.name).collect();
    let without: Vec<_> = all.difference(&named).collect();
    assert!(
        without.is_empty(),
        "without a culprit: {without:?}. {MISSING}."
    );
    let unknown: Vec<_> = named.difference(&all).collect();
    assert!(unknown.is_empty(), "no rules: {unknown:?}. {MISSING}.");
    let mut sorted = rows.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(rows, sorted, "not sorted, or a line twice. {MISSING}.");
}

#[test]
fn every_culprit_is_a_test_that_names_its_rule() {
    let constants = constants();
    let mut wrong = Vec::new();
    for (rule, test) in rows() {
        let constant = constants.get(rule).map_or("", |name| name);
        match source(test) {
            Err(why) => wrong.push(format!("{rule}: {test}: {why}")),
            Ok(text) if text.contains(&format!("\"{rule}\"")) => {}
            Ok(text) if names(&text, constant) => {}
            Ok(_) => wrong.push(format!("{test} speaks of no rule {rule} ({constant})")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}\n{MISSING}.");
}

#[test]
fn a_culprit_that_is_none_is_noticed() {
    let text = source("locks::two_locks_in_both_orders").unwrap();
    assert!(names(&text, "LOCK_ORDER") && !names(&text, "LOCK_MIXED"));
    let inline = "world::load::tests::a_driver_that_goes_and_leaves_device_memory_mapped";
    assert!(names(
        &source(&format!("ntsim::{inline}")).unwrap(),
        "IO_MAPPING_LEAK"
    ));
    for (test, why) in [
        ("two_locks_in_both_orders", "names no binary"),
        ("nowhere::two_locks", "does not exist"),
        ("locks::two_locks", "no such function"),
        ("ntsim::world::load::rest::x", "has no module rest"),
        (
            "faulty::a_panic_is_a_bug_check_that_names_the_place_in_the_source",
            "is ignored",
        ),
        ("locks::accused", "is no test"),
    ] {
        let found = source(test).unwrap_err();
        assert!(found.contains(why), "{test}: {found}");
    }
    assert!(!names("POOL_TAGS", "POOL_TAG") && names("(POOL_TAG)", "POOL_TAG"));
}

#[test]
fn every_class_says_what_driver_verifier_calls_it() {
    let all = all_rules();
    for rule in &all {
        let class = format!("{:?}", rule.class);
        let row = rules::option(&class);
        assert!(
            row.is_some(),
            "options.tsv has no line for the class {class}"
        );
        let (option, whose) = row.unwrap();
        assert!(!option.is_empty() && !whose.is_empty(), "{class}");
    }
    for row in rules::OPTIONS.lines().skip(1) {
        let name = row.split('\t').next().unwrap();
        let known = all
            .iter()
            .any(|rule| rule.name == name || format!("{:?}", rule.class) == name);
        assert!(known, "options.tsv: {name} is neither a class nor a rule");
    }
}

#[test]
fn the_rules_and_their_culprits() {
    let table = rules::table();
    let (mut told, mut listed) = (Vec::new(), Vec::new());
    for line in table.lines() {
        match line.trim_start().strip_prefix("<- ") {
            Some(test) => told.push((*listed.last().expect("a rule before its culprits"), test)),
            None => listed.push(line.split(' ').next().unwrap_or("")),
        }
    }
    let all: Vec<_> = all_rules().iter().map(|rule| rule.name).collect();
    assert_eq!(listed, all);
    told.sort_unstable();
    assert_eq!(told, rows());
    // Not by `println!`, of which a test that passes shows nothing.
    let text = format!("\n{table}");
    std::io::stdout().lock().write_all(text.as_bytes()).unwrap();
}

#[test]
fn a_culprit_whose_rule_was_not_broken_is_noticed() {
    let all = rules::CULPRITS.split_once('\n').expect("a heading").1;
    assert_eq!(rules::not_fired(all), [""; 0]);
    let (first, rest) = all.split_once('\n').expect("rows");
    assert_eq!(rules::not_fired(rest), [first]);
    // The rule, but in another test.
    let elsewhere = all.replacen("\t", "\tnowhere::", 1);
    assert_eq!(rules::not_fired(&elsewhere), [first]);
}
