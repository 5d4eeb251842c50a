//! What the simulated kernel exports for drivers such as the example is all declared by its headers, and an image can be linked with it: the
//! import libraries made of its `.def` files have what the headers declare.

use super::facts::{declarations, prototypes_of};
use crate::workspace::root;
use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Modules whose functions are for other drivers than these: those of network adapters, and those of the framework, which have its headers.
const OTHERS_MODULES: [&str; 2] = ["ndis.sys", "WDFLDR.SYS"];

/// Functions of the other modules that are for drivers of hardware: they are about the device that Plug and Play gave to the driver.
const FOR_HARDWARE: [&str; 4] = [
    "IoGetDeviceProperty",
    "IoGetDmaAdapter",
    "MmMapIoSpaceEx",
    "MmUnmapIoSpace",
];

/// What compilers call, and what `ntdef.h` has of the C library. The loader knows these, too.
const OF_COMPILERS: [&str; 5] = ["__chkstk", "memcmp", "memcpy", "memmove", "memset"];

/// How many functions the simulated kernel exports for such drivers.
///
/// # Errors
/// One that no header declares, though it is not for others; and a `.def` file in `source` that does not have just those of its module.
pub(super) fn exports(headers: &str, source: &Path) -> Result<usize> {
    let path = root().join("crates/ntsim/data/parity.tsv");
    let rows = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let prototypes = prototypes_of(headers);
    let declared = declarations(&prototypes)?;
    let mut others = BTreeSet::from(FOR_HARDWARE);
    let mut modules: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut missing = Vec::new();
    for row in rows.lines() {
        let mut cells = row.split('\t');
        let (Some("export"), Some(name), Some(module)) = (cells.next(), cells.next(), cells.next())
        else {
            continue;
        };
        let other = OTHERS_MODULES.contains(&module) || others.remove(name);
        ensure!(
            !(other && declared.contains_key(name)),
            "{name} is declared, and said to be for other drivers"
        );
        if !other {
            modules.entry(module).or_default().insert(name);
            if !declared.contains_key(name) {
                missing.push(name);
            }
        }
    }
    ensure!(
        missing.is_empty(),
        "the simulated kernel exports what neither a header of the example declares nor a list in {} says to be for others: {}",
        file!(),
        missing.join(", ")
    );
    ensure!(others.is_empty(), "not exported: {others:?}");
    let count = modules.values().map(BTreeSet::len).sum();
    if let Some(kernel) = modules.get_mut("ntoskrnl.exe") {
        kernel.extend(OF_COMPILERS);
    }
    for (module, names) in modules {
        let path = source.join(module).with_extension("def");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        is_definition(&text, module, &names).with_context(|| path.display().to_string())?;
    }
    Ok(count)
}

/// That a `.def` file has just these functions of that module.
fn is_definition(text: &str, module: &str, names: &BTreeSet<&str>) -> Result<()> {
    let lines = text.lines().map(str::trim).filter(|l| !l.starts_with(';'));
    let text = lines.collect::<Vec<_>>().join("\n");
    let (library, listed) = text.split_once("EXPORTS").context("no EXPORTS")?;
    ensure!(
        library.trim() == format!("LIBRARY {module}"),
        "it is not of {module}"
    );
    let listed: BTreeSet<&str> = listed.split_whitespace().collect();
    let only = |a: &BTreeSet<&str>, b: &BTreeSet<&str>| {
        a.difference(b).copied().collect::<Vec<_>>().join(", ")
    };
    let (missing, more) = (only(names, &listed), only(&listed, names));
    ensure!(
        missing.is_empty() && more.is_empty(),
        "the headers declare what it lacks: [{missing}]; it has what they do not declare, or {module} does not export: [{more}]"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{COMPILE_HERE, compiler_here, with_extension};
    use super::*;
    use object::{Object as _, ObjectSymbol};

    #[test]
    fn an_export_that_nothing_declares_is_named() {
        let source = root().join("examples/consumer");
        let wdm = std::fs::read_to_string(source.join("include/wdm.h")).unwrap();
        let without: String = wdm
            .lines()
            .filter(|line| !line.contains(" KeCancelTimer("))
            .map(|line| format!("{line}\n"))
            .collect();
        let error = exports(&without, &source).unwrap_err().to_string();
        assert!(error.contains("KeCancelTimer"), "{error}");
        assert!(!error.contains("KeSetTimer"), "{error}");
        let both = format!("{wdm}\nNTKERNELAPI VOID NTAPI MmUnmapIoSpace(PVOID BaseAddress);\n");
        let error = exports(&both, &source).unwrap_err().to_string();
        assert!(error.contains("MmUnmapIoSpace is declared"), "{error}");
    }

    /// docs/testing-a-consumer.md says so.
    #[test]
    fn every_function_is_called_in_c() {
        let source = root().join("examples/consumer");
        let folder = std::env::temp_dir().join(format!("vroce-calls-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut files = with_extension(&source, "c").unwrap();
        // Its tables are for images.
        files.retain(|file| file != Path::new("guard.c"));
        files.push(root().join("crates/consumer-c/src/kernel.c"));
        let mut called = BTreeSet::new();
        for file in files {
            called.extend(called_from(&source, &file, &folder));
        }
        std::fs::remove_dir_all(&folder).unwrap();
        let mut missing = Vec::new();
        for file in with_extension(&source, "def").unwrap() {
            let listed = std::fs::read_to_string(source.join(file)).unwrap();
            let listed = listed.lines().filter_map(|line| line.strip_prefix("    "));
            missing.extend(
                listed
                    .filter(|name| !called.contains(*name))
                    .map(str::to_owned),
            );
        }
        // It does not return, and only compilers call the other.
        assert_eq!(missing, ["KeBugCheckEx", "__chkstk"]);
    }

    /// What a source of C calls that is not in it, as this machine's compiler has it: the names that its object leaves open.
    fn called_from(source: &Path, file: &Path, folder: &Path) -> Vec<String> {
        let object = folder.join("called.o");
        let compiled = compiler_here()
            .current_dir(source)
            .args(COMPILE_HERE)
            .args(["-Wno-multichar", "-c", "-o"])
            .args([&object, file])
            .status();
        assert!(compiled.unwrap().success(), "{}", file.display());
        let bytes = std::fs::read(&object).unwrap();
        let object = object::File::parse(&*bytes).unwrap();
        let open = object.symbols().filter(ObjectSymbol::is_undefined);
        open.map(|symbol| symbol.name().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn an_import_library_that_lacks_something_is_refused() {
        let names = BTreeSet::from(["FreeMibTable", "WskRegister"]);
        let check = |text: &str| is_definition(text, "netio.sys", &names);
        let whole = "; Of it.\nLIBRARY netio.sys\nEXPORTS\n    FreeMibTable\n    WskRegister\n";
        check(whole).unwrap();
        for (changed, said) in [
            (
                whole.replace("    WskRegister\n", ""),
                "lacks: [WskRegister]",
            ),
            (format!("{whole}    WskSocket\n"), "export: [WskSocket]"),
            (whole.replace("netio", "ndis"), "not of netio.sys"),
        ] {
            let error = check(&changed).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
