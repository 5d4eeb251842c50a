//! The requester, packet by packet: what acknowledgements, NAKs, silence and nonsense do to it.

use crate::util::raw::syndrome::*;
use crate::util::raw::{PSN, Raw};
use crate::util::*;
use roce::wire::Opcode::*;
use roce::wire::Reth;
use roce::{Event, PathMtu, SendFlags, SendOp, Status};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
/// Ack timeout code 10: 4.096 us * 1024.
const T: Duration = Duration::from_nanos(4096 << 10);
const REMOTE: SendOp = SendOp::Write {
    remote_va: 0x7000,
    rkey: 0x99,
};

fn write(r: &mut Raw, context: u64, mr: &Mr, len: u32) {
    r.host.send(r.now, r.qp, context, REMOTE, &[mr.sge(0, len)]);
}

fn read(r: &mut Raw, context: u64, mr: &Mr, len: u32) {
    let op = SendOp::Read {
        remote_va: 0x7000,
        rkey: 0x99,
    };
    r.host.send(r.now, r.qp, context, op, &[mr.sge(0, len)]);
}

fn done(r: &mut Raw) -> Vec<(u64, Status)> {
    r.host.collect();
    outcomes(&r.host.completions)
}

fn ok(contexts: impl IntoIterator<Item = u64>) -> Vec<(u64, Status)> {
    contexts.into_iter().map(|c| (c, Status::Success)).collect()
}

/// What the peer would answer to a READ.
fn data(from: usize, len: usize) -> Vec<u8> {
    pattern(4096, 5)[from..from + len].to_vec()
}

#[test]
fn r019_an_acknowledgement_covers_everything_before_it() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    for i in 0..4 {
        write(&mut r, i, &mr, 300);
    }
    r.replies();
    r.acknowledge(PSN + 1, ACK);
    assert_eq!(done(&mut r), ok([0]));
    // Into the middle of the third.
    r.acknowledge(PSN + 4, ACK);
    assert_eq!(done(&mut r), ok([0, 1]));
    r.acknowledge(PSN + 7, ACK);
    assert_eq!(done(&mut r), ok(0..4));
    assert_eq!(r.host.engine.counters().retransmissions, 0);
    r.wait(SECOND);
    r.silence();
}

#[test]
fn r020_r021_acknowledgements_of_the_past_and_of_the_future_are_ignored() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    write(&mut r, 0, &mr, 8);
    write(&mut r, 1, &mr, 8);
    r.replies();
    for psn in [PSN + 2, PSN + 100, PSN + 0x7f_ffff, PSN - 1, PSN - 50, 0] {
        for syndrome in [ACK, SEQUENCE, 0x61, 0x62, 0x2c] {
            r.acknowledge(psn, syndrome);
        }
    }
    assert_eq!(done(&mut r), []);
    r.acknowledge(PSN, ACK);
    r.acknowledge(PSN, ACK);
    r.acknowledge(PSN, 0x62);
    assert_eq!(done(&mut r), ok([0]));
    // Reserved syndromes.
    r.acknowledge(PSN + 1, 0x40);
    r.acknowledge(PSN + 1, 0xe0);
    r.acknowledge(PSN + 1, 0x64);
    r.acknowledge(PSN + 1, 0x7f);
    assert_eq!(done(&mut r), ok([0]));
    r.acknowledge(PSN + 1, ACK);
    assert_eq!(done(&mut r), ok([0, 1]));
    r.silence();
}

/// Neither does it say how the peer counts messages, whatever number it has.
#[test]
fn a_syndrome_that_means_nothing_is_dropped_and_counted() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 8]);
    for i in 0..2 {
        write(&mut r, i, &mr, 8);
    }
    r.replies();
    for (dropped, syndrome) in (1..).zip([0x40, 0xe0, 0x64, 0x7f]) {
        let aeth = roce::wire::Aeth {
            syndrome: roce::wire::Syndrome::from_u8(syndrome),
            msn: 77,
        };
        r.respond_with(Acknowledge, PSN, Some(aeth), &[]);
        let c = r.host.engine.counters();
        assert_eq!(c.drop_unexpected_response, dropped);
        assert_eq!(c.drop_wrong_msn, 0);
    }
    // It counts as this side does: what does not is refused.
    r.acknowledge(PSN, ACK);
    let made_up = roce::wire::Aeth {
        msn: 77,
        ..r.aeth(PSN + 1, 0x62)
    };
    r.respond_with(Acknowledge, PSN + 1, Some(made_up), &[]);
    assert_eq!(r.host.engine.counters().drop_wrong_msn, 1);
    r.acknowledge(PSN + 1, ACK);
    assert_eq!(done(&mut r), ok([0, 1]));
}

#[test]
fn r022_an_acknowledgement_beyond_a_read_asks_for_it_again() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    write(&mut r, 0, &mr, 8);
    read(&mut r, 1, &mr, 300);
    write(&mut r, 2, &mr, 8);
    r.replies();
    r.acknowledge(PSN + 3, ACK);
    assert_eq!(done(&mut r), ok([0]));
    // What is behind it has been executed, as it says.
    assert_eq!(r.packets(), [(ReadRequest, PSN + 1)]);
    // Once is enough until something moves.
    r.acknowledge(PSN + 3, ACK);
    r.silence();
    r.respond(ReadResponseFirst, PSN + 1, Some(ACK), &data(0, 256));
    r.respond(ReadResponseLast, PSN + 2, Some(ACK), &data(256, 44));
    r.acknowledge(PSN + 3, ACK);
    assert_eq!(done(&mut r), ok(0..3));
    assert_eq!(r.host.bytes(&mr)[..300], data(0, 300));
}

#[test]
fn read_responses_acknowledge_what_came_before_them() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    write(&mut r, 0, &mr, 8);
    read(&mut r, 1, &mr, 100);
    read(&mut r, 2, &mr, 100);
    r.replies();
    r.respond(ReadResponseOnly, PSN + 1, Some(ACK), &data(0, 100));
    assert_eq!(done(&mut r), ok([0, 1]));
}

#[test]
fn r023_r024_a_sequence_nak_resumes_at_its_psn() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    write(&mut r, 0, &mr, 8);
    write(&mut r, 1, &mr, 1000);
    r.replies();
    r.acknowledge(PSN + 3, SEQUENCE);
    assert_eq!(
        done(&mut r),
        ok([0]),
        "what the NAK does not name has arrived"
    );
    let again = r.replies();
    let seen: Vec<_> = again.iter().map(|x| (x.op, x.psn, x.reth)).collect();
    assert_eq!(seen, [(WriteMiddle, PSN + 3, None)]);
    assert!(again[0].ack_request);
    assert_eq!(again[0].payload, r.host.bytes(&mr)[512..768]);
    // That was all that was there: the rest has to come again.
    r.acknowledge(PSN + 3, ACK);
    assert_eq!(r.packets(), [(WriteLast, PSN + 4)]);
    r.acknowledge(PSN + 4, ACK);
    assert_eq!(done(&mut r), ok([0, 1]));

    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    write(&mut r, 0, &mr, 300);
    r.replies();
    r.acknowledge(PSN, SEQUENCE);
    let again = r.replies();
    let range = Reth {
        va: 0x7000,
        rkey: 0x99,
        len: 300,
    };
    assert_eq!(
        (again[0].op, again[0].psn, again[0].reth),
        (WriteFirst, PSN, Some(range))
    );
    assert_eq!(again.len(), 1);
    r.acknowledge(PSN + 1, ACK);
    assert_eq!(done(&mut r), ok([0]));
    r.silence();
}

#[test]
fn r023_every_message_resumes_at_any_of_its_packets() {
    let send = [SendFirst, SendMiddle, SendMiddle, SendLast];
    let write = [WriteFirst, WriteMiddle, WriteMiddle, WriteLast];
    for (op, packets) in [(SendOp::Send, send), (REMOTE, write)] {
        for at in 1..4 {
            let mut r = Raw::small();
            let mr = r.host.open(pattern(1000, 3));
            r.host.send(r.now, r.qp, 1, op, &[mr.all()]);
            assert_eq!(
                r.packets(),
                [0, 1, 2, 3].map(|i| (packets[i], PSN + i as u32))
            );
            r.acknowledge(PSN + at, SEQUENCE);
            let again = r.replies();
            let seen: Vec<_> = again.iter().map(|x| (x.op, x.psn, x.reth)).collect();
            assert_eq!(seen, [(packets[at as usize], PSN + at, None)]);
            let from = 256 * at as usize;
            assert_eq!(
                again[0].payload,
                pattern(1000, 3)[from..1000.min(from + 256)]
            );
            // Of the others none was missing.
            r.acknowledge(PSN + 3, ACK);
            assert_eq!(done(&mut r), ok([1]));
            r.silence();
        }
    }
}

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

#[test]
fn r026_a_sequence_nak_behind_an_rnr_nak_means_nothing() {
    let mut r = Raw::new(Setup {
        retry_count: 1,
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

#[test]
fn r028_r029_r064_fatal_naks_hit_the_request_they_name() {
    for (syndrome, status) in [
        (0x61, Status::RemoteInvalidRequest),
        (0x62, Status::RemoteAccess),
        (0x63, Status::RemoteOperation),
    ] {
        let mut r = Raw::small();
        let mr = r.host.open(vec![0; 1000]);
        for i in 0..4 {
            write(&mut r, i, &mr, 300);
        }
        r.replies();
        r.acknowledge(PSN + 4, syndrome);
        let want = [
            (0, Status::Success),
            (1, Status::Success),
            (2, status),
            (3, Status::Flushed),
        ];
        assert_eq!(done(&mut r), want);
        r.inject(SendOnly, PSN, b"x");
        r.silence();
        r.wait(SECOND);
        r.silence();
    }
}

#[test]
fn r028_a_fatal_nak_fails_the_read_that_it_names() {
    for (syndrome, status) in [
        (INVALID, Status::RemoteInvalidRequest),
        (ACCESS, Status::RemoteAccess),
        (OPERATION, Status::RemoteOperation),
    ] {
        let mut r = Raw::small();
        let mr = r.host.open(vec![0; 1000]);
        write(&mut r, 0, &mr, 300);
        read(&mut r, 1, &mr, 600);
        read(&mut r, 2, &mr, 600);
        write(&mut r, 3, &mr, 8);
        r.replies();
        for i in 0..3 {
            let op = [ReadResponseFirst, ReadResponseMiddle, ReadResponseLast][i];
            let part = data(256 * i, if i == 2 { 88 } else { 256 });
            r.respond(op, PSN + 2 + i as u32, op.has_aeth().then_some(ACK), &part);
        }
        r.acknowledge(PSN + 5, syndrome);
        let want = [
            (0, Status::Success),
            (1, Status::Success),
            (2, status),
            (3, Status::Flushed),
        ];
        assert_eq!(done(&mut r), want);
        r.silence();
    }
}

/// A peer resumes with a READ of its own, as NICs do, or goes on with the first one, as rxe does.
#[test]
fn r031_a_hole_is_answered_in_either_style() {
    // Of six responses, the first and the last that are missing.
    for (first, last) in [(0, 1), (0, 2), (1, 2), (2, 4), (1, 5), (4, 5), (0, 5)] {
        for peer_is_rxe in [false, true] {
            let mut r = Raw::small();
            let mr = r.host.open(vec![0; 1500]);
            read(&mut r, 1, &mr, 1500);
            r.replies();
            let part = |i: u32| data(256 * i as usize, if i == 5 { 220 } else { 256 });
            let op = |i, first, last| match i {
                i if i == last => ReadResponseLast,
                i if i == first => ReadResponseFirst,
                _ => ReadResponseMiddle,
            };
            let respond = |r: &mut Raw, i, first, last| {
                let op = op(i, first, last);
                r.respond(op, PSN + i, op.has_aeth().then_some(ACK), &part(i));
            };
            for i in (0..6).filter(|i| !(first..=last).contains(i)) {
                respond(&mut r, i, 0, 5);
            }
            if last == 5 {
                r.wait(T);
            }
            let again = r.replies();
            let range = Reth {
                va: 0x7000 + u64::from(256 * first),
                rkey: 0x99,
                len: 256 * (last - first) + part(last).len() as u32,
            };
            let seen: Vec<_> = again.iter().map(|x| (x.op, x.psn, x.reth)).collect();
            assert_eq!(seen, [(ReadRequest, PSN + first, Some(range))]);
            let style = if peer_is_rxe { 0 } else { first };
            for i in first..=last {
                assert_eq!(done(&mut r), []);
                respond(&mut r, i, style, last);
            }
            assert_eq!(done(&mut r), ok([1]), "{first}..={last} {peer_is_rxe}");
            assert_eq!(*r.host.bytes(&mr), data(0, 1500));
            r.wait(SECOND);
            r.silence();
        }
    }
}

#[test]
fn r030_r031_a_read_is_resumed_where_data_is_missing() {
    // Which response is lost, what is asked for again, and how the peer names what it sends.
    for missing in 0..4u32 {
        for peer_is_rxe in [false, true] {
            let mut r = Raw::small();
            let mr = r.host.open(vec![0; 1000]);
            read(&mut r, 1, &mr, 1000);
            assert_eq!(r.packets(), [(ReadRequest, PSN)]);
            let op = |i| match i {
                0 => ReadResponseFirst,
                3 => ReadResponseLast,
                _ => ReadResponseMiddle,
            };
            let part = |i: u32| data(256 * i as usize, if i == 3 { 232 } else { 256 });
            for i in (0..4).filter(|i| *i != missing) {
                r.respond(op(i), PSN + i, (i % 3 == 0).then_some(ACK), &part(i));
            }
            if missing == 3 {
                // Nothing tells of it but silence.
                r.silence();
                r.wait(T);
            }
            // What came early waits: who watches the last byte is not to be misled.
            assert!(
                r.host.bytes(&mr)[256 * missing as usize..]
                    .iter()
                    .all(|b| *b == 0)
            );
            let again = r.replies();
            assert_eq!(again.len(), 1, "missing {missing}");
            let offset = 256 * missing;
            let range = Reth {
                va: 0x7000 + u64::from(offset),
                rkey: 0x99,
                len: if missing == 3 { 232 } else { 256 },
            };
            assert_eq!(
                (again[0].op, again[0].psn, again[0].reth),
                (ReadRequest, PSN + missing, Some(range))
            );
            let op = match missing {
                1.. if peer_is_rxe => ReadResponseLast,
                _ => ReadResponseOnly,
            };
            r.respond(op, PSN + missing, Some(ACK), &part(missing));
            assert_eq!(done(&mut r), ok([1]), "missing {missing}");
            assert_eq!(*r.host.bytes(&mr), data(0, 1000));
            r.silence();
        }
    }
}

#[test]
fn r032_duplicate_read_responses_are_ignored() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    read(&mut r, 1, &mr, 600);
    r.replies();
    r.respond(ReadResponseFirst, PSN, Some(ACK), &data(0, 256));
    r.respond(ReadResponseFirst, PSN, Some(ACK), &[0xff; 256]);
    r.respond(ReadResponseMiddle, PSN + 1, None, &data(256, 256));
    r.respond(ReadResponseMiddle, PSN + 1, None, &[0xff; 256]);
    r.respond(ReadResponseFirst, PSN, Some(ACK), &[0xff; 256]);
    r.respond(ReadResponseLast, PSN + 2, Some(ACK), &data(512, 88));
    r.respond(ReadResponseLast, PSN + 2, Some(ACK), &[0xff; 88]);
    assert_eq!(done(&mut r), ok([1]));
    assert_eq!(r.host.bytes(&mr)[..600], data(0, 600));
    r.silence();
}

#[test]
fn r033_read_responses_of_the_wrong_length_fail_the_read() {
    let cases: &[&[(roce::wire::Opcode, usize)]] = &[
        &[(ReadResponseOnly, 256)],
        &[(ReadResponseFirst, 255)],
        &[(ReadResponseFirst, 257)],
        &[(ReadResponseFirst, 0)],
        &[(ReadResponseFirst, 256), (ReadResponseLast, 256)],
        &[
            (ReadResponseFirst, 256),
            (ReadResponseMiddle, 256),
            (ReadResponseMiddle, 256),
        ],
        &[
            (ReadResponseFirst, 256),
            (ReadResponseMiddle, 256),
            (ReadResponseLast, 89),
        ],
        &[
            (ReadResponseFirst, 256),
            (ReadResponseMiddle, 256),
            (ReadResponseLast, 87),
        ],
        &[
            (ReadResponseFirst, 256),
            (ReadResponseMiddle, 256),
            (ReadResponseMiddle, 88),
        ],
    ];
    for case in cases {
        let mut r = Raw::small();
        let mr = r.host.open(vec![0; 1000]);
        read(&mut r, 1, &mr, 600);
        write(&mut r, 2, &mr, 8);
        r.replies();
        for (i, (op, len)) in case.iter().enumerate() {
            r.respond(
                *op,
                PSN + i as u32,
                op.has_aeth().then_some(ACK),
                &vec![1; *len],
            );
        }
        assert_eq!(
            done(&mut r),
            [(1, Status::BadResponse), (2, Status::Flushed)],
            "{case:?}"
        );
        assert!(r.host.bytes(&mr)[600..].iter().all(|b| *b == 0));
    }
}

#[test]
fn a_read_response_where_no_read_is_outstanding_is_dropped() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    r.respond(ReadResponseOnly, PSN, Some(ACK), &[1; 8]);
    write(&mut r, 1, &mr, 8);
    r.replies();
    r.respond(ReadResponseOnly, PSN, Some(ACK), &[1; 8]);
    r.respond(ReadResponseMiddle, PSN + 1, None, &[1; 256]);
    assert_eq!(done(&mut r), []);
    r.acknowledge(PSN, ACK);
    assert_eq!(done(&mut r), ok([1]));
    assert_eq!(r.host.engine.counters().drop_unexpected_response, 3);
}

#[test]
fn read_data_for_memory_that_is_gone_fails_the_read() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    read(&mut r, 1, &mr, 600);
    r.replies();
    r.host.engine.deregister(mr.key).unwrap();
    r.respond(ReadResponseFirst, PSN, Some(ACK), &[1; 256]);
    assert_eq!(done(&mut r), [(1, Status::LocalProtection)]);
    assert_eq!(r.host.bytes(&mr)[..256], [0; 256]);
}

#[test]
fn r039_credits_do_not_matter() {
    for credits in 0..32 {
        let mut r = Raw::small();
        let mr = r.host.open(vec![0; 1000]);
        for i in 0..3 {
            write(&mut r, i, &mr, 8);
            assert_eq!(r.packets().len(), 1);
            r.acknowledge(PSN + i as u32, credits);
        }
        assert_eq!(done(&mut r), ok(0..3));
    }
}

#[test]
fn going_back_asks_for_an_acknowledgement_at_once() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 2000]);
    write(&mut r, 0, &mr, 2000);
    let asked: Vec<_> = r.replies().iter().map(|x| x.ack_request).collect();
    assert_eq!(asked, [[false; 7].as_slice(), &[true]].concat());
    r.wait(T);
    let asked: Vec<_> = r.replies().iter().map(|x| x.ack_request).collect();
    assert_eq!(asked, [[true].as_slice(), &[false; 6], &[true]].concat());
}

/// What was about to be sent again is not, if its acknowledgement comes first.
#[test]
fn a_late_acknowledgement_stops_retransmission() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 2000]);
    write(&mut r, 0, &mr, 600);
    write(&mut r, 1, &mr, 600);
    r.replies();
    r.wait(T);
    r.host.nic_ring = 1;
    r.host.nic_holds = None;
    assert_eq!(r.packets(), [(WriteFirst, PSN)]);
    r.acknowledge(PSN + 3, ACK);
    r.host.release_all(r.now);
    r.host.nic_ring = 100;
    assert_eq!(r.packets(), [(WriteMiddle, PSN + 4), (WriteLast, PSN + 5)]);
    assert_eq!(done(&mut r), ok([0]));
}

#[test]
fn fenced_requests_wait_for_reads_that_are_resumed_too() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 2000]);
    read(&mut r, 0, &mr, 300);
    r.host
        .send_with(r.now, r.qp, 1, REMOTE, &[mr.sge(0, 8)], SendFlags::FENCE);
    write(&mut r, 2, &mr, 8);
    assert_eq!(r.packets(), [(ReadRequest, PSN)]);
    r.respond(ReadResponseFirst, PSN, Some(ACK), &data(0, 256));
    r.silence();
    r.wait(T);
    assert_eq!(r.packets(), [(ReadRequest, PSN + 1)]);
    r.respond(ReadResponseOnly, PSN + 1, Some(ACK), &data(256, 44));
    let replies = r.replies();
    assert_eq!(replies[0].payload, data(0, 8));
    assert_eq!(replies.len(), 2);
}

#[test]
fn r065_nothing_is_accepted_before_there_is_a_connection() {
    let mut r = Raw::small();
    let other = r.host.create_qp();
    let number = r.host.engine.qp_number(other).unwrap();
    let bth = roce::wire::Bth {
        ack_req: true,
        ..roce::wire::Bth::new(SendOnly, number, roce::Psn::new(PSN))
    };
    let frame = r.frame(bth, roce::wire::ExtHeaders::NONE, b"x");
    r.host.engine.post_recv(r.now, other, 1, &[]).unwrap();
    r.feed(&frame);
    r.silence();
    assert_eq!(done(&mut r), []);
}

/// Resending starts the clock again, whatever caused it.
#[test]
fn a_nak_restarts_the_timer_when_its_packet_is_sent_again() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    write(&mut r, 0, &mr, 300);
    r.replies();
    r.wait(T / 2);
    r.acknowledge(PSN, SEQUENCE);
    assert_eq!(r.packets(), [(WriteFirst, PSN)]);
    r.wait(T - Duration::from_micros(1));
    r.silence();
    r.wait(Duration::from_micros(1));
    assert_eq!(r.packets().len(), 2);
    assert_eq!(r.host.engine.counters().timeouts, 1);
}

/// A NAK that comes twice before its packet is sent again costs one retry.
#[test]
fn copies_of_a_nak_count_once() {
    let mut r = Raw::new(Setup {
        retry_count: 1,
        mtu: PathMtu::Mtu256,
        ..Setup::default()
    });
    let mr = r.host.open(vec![0; 1000]);
    write(&mut r, 0, &mr, 300);
    r.replies();
    for _ in 0..5 {
        r.acknowledge(PSN, SEQUENCE);
    }
    assert_eq!(r.packets(), [(WriteFirst, PSN)]);
    // Nor does one that has been on the way since.
    r.wait(Duration::from_micros(99));
    r.acknowledge(PSN, SEQUENCE);
    r.silence();
    assert_eq!(done(&mut r), []);
    r.wait(Duration::from_micros(1));
    r.acknowledge(PSN, SEQUENCE);
    assert_eq!(done(&mut r), [(0, Status::RetryExceeded)]);
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

#[test]
fn r018_long_messages_ask_for_acknowledgements_several_times_a_window() {
    let mut setup = Setup::small();
    setup.config.send_window = 16;
    let mut r = Raw::new(setup);
    let mr = r.host.open(vec![0; 256 * 40]);
    write(&mut r, 0, &mr, 256 * 40);
    let asked: Vec<_> = r.replies().iter().map(|x| x.ack_request).collect();
    assert_eq!(asked, [false, false, false, true].repeat(4));
    // The window moves with the acknowledgement.
    r.acknowledge(PSN + 2, ACK);
    assert_eq!(r.packets().len(), 3);
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

/// Memory that cannot be reached fails the request it belongs to, and only when its turn has come.
#[test]
fn unreachable_memory_behind_unacknowledged_requests_waits_for_its_turn() {
    for resend in [false, true] {
        let mut r = Raw::small();
        let good = r.host.open(vec![1; 1000]);
        let bad = r.host.open(vec![2; 1000]);
        write(&mut r, 0, &good, 300);
        write(&mut r, 1, &bad, 300);
        write(&mut r, 2, &good, 8);
        r.host.memory.faulty.push(bad.region);
        assert_eq!(r.packets(), [(WriteFirst, PSN), (WriteLast, PSN + 1)]);
        assert_eq!(done(&mut r), []);
        if resend {
            // What is lost is sent again first, and still nothing fails.
            r.wait(MS * 5);
            assert_eq!(r.packets(), [(WriteFirst, PSN), (WriteLast, PSN + 1)]);
        }
        r.acknowledge(PSN, ACK);
        r.silence();
        r.acknowledge(PSN + 1, ACK);
        r.silence();
        let end = [
            (0, Status::Success),
            (1, Status::LocalProtection),
            (2, Status::Flushed),
        ];
        assert_eq!(done(&mut r), end);
        assert_eq!(r.host.engine.usage().transmissions, 0);
    }
}

/// Memory that can be reached again when its turn comes is sent.
#[test]
fn a_fault_that_passes_does_no_harm() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![1; 1000]);
    write(&mut r, 0, &mr, 8);
    r.replies();
    r.host.memory.faulty.push(mr.region);
    write(&mut r, 1, &mr, 600);
    r.silence();
    r.host.memory.faulty.clear();
    r.acknowledge(PSN, ACK);
    let packets = [
        (WriteFirst, PSN + 1),
        (WriteMiddle, PSN + 2),
        (WriteLast, PSN + 3),
    ];
    assert_eq!(r.packets(), packets);
    r.acknowledge(PSN + 3, ACK);
    assert_eq!(done(&mut r), ok(0..2));
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
