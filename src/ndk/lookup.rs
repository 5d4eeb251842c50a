//! The way to a peer: which connector's is looked up next, and what comes of the answer.
//!
//! The looking up itself is done at PASSIVE_LEVEL by the port's resolver lanes; everything here runs under the port's lock.

use core::net::{IpAddr, SocketAddr};

use ndis_sys::status::{STATUS_DEVICE_REMOVED, STATUS_INTERNAL_ERROR, STATUS_INVALID_ADDRESS};
use ndis_sys::types::NTSTATUS;
use roce::{ConnectParams, Path, QpId};

use super::connection::{Connection, Phase};
use super::slab::Key;
use super::state::State;
use super::status;

/// What the resolver needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// This side.
    pub local: SocketAddr,
    /// The other side.
    pub peer: SocketAddr,
    /// The local address is not among those known: read the list again first.
    pub unknown_local: bool,
    /// Which attempt of the connector this is for.
    pub attempt: u32,
}

impl Connection {
    fn is_between(&self, local: IpAddr, peer: IpAddr) -> bool {
        let is = |end: Option<SocketAddr>, ip| end.is_some_and(|end| end.ip() == ip);
        is(self.local, local) && is(self.peer, peer)
    }
}

impl State {
    /// The connector needs the way to its peer.
    pub(super) fn look_up(&mut self, key: Key) {
        self.lookups.join(&mut self.connections, key);
    }

    /// It does not any more.
    pub(super) fn look_up_no_more(&mut self, key: Key) {
        self.lookups.leave(&mut self.connections, key);
    }

    /// Takes one connector that waits for the way to its peer: what a resolver lane does next.
    pub fn take_unresolved(&mut self) -> Option<(Key, Route)> {
        let key = self.lookups.next(&mut self.connections)?;
        let c = self.connections.get(key)?;
        let (local, peer, attempt) = (c.local?, c.peer?, c.attempt);
        Some((
            key,
            Route {
                local,
                peer,
                unknown_local: !self.addresses.is_local(local.ip(), false),
                attempt,
            },
        ))
    }

    /// The way to the peer is known, or it is known that there is none: sends the request, if the connector is still at
    /// that attempt.
    pub fn resolved(&mut self, key: Key, attempt: u32, way: Result<Path, NTSTATUS>) {
        let Some(c) = self.connections.get(key).filter(|c| c.attempt == attempt) else {
            return;
        };
        // Unless it was closed meanwhile.
        if c.phase == Phase::Resolving
            && let Err(failure) = self.request(key, way)
        {
            self.connect_failed(key, failure, 0);
        }
    }

    fn request(&mut self, key: Key, way: Result<Path, NTSTATUS>) -> Result<(), NTSTATUS> {
        let c = self.connections.get(key).ok_or(STATUS_INTERNAL_ERROR)?;
        let (Some(local), Some(peer), Some(qp)) = (c.local, c.peer, &c.qp) else {
            return Err(STATUS_INTERNAL_ERROR);
        };
        // The list of addresses is fresh here: the resolver read it again if it had to.
        if !self.addresses.is_local(local.ip(), false) {
            return Err(STATUS_INVALID_ADDRESS);
        }
        let [local, peer] = [local, peer].map(|end| self.addresses.scoped(end));
        let (inbound, outbound) = c.limits.capped();
        let params = ConnectParams {
            qp: qp.id(),
            path: way?,
            local_port: local.port(),
            remote_port: peer.port(),
            private_data: &c.data,
            responder_resources: inbound,
            initiator_depth: outbound,
        };
        let conn = self
            .engine
            .connect(self.now, &params)
            .map_err(status::of_cm)?;
        self.by_conn.set(conn.index(), key);
        if let Some(c) = self.connections.get_mut(key) {
            c.conn = Some(conn);
            (c.local, c.peer) = (Some(local), Some(peer));
            c.phase = Phase::Requesting;
        }
        Ok(())
    }

    /// What a queue pair sends seems not to arrive: the way to its peer is to be looked up again.
    pub(super) fn on_path_doubted(&mut self, qp: QpId) {
        let key = self.qps.get(qp.index()).and_then(|entry| entry.connector);
        if let Some((key, c)) = key.and_then(|key| Some((key, self.connections.get_mut(key)?))) {
            c.doubted = true;
            self.doubts = true;
            self.note_path_doubted(key);
        }
    }

    /// The ends of one connection of which the way is doubted, and with it those of all others between the same addresses.
    pub(super) fn take_doubted(&mut self) -> Option<(SocketAddr, SocketAddr)> {
        let doubted = self.connections.iter().find(|c| c.doubted)?;
        let ends = (doubted.local?, doubted.peer?);
        for c in self.connections.iter_mut() {
            c.doubted &= !c.is_between(ends.0.ip(), ends.1.ip());
        }
        Some(ends)
    }

    /// Connections go the way that was found between their addresses.
    pub(super) fn redirect(&mut self, path: &Path) {
        for c in self.connections.iter() {
            if let Some(qp) = &c.qp
                && c.is_between(path.src_ip, path.dst_ip)
            {
                self.engine.redirect(qp.id(), path.dst_mac);
            }
        }
    }

    /// The engine has failed, and says so of its connections. Ends what it does not know: connectors that wait for the way to their peer.
    pub(super) fn end_lookups(&mut self) {
        let mut at = 0;
        while let Some(key) = self.connections.next(at) {
            at = key.index() + 1;
            self.look_up_no_more(key);
            if self.connections.get(key).map(Connection::phase) == Some(Phase::Resolving) {
                self.connect_failed(key, STATUS_DEVICE_REMOVED, 0);
            }
        }
    }
}
