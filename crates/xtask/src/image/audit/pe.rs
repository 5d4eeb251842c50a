//! An image file as the audit wants to see it: as it lies in memory.

use anyhow::{Result, bail};
use object::LittleEndian as LE;
use object::pe::{IMAGE_SCN_MEM_EXECUTE, ImageNtHeaders64, ImageSectionHeader};
use object::read::pe::{ImageNtHeaders, ImageOptionalHeader, PeFile64};
use std::ops::Range;

/// An image.
pub struct Pe<'a> {
    /// The file.
    pub file: PeFile64<'a>,
    /// Its bytes as in memory, before relocation.
    pub memory: Vec<u8>,
}

/// A function's entry in the exception directory: its code and what its prologue does to the stack. All are relative addresses.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// Its first byte.
    pub begin: u32,
    /// The byte after its last.
    pub end: u32,
    /// Its unwind information.
    pub unwind: u32,
}

impl<'a> Pe<'a> {
    /// Reads an image.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let file = PeFile64::parse(bytes)?;
        let optional = file.nt_headers().optional_header();
        let size = optional.size_of_image() as usize;
        if size > 64 << 20 {
            bail!("it takes {size} bytes of memory");
        }
        let mut memory = vec![0; size];
        let headers = (optional.size_of_headers() as usize)
            .min(bytes.len())
            .min(size);
        memory[..headers].copy_from_slice(&bytes[..headers]);
        for section in file.section_table().iter() {
            let at = section.virtual_address.get(LE) as usize;
            let Ok(data) = section.pe_data(bytes) else {
                bail!("section {} is not in the file", name(section));
            };
            let Some(room) = memory.get_mut(at..).filter(|room| room.len() >= data.len()) else {
                bail!("section {} lies outside the image", name(section));
            };
            room[..data.len()].copy_from_slice(data);
        }
        Ok(Self { file, memory })
    }

    /// Its headers.
    pub fn headers(&self) -> &'a ImageNtHeaders64 {
        self.file.nt_headers()
    }

    /// Its sections.
    pub fn sections(&self) -> impl Iterator<Item = &'a ImageSectionHeader> + use<'a> {
        self.file.section_table().iter()
    }

    /// Where a data directory says its data is.
    pub fn directory(&self, index: usize) -> Option<Range<usize>> {
        let (at, len) = self.file.data_directory(index)?.address_range();
        let range = at as usize..(at as usize).checked_add(len as usize)?;
        (at != 0 && range.end <= self.memory.len()).then_some(range)
    }

    /// A 32-bit word.
    pub fn word(&self, at: usize) -> Option<u32> {
        let bytes = self.memory.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    /// A 64-bit word.
    pub fn quad(&self, at: usize) -> Option<u64> {
        let bytes = self.memory.get(at..at.checked_add(8)?)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }

    /// An absolute address, as a relative one.
    pub fn relative(&self, address: u64) -> Option<usize> {
        let base = self.headers().optional_header().image_base();
        usize::try_from(address.checked_sub(base)?)
            .ok()
            .filter(|at| *at < self.memory.len())
    }

    /// Whether code may be there.
    pub fn is_code(&self, at: usize) -> bool {
        self.sections().any(|section| {
            let start = section.virtual_address.get(LE) as usize;
            let len = section.virtual_size.get(LE) as usize;
            section.characteristics.get(LE).0 & IMAGE_SCN_MEM_EXECUTE.0 != 0
                && (start..start + len).contains(&at)
        })
    }

    /// The functions of the exception directory, in order of their addresses. Functions that call nobody and save nothing are not in it:
    /// they are in the [`gaps`](Self::gaps).
    pub fn functions(&self) -> Vec<Function> {
        let Some(range) = self.directory(object::pe::IMAGE_DIRECTORY_ENTRY_EXCEPTION) else {
            return Vec::new();
        };
        range
            .step_by(12)
            .filter_map(|at| {
                Some(Function {
                    begin: self.word(at)?,
                    end: self.word(at + 4)?,
                    unwind: self.word(at + 8)?,
                })
            })
            .collect()
    }

    /// What the executable sections have besides the functions of the exception directory, without the `int3` that surround it.
    pub fn gaps(&self) -> Vec<Range<u32>> {
        const INT3: u8 = 0xcc;
        let mut functions = self.functions();
        functions.sort_unstable_by_key(|function| function.begin);
        let mut gaps = Vec::new();
        for section in self.sections() {
            if section.characteristics.get(LE).0 & IMAGE_SCN_MEM_EXECUTE.0 == 0 {
                continue;
            }
            let mut begin = section.virtual_address.get(LE);
            let end = begin.saturating_add(section.virtual_size.get(LE));
            for function in &functions {
                if (begin..end).contains(&function.begin) {
                    gaps.push(begin..function.begin);
                }
                if (begin..end).contains(&function.end) {
                    begin = function.end;
                }
            }
            gaps.push(begin..end);
        }
        let trimmed = gaps.into_iter().filter_map(|gap| {
            let bytes = self.memory.get(gap.start as usize..gap.end as usize)?;
            let first = bytes.iter().position(|byte| *byte != INT3)?;
            let last = bytes.iter().rposition(|byte| *byte != INT3)?;
            Some(gap.start + first as u32..gap.start + last as u32 + 1)
        });
        trimmed.collect()
    }

    /// Module and name of every import, and where its address will be.
    pub fn imports(&self) -> Result<Vec<(String, String, usize)>> {
        let mut found = Vec::new();
        let Some(table) = self.file.import_table()? else {
            return Ok(found);
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut descriptors = table.descriptors()?;
        while let Some(descriptor) = descriptors.next()? {
            let module = text(table.name(descriptor.name.get(LE))?);
            let mut at = descriptor.first_thunk.get(LE) as usize;
            let mut thunks = table.thunks(descriptor.original_first_thunk.get(LE))?;
            while let Some(thunk) = thunks.next::<ImageNtHeaders64>()? {
                let name = match table.import::<ImageNtHeaders64>(thunk)? {
                    object::read::pe::Import::Name(_, name) => text(name),
                    object::read::pe::Import::Ordinal(number) => format!("#{number}"),
                };
                found.push((module.clone(), name, at));
                at += 8;
            }
        }
        Ok(found)
    }
}

/// A section's name.
pub fn name(section: &ImageSectionHeader) -> String {
    String::from_utf8_lossy(section.raw_name()).into_owned()
}
