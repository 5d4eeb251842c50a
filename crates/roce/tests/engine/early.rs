//! Requests that come before one that is missing: kept, and executed in their turn.

mod belief;
mod pool;

use crate::util::raw::syndrome::*;
use crate::util::raw::{PSN, Raw};
use crate::util::*;
use roce::wire::Opcode::*;
use roce::wire::{Bth, ExtHeaders, Reth};
use roce::{Access, CompletionOp, Config, Rng, SendFlags, SendOp, SendRequest, Status};

const NOTHING: Reth = Reth {
    va: 0,
    rkey: 0,
    len: 0,
};

/// An empty WRITE.
fn write(r: &mut Raw, psn: u32) {
    r.inject_reth(WriteOnly, psn, NOTHING, &[]);
}

/// The same, which wants no acknowledgement.
fn quiet_write(r: &mut Raw, psn: u32) {
    let ext = ExtHeaders {
        reth: Some(NOTHING),
        ..ExtHeaders::NONE
    };
    let frame = r.frame(r.bth(WriteOnly, psn), ext, &[]);
    r.feed(&frame);
}

/// (PSN, syndrome) of what the engine answers.
fn answers(r: &mut Raw) -> Vec<(u32, u8)> {
    r.replies()
        .iter()
        .map(|a| (a.psn, a.syndrome.unwrap()))
        .collect()
}

/// Requests kept, executed, dropped, and those that wait now.
fn early(r: &Raw) -> [u64; 4] {
    let c = r.host.engine.counters();
    let [kept, executed, dropped] = [
        c.early_requests_kept,
        c.early_requests_executed,
        c.early_requests_dropped,
    ];
    let waiting = u64::from(r.host.engine.usage().early);
    assert_eq!(kept, executed + dropped + waiting);
    [kept, executed, dropped, waiting]
}

/// Everything a peer can ask for, its packets in any order in which each overtakes few others, while PSNs wrap: nothing is asked for again, and
/// all is done in the order in which it was asked for.
#[test]
fn requests_of_every_kind_are_executed_in_order_whatever_order_they_come_in() {
    for seed in 0..40 {
        let (mut p, qa, qb) = Pair::attached(Setup {
            seed,
            reads: 16,
            psn: [Some(0xff_fff0 + seed as u32 % 16), None],
            ..Setup::small()
        });
        let access = ALL | Access::REMOTE_ATOMIC;
        let src = p.a.open(pattern(1000, seed));
        let back = p.a.open(vec![0; 500]);
        let dst = p.b.register(vec![0; 4000], access);
        let counter = p.b.register(vec![7; 16], access);
        let lent: Vec<_> = (0..2)
            .map(|i| p.b.fast(p.now, qb, i, vec![0; 10]))
            .collect();
        p.run(SECOND);
        p.b.completions.clear();
        for i in 0..4u32 {
            let room = dst.sge(1000 + 600 * i, 600);
            p.b.engine
                .post_recv(p.now, qb, u64::from(i), &[room])
                .unwrap();
        }
        let remote_va = counter.va + (8 - counter.va % 8) % 8;
        let rkey = counter.key.0;
        let (at, to) = (dst.va, dst.key.0);
        let work = [
            (SendOp::Send, src.sge(0, 600)),
            (
                SendOp::Write {
                    remote_va: at,
                    rkey: to,
                },
                src.sge(0, 900),
            ),
            (
                SendOp::FetchAdd {
                    remote_va,
                    rkey,
                    add: 1,
                },
                back.sge(0, 8),
            ),
            (SendOp::SendInvalidate(lent[0].key.0), src.sge(0, 10)),
            (
                SendOp::Read {
                    remote_va: at + 500,
                    rkey: to,
                },
                back.sge(100, 200),
            ),
            (
                SendOp::Write {
                    remote_va: at,
                    rkey: to,
                },
                src.sge(600, 400),
            ),
            (SendOp::SendImmediate([1, 2, 3, 4]), src.sge(300, 600)),
            (
                SendOp::CompareSwap {
                    remote_va,
                    rkey,
                    compare: 0x0707_0707_0707_0708,
                    swap: 99,
                },
                back.sge(8, 8),
            ),
            (
                SendOp::WriteImmediate {
                    remote_va: at + 900,
                    rkey: to,
                    immediate: [5; 4],
                },
                src.sge(900, 100),
            ),
            (
                SendOp::Read {
                    remote_va: at + 900,
                    rkey: to,
                },
                back.sge(300, 100),
            ),
        ];
        for (context, (op, sge)) in work.iter().enumerate() {
            let request = SendRequest {
                context: context as u64,
                op: *op,
                sgl: &[*sge],
                inline: None,
                flags: SendFlags::empty(),
            };
            p.a.engine.post_send(p.now, qa, &request).unwrap();
        }
        let mut frames: Vec<_> = std::iter::from_fn(|| p.a.transmit(p.now)).collect();
        assert_eq!(frames.len(), 18);
        // Something in order behind them: of two alone that change places, the second has to come again.
        let last = frames.pop();
        let mut rng = Rng::new(seed);
        while !frames.is_empty() {
            let next = rng.next_u32() as usize % frames.len().min(4);
            let frame = frames.remove(next);
            p.b.engine.receive(p.now, &frame, &mut p.b.memory);
        }
        p.b.engine.receive(p.now, &last.unwrap(), &mut p.b.memory);
        let c = p.b.engine.counters();
        assert!(c.early_requests_kept > 0, "seed {seed}");
        assert_eq!(c.early_requests_kept, c.early_requests_executed);
        p.run(SECOND);
        let done: Vec<_> = (0..work.len() as u64)
            .map(|i| (i, Status::Success))
            .collect();
        assert_eq!(outcomes(&p.a.completions), done, "seed {seed}");
        assert_eq!(p.a.engine.counters().retransmissions, 0);
        let received: Vec<_> =
            p.b.completions
                .iter()
                .map(|c| (c.context, c.op, c.bytes, c.immediate, c.invalidated))
                .collect();
        let want = [
            (0, CompletionOp::Receive, 600, None, None),
            (
                1,
                CompletionOp::ReceiveInvalidate,
                10,
                None,
                Some(lent[0].key.0),
            ),
            (2, CompletionOp::Receive, 600, Some([1, 2, 3, 4]), None),
            (3, CompletionOp::ReceiveWrite, 100, Some([5; 4]), None),
        ];
        assert_eq!(received, want, "seed {seed}");
        let source = p.a.bytes(&src).to_vec();
        let sink = p.b.bytes(&dst);
        let written = [&source[600..], &source[400..900], &source[900..]].concat();
        assert!(sink[..1000] == written, "seed {seed}");
        assert!(sink[1000..1600] == source[..600] && sink[2200..2800] == source[300..900]);
        // The READs and the atomic requests saw what came before them.
        let back = p.a.bytes(&back);
        assert_eq!(
            back[..16],
            [[7; 8], 0x0707_0707_0707_0708u64.to_ne_bytes()].concat()
        );
        assert!(back[100..300] == source[500..700] && back[300..400] == source[900..]);
        assert_eq!(p.b.engine.usage().early, 0);
    }
}

#[test]
fn r042_each_gap_gets_one_nak_and_what_came_behind_it_is_not_needed_again() {
    let mut r = Raw::small();
    for psn in [1, 2, 4, 5, 8] {
        quiet_write(&mut r, PSN + psn);
    }
    assert_eq!(r.only_ack(), (PSN, SEQUENCE));
    assert_eq!(early(&r), [5, 0, 0, 5]);
    quiet_write(&mut r, PSN);
    assert_eq!(answers(&mut r), [(PSN + 2, ACK), (PSN + 3, SEQUENCE)]);
    quiet_write(&mut r, PSN + 3);
    assert_eq!(answers(&mut r), [(PSN + 5, ACK), (PSN + 6, SEQUENCE)]);
    // A gap that closes in part: the rest of it is told, because the peer may believe that it was one packet.
    quiet_write(&mut r, PSN + 6);
    assert_eq!(answers(&mut r), [(PSN + 6, ACK), (PSN + 7, SEQUENCE)]);
    quiet_write(&mut r, PSN + 7);
    let last = &r.replies()[0];
    assert_eq!(
        (last.psn, last.syndrome, last.msn),
        (PSN + 8, Some(ACK), Some(9))
    );
    assert_eq!(early(&r), [5, 5, 0, 0]);
    // What a peer repeats all the same has been executed.
    write(&mut r, PSN + 4);
    assert_eq!(r.only_ack(), (PSN + 8, ACK));
    assert_eq!(r.host.engine.counters().duplicate_requests, 1);
}

/// A gap that closes before anything was said of it is none.
#[test]
fn r042_packets_that_change_places_draw_no_nak() {
    let mut r = Raw::small();
    for psn in [1, 0, 3, 4, 2] {
        write(&mut r, PSN + psn);
    }
    assert_eq!(r.only_ack(), (PSN + 4, ACK));
    assert_eq!(r.host.engine.counters().tx_sequence_naks, 0);
}

/// Consumers look at the last byte of what is written in order.
#[test]
fn nothing_is_written_before_its_turn() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    r.receive(1, &mr);
    r.inject(SendLast, PSN + 2, &[3; 44]);
    r.inject(SendMiddle, PSN + 1, &[2; 256]);
    r.inject_reth(WriteOnly, PSN + 3, mr.reth(900, 4), &[4; 4]);
    r.replies();
    assert!(r.host.bytes(&mr).iter().all(|b| *b == 0));
    assert_eq!(r.host.completions, []);
    r.inject(SendFirst, PSN, &[1; 256]);
    let whole = [&[1; 256][..], &[2; 256], &[3; 44]].concat();
    assert_eq!(r.host.bytes(&mr)[..556], whole);
    assert_eq!(r.host.bytes(&mr)[900..904], [4; 4]);
    assert_eq!(r.only_ack(), (PSN + 3, ACK));
    assert_eq!(outcomes(&r.host.completions), [(1, Status::Success)]);
}

#[test]
fn what_did_not_arrive_whole_is_not_kept() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 100]);
    let ext = ExtHeaders {
        reth: Some(mr.reth(0, 4)),
        ..ExtHeaders::NONE
    };
    let frame = r.frame(r.bth(WriteOnly, PSN + 1), ext, b"data");
    for bit in 0..32 {
        let mut wrong = frame.clone();
        // The payload, before the ICRC.
        let at = wrong.len() - 8 + bit / 8;
        wrong[at] ^= 1 << (bit % 8);
        r.feed(&wrong);
    }
    let other = Bth {
        pkey: 0x1234,
        ..r.bth(WriteOnly, PSN + 1)
    };
    let wrong = r.frame(other, ext, b"data");
    r.feed(&wrong);
    assert_eq!(early(&r), [0; 4]);
    r.silence();
    r.feed(&frame);
    assert_eq!(early(&r), [1, 0, 0, 1]);
}

/// More than the path MTU, which the peer may not send: there is no room for it.
#[test]
fn what_is_longer_than_the_link_permits_is_not_kept() {
    let mut r = Raw::new(Setup {
        config: Config {
            local_mtu: 400,
            ..Setup::default().config
        },
        ..Setup::small()
    });
    r.inject(SendMiddle, PSN + 1, &[0; 260]);
    assert_eq!(early(&r), [0; 4]);
    r.inject(SendMiddle, PSN + 1, &[0; 256]);
    assert_eq!(early(&r), [1, 0, 0, 1]);
}

#[test]
fn r049_what_was_kept_and_finds_no_receive_has_to_come_again() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 100]);
    r.receive(1, &mr);
    r.inject(SendOnly, PSN + 1, b"second");
    r.inject(SendOnly, PSN + 2, b"third");
    assert_eq!(r.only_ack(), (PSN, SEQUENCE));
    r.inject(SendOnly, PSN, b"first");
    assert_eq!(answers(&mut r), [(PSN, ACK), (PSN + 1, RNR)]);
    assert_eq!(early(&r), [2, 1, 0, 1]);
    // r050: what comes behind it is neither asked for nor kept, since the peer begins anew there.
    r.inject(SendOnly, PSN + 3, b"fourth");
    r.silence();
    assert_eq!(early(&r), [2, 1, 0, 1]);
    for context in 2..4 {
        r.receive(context, &mr);
    }
    r.inject(SendOnly, PSN + 1, b"second");
    assert_eq!(r.only_ack(), (PSN + 2, ACK));
    r.host.collect();
    assert_eq!(
        outcomes(&r.host.completions),
        [1, 2, 3].map(|i| (i, Status::Success))
    );
    assert_eq!(r.host.bytes(&mr)[..6], *b"thirdd");
}

/// Keys are looked at when a request has its turn.
#[test]
fn r055_what_was_kept_is_refused_if_its_key_is_gone_by_then() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 100]);
    r.inject_reth(WriteOnly, PSN + 1, mr.reth(0, 4), b"data");
    r.inject_reth(WriteOnly, PSN + 2, NOTHING, &[]);
    assert_eq!(r.only_ack(), (PSN, SEQUENCE));
    r.host.engine.deregister(mr.key).unwrap();
    write(&mut r, PSN);
    // The refusal acknowledges what came before.
    assert_eq!(answers(&mut r), [(PSN + 1, ACCESS)]);
    assert_eq!(*r.host.bytes(&mr), vec![0; 100]);
    assert_eq!(early(&r), [2, 1, 1, 0]);
    r.assert_dead();
}

#[test]
fn a_read_that_came_early_is_answered_in_its_turn() {
    let mut r = Raw::small();
    let mr = r.host.open(pattern(1000, 1));
    // It takes three PSNs, behind which the next packet follows.
    r.inject_reth(ReadRequest, PSN + 1, mr.reth(0, 600), &[]);
    r.inject_reth(WriteOnly, PSN + 4, mr.reth(0, 4), b"late");
    // Nobody sends this.
    r.inject_reth(WriteOnly, PSN + 2, mr.reth(0, 4), b"evil");
    assert_eq!(early(&r), [2, 0, 0, 2]);
    assert_eq!(r.only_ack(), (PSN, SEQUENCE));
    r.inject_reth(WriteOnly, PSN, mr.reth(0, 4), b"once");
    let replies = r.replies();
    let said: Vec<_> = replies.iter().map(|a| (a.op, a.psn, a.msn)).collect();
    let want = [
        (ReadResponseFirst, PSN + 1, Some(2)),
        (ReadResponseMiddle, PSN + 2, None),
        (ReadResponseLast, PSN + 3, Some(2)),
        (Acknowledge, PSN + 4, Some(3)),
    ];
    assert_eq!(said, want);
    assert_eq!(r.host.bytes(&mr)[..4], *b"late");
}

/// A PSN that a READ turns out to have taken belongs to no other request.
#[test]
fn what_a_read_has_passed_is_dropped() {
    let mut r = Raw::small();
    let mr = r.host.open(pattern(1000, 1));
    r.inject_reth(WriteOnly, PSN + 1, mr.reth(0, 4), b"evil");
    r.inject_reth(WriteOnly, PSN + 3, mr.reth(4, 4), b"good");
    r.inject_reth(ReadRequest, PSN, mr.reth(0, 600), &[]);
    assert_eq!(early(&r), [2, 1, 1, 0]);
    let ops: Vec<_> = r.packets().iter().map(|p| p.0).collect();
    let want = [
        ReadResponseFirst,
        ReadResponseMiddle,
        ReadResponseLast,
        Acknowledge,
    ];
    assert_eq!(ops, want);
    assert_eq!(r.host.bytes(&mr)[..4], pattern(4, 1));
    assert_eq!(r.host.bytes(&mr)[4..8], *b"good");
}

/// A NAK may be lost. Of a peer that heard it, less than this is under way.
#[test]
fn r042_a_nak_is_repeated_after_many_more_early_packets() {
    let mut r = Raw::small();
    let mut at = Vec::new();
    for psn in 1..300 {
        quiet_write(&mut r, PSN + psn);
        if let [nak] = answers(&mut r)[..] {
            assert_eq!(nak, (PSN, SEQUENCE));
            at.push(psn);
        }
    }
    assert_eq!(at, [1, 1 + 32, 1 + 32 + 64, 1 + 32 + 64 + 128]);
}

/// A peer that sends its last packet again and asks for an answer has not heard any.
#[test]
fn r042_a_nak_is_repeated_for_who_asks_behind_the_gap() {
    let mut r = Raw::small();
    for psn in [1, 2, 3] {
        write(&mut r, PSN + psn);
    }
    assert_eq!(r.only_ack(), (PSN, SEQUENCE));
    write(&mut r, PSN + 2);
    quiet_write(&mut r, PSN + 3);
    r.silence();
    write(&mut r, PSN + 3);
    assert_eq!(r.only_ack(), (PSN, SEQUENCE));
    assert_eq!(early(&r), [3, 0, 0, 3]);
    // Behind a gap of which it has just heard, too.
    write(&mut r, PSN + 5);
    write(&mut r, PSN);
    assert_eq!(answers(&mut r), [(PSN + 3, ACK), (PSN + 4, SEQUENCE)]);
    write(&mut r, PSN + 5);
    assert_eq!(r.only_ack(), (PSN + 4, SEQUENCE));
}
