//! The project's own INF, and for each rule an INF that breaks it and nothing else.

use super::rules::Rule;
use super::{lint, stamp};
use crate::image::Arch;
use std::collections::BTreeSet;

const INX: &str = include_str!("../../../../inf/vroce.inx");

fn stamped(arch: Arch) -> String {
    stamp::stamp(INX, arch, &stamp::Version::new("0.0.0", 2).unwrap())
}

#[test]
fn nothing_is_wrong_with_ours() {
    for arch in [Arch::X64, Arch::Arm64] {
        assert_eq!(lint(&stamped(arch)), [], "{arch:?}");
    }
}

#[test]
fn an_inx_is_not_an_inf() {
    let rules: BTreeSet<Rule> = lint(INX).into_iter().map(|found| found.rule).collect();
    assert!(rules.contains(&Rule::Unstamped), "{rules:?}");
    assert!(rules.contains(&Rule::VersionMissing), "{rules:?}");
}

/// A rule, changes to our INF that break it, and a part of the line where that is seen.
type Case = (Rule, &'static [(&'static str, &'static str)], &'static str);

const MODELS: &str = "vroce, NTamd64.10.0...20348";
const DEVICE: &str = "%VroceDevice% = vroce.ndi, PCI\\VEN_1AF4&DEV_1041\r\n";
const LAST: &str = "NetworkAddress          = \"Network Address\"";

const CASES: &[Case] = &[
    (
        Rule::Signature,
        &[("$Windows NT$", "$Windows 95$")],
        "Signature",
    ),
    (
        Rule::Syntax,
        &[("PnpLockdown = 1", "PnpLockdown = 1\n= 5")],
        "= 5",
    ),
    (
        Rule::Syntax,
        &[("PnpLockdown = 1", "PnpLockdown = 1\n\"a")],
        "\"a",
    ),
    (
        Rule::Syntax,
        &[("PnpLockdown = 1", "PnpLockdown = 1\n[a")],
        "[a",
    ),
    (
        Rule::Syntax,
        &[("= %VroceService%", "= \"%VroceService% 5%\"")],
        "5%",
    ),
    (
        Rule::Encoding,
        &[("The vroce", "The vro\u{e7}e")],
        "The vro",
    ),
    (
        Rule::ValueMissing,
        &[(DEVICE, "%VroceDevice% = vroce.ndi\n")],
        "%VroceDevice% = vroce.ndi",
    ),
    (
        Rule::SectionTwice,
        &[(
            LAST,
            "NetworkAddress = \"Network Address\"\n[SourceDisksNames]",
        )],
        "[SourceDisksNames]",
    ),
    (
        Rule::SectionNotFound,
        &[("AddReg = vroce.msi", "AddReg = vroce.msi, vroce.more")],
        "vroce.more",
    ),
    (
        Rule::SectionKind,
        &[("DefaultDestDir = 13", "DefaultDestDir = 13\nvroce.msi = 13")],
        "AddReg = vroce.msi",
    ),
    (
        Rule::SectionUnused,
        &[(LAST, "NetworkAddress = \"Network Address\"\n[vroce.idle]")],
        "[vroce.idle]",
    ),
    (
        Rule::DirectiveInvalid,
        &[("BusType             = 5", "BusType = 5\nColour = 1")],
        "Colour",
    ),
    (
        Rule::DirectiveTwice,
        &[("BusType             = 5", "BusType = 5\nbustype = 5")],
        "bustype",
    ),
    (
        Rule::StringUndefined,
        &[("= %VroceService%", "= \"%VroceService% %Nobody%\"")],
        "%Nobody%",
    ),
    (
        Rule::StringTwice,
        &[(
            LAST,
            "NetworkAddress = \"Network Address\"\ndiskname = \"x\"",
        )],
        "diskname",
    ),
    (
        Rule::StringUnused,
        &[(LAST, "NetworkAddress = \"Network Address\"\nIdle = \"x\"")],
        "Idle",
    ),
    (
        Rule::VersionMissing,
        &[("Provider    = %Provider%", "")],
        "[Version]",
    ),
    (
        Rule::CatalogMissing,
        &[("CatalogFile = vroce.cat", "")],
        "[Version]",
    ),
    (
        Rule::CatalogName,
        &[("= vroce.cat", "= cat\\vroce.cat")],
        "CatalogFile",
    ),
    (Rule::ClassGuid, &[("{4d36e972-", "{4d36e97-")], "ClassGuid"),
    (
        Rule::ClassMismatch,
        &[("{4d36e972-", "{4d36e973-")],
        "ClassGuid",
    ),
    (
        Rule::Provider,
        &[("The vroce authors", "Microsoft Corporation")],
        "Provider    =",
    ),
    (
        Rule::DriverVersion,
        &[(",0.0.0.1", ",0.0.0.0")],
        "DriverVer",
    ),
    (Rule::DriverVersion, &[(",0.0.0.1", ",0.0.1")], "DriverVer"),
    (
        Rule::DriverVersion,
        &[(",0.0.0.1", ",0.0.0.65535")],
        "DriverVer",
    ),
    (
        Rule::DriverDate,
        &[("01/01/1970", "13/01/1970")],
        "DriverVer",
    ),
    (Rule::DriverDate, &[("01/01/1970", "1/1/1970")], "DriverVer"),
    (
        Rule::Lockdown,
        &[("PnpLockdown = 1", "PnpLockdown = 0")],
        "PnpLockdown",
    ),
    (
        Rule::LegacyVersion,
        &[("PnpLockdown = 1", "PnpLockdown = 1\nLayoutFile = x.inf")],
        "LayoutFile",
    ),
    (
        Rule::ModelsMissing,
        &[(MODELS, "vroce, NTamd64.10.0...20348\n%VroceDevice% =")],
        "%VroceDevice% =",
    ),
    (
        Rule::Decoration,
        &[(MODELS, "vroce, NTamd64.10.0...20348, NTamd46.10.0")],
        "NTamd46",
    ),
    (
        Rule::DecorationBuild,
        &[(
            MODELS,
            "vroce, NTamd64.10.0...20348, NTamd64.6.1...20348\n[vroce.NTamd64.6.1...20348]",
        )],
        "NTamd64.6.1",
    ),
    (
        Rule::Unstamped,
        &[(MODELS, "vroce, NTamd64.10.0...20348, NT$ARCH$.10.0...26100")],
        "NT$ARCH$",
    ),
    (
        Rule::Undecorated,
        &[(
            MODELS,
            "vroce, NTamd64.10.0...20348, NT.10.0...20348\n[vroce.NT.10.0...20348]",
        )],
        "NT.10.0",
    ),
    (
        Rule::TooOld,
        &[(
            MODELS,
            "vroce, NTamd64.10.0...20348, NTamd64.10.0...15063\n[vroce.NTamd64.10.0...15063]",
        )],
        "15063",
    ),
    (
        Rule::InstallMissing,
        &[(DEVICE, "%VroceDevice% = , PCI\\VEN_1AF4&DEV_1041\n")],
        "= , PCI",
    ),
    (
        Rule::InstallNotFound,
        &[(
            DEVICE,
            "%VroceDevice% = vroce.none, PCI\\VEN_1AF4&DEV_1041\n",
        )],
        "vroce.none",
    ),
    (
        Rule::HardwareIdTwice,
        &[(
            DEVICE,
            "%VroceDevice% = vroce.ndi, PCI\\VEN_1AF4&DEV_1041, pci\\ven_1af4&dev_1041\n",
        )],
        "pci\\ven",
    ),
    (
        Rule::Outranks,
        &[(
            DEVICE,
            "%VroceDevice% = vroce.ndi, PCI\\VEN_1AF4&DEV_1041&SUBSYS_11001AF4\n",
        )],
        "&SUBSYS_",
    ),
    (
        Rule::CoInstaller,
        &[(
            LAST,
            "NetworkAddress = \"Network Address\"\n[vroce.ndi.NT.CoInstallers]",
        )],
        "CoInstallers]",
    ),
    (
        Rule::ClassInstall,
        &[(
            LAST,
            "NetworkAddress = \"Network Address\"\n[ClassInstall32]",
        )],
        "[ClassInstall32]",
    ),
    (
        Rule::DefaultInstall,
        &[(
            LAST,
            "NetworkAddress = \"Network Address\"\n[DefaultInstall.NTamd64]",
        )],
        "[DefaultInstall",
    ),
    (
        Rule::Legacy,
        &[("BusType             = 5", "BusType = 5\nRegisterDlls = x")],
        "RegisterDlls",
    ),
    (
        Rule::Legacy,
        &[(
            LAST,
            "NetworkAddress = \"Network Address\"\n[InterfaceInstall32]",
        )],
        "[InterfaceInstall32]",
    ),
    (
        Rule::NotAdditive,
        &[("BusType             = 5", "BusType = 5\nDelReg = x")],
        "DelReg",
    ),
    (
        Rule::NotAdditive,
        &[("[vroce.reg]", "[vroce.reg]\nHKR, , Old, 4")],
        "Old",
    ),
    (
        Rule::SourceMissing,
        &[("[vroce.files]", "[vroce.files]\nother.sys")],
        "other.sys",
    ),
    (
        Rule::DiskInvalid,
        &[("vroce.sys = 1", "vroce.sys = x")],
        "vroce.sys = x",
    ),
    (
        Rule::DiskMissing,
        &[("vroce.sys = 1", "vroce.sys = 2")],
        "vroce.sys = 2",
    ),
    (
        Rule::CatalogCopied,
        &[("vroce.sys = 1", "vroce.sys = 1\nvroce.cat = 1")],
        "vroce.cat = 1",
    ),
    (
        Rule::Compressed,
        &[("vroce.sys = 1", "vroce.sys = 1\nother.sy_ = 1")],
        "other.sy_",
    ),
    (
        Rule::DestinationMissing,
        &[
            ("DefaultDestDir", "vroce.files"),
            ("= vroce.files", "= vroce.files, @vroce.sys"),
        ],
        "@vroce.sys",
    ),
    (
        Rule::DestinationShared,
        &[
            ("DefaultDestDir = 13", "DefaultDestDir = 12"),
            ("%13%", "%12%"),
        ],
        "DefaultDestDir",
    ),
    (
        Rule::DestinationMoved,
        &[("vroce.sys = 1", "vroce.sys = 1, x64")],
        "\u{1}vroce.sys",
    ),
    (
        Rule::RootInvalid,
        &[("HKR, , TypesSupported", "HKX, , TypesSupported")],
        "HKX",
    ),
    (
        Rule::RootShared,
        &[("HKR, , TypesSupported", "HKLM, , TypesSupported")],
        "HKLM",
    ),
    (
        Rule::ServiceKey,
        &[(
            "LoadOrderGroup = NDIS",
            "AddReg = vroce.own\n[vroce.own]\nHKR, Own, A, 0, \"1\"",
        )],
        "HKR, Own",
    ),
    (
        Rule::Number,
        &[(
            "MessageNumberLimit, 0x00010001, 2",
            "MessageNumberLimit, 0x00010001, two",
        )],
        "two",
    ),
    (
        Rule::Number,
        &[(
            "MessageNumberLimit, 0x00010001, 2",
            "MessageNumberLimit, 0x1000y, 2",
        )],
        "0x1000y",
    ),
    (
        Rule::Byte,
        &[("[vroce.reg]", "[vroce.reg]\nHKR, , Bytes, 1, ff, 0g")],
        "0g",
    ),
    (
        Rule::RegistryFlags,
        &[("[vroce.reg]", "[vroce.reg]\nHKR, , Odd, 0x00030000, 1")],
        "Odd",
    ),
    (
        Rule::Append,
        &[("[vroce.reg]", "[vroce.reg]\nHKR, , More, 0x00010008, a")],
        "More",
    ),
    (
        Rule::WellKnownType,
        &[("EventMessageFile, 0x00020000", "EventMessageFile, 0")],
        "EventMessageFile",
    ),
    (
        Rule::ValueTwice,
        &[(
            "[vroce.reg]",
            "[vroce.reg]\nHKR, ndi, service, 0, \"vroce\"",
        )],
        "HKR, Ndi, Service",
    ),
    (
        Rule::ServiceMissing,
        &[("= vroce, 2,", "= vroce, 0,")],
        "[vroce.ndi.NT.Services]",
    ),
    (
        Rule::ServiceTwice,
        &[(
            "vroce.service, vroce.eventlog",
            "vroce.service, vroce.eventlog\nAddService = other, 2, vroce.service",
        )],
        "other, 2",
    ),
    (
        Rule::ServiceFlags,
        &[("= vroce, 2,", "= vroce, 0x802,")],
        "AddService",
    ),
    (
        Rule::ServiceFlags,
        &[("= vroce, 2,", "= vroce, 3,")],
        "AddService",
    ),
    (
        Rule::ServiceIncomplete,
        &[("ErrorControl ", "; ErrorControl ")],
        "[vroce.service]",
    ),
    (
        Rule::ServiceValue,
        &[("StartType      = 3", "StartType = 2")],
        "StartType",
    ),
    (
        Rule::ServiceValue,
        &[("ErrorControl   = 1", "ErrorControl = 4")],
        "ErrorControl",
    ),
    (
        Rule::ServiceDisabled,
        &[("StartType      = 3", "StartType = 4")],
        "StartType",
    ),
    (
        Rule::BinaryPath,
        &[("%13%\\vroce.sys", "system32\\vroce.sys")],
        "ServiceBinary",
    ),
    (
        Rule::BinaryForeign,
        &[("%13%\\vroce.sys", "%13%\\other.sys")],
        "ServiceBinary",
    ),
    (
        Rule::EventLogType,
        &[(
            "vroce.service, vroce.eventlog",
            "vroce.service, vroce.eventlog, Kernel",
        )],
        "Kernel",
    ),
    (
        Rule::WdfService,
        &[("KmdfService = vroce", "KmdfService = other")],
        "KmdfService",
    ),
    (Rule::WdfVersion, &[("= 1.15", "= 1")], "KmdfLibraryVersion"),
    (
        Rule::NetType,
        &[("*MediaType          = 0", "*MediaType = 1")],
        "*IfType",
    ),
    (
        Rule::NetType,
        &[("*MediaType          = 0", "")],
        "[vroce.ndi.NT]",
    ),
    (
        Rule::NetCharacteristics,
        &[("0x84", "0x85")],
        "Characteristics",
    ),
    (
        Rule::NetCharacteristics,
        &[("0x84", "0x04")],
        "Characteristics",
    ),
    (
        Rule::NetBus,
        &[("BusType             = 5", "BusType = 1")],
        "BusType",
    ),
    (
        Rule::NetService,
        &[("Ndi, Service, 0, \"vroce\"", "Ndi, Service, 0, \"other\"")],
        "Ndi, Service",
    ),
    (
        Rule::NetInterfaces,
        &[("LowerRange, 0, \"ethernet\"", "LowerRange, 0, \"\"")],
        "[vroce.ndi.NT]",
    ),
    (
        Rule::NdkUpperRange,
        &[("\"ndis5\"", "\"ndis5_ip\"")],
        "UpperRange",
    ),
    (
        Rule::NdkKeyword,
        &[("*NetworkDirectTechnology", "Technology")],
        "[vroce.ndi.NT]",
    ),
    (
        Rule::Msi,
        &[("MSISupported, 0x00010001, 1", "MSISupported, 0x00010001, 0")],
        "MSISupported",
    ),
    (
        Rule::Msi,
        &[(
            "MessageNumberLimit, 0x00010001, 2",
            "MessageNumberLimit, 0x00010001, 4096",
        )],
        "4096",
    ),
    (
        Rule::ParamIncomplete,
        &[("HKR, Ndi\\Params\\*ReceiveBuffers, Type, 0, \"int\"", "")],
        "*ReceiveBuffers, ParamDesc",
    ),
    (
        Rule::ParamValue,
        &[("*ReceiveBuffers, Step", "*ReceiveBuffers, Base")],
        "Base",
    ),
    (
        Rule::ParamValue,
        &[(
            "*ReceiveBuffers, Step, 0",
            "*ReceiveBuffers, Step, 0x00010001",
        )],
        "Step, 0x0",
    ),
    (
        Rule::ParamType,
        &[(
            "[vroce.keywords]",
            "[vroce.keywords]\nHKR, Ndi\\Params\\Own, ParamDesc, 0, Own\nHKR, Ndi\\Params\\Own, Type, 0, text\nHKR, Ndi\\Params\\Own, Optional, 0, 1",
        )],
        "Type, 0, text",
    ),
    (
        Rule::ParamOptional,
        &[(
            "*ReceiveBuffers, Optional, 0, \"0\"",
            "*ReceiveBuffers, Optional, 0, \"2\"",
        )],
        "\"2\"",
    ),
    (
        Rule::ParamDefault,
        &[(
            "*ReceiveBuffers, Default, 0, \"256\"",
            "*ReceiveBuffers, Default, 0, \"31\"",
        )],
        "\"31\"",
    ),
    (
        Rule::ParamDefault,
        &[("HKR, Ndi\\Params\\*ReceiveBuffers, Default, 0, \"256\"", "")],
        "*ReceiveBuffers, ParamDesc",
    ),
    (
        Rule::ParamRange,
        &[(
            "*ReceiveBuffers, Step, 0, \"1\"",
            "*ReceiveBuffers, Step, 0, \"0\"",
        )],
        "Step, 0, \"0\"",
    ),
    (
        Rule::ParamChoices,
        &[(
            "[vroce.keywords]",
            "[vroce.keywords]\nHKR, Ndi\\Params\\*ReceiveBuffers\\enum, 1, 0, One",
        )],
        "One",
    ),
    (
        Rule::ParamReserved,
        &[(
            "[vroce.keywords]",
            "[vroce.keywords]\nHKR, Ndi\\Params\\BusType, ParamDesc, 0, Own\nHKR, Ndi\\Params\\BusType, Type, 0, edit\nHKR, Ndi\\Params\\BusType, Optional, 0, 1",
        )],
        "BusType, ParamDesc",
    ),
    (
        Rule::KeywordUnknown,
        &[(
            "[vroce.keywords]",
            "[vroce.keywords]\nHKR, Ndi\\Params\\*Own, ParamDesc, 0, Own\nHKR, Ndi\\Params\\*Own, Type, 0, edit\nHKR, Ndi\\Params\\*Own, Optional, 0, 1",
        )],
        "*Own, ParamDesc",
    ),
    (
        Rule::KeywordText,
        &[("\"Jumbo Packet\"", "\"Jumbo Frame\"")],
        "*JumboPacket, ParamDesc",
    ),
    (
        Rule::KeywordText,
        &[(
            "*NetworkDirect\\enum, \"0\", 0, %Disabled%",
            "*NetworkDirect\\enum, \"0\", 0, \"%Disabled%?\"",
        )],
        "?",
    ),
    (
        Rule::KeywordType,
        &[(
            "*ReceiveBuffers, Type, 0, \"int\"",
            "*ReceiveBuffers, Type, 0, \"long\"",
        )],
        "\"long\"",
    ),
    (
        Rule::KeywordDefault,
        &[(
            "*NetworkDirect, Default, 0, \"1\"",
            "*NetworkDirect, Default, 0, \"0\"",
        )],
        "*NetworkDirect, Default",
    ),
    (
        Rule::KeywordChoices,
        &[(
            "*NetworkDirectTechnology\\enum, \"4\", 0, %RoCEv2%",
            "*NetworkDirectTechnology\\enum, \"4\", 0, %RoCEv2%\nHKR, Ndi\\Params\\*NetworkDirectTechnology\\enum, 5, 0, X",
        )],
        "5, 0, X",
    ),
    (
        Rule::KeywordChoices,
        &[(
            "HKR, Ndi\\Params\\*NetworkDirectRoCEFrameSize\\enum, \"4096\", 0, \"4096\"",
            "",
        )],
        "*NetworkDirectRoCEFrameSize, ParamDesc",
    ),
    (
        Rule::KeywordRange,
        &[(
            "*JumboPacket, Min, 0, \"1514\"",
            "*JumboPacket, Min, 0, \"590\"",
        )],
        "*JumboPacket, Min",
    ),
];

#[test]
fn each_rule_can_be_broken_alone() {
    let ours = stamped(Arch::X64);
    let mut wrong = Vec::new();
    for (rule, changes, at) in CASES {
        let mut broken = ours.clone();
        for (from, to) in *changes {
            assert!(broken.contains(from), "{rule:?}: our INF has no {from:?}");
            broken = broken.replace(from, to);
        }
        let found = lint(&broken);
        let seen = |line: usize| {
            let line = broken.lines().nth(line - 1).unwrap_or_default();
            match at.strip_prefix('\u{1}') {
                Some(whole) => line == whole,
                None => line.contains(at),
            }
        };
        let right = matches!(found.as_slice(), [one] if one.rule == *rule && seen(one.line));
        if !right {
            wrong.push((rule, at, found));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_rule_has_an_inf_that_breaks_it() {
    let broken: BTreeSet<Rule> = CASES.iter().map(|(rule, ..)| *rule).collect();
    let missing: Vec<&Rule> = Rule::ALL.iter().filter(|r| !broken.contains(r)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_diagnostic_names_line_rule_and_source() {
    let found = lint("[Version]\n");
    assert_eq!(
        found[0].to_string(),
        "1: 1001: Signature is not \"$Windows NT$\" (INF Version section)"
    );
}
