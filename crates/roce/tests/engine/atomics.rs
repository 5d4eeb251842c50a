//! Atomic operations: what they do, that they do it once, and what they may not do.

use crate::util::random::{Witness, seeds};
use crate::util::raw::syndrome::*;
use crate::util::raw::{PSN, Raw};
use crate::util::*;
use roce::wire::Opcode::{Acknowledge, AtomicAcknowledge, CompareSwap, FetchAdd, ReadResponseOnly};
use roce::wire::{AtomicEth, Opcode};
use roce::{
    Access, Completion, CompletionOp, Event, PostError, SendFlags, SendOp, SendRequest, Status,
};
use std::time::Duration;

fn word(host: &Host, mr: &Mr, at: usize) -> u64 {
    u64::from_ne_bytes(host.bytes(mr)[at..at + 8].try_into().unwrap())
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_ne_bytes()).collect()
}

fn compare_swap(mr: &Mr, at: u64, compare: u64, swap: u64) -> SendOp {
    SendOp::CompareSwap {
        remote_va: mr.va + at,
        rkey: mr.key.0,
        compare,
        swap,
    }
}

fn fetch_add(mr: &Mr, at: u64, add: u64) -> SendOp {
    SendOp::FetchAdd {
        remote_va: mr.va + at,
        rkey: mr.key.0,
        add,
    }
}

/// A pair, and on side B numbers that anybody may work on.
fn with_numbers(setup: Setup, numbers: &[u64]) -> (Pair, roce::QpId, Mr) {
    let (mut p, qa, _) = Pair::attached(setup);
    let target = p.b.register(words(numbers), Access::all());
    (p, qa, target)
}

/// A raw peer, and numbers that it may work on.
fn raw_with_numbers(setup: Setup, numbers: &[u64]) -> (Raw, Mr) {
    let mut r = Raw::new(setup);
    let target = r.host.register(words(numbers), Access::all());
    (r, target)
}

#[test]
fn r036_both_operations_give_what_was_there_before() {
    let (mut p, qa, target) = with_numbers(Setup::default(), &[7, u64::MAX, 0x0102_0304_0506_0708]);
    let found = p.a.open(vec![0xee; 40]);
    p.a.send(
        p.now,
        qa,
        1,
        compare_swap(&target, 0, 7, 9),
        &[found.sge(0, 8)],
    );
    p.a.send(
        p.now,
        qa,
        2,
        compare_swap(&target, 0, 7, 1),
        &[found.sge(8, 8)],
    );
    // The sum wraps; the result may lie in pieces.
    let pieces = [found.sge(16, 3), found.sge(19, 0), found.sge(19, 5)];
    p.a.send(p.now, qa, 3, fetch_add(&target, 8, 3), &pieces);
    p.a.send(
        p.now,
        qa,
        4,
        fetch_add(&target, 16, 0x10),
        &[found.sge(24, 8)],
    );
    p.run(SECOND);
    use CompletionOp::{CompareSwap, FetchAdd};
    let done = [
        (1, CompareSwap),
        (2, CompareSwap),
        (3, FetchAdd),
        (4, FetchAdd),
    ];
    assert_eq!(
        ops(&p.a.completions),
        done.map(|(c, op)| (c, op, Status::Success))
    );
    let before = [7, 9, u64::MAX, 0x0102_0304_0506_0708];
    assert_eq!([0, 8, 16, 24].map(|at| word(&p.a, &found, at)), before);
    assert_eq!(p.a.bytes(&found)[32..], [0xee; 8]);
    assert_eq!(
        [0, 8, 16].map(|at| word(&p.b, &target, at)),
        [9, 2, 0x0102_0304_0506_0718]
    );
    assert_eq!(p.b.completions, []);
}

#[test]
fn an_atomic_request_is_one_packet_that_is_answered_with_one() {
    let (mut p, qa, target) = with_numbers(
        Setup {
            psn: [Some(0xff_ffff), None],
            ..Setup::default()
        },
        &[1, 2],
    );
    let found = p.a.open(vec![0; 16]);
    p.a.send(p.now, qa, 1, fetch_add(&target, 0, 1), &[found.sge(0, 8)]);
    p.a.send(
        p.now,
        qa,
        2,
        compare_swap(&target, 8, 2, 3),
        &[found.sge(8, 8)],
    );
    p.run(SECOND);
    assert_eq!(p.sent(Side::A), [(FetchAdd, 0xff_ffff), (CompareSwap, 0)]);
    assert_eq!(
        p.sent(Side::B),
        [(AtomicAcknowledge, 0xff_ffff), (AtomicAcknowledge, 0)]
    );
    assert!(p.log.iter().all(|s| s.len == 0));
    assert!(
        p.log
            .iter()
            .filter(|s| s.from == Side::A)
            .all(|s| s.ack_request)
    );
}

/// Every FETCH & ADD counts once however often its packets are lost, doubled and overtaken; the values found are all different.
#[test]
fn r047_on_a_bad_wire_every_operation_is_executed_exactly_once() {
    for seed in seeds(30) {
        let _witness = Witness(seed);
        let (mut p, qa, target) = with_numbers(
            Setup {
                seed,
                ..Setup::default()
            },
            &[0],
        );
        p.net.set_weather(Weather {
            jitter: Duration::from_micros(30),
            loss: 100,
            duplication: 100,
            corruption: 20,
            ..Weather::CALM
        });
        let n = 60;
        let found = p.a.open(vec![0xff; n * 8]);
        for i in 0..n as u32 {
            p.a.send(
                p.now,
                qa,
                i.into(),
                fetch_add(&target, 0, 1),
                &[found.sge(i * 8, 8)],
            );
        }
        p.run(SECOND * 30);
        let want: Vec<_> = (0..n as u64).map(|i| (i, Status::Success)).collect();
        assert_eq!(outcomes(&p.a.completions), want);
        assert_eq!(word(&p.b, &target, 0), n as u64);
        let values: Vec<_> = (0..n).map(|i| word(&p.a, &found, i * 8)).collect();
        assert_eq!(values, (0..n as u64).collect::<Vec<_>>());
        assert!(p.b.engine.counters().duplicate_requests > 0);
    }
}

#[test]
fn r047_a_repeated_request_gets_the_stored_value() {
    // The second one changes it, which another execution of the first would see; of a swap also where it would find the same again.
    for (op, requests, found, end) in [
        (FetchAdd, [(1, 0), (100, 0)], [5, 6], 106),
        (CompareSwap, [(6, 5), (7, 6)], [5, 6], 7),
        (CompareSwap, [(6, 5), (5, 6)], [5, 6], 5),
        (CompareSwap, [(6, 4), (4, 5)], [5, 5], 4),
    ] {
        let (mut r, target) = raw_with_numbers(Setup::default(), &[5]);
        for (psn, (swap_add, compare)) in (PSN..).zip(requests) {
            r.inject_atomic(op, psn, target.atomic(0, swap_add, compare));
        }
        let first = r.replies();
        let seen: Vec<_> = first
            .iter()
            .map(|x| (x.op, x.psn, x.syndrome, x.msn, x.original))
            .collect();
        let want = [
            (AtomicAcknowledge, PSN, Some(ACK), Some(1), Some(found[0])),
            (
                AtomicAcknowledge,
                PSN + 1,
                Some(ACK),
                Some(2),
                Some(found[1]),
            ),
        ];
        assert_eq!(seen, want);
        let (swap_add, compare) = requests[0];
        for _ in 0..3 {
            r.inject_atomic(op, PSN, target.atomic(0, swap_add, compare));
            assert_eq!(r.replies(), first[..1], "{op:?}");
        }
        assert_eq!(word(&r.host, &target, 0), end, "{op:?}");
    }
}

#[test]
fn r048_as_many_are_remembered_as_were_granted_and_no_older_ones() {
    let (mut r, target) = raw_with_numbers(
        Setup {
            reads: 3,
            ..Setup::default()
        },
        &[0],
    );
    // Three are granted, rounded up to four.
    for i in 0..5 {
        r.inject_atomic(FetchAdd, PSN + i, target.atomic(0, 1, 0));
        assert_eq!(r.replies()[0].original, Some(i.into()));
    }
    for i in 1..5 {
        r.inject_atomic(FetchAdd, PSN + i, target.atomic(0, 1, 0));
        assert_eq!(r.replies()[0].original, Some(i.into()), "{i}");
    }
    r.inject_atomic(FetchAdd, PSN, target.atomic(0, 1, 0));
    r.silence();
    assert_eq!(r.host.engine.counters().drop_unreplayable, 1);
    assert_eq!(word(&r.host, &target, 0), 5);
}

#[test]
fn a_read_is_not_replayed_as_an_atomic_nor_the_other_way_round() {
    let (mut r, target) = raw_with_numbers(Setup::default(), &[3]);
    r.inject_atomic(FetchAdd, PSN, target.atomic(0, 1, 0));
    r.inject_reth(Opcode::ReadRequest, PSN + 1, target.reth(0, 8), &[]);
    assert_eq!(
        r.packets(),
        [(AtomicAcknowledge, PSN), (ReadResponseOnly, PSN + 1)]
    );
    r.inject_atomic(FetchAdd, PSN + 1, target.atomic(0, 1, 0));
    r.inject_reth(Opcode::ReadRequest, PSN, target.reth(0, 8), &[]);
    r.silence();
    assert_eq!(r.host.engine.counters().drop_unreplayable, 2);
    assert_eq!(word(&r.host, &target, 0), 4);
}

#[test]
fn r066_fetch_and_add_does_not_look_at_the_field_to_compare() {
    let (mut r, target) = raw_with_numbers(Setup::default(), &[40]);
    r.inject_atomic(FetchAdd, PSN, target.atomic(0, 2, 0xdead));
    assert_eq!(r.replies()[0].original, Some(40));
    assert_eq!(word(&r.host, &target, 0), 42);
}

#[test]
fn r058_misaligned_atomics_are_invalid() {
    for op in [CompareSwap, FetchAdd] {
        for offset in 1..8 {
            let (mut r, target) = raw_with_numbers(Setup::default(), &[0, 0]);
            r.inject_atomic(op, PSN, target.atomic(offset, 1, 0));
            assert_eq!(r.only_ack(), (PSN, INVALID), "{op:?} {offset}");
            assert_eq!(r.host.bytes(&target), [0; 16]);
            r.assert_dead();
        }
    }
}

#[test]
fn r055_atomics_need_a_key_that_permits_them_for_all_eight_bytes() {
    let everything_else = Access::all() - Access::REMOTE_ATOMIC;
    type Wrong = fn(AtomicEth) -> AtomicEth;
    let cases: [(Access, Wrong); 5] = [
        (everything_else, |right| right),
        (Access::all(), |right| AtomicEth {
            rkey: right.rkey ^ 1,
            ..right
        }),
        (Access::all(), |right| AtomicEth {
            va: right.va - 8,
            ..right
        }),
        // The region ends in the middle of these eight bytes, and behind those.
        (Access::all(), |right| AtomicEth {
            va: right.va + 8,
            ..right
        }),
        (Access::all(), |right| AtomicEth {
            va: 0u64.wrapping_sub(8),
            ..right
        }),
    ];
    for (access, wrong) in cases {
        for op in [CompareSwap, FetchAdd] {
            let mut r = Raw::new(Setup::default());
            let target = r.host.register(vec![0; 12], access);
            r.inject_atomic(op, PSN, wrong(target.atomic(0, 1, 0)));
            assert_eq!(r.only_ack(), (PSN, ACCESS), "{access:?} {op:?}");
            assert_eq!(r.host.bytes(&target), [0; 12]);
            r.assert_dead();
        }
    }
}

#[test]
fn one_more_than_granted_is_refused_and_not_executed() {
    let (mut r, target) = raw_with_numbers(
        Setup {
            reads: 1,
            ..Setup::default()
        },
        &[0],
    );
    r.inject_atomic(FetchAdd, PSN, target.atomic(0, 1, 0));
    r.inject_atomic(FetchAdd, PSN + 1, target.atomic(0, 1, 0));
    let replies: Vec<_> = r
        .replies()
        .iter()
        .map(|x| (x.op, x.psn, x.syndrome))
        .collect();
    assert_eq!(
        replies,
        [
            (AtomicAcknowledge, PSN, Some(ACK)),
            (Acknowledge, PSN + 1, Some(INVALID))
        ]
    );
    assert_eq!(word(&r.host, &target, 0), 1);
}

#[test]
fn memory_that_cannot_be_worked_on_is_an_operational_error() {
    let (mut r, target) = raw_with_numbers(Setup::default(), &[0]);
    r.host.memory.faulty.push(target.region);
    r.inject_atomic(FetchAdd, PSN, target.atomic(0, 1, 0));
    assert_eq!(r.only_ack(), (PSN, OPERATION));
    r.assert_dead();
}

#[test]
fn r061_answers_come_in_the_order_of_the_requests() {
    let (mut r, target) = raw_with_numbers(
        Setup {
            mtu: roce::PathMtu::Mtu256,
            ..Setup::default()
        },
        &[0; 100],
    );
    let sink = r.host.open(vec![0; 8]);
    r.receive(1, &sink);
    r.inject_reth(Opcode::ReadRequest, PSN, target.reth(0, 500), &[]);
    r.inject_atomic(FetchAdd, PSN + 2, target.atomic(0, 1, 0));
    r.inject(Opcode::SendOnly, PSN + 3, b"abc");
    let seen: Vec<_> = r.replies().iter().map(|x| (x.op, x.psn, x.msn)).collect();
    let want = [
        (Opcode::ReadResponseFirst, PSN, Some(1)),
        (Opcode::ReadResponseLast, PSN + 1, Some(1)),
        (AtomicAcknowledge, PSN + 2, Some(2)),
        (Acknowledge, PSN + 3, Some(3)),
    ];
    assert_eq!(seen, want);
}

#[test]
fn an_answer_acknowledges_what_came_before_it() {
    let (mut r, target) = raw_with_numbers(Setup::default(), &[0]);
    let sink = r.host.open(vec![0; 8]);
    r.receive(1, &sink);
    r.inject(Opcode::SendOnly, PSN, b"abc");
    r.inject_atomic(FetchAdd, PSN + 1, target.atomic(0, 1, 0));
    let seen: Vec<_> = r.replies().iter().map(|x| (x.op, x.psn, x.msn)).collect();
    assert_eq!(seen, [(AtomicAcknowledge, PSN + 1, Some(2))]);
}

#[test]
fn r034_atomics_count_against_the_limit_of_reads() {
    let mut r = Raw::new(Setup {
        reads: 2,
        ..Setup::default()
    });
    let found = r.host.open(vec![0; 64]);
    let remote = Mr {
        key: roce::MrKey(0x123),
        ..found
    };
    for i in 0..3 {
        r.host
            .send(r.now, r.qp, i, fetch_add(&remote, 0, 1), &[found.sge(0, 8)]);
    }
    r.host
        .send(r.now, r.qp, 3, remote.read(), &[found.sge(8, 8)]);
    assert_eq!(r.packets(), [(FetchAdd, PSN), (FetchAdd, PSN + 1)]);
    r.atomic_ack(PSN, 50);
    assert_eq!(r.packets(), [(FetchAdd, PSN + 2)]);
    assert_eq!(word(&r.host, &found, 0), 50);
    // The last answer says that the one before was lost, which is repeated, and not taken for executed.
    r.atomic_ack(PSN + 2, 52);
    assert_eq!(r.packets(), [(FetchAdd, PSN + 1)]);
    assert_eq!(word(&r.host, &found, 0), 50);
    r.atomic_ack(PSN + 1, 51);
    assert_eq!(r.packets(), [(Opcode::ReadRequest, PSN + 3)]);
    assert_eq!(word(&r.host, &found, 0), 52);
    // An atomic acknowledgement is no answer to a READ.
    r.atomic_ack(PSN + 3, 1);
    r.silence();
    r.respond(ReadResponseOnly, PSN + 3, Some(ACK), &[9; 8]);
    r.silence();
    assert_eq!(
        outcomes(&r.host.completions),
        [0, 1, 2, 3].map(|i| (i, Status::Success))
    );
    assert_eq!(r.host.bytes(&found)[8..16], [9; 8]);
}

#[test]
fn r022_an_acknowledgement_without_data_does_not_complete_an_atomic() {
    let mut r = Raw::new(Setup::default());
    let found = r.host.open(vec![0; 8]);
    let remote = Mr {
        key: roce::MrKey(0x123),
        ..found
    };
    r.host.send(
        r.now,
        r.qp,
        1,
        compare_swap(&remote, 0, 0, 0x77),
        &[found.all()],
    );
    let asked = r.replies();
    assert_eq!(
        asked[0].atomic,
        Some(AtomicEth {
            va: remote.va,
            rkey: 0x123,
            swap_add: 0x77,
            compare: 0
        })
    );
    r.acknowledge(PSN, ACK);
    assert_eq!(r.replies(), asked);
    r.respond(ReadResponseOnly, PSN, Some(ACK), &[1; 8]);
    assert_eq!(r.host.completions, []);
    r.atomic_ack(PSN, 4);
    r.silence();
    assert_eq!(outcomes(&r.host.completions), [(1, Status::Success)]);
    assert_eq!(word(&r.host, &found, 0), 4);
}

#[test]
fn r035_a_fence_waits_for_the_original_value() {
    let mut r = Raw::new(Setup::default());
    let found = r.host.open(vec![0; 8]);
    let remote = Mr {
        key: roce::MrKey(0x123),
        ..found
    };
    r.host
        .send(r.now, r.qp, 1, fetch_add(&remote, 0, 1), &[found.all()]);
    r.host.send_with(
        r.now,
        r.qp,
        2,
        SendOp::Send,
        &[found.all()],
        SendFlags::FENCE,
    );
    assert_eq!(r.packets(), [(FetchAdd, PSN)]);
    r.silence();
    r.atomic_ack(PSN, 0x11);
    let sent = r.replies();
    assert_eq!(
        (sent[0].op, &sent[0].payload[..]),
        (Opcode::SendOnly, &0x11u64.to_ne_bytes()[..])
    );
}

#[test]
fn what_an_atomic_request_needs_is_looked_at_when_it_is_posted() {
    let (mut p, qa, target) = with_numbers(Setup::default(), &[0]);
    let found = p.a.open(vec![0; 64]);
    let post = |p: &mut Pair, sgl: &[roce::Sge], inline| {
        let request = SendRequest {
            inline,
            sgl,
            ..request(fetch_add(&target, 0, 1))
        };
        p.a.engine.post_send(p.now, qa, &request)
    };
    for sgl in [
        &[][..],
        &[found.sge(0, 7)],
        &[found.sge(0, 9)],
        &[found.sge(0, 8), found.sge(8, 8)],
    ] {
        assert_eq!(
            post(&mut p, sgl, None),
            Err(PostError::InvalidRequest),
            "{sgl:?}"
        );
    }
    assert_eq!(
        post(&mut p, &[], Some(&[&[0; 8][..]])),
        Err(PostError::InvalidRequest)
    );
    let request = SendRequest {
        flags: SendFlags::INVALIDATE_LOCAL,
        sgl: &[found.sge(0, 8)],
        ..request(fetch_add(&target, 0, 1))
    };
    assert_eq!(
        p.a.engine.post_send(p.now, qa, &request),
        Err(PostError::InvalidRequest)
    );
    p.run(SECOND);
    assert_eq!(p.log, []);
    // Not connected for it.
    let (mut p, qa, target) = with_numbers(
        Setup {
            reads: 0,
            ..Setup::default()
        },
        &[0],
    );
    let found = p.a.open(vec![0; 8]);
    let sgl = &[found.all()];
    let request = SendRequest {
        sgl,
        ..crate::util::request(compare_swap(&target, 0, 0, 1))
    };
    assert_eq!(
        p.a.engine.post_send(p.now, qa, &request),
        Err(PostError::InvalidRequest)
    );
}

#[test]
fn a_queue_pair_that_was_not_made_for_atomics_posts_none_but_answers_them() {
    let mut p = Pair::new(Setup::default());
    let params = roce::QpParams {
        atomics: false,
        ..p.a.qp_params()
    };
    let qa = p.a.engine.create_qp(&params).unwrap();
    let qb = p.b.create_qp();
    p.attach_these(qa, qb);
    let (here, there) = (
        p.a.register(words(&[5]), Access::all()),
        p.b.register(words(&[6]), Access::all()),
    );
    let sgl = &[here.all()];
    let request = SendRequest {
        sgl,
        ..request(fetch_add(&there, 0, 1))
    };
    assert_eq!(
        p.a.engine.post_send(p.now, qa, &request),
        Err(PostError::InvalidRequest)
    );
    let found = p.b.open(vec![0; 8]);
    p.b.send(p.now, qb, 1, fetch_add(&here, 0, 1), &[found.all()]);
    p.run(SECOND);
    assert_eq!((word(&p.b, &found, 0), word(&p.a, &here, 0)), (5, 6));
}

#[test]
fn a_result_that_cannot_be_written_is_not_asked_for() {
    let (mut p, qa, target) = with_numbers(Setup::default(), &[0]);
    let read_only = p.a.register(vec![0; 8], Access::empty());
    p.a.send(p.now, qa, 1, fetch_add(&target, 0, 1), &[read_only.all()]);
    p.run(SECOND);
    assert_eq!(outcomes(&p.a.completions), [(1, Status::LocalProtection)]);
    assert_eq!(word(&p.b, &target, 0), 0);
    assert_eq!(
        p.a.events,
        [Event::QpFatal {
            qp: qa,
            status: Status::LocalProtection
        }]
    );
}

#[test]
fn r028_the_peers_refusal_completes_the_request_that_it_is_about() {
    let (mut p, qa, target) = with_numbers(Setup::default(), &[0, 0]);
    let found = p.a.open(vec![0; 32]);
    p.a.send(p.now, qa, 1, fetch_add(&target, 0, 1), &[found.sge(0, 8)]);
    p.a.send(p.now, qa, 2, fetch_add(&target, 4, 1), &[found.sge(8, 8)]);
    p.a.send(p.now, qa, 3, fetch_add(&target, 8, 1), &[found.sge(16, 8)]);
    p.run(SECOND);
    let [ok, bad, rest] = [
        Status::Success,
        Status::RemoteInvalidRequest,
        Status::Flushed,
    ];
    let all: Vec<(u64, Status)> =
        p.a.completions
            .iter()
            .map(|c: &Completion| (c.context, c.status))
            .collect();
    assert_eq!(all, [(1, ok), (2, bad), (3, rest)]);
    assert_eq!([0, 8].map(|at| word(&p.b, &target, at)), [1, 0]);
}
