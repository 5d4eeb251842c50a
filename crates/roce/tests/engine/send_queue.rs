//! The send queue: what can be posted, in which order and portions it goes out, and how it completes.

use crate::util::raw::Raw;
use crate::util::*;
use roce::wire::Opcode::*;
use roce::{Access, PathMtu, PostError, SendFlags, SendOp, SendRequest, Status};

#[test]
fn r037_r038_solicited_and_silent() {
    let (mut p, qa, qb) = Pair::attached(Setup::small());
    let src = p.a.open(pattern(600, 1));
    let dst = p.b.open(vec![0; 600]);
    for i in 0..3 {
        p.b.engine.post_recv(p.now, qb, i, &[dst.all()]).unwrap();
    }
    p.a.send_with(
        p.now,
        qa,
        1,
        SendOp::Send,
        &[src.all()],
        SendFlags::SOLICITED | SendFlags::SILENT,
    );
    p.a.send_with(p.now, qa, 2, SendOp::Send, &[src.all()], SendFlags::SILENT);
    p.a.send_with(
        p.now,
        qa,
        3,
        dst.write(),
        &[src.all()],
        SendFlags::SOLICITED,
    );
    p.run(SECOND);
    assert_eq!(outcomes(&p.a.completions), [(3, Status::Success)]);
    assert_eq!(
        p.b.completions
            .iter()
            .map(|c| c.solicited)
            .collect::<Vec<_>>(),
        [true, false]
    );
    // A silent request that does not succeed does complete.
    p.a.send_with(
        p.now,
        qa,
        4,
        SendOp::Write {
            remote_va: dst.va,
            rkey: !0,
        },
        &[src.all()],
        SendFlags::SILENT,
    );
    p.a.send_with(p.now, qa, 5, SendOp::Send, &[src.all()], SendFlags::SILENT);
    p.run(SECOND);
    assert_eq!(
        outcomes(&p.a.completions)[1..],
        [(4, Status::RemoteAccess), (5, Status::Flushed)]
    );
}

/// On the wire the last packet says so, and no other, of what completes a receive of the peer's.
#[test]
fn r037_the_solicited_bit_is_on_the_last_packet_only() {
    let (remote_va, rkey, immediate) = (0x1000, 1, [0; 4]);
    let ops = [
        (SendOp::Send, true),
        (SendOp::SendImmediate(immediate), true),
        (SendOp::SendInvalidate(rkey), true),
        (
            SendOp::WriteImmediate {
                remote_va,
                rkey,
                immediate,
            },
            true,
        ),
        (SendOp::Write { remote_va, rkey }, false),
        (SendOp::Read { remote_va, rkey }, false),
    ];
    for (op, can) in ops {
        for flags in [SendFlags::SOLICITED, SendFlags::empty()] {
            let mut r = Raw::small();
            let mr = r.host.open(vec![0; 600]);
            r.host.send_with(r.now, r.qp, 1, op, &[mr.all()], flags);
            let said: Vec<_> = r.replies().iter().map(|x| x.solicited).collect();
            let (last, others) = said.split_last().unwrap();
            assert_eq!(*last, can && !flags.is_empty(), "{op:?}");
            assert!(!others.contains(&true), "{op:?}");
        }
    }
}

#[test]
fn r035_a_fence_holds_a_send_until_read_data_has_landed() {
    let (mut p, qa, qb) = Pair::attached(Setup::small());
    let buffer = p.a.open(vec![0; 1000]);
    let remote = p.b.open(pattern(1000, 1));
    let dst = p.b.open(vec![0; 1000]);
    p.b.engine.post_recv(p.now, qb, 1, &[dst.all()]).unwrap();
    p.a.send(p.now, qa, 1, remote.read(), &[buffer.all()]);
    p.a.send_with(
        p.now,
        qa,
        2,
        SendOp::Send,
        &[buffer.all()],
        SendFlags::FENCE,
    );
    p.run(SECOND);
    assert_eq!(p.b.bytes(&dst), p.b.bytes(&remote));
    let last_data = p.log.iter().position(|s| s.op == ReadResponseLast).unwrap();
    let first_send = p.log.iter().position(|s| s.op == SendFirst).unwrap();
    assert!(first_send > last_data);
}

#[test]
fn r034_outstanding_reads_never_exceed_what_was_granted() {
    for reads in [1, 2, 4] {
        let (mut p, qa, _) = Pair::attached(Setup {
            reads,
            mtu: PathMtu::Mtu256,
            ..Setup::default()
        });
        let local = p.a.open(vec![0; 20 * 300]);
        let remote = p.b.open(pattern(20 * 300, 1));
        for i in 0..20 {
            let op = SendOp::Read {
                remote_va: remote.va + i * 300,
                rkey: remote.key.0,
            };
            p.a.send(p.now, qa, i, op, &[local.sge(i as u32 * 300, 300)]);
        }
        p.run(SECOND);
        assert_eq!(p.a.bytes(&local), p.b.bytes(&remote));
        let (mut out, mut most) = (0, 0);
        for s in &p.log {
            match s.op {
                ReadRequest => out += 1,
                ReadResponseLast | ReadResponseOnly => out -= 1,
                _ => {}
            }
            most = most.max(out);
        }
        assert_eq!(most, u32::from(reads));
    }
}

#[test]
fn r034_reads_are_refused_when_none_were_granted() {
    let (mut p, qa, _) = Pair::attached(Setup {
        reads: 0,
        ..Setup::default()
    });
    let local = p.a.open(vec![0; 8]);
    let request = SendRequest {
        context: 1,
        op: SendOp::Read {
            remote_va: 0,
            rkey: 0,
        },
        sgl: &[local.all()],
        inline: None,
        flags: SendFlags::empty(),
    };
    assert_eq!(
        p.a.engine.post_send(p.now, qa, &request),
        Err(PostError::InvalidRequest)
    );
}

/// A READ longer than a chunk is asked for in parts that never exceed the window.
#[test]
fn long_reads_go_out_in_chunks() {
    let mut setup = Setup::small();
    setup.config.read_chunk = 8;
    setup.config.read_window = 20;
    let (mut p, qa, _) = Pair::attached(setup);
    let len = 256 * 61 + 7;
    let local = p.a.open(vec![0; len]);
    let remote = p.b.open(pattern(len, 1));
    p.a.send(p.now, qa, 1, remote.read(), &[local.all()]);
    p.run(SECOND);
    assert_eq!(outcomes(&p.a.completions), [(1, Status::Success)]);
    assert_eq!(p.a.bytes(&local), p.b.bytes(&remote));
    let lens: Vec<_> = p.log.iter().filter_map(|s| s.reth).map(|r| r.len).collect();
    assert_eq!(
        lens,
        [2048, 2048, 2048, 2048, 2048, 2048, 2048, 256 * 5 + 7]
    );
    assert_eq!(p.a.engine.counters().retransmissions, 0);
}

#[test]
fn long_messages_stay_inside_the_window_and_ask_for_acknowledgements_on_the_way() {
    let mut setup = Setup::small();
    setup.config.send_window = 16;
    let (mut p, qa, _) = Pair::attached(setup);
    let len = 256 * 500;
    let local = p.a.open(pattern(len, 1));
    let remote = p.b.open(vec![0; len]);
    p.a.send(p.now, qa, 1, remote.write(), &[local.all()]);
    p.run(SECOND);
    assert_eq!(p.a.bytes(&local), p.b.bytes(&remote));
    let first = p.log[0].psn;
    let mut acked = first.wrapping_sub(1);
    for s in &p.log {
        match s.op {
            Acknowledge => acked = s.psn,
            _ => assert!(s.psn.wrapping_sub(acked) & 0xff_ffff <= 16),
        }
    }
    assert_eq!(p.a.engine.counters().timeouts, 0);
}

#[test]
fn r019_one_acknowledgement_completes_several_messages_in_order() {
    let (mut p, qa, _) = Pair::attached(Setup::default());
    let remote = p.b.open(vec![0; 8]);
    for i in 0..20 {
        p.a.send(p.now, qa, i, remote.write(), &[]);
    }
    p.run(SECOND);
    assert_eq!(
        outcomes(&p.a.completions),
        (0..20).map(|i| (i, Status::Success)).collect::<Vec<_>>()
    );
    assert_eq!(p.ops(Side::B), [Acknowledge]);
}

#[test]
fn several_queue_pairs_take_turns() {
    let mut p = Pair::new(Setup::small());
    let pairs: Vec<_> = (0..3).map(|_| p.attach()).collect();
    let src = p.a.open(pattern(2560, 1));
    let dst = p.b.open(vec![0; 2560 * 3]);
    for (i, (qa, _)) in pairs.iter().enumerate() {
        let op = SendOp::Write {
            remote_va: dst.va + 2560 * i as u64,
            rkey: dst.key.0,
        };
        p.a.send(p.now, *qa, i as u64, op, &[src.all()]);
    }
    p.pump();
    // Round robin: the three FIRST packets come before any second packet.
    assert_eq!(
        p.ops(Side::A)[..4],
        [WriteFirst, WriteFirst, WriteFirst, WriteMiddle]
    );
    p.run(SECOND);
    for part in p.b.bytes(&dst).chunks(2560) {
        assert_eq!(part, p.a.bytes(&src));
    }
}

#[test]
fn limits_are_checked_when_posted() {
    let (mut p, qa, qb) = Pair::attached(Setup::default());
    let mr = p.a.open(vec![0; 8]);
    let unconnected = p.a.create_qp();
    let mut request = SendRequest {
        context: 1,
        ..request(SendOp::Send)
    };
    assert_eq!(
        p.a.engine.post_send(p.now, unconnected, &request),
        Err(PostError::NotConnected)
    );
    let five = [mr.all(); 5];
    request.sgl = &five;
    assert_eq!(
        p.a.engine.post_send(p.now, qa, &request),
        Err(PostError::TooManySges)
    );
    let long = [mr.sge(0, u32::MAX), mr.sge(0, 2)];
    request.sgl = &long;
    assert_eq!(
        p.a.engine.post_send(p.now, qa, &request),
        Err(PostError::TooLong)
    );
    let long = [mr.sge(0, (1 << 31) + 1)];
    request.sgl = &long;
    assert_eq!(
        p.a.engine.post_send(p.now, qa, &request),
        Err(PostError::TooLong)
    );
    request.sgl = &[];
    for _ in 0..DEPTH {
        p.a.engine.post_send(p.now, qa, &request).unwrap();
        p.b.engine.post_recv(p.now, qb, 0, &[]).unwrap();
    }
    assert_eq!(
        p.a.engine.post_send(p.now, qa, &request),
        Err(PostError::QueueFull)
    );
    assert_eq!(
        p.b.engine.post_recv(p.now, qb, 0, &[]),
        Err(PostError::QueueFull)
    );
    p.run(SECOND);
    assert_eq!(p.a.completions.len(), DEPTH as usize);
    assert_eq!(p.b.completions.len(), DEPTH as usize);
}

#[test]
fn deferred_requests_go_out_with_the_next_or_after_a_refusal() {
    let (mut p, qa, _) = Pair::attached(Setup::default());
    let remote = p.b.open(vec![0; 8]);
    let op = remote.write();
    p.a.send_with(p.now, qa, 1, op, &[], SendFlags::DEFER);
    p.a.send_with(p.now, qa, 2, op, &[], SendFlags::DEFER);
    p.run(SECOND);
    assert!(p.log.is_empty());
    p.a.send(p.now, qa, 3, op, &[]);
    p.run(SECOND);
    assert_eq!(
        outcomes(&p.a.completions),
        [1, 2, 3].map(|i| (i, Status::Success))
    );
    p.a.send_with(p.now, qa, 4, op, &[], SendFlags::DEFER);
    let sgl = [remote.all(); 5];
    let refused = SendRequest {
        context: 5,
        op,
        sgl: &sgl,
        inline: None,
        flags: SendFlags::empty(),
    };
    assert_eq!(
        p.a.engine.post_send(p.now, qa, &refused),
        Err(PostError::TooManySges)
    );
    p.run(SECOND);
    assert_eq!(outcomes(&p.a.completions)[3..], [(4, Status::Success)]);
}

#[test]
fn local_keys_are_checked_before_anything_is_sent_and_in_order() {
    let (mut p, qa, _) = Pair::attached(Setup::default());
    let good = p.a.open(vec![1; 3000]);
    let read_only = p.a.register(vec![0; 8], Access::REMOTE_READ);
    let remote = p.b.open(pattern(3000, 3));
    let write = remote.write();
    let read = remote.read();
    // Reading from memory that others may not write is fine; a READ into it is not.
    p.a.send(p.now, qa, 1, write, &[read_only.all()]);
    p.a.send(p.now, qa, 2, write, &[good.all()]);
    p.a.send(p.now, qa, 3, read, &[read_only.all()]);
    p.a.send(p.now, qa, 4, write, &[good.all()]);
    p.run(SECOND);
    let want = [
        (1, Status::Success),
        (2, Status::Success),
        (3, Status::LocalProtection),
        (4, Status::Flushed),
    ];
    assert_eq!(outcomes(&p.a.completions), want);
    assert!(!p.ops(Side::A).contains(&ReadRequest));
    assert_eq!(p.a.bytes(&read_only), [0; 8]);
}

#[test]
fn every_kind_of_bad_local_element_fails_the_request() {
    let cases: [fn(&Mr) -> roce::Sge; 4] = [
        |mr| roce::Sge {
            key: mr.key.0 ^ 1,
            ..mr.all()
        },
        |mr| mr.sge(1, mr.len),
        |mr| roce::Sge {
            va: mr.va - 1,
            ..mr.all()
        },
        |mr| roce::Sge {
            va: u64::MAX,
            ..mr.all()
        },
    ];
    for case in cases {
        let (mut p, qa, _) = Pair::attached(Setup::default());
        let mr = p.a.open(vec![0; 100]);
        p.a.send(p.now, qa, 1, SendOp::Send, &[case(&mr)]);
        p.run(SECOND);
        assert_eq!(outcomes(&p.a.completions), [(1, Status::LocalProtection)]);
        assert!(p.log.is_empty());
    }
}
