//! Two engines, a wire between them, and virtual time.
#![allow(dead_code, reason = "each test file uses a part")]

pub mod capture;
pub mod connections;
pub mod host;
pub mod memory;
pub mod network;
pub mod random;
pub mod raw;
pub mod weather;

#[allow(unused_imports, reason = "each test file uses a part")]
pub use host::{ALL, DEPTH, Host, Mr, request};
#[allow(unused_imports, reason = "each test file uses a part")]
pub use network::{Fate, Network, Side};
#[allow(unused_imports, reason = "each test file uses a part")]
pub use weather::{Bottleneck, Bursts, Tally, Weather};

use roce::cm::QpAttributes;
use roce::wire::{Opcode, Packet};
use roce::{Completion, CompletionOp, Config, Instant, Path, PathMtu, Psn, QpId, Rng, Status};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// What a test wants its connection to be like.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub seed: u64,
    pub mtu: PathMtu,
    pub ipv6: bool,
    pub vlan: Option<u16>,
    pub reads: u8,
    pub retry_count: u8,
    pub rnr_retry_count: u8,
    pub ack_timeout: u8,
    /// First PSNs of A and B.
    pub psn: [Option<u32>; 2],
    pub config: Config,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            seed: 1,
            mtu: PathMtu::Mtu1024,
            ipv6: false,
            vlan: None,
            reads: 4,
            retry_count: 7,
            rnr_retry_count: 7,
            ack_timeout: 10,
            psn: [None, None],
            config: Config {
                local_mtu: 4200,
                max_qps: 16,
                max_cqs: 16,
                max_pds: 8,
                max_keys: 64,
                ..Config::default()
            },
        }
    }
}

/// A frame as it left its sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    pub at: Instant,
    pub from: Side,
    pub op: Opcode,
    pub psn: u32,
    pub ack_request: bool,
    pub len: usize,
    pub syndrome: Option<u8>,
    pub reth: Option<roce::wire::Reth>,
}

pub struct Pair {
    pub a: Host,
    pub b: Host,
    pub net: Network,
    pub now: Instant,
    pub log: Vec<Sent>,
    pub setup: Setup,
    /// Work in random batches, as drivers do: some frames are sent or received at a time, and events are not always taken between.
    pub chunks: Option<Rng>,
}

pub const IP_A: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
pub const IP_B: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
pub const MAC_A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
pub const MAC_B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];

impl Setup {
    /// With 256-byte packets.
    pub fn small() -> Setup {
        Setup {
            mtu: PathMtu::Mtu256,
            ..Setup::default()
        }
    }

    /// The way from one side to the other.
    pub fn path(&self, from: Side) -> Path {
        let path = Path {
            vlan: self.vlan,
            ..path(from, self.mtu)
        };
        if !self.ipv6 {
            return path;
        }
        let six = |ip| match ip {
            IpAddr::V4(v4) => IpAddr::V6(v4.to_ipv6_compatible()),
            IpAddr::V6(_) => ip,
        };
        Path {
            src_ip: six(path.src_ip),
            dst_ip: six(path.dst_ip),
            ..path
        }
    }
}

pub fn path(from: Side, mtu: PathMtu) -> Path {
    let (src_mac, dst_mac, src_ip, dst_ip) = match from {
        Side::A => (MAC_A, MAC_B, IP_A, IP_B),
        Side::B => (MAC_B, MAC_A, IP_B, IP_A),
    };
    Path {
        src_mac,
        dst_mac,
        vlan: None,
        src_ip,
        dst_ip,
        hop_limit: 64,
        traffic_class: 0,
        mtu,
    }
}

impl Pair {
    pub fn new(setup: Setup) -> Pair {
        let config = |n| Config {
            seed: u128::from(setup.seed * 2 + n),
            ..setup.config
        };
        Pair {
            a: Host::new(&config(0)),
            b: Host::new(&config(1)),
            net: Network::new(setup.seed),
            now: Instant(1_000_000),
            log: Vec::new(),
            setup,
            chunks: None,
        }
    }

    /// Two hosts and a queue pair on each, attached to one another.
    pub fn attached(setup: Setup) -> (Pair, QpId, QpId) {
        let mut pair = Pair::new(setup);
        let (qa, qb) = pair.attach();
        (pair, qa, qb)
    }

    pub fn host(&mut self, side: Side) -> &mut Host {
        match side {
            Side::A => &mut self.a,
            Side::B => &mut self.b,
        }
    }

    pub fn attributes(&self, from: Side, peer_qpn: u32, send_psn: Psn) -> QpAttributes {
        let s = &self.setup;
        QpAttributes {
            peer_qpn,
            path: s.path(from),
            send_psn,
            retry_count: s.retry_count,
            rnr_retry_count: s.rnr_retry_count,
            ack_timeout: s.ack_timeout,
            responder_resources: s.reads,
            initiator_depth: s.reads,
        }
    }

    /// Creates and attaches one more pair of queue pairs.
    pub fn attach(&mut self) -> (QpId, QpId) {
        let (qa, qb) = (self.a.create_qp(), self.b.create_qp());
        self.attach_these(qa, qb);
        (qa, qb)
    }

    /// Attaches a queue pair of A to one of B.
    pub fn attach_these(&mut self, qa: QpId, qb: QpId) {
        let [from_a, from_b] = self.setup.psn.map(|p| p.map(Psn::new));
        let la = self.a.engine.prepare(qa, from_b).unwrap();
        let lb = self.b.engine.prepare(qb, from_a).unwrap();
        let to_b = self.attributes(Side::A, lb.qpn, lb.psn);
        let to_a = self.attributes(Side::B, la.qpn, la.psn);
        self.a.engine.attach(qa, &to_b).unwrap();
        self.b.engine.attach(qb, &to_a).unwrap();
    }

    /// Sends everything that can be sent now. True if there was something.
    pub fn pump(&mut self) -> bool {
        self.pump_some(usize::MAX)
    }

    /// The same, but not more than so many frames of each side.
    fn pump_some(&mut self, limit: usize) -> bool {
        let mut any = false;
        for side in [Side::A, Side::B] {
            let now = self.now;
            any |= self.reap(side);
            for _ in 0..limit {
                let Some(frame) = self.host(side).transmit(now) else {
                    break;
                };
                any = true;
                let p = Packet::parse(&frame).expect("the engine sent a malformed frame");
                p.verify_icrc().expect("the engine sent a wrong ICRC");
                self.log.push(Sent {
                    at: now,
                    from: side,
                    op: p.bth.opcode,
                    psn: p.bth.psn.get(),
                    ack_request: p.bth.ack_req,
                    len: p.payload.len(),
                    syndrome: p.ext.aeth.map(|a| a.syndrome.to_u8()),
                    reth: p.ext.reth,
                });
                if !self.host(side).nic_late {
                    self.net.send(now, side, frame);
                }
                self.reap(side);
            }
        }
        any
    }

    /// A side's NIC gives back what it is done with. True if it has sent something only now.
    fn reap(&mut self, side: Side) -> bool {
        let now = self.now;
        let host = self.host(side);
        host.reap(now);
        let departed = std::mem::take(&mut host.departed);
        let any = !departed.is_empty();
        for frame in departed {
            self.net.send(now, side, frame);
        }
        any
    }

    /// Takes out what both engines have to say. True if there were events.
    fn collect(&mut self) -> bool {
        let before = self.a.events.len() + self.b.events.len();
        self.a.collect();
        self.b.collect();
        self.a.events.len() + self.b.events.len() > before
    }

    /// How many of something are dealt with at once.
    fn batch(&mut self) -> usize {
        match self.chunks.as_mut().map(|rng| rng.next_u32() % 8) {
            None | Some(7) => usize::MAX,
            Some(n) => n as usize,
        }
    }

    fn takes_events(&mut self) -> bool {
        self.chunks
            .as_mut()
            .is_none_or(|rng| rng.next_u32() % 3 == 0)
    }

    /// Does the next thing that is due, and lets time pass until then. False if nothing will ever happen.
    pub fn step(&mut self, limit: Instant) -> bool {
        let batch = self.batch();
        self.pump_some(batch);
        if self.takes_events() {
            self.collect();
        }
        let next = [
            self.net.next_due(),
            self.a.engine.next_deadline(),
            self.b.engine.next_deadline(),
            self.a.next_reap(),
            self.b.next_reap(),
        ];
        let next = next.into_iter().flatten().min();
        let Some(next) = next.filter(|next| *next <= limit) else {
            // What chance has left over comes before the end.
            if self.chunks.is_some() && (self.pump() | self.collect()) {
                return true;
            }
            if next.is_some() {
                self.now = limit;
            }
            return false;
        };
        self.now = self.now.max(next);
        let now = self.now;
        for _ in 0..self.batch().max(1) {
            let Some((to, frame)) = self.net.receive(now) else {
                break;
            };
            let host = self.host(to);
            host.engine.receive(now, &frame, &mut host.memory);
        }
        for side in [Side::A, Side::B] {
            self.host(side).engine.handle_timeout(now);
        }
        if self.takes_events() {
            self.collect();
        }
        true
    }

    /// Runs until nothing is left to happen, or for `time`.
    pub fn run(&mut self, time: Duration) {
        let limit = self.now.after(time);
        while self.step(limit) {}
        self.pump();
        self.a.collect();
        self.b.collect();
    }

    /// Runs until `done`; panics if that does not come about within `time`.
    pub fn run_until(&mut self, time: Duration, mut done: impl FnMut(&Pair) -> bool) {
        let limit = self.now.after(time);
        while !done(self) {
            assert!(self.step(limit), "did not happen; seed {}", self.setup.seed);
        }
    }

    /// Everything a side sent, as (opcode, PSN).
    pub fn sent(&self, from: Side) -> Vec<(Opcode, u32)> {
        self.log
            .iter()
            .filter(|s| s.from == from)
            .map(|s| (s.op, s.psn))
            .collect()
    }

    /// Opcodes only.
    pub fn ops(&self, from: Side) -> Vec<Opcode> {
        self.log
            .iter()
            .filter(|s| s.from == from)
            .map(|s| s.op)
            .collect()
    }
}

/// (context, status) of each.
pub fn outcomes(completions: &[Completion]) -> Vec<(u64, Status)> {
    completions.iter().map(|c| (c.context, c.status)).collect()
}

/// (context, operation, status) of each.
pub fn ops(completions: &[Completion]) -> Vec<(u64, CompletionOp, Status)> {
    completions
        .iter()
        .map(|c| (c.context, c.op, c.status))
        .collect()
}

/// Bytes that differ from place to place and from one `salt` to another.
pub fn pattern(len: usize, salt: u64) -> Vec<u8> {
    let mut rng = roce::Rng::new(salt);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend(rng.next_u64().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

pub const SECOND: Duration = Duration::from_secs(1);
