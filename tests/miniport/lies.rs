//! Devices that say what is not so: the driver believes nothing that could harm it, and says what it does not believe.

use std::time::Duration;

use ndis_sys::status::{NDIS_STATUS_ADAPTER_NOT_FOUND, NDIS_STATUS_FAILURE};
use ntsim::virtio_net::{Lies, Nic, NicConfig, Structure};
use ntsim::{InstallError, MachineId, World};

use super::faults::failures_logged;
use super::{INX, Pair, clean_up, frame, image, ip, station};

/// NDIS_ERROR_CODE_ADAPTER_NOT_FOUND.
const NOT_FOUND: u32 = 0xc000_138b;
/// NDIS_ERROR_CODE_HARDWARE_FAILURE.
const HARDWARE_FAILURE: u32 = 0xc000_138a;

const INDIRECT: u64 = 1 << 28;
const EVENT_IDX: u64 = 1 << 29;
const VERSION_1: u64 = 1 << 32;

/// Two machines, of which the second has its driver; `prepare` sees to the first one's device.
fn before_installing(prepare: impl FnOnce(&Nic)) -> (World, MachineId, MachineId) {
    let mut world = World::builder().seed(1).build();
    let net = world.switch(Default::default());
    let (a, nic) = station(&mut world, &net, 1, NicConfig::default());
    let (b, _) = station(&mut world, &net, 2, NicConfig::default());
    prepare(&nic);
    world.install(b, INX, image()).unwrap();
    (world, a, b)
}

/// Codes in the event log of a machine.
fn logged(world: &World, machine: MachineId) -> Vec<u32> {
    let log = world.event_log(machine);
    log.iter().map(|entry| entry.code).collect()
}

#[test]
fn an_mtu_that_cannot_be_is_ignored() {
    for mtu in [0, 1, 67, 65_535] {
        let lies = Lies {
            mtu: Some(mtu),
            ..Lies::default()
        };
        let (mut world, a, b) = before_installing(|nic| nic.lie(lies));
        world.install(a, INX, image()).unwrap();
        assert_eq!(world.adapter(a).unwrap().mtu, 1500);
        assert!(world.ping_with(a, ip(2), 1400).is_some(), "{mtu}");
        let said = format!("MTU of {mtu} is ignored");
        assert!(world.debug_log().iter().any(|line| line.contains(&said)));
        clean_up(world, &[a, b]);
    }
}

/// The driver has no use for them.
#[test]
fn pairs_of_queues_that_cannot_be_are_not_used() {
    for (queue_pairs, said) in [(1, 0), (1, 9), (2, 0), (8, 0xffff)] {
        let nic = NicConfig {
            queue_pairs,
            control: true,
            checksums: true,
            ..NicConfig::default()
        };
        let mut pair = Pair::with(2, nic, &[]);
        let lies = Lies {
            queue_pairs: Some(said),
            ..Lies::default()
        };
        pair.nic_a.lie(lies);
        pair.world.restart_adapters(pair.a).unwrap();
        assert!(pair.ping(1400), "{said}");
        assert_eq!(failures_logged(&pair), 0);
        pair.clean_up();
    }
}

/// Who does not merge buffers does not look at their number.
#[test]
fn a_count_of_buffers_that_cannot_be_means_nothing() {
    let mut pair = Pair::new(3);
    for count in [0, 2, 0xffff] {
        let lies = Lies {
            num_buffers: Some(count),
            ..Lies::default()
        };
        pair.nic_a.lie(lies);
        for _ in 0..50 {
            assert!(pair.ping(1400));
        }
    }
    assert_eq!(failures_logged(&pair), 0);
    pair.clean_up();
}

#[test]
fn a_configuration_that_never_settles_is_read_all_the_same() {
    let mut pair = Pair::new(4);
    let lies = Lies {
        restless: true,
        ..Lies::default()
    };
    pair.nic_a.lie(lies);
    for up in [false, true, false, true] {
        // In a burst, in which the driver reads somewhere.
        for i in 0..21 {
            pair.nic_a.set_link((i % 2 == 0) == up);
            pair.world.run_for(Duration::from_nanos(700 * i));
        }
        pair.world.run_for(Duration::from_millis(20));
        assert_eq!(pair.world.adapter(pair.a).unwrap().link.up, up);
        assert_eq!(pair.ping(56), up);
    }
    pair.world.restart_adapters(pair.a).unwrap();
    assert!(pair.ping(56));
    assert_eq!(failures_logged(&pair), 0);
    pair.clean_up();
}

#[test]
fn interrupts_without_a_cause() {
    for messages in [0, 1, 3] {
        let nic = NicConfig {
            messages,
            ..NicConfig::default()
        };
        let mut pair = Pair::with(5, nic, &[]);
        let mac = pair.nic_a.mac();
        // A storm, with frames in it and without.
        for i in 0..5000 {
            pair.nic_a.interrupt_for_nothing();
            if i % 100 == 0 {
                pair.world
                    .send_frames(pair.a, vec![frame([0xff; 6], mac, 60); 20]);
            }
            pair.world.run_for(Duration::from_nanos(300));
        }
        pair.world.run_for(Duration::from_millis(1));
        assert_eq!(pair.world.sends(pair.a).outstanding, 0);
        assert!(pair.ping(1400));
        assert!(pair.world.adapter(pair.a).unwrap().link.up);
        assert_eq!(failures_logged(&pair), 0);
        // While nobody has the device work.
        pair.world.pause(pair.a);
        pair.nic_a.interrupt_for_nothing();
        pair.world.run_for(Duration::from_millis(1));
        pair.world.resume(pair.a).unwrap();
        assert!(pair.ping(1400));
        pair.clean_up();
    }
}

#[test]
fn features_that_are_offered_and_then_not_known() {
    for feigned in [INDIRECT, EVENT_IDX, INDIRECT | EVENT_IDX] {
        let lies = Lies {
            feigned,
            ..Lies::default()
        };
        let mut nic = None;
        let mut world = World::builder().seed(6).build();
        let net = world.switch(Default::default());
        let mut machines = Vec::new();
        for last in [1, 2] {
            let (machine, device) = station(&mut world, &net, last, NicConfig::default());
            machines.push(machine);
            nic.get_or_insert(device);
        }
        let (a, b, nic) = (machines[0], machines[1], nic.unwrap());
        nic.lie(lies);
        world.install(b, INX, image()).unwrap();
        let error = world.install(a, INX, image()).unwrap_err();
        assert!(
            matches!(error, InstallError::Initialize(NDIS_STATUS_FAILURE)),
            "{error}"
        );
        assert_eq!(logged(&world, a), [HARDWARE_FAILURE]);
        assert_eq!(world.pool_stats(a).driver_blocks, 0);
        nic.lie(Lies::default());
        world.install(a, INX, image()).unwrap();
        assert!(world.ping(a, ip(2)).is_some());
        clean_up(world, &[a, b]);
    }
}

/// Between one start and the next the driver has made its queues for what was agreed on.
#[test]
fn features_that_are_gone_when_the_device_is_restarted() {
    let feigned = Lies {
        feigned: EVENT_IDX,
        ..Lies::default()
    };
    let withheld = |features| Lies {
        withheld: features,
        ..Lies::default()
    };
    for lies in [feigned, withheld(INDIRECT), withheld(VERSION_1)] {
        let mut pair = Pair::new(7);
        pair.nic_a.lie(lies);
        pair.nic_a.give_up();
        pair.world.run_for(Duration::from_secs(5));
        assert_eq!(failures_logged(&pair), 1);
        let adapter = pair.world.adapter(pair.a).unwrap();
        assert!(!adapter.link.up);
        assert!(!pair.nic_a.is_running());
        assert!(!pair.ping(56));
        // It is tried again, and works when the features are back.
        pair.world.run_for(Duration::from_secs(60));
        pair.nic_a.lie(Lies::default());
        pair.world.run_for(Duration::from_secs(600));
        assert!(pair.ping(1400));
        assert_eq!(failures_logged(&pair), 1);
        pair.clean_up();
    }
}

#[test]
fn registers_that_lie_outside_their_bar() {
    use Structure::*;
    let outside = [
        (0x4000, 0x1000),
        (0x3ffc, 0x1000),
        (0, 0x4001),
        (u32::MAX, 0x1000),
    ];
    for structure in [Common, Notify, Isr, Config] {
        // Too short for what is in it, as well.
        for (offset, length) in outside
            .into_iter()
            .chain([(0, u32::MAX), (0, 0), (0x1000, 1)])
        {
            if (structure, length) == (Isr, 1) {
                continue;
            }
            let (mut world, a, b) =
                before_installing(|nic| nic.misplace(structure, offset, length));
            let error = world.install(a, INX, image()).unwrap_err();
            assert!(
                matches!(
                    error,
                    InstallError::Initialize(NDIS_STATUS_ADAPTER_NOT_FOUND)
                ),
                "{structure:?} at {offset:#x}, {length:#x}: {error}"
            );
            assert_eq!(logged(&world, a), [NOT_FOUND]);
            assert_eq!(world.pool_stats(a).driver_blocks, 0);
            clean_up(world, &[b]);
        }
    }
}
