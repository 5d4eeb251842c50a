//! AddReg: what is written where.

use super::Lint;
use super::parse::{Entry, Section, number};
use super::rules::Rule;

/// The key that HKR stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// The device's software key.
    Class,
    /// The device's hardware key.
    Device,
    /// The service's.
    Service,
    /// The event log's.
    EventLog,
}

/// A value that is written.
#[derive(Debug, Clone)]
pub struct Value {
    /// Where in the file.
    pub line: usize,
    /// Below the root.
    pub key: String,
    /// Its name.
    pub name: String,
    /// Its type: the flags that say so.
    pub kind: u64,
    /// What is written.
    pub data: Vec<String>,
}

impl Value {
    /// Whether it is this one, whatever the case.
    pub fn is(&self, key: &str, name: &str) -> bool {
        self.key.eq_ignore_ascii_case(key) && self.name.eq_ignore_ascii_case(name)
    }

    /// The first, or only, datum.
    pub fn text(&self) -> &str {
        self.data.first().map_or("", String::as_str)
    }
}

/// REG_SZ.
pub const SZ: u64 = 0;
const MULTI_SZ: u64 = 0x0001_0000;
const EXPAND_SZ: u64 = 0x0002_0000;
const BINARY: u64 = 0x0000_0001;
/// REG_DWORD.
pub const DWORD: u64 = 0x0001_0001;
const NONE: u64 = 0x0002_0001;
const QWORD: u64 = 0x000b_0001;
/// What is type, in flags.
const KIND: u64 = 0xffff_0001;
/// FLG_ADDREG_: NOCLOBBER, DELVAL, APPEND, KEYONLY, OVERWRITEONLY, 64BITKEY, KEYONLY_COMMON, 32BITKEY.
const OTHER: u64 = 0x2 | DELETE | APPEND | KEY_ONLY | 0x20 | 0x1000 | 0x2000 | 0x4000;
const DELETE: u64 = 0x4;
const APPEND: u64 = 0x8;
const KEY_ONLY: u64 = 0x10;

/// Values that Windows knows: their type.
const WELL_KNOWN: [(&str, u64); 4] = [
    ("EventMessageFile", EXPAND_SZ),
    ("TypesSupported", DWORD),
    ("MSISupported", DWORD),
    ("MessageNumberLimit", DWORD),
];

/// Looks at what a section's AddReg writes. Gives the values.
pub fn look(lint: &mut Lint<'_>, section: &Section, key: Key) -> Vec<Value> {
    let mut values: Vec<Value> = Vec::new();
    for directive in section.entries.iter().filter(|e| e.is("AddReg")) {
        for name in directive.fields.iter().filter(|f| !f.is_empty()) {
            let Some(list) = lint.section(name, "a list of values", directive.line) else {
                continue;
            };
            for entry in &list.entries {
                let Some(value) = add(lint, entry, key) else {
                    continue;
                };
                let twice = values.iter().find(|v| v.is(&value.key, &value.name));
                if let Some(first) = twice.filter(|_| !value.name.is_empty()) {
                    let text = format!("{} is written in line {}", value.name, first.line);
                    lint.complain(value.line, Rule::ValueTwice, text);
                }
                values.push(value);
            }
        }
    }
    values
}

/// One line: root, key, name, flags, data.
fn add(lint: &mut Lint<'_>, entry: &Entry, key: Key) -> Option<Value> {
    let line = entry.line;
    let subkey = entry.field(1);
    let first = subkey.split('\\').next().unwrap_or_default();
    match entry.field(0).to_ascii_uppercase().as_str() {
        "HKR" if key == Key::Service && !first.eq_ignore_ascii_case("Parameters") => {
            let text = format!("\"{subkey}\" is not below Parameters");
            lint.complain(line, Rule::ServiceKey, text);
        }
        "HKR" => {}
        root @ ("HKLM" | "HKCR" | "HKCU" | "HKU") => {
            lint.complain(line, Rule::RootShared, format!("{root}, not HKR"));
        }
        root => {
            lint.complain(line, Rule::RootInvalid, format!("\"{root}\" is no root"));
            return None;
        }
    }
    let Some(flags) = number(entry.field(3)) else {
        let text = format!("flags \"{}\"", entry.field(3));
        lint.complain(line, Rule::Number, text);
        return None;
    };
    let kind = flags & KIND;
    let known = [SZ, MULTI_SZ, EXPAND_SZ, BINARY, DWORD, NONE, QWORD].contains(&kind);
    if !known || flags & !(KIND | OTHER) != 0 {
        lint.complain(line, Rule::RegistryFlags, format!("flags {flags:#x}"));
        return None;
    }
    if flags & DELETE != 0 {
        let text = "FLG_ADDREG_DELVAL takes something away";
        lint.complain(line, Rule::NotAdditive, text);
        return None;
    }
    if flags & APPEND != 0 {
        lint.complain(line, Rule::Append, "FLG_ADDREG_APPEND");
    }
    if flags & KEY_ONLY != 0 {
        return None;
    }
    let value = Value {
        line,
        key: subkey.into(),
        name: entry.field(2).into(),
        kind,
        data: entry.fields.get(4..).unwrap_or_default().into(),
    };
    data(lint, &value);
    Some(value)
}

fn data(lint: &mut Lint<'_>, value: &Value) {
    if let Some((name, kind)) = WELL_KNOWN
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(&value.name))
        && *kind != value.kind
    {
        let text = format!("{name} is of type {kind:#x}, not {:#x}", value.kind);
        lint.complain(value.line, Rule::WellKnownType, text);
        return;
    }
    match value.kind {
        DWORD | QWORD => {
            let most = if value.kind == DWORD {
                u64::from(u32::MAX)
            } else {
                u64::MAX
            };
            if number(value.text()).is_none_or(|n| n > most) {
                let text = format!("{} = \"{}\"", value.name, value.text());
                lint.complain(value.line, Rule::Number, text);
            }
        }
        BINARY | NONE => {
            let byte = |text: &String| text.len() <= 2 && u8::from_str_radix(text, 16).is_ok();
            if !value.data.iter().all(byte) {
                let text = format!("{} = {}", value.name, value.data.join(","));
                lint.complain(value.line, Rule::Byte, text);
            }
        }
        _ => {}
    }
}
