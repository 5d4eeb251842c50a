//! One end: an engine, its memory, a NIC, and a consumer that keeps account.

use super::memory::Guarded;
use roce::wire::{Icrc, Packet};
use roce::{
    Access, Completion, CompletionOp, Config, CqId, DestroyError, Engine, Event, Instant, Memory,
    MrKey, Path, PathMtu, PdId, QpId, QpParams, RegionId, SendFlags, SendRequest, Sge, SrqId,
    Status, Transmit, TxToken, Usage,
};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Requests that a queue takes.
pub const DEPTH: u32 = 8;
/// Queue pairs of one end.
pub const QPS: u32 = 4;
/// Nothing that one input brings about takes longer.
const FOREVER: usize = 20_000;

/// A registered region.
#[derive(Clone, Copy, Debug)]
pub struct Mr {
    pub key: MrKey,
    pub region: RegionId,
    pub va: u64,
    pub len: u32,
}

impl Mr {
    /// `len` bytes from `offset` on, or what there is of them.
    pub fn sge(&self, offset: u32, len: u32) -> Sge {
        let offset = offset.min(self.len);
        Sge {
            key: self.key.0,
            va: self.va + u64::from(offset),
            len: len.min(self.len - offset),
        }
    }
}

/// A request that has not completed.
struct Posted {
    receive: bool,
    /// It need not complete: it is silent, or lies in a shared queue.
    optional: bool,
    len: u32,
}

pub struct Machine {
    pub engine: Engine,
    pub memory: Guarded,
    pub pd: PdId,
    pub cq: CqId,
    pub srq: Option<SrqId>,
    /// Frames stay in the NIC until released.
    pub nic_holds: bool,
    pub events: Vec<Event>,
    pub completions: Vec<Completion>,
    posted: BTreeMap<u64, Posted>,
    /// The newest that has completed, by queue pair and queue.
    newest: BTreeMap<(u64, bool), u64>,
    next_context: u64,
    next_va: u64,
    held: VecDeque<TxToken>,
    out: Transmit,
}

/// Which of two ends: 0 or 1.
pub fn path(from: usize, ipv6: bool, mtu: PathMtu) -> Path {
    let ip = |n: usize| {
        let n = n as u8 + 1;
        if ipv6 {
            IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n.into()))
        } else {
            IpAddr::V4(Ipv4Addr::new(10, 0, 0, n))
        }
    };
    let mac = |n: usize| [2, 0, 0, 0, 0, n as u8];
    Path {
        src_mac: mac(from),
        dst_mac: mac(1 - from),
        vlan: None,
        src_ip: ip(from),
        dst_ip: ip(1 - from),
        hop_limit: 64,
        traffic_class: 0,
        mtu,
    }
}

/// Makes the ICRC of a frame right, if it is long enough to have one.
pub fn seal(frame: &mut [u8]) {
    let Some(end) = frame.len().checked_sub(4).filter(|end| *end > 14) else {
        return;
    };
    if let Ok(icrc) = Icrc::start(&frame[14..end]) {
        frame[end..].copy_from_slice(&icrc.finish());
    }
}

impl Machine {
    pub fn new(config: &Config) -> Machine {
        let mut engine = Engine::try_new(config).expect("memory");
        let pd = engine.create_pd().expect("the first");
        let cq = engine.create_cq(4 * DEPTH * QPS).expect("the first");
        Machine {
            engine,
            memory: Guarded::default(),
            pd,
            cq,
            srq: None,
            nic_holds: false,
            events: Vec::new(),
            completions: Vec::new(),
            posted: BTreeMap::new(),
            newest: BTreeMap::new(),
            next_context: 1,
            next_va: 0x1_0000,
            held: VecDeque::new(),
            out: Transmit::new(),
        }
    }

    pub fn create_qp(&mut self, context: u64) -> QpId {
        let params = QpParams {
            pd: self.pd,
            send_cq: self.cq,
            recv_cq: self.cq,
            srq: self.srq,
            sq_depth: DEPTH,
            rq_depth: DEPTH,
            max_send_sge: 2,
            max_recv_sge: 2,
            max_read_sge: 2,
            max_inline: 64,
            atomics: true,
            context,
        };
        self.engine.create_qp(&params).expect("room")
    }

    /// A region for what `access` permits the peer, and for this side's requests to read from or to write to.
    pub fn register(&mut self, pd: PdId, len: u32, access: Access, source: bool) -> Mr {
        let va = self.next_va;
        self.next_va += 0x1_0000;
        self.register_at(pd, va, len, access, source)
    }

    /// The same at an address.
    pub fn register_at(&mut self, pd: PdId, va: u64, len: u32, access: Access, source: bool) -> Mr {
        let read = source || access.contains(Access::REMOTE_READ);
        // Local writing is permitted where this side places something.
        let written = Access::LOCAL_WRITE | Access::REMOTE_WRITE | Access::REMOTE_ATOMIC;
        let region = self
            .memory
            .add(len as usize, read, access.intersects(written));
        let key = self
            .engine
            .register(pd, va, u64::from(len), access, region)
            .expect("room");
        Mr {
            key,
            region,
            va,
            len,
        }
    }

    /// Posts a request, if the queue takes it. The key that comes of it, if one does.
    pub fn post_send(&mut self, now: Instant, qp: QpId, request: SendRequest<'_>) -> Option<MrKey> {
        let context = self.next_context;
        let request = SendRequest { context, ..request };
        let posted = Posted {
            receive: false,
            optional: request.flags.contains(SendFlags::SILENT),
            len: 0,
        };
        let key = self.engine.post_send(now, qp, &request).ok()?;
        self.next_context += 1;
        self.posted.insert(context, posted);
        key
    }

    /// Posts a receive, if the queue takes it.
    pub fn post_recv(&mut self, now: Instant, qp: QpId, sge: Sge) {
        let context = self.next_context;
        let result = match self.srq {
            Some(srq) => self.engine.post_srq_recv(srq, context, &[sge]),
            None => self.engine.post_recv(now, qp, context, &[sge]),
        };
        if result.is_ok() {
            self.next_context += 1;
            let posted = Posted {
                receive: true,
                optional: self.srq.is_some(),
                len: sge.len,
            };
            self.posted.insert(context, posted);
        }
        self.collect();
    }

    /// Takes out everything that the engine has to say.
    pub fn collect(&mut self) {
        for _ in 0..FOREVER {
            let event = self.engine.poll_event();
            self.events.extend(event);
            let mut batch = [Completion::default(); 4];
            let n = self.engine.poll_cq(self.cq, &mut batch);
            for completion in &batch[..n] {
                self.account(completion);
            }
            if event.is_none() && n == 0 {
                return;
            }
        }
        panic!("events without end");
    }

    fn account(&mut self, c: &Completion) {
        let posted = self
            .posted
            .remove(&c.context)
            .expect("what completes has been posted and has not completed");
        let receive = matches!(
            c.op,
            CompletionOp::Receive | CompletionOp::ReceiveInvalidate | CompletionOp::ReceiveWrite
        );
        assert_eq!(receive, posted.receive);
        if c.status == Status::Success && c.op != CompletionOp::ReceiveWrite {
            assert!(c.bytes <= posted.len, "{c:?}");
        }
        let newest = self.newest.entry((c.qp_context, receive)).or_default();
        assert!(*newest < c.context, "out of order: {c:?}");
        *newest = c.context;
        self.completions.push(*c);
    }

    /// The next frame for the wire, which is sound whatever has come in.
    pub fn transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        if !self.engine.poll_transmit(now, &self.memory, &mut self.out) {
            return None;
        }
        let out = &self.out;
        assert_eq!(out.token.is_some(), !out.pieces.is_empty());
        let mut frame = out.header.to_vec();
        for p in &out.pieces {
            let read = self
                .memory
                .visit(p.region, p.offset, p.len, &mut |b| frame.extend(b));
            read.expect("memory that is there");
        }
        frame.extend(&out.trailer);
        let packet = Packet::parse(&frame).expect("a sound frame");
        assert_eq!(packet.verify_icrc(), Ok(()));
        self.held.extend(self.out.token);
        if !self.nic_holds {
            self.release(now);
        }
        Some(frame)
    }

    /// The NIC gives back everything.
    pub fn release(&mut self, now: Instant) {
        for token in std::mem::take(&mut self.held) {
            self.engine.transmitted(now, token);
        }
    }

    pub fn receive(&mut self, now: Instant, frame: &[u8]) {
        self.engine.receive(now, frame, &mut self.memory);
        self.collect();
    }

    pub fn tick(&mut self, now: Instant) {
        self.engine.handle_timeout(now);
        self.collect();
    }

    pub fn destroy_qp(&mut self, now: Instant, qp: QpId) {
        // It may have been done before.
        let _ = self.engine.destroy_qp(now, qp);
        self.collect();
    }

    /// Takes everything down: queue pairs, then keys, then the rest. Nothing is left, and everything posted has completed.
    pub fn end(
        mut self,
        now: Instant,
        qps: &[QpId],
        keys: &[MrKey],
        windows: &[MrKey],
        pds: &[PdId],
    ) {
        for qp in qps {
            match self.engine.destroy_qp(now, *qp) {
                Ok(()) | Err(DestroyError::Busy | DestroyError::Unknown) => {}
            }
        }
        self.release(now);
        self.collect();
        for window in windows {
            let _ = self.engine.destroy_window(*window);
        }
        for key in keys {
            let _ = self.engine.deregister(*key);
        }
        self.collect();
        if let Some(srq) = self.srq {
            assert_eq!(self.engine.destroy_srq(srq), Ok(()));
        }
        assert_eq!(self.engine.destroy_cq(self.cq), Ok(()));
        for pd in pds.iter().chain([&self.pd]) {
            assert_eq!(self.engine.destroy_pd(*pd), Ok(()));
        }
        assert!(self.posted.values().all(|p| p.optional), "lost a request");
        self.memory.check();
        let left = self.engine.usage();
        assert_eq!(left, Usage::default());
        assert!(self.transmit(now).is_none(), "something to say from nobody");
    }
}
