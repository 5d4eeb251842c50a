//! For each rule a provider, or a consumer, that breaks it and is accused of just that.

use std::ptr::null_mut;

use ndis_sys::wdm;
use ndkpi::status::*;
use ndkpi::*;

use super::bench::*;
use super::consumers as mistakes;
use super::fake::{Misdeed, Mode};
use crate::ndk::rules::{self, RULES};
use crate::verifier::rules as kernel;

/// Runs a story with a provider that does one thing wrong, and wants to hear of these rules and no others.
#[track_caller]
fn accused(mode: Mode, misdeed: Misdeed, story: fn(&mut Bench), expected: &[&str]) {
    let mut bench = Bench::new(mode, misdeed);
    story(&mut bench);
    assert_eq!(bench.rules(), expected, "{misdeed:?} {mode:?}");
}

fn creates(b: &mut Bench) {
    let _ = b.cq(Told::new());
}

fn creates_two(b: &mut Bench) {
    let _ = b.cq(Told::new());
    let _ = b.cq(Told::new());
}

fn resizes(b: &mut Bench) {
    let cq = b.cq(Told::new()).unwrap();
    b.resize(cq);
    b.work();
    b.arm(cq);
}

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

fn sends(b: &mut Bench) {
    let cq = b.cq(Told::new()).unwrap();
    let pd = b.pd();
    let qp = b.qp(pd, cq, cq, 1);
    let connector = b.connector();
    b.connect(connector, qp);
    b.send(qp, 1, 0);
    b.poll(cq);
}

fn sends_ex(b: &mut Bench) {
    let cq = b.cq(Told::new()).unwrap();
    let pd = b.pd();
    let qp = b.qp(pd, cq, cq, 1);
    let connector = b.connector();
    b.connect(connector, qp);
    b.send(qp, 1, 0);
    b.poll_ex(cq);
}

fn sends_unconnected(b: &mut Bench) {
    let cq = b.cq(Told::new()).unwrap();
    let pd = b.pd();
    let qp = b.qp(pd, cq, cq, 1);
    b.send(qp, 1, 0);
}

fn receives_and_closes(b: &mut Bench) {
    receives_so_many_and_closes(b, 2);
}

fn receives_so_many_and_closes(b: &mut Bench, receives: usize) {
    let cq = b.cq(Told::new()).unwrap();
    let pd = b.pd();
    let qp = b.qp(pd, cq, cq, 1);
    for context in 0..receives {
        b.receive(qp, context);
    }
    b.close(qp);
    b.poll(cq);
}

fn overruns_and_closes(b: &mut Bench) {
    receives_so_many_and_closes(b, 17);
}

/// One receive of its own and as many of a shared queue as there are entries.
fn overruns_a_shared_queue(b: &mut Bench) {
    let cq = b.cq(Told::new()).unwrap();
    let pd = b.pd();
    let srq = b.srq(pd, Told::new());
    let sharing = b.create::<NDK_QP>(|context, out| {
        let f = table!(pd).NdkCreateQpWithSrq;
        let none = std::ptr::null_mut();
        // SAFETY: as a consumer calls.
        unsafe { f(pd, cq, cq, srq, none, 8, 1, 0, on_create, context, out) }
    });
    assert!(sharing.is_some());
    for _ in 0..16 {
        // SAFETY: as a consumer calls.
        b.run(|| unsafe {
            (table!(srq).NdkSrqReceive)(srq, std::ptr::null_mut(), std::ptr::null(), 0)
        });
    }
    let qp = b.qp(pd, cq, cq, 1);
    b.receive(qp, 1);
    b.close(qp);
    b.poll(cq);
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

fn maps(b: &mut Bench) {
    let adapter = b.adapter;
    let mut mdl = wdm::MDL::ZEROED;
    let mdl = (&raw mut mdl).cast::<MDL>();
    let mut room = [0_u64; 8];
    let lam = room.as_mut_ptr().cast::<NDK_LOGICAL_ADDRESS_MAPPING>();
    let (mut size, mut offset) = (64, 0);
    b.run(|| {
        let (size, offset) = (&raw mut size, &raw mut offset);
        // SAFETY: as a consumer calls.
        unsafe {
            (table!(adapter).NdkBuildLAM)(
                adapter,
                mdl,
                0x1000,
                None,
                null_mut(),
                lam,
                size,
                offset,
            );
            (table!(adapter).NdkReleaseLAM)(adapter, lam);
        }
    });
}

#[test]
fn headers() {
    use Misdeed::*;
    for mode in [Mode::Inline, Mode::Later] {
        accused(mode, WrongType, creates, &[rules::OBJECT_TYPE]);
        accused(mode, WrongVersion, creates, &[rules::OBJECT_VERSION]);
        accused(mode, ReservedNotZero, creates, &[rules::RESERVED_NOT_ZERO]);
        accused(mode, NoDispatch, creates, &[rules::DISPATCH_MISSING]);
        accused(mode, NullSlot, creates, &[rules::DISPATCH_MISSING]);
        accused(mode, SameObjectAgain, creates_two, &[rules::OBJECT_TWICE]);
    }
}

#[test]
fn a_missing_function_is_named() {
    let mut bench = Bench::new(Mode::Inline, Misdeed::NullSlot);
    creates(&mut bench);
    let violations = bench.violations();
    assert!(
        violations[0].text.contains("NdkArmCq is missing"),
        "{violations:?}"
    );
}

#[test]
fn headers_later() {
    use Misdeed::*;
    let mode = Mode::Inline;
    accused(mode, ReservedWritten, resizes, &[rules::RESERVED_WRITTEN]);
    accused(mode, DispatchWritten, resizes, &[rules::DISPATCH_WRITTEN]);
    accused(mode, DispatchReadBack, resizes, &[rules::DISPATCH_READ]);
}

#[test]
fn a_consumer_may_go_on_after_the_header_was_written() {
    let mut b = Bench::new(Mode::Inline, Misdeed::ReservedWritten);
    let cq = b.cq(Told::new()).unwrap();
    b.resize(cq);
    b.fake.misdeed.set(Misdeed::Nothing);
    b.arm(cq);
    assert!(b.close(cq));
    b.close_adapter();
    assert_eq!(b.rules(), [rules::RESERVED_WRITTEN]);
}

#[test]
fn versions() {
    let older = NDK_VERSION { Major: 2, Minor: 0 };
    let nothing = Misdeed::Nothing;
    let mut b = Bench::with_version(Mode::Inline, nothing, NDK_VERSION_2_1, older);
    assert_eq!(b.rules(), [rules::OBJECT_VERSION]);
    drop(b);
    let mut b = Bench::with_version(Mode::Inline, nothing, NDK_VERSION_1_2, NDK_VERSION_2_1);
    assert_eq!(b.rules(), [rules::OBJECT_VERSION]);
    drop(b);
    let newer = NDK_VERSION { Major: 2, Minor: 2 };
    let mut b = Bench::with_version(Mode::Inline, nothing, NDK_VERSION_2_1, newer);
    assert_eq!(b.rules(), [""; 0]);
}

#[test]
fn creates_and_completions() {
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

#[test]
fn closing() {
    use Misdeed::*;
    fn closes(b: &mut Bench) {
        let cq = b.cq(Told::new()).unwrap();
        b.close(cq);
    }
    fn closes_with_request(b: &mut Bench) {
        let cq = b.cq(Told::new()).unwrap();
        b.fake.mode.set(Mode::Later);
        let told = Told::new();
        b.run(|| {
            // SAFETY: as a consumer calls.
            unsafe { (table!(cq).NdkResizeCq)(cq, 32, on_status, told.context()) }
        });
        b.fake.mode.set(Mode::Inline);
        b.close(cq);
        assert_eq!(told.times(), 0, "no callback comes through after the close");
    }
    fn closes_in_notification(b: &mut Bench) {
        let notified = Told::new();
        let cq = b.cq(notified).unwrap();
        let closed = Told::new();
        notified.then(move || {
            close_now(cq, closed);
        });
        b.arm(cq);
        let (fake, q) = (b.fake, thing(cq));
        fake.defer(move || fake.notify(q, STATUS_SUCCESS));
        b.work();
    }
    fn closes_pd(b: &mut Bench) {
        let cq = b.cq(Told::new()).unwrap();
        let pd = b.pd();
        let qp = b.qp(pd, cq, cq, 1);
        b.close(pd);
        b.close(qp);
    }
    accused(Mode::Inline, CloseFails, closes, &[rules::CLOSE_STATUS]);
    let early = &[rules::CLOSE_BEFORE_REQUESTS, rules::CALLBACK_AFTER_CLOSE];
    accused(
        Mode::Inline,
        ClosesBeforeRequests,
        closes_with_request,
        early,
    );
    let events = &[rules::CLOSE_BEFORE_EVENTS];
    accused(
        Mode::Inline,
        ClosesBeforeEvents,
        closes_in_notification,
        events,
    );
    let successors = &[rules::CLOSE_BEFORE_SUCCESSORS];
    accused(Mode::Inline, ClosesBeforeSuccessors, closes_pd, successors);
    accused(
        Mode::Inline,
        CallsAfterClose,
        closes,
        &[rules::CALLBACK_AFTER_CLOSE],
    );
}

/// A window bound to a region, which is then closed. The queue pair and its completion queue, and the window.
fn closes_a_bound_region(b: &mut Bench, receive: bool) -> (*mut NDK_QP, *mut NDK_CQ, *mut NDK_MW) {
    let cq = b.cq(Told::new()).unwrap();
    let pd = b.pd();
    let (mr, mw) = (b.mr(pd), b.mw(pd));
    let qp = b.qp(pd, cq, cq, 1);
    let connector = b.connector();
    b.connect(connector, qp);
    if receive {
        b.receive(qp, 7);
    }
    assert_eq!(b.bind(qp, 3, mr, mw), STATUS_SUCCESS);
    assert_eq!(b.poll_ex(cq)[0].Type, NdkOperationTypeBind);
    b.close(mr);
    (qp, cq, mw)
}

#[test]
fn windows() {
    fn closes(b: &mut Bench) {
        closes_a_bound_region(b, false);
    }
    fn closes_and_a_peer_may_have_invalidated(b: &mut Bench) {
        let (_, cq, _) = closes_a_bound_region(b, true);
        assert_eq!(b.rules(), [""; 0]);
        b.poll_ex(cq);
    }
    fn closes_and_a_peer_had_invalidated(b: &mut Bench) {
        let (qp, cq, _) = closes_a_bound_region(b, true);
        let (fake, qp) = (b.fake, thing(qp));
        let invalidates = NdkOperationTypeReceiveAndInvalidate;
        b.world
            .call(b.machine, || fake.deliver_as(invalidates, qp, qp));
        b.poll_ex(cq);
        b.poll_ex(cq);
    }
    let (mode, misdeed) = (Mode::Inline, Misdeed::ClosesWhileBound);
    let bound = &[rules::CLOSE_WHILE_BOUND];
    accused(mode, misdeed, closes, bound);
    accused(mode, misdeed, closes_and_a_peer_may_have_invalidated, bound);
    accused(mode, misdeed, closes_and_a_peer_had_invalidated, &[]);
    accused(mode, Misdeed::Nothing, closes, &[]);
}

#[test]
fn the_object_that_is_still_there_is_named() {
    let mut b = Bench::new(Mode::Inline, Misdeed::ClosesBeforeSuccessors);
    let cq = b.cq(Told::new()).unwrap();
    let pd = b.pd();
    let _qp = b.qp(pd, cq, cq, 1);
    b.close(pd);
    let violations = b.violations();
    assert!(
        violations[0]
            .text
            .contains("QP 1 of fake (Open, from NdkCreateQp; on PD 1, CQ 1, CQ 1)"),
        "{violations:?}"
    );
}

#[test]
fn an_antecedents_close_waits_for_the_close_completion_to_return() {
    let mut b = Bench::new(Mode::Inline, Misdeed::Nothing);
    let pd = b.pd();
    let mr = b.mr(pd);
    let (_, pd_closed) = b.start_close(pd);
    b.fake.mode.set(Mode::Early);
    let fake = b.fake;
    let mr_closed = Told::new();
    let (hasty, context) = thing(pd).close_completion().unwrap();
    // The PD's close completion, while that of its MR runs.
    mr_closed.then(move || {
        // SAFETY: the callback and its context.
        fake.defer(move || unsafe { hasty(context) });
        fake.work();
    });
    b.run(|| close_now(mr, mr_closed));
    assert_eq!(pd_closed.times(), 1);
    assert_eq!(b.rules()[0], rules::CLOSE_BEFORE_SUCCESSORS);
}

#[test]
fn adapters() {
    use Misdeed::*;
    fn queries(b: &mut Bench) {
        let adapter = b.adapter;
        b.run(|| {
            let mut info = NDK_ADAPTER_INFO::ZEROED;
            let mut size = size_of_val(&info) as u32;
            // SAFETY: as a consumer calls.
            unsafe { (table!(adapter).NdkQueryAdapterInfo)(adapter, &raw mut info, &raw mut size) }
        });
    }
    fn asks_for_an_extension(b: &mut Bench) {
        let cq = b.cq(Told::new()).unwrap();
        b.run(|| {
            let mut interface = NDK_EXTENSION_INTERFACE::ZEROED;
            let mut id = GUID {
                Data1: 1,
                ..GUID::ZEROED
            };
            let f = table!(cq).NdkQueryExtension;
            // SAFETY: as a consumer calls.
            unsafe { f(cq.cast(), &raw mut id, NDK_VERSION_2_1, &raw mut interface) }
        });
    }
    fn closes_the_adapter(b: &mut Bench) {
        b.fake.mode.set(Mode::Inline);
        let cq = b.cq(Told::new()).unwrap();
        b.fake.mode.set(Mode::Later);
        let _ = b.start_close(cq);
        b.close_adapter();
    }
    accused(Mode::Inline, InfoVersion, queries, &[rules::ADAPTER_INFO]);
    accused(Mode::Inline, WrongLength, queries, &[rules::LENGTH]);
    let extension = &[rules::EXTENSION];
    accused(
        Mode::Inline,
        ExtensionWithoutTable,
        asks_for_an_extension,
        extension,
    );
    let close = &[rules::ADAPTER_CLOSE];
    accused(
        Mode::Later,
        AdapterCloseReturnsEarly,
        closes_the_adapter,
        close,
    );
    accused(Mode::Later, Nothing, closes_the_adapter, &[]);
}

#[test]
fn notifications() {
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
        static DUE: std::cell::Cell<Option<(&'static super::fake::Fake, *mut NDK_CQ)>> =
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
    b.fake.in_arm.set(Some(|| {
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
fn a_dead_queue_says_no_more() {
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
fn shared_receive_queues() {
    fn modifies(b: &mut Bench) {
        modifies_to(b, 0);
    }
    fn sets_a_threshold(b: &mut Bench) {
        modifies_to(b, 2);
    }
    fn modifies_to(b: &mut Bench, threshold: u32) {
        let pd = b.pd();
        let srq = b.srq(pd, Told::new());
        b.request(|context| {
            // SAFETY: as a consumer calls.
            unsafe { (table!(srq).NdkModifySrq)(srq, 16, threshold, on_status, context) }
        });
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
}

#[test]
fn connections() {
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

#[test]
fn results() {
    use Misdeed::*;
    let mode = Mode::Inline;
    accused(
        mode,
        PostsUnconnected,
        sends_unconnected,
        &[rules::POST_UNCONNECTED],
    );
    accused(
        mode,
        TooManyResults,
        polls_nothing,
        &[rules::RESULT_COUNT, rules::RESULT_QP],
    );
    accused(mode, WrongQpContext, sends, &[rules::RESULT_QP]);
    accused(mode, WrongRequestContext, sends, &[rules::RESULT_REQUEST]);
    accused(mode, ResultTwice, sends, &[rules::RESULT_UNEXPECTED]);
    accused(mode, ResultPending, sends, &[rules::RESULT_STATUS]);
    accused(mode, WrongResultType, sends_ex, &[rules::RESULT_TYPE]);
    accused(
        mode,
        ErrorCodeOnSuccess,
        sends_ex,
        &[rules::RESULT_ERROR_CODE],
    );
    accused(
        mode,
        LosesReceives,
        receives_and_closes,
        &[rules::RESULT_MISSING],
    );
    accused(mode, Nothing, receives_and_closes, &[]);
    // What a queue that was not armed has no room for is lost without a word.
    accused(mode, LosesReceives, overruns_and_closes, &[]);
    accused(
        mode,
        LosesReceives,
        |b| receives_so_many_and_closes(b, 16),
        &[rules::RESULT_MISSING],
    );
    accused(mode, LosesReceives, overruns_a_shared_queue, &[]);
}

fn polls_nothing(b: &mut Bench) {
    let cq = b.cq(Told::new()).unwrap();
    assert_eq!(b.poll(cq).len(), 8);
}

#[test]
fn mappings() {
    use Misdeed::*;
    let mode = Mode::Inline;
    accused(mode, LamUnaligned, maps, &[rules::LAM]);
    accused(mode, LamChangesMdl, maps, &[rules::LAM]);
    let missing = &[rules::COMPLETION_MISSING, rules::CONSUMER_PARAMETER];
    accused(mode, LamPendsWithoutCallback, maps, missing);
    accused(mode, Nothing, maps, &[]);
}

#[test]
fn consumers() {
    fn uses_what_it_closed(b: &mut Bench) {
        let cq = b.cq(Told::new()).unwrap();
        let pd = b.pd();
        let _qp = b.qp(pd, cq, cq, 1);
        let _ = b.start_close(cq);
        b.poll(cq);
    }
    fn closes_twice(b: &mut Bench) {
        let cq = b.cq(Told::new()).unwrap();
        b.close(cq);
        b.close(cq);
    }
    fn mixes_up_objects(b: &mut Bench) {
        let cq = b.cq(Told::new()).unwrap();
        let pd = b.pd();
        let receive_cq: *mut NDK_CQ = pd.cast();
        let made: Option<*mut NDK_QP> = b.create(|context, out| {
            let f = table!(pd).NdkCreateQp;
            let none = null_mut();
            // SAFETY: wrong, and noticed.
            unsafe {
                f(
                    pd, receive_cq, cq, none, 8, 8, 1, 1, 0, on_create, context, out,
                )
            }
        });
        assert!(made.is_none());
    }
    fn leaks(b: &mut Bench) {
        let _cq = b.cq(Told::new()).unwrap();
        b.close_adapter_as_is();
    }
    fn polls_while_it_arms(b: &mut Bench) {
        let cq = b.cq(Told::new()).unwrap();
        thread_local! {
            static CQ: std::cell::Cell<*mut NDK_CQ> = const { std::cell::Cell::new(null_mut()) };
        }
        CQ.set(cq);
        // On another processor, while the first is inside NdkArmCq.
        b.fake.in_arm.set(Some(|| {
            let _entered = crate::world::context::machine().enter(1);
            let _consumer = crate::world::driver::Charged::to(0);
            let cq = CQ.get();
            let mut result = NDK_RESULT::ZEROED;
            // SAFETY: as a consumer calls.
            unsafe { (table!(cq).NdkGetCqResults)(cq, &raw mut result, 1) };
        }));
        b.arm(cq);
    }
    let (mode, nothing) = (Mode::Inline, Misdeed::Nothing);
    accused(mode, nothing, uses_what_it_closed, &[rules::CONSUMER]);
    accused(mode, nothing, closes_twice, &[rules::CONSUMER]);
    accused(
        mode,
        nothing,
        mixes_up_objects,
        &[rules::CONSUMER_PARAMETER],
    );
    accused(
        mode,
        nothing,
        leaks,
        &[rules::CONSUMER_LEAK, rules::ADAPTER_CLOSE],
    );
    accused(
        mode,
        nothing,
        polls_while_it_arms,
        &[rules::CONSUMER_OVERLAP],
    );
}

#[test]
fn functions_of_later_versions() {
    fn sends_and_invalidates(b: &mut Bench) {
        let cq = b.cq(Told::new()).unwrap();
        let pd = b.pd();
        let qp = b.qp(pd, cq, cq, 1);
        let status = b.run(|| {
            let f = table!(qp).NdkSendAndInvalidate;
            // SAFETY: as a consumer calls.
            unsafe { f(qp, null_mut(), std::ptr::null(), 0, 0, 0) }
        });
        assert_eq!(status, STATUS_NOT_SUPPORTED);
    }
    let (asked, nothing) = (NDK_VERSION_1_1, Misdeed::Nothing);
    let mut b = Bench::with_version(Mode::Inline, nothing, asked, NDK_VERSION_1_1);
    sends_and_invalidates(&mut b);
    assert_eq!(b.rules(), [rules::CONSUMER_PARAMETER]);
}

#[test]
fn opening() {
    let mut object = NDK_ADAPTER::ZEROED;
    let object = &raw mut object;
    for (status, object, expected) in [
        (STATUS_SUCCESS, object, None),
        (STATUS_INSUFFICIENT_RESOURCES, null_mut(), None),
        (STATUS_PENDING, null_mut(), Some(rules::OPEN)),
        (STATUS_SUCCESS, null_mut(), Some(rules::OPEN)),
        (STATUS_INSUFFICIENT_RESOURCES, object, Some(rules::OPEN)),
    ] {
        let mut b = Bench::new(Mode::Inline, Misdeed::Nothing);
        let judged = b.run(|| crate::ndk::judge_open(status, object));
        assert_eq!(
            judged.is_ok(),
            status == STATUS_SUCCESS && expected.is_none()
        );
        assert_eq!(b.rules(), expected.as_slice());
    }
}

#[test]
fn every_rule_has_a_culprit() {
    for culprits in [
        opening,
        headers,
        headers_later,
        versions,
        creates_and_completions,
        closing,
        windows,
        adapters,
        notifications,
        a_dead_queue_says_no_more,
        shared_receive_queues,
        connections,
        results,
        mappings,
        consumers,
        mistakes::contexts_that_are_gone,
        mistakes::logical_addresses,
        mistakes::overruns,
        mistakes::requests_whose_memory_is_taken_away,
        mistakes::unlocked_pages,
    ] {
        culprits();
    }
    let accused = BROKEN.take();
    for rule in RULES {
        assert!(accused.contains(rule.name), "nobody breaks {rule:?}");
    }
}

#[test]
fn every_rule_has_its_own_name_and_text() {
    for (index, rule) in RULES.iter().enumerate() {
        assert!(rule.name.starts_with("ndk."), "{rule:?}");
        assert!(
            rule.text.ends_with('.') && !rule.text.contains("  "),
            "{rule:?}"
        );
        assert!(!rule.source.is_empty());
        assert!(
            RULES[..index].iter().all(|other| other.name != rule.name),
            "{rule:?}"
        );
    }
}
