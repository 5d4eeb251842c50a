//! When to doubt that what a queue pair sends still arrives, though nobody says that the peer is gone: its MAC address, or the next
//! hop's, may be another one by now. The owner can find out; the protocol cannot.
//!
//! A requester that does not arrive has timeouts. A responder that does not arrive sees its peer repeat itself, and nothing new.

use crate::psn::Psn;
use crate::time::Instant;
use core::time::Duration;

/// Timeouts in a row that make a doubt: one is a frame that was lost.
const TIMEOUTS: u32 = 2;

/// How often the peer repeats the same request, with nothing new in between, to make a doubt.
const REPEATS: u32 = 2;

/// Time from one doubt to the next, at least: the owner needs some to find out.
const APART: Duration = Duration::from_millis(500);

/// The doubts of one queue pair.
#[derive(Default)]
pub(super) struct Doubt {
    /// The owner is to be told.
    due: bool,
    /// No other before this.
    quiet_until: Instant,
    /// The first request that the peer has repeated since it sent a new one, and how often.
    repeated: Option<(Psn, u32)>,
}

impl Doubt {
    /// The requester has waited in vain, so many times in a row.
    pub fn timed_out(&mut self, now: Instant, timeouts: u32) {
        if timeouts >= TIMEOUTS {
            self.raise(now);
        }
    }

    /// The peer has repeated a request.
    pub fn repeated(&mut self, now: Instant, psn: Psn) {
        let (first, times) = self.repeated.get_or_insert((psn, 0));
        if *first != psn {
            return;
        }
        *times = times.saturating_add(1);
        if *times >= REPEATS {
            self.raise(now);
        }
    }

    /// The peer has sent something new.
    pub fn progress(&mut self) {
        self.repeated = None;
    }

    /// Whether the peer repeats itself.
    pub fn is_of_peer(&self) -> bool {
        self.repeated.is_some()
    }

    fn raise(&mut self, now: Instant) {
        if now >= self.quiet_until {
            self.due = true;
            self.quiet_until = now.after(APART);
        }
    }

    /// Whether the owner is to be told.
    pub fn is_due(&self) -> bool {
        self.due
    }

    /// The same; not again for this doubt.
    pub fn take(&mut self) -> bool {
        core::mem::take(&mut self.due)
    }
}
