//! CopyFiles: where files come from and where they go.

use super::Lint;
use super::parse::{Entry, Section};
use super::rules::Rule;

/// Where a file is in the package and on the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Its name there.
    pub name: String,
    /// The directory id, and what follows it.
    pub directory: (String, String),
}

/// Looks at the files that a section copies.
pub fn look(lint: &mut Lint<'_>, section: &Section, architecture: &str) {
    sources(lint, architecture);
    destinations(lint);
    for entry in section.entries.iter().filter(|e| e.is("CopyFiles")) {
        for name in entry.fields.iter().filter(|f| !f.is_empty()) {
            if let Some(file) = name.strip_prefix('@') {
                copy(lint, None, (file, file), entry.line, architecture);
            } else if let Some(list) = lint.section(name, "a list of files", entry.line) {
                for file in &list.entries {
                    // destination [, source [, , flags]]
                    let destination = file.field(0);
                    let source = match file.field(1) {
                        "" => destination,
                        source => source,
                    };
                    let names = (destination, source);
                    copy(lint, Some(&list.name), names, file.line, architecture);
                }
            }
        }
    }
}

/// What the section copies, to be compared with a service's binary.
pub fn copied(lint: &Lint<'_>, section: &Section) -> Vec<Copied> {
    let mut all = Vec::new();
    for entry in section.entries.iter().filter(|e| e.is("CopyFiles")) {
        for name in &entry.fields {
            let (list, names): (_, Vec<&str>) = match name.strip_prefix('@') {
                Some(file) => (None, vec![file]),
                None => match lint.inf.section(name) {
                    Some(list) => {
                        let names = list.entries.iter().map(|file| file.field(0)).collect();
                        (Some(list.name.as_str()), names)
                    }
                    None => continue,
                },
            };
            let Some(destination) = destination(lint, list) else {
                continue;
            };
            all.extend(names.into_iter().map(|name| Copied {
                name: name.into(),
                directory: (destination.field(0).into(), destination.field(1).into()),
            }));
        }
    }
    all
}

/// The entry of `[DestinationDirs]` for a list of files, or for a single file.
fn destination<'a>(lint: &Lint<'a>, list: Option<&str>) -> Option<&'a Entry> {
    let section = lint.inf.section("DestinationDirs")?;
    list.and_then(|name| section.entry(name))
        .or_else(|| section.entry("DefaultDestDir"))
}

/// `[SourceDisksFiles]` for an architecture: the decorated section, then the one for all.
fn source<'a>(lint: &Lint<'a>, file: &str, architecture: &str) -> Option<&'a Entry> {
    [
        format!("SourceDisksFiles.{architecture}"),
        "SourceDisksFiles".into(),
    ]
    .iter()
    .filter_map(|name| lint.inf.section(name))
    .find_map(|section| section.entry(file))
}

fn copy(
    lint: &mut Lint<'_>,
    list: Option<&str>,
    (to, from): (&str, &str),
    line: usize,
    architecture: &str,
) {
    let source = source(lint, from, architecture);
    if source.is_none() {
        let text = format!("{from} is not in [SourceDisksFiles]");
        lint.complain(line, Rule::SourceMissing, text);
    }
    let Some(destination) = destination(lint, list) else {
        let what = list.unwrap_or(to);
        let text = format!("{what} is not in [DestinationDirs], and there is no DefaultDestDir");
        lint.complain(line, Rule::DestinationMissing, text);
        return;
    };
    if destination.field(0) != "13" {
        return;
    }
    let moved = source.is_some_and(|source| {
        !source
            .field(1)
            .trim_matches('\\')
            .eq_ignore_ascii_case(destination.field(1).trim_matches('\\'))
    });
    if moved || !to.eq_ignore_ascii_case(from) {
        let text = format!("{to} is called otherwise, or elsewhere, in the package");
        lint.complain(line, Rule::DestinationMoved, text);
    }
}

fn destinations(lint: &mut Lint<'_>) {
    let Some(section) = lint.inf.section("DestinationDirs") else {
        return;
    };
    for entry in &section.entries {
        let name = entry.key.as_deref().unwrap_or_default();
        if !name.eq_ignore_ascii_case("DefaultDestDir") {
            lint.section(name, "a list of files", entry.line);
        }
        if entry.field(0) != "13" {
            let text = format!("directory {}, not 13", entry.field(0));
            lint.complain(entry.line, Rule::DestinationShared, text);
        }
    }
}

fn sources(lint: &mut Lint<'_>, architecture: &str) {
    for name in [
        "SourceDisksFiles".into(),
        format!("SourceDisksFiles.{architecture}"),
    ] {
        let Some(section) = lint.inf.section(&name) else {
            continue;
        };
        for entry in &section.entries {
            let file = entry.key.as_deref().unwrap_or_default();
            let disk = entry.field(0);
            if file.to_ascii_lowercase().ends_with(".cat") {
                lint.complain(
                    entry.line,
                    Rule::CatalogCopied,
                    format!("{file} is a catalog"),
                );
            }
            if file.ends_with('_') {
                lint.complain(
                    entry.line,
                    Rule::Compressed,
                    format!("{file} is compressed"),
                );
            }
            if disk.is_empty() || !disk.bytes().all(|b| b.is_ascii_digit()) {
                let text = format!("{file} is on disk \"{disk}\"");
                lint.complain(entry.line, Rule::DiskInvalid, text);
            } else if !listed(lint, disk, architecture) {
                let text = format!("{file} is on disk {disk}, which is not in [SourceDisksNames]");
                lint.complain(entry.line, Rule::DiskMissing, text);
            }
        }
    }
}

fn listed(lint: &Lint<'_>, disk: &str, architecture: &str) -> bool {
    [
        "SourceDisksNames".into(),
        format!("SourceDisksNames.{architecture}"),
    ]
    .iter()
    .filter_map(|name| lint.inf.section(name))
    .any(|section| section.entry(disk).is_some())
}
