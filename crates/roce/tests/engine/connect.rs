//! Connections as their owners see them: set up, used, and ended, by whole engines.

use crate::util::random::{Witness, seeds};
use crate::util::*;
use roce::wire::{Opcode, Packet, cm_msg::Message, mad};
use roce::{
    AcceptParams, CmError, Config, ConnId, ConnState, ConnectFailure, ConnectParams,
    DisconnectReason, DisconnectResult, Event, ListenerId, PathMtu, QpId, SendOp, Status,
};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

const PORT: u16 = 445;
const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Both ends of a connection.
#[derive(Clone, Copy, Debug)]
struct Ends {
    a: ConnId,
    b: ConnId,
    qa: QpId,
    qb: QpId,
}

fn listening(setup: Setup) -> (Pair, ListenerId) {
    let mut p = Pair::new(setup);
    let listener = p.b.engine.listen(ANY, PORT).unwrap();
    (p, listener)
}

fn connect(p: &mut Pair, qp: QpId, port: u16) -> Result<ConnId, CmError> {
    let params = ConnectParams {
        qp,
        path: path(Side::A, p.setup.mtu),
        local_port: port,
        remote_port: PORT,
        private_data: b"please",
        responder_resources: p.setup.reads,
        initiator_depth: p.setup.reads,
    };
    p.a.engine.connect(p.now, &params)
}

fn accept(p: &mut Pair, conn: ConnId, qp: QpId) -> Result<(), CmError> {
    let params = AcceptParams {
        qp,
        path: path(Side::B, PathMtu::Mtu256),
        private_data: b"you are welcome",
        responder_resources: 16,
        initiator_depth: 16,
    };
    p.b.engine.accept(p.now, conn, &params)
}

/// The next event of a side; events of other kinds than connections' are of no interest here.
fn next_event(p: &mut Pair, side: Side) -> Event {
    loop {
        p.host(side).collect();
        let mut found = None;
        p.run_until(Duration::from_secs(600), |p| {
            let host = match side {
                Side::A => &p.a,
                Side::B => &p.b,
            };
            found = host.events.first().copied();
            found.is_some()
        });
        p.host(side).events.remove(0);
        match found.unwrap() {
            Event::CqNotify { .. } | Event::QpFatal { .. } | Event::PathDoubted { .. } => {}
            event => return event,
        }
    }
}

fn expect(p: &mut Pair, side: Side, event: Event) {
    assert_eq!(next_event(p, side), event);
}

fn requested(p: &mut Pair) -> ConnId {
    match next_event(p, Side::B) {
        Event::ConnectRequest { conn, .. } => conn,
        other => panic!("{other:?}"),
    }
}

fn connected(p: &mut Pair, port: u16) -> Ends {
    let (qa, qb) = (p.a.create_qp(), p.b.create_qp());
    let a = connect(p, qa, port).unwrap();
    let b = requested(p);
    accept(p, b, qb).unwrap();
    expect(p, Side::A, Event::Replied { conn: a });
    p.a.engine.establish(p.now, a).unwrap();
    expect(p, Side::A, Event::Established { conn: a });
    expect(p, Side::B, Event::Established { conn: b });
    Ends { a, b, qa, qb }
}

/// Attribute of the MAD in a packet.
fn cm_attribute(packet: &Packet<'_>) -> Option<u16> {
    let (_, message) = Message::parse(mad::of_packet(packet)?).ok()?;
    Some(message.attribute())
}

/// Loses the first `count` MADs of an attribute.
fn lose(p: &mut Pair, attribute: u16, mut count: usize) {
    p.net.script = Box::new(move |_, packet| {
        if cm_attribute(packet) == Some(attribute) && count > 0 {
            count -= 1;
            Fate::Drop
        } else {
            Fate::Pass
        }
    });
}

/// SENDs both ways, a WRITE and a READ.
fn exchange(p: &mut Pair, ends: &Ends) {
    let len = 10_000;
    let src = p.a.open(pattern(len, 1));
    let back = p.a.open(vec![0; len]);
    let dst = p.b.open(vec![0; len]);
    let target = p.b.open(vec![0; len]);
    p.b.engine
        .post_recv(p.now, ends.qb, 1, &[dst.all()])
        .unwrap();
    p.a.engine
        .post_recv(p.now, ends.qa, 2, &[back.all()])
        .unwrap();
    p.a.send(p.now, ends.qa, 3, SendOp::Send, &[src.all()]);
    let write = target.write();
    p.a.send(p.now, ends.qa, 4, write, &[src.all()]);
    p.run_until(MINUTES, |p| {
        p.a.completions.len() == 2 && p.b.completions.len() == 1
    });
    assert_eq!(p.b.bytes(&dst), p.a.bytes(&src));
    assert_eq!(p.b.bytes(&target), p.a.bytes(&src));
    let own = p.b.open(vec![0; len]);
    let read = src.read();
    p.b.send(p.now, ends.qb, 5, read, &[own.all()]);
    p.b.send(p.now, ends.qb, 6, SendOp::Send, &[dst.all()]);
    p.run_until(MINUTES, |p| {
        p.a.completions.len() == 3 && p.b.completions.len() == 3
    });
    assert_eq!(p.b.bytes(&own), p.a.bytes(&src));
    assert_eq!(p.a.bytes(&back), p.a.bytes(&src));
    for host in [&mut p.a, &mut p.b] {
        assert!(host.completions.iter().all(|c| c.status == Status::Success));
        host.completions.clear();
    }
}

const MINUTES: Duration = Duration::from_secs(600);

#[test]
fn a_connection_is_made_used_and_ended() {
    let (mut p, _) = listening(Setup::default());
    let ends = connected(&mut p, 50_000);
    let info = p.b.engine.connection(ends.b).unwrap().clone();
    assert_eq!(info.state, ConnState::Established);
    assert!(info.private_data.starts_with(b"please\0"));
    let info = p.a.engine.connection(ends.a).unwrap().clone();
    assert!(info.private_data.starts_with(b"you are welcome\0"));
    exchange(&mut p, &ends);

    p.a.engine.disconnect(p.now, ends.a).unwrap();
    expect(
        &mut p,
        Side::B,
        Event::Disconnected {
            conn: ends.b,
            reason: DisconnectReason::Peer,
        },
    );
    expect(
        &mut p,
        Side::A,
        Event::DisconnectDone {
            conn: ends.a,
            result: DisconnectResult::Graceful,
        },
    );
    p.b.engine.disconnect(p.now, ends.b).unwrap();
    expect(
        &mut p,
        Side::B,
        Event::DisconnectDone {
            conn: ends.b,
            result: DisconnectResult::Graceful,
        },
    );
    p.a.engine.forget(p.now, ends.a);
    p.b.engine.forget(p.now, ends.b);
    assert!(p.a.engine.destroy_qp(p.now, ends.qa).is_ok());
    assert!(p.b.engine.destroy_qp(p.now, ends.qb).is_ok());
    // Neither can be used again for another connection before that; now there is nothing left to do.
    p.run(MINUTES);
    assert_eq!(p.a.engine.next_deadline(), None);
    assert_eq!(p.b.engine.next_deadline(), None);
    assert!(p.a.events.is_empty() && p.b.events.is_empty());
}

#[test]
fn r085_the_passive_side_takes_data_for_a_confirmation() {
    let (mut p, _) = listening(Setup::default());
    lose(&mut p, 0x14, usize::MAX);
    let (qa, qb) = (p.a.create_qp(), p.b.create_qp());
    let a = connect(&mut p, qa, 50_000).unwrap();
    let b = requested(&mut p);
    accept(&mut p, b, qb).unwrap();
    expect(&mut p, Side::A, Event::Replied { conn: a });
    p.a.engine.establish(p.now, a).unwrap();
    expect(&mut p, Side::A, Event::Established { conn: a });
    p.run(Duration::from_millis(100));
    assert!(p.b.events.is_empty());
    exchange_from_a(&mut p, qa, qb);
    expect(&mut p, Side::B, Event::Established { conn: b });
    exchange(&mut p, &Ends { a, b, qa, qb });
}

/// It proves as much if nothing can be done with it yet.
#[test]
fn r085_a_message_that_finds_no_receive_is_a_confirmation_too() {
    let (mut p, _) = listening(Setup::default());
    lose(&mut p, 0x14, usize::MAX);
    let (qa, qb) = (p.a.create_qp(), p.b.create_qp());
    let a = connect(&mut p, qa, 50_000).unwrap();
    let b = requested(&mut p);
    accept(&mut p, b, qb).unwrap();
    expect(&mut p, Side::A, Event::Replied { conn: a });
    p.a.engine.establish(p.now, a).unwrap();
    expect(&mut p, Side::A, Event::Established { conn: a });
    p.a.send(p.now, qa, 2, SendOp::Send, &[]);
    expect(&mut p, Side::B, Event::Established { conn: b });
    assert!(p.a.completions.is_empty());
    p.b.engine.post_recv(p.now, qb, 1, &[]).unwrap();
    p.run_until(MINUTES, |p| !p.a.completions.is_empty());
}

fn exchange_from_a(p: &mut Pair, qa: QpId, qb: QpId) {
    let src = p.a.open(pattern(100, 7));
    let dst = p.b.open(vec![0; 100]);
    p.b.engine.post_recv(p.now, qb, 1, &[dst.all()]).unwrap();
    p.a.send(p.now, qa, 2, SendOp::Send, &[src.all()]);
    p.run_until(MINUTES, |p| {
        p.a.completions.len() + p.b.completions.len() == 2
    });
    assert_eq!(p.a.bytes(&src), p.b.bytes(&dst));
    p.a.completions.clear();
    p.b.completions.clear();
}

#[test]
fn the_passive_side_sends_first_when_it_is_told_that_it_can() {
    let (mut p, _) = listening(Setup::default());
    let (qa, qb) = (p.a.create_qp(), p.b.create_qp());
    let src = p.b.open(pattern(100, 8));
    let dst = p.a.open(vec![0; 100]);
    p.a.engine.post_recv(p.now, qa, 1, &[dst.all()]).unwrap();
    let a = connect(&mut p, qa, 50_000).unwrap();
    let b = requested(&mut p);
    accept(&mut p, b, qb).unwrap();
    expect(&mut p, Side::A, Event::Replied { conn: a });
    p.a.engine.establish(p.now, a).unwrap();
    expect(&mut p, Side::B, Event::Established { conn: b });
    p.b.send(p.now, qb, 2, SendOp::Send, &[src.all()]);
    p.run_until(MINUTES, |p| {
        p.a.completions.len() + p.b.completions.len() == 2
    });
    assert_eq!(p.a.bytes(&dst), p.b.bytes(&src));
}

#[test]
fn nobody_listening_is_a_refusal() {
    let mut p = Pair::new(Setup::default());
    let qp = p.a.create_qp();
    for port in [1, 2] {
        let a = connect(&mut p, qp, port).unwrap();
        expect(
            &mut p,
            Side::A,
            Event::ConnectFailed {
                conn: a,
                reason: ConnectFailure::Rejected { reason: 8 },
            },
        );
        // The queue pair is free for another attempt.
        p.a.engine.forget(p.now, a);
    }
    let listener = p.b.engine.listen(ANY, PORT).unwrap();
    let a = connect(&mut p, qp, 3).unwrap();
    let b = requested(&mut p);
    p.b.engine.reject(p.now, b, b"not today").unwrap();
    expect(
        &mut p,
        Side::A,
        Event::ConnectFailed {
            conn: a,
            reason: ConnectFailure::Rejected { reason: 28 },
        },
    );
    let info = p.a.engine.connection(a).unwrap();
    assert!(info.private_data.starts_with(b"not today\0"));
    p.a.engine.forget(p.now, a);
    p.b.engine.unlisten(listener).unwrap();
    assert_eq!(p.b.engine.unlisten(listener), Err(CmError::Unknown));
}

#[test]
fn the_active_side_may_refuse_the_reply_and_try_again() {
    let (mut p, _) = listening(Setup::default());
    let (qa, qb) = (p.a.create_qp(), p.b.create_qp());
    let a = connect(&mut p, qa, 50_000).unwrap();
    let b = requested(&mut p);
    accept(&mut p, b, qb).unwrap();
    expect(&mut p, Side::A, Event::Replied { conn: a });
    p.a.engine.reject(p.now, a, &[]).unwrap();
    expect(
        &mut p,
        Side::B,
        Event::EstablishFailed {
            conn: b,
            reason: ConnectFailure::Rejected { reason: 28 },
        },
    );
    p.a.engine.forget(p.now, a);
    connect(&mut p, qa, 50_000).unwrap();
    requested(&mut p);
}

#[test]
fn a_fatal_error_is_told_to_both_owners() {
    let (mut p, _) = listening(Setup::default());
    let ends = connected(&mut p, 50_000);
    let src = p.a.open(pattern(100, 1));
    let write = SendOp::Write {
        remote_va: 0xdead_0000,
        rkey: 0x1234,
    };
    p.a.send(p.now, ends.qa, 1, write, &[src.all()]);
    for (side, conn) in [(Side::A, ends.a), (Side::B, ends.b)] {
        match next_event(&mut p, side) {
            Event::Disconnected { conn: c, reason } => {
                assert_eq!(c, conn);
                assert!(
                    matches!(reason, DisconnectReason::QpError | DisconnectReason::Peer),
                    "{reason:?}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
    // The refusal is not lost in the disconnect that follows it.
    assert_eq!(outcomes(&p.a.completions), [(1, Status::RemoteAccess)]);
    for (side, conn) in [(Side::A, ends.a), (Side::B, ends.b)] {
        let now = p.now;
        p.host(side).engine.disconnect(now, conn).unwrap();
        expect(
            &mut p,
            side,
            Event::DisconnectDone {
                conn,
                result: DisconnectResult::Graceful,
            },
        );
    }
}

/// The answer to what the peer sent last goes out before the message that ends the connection, whoever ends it and however busy the
/// NIC is.
#[test]
fn the_last_answer_leaves_before_the_disconnect() {
    type End = fn(&mut Pair, &Ends);
    let ends: [(&str, End); 4] = [
        ("the failure itself", |_, _| {}),
        ("disconnect", |p, e| {
            p.b.engine.disconnect(p.now, e.b).unwrap();
        }),
        ("forget", |p, e| p.b.engine.forget(p.now, e.b)),
        ("flush", |p, e| p.b.engine.flush(p.now, e.qb)),
    ];
    for (name, end) in ends {
        for (rkey, last) in [(0x1234, Some(0x62)), (0, Some(0x1f))] {
            if rkey == 0 && name == "the failure itself" {
                continue;
            }
            let (mut p, _) = listening(Setup {
                config: Config {
                    max_transmissions: 1,
                    ..Setup::default().config
                },
                ..Setup::default()
            });
            let e = connected(&mut p, 50_000);
            // The NIC has taken all it can.
            let busy = p.b.open(pattern(100, 1));
            p.b.nic_holds = None;
            p.b.send(p.now, e.qb, 1, SendOp::Send, &[busy.all()]);
            p.pump();
            let src = p.a.open(pattern(100, 2));
            let len = if rkey == 0 { 0 } else { 100 };
            let write = SendOp::Write { remote_va: 0, rkey };
            p.a.send(p.now, e.qa, 2, write, &[src.sge(0, len)]);
            let frame = p.a.transmit(p.now).unwrap();
            p.b.engine.receive(p.now, &frame, &mut p.b.memory);
            end(&mut p, &e);
            p.log.clear();
            p.pump();
            let told: Vec<_> = p.log.iter().filter(|s| s.from == Side::B).collect();
            assert_eq!(told[0].syndrome, last, "{name}: {told:?}");
            let over = rkey != 0 || name != "flush";
            let ends: Vec<_> = told[1..].iter().map(|s| s.op).collect();
            assert_eq!(ends, vec![Opcode::UdSendOnly; usize::from(over)], "{name}");
        }
    }
}

/// READ data asked for before the request that fails is still delivered, then the refusal, then the end.
#[test]
fn data_owed_before_a_failure_is_delivered() {
    let (mut p, _) = listening(Setup::default());
    let ends = connected(&mut p, 50_000);
    let remote = p.b.open(pattern(20_000, 1));
    let local = p.a.open(vec![0; 20_000]);
    p.b.nic_ring = 1;
    p.b.nic_holds = Some(Duration::from_micros(50));
    let (remote_va, rkey) = (remote.va, remote.key.0);
    let read = SendOp::Read { remote_va, rkey };
    p.a.send(p.now, ends.qa, 1, read, &[local.all()]);
    let write = SendOp::Write {
        remote_va,
        rkey: !rkey,
    };
    p.a.send(p.now, ends.qa, 2, write, &[local.all()]);
    p.run(SECOND);
    assert_eq!(
        outcomes(&p.a.completions),
        [(1, Status::Success), (2, Status::RemoteAccess)]
    );
    assert!(p.a.bytes(&local) == p.b.bytes(&remote));
}

#[test]
fn disconnecting_waits_for_the_nic() {
    let (mut p, _) = listening(Setup::default());
    let ends = connected(&mut p, 50_000);
    let src = p.a.open(pattern(100, 1));
    p.a.nic_holds = None;
    p.a.send(p.now, ends.qa, 1, SendOp::Send, &[src.all()]);
    p.run(Duration::from_millis(1));
    assert!(p.a.held() > 0);
    p.a.engine.disconnect(p.now, ends.a).unwrap();
    expect(
        &mut p,
        Side::B,
        Event::Disconnected {
            conn: ends.b,
            reason: DisconnectReason::Peer,
        },
    );
    p.run(Duration::from_secs(60));
    assert!(
        !p.a.events
            .iter()
            .any(|e| matches!(e, Event::DisconnectDone { .. }))
    );
    p.a.release_all(p.now);
    expect(
        &mut p,
        Side::A,
        Event::DisconnectDone {
            conn: ends.a,
            result: DisconnectResult::Graceful,
        },
    );
    assert_eq!(outcomes(&p.a.completions), [(1, Status::Flushed)]);
}

#[test]
fn r095_nothing_is_sent_again_after_the_disconnect() {
    let (mut p, _) = listening(Setup::default());
    let ends = connected(&mut p, 50_000);
    // B has no receive posted and nothing comes back: A keeps trying until B's DREQ.
    let src = p.a.open(pattern(100, 1));
    p.a.send(p.now, ends.qa, 1, SendOp::Send, &[src.all()]);
    p.run(Duration::from_millis(2));
    p.b.engine.disconnect(p.now, ends.b).unwrap();
    expect(
        &mut p,
        Side::A,
        Event::Disconnected {
            conn: ends.a,
            reason: DisconnectReason::Peer,
        },
    );
    p.log.clear();
    p.run(Duration::from_secs(60));
    assert!(!p.ops(Side::A).contains(&Opcode::SendOnly));
    // D-04: what is posted stays until its owner ends it.
    assert!(p.a.completions.is_empty());
    p.a.engine.disconnect(p.now, ends.a).unwrap();
    p.run(Duration::from_secs(1));
    assert_eq!(outcomes(&p.a.completions), [(1, Status::Flushed)]);
}

/// The same of what has arrived, and only its acknowledgement has not.
#[test]
fn r095_what_was_not_acknowledged_is_not_sent_again_either() {
    let (mut p, _) = listening(Setup::default());
    let ends = connected(&mut p, 50_000);
    p.net.script = Box::new(|from, packet| match packet.bth.opcode {
        Opcode::Acknowledge if from == Side::B => Fate::Drop,
        _ => Fate::Pass,
    });
    let src = p.a.open(pattern(100, 1));
    let dst = p.b.open(vec![0; 100]);
    p.b.engine
        .post_recv(p.now, ends.qb, 2, &[dst.all()])
        .unwrap();
    p.a.send(p.now, ends.qa, 1, SendOp::Send, &[src.all()]);
    p.run(Duration::from_millis(2));
    assert_eq!(outcomes(&p.b.completions), [(2, Status::Success)]);
    p.a.engine.disconnect(p.now, ends.a).unwrap();
    p.log.clear();
    p.run(Duration::from_secs(60));
    assert_eq!(p.ops(Side::A), [Opcode::UdSendOnly]);
    assert_eq!(outcomes(&p.a.completions), [(1, Status::Flushed)]);
    assert_eq!(p.a.bytes(&src), p.b.bytes(&dst));
}

#[test]
fn r094_crossing_disconnects_of_which_one_is_lost_end_the_connection() {
    for lost in 0..3 {
        let (mut p, _) = listening(Setup::default());
        let ends = connected(&mut p, 50_000);
        p.run(Duration::from_millis(1));
        lose(&mut p, 0x15, lost);
        p.a.engine.disconnect(p.now, ends.a).unwrap();
        p.b.engine.disconnect(p.now, ends.b).unwrap();
        for (side, conn) in [(Side::A, ends.a), (Side::B, ends.b)] {
            let result = DisconnectResult::Graceful;
            expect(&mut p, side, Event::DisconnectDone { conn, result });
        }
        p.run(MINUTES);
        assert_eq!((p.a.events.len(), p.b.events.len()), (0, 0));
    }
}

/// The peer of an active side with such settings sends to it: how often until it gives up, and with what.
fn sends_of_the_passive_side(active: Config, ready: bool) -> (Vec<Duration>, Status) {
    let (mut p, _) = listening(Setup::default());
    p.a = Host::new(&active);
    let ends = connected(&mut p, 50_000);
    p.run(Duration::from_millis(10));
    p.log.clear();
    if ready {
        p.a.engine.post_recv(p.now, ends.qa, 1, &[]).unwrap();
        p.net.script = Box::new(|from, _| match from {
            Side::A => Fate::Drop,
            Side::B => Fate::Pass,
        });
    }
    p.b.send(p.now, ends.qb, 1, SendOp::Send, &[]);
    p.run_until(MINUTES, |p| !p.b.completions.is_empty());
    let sent: Vec<_> = p.log.iter().filter(|s| s.op == Opcode::SendOnly).collect();
    let pauses = sent.windows(2).map(|s| s[1].at.since(s[0].at));
    (pauses.collect(), p.b.completions[0].status)
}

/// Its own settings are others: seven retries of both kinds.
#[test]
fn r089_the_passive_side_sends_by_the_counts_and_the_timeout_of_the_request() {
    for (retry_count, rnr_retry_count, ack_timeout) in [(5, 0, 12), (2, 1, 14), (0, 3, 8)] {
        let active = Config {
            retry_count,
            rnr_retry_count,
            ack_timeout,
            ..Setup::default().config
        };
        let (pauses, status) = sends_of_the_passive_side(active, true);
        assert_eq!(status, Status::RetryExceeded);
        assert_eq!(pauses.len(), usize::from(retry_count), "{pauses:?}");
        let timeout = Duration::from_nanos(4096 << ack_timeout);
        assert!(
            pauses.first().is_none_or(|first| *first == timeout),
            "{pauses:?}"
        );
        let (pauses, status) = sends_of_the_passive_side(active, false);
        assert_eq!(status, Status::RnrRetryExceeded);
        assert_eq!(pauses.len(), usize::from(rnr_retry_count), "{pauses:?}");
    }
}

#[test]
fn whole_lives_in_bad_weather() {
    for seed in seeds(60) {
        let _witness = Witness(seed);
        let (mut p, _) = listening(Setup {
            seed,
            mtu: PathMtu::Mtu256,
            ..Setup::default()
        });
        p.net.set_weather(Weather {
            jitter: Duration::from_micros(50),
            loss: 30,
            duplication: 20,
            corruption: 10,
            ..Weather::CALM
        });
        let ends = connected(&mut p, 50_000);
        exchange(&mut p, &ends);
        p.b.engine.disconnect(p.now, ends.b).unwrap();
        expect(
            &mut p,
            Side::A,
            Event::Disconnected {
                conn: ends.a,
                reason: DisconnectReason::Peer,
            },
        );
        expect(
            &mut p,
            Side::B,
            Event::DisconnectDone {
                conn: ends.b,
                result: DisconnectResult::Graceful,
            },
        );
        p.a.engine.forget(p.now, ends.a);
        p.b.engine.forget(p.now, ends.b);
        p.run(MINUTES);
        assert_eq!(p.a.engine.next_deadline(), None);
        assert_eq!(p.b.engine.next_deadline(), None);
    }
}

#[test]
fn connecting_to_silence_ends() {
    let mut p = Pair::new(Setup::default());
    p.net.script = Box::new(|_, _| Fate::Drop);
    let qp = p.a.create_qp();
    let start = p.now;
    let a = connect(&mut p, qp, 1).unwrap();
    expect(
        &mut p,
        Side::A,
        Event::ConnectFailed {
            conn: a,
            reason: ConnectFailure::Timeout,
        },
    );
    let took = p.now.since(start);
    assert!(took > Duration::from_secs(15) && took < Duration::from_secs(25));
}

/// Whatever can end a connection is told the time: the DREQ that follows is not repeated at once because the engine slept
/// before.
#[test]
fn timers_start_when_the_owner_acts() {
    type Act = fn(&mut Pair, &Ends);
    let acts: [(&str, Act); 4] = [
        ("destroy_qp", |p, ends| {
            p.a.engine.destroy_qp(p.now, ends.qa).unwrap();
        }),
        // The others complete one request more than the completion queue holds, which ends all connections that use it.
        ("flush", |p, ends| p.a.engine.flush(p.now, ends.qa)),
        ("post_recv", |p, ends| {
            let (now, engine) = (p.now, &mut p.a.engine);
            engine.post_recv(now, ends.qa, 3, &[]).unwrap();
        }),
        ("transmitted", |p, _| p.a.release_all(p.now)),
    ];
    for (name, act) in acts {
        let (mut p, _) = listening(Setup::default());
        p.a.cq = p.a.engine.create_cq(1).unwrap();
        let ends = connected(&mut p, 50_000);
        connected(&mut p, 50_001);
        p.a.engine.post_recv(p.now, ends.qa, 1, &[]).unwrap();
        match name {
            "post_recv" => p.a.engine.flush(p.now, ends.qa),
            "flush" => p.a.engine.post_recv(p.now, ends.qa, 2, &[]).unwrap(),
            "transmitted" => {
                p.a.nic_holds = None;
                let src = p.a.open(pattern(100, 1));
                p.a.send(p.now, ends.qa, 2, SendOp::Send, &[src.all()]);
                p.pump();
                p.a.engine.flush(p.now, ends.qa);
            }
            _ => {}
        }
        p.now = p.now.after(SECOND * 100);
        p.a.engine.handle_timeout(p.now);
        p.now = p.now.after(SECOND * 100);
        act(&mut p, &ends);
        let deadline = p.a.engine.next_deadline().expect(name);
        assert!(deadline > p.now, "{name}: {deadline:?} <= {:?}", p.now);
    }
}

#[test]
fn a_destroyed_queue_pair_takes_its_connection_along() {
    let (mut p, _) = listening(Setup::default());
    let ends = connected(&mut p, 50_000);
    p.a.engine.destroy_qp(p.now, ends.qa).unwrap();
    expect(
        &mut p,
        Side::A,
        Event::Disconnected {
            conn: ends.a,
            reason: DisconnectReason::QpError,
        },
    );
    expect(
        &mut p,
        Side::B,
        Event::Disconnected {
            conn: ends.b,
            reason: DisconnectReason::Peer,
        },
    );
}
