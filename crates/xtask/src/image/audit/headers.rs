//! What the headers and tables of an image say.

use super::super::Arch;
use super::Finding;
use super::pe::{Pe, name};
use object::LittleEndian as LE;
use object::pe::*;
use object::read::pe::{ImageNtHeaders, ImageOptionalHeader};
use std::collections::BTreeSet;

/// Functions that modules of Windows export, from public import libraries (of x64) and documentation.
const EXPORTS: &str = include_str!("../../../data/exports.tsv");

/// Looks at one thing: what was seen, or what is wrong.
type Look = fn(&Pe<'_>) -> Result<String, String>;

/// Looks at the headers.
pub fn look(image: &Pe<'_>, arch: Arch) -> Vec<Finding> {
    let all: [(&'static str, Look); 13] = [
        ("subsystem", subsystem),
        ("entry point", entry),
        ("checksum", checksum),
        ("loader flags", flags),
        ("relocations", relocations),
        ("sections", sections),
        ("imports", imports),
        ("exports", exports),
        ("thread local storage", thread_local),
        ("control flow guard", guard),
        ("version resource", version),
        ("symbols", symbols),
        ("size", size),
    ];
    let machine = Finding {
        what: "machine",
        seen: machine(image, arch).into(),
    };
    let others = all.into_iter().map(|(what, look)| Finding {
        what,
        seen: look(image).into(),
    });
    std::iter::once(machine).chain(others).collect()
}

/// Bytes that a release image may have.
const LARGEST: usize = 600 * 1024;

fn size(image: &Pe<'_>) -> Result<String, String> {
    let len = image.file.data().len();
    let text = format!("{} KiB, at most {} KiB", len.div_ceil(1024), LARGEST / 1024);
    if len <= LARGEST { Ok(text) } else { Err(text) }
}

fn machine(image: &Pe<'_>, arch: Arch) -> Result<String, String> {
    let machine = image.headers().file_header().machine.get(LE);
    let wanted = match arch {
        Arch::X64 => IMAGE_FILE_MACHINE_AMD64,
        Arch::Arm64 => IMAGE_FILE_MACHINE_ARM64,
    };
    if machine == wanted {
        Ok(arch.name().into())
    } else {
        Err(format!("{:#06x}: not {}", machine.0, arch.name()))
    }
}

fn subsystem(image: &Pe<'_>) -> Result<String, String> {
    let optional = image.headers().optional_header();
    let text = format!(
        "{}, version {}.{:02}",
        optional.subsystem().0,
        optional.major_subsystem_version(),
        optional.minor_subsystem_version()
    );
    if optional.subsystem() == IMAGE_SUBSYSTEM_NATIVE {
        Ok(format!("native ({text})"))
    } else {
        Err(format!("{text}: not native"))
    }
}

fn entry(image: &Pe<'_>) -> Result<String, String> {
    let entry = image.headers().optional_header().address_of_entry_point();
    if entry != 0 && image.is_code(entry as usize) {
        Ok(format!("{entry:#x}"))
    } else {
        Err(format!("{entry:#x} is not code"))
    }
}

/// The kernel's loader refuses drivers whose checksum is wrong.
fn checksum(image: &Pe<'_>) -> Result<String, String> {
    let bytes = image.file.data();
    let field = image.file.dos_header().nt_headers_offset() as usize + 24 + 64;
    let sum = bytes
        .chunks(2)
        .enumerate()
        .filter(|(index, _)| !(field..field + 4).contains(&(index * 2)))
        .map(|(_, pair)| u32::from(pair[0]) | u32::from(pair.get(1).copied().unwrap_or(0)) << 8)
        .fold(0u32, |sum, word| {
            let sum = sum + word;
            (sum & 0xffff) + (sum >> 16)
        });
    let right = sum.wrapping_add(bytes.len() as u32);
    let stated = image.headers().optional_header().check_sum();
    if stated == right {
        Ok(format!("{stated:#x}"))
    } else {
        Err(format!("{stated:#x}, should be {right:#x}"))
    }
}

fn flags(image: &Pe<'_>) -> Result<String, String> {
    let set = image.headers().optional_header().dll_characteristics().0;
    let wanted = [
        (IMAGE_DLLCHARACTERISTICS_NX_COMPAT, "NX"),
        (IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE, "ASLR"),
        (
            IMAGE_DLLCHARACTERISTICS_HIGH_ENTROPY_VA,
            "high-entropy ASLR",
        ),
        (IMAGE_DLLCHARACTERISTICS_GUARD_CF, "CFG"),
    ];
    let missing: Vec<_> = wanted
        .iter()
        .filter(|(flag, _)| set & flag.0 == 0)
        .map(|(_, name)| *name)
        .collect();
    if missing.is_empty() {
        Ok(wanted.map(|(_, name)| name).join(", "))
    } else {
        Err(format!("without {}", missing.join(", ")))
    }
}

fn relocations(image: &Pe<'_>) -> Result<String, String> {
    let stripped =
        image.headers().file_header().characteristics.get(LE).0 & IMAGE_FILE_RELOCS_STRIPPED.0;
    let Some(range) = image.directory(IMAGE_DIRECTORY_ENTRY_BASERELOC) else {
        return Err("none".into());
    };
    if stripped != 0 || range.is_empty() {
        return Err("stripped".into());
    }
    Ok(format!("{} bytes", range.len()))
}

fn sections(image: &Pe<'_>) -> Result<String, String> {
    let mut seen = Vec::new();
    let mut wrong = Vec::new();
    for section in image.sections() {
        let flags = section.characteristics.get(LE).0;
        let has = |flag: u32| flags & flag != 0;
        let name = name(section);
        let discardable = has(IMAGE_SCN_MEM_DISCARDABLE.0);
        let letters: String = [
            (IMAGE_SCN_MEM_READ.0, 'r'),
            (IMAGE_SCN_MEM_WRITE.0, 'w'),
            (IMAGE_SCN_MEM_EXECUTE.0, 'x'),
            (IMAGE_SCN_MEM_DISCARDABLE.0, 'd'),
        ]
        .iter()
        .filter(|(flag, _)| has(*flag))
        .map(|(_, letter)| *letter)
        .collect();
        if has(IMAGE_SCN_MEM_WRITE.0) && has(IMAGE_SCN_MEM_EXECUTE.0) {
            wrong.push(format!("{name} is writable and executable"));
        }
        if name == ".retplne" {
            wrong.push(format!("{name} would be mapped inaccessible"));
        }
        // What the names PAGE and INIT begin may be paged out or goes; everything else has to stay in memory.
        if !discardable && !name.starts_with("PAGE") && !has(IMAGE_SCN_MEM_NOT_PAGED.0) {
            wrong.push(format!("{name} is not marked non-paged"));
        }
        seen.push(format!("{name}({letters})"));
    }
    if wrong.is_empty() {
        Ok(seen.join(" "))
    } else {
        Err(wrong.join("; "))
    }
}

fn imports(image: &Pe<'_>) -> Result<String, String> {
    let imports = image.imports().map_err(|e| e.to_string())?;
    let known: BTreeSet<(&str, &str)> = EXPORTS
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split('\t');
            Some((fields.next()?, fields.next()?))
        })
        .collect();
    let mut modules: Vec<(String, usize)> = Vec::new();
    let mut unknown = Vec::new();
    for (module, function, _) in &imports {
        let module = module.to_ascii_lowercase();
        if !known.contains(&(module.as_str(), function.as_str())) {
            unknown.push(format!("{module}!{function}"));
        }
        match modules.iter_mut().find(|(name, _)| *name == module) {
            Some((_, count)) => *count += 1,
            None => modules.push((module, 1)),
        }
    }
    if unknown.is_empty() && !modules.is_empty() {
        let text: Vec<_> = modules
            .iter()
            .map(|(module, count)| format!("{module} {count}"))
            .collect();
        Ok(text.join(", "))
    } else if modules.is_empty() {
        Err("none at all".into())
    } else {
        Err(format!(
            "no module of the kernel is known to export {}",
            unknown.join(", ")
        ))
    }
}

/// Nobody links against a driver, but a library's build exports what compiler and linker know by name.
const EXPORTED: [&str; 6] = [
    "DriverEntry",
    "__CxxFrameHandler3",
    "__guard_check_icall_fptr",
    "__guard_dispatch_icall_fptr",
    "_fltused",
    "_load_config_used",
];

fn exports(image: &Pe<'_>) -> Result<String, String> {
    let table = image.file.export_table().map_err(|e| e.to_string())?;
    let Some(table) = table else {
        return Ok("none".into());
    };
    let exports = table.exports().map_err(|e| e.to_string())?;
    let others: Vec<String> = exports
        .iter()
        .map(|export| String::from_utf8_lossy(export.name.unwrap_or(b"?")).into_owned())
        .filter(|name| !EXPORTED.contains(&name.as_str()))
        .collect();
    if others.is_empty() {
        Ok(format!("{}, all of the run time", exports.len()))
    } else {
        Err(others.join(" "))
    }
}

fn thread_local(image: &Pe<'_>) -> Result<String, String> {
    match image.directory(IMAGE_DIRECTORY_ENTRY_TLS) {
        None => Ok("none".into()),
        Some(_) => Err("the kernel has none".into()),
    }
}

/// Offsets in the load configuration directory.
const GUARD_CHECK: usize = 0x70;
const GUARD_DISPATCH: usize = 0x78;
const GUARD_TABLE: usize = 0x80;
const GUARD_COUNT: usize = 0x88;
const GUARD_FLAGS: usize = 0x90;
const GUARD_INSTRUMENTED: u32 = 0x100;
const GUARD_TABLE_PRESENT: u32 = 0x400;

/// Whether indirect calls of the image are checked, and those into it can be: flags of the loader and the table.
pub fn guarded(image: &Pe<'_>) -> Finding {
    Finding {
        what: "control flow guard",
        seen: flags(image).and_then(|_| guard(image)).into(),
    }
}

/// Where the image has the address of the function that checks the target of an indirect call.
pub fn guard_check(image: &Pe<'_>) -> Option<usize> {
    let config = image.directory(IMAGE_DIRECTORY_ENTRY_LOAD_CONFIG)?.start;
    image.relative(image.quad(config + GUARD_CHECK)?)
}

fn guard(image: &Pe<'_>) -> Result<String, String> {
    let config = image
        .directory(IMAGE_DIRECTORY_ENTRY_LOAD_CONFIG)
        .ok_or("no load configuration")?
        .start;
    let size = image.word(config).unwrap_or(0) as usize;
    if size < GUARD_FLAGS + 4 {
        return Err(format!("the load configuration has {size} bytes"));
    }
    let flags = image.word(config + GUARD_FLAGS).unwrap_or(0);
    if flags & (GUARD_INSTRUMENTED | GUARD_TABLE_PRESENT)
        != GUARD_INSTRUMENTED | GUARD_TABLE_PRESENT
    {
        return Err(format!(
            "flags {flags:#x}: no table, or calls not instrumented"
        ));
    }
    let pointer = |field: usize| {
        image
            .quad(config + field)
            .and_then(|address| image.relative(address))
    };
    for (what, field) in [("check", GUARD_CHECK), ("dispatch", GUARD_DISPATCH)] {
        let target = pointer(field).and_then(|at| image.relative(image.quad(at)?));
        if !target.is_some_and(|at| image.is_code(at)) {
            return Err(format!("the {what} function is not code"));
        }
    }
    let count = image.quad(config + GUARD_COUNT).unwrap_or(0) as usize;
    let table = pointer(GUARD_TABLE).ok_or("the table lies outside the image")?;
    // Each entry is an address and so many more bytes.
    let stride = 4 + (flags >> 28) as usize;
    let targets: Option<Vec<u32>> = (0..count).map(|i| image.word(table + i * stride)).collect();
    let targets = targets.ok_or("the table ends outside the image")?;
    if targets.is_empty() || !targets.is_sorted() {
        return Err(format!("a table of {count} targets, empty or not sorted"));
    }
    if let Some(bad) = targets.iter().find(|at| !image.is_code(**at as usize)) {
        return Err(format!("target {bad:#x} is not code"));
    }
    let entry = image.headers().optional_header().address_of_entry_point();
    if targets.binary_search(&entry).is_err() {
        return Err("the entry point is no allowed target".into());
    }
    Ok(format!("calls instrumented, {count} allowed targets"))
}

fn version(image: &Pe<'_>) -> Result<String, String> {
    let range = image
        .directory(IMAGE_DIRECTORY_ENTRY_RESOURCE)
        .ok_or("no resources")?;
    let resources = &image.memory[range];
    // VS_FIXEDFILEINFO, found by its signature and structure version.
    let signature = [0xbd, 0x04, 0xef, 0xfe, 0, 0, 1, 0];
    let at = resources
        .windows(signature.len())
        .position(|window| window == signature)
        .ok_or("no version among the resources")?;
    let word = |i: usize| {
        let bytes = resources.get(at + i * 4..at + i * 4 + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let (Some(high), Some(low), Some(kind)) = (word(2), word(3), word(9)) else {
        return Err("the version is cut off".into());
    };
    if kind != 3 {
        return Err(format!(
            "it says that the file is of kind {kind}, not a driver"
        ));
    }
    Ok(format!(
        "{}.{}.{}.{}",
        high >> 16,
        high & 0xffff,
        low >> 16,
        low & 0xffff
    ))
}

/// A path of the machine that built it has no place in an image.
fn symbols(image: &Pe<'_>) -> Result<String, String> {
    let bytes = &image.memory;
    let Some(at) = bytes.windows(4).position(|window| window == b"RSDS") else {
        return Err("the image names no symbol file".into());
    };
    let path = bytes.get(at + 24..).unwrap_or_default();
    let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
    let path = String::from_utf8_lossy(path).into_owned();
    if path.contains(['/', '\\']) {
        return Err(format!("{path} is a path of the machine that built it"));
    }
    for (what, text) in [
        ("the repository's", crate::workspace::root().canonicalize()),
        (
            "the home directory's",
            std::env::home_dir().ok_or_else(|| std::io::ErrorKind::NotFound.into()),
        ),
    ] {
        let Ok(text) = text else { continue };
        let text = text.display().to_string();
        if text.len() > 1
            && bytes
                .windows(text.len())
                .any(|window| window == text.as_bytes())
        {
            return Err(format!("{what} path, {text}, is in the image"));
        }
    }
    Ok(path)
}
