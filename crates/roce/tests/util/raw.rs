//! One engine, and a test that speaks packet by packet to it.

use super::{Host, Mr, Setup, request};
use arrayvec::ArrayVec;
use roce::cm::QpAttributes;
use roce::wire::frame::{Header, pad_of};
use roce::wire::{
    Aeth, AtomicAckEth, AtomicEth, Bth, ExtHeaders, Ieth, Immediate, Opcode, Packet, Reth, Syndrome,
};
use roce::{Config, Event, Instant, Path, PostError, Psn, QpId, SendOp, Status, Verdict};
use std::collections::BTreeSet;
use std::time::Duration;

/// The number the test's end pretends to have.
pub const PEER_QPN: u32 = 0x4242;

/// A packet that the engine sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    pub op: Opcode,
    pub psn: u32,
    pub ack_request: bool,
    pub solicited: bool,
    pub syndrome: Option<u8>,
    pub msn: Option<u32>,
    pub reth: Option<Reth>,
    pub atomic: Option<AtomicEth>,
    /// What an atomic operation found.
    pub original: Option<u64>,
    pub immediate: Option<[u8; 4]>,
    /// The key to be invalidated.
    pub invalidate: Option<u32>,
    pub payload: Vec<u8>,
}

pub struct Raw {
    pub host: Host,
    pub qp: QpId,
    pub qpn: u32,
    pub now: Instant,
    pub path: Path,
    /// Where the messages that the engine has sent end, as packets after the first.
    ends: BTreeSet<u32>,
    /// Packets sent, repetitions not counted.
    sent: u32,
}

/// First PSN in each direction.
pub const PSN: u32 = 100;

/// Syndromes of acknowledgements (IBTA 9.7.5.2.8), as the engine writes them with its default settings.
pub mod syndrome {
    /// An acknowledgement; it counts no credits.
    pub const ACK: u8 = 0x1f;
    /// RNR NAK with the timer code 12.
    pub const RNR: u8 = 0x20 | 12;
    /// PSN sequence error.
    pub const SEQUENCE: u8 = 0x60;
    /// Invalid request.
    pub const INVALID: u8 = 0x61;
    /// Remote access error.
    pub const ACCESS: u8 = 0x62;
    /// Remote operational error.
    pub const OPERATION: u8 = 0x63;
}

impl Raw {
    pub fn new(setup: Setup) -> Raw {
        Raw::with(setup, Host::create_qp)
    }

    /// With a queue pair that the test makes.
    pub fn with(setup: Setup, create_qp: impl FnOnce(&mut Host) -> QpId) -> Raw {
        let mut host = Host::new(&Config {
            seed: setup.seed.into(),
            ..setup.config
        });
        let qp = create_qp(&mut host);
        let local = host.engine.prepare(qp, Some(Psn::new(PSN))).unwrap();
        host.engine
            .attach(
                qp,
                &QpAttributes {
                    peer_qpn: PEER_QPN,
                    path: setup.path(super::Side::A),
                    send_psn: Psn::new(PSN),
                    retry_count: setup.retry_count,
                    rnr_retry_count: setup.rnr_retry_count,
                    ack_timeout: setup.ack_timeout,
                    responder_resources: setup.reads,
                    initiator_depth: setup.reads,
                },
            )
            .unwrap();
        let path = setup.path(super::Side::B);
        Raw {
            host,
            qp,
            qpn: local.qpn,
            now: Instant(5_000_000),
            path,
            ends: BTreeSet::new(),
            sent: 0,
        }
    }

    /// With 256-byte packets.
    pub fn small() -> Raw {
        Raw::new(Setup::small())
    }

    /// The same, where what comes early is thrown away.
    pub fn forgetful() -> Raw {
        Raw::keeping(0)
    }

    /// With 256-byte packets, of which so many are kept that come early.
    pub fn keeping(early_frames: u32) -> Raw {
        let setup = Setup::small();
        Raw::new(Setup {
            config: Config {
                early_frames,
                ..setup.config
            },
            ..setup
        })
    }

    pub fn frame(&self, bth: Bth, ext: ExtHeaders, payload: &[u8]) -> Vec<u8> {
        let mut header = ArrayVec::<u8, 256>::new();
        let mut icrc = Header::new(&self.path, 0xc123, bth, ext)
            .write(payload.len(), &mut header)
            .unwrap();
        icrc.update(payload);
        let trailer = icrc.trailer(pad_of(payload.len()));
        [&header[..], payload, &trailer[..]].concat()
    }

    pub fn bth(&self, op: Opcode, psn: u32) -> Bth {
        Bth::new(op, self.qpn, Psn::new(psn))
    }

    /// Posts a receive of a whole region.
    pub fn receive(&mut self, context: u64, mr: &Mr) {
        self.host
            .engine
            .post_recv(self.now, self.qp, context, &[mr.all()])
            .unwrap();
    }

    pub fn feed(&mut self, frame: &[u8]) {
        let verdict = self
            .host
            .engine
            .receive(self.now, frame, &mut self.host.memory);
        assert_eq!(verdict, Verdict::Consumed);
    }

    /// A packet without extension header; asks for an acknowledgement.
    pub fn inject(&mut self, op: Opcode, psn: u32, payload: &[u8]) {
        self.inject_ext(op, psn, ExtHeaders::NONE, payload);
    }

    pub fn inject_ext(&mut self, op: Opcode, psn: u32, ext: ExtHeaders, payload: &[u8]) {
        let bth = Bth {
            ack_req: true,
            ..self.bth(op, psn)
        };
        let frame = self.frame(bth, ext, payload);
        self.feed(&frame);
    }

    pub fn inject_reth(&mut self, op: Opcode, psn: u32, reth: Reth, payload: &[u8]) {
        self.inject_ext(
            op,
            psn,
            ExtHeaders {
                reth: Some(reth),
                ..ExtHeaders::NONE
            },
            payload,
        );
    }

    pub fn inject_atomic(&mut self, op: Opcode, psn: u32, atomic: AtomicEth) {
        self.inject_ext(
            op,
            psn,
            ExtHeaders {
                atomic: Some(atomic),
                ..ExtHeaders::NONE
            },
            &[],
        );
    }

    pub fn inject_immediate(
        &mut self,
        op: Opcode,
        psn: u32,
        reth: Option<Reth>,
        imm: [u8; 4],
        payload: &[u8],
    ) {
        let ext = ExtHeaders {
            reth,
            immediate: Some(Immediate(imm)),
            ..ExtHeaders::NONE
        };
        self.inject_ext(op, psn, ext, payload);
    }

    pub fn inject_invalidate(&mut self, op: Opcode, psn: u32, rkey: u32, payload: &[u8]) {
        self.inject_ext(
            op,
            psn,
            ExtHeaders {
                ieth: Some(Ieth { rkey }),
                ..ExtHeaders::NONE
            },
            payload,
        );
    }

    /// An acknowledgement packet with this syndrome byte.
    pub fn acknowledge(&mut self, psn: u32, syndrome: u8) {
        self.respond(Opcode::Acknowledge, psn, Some(syndrome), &[]);
    }

    pub fn respond(&mut self, op: Opcode, psn: u32, syndrome: Option<u8>, payload: &[u8]) {
        let aeth = syndrome.map(|s| self.aeth(psn, s));
        self.respond_with(op, psn, aeth, payload);
    }

    /// The same with a message count of the test's choice.
    pub fn respond_with(&mut self, op: Opcode, psn: u32, aeth: Option<Aeth>, payload: &[u8]) {
        let frame = self.frame(
            self.bth(op, psn),
            ExtHeaders {
                aeth,
                ..ExtHeaders::NONE
            },
            payload,
        );
        self.feed(&frame);
    }

    /// What a peer writes that has executed everything up to `psn`, or, of a NAK, before.
    pub fn aeth(&self, psn: u32, syndrome: u8) -> Aeth {
        let syndrome = Syndrome::from_u8(syndrome);
        let packets = Psn::new(psn).since(Psn::new(PSN));
        let executed = match syndrome {
            Syndrome::Ack { .. } => packets.saturating_add(1),
            _ => packets,
        };
        Aeth {
            syndrome,
            msn: self.ends.range(..executed).count() as u32,
        }
    }

    /// The answer to an atomic request.
    pub fn atomic_ack(&mut self, psn: u32, original: u64) {
        let ext = ExtHeaders {
            aeth: Some(self.aeth(psn, syndrome::ACK)),
            atomic_ack: Some(AtomicAckEth { original }),
            ..ExtHeaders::NONE
        };
        let frame = self.frame(self.bth(Opcode::AtomicAcknowledge, psn), ext, &[]);
        self.feed(&frame);
    }

    /// Counts messages as a responder does: what it has seen before is no other message.
    fn note(&mut self, p: &Packet<'_>) {
        let op = p.bth.opcode;
        let index = p.bth.psn.since(Psn::new(PSN));
        if !op.is_rc_request() || index < self.sent {
            return;
        }
        let packets = match (op, p.ext.reth) {
            (Opcode::ReadRequest, Some(range)) => range.len.div_ceil(self.path.mtu.bytes()).max(1),
            _ => 1,
        };
        self.sent = index + packets;
        if !op.is_first() && !op.is_middle() {
            self.ends.insert(index);
        }
    }

    /// Everything the engine wants to send now.
    pub fn replies(&mut self) -> Vec<Reply> {
        let mut all = Vec::new();
        while let Some(frame) = self.host.transmit(self.now) {
            self.host.reap(self.now);
            let p = Packet::parse(&frame).unwrap();
            p.verify_icrc().unwrap();
            assert_eq!(p.bth.dest_qpn, PEER_QPN);
            assert!(p.pad.iter().all(|b| *b == 0));
            self.note(&p);
            all.push(Reply {
                op: p.bth.opcode,
                psn: p.bth.psn.get(),
                ack_request: p.bth.ack_req,
                solicited: p.bth.solicited,
                syndrome: p.ext.aeth.map(|a| a.syndrome.to_u8()),
                msn: p.ext.aeth.map(|a| a.msn),
                reth: p.ext.reth,
                atomic: p.ext.atomic,
                original: p.ext.atomic_ack.map(|a| a.original),
                immediate: p.ext.immediate.map(|i| i.0),
                invalidate: p.ext.ieth.map(|i| i.rkey),
                payload: p.payload.to_vec(),
            });
        }
        self.host.collect();
        all
    }

    /// (opcode, PSN) of everything the engine wants to send now.
    pub fn packets(&mut self) -> Vec<(Opcode, u32)> {
        self.replies().iter().map(|r| (r.op, r.psn)).collect()
    }

    /// (PSN, syndrome) of the one packet the engine wants to send.
    pub fn only_ack(&mut self) -> (u32, u8) {
        let replies = self.replies();
        assert_eq!(replies.len(), 1, "{replies:?}");
        assert_eq!(replies[0].op, Opcode::Acknowledge);
        (replies[0].psn, replies[0].syndrome.unwrap())
    }

    pub fn silence(&mut self) {
        assert_eq!(self.replies(), []);
    }

    /// The connection is over: nothing is answered, everything is flushed.
    pub fn assert_dead(&mut self) {
        for psn in [PSN, PSN + 1, PSN + 9] {
            self.inject(Opcode::SendOnly, psn, b"more");
        }
        self.silence();
        assert_eq!(
            self.host
                .engine
                .post_send(self.now, self.qp, &request(SendOp::Send)),
            Err(PostError::NotConnected)
        );
        self.host
            .engine
            .post_recv(self.now, self.qp, 999, &[])
            .unwrap();
        self.host.collect();
        let last = self.host.completions.last().unwrap();
        assert_eq!((last.context, last.status), (999, Status::Flushed));
        assert!(
            self.host
                .events
                .iter()
                .any(|e| matches!(e, Event::QpFatal { .. }))
        );
    }

    pub fn wait(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.host.engine.handle_timeout(self.now);
    }
}
