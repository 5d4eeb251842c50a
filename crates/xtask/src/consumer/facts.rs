//! The example's headers against the facts that the project keeps of the interfaces: assertions in C on sizes, offsets, numbers, and the
//! parameters of functions.

use crate::workspace::root;
use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

/// Structures of the headers that have no fact, or one under another name.
const WITHOUT_FACTS: [&str; 6] = [
    // Compared through the structures that they are part of.
    "IN_ADDR",
    "IN6_ADDR",
    "LARGE_INTEGER",
    // Of these the facts are in crates/ndis-sys/tests/windows_sys.rs, and in what follows below.
    "KEY_VALUE_PARTIAL_INFORMATION",
    "MIB_UNICASTIPADDRESS_ROW",
    "MIB_UNICASTIPADDRESS_TABLE",
];

/// What no file of facts has: sizes of those, offsets of what the example uses of them, numbers, functions.
const MORE: &str = "\
_Static_assert(sizeof(KEY_VALUE_PARTIAL_INFORMATION) == 16, \"\");
_Static_assert(__builtin_offsetof(KEY_VALUE_PARTIAL_INFORMATION, Data) == 12, \"\");
_Static_assert(sizeof(MIB_UNICASTIPADDRESS_ROW) == 80, \"\");
_Static_assert(__builtin_offsetof(MIB_UNICASTIPADDRESS_ROW, InterfaceIndex) == 40, \"\");
_Static_assert(__builtin_offsetof(MIB_UNICASTIPADDRESS_TABLE, Table) == 8, \"\");
_Static_assert(OBJ_CASE_INSENSITIVE == 0x40, \"OBJ_CASE_INSENSITIVE\");
_Static_assert(OBJ_KERNEL_HANDLE == 0x200, \"OBJ_KERNEL_HANDLE\");
_Static_assert(THREAD_ALL_ACCESS == 0x1fffff, \"THREAD_ALL_ACCESS\");
_Static_assert(KEY_READ == 0x20019, \"KEY_READ\");
_Static_assert(DPFLTR_IHVDRIVER_ID == 77, \"DPFLTR_IHVDRIVER_ID\");
_Static_assert(KeyValueBasicInformation == 0, \"KeyValueBasicInformation\");
_Static_assert(KeyValueFullInformation == 1, \"KeyValueFullInformation\");
_Static_assert(KeyValuePartialInformation == 2, \"KeyValuePartialInformation\");
_Static_assert(IpPrefixOriginOther == 0, \"IpPrefixOriginOther\");
_Static_assert(IpSuffixOriginOther == 0, \"IpSuffixOriginOther\");
_Static_assert(IpDadStateInvalid == 0, \"IpDadStateInvalid\");
_Static_assert(__builtin_types_compatible_p(__typeof__(GetUnicastIpAddressTable) *, NTSTATUS (NTAPI *)(ADDRESS_FAMILY, PMIB_UNICASTIPADDRESS_TABLE *)), \"GetUnicastIpAddressTable\");
_Static_assert(__builtin_types_compatible_p(__typeof__(FreeMibTable) *, VOID (NTAPI *)(PVOID)), \"FreeMibTable\");
_Static_assert(__builtin_types_compatible_p(__typeof__(PFN_WSK_CONTROL_CLIENT), NTSTATUS (NTAPI *)(PWSK_CLIENT, ULONG, SIZE_T, PVOID, SIZE_T, PVOID, SIZE_T *, PIRP)), \"PFN_WSK_CONTROL_CLIENT\");
";

/// Constants and enumerators of the headers that have neither a fact nor an assertion in `MORE`, and need none.
const CONSTANTS_WITHOUT_FACTS: [&str; 1] = ["NULL"];

/// A C file that compiles if everything that the headers declare is as the facts say.
pub fn assertions(include: &Path) -> Result<String> {
    let mut headers = String::new();
    for header in super::with_extension(include, "h")? {
        headers += &std::fs::read_to_string(include.join(header))?;
    }
    let mut text = String::from("#include <wskndk.h>\n");
    text += MORE;
    let structures = structures(&headers, &mut text)?;
    let constants = constants(&headers, &mut text)?;
    let functions = functions(&headers, &mut text)?;
    println!(
        "facts    {structures} structures, {constants} constants, {functions} functions of the headers"
    );
    // A reader that found nothing would prove nothing.
    ensure!(structures >= 50 && constants >= 60 && functions >= 70);
    Ok(text)
}

/// The rows of the fact files of that name, without their heads.
fn rows(name: &str) -> Result<Vec<Vec<String>>> {
    let mut rows = Vec::new();
    for package in ["ndkpi", "ndis-sys"] {
        let path = root().join(format!("crates/{package}/data/{name}.tsv"));
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        rows.extend(
            text.lines()
                .skip(1)
                .map(|line| line.split('\t').map(str::to_owned).collect()),
        );
    }
    Ok(rows)
}

/// Names after `struct _` or `union _` that are followed by a body.
fn declared(headers: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for line in headers.lines().filter(|line| line.ends_with('{')) {
        for keyword in ["struct _", "union _"] {
            if let Some((_, rest)) = line.split_once(keyword) {
                names.insert(rest.trim_end_matches('{').trim());
            }
        }
    }
    names
}

fn structures(headers: &str, text: &mut String) -> Result<usize> {
    let declared = declared(headers);
    let rows = rows("layouts")?;
    let mut proven = BTreeSet::new();
    for row in &rows {
        let [name, size, field, offset, length, ..] = &row[..] else {
            continue;
        };
        if !declared.contains(name.as_str()) {
            continue;
        }
        if proven.insert(name.as_str()) {
            writeln!(
                text,
                "_Static_assert(sizeof({name}) == {size}, \"{name}\");"
            )?;
        }
        // Without a name in the facts, or made up for them.
        if field.is_empty() || field.contains("Padding") {
            continue;
        }
        writeln!(
            text,
            "_Static_assert(__builtin_offsetof({name}, {field}) == {offset}, \"{name}.{field}\");\n\
             _Static_assert(sizeof((({name} *)0)->{field}) == {length}, \"{name}.{field}\");"
        )?;
    }
    for name in &declared {
        ensure!(
            proven.contains(name) || WITHOUT_FACTS.contains(name),
            "{name} is declared by a header of the example, and there is no fact about it"
        );
    }
    Ok(proven.len())
}

fn constants(headers: &str, text: &mut String) -> Result<usize> {
    let words: BTreeSet<&str> = headers
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .collect();
    let mut proven = BTreeSet::new();
    for row in rows("constants")? {
        let [name, value, ..] = &row[..] else {
            continue;
        };
        if words.contains(name.as_str()) && proven.insert(name.clone()) {
            // Statuses are negative, their facts the bits.
            writeln!(
                text,
                "_Static_assert((ULONG64)({name}) == {value} || (ULONG)({name}) == (ULONG64){value}, \"{name}\");"
            )?;
        }
    }
    for name in constants_of(headers) {
        ensure!(
            proven.contains(name)
                || MORE.contains(&format!("({name} =="))
                || CONSTANTS_WITHOUT_FACTS.contains(&name),
            "{name} is defined by a header of the example, and there is no fact about it"
        );
    }
    Ok(proven.len())
}

/// Names that a header gives to numbers: macros without parameters that stand for something, and enumerators.
fn constants_of(headers: &str) -> BTreeSet<&str> {
    let word = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    let mut names = BTreeSet::new();
    for line in headers.lines() {
        let Some((name, value)) = line
            .strip_prefix("#define ")
            .and_then(|rest| rest.split_once(' '))
        else {
            continue;
        };
        if !name.contains('(') && value.contains(|c: char| c.is_ascii_digit()) {
            names.insert(name);
        }
    }
    for rest in headers.split("enum _").skip(1) {
        let body = rest
            .split_once('{')
            .and_then(|(_, body)| body.split_once('}'));
        for member in body.map_or("", |(body, _)| body).split(',') {
            let name = member.trim().split(word).next().unwrap_or_default();
            if !name.is_empty() {
                names.insert(name);
            }
        }
    }
    names
}

/// A function type or an imported function: its result and its parameters, each with its type.
type Declaration<'a> = (&'a str, Vec<(&'a str, &'a str)>);

/// What a header declares as `result (NTAPI *NAME)(parameters);`, or as `result NTAPI NAME(parameters);` after an import's attribute.
///
/// # Errors
/// One that says nothing of the convention it is called with, which a consumer that is linked needs.
fn declarations(headers: &str) -> Result<BTreeMap<&str, Declaration<'_>>> {
    let mut found = BTreeMap::new();
    for statement in headers.split(';') {
        let statement = statement.rsplit("\n\n").next().unwrap_or(statement).trim();
        let Some((head, parameters)) = statement.rsplit_once('(') else {
            continue;
        };
        let parameters = parameters.trim_end_matches(')');
        let head = head.lines().last().unwrap_or(head).trim();
        let imports = ["NTKERNELAPI ", "NTSYSAPI ", "DECLSPEC_IMPORT "];
        let import = imports.iter().find_map(|import| head.strip_prefix(import));
        ensure!(
            head.contains("NTAPI") || import.is_none() && !head.contains("(*"),
            "{head}: NTAPI is missing"
        );
        let declared = match head.strip_prefix("typedef ") {
            Some(pointer) => pointer
                .split_once(" (NTAPI *")
                .map(|(result, name)| (result, name.trim_end_matches(')'))),
            None => import.and_then(|rest| rest.split_once(" NTAPI ")),
        };
        let Some((result, name)) = declared else {
            continue;
        };
        let parameters = parameters
            .split(',')
            .map(str::trim)
            .filter(|parameter| *parameter != "VOID")
            .map(|parameter| {
                let at = parameter
                    .trim_end_matches("[]")
                    .rfind([' ', '*'])
                    .map_or(0, |at| at + 1);
                (parameter[..at].trim(), &parameter[at..])
            })
            .collect();
        found.insert(name, (result, parameters));
    }
    Ok(found)
}

fn functions(headers: &str, text: &mut String) -> Result<usize> {
    let declared = declarations(headers)?;
    let mut proven = BTreeSet::new();
    for row in rows("prototypes")? {
        let [name, _, result, parameters] = &row[..] else {
            continue;
        };
        let Some((declared_result, declared)) = declared.get(name.as_str()) else {
            continue;
        };
        proven.insert(name.clone());
        let parameters: Vec<&str> = parameters.split(' ').filter(|p| !p.is_empty()).collect();
        ensure!(
            parameters.len() == declared.len(),
            "{name} has {} parameters, in the header {}",
            parameters.len(),
            declared.len()
        );
        if result != "0" {
            writeln!(
                text,
                "_Static_assert(sizeof({declared_result}) == {result}, \"{name}\");"
            )?;
        } else {
            ensure!(
                *declared_result == "VOID",
                "{name} returns {declared_result}"
            );
        }
        for (fact, (kind, called)) in parameters.iter().zip(declared) {
            let Some((fact, size)) = fact.split_once(':') else {
                ensure!(*called == "...", "{name} is variadic");
                continue;
            };
            ensure!(
                called.trim_end_matches("[]") == fact,
                "{name}: the parameter {fact} is called {called}"
            );
            if called.ends_with("[]") {
                continue;
            }
            writeln!(
                text,
                "_Static_assert(sizeof({kind}) == {size}, \"{name}: {fact}\");"
            )?;
        }
    }
    for name in declared.keys() {
        ensure!(
            proven.contains(*name) || MORE.contains(&format!("__typeof__({name})")),
            "{name} is declared by a header of the example, and there is no fact about it"
        );
    }
    Ok(proven.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_without_its_convention_is_refused() {
        for declared in [
            "typedef VOID (*NDK_FN_FLUSH)(NDK_QP *pNdkQp);",
            "NTKERNELAPI VOID KeClearEvent(PKEVENT Event);",
        ] {
            let error = declarations(declared).unwrap_err().to_string();
            assert!(error.contains("NTAPI is missing"), "{error}");
        }
        let flush = "typedef VOID (NTAPI *NDK_FN_FLUSH)(NDK_QP *pNdkQp);";
        assert!(declarations(flush).unwrap().contains_key("NDK_FN_FLUSH"));
    }

    #[test]
    fn the_headers_say_what_the_facts_are_asked_about() {
        let text = assertions(&root().join("examples/consumer/include")).unwrap();
        for part in [
            "sizeof(NDK_CONNECTOR_DISPATCH) == 104",
            "__builtin_offsetof(NDK_SGE, MemoryRegionToken) == 12",
            "(NDK_OP_FLAG_DEFER) == 0x200",
            "sizeof(NTSTATUS) == 4, \"NDK_FN_CONNECT\"",
            "\"KeWaitForMultipleObjects: Timeout\"",
        ] {
            assert!(text.contains(part), "{part} is missing");
        }
    }
}
