//! One queue pair: both its queues, both its halves, and its states.

pub(super) mod ahead;
mod memory;
mod notify;
mod reading;

pub use memory::QpMemory;

use super::ack::{Failure, Response};
use super::congestion::Congestion;
use super::doubt::Doubt;
use super::early::EarlyFrames;
use super::frame;
use super::link::Link;
use super::parked::{self, Parked};
use super::recv_queue::{Receives, RecvQueue};
use super::requester::{Requester, Step};
use super::responder::{Answer, Executed, Request, Responder};
use super::send_queue::SendQueue;
use super::{QpId, QpParams};
use crate::cm::QpAttributes;
use crate::completion::{Completion, Status};
use crate::config::Config;
use crate::connection::{ConnId, DisconnectResult};
use crate::counters::Counters;
use crate::cq::CqSet;
use crate::ecn::Dcqcn;
use crate::key::{KeyHold, KeyTable, MrKey};
use crate::memory::Memory;
use crate::psn::Psn;
use crate::request::{PostError, SendFlags, SendOp, SendRequest, Sge};
use crate::srq::SrqSet;
use crate::table::Table;
use crate::time::Instant;
use crate::transmit::Transmit;
use crate::wire::{Aeth, Opcode, Reth};
use core::net::IpAddr;

/// Where a queue pair stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Never connected. Receives can be posted.
    Init,
    /// Accepted: executes requests, sends none until the peer has confirmed or sent something.
    Accepted,
    /// Connected.
    Connected,
    /// The peer has gone. Nothing is sent or received any more, and nothing completes, until it is flushed.
    PeerGone,
    /// Failed or flushed: everything has completed.
    Error,
}

/// What a transmission reads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reads {
    /// The memory of a send-queue request.
    Request { seq: u32 },
    /// The memory that a READ of the peer named.
    Response { key: KeyHold },
}

/// A transmission that the NIC holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InFlight {
    pub qp: QpId,
    pub reads: Reads,
}

/// What queue pairs share.
pub(crate) struct Shared<'a> {
    pub keys: &'a mut KeyTable,
    pub cqs: &'a mut CqSet,
    pub srqs: &'a mut SrqSet,
    pub in_flight: &'a mut Table<InFlight>,
    pub early: &'a mut EarlyFrames,
    pub counters: &'a mut Counters,
    /// How congestion is reacted to, if it is.
    pub dcqcn: Option<&'a Dcqcn>,
}

/// A packet for a queue pair, its addresses and integrity checked.
pub(crate) enum Incoming<'a> {
    Request(Request<'a>),
    Acknowledge {
        psn: Psn,
        aeth: Aeth,
    },
    /// With data: see [`Response`].
    Response {
        op: Opcode,
        psn: Psn,
        aeth: Option<Aeth>,
        payload: &'a [u8],
        placed: u32,
    },
}

/// A queue pair.
pub(crate) struct Qp {
    pub id: QpId,
    /// Its number on the wire.
    pub number: u32,
    /// The first PSN it expects on its next connection.
    pub first_psn: Psn,
    pub params: QpParams,
    pub conn: Option<ConnId>,
    /// Being destroyed.
    pub dying: bool,
    /// The failure that the owner has not been told of.
    pub untold_failure: Option<Status>,
    /// The failure that the connection manager has not been told of.
    broke: bool,
    /// A queue it uses has died: what the peer asks for cannot be executed any more, and the peer is told so.
    refusing: bool,
    /// A request arrived that proves the peer to be connected.
    pub peer_spoke: bool,
    /// The peer is to be asked for a sign of life.
    probe: bool,
    /// It has been, and has not given one.
    probing: bool,
    /// It has given one.
    pub peer_lives: bool,
    /// A disconnect that is done but for the transmissions in flight.
    pub disconnected: Option<(ConnId, DisconnectResult)>,
    state: State,
    sq: SendQueue,
    rq: RecvQueue,
    /// Receives that are done and wait for the NIC.
    parked: Parked,
    /// Receives are to be flushed behind those that are parked, the first with this status.
    flush_behind: Option<Status>,
    requester: Requester,
    responder: Responder,
    link: Link,
    /// Whether what it sends still arrives.
    doubt: Doubt,
    congestion: Congestion,
    /// Transmissions that the NIC holds.
    in_flight: u32,
}

impl Qp {
    pub fn new(id: QpId, number: u32, memory: QpMemory) -> Qp {
        let QpMemory {
            params,
            sq,
            rq,
            parked,
            responder,
            congestion,
        } = memory;
        Qp {
            id,
            number,
            first_psn: Psn::ZERO,
            params,
            conn: None,
            dying: false,
            untold_failure: None,
            broke: false,
            refusing: false,
            peer_spoke: false,
            probe: false,
            probing: false,
            peer_lives: false,
            disconnected: None,
            state: State::Init,
            sq,
            rq,
            parked,
            flush_behind: None,
            requester: Requester::new(),
            responder,
            link: Link::none(id, params.pd),
            doubt: Doubt::default(),
            congestion,
            in_flight: 0,
        }
    }

    pub fn state(&self) -> State {
        self.state
    }

    /// Whether it can begin a connection.
    pub fn is_connectable(&self) -> bool {
        self.state == State::Init && self.conn.is_none() && !self.dying
    }

    /// Whether the NIC holds nothing of it, and none of its requests waits for what the NIC holds of others.
    pub fn is_quiet(&self) -> bool {
        self.in_flight == 0
            && self.parked.is_empty()
            && (self.state != State::Error || self.sq.is_empty())
    }

    /// Whether its owner has to be told something.
    pub fn has_news(&self) -> bool {
        self.untold_failure.is_some()
            || self.doubt.is_due()
            || ((self.dying || self.disconnected.is_some()) && self.is_quiet())
    }

    /// Whether the owner is to hear that what it sends may not arrive. Once it is not connected any more, that does not matter.
    pub fn take_doubt(&mut self) -> bool {
        self.doubt.take() && self.has_peer()
    }

    /// Sends to another next hop from now on: at once what may not have arrived.
    pub fn redirect(&mut self, mac: [u8; 6]) {
        self.link.template.redirect(mac);
        match self.state {
            State::Connected => self.requester.redirected(),
            State::Accepted => {}
            State::Init | State::PeerGone | State::Error => return,
        }
        if self.doubt.is_of_peer() {
            self.responder.owed_again();
        }
    }

    /// Asks the peer for a sign of life: whatever it sends from now on is one.
    pub fn probe(&mut self) {
        self.probing = self.has_peer();
        self.probe = self.probing;
    }

    /// A request that the peer has executed already, as far as it can tell: it answers with an acknowledgement and does nothing.
    fn probe_packet(&self) -> frame::Outgoing {
        frame::Outgoing {
            op: Opcode::WriteOnly,
            psn: self.requester.una.prev(),
            solicited: false,
            ack_request: true,
            extension: frame::Extension::Reth(Reth {
                va: 0,
                rkey: 0,
                len: 0,
            }),
        }
    }

    /// Sends nothing more, not even what ends the connection.
    pub fn silence(&mut self) {
        self.refusing = false;
        self.requester.stop();
        self.responder.silence();
    }

    /// Begins a connection: as the accepting side, which waits for the peer before it sends, or as the connecting one.
    pub fn connect(&mut self, attributes: &QpAttributes, accepting: bool, config: &Config) {
        self.link = Link::new(self.id, self.params.pd, self.number, attributes, config);
        self.requester.connect(&self.sq, &self.link);
        self.responder
            .connect(self.first_psn, self.link.responder_resources);
        self.congestion.connect(config.ecn.dcqcn());
        self.state = if accepting {
            State::Accepted
        } else {
            State::Connected
        };
    }

    /// The peer has confirmed.
    pub fn established(&mut self) {
        if self.state == State::Accepted {
            self.state = State::Connected;
        }
    }

    /// The peer is gone: stop talking, keep the work requests.
    pub fn peer_gone(&mut self) {
        if self.has_peer() {
            self.state = State::PeerGone;
            self.requester.stop();
            self.responder.silence();
        }
    }

    /// Completes everything as flushed. Once connected, there is no way back.
    pub fn flush(&mut self, shared: &mut Shared<'_>) {
        if self.state == State::Init {
            self.flush_receives(Status::Flushed, shared.cqs);
            return;
        }
        self.state = State::Error;
        self.requester.stop();
        // What has been received may still be acknowledged, or refused.
        self.responder.stop();
        self.complete(shared.keys, shared.cqs);
        self.flush_receives(Status::Flushed, shared.cqs);
    }

    /// Fails the queue pair. The receive in use, if a message is coming in, gets `receive_status`.
    pub fn fail(&mut self, status: Status, receive_status: Status, shared: &mut Shared<'_>) {
        if self.state == State::Error {
            return;
        }
        self.broke = self.has_peer();
        self.state = State::Error;
        shared.counters.qp_errors = shared.counters.qp_errors.wrapping_add(1);
        self.untold_failure = Some(status);
        self.requester.stop();
        self.complete(shared.keys, shared.cqs);
        let first = if self.responder.is_receiving() {
            receive_status
        } else {
            Status::Flushed
        };
        self.flush_receives(first, shared.cqs);
    }

    /// A queue that the queue pair uses is dead. Requests that come from now on are refused; what has been executed
    /// stays acknowledged.
    pub fn fail_for_queue(&mut self, shared: &mut Shared<'_>) {
        if self.state != State::Error {
            self.fail(Status::LocalOperation, Status::Flushed, shared);
            self.refusing = true;
        }
    }

    /// Whether the next packet to send reads no memory: it acknowledges or refuses requests, for a failed queue pair as its last, asks
    /// for a sign of life, or tells of congestion.
    pub fn has_answer(&self) -> bool {
        let acknowledges = self.responder.has_work() && !self.responder.replay.is_due();
        match self.state {
            State::Accepted | State::Connected => {
                self.probe || acknowledges || self.congestion.owes_notification()
            }
            State::Error => acknowledges,
            State::Init | State::PeerGone => false,
        }
    }

    /// Whether the connection manager is to be told of the failure: not before the peer has been answered, because the peer stops
    /// listening when it hears that the connection is over.
    pub fn take_broke(&mut self) -> bool {
        if self.responder.replay.is_due() {
            return false;
        }
        core::mem::take(&mut self.broke)
    }

    fn fail_request(&mut self, failure: Failure, shared: &mut Shared<'_>) {
        if failure.seq != self.sq.tail()
            && let Some(wqe) = self.sq.get_mut(failure.seq)
        {
            wqe.outcome = Some(failure.status);
        }
        self.fail(failure.status, Status::Flushed, shared);
        self.responder.silence();
    }

    /// Reports finished requests, oldest first, as far as the NIC has given their memory back.
    fn complete(&mut self, keys: &mut KeyTable, cqs: &mut CqSet) {
        let failed = self.state == State::Error;
        while let Some((wqe, status)) = self.sq.pop_finished(failed, keys) {
            if status != Status::Success && wqe.kind.reserves() {
                keys.cancel(MrKey(wqe.rkey));
            }
            if status == Status::Success && wqe.flags.contains(SendFlags::SILENT) {
                continue;
            }
            let completion = Completion {
                context: wqe.context,
                qp_context: self.params.context,
                status,
                op: wqe.completion_op(),
                ..Completion::default()
            };
            cqs.push(self.params.send_cq, &completion);
        }
    }

    /// Reports a receive that is done, in the order of the receive queue.
    fn deliver(&mut self, completion: &Completion, shared: &mut Shared<'_>) {
        if self.parked.is_empty() && !parked::waits(completion, shared.keys) {
            shared.cqs.push(self.params.recv_cq, completion);
        } else {
            self.parked.push(completion);
        }
    }

    /// Completes what has become ready to: the NIC has given back what read through a key that this queue pair has invalidated, or wants to
    /// register; or what drains a failed one was posted.
    pub fn complete_ready(&mut self, shared: &mut Shared<'_>) {
        while let Some(completion) = self.parked.pop(shared.keys) {
            shared.cqs.push(self.params.recv_cq, &completion);
        }
        if self.parked.is_empty()
            && let Some(first) = self.flush_behind.take()
        {
            self.flush_receives(first, shared.cqs);
        }
        self.complete(shared.keys, shared.cqs);
    }

    fn flush_receives(&mut self, first: Status, cqs: &mut CqSet) {
        if !self.parked.is_empty() {
            self.flush_behind.get_or_insert(first);
            return;
        }
        let mut status = first;
        while let Some(context) = self.rq.pop() {
            let completion = Completion {
                context,
                qp_context: self.params.context,
                status,
                op: crate::CompletionOp::Receive,
                ..Completion::default()
            };
            cqs.push(self.params.recv_cq, &completion);
            status = Status::Flushed;
        }
    }

    /// Posts a request. Gives the key that a registration will have.
    pub fn post_send(
        &mut self,
        request: &SendRequest<'_>,
        keys: &mut KeyTable,
        cqs: &CqSet,
    ) -> Result<Option<MrKey>, PostError> {
        let drains = self.state == State::Error
            && request.flags.contains(SendFlags::DRAIN)
            && !(self.dying || cqs.has_failed(self.params.send_cq));
        if self.state != State::Connected && !drains {
            return Err(PostError::NotConnected);
        }
        let awaits_data = matches!(
            request.op,
            SendOp::Read { .. } | SendOp::CompareSwap { .. } | SendOp::FetchAdd { .. }
        );
        if awaits_data && self.link.initiator_depth == 0 {
            return Err(PostError::InvalidRequest);
        }
        self.sq.post(request, self.params.pd, self.id, keys)
    }

    pub fn post_recv(
        &mut self,
        context: u64,
        sgl: &[Sge],
        cqs: &mut CqSet,
    ) -> Result<(), PostError> {
        if self.params.srq.is_some() {
            return Err(PostError::InvalidRequest);
        }
        if cqs.has_failed(self.params.recv_cq) {
            return Err(PostError::NotConnected);
        }
        self.rq.post(context, sgl)?;
        if self.state == State::Error {
            self.flush_receives(Status::Flushed, cqs);
        }
        Ok(())
    }

    /// Whether a packet with these addresses is from the peer.
    pub fn is_peer(&self, source: IpAddr, destination: IpAddr) -> bool {
        self.link.peer_ip == source && self.link.local_ip == destination
    }

    pub fn receive<M: Memory>(
        &mut self,
        now: Instant,
        packet: &Incoming<'_>,
        memory: &mut M,
        shared: &mut Shared<'_>,
    ) {
        self.peer_lives |= core::mem::take(&mut self.probing);
        match packet {
            // Without room for another receive that has to wait for the NIC, the peer has to repeat itself; what it repeats needs none.
            Incoming::Request(request)
                if self.has_peer()
                    && self.parked.is_full()
                    && !self.responder.has_executed(request.psn) =>
            {
                shared.counters.drop_receives_wait =
                    shared.counters.drop_receives_wait.wrapping_add(1);
            }
            Incoming::Request(request) if self.has_peer() => {
                match self.execute(now, request, memory, shared) {
                    Executed::Early => {
                        self.responder
                            .keep(request, &self.link, shared.early, shared.counters);
                        if self.responder.keeps_next(shared.early) {
                            self.execute_kept(now, memory, shared);
                        }
                    }
                    Executed::InOrder | Executed::Received(_) if self.responder.keeps() => {
                        self.execute_kept(now, memory, shared);
                    }
                    _ => {}
                }
            }
            Incoming::Acknowledge { psn, aeth } if self.state == State::Connected => {
                let result = self.requester.on_acknowledge(
                    now,
                    *psn,
                    *aeth,
                    &mut self.sq,
                    &self.link,
                    memory,
                    shared,
                );
                self.after_response(result, shared);
            }
            Incoming::Response {
                op,
                psn,
                aeth,
                payload,
                placed,
            } if self.state == State::Connected => {
                let response = Response {
                    op: *op,
                    psn: *psn,
                    aeth: *aeth,
                    payload,
                    placed: *placed,
                };
                let result = self.requester.on_response(
                    now,
                    &response,
                    &mut self.sq,
                    &self.link,
                    memory,
                    shared,
                );
                self.after_response(result, shared);
            }
            Incoming::Request(request) if self.refusing => self.responder.refuse(request.psn),
            _ => shared.counters.drop_qp_state = shared.counters.drop_qp_state.wrapping_add(1),
        }
    }

    /// Whether there is a peer whose requests are executed.
    fn has_peer(&self) -> bool {
        matches!(self.state, State::Accepted | State::Connected)
    }

    /// Gives back what is kept for requests that will not be executed any more.
    pub fn drop_kept(&mut self, early: &mut EarlyFrames, counters: &mut Counters) {
        if !self.has_peer() {
            self.give_back_kept(early, counters);
        }
    }

    /// Gives back what is kept. The peer has to send it again.
    pub fn give_back_kept(&mut self, early: &mut EarlyFrames, counters: &mut Counters) {
        self.responder.drop_kept(early, counters);
        early.clear(&mut self.requester.early);
    }

    /// Executes what came early and follows what has been executed, as if it came now. What has to wait for the NIC is not gone on with when that
    /// gives back what it holds: the peer has heard of nothing, and asks.
    fn execute_kept<M: Memory>(&mut self, now: Instant, memory: &mut M, shared: &mut Shared<'_>) {
        // Out of the way of what it is executed with.
        let mut pool = core::mem::take(shared.early);
        while self.has_peer() && !self.parked.is_full() {
            let Some(request) = self.responder.kept(&mut pool, shared.counters) else {
                break;
            };
            self.execute(now, &request, memory, shared);
            self.responder.remove_kept(&mut pool, shared.counters);
        }
        *shared.early = pool;
    }

    fn after_response(&mut self, result: Result<(), Failure>, shared: &mut Shared<'_>) {
        match result {
            Ok(()) => self.complete(shared.keys, shared.cqs),
            Err(failure) => self.fail_request(failure, shared),
        }
    }

    fn execute<M: Memory>(
        &mut self,
        now: Instant,
        request: &Request<'_>,
        memory: &mut M,
        shared: &mut Shared<'_>,
    ) -> Executed {
        let mut receives = Receives {
            own: &mut self.rq,
            shared: self.params.srq.map(|id| (id, &mut *shared.srqs)),
        };
        let executed = self.responder.on_request(
            request,
            &mut receives,
            &self.link,
            shared.keys,
            memory,
            shared.counters,
        );
        if self.state == State::Accepted
            && !matches!(
                executed,
                Executed::Early | Executed::Nothing | Executed::Repeated
            )
        {
            self.peer_spoke = true;
        }
        match executed {
            Executed::Early | Executed::Nothing | Executed::NotReady => {}
            Executed::Repeated => self.doubt.repeated(now, request.psn),
            Executed::InOrder => self.doubt.progress(),
            Executed::Received(mut completion) => {
                self.doubt.progress();
                completion.qp_context = self.params.context;
                self.deliver(&completion, shared);
                if shared.cqs.has_failed(self.params.recv_cq) {
                    // Nobody will ever hear of this message.
                    self.responder.take_back(request.psn);
                }
            }
            // Answers that are due still go out, the refusal last.
            Executed::Failed(status) => self.fail(status, status, shared),
        }
        executed
    }

    /// Whether there may be something to send.
    pub fn has_work(&self) -> bool {
        match self.state {
            State::Init | State::PeerGone => false,
            State::Error => self.responder.has_work(),
            State::Accepted => self.has_answer() || self.responder.has_work(),
            State::Connected => {
                self.has_answer() || self.responder.has_work() || self.requester.has_work(&self.sq)
            }
        }
    }

    /// Writes the next frame. False if there is none after all. The caller has made sure that `in_flight` has room, or that the next is
    /// an [answer](Self::has_answer), which needs none.
    pub fn poll_transmit<M: Memory>(
        &mut self,
        now: Instant,
        memory: &M,
        shared: &mut Shared<'_>,
        out: &mut Transmit,
    ) -> bool {
        if matches!(self.state, State::Init | State::PeerGone) {
            return false;
        }
        if core::mem::take(&mut self.probe) && self.state != State::Error {
            let packet = self.probe_packet();
            if frame::write(&self.link.template, &packet, None, 0, memory, out).is_ok() {
                return true;
            }
        }
        if self.notify(memory, shared, out) {
            return true;
        }
        while let Some(answer) = self.responder.poll(&self.link, shared.counters) {
            match answer {
                Answer::Packet(packet) => {
                    if frame::write(&self.link.template, &packet, None, 0, memory, out).is_ok() {
                        return true;
                    }
                }
                Answer::Response { packet, range } => {
                    if !self.congestion.admits(now, shared.dcqcn) {
                        return false;
                    }
                    if let Some(bytes) = self.respond(&packet, range, memory, shared, out) {
                        self.responder.replay.sent();
                        self.congestion.sent(now, out.bytes(), shared.dcqcn);
                        shared.counters.tx_bytes =
                            shared.counters.tx_bytes.wrapping_add(u64::from(bytes));
                        return true;
                    }
                    out.clear();
                    // What the peer has had once it may have read before the memory went, and not miss.
                    if self.responder.replay.skip() {
                        let dropped = &mut shared.counters.drop_unreplayable;
                        *dropped = dropped.wrapping_add(1);
                        continue;
                    }
                    self.responder.refuse_response(&self.link);
                    self.fail(Status::LocalProtection, Status::Flushed, shared);
                }
            }
        }
        if self.state != State::Connected
            || !self.requester.has_work(&self.sq)
            || !self.admits_request(now, shared)
        {
            return false;
        }
        let step = loop {
            let step =
                self.requester
                    .poll(&mut self.sq, &self.link, shared.keys, shared.early, out);
            if !matches!(step, Step::Executed) {
                break step;
            }
            self.complete(shared.keys, shared.cqs);
        };
        match step {
            Step::Idle | Step::Executed => false,
            Step::Fail { seq, status } => {
                self.fail_request(Failure { seq, status }, shared);
                false
            }
            Step::Send {
                packet,
                seq,
                inline,
                then,
            } => {
                let inline =
                    inline.and_then(|part| self.sq.inline(part.seq, part.offset, part.len));
                let from_pieces: u32 = out.pieces.iter().map(|p| p.len).sum();
                let len = from_pieces + inline.map_or(0, |d| d.len() as u32);
                if frame::write(&self.link.template, &packet, inline, len, memory, out).is_err() {
                    // The packet does not go out, and its request fails when its turn has come.
                    out.clear();
                    let protection = Status::LocalProtection;
                    if let Step::Fail { seq, status } = self.requester.local_error(seq, protection)
                    {
                        self.fail_request(Failure { seq, status }, shared);
                    }
                    return false;
                }
                shared.counters.tx_bytes = shared.counters.tx_bytes.wrapping_add(u64::from(len));
                if from_pieces > 0 {
                    self.sq.transmission_started(seq, shared.keys);
                    out.token = self.hold(Reads::Request { seq }, shared);
                }
                self.requester
                    .sent(now, &mut self.sq, &self.link, &packet, seq, then);
                self.congestion.sent(now, out.bytes(), shared.dcqcn);
                true
            }
        }
    }

    /// When [`on_timer`](Self::on_timer) is due.
    pub fn deadline(&self) -> Option<Instant> {
        let pace = self.congestion.deadline();
        self.requester.deadline().into_iter().chain(pace).min()
    }

    pub fn on_timer(&mut self, now: Instant, shared: &mut Shared<'_>) {
        self.congestion.on_timer(now);
        if self.state != State::Connected {
            self.requester.stop();
            return;
        }
        let before = self.requester.timeouts;
        match self
            .requester
            .on_timer(now, &mut self.sq, &self.link, shared.counters)
        {
            Ok(()) if self.requester.timeouts > before => {
                self.doubt.timed_out(now, self.requester.timeouts.into());
            }
            Ok(()) => {}
            Err(failure) => self.fail_request(failure, shared),
        }
    }
}
