//! The install section of a device, what belongs to it, and what no INF should have any more.

use super::parse::{Entry, Section};
use super::rules::Rule;
use super::{Lint, files, net, registry, services};

/// Sections beside an install section that this linter knows of but does not look into.
const BESIDE: [&str; 8] = [
    "Interfaces",
    "Filters",
    "Events",
    "Components",
    "Software",
    "COM",
    "WMI",
    "FactDef",
];

/// Looks at an install section for devices of an architecture, and at the sections beside it.
pub fn look(lint: &mut Lint<'_>, name: &str, architecture: &str, pci: bool, line: usize) {
    let Some(section) = lint.section(name, "an install section", line) else {
        return;
    };
    let once = [
        "Characteristics",
        "BusType",
        "*IfType",
        "*MediaType",
        "*PhysicalMediaType",
        "*NdisDeviceType",
        "DriverVer",
        "FeatureScore",
        "Port1DeviceNumber",
        "Port1FunctionNumber",
    ];
    let often = [
        "AddReg",
        "CopyFiles",
        "CopyINF",
        "Include",
        "Needs",
        "AddProperty",
    ];
    lint.directives(section, &once, &often);
    files::look(lint, section, architecture);
    let class_key = registry::look(lint, section, registry::Key::Class);
    let mut device_key = Vec::new();
    if let Some(hardware) = lint.inf.section(&format!("{name}.HW")) {
        lint.used(hardware, "a hardware section", line);
        lint.directives(
            hardware,
            &[],
            &["AddReg", "Include", "Needs", "AddProperty"],
        );
        device_key = registry::look(lint, hardware, registry::Key::Device);
    }
    for suffix in BESIDE {
        if let Some(beside) = lint.inf.section(&format!("{name}.{suffix}")) {
            lint.used(beside, "beside an install section", line);
        }
    }
    let service = services::look(lint, section);
    if lint
        .inf
        .section("Version")
        .and_then(|version| version.entry("Class"))
        .is_some_and(|class| class.field(0).eq_ignore_ascii_case("Net"))
    {
        let adapter = net::Adapter {
            section,
            pci,
            service,
            class_key,
            device_key,
        };
        net::look(lint, &adapter);
    }
}

/// Complains of a directive that no INF should have; `false` if it is not one.
pub fn legacy(lint: &mut Lint<'_>, section: &Section, entry: &Entry) -> bool {
    let key = entry.key.as_deref().unwrap_or_default();
    let one_of = |all: &[&str]| all.iter().any(|d| d.eq_ignore_ascii_case(key));
    let rule = if one_of(&[
        "DelReg",
        "DelFiles",
        "RenFiles",
        "DelService",
        "DelProperty",
        "BitReg",
    ]) {
        Rule::NotAdditive
    } else if one_of(&[
        "LayoutFile",
        "DriverPackageType",
        "DriverPackageDisplayName",
    ]) {
        Rule::LegacyVersion
    } else if one_of(&[
        "RegisterDlls",
        "UnregisterDlls",
        "ProfileItems",
        "Ini2Reg",
        "UpdateInis",
        "UpdateIniFields",
        "LogConfig",
        "Reboot",
        "Restart",
    ]) {
        Rule::Legacy
    } else {
        return false;
    };
    let text = format!("{key} in [{}]", section.name);
    lint.complain(entry.line, rule, text);
    true
}

/// Complains of a section that no INF for a device should have; `false` if it is not one.
pub fn legacy_section(lint: &mut Lint<'_>, section: &Section) -> bool {
    let name = section.name.to_ascii_lowercase();
    let any = |needle: &str| name.split('.').any(|part| part == needle);
    let rule = if any("coinstallers") {
        Rule::CoInstaller
    } else if any("classinstall32") {
        Rule::ClassInstall
    } else if any("defaultinstall") || any("defaultuninstall") {
        Rule::DefaultInstall
    } else if any("interfaceinstall32") || any("logconfigoverride") || any("controlflags") {
        Rule::Legacy
    } else {
        return false;
    };
    lint.complain(section.line, rule, format!("[{}]", section.name));
    true
}
