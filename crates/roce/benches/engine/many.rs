//! Many queue pairs in one engine: what they take up, how fast they are connected and how fast they are found.

use crate::ends::{Flat, attributes, ips, path};
use roce::{
    AcceptParams, Completion, Config, ConnectParams, CqId, Engine, Event, Instant, PathMtu, PdId,
    QpId, QpParams, Rng, SendFlags, SendOp, SendRequest, Transmit,
};

/// Requests of each queue.
pub const DEPTH: u32 = 16;

fn params(pd: PdId, cq: CqId, depth: u32) -> QpParams {
    QpParams {
        pd,
        send_cq: cq,
        recv_cq: cq,
        srq: None,
        sq_depth: depth,
        rq_depth: depth,
        max_send_sge: 1,
        max_recv_sge: 1,
        max_read_sge: 1,
        max_inline: 0,
        atomics: false,
        context: 0,
    }
}

/// Two engines whose queue pairs get connected one after another.
pub struct Connecting {
    engines: [Engine; 2],
    qps: [Vec<QpId>; 2],
}

impl Connecting {
    /// With `count` queue pairs each.
    pub fn new(count: u32) -> Connecting {
        let mut engines = [1, 2].map(|seed| {
            let config = Config {
                seed,
                max_qps: count,
                max_connections: count,
                max_cqs: 4,
                max_pds: 4,
                max_keys: 4,
                max_srqs: 4,
                max_transmissions: 64,
                ..Config::default()
            };
            Engine::try_new(&config).unwrap()
        });
        engines[1].listen(ips()[1], 445).unwrap();
        let qps = engines.each_mut().map(|engine| {
            let pd = engine.create_pd().unwrap();
            let cq = engine.create_cq(64).unwrap();
            (0..count)
                .map(|_| engine.create_qp(&params(pd, cq, DEPTH)).unwrap())
                .collect()
        });
        Connecting { engines, qps }
    }

    /// Connects all of them through the connection manager.
    pub fn connect(&mut self) {
        let Connecting { engines, qps } = self;
        let memory = Flat::default();
        let mut out = Transmit::new();
        for (n, (qp, peer)) in (0..).zip(qps[0].iter().zip(&qps[1])) {
            let now = Instant(n * 1000);
            let params = ConnectParams {
                qp: *qp,
                path: path(0, PathMtu::Mtu1024),
                local_port: 1000 + n as u16,
                remote_port: 445,
                private_data: &[],
                responder_resources: 1,
                initiator_depth: 1,
            };
            let conn = engines[0].connect(now, &params).unwrap();
            let mut established = 0;
            while established < 2 {
                for side in [0, 1] {
                    while engines[side].poll_transmit(now, &memory, &mut out) {
                        let frame = [&out.header[..], &out.trailer[..]].concat();
                        engines[1 - side].receive(now, &frame, &mut Flat::default());
                    }
                    while let Some(event) = engines[side].poll_event() {
                        match event {
                            Event::ConnectRequest { conn, .. } => {
                                let accept = AcceptParams {
                                    qp: *peer,
                                    path: path(1, PathMtu::Mtu1024),
                                    private_data: &[],
                                    responder_resources: 1,
                                    initiator_depth: 1,
                                };
                                engines[1].accept(now, conn, &accept).unwrap();
                            }
                            Event::Replied { .. } => engines[0].establish(now, conn).unwrap(),
                            Event::Established { .. } => established += 1,
                            _ => {}
                        }
                    }
                }
            }
        }
    }
}

/// Bytes that a connected queue pair takes up, its share of all tables included: what `count` of them do, divided.
pub fn bytes_per_connection(count: u32) -> f64 {
    let mut kept = None;
    let counted = allocation_counter::measure(|| {
        let mut connecting = Connecting::new(count);
        connecting.connect();
        // The ids are not the engine's.
        connecting.qps = [const { Vec::new() }; 2];
        kept = Some(connecting);
    });
    counted.bytes_current as f64 / f64::from(2 * count)
}

/// Queue pairs of one engine, in pairs that are connected with each other.
pub struct Crowd {
    engine: Engine,
    cq: CqId,
    qps: Vec<QpId>,
    rng: Rng,
    now: Instant,
}

impl Crowd {
    pub fn new(qps: u32) -> Crowd {
        let mut engine = Engine::try_new(&Config {
            max_qps: qps,
            max_connections: 4,
            max_inbound_reads: 1,
            ..Config::default()
        })
        .unwrap();
        let pd = engine.create_pd().unwrap();
        let cq = engine.create_cq(64).unwrap();
        let local: Vec<_> = (0..qps)
            .map(|_| {
                let qp = engine.create_qp(&params(pd, cq, 2)).unwrap();
                engine.prepare(qp, None).unwrap()
            })
            .collect();
        for (n, qp) in local.iter().enumerate() {
            let (path, peer) = (path(n % 2, PathMtu::Mtu1024), &local[n ^ 1]);
            let attributes = attributes(path, peer.qpn, peer.psn);
            engine.attach(qp.qp, &attributes).unwrap();
        }
        Crowd {
            engine,
            cq,
            qps: local.iter().map(|l| l.qp).collect(),
            rng: Rng::new(1),
            now: Instant::ZERO,
        }
    }

    /// Sends `count` empty messages, each between two others of the queue pairs.
    pub fn send(&mut self, count: u64) {
        let mut memory = Flat::default();
        let mut out = Transmit::new();
        let mut frame = Vec::with_capacity(256);
        let mut done = [Completion::default(); 4];
        let request = SendRequest {
            context: 0,
            op: SendOp::Send,
            sgl: &[],
            inline: None,
            flags: SendFlags::empty(),
        };
        for _ in 0..count {
            self.now = Instant(self.now.0 + 1000);
            let now = self.now;
            let n = self.rng.next_u32() as usize % self.qps.len();
            let engine = &mut self.engine;
            engine.post_recv(now, self.qps[n ^ 1], 0, &[]).unwrap();
            engine.post_send(now, self.qps[n], &request).unwrap();
            while engine.poll_transmit(now, &memory, &mut out) {
                frame.clear();
                frame.extend_from_slice(&out.header);
                frame.extend_from_slice(&out.trailer);
                engine.receive(now, &frame, &mut memory);
            }
            assert_eq!(engine.poll_cq(self.cq, &mut done), 2);
        }
    }
}
