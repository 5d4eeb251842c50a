//! A thread that a test has preempted.

use std::cell::Cell;
use std::rc::Rc;

use super::Core;
use super::context;
use super::thread::number;
use super::wait::wait_until;

/// A thread is to be preempted in driver code, and to stay so until it is released.
pub(crate) struct Hold {
    /// Number of the thread; 0 before it is known.
    thread: Cell<usize>,
    /// Returns to driver code at PASSIVE_LEVEL to let pass before.
    left: Cell<u32>,
    held: Cell<bool>,
    released: Cell<bool>,
}

impl Hold {
    /// For a thread that arms it, after so many returns.
    pub(crate) fn after(returns: u32) -> Rc<Self> {
        Rc::new(Self {
            thread: Cell::new(0),
            left: Cell::new(returns),
            held: Cell::new(false),
            released: Cell::new(false),
        })
    }

    /// Begins to count, for the thread that runs.
    pub(crate) fn arm(self: &Rc<Self>) {
        self.thread.set(number());
        let core = context::core();
        *core.hold.borrow_mut() = Some(Rc::clone(self));
        core.meddles.set(true);
    }

    /// Ends counting: the thread has done what it was to be held in.
    pub(crate) fn disarm(self: &Rc<Self>) {
        let core = context::core();
        core.hold
            .borrow_mut()
            .take_if(|hold| Rc::ptr_eq(hold, self));
        core.meddles.set(core.meddles_still());
    }

    /// The thread is being held.
    pub(crate) fn is_held(&self) -> bool {
        self.held.get()
    }

    /// The thread may go on, or need not be held.
    pub(crate) fn release(&self) {
        self.released.set(true);
    }
}

impl Core {
    /// Preempts the thread that runs if that is wanted here.
    pub(super) fn maybe_hold(&self) {
        let Some(hold) = self.hold.borrow().clone() else {
            return;
        };
        if hold.thread.get() != number() || context::with_processor(|p| p.irql() > 0) {
            return;
        }
        if !hold.released.get()
            && let Some(left) = hold.left.get().checked_sub(1)
        {
            hold.left.set(left);
            return;
        }
        hold.disarm();
        hold.held.set(true);
        wait_until(|| hold.released.get(), None, "preempted by the test");
        hold.held.set(false);
    }
}
