//! What the engine has to tell its owner.

use crate::completion::Status;
use crate::connection::{ConnId, ConnectFailure, DisconnectReason, DisconnectResult, ListenerId};
use crate::cq::{CqId, CqStatus};
use crate::key::MrKey;
use crate::memory::RegionId;
use crate::rc::QpId;
use crate::srq::{SrqId, SrqStatus};

/// Something that happened. Taken with [`Engine::poll_event`](crate::Engine::poll_event); none is ever lost, and those of one
/// connection or object come in the order in which they happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A completion queue's arm is satisfied; it has to be armed again for another notification.
    CqNotify {
        /// The queue.
        cq: CqId,
        /// Its state.
        status: CqStatus,
    },
    /// A shared receive queue runs low or has failed.
    SrqNotify {
        /// The queue.
        srq: SrqId,
        /// Which of both.
        status: SrqStatus,
    },
    /// A queue pair failed. Its work requests have been completed; its connection, if any, is being torn down, which
    /// [`Event::Disconnected`] reports on its own.
    QpFatal {
        /// The queue pair.
        qp: QpId,
        /// The first failure.
        status: Status,
    },
    /// What a connected queue pair sends seems not to arrive: its acknowledgement times were up twice in a row, or the peer repeats what
    /// has been answered. Its owner may look for a new way, and tell of it with [`Engine::redirect`](crate::Engine::redirect); it need
    /// not. Twice a second at most for one queue pair.
    PathDoubted {
        /// The queue pair.
        qp: QpId,
    },
    /// A queue pair whose `destroy_qp` answered `Busy` is gone.
    QpIdle {
        /// The queue pair that was.
        qp: QpId,
    },
    /// A region whose `deregister` answered `Busy` is no longer read by anybody.
    RegionIdle {
        /// The key that was given to `deregister`.
        key: MrKey,
        /// The region: of a fast registered key, that of its last registration.
        region: RegionId,
    },
    /// A window whose `destroy_window` answered `Busy` is no longer read through.
    WindowIdle {
        /// The name that was given to `create_window`.
        window: u64,
    },
    /// A peer wants to connect. Answer with `accept` or `reject`, or `forget` it: until then the connection keeps its place, however long
    /// that takes. The peer, which is told to wait as often as it asks again, may give up before.
    ConnectRequest {
        /// Whom it asked.
        listener: ListenerId,
        /// The new connection.
        conn: ConnId,
    },
    /// The peer accepted a `connect`. Answer with `establish` or `reject`, or `forget` it: the connection, and its queue pair, wait for
    /// that without limit. The peer does not.
    Replied {
        /// The connection.
        conn: ConnId,
    },
    /// A `connect` failed; the queue pair is unconnected again and the connection is over. Its info stays readable (private
    /// data of a rejection) until `forget`.
    ConnectFailed {
        /// The connection.
        conn: ConnId,
        /// Why.
        reason: ConnectFailure,
    },
    /// An `accept` or `establish` has led to a connection; requests can be posted.
    Established {
        /// The connection.
        conn: ConnId,
    },
    /// An `accept` or `establish` has not led to a connection.
    EstablishFailed {
        /// The connection.
        conn: ConnId,
        /// Why.
        reason: ConnectFailure,
    },
    /// An established connection ended without `disconnect` having been called. Exactly once. Nothing is flushed by it.
    Disconnected {
        /// The connection.
        conn: ConnId,
        /// Why.
        reason: DisconnectReason,
    },
    /// A `disconnect` is complete: the peer answered or the time is up, every request of the queue pair has been completed and
    /// no transmission reads its memory.
    DisconnectDone {
        /// The connection.
        conn: ConnId,
        /// Whether the peer answered.
        result: DisconnectResult,
    },
}
