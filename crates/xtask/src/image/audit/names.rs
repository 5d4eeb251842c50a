//! Names of functions, from the symbols that lie beside an image.

use object::LittleEndian as LE;
use pdb2::{FallibleIterator, PDB, SymbolData};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use super::pe::Pe;

/// Names by relative address.
#[derive(Default)]
pub struct Names(BTreeMap<u32, String>);

impl Names {
    /// Those of an image, if its symbols are beside it.
    pub fn beside(image: &Path, pe: &Pe<'_>) -> Self {
        Self::read(&image.with_extension("pdb"), pe).unwrap_or_default()
    }

    fn read(path: &Path, pe: &Pe<'_>) -> Option<Self> {
        let sections: Vec<u32> = pe.sections().map(|s| s.virtual_address.get(LE)).collect();
        let mut pdb = PDB::open(File::open(path).ok()?).ok()?;
        let mut names = BTreeMap::new();
        let information = pdb.debug_information().ok()?;
        let mut modules = information.modules().ok()?;
        while let Ok(Some(module)) = modules.next() {
            let Ok(Some(module)) = pdb.module_info(&module) else {
                continue;
            };
            let Ok(mut symbols) = module.symbols() else {
                continue;
            };
            while let Ok(Some(symbol)) = symbols.next() {
                if let Ok(SymbolData::Procedure(procedure)) = symbol.parse() {
                    let section = usize::from(procedure.offset.section).checked_sub(1);
                    let start = section.and_then(|section| sections.get(section));
                    if let Some(start) = start {
                        names.insert(
                            start + procedure.offset.offset,
                            procedure.name.to_string().into_owned(),
                        );
                    }
                }
            }
        }
        Some(Self(names))
    }

    /// What begins at an address.
    pub fn of(&self, at: u32) -> String {
        self.0
            .get(&at)
            .cloned()
            .unwrap_or_else(|| format!("{at:#x}"))
    }

    /// What an address lies in: the last that begins before it.
    pub fn around(&self, at: u32) -> Option<&str> {
        self.0
            .range(..=at)
            .next_back()
            .map(|(_, name)| name.as_str())
    }

    /// Where something begins.
    pub fn starts(&self) -> impl Iterator<Item = u32> {
        self.0.keys().copied()
    }
}

#[cfg(test)]
impl<const N: usize> From<[(u32, &str); N]> for Names {
    fn from(names: [(u32, &str); N]) -> Self {
        Self(names.map(|(at, name)| (at, name.to_owned())).into())
    }
}
