//! The audit finds nothing in a sound image, and each damage where it is.

use super::small::*;
use super::*;
use names::Names;
use std::collections::BTreeSet;

/// What the symbols of the small image say.
fn names() -> Names {
    [
        (ENTRY as u32, "DriverEntry"),
        (CHECKSUM as u32, "vroce_crc32::pclmul::update"),
        (LEAF as u32, "leaf"),
    ]
    .into()
}

/// The rows of the audit that are wrong, and what they say.
fn wrong(file: &[u8], names: &Names) -> Vec<(&'static str, String)> {
    let image = pe::Pe::parse(file).expect("an image");
    let rows = look(&image, Arch::X64, names).into_iter();
    let wrong = rows.filter_map(|Finding { what, seen }| match seen {
        Seen::Wrong(text) => Some((what, text)),
        _ => None,
    });
    wrong.collect()
}

/// One damage, and the rows that must say so.
struct Damage {
    name: &'static str,
    rows: &'static [&'static str],
    /// A part of what the first of them says.
    says: &'static str,
    make: fn(&mut Vec<u8>),
}

const fn damage(
    name: &'static str,
    row: &'static [&'static str],
    says: &'static str,
    make: fn(&mut Vec<u8>),
) -> Damage {
    Damage {
        name,
        rows: row,
        says,
        make,
    }
}

/// Instructions in the function without unwind information.
fn leaf(file: &mut [u8], code: &[u8]) {
    put(file, offset(LEAF), code);
}

/// The characteristics of a section.
fn flags(index: usize) -> usize {
    SECTIONS + index * 40 + 36
}

const HEADERS: &[Damage] = &[
    damage("another processor", &["machine"], "0xaa64", |file| {
        put(file, COFF, &0xaa64u16.to_le_bytes());
    }),
    damage("a program", &["subsystem"], "not native", |file| {
        file[OPTIONAL + 68] = 3;
    }),
    // It is then no allowed target either.
    damage(
        "data for an entry point",
        &["entry point", "control flow guard"],
        "is not code",
        |file| word(file, OPTIONAL + 16, RDATA as u32),
    ),
    damage(
        "no entry point",
        &["entry point", "control flow guard"],
        "0x0",
        |file| {
            word(file, OPTIONAL + 16, 0);
        },
    ),
    damage("NX off", &["loader flags"], "without NX", |file| {
        put(file, OPTIONAL + 70, &0x4060u16.to_le_bytes());
    }),
    damage("ASLR off", &["loader flags"], "without ASLR", |file| {
        put(file, OPTIONAL + 70, &0x4120u16.to_le_bytes());
    }),
    damage(
        "little entropy",
        &["loader flags"],
        "high-entropy",
        |file| {
            put(file, OPTIONAL + 70, &0x4140u16.to_le_bytes());
        },
    ),
    damage("CFG off", &["loader flags"], "without CFG", |file| {
        put(file, OPTIONAL + 70, &0x0160u16.to_le_bytes());
    }),
    damage(
        "relocations stripped",
        &["relocations"],
        "stripped",
        |file| {
            put(file, COFF + 18, &0x23u16.to_le_bytes());
        },
    ),
    damage("no relocations", &["relocations"], "none", |file| {
        put(file, directory(5), &[0; 8]);
    }),
    damage(
        "code to write to",
        &["sections"],
        "writable and executable",
        |file| {
            word(file, flags(0), 0xe800_0000);
        },
    ),
    damage(
        "data to run",
        &["sections"],
        ".data is writable and executable",
        |file| {
            word(file, flags(2), 0xe800_0000);
            // Of no bytes, or they would not be instructions either.
            word(file, SECTIONS + 2 * 40 + 8, 0);
        },
    ),
    damage(
        "a section that may be paged out",
        &["sections"],
        ".rdata is not marked",
        |file| {
            word(file, flags(1), 0x4000_0000);
        },
    ),
    damage("retpolines", &["sections"], ".retplne", |file| {
        put(file, SECTIONS + 2 * 40, b".retplne");
    }),
    damage(
        "a function nobody exports",
        &["imports"],
        "ntoskrnl.exe!KeBugCheckEy",
        |file| {
            put(file, offset(FUNCTION), b"KeBugCheckEy");
        },
    ),
    damage(
        "a module of user mode",
        &["imports"],
        "kernel32.dll!",
        |file| {
            put(file, offset(MODULE), b"kernel32.dll");
        },
    ),
    damage("no imports", &["imports"], "none at all", |file| {
        put(file, directory(1), &[0; 8]);
    }),
    damage("an export", &["exports"], "anybody", |file| {
        word(file, directory(0), EXPORTS as u32);
        word(file, directory(0) + 4, 0x80);
    }),
    damage(
        "thread local storage",
        &["thread local storage"],
        "the kernel",
        |file| {
            word(file, directory(9), RDATA as u32);
            word(file, directory(9) + 4, 0x28);
        },
    ),
    damage(
        "the version of a program",
        &["version resource"],
        "of kind 1",
        |file| {
            word(file, offset(VERSION) + 36, 1);
        },
    ),
    damage(
        "no version",
        &["version resource"],
        "no version among",
        |file| {
            word(file, offset(VERSION), 0);
        },
    ),
    damage(
        "no resources",
        &["version resource"],
        "no resources",
        |file| {
            put(file, directory(2), &[0; 8]);
        },
    ),
    damage("no symbols", &["symbols"], "names no symbol file", |file| {
        word(file, offset(SYMBOLS), 0);
    }),
    damage(
        "symbols by their path",
        &["symbols"],
        "path of the machine",
        |file| {
            put(file, offset(SYMBOLS) + 24, b"b/vroce.pdb\0");
        },
    ),
    damage(
        "a path of this machine",
        &["symbols"],
        "the repository's path",
        |file| {
            let root = crate::workspace::root().canonicalize().unwrap();
            put(file, offset(0x3000), root.to_str().unwrap().as_bytes());
        },
    ),
    damage("600 KiB and a byte", &["size"], "601 KiB", |file| {
        file.resize(600 * 1024 + 1, 0);
    }),
];

const GUARD: &[Damage] = &[
    damage(
        "no load configuration",
        &["control flow guard"],
        "no load",
        |file| {
            put(file, directory(10), &[0; 8]);
        },
    ),
    damage(
        "a short one",
        &["control flow guard"],
        "has 112 bytes",
        |file| {
            word(file, offset(CONFIG), 0x70);
        },
    ),
    damage(
        "calls not instrumented",
        &["control flow guard"],
        "0x400",
        |file| {
            word(file, offset(CONFIG) + 0x90, 0x400);
        },
    ),
    damage(
        "a check that is data",
        &["control flow guard"],
        "the check function",
        |file| {
            word(file, offset(CONFIG) + 0x70, 0x4000_0000 + TARGETS as u32);
        },
    ),
    damage(
        "a dispatch that is data",
        &["control flow guard"],
        "the dispatch function",
        |file| {
            word(file, offset(CONFIG) + 0x78, 0x4000_0000 + TARGETS as u32);
        },
    ),
    damage("no targets", &["control flow guard"], "0 targets", |file| {
        word(file, offset(CONFIG) + 0x88, 0);
    }),
    damage(
        "targets without end",
        &["control flow guard"],
        "ends outside",
        |file| {
            word(file, offset(CONFIG) + 0x88, 0x4000);
        },
    ),
    damage(
        "targets out of order",
        &["control flow guard"],
        "not sorted",
        |file| {
            word(file, offset(TARGETS), LEAF as u32);
            word(file, offset(TARGETS) + 4, ENTRY as u32);
        },
    ),
    damage(
        "a target that is data",
        &["control flow guard"],
        "is not code",
        |file| {
            word(file, offset(TARGETS) + 4, RDATA as u32);
        },
    ),
    damage(
        "a forbidden entry point",
        &["control flow guard"],
        "the entry point",
        |file| {
            word(file, offset(TARGETS), CHECKSUM as u32);
            word(file, offset(TARGETS) + 4, LEAF as u32);
        },
    ),
];

const CODE: &[Damage] = &[
    damage(
        "AVX with unwind information",
        &["instructions"],
        "AVX registers",
        |file| {
            // vaddps ymm0, ymm0, ymm1
            put(
                file,
                offset(CHECKSUM) + 7,
                &[0xc5, 0xfc, 0x58, 0xc1, 0x66, 0x90],
            );
        },
    ),
    damage(
        "AVX without",
        &["instructions"],
        "AVX registers, the first at 0x1080 in leaf",
        |file| {
            leaf(file, &[0xc5, 0xfc, 0x58, 0xc1, 0xc3]);
        },
    ),
    damage(
        "AVX on the low halves",
        &["instructions"],
        "of x87, MMX or AVX",
        |file| {
            // vaddps xmm0, xmm0, xmm1
            leaf(file, &[0xc5, 0xf8, 0x58, 0xc1, 0xc3]);
        },
    ),
    damage("x87", &["instructions"], "x87", |file| {
        // fld1
        leaf(file, &[0xd9, 0xe8, 0xc3]);
    }),
    damage("MMX", &["instructions"], "MMX", |file| {
        // movq mm0, mm1
        leaf(file, &[0x0f, 0x6f, 0xc1, 0xc3]);
    }),
    damage(
        "a control register",
        &["instructions"],
        "privileged",
        |file| {
            // mov cr3, rax
            leaf(file, &[0x0f, 0x22, 0xd8, 0xc3]);
        },
    ),
    damage(
        "POPCNT",
        &["instructions"],
        "not every processor has",
        |file| {
            leaf(file, &[0xf3, 0x0f, 0xb8, 0xc0, 0xc3]);
        },
    ),
    damage(
        "BLSR",
        &["instructions"],
        "not every processor has",
        |file| {
            leaf(file, &[0xc4, 0xe2, 0x78, 0xf3, 0xc9, 0xc3]);
        },
    ),
    damage(
        "POPCNT in the checksum",
        &["instructions"],
        "in vroce_crc32::pclmul::update",
        |file| {
            put(
                file,
                offset(CHECKSUM) + 7,
                &[0xf3, 0x0f, 0xb8, 0xc0, 0x66, 0x90],
            );
        },
    ),
    damage(
        "PCLMULQDQ elsewhere",
        &["instructions"],
        "outside of the checksum",
        |file| {
            leaf(file, &[0x66, 0x0f, 0x3a, 0x44, 0xc1, 0, 0xc3]);
        },
    ),
    damage(
        "PSHUFB elsewhere",
        &["instructions"],
        "outside of the checksum",
        |file| {
            leaf(file, &[0x66, 0x0f, 0x38, 0x00, 0xc1, 0xc3]);
        },
    ),
    damage(
        "no instruction",
        &["instructions"],
        "not instructions",
        |file| {
            leaf(file, &[0x06, 0xc3]);
        },
    ),
    damage(
        "a function before all others",
        &["instructions"],
        "at 0x1000",
        |file| {
            // The table of functions begins with the second.
            word(file, directory(3), PDATA as u32 + 12);
            word(file, directory(3) + 4, 12);
            put(file, offset(ENTRY), &[0x0f, 0x22, 0xd8, 0xc3]);
        },
    ),
    damage(
        "a frame of 13 KiB",
        &["stack"],
        "no function calls itself",
        |file| {
            // In eights.
            put(file, offset(UNWIND[1]) + 6, &(13u16 * 128).to_le_bytes());
        },
    ),
    damage(
        "two frames of 12 KiB together",
        &["stack"],
        "DriverEntry (6152) > vroce_crc32::pclmul::update (6152)",
        |file| {
            put(file, offset(UNWIND[0]), &[1, 7, 2, 0, 7, 1, 0, 3]);
            put(file, offset(UNWIND[1]), &[1, 7, 2, 0, 7, 1, 0, 3]);
        },
    ),
    damage(
        "a large frame in bytes",
        &["stack"],
        "largest frame 65544",
        |file| {
            put(file, offset(UNWIND[1]), &[1, 7, 3, 0, 7, 0x11, 0, 0, 1, 0]);
        },
    ),
    damage(
        "a function that calls itself",
        &["stack"],
        "call themselves: vroce_crc32::pclmul::update",
        |file| {
            let call = branch(0xe8, CHECKSUM + 7, CHECKSUM);
            put(file, offset(CHECKSUM) + 7, &call);
            file[offset(CHECKSUM) + 12] = 0x90;
        },
    ),
    damage(
        "two that call each other",
        &["stack"],
        "call themselves: DriverEntry",
        |file| {
            let call = branch(0xe8, CHECKSUM + 7, ENTRY);
            put(file, offset(CHECKSUM) + 7, &call);
            file[offset(CHECKSUM) + 12] = 0x90;
        },
    ),
    damage(
        "one by way of a leaf",
        &["stack"],
        "call themselves: DriverEntry",
        |file| {
            let call = branch(0xe8, CHECKSUM + 7, LEAF);
            put(file, offset(CHECKSUM) + 7, &call);
            file[offset(CHECKSUM) + 12] = 0x90;
            leaf(file, &branch(0xe9, LEAF, ENTRY));
        },
    ),
    damage(
        "a handler of exceptions",
        &["exception handlers"],
        "at 0x1000",
        |file| {
            // UNW_FLAG_EHANDLER beside the version.
            file[offset(UNWIND[0])] = 1 | 1 << 3;
        },
    ),
    damage(
        "a handler for unwinding",
        &["exception handlers"],
        "at 0x1040",
        |file| {
            file[offset(UNWIND[1])] = 1 | 2 << 3;
        },
    ),
];

#[test]
fn a_sound_image_is_right_in_every_row() {
    let file = image();
    let parsed = pe::Pe::parse(&file).unwrap();
    for Finding { what, seen } in look(&parsed, Arch::X64, &names()) {
        assert!(
            matches!(seen, Seen::Right(_)),
            "{what}: {:?}",
            wrong(&file, &names())
        );
    }
}

#[test]
fn each_damage_is_found_where_it_is_and_nowhere_else() {
    let mut missed = Vec::new();
    for damage in HEADERS.iter().chain(GUARD).chain(CODE) {
        let mut file = image();
        (damage.make)(&mut file);
        seal(&mut file);
        let wrong = wrong(&file, &names());
        let rows: Vec<_> = wrong.iter().map(|(what, _)| *what).collect();
        if rows != damage.rows || !wrong[0].1.contains(damage.says) {
            missed.push(format!("{}: {wrong:?}", damage.name));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn a_byte_that_changes_makes_the_checksum_wrong() {
    let sound = image();
    for at in [2, OPTIONAL + 64, offset(TEXT + 0xff), sound.len() - 1] {
        let mut file = sound.clone();
        file[at] ^= 1;
        let rows: Vec<_> = wrong(&file, &names())
            .into_iter()
            .map(|row| row.0)
            .collect();
        assert!(rows.contains(&"checksum"), "{at:#x}: {rows:?}");
    }
    let mut odd = sound;
    odd.push(7);
    seal(&mut odd);
    assert!(wrong(&odd, &names()).is_empty());
}

#[test]
fn no_row_is_without_a_damage() {
    let file = image();
    let rows = look(&pe::Pe::parse(&file).unwrap(), Arch::X64, &names());
    let damages = HEADERS.iter().chain(GUARD).chain(CODE);
    // That test has its own.
    let found: BTreeSet<&str> = damages
        .flat_map(|d| d.rows)
        .copied()
        .chain(["checksum"])
        .collect();
    let rows: BTreeSet<&str> = rows.iter().map(|row| row.what).collect();
    assert_eq!(rows, found);
}

#[test]
fn without_symbols_nothing_is_the_checksum() {
    let wrong = wrong(&image(), &Names::default());
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    assert!(wrong[0].1.contains("symbols beside the image"), "{wrong:?}");
}

#[test]
fn what_is_not_followed_is_counted() {
    let mut file = image();
    // jmp rax, as for the cases of a `match`; then, wide, to another function.
    leaf(&mut file, &[0xff, 0xe0, 0x48, 0xff, 0xe0]);
    let image = pe::Pe::parse(&file).unwrap();
    let Seen::Right(text) = stack::look(&image, &names()).seen else {
        panic!("the stack is as deep as before");
    };
    assert!(
        text.contains("1 indirect calls and 1 indirect jumps"),
        "{text}"
    );
    assert!(text.starts_with("4152 bytes"), "{text}");
}
