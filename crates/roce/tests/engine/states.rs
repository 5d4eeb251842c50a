//! What a queue pair takes and gives in each of its states (IBTA 10.3.1).

use crate::util::connections::PORT;
use crate::util::raw::syndrome::*;
use crate::util::raw::{PSN, Raw};
use crate::util::*;
use roce::wire::Opcode::{self, *};
use roce::wire::{Aeth, Bth, ExtHeaders, Syndrome};
use roce::{Completion, Event, PostError, Psn, QpId, SendFlags, SendOp, SendRequest, Status};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

/// One packet of each kind that wants something done, and whether it can be told from its memory that it was.
fn every_request(r: &mut Raw, mr: &Mr, psn: u32) {
    r.inject(SendOnly, psn, &[1; 4]);
    r.inject_reth(WriteOnly, psn + 1, mr.reth(8, 4), &[2; 4]);
    r.inject_reth(ReadRequest, psn + 2, mr.reth(0, 4), &[]);
    r.inject_atomic(FetchAdd, psn + 3, mr.atomic(16, 1, 0));
    // The first once more, and what leaves a gap: neither an acknowledgement nor a NAK.
    r.inject(SendOnly, psn, &[1; 4]);
    r.inject(SendOnly, psn + 9, &[1; 4]);
}

/// However it failed: nothing is executed, answered or sent any more, and the receives come back in their order.
#[test]
fn r064_r065_a_failed_queue_pair_is_silent_and_its_receives_are_flushed() {
    // By the peer's refusal, by its silence, by a request that is refused, by the local side.
    for case in 0..4 {
        let mut r = Raw::new(Setup {
            retry_count: 0,
            ..Setup::default()
        });
        let mr = r.host.register(vec![0; 64], roce::Access::all());
        let away = r.host.open(vec![0; 64]);
        for context in 10..13 {
            r.receive(context, &mr);
        }
        for context in 0..3 {
            r.host
                .send(r.now, r.qp, context, away.write(), &[away.all()]);
        }
        assert_eq!(r.replies().len(), 3);
        let mut refusal = vec![];
        let first = match case {
            0 => {
                r.acknowledge(PSN, ACCESS);
                Status::RemoteAccess
            }
            1 => {
                r.wait(5 * MS);
                Status::RetryExceeded
            }
            2 => {
                r.inject(SendMiddle, PSN, &[0; 1024]);
                refusal.push((Acknowledge, PSN));
                Status::Flushed
            }
            _ => {
                r.host.engine.flush(r.now, r.qp);
                Status::Flushed
            }
        };
        assert_eq!(r.packets(), refusal, "case {case}");
        let of = |done: &[Completion], wanted: &dyn Fn(u64) -> bool| {
            let mut these = outcomes(done);
            these.retain(|(context, _)| wanted(*context));
            these
        };
        let done = &r.host.completions;
        assert_eq!(
            of(done, &|c| c < 10),
            [(0, first), (1, Status::Flushed), (2, Status::Flushed)]
        );
        assert_eq!(
            of(done, &|c| c >= 10),
            [10, 11, 12].map(|c| (c, Status::Flushed))
        );
        // The next message, its repetition, and answers to what was sent.
        every_request(&mut r, &mr, PSN);
        r.acknowledge(PSN + 2, ACK);
        r.acknowledge(PSN, SEQUENCE);
        r.respond(ReadResponseOnly, PSN, Some(ACK), &[9; 64]);
        r.wait(SECOND);
        r.silence();
        assert_eq!(r.host.completions.len(), 6);
        assert_eq!(r.host.bytes(&mr), [0; 64]);
        assert_eq!(r.host.bytes(&away), [0; 64]);
        assert_eq!(r.host.engine.next_deadline(), None);
        assert_eq!(r.host.engine.counters().drop_qp_state, 9, "case {case}");
    }
}

/// Before it is connected, requests and responses are nobody's, whatever receives there are.
#[test]
fn r065_an_unconnected_queue_pair_takes_neither_requests_nor_responses() {
    let mut r = Raw::new(Setup::default());
    let mr = r.host.register(vec![0; 64], roce::Access::all());
    let unconnected = r.host.create_qp();
    r.qp = unconnected;
    r.qpn = r.host.engine.qp_number(unconnected).unwrap();
    r.receive(1, &mr);
    every_request(&mut r, &mr, 0);
    r.acknowledge(PSN, ACK);
    r.respond(ReadResponseOnly, PSN, Some(ACK), &[9; 64]);
    r.silence();
    assert_eq!(r.host.completions, []);
    assert_eq!(r.host.bytes(&mr), [0; 64]);
}

/// B has accepted, and what A confirms with is lost.
fn accepted() -> (Pair, [QpId; 2], [roce::ConnId; 2]) {
    let mut p = Pair::new(Setup::default());
    p.listen();
    let (a, qa) = p.request(PORT);
    p.run_until(SECOND, |p| p.b.engine.usage().connections == 1);
    let b = p.requests()[0];
    let qb = p.accept(b);
    p.run_until(SECOND, |p| p.a.events.contains(&Event::Replied { conn: a }));
    p.net.script = Box::new(|_, packet| match packet.bth.dest_qpn {
        1 => Fate::Drop,
        _ => Fate::Pass,
    });
    p.a.engine.establish(p.now, a).unwrap();
    p.run(MS);
    p.a.events.clear();
    assert_eq!(p.b.events, []);
    (p, [qa, qb], [a, b])
}

/// A frame to B's queue pair, from where A is.
fn forge(p: &Pair, qb: QpId, op: Opcode, psn: Psn) -> Vec<u8> {
    let mut sender = Raw::new(Setup::default());
    sender.path = p.setup.path(Side::A);
    let aeth = Aeth {
        syndrome: Syndrome::from_u8(ACK),
        msn: 0,
    };
    let ext = ExtHeaders {
        aeth: op.has_aeth().then_some(aeth),
        ..ExtHeaders::NONE
    };
    let number = p.b.engine.qp_number(qb).unwrap();
    sender.frame(Bth::new(op, number, psn), ext, &[])
}

/// An acknowledgement proves nothing while nothing was sent: it is no confirmation, and neither is READ data. A request is one, and is
/// executed.
#[test]
fn r065_between_accepting_and_confirmation_requests_are_taken_and_responses_are_not() {
    let (mut p, [qa, qb], [_, b]) = accepted();
    for op in [Acknowledge, ReadResponseOnly] {
        for psn in [0, 1, 0x80_0000, 0xff_ffff] {
            let frame = forge(&p, qb, op, Psn::new(psn));
            let before = p.b.engine.counters().drop_qp_state;
            p.b.engine.receive(p.now, &frame, &mut p.b.memory);
            assert_eq!(p.b.engine.counters().drop_qp_state, before + 1, "{op:?}");
        }
    }
    p.run(MS);
    assert_eq!((&p.b.events[..], &p.b.completions[..]), (&[][..], &[][..]));
    let src = p.a.open(pattern(100, 1));
    let dst = p.b.open(vec![0; 100]);
    p.a.send(p.now, qa, 1, dst.write(), &[src.all()]);
    p.run(MS);
    assert_eq!(outcomes(&p.a.completions), [(1, Status::Success)]);
    assert_eq!(p.b.bytes(&dst), p.a.bytes(&src));
    assert_eq!(p.b.events, [Event::Established { conn: b }]);
}

/// Once the peer has said that it goes, what still comes of it is late, and changes nothing.
#[test]
fn r065_after_the_peers_disconnect_neither_is_taken() {
    let (mut p, [qa, qb], [a, b]) = accepted();
    p.net.script = Box::new(|_, _| Fate::Pass);
    p.b.engine.post_recv(p.now, qb, 1, &[]).unwrap();
    p.a.send(p.now, qa, 2, SendOp::Send, &[]);
    p.run(MS);
    assert_eq!(outcomes(&p.b.completions), [(1, Status::Success)]);
    let (_, psn) = p
        .log
        .iter()
        .map(|s| (s.op, s.psn))
        .find(|s| s.0 == SendOnly)
        .unwrap();
    p.b.engine.post_recv(p.now, qb, 3, &[]).unwrap();
    p.a.engine.disconnect(p.now, a).unwrap();
    p.run(MS);
    let told = Event::Disconnected {
        conn: b,
        reason: roce::DisconnectReason::Peer,
    };
    assert!(p.b.events.contains(&told));
    p.log.clear();
    let before = p.b.engine.counters().drop_qp_state;
    for (op, psn) in [(SendOnly, psn + 1), (SendOnly, psn), (Acknowledge, 0)] {
        let frame = forge(&p, qb, op, Psn::new(psn));
        p.b.engine.receive(p.now, &frame, &mut p.b.memory);
    }
    p.run(MS);
    assert_eq!(p.b.engine.counters().drop_qp_state, before + 3);
    assert_eq!((p.b.completions.len(), &p.log[..]), (1, &[][..]));
}

/// What who empties a send queue posts last.
fn marker(context: u64) -> SendRequest<'static> {
    SendRequest {
        context,
        flags: SendFlags::DRAIN,
        ..request(SendOp::Send)
    }
}

/// All others have completed when the marker does, also those that the NIC still reads.
#[test]
fn r067_the_marker_of_a_drain_is_flushed_behind_everything() {
    let mut r = Raw::new(Setup::default());
    let mr = r.host.open(vec![0; 64]);
    r.host.nic_holds = None;
    r.host.nic_ring = 2;
    for context in 0..4 {
        r.host.send(r.now, r.qp, context, mr.write(), &[mr.all()]);
    }
    assert_eq!(r.packets().len(), 2);
    let connected = r.host.engine.post_send(r.now, r.qp, &marker(4));
    assert_eq!(connected, Ok(None));
    r.host.engine.flush(r.now, r.qp);
    let flushed = r.host.engine.post_send(r.now, r.qp, &marker(5));
    assert_eq!(flushed, Ok(None));
    r.silence();
    assert_eq!(r.host.completions, []);
    r.host.release_all(r.now);
    let all = [0, 1, 2, 3, 4, 5].map(|context| (context, Status::Flushed));
    r.silence();
    assert_eq!(outcomes(&r.host.completions), all);
    // There is nothing to wait for any more.
    let again = r.host.engine.post_send(r.now, r.qp, &marker(6));
    assert_eq!(again, Ok(None));
    r.silence();
    assert_eq!(outcomes(&r.host.completions)[6..], [(6, Status::Flushed)]);
    r.wait(SECOND);
    r.silence();
}

/// A marker is a request like any other where nothing has failed, and none where it could not complete.
#[test]
fn r067_a_marker_is_refused_where_nothing_would_bring_it_back() {
    let mut p = Pair::new(Setup::default());
    let refused = Err(PostError::NotConnected);
    let unconnected = p.a.create_qp();
    assert_eq!(
        p.a.engine.post_send(p.now, unconnected, &marker(1)),
        refused
    );
    let (qa, qb) = p.attach();
    let dst = p.b.open(vec![0; 8]);
    p.b.engine.post_recv(p.now, qb, 2, &[dst.all()]).unwrap();
    let sent = p.a.engine.post_send(p.now, qa, &marker(3));
    assert_eq!(sent, Ok(None));
    p.run(SECOND);
    assert_eq!(outcomes(&p.a.completions), [(3, Status::Success)]);
    assert_eq!(outcomes(&p.b.completions), [(2, Status::Success)]);
    // Without the flag a failed queue pair refuses.
    p.a.engine.flush(p.now, qa);
    let plain = request(SendOp::Send);
    assert_eq!(p.a.engine.post_send(p.now, qa, &plain), refused);
    let failed = p.a.cq;
    p.a.engine.fail_cq(p.now, failed);
    assert_eq!(p.a.engine.post_send(p.now, qa, &marker(4)), refused);
}

/// Registrations that are posted as markers are taken back as those are that were posted before.
#[test]
fn r067_what_a_marker_reserved_is_free_again() {
    let mut r = Raw::new(Setup::default());
    let entry = r.host.engine.register_fast(r.host.pd, true).unwrap();
    let memory = r.host.unregistered(vec![0; 8]);
    r.host.engine.flush(r.now, r.qp);
    let mut key = entry;
    for context in 0..3 {
        let mr = r
            .host
            .post_fast(r.now, r.qp, context, key, &memory, ALL, SendFlags::DRAIN)
            .unwrap();
        r.host.collect();
        assert_eq!(
            outcomes(&r.host.completions).last(),
            Some(&(context, Status::Flushed))
        );
        assert_eq!(r.host.engine.valid_region(mr.key), None);
        key = r.host.engine.current_key(mr.key).unwrap();
    }
    r.host.engine.deregister(key).unwrap();
}
