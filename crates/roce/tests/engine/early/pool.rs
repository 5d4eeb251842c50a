//! The pool that all queue pairs of an engine share: who gets how much of it, and who gives it back.

use super::*;
use crate::util::raw::PEER_QPN;
use roce::{Event, Psn};
use std::time::Duration;

/// Another queue pair of the same engine, whose peer is the test as well.
fn another(r: &mut Raw) {
    let qp = r.host.create_qp();
    let local = r.host.engine.prepare(qp, Some(Psn::new(PSN))).unwrap();
    let attributes = roce::cm::QpAttributes {
        peer_qpn: PEER_QPN,
        path: Setup::small().path(Side::A),
        send_psn: Psn::new(PSN),
        retry_count: 7,
        rnr_retry_count: 7,
        ack_timeout: 10,
        responder_resources: 4,
        initiator_depth: 4,
    };
    r.host.engine.attach(qp, &attributes).unwrap();
    (r.qp, r.qpn) = (qp, local.qpn);
}

/// Leaves a gap open. How many more are kept then.
fn gap(r: &mut Raw) -> u32 {
    let before = r.host.engine.usage().early;
    for psn in 1..40 {
        write(r, PSN + psn);
    }
    assert_eq!(r.only_ack(), (PSN, SEQUENCE));
    r.host.engine.usage().early - before
}

/// One queue pair after the other finds less, and what finds no place has to come again.
#[test]
fn no_queue_pair_takes_all_places() {
    let mut r = Raw::keeping(16);
    let (first, number) = (r.qp, r.qpn);
    let mut room = vec![gap(&mut r)];
    for _ in 1..4 {
        another(&mut r);
        room.push(gap(&mut r));
    }
    assert_eq!(room, [12, 3, 0, 0]);
    (r.qp, r.qpn) = (first, number);
    write(&mut r, PSN);
    assert_eq!(r.only_ack(), (PSN + 12, ACK));
    for psn in 13..40 {
        write(&mut r, PSN + psn);
    }
    assert_eq!(r.only_ack(), (PSN + 39, ACK));
    assert_eq!(early(&r), [15, 12, 0, 3]);
}

/// A peer that never closes its gap has others go without for a second, and keeps nothing from them for ever.
#[test]
fn who_leaves_a_gap_open_gives_way_to_others() {
    let mut r = Raw::keeping(16);
    let (first, number) = (r.qp, r.qpn);
    assert_eq!(gap(&mut r), 12);
    r.wait(Duration::from_millis(500));
    another(&mut r);
    assert_eq!(gap(&mut r), 3);
    r.wait(Duration::from_millis(499));
    another(&mut r);
    assert_eq!(gap(&mut r), 0);
    // The oldest gap is a second old now, the next is not. As long as nobody needs the places, they stay.
    r.wait(Duration::from_millis(1));
    assert_eq!(early(&r), [15, 0, 0, 15]);
    write(&mut r, PSN + 1);
    assert_eq!(early(&r), [15, 0, 12, 3]);
    // It has come when there was no room.
    let fourth = |r: &mut Raw| {
        for psn in 1..9 {
            write(r, PSN + psn);
        }
        write(r, PSN);
    };
    fourth(&mut r);
    assert_eq!(r.only_ack(), (PSN + 8, ACK));
    assert_eq!(early(&r), [23, 8, 12, 3]);
    // And the first loses nothing but time.
    (r.qp, r.qpn) = (first, number);
    fourth(&mut r);
    assert_eq!(r.only_ack(), (PSN + 8, ACK));
    r.host.collect();
    assert_eq!(r.host.events, []);
}

#[test]
fn everything_arrives_however_little_is_kept() {
    for (seed, early_frames) in [(1, 0), (2, 1), (3, 2), (4, 5), (5, 64), (6, 256)] {
        let setup = Setup {
            seed,
            psn: [Some(0xff_ff80), Some(0xff_ff00)],
            ..Setup::small()
        };
        let (mut p, qa, qb) = Pair::attached(Setup {
            config: Config {
                early_frames,
                ..setup.config
            },
            ..setup
        });
        p.net.set_weather(Weather {
            jitter: std::time::Duration::from_micros(3),
            loss: 30,
            duplication: 10,
            corruption: 5,
            ..Weather::CALM
        });
        let src = p.a.open(pattern(60_000, seed));
        let dst = p.b.open(vec![0; 60_000]);
        let received = p.b.open(vec![0; 60_000]);
        let rooms = [received.sge(0, 30_000), received.sge(30_000, 30_000)];
        for (context, room) in rooms.into_iter().enumerate() {
            p.b.engine
                .post_recv(p.now, qb, context as u64, &[room])
                .unwrap();
        }
        p.a.send(p.now, qa, 0, SendOp::Send, &[src.sge(0, 30_000)]);
        p.a.send(p.now, qa, 1, dst.write(), &[src.all()]);
        p.a.send(p.now, qa, 2, SendOp::Send, &[src.sge(30_000, 30_000)]);
        p.run(SECOND * 10);
        assert_eq!(
            outcomes(&p.a.completions),
            [0, 1, 2].map(|i| (i, Status::Success)),
            "{early_frames}"
        );
        assert!(p.b.bytes(&dst) == p.a.bytes(&src) && p.b.bytes(&received) == p.a.bytes(&src));
        let c = p.b.engine.counters();
        assert_eq!(c.early_requests_kept > 0, early_frames > 1);
        assert_eq!(p.b.engine.usage().early, 0);
    }
}

/// However it ends, the places are free again.
#[test]
fn the_end_of_a_queue_pair_gives_its_places_back() {
    type End = fn(&mut Raw);
    let ends: [(&str, End); 6] = [
        ("destroyed", |r| {
            r.host.engine.destroy_qp(r.now, r.qp).unwrap()
        }),
        ("flushed", |r| r.host.engine.flush(r.now, r.qp)),
        ("failed", |r| r.inject(SendMiddle, PSN, b"of nothing")),
        ("its completion queue failed", |r| {
            r.host.engine.fail_cq(r.now, r.host.cq)
        }),
        ("everything failed", |r| r.host.engine.fail(r.now)),
        ("its own request failed", |r| {
            r.host.send(r.now, r.qp, 1, SendOp::Send, &[]);
            r.replies();
            r.acknowledge(PSN, INVALID);
        }),
    ];
    for (what, end) in ends {
        let mut r = Raw::small();
        for psn in [1, 2, 4] {
            write(&mut r, PSN + psn);
        }
        assert_eq!(early(&r), [3, 0, 0, 3], "{what}");
        end(&mut r);
        assert_eq!(early(&r), [3, 0, 3, 0], "{what}");
        // And stay so.
        write(&mut r, PSN + 5);
        assert_eq!(early(&r), [3, 0, 3, 0], "{what}");
    }
}

/// Also when it is the connection that ends.
#[test]
fn a_peer_that_goes_gives_its_places_back() {
    let mut p = Pair::new(Setup::small());
    p.listen();
    let (conn_a, qa) = p.request(1000);
    p.run(SECOND / 100);
    let conn_b = p.requests()[0];
    let qb = p.accept(conn_b);
    p.run(SECOND / 100);
    p.a.engine.establish(p.now, conn_a).unwrap();
    p.run(SECOND / 100);
    for i in 0..3 {
        let write = SendOp::Write {
            remote_va: 0,
            rkey: 0,
        };
        p.a.send(p.now, qa, i, write, &[]);
    }
    let frames: Vec<_> = std::iter::from_fn(|| p.a.transmit(p.now)).collect();
    for frame in &frames[1..] {
        p.b.engine.receive(p.now, frame, &mut p.b.memory);
    }
    assert_eq!(p.b.engine.usage().early, 2);
    p.a.engine.disconnect(p.now, conn_a).unwrap();
    p.run_until(SECOND, |p| {
        p.b.events
            .iter()
            .any(|e| matches!(e, Event::Disconnected { .. }))
    });
    assert_eq!(p.b.engine.usage().early, 0);
    assert_eq!(p.b.engine.counters().early_requests_dropped, 2);
    p.b.engine.destroy_qp(p.now, qb).unwrap();
}

#[test]
fn the_pool_is_limited_by_its_configuration() {
    let most = |early_frames| {
        let config = Config {
            early_frames,
            ..Config::default()
        };
        roce::Engine::try_new(&config)
            .unwrap()
            .config()
            .early_frames
    };
    assert_eq!(
        [0, 1, 1024, 1025, u32::MAX].map(most),
        [0, 1, 1024, 1024, 1024]
    );
}
