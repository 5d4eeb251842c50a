//! What this side offers, grants and takes, and what the time codes of messages mean (IBTA 12.7), as pure functions.

use crate::config::Config;
use crate::wire::PathMtu;
use core::time::Duration;

/// The time that a 5-bit code stands for, `4.096 us * 2^code`, counted as Linux does: in milliseconds, a power of two, at
/// least one. Both ends of a retransmission timer then agree.
pub(super) const fn code_duration(code: u8) -> Duration {
    Duration::from_millis(1 << (code & 31).saturating_sub(8))
}

/// Number of READs to offer or grant for `wish`: a power of two, or 0, because some peers round what they are granted up to
/// one and then use that many.
pub(super) const fn grant(wish: u8) -> u8 {
    match wish.checked_ilog2() {
        Some(log) => 1 << log,
        None => 0,
    }
}

/// Number of READs to expect of a peer that says it will have `depth` outstanding, out of an `offer` made to it: rounded up
/// as some peers do, but never more than was offered.
pub(super) const fn expect(depth: u8, offer: u8) -> u8 {
    let rounded = match depth.checked_next_power_of_two() {
        Some(p) if depth > 0 => p,
        Some(_) => 0,
        None => u8::MAX,
    };
    if rounded < offer { rounded } else { offer }
}

/// Flow label of a pair of ports; advisory, but the same at both ends.
pub(super) const fn flow_label(src_port: u16, dst_port: u16) -> u32 {
    // 65535 * 31 + 65535 fits 21 bits.
    (src_port as u32 * 31 + dst_port as u32) & 0xf_ffff
}

/// The largest path MTU that this port supports.
pub(super) const fn max_mtu(config: &Config) -> PathMtu {
    PathMtu::for_link(config.local_mtu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r088_grants_are_powers_of_two_within_the_wish() {
        for wish in 0..=255 {
            let granted = grant(wish);
            assert!(granted <= wish && (granted == 0) == (wish == 0));
            assert!(granted == 0 || granted.is_power_of_two());
            assert!(u16::from(granted) * 2 > u16::from(wish) || wish == 0);
        }
    }

    #[test]
    fn r078_a_peer_that_wants_more_than_offered_is_held_to_the_offer() {
        assert_eq!(expect(255, 16), 16);
        assert_eq!(expect(16, 16), 16);
        assert_eq!(expect(3, 16), 4);
        assert_eq!(expect(0, 16), 0);
        assert_eq!(expect(1, 0), 0);
    }

    #[test]
    fn codes_are_powers_of_two_of_a_millisecond() {
        for (code, ms) in [
            (0, 1),
            (8, 1),
            (9, 2),
            (18, 1024),
            (20, 4096),
            (31, 1 << 23),
        ] {
            assert_eq!(code_duration(code), Duration::from_millis(ms));
        }
    }

    #[test]
    fn flow_label_of_the_vector() {
        assert_eq!(flow_label(40000, 7174), 0x307c6);
    }
}
