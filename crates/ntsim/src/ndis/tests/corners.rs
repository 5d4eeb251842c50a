//! What miniports may do and few do: nobody is accused of it.

use std::rc::Rc;

use ndis_sys::imports::*;
use ndis_sys::ndis::*;
use ndis_sys::oid::OID_GEN_STATISTICS;
use ndis_sys::status::*;

use super::fault::{ATTRIBUTES, CORNER, Corner, FAULT, Fault, KEEP_OIDS, PEND_RESET, RESETS};
use super::{IMAGE, INX, OidRequest, log, two_machines};
use crate::ndis::rules;
use crate::verifier::rules as kernel;
use crate::world::wait::sleep_until;
use crate::world::{World, context};

pub(super) const ASKED: OidRequest<'_> = OidRequest::Query(OID_GEN_STATISTICS, 152);

fn clean(world: World) {
    let report = world.finish();
    assert!(report.is_clean() && report.leaks.is_empty(), "{report}");
}

#[test]
fn a_request_that_is_completed_where_a_reset_is_completed_is_over() {
    let (mut world, a, _) = two_machines(false);
    RESETS.set(true);
    PEND_RESET.set(true);
    world.install(a, INX, IMAGE).unwrap();
    KEEP_OIDS.set(true);
    let request = world.start_oid(a, &ASKED).unwrap();
    CORNER.set(Corner::OidEndsInReset);
    assert_eq!(world.reset(a), Some(NDIS_STATUS_SUCCESS));
    let status = request.wait(&mut world).status;
    assert_eq!(status, NDIS_STATUS_REQUEST_ABORTED);
    world.uninstall(a);
    clean(world);
}

#[test]
fn an_adapter_is_halted_when_its_requests_are_over() {
    let (mut world, a, _) = two_machines(false);
    world.install(a, INX, IMAGE).unwrap();
    let machine = world.machine(a);
    let adapter = Rc::clone(&super::super::of(&machine).adapters.borrow()[0]);
    world.pause(a);
    KEEP_OIDS.set(true);
    let request = world.start_oid(a, &ASKED).unwrap();
    KEEP_OIDS.set(false);
    log();
    world.on_machine(a, |machine| {
        machine.queue_work(move || {
            sleep_until(context::core().now() + 1_000_000_000);
            super::fault::log("answers");
            super::oids::answer_kept(adapter.context.get());
        });
    });
    world.uninstall(a);
    assert_eq!(log(), ["answers", "halt", "unload"]);
    assert_eq!(request.wait(&mut world).status, NDIS_STATUS_SUCCESS);
    clean(world);
}

#[test]
fn a_request_that_is_never_completed_is_named_when_the_adapter_is_to_be_halted() {
    let (mut world, a, _) = two_machines(true);
    world.install(a, INX, IMAGE).unwrap();
    world.pause(a);
    KEEP_OIDS.set(true);
    let _request = world.start_oid(a, &ASKED).unwrap();
    KEEP_OIDS.set(false);
    let ends = std::panic::AssertUnwindSafe(|| world.uninstall(a));
    assert!(std::panic::catch_unwind(ends).is_err(), "it never ends");
    let violations = world.take_violations();
    let [owed, deadlock] = &violations[..] else {
        panic!("{violations:?}");
    };
    assert_eq!(
        (owed.rule, &*owed.culprit),
        (rules::OID, "driver testnic"),
        "{owed}"
    );
    assert_eq!(deadlock.rule, kernel::DEADLOCK);
    let text = format!("OID request {OID_GEN_STATISTICS:#x} is pending");
    assert!(deadlock.text.contains(&text), "{deadlock}");
}

#[test]
fn frames_may_be_indicated_as_soon_as_restart_is_called() {
    let (mut world, a, _) = two_machines(false);
    CORNER.set(Corner::IndicatesInRestart);
    world.install(a, INX, IMAGE).unwrap();
    world.pause(a);
    world.resume(a).unwrap();
    CORNER.set(Corner::None);
    world.uninstall(a);
    clean(world);
}

#[test]
fn interrupt_dpcs_may_use_the_interrupt_until_it_is_deregistered() {
    let (mut world, a, _) = two_machines(false);
    world.install(a, INX, IMAGE).unwrap();
    log();
    CORNER.set(Corner::DpcAtDeregister);
    world.uninstall(a);
    assert_eq!(log(), ["pause", "halt", "late DPC", "unload"]);
    clean(world);
}

#[test]
fn a_miniport_that_gives_its_device_up_is_told_of_the_removal_and_halted() {
    let (mut world, a, _) = two_machines(false);
    world.install(a, INX, IMAGE).unwrap();
    let machine = world.machine(a);
    let handle = super::super::of(&machine).adapters.borrow()[0].handle.get();
    log();
    let status = world.call_on(a, 0, 2, || {
        // SAFETY: the adapter's handle.
        unsafe { NdisMRemoveMiniport(handle) }
    });
    assert_eq!(status, NDIS_STATUS_SUCCESS);
    // Nobody has told the miniport yet: it answers as always.
    assert_eq!(log(), [""; 0]);
    let answer = world.oid(a, &ASKED).unwrap();
    assert_eq!(answer.status, NDIS_STATUS_SUCCESS);
    world.run_until_idle();
    assert_eq!(log(), ["pnp 2", "pause", "halt", "unload"]);
    assert!(world.adapter(a).is_none());
    clean(world);
}

#[test]
fn a_device_that_is_pulled_out_while_it_sleeps_accepts_no_power_state() {
    for fault in [Fault::None, Fault::PowerRefused] {
        let (mut world, a, _) = two_machines(true);
        ATTRIBUTES.set(NDIS_MINIPORT_ATTRIBUTES_NO_HALT_ON_SUSPEND);
        world.install(a, INX, IMAGE).unwrap();
        world.sleep(a);
        world.begin_surprise_removal(a);
        FAULT.set(fault);
        world.wake(a).unwrap();
        assert_eq!(world.take_violations().len(), 0, "{fault:?}");
        FAULT.set(Fault::None);
        world.end_surprise_removal(a);
        assert_eq!(world.take_violations().len(), 0);
    }
}
