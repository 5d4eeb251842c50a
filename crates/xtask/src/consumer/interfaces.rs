//! What crates/ndis-sys declares of the kernel, read from its sources: the types of functions' parameters, which no file of facts has, and
//! structures and constants that none has. Its own tests compare it with the facts and with windows-sys.

use crate::workspace::root;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// A function or a type of functions: its parameters, name and type, and its result.
pub struct Function {
    pub parameters: Vec<(String, String)>,
    pub result: String,
}

/// A structure: its bytes, and its fields with their offsets.
#[derive(Debug, PartialEq)]
pub struct Structure {
    pub size: usize,
    pub fields: Vec<(String, usize)>,
}

/// All of it, by name.
#[derive(Default)]
pub struct Interfaces {
    pub functions: BTreeMap<String, Function>,
    pub structures: BTreeMap<String, Structure>,
    /// Values as they are written.
    pub constants: BTreeMap<String, String>,
}

impl Interfaces {
    pub fn read() -> Result<Interfaces> {
        let mut all = Interfaces::default();
        all.add_folder(&root().join("crates/ndis-sys/src"))?;
        Ok(all)
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
            for rest in text.split(keyword).skip(1) {
                if let Some((name, structure)) = structure(rest) {
                    self.structures.insert(name, structure);
                }
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

/// `NAME(size) {`, then `offset field: type,` for each.
fn structure(text: &str) -> Option<(String, Structure)> {
    let (head, rest) = text.split_once('{')?;
    let (name, size) = head.trim().strip_suffix(')')?.split_once('(')?;
    let size = size.parse().ok()?;
    let fields = rest
        .lines()
        .take_while(|line| *line != "}")
        .filter_map(|line| {
            let (offset, rest) = line.strip_prefix("0x")?.split_once(' ')?;
            let field = rest.split_once(':')?.0.to_owned();
            Some((field, usize::from_str_radix(offset, 16).ok()?))
        })
        .collect();
    Some((name.to_owned(), Structure { size, fields }))
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
    match ty {
        "" | "!" | "c_void" => "VOID",
        "u8" => "UCHAR",
        "i8" => "CHAR",
        "u16" => "USHORT",
        "i16" => "SHORT",
        "u32" => "ULONG",
        "i32" => "LONG",
        "u64" => "ULONGLONG",
        "i64" => "LONGLONG",
        "usize" => "SIZE_T",
        "isize" => "LONG_PTR",
        name if pointer(name) => return format!("{name} *"),
        name => name,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sources_are_read_as_they_are_written() {
        let all = Interfaces::read().unwrap();
        let set = &all.functions["KeSetTimerEx"];
        assert_eq!(set.result, "BOOLEAN");
        let (names, types): (Vec<_>, Vec<_>) = set.parameters.iter().cloned().unzip();
        assert_eq!(names, ["Timer", "DueTime", "Period", "Dpc"]);
        assert_eq!(types, ["*mut KTIMER", "LARGE_INTEGER", "i32", "*mut KDPC"]);
        let row = Structure {
            size: 88,
            fields: vec![("NumEntries".to_owned(), 0), ("Table".to_owned(), 8)],
        };
        assert_eq!(all.structures["MIB_UNICASTIPADDRESS_TABLE"], row);
        assert_eq!(all.constants["MibInitialNotification"], "3");
        assert_eq!(all.functions["KeBugCheckEx"].result, "!");
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
        ] {
            assert_eq!(in_c(rust, &pointer), c);
        }
    }
}
