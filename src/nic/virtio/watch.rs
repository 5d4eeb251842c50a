//! Notices that the device has stopped sending.

use core::time::Duration;

/// Time between two looks.
pub const PERIOD: Duration = Duration::from_secs(1);

/// Looks in a row without a frame given back after which the device has failed. Long enough for a back end that is being restarted.
const PATIENCE: u32 = 10;

/// What a look at the transmit queue found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Nothing is being sent: no need to look again before something is.
    Idle,
    /// All is well so far: look again.
    Busy,
    /// The device has given frames back, and nobody has fetched them.
    Unserved,
    /// The device has failed.
    Stalled,
}

/// The watch over a transmit queue. It is kept as long as frames are in flight.
#[derive(Debug, Default)]
pub struct Watch {
    kept: bool,
    /// Count of returned frames at the last look.
    returned: u32,
    /// Looks since it changed.
    quiet: u32,
}

impl Watch {
    /// Frames are in flight: true if the watch begins now, and the first look is due in a [`PERIOD`].
    pub fn begin(&mut self, returned: u32) -> bool {
        if self.kept {
            return false;
        }
        *self = Self {
            kept: true,
            returned,
            quiet: 0,
        };
        true
    }

    /// A look at the queue: frames in flight, frames returned so far, and whether some have come back that nobody has fetched.
    pub fn look(&mut self, in_flight: usize, returned: u32, has_used: bool) -> Finding {
        if in_flight == 0 {
            self.kept = false;
            return Finding::Idle;
        }
        if has_used {
            self.quiet = 0;
            return Finding::Unserved;
        }
        if returned != self.returned {
            self.returned = returned;
            self.quiet = 0;
            return Finding::Busy;
        }
        self.quiet += 1;
        if self.quiet < PATIENCE {
            return Finding::Busy;
        }
        self.kept = false;
        Finding::Stalled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_moves_now_and_then_is_not_stalled() {
        let mut watch = Watch::default();
        assert!(watch.begin(7) && !watch.begin(7));
        for returned in 8..100 {
            for _ in 1..PATIENCE {
                assert_eq!(watch.look(3, returned, false), Finding::Busy);
            }
        }
        assert_eq!(watch.look(0, 100, false), Finding::Idle);
        assert!(watch.begin(100));
    }

    #[test]
    fn a_queue_that_does_not_move_is_stalled_but_not_if_only_nobody_fetches() {
        let mut watch = Watch::default();
        watch.begin(7);
        for _ in 0..100 {
            assert_eq!(watch.look(1, 7, true), Finding::Unserved);
        }
        for _ in 1..PATIENCE {
            assert_eq!(watch.look(1, 7, false), Finding::Busy);
        }
        assert_eq!(watch.look(1, 7, false), Finding::Stalled);
    }
}
