//! Frames and time.

use super::{Engine, Verdict};
use crate::memory::Memory;
use crate::rc::qp::{Incoming, Qp};
use crate::rc::{QpId, Request};
use crate::time::Instant;
use crate::transmit::{Transmit, TxToken};
use crate::wire::mad::GSI_QPN;
use crate::wire::opcode::CNP_LEN;
use crate::wire::{EcnCodepoint, Error, Opcode, Packet};

macro_rules! count {
    ($engine:expr, $counter:ident) => {
        $engine.counters.$counter = $engine.counters.$counter.wrapping_add(1)
    };
}

impl Engine {
    /// Takes one received Ethernet frame, without its FCS. What it causes to be sent is ready for `poll_transmit` afterwards.
    pub fn receive<M: Memory>(&mut self, now: Instant, frame: &[u8], memory: &mut M) -> Verdict {
        self.see(now);
        let packet = match Packet::parse(frame) {
            Ok(packet) => packet,
            Err(Error::NotRoce) => return Verdict::NotRoce,
            Err(_) => {
                count!(self, rx_frames);
                count!(self, drop_malformed);
                return Verdict::Consumed;
            }
        };
        count!(self, rx_frames);
        if self.failed {
            count!(self, drop_failed);
            return Verdict::Consumed;
        }
        if packet.bth.dest_qpn == GSI_QPN {
            self.receive_mad(now, &packet);
        } else {
            self.receive_packet(now, &packet, memory);
        }
        Verdict::Consumed
    }

    fn receive_mad(&mut self, now: Instant, packet: &Packet<'_>) {
        if !packet.bth.opcode.is_ud() {
            count!(self, drop_opcode);
        } else if !packet.bth.pkey_matches() {
            count!(self, drop_pkey);
        } else if packet.verify_icrc().is_err() {
            count!(self, drop_icrc);
        } else {
            self.cm.receive(now, packet, &mut self.counters);
            self.probe_doubtful();
        }
    }

    /// Has the queue pairs of connections that are in doubt ask their peers for a sign of life. A connection without one gets none.
    fn probe_doubtful(&mut self) {
        while let Some(conn) = self.cm.poll_probe() {
            if let Some(qp) = self.qp_of(conn) {
                self.with_qp(qp, |qp, _| qp.probe());
            }
        }
    }

    fn receive_packet<M: Memory>(&mut self, now: Instant, packet: &Packet<'_>, memory: &mut M) {
        let bth = &packet.bth;
        let index = self.qpns.find(bth.dest_qpn);
        let Some((slot, qp)) = index.and_then(|index| self.qps.at(index)) else {
            count!(self, drop_unknown_qp);
            return;
        };
        if !qp.is_peer(packet.ip.src(), packet.ip.dst()) {
            count!(self, drop_wrong_peer);
            return;
        }
        if bth.opcode == Opcode::Cnp {
            self.receive_cnp(now, QpId(slot), packet);
            return;
        }
        let psn = bth.psn;
        let ext = &packet.ext;
        let original = ext.atomic_ack.map_or(0, |a| a.original).to_ne_bytes();
        let mut incoming = match bth.opcode {
            Opcode::Acknowledge => match &ext.aeth {
                Some(aeth) => Incoming::Acknowledge { psn, aeth: *aeth },
                None => return,
            },
            op if op.is_read_response() => Incoming::Response {
                op,
                psn,
                aeth: ext.aeth,
                payload: packet.payload,
                placed: 0,
            },
            op @ Opcode::AtomicAcknowledge => Incoming::Response {
                op,
                psn,
                aeth: ext.aeth,
                payload: &original,
                placed: 0,
            },
            op if op.is_rc_request() => Incoming::Request(Request {
                op,
                psn,
                solicited: bth.solicited,
                ack_request: bth.ack_req,
                reth: ext.reth,
                atomic: ext.atomic,
                immediate: ext.immediate.map(|i| i.0),
                invalidate: ext.ieth.map(|i| i.rkey),
                payload: packet.payload,
                placed: 0,
            }),
            _ => {
                count!(self, drop_opcode);
                return;
            }
        };
        if !bth.pkey_matches() {
            count!(self, drop_pkey);
            return;
        }
        let Ok(placed) = qp.verify(packet, &incoming, &self.keys, memory) else {
            count!(self, drop_icrc);
            return;
        };
        incoming.set_placed(placed);
        let marked = packet.ecn() == EcnCodepoint::Congested;
        if marked {
            count!(self, rx_congested);
        }
        // The peer can send less of what has payload, and of what asks for it.
        let tells = marked && !matches!(incoming, Incoming::Acknowledge { .. });
        self.early.see(now);
        self.with_qp(QpId(slot), |qp, shared| {
            if tells {
                qp.marked(now, shared);
            }
            qp.receive(now, &incoming, memory, shared);
        });
        if let Some(owner) = self.early.overdue() {
            self.with_qp(owner, |qp, shared| {
                qp.give_back_kept(shared.early, shared.counters);
            });
        }
    }

    /// Takes a congestion notification from the peer of a queue pair. It is no sign of the peer's life: it proves no more than its addresses.
    fn receive_cnp(&mut self, now: Instant, id: QpId, packet: &Packet<'_>) {
        if packet.payload.len() != CNP_LEN {
            count!(self, drop_malformed);
        } else if !packet.bth.pkey_matches() {
            count!(self, drop_pkey);
        } else if packet.verify_icrc().is_err() {
            count!(self, drop_icrc);
        } else {
            count!(self, rx_cnps);
            self.with_qp(id, |qp, shared| qp.notified(now, shared));
        }
    }

    /// Writes the next frame to send. False if there is none, or none may be sent before the NIC has given something back.
    pub fn poll_transmit<M: Memory>(
        &mut self,
        now: Instant,
        memory: &M,
        out: &mut Transmit,
    ) -> bool {
        self.see(now);
        out.clear();
        if self.failed {
            return false;
        }
        // These frames have no payload, so that there is always room for them. Who has come into the place of a queue pair that has been
        // destroyed meanwhile waits for its turn.
        while let Some(index) = self.answers.pop() {
            let due = self.qps.at(index).is_some_and(|(_, qp)| qp.has_answer());
            if due && self.transmit_from(index, now, memory, out) {
                return true;
            }
        }
        // Data and the connection manager take turns: neither a flood of its messages nor one of data keeps the other waiting.
        if core::mem::replace(&mut self.data_first, false) {
            return self.transmit_data(now, memory, out) || self.transmit_message(out);
        }
        self.transmit_message(out) || self.transmit_data(now, memory, out)
    }

    /// Writes the connection manager's next frame.
    fn transmit_message(&mut self, out: &mut Transmit) -> bool {
        let sent = self.cm.poll_transmit(&mut out.header);
        if sent {
            self.data_first = true;
            count!(self, tx_frames);
        }
        sent
    }

    /// Writes the next packet of a queue pair.
    fn transmit_data<M: Memory>(&mut self, now: Instant, memory: &M, out: &mut Transmit) -> bool {
        if self.in_flight.is_full() {
            return false;
        }
        // One packet per queue pair and turn. A queue pair that turns out to have nothing leaves the list.
        while let Some(index) = self.ready.pop() {
            if self.transmit_from(index, now, memory, out) {
                return true;
            }
        }
        false
    }

    fn transmit_from<M: Memory>(
        &mut self,
        index: u32,
        now: Instant,
        memory: &M,
        out: &mut Transmit,
    ) -> bool {
        let Some((slot, _)) = self.qps.at_mut(index) else {
            return false;
        };
        let sent = self.with_qp_sending(QpId(slot), |qp, shared| {
            qp.poll_transmit(now, memory, shared, out)
        });
        if sent {
            count!(self, tx_frames);
        } else {
            out.clear();
        }
        sent
    }

    /// The NIC is done with a transmission. A token that is not outstanding is ignored.
    pub fn transmitted(&mut self, now: Instant, token: TxToken) {
        self.see(now);
        let Some(done) = self.in_flight.remove(token.0) else {
            return;
        };
        self.with_qp_sending(done.qp, |qp, shared| {
            qp.transmitted(done.reads, shared.keys, shared.cqs);
            false
        });
        while let Some(waiters) = self.keys.pop_drained() {
            for qp in waiters.into_iter().flatten() {
                self.with_qp(qp, Qp::complete_ready);
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due at the latest. May be early, is never late.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.failed {
            return None;
        }
        [
            self.timers.next(),
            self.cm.next_deadline(),
            self.cqs.next_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Acts on deadlines that have passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.see(now);
        self.cm.handle_timeout(now);
        self.probe_doubtful();
        while let Some(index) = self.timers.pop_due(now) {
            let Some((slot, _)) = self.qps.at_mut(index) else {
                continue;
            };
            self.with_qp(QpId(slot), |qp, shared| qp.on_timer(now, shared));
        }
        self.cqs.handle_timeout();
    }
}
