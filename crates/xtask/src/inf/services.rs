//! The .Services and .Wdf sections.

use super::files::{self, Copied};
use super::parse::{Entry, Section, number};
use super::registry::Key;
use super::rules::Rule;
use super::{Lint, registry};

/// SPSVCINST_TAGTOFRONT.
const TAG_TO_FRONT: u64 = 0x1;
/// SPSVCINST_ASSOCSERVICE.
const FUNCTION_DRIVER: u64 = 0x2;
/// SPSVCINST_STARTSERVICE.
const START: u64 = 0x800;
/// All of them, with those that keep what an earlier installation had.
const KNOWN: u64 = TAG_TO_FRONT | FUNCTION_DRIVER | START | 0x1f8 | 0x400 | 0xf000 | 0x6_0000;

/// Looks at the services of an install section. Gives the name of the function driver's.
pub fn look(lint: &mut Lint<'_>, install: &Section) -> Option<String> {
    let beside = |suffix: &str| format!("{}.{suffix}", install.name);
    let mut all = Vec::new();
    let mut function_driver: Option<String> = None;
    let section = lint.inf.section(&beside("Services"));
    if let Some(section) = section {
        lint.used(section, "a services section", section.line);
        lint.directives(section, &[], &["AddService", "Include", "Needs"]);
        let copied = files::copied(lint, install);
        for entry in section.entries.iter().filter(|e| e.is("AddService")) {
            let Some(flags) = service(lint, entry, &copied) else {
                continue;
            };
            let name = entry.field(0).to_owned();
            all.push(name.to_ascii_lowercase());
            if flags & FUNCTION_DRIVER == 0 {
                continue;
            }
            if let Some(first) = &function_driver {
                let text = format!("{name} and {first} are both the function driver");
                lint.complain(entry.line, Rule::ServiceTwice, text);
            }
            function_driver.get_or_insert(name);
        }
    }
    if function_driver.is_none() {
        let line = section.map_or(install.line, |section| section.line);
        let text = format!("[{}] has no function driver", beside("Services"));
        lint.complain(line, Rule::ServiceMissing, text);
    }
    if let Some(section) = lint.inf.section(&beside("Wdf")) {
        lint.used(section, "a framework section", section.line);
        lint.directives(section, &[], &["KmdfService"]);
        for entry in section.entries.iter().filter(|e| e.is("KmdfService")) {
            framework(lint, entry, &all);
        }
    }
    function_driver
}

/// AddService = name, flags, section [, event log's section [, type [, name]]]. Gives the flags.
fn service(lint: &mut Lint<'_>, entry: &Entry, copied: &[Copied]) -> Option<u64> {
    let line = entry.line;
    let Some(flags) = number(entry.field(1)) else {
        let text = format!("flags \"{}\"", entry.field(1));
        lint.complain(line, Rule::Number, text);
        return None;
    };
    let function_driver = flags & FUNCTION_DRIVER != 0;
    if flags & !KNOWN != 0 || (function_driver && flags & (START | TAG_TO_FRONT) != 0) {
        let text = format!("flags {flags:#x} of a driver for a device");
        lint.complain(line, Rule::ServiceFlags, text);
    }
    for (index, what) in [(0, "name"), (2, "section")] {
        if entry.field(index).is_empty() {
            lint.complain(
                line,
                Rule::ValueMissing,
                format!("a service without {what}"),
            );
            return Some(flags);
        }
    }
    if let Some(section) = lint.section(entry.field(2), "a service", line) {
        install(lint, section, function_driver, copied);
    }
    if !entry.field(3).is_empty()
        && let Some(section) = lint.section(entry.field(3), "an event log", line)
    {
        lint.directives(section, &[], &["AddReg"]);
        registry::look(lint, section, Key::EventLog);
    }
    let log = entry.field(4);
    let known = ["", "System", "Application", "Security"];
    if !known.iter().any(|known| known.eq_ignore_ascii_case(log)) {
        lint.complain(line, Rule::EventLogType, format!("event log \"{log}\""));
    }
    Some(flags)
}

fn install(lint: &mut Lint<'_>, section: &Section, function_driver: bool, copied: &[Copied]) {
    let once = [
        "DisplayName",
        "Description",
        "ServiceType",
        "StartType",
        "ErrorControl",
        "ServiceBinary",
        "LoadOrderGroup",
        "Dependencies",
        "Security",
        "BootFlags",
    ];
    lint.directives(section, &once, &["AddReg"]);
    registry::look(lint, section, Key::Service);
    for directive in ["ServiceType", "StartType", "ErrorControl", "ServiceBinary"] {
        let Some(entry) = section.entry(directive).filter(|e| !e.field(0).is_empty()) else {
            let text = format!("[{}] has no {directive}", section.name);
            lint.complain(section.line, Rule::ServiceIncomplete, text);
            continue;
        };
        let valid: fn(u64) -> bool = match directive {
            // SERVICE_KERNEL_DRIVER.
            "ServiceType" => |value| value == 1,
            // Neither SERVICE_AUTO_START, which is never right for a device, nor what does not exist.
            "StartType" => |value| value <= 4 && value != 2,
            "ErrorControl" => |value| value <= 3,
            _ => {
                binary(lint, entry, copied);
                continue;
            }
        };
        let value = number(entry.field(0));
        if !value.is_some_and(valid) {
            let text = format!("{directive} = {}", entry.field(0));
            lint.complain(entry.line, Rule::ServiceValue, text);
        } else if function_driver && directive == "StartType" && value == Some(4) {
            lint.complain(
                entry.line,
                Rule::ServiceDisabled,
                "the function driver is disabled",
            );
        }
    }
}

/// %directory%\file, of the files that the package copies.
fn binary(lint: &mut Lint<'_>, entry: &Entry, copied: &[Copied]) {
    let path = entry.field(0);
    let parts = path.strip_prefix('%').and_then(|path| path.split_once('%'));
    let Some((directory, rest)) = parts.and_then(|(id, rest)| Some((id, rest.strip_prefix('\\')?)))
    else {
        let text = format!("\"{path}\" is not under a directory id");
        lint.complain(entry.line, Rule::BinaryPath, text);
        return;
    };
    let (folder, name) = rest.rsplit_once('\\').unwrap_or(("", rest));
    let ours = copied.iter().any(|file| {
        file.name.eq_ignore_ascii_case(name)
            && file.directory.0 == directory
            && file
                .directory
                .1
                .trim_matches('\\')
                .eq_ignore_ascii_case(folder)
    });
    if !ours {
        let text = format!("{path} is not what CopyFiles brings there");
        lint.complain(entry.line, Rule::BinaryForeign, text);
    }
}

/// KmdfService = service, section.
fn framework(lint: &mut Lint<'_>, entry: &Entry, services: &[String]) {
    let name = entry.field(0);
    if !services.contains(&name.to_ascii_lowercase()) {
        let text = format!("no service is called \"{name}\"");
        lint.complain(entry.line, Rule::WdfService, text);
    }
    let Some(section) = lint.section(entry.field(1), "a framework's service", entry.line) else {
        return;
    };
    lint.directives(section, &["KmdfLibraryVersion"], &[]);
    let version = section.entry("KmdfLibraryVersion");
    let valid = version.is_some_and(|entry| {
        let parts: Vec<&str> = entry.field(0).split('.').collect();
        parts.len() == 2 && parts.iter().all(|part| part.parse::<u16>().is_ok())
    });
    if !valid {
        let line = version.map_or(section.line, |entry| entry.line);
        let text = format!("[{}] has no KmdfLibraryVersion MAJOR.MINOR", section.name);
        lint.complain(line, Rule::WdfVersion, text);
    }
}
