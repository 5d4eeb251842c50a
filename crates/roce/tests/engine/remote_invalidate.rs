//! Keys that the peer invalidates with a SEND.

use crate::util::raw::syndrome::*;
use crate::util::raw::{PSN, Raw};
use crate::util::*;
use roce::wire::Opcode::*;
use roce::{
    Access, Completion, CompletionOp, DeregisterError, DestroyError, Event, QpId, SendFlags,
    SendOp, Status,
};

#[test]
fn the_receive_names_the_key_that_the_peer_invalidated() {
    let (mut p, qa, qb) = Pair::attached(Setup::small());
    let mr = p.a.fast(p.now, qa, 1, vec![0; 10]);
    p.run(SECOND);
    p.a.engine.post_recv(p.now, qa, 2, &[]).unwrap();
    p.b.send_with(
        p.now,
        qb,
        3,
        SendOp::SendInvalidate(mr.key.0),
        &[],
        SendFlags::SOLICITED,
    );
    p.run(SECOND);
    let c = p.a.completions.last().unwrap();
    assert_eq!(
        (c.context, c.op, c.invalidated, c.solicited),
        (2, CompletionOp::ReceiveInvalidate, Some(mr.key.0), true)
    );
    // The sender's is a completion like that of any SEND.
    assert_eq!(
        ops(&p.b.completions),
        [(3, CompletionOp::Send, Status::Success)]
    );
}

/// A waits for its NIC: B has read through the key, and then invalidated it.
fn remotely_invalidated(nothing_else: bool) -> (Pair, QpId, QpId, Mr) {
    let (mut p, qa, qb) = Pair::attached(Setup::small());
    p.a.nic_holds = None;
    let mr = p.a.fast(p.now, qa, 1, pattern(100, 1));
    let sink = p.b.open(vec![0; 100]);
    for context in 10..14 {
        p.a.engine.post_recv(p.now, qa, context, &[]).unwrap();
    }
    p.run(SECOND);
    p.a.completions.clear();
    p.b.send(p.now, qb, 2, mr.read(), &[sink.all()]);
    let last = SendOp::SendInvalidate(mr.key.0);
    p.b.send_with(p.now, qb, 3, last, &[], SendFlags::FENCE);
    if !nothing_else {
        p.b.send(p.now, qb, 4, SendOp::Send, &[]);
    }
    p.run(SECOND);
    assert_eq!(p.a.engine.valid_region(mr.key), None);
    assert_eq!(p.a.completions, []);
    (p, qa, qb, mr)
}

#[test]
fn w20_r062_the_receive_waits_for_transmissions_through_the_key_and_later_ones_behind_it() {
    let (mut p, _, _, mr) = remotely_invalidated(false);
    // The peer does not wait.
    assert_eq!(
        outcomes(&p.b.completions),
        [2, 3, 4].map(|c| (c, Status::Success))
    );
    p.a.release_all(p.now);
    p.run(SECOND);
    assert_eq!(
        ops(&p.a.completions),
        [
            (10, CompletionOp::ReceiveInvalidate, Status::Success),
            (11, CompletionOp::Receive, Status::Success),
        ]
    );
    assert_eq!(p.a.completions[0].invalidated, Some(mr.key.0));
}

#[test]
fn flushed_receives_come_behind_those_that_wait() {
    let (mut p, qa, _, _) = remotely_invalidated(false);
    p.a.engine.flush(p.now, qa);
    p.a.engine.post_recv(p.now, qa, 14, &[]).unwrap();
    p.run(SECOND);
    assert_eq!(p.a.completions, []);
    p.a.release_all(p.now);
    p.run(SECOND);
    let flushed = |c| (c, Status::Flushed);
    assert_eq!(
        outcomes(&p.a.completions),
        [
            (10, Status::Success),
            (11, Status::Success),
            flushed(12),
            flushed(13),
            flushed(14)
        ]
    );
}

#[test]
fn a_queue_pair_lives_until_what_waits_has_completed() {
    let (mut p, qa, qb, mr) = remotely_invalidated(true);
    // The transmission is another queue pair's: this one's NIC use is over.
    let (other, _) = p.attach();
    let entry = p.a.engine.register_fast(p.a.pd, true).unwrap();
    assert_eq!(p.a.engine.destroy_qp(p.now, qa), Err(DestroyError::Busy));
    assert_eq!(p.a.engine.deregister(mr.key), Err(DeregisterError::Busy));
    p.run(SECOND);
    assert_eq!(p.a.completions, []);
    p.a.release_all(p.now);
    p.run(SECOND);
    assert_eq!(p.a.completions[0].op, CompletionOp::ReceiveInvalidate);
    assert_eq!(p.a.completions.len(), 4);
    assert!(p.a.events.contains(&Event::QpIdle { qp: qa }));
    assert!(p.a.events.contains(&Event::RegionIdle {
        key: mr.key,
        region: mr.region
    }));
    p.a.engine.destroy_qp(p.now, other).unwrap();
    p.a.engine.deregister(entry).unwrap();
    p.b.engine.destroy_qp(p.now, qb).unwrap();
    assert_eq!(p.a.engine.usage().keys, 0);
}

#[test]
fn a_queue_pair_waits_for_another_one_whose_transmission_reads_what_it_invalidated() {
    let (mut p, _, qb) = Pair::attached(Setup::small());
    let (qa2, _) = p.attach();
    p.a.nic_holds = None;
    let mr = p.a.fast(p.now, qa2, 1, pattern(100, 1));
    let sink = p.b.open(vec![0; 100]);
    p.run(SECOND);
    p.b.send(p.now, qb, 2, mr.read(), &[sink.all()]);
    p.run(SECOND);
    p.a.send(p.now, qa2, 3, mr.invalidate(), &[]);
    p.run(SECOND);
    assert_eq!(p.a.engine.destroy_qp(p.now, qa2), Err(DestroyError::Busy));
    p.run(SECOND);
    assert_eq!(outcomes(&p.a.completions), [(1, Status::Success)]);
    p.a.release_all(p.now);
    p.run(SECOND);
    assert_eq!(
        outcomes(&p.a.completions),
        [(1, Status::Success), (3, Status::Success)]
    );
    assert!(p.a.events.contains(&Event::QpIdle { qp: qa2 }));
}

/// More receives than can be kept waiting: the peer repeats itself, and nothing is lost.
#[test]
fn too_many_waiting_receives_make_the_peer_wait() {
    let (mut p, qa, qb) = Pair::attached(Setup::small());
    p.a.nic_holds = None;
    let mr = p.a.fast(p.now, qa, 1, pattern(100, 1));
    let sink = p.b.open(vec![0; 100]);
    p.run(SECOND);
    p.a.completions.clear();
    p.b.send(p.now, qb, 1000, mr.read(), &[sink.all()]);
    let last = SendOp::SendInvalidate(mr.key.0);
    p.b.send_with(p.now, qb, 1001, last, &[], SendFlags::FENCE);
    let mut next = 0;
    for _ in 0..DEPTH {
        p.a.engine.post_recv(p.now, qa, next, &[]).unwrap();
        next += 1;
    }
    p.run(SECOND);
    for context in 0..DEPTH - 2 {
        p.b.send(p.now, qb, u64::from(context), SendOp::Send, &[]);
    }
    p.run(SECOND);
    for context in 0..2 {
        p.a.engine.post_recv(p.now, qa, next, &[]).unwrap();
        next += 1;
        p.b.send(p.now, qb, context, SendOp::Send, &[]);
    }
    p.run(std::time::Duration::from_millis(1));
    assert_eq!(p.a.completions, []);
    p.a.release_all(p.now);
    p.run(SECOND);
    assert_eq!(
        outcomes(&p.a.completions),
        (0..u64::from(DEPTH) + 1)
            .map(|c| (c, Status::Success))
            .collect::<Vec<_>>()
    );
}

/// Meanwhile the peer is answered what it asks again, or it would give up; and what came early waits like the rest.
#[test]
fn while_too_many_receives_wait_repetitions_are_answered() {
    let mut r = Raw::small();
    r.host.nic_holds = None;
    let mr = r.host.fast(r.now, r.qp, 1, pattern(100, 1));
    r.silence();
    r.inject_reth(ReadRequest, PSN, mr.reth(0, 100), &[]);
    assert_eq!(r.packets().len(), 1);
    r.host.completions.clear();
    for context in 0..u64::from(DEPTH) {
        r.host.engine.post_recv(r.now, r.qp, context, &[]).unwrap();
    }
    r.inject_invalidate(SendOnlyInvalidate, PSN + 1, mr.key.0, &[]);
    let last = PSN + DEPTH;
    for psn in PSN + 2..last {
        r.inject(SendOnly, psn, &[]);
    }
    for context in 0..4 {
        let context = u64::from(DEPTH) + context;
        r.host.engine.post_recv(r.now, r.qp, context, &[]).unwrap();
    }
    for early in [2, 1] {
        r.inject(SendOnly, last + early, &[]);
    }
    r.inject(SendOnly, last, &[]);
    // There was room for this one, and is none for the next.
    assert_eq!(r.only_ack(), (last + 1, SEQUENCE));
    assert_eq!(r.host.engine.usage().early, 2);
    r.inject(SendOnly, last + 1, &[]);
    r.silence();
    let c = *r.host.engine.counters();
    assert_eq!((c.drop_receives_wait, c.drop_qp_state), (1, 0));
    r.inject(SendOnly, last, &[]);
    assert_eq!(r.only_ack(), (last, ACK));
    assert_eq!(r.host.completions, []);
    r.host.release_all(r.now);
    r.inject(SendOnly, last + 1, &[]);
    assert_eq!(r.only_ack(), (last + 2, ACK));
    assert_eq!(r.host.engine.usage().early, 0);
    let done: Vec<_> = (0..u64::from(DEPTH) + 2)
        .map(|context| (context, Status::Success))
        .collect();
    assert_eq!(outcomes(&r.host.completions), done);
}

/// The same where the receives are shared: the others wait in the shared queue.
#[test]
fn too_many_waiting_receives_of_a_shared_queue_make_the_peer_wait() {
    const MESSAGES: u64 = 50;
    let mut p = Pair::new(Setup::small());
    let srq = p.a.engine.create_srq(p.a.pd, 128, 1, 0).unwrap();
    let params = roce::QpParams {
        srq: Some(srq),
        ..p.a.qp_params()
    };
    let (qa, qb) = (p.a.engine.create_qp(&params).unwrap(), p.b.create_qp());
    p.attach_these(qa, qb);
    p.a.nic_holds = None;
    let mr = p.a.fast(p.now, qa, 1, pattern(100, 1));
    let sink = p.b.open(vec![0; 100]);
    for context in 0..=MESSAGES {
        p.a.engine.post_srq_recv(srq, context, &[]).unwrap();
    }
    p.run(SECOND);
    p.a.completions.clear();
    p.b.send(p.now, qb, 1000, mr.read(), &[sink.all()]);
    let last = SendOp::SendInvalidate(mr.key.0);
    p.b.send_with(p.now, qb, 1001, last, &[], SendFlags::FENCE);
    p.run(SECOND);
    for wave in 0..MESSAGES / 10 {
        for context in 10 * wave..10 * wave + 10 {
            p.b.send(p.now, qb, context, SendOp::Send, &[]);
        }
        p.run(std::time::Duration::from_micros(100));
    }
    assert_eq!(p.a.completions, []);
    // What the peer knows to have arrived is what waits here.
    let sent = |p: &Pair| p.b.completions.iter().filter(|c| c.context < 1000).count();
    assert_eq!(sent(&p), 15);
    p.a.release_all(p.now);
    p.run(SECOND);
    assert_eq!(
        outcomes(&p.a.completions),
        (0..=MESSAGES)
            .map(|c| (c, Status::Success))
            .collect::<Vec<_>>()
    );
    assert_eq!(sent(&p), MESSAGES as usize);
}

#[test]
fn w21_r062_keys_that_the_peer_must_not_invalidate() {
    for case in 0..6 {
        let mut r = Raw::small();
        let none = SendFlags::empty();
        let mr = r.host.fast(r.now, r.qp, 1, vec![0; 8]);
        let local_only = r.host.engine.register_fast(r.host.pd, true).unwrap();
        let memory = r.host.unregistered(vec![0; 8]);
        let local_only = r
            .host
            .post_fast(
                r.now,
                r.qp,
                2,
                local_only,
                &memory,
                Access::LOCAL_WRITE,
                none,
            )
            .unwrap();
        let plain = r.host.open(vec![0; 8]);
        let foreign = r.host.engine.create_pd().unwrap();
        let own = std::mem::replace(&mut r.host.pd, foreign);
        let foreign = r.host.engine.register_fast(r.host.pd, true).unwrap();
        let foreign_qp = r.host.create_qp();
        r.host.pd = own;
        r.silence();
        let (key, alive) = match case {
            0 => (mr.key.0 ^ 1, mr.key),
            1 => (plain.key.0, plain.key),
            2 => (local_only.key.0, local_only.key),
            // Not valid.
            3 => (foreign.0, mr.key),
            4 => (0, mr.key),
            _ => (u32::MAX, mr.key),
        };
        r.host
            .engine
            .post_recv(r.now, r.qp, 5, &[plain.all()])
            .unwrap();
        r.host.completions.clear();
        r.inject_invalidate(SendOnlyInvalidate, PSN, key, b"abc");
        assert_eq!(r.only_ack(), (PSN, ACCESS), "case {case}");
        assert_eq!(
            outcomes(&r.host.completions),
            [(5, Status::RemoteInvalidate)]
        );
        assert!(r.host.engine.valid_region(alive).is_some());
        assert!(r.host.events.contains(&Event::QpFatal {
            qp: r.qp,
            status: Status::RemoteInvalidate
        }));
        let _ = foreign_qp;
    }
}

/// A key of another protection domain, valid there, while one of its own is invalidated.
#[test]
fn w21_r062_a_key_of_another_protection_domain_cannot_be_invalidated() {
    let (mut p, qa, qb) = Pair::attached(Setup::small());
    let own = p.a.fast(p.now, qa, 1, vec![0; 8]);
    p.a.pd = p.a.engine.create_pd().unwrap();
    let (stranger, _) = p.attach();
    let foreign = p.a.fast(p.now, stranger, 2, vec![0; 8]);
    p.run(SECOND);
    p.a.completions.clear();
    for (n, mr) in [own, foreign].into_iter().enumerate() {
        p.a.engine.post_recv(p.now, qa, n as u64, &[]).unwrap();
        assert_eq!(p.a.engine.valid_region(mr.key), Some(mr.region));
        p.b.send(
            p.now,
            qb,
            10 + n as u64,
            SendOp::SendInvalidate(mr.key.0),
            &[],
        );
    }
    p.run(SECOND);
    assert_eq!(p.a.engine.valid_region(own.key), None);
    assert_eq!(p.a.engine.valid_region(foreign.key), Some(foreign.region));
    assert_eq!(
        outcomes(&p.a.completions),
        [(0, Status::Success), (1, Status::RemoteInvalidate)]
    );
    assert_eq!(
        outcomes(&p.b.completions),
        [(10, Status::Success), (11, Status::RemoteAccess)]
    );
}

/// An invalidation that arrives twice must not hit what has been registered meanwhile, nor fail.
#[test]
fn a_repeated_send_with_invalidate_does_not_invalidate_again() {
    let mut r = Raw::small();
    let local = r.host.open(vec![0; 600]);
    let mr = r.host.fast(r.now, r.qp, 1, vec![0; 8]);
    r.silence();
    r.host
        .engine
        .post_recv(r.now, r.qp, 2, &[local.all()])
        .unwrap();
    r.host
        .engine
        .post_recv(r.now, r.qp, 3, &[local.all()])
        .unwrap();
    r.inject(SendFirst, PSN, &[1; 256]);
    r.inject_invalidate(SendLastInvalidate, PSN + 1, mr.key.0, b"abc");
    assert_eq!(r.only_ack(), (PSN + 1, ACK));
    // Under the very same key: 255 registrations later the tag is the same again.
    let mut newest = mr;
    loop {
        newest = r
            .host
            .post_fast(r.now, r.qp, 4, newest.key, &mr, ALL, SendFlags::SILENT)
            .unwrap();
        r.silence();
        if newest.key == mr.key {
            break;
        }
        r.host
            .send_with(r.now, r.qp, 5, newest.invalidate(), &[], SendFlags::SILENT);
        r.silence();
    }
    r.inject_invalidate(SendLastInvalidate, PSN + 1, mr.key.0, b"abc");
    assert_eq!(r.only_ack(), (PSN + 1, ACK));
    assert_eq!(r.host.engine.valid_region(mr.key), Some(mr.region));
    assert_eq!(
        ops(&r.host.completions),
        [
            (1, CompletionOp::FastRegister, Status::Success),
            (2, CompletionOp::ReceiveInvalidate, Status::Success)
        ]
    );
}

#[test]
fn r062_a_send_with_invalidate_needs_a_receive_and_then_the_key_is_dead() {
    let mut r = Raw::small();
    let mr = r.host.fast(r.now, r.qp, 1, vec![0; 8]);
    r.silence();
    r.inject_invalidate(SendOnlyInvalidate, PSN, mr.key.0, b"");
    assert_eq!(r.only_ack().0, PSN);
    assert_eq!(r.host.engine.valid_region(mr.key), Some(mr.region));
    r.host.engine.post_recv(r.now, r.qp, 2, &[]).unwrap();
    // A byte is written through it while it still lives.
    r.inject_reth(WriteOnly, PSN, mr.reth(0, 1), &[7]);
    assert_eq!(r.only_ack(), (PSN, ACK));
    let (before, mut out) = (r.host.completions.len(), [Completion::default(); 4]);
    // The receive has not been polled yet when the next packet tries again.
    r.inject_invalidate(SendOnlyInvalidate, PSN + 1, mr.key.0, b"");
    assert_eq!(r.host.engine.valid_region(mr.key), None);
    r.inject_reth(WriteOnly, PSN + 2, mr.reth(0, 1), &[9]);
    assert_eq!(r.host.engine.poll_cq(r.host.cq, &mut out), 1);
    let (op, key) = (out[0].op, out[0].invalidated);
    assert_eq!((op, key), (CompletionOp::ReceiveInvalidate, Some(mr.key.0)));
    let refused = r.replies();
    let refused = refused.last().unwrap();
    assert_eq!((refused.psn, refused.syndrome), (PSN + 2, Some(ACCESS)));
    assert_eq!(r.host.completions.len(), before);
    assert_eq!(r.host.bytes(&mr)[0], 7);
}

/// Only the last packet names the key, the first time and every time.
#[test]
fn sends_with_invalidate_of_every_length_and_their_repetition() {
    let mut r = Raw::small();
    let local = r.host.open(pattern(1000, 1));
    for len in [0, 1, 256] {
        r.host.send(
            r.now,
            r.qp,
            1,
            SendOp::SendInvalidate(0xabcd),
            &[local.sge(0, len)],
        );
    }
    r.host.send(
        r.now,
        r.qp,
        2,
        SendOp::SendInvalidate(0x1234),
        &[local.sge(0, 600)],
    );
    let sent = |r: &mut Raw| -> Vec<_> {
        r.replies()
            .iter()
            .map(|p| (p.op, p.psn, p.invalidate))
            .collect()
    };
    let (short, long) = (Some(0xabcd), Some(0x1234));
    let last = [
        (SendFirst, PSN + 3, None),
        (SendMiddle, PSN + 4, None),
        (SendLastInvalidate, PSN + 5, long),
    ];
    let mut want = vec![
        (SendOnlyInvalidate, PSN, short),
        (SendOnlyInvalidate, PSN + 1, short),
        (SendOnlyInvalidate, PSN + 2, short),
    ];
    want.extend(last);
    assert_eq!(sent(&mut r), want);
    r.acknowledge(PSN + 4, 0x60);
    assert_eq!(sent(&mut r), last[1..2]);
    r.wait(SECOND);
    assert_eq!(sent(&mut r), last[1..]);
    r.acknowledge(PSN + 5, ACK);
    r.silence();
    assert_eq!(outcomes(&r.host.completions).len(), 4);
}
