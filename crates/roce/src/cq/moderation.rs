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
        if interval.is_none() && (count == MODERATION_UNLIMITED || count as usize > depth) {
            return Err(ModerateError::Unlimited);
        }
        Ok(Some(Moderation { interval, count }))
    }

    /// Whether a wait that has lasted so long, and brought so many entries, is over.
    pub fn is_over(&self, waited: Duration, entries: u64) -> bool {
        entries >= u64::from(self.count) || self.interval.is_some_and(|i| waited >= i)
    }
}
