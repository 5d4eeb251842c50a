//! The responder, packet by packet: what it executes and acknowledges, and what it makes of repetitions.

use crate::util::raw::syndrome::*;
use crate::util::raw::{PSN, Raw};
use crate::util::*;
use roce::wire::Opcode::*;
use roce::wire::{Bth, ExtHeaders, Reth};
use roce::{CompletionOp, PathMtu, Status};

#[test]
fn r040_r041_acknowledgements_and_their_msn() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    r.receive(1, &mr);
    let first = Bth {
        ack_req: false,
        ..r.bth(SendFirst, PSN)
    };
    let frame = r.frame(first, ExtHeaders::NONE, &[1; 256]);
    r.feed(&frame);
    r.silence();
    r.inject(SendLast, PSN + 1, &[2; 5]);
    let reply = &r.replies()[0];
    assert_eq!(
        (reply.op, reply.psn, reply.syndrome, reply.msn),
        (Acknowledge, PSN + 1, Some(ACK), Some(1))
    );
    assert!(!reply.ack_request && !reply.solicited && reply.payload.is_empty());
    // Again: acknowledged, not counted, not executed.
    r.host.bytes_mut(&mr)[256] = 77;
    r.inject(SendLast, PSN + 1, &[2; 5]);
    let reply = &r.replies()[0];
    assert_eq!((reply.psn, reply.msn), (PSN + 1, Some(1)));
    assert_eq!(r.host.bytes(&mr)[256], 77);
    r.inject_reth(WriteOnly, PSN + 2, mr.reth(0, 4), &[9; 4]);
    r.inject_reth(ReadRequest, PSN + 3, mr.reth(0, 300), &[]);
    let replies = r.replies();
    let seen: Vec<_> = replies.iter().map(|x| (x.op, x.psn, x.msn)).collect();
    assert_eq!(
        seen,
        [
            (ReadResponseFirst, PSN + 3, Some(3)),
            (ReadResponseLast, PSN + 4, Some(3))
        ]
    );
    assert_eq!(replies[0].payload.len(), 256);
    assert_eq!(replies[1].payload.len(), 44);
}

/// Nothing, to be written nowhere.
const NOWHERE: Reth = Reth {
    va: 0,
    rkey: 0,
    len: 0,
};

#[test]
fn r041_repetitions_of_any_kind_are_not_counted() {
    let mut r = Raw::small();
    let mr = r.host.register(vec![0; 1000], roce::Access::all());
    r.receive(1, &mr);
    let all: [fn(&mut Raw, &Mr); 4] = [
        |r, _| r.inject(SendOnly, PSN, b"x"),
        |r, mr| r.inject_reth(ReadRequest, PSN + 1, mr.reth(0, 300), &[]),
        |r, mr| r.inject_atomic(FetchAdd, PSN + 3, mr.atomic(0, 1, 0)),
        |r, mr| r.inject_reth(WriteOnly, PSN + 4, mr.reth(8, 1), b"y"),
    ];
    for (n, request) in (1..).zip(all) {
        request(&mut r, &mr);
        let replies = r.replies();
        assert_eq!(replies.last().unwrap().msn, Some(n));
    }
    for request in all.into_iter().cycle().take(8) {
        request(&mut r, &mr);
        r.replies();
    }
    r.inject_reth(WriteOnly, PSN + 5, NOWHERE, &[]);
    let replies = r.replies();
    assert_eq!((replies[0].psn, replies[0].msn), (PSN + 5, Some(5)));
    assert_eq!(r.host.engine.counters().duplicate_requests, 8);
}

#[test]
fn acknowledgements_of_a_burst_are_coalesced() {
    let mut r = Raw::small();
    for i in 0..10 {
        r.inject_reth(
            WriteOnly,
            PSN + i,
            Reth {
                va: 0,
                rkey: 0,
                len: 0,
            },
            &[],
        );
    }
    let replies = r.replies();
    assert_eq!(replies.len(), 1);
    assert_eq!((replies[0].psn, replies[0].msn), (PSN + 9, Some(10)));
}

#[test]
fn r042_a_gap_gets_one_nak() {
    let mut r = Raw::forgetful();
    let mr = r.host.open(vec![0; 1000]);
    for i in 0..5 {
        r.receive(i, &mr);
    }
    r.inject(SendOnly, PSN + 2, b"c");
    assert_eq!(r.only_ack(), (PSN, SEQUENCE));
    r.inject(SendOnly, PSN + 3, b"d");
    r.inject(SendOnly, PSN + 2, b"c");
    r.silence();
    r.inject(SendOnly, PSN, b"a");
    assert_eq!(r.only_ack(), (PSN, ACK));
    // A new gap is a new story.
    r.inject(SendOnly, PSN + 2, b"c");
    assert_eq!(r.only_ack(), (PSN + 1, SEQUENCE));
    r.inject(SendOnly, PSN + 1, b"b");
    r.inject(SendOnly, PSN + 2, b"c");
    assert_eq!(r.only_ack(), (PSN + 2, ACK));
    assert_eq!(
        outcomes(&r.host.completions),
        [0, 1, 2].map(|i| (i, Status::Success))
    );
    assert_eq!(r.host.engine.counters().out_of_sequence_requests, 4);
}

#[test]
fn r043_r044_duplicates_are_acknowledged_and_not_executed() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    r.receive(1, &mr);
    r.inject(SendOnly, PSN, b"x");
    r.inject_reth(WriteOnly, PSN + 1, mr.reth(500, 2), b"yy");
    r.inject_reth(WriteFirst, PSN + 2, mr.reth(600, 257), &[7; 256]);
    r.inject(WriteLast, PSN + 3, &[8]);
    r.replies();
    r.host.bytes_mut(&mr).fill(0);
    r.receive(2, &mr);
    r.inject(SendOnly, PSN, b"x");
    assert_eq!(r.only_ack(), (PSN + 3, ACK));
    r.inject_reth(WriteOnly, PSN + 1, mr.reth(500, 2), b"yy");
    r.inject_reth(WriteFirst, PSN + 2, mr.reth(600, 257), &[7; 256]);
    r.inject(WriteLast, PSN + 3, &[8]);
    assert_eq!(r.only_ack(), (PSN + 3, ACK));
    assert!(r.host.bytes(&mr).iter().all(|b| *b == 0));
    assert_eq!(r.host.completions.len(), 1);
    assert_eq!(r.host.engine.counters().duplicate_requests, 4);
}

/// A duplicate inside a message under way does not disturb it (rxe resumes with MIDDLE packets).
#[test]
fn duplicates_do_not_disturb_a_message_under_way() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    r.inject_reth(WriteFirst, PSN, mr.reth(0, 700), &[1; 256]);
    r.inject(WriteMiddle, PSN + 1, &[2; 256]);
    r.inject(WriteMiddle, PSN + 1, &[9; 256]);
    r.inject_reth(WriteFirst, PSN, mr.reth(0, 700), &[9; 256]);
    r.inject(WriteLast, PSN + 2, &[3; 188]);
    assert_eq!(r.only_ack(), (PSN + 2, ACK));
    let b = r.host.bytes(&mr);
    assert!(b[..256].iter().all(|x| *x == 1) && b[256..512].iter().all(|x| *x == 2));
    assert!(b[512..700].iter().all(|x| *x == 3) && b[700..].iter().all(|x| *x == 0));
}

#[test]
fn r045_r046_a_repeated_read_is_answered_again_if_it_is_the_same() {
    let mut r = Raw::small();
    let mr = r.host.open(pattern(2000, 1));
    let other = r.host.open(pattern(2000, 1));
    r.inject_reth(ReadRequest, PSN, mr.reth(100, 1000), &[]);
    assert_eq!(r.replies().len(), 4);
    // The whole of it.
    r.inject_reth(ReadRequest, PSN, mr.reth(100, 1000), &[]);
    let again = r.replies();
    assert_eq!(again.len(), 4);
    assert_eq!(
        again
            .iter()
            .flat_map(|x| x.payload.clone())
            .collect::<Vec<_>>(),
        r.host.bytes(&mr)[100..1100]
    );
    // From the middle: a shorter READ of its own.
    r.inject_reth(ReadRequest, PSN + 2, mr.reth(100 + 512, 1000 - 512), &[]);
    let again = r.replies();
    let seen: Vec<_> = again
        .iter()
        .map(|x| (x.op, x.psn, x.payload.len()))
        .collect();
    assert_eq!(
        seen,
        [
            (ReadResponseFirst, PSN + 2, 256),
            (ReadResponseLast, PSN + 3, 232)
        ]
    );
    assert_eq!(again[0].payload, r.host.bytes(&mr)[612..868]);
    // What was never asked for.
    let refused = [
        (PSN, mr.reth(100, 1001)),
        (PSN, mr.reth(100, 1024)),
        (PSN + 2, mr.reth(100 + 512, 512)),
        (PSN, mr.reth(101, 999)),
        (
            PSN,
            Reth {
                rkey: other.key.0,
                ..mr.reth(100, 1000)
            },
        ),
        (PSN + 2, mr.reth(100 + 512, 489)),
        (PSN + 2, mr.reth(100, 1000)),
        (PSN.wrapping_sub(1), mr.reth(100, 1000)),
    ];
    for (psn, range) in refused {
        r.inject_reth(ReadRequest, psn, range, &[]);
        r.silence();
    }
    assert_eq!(r.host.engine.counters().drop_unreplayable, 8);
}

#[test]
fn r048_as_many_reads_can_be_replayed_as_the_next_power_of_two() {
    let mut r = Raw::new(Setup {
        reads: 3,
        mtu: PathMtu::Mtu256,
        ..Setup::default()
    });
    let mr = r.host.open(pattern(2000, 1));
    for i in 0..5 {
        r.inject_reth(ReadRequest, PSN + i, mr.reth(u64::from(i), 10), &[]);
        r.replies();
    }
    r.inject_reth(ReadRequest, PSN, mr.reth(0, 10), &[]);
    r.silence();
    for i in 1..5 {
        r.inject_reth(ReadRequest, PSN + i, mr.reth(u64::from(i), 10), &[]);
        assert_eq!(r.packets(), [(ReadResponseOnly, PSN + i)]);
    }
}

/// Several READs repeated at once come in the order of their PSNs, whatever order they were repeated in.
#[test]
fn replays_come_in_order() {
    let mut r = Raw::small();
    let mr = r.host.open(pattern(2000, 1));
    for i in 0..3 {
        r.inject_reth(ReadRequest, PSN + 2 * i, mr.reth(0, 400), &[]);
    }
    r.replies();
    for i in [1, 0, 2] {
        r.inject_reth(ReadRequest, PSN + 2 * i, mr.reth(0, 400), &[]);
    }
    let psns = |r: &mut Raw| r.packets().iter().map(|p| p.1).collect::<Vec<_>>();
    assert_eq!(psns(&mut r), (PSN..PSN + 6).collect::<Vec<_>>());
    // A repetition of an older one goes before what is left of a younger one.
    r.host.nic_ring = 1;
    r.host.nic_holds = None;
    r.inject_reth(ReadRequest, PSN + 2, mr.reth(0, 400), &[]);
    assert_eq!(psns(&mut r), [PSN + 2]);
    r.inject_reth(ReadRequest, PSN, mr.reth(0, 400), &[]);
    r.host.release_all(r.now);
    r.host.nic_ring = 100;
    assert_eq!(psns(&mut r), [PSN, PSN + 1, PSN + 3]);
}

#[test]
fn r049_r050_without_a_receive_the_peer_is_asked_to_wait() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    r.inject(SendFirst, PSN, &[1; 256]);
    assert_eq!(r.only_ack(), (PSN, RNR));
    r.inject(SendLast, PSN + 1, &[1; 10]);
    r.inject(SendOnly, PSN + 2, &[1; 10]);
    r.silence();
    r.inject(SendFirst, PSN, &[1; 256]);
    assert_eq!(r.only_ack(), (PSN, RNR));
    r.receive(1, &mr);
    r.inject(SendFirst, PSN, &[1; 256]);
    r.inject(SendLast, PSN + 1, &[1; 10]);
    assert_eq!(r.only_ack(), (PSN + 1, ACK));
    assert_eq!(outcomes(&r.host.completions), [(1, Status::Success)]);
    assert_eq!(r.host.completions[0].bytes, 266);
}

#[test]
fn r049_the_peer_is_asked_to_wait_as_long_as_configured() {
    for code in 0..32 {
        let mut setup = Setup::small();
        setup.config.min_rnr_timer = code;
        let mut r = Raw::new(setup);
        r.inject(SendOnly, PSN, b"x");
        assert_eq!(r.only_ack(), (PSN, 0x20 | code));
        r.inject_immediate(WriteOnlyImm, PSN, Some(NOWHERE), [0; 4], &[]);
        assert_eq!(r.only_ack(), (PSN, 0x20 | code));
    }
}

#[test]
fn r051_r063_write_with_immediate_waits_for_a_receive_at_its_last_packet_only() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    r.inject_reth(WriteFirst, PSN, mr.reth(0, 300), &[5; 256]);
    r.inject_immediate(WriteLastImm, PSN + 1, None, *b"imm!", &[6; 44]);
    assert_eq!(r.only_ack(), (PSN + 1, RNR));
    assert_eq!(r.host.bytes(&mr)[..257], [&[5; 256][..], &[0]].concat());
    r.host.engine.post_recv(r.now, r.qp, 4, &[]).unwrap();
    r.inject_immediate(WriteLastImm, PSN + 1, None, *b"imm!", &[6; 44]);
    assert_eq!(r.only_ack(), (PSN + 1, ACK));
    let c = r.host.completions[0];
    assert_eq!(
        (c.context, c.op, c.bytes, c.immediate),
        (4, CompletionOp::ReceiveWrite, 300, Some(*b"imm!"))
    );
    assert_eq!(r.host.bytes(&mr)[256..301], [&[6; 44][..], &[0]].concat());
    // In one packet, without data.
    r.host.engine.post_recv(r.now, r.qp, 5, &[]).unwrap();
    r.inject_immediate(
        WriteOnlyImm,
        PSN + 2,
        Some(Reth {
            va: 1,
            rkey: 2,
            len: 0,
        }),
        [1, 2, 3, 4],
        &[],
    );
    assert_eq!(r.only_ack(), (PSN + 2, ACK));
    assert_eq!(r.host.completions[1].immediate, Some([1, 2, 3, 4]));
}

#[test]
fn r063_send_with_immediate_delivers_it() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    r.receive(1, &mr);
    r.receive(2, &mr);
    r.inject_immediate(SendOnlyImm, PSN, None, [0xde, 0xad, 0xbe, 0xef], b"abc");
    r.inject(SendFirst, PSN + 1, &[1; 256]);
    r.inject_immediate(SendLastImm, PSN + 2, None, [0, 0, 0, 1], b"abc");
    r.replies();
    let seen: Vec<_> = r
        .host
        .completions
        .iter()
        .map(|c| (c.context, c.op, c.bytes, c.immediate))
        .collect();
    let want = [
        (1, CompletionOp::Receive, 3, Some([0xde, 0xad, 0xbe, 0xef])),
        (2, CompletionOp::Receive, 259, Some([0, 0, 0, 1])),
    ];
    assert_eq!(seen, want);
}

#[test]
fn r059_r061_answers_keep_the_order_of_requests() {
    let mut r = Raw::small();
    let mr = r.host.open(pattern(1000, 1));
    let sink = r.host.open(vec![0; 1000]);
    r.receive(1, &sink);
    // A READ, a SEND, and a request that must be refused, all before anything can be sent.
    r.inject_reth(ReadRequest, PSN, mr.reth(0, 600), &[]);
    r.inject(SendOnly, PSN + 3, b"hello");
    r.inject_reth(ReadRequest, PSN + 4, mr.reth(900, 101), &[]);
    let replies = r.replies();
    let seen: Vec<_> = replies.iter().map(|x| (x.op, x.psn, x.syndrome)).collect();
    let want = [
        (ReadResponseFirst, PSN, Some(ACK)),
        (ReadResponseMiddle, PSN + 1, None),
        (ReadResponseLast, PSN + 2, Some(ACK)),
        (Acknowledge, PSN + 4, Some(ACCESS)),
    ];
    assert_eq!(seen, want);
    assert_eq!(r.host.completions[0].bytes, 5);
    r.assert_dead();
}

#[test]
fn r040_a_packet_that_wants_no_acknowledgement_does_not_take_back_an_earlier_wish() {
    let mut r = Raw::small();
    let ext = ExtHeaders {
        reth: Some(Reth {
            va: 0,
            rkey: 0,
            len: 0,
        }),
        ..ExtHeaders::NONE
    };
    for (psn, ack_req) in [(PSN, true), (PSN + 1, false)] {
        let bth = Bth {
            ack_req,
            ..r.bth(WriteOnly, psn)
        };
        let frame = r.frame(bth, ext, &[]);
        r.feed(&frame);
    }
    assert_eq!(r.only_ack(), (PSN + 1, ACK));
}

/// A copy of a READ request, made by the wire, comes when its answer has hardly begun.
#[test]
fn r045_a_copy_of_a_read_request_does_not_begin_its_answer_anew() {
    let mut r = Raw::small();
    let mr = r.host.open(pattern(1000, 1));
    let ask = |r: &mut Raw| r.inject_reth(ReadRequest, PSN, mr.reth(0, 1000), &[]);
    r.host.nic_ring = 1;
    r.host.nic_holds = None;
    ask(&mut r);
    assert_eq!(r.packets(), [(ReadResponseFirst, PSN)]);
    ask(&mut r);
    r.host.release_all(r.now);
    assert_eq!(r.packets(), [(ReadResponseMiddle, PSN + 1)]);
    // From here on the peer may have seen that the first response is missing.
    ask(&mut r);
    r.host.release_all(r.now);
    assert_eq!(r.packets(), [(ReadResponseFirst, PSN)]);
    // A part of it is no copy, and the rest is waited for all the same.
    r.inject_reth(ReadRequest, PSN, mr.reth(0, 512), &[]);
    r.host.release_all(r.now);
    r.host.nic_ring = 100;
    assert_eq!(
        r.packets(),
        [
            (ReadResponseFirst, PSN),
            (ReadResponseLast, PSN + 1),
            (ReadResponseMiddle, PSN + 2),
            (ReadResponseLast, PSN + 3),
        ]
    );
}

#[test]
fn a_part_that_is_asked_for_again_does_not_end_the_answer_under_way() {
    const MTU: u32 = 256;
    const PACKETS: u32 = 8;
    // So many have gone out when one part is asked for, and so many more when another is.
    for (sent, first, more, second) in [
        (3, (1, 2), 9, (0, 0)),
        (3, (0, 3), 9, (0, 0)),
        (3, (2, 5), 9, (0, 0)),
        (5, (1, 4), 1, (2, 3)),
        (5, (1, 3), 2, (0, 1)),
        (4, (1, 3), 4, (4, 6)),
        (8, (2, 3), 9, (0, 0)),
        (4, (1, 8), 9, (0, 0)),
    ] {
        let mut r = Raw::small();
        let data = pattern((PACKETS * MTU) as usize, 1);
        let mr = r.host.open(data.clone());
        r.host.nic_ring = 1;
        r.host.nic_holds = None;
        let mut seen = [0; PACKETS as usize];
        let mut take = |r: &mut Raw, most: usize| {
            for _ in 0..most {
                let Some(reply) = r.replies().pop() else {
                    break;
                };
                let index = reply.psn - PSN;
                let at = (index * MTU) as usize;
                assert_eq!(reply.payload, data[at..at + MTU as usize]);
                assert_eq!(reply.op.has_aeth(), reply.op != ReadResponseMiddle);
                seen[index as usize] += 1;
                r.host.release_all(r.now);
            }
        };
        let ask = |r: &mut Raw, (from, to): (u32, u32)| {
            let range = mr.reth(u64::from(from * MTU), (to - from) * MTU);
            r.inject_reth(ReadRequest, PSN + from, range, &[]);
        };
        ask(&mut r, (0, PACKETS));
        take(&mut r, sent);
        ask(&mut r, first);
        take(&mut r, more);
        if second != (0, 0) {
            ask(&mut r, second);
        }
        take(&mut r, 100);
        let asked = |i| usize::from((first.0..first.1).contains(&i));
        for (i, seen) in (0..).zip(seen) {
            assert!(
                seen > 0,
                "{i} of {PACKETS}: {sent} {first:?} {more} {second:?}"
            );
            assert!(seen <= 2 + asked(i), "{i}: {seen}");
        }
        r.silence();
    }
}

/// With half of all PSNs taken by one request, what came before it would be taken for what comes later.
#[test]
fn a_read_of_half_of_all_psns_is_refused() {
    const HALF: u32 = 1 << 31;
    for (len, accepted) in [(HALF - 256, true), (HALF - 255, false), (HALF, false)] {
        let mut r = Raw::small();
        let mr = r.host.unregistered(vec![0; 1000]);
        let (pd, access) = (r.host.pd, roce::Access::REMOTE_READ);
        let key = r
            .host
            .engine
            .register(pd, mr.va, 1 << 32, access, mr.region)
            .unwrap();
        let range = Reth {
            va: mr.va,
            rkey: key.0,
            len,
        };
        let nothing = Reth { len: 0, ..range };
        r.inject_reth(WriteOnly, PSN, nothing, &[]);
        r.inject_reth(ReadRequest, PSN + 1, range, &[]);
        if accepted {
            r.inject_reth(WriteOnly, PSN, nothing, &[]);
            let c = r.host.engine.counters();
            assert_eq!((c.duplicate_requests, c.out_of_sequence_requests), (1, 0));
        } else {
            assert_eq!(r.only_ack(), (PSN + 1, INVALID));
        }
    }
}
