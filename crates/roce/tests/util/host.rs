//! One machine: an engine, its memory, a NIC that holds what it sends for a while.

use super::memory::TestMemory;
use roce::wire::{AtomicEth, Reth};
use roce::{
    Access, Completion, Config, CqId, Engine, Event, Instant, MrKey, PdId, PostError, QpId,
    QpParams, RegionId, SendFlags, SendOp, SendRequest, Sge, Transmit,
};
use std::collections::VecDeque;
use std::time::Duration;

/// A registered region.
#[derive(Clone, Copy, Debug)]
pub struct Mr {
    pub key: MrKey,
    pub region: RegionId,
    pub va: u64,
    pub len: u32,
}

impl Mr {
    /// `len` bytes from `offset` on.
    pub fn sge(&self, offset: u32, len: u32) -> Sge {
        Sge {
            key: self.key.0,
            va: self.va + u64::from(offset),
            len,
        }
    }

    pub fn all(&self) -> Sge {
        self.sge(0, self.len)
    }

    /// Names `len` bytes from `offset` on to the other side.
    pub fn reth(&self, offset: u64, len: u32) -> Reth {
        Reth {
            va: self.va + offset,
            rkey: self.key.0,
            len,
        }
    }

    /// Names eight bytes at `offset` to the other side, with operands.
    pub fn atomic(&self, offset: u64, swap_add: u64, compare: u64) -> AtomicEth {
        AtomicEth {
            va: self.va + offset,
            rkey: self.key.0,
            swap_add,
            compare,
        }
    }

    /// To read from its beginning on, for the other side.
    pub fn read(&self) -> SendOp {
        SendOp::Read {
            remote_va: self.va,
            rkey: self.key.0,
        }
    }

    /// To write from its beginning on, for the other side.
    pub fn write(&self) -> SendOp {
        SendOp::Write {
            remote_va: self.va,
            rkey: self.key.0,
        }
    }

    /// To invalidate its key, for this side.
    pub fn invalidate(&self) -> SendOp {
        SendOp::Invalidate { key: self.key }
    }
}

/// A request without data.
pub const fn request(op: SendOp) -> SendRequest<'static> {
    SendRequest {
        context: 0,
        op,
        sgl: &[],
        inline: None,
        flags: SendFlags::empty(),
    }
}

/// A frame in the NIC.
struct Held {
    until: Instant,
    frame: Transmit,
}

pub struct Host {
    pub engine: Engine,
    pub memory: TestMemory,
    pub pd: PdId,
    pub cq: CqId,
    pub events: Vec<Event>,
    pub completions: Vec<Completion>,
    /// How long the NIC holds a frame; `None`: until told.
    pub nic_holds: Option<Duration>,
    /// Frames that the NIC takes at a time.
    pub nic_ring: usize,
    /// The NIC reads a frame, and sends it, when it gives it back and no sooner. Whoever drives the host takes what is `departed`.
    pub nic_late: bool,
    /// What such a NIC has sent.
    pub departed: Vec<Vec<u8>>,
    held: VecDeque<Held>,
    out: Transmit,
    next_va: u64,
}

/// Everything that a key can permit, atomics aside.
pub const ALL: Access = Access::LOCAL_WRITE
    .union(Access::REMOTE_READ)
    .union(Access::REMOTE_WRITE);

/// A queue pair that allows everything in moderation.
pub const DEPTH: u32 = 64;

impl Host {
    pub fn new(config: &Config) -> Host {
        let mut engine = Engine::try_new(config).unwrap();
        let pd = engine.create_pd().unwrap();
        let cq = engine.create_cq(4096).unwrap();
        Host {
            engine,
            memory: TestMemory::default(),
            pd,
            cq,
            events: Vec::new(),
            completions: Vec::new(),
            nic_holds: Some(Duration::ZERO),
            nic_ring: 1024,
            nic_late: false,
            departed: Vec::new(),
            held: VecDeque::new(),
            out: Transmit::new(),
            next_va: 0x1000,
        }
    }

    pub fn qp_params(&self) -> QpParams {
        QpParams {
            pd: self.pd,
            send_cq: self.cq,
            recv_cq: self.cq,
            srq: None,
            sq_depth: DEPTH,
            rq_depth: DEPTH,
            max_send_sge: 4,
            max_recv_sge: 4,
            max_read_sge: 4,
            max_inline: 256,
            atomics: true,
            context: 77,
        }
    }

    pub fn create_qp(&mut self) -> QpId {
        let params = self.qp_params();
        self.engine.create_qp(&params).unwrap()
    }

    pub fn register(&mut self, bytes: Vec<u8>, access: Access) -> Mr {
        let memory = self.unregistered(bytes);
        let len = u64::from(memory.len);
        let key = self
            .engine
            .register(self.pd, memory.va, len, access, memory.region)
            .unwrap();
        Mr { key, ..memory }
    }

    /// Readable and writable by everybody.
    pub fn open(&mut self, bytes: Vec<u8>) -> Mr {
        self.register(bytes, ALL)
    }

    /// Memory that no key opens yet, with a place in the address space.
    pub fn unregistered(&mut self, bytes: Vec<u8>) -> Mr {
        let va = self.next_va;
        self.next_va += (bytes.len() as u64 + 0x1fff) & !0xfff;
        let len = bytes.len() as u32;
        let region = self.memory.add(bytes);
        Mr {
            key: MrKey(0),
            region,
            va,
            len,
        }
    }

    /// Posts the registration of `memory` under `entry`. The answer is the memory with its new key.
    #[expect(clippy::too_many_arguments, reason = "what a registration takes")]
    pub fn post_fast(
        &mut self,
        now: Instant,
        qp: QpId,
        context: u64,
        entry: MrKey,
        memory: &Mr,
        access: Access,
        flags: SendFlags,
    ) -> Result<Mr, PostError> {
        let op = SendOp::FastRegister {
            key: entry,
            base: memory.va,
            len: u64::from(memory.len),
            access,
            region: memory.region,
        };
        let request = SendRequest {
            context,
            flags,
            ..request(op)
        };
        let key = self.engine.post_send(now, qp, &request)?.unwrap();
        Ok(Mr { key, ..*memory })
    }

    /// Posts the binding of `window` to `len` bytes of `mr` from `offset` on. The answer is what the peer gets to know.
    pub fn post_bind(
        &mut self,
        now: Instant,
        qp: QpId,
        context: u64,
        window: MrKey,
        part: (&Mr, u32, u32),
        access: Access,
    ) -> Result<Mr, PostError> {
        let (mr, offset, len) = part;
        let va = mr.va + u64::from(offset);
        let op = SendOp::Bind {
            window,
            mr: mr.key,
            va,
            len: u64::from(len),
            access,
        };
        let request = SendRequest {
            context,
            ..request(op)
        };
        let key = self.engine.post_send(now, qp, &request)?.unwrap();
        Ok(Mr {
            key,
            va,
            len,
            region: mr.region,
        })
    }

    /// Registers `bytes` through the send queue, readable and writable by everybody.
    pub fn fast(&mut self, now: Instant, qp: QpId, context: u64, bytes: Vec<u8>) -> Mr {
        let entry = self.engine.register_fast(self.pd, true).unwrap();
        let memory = self.unregistered(bytes);
        self.post_fast(now, qp, context, entry, &memory, ALL, SendFlags::empty())
            .unwrap()
    }

    pub fn bytes(&self, mr: &Mr) -> &[u8] {
        &self.memory.regions[mr.region.0 as usize]
    }

    pub fn bytes_mut(&mut self, mr: &Mr) -> &mut [u8] {
        &mut self.memory.regions[mr.region.0 as usize]
    }

    pub fn send(&mut self, now: Instant, qp: QpId, context: u64, op: SendOp, sgl: &[Sge]) {
        self.send_with(now, qp, context, op, sgl, SendFlags::empty());
    }

    pub fn send_with(
        &mut self,
        now: Instant,
        qp: QpId,
        context: u64,
        op: SendOp,
        sgl: &[Sge],
        flags: SendFlags,
    ) {
        self.engine
            .post_send(
                now,
                qp,
                &SendRequest {
                    context,
                    op,
                    sgl,
                    inline: None,
                    flags,
                },
            )
            .unwrap();
    }

    /// Takes out everything the engine has to say.
    pub fn collect(&mut self) {
        while let Some(event) = self.engine.poll_event() {
            self.events.push(event);
        }
        let mut batch = [Completion::default(); 16];
        loop {
            let n = self.engine.poll_cq(self.cq, &mut batch);
            if n == 0 {
                return;
            }
            self.completions.extend(&batch[..n]);
        }
    }

    /// The next frame for the wire, if the NIC has room.
    pub fn transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.held.len() >= self.nic_ring
            || !self.engine.poll_transmit(now, &self.memory, &mut self.out)
        {
            return None;
        }
        let out = &self.out;
        assert_eq!(
            out.token.is_some(),
            !out.pieces.is_empty(),
            "a token exactly for frames with pieces"
        );
        if out.token.is_some() || self.nic_late {
            let until = self.nic_holds.map_or(Instant(u64::MAX), |d| now.after(d));
            let frame = out.clone();
            self.held.push_back(Held { until, frame });
        }
        Some(self.read(&self.out))
    }

    /// A frame, as its memory is now.
    fn read(&self, out: &Transmit) -> Vec<u8> {
        let mut frame = out.header.to_vec();
        for p in &out.pieces {
            frame.extend(self.memory.sent(p.region, p.offset, p.len));
        }
        frame.extend(&out.trailer);
        frame
    }

    /// The NIC gives back what it is done with.
    pub fn reap(&mut self, now: Instant) {
        while let Some(held) = self.held.pop_front_if(|held| held.until <= now) {
            self.release(now, held);
        }
    }

    /// The NIC is done with a frame. It may have read it until now.
    fn release(&mut self, now: Instant, held: Held) {
        let frame = self.read(&held.frame);
        if self.nic_late {
            self.departed.push(frame);
        }
        if let Some(token) = held.frame.token {
            self.engine.transmitted(now, token);
        }
    }

    /// When the NIC will give something back.
    pub fn next_reap(&self) -> Option<Instant> {
        self.held
            .front()
            .map(|held| held.until)
            .filter(|at| *at != Instant(u64::MAX))
    }

    /// The NIC gives back everything now.
    pub fn release_all(&mut self, now: Instant) {
        for held in std::mem::take(&mut self.held) {
            self.release(now, held);
        }
    }

    /// Transmissions that the NIC holds.
    pub fn held(&self) -> usize {
        self.held.len()
    }
}
