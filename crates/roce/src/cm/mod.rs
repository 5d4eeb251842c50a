//! The connection manager.

use crate::config::Config;
use crate::connection::{AcceptParams, CmError, ConnId, ConnInfo, ConnectParams, ListenerId};
use crate::event::Event;
use crate::psn::Psn;
use crate::rc::QpId;
use crate::rng::Rng;
use crate::table::OutOfMemory;
use crate::time::Instant;
use crate::wire::Path;
use arrayvec::ArrayVec;
use core::net::IpAddr;

/// A queue pair as the connection manager describes it to the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalQp {
    /// The queue pair.
    pub qp: QpId,
    /// Its number.
    pub qpn: u32,
    /// The first PSN it expects: Starting PSN of REQ and REP.
    pub psn: Psn,
}

/// What a queue pair has to know of its peer before data can flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QpAttributes {
    /// The peer's queue pair number.
    pub peer_qpn: u32,
    /// How to reach the peer.
    pub path: Path,
    /// The first PSN to send.
    pub send_psn: Psn,
    /// Retries after a timeout or a sequence error.
    pub retry_count: u8,
    /// Retries after "receiver not ready".
    pub rnr_retry_count: u8,
    /// Local ACK timeout exponent.
    pub ack_timeout: u8,
    /// READs that the peer may have outstanding here.
    pub responder_resources: u8,
    /// READs that this side may have outstanding.
    pub initiator_depth: u8,
}

/// All connections and listeners of an adapter.
pub struct Agent {}

#[expect(unused_variables, reason = "skeleton: signatures first")]
impl Agent {
    /// An agent without connections.
    pub fn try_new(config: &Config, rng: &mut Rng) -> Result<Agent, OutOfMemory> {
        Ok(Agent {})
    }

    /// See [`Engine::listen`](crate::Engine::listen).
    pub fn listen(&mut self, addr: IpAddr, port: u16) -> Result<ListenerId, CmError> {
        Err(CmError::TableFull)
    }

    /// See [`Engine::unlisten`](crate::Engine::unlisten).
    pub fn unlisten(&mut self, listener: ListenerId) -> Result<(), CmError> {
        Err(CmError::Unknown)
    }

    /// See [`Engine::pause_listener`](crate::Engine::pause_listener).
    pub fn pause_listener(&mut self, listener: ListenerId, pause: bool) -> Result<(), CmError> {
        Err(CmError::Unknown)
    }

    /// Sends a request.
    pub fn connect(
        &mut self,
        now: Instant,
        params: &ConnectParams<'_>,
        local: &LocalQp,
    ) -> Result<ConnId, CmError> {
        Err(CmError::TableFull)
    }

    /// Accepts a request. The caller connects the queue pair before anything else happens.
    pub fn accept(
        &mut self,
        now: Instant,
        conn: ConnId,
        params: &AcceptParams<'_>,
        local: &LocalQp,
    ) -> Result<QpAttributes, CmError> {
        Err(CmError::Unknown)
    }

    /// Rejects a request or a reply.
    pub fn reject(&mut self, now: Instant, conn: ConnId, data: &[u8]) -> Result<(), CmError> {
        Err(CmError::Unknown)
    }

    /// Confirms a reply. The caller connects the queue pair before anything else happens.
    pub fn establish(&mut self, now: Instant, conn: ConnId) -> Result<QpAttributes, CmError> {
        Err(CmError::Unknown)
    }

    /// Ends a connection; `Event::DisconnectDone` follows.
    pub fn disconnect(&mut self, now: Instant, conn: ConnId) -> Result<(), CmError> {
        Err(CmError::Unknown)
    }

    /// The connection's queue pair failed: tells the peer, and the owner by `Event::Disconnected`.
    pub fn abort(&mut self, now: Instant, conn: ConnId) {}

    /// The owner has no further interest: ends what has to be ended, without events.
    pub fn forget(&mut self, now: Instant, conn: ConnId) {}

    /// The first request arrived on the queue pair of an accepted connection: as good as the peer's confirmation.
    pub fn communication_established(&mut self, now: Instant, conn: ConnId) {}

    /// A datagram to the general service interface, its integrity checked.
    pub fn receive(&mut self, now: Instant, packet: &crate::wire::Packet<'_>) {}

    /// Writes a whole frame, if there is one to send.
    pub fn poll_transmit(&mut self, now: Instant, frame: &mut ArrayVec<u8, 512>) -> bool {
        false
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// Acts on deadlines that have passed.
    pub fn handle_timeout(&mut self, now: Instant) {}

    /// What the owner has to be told.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// What is known about a connection.
    pub fn connection(&self, conn: ConnId) -> Option<&ConnInfo> {
        None
    }
}
