//! Special pool: slots, each of which is a page or two with one behind that nobody may access.
//!
//! A block smaller than a page gets a slot for itself, and ends where that does. When the block is freed nobody may access the slot until others
//! need it, as late as there are others: then slots of those freed first are made accessible again, many at a time, because each call of the system
//! takes long.

use std::cell::{Cell, Ref, RefCell};
use std::collections::VecDeque;

use super::backing::SlotZone;
use super::block::{Block, GUARD_BYTE, fill};
use super::ram::Ram;

/// So many slots are made accessible at a time.
const BATCH: usize = 64;
/// Of so many slots one at least is kept back when its block was freed.
const KEPT_BACK: usize = 16;
/// Slots that are accessible anyway, between others: to pass over so many is quicker than another call.
const GAP: usize = 4;

/// A block that was freed, and where it is.
pub(super) type Freed = (usize, Block);

/// A machine's slots of one size.
pub(super) struct Slots {
    /// Pages of a slot.
    pages: usize,
    /// Those that anyone may have, in the order in which they are given out. They hold guard bytes, so that only the block needs to be filled.
    free: RefCell<VecDeque<usize>>,
    /// So many have been accessible yet: the first ones.
    opened: Cell<usize>,
    /// Blocks that were freed and whose slots are kept back, oldest first.
    freed: RefCell<VecDeque<Freed>>,
    /// Whether nobody may access the slot, of each that was accessible once.
    closed: RefCell<Vec<bool>>,
}

impl Slots {
    pub(super) fn new(pages: usize) -> Slots {
        Slots {
            pages,
            free: RefCell::default(),
            opened: Cell::default(),
            freed: RefCell::default(),
            closed: RefCell::default(),
        }
    }

    fn zone(&self, ram: &Ram) -> SlotZone {
        ram.slots(self.pages)
    }

    /// The address of a slot; None if there is none left.
    pub(super) fn take(&self, ram: &Ram) -> Option<usize> {
        if self.free.borrow().is_empty() && !self.open_new(ram) {
            self.retire(ram);
        }
        let slot = self.free.borrow_mut().pop_front()?;
        Some(ram.slot(self.zone(ram), slot))
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
        self.free.borrow_mut().extend(opened..end);
        self.closed.borrow_mut().resize(end, false);
        true
    }

    /// Keeps the slot of a freed block back. If it is to be inaccessible, it becomes so.
    pub(super) fn keep_back(&self, ram: &Ram, address: usize, block: Block) {
        self.set_closed(ram, address, &block, true);
        self.freed.borrow_mut().push_back((address, block));
    }

    /// Makes the slot of a freed block that is to be inaccessible so, or accessible.
    pub(super) fn set_closed(&self, ram: &Ram, address: usize, block: &Block, closed: bool) {
        if !block.inaccessible {
            return;
        }
        let zone = self.zone(ram);
        let slot = ram.slot_number(zone, address);
        self.closed.borrow_mut()[slot] = closed;
        match closed {
            true => ram.close_slot(zone, slot),
            false => ram.open_slots(zone, slot..slot + 1),
        }
    }

    /// Gives back the slots of the blocks that were freed first, unless too few were.
    fn retire(&self, ram: &Ram) {
        let batch: Vec<Freed> = {
            let mut freed = self.freed.borrow_mut();
            let kept = self.opened.get() / KEPT_BACK;
            let count = freed.len().saturating_sub(kept).min(BATCH);
            freed.drain(..count).collect()
        };
        self.open(ram, &batch);
        let zone = self.zone(ram);
        let mut slots: Vec<usize> = Vec::with_capacity(batch.len());
        for (address, block) in &batch {
            block.check_poison(*address);
            crate::ndk::forget(*address, block.size);
            let slot = ram.slot_number(zone, *address);
            // Around a block that was inaccessible nobody has written since the guards were checked.
            let (at, len) = match block.inaccessible {
                true => (*address, block.size),
                false => (ram.slot(zone, slot), zone.size()),
            };
            // SAFETY: a slot that is nobody's now.
            unsafe { fill(at, GUARD_BYTE, len) };
            slots.push(slot);
        }
        // In their order: those that follow each other are closed one after the other, and can be opened together.
        slots.sort_unstable();
        self.free.borrow_mut().extend(slots);
    }

    /// Makes the slots of freed blocks accessible, as many at a time as follow each other.
    fn open(&self, ram: &Ram, batch: &[Freed]) {
        let zone = self.zone(ram);
        let mut closed = self.closed.borrow_mut();
        let inaccessible = batch.iter().filter(|(_, block)| block.inaccessible);
        let mut slots: Vec<usize> = inaccessible
            .map(|(at, _)| ram.slot_number(zone, *at))
            .collect();
        slots.sort_unstable();
        for slot in &slots {
            closed[*slot] = false;
        }
        let joins = |a: usize, b: usize| b - a <= GAP + 1 && !closed[a..b].contains(&true);
        for run in slots.chunk_by(|a, b| joins(*a, *b)) {
            ram.open_slots(zone, run[0]..run[run.len() - 1] + 1);
        }
    }

    /// The blocks whose slots are kept back, oldest first; None while that changes.
    pub(super) fn kept_back(&self) -> Option<Ref<'_, VecDeque<Freed>>> {
        self.freed.try_borrow().ok()
    }
}
