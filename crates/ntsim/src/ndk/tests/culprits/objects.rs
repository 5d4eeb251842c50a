//! Headers, tables, versions, creating and closing of objects, and the adapter.

use std::ptr::null_mut;

use ndis_sys::wdm;
use ndkpi::status::*;
use ndkpi::*;

use super::super::bench::*;
use super::super::fake::{Misdeed, Mode};
use super::{accused, creates, resizes};
use crate::ndk::rules;

fn creates_two(b: &mut Bench) {
    let _ = b.cq(Told::new());
    let _ = b.cq(Told::new());
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
pub(super) fn headers() {
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
pub(super) fn headers_later() {
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
pub(super) fn versions() {
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
pub(super) fn closing() {
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
pub(super) fn windows() {
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
fn windows_on_a_fast_registration() {
    use Misdeed::ClosesWhileBound;
    /// A window on a region for fast registration. The queue pair, the region and the window.
    fn binds(b: &mut Bench) -> (*mut NDK_QP, *mut NDK_CQ, *mut NDK_MR, *mut NDK_MW) {
        let cq = b.cq(Told::new()).unwrap();
        let pd = b.pd();
        let (mr, mw) = (b.fast_mr(pd), b.mw(pd));
        let qp = b.qp(pd, cq, cq, 1);
        let connector = b.connector();
        b.connect(connector, qp);
        assert_eq!(b.bind(qp, 3, mr, mw), STATUS_SUCCESS);
        (qp, cq, mr, mw)
    }
    fn closes(b: &mut Bench) {
        let (_, cq, mr, _) = binds(b);
        b.poll_ex(cq);
        b.close(mr);
    }
    fn invalidates(b: &mut Bench) {
        let (qp, cq, mr, _) = binds(b);
        b.poll_ex(cq);
        assert_eq!(b.invalidate(qp, 4, mr), STATUS_SUCCESS);
        b.close(mr);
    }
    fn invalidates_before_the_result_of_the_bind_is_taken(b: &mut Bench) {
        let (qp, cq, mr, _) = binds(b);
        assert_eq!(b.invalidate(qp, 4, mr), STATUS_SUCCESS);
        b.poll_ex(cq);
        b.close(mr);
    }
    fn invalidates_by_a_read(b: &mut Bench) {
        let (qp, cq, mr, _) = binds(b);
        b.poll_ex(cq);
        assert_eq!(b.read_and_invalidate(qp, 4, mr), STATUS_SUCCESS);
        b.close(mr);
    }
    fn binds_again(b: &mut Bench) {
        let (qp, cq, mr, mw) = binds(b);
        assert_eq!(b.invalidate(qp, 4, mr), STATUS_SUCCESS);
        assert_eq!(b.bind(qp, 5, mr, mw), STATUS_SUCCESS);
        b.poll_ex(cq);
        b.close(mr);
    }
    fn a_peer_may_invalidate(b: &mut Bench, closes: bool) {
        let cq = b.cq(Told::new()).unwrap();
        let pd = b.pd();
        let (mr, mw) = (b.fast_mr(pd), b.mw(pd));
        let [qp, other] = [1, 2].map(|context| b.qp(pd, cq, cq, context));
        let connector = b.connector();
        b.connect(connector, qp);
        b.receive(other, 7);
        assert_eq!(b.bind(qp, 3, mr, mw), STATUS_SUCCESS);
        b.poll_ex(cq);
        if closes {
            b.close(other);
        }
        b.close(mr);
    }
    let bound = &[rules::CLOSE_WHILE_BOUND];
    let (mode, misdeed) = (Mode::Inline, ClosesWhileBound);
    accused(mode, misdeed, closes, bound);
    accused(mode, misdeed, binds_again, bound);
    accused(mode, misdeed, invalidates, &[]);
    let early = invalidates_before_the_result_of_the_bind_is_taken;
    accused(mode, misdeed, early, &[]);
    accused(mode, misdeed, invalidates_by_a_read, &[]);
    // Over another queue pair, which is there, or was.
    accused(mode, misdeed, |b| a_peer_may_invalidate(b, false), &[]);
    accused(mode, misdeed, |b| a_peer_may_invalidate(b, true), &[]);
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
pub(super) fn adapters() {
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
pub(super) fn mappings() {
    use Misdeed::*;
    let mode = Mode::Inline;
    accused(mode, LamUnaligned, maps, &[rules::LAM]);
    accused(mode, LamChangesMdl, maps, &[rules::LAM]);
    accused(mode, LamBuildChangesMdl, maps, &[rules::LAM]);
    let missing = &[rules::COMPLETION_MISSING, rules::CONSUMER_PARAMETER];
    accused(mode, LamPendsWithoutCallback, maps, missing);
    accused(mode, Nothing, maps, &[]);
}
