//! Names of an image's functions, lines and variables, from the symbols that lie beside it.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;

use object::Object;
use object::read::pe::PeFile64;
use pdb2::{
    AddressMap, FallibleIterator, FileIndex, IdData, IdIndex, InlineSiteSymbol, Inlinee,
    LineProgram, ModuleInfo, PDB, PdbInternalSectionOffset, StringTable, SymbolData, SymbolTable,
    TypeData, TypeIndex,
};

/// A file and a line in it.
type Line = (String, u32);

/// Functions, lines and variables by relative virtual address.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    /// By where they begin.
    functions: BTreeMap<u32, Function>,
    /// By where their code begins.
    lines: BTreeMap<u32, Line>,
    /// By where they begin.
    variables: BTreeMap<u32, String>,
}

#[derive(Debug)]
struct Function {
    /// Bytes.
    length: u32,
    name: String,
    /// Calls in it that the compiler put the called function in place of; inner ones after those that they are in.
    inlined: Vec<Inlined>,
}

#[derive(Debug)]
struct Inlined {
    name: String,
    /// The one of the same function that it is in, if it is in another.
    within: Option<usize>,
    /// Its lines: where their code begins, and how many bytes.
    lines: Vec<(u32, u32, Line)>,
}

impl Inlined {
    fn line(&self, at: u32) -> Option<&Line> {
        let around = |(start, length, _): &&(u32, u32, Line)| at.wrapping_sub(*start) < *length;
        self.lines.iter().find(around).map(|(.., line)| line)
    }
}

impl Symbols {
    /// Those in the file of the image's name that ends in `.pdb`; or why there are none.
    pub(super) fn beside(image: &Path, bytes: &[u8]) -> Result<Self, String> {
        let path = image.with_extension("pdb");
        let name = path.file_name().unwrap_or(path.as_os_str());
        let name = name.to_string_lossy();
        let file = File::open(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => format!("no {name} beside it"),
            _ => format!("{name}: {error}"),
        })?;
        let image = PeFile64::parse(bytes).map_err(|error| error.to_string())?;
        let stated = image.pdb_info().ok().flatten();
        let stated = stated.ok_or_else(|| format!("linked without symbols, {name} is not its"))?;
        let unusable = |error| format!("{name} is not usable: {error}");
        let mut pdb = PDB::open(file).map_err(unusable)?;
        let guid = pdb.pdb_information().map_err(unusable)?.guid;
        if guid.to_bytes_le() != stated.guid() {
            return Err(format!("{name} is another build's"));
        }
        Self::read(&mut pdb).map_err(unusable)
    }

    fn read(pdb: &mut PDB<'_, File>) -> pdb2::Result<Self> {
        let mut symbols = Self::default();
        let addresses = pdb.address_map()?;
        let strings = pdb.string_table()?;
        let names = names(pdb)?;
        symbols.globals(&pdb.global_symbols()?, &addresses)?;
        let information = pdb.debug_information()?;
        let mut modules = information.modules()?;
        while let Some(module) = modules.next()? {
            if let Some(module) = pdb.module_info(&module)? {
                symbols.module(&module, &addresses, &strings, &names)?;
            }
        }
        Ok(symbols)
    }

    fn globals(&mut self, table: &SymbolTable<'_>, addresses: &AddressMap<'_>) -> pdb2::Result<()> {
        let mut all = table.iter();
        while let Some(symbol) = all.next()? {
            if let Ok(SymbolData::Data(variable)) = symbol.parse()
                && let Some(at) = variable.offset.to_rva(addresses)
            {
                let name = variable.name.to_string().into_owned();
                self.variables.insert(at.0, name);
            }
        }
        Ok(())
    }

    fn module<'s>(
        &mut self,
        module: &ModuleInfo<'_>,
        addresses: &AddressMap<'s>,
        strings: &StringTable<'s>,
        names: &HashMap<IdIndex, String>,
    ) -> pdb2::Result<()> {
        let source = Source {
            program: module.line_program()?,
            addresses,
            strings,
        };
        let inlinees: HashMap<_, _> = module
            .inlinees()?
            .map(|inlinee| Ok((inlinee.index(), inlinee)))
            .collect()?;
        // The function whose symbols these are, and the calls replaced in it that they are in.
        let mut within: Option<(PdbInternalSectionOffset, u32)> = None;
        let mut scopes: Vec<Option<usize>> = Vec::new();
        let mut all = module.symbols()?;
        while let Some(symbol) = all.next()? {
            let mut inlined = scopes.last().copied().flatten();
            match symbol.parse() {
                Ok(SymbolData::Procedure(procedure)) => {
                    let at = procedure.offset.to_rva(addresses);
                    within = at.map(|at| (procedure.offset, at.0));
                    if let Some(at) = at {
                        let function = Function {
                            length: procedure.len,
                            name: procedure.name.to_string().into_owned(),
                            inlined: Vec::new(),
                        };
                        self.functions.insert(at.0, function);
                    }
                }
                Ok(SymbolData::Data(variable)) => {
                    if let Some(at) = variable.offset.to_rva(addresses) {
                        let name = variable.name.to_string().into_owned();
                        self.variables.insert(at.0, name);
                    }
                }
                Ok(SymbolData::InlineSite(site)) => {
                    if let Some((offset, at)) = within
                        && let Some(function) = self.functions.get_mut(&at)
                        && let Some(inlinee) = inlinees.get(&site.inlinee)
                    {
                        let name = names.get(&site.inlinee);
                        function.inlined.push(Inlined {
                            name: name.map_or("?", String::as_str).to_owned(),
                            within: inlined,
                            lines: source.inlined(inlinee, offset, &site)?,
                        });
                        inlined = Some(function.inlined.len() - 1);
                    }
                }
                _ => {}
            }
            if symbol.starts_scope() {
                scopes.push(inlined);
            } else if symbol.ends_scope() {
                scopes.pop();
            }
        }
        let mut lines = source.program.lines();
        while let Some(line) = lines.next()? {
            if let Some(at) = line.offset.to_rva(addresses) {
                let file = source.file(line.file_index)?;
                self.lines.insert(at.0, (file, line.line_start));
            }
        }
        Ok(())
    }

    /// `function+offset (file:line)` for an address in a function; before it, if it is code of functions that were inlined there, what these
    /// are, the innermost first.
    pub(super) fn name(&self, at: u32) -> Option<String> {
        let (start, function) = self.functions.range(..=at).next_back()?;
        let offset = at - start;
        if offset >= function.length {
            return None;
        }
        // The last is the innermost.
        let mut inlined = function.inlined.iter().rfind(|i| i.line(at).is_some());
        let mut text = String::new();
        while let Some(inner) = inlined {
            text += &with_line(&inner.name, inner.line(at));
            text += ", inlined in ";
            inlined = inner.within.map(|index| &function.inlined[index]);
        }
        let line = self.lines.range(start..=&at).next_back();
        let name = format!("{}+{offset:#x}", function.name);
        Some(text + &with_line(&name, line.map(|(_, line)| line)))
    }

    /// The variable around an address, and how far into it that is if not at its start.
    pub(super) fn variable(&self, at: u32) -> Option<String> {
        let (start, name) = self.variables.range(..=at).next_back()?;
        match at - start {
            0 => Some(name.clone()),
            offset => Some(format!("{name}+{offset:#x}")),
        }
    }
}

fn with_line(name: &str, line: Option<&Line>) -> String {
    match line {
        Some((file, line)) => format!("{name} ({file}:{line})"),
        None => name.to_owned(),
    }
}

/// What functions are called that may have been inlined.
fn names(pdb: &mut PDB<'_, File>) -> pdb2::Result<HashMap<IdIndex, String>> {
    let mut classes: HashMap<TypeIndex, String> = HashMap::new();
    let types = pdb.type_information()?;
    let mut all = types.iter();
    while let Some(item) = all.next()? {
        let name = match item.parse() {
            Ok(TypeData::Class(class)) => class.name,
            Ok(TypeData::Union(union)) => union.name,
            Ok(TypeData::Enumeration(enumeration)) => enumeration.name,
            _ => continue,
        };
        classes.insert(item.index(), name.to_string().into_owned());
    }
    let mut names: HashMap<IdIndex, String> = HashMap::new();
    let ids = pdb.id_information()?;
    let mut all = ids.iter();
    while let Some(item) = all.next()? {
        let (scope, name) = match item.parse() {
            Ok(IdData::String(string)) => (None, string.name),
            Ok(IdData::Function(f)) => (f.scope.and_then(|s| names.get(&s)), f.name),
            Ok(IdData::MemberFunction(f)) => (classes.get(&f.parent), f.name),
            _ => continue,
        };
        let name = match scope {
            Some(scope) => format!("{scope}::{name}"),
            None => name.to_string().into_owned(),
        };
        names.insert(item.index(), name);
    }
    Ok(names)
}

/// Where a module's code comes from.
struct Source<'a, 's> {
    program: LineProgram<'a>,
    addresses: &'a AddressMap<'s>,
    strings: &'a StringTable<'s>,
}

impl Source<'_, '_> {
    /// The name of a file, without its folder.
    fn file(&self, index: FileIndex) -> pdb2::Result<String> {
        let file = self.program.get_file_info(index)?.name;
        let file = file.to_string_lossy(self.strings)?;
        let name = file.rsplit(['/', '\\']).next().unwrap_or(&file);
        Ok(name.to_owned())
    }

    /// The lines of an inlined function, in the one that starts there.
    fn inlined(
        &self,
        inlinee: &Inlinee<'_>,
        start: PdbInternalSectionOffset,
        site: &InlineSiteSymbol<'_>,
    ) -> pdb2::Result<Vec<(u32, u32, Line)>> {
        let mut found = Vec::new();
        let mut lines = inlinee.lines(start, site);
        while let Some(line) = lines.next()? {
            if let Some(at) = line.offset.to_rva(self.addresses)
                && let Some(length) = line.length
            {
                let file = self.file(line.file_index)?;
                found.push((at.0, length, (file, line.line_start)));
            }
        }
        Ok(found)
    }
}
