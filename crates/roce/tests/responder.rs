//! The responder, packet by packet: what it executes, what it refuses, and in which words.

mod util;

use roce::wire::Opcode::*;
use roce::wire::{Bth, ExtHeaders, Opcode, Reth};
use roce::{Access, CompletionOp, Event, PathMtu, PostError, SendOp, Status};
use util::raw::syndrome::*;
use util::raw::{PSN, Raw};
use util::*;

fn receive(r: &mut Raw, context: u64, mr: &Mr) {
    r.host
        .engine
        .post_recv(r.now, r.qp, context, &[mr.all()])
        .unwrap();
}

/// The connection is over: nothing is answered, everything is flushed.
fn assert_dead(r: &mut Raw) {
    r.inject(SendOnly, PSN, b"more");
    r.inject(SendOnly, PSN + 1, b"more");
    r.inject(SendOnly, PSN + 9, b"more");
    r.silence();
    let request = request(SendOp::Send);
    assert_eq!(
        r.host.engine.post_send(r.now, r.qp, &request),
        Err(PostError::NotConnected)
    );
    r.host.engine.post_recv(r.now, r.qp, 999, &[]).unwrap();
    r.host.collect();
    let last = r.host.completions.last().unwrap();
    assert_eq!((last.context, last.status), (999, Status::Flushed));
    assert!(
        r.host
            .events
            .iter()
            .any(|e| matches!(e, Event::QpFatal { .. }))
    );
}

#[test]
fn r040_r041_acknowledgements_and_their_msn() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    receive(&mut r, 1, &mr);
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
fn r042_a_gap_gets_exactly_one_nak() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    for i in 0..5 {
        receive(&mut r, i, &mr);
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
    receive(&mut r, 1, &mr);
    r.inject(SendOnly, PSN, b"x");
    r.inject_reth(WriteOnly, PSN + 1, mr.reth(500, 2), b"yy");
    r.inject_reth(WriteFirst, PSN + 2, mr.reth(600, 257), &[7; 256]);
    r.inject(WriteLast, PSN + 3, &[8]);
    r.replies();
    r.host.bytes_mut(&mr).fill(0);
    receive(&mut r, 2, &mr);
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

#[test]
fn more_reads_outstanding_than_granted_end_the_connection() {
    let mut r = Raw::new(Setup {
        reads: 2,
        mtu: PathMtu::Mtu256,
        ..Setup::default()
    });
    let mr = r.host.open(pattern(2000, 1));
    for i in 0..3 {
        r.inject_reth(ReadRequest, PSN + i, mr.reth(0, 10), &[]);
    }
    let replies = r.replies();
    let seen: Vec<_> = replies.iter().map(|x| (x.op, x.psn, x.syndrome)).collect();
    let want = [
        (ReadResponseOnly, PSN, Some(ACK)),
        (ReadResponseOnly, PSN + 1, Some(ACK)),
        (Acknowledge, PSN + 2, Some(INVALID)),
    ];
    assert_eq!(seen, want);
    assert_dead(&mut r);
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
    receive(&mut r, 1, &mr);
    r.inject(SendFirst, PSN, &[1; 256]);
    r.inject(SendLast, PSN + 1, &[1; 10]);
    assert_eq!(r.only_ack(), (PSN + 1, ACK));
    assert_eq!(outcomes(&r.host.completions), [(1, Status::Success)]);
    assert_eq!(r.host.completions[0].bytes, 266);
}

#[test]
fn r051_write_with_immediate_waits_for_a_receive_at_its_last_packet_only() {
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
    // r063
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
    receive(&mut r, 1, &mr);
    receive(&mut r, 2, &mr);
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
fn r052_opcodes_out_of_order_end_the_connection() {
    let sequences: &[&[Opcode]] = &[
        &[SendMiddle],
        &[SendLast],
        &[WriteMiddle],
        &[WriteLast],
        &[SendFirst, SendFirst],
        &[SendFirst, SendOnly],
        &[SendFirst, WriteMiddle],
        &[SendFirst, WriteLast],
        &[WriteFirst, SendLast],
        &[WriteFirst, WriteFirst],
        &[SendFirst, ReadRequest],
        &[WriteFirst, ReadRequest],
        &[SendFirst, CompareSwap],
    ];
    for ops in sequences {
        let mut r = Raw::small();
        let mr = r.host.open(vec![0; 1000]);
        receive(&mut r, 1, &mr);
        receive(&mut r, 2, &mr);
        let mut psn = PSN;
        for op in *ops {
            let reth = op
                .has_reth()
                .then(|| mr.reth(0, if *op == ReadRequest { 8 } else { 600 }));
            let atomic = op.is_atomic().then_some(roce::wire::AtomicEth {
                va: mr.va,
                rkey: mr.key.0,
                swap_add: 0,
                compare: 0,
            });
            let len = if op.is_first() || op.is_middle() {
                256
            } else {
                8
            };
            let len = if *op == ReadRequest || op.is_atomic() {
                0
            } else {
                len
            };
            r.inject_ext(
                *op,
                psn,
                ExtHeaders {
                    reth,
                    atomic,
                    ..ExtHeaders::NONE
                },
                &vec![0; len],
            );
            psn += 1;
        }
        let replies = r.replies();
        let last = replies.last().unwrap();
        assert_eq!(
            (last.psn, last.syndrome),
            (psn - 1, Some(INVALID)),
            "{ops:?}"
        );
        assert_dead(&mut r);
    }
}

#[test]
fn r053_every_packet_but_the_last_is_full() {
    let cases: [(Opcode, usize); 8] = [
        (SendFirst, 255),
        (SendFirst, 0),
        (SendFirst, 260),
        (SendOnly, 257),
        (WriteFirst, 255),
        (WriteFirst, 257),
        (WriteOnly, 257),
        (WriteOnly, 255),
    ];
    for (op, len) in cases {
        let mut r = Raw::small();
        let mr = r.host.open(vec![0; 1000]);
        receive(&mut r, 1, &mr);
        let reth = op
            .has_reth()
            .then(|| mr.reth(0, if op == WriteOnly { 256 } else { 600 }));
        r.inject_ext(
            op,
            PSN,
            ExtHeaders {
                reth,
                ..ExtHeaders::NONE
            },
            &vec![1; len],
        );
        assert_eq!(r.only_ack(), (PSN, INVALID), "{op:?} {len}");
        assert_dead(&mut r);
        assert!(r.host.bytes(&mr).iter().all(|b| *b == 0));
    }
    // Within a message.
    for (op, len) in [(SendMiddle, 100), (SendLast, 0), (SendLast, 257)] {
        let mut r = Raw::small();
        let mr = r.host.open(vec![0; 1000]);
        receive(&mut r, 1, &mr);
        r.inject(SendFirst, PSN, &[1; 256]);
        r.replies();
        r.inject(op, PSN + 1, &vec![1; len]);
        assert_eq!(r.only_ack(), (PSN + 1, INVALID), "{op:?} {len}");
    }
}

#[test]
fn a_write_must_bring_exactly_what_it_announced() {
    // Announced, lengths of the packets.
    let cases: [(u32, &[usize]); 6] = [
        (600, &[256, 256, 87]),
        (600, &[256, 256, 89]),
        (600, &[256, 256, 256]),
        (600, &[256, 88]),
        (256, &[256]),
        (512, &[256, 256, 0]),
    ];
    for (announced, lens) in cases {
        let mut r = Raw::small();
        let mr = r.host.open(vec![0; 1000]);
        for (i, len) in lens.iter().enumerate() {
            let psn = PSN + i as u32;
            match i {
                0 => r.inject_reth(WriteFirst, psn, mr.reth(0, announced), &vec![1; *len]),
                _ if i + 1 == lens.len() => r.inject(WriteLast, psn, &vec![1; *len]),
                _ => r.inject(WriteMiddle, psn, &vec![1; *len]),
            }
        }
        let replies = r.replies();
        let nak = replies.last().unwrap();
        assert_eq!(nak.syndrome, Some(INVALID), "{announced} {lens:?}");
        assert!(
            r.host.bytes(&mr)[announced as usize..]
                .iter()
                .all(|b| *b == 0)
        );
        assert_dead(&mut r);
    }
}

#[test]
fn r054_a_message_longer_than_the_receive_ends_the_connection() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    r.host
        .engine
        .post_recv(r.now, r.qp, 1, &[mr.sge(0, 300)])
        .unwrap();
    receive(&mut r, 2, &mr);
    r.inject(SendFirst, PSN, &[1; 256]);
    r.replies();
    r.inject(SendLast, PSN + 1, &[1; 45]);
    assert_eq!(r.only_ack(), (PSN + 1, INVALID));
    assert_eq!(
        outcomes(&r.host.completions),
        [(1, Status::LocalLength), (2, Status::Flushed)]
    );
    assert!(r.host.bytes(&mr)[300..].iter().all(|b| *b == 0));
    assert_dead(&mut r);
}

#[test]
fn r055_bad_remote_ranges_are_denied_and_nothing_is_touched() {
    let ops = [WriteOnly, WriteFirst, ReadRequest];
    for op in ops {
        for case in 0..8 {
            let mut r = Raw::small();
            let mr = r.host.open(vec![0; 1000]);
            let private = r.host.register(vec![0; 1000], Access::LOCAL_WRITE);
            let elsewhere = r.host.engine.create_pd().unwrap();
            let all = Access::LOCAL_WRITE | Access::REMOTE_READ | Access::REMOTE_WRITE;
            let foreign = r
                .host
                .engine
                .register(elsewhere, mr.va, 1000, all, mr.region)
                .unwrap();
            let gone = r.host.open(vec![0; 1000]);
            r.host.engine.deregister(gone.key).unwrap();
            let len = if op == WriteOnly { 200 } else { 600 };
            let good = mr.reth(0, len);
            let bad = match case {
                0 => Reth {
                    rkey: good.rkey ^ 0x80,
                    ..good
                },
                1 => Reth { rkey: 0, ..good },
                2 => private.reth(0, len),
                3 => Reth {
                    rkey: foreign.0,
                    ..good
                },
                4 => mr.reth(1000 - u64::from(len) + 1, len),
                5 => Reth {
                    va: good.va - 1,
                    ..good
                },
                6 => Reth {
                    va: u64::MAX - 10,
                    ..good
                },
                _ => gone.reth(0, len),
            };
            receive(&mut r, 6, &mr);
            let payload = if op == ReadRequest {
                0
            } else {
                len.min(256) as usize
            };
            r.inject_reth(op, PSN, bad, &vec![0xff; payload]);
            assert_eq!(r.only_ack(), (PSN, ACCESS), "{op:?} case {case}");
            // No fault of the receive.
            assert_eq!(outcomes(&r.host.completions), [(6, Status::Flushed)]);
            assert!(r.host.memory.regions.iter().flatten().all(|b| *b == 0));
            assert_dead(&mut r);
        }
    }
}

#[test]
fn r055_access_rights_are_per_direction() {
    for (access, op, allowed) in [
        (Access::REMOTE_READ, ReadRequest, true),
        (Access::REMOTE_READ, WriteOnly, false),
        (Access::REMOTE_WRITE, ReadRequest, false),
        (Access::REMOTE_WRITE, WriteOnly, true),
    ] {
        let mut r = Raw::small();
        let mr = r.host.register(vec![0; 10], access);
        r.inject_reth(
            op,
            PSN,
            mr.reth(0, 10),
            if op == WriteOnly { &[1; 10] } else { &[] },
        );
        let want = if allowed { ACK } else { ACCESS };
        assert_eq!(r.replies()[0].syndrome, Some(want), "{access:?} {op:?}");
    }
}

#[test]
fn a_region_deregistered_in_the_middle_of_a_write_ends_it() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    r.inject_reth(WriteFirst, PSN, mr.reth(0, 600), &[1; 256]);
    r.replies();
    r.host.engine.deregister(mr.key).unwrap();
    r.inject(WriteMiddle, PSN + 1, &[1; 256]);
    assert_eq!(r.only_ack(), (PSN + 1, ACCESS));
    assert!(r.host.bytes(&mr)[256..].iter().all(|b| *b == 0));
}

#[test]
fn r056_zero_length_needs_no_key() {
    let mut r = Raw::small();
    let nowhere = Reth {
        va: u64::MAX,
        rkey: 0xdead_beef,
        len: 0,
    };
    r.inject_reth(WriteOnly, PSN, nowhere, &[]);
    assert_eq!(r.only_ack(), (PSN, ACK));
    r.inject_reth(ReadRequest, PSN + 1, nowhere, &[]);
    let reply = &r.replies()[0];
    assert_eq!(
        (reply.op, reply.psn, reply.payload.len()),
        (ReadResponseOnly, PSN + 1, 0)
    );
    r.inject_reth(ReadRequest, PSN + 1, nowhere, &[]);
    assert_eq!(r.packets(), [(ReadResponseOnly, PSN + 1)]);
}

#[test]
fn r057_operations_that_are_not_enabled_are_invalid() {
    let mut r = Raw::new(Setup {
        reads: 0,
        ..Setup::default()
    });
    let mr = r.host.open(vec![0; 1000]);
    r.inject_reth(ReadRequest, PSN, mr.reth(0, 8), &[]);
    assert_eq!(r.only_ack(), (PSN, INVALID));
    for op in [CompareSwap, FetchAdd] {
        let mut r = Raw::small();
        let mr = r.host.open(vec![0; 1000]);
        let atomic = Some(roce::wire::AtomicEth {
            va: mr.va,
            rkey: mr.key.0,
            swap_add: 1,
            compare: 0,
        });
        r.inject_ext(
            op,
            PSN,
            ExtHeaders {
                atomic,
                ..ExtHeaders::NONE
            },
            &[],
        );
        assert_eq!(r.only_ack(), (PSN, INVALID));
        assert_eq!(r.host.bytes(&mr)[..8], [0; 8]);
    }
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 8]);
    r.inject_reth(ReadRequest, PSN, mr.reth(0, (1 << 31) + 1), &[]);
    assert_eq!(r.only_ack(), (PSN, INVALID));
}

#[test]
fn r059_r061_answers_keep_the_order_of_requests() {
    let mut r = Raw::small();
    let mr = r.host.open(pattern(1000, 1));
    let sink = r.host.open(vec![0; 1000]);
    receive(&mut r, 1, &sink);
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
    assert_dead(&mut r);
}

#[test]
fn r062_an_ordinary_key_cannot_be_invalidated_remotely() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    receive(&mut r, 1, &mr);
    receive(&mut r, 2, &mr);
    r.inject_invalidate(SendOnlyInvalidate, PSN, mr.key.0, b"abc");
    assert_eq!(r.only_ack(), (PSN, ACCESS));
    assert_eq!(
        outcomes(&r.host.completions),
        [(1, Status::RemoteInvalidate), (2, Status::Flushed)]
    );
    // The key has survived.
    let qp = r.host.create_qp();
    assert!(r.host.engine.post_recv(r.now, qp, 1, &[mr.all()]).is_ok());
    assert_eq!(r.host.engine.usage().keys, 1);
    assert_dead(&mut r);
}

#[test]
fn unreachable_receive_memory_is_an_operational_error() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    receive(&mut r, 1, &mr);
    r.host.memory.faulty.push(mr.region);
    r.inject(SendOnly, PSN, b"abc");
    assert_eq!(r.only_ack(), (PSN, OPERATION));
    assert_eq!(
        outcomes(&r.host.completions),
        [(1, Status::LocalProtection)]
    );
    // The same if the key of the receive is not good for writing.
    let mut r = Raw::small();
    let mr = r.host.register(vec![0; 1000], Access::REMOTE_READ);
    receive(&mut r, 1, &mr);
    r.inject(SendOnly, PSN, b"abc");
    assert_eq!(r.only_ack(), (PSN, OPERATION));
    assert_eq!(
        outcomes(&r.host.completions),
        [(1, Status::LocalProtection)]
    );
}

#[test]
fn read_memory_that_vanishes_under_the_answer_is_told_at_its_packet() {
    let mut r = Raw::small();
    let mr = r.host.open(pattern(1000, 1));
    r.host.nic_ring = 2;
    r.host.nic_holds = None;
    r.inject_reth(ReadRequest, PSN, mr.reth(0, 1000), &[]);
    assert_eq!(
        r.packets(),
        [(ReadResponseFirst, PSN), (ReadResponseMiddle, PSN + 1)]
    );
    assert_eq!(
        r.host.engine.deregister(mr.key),
        Err(roce::DeregisterError::Busy)
    );
    r.host.release_all(r.now);
    assert_eq!(r.only_ack(), (PSN + 2, ACCESS));
    assert!(r.host.events.contains(&Event::RegionIdle {
        key: mr.key,
        region: mr.region
    }));
    assert_dead(&mut r);
}

#[test]
fn r011_unknown_opcodes_and_notifications_of_congestion_change_nothing() {
    let mut r = Raw::small();
    for op in [0x15, 0x18, 0x1c, 0x1f, 0x81, 0x20, 0x44, 0xe0, 0x64] {
        let op = Opcode::from_u8(op);
        let deth = op.has_deth().then_some(roce::wire::Deth {
            qkey: 0,
            src_qpn: 1,
        });
        r.inject_ext(
            op,
            PSN,
            ExtHeaders {
                deth,
                ..ExtHeaders::NONE
            },
            &[0; 16],
        );
        r.silence();
    }
    assert_eq!(r.host.engine.counters().drop_opcode, 9);
    r.inject_reth(
        WriteOnly,
        PSN,
        Reth {
            va: 0,
            rkey: 0,
            len: 0,
        },
        &[],
    );
    assert_eq!(r.only_ack(), (PSN, ACK));
}

#[test]
fn r003_r006_r007_r009_r010_what_is_dropped_and_what_is_not() {
    let mut r = Raw::small();
    let zero = Reth {
        va: 0,
        rkey: 0,
        len: 0,
    };
    let ext = ExtHeaders {
        reth: Some(zero),
        ..ExtHeaders::NONE
    };
    let good = Bth {
        ack_req: true,
        ..r.bth(WriteOnly, PSN)
    };
    let counters = |r: &Raw| *r.host.engine.counters();

    let frame = r.frame(
        Bth {
            dest_qpn: r.qpn ^ 0x10_0000,
            ..good
        },
        ext,
        &[],
    );
    r.feed(&frame);
    assert_eq!(counters(&r).drop_unknown_qp, 1);
    let frame = r.frame(
        Bth {
            pkey: 0x8001,
            ..good
        },
        ext,
        &[],
    );
    r.feed(&frame);
    assert_eq!(counters(&r).drop_pkey, 1);
    let mut frame = r.frame(good, ext, &[]);
    let last = frame.len() - 1;
    frame[last] ^= 1;
    r.feed(&frame);
    assert_eq!(counters(&r).drop_icrc, 1);
    let path = r.path;
    r.path.src_ip = "10.0.0.3".parse().unwrap();
    let frame = r.frame(good, ext, &[]);
    r.feed(&frame);
    assert_eq!(counters(&r).drop_wrong_peer, 1);
    r.path = path;
    let frame = r.frame(Bth { tver: 1, ..good }, ext, &[]);
    r.feed(&frame);
    assert_eq!(counters(&r).drop_malformed, 1);
    r.silence();

    // Limited membership, migration bit, congestion marks: all fine. And Ethernet padding is not payload.
    let odd = Bth {
        pkey: 0x7fff,
        mig_req: true,
        fecn: true,
        becn: true,
        ..good
    };
    let mut frame = r.frame(odd, ext, &[]);
    frame.extend([0; 9]);
    r.feed(&frame);
    assert_eq!(r.only_ack(), (PSN, ACK));
    assert_eq!(counters(&r).rx_frames, 6);
}

#[test]
fn r008_any_source_port_is_accepted_and_ours_is_constant() {
    let mut r = Raw::small();
    let zero = Reth {
        va: 0,
        rkey: 0,
        len: 0,
    };
    let mut ports = Vec::new();
    for (i, port) in [0u16, 1, 4791, 0xffff].into_iter().enumerate() {
        let ext = ExtHeaders {
            reth: Some(zero),
            ..ExtHeaders::NONE
        };
        let bth = Bth {
            ack_req: true,
            ..r.bth(WriteOnly, PSN + i as u32)
        };
        let mut header = arrayvec::ArrayVec::<u8, 256>::new();
        let icrc = roce::wire::frame::Header::new(&r.path, port, bth, ext)
            .write(0, &mut header)
            .unwrap();
        let frame = [&header[..], &icrc.trailer(0)].concat();
        r.feed(&frame);
        let frame = r.host.transmit(r.now).unwrap();
        ports.push(u16::from_be_bytes([frame[34], frame[35]]));
    }
    assert!(
        ports[0] >= 0xc000 && ports.iter().all(|p| *p == ports[0]),
        "{ports:x?}"
    );
}

#[test]
fn r002_r012_r013_what_routers_and_bridges_change_does_not_matter() {
    for ipv6 in [false, true] {
        let mut r = Raw::new(Setup {
            ipv6,
            ..Setup::default()
        });
        let zero = Reth {
            va: 0,
            rkey: 0,
            len: 0,
        };
        let ext = ExtHeaders {
            reth: Some(zero),
            ..ExtHeaders::NONE
        };
        let next = |r: &Raw, psn| {
            let bth = Bth {
                ack_req: true,
                ..r.bth(WriteOnly, psn)
            };
            r.frame(bth, ext, &[])
        };
        // A VLAN tag.
        let frame = next(&r, PSN);
        let tagged = [&frame[..12], &[0x81, 0, 0x60, 5], &frame[12..]].concat();
        r.feed(&tagged);
        assert_eq!(r.only_ack(), (PSN, ACK));
        // Hop limit, class of traffic, flow label or checksums, congestion.
        let mut frame = next(&r, PSN + 1);
        let changes: &[usize] = if ipv6 {
            &[15, 16, 17, 21, 60, 61, 66]
        } else {
            &[15, 22, 24, 25, 40, 41, 46]
        };
        for at in changes {
            frame[*at] ^= 0x5a;
        }
        if !ipv6 {
            // The header checksum has to be right on its own account.
            frame[24..26].fill(0);
            let sum: u32 = frame[14..34]
                .chunks(2)
                .map(|w| u32::from(w[0]) << 8 | u32::from(w[1]))
                .sum();
            let sum = (sum & 0xffff) + (sum >> 16);
            let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        // A UDP checksum may be absent, and is not looked at.
        r.feed(&frame);
        assert_eq!(r.only_ack(), (PSN + 1, ACK), "IPv6: {ipv6}");
        // Anything else does.
        for at in (if ipv6 { 54 } else { 34 })..frame.len() {
            if changes.contains(&at) {
                continue;
            }
            let mut frame = next(&r, PSN + 2);
            frame[at] ^= 1;
            r.host.engine.receive(r.now, &frame, &mut r.host.memory);
            r.silence();
        }
        r.inject_reth(WriteOnly, PSN + 2, zero, &[]);
        assert_eq!(r.only_ack(), (PSN + 2, ACK));
    }
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
