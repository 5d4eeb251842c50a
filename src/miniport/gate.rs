//! Whether Ethernet frames may pass, and how many are on their way: what pausing an adapter waits for.

use core::sync::atomic::{AtomicU64, Ordering};

/// Bit 0: closed. Above: how many are inside.
#[derive(Debug)]
pub struct Gate(AtomicU64);

const CLOSED: u64 = 1;
const ONE: u64 = 2;

impl Gate {
    /// A closed gate, as an adapter is after initialisation.
    pub const fn new() -> Self {
        Self(AtomicU64::new(CLOSED))
    }

    /// Lets one in, unless it is closed. IRQL: any.
    pub fn enter(&self) -> bool {
        let enter = |state| (state & CLOSED == 0).then_some(state + ONE);
        self.0
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, enter)
            .is_ok()
    }

    /// `count` leave. Answers true to the one who leaves a closed gate as the last: he tells whoever waits. IRQL: any.
    #[must_use]
    pub fn leave(&self, count: u64) -> bool {
        count > 0 && self.0.fetch_sub(count * ONE, Ordering::AcqRel) == (count * ONE) | CLOSED
    }

    /// Closes the gate: true if nobody is inside. IRQL: any.
    #[must_use]
    pub fn close(&self) -> bool {
        self.0.fetch_or(CLOSED, Ordering::AcqRel) & !CLOSED == 0
    }

    /// Opens the gate. IRQL: any.
    pub fn open(&self) {
        self.0.fetch_and(!CLOSED, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_enters_a_closed_gate() {
        let gate = Gate::new();
        assert!(!gate.enter());
        gate.open();
        assert!(gate.enter());
        assert!(!gate.close(), "one is inside");
        assert!(!gate.enter());
        assert!(gate.leave(1));
    }

    #[test]
    fn only_the_last_to_leave_a_closed_gate_is_told() {
        let gate = Gate::new();
        gate.open();
        for _ in 0..4 {
            assert!(gate.enter());
        }
        assert!(!gate.leave(1), "still open");
        assert!(!gate.close());
        assert!(!gate.leave(2));
        assert!(gate.leave(1));
        assert!(gate.close(), "closing again finds it empty");
    }
}
