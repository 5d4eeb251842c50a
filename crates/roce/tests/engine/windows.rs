//! Memory windows: what the peer reaches through them, and how they hold on to regions.

use crate::util::raw::syndrome::*;
use crate::util::raw::{PSN, Raw};
use crate::util::*;
use roce::wire::Opcode::*;
use roce::{
    Access, CompletionOp, DeregisterError, DestroyError, Event, MrKey, PostError, QpId, SendFlags,
    SendOp, SendRequest, Status,
};

const READ: Access = Access::REMOTE_READ;
const WRITE: Access = Access::REMOTE_WRITE;

/// A window over bytes 100 to 199 of a region to which the peer has no access otherwise, and the region.
fn bound(access: Access) -> (Raw, Mr, Mr) {
    let mut r = Raw::small();
    let mr = r.host.register(pattern(300, 1), Access::LOCAL_WRITE);
    let window = r.host.engine.create_window(r.host.pd, 0).unwrap();
    let window = r
        .host
        .post_bind(r.now, r.qp, 1, window, (&mr, 100, 100), access)
        .unwrap();
    r.silence();
    assert_eq!(
        r.host
            .completions
            .iter()
            .map(|c| (c.op, c.status))
            .collect::<Vec<_>>(),
        [(CompletionOp::Bind, Status::Success)]
    );
    (r, window, mr)
}

fn reth(rkey: MrKey, va: u64, len: u32) -> roce::wire::Reth {
    roce::wire::Reth {
        va,
        rkey: rkey.0,
        len,
    }
}

#[test]
fn r17_a_window_opens_its_part_of_the_region_with_its_rights() {
    let (mut r, w, mr) = bound(READ | WRITE);
    r.inject_reth(ReadRequest, PSN, reth(w.key, w.va, 100), &[]);
    let answer = r.replies();
    assert_eq!(answer[0].payload, r.host.bytes(&mr)[100..200]);
    r.inject_reth(WriteOnly, PSN + 1, reth(w.key, w.va + 96, 4), b"last");
    assert_eq!(r.only_ack(), (PSN + 1, ACK));
    assert_eq!(r.host.bytes(&mr)[196..200], *b"last");
}

#[test]
fn r17_nothing_else_is_accessible_through_a_window() {
    for case in 0..7 {
        let access = if case == 1 { WRITE } else { READ };
        let (mut r, w, mr) = bound(access);
        let before = r.host.bytes(&mr).to_vec();
        let (op, at, data): (_, _, &[u8]) = match case {
            // A right that the window does not give, although the region could.
            0 => (WriteOnly, reth(w.key, w.va, 4), b"evil"),
            1 => (ReadRequest, reth(w.key, w.va, 4), &[]),
            // Inside the region, outside the window.
            2 => (ReadRequest, reth(w.key, w.va - 1, 4), &[]),
            3 => (ReadRequest, reth(w.key, w.va + 97, 4), &[]),
            4 => (ReadRequest, reth(w.key, w.va, 101), &[]),
            // The key that the window had before, and the region's own.
            5 => (
                ReadRequest,
                reth(MrKey(w.key.0 & !0xff | (w.key.0 - 1) & 0xff), w.va, 4),
                &[],
            ),
            _ => (ReadRequest, reth(mr.key, w.va, 4), &[]),
        };
        r.inject_reth(op, PSN, at, data);
        assert_eq!(r.only_ack(), (PSN, ACCESS), "case {case}");
        assert_eq!(r.host.bytes(&mr), before);
    }
}

/// IBTA: a window of type 2 belongs to the queue pair that has bound it.
#[test]
fn a_window_is_for_one_queue_pair_only() {
    let (mut p, qa, qb) = Pair::attached(Setup::small());
    let (_, other) = p.attach();
    let mr = p.a.open(pattern(64, 1));
    let sink = p.b.open(vec![0; 64]);
    let window = p.a.engine.create_window(p.a.pd, 0).unwrap();
    let w =
        p.a.post_bind(p.now, qa, 1, window, (&mr, 0, 64), READ)
            .unwrap();
    p.run(SECOND);
    p.b.send(p.now, qb, 1, w.read(), &[sink.all()]);
    p.b.send(p.now, other, 2, w.read(), &[sink.all()]);
    p.run(SECOND);
    let mut done = outcomes(&p.b.completions);
    done.sort_unstable_by_key(|c| c.0);
    assert_eq!(done, [(1, Status::Success), (2, Status::RemoteAccess)]);
}

#[test]
fn a_peer_on_another_queue_pair_cannot_invalidate_a_window() {
    let (mut p, qa, _) = Pair::attached(Setup::small());
    let (other_a, other_b) = p.attach();
    let mr = p.a.open(pattern(64, 1));
    let window = p.a.engine.create_window(p.a.pd, 0).unwrap();
    let w =
        p.a.post_bind(p.now, qa, 1, window, (&mr, 0, 64), READ)
            .unwrap();
    p.a.engine.post_recv(p.now, other_a, 2, &[]).unwrap();
    p.run(SECOND);
    p.b.send(p.now, other_b, 3, SendOp::SendInvalidate(w.key.0), &[]);
    p.run(SECOND);
    assert_eq!(outcomes(&p.a.completions)[1], (2, Status::RemoteInvalidate));
    assert_eq!(outcomes(&p.b.completions), [(3, Status::RemoteAccess)]);
    // It is bound still.
    assert_eq!(p.a.engine.deregister(mr.key), Err(DeregisterError::Busy));
}

#[test]
fn r16_a_window_that_has_not_been_bound_yet_opens_nothing() {
    let mut r = Raw::small();
    let mr = r.host.open(pattern(300, 1));
    let window = r.host.engine.create_window(r.host.pd, 0).unwrap();
    let request = SendRequest {
        context: 1,
        op: SendOp::Bind {
            window,
            mr: mr.key,
            va: mr.va,
            len: 8,
            access: READ,
        },
        sgl: &[],
        inline: None,
        flags: SendFlags::DEFER,
    };
    let key = r
        .host
        .engine
        .post_send(r.now, r.qp, &request)
        .unwrap()
        .unwrap();
    assert_ne!(key, window);
    r.inject_reth(ReadRequest, PSN, reth(key, mr.va, 8), &[]);
    assert_eq!(r.only_ack(), (PSN, ACCESS));
}

#[test]
fn r15_what_can_be_known_when_posting_is_refused_then() {
    let (mut p, qa, _) = Pair::attached(Setup::small());
    let window = p.a.engine.create_window(p.a.pd, 0).unwrap();
    let mr = p.a.open(vec![0; 64]);
    let read_only = p.a.register(vec![0; 64], READ);
    let pd = p.a.engine.create_pd().unwrap();
    let own = std::mem::replace(&mut p.a.pd, pd);
    let foreign = p.a.open(vec![0; 64]);
    let foreign_window = p.a.engine.create_window(pd, 0).unwrap();
    p.a.pd = own;
    let idle = p.a.engine.register_fast(p.a.pd, true).unwrap();
    let wraps = Mr {
        va: u64::MAX - 62,
        ..mr
    };
    let with = |key| Mr { key, ..mr };
    for (window, mr, access, error) in [
        (window, read_only, WRITE, PostError::AccessDenied),
        (
            window,
            read_only,
            Access::REMOTE_ATOMIC,
            PostError::AccessDenied,
        ),
        (window, foreign, READ, PostError::WrongPd),
        (foreign_window, mr, READ, PostError::WrongPd),
        (window, wraps, READ, PostError::InvalidRange),
        (window, with(window), READ, PostError::UnknownKey),
        (window, with(idle), READ, PostError::UnknownKey),
        (
            window,
            with(MrKey(mr.key.0 ^ 1)),
            READ,
            PostError::UnknownKey,
        ),
        (window, with(MrKey(u32::MAX)), READ, PostError::UnknownKey),
        (MrKey(window.0 ^ 1), mr, READ, PostError::UnknownKey),
        (mr.key, mr, READ, PostError::UnknownKey),
    ] {
        let answer = p.a.post_bind(p.now, qa, 1, window, (&mr, 0, 64), access);
        assert_eq!(answer.err(), Some(error));
    }
    let w =
        p.a.post_bind(p.now, qa, 2, window, (&read_only, 0, 64), READ)
            .unwrap();
    let answer = p.a.post_bind(p.now, qa, 3, w.key, (&mr, 0, 64), READ);
    assert_eq!(answer.err(), Some(PostError::KeyBusy));
    p.run(SECOND);
    assert_eq!(outcomes(&p.a.completions), [(2, Status::Success)]);
    // What was refused has left no relation behind.
    assert_eq!(p.a.engine.deregister(mr.key), Ok(()));
    // Regions and windows end by their own functions.
    assert_eq!(p.a.engine.deregister(w.key), Err(DeregisterError::Unknown));
    assert_eq!(
        p.a.engine.destroy_window(read_only.key),
        Err(DeregisterError::Unknown)
    );
}

#[test]
fn a_range_outside_the_region_fails_the_binding_and_the_queue_pair() {
    for (offset, len) in [(0, 65), (64, 1), (1, 64)] {
        let (mut p, qa, _) = Pair::attached(Setup::small());
        let window = p.a.engine.create_window(p.a.pd, 0).unwrap();
        let mr = p.a.open(vec![0; 64]);
        p.a.post_bind(p.now, qa, 1, window, (&mr, offset, len), READ)
            .unwrap();
        p.a.send(p.now, qa, 2, SendOp::Send, &[]);
        p.run(SECOND);
        assert_eq!(
            outcomes(&p.a.completions),
            [(1, Status::WindowBind), (2, Status::Flushed)]
        );
        assert!(p.a.events.contains(&Event::QpFatal {
            qp: qa,
            status: Status::WindowBind
        }));
        assert_eq!(p.a.engine.deregister(mr.key), Ok(()));
    }
}

#[test]
fn a_region_deregistered_before_its_binding_is_executed_fails_it() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 64]);
    let window = r.host.engine.create_window(r.host.pd, 0).unwrap();
    r.host
        .post_bind(r.now, r.qp, 1, window, (&mr, 0, 64), READ)
        .unwrap();
    assert_eq!(r.host.engine.deregister(mr.key), Err(DeregisterError::Busy));
    r.silence();
    assert_eq!(outcomes(&r.host.completions), [(1, Status::WindowBind)]);
    assert!(r.host.events.contains(&Event::RegionIdle {
        key: mr.key,
        region: mr.region
    }));
}

#[test]
fn a_window_is_no_local_memory() {
    let (mut p, qa, _) = Pair::attached(Setup::small());
    let window = p.a.engine.create_window(p.a.pd, 0).unwrap();
    let mr = p.a.open(vec![0; 64]);
    let w =
        p.a.post_bind(p.now, qa, 1, window, (&mr, 0, 64), READ)
            .unwrap();
    p.a.send(p.now, qa, 2, SendOp::Send, &[w.all()]);
    p.run(SECOND);
    assert_eq!(
        outcomes(&p.a.completions),
        [(1, Status::Success), (2, Status::LocalProtection)]
    );
}

#[test]
fn binding_anew_replaces() {
    let (mut p, qa, qb) = Pair::attached(Setup::small());
    let window = p.a.engine.create_window(p.a.pd, 0).unwrap();
    let one = p.a.open(pattern(64, 1));
    let two = p.a.open(pattern(64, 2));
    let sink = p.b.open(vec![0; 64]);
    let old =
        p.a.post_bind(p.now, qa, 1, window, (&one, 0, 64), READ)
            .unwrap();
    p.run(SECOND);
    let new =
        p.a.post_bind(p.now, qa, 2, old.key, (&two, 0, 64), READ)
            .unwrap();
    p.run(SECOND);
    // The first region is free of it.
    assert_eq!(p.a.engine.deregister(one.key), Ok(()));
    p.b.send(p.now, qb, 3, new.read(), &[sink.all()]);
    p.run(SECOND);
    assert_eq!(p.b.bytes(&sink), p.a.bytes(&two));
    p.b.send(p.now, qb, 4, old.read(), &[sink.all()]);
    p.run(SECOND);
    assert_eq!(
        outcomes(&p.b.completions),
        [(3, Status::Success), (4, Status::RemoteAccess)]
    );
}

/// Every way in which a window lets go of its region.
#[test]
fn x26_a_region_is_deregistered_when_its_last_window_lets_go() {
    for how in 0..6 {
        let (mut p, qa, qb) = Pair::attached(Setup::small());
        let mr = p.a.open(pattern(64, 1));
        let elsewhere = p.a.open(pattern(64, 2));
        let sink = p.b.open(vec![0; 64]);
        let windows = [0; 2].map(|_| p.a.engine.create_window(p.a.pd, 0).unwrap());
        let [w, second] = windows.map(|w| {
            let w = p.a.post_bind(p.now, qa, 1, w, (&mr, 0, 64), READ).unwrap();
            p.run(SECOND);
            w
        });
        p.a.engine.post_recv(p.now, qa, 2, &[]).unwrap();
        assert_eq!(p.a.engine.deregister(mr.key), Err(DeregisterError::Busy));
        p.a.engine.destroy_window(second.key).unwrap();
        // The region is gone for everybody but the windows.
        p.b.send(p.now, qb, 3, w.read(), &[sink.all()]);
        p.run(SECOND);
        assert_eq!(p.b.bytes(&sink), p.a.bytes(&mr));
        assert_eq!(p.a.events, []);
        match how {
            0 => p.a.send(p.now, qa, 4, w.invalidate(), &[]),
            1 => p.b.send(p.now, qb, 4, SendOp::SendInvalidate(w.key.0), &[]),
            2 => {
                let part = (&elsewhere, 0, 64);
                p.a.post_bind(p.now, qa, 4, w.key, part, READ).unwrap();
            }
            3 => {
                p.a.post_bind(p.now, qa, 4, w.key, (&elsewhere, 0, 0), READ)
                    .unwrap();
            }
            4 => p.a.engine.destroy_window(w.key).unwrap(),
            _ => {
                // Posting a binding elsewhere ends nothing; executing it does, flushing it does not.
                let part = (&elsewhere, 0, 64);
                p.a.post_bind(p.now, qa, 4, w.key, part, READ).unwrap();
                p.a.engine.flush(p.now, qa);
                p.run(SECOND);
                assert_eq!(p.a.events, []);
                assert_eq!(p.a.engine.deregister(elsewhere.key), Ok(()));
                // The newest key is the one of the binding that was flushed.
                let newest = MrKey(w.key.0 & !0xff | (w.key.0 + 1) & 0xff);
                p.a.engine.destroy_window(newest).unwrap();
            }
        }
        p.run(SECOND);
        let idle = Event::RegionIdle {
            key: mr.key,
            region: mr.region,
        };
        assert_eq!(p.a.events, [idle], "case {how}");
    }
}

#[test]
fn x26_a_flushed_binding_lets_go_of_its_region() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 64]);
    let window = r.host.engine.create_window(r.host.pd, 0).unwrap();
    let w = r
        .host
        .post_bind(r.now, r.qp, 1, window, (&mr, 0, 64), READ)
        .unwrap();
    r.host.engine.flush(r.now, r.qp);
    r.silence();
    assert_eq!(outcomes(&r.host.completions), [(1, Status::Flushed)]);
    assert_eq!(r.host.engine.deregister(mr.key), Ok(()));
    assert_eq!(r.host.engine.destroy_window(w.key), Ok(()));
    assert_eq!(r.host.engine.usage().keys, 0);
}

/// The registration waits with the binding behind it, and neither is ever executed: the owner is told of memory that it knows.
#[test]
fn x26_a_region_that_was_never_registered_is_deregistered_when_its_binding_lets_go() {
    let (mut p, qa, _) = Pair::attached(Setup::small());
    p.a.open(vec![0; 64]);
    let window = p.a.engine.create_window(p.a.pd, 0).unwrap();
    let mr = p.a.fast(p.now, qa, 1, vec![0; 64]);
    let w =
        p.a.post_bind(p.now, qa, 2, window, (&mr, 0, 64), READ)
            .unwrap();
    assert_eq!(p.a.engine.deregister(mr.key), Err(DeregisterError::Busy));
    p.a.engine.destroy_window(w.key).unwrap();
    p.a.collect();
    let idle = Event::RegionIdle {
        key: mr.key,
        region: mr.region,
    };
    assert_eq!(p.a.events, [idle]);
    p.run(SECOND);
    assert_eq!(p.a.completions[0].context, 1);
    assert_ne!(p.a.completions[0].status, Status::Success);
}

/// A peer's READ through the window is in A's NIC.
fn held() -> (Pair, QpId, Mr, Mr) {
    let (mut p, qa, qb) = Pair::attached(Setup::small());
    p.a.nic_holds = None;
    let mr = p.a.open(pattern(64, 1));
    let sink = p.b.open(vec![0; 64]);
    let window = p.a.engine.create_window(p.a.pd, 7).unwrap();
    let w =
        p.a.post_bind(p.now, qa, 1, window, (&mr, 0, 64), READ)
            .unwrap();
    p.run(SECOND);
    p.b.send(p.now, qb, 2, w.read(), &[sink.all()]);
    p.run(SECOND);
    assert_eq!((p.a.held(), p.b.bytes(&sink)), (1, p.a.bytes(&mr)));
    p.a.completions.clear();
    (p, qa, w, mr)
}

#[test]
fn invalidating_or_unbinding_a_window_waits_for_transmissions_through_it() {
    for unbind in [false, true] {
        let (mut p, qa, w, mr) = held();
        if unbind {
            p.a.post_bind(p.now, qa, 3, w.key, (&mr, 0, 0), READ)
                .unwrap();
        } else {
            p.a.send(p.now, qa, 3, w.invalidate(), &[]);
        }
        p.run(SECOND);
        assert_eq!(p.a.completions, []);
        // Its region waits for the same transmission, by whatever key it was asked for.
        assert_eq!(p.a.engine.deregister(mr.key), Err(DeregisterError::Busy));
        p.run(SECOND);
        assert_eq!(p.a.events, []);
        p.a.release_all(p.now);
        p.run(SECOND);
        let op = if unbind {
            CompletionOp::Bind
        } else {
            CompletionOp::Invalidate
        };
        let c = p.a.completions[0];
        assert_eq!((c.context, c.op, c.status), (3, op, Status::Success));
        assert_eq!(p.a.events.len(), 1);
    }
}

#[test]
fn a_window_bound_after_its_invalidation_waits_for_transmissions_through_it() {
    let (mut p, qa, w, mr) = held();
    p.a.send(p.now, qa, 3, w.invalidate(), &[]);
    p.a.post_bind(p.now, qa, 4, w.key, (&mr, 0, 32), READ)
        .unwrap();
    p.run(SECOND);
    assert_eq!(p.a.completions, []);
    p.a.release_all(p.now);
    p.run(SECOND);
    assert_eq!(
        outcomes(&p.a.completions),
        [(3, Status::Success), (4, Status::Success)]
    );
}

#[test]
fn a_window_destroyed_under_a_transmission_leaves_nothing_behind() {
    let (mut p, _, w, mr) = held();
    assert_eq!(p.a.engine.destroy_window(w.key), Err(DeregisterError::Busy));
    assert_eq!(
        p.a.engine.destroy_window(w.key),
        Err(DeregisterError::Unknown)
    );
    assert_eq!(p.a.engine.deregister(mr.key), Err(DeregisterError::Busy));
    assert_eq!(p.a.engine.usage().keys, 0);
    // Two of 64 entries are still in use, and come back when the NIC is done.
    let pd = p.a.pd;
    let fill = |p: &mut Pair| -> usize {
        let all: Vec<_> = std::iter::from_fn(|| p.a.engine.create_window(pd, 0).ok()).collect();
        for w in &all {
            p.a.engine.destroy_window(*w).unwrap();
        }
        all.len()
    };
    assert_eq!(fill(&mut p), 62);
    assert_eq!(p.a.events, []);
    p.a.release_all(p.now);
    p.run(SECOND);
    let idle = [
        Event::WindowIdle { window: 7 },
        Event::RegionIdle {
            key: mr.key,
            region: mr.region,
        },
    ];
    assert_eq!(p.a.events, idle);
    assert_eq!(fill(&mut p), 64);
}

/// The consumer gives what lies in the first part another meaning when the window is bound to the second.
#[test]
fn binding_a_window_anew_waits_for_transmissions_through_it() {
    let (mut p, qa, w, mr) = held();
    p.a.post_bind(p.now, qa, 3, w.key, (&mr, 32, 32), READ)
        .unwrap();
    p.run(SECOND);
    assert_eq!(p.a.completions, []);
    p.a.release_all(p.now);
    p.run(SECOND);
    assert_eq!(outcomes(&p.a.completions), [(3, Status::Success)]);
}

/// A binding that waits for the NIC fails when its window goes, instead of waiting for ever.
#[test]
fn a_window_destroyed_while_its_binding_waits_fails_it() {
    let (mut p, qa, w, mr) = held();
    p.a.send(p.now, qa, 3, w.invalidate(), &[]);
    let again =
        p.a.post_bind(p.now, qa, 4, w.key, (&mr, 0, 32), READ)
            .unwrap();
    p.run(SECOND);
    assert_eq!(
        p.a.engine.destroy_window(again.key),
        Err(DeregisterError::Busy)
    );
    p.a.release_all(p.now);
    p.run(SECOND);
    assert_eq!(
        outcomes(&p.a.completions),
        [(3, Status::Success), (4, Status::WindowBind)]
    );
    assert_eq!(p.a.engine.deregister(mr.key), Ok(()));
}

#[test]
fn a_window_dies_with_a_fast_registration_and_does_not_come_back_with_the_next() {
    let (mut p, qa, qb) = Pair::attached(Setup::small());
    let sink = p.b.open(vec![0; 64]);
    let window = p.a.engine.create_window(p.a.pd, 0).unwrap();
    // Registration, binding and use in one chain.
    let mr = p.a.fast(p.now, qa, 1, pattern(64, 1));
    let w =
        p.a.post_bind(p.now, qa, 2, window, (&mr, 0, 64), READ)
            .unwrap();
    p.run(SECOND);
    p.b.send(p.now, qb, 3, w.read(), &[sink.all()]);
    p.run(SECOND);
    assert_eq!(p.b.bytes(&sink), p.a.bytes(&mr));
    // So often that the region has the same key again.
    let mut newest = mr;
    loop {
        p.a.send(p.now, qa, 4, newest.invalidate(), &[]);
        newest =
            p.a.post_fast(p.now, qa, 5, newest.key, &mr, ALL, SendFlags::empty())
                .unwrap();
        p.run(SECOND);
        if newest.key == mr.key {
            break;
        }
    }
    assert!(p.a.completions.iter().all(|c| c.status == Status::Success));
    // The relation has ended with the registration.
    assert_eq!(p.a.engine.deregister(newest.key), Ok(()));
    p.b.send(p.now, qb, 6, w.read(), &[sink.all()]);
    p.run(SECOND);
    assert_eq!(outcomes(&p.b.completions)[1], (6, Status::RemoteAccess));
}

#[test]
fn windows_count_as_users_of_their_protection_domain() {
    let (mut p, _, _) = Pair::attached(Setup::small());
    let pd = p.a.engine.create_pd().unwrap();
    let w = p.a.engine.create_window(pd, 0).unwrap();
    assert_eq!(p.a.engine.destroy_pd(pd), Err(DestroyError::Busy));
    p.a.engine.destroy_window(w).unwrap();
    assert_eq!(p.a.engine.destroy_pd(pd), Ok(()));
    assert!(p.a.engine.create_window(pd, 0).is_err());
}
