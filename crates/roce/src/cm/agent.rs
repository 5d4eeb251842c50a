//! All connections and listeners of an adapter, as their owner and time move them.

mod receive;

use super::connection::{Connection, Names};
use super::listener::Listeners;
use super::lookup::Lookup;
use super::reply::Replies;
use super::{LocalQp, QpAttributes};
use crate::config::Config;
use crate::connection::{AcceptParams, CmError, ConnId, ConnInfo, ConnectParams, ListenerId};
use crate::event::Event;
use crate::numbers::{Numbers, QPNS};
use crate::psn::Psn;
use crate::rng::Rng;
use crate::table::{IndexList, OutOfMemory, Slot, Table};
use crate::time::Instant;
use crate::timers::Timers;
use crate::wire::{Path, frame, mad, udp};
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::net::{IpAddr, SocketAddr};
use core::ops::RangeInclusive;

/// Connections that peers asked for and that have not come about, or never did, may take up one in this many places of the table, so
/// that requests from the wire cannot keep the owner from connecting.
const REQUEST_SHARE: u32 = 2;

/// Addresses of one adapter at most.
pub(crate) const MAX_ADDRESSES: usize = 64;

/// All connections and listeners of an adapter.
pub(crate) struct Agent {
    config: Config,
    rng: Rng,
    listeners: Listeners,
    connections: Table<Connection>,
    /// Our communication IDs. They rest with their connections.
    comm_ids: Numbers,
    /// The numbers under which our queue pairs were connected. They, too, rest with their connections.
    qpns: Numbers,
    lookup: Lookup,
    /// Connections that peers asked for and that have not been established, those included that rest before their names are free.
    unproven: u32,
    /// Where this side can be reached, at most [`MAX_ADDRESSES`]; anywhere until it is told.
    addresses: Vec<IpAddr>,
    /// `addresses` has been told.
    bounded: bool,
    /// Wakes connections at their deadlines or earlier.
    timers: Timers,
    /// Connections that have something to send.
    ready: IndexList,
    /// Connections that have events.
    eventful: IndexList,
    /// Connections whose peers are to be asked for a sign of life.
    doubtful: IndexList,
    replies: Replies,
    /// Next PSN of queue pair 1.
    psn: Psn,
}

impl Agent {
    /// An agent without connections.
    ///
    /// # Errors
    /// No memory.
    pub fn try_new(config: &Config, rng: &mut Rng) -> Result<Self, OutOfMemory> {
        Self::with_comm_ids(config, rng, 1..=u32::MAX)
    }

    /// The same with communication IDs from a range.
    pub(super) fn with_comm_ids(
        config: &Config,
        rng: &mut Rng,
        comm_ids: RangeInclusive<u32>,
    ) -> Result<Self, OutOfMemory> {
        let capacity = config.max_connections;
        let mut rng = rng.fork();
        let mut addresses = Vec::new();
        addresses
            .try_reserve_exact(MAX_ADDRESSES)
            .map_err(|_| OutOfMemory)?;
        Ok(Self {
            config: *config,
            listeners: Listeners::try_new(config.max_listeners)?,
            connections: Table::try_new(capacity)?,
            comm_ids: Numbers::try_new(comm_ids, capacity, 0, &mut rng)?,
            qpns: Numbers::try_new(QPNS, capacity, 0, &mut rng)?,
            lookup: Lookup::try_new(capacity, &mut rng)?,
            unproven: 0,
            addresses,
            bounded: false,
            timers: Timers::try_new(capacity)?,
            ready: IndexList::try_new(capacity)?,
            eventful: IndexList::try_new(capacity)?,
            doubtful: IndexList::try_new(capacity)?,
            replies: Replies::try_new(capacity)?,
            psn: Psn::ZERO,
            rng,
        })
    }

    /// See [`Engine::reserve`](crate::Engine::reserve).
    ///
    /// # Errors
    /// No memory.
    pub fn reserve(&mut self, connections: u32) -> Result<(), OutOfMemory> {
        self.connections.reserve(connections)
    }

    /// See [`Engine::listen`](crate::Engine::listen).
    ///
    /// # Errors
    /// `AddressInUse`, `TableFull`.
    pub fn listen(&mut self, addr: IpAddr, port: u16) -> Result<ListenerId, CmError> {
        self.listeners.listen(addr, port)
    }

    /// See [`Engine::unlisten`](crate::Engine::unlisten).
    ///
    /// # Errors
    /// `Unknown`.
    pub fn unlisten(&mut self, listener: ListenerId) -> Result<(), CmError> {
        self.listeners.unlisten(listener)
    }

    /// See [`Engine::pause_listener`](crate::Engine::pause_listener).
    ///
    /// # Errors
    /// `Unknown`.
    pub fn pause_listener(&mut self, listener: ListenerId, pause: bool) -> Result<(), CmError> {
        self.listeners.pause(listener, pause)
    }

    /// Sends a request.
    ///
    /// # Errors
    /// `PrivateDataTooLong`, `ConnectionExists`, `TableFull`.
    pub fn connect(
        &mut self,
        now: Instant,
        params: &ConnectParams<'_>,
        local: &LocalQp,
    ) -> Result<ConnId, CmError> {
        let local_end = SocketAddr::new(params.path.src_ip, params.local_port);
        let peer_end = SocketAddr::new(params.path.dst_ip, params.remote_port);
        let exists = self
            .lookup
            .between(local_end, peer_end)
            .filter_map(|index| self.connections.at(index))
            .any(|(_, c)| c.info.local == local_end && c.info.peer == peer_end);
        if exists {
            return Err(CmError::ConnectionExists);
        }
        let names = self.names().ok_or(CmError::TableFull)?;
        let connection = Connection::connecting(now, names, &self.config, params, local)?;
        let slot = self.insert(connection).ok_or(CmError::TableFull)?;
        self.keep_qpn(slot, local.qpn);
        Ok(ConnId(slot))
    }

    /// Accepts a request. The caller connects the queue pair before anything else happens.
    ///
    /// # Errors
    /// `Unknown`, `InvalidState`, `PeerGone`, `PrivateDataTooLong`.
    pub fn accept(
        &mut self,
        now: Instant,
        conn: ConnId,
        params: &AcceptParams<'_>,
        local: &LocalQp,
    ) -> Result<QpAttributes, CmError> {
        let config = self.config;
        let accepted = self.with(conn, |c| c.accept(now, &config, params, local))?;
        if accepted.is_ok() {
            self.keep_qpn(conn.0, local.qpn);
        }
        accepted
    }

    /// Rejects a request or a reply.
    ///
    /// # Errors
    /// `Unknown`, `InvalidState`, `PeerGone`, `PrivateDataTooLong`.
    pub fn reject(&mut self, now: Instant, conn: ConnId, data: &[u8]) -> Result<(), CmError> {
        self.with(conn, |c| c.reject(now, data))?
    }

    /// Confirms a reply. The caller connects the queue pair before anything else happens.
    ///
    /// # Errors
    /// `Unknown`, `InvalidState`, `PeerGone`.
    pub fn establish(&mut self, conn: ConnId) -> Result<QpAttributes, CmError> {
        self.with(conn, Connection::establish)?
    }

    /// Ends a connection; `Event::DisconnectDone` follows.
    ///
    /// # Errors
    /// `Unknown`; `InvalidState` if it never was established or this was called before.
    pub fn disconnect(&mut self, now: Instant, conn: ConnId) -> Result<(), CmError> {
        self.with(conn, |c| c.disconnect(now))?
    }

    /// The connection's queue pair failed: tells the peer, and the owner by `Event::Disconnected`, or by
    /// `Event::EstablishFailed` after an `accept` that has not come to its end.
    pub fn abort(&mut self, now: Instant, conn: ConnId) {
        // Unknown: the owner has forgotten it.
        let _ = self.with(conn, |c| c.abort(now));
    }

    /// Ends every connection at once, and sends nothing more.
    pub fn fail(&mut self) {
        self.replies.clear();
        for index in 0..self.connections.slots() {
            if let Some((slot, connection)) = self.connections.at_mut(index) {
                connection.fail();
                self.settle(slot);
            }
        }
    }

    /// The owner has no further interest: ends what has to be ended, without events.
    pub fn forget(&mut self, now: Instant, conn: ConnId) {
        let guid = self.config.guid;
        let _ = self.with(conn, |c| c.forget(now, guid));
    }

    /// The first request arrived on the queue pair of an accepted connection: as good as the peer's confirmation.
    pub fn communication_established(&mut self, conn: ConnId) {
        let _ = self.with(conn, Connection::communication_established);
    }

    /// Writes a whole frame, if there is one to send. What connections have to say comes before answers to whoever has asked something:
    /// strangers can ask as often as they like.
    pub fn poll_transmit(&mut self, out: &mut ArrayVec<u8, 512>) -> bool {
        while let Some(index) = self.ready.pop() {
            let Some((slot, connection)) = self.connections.at_mut(index) else {
                continue;
            };
            if !core::mem::take(&mut connection.send) {
                continue;
            }
            let (path, message) = (*connection.path(), *connection.message());
            self.settle(slot);
            if self.write(&path, &message, out) {
                return true;
            }
        }
        while let Some(reply) = self.replies.pop() {
            if self.write(&reply.path, &reply.emit(), out) {
                return true;
            }
        }
        false
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Acts on deadlines that have passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        let guid = self.config.guid;
        while let Some(index) = self.timers.pop_due(now) {
            if let Some((slot, connection)) = self.connections.at_mut(index) {
                // The deadline may have moved since.
                if connection.deadline.is_some_and(|at| at <= now) {
                    connection.on_timeout(now, guid);
                }
                self.settle(slot);
            }
        }
    }

    /// What the owner has to be told.
    pub fn poll_event(&mut self) -> Option<Event> {
        while let Some(index) = self.eventful.pop() {
            let Some((slot, connection)) = self.connections.at_mut(index) else {
                continue;
            };
            let event = connection.events.pop_at(0);
            self.settle(slot);
            if event.is_some() {
                return event;
            }
        }
        None
    }

    /// The next connection whose queue pair is to ask its peer for a sign of life. The answer, if one comes, is told to
    /// [`heard`](Self::heard).
    pub fn poll_probe(&mut self) -> Option<ConnId> {
        while let Some(index) = self.doubtful.pop() {
            if let Some((slot, connection)) = self.connections.at_mut(index)
                && core::mem::take(&mut connection.probe)
            {
                return Some(ConnId(slot));
            }
        }
        None
    }

    /// The peer of a connection that was in doubt has answered.
    pub fn heard(&mut self, conn: ConnId) {
        let _ = self.with(conn, Connection::heard);
    }

    /// Messages of a connection go to another next hop from now on.
    pub fn redirect(&mut self, conn: ConnId, mac: [u8; 6]) {
        if let Some(connection) = self.connections.get_mut(conn.0) {
            connection.redirect(mac);
        }
    }

    /// What is known about a connection.
    #[must_use]
    pub fn connection(&self, conn: ConnId) -> Option<&ConnInfo> {
        let connection = self.connections.get(conn.0)?;
        (!connection.is_forgotten()).then_some(&connection.info)
    }

    /// See [`Engine::way_back`](crate::Engine::way_back).
    pub fn way_back(&self, conn: ConnId) -> Option<Path> {
        let connection = self.connections.get(conn.0)?;
        (!connection.is_forgotten()).then(|| *connection.path())
    }

    /// Connections in the table, those included that are over and only answer late messages.
    pub(crate) fn len(&self) -> u32 {
        self.connections.len()
    }

    /// See [`Engine::set_addresses`](crate::Engine::set_addresses).
    pub fn set_addresses(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        let addresses = addresses.into_iter().map(|ip| ip.to_canonical());
        self.addresses.clear();
        self.addresses.extend(addresses.take(MAX_ADDRESSES));
        self.bounded = true;
    }

    fn is_here(&self, ip: IpAddr) -> bool {
        !self.bounded || self.addresses.contains(&ip.to_canonical())
    }

    /// A peer has been told this number of a queue pair: it is the connection's as long as that rests.
    fn keep_qpn(&mut self, connection: Slot, qpn: u32) {
        // Whoever draws it asks before.
        if !self.knows_qpn(qpn) {
            self.qpns.assign(connection.index, qpn);
        }
    }

    /// Whether a connection has or had a queue pair of this number, and is, or still rests.
    pub fn knows_qpn(&self, qpn: u32) -> bool {
        self.qpns.find(qpn).is_some()
    }

    /// Names for the next connection.
    fn names(&mut self) -> Option<Names> {
        let slot = self.connections.next_slot()?;
        let comm_id = self.comm_ids.draw(&mut self.rng);
        Some(Names {
            id: ConnId(slot),
            comm_id,
            transaction_id: self.rng.next_u64() & !0xffff_ffff | u64::from(comm_id),
        })
    }

    /// Takes in a connection with the names given last.
    fn insert(&mut self, connection: Connection) -> Option<Slot> {
        let comm_id = connection.local_comm_id;
        let slot = self.connections.insert(connection).ok()?;
        self.comm_ids.assign(slot.index, comm_id);
        self.settle(slot);
        Some(slot)
    }

    fn with<T>(
        &mut self,
        conn: ConnId,
        f: impl FnOnce(&mut Connection) -> T,
    ) -> Result<T, CmError> {
        let connection = self
            .connections
            .get_mut(conn.0)
            .filter(|c| !c.is_forgotten())
            .ok_or(CmError::Unknown)?;
        let result = f(connection);
        self.settle(conn.0);
        Ok(result)
    }

    /// Brings timers, queues and indices into line with a connection that may have changed.
    fn settle(&mut self, slot: Slot) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let is_unproven = connection.is_unproven() && !connection.is_finished();
        match (
            core::mem::replace(&mut connection.counted_unproven, is_unproven),
            is_unproven,
        ) {
            (false, true) => self.unproven = self.unproven.saturating_add(1),
            (true, false) => self.unproven = self.unproven.saturating_sub(1),
            _ => {}
        }
        if connection.is_finished() {
            self.lookup.update(slot.index, None);
            self.comm_ids.release(slot.index);
            self.qpns.release(slot.index);
            self.connections.remove(slot);
            return;
        }
        self.lookup.update(slot.index, Some(connection));
        if let Some(at) = connection.deadline {
            self.timers.wake(slot.index, at);
        }
        if connection.send {
            self.ready.push(slot.index);
        }
        if !connection.events.is_empty() {
            self.eventful.push(slot.index);
        }
        if connection.probe {
            self.doubtful.push(slot.index);
        }
    }

    fn write(
        &mut self,
        path: &Path,
        message: &[u8; mad::LEN],
        out: &mut ArrayVec<u8, 512>,
    ) -> bool {
        let (bth, ext) = mad::transport_headers(self.psn);
        let header = frame::Header::new(path, udp::source_port(mad::GSI_QPN), bth, ext);
        out.clear();
        let Ok(mut icrc) = header.write(message.len(), out) else {
            return false;
        };
        icrc.update(message);
        let trailer = icrc.trailer(frame::pad_of(message.len()));
        let fits = out.try_extend_from_slice(message).is_ok()
            && out.try_extend_from_slice(&trailer).is_ok();
        if fits {
            self.psn = self.psn.next();
        } else {
            out.clear();
        }
        fits
    }
}
