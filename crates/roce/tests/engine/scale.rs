//! Many: a hundred thousand queue pairs, ten thousand connections at once, as many in a second, and a thousand that come and go.

use crate::util::random::{Witness, seeds};
use crate::util::*;
use roce::{
    AcceptParams, CompletionOp, Config, ConnId, ConnState, ConnectParams, Event, QpId, QpParams,
    Rng, SendOp, Status, Usage,
};
use std::collections::HashSet;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

/// A queue pair with little in it.
fn small_qp(host: &mut Host, srq: Option<roce::SrqId>, context: u64) -> QpId {
    let params = QpParams {
        srq,
        sq_depth: 2,
        rq_depth: 2,
        max_send_sge: 1,
        max_recv_sge: 1,
        max_read_sge: 1,
        max_inline: 8,
        context,
        ..host.qp_params()
    };
    host.engine.create_qp(&params).unwrap()
}

#[test]
fn ten_thousand_connections_live_on_one_engine() {
    const COUNT: usize = 10_000;
    const WAVE: usize = 500;
    let mut p = Pair::new(Setup {
        config: Config {
            max_qps: COUNT as u32,
            max_connections: COUNT as u32 + 2 * WAVE as u32,
            ..Setup::default().config
        },
        ..Setup::default()
    });
    p.listen();
    let srq = p.b.engine.create_srq(p.b.pd, WAVE as u32, 1, 0).unwrap();
    let mut ends: Vec<[(ConnId, QpId); 2]> = Vec::new();
    for wave in 0..COUNT / WAVE {
        let mut asked = Vec::new();
        for n in wave * WAVE..(wave + 1) * WAVE {
            let qp = small_qp(&mut p.a, None, n as u64);
            let params = ConnectParams {
                private_data: &[],
                ..p.connect_params(qp, 1000 + n as u16)
            };
            asked.push((p.a.engine.connect(p.now, &params).unwrap(), qp));
        }
        p.run(MS);
        let requests = p.requests();
        assert_eq!(requests.len(), WAVE);
        for (a, conn) in asked.into_iter().zip(requests) {
            let context = ends.len() as u64;
            let qp = small_qp(&mut p.b, Some(srq), context);
            let params = p.accept_params(qp);
            p.b.engine.accept(p.now, conn, &params).unwrap();
            let port = 1000 + context as u16;
            assert_eq!(p.b.engine.connection(conn).unwrap().peer.port(), port);
            ends.push([a, (conn, qp)]);
        }
        p.run(MS);
        for [(conn, _), _] in &ends[wave * WAVE..] {
            p.a.engine.establish(p.now, *conn).unwrap();
        }
        p.run(MS);
        p.a.events.clear();
        p.b.events.clear();
    }
    for side in [Side::A, Side::B] {
        let usage = p.host(side).engine.usage();
        assert_eq!((usage.qps, usage.connections), (COUNT as u32, COUNT as u32));
    }
    // Every one of them carries a message, into receives that all share.
    for wave in ends.chunks(WAVE) {
        for [(_, qp), _] in wave {
            p.b.engine.post_srq_recv(srq, 0, &[]).unwrap();
            p.a.send(p.now, *qp, 0, SendOp::Send, &[]);
        }
        p.run(MS);
    }
    let received: HashSet<u64> =
        p.b.completions
            .iter()
            .filter(|c| c.op == CompletionOp::Receive && c.status == Status::Success)
            .map(|c| c.qp_context)
            .collect();
    assert_eq!((received.len(), p.b.completions.len()), (COUNT, COUNT));
    let sent = |c: &&roce::Completion| c.status == Status::Success;
    assert_eq!(p.a.completions.iter().filter(sent).count(), COUNT);
    assert_eq!(p.a.engine.counters().retransmissions, 0);
    // And everything ends.
    for wave in ends.chunks(WAVE) {
        for [(conn, _), _] in wave {
            p.a.engine.disconnect(p.now, *conn).unwrap();
        }
        p.run(MS);
        for ends in wave {
            for (side, (conn, qp)) in [Side::A, Side::B].into_iter().zip(ends) {
                let now = p.now;
                let engine = &mut p.host(side).engine;
                assert_eq!(engine.connection(*conn).unwrap().state, ConnState::Closed);
                engine.forget(now, *conn);
                engine.destroy_qp(now, *qp).unwrap();
            }
        }
    }
    p.run(10 * SECOND);
    for side in [Side::A, Side::B] {
        let usage = p.host(side).engine.usage();
        assert_eq!((usage.qps, usage.connections), (0, 0));
        assert_eq!(p.host(side).engine.next_deadline(), None);
    }
}

/// Packets find their way to the right one of a hundred thousand queue pairs, all of one engine and connected among themselves. How much
/// work that is, is counted where the numbers are: see `src/numbers.rs`.
#[test]
fn a_hundred_thousand_queue_pairs_are_told_apart() {
    const COUNT: u64 = 100_000;
    let p = Pair::new(Setup::default());
    let mut host = Host::new(&Config {
        max_qps: COUNT as u32,
        max_inbound_reads: 1,
        ..Setup::default().config
    });
    host.engine.reserve(COUNT as u32, 0).unwrap();
    let qps: Vec<QpId> = (0..COUNT)
        .map(|context| small_qp(&mut host, None, context))
        .collect();
    let local: Vec<_> = qps
        .iter()
        .map(|qp| host.engine.prepare(*qp, None).unwrap())
        .collect();
    let numbers: HashSet<u32> = local.iter().map(|l| l.qpn).collect();
    assert_eq!(numbers.len() as u64, COUNT);
    for n in 0..COUNT as usize {
        let peer = local[n ^ 1];
        let from = if n % 2 == 0 { Side::A } else { Side::B };
        let attributes = p.attributes(from, peer.qpn, peer.psn);
        host.engine.attach(qps[n], &attributes).unwrap();
    }
    for wave in (0..COUNT).collect::<Vec<_>>().chunks(1000) {
        for n in wave {
            let qp = qps[*n as usize];
            host.engine.post_recv(p.now, qp, *n, &[]).unwrap();
            host.send(p.now, qp, COUNT + *n, SendOp::Send, &[]);
        }
        while let Some(frame) = host.transmit(p.now) {
            host.engine.receive(p.now, &frame, &mut host.memory);
        }
        host.collect();
    }
    // Each had one message sent and one received, and by its own context.
    let done: HashSet<(u64, u64)> = host
        .completions
        .iter()
        .filter(|c| c.status == Status::Success)
        .map(|c| (c.qp_context, c.context))
        .collect();
    assert_eq!(done.len() as u64, 2 * COUNT);
    assert_eq!(host.completions.len() as u64, 2 * COUNT);
    assert!(done.iter().all(|(qp, context)| *qp == context % COUNT));
    let counters = host.engine.counters();
    assert_eq!((counters.drop_unknown_qp, counters.retransmissions), (0, 0));
    for qp in qps {
        host.engine.destroy_qp(p.now, qp).unwrap();
    }
    assert_eq!(host.engine.usage().qps, 0);
}

/// Ten thousand connections in every second, each used once: for so long that as many rest as ever do.
#[test]
fn ten_thousand_connections_come_and_go_in_a_second() {
    const PER_MS: u32 = 10;
    const TIME: u32 = 3000;
    const COUNT: usize = (PER_MS * TIME) as usize;
    let mut p = Pair::new(Setup {
        config: Config {
            max_qps: 1024,
            max_connections: 1 << 17,
            ..Setup::default().config
        },
        ..Setup::default()
    });
    p.listen();
    let (mut established, mut over, mut most) = (0, 0, 0);
    // For events, messages and answers to arrive in.
    for ms in 0..TIME + 20 {
        for n in 0..if ms < TIME { PER_MS } else { 0 } {
            let qp = small_qp(&mut p.a, None, 0);
            let port = 1000 + ((ms * PER_MS + n) % 60_000) as u16;
            let params = p.connect_params(qp, port);
            p.a.engine.connect(p.now, &params).unwrap();
        }
        for side in [Side::A, Side::B] {
            let accept = p.accept_params(QpId::from_bits(0));
            let now = p.now;
            let host = p.host(side);
            for event in std::mem::take(&mut host.events) {
                match event {
                    Event::ConnectRequest { conn, .. } => {
                        let qp = small_qp(host, None, conn.to_bits());
                        host.engine.post_recv(now, qp, 1, &[]).unwrap();
                        let accept = AcceptParams { qp, ..accept };
                        host.engine.accept(now, conn, &accept).unwrap();
                    }
                    Event::Replied { conn } => host.engine.establish(now, conn).unwrap(),
                    Event::Established { conn } => {
                        established += 1;
                        if side == Side::A {
                            let qp = host.engine.connection(conn).unwrap().qp.unwrap();
                            host.send(now, qp, 2, SendOp::Send, &[]);
                        }
                    }
                    Event::Disconnected { conn, .. } | Event::DisconnectDone { conn, .. } => {
                        over += 1;
                        let qp = host.engine.connection(conn).unwrap().qp.unwrap();
                        host.engine.forget(now, conn);
                        host.engine.destroy_qp(now, qp).unwrap();
                    }
                    event => panic!("{event:?}"),
                }
            }
        }
        p.a.completions.clear();
        // Who has received its message hangs up.
        for done in std::mem::take(&mut p.b.completions) {
            assert_eq!(
                (done.op, done.status),
                (CompletionOp::Receive, Status::Success)
            );
            let conn = ConnId::from_bits(done.qp_context);
            p.b.engine.disconnect(p.now, conn).unwrap();
        }
        p.log.clear();
        p.run(MS);
        most = most.max(p.b.engine.usage().connections);
    }
    assert_eq!((established, over), (2 * COUNT, 2 * COUNT));
    assert!(most > 20_000, "{most}");
    p.run(60 * SECOND);
    for side in [Side::A, Side::B] {
        let usage = p.host(side).engine.usage();
        assert_eq!((usage.qps, usage.connections), (0, 0));
    }
}

/// What one connection of the storm is at on A's side.
struct Attempt {
    conn: ConnId,
    qp: QpId,
    /// When A loses patience or interest.
    until: roce::Instant,
}

/// A thousand connections are asked for, answered one way or another, used, and given up at any moment, over a bad network.
#[test]
fn a_storm_of_connections_leaves_nothing_behind() {
    for seed in seeds(3) {
        let _witness = Witness(seed);
        storm(seed);
    }
}

fn storm(seed: u64) {
    const COUNT: u16 = 1000;
    let mut rng = Rng::new(seed);
    let mut p = Pair::new(Setup {
        seed,
        config: Config {
            max_qps: 256,
            max_connections: 256,
            ..Setup::default().config
        },
        ..Setup::default()
    });
    p.net.set_weather(Weather {
        delay: 20 * MS / 1000,
        jitter: 50 * MS / 1000,
        loss: 50,
        duplication: 50,
        corruption: 20,
        ..Weather::CALM
    });
    p.listen();
    let mut attempts: Vec<Attempt> = Vec::new();
    // B's connections and queue pairs.
    let mut served: Vec<(ConnId, Option<QpId>)> = Vec::new();
    let mut asked = 0;
    let mut established = 0;
    while asked < COUNT || !attempts.is_empty() {
        while asked < COUNT && attempts.len() < 100 {
            let qp = small_qp(&mut p.a, None, 0);
            let params = p.connect_params(qp, 1000 + asked);
            let Ok(conn) = p.a.engine.connect(p.now, &params) else {
                // The table is full of connections that rest.
                p.a.engine.destroy_qp(p.now, qp).unwrap();
                break;
            };
            asked += 1;
            let patience = rng.next_u64() % 3_000_000_000;
            let until = p.now.after_nanos(patience);
            attempts.push(Attempt { conn, qp, until });
        }
        p.run(Duration::from_micros(u64::from(rng.next_u32() % 20_000)));
        for conn in p.requests() {
            let now = p.now;
            match rng.next_u32() % 8 {
                0 => {
                    let _ = p.b.engine.reject(now, conn, b"no");
                    served.push((conn, None));
                }
                1 => p.b.engine.forget(now, conn),
                _ => {
                    let qp = small_qp(&mut p.b, None, 0);
                    let params = AcceptParams {
                        private_data: &[],
                        ..p.accept_params(qp)
                    };
                    let _ = p.b.engine.accept(now, conn, &params);
                    let _ = p.b.engine.post_recv(now, qp, 1, &[]);
                    served.push((conn, Some(qp)));
                }
            }
        }
        let now = p.now;
        for event in std::mem::take(&mut p.a.events) {
            match event {
                Event::Replied { conn } if rng.next_u32().is_multiple_of(8) => {
                    let _ = p.a.engine.reject(now, conn, &[]);
                }
                Event::Replied { conn } => {
                    let _ = p.a.engine.establish(now, conn);
                }
                Event::Established { conn } => {
                    established += 1;
                    let qp = attempts.iter().find(|a| a.conn == conn).map(|a| a.qp);
                    if let Some(qp) = qp {
                        p.a.send(now, qp, 0, SendOp::Send, &[]);
                    }
                    if rng.next_u32().is_multiple_of(2) {
                        p.a.engine.disconnect(now, conn).unwrap();
                    }
                }
                _ => {}
            }
        }
        attempts.retain(|attempt| {
            let state = p.a.engine.connection(attempt.conn).unwrap().state;
            let keep = attempt.until > now && state != ConnState::Closed;
            if !keep {
                p.a.engine.forget(now, attempt.conn);
                p.a.engine.destroy_qp(now, attempt.qp).unwrap();
            }
            keep
        });
        served.retain(|(conn, qp)| {
            let state = p.b.engine.connection(*conn).unwrap().state;
            if state == ConnState::Closed {
                p.b.engine.forget(now, *conn);
                if let Some(qp) = qp {
                    p.b.engine.destroy_qp(now, *qp).unwrap();
                }
            }
            state != ConnState::Closed
        });
        p.b.events.clear();
        p.a.completions.clear();
        p.b.completions.clear();
    }
    assert!(established > 300, "{established}");
    // B learns of what has ended, or gives up by itself; what nobody tells it of, it ends.
    p.run(60 * SECOND);
    let now = p.now;
    for (conn, qp) in served {
        p.b.engine.forget(now, conn);
        if let Some(qp) = qp {
            p.b.engine.destroy_qp(now, qp).unwrap();
        }
    }
    for conn in p.requests() {
        p.b.engine.forget(now, conn);
    }
    p.run(600 * SECOND);
    for side in [Side::A, Side::B] {
        let host = p.host(side);
        host.engine.destroy_pd(host.pd).unwrap();
        host.engine.destroy_cq(host.cq).unwrap();
        assert_eq!(host.engine.usage(), Usage::default(), "{side:?}");
        assert_eq!(host.engine.next_deadline(), None, "{side:?}");
    }
}
