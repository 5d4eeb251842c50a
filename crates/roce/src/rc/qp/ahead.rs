//! One pass over the payload: placing it before the packet's ICRC is known.
//!
//! The ICRC covers the whole packet, so that it is known only when the last byte has been read. To read each byte once, payload is copied
//! to its place as the CRC runs over it ([`Memory::place`]), and the packet is dropped if the CRC turns out wrong. Nothing but bytes of
//! memory can have changed then: all that the queue pair does it does afterwards, with a packet that is right.
//!
//! What a wrong packet has left behind harms nobody, because its place does not come from it:
//!
//! * It is the place of the PSN that is expected next, for which the right packet is still to come. Where that goes on with the message
//!   under way, it overwrites all of it, or the connection ends.
//! * It lies in a range that has been given for the message under way and checked, now as well: the rest of a WRITE whose first packet
//!   was right, the receive at the front of the queue, or the sink of the oldest READ. Nobody has been told that these bytes have
//!   arrived. Those of the message that were placed before are not touched, nor are bytes of any other range.
//! * In a receive, something may stay: the wrong packet may have said that a SEND begins, or have been longer than the right one. Bytes of a
//!   posted receive mean nothing, nor do those behind the length of one that has completed.
//! * The last bytes of the payload stay back until the ICRC has been found right: who watches the last byte of a buffer or a message
//!   (NDKPI: NDK_ADAPTER_FLAG_IN_ORDER_DMA_SUPPORTED) sees it change when all of it is there, as ever. For the same reason the payload
//!   has to go to one element of a list: so no element ends before the last bytes. Who has the peer WRITE several things at once, and watches
//!   for one that is not the last, sees bytes of packets that may be wrong.
//!
//! A forged packet can do nothing through this that it could not do with a right ICRC, which takes no secret.
//!
//! Checked first, in a pass of their own, are: first and only packets of WRITEs, whose RETH may be what is wrong and could name memory
//! that is complete; packets out of order; short payloads, which are in the processor's nearest cache when they are read again; payloads
//! that several elements share; and what needs a receive of a shared queue, which is not to be taken for a packet that is wrong.

use super::{Incoming, Qp, State};
use crate::key::{KeyTable, Place};
use crate::memory::Memory;
use crate::psn::Psn;
use crate::rc::{Request, sgl};
use crate::wire::{Error, Packet};

/// Bytes at the end of a payload that are not placed ahead.
const HELD_BACK: usize = 16;

/// The shortest payload that is placed ahead.
const SHORTEST: usize = 256;

impl Incoming<'_> {
    /// So much of the payload is in its place already.
    pub fn set_placed(&mut self, bytes: u32) {
        match self {
            Incoming::Request(Request { placed, .. }) | Incoming::Response { placed, .. } => {
                *placed = bytes;
            }
            Incoming::Acknowledge { .. } => {}
        }
    }
}

impl Qp {
    /// Checks the ICRC of a packet, of which `incoming` has been made, and may place payload on the way. Gives how many bytes.
    ///
    /// # Errors
    /// The ICRC is wrong.
    pub fn verify<M: Memory>(
        &self,
        packet: &Packet<'_>,
        incoming: &Incoming<'_>,
        keys: &KeyTable,
        memory: &mut M,
    ) -> Result<u32, Error> {
        let payload = packet.payload;
        if payload.len() >= SHORTEST
            && let Some(place) = self.place_ahead(incoming, keys)
            && let Some((head, _)) = payload.split_at_checked(payload.len() - HELD_BACK)
        {
            let mut icrc = packet.start_icrc()?;
            if memory
                .place(place.region, place.offset, head, icrc.crc())
                .is_ok()
            {
                packet.verify_icrc_from(icrc, head.len())?;
                return Ok(head.len() as u32);
            }
        }
        packet.verify_icrc().map(|()| 0)
    }

    fn place_ahead(&self, incoming: &Incoming<'_>, keys: &KeyTable) -> Option<Place> {
        match incoming {
            Incoming::Request(request) if self.has_peer() => self
                .responder
                .place_ahead(request, &self.rq, &self.link, keys),
            Incoming::Response {
                op, psn, payload, ..
            } if self.state == State::Connected && op.is_read_response() => {
                self.place_response(*psn, payload.len(), keys)
            }
            _ => None,
        }
    }

    fn place_response(&self, psn: Psn, len: usize, keys: &KeyTable) -> Option<Place> {
        let Qp {
            requester,
            sq,
            link,
            ..
        } = self;
        if psn != requester.una || psn == requester.next {
            return None;
        }
        let seq = requester.una_wqe;
        let wqe = sq.get(seq).filter(|w| w.kind.awaits_data())?;
        let offset = link.offset(psn.since(wqe.first_psn));
        let expected = wqe.len.saturating_sub(offset).min(link.mtu);
        if len != expected as usize {
            return None;
        }
        sgl::place(sq.sgl(seq), keys, link.pd, offset, expected)
    }
}
