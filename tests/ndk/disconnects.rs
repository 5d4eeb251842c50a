//! How connections end.

use std::time::Duration;

use ndkpi::status::*;
use ntsim::consumer::ReadLimits;
use ntsim::wire::LinkConfig;

use crate::lab::{ALL_RIGHTS, Lab, SOON, from, to};

#[test]
fn d01_d04_the_peer_hears_of_a_disconnect_once_and_keeps_its_receives() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    let region = lab.region(&b, 4096, ALL_RIGHTS, 0);
    lab.on(&b, || b.qp.receive(7, &[region.sge(0, 4096)]))
        .unwrap();
    let disconnecting = lab.on(&a, || connected.active.start_disconnect());
    assert_eq!(
        disconnecting.inline_status(),
        STATUS_PENDING,
        "the peer has to answer first"
    );
    assert_eq!(disconnecting.wait(&mut lab.world), Ok(()));
    assert!(
        lab.world
            .run_until(|_| connected.passive.disconnect_events().count() > 0, SOON)
    );
    lab.no_result(&b);
    assert_eq!(connected.passive.disconnect_events().count(), 1);
    assert_eq!(
        connected.active.disconnect_events().count(),
        0,
        "who disconnects gets no event"
    );
    // The passive side's own disconnect completes, and it is this that flushes.
    let disconnecting = lab.on(&b, || connected.passive.start_disconnect());
    assert_eq!(disconnecting.wait(&mut lab.world), Ok(()));
    let flushed = lab.result(&b);
    assert_eq!(
        (flushed.Status, flushed.RequestContext as u64),
        (STATUS_CANCELLED, 7)
    );
    assert_eq!(connected.passive.disconnect_events().count(), 1);
    lab.on(&a, || connected.active.close());
    lab.on(&b, || {
        connected.passive.close();
        connected.listener.close();
        region.close();
    });
    lab.close(a);
    lab.close(b);
    lab.finish();
}

#[test]
fn closing_a_connected_connector_gives_the_peer_one_event() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    lab.on(&a, || connected.active.close());
    assert!(
        lab.world
            .run_until(|_| connected.passive.disconnect_events().count() > 0, SOON)
    );
    lab.world.run_for(Duration::from_secs(30));
    assert_eq!(connected.passive.disconnect_events().count(), 1);
    lab.on(&b, || {
        connected.passive.close();
        connected.listener.close();
    });
    lab.close(a);
    lab.close(b);
    lab.finish();
}

#[test]
fn d06_two_disconnects_that_cross_both_succeed_without_events() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    // Nothing A says reaches B before B has said the same, whoever gets a turn meanwhile.
    let delay = Duration::from_micros(100);
    lab.net.set_links(LinkConfig {
        delay,
        ..LinkConfig::default()
    });
    let began = lab.world.now();
    let first = lab.on(&a, || connected.active.start_disconnect());
    let second = lab.on(&b, || connected.passive.start_disconnect());
    assert!(lab.world.now() < began + delay, "they do not cross");
    assert_eq!(first.wait(&mut lab.world), Ok(()));
    assert_eq!(second.wait(&mut lab.world), Ok(()));
    lab.world.run_for(Duration::from_secs(1));
    assert_eq!(connected.active.disconnect_events().count(), 0);
    assert_eq!(connected.passive.disconnect_events().count(), 0);
    lab.on(&a, || connected.active.close());
    lab.on(&b, || {
        connected.passive.close();
        connected.listener.close();
    });
    lab.close(a);
    lab.close(b);
    lab.finish();
}

#[test]
fn d10_disconnect_flushes_both_queues_before_it_completes() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    let region = lab.region(&a, 4096, ALL_RIGHTS, 0);
    lab.on(&a, || {
        a.qp.receive(1, &[region.sge(0, 100)]).unwrap();
        a.qp.receive(2, &[region.sge(100, 100)]).unwrap();
        // Nobody has posted a receive for it.
        a.qp.send(3, &[region.sge(0, 10)], 0).unwrap();
    });
    let disconnecting = lab.on(&a, || connected.active.start_disconnect());
    disconnecting.wait(&mut lab.world).unwrap();
    // the entries are there when the request completes.
    let mut flushed: Vec<_> = (0..3)
        .map(|_| {
            lab.on(&a, || a.cq.poll_ex())
                .expect("an entry for each request")
        })
        .map(|entry| (entry.RequestContext as u64, entry.Status))
        .collect();
    flushed.sort_unstable();
    assert_eq!(
        flushed,
        [
            (1, STATUS_CANCELLED),
            (2, STATUS_CANCELLED),
            (3, STATUS_CANCELLED)
        ]
    );
    lab.on(&a, || {
        connected.active.close();
        region.close();
    });
    lab.on(&b, || {
        connected.passive.close();
        connected.listener.close();
    });
    lab.close(a);
    lab.close(b);
    lab.finish();
}

#[test]
fn d11_what_was_connected_once_is_never_connected_again() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    let disconnecting = lab.on(&a, || connected.active.start_disconnect());
    disconnecting.wait(&mut lab.world).unwrap();
    let fresh = lab.connector(&a);
    lab.on(&a, || {
        let limits = ReadLimits::default();
        let same_connector = connected
            .active
            .start_connect(&a.qp, from(&a), to(&b), limits, &[]);
        assert_eq!(
            same_connector.inline_status(),
            STATUS_INVALID_DEVICE_REQUEST
        );
        let same_qp = fresh.start_connect(&a.qp, from(&a), to(&b), limits, &[]);
        assert_eq!(same_qp.inline_status(), STATUS_INVALID_DEVICE_REQUEST);
        assert_eq!(
            connected.active.start_disconnect().inline_status(),
            STATUS_CONNECTION_INVALID
        );
        assert_eq!(a.qp.send(1, &[], 0), Err(STATUS_CONNECTION_INVALID));
        connected.active.close();
        fresh.close();
    });
    lab.on(&b, || {
        connected.passive.close();
        connected.listener.close();
    });
    lab.close(a);
    lab.close(b);
    lab.finish();
}

#[test]
fn d05_no_disconnect_event_wanted_none_given() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let listener = lab.listen(&b);
    let active = lab.connector(&a);
    let connecting = lab.on(&a, || {
        active.start_connect(&a.qp, from(&a), to(&b), ReadLimits::default(), &[])
    });
    let passive = lab.request(&listener);
    let accepting = lab.on(&b, || {
        passive.start_accept(&b.qp, ReadLimits::default(), &[])
    });
    connecting.wait(&mut lab.world).unwrap();
    unsafe extern "efiapi" fn done(_context: *mut std::ffi::c_void, status: i32) {
        assert_eq!(status, STATUS_SUCCESS);
    }
    lab.on(&a, || {
        // SAFETY: an open connector after a successful connect; null contexts are allowed.
        let status = unsafe {
            (active.table().NdkCompleteConnect)(
                active.raw(),
                None,
                std::ptr::null_mut(),
                done,
                std::ptr::null_mut(),
            )
        };
        assert!(status == STATUS_SUCCESS || status == STATUS_PENDING);
    });
    accepting.wait(&mut lab.world).unwrap();
    let disconnecting = lab.on(&b, || passive.start_disconnect());
    disconnecting.wait(&mut lab.world).unwrap();
    assert_eq!(active.disconnect_events().count(), 0);
    lab.on(&a, || active.close());
    lab.on(&b, || {
        passive.close();
        listener.close();
    });
    lab.close(a);
    lab.close(b);
    lab.finish();
}
