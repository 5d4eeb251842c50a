//! The connection manager: IBTA communication management (volume 1 chapter 12) with the RDMA-CM IP service (annex A11).
//!
//! [`Agent`] holds all connections and listeners of an adapter. Like the rest of the engine it does no I/O: it is handed
//! packets to queue pair 1, the owner's wishes and the time, and is asked for frames, events and its next deadline.
//!
//! A connection is a state machine in `connection`; `agent` finds the connection that a message is for, decides about
//! messages that are for none, and keeps timers and queues. Everything that names a connection on the wire is random, so
//! that a restarted machine does not meet its own past.

mod agent;
mod connection;
mod dropped;
mod listener;
mod lookup;
mod negotiate;
mod reply;
mod request;
mod source;

#[cfg(test)]
mod tests;

pub(crate) use agent::Agent;

use crate::psn::Psn;
use crate::rc::QpId;
use crate::wire::Path;

/// A queue pair as the connection manager describes it to the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalQp {
    /// The queue pair.
    pub qp: QpId,
    /// Its number.
    pub qpn: u32,
    /// The first PSN it expects: Starting PSN of REQ and REP.
    pub psn: Psn,
    /// It receives from a shared receive queue.
    pub srq: bool,
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
    /// Retries after a timeout; after a sequence error only if there is no timeout.
    pub retry_count: u8,
    /// Retries after "receiver not ready".
    pub rnr_retry_count: u8,
    /// Local ACK timeout exponent.
    pub ack_timeout: u8,
    /// READs that the peer may have outstanding here. A power of two, or 0.
    pub responder_resources: u8,
    /// READs that this side may have outstanding.
    pub initiator_depth: u8,
}
