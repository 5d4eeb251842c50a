//! Notifications, and events of connections.

use ndkpi::status::*;
use ndkpi::*;

use super::super::bench::*;
use super::super::fake::{Fake, Misdeed, Mode};
use super::super::fake_tables::DEEPEST;
use super::{accused, sends};
use crate::ndk::rules;

fn notifies(b: &mut Bench) {
    let notified = Told::new();
    let cq = b.cq(notified).unwrap();
    notified.then(move || arm_now(cq));
    let pd = b.pd();
    let qp = b.qp(pd, cq, cq, 1);
    let connector = b.connector();
    b.connect(connector, qp);
    b.arm(cq);
    b.send(qp, 1, 0);
    b.poll(cq);
    b.work();
}

fn notifies_without_arming_again(b: &mut Bench) {
    let cq = b.cq(Told::new()).unwrap();
    let pd = b.pd();
    let qp = b.qp(pd, cq, cq, 1);
    let connector = b.connector();
    b.connect(connector, qp);
    b.arm(cq);
    b.send(qp, 1, 0);
    b.work();
}

fn listens(b: &mut Bench) {
    let listener = b.listener(Told::new());
    b.work();
    b.listen(listener);
    b.fake.incoming(thing(listener));
    b.work();
}

fn stops_listening(b: &mut Bench) {
    let listener = b.listener(Told::new());
    b.listen(listener);
    b.close(listener);
}

fn is_disconnected(b: &mut Bench) {
    is_disconnected_telling(b);
}

fn is_disconnected_telling(b: &mut Bench) -> &'static Told {
    let cq = b.cq(Told::new()).unwrap();
    let pd = b.pd();
    let qp = b.qp(pd, cq, cq, 1);
    let connector = b.connector();
    b.connect(connector, qp);
    let told = Told::new();
    b.complete_connect(connector, told);
    let by_itself = [
        Misdeed::DisconnectsWhileClosing,
        Misdeed::DisconnectsUnconnected,
    ];
    if !by_itself.contains(&b.fake.misdeed.get()) {
        b.fake.peer_disconnects(thing(connector));
    }
    b.work();
    b.close(connector);
    told
}

#[test]
pub(super) fn notifications() {
    use Misdeed::*;
    let mode = Mode::Inline;
    fn sends_and_works(b: &mut Bench) {
        sends(b);
        b.work();
    }
    let unarmed = &[rules::NOTIFY_UNARMED];
    accused(mode, NotifiesUnarmed, sends_and_works, unarmed);
    accused(mode, NotifiesTwice, notifies_without_arming_again, unarmed);
    accused(mode, NotifiesInArm, notifies, &[rules::NOTIFY_IN_ARM]);
    let overlap = &[rules::NOTIFY_OVERLAP, rules::NOTIFY_IN_ARM];
    accused(mode, NotifiesOverlapping, notifies, overlap);
    accused(mode, NotifiesOddStatus, notifies, &[rules::NOTIFY_STATUS]);
}

#[test]
fn a_notification_that_interrupts_arming_is_not_made_by_it() {
    // A DPC that runs as soon as NdkArmCq lowers the IRQL is on the same stack, but it could be anywhere.
    use crate::world::processor::{DISPATCH, Dpc};
    thread_local! {
        static DUE: std::cell::Cell<Option<(&'static Fake, *mut NDK_CQ)>> =
            const { std::cell::Cell::new(None) };
    }
    fn run(_object: usize) {
        let (fake, cq) = DUE.get().unwrap();
        let q = thing(cq);
        fake.defer(move || fake.notify(q, STATUS_SUCCESS));
        fake.work();
    }
    let mut b = Bench::new(Mode::Inline, Misdeed::Nothing);
    let notified = Told::new();
    let cq = b.cq(notified).unwrap();
    DUE.set(Some((b.fake, cq)));
    b.fake.inside.set(Some(|| {
        crate::world::context::with_processor(|p| {
            let old = p.set_irql(DISPATCH);
            p.queue_dpc(Dpc { object: 1, run }, false);
            p.lower_irql(old);
        });
    }));
    b.arm(cq);
    assert_eq!(notified.times(), 1);
    assert_eq!(b.rules(), [""; 0]);
}

#[test]
pub(super) fn a_dead_queue_says_no_more() {
    let mut b = Bench::new(Mode::Inline, Misdeed::Nothing);
    let cq = b.cq(Told::new()).unwrap();
    let (fake, q) = (b.fake, thing(cq));
    b.arm(cq);
    fake.defer(move || fake.notify(q, STATUS_BUFFER_OVERFLOW));
    b.work();
    assert_eq!(b.rules(), [""; 0]);
    b.arm(cq);
    fake.defer(move || fake.notify(q, STATUS_SUCCESS));
    b.work();
    assert_eq!(b.rules(), [rules::NOTIFY_AFTER_ERROR]);
}

#[test]
pub(super) fn shared_receive_queues() {
    fn modifies(b: &mut Bench) {
        modifies_to(b, 0);
    }
    fn sets_a_threshold(b: &mut Bench) {
        modifies_to(b, 2);
    }
    fn modifies_to(b: &mut Bench, threshold: u32) {
        let pd = b.pd();
        let srq = b.srq(pd, Told::new());
        b.modify_srq(srq, 16, threshold, Told::new());
        b.work();
    }
    let mode = Mode::Inline;
    let unarmed = &[rules::SRQ_NOTIFY_UNARMED];
    accused(mode, Misdeed::SrqNotifiesUnarmed, modifies, unarmed);
    let odd = &[rules::NOTIFY_STATUS];
    accused(mode, Misdeed::SrqNotifiesOddStatus, sets_a_threshold, odd);
    accused(mode, Misdeed::Nothing, sets_a_threshold, &[]);
    let failed = Misdeed::SrqNotifiesAfterFailure;
    accused(mode, failed, sets_a_threshold, unarmed);
    let overlapping = |b: &mut Bench| sets_two_thresholds_at_a_time(b, 16);
    accused(Mode::Later, failed, overlapping, unarmed);
}

/// The first NdkModifySrq asks for that depth; the second runs before it is done.
fn sets_two_thresholds_at_a_time(b: &mut Bench, depth: u32) {
    let pd = b.pd();
    let srq = b.srq(pd, Told::new());
    for depth in [depth, 16] {
        let status = b.modify_srq(srq, depth, 2, Told::new());
        assert_eq!(status, STATUS_PENDING);
    }
    b.work();
}

#[test]
fn a_threshold_that_was_set_holds_though_another_that_was_not_set_overlapped_it() {
    let refused = |b: &mut Bench| sets_two_thresholds_at_a_time(b, DEEPEST + 1);
    accused(Mode::Later, Misdeed::Nothing, refused, &[]);
    let both = |b: &mut Bench| sets_two_thresholds_at_a_time(b, 16);
    accused(Mode::Later, Misdeed::Nothing, both, &[]);
}

#[test]
pub(super) fn connections() {
    use Misdeed::*;
    let mode = Mode::Inline;
    let event = &[rules::CONNECT_EVENT];
    accused(mode, EventWithoutConnector, listens, event);
    accused(mode, EventBeforeListen, listens, event);
    accused(mode, EventAfterListenerClose, stops_listening, event);
    accused(
        mode,
        DisconnectsTwice,
        is_disconnected,
        &[rules::DISCONNECT_TWICE],
    );
    let unconnected = &[rules::DISCONNECT_UNCONNECTED];
    accused(mode, DisconnectsUnconnected, is_disconnected, unconnected);
}

#[test]
fn a_disconnect_may_be_told_until_the_close_is_complete() {
    let mut b = Bench::new(Mode::Inline, Misdeed::DisconnectsWhileClosing);
    let told = is_disconnected_telling(&mut b);
    b.work();
    assert_eq!(told.calls.borrow().len(), 1);
    assert_eq!(b.rules(), [""; 0]);
}
