//! READ data: missing, coming twice, of the wrong length, and what goes on without it.

use super::*;
use roce::SendFlags;

/// What the peer would answer to a READ.
fn data(from: usize, len: usize) -> Vec<u8> {
    pattern(4096, 5)[from..from + len].to_vec()
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

/// A queue on the way may be too short for the answers to all of them.
#[test]
fn after_a_timeout_reads_are_asked_for_one_by_one_and_more_as_they_are_answered() {
    let mut r = Raw::new(Setup {
        reads: 8,
        ..Setup::small()
    });
    let mr = r.host.open(vec![0; 1000]);
    for i in 0..8 {
        read(&mut r, i, &mr, 100);
    }
    let asked = |r: &mut Raw| {
        let asked = r.packets();
        assert!(asked.iter().all(|p| p.0 == ReadRequest));
        asked.iter().map(|p| p.1 - PSN).collect::<Vec<_>>()
    };
    let answer = |r: &mut Raw, at: u32| {
        r.respond(ReadResponseOnly, PSN + at, Some(ACK), &data(0, 100));
    };
    assert_eq!(asked(&mut r), [0, 1, 2, 3, 4, 5, 6, 7]);
    r.wait(4 * T);
    assert_eq!(asked(&mut r), [0]);
    answer(&mut r, 0);
    assert_eq!(asked(&mut r), [1, 2]);
    answer(&mut r, 1);
    assert_eq!(asked(&mut r), [3, 4, 5]);
    // So is it after the next one.
    r.wait(16 * T);
    assert_eq!(asked(&mut r), [2]);
    (2..8).for_each(|at| answer(&mut r, at));
    assert_eq!(done(&mut r), ok(0..8));
    // All that it may, again.
    for i in 8..16 {
        read(&mut r, i, &mr, 100);
    }
    assert_eq!(asked(&mut r), [8, 9, 10, 11, 12, 13, 14, 15]);
}

/// What comes again as the answer to a part has an opcode of that part. It is the same data, and says nothing against what came first.
#[test]
fn data_that_comes_again_as_the_end_of_a_part_is_believed_as_before() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 2000]);
    read(&mut r, 0, &mr, 6 * 256);
    r.replies();
    let middle = |r: &mut Raw, at: usize| {
        let psn = PSN + at as u32;
        r.respond(ReadResponseMiddle, psn, None, &data(256 * at, 256));
    };
    r.respond(ReadResponseFirst, PSN, Some(ACK), &data(0, 256));
    middle(&mut r, 2);
    assert_eq!(r.packets(), [(ReadRequest, PSN + 1)]);
    middle(&mut r, 3);
    r.respond(ReadResponseLast, PSN + 2, Some(ACK), &data(512, 256));
    r.respond(ReadResponseLast, PSN + 1, Some(ACK), &data(256, 256));
    r.silence();
    middle(&mut r, 4);
    r.respond(ReadResponseLast, PSN + 5, Some(ACK), &data(1280, 256));
    assert_eq!(done(&mut r), ok([0]));
    assert_eq!(r.host.bytes(&mr)[..1536], data(0, 1536));
}
