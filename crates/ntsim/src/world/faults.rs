//! Failures on demand: any function that may answer that memory or the like is short asks here whether it is to.

use std::cell::{Cell, RefCell};

use super::context;

/// What is to fail.
#[derive(Clone, Copy, Debug, Default)]
struct Plan {
    /// The call after this many more.
    countdown: Option<u64>,
    /// And all later ones.
    sticky: bool,
}

/// A machine's.
#[derive(Default)]
pub(crate) struct Faults {
    plan: Cell<Plan>,
    failed: RefCell<Vec<&'static str>>,
}

impl Faults {
    /// Makes the call after `successes` more ones fail; all later ones too if `sticky`.
    pub(crate) fn fail_after(&self, successes: Option<u64>, sticky: bool) {
        self.plan.set(Plan {
            countdown: successes,
            sticky,
        });
    }

    /// Whether the failure asked for is still to come.
    pub(crate) fn pending(&self) -> bool {
        self.plan.get().countdown.is_some()
    }

    /// The functions that failed because they were told to, since this was last asked.
    pub(crate) fn take_failed(&self) -> Vec<&'static str> {
        self.failed.take()
    }

    /// Whether this function, which a driver called, is to fail.
    pub(crate) fn strikes(&self, function: &'static str) -> bool {
        let strikes = self.count_down();
        if strikes {
            let _kernel = context::KernelMode::enter();
            self.failed.borrow_mut().push(function);
        }
        strikes
    }

    fn count_down(&self) -> bool {
        let mut plan = self.plan.get();
        let strikes = plan.countdown == Some(0);
        plan.countdown = match plan.countdown {
            Some(0) if plan.sticky => Some(0),
            countdown => countdown.and_then(|n| n.checked_sub(1)),
        };
        self.plan.set(plan);
        strikes
    }
}
