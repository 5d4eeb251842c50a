use super::*;

const VIRTIO_NET: PciIdentity = PciIdentity {
    vendor: 0x1af4,
    device: 0x1041,
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
    revision: 1,
    class: [2, 0, 0],
};

const INX: &str = r#"
[Version]
Signature   = "$Windows NT$"
Class       = Net
ClassGuid   = {4d36e972-e325-11ce-bfc1-08002be10318}
Provider    = %P%
CatalogFile = x.cat
PnpLockdown = 1
DriverVer   =

[Manufacturer]
%P% = Models, NT$ARCH$.10.0...16299, NT$ARCH$.10.0...99999, NTarm64.10.0

[Models.NT$ARCH$.10.0...16299]
%D.Any% = nic.any, PCI\VEN_1AF4&DEV_1041
%D% = nic, PCI\VEN_1AF4&DEV_1041&SUBSYS_11001AF4&REV_01

[Models.NT$ARCH$.10.0...99999]
%D% = future, PCI\VEN_1AF4&DEV_1041&SUBSYS_11001AF4&REV_01

[nic.any.NT]

[nic.NT]
Characteristics = 0x84
BusType = 5
*IfType = 6
*MediaType = 0
*PhysicalMediaType = 14
AddReg = nic.reg
CopyFiles = nic.files

[nic.files]
nic.sys

[nic.reg]
HKR, Ndi, Service, 0, "nic"
HKR, Ndi\Interfaces, UpperRange, 0, "ndis5"
HKR, Ndi\params\*NetworkDirect, ParamDesc, 0, "NetworkDirect"
HKR, Ndi\params\*NetworkDirect, Type, 0, "enum"
HKR, Ndi\params\*NetworkDirect, Default, 0, "1"
HKR, Ndi\params\*NetworkDirect\enum, "0", 0, "Disabled"
HKR, Ndi\params\*NetworkDirect\enum, "1", 0, "Enabled"
HKR, Ndi\params\NetworkAddress, ParamDesc, 0, "Address"
HKR, Ndi\params\NetworkAddress, Type, 0, "edit"
HKR, Ndi\params\NetworkAddress, Optional, 0, "1"
HKR,, Neg, 0x10001, -2
HKR,, List, 0x10000, a, b
HKR,, List, 0x10008, b, c

[nic.NT.HW]
AddReg = nic.hw

[nic.hw]
HKR, "Interrupt Management\MessageSignaledInterruptProperties", MSISupported, 0x00010001, 1
HKR, "Interrupt Management\MessageSignaledInterruptProperties", MessageNumberLimit, 0x00010001, 17

[nic.NT.Services]
AddService = nic, 2, nic.service, nic.log

[nic.service]
DisplayName = %D%
ServiceType = 1
StartType = 3
ErrorControl = 1
ServiceBinary = %13%\nic.sys
LoadOrderGroup = NDIS

[nic.log]
AddReg = nic.log.reg

[nic.log.reg]
HKR,, EventMessageFile, 0x00020000, "%%SystemRoot%%\System32\netevent.dll"

[Strings]
P = "Somebody"
D = "Some NIC"
D.Any = "Any NIC"
"#;

fn install(text: &str) -> Result<(Installed, Registry), InfError> {
    let package = Package::parse(text)?;
    let matched = package.select(&VIRTIO_NET)?;
    let mut registry = Registry::default();
    let installed = package.install(&matched, &VIRTIO_NET, 1, &mut registry)?;
    Ok((installed, registry))
}

#[test]
fn the_most_specific_model_of_the_applicable_section_wins() {
    let (installed, _) = install(INX).unwrap();
    assert_eq!(installed.matched.section, "nic");
    assert_eq!(installed.matched.decorated, "nic.NT");
    assert_eq!(installed.matched.rank, 0);
    assert_eq!(installed.matched.description, "Some NIC");
}

#[test]
fn registry_after_an_installation() {
    let (installed, registry) = install(INX).unwrap();
    assert_eq!(
        (installed.service.as_str(), installed.binary.as_str()),
        ("nic", "nic.sys")
    );
    let class = registry.open(&installed.class_key).unwrap();
    assert_eq!(class.value("*NetworkDirect"), Some(&Value::Sz("1".into())));
    assert_eq!(class.value("NetworkAddress"), None);
    assert_eq!(class.value("*IfType"), Some(&Value::Dword(6)));
    assert_eq!(class.value("Neg"), Some(&Value::Dword(0xffff_fffe)));
    assert_eq!(
        class.value("List"),
        Some(&Value::MultiSz(vec!["a".into(), "b".into(), "c".into()]))
    );
    let msi = registry
        .open(&format!(
            "{}\\Interrupt Management\\MessageSignaledInterruptProperties",
            installed.device_key
        ))
        .unwrap();
    assert_eq!(msi.value("MSISupported"), Some(&Value::Dword(1)));
    let service = registry.open(&installed.service_key).unwrap();
    assert_eq!(service.value("Start"), Some(&Value::Dword(3)));
    let log = registry
        .open("SYSTEM\\CurrentControlSet\\Services\\EventLog\\System\\nic")
        .unwrap();
    assert_eq!(
        log.value("EventMessageFile"),
        Some(&Value::ExpandSz(
            "%SystemRoot%\\System32\\netevent.dll".into()
        ))
    );
}

#[test]
fn a_value_set_by_the_administrator_survives_a_reinstallation() {
    let (installed, mut registry) = install(INX).unwrap();
    registry
        .create(&installed.class_key)
        .set("*NetworkDirect", "0");
    let package = Package::parse(INX).unwrap();
    package
        .install(&installed.matched, &VIRTIO_NET, 1, &mut registry)
        .unwrap();
    assert_eq!(
        registry
            .open(&installed.class_key)
            .unwrap()
            .value("*NetworkDirect"),
        Some(&Value::Sz("0".into()))
    );
}

#[test]
fn another_device_does_not_match() {
    let package = Package::parse(INX).unwrap();
    let other = PciIdentity {
        device: 0x1042,
        ..VIRTIO_NET
    };
    assert!(
        package
            .select(&other)
            .unwrap_err()
            .text
            .contains("no model")
    );
    let old = PciIdentity {
        revision: 0,
        subsystem: 0x0001,
        ..VIRTIO_NET
    };
    assert_eq!(package.select(&old).unwrap().section, "nic.any");
}

#[test]
fn broken_files_are_refused_with_their_line() {
    let cases: &[(&str, &str, &str)] = &[
        ("$Windows NT$", "$Nonsense$", "Signature"),
        ("Class       = Net", "Class = System", "not Net"),
        (
            "AddReg = nic.reg",
            "AddReg = nic.missing",
            "[nic.missing] does not exist",
        ),
        ("AddReg = nic.reg", "AddRegs = nic.reg", "directive AddRegs"),
        (
            "AddService = nic, 2,",
            "AddService = nic, 0,",
            "SPSVCINST_ASSOCSERVICE",
        ),
        (
            "ServiceBinary = %13%\\nic.sys",
            "ServiceBinary = c:\\nic.sys",
            "ServiceBinary",
        ),
        (
            "Default, 0, \"1\"",
            "Default, 0, \"7\"",
            "not among the choices",
        ),
        ("StartType = 3", "StartType = 4", "disabled"),
        ("*IfType = 6", "", "*IfType"),
        (
            "Characteristics = 0x84",
            "Characteristics = 0x85",
            "exclude",
        ),
        (
            "HKR,, Neg, 0x10001, -2",
            "HKR,, Neg, 0x10001, 0x100000000",
            "REG_DWORD",
        ),
        (
            "HKR,, Neg, 0x10001, -2",
            "HKX,, Neg, 0x10001, 2",
            "registry root",
        ),
        (
            "HKR,, Neg, 0x10001, -2",
            "HKR, Interrupt Management, 0x10",
            "comma is missing",
        ),
        ("NTarm64.10.0", "NTvax.10.0", "TargetOSVersion"),
        ("PnpLockdown = 1", "", "PnpLockdown"),
    ];
    for (from, to, expect) in cases {
        assert!(INX.contains(from), "{from}");
        let err = install(&INX.replacen(from, to, 1)).expect_err(to);
        assert!(err.text.contains(expect), "{to:?}: {err}");
        assert_ne!(err.line, 0, "{err}");
    }
}
