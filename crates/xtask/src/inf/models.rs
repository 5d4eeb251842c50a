//! `[Manufacturer]` and the models: which devices of which Windows are installed.

use super::parse::{Entry, number};
use super::rules::Rule;
use super::{Lint, install};
use std::collections::BTreeSet;

/// The first build that decorations can name (INF Manufacturer section).
const FIRST_BUILD: u64 = 14_310;
/// The first build that runs drivers from the driver store (Run From Driver Store: Windows 10 1709).
const DRIVER_STORE_BUILD: u64 = 16_299;

/// Looks at the manufacturers and all that they lead to.
pub fn look(lint: &mut Lint<'_>) {
    let Some(section) = lint.inf.section("Manufacturer") else {
        lint.complain(
            1,
            Rule::ValueMissing,
            "no [Manufacturer]: no device is installed",
        );
        return;
    };
    let mut visited = BTreeSet::new();
    for entry in &section.entries {
        manufacturer(lint, entry, &mut visited);
    }
}

fn manufacturer(lint: &mut Lint<'_>, entry: &Entry, visited: &mut BTreeSet<String>) {
    let name = entry.field(0);
    if name.is_empty() {
        lint.complain(entry.line, Rule::ModelsMissing, "no models");
        return;
    }
    let decorations: Vec<&String> = entry.fields[1..].iter().filter(|f| !f.is_empty()).collect();
    if decorations.is_empty() {
        let text = format!("[{name}] has no architecture, so it is for x86");
        lint.complain(entry.line, Rule::Undecorated, text);
        models(lint, name, "", entry.line, visited);
    }
    for decoration in decorations {
        if let Some(architecture) = decorated(lint, decoration, entry.line) {
            let section = format!("{name}.{decoration}");
            models(lint, &section, &architecture, entry.line, visited);
        }
    }
}

/// The architecture of `NT[Architecture][.[Major][.[Minor][.[ProductType][.[SuiteMask][.[Build]]]]]]`.
fn decorated(lint: &mut Lint<'_>, decoration: &str, line: usize) -> Option<String> {
    if decoration.contains('$') {
        let text = format!("{decoration} needs an architecture");
        lint.complain(line, Rule::Unstamped, text);
        return None;
    }
    let lower = decoration.to_ascii_lowercase();
    let mut parts = lower.split('.');
    let architecture = parts.next().and_then(|nt| nt.strip_prefix("nt"));
    let numbers: Vec<Option<u64>> = parts
        .map(|part| number(part).filter(|_| !part.starts_with('+')))
        .collect();
    let known = ["", "x86", "amd64", "arm", "arm64", "ia64"];
    let valid = architecture.is_some_and(|a| known.contains(&a))
        && numbers.len() <= 5
        && numbers.iter().all(Option::is_some);
    if !valid {
        let text = format!("{decoration} is not a TargetOSVersion");
        lint.complain(line, Rule::Decoration, text);
        return None;
    }
    let field = |index: usize| numbers.get(index).copied().flatten().unwrap_or(0);
    let (version, build) = ((field(0), field(1)), field(4));
    if build != 0 && (version < (10, 0) || build < FIRST_BUILD) {
        let text = format!("{decoration}: builds are told apart from 10.0.{FIRST_BUILD} on");
        lint.complain(line, Rule::DecorationBuild, text);
    } else if version < (10, 0) || (version == (10, 0) && build < DRIVER_STORE_BUILD) {
        let text = format!(
            "{decoration}: drivers run from the driver store from build {DRIVER_STORE_BUILD} on"
        );
        lint.complain(line, Rule::TooOld, text);
    }
    match architecture {
        Some("") => {
            let text = format!("{decoration} has no architecture");
            lint.complain(line, Rule::Undecorated, text);
            Some(String::new())
        }
        other => other.map(str::to_owned),
    }
}

fn models(
    lint: &mut Lint<'_>,
    name: &str,
    architecture: &str,
    line: usize,
    visited: &mut BTreeSet<String>,
) {
    let Some(section) = lint.section(name, "a models section", line) else {
        return;
    };
    let mut ids = BTreeSet::new();
    for entry in &section.entries {
        let install = entry.field(0);
        if entry.key.is_none() || install.is_empty() {
            lint.complain(entry.line, Rule::InstallMissing, "no install section");
            continue;
        }
        let hardware: Vec<&String> = entry.fields[1..].iter().filter(|f| !f.is_empty()).collect();
        if hardware.is_empty() {
            lint.complain(entry.line, Rule::ValueMissing, "no hardware id");
        }
        for id in &hardware {
            let upper = id.to_ascii_uppercase();
            if upper.starts_with("PCI\\VEN_1AF4&") && upper.contains("&SUBSYS_") {
                let text = format!("{id} takes virtio cards from their usual driver");
                lint.complain(entry.line, Rule::Outranks, text);
            }
            if !ids.insert(id.to_ascii_lowercase()) {
                lint.complain(
                    entry.line,
                    Rule::HardwareIdTwice,
                    format!("{id} is above already"),
                );
            }
        }
        let pci = hardware
            .iter()
            .any(|id| id.to_ascii_uppercase().starts_with("PCI\\"));
        let mut none = true;
        for candidate in [
            format!("{install}.NT{architecture}"),
            format!("{install}.NT"),
            install.to_owned(),
        ] {
            if lint.inf.section(&candidate).is_some() {
                none = false;
                if visited.insert(format!("{candidate}/{architecture}").to_ascii_lowercase()) {
                    install::look(lint, &candidate, architecture, pci, entry.line);
                }
            }
        }
        if none {
            let text = format!("neither [{install}] nor [{install}.NT]");
            lint.complain(entry.line, Rule::InstallNotFound, text);
        }
    }
}
