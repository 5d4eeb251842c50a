//! Names of an image's functions and lines, from the symbols that lie beside it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use object::Object;
use object::read::pe::PeFile64;
use pdb2::{FallibleIterator, PDB, SymbolData};

/// Functions and lines by relative virtual address.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    /// Length and name of each function, by where it begins.
    functions: BTreeMap<u32, (u32, String)>,
    /// File and number of each line, by where its code begins.
    lines: BTreeMap<u32, (String, u32)>,
}

impl Symbols {
    /// Those in the file of the image's name that ends in `.pdb`. None if there is no such file, or it is another build's.
    pub(super) fn beside(image: &Path, bytes: &[u8]) -> Option<Self> {
        let stated = PeFile64::parse(bytes).ok()?.pdb_info().ok()??.guid();
        let mut pdb = PDB::open(File::open(image.with_extension("pdb")).ok()?).ok()?;
        let guid = pdb.pdb_information().ok()?.guid;
        (guid.to_bytes_le() == stated).then_some(())?;
        Self::read(&mut pdb).ok()
    }

    fn read(pdb: &mut PDB<'_, File>) -> pdb2::Result<Self> {
        let mut symbols = Self::default();
        let addresses = pdb.address_map()?;
        let strings = pdb.string_table()?;
        let information = pdb.debug_information()?;
        let mut modules = information.modules()?;
        while let Some(module) = modules.next()? {
            let Some(module) = pdb.module_info(&module)? else {
                continue;
            };
            let mut all = module.symbols()?;
            while let Some(symbol) = all.next()? {
                if let Ok(SymbolData::Procedure(procedure)) = symbol.parse()
                    && let Some(at) = procedure.offset.to_rva(&addresses)
                {
                    let name = procedure.name.to_string().into_owned();
                    symbols.functions.insert(at.0, (procedure.len, name));
                }
            }
            let program = module.line_program()?;
            let mut lines = program.lines();
            while let Some(line) = lines.next()? {
                let Some(at) = line.offset.to_rva(&addresses) else {
                    continue;
                };
                let file = program.get_file_info(line.file_index)?.name;
                let file = file.to_string_lossy(&strings)?;
                let name = file.rsplit(['/', '\\']).next().unwrap_or(&file);
                symbols
                    .lines
                    .insert(at.0, (name.to_owned(), line.line_start));
            }
        }
        Ok(symbols)
    }

    /// `function+offset (file:line)` for an address in a function.
    pub(super) fn name(&self, at: u32) -> Option<String> {
        let (start, (length, name)) = self.functions.range(..=at).next_back()?;
        let offset = at - start;
        if offset >= *length {
            return None;
        }
        let line = self.lines.range(start..=&at).next_back();
        Some(match line {
            Some((_, (file, line))) => format!("{name}+{offset:#x} ({file}:{line})"),
            None => format!("{name}+{offset:#x}"),
        })
    }
}
