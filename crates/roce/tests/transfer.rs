//! Data arrives: SEND, WRITE and READ of every shape, over a wire that does nothing wrong.

mod util;

use roce::wire::Opcode::{self, *};
use roce::{Access, CompletionOp, PathMtu, PostError, SendFlags, SendOp, SendRequest, Status};
use util::*;

fn sizes(mtu: usize) -> Vec<usize> {
    vec![
        0,
        1,
        2,
        3,
        4,
        mtu - 1,
        mtu,
        mtu + 1,
        2 * mtu - 1,
        2 * mtu,
        2 * mtu + 1,
        7 * mtu + 5,
    ]
}

#[test]
fn a_message_lands_in_the_next_receive() {
    let (mut p, qa, qb) = Pair::attached(Setup::default());
    let src = p.a.open(pattern(100, 1));
    let dst = p.b.open(vec![0; 300]);
    p.b.engine
        .post_recv(p.now, qb, 5, &[dst.sge(10, 200)])
        .unwrap();
    p.a.send(p.now, qa, 9, SendOp::Send, &[src.all()]);
    p.run(SECOND);
    assert_eq!(outcomes(&p.a.completions), [(9, Status::Success)]);
    assert_eq!(p.a.completions[0].op, CompletionOp::Send);
    assert_eq!(outcomes(&p.b.completions), [(5, Status::Success)]);
    let c = p.b.completions[0];
    assert_eq!(
        (c.op, c.bytes, c.qp_context, c.solicited),
        (CompletionOp::Receive, 100, 77, false)
    );
    assert_eq!(p.b.bytes(&dst)[10..110], *p.a.bytes(&src));
    assert!(p.b.bytes(&dst)[110..].iter().all(|b| *b == 0));
}

/// Every size around packet boundaries, every path MTU, for each kind of transfer.
#[test]
fn r004_r014_r015_every_length_arrives_in_the_right_number_of_packets() {
    for mtu in [PathMtu::Mtu256, PathMtu::Mtu1024, PathMtu::Mtu4096] {
        let bytes = mtu.bytes() as usize;
        for len in sizes(bytes) {
            let packets = len.div_ceil(bytes).max(1);
            let (mut p, qa, qb) = Pair::attached(Setup {
                mtu,
                ..Setup::default()
            });
            let send = p.a.open(pattern(len, 1));
            let write = p.a.open(pattern(len, 2));
            let read = p.a.open(vec![0; len]);
            let received = p.b.open(vec![0; len]);
            let written = p.b.open(vec![0; len]);
            let source = p.b.open(pattern(len, 3));
            p.b.engine
                .post_recv(p.now, qb, 1, &[received.all()])
                .unwrap();
            p.a.send(p.now, qa, 1, SendOp::Send, &[send.all()]);
            p.a.send(p.now, qa, 2, written.write(), &[write.all()]);
            p.a.send(p.now, qa, 3, source.read(), &[read.all()]);
            p.run(SECOND);
            let done: Vec<_> = (1..=3).map(|i| (i, Status::Success)).collect();
            assert_eq!(outcomes(&p.a.completions), done, "{mtu:?} {len}");
            assert_eq!(p.b.completions[0].bytes as usize, len);
            assert_eq!(p.b.bytes(&received), p.a.bytes(&send));
            assert_eq!(p.b.bytes(&written), p.a.bytes(&write));
            assert_eq!(p.a.bytes(&read), p.b.bytes(&source));
            let sent = p.ops(Side::A);
            assert_eq!(
                sent.iter().filter(|o| o.to_u8() < 6).count(),
                packets,
                "{mtu:?} {len}"
            );
            assert_eq!(
                sent.iter()
                    .filter(|o| (6..0xc).contains(&o.to_u8()))
                    .count(),
                packets,
                "{mtu:?} {len}"
            );
            assert_eq!(
                p.ops(Side::B)
                    .iter()
                    .filter(|o| o.is_read_response())
                    .count(),
                packets
            );
            assert_eq!(p.a.engine.counters().retransmissions, 0);
        }
    }
}

#[test]
fn everything_works_over_ipv6_too() {
    let setup = Setup {
        ipv6: true,
        ..Setup::default()
    };
    let (mut p, qa, qb) = Pair::attached(setup);
    let src = p.a.open(pattern(3000, 1));
    let back = p.a.open(vec![0; 3000]);
    let dst = p.b.open(vec![0; 3000]);
    p.b.engine.post_recv(p.now, qb, 1, &[dst.all()]).unwrap();
    p.a.send(p.now, qa, 1, SendOp::Send, &[src.all()]);
    let read = dst.read();
    p.a.send(p.now, qa, 2, read, &[back.all()]);
    p.run(SECOND);
    assert_eq!(p.a.bytes(&back), p.a.bytes(&src));
    assert_eq!(p.a.engine.counters().retransmissions, 0);
}

#[test]
fn opcodes_and_psns_of_a_multi_packet_conversation() {
    let setup = Setup {
        psn: [Some(0xff_fffe), Some(5)],
        mtu: PathMtu::Mtu256,
        ..Setup::default()
    };
    let (mut p, qa, qb) = Pair::attached(setup);
    let local = p.a.open(pattern(800, 1));
    let remote = p.b.open(pattern(800, 2));
    p.b.engine
        .post_recv(p.now, qb, 1, &[remote.sge(0, 600)])
        .unwrap();
    let at = |offset| (remote.va + offset, remote.key.0);
    let (remote_va, rkey) = at(0);
    p.a.send(p.now, qa, 1, SendOp::Send, &[local.sge(0, 600)]);
    p.a.send(
        p.now,
        qa,
        2,
        SendOp::Write { remote_va, rkey },
        &[local.sge(0, 512)],
    );
    p.a.send(
        p.now,
        qa,
        3,
        SendOp::Read { remote_va, rkey },
        &[local.sge(0, 800)],
    );
    p.a.send(p.now, qa, 4, SendOp::Write { remote_va, rkey }, &[]);
    p.run(SECOND);
    // r016: PSNs wrap inside a SEND; r017: the READ takes as many as it has responses.
    let expected = [
        (SendFirst, 0xff_fffe),
        (SendMiddle, 0xff_ffff),
        (SendLast, 0),
        (WriteFirst, 1),
        (WriteLast, 2),
        (ReadRequest, 3),
        (WriteOnly, 7),
    ];
    assert_eq!(p.sent(Side::A), expected);
    // r060, r061: the acknowledgement of the last WRITE follows the READ data.
    let expected = [
        (ReadResponseFirst, 3),
        (ReadResponseMiddle, 4),
        (ReadResponseMiddle, 5),
        (ReadResponseLast, 6),
        (Acknowledge, 7),
    ];
    assert_eq!(p.sent(Side::B), expected);
    // r018
    let asked: Vec<_> = p
        .log
        .iter()
        .filter(|s| s.ack_request)
        .map(|s| s.op)
        .collect();
    assert_eq!(asked, [SendLast, WriteLast, ReadRequest, WriteOnly]);
    assert_eq!(
        outcomes(&p.a.completions),
        [1, 2, 3, 4].map(|i| (i, Status::Success))
    );
}

#[test]
fn r016_psns_wrap_inside_writes_and_read_responses() {
    for start in 0xff_fff0..=0xff_ffff {
        let setup = Setup {
            psn: [Some(start), Some(start)],
            mtu: PathMtu::Mtu256,
            ..Setup::default()
        };
        let (mut p, qa, _) = Pair::attached(setup);
        let local = p.a.open(pattern(2600, 1));
        let back = p.a.open(vec![0; 2600]);
        let remote = p.b.open(vec![0; 2600]);
        let (remote_va, rkey) = (remote.va, remote.key.0);
        p.a.send(
            p.now,
            qa,
            1,
            SendOp::Write { remote_va, rkey },
            &[local.all()],
        );
        p.a.send_with(
            p.now,
            qa,
            2,
            SendOp::Read { remote_va, rkey },
            &[back.all()],
            SendFlags::FENCE,
        );
        p.run(SECOND);
        assert_eq!(
            outcomes(&p.a.completions),
            [(1, Status::Success), (2, Status::Success)]
        );
        assert_eq!(p.a.bytes(&back), p.a.bytes(&local));
        assert_eq!(p.a.engine.counters().retransmissions, 0);
    }
}

#[test]
fn elements_are_gathered_and_scattered_in_order() {
    let (mut p, qa, qb) = Pair::attached(Setup::small());
    let src = p.a.open(pattern(2000, 1));
    let dst = p.b.open(vec![0; 2000]);
    let out = [
        src.sge(5, 1),
        src.sge(0, 0),
        src.sge(600, 700),
        src.sge(100, 255),
    ];
    let into = [dst.sge(1000, 3), dst.sge(20, 800), dst.sge(1500, 500)];
    p.b.engine.post_recv(p.now, qb, 1, &into).unwrap();
    p.a.send(p.now, qa, 1, SendOp::Send, &out);
    p.run(SECOND);
    let a = p.a.bytes(&src);
    let want: Vec<u8> = [&a[5..6], &a[600..1300], &a[100..355]].concat();
    let b = p.b.bytes(&dst);
    let got: Vec<u8> = [
        &b[1000..1003],
        &b[20..820],
        &b[1500..1500 + want.len() - 803],
    ]
    .concat();
    assert_eq!(got, want);
    assert_eq!(p.b.completions[0].bytes as usize, want.len());

    // And a READ into several elements.
    let parts = [src.sge(0, 300), src.sge(1990, 10), src.sge(400, 600)];
    p.a.send(p.now, qa, 2, dst.read(), &parts);
    p.run(SECOND);
    let a = p.a.bytes(&src);
    let got: Vec<u8> = [&a[0..300], &a[1990..2000], &a[400..1000]].concat();
    assert_eq!(got, p.b.bytes(&dst)[..910]);
}

#[test]
fn inline_data_is_copied_when_posted() {
    let (mut p, qa, qb) = Pair::attached(Setup::small());
    let dst = p.b.open(vec![0; 512]);
    p.b.engine
        .post_recv(p.now, qb, 1, &[dst.sge(0, 256)])
        .unwrap();
    let mut first = *b"first ";
    let rest = pattern(240, 1);
    let parts: [&[u8]; 3] = [&first, b"", &rest];
    let mut request = SendRequest {
        context: 1,
        op: SendOp::Send,
        sgl: &[],
        inline: Some(&parts),
        flags: SendFlags::empty(),
    };
    p.a.engine.post_send(p.now, qa, &request).unwrap();
    request.op = SendOp::Write {
        remote_va: dst.va + 256,
        rkey: dst.key.0,
    };
    p.a.engine.post_send(p.now, qa, &request).unwrap();
    request.op = dst.read();
    assert_eq!(
        p.a.engine.post_send(p.now, qa, &request),
        Err(PostError::InvalidRequest)
    );
    let long: [&[u8]; 2] = [&[0; 200], &[0; 57]];
    request.op = SendOp::Send;
    request.inline = Some(&long);
    assert_eq!(
        p.a.engine.post_send(p.now, qa, &request),
        Err(PostError::InlineTooLong)
    );
    let want: Vec<u8> = [b"first ".as_slice(), &rest].concat();
    first.fill(0);
    assert_eq!(first, [0; 6]);
    p.run(SECOND);
    assert_eq!(p.b.bytes(&dst)[..246], want);
    assert_eq!(p.b.bytes(&dst)[256..502], want);
    assert_eq!(outcomes(&p.a.completions), [(1, Status::Success); 2]);
}

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

#[test]
fn opcodes_are_never_odd() {
    // A table for the reader: what one packet of each message kind is called.
    let (mut p, qa, qb) = Pair::attached(Setup::default());
    let mr = p.a.open(vec![0; 8]);
    let remote = p.b.open(vec![0; 8]);
    p.b.engine.post_recv(p.now, qb, 1, &[]).unwrap();
    p.b.engine.post_recv(p.now, qb, 2, &[remote.all()]).unwrap();
    p.a.send(p.now, qa, 1, SendOp::Send, &[]);
    p.a.send(p.now, qa, 2, remote.write(), &[mr.all()]);
    p.a.send(p.now, qa, 3, remote.read(), &[mr.all()]);
    p.a.send(
        p.now,
        qa,
        4,
        SendOp::SendInvalidate(remote.key.0),
        &[mr.all()],
    );
    p.run(SECOND);
    assert_eq!(
        p.ops(Side::A),
        [SendOnly, WriteOnly, ReadRequest, SendOnlyInvalidate]
    );
    assert_eq!(p.ops(Side::B), [Opcode::ReadResponseOnly, Acknowledge]);
}
