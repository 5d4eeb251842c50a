//! Special pool: slots, each of which is a page or two with one behind that nobody may access.
//!
//! A block smaller than a page gets a slot for itself, and ends where that does. When the block is freed nobody may access the slot until it is
//! needed again, and enough others have been freed: then slots of those freed first are made accessible again, many at a time, because each call
//! of the system takes long. Until such a slot is given out who writes to it is found, and who reads it finds what freed memory holds.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use super::backing::SlotZone;
use super::block::{Block, GUARD_BYTE, fill};
use super::ram::Ram;

/// So many slots are made accessible at a time.
const BATCH: usize = 64;
/// Slots are kept back until so many others are, while there are more that can be made accessible instead.
const KEPT_BACK: usize = 128;
/// When there are none, of so many slots one is kept back.
const AT_LEAST: usize = 16;
/// Slots that are accessible anyway, between others: to pass over so many is quicker than another call.
const GAP: usize = 4;

/// A block that was freed, and where it is.
pub(super) type Freed = (usize, Block);

/// A machine's slots of one size.
pub(super) struct Slots {
    /// Pages of a slot.
    pages: usize,
    /// So many have been accessible yet: the first ones.
    opened: Cell<usize>,
    /// So many have been given out yet: the first ones. Those that are accessible and never were hold guard bytes, so that only the block needs
    /// to be filled.
    used: Cell<usize>,
    /// The block that was freed in each slot that has been given out; None in those in use.
    freed: RefCell<Vec<Option<Freed>>>,
    /// Slots whose blocks were freed and that are kept back, first freed first.
    kept_back: RefCell<VecDeque<usize>>,
    /// Those that were kept back long enough, in the order in which they are given out. They are accessible; around what was the block they still
    /// hold guard bytes.
    ready: RefCell<VecDeque<usize>>,
}

impl Slots {
    pub(super) fn new(pages: usize) -> Slots {
        Slots {
            pages,
            opened: Cell::default(),
            used: Cell::default(),
            freed: RefCell::default(),
            kept_back: RefCell::default(),
            ready: RefCell::default(),
        }
    }

    fn zone(&self, ram: &Ram) -> SlotZone {
        ram.slots(self.pages)
    }

    /// The address of a slot, which holds guard bytes; None if there is none left.
    pub(super) fn take(&self, ram: &Ram) -> Option<usize> {
        let ready = || !self.ready.borrow().is_empty();
        // What decides is what this machine did: that more slots are accessible already, from a machine before, must not change addresses.
        let are_many = || self.kept_back.borrow().len() >= KEPT_BACK + BATCH;
        if !ready() && (are_many() || !self.has_new(ram)) {
            self.open_kept_back(ram);
        }
        let slot = self.take_ready(ram).or_else(|| self.take_new(ram))?;
        Some(ram.slot(self.zone(ram), slot))
    }

    /// Whether there is a slot that nobody had yet; if need be it is made accessible.
    fn has_new(&self, ram: &Ram) -> bool {
        self.used.get() < self.opened.get() || self.open_new(ram)
    }

    /// A slot that was kept back. What was freed there ends to be remembered, and is looked at for the last time.
    fn take_ready(&self, ram: &Ram) -> Option<usize> {
        let slot = self.ready.borrow_mut().pop_front()?;
        let freed = self.freed.borrow_mut()[slot].take();
        if let Some((address, block)) = freed {
            // To read all of a page takes long: only if somebody can have written there all the while.
            let exposed = ram.is_seen_elsewhere(address - block.front, block.pages)
                || !crate::ndk::tombstones(address, block.size).is_empty();
            block.check_freed(address, exposed);
            crate::ndk::forget(address, block.size);
            // SAFETY: a slot that is nobody's now.
            unsafe { fill(address, GUARD_BYTE, block.size) };
        }
        Some(slot)
    }

    /// A slot that nobody had yet.
    fn take_new(&self, ram: &Ram) -> Option<usize> {
        self.has_new(ram)
            .then(|| self.used.replace(self.used.get() + 1))
    }

    /// Makes slots accessible that never were; false if all have been.
    fn open_new(&self, ram: &Ram) -> bool {
        let (zone, opened) = (self.zone(ram), self.opened.get());
        let end = ram.slots_at_hand(zone, opened, BATCH);
        if end == opened {
            return false;
        }
        ram.open_slots(zone, opened..end);
        for slot in opened..end {
            // SAFETY: a slot that nobody has yet.
            unsafe { fill(ram.slot(zone, slot), GUARD_BYTE, zone.size()) };
        }
        self.opened.set(end);
        self.freed.borrow_mut().resize(end, None);
        true
    }

    /// Keeps the slot of a freed block back. If it is to be inaccessible, it becomes so.
    pub(super) fn keep_back(&self, ram: &Ram, address: usize, block: Block) {
        let zone = self.zone(ram);
        let Some(slot) = ram.slot_of(zone, address) else {
            return;
        };
        if block.inaccessible {
            ram.close_slot(zone, slot);
        }
        self.freed.borrow_mut()[slot] = Some((address, block));
        self.kept_back.borrow_mut().push_back(slot);
    }

    /// Makes the slot of a freed block that is to be inaccessible so, or accessible for a while.
    pub(super) fn set_closed(&self, ram: &Ram, address: usize, block: &Block, closed: bool) {
        let zone = self.zone(ram);
        let slot = ram.slot_of(zone, address).filter(|_| block.inaccessible);
        match (slot, closed) {
            (Some(slot), true) => ram.close_slot(zone, slot),
            (Some(slot), false) => ram.open_slots(zone, slot..slot + 1),
            (None, _) => {}
        }
    }

    /// Makes those slots ready whose blocks were freed first, unless too few were.
    fn open_kept_back(&self, ram: &Ram) {
        let mut slots: Vec<usize> = {
            let mut kept_back = self.kept_back.borrow_mut();
            let least = self.used.get() / AT_LEAST;
            let count = kept_back.len().saturating_sub(least).min(BATCH);
            kept_back.drain(..count).collect()
        };
        // In their order: those that follow each other are closed one after the other, and can be opened together.
        slots.sort_unstable();
        self.open(ram, &slots);
        self.ready.borrow_mut().extend(slots);
    }

    /// Makes slots of freed blocks accessible, as many at a time as follow each other.
    fn open(&self, ram: &Ram, slots: &[usize]) {
        let zone = self.zone(ram);
        let mut freed = self.freed.borrow_mut();
        let is_closed = |freed: &Option<Freed>| freed.is_some_and(|(_, block)| block.inaccessible);
        let closed: Vec<usize> = slots
            .iter()
            .copied()
            .filter(|s| is_closed(&freed[*s]))
            .collect();
        let joins = |a: usize, b: usize| b - a <= GAP + 1 && !freed[a + 1..b].iter().any(is_closed);
        for run in closed.chunk_by(|a, b| joins(*a, *b)) {
            ram.open_slots(zone, run[0]..run[run.len() - 1] + 1);
        }
        for slot in slots {
            if let Some((_, block)) = &mut freed[*slot] {
                block.inaccessible = false;
            }
        }
    }

    /// The first such block that was freed and not forgotten yet; None while that changes.
    pub(super) fn find_freed(&self, mut such: impl FnMut(&Freed) -> bool) -> Option<Freed> {
        let freed = self.freed.try_borrow().ok()?;
        freed.iter().flatten().find(|freed| such(freed)).copied()
    }

    /// All that were freed and not forgotten yet.
    pub(super) fn freed(&self) -> Vec<Freed> {
        self.freed.borrow().iter().flatten().copied().collect()
    }

    /// The block that was freed in the slot that an address lies in.
    pub(super) fn freed_at(&self, ram: &Ram, address: usize) -> Option<Freed> {
        let slot = ram.slot_of(self.zone(ram), address)?;
        *self.freed.try_borrow().ok()?.get(slot)?
    }
}
