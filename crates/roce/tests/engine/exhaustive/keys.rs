//! Keys: every state that one can be in, with every combination of rights, against everything that can be asked of it.

use super::port::{BASE, NOW, Outcome, Port};
use crate::util::memory::TestMemory;
use roce::wire::{ExtHeaders, Opcode, Reth};
use roce::{Access, MrKey, RegionId, SendOp, Sge, Status};

const SIZE: usize = 64;

/// What a key is, and what has become of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Region,
    RegionGone,
    RegionOfAnotherPd,
    FastNew,
    FastPosted,
    Fast,
    FastAgain,
    FastInvalidated,
    FastInvalidatedByPeer,
    FastGone,
    FastOfAnotherPd,
    WindowNew,
    WindowPosted,
    Window,
    WindowAgain,
    WindowOfAnotherQp,
    WindowInvalidated,
    WindowGone,
    WindowOverRegionGone,
    WindowOverFastInvalidated,
}

const STATES: [State; 20] = [
    State::Region,
    State::RegionGone,
    State::RegionOfAnotherPd,
    State::FastNew,
    State::FastPosted,
    State::Fast,
    State::FastAgain,
    State::FastInvalidated,
    State::FastInvalidatedByPeer,
    State::FastGone,
    State::FastOfAnotherPd,
    State::WindowNew,
    State::WindowPosted,
    State::Window,
    State::WindowAgain,
    State::WindowOfAnotherQp,
    State::WindowInvalidated,
    State::WindowGone,
    State::WindowOverRegionGone,
    State::WindowOverFastInvalidated,
];

impl State {
    /// Whether the peer of the queue pair gets anywhere through it.
    fn opens_for_peer(self) -> bool {
        // A region that has been deregistered serves its windows until they end.
        self.opens_here() || matches!(self, State::Window | State::WindowOverRegionGone)
    }

    /// Whether requests of the queue pair itself do.
    fn opens_here(self) -> bool {
        matches!(self, State::Region | State::Fast)
    }

    fn is_window(self) -> bool {
        self as u8 >= State::WindowNew as u8
    }

    fn is_fast(self) -> bool {
        (State::FastNew as u8..=State::FastOfAnotherPd as u8).contains(&(self as u8))
    }
}

/// What can be asked of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ask {
    /// The peer's operations.
    Read,
    Write,
    WriteImmediate,
    CompareSwap,
    FetchAdd,
    Invalidate,
    /// Of this side's requests.
    Receive,
    SendSource,
    WriteSource,
    ReadDestination,
    AtomicDestination,
    InvalidateHere,
}

const ASKS: [Ask; 12] = [
    Ask::Read,
    Ask::Write,
    Ask::WriteImmediate,
    Ask::CompareSwap,
    Ask::FetchAdd,
    Ask::Invalidate,
    Ask::Receive,
    Ask::SendSource,
    Ask::WriteSource,
    Ask::ReadDestination,
    Ask::AtomicDestination,
    Ask::InvalidateHere,
];

/// Whether it must be granted, by IBTA 10.6.3 and 9.4.1.1.3.
fn granted(state: State, access: Access, ask: Ask) -> bool {
    let for_peer = state.opens_for_peer();
    let here = state.opens_here();
    match ask {
        Ask::Read => for_peer && access.contains(Access::REMOTE_READ),
        Ask::Write | Ask::WriteImmediate => for_peer && access.contains(Access::REMOTE_WRITE),
        Ask::CompareSwap | Ask::FetchAdd => for_peer && access.contains(Access::REMOTE_ATOMIC),
        Ask::Invalidate => {
            // It may end what it may use. The relation of a window to its region is no matter here.
            let remote = Access::REMOTE_READ | Access::REMOTE_WRITE | Access::REMOTE_ATOMIC;
            let ends = matches!(
                state,
                State::Fast
                    | State::Window
                    | State::WindowOverRegionGone
                    | State::WindowOverFastInvalidated
            );
            ends && access.intersects(remote)
        }
        Ask::Receive | Ask::ReadDestination | Ask::AtomicDestination => {
            here && access.contains(Access::LOCAL_WRITE)
        }
        Ask::SendSource | Ask::WriteSource => here,
        Ask::InvalidateHere => matches!(
            state,
            State::Fast
                | State::Window
                | State::WindowOfAnotherQp
                | State::WindowOverRegionGone
                | State::WindowOverFastInvalidated
        ),
    }
}

/// The port, and a key in this state. `None` if there can be no such key with these rights.
fn port_with(state: State, access: Access) -> Option<(Port<TestMemory>, MrKey)> {
    let mut port = Port::at(TestMemory::default(), 100);
    let region = port.memory_of(SIZE);
    let key = match state {
        State::Region | State::RegionGone | State::RegionOfAnotherPd => {
            region_key(&mut port, state, access, region)
        }
        _ if state.is_window() => window_key(&mut port, state, access, region)?,
        _ => fast_key(&mut port, state, access, region),
    };
    port.completions();
    Some((port, key))
}

fn region_key(
    port: &mut Port<TestMemory>,
    state: State,
    access: Access,
    region: RegionId,
) -> MrKey {
    let pd = if state == State::RegionOfAnotherPd {
        port.engine.create_pd().unwrap()
    } else {
        port.pd
    };
    let key = port
        .engine
        .register(pd, BASE, SIZE as u64, access, region)
        .unwrap();
    if state == State::RegionGone {
        port.engine.deregister(key).unwrap();
    }
    key
}

fn post_fast(port: &mut Port<TestMemory>, entry: MrKey, access: Access, region: RegionId) -> MrKey {
    let op = SendOp::FastRegister {
        key: entry,
        base: BASE,
        len: SIZE as u64,
        access,
        region,
    };
    port.post(port.qp, op, &[]).unwrap()
}

fn fast_key(port: &mut Port<TestMemory>, state: State, access: Access, region: RegionId) -> MrKey {
    if state == State::FastOfAnotherPd {
        // Registered by a queue pair over there.
        let (pd, qp) = (port.pd, port.qp);
        port.pd = port.engine.create_pd().unwrap();
        let other = port.another();
        port.qp = other;
        let entry = port.engine.register_fast(port.pd, true).unwrap();
        let key = post_fast(port, entry, access, region);
        assert!(port.transmit().is_none());
        (port.pd, port.qp) = (pd, qp);
        return key;
    }
    let entry = port.engine.register_fast(port.pd, true).unwrap();
    if state == State::FastNew {
        return entry;
    }
    let rights = if state == State::FastInvalidatedByPeer {
        access | Access::REMOTE_READ
    } else {
        access
    };
    let key = post_fast(port, entry, rights, region);
    if state == State::FastPosted {
        return key;
    }
    assert!(port.transmit().is_none());
    match state {
        State::FastInvalidatedByPeer => {
            port.engine.post_recv(NOW, port.qp, 9, &[]).unwrap();
            assert!(matches!(port.invalidate(key.0), Outcome::Ack(_)));
        }
        State::FastInvalidated | State::FastAgain => {
            port.post(port.qp, SendOp::Invalidate { key }, &[]);
            assert!(port.transmit().is_none());
        }
        State::FastGone => port.engine.deregister(key).unwrap(),
        _ => {}
    }
    if state == State::FastAgain {
        // The old key stays with whoever was told it.
        assert_ne!(post_fast(port, key, Access::all(), region), key);
        assert!(port.transmit().is_none());
    }
    key
}

fn window_key(
    port: &mut Port<TestMemory>,
    state: State,
    access: Access,
    region: RegionId,
) -> Option<MrKey> {
    if access.contains(Access::LOCAL_WRITE) {
        // Means nothing for a window.
        return None;
    }
    let window = port.engine.create_window(port.pd, 7).unwrap();
    if state == State::WindowNew {
        return Some(window);
    }
    // Nothing that the region itself gives the peer.
    let mr = if state == State::WindowOverFastInvalidated {
        let entry = port.engine.register_fast(port.pd, true).unwrap();
        post_fast(port, entry, Access::LOCAL_WRITE, region)
    } else {
        region_key(port, State::Region, Access::LOCAL_WRITE, region)
    };
    let bind = |window| SendOp::Bind {
        window,
        mr,
        va: BASE,
        len: SIZE as u64,
        access,
    };
    let qp = if state == State::WindowOfAnotherQp {
        port.another()
    } else {
        port.qp
    };
    let key = port.post(qp, bind(window), &[]).unwrap();
    if state == State::WindowPosted {
        return Some(key);
    }
    assert!(port.transmit().is_none());
    match state {
        State::WindowAgain => {
            assert_ne!(port.post(qp, bind(key), &[]).unwrap(), key);
        }
        State::WindowInvalidated => {
            port.post(qp, SendOp::Invalidate { key }, &[]);
        }
        State::WindowOverFastInvalidated => {
            port.post(qp, SendOp::Invalidate { key: mr }, &[]);
        }
        State::WindowGone => port.engine.destroy_window(key).unwrap(),
        State::WindowOverRegionGone => {
            // Busy, because of the window.
            port.engine.deregister(mr).unwrap_err();
        }
        _ => {}
    }
    assert!(port.transmit().is_none());
    Some(key)
}

/// Asks, and says whether it was granted: all that tells of it agrees.
fn ask(port: &mut Port<TestMemory>, key: MrKey, ask: Ask) -> bool {
    let before = port.memory.regions[0].clone();
    let reth = Reth {
        va: BASE + 8,
        rkey: key.0,
        len: 16,
    };
    let sge = Sge {
        key: key.0,
        va: BASE + 8,
        len: if ask == Ask::AtomicDestination { 8 } else { 16 },
    };
    let with_reth = ExtHeaders {
        reth: Some(reth),
        immediate: (ask == Ask::WriteImmediate).then_some(roce::wire::Immediate([1; 4])),
        ..ExtHeaders::NONE
    };
    let remote = |outcome: Outcome| match outcome {
        Outcome::Ack(_) => true,
        Outcome::Data(_) => true,
        Outcome::Nak(0x62) => false,
        other => panic!("{other:?}"),
    };
    let (changes, granted) = match ask {
        Ask::Read => {
            let outcome = port.outcome(Opcode::ReadRequest, with_reth, &[]);
            if let Outcome::Data(piece) = outcome {
                let piece = piece.unwrap();
                assert_eq!((piece.region, piece.offset), (RegionId(0), 8));
            }
            (false, remote(outcome))
        }
        Ask::Write => {
            let outcome = port.outcome(Opcode::WriteOnly, with_reth, &[5; 16]);
            (true, remote(outcome))
        }
        Ask::WriteImmediate => {
            port.engine.post_recv(NOW, port.qp, 2, &[]).unwrap();
            let outcome = port.outcome(Opcode::WriteOnlyImm, with_reth, &[5; 16]);
            (true, remote(outcome))
        }
        Ask::CompareSwap => {
            let outcome = port.atomic(Opcode::CompareSwap, BASE + 8, key.0);
            (true, remote(outcome))
        }
        Ask::FetchAdd => {
            let outcome = port.atomic(Opcode::FetchAdd, BASE + 8, key.0);
            (true, remote(outcome))
        }
        Ask::Invalidate => {
            port.engine.post_recv(NOW, port.qp, 2, &[]).unwrap();
            (false, remote(port.invalidate(key.0)))
        }
        Ask::Receive => {
            port.engine.post_recv(NOW, port.qp, 2, &[sge]).unwrap();
            let outcome = port.outcome(Opcode::SendOnly, ExtHeaders::NONE, &[5; 16]);
            let done = port.completions();
            match done.iter().find(|c| c.context == 2).unwrap().status {
                Status::Success => assert!(matches!(outcome, Outcome::Ack(_))),
                Status::LocalProtection => assert_eq!(outcome, Outcome::Nak(0x63)),
                other => panic!("{other:?}"),
            }
            (true, matches!(outcome, Outcome::Ack(_)))
        }
        Ask::SendSource | Ask::WriteSource | Ask::ReadDestination | Ask::AtomicDestination => {
            let (remote_va, rkey) = (0x8000, 0x1234);
            let op = match ask {
                Ask::SendSource => SendOp::Send,
                Ask::WriteSource => SendOp::Write { remote_va, rkey },
                Ask::ReadDestination => SendOp::Read { remote_va, rkey },
                _ => SendOp::FetchAdd {
                    remote_va,
                    rkey,
                    add: 1,
                },
            };
            port.post(port.qp, op, &[sge]);
            // What was posted before is executed first.
            let sent = port.transmit().is_some();
            let failed = port
                .completions()
                .iter()
                .any(|c| c.status == Status::LocalProtection);
            assert_ne!(sent, failed);
            (false, sent)
        }
        Ask::InvalidateHere => {
            let request = roce::SendRequest {
                context: 4,
                op: SendOp::Invalidate { key },
                sgl: &[],
                inline: None,
                flags: roce::SendFlags::empty(),
            };
            // Refused at once, or when its turn comes.
            if port.engine.post_send(NOW, port.qp, &request).is_err() {
                return false;
            }
            assert!(port.transmit().is_none());
            let done = port.completions();
            let own = done.iter().find(|c| c.context == 4).unwrap();
            (false, own.status == Status::Success)
        }
    };
    let changed = port.memory.regions[0] != before;
    assert_eq!(changed, changes && granted);
    granted
}

#[test]
fn r055_every_state_and_every_right_against_everything_that_can_be_asked() {
    let (mut yes, mut no) = (0, 0);
    for state in STATES {
        for bits in 0..=Access::all().bits() {
            let access = Access::from_bits(bits).unwrap();
            for what in ASKS {
                let Some((mut port, key)) = port_with(state, access) else {
                    continue;
                };
                // Posted and not executed: what this side posts comes after it, what the peer asks comes before.
                let state = match (state, what) {
                    (
                        State::FastPosted,
                        Ask::SendSource
                        | Ask::WriteSource
                        | Ask::ReadDestination
                        | Ask::AtomicDestination
                        | Ask::InvalidateHere,
                    ) => State::Fast,
                    (State::WindowPosted, Ask::InvalidateHere) => State::Window,
                    _ => state,
                };
                let want = granted(state, access, what);
                let got = ask(&mut port, key, what);
                assert_eq!(got, want, "{state:?} {access:?} {what:?}");
                if want {
                    yes += 1;
                } else {
                    no += 1;
                }
            }
        }
    }
    println!("{yes} granted, {no} refused");
    assert!(yes > 300 && no > 2000, "{yes} {no}");
}

/// Of all keys with one bit changed, and all tags of the entry, one is right.
#[test]
fn r055_no_other_key_is_the_right_one() {
    for state in [State::Region, State::Fast, State::Window] {
        let access = Access::REMOTE_READ | Access::REMOTE_WRITE | Access::REMOTE_ATOMIC;
        let (mut port, key) = port_with(state, access).unwrap();
        let bits = (0..32).map(|bit| key.0 ^ 1 << bit);
        let tags = (0..=255).map(|tag| key.0 & !0xff | tag);
        for other in bits.chain(tags).filter(|other| *other != key.0) {
            let outcome = port.atomic(Opcode::FetchAdd, BASE + 8, other);
            assert_eq!(outcome, Outcome::Nak(0x62), "{other:#x}");
            port.renew();
        }
        if state != State::Window {
            assert!(ask(&mut port, key, Ask::Write));
        }
    }
}

/// Without bytes there is nothing to check: no key is needed, and none is looked at (IBTA 9.4.3, 9.4.4).
#[test]
fn r056_nothing_needs_no_key() {
    for state in STATES {
        let Some((mut port, key)) = port_with(state, Access::empty()) else {
            continue;
        };
        for rkey in [key.0, 0, u32::MAX] {
            for va in [0, BASE, u64::MAX] {
                let ext = ExtHeaders {
                    reth: Some(Reth { va, rkey, len: 0 }),
                    ..ExtHeaders::NONE
                };
                assert!(matches!(
                    port.outcome(Opcode::WriteOnly, ext, &[]),
                    Outcome::Ack(_)
                ));
                assert_eq!(
                    port.outcome(Opcode::ReadRequest, ext, &[]),
                    Outcome::Data(None)
                );
            }
        }
    }
}

/// States of which the table above speaks are what they are called.
#[test]
fn every_state_is_of_one_kind() {
    let windows = STATES.iter().filter(|s| s.is_window()).count();
    let fast = STATES.iter().filter(|s| s.is_fast()).count();
    assert_eq!((windows, fast, STATES.len()), (9, 8, 20));
}
