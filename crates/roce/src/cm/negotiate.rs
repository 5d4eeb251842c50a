//! What this side offers, grants and takes, and what the time codes of messages mean (IBTA 12.7), as pure functions.

use super::request::MAX_RETRIES;
use crate::config::Config;
use crate::time::retry_nanos;
use crate::wire::PathMtu;
use core::time::Duration;

/// Longest local ACK timeout that a peer can bring about: code of 17 s.
const MAX_ACK_TIMEOUT: u8 = 22;

/// How long a connection that is over still answers late messages, at least, and keeps its names from being used again.
const TIMEWAIT: Duration = Duration::from_millis(2048);

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
        8..=MAX_ACK_TIMEOUT => proposed,
        _ => MAX_ACK_TIMEOUT,
    }
}

/// The local ACK timeout of the connecting side, which has told `own`, now that it knows how long its peer takes to acknowledge: as Linux
/// computes it from that delay and the packet lifetime (IBTA 9.7.6.1.3, in codes). The peer does not get to make it longer than 17 s.
pub(super) const fn ack_timeout_with(own: u8, delay: u8) -> u8 {
    if own == 0 {
        return 0;
    }
    // Twice the lifetime, as a code.
    let trip = own;
    let sum = if trip >= delay {
        trip.saturating_add((delay >= trip - 1) as u8)
    } else {
        delay.saturating_add((trip >= delay - 1) as u8)
    };
    match sum {
        0..=MAX_ACK_TIMEOUT => sum,
        _ if own > MAX_ACK_TIMEOUT => own,
        _ => MAX_ACK_TIMEOUT,
    }
}

/// How long a connection that is over rests: what is under way may be as late as the ACK timeout, two seconds at least and 17 s at most.
pub(super) const fn timewait(ack_timeout: u8) -> Duration {
    let code = if ack_timeout > MAX_ACK_TIMEOUT {
        MAX_ACK_TIMEOUT
    } else {
        ack_timeout
    };
    let time = code_duration(code);
    if time.as_nanos() > TIMEWAIT.as_nanos() {
        time
    } else {
        TIMEWAIT
    }
}

/// How long a peer that does not answer is waited for when somebody says that it has lost the connection: as long as a request waits for
/// its acknowledgement before it fails, with all its retries, but two seconds at least, and half a minute at most. A peer that did lose
/// it is refused for that time, and asks again.
pub(super) fn patience(ack_timeout: u8, retry_count: u8) -> Duration {
    const LEAST: Duration = Duration::from_secs(2);
    const MOST: Duration = Duration::from_secs(30);
    retry_nanos(ack_timeout, retry_count)
        .map_or(MOST, |nanos| Duration::from_nanos(nanos).clamp(LEAST, MOST))
}

/// How often a REP is repeated in this interval if the peer wishes so many: not beyond half a minute altogether, or what this side asks
/// of others.
pub(super) fn retries(wish: u8, interval: Duration, config: &Config) -> u8 {
    const LONGEST: Duration = Duration::from_secs(30);
    let own = code_duration(config.cm_response_timeout).saturating_mul(u32::from(MAX_RETRIES) + 1);
    let longest = LONGEST.max(own).as_nanos();
    let most = (longest / interval.as_nanos().max(1)).saturating_sub(1);
    u8::try_from(most).unwrap_or(u8::MAX).min(wish)
}

/// Number of READs of the peer to have room for, if `granted` were agreed upon: the next power of two, because some peers round
/// what they are granted up to one and then use that many.
///
/// What REQ and REP say stays the consumers' number all the same, and is no power of two if theirs is none: NDKPI's limits in force are
/// the least of both sides', so that neither may be told fewer (requirement M-14) or more, and whoever rounds up comes to no harm.
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
    fn the_time_to_acknowledge_counts_as_linux_counts_it() {
        for (own, delay, want) in [
            // The digest's example: a lifetime of 18 and rdma_rxe's 15.
            (19, 15, 19),
            (15, 15, 16),
            (15, 14, 16),
            (15, 13, 15),
            (10, 15, 15),
            (14, 15, 16),
            (15, 0, 15),
            (1, 0, 2),
            (0, 15, 0),
            (15, 31, 22),
            (22, 22, 22),
            (25, 31, 25),
        ] {
            assert_eq!(ack_timeout_with(own, delay), want, "{own} {delay}");
        }
    }

    #[test]
    fn who_may_be_late_is_waited_for() {
        for (code, ms) in [
            (0, 2048),
            (15, 2048),
            (19, 2048),
            (20, 4096),
            (22, 16384),
            (31, 16384),
        ] {
            assert_eq!(timewait(code), Duration::from_millis(ms), "{code}");
        }
    }

    #[test]
    fn r083_who_is_said_to_be_gone_is_waited_for_as_data_waits() {
        for (code, retries, ms) in [
            // One timeout, two, and four times four of 134 ms.
            (15, 6, 3087),
            (16, 7, 7247),
            (19, 7, 30_000),
            (15, 0, 2000),
            (1, 7, 2000),
            (31, 7, 30_000),
            (0, 0, 30_000),
        ] {
            let time = patience(code, retries).as_millis();
            assert_eq!(time, ms, "{code} {retries}");
        }
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
