//! `cargo xtask parity`: what the facts of Windows's interfaces say of everything that the simulated kernel exports, in one file.
//!
//! The facts are two tables that were gathered from public headers and symbols, `functions.md` and `layouts.tsv`, with a third for numbers,
//! `constants.tsv`. They are no part of the repository: what they say of what is simulated is, as `crates/ntsim/data/parity.tsv`, with which
//! `crates/ntsim/tests/parity.rs` compares the simulator. What is simulated comes from the lists that are tested against it.

use crate::workspace::root;
use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Options {
    /// The folder with functions.md, layouts.tsv and constants.tsv.
    #[arg(long)]
    facts: PathBuf,
    /// Compare the file with what would be written.
    #[arg(long)]
    check: bool,
}

/// Where it is, from the root of the repository.
const FILE: &str = "crates/ntsim/data/parity.tsv";

const HEAD: &str = "kind\tname\tmodule\tresult\tparameters\tirql\tsource\ttypes\n";

/// Writes the file, or says whether it is right.
pub fn run(options: &Options) -> Result<bool> {
    let facts = Facts::load(&options.facts)?;
    let text = parity(&facts, &root())?;
    let path = root().join(FILE);
    if !options.check {
        std::fs::write(&path, &text)?;
        println!("{FILE}: {} rows", text.lines().count() - 1);
        return Ok(true);
    }
    let old = std::fs::read_to_string(&path).context(FILE)?;
    let rows = |text: &str| -> BTreeSet<String> { text.lines().map(str::to_owned).collect() };
    for row in rows(&old).symmetric_difference(&rows(&text)) {
        println!("differs: {row}");
    }
    Ok(old == text)
}

/// A function, or a type of functions, as the facts have it.
#[derive(Clone)]
struct Prototype {
    module: String,
    result: String,
    parameters: String,
    irql: String,
    source: String,
}

/// A version of a structure: its fields with the offsets and sizes that sources give.
#[derive(Default)]
struct Layout {
    fields: BTreeMap<String, BTreeSet<(String, String)>>,
    source: String,
}

struct Facts {
    functions: BTreeMap<String, Prototype>,
    /// By name and size.
    layouts: BTreeMap<(String, String), Layout>,
    /// Types that have enumerators.
    enumerations: BTreeSet<String>,
}

impl Facts {
    fn load(folder: &Path) -> Result<Facts> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).with_context(|| path.display().to_string())
        };
        let constants = read("constants.tsv")?;
        let names = constants.lines().filter_map(|row| row.split('\t').next());
        Ok(Facts {
            functions: functions(&read("functions.md")?),
            layouts: layouts(&read("layouts.tsv")?)?,
            enumerations: names
                .filter_map(|name| Some(name.split_once('.')?.0.to_owned()))
                .collect(),
        })
    }

    /// Bytes of a type in C. Structures are passed by value only if they fit into a register.
    fn size(&self, ty: &str) -> Result<usize> {
        const NUMBERS: [(usize, &[&str]); 5] = [
            (0, &["void", "VOID"]),
            (
                1,
                &[
                    "BOOLEAN",
                    "UCHAR",
                    "KIRQL",
                    "KPROCESSOR_MODE",
                    "unsigned char",
                ],
            ),
            (2, &["USHORT"]),
            (
                4,
                &[
                    "ULONG",
                    "LONG",
                    "UINT",
                    "UINT32",
                    "NTSTATUS",
                    "NDIS_STATUS",
                    "ACCESS_MASK",
                    "KPRIORITY",
                    "NDIS_PORT_NUMBER",
                    "NET_IFINDEX",
                    // Enumerations whose enumerators the facts lack.
                    "DEVICE_REGISTRY_PROPERTY",
                    "EVENT_INFO_CLASS",
                    "KEY_VALUE_INFORMATION_CLASS",
                    "long",
                    "int",
                    "unsigned long",
                    "unsigned int",
                ],
            ),
            (
                8,
                &[
                    "SIZE_T",
                    "ULONG_PTR",
                    "LONG_PTR",
                    "ULONG64",
                    "UINT64",
                    "ULONGLONG",
                    "LONGLONG",
                    "NDIS_HANDLE",
                    "HANDLE",
                    "REGHANDLE",
                    "POOL_FLAGS",
                    "KAFFINITY",
                    "WDFDRIVER",
                    "WDFDEVICE",
                    "WDFOBJECT",
                    "LPCGUID",
                    "LARGE_INTEGER",
                    "PHYSICAL_ADDRESS",
                    "NDIS_PHYSICAL_ADDRESS",
                ],
            ),
        ];
        let ty = ["const ", "struct ", "enum "]
            .iter()
            .fold(ty.trim(), |ty, word| ty.strip_prefix(word).unwrap_or(ty));
        if ty.contains(['*', '[']) {
            return Ok(8);
        }
        if let Some((size, _)) = NUMBERS.iter().find(|(_, types)| types.contains(&ty)) {
            return Ok(*size);
        }
        let name = ty.trim_start_matches('_');
        if self.enumerations.contains(name) {
            return Ok(4);
        }
        let mut sizes = self.layouts.keys().filter(|(of, _)| of == name);
        if let Some((_, size)) = sizes.next() {
            return size.parse().with_context(|| name.to_owned());
        }
        let functions = [
            "_HANDLER",
            "_ROUTINE",
            "_CALLBACK",
            "_CALLBACK_EX",
            "_COMPLETION",
        ];
        let pointer = name.strip_prefix('P').is_some_and(|rest| {
            rest.len() > 1
                && rest
                    .chars()
                    .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        });
        ensure!(
            pointer || functions.iter().any(|end| name.ends_with(end)),
            "how large is {ty}?"
        );
        Ok(8)
    }

    fn row(&self, kind: &str, name: &str, first: Option<(&str, &str)>) -> Result<String> {
        let found = self.functions.get(name);
        let of = found.with_context(|| format!("no fact of {name}"))?;
        let (mut sizes, mut types) = (Vec::new(), Vec::new());
        for (parameter, ty) in first.into_iter().chain(parameters(&of.parameters)) {
            types.push(ty);
            sizes.push(match ty {
                "..." => ty.to_owned(),
                _ => format!(
                    "{parameter}:{}",
                    self.size(ty).with_context(|| name.to_owned())?
                ),
            });
        }
        Ok(format!(
            "{kind}\t{name}\t{}\t{}\t{}\t{}\t{}\t{}({})\n",
            of.module,
            self.size(&of.result).with_context(|| name.to_owned())?,
            sizes.join(" "),
            of.irql,
            of.source,
            of.result,
            types.join(", "),
        ))
    }

    /// What the facts say of the fields that are declared.
    fn layout(&self, name: &str, size: &str, declared: &[&str]) -> Result<String> {
        let key = |name: &str| (name.to_owned(), size.to_owned());
        let lower = name.to_ascii_lowercase();
        let found = self
            .layouts
            .get(&key(name))
            .or_else(|| self.layouts.get(&key(&lower)));
        let layout = found.with_context(|| format!("no fact of a {name} of {size} bytes"))?;
        let mut fields = Vec::new();
        for field in declared {
            // What C has only a type name for, Rust gives a field.
            let at = layout
                .fields
                .get(*field)
                .or_else(|| layout.fields.get("(typedef)"));
            let at = at.with_context(|| format!("no fact of {name}.{field}"))?;
            let at: Vec<_> = at
                .iter()
                .map(|(offset, size)| format!("{offset}+{}", size.replace("flex", "0")))
                .collect();
            fields.push(format!("{field}:{}", at.join("/")));
        }
        let source = &layout.source;
        Ok(format!(
            "layout\t{name}\t\t{size}\t{}\t-\t{source}\t-\n",
            fields.join(" ")
        ))
    }
}

/// Name and type of each parameter; `?` for a name that the facts lack, and no name for `...`.
fn parameters(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let all = text.split(", ").map(str::trim).filter(|all| *all != "void");
    all.map(|parameter| match parameter.rsplit_once(' ') {
        Some((ty, name)) => (name, ty),
        None if parameter == "..." => ("", parameter),
        None => ("?", parameter),
    })
}

/// The cells of a row of a table in Markdown.
fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.strip_prefix("| ")?.strip_suffix(" |")?;
    Some(inner.split(" | ").map(str::trim).collect())
}

fn functions(text: &str) -> BTreeMap<String, Prototype> {
    const HEADERS: &str = "WDK 22621 headers";
    let mut found = BTreeMap::new();
    let mut section = "";
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title;
        }
        let Some(cells) = cells(line) else { continue };
        let number = section.split('.').next().unwrap_or("");
        let module = ["", "ndis.sys", "ntoskrnl.exe", "netio.sys", "WDFLDR.SYS"];
        let module = number.parse().ok().and_then(|n: usize| module.get(n));
        let (name, module, result, parameters, irql, evidence) = match (number, &cells[..]) {
            ("1" | "3", [name, result, parameters, irql, evidence])
            | ("2", [name, result, parameters, irql, _, evidence]) => {
                (name, module.copied(), result, parameters, *irql, *evidence)
            }
            ("4", [name, result, parameters, _]) => {
                (name, module.copied(), result, parameters, "-", "fxldr.h")
            }
            ("5", [index, name, parameters, result, irql]) if index.parse::<u32>().is_ok() => (
                name,
                Some(*index),
                result,
                parameters,
                *irql,
                "KMDF 1.33 headers",
            ),
            ("6", [name, result, parameters, irql]) => {
                (name, None, result, parameters, *irql, HEADERS)
            }
            _ => continue,
        };
        found.insert(
            (*name).to_owned(),
            Prototype {
                module: module.unwrap_or("").to_owned(),
                result: (*result).to_owned(),
                parameters: (*parameters).to_owned(),
                irql: irql.to_owned(),
                source: evidence.to_owned(),
            },
        );
    }
    found
}

fn layouts(text: &str) -> Result<BTreeMap<(String, String), Layout>> {
    let mut found: BTreeMap<_, Layout> = BTreeMap::new();
    for row in text.lines().skip(1) {
        let cells: Vec<_> = row.split('\t').collect();
        let [name, total, field, offset, size, source] = cells[..] else {
            bail!("layouts.tsv: {row:?}");
        };
        let layout = found
            .entry((name.to_owned(), total.to_owned()))
            .or_default();
        let at = (offset.to_owned(), size.to_owned());
        layout
            .fields
            .entry(field.to_owned())
            .or_default()
            .insert(at);
        if layout.source.is_empty() {
            layout.source = source.split(';').next().unwrap_or("").to_owned();
        }
    }
    Ok(found)
}

/// What is compared, from lists of the repository: exports and framework functions, function pointers, structures.
fn parity(facts: &Facts, root: &Path) -> Result<String> {
    let read = |file: &str| std::fs::read_to_string(root.join(file)).context(file.to_owned());
    let mut text = HEAD.to_owned();
    let simulated = read("crates/ntsim/data/functions.tsv")?;
    let mut exports = BTreeSet::new();
    for row in simulated.lines().skip(1) {
        let mut cells = row.split('\t');
        let (Some(name), Some(module)) = (cells.next(), cells.next()) else {
            bail!("functions.tsv: {row:?}");
        };
        match module {
            "WDF" if facts.functions.contains_key(name) => {
                text += &facts.row(
                    "framework",
                    name,
                    Some(("DriverGlobals", "PWDF_DRIVER_GLOBALS")),
                )?;
            }
            _ if !module.contains('.') => {}
            _ if facts.functions.contains_key(name) => {
                exports.insert(name.to_owned());
                text += &facts.row("export", name, None)?;
            }
            _ => text += &format!("export\t{name}\t{module}\t-\t-\t-\tnone\t-\n"),
        }
    }
    for folder in ["crates/ndis-sys/data", "crates/ndkpi/data"] {
        for row in read(&format!("{folder}/prototypes.tsv"))?.lines().skip(1) {
            let name = row.split('\t').next().unwrap_or("");
            if !exports.contains(name) && facts.functions.contains_key(name) {
                text += &facts.row("callback", name, None)?;
            }
        }
        let declared = read(&format!("{folder}/layouts.tsv"))?;
        let mut structures: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        for row in declared.lines().skip(1) {
            let cells: Vec<_> = row.split('\t').collect();
            let [name, size, field, ..] = cells[..] else {
                bail!("{folder}/layouts.tsv: {row:?}");
            };
            structures.entry((name, size)).or_default().push(field);
        }
        for ((name, size), fields) in structures {
            text += &facts.layout(name, size, &fields)?;
        }
    }
    Ok(text)
}

#[cfg(test)]
mod signatures;

#[cfg(test)]
mod tests {
    use super::*;

    const FUNCTIONS: &str = "
## 1. ndis.sys (1 function)

| function | returns | parameters | IRQL (docs) | evidence |
|---|---|---|---|---|
| NdisSleep | void | UINT Time, const PVOID Context | PASSIVE_LEVEL | a library |

## 5. table functions

| index | function | prototype | returns | IRQL |
|---|---|---|---|---|
| 7 | WdfDo | PDEVICE_OBJECT, ... | long | - |

## 6. Callbacks

| type | returns | parameters | IRQL (docs) |
|---|---|---|---|
| DO_HANDLER | int | void | - |
";

    fn facts() -> Facts {
        Facts {
            functions: functions(FUNCTIONS),
            layouts: layouts(
                "head\nA\t8\tX\t0\t4\thdr:a; more\nA\t8\tY\t4.0\tflex\thdr\nA\t8\tX\t0\t8\thdr\nA\t12\tX\t0\t4\tb",
            )
            .unwrap(),
            enumerations: BTreeSet::from(["KIND".to_owned()]),
        }
    }

    #[test]
    fn every_kind_of_row_is_understood() {
        let facts = facts();
        assert_eq!(
            facts.row("export", "NdisSleep", None).unwrap(),
            "export\tNdisSleep\tndis.sys\t0\tTime:4 Context:8\tPASSIVE_LEVEL\ta library\tvoid(UINT, const PVOID)\n"
        );
        assert_eq!(
            facts
                .row("framework", "WdfDo", Some(("G", "PGLOBALS")))
                .unwrap(),
            "framework\tWdfDo\t7\t4\tG:8 ?:8 ...\t-\tKMDF 1.33 headers\tlong(PGLOBALS, PDEVICE_OBJECT, ...)\n"
        );
        assert_eq!(
            facts.row("callback", "DO_HANDLER", None).unwrap(),
            "callback\tDO_HANDLER\t\t4\t\t-\tWDK 22621 headers\tint()\n"
        );
        assert_eq!(
            facts.layout("A", "8", &["X", "Y"]).unwrap(),
            "layout\tA\t\t8\tX:0+4/0+8 Y:4.0+0\t-\thdr:a\t-\n"
        );
    }

    #[test]
    fn what_the_facts_do_not_have_is_an_error() {
        let facts = facts();
        assert!(facts.row("export", "NdisWake", None).is_err());
        assert!(facts.layout("A", "16", &["X"]).is_err());
        assert!(facts.layout("A", "8", &["Z"]).is_err());
        assert_eq!(facts.size("KIND").unwrap(), 4);
        assert_eq!(facts.size("struct _A *").unwrap(), 8);
        assert!(facts.size("WHATEVER").is_err());
    }
}
