//! What one made-up frame can do, and at how many PSNs and counts of messages. Whoever makes it up knows addresses, queue pair numbers and, at
//! worst, keys, and sees nothing: PSNs he has to guess, and of a connection that has done more than a few messages their count (MSN) too.
//!
//! Harm is what the true peer cannot put right: the connection ends, bytes of a made-up frame are in memory when all is done, a request
//! completes that has not been executed, or with a result that is not its own, or nothing goes on. That a packet is sent twice is none.
//!
//! The bound: who makes up fewer than 2^20 frames is not to break a connection, so in no state may more than [`MOST`] of the 2^24 PSNs do
//! harm to whoever guesses nothing else; and of the 2^48 pairs of PSN and count never more than 2^28. How that is shown, without a gap:
//!
//! * Every PSN around what is expected or under way, with every kind of frame: one engine for each, which is played to its end with the true peer
//!   afterwards and has to end as without that frame.
//! * Every other of the 2^24 PSNs, and every other count at the PSNs where the count decides: all of them into one engine, whose counters
//!   then say of every single frame that it fell into a class that does nothing (earlier, much later, not under way, wrongly counted). What they do
//!   all together, in the end, is nothing.
//!
//! What comes of it. A connection is young while the oldest message under way is one of the first 1024, so that its count is easy to guess; what is
//! said of an old one is for who knows that the count is one of 1024, or of more:
//!
//! | made up | when | harmful PSNs, with the one best count |
//! |---|---|---|
//! | request | nothing is missing | 1 |
//! | request | requests are missing, for a round trip after a loss | at most 9 |
//! | refusal, "receiver not ready" | where a message begins | 1 |
//! | refusal in the middle of a message | young | 0: it is believed when the peer's silence ends the connection |
//! | refusal in the middle of a message | old | 128: 1 for each count that it may be |
//! | READ data in the middle | nothing is missing | 1 |
//! | READ data in the middle | data is missing | at most 9 |
//! | READ data that begins or ends something | young | 4, and 12 while data is missing |
//! | READ data that begins or ends something | old | 256: 1 for each count that it may be |
//! | answer to an atomic request | | 9, old 16 |
//! | acknowledgement | all that was sent arrives | 0 |
//! | acknowledgement | something is lost; young | 8 |
//! | acknowledgement | something is lost; old | 128: 9 for each count that it may be |
//! | refusal with any count | before a peer's first answer, and behind a timeout in which it says nothing | 128, but it takes 18 of them: 2^21 frames |

mod requests;
mod responses;

use crate::util::raw::syndrome::*;
use crate::util::raw::{PSN, Raw};
use crate::util::*;
use roce::wire::Opcode::{self, *};
use roce::wire::{Aeth, ExtHeaders, Icrc, Reth, Syndrome};
use roce::{Event, Psn, SendOp, Status};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

/// How many PSNs there are, and counts.
const ALL_OF_THEM: u32 = 1 << 24;

/// Frames that have to be made up on average, at least, before one does harm.
const FRAMES: u64 = 1 << 20;

/// PSNs at which a frame of one kind may do harm, at most.
const MOST: usize = (ALL_OF_THEM as u64 / FRAMES) as usize;

/// Whether so many pairs of PSN and count are few enough for who has to guess both.
fn are_few(pairs: u64) -> bool {
    pairs <= (1 << 48) / FRAMES
}

/// A frame of which PSN and count can be changed: an IPv4 frame without a tag.
struct Stamp {
    frame: Vec<u8>,
}

impl Stamp {
    const BTH: usize = 14 + 20 + 8;

    fn new(frame: Vec<u8>) -> Stamp {
        Stamp { frame }
    }

    fn set(at: &mut [u8], value: u32) {
        at.copy_from_slice(&value.to_be_bytes()[1..]);
    }

    /// The frame with this PSN, and this count if it has an AETH.
    fn with(&mut self, psn: u32, msn: Option<u32>) -> &[u8] {
        let frame = &mut self.frame;
        Stamp::set(&mut frame[Stamp::BTH + 9..][..3], psn);
        if let Some(msn) = msn {
            Stamp::set(&mut frame[Stamp::BTH + 12 + 1..][..3], msn);
        }
        let end = frame.len() - 4;
        let icrc = Icrc::start(&frame[14..end]).unwrap().finish();
        frame[end..].copy_from_slice(&icrc);
        frame
    }
}

/// One of several kinds of frames, as good as at random: the PSN or the count decides.
fn kind(number: u32, kinds: usize) -> usize {
    (number.wrapping_mul(0x9e37_79b1) >> 16) as usize % kinds
}
