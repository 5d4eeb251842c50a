//! Immediate data: four bytes for the peer's completion.

use crate::util::raw::syndrome::*;
use crate::util::raw::{PSN, Raw};
use crate::util::*;
use roce::wire::Opcode::*;
use roce::{Completion, CompletionOp, SendFlags, SendOp, SendRequest, Status};
use std::time::Duration;

const IMMEDIATE: [u8; 4] = [0xde, 0xad, 0xbe, 0xef];

fn write(mr: &Mr) -> SendOp {
    SendOp::WriteImmediate {
        remote_va: mr.va,
        rkey: mr.key.0,
        immediate: IMMEDIATE,
    }
}

#[test]
fn r063_immediate_data_arrives_as_it_was_sent() {
    // Nothing, one packet, several.
    for len in [0, 1, 256, 257, 700] {
        let (mut p, qa, qb) = Pair::attached(Setup::small());
        let src = p.a.open(pattern(700, 1));
        let received = p.b.open(vec![0; 700]);
        let written = p.b.open(vec![0; 700]);
        for i in [1, 2] {
            p.b.engine
                .post_recv(p.now, qb, i, &[received.all()])
                .unwrap();
        }
        let sgl = [src.sge(0, len)];
        p.a.send(p.now, qa, 1, SendOp::SendImmediate(IMMEDIATE), &sgl);
        p.a.send(p.now, qa, 2, write(&written), &sgl);
        p.run(SECOND);
        use CompletionOp::{Receive, ReceiveWrite, Send, Write};
        let done = [(1, Send), (2, Write)].map(|(c, op)| (c, op, Status::Success));
        assert_eq!(ops(&p.a.completions), done);
        let at_b: Vec<_> =
            p.b.completions
                .iter()
                .map(|c: &Completion| (c.context, c.op, c.bytes, c.immediate))
                .collect();
        assert_eq!(
            at_b,
            [
                (1, Receive, len, Some(IMMEDIATE)),
                (2, ReceiveWrite, len, Some(IMMEDIATE))
            ]
        );
        let len = len as usize;
        for mr in [&received, &written] {
            assert_eq!(p.b.bytes(mr)[..len], p.a.bytes(&src)[..len]);
            assert!(p.b.bytes(mr)[len..].iter().all(|b| *b == 0));
        }
    }
}

#[test]
fn the_last_packet_has_it_and_only_that() {
    let mut r = Raw::small();
    let src = r.host.open(pattern(600, 1));
    let remote = src.reth(0, 600);
    let send = SendOp::SendImmediate(IMMEDIATE);
    r.host.send(r.now, r.qp, 1, send, &[src.sge(0, 300)]);
    r.host.send(r.now, r.qp, 2, send, &[src.sge(0, 30)]);
    r.host.send(r.now, r.qp, 3, write(&src), &[src.all()]);
    r.host.send(r.now, r.qp, 4, write(&src), &[src.sge(0, 0)]);
    let some = Some(IMMEDIATE);
    let sent: Vec<_> = r
        .replies()
        .iter()
        .map(|x| (x.op, x.immediate, x.reth, x.payload.len()))
        .collect();
    let none = roce::wire::Reth { len: 0, ..remote };
    let want = [
        (SendFirst, None, None, 256),
        (SendLastImm, some, None, 44),
        (SendOnlyImm, some, None, 30),
        (WriteFirst, None, Some(remote), 256),
        (WriteMiddle, None, None, 256),
        (WriteLastImm, some, None, 88),
        (WriteOnlyImm, some, Some(none), 0),
    ];
    assert_eq!(sent, want);
}

#[test]
fn r037_a_write_with_immediate_can_be_solicited_and_a_write_cannot() {
    let (mut p, qa, qb) = Pair::attached(Setup::default());
    let src = p.a.open(pattern(8, 1));
    let dst = p.b.open(vec![0; 8]);
    for i in 0..2 {
        p.b.engine.post_recv(p.now, qb, i, &[]).unwrap();
    }
    for (op, flags) in [
        (write(&dst), SendFlags::SOLICITED),
        (write(&dst), SendFlags::empty()),
        (dst.write(), SendFlags::SOLICITED),
    ] {
        p.a.send_with(p.now, qa, 1, op, &[src.all()], flags);
    }
    p.run(SECOND);
    assert_eq!(
        p.b.completions
            .iter()
            .map(|c| c.solicited)
            .collect::<Vec<_>>(),
        [true, false]
    );
    // Nor does its packet say so.
    let mut r = Raw::small();
    let src = r.host.open(pattern(8, 1));
    for op in [write(&src), src.write()] {
        r.host
            .send_with(r.now, r.qp, 1, op, &[src.all()], SendFlags::SOLICITED);
    }
    let said: Vec<_> = r.replies().iter().map(|x| (x.op, x.solicited)).collect();
    assert_eq!(said, [(WriteOnlyImm, true), (WriteOnly, false)]);
}

#[test]
fn it_goes_with_inline_data_too() {
    let (mut p, qa, qb) = Pair::attached(Setup::default());
    let dst = p.b.open(vec![0; 8]);
    p.b.engine.post_recv(p.now, qb, 1, &[dst.all()]).unwrap();
    let request = SendRequest {
        inline: Some(&[b"inl", b"ine"]),
        ..request(SendOp::SendImmediate(IMMEDIATE))
    };
    p.a.engine.post_send(p.now, qa, &request).unwrap();
    p.run(SECOND);
    assert_eq!(p.b.bytes(&dst), b"inline\0\0");
    assert_eq!(p.b.completions[0].immediate, Some(IMMEDIATE));
}

/// The data of a WRITE lands before anybody notices that there is no receive; the packet that wants one is repeated until there is.
#[test]
fn r051_without_a_receive_only_the_last_packet_of_a_write_waits() {
    let (mut p, qa, qb) = Pair::attached(Setup::small());
    let src = p.a.open(pattern(600, 1));
    let dst = p.b.open(vec![0; 600]);
    p.a.send(p.now, qa, 1, write(&dst), &[src.all()]);
    p.run(Duration::from_micros(100));
    assert_eq!(p.b.bytes(&dst)[..512], p.a.bytes(&src)[..512]);
    assert_eq!(p.b.bytes(&dst)[512..], [0; 88]);
    p.b.engine.post_recv(p.now, qb, 9, &[]).unwrap();
    p.run(SECOND);
    assert_eq!(outcomes(&p.a.completions), [(1, Status::Success)]);
    assert_eq!(p.b.completions[0].bytes, 600);
    assert_eq!(p.b.bytes(&dst), p.a.bytes(&src));
    let repeated: Vec<_> = p.ops(Side::A).split_off(3);
    assert!(
        !repeated.is_empty() && repeated.iter().all(|op| *op == WriteLastImm),
        "{repeated:?}"
    );
}

#[test]
fn r025_rnr_naks_for_a_write_with_immediate_are_counted_as_for_a_send() {
    let mut r = Raw::new(Setup {
        rnr_retry_count: 1,
        ..Setup::default()
    });
    let src = r.host.open(pattern(8, 1));
    r.host.send(r.now, r.qp, 1, write(&src), &[src.all()]);
    assert_eq!(r.packets(), [(WriteOnlyImm, PSN)]);
    r.acknowledge(PSN, RNR);
    r.wait(SECOND);
    assert_eq!(r.packets(), [(WriteOnlyImm, PSN)]);
    r.acknowledge(PSN, RNR);
    r.silence();
    assert_eq!(
        outcomes(&r.host.completions),
        [(1, Status::RnrRetryExceeded)]
    );
}
