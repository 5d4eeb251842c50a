//! What a connector is doing: the state machine behind the connector's dispatch functions (pages of NdkConnect
//! to NdkDisconnect).
//!
//! Everything here runs under the port's lock and calls nobody. What the consumer must hear is noted in the entry and the
//! connector is queued; [`Connection::take_news`] hands it out in the right order: the connect event, the completion of the
//! pending request, then the disconnect event. So a disconnect event never comes before the completion of the accept or
//! complete-connect that gave the callback.

mod heard;

use core::mem;
use core::net::SocketAddr;

use arrayvec::ArrayVec;
use ndis_sys::status::{
    STATUS_ADDRESS_ALREADY_EXISTS, STATUS_CANCELLED, STATUS_CONNECTION_ABORTED,
    STATUS_CONNECTION_ACTIVE, STATUS_CONNECTION_INVALID, STATUS_DEVICE_NOT_READY,
    STATUS_INTERNAL_ERROR, STATUS_INVALID_DEVICE_REQUEST, STATUS_SUCCESS,
};
use ndis_sys::types::NTSTATUS;
use roce::{AcceptParams, ConnId, Path, PathMtu, Status};

pub(super) use heard::End;

use super::connector::Connector;
use super::endpoint::{SharedEndpoint, SharedEntry};
use super::limits::{MAX_CALLEE_DATA, MAX_READS};
use super::line::{Place, Waits};
use super::object::{self, Context, Listed, Object, Ref, Request};
use super::qp::Qp;
use super::slab::Key;
use super::state::State;
use super::status;

/// Where a connector stands. Which calls each state allows is on the pages of those calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Unconnected: new, or after a connect that can be retried.
    Idle,
    /// Connect was called; the next hop is being looked up at PASSIVE_LEVEL.
    Resolving,
    /// The request is on its way to the peer.
    Requesting,
    /// The peer accepted; CompleteConnect or Reject is due.
    Replied,
    /// CompleteConnect was called.
    Completing,
    /// A peer's request; Accept or Reject is due.
    Incoming,
    /// The acceptance is on its way; the peer has to complete.
    Accepting,
    /// Data can flow.
    Connected,
    /// The connection ended, not by this side's doing.
    PeerGone,
    /// Disconnect was called.
    Disconnecting,
    /// Never to be used again.
    Over,
}

impl Phase {
    /// Something that leads to a connection, or fails: on this side or the peer's behalf.
    fn is_attempt(self) -> bool {
        match self {
            Self::Resolving
            | Self::Requesting
            | Self::Replied
            | Self::Completing
            | Self::Incoming
            | Self::Accepting => true,
            Self::Idle | Self::Connected | Self::PeerGone | Self::Disconnecting | Self::Over => {
                false
            }
        }
    }
}

/// Read limits: inbound is what the peer may have in progress here, outbound what this side may have there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadLimits {
    /// Reads of the peer.
    pub inbound: u32,
    /// Reads of this side.
    pub outbound: u32,
}

impl ReadLimits {
    /// Over-limit wishes are lowered to what the adapter can do, never refused (M-13).
    pub(super) fn capped(self) -> (u8, u8) {
        let cap = |limit: u32| u8::try_from(limit.min(MAX_READS)).unwrap_or(u8::MAX);
        (cap(self.inbound), cap(self.outbound))
    }
}

/// What a consumer sends along with a request, an acceptance or a rejection.
pub type PrivateData = ArrayVec<u8, MAX_CALLEE_DATA>;

/// Where the disconnect event goes.
#[derive(Clone, Copy)]
pub enum DisconnectSink {
    /// NDK_FN_DISCONNECT_EVENT_CALLBACK.
    Plain(ndkpi::NDK_FN_DISCONNECT_EVENT_CALLBACK, Context),
    /// NDK_FN_DISCONNECT_EVENT_CALLBACK_EX.
    WithReason(ndkpi::NDK_FN_DISCONNECT_EVENT_CALLBACK_EX, Context),
}

/// What a connect that failed used. To the consumer the connector depends on it until the request is completed: neither's close may be
/// finished before.
#[derive(Default)]
pub struct Held {
    _qp: Option<Ref<Qp>>,
    _shared: Option<Ref<SharedEndpoint>>,
}

/// One thing that the consumer of a connector must hear.
pub enum News {
    /// A new connector came in over a listener.
    ConnectEvent,
    /// The pending request is done; with what the connector lets go of once the consumer has been told.
    Completed(Request<Connector>, NTSTATUS, Held),
    /// The connection ended; with the reason for callbacks that want one.
    Disconnected(DisconnectSink, u32),
}

/// What the port knows about one connector.
pub struct Connection {
    object: Listed<Connector>,
    pub(super) phase: Phase,
    /// In [`Phase::Incoming`] and [`Phase::Replied`]: the peer gave up meanwhile.
    pub(super) peer_gave_up: bool,
    /// The engine's connection; kept after it ended, for its data, until the connector is closed or connects anew.
    pub(super) conn: Option<ConnId>,
    pub(super) qp: Option<Ref<Qp>>,
    pub(super) local: Option<SocketAddr>,
    pub(super) peer: Option<SocketAddr>,
    /// The shared endpoint it connects from, if any.
    shared: Option<Ref<SharedEndpoint>>,
    /// The endpoint in the port space that this connector holds a reference to.
    endpoint: Option<SocketAddr>,
    /// Its place among those that wait for the way to their peer.
    place: Place,
    /// What it sends seems not to arrive.
    pub(super) doubted: bool,
    /// Counts the connector's attempts, so that the answer to an old one is not taken for the current one's.
    pub(super) attempt: u32,
    pub(super) limits: ReadLimits,
    /// Private data to be sent once the way to the peer is known.
    pub(super) data: PrivateData,
    sink: Option<DisconnectSink>,
    request: Option<Request<Connector>>,
    outcome: Option<NTSTATUS>,
    held: Held,
    connect_event_due: bool,
    disconnect_due: Option<u32>,
    /// Counted as ConnectionError.
    broken: bool,
    /// Why its queue pair failed.
    pub(super) failure: Option<Status>,
}

/// Parameters of NdkConnect.
pub struct Connect<'a> {
    /// The queue pair to connect.
    pub qp: &'a Object<Qp>,
    /// Where from.
    pub source: Source<'a>,
    /// Whom to connect to.
    pub peer: SocketAddr,
    /// What the consumer asks for.
    pub limits: ReadLimits,
    /// Private data.
    pub data: PrivateData,
}

/// Where a connection comes from.
pub enum Source<'a> {
    /// A local address of its own; port 0 lets the provider choose.
    Address(SocketAddr),
    /// An endpoint that other connectors use too.
    Shared(&'a Object<SharedEndpoint>),
}

/// Parameters of NdkAccept.
pub struct Accept<'a> {
    /// The queue pair to connect.
    pub qp: &'a Object<Qp>,
    /// What the consumer asks for.
    pub limits: ReadLimits,
    /// Path MTU that this side can do.
    pub mtu: PathMtu,
    /// Private data.
    pub data: PrivateData,
    /// Where the disconnect event goes, if anywhere.
    pub sink: Option<DisconnectSink>,
}

impl Waits for Connection {
    fn place(&mut self) -> &mut Place {
        &mut self.place
    }
}

impl Connection {
    /// An unconnected connector.
    pub fn new(object: Listed<Connector>) -> Self {
        Self {
            object,
            phase: Phase::Idle,
            peer_gave_up: false,
            conn: None,
            qp: None,
            local: None,
            peer: None,
            shared: None,
            endpoint: None,
            place: Place::OUTSIDE,
            doubted: false,
            attempt: 0,
            limits: ReadLimits::default(),
            data: PrivateData::new(),
            sink: None,
            request: None,
            outcome: None,
            held: Held::default(),
            connect_event_due: false,
            disconnect_due: None,
            broken: false,
            failure: None,
        }
    }

    /// A connector for a request that came in over an endpoint; `endpoint` has been shared for it.
    pub fn incoming(
        object: Listed<Connector>,
        conn: ConnId,
        local: SocketAddr,
        peer: SocketAddr,
        endpoint: SocketAddr,
    ) -> Self {
        Self {
            phase: Phase::Incoming,
            conn: Some(conn),
            local: Some(local),
            peer: Some(peer),
            endpoint: Some(endpoint),
            connect_event_due: true,
            ..Self::new(object)
        }
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// This side's address, once there is one.
    pub fn local(&self) -> Option<SocketAddr> {
        self.local
    }

    /// The other side's address, once there is one.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Whether data can flow or could until the peer went away: what OID_NDK_CONNECTIONS lists.
    pub fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Connected)
    }

    /// The engine's connection.
    pub fn conn(&self) -> Option<ConnId> {
        self.conn
    }

    /// The next thing that the consumer must hear: the completion before the disconnect event (decision X-34).
    pub fn take_news(&mut self) -> Option<News> {
        if mem::take(&mut self.connect_event_due) {
            return Some(News::ConnectEvent);
        }
        if let Some(status) = self.outcome.take()
            && let Some(request) = self.request.take()
        {
            return Some(News::Completed(request, status, mem::take(&mut self.held)));
        }
        let reason = self.disconnect_due.take()?;
        Some(News::Disconnected(self.sink.take()?, reason))
    }

    /// The consumer waits for a request, whose end, if it has one, it has not been told.
    fn is_pending(&self) -> bool {
        self.request.is_some()
    }

    fn finish(&mut self, outcome: NTSTATUS) {
        if self.request.is_some() {
            self.outcome = Some(outcome);
            object::tell(self.object.get());
        }
    }

    fn pending(&mut self, phase: Phase, request: Request<Connector>) {
        self.phase = phase;
        self.outcome = None;
        self.request = Some(request);
    }
}

impl State {
    /// NdkConnect up to the point where the way to the peer must be looked up, which the caller then starts.
    ///
    /// Decisions: a connector that is connecting or connected, or a QP that another connector uses, is STATUS_CONNECTION_ACTIVE
    /// one that has been disconnected can never be used again and is STATUS_INVALID_DEVICE_REQUEST.
    /// A connect that has ended is pending until its completion callback was called: CONNECTION_ACTIVE for another one,
    /// CONNECTION_INVALID for what needs its success.
    /// An identical 4-tuple is reported before an endpoint in use, because it is the more precise of the two.
    pub fn connect(
        &mut self,
        key: Key,
        want: &Connect<'_>,
        request: Request<Connector>,
    ) -> Result<(), NTSTATUS> {
        let c = self.connections.get(key).ok_or(STATUS_INTERNAL_ERROR)?;
        match c.phase {
            Phase::Idle if c.is_pending() => return Err(STATUS_CONNECTION_ACTIVE),
            Phase::Idle => {}
            Phase::Over | Phase::PeerGone | Phase::Incoming => {
                return Err(STATUS_INVALID_DEVICE_REQUEST);
            }
            _ => return Err(STATUS_CONNECTION_ACTIVE),
        }
        self.qp_is_free(want.qp)?;
        let peer = self.addresses.scoped(want.peer);
        let named = match want.source {
            Source::Address(local) => self.addresses.scoped(local),
            Source::Shared(shared) => self
                .shared
                .get(shared.key())
                .and_then(SharedEntry::endpoint)
                .ok_or(STATUS_INTERNAL_ERROR)?,
        };
        let same = |other: &Connection| {
            other.endpoint.is_some() && other.local == Some(named) && other.peer == Some(peer)
        };
        // An endpoint that nobody has, of port 0 too, is no connection's.
        if self.ports.is_claimed(named) && self.connections.iter().any(same) {
            return Err(STATUS_ADDRESS_ALREADY_EXISTS);
        }
        let (local, shared) = match want.source {
            Source::Address(_) => (self.ports.claim(named).map_err(status::of_claim)?, None),
            Source::Shared(shared) => {
                if !self.ports.share(named) {
                    return Err(STATUS_INTERNAL_ERROR);
                }
                (named, Some(shared.reference()))
            }
        };
        self.attach_qp(want.qp, key);
        let stale = self.connections.get_mut(key).and_then(|c| {
            c.qp = Some(want.qp.reference());
            c.local = Some(local);
            c.peer = Some(peer);
            c.shared = shared;
            c.endpoint = Some(local);
            c.limits = want.limits;
            c.data = want.data.clone();
            c.peer_gave_up = false;
            c.failure = None;
            c.attempt = c.attempt.wrapping_add(1);
            c.pending(Phase::Resolving, request);
            c.conn.take()
        });
        self.note_connecting(key);
        self.look_up(key);
        if let Some(conn) = stale {
            self.forget(conn);
        }
        Ok(())
    }

    /// NdkAccept.
    ///
    /// The peer is answered over the way its request came, without looking it up: who asks with addresses of nobody cannot hold up
    /// those who wait for a look-up.
    pub fn accept(
        &mut self,
        key: Key,
        want: &Accept<'_>,
        request: Request<Connector>,
    ) -> Result<(), NTSTATUS> {
        let connection = self.connections.get(key).ok_or(STATUS_INTERNAL_ERROR)?;
        let conn = match (connection.phase, connection.conn) {
            (Phase::Incoming, _) if connection.peer_gave_up => {
                return Err(STATUS_CONNECTION_ABORTED);
            }
            (Phase::Incoming, Some(conn)) => conn,
            _ => return Err(STATUS_CONNECTION_INVALID),
        };
        self.qp_is_free(want.qp)?;
        let way_back = self
            .engine
            .way_back(conn)
            .ok_or(STATUS_CONNECTION_ABORTED)?;
        let (inbound, outbound) = want.limits.capped();
        let params = AcceptParams {
            qp: want.qp.id(),
            path: Path {
                vlan: None,
                traffic_class: 0,
                mtu: want.mtu,
                ..way_back
            },
            private_data: &want.data,
            responder_resources: inbound,
            initiator_depth: outbound,
        };
        self.engine
            .accept(self.now, conn, &params)
            .map_err(status::of_cm)?;
        self.attach_qp(want.qp, key);
        if let Some(c) = self.connections.get_mut(key) {
            c.qp = Some(want.qp.reference());
            c.sink = want.sink;
            c.pending(Phase::Accepting, request);
        }
        Ok(())
    }

    /// NdkCompleteConnect: STATUS_CONNECTION_INVALID unless a connect has succeeded, STATUS_CONNECTION_ABORTED if the peer has
    /// gone since.
    pub fn complete_connect(
        &mut self,
        key: Key,
        sink: Option<DisconnectSink>,
        request: Request<Connector>,
    ) -> Result<(), NTSTATUS> {
        let c = self.connections.get_mut(key).ok_or(STATUS_INTERNAL_ERROR)?;
        let conn = match (c.phase, c.conn) {
            (Phase::Replied, Some(conn)) if !c.is_pending() => conn,
            _ => return Err(STATUS_CONNECTION_INVALID),
        };
        let result = if c.peer_gave_up {
            Err(STATUS_CONNECTION_ABORTED)
        } else {
            self.engine.establish(self.now, conn).map_err(status::of_cm)
        };
        if let Err(failure) = result {
            self.end_with(key, Phase::Over);
            self.note_establish_failed(key, failure, 0);
            return Err(failure);
        }
        if let Some(c) = self.connections.get_mut(key) {
            c.sink = sink;
            c.pending(Phase::Completing, request);
        }
        Ok(())
    }

    /// NdkReject, on either side. The connector is over afterwards.
    pub fn reject(&mut self, key: Key, data: &[u8]) -> Result<(), NTSTATUS> {
        let c = self.connections.get_mut(key).ok_or(STATUS_INTERNAL_ERROR)?;
        let conn = match (c.phase, c.conn) {
            (Phase::Incoming | Phase::Replied, Some(conn)) if !c.is_pending() => conn,
            _ => return Err(STATUS_CONNECTION_INVALID),
        };
        let gone = c.peer_gave_up;
        self.end_with(key, Phase::Over);
        if gone {
            return Err(STATUS_CONNECTION_ABORTED);
        }
        self.engine
            .reject(self.now, conn, data)
            .map_err(status::of_cm)?;
        self.note_rejected(key);
        Ok(())
    }

    /// NdkDisconnect.
    ///
    /// Decision: on a connector that is not connected this is STATUS_CONNECTION_INVALID. When the peer has already
    /// disconnected the request still flushes the QP and completes with success once nothing of it is in the NIC any more. What is flushed can be
    /// polled before the request completes.
    pub fn disconnect(&mut self, key: Key, request: Request<Connector>) -> Result<(), NTSTATUS> {
        let c = self.connections.get_mut(key).ok_or(STATUS_INTERNAL_ERROR)?;
        let (phase, conn) = match (c.phase, c.conn) {
            (phase @ (Phase::Connected | Phase::PeerGone), Some(conn)) if !c.is_pending() => {
                (phase, conn)
            }
            _ => return Err(STATUS_CONNECTION_INVALID),
        };
        // From here on the consumer has spoken first: no event (D-06).
        c.sink = None;
        c.disconnect_due = None;
        c.pending(Phase::Disconnecting, request);
        self.note_disconnecting(key);
        if phase == Phase::Connected {
            self.counters.active_connections = self.counters.active_connections.saturating_sub(1);
        }
        if let Err(error) = self.engine.disconnect(self.now, conn) {
            // The engine knows nothing of the connection any more; what is left to do is to flush.
            if let Some(qp) = self.connections.get(key).and_then(|c| c.qp.as_ref()) {
                self.engine.flush(self.now, qp.id());
            }
            let _ = error;
            if let Some(c) = self.connections.get_mut(key) {
                c.phase = Phase::Over;
                c.finish(STATUS_SUCCESS);
            }
        }
        Ok(())
    }

    /// Close of a connector has begun: ends whatever it is doing.
    ///
    /// Decisions: a pending request completes STATUS_CANCELLED; an unanswered incoming request is rejected; a
    /// connection is torn down without waiting for the peer, and its QP is flushed.
    pub fn close_connection(&mut self, key: Key) {
        self.look_up_no_more(key);
        let Some(phase) = self.end_with(key, Phase::Over) else {
            return;
        };
        if phase.is_attempt() || phase == Phase::Connected {
            self.note_closed(key, phase == Phase::Connected);
        }
        let Some(c) = self.connections.get_mut(key) else {
            return;
        };
        c.sink = None;
        c.disconnect_due = None;
        if c.outcome.is_none() {
            c.finish(STATUS_CANCELLED);
        }
        let conn = c.conn.take();
        let flush = matches!(
            phase,
            Phase::Accepting
                | Phase::Completing
                | Phase::Connected
                | Phase::PeerGone
                | Phase::Disconnecting
        );
        let qp = c.qp.as_ref().filter(|_| flush).map(|qp| qp.id());
        if phase == Phase::Connected {
            self.counters.active_connections = self.counters.active_connections.saturating_sub(1);
        }
        if let Some(conn) = conn {
            self.forget(conn);
        }
        if let Some(qp) = qp {
            self.engine.flush(self.now, qp);
        }
    }

    /// The last reference to a closed connector is gone: its endpoint is free.
    pub fn release_endpoint(&mut self, key: Key) {
        if let Some(endpoint) = self
            .connections
            .get_mut(key)
            .and_then(|c| c.endpoint.take())
        {
            self.ports.release(endpoint);
        }
    }

    /// The device loses its power: ends what is being set up, reports what was connected as disconnected, and flushes what is posted. The
    /// engine lives on.
    pub(super) fn end_connections(&mut self) {
        let mut at = 0;
        while let Some(key) = self.connections.next(at) {
            at = key.index() + 1;
            self.look_up_no_more(key);
            let Some(c) = self.connections.get_mut(key) else {
                continue;
            };
            match c.phase {
                Phase::Resolving | Phase::Requesting => {
                    self.end_attempt(key);
                    self.connect_failed(key, STATUS_DEVICE_NOT_READY, 0);
                }
                Phase::Accepting | Phase::Completing => {
                    self.end_attempt(key);
                    self.establish_failed(key, STATUS_DEVICE_NOT_READY, 0);
                }
                Phase::Connected => self.ended(key, End::PowerLost),
                Phase::Incoming | Phase::Replied => c.peer_gave_up = true,
                Phase::Idle | Phase::PeerGone | Phase::Disconnecting | Phase::Over => {}
            }
        }
        for qp in self.qps.iter() {
            self.engine.flush(self.now, qp.object.get().id());
        }
    }

    /// The engine is to do no more for the connection that was being set up.
    fn end_attempt(&mut self, key: Key) {
        if let Some(conn) = self.connections.get_mut(key).and_then(|c| c.conn.take()) {
            self.forget(conn);
        }
    }

    fn forget(&mut self, conn: ConnId) {
        self.by_conn.clear(conn.index());
        self.engine.forget(self.now, conn);
    }

    /// Decision X-35: a queue pair that a connector uses is STATUS_CONNECTION_ACTIVE; one whose connection is over can never be connected
    /// again (D-11).
    fn qp_is_free(&self, qp: &Object<Qp>) -> Result<(), NTSTATUS> {
        let Some(entry) = self.qps.get(qp.id().index()) else {
            return Err(STATUS_INTERNAL_ERROR);
        };
        let user = entry.connector.and_then(|key| self.connections.get(key));
        match user.map(Connection::phase) {
            Some(Phase::Over) | None if entry.spent => Err(STATUS_INVALID_DEVICE_REQUEST),
            Some(_) => Err(STATUS_CONNECTION_ACTIVE),
            None => Ok(()),
        }
    }

    fn attach_qp(&mut self, qp: &Object<Qp>, key: Key) {
        if let Some(entry) = self.qps.get_mut(qp.id().index()) {
            entry.connector = Some(key);
        }
    }

    /// The QP of a connector that did not get connected is free again, for a retry or to be closed.
    pub(super) fn detach_qp(&mut self, key: Key) -> Option<Ref<Qp>> {
        let qp = self.connections.get_mut(key)?.qp.take()?;
        if let Some(entry) = self.qps.get_mut(qp.id().index()) {
            entry.connector = None;
        }
        Some(qp)
    }

    /// The phase in which a connector ends what it is doing: from which it comes. An attempt that ends without a connection counts as one
    /// that failed, whoever ended it.
    fn end_with(&mut self, key: Key, last: Phase) -> Option<Phase> {
        let c = self.connections.get_mut(key)?;
        let phase = mem::replace(&mut c.phase, last);
        if phase.is_attempt() {
            self.counters.connect_failures += 1;
        }
        Some(phase)
    }

    pub(super) fn connect_failed(&mut self, key: Key, failure: NTSTATUS, reject_reason: u16) {
        self.note_connect_failed(key, failure, reject_reason);
        self.end_with(key, Phase::Idle);
        let qp = self.detach_qp(key);
        self.release_endpoint(key);
        if let Some(c) = self.connections.get_mut(key) {
            c.held = Held {
                _qp: qp,
                _shared: c.shared.take(),
            };
            c.finish(failure);
        }
    }

    fn establish_failed(&mut self, key: Key, failure: NTSTATUS, reject_reason: u16) {
        self.note_establish_failed(key, failure, reject_reason);
        self.end_with(key, Phase::Over);
        if let Some(c) = self.connections.get_mut(key) {
            c.sink = None;
            c.finish(failure);
        }
    }
}
