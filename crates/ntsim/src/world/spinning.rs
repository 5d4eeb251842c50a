//! Threads that spin for a lock which another processor's code holds.

use std::fmt;
use std::rc::Rc;

use super::context;
use super::thread::{State, Thread, current, to_host};

/// A thread that spins.
pub(crate) struct Spin {
    lock: usize,
    thread: Rc<Thread>,
    /// The function that acquires.
    by: &'static str,
    since: u64,
}

/// A spin that lasts so many nanoseconds will not end.
const LONGEST_SPIN: u64 = 1_000_000_000;

impl Spin {
    /// Whether it lasts so long that it will not end.
    pub(super) fn is_endless(&self, now: u64) -> bool {
        now.saturating_sub(self.since) > LONGEST_SPIN
    }
}

impl fmt::Display for Spin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "kernel thread {} spins in {} for the lock at {:#x}",
            self.thread.number, self.by, self.lock
        )
    }
}

/// Spins for a lock that another processor's code holds: lets that go on until the lock may be free.
pub(crate) fn spin(lock: usize, by: &'static str) {
    let Some(thread) = current() else {
        panic!("{by}: the lock at {lock:#x} is held by code that does not run");
    };
    let core = context::core();
    // SAFETY: made by `Rc::as_ptr` from an `Rc` that the resumer holds.
    let thread = unsafe {
        Rc::increment_strong_count(thread);
        Rc::from_raw(thread)
    };
    thread.state.set(State::Blocked);
    let spin = Spin {
        lock,
        thread: Rc::clone(&thread),
        by,
        since: core.now(),
    };
    core.spinning.borrow_mut().push(spin);
    to_host(&thread);
}

/// A spin lock was released: who spins for it can go on.
#[inline]
pub(crate) fn released(lock: usize) {
    context::with(|c| {
        // SAFETY: null or kept by the world while it is in the context.
        let core = unsafe { c.core.get().as_ref() };
        if let Some(core) = core {
            let mut spinning = core.spinning.borrow_mut();
            if let Some(index) = spinning.iter().position(|s| s.lock == lock) {
                let spin = spinning.remove(index);
                core.released.borrow_mut().push_back(spin.thread);
            }
        }
    });
}
