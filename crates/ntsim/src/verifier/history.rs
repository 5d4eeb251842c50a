//! The last crossings of the boundary between driver and kernel.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use super::Function;
use crate::world::Core;
use crate::world::driver::DriverNumber;

const LENGTH: usize = 256;

/// What a crossing is to the function that it is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is called; that it returns is not told.
    Call,
    /// It is called, and [`Way::Return`] follows.
    Enter,
    /// It returns.
    Return,
}

/// One crossing.
#[derive(Clone, Debug)]
pub struct Crossed {
    /// Counts the world's crossings.
    pub number: usize,
    /// When, in nanoseconds of the world's clock.
    pub time: u64,
    /// The function called.
    pub function: &'static str,
    /// True if control went from the kernel into a driver.
    pub into_driver: bool,
    /// Whether the function was called or has returned.
    pub way: Way,
    /// Name of the machine.
    pub machine: String,
    /// The driver that control went into or came from; None if that belongs to no driver: code of the test.
    pub driver: Option<String>,
    /// Number of the processor.
    pub processor: u32,
    /// IRQL at the call.
    pub irql: u8,
}

impl fmt::Display for Crossed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>12} ns  {} cpu {} irql {:>2} {} {}{}",
            self.time,
            self.machine,
            self.processor,
            self.irql,
            if self.into_driver { "->" } else { "  <-" },
            self.function,
            match self.way {
                Way::Call | Way::Enter => "",
                Way::Return => " returns",
            }
        )?;
        match &self.driver {
            Some(driver) => write!(f, " ({driver})"),
            None => Ok(()),
        }
    }
}

#[derive(Clone, Copy)]
struct Entry {
    time: u64,
    function: Option<&'static Function>,
    machine: u16,
    driver: u16,
    processor: u8,
    irql: u8,
    into_driver: bool,
    way: Way,
}

impl Entry {
    /// Whether `enter` is where this return comes from.
    fn ends(&self, enter: &Entry) -> bool {
        // Control comes back the other way.
        self.into_driver != enter.into_driver
            && self.machine == enter.machine
            && self.processor == enter.processor
            && self.function.map(std::ptr::from_ref) == enter.function.map(std::ptr::from_ref)
    }

    fn crossed(&self, number: usize, core: &Core) -> Option<Crossed> {
        let machine = u32::from(self.machine);
        Some(Crossed {
            number,
            time: self.time,
            function: self.function?.name,
            into_driver: self.into_driver,
            way: self.way,
            machine: core.name_of(machine),
            driver: core.driver_of(machine, u32::from(self.driver)),
            processor: u32::from(self.processor),
            irql: self.irql,
        })
    }
}

/// A ring of crossings. Written on every crossing, read when a rule is broken.
pub(crate) struct History {
    entries: [Cell<Entry>; LENGTH],
    /// Crossings so far. Shared with the watchdog, which only looks.
    next: Arc<AtomicUsize>,
}

impl Default for History {
    fn default() -> Self {
        const EMPTY: Entry = Entry {
            time: 0,
            function: None,
            machine: 0,
            driver: 0,
            processor: 0,
            irql: 0,
            into_driver: false,
            way: Way::Call,
        };
        History {
            entries: [const { Cell::new(EMPTY) }; LENGTH],
            next: Arc::default(),
        }
    }
}

/// Where a crossing happens.
#[derive(Clone, Copy, Default)]
pub(crate) struct At {
    pub(crate) time: u64,
    pub(crate) machine: u32,
    /// On whose behalf.
    pub(crate) driver: DriverNumber,
    pub(crate) processor: u32,
    pub(crate) irql: u8,
}

impl History {
    #[inline(always)]
    pub(crate) fn push(&self, at: At, function: &'static Function, into_driver: bool, way: Way) {
        let next = self.next.load(Relaxed);
        self.entries[next % LENGTH].set(Entry {
            time: at.time,
            function: Some(function),
            machine: at.machine as u16,
            driver: at.driver as u16,
            processor: at.processor as u8,
            irql: at.irql,
            into_driver,
            way,
        });
        self.next.store(next.wrapping_add(1), Relaxed);
    }

    /// How many crossings there were, as they go on.
    pub(crate) fn count(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.next)
    }

    /// The last `count` crossings, oldest first; before them, of those still remembered, the functions entered that have
    /// not returned: what was on the stack.
    pub(crate) fn last(&self, count: usize, core: &Core) -> Vec<Crossed> {
        let next = self.next.load(Relaxed);
        let mut returned: Vec<Entry> = Vec::new();
        let mut shown = Vec::with_capacity(count);
        for back in 1..=LENGTH.min(next) {
            let entry = self.entries[(next - back) % LENGTH].get();
            let mut open = false;
            match entry.way {
                Way::Call => {}
                Way::Return => returned.push(entry),
                Way::Enter => match returned.iter().rposition(|r| r.ends(&entry)) {
                    Some(index) => drop(returned.remove(index)),
                    None => open = true,
                },
            }
            if back <= count || open {
                shown.extend(entry.crossed(next - back, core));
            }
        }
        shown.reverse();
        shown
    }
}
