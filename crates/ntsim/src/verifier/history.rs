//! The last crossings of the boundary between driver and kernel.

use std::cell::Cell;
use std::fmt;

use super::Function;

const LENGTH: usize = 256;

/// One crossing.
#[derive(Clone, Copy, Debug)]
pub struct Crossed {
    /// When, in nanoseconds of the world's clock.
    pub time: u64,
    /// The function called.
    pub function: &'static str,
    /// True for a call from the kernel into a driver.
    pub into_driver: bool,
    /// Number of the machine.
    pub machine: u32,
    /// Number of the processor.
    pub processor: u32,
    /// IRQL at the call.
    pub irql: u8,
}

impl fmt::Display for Crossed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>12} ns  machine {} cpu {} irql {:>2} {} {}",
            self.time,
            self.machine,
            self.processor,
            self.irql,
            if self.into_driver { "->" } else { "  <-" },
            self.function
        )
    }
}

#[derive(Clone, Copy)]
struct Entry {
    time: u64,
    function: Option<&'static Function>,
    machine: u16,
    processor: u8,
    irql: u8,
}

/// A ring of crossings. Written on every crossing, read when a rule is broken.
pub(crate) struct History {
    entries: [Cell<Entry>; LENGTH],
    next: Cell<usize>,
}

impl Default for History {
    fn default() -> Self {
        const EMPTY: Entry = Entry {
            time: 0,
            function: None,
            machine: 0,
            processor: 0,
            irql: 0,
        };
        History {
            entries: [const { Cell::new(EMPTY) }; LENGTH],
            next: Cell::new(0),
        }
    }
}

impl History {
    #[inline(always)]
    pub(crate) fn push(
        &self,
        time: u64,
        function: &'static Function,
        machine: u32,
        processor: u32,
        irql: u8,
    ) {
        let next = self.next.get();
        self.entries[next % LENGTH].set(Entry {
            time,
            function: Some(function),
            machine: machine as u16,
            processor: processor as u8,
            irql,
        });
        self.next.set(next.wrapping_add(1));
    }

    /// The last `count` crossings, oldest first.
    pub(crate) fn last(&self, count: usize) -> Vec<Crossed> {
        let next = self.next.get();
        (0..count.min(LENGTH))
            .rev()
            .filter_map(|back| {
                let index = next.checked_sub(back + 1)?;
                let entry = self.entries[index % LENGTH].get();
                let function = entry.function?;
                Some(Crossed {
                    time: entry.time,
                    function: function.name,
                    into_driver: function.callback,
                    machine: u32::from(entry.machine),
                    processor: u32::from(entry.processor),
                    irql: entry.irql,
                })
            })
            .collect()
    }
}
