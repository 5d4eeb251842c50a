//! Data arrives: SEND, WRITE and READ of every shape, over a wire that does nothing wrong.

use crate::util::*;
use roce::wire::Opcode::{self, *};
use roce::{CompletionOp, PathMtu, PostError, SendFlags, SendOp, SendRequest, Status};
use std::cell::RefCell;
use std::rc::Rc;

const MTUS: [PathMtu; 5] = [
    PathMtu::Mtu256,
    PathMtu::Mtu512,
    PathMtu::Mtu1024,
    PathMtu::Mtu2048,
    PathMtu::Mtu4096,
];

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
    for mtu in MTUS {
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

/// Opcode, PSN, bytes, pad, and whether there is an AETH.
type Seen = (Opcode, u32, usize, usize, bool);

/// The packets of a message of `len` bytes: `[first, middle, last, only]` say what they are called, and whether there is an AETH.
fn packets(kind: [(Opcode, bool); 4], psn: u32, len: usize, mtu: usize) -> Vec<Seen> {
    let count = len.div_ceil(mtu).max(1);
    let packet = |i| {
        let (op, aeth) = match i {
            0 if count == 1 => kind[3],
            0 => kind[0],
            i if i + 1 == count => kind[2],
            _ => kind[1],
        };
        let bytes = if i + 1 == count { len - i * mtu } else { mtu };
        (op, psn + i as u32, bytes, bytes.wrapping_neg() % 4, aeth)
    };
    (0..count).map(packet).collect()
}

/// Nothing at all is a packet with a PSN of its own, one byte too many another one.
#[test]
fn r014_r015_r017_r060_packets_of_messages_around_multiples_of_every_path_mtu() {
    for mtu in MTUS {
        let bytes = mtu.bytes() as usize;
        for (len, count) in [
            (0, 1),
            (1, 1),
            (bytes, 1),
            (bytes + 1, 2),
            (3 * bytes, 3),
            (3 * bytes + 1, 4),
        ] {
            let (mut p, qa, qb) = Pair::attached(Setup {
                mtu,
                psn: [Some(70), None],
                ..Setup::default()
            });
            let seen: [Rc<RefCell<Vec<Seen>>>; 2] = Default::default();
            let log = seen.clone();
            p.net.script = Box::new(move |from, packet| {
                log[from as usize].borrow_mut().push((
                    packet.bth.opcode,
                    packet.bth.psn.get(),
                    packet.payload.len(),
                    packet.pad.len(),
                    packet.ext.aeth.is_some(),
                ));
                Fate::Pass
            });
            let local = p.a.open(pattern(len, 1));
            let remote = p.b.open(pattern(len, 2));
            p.b.engine.post_recv(p.now, qb, 1, &[remote.all()]).unwrap();
            p.a.send(p.now, qa, 1, SendOp::Send, &[local.all()]);
            p.a.send(p.now, qa, 2, remote.write(), &[local.all()]);
            p.a.send(p.now, qa, 3, remote.read(), &[local.all()]);
            p.a.send(p.now, qa, 4, remote.write(), &[]);
            p.run(SECOND);
            let plain = |op| (op, false);
            let sends = [SendFirst, SendMiddle, SendLast, SendOnly].map(plain);
            let writes = [WriteFirst, WriteMiddle, WriteLast, WriteOnly].map(plain);
            let want = [
                packets(sends, 70, len, bytes),
                packets(writes, 70 + count, len, bytes),
                vec![(ReadRequest, 70 + 2 * count, 0, 0, false)],
                packets(writes, 70 + 3 * count, 0, bytes),
            ];
            assert_eq!(seen[0].borrow()[..], want.concat(), "{mtu:?} {len}");
            let responses = [
                (ReadResponseFirst, true),
                (ReadResponseMiddle, false),
                (ReadResponseLast, true),
                (ReadResponseOnly, true),
            ];
            let mut want = packets(responses, 70 + 2 * count, len, bytes);
            want.push((Acknowledge, 70 + 3 * count, 0, 0, true));
            assert_eq!(seen[1].borrow()[..], want, "{mtu:?} {len}");
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
fn r016_r017_r018_r060_r061_opcodes_and_psns_of_a_multi_packet_conversation() {
    let setup = Setup {
        psn: [Some(0xff_fffe), Some(5)],
        mtu: PathMtu::Mtu256,
        ..Setup::default()
    };
    let (mut p, qa, qb) = Pair::attached(setup);
    let local = p.a.open(pattern(800, 1));
    let remote = p.b.open(pattern(800, 2));
    let received = p.b.open(vec![0; 600]);
    p.b.engine
        .post_recv(p.now, qb, 1, &[received.all()])
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
    assert_eq!(p.b.bytes(&received), &pattern(800, 1)[..600]);
    assert_eq!(p.b.bytes(&remote)[..512], pattern(800, 1)[..512]);
    assert_eq!(p.b.bytes(&remote)[512..], pattern(800, 2)[512..]);
    assert_eq!(p.a.bytes(&local), p.b.bytes(&remote));
    // PSNs wrap inside a SEND; the READ takes as many as it has responses.
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
    // The acknowledgement of the last WRITE follows the READ data.
    let expected = [
        (ReadResponseFirst, 3),
        (ReadResponseMiddle, 4),
        (ReadResponseMiddle, 5),
        (ReadResponseLast, 6),
        (Acknowledge, 7),
    ];
    assert_eq!(p.sent(Side::B), expected);
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
