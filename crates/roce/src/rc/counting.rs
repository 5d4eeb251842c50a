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
//! its first responses have shown, and is let off if it persists: what it says is refused so often that to make that up takes more than 2^20
//! frames. One response alone shows nothing, unless hardly anything is under way that it could be about by chance.

use crate::psn::Psn;

/// PSNs under way for each response that is refused before a peer is let off: who guesses needs 2^24 frames for every so many responses, and
/// half of that for half of his attempts to succeed.
const UNDER_WAY: u32 = 8;

/// What is known of the way in which the peer counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Peer {
    /// Nothing: it has said nothing, or nothing that was believed.
    Unknown,
    /// As this side does.
    Alike,
    /// In a way of its own: what it says of MSNs means nothing.
    Otherwise,
}

/// How far MSNs are believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Counting {
    peer: Peer,
    /// Responses that have been refused since there was progress.
    refused: u16,
}

impl Counting {
    pub fn new() -> Counting {
        Counting {
            peer: Peer::Unknown,
            refused: 0,
        }
    }

    /// Whether to believe a response with this MSN, of which there are `under_way` that it could be about. It is to lie between `least` and
    /// `most`: a peer may acknowledge late, and count what it has executed meanwhile (rdma_rxe does).
    pub fn accepts(&mut self, msn: u32, least: u32, most: u32, under_way: u32) -> bool {
        let alike = msn.wrapping_sub(least) & Psn::MASK <= most.wrapping_sub(least) & Psn::MASK;
        self.peer = match self.peer {
            Peer::Unknown if alike => Peer::Alike,
            // Of one that has never been alike its second response shows as much, as a rule, as silence would.
            Peer::Unknown if self.persists(under_way) => Peer::Otherwise,
            known => known,
        };
        let believed = alike || self.peer == Peer::Otherwise;
        if !believed {
            self.refused = self.refused.saturating_add(1);
        }
        believed
    }

    /// Whether an accepted response cannot count later messages than its own, or only few: `late` at the most. Of a peer that counts in its own
    /// way nothing better is known.
    pub fn is_sure(&self, msn: u32, least: u32, late: u32) -> bool {
        self.peer == Peer::Otherwise || msn.wrapping_sub(least) & Psn::MASK <= late
    }

    /// Something has arrived.
    pub fn progressed(&mut self) {
        self.refused = 0;
    }

    /// Nothing has arrived for the time of a timeout. If responses have been refused, they were all there was: true if the peer is let off.
    pub fn timed_out(&mut self, under_way: u32) -> bool {
        let let_off = self.peer != Peer::Otherwise && self.persists(under_way);
        if let_off {
            self.peer = Peer::Otherwise;
        }
        let_off
    }

    /// Whether so many responses have been refused that nobody has made them up.
    fn persists(&self, under_way: u32) -> bool {
        u32::from(self.refused) > under_way / UNDER_WAY
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    #[test]
    fn to_make_up_what_lets_a_peer_off_takes_a_million_frames_with_every_window() {
        let widest = Config {
            send_window: u32::MAX,
            read_window: u32::MAX,
            read_chunk: u32::MAX,
            ..Config::default()
        }
        .clamped();
        let most = widest.send_window.max(widest.read_chunk) + widest.read_window;
        for under_way in (0..).map(|n| 1 << n).take_while(|n| *n <= most) {
            let mut counting = Counting::new();
            assert!(counting.accepts(1, 1, 1, under_way));
            let mut hits = 0;
            while !counting.timed_out(under_way) {
                assert!(!counting.accepts(2, 1, 1, under_way));
                hits += 1;
            }
            // So many of the 2^24 PSNs are hits.
            assert!(
                hits << 24 > u64::from(under_way) << 20,
                "{hits} of {under_way}"
            );
        }
    }
}
