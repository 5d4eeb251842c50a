//! One connection: the state machine of IBTA 12.9, active and passive side.
//!
//! Messages arrive already matched to the connection. What is to be sent again on loss is kept as bytes, so that a
//! retransmission is the same message.

mod heard;

pub(super) use heard::Heard;

use super::negotiate::{self, code_duration};
use super::reply::{Kind, Reply};
use super::request::{self, MAX_RETRIES, Request, split_private};
use super::{LocalQp, QpAttributes};
use crate::config::Config;
use crate::connection::{
    AcceptParams, CmError, ConnId, ConnInfo, ConnState, ConnectFailure, ConnectParams,
    DisconnectReason, DisconnectResult, ListenerId, MAX_REJECT_DATA, MAX_REPLY_DATA,
    MAX_REQUEST_DATA,
};
use crate::event::Event;
use crate::psn::Psn;
use crate::time::Instant;
use crate::wire::Path;
use crate::wire::cm_msg::{
    Answered, Dreq, Message, Rej, RejReason, Rep, ReqPath, Rtu, private_data,
};
use crate::wire::mad;
use arrayvec::ArrayVec;
use core::net::SocketAddr;
use core::time::Duration;

/// Time asked for when the consumer takes longer than the peer waits: code of 17 s.
const SERVICE_TIMEOUT: u8 = 22;

/// The most that is granted when the peer asks for time: code of 17 s, which it may do again.
const MAX_SERVICE_TIMEOUT: u8 = 22;

/// How long a peer may keep this side waiting for the answer to a REQ by asking for more time.
const MAX_CONNECT_TIME: Duration = Duration::from_secs(300);

/// How long acknowledging takes here, as told in a REP: what Linux tells.
const TARGET_ACK_DELAY: u8 = 15;

/// Time from the first probe of a connection that the peer is said to have lost to the second. It doubles up to the longest.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);
const LONGEST_PROBE_INTERVAL: Duration = Duration::from_secs(4);

/// What a REP can say of an alternate path (IBTA 12.6.8).
const FAILOVER_ACCEPTED: u8 = 0;
const FAILOVER_UNSUPPORTED: u8 = 1;

/// Length of a GUID as the additional information of a REJ.
const GUID_LEN: u8 = 8;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Active: REQ sent.
    ReqSent,
    /// Active: REP received, the owner's decision is awaited.
    RepRcvd,
    /// Passive: REQ received, the owner's decision is awaited.
    ReqRcvd,
    /// Passive: REP sent.
    RepSent,
    /// Both: data may flow.
    Established,
    /// Both: DREQ sent.
    DreqSent,
    /// Over; late messages are answered.
    TimeWait,
    /// Over; waits for the owner to forget it.
    Closed,
}

/// What distinguishes a connection on the wire; chosen by the agent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    pub id: ConnId,
    pub comm_id: u32,
    pub transaction_id: u64,
}

pub(super) struct Connection {
    id: ConnId,
    state: State,
    pub info: ConnInfo,
    pub local_comm_id: u32,
    /// 0 until the peer has named the connection.
    pub remote_comm_id: u32,
    /// Of the exchange that the active side began.
    transaction_id: u64,
    /// What a REP says of the peer's alternate path: there is no path migration on RoCE. As Linux says, where there is none to be refused.
    failover: u8,
    /// Of a DREQ of our own.
    own_transaction_id: u64,
    local_qpn: u32,
    /// 0 until known.
    pub remote_qpn: u32,
    pub remote_guid: u64,
    /// How to reach the peer; before `accept`, the way its request came.
    path: Path,
    send_psn: Psn,
    retry_count: u8,
    rnr_retry_count: u8,
    ack_timeout: u8,
    /// The last message that is repeated until it is answered, or whenever the peer asks again.
    mad: [u8; mad::LEN],
    /// `mad` is to be sent.
    pub send: bool,
    /// The peer is to be asked for a sign of life, by the queue pair.
    pub probe: bool,
    pub deadline: Option<Instant>,
    /// When the REQ was first sent. Passive: nothing.
    begun: Instant,
    /// When a peer that has not been heard by then has lost the connection, once that is in doubt.
    doubt_ends: Instant,
    /// From one message, or one probe, to the next.
    interval: Duration,
    max_retries: u8,
    retries_left: u8,
    /// Code of the time that the peer has to answer a DREQ before it is repeated. What it said of its own times when it connected does not
    /// count: this side wants an end.
    disconnect_timeout: u8,
    pub events: ArrayVec<Event, 4>,
    /// `mad` is a REJ.
    rejected: bool,
    /// The peer withdrew while the owner was deciding.
    peer_gone: bool,
    /// An MRA prolonged the wait for the answer to our REP.
    prolonged: bool,
    was_established: bool,
    disconnect_called: bool,
    /// How the disconnection ended.
    result: DisconnectResult,
    forgotten: bool,
    /// The agent counts it among those that the wire alone has made.
    pub counted_unproven: bool,
}

impl Connection {
    /// A connection that asks for itself.
    pub fn connecting(
        now: Instant,
        names: Names,
        config: &Config,
        params: &ConnectParams<'_>,
        local: &LocalQp,
    ) -> Result<Self, CmError> {
        if params.private_data.len() > MAX_REQUEST_DATA {
            return Err(CmError::PrivateDataTooLong);
        }
        let path = Path {
            mtu: params.path.mtu.min(negotiate::max_mtu(config)),
            ..params.path
        };
        let responder_resources = params.responder_resources.min(config.max_inbound_reads);
        let initiator_depth = params.initiator_depth.min(config.max_outbound_reads);
        // The round trip is twice the packet lifetime, and the peer has its time to answer.
        let lifetime = config.ack_timeout.saturating_sub(1);
        let interval = code_duration(lifetime)
            .saturating_mul(2)
            .saturating_add(code_duration(config.cm_response_timeout));
        let mut connection = Self {
            id: names.id,
            state: State::ReqSent,
            info: ConnInfo {
                state: ConnState::Connecting,
                listener: None,
                qp: Some(local.qp),
                local: SocketAddr::new(path.src_ip, params.local_port),
                peer: SocketAddr::new(path.dst_ip, params.remote_port),
                private_data: ArrayVec::new(),
                reject_reason: None,
                reject_info: ArrayVec::new(),
                responder_resources,
                initiator_depth,
            },
            local_comm_id: names.comm_id,
            remote_comm_id: 0,
            transaction_id: names.transaction_id,
            failover: FAILOVER_ACCEPTED,
            own_transaction_id: names.transaction_id,
            local_qpn: local.qpn,
            remote_qpn: 0,
            remote_guid: 0,
            path,
            send_psn: Psn::ZERO,
            retry_count: config.retry_count,
            rnr_retry_count: 0,
            ack_timeout: config.ack_timeout,
            mad: [0; mad::LEN],
            send: false,
            probe: false,
            deadline: None,
            begun: now,
            doubt_ends: Instant::ZERO,
            interval,
            max_retries: MAX_RETRIES,
            retries_left: 0,
            disconnect_timeout: config.cm_disconnect_timeout,
            events: ArrayVec::new(),
            rejected: false,
            peer_gone: false,
            prolonged: false,
            was_established: false,
            disconnect_called: false,
            result: DisconnectResult::Graceful,
            forgotten: false,
            counted_unproven: false,
        };
        let req = request::compose(
            config,
            names.comm_id,
            params,
            local,
            &path,
            responder_resources,
            initiator_depth,
        );
        connection.mad = Message::Req(req).emit(names.transaction_id);
        connection.send_until_answered(now);
        Ok(connection)
    }

    /// A connection that a peer asks for. The request has been checked.
    pub fn requested(
        names: Names,
        config: &Config,
        listener: ListenerId,
        request: &Request<'_>,
    ) -> Self {
        let req = request.req;
        let [_, user] = split_private(&req.private);
        // A code of no sense must make neither a storm nor an eternity.
        let interval = code_duration(req.local_cm_timeout.clamp(14, 22));
        let mut private = ArrayVec::new();
        // The user's area of a request is smaller than the buffer.
        let _ = private.try_extend_from_slice(user);
        Self {
            id: names.id,
            state: State::ReqRcvd,
            info: ConnInfo {
                state: ConnState::Requested,
                listener: Some(listener),
                qp: None,
                local: SocketAddr::new(request.cma.dst, request.port),
                peer: SocketAddr::new(request.cma.src, request.cma.src_port),
                private_data: private,
                reject_reason: None,
                reject_info: ArrayVec::new(),
                responder_resources: req.initiator_depth.min(config.max_inbound_reads),
                initiator_depth: req.responder_resources.min(config.max_outbound_reads),
            },
            local_comm_id: names.comm_id,
            remote_comm_id: req.local_comm_id,
            transaction_id: request.transaction_id,
            failover: if req.alternate == ReqPath::default() {
                FAILOVER_ACCEPTED
            } else {
                FAILOVER_UNSUPPORTED
            },
            own_transaction_id: names.transaction_id,
            local_qpn: 0,
            remote_qpn: req.qpn,
            remote_guid: req.ca_guid,
            path: request.path,
            send_psn: req.starting_psn,
            retry_count: req.retry_count,
            rnr_retry_count: req.rnr_retry_count,
            ack_timeout: negotiate::ack_timeout(req.primary.ack_timeout, config),
            mad: [0; mad::LEN],
            send: false,
            probe: false,
            deadline: None,
            begun: Instant::ZERO,
            doubt_ends: Instant::ZERO,
            interval,
            max_retries: negotiate::retries(req.max_cm_retries, interval, config),
            retries_left: 0,
            disconnect_timeout: config.cm_disconnect_timeout,
            events: ArrayVec::new(),
            rejected: false,
            peer_gone: false,
            prolonged: false,
            was_established: false,
            disconnect_called: false,
            result: DisconnectResult::Graceful,
            forgotten: false,
            counted_unproven: false,
        }
        .with_event(Event::ConnectRequest {
            listener,
            conn: names.id,
        })
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Messages go to another next hop from now on.
    pub fn redirect(&mut self, mac: [u8; 6]) {
        self.path.dst_mac = mac;
    }

    pub fn message(&self) -> &[u8; mad::LEN] {
        &self.mad
    }

    /// Whether a message that names the connection as this side does comes from the peer, as far as names tell. It names the connection as
    /// the peer does, too. While this side asks, it may not know yet how that is; then the message has to belong to the exchange that the
    /// request began, whose transaction ID has random bits of its own.
    pub fn is_peers(&self, peers_name: u32, transaction_id: u64) -> bool {
        let answers = transaction_id == self.transaction_id;
        match (self.state, self.remote_comm_id) {
            // Who rejects need not have named anything.
            (State::ReqSent, known) => {
                answers && (known == 0 || peers_name == 0 || peers_name == known)
            }
            (_, 0) => answers,
            (_, known) => peers_name == known,
        }
    }

    /// Whether a peer that does not know this side's name of the connection can withdraw it, by a message of this transaction: it has had
    /// no answer yet.
    pub fn is_withdrawn_by(&self, transaction_id: u64) -> bool {
        matches!(self.state, State::ReqRcvd | State::RepSent)
            && transaction_id == self.transaction_id
    }

    pub fn is_active(&self) -> bool {
        self.info.listener.is_none()
    }

    /// Neither over nor about to be.
    pub fn is_live(&self) -> bool {
        !matches!(
            self.state,
            State::DreqSent | State::TimeWait | State::Closed
        )
    }

    /// A peer asked for it, and has not shown yet that it hears the answers.
    pub fn is_unproven(&self) -> bool {
        !self.is_active() && !self.was_established
    }

    pub fn is_forgotten(&self) -> bool {
        self.forgotten
    }

    /// Nothing is owed to anybody any more.
    pub fn is_finished(&self) -> bool {
        self.forgotten && self.state == State::Closed && !self.send
    }

    // What the owner wants.

    pub fn accept(
        &mut self,
        now: Instant,
        config: &Config,
        params: &AcceptParams<'_>,
        local: &LocalQp,
    ) -> Result<QpAttributes, CmError> {
        self.expect_state(State::ReqRcvd)?;
        if params.private_data.len() > MAX_REPLY_DATA {
            return Err(CmError::PrivateDataTooLong);
        }
        self.info.responder_resources = params
            .responder_resources
            .min(self.info.responder_resources);
        self.info.initiator_depth = params.initiator_depth.min(self.info.initiator_depth);
        self.info.qp = Some(local.qp);
        self.local_qpn = local.qpn;
        self.path.src_mac = params.path.src_mac;
        self.path.dst_mac = params.path.dst_mac;
        self.path.hop_limit = params.path.hop_limit;
        self.path.vlan = params.path.vlan.or(self.path.vlan);
        self.mad = Message::Rep(Rep {
            local_comm_id: self.local_comm_id,
            remote_comm_id: self.remote_comm_id,
            qkey: 0,
            qpn: local.qpn,
            vendor_id: 0,
            local_eecn: 0,
            starting_psn: local.psn,
            responder_resources: self.info.responder_resources,
            initiator_depth: self.info.initiator_depth,
            target_ack_delay: TARGET_ACK_DELAY,
            failover_accepted: self.failover,
            flow_control: false,
            rnr_retry_count: config.rnr_retry_count,
            srq: local.srq,
            ca_guid: config.guid,
            private: private_data(params.private_data),
        })
        .emit(self.transaction_id);
        self.send_until_answered(now);
        self.enter(State::RepSent);
        Ok(self.attributes())
    }

    pub fn establish(&mut self) -> Result<QpAttributes, CmError> {
        self.expect_state(State::RepRcvd)?;
        self.mad = Message::Rtu(Rtu {
            local_comm_id: self.local_comm_id,
            remote_comm_id: self.remote_comm_id,
            private: private_data(&[]),
        })
        .emit(self.transaction_id);
        self.send = true;
        self.become_established();
        Ok(self.attributes())
    }

    pub fn reject(&mut self, now: Instant, data: &[u8]) -> Result<(), CmError> {
        let message = match self.state {
            State::RepRcvd => Answered::Rep,
            _ => Answered::Req,
        };
        if message == Answered::Req {
            self.expect_state(State::ReqRcvd)?;
        }
        if data.len() > MAX_REJECT_DATA {
            return Err(CmError::PrivateDataTooLong);
        }
        self.send_rej(message, RejReason::CONSUMER, None, data);
        self.enter_timewait(now);
        Ok(())
    }

    pub fn disconnect(&mut self, now: Instant) -> Result<(), CmError> {
        if !self.was_established || self.disconnect_called {
            return Err(CmError::InvalidState);
        }
        self.disconnect_called = true;
        // Whoever disconnects is not told any more that it is disconnected.
        self.events
            .retain(|e| !matches!(e, Event::Disconnected { .. }));
        match self.state {
            State::Established => self.send_dreq(now),
            State::DreqSent => self.info.state = ConnState::Disconnecting,
            _ => self.report_disconnected(),
        }
        Ok(())
    }

    /// The queue pair failed.
    pub fn abort(&mut self, now: Instant) {
        self.give_up(now, DisconnectReason::QpError);
    }

    /// Somebody at the peer's address wants a connection for the queue pair that the peer has here: the peer has lost this one, or somebody
    /// else speaks in its name. It can be heard: one that lives answers a [`probe`](Self::probe), and keeps its connection; and it has as
    /// long for that as it would have to acknowledge a request, so that nobody makes an outage fatal that data would survive. One that is
    /// being set up is left to its own timers.
    pub fn doubt(&mut self, now: Instant) {
        // The time of an established connection runs only while it is in doubt.
        if self.state == State::Established && self.deadline.is_none() {
            self.doubt_ends = now.after(negotiate::patience(self.ack_timeout, self.retry_count));
            self.interval = PROBE_INTERVAL;
            self.ask(now);
        }
    }

    fn ask(&mut self, now: Instant) {
        self.probe = true;
        self.deadline = Some(now.after(self.interval).min(self.doubt_ends));
        self.interval = self.interval.saturating_mul(2).min(LONGEST_PROBE_INTERVAL);
    }

    /// The peer has shown that it lives.
    pub fn heard(&mut self) {
        if self.state == State::Established {
            self.probe = false;
            self.deadline = None;
        }
    }

    fn give_up(&mut self, now: Instant, reason: DisconnectReason) {
        match self.state {
            State::RepSent => {
                self.report(Event::EstablishFailed {
                    conn: self.id,
                    reason: ConnectFailure::Aborted,
                });
                self.send_rej(Answered::Other, RejReason::CONSUMER, None, &[]);
                self.enter_timewait(now);
            }
            State::Established => {
                self.report(Event::Disconnected {
                    conn: self.id,
                    reason,
                });
                self.send_dreq(now);
                self.info.state = ConnState::Closed;
            }
            _ => {}
        }
    }

    /// There is no way to the peer any more, ever.
    pub fn fail(&mut self) {
        match self.state {
            State::ReqSent => self.report(Event::ConnectFailed {
                conn: self.id,
                reason: ConnectFailure::EngineFailed,
            }),
            State::RepSent => self.report(Event::EstablishFailed {
                conn: self.id,
                reason: ConnectFailure::EngineFailed,
            }),
            State::Established => {
                self.result = DisconnectResult::Timeout;
                self.report(Event::Disconnected {
                    conn: self.id,
                    reason: DisconnectReason::EngineFailed,
                });
            }
            State::DreqSent => {
                self.result = DisconnectResult::Timeout;
                if self.disconnect_called {
                    self.report_disconnected();
                }
            }
            // Where the owner has the word, the engine refuses what it says.
            State::RepRcvd | State::ReqRcvd | State::TimeWait | State::Closed => {}
        }
        self.send = false;
        self.deadline = None;
        self.enter(State::Closed);
    }

    /// The owner has no further interest.
    pub fn forget(&mut self, now: Instant, guid: u64) {
        self.forgotten = true;
        self.events.clear();
        match self.state {
            State::ReqSent => {
                self.send_rej(Answered::Other, RejReason::TIMEOUT, Some(guid), &[]);
                self.enter_timewait(now);
            }
            State::RepRcvd => {
                self.send_rej(Answered::Rep, RejReason::CONSUMER, None, &[]);
                self.enter_timewait(now);
            }
            State::ReqRcvd => {
                self.send_rej(Answered::Req, RejReason::CONSUMER, None, &[]);
                self.enter_timewait(now);
            }
            State::RepSent => {
                self.send_rej(Answered::Other, RejReason::CONSUMER, None, &[]);
                self.enter_timewait(now);
            }
            State::Established => self.send_dreq(now),
            State::DreqSent | State::TimeWait | State::Closed => {}
        }
    }

    /// As good as an RTU: the peer sends, so it has the REP (decision X-56; the "communication established" of IBTA).
    pub fn communication_established(&mut self) {
        if self.state == State::RepSent {
            self.become_established();
        }
    }

    // What time brings.

    pub fn on_timeout(&mut self, now: Instant, guid: u64) {
        self.deadline = None;
        if matches!(
            self.state,
            State::ReqSent | State::RepSent | State::DreqSent
        ) && let Some(left) = self.retries_left.checked_sub(1)
        {
            self.retries_left = left;
            self.send = true;
            self.deadline = Some(now.after(self.interval));
            return;
        }
        match self.state {
            State::ReqSent => {
                self.fail_connect(now, ConnectFailure::Timeout);
                self.send_rej(Answered::Other, RejReason::TIMEOUT, Some(guid), &[]);
            }
            State::RepSent => {
                self.report(Event::EstablishFailed {
                    conn: self.id,
                    reason: ConnectFailure::Timeout,
                });
                self.send_rej(Answered::Other, RejReason::TIMEOUT, Some(guid), &[]);
                self.enter_timewait(now);
            }
            State::DreqSent => self.finish_disconnect(now, DisconnectResult::Timeout),
            State::TimeWait => self.enter(State::Closed),
            State::Established if now < self.doubt_ends => self.ask(now),
            State::Established => self.give_up(now, DisconnectReason::Stale),
            State::RepRcvd | State::ReqRcvd | State::Closed => {}
        }
    }

    // Steps that several of the above share.

    fn expect_state(&self, state: State) -> Result<(), CmError> {
        if self.state == state {
            Ok(())
        } else if self.peer_gone {
            Err(CmError::PeerGone)
        } else {
            Err(CmError::InvalidState)
        }
    }

    fn attributes(&self) -> QpAttributes {
        QpAttributes {
            peer_qpn: self.remote_qpn,
            path: self.path,
            send_psn: self.send_psn,
            retry_count: self.retry_count,
            rnr_retry_count: self.rnr_retry_count,
            ack_timeout: self.ack_timeout,
            responder_resources: negotiate::room(self.info.responder_resources),
            initiator_depth: self.info.initiator_depth,
        }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.info.state = match state {
            State::ReqSent => ConnState::Connecting,
            State::RepRcvd => ConnState::Replied,
            State::ReqRcvd => ConnState::Requested,
            State::RepSent => ConnState::Accepting,
            State::Established => ConnState::Established,
            State::DreqSent => ConnState::Disconnecting,
            State::TimeWait | State::Closed => ConnState::Closed,
        };
    }

    fn enter_timewait(&mut self, now: Instant) {
        self.enter(State::TimeWait);
        if !self.rejected {
            self.send = false;
        }
        // Nothing is under way of a queue pair that was never connected, and the peer does not get to make its request rest long.
        let proposed = if self.was_established || !self.is_active() && self.local_qpn != 0 {
            self.ack_timeout
        } else {
            0
        };
        self.deadline = Some(now.after(negotiate::timewait(proposed)));
    }

    fn become_established(&mut self) {
        self.deadline = None;
        if !self.is_active() {
            self.send = false;
        }
        self.was_established = true;
        self.enter(State::Established);
        self.report(Event::Established { conn: self.id });
    }

    fn fail_connect(&mut self, now: Instant, reason: ConnectFailure) {
        self.report(Event::ConnectFailed {
            conn: self.id,
            reason,
        });
        self.enter_timewait(now);
    }

    fn finish_disconnect(&mut self, now: Instant, result: DisconnectResult) {
        self.result = result;
        self.enter_timewait(now);
        if self.disconnect_called {
            self.report_disconnected();
        }
    }

    fn report_disconnected(&mut self) {
        self.report(Event::DisconnectDone {
            conn: self.id,
            result: self.result,
        });
    }

    fn report(&mut self, event: Event) {
        if !self.forgotten {
            // At most Established, Disconnected and DisconnectDone wait at once.
            let _ = self.events.try_push(event);
        }
    }

    fn with_event(mut self, event: Event) -> Self {
        self.report(event);
        self
    }

    fn keep_private(&mut self, data: &[u8]) {
        self.info.private_data.clear();
        let len = data.len().min(MAX_REPLY_DATA);
        let _ = self
            .info
            .private_data
            .try_extend_from_slice(data.get(..len).unwrap_or(&[]));
    }

    fn keep_rejection(&mut self, rej: &Rej) {
        self.keep_private(&rej.private);
        self.info.reject_reason = Some(rej.reason.0);
        self.info.reject_info.clear();
        let len = usize::from(rej.info_len).min(Rej::INFO_LEN);
        // As much as the message has.
        let _ = self
            .info
            .reject_info
            .try_extend_from_slice(rej.info.get(..len).unwrap_or(&[]));
    }

    fn send_until_answered(&mut self, now: Instant) {
        self.send = true;
        self.retries_left = self.max_retries;
        self.deadline = Some(now.after(self.interval));
    }

    fn send_dreq(&mut self, now: Instant) {
        self.mad = Message::Dreq(Dreq {
            local_comm_id: self.local_comm_id,
            remote_comm_id: self.remote_comm_id,
            remote_qpn: self.remote_qpn,
            private: private_data(&[]),
        })
        .emit(self.own_transaction_id);
        self.interval = code_duration(self.disconnect_timeout);
        self.max_retries = MAX_RETRIES;
        self.send_until_answered(now);
        self.enter(State::DreqSent);
    }

    fn send_rej(&mut self, message: Answered, reason: RejReason, guid: Option<u64>, data: &[u8]) {
        self.mad = Message::Rej(Rej {
            local_comm_id: self.local_comm_id,
            remote_comm_id: self.remote_comm_id,
            message,
            info_len: if guid.is_some() { GUID_LEN } else { 0 },
            reason,
            info: private_data(&guid.unwrap_or(0).to_be_bytes()),
            private: private_data(data),
        })
        .emit(self.transaction_id);
        self.send = true;
        self.rejected = true;
    }

    fn reply(&self, kind: Kind) -> Reply {
        Reply {
            path: self.path,
            transaction_id: self.transaction_id,
            local_comm_id: self.local_comm_id,
            remote_comm_id: self.remote_comm_id,
            kind,
        }
    }
}
