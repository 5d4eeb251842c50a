//! What the agent makes of messages: whose they are, and what to say to those that are nobody's.

use super::{Agent, REQUEST_SHARE};
use crate::cm::connection::{Connection, Heard, State};
use crate::cm::dropped::Dropped;
use crate::cm::negotiate;
use crate::cm::reply::{Kind, Reply};
use crate::cm::request::{Request, split_private};
use crate::cm::source::Source;
use crate::connection::ListenerId;
use crate::counters::Counters;
use crate::table::Slot;
use crate::time::Instant;
use crate::wire::address::is_unicast;
use crate::wire::cm_msg::{
    Answered, Dreq, Error, Message, Rej, RejReason, Rep, Req, SidrReq, TransportService,
};
use crate::wire::{Gid, Packet, Path, PathMtu, bth, cma, mad};
use arrayvec::ArrayVec;

impl Agent {
    /// Takes a packet to queue pair 1 whose ICRC is right. What comes to nothing is counted by its cause.
    pub fn receive(&mut self, now: Instant, packet: &Packet<'_>, counters: &mut Counters) {
        if let Err(dropped) = self.take(now, packet) {
            dropped.count(counters);
        }
    }

    fn take(&mut self, now: Instant, packet: &Packet<'_>) -> Result<(), Dropped> {
        let bytes = mad::of_packet(packet).ok_or(Dropped::NotMad)?;
        let (header, message) = Message::parse(bytes).map_err(|e| match e {
            Error::NotCm => Dropped::NotCm,
            Error::Attribute(_) => Dropped::Attribute,
        })?;
        // Replies go to the source, in the name of the destination: they must be such as can be and, the latter, ours.
        if !is_unicast(packet.ip.src()) || !is_unicast(packet.ip.dst()) {
            return Err(Dropped::Source);
        }
        if !self.is_here(packet.ip.dst()) {
            return Err(Dropped::NotHere);
        }
        let tid = header.transaction_id;
        let source = Source { packet };
        match message {
            Message::Req(req) => self.on_req(now, &source, tid, &req),
            Message::Rep(rep) => self.on_rep(now, &source, tid, &rep),
            Message::Rej(rej) => self.on_rej(now, &source, tid, &rej),
            Message::Dreq(dreq) => self.on_dreq(now, &source, tid, &dreq),
            Message::Rtu(m) => {
                let slot = self.find_both(&source, m.remote_comm_id, m.local_comm_id, tid)?;
                self.tell(slot, Connection::on_rtu)
            }
            Message::Drep(m) => {
                let slot = self.find_both(&source, m.remote_comm_id, m.local_comm_id, tid)?;
                self.tell(slot, |c| c.on_drep(now))
            }
            Message::Mra(mra) => {
                let slot = self.find_both(&source, mra.remote_comm_id, mra.local_comm_id, tid)?;
                self.tell(slot, |c| c.on_mra(now, &mra))
            }
            Message::SidrReq(req) => self.on_sidr_req(&source, tid, &req),
            // Nothing is ever asked here.
            Message::SidrRep(_) => Err(Dropped::Unmatched),
            Message::Lap(_) | Message::Apr(_) => Err(Dropped::PathMigration),
        }
    }

    fn on_req(
        &mut self,
        now: Instant,
        source: &Source<'_>,
        tid: u64,
        req: &Req,
    ) -> Result<(), Dropped> {
        if req.local_comm_id == 0 {
            return Err(Dropped::Malformed);
        }
        if let Some(slot) = self.find_named(source, req.ca_guid, req.local_comm_id) {
            return self.tell(slot, |c| c.on_duplicate_req(tid));
        }
        let path = source.path(req);
        let refuse = |reason: RejReason, info: &[u8]| Reply {
            path,
            transaction_id: tid,
            local_comm_id: 0,
            remote_comm_id: req.local_comm_id,
            kind: Kind::Rej {
                message: Answered::Req,
                reason,
                info: crate::wire::cm_msg::private_data(info),
                // Sixteen at most.
                info_len: info.len() as u8,
            },
        };
        let (request, listener) = match self.check(source, tid, req, path) {
            Ok(found) => found,
            Err((reason, info)) => return self.replies.push(refuse(reason, info.as_slice())),
        };
        if let Some(slot) = self.find_with_qp(source, req.ca_guid, req.qpn) {
            // The peer has lost the connection that this queue pair had. It is told so, may ask again, and will then find
            // the old connection gone; unless the peer is heard on that, because somebody else has asked in its name.
            self.doubt(now, slot);
            return self.replies.push(refuse(RejReason::STALE_CONNECTION, &[]));
        }
        // With no room there is no answer either: the peer asks again.
        if self.unproven.saturating_mul(REQUEST_SHARE) >= self.connections.capacity() {
            return Err(Dropped::NoRoom);
        }
        let names = self.names().ok_or(Dropped::NoRoom)?;
        let connection = Connection::requested(names, &self.config, listener, &request);
        self.insert(connection).map(|_| ()).ok_or(Dropped::NoRoom)
    }

    /// Whether a request can be had, and whom it is for; or why not.
    fn check<'r>(
        &self,
        source: &Source<'_>,
        tid: u64,
        req: &'r Req,
        path: Path,
    ) -> Result<(Request<'r>, ListenerId), (RejReason, ArrayVec<u8, 16>)> {
        let plain = |reason| (reason, ArrayVec::new());
        let port = cma::port_of(req.service_id).ok_or(plain(RejReason::INVALID_SERVICE_ID))?;
        if req.transport != TransportService::Rc {
            return Err(plain(RejReason::INVALID_TRANSPORT));
        }
        let listener = self
            .listeners
            .find(source.destination(), port)
            .ok_or(plain(RejReason::INVALID_SERVICE_ID))?;
        let [header, _] = split_private(&req.private);
        let cma = header
            .try_into()
            .ok()
            .and_then(|h| cma::Header::parse(h).ok())
            .ok_or(plain(RejReason::CONSUMER))?;
        // Data will flow between the addresses that the request came over: it must not speak of others.
        if cma.dst.to_canonical() != source.destination() || cma.src.to_canonical() != source.ip() {
            return Err(plain(RejReason::CONSUMER));
        }
        if req.primary.local_gid != Gid::from(source.ip())
            || req.primary.remote_gid != Gid::from(source.destination())
        {
            let mut info = ArrayVec::new();
            let right = Gid::from(source.destination());
            // Sixteen bytes.
            let _ = info.try_extend_from_slice(&right.0);
            return Err((RejReason::INVALID_GID, info));
        }
        if req.qpn == 0 {
            return Err(plain(RejReason::NO_QP));
        }
        // All data would be dropped.
        if !bth::pkey_matches(req.pkey) {
            return Err(plain(RejReason::CONSUMER));
        }
        let max = negotiate::max_mtu(&self.config);
        if PathMtu::from_code(req.mtu_code).is_none_or(|mtu| mtu > max) {
            let mut info = ArrayVec::new();
            // One byte.
            let _ = info.try_push(max.code());
            return Err((RejReason::INVALID_MTU, info));
        }
        let request = Request {
            req,
            cma,
            port,
            transaction_id: tid,
            path,
        };
        Ok((request, listener))
    }

    fn on_rep(
        &mut self,
        now: Instant,
        source: &Source<'_>,
        tid: u64,
        rep: &Rep,
    ) -> Result<(), Dropped> {
        let slot = self.find_both(source, rep.remote_comm_id, rep.local_comm_id, tid)?;
        let is_new = self
            .connections
            .get(slot)
            .is_some_and(|c| c.state() == State::ReqSent);
        let stale = self
            .find_with_qp(source, rep.ca_guid, rep.qpn)
            .filter(|other| is_new && *other != slot);
        match stale {
            Some(other) => {
                self.doubt(now, other);
                self.tell(slot, |c| {
                    c.on_stale_rep(now, rep);
                    Ok(None)
                })
            }
            None => self.tell(slot, |c| c.on_rep(now, rep)),
        }
    }

    fn on_rej(
        &mut self,
        now: Instant,
        source: &Source<'_>,
        tid: u64,
        rej: &Rej,
    ) -> Result<(), Dropped> {
        let slot = if rej.remote_comm_id == 0 && rej.reason == RejReason::TIMEOUT {
            // The peer never learned our name of the connection. It gives its own, and who it is.
            let [a, b, c, d, e, f, g, h, ..] = rej.info;
            let guid = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
            self.find_named(source, guid, rej.local_comm_id)
                .filter(|slot| {
                    let c = self.connections.get(*slot);
                    c.is_some_and(|c| c.is_withdrawn_by(tid))
                })
                .ok_or(Dropped::Unmatched)
        } else {
            self.find_both(source, rej.remote_comm_id, rej.local_comm_id, tid)
        }?;
        self.tell(slot, |c| c.on_rej(now, rej))
    }

    fn on_dreq(
        &mut self,
        now: Instant,
        source: &Source<'_>,
        tid: u64,
        dreq: &Dreq,
    ) -> Result<(), Dropped> {
        let known = self.find(source, dreq.remote_comm_id).filter(|slot| {
            self.connections
                .get(*slot)
                .is_some_and(|c| c.remote_comm_id == dreq.local_comm_id)
        });
        match known {
            Some(slot) => self.tell(slot, |c| c.on_dreq(now, dreq, tid)),
            // Whatever it was is gone: that is what the peer wants to hear.
            None => self.replies.push(Reply {
                path: source.way_back(),
                transaction_id: tid,
                local_comm_id: dreq.remote_comm_id,
                remote_comm_id: dreq.local_comm_id,
                kind: Kind::Drep,
            }),
        }
    }

    /// There are no datagram services here. Linux says so, too, where nobody listens.
    fn on_sidr_req(&mut self, source: &Source<'_>, tid: u64, req: &SidrReq) -> Result<(), Dropped> {
        self.replies.push(Reply {
            path: source.way_back(),
            transaction_id: tid,
            local_comm_id: 0,
            remote_comm_id: req.request_id,
            kind: Kind::NoDatagrams {
                service_id: req.service_id,
            },
        })
    }

    fn doubt(&mut self, now: Instant, slot: Slot) {
        if let Some(c) = self.connections.get_mut(slot) {
            c.doubt(now);
            self.settle(slot);
        }
    }

    /// Tells a connection of a message, and answers it.
    fn tell(
        &mut self,
        slot: Slot,
        f: impl FnOnce(&mut Connection) -> Heard,
    ) -> Result<(), Dropped> {
        let connection = self.connections.get_mut(slot);
        let heard = connection.map_or(Err(Dropped::Unmatched), f);
        self.settle(slot);
        match heard? {
            Some(reply) => self.replies.push(reply),
            None => Ok(()),
        }
    }

    /// The connection that we named so, if the message comes from its peer.
    fn find(&self, source: &Source<'_>, comm_id: u32) -> Option<Slot> {
        let (slot, connection) = self.connections.at(self.comm_ids.find(comm_id)?)?;
        let path = connection.path();
        (path.dst_ip == source.ip() && path.src_ip == source.destination()).then_some(slot)
    }

    /// The same, if the message also has the peer's name of the connection, or answers the request that began it.
    fn find_both(
        &self,
        source: &Source<'_>,
        ours: u32,
        theirs: u32,
        tid: u64,
    ) -> Result<Slot, Dropped> {
        self.find(source, ours)
            .filter(|slot| {
                let c = self.connections.get(*slot);
                c.is_some_and(|c| c.is_peers(theirs, tid))
            })
            .ok_or(Dropped::Unmatched)
    }

    /// The passive connection that the sender named so. GUIDs and names can be seen and copied by others: what one sender calls its
    /// connections is nothing to another.
    fn find_named(&self, source: &Source<'_>, guid: u64, comm_id: u32) -> Option<Slot> {
        self.lookup
            .named(source.ip(), guid, comm_id)
            .filter_map(|index| self.connections.at(index))
            .find(|(_, c)| {
                c.remote_guid == guid
                    && c.remote_comm_id == comm_id
                    && c.path().dst_ip == source.ip()
            })
            .map(|(slot, _)| slot)
    }

    /// The live connection with the sender that has this queue pair of its. Only who can speak from the peer's
    /// address may end what the peer has.
    fn find_with_qp(&self, source: &Source<'_>, guid: u64, qpn: u32) -> Option<Slot> {
        self.lookup
            .with_qp(source.ip(), guid, qpn)
            .filter_map(|index| self.connections.at(index))
            .find(|(_, c)| {
                c.remote_guid == guid && c.remote_qpn == qpn && c.path().dst_ip == source.ip()
            })
            .map(|(slot, _)| slot)
    }
}
