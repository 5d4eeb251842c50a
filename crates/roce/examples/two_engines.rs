//! Two engines in one process, a wire between them that loses every tenth frame, and an RDMA WRITE of 64 KiB.
//!
//! ```text
//! cargo run --package roce --example two_engines
//! ```
//!
//! It shows all that an owner of an engine has to do: give it memory, frames and the time, and ask it for frames, events, completions and
//! its next deadline. A driver does the same with a NIC, a clock and interrupts.

use roce::{
    AcceptParams, Access, Atomic, Completion, Config, ConnectParams, CqId, Engine, Event, Fault,
    Instant, Memory, Path, PathMtu, PdId, QpId, QpParams, RegionId, SendFlags, SendOp, SendRequest,
    Sge, Transmit,
};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

const LEN: u32 = 64 * 1024;
const PORT: u16 = 4420;
/// Where both sides' regions begin in the addresses that keys speak of.
const BASE: u64 = 0x10_0000;
/// How long a frame is on its way.
const WIRE: u64 = 10_000;

/// Registered memory: here, one vector for each region.
struct Regions(Vec<Vec<u8>>);

impl Regions {
    fn range(&self, region: RegionId, offset: u64, len: usize) -> Result<Range<usize>, Fault> {
        let size = self.0.get(region.0 as usize).ok_or(Fault)?.len();
        let start = usize::try_from(offset).map_err(|_| Fault)?;
        let end = start.checked_add(len).ok_or(Fault)?;
        (end <= size).then_some(start..end).ok_or(Fault)
    }
}

impl Memory for Regions {
    fn write(&mut self, region: RegionId, offset: u64, data: &[u8]) -> Result<(), Fault> {
        let range = self.range(region, offset, data.len())?;
        self.0[region.0 as usize][range].copy_from_slice(data);
        Ok(())
    }

    fn atomic(&mut self, region: RegionId, offset: u64, operation: Atomic) -> Result<u64, Fault> {
        let range = self.range(region, offset, 8)?;
        let bytes = &mut self.0[region.0 as usize][range];
        let before = u64::from_ne_bytes(bytes.try_into().map_err(|_| Fault)?);
        bytes.copy_from_slice(&operation.result(before).to_ne_bytes());
        Ok(before)
    }

    fn visit(
        &self,
        region: RegionId,
        offset: u64,
        len: u32,
        f: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Fault> {
        let range = self.range(region, offset, len as usize)?;
        f(&self.0[region.0 as usize][range]);
        Ok(())
    }
}

/// One machine: an engine and what it works with.
struct Host {
    name: &'static str,
    path: Path,
    engine: Engine,
    memory: Regions,
    pd: PdId,
    cq: CqId,
    qp: QpId,
    /// Frames on their way here, with when they arrive.
    incoming: Vec<(Instant, Vec<u8>)>,
}

impl Host {
    fn new(name: &'static str, number: u8, peer: u8, bytes: Vec<u8>) -> Host {
        let mac = |n| [2, 0, 0, 0, 0, n];
        let ip = |n| IpAddr::V4(Ipv4Addr::new(192, 0, 2, n));
        let path = Path {
            src_mac: mac(number),
            dst_mac: mac(peer),
            vlan: None,
            src_ip: ip(number),
            dst_ip: ip(peer),
            hop_limit: 64,
            traffic_class: 0,
            mtu: PathMtu::for_link(1500),
        };
        // The seed is to be nobody's to guess: a driver takes it from the system's source of random numbers.
        let config = Config {
            seed: u128::from(number),
            guid: u64::from(number),
            ..Config::default()
        };
        let mut engine = Engine::try_new(&config).expect("memory for an engine");
        engine.set_addresses([path.src_ip]);
        let pd = engine.create_pd().expect("a protection domain");
        let cq = engine.create_cq(16).expect("a completion queue");
        let qp = engine
            .create_qp(&QpParams {
                pd,
                send_cq: cq,
                recv_cq: cq,
                srq: None,
                sq_depth: 8,
                rq_depth: 8,
                max_send_sge: 1,
                max_recv_sge: 1,
                max_read_sge: 1,
                max_inline: 0,
                atomics: false,
                context: 0,
            })
            .expect("a queue pair");
        Host {
            name,
            path,
            engine,
            memory: Regions(vec![bytes]),
            pd,
            cq,
            qp,
            incoming: Vec::new(),
        }
    }

    /// Opens the region to the peer, or not, and gives its key.
    fn register(&mut self, access: Access) -> u32 {
        let key = self
            .engine
            .register(self.pd, BASE, u64::from(LEN), access, RegionId(0));
        key.expect("a key").0
    }

    /// Everything that the engine wants to send now. Whoever has a NIC hands it `pieces` as descriptors, and calls `transmitted` when it has
    /// given them back; here the frame is copied together, and that is that.
    fn send_to(&mut self, now: Instant, peer: &mut Host, wire: &mut Wire) {
        let mut frame = Transmit::new();
        while self.engine.poll_transmit(now, &self.memory, &mut frame) {
            let mut bytes = frame.header.to_vec();
            for piece in &frame.pieces {
                self.memory
                    .visit(piece.region, piece.offset, piece.len, &mut |part| {
                        bytes.extend(part);
                    })
                    .expect("the engine stays inside of what was registered");
            }
            bytes.extend(&frame.trailer);
            if let Some(token) = frame.token.take() {
                self.engine.transmitted(now, token);
            }
            if wire.takes_one() {
                peer.incoming.push((now.after_nanos(WIRE), bytes));
            }
        }
    }

    /// What has arrived, and deadlines that have passed.
    fn catch_up(&mut self, now: Instant) {
        let late = self.incoming.iter().position(|(at, _)| *at > now);
        let late = late.unwrap_or(self.incoming.len());
        for (_, frame) in self.incoming.drain(..late) {
            self.engine.receive(now, &frame, &mut self.memory);
        }
        if self.engine.next_deadline().is_some_and(|at| at <= now) {
            self.engine.handle_timeout(now);
        }
    }

    /// When there is something to do again.
    fn next(&self) -> Option<Instant> {
        let frame = self.incoming.first().map(|(at, _)| *at);
        [frame, self.engine.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }
}

/// Loses every tenth frame.
#[derive(Default)]
struct Wire {
    frames: u32,
    lost: u32,
}

impl Wire {
    fn takes_one(&mut self) -> bool {
        self.frames += 1;
        let lost = self.frames.is_multiple_of(10);
        self.lost += u32::from(lost);
        !lost
    }
}

fn main() {
    let data: Vec<u8> = (0..LEN).map(|i| (i % 251) as u8).collect();
    let mut client = Host::new("client", 1, 2, data.clone());
    let mut server = Host::new("server", 2, 1, vec![0; LEN as usize]);
    let mut wire = Wire::default();
    let mut now = Instant::ZERO;

    let address = server.path.src_ip;
    server.engine.listen(address, PORT).expect("the port");
    let connect = ConnectParams {
        qp: client.qp,
        path: client.path,
        local_port: 50_000,
        remote_port: PORT,
        private_data: b"hello",
        responder_resources: 0,
        initiator_depth: 0,
    };
    client.engine.connect(now, &connect).expect("a connection");

    loop {
        for host in [&mut client, &mut server] {
            host.catch_up(now);
            while let Some(event) = host.engine.poll_event() {
                println!("{:>9.3} ms  {}: {event:?}", now.0 as f64 / 1e6, host.name);
                react(host, now, event);
            }
        }
        let mut done = [Completion::default(); 1];
        if client.engine.poll_cq(client.cq, &mut done) == 1 {
            println!("{:>9.3} ms  client: {:?}", now.0 as f64 / 1e6, done[0]);
            break;
        }
        client.send_to(now, &mut server, &mut wire);
        server.send_to(now, &mut client, &mut wire);
        now = [client.next(), server.next()]
            .into_iter()
            .flatten()
            .min()
            .expect("somebody always waits for something until the end")
            .max(now);
    }
    assert_eq!(server.memory.0[0], data, "it arrived");
    let counters = client.engine.counters();
    println!(
        "{LEN} bytes are there. Frames: {}, lost: {}. Times the client went back: {}, of these after a timeout: {}.",
        wire.frames, wire.lost, counters.retransmissions, counters.timeouts
    );
}

fn react(host: &mut Host, now: Instant, event: Event) {
    match event {
        Event::ConnectRequest { conn, .. } => {
            let key = host.register(Access::LOCAL_WRITE | Access::REMOTE_WRITE);
            let accept = AcceptParams {
                qp: host.qp,
                path: host.path,
                private_data: &key.to_be_bytes(),
                responder_resources: 0,
                initiator_depth: 0,
            };
            host.engine.accept(now, conn, &accept).expect("to accept");
        }
        Event::Replied { conn } => {
            // The server has said in its acceptance by which key it may be written to.
            let info = host.engine.connection(conn).expect("its connection");
            let rkey = *info.private_data.first_chunk().expect("four bytes");
            host.engine.establish(now, conn).expect("to establish");
            let write = SendRequest {
                context: 7,
                op: SendOp::Write {
                    remote_va: BASE,
                    rkey: u32::from_be_bytes(rkey),
                },
                sgl: &[Sge {
                    key: host.register(Access::empty()),
                    va: BASE,
                    len: LEN,
                }],
                inline: None,
                flags: SendFlags::empty(),
            };
            host.engine
                .post_send(now, host.qp, &write)
                .expect("to post");
        }
        Event::Established { .. } => {}
        other => panic!("{}: {other:?}", host.name),
    }
}
