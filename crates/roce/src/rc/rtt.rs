//! The round trip to the peer, measured on packets that were sent once, and how long to wait before asking whether something got lost.

use crate::psn::Psn;
use crate::time::Instant;

/// Round trips without progress that are taken for a loss. Each further silence is twice as long.
const SILENCE: u64 = 2;

/// The least such time, in nanoseconds: what machines need to answer is not always the same.
const FLOOR: u64 = 100_000;

/// The round trip of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rtt {
    /// Smoothed, in nanoseconds; 0 before the first measurement.
    smoothed: u32,
    /// A packet under way that asked for an answer, and when it was sent.
    measured: Option<(Psn, Instant)>,
}

impl Rtt {
    pub fn new() -> Rtt {
        Rtt {
            smoothed: 0,
            measured: None,
        }
    }

    /// A packet goes out for the first time and asks for an answer.
    pub fn sent(&mut self, psn: Psn, now: Instant) {
        self.measured.get_or_insert((psn, now));
    }

    /// Something is sent again: of what comes now nobody knows which sending it answers.
    pub fn sent_again(&mut self) {
        self.measured = None;
    }

    /// Everything before `una` has arrived.
    pub fn arrived(&mut self, una: Psn, now: Instant) {
        let Some((_, sent)) = self.measured.filter(|(psn, _)| psn.is_before(una)) else {
            return;
        };
        self.measured = None;
        let nanos = now.since(sent).as_nanos().clamp(1, u128::from(u32::MAX)) as u32;
        self.smoothed = match self.smoothed {
            0 => nanos,
            // An eighth of the new, as TCP does.
            old => old - old / 8 + nanos / 8,
        }
        .max(1);
    }

    /// The round trip in nanoseconds, if it is known.
    pub fn nanos(&self) -> Option<u64> {
        (self.smoothed > 0).then_some(u64::from(self.smoothed))
    }

    /// Nanoseconds that an answer may take in any case.
    pub fn at_least(&self) -> u64 {
        u64::from(self.smoothed).max(FLOOR)
    }

    /// Nanoseconds of silence, after `probes` that have not ended it, until the next probe.
    pub fn silence(&self, probes: u8) -> Option<u64> {
        let nanos = (self.nanos()? * SILENCE).max(FLOOR);
        Some(nanos << probes.min(16))
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
        rtt.arrived(second.next(), Instant(9_000_000));
        assert_eq!(rtt.nanos(), Some(2_000_000));
    }

    #[test]
    fn nothing_is_concluded_from_what_was_sent_twice() {
        let mut rtt = Rtt::new();
        rtt.sent(Psn::ZERO, Instant(0));
        rtt.sent_again();
        rtt.arrived(Psn::new(1), Instant(1));
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
        assert!(rtt.silence(255).is_some());
    }
}
