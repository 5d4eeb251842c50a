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
use super::consumers::connected;
use super::fake::{Misdeed, Mode};
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
