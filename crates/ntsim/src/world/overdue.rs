//! What drivers have said that they will complete, and do not: told where somebody waits in vain, and when the world ends.

use std::fmt;
use std::rc::Rc;

use super::{Core, World};

/// Longer than any timeout, in nanoseconds.
const PATIENCE: u64 = 600 * 1_000_000_000;

/// Why something that pends is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// The world ends.
    Ending,
    /// Somebody has waited for something for longer than this, in nanoseconds.
    Waited(u64),
    /// Nothing is left in the world that could complete it.
    Hopeless,
}

impl Overdue {
    /// Who has to wait for others, or for a device, may take so long, in nanoseconds.
    pub(crate) fn patience(self) -> u64 {
        match self {
            Overdue::Ending => PATIENCE,
            Overdue::Waited(time) => time.min(PATIENCE),
            Overdue::Hopeless => 0,
        }
    }

    /// Somebody waits, maybe for this.
    pub(crate) fn is_waited_for(self) -> bool {
        self != Overdue::Ending
    }
}

/// As the end of an accusation.
impl fmt::Display for Overdue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Overdue::Ending => ", when the world ends",
            Overdue::Waited(_) => ", and somebody waits in vain",
            Overdue::Hopeless => ", and nothing is left in the world that could complete it",
        })
    }
}

impl Core {
    /// Accuses drivers of what they have left pending for too long. Giving up on a wait alone would leave open who is to blame.
    pub(crate) fn accuse_overdue(&self, overdue: Overdue) {
        if !self.stopped.get() {
            crate::ndk::accuse(self, overdue);
            crate::ndis::accuse(self, overdue);
        }
    }

    /// Whether NDK has something pending, if only for its consumer's sake.
    pub(super) fn owes(&self) -> bool {
        !(crate::ndk::pending_calls().is_empty() && crate::ndk::pending_closes().is_empty())
    }

    /// The world ends: looks for what nobody will complete. When its test fails, who failed first is to blame.
    pub(super) fn check_requests(&self) {
        if !self.verifier.reported.get() && !std::thread::panicking() {
            self.accuse_overdue(Overdue::Ending);
        }
    }
}

impl World {
    /// Runs until the condition holds (true), for longer than anything may take that a driver has left pending: what pends then is lost.
    pub(crate) fn run_until_done(&mut self, mut condition: impl FnMut(&mut World) -> bool) -> bool {
        let core = Rc::clone(&self.core);
        let until = core.now().saturating_add(PATIENCE);
        let holds = core.run_while(&mut || condition(self), until);
        if !holds {
            core.accuse_overdue(Overdue::Waited(PATIENCE));
        }
        self.check();
        holds
    }
}
