//! Connections of every kind.

use std::time::Duration;

use ndkpi::status::*;
use ntsim::ndk::ReadLimits;

use crate::lab::{A, A6, B, B6, Lab, PORT, failure, from, to};

#[test]
fn m20_m21_m22_a_paused_listener_is_no_listener() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let listener = lab.listen(&b);
    let active = lab.connector(&a);
    lab.on(&b, || listener.pause(true));
    let connecting = lab.on(&a, || {
        active.start_connect(&a.qp, from(&a), to(&b), ReadLimits::default(), &[])
    });
    assert_eq!(
        failure(connecting.wait(&mut lab.world)),
        STATUS_CONNECTION_REFUSED
    );
    assert_eq!(listener.waiting(), 0);
    lab.on(&b, || listener.pause(false));
    let connecting = lab.on(&a, || {
        active.start_connect(&a.qp, from(&a), to(&b), ReadLimits::default(), &[])
    });
    let passive = lab.request(&listener);
    // M-22: one event, however long the peer waits for the answer.
    lab.world.run_for(Duration::from_secs(20));
    assert_eq!(listener.waiting(), 0);
    lab.on(&b, || passive.close());
    assert_eq!(
        failure(connecting.wait(&mut lab.world)),
        STATUS_CONNECTION_REFUSED,
        "an implicit reject"
    );
    lab.on(&a, || active.close());
    lab.on(&b, || listener.close());
    lab.end(a, b);
}

#[test]
fn x35_a_queue_pair_that_is_in_use_cannot_be_connected_again() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    let second = lab.connector(&a);
    lab.on(&a, || {
        let connecting = second.start_connect(&a.qp, from(&a), to(&b), ReadLimits::default(), &[]);
        assert_eq!(connecting.inline_status(), STATUS_CONNECTION_ACTIVE);
        second.close();
    });
    lab.hang_up(&a, &b, connected);
    lab.end(a, b);
}

#[test]
fn several_connections_over_one_listener() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let listener = lab.listen(&b);
    let mut open = Vec::new();
    for _ in 0..5 {
        let (qp_a, qp_b) = (lab.queue_pair(&a), lab.queue_pair(&b));
        let (active, passive) = lab.join((&a, &qp_a), (&b, &qp_b), &listener);
        open.push((active, passive, qp_a, qp_b));
    }
    let mut ports: Vec<_> = open
        .iter()
        .map(|(active, ..)| lab.world.call(lab.a, || active.local_address()).unwrap())
        .collect();
    ports.sort();
    ports.dedup();
    assert_eq!(ports.len(), 5, "each connection has a port of its own");
    for (active, passive, qp_a, qp_b) in open {
        lab.on(&a, || {
            active.close();
            qp_a.close();
        });
        lab.on(&b, || {
            passive.close();
            qp_b.close();
        });
    }
    lab.on(&b, || listener.close());
    assert_eq!((A, B, PORT), (a.address, b.address, to(&b).port()));
    lab.end(a, b);
}

#[test]
fn e12_connections_work_over_ipv6_too() {
    let mut lab = Lab::new();
    let (mut a, mut b) = (lab.side_a(), lab.side_b());
    (a.address, b.address) = (A6, B6);
    let connected = lab.connect(&a, &b);
    assert_eq!(
        lab.on(&b, || connected.passive.peer_address())
            .unwrap()
            .ip(),
        A6
    );
    let (ours, theirs) = lab.regions(&a, &b, 9000, 3);
    lab.on(&b, || b.qp.receive(1, &[theirs.sge(0, 9000)]))
        .unwrap();
    lab.on(&a, || a.qp.send(2, &[ours.sge(0, 9000)], 0))
        .unwrap();
    assert_eq!(lab.result(&a).Status, STATUS_SUCCESS);
    assert_eq!(lab.result(&b).BytesTransferred, 9000);
    lab.on(&b, || assert_eq!(theirs.buffer.bytes(), [3; 9000]));
    lab.hang_up(&a, &b, connected);
    lab.on(&a, || ours.close());
    lab.on(&b, || theirs.close());
    lab.end(a, b);
}

#[test]
fn an_adapter_connects_to_itself_without_the_wire() {
    let mut lab = Lab::new();
    let (a, mut b) = (lab.side_a(), lab.side_a());
    // Another port, so that the two ends can be told apart.
    b.address = A;
    let connected = lab.connect(&a, &b);
    let (ours, theirs) = lab.regions(&a, &b, 60_000, 3);
    lab.on(&b, || b.qp.receive(1, &[theirs.sge(0, 60_000)]))
        .unwrap();
    lab.on(&a, || a.qp.send(2, &[ours.sge(0, 60_000)], 0))
        .unwrap();
    assert_eq!(lab.result(&a).Status, STATUS_SUCCESS);
    assert_eq!(lab.result(&b).BytesTransferred, 60_000);
    lab.on(&b, || assert_eq!(theirs.buffer.bytes(), [3; 60_000]));
    lab.hang_up(&a, &b, connected);
    lab.on(&a, || {
        ours.close();
        theirs.close();
    });
    lab.end(a, b);
}
