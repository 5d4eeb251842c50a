//! Sleep, hangs and resets.

use std::rc::Rc;
use std::time::Duration;

use ndis_sys::ndis::*;
use ndis_sys::oid::OID_GEN_STATISTICS;
use ndis_sys::status::*;

use super::fault::{ATTRIBUTES, FAULT, Fault, HANGS, KEEP_SENDS, PEND_RESET, RESETS};
use super::{IMAGE, INX, OidRequest, address, log, rules, two_machines, two_machines_of};
use crate::world::WorldBuilder;
use crate::world::explore::search;

const AWARE: u32 = NDIS_MINIPORT_ATTRIBUTES_NO_HALT_ON_SUSPEND;

#[test]
fn a_power_aware_miniport_sleeps_paused_or_running_and_another_is_halted() {
    let paused: &[&str] = &["D? 3", "pause", "D 3", "D 0", "pnp 5", "restart"];
    let running: &[&str] = &["D? 3", "D 3", "D 0", "pnp 5"];
    let halted: &[&str] = &["pause", "halt", "initialize", "pnp 5", "restart"];
    for (attributes, story) in [
        (AWARE, paused),
        (
            AWARE | NDIS_MINIPORT_ATTRIBUTES_NO_PAUSE_ON_SUSPEND,
            running,
        ),
        (0, halted),
    ] {
        let (mut world, a, b) = two_machines(false);
        ATTRIBUTES.set(attributes);
        world.install(a, INX, IMAGE).unwrap();
        world.install(b, INX, IMAGE).unwrap();
        for _ in 0..2 {
            assert!(world.ping(a, address(2)).is_some());
            log();
            world.sleep(a);
            assert_eq!(world.ping(b, address(1)), None);
            if attributes != 0 {
                let asked = OidRequest::Query(OID_GEN_STATISTICS, 152);
                let refused = world.oid(a, &asked).unwrap();
                assert_eq!(refused.status, NDIS_STATUS_LOW_POWER_STATE);
            }
            world.wake(a).unwrap();
            assert_eq!(log(), story);
            // Interrupts come again, too.
            assert!(world.ping(b, address(1)).is_some());
        }
        world.uninstall(a);
        world.uninstall(b);
        let report = world.finish();
        assert!(report.is_clean() && report.leaks.is_empty(), "{report}");
    }
}

#[test]
fn who_does_not_let_go_before_it_sleeps_is_accused() {
    for (fault, count) in [(Fault::PowerRefused, 3), (Fault::PowerKeepsTimer, 1)] {
        let (mut world, a, _) = two_machines(true);
        ATTRIBUTES.set(AWARE);
        FAULT.set(fault);
        world.install(a, INX, IMAGE).unwrap();
        world.sleep(a);
        world.wake(a).unwrap();
        let named: Vec<_> = world.take_violations().iter().map(|v| v.rule).collect();
        assert_eq!(named, vec![rules::POWER; count], "{fault:?}");
        world.uninstall(a);
    }
    let (mut world, a, _) = two_machines(true);
    ATTRIBUTES.set(AWARE | NDIS_MINIPORT_ATTRIBUTES_NO_PAUSE_ON_SUSPEND);
    world.install(a, INX, IMAGE).unwrap();
    KEEP_SENDS.set(true);
    world.send_frames(a, vec![vec![0xff; 60]]);
    world.sleep(a);
    let named: Vec<_> = world.take_violations().iter().map(|v| v.rule).collect();
    assert_eq!(named, [rules::POWER]);
    world.wake(a).unwrap();
    world.uninstall(a);
}

#[test]
fn a_miniport_that_hangs_is_reset() {
    for pend in [false, true] {
        let (mut world, a, _) = two_machines(false);
        RESETS.set(true);
        PEND_RESET.set(pend);
        world.install(a, INX, IMAGE).unwrap();
        log();
        world.run_for(Duration::from_secs(20));
        assert_eq!(log(), [""; 0]);
        KEEP_SENDS.set(true);
        world.send_frames(a, vec![vec![0xff; 60]]);
        HANGS.set(true);
        // It asked for five seconds, and gets an even number.
        world.run_for(Duration::from_millis(4100));
        assert_eq!(log(), ["reset", "set 0x1010e", "set 0x1010103"]);
        KEEP_SENDS.set(false);
        world.uninstall(a);
        let report = world.finish();
        assert!(report.is_clean() && report.leaks.is_empty(), "{report}");
    }
}

#[test]
fn resets_can_be_asked_for_and_are_judged() {
    let (mut world, a, _) = two_machines(false);
    world.install(a, INX, IMAGE).unwrap();
    assert_eq!(world.reset(a), Some(NDIS_STATUS_NOT_RESETTABLE));
    world.uninstall(a);
    drop(world);
    for (fault, pend) in [
        (Fault::ResetKeepsSend, false),
        (Fault::ResetKeepsSend, true),
        (Fault::ResetCompletesTwice, true),
    ] {
        let (mut world, a, _) = two_machines(true);
        RESETS.set(true);
        PEND_RESET.set(pend);
        world.install(a, INX, IMAGE).unwrap();
        KEEP_SENDS.set(true);
        world.send_frames(a, vec![vec![0xff; 60]]);
        FAULT.set(fault);
        assert_eq!(world.reset(a), Some(NDIS_STATUS_SUCCESS));
        let named: Vec<_> = world.take_violations().iter().map(|v| v.rule).collect();
        assert_eq!(named, [rules::RESET], "{fault:?}");
        FAULT.set(Fault::None);
        world.uninstall(a);
    }
}

/// A thread of the protocol sends, and soon after the adapter is paused.
fn paused_while_somebody_sends(builder: WorldBuilder, seed: u64) {
    let (mut world, a, _) = two_machines_of(builder.seed(seed).ignore_environment());
    world.install(a, INX, IMAGE).unwrap();
    let adapter = Rc::clone(&crate::ndis::of(&world.machine(a)).adapters.borrow()[0]);
    let sent = Rc::clone(&adapter);
    world.on_machine(a, |machine| {
        machine.queue_work(move || crate::ndis::send::send(&sent, &[vec![vec![0; 60]]], 0));
    });
    world.run_for(Duration::from_nanos(1));
    world.pause(a);
    world.run_until_idle();
    let (sent, left) = (adapter.sends.completed.get(), adapter.sends.outstanding());
    assert_eq!((sent, left), (1, 0));
    world.uninstall(a);
}

#[test]
fn a_send_that_ndis_has_begun_has_reached_the_miniport_when_it_is_paused() {
    // Protocols send at PASSIVE_LEVEL or at DISPATCH_LEVEL: the seed says where.
    for seed in 1..=4 {
        let found = search(300, |builder| paused_while_somebody_sends(builder, seed));
        assert!(found.is_none(), "{found:?}");
    }
}
