//! Connections and listeners as the engine's owner sees them; `cm` implements them.

use crate::path::Path;
use crate::rc::QpId;
use crate::table::id;
use crate::wire::cm_msg::RejReason;
use arrayvec::ArrayVec;
use core::net::SocketAddr;

id! {
    /// A connection, from the first message on.
    ConnId
}

id! {
    /// A listener.
    ListenerId
}

impl ConnId {
    /// A number below `Config::max_connections` that no other live connection has.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0.index as usize
    }
}

impl ListenerId {
    /// A number below `Config::max_listeners` that no other live listener has.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0.index as usize
    }
}

/// Private data that a connection request can carry, in bytes.
pub const MAX_REQUEST_DATA: usize = 56;
/// Private data that an acceptance can carry, in bytes.
pub const MAX_REPLY_DATA: usize = 196;
/// Private data that a rejection can carry, in bytes.
pub const MAX_REJECT_DATA: usize = 148;

/// Additional information that a rejection can carry, in bytes.
pub const MAX_REJECT_INFO: usize = 72;

/// Why a connection call was refused. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CmError {
    /// No such listener or connection.
    Unknown,
    /// No such queue pair, or it is connected or was.
    QpUnusable,
    /// The connection is not in a state in which this makes sense; if its peer has given up, that is [`CmError::PeerGone`].
    InvalidState,
    /// The peer has given up.
    PeerGone,
    /// All listeners or connections are in use.
    TableFull,
    /// Another listener has this address and port.
    AddressInUse,
    /// A connection with these addresses and ports exists.
    ConnectionExists,
    /// More private data than the message can carry.
    PrivateDataTooLong,
    /// The path's addresses are of different families, or its MTU is larger than the link takes.
    InvalidPath,
    /// [`Engine::fail`](crate::Engine::fail) was called.
    EngineFailed,
}

/// Why a connection did not come about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectFailure {
    /// The peer refused, or withdrew after an `accept`, with an IBTA reason code: 28 is the consumer itself, 8 that nobody listens, 4 that
    /// the peer did not get its answer in time.
    Rejected {
        /// The reason code.
        reason: u16,
    },
    /// The peer does not answer.
    Timeout,
    /// The peer disconnected after an `accept`, the queue pair failed, or the peer's answer made no sense.
    Aborted,
    /// [`Engine::fail`](crate::Engine::fail) was called.
    EngineFailed,
}

/// Why an established connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DisconnectReason {
    /// The peer disconnected.
    Peer,
    /// The queue pair failed.
    QpError,
    /// The peer no longer knows the connection: its queue pair is asked for anew, and it does not answer any more.
    Stale,
    /// The peer rejected what was established, with an IBTA reason code.
    Rejected {
        /// The reason code.
        reason: u16,
    },
    /// [`Engine::fail`](crate::Engine::fail) was called. The peer does not know.
    EngineFailed,
}

impl DisconnectReason {
    /// The peer rejected what was established because it does not know the connection any more: as [`Stale`](Self::Stale), but said.
    pub const UNKNOWN: DisconnectReason = DisconnectReason::Rejected {
        reason: RejReason::STALE_CONNECTION.0,
    };
}

/// How a `disconnect` ended. The connection is over in every case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DisconnectResult {
    /// The peer answered, or disconnected at the same time or earlier.
    Graceful,
    /// The peer did not answer, or cannot any more because the engine has failed.
    Timeout,
}

/// What [`Engine::connect`](crate::Engine::connect) needs.
#[derive(Clone, Copy, Debug)]
pub struct ConnectParams<'a> {
    /// An unconnected queue pair.
    pub qp: QpId,
    /// How to reach the peer; the addresses of both sides are in it.
    pub path: Path,
    /// Local port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
    /// Data for the peer, at most [`MAX_REQUEST_DATA`] bytes.
    pub private_data: &'a [u8],
    /// READs that the peer may have outstanding here; capped by `Config::max_inbound_reads`.
    pub responder_resources: u8,
    /// READs this side wants to have outstanding; capped by `Config::max_outbound_reads`.
    pub initiator_depth: u8,
}

/// What [`Engine::accept`](crate::Engine::accept) needs.
#[derive(Clone, Copy, Debug)]
pub struct AcceptParams<'a> {
    /// An unconnected queue pair.
    pub qp: QpId,
    /// How to reach the peer. IP addresses, traffic class and path MTU of the request win over what is said here, and so does its
    /// VLAN tag if none is given here.
    pub path: Path,
    /// Data for the peer, at most [`MAX_REPLY_DATA`] bytes.
    pub private_data: &'a [u8],
    /// READs that the peer may have outstanding here; capped by the peer's wish and by `Config::max_inbound_reads`.
    pub responder_resources: u8,
    /// READs this side wants to have outstanding; capped by the peer's offer and by `Config::max_outbound_reads`.
    pub initiator_depth: u8,
}

/// Where a connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnState {
    /// Request sent.
    Connecting,
    /// The peer accepted; `establish` or `reject` is due.
    Replied,
    /// Request received; `accept` or `reject` is due.
    Requested,
    /// Accepted; the peer has not confirmed yet.
    Accepting,
    /// Data can flow.
    Established,
    /// `disconnect` was called.
    Disconnecting,
    /// Over: failed, rejected, disconnected or aborted.
    Closed,
}

/// What is known about a connection.
#[derive(Clone, Debug)]
pub struct ConnInfo {
    /// Where it stands.
    pub state: ConnState,
    /// The listener it came in by.
    pub listener: Option<ListenerId>,
    /// Its queue pair, once it has one.
    pub qp: Option<QpId>,
    /// Local address and port.
    pub local: SocketAddr,
    /// The peer's address and port.
    pub peer: SocketAddr,
    /// What the peer sent along: with its request, its acceptance or its rejection, whichever came last. Always as long as
    /// the message can carry; the messages do not say how much of it was meant.
    pub private_data: ArrayVec<u8, MAX_REPLY_DATA>,
    /// The reason code (IBTA 12.6.7.2) with which the peer has rejected or withdrawn, whether or not an event said so.
    pub reject_reason: Option<u16>,
    /// What it has added for the connection managers to that reason; what it means depends on the reason: a GID, an MTU, ...
    pub reject_info: ArrayVec<u8, MAX_REJECT_INFO>,
    /// READs that the peer may have outstanding here. Before `accept`: what the peer asked for, capped.
    pub responder_resources: u8,
    /// READs that this side may have outstanding. Before `accept`: what the peer offered, capped.
    pub initiator_depth: u8,
}
