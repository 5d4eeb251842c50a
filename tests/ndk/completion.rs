//! Completions: when a callback comes, and how often.

use std::cell::Cell;
use std::ffi::c_void;
use std::net::IpAddr;
use std::ptr::{NonNull, null_mut};
use std::time::Duration;

use ndkpi::status::*;
use ndkpi::{NDK_CONNECTOR, NDK_OBJECT_HEADER, NTSTATUS, NdkObjectTypeSharedEndpoint};
use ntsim::ndk::{Pending, ReadLimits};

use crate::lab::{ALL_RIGHTS, Lab, SOON, from, limits, to};
use crate::raw::{Completed, Shared, never_closed, never_completed, never_created, sockaddr};

/// What a create completion was called with, and what it did with the object.
#[derive(Default)]
struct Created {
    calls: Cell<u32>,
    status: Cell<NTSTATUS>,
    kind: Cell<u32>,
    port: Cell<u16>,
    close: Cell<NTSTATUS>,
    closed: Completed,
}

/// NdkCreateCompletion of a shared endpoint: asks for its address and closes it, right there.
unsafe extern "efiapi" fn on_created(
    context: *mut c_void,
    status: NTSTATUS,
    object: *mut NDK_OBJECT_HEADER,
) {
    // SAFETY: the context outlives the request; the object is open from here on.
    unsafe {
        let created = &*context.cast::<Created>();
        created.calls.set(created.calls.get() + 1);
        created.status.set(status);
        created.kind.set((*object).ObjectType);
        let shared = Shared(NonNull::new(object.cast()).expect("an object"));
        created.port.set(shared.port());
        created.close.set(shared.close(&created.closed));
    }
}

#[test]
fn c01_c07_an_object_can_be_used_inside_its_create_completion() {
    let mut lab = Lab::new();
    let a = lab.side_a();
    let (created, mut out) = (Created::default(), null_mut());
    let mut others = (1..=u8::MAX).map(|last| IpAddr::from([10, 1, 0, last]));
    let mut at = from(&a);
    // The address has not been read yet: the create pends. Preempted, it can find that it has: then with another one.
    loop {
        let at_raw = sockaddr(at);
        let status = lab.on(&a, || {
            // SAFETY: an open adapter, an address with its length, a context that outlives the request.
            unsafe {
                (a.adapter.table().NdkCreateSharedEndpoint)(
                    a.adapter.raw(),
                    at_raw.as_ptr().cast(),
                    16,
                    on_created,
                    (&raw const created).cast_mut().cast(),
                    &raw mut out,
                )
            }
        });
        if status == STATUS_PENDING {
            break;
        }
        assert_eq!(status, STATUS_SUCCESS);
        let closed = Completed::default();
        let shared = Shared(NonNull::new(std::mem::replace(&mut out, null_mut())).unwrap());
        let status = lab.on(&a, || shared.close(&closed));
        lab.world.run_for(SOON);
        assert_eq!(closed.count(), u32::from(status == STATUS_PENDING));
        at.set_ip(others.next().expect("an address that was not read yet"));
        lab.world.add_address(lab.a, at.ip(), 16);
    }
    lab.world.run_for(SOON);
    assert_eq!(created.calls.get(), 1);
    assert_eq!(created.status.get(), STATUS_SUCCESS);
    assert_eq!(created.kind.get(), NdkObjectTypeSharedEndpoint);
    assert!(
        created.port.get() >= 49_152,
        "its address could be asked for"
    );
    let pended = created.close.get() == STATUS_PENDING;
    assert!(pended || created.close.get() == STATUS_SUCCESS);
    assert_eq!(created.closed.count(), u32::from(pended));
    assert!(out.is_null(), "c03: never written");
    lab.close(a);
    lab.finish();
}

#[test]
fn c02_c04_a_create_that_answers_inline_is_not_completed() {
    let mut lab = Lab::new();
    let a = lab.side_a();
    lab.world.run_for(Duration::from_millis(1));
    let at = sockaddr(from(&a));
    let none = null_mut();
    lab.on(&a, || {
        let (adapter, pd) = (a.adapter.table(), a.pd.table());
        let (raw, raw_pd, cq) = (a.adapter.raw(), a.pd.raw(), a.cq.raw());
        // Each is created, badly if it can be, then well, and closed again. The completion panics.
        // SAFETY: open objects and valid parameters; what is created is closed once.
        unsafe {
            let mut out = null_mut();
            let too_deep = a.adapter.info().unwrap().MaxCqDepth + 1;
            let mut cq_of = |depth| {
                (adapter.NdkCreateCq)(
                    raw,
                    depth,
                    never_completed,
                    none,
                    null_mut(),
                    never_created,
                    none,
                    &raw mut out,
                )
            };
            assert_eq!(cq_of(too_deep), STATUS_INVALID_PARAMETER);
            assert_eq!(cq_of(4), STATUS_SUCCESS);
            assert!(!out.is_null());
            let close = (*(*out).Dispatch).NdkCloseCq;
            assert_eq!(close(out.cast(), never_closed, none), STATUS_SUCCESS);

            let mut out = null_mut();
            let status = (adapter.NdkCreatePd)(raw, never_created, none, &raw mut out);
            assert!(status == STATUS_SUCCESS && !out.is_null());
            let close = (*(*out).Dispatch).NdkClosePd;
            assert_eq!(close(out.cast(), never_closed, none), STATUS_SUCCESS);

            let mut out = null_mut();
            let status = (adapter.NdkCreateConnector)(raw, never_created, none, &raw mut out);
            assert!(status == STATUS_SUCCESS && !out.is_null());
            let close = (*(*out).Dispatch).NdkCloseConnector;
            assert_eq!(close(out.cast(), never_closed, none), STATUS_SUCCESS);

            let mut out = null_mut();
            let mut shared_at = |at: &[u8; 16]| {
                (adapter.NdkCreateSharedEndpoint)(
                    raw,
                    at.as_ptr().cast(),
                    16,
                    never_created,
                    none,
                    &raw mut out,
                )
            };
            assert_eq!(shared_at(&[0; 16]), STATUS_INVALID_ADDRESS);
            assert_eq!(shared_at(&at), STATUS_SUCCESS);
            assert!(!out.is_null());
            let close = (*(*out).Dispatch).NdkCloseSharedEndpoint;
            assert_eq!(close(out.cast(), never_closed, none), STATUS_SUCCESS);

            let mut out = null_mut();
            let status = (pd.NdkCreateMr)(raw_pd, 0, never_created, none, &raw mut out);
            assert!(status == STATUS_SUCCESS && !out.is_null());
            let close = (*(*out).Dispatch).NdkCloseMr;
            assert_eq!(close(out.cast(), never_closed, none), STATUS_SUCCESS);

            let mut out = null_mut();
            let mut qp_of = |depth| {
                (pd.NdkCreateQp)(
                    raw_pd,
                    cq,
                    cq,
                    none,
                    depth,
                    4,
                    1,
                    1,
                    0,
                    never_created,
                    none,
                    &raw mut out,
                )
            };
            assert_eq!(qp_of(u32::MAX), STATUS_INVALID_PARAMETER);
            assert_eq!(qp_of(4), STATUS_SUCCESS);
            assert!(!out.is_null());
            let close = (*(*out).Dispatch).NdkCloseQp;
            assert_eq!(close(out.cast(), never_closed, none), STATUS_SUCCESS);
        }
    });
    lab.world.run_for(SOON);
    lab.close(a);
    lab.finish();
}

#[test]
fn c05_l02_what_pends_is_completed_once_and_what_does_not_is_not() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let active = lab.connector(&a);
    let region = lab.region(&a, 4096, ALL_RIGHTS, 0);
    let bad = lab.on(&a, || active.start_disconnect());
    let deregistered = lab.on(&a, || region.mr.start_deregister());
    let closed = lab.on(&a, || region.mr.start_close());
    let (cancelled, waiting) = lab.on(&a, || {
        let limits = ReadLimits::default();
        let connecting = active.start_connect(&a.qp, from(&a), to(&b), limits, &[]);
        (connecting, active.start_close())
    });
    // A completion queue that is closed before its queue pair.
    let (cq, qp) = lab.on(&a, || {
        let cq = a.adapter.create_cq(4).unwrap();
        let qp = a.pd.create_qp(&cq, &cq, limits()).unwrap();
        (cq, qp)
    });
    let closing_cq = lab.on(&a, || cq.start_close());
    lab.on(&a, || qp.close());
    lab.world.run_for(Duration::from_secs(60));
    let ends = |pending: &Pending| (pending.inline_status(), pending.calls().len());
    assert_eq!(ends(&cancelled), (STATUS_PENDING, 1));
    assert_eq!(cancelled.status(), Some(STATUS_CANCELLED));
    assert_eq!(ends(&bad), (STATUS_CONNECTION_INVALID, 0));
    assert_eq!(ends(&deregistered), (STATUS_SUCCESS, 0));
    assert_eq!(ends(&closed), (STATUS_SUCCESS, 0));
    // This one may do either: what it cancels may be told before it returns.
    assert!(matches!(
        ends(&waiting),
        (STATUS_PENDING, 1) | (STATUS_SUCCESS, 0)
    ));
    assert_eq!(ends(&closing_cq), (STATUS_PENDING, 1));
    lab.on(&a, || region.buffer.free());
    lab.end(a, b);
}

#[test]
fn c02_c04_listeners_windows_and_shared_queues_are_not_completed_either() {
    unsafe extern "efiapi" fn never_asked(_: *mut c_void, _: *mut NDK_CONNECTOR) {
        panic!("nobody listens");
    }
    let mut lab = Lab::new();
    let a = lab.side_a();
    let none = null_mut();
    lab.on(&a, || {
        let (adapter, pd) = (a.adapter.table(), a.pd.table());
        let (raw, raw_pd, cq) = (a.adapter.raw(), a.pd.raw(), a.cq.raw());
        // SAFETY: open objects and valid parameters; what is created is closed once.
        unsafe {
            let mut out = null_mut();
            let create = adapter.NdkCreateListener;
            let status = create(raw, never_asked, none, never_created, none, &raw mut out);
            assert!(status == STATUS_SUCCESS && !out.is_null());
            let close = (*(*out).Dispatch).NdkCloseListener;
            assert_eq!(close(out.cast(), never_closed, none), STATUS_SUCCESS);

            let mut out = null_mut();
            let status = (pd.NdkCreateMw)(raw_pd, never_created, none, &raw mut out);
            assert!(status == STATUS_SUCCESS && !out.is_null());
            let close = (*(*out).Dispatch).NdkCloseMw;
            assert_eq!(close(out.cast(), never_closed, none), STATUS_SUCCESS);

            let mut srq = null_mut();
            let mut srq_of = |depth| {
                let affinity = null_mut();
                let (create, completion) = (pd.NdkCreateSrq, never_created);
                let out = &raw mut srq;
                create(
                    raw_pd, depth, 1, 0, None, none, affinity, completion, none, out,
                )
            };
            assert_eq!(srq_of(u32::MAX), STATUS_INVALID_PARAMETER);
            assert_eq!(srq_of(4), STATUS_SUCCESS);
            assert!(!srq.is_null());
            let mut out = null_mut();
            let mut qp_of = |depth| {
                let (create, completion) = (pd.NdkCreateQpWithSrq, never_created);
                let out = &raw mut out;
                create(
                    raw_pd, cq, cq, srq, none, depth, 1, 0, completion, none, out,
                )
            };
            assert_eq!(qp_of(u32::MAX), STATUS_INVALID_PARAMETER);
            assert_eq!(qp_of(4), STATUS_SUCCESS);
            assert!(!out.is_null());
            let close = (*(*out).Dispatch).NdkCloseQp;
            assert_eq!(close(out.cast(), never_closed, none), STATUS_SUCCESS);
            let close = (*(*srq).Dispatch).NdkCloseSrq;
            assert_eq!(close(srq.cast(), never_closed, none), STATUS_SUCCESS);
        }
    });
    lab.world.run_for(SOON);
    lab.close(a);
    lab.finish();
}

/// What a create completion was called with that brings no object.
#[derive(Default)]
struct Failed {
    calls: Cell<u32>,
    status: Cell<NTSTATUS>,
}

unsafe extern "efiapi" fn on_failed(
    context: *mut c_void,
    status: NTSTATUS,
    object: *mut NDK_OBJECT_HEADER,
) {
    assert!(object.is_null(), "x53: no object comes with a failure");
    // SAFETY: the context outlives the request.
    let failed = unsafe { &*context.cast::<Failed>() };
    failed.calls.set(failed.calls.get() + 1);
    failed.status.set(status);
}

#[test]
fn c08_a_create_that_pends_has_the_memory_that_it_needs() {
    let mut lab = Lab::new();
    let a = lab.side_a();
    let machine = lab.a;
    lab.world.run_for(Duration::from_millis(1));
    // An address that is not known has to be looked for: the create pends.
    let foreign = sockaddr("10.0.0.99:7".parse().unwrap());
    let create = |lab: &mut Lab| {
        let (failed, mut out) = (Failed::default(), null_mut());
        let status = lab.on(&a, || {
            // SAFETY: an open adapter, an address with its length, a context that outlives the request.
            unsafe {
                (a.adapter.table().NdkCreateSharedEndpoint)(
                    a.adapter.raw(),
                    foreign.as_ptr().cast(),
                    16,
                    on_failed,
                    (&raw const failed).cast_mut().cast(),
                    &raw mut out,
                )
            }
        });
        lab.world.run_for(Duration::from_millis(5));
        let pended = status == STATUS_PENDING;
        assert_eq!(failed.calls.get(), u32::from(pended));
        (pended, if pended { failed.status.get() } else { status })
    };
    assert_eq!(create(&mut lab), (true, STATUS_INVALID_ADDRESS));
    let before = lab.world.pool_stats(machine).driver_blocks;
    let mut lacked = 0;
    for after in 0.. {
        lab.world.fail_allocations(machine, Some(after), true);
        let ended = create(&mut lab);
        lab.world.fail_allocations(machine, None, false);
        let blocks = lab.world.pool_stats(machine).driver_blocks;
        assert_eq!(blocks, before, "after {after} allocations");
        if ended == (true, STATUS_INVALID_ADDRESS) {
            break;
        }
        assert_eq!(ended, (false, STATUS_INSUFFICIENT_RESOURCES));
        lacked += 1;
    }
    assert!(lacked > 0, "no allocation, no failure");
    lab.close(a);
    lab.finish();
}
