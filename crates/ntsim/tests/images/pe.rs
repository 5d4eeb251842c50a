//! Makes small images, byte by byte.

/// Offsets of the sections in the image and, as they are all one page, in the file behind the headers.
pub const TEXT: u32 = 0x1000;
/// Data that is only read, and the import tables.
pub const RDATA: u32 = 0x2000;
/// Data that is written.
pub const DATA: u32 = 0x3000;
/// Base relocations.
pub const RELOC: u32 = 0x4000;
const SIZE: u32 = 0x5000;
const HEADERS: usize = 0x400;
const PAGE: usize = 0x1000;
/// The address the image is linked for.
pub const BASE: u64 = 0x1_4000_0000;
/// Where in `RDATA` addresses of imports are put, 8 bytes each.
pub const IMPORTS: u32 = RDATA + 0x800;

/// Where in `RDATA` the loader puts the functions of control flow guard that check a target, and that go on to it.
pub const GUARD_CHECK: u32 = RDATA + 0x700;
pub const GUARD_DISPATCH: u32 = RDATA + 0x708;
/// The load configuration and the table of allowed targets.
const CONFIGURATION: u32 = RDATA + 0x400;
const TARGETS: u32 = RDATA + 0x500;

const READ: u32 = 0x4000_0000;
const WRITE: u32 = 0x8000_0000;
const EXECUTE: u32 = 0x2000_0000;
const DISCARD: u32 = 0x0200_0000;

/// What an image is made of.
pub struct Pe {
    pub machine: u16,
    pub subsystem: u16,
    pub text: Vec<u8>,
    pub rdata: Vec<u8>,
    pub data: Vec<u8>,
    /// Where in the image addresses of the image are.
    pub relocations: Vec<u32>,
    /// Module and function, in the order of their places at `IMPORTS`; one module after the other.
    pub imports: Vec<(&'static str, &'static str)>,
    /// What the sections of code and data are called.
    pub text_name: &'static str,
    pub data_name: &'static str,
    /// More characteristics of the code's section.
    pub text_flags: u32,
    pub guard: Option<Guard>,
    /// More directories: number, address and length.
    pub directories: Vec<(usize, u32, u32)>,
}

/// What an image says of control flow guard.
#[derive(Clone)]
pub struct Guard {
    /// Its header says that it was linked for it.
    pub linked: bool,
    pub flags: u32,
    /// Entries of the table.
    pub targets: Vec<Vec<u8>>,
    /// How many there are said to be.
    pub count: u64,
}

impl Guard {
    /// Of an image that lets these functions be called.
    pub fn of(targets: &[u32]) -> Self {
        Self {
            linked: true,
            // Instrumented, with a table whose entries are addresses only.
            flags: 0x500,
            targets: targets.iter().map(|t| t.to_le_bytes().to_vec()).collect(),
            count: targets.len() as u64,
        }
    }
}

impl Pe {
    /// A driver with this code, its entry point at the start.
    pub fn with(text: &[u8]) -> Self {
        Self {
            machine: 0x8664,
            subsystem: 1,
            text: text.to_vec(),
            rdata: Vec::new(),
            data: Vec::new(),
            relocations: Vec::new(),
            imports: Vec::new(),
            text_name: ".text",
            data_name: ".data",
            text_flags: 0,
            guard: None,
            directories: Vec::new(),
        }
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut file = vec![0; HEADERS + 4 * PAGE];
        let section = |file: &mut Vec<u8>, at: u32, bytes: &[u8]| put(file, offset(at), bytes);
        section(&mut file, TEXT, &self.text);
        section(&mut file, RDATA, &self.rdata);
        section(&mut file, DATA, &self.data);
        let mut places = self.relocations.clone();
        if let Some(guard) = &self.guard {
            places.extend(Self::configuration(&mut file, guard));
        }
        let relocations = relocation_table(&places);
        section(&mut file, RELOC, &relocations);
        let imports = self.import_table(&mut file);
        self.headers(&mut file, imports, relocations.len() as u32);
        file
    }

    /// Writes the load configuration and what it points at. Gives the places in it that have to be relocated.
    fn configuration(file: &mut [u8], guard: &Guard) -> [u32; 3] {
        put(file, offset(CONFIGURATION), &0x94u32.to_le_bytes());
        let pointers = [(0x70, GUARD_CHECK), (0x78, GUARD_DISPATCH), (0x80, TARGETS)];
        for (field, to) in pointers {
            let address = BASE + u64::from(to);
            put(file, offset(CONFIGURATION + field), &address.to_le_bytes());
        }
        put(
            file,
            offset(CONFIGURATION + 0x88),
            &guard.count.to_le_bytes(),
        );
        put(
            file,
            offset(CONFIGURATION + 0x90),
            &guard.flags.to_le_bytes(),
        );
        put(file, offset(TARGETS), &guard.targets.concat());
        pointers.map(|(field, _)| CONFIGURATION + field)
    }

    /// Writes the import tables behind the address slots. Gives the directory's range.
    fn import_table(&self, file: &mut [u8]) -> (u32, u32) {
        let directory = RDATA + 0xa00;
        let mut names = RDATA + 0xc00;
        let mut lookups = RDATA + 0x900;
        let mut slot = IMPORTS;
        let mut descriptor = directory;
        let mut at = 0;
        while at < self.imports.len() {
            let module = self.imports[at].0;
            let of_module = self.imports[at..].iter().take_while(|(m, _)| *m == module);
            let (first_lookup, first_slot) = (lookups, slot);
            let mut count = 0;
            for (_, function) in of_module {
                put(file, offset(lookups), &u64::from(names).to_le_bytes());
                put(file, offset(slot), &u64::from(names).to_le_bytes());
                put(file, offset(names + 2), function.as_bytes());
                names += 2 + function.len() as u32 + 1;
                names += names % 2;
                lookups += 8;
                slot += 8;
                count += 1;
            }
            lookups += 8;
            slot += 8;
            put(file, offset(names), module.as_bytes());
            for (field, value) in [(0, first_lookup), (12, names), (16, first_slot)] {
                put(file, offset(descriptor + field), &value.to_le_bytes());
            }
            names += module.len() as u32 + 1;
            names += names % 2;
            descriptor += 20;
            at += count;
        }
        (directory, descriptor + 20 - directory)
    }

    fn headers(&self, file: &mut [u8], imports: (u32, u32), relocations: u32) {
        put(file, 0, b"MZ");
        put(file, 0x3c, &0x80u32.to_le_bytes());
        put(file, 0x80, b"PE\0\0");
        // COFF header: four sections, executable, with relocations.
        put(file, 0x84, &self.machine.to_le_bytes());
        put(file, 0x86, &4u16.to_le_bytes());
        put(file, 0x94, &240u16.to_le_bytes());
        put(file, 0x96, &0x22u16.to_le_bytes());
        let optional = 0x98;
        for (at, value) in [
            (16, TEXT),
            (32, 0x1000),
            (36, 0x200),
            (56, SIZE),
            (60, HEADERS as u32),
            (108, 16),
        ] {
            put(file, optional + at, &value.to_le_bytes());
        }
        put(file, optional, &0x20bu16.to_le_bytes());
        put(file, optional + 24, &BASE.to_le_bytes());
        put(file, optional + 68, &self.subsystem.to_le_bytes());
        // Import table and base relocation table.
        let directories = optional + 112;
        if !self.imports.is_empty() {
            put(file, directories + 8, &imports.0.to_le_bytes());
            put(file, directories + 12, &imports.1.to_le_bytes());
        }
        if relocations != 0 {
            put(file, directories + 40, &RELOC.to_le_bytes());
            put(file, directories + 44, &relocations.to_le_bytes());
        }
        if let Some(guard) = &self.guard {
            put(file, directories + 80, &CONFIGURATION.to_le_bytes());
            put(file, directories + 84, &0x94u32.to_le_bytes());
            // Relocatable, and guarded.
            let flags = 0x40 | if guard.linked { 0x4000u16 } else { 0 };
            put(file, optional + 70, &flags.to_le_bytes());
        }
        for (number, at, len) in &self.directories {
            put(file, directories + number * 8, &at.to_le_bytes());
            put(file, directories + number * 8 + 4, &len.to_le_bytes());
        }
        let sections = [
            (self.text_name, TEXT, READ | EXECUTE | self.text_flags),
            (".rdata", RDATA, READ),
            (self.data_name, DATA, READ | WRITE),
            (".reloc", RELOC, READ | DISCARD),
        ];
        for (i, (name, at, flags)) in sections.into_iter().enumerate() {
            let header = optional + 240 + i * 40;
            put(file, header, name.as_bytes());
            for (field, value) in [
                (8, PAGE as u32),
                (12, at),
                (16, PAGE as u32),
                (20, offset(at) as u32),
                (36, flags),
            ] {
                put(file, header + field, &value.to_le_bytes());
            }
        }
        seal(file);
    }
}

fn relocation_table(places: &[u32]) -> Vec<u8> {
    let mut table = Vec::new();
    for at in places {
        // A block for each, with an entry that pads it to four bytes.
        table.extend((at & !0xfff).to_le_bytes());
        table.extend(12u32.to_le_bytes());
        table.extend((0xa000 | (at & 0xfff) as u16).to_le_bytes());
        table.extend(0u16.to_le_bytes());
    }
    table
}

/// Where in the file something of the image is.
pub fn offset(at: u32) -> usize {
    HEADERS + (at - TEXT) as usize
}

/// Writes bytes.
pub fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Makes the checksum right.
pub fn seal(file: &mut [u8]) {
    let field = 0x98 + 64;
    put(file, field, &[0; 4]);
    let mut sum = 0u32;
    for pair in file.chunks(2) {
        sum += u32::from(pair[0]) | u32::from(pair.get(1).copied().unwrap_or(0)) << 8;
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = sum + file.len() as u32;
    put(file, field, &sum.to_le_bytes());
}
