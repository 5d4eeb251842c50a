//! Interrupt moderation: for how long a notification may wait for more to tell (NDKPI: NdkControlCqInterruptModeration).

use core::time::Duration;

/// As an interval or a count of [`moderate_cq`](crate::Engine::moderate_cq): no limit of this kind.
pub const MODERATION_UNLIMITED: u32 = u32::MAX;

/// Why the moderation of a completion queue could not be set. It stays as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ModerateError {
    /// No such queue.
    Unknown,
    /// Neither an interval nor a count that the queue can hold: there would never be a notification.
    Unlimited,
}

/// A wait with a limit, or two.
#[derive(Clone, Copy)]
pub(super) struct Moderation {
    /// From the first entry on.
    pub interval: Option<Duration>,
    /// `MODERATION_UNLIMITED`: any number.
    count: u32,
}

impl Moderation {
    /// `None` if notifications are not to wait at all: an interval of 0, or a count of 0 or 1, whatever the other is.
    pub fn try_new(
        interval_us: u32,
        count: u32,
        depth: usize,
    ) -> Result<Option<Moderation>, ModerateError> {
        if interval_us == 0 || count <= 1 {
            return Ok(None);
        }
        let interval = (interval_us != MODERATION_UNLIMITED)
            .then(|| Duration::from_micros(u64::from(interval_us)));
        let moderation = Moderation { interval, count };
        if interval.is_none() && moderation.limit(depth).is_none() {
            return Err(ModerateError::Unlimited);
        }
        Ok(Some(moderation))
    }

    /// Entries that end a wait in a queue of this depth. More than it can hold is no limit.
    fn limit(&self, depth: usize) -> Option<u64> {
        let held = self.count != MODERATION_UNLIMITED && self.count as usize <= depth;
        held.then_some(u64::from(self.count))
    }

    /// Whether a wait that has lasted so long, and brought so many entries, is over in a queue of this depth.
    pub fn is_over(&self, waited: Duration, entries: u64, depth: usize) -> bool {
        self.limit(depth).is_some_and(|limit| entries >= limit)
            || self.interval.is_some_and(|i| waited >= i)
    }
}
