//! Stories of a wire that does not deliver.

use crate::util::random::{Witness, seeds};
use crate::util::*;
use roce::wire::Opcode::*;
use roce::{Event, SendOp, Status};
use std::time::Duration;

/// Drops the `n`-th frame (from 0) that `from` sends.
fn drop_nth(p: &mut Pair, victim: Side, n: usize) {
    let mut seen = 0;
    p.net.script = Box::new(move |from, _| {
        if from != victim {
            return Fate::Pass;
        }
        seen += 1;
        if seen == n + 1 {
            Fate::Drop
        } else {
            Fate::Pass
        }
    });
}

/// One of each, over several packets; then whatever frame is lost, everything arrives.
#[test]
fn any_one_frame_may_be_lost_delayed_or_doubled() {
    for victim in [Side::A, Side::B] {
        for n in 0..14 {
            for kind in 0..3 {
                let (mut p, qa, qb) = Pair::attached(Setup::small());
                let src = p.a.open(pattern(900, 1));
                let sink = p.a.open(vec![0; 900]);
                let received = p.b.open(vec![0; 900]);
                let written = p.b.open(vec![0; 900]);
                let source = p.b.open(pattern(900, 2));
                let mut seen = 0;
                p.net.script = Box::new(move |from, _| {
                    seen += usize::from(from == victim);
                    match kind {
                        _ if from != victim || seen != n + 1 => Fate::Pass,
                        0 => Fate::Drop,
                        1 => Fate::Twice,
                        _ => Fate::Delay(Duration::from_micros(50)),
                    }
                });
                p.b.engine
                    .post_recv(p.now, qb, 1, &[received.all()])
                    .unwrap();
                p.a.send(p.now, qa, 1, SendOp::Send, &[src.all()]);
                p.a.send(p.now, qa, 2, source.read(), &[sink.all()]);
                p.a.send(p.now, qa, 3, written.write(), &[src.all()]);
                p.run(SECOND);
                let what = format!("frame {n} of {victim:?}, kind {kind}");
                assert_eq!(
                    outcomes(&p.a.completions),
                    [1, 2, 3].map(|i| (i, Status::Success)),
                    "{what}"
                );
                assert_eq!(outcomes(&p.b.completions), [(1, Status::Success)], "{what}");
                assert_eq!(p.b.bytes(&received), p.a.bytes(&src), "{what}");
                assert_eq!(p.b.bytes(&written), p.a.bytes(&src), "{what}");
                assert_eq!(p.a.bytes(&sink), p.b.bytes(&source), "{what}");
            }
        }
    }
}

#[test]
fn r023_a_lost_middle_packet_is_recovered_by_a_nak_without_waiting() {
    let (mut p, qa, _) = Pair::attached(Setup::small());
    let src = p.a.open(pattern(2000, 1));
    let dst = p.b.open(vec![0; 2000]);
    drop_nth(&mut p, Side::A, 3);
    p.a.send(p.now, qa, 1, dst.write(), &[src.all()]);
    let start = p.now;
    p.run_until(SECOND, |p| !p.a.completions.is_empty());
    assert!(p.now.since(start) < Duration::from_micros(100));
    assert_eq!(p.b.bytes(&dst), p.a.bytes(&src));
    assert_eq!(p.a.engine.counters().timeouts, 0);
    assert_eq!(p.a.engine.counters().rx_sequence_naks, 1);
    assert_eq!(p.b.engine.counters().tx_sequence_naks, 1);
}

#[test]
fn r030_lost_read_data_is_asked_for_again_without_waiting() {
    let (mut p, qa, _) = Pair::attached(Setup::small());
    let sink = p.a.open(vec![0; 2000]);
    let src = p.b.open(pattern(2000, 1));
    drop_nth(&mut p, Side::B, 3);
    p.a.send(p.now, qa, 1, src.read(), &[sink.all()]);
    let start = p.now;
    p.run_until(SECOND, |p| !p.a.completions.is_empty());
    assert!(p.now.since(start) < Duration::from_micros(100));
    assert_eq!(p.a.bytes(&sink), p.b.bytes(&src));
    let asked: Vec<_> = p
        .log
        .iter()
        .filter(|s| s.op == ReadRequest)
        .map(|s| s.reth.unwrap())
        .collect();
    assert_eq!(
        (asked.len(), asked[1].va - asked[0].va, asked[1].len),
        (2, 768, 256)
    );
}

#[test]
fn lost_acknowledgements_cost_a_timeout_and_nothing_else() {
    let (mut p, qa, qb) = Pair::attached(Setup::small());
    let dst = p.b.open(vec![0; 100]);
    let src = p.a.open(pattern(100, 1));
    p.b.engine.post_recv(p.now, qb, 1, &[dst.all()]).unwrap();
    p.b.engine.post_recv(p.now, qb, 2, &[dst.all()]).unwrap();
    drop_nth(&mut p, Side::B, 0);
    p.a.send(p.now, qa, 1, SendOp::Send, &[src.all()]);
    p.run(SECOND);
    assert_eq!(outcomes(&p.a.completions), [(1, Status::Success)]);
    assert_eq!(
        outcomes(&p.b.completions),
        [(1, Status::Success)],
        "delivered once"
    );
    assert_eq!(p.a.engine.counters().timeouts, 1);
}

#[test]
fn r049_a_sender_waits_for_a_late_receive() {
    let (mut p, qa, qb) = Pair::attached(Setup::small());
    let dst = p.b.open(vec![0; 600]);
    let src = p.a.open(pattern(600, 1));
    for i in 0..3 {
        p.a.send(p.now, qa, i, SendOp::Send, &[src.all()]);
    }
    p.run(Duration::from_millis(3));
    assert_eq!((p.a.completions.len(), p.b.completions.len()), (0, 0));
    assert!(p.b.engine.counters().tx_rnr_naks >= 3);
    assert_eq!(p.b.engine.counters().tx_sequence_naks, 0);
    for i in 0..3 {
        p.b.engine.post_recv(p.now, qb, i, &[dst.all()]).unwrap();
        p.run(Duration::from_millis(3));
        assert_eq!(p.b.completions.len(), 1 + i as usize);
    }
    assert_eq!(
        outcomes(&p.a.completions),
        [0, 1, 2].map(|i| (i, Status::Success))
    );
    assert_eq!(p.a.engine.counters().timeouts, 0);
    assert_eq!(p.b.bytes(&dst), p.a.bytes(&src));
}

#[test]
fn a_peer_that_falls_silent_is_given_up_on_both_kinds_of_request() {
    for read in [false, true] {
        let (mut p, qa, _) = Pair::attached(Setup::small());
        let mr = p.a.open(pattern(600, 1));
        let remote = p.b.open(vec![0; 600]);
        let (remote_va, rkey) = (remote.va, remote.key.0);
        p.net.script = Box::new(|_, _| Fate::Drop);
        let op = if read {
            SendOp::Read { remote_va, rkey }
        } else {
            SendOp::Write { remote_va, rkey }
        };
        p.a.send(p.now, qa, 1, op, &[mr.all()]);
        p.a.send(p.now, qa, 2, SendOp::Send, &[]);
        p.a.engine.post_recv(p.now, qa, 3, &[]).unwrap();
        p.run(SECOND);
        let want = [
            (1, Status::RetryExceeded),
            (2, Status::Flushed),
            (3, Status::Flushed),
        ];
        assert_eq!(outcomes(&p.a.completions), want);
        let status = Status::RetryExceeded;
        assert_eq!(
            p.a.events,
            [
                Event::PathDoubted { qp: qa },
                Event::QpFatal { qp: qa, status }
            ]
        );
        // The first try and seven more.
        assert_eq!(p.a.engine.counters().timeouts, 8);
    }
}

/// Every burst that is sent again comes in another order, and draws more NAKs: they take no retries.
#[test]
fn mere_reordering_ends_no_connection_where_nothing_early_is_kept() {
    for seed in seeds(100) {
        let _witness = Witness(seed);
        let mut setup = Setup {
            ack_timeout: 11,
            ..Setup::small()
        };
        setup.config.early_frames = 0;
        let (mut p, qa, qb) = Pair::attached(setup);
        p.net = Network::new(seed);
        let jitter = Duration::from_nanos(3000 + seed % 100 * 600);
        p.net.set_weather_from(
            Side::A,
            Weather {
                jitter,
                ..Weather::CALM
            },
        );
        let src = p.a.open(pattern(8705, 1));
        let dst = p.b.open(vec![0; 8705]);
        p.b.engine.post_recv(p.now, qb, 1, &[dst.all()]).unwrap();
        p.a.send(p.now, qa, 1, SendOp::Send, &[src.all()]);
        p.run(SECOND);
        let done = outcomes(&p.a.completions);
        assert_eq!(done, [(1, Status::Success)]);
        assert_eq!(p.b.bytes(&dst), p.a.bytes(&src));
    }
}

/// The connection of one queue pair dies; its neighbours notice nothing.
#[test]
fn nothing_on_the_wire_moves_another_queue_pair() {
    let mut p = Pair::new(Setup::small());
    let (bad_a, _) = p.attach();
    let (good_a, good_b) = p.attach();
    let dst = p.b.open(vec![0; 100]);
    let src = p.a.open(pattern(100, 1));
    p.a.send(
        p.now,
        bad_a,
        1,
        SendOp::Write {
            remote_va: dst.va,
            rkey: !0,
        },
        &[src.all()],
    );
    p.b.engine
        .post_recv(p.now, good_b, 2, &[dst.all()])
        .unwrap();
    p.a.send(p.now, good_a, 3, SendOp::Send, &[src.all()]);
    p.run(SECOND);
    assert_eq!(p.a.completions.len(), 2);
    assert!(outcomes(&p.a.completions).contains(&(1, Status::RemoteAccess)));
    assert!(outcomes(&p.a.completions).contains(&(3, Status::Success)));
    assert_eq!(p.b.bytes(&dst), p.a.bytes(&src));
    assert_eq!(p.b.events.len(), 1);
}

#[test]
fn a_storm_of_corruption_delivers_nothing_wrong() {
    let (mut p, qa, qb) = Pair::attached(Setup::small());
    p.net.set_weather(Weather {
        corruption: 300,
        ..Weather::CALM
    });
    let dst = p.b.open(vec![0; 20_000]);
    let src = p.a.open(pattern(20_000, 1));
    p.b.engine.post_recv(p.now, qb, 1, &[dst.all()]).unwrap();
    p.a.send(p.now, qa, 1, SendOp::Send, &[src.all()]);
    p.run(SECOND * 10);
    assert_eq!(outcomes(&p.a.completions), [(1, Status::Success)]);
    assert_eq!(p.b.bytes(&dst), p.a.bytes(&src));
    let c = p.b.engine.counters();
    assert!(c.drop_icrc > 0 && c.drop_icrc < c.rx_frames, "{c:?}");
}
