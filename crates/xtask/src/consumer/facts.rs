//! The example's headers against what the project knows of the interfaces: assertions in C on sizes, offsets, alignments, numbers, and the
//! parameters of functions. What no file of facts has is compared with crates/ndis-sys; nothing is declared that neither knows.

use super::exports::exports;
use super::interfaces::{Field, INTEGERS, Interfaces, in_c};
use crate::workspace::root;
use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

/// What neither the files of facts nor ndis-sys have: members of unions that Rust has no use for, numbers, and a function that is reached
/// through a table.
const MORE: &str = "\
_Static_assert(sizeof(LARGE_INTEGER) == 8 && _Alignof(LARGE_INTEGER) == 8, \"LARGE_INTEGER\");
_Static_assert(__builtin_offsetof(LARGE_INTEGER, LowPart) == 0 && __builtin_offsetof(LARGE_INTEGER, HighPart) == 4, \"LARGE_INTEGER\");
_Static_assert(__builtin_offsetof(LARGE_INTEGER, u.LowPart) == 0 && __builtin_offsetof(LARGE_INTEGER, u.HighPart) == 4, \"LARGE_INTEGER.u\");
_Static_assert(__builtin_types_compatible_p(__typeof__(((LARGE_INTEGER *)0)->u.LowPart), ULONG), \"LARGE_INTEGER.u.LowPart\");
_Static_assert(__builtin_types_compatible_p(__typeof__(((LARGE_INTEGER *)0)->u.HighPart), LONG), \"LARGE_INTEGER.u.HighPart\");
_Static_assert(__builtin_types_compatible_p(__typeof__(((LARGE_INTEGER *)0)->QuadPart), LONGLONG), \"LARGE_INTEGER.QuadPart\");
_Static_assert(sizeof(ULARGE_INTEGER) == 8 && _Alignof(ULARGE_INTEGER) == 8, \"ULARGE_INTEGER\");
_Static_assert(__builtin_offsetof(ULARGE_INTEGER, LowPart) == 0 && __builtin_offsetof(ULARGE_INTEGER, HighPart) == 4, \"ULARGE_INTEGER\");
_Static_assert(__builtin_offsetof(ULARGE_INTEGER, u.LowPart) == 0 && __builtin_offsetof(ULARGE_INTEGER, u.HighPart) == 4, \"ULARGE_INTEGER.u\");
_Static_assert(__builtin_types_compatible_p(__typeof__(((ULARGE_INTEGER *)0)->u.HighPart), ULONG), \"ULARGE_INTEGER.u.HighPart\");
_Static_assert(__builtin_types_compatible_p(__typeof__(((ULARGE_INTEGER *)0)->QuadPart), ULONGLONG), \"ULARGE_INTEGER.QuadPart\");
_Static_assert(__builtin_offsetof(EX_RUNDOWN_REF, Ptr) == 0 && sizeof(((EX_RUNDOWN_REF *)0)->Ptr) == 8, \"EX_RUNDOWN_REF.Ptr\");
_Static_assert(__builtin_offsetof(NET_LUID, Info) == 0 && sizeof(((NET_LUID *)0)->Info) == 8, \"NET_LUID.Info\");
_Static_assert(sizeof(OBJECT_HANDLE_INFORMATION) == 8 && _Alignof(OBJECT_HANDLE_INFORMATION) == 4, \"OBJECT_HANDLE_INFORMATION\");
_Static_assert(__builtin_offsetof(OBJECT_HANDLE_INFORMATION, HandleAttributes) == 0, \"OBJECT_HANDLE_INFORMATION.HandleAttributes\");
_Static_assert(__builtin_offsetof(OBJECT_HANDLE_INFORMATION, GrantedAccess) == 4, \"OBJECT_HANDLE_INFORMATION.GrantedAccess\");
_Static_assert(__builtin_offsetof(EVENT_DATA_DESCRIPTOR, Reserved) == 12 && __builtin_types_compatible_p(__typeof__(((EVENT_DATA_DESCRIPTOR *)0)->Reserved), ULONG), \"EVENT_DATA_DESCRIPTOR.Reserved\");
_Static_assert(__builtin_offsetof(MIB_IPNET_ROW2, ReachabilityTime.LastReachable) == 84 && __builtin_types_compatible_p(__typeof__(((MIB_IPNET_ROW2 *)0)->ReachabilityTime.LastReachable), ULONG), \"MIB_IPNET_ROW2.ReachabilityTime.LastReachable\");
_Static_assert(__builtin_offsetof(MIB_IPNET_ROW2, ReachabilityTime.LastUnreachable) == 84 && __builtin_types_compatible_p(__typeof__(((MIB_IPNET_ROW2 *)0)->ReachabilityTime.LastUnreachable), ULONG), \"MIB_IPNET_ROW2.ReachabilityTime.LastUnreachable\");
_Static_assert(__builtin_offsetof(DISPATCHER_HEADER, Lock) == 0 && __builtin_types_compatible_p(__typeof__(((DISPATCHER_HEADER *)0)->Lock), LONG), \"DISPATCHER_HEADER.Lock\");
_Static_assert(__builtin_offsetof(KDPC, TargetInfoAsUlong) == 0 && __builtin_types_compatible_p(__typeof__(((KDPC *)0)->TargetInfoAsUlong), ULONG), \"KDPC.TargetInfoAsUlong\");
_Static_assert(__builtin_offsetof(LOOKASIDE_LIST_EX, L.Opaque) == 0 && sizeof(((LOOKASIDE_LIST_EX *)0)->L.Opaque) == 96, \"LOOKASIDE_LIST_EX.L.Opaque\");
_Static_assert(__builtin_offsetof(IN_ADDR, S_un.S_addr) == 0 && __builtin_types_compatible_p(__typeof__(((IN_ADDR *)0)->S_un.S_addr), ULONG), \"IN_ADDR.S_un.S_addr\");
_Static_assert(__builtin_offsetof(IN_ADDR, S_un.S_un_b.s_b1) == 0 && __builtin_types_compatible_p(__typeof__(((IN_ADDR *)0)->S_un.S_un_b.s_b1), UCHAR), \"IN_ADDR.S_un.S_un_b.s_b1\");
_Static_assert(__builtin_offsetof(IN_ADDR, S_un.S_un_b.s_b2) == 1 && __builtin_types_compatible_p(__typeof__(((IN_ADDR *)0)->S_un.S_un_b.s_b2), UCHAR), \"IN_ADDR.S_un.S_un_b.s_b2\");
_Static_assert(__builtin_offsetof(IN_ADDR, S_un.S_un_b.s_b3) == 2 && __builtin_types_compatible_p(__typeof__(((IN_ADDR *)0)->S_un.S_un_b.s_b3), UCHAR), \"IN_ADDR.S_un.S_un_b.s_b3\");
_Static_assert(__builtin_offsetof(IN_ADDR, S_un.S_un_b.s_b4) == 3 && __builtin_types_compatible_p(__typeof__(((IN_ADDR *)0)->S_un.S_un_b.s_b4), UCHAR), \"IN_ADDR.S_un.S_un_b.s_b4\");
_Static_assert(__builtin_offsetof(IN6_ADDR, u.Byte) == 0 && sizeof(((IN6_ADDR *)0)->u.Byte) == 16, \"IN6_ADDR.u.Byte\");
_Static_assert(__builtin_offsetof(IN6_ADDR, u.Word) == 0 && sizeof(((IN6_ADDR *)0)->u.Word) == 16, \"IN6_ADDR.u.Word\");
_Static_assert(OBJ_CASE_INSENSITIVE == 0x40, \"OBJ_CASE_INSENSITIVE\");
_Static_assert(OBJ_KERNEL_HANDLE == 0x200, \"OBJ_KERNEL_HANDLE\");
_Static_assert(THREAD_ALL_ACCESS == 0x1fffff, \"THREAD_ALL_ACCESS\");
_Static_assert(KEY_QUERY_VALUE == 1, \"KEY_QUERY_VALUE\");
_Static_assert(KEY_READ == 0x20019, \"KEY_READ\");
_Static_assert(NonPagedPool == 0, \"NonPagedPool\");
_Static_assert(PagedPool == 1, \"PagedPool\");
_Static_assert(NonPagedPoolCacheAligned == 4, \"NonPagedPoolCacheAligned\");
_Static_assert(PagedPoolCacheAligned == 5, \"PagedPoolCacheAligned\");
_Static_assert(NonPagedPoolNx == 512, \"NonPagedPoolNx\");
_Static_assert(NonPagedPoolNxCacheAligned == 516, \"NonPagedPoolNxCacheAligned\");
_Static_assert(IpPrefixOriginOther == 0, \"IpPrefixOriginOther\");
_Static_assert(IpSuffixOriginOther == 0, \"IpSuffixOriginOther\");
_Static_assert(RouteProtocolOther == 1, \"RouteProtocolOther\");
_Static_assert(NlroManual == 0, \"NlroManual\");
_Static_assert(__builtin_types_compatible_p(__typeof__(PFN_WSK_CONTROL_CLIENT), NTSTATUS (NTAPI *)(PWSK_CLIENT, ULONG, SIZE_T, PVOID, SIZE_T, PVOID, SIZE_T *, PIRP)), \"PFN_WSK_CONTROL_CLIENT\");
";

/// Constants of the headers that need no fact.
const CONSTANTS_WITHOUT_FACTS: [&str; 1] = ["NULL"];

/// A C file that compiles if everything that the headers declare is as the facts say.
pub fn assertions(include: &Path) -> Result<String> {
    let mut headers = String::new();
    for header in super::with_extension(include, "h")? {
        headers += &std::fs::read_to_string(include.join(header))?;
    }
    let mut text = String::from("#include <wskndk.h>\n");
    text += MORE;
    let interfaces = Interfaces::read("ndis-sys")?;
    let of_ndk = Interfaces::read("ndkpi")?;
    types(&headers, &interfaces, &mut text)?;
    let both = [&interfaces, &of_ndk];
    let structures = structures(&headers, both, &mut text)?;
    alignments(&headers, both, &mut text)?;
    let constants = constants(&headers, &interfaces, &mut text)?;
    let functions = functions(&headers, &interfaces, &mut text)?;
    let exports = exports(&headers, include.parent().unwrap_or(include))?;
    println!(
        "facts    {structures} structures, {constants} constants, {functions} functions of the headers; {exports} exports"
    );
    ensure!(
        structures >= 70 && constants >= 200 && functions >= 200 && exports >= 130,
        "the headers declare more: they are not read as they are written, and what is not found is not compared"
    );
    Ok(text)
}

/// What is to be done about something that is compared with nothing.
fn unknown(name: &str) -> String {
    format!(
        "{name} is in a header of the example, and nothing says that it is right: that can be a row of crates/ndis-sys/data/*.tsv or \
         crates/ndkpi/data/*.tsv, a declaration in crates/ndis-sys/src, or an assertion in MORE in {}",
        file!()
    )
}

/// Asserts that the integers are what Rust's are, and that types which are other names of types are those of ndis-sys. Of enumerations,
/// structures and unions only the size: Rust has an integer in their place.
fn types(headers: &str, interfaces: &Interfaces, text: &mut String) -> Result<()> {
    for (rust, c, bytes) in INTEGERS {
        let sign = if rust.starts_with('i') { "<" } else { ">" };
        writeln!(
            text,
            "_Static_assert(sizeof({c}) == {bytes} && ({c})-1 {sign} ({c})0, \"{c}\");"
        )?;
    }
    let words = words(headers);
    for (name, ty) in &interfaces.aliases {
        if !words.contains(name.as_str()) || interfaces.structures.contains_key(ty) {
            continue;
        }
        let c = in_c(ty, &|_| false);
        let composed = ["enum", "struct", "union"]
            .iter()
            .any(|keyword| headers.contains(&format!("{keyword} _{name} {{")));
        let condition = if composed {
            format!("sizeof({name}) == sizeof({c})")
        } else {
            format!("__builtin_types_compatible_p({name}, {c})")
        };
        writeln!(
            text,
            "_Static_assert({condition}, \"{name} is {c} in ndis-sys\");"
        )?;
    }
    Ok(())
}

/// The names in a text.
fn words(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .collect()
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

fn structures(headers: &str, interfaces: [&Interfaces; 2], text: &mut String) -> Result<usize> {
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
        // Sizes do not tell whether there is a sign.
        let integer = interfaces.iter().find_map(|all| {
            let fields = &all.structure(name)?.fields;
            let ty = &fields.iter().find(|known| known.name == *field)?.ty;
            INTEGERS.iter().find(|(rust, ..)| rust == ty)
        });
        if let Some((_, known, _)) = integer {
            of_type(name, field, known, text)?;
        }
    }
    for name in declared {
        if proven.contains(name) {
            continue;
        }
        proven.insert(name);
        if MORE.contains(&format!("sizeof({name}) ==")) {
            continue;
        }
        let structure = interfaces[0].structure(name);
        let structure = structure.with_context(|| unknown(name))?;
        writeln!(
            text,
            "_Static_assert(sizeof({name}) == {}, \"{name}\");",
            structure.size
        )?;
        for Field {
            name: field,
            offset,
            ty,
        } in &structure.fields
        {
            writeln!(
                text,
                "_Static_assert(__builtin_offsetof({name}, {field}) == {offset}, \"{name}.{field}\");"
            )?;
            of_type(name, field, &in_c(ty, &|_| false), text)?;
        }
    }
    let mut more = Vec::new();
    for (name, body) in bodies(headers) {
        let asserted = MORE.lines().map(words);
        let asserted = asserted.filter(|words| words.contains(name));
        let mut known: BTreeSet<&str> = asserted.flatten().collect();
        let facts = rows.iter().filter(|row| row[0] == name);
        known.extend(facts.flat_map(|row| words(&row[2])));
        let structures = interfaces.iter().filter_map(|all| all.structure(name));
        known.extend(structures.flat_map(|s| s.fields.iter().map(|f| f.name.as_str())));
        let members = members(body).into_iter();
        let without = members.filter(|member| !known.contains(member));
        more.extend(without.map(|member| format!("{name}.{member}")));
    }
    ensure!(more.is_empty(), unknown(&more.join(", ")));
    Ok(proven.len())
}

/// Asserts the type of a member, or its size if the header has a union of that and others in its place.
fn of_type(name: &str, field: &str, known: &str, text: &mut String) -> Result<()> {
    let place = format!("(({name} *)0)->{field}");
    writeln!(
        text,
        "_Static_assert(__builtin_types_compatible_p(__typeof__({place}), {known}) \
         || (__builtin_classify_type({place}) == {UNION} && sizeof({place}) == sizeof({known})), \
         \"{name}.{field} is {known} in Rust\");"
    )?;
    Ok(())
}

/// The structures and unions of the headers that have names, and what is between their braces.
fn bodies(headers: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for keyword in ["struct _", "union _"] {
        for (at, _) in headers.match_indices(keyword) {
            let rest = &headers[at + keyword.len()..];
            let Some((name, body)) = rest.split_once(" {\n") else {
                continue;
            };
            if name.contains(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
                continue;
            }
            found.push((name, body.split("\n}").next().unwrap_or(body)));
        }
    }
    found
}

/// The names of members, also of structures and unions in between. Not of bit fields, of which nothing can be said when C is compiled: what
/// they share their place with is asserted.
fn members(body: &str) -> Vec<&str> {
    let lines = body
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default().trim());
    let declared = lines.filter_map(|line| line.strip_suffix(';'));
    let declared = declared.filter(|line| !line.contains(" : "));
    let names = declared.flat_map(|line| match line.split_once("(NTAPI *") {
        Some((_, rest)) => rest.split(')').take(1).collect::<Vec<_>>(),
        None => line.split(',').map(last_name).collect(),
    });
    names.filter(|name| *name != "}").collect()
}

/// The name that a declaration ends with, which may be an array's.
fn last_name(declaration: &str) -> &str {
    let named = declaration.split('[').next().unwrap_or(declaration);
    named.rsplit([' ', '*']).next().unwrap_or(named)
}

/// What gcc and clang call the class of unions.
const UNION: u32 = 13;

/// Asserts the alignments of all structures, as Rust has them.
fn alignments(headers: &str, interfaces: [&Interfaces; 2], text: &mut String) -> Result<()> {
    for name in declared(headers) {
        let known = interfaces.iter().filter_map(|all| all.alignment(name));
        let known: BTreeSet<usize> = known.collect();
        ensure!(
            !known.is_empty() || MORE.contains(&format!("_Alignof({name}) ==")),
            unknown(name)
        );
        for bytes in known {
            writeln!(
                text,
                "_Static_assert(_Alignof({name}) == {bytes}, \"{name}: the alignment is {bytes} in Rust\");"
            )?;
        }
    }
    Ok(())
}

fn constants(headers: &str, interfaces: &Interfaces, text: &mut String) -> Result<usize> {
    let words = words(headers);
    let mut proven = BTreeSet::new();
    for row in rows("constants")? {
        let [name, value, ..] = &row[..] else {
            continue;
        };
        if words.contains(name.as_str()) && proven.insert(name.clone()) {
            // Statuses are negative, their facts the 32 bits.
            writeln!(
                text,
                "_Static_assert((ULONG64)({name}) == {value} || (sizeof({name}) == 4 && (ULONG)({name}) == (ULONG64){value}), \"{name}\");"
            )?;
        }
    }
    for name in constants_of(headers) {
        if proven.contains(name)
            || MORE.contains(&format!("({name} =="))
            || CONSTANTS_WITHOUT_FACTS.contains(&name)
        {
            continue;
        }
        let value = interfaces.constants.get(name);
        let value = value.with_context(|| unknown(name))?;
        let value = value.replace('_', "");
        writeln!(text, "_Static_assert({name} == {value}, \"{name}\");")?;
        proven.insert(name.to_owned());
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

/// A function or a type of functions: its result and its parameters, each with its type.
#[derive(Debug)]
pub(super) struct Declaration<'a> {
    result: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    /// A type of functions, of which others have pointers.
    of_pointers: bool,
}

/// The headers without comments, directives and the bodies of inline functions.
pub(super) fn prototypes_of(headers: &str) -> String {
    let mut text = String::new();
    let (mut directive, mut body) = (false, false);
    for line in headers.lines() {
        let line = line.split("//").next().unwrap_or_default().trim_end();
        let skip = directive || body || line.starts_with('#') || line.starts_with("FORCEINLINE");
        directive = (directive || line.starts_with('#')) && line.ends_with('\\');
        body = (body || line.starts_with("FORCEINLINE")) && line != "}";
        if !skip {
            text += line;
        }
        text.push('\n');
    }
    text
}

/// What a header declares as `result (NTAPI *NAME)(parameters);`, as `result NTAPI NAME(parameters);` after a `typedef`, or as that after
/// an import's attribute.
///
/// # Errors
/// One that says nothing of the convention it is called with, which a consumer that is linked needs.
pub(super) fn declarations(prototypes: &str) -> Result<BTreeMap<&str, Declaration<'_>>> {
    let mut found = BTreeMap::new();
    for statement in prototypes.split(';') {
        let statement = statement.rsplit("\n\n").next().unwrap_or(statement).trim();
        let Some((head, parameters)) = statement.rsplit_once('(') else {
            continue;
        };
        let parameters = parameters.trim_end_matches(')');
        let head = head.lines().last().unwrap_or(head).trim();
        let imports = ["NTKERNELAPI ", "NTSYSAPI ", "DECLSPEC_IMPORT "];
        let import = imports.iter().find_map(|import| head.strip_prefix(import));
        let typedef = head.strip_prefix("typedef ");
        ensure!(
            head.contains("NTAPI") || import.is_none() && typedef.is_none(),
            "{head}: NTAPI is missing"
        );
        let plain = import
            .map(|import| import.trim_start_matches("DECLSPEC_NORETURN "))
            .or(typedef);
        let declared = plain.and_then(|plain| {
            plain
                .split_once(" (NTAPI *")
                .map(|(result, name)| (result, name.trim_end_matches(')')))
                .or_else(|| plain.split_once(" NTAPI "))
        });
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
        let declaration = Declaration {
            result,
            parameters,
            of_pointers: typedef.is_some() && !head.contains("(NTAPI *"),
        };
        found.insert(name, declaration);
    }
    Ok(found)
}

fn functions(headers: &str, interfaces: &Interfaces, text: &mut String) -> Result<usize> {
    let prototypes = prototypes_of(headers);
    let declared = declarations(&prototypes)?;
    let mut proven = BTreeSet::new();
    for row in rows("prototypes")? {
        let [name, _, result, parameters] = &row[..] else {
            continue;
        };
        if let Some(declaration) = declared.get(name.as_str()) {
            sizes(name, declaration, result, parameters, text)?;
            proven.insert(name.clone());
        }
    }
    let pointer = |name: &str| declared.get(name).is_some_and(|d| d.of_pointers);
    for (name, declaration) in &declared {
        if MORE.contains(&format!("__typeof__({name})")) {
            continue;
        }
        if let Some(function) = interfaces.functions.get(*name) {
            let c = |ty: &str| in_c(ty, &pointer);
            same(
                name,
                "result",
                declaration.result,
                &c(&function.result),
                text,
            )?;
            let named = declaration
                .parameters
                .iter()
                .filter(|(_, name)| *name != "...");
            ensure!(
                named.clone().count() == function.parameters.len(),
                "{name} has {} parameters in ndis-sys",
                function.parameters.len()
            );
            for ((ty, called), (fact, rust)) in named.zip(&function.parameters) {
                let array = called.strip_suffix("[]");
                ensure!(
                    array.unwrap_or(called) == fact,
                    "{name}: the parameter {fact} is called {called}"
                );
                let ty = format!("{ty}{}", array.map_or("", |_| " *"));
                same(name, fact, &ty, &c(rust), text)?;
            }
            proven.insert((*name).to_owned());
        }
        ensure!(proven.contains(*name), unknown(name));
    }
    Ok(proven.len())
}

/// Asserts the sizes that a fact gives.
fn sizes(
    name: &str,
    declaration: &Declaration,
    result: &str,
    parameters: &str,
    text: &mut String,
) -> Result<()> {
    let declared = &declaration.parameters;
    let parameters: Vec<&str> = parameters.split(' ').filter(|p| !p.is_empty()).collect();
    ensure!(
        parameters.len() == declared.len(),
        "{name} has {} parameters, in the header {}",
        parameters.len(),
        declared.len()
    );
    let declared_result = declaration.result;
    if result != "0" {
        writeln!(
            text,
            "_Static_assert(sizeof({declared_result}) == {result}, \"{name}\");"
        )?;
    } else {
        ensure!(
            declared_result == "VOID",
            "{name} returns {declared_result}"
        );
    }
    for (fact, (kind, called)) in parameters.iter().zip(declared) {
        let Some((fact, size)) = fact.split_once(':') else {
            ensure!(*called == "...", "{name} is variadic");
            continue;
        };
        ensure!(
            // The facts have no name where the header they are from gives none.
            fact == "?" || called.trim_end_matches("[]") == fact,
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
    Ok(())
}

/// Asserts that a type is that of ndis-sys: but for a const that the header has not, and a pointer to what ndis-sys does not name.
fn same(name: &str, part: &str, declared: &str, known: &str, text: &mut String) -> Result<()> {
    let condition = match (known, known.strip_prefix("const ")) {
        ("VOID *" | "const VOID *", _) => {
            format!("__builtin_classify_type(({declared})0) == __builtin_classify_type((PVOID)0)")
        }
        (_, None) => format!("__builtin_types_compatible_p({declared}, {known})"),
        (_, Some(bare)) => format!(
            "__builtin_types_compatible_p({declared}, {known}) || __builtin_types_compatible_p({declared}, {bare})"
        ),
    };
    writeln!(
        text,
        "_Static_assert({condition}, \"{name}: {part} is {known} in ndis-sys\");"
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{COMPILE_HERE, compiler_here, with_extension};
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
        let inline = "FORCEINLINE VOID F(VOID)\n{\n    (*p)(q);\n}\n#define M(p) \\\n    G(p);\n";
        assert!(declarations(&prototypes_of(inline)).unwrap().is_empty());
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
            // Of ndis-sys alone: types, a structure, a constant, a function that only it has.
            "__builtin_types_compatible_p(PKTIMER, KTIMER *)",
            "sizeof(MIB_IPFORWARD_ROW2) == 104",
            "EventProviderSetTraits == 2",
            "ExReInitializeRundownProtection: RunRef",
        ] {
            assert!(text.contains(part), "{part} is missing");
        }
    }

    #[test]
    fn a_member_that_only_a_header_has_is_named() {
        let header = root().join("examples/consumer/include/ndkpi.h");
        let text = std::fs::read_to_string(header).unwrap();
        let sge = "    ULONG MemoryRegionToken;\n} NDK_SGE;";
        let [ndis_sys, ndkpi] =
            ["ndis-sys", "ndkpi"].map(|package| Interfaces::read(package).unwrap());
        let check = |text: &str| structures(text, [&ndis_sys, &ndkpi], &mut String::new());
        check(&text).unwrap();
        for (name, invented) in [
            ("Invented", "ULONG Invented"),
            ("Invented", "ULONG Length, Invented[2]"),
            ("Invented", "VOID (NTAPI *Invented)(PVOID Context)"),
            // A member of another structure.
            ("HighPart", "LONG HighPart"),
        ] {
            let changed = text.replace(sge, &format!("    {invented};\n{sge}"));
            assert_ne!(changed, text);
            let error = check(&changed).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("NDK_SGE.{name} is in a header")),
                "{error}"
            );
        }
    }

    /// What the compiler of this machine says of the assertions on the headers of that folder.
    fn complaints(source: &Path) -> String {
        let text = assertions(&source.join("include")).unwrap();
        std::fs::write(source.join("facts.c"), text).unwrap();
        let output = compiler_here()
            .current_dir(source)
            .args(COMPILE_HERE)
            .args(["-fsyntax-only", "facts.c"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.success(), said.is_empty(), "{said}");
        said
    }

    #[test]
    fn a_header_that_differs_is_refused() {
        let folder = std::env::temp_dir().join(format!("vroce-facts-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("include")).unwrap();
        let source = root().join("examples/consumer");
        for (part, extension) in [("include", "h"), ("", "def")] {
            for file in with_extension(&source.join(part), extension).unwrap() {
                let file = Path::new(part).join(file);
                std::fs::copy(source.join(&file), folder.join(&file)).unwrap();
            }
        }
        assert_eq!(complaints(&folder), "");
        for (header, right, wrong, said) in [
            (
                "wdm.h",
                "struct DECLSPEC_ALIGN(16) {",
                "struct {",
                "LOOKASIDE_LIST_EX: the alignment is 16 in Rust",
            ),
            // Only padding is lost: every offset stays, and so does the size.
            (
                "netioapi.h",
                "UCHAR SitePrefixLength;",
                "ULONG SitePrefixLength;",
                "MIB_IPFORWARD_ROW2.SitePrefixLength is UCHAR in Rust",
            ),
            // The same in its lower half.
            (
                "wdm.h",
                "POOL_FLAG_NON_PAGED 0x0000000000000040ULL",
                "POOL_FLAG_NON_PAGED 0x0000000100000040ULL",
                "POOL_FLAG_NON_PAGED",
            ),
            // Types of the same size.
            (
                "ntdef.h",
                ", KIRQL, *PKIRQL;",
                ";\ntypedef char KIRQL, *PKIRQL;",
                "KIRQL is UCHAR in ndis-sys",
            ),
            (
                "ntdef.h",
                ", SIZE_T, *PSIZE_T;",
                ";\ntypedef long long SIZE_T, *PSIZE_T;",
                "\"SIZE_T\"",
            ),
            // The facts have sizes only.
            (
                "ndkpi.h",
                "    ULONG Length;\n    ULONG MemoryRegionToken;",
                "    ULONG Length;\n    LONG MemoryRegionToken;",
                "NDK_SGE.MemoryRegionToken is ULONG in Rust",
            ),
            (
                "ntdef.h",
                "LONG HighPart;\n    } u;\n    LONGLONG",
                "ULONG HighPart;\n    } u;\n    LONGLONG",
                "LARGE_INTEGER.u.HighPart",
            ),
        ] {
            let path = folder.join("include").join(header);
            let whole = std::fs::read_to_string(&path).unwrap();
            assert!(whole.contains(right), "{header} has no {right}");
            std::fs::write(&path, whole.replace(right, wrong)).unwrap();
            let complaints = complaints(&folder);
            assert!(complaints.contains(said), "{said}: {complaints}");
            std::fs::write(&path, whole).unwrap();
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
