//! Time.

use core::time::Duration;

use crate::irql::Passive;
use crate::sys;
use crate::sys::types::{FALSE, KernelMode};

/// Nanoseconds since the machine started, with the resolution of the performance counter; never goes back. IRQL: any.
pub fn now() -> u64 {
    let mut counter = 0;
    // SAFETY: the counter is written to a local.
    let hundreds = unsafe { sys::KeQueryInterruptTimePrecise(&raw mut counter) };
    hundreds.saturating_mul(100)
}

/// Nanoseconds between two ticks of the clock: a [`Timer`](crate::Timer) may come so much late. IRQL: any.
pub fn tick() -> u64 {
    // SAFETY: no conditions.
    let hundreds = unsafe { sys::KeQueryTimeIncrement() };
    u64::from(hundreds).saturating_mul(100)
}

/// Waits without giving up the processor. For registers only, and not more than 50 at a time. IRQL: any.
pub fn stall(microseconds: u32) {
    // SAFETY: no conditions.
    unsafe { sys::KeStallExecutionProcessor(microseconds) }
}

/// Lets other threads run for so long at least.
pub fn sleep(duration: Duration, _: Passive) {
    let mut due = relative_due(duration);
    // SAFETY: PASSIVE_LEVEL by the token; the interval lives across the call.
    unsafe { sys::KeDelayExecutionThread(KernelMode, FALSE, &raw mut due) };
}

/// A due time relative to now as the kernel wants it: negative, in units of 100 ns, rounded up.
pub(crate) fn relative_due(after: Duration) -> i64 {
    let units = after.as_nanos().div_ceil(100);
    i64::try_from(units).map_or(i64::MIN, |units| -units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_times_are_negative_and_round_up() {
        assert_eq!(relative_due(Duration::from_nanos(1)), -1);
        assert_eq!(relative_due(Duration::from_micros(1)), -10);
        assert_eq!(relative_due(Duration::ZERO), 0);
        assert_eq!(relative_due(Duration::MAX), i64::MIN);
    }
}
