//! Connections: what the connection manager decides, done to queue pairs.

use super::Engine;
use crate::cm::{LocalQp, QpAttributes};
use crate::connection::{AcceptParams, CmError, ConnId, ConnInfo, ConnectParams, ListenerId};
use crate::event::Event;
use crate::path::{Path, PathMtu};
use crate::psn::Psn;
use crate::rc::QpId;
use crate::rc::qp::{Qp, State};
use crate::time::Instant;
use core::net::IpAddr;

impl Engine {
    /// Listens for connections to a port at one local address, or at all of its family if it is the unspecified one.
    ///
    /// # Errors
    /// [`CmError::AddressInUse`], [`CmError::TableFull`], [`CmError::EngineFailed`].
    pub fn listen(&mut self, addr: IpAddr, port: u16) -> Result<ListenerId, CmError> {
        self.may_connect()?;
        self.cm.listen(addr, port)
    }

    /// Tells at which addresses this side can be reached, 64 at most: messages of the connection manager to any other are dropped
    /// without an answer, whoever listens. Before the first call all are taken. Connections that exist stay.
    pub fn set_addresses(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        self.cm.set_addresses(addresses);
    }

    /// Stops listening. Connections that came in stay.
    ///
    /// # Errors
    /// [`CmError::Unknown`].
    pub fn unlisten(&mut self, listener: ListenerId) -> Result<(), CmError> {
        self.cm.unlisten(listener)
    }

    /// While paused, requests are answered as if nobody listened.
    ///
    /// # Errors
    /// [`CmError::Unknown`].
    pub fn pause_listener(&mut self, listener: ListenerId, pause: bool) -> Result<(), CmError> {
        self.cm.pause_listener(listener, pause)
    }

    /// A queue pair ready for a connection, with a fresh number and a fresh first PSN: what an earlier attempt told a peer must
    /// not fit any more. They are its own only when [`take_names`](Self::take_names) follows.
    fn local_qp(&mut self, id: QpId) -> Result<LocalQp, CmError> {
        self.may_connect()?;
        let qp = self
            .qps
            .get(id.0)
            .filter(|q| q.is_connectable())
            .ok_or(CmError::QpUnusable)?;
        let srq = qp.params.srq.is_some();
        Ok(LocalQp {
            qp: id,
            qpn: self.draw_qpn(),
            psn: Psn::new(self.rng.next_u32()),
            srq,
        })
    }

    /// A number that no queue pair has, that none has had lately, and that nobody who was told of one can still mean: those of
    /// connections that rest are none. There are many more than all these.
    pub(super) fn draw_qpn(&mut self) -> u32 {
        loop {
            let number = self.qpns.draw(&mut self.rng);
            if !self.cm.knows_qpn(number) {
                return number;
            }
        }
    }

    /// The queue pair is from now on what the peer has been told.
    fn take_names(&mut self, local: &LocalQp) -> Option<&mut Qp> {
        let qp = self.qps.get_mut(local.qp.0)?;
        self.qpns.assign(local.qp.0.index, local.qpn);
        qp.number = local.qpn;
        qp.first_psn = local.psn;
        Some(qp)
    }

    /// Whether frames can be made for a path, and fit the link.
    fn check_path(&self, path: &Path) -> Result<(), CmError> {
        if path.src_ip.is_ipv4() == path.dst_ip.is_ipv4()
            && path.mtu <= PathMtu::for_link(self.config.local_mtu)
        {
            Ok(())
        } else {
            Err(CmError::InvalidPath)
        }
    }

    /// Prepares a queue pair for [`attach`](Self::attach): what the peer has to know. The first PSN it is to expect is random
    /// unless given.
    ///
    /// # Errors
    /// [`CmError::QpUnusable`], [`CmError::EngineFailed`].
    pub fn prepare(&mut self, qp: QpId, first_psn: Option<Psn>) -> Result<LocalQp, CmError> {
        let mut local = self.local_qp(qp)?;
        local.psn = first_psn.unwrap_or(local.psn);
        self.take_names(&local);
        Ok(local)
    }

    /// Changes the first PSN that a queue pair expects, between [`prepare`](Self::prepare) and [`attach`](Self::attach): for peers that
    /// tell theirs only once they know what `prepare` gave.
    ///
    /// # Errors
    /// [`CmError::QpUnusable`].
    pub fn expect_psn(&mut self, qp: QpId, first_psn: Psn) -> Result<(), CmError> {
        let qp = self
            .qps
            .get_mut(qp.0)
            .filter(|q| q.is_connectable())
            .ok_or(CmError::QpUnusable)?;
        qp.first_psn = first_psn;
        Ok(())
    }

    /// Connects a queue pair whose peer has been agreed with by other means than the connection manager. There is no connection
    /// then, and no event of it; [`flush`](Self::flush) ends it. Numbers of READs beyond the configured limits are lowered.
    ///
    /// # Errors
    /// [`CmError::QpUnusable`], [`CmError::InvalidPath`], [`CmError::EngineFailed`].
    pub fn attach(&mut self, qp: QpId, attributes: &QpAttributes) -> Result<(), CmError> {
        self.may_connect()?;
        self.check_path(&attributes.path)?;
        let (inbound, outbound) = (
            self.config.max_inbound_reads,
            self.config.max_outbound_reads,
        );
        let attributes = QpAttributes {
            responder_resources: attributes.responder_resources.min(inbound),
            initiator_depth: attributes.initiator_depth.min(outbound),
            ..*attributes
        };
        let qp = self
            .qps
            .get_mut(qp.0)
            .filter(|q| q.is_connectable())
            .ok_or(CmError::QpUnusable)?;
        qp.connect(&attributes, false, &self.config);
        Ok(())
    }

    /// Asks a peer for a connection. [`Event::Replied`] or [`Event::ConnectFailed`] follows.
    ///
    /// # Errors
    /// [`CmError::QpUnusable`], [`CmError::InvalidPath`], [`CmError::PrivateDataTooLong`], [`CmError::ConnectionExists`],
    /// [`CmError::TableFull`], [`CmError::EngineFailed`]. The queue pair is what it was then.
    pub fn connect(&mut self, now: Instant, params: &ConnectParams<'_>) -> Result<ConnId, CmError> {
        self.see(now);
        let local = self.local_qp(params.qp)?;
        self.check_path(&params.path)?;
        let conn = self.cm.connect(now, params, &local)?;
        if let Some(qp) = self.take_names(&local) {
            qp.conn = Some(conn);
        }
        Ok(conn)
    }

    /// Accepts a connection request. [`Event::Established`] or [`Event::EstablishFailed`] follows.
    ///
    /// # Errors
    /// [`CmError::Unknown`], [`CmError::QpUnusable`], [`CmError::InvalidState`], [`CmError::PeerGone`],
    /// [`CmError::PrivateDataTooLong`], [`CmError::EngineFailed`]. The queue pair is what it was then.
    pub fn accept(
        &mut self,
        now: Instant,
        conn: ConnId,
        params: &AcceptParams<'_>,
    ) -> Result<(), CmError> {
        self.see(now);
        self.known(conn)?;
        let local = self.local_qp(params.qp)?;
        let attributes = self.cm.accept(now, conn, params, &local)?;
        let config = self.config;
        if let Some(qp) = self.take_names(&local) {
            qp.conn = Some(conn);
            qp.connect(&attributes, true, &config);
        }
        Ok(())
    }

    /// Rejects a connection request, or on the connecting side the reply. No event follows; the queue pair is unconnected again.
    ///
    /// # Errors
    /// [`CmError::Unknown`], [`CmError::InvalidState`], [`CmError::PeerGone`], [`CmError::PrivateDataTooLong`],
    /// [`CmError::EngineFailed`].
    pub fn reject(&mut self, now: Instant, conn: ConnId, data: &[u8]) -> Result<(), CmError> {
        self.see(now);
        self.may_connect()?;
        self.cm.reject(now, conn, data)?;
        self.detach(conn);
        Ok(())
    }

    /// Sends the frames of a connected queue pair, and the messages about its connection, to another next hop from now on: the peer, or
    /// the router before it, has another MAC address. Does nothing for a queue pair that is gone.
    pub fn redirect(&mut self, qp: QpId, mac: [u8; 6]) {
        let conn = self.with_qp(qp, |q, _| {
            q.redirect(mac);
            q.conn
        });
        if let Some(conn) = conn.flatten() {
            self.cm.redirect(conn, mac);
        }
    }

    /// Completes a connection after [`Event::Replied`]: confirms it to the peer. [`Event::Established`] follows.
    ///
    /// # Errors
    /// [`CmError::Unknown`]; [`CmError::QpUnusable`] when the queue pair has been destroyed or flushed; [`CmError::InvalidState`],
    /// [`CmError::PeerGone`], [`CmError::EngineFailed`].
    pub fn establish(&mut self, now: Instant, conn: ConnId) -> Result<(), CmError> {
        self.see(now);
        self.may_connect()?;
        self.known(conn)?;
        let id = self.qp_of(conn).ok_or(CmError::QpUnusable)?;
        let qp = self
            .qps
            .get_mut(id.0)
            .filter(|q| q.state() == State::Init && !q.dying)
            .ok_or(CmError::QpUnusable)?;
        let attributes = self.cm.establish(conn)?;
        qp.connect(&attributes, false, &self.config);
        Ok(())
    }

    /// Ends an established connection: flushes its queue pair, tells the peer, and [`Event::DisconnectDone`] follows when the
    /// peer has answered (or the time is up), everything is flushed and no transmission of the queue pair is left in the NIC.
    ///
    /// # Errors
    /// [`CmError::Unknown`]; [`CmError::InvalidState`] if it never was established, or this was called before.
    pub fn disconnect(&mut self, now: Instant, conn: ConnId) -> Result<(), CmError> {
        self.see(now);
        self.cm.disconnect(now, conn)?;
        if let Some(qp) = self.qp_of(conn) {
            self.flush(now, qp);
        }
        Ok(())
    }

    /// Gives a connection up, in whatever state: tells the peer as its state demands, and reports nothing more of it. The id is
    /// invalid afterwards. Every connection that was ever reported or returned is owed one call. A queue pair that was connected
    /// by it is flushed, unless the peer had gone already; one that was still connecting is unconnected again.
    pub fn forget(&mut self, now: Instant, conn: ConnId) {
        self.see(now);
        let qp = self.qp_of(conn);
        self.cm.forget(now, conn);
        let Some(id) = qp else { return };
        self.with_qp(id, |q, shared| {
            q.conn = None;
            q.disconnected = None;
            if matches!(q.state(), State::Accepted | State::Connected | State::Error) {
                q.flush(shared);
            }
        });
    }

    /// What is known about a connection.
    #[must_use]
    pub fn connection(&self, conn: ConnId) -> Option<&ConnInfo> {
        self.cm.connection(conn)
    }

    /// The way on which messages go to a connection's peer. Before [`Engine::accept`]: the way the request came, backwards.
    #[must_use]
    pub fn way_back(&self, conn: ConnId) -> Option<Path> {
        self.cm.way_back(conn)
    }

    fn known(&self, conn: ConnId) -> Result<(), CmError> {
        self.connection(conn).map(|_| ()).ok_or(CmError::Unknown)
    }

    /// The queue pair that belongs to a connection.
    pub(super) fn qp_of(&self, conn: ConnId) -> Option<QpId> {
        let id = self.cm.connection(conn)?.qp?;
        self.qps
            .get(id.0)
            .filter(|q| q.conn == Some(conn))
            .map(|_| id)
    }

    /// Separates a queue pair from a connection that has not come about.
    fn detach(&mut self, conn: ConnId) {
        if let Some(qp) = self.qp_of(conn).and_then(|id| self.qps.get_mut(id.0)) {
            qp.conn = None;
        }
    }

    /// Does to the queue pair what an event of its connection means. `None` if the event has to wait.
    pub(super) fn on_connection_event(&mut self, event: Event) -> Option<Event> {
        match event {
            Event::ConnectFailed { conn, .. } => self.detach(conn),
            Event::Established { conn } => {
                if let Some(qp) = self.qp_of(conn).and_then(|id| self.qps.get_mut(id.0)) {
                    qp.established();
                }
            }
            Event::EstablishFailed { conn, .. } | Event::Disconnected { conn, .. } => {
                if let Some(qp) = self.qp_of(conn).and_then(|id| self.qps.get_mut(id.0)) {
                    qp.peer_gone();
                    qp.drop_kept(&mut self.early, &mut self.counters);
                }
            }
            Event::DisconnectDone { conn, result } => {
                if let Some(qp) = self.qp_of(conn).and_then(|id| self.qps.get_mut(id.0))
                    && !qp.is_quiet()
                {
                    qp.disconnected = Some((conn, result));
                    return None;
                }
            }
            _ => {}
        }
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Atomic, Fault, Memory, RegionId};
    use crate::{Config, QpParams, Transmit};
    use core::time::Duration;
    use std::vec::Vec;

    /// There is none.
    struct Nothing;

    impl Memory for Nothing {
        fn visit(
            &self,
            _: RegionId,
            _: u64,
            _: u32,
            _: &mut dyn FnMut(&[u8]),
        ) -> Result<(), Fault> {
            Err(Fault)
        }

        fn atomic(&mut self, _: RegionId, _: u64, _: Atomic) -> Result<u64, Fault> {
            Err(Fault)
        }

        fn write(&mut self, _: RegionId, _: u64, _: &[u8]) -> Result<(), Fault> {
            Err(Fault)
        }
    }

    /// There are so few numbers that each draw would meet one that rests, if those were not left out: of all connections that are over,
    /// however fast they follow one another, and whatever else has had numbers.
    #[test]
    fn r096_a_number_rests_as_long_as_its_connection() {
        let config = Config {
            max_qps: 2,
            max_cqs: 1,
            max_pds: 1,
            max_connections: 8,
            ..Config::default()
        };
        // Two that live, eight of connections, eight that were given up last.
        let mut engine = Engine::with_qpns(&config, 2..=20).unwrap();
        let pd = engine.create_pd().unwrap();
        let cq = engine.create_cq(4).unwrap();
        let params = QpParams {
            pd,
            send_cq: cq,
            recv_cq: cq,
            srq: None,
            sq_depth: 1,
            rq_depth: 1,
            max_send_sge: 1,
            max_recv_sge: 1,
            max_read_sge: 1,
            max_inline: 0,
            atomics: false,
            context: 0,
        };
        let path = Path {
            src_mac: [2; 6],
            dst_mac: [4; 6],
            vlan: None,
            src_ip: "fd00::1".parse().unwrap(),
            dst_ip: "fd00::2".parse().unwrap(),
            hop_limit: 64,
            traffic_class: 0,
            mtu: PathMtu::Mtu256,
        };
        let rest = Duration::from_millis(2048);
        let mut now = Instant(1);
        let mut told: Vec<(u32, Instant)> = Vec::new();
        let mut out = Transmit::new();
        for local_port in 0..2000 {
            let qp = engine.create_qp(&params).unwrap();
            let params = ConnectParams {
                qp,
                path,
                local_port,
                remote_port: 1,
                private_data: &[],
                responder_resources: 0,
                initiator_depth: 0,
            };
            let conn = engine.connect(now, &params).unwrap();
            let qpn = engine.qp_number(qp).unwrap();
            told.retain(|(_, since)| now.since(*since) < rest);
            assert!(told.len() > 5 || local_port < 10);
            assert!(told.iter().all(|(other, _)| *other != qpn), "{qpn}");
            engine.forget(now, conn);
            engine.destroy_qp(now, qp).unwrap();
            while engine.poll_transmit(now, &Nothing, &mut out) {}
            told.push((qpn, now));
            now = now.after(Duration::from_millis(300));
            engine.handle_timeout(now);
        }
    }
}
