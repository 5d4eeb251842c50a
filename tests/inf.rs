//! What Windows would make of `inf/vroce.inx`: the simulator's Plug and Play reads the same file.

use ntsim::pnp::ids::PciIdentity;
use ntsim::pnp::package::Package;
use ntsim::pnp::registry::{Registry, Value};

const INF: &str = include_str!("../inf/vroce.inx");

const MODERN: PciIdentity = PciIdentity {
    vendor: 0x1af4,
    device: 0x1041,
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
    revision: 1,
    class: [2, 0, 0],
};

#[test]
fn both_virtio_network_devices_match() {
    let package = Package::parse(INF).expect("the INF parses");
    for device in [0x1041, 0x1000] {
        let device = PciIdentity { device, ..MODERN };
        let matched = package.select(&device).expect("a model matches");
        assert_eq!(matched.decorated, "vroce.ndi.NT");
    }
    let other = PciIdentity {
        device: 0x1042,
        ..MODERN
    };
    assert!(package.select(&other).is_err(), "a virtio disk is not ours");
}

#[test]
fn other_drivers_that_name_the_card_more_closely_come_first() {
    let package = Package::parse(INF).expect("the INF parses");
    let transitional = PciIdentity {
        device: 0x1000,
        subsystem: 1,
        revision: 0,
        ..MODERN
    };
    for device in [MODERN, transitional] {
        let matched = package.select(&device).expect("a model matches");
        assert!(
            !device.hardware_ids().contains(&matched.id),
            "{} would take each such card that is installed",
            matched.id
        );
        assert!(device.compatible_ids().contains(&matched.id));
    }
}

#[test]
fn n20_n21_keywords_have_the_defaults_that_the_documentation_demands() {
    let package = Package::parse(INF).expect("the INF parses");
    let matched = package.select(&MODERN).expect("a model matches");
    let mut registry = Registry::default();
    let installed = package
        .install(&matched, &MODERN, 0, &mut registry)
        .expect("it installs");
    assert_eq!(installed.service, "vroce");
    assert_eq!(installed.binary, "vroce.sys");
    let class = registry.open(&installed.class_key).expect("the class key");
    for (keyword, default) in [
        ("*NetworkDirect", "1"),
        ("*NetworkDirectTechnology", "4"),
        ("*NetworkDirectRoCEFrameSize", "1024"),
        ("*JumboPacket", "1514"),
    ] {
        assert_eq!(
            class.value(keyword),
            Some(&Value::Sz(default.into())),
            "{keyword}"
        );
    }
    let values = |keyword: &str| -> Vec<String> {
        let choice = class.open(&format!("Ndi\\Params\\{keyword}\\enum"));
        let choice = choice.unwrap_or_else(|| panic!("{keyword} is no choice"));
        choice.values().map(|(value, _)| value.into()).collect()
    };
    assert_eq!(values("*NetworkDirect"), ["0", "1"]);
    // RoCEv2 and nothing else.
    assert_eq!(values("*NetworkDirectTechnology"), ["4"]);
    let sizes = values("*NetworkDirectRoCEFrameSize");
    assert_eq!(sizes, ["256", "512", "1024", "2048", "4096"]);
    assert_eq!(class.value("*IfType"), Some(&Value::Dword(6)));
    assert_eq!(class.value("*PhysicalMediaType"), Some(&Value::Dword(14)));
    let interfaces = registry
        .open(&format!("{}\\Ndi\\Interfaces", installed.class_key))
        .expect("Ndi\\Interfaces");
    assert_eq!(
        interfaces.value("UpperRange"),
        Some(&Value::Sz("ndis5".into()))
    );
}
