//! `[Version]`.

use super::Lint;
use super::parse::Section;
use super::rules::Rule;

/// Classes that Microsoft defines, of which a network adapter's INF names one (System-Defined Device Setup Classes).
const NET: (&str, &str) = ("Net", "{4d36e972-e325-11ce-bfc1-08002be10318}");

/// Looks at the section; `false` when there is none, and so nothing else to look at.
pub fn look(lint: &mut Lint<'_>) -> bool {
    let Some(section) = lint.inf.section("Version") else {
        lint.complain(1, Rule::Signature, "no [Version]");
        return false;
    };
    let signature = section.entry("Signature");
    let valid = |text: &str| {
        ["$windows nt$", "$chicago$"]
            .iter()
            .any(|valid| text.eq_ignore_ascii_case(valid))
    };
    if !signature.is_some_and(|entry| valid(entry.field(0))) {
        let line = signature.map_or(section.line, |entry| entry.line);
        lint.complain(line, Rule::Signature, "Signature is not \"$Windows NT$\"");
    }
    let once = [
        "Signature",
        "Class",
        "ClassGuid",
        "Provider",
        "CatalogFile",
        "CatalogFile.nt",
        "CatalogFile.ntamd64",
        "CatalogFile.ntarm64",
        "DriverVer",
        "PnpLockdown",
        "ExtensionId",
    ];
    lint.directives(section, &once, &[]);
    for directive in ["Class", "ClassGuid", "Provider", "DriverVer"] {
        if value(section, directive).is_none() {
            let line = section.entry(directive).map_or(section.line, |e| e.line);
            let text = format!("[Version] has no {directive}");
            lint.complain(line, Rule::VersionMissing, text);
        }
    }
    class(lint, section);
    provider(lint, section);
    catalog(lint, section);
    driver_version(lint, section);
    let locked = section.entry("PnpLockdown");
    if locked.is_none_or(|entry| entry.field(0) != "1") {
        let line = locked.map_or(section.line, |entry| entry.line);
        lint.complain(line, Rule::Lockdown, "PnpLockdown is not 1");
    }
    true
}

/// Line and first field of a directive that says something.
fn value<'a>(section: &'a Section, directive: &str) -> Option<(usize, &'a str)> {
    let entry = section.entry(directive)?;
    (!entry.field(0).is_empty()).then(|| (entry.line, entry.field(0)))
}

fn class(lint: &mut Lint<'_>, section: &Section) {
    let Some((line, guid)) = value(section, "ClassGuid") else {
        return;
    };
    let well_formed = guid.len() == 38
        && guid.char_indices().all(|(index, c)| match index {
            0 => c == '{',
            37 => c == '}',
            9 | 14 | 19 | 24 => c == '-',
            _ => c.is_ascii_hexdigit(),
        });
    if !well_formed {
        lint.complain(line, Rule::ClassGuid, format!("{guid} is not a GUID"));
        return;
    }
    let net = value(section, "Class").is_some_and(|(_, class)| class.eq_ignore_ascii_case(NET.0));
    if net != guid.eq_ignore_ascii_case(NET.1) {
        let text = format!("class {} has the GUID {}", NET.0, NET.1);
        lint.complain(line, Rule::ClassMismatch, text);
    }
}

fn provider(lint: &mut Lint<'_>, section: &Section) {
    if let Some((line, provider)) = value(section, "Provider")
        && provider.to_ascii_lowercase().starts_with("microsoft")
    {
        lint.complain(
            line,
            Rule::Provider,
            format!("\"{provider}\" did not write it"),
        );
    }
}

fn catalog(lint: &mut Lint<'_>, section: &Section) {
    let catalogs = section.entries.iter().filter(|entry| {
        let key = entry.key.as_deref().unwrap_or_default();
        key.to_ascii_lowercase().starts_with("catalogfile")
    });
    let mut none = true;
    for entry in catalogs {
        none = false;
        let name = entry.field(0);
        let stem = name.to_ascii_lowercase();
        let stem = stem.strip_suffix(".cat").unwrap_or_default();
        if stem.is_empty() || stem.contains(['\\', '/']) {
            let text = format!("\"{name}\" is not NAME.cat");
            lint.complain(entry.line, Rule::CatalogName, text);
        }
    }
    if none {
        let text = "no CatalogFile: the package cannot be signed";
        lint.complain(section.line, Rule::CatalogMissing, text);
    }
}

fn driver_version(lint: &mut Lint<'_>, section: &Section) {
    let Some(entry) = section.entry("DriverVer") else {
        return;
    };
    if entry.field(0).is_empty() {
        return;
    }
    let date: Vec<&str> = entry.field(0).split(['/', '-']).collect();
    let digits =
        |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    let within = |text: &str, most: u32| text.parse().is_ok_and(|n: u32| (1..=most).contains(&n));
    let valid = match date.as_slice() {
        [month, day, year] => {
            digits(month, 2)
                && digits(day, 2)
                && digits(year, 4)
                && within(month, 12)
                && within(day, 31)
        }
        _ => false,
    };
    if !valid {
        let text = format!("\"{}\" is not mm/dd/yyyy", entry.field(0));
        lint.complain(entry.line, Rule::DriverDate, text);
    }
    let version = entry.field(1);
    let parts: Vec<Option<u32>> = version.split('.').map(|part| part.parse().ok()).collect();
    let valid = parts.len() == 4
        && parts.iter().all(|part| part.is_some_and(|n| n < 65_535))
        && parts.iter().any(|part| *part != Some(0));
    if !valid {
        let text = format!("\"{version}\" is not w.x.y.z, each below 65535 and not all 0");
        lint.complain(entry.line, Rule::DriverVersion, text);
    }
}
