//! Packet sequence numbers: 24 bits, compared modulo 2^24.

use core::fmt;

/// A 24-bit packet sequence number.
///
/// There is no total order: two numbers are compared by their signed distance, which is meaningful while they are less
/// than 2^23 apart. The engine keeps every window it compares within far below that.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Psn(u32);

impl Psn {
    /// The bits a PSN has.
    pub const MASK: u32 = 0x00ff_ffff;
    /// PSN zero.
    pub const ZERO: Psn = Psn(0);

    /// The low 24 bits of `value`.
    #[must_use]
    pub const fn new(value: u32) -> Psn {
        Psn(value & Self::MASK)
    }

    /// The number, below 2^24.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number `packets` later.
    #[must_use]
    pub const fn add(self, packets: u32) -> Psn {
        Psn::new(self.0.wrapping_add(packets))
    }

    /// The number `packets` earlier.
    #[must_use]
    pub const fn sub(self, packets: u32) -> Psn {
        Psn::new(self.0.wrapping_sub(packets))
    }

    /// The next number.
    #[must_use]
    pub const fn next(self) -> Psn {
        self.add(1)
    }

    /// The number before this one.
    #[must_use]
    pub const fn prev(self) -> Psn {
        self.sub(1)
    }

    /// Signed distance `self - earlier`, in `-2^23..2^23`. Positive means that `self` is later.
    #[must_use]
    pub const fn distance(self, earlier: Psn) -> i32 {
        // Shifting the 24-bit difference to the top and back extends its sign.
        ((self.0.wrapping_sub(earlier.0) << 8) as i32) >> 8
    }

    /// Packets from `earlier` to `self`, in `0..2^24`; for callers who know which one is earlier.
    #[must_use]
    pub const fn since(self, earlier: Psn) -> u32 {
        self.0.wrapping_sub(earlier.0) & Self::MASK
    }

    /// Whether `self` comes before `other`.
    #[must_use]
    pub const fn is_before(self, other: Psn) -> bool {
        self.distance(other) < 0
    }

    /// Whether `self` comes after `other`.
    #[must_use]
    pub const fn is_after(self, other: Psn) -> bool {
        self.distance(other) > 0
    }
}

impl fmt::Debug for Psn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#08x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Psn;

    #[test]
    fn arithmetic_wraps_at_24_bits() {
        let last = Psn::new(0xff_ffff);
        assert_eq!(last.next(), Psn::ZERO);
        assert_eq!(Psn::ZERO.prev(), last);
        assert_eq!(last.add(3).get(), 2);
        assert_eq!(Psn::new(2).sub(3), last);
        assert_eq!(Psn::new(0x1234_5678).get(), 0x34_5678);
    }

    #[test]
    fn distance_is_signed_and_modular() {
        let a = Psn::new(0xff_fffe);
        let b = Psn::new(1);
        assert_eq!(b.distance(a), 3);
        assert_eq!(a.distance(b), -3);
        assert_eq!(b.since(a), 3);
        assert_eq!(a.since(b), 0xff_fffd);
        assert!(a.is_before(b) && b.is_after(a) && !a.is_after(a) && !a.is_before(a));
        assert_eq!(Psn::new(0x7f_ffff).distance(Psn::ZERO), 0x7f_ffff);
        assert_eq!(Psn::new(0x80_0000).distance(Psn::ZERO), -0x80_0000);
    }
}
