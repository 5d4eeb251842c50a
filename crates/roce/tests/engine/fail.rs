//! The adapter is reset, breaks or is pulled out: everything ends at once (NDKPI 6.10).

use crate::util::*;
use roce::{
    Arm, CmError, Completion, ConnId, ConnState, ConnectFailure, CqId, CqStatus, CreateError,
    DestroyError, DisconnectReason, DisconnectResult, Event, PostError, QpId, QpParams, SendOp,
    SendRequest, SrqStatus, Status, Usage, Verdict,
};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

const SEND: SendRequest<'_> = SendRequest {
    context: 99,
    ..request(SendOp::Send)
};

/// A and B with one connection, events so far taken out.
fn connected(p: &mut Pair, port: u16) -> [(ConnId, QpId); 2] {
    let (a, qa) = p.request(port);
    p.run(MS);
    let b = p.requests()[0];
    let qb = p.accept(b);
    p.run(MS);
    p.a.engine.establish(p.now, a).unwrap();
    p.run(MS);
    for host in [&mut p.a, &mut p.b] {
        assert!(matches!(
            host.events.last(),
            Some(Event::Established { .. })
        ));
        host.events.clear();
    }
    [(a, qa), (b, qb)]
}

fn notifications(host: &Host) -> Vec<(CqId, CqStatus)> {
    let of_cq = |e: &Event| match e {
        Event::CqNotify { cq, status } => Some((*cq, *status)),
        _ => None,
    };
    host.events.iter().filter_map(of_cq).collect()
}

#[test]
fn everything_pending_is_flushed_and_everybody_told_once() {
    let mut p = Pair::new(Setup::default());
    p.listen();
    let [(conn, qa), (_, qb)] = connected(&mut p, 1000);
    let unarmed = p.a.engine.create_cq(4).unwrap();
    let srq = p.a.engine.create_srq(p.a.pd, 4, 1, 1).unwrap();
    p.a.engine.post_srq_recv(srq, 9, &[]).unwrap();
    let attached = QpParams {
        srq: Some(srq),
        ..p.a.qp_params()
    };
    let idle = p.a.engine.create_qp(&attached).unwrap();
    let memory = p.a.open(pattern(64, 1));
    p.a.engine.post_recv(p.now, qa, 1, &[memory.all()]).unwrap();
    // No receive is posted there: these wait.
    for context in 2..5 {
        p.a.send(p.now, qa, context, SendOp::Send, &[memory.all()]);
    }
    p.run(MS);
    p.a.engine
        .moderate_cq(p.now, p.a.cq, 1_000_000, 4000)
        .unwrap();
    p.a.engine.arm_cq(p.now, p.a.cq, Arm::Errors);
    let frame = p.a.transmit(p.now);
    assert_eq!(frame, None);

    p.a.engine.fail(p.now);
    p.a.engine.fail(p.now);
    assert!(p.a.engine.has_failed());
    p.a.collect();
    let mut flushed = outcomes(&p.a.completions);
    flushed.sort_unstable_by_key(|c| c.0);
    assert_eq!(
        flushed,
        (1..5).map(|n| (n, Status::Flushed)).collect::<Vec<_>>()
    );
    let told = |event: &Event| p.a.events.iter().filter(|e| *e == event).count();
    let fatal = |qp| Event::QpFatal {
        qp,
        status: Status::LocalOperation,
    };
    for event in [
        fatal(qa),
        fatal(idle),
        Event::Disconnected {
            conn,
            reason: DisconnectReason::EngineFailed,
        },
        Event::CqNotify {
            cq: p.a.cq,
            status: CqStatus::Failed,
        },
        Event::SrqNotify {
            srq,
            status: SrqStatus::Failed,
        },
    ] {
        assert_eq!(told(&event), 1, "{event:?}");
    }
    assert_eq!(p.a.events.len(), 5, "{:?}", p.a.events);
    // whoever had not asked is told when it does.
    p.a.events.clear();
    for cq in [unarmed, unarmed, p.a.cq] {
        p.a.engine.arm_cq(p.now, cq, Arm::Any);
    }
    p.a.collect();
    assert_eq!(notifications(&p.a), [(unarmed, CqStatus::Failed)]);

    // Nothing goes on, in no direction.
    assert_eq!(p.a.engine.next_deadline(), None);
    assert_eq!(p.a.transmit(p.now), None);
    assert_eq!(
        p.a.engine.post_send(p.now, qa, &SEND),
        Err(PostError::NotConnected)
    );
    assert_eq!(
        p.a.engine.post_recv(p.now, qa, 7, &[]),
        Err(PostError::NotConnected)
    );
    assert_eq!(
        p.a.engine.post_srq_recv(srq, 7, &[]),
        Err(PostError::UnknownSrq)
    );
    let sent = p.log.len();
    p.b.send(p.now, qb, 50, SendOp::Send, &[]);
    p.a.completions.clear();
    p.run(60 * SECOND);
    assert!(p.log[sent..].iter().all(|s| s.from == Side::B));
    assert_eq!((&p.a.completions[..], p.a.events.len()), (&[][..], 1));
    // The peer finds out by itself.
    assert!(p.b.events.iter().any(|e| matches!(
        e,
        Event::Disconnected {
            reason: DisconnectReason::QpError,
            ..
        }
    )));

    // And everything can be cleared away.
    p.a.engine.disconnect(p.now, conn).unwrap();
    p.a.events.clear();
    p.a.collect();
    assert_eq!(
        p.a.events,
        [Event::DisconnectDone {
            conn,
            result: DisconnectResult::Timeout
        }]
    );
    p.a.engine.forget(p.now, conn);
    let e = &mut p.a.engine;
    for qp in [qa, idle] {
        e.destroy_qp(p.now, qp).unwrap();
    }
    e.destroy_srq(srq).unwrap();
    for cq in [unarmed, p.a.cq] {
        e.destroy_cq(cq).unwrap();
    }
    e.deregister(memory.key).unwrap();
    e.destroy_pd(p.a.pd).unwrap();
    assert_eq!(e.usage(), Usage::default());
    assert_eq!(e.create_pd(), Err(CreateError::EngineFailed));
    assert_eq!(e.create_cq(4), Err(CreateError::EngineFailed));
}

/// One connection of each kind in each state, the engines of both sides failing.
#[test]
fn connections_end_in_every_state() {
    let mut p = Pair::new(Setup {
        config: roce::Config {
            max_qps: 32,
            ..Setup::default().config
        },
        ..Setup::default()
    });
    let listener = p.listen();
    let established = connected(&mut p, 1000);
    let disconnecting = connected(&mut p, 1001);
    let crossing = connected(&mut p, 1002);
    // Accepted, and the confirmation not given: the active side has a reply to answer.
    let (replied, _) = p.request(1003);
    p.run(MS);
    let accepting = p.requests()[0];
    p.accept(accepting);
    p.run(MS);
    // Requested, and not answered.
    let (waiting, _) = p.request(1004);
    p.run(MS);
    let requested = p.requests()[0];
    // From here on silence.
    p.net.script = Box::new(|_, _| Fate::Drop);
    let (connecting, _) = p.request(1005);
    p.a.engine.disconnect(p.now, disconnecting[0].0).unwrap();
    p.b.engine.disconnect(p.now, crossing[1].0).unwrap();
    p.run(MS);
    p.a.events.clear();
    p.b.events.clear();

    let engine_failed = ConnectFailure::EngineFailed;
    let disconnected = |conn| Event::Disconnected {
        conn,
        reason: DisconnectReason::EngineFailed,
    };
    let done = |conn| Event::DisconnectDone {
        conn,
        result: DisconnectResult::Timeout,
    };
    for (side, mut want) in [
        (
            Side::A,
            vec![
                disconnected(established[0].0),
                done(disconnecting[0].0),
                disconnected(crossing[0].0),
                Event::ConnectFailed {
                    conn: waiting,
                    reason: engine_failed,
                },
                Event::ConnectFailed {
                    conn: connecting,
                    reason: engine_failed,
                },
            ],
        ),
        (
            Side::B,
            vec![
                disconnected(established[1].0),
                disconnected(disconnecting[1].0),
                done(crossing[1].0),
                Event::EstablishFailed {
                    conn: accepting,
                    reason: engine_failed,
                },
            ],
        ),
    ] {
        let now = p.now;
        p.host(side).engine.fail(now);
        p.host(side).collect();
        p.host(side)
            .events
            .retain(|e| !matches!(e, Event::QpFatal { .. }));
        let key = |e: &Event| format!("{e:?}");
        want.sort_by_key(key);
        p.host(side).events.sort_by_key(key);
        assert_eq!(p.host(side).events, want);
        assert_eq!(p.host(side).transmit(now), None);
    }
    // The owner's word comes too late.
    let fresh = QpId::from_bits(0);
    let accept = p.accept_params(fresh);
    let connect = p.connect_params(fresh, 2000);
    let gone = Err(CmError::EngineFailed);
    assert_eq!(p.b.engine.accept(p.now, requested, &accept), gone);
    assert_eq!(p.b.engine.reject(p.now, requested, &[]), gone);
    assert_eq!(p.a.engine.establish(p.now, replied), gone);
    assert_eq!(p.a.engine.reject(p.now, replied, &[]), gone);
    assert_eq!(p.a.engine.connect(p.now, &connect).map(|_| ()), gone);
    assert_eq!(p.b.engine.listen(IP_B, 77).map(|_| ()), gone);
    assert_eq!(
        p.b.engine.disconnect(p.now, accepting),
        Err(CmError::InvalidState)
    );
    for conn in [replied, waiting, connecting] {
        let info = p.a.engine.connection(conn).unwrap();
        assert_eq!(info.state, ConnState::Closed);
    }
    p.b.engine.unlisten(listener).unwrap();
    for (side, conns) in [
        (
            Side::A,
            vec![
                established[0].0,
                disconnecting[0].0,
                crossing[0].0,
                replied,
                waiting,
                connecting,
            ],
        ),
        (
            Side::B,
            vec![
                established[1].0,
                disconnecting[1].0,
                crossing[1].0,
                accepting,
                requested,
            ],
        ),
    ] {
        let now = p.now;
        for conn in conns {
            p.host(side).engine.forget(now, conn);
            assert!(p.host(side).engine.connection(conn).is_none());
        }
        assert_eq!(p.host(side).engine.usage().connections, 0);
        assert_eq!(p.host(side).transmit(now), None);
    }
}

#[test]
fn what_the_nic_holds_is_waited_for_but_does_not_complete_any_more() {
    let (mut p, qa, _) = Pair::attached(Setup::default());
    p.a.nic_holds = None;
    let memory = p.a.open(pattern(64, 1));
    for context in 0..2 {
        p.a.send(p.now, qa, context, SendOp::Send, &[memory.all()]);
    }
    assert!(p.a.transmit(p.now).is_some());
    p.a.engine.fail(p.now);
    p.a.collect();
    // The first is in the NIC's hands, and the second must not overtake it.
    assert_eq!(p.a.completions, []);
    assert_eq!(p.a.engine.destroy_qp(p.now, qa), Err(DestroyError::Busy));
    p.a.events.clear();
    p.a.release_all(p.now);
    p.a.collect();
    assert_eq!(p.a.completions, []);
    assert_eq!(p.a.events, [Event::QpIdle { qp: qa }]);

    // Stop the NIC first, and nothing is lost.
    let (mut p, qa, _) = Pair::attached(Setup::default());
    p.a.nic_holds = None;
    let memory = p.a.open(pattern(64, 1));
    for context in 0..2 {
        p.a.send(p.now, qa, context, SendOp::Send, &[memory.all()]);
    }
    assert!(p.a.transmit(p.now).is_some());
    p.a.release_all(p.now);
    p.a.engine.fail(p.now);
    p.a.collect();
    assert_eq!(
        outcomes(&p.a.completions),
        [(0, Status::Flushed), (1, Status::Flushed)]
    );
}

#[test]
fn a_queue_that_overflows_while_everything_is_flushed_says_why_all_ended() {
    let mut p = Pair::new(Setup::default());
    let small = p.a.engine.create_cq(2).unwrap();
    let params = QpParams {
        send_cq: small,
        ..p.a.qp_params()
    };
    let (qa, qb) = (p.a.engine.create_qp(&params).unwrap(), p.b.create_qp());
    p.attach_these(qa, qb);
    for context in 0..3 {
        p.a.send(p.now, qa, context, SendOp::Send, &[]);
    }
    p.a.engine.arm_cq(p.now, small, Arm::Any);
    p.a.engine.fail(p.now);
    p.a.collect();
    assert_eq!(notifications(&p.a), [(small, CqStatus::Failed)]);
    let mut out = [Completion::default(); 4];
    assert_eq!(p.a.engine.poll_cq(small, &mut out), 2);
}

#[test]
fn what_comes_for_it_afterwards_is_counted() {
    let (mut p, _, qb) = Pair::attached(Setup::default());
    let memory = p.b.open(pattern(64, 1));
    p.b.send(p.now, qb, 1, SendOp::Send, &[memory.all()]);
    let frame = p.b.transmit(p.now).unwrap();
    p.a.engine.fail(p.now);
    let host = &mut p.a;
    let verdict = host.engine.receive(p.now, &frame, &mut host.memory);
    assert_eq!(verdict, Verdict::Consumed);
    assert_eq!(host.engine.counters().drop_failed, 1);
}

#[test]
fn frames_that_are_not_for_it_are_still_others_business() {
    let (mut p, qa, _) = Pair::attached(Setup::default());
    p.a.engine.fail(p.now);
    let mut other = vec![0; 60];
    other[12..14].copy_from_slice(&[0x08, 0x06]);
    let host = &mut p.a;
    assert_eq!(
        host.engine.receive(p.now, &other, &mut host.memory),
        Verdict::NotRoce
    );
    let before = p.b.engine.counters().rx_frames;
    assert_eq!(
        p.a.engine.post_send(p.now, qa, &SEND),
        Err(PostError::NotConnected)
    );
    p.run(SECOND);
    assert_eq!(p.b.engine.counters().rx_frames, before);
}

/// one queue alone.
#[test]
fn q13_a_failed_completion_queue_takes_its_queue_pairs_with_it() {
    let mut p = Pair::new(Setup::default());
    let cq = p.b.engine.create_cq(8).unwrap();
    let params = QpParams {
        recv_cq: cq,
        ..p.b.qp_params()
    };
    let (qa, qb) = (p.a.create_qp(), p.b.engine.create_qp(&params).unwrap());
    p.attach_these(qa, qb);
    let bystander = p.attach();
    p.b.engine.post_recv(p.now, qb, 1, &[]).unwrap();
    p.b.engine.arm_cq(p.now, cq, Arm::Errors);
    p.b.engine.fail_cq(p.now, cq);
    p.b.collect();
    assert_eq!(notifications(&p.b), [(cq, CqStatus::Failed)]);
    assert_eq!(p.b.engine.counters().cq_errors, 1);
    assert_eq!(p.b.engine.poll_cq(cq, &mut [Completion::default()]), 0);
    assert_eq!(
        p.b.engine.post_recv(p.now, qb, 2, &[]),
        Err(PostError::NotConnected)
    );
    assert_eq!(
        p.b.engine.post_send(p.now, qb, &SEND),
        Err(PostError::NotConnected)
    );
    p.b.engine.post_recv(p.now, bystander.1, 3, &[]).unwrap();
    p.a.send(p.now, bystander.0, 4, SendOp::Send, &[]);
    p.run(SECOND);
    assert_eq!(outcomes(&p.b.completions), [(3, Status::Success)]);
    p.b.engine.destroy_qp(p.now, qb).unwrap();
    p.b.engine.destroy_cq(cq).unwrap();
}
