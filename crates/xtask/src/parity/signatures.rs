//! Functions of ndis-sys and ndkpi have the types of C that `parity.tsv` tells: not only the sizes, which `crates/ntsim/tests/parity.rs`
//! compares, but whether there is a sign, and what a pointer is to. Not whether what it is to is `const`: the headers do not always say so.
//! Nor whether a callback may be null.

use super::FILE;
use crate::consumer::interfaces::Interfaces;
use crate::workspace::root;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Numbers of C, by what they are in Rust.
const NUMBERS: [(&str, &[&str]); 7] = [
    ("u8", &["BOOLEAN", "UCHAR", "unsigned char"]),
    ("u16", &["USHORT", "WCHAR"]),
    (
        "u32",
        &[
            "ULONG",
            "UINT",
            "UINT32",
            "ACCESS_MASK",
            "unsigned long",
            "unsigned int",
        ],
    ),
    ("i32", &["LONG", "NTSTATUS", "NDIS_STATUS", "long", "int"]),
    ("u64", &["UINT64", "ULONG64", "ULONGLONG"]),
    ("i64", &["LONGLONG", "LARGE_INTEGER", "NDK_LOGICAL_ADDRESS"]),
    ("usize", &["SIZE_T", "ULONG_PTR"]),
];

/// Types that are no other type in Rust either, though they are this there. Enumerations are an `int` in C.
const OWN: [(&str, &[&str]); 7] = [
    ("u8", &["KIRQL"]),
    ("i8", &["KPROCESSOR_MODE"]),
    ("u32", &["NDIS_PORT_NUMBER", "NET_IFINDEX"]),
    (
        "i32",
        &[
            "KPRIORITY",
            "DEVICE_REGISTRY_PROPERTY",
            "EVENT_INFO_CLASS",
            "EVENT_TYPE",
            "EX_POOL_PRIORITY",
            "KDPC_IMPORTANCE",
            "KEY_VALUE_INFORMATION_CLASS",
            "KWAIT_REASON",
            "LOCK_OPERATION",
            "MEMORY_CACHING_TYPE",
            "NDIS_HALT_ACTION",
            "NDIS_PARAMETER_TYPE",
            "NDIS_SHUTDOWN_ACTION",
            "POOL_TYPE",
            "TIMER_TYPE",
            "WAIT_TYPE",
            "WORK_QUEUE_TYPE",
        ],
    ),
    ("u64", &["REGHANDLE", "POOL_FLAGS"]),
    ("usize", &["KAFFINITY", "KSPIN_LOCK"]),
    (
        "*void",
        &[
            "HANDLE",
            "NDIS_HANDLE",
            "PWDF_COMPONENT_GLOBALS",
            "WDFDEVICE",
            "WDFDRIVER",
            "WDFOBJECT",
        ],
    ),
];

/// Other names of types, with what they are in C or in Rust. What nobody looks into is `void` in Rust, and text is of bytes without sign.
const NAMES: [(&str, &str); 15] = [
    ("VOID", "void"),
    ("EXT_CANCEL_PARAMETERS", "void"),
    ("EXT_SET_PARAMETERS", "EXT_SET_PARAMETERS_V0"),
    ("WDFDEVICE_INIT", "void"),
    ("LONG_PTR", "isize"),
    ("LPCGUID", "GUID *"),
    (
        "MINIPORT_SYNCHRONIZE_INTERRUPT_HANDLER",
        "MINIPORT_SYNCHRONIZE_INTERRUPT",
    ),
    ("NDIS_IO_WORKITEM_ROUTINE", "NDIS_IO_WORKITEM_FUNCTION"),
    ("NDIS_PHYSICAL_ADDRESS", "LARGE_INTEGER"),
    ("NDIS_STRING", "UNICODE_STRING"),
    ("OBJECT_HANDLE_INFORMATION", "void"),
    ("OBJECT_TYPE", "void"),
    ("PCSTR", "UCHAR *"),
    ("PCWSTR", "WCHAR *"),
    ("PHYSICAL_ADDRESS", "LARGE_INTEGER"),
];

/// What both crates declare.
struct Declared {
    crates: [Interfaces; 2],
    /// Names of the lists above that were of use.
    used: RefCell<BTreeSet<&'static str>>,
}

/// What a list says that name is.
fn listed(list: &[(&'static str, &[&str])], name: &str) -> Option<&'static str> {
    let found = list.iter().find(|(_, names)| names.contains(&name));
    found.map(|(rust, _)| *rust)
}

/// The names of all lists.
fn names() -> impl Iterator<Item = &'static str> {
    let grouped = NUMBERS.into_iter().chain(OWN);
    let grouped = grouped.flat_map(|(_, names)| names.iter().copied());
    grouped.chain(NAMES.map(|(name, _)| name))
}

impl Declared {
    fn read() -> Declared {
        Declared {
            crates: ["ndis-sys", "ndkpi"].map(|package| Interfaces::read(package).unwrap()),
            used: RefCell::default(),
        }
    }

    /// A type in Rust, with `*` before what it is a pointer to, and without other names.
    fn rust(&self, ty: &str) -> String {
        for pointer in ["*mut ", "*const "] {
            if let Some(to) = ty.strip_prefix(pointer) {
                return format!("*{}", self.rust(to));
            }
        }
        if let Some(inner) = ty.strip_prefix("Option<") {
            return self.rust(inner.trim_end_matches('>'));
        }
        if listed(&OWN, ty).is_some() {
            return ty.to_owned();
        }
        let alias = self.crates.iter().find_map(|all| all.aliases.get(ty));
        match (ty, alias) {
            ("" | "!" | "c_void", _) => "void".to_owned(),
            (_, Some(other)) if !other.starts_with("unsafe extern") => self.rust(other),
            // Of socket addresses.
            (name, _) if self.is_structure(name) => name.to_ascii_uppercase(),
            (name, _) => name.to_owned(),
        }
    }

    /// The same of a type in C.
    fn c(&self, ty: &str) -> String {
        let ty = ["const ", "struct ", "enum "]
            .iter()
            .fold(ty.trim(), |ty, word| ty.strip_prefix(word).unwrap_or(ty));
        if let Some(to) = ty.strip_suffix('*').or_else(|| ty.strip_suffix("[]")) {
            return format!("*{}", self.c(to));
        }
        self.used
            .borrow_mut()
            .extend(names().find(|name| *name == ty));
        if let Some(rust) = listed(&NUMBERS, ty) {
            return rust.to_owned();
        }
        if let Some((_, other)) = NAMES.iter().find(|(name, _)| *name == ty) {
            return self.c(other);
        }
        let name = ty.trim_start_matches('_');
        if self.is_known(name) {
            return name.to_owned();
        }
        // Pointers have names of their own: `P` before what they are to, and sometimes a letter behind that.
        let to = ["P", "PC", "PR"].map(|prefix| name.strip_prefix(prefix));
        let known = to.into_iter().flatten().find(|to| self.is_known(to));
        match known.or(to[0]) {
            // Of functions, only the pointer has a name in Rust.
            Some(to) if self.is_function(to) => to.to_owned(),
            Some(to) => format!("*{}", self.c(to)),
            None => name.to_owned(),
        }
    }

    fn is_function(&self, name: &str) -> bool {
        self.crates
            .iter()
            .any(|all| all.functions.contains_key(name))
    }

    fn is_structure(&self, name: &str) -> bool {
        self.crates.iter().any(|all| all.structure(name).is_some())
    }

    fn is_known(&self, name: &str) -> bool {
        name == "void"
            || names().any(|known| known == name)
            || self.is_function(name)
            || self.is_structure(name)
    }

    /// What of a function is not as in C.
    fn differences(&self, name: &str, types: &str) -> Vec<String> {
        let found = self.crates.iter().find_map(|all| all.functions.get(name));
        let Some(function) = found else {
            return vec![format!("{name} is not declared")];
        };
        let (result, parameters) = types.split_once('(').expect("a parenthesis");
        let parameters = parameters.strip_suffix(')').expect("another");
        let parameters: Vec<_> = parameters
            .split(", ")
            .filter(|ty| !["", "..."].contains(ty))
            .collect();
        if parameters.len() != function.parameters.len() {
            let here = function.parameters.len();
            return vec![format!("{name} has {here} parameters, not {types}")];
        }
        let here = function.parameters.iter();
        let here = here.map(|(name, ty)| (name.as_str(), ty));
        here.zip(parameters)
            .chain([(("result", &function.result), result)])
            .filter(|((_, ty), c)| self.rust(ty) != self.c(c))
            .map(|((of, ty), c)| format!("{name}: {of} is {ty}, not {c}"))
            .collect()
    }
}

#[test]
fn every_function_has_the_types_of_c() {
    let declared = Declared::read();
    let text = std::fs::read_to_string(root().join(FILE)).unwrap();
    let mut wrong = Vec::new();
    for row in text.lines().skip(1) {
        let cells: Vec<_> = row.split('\t').collect();
        let [kind, name, .., source, types] = cells[..] else {
            panic!("{row:?}");
        };
        if types == "-" {
            // Those are compared with windows-sys.
            assert!(kind == "layout" || source == "none", "{row:?}");
            continue;
        }
        let name = match kind {
            "framework" => format!("PFN_{}", name.to_uppercase()),
            _ => name.to_owned(),
        };
        wrong.extend(declared.differences(&name, types));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let used = declared.used.borrow();
    let unused: Vec<_> = names().filter(|name| !used.contains(name)).collect();
    assert!(unused.is_empty(), "{unused:?}");
}

#[test]
fn a_type_that_is_not_that_of_c_is_named() {
    let declared = Declared::read();
    let differences = |types: &str| declared.differences("KeSetTimerEx", types);
    let right = "BOOLEAN(PKTIMER, LARGE_INTEGER, LONG, PKDPC)";
    assert!(differences(right).is_empty());
    for (types, what) in [
        (right.replace("LONG", "ULONG"), "Period is i32, not ULONG"),
        (
            right.replace("PKDPC", "PKTIMER"),
            "Dpc is *mut KDPC, not PKTIMER",
        ),
        (
            right.replace("PKDPC", "PKDPC *"),
            "Dpc is *mut KDPC, not PKDPC *",
        ),
        (
            right.replace("PKDPC", "PVOID"),
            "Dpc is *mut KDPC, not PVOID",
        ),
        (
            right.replace("BOOLEAN", "void"),
            "result is BOOLEAN, not void",
        ),
    ] {
        assert_eq!(differences(&types), [format!("KeSetTimerEx: {what}")]);
    }
    let delete = "void(PWDF_DRIVER_GLOBALS, WDFDRIVER)";
    let of = declared.differences("PFN_WDFOBJECTDELETE", delete);
    assert_eq!(
        of,
        ["PFN_WDFOBJECTDELETE: Object is WDFOBJECT, not WDFDRIVER"]
    );
    let initialize = "void(PKTIMER, LONG)";
    let of = declared.differences("KeInitializeTimerEx", initialize);
    assert_eq!(of, ["KeInitializeTimerEx: Type is TIMER_TYPE, not LONG"]);
    let fewer = differences("BOOLEAN(PKTIMER, LARGE_INTEGER, LONG)");
    assert!(fewer[0].starts_with("KeSetTimerEx has 4 parameters"));
    let none = declared.differences("KeSetTimerExEx", right);
    assert_eq!(none, ["KeSetTimerExEx is not declared"]);
}

#[test]
fn a_name_of_its_own_is_what_it_is_in_c() {
    let declared = Declared::read();
    for (what, names) in OWN {
        for name in names {
            let aliases = declared.crates.iter().map(|all| all.aliases.get(*name));
            let aliases: Vec<_> = aliases.flatten().collect();
            assert!(!aliases.is_empty(), "{name}");
            assert!(aliases.iter().all(|ty| declared.rust(ty) == what), "{name}");
        }
    }
}
