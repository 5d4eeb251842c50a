//! The responder, packet by packet: what it refuses, and in which words.

use crate::util::raw::syndrome::*;
use crate::util::raw::{PSN, Raw};
use crate::util::*;
use roce::wire::Opcode::*;
use roce::wire::{ExtHeaders, Ieth, Immediate, Opcode, Reth};
use roce::{Access, Event, PathMtu, Status};

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

/// Every request that there is, at the beginning, in a SEND and in a WRITE.
#[test]
fn r052_opcodes_out_of_order_end_the_connection() {
    const SEND_ENDS: [Opcode; 4] = [SendMiddle, SendLast, SendLastImm, SendLastInvalidate];
    const WRITE_ENDS: [Opcode; 3] = [WriteMiddle, WriteLast, WriteLastImm];
    const BEGIN: [Opcode; 10] = [
        SendFirst,
        SendOnly,
        SendOnlyImm,
        SendOnlyInvalidate,
        WriteFirst,
        WriteOnly,
        WriteOnlyImm,
        ReadRequest,
        CompareSwap,
        FetchAdd,
    ];
    let all: Vec<Opcode> = (0..=u8::MAX)
        .map(Opcode::from_u8)
        .filter(|op| op.is_rc_request())
        .collect();
    assert_eq!(
        all.len(),
        SEND_ENDS.len() + WRITE_ENDS.len() + BEGIN.len(),
        "{all:?}"
    );
    for (under_way, legal) in [
        (None, &BEGIN[..]),
        (Some(SendFirst), &SEND_ENDS),
        (Some(WriteFirst), &WRITE_ENDS),
    ] {
        for op in &all {
            let mut r = Raw::small();
            let mr = r.host.register(vec![0; 1000], Access::all());
            let key = r.host.fast(r.now, r.qp, 9, vec![0; 8]).key.0;
            r.silence();
            r.receive(1, &mr);
            r.receive(2, &mr);
            let mut psn = PSN;
            let more = op.is_middle();
            for op in under_way.iter().chain([op]) {
                let full = op.is_first() || op.is_middle();
                let len = match op {
                    ReadRequest | CompareSwap | FetchAdd => 0,
                    _ if full => 256,
                    _ => 8,
                };
                let announced = match op {
                    WriteFirst if more => 600,
                    WriteFirst => 264,
                    _ => 8,
                };
                let ext = ExtHeaders {
                    reth: op.has_reth().then(|| mr.reth(0, announced)),
                    atomic: op.is_atomic().then(|| mr.atomic(0, 0, 0)),
                    immediate: op.has_immediate().then_some(Immediate([0; 4])),
                    ieth: op.has_ieth().then_some(Ieth { rkey: key }),
                    ..ExtHeaders::NONE
                };
                r.inject_ext(*op, psn, ext, &vec![0; len]);
                psn += 1;
            }
            let replies = r.replies();
            let last = replies.last().map(|last| (last.psn, last.syndrome));
            if legal.contains(op) {
                assert_eq!(last, Some((psn - 1, Some(ACK))), "{under_way:?} {op:?}");
            } else {
                let want = Some((psn - 1, Some(INVALID)));
                assert_eq!(last, want, "{under_way:?} {op:?}");
                r.assert_dead();
            }
        }
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
    for (op, len) in [
        (SendMiddle, 0),
        (SendMiddle, 100),
        (SendMiddle, 255),
        (SendMiddle, 257),
        (SendLast, 0),
        (SendLast, 257),
        (WriteMiddle, 0),
        (WriteMiddle, 100),
        (WriteMiddle, 255),
        (WriteMiddle, 257),
        (WriteLast, 0),
        (WriteLast, 257),
    ] {
        let mut r = Raw::small();
        let mr = r.host.open(vec![0; 1000]);
        r.receive(1, &mr);
        match op {
            SendMiddle | SendLast => r.inject(SendFirst, PSN, &[1; 256]),
            // Such that the last one brings what is missing, if it may be so long.
            WriteLast if len > 0 => {
                r.inject_reth(WriteFirst, PSN, mr.reth(0, 256 + len as u32), &[1; 256]);
            }
            _ => r.inject_reth(WriteFirst, PSN, mr.reth(0, 600), &[1; 256]),
        }
        r.replies();
        r.inject(op, PSN + 1, &vec![1; len]);
        assert_eq!(r.only_ack(), (PSN + 1, INVALID), "{op:?} {len}");
        assert!(r.host.bytes(&mr)[256..].iter().all(|b| *b == 0));
        r.assert_dead();
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
    // Packets of a message, and bytes of a receive that is one byte too short.
    let messages: [(&[Opcode], usize); 9] = [
        (&[SendOnly], 9),
        (&[SendOnlyImm], 9),
        (&[SendOnlyInvalidate], 9),
        (&[SendOnly], 0),
        (&[SendFirst], 255),
        (&[SendFirst, SendMiddle], 511),
        (&[SendFirst, SendLast], 265),
        (&[SendFirst, SendMiddle, SendLastImm], 521),
        (&[SendFirst, SendLastInvalidate], 265),
    ];
    for (packets, room) in messages {
        let mut r = Raw::small();
        let mr = r.host.open(vec![0; 1000]);
        let key = r.host.fast(r.now, r.qp, 9, vec![0; 8]).key;
        r.silence();
        r.host.completions.clear();
        let sge = mr.sge(0, room as u32);
        r.host.engine.post_recv(r.now, r.qp, 1, &[sge]).unwrap();
        r.receive(2, &mr);
        let last = PSN + packets.len() as u32 - 1;
        for (psn, op) in (PSN..).zip(packets) {
            let full = op.is_first() || op.is_middle();
            let len = match full {
                true => 256,
                false => room % 256 + 1,
            };
            let ext = ExtHeaders {
                immediate: op.has_immediate().then_some(Immediate([0; 4])),
                ieth: op.has_ieth().then_some(Ieth { rkey: key.0 }),
                ..ExtHeaders::NONE
            };
            assert_eq!(outcomes(&r.host.completions), []);
            r.inject_ext(*op, psn, ext, &vec![1; len]);
            if psn < last {
                assert_eq!(r.only_ack(), (psn, ACK));
            }
        }
        assert_eq!(r.only_ack(), (last, INVALID), "{packets:?}");
        assert_eq!(
            outcomes(&r.host.completions),
            [(1, Status::LocalLength), (2, Status::Flushed)],
            "{packets:?}"
        );
        assert!(r.host.bytes(&mr)[room..].iter().all(|b| *b == 0));
        // Nor has it done what else it was to do.
        assert!(r.host.engine.valid_region(key).is_some());
        r.assert_dead();
    }
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
