//! The responder, packet by packet: what it refuses, and in which words.

mod util;

use roce::wire::Opcode::*;
use roce::wire::{ExtHeaders, Opcode, Reth};
use roce::{Access, Event, PathMtu, Status};
use util::raw::syndrome::*;
use util::raw::{PSN, Raw};
use util::*;

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
    r.assert_dead();
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
        r.receive(1, &mr);
        r.receive(2, &mr);
        let mut psn = PSN;
        for op in *ops {
            let reth = op
                .has_reth()
                .then(|| mr.reth(0, if *op == ReadRequest { 8 } else { 600 }));
            let atomic = op.is_atomic().then(|| mr.atomic(0, 0, 0));
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
        r.assert_dead();
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
        r.receive(1, &mr);
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
        r.assert_dead();
        assert!(r.host.bytes(&mr).iter().all(|b| *b == 0));
    }
    // Within a message.
    for (op, len) in [(SendMiddle, 100), (SendLast, 0), (SendLast, 257)] {
        let mut r = Raw::small();
        let mr = r.host.open(vec![0; 1000]);
        r.receive(1, &mr);
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
        r.assert_dead();
    }
}

#[test]
fn r054_r064_a_message_longer_than_the_receive_ends_the_connection() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    r.host
        .engine
        .post_recv(r.now, r.qp, 1, &[mr.sge(0, 300)])
        .unwrap();
    r.receive(2, &mr);
    r.inject(SendFirst, PSN, &[1; 256]);
    r.replies();
    r.inject(SendLast, PSN + 1, &[1; 45]);
    assert_eq!(r.only_ack(), (PSN + 1, INVALID));
    assert_eq!(
        outcomes(&r.host.completions),
        [(1, Status::LocalLength), (2, Status::Flushed)]
    );
    assert!(r.host.bytes(&mr)[300..].iter().all(|b| *b == 0));
    r.assert_dead();
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
            r.receive(6, &mr);
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
            r.assert_dead();
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
        let mut r = Raw::new(Setup {
            reads: 0,
            ..Setup::default()
        });
        let mr = r.host.register(vec![0; 1000], Access::all());
        r.inject_atomic(op, PSN, mr.atomic(0, 1, 0));
        assert_eq!(r.only_ack(), (PSN, INVALID));
        assert_eq!(r.host.bytes(&mr)[..8], [0; 8]);
    }
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 8]);
    r.inject_reth(ReadRequest, PSN, mr.reth(0, (1 << 31) + 1), &[]);
    assert_eq!(r.only_ack(), (PSN, INVALID));
}

#[test]
fn r062_an_ordinary_key_cannot_be_invalidated_remotely() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    r.receive(1, &mr);
    r.receive(2, &mr);
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
    r.assert_dead();
}

#[test]
fn unreachable_receive_memory_is_an_operational_error() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    r.receive(1, &mr);
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
    r.receive(1, &mr);
    r.inject(SendOnly, PSN, b"abc");
    assert_eq!(r.only_ack(), (PSN, OPERATION));
    assert_eq!(
        outcomes(&r.host.completions),
        [(1, Status::LocalProtection)]
    );
}

#[test]
fn r059_memory_that_vanishes_once_responses_have_begun_draws_no_nak() {
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
    r.silence();
    assert!(r.host.events.contains(&Event::RegionIdle {
        key: mr.key,
        region: mr.region
    }));
    r.assert_dead();
}

/// What has not begun yet is refused as if it had come later, behind the answer before it.
#[test]
fn r059_memory_that_vanishes_before_the_first_response_is_an_access_error() {
    let mut r = Raw::small();
    let (mr, other) = (r.host.open(pattern(10, 1)), r.host.open(pattern(300, 2)));
    r.inject_reth(ReadRequest, PSN, mr.reth(0, 10), &[]);
    r.inject_reth(ReadRequest, PSN + 1, other.reth(0, 300), &[]);
    r.host.engine.deregister(other.key).unwrap();
    let seen: Vec<_> = r
        .replies()
        .iter()
        .map(|x| (x.op, x.psn, x.syndrome))
        .collect();
    let want = [
        (ReadResponseOnly, PSN, Some(ACK)),
        (Acknowledge, PSN + 1, Some(ACCESS)),
    ];
    assert_eq!(seen, want);
    r.assert_dead();
}
