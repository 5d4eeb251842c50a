//! Two engines in one thread. The "wire" is one copy of each frame into a buffer, and loses nothing.

use roce::cm::QpAttributes;
use roce::{
    Access, Atomic, Completion, Config, CqId, Crc32, Engine, Fault, Instant, Memory, MrKey, Path,
    PathMtu, QpId, QpParams, RegionId, SendFlags, SendOp, SendRequest, Sge, Status, Transmit,
};
use std::collections::VecDeque;
use std::net::IpAddr;

/// One region.
#[derive(Default)]
pub struct Flat {
    bytes: Vec<u8>,
    /// Cannot place payload in the pass over it that computes the CRC: that takes one of its own.
    two_passes: bool,
}

impl Flat {
    fn range(&mut self, offset: u64, len: usize) -> Result<&mut [u8], Fault> {
        let at = offset as usize;
        self.bytes.get_mut(at..at + len).ok_or(Fault)
    }
}

impl Memory for Flat {
    fn write(&mut self, _: RegionId, offset: u64, data: &[u8]) -> Result<(), Fault> {
        self.range(offset, data.len())?.copy_from_slice(data);
        Ok(())
    }

    fn place(
        &mut self,
        _: RegionId,
        offset: u64,
        data: &[u8],
        crc: &mut Crc32,
    ) -> Result<(), Fault> {
        if self.two_passes {
            return Err(Fault);
        }
        crc.copy(data, self.range(offset, data.len())?);
        Ok(())
    }

    fn atomic(&mut self, _: RegionId, offset: u64, operation: Atomic) -> Result<u64, Fault> {
        let place = self.range(offset, 8)?;
        let original = u64::from_ne_bytes((&*place).try_into().map_err(|_| Fault)?);
        let new = match operation {
            Atomic::CompareSwap { compare, swap } if original == compare => swap,
            Atomic::CompareSwap { .. } => original,
            Atomic::FetchAdd { add } => original.wrapping_add(add),
        };
        place.copy_from_slice(&new.to_ne_bytes());
        Ok(original)
    }

    fn visit(
        &self,
        _: RegionId,
        offset: u64,
        len: u32,
        f: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Fault> {
        let at = offset as usize;
        f(self.bytes.get(at..at + len as usize).ok_or(Fault)?);
        Ok(())
    }
}

/// Addresses of two hosts.
pub fn ips() -> [IpAddr; 2] {
    [1, 2].map(|n| [10, 0, 0, n].into())
}

/// From one of the two to the other.
pub fn path(from: usize, mtu: PathMtu) -> Path {
    let mac = |n: usize| [2, 0, 0, 0, 0, n as u8];
    Path {
        src_mac: mac(from),
        dst_mac: mac(1 - from),
        vlan: None,
        src_ip: ips()[from],
        dst_ip: ips()[1 - from],
        hop_limit: 64,
        traffic_class: 0,
        mtu,
    }
}

/// Attributes of a connection made by hand.
pub fn attributes(path: Path, peer_qpn: u32, send_psn: roce::Psn) -> QpAttributes {
    QpAttributes {
        peer_qpn,
        path,
        send_psn,
        retry_count: 7,
        rnr_retry_count: 7,
        ack_timeout: 14,
        responder_resources: 16,
        initiator_depth: 16,
    }
}

/// What a benchmark does.
#[derive(Clone, Copy)]
pub enum Op {
    Send,
    SendImmediate,
    /// What it invalidates has been registered for it.
    SendInvalidate,
    Write,
    WriteImmediate,
    Read,
    CompareSwap,
    FetchAdd,
}

impl Op {
    fn request(self, rkey: u32) -> SendOp {
        let remote_va = 0;
        let immediate = [1; 4];
        match self {
            Op::Send => SendOp::Send,
            Op::SendImmediate => SendOp::SendImmediate(immediate),
            Op::SendInvalidate => SendOp::SendInvalidate(rkey),
            Op::Write => SendOp::Write { remote_va, rkey },
            Op::WriteImmediate => SendOp::WriteImmediate {
                remote_va,
                rkey,
                immediate,
            },
            Op::Read => SendOp::Read { remote_va, rkey },
            Op::CompareSwap => SendOp::CompareSwap {
                remote_va,
                rkey,
                compare: 0,
                swap: 1,
            },
            Op::FetchAdd => SendOp::FetchAdd {
                remote_va,
                rkey,
                add: 1,
            },
        }
    }

    fn receives(self) -> bool {
        matches!(
            self,
            Op::Send | Op::SendImmediate | Op::SendInvalidate | Op::WriteImmediate
        )
    }
}

struct End {
    engine: Engine,
    memory: Flat,
    cq: CqId,
    qp: QpId,
    key: MrKey,
    /// Entries for fast registrations, which have their turns.
    entries: VecDeque<MrKey>,
    out: Transmit,
}

const REGION: usize = 1 << 20;
/// Requests outstanding.
const DEPTH: u64 = 32;
/// Receives posted.
const RECEIVES: u64 = 128;
/// Frames that one end sends before the other has its turn.
const BURST: usize = 64;

impl End {
    fn new(seed: u128) -> End {
        let mut engine = Engine::try_new(&Config {
            seed,
            // For every path MTU there is.
            local_mtu: 4200,
            ..Config::default()
        })
        .unwrap();
        let pd = engine.create_pd().unwrap();
        let cq = engine.create_cq(8192).unwrap();
        let access = Access::LOCAL_WRITE
            | Access::REMOTE_READ
            | Access::REMOTE_WRITE
            | Access::REMOTE_ATOMIC;
        let key = engine
            .register(pd, 0, REGION as u64, access, RegionId(0))
            .unwrap();
        let entries = (0..2 * DEPTH)
            .map(|_| engine.register_fast(pd, true).unwrap())
            .collect();
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
                atomics: true,
                context: 0,
            })
            .unwrap();
        End {
            engine,
            memory: Flat {
                bytes: vec![7; REGION],
                two_passes: false,
            },
            cq,
            qp,
            key,
            entries,
            out: Transmit::new(),
        }
    }

    fn local(&self, len: u32) -> [Sge; 1] {
        [Sge {
            key: self.key.0,
            va: 0,
            len,
        }]
    }

    /// Posts a registration of all memory, whose completion is not to be heard of. Gives its key.
    fn open(&mut self, now: Instant) -> u32 {
        let entry = self.entries.pop_front().unwrap();
        let registration = SendRequest {
            context: 0,
            op: SendOp::FastRegister {
                key: entry,
                base: 0,
                len: REGION as u64,
                access: Access::REMOTE_READ,
                region: RegionId(0),
            },
            sgl: &[],
            inline: None,
            flags: SendFlags::SILENT,
        };
        let key = self.engine.post_send(now, self.qp, &registration);
        let key = key.unwrap().unwrap();
        self.entries.push_back(key);
        key.0
    }

    /// Takes completions, and gives how many there were.
    fn reap(&mut self) -> u64 {
        let mut done = [Completion::default(); 64];
        let n = self.engine.poll_cq(self.cq, &mut done);
        assert!(done.iter().all(|c| c.status == Status::Success));
        n as u64
    }
}

/// Two connected ends.
pub struct Pair {
    a: End,
    b: End,
    frame: Vec<u8>,
    now: Instant,
    /// Receives that B has posted and that are not used up.
    receives: u64,
}

impl Pair {
    pub fn new(mtu: PathMtu) -> Pair {
        let mut ends = [1, 2].map(End::new);
        let local = ends
            .each_mut()
            .map(|e| e.engine.prepare(e.qp, None).unwrap());
        for (i, end) in ends.iter_mut().enumerate() {
            let attributes = attributes(path(i, mtu), local[1 - i].qpn, local[1 - i].psn);
            end.engine.attach(end.qp, &attributes).unwrap();
        }
        let [a, b] = ends;
        Pair {
            a,
            b,
            frame: Vec::with_capacity(5000),
            now: Instant::ZERO,
            receives: 0,
        }
    }

    /// The same, with received payload read twice.
    pub fn with_two_passes(mtu: PathMtu) -> Pair {
        let mut pair = Pair::new(mtu);
        for end in [&mut pair.a, &mut pair.b] {
            end.memory.two_passes = true;
        }
        pair
    }

    /// Does `count` requests of `len` bytes to their end, several of them at a time.
    pub fn transfer(&mut self, op: Op, len: u32, count: u64) {
        let (mut posted, mut completed) = (0, 0);
        while completed < count {
            self.now = Instant(self.now.0 + 1000);
            let now = self.now;
            while op.receives() && self.receives < RECEIVES {
                let sgl = self.b.local(len);
                self.b.engine.post_recv(now, self.b.qp, 0, &sgl).unwrap();
                self.receives += 1;
            }
            while posted < count && posted - completed < DEPTH {
                let rkey = match op {
                    Op::SendInvalidate => self.b.open(now),
                    _ => self.b.key.0,
                };
                let request = SendRequest {
                    context: posted,
                    op: op.request(rkey),
                    sgl: &self.a.local(len),
                    inline: None,
                    flags: SendFlags::empty(),
                };
                self.a.engine.post_send(now, self.a.qp, &request).unwrap();
                posted += 1;
            }
            if matches!(op, Op::SendInvalidate) {
                // Has what has been registered executed.
                carry(now, &mut self.b, &mut self.a, &mut self.frame);
            }
            carry(now, &mut self.a, &mut self.b, &mut self.frame);
            carry(now, &mut self.b, &mut self.a, &mut self.frame);
            self.a.engine.handle_timeout(now);
            self.b.engine.handle_timeout(now);
            completed += self.a.reap();
            self.receives -= self.b.reap();
        }
    }
}

/// Moves what `from` has to say to `to`.
fn carry(now: Instant, from: &mut End, to: &mut End, frame: &mut Vec<u8>) {
    for _ in 0..BURST {
        if !from.engine.poll_transmit(now, &from.memory, &mut from.out) {
            return;
        }
        let out = &from.out;
        frame.clear();
        frame.extend_from_slice(&out.header);
        for p in &out.pieces {
            let at = p.offset as usize;
            frame.extend_from_slice(&from.memory.bytes[at..at + p.len as usize]);
        }
        frame.extend_from_slice(&out.trailer);
        if let Some(token) = out.token {
            from.engine.transmitted(now, token);
        }
        to.engine.receive(now, frame, &mut to.memory);
    }
}
