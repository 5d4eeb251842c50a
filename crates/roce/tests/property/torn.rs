//! Everything is torn down at any moment.

use crate::util::random::*;
use crate::util::*;
use roce::{Config, Event, PathMtu, QpParams, Rng, SendFlags, SendOp, SendRequest, Status};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

fn random_setup(rng: &mut Rng, seed: u64) -> Setup {
    let psn = |rng: &mut Rng| match below(rng, 3) {
        0 => Some(0xff_ffff - below(rng, 64)),
        _ => None,
    };
    Setup {
        seed,
        mtu: pick(rng, &[PathMtu::Mtu256, PathMtu::Mtu512, PathMtu::Mtu1024]),
        ipv6: below(rng, 3) == 0,
        reads: pick(rng, &[1, 2, 3, 8, 16]),
        ack_timeout: pick(rng, &[7, 8, 10]),
        psn: [psn(rng), psn(rng)],
        config: Config {
            send_window: pick(rng, &[1, 2, 7, 32, 128]),
            read_window: pick(rng, &[1, 8, 64]),
            read_chunk: pick(rng, &[1, 3, 16, 128]),
            min_rnr_timer: pick(rng, &[1, 5, 10]),
            max_transmissions: pick(rng, &[1, 4, 64, 1024]),
            ..Setup::default().config
        },
        ..Setup::default()
    }
}

fn random_weather(rng: &mut Rng) -> Weather {
    let storm = below(rng, 4);
    let per_mille = |rng: &mut Rng, max| if storm == 0 { 0 } else { below(rng, max) };
    Weather {
        delay: Duration::from_micros(u64::from(below(rng, 20))),
        jitter: Duration::from_nanos(if storm < 2 {
            0
        } else {
            u64::from(below(rng, 30_000))
        }),
        loss: per_mille(rng, 60),
        duplication: per_mille(rng, 60),
        corruption: per_mille(rng, 30),
        ..Weather::CALM
    }
}

fn ix(side: Side) -> usize {
    side as usize
}

/// Flushes, deregistrations, destroyed queue pairs and bad keys at any moment: every accepted request still completes exactly
/// once, in order, and nothing is left behind.
#[test]
fn nothing_is_lost_when_everything_is_torn_down() {
    for seed in seeds(300) {
        let _witness = Witness(seed);
        let mut rng = Rng::new(seed ^ 0x5eed);
        let setup = random_setup(&mut rng, seed);
        let mut p = Pair::new(setup);
        p.net.set_weather(random_weather(&mut rng));
        p.chunks = (seed % 2 == 1).then(|| Rng::new(seed));
        p.a.nic_holds = Some(Duration::from_micros(20));
        let mut pairs: Vec<_> = (0..2).map(|_| p.attach()).collect();
        // Two more, of which those of B share their receives.
        let srq = p.b.engine.create_srq(p.b.pd, 1024, 1, 0).unwrap();
        let sharing = QpParams {
            srq: Some(srq),
            ..p.b.qp_params()
        };
        for _ in 0..2 {
            let (qa, qb) = (p.a.create_qp(), p.b.engine.create_qp(&sharing).unwrap());
            p.attach_these(qa, qb);
            pairs.push((qa, qb));
        }
        // Receives that are in the shared queue, or taken and not yet completed.
        let mut pooled: HashSet<u64> = HashSet::new();
        let mut live: Vec<(Side, Mr)> = Vec::new();
        for side in [Side::A, Side::B] {
            for i in 0..4 {
                live.push((side, p.host(side).open(pattern(5000, i))));
            }
        }
        let regions = live.clone();
        // Per side and queue pair: contexts due, send queue and receive queue. Contexts tell which.
        let mut due: [HashSet<u64>; 2] = Default::default();
        let mut last: HashMap<u64, u64> = Default::default();
        let mut destroyed: HashSet<(Side, usize)> = HashSet::new();
        // Queues of which something has failed.
        let mut broken: HashSet<u64> = HashSet::new();
        let mut serial = 0;
        let mut drain = |p: &mut Pair,
                         due: &mut [HashSet<u64>; 2],
                         pooled: &mut HashSet<u64>,
                         last: &mut HashMap<u64, u64>| {
            p.a.collect();
            p.b.collect();
            for side in [Side::A, Side::B] {
                for c in std::mem::take(&mut p.host(side).completions) {
                    if side == Side::B && pooled.remove(&c.context) {
                        continue;
                    }
                    assert!(due[ix(side)].remove(&c.context), "not due: {c:?}");
                    // Low byte: queue; the rest rises with every post.
                    let queue = c.context & 0xff;
                    // What succeeds, then what has failed if it was here, then what was flushed.
                    let flushed = c.status == Status::Flushed;
                    assert!(
                        flushed || !broken.contains(&queue),
                        "behind a failure: {c:?}"
                    );
                    if c.status != Status::Success {
                        broken.insert(queue);
                    }
                    let before = last.insert(queue, c.context >> 8);
                    assert!(
                        before.is_none_or(|b| b < c.context >> 8),
                        "out of order: {c:?}"
                    );
                }
            }
        };
        for _ in 0..150 {
            let n = below(&mut rng, 4) as usize;
            let side = pick(&mut rng, &[Side::A, Side::B]);
            let qp = if side == Side::A {
                pairs[n].0
            } else {
                pairs[n].1
            };
            let (_, mr) = regions[(ix(side) * 4) + below(&mut rng, 4) as usize];
            let (_, remote) = regions[(ix(side.other()) * 4) + below(&mut rng, 4) as usize];
            let len = below(&mut rng, 5000);
            serial += 1;
            let queue = (ix(side) * 100 + n * 10) as u64;
            let now = p.now;
            let host = p.host(side);
            match below(&mut rng, 40) {
                0 => host.engine.flush(now, qp),
                1 => {
                    if destroyed.insert((side, n)) {
                        let _ = host.engine.destroy_qp(now, qp);
                    }
                }
                2 | 3 => {
                    let at = below(&mut rng, live.len() as u32) as usize;
                    let (side, mr) = live.remove(at);
                    let _ = p.host(side).engine.deregister(mr.key);
                    if live.is_empty() {
                        break;
                    }
                }
                4..=10 => p.run(Duration::from_nanos(u64::from(below(&mut rng, 50_000)))),
                11..=20 if side == Side::B && n >= 2 => {
                    let context = serial << 8 | 2;
                    let sgl = [mr.sge(0, len)];
                    host.engine.post_srq_recv(srq, context, &sgl).unwrap();
                    pooled.insert(context);
                }
                11..=20 => {
                    let context = serial << 8 | (queue + 1);
                    if host
                        .engine
                        .post_recv(now, qp, context, &[mr.sge(0, len)])
                        .is_ok()
                    {
                        due[ix(side)].insert(context);
                    }
                }
                n => {
                    let context = serial << 8 | queue;
                    let at = remote.va + u64::from(below(&mut rng, 3));
                    let op = match n % 4 {
                        0 => SendOp::Send,
                        3 => SendOp::FetchAdd {
                            remote_va: at & !7,
                            rkey: remote.key.0,
                            add: 1,
                        },
                        1 => SendOp::Write {
                            remote_va: at,
                            rkey: remote.key.0,
                        },
                        _ => SendOp::Read {
                            remote_va: at,
                            rkey: remote.key.0,
                        },
                    };
                    let len = if n % 4 == 3 { 8 } else { len };
                    let sgl = [mr.sge(0, len)];
                    let request = SendRequest {
                        context,
                        op,
                        sgl: &sgl,
                        inline: None,
                        flags: SendFlags::empty(),
                    };
                    if host.engine.post_send(now, qp, &request).is_ok() {
                        due[ix(side)].insert(context);
                    }
                }
            }
            drain(&mut p, &mut due, &mut pooled, &mut last);
        }
        p.run(Duration::from_millis(u64::from(below(&mut rng, 20))));
        drain(&mut p, &mut due, &mut pooled, &mut last);
        for (n, (a, b)) in pairs.iter().enumerate() {
            for (side, qp) in [(Side::A, *a), (Side::B, *b)] {
                if destroyed.insert((side, n)) {
                    let now = p.now;
                    let _ = p.host(side).engine.destroy_qp(now, qp);
                }
            }
        }
        p.run(SECOND);
        drain(&mut p, &mut due, &mut pooled, &mut last);
        for (side, mr) in live {
            p.host(side).engine.deregister(mr.key).unwrap();
        }
        // What nobody took is still there, for somebody else.
        let (qa, qb) = (p.a.create_qp(), p.b.engine.create_qp(&sharing).unwrap());
        p.attach_these(qa, qb);
        let left = pooled.len();
        for chunk in 0..left.div_ceil(DEPTH as usize) {
            for _ in 0..(left - chunk * DEPTH as usize).min(DEPTH as usize) {
                p.a.send_with(p.now, qa, 3, SendOp::Send, &[], SendFlags::SILENT);
            }
            p.run(SECOND);
        }
        drain(&mut p, &mut due, &mut pooled, &mut last);
        assert_eq!(pooled.len(), 0, "shared receives that never completed");
        p.a.engine.destroy_qp(p.now, qa).unwrap();
        p.b.engine.destroy_qp(p.now, qb).unwrap();
        p.b.engine.destroy_srq(srq).unwrap();
        assert_eq!(
            due.each_ref().map(HashSet::len),
            [0, 0],
            "requests that never completed"
        );
        for side in [Side::A, Side::B] {
            let host = p.host(side);
            let mut idle = HashSet::new();
            for event in &host.events {
                if let Event::QpIdle { qp } = event {
                    assert!(idle.insert(*qp), "twice: {event:?}");
                }
            }
            host.engine.destroy_pd(host.pd).unwrap();
            host.engine.destroy_cq(host.cq).unwrap();
            assert_eq!(host.engine.usage(), roce::Usage::default());
        }
    }
}
