//! The responder: executes the peer's requests in order, and answers them.

use super::early::{EarlyFrames, EarlyList, Kept, Reach};
use super::frame::{Extension, Outgoing};
use super::link::Link;
use super::owed::Owed;
use super::recv_queue::{Receives, RecvQueue};
use super::replay::{Asked, Content, ReplayRing};
use super::sgl;
use crate::completion::{Completion, CompletionOp, Status};
use crate::config::MAX_MESSAGE;
use crate::counters::Counters;
use crate::key::{Access, By, KeyTable, Place};
use crate::memory::{Atomic, Memory};
use crate::psn::Psn;
use crate::table::OutOfMemory;
use crate::wire::{AtomicAckEth, AtomicEth, NakCode, Opcode, Reth, Syndrome};

/// A request packet as it arrived.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub op: Opcode,
    pub psn: Psn,
    pub solicited: bool,
    pub ack_request: bool,
    pub reth: Option<Reth>,
    pub atomic: Option<AtomicEth>,
    pub immediate: Option<[u8; 4]>,
    pub invalidate: Option<u32>,
    pub payload: &'a [u8],
    /// Bytes of the payload that are in their place already: see [`ahead`](super::qp::ahead).
    pub placed: u32,
}

impl<'a> Request<'a> {
    /// A packet that has nothing but a payload.
    pub fn of(op: Opcode, psn: Psn, payload: &'a [u8]) -> Request<'a> {
        Request {
            op,
            psn,
            solicited: false,
            ack_request: false,
            reth: None,
            atomic: None,
            immediate: None,
            invalidate: None,
            payload,
            placed: 0,
        }
    }

    /// What is still to be placed.
    fn rest(&self) -> &'a [u8] {
        self.payload.get(self.placed as usize..).unwrap_or(&[])
    }
}

/// The request that ends the connection: what the peer is told, what the receive in use says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Refusal {
    code: NakCode,
    status: Status,
}

const INVALID: Refusal = Refusal {
    code: NakCode::InvalidRequest,
    status: Status::LocalOperation,
};
const ACCESS: Refusal = Refusal {
    code: NakCode::RemoteAccess,
    status: Status::LocalOperation,
};

/// This side's own memory cannot be reached.
const UNREACHABLE: Refusal = Refusal {
    code: NakCode::RemoteOperational,
    status: Status::LocalProtection,
};

/// Packets that no peer is ahead of what has arrived, save after the loss of READs of that many together (256 MiB at a path MTU of 256, 4 GiB
/// at 4096), for which it has its timeout: half of all made-up PSNs are ahead, and each would have the peer send its window once more.
const FAR_AHEAD: i32 = 1 << 20;

/// Responses that one READ may have: with more, what came before it would seem to come after it. Only one of 2^31 bytes at a path MTU of 256
/// has.
const MAX_RESPONSES: u32 = (1 << 23) - 1;

/// Bytes that an atomic operation works on, and at a multiple of which they lie.
pub(super) const ATOMIC_LEN: u32 = 8;

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Executed {
    /// It came before its turn, and is worth keeping.
    Early,
    /// Nothing.
    Nothing,
    /// It was the next in order, and has to come again when there is a receive for it.
    NotReady,
    /// It was a repetition; nothing else.
    Repeated,
    /// It was the next in order; nothing else.
    InOrder,
    /// A receive is finished.
    Received(Completion),
    /// The queue pair has failed; a receive in use, if any, has this status.
    Failed(Status),
}

/// The message whose packets are coming in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Message {
    None,
    /// Into the receive queue's front; so many bytes are there.
    Send {
        received: u32,
    },
    /// To the rest of a range that has been checked as a whole; `total` bytes altogether.
    Write {
        rest: Reth,
        total: u32,
    },
}

/// An answer to be sent.
pub(super) enum Answer {
    /// An acknowledgement or NAK.
    Packet(Outgoing),
    /// The response to a READ or an atomic request: header, and where its payload is, if it has any.
    Response {
        packet: Outgoing,
        range: Option<Reth>,
    },
}

/// The receiving half of a queue pair.
pub(super) struct Responder {
    expected: Psn,
    /// Messages completed, modulo 2^24.
    msn: u32,
    message: Message,
    /// To be sent once the responses with data are out.
    owed: Owed,
    /// Requests that came early and are kept.
    early: EarlyList,
    pub replay: ReplayRing,
}

impl Responder {
    pub fn try_new(max_reads: u8) -> Result<Responder, OutOfMemory> {
        Ok(Responder {
            expected: Psn::ZERO,
            msn: 0,
            message: Message::None,
            owed: Owed::default(),
            early: EarlyList::new(),
            replay: ReplayRing::try_new(max_reads)?,
        })
    }

    /// Begins a connection.
    pub fn connect(&mut self, first_psn: Psn, reads: u8) {
        self.expected = first_psn;
        self.msn = 0;
        self.message = Message::None;
        self.owed = Owed::new(first_psn);
        self.replay.reset(reads);
    }

    /// Forgets everything that is to be sent, except what tells the peer that this is the end.
    pub fn stop(&mut self) {
        self.replay.reset(0);
    }

    /// Forgets everything that is to be sent.
    pub fn silence(&mut self) {
        self.replay.reset(0);
        self.owed = Owed::default();
    }

    /// Whether there is something to send.
    pub fn has_work(&self) -> bool {
        self.owed.is_due() || self.replay.is_due()
    }

    /// Whether a message into the receive queue's front is coming in.
    pub fn is_receiving(&self) -> bool {
        matches!(self.message, Message::Send { .. })
    }

    /// Where the payload goes if that does not follow from this packet, whose ICRC is not known to be right: it says that it is the next in
    /// order, and a message before it, or the receive that is next, has the place.
    pub fn place_ahead(
        &self,
        request: &Request<'_>,
        rq: &RecvQueue,
        link: &Link,
        keys: &KeyTable,
    ) -> Option<Place> {
        use Opcode::{
            SendFirst, SendLast, SendLastImm, SendLastInvalidate, SendMiddle, SendOnly,
            SendOnlyImm, SendOnlyInvalidate, WriteLast, WriteLastImm, WriteMiddle,
        };
        let len = request.payload.len() as u32;
        let (_, ends) = shape(request.op, len, link.mtu)?;
        if request.psn != self.expected {
            return None;
        }
        let received = match (self.message, request.op) {
            // What finds no receive is not executed, so nothing of it goes anywhere.
            (Message::Write { .. }, WriteLastImm) if rq.is_empty() => return None,
            (Message::Write { rest, .. }, WriteMiddle | WriteLast | WriteLastImm)
                if (len == rest.len) == ends && len <= rest.len =>
            {
                let need = Access::REMOTE_WRITE;
                return keys
                    .check_remote(rest.rkey, link.pd, link.qp, rest.va, u64::from(len), need)
                    .ok();
            }
            (Message::None, SendFirst | SendOnly | SendOnlyImm | SendOnlyInvalidate) => 0,
            (
                Message::Send { received },
                SendMiddle | SendLast | SendLastImm | SendLastInvalidate,
            ) => received,
            _ => return None,
        };
        let (_, sgl) = rq.front()?;
        sgl::place(sgl, keys, rq.pd, received, len)
    }

    /// Executes one request packet.
    pub fn on_request<M: Memory>(
        &mut self,
        request: &Request<'_>,
        rq: &mut Receives<'_>,
        link: &Link,
        keys: &mut KeyTable,
        memory: &mut M,
        counters: &mut Counters,
    ) -> Executed {
        let distance = request.psn.distance(self.expected);
        if distance > 0 {
            counters.out_of_sequence_requests = counters.out_of_sequence_requests.wrapping_add(1);
            let near = distance < FAR_AHEAD && self.owed.early(request.psn, request.ack_request);
            return if near {
                Executed::Early
            } else {
                Executed::Nothing
            };
        }
        if distance < 0 {
            self.on_duplicate(request, link, counters);
            return Executed::Repeated;
        }
        let result = match request.op {
            Opcode::ReadRequest => self.on_read(request, link, keys),
            Opcode::WriteFirst
            | Opcode::WriteMiddle
            | Opcode::WriteLast
            | Opcode::WriteLastImm
            | Opcode::WriteOnly
            | Opcode::WriteOnlyImm => self.on_write(request, rq, link, keys, memory),
            Opcode::CompareSwap | Opcode::FetchAdd => self.on_atomic(request, link, keys, memory),
            _ => self.on_send(request, rq, link, keys, memory),
        };
        let (packets, executed) = match result {
            Ok(Some(done)) => done,
            // No receive posted.
            Ok(None) => {
                self.owed.not_ready();
                return Executed::NotReady;
            }
            Err(refusal) => {
                self.owed.refuse(refusal.code, self.expected, self.msn);
                return Executed::Failed(refusal.status);
            }
        };
        self.expected = self.expected.add(packets);
        counters.rx_bytes = counters.rx_bytes.wrapping_add(request.payload.len() as u64);
        let has_response = request.op == Opcode::ReadRequest || request.op.is_atomic();
        self.owed.executed(self.expected);
        if has_response {
            self.owed.response_follows();
        } else {
            self.owed
                .acknowledge(request.ack_request, request.psn, self.msn);
        }
        executed
    }

    /// Whether the request at `psn` has been executed.
    pub fn has_executed(&self, psn: Psn) -> bool {
        psn.is_before(self.expected)
    }

    /// Whether requests are kept.
    pub fn keeps(&self) -> bool {
        !self.early.is_empty()
    }

    /// Whether the request whose turn it is is kept, and has not been executed because nothing spoke for it.
    pub fn keeps_next(&self, pool: &EarlyFrames) -> bool {
        pool.first(&self.early)
            .is_some_and(|first| first.psn == self.expected)
    }

    /// Keeps a request that came [early](Executed::Early), if it can be.
    pub fn keep(
        &mut self,
        request: &Request<'_>,
        link: &Link,
        pool: &mut EarlyFrames,
        counters: &mut Counters,
    ) {
        // A READ with so many responses is refused, or asked for again: what comes behind it would seem to come before what is missing.
        let asks_too_much =
            (request.reth).is_some_and(|range| link.packets(range.len) >= FAR_AHEAD as u32);
        if request.op == Opcode::ReadRequest && asks_too_much {
            return;
        }
        let kept = pool.keep(&mut self.early, request, self.expected, Reach::Near, link);
        if matches!(kept, Kept::After(_)) {
            counters.early_requests_kept = counters.early_requests_kept.wrapping_add(1);
        }
    }

    /// The request that was kept and has its turn now. It is to be executed, and then [removed](Self::remove_kept).
    pub fn kept<'a>(
        &mut self,
        pool: &'a mut EarlyFrames,
        counters: &mut Counters,
    ) -> Option<Request<'a>> {
        while let Some(first) = pool.first(&self.early) {
            let distance = first.psn.distance(self.expected);
            if distance == 0 && pool.believes_first(&self.early) {
                break;
            }
            if distance >= 0 {
                self.owed.gap_follows(pool.last_psn(&self.early)?);
                return None;
            }
            // The peer has sent it once more, or never: what was executed meanwhile has taken its PSN.
            pool.remove_first(&mut self.early);
            counters.early_requests_dropped = counters.early_requests_dropped.wrapping_add(1);
        }
        pool.first(&self.early)
    }

    /// Removes the request that [`kept`](Self::kept) gave.
    pub fn remove_kept(&mut self, pool: &mut EarlyFrames, counters: &mut Counters) {
        pool.remove_first(&mut self.early);
        counters.early_requests_executed = counters.early_requests_executed.wrapping_add(1);
    }

    /// Gives back the places of what came early.
    pub fn drop_kept(&mut self, pool: &mut EarlyFrames, counters: &mut Counters) {
        let dropped = u64::from(pool.clear(&mut self.early));
        counters.early_requests_dropped = counters.early_requests_dropped.wrapping_add(dropped);
    }

    fn on_duplicate(&mut self, request: &Request<'_>, link: &Link, counters: &mut Counters) {
        counters.duplicate_requests = counters.duplicate_requests.wrapping_add(1);
        match (request.op, request.reth) {
            (Opcode::ReadRequest, Some(r)) if self.replay.replay(request.psn, &r, link) => {}
            (Opcode::CompareSwap | Opcode::FetchAdd, _)
                if self.replay.replay_atomic(request.psn) => {}
            (Opcode::ReadRequest | Opcode::CompareSwap | Opcode::FetchAdd, _) => {
                counters.drop_unreplayable = counters.drop_unreplayable.wrapping_add(1);
            }
            _ => self.owed.repeated(),
        }
    }

    /// The last acknowledgement may not have arrived: sends it again.
    pub fn owed_again(&mut self) {
        self.owed.repeated();
    }

    fn message_done(&mut self) {
        self.msn = self.msn.wrapping_add(1) & Psn::MASK;
        self.message = Message::None;
    }

    fn on_read(
        &mut self,
        request: &Request<'_>,
        link: &Link,
        keys: &KeyTable,
    ) -> Result<Option<(u32, Executed)>, Refusal> {
        let range = request.reth.ok_or(INVALID)?;
        if self.message != Message::None
            || link.responder_resources == 0
            || range.len > MAX_MESSAGE
            || link.packets(range.len) > MAX_RESPONSES
            || !self.replay.has_room()
        {
            return Err(INVALID);
        }
        // The whole range, before the first response: later there is no way to refuse.
        check_remote(&range, Access::REMOTE_READ, link, keys)?;
        let packets = link.packets(range.len);
        Ok(Some(self.answer(
            request.psn,
            packets,
            Content::Bytes(range),
        )))
    }

    fn on_atomic<M: Memory>(
        &mut self,
        request: &Request<'_>,
        link: &Link,
        keys: &KeyTable,
        memory: &mut M,
    ) -> Result<Option<(u32, Executed)>, Refusal> {
        let operands = request.atomic.ok_or(INVALID)?;
        // Without room for the answer the operation must not be executed: the peer would repeat it.
        if self.message != Message::None
            || !operands.va.is_multiple_of(u64::from(ATOMIC_LEN))
            || !self.replay.has_room()
        {
            return Err(INVALID);
        }
        let place = keys
            .check_remote(
                operands.rkey,
                link.pd,
                link.qp,
                operands.va,
                u64::from(ATOMIC_LEN),
                Access::REMOTE_ATOMIC,
            )
            .map_err(|_| ACCESS)?;
        let operation = if request.op == Opcode::CompareSwap {
            Atomic::CompareSwap {
                compare: operands.compare,
                swap: operands.swap_add,
            }
        } else {
            Atomic::FetchAdd {
                add: operands.swap_add,
            }
        };
        let original = memory
            .atomic(place.region, place.offset, operation)
            .map_err(|_| UNREACHABLE)?;
        Ok(Some(self.answer(
            request.psn,
            1,
            Content::Original(original),
        )))
    }

    /// Has a request answered with data, for which there is room.
    fn answer(&mut self, psn: Psn, packets: u32, content: Content) -> (u32, Executed) {
        self.message_done();
        let asked = Asked {
            psn,
            packets,
            content,
            msn: self.msn,
        };
        self.replay.push(asked);
        (packets, Executed::InOrder)
    }

    fn on_write<M: Memory>(
        &mut self,
        request: &Request<'_>,
        rq: &mut Receives<'_>,
        link: &Link,
        keys: &KeyTable,
        memory: &mut M,
    ) -> Result<Option<(u32, Executed)>, Refusal> {
        let len = request.payload.len() as u32;
        let (starts, ends) = shape(request.op, len, link.mtu).ok_or(INVALID)?;
        let (range, total) = match (self.message, request.reth) {
            (Message::None, Some(range)) if starts => {
                if range.len > MAX_MESSAGE {
                    return Err(INVALID);
                }
                check_remote(&range, Access::REMOTE_WRITE, link, keys)?;
                (range, range.len)
            }
            (Message::Write { rest, total }, None) if !starts => (rest, total),
            _ => return Err(INVALID),
        };
        // The last brings exactly the rest.
        if len > range.len || (len == range.len) != ends {
            return Err(INVALID);
        }
        let immediate = request.op.has_immediate();
        if immediate && rq.is_empty() {
            return Ok(None);
        }
        if len > 0 {
            // Once more for this packet: the region may have been deregistered since the first.
            let here = keys
                .check_remote(
                    range.rkey,
                    link.pd,
                    link.qp,
                    range.va,
                    u64::from(len),
                    Access::REMOTE_WRITE,
                )
                .map_err(|_| ACCESS)?;
            let offset = here.offset.saturating_add(u64::from(request.placed));
            memory
                .write(here.region, offset, request.rest())
                .map_err(|_| UNREACHABLE)?;
        }
        if !ends {
            let rest = Reth {
                va: range.va.wrapping_add(u64::from(len)),
                len: range.len - len,
                ..range
            };
            self.message = Message::Write { rest, total };
            return Ok(Some((1, Executed::InOrder)));
        }
        self.message_done();
        if !immediate {
            return Ok(Some((1, Executed::InOrder)));
        }
        let completion = Completion {
            context: rq.pop().unwrap_or_default(),
            op: CompletionOp::ReceiveWrite,
            bytes: total,
            immediate: request.immediate,
            solicited: request.solicited,
            ..Completion::default()
        };
        Ok(Some((1, Executed::Received(completion))))
    }

    fn on_send<M: Memory>(
        &mut self,
        request: &Request<'_>,
        rq: &mut Receives<'_>,
        link: &Link,
        keys: &mut KeyTable,
        memory: &mut M,
    ) -> Result<Option<(u32, Executed)>, Refusal> {
        let len = request.payload.len() as u32;
        let (starts, ends) = shape(request.op, len, link.mtu).ok_or(INVALID)?;
        let received = match self.message {
            Message::None if starts => 0,
            Message::Send { received } if !starts => received,
            _ => return Err(INVALID),
        };
        let pd = rq.own.pd;
        let Some((room, sgl)) = rq.front() else {
            // Without a receive nothing has begun; a message under way has one until the queue pair fails.
            return Ok(None);
        };
        let now = received.checked_add(len).ok_or(INVALID)?;
        // From here on the receive is in use, whatever happens to it.
        self.message = Message::Send { received: now };
        if now > room {
            return Err(Refusal {
                code: NakCode::InvalidRequest,
                status: Status::LocalLength,
            });
        }
        let at = received.saturating_add(request.placed);
        sgl::scatter(sgl, keys, pd, at, request.rest(), memory).map_err(|_| UNREACHABLE)?;
        if !ends {
            return Ok(Some((1, Executed::InOrder)));
        }
        let mut op = CompletionOp::Receive;
        if let Some(key) = request.invalidate {
            keys.invalidate(key, link.pd, link.qp, By::Peer)
                .map_err(|_| Refusal {
                    code: NakCode::RemoteAccess,
                    status: Status::RemoteInvalidate,
                })?;
            op = CompletionOp::ReceiveInvalidate;
        }
        self.message_done();
        let completion = Completion {
            context: rq.pop().unwrap_or_default(),
            op,
            bytes: now,
            invalidated: request.invalidate,
            immediate: request.immediate,
            solicited: request.solicited,
            ..Completion::default()
        };
        Ok(Some((1, Executed::Received(completion))))
    }

    /// The next answer. Responses with data come first: an acknowledgement covers them.
    pub fn poll(&mut self, link: &Link, counters: &mut Counters) -> Option<Answer> {
        if let Some(r) = self.replay.peek(link) {
            let (op, range) = match (r.content, r.first, r.last) {
                (Content::Original(_), ..) => (Opcode::AtomicAcknowledge, None),
                (Content::Bytes(range), true, true) => (Opcode::ReadResponseOnly, Some(range)),
                (Content::Bytes(range), true, false) => (Opcode::ReadResponseFirst, Some(range)),
                (Content::Bytes(range), false, false) => (Opcode::ReadResponseMiddle, Some(range)),
                (Content::Bytes(range), false, true) => (Opcode::ReadResponseLast, Some(range)),
            };
            let ack = Syndrome::ACK.to_u8();
            let extension = match r.content {
                Content::Original(original) => {
                    Extension::AtomicAck(ack, r.msn, AtomicAckEth { original })
                }
                Content::Bytes(_) if r.first || r.last => Extension::Aeth(ack, r.msn),
                Content::Bytes(_) => Extension::None,
            };
            let packet = Outgoing {
                op,
                psn: r.psn,
                solicited: false,
                ack_request: false,
                extension,
            };
            return Some(Answer::Response { packet, range });
        }
        let (syndrome, psn, msn) = self
            .owed
            .take(self.expected, self.msn, link.min_rnr_timer)?;
        let counter = match syndrome {
            Syndrome::RnrNak { .. } => &mut counters.tx_rnr_naks,
            Syndrome::Nak(NakCode::PsnSequence) => &mut counters.tx_sequence_naks,
            Syndrome::Nak(_) => &mut counters.tx_fatal_naks,
            Syndrome::Ack { .. } | Syndrome::Reserved(_) => &mut counters.tx_acks,
        };
        *counter = counter.wrapping_add(1);
        let extension = Extension::Aeth(syndrome.to_u8(), msn);
        let op = Opcode::Acknowledge;
        Some(Answer::Packet(Outgoing {
            op,
            psn,
            solicited: false,
            ack_request: false,
            extension,
        }))
    }

    /// The request at `psn`, just executed, has come to nothing because of this side.
    pub fn take_back(&mut self, psn: Psn) {
        self.expected = psn;
        self.msn = self.msn.wrapping_sub(1) & Psn::MASK;
        self.owed.refuse(NakCode::RemoteOperational, psn, self.msn);
    }

    /// A request came that this side cannot execute any more. What has been executed before has been answered.
    pub fn refuse(&mut self, psn: Psn) {
        if !psn.is_before(self.expected) {
            self.owed
                .refuse(NakCode::RemoteOperational, self.expected, self.msn);
        }
    }

    /// The memory of the READ response to send next has become inaccessible: all that is left is to say so. Not if the peer has responses
    /// to this READ already: rdma_rxe takes a NAK among them for an error of its own, and may even report success.
    pub fn refuse_response(&mut self, link: &Link) {
        let Some(response) = self.replay.peek(link) else {
            return;
        };
        // The READ counted itself.
        let before = response.msn.wrapping_sub(1) & Psn::MASK;
        let begun = self.replay.has_begun();
        self.replay.reset(0);
        if !begun {
            self.owed
                .refuse(NakCode::RemoteAccess, response.psn, before);
        }
    }
}

/// Whether a packet of a SEND or WRITE starts its message, and whether it ends it. `None` if it cannot have so many bytes: full packets up to the
/// last, which has more than none unless it is the only one.
fn shape(op: Opcode, len: u32, mtu: u32) -> Option<(bool, bool)> {
    let ends = !op.is_first() && !op.is_middle();
    let starts = !op.is_middle() && !op.is_last();
    let fits = if ends {
        len <= mtu && (starts || len > 0)
    } else {
        len == mtu
    };
    fits.then_some((starts, ends))
}

/// Checks a whole remote range. An empty one needs no key.
fn check_remote(range: &Reth, need: Access, link: &Link, keys: &KeyTable) -> Result<(), Refusal> {
    if range.len == 0 {
        return Ok(());
    }
    keys.check_remote(
        range.rkey,
        link.pd,
        link.qp,
        range.va,
        u64::from(range.len),
        need,
    )
    .map(|_| ())
    .map_err(|_| ACCESS)
}
