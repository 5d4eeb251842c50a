//! Checks what this crate declares against its fact files.
//!
//! The macros that define structures, constants and functions also list them, in test builds. Each list is compared in both
//! directions with a file of facts, which were gathered from the public headers and symbols of Windows independently of the
//! declarations. What has no fact must be named, with the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

/// A field as this crate declares it.
pub(crate) struct Field {
    pub name: &'static str,
    pub ty: &'static str,
    pub offset: usize,
    pub size: usize,
}

/// A structure or union as this crate declares it.
pub(crate) struct Layout {
    pub name: &'static str,
    pub size: usize,
    pub fields: &'static [Field],
}

/// A constant as this crate declares it.
pub(crate) struct Constant {
    pub name: &'static str,
    pub value: i128,
    pub bits: u32,
}

/// A function, or a type of function pointers, as this crate declares it.
pub(crate) struct Prototype {
    /// Module that exports it; empty for a function pointer.
    pub module: &'static str,
    pub name: &'static str,
    /// Name and size of each.
    pub parameters: &'static [(&'static str, usize)],
    pub variadic: bool,
    /// Size of the result.
    pub result: usize,
}

/// Size of what a function returns; none for a function that never does.
pub(crate) trait Returns {
    const SIZE: usize;
}

impl<R> Returns for fn() -> R {
    const SIZE: usize = size_of::<R>();
}

/// Something without a fact, and why.
pub(crate) type Exception = (&'static str, &'static str);

/// Rows of a fact file: tab-separated, the first line names the columns.
fn rows<const COLUMNS: usize>(file: &'static str) -> impl Iterator<Item = [&'static str; COLUMNS]> {
    file.lines().skip(1).map(|line| {
        let cells: Vec<&str> = line.split('\t').collect();
        cells
            .try_into()
            .unwrap_or_else(|_| panic!("not {COLUMNS} columns: {line}"))
    })
}

fn number(text: &str) -> i128 {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let magnitude = match digits.strip_prefix("0x") {
        Some(hex) => i128::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    sign * magnitude.unwrap_or_else(|_| panic!("not a number: {text}"))
}

fn offset(text: &str) -> usize {
    usize::try_from(number(text)).expect("an offset or a size")
}

/// Fails the test with all complaints at once.
fn conclude(what: &str, complaints: &[String]) {
    assert!(complaints.is_empty(), "{what}:\n{}", complaints.join("\n"));
}

/// Exceptions that were not made use of are complaints too.
struct Exceptions<'a> {
    listed: &'a [Exception],
    used: BTreeSet<&'static str>,
}

impl<'a> Exceptions<'a> {
    fn new(listed: &'a [Exception]) -> Self {
        for (name, reason) in listed {
            assert!(!reason.is_empty(), "{name} has no fact and no reason");
        }
        Self {
            listed,
            used: BTreeSet::new(),
        }
    }

    fn excuses(&mut self, name: &str) -> bool {
        match self.listed.iter().find(|(listed, _)| *listed == name) {
            Some((listed, _)) => {
                self.used.insert(listed);
                true
            }
            None => false,
        }
    }

    fn finish(self, complaints: &mut Vec<String>) {
        for (name, _) in self.listed {
            if !self.used.contains(name) {
                complaints.push(format!("{name} is excused but needs no excuse"));
            }
        }
    }
}

/// What is known of a structure: its size, and offset and size of each field.
type Known = (usize, BTreeMap<&'static str, (usize, usize)>);

/// Compares structures with the facts about them: sizes, offsets and sizes of fields, none missing on either side.
pub(crate) fn check_layouts(layouts: &[&Layout], file: &'static str, exceptions: &[Exception]) {
    let mut facts: BTreeMap<&str, Known> = BTreeMap::new();
    for [name, size, field, at, field_size] in rows(file) {
        let entry = facts
            .entry(name)
            .or_insert_with(|| (offset(size), BTreeMap::new()));
        assert_eq!(entry.0, offset(size), "{name} has two sizes");
        let twice = entry.1.insert(field, (offset(at), offset(field_size)));
        assert!(twice.is_none(), "{name}.{field} is there twice");
    }
    let by_name: BTreeMap<&str, &Layout> = layouts
        .iter()
        .map(|layout| (layout.name, *layout))
        .collect();
    let mut complaints = Vec::new();
    let mut exceptions = Exceptions::new(exceptions);
    let mut covered = BTreeSet::new();

    for layout in layouts {
        let Some((size, fields)) = facts.get(layout.name) else {
            continue;
        };
        if layout.size != *size {
            complaints.push(format!(
                "{}: {} bytes, should be {size}",
                layout.name, layout.size
            ));
        }
        let mut seen = BTreeSet::new();
        let mut open = Vec::from([(*layout, String::new(), 0)]);
        while let Some((part, prefix, base)) = open.pop() {
            for field in part.fields {
                let at = base + field.offset;
                let anonymous = field.name.starts_with("Anonymous");
                let path = if anonymous {
                    prefix.clone()
                } else {
                    format!("{prefix}{}", field.name)
                };
                let known = fields.get(path.as_str());
                if let Some(fact) = known {
                    seen.insert(path.clone());
                    if *fact != (at, field.size) {
                        complaints.push(format!(
                            "{}.{path}: {} bytes at {at}, should be {} at {}",
                            layout.name, field.size, fact.1, fact.0
                        ));
                    }
                }
                let inner = if anonymous { path } else { format!("{path}.") };
                let nested = anonymous || fields.keys().any(|name| name.starts_with(&inner));
                match by_name.get(field.ty) {
                    Some(nested_layout) if nested => {
                        covered.insert(nested_layout.name);
                        open.push((*nested_layout, inner, at));
                    }
                    _ if known.is_some() => {}
                    _ => {
                        let name = format!("{}.{inner}", layout.name);
                        let name = name.trim_end_matches('.');
                        if !exceptions.excuses(name) {
                            complaints.push(format!("no fact about {name}"));
                        }
                    }
                }
            }
        }
        for field in fields.keys() {
            if !seen.contains(*field) {
                complaints.push(format!("{} lacks {field}", layout.name));
            }
        }
    }
    for layout in layouts {
        if !facts.contains_key(layout.name)
            && !covered.contains(layout.name)
            && !exceptions.excuses(layout.name)
        {
            complaints.push(format!("no fact about {}", layout.name));
        }
    }
    for name in facts.keys() {
        if !by_name.contains_key(name) {
            complaints.push(format!("a fact about {name}, which is not declared"));
        }
    }
    exceptions.finish(&mut complaints);
    conclude("layouts", &complaints);
}

/// Compares constants with the facts about them, none missing on either side.
pub(crate) fn check_constants(
    constants: &[&Constant],
    file: &'static str,
    exceptions: &[Exception],
) {
    let mut facts: BTreeMap<&str, i128> = BTreeMap::new();
    for [name, value] in rows(file) {
        let twice = facts.insert(name, number(value));
        assert!(twice.is_none(), "{name} is there twice");
    }
    let mut complaints = Vec::new();
    let mut exceptions = Exceptions::new(exceptions);
    let mut declared = BTreeSet::new();
    for constant in constants {
        if !declared.insert(constant.name) {
            complaints.push(format!("{} is declared twice", constant.name));
        }
        let Some(fact) = facts.get(constant.name) else {
            if !exceptions.excuses(constant.name) {
                complaints.push(format!("no fact about {}", constant.name));
            }
            continue;
        };
        // A fact is either a negative number or the bits of the value.
        let mask = (1_i128 << constant.bits) - 1;
        if constant.value & mask != fact & mask || *fact > mask {
            complaints.push(format!(
                "{} = {:#x}, should be {fact:#x}",
                constant.name, constant.value
            ));
        }
    }
    for name in facts.keys() {
        if !declared.contains(name) {
            complaints.push(format!("a fact about {name}, which is not declared"));
        }
    }
    exceptions.finish(&mut complaints);
    conclude("constants", &complaints);
}

/// Compares functions and function pointers with the facts about them: module, name and size of each parameter in order, size of
/// the result.
pub(crate) fn check_prototypes(
    prototypes: &[&Prototype],
    file: &'static str,
    exceptions: &[Exception],
) {
    let mut facts: BTreeMap<&str, (&str, &str, &str)> = BTreeMap::new();
    for [name, module, result, parameters] in rows(file) {
        let twice = facts.insert(name, (module, result, parameters));
        assert!(twice.is_none(), "{name} is there twice");
    }
    let mut complaints = Vec::new();
    let mut exceptions = Exceptions::new(exceptions);
    for prototype in prototypes {
        let mut parameters: Vec<String> = prototype
            .parameters
            .iter()
            .map(|(name, size)| format!("{name}:{size}"))
            .collect();
        if prototype.variadic {
            parameters.push("...".to_string());
        }
        let parameters = parameters.join(" ");
        let Some((module, result, fact)) = facts.remove(prototype.name) else {
            if !exceptions.excuses(prototype.name) {
                complaints.push(format!("no fact about {}", prototype.name));
            }
            continue;
        };
        if prototype.module != module {
            complaints.push(format!(
                "{} is in {module}, not in {}",
                prototype.name, prototype.module
            ));
        }
        if prototype.result != offset(result) {
            complaints.push(format!(
                "{} returns {result} bytes, not {}",
                prototype.name, prototype.result
            ));
        }
        if parameters != fact {
            complaints.push(format!(
                "{}({parameters}), should be ({fact})",
                prototype.name
            ));
        }
    }
    for name in facts.keys() {
        complaints.push(format!("a fact about {name}, which is not declared"));
    }
    exceptions.finish(&mut complaints);
    conclude("prototypes", &complaints);
}

/// Reads the crate's source and finds everything that should have come before the checks above: the items within the macros, by
/// the lists; and items outside, which must be among `outside`.
pub(crate) fn check_nothing_is_left_out(
    source: &std::path::Path,
    layouts: &[&Layout],
    constants: &[&Constant],
    prototypes: &[&Prototype],
    outside: &[Exception],
) {
    let mut files = Vec::new();
    let mut directories = Vec::from([source.to_path_buf()]);
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("source directory") {
            let path = entry.expect("directory entry").path();
            if path.is_dir() {
                directories.push(path);
            } else {
                files.push(path);
            }
        }
    }
    let listed: [BTreeSet<&str>; 3] = [
        layouts.iter().map(|item| item.name).collect(),
        constants.iter().map(|item| item.name).collect(),
        prototypes.iter().map(|item| item.name).collect(),
    ];
    let mut found: [BTreeSet<String>; 3] = Default::default();
    let mut complaints = Vec::new();
    let mut exceptions = Exceptions::new(outside);

    for path in files {
        if matches!(
            path.file_name().and_then(|name| name.to_str()),
            Some("macros.rs" | "facts.rs" | "fact_tests.rs")
        ) {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("source file");
        let mut block = "";
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            if let Some(name) = line.strip_suffix("! {") {
                block = name;
                continue;
            }
            if line == "}" {
                block = "";
                continue;
            }
            let item = line.trim_start();
            let name: String = item
                .trim_start_matches("pub ")
                .trim_start_matches("struct ")
                .trim_start_matches("union ")
                .trim_start_matches("const ")
                .trim_start_matches("fn ")
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            let kind = match block {
                "layouts" | "tables" if item.starts_with("pub ") => Some(0),
                "constants" | "statuses" if item.contains(" = ") && !item.starts_with("//") => {
                    Some(1)
                }
                "callbacks" | "imports" if item.starts_with("fn ") => Some(2),
                _ => None,
            };
            if let Some(kind) = kind {
                if !listed[kind].contains(name.as_str()) {
                    complaints.push(format!("{name} in {} is in no list", path.display()));
                }
                found[kind].insert(name);
            } else if block.is_empty()
                && ["pub struct ", "pub union ", "pub const "]
                    .iter()
                    .any(|start| item.starts_with(start))
            {
                let opaque = lines
                    .peek()
                    .is_some_and(|next| next.trim() == "_opaque: [u8; 0],");
                if !item.starts_with("pub const fn") && !opaque && !exceptions.excuses(&name) {
                    complaints.push(format!(
                        "{name} in {} is outside the macros",
                        path.display()
                    ));
                }
            }
        }
    }
    for (found, listed) in found.iter().zip(&listed) {
        assert!(
            found.len() == listed.len() && !found.is_empty(),
            "the source is not read as it is written"
        );
    }
    exceptions.finish(&mut complaints);
    conclude("source", &complaints);
}
