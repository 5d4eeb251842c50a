//! Frames that read memory, and what the NIC still holds of them.

use super::{InFlight, Qp, Reads, Shared};
use crate::cq::CqSet;
use crate::key::{Access, KeyTable};
use crate::memory::Memory;
use crate::rc::frame;
use crate::transmit::{Piece, Transmit, TxToken};
use crate::wire::Reth;

impl Qp {
    /// Writes a response with the bytes of `range`, and says how many those are; `None` if they are not accessible.
    pub(super) fn respond<M: Memory>(
        &mut self,
        packet: &frame::Outgoing,
        range: Option<Reth>,
        memory: &M,
        shared: &mut Shared<'_>,
        out: &mut Transmit,
    ) -> Option<u32> {
        let nothing = Reth {
            va: 0,
            rkey: 0,
            len: 0,
        };
        let Reth { va, rkey, len } = range.unwrap_or(nothing);
        if len > 0 {
            let place = shared
                .keys
                .check_remote(
                    rkey,
                    self.params.pd,
                    self.id,
                    va,
                    u64::from(len),
                    Access::REMOTE_READ,
                )
                .ok()?;
            out.pieces.push(Piece {
                region: place.region,
                offset: place.offset,
                len,
            });
        }
        frame::write(&self.link.template, packet, None, len, memory, out).ok()?;
        if len > 0 {
            let key = shared.keys.hold(rkey)?;
            out.token = self.hold(Reads::Response { key }, shared);
        }
        Some(len)
    }

    /// A token for a frame whose memory the NIC reads. There is room for it: [`poll_transmit`](Qp::poll_transmit) writes at most one such
    /// frame, and who calls it has looked. Without a token what the frame reads would be held for ever.
    pub(super) fn hold(&mut self, reads: Reads, shared: &mut Shared<'_>) -> Option<TxToken> {
        let slot = shared
            .in_flight
            .insert(InFlight { qp: self.id, reads })
            .ok()?;
        self.in_flight = self.in_flight.saturating_add(1);
        Some(TxToken(slot))
    }

    /// The NIC is done with a transmission.
    pub fn transmitted(&mut self, reads: Reads, keys: &mut KeyTable, cqs: &mut CqSet) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match reads {
            Reads::Request { seq } => {
                self.sq.transmission_ended(seq, keys);
                self.complete(keys, cqs);
            }
            Reads::Response { key } => keys.release(key),
        }
    }
}
