//! An image as a file: what the kernel's loader demands of it before it maps anything.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use object::FileKind;
use object::LittleEndian as LE;
use object::pe::{
    IMAGE_DIRECTORY_ENTRY_DELAY_IMPORT, IMAGE_DIRECTORY_ENTRY_EXCEPTION,
    IMAGE_DIRECTORY_ENTRY_LOAD_CONFIG, IMAGE_DIRECTORY_ENTRY_TLS,
    IMAGE_DLLCHARACTERISTICS_GUARD_CF, IMAGE_FILE_EXECUTABLE_IMAGE, IMAGE_FILE_MACHINE_AMD64,
    IMAGE_FILE_RELOCS_STRIPPED, IMAGE_SCN_MEM_DISCARDABLE, IMAGE_SCN_MEM_EXECUTE,
    IMAGE_SCN_MEM_NOT_PAGED, IMAGE_SCN_MEM_WRITE, IMAGE_SUBSYSTEM_NATIVE, ImageNtHeaders64,
};
use object::read::pe::{ImageNtHeaders, ImageOptionalHeader, PeFile64};

use super::ImageError;
use super::symbols::Symbols;
use super::unwind::{self, Contents};
use crate::memory::PAGE;

/// A driver's image, read from a `.sys` file.
#[derive(Debug, Clone)]
pub struct Image {
    /// What it is called in reports: the file's name.
    name: String,
    /// Where it was read from.
    path: Option<PathBuf>,
    bytes: Arc<[u8]>,
    /// Made when somebody first asks.
    build: Arc<OnceLock<u64>>,
    layout: Arc<Layout>,
    /// Read when a report first asks: that takes longer than loading the image.
    symbols: Arc<OnceLock<Result<Symbols, String>>>,
}

/// What of an image's headers its loading needs. Offsets are relative virtual addresses, from the start of the image.
#[derive(Debug)]
pub(super) struct Layout {
    /// The address that the image is linked for.
    pub(super) base: u64,
    /// Bytes, whole pages.
    pub(super) size: usize,
    pub(super) entry: usize,
    /// Bytes of headers, mapped at the start.
    pub(super) headers: usize,
    pub(super) sections: Vec<Section>,
    /// Where 64-bit addresses have to be relocated.
    pub(super) relocations: Vec<usize>,
    pub(super) imports: Vec<Import>,
    /// The load configuration directory.
    pub(super) load_config: Option<(usize, usize)>,
    /// The exception directory.
    pub(super) exceptions: unwind::Table,
    /// Its header says that it was linked for control flow guard.
    pub(super) guarded: bool,
}

#[derive(Debug)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) at: usize,
    /// Bytes, whole pages.
    pub(super) size: usize,
    /// Where its contents are in the file, and how many bytes; the rest is zero.
    pub(super) contents: std::ops::Range<usize>,
    pub(super) writable: bool,
    pub(super) executable: bool,
    /// Goes when the entry point has returned.
    pub(super) discardable: bool,
    /// May be paged out.
    pub(super) pageable: bool,
}

#[derive(Debug)]
pub(super) struct Import {
    pub(super) module: String,
    pub(super) function: String,
    /// Where the function's address is to be stored.
    pub(super) at: usize,
}

fn unfit(what: impl Into<String>) -> ImageError {
    ImageError::Unfit(what.into())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The checksum of an image, as the kernel's loader computes it: 16-bit words added with end-around carry, the field itself taken
/// as zero, plus the length of the file.
fn checksum(bytes: &[u8], field: usize) -> u32 {
    let word = |at: usize| {
        let byte = |at: usize| {
            let own = (field..field + 4).contains(&at);
            u32::from(bytes.get(at).copied().filter(|_| !own).unwrap_or(0))
        };
        byte(at) | byte(at + 1) << 8
    };
    let sum = (0..bytes.len()).step_by(2).fold(0u32, |sum, at| {
        let sum = sum + word(at);
        (sum & 0xffff) + (sum >> 16)
    });
    sum.wrapping_add(bytes.len() as u32)
}

impl Image {
    /// Reads an image. If its symbols lie beside it (`.pdb` instead of `.sys`), reports name its functions and lines.
    ///
    /// # Errors
    /// The file cannot be read, or is no driver for x86-64.
    pub fn read(path: &Path) -> Result<Image, ImageError> {
        let bytes = std::fs::read(path)
            .map_err(|e| ImageError::Read(format!("{}: {e}", path.display())))?;
        let name = path.file_name().unwrap_or(path.as_os_str());
        Ok(Image {
            path: Some(path.to_owned()),
            ..Self::parse(&name.to_string_lossy(), bytes)?
        })
    }

    /// Takes a file's bytes for an image.
    ///
    /// # Errors
    /// They are not a driver for x86-64.
    pub fn parse(name: &str, bytes: Vec<u8>) -> Result<Image, ImageError> {
        let layout = Layout::read(&bytes)?;
        Ok(Image {
            name: name.to_owned(),
            path: None,
            bytes: bytes.into(),
            build: Arc::default(),
            layout: Arc::new(layout),
            symbols: Arc::default(),
        })
    }

    /// The file's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A number that another build does not have.
    pub(super) fn build(&self) -> u64 {
        *self.build.get_or_init(|| {
            let mut hasher = DefaultHasher::new();
            self.bytes.hash(&mut hasher);
            hasher.finish()
        })
    }

    /// What its symbols say; or why there are none.
    pub(super) fn symbols(&self) -> Result<&Symbols, &str> {
        let Some(path) = self.path.as_deref() else {
            return Err("");
        };
        let symbols = self
            .symbols
            .get_or_init(|| Symbols::beside(path, &self.bytes));
        symbols.as_ref().map_err(String::as_str)
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }
}

impl Contents for Image {
    fn bytes(&self, at: u32, len: usize) -> Option<&[u8]> {
        let at = at as usize;
        let sections = &self.layout.sections;
        let section = sections
            .iter()
            .find(|s| at.wrapping_sub(s.at) < s.contents.len())?;
        let contents = self.bytes.get(section.contents.clone())?;
        contents.get(at - section.at..)?.get(..len)
    }
}

impl Layout {
    fn read(bytes: &[u8]) -> Result<Layout, ImageError> {
        if let Ok(FileKind::Pe32) = FileKind::parse(bytes) {
            return Err(unfit("it is for a 32-bit processor, not for x86-64"));
        }
        let file = PeFile64::parse(bytes)?;
        let headers = file.nt_headers();
        Self::check(headers)?;
        let optional = headers.optional_header();
        let field = file.dos_header().nt_headers_offset() as usize + 24 + 64;
        let (stated, actual) = (optional.check_sum(), checksum(bytes, field));
        if stated != actual {
            return Err(unfit(match stated {
                0 => "it has no checksum: link with /RELEASE".to_owned(),
                _ => format!(
                    "its checksum is {stated:#x}, that of its contents {actual:#x}: the file was changed or cut short after it was linked, \
                     or another tool wrote the checksum"
                ),
            }));
        }
        let size = (optional.size_of_image() as usize).next_multiple_of(PAGE);
        let inside = |at: usize, len: usize| at.checked_add(len).is_some_and(|end| end <= size);
        let headers = optional.size_of_headers() as usize;
        if headers > bytes.len() || !inside(headers, 0) {
            return Err(ImageError::Malformed("its headers do not fit in it".into()));
        }
        let mut end = headers.next_multiple_of(PAGE);
        let sections: Vec<Section> = file
            .section_table()
            .iter()
            .map(|header| {
                let name = text(header.raw_name());
                let at = header.virtual_address.get(LE) as usize;
                let used = header.virtual_size.get(LE) as usize;
                let raw = header.size_of_raw_data.get(LE) as usize;
                let start = header.pointer_to_raw_data.get(LE) as usize;
                let raw = raw.min(if used == 0 { raw } else { used });
                let characteristics = header.characteristics.get(LE).0;
                let has = |flag: u32| characteristics & flag != 0;
                let section = Section {
                    at,
                    size: used.max(raw).next_multiple_of(PAGE),
                    contents: start..start.saturating_add(raw),
                    writable: has(IMAGE_SCN_MEM_WRITE.0),
                    executable: has(IMAGE_SCN_MEM_EXECUTE.0),
                    discardable: has(IMAGE_SCN_MEM_DISCARDABLE.0),
                    pageable: name.starts_with("PAGE") && !has(IMAGE_SCN_MEM_NOT_PAGED.0),
                    name,
                };
                if !at.is_multiple_of(PAGE) || at < end || !inside(at, section.size) {
                    return Err(ImageError::Malformed(format!(
                        "section {} lies outside the image, over another section, or not on a page",
                        section.name
                    )));
                }
                if section.contents.end > bytes.len() {
                    return Err(ImageError::Malformed(format!(
                        "section {} goes on after the end of the file",
                        section.name
                    )));
                }
                if section.writable && section.executable {
                    return Err(unfit(format!(
                        "section {} is both writable and executable, which hypervisor-protected code integrity forbids",
                        section.name
                    )));
                }
                end = at + section.size;
                Ok(section)
            })
            .collect::<Result<_, _>>()?;
        let entry = optional.address_of_entry_point() as usize;
        let executable = |at: usize| {
            sections
                .iter()
                .any(|s| s.executable && (s.at..s.at + s.size).contains(&at))
        };
        if !executable(entry) {
            return Err(unfit("its entry point is not in executable code"));
        }
        for (directory, what) in [
            (
                IMAGE_DIRECTORY_ENTRY_TLS,
                "it has thread-local storage, which the kernel's loader does not give",
            ),
            (
                IMAGE_DIRECTORY_ENTRY_DELAY_IMPORT,
                "it has delayed imports, which are not bound here",
            ),
        ] {
            let at = file.data_directory(directory).map(|d| d.address_range().0);
            if at.is_some_and(|at| at != 0) {
                return Err(unfit(what));
            }
        }
        let relocations = relocations(&file)?;
        let imports = imports(&file)?;
        let slots = relocations.iter().chain(imports.iter().map(|i| &i.at));
        if slots.copied().any(|at| !inside(at, 8)) {
            return Err(ImageError::Malformed(
                "a relocation or an import lies outside the image".into(),
            ));
        }
        let load_config = file
            .data_directory(IMAGE_DIRECTORY_ENTRY_LOAD_CONFIG)
            .map(|directory| directory.address_range())
            .filter(|(at, _)| *at != 0)
            .map(|(at, len)| (at as usize, len as usize));
        if load_config.is_some_and(|(at, len)| !inside(at, len.max(4))) {
            return Err(ImageError::Malformed(
                "its load configuration lies outside the image".into(),
            ));
        }
        let exceptions = file
            .data_directory(IMAGE_DIRECTORY_ENTRY_EXCEPTION)
            .map_or((0, 0), |directory| directory.address_range());
        Ok(Layout {
            base: optional.image_base(),
            size,
            entry,
            headers,
            sections,
            relocations,
            imports,
            load_config,
            exceptions,
            guarded: optional.dll_characteristics().0 & IMAGE_DLLCHARACTERISTICS_GUARD_CF.0 != 0,
        })
    }

    fn check(headers: &ImageNtHeaders64) -> Result<(), ImageError> {
        let (file, optional) = (headers.file_header(), headers.optional_header());
        let machine = file.machine.get(LE);
        if machine != IMAGE_FILE_MACHINE_AMD64 {
            return Err(unfit(format!(
                "it is for machine {:#06x}, not x86-64",
                machine.0
            )));
        }
        let characteristics = file.characteristics.get(LE).0;
        if characteristics & IMAGE_FILE_EXECUTABLE_IMAGE.0 == 0 {
            return Err(unfit("it is not executable: linked with errors?"));
        }
        if characteristics & IMAGE_FILE_RELOCS_STRIPPED.0 != 0 {
            return Err(unfit("its relocations are stripped"));
        }
        let subsystem = optional.subsystem();
        if subsystem != IMAGE_SUBSYSTEM_NATIVE {
            return Err(unfit(format!(
                "its subsystem is {}, not NATIVE (link with /SUBSYSTEM:NATIVE)",
                subsystem.0
            )));
        }
        let alignment = optional.section_alignment() as usize;
        if !alignment.is_multiple_of(PAGE) || alignment == 0 {
            return Err(unfit(format!(
                "its sections are aligned to {alignment} bytes, not to pages: they cannot be protected"
            )));
        }
        Ok(())
    }
}

fn relocations(file: &PeFile64<'_>) -> Result<Vec<usize>, ImageError> {
    use object::pe::{IMAGE_REL_BASED_ABSOLUTE, IMAGE_REL_BASED_DIR64};
    let mut found = Vec::new();
    let sections = file.section_table();
    let blocks = file
        .data_directories()
        .relocation_blocks(file.data(), &sections)?;
    if let Some(mut blocks) = blocks {
        while let Some(block) = blocks.next()? {
            for relocation in block {
                if relocation.typ == IMAGE_REL_BASED_DIR64 {
                    found.push(relocation.virtual_address as usize);
                } else if relocation.typ != IMAGE_REL_BASED_ABSOLUTE {
                    return Err(ImageError::Malformed(format!(
                        "relocation of type {} at {:#x}",
                        relocation.typ.0, relocation.virtual_address
                    )));
                }
            }
        }
    }
    Ok(found)
}

fn imports(file: &PeFile64<'_>) -> Result<Vec<Import>, ImageError> {
    let mut found = Vec::new();
    let Some(table) = file.import_table()? else {
        return Ok(found);
    };
    let mut descriptors = table.descriptors()?;
    while let Some(descriptor) = descriptors.next()? {
        let module = text(table.name(descriptor.name.get(LE))?);
        let first = descriptor.first_thunk.get(LE);
        let names = match descriptor.original_first_thunk.get(LE) {
            0 => first,
            original => original,
        };
        let mut thunks = table.thunks(names)?;
        let mut at = first as usize;
        while let Some(thunk) = thunks.next::<ImageNtHeaders64>()? {
            let function = match table.import::<ImageNtHeaders64>(thunk)? {
                object::read::pe::Import::Name(_, name) => text(name),
                object::read::pe::Import::Ordinal(number) => format!("#{number}"),
            };
            found.push(Import {
                module: module.clone(),
                function,
                at,
            });
            at += 8;
        }
    }
    Ok(found)
}
