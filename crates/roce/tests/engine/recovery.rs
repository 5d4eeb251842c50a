//! What is sent again when packets are lost, and when.

mod reads;
mod streams;

use crate::util::raw::syndrome::*;
use crate::util::raw::{PSN, Raw};
use crate::util::*;
use roce::{SendOp, Status};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

/// Ack timeout code 10: 4.096 us * 1024.
const T: Duration = Duration::from_nanos(4096 << 10);

const REMOTE: SendOp = SendOp::Write {
    remote_va: 0x7000,
    rkey: 0x99,
};

/// WRITEs of one packet each, so many.
fn post(r: &mut Raw, n: u32) {
    let mr = r.host.open(vec![0; 8]);
    for _ in 0..n {
        r.host.send(r.now, r.qp, 1, REMOTE, &[mr.all()]);
    }
}

/// A connection on which one packet was sent and acknowledged, with this round trip: the next has the PSN after it.
fn with_round_trip(setup: Setup, time: Duration) -> Raw {
    let mut r = Raw::new(setup);
    post(&mut r, 1);
    assert_eq!(r.packets().len(), 1);
    r.wait(time);
    r.acknowledge(PSN, ACK);
    r.host.collect();
    r.host.completions.clear();
    r
}

/// PSNs of what is sent now.
fn psns(r: &mut Raw) -> Vec<u32> {
    r.replies().iter().map(|p| p.psn - PSN).collect()
}

fn done(r: &mut Raw) -> usize {
    r.host.collect();
    r.host.completions.len()
}

#[test]
fn of_a_peer_that_keeps_early_packets_only_the_missing_one_is_asked_again() {
    let mut setup = Setup::small();
    setup.config.send_window = 8;
    let mut r = Raw::new(setup);
    post(&mut r, 60);
    assert_eq!(psns(&mut r), (0..8).collect::<Vec<_>>());
    // The first time nobody knows: no more than the window is under way.
    r.acknowledge(PSN + 2, SEQUENCE);
    assert_eq!(psns(&mut r), [2, 8, 9]);
    r.acknowledge(PSN + 9, ACK);
    assert_eq!(psns(&mut r), (10..18).collect::<Vec<_>>());
    // Now it is known to keep what comes early: twice the window, counted from what is missing.
    r.acknowledge(PSN + 11, SEQUENCE);
    assert_eq!(
        psns(&mut r),
        [11].into_iter().chain(18..27).collect::<Vec<_>>()
    );
    r.silence();
    // The next gap is behind what had been sent when the first came out.
    r.acknowledge(PSN + 20, ACK);
    r.acknowledge(PSN + 21, SEQUENCE);
    let now = psns(&mut r);
    assert_eq!(now[0], 21);
    assert!(now[1..].iter().all(|psn| *psn >= 27));
    let c = *r.host.engine.counters();
    assert_eq!((c.mended, c.retransmissions), (3, 0));
}

#[test]
fn of_a_peer_that_keeps_nothing_it_is_asked_once() {
    for nak in [false, true] {
        let mut r = Raw::small();
        post(&mut r, 10);
        assert_eq!(r.packets().len(), 10);
        r.acknowledge(PSN + 2, SEQUENCE);
        assert_eq!(psns(&mut r), [2]);
        // Whether it says so by an acknowledgement of that one packet, or misses the next.
        if nak {
            r.acknowledge(PSN + 3, SEQUENCE);
        } else {
            r.acknowledge(PSN + 2, ACK);
        }
        assert_eq!(psns(&mut r), (3..10).collect::<Vec<_>>());
        r.acknowledge(PSN + 6, SEQUENCE);
        assert_eq!(psns(&mut r), (6..10).collect::<Vec<_>>());
        r.acknowledge(PSN + 9, ACK);
        assert_eq!(done(&mut r), 10);
        assert_eq!(r.host.engine.counters().mended, 1);
    }
}

/// Two neighbours are lost now and then: no reason to take the peer for one that keeps nothing.
#[test]
fn a_peer_that_has_kept_packets_is_forgiven() {
    let mut r = Raw::small();
    post(&mut r, 60);
    assert_eq!(r.packets().len(), 60);
    r.acknowledge(PSN + 2, SEQUENCE);
    assert_eq!(psns(&mut r), [2]);
    let mut missing = 10;
    for _ in 0..3 {
        r.acknowledge(PSN + missing, SEQUENCE);
        assert_eq!(psns(&mut r), [missing]);
        r.acknowledge(PSN + missing, ACK);
        assert_eq!(psns(&mut r), (missing + 1..60).collect::<Vec<_>>());
        missing += 3;
    }
    r.acknowledge(PSN + 30, SEQUENCE);
    assert_eq!(psns(&mut r), [30]);
    r.acknowledge(PSN + 59, ACK);
    assert_eq!(done(&mut r), 60);
}

/// What was sent before a packet was sent again can say nothing of that.
#[test]
fn a_nak_that_comes_again_within_the_round_trip_is_no_news() {
    let mut r = with_round_trip(Setup::small(), MS);
    post(&mut r, 10);
    assert_eq!(r.packets().len(), 10);
    r.wait(MS);
    for _ in 0..5 {
        r.acknowledge(PSN + 1, SEQUENCE);
        r.wait(MS / 10);
    }
    assert_eq!(psns(&mut r), [1]);
    for _ in 0..5 {
        r.acknowledge(PSN + 1, SEQUENCE);
        r.wait(MS / 10);
    }
    r.silence();
    r.wait(MS / 2);
    r.acknowledge(PSN + 1, SEQUENCE);
    assert_eq!(psns(&mut r), [1], "that is another");
    assert_eq!(r.host.engine.counters().probes, 0);
}

#[test]
fn silence_is_broken_after_two_round_trips_and_takes_no_retry() {
    for retry_count in [0, 2] {
        let setup = Setup {
            retry_count,
            ack_timeout: 12,
            ..Setup::small()
        };
        let timeout = 4 * T;
        let mut r = with_round_trip(setup, MS);
        post(&mut r, 3);
        assert_eq!(psns(&mut r), [1, 2, 3]);
        let mut passed = Duration::ZERO;
        // Twice as long each time, for the packet that may be the only one missing.
        for wait in [2, 4, 8] {
            r.wait(wait * MS - MS / 100);
            r.silence();
            r.wait(MS / 100);
            let again = r.replies();
            assert_eq!(again.len(), 1);
            assert_eq!((again[0].psn, again[0].ack_request), (PSN + 1, true));
            passed += wait * MS;
        }
        // The timeout is where it would be, and so is what follows.
        assert_eq!(r.host.engine.counters().timeouts, 0);
        r.wait(timeout - passed - MS / 100);
        r.silence();
        r.wait(MS / 100);
        assert_eq!(r.host.engine.counters().timeouts, 1);
        for doubled in [2, 4].into_iter().take(retry_count.into()) {
            assert_eq!(psns(&mut r), [1, 2, 3]);
            r.wait(doubled * timeout - MS / 100);
            r.silence();
            r.wait(MS / 100);
        }
        r.host.collect();
        let ends = [Status::RetryExceeded, Status::Flushed, Status::Flushed];
        let statuses: Vec<_> = r.host.completions.iter().map(|c| c.status).collect();
        assert_eq!(statuses, ends);
        assert_eq!(r.host.engine.counters().probes, 3);
        assert_eq!(r.host.engine.next_deadline(), None);
    }
}

#[test]
fn only_a_measured_round_trip_makes_silence_suspicious() {
    // Nothing has come back yet; or only for what was sent twice.
    for again in [false, true] {
        let mut r = Raw::small();
        if again {
            post(&mut r, 1);
            assert_eq!(r.packets().len(), 1);
            r.wait(T);
            assert_eq!(r.packets().len(), 1);
            r.acknowledge(PSN, ACK);
        }
        post(&mut r, 3);
        assert_eq!(r.packets().len(), 3);
        r.wait(T - Duration::from_nanos(1));
        r.silence();
        assert_eq!(r.host.engine.counters().probes, 0);
    }
    // A machine may take a moment, however short the way.
    let mut r = with_round_trip(Setup::small(), Duration::from_micros(2));
    post(&mut r, 3);
    assert_eq!(r.packets().len(), 3);
    r.wait(Duration::from_micros(99));
    r.silence();
    r.wait(Duration::from_micros(1));
    assert_eq!(psns(&mut r), [1]);
    // Nothing is asked while the peer wants to be left alone: code 18, 5.12 ms.
    r.acknowledge(PSN + 1, 0x20 | 18);
    r.wait(5 * MS);
    r.silence();
    r.wait(MS);
    assert_eq!(psns(&mut r), [1, 2, 3]);
}

/// The probe is answered for its own packet only: the tail is lost, or the peer is slow to say more.
#[test]
fn a_lost_tail_is_sent_again_when_the_first_of_it_has_arrived_alone() {
    for slow in [false, true] {
        let mut r = with_round_trip(Setup::small(), MS);
        post(&mut r, 4);
        assert_eq!(r.packets().len(), 4);
        r.wait(2 * MS);
        assert_eq!(psns(&mut r), [1]);
        r.wait(MS);
        r.acknowledge(PSN + 1, ACK);
        r.silence();
        if slow {
            r.acknowledge(PSN + 2, ACK);
        }
        r.wait(MS / 2);
        let want: &[u32] = if slow { &[] } else { &[2, 3, 4] };
        assert_eq!(psns(&mut r), want);
        r.acknowledge(PSN + 4, ACK);
        assert_eq!(done(&mut r), 4);
        r.wait(SECOND);
        r.silence();
    }
}

/// WRITEs of one packet each, from this memory.
fn post_from(r: &mut Raw, mr: &Mr, n: u32) {
    for _ in 0..n {
        r.host.send(r.now, r.qp, 1, REMOTE, &[mr.all()]);
    }
}

/// A WRITE of so many packets of 256 bytes.
fn post_write(r: &mut Raw, packets: usize) {
    let mr = r.host.open(vec![0; 256 * packets]);
    r.host.send(r.now, r.qp, 1, REMOTE, &[mr.all()]);
}

/// On an idle connection answers came at once; under load each takes its time, and none is lost.
#[test]
fn a_peer_that_becomes_slow_is_not_taken_for_one_that_loses() {
    let micros = Duration::from_micros;
    let mut r = with_round_trip(Setup::small(), micros(50));
    post(&mut r, 60);
    let mut sent = r.packets().len();
    assert_eq!(sent, 60);
    for i in 1..=60 {
        // What is due meanwhile is sent.
        for _ in 0..30 {
            r.wait(micros(10));
            sent += r.packets().len();
        }
        r.acknowledge(PSN + i, ACK);
    }
    assert_eq!(done(&mut r), 60);
    let again = sent - 60;
    assert!(again <= 12, "{again} packets were sent twice");
    assert_eq!(r.host.engine.counters().retransmissions, 0);
}

/// Of one that seemed to keep nothing when two neighbours were lost, single packets are asked for again later on.
#[test]
fn a_peer_that_seemed_to_keep_nothing_is_tried_again() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 8]);
    let mut alone = Vec::new();
    let mut psn = PSN;
    for loss in 0..40 {
        post_from(&mut r, &mr, 5);
        assert_eq!(r.packets().len(), 5);
        r.acknowledge(psn + 1, SEQUENCE);
        if r.packets().len() == 1 {
            alone.push(loss);
            r.acknowledge(psn + 1, ACK);
            assert_eq!(r.packets().len(), 3);
        }
        psn += 5;
        r.acknowledge(psn - 1, ACK);
        r.host.collect();
    }
    assert_eq!(alone, [0, 5, 14, 31]);
    // Then it does keep them.
    for loss in 0..40 {
        post_from(&mut r, &mr, 5);
        assert_eq!(r.packets().len(), 5);
        r.acknowledge(psn + 1, SEQUENCE);
        let again = r.packets().len();
        assert_eq!(again == 1, loss >= 24, "{loss}");
        psn += 5;
        r.acknowledge(psn - 1, ACK);
        r.host.collect();
    }
}
