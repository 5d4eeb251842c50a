//! What event tracing is told of connections.
//!
//! IRQL: DISPATCH_LEVEL, under the port's lock, which puts the events in order (see [`crate::trace`]).

use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use ndis_sys::types::NTSTATUS;
use nt::Status as NtStatus;
use nt::trace::Address;
use roce::{ConnId, ConnectFailure, DisconnectReason, QpId, Status};

use super::connection::End;
use super::slab::Key;
use super::state::State;
use crate::trace::{
    ConnectFailed, ConnectRequest, ConnectRequestDropped, Connected, Connecting, ConnectionLost,
    ConnectorClosed, DisconnectDone, Disconnected, Disconnecting, EstablishFailed, Listening,
    PathDoubted, QueuePairFailed, Rejected,
};

/// An end that is not known.
const NOWHERE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

/// The ends of a connection and its queue pair, as events name them.
struct Ends {
    local: Address,
    peer: Address,
    qp: u32,
}

/// What a failure of a queue pair is called.
fn cause(status: Status) -> &'static str {
    match status {
        Status::Success | Status::Flushed => "flushed",
        Status::LocalLength => "a message longer than the receive",
        Status::LocalOperation => {
            "this side cannot go on: a queue overran, or the peer broke the protocol"
        }
        Status::LocalProtection => "memory of this side that may not be accessed",
        Status::WindowBind => "a window that cannot be bound",
        Status::BadResponse => "a response that makes no sense",
        Status::RemoteInvalidRequest => "NAK: invalid request",
        Status::RemoteAccess => "NAK: remote access error",
        Status::RemoteOperation => "NAK: remote operational error",
        Status::RetryExceeded => "retries exhausted: the peer does not answer",
        Status::RnrRetryExceeded => "retries exhausted: the peer has no receive posted",
        Status::RemoteInvalidate => "the peer invalidated what it may not",
    }
}

/// The reason of a rejection, in numbers of the connection manager; 0 for other failures.
pub(super) fn reject_reason(failure: ConnectFailure) -> u16 {
    match failure {
        ConnectFailure::Rejected { reason } => reason,
        ConnectFailure::Timeout | ConnectFailure::Aborted | ConnectFailure::EngineFailed => 0,
    }
}

impl State {
    fn ends(&self, key: Key) -> Ends {
        let c = self.connections.get(key);
        let ends = c.map_or((None, None), |c| (c.local, c.peer));
        let qp = c.and_then(|c| c.qp.as_ref()).map(|qp| qp.id());
        Ends {
            local: ends.0.unwrap_or(NOWHERE).into(),
            peer: ends.1.unwrap_or(NOWHERE).into(),
            qp: self.number(qp),
        }
    }

    fn number(&self, qp: Option<QpId>) -> u32 {
        qp.and_then(|qp| self.engine.qp_number(qp)).unwrap_or(0)
    }

    pub(super) fn note_listening(&self, local: SocketAddr) {
        self.trace.write(|adapter| Listening {
            adapter,
            local: local.into(),
        });
    }

    pub(super) fn note_connecting(&self, key: Key) {
        self.trace.write(|adapter| {
            // The queue pair gets its number with the request.
            let Ends { local, peer, .. } = self.ends(key);
            Connecting {
                adapter,
                local,
                peer,
            }
        });
    }

    pub(super) fn note_connect_failed(&self, key: Key, status: NTSTATUS, reject_reason: u16) {
        self.trace.write(|adapter| {
            let Ends { local, peer, qp } = self.ends(key);
            ConnectFailed {
                adapter,
                local,
                peer,
                qp,
                status: NtStatus(status),
                reject_reason,
            }
        });
    }

    pub(super) fn note_establish_failed(&self, key: Key, status: NTSTATUS, reject_reason: u16) {
        self.trace.write(|adapter| {
            let Ends { local, peer, qp } = self.ends(key);
            EstablishFailed {
                adapter,
                local,
                peer,
                qp,
                status: NtStatus(status),
                reject_reason,
            }
        });
    }

    /// A peer's request, which has a connector now, or none.
    pub(super) fn note_request(&self, conn: ConnId, taken: bool) {
        let ends = || {
            let info = self.engine.connection(conn);
            let ends = info.map_or((NOWHERE, NOWHERE), |info| (info.local, info.peer));
            (Address::from(ends.0), Address::from(ends.1))
        };
        if taken {
            self.trace.write(|adapter| {
                let (local, peer) = ends();
                ConnectRequest {
                    adapter,
                    local,
                    peer,
                }
            });
        } else {
            self.trace.write(|adapter| {
                let (local, peer) = ends();
                ConnectRequestDropped {
                    adapter,
                    local,
                    peer,
                }
            });
        }
    }

    pub(super) fn note_rejected(&self, key: Key) {
        self.trace.write(|adapter| {
            let Ends { local, peer, .. } = self.ends(key);
            Rejected {
                adapter,
                local,
                peer,
            }
        });
    }

    pub(super) fn note_connected(&self, key: Key, conn: ConnId, accepted: bool) {
        self.trace.write(|adapter| {
            let Ends { local, peer, qp } = self.ends(key);
            let way = self.engine.way_back(conn);
            Connected {
                adapter,
                local,
                peer,
                qp,
                path_mtu: way.map_or(0, |way| way.mtu.bytes()),
                accepted,
            }
        });
    }

    /// A connection that stood ended, not by this side's doing.
    pub(super) fn note_ended(&self, key: Key, end: End) {
        let cause = match end {
            End::Engine(DisconnectReason::Peer) => {
                return self.trace.write(|adapter| {
                    let Ends { local, peer, qp } = self.ends(key);
                    Disconnected {
                        adapter,
                        local,
                        peer,
                        qp,
                    }
                });
            }
            // Failures of queue pairs are told first.
            End::Engine(DisconnectReason::QpError) => self
                .connections
                .get(key)
                .and_then(|c| c.failure)
                .map_or("its queue pair failed", cause),
            End::Engine(DisconnectReason::Stale | DisconnectReason::UNKNOWN) => {
                "the peer does not know the connection"
            }
            End::Engine(DisconnectReason::Rejected { .. }) => "the peer rejected the connection",
            End::Engine(DisconnectReason::EngineFailed) => "the device failed or was removed",
            End::PowerLost => "the device lost its power",
        };
        self.trace.write(|adapter| {
            let Ends { local, peer, qp } = self.ends(key);
            ConnectionLost {
                adapter,
                local,
                peer,
                qp,
                cause: cause.into(),
            }
        });
    }

    pub(super) fn note_disconnecting(&self, key: Key) {
        self.trace.write(|adapter| {
            let Ends { local, peer, qp } = self.ends(key);
            Disconnecting {
                adapter,
                local,
                peer,
                qp,
            }
        });
    }

    pub(super) fn note_disconnect_done(&self, key: Key, status: NTSTATUS) {
        self.trace.write(|adapter| {
            let Ends { local, peer, qp } = self.ends(key);
            DisconnectDone {
                adapter,
                local,
                peer,
                qp,
                status: NtStatus(status),
            }
        });
    }

    pub(super) fn note_closed(&self, key: Key, connected: bool) {
        self.trace.write(|adapter| {
            let Ends { local, peer, qp } = self.ends(key);
            ConnectorClosed {
                adapter,
                local,
                peer,
                qp,
                connected,
            }
        });
    }

    pub(super) fn note_qp_failed(&self, qp: QpId, status: Status) {
        self.trace.write(|adapter| QueuePairFailed {
            adapter,
            qp: self.number(Some(qp)),
            cause: cause(status).into(),
        });
    }

    pub(super) fn note_path_doubted(&self, key: Key) {
        self.trace.write(|adapter| {
            let Ends { local, peer, qp } = self.ends(key);
            PathDoubted {
                adapter,
                local,
                peer,
                qp,
            }
        });
    }
}
