//! What is tried: a value that a seed decides, and that can be made simpler.

use crate::util::random::{below, pick};
use crate::util::{Bottleneck, Bursts, Setup, Weather};
use roce::{Config, Dcqcn, Ecn, PathMtu, Rng, SendFlags};
use std::time::Duration;

/// Two hosts, the wire between them, and what they are told to do. Everything else follows from the seeds.
#[derive(Clone, PartialEq, Debug)]
pub struct Case {
    /// Of the engines' numbers, the bytes in memory, and the batches.
    pub seed: u64,
    /// Of the network's chances.
    pub net_seed: u64,
    pub mtu: PathMtu,
    pub ipv6: bool,
    pub vlan: Option<u16>,
    /// With a reaction to marks.
    pub ecn: bool,
    pub reads: u8,
    pub ack_timeout: u8,
    pub psn: [Option<u32>; 2],
    pub send_window: u32,
    pub read_window: u32,
    pub read_chunk: u32,
    pub min_rnr_timer: u8,
    pub max_transmissions: u32,
    pub early_frames: u32,
    /// Work in random batches.
    pub batches: bool,
    /// Of A and B.
    pub nic: [Nic; 2],
    /// Of what A and B send.
    pub weather: [Weather; 2],
    /// One for each connection: whether A and B receive from their shared queue. Connection `n` has the flows `2 n`, which is what A
    /// sends, and `2 n + 1`.
    pub shared: Vec<[bool; 2]>,
    pub ops: Vec<Op>,
}

/// How a NIC treats the frames given to it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Nic {
    /// Nanoseconds for which it holds a frame.
    pub holds: u64,
    /// Frames that it takes.
    pub ring: usize,
    /// It reads and sends a frame only when it gives it back.
    pub late: bool,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Op {
    /// So many nanoseconds pass.
    Run(u32),
    /// The receiver of this flow posts a receive, if it owes one.
    Receive { flow: usize },
    /// The sender of this flow posts a request.
    Post(Post),
    /// The receiver of this flow opens memory to its sender, if it is not open.
    Grant { flow: usize, slot: Slot },
    /// It closes that again, if its sender is not using it.
    Revoke { flow: usize, slot: Slot },
}

/// Memory of a flow's receiver that is open to its sender at times only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slot {
    /// A fast registered key, to write.
    Fast,
    /// A window, to read.
    Window,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Post {
    pub flow: usize,
    pub kind: Kind,
    pub len: u32,
    /// So far from what was sent before, in the source.
    pub at: u32,
    /// A WRITE to where an earlier one of the flow went, if that is long enough.
    pub again: bool,
    /// Where the local memory is cut into elements, in 2^-16 of its length; 0 is no cut.
    pub cuts: [u16; 3],
    /// From memory of the request's own, if it is short enough.
    pub inline: bool,
    /// Through what the receiver has granted, if it has.
    pub granted: bool,
    pub flags: SendFlags,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    Send,
    SendImmediate([u8; 4]),
    /// A plain SEND while the slot is not open.
    SendInvalidate(Slot),
    Write,
    WriteImmediate([u8; 4]),
    Read,
    FetchAdd(u64),
    /// Swaps if `off` is 0.
    CompareSwap {
        swap: u64,
        off: u64,
    },
}

impl Kind {
    pub fn is_send(self) -> bool {
        matches!(
            self,
            Kind::Send | Kind::SendImmediate(_) | Kind::SendInvalidate(_)
        )
    }

    pub fn is_write(self) -> bool {
        matches!(self, Kind::Write | Kind::WriteImmediate(_))
    }

    pub fn is_atomic(self) -> bool {
        matches!(self, Kind::FetchAdd(_) | Kind::CompareSwap { .. })
    }
}

/// Between parts of the source, less than that.
pub const OFFSETS: u32 = 256;

pub const MTUS: [PathMtu; 5] = [
    PathMtu::Mtu256,
    PathMtu::Mtu512,
    PathMtu::Mtu1024,
    PathMtu::Mtu2048,
    PathMtu::Mtu4096,
];

impl Case {
    /// The case of a seed. Most are small; one in sixteen is not.
    pub fn random(seed: u64) -> Case {
        let rng = &mut Rng::new(seed);
        let large = below(rng, 16) == 0;
        let mtu = pick(rng, &MTUS);
        let pairs = if large { 3 } else { pick(rng, &[1, 1, 2]) };
        let flows = pairs * 2;
        let ops = 1 + below(rng, if large { 80 } else { 16 });
        // Now and then one that fills the largest window.
        let packets = match large {
            true if mtu.bytes() <= 512 => pick(rng, &[30, 200]),
            true => 30,
            false => 4,
        };
        Case {
            seed,
            net_seed: seed,
            mtu,
            ipv6: chance(rng, 3),
            vlan: chance(rng, 4).then(|| below(rng, 4096) as u16),
            ecn: chance(rng, 3),
            reads: pick(rng, &[1, 2, 3, 8, 16]),
            ack_timeout: pick(rng, &[8, 9, 11, 14]),
            psn: [(); 2].map(|()| chance(rng, 3).then(|| 0xff_ffff - below(rng, 32))),
            send_window: pick(rng, &[1, 2, 7, 32, 128]),
            read_window: pick(rng, &[1, 8, 64]),
            read_chunk: pick(rng, &[1, 3, 16, 128]),
            min_rnr_timer: below(rng, 32) as u8,
            max_transmissions: pick(rng, &[1, 4, 64, 1024]),
            early_frames: pick(rng, &[0, 4, 256]),
            batches: chance(rng, 2),
            nic: [(); 2].map(|()| Nic {
                holds: pick(rng, &[0, 1_000, 40_000]),
                ring: pick(rng, &[1, 3, 16, 256]),
                late: chance(rng, 2),
            }),
            weather: [(); 2].map(|()| weather(rng)),
            shared: (0..pairs)
                .map(|_| [(); 2].map(|()| chance(rng, 3)))
                .collect(),
            ops: (0..ops)
                .map(|_| Op::random(rng, flows, mtu, packets))
                .collect(),
        }
    }

    pub fn setup(&self) -> Setup {
        Setup {
            seed: self.seed,
            mtu: self.mtu,
            ipv6: self.ipv6,
            vlan: self.vlan,
            reads: self.reads,
            ack_timeout: self.ack_timeout,
            psn: self.psn,
            config: Config {
                send_window: self.send_window,
                read_window: self.read_window,
                read_chunk: self.read_chunk,
                min_rnr_timer: self.min_rnr_timer,
                max_transmissions: self.max_transmissions,
                early_frames: self.early_frames,
                ecn: match self.ecn {
                    true => Ecn::Dcqcn(Dcqcn::default()),
                    false => Ecn::Off,
                },
                max_connections: 4,
                max_listeners: 1,
                ..Setup::default().config
            },
            ..Setup::default()
        }
    }

    pub fn posts(&self) -> impl Iterator<Item = &Post> {
        self.ops.iter().filter_map(|op| match op {
            Op::Post(post) => Some(post),
            _ => None,
        })
    }

    /// Bytes of the longest message.
    pub fn longest(&self) -> u32 {
        self.posts().map(|post| post.len).max().unwrap_or(0)
    }
}

fn chance(rng: &mut Rng, one_in: u32) -> bool {
    below(rng, one_in) == 0
}

impl Op {
    fn random(rng: &mut Rng, flows: usize, mtu: PathMtu, packets: u32) -> Op {
        let flow = below(rng, flows as u32) as usize;
        let slot = pick(rng, &[Slot::Fast, Slot::Window]);
        match below(rng, 16) {
            0..3 => Op::Run(below(rng, 100_000)),
            3..6 => Op::Receive { flow },
            6 => Op::Grant { flow, slot },
            7 if chance(rng, 2) => Op::Revoke { flow, slot },
            _ => Op::Post(Post::random(rng, flow, mtu, packets)),
        }
    }

    /// The flow that it is about.
    pub fn flow_mut(&mut self) -> Option<&mut usize> {
        match self {
            Op::Run(_) => None,
            Op::Post(Post { flow, .. })
            | Op::Receive { flow }
            | Op::Grant { flow, .. }
            | Op::Revoke { flow, .. } => Some(flow),
        }
    }
}

impl Post {
    fn random(rng: &mut Rng, flow: usize, mtu: PathMtu, packets: u32) -> Post {
        let slot = pick(rng, &[Slot::Fast, Slot::Window]);
        let immediate = rng.next_u32().to_be_bytes();
        let kind = match below(rng, 11) {
            0 | 1 => Kind::Send,
            2 => Kind::SendImmediate(immediate),
            3 => Kind::SendInvalidate(slot),
            4 | 5 => Kind::Write,
            6 => Kind::WriteImmediate(immediate),
            7 | 8 => Kind::Read,
            9 => Kind::FetchAdd(rng.next_u64()),
            _ => Kind::CompareSwap {
                swap: rng.next_u64(),
                off: u64::from(below(rng, 2)),
            },
        };
        let mtu = mtu.bytes();
        let len = match below(rng, 8) {
            _ if kind.is_atomic() => 8,
            0 => 0,
            1 => 1 + below(rng, 8),
            2 => below(rng, mtu * packets),
            3 => mtu * below(rng, packets),
            4 | 5 => mtu * (1 + below(rng, 3)) + below(rng, 3) - 1,
            _ => below(rng, 2 * mtu),
        };
        let mut cuts = [(); 3].map(|()| rng.next_u32() as u16 * u16::from(chance(rng, 2)));
        cuts.sort_unstable();
        let mut flags = SendFlags::empty();
        for flag in [SendFlags::SILENT, SendFlags::FENCE, SendFlags::SOLICITED] {
            if chance(rng, 4) {
                flags |= flag;
            }
        }
        Post {
            flow,
            kind,
            len,
            at: below(rng, OFFSETS),
            again: chance(rng, 4),
            cuts,
            inline: chance(rng, 2),
            granted: chance(rng, 2),
            flags,
        }
    }
}

/// Such that a connection with seven retries outlives it: what lasts lasts shorter than the shortest timeout.
fn weather(rng: &mut Rng) -> Weather {
    let storm = below(rng, 4);
    let mut per_mille = |max| match storm {
        0 => 0,
        _ => below(rng, max),
    };
    let [loss, corruption, duplication] = [60, 30, 60].map(&mut per_mille);
    Weather {
        bottleneck: chance(rng, 4).then(|| Bottleneck {
            rate: pick(rng, &[1_000_000_000, 10_000_000_000]),
            queue: pick(rng, &[10_000, 64_000]),
            mark_above: chance(rng, 2).then_some(5_000),
        }),
        loss,
        bursts: (storm == 3 && chance(rng, 2)).then(|| Bursts {
            begin: 1 + below(rng, 20),
            end: 100 + below(rng, 400),
            loss: 500 + below(rng, 501),
            longest: Duration::from_micros(200),
        }),
        corruption,
        duplication,
        delay: Duration::from_micros(pick(rng, &[0, 1, 5, 20, 100])),
        jitter: Duration::from_nanos(match storm {
            0 | 1 => 0,
            _ => u64::from(below(rng, 30_000)),
        }),
    }
}
