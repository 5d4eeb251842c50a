//! Keys that are registered through the send queue: their life, and when a registration is refused.

use crate::util::raw::syndrome::*;
use crate::util::raw::{PSN, Raw};
use crate::util::*;
use roce::wire::Opcode::*;
use roce::{
    Access, CompletionOp, DeregisterError, Event, MrKey, PostError, RegionId, SendFlags, SendOp,
    SendRequest, Status,
};

/// What SMB Direct does: register, tell the peer, the peer writes and says that it is done with the key, and so on with the same
/// entry.
#[test]
fn r13_w20_a_key_is_registered_used_invalidated_by_the_peer_and_registered_again() {
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
