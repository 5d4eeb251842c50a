//! Completion callbacks, and functions that must not have any.

use std::ptr::null;
use std::rc::{Rc, Weak};
use std::time::Duration;

use ndkpi::status::*;
use ndkpi::*;

use super::super::bench::*;
use super::super::fake::{Misdeed, Mode};
use super::{accused, creates, resizes, sends};
use crate::FaultPaths;
use crate::ndk::rules;
use crate::verifier::rules as kernel;
use crate::world::Core;
use crate::world::driver::Charged;
use crate::world::wait::wait_until;

#[test]
pub(super) fn creates_and_completions() {
    use Misdeed::*;
    let without = &[rules::CREATE_WITHOUT_OBJECT];
    accused(Mode::Inline, SuccessWithoutObject, creates, without);
    accused(Mode::Early, SuccessWithoutObject, creates, without);
    accused(Mode::Later, SuccessWithoutObject, creates, without);
    let out = &[rules::OUT_AFTER_PENDING];
    accused(Mode::Later, OutWrittenAfterPending, creates, out);
    accused(Mode::Early, OutWrittenAfterPending, creates, out);
    accused(
        Mode::Early,
        CompletesTwice,
        resizes,
        &[rules::COMPLETION_TWICE],
    );
    let not = &[rules::COMPLETION_NOT_PENDING];
    accused(Mode::Inline, CompletesAndReturnsSuccess, resizes, not);
    accused(Mode::Inline, CompletesAfterSuccess, resizes, not);
    accused(
        Mode::Later,
        CompletesPending,
        resizes,
        &[rules::COMPLETION_STATUS],
    );
    accused(
        Mode::Later,
        WrongContext,
        resizes,
        &[rules::CALLBACK_CONTEXT],
    );
    accused(
        Mode::Early,
        CallsWithLock,
        resizes,
        &[rules::CALLBACK_WITH_LOCK],
    );
    accused(
        Mode::Later,
        CallsWithLock,
        resizes,
        &[rules::CALLBACK_WITH_LOCK],
    );
    accused(Mode::Early, CallsAtHighIrql, resizes, &[kernel::IRQL]);
    accused(Mode::Inline, PostPends, sends, &[rules::PENDING]);
}

#[test]
fn a_completion_that_comes_long_after_another_is_known_by_its_context() {
    let mut b = Bench::new(Mode::Later, Misdeed::Nothing);
    let cq = b.cq(Told::new()).unwrap();
    b.resize(cq);
    let (completion, context) = b.fake.last_callback.get().unwrap();
    for _ in 0..2000 {
        b.resize(cq);
    }
    let fake = b.fake;
    // SAFETY: a callback with a context that is worth nothing any more: that is the point.
    fake.defer(move || unsafe { completion(context, STATUS_SUCCESS) });
    b.work();
    assert_eq!(b.rules(), [rules::CALLBACK_CONTEXT]);
}

/// A world that lives for so long after NdkResizeCq was called; what is said of it at its end.
fn resized_and_left(misdeed: Misdeed, seconds: u64) -> Vec<&'static str> {
    let mut b = Bench::new(Mode::Later, misdeed);
    let cq = b.cq(Told::new()).unwrap();
    b.resize(cq);
    b.world.run_for(Duration::from_secs(seconds));
    let report = b.world.finish();
    let broken: Vec<_> = report.violations.iter().map(|v| v.rule).collect();
    BROKEN.with_borrow_mut(|all| all.extend(&broken));
    broken
}

#[test]
pub(super) fn a_request_that_is_never_completed() {
    let never = Misdeed::NeverCompletes;
    assert_eq!(resized_and_left(never, 11), [rules::COMPLETION_NEVER]);
    // It may still come.
    assert_eq!(resized_and_left(never, 9), [""; 0]);
    assert_eq!(resized_and_left(Misdeed::Nothing, 11), [""; 0]);
}

#[test]
fn a_connection_may_take_long() {
    for (seconds, expected) in [(500, &[][..]), (601, &[rules::COMPLETION_NEVER])] {
        let mut b = Bench::new(Mode::Inline, Misdeed::NeverCompletes);
        let cq = b.cq(Told::new()).unwrap();
        let pd = b.pd();
        let qp = b.qp(pd, cq, cq, 1);
        let connector = b.connector();
        b.fake.mode.set(Mode::Later);
        assert_eq!(b.connect(connector, qp), STATUS_PENDING);
        b.world.run_for(Duration::from_secs(seconds));
        let report = b.world.finish();
        let broken: Vec<_> = report.violations.iter().map(|v| v.rule).collect();
        assert_eq!(broken, expected, "{report}");
    }
}

/// Has a consumer do something and wait until it is told, for ever. The rules broken.
fn waits(b: &mut Bench, told: &'static Told, f: impl FnOnce()) -> Vec<&'static str> {
    let done = b.world.try_call(b.machine, || {
        f();
        wait_until(|| told.times() > 0, None, "the consumer waits to be told");
    });
    assert!(done.is_none(), "it is told");
    b.rules()
}

/// A timer that ticks keeps the world going, and the wait as vain as it is.
fn tick(b: &Bench) {
    let core = Rc::clone(&b.world.core);
    let again = Rc::downgrade(&core);
    core.schedule(core.now() + 1_000_000_000, move || tick_on(&again));
}

fn tick_on(core: &Weak<Core>) {
    if let Some(alive) = core.upgrade() {
        let again = Weak::clone(core);
        alive.schedule(alive.now() + 1_000_000_000, move || tick_on(&again));
    }
}

#[test]
fn who_waits_for_what_is_never_completed_is_not_to_blame() {
    for ticks in [false, true] {
        let mut b = Bench::new(Mode::Later, Misdeed::NeverCompletes);
        let (cq, told) = (b.cq(Told::new()).unwrap(), Told::new());
        ticks.then(|| tick(&b));
        let broken = waits(&mut b, told, || {
            // SAFETY: as a consumer calls.
            unsafe { (table!(cq).NdkResizeCq)(cq, 32, on_status, told.context()) };
        });
        assert_eq!(broken, [rules::COMPLETION_NEVER, kernel::DEADLOCK]);
    }
    let mut b = Bench::new(Mode::Later, Misdeed::NeverCompletes);
    let (cq, told) = (b.cq(Told::new()).unwrap(), Told::new());
    b.run(|| {
        // SAFETY: as a consumer calls.
        unsafe { (table!(cq).NdkResizeCq)(cq, 32, on_status, told.context()) }
    });
    assert!(!b.world.run_until_done(|_| told.times() > 0));
    assert_eq!(b.rules(), [rules::COMPLETION_NEVER]);
}

#[test]
fn a_close_that_nothing_of_the_consumers_holds_up_is_completed() {
    for mine in [false, true] {
        let mut b = Bench::new(Mode::Inline, Misdeed::Nothing);
        let (pd, told) = (b.pd(), Told::new());
        if mine {
            b.mr(pd);
        }
        b.fake.mode.set(Mode::Later);
        let broken = waits(&mut b, told, || {
            close_now(pd, told);
        });
        let expected = [rules::COMPLETION_NEVER, kernel::DEADLOCK];
        assert_eq!(broken, expected[usize::from(mine)..]);
    }
}

#[test]
fn a_consumer_that_waits_in_a_callback_holds_its_provider_up() {
    let mut b = Bench::new(Mode::Later, Misdeed::Nothing);
    let (cq, first, second) = (b.cq(Told::new()).unwrap(), Told::new(), Told::new());
    let resize = move |told: &'static Told| {
        // SAFETY: as a consumer calls.
        unsafe { (table!(cq).NdkResizeCq)(cq, 32, on_status, told.context()) };
    };
    first.then(move || {
        resize(second);
        wait_until(|| second.times() > 0, None, "the consumer waits inside");
    });
    b.run(|| resize(first));
    let fake = b.fake;
    let done = b.world.try_call(b.machine, || fake.work());
    assert!(done.is_none());
    assert_eq!(b.rules(), [kernel::DEADLOCK]);
}

#[test]
fn a_callback_that_hangs_holds_up_the_providers_of_its_machine_only() {
    let mut b = Bench::new(Mode::Later, Misdeed::Nothing);
    let resize = |cq: *mut NDK_CQ, told: &'static Told| {
        // SAFETY: as a consumer calls.
        unsafe { (table!(cq).NdkResizeCq)(cq, 32, on_status, told.context()) };
    };
    let (cq, first) = (b.cq(Told::new()).unwrap(), Told::new());
    first.then(move || {
        resize(cq, Told::new());
        wait_until(|| false, None, "the consumer waits inside");
    });
    b.run(|| resize(cq, first));
    let fake = b.fake;
    b.world.on_machine(b.machine, |machine| {
        machine.queue_work(move || fake.work());
    });
    b.world.run_until_idle();
    let mut b = b.on_another_machine("B", Mode::Later, Misdeed::NeverCompletes);
    let (cq, told) = (b.cq(Told::new()).unwrap(), Told::new());
    let broken = waits(&mut b, told, || resize(cq, told));
    assert_eq!(broken, [rules::COMPLETION_NEVER, kernel::DEADLOCK]);
}

/// Consumers wait for events of their own that never come, one of them asked for what another's request needs.
#[test]
fn a_consumer_that_does_not_answer_holds_its_peers_provider_up() {
    type Answer = fn(&mut Bench, *mut NDK_CONNECTOR);
    let none: Answer = |_, _| {};
    let disconnect: Answer = |b, connector| assert_eq!(b.disconnect(connector), STATUS_SUCCESS);
    let close: Answer = |b, connector| assert!(b.close(connector));
    let reject: Answer = |b, connector| {
        // SAFETY: as a consumer calls.
        let status = b.run(|| unsafe { (table!(connector).NdkReject)(connector, null(), 0) });
        assert_eq!(status, STATUS_SUCCESS);
    };
    let complete: Answer = |b, connector| {
        assert_eq!(b.complete_connect(connector, Told::new()), STATUS_SUCCESS);
    };
    let accused = [rules::COMPLETION_NEVER, kernel::DEADLOCK];
    let with_pair = || {
        let mut b = Bench::new(Mode::Inline, Misdeed::NeverCompletes);
        let (cq, pd) = (b.cq(Told::new()).unwrap(), b.pd());
        let (one, other) = (b.qp(pd, cq, cq, 1), b.qp(pd, cq, cq, 2));
        (b, one, other)
    };
    for (answer, answered) in [(none, 0), (reject, 1), (close, 1)] {
        let (mut b, qp, _) = with_pair();
        let (asked, connector) = (b.incoming(), b.connector());
        answer(&mut b, asked);
        b.fake.mode.set(Mode::Later);
        assert_eq!(b.connect(connector, qp), STATUS_PENDING);
        let broken = waits(&mut b, Told::new(), || {});
        assert_eq!(broken, accused[1 - answered..]);
    }
    for (answer, answered) in [(none, 0), (complete, 1), (disconnect, 1)] {
        let (mut b, one, other) = with_pair();
        let (asked, connector) = (b.incoming(), b.connector());
        assert_eq!(b.connect(connector, one), STATUS_SUCCESS);
        answer(&mut b, connector);
        b.fake.mode.set(Mode::Later);
        assert_eq!(b.accept(asked, other), STATUS_PENDING);
        let broken = waits(&mut b, Told::new(), || {});
        assert_eq!(broken, accused[1 - answered..]);
    }
    // No other request waits for a peer's consumer.
    let (mut b, ..) = with_pair();
    b.incoming();
    let (cq, told) = (b.cq(Told::new()).unwrap(), Told::new());
    b.fake.mode.set(Mode::Later);
    assert_eq!(b.resize(cq), STATUS_PENDING);
    assert_eq!(waits(&mut b, told, || {}), accused);
}

/// Where something failed on purpose, what is awaited for a while is awaited for as long as it can take.
#[test]
fn under_faults_what_is_late_is_told_from_what_is_lost() {
    for (misdeed, expected) in [
        (Misdeed::Nothing, &[][..]),
        (Misdeed::NeverCompletes, &[rules::COMPLETION_NEVER]),
    ] {
        let mut b = Bench::failing(&FaultPaths::new(), Mode::Later, misdeed);
        let (cq, told) = (b.cq(Told::new()).unwrap(), Told::new());
        b.run(|| {
            // SAFETY: as a consumer calls.
            unsafe { (table!(cq).NdkResizeCq)(cq, 32, on_status, told.context()) };
        });
        let soon = Duration::from_secs(1);
        assert!(!b.world.run_until(|_| told.times() > 0, soon));
        assert_eq!(b.rules(), [""; 0], "nothing has failed");
        let machine = b.world.machine(b.machine);
        assert!(b.run(|| machine.faults.happens(|| "a mishap".to_owned())));
        let (core, fake) = (Rc::clone(&b.world.core), b.fake);
        core.schedule_on(&machine, core.now() + 100_000_000_000, move || fake.work());
        let in_the_end = b.world.run_until(|_| told.times() > 0, soon);
        assert_eq!(in_the_end, expected.is_empty());
        assert_eq!(b.rules(), expected);
    }
}

/// There the test's own assertions count.
#[test]
fn where_chance_has_calls_fail_a_wait_is_as_long_as_it_says() {
    let mut b = Bench::low(Mode::Later, Misdeed::Nothing);
    let (cq, told) = (b.cq(Told::new()).unwrap(), Told::new());
    let machine = b.world.machine(b.machine);
    let driver = b.fake.driver;
    machine.faults.settle(driver);
    let struck = b.run(|| {
        let _charged = Charged::to(driver);
        machine.faults.strikes("ExAllocatePool2")
    });
    assert!(struck);
    b.run(|| {
        // SAFETY: as a consumer calls.
        unsafe { (table!(cq).NdkResizeCq)(cq, 32, on_status, told.context()) };
    });
    let (core, fake) = (Rc::clone(&b.world.core), b.fake);
    core.schedule_on(&machine, core.now() + 100_000_000_000, move || fake.work());
    let soon = Duration::from_secs(1);
    assert!(!b.world.run_until(|_| told.times() > 0, soon));
    assert_eq!(b.world.now(), soon);
    assert_eq!(b.rules(), [""; 0]);
}

#[test]
fn a_callback_on_another_machine() {
    let mut b = Bench::new(Mode::Later, Misdeed::Nothing);
    let cq = b.cq(Told::new()).unwrap();
    let told = Told::new();
    b.run(|| {
        // SAFETY: as a consumer calls.
        unsafe { (table!(cq).NdkResizeCq)(cq, 32, on_status, told.context()) }
    });
    let other = b.world.add_machine(crate::MachineConfig::named("B"));
    let fake = b.fake;
    b.world.call(other, || fake.work());
    assert_eq!(b.rules(), [rules::CALLBACK_CONTEXT]);
    assert_eq!(told.times(), 0);
}

#[test]
fn a_consumers_own_lock_is_not_held_against_the_provider() {
    use ndis_sys::imports::{KeAcquireSpinLockRaiseToDpc, KeReleaseSpinLock};
    let mut b = Bench::new(Mode::Early, Misdeed::Nothing);
    let cq = b.cq(Told::new()).unwrap();
    let told = Told::new();
    let mut lock = 0_usize;
    b.run(|| {
        let lock = &raw mut lock;
        // SAFETY: the consumer's lock, and as a consumer calls.
        unsafe {
            let irql = KeAcquireSpinLockRaiseToDpc(lock.cast());
            (table!(cq).NdkResizeCq)(cq, 32, on_status, told.context());
            KeReleaseSpinLock(lock.cast(), irql);
        }
    });
    assert_eq!(told.times(), 1);
    assert_eq!(b.rules(), [""; 0]);
}
