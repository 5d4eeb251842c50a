//! Mappings for devices that have ended: a device that still uses one can be told who ended it, and when.

use std::cell::RefCell;
use std::collections::VecDeque;

use crate::verifier::origin;
use crate::world::context;
use crate::world::driver::DriverNumber;
use crate::world::machine::Machine;

/// So many are remembered.
const REMEMBERED: usize = 1024;

/// A mapping that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    logical: u64,
    len: usize,
    device_wrote: bool,
    /// When, ns.
    time: u64,
    driver: DriverNumber,
    /// The function that ended it.
    by: &'static str,
    /// Where an image called that; 0 if no image did.
    caller: usize,
}

impl Ended {
    /// How it ended.
    pub(crate) fn told(&self, machine: &Machine) -> String {
        let driver = machine.drivers.get(self.driver);
        let who = driver.map_or_else(String::new, |d| format!(", called by driver {}", d.name));
        let place = context::try_core()
            .filter(|_| self.caller != 0)
            .and_then(|core| origin::describe(&core, self.caller - 1))
            .map_or_else(String::new, |place| format!(" in {place}"));
        format!(
            "{} bytes at {:#x} were mapped until {} at {} ns{who}{place}",
            self.len, self.logical, self.by, self.time
        )
    }
}

/// The last mappings that have ended, oldest first.
#[derive(Default)]
pub(super) struct EndedMappings(RefCell<VecDeque<Ended>>);

impl EndedMappings {
    /// Remembers that a function has ended a mapping now.
    pub(super) fn note(&self, logical: u64, len: usize, device_wrote: bool, by: &'static str) {
        let mut ended = self.0.borrow_mut();
        if ended.len() == REMEMBERED {
            ended.pop_front();
        }
        ended.push_back(Ended {
            logical,
            len,
            device_wrote,
            time: context::try_core().map_or(0, |core| core.now()),
            driver: context::with(|c| c.driver.get()),
            by,
            caller: origin::caller(),
        });
    }

    /// The last one that allowed an access to any byte of these.
    pub(super) fn find(&self, logical: u64, len: usize, device_writes: bool) -> Option<Ended> {
        let over = |ended: &&Ended| {
            ended.logical < logical.saturating_add(len as u64)
                && logical < ended.logical + ended.len as u64
                && (ended.device_wrote || !device_writes)
        };
        self.0.borrow().iter().rev().find(over).copied()
    }
}
