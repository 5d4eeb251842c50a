//! The kernel pool: every block guarded, accounted for, and poisoned when freed.
//!
//! With full verification what drivers allocate is special pool, as far as there is room: a block has pages of its own and ends where they do, and
//! behind them is one that nobody may access. Who reads or writes there, or in a block that was freed, is caught in the act. With less, only blocks
//! that need pages of their own anyway are.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};

use super::arena::Protection;
use super::backing::SLOT_SIZES;
use super::block::{
    Block, FRESH_BYTE, GUARD, GUARD_BYTE, LARGEST_SMALL, POISON_BYTE, STEP, fill, small_total,
    tag_text,
};
use super::ram::{PAGE, Ram};
use super::special::{Freed, Slots};
use crate::verifier::{self, Leak, Origin, Verify, rules};
use crate::world::address_map::AddressMap;
use crate::world::context;
use crate::world::driver::DriverNumber;
use crate::world::machine::Machine;

/// The tag of memory that drivers allocate through Rust's allocator.
pub(crate) const HEAP_TAG: u32 = u32::from_le_bytes(*b"vroc");

/// Freed blocks are kept back, poisoned, until so many bytes have been freed after them.
const QUARANTINE: usize = 2 << 20;
/// In special pool without slots: at most so many blocks, each with an inaccessible page behind it. And at most one for so many pages of the
/// machine, or nothing would be left for others.
const GUARDS: u32 = 512;
const PAGES_FOR_A_GUARD: usize = 24;

/// What is asked of the pool.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    pub(crate) size: usize,
    /// At most a page.
    pub(crate) align: usize,
    pub(crate) tag: u32,
    pub(crate) zero: bool,
    pub(crate) paged: bool,
    /// Whom to charge; 0 for the kernel.
    pub(crate) owner: DriverNumber,
    /// On whose behalf.
    pub(crate) function: &'static str,
}

impl Request {
    /// Whether there can be other blocks in the same page. Not in paged pool, which is made inaccessible.
    fn shares_pages(&self) -> bool {
        !self.paged
            && self.size < PAGE
            && small_total(self.size) <= LARGEST_SMALL
            && self.align <= GUARD
    }
}

/// Figures about a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Allocations that drivers have made so far.
    pub driver_allocations: u64,
    /// Blocks that drivers hold.
    pub driver_blocks: usize,
    /// Bytes that drivers hold.
    pub driver_bytes: usize,
    /// The most bytes that drivers have held at a time.
    pub peak_bytes: usize,
    /// Bytes of the largest allocation that a driver made while it held a spin lock.
    pub largest_under_lock: usize,
    /// Allocations of drivers for which special pool had no room.
    pub unguarded: u64,
}

/// A machine's pool.
pub(crate) struct Pool {
    blocks: RefCell<AddressMap<Block>>,
    /// Free small blocks by total size / STEP; addresses are of the front guard.
    free: RefCell<[Vec<usize>; LARGEST_SMALL / STEP + 1]>,
    quarantine: RefCell<VecDeque<Freed>>,
    quarantined: Cell<usize>,
    /// Special pool is for all blocks of drivers.
    special: bool,
    /// That for blocks of a page or less, and of two.
    slots: [Slots; SLOT_SIZES],
    /// Guard pages behind others.
    guards: Cell<u32>,
    stats: Cell<PoolStats>,
}

/// Where a block was found room for.
struct Room {
    address: usize,
    pages: u32,
    front: usize,
    guarded: bool,
    slot: bool,
}

impl Pool {
    pub(crate) fn new(verify: Verify) -> Self {
        Pool {
            special: verify == Verify::Full,
            slots: std::array::from_fn(|index| Slots::new(index + 1)),
            guards: Cell::default(),
            blocks: RefCell::default(),
            free: RefCell::new([const { Vec::new() }; LARGEST_SMALL / STEP + 1]),
            quarantine: RefCell::default(),
            quarantined: Cell::default(),
            stats: Cell::default(),
        }
    }
}

impl Pool {
    /// Gives out a block; None if there is no memory.
    pub(crate) fn alloc(&self, ram: &Ram, request: &Request) -> Option<usize> {
        let _kernel = context::KernelMode::enter();
        let Room {
            address,
            pages,
            front,
            guarded,
            slot,
        } = match self.special_room(ram, request) {
            Some(room) => room,
            None => self.room(ram, request)?,
        };
        let block = Block {
            size: request.size,
            tag: request.tag,
            owner: request.owner,
            function: request.function,
            allocated: Origin::here(),
            freed: Origin::default(),
            paged: request.paged,
            pages,
            front,
            guarded,
            slot,
            inaccessible: false,
        };
        // SAFETY: the memory was free until now.
        unsafe {
            match request.zero {
                true if pages > 0 && !block.slot => ram.clear(address, request.size),
                true => fill(address, 0, request.size),
                false => fill(address, FRESH_BYTE, request.size),
            }
            if !block.slot {
                fill(address - front, GUARD_BYTE, front);
                fill(
                    address + request.size,
                    GUARD_BYTE,
                    block.extent() - request.size,
                );
            }
        }
        if request.paged {
            ram.set_paged(address, pages, true);
        }
        self.blocks.borrow_mut().insert(address, block);
        if request.owner != 0 {
            let mut stats = self.stats.get();
            stats.driver_allocations += 1;
            stats.driver_blocks += 1;
            stats.driver_bytes += request.size;
            stats.peak_bytes = stats.peak_bytes.max(stats.driver_bytes);
            stats.unguarded += u64::from(self.special && !guarded);
            if context::with_processor(|p| p.locks.len() > 0) {
                stats.largest_under_lock = stats.largest_under_lock.max(request.size);
            }
            self.stats.set(stats);
        }
        Some(address)
    }

    /// Room for a block.
    fn room(&self, ram: &Ram, request: &Request) -> Option<Room> {
        let (address, pages, front) = if request.shares_pages() {
            let total = small_total(request.size);
            (self.take_small(ram, total)? + GUARD, 0, GUARD)
        } else {
            let pages = u32::try_from((request.size + GUARD).div_ceil(PAGE)).ok()?;
            (self.take_pages(ram, pages)?, pages, 0)
        };
        Some(Room {
            address,
            pages,
            front,
            guarded: false,
            slot: false,
        })
    }

    /// Room in special pool, for whom that is meant and if there is some. Who asks for a page or more gets the beginning of a page, as on Windows.
    fn special_room(&self, ram: &Ram, request: &Request) -> Option<Room> {
        if request.owner == 0 || request.size == 0 {
            return None;
        }
        if !self.special && (request.shares_pages() || request.paged) {
            return None;
        }
        let pages = u32::try_from(request.size.div_ceil(PAGE)).ok()?;
        let front = match request.size {
            0..PAGE if !request.paged => {
                PAGE - request.size.next_multiple_of(request.align.max(GUARD))
            }
            _ => 0,
        };
        let slots = self.slots.get(pages as usize - 1);
        let in_slot = slots
            .filter(|_| !request.paged)
            .and_then(|slots| slots.take(ram));
        let start = match in_slot {
            Some(start) => start,
            None if self.special => self.take_guarded(ram, pages)?,
            None => return None,
        };
        Some(Room {
            address: start + front,
            pages,
            front,
            guarded: true,
            slot: in_slot.is_some(),
        })
    }

    /// Pages with an inaccessible one behind them.
    fn take_guarded(&self, ram: &Ram, pages: u32) -> Option<usize> {
        let most = (ram.size() / PAGE / PAGES_FOR_A_GUARD) as u32;
        if self.guards.get() >= GUARDS.min(most) {
            return None;
        }
        let all = pages.checked_add(1)?;
        let address = ram.alloc_pages(all)?;
        if !ram.close(address + pages as usize * PAGE, 1) {
            ram.free_pages(address, all);
            return None;
        }
        self.guards.set(self.guards.get() + 1);
        Some(address)
    }

    /// Undoes `take_guarded`.
    fn give_guarded(&self, ram: &Ram, address: usize, pages: u32) {
        self.guards.set(self.guards.get() - 1);
        ram.open(address + pages as usize * PAGE, 1);
        ram.free_pages(address, pages + 1);
    }

    fn take_pages(&self, ram: &Ram, pages: u32) -> Option<usize> {
        ram.alloc_pages(pages).or_else(|| {
            self.empty_quarantine(ram, 0);
            ram.alloc_pages(pages)
        })
    }

    fn take_small(&self, ram: &Ram, total: usize) -> Option<usize> {
        let class = total / STEP;
        if let Some(address) = self.free.borrow_mut()[class].pop() {
            return Some(address);
        }
        // As on Windows, a block smaller than a page does not cross a page boundary.
        let page = self.take_pages(ram, 1)?;
        let list = &mut self.free.borrow_mut()[class];
        list.extend((0..PAGE / total).rev().map(|i| page + i * total));
        list.pop()
    }

    /// Takes a block back. `tag` None frees whatever the tag. `by` is the function that frees.
    pub(crate) fn free(
        &self,
        machine: &Machine,
        address: usize,
        tag: Option<u32>,
        by: &'static str,
    ) -> bool {
        let _kernel = context::KernelMode::enter();
        let taken = self.blocks.borrow_mut().remove(&address);
        let Some(mut block) = taken else {
            self.accuse_bad_free(machine, address, by);
            return false;
        };
        if let Some(tag) = tag
            && tag != block.tag
        {
            verifier::violation(
                rules::POOL_TAG,
                format!(
                    "{by} frees {address:#x} with tag '{}'; {} allocated it with tag '{}'",
                    tag_text(tag),
                    block.function,
                    tag_text(block.tag)
                ),
            );
        }
        if block.paged {
            machine.ram.set_paged(address, block.pages, false);
        }
        block.freed = Origin::here();
        block.check_guards(address, by);
        super::check_not_in_use(machine, address, block.size, by);
        if machine.ram.dma_mapped_behind(address, block.size) {
            verifier::violation(
                rules::DMA_FREED_MAPPED,
                format!(
                    "{by} frees {} bytes at {address:#x} which are still mapped for DMA",
                    block.size
                ),
            );
        }
        if block.owner != 0 {
            let mut stats = self.stats.get();
            stats.driver_blocks -= 1;
            stats.driver_bytes -= block.size;
            self.stats.set(stats);
        }
        // SAFETY: the block is not in use any more.
        unsafe { fill(address, POISON_BYTE, block.size) };
        block.set_tombstones(address);
        // Not if it held objects of NDK: who uses one is to read what the layer put there, and be named.
        block.inaccessible = block.pages > 0
            && (!block.slot || crate::ndk::tombstones(address, block.size).is_empty());
        if block.slot {
            self.slots_of(&block)
                .keep_back(&machine.ram, address, block);
            return true;
        }
        // One that would be a mapping too many is only poisoned.
        block.inaccessible =
            block.inaccessible && machine.ram.close(address - block.front, block.pages);
        self.quarantine.borrow_mut().push_back((address, block));
        self.quarantined
            .set(self.quarantined.get() + block.weight());
        self.empty_quarantine(&machine.ram, QUARANTINE);
        true
    }

    fn accuse_bad_free(&self, machine: &Machine, address: usize, by: &'static str) {
        let freed = self
            .find_freed(|(a, _)| *a == address)
            .map(|(_, block)| block);
        match freed {
            Some(block) => verifier::violation(
                rules::POOL_DOUBLE_FREE,
                format!(
                    "{by} frees {address:#x} ({} bytes, tag '{}', allocated by {}) a second time{}",
                    block.size,
                    tag_text(block.tag),
                    block.function,
                    block.story()
                ),
            ),
            None => verifier::violation(
                rules::POOL_BAD_FREE,
                format!(
                    "{by} frees {address:#x}, which {} gave out",
                    match self.block_around(address) {
                        Some((start, _)) =>
                            format!("lies {} bytes into a block that", address - start),
                        None => format!("the pool of {} never", machine.name),
                    }
                ),
            ),
        }
    }

    /// The block that an address lies in, as reports name it.
    pub(crate) fn describe(&self, address: usize) -> Option<String> {
        let (start, _) = self.block_around(address)?;
        let block = self.blocks.borrow().get(&start).copied()?;
        Some(format!(
            "offset {} of a block of {} bytes (tag '{}'){}",
            address - start,
            block.size,
            tag_text(block.tag),
            block.allocated.told("allocated in")
        ))
    }

    /// The first such block that was freed and is kept back; None while what is kept back changes.
    fn find_freed(&self, mut such: impl FnMut(&Freed) -> bool) -> Option<Freed> {
        let quarantine = self.quarantine.try_borrow().ok()?;
        if let Some(freed) = quarantine.iter().find(|freed| such(freed)) {
            return Some(*freed);
        }
        self.slots
            .iter()
            .find_map(|slots| slots.find_freed(&mut such))
    }

    /// The slots of which a block has one.
    fn slots_of(&self, block: &Block) -> &Slots {
        &self.slots[block.pages as usize - 1]
    }

    /// Makes a freed block that is inaccessible accessible for a while, or inaccessible again.
    fn set_closed(&self, ram: &Ram, address: usize, block: &Block, closed: bool) {
        if block.slot {
            self.slots_of(block).set_closed(ram, address, block, closed);
        } else if block.inaccessible {
            let (start, pages) = (address - block.front, block.pages as usize);
            ram.protect(start, pages, Protection::unless(closed));
        }
    }

    fn block_around(&self, address: usize) -> Option<(usize, usize)> {
        self.blocks
            .borrow()
            .iter()
            .find(|(start, block)| address.wrapping_sub(**start) < block.size)
            .map(|(start, block)| (*start, block.size))
    }

    /// Whether memory from Rust's allocator is still held.
    pub(crate) fn holds_heap(&self) -> bool {
        self.blocks.borrow().values().any(|b| b.tag == HEAP_TAG)
    }

    /// The size of the block at an address.
    pub(crate) fn size_of(&self, address: usize) -> Option<usize> {
        self.blocks.borrow().get(&address).map(|b| b.size)
    }

    /// Whether the block at an address is paged.
    pub(crate) fn is_paged(&self, address: usize) -> bool {
        self.blocks.borrow().get(&address).is_some_and(|b| b.paged)
    }

    fn empty_quarantine(&self, ram: &Ram, keep: usize) {
        while self.quarantined.get() > keep {
            let Some((address, block)) = self.quarantine.borrow_mut().pop_front() else {
                break;
            };
            self.quarantined
                .set(self.quarantined.get() - block.weight());
            let base = address - block.front;
            if block.inaccessible {
                ram.open(base, block.pages);
            }
            block.check_freed(address, true);
            crate::ndk::forget(address, block.size);
            if block.guarded {
                self.give_guarded(ram, base, block.pages);
            } else if block.pages > 0 {
                ram.free_pages(base, block.pages);
            } else {
                self.free.borrow_mut()[small_total(block.size) / STEP].push(base);
            }
        }
    }

    /// Checks all guards and all poison now. What is found is repaired: it is reported once.
    pub(crate) fn check_all(&self, ram: &Ram) {
        let _kernel = context::KernelMode::enter();
        let mut blocks: Vec<_> = self.blocks.borrow().iter().map(|(a, b)| (*a, *b)).collect();
        blocks.sort_unstable_by_key(|(address, _)| *address);
        for (address, block) in blocks {
            block.check_guards(address, "a check of the pool");
        }
        // Reporting may allocate and free, if only for who reads the report.
        let freed: Vec<_> = {
            let quarantine = self.quarantine.borrow();
            let mut all: Vec<Freed> = quarantine.iter().copied().collect();
            for slots in &self.slots {
                all.extend(slots.freed());
            }
            all
        };
        for (address, block) in freed {
            // Whoever has a mapping of its own, as an MDL gives, could write it although nobody may access it. That is rare, and making it
            // accessible takes long.
            let seen = ram.is_seen_elsewhere(address - block.front, block.pages);
            if block.inaccessible && (!seen || block.is_untouched_elsewhere(ram, address)) {
                continue;
            }
            self.set_closed(ram, address, &block, false);
            block.check_freed(address, true);
            block.set_tombstones(address);
            self.set_closed(ram, address, &block, true);
        }
    }

    /// The freed block of pages around an address, as reports name it.
    pub(crate) fn freed_around(&self, ram: &Ram, address: usize) -> Option<String> {
        let _kernel = context::KernelMode::enter();
        let in_slot = self.slots.iter().find_map(|s| s.freed_at(ram, address));
        let (start, block) = match in_slot {
            Some(freed) => freed,
            None if !ram.is_freed(address) => return None,
            None => {
                let quarantine = self.quarantine.try_borrow().ok()?;
                let inside = |(start, block): &&Freed| {
                    let pages = block.pages as usize * PAGE;
                    address.wrapping_sub(start - block.front) < pages
                };
                *quarantine.iter().find(inside)?
            }
        };
        Some(format!(
            "{}, which was freed{}",
            block.place(start, address),
            block.story()
        ))
    }

    /// The block in special pool behind which an address lies, as reports name it.
    pub(crate) fn guarded_around(&self, address: usize) -> Option<String> {
        let _kernel = context::KernelMode::enter();
        let behind = |(start, block): &Freed| {
            block.guarded && address.wrapping_sub(start + block.extent()) < PAGE
        };
        let blocks = self.blocks.try_borrow().ok()?;
        let live = blocks
            .iter()
            .map(|(start, block)| (*start, *block))
            .find(behind);
        if let Some((start, block)) = live {
            return Some(format!("{}{}", block.place(start, address), block.story()));
        }
        let (start, block) = self.find_freed(behind)?;
        Some(format!(
            "{}, which was freed{}",
            block.place(start, address),
            block.story()
        ))
    }

    /// Lists what drivers hold: one of them, which is being unloaded, or all.
    pub(crate) fn leaks(
        &self,
        machine: &Machine,
        driver: Option<DriverNumber>,
        out: &mut Vec<Leak>,
    ) {
        let mut sums: BTreeMap<(DriverNumber, u32, &'static str, Origin), (usize, usize)> =
            BTreeMap::new();
        for block in self.blocks.borrow().values() {
            if block.owner == 0 || driver.is_some_and(|d| d != block.owner) {
                continue;
            }
            let sum = sums
                .entry((block.owner, block.tag, block.function, block.allocated))
                .or_default();
            sum.0 += 1;
            sum.1 += block.size;
        }
        for ((owner, tag, function, origin), (blocks, bytes)) in sums {
            out.push(Leak {
                machine: machine.name.clone(),
                driver: machine
                    .drivers
                    .get(owner)
                    .map_or_else(|| "driver code of the test".to_owned(), |d| d.name.clone()),
                tag: tag_text(tag),
                function,
                origin: origin.told("allocated in"),
                loaded: driver.is_none()
                    && machine.drivers.get(owner).is_some_and(|d| d.loaded.get()),
                blocks,
                bytes,
            });
        }
    }

    /// How many blocks anyone holds.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.blocks.borrow().len()
    }

    pub(crate) fn stats(&self) -> PoolStats {
        self.stats.get()
    }
}
