//! Keys that are registered and invalidated through the send queue, by this side and by the peer.

mod util;

use roce::wire::Opcode::*;
use roce::{
    Access, Completion, CompletionOp, DeregisterError, DestroyError, Event, MrKey, PostError, QpId,
    RegionId, SendFlags, SendOp, SendRequest, Status,
};
use util::raw::syndrome::*;
use util::raw::{PSN, Raw};
use util::*;

fn ops(completions: &[Completion]) -> Vec<(u64, CompletionOp, Status)> {
    completions
        .iter()
        .map(|c| (c.context, c.op, c.status))
        .collect()
}

/// What SMB Direct does: register, tell the peer, the peer writes and says that it is done with the key, and so on with the same
/// entry.
#[test]
fn r013_w20_a_key_is_registered_used_invalidated_by_the_peer_and_registered_again() {
    let (mut p, qa, qb) = Pair::attached(Setup::small());
    let entry = p.a.engine.register_fast(p.a.pd, true).unwrap();
    let token = p.b.open(vec![0; 600]);
    let answer = p.b.open(pattern(600, 1));
    let inbox = p.a.open(vec![0; 600]);
    let mut newest = entry;
    for round in 0..300 {
        let memory = p.a.unregistered(vec![0; 1000]);
        let mr =
            p.a.post_fast(p.now, qa, 1, newest, &memory, ALL, SendFlags::empty())
                .unwrap();
        assert_ne!(mr.key, newest);
        assert_eq!(mr.key.0 >> 8, entry.0 >> 8);
        newest = mr.key;
        p.b.engine.post_recv(p.now, qb, 2, &[token.all()]).unwrap();
        p.a.engine.post_recv(p.now, qa, 3, &[inbox.all()]).unwrap();
        p.a.send(p.now, qa, 4, SendOp::Send, &[inbox.sge(0, 16)]);
        p.run(SECOND);
        assert_eq!(p.a.engine.valid_region(newest), Some(memory.region));
        p.b.send(p.now, qb, 5, mr.write(), &[answer.all()]);
        let last = SendOp::SendInvalidate(mr.key.0);
        p.b.send(p.now, qb, 6, last, &[answer.sge(0, 300 + round)]);
        p.run(SECOND);
        assert_eq!(p.a.engine.valid_region(newest), None);
        assert_eq!(p.a.bytes(&mr)[..600], *p.b.bytes(&answer));
        assert_eq!(
            ops(&std::mem::take(&mut p.a.completions)),
            [
                (1, CompletionOp::FastRegister, Status::Success),
                (4, CompletionOp::Send, Status::Success),
                (3, CompletionOp::ReceiveInvalidate, Status::Success),
            ]
        );
        p.b.completions.clear();
    }
    // The peer's copy of any old key is worthless.
    p.b.send(
        p.now,
        qb,
        7,
        SendOp::Read {
            remote_va: 0,
            rkey: newest.0,
        },
        &[token.sge(0, 1)],
    );
    p.run(SECOND);
    assert_eq!(outcomes(&p.b.completions), [(7, Status::RemoteAccess)]);
}

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

#[test]
fn a_registration_that_has_not_been_executed_opens_nothing() {
    let mut r = Raw::small();
    let entry = r.host.engine.register_fast(r.host.pd, true).unwrap();
    let memory = r.host.unregistered(vec![0; 100]);
    let mr = r
        .host
        .post_fast(r.now, r.qp, 1, entry, &memory, ALL, SendFlags::DEFER)
        .unwrap();
    assert_eq!(r.host.engine.valid_region(mr.key), None);
    r.inject_reth(WriteOnly, PSN, mr.reth(0, 4), b"evil");
    assert_eq!(r.only_ack(), (PSN, ACCESS));
    assert_eq!(r.host.bytes(&mr), [0; 100]);
}

#[test]
fn a_deferred_registration_is_executed_with_the_next_request() {
    let mut r = Raw::small();
    let entry = r.host.engine.register_fast(r.host.pd, true).unwrap();
    let memory = r.host.unregistered(vec![0; 100]);
    let mr = r
        .host
        .post_fast(r.now, r.qp, 1, entry, &memory, ALL, SendFlags::DEFER)
        .unwrap();
    r.silence();
    assert!(r.host.completions.is_empty());
    r.host.send(r.now, r.qp, 2, SendOp::Send, &[mr.sge(0, 5)]);
    assert_eq!(r.packets(), [(SendOnly, PSN)]);
    assert_eq!(outcomes(&r.host.completions), [(1, Status::Success)]);
    r.inject_reth(WriteOnly, PSN, mr.reth(0, 4), b"good");
    assert_eq!(r.only_ack(), (PSN, ACK));
    assert_eq!(r.host.bytes(&mr)[..5], *b"good\0");
}

#[test]
fn what_can_be_known_when_posting_is_refused_then() {
    let (mut p, qa, _) = Pair::attached(Setup::small());
    let none = SendFlags::empty();
    let memory = p.a.unregistered(vec![0; 64]);
    let plain = p.a.open(vec![0; 64]);
    let local_only = p.a.engine.register_fast(p.a.pd, false).unwrap();
    for access in [
        Access::REMOTE_READ,
        Access::REMOTE_WRITE,
        Access::REMOTE_ATOMIC,
    ] {
        assert_eq!(
            p.a.post_fast(p.now, qa, 1, local_only, &memory, access, none)
                .err(),
            Some(PostError::AccessDenied)
        );
    }
    let foreign = p.a.engine.create_pd().unwrap();
    let foreign = p.a.engine.register_fast(foreign, true).unwrap();
    assert_eq!(
        p.a.post_fast(p.now, qa, 1, foreign, &memory, ALL, none)
            .err(),
        Some(PostError::WrongPd)
    );
    let op = SendOp::Invalidate { key: foreign };
    assert_eq!(
        p.a.engine.post_send(p.now, qa, &request(op)),
        Err(PostError::WrongPd)
    );
    for key in [
        plain.key,
        MrKey(0),
        MrKey(u32::MAX),
        MrKey(local_only.0 ^ 1),
    ] {
        assert_eq!(
            p.a.post_fast(p.now, qa, 1, key, &memory, ALL, none).err(),
            Some(PostError::UnknownKey)
        );
    }
    assert_eq!(
        p.a.engine
            .post_send(p.now, qa, &request(plain.invalidate())),
        Err(PostError::UnknownKey)
    );
    let far = Mr {
        va: u64::MAX - 62,
        ..memory
    };
    assert_eq!(
        p.a.post_fast(p.now, qa, 1, local_only, &far, Access::empty(), none)
            .err(),
        Some(PostError::InvalidRange)
    );
    // Local operations have no elements, and only a READ invalidates one of its own.
    let element = [plain.all()];
    let with_element = SendRequest {
        sgl: &element,
        ..request(SendOp::Invalidate { key: local_only })
    };
    let inline = SendRequest {
        inline: Some(&[]),
        ..request(SendOp::Invalidate { key: local_only })
    };
    let no_read = SendRequest {
        sgl: &element,
        flags: SendFlags::INVALIDATE_LOCAL,
        ..request(plain.write())
    };
    let no_element = SendRequest {
        flags: SendFlags::INVALIDATE_LOCAL,
        ..request(plain.read())
    };
    for bad in [with_element, inline, no_read, no_element] {
        assert_eq!(
            p.a.engine.post_send(p.now, qa, &bad),
            Err(PostError::InvalidRequest)
        );
    }
    // Nothing of all that has left a trace.
    p.a.post_fast(p.now, qa, 9, local_only, &memory, Access::LOCAL_WRITE, none)
        .unwrap();
    p.run(SECOND);
    assert_eq!(outcomes(&p.a.completions), [(9, Status::Success)]);
}

/// Two page buffers per region are enough: one belongs to what is valid, one to what is posted.
#[test]
fn one_registration_of_an_entry_is_posted_at_a_time() {
    let (mut p, qa, _) = Pair::attached(Setup::small());
    let (qa2, _) = p.attach();
    let entry = p.a.engine.register_fast(p.a.pd, true).unwrap();
    let memory = [1, 2].map(|i| p.a.unregistered(pattern(100, i)));
    let none = SendFlags::empty();
    let first =
        p.a.post_fast(p.now, qa, 1, entry, &memory[0], ALL, none)
            .unwrap();
    assert_eq!(
        p.a.post_fast(p.now, qa2, 2, first.key, &memory[1], ALL, none)
            .err(),
        Some(PostError::KeyBusy)
    );
    p.run(SECOND);
    assert_eq!(p.a.engine.valid_region(first.key), Some(memory[0].region));
    p.a.send(p.now, qa, 3, first.invalidate(), &[]);
    let second =
        p.a.post_fast(p.now, qa, 4, first.key, &memory[1], ALL, none)
            .unwrap();
    // The newest key asks for the entry, whichever registration is valid.
    assert_eq!(p.a.engine.valid_region(second.key), Some(memory[0].region));
    assert_eq!(p.a.engine.valid_region(first.key), None);
    assert_eq!(
        p.a.post_fast(p.now, qa, 5, second.key, &memory[0], ALL, none)
            .err(),
        Some(PostError::KeyBusy)
    );
    p.run(SECOND);
    assert_eq!(p.a.engine.valid_region(second.key), Some(memory[1].region));
    assert_eq!(
        outcomes(&p.a.completions),
        [1, 3, 4].map(|c| (c, Status::Success))
    );
}

#[test]
fn registering_what_is_valid_fails_the_queue_pair() {
    let (mut p, qa, _) = Pair::attached(Setup::small());
    let remote = p.b.open(vec![0; 100]);
    let mr = p.a.fast(p.now, qa, 1, pattern(100, 1));
    p.run(SECOND);
    let again =
        p.a.post_fast(p.now, qa, 3, mr.key, &mr, ALL, SendFlags::empty())
            .unwrap();
    p.a.send(p.now, qa, 4, remote.write(), &[again.all()]);
    p.run(SECOND);
    assert_eq!(
        ops(&p.a.completions),
        [
            (1, CompletionOp::FastRegister, Status::Success),
            (3, CompletionOp::FastRegister, Status::LocalOperation),
            (4, CompletionOp::Write, Status::Flushed),
        ]
    );
    assert!(p.a.events.contains(&Event::QpFatal {
        qp: qa,
        status: Status::LocalOperation
    }));
    // The registration that was there still is; the one that failed has been taken back.
    assert_eq!(p.a.engine.valid_region(again.key), Some(mr.region));
    let (other, _) = p.attach();
    assert!(
        p.a.post_fast(p.now, other, 5, again.key, &mr, ALL, SendFlags::empty())
            .is_ok()
    );
}

/// A failing local operation waits its turn: what was posted before it completes first.
#[test]
fn a_local_operation_fails_after_everything_before_it_has_completed() {
    let mut r = Raw::small();
    let local = r.host.open(pattern(300, 1));
    let mr = r.host.fast(r.now, r.qp, 1, vec![0; 8]);
    r.silence();
    r.host.send(r.now, r.qp, 2, SendOp::Send, &[local.all()]);
    let again = r
        .host
        .post_fast(r.now, r.qp, 3, mr.key, &mr, ALL, SendFlags::empty());
    assert!(again.is_ok());
    assert_eq!(r.packets(), [(SendFirst, PSN), (SendLast, PSN + 1)]);
    assert_eq!(outcomes(&r.host.completions), [(1, Status::Success)]);
    r.acknowledge(PSN + 1, ACK);
    r.silence();
    assert_eq!(
        outcomes(&r.host.completions),
        [
            (1, Status::Success),
            (2, Status::Success),
            (3, Status::LocalOperation)
        ]
    );
}

#[test]
fn w22_what_is_not_valid_cannot_be_invalidated() {
    let (mut p, qa, qb) = Pair::attached(Setup::small());
    let mr = p.a.fast(p.now, qa, 1, vec![0; 100]);
    p.run(SECOND);
    p.a.engine.post_recv(p.now, qa, 2, &[]).unwrap();
    p.b.send(p.now, qb, 3, SendOp::SendInvalidate(mr.key.0), &[]);
    p.run(SECOND);
    p.a.send(p.now, qa, 4, mr.invalidate(), &[]);
    p.a.send(p.now, qa, 5, SendOp::Send, &[]);
    p.run(SECOND);
    assert_eq!(
        ops(&p.a.completions[2..]),
        [
            (4, CompletionOp::Invalidate, Status::LocalOperation),
            (5, CompletionOp::Send, Status::Flushed),
        ]
    );
}

/// Until everything before it is acknowledged, packets may have to be sent again.
#[test]
fn invalidation_waits_for_earlier_requests_and_is_not_passed_by_later_ones() {
    let mut r = Raw::small();
    let mr = r.host.fast(r.now, r.qp, 1, pattern(300, 1));
    r.host.send(r.now, r.qp, 2, SendOp::Send, &[mr.all()]);
    r.host.send(r.now, r.qp, 3, mr.invalidate(), &[]);
    r.host.send(r.now, r.qp, 4, SendOp::Send, &[]);
    assert_eq!(r.packets(), [(SendFirst, PSN), (SendLast, PSN + 1)]);
    assert!(r.host.engine.valid_region(mr.key).is_some());
    // Lost, and sent again.
    r.acknowledge(PSN, 0x60);
    assert_eq!(r.packets(), [(SendFirst, PSN), (SendLast, PSN + 1)]);
    r.acknowledge(PSN + 1, ACK);
    assert_eq!(r.packets(), [(SendOnly, PSN + 2)]);
    assert_eq!(r.host.engine.valid_region(mr.key), None);
    assert_eq!(
        ops(&r.host.completions),
        [
            (1, CompletionOp::FastRegister, Status::Success),
            (2, CompletionOp::Send, Status::Success),
            (3, CompletionOp::Invalidate, Status::Success),
        ]
    );
    r.acknowledge(PSN + 2, ACK);
    r.silence();
    assert_eq!(r.host.completions.len(), 4);
}

/// Going back in the PSN space passes over local operations without doing them again.
#[test]
fn local_operations_between_retransmitted_requests_are_executed_once() {
    let mut r = Raw::small();
    let local = r.host.open(pattern(300, 1));
    let op = SendOp::Read {
        remote_va: 0,
        rkey: 1,
    };
    r.host.send(r.now, r.qp, 1, SendOp::Send, &[local.all()]);
    let one = r.host.fast(r.now, r.qp, 2, vec![0; 8]);
    let two = r.host.fast(r.now, r.qp, 3, vec![0; 8]);
    r.host.send(r.now, r.qp, 4, op, &[local.sge(0, 8)]);
    let three = r.host.fast(r.now, r.qp, 5, vec![0; 8]);
    let all = [
        (SendFirst, PSN),
        (SendLast, PSN + 1),
        (ReadRequest, PSN + 2),
    ];
    assert_eq!(r.packets(), all);
    for mr in [one, two, three] {
        assert_eq!(r.host.engine.valid_region(mr.key), Some(mr.region));
    }
    r.acknowledge(PSN, 0x60);
    assert_eq!(r.packets(), all);
    r.acknowledge(PSN + 1, ACK);
    r.silence();
    assert_eq!(
        outcomes(&r.host.completions),
        [1, 2, 3].map(|c| (c, Status::Success))
    );
    // The timeout goes back to the READ, not to what lies before it.
    r.wait(SECOND);
    assert_eq!(r.packets(), [(ReadRequest, PSN + 2)]);
    r.respond(ReadResponseOnly, PSN + 2, Some(ACK), b"abcdefgh");
    r.silence();
    assert_eq!(
        outcomes(&r.host.completions[3..]),
        [4, 5].map(|c| (c, Status::Success))
    );
}

#[test]
fn silent_and_fenced_local_operations() {
    let mut r = Raw::small();
    let local = r.host.open(vec![0; 8]);
    let memory = r.host.unregistered(vec![0; 8]);
    let entry = r.host.engine.register_fast(r.host.pd, true).unwrap();
    let op = SendOp::Read {
        remote_va: 0,
        rkey: 1,
    };
    r.host.send(r.now, r.qp, 1, op, &[local.all()]);
    let flags = SendFlags::FENCE | SendFlags::SILENT;
    let mr = r
        .host
        .post_fast(r.now, r.qp, 2, entry, &memory, ALL, flags)
        .unwrap();
    r.host.send(r.now, r.qp, 3, SendOp::Send, &[]);
    assert_eq!(r.packets(), [(ReadRequest, PSN)]);
    assert_eq!(r.host.engine.valid_region(mr.key), None);
    r.respond(ReadResponseOnly, PSN, Some(ACK), b"abcdefgh");
    assert_eq!(r.packets(), [(SendOnly, PSN + 1)]);
    assert_eq!(r.host.engine.valid_region(mr.key), Some(memory.region));
    r.acknowledge(PSN + 1, ACK);
    r.host
        .send_with(r.now, r.qp, 4, mr.invalidate(), &[], SendFlags::SILENT);
    r.host
        .send_with(r.now, r.qp, 5, mr.invalidate(), &[], SendFlags::SILENT);
    r.silence();
    // Silent unless they fail.
    assert_eq!(
        outcomes(&r.host.completions),
        [
            (1, Status::Success),
            (3, Status::Success),
            (5, Status::LocalOperation)
        ]
    );
}

/// The consumer frees memory when its invalidation completes: no transmission may read it then.
#[test]
fn invalidation_completes_when_no_transmission_reads_through_the_key() {
    let (mut p, qa, qb) = Pair::attached(Setup::small());
    let (qa2, _) = p.attach();
    p.a.nic_holds = None;
    let mr = p.a.fast(p.now, qa, 1, pattern(100, 1));
    let sink = p.b.open(vec![0; 100]);
    p.run(SECOND);
    p.b.send(p.now, qb, 2, mr.read(), &[sink.all()]);
    p.run(SECOND);
    assert_eq!(p.b.bytes(&sink), p.a.bytes(&mr));
    assert_eq!(p.a.held(), 1);
    // From another queue pair than the one whose transmission holds it.
    p.a.completions.clear();
    p.a.send(p.now, qa2, 3, mr.invalidate(), &[]);
    p.a.send(
        p.now,
        qa2,
        4,
        SendOp::Write {
            remote_va: 0,
            rkey: 0,
        },
        &[],
    );
    p.run(SECOND);
    assert_eq!(outcomes(&p.a.completions), []);
    // Dead already, for the peer and for this side.
    assert_eq!(p.a.engine.valid_region(mr.key), None);
    // A new registration has to wait too.
    let fresh = p.a.unregistered(vec![0; 10]);
    let fresh =
        p.a.post_fast(p.now, qa, 5, mr.key, &fresh, ALL, SendFlags::empty())
            .unwrap();
    p.run(SECOND);
    assert_eq!(p.a.engine.valid_region(fresh.key), None);
    p.a.release_all(p.now);
    p.run(SECOND);
    assert_eq!(p.a.engine.valid_region(fresh.key), Some(fresh.region));
    let mut done = outcomes(&p.a.completions);
    done.sort_unstable_by_key(|c| c.0);
    assert_eq!(done, [3, 4, 5].map(|c| (c, Status::Success)));
    p.b.send(p.now, qb, 6, mr.read(), &[sink.all()]);
    p.run(SECOND);
    assert_eq!(p.b.completions.last().unwrap().status, Status::RemoteAccess);
}

#[test]
fn a_send_of_ones_own_that_the_nic_still_reads_holds_back_an_invalidation_too() {
    let (mut p, qa, _) = Pair::attached(Setup::small());
    p.a.nic_holds = None;
    let remote = p.b.open(vec![0; 100]);
    let mr = p.a.fast(p.now, qa, 1, pattern(100, 1));
    p.a.send_with(p.now, qa, 2, remote.write(), &[mr.all()], SendFlags::SILENT);
    p.a.send(p.now, qa, 3, mr.invalidate(), &[]);
    p.run(SECOND);
    assert_eq!(outcomes(&p.a.completions), [(1, Status::Success)]);
    assert_eq!(p.a.engine.valid_region(mr.key), None);
    p.a.release_all(p.now);
    p.run(SECOND);
    assert_eq!(
        outcomes(&p.a.completions),
        [(1, Status::Success), (3, Status::Success)]
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
fn w20_the_receive_waits_for_transmissions_through_the_key_and_later_ones_behind_it() {
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

#[test]
fn w21_keys_that_the_peer_must_not_invalidate() {
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

/// A key of another protection domain, valid there.
#[test]
fn w21_a_key_of_another_protection_domain_cannot_be_invalidated() {
    let (mut p, _, qb) = Pair::attached(Setup::small());
    p.a.pd = p.a.engine.create_pd().unwrap();
    let (foreign, _) = p.attach();
    let mr = p.a.fast(p.now, foreign, 1, vec![0; 8]);
    p.run(SECOND);
    p.b.send(p.now, qb, 2, SendOp::SendInvalidate(mr.key.0), &[]);
    p.run(SECOND);
    assert_eq!(p.a.engine.valid_region(mr.key), Some(mr.region));
    // No receive was posted: until there is one nothing can fail.
    assert_eq!(p.b.completions, []);
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
fn a_send_with_invalidate_without_a_receive_invalidates_nothing_yet() {
    let mut r = Raw::small();
    let mr = r.host.fast(r.now, r.qp, 1, vec![0; 8]);
    r.silence();
    r.inject_invalidate(SendOnlyInvalidate, PSN, mr.key.0, b"");
    assert_eq!(r.only_ack().0, PSN);
    assert_eq!(r.host.engine.valid_region(mr.key), Some(mr.region));
    r.host.engine.post_recv(r.now, r.qp, 2, &[]).unwrap();
    r.inject_invalidate(SendOnlyInvalidate, PSN, mr.key.0, b"");
    assert_eq!(r.only_ack(), (PSN, ACK));
    assert_eq!(r.host.engine.valid_region(mr.key), None);
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
    assert_eq!(sent(&mut r), last[1..]);
    r.wait(SECOND);
    assert_eq!(sent(&mut r), last[1..]);
    r.acknowledge(PSN + 5, ACK);
    r.silence();
    assert_eq!(outcomes(&r.host.completions).len(), 4);
}

#[test]
fn w23_a_read_invalidates_its_first_element() {
    let (mut p, qa, _) = Pair::attached(Setup::small());
    let source = p.b.open(pattern(700, 1));
    let one = p.a.fast(p.now, qa, 1, vec![0; 300]);
    let two = p.a.fast(p.now, qa, 2, vec![0; 400]);
    let flags = SendFlags::INVALIDATE_LOCAL;
    p.a.send_with(p.now, qa, 3, source.read(), &[one.all(), two.all()], flags);
    p.run(SECOND);
    assert_eq!(p.a.bytes(&one), &p.b.bytes(&source)[..300]);
    assert_eq!(p.a.bytes(&two), &p.b.bytes(&source)[300..]);
    assert_eq!(p.a.engine.valid_region(one.key), None);
    assert_eq!(p.a.engine.valid_region(two.key), Some(two.region));
    assert_eq!(
        outcomes(&p.a.completions),
        [1, 2, 3].map(|c| (c, Status::Success))
    );
}

/// NDKPI leaves this open. A key that cannot be invalidated at the end is refused at the start, as any other local error.
#[test]
fn w23_a_read_into_a_key_that_cannot_be_invalidated_is_not_sent() {
    let mut r = Raw::small();
    let plain = r.host.open(vec![0; 8]);
    let op = SendOp::Read {
        remote_va: 0,
        rkey: 1,
    };
    let flags = SendFlags::INVALIDATE_LOCAL;
    r.host.send_with(r.now, r.qp, 1, op, &[plain.all()], flags);
    r.silence();
    assert_eq!(outcomes(&r.host.completions), [(1, Status::LocalOperation)]);
}

#[test]
fn w23_a_read_that_invalidates_waits_for_transmissions_through_its_key() {
    let (mut p, qa, qb) = Pair::attached(Setup::small());
    p.a.nic_holds = None;
    let source = p.b.open(pattern(100, 1));
    let sink = p.b.open(vec![0; 100]);
    let mr = p.a.fast(p.now, qa, 1, vec![0; 100]);
    p.run(SECOND);
    p.b.send(p.now, qb, 2, mr.read(), &[sink.all()]);
    p.run(SECOND);
    let flags = SendFlags::INVALIDATE_LOCAL;
    p.a.send_with(p.now, qa, 3, source.read(), &[mr.all()], flags);
    p.run(SECOND);
    assert_eq!(p.a.engine.valid_region(mr.key), None);
    assert_eq!(outcomes(&p.a.completions), [(1, Status::Success)]);
    p.a.release_all(p.now);
    p.run(SECOND);
    assert_eq!(
        outcomes(&p.a.completions),
        [(1, Status::Success), (3, Status::Success)]
    );
}

#[test]
fn a_flush_takes_back_what_was_posted() {
    let (mut p, qa, _) = Pair::attached(Setup::small());
    let (other, _) = p.attach();
    let entry = p.a.engine.register_fast(p.a.pd, true).unwrap();
    let memory = p.a.unregistered(vec![0; 8]);
    let mr =
        p.a.post_fast(p.now, qa, 1, entry, &memory, ALL, SendFlags::DEFER)
            .unwrap();
    p.a.send_with(
        p.now,
        qa,
        2,
        mr.invalidate(),
        &[],
        SendFlags::DEFER | SendFlags::SILENT,
    );
    p.a.engine.flush(p.now, qa);
    p.a.collect();
    assert_eq!(
        ops(&p.a.completions),
        [
            (1, CompletionOp::FastRegister, Status::Flushed),
            (2, CompletionOp::Invalidate, Status::Flushed)
        ]
    );
    let again =
        p.a.post_fast(p.now, other, 3, mr.key, &memory, ALL, SendFlags::empty())
            .unwrap();
    p.run(SECOND);
    assert_eq!(p.a.engine.valid_region(again.key), Some(memory.region));
}

#[test]
fn entries_are_given_back_in_any_state() {
    let (mut p, qa, _) = Pair::attached(Setup::small());
    let (qa2, _) = p.attach();
    let invalid = p.a.engine.register_fast(p.a.pd, true).unwrap();
    let valid = p.a.fast(p.now, qa, 1, vec![0; 8]);
    p.run(SECOND);
    let posted = p.a.engine.register_fast(p.a.pd, true).unwrap();
    let memory = p.a.unregistered(vec![0; 8]);
    let posted =
        p.a.post_fast(p.now, qa2, 2, posted, &memory, ALL, SendFlags::DEFER)
            .unwrap();
    assert_eq!(
        p.a.engine.deregister(MrKey(invalid.0 ^ 1)),
        Err(DeregisterError::Unknown)
    );
    for key in [invalid, valid.key, posted.key] {
        assert_eq!(p.a.engine.deregister(key), Ok(()));
        assert_eq!(p.a.engine.deregister(key), Err(DeregisterError::Unknown));
        assert_eq!(p.a.engine.valid_region(key), None::<RegionId>);
    }
    assert_eq!(p.a.engine.usage().keys, 0);
    // What was posted finds nothing any more.
    p.a.send(p.now, qa2, 3, SendOp::Send, &[]);
    p.run(SECOND);
    assert_eq!(
        outcomes(&p.a.completions[1..]),
        [(2, Status::LocalOperation), (3, Status::Flushed)]
    );
}

/// A registration that waits for the NIC fails when its entry goes, instead of waiting for ever.
#[test]
fn an_entry_given_back_while_its_registration_waits_fails_it() {
    let (mut p, qa, _) = Pair::attached(Setup::small());
    let (qa2, _) = p.attach();
    p.a.nic_holds = None;
    let remote = p.b.open(vec![0; 8]);
    let mr = p.a.fast(p.now, qa, 1, vec![0; 8]);
    p.a.send(p.now, qa, 2, remote.write(), &[mr.all()]);
    p.a.send(p.now, qa, 3, mr.invalidate(), &[]);
    p.run(SECOND);
    let again =
        p.a.post_fast(p.now, qa2, 4, mr.key, &mr, ALL, SendFlags::empty())
            .unwrap();
    p.run(SECOND);
    assert_eq!(p.a.engine.deregister(again.key), Err(DeregisterError::Busy));
    p.run(SECOND);
    p.a.release_all(p.now);
    p.run(SECOND);
    let mut done = outcomes(&p.a.completions);
    done.sort_unstable_by_key(|c| c.0);
    let ok = Status::Success;
    assert_eq!(
        done,
        [(1, ok), (2, ok), (3, ok), (4, Status::LocalOperation)]
    );
    assert!(p.a.events.contains(&Event::RegionIdle {
        key: again.key,
        region: mr.region
    }));
}
