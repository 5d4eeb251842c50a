//! Consumers that hear later what a provider answers at once: they see what they are promised, and their mistakes show.

use std::cell::RefCell;
use std::ptr::null_mut;
use std::rc::Rc;

use ndis_sys::imports::{
    ExAllocatePool2, ExFreePoolWithTag, IoAllocateMdl, IoFreeMdl, MmProbeAndLockPages,
    MmUnlockPages,
};
use ndis_sys::types::KernelMode;
use ndis_sys::wdm::{IoWriteAccess, POOL_FLAG_NON_PAGED};
use ndkpi::status::*;
use ndkpi::*;

use super::bench::*;
use super::consumers::{Connected, connected};
use super::fake::{Misdeed, Mode};
use crate::ndk::object::pending_closes;
use crate::ndk::rules;

/// A provider that answers at once, and a consumer that always hears it later.
fn bench(seed: u64) -> Bench {
    Bench::late(1, seed, Mode::Inline, Misdeed::Nothing)
}

#[track_caller]
fn clean(b: &mut Bench) {
    b.close_adapter();
    let violations = b.violations();
    assert!(violations.is_empty(), "{violations:?}");
    assert!(b.fake.is_empty());
}

#[test]
fn every_answer_comes_by_the_callback_and_once() {
    for seed in 0..20 {
        let mut b = bench(seed);
        let (adapter, told) = (b.adapter, Told::new());
        told.then(|| assert_eq!(irql(), 2));
        let mut out = null_mut();
        let status = b.run(|| {
            let f = table!(adapter).NdkCreatePd;
            // SAFETY: as a consumer calls.
            unsafe { f(adapter, on_create, told.context(), &raw mut out) }
        });
        assert_eq!(status, STATUS_PENDING);
        b.work();
        assert!(out.is_null());
        assert_eq!(*told.calls.borrow(), [STATUS_SUCCESS]);
        let pd: *mut NDK_PD = told.object.get().cast();
        let listener = b.listener(Told::new());
        b.fake.listens.set(STATUS_SHARING_VIOLATION);
        assert_eq!(b.listen(listener), STATUS_SHARING_VIOLATION);
        for object in [pd.cast::<NDK_OBJECT_HEADER>(), listener.cast()] {
            let (status, told) = b.start_close(object);
            assert_eq!(status, STATUS_PENDING);
            b.work();
            assert_eq!(told.times(), 1);
        }
        clean(&mut b);
    }
}

#[test]
fn a_failure_that_is_only_documented_as_an_answer_at_once_comes_at_once() {
    let mut b = bench(1);
    let listener = b.listener(Told::new());
    b.fake.listens.set(STATUS_TOO_MANY_ADDRESSES);
    let told = Told::new();
    let status = b.run(|| {
        let address = SOCKADDR::ZEROED;
        let f = table!(listener).NdkListen;
        // SAFETY: as a consumer calls.
        unsafe { f(listener, &raw const address, 16, on_status, told.context()) }
    });
    assert_eq!(status, STATUS_TOO_MANY_ADDRESSES);
    assert!(b.close(listener));
    assert_eq!(told.times(), 0);
    clean(&mut b);
}

#[test]
fn closes_are_told_of_in_the_order_of_dependence() {
    for seed in 0..200 {
        for mode in [Mode::Inline, Mode::Later] {
            // One in two: what is answered at once must not overtake what is not.
            let mut b = Bench::late(2, seed, mode, Misdeed::Nothing);
            let c = connected(&mut b);
            let order: Rc<RefCell<Vec<&str>>> = Rc::default();
            let note = |b: &mut Bench, name: &'static str, object: *mut NDK_OBJECT_HEADER| {
                let (status, told) = {
                    let told = Told::new();
                    let order = Rc::clone(&order);
                    told.then(move || order.borrow_mut().push(name));
                    (b.run(|| close_now(object, told)), told)
                };
                if status == STATUS_SUCCESS {
                    order.borrow_mut().push(name);
                }
                told
            };
            // All at once; on odd seeds those first that the others depend on.
            let mut all = [
                ("connector", c.connector.cast()),
                ("qp", c.qp.cast()),
                ("mr", c.mr.cast()),
                ("pd", c.pd.cast()),
                ("cq", c.cq.cast()),
            ];
            if seed % 2 == 1 {
                all.reverse();
            }
            for (name, object) in all {
                note(&mut b, name, object);
            }
            b.work();
            let order = order.borrow();
            assert_eq!(order.len(), 5, "seed {seed}: {order:?}");
            let at = |name| order.iter().position(|n| *n == name);
            for (before, after) in [
                ("connector", "qp"),
                ("qp", "pd"),
                ("mr", "pd"),
                ("qp", "cq"),
            ] {
                assert!(at(before) < at(after), "seed {seed}: {order:?}");
            }
            drop(order);
            clean(&mut b);
        }
    }
}

#[test]
fn a_close_waits_for_a_request_that_was_answered() {
    for seed in 0..50 {
        let mut b = bench(seed);
        let cq = b.cq(Told::new()).unwrap();
        let (resized, closed) = (Told::new(), Told::new());
        closed.then(|| assert_eq!(resized.times(), 1));
        b.run(|| {
            let f = table!(cq).NdkResizeCq;
            // SAFETY: as a consumer calls.
            unsafe { f(cq, 32, on_status, resized.context()) };
            close_now(cq, closed);
        });
        b.work();
        assert_eq!(closed.times(), 1);
        clean(&mut b);
    }
}

#[test]
fn the_adapters_close_waits_for_all_callbacks() {
    for seed in 0..20 {
        let mut b = bench(seed);
        let pd = b.pd();
        let (_, told) = b.start_close(pd);
        clean(&mut b);
        assert_eq!(told.times(), 1);
    }
}

#[test]
fn a_connection_is_told_of_before_its_end() {
    for seed in 0..50 {
        let mut b = bench(seed);
        let c = connected(&mut b);
        let (established, gone) = (Told::new(), Told::new());
        gone.then(|| assert_eq!(established.times(), 1));
        let connector = b.connector();
        b.connect(connector, c.qp);
        let fake = b.fake;
        b.run(|| {
            let f = table!(connector).NdkCompleteConnect;
            let event: NDK_FN_DISCONNECT_EVENT_CALLBACK = on_event;
            let (context, done) = (gone.context(), established.context());
            // SAFETY: as a consumer calls.
            unsafe { f(connector, Some(event), context, on_status, done) };
            fake.peer_disconnects(thing(connector));
            fake.work();
        });
        b.work();
        assert_eq!((gone.times(), established.times()), (1, 1));
        assert!(b.close(connector) && b.close(c.connector) && b.close(c.qp));
        assert!(b.close(c.mr) && b.close(c.pd) && b.close(c.cq));
        clean(&mut b);
    }
}

/// Runs requests right after each other, the last in another mode perhaps. The order in which the consumer heard of them.
fn heard(b: &mut Bench, last: Mode, requests: [&dyn Fn(*mut c_void) -> NTSTATUS; 2]) -> Vec<usize> {
    let order: Rc<RefCell<Vec<usize>>> = Rc::default();
    let fake = b.fake;
    for (index, request) in requests.into_iter().enumerate() {
        let (told, noted) = (Told::new(), Rc::clone(&order));
        told.then(move || noted.borrow_mut().push(index));
        if index == 1 {
            fake.mode.set(last);
        }
        if b.run(|| request(told.context())) != STATUS_PENDING {
            order.borrow_mut().push(index);
        }
    }
    b.work();
    fake.mode.set(Mode::Inline);
    order.take()
}

#[test]
fn requests_of_an_object_are_told_of_in_their_order() {
    for seed in 0..50 {
        for mode in [Mode::Inline, Mode::Later] {
            let mut b = Bench::late(2, seed, Mode::Inline, Misdeed::Nothing);
            let c = connected(&mut b);
            let connector = b.connector();
            b.connect(connector, c.qp);
            let complete = |context| {
                let f = table!(connector).NdkCompleteConnect;
                // SAFETY: as a consumer calls.
                unsafe { f(connector, None, null_mut(), on_status, context) }
            };
            // SAFETY: as a consumer calls.
            let disconnect = |context| unsafe {
                (table!(connector).NdkDisconnect)(connector, on_status, context)
            };
            let order = heard(&mut b, mode, [&complete, &disconnect]);
            assert_eq!(order, [0, 1], "seed {seed}, {mode:?}");
            let mut mdl = ndis_sys::wdm::MDL::ZEROED;
            let (mr, mdl) = (c.mr, (&raw mut mdl).cast());
            // SAFETY: as a consumer calls.
            let register =
                |context| unsafe { (table!(mr).NdkRegisterMr)(mr, mdl, 0, 0, on_status, context) };
            // SAFETY: as a consumer calls.
            let deregister =
                |context| unsafe { (table!(mr).NdkDeregisterMr)(mr, on_status, context) };
            let order = heard(&mut b, mode, [&register, &deregister]);
            assert_eq!(order, [0, 1], "seed {seed}, {mode:?}");
            assert!(b.close(connector) && b.close(c.connector) && b.close(c.qp));
            assert!(b.close(c.mr) && b.close(c.pd) && b.close(c.cq));
            clean(&mut b);
        }
    }
}

#[test]
fn a_connection_is_told_of_before_what_comes_over_it() {
    for seed in 0..50 {
        for notified in [false, true] {
            let mut b = bench(seed);
            let (established, notification) = (Told::new(), Told::new());
            let cq = b.cq(notification).unwrap();
            let pd = b.pd();
            let qp = b.qp(pd, cq, cq, 1);
            let connector = b.connector();
            b.connect(connector, qp);
            assert_eq!(b.receive(qp, 7), STATUS_SUCCESS);
            notification.then(|| assert_eq!(established.times(), 1));
            let fake = b.fake;
            b.run(|| {
                if notified {
                    arm_now(cq);
                }
                let f = table!(connector).NdkCompleteConnect;
                // SAFETY: as a consumer calls.
                unsafe {
                    f(
                        connector,
                        None,
                        null_mut(),
                        on_status,
                        established.context(),
                    )
                };
                fake.deliver(thing(qp), thing(qp));
                fake.work();
                let mut result = NDK_RESULT::ZEROED;
                // SAFETY: as a consumer calls.
                let count = unsafe { (table!(cq).NdkGetCqResults)(cq, &raw mut result, 1) };
                assert_eq!((count, established.times()), (1, 1));
            });
            b.work();
            assert_eq!(notification.times(), usize::from(notified));
            assert_eq!(established.times(), 1);
            assert!(b.close(connector) && b.close(qp) && b.close(pd) && b.close(cq));
            clean(&mut b);
        }
    }
}

#[test]
fn who_goes_on_before_it_is_told_is_accused() {
    // A seed with which nothing is told at once.
    let late = |go_on: &dyn Fn(&mut Bench, &Connected, *mut NDK_CONNECTOR)| {
        let mut rules = Vec::new();
        for seed in 0..8 {
            let mut b = bench(seed);
            let c = connected(&mut b);
            let connector = b.connector();
            go_on(&mut b, &c, connector);
            b.work();
            rules.extend(b.rules());
        }
        rules.dedup();
        rules
    };
    let token = |b: &mut Bench, c: &Connected, wait: bool| {
        let mr = c.mr;
        let mut mdl = ndis_sys::wdm::MDL::ZEROED;
        let mdl = (&raw mut mdl).cast();
        let told = Told::new();
        // SAFETY: as a consumer calls.
        b.run(|| unsafe { (table!(mr).NdkRegisterMr)(mr, mdl, 0, 0, on_status, told.context()) });
        if wait {
            b.work();
        }
        // SAFETY: as a consumer calls.
        b.run(|| unsafe { (table!(mr).NdkGetRemoteTokenFromMr)(mr) });
    };
    assert_eq!(late(&|b, c, _| token(b, c, false)), [rules::CONSUMER]);
    assert_eq!(late(&|b, c, _| token(b, c, true)), [""; 0]);
    let complete = |b: &mut Bench, c: &Connected, connector: *mut NDK_CONNECTOR, wait: bool| {
        let address = SOCKADDR::ZEROED;
        let (address, none, qp) = (&raw const address, std::ptr::null(), c.qp);
        let told = Told::new();
        b.run(|| {
            let f = table!(connector).NdkConnect;
            let context = told.context();
            // SAFETY: as a consumer calls.
            unsafe {
                f(
                    connector, qp, address, 16, address, 16, 1, 1, none, 0, on_status, context,
                )
            }
        });
        if wait {
            b.work();
        }
        b.complete_connect(connector, Told::new());
    };
    assert_eq!(
        late(&|b, c, it| complete(b, c, it, false)),
        [rules::CONSUMER]
    );
    assert_eq!(late(&|b, c, it| complete(b, c, it, true)), [""; 0]);
}

#[test]
fn reports_of_waits_list_closes_that_are_kept() {
    let mut kept = 0;
    for seed in 0..50 {
        let mut b = bench(seed);
        let pd = b.pd();
        let mr = b.mr(pd);
        let closes = b.run(|| {
            close_now(mr, Told::new());
            close_now(pd, Told::new());
            pending_closes()
        });
        for close in closes {
            assert!(
                close.contains("is done and the consumer not told"),
                "{close}"
            );
            assert!(!close.contains("not closed"), "{close}");
            kept += u32::from(close.contains("held by MR 1 of fake, whose close is kept"));
        }
        b.work();
        assert_eq!(b.run(pending_closes), [""; 0]);
        clean(&mut b);
    }
    assert!(kept > 0);
}

/// Ends a registration, and unlocks the pages at once.
fn unlocked_at_once(close: bool) -> Vec<&'static str> {
    let mut b = bench(3);
    let pd = b.pd();
    let mr = b.mr(pd);
    // SAFETY: a buffer and its MDL, freed below.
    let (buffer, mdl) = b.run(|| unsafe {
        let buffer = ExAllocatePool2(POOL_FLAG_NON_PAGED, 0x1000, u32::from_le_bytes(*b"test"));
        let mdl = IoAllocateMdl(buffer, 0x1000, 0, 0, null_mut());
        MmProbeAndLockPages(mdl, KernelMode, IoWriteAccess);
        (buffer, mdl)
    });
    let status = b.request(|context| {
        // SAFETY: as a consumer calls.
        unsafe { (table!(mr).NdkRegisterMr)(mr, mdl.cast(), 0x1000, 0, on_status, context) }
    });
    assert_eq!(status, STATUS_SUCCESS);
    // SAFETY: as a consumer calls, but for the wait that is missing.
    b.run(|| unsafe {
        if close {
            close_now(mr, Told::new());
        } else {
            (table!(mr).NdkDeregisterMr)(mr, on_status, Told::new().context());
        }
        MmUnlockPages(mdl);
        IoFreeMdl(mdl);
        ExFreePoolWithTag(buffer, 0);
    });
    b.work();
    b.rules()
}

#[test]
fn pages_stay_locked_until_the_end_of_the_registration_is_told() {
    assert_eq!(unlocked_at_once(false), [rules::CONSUMER_UNLOCKED]);
    assert_eq!(unlocked_at_once(true), [rules::CONSUMER_UNLOCKED]);
}

#[test]
fn a_provider_that_does_wrong_is_accused_all_the_same() {
    for (misdeed, rule) in [
        (
            Misdeed::CompletesAfterSuccess,
            rules::COMPLETION_NOT_PENDING,
        ),
        (
            Misdeed::CompletesAndReturnsSuccess,
            rules::COMPLETION_NOT_PENDING,
        ),
    ] {
        let mut b = Bench::late(1, 1, Mode::Inline, Misdeed::Nothing);
        let cq = b.cq(Told::new()).unwrap();
        b.fake.misdeed.set(misdeed);
        b.resize(cq);
        b.work();
        assert_eq!(b.rules(), [rule], "{misdeed:?}");
    }
    let mut b = Bench::late(1, 1, Mode::Inline, Misdeed::Nothing);
    let pd = b.pd();
    b.mr(pd);
    b.fake.misdeed.set(Misdeed::ClosesBeforeSuccessors);
    b.close(pd);
    assert_eq!(b.rules(), [rules::CLOSE_BEFORE_SUCCESSORS]);
}
