//! The round trip to the peer, measured on packets that were sent once, and how long to wait before asking whether something got lost: the
//! estimators of RFC 6298, and a probe timeout as in RFC 9002 6.2.

use crate::psn::Psn;
use crate::time::Instant;

/// Round trips without progress that are taken for a loss at the least. Each further silence is twice as long.
const SILENCE: u64 = 2;

/// The least such time, in nanoseconds: what machines need to answer is not always the same.
const FLOOR: u64 = 100_000;

/// How often the time is doubled at the most: while much is lost, round trips are hardly ever measured.
const DOUBLED: u8 = 6;

/// Nanoseconds between two signs of progress of a peer that has more to say.
const PAUSE: u64 = FLOOR / 4;

/// The round trip of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rtt {
    /// Smoothed, in nanoseconds; 0 before the first measurement.
    smoothed: u32,
    /// How far measurements lie from that, smoothed as well.
    variation: u32,
    /// A packet under way that asked for an answer.
    measured: Option<Psn>,
    /// When it was sent.
    sent: Instant,
}

impl Rtt {
    pub fn new() -> Rtt {
        Rtt {
            smoothed: 0,
            variation: 0,
            measured: None,
            sent: Instant::ZERO,
        }
    }

    /// A packet goes out for the first time and asks for an answer.
    pub fn sent(&mut self, psn: Psn, now: Instant) {
        if self.measured.is_none() {
            self.measured = Some(psn);
            self.sent = now;
        }
    }

    /// Something is sent again: of what comes now nobody knows which sending it answers, or for how long it was held up by what was missing.
    pub fn sent_again(&mut self) {
        self.measured = None;
    }

    /// Everything before `una` has arrived. True if that was a measurement.
    pub fn arrived(&mut self, una: Psn, now: Instant) -> bool {
        if self.measured.is_none_or(|psn| !psn.is_before(una)) {
            return false;
        }
        self.measured = None;
        let nanos = now
            .since(self.sent)
            .as_nanos()
            .clamp(1, u128::from(u32::MAX)) as u32;
        (self.smoothed, self.variation) = match self.smoothed {
            // Of a first one the half is what TCP takes, which has a second at least.
            0 => (nanos, nanos / 4),
            old => {
                let off = old.abs_diff(nanos);
                let variation = self.variation - self.variation / 4 + off / 4;
                (old - old / 8 + nanos / 8, variation)
            }
        };
        self.smoothed = self.smoothed.max(1);
        true
    }

    /// The round trip in nanoseconds, if it is known.
    pub fn nanos(&self) -> Option<u64> {
        (self.smoothed > 0).then_some(u64::from(self.smoothed))
    }

    /// Nanoseconds that an answer may take in any case.
    pub fn at_least(&self) -> u64 {
        u64::from(self.smoothed).max(FLOOR)
    }

    /// Nanoseconds of silence, after `probes` that have told nothing new of the round trip, until the next probe.
    pub fn silence(&self, probes: u8) -> Option<u64> {
        let smoothed = self.nanos()?;
        let late = smoothed.saturating_add(u64::from(self.variation) * 4);
        let nanos = late.max(smoothed * SILENCE).max(FLOOR);
        Some(nanos << probes.min(DOUBLED))
    }

    /// Nanoseconds within which more is to be heard of a peer that has answered a probe, if nothing else is missing.
    pub fn pause(&self) -> Option<u64> {
        Some((self.nanos()? / 4).max(PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_what_is_measured() {
        let mut rtt = Rtt::new();
        assert_eq!((rtt.nanos(), rtt.silence(0)), (None, None));
        let (first, second) = (Psn::new(0xff_ffff), Psn::ZERO);
        rtt.sent(first, Instant(1000));
        rtt.sent(second, Instant(5000));
        rtt.arrived(first, Instant(6000));
        assert_eq!(rtt.nanos(), None, "the packet itself has not arrived");
        rtt.arrived(second, Instant(1_001_000));
        assert_eq!(rtt.nanos(), Some(1_000_000));
        assert_eq!(rtt.silence(0), Some(2_000_000));
        assert_eq!(rtt.silence(3), Some(16_000_000));
        rtt.sent(second, Instant(0));
        assert!(rtt.arrived(second.next(), Instant(9_000_000)));
        assert_eq!(rtt.nanos(), Some(2_000_000));
        // 8 ms off, of which a quarter counts.
        let variation = 250_000 - 250_000 / 4 + 2_000_000;
        assert_eq!(rtt.silence(0), Some(2_000_000 + 4 * variation));
        // Of what is always the same it remains that one round trip may be missed.
        for i in 0..100 {
            rtt.sent(Psn::new(i), Instant(0));
            rtt.arrived(Psn::new(i + 1), Instant(2_000_000));
        }
        assert!(rtt.silence(0).unwrap().abs_diff(4_000_000) < 100_000);
    }

    #[test]
    fn nothing_is_concluded_from_what_was_sent_twice() {
        let mut rtt = Rtt::new();
        rtt.sent(Psn::ZERO, Instant(0));
        rtt.sent_again();
        assert!(!rtt.arrived(Psn::new(1), Instant(1)));
        assert_eq!(rtt.nanos(), None);
    }

    #[test]
    fn the_shortest_and_the_longest_are_bounded() {
        let mut rtt = Rtt::new();
        rtt.sent(Psn::ZERO, Instant(5));
        rtt.arrived(Psn::new(1), Instant(5));
        assert_eq!(rtt.silence(0), Some(FLOOR));
        let mut rtt = Rtt::new();
        rtt.sent(Psn::ZERO, Instant(0));
        rtt.arrived(Psn::new(1), Instant(u64::MAX));
        assert_eq!(rtt.nanos(), Some(u64::from(u32::MAX)));
        assert_eq!(rtt.silence(255), rtt.silence(DOUBLED));
    }
}
