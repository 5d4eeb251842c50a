//! One engine, and a peer that asks one thing at a time.

use crate::util::memory::TestMemory;
use arrayvec::ArrayVec;
use roce::cm::QpAttributes;
use roce::wire::frame::{Header, pad_of};
use roce::wire::{AtomicEth, Bth, ExtHeaders, Ieth, Opcode, Packet, Reth, Syndrome};
use roce::{
    Access, Completion, Config, CqId, Engine, Instant, Memory, MrKey, Path, PathMtu, PdId, Piece,
    Psn, QpId, QpParams, RegionId, SendFlags, SendOp, SendRequest, Sge, Transmit,
};
use std::net::{IpAddr, Ipv4Addr};

/// Path MTU in bytes.
pub const MTU: u32 = 256;
/// Where regions begin in the address space, unless a test says otherwise.
pub const BASE: u64 = 0x10_0000;
const PEER_QPN: u32 = 0x777;

/// A packet that came back.
#[derive(Clone, Debug)]
pub struct Reply {
    pub op: Opcode,
    pub psn: u32,
    pub syndrome: Option<u8>,
    /// Where its payload was, unless that is empty.
    pub piece: Option<Piece>,
}

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Silence,
    /// Acknowledged, at this PSN.
    Ack(u32),
    /// Answered with data that is here.
    Data(Option<Piece>),
    /// Refused, with this syndrome.
    Nak(u8),
}

pub struct Port<M> {
    pub engine: Engine,
    pub memory: M,
    pub pd: PdId,
    pub cq: CqId,
    pub qp: QpId,
    /// What the responder expects, if the last request was executed.
    pub psn: u32,
    out: Transmit,
}

pub const NOW: Instant = Instant(1_000_000);

fn path(mine: bool) -> Path {
    let ip = |n| IpAddr::V4(Ipv4Addr::new(10, 0, 0, n));
    let mac = |n| [2, 0, 0, 0, 0, n];
    let (a, b) = if mine { (1, 2) } else { (2, 1) };
    Path {
        src_mac: mac(a),
        dst_mac: mac(b),
        vlan: None,
        src_ip: ip(a),
        dst_ip: ip(b),
        hop_limit: 64,
        traffic_class: 0,
        mtu: PathMtu::Mtu256,
    }
}

impl Port<TestMemory> {
    /// Registers memory for everything.
    pub fn open(&mut self, len: usize) -> MrKey {
        let region = self.memory_of(len);
        self.engine
            .register(self.pd, BASE, len as u64, Access::all(), region)
            .unwrap()
    }

    pub fn memory_of(&mut self, len: usize) -> RegionId {
        self.memory.add(vec![0; len])
    }
}

impl<M: Memory> Port<M> {
    /// Connected, and expecting a PSN.
    pub fn at(memory: M, psn: u32) -> Port<M> {
        let config = Config {
            max_qps: 4,
            max_cqs: 2,
            max_srqs: 0,
            max_pds: 4,
            max_keys: 16,
            max_connections: 4,
            max_listeners: 1,
            max_transmissions: 16,
            // What comes early is forgotten: each request stands for itself.
            early_frames: 0,
            seed: 5,
            ..Config::default()
        };
        let mut engine = Engine::try_new(&config).unwrap();
        let pd = engine.create_pd().unwrap();
        let cq = engine.create_cq(64).unwrap();
        let qp = attached(&mut engine, pd, cq, psn);
        Port {
            engine,
            memory,
            pd,
            cq,
            qp,
            psn,
            out: Transmit::new(),
        }
    }

    /// Another queue pair in the place of the one that there was.
    pub fn renew(&mut self) {
        // What went out has been given back.
        self.engine.destroy_qp(NOW, self.qp).unwrap();
        while self.engine.poll_event().is_some() {}
        self.completions();
        self.psn = 100;
        self.qp = attached(&mut self.engine, self.pd, self.cq, self.psn);
    }

    /// One more queue pair.
    pub fn another(&mut self) -> QpId {
        attached(&mut self.engine, self.pd, self.cq, 100)
    }

    pub fn reth(&self, key: MrKey, offset: u64, len: u32) -> Reth {
        Reth {
            va: BASE.wrapping_add(offset),
            rkey: key.0,
            len,
        }
    }

    /// The next frame, as its reader sees it.
    pub fn transmit(&mut self) -> Option<Reply> {
        if !self.engine.poll_transmit(NOW, &self.memory, &mut self.out) {
            return None;
        }
        let mut frame = self.out.header.to_vec();
        for p in &self.out.pieces {
            self.memory
                .visit(p.region, p.offset, p.len, &mut |b| frame.extend(b))
                .unwrap();
        }
        frame.extend(&self.out.trailer);
        if let Some(token) = self.out.token {
            self.engine.transmitted(NOW, token);
        }
        let packet = Packet::parse(&frame).unwrap();
        packet.verify_icrc().unwrap();
        Some(Reply {
            op: packet.bth.opcode,
            psn: packet.bth.psn.get(),
            syndrome: packet.ext.aeth.map(|a| a.syndrome.to_u8()),
            piece: self.out.pieces.first().copied(),
        })
    }

    pub fn feed(&mut self, op: Opcode, psn: u32, ext: ExtHeaders, payload: &[u8]) {
        let bth = Bth {
            ack_req: true,
            ..Bth::new(op, self.engine.qp_number(self.qp).unwrap(), Psn::new(psn))
        };
        let mut header = ArrayVec::<u8, 256>::new();
        let mut icrc = Header::new(&path(false), 0xc000, bth, ext)
            .write(payload.len(), &mut header)
            .unwrap();
        icrc.update(payload);
        let trailer = icrc.trailer(pad_of(payload.len()));
        let frame = [&header[..], payload, &trailer[..]].concat();
        self.engine.receive(NOW, &frame, &mut self.memory);
    }

    /// A request of the peer's, and everything that comes back.
    pub fn ask(&mut self, op: Opcode, psn: u32, reth: Option<Reth>, payload: &[u8]) -> Vec<Reply> {
        let immediate = op
            .has_immediate()
            .then_some(roce::wire::Immediate([1, 2, 3, 4]));
        let ext = ExtHeaders {
            reth,
            immediate,
            ..ExtHeaders::NONE
        };
        self.feed(op, psn, ext, payload);
        std::iter::from_fn(|| self.transmit()).collect()
    }

    /// What became of the next request in order, which the queue pair may not have survived.
    pub fn outcome(&mut self, op: Opcode, ext: ExtHeaders, payload: &[u8]) -> Outcome {
        self.feed(op, self.psn, ext, payload);
        let outcome = self.answer();
        self.psn = (self.psn + 1) % (1 << 24);
        outcome
    }

    pub fn answer(&mut self) -> Outcome {
        let Some(reply) = self.transmit() else {
            return Outcome::Silence;
        };
        match reply.syndrome.map(Syndrome::from_u8) {
            Some(Syndrome::Ack { .. }) if reply.op == Opcode::Acknowledge => {
                Outcome::Ack(reply.psn)
            }
            Some(Syndrome::Ack { .. }) => Outcome::Data(reply.piece),
            Some(syndrome) => Outcome::Nak(syndrome.to_u8()),
            None => panic!("{reply:?}"),
        }
    }

    pub fn atomic(&mut self, op: Opcode, va: u64, rkey: u32) -> Outcome {
        let operands = AtomicEth {
            va,
            rkey,
            swap_add: 5,
            compare: 0,
        };
        let ext = ExtHeaders {
            atomic: Some(operands),
            ..ExtHeaders::NONE
        };
        self.outcome(op, ext, &[])
    }

    pub fn invalidate(&mut self, rkey: u32) -> Outcome {
        let ext = ExtHeaders {
            ieth: Some(Ieth { rkey }),
            ..ExtHeaders::NONE
        };
        self.outcome(Opcode::SendOnlyInvalidate, ext, &[])
    }

    /// A WRITE of nothing.
    pub fn empty_write(&mut self, psn: u32) -> Outcome {
        let nothing = Reth {
            va: 0,
            rkey: 0,
            len: 0,
        };
        let ext = ExtHeaders {
            reth: Some(nothing),
            ..ExtHeaders::NONE
        };
        self.feed(Opcode::WriteOnly, psn, ext, &[]);
        self.answer()
    }

    /// Posts a request. The answer is the key that comes of it.
    pub fn post(&mut self, qp: QpId, op: SendOp, sgl: &[Sge]) -> Option<MrKey> {
        let request = SendRequest {
            context: 1,
            op,
            sgl,
            inline: None,
            flags: SendFlags::empty(),
        };
        self.engine.post_send(NOW, qp, &request).unwrap()
    }

    pub fn completions(&mut self) -> Vec<Completion> {
        let mut all = [Completion::default(); 64];
        let n = self.engine.poll_cq(self.cq, &mut all);
        all[..n].to_vec()
    }
}

fn attached(engine: &mut Engine, pd: PdId, cq: CqId, psn: u32) -> QpId {
    let params = QpParams {
        pd,
        send_cq: cq,
        recv_cq: cq,
        srq: None,
        sq_depth: 4,
        rq_depth: 4,
        max_send_sge: 2,
        max_recv_sge: 2,
        max_read_sge: 2,
        max_inline: 0,
        atomics: true,
        context: 0,
    };
    let qp = engine.create_qp(&params).unwrap();
    engine.prepare(qp, Some(Psn::new(psn))).unwrap();
    let attributes = QpAttributes {
        peer_qpn: PEER_QPN,
        path: path(true),
        send_psn: Psn::new(500),
        retry_count: 7,
        rnr_retry_count: 7,
        ack_timeout: 14,
        responder_resources: 4,
        initiator_depth: 4,
    };
    engine.attach(qp, &attributes).unwrap();
    qp
}
