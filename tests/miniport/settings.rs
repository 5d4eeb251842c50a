//! Keywords in the registry.

use std::collections::BTreeSet;

use ntsim::World;
use ntsim::virtio_net::NicConfig;

use super::{INX, Pair, clean_up, image, station};

/// NDIS_ERROR_CODE_UNSUPPORTED_CONFIGURATION, NDIS_ERROR_CODE_NETWORK_ADDRESS.
const UNSUPPORTED_CONFIGURATION: u32 = 0xc000_1391;
const NETWORK_ADDRESS: u32 = 0xc000_1390;

/// What machine A's event log says, as code and first string.
fn logged(pair: &Pair) -> Vec<(u32, String)> {
    let entry = |entry: ntsim::world::EventLogEntry| {
        (
            entry.code,
            entry.strings.into_iter().next().unwrap_or_default(),
        )
    };
    pair.world
        .event_log(pair.a)
        .into_iter()
        .map(entry)
        .collect()
}

fn jumbo_nic() -> NicConfig {
    NicConfig {
        mtu: 9000,
        ..Default::default()
    }
}

#[test]
fn defaults_of_the_inf_are_nothing_to_log() {
    let pair = Pair::new(1);
    assert_eq!(logged(&pair), []);
    pair.clean_up();
}

#[test]
fn the_smaller_of_device_and_keyword_is_the_mtu() {
    for (device, keyword, mtu) in [
        (1500, "9014", 1500),
        (9000, "1514", 1500),
        (4200, "4214", 4200),
        (4200, "4000", 3986),
    ] {
        let nic = NicConfig {
            mtu: device,
            ..Default::default()
        };
        let mut pair = Pair::with(2, nic, &[("*JumboPacket", keyword)]);
        assert_eq!(pair.world.adapter(pair.a).unwrap().mtu, mtu);
        assert!(pair.ping(mtu as usize - 28));
        pair.clean_up();
    }
}

#[test]
fn a_bad_value_is_logged_and_replaced_by_the_default() {
    for (keyword, value, default) in [
        ("*JumboPacket", "1513", "1514"),
        ("*JumboPacket", "100000", "1514"),
        ("*NetworkDirect", "2", "1"),
        ("*NetworkDirectTechnology", "1", "4"),
        ("*NetworkDirectRoCEFrameSize", "1500", "1024"),
        ("DcQcnEnable", "2", "0"),
        ("*ReceiveBuffers", "0", "256"),
        ("*TransmitBuffers", "4294967295", "256"),
    ] {
        let mut pair = Pair::with(3, jumbo_nic(), &[(keyword, value)]);
        let expected = (
            UNSUPPORTED_CONFIGURATION,
            format!("{keyword}={value}, using {default}"),
        );
        assert_eq!(logged(&pair), [expected]);
        assert_eq!(pair.world.adapter(pair.a).unwrap().mtu, 1500);
        assert!(pair.ping(56));
        pair.clean_up();
    }
}

#[test]
fn an_administrators_address_is_used() {
    let mut pair = Pair::new(4);
    pair.world
        .set_keyword(pair.a, "NetworkAddress", "02AABBCCDDEE");
    pair.world.restart_adapters(pair.a).unwrap();
    assert_eq!(
        pair.world.adapter(pair.a).unwrap().mac,
        [0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee]
    );
    assert!(pair.ping(56));
    pair.clean_up();
}

#[test]
fn an_administrators_address_that_cannot_be_told_is_logged() {
    const WANTED: [u8; 6] = [0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee];
    let mut world = World::builder().seed(5).build();
    let net = world.switch(Default::default());
    let (a, _) = station(&mut world, &net, 1, NicConfig::default());
    let set = [("NetworkAddress", "02AABBCCDDEE")];
    let mut unheard = 0;
    for after in 0.. {
        world.fail_allocations(a, Some(after), false);
        let before = world.event_log(a).len();
        let installed = world.install_with(a, INX, image(), &set).is_ok();
        let untouched = world.allocation_failure_pending(a);
        world.fail_allocations(a, None, false);
        let failed = world.take_failed_functions(a);
        if installed {
            let log = &world.event_log(a)[before..];
            let is_logged = log.iter().any(|entry| entry.code == NETWORK_ADDRESS);
            let is_used = world.adapter(a).unwrap().mac == WANTED;
            assert!(is_used != is_logged, "without {failed:?}");
            unheard += u32::from(failed == ["NdisReadNetworkAddress"] && is_logged);
            world.uninstall(a);
        }
        if untouched {
            break;
        }
    }
    assert_eq!(unheard, 1);
    clean_up(world, &[]);
}

#[test]
fn a_group_is_no_stations_address() {
    let mut pair = Pair::new(5);
    let born_with = pair.world.adapter(pair.a).unwrap().mac;
    for bad in ["01AABBCCDDEE", "000000000000"] {
        pair.world.set_keyword(pair.a, "NetworkAddress", bad);
        pair.world.restart_adapters(pair.a).unwrap();
        assert_eq!(pair.world.adapter(pair.a).unwrap().mac, born_with);
    }
    assert_eq!(
        logged(&pair),
        [
            (NETWORK_ADDRESS, "NetworkAddress".into()),
            (NETWORK_ADDRESS, "NetworkAddress".into())
        ]
    );
    assert!(pair.ping(56));
    pair.clean_up();
}

#[test]
fn n21_a_roce_frame_size_that_does_not_fit_is_logged_with_the_one_in_use() {
    let nic = NicConfig {
        mtu: 4200,
        ..Default::default()
    };
    let pair = Pair::with(
        6,
        nic.clone(),
        &[
            ("*NetworkDirectRoCEFrameSize", "4096"),
            ("*JumboPacket", "3000"),
        ],
    );
    let text = "*NetworkDirectRoCEFrameSize: active RoCE MTU is 2048";
    assert_eq!(logged(&pair), [(UNSUPPORTED_CONFIGURATION, text.into())]);
    pair.clean_up();
    let pair = Pair::with(
        6,
        nic,
        &[
            ("*NetworkDirectRoCEFrameSize", "4096"),
            ("*JumboPacket", "4214"),
        ],
    );
    assert_eq!(logged(&pair), []);
    pair.clean_up();
}

#[test]
fn n02_ndk_capabilities_are_told_whether_it_is_enabled_or_not() {
    for (value, enabled) in [("1", true), ("0", false)] {
        let pair = Pair::with(7, NicConfig::default(), &[("*NetworkDirect", value)]);
        let adapter = pair.world.adapter(pair.a).unwrap();
        assert_eq!(adapter.ndk_enabled, enabled);
        let (capabilities, info) = adapter.ndk.unwrap();
        assert!(capabilities.MaxQpCount > 0);
        assert_eq!(info.RdmaTechnology, 4, "RoCEv2");
        pair.clean_up();
    }
}

#[test]
fn what_the_administrator_switches_off_stays_off_where_memory_is_short() {
    let mut world = World::builder().seed(8).build();
    let net = world.switch(Default::default());
    let (a, _) = station(&mut world, &net, 1, NicConfig::default());
    let off = [("*NetworkDirect", "0")];
    let mut failed = BTreeSet::new();
    for after in 0.. {
        world.fail_allocations(a, Some(after), false);
        let installed = world.install_with(a, INX, image(), &off).is_ok();
        let untouched = world.allocation_failure_pending(a);
        world.fail_allocations(a, None, false);
        failed.extend(world.take_failed_functions(a));
        if installed {
            let adapter = world.adapter(a).unwrap();
            assert!(!adapter.ndk_enabled, "without allocation {after}");
            world.uninstall(a);
        }
        if untouched {
            break;
        }
    }
    assert!(failed.contains("NdisReadConfiguration"), "{failed:?}");
    clean_up(world, &[]);
}
