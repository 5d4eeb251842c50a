//! A machine's physical memory, and where its kernel sees it.
//!
//! The memory is one memfd. Devices see it in one piece, in the order of physical addresses. The kernel sees it
//! inside the machine's address window: a contiguous zone in the same order, from which common buffers come; the
//! rest, from which the pool comes, in 64 KiB groups in an order that depends on the seed, so that memory contiguous
//! for the processor is not for the device; and mappings of MDLs.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr;
use std::rc::Rc;

use super::arena::{Protection, WINDOW, Window};
use super::ended::{Ended, EndedMappings};
use super::runs::Runs;
use crate::world::machine::Machine;
use crate::world::rng::Rng;

/// Bytes of a page.
pub const PAGE: usize = 4096;
/// Bytes that stay together in the pool's view.
const GROUP: usize = 64 << 10;
const GROUP_PAGES: u32 = (GROUP / PAGE) as u32;
/// Where the pool's view begins in the window.
const POOL_AT: usize = 1 << 30;
/// Where mappings of MDLs begin in the window.
const MAP_AT: usize = 2 << 30;
/// Room for mappings of MDLs.
const MAP_LEN: usize = 1 << 30;

/// Physical memory of a machine begins here, plus [`PHYSICAL_STEP`] for each machine: above 4 GiB, and different for
/// each, so that a truncated or a mixed-up address is never by chance a good one.
const PHYSICAL_BASE: u64 = 0x1_4000_0000;
const PHYSICAL_STEP: u64 = 0x10_0000_0000;

/// Physical memory.
pub struct Ram {
    /// Closed by `release`.
    file: ManuallyDrop<File>,
    released: Cell<bool>,
    size: usize,
    physical: u64,
    linear: *mut u8,
    window: Window,
    /// For each page of the window, the frame mapped there plus 1, or 0; and perhaps PAGED.
    frames: Box<[Cell<u32>]>,
    /// Blocks of paged pool: address and pages.
    paged: RefCell<Vec<(usize, u32)>>,
    contiguous: RefCell<Runs>,
    pool: RefCell<Runs>,
    /// For each group of the pool's view, its group of physical memory.
    order: Vec<u32>,
    group_mapped: Vec<Cell<bool>>,
    maps: RefCell<Runs>,
    /// For each frame, how many live DMA mappings let devices read (low half) and write (high half) it.
    dma: Box<[Cell<u32>]>,
    /// The live DMA mappings: physical address and length, and how many there are of that.
    dma_ranges: RefCell<HashMap<(u64, usize), u32>>,
    dma_ended: EndedMappings,
}

/// In `Ram::frames`: the page is of the paged pool.
const PAGED: u32 = 1 << 31;

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
        // SAFETY: a C string constant; no other conditions.
        let fd = unsafe { libc::memfd_create(c"ntsim-ram".as_ptr(), libc::MFD_CLOEXEC) };
        assert!(
            fd >= 0,
            "memory for a machine: {}",
            std::io::Error::last_os_error()
        );
        // SAFETY: just opened, owned by nobody else.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(size as u64).expect("memory for a machine");
        // SAFETY: a new mapping at an address of the system's choice.
        let linear = unsafe {
            libc::mmap(
                ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd,
                0,
            )
        };
        assert!(
            linear != libc::MAP_FAILED,
            "mapping a machine's memory: {}",
            std::io::Error::last_os_error()
        );
        let contiguous_bytes = (size / 4).next_multiple_of(GROUP);
        let groups = (size - contiguous_bytes) / GROUP;
        let mut order: Vec<u32> = (0..groups as u32)
            .map(|g| g + (contiguous_bytes / GROUP) as u32)
            .collect();
        for i in (1..order.len()).rev() {
            order.swap(i, rng.below(i as u64 + 1) as usize);
        }
        let window = Window::claim();
        window.map(0, contiguous_bytes, fd, 0);
        let frames = cells(WINDOW / PAGE);
        for page in 0..contiguous_bytes / PAGE {
            frames[page].set(page as u32 + 1);
        }
        Ram {
            size,
            physical: PHYSICAL_BASE + u64::from(machine) * PHYSICAL_STEP,
            linear: linear.cast(),
            window,
            frames,
            contiguous: RefCell::new(Runs::new((contiguous_bytes / PAGE) as u32)),
            pool: RefCell::new(Runs::new(groups as u32 * GROUP_PAGES)),
            group_mapped: vec![Cell::new(false); groups],
            order,
            paged: RefCell::default(),
            maps: RefCell::new(Runs::new((MAP_LEN / PAGE) as u32)),
            dma: cells(size / PAGE),
            dma_ranges: RefCell::default(),
            dma_ended: EndedMappings::default(),
            file: ManuallyDrop::new(file),
            released: Cell::new(false),
        }
    }

    pub(crate) fn publish(&self, machine: &Rc<Machine>) {
        self.window.publish(Rc::as_ptr(machine));
    }

    /// Leaves the kernel's view accessible when the machine is gone.
    pub(crate) fn keep(&self) {
        self.window.keep();
    }

    /// Bytes of memory.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Physical address of the first byte.
    pub fn physical_base(&self) -> u64 {
        self.physical
    }

    /// The memory itself; its offset 0 is [`Ram::physical_base`].
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The devices' view: all of the memory in physical order, in this process.
    pub fn linear(&self) -> *mut u8 {
        self.linear
    }

    /// The devices' view of a piece of memory; None if it is not all memory.
    #[inline]
    pub fn device_ptr(&self, physical: u64, len: usize) -> Option<*mut u8> {
        let offset = usize::try_from(physical.checked_sub(self.physical)?).ok()?;
        if offset.checked_add(len)? > self.size {
            return None;
        }
        Some(self.linear.wrapping_add(offset))
    }

    fn page_of(&self, address: usize) -> Option<usize> {
        let offset = address.wrapping_sub(self.window.base());
        (offset < WINDOW).then_some(offset / PAGE)
    }

    /// The frame (page of physical memory) behind a kernel address.
    #[inline]
    fn frame(&self, address: usize) -> Option<u32> {
        let entry = self.frames[self.page_of(address)?].get();
        (entry & !PAGED).checked_sub(1)
    }

    /// The physical address behind a kernel address; None if no memory is mapped there.
    #[inline]
    pub fn physical(&self, address: usize) -> Option<u64> {
        let frame = self.frame(address)?;
        Some(self.physical + u64::from(frame) * PAGE as u64 + (address % PAGE) as u64)
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

    /// Physically contiguous pages: kernel address and physical address.
    pub(crate) fn alloc_contiguous(&self, pages: u32) -> Option<(usize, u64)> {
        let first = self.contiguous.borrow_mut().take(pages, 1)? as usize;
        Some((
            self.window.base() + first * PAGE,
            self.physical + (first * PAGE) as u64,
        ))
    }

    pub(crate) fn free_contiguous(&self, address: usize, pages: u32) {
        let first = (address - self.window.base()) / PAGE;
        self.contiguous.borrow_mut().give(first as u32, pages);
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
        for group in first / GROUP_PAGES..=(first + pages - 1) / GROUP_PAGES {
            self.map_group(group as usize);
        }
        self.window.base() + POOL_AT + first as usize * PAGE
    }

    pub(crate) fn free_pages(&self, address: usize, pages: u32) {
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
        let mut blocks = self.paged.borrow_mut();
        if paged {
            blocks.push((address, pages));
        } else {
            blocks.retain(|(at, _)| *at != address);
        }
        let at = address - self.window.base();
        for frame in &self.frames[at / PAGE..][..pages as usize] {
            let entry = frame.get() & !PAGED;
            frame.set(if paged { entry | PAGED } else { entry });
        }
        self.window
            .protect(at, pages as usize * PAGE, Protection::unless(paged));
    }

    /// Makes pages of the pool that nobody may access inaccessible, or accessible again.
    pub(crate) fn set_freed(&self, address: usize, pages: u32, freed: bool) {
        let at = address - self.window.base();
        self.window
            .protect(at, pages as usize * PAGE, Protection::unless(freed));
    }

    /// Whether an address lies in paged pool.
    #[inline]
    pub(crate) fn is_paged(&self, address: usize) -> bool {
        self.page_of(address)
            .is_some_and(|page| self.frames[page].get() & PAGED != 0)
    }

    /// Makes a page of the paged pool accessible.
    pub(super) fn page_in(&self, address: usize) {
        let at = (address - self.window.base()) & !(PAGE - 1);
        self.window.protect(at, PAGE, Protection::ReadWrite);
    }

    /// Makes all paged pool inaccessible.
    pub(super) fn page_out(&self) {
        for (address, pages) in self.paged.borrow().iter() {
            let at = address - self.window.base();
            self.window
                .protect(at, *pages as usize * PAGE, Protection::Inaccessible);
        }
    }

    fn map_group(&self, group: usize) {
        if self.group_mapped[group].replace(true) {
            return;
        }
        let physical = self.order[group] as usize;
        self.window.map(
            POOL_AT + group * GROUP,
            GROUP,
            self.file.as_raw_fd(),
            physical * GROUP,
        );
        for page in 0..GROUP / PAGE {
            let frame = physical * (GROUP / PAGE) + page;
            self.frames[(POOL_AT + group * GROUP) / PAGE + page].set(frame as u32 + 1);
        }
    }

    /// Maps frames, given by page frame number, at a new kernel address. None if one is not memory or there is no
    /// room.
    pub(crate) fn map_frames(&self, pfns: &[u64]) -> Option<usize> {
        let base_pfn = Self::pfn(self.physical);
        let frame = |pfn: u64| {
            let frame = pfn.checked_sub(base_pfn)?;
            (frame < (self.size / PAGE) as u64).then_some(frame as usize)
        };
        if !pfns.iter().all(|pfn| frame(*pfn).is_some()) {
            return None;
        }
        // One page more, left inaccessible: a guard.
        let first = self.maps.borrow_mut().take(pfns.len() as u32 + 1, 1)? as usize;
        let at = MAP_AT + first * PAGE;
        let mut done = 0;
        while done < pfns.len() {
            let start = frame(pfns[done])?;
            let mut len = 1;
            while done + len < pfns.len() && frame(pfns[done + len]) == Some(start + len) {
                len += 1;
            }
            self.window.map(
                at + done * PAGE,
                len * PAGE,
                self.file.as_raw_fd(),
                start * PAGE,
            );
            for page in 0..len {
                self.frames[at / PAGE + done + page].set((start + page) as u32 + 1);
            }
            done += len;
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
        for page in 0..pages {
            self.frames[at / PAGE + page].set(0);
        }
        let first = (at - MAP_AT) / PAGE;
        self.maps.borrow_mut().give(first as u32, pages as u32 + 1);
        true
    }

    fn dma_cells(&self, physical: u64, len: usize) -> Option<&[Cell<u32>]> {
        let offset = usize::try_from(physical.checked_sub(self.physical)?).ok()?;
        let end = offset.checked_add(len)?;
        if len == 0 || end > self.size {
            return None;
        }
        self.dma.get(offset / PAGE..end.div_ceil(PAGE))
    }

    /// Lets devices read, or read and write, the frames under a piece of physical memory.
    pub(crate) fn dma_map(&self, physical: u64, len: usize, device_writes: bool) {
        let unit = if device_writes {
            DMA_READ + DMA_WRITE
        } else {
            DMA_READ
        };
        for cell in self.dma_cells(physical, len).into_iter().flatten() {
            cell.set(cell.get() + unit);
        }
        *self
            .dma_ranges
            .borrow_mut()
            .entry((physical, len))
            .or_default() += 1;
    }

    /// Undoes `dma_map`, for the function `by`.
    pub(crate) fn dma_unmap(
        &self,
        physical: u64,
        len: usize,
        device_writes: bool,
        by: &'static str,
    ) {
        self.dma_ended.note(physical, len, device_writes, by);
        let unit = if device_writes {
            DMA_READ + DMA_WRITE
        } else {
            DMA_READ
        };
        for cell in self.dma_cells(physical, len).into_iter().flatten() {
            cell.set(cell.get() - unit);
        }
        let mut ranges = self.dma_ranges.borrow_mut();
        if let Entry::Occupied(mut range) = ranges.entry((physical, len)) {
            *range.get_mut() -= 1;
            if *range.get() == 0 {
                range.remove();
            }
        }
    }

    /// Whether a device may read (or write) a piece of memory: it lies in live DMA mappings or common buffers.
    #[inline]
    pub fn dma_allowed(&self, physical: u64, len: usize, device_writes: bool) -> bool {
        let mask: u32 = if device_writes { 0xffff_0000 } else { 0xffff };
        match self.dma_cells(physical, len) {
            Some(cells) => cells.iter().all(|cell| cell.get() & mask != 0),
            None => len == 0,
        }
    }

    /// The mapping that last allowed a device an access to any of these bytes, if that has ended not long ago.
    pub(crate) fn dma_ended(
        &self,
        physical: u64,
        len: usize,
        device_writes: bool,
    ) -> Option<Ended> {
        self.dma_ended.find(physical, len, device_writes)
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
            if mapped && self.physical(at).is_some_and(|p| self.dma_over(p, part)) {
                return true;
            }
            at += part;
        }
        false
    }

    /// Whether a live DMA mapping lies over a piece of physical memory.
    fn dma_over(&self, physical: u64, len: usize) -> bool {
        self.dma_ranges.borrow().keys().any(|(start, count)| {
            *start < physical + len as u64 && physical < start + *count as u64
        })
    }
}

impl Ram {
    /// Gives the memory back to the system. It must not be used any more.
    pub(crate) fn release(&self) {
        if self.released.replace(true) {
            return;
        }
        self.window.release();
        // SAFETY: our own mapping and file; devices that used it are gone with the machine.
        unsafe {
            libc::munmap(self.linear.cast(), self.size);
            libc::close(self.file.as_raw_fd());
        }
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        self.release();
    }
}
