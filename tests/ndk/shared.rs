//! Shared endpoints: one local address and port for many connections out.

use std::cell::Cell;
use std::net::SocketAddr;
use std::ptr::null_mut;
use std::time::Duration;

use ndkpi::status::*;
use ndkpi::{NDK_OBJECT_HEADER, NDK_SHARED_ENDPOINT, NdkObjectTypeSharedEndpoint};
use ntsim::ndk::{Qp, ReadLimits};

use crate::lab::{Lab, PORT, SOON, failure, limits, to};
use crate::raw::{Completed, Shared, sockaddr};

#[test]
fn e02_e05_e08_e09_e10_l11_many_connections_from_one_endpoint() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let listener = lab.listen(&b);
    lab.world.run_for(Duration::from_millis(1));
    let shared = lab.on(&a, || {
        let shared = Shared::create(&a, SocketAddr::new(a.address, 0)).unwrap();
        // SAFETY: an open object.
        let header = unsafe { shared.0.as_ref() }.Header;
        assert_eq!(header.ObjectType, NdkObjectTypeSharedEndpoint);
        shared
    });
    let port = lab.on(&a, || shared.port());
    assert!(port >= 49_152);
    let here = SocketAddr::new(a.address, port);
    assert_eq!(
        lab.on(&a, || Shared::create(&a, here).err()),
        Some(STATUS_SHARING_VIOLATION)
    );
    // Two destinations: two listeners.
    let elsewhere = SocketAddr::new(b.address, PORT + 1);
    let (listener_2, qp_2) = lab.on(&b, || {
        let listener = b.adapter.create_listener().unwrap();
        listener.listen(elsewhere).unwrap();
        (listener, b.pd.create_qp(&b.cq, &b.cq, limits()).unwrap())
    });
    let (first, second, third) = (lab.connector(&a), lab.connector(&a), lab.connector(&a));
    let qps: Vec<Qp> = lab.on(&a, || {
        (0..3)
            .map(|_| a.pd.create_qp(&a.cq, &a.cq, limits()).unwrap())
            .collect()
    });
    let done: [Completed; 3] = Default::default();
    lab.on(&a, || {
        assert_eq!(
            shared.connect(&first, &qps[0], to(&b), &done[0]),
            STATUS_PENDING
        );
        assert_eq!(
            shared.connect(&second, &qps[1], elsewhere, &done[1]),
            STATUS_PENDING
        );
        // The 4-tuple exists.
        assert_eq!(
            shared.connect(&third, &qps[2], to(&b), &done[2]),
            STATUS_ADDRESS_ALREADY_EXISTS
        );
    });
    let (passive, passive_2) = (lab.request(&listener), lab.request(&listener_2));
    let limits = ReadLimits::default();
    let accepting = lab.on(&b, || {
        [
            passive.start_accept(&b.qp, limits, &[]),
            passive_2.start_accept(&qp_2, limits, &[]),
        ]
    });
    assert!(
        lab.world
            .run_until(|_| done[..2].iter().all(|done| done.count() == 1), SOON)
    );
    let completing = lab.on(&a, || {
        [&first, &second].map(|connector| {
            assert_eq!(connector.local_address(), Ok(here));
            connector.start_complete_connect()
        })
    });
    assert_eq!(
        [&done[0], &done[1]].map(Completed::status),
        [STATUS_SUCCESS; 2]
    );
    for pending in completing.iter().chain(&accepting) {
        pending.wait(&mut lab.world).unwrap();
    }
    // Closing pends until the connection is closed, and the port stays taken as long.
    let closing = Completed::default();
    assert_eq!(lab.on(&a, || shared.close(&closing)), STATUS_PENDING);
    lab.world.run_for(Duration::from_secs(1));
    assert_eq!(closing.count(), 0);
    let other = lab.on(&a, || a.adapter.create_listener().unwrap());
    assert_eq!(
        failure(lab.on(&a, || other.listen(here))),
        STATUS_SHARING_VIOLATION
    );
    lab.on(&a, || {
        first.close();
        second.close();
        third.close();
    });
    assert!(
        lab.world
            .run_until(|_| closing.count() == 1, Duration::from_secs(1))
    );
    assert_eq!(lab.on(&a, || other.listen(here)), Ok(()));
    lab.on(&a, || {
        other.close();
        qps.into_iter().for_each(Qp::close);
    });
    lab.on(&b, || {
        passive.close();
        passive_2.close();
        qp_2.close();
        listener.close();
        listener_2.close();
    });
    lab.end(a, b);
}

#[test]
fn c03_e07_x53_an_endpoint_needs_an_address_of_the_adapter() {
    let mut lab = Lab::new();
    let a = lab.side_a();
    lab.world.run_for(Duration::from_millis(1));
    // An address that is not known: it pends, is looked for, and is not found.
    thread_local!(static DONE: (Cell<u32>, Cell<i32>) = const { (Cell::new(0), Cell::new(0)) });
    unsafe extern "efiapi" fn not_created(
        _: *mut std::ffi::c_void,
        status: i32,
        object: *mut NDK_OBJECT_HEADER,
    ) {
        assert!(object.is_null(), "x53: no object comes with a failure");
        DONE.with(|(calls, last)| {
            calls.set(calls.get() + 1);
            last.set(status);
        });
    }
    let foreign = sockaddr("10.0.0.99:7".parse().unwrap());
    let canary = 0x5a5a_usize as *mut NDK_SHARED_ENDPOINT;
    let mut out = canary;
    lab.on(&a, || {
        // SAFETY: an open adapter, an address with its length.
        let status = unsafe {
            (a.adapter.table().NdkCreateSharedEndpoint)(
                a.adapter.raw(),
                foreign.as_ptr().cast(),
                16,
                not_created,
                null_mut(),
                &raw mut out,
            )
        };
        assert_eq!(status, STATUS_PENDING);
    });
    let calls = || DONE.with(|(calls, _)| calls.get());
    assert!(lab.world.run_until(|_| calls() == 1, SOON));
    assert_eq!(DONE.with(|(_, last)| last.get()), STATUS_INVALID_ADDRESS);
    assert_eq!(
        out, canary,
        "c03: after PENDING the out parameter is never written"
    );
    lab.on(&a, || {
        let wildcard = Shared::create(&a, "0.0.0.0:7".parse().unwrap());
        assert_eq!(wildcard.err(), Some(STATUS_INVALID_ADDRESS));
    });
    lab.close(a);
    lab.finish();
}
