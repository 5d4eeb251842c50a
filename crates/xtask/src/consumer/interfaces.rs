//! What crates/ndis-sys declares of the kernel, and crates/ndkpi of NDK, read from their sources: the types of functions' parameters and the
//! alignments of structures, which no file of facts has, and structures and constants that none has. Their own tests compare them with the
//! facts and with windows-sys.

use crate::workspace::root;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// A function or a type of functions: its parameters, name and type, and its result.
pub struct Function {
    pub parameters: Vec<(String, String)>,
    pub result: String,
}

/// A structure or a union.
#[derive(Debug, PartialEq)]
pub struct Structure {
    /// Bytes.
    pub size: usize,
    /// Bytes; zero if no more than its fields need.
    align: usize,
    pub fields: Vec<Field>,
}

/// A field: its name, its offset in bytes, and its type.
#[derive(Debug, PartialEq)]
pub struct Field {
    pub name: String,
    pub offset: usize,
    pub ty: String,
}

/// Rust's integers, what they are in C, and their bytes.
pub const INTEGERS: [(&str, &str, usize); 10] = [
    ("u8", "UCHAR", 1),
    ("i8", "CHAR", 1),
    ("u16", "USHORT", 2),
    ("i16", "SHORT", 2),
    ("u32", "ULONG", 4),
    ("i32", "LONG", 4),
    ("u64", "ULONGLONG", 8),
    ("i64", "LONGLONG", 8),
    ("usize", "SIZE_T", 8),
    ("isize", "LONG_PTR", 8),
];

/// All of it, by name.
#[derive(Default)]
pub struct Interfaces {
    pub functions: BTreeMap<String, Function>,
    pub structures: BTreeMap<String, Structure>,
    /// Values as they are written.
    pub constants: BTreeMap<String, String>,
    /// Types that are other names of types.
    pub aliases: BTreeMap<String, String>,
}

impl Interfaces {
    /// Those of a crate.
    pub fn read(package: &str) -> Result<Interfaces> {
        let mut all = Interfaces::default();
        all.add_folder(&root().join("crates").join(package).join("src"))?;
        Ok(all)
    }

    /// The structure of a name in C. Those of socket addresses have small letters in Rust.
    pub fn structure(&self, name: &str) -> Option<&Structure> {
        let small = || self.structures.get(&name.to_ascii_lowercase());
        self.structures.get(name).or_else(small)
    }

    /// The alignment of a type, bytes; none if it is not declared here.
    pub fn alignment(&self, ty: &str) -> Option<usize> {
        let pointers = ["*", "Option<", "unsafe extern"];
        if pointers.iter().any(|start| ty.starts_with(start)) || self.functions.contains_key(ty) {
            return Some(8);
        }
        if let Some(array) = ty.strip_prefix('[') {
            return self.alignment(array.split_once(';')?.0);
        }
        if let Some((_, _, bytes)) = INTEGERS.iter().find(|(rust, ..)| *rust == ty) {
            return Some(*bytes);
        }
        if let Some(other) = self.aliases.get(ty) {
            return self.alignment(other);
        }
        let structure = self.structure(ty)?;
        let mut align = structure.align;
        for field in &structure.fields {
            align = align.max(self.alignment(&field.ty)?);
        }
        Some(align)
    }

    fn add_folder(&mut self, folder: &Path) -> Result<()> {
        for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                self.add_folder(&path)?;
            } else if path.extension().is_some_and(|e| e == "rs") {
                self.add(&std::fs::read_to_string(&path)?);
            }
        }
        Ok(())
    }

    /// The blocks `imports!`, `callbacks!`, `layouts!` and `constants!` of a source.
    fn add(&mut self, source: &str) {
        let lines = source
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with("//"));
        let text = lines.collect::<Vec<_>>().join("\n");
        for (_, rest) in text.match_indices("\nfn ").map(|(at, _)| text.split_at(at)) {
            if let Some((name, function)) = function(&rest["\nfn ".len()..]) {
                self.functions.insert(name, function);
            }
        }
        for keyword in ["pub struct ", "pub union "] {
            for (at, _) in text.match_indices(keyword) {
                let (before, rest) = (&text[..at], &text[at + keyword.len()..]);
                if let Some((name, structure)) = structure(before, rest) {
                    self.structures.insert(name, structure);
                }
            }
        }
        for rest in text.split("pub type ").skip(1) {
            let alias = rest.split_once(';').and_then(|(a, _)| a.split_once(" = "));
            if let Some((name, ty)) = alias {
                self.aliases.insert(name.to_owned(), ty.to_owned());
            }
        }
        for block in text.split("constants! {").skip(1) {
            let block = block.split("\n}\n}").next().unwrap_or(block);
            for (name, value) in block
                .split([';', '{', '}'])
                .filter_map(|c| c.split_once('='))
            {
                self.constants
                    .insert(name.trim().to_owned(), value.trim().to_owned());
            }
        }
    }
}

/// `NAME(parameter: type, ..) -> result;`
fn function(text: &str) -> Option<(String, Function)> {
    let statement = text.split_once(';')?.0;
    let (name, rest) = statement.split_once('(')?;
    let (parameters, result) = rest.rsplit_once(')')?;
    let parameters = parameters
        .split(',')
        .filter_map(|parameter| parameter.split_once(':'))
        .map(|(name, ty)| (name.trim().to_owned(), ty.trim().to_owned()))
        .collect();
    let result = result.trim().trim_start_matches("->").trim();
    let function = Function {
        parameters,
        result: result.to_owned(),
    };
    Some((name.to_owned(), function))
}

/// `NAME(size) {`, then `offset field: type,` for each; `before` are the lines before it, the last of which are its attributes.
fn structure(before: &str, text: &str) -> Option<(String, Structure)> {
    let (head, rest) = text.split_once('{')?;
    let (name, size) = head.trim().strip_suffix(')')?.split_once('(')?;
    let size = size.parse().ok()?;
    let attributes = before.lines().rev().take_while(|l| l.starts_with("#["));
    let align = attributes
        .filter_map(|line| line.strip_prefix("#[repr(align(")?.strip_suffix("))]"))
        .find_map(|align| align.parse().ok());
    let fields = rest
        .lines()
        .take_while(|line| *line != "}")
        .filter_map(|line| {
            let (offset, rest) = line.strip_prefix("0x")?.split_once(' ')?;
            let (name, ty) = rest.strip_suffix(',')?.split_once(": ")?;
            Some(Field {
                name: name.to_owned(),
                offset: usize::from_str_radix(offset, 16).ok()?,
                ty: ty.to_owned(),
            })
        })
        .collect();
    let structure = Structure {
        size,
        align: align.unwrap_or(0),
        fields,
    };
    Some((name.to_owned(), structure))
}

/// What a type of ndis-sys is in C; `pointer` says of a name whether it is a type of functions that C writes with a star.
pub fn in_c(ty: &str, pointer: &impl Fn(&str) -> bool) -> String {
    if let Some(to) = ty.strip_prefix("*mut ") {
        return format!("{} *", in_c(to, pointer));
    }
    if let Some(to) = ty.strip_prefix("*const ") {
        return match to {
            // Of text, not of bytes.
            "u8" => "const CHAR *".to_owned(),
            _ => format!("const {} *", in_c(to, pointer)),
        };
    }
    if let Some(inner) = ty.strip_prefix("Option<") {
        return in_c(inner.trim_end_matches('>'), pointer);
    }
    if let Some((element, count)) = ty.strip_prefix('[').and_then(|ty| ty.split_once("; ")) {
        return format!("{}[{}", in_c(element, pointer), count);
    }
    if let Some((_, c, _)) = INTEGERS.iter().find(|(rust, ..)| *rust == ty) {
        return (*c).to_owned();
    }
    match ty {
        "" | "!" | "c_void" => "VOID".to_owned(),
        name if pointer(name) => format!("{name} *"),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sources_are_read_as_they_are_written() {
        let all = Interfaces::read("ndis-sys").unwrap();
        let set = &all.functions["KeSetTimerEx"];
        assert_eq!(set.result, "BOOLEAN");
        let (names, types): (Vec<_>, Vec<_>) = set.parameters.iter().cloned().unzip();
        assert_eq!(names, ["Timer", "DueTime", "Period", "Dpc"]);
        assert_eq!(types, ["*mut KTIMER", "LARGE_INTEGER", "i32", "*mut KDPC"]);
        let field = |name: &str, offset, ty: &str| Field {
            name: name.to_owned(),
            offset,
            ty: ty.to_owned(),
        };
        let row = Structure {
            size: 88,
            align: 0,
            fields: vec![
                field("NumEntries", 0, "u32"),
                field("Table", 8, "[MIB_UNICASTIPADDRESS_ROW; 1]"),
            ],
        };
        assert_eq!(all.structures["MIB_UNICASTIPADDRESS_TABLE"], row);
        assert_eq!(all.constants["MibInitialNotification"], "3");
        assert_eq!(all.functions["KeBugCheckEx"].result, "!");
        assert_eq!(all.aliases["KIRQL"], "u8");
    }

    #[test]
    fn an_alignment_is_that_of_the_fields_or_what_is_said() {
        let all = Interfaces::read("ndis-sys").unwrap();
        for (ty, bytes) in [
            ("LOOKASIDE_LIST_EX", 16),
            // Of its fields: of a structure in it, of an alias of an alias, of an array, of pointers.
            ("MIB_IPNET_ROW2", 8),
            ("PHYSICAL_ADDRESS", 8),
            ("KEY_VALUE_PARTIAL_INFORMATION", 4),
            ("LIST_ENTRY", 8),
            ("KDEFERRED_ROUTINE", 8),
            ("SOCKADDR", 2),
            ("IN_ADDR", 4),
        ] {
            assert_eq!(all.alignment(ty), Some(bytes), "{ty}");
        }
        assert_eq!(all.alignment("NDK_SGE"), None);
    }

    #[test]
    fn a_type_is_told_in_c() {
        let pointer = |name: &str| name == "KDEFERRED_ROUTINE";
        for (rust, c) in [
            ("*mut *mut c_void", "VOID * *"),
            ("*const UNICODE_STRING", "const UNICODE_STRING *"),
            ("Option<KDEFERRED_ROUTINE>", "KDEFERRED_ROUTINE *"),
            ("*const u16", "const USHORT *"),
            ("", "VOID"),
            ("[u8; 1]", "UCHAR[1]"),
        ] {
            assert_eq!(in_c(rust, &pointer), c);
        }
    }
}
