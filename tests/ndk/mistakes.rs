//! Mistakes of consumers that the consumer's guide (docs/consumers-guide.md) tells of: what the provider does, and what the verifier
//! says.

use std::ptr::null;
use std::time::Duration;

use ndkpi::status::*;
use ntsim::World;
use ntsim::ndk::rules;
use ntsim::ndk::{Connector, Qp};

use crate::lab::{ALL_RIGHTS, Lab, Region, SOON, from, to};
use crate::raw::{Completed, closed, completed, sockaddr};

#[test]
fn memory_freed_under_its_registration() {
    let rule = ntsim::verifier::rules::DMA_FREED_MAPPED;
    let mut lab = Lab::new();
    let a = lab.side_a();
    let Region { buffer, mr } = lab.region(&a, 4096, ALL_RIGHTS, 1);
    lab.world.pardon(rule);
    lab.on(&a, || buffer.free());
    assert_eq!(lab.world.pardoned(rule), 1);
    lab.on(&a, || {
        mr.deregister().unwrap();
        mr.close();
    });
    lab.close(a);
    lab.finish();
}

/// NdkConnect with a context that is gone when this returns.
#[inline(never)]
fn connect_and_leave(connector: &Connector, qp: &Qp, from: &[u8; 16], to: &[u8; 16]) -> i32 {
    let done = Completed::default();
    let (from, to) = (from.as_ptr().cast(), to.as_ptr().cast());
    let f = connector.table().NdkConnect;
    let context = std::hint::black_box(done.context());
    // SAFETY: open objects and addresses. The context does not outlive the request: that is the mistake.
    unsafe {
        f(
            connector.raw(),
            qp.raw(),
            from,
            16,
            to,
            16,
            1,
            1,
            null(),
            0,
            completed,
            context,
        )
    }
}

#[test]
fn a_connect_whose_context_is_gone() {
    let rule = rules::CONSUMER_CONTEXT;
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let connector = lab.connector(&a);
    let (local, peer) = (sockaddr(from(&a)), sockaddr(to(&b)));
    lab.world.pardon(rule);
    let status = lab.on(&a, || connect_and_leave(&connector, &a.qp, &local, &peer));
    assert_eq!(status, STATUS_PENDING);
    lab.world.run_for(SOON);
    assert_eq!(lab.world.pardoned(rule), 1);
    lab.on(&a, || connector.close());
    lab.end(a, b);
}

#[test]
fn a_virtual_address_with_the_privileged_token() {
    let rule = rules::CONSUMER_LOGICAL_ADDRESS;
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    let region = lab.region(&a, 4096, ALL_RIGHTS, 1);
    lab.world.pardon(rule);
    lab.on(&a, || {
        let mut element = region.sge(0, 16);
        element.MemoryRegionToken = a.pd.privileged_token();
        a.qp.send(1, &[element], 0).unwrap();
    });
    assert_eq!(lab.world.pardoned(rule), 1);
    let result = lab.result(&a);
    let context = result.RequestContext.addr();
    assert_eq!((context, result.Status), (1, STATUS_ACCESS_VIOLATION));
    lab.on(&a, || region.close());
    lab.drop_connection(&a, &b, connected);
    lab.end(a, b);
}

#[test]
fn a_request_that_is_not_answered() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let (listener, active, connect, passive) = lab.ask(&a, &b);
    // Not accepted before the connect is over: it never will be well.
    lab.world
        .run_until(|_| connect.is_done(), Duration::from_secs(600));
    assert_eq!(connect.status(), Some(STATUS_IO_TIMEOUT));
    // The listener's close waits for the connector that it made.
    let closing = lab.on(&b, || listener.start_close());
    lab.world.run_for(SOON);
    assert!(!closing.is_done());
    lab.on(&b, || passive.close());
    closing.wait(&mut lab.world).unwrap();
    lab.on(&a, || active.close());
    lab.end(a, b);
}

/// A lab whose rules are broken on purpose.
fn collecting() -> Lab {
    Lab::in_world(World::builder().collect_violations().build())
}

#[test]
fn what_is_closed_is_named_when_it_is_called_or_closed_again() {
    let mut lab = collecting();
    let a = lab.side_a();
    let raw = lab.on(&a, || {
        let cq = a.adapter.create_cq(8).unwrap();
        let raw = cq.raw();
        cq.close();
        raw
    });
    lab.world.run_for(SOON);
    // SAFETY: not open any more: that is the mistake. The memory is in the pool's quarantine.
    lab.on(&a, || unsafe { ((*(*raw).Dispatch).NdkArmCq)(raw, 0) });
    let done = Completed::default();
    let again = lab.on(&a, || {
        // SAFETY: likewise.
        unsafe { ((*(*raw).Dispatch).NdkCloseCq)(raw.cast(), closed, done.context()) }
    });
    assert_eq!(again, STATUS_SUCCESS);
    let violations = lab.world.take_violations();
    assert_eq!(violations.len(), 2, "{violations:?}");
    for (violation, function) in violations.iter().zip(["NdkArmCq", "NdkCloseCq"]) {
        assert_eq!(violation.rule, rules::CONSUMER, "{violation}");
        let text = format!("{function} is called with CQ 2 of vroce on A, which was closed at ");
        assert!(violation.text.starts_with(&text), "{violation}");
    }
    // What lay there is what the pool had put there.
    lab.world.check_pool(a.machine);
    assert!(lab.world.take_violations().is_empty());
    lab.close(a);
    lab.finish();
}

#[test]
fn a_driver_that_nobody_uninstalled_is_said_to_be_loaded() {
    let lab = Lab::new();
    let report = lab.world.finish();
    assert!(!report.leaks.is_empty());
    for leak in &report.leaks {
        assert!(leak.to_string().contains("World::uninstall"), "{leak}");
    }
}
