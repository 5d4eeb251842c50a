//! A machine's physical memory, and where its kernel sees it.
//!
//! The kernel sees it inside the machine's address window: a contiguous zone, from which common buffers come; the rest, from which the pool
//! comes; slots of special pool; and mappings of MDLs. Devices see it in one piece, in the order of physical addresses: the contiguous zone as it
//! is, all the rest in 64 KiB groups in an order that depends on the seed, so that memory contiguous for the processor is not for the device.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::ptr;
use std::rc::Rc;

use super::arena::{Protection, Window};
use super::backing::{Backing, GROUP, Layout, MAP_AT, MAP_LEN, POOL_AT, SHELF, SlotZone};
use super::ended::{Ended, EndedMappings};
use super::mappings::{CUT, Mappings};
use super::runs::Runs;
use crate::world::machine::Machine;
use crate::world::rng::Rng;

/// Bytes of a page.
pub const PAGE: usize = 4096;
const GROUP_PAGES: usize = GROUP / PAGE;

/// Physical memory of a machine begins here, plus [`PHYSICAL_STEP`] for each machine: above 4 GiB, and different for
/// each, so that a truncated or a mixed-up address is never by chance a good one.
const PHYSICAL_BASE: u64 = 0x1_4000_0000;
const PHYSICAL_STEP: u64 = 0x10_0000_0000;

/// Logical addresses, by which devices access memory, begin here, plus [`LOGICAL_STEP`] for each of so many machines. As behind an IOMMU that
/// remaps DMA they are nowhere physical ones: what a driver gives a device must be from the functions that map memory for it. They are above
/// 4 GiB for the same reason, and below 64 GiB, which most devices reach.
const LOGICAL_BASE: u64 = 0x8_0000_0000;
const LOGICAL_STEP: u64 = 1 << 30;
const LOGICAL_STEPS: u64 = 16;

/// Physical memory.
pub struct Ram {
    /// None once it has been released.
    backing: RefCell<Option<Backing>>,
    layout: Layout,
    physical: u64,
    logical: u64,
    window: Window,
    /// For each page of the contiguous zone, the pool and the slots, the frame behind it plus 1, or 0 if there is none yet; and flags.
    pages: Box<[Cell<u32>]>,
    /// The same for pages of mappings of MDLs.
    map_pages: RefCell<Vec<u32>>,
    contiguous: RefCell<Runs>,
    pool: RefCell<Runs>,
    /// Pages of the paged pool that are accessible.
    resident: RefCell<Vec<usize>>,
    /// For each group of memory as the kernel sees it, its group as devices do; and the other way round.
    order: Vec<u32>,
    behind: Vec<u32>,
    /// For each group as devices see it, whether they do.
    shown: Box<[Cell<bool>]>,
    /// For each group of memory as the kernel sees it, whether devices see it too, or an MDL has mapped a page of it.
    elsewhere: Box<[Cell<bool>]>,
    maps: RefCell<Runs>,
    /// For each frame, how many live DMA mappings let devices read (low half) and write (high half) it.
    dma: Box<[Cell<u32>]>,
    /// The live DMA mappings: logical address and length, and how many there are of that.
    dma_ranges: RefCell<HashMap<(u64, usize), u32>>,
    dma_ended: EndedMappings,
}

/// In `Ram::pages`: the page is of the paged pool.
const PAGED: u32 = 1 << 31;
/// In `Ram::pages`: the page has been given out and taken back: it may hold anything. Others are zero when they are given out.
const USED: u32 = 1 << 30;
/// In `Ram::pages`: nobody may access the page.
const FREED: u32 = 1 << 29;
const FLAGS: u32 = PAGED | USED | FREED;

const DMA_READ: u32 = 1;
const DMA_WRITE: u32 = 1 << 16;

/// Zeroed cells, allocated lazily by the system.
fn cells(count: usize) -> Box<[Cell<u32>]> {
    let zeros = vec![0u32; count].into_boxed_slice();
    // SAFETY: Cell<u32> has the layout of u32.
    unsafe { Box::from_raw(Box::into_raw(zeros) as *mut [Cell<u32>]) }
}

impl Ram {
    pub(crate) fn new(machine: u32, size: usize, rng: &Rng) -> Ram {
        assert!(
            size.is_multiple_of(1 << 20) && (1 << 20..=1 << 30).contains(&size),
            "a machine's memory is a multiple of 1 MiB, at most 1 GiB"
        );
        let window = Window::claim();
        let layout = Layout::new(size);
        let backing = SHELF.take(&window, layout);
        let (groups, contiguous) = (size / GROUP, layout.contiguous().len() / GROUP);
        let mut order: Vec<u32> = (0..groups as u32).collect();
        let pool = &mut order[contiguous..];
        for i in (1..pool.len()).rev() {
            pool.swap(i, rng.below(i as u64 + 1) as usize);
        }
        let mut behind = vec![0; groups];
        for (group, physical) in order.iter().enumerate() {
            behind[*physical as usize] = group as u32;
        }
        let pages = cells(size / PAGE);
        for (frame, page) in pages[..contiguous * GROUP_PAGES].iter().enumerate() {
            page.set(frame as u32 + 1);
        }
        Ram {
            layout,
            physical: PHYSICAL_BASE + u64::from(machine) * PHYSICAL_STEP,
            logical: LOGICAL_BASE + u64::from(machine) % LOGICAL_STEPS * LOGICAL_STEP,
            backing: RefCell::new(Some(backing)),
            window,
            pages,
            map_pages: RefCell::default(),
            contiguous: RefCell::new(Runs::new((contiguous * GROUP_PAGES) as u32)),
            pool: RefCell::new(Runs::new((layout.pool().len() / PAGE) as u32)),
            resident: RefCell::default(),
            order,
            behind,
            shown: (0..groups).map(|g| Cell::new(g < contiguous)).collect(),
            elsewhere: (0..groups).map(|g| Cell::new(g < contiguous)).collect(),
            maps: RefCell::new(Runs::new((MAP_LEN / PAGE) as u32)),
            dma: cells(size / PAGE),
            dma_ranges: RefCell::default(),
            dma_ended: EndedMappings::default(),
        }
    }

    pub(crate) fn publish(&self, machine: &Rc<Machine>) {
        self.window.publish(Rc::as_ptr(machine));
    }

    /// Leaves the kernel's view accessible when the machine is gone.
    pub(crate) fn keep(&self) {
        self.window.keep();
        if let Some(backing) = self.backing.borrow().as_ref() {
            backing.keep();
        }
    }

    /// Bytes of memory.
    pub fn size(&self) -> usize {
        self.layout.size()
    }

    /// Physical address of the first byte.
    pub fn physical_base(&self) -> u64 {
        self.physical
    }

    /// The devices' view of a piece of memory at a logical address; None if it is not all memory, or the machine is gone: then the memory
    /// may be another's.
    #[inline]
    pub fn device_ptr(&self, logical: u64, len: usize) -> Option<*mut u8> {
        let offset = usize::try_from(logical.checked_sub(self.logical)?).ok()?;
        let end = offset.checked_add(len)?;
        let first = offset / GROUP;
        let shown = self.shown.get(first..end.div_ceil(GROUP))?;
        let backing = self.backing.borrow();
        let backing = backing.as_ref()?;
        for (group, shown) in (first..).zip(shown) {
            if !shown.get() {
                self.show(backing, group);
            }
        }
        Some(backing.devices().wrapping_add(offset))
    }

    /// Whether an address is one by which devices access the memory.
    pub(super) fn is_seen_by_devices(&self, address: usize) -> bool {
        let backing = self.backing.try_borrow().ok();
        let devices = backing.and_then(|b| Some(b.as_ref()?.devices().addr()));
        devices.is_some_and(|start| address.wrapping_sub(start) < self.size())
    }

    /// Has devices see a group of memory.
    #[cold]
    fn show(&self, backing: &Backing, group: usize) {
        let behind = self.behind[group] as usize;
        backing.show(group, behind);
        self.shown[group].set(true);
        self.elsewhere[behind].set(true);
    }

    /// Whether memory of the pool or a slot could be written at other addresses than its own.
    pub(super) fn is_seen_elsewhere(&self, address: usize, pages: u32) -> bool {
        let first = self.page_of(address).unwrap_or(0);
        let groups = first / GROUP_PAGES..(first + pages as usize).div_ceil(GROUP_PAGES);
        self.elsewhere[groups].iter().any(Cell::get)
    }

    /// The index in `Ram::pages` of the page that a kernel address lies in, if it is of the contiguous zone, the pool or a slot.
    #[inline]
    fn page_of(&self, address: usize) -> Option<usize> {
        let at = self
            .layout
            .file_of(address.wrapping_sub(self.window.base()))?;
        Some(at / PAGE)
    }

    /// The frame (page of physical memory) behind a kernel address.
    #[inline]
    fn frame(&self, address: usize) -> Option<u32> {
        let entry = match self.page_of(address) {
            Some(page) => self.pages[page].get() & !FLAGS,
            None => {
                let at = address.checked_sub(self.window.base() + MAP_AT)?;
                *self.map_pages.borrow().get(at / PAGE)?
            }
        };
        entry.checked_sub(1)
    }

    /// The physical address behind a kernel address; None if no memory is mapped there.
    #[inline]
    pub fn physical(&self, address: usize) -> Option<u64> {
        let frame = self.frame(address)?;
        Some(self.physical + u64::from(frame) * PAGE as u64 + (address % PAGE) as u64)
    }

    /// The logical address of a physical one of this machine: the same each time, and neighbours remain neighbours, so that lists are as long as
    /// memory is scattered.
    #[inline]
    pub fn logical(&self, physical: u64) -> u64 {
        physical - self.physical + self.logical
    }

    /// The page frame number of a physical address, as MDLs carry it.
    pub(crate) fn pfn(physical: u64) -> u64 {
        physical / PAGE as u64
    }

    /// Whether all of a piece of the kernel's address space is memory.
    pub fn is_mapped(&self, address: usize, len: usize) -> bool {
        let Some(end) = address.checked_add(len.max(1) - 1) else {
            return false;
        };
        (address / PAGE..=end / PAGE).all(|page| self.frame(page * PAGE).is_some())
    }

    /// Physically contiguous pages: kernel address and logical address.
    pub(crate) fn alloc_contiguous(&self, pages: u32) -> Option<(usize, u64)> {
        let first = self.contiguous.borrow_mut().take(pages, 1)? as usize;
        Some((
            self.window.base() + first * PAGE,
            self.logical + (first * PAGE) as u64,
        ))
    }

    pub(crate) fn free_contiguous(&self, address: usize, pages: u32) {
        self.set_used(address, pages);
        let first = (address - self.window.base()) / PAGE;
        self.contiguous.borrow_mut().give(first as u32, pages);
    }

    /// The entries of pages of the contiguous zone or the pool.
    fn entries(&self, address: usize, pages: u32) -> &[Cell<u32>] {
        let first = self.page_of(address).unwrap_or(self.pages.len());
        &self.pages[first..][..pages as usize]
    }

    /// Notes that pages were given out, and may hold anything.
    fn set_used(&self, address: usize, pages: u32) {
        for entry in self.entries(address, pages) {
            entry.set(entry.get() | USED);
        }
    }

    /// Zeroes memory that has just been given out. Pages that were never given out before are left alone, and cost nothing until somebody
    /// accesses them.
    pub(crate) fn clear(&self, address: usize, len: usize) {
        let end = address + len;
        let mut at = address;
        while at < end {
            let part = (PAGE - at % PAGE).min(end - at);
            let is_used = |page: usize| self.pages[page].get() & USED != 0;
            if self.page_of(at).is_some_and(is_used) {
                // SAFETY: memory of the machine, which its new owner does not know of yet.
                unsafe { ptr::write_bytes(at as *mut u8, 0, part) };
            }
            at += part;
        }
    }

    /// Pages contiguous for the kernel, not for devices: their kernel address.
    pub(crate) fn alloc_pages(&self, pages: u32) -> Option<usize> {
        let first = self.pool.borrow_mut().take(pages, 1)?;
        Some(self.map_pages(first, pages))
    }

    /// As `alloc_pages`, for a driver's image: from the other end, so that others get what they would without it.
    pub(crate) fn alloc_image(&self, pages: u32) -> Option<usize> {
        let first = self.pool.borrow_mut().take_last(pages)?;
        Some(self.map_pages(first, pages))
    }

    fn map_pages(&self, first: u32, pages: u32) -> usize {
        let (first, pages) = (first as usize, pages as usize);
        self.reach(first / GROUP_PAGES..(first + pages).div_ceil(GROUP_PAGES));
        self.window.base() + POOL_AT + first * PAGE
    }

    pub(crate) fn free_pages(&self, address: usize, pages: u32) {
        self.set_used(address, pages);
        let first = (address - self.window.base() - POOL_AT) / PAGE;
        self.pool.borrow_mut().give(first as u32, pages);
    }

    /// Sets how pages of `alloc_pages` and `alloc_image` may be accessed. They have to be [`Protection::ReadWrite`] again when they are freed.
    pub(crate) fn protect(&self, address: usize, pages: usize, protection: Protection) {
        let at = address - self.window.base();
        self.window.protect(at, pages * PAGE, protection);
    }

    /// Makes pages part of the paged pool, or no longer.
    pub(crate) fn set_paged(&self, address: usize, pages: u32, paged: bool) {
        self.forget_resident(address..address + pages as usize * PAGE);
        for page in self.entries(address, pages) {
            let entry = page.get() & !PAGED;
            page.set(if paged { entry | PAGED } else { entry });
        }
        self.with_mappings(|m| if paged { m.take(CUT) } else { m.give(CUT) });
        self.protect(address, pages as usize, Protection::unless(paged));
    }

    fn forget_resident(&self, block: Range<usize>) {
        let mut resident = self.resident.borrow_mut();
        let before = resident.len();
        resident.retain(|page| !block.contains(page));
        let fewer = before - resident.len();
        self.with_mappings(|m| m.give(CUT * fewer));
    }

    /// Makes pages of the pool or the contiguous zone inaccessible that nobody may access; false if there may be no mapping for that.
    pub(crate) fn close(&self, address: usize, pages: u32) -> bool {
        let may = self.with_mappings(|m| m.may_be_more().then(|| m.take(CUT)));
        if may.is_none() {
            return false;
        }
        for page in self.entries(address, pages) {
            page.set(page.get() | FREED);
        }
        self.protect(address, pages as usize, Protection::Inaccessible);
        true
    }

    /// Undoes `close`.
    pub(crate) fn open(&self, address: usize, pages: u32) {
        for page in self.entries(address, pages) {
            page.set(page.get() & !FREED);
        }
        self.protect(address, pages as usize, Protection::ReadWrite);
        self.with_mappings(|m| m.give(CUT));
    }

    fn with_mappings<R: Default>(&self, f: impl FnOnce(&Mappings) -> R) -> R {
        let backing = self.backing.borrow();
        backing
            .as_ref()
            .map(|b| f(b.mappings()))
            .unwrap_or_default()
    }

    /// Whether an address lies in pages that `close` made inaccessible.
    pub(super) fn is_freed(&self, address: usize) -> bool {
        self.page_of(address)
            .is_some_and(|page| self.pages[page].get() & FREED != 0)
    }

    /// Whether an address lies in paged pool.
    #[inline]
    pub(crate) fn is_paged(&self, address: usize) -> bool {
        self.page_of(address)
            .is_some_and(|page| self.pages[page].get() & PAGED != 0)
    }

    /// Makes a page of the paged pool accessible.
    pub(super) fn page_in(&self, address: usize) {
        let page = address & !(PAGE - 1);
        self.resident.borrow_mut().push(page);
        self.with_mappings(|m| m.take(CUT));
        self.protect(page, 1, Protection::ReadWrite);
    }

    /// Makes all paged pool inaccessible.
    pub(super) fn page_out(&self) {
        for page in self.resident.take() {
            self.protect(page, 1, Protection::Inaccessible);
            self.with_mappings(|m| m.give(CUT));
        }
    }

    /// Makes groups of the pool accessible that never were.
    fn reach(&self, groups: Range<usize>) {
        let contiguous = self.layout.contiguous().len() / GROUP;
        let is_new = |group: &usize| self.pages[(contiguous + group) * GROUP_PAGES].get() == 0;
        let mut groups = groups.peekable();
        while let Some(first) = groups.find(is_new) {
            let mut end = first + 1;
            while groups.next_if(is_new).is_some() {
                end += 1;
            }
            self.window.protect(
                POOL_AT + first * GROUP,
                (end - first) * GROUP,
                Protection::ReadWrite,
            );
            for page in (contiguous + first) * GROUP_PAGES..(contiguous + end) * GROUP_PAGES {
                self.set_frame(page);
            }
        }
    }

    /// Notes the frame behind a page, by its index in `Ram::pages`.
    fn set_frame(&self, page: usize) {
        let frame = self.order[page / GROUP_PAGES] as usize * GROUP_PAGES + page % GROUP_PAGES;
        self.pages[page].set(frame as u32 + 1);
    }

    /// The slots of special pool that have so many pages.
    pub(super) fn slots(&self, pages: usize) -> SlotZone {
        self.layout.slots[pages - 1]
    }

    /// The address of a slot of special pool.
    pub(super) fn slot(&self, zone: SlotZone, number: usize) -> usize {
        self.window.base() + zone.at(number)
    }

    /// Which slot a kernel address lies in.
    pub(super) fn slot_of(&self, zone: SlotZone, address: usize) -> Option<usize> {
        zone.slot_at(address.wrapping_sub(self.window.base()))
    }

    /// Of those from `first` on, that were never accessible, up to which slots are made so best: to `most` of them, if they are mapped from a machine
    /// before; or none, if there may be no more.
    pub(super) fn slots_at_hand(&self, zone: SlotZone, first: usize, most: usize) -> usize {
        let backing = self.backing.borrow();
        let backing = backing.as_ref();
        backing.map_or(first, |b| b.slots_at_hand(zone, first, most))
    }

    /// Makes slots accessible.
    pub(super) fn open_slots(&self, zone: SlotZone, slots: Range<usize>) {
        if let Some(backing) = self.backing.borrow().as_ref() {
            backing.open_slots(&self.window, zone, slots.clone());
        }
        for page in zone.file_at(slots.start) / PAGE..zone.file_at(slots.end) / PAGE {
            self.set_frame(page);
        }
    }

    /// Makes a slot inaccessible.
    pub(super) fn close_slot(&self, zone: SlotZone, number: usize) {
        self.window
            .protect(zone.at(number), zone.size(), Protection::Inaccessible);
    }

    /// Maps frames, given by page frame number, at a new kernel address. None if one is not memory or there is no
    /// room.
    pub(crate) fn map_frames(&self, pfns: &[u64]) -> Option<usize> {
        let base_pfn = Self::pfn(self.physical);
        // Where it is in the file.
        let page = |pfn: u64| {
            let frame = usize::try_from(pfn.checked_sub(base_pfn)?).ok()?;
            let group = *self.behind.get(frame / GROUP_PAGES)? as usize;
            Some(group * GROUP_PAGES + frame % GROUP_PAGES)
        };
        let backing = self.backing.borrow();
        let fd = backing.as_ref()?.fd();
        if !pfns.iter().all(|pfn| page(*pfn).is_some()) {
            return None;
        }
        // One page more, left inaccessible: a guard.
        let first = self.maps.borrow_mut().take(pfns.len() as u32 + 1, 1)? as usize;
        backing.as_ref()?.mappings().take(pfns.len() + 1);
        let at = MAP_AT + first * PAGE;
        let mut done = 0;
        while done < pfns.len() {
            let start = page(pfns[done])?;
            let mut len = 1;
            while done + len < pfns.len() && page(pfns[done + len]) == Some(start + len) {
                len += 1;
            }
            self.window
                .map(at + done * PAGE, len * PAGE, fd, start * PAGE);
            for group in start / GROUP_PAGES..(start + len).div_ceil(GROUP_PAGES) {
                self.elsewhere[group].set(true);
            }
            done += len;
        }
        let mut entries = self.map_pages.borrow_mut();
        if entries.len() < first + pfns.len() {
            entries.resize(first + pfns.len(), 0);
        }
        for (entry, pfn) in entries[first..].iter_mut().zip(pfns) {
            *entry = (pfn - base_pfn) as u32 + 1;
        }
        Some(self.window.base() + at)
    }

    /// Undoes `map_frames`. False if the address is no mapping's.
    pub(crate) fn unmap_frames(&self, address: usize, pages: usize) -> bool {
        let at = address.wrapping_sub(self.window.base());
        if !(MAP_AT..MAP_AT + MAP_LEN).contains(&at)
            || !at.is_multiple_of(PAGE)
            || !self.is_mapped(address, pages * PAGE)
        {
            return false;
        }
        self.window.unmap(at, pages * PAGE);
        self.with_mappings(|m| m.give(pages + 1));
        let first = (at - MAP_AT) / PAGE;
        self.map_pages.borrow_mut()[first..][..pages].fill(0);
        self.maps.borrow_mut().give(first as u32, pages as u32 + 1);
        true
    }

    fn dma_cells(&self, logical: u64, len: usize) -> Option<&[Cell<u32>]> {
        let offset = usize::try_from(logical.checked_sub(self.logical)?).ok()?;
        let end = offset.checked_add(len)?;
        if len == 0 || end > self.layout.size() {
            return None;
        }
        self.dma.get(offset / PAGE..end.div_ceil(PAGE))
    }

    /// Lets devices read, or read and write, the frames under a piece of memory at a logical address.
    pub(crate) fn dma_map(&self, logical: u64, len: usize, device_writes: bool) {
        let unit = if device_writes {
            DMA_READ + DMA_WRITE
        } else {
            DMA_READ
        };
        for cell in self.dma_cells(logical, len).into_iter().flatten() {
            cell.set(cell.get() + unit);
        }
        *self
            .dma_ranges
            .borrow_mut()
            .entry((logical, len))
            .or_default() += 1;
    }

    /// Undoes `dma_map`, for the function `by`.
    pub(crate) fn dma_unmap(
        &self,
        logical: u64,
        len: usize,
        device_writes: bool,
        by: &'static str,
    ) {
        self.dma_ended.note(logical, len, device_writes, by);
        let unit = if device_writes {
            DMA_READ + DMA_WRITE
        } else {
            DMA_READ
        };
        for cell in self.dma_cells(logical, len).into_iter().flatten() {
            cell.set(cell.get() - unit);
        }
        let mut ranges = self.dma_ranges.borrow_mut();
        if let Entry::Occupied(mut range) = ranges.entry((logical, len)) {
            *range.get_mut() -= 1;
            if *range.get() == 0 {
                range.remove();
            }
        }
    }

    /// Whether a device may read (or write) a piece of memory: it lies in live DMA mappings or common buffers.
    #[inline]
    pub fn dma_allowed(&self, logical: u64, len: usize, device_writes: bool) -> bool {
        let mask: u32 = if device_writes { 0xffff_0000 } else { 0xffff };
        match self.dma_cells(logical, len) {
            Some(cells) => cells.iter().all(|cell| cell.get() & mask != 0),
            None => len == 0,
        }
    }

    /// Whether an address that a device is told is a physical one: of this machine's memory.
    pub(crate) fn is_physical(&self, address: u64) -> bool {
        address.wrapping_sub(self.physical) < self.layout.size() as u64
    }

    /// The mapping that last allowed a device an access to any of these bytes, if that has ended not long ago.
    pub(crate) fn dma_ended(&self, logical: u64, len: usize, device_writes: bool) -> Option<Ended> {
        self.dma_ended.find(logical, len, device_writes)
    }

    /// Whether any byte of a piece of kernel memory is mapped for devices.
    pub(crate) fn dma_mapped_behind(&self, address: usize, len: usize) -> bool {
        let end = address + len;
        let mut at = address;
        while at < end {
            let part = (PAGE - at % PAGE).min(end - at);
            // The counts of whole frames are quick, and mostly zero.
            let mapped = self
                .frame(at)
                .is_some_and(|f| self.dma[f as usize].get() != 0);
            let logical = || self.physical(at).map(|at| self.logical(at));
            if mapped && logical().is_some_and(|at| self.dma_over(at, part)) {
                return true;
            }
            at += part;
        }
        false
    }

    /// Whether a live DMA mapping lies over a piece of memory.
    fn dma_over(&self, logical: u64, len: usize) -> bool {
        self.dma_ranges
            .borrow()
            .keys()
            .any(|(start, count)| *start < logical + len as u64 && logical < start + *count as u64)
    }
}

impl Ram {
    /// Gives the memory back. It must not be used any more.
    pub(crate) fn release(&self) {
        let backing = self.backing.take();
        self.window.release(|| {
            if let Some(backing) = backing {
                SHELF.give(backing, &self.window);
            }
        });
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_do_not_see_the_memory_of_a_machine_that_is_gone() {
        let ram = Ram::new(0, 1 << 20, &Rng::new(1));
        let places = [0, ram.size() as u64 - 64].map(|at| ram.logical(ram.physical_base() + at));
        assert!(places.iter().all(|at| ram.device_ptr(*at, 64).is_some()));
        ram.release();
        assert!(places.iter().all(|at| ram.device_ptr(*at, 64).is_none()));
    }
}
