//! How fast two engines in one thread exchange data. The "wire" is one copy of each frame into a buffer.
//!
//! `cargo bench -p roce` prints a table; numbers are per machine and decide nothing.

use roce::cm::QpAttributes;
use roce::{
    AcceptParams, Access, Atomic, Completion, Config, ConnectParams, CqId, Engine, Event, Fault,
    Instant, Memory, MrKey, Path, PathMtu, QpId, QpParams, RegionId, SendFlags, SendOp,
    SendRequest, Sge, Transmit,
};

/// One region.
struct Flat(Vec<u8>);

impl Memory for Flat {
    fn write(&mut self, _: RegionId, offset: u64, data: &[u8]) -> Result<(), Fault> {
        let at = offset as usize;
        self.0
            .get_mut(at..at + data.len())
            .ok_or(Fault)?
            .copy_from_slice(data);
        Ok(())
    }

    fn atomic(&mut self, _: RegionId, _: u64, _: Atomic) -> Result<u64, Fault> {
        Err(Fault)
    }

    fn visit(
        &self,
        _: RegionId,
        offset: u64,
        len: u32,
        f: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Fault> {
        let at = offset as usize;
        f(self.0.get(at..at + len as usize).ok_or(Fault)?);
        Ok(())
    }
}

struct End {
    engine: Engine,
    memory: Flat,
    cq: CqId,
    qp: QpId,
    key: MrKey,
    out: Transmit,
}

const REGION: usize = 4 << 20;

fn end(seed: u128) -> End {
    let mut engine = Engine::try_new(&Config {
        seed,
        // For every path MTU there is.
        local_mtu: 4200,
        ..Config::default()
    })
    .unwrap();
    let pd = engine.create_pd().unwrap();
    let cq = engine.create_cq(8192).unwrap();
    let access = Access::LOCAL_WRITE | Access::REMOTE_READ | Access::REMOTE_WRITE;
    let key = engine
        .register(pd, 0, REGION as u64, access, RegionId(0))
        .unwrap();
    let qp = engine
        .create_qp(&QpParams {
            pd,
            send_cq: cq,
            recv_cq: cq,
            srq: None,
            sq_depth: 256,
            rq_depth: 256,
            max_send_sge: 4,
            max_recv_sge: 4,
            max_read_sge: 4,
            max_inline: 64,
            atomics: false,
            context: 0,
        })
        .unwrap();
    End {
        engine,
        memory: Flat(vec![7; REGION]),
        cq,
        qp,
        key,
        out: Transmit::new(),
    }
}

fn pair(mtu: PathMtu) -> [End; 2] {
    let mut ends = [end(1), end(2)];
    let ips = ["10.0.0.1", "10.0.0.2"].map(|a| a.parse().unwrap());
    let macs = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
    let local = ends
        .each_mut()
        .map(|e| e.engine.prepare(e.qp, None).unwrap());
    for i in 0..2 {
        let peer = 1 - i;
        let path = Path {
            src_mac: macs[i],
            dst_mac: macs[peer],
            vlan: None,
            src_ip: ips[i],
            dst_ip: ips[peer],
            hop_limit: 64,
            traffic_class: 0,
            mtu,
        };
        let attributes = QpAttributes {
            peer_qpn: local[peer].qpn,
            path,
            send_psn: local[peer].psn,
            retry_count: 7,
            rnr_retry_count: 7,
            ack_timeout: 14,
            responder_resources: 16,
            initiator_depth: 16,
        };
        let qp = ends[i].qp;
        ends[i].engine.attach(qp, &attributes).unwrap();
    }
    ends
}

/// Moves what `from` has to say, at most `burst` frames, to `to`. Gives how many.
fn carry(now: Instant, from: &mut End, to: &mut End, frame: &mut Vec<u8>, burst: usize) -> usize {
    let mut n = 0;
    while n < burst && from.engine.poll_transmit(now, &from.memory, &mut from.out) {
        let out = &from.out;
        frame.clear();
        frame.extend_from_slice(&out.header);
        for p in &out.pieces {
            let at = p.offset as usize;
            frame.extend_from_slice(&from.memory.0[at..at + p.len as usize]);
        }
        frame.extend_from_slice(&out.trailer);
        if let Some(token) = out.token {
            from.engine.transmitted(now, token);
        }
        to.engine.receive(now, frame, &mut to.memory);
        n += 1;
    }
    n
}

/// Keeps `depth` requests of `len` bytes outstanding until `count` are done. Gives the seconds it took and the frames.
fn run(mtu: PathMtu, op: &str, len: u32, depth: u64, count: u64) -> (f64, usize) {
    let [mut a, mut b] = pair(mtu);
    let (remote_va, rkey) = (0, b.key.0);
    let request = match op {
        "write" => SendOp::Write { remote_va, rkey },
        "read" => SendOp::Read { remote_va, rkey },
        _ => SendOp::Send,
    };
    let mut frame = Vec::with_capacity(5000);
    let mut done = [Completion::default(); 64];
    let (mut posted, mut completed, mut received, mut frames) = (0, 0, 0, 0);
    let start = std::time::Instant::now();
    while completed < count {
        let now = Instant(start.elapsed().as_nanos() as u64);
        while op == "send" && received < completed + 128 {
            b.engine
                .post_recv(
                    now,
                    b.qp,
                    0,
                    &[Sge {
                        key: b.key.0,
                        va: 0,
                        len,
                    }],
                )
                .unwrap();
            received += 1;
        }
        while posted < count && posted - completed < depth {
            let sgl = [Sge {
                key: a.key.0,
                va: 0,
                len,
            }];
            let request = SendRequest {
                context: posted,
                op: request,
                sgl: &sgl,
                inline: None,
                flags: SendFlags::empty(),
            };
            a.engine.post_send(now, a.qp, &request).unwrap();
            posted += 1;
        }
        frames += carry(now, &mut a, &mut b, &mut frame, 64);
        frames += carry(now, &mut b, &mut a, &mut frame, 64);
        a.engine.handle_timeout(now);
        b.engine.handle_timeout(now);
        completed += a.engine.poll_cq(a.cq, &mut done) as u64;
        b.engine.poll_cq(b.cq, &mut done);
    }
    (start.elapsed().as_secs_f64(), frames)
}

/// Bytes of memory that this process has in use, where the system tells.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    statm
        .split(' ')
        .nth(1)?
        .parse::<u64>()
        .ok()
        .map(|n| n * 4096)
}

/// What a connected queue pair takes up, its share of all tables included, and what connecting `count` of them one after another through the connection manager costs.
fn many_connections(count: u32, depth: u32) {
    let config = |seed| Config {
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
    let before = resident();
    let mut engines = [1, 2].map(|seed| Engine::try_new(&config(seed)).unwrap());
    let memory = Flat(Vec::new());
    let params = engines.each_mut().map(|engine| {
        let pd = engine.create_pd().unwrap();
        let cq = engine.create_cq(64).unwrap();
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
    });
    let ips = ["10.0.0.1", "10.0.0.2"].map(|a| a.parse().unwrap());
    let path = |from: usize| Path {
        src_mac: [2, 0, 0, 0, 0, from as u8],
        dst_mac: [2, 0, 0, 0, 0, 1 - from as u8],
        vlan: None,
        src_ip: ips[from],
        dst_ip: ips[1 - from],
        hop_limit: 64,
        traffic_class: 0,
        mtu: PathMtu::Mtu1024,
    };
    engines[1].listen(ips[1], 445).unwrap();
    let mut qps = [0, 1].map(|side: usize| {
        let engine = &mut engines[side];
        (0..count)
            .map(|_| engine.create_qp(&params[side]).unwrap())
            .collect::<Vec<_>>()
            .into_iter()
    });
    let mut out = Transmit::new();
    let mut frames = 0;
    let start = std::time::Instant::now();
    for n in 0..count {
        let now = Instant(u64::from(n) * 1000);
        let qp = qps[0].next().unwrap();
        let conn = engines[0]
            .connect(
                now,
                &ConnectParams {
                    qp,
                    path: path(0),
                    local_port: 1000 + n as u16,
                    remote_port: 445,
                    private_data: &[],
                    responder_resources: 1,
                    initiator_depth: 1,
                },
            )
            .unwrap();
        let mut established = 0;
        while established < 2 {
            for side in [0, 1] {
                while engines[side].poll_transmit(now, &memory, &mut out) {
                    frames += 1;
                    let frame = [&out.header[..], &out.trailer[..]].concat();
                    engines[1 - side].receive(now, &frame, &mut Flat(Vec::new()));
                }
                while let Some(event) = engines[side].poll_event() {
                    match event {
                        Event::ConnectRequest { conn, .. } => {
                            let accept = AcceptParams {
                                qp: qps[1].next().unwrap(),
                                path: path(1),
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
    let seconds = start.elapsed().as_secs_f64();
    let bytes = match (before, resident()) {
        (Some(before), Some(after)) => {
            format!("{}", after.saturating_sub(before) / u64::from(2 * count))
        }
        _ => "?".to_owned(),
    };
    println!(
        "{count} connections: {bytes} bytes per connected queue pair of 2 x {depth} requests, {} frames per connection, {:.0} connections/s",
        frames / count,
        f64::from(count) / seconds,
    );
}

/// Sends `count` messages, each between two others of `qps` queue pairs of one engine: what it takes to find them.
fn many_queue_pairs(qps: u32, count: u64) {
    let mut engine = Engine::try_new(&Config {
        max_qps: qps,
        max_connections: 4,
        max_inbound_reads: 1,
        ..Config::default()
    })
    .unwrap();
    let pd = engine.create_pd().unwrap();
    let cq = engine.create_cq(64).unwrap();
    let params = QpParams {
        pd,
        send_cq: cq,
        recv_cq: cq,
        srq: None,
        sq_depth: 2,
        rq_depth: 2,
        max_send_sge: 1,
        max_recv_sge: 1,
        max_read_sge: 1,
        max_inline: 0,
        atomics: false,
        context: 0,
    };
    let local: Vec<_> = (0..qps)
        .map(|_| {
            let qp = engine.create_qp(&params).unwrap();
            engine.prepare(qp, None).unwrap()
        })
        .collect();
    let ips = ["10.0.0.1", "10.0.0.2"].map(|a| a.parse().unwrap());
    for (n, qp) in local.iter().enumerate() {
        let peer = &local[n ^ 1];
        let attributes = QpAttributes {
            peer_qpn: peer.qpn,
            path: Path {
                src_mac: [2; 6],
                dst_mac: [2; 6],
                vlan: None,
                src_ip: ips[n % 2],
                dst_ip: ips[1 - n % 2],
                hop_limit: 64,
                traffic_class: 0,
                mtu: PathMtu::Mtu1024,
            },
            send_psn: peer.psn,
            retry_count: 7,
            rnr_retry_count: 7,
            ack_timeout: 14,
            responder_resources: 1,
            initiator_depth: 1,
        };
        engine.attach(qp.qp, &attributes).unwrap();
    }
    let mut memory = Flat(Vec::new());
    let mut out = Transmit::new();
    let mut frame = Vec::with_capacity(256);
    let mut done = [Completion::default(); 4];
    let mut rng = roce::Rng::new(1);
    let request = SendRequest {
        context: 0,
        op: SendOp::Send,
        sgl: &[],
        inline: None,
        flags: SendFlags::empty(),
    };
    let mut frames = 0;
    let start = std::time::Instant::now();
    for _ in 0..count {
        let now = Instant(start.elapsed().as_nanos() as u64);
        let n = (rng.next_u32() % qps) as usize;
        engine.post_recv(now, local[n ^ 1].qp, 0, &[]).unwrap();
        engine.post_send(now, local[n].qp, &request).unwrap();
        while engine.poll_transmit(now, &memory, &mut out) {
            frames += 1;
            frame.clear();
            frame.extend_from_slice(&out.header);
            frame.extend_from_slice(&out.trailer);
            engine.receive(now, &frame, &mut memory);
        }
        assert_eq!(engine.poll_cq(cq, &mut done), 2);
    }
    println!(
        "{qps} queue pairs: {:.0} ns per frame",
        start.elapsed().as_secs_f64() * 1e9 / f64::from(frames)
    );
}

fn main() {
    // `cargo test --benches` runs this too; then once around is enough.
    let quick = !std::env::args().any(|a| a == "--bench");
    // First, before memory that was used and given back blurs the figure.
    many_connections(if quick { 20 } else { 10_000 }, 16);
    for qps in [2, 1000, 10_000, 100_000] {
        if quick {
            many_queue_pairs(2, 4);
        } else {
            many_queue_pairs(qps, 1_000_000);
        }
    }
    println!(
        "{:<6} {:>8} {:>6} {:>10} {:>10} {:>10}",
        "op", "bytes", "mtu", "GB/s", "ns/op", "ns/frame"
    );
    for (op, len, mtu, count) in [
        ("write", 1 << 20, PathMtu::Mtu4096, 8192u64),
        ("read", 1 << 20, PathMtu::Mtu4096, 8192),
        ("send", 1 << 20, PathMtu::Mtu4096, 8192),
        ("write", 1 << 20, PathMtu::Mtu1024, 4096),
        ("write", 64, PathMtu::Mtu1024, 2_000_000),
        ("read", 64, PathMtu::Mtu1024, 1_000_000),
        ("send", 64, PathMtu::Mtu1024, 2_000_000),
    ] {
        let count = if quick { 4 } else { count };
        let (seconds, frames) = run(mtu, op, len, 32, count);
        println!(
            "{op:<6} {len:>8} {:>6} {:>10.2} {:>10.0} {:>10.0}",
            mtu.bytes(),
            f64::from(len) * count as f64 / seconds / 1e9,
            seconds * 1e9 / count as f64,
            seconds * 1e9 / frames as f64,
        );
    }
}
