//! Counts of Ethernet frames.

use core::sync::atomic::{AtomicU64, Ordering};

/// Kind of a destination address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cast {
    /// One station.
    Unicast,
    /// A group.
    Multicast,
    /// All.
    Broadcast,
}

impl Cast {
    /// The kind of the address a frame begins with. A frame too short for one counts as unicast.
    pub fn of(frame: &[u8]) -> Self {
        match frame.first_chunk::<6>() {
            Some([0xff, 0xff, 0xff, 0xff, 0xff, 0xff]) => Self::Broadcast,
            Some([first, ..]) if first & 1 != 0 => Self::Multicast,
            _ => Self::Unicast,
        }
    }
}

/// Frames and octets of one kind.
#[derive(Debug, Default)]
struct Count {
    frames: AtomicU64,
    octets: AtomicU64,
}

/// Frames and octets in one direction, by kind.
#[derive(Debug, Default)]
pub struct Direction {
    unicast: Count,
    multicast: Count,
    broadcast: Count,
    /// Frames not passed on although nothing was wrong with them.
    pub discards: AtomicU64,
    /// Frames not passed on because something went wrong.
    pub errors: AtomicU64,
}

impl Direction {
    fn count(&self, cast: Cast) -> &Count {
        match cast {
            Cast::Unicast => &self.unicast,
            Cast::Multicast => &self.multicast,
            Cast::Broadcast => &self.broadcast,
        }
    }

    /// Counts a frame of a length in bytes. IRQL: any.
    pub fn add(&self, cast: Cast, len: usize) {
        let count = self.count(cast);
        count.frames.fetch_add(1, Ordering::Relaxed);
        count.octets.fetch_add(len as u64, Ordering::Relaxed);
    }

    /// Frames of a kind. IRQL: any.
    pub fn frames(&self, cast: Cast) -> u64 {
        self.count(cast).frames.load(Ordering::Relaxed)
    }

    /// Octets of a kind. IRQL: any.
    pub fn octets(&self, cast: Cast) -> u64 {
        self.count(cast).octets.load(Ordering::Relaxed)
    }
}

/// Both directions. What the RDMA port sends and receives is counted by itself.
#[derive(Debug, Default)]
pub struct Statistics {
    /// Received.
    pub received: Direction,
    /// Sent.
    pub sent: Direction,
}

/// Adds one. IRQL: any.
pub fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart() {
        assert_eq!(Cast::of(&[0xff; 14]), Cast::Broadcast);
        assert_eq!(Cast::of(&[0x33, 0x33, 0, 0, 0, 1]), Cast::Multicast);
        assert_eq!(Cast::of(&[0x52, 0x54, 0, 0, 0, 1]), Cast::Unicast);
        assert_eq!(Cast::of(&[0xff]), Cast::Unicast);
    }
}
