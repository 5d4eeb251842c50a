//! How long the requester waits: for a receive of the peer, as long as it was told, and for an answer, up to its timeout.

use super::*;
use roce::Event;

#[test]
fn r025_receiver_not_ready_waits_as_long_as_asked() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    write(&mut r, 0, &mr, 8);
    r.host.send(r.now, r.qp, 1, SendOp::Send, &[mr.sge(0, 300)]);
    r.replies();
    // Code 18: 5.12 ms.
    r.acknowledge(PSN + 1, 0x20 | 18);
    assert_eq!(done(&mut r), ok([0]));
    write(&mut r, 2, &mr, 8);
    r.silence();
    r.wait(MS * 5);
    r.silence();
    r.wait(MS);
    assert_eq!(
        r.packets(),
        [
            (SendFirst, PSN + 1),
            (SendLast, PSN + 2),
            (WriteOnly, PSN + 3)
        ]
    );
    r.acknowledge(PSN + 3, ACK);
    assert_eq!(done(&mut r), ok(0..3));
}

/// What the timer code of an RNR NAK means (IBTA 9.7.5.2.8): steps of half a power of two, from 10 us on, and 655.36 ms for 0.
fn rnr_wait(code: u8) -> Duration {
    match code {
        0 => Duration::from_micros(655_360),
        1 => Duration::from_micros(10),
        even if even % 2 == 0 => Duration::from_micros(10 << (even / 2)),
        odd => Duration::from_micros(15 << (odd / 2)),
    }
}

#[test]
fn r025_every_timer_code_is_waited_for() {
    for code in 0..32 {
        let mut r = Raw::small();
        r.host.send(r.now, r.qp, 1, SendOp::Send, &[]);
        r.replies();
        r.acknowledge(PSN, 0x20 | code);
        let wait = rnr_wait(code);
        // It may ask to be called before, but not after.
        let deadline = r.host.engine.next_deadline().unwrap();
        assert!(deadline <= r.now.after(wait), "code {code}");
        r.wait(wait - Duration::from_nanos(1));
        r.silence();
        r.wait(Duration::from_nanos(1));
        assert_eq!(r.packets(), [(SendOnly, PSN)], "code {code}");
    }
}

#[test]
fn r025_rnr_retries_run_out_unless_there_are_seven() {
    for (count, survives) in [(0, 0), (1, 1), (6, 6), (7, 100)] {
        let mut r = Raw::new(Setup {
            rnr_retry_count: count,
            ..Setup::default()
        });
        let mr = r.host.open(vec![0; 1000]);
        r.host.send(r.now, r.qp, 1, SendOp::Send, &[mr.sge(0, 8)]);
        r.host.send(r.now, r.qp, 2, SendOp::Send, &[mr.sge(0, 8)]);
        r.replies();
        for _ in 0..survives {
            r.acknowledge(PSN, 0x21);
            r.wait(MS);
            assert_eq!(r.packets(), [(SendOnly, PSN), (SendOnly, PSN + 1)]);
        }
        assert_eq!(done(&mut r), []);
        if count < 7 {
            r.acknowledge(PSN, 0x21);
            assert_eq!(
                done(&mut r),
                [(1, Status::RnrRetryExceeded), (2, Status::Flushed)]
            );
            r.wait(SECOND);
            r.silence();
        }
    }
}

/// An adapter that finds a page absent in the middle of a WRITE says so, and drops what follows.
#[test]
fn a_page_that_is_absent_in_the_middle_of_a_write_is_waited_for() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 256 * 64]);
    write(&mut r, 0, &mr, 256 * 64);
    assert_eq!(r.packets().len(), 64);
    for absent in [17, 40] {
        // Code 18: 5.12 ms.
        r.acknowledge(PSN + absent, 0x20 | 18);
        r.wait(MS * 5);
        r.silence();
        r.wait(MS);
        // What it has it acknowledges, as far as it got.
        assert_eq!(r.packets()[0].1, PSN + if absent == 40 { 17 } else { 0 });
        r.acknowledge(PSN + absent - 1, ACK);
    }
    r.acknowledge(PSN + 63, ACK);
    assert_eq!(done(&mut r), ok([0]));
    assert_eq!(r.host.engine.counters().timeouts, 0);
}

#[test]
fn r026_a_sequence_nak_behind_an_rnr_nak_means_nothing() {
    // Without a timeout a sequence NAK takes a retry.
    for ack_timeout in [Setup::default().ack_timeout, 0] {
        let mut r = Raw::new(Setup {
            retry_count: 1,
            ack_timeout,
            mtu: PathMtu::Mtu256,
            ..Setup::default()
        });
        let mr = r.host.open(vec![0; 1000]);
        for i in 0..3 {
            r.host.send(r.now, r.qp, i, SendOp::Send, &[mr.sge(0, 8)]);
        }
        r.replies();
        r.acknowledge(PSN, 0x20 | 18);
        for _ in 0..5 {
            r.acknowledge(PSN, SEQUENCE);
            r.acknowledge(PSN, 0x21);
        }
        r.silence();
        r.wait(MS * 4);
        r.silence();
        r.wait(MS * 2);
        assert_eq!(r.packets().len(), 3);
        // The retry is still there.
        r.wait(MS);
        r.acknowledge(PSN, SEQUENCE);
        assert_eq!(r.packets(), [(SendOnly, PSN)]);
        assert_eq!(done(&mut r), []);
    }
}

#[test]
fn r027_timeouts_resend_and_run_out() {
    let mut r = Raw::new(Setup {
        retry_count: 3,
        mtu: PathMtu::Mtu256,
        ..Setup::default()
    });
    let mr = r.host.open(vec![0; 1000]);
    write(&mut r, 0, &mr, 300);
    write(&mut r, 1, &mr, 8);
    r.replies();
    for wait in [T, 2 * T, 4 * T] {
        r.wait(wait - Duration::from_micros(1));
        r.silence();
        r.wait(Duration::from_micros(1));
        assert_eq!(
            r.packets(),
            [
                (WriteFirst, PSN),
                (WriteLast, PSN + 1),
                (WriteOnly, PSN + 2)
            ]
        );
    }
    assert_eq!(done(&mut r), []);
    // Four times is as long as it gets.
    r.wait(4 * T);
    assert_eq!(
        done(&mut r),
        [(0, Status::RetryExceeded), (1, Status::Flushed)]
    );
    r.wait(SECOND);
    r.silence();
    assert_eq!(r.host.engine.next_deadline(), None);
    let doubted = Event::PathDoubted { qp: r.qp };
    let fatal = Event::QpFatal {
        qp: r.qp,
        status: Status::RetryExceeded,
    };
    assert_eq!(r.host.events, [doubted, fatal]);
}

#[test]
fn r027_progress_restores_the_retries_and_restarts_the_timer() {
    let mut r = Raw::new(Setup {
        retry_count: 1,
        mtu: PathMtu::Mtu256,
        ..Setup::default()
    });
    let mr = r.host.open(vec![0; 2000]);
    write(&mut r, 0, &mr, 1500);
    r.replies();
    r.wait(T);
    for i in 0..5 {
        assert_eq!(r.packets().len(), 6 - i as usize);
        r.wait(T / 2);
        r.acknowledge(PSN + i, ACK);
        r.wait(T - Duration::from_micros(1));
        r.silence();
        r.wait(Duration::from_micros(1));
    }
    assert_eq!(done(&mut r), []);
}

#[test]
fn r027_timeout_code_zero_never_expires() {
    let mut r = Raw::new(Setup {
        ack_timeout: 0,
        ..Setup::default()
    });
    let mr = r.host.open(vec![0; 1000]);
    write(&mut r, 0, &mr, 300);
    r.replies();
    assert_eq!(r.host.engine.next_deadline(), None);
    r.wait(SECOND * 1000);
    r.silence();
}

/// What is lost in a queue that this side fills itself is lost again and again within a few round trips: the peer is there all the while.
#[test]
fn a_packet_may_be_missed_more_often_than_there_are_retries() {
    for retry_count in [0, 1, 7] {
        let mut r = Raw::new(Setup {
            retry_count,
            ..Setup::small()
        });
        let mr = r.host.open(vec![0; 1000]);
        write(&mut r, 0, &mr, 1000);
        assert_eq!(r.packets().len(), 4);
        for _ in 0..20 {
            r.wait(MS / 8);
            r.acknowledge(PSN, SEQUENCE);
            assert_eq!(r.packets()[0], (WriteFirst, PSN));
        }
        r.acknowledge(PSN + 3, ACK);
        assert_eq!(done(&mut r), ok([0]));
        assert_eq!(r.host.engine.counters().timeouts, 0);
    }
}

/// But if nothing ever arrives, that it is missed does not put off the end: it comes with the retries, as it does in silence.
#[test]
fn r027_a_peer_that_misses_one_packet_for_ever_is_given_up() {
    for retry_count in [0u8, 1, 7] {
        let mut r = Raw::new(Setup {
            retry_count,
            ..Setup::small()
        });
        let mr = r.host.open(vec![0; 1000]);
        write(&mut r, 0, &mr, 1000);
        let begin = r.now;
        while done(&mut r).is_empty() {
            r.packets();
            r.wait(MS / 8);
            r.acknowledge(PSN, SEQUENCE);
        }
        assert_eq!(done(&mut r), [(0, Status::RetryExceeded)]);
        let timeouts = u32::from(retry_count) + 1;
        assert_eq!(r.host.engine.counters().timeouts, timeouts.into());
        // Each begins with the first packet that is sent after the one before.
        let lasts: Duration = (0..timeouts).map(|i| T * (1 << i.min(2))).sum();
        let took = r.now.since(begin);
        assert!(
            took >= lasts && took < lasts + timeouts * MS / 4,
            "{took:?}"
        );
    }
}

#[test]
fn r025_progress_restores_the_rnr_retries() {
    let mut r = Raw::new(Setup {
        rnr_retry_count: 1,
        ..Setup::default()
    });
    let mr = r.host.open(vec![0; 1000]);
    for i in 0..4 {
        r.host.send(r.now, r.qp, i, SendOp::Send, &[mr.sge(0, 8)]);
    }
    r.replies();
    for i in 0..4 {
        r.acknowledge(PSN + i, 0x21);
        r.wait(MS);
        assert_eq!(r.packets().len(), 4 - i as usize);
    }
    assert_eq!(done(&mut r), ok(0..3));
    r.acknowledge(PSN + 3, 0x21);
    assert_eq!(done(&mut r)[3..], [(3, Status::RnrRetryExceeded)]);
}

/// The peer has executed what it had asked this side to wait with: a receive was posted, and a copy of the packet came late.
#[test]
fn r025_an_acknowledgement_ends_the_wait_for_a_receive() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    for i in 0..3 {
        r.host.send(r.now, r.qp, i, SendOp::Send, &[mr.sge(0, 8)]);
    }
    r.replies();
    // Code 18: 5.12 ms.
    r.acknowledge(PSN, 0x20 | 18);
    r.silence();
    r.acknowledge(PSN, ACK);
    assert_eq!(done(&mut r), ok([0]));
    assert_eq!(r.packets(), [(SendOnly, PSN + 1), (SendOnly, PSN + 2)]);
    // The timer is one for acknowledgements again: code 10, 4.2 ms.
    r.wait(MS * 4);
    r.silence();
    r.wait(MS);
    assert_eq!(r.packets().len(), 2);
    assert_eq!(r.host.engine.counters().timeouts, 1);
    r.acknowledge(PSN + 2, ACK);
    assert_eq!(done(&mut r), ok(0..3));
    r.wait(SECOND);
    r.silence();
    assert_eq!(r.host.engine.next_deadline(), None);
}

/// The shortest and the longest timeout: 8.192 us and 2.4 hours, and none at all for code 0.
#[test]
fn r027_the_timeout_is_what_its_code_says() {
    for (code, nanos) in [(1u8, 8_192u64), (31, 4096 << 31)] {
        let mut r = Raw::new(Setup {
            ack_timeout: code,
            ..Setup::default()
        });
        r.host.send(r.now, r.qp, 1, SendOp::Send, &[]);
        r.replies();
        assert_eq!(
            r.host.engine.next_deadline(),
            Some(r.now.after_nanos(nanos)),
            "code {code}"
        );
        r.wait(Duration::from_nanos(nanos - 1));
        r.silence();
        r.wait(Duration::from_nanos(1));
        assert_eq!(r.packets(), [(SendOnly, PSN)]);
        r.acknowledge(PSN, ACK);
        assert_eq!(done(&mut r), ok([1]));
    }
}
