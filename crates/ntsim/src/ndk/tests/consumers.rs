//! Consumers that make mistakes with memory, contexts and completion queues, and those that do the same rightly.

use std::ptr::null_mut;

use ndis_sys::imports::{
    ExAllocatePool2, ExFreePoolWithTag, IoAllocateMdl, IoFreeMdl, KeClearEvent, KeInitializeEvent,
    KeSetEvent, KeWaitForSingleObject, MmProbeAndLockPages, MmUnlockPages,
};
use ndis_sys::types::KernelMode;
use ndis_sys::wdm::{
    self, Executive, IoWriteAccess, KEVENT, NotificationEvent, POOL_FLAG_NON_PAGED,
};
use ndkpi::status::*;
use ndkpi::*;

use super::bench::*;
use super::fake::{Misdeed, Mode};
use crate::ndk::rules;

/// What the fake says is the privileged token of every PD.
const PRIVILEGED: u32 = 1;
/// And the token of every region.
const TOKEN: u32 = 0x100;

/// Of pool memory.
const TAG: u32 = u32::from_le_bytes(*b"Cons");

fn bench(mode: Mode) -> Bench {
    Bench::new(mode, Misdeed::Nothing)
}

fn element(token: u32, address: u64) -> NDK_SGE {
    NDK_SGE {
        Anonymous: NDK_SGE_ADDRESS {
            LogicalAddress: address.cast_signed(),
        },
        Length: 16,
        MemoryRegionToken: token,
    }
}

/// A connected queue pair, and a region whose token the consumer has asked for.
pub(super) struct Connected {
    pub(super) cq: *mut NDK_CQ,
    pub(super) pd: *mut NDK_PD,
    pub(super) qp: *mut NDK_QP,
    pub(super) mr: *mut NDK_MR,
    pub(super) connector: *mut NDK_CONNECTOR,
}

pub(super) fn connected(b: &mut Bench) -> Connected {
    let cq = b.cq(Told::new()).unwrap();
    let pd = b.pd();
    let qp = b.qp(pd, cq, cq, 1);
    let mr = b.mr(pd);
    let connector = b.connector();
    b.connect(connector, qp);
    b.complete_connect(connector, Told::new());
    // SAFETY: as a consumer calls.
    let token = b.run(|| unsafe { (table!(mr).NdkGetLocalTokenFromMr)(mr) });
    assert_eq!(token, TOKEN);
    Connected {
        cq,
        pd,
        qp,
        mr,
        connector,
    }
}

fn receive(b: &mut Bench, qp: *mut NDK_QP, context: usize, element: NDK_SGE) {
    let status = b.run(|| {
        // SAFETY: as a consumer calls.
        unsafe { (table!(qp).NdkReceive)(qp, context as *mut c_void, &raw const element, 1) }
    });
    assert_eq!(status, STATUS_SUCCESS);
}

fn write(b: &mut Bench, qp: *mut NDK_QP, context: usize, flags: u32) {
    let element = element(TOKEN, 0x1000);
    let status = b.run(|| {
        let (context, list) = (context as *mut c_void, &raw const element);
        // SAFETY: as a consumer calls.
        unsafe { (table!(qp).NdkWrite)(qp, context, list, 1, 0, 0, flags) }
    });
    assert_eq!(status, STATUS_SUCCESS);
}

fn deregister(b: &mut Bench, mr: *mut NDK_MR) {
    let status = b.request(|context| {
        // SAFETY: as a consumer calls.
        unsafe { (table!(mr).NdkDeregisterMr)(mr, on_status, context) }
    });
    assert_eq!(status, STATUS_SUCCESS);
}

pub(super) fn build(
    b: &mut Bench,
    mdl: *mut MDL,
    room: &mut [u64; 8],
) -> *mut NDK_LOGICAL_ADDRESS_MAPPING {
    let adapter = b.adapter;
    let lam = room.as_mut_ptr().cast::<NDK_LOGICAL_ADDRESS_MAPPING>();
    let (mut size, mut offset) = (64, 0);
    let status = b.run(|| {
        let (f, none) = (table!(adapter).NdkBuildLAM, null_mut());
        let (size, offset) = (&raw mut size, &raw mut offset);
        // SAFETY: as a consumer calls.
        unsafe { f(adapter, mdl, 0x1000, None, none, lam, size, offset) }
    });
    assert_eq!(status, STATUS_SUCCESS);
    lam
}

pub(super) fn release(b: &mut Bench, lam: *mut NDK_LOGICAL_ADDRESS_MAPPING) {
    let adapter = b.adapter;
    // SAFETY: as a consumer calls.
    b.run(|| unsafe { (table!(adapter).NdkReleaseLAM)(adapter, lam) });
}

fn ask_for_privileged(b: &mut Bench, pd: *mut NDK_PD) {
    let mut token = 0;
    b.run(|| {
        // SAFETY: as a consumer calls.
        unsafe { (table!(pd).NdkGetPrivilegedMemoryRegionToken)(pd, &raw mut token) }
    });
    assert_eq!(token, PRIVILEGED);
}

#[test]
fn who_takes_memory_from_a_request_is_told_of_which() {
    let mut b = bench(Mode::Inline);
    let c = connected(&mut b);
    receive(&mut b, c.qp, 0x77, element(TOKEN, 0x1000));
    deregister(&mut b, c.mr);
    let violations = b.violations();
    assert_eq!(violations[0].rule, rules::CONSUMER_IN_FLIGHT);
    let text = "NdkReceive (request 0x77) on QP 1 of fake uses it";
    assert!(violations[0].text.contains(text), "{violations:?}");
    assert_eq!(violations[0].culprit, "the NDK consumer");
}

#[test]
pub(super) fn requests_whose_memory_is_taken_away() {
    fn accused(spoil: impl Fn(&mut Bench, &Connected)) {
        let mut b = bench(Mode::Inline);
        let c = connected(&mut b);
        spoil(&mut b, &c);
        assert_eq!(b.rules(), [rules::CONSUMER_IN_FLIGHT]);
    }
    accused(|b, c| {
        // The result is there, but nobody has taken it.
        write(b, c.qp, 1, 0);
        deregister(b, c.mr);
    });
    accused(|b, c| {
        write(b, c.qp, 1, 0);
        write(b, c.qp, 1, 0);
        let mut result = NDK_RESULT::ZEROED;
        // SAFETY: as a consumer calls.
        b.run(|| unsafe { (table!(c.cq).NdkGetCqResults)(c.cq, &raw mut result, 1) });
        deregister(b, c.mr);
    });
    accused(|b, c| {
        ask_for_privileged(b, c.pd);
        let mut mdl = wdm::MDL::ZEROED;
        let mut room = [0; 8];
        let lam = build(b, (&raw mut mdl).cast(), &mut room);
        receive(b, c.qp, 1, element(PRIVILEGED, 0x7010));
        release(b, lam);
    });
}

#[test]
fn memory_may_go_when_its_requests_are_over() {
    fn innocent(settle: impl Fn(&mut Bench, &Connected)) {
        let mut b = bench(Mode::Inline);
        let c = connected(&mut b);
        receive(&mut b, c.qp, 1, element(TOKEN, 0x1000));
        settle(&mut b, &c);
        deregister(&mut b, c.mr);
        b.close(c.mr);
        assert_eq!(b.rules(), [""; 0]);
    }
    let flush = |b: &mut Bench, qp: *mut NDK_QP| {
        // SAFETY: as a consumer calls.
        b.run(|| unsafe { (table!(qp).NdkFlush)(qp) });
    };
    innocent(|b, c| {
        flush(b, c.qp);
        b.poll(c.cq);
    });
    innocent(|b, c| {
        write(b, c.qp, 2, 0);
        flush(b, c.qp);
        b.poll_ex(c.cq);
    });
    // What follows ends them, whether or not results are taken.
    innocent(|b, c| assert_eq!(b.disconnect(c.connector), STATUS_SUCCESS));
    innocent(|b, c| assert!(b.close(c.connector)));
    innocent(|b, c| {
        flush(b, c.qp);
        b.poll(c.cq);
        // Nobody is told when these are over.
        write(b, c.qp, 3, NDK_OP_FLAG_SILENT_SUCCESS);
        write(b, c.qp, 3, NDK_OP_FLAG_INLINE);
    });
    innocent(|b, c| {
        let _ = b.start_close(c.qp);
    });
    // Objects may be closed in any order.
    let mut b = bench(Mode::Inline);
    let c = connected(&mut b);
    receive(&mut b, c.qp, 1, element(TOKEN, 0x1000));
    assert!(b.close(c.mr) && b.close(c.connector) && b.close(c.qp));
    assert_eq!(b.rules(), [""; 0]);
}

#[test]
pub(super) fn logical_addresses() {
    let accused = |address: u64, ask: bool, rules: &[&str]| {
        let mut b = bench(Mode::Inline);
        let c = connected(&mut b);
        if ask {
            ask_for_privileged(&mut b, c.pd);
        }
        let mut mdl = wdm::MDL::ZEROED;
        let mut room = [0; 8];
        // One page, which the fake has at 0x7000.
        let lam = build(&mut b, (&raw mut mdl).cast(), &mut room);
        receive(&mut b, c.qp, 1, element(PRIVILEGED, address));
        assert!(b.close(c.connector));
        release(&mut b, lam);
        assert_eq!(b.rules(), rules, "{address:#x}");
    };
    let none = &[rules::CONSUMER_LOGICAL_ADDRESS];
    accused(0x7000, true, &[]);
    accused(0x7ff0, true, &[]);
    accused(0x7ff1, true, none);
    accused(0x6fff, true, none);
    accused(0xffff_8000_0000_7000, true, none);
    // A token that nobody asked for is not known to be privileged.
    accused(0x9000, false, &[]);
}

/// An MDL over locked pages.
pub(super) fn locked(b: &mut Bench) -> (*mut c_void, *mut wdm::MDL) {
    b.run(|| {
        // SAFETY: as a driver calls.
        unsafe {
            let memory = ExAllocatePool2(POOL_FLAG_NON_PAGED, 4096, 1);
            let mdl = IoAllocateMdl(memory, 4096, 0, 0, null_mut());
            MmProbeAndLockPages(mdl, KernelMode, IoWriteAccess);
            (memory, mdl)
        }
    })
}

pub(super) fn unlock(b: &mut Bench, (memory, mdl): (*mut c_void, *mut wdm::MDL)) {
    b.run(|| {
        // SAFETY: made by `locked`.
        unsafe {
            MmUnlockPages(mdl);
            IoFreeMdl(mdl);
            ExFreePoolWithTag(memory, 1);
        }
    });
}

pub(super) fn register(b: &mut Bench, mr: *mut NDK_MR, mdl: *mut wdm::MDL) {
    let status = b.request(|context| {
        // SAFETY: as a consumer calls.
        unsafe { (table!(mr).NdkRegisterMr)(mr, mdl.cast(), 4096, 0, on_status, context) }
    });
    assert_eq!(status, STATUS_SUCCESS);
}

#[test]
pub(super) fn unlocked_pages() {
    for (mode, first) in [
        (Mode::Inline, true),
        (Mode::Later, true),
        (Mode::Later, false),
    ] {
        let mut b = bench(mode);
        let pd = b.pd();
        let mr = b.mr(pd);
        let memory = locked(&mut b);
        register(&mut b, mr, memory.1);
        if first {
            unlock(&mut b, memory);
            assert_eq!(b.rules(), [rules::CONSUMER_UNLOCKED]);
        } else {
            deregister(&mut b, mr);
            unlock(&mut b, memory);
            assert_eq!(b.rules(), [""; 0]);
        }
    }
    // A close deregisters too.
    let mut b = bench(Mode::Inline);
    let pd = b.pd();
    let mr = b.mr(pd);
    let memory = locked(&mut b);
    register(&mut b, mr, memory.1);
    assert!(b.close(mr));
    unlock(&mut b, memory);
    assert_eq!(b.rules(), [""; 0]);
    // And what is mapped is no better than what is registered.
    let memory = locked(&mut b);
    let mut room = [0; 8];
    let lam = build(&mut b, memory.1.cast(), &mut room);
    unlock(&mut b, memory);
    assert_eq!(b.rules(), [rules::CONSUMER_UNLOCKED]);
    let memory = locked(&mut b);
    let mut other = [0; 8];
    let second = build(&mut b, memory.1.cast(), &mut other);
    release(&mut b, second);
    unlock(&mut b, memory);
    assert_eq!(b.rules(), [""; 0]);
    let _ = lam;
}

#[test]
pub(super) fn overruns() {
    for (receives, rules) in [(16, &[][..]), (17, &[rules::CONSUMER_OVERRUN])] {
        let mut b = bench(Mode::Inline);
        let cq = b.cq(Told::new()).unwrap();
        let pd = b.pd();
        let qp = b.qp(pd, cq, cq, 1);
        for context in 0..receives {
            b.receive(qp, context);
        }
        b.arm(cq);
        let (fake, q) = (b.fake, thing(cq));
        fake.defer(move || fake.notify(q, STATUS_BUFFER_OVERFLOW));
        b.work();
        assert_eq!(b.rules(), rules, "{receives} receives, 16 entries");
    }
    // Made larger, it has room.
    let mut b = bench(Mode::Later);
    let cq = b.cq(Told::new()).unwrap();
    let pd = b.pd();
    let qp = b.qp(pd, cq, cq, 1);
    assert_eq!(b.resize(cq), STATUS_SUCCESS);
    for context in 0..32 {
        b.receive(qp, context);
    }
    b.arm(cq);
    let (fake, q) = (b.fake, thing(cq));
    fake.defer(move || fake.notify(q, STATUS_BUFFER_OVERFLOW));
    b.work();
    assert_eq!(b.rules(), [""; 0]);
}

/// Makes a request whose context lies in a frame that it leaves.
#[inline(never)]
fn hasty(cq: *mut NDK_CQ) -> NTSTATUS {
    unsafe extern "efiapi" fn into_nothing(_context: *mut c_void, _status: NTSTATUS) {
        panic!("the callback is not called");
    }
    let mut context = [0_u64; 4];
    let place = std::hint::black_box(&raw mut context).cast();
    // SAFETY: as a consumer calls: wrong.
    unsafe { (table!(cq).NdkResizeCq)(cq, 32, into_nothing, place) }
}

/// As [`hasty`], so deep that the callback comes higher up.
#[inline(never)]
fn hasty_and_deep(cq: *mut NDK_CQ) -> NTSTATUS {
    let room = [0_u8; 32 << 10];
    std::hint::black_box(&room);
    let status = hasty(cq);
    std::hint::black_box(&room);
    status
}

#[test]
pub(super) fn contexts_that_are_gone() {
    let mut b = bench(Mode::Later);
    let cq = b.cq(Told::new()).unwrap();
    // The thread has ended its job.
    assert_eq!(b.run(|| hasty(cq)), STATUS_PENDING);
    b.work();
    assert_eq!(b.rules(), [rules::CONSUMER_CONTEXT]);
    // The function has returned, and the thread goes on.
    let fake = b.fake;
    b.run(|| {
        assert_eq!(hasty_and_deep(cq), STATUS_PENDING);
        fake.work();
    });
    assert_eq!(b.rules(), [rules::CONSUMER_CONTEXT]);
}

#[test]
fn an_event_that_a_callback_is_to_set_is_not_initialised_again() {
    unsafe extern "efiapi" fn set(context: *mut c_void, _status: NTSTATUS) {
        // SAFETY: the event below.
        unsafe { KeSetEvent(context.cast(), 0, 0) };
    }
    for too_early in [true, false] {
        let mut b = bench(Mode::Later);
        let cq = b.cq(Told::new()).unwrap();
        let fake = b.fake;
        b.run(|| {
            let mut event = KEVENT::ZEROED;
            let place = &raw mut event;
            // SAFETY: as a consumer calls; the event lives until the callback has come.
            unsafe {
                KeInitializeEvent(place, NotificationEvent, 0);
                (table!(cq).NdkResizeCq)(cq, 32, set, place.cast());
                if too_early {
                    KeInitializeEvent(place, NotificationEvent, 0);
                }
                fake.work();
                KeInitializeEvent(place, NotificationEvent, 0);
            }
        });
        let expected: &[_] = match too_early {
            true => &[rules::CONSUMER_CONTEXT],
            false => &[],
        };
        assert_eq!(b.rules(), expected);
    }
}

/// What a consumer has for several requests: the event first.
#[repr(C)]
struct Requests {
    event: KEVENT,
    outstanding: i32,
}

/// Sets the event each time.
unsafe extern "efiapi" fn one_less(context: *mut c_void, _status: NTSTATUS) {
    let requests = context.cast::<Requests>();
    // SAFETY: the requests below.
    unsafe {
        (*requests).outstanding -= 1;
        KeSetEvent(requests.cast(), 0, 0);
    }
}

#[test]
fn who_waits_for_the_event_of_two_requests_counts_them() {
    for (counts, in_pool) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut b = bench(Mode::Later);
        let cq = b.cq(Told::new()).unwrap();
        let fake = b.fake;
        b.run(|| {
            let mut on_stack = Requests {
                event: KEVENT::ZEROED,
                outstanding: 0,
            };
            // SAFETY: a driver may allocate.
            let pool = unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED, 64, TAG) };
            let requests: *mut Requests = match in_pool {
                true => pool.cast(),
                false => &raw mut on_stack,
            };
            // SAFETY: as a consumer calls; who does not count goes on after the first callback.
            unsafe {
                KeInitializeEvent(requests.cast(), NotificationEvent, 0);
                (*requests).outstanding = 2;
                for _ in 0..2 {
                    (table!(cq).NdkResizeCq)(cq, 32, one_less, requests.cast());
                }
                loop {
                    fake.work_once();
                    KeWaitForSingleObject(requests.cast(), Executive, KernelMode, 0, null_mut());
                    if !counts || (*requests).outstanding == 0 {
                        break;
                    }
                    KeClearEvent(requests.cast());
                }
                if !in_pool && !counts {
                    // For what it does next.
                    KeInitializeEvent(requests.cast(), NotificationEvent, 0);
                }
                ExFreePoolWithTag(pool, TAG);
            }
            fake.work();
        });
        let expected: &[_] = match counts {
            true => &[],
            false => &[rules::CONSUMER_CONTEXT],
        };
        assert_eq!(b.rules(), expected, "in pool: {in_pool}");
    }
}

#[test]
fn a_context_in_pool_is_not_freed_while_its_request_pends() {
    unsafe extern "efiapi" fn never(_context: *mut c_void, _status: NTSTATUS) {
        panic!("its context is gone");
    }
    unsafe extern "efiapi" fn frees(context: *mut c_void, _status: NTSTATUS) {
        // SAFETY: allocated below.
        unsafe { ExFreePoolWithTag(context, TAG) };
    }
    for (done, too_early) in [(never as NDK_FN_REQUEST_COMPLETION, true), (frees, false)] {
        let mut b = bench(Mode::Later);
        let cq = b.cq(Told::new()).unwrap();
        b.run(|| {
            // SAFETY: as a consumer calls.
            unsafe {
                let context = ExAllocatePool2(POOL_FLAG_NON_PAGED, 64, TAG);
                (table!(cq).NdkResizeCq)(cq, 32, done, context);
                if too_early {
                    ExFreePoolWithTag(context, TAG);
                }
            }
        });
        b.work();
        let expected: &[_] = match too_early {
            true => &[rules::CONSUMER_CONTEXT],
            false => &[],
        };
        assert_eq!(b.rules(), expected);
    }
}

#[test]
fn a_context_on_the_stack_of_who_waits_is_there() {
    unsafe extern "efiapi" fn note(context: *mut c_void, status: NTSTATUS) {
        // SAFETY: the variable below.
        unsafe { context.cast::<NTSTATUS>().write(status) };
    }
    for mode in [Mode::Early, Mode::Later] {
        let mut b = bench(mode);
        let cq = b.cq(Told::new()).unwrap();
        let fake = b.fake;
        let status = b.run(|| {
            let mut status = STATUS_PENDING;
            let place = (&raw mut status).cast();
            // SAFETY: as a consumer calls.
            let pends = unsafe { (table!(cq).NdkResizeCq)(cq, 32, note, place) };
            assert_eq!(pends, STATUS_PENDING);
            fake.work();
            // SAFETY: the callback has written it.
            unsafe { (&raw const status).read_volatile() }
        });
        assert_eq!(status, STATUS_SUCCESS);
        assert_eq!(b.rules(), [""; 0]);
    }
}

#[test]
fn regions_of_the_wrong_kind() {
    let mut b = bench(Mode::Inline);
    let c = connected(&mut b);
    let invalidate = |b: &mut Bench| {
        // SAFETY: as a consumer calls.
        b.run(|| unsafe { (table!(c.qp).NdkInvalidate)(c.qp, null_mut(), c.mr.cast(), 0) });
    };
    invalidate(&mut b);
    assert_eq!(b.rules(), [rules::CONSUMER_PARAMETER]);
    b.request(|context| {
        let f = table!(c.mr).NdkInitializeFastRegisterMr;
        // SAFETY: as a consumer calls.
        unsafe { f(c.mr, 16, 0, on_status, context) }
    });
    assert_eq!(b.rules(), [rules::CONSUMER_PARAMETER]);
}

#[test]
fn a_queue_that_nobody_armed_again_is_named_where_a_wait_never_ends() {
    let mut b = bench(Mode::Inline);
    let c = connected(&mut b);
    assert_eq!(b.run(crate::ndk::busy_queues), Vec::<String>::new());
    write(&mut b, c.qp, 1, 0);
    let [queue] = &b.run(crate::ndk::busy_queues)[..] else {
        panic!("one queue");
    };
    assert!(queue.starts_with("CQ 1 of fake is not armed"), "{queue}");
    assert!(queue.contains("1 request(s)"), "{queue}");
    b.arm(c.cq);
    b.work();
    let [queue] = &b.run(crate::ndk::busy_queues)[..] else {
        panic!("one queue");
    };
    assert!(queue.contains("is not armed"), "it was notified: {queue}");
    b.poll(c.cq);
    assert_eq!(b.run(crate::ndk::busy_queues), Vec::<String>::new());
    // One that is armed is named as well: of a result that never comes nobody is notified.
    b.arm(c.cq);
    b.receive(c.qp, 2);
    let [queue] = &b.run(crate::ndk::busy_queues)[..] else {
        panic!("one queue");
    };
    assert!(
        queue.starts_with("CQ 1 of fake is armed; 1 request(s)"),
        "{queue}"
    );
}
