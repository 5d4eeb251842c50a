//! Miniports that never complete what they have left pending: who waits for it is not to blame.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::corners::ASKED;
use super::fault::{FAULT, Fault, KEEP_OIDS, KEEP_SENDS, PEND_RESET, RESETS};
use super::{IMAGE, INX, two_machines};
use crate::ndis::rules;
use crate::verifier::rules as kernel;
use crate::world::{MachineId, World};

/// The rules that a world breaks which is left to wait for ever, each with its culprit.
fn waited(fault: Fault, wait: impl FnOnce(&mut World, MachineId)) -> Vec<(&'static str, String)> {
    let (mut world, a, _) = two_machines(true);
    RESETS.set(true);
    PEND_RESET.set(true);
    world.install(a, INX, IMAGE).unwrap();
    FAULT.set(fault);
    let waits = AssertUnwindSafe(|| wait(&mut world, a));
    assert!(catch_unwind(waits).is_err(), "it waits for ever");
    let violations = world.take_violations();
    let broken = violations.into_iter().map(|v| (v.rule, v.culprit));
    broken.collect()
}

fn miniport(rule: &'static str) -> (&'static str, String) {
    (rule, "driver testnic".to_owned())
}

#[test]
fn a_pause_and_a_reset() {
    let deadlock = (kernel::DEADLOCK, String::new());
    let pause = waited(Fault::PauseNever, |world, a| world.pause(a));
    assert_eq!(pause, [miniport(rules::STATE), deadlock.clone()]);
    let reset = waited(Fault::ResetNever, |world, a| {
        world.reset(a);
    });
    assert_eq!(reset, [miniport(rules::RESET), deadlock]);
}

#[test]
fn a_request_that_the_host_waits_for() {
    let asked = waited(Fault::None, |world, a| {
        KEEP_OIDS.set(true);
        world.start_oid(a, &ASKED).unwrap().wait(world);
    });
    assert_eq!(asked, [miniport(rules::OID)]);
}

#[test]
fn a_frame_that_is_never_sent() {
    for (seconds, expected) in [(599, &[][..]), (600, &[rules::SEND])] {
        let (mut world, a, _) = two_machines(true);
        world.install(a, INX, IMAGE).unwrap();
        KEEP_SENDS.set(true);
        world.send_frames(a, vec![vec![0xff; 60]]);
        world.run_for(Duration::from_secs(seconds));
        let violations = world.finish().violations;
        let broken: Vec<_> = violations.iter().map(|v| v.rule).collect();
        assert_eq!(broken, expected, "after {seconds} s: {violations:?}");
    }
}
