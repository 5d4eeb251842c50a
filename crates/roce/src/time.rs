//! The engine's notion of time. It never reads a clock: every entry point that needs the time is told it.

use core::time::Duration;

/// A point on the caller's monotonic clock, in nanoseconds. The origin does not matter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Instant(pub u64);

impl Instant {
    /// The caller's origin.
    pub const ZERO: Instant = Instant(0);

    /// This much later, saturating.
    #[must_use]
    pub fn after(self, d: Duration) -> Instant {
        let nanos = u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        Instant(self.0.saturating_add(nanos))
    }

    /// `nanos` later, saturating.
    #[must_use]
    pub const fn after_nanos(self, nanos: u64) -> Instant {
        Instant(self.0.saturating_add(nanos))
    }

    /// `micros` later, saturating.
    #[must_use]
    pub const fn after_micros(self, micros: u32) -> Instant {
        self.after_nanos(micros as u64 * 1000)
    }

    /// Time since `earlier`, zero if that lies in the future.
    #[must_use]
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The local ACK timeout `4.096 us * 2^exponent` in nanoseconds; `None` for exponent 0, which means "never".
#[must_use]
pub const fn ack_timeout_nanos(exponent: u8) -> Option<u64> {
    match exponent & 31 {
        0 => None,
        n => Some(4096 << n),
    }
}

/// The local ACK timeout in nanoseconds when so many in a row have passed: four times as long at most.
#[must_use]
pub(crate) fn doubled_timeout_nanos(exponent: u8, passed: u32) -> Option<u64> {
    ack_timeout_nanos(exponent).map(|nanos| nanos << passed.min(2))
}

/// Nanoseconds from a request to its failure when nothing ever comes back: a timeout for itself and one for each retry.
#[must_use]
pub(crate) fn retry_nanos(exponent: u8, retry_count: u8) -> Option<u64> {
    (0..=u32::from(retry_count))
        .map(|passed| doubled_timeout_nanos(exponent, passed))
        .try_fold(0_u64, |sum, nanos| Some(sum.saturating_add(nanos?)))
}

/// The wait an RNR NAK asks for, in nanoseconds, by its 5-bit timer code.
#[must_use]
pub const fn rnr_nanos(code: u8) -> u64 {
    // Hundredths of a millisecond, by code.
    const TABLE: [u32; 32] = [
        65536, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024,
        1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768, 49152,
    ];
    #[expect(clippy::indexing_slicing, reason = "five bits, 32 entries")]
    let hundredths = TABLE[(code & 31) as usize];
    hundredths as u64 * 10_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_follow_their_codes() {
        assert_eq!(ack_timeout_nanos(0), None);
        assert_eq!(ack_timeout_nanos(1), Some(8192));
        assert_eq!(ack_timeout_nanos(14), Some(67_108_864));
        assert_eq!(ack_timeout_nanos(31), Some(4096 << 31));
        assert_eq!(rnr_nanos(0), 655_360_000);
        assert_eq!(rnr_nanos(1), 10_000);
        assert_eq!(rnr_nanos(12), 640_000);
        assert_eq!(rnr_nanos(31), 491_520_000);
    }

    #[test]
    fn instants_saturate() {
        assert_eq!(Instant(u64::MAX).after(Duration::MAX), Instant(u64::MAX));
        assert_eq!(Instant(5).since(Instant(9)), Duration::ZERO);
        assert_eq!(Instant(9).since(Instant(5)), Duration::from_nanos(4));
    }
}
