//! Closing: what waits for what.

use std::time::Duration;

use ndkpi::status::*;
use ndkpi::{NDK_VERSION_1_2, NDK_VERSION_2_1};
use ntsim::consumer::{Adapter, ReadLimits};

use crate::lab::{ALL_RIGHTS, Lab, from, to};
use crate::raw::sockaddr;

#[test]
fn l07_antecedents_outlive_their_successors() {
    let mut lab = Lab::new();
    let a = lab.side_a();
    let crate::lab::Side {
        adapter,
        pd,
        cq,
        qp,
        machine,
        ..
    } = a;
    let mr = lab.world.call(machine, || pd.create_mr().unwrap());
    let closing_pd = lab.world.call(machine, || pd.start_close());
    let closing_cq = lab.world.call(machine, || cq.start_close());
    lab.world.run_for(Duration::from_secs(1));
    assert_eq!(closing_pd.inline_status(), STATUS_PENDING);
    assert_eq!(closing_cq.inline_status(), STATUS_PENDING);
    assert!(!closing_pd.is_done() && !closing_cq.is_done());
    // The queue pair still works.
    lab.world.call(machine, || qp.receive(1, &[])).unwrap();
    let closing_qp = lab.world.call(machine, || qp.start_close());
    closing_qp.wait(&mut lab.world).unwrap();
    closing_cq.wait(&mut lab.world).unwrap();
    assert!(!closing_pd.is_done(), "the region is still open");
    lab.world.call(machine, || mr.close());
    closing_pd.wait(&mut lab.world).unwrap();
    for pending in [closing_pd, closing_cq] {
        assert_eq!(pending.calls().len(), 1);
    }
    lab.world.call(machine, || adapter.close());
    lab.finish();
}

#[test]
fn l10_a_queue_pair_waits_for_the_connector_that_used_it() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    let crate::lab::Side {
        adapter,
        pd,
        cq,
        qp,
        machine,
        ..
    } = a;
    let closing = lab.world.call(machine, || qp.start_close());
    lab.world.run_for(Duration::from_secs(1));
    assert!(!closing.is_done());
    lab.world.call(machine, || connected.active.close());
    closing.wait(&mut lab.world).unwrap();
    lab.world.call(machine, || {
        cq.close();
        pd.close();
        adapter.close();
    });
    lab.on(&b, || {
        connected.passive.close();
        connected.listener.close();
    });
    lab.close(b);
    lab.finish();
}

#[test]
fn l18_adapters_can_be_open_several_times_and_close_in_any_order() {
    let mut lab = Lab::new();
    let machine = lab.a;
    lab.world.call(machine, || {
        let first = Adapter::open(NDK_VERSION_2_1).unwrap();
        let second = Adapter::open(NDK_VERSION_1_2).unwrap();
        let third = Adapter::open(NDK_VERSION_2_1).unwrap();
        assert_ne!(first.raw(), third.raw());
        second.close();
        let pd = third.create_pd().unwrap();
        first.close();
        pd.close();
        third.close();
    });
    lab.finish();
}

#[test]
fn l03_the_connector_may_be_closed_inside_its_own_completion() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    thread_local! {
        static CLOSED: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    }
    unsafe extern "efiapi" fn closed(_context: *mut std::ffi::c_void) {
        CLOSED.set(CLOSED.get() + 1);
    }
    unsafe extern "efiapi" fn refused(context: *mut std::ffi::c_void, status: i32) {
        assert_eq!(status, STATUS_CONNECTION_REFUSED);
        let connector: *mut ndkpi::NDK_CONNECTOR = context.cast();
        // SAFETY: the context is the connector, which is open until here.
        let status = unsafe {
            ((*(*connector).Dispatch).NdkCloseConnector)(connector.cast(), closed, context)
        };
        assert_eq!(
            status, STATUS_PENDING,
            "its own completion is still running"
        );
        assert_eq!(CLOSED.get(), 0);
    }
    let connector = lab.connector(&a);
    // A port nobody listens on; the raw call, because the completion is our own.
    let (here, there) = (sockaddr(from(&a)), sockaddr(to(&b)));
    lab.on(&a, || {
        // SAFETY: open objects, valid addresses.
        let status = unsafe {
            (connector.table().NdkConnect)(
                connector.raw(),
                a.qp.raw(),
                here.as_ptr().cast(),
                16,
                there.as_ptr().cast(),
                16,
                ReadLimits::default().inbound,
                ReadLimits::default().outbound,
                std::ptr::null(),
                0,
                refused,
                connector.raw().cast(),
            )
        };
        assert_eq!(status, STATUS_PENDING);
    });
    assert!(
        lab.world
            .run_until(|_| CLOSED.get() == 1, Duration::from_secs(5))
    );
    lab.world.run_for(Duration::from_secs(1));
    assert_eq!(CLOSED.get(), 1);
    std::mem::forget(connector);
    let region = lab.region(&a, 4096, ALL_RIGHTS, 0);
    lab.on(&a, || region.close());
    lab.close(a);
    lab.close(b);
    lab.finish();
}
