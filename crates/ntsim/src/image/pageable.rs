//! Sections of images whose names begin with `PAGE`: Windows keeps them in memory no more than paged pool. With full verification they are
//! inaccessible until somebody below DISPATCH_LEVEL accesses them, and again when the IRQL is raised to it (see `memory::paged`).
//!
//! Locking them (`MmLockPagableDataSection` and its relatives) is not simulated: no image that imports that is loaded.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use crate::memory::arena::Protection;
use crate::memory::{PAGE, Ram};

struct Section {
    range: Range<usize>,
    /// As what it is accessible.
    protection: Protection,
    resident: Cell<bool>,
    /// Its name, and its image's.
    what: String,
}

impl Section {
    fn set(&self, ram: &Ram, resident: bool) {
        let protection = if resident {
            self.protection
        } else {
            Protection::Inaccessible
        };
        ram.protect(self.range.start, self.range.len() / PAGE, protection);
        self.resident.set(resident);
    }
}

/// The pageable sections in a machine's memory.
#[derive(Default)]
pub(crate) struct Pageable(RefCell<Vec<Section>>);

impl Pageable {
    pub(super) fn add(&self, ram: &Ram, range: Range<usize>, protection: Protection, what: String) {
        let section = Section {
            range,
            protection,
            resident: Cell::new(false),
            what,
        };
        section.set(ram, false);
        self.0.borrow_mut().push(section);
    }

    /// Forgets the sections that begin there.
    pub(super) fn forget(&self, there: &Range<usize>) {
        let mut sections = self.0.borrow_mut();
        sections.retain(|s| !there.contains(&s.range.start));
    }

    /// Which one an address lies in; and whether that is accessible.
    pub(crate) fn name(&self, address: usize) -> Option<(String, bool)> {
        let sections = self.0.borrow();
        let section = sections.iter().find(|s| s.range.contains(&address))?;
        Some((section.what.clone(), section.resident.get()))
    }

    /// Makes the one accessible that an address lies in; false if it is accessible, or there is none.
    pub(crate) fn page_in(&self, address: usize, ram: &Ram) -> bool {
        let sections = self.0.borrow();
        let section = sections.iter().find(|s| s.range.contains(&address));
        let absent = section.filter(|s| !s.resident.get());
        absent.inspect(|s| s.set(ram, true)).is_some()
    }

    /// Makes all of them inaccessible.
    pub(crate) fn page_out(&self, ram: &Ram) {
        for section in self.0.borrow().iter().filter(|s| s.resident.get()) {
            section.set(ram, false);
        }
    }
}
