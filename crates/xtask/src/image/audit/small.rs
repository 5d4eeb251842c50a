//! A small driver's image, byte by byte, of which the audit has nothing to say: tests damage it.

/// Where its sections are in memory, each a page; in the file they follow the headers in the same order.
pub const TEXT: usize = 0x1000;
pub const RDATA: usize = 0x2000;
pub const PDATA: usize = 0x4000;
pub const RSRC: usize = 0x5000;
const RELOC: usize = 0x6000;
const END: usize = 0x7000;
const HEADERS: usize = 0x400;
const BASE: u64 = 0x1_4000_0000;

/// Places in the file that tests write to.
pub const COFF: usize = 0x84;
pub const OPTIONAL: usize = 0x98;
pub const SECTIONS: usize = OPTIONAL + 240;

/// The entry point: calls `CHECKSUM`, the kernel, and `LEAF` through a checked pointer.
pub const ENTRY: usize = TEXT;
/// A function with PCLMULQDQ and a frame of a page.
pub const CHECKSUM: usize = TEXT + 0x40;
/// A function without unwind information.
pub const LEAF: usize = TEXT + 0x80;
/// Control flow guard's own function, likewise.
const CHECK: usize = TEXT + 0xc0;
/// Bytes of code.
const CODE: u32 = 0x100;

/// Unwind information of `ENTRY` and `CHECKSUM`.
pub const UNWIND: [usize; 2] = [RDATA + 0x800, RDATA + 0x810];
/// The load configuration, its table of targets, and the slots of its functions.
pub const CONFIG: usize = RDATA + 0x100;
pub const TARGETS: usize = RDATA + 0x310;
const SLOTS: usize = RDATA + 0x300;
/// What names the symbols; the path is 24 bytes behind.
pub const SYMBOLS: usize = RDATA + 0x400;
/// An export table with one name, which the directory does not mention.
pub const EXPORTS: usize = RDATA + 0x500;
/// The import tables, with room before the names.
pub const IMPORTS: usize = RDATA + 0xa00;
const IMPORTED: usize = RDATA + 0xb00;
pub const FUNCTION: usize = RDATA + 0xc02;
pub const MODULE: usize = RDATA + 0xd00;
/// `VS_FIXEDFILEINFO`.
pub const VERSION: usize = RSRC + 0x40;

/// Where a data directory's entry is in the file.
pub fn directory(index: usize) -> usize {
    OPTIONAL + 112 + index * 8
}

/// Where in the file something of the image is.
pub fn offset(at: usize) -> usize {
    HEADERS + at - TEXT
}

/// Writes bytes into the file.
pub fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Writes a 32-bit word into the file.
pub fn word(file: &mut [u8], at: usize, value: u32) {
    put(file, at, &value.to_le_bytes());
}

/// A near call (or jump, by its opcode) of five bytes.
pub fn branch(opcode: u8, from: usize, to: usize) -> [u8; 5] {
    let [a, b, c, d] = (to as i32 - from as i32 - 5).to_le_bytes();
    [opcode, a, b, c, d]
}

/// Makes the checksum right. Written as ImageHlp's documentation has it, bytes by bytes, not as the audit has it.
pub fn seal(file: &mut [u8]) {
    word(file, OPTIONAL + 64, 0);
    let mut sum = 0u64;
    for (index, byte) in file.iter().enumerate() {
        sum += u64::from(*byte) << (index % 2 * 8);
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    word(file, OPTIONAL + 64, sum as u32 + file.len() as u32);
}

/// The file.
pub fn image() -> Vec<u8> {
    let mut file = vec![0; HEADERS + END - TEXT];
    headers(&mut file);
    code(&mut file);
    guard(&mut file);
    tables(&mut file);
    seal(&mut file);
    file
}

fn headers(file: &mut [u8]) {
    put(file, 0, b"MZ");
    word(file, 0x3c, 0x80);
    put(file, 0x80, b"PE\0\0");
    put(file, COFF, &0x8664u16.to_le_bytes());
    put(file, COFF + 2, &6u16.to_le_bytes());
    put(file, COFF + 16, &240u16.to_le_bytes());
    put(file, COFF + 18, &0x22u16.to_le_bytes());
    put(file, OPTIONAL, &0x20bu16.to_le_bytes());
    for (field, value) in [
        (16, ENTRY as u32),
        (32, 0x1000),
        (36, 0x200),
        // Version 10.0 of the subsystem, which is native.
        (48, 10),
        (56, END as u32),
        (60, HEADERS as u32),
        (68, 1),
        (108, 16),
    ] {
        word(file, OPTIONAL + field, value);
    }
    put(file, OPTIONAL + 24, &BASE.to_le_bytes());
    // NX, ASLR, high entropy, control flow guard.
    put(file, OPTIONAL + 70, &0x4160u16.to_le_bytes());
    for (index, at, len) in [
        (1, IMPORTS, 40),
        (2, RSRC, 0x200),
        (3, PDATA, 24),
        (5, RELOC, 12),
        (10, CONFIG, 0x100),
    ] {
        word(file, directory(index), at as u32);
        word(file, directory(index) + 4, len);
    }
    const READ: u32 = 0x4800_0000;
    for (i, (name, at, len, flags)) in [
        (".text", TEXT, CODE, READ | 0x2000_0000),
        (".rdata", RDATA, 0x1000, READ),
        (".data", 0x3000, 0x1000, READ | 0x8000_0000),
        (".pdata", PDATA, 0x1000, READ),
        (".rsrc", RSRC, 0x1000, READ),
        (".reloc", RELOC, 0x1000, 0x4200_0000),
    ]
    .into_iter()
    .enumerate()
    {
        let header = SECTIONS + i * 40;
        put(file, header, name.as_bytes());
        for (field, value) in [
            (8, len),
            (12, at as u32),
            (16, 0x1000),
            (20, offset(at) as u32),
            (36, flags),
        ] {
            word(file, header + field, value);
        }
    }
}

fn code(file: &mut [u8]) {
    file[offset(TEXT)..offset(TEXT + CODE as usize)].fill(0xcc);
    let indirect = |from: usize, to: usize| {
        let [_, a, b, c, d] = branch(0, from + 1, to);
        [0xff, 0x15, a, b, c, d]
    };
    // sub rsp, 28h; calls: CHECKSUM, the kernel, control flow guard, rax; add rsp, 28h; ret
    let mut entry = vec![0x48, 0x83, 0xec, 0x28];
    entry.extend(branch(0xe8, ENTRY + entry.len(), CHECKSUM));
    entry.extend(indirect(ENTRY + entry.len(), IMPORTED));
    entry.extend(indirect(ENTRY + entry.len(), SLOTS));
    entry.extend([0xff, 0xd0, 0x48, 0x83, 0xc4, 0x28, 0xc3]);
    put(file, offset(ENTRY), &entry);
    // sub rsp, 1000h; pclmulqdq xmm0, xmm1, 0; add rsp, 1000h; ret
    let checksum = [
        0x48, 0x81, 0xec, 0, 0x10, 0, 0, 0x66, 0x0f, 0x3a, 0x44, 0xc1, 0, 0x48, 0x81, 0xc4, 0,
        0x10, 0, 0, 0xc3,
    ];
    put(file, offset(CHECKSUM), &checksum);
    // tzcnt eax, ecx; ret
    put(file, offset(LEAF), &[0xf3, 0x0f, 0xbc, 0xc1, 0xc3]);
    put(file, offset(CHECK), &[0xc3]);
    // UWOP_ALLOC_SMALL and UWOP_ALLOC_LARGE.
    put(file, offset(UNWIND[0]), &[1, 4, 1, 0, 4, 0x42, 0, 0]);
    put(file, offset(UNWIND[1]), &[1, 7, 2, 0, 7, 1, 0, 2]);
    for (i, value) in [
        (ENTRY, entry.len(), UNWIND[0]),
        (CHECKSUM, checksum.len(), UNWIND[1]),
    ]
    .into_iter()
    .flat_map(|(begin, len, unwind)| [begin, begin + len, unwind])
    .enumerate()
    {
        word(file, offset(PDATA) + i * 4, value as u32);
    }
}

fn guard(file: &mut [u8]) {
    let address = |at: usize| (BASE + at as u64).to_le_bytes();
    word(file, offset(CONFIG), 0x100);
    put(file, offset(CONFIG) + 0x70, &address(SLOTS));
    put(file, offset(CONFIG) + 0x78, &address(SLOTS + 8));
    put(file, offset(CONFIG) + 0x80, &address(TARGETS));
    word(file, offset(CONFIG) + 0x88, 2);
    word(file, offset(CONFIG) + 0x90, 0x500);
    put(file, offset(SLOTS), &address(CHECK));
    put(file, offset(SLOTS) + 8, &address(CHECK));
    word(file, offset(TARGETS), ENTRY as u32);
    word(file, offset(TARGETS) + 4, LEAF as u32);
}

fn tables(file: &mut [u8]) {
    put(file, offset(SYMBOLS), b"RSDS");
    put(file, offset(SYMBOLS) + 24, b"vroce.pdb\0");
    for (i, value) in [0xfeef_04bd, 0x0001_0000, 0x0001_0002, 0x0003_0004]
        .into_iter()
        .enumerate()
    {
        word(file, offset(VERSION) + i * 4, value);
    }
    // VFT_DRV.
    word(file, offset(VERSION) + 9 * 4, 3);
    // One import.
    let lookups = IMPORTS + 0x80;
    for (field, value) in [(0, lookups), (12, MODULE), (16, IMPORTED)] {
        word(file, offset(IMPORTS) + field, value as u32);
    }
    for at in [lookups, IMPORTED] {
        word(file, offset(at), FUNCTION as u32 - 2);
    }
    put(file, offset(FUNCTION), b"KeBugCheckEx");
    put(file, offset(MODULE), b"ntoskrnl.exe");
    // One export: addresses, names and ordinals behind the directory.
    for (field, value) in [
        (12, EXPORTS + 0x60),
        (16, 1),
        (20, 1),
        (24, 1),
        (28, EXPORTS + 0x40),
        (32, EXPORTS + 0x48),
        (36, EXPORTS + 0x50),
        (0x40, LEAF),
        (0x48, EXPORTS + 0x60),
    ] {
        word(file, offset(EXPORTS) + field, value as u32);
    }
    put(file, offset(EXPORTS) + 0x60, b"anybody\0");
    // A block with one entry of 64 bits and one of padding.
    word(file, offset(RELOC), RDATA as u32);
    word(file, offset(RELOC) + 4, 12);
    word(file, offset(RELOC) + 8, 0xa300);
}
