//! What this side offers, grants and takes, and what the time codes of messages mean (IBTA 12.7), as pure functions.

use crate::config::Config;
use crate::wire::PathMtu;
use core::time::Duration;

/// The time that a 5-bit code stands for, `4.096 us * 2^code`, counted as Linux does: in milliseconds, a power of two, at
/// least one. Both ends of a retransmission timer then agree.
pub(super) const fn code_duration(code: u8) -> Duration {
    Duration::from_millis(1 << (code & 31).saturating_sub(8))
}

/// The local ACK timeout for a connection whose REQ proposes `proposed`. 0 would mean to wait for ever, and the peer does not get to
/// decide that; nor a storm of repetitions, nor that silence goes unnoticed for hours: 1 ms to 17 s.
pub(super) const fn ack_timeout(proposed: u8, config: &Config) -> u8 {
    match proposed {
        0 => config.ack_timeout,
        1..8 => 8,
        8..=22 => proposed,
        _ => 22,
    }
}

/// How often a REP is repeated in this interval if the peer wishes so many: not beyond half a minute altogether.
pub(super) fn retries(wish: u8, interval: Duration) -> u8 {
    const LONGEST: u128 = 30_000_000_000;
    let most = (LONGEST / interval.as_nanos().max(1)).saturating_sub(1);
    u8::try_from(most).unwrap_or(u8::MAX).min(wish)
}

/// Number of READs of the peer to have room for, if `granted` were agreed upon: the next power of two, because some peers round
/// what they are granted up to one and then use that many.
pub(super) const fn room(granted: u8) -> u8 {
    match granted.checked_next_power_of_two() {
        Some(rounded) if granted > 0 => rounded,
        Some(_) => 0,
        None => u8::MAX,
    }
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
    fn r088_there_is_room_for_a_peer_that_rounds_up() {
        assert_eq!(
            [0, 1, 2, 3, 5, 16, 17, 128, 129].map(room),
            [0, 1, 2, 4, 8, 16, 32, 128, 255]
        );
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
