//! How connections end, as NDKPI wants it: who is told, what is flushed, and when.

use crate::util::*;
use roce::wire::Opcode;
use roce::{
    AcceptParams, Arm, ConnId, ConnectParams, CqStatus, DisconnectReason, DisconnectResult, Event,
    PostError, QpId, SendFlags, SendOp, SendRequest, Status,
};
use std::time::Duration;

const PORT: u16 = 5000;
const SEND: SendRequest<'_> = SendRequest {
    context: 99,
    ..crate::util::request(SendOp::Send)
};

struct Connected {
    p: Pair,
    a: ConnId,
    b: ConnId,
    qa: QpId,
    qb: QpId,
}

fn request(p: &mut Pair, qp: QpId) -> ConnId {
    let params = ConnectParams {
        qp,
        path: p.setup.path(Side::A),
        local_port: 40_000,
        remote_port: PORT,
        private_data: &[],
        responder_resources: 4,
        initiator_depth: 4,
    };
    p.a.engine.connect(p.now, &params).unwrap()
}

/// Runs until B has been asked, and accepts.
fn accept(p: &mut Pair, qp: QpId) -> ConnId {
    let is_request = |e: &Event| matches!(e, Event::ConnectRequest { .. });
    p.run_until(SECOND, |p| p.b.events.iter().any(is_request));
    let Event::ConnectRequest { conn, .. } =
        p.b.events
            .remove(p.b.events.iter().position(is_request).unwrap())
    else {
        unreachable!()
    };
    let params = AcceptParams {
        qp,
        path: p.setup.path(Side::B),
        private_data: &[],
        responder_resources: 4,
        initiator_depth: 4,
    };
    p.b.engine.accept(p.now, conn, &params).unwrap();
    conn
}

fn establish(p: &mut Pair, conn: ConnId) {
    p.run_until(SECOND, |p| p.a.events.contains(&Event::Replied { conn }));
    p.a.engine.establish(p.now, conn).unwrap();
}

fn connected() -> Connected {
    let mut p = Pair::new(Setup::small());
    p.b.engine.listen(IP_B, PORT).unwrap();
    let (qa, qb) = (p.a.create_qp(), p.b.create_qp());
    let a = request(&mut p, qa);
    let b = accept(&mut p, qb);
    establish(&mut p, a);
    p.run(Duration::from_millis(1));
    assert!(p.a.events.contains(&Event::Established { conn: a }));
    assert!(p.b.events.contains(&Event::Established { conn: b }));
    p.a.events.clear();
    p.b.events.clear();
    Connected { p, a, b, qa, qb }
}

#[test]
fn sends_are_refused_until_the_connection_is_established() {
    let mut p = Pair::new(Setup::default());
    p.b.engine.listen(IP_B, PORT).unwrap();
    let (qa, qb) = (p.a.create_qp(), p.b.create_qp());
    let refused = Err(PostError::NotConnected);
    assert_eq!(p.a.engine.post_send(p.now, qa, &SEND), refused);
    p.a.engine.post_recv(p.now, qa, 1, &[]).unwrap();
    let a = request(&mut p, qa);
    let b = accept(&mut p, qb);
    assert_eq!(p.b.engine.post_send(p.now, qb, &SEND), refused);
    p.run_until(SECOND, |p| p.a.events.contains(&Event::Replied { conn: a }));
    assert_eq!(p.a.engine.post_send(p.now, qa, &SEND), refused);
    p.a.engine.establish(p.now, a).unwrap();
    assert_eq!(p.a.engine.post_send(p.now, qa, &SEND), Ok(None));
    p.b.engine.post_recv(p.now, qb, 1, &[]).unwrap();
    assert_eq!(p.b.engine.post_send(p.now, qb, &SEND), refused);
    p.run_until(SECOND, |p| {
        p.b.events.contains(&Event::Established { conn: b })
    });
    assert_eq!(p.b.engine.post_send(p.now, qb, &SEND), Ok(None));
    p.run(SECOND);
    assert_eq!((p.a.completions.len(), p.b.completions.len()), (2, 2));
}

/// Nothing of B's is flushed because A goes; B can post receives but no sends; B's own disconnect then flushes, and what it
/// flushed can be read before it is reported as done.
#[test]
fn an_incoming_disconnect_flushes_nothing() {
    let Connected {
        mut p,
        a,
        b,
        qa,
        qb,
    } = connected();
    p.b.engine.post_recv(p.now, qb, 1, &[]).unwrap();
    // A has no receive: B's SEND stays unfinished.
    p.b.send(p.now, qb, 2, SendOp::Send, &[]);
    p.run(Duration::from_millis(1));
    p.a.engine.disconnect(p.now, a).unwrap();
    p.run(SECOND * 60);
    assert_eq!(
        p.a.events,
        [Event::DisconnectDone {
            conn: a,
            result: DisconnectResult::Graceful
        }]
    );
    assert_eq!(
        p.b.events,
        [Event::Disconnected {
            conn: b,
            reason: DisconnectReason::Peer
        }]
    );
    assert_eq!(p.b.completions, []);
    assert_eq!(
        p.b.engine.post_send(p.now, qb, &SEND),
        Err(PostError::NotConnected)
    );
    p.b.engine.post_recv(p.now, qb, 3, &[]).unwrap();
    p.run(SECOND);
    assert_eq!(p.b.completions, []);

    p.b.engine.disconnect(p.now, b).unwrap();
    p.run(SECOND);
    let mut done = outcomes(&p.b.completions);
    done.sort_unstable_by_key(|c| c.0);
    assert_eq!(done, [1, 2, 3].map(|i| (i, Status::Flushed)));
    assert_eq!(
        p.b.events[1..],
        [Event::DisconnectDone {
            conn: b,
            result: DisconnectResult::Graceful
        }]
    );
    assert_eq!(
        p.a.engine.post_send(p.now, qa, &SEND),
        Err(PostError::NotConnected)
    );
}

#[test]
fn a_disconnect_flushes_before_it_is_done() {
    let Connected { mut p, a, qa, .. } = connected();
    p.a.engine.post_recv(p.now, qa, 1, &[]).unwrap();
    p.a.send_with(p.now, qa, 2, SendOp::Send, &[], SendFlags::SILENT);
    p.a.engine.disconnect(p.now, a).unwrap();
    // At once, long before the peer has answered.
    p.a.collect();
    assert_eq!(p.a.events, []);
    assert_eq!(
        outcomes(&p.a.completions),
        [(2, Status::Flushed), (1, Status::Flushed)]
    );
    p.run(SECOND);
    assert_eq!(
        p.a.events,
        [Event::DisconnectDone {
            conn: a,
            result: DisconnectResult::Graceful
        }]
    );
    assert!(p.ops(Side::A).iter().all(|op| *op != Opcode::SendOnly));
}

#[test]
fn a_disconnect_from_a_dead_peer_times_out() {
    let Connected { mut p, a, qa, .. } = connected();
    p.net.script = Box::new(|_, _| Fate::Drop);
    p.a.engine.disconnect(p.now, a).unwrap();
    p.run(SECOND * 300);
    assert_eq!(
        p.a.events,
        [Event::DisconnectDone {
            conn: a,
            result: DisconnectResult::Timeout
        }]
    );
    p.a.engine.forget(p.now, a);
    p.a.engine.destroy_qp(p.now, qa).unwrap();
    p.run(SECOND * 300);
    assert_eq!(p.a.engine.next_deadline(), None);
}

#[test]
fn a_peer_that_crashes_is_noticed_by_whoever_sends() {
    let Connected { mut p, a, qa, .. } = connected();
    p.net.script = Box::new(|_, _| Fate::Drop);
    p.a.engine.post_recv(p.now, qa, 1, &[]).unwrap();
    p.run(SECOND * 10);
    assert_eq!(p.a.events, [], "silence alone is no error");
    p.a.send(p.now, qa, 2, SendOp::Send, &[]);
    p.run(SECOND * 10);
    let gone = Event::Disconnected {
        conn: a,
        reason: DisconnectReason::QpError,
    };
    // Half a second apart, before it is given up on.
    let doubted = Event::PathDoubted { qp: qa };
    let doubts = p.a.events.iter().take_while(|e| **e == doubted).count();
    assert_eq!(doubts, 6);
    p.a.events.drain(..doubts);
    assert_eq!(
        p.a.events,
        [
            Event::QpFatal {
                qp: qa,
                status: Status::RetryExceeded
            },
            gone
        ]
    );
    assert_eq!(
        outcomes(&p.a.completions),
        [(2, Status::RetryExceeded), (1, Status::Flushed)]
    );
    // Exactly once, whatever comes later.
    p.a.engine.disconnect(p.now, a).unwrap();
    p.run(SECOND * 300);
    assert_eq!(p.a.events.len(), 3);
    assert!(matches!(p.a.events[2], Event::DisconnectDone { .. }));
}

/// data that arrives before the confirmation stands for it, and is reported after it.
#[test]
fn the_connection_is_reported_before_its_first_data() {
    let mut p = Pair::new(Setup::default());
    p.b.engine.listen(IP_B, PORT).unwrap();
    let (qa, qb) = (p.a.create_qp(), p.b.create_qp());
    let cq = p.b.cq;
    p.b.engine.arm_cq(p.now, cq, Arm::Any);
    p.b.engine.post_recv(p.now, qb, 1, &[]).unwrap();
    let a = request(&mut p, qa);
    let b = accept(&mut p, qb);
    // From here on A's datagrams are lost, its data is not.
    p.net.script = Box::new(|from, packet| match (from, packet.bth.dest_qpn) {
        (Side::A, 1) => Fate::Drop,
        _ => Fate::Pass,
    });
    establish(&mut p, a);
    p.a.send(p.now, qa, 2, SendOp::Send, &[]);
    p.run(Duration::from_millis(1));
    assert_eq!(
        p.b.events,
        [
            Event::Established { conn: b },
            Event::CqNotify {
                cq,
                status: CqStatus::Ready
            }
        ]
    );
    assert_eq!(outcomes(&p.b.completions), [(1, Status::Success)]);
}

#[test]
fn forgetting_a_live_connection_flushes_and_tells_the_peer() {
    let Connected {
        mut p, a, b, qa, ..
    } = connected();
    p.a.engine.post_recv(p.now, qa, 1, &[]).unwrap();
    p.a.send(p.now, qa, 2, SendOp::Send, &[]);
    p.a.engine.forget(p.now, a);
    p.run(SECOND);
    assert_eq!(
        outcomes(&p.a.completions),
        [(2, Status::Flushed), (1, Status::Flushed)]
    );
    assert_eq!(p.a.events, []);
    assert_eq!(
        p.b.events,
        [Event::Disconnected {
            conn: b,
            reason: DisconnectReason::Peer
        }]
    );
    assert!(p.a.engine.connection(a).is_none());
    p.a.engine.destroy_qp(p.now, qa).unwrap();
}

#[test]
fn forgetting_an_attempt_frees_the_queue_pair() {
    let mut p = Pair::new(Setup::default());
    p.b.engine.listen(IP_B, PORT).unwrap();
    let (qa, qb) = (p.a.create_qp(), p.b.create_qp());
    let first = request(&mut p, qa);
    let number = p.a.engine.qp_number(qa);
    p.a.engine.forget(p.now, first);
    p.run(SECOND);
    p.b.events.clear();
    let second = request(&mut p, qa);
    assert_ne!(
        p.a.engine.qp_number(qa),
        number,
        "the peer may remember the old number"
    );
    let b = accept(&mut p, qb);
    establish(&mut p, second);
    p.run(SECOND);
    assert!(p.b.events.contains(&Event::Established { conn: b }));
}

#[test]
fn a_dead_completion_queue_ends_the_connections_of_its_queue_pairs() {
    let Connected {
        mut p, a, b, qa, ..
    } = connected();
    // Nobody polls.
    let cq = p.a.cq;
    p.a.engine.arm_cq(p.now, cq, Arm::Errors);
    p.a.engine.resize_cq(cq, 1).unwrap();
    for i in 0..2 {
        p.a.engine
            .post_send(
                p.now,
                qa,
                &SendRequest {
                    context: i,
                    op: SendOp::Write {
                        remote_va: 0,
                        rkey: 0,
                    },
                    ..SEND
                },
            )
            .unwrap();
    }
    while p.net.next_due().is_some() || p.pump() {
        p.now = p.net.next_due().unwrap_or(p.now).max(p.now);
        while let Some((to, frame)) = p.net.receive(p.now) {
            let now = p.now;
            let host = p.host(to);
            host.engine.receive(now, &frame, &mut host.memory);
        }
    }
    p.a.collect();
    let gone = Event::Disconnected {
        conn: a,
        reason: DisconnectReason::QpError,
    };
    let dead = Event::CqNotify {
        cq,
        status: CqStatus::Overflow,
    };
    assert!(
        p.a.events.contains(&gone) && p.a.events.contains(&dead),
        "{:?}",
        p.a.events
    );
    p.run(SECOND);
    assert_eq!(
        p.b.events,
        [Event::Disconnected {
            conn: b,
            reason: DisconnectReason::Peer
        }]
    );
    assert_eq!(p.a.completions.len(), 1);
}

#[test]
fn crossing_disconnects_are_no_events() {
    let Connected { mut p, a, b, .. } = connected();
    p.a.engine.disconnect(p.now, a).unwrap();
    p.b.engine.disconnect(p.now, b).unwrap();
    p.run(SECOND * 10);
    assert_eq!(
        p.a.events,
        [Event::DisconnectDone {
            conn: a,
            result: DisconnectResult::Graceful
        }]
    );
    assert_eq!(
        p.b.events,
        [Event::DisconnectDone {
            conn: b,
            result: DisconnectResult::Graceful
        }]
    );
}

#[test]
fn a_used_queue_pair_cannot_be_connected_again() {
    let Connected { mut p, a, qa, .. } = connected();
    p.a.engine.disconnect(p.now, a).unwrap();
    p.run(SECOND * 10);
    p.a.engine.forget(p.now, a);
    let params = ConnectParams {
        qp: qa,
        path: p.setup.path(Side::A),
        local_port: 1,
        remote_port: PORT,
        private_data: &[],
        responder_resources: 0,
        initiator_depth: 0,
    };
    assert_eq!(
        p.a.engine.connect(p.now, &params),
        Err(roce::CmError::QpUnusable)
    );
}
