//! `cargo xtask lint-inf`: the rules of infverif and of the network class that can be checked without Windows.
//!
//! What is not here: included INFs, filters, interfaces, events, software components and everything else that a network adapter's INF
//! does without. infverif tells errors from warnings and has weaker modes; here everything that `/w` (Windows Driver) mentions is wrong.

mod files;
mod install;
mod keywords;
mod models;
mod net;
mod parse;
mod registry;
mod rules;
mod services;
pub mod stamp;
#[cfg(test)]
mod tests;
mod version;

use crate::image::Arch;
use crate::workspace::root;
use anyhow::{Context, Result, ensure};
use parse::{Inf, Section};
use rules::{Diagnostic, Rule};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Options of `cargo xtask lint-inf`.
#[derive(clap::Args)]
pub struct Options {
    /// An INF, or an INX, which is looked at as it would be stamped for each processor [default: inf/vroce.inx].
    file: Option<PathBuf>,
}

/// Lints; `false` when something is wrong.
pub fn run(options: &Options) -> Result<bool> {
    let path = match &options.file {
        Some(path) => path.clone(),
        None => root().join("inf/vroce.inx"),
    };
    let shown = options
        .file
        .as_ref()
        .map_or_else(|| "inf/vroce.inx".into(), |path| path.display().to_string());
    let bytes = std::fs::read(&path).with_context(|| shown.clone())?;
    ensure!(
        !bytes.starts_with(&[0xff, 0xfe]),
        "{shown} is UTF-16, which Windows reads and this linter does not"
    );
    let text = String::from_utf8_lossy(&bytes);
    let stamped = if path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("inx"))
    {
        let version = stamp::Version::new(env!("CARGO_PKG_VERSION"), 0)?;
        [Arch::X64, Arch::Arm64]
            .map(|arch| (arch.decoration(), stamp::stamp(&text, arch, &version)))
            .into()
    } else {
        vec![("as it is", text.into_owned())]
    };
    let mut right = true;
    for (form, text) in stamped {
        let found = lint(&text);
        for diagnostic in &found {
            println!("{shown}:{diagnostic}");
        }
        let what = match found.len() {
            0 => "nothing wrong".into(),
            wrong => format!("{wrong} wrong"),
        };
        println!("{shown} ({form}): {what}");
        right &= found.is_empty();
    }
    Ok(right)
}

/// Everything that is wrong with a stamped INF, in the order of its lines.
pub fn lint(text: &str) -> Vec<Diagnostic> {
    let inf = Inf::parse(text);
    let mut lint = Lint {
        inf: &inf,
        found: inf.found.clone(),
        uses: BTreeMap::new(),
    };
    if let Some(line) = text.lines().position(|line| !line.is_ascii()) {
        lint.complain(line + 1, Rule::Encoding, "not ASCII");
    }
    if version::look(&mut lint) {
        models::look(&mut lint);
        lint.unused();
    }
    let mut found = lint.found;
    found.sort();
    found.dedup();
    found
}

/// An INF being looked at.
struct Lint<'a> {
    inf: &'a Inf,
    found: Vec<Diagnostic>,
    /// Sections that something refers to, in small letters, with the kind of thing.
    uses: BTreeMap<String, &'static str>,
}

impl<'a> Lint<'a> {
    fn complain(&mut self, line: usize, rule: Rule, text: impl Into<String>) {
        self.found.push(Diagnostic {
            line,
            rule,
            text: text.into(),
        });
    }

    /// The section that a directive of this kind names.
    fn section(&mut self, name: &str, kind: &'static str, line: usize) -> Option<&'a Section> {
        let Some(section) = self.inf.section(name) else {
            self.complain(line, Rule::SectionNotFound, format!("no [{name}]"));
            return None;
        };
        self.used(section, kind, line);
        Some(section)
    }

    /// Notes what a section is.
    fn used(&mut self, section: &'a Section, kind: &'static str, line: usize) {
        let name = section.name.to_ascii_lowercase();
        let before = *self.uses.entry(name).or_insert(kind);
        if before != kind {
            let text = format!("[{}] is {before} and {kind}", section.name);
            self.complain(line, Rule::SectionKind, text);
        }
    }

    /// Complains of directives that the section does not have, and of those that are there twice but may be once.
    fn directives(&mut self, section: &Section, once: &[&str], often: &[&str]) {
        let mut seen = Vec::new();
        for entry in &section.entries {
            let Some(key) = &entry.key else {
                let text = format!("no directive in [{}]", section.name);
                self.complain(entry.line, Rule::DirectiveInvalid, text);
                continue;
            };
            let known = |all: &[&str]| all.iter().any(|d| d.eq_ignore_ascii_case(key));
            if known(once) {
                let lower = key.to_ascii_lowercase();
                if seen.contains(&lower) {
                    let text = format!("{key} is there already");
                    self.complain(entry.line, Rule::DirectiveTwice, text);
                }
                seen.push(lower);
            } else if !known(often) && !install::legacy(self, section, entry) {
                let text = format!("[{}] has no {key}", section.name);
                self.complain(entry.line, Rule::DirectiveInvalid, text);
            }
        }
    }

    /// Complains of sections that nothing led to.
    fn unused(&mut self) {
        for section in &self.inf.sections {
            let name = section.name.to_ascii_lowercase();
            let system = ["version", "manufacturer", "destinationdirs"].contains(&name.as_str())
                || ["strings", "sourcedisksnames", "sourcedisksfiles"]
                    .iter()
                    .any(|s| name == *s || name.starts_with(&format!("{s}.")));
            if !system && !self.uses.contains_key(&name) && !install::legacy_section(self, section)
            {
                let text = format!("nothing uses [{}]", section.name);
                self.complain(section.line, Rule::SectionUnused, text);
            }
        }
    }
}
