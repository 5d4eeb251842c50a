//! What the engine tells of connections, and what a loss of power does to them.
//!
//! IRQL <= DISPATCH_LEVEL, under the port's lock.

use core::mem;

use ndis_sys::status::{STATUS_CONNECTION_ABORTED, STATUS_IO_TIMEOUT, STATUS_SUCCESS};
use roce::{ConnId, ConnectFailure, DisconnectReason, DisconnectResult, QpId, Status};

use super::{Connection, Phase};
use crate::ndk::journal::reject_reason;
use crate::ndk::slab::Key;
use crate::ndk::state::State;
use crate::ndk::{object, status};

/// Why a connection that stood ended, not by this side's doing.
#[derive(Clone, Copy)]
pub(in crate::ndk) enum End {
    /// As the engine says.
    Engine(DisconnectReason),
    /// The device lost its power; the engine knows nothing of that.
    PowerLost,
}

impl End {
    /// What callbacks that want a reason are given: without power, queue pairs are of no use.
    fn reason(self) -> u32 {
        status::of_disconnect(match self {
            Self::Engine(reason) => reason,
            Self::PowerLost => DisconnectReason::QpError,
        })
    }
}

impl State {
    fn connection_of(&mut self, conn: ConnId) -> Option<(Key, &mut Connection)> {
        let key = self.by_conn.get(conn.index()).copied()?;
        let c = self.connections.get_mut(key)?;
        (c.conn == Some(conn)).then_some((key, c))
    }

    /// The peer accepted.
    pub(in crate::ndk) fn on_replied(&mut self, conn: ConnId) {
        if let Some((_, c)) = self.connection_of(conn)
            && c.phase == Phase::Requesting
        {
            c.phase = Phase::Replied;
            c.finish(STATUS_SUCCESS);
        }
    }

    /// The peer refused or did not answer; or a peer that had asked gave up; or the connection did not come to stand.
    pub(in crate::ndk) fn on_connect_failed(&mut self, conn: ConnId, reason: ConnectFailure) {
        let Some((key, c)) = self.connection_of(conn) else {
            return;
        };
        match c.phase {
            Phase::Requesting => {
                self.connect_failed(key, status::of_connect(reason), reject_reason(reason));
            }
            Phase::Accepting | Phase::Completing => {
                let failure = status::of_establish(reason);
                self.establish_failed(key, failure, reject_reason(reason));
            }
            _ => c.peer_gave_up = true,
        }
    }

    /// The connection stands.
    pub(in crate::ndk) fn on_established(&mut self, conn: ConnId) {
        let Some((key, c)) = self.connection_of(conn) else {
            return;
        };
        let accepted = match c.phase {
            Phase::Accepting => true,
            Phase::Completing => false,
            _ => return,
        };
        c.phase = Phase::Connected;
        c.finish(STATUS_SUCCESS);
        let qp = c.qp.as_ref().map(|qp| qp.id());
        if let Some(entry) = qp.and_then(|qp| self.qps.get_mut(qp.index())) {
            entry.spent = true;
        }
        let counter = if accepted {
            &mut self.counters.accepts
        } else {
            &mut self.counters.connects
        };
        *counter += 1;
        self.counters.active_connections += 1;
        self.note_connected(key, conn, accepted);
    }

    /// A queue pair failed by itself. Its connection ends with it; the peer, which has seen the same error, may have ended it already.
    pub(in crate::ndk) fn on_qp_fatal(&mut self, qp: QpId, failure: Status) {
        let key = self.qps.get(qp.index()).and_then(|entry| entry.connector);
        if let Some(c) = key.and_then(|key| self.connections.get_mut(key)) {
            c.failure = Some(failure);
            if matches!(c.phase, Phase::Connected | Phase::PeerGone)
                && !mem::replace(&mut c.broken, true)
            {
                self.counters.connection_errors += 1;
            }
        }
        self.note_qp_failed(qp, failure);
    }

    /// The connection ended, not by this side's doing. Flushes nothing (D-04).
    pub(in crate::ndk) fn on_disconnected(&mut self, conn: ConnId, reason: DisconnectReason) {
        let Some((key, c)) = self.connection_of(conn) else {
            return;
        };
        match c.phase {
            Phase::Connected => self.ended(key, End::Engine(reason)),
            Phase::Accepting | Phase::Completing => {
                self.establish_failed(key, STATUS_CONNECTION_ABORTED, 0)
            }
            _ => c.peer_gave_up = true,
        }
    }

    /// A connection that stood is over, not by this side's doing.
    pub(super) fn ended(&mut self, key: Key, end: End) {
        let Some(c) = self.connections.get_mut(key) else {
            return;
        };
        c.phase = Phase::PeerGone;
        if c.sink.is_some() {
            c.disconnect_due = Some(end.reason());
            object::tell(c.object.get());
        }
        let peers = matches!(end, End::Engine(DisconnectReason::Peer));
        let broke = !peers && !mem::replace(&mut c.broken, true);
        self.counters.active_connections = self.counters.active_connections.saturating_sub(1);
        self.counters.connection_errors += u64::from(broke);
        self.note_ended(key, end);
    }

    /// A disconnect of this side is complete: everything is flushed and nothing of the QP is in the NIC any more.
    pub(in crate::ndk) fn on_disconnect_done(&mut self, conn: ConnId, result: DisconnectResult) {
        let outcome = match result {
            DisconnectResult::Graceful => STATUS_SUCCESS,
            DisconnectResult::Timeout => STATUS_IO_TIMEOUT,
        };
        if let Some((key, c)) = self.connection_of(conn)
            && c.phase == Phase::Disconnecting
        {
            c.phase = Phase::Over;
            c.finish(outcome);
            self.note_disconnect_done(key, outcome);
        }
    }
}
