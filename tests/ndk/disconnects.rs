//! How connections end.

use std::cell::RefCell;
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::time::Duration;

use ndkpi::status::*;
use ntsim::ndk::ReadLimits;
use ntsim::wire::{LinkConfig, Verdict};

use crate::lab::{ALL_RIGHTS, Connected, Lab, SOON, from, to};
use crate::raw::{Completed, completed};
use crate::story::Story;

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
    lab.end(a, b);
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
    lab.end(a, b);
}

#[test]
fn d03_a_connection_that_breaks_after_a_disconnect_gives_one_event() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    let events = || connected.passive.disconnect_events().count();
    // B has something under way that will never be answered: it breaks the connection after the disconnect has told of it.
    lab.on(&b, || b.qp.send(1, &[], 0)).unwrap();
    let disconnecting = lab.on(&a, || connected.active.start_disconnect());
    disconnecting.wait(&mut lab.world).unwrap();
    assert!(lab.world.run_until(|_| events() == 1, SOON));
    lab.on(&a, || connected.active.close());
    lab.net.set_links(LinkConfig {
        loss: 1.0,
        ..LinkConfig::default()
    });
    lab.world.run_for(Duration::from_secs(60));
    assert_eq!(events(), 1);
    lab.on(&b, || {
        b.qp.flush();
        connected.passive.close();
        connected.listener.close();
    });
    lab.end(a, b);
}

#[test]
fn d03_a_disconnect_of_a_connection_that_broke_gives_no_second_event() {
    let mut s = Story::begin();
    let (element, _, _) = s.target();
    // There is no such region: both sides see the connection break.
    s.lab
        .on(&s.a, || s.a.qp.write(1, &[element], 0, 0, 0))
        .unwrap();
    assert_eq!(s.outcome().1, STATUS_REMOTE_RESOURCES);
    s.lab.world.run_for(SOON);
    let counts = |s: &Story| {
        let Connected {
            active, passive, ..
        } = &s.connected;
        [active, passive].map(|end| end.disconnect_events().count())
    };
    assert_eq!(counts(&s), [1, 1]);
    let disconnecting = s.lab.on(&s.a, || s.connected.active.start_disconnect());
    disconnecting.wait(&mut s.lab.world).unwrap();
    s.lab.world.run_for(Duration::from_secs(60));
    assert_eq!(counts(&s), [1, 1]);
    let (mut lab, a, b) = (s.lab, s.a, s.b);
    lab.drop_connection(&a, &b, s.connected);
    lab.on(&a, || s.ours.close());
    lab.on(&b, || s.theirs.close());
    lab.end(a, b);
}

#[test]
fn d07_a_disconnect_succeeds_only_when_the_peer_has_answered() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    // The peer hears, but its answers do not come through.
    let port = lab.net.ports()[0].0;
    lab.net.set_filter(port, |_| Verdict::Drop);
    let disconnecting = lab.on(&a, || connected.active.start_disconnect());
    let events = || connected.passive.disconnect_events().count();
    assert!(lab.world.run_until(|_| events() == 1, SOON));
    lab.world.run_for(Duration::from_millis(200));
    assert!(!disconnecting.is_done());
    lab.net.clear_filter(port);
    assert_eq!(disconnecting.wait(&mut lab.world), Ok(()));
    lab.drop_connection(&a, &b, connected);
    lab.end(a, b);
}

/// What the disconnect events of the Ex form were given.
#[derive(Default)]
struct Reasons(RefCell<Vec<u32>>);

unsafe extern "efiapi" fn on_disconnect_ex(context: *mut c_void, reason: u32) {
    // SAFETY: the context outlives the connector.
    unsafe { &*context.cast::<Reasons>() }
        .0
        .borrow_mut()
        .push(reason);
}

#[test]
fn d12_the_ex_event_tells_a_reason_of_the_providers_own() {
    for graceful in [true, false] {
        let mut lab = Lab::new();
        let (a, b) = (lab.side_a(), lab.side_b());
        let (listener, active, connecting, passive) = lab.ask(&a, &b);
        let (reasons, accepted) = (Reasons::default(), Completed::default());
        reasons.0.borrow_mut().reserve(8);
        lab.on(&b, || {
            // SAFETY: open objects; both contexts outlive the connector.
            let status = unsafe {
                (passive.table().NdkAcceptEx)(
                    passive.raw(),
                    b.qp.raw(),
                    1,
                    1,
                    null(),
                    0,
                    Some(on_disconnect_ex),
                    (&raw const reasons).cast_mut().cast(),
                    completed,
                    accepted.context(),
                )
            };
            assert_eq!(status, STATUS_PENDING);
        });
        connecting.wait(&mut lab.world).unwrap();
        let completing = lab.on(&a, || active.start_complete_connect());
        completing.wait(&mut lab.world).unwrap();
        assert!(lab.world.run_until(|_| accepted.count() == 1, SOON));
        assert_eq!(accepted.status(), STATUS_SUCCESS);
        if graceful {
            let disconnecting = lab.on(&a, || active.start_disconnect());
            disconnecting.wait(&mut lab.world).unwrap();
        } else {
            // A peer that answers nothing any more.
            let port = lab.net.ports()[0].0;
            lab.net.set_filter(port, |_| Verdict::Drop);
            lab.on(&b, || b.qp.send(1, &[], 0)).unwrap();
        }
        lab.world.run_for(Duration::from_secs(60));
        let reasons = reasons.0.take();
        // Disconnected by the peer, or broken. 0 would mean that there is no reason to tell.
        assert_eq!(reasons, [if graceful { 1 } else { 2 }]);
        lab.close_ends(&a, active, &b, passive, listener);
        lab.end(a, b);
    }
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
    lab.drop_connection(&a, &b, connected);
    lab.end(a, b);
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
        region.close();
    });
    lab.drop_connection(&a, &b, connected);
    lab.end(a, b);
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
        fresh.close();
    });
    lab.drop_connection(&a, &b, connected);
    lab.end(a, b);
}

#[test]
fn d05_no_disconnect_event_wanted_none_given() {
    for passive_wants_none in [false, true] {
        let mut lab = Lab::new();
        let (a, b) = (lab.side_a(), lab.side_b());
        let (listener, active, connecting, passive) = lab.ask(&a, &b);
        let (accepted, done) = (Completed::default(), Completed::default());
        let accepting = lab.on(&b, || {
            if !passive_wants_none {
                return Some(passive.start_accept(&b.qp, ReadLimits::default(), &[]));
            }
            // SAFETY: open objects; no event and no data are allowed; the context outlives the request.
            let status = unsafe {
                (passive.table().NdkAccept)(
                    passive.raw(),
                    b.qp.raw(),
                    1,
                    1,
                    null(),
                    0,
                    None,
                    null_mut(),
                    completed,
                    accepted.context(),
                )
            };
            assert_eq!(status, STATUS_PENDING);
            None
        });
        connecting.wait(&mut lab.world).unwrap();
        lab.on(&a, || {
            // SAFETY: an open connector after a successful connect; the context outlives the request.
            let status = unsafe {
                (active.table().NdkCompleteConnect)(
                    active.raw(),
                    None,
                    null_mut(),
                    completed,
                    done.context(),
                )
            };
            assert!(status == STATUS_SUCCESS || status == STATUS_PENDING);
        });
        lab.world.run_for(SOON);
        let done = match &accepting {
            Some(accepting) => accepting.status() == Some(STATUS_SUCCESS),
            None => (accepted.count(), accepted.status()) == (1, STATUS_SUCCESS),
        };
        assert!(done, "the connection is there");
        // The other side ends it. A call to a null event would not go unnoticed.
        let (ending, other) = if passive_wants_none {
            (&active, &a)
        } else {
            (&passive, &b)
        };
        let disconnecting = lab.on(other, || ending.start_disconnect());
        disconnecting.wait(&mut lab.world).unwrap();
        lab.world.run_for(SOON);
        lab.close_ends(&a, active, &b, passive, listener);
        lab.end(a, b);
    }
}

#[test]
fn d01_an_event_has_the_context_of_its_own_connection() {
    let mut lab = Lab::new();
    let (mut a, mut b) = (lab.side_a(), lab.side_b());
    let listener = lab.listen(&b);
    let first = lab.establish(&a, &b, &listener);
    let (fresh_a, fresh_b) = (lab.queue_pair(&a), lab.queue_pair(&b));
    let used_a = std::mem::replace(&mut a.qp, fresh_a);
    let used_b = std::mem::replace(&mut b.qp, fresh_b);
    let second = lab.establish(&a, &b, &listener);
    let heard =
        || [&first.0, &first.1, &second.0, &second.1].map(|end| end.disconnect_events().count());
    // The accepting side ends the first connection, the connecting side the second.
    let disconnecting = lab.on(&b, || first.1.start_disconnect());
    disconnecting.wait(&mut lab.world).unwrap();
    lab.world.run_for(SOON);
    assert_eq!(heard(), [1, 0, 0, 0]);
    let disconnecting = lab.on(&a, || second.0.start_disconnect());
    disconnecting.wait(&mut lab.world).unwrap();
    lab.world.run_for(SOON);
    assert_eq!(heard(), [1, 0, 0, 1]);
    lab.on(&a, || {
        first.0.close();
        second.0.close();
        used_a.close();
    });
    lab.on(&b, || {
        first.1.close();
        second.1.close();
        used_b.close();
        listener.close();
    });
    lab.end(a, b);
}

#[test]
fn d02_an_error_of_a_queue_pair_ends_the_connection_with_one_event_on_each_side() {
    // What the peer refuses, and what this side finds itself.
    for expected in [STATUS_REMOTE_RESOURCES, STATUS_ACCESS_VIOLATION] {
        let mut s = Story::begin();
        let (mut element, address, mut token) = s.target();
        if expected == STATUS_REMOTE_RESOURCES {
            token = 0;
        } else {
            element.MemoryRegionToken = 0;
        }
        s.lab
            .on(&s.a, || s.a.qp.write(1, &[element], address, token, 0))
            .unwrap();
        assert_eq!(s.outcome().1, expected);
        let Story { lab, connected, .. } = &mut s;
        let heard =
            || [&connected.active, &connected.passive].map(|end| end.disconnect_events().count());
        assert!(lab.world.run_until(|_| heard() == [1, 1], SOON));
        lab.world.run_for(Duration::from_secs(60));
        assert_eq!(heard(), [1, 1]);
        s.end();
    }
}
