//! The message sequence number (MSN, IBTA 9.7.7.1): how many messages the peer says to have executed.
//!
//! A requester does not need it: the PSN says what has arrived. But PSNs of a few hundred packets are acceptable at any time, out of 2^24, and
//! who knows the addresses and the queue pair number guesses one with some forty thousand frames: a made-up NAK ends the connection, and a
//! made-up acknowledgement completes requests that have not arrived. The right MSN besides is another 24 bits that he would have to guess.
//!
//! As far as he has to guess: MSNs begin at 0, so that of a young connection is a small number. What ends a connection, a NAK, is believed with one
//! number only, and, where a message begins, with one PSN for each number; that an acknowledgement may count what follows gives him more of
//! them.
//!
//! Data in the middle of a READ comes without an MSN, and is believed by its PSN alone, where it is the next: nothing else is on the wire.
//!
//! MSNs have no other use on most connections, and no standard test would notice an adapter that counts differently. So a peer is held to what
//! its first responses have shown, and is let off if it persists. One alone does not show it: that may be made up.

use crate::psn::Psn;

/// What is known of the way in which the peer counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Peer {
    /// It has not said anything.
    Unknown,
    /// The one response there was did not count as this side does, and was refused.
    Strange,
    /// As this side does.
    Alike,
    /// In a way of its own: what it says of MSNs means nothing.
    Otherwise,
}

/// How far MSNs are believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Counting {
    peer: Peer,
    /// A response has been refused since there was progress.
    refused: bool,
}

impl Counting {
    pub fn new() -> Counting {
        Counting {
            peer: Peer::Unknown,
            refused: false,
        }
    }

    /// Whether to believe a response with this MSN. It is to lie between `least` and `most`: a peer may acknowledge late, and count what it has
    /// executed meanwhile (rdma_rxe does).
    pub fn accepts(&mut self, msn: u32, least: u32, most: u32) -> bool {
        let alike = msn.wrapping_sub(least) & Psn::MASK <= most.wrapping_sub(least) & Psn::MASK;
        let (peer, believed) = match self.peer {
            Peer::Unknown | Peer::Strange if alike => (Peer::Alike, true),
            Peer::Unknown => (Peer::Strange, false),
            Peer::Strange => (Peer::Otherwise, true),
            Peer::Alike => (Peer::Alike, alike),
            Peer::Otherwise => (Peer::Otherwise, true),
        };
        self.peer = peer;
        self.refused |= !believed;
        believed
    }

    /// Something has arrived.
    pub fn progressed(&mut self) {
        self.refused = false;
    }

    /// Nothing has arrived for the time of a timeout. If responses have been refused, they were all there was: true if the peer is let off.
    pub fn timed_out(&mut self) -> bool {
        let let_off = self.refused && matches!(self.peer, Peer::Alike | Peer::Strange);
        if let_off {
            self.peer = Peer::Otherwise;
        }
        let_off
    }
}
