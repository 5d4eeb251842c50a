//! What a machine's memory is to this process: a file, mapped in the machine's window and, for its devices, once more.
//!
//! The memory of machines that are gone is kept for those to come: to ask the system for pages, and to map them one by one, is most of what
//! the start of a machine costs. A machine gets zeros at addresses that its number among the living ones and its seed determine, whether its
//! memory is new or not.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::arena::{self, Protection, WINDOW, Window, map_file};
use super::mappings::{CUT, Mappings};
use super::ram::PAGE;

/// Bytes that stay together in the pool's view, and in the devices'.
pub(super) const GROUP: usize = 64 << 10;
/// Where the pool's view begins in the window.
pub(super) const POOL_AT: usize = 1 << 30;
/// Where mappings of MDLs begin in the window.
pub(super) const MAP_AT: usize = 2 << 30;
/// Room for mappings of MDLs.
pub(super) const MAP_LEN: usize = 1 << 30;
/// Where slots of special pool begin in the window, those of each size.
const SLOTS_AT: [usize; SLOT_SIZES] = [3 << 30, (3 << 30) + (1 << 29)];
/// Slots have one page or two.
pub(super) const SLOT_SIZES: usize = 2;
/// At most so many slots; and at most one for so many pages of the machine, or too little would be left for others.
const SLOTS: [usize; SLOT_SIZES] = [1024, 256];
const PAGES_FOR_A_SLOT: [usize; SLOT_SIZES] = [12, 48];

/// Memory of so many machines is kept.
const KEPT: usize = 8;
/// Of those that have used no more bytes.
const LARGEST: u64 = 32 << 20;

/// Where the memory of machines that are gone is kept.
pub(super) static SHELF: Shelf = Shelf::new();

/// What is kept, by the number of the window that it is mapped in. Nobody may access it there.
///
/// Windows are claimed lowest first, so that of too many those in the lowest windows stay: they are the first to be of use again.
pub(super) struct Shelf(Mutex<BTreeMap<usize, Backing>>);

impl Shelf {
    const fn new() -> Self {
        Shelf(Mutex::new(BTreeMap::new()))
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<usize, Backing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Zeros in a window. The contiguous zone may be accessed; the rest may not, yet; devices see the contiguous zone only.
    pub(super) fn take(&self, window: &Window, layout: Layout) -> Backing {
        let kept = self.kept().remove(&window.index());
        match kept {
            Some(backing) if backing.layout == layout => {
                window.protect(0, layout.contiguous().len(), Protection::ReadWrite);
                backing
            }
            Some(_) => {
                window.unmap(0, WINDOW);
                Backing::new(window, layout)
            }
            None => Backing::new(window, layout),
        }
    }

    /// Keeps memory, zeroed, for the next machine in the window, or gives it back to the system. Nobody may use it any more; nobody can
    /// access it.
    pub(super) fn give(&self, backing: Backing, window: &Window) {
        if backing.used() > LARGEST || !self.has_room(window.index()) {
            window.unmap(0, WINDOW);
            return;
        }
        backing.clean(window);
        self.put(window.index(), backing);
    }

    /// Whether memory in a window would be kept now: otherwise there is no need to zero it.
    fn has_room(&self, index: usize) -> bool {
        let kept = self.kept();
        kept.len() < KEPT || kept.last_key_value().is_some_and(|(last, _)| index < *last)
    }

    /// Keeps memory. If that is too much, what is in the highest window goes.
    fn put(&self, index: usize, backing: Backing) {
        let mut kept = self.kept();
        kept.insert(index, backing);
        if kept.len() <= KEPT {
            return;
        }
        let last = kept.pop_last();
        if let Some((index, _)) = &last {
            // While the shelf is locked: a machine that has the window by now waits there before it maps its own.
            arena::unmap(*index, 0, WINDOW);
        }
        drop(kept);
        drop(last);
    }
}

/// Slots of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotZone {
    /// Which zone it is.
    pub(super) index: usize,
    /// How many there are.
    pub(super) count: usize,
    /// The first one's place in the file.
    start: usize,
    /// Bytes of the file, with what is left of the groups that slots are in.
    len: usize,
}

impl SlotZone {
    /// Pages of a slot.
    fn pages(self) -> usize {
        self.index + 1
    }

    /// Bytes of a slot.
    pub(super) fn size(self) -> usize {
        self.pages() * PAGE
    }

    /// From one slot to the next in the window: its pages, and one that nobody may access.
    fn step(self) -> usize {
        self.size() + PAGE
    }

    /// Bytes of the window, of so many slots.
    fn extent(self, slots: usize) -> usize {
        slots * self.step()
    }

    /// The slots' pages, one behind the other: bytes of the file.
    fn file(self) -> Range<usize> {
        self.start..self.start + self.count * self.size()
    }

    /// The groups of the file that slots are in.
    fn groups(self) -> Range<usize> {
        let start = self.start / GROUP * GROUP;
        start..start + self.len
    }

    /// Where a slot is in the window.
    pub(super) fn at(self, slot: usize) -> usize {
        SLOTS_AT[self.index] + self.extent(slot)
    }

    /// Which slot a place of the window lies in.
    pub(super) fn slot_at(self, at: usize) -> Option<usize> {
        let offset = at.checked_sub(SLOTS_AT[self.index])?;
        let slot = offset / self.step();
        (slot < self.count && offset % self.step() < self.size()).then_some(slot)
    }

    /// Where a slot is in the file.
    pub(super) fn file_at(self, slot: usize) -> usize {
        self.start + slot * self.size()
    }
}

/// What is what in a memory: bytes of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    size: usize,
    pub(super) slots: [SlotZone; SLOT_SIZES],
}

impl Layout {
    /// Of a memory of so many bytes. With or without special pool, so that drivers have the same memory.
    pub(super) fn new(size: usize) -> Layout {
        let mut end = size;
        let slots = std::array::from_fn(|index| {
            let most = SLOTS[index].min(size / PAGE / PAGES_FOR_A_SLOT[index]);
            // Devices see whole groups.
            let len = most * (index + 1) * PAGE / GROUP * GROUP;
            end -= len;
            // Slots of more than one page begin where they do not fit groups: some are in two of them, and devices see them in two pieces.
            let before = index * PAGE;
            SlotZone {
                index,
                count: len.saturating_sub(before) / PAGE / (index + 1),
                start: end + before,
                len,
            }
        });
        Layout { size, slots }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn contiguous(&self) -> Range<usize> {
        0..(self.size / 4).next_multiple_of(GROUP)
    }

    pub(super) fn pool(&self) -> Range<usize> {
        self.contiguous().end..self.slots[SLOT_SIZES - 1].groups().start
    }

    /// Where in the file the byte at a place in the window is, if it is of the contiguous zone, the pool or a slot.
    #[inline]
    pub(super) fn file_of(&self, at: usize) -> Option<usize> {
        let within = |zone: Range<usize>, at: usize| (at < zone.len()).then_some(zone.start + at);
        if at < POOL_AT {
            return within(self.contiguous(), at);
        }
        if at < SLOTS_AT[0] {
            return within(self.pool(), at - POOL_AT);
        }
        let zone = self.slots[usize::from(at >= SLOTS_AT[1])];
        let slot = zone.slot_at(at)?;
        Some(zone.file_at(slot) + (at - zone.at(slot)))
    }
}

/// The memory of one machine.
///
/// The file is in the order of the kernel's addresses: the contiguous zone, the pool, the slots of special pool. Each of the first two is one
/// mapping in the window. Of the slots each is one, and so is what lies between two of them: pages behind the end of the file, which
/// nobody may access whatever their mapping allows. Devices see groups of the pool and the slots elsewhere.
pub(super) struct Backing {
    file: File,
    layout: Layout,
    /// Of each size, so many slots are mapped: the first ones. Each is a mapping, and what lies behind it is another.
    mapped: [Cell<usize>; SLOT_SIZES],
    mappings: Mappings,
    devices: *mut u8,
}

// SAFETY: a file and mappings of it, which whoever owns this has for himself.
unsafe impl Send for Backing {}

impl Backing {
    fn new(window: &Window, layout: Layout) -> Backing {
        // SAFETY: a C string constant; no other conditions.
        let fd = unsafe { libc::memfd_create(c"ntsim-ram".as_ptr(), libc::MFD_CLOEXEC) };
        assert!(
            fd >= 0,
            "memory for a machine: {}",
            std::io::Error::last_os_error()
        );
        // SAFETY: just opened, owned by nobody else.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(layout.size as u64)
            .expect("memory for a machine");
        // SAFETY: replaces nothing.
        let devices = unsafe { map_file(ptr::null_mut(), layout.size, fd, 0) };
        let backing = Backing {
            file,
            layout,
            mapped: Default::default(),
            mappings: Mappings::default(),
            devices,
        };
        let (contiguous, pool) = (layout.contiguous(), layout.pool());
        window.map(0, contiguous.len(), fd, 0);
        window.map(POOL_AT, pool.len(), fd, pool.start);
        window.protect(POOL_AT, pool.len(), Protection::Inaccessible);
        for zone in layout.slots {
            if zone.count > 0 {
                window.map(zone.at(0), zone.extent(zone.count), fd, layout.size);
            }
        }
        backing
    }

    /// Makes slots accessible. To map one takes longer than to make ten accessible that are.
    pub(super) fn open_slots(&self, window: &Window, zone: SlotZone, slots: Range<usize>) {
        let mapped = self.mapped[zone.index].get();
        for slot in mapped..slots.end {
            window.map(zone.at(slot), zone.size(), self.fd(), zone.file_at(slot));
            self.mappings.take(CUT);
        }
        self.mapped[zone.index].set(mapped.max(slots.end));
        let before = slots.start..slots.end.min(mapped);
        if !before.is_empty() {
            let len = zone.extent(before.len());
            window.protect(zone.at(before.start), len, Protection::ReadWrite);
        }
    }

    /// Up to which slot they can be made accessible at once, beginning with one: up to `most` of those that are mapped, or that one, if it may be
    /// mapped now.
    pub(super) fn slots_at_hand(&self, zone: SlotZone, first: usize, most: usize) -> usize {
        let mapped = self.mapped[zone.index].get();
        if first < mapped {
            return mapped.min(first + most);
        }
        first + usize::from(first < zone.count && self.mappings.may_be_more())
    }

    /// The mappings that the memory has, slots' included.
    pub(super) fn mappings(&self) -> &Mappings {
        &self.mappings
    }

    /// What is mapped in the window stays when this is gone.
    pub(super) fn keep(&self) {
        self.mappings.keep();
    }

    pub(super) fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Where devices see physical memory from its first byte on.
    pub(super) fn devices(&self) -> *mut u8 {
        self.devices
    }

    /// Shows devices a group of the file as a group of physical memory.
    pub(super) fn show(&self, physical: usize, group: usize) {
        let size = self.layout.size;
        assert!((physical + 1) * GROUP <= size && (group + 1) * GROUP <= size);
        self.mappings.take(CUT);
        // SAFETY: replaces pages of our own mapping, which devices have not seen yet.
        unsafe {
            let at = self.devices.add(physical * GROUP);
            map_file(at, GROUP, self.fd(), group * GROUP);
        }
    }

    /// Bytes that the system has given for it.
    fn used(&self) -> u64 {
        self.file.metadata().map_or(u64::MAX, |m| m.blocks() * 512)
    }

    /// Zeroes the memory, and makes all of the window inaccessible.
    fn clean(&self, window: &Window) {
        for (at, zone) in [(0, self.layout.contiguous()), (POOL_AT, self.layout.pool())] {
            window.protect(at, zone.len(), Protection::ReadWrite);
            for piece in self.pieces(&zone) {
                // SAFETY: pages of the window that are mapped, which nobody else uses.
                unsafe { zero(window, at + (piece.start - zone.start), piece.len()) };
            }
            window.protect(at, zone.len(), Protection::Inaccessible);
        }
        for zone in self.layout.slots {
            self.clean_slots(window, zone);
        }
        window.unmap(MAP_AT, MAP_LEN);
        // Groups that devices have seen are mappings of their own.
        // SAFETY: replaces our own, which nobody uses.
        unsafe { map_file(self.devices, self.layout.size, self.fd(), 0) };
        // Slots stay mapped for the next machine; all else is in one piece again.
        let slots: usize = self.mapped.iter().map(Cell::get).sum();
        self.mappings.give_all_but(CUT * slots);
    }

    fn clean_slots(&self, window: &Window, zone: SlotZone) {
        let mapped = self.mapped[zone.index].get();
        self.open_slots(window, zone, 0..mapped);
        // What is left of their groups is nobody's, but devices can have written there.
        let (slots, groups) = (zone.file(), zone.groups());
        for left in [groups.start..slots.start, slots.end..groups.end] {
            if !left.is_empty() {
                self.make_hole(left);
            }
        }
        for piece in self.pieces(&slots) {
            for page in piece.clone().step_by(PAGE) {
                let offset = page - zone.start;
                let (slot, offset) = (offset / zone.size(), offset % zone.size());
                if slot >= mapped {
                    // A device can have written where no slot is mapped yet.
                    self.make_hole(page..piece.end);
                    break;
                }
                // SAFETY: as in `clean`.
                unsafe { zero(window, zone.at(slot) + offset, PAGE) };
            }
        }
        window.protect(zone.at(0), zone.extent(mapped), Protection::Inaccessible);
    }

    /// Gives pages of the file back to the system: they are zero for who maps them.
    fn make_hole(&self, pages: Range<usize>) {
        let (at, len) = (pages.start as libc::off_t, pages.len() as libc::off_t);
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: our own file.
        let made = unsafe { libc::fallocate(self.fd(), mode, at, len) };
        assert_eq!(
            made,
            0,
            "clearing simulated memory: {}",
            std::io::Error::last_os_error()
        );
    }

    /// The pieces of a part of the file that are not holes, as the system says; all of it if it does not say.
    fn pieces(&self, part: &Range<usize>) -> Vec<Range<usize>> {
        let seek = |from: usize, what: libc::c_int| {
            // SAFETY: our own file.
            let at = unsafe { libc::lseek(self.fd(), from as libc::off_t, what) };
            usize::try_from(at).map_err(|_| std::io::Error::last_os_error())
        };
        let mut pieces = Vec::new();
        let mut at = part.start;
        while at < part.end {
            let start = match seek(at, libc::SEEK_DATA) {
                Ok(start) if start < part.end => start,
                Ok(_) => break,
                Err(error) if error.raw_os_error() == Some(libc::ENXIO) => break,
                Err(_) => return vec![part.clone()],
            };
            let end = seek(start, libc::SEEK_HOLE).unwrap_or(self.layout.size);
            let piece = start..end.min(part.end);
            at = end;
            pieces.push(piece);
        }
        pieces
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        // SAFETY: our own mapping; devices that used it are gone with the machine.
        unsafe { libc::munmap(self.devices.cast(), self.layout.size) };
    }
}

/// Zeroes a part of a window.
///
/// # Safety
/// It must be accessible, and the caller's.
unsafe fn zero(window: &Window, at: usize, len: usize) {
    let start = ptr::with_exposed_provenance_mut::<u8>(window.base() + at);
    // SAFETY: promised by the caller.
    unsafe { ptr::write_bytes(start, 0, len) };
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 3 << 20;
    const LARGE: usize = 44 << 20;

    fn layout() -> Layout {
        Layout::new(SIZE)
    }

    /// A window in which nothing is mapped, on no shelf's account. Dropped, it is so again.
    fn window() -> Window {
        let window = Window::claim();
        drop(SHELF.kept().remove(&window.index()));
        window.unmap(0, WINDOW);
        window
    }

    /// Which file it is: no other that lives at the same time has that number.
    fn inode(backing: &Backing) -> u64 {
        backing.file.metadata().expect("a file").ino()
    }

    /// What may be accessed or not, but is mapped in a window.
    fn mapped(window: &Window) -> usize {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("mappings");
        let inside = |line: &&str| {
            let from = line.split('-').next().unwrap_or_default();
            let from = usize::from_str_radix(from, 16).expect("an address");
            from.wrapping_sub(window.base()) < WINDOW && line.contains("ntsim-ram")
        };
        maps.lines().filter(inside).count()
    }

    #[test]
    fn memory_that_was_used_is_zero_for_the_next() {
        let (shelf, window) = (Shelf::new(), window());
        let first = shelf.take(&window, layout());
        let file = inode(&first);
        let (contiguous, pool) = (layout().contiguous().len(), layout().pool().len());
        let [ones, twos] = layout().slots;
        window.protect(POOL_AT, pool, Protection::ReadWrite);
        let byte = |at: usize| ptr::with_exposed_provenance_mut::<u8>(window.base() + at);
        // The first page of each zone, the last, and what nobody may access in between.
        let places = [
            0,
            contiguous - 1,
            POOL_AT,
            POOL_AT + pool - 1,
            ones.at(0),
            ones.at(1),
            twos.at(1) + PAGE,
        ];
        for zone in [ones, twos] {
            first.open_slots(&window, zone, 0..2);
        }
        for place in places {
            // SAFETY: accessible memory of this window.
            unsafe { byte(place).write(0xab) };
        }
        // A device, in the last slot, which no processor could access yet.
        // SAFETY: the devices' view of the memory's last byte.
        unsafe { first.devices().add(SIZE - 1).write(0xab) };
        window.protect(POOL_AT, 4096, Protection::Inaccessible);
        window.protect(ones.at(0), PAGE, Protection::Inaccessible);
        shelf.give(first, &window);
        let second = shelf.take(&window, layout());
        assert_eq!(inode(&second), file, "the same");
        window.protect(POOL_AT, pool, Protection::ReadWrite);
        for zone in [ones, twos] {
            second.open_slots(&window, zone, 0..zone.count);
        }
        // SAFETY: as above.
        assert_eq!(unsafe { second.devices().add(SIZE - 1).read() }, 0);
        for place in places {
            // SAFETY: as above.
            assert_eq!(unsafe { byte(place).read() }, 0);
        }
        shelf.give(second, &window);
        // Another size is another memory.
        let third = shelf.take(&window, Layout::new(2 * SIZE));
        // SAFETY: as above.
        assert_eq!(unsafe { byte(0).read() }, 0);
        assert_eq!(
            third.file.metadata().expect("a file").len(),
            2 * SIZE as u64
        );
    }

    #[test]
    fn what_was_used_much_is_not_kept() {
        let (shelf, window) = (Shelf::new(), window());
        for (used, kept) in [(LARGEST as usize - GROUP, 1), (LARGEST as usize + GROUP, 0)] {
            let backing = shelf.take(&window, Layout::new(LARGE));
            // SAFETY: the devices' view of it.
            unsafe { backing.devices().write_bytes(1, used) };
            shelf.give(backing, &window);
            assert_eq!(shelf.kept().len(), kept, "{used} bytes");
            assert_eq!(mapped(&window) != 0, kept != 0, "{used} bytes");
        }
    }

    #[test]
    fn of_too_many_those_in_the_lowest_windows_are_kept() {
        let shelf = Shelf::new();
        let mut windows: Vec<_> = (0..KEPT + 2).map(|_| window()).collect();
        windows.sort_by_key(Window::index);
        let backings: Vec<_> = windows.iter().map(|w| shelf.take(w, layout())).collect();
        let kept = |shelf: &Shelf| shelf.kept().keys().copied().collect::<Vec<_>>();
        let indices: Vec<_> = windows.iter().map(Window::index).collect();
        // The highest first: they have all the room when the lowest come.
        for (backing, window) in backings.into_iter().zip(&windows).rev() {
            shelf.give(backing, window);
            assert!(kept(&shelf).len() <= KEPT);
        }
        assert_eq!(kept(&shelf), indices[..KEPT]);
        for (window, n) in windows.iter().zip(0..) {
            assert_eq!(mapped(window) != 0, n < KEPT, "window {n}");
        }
        // One in a higher window finds no room, and takes nobody's.
        let high = &windows[KEPT];
        let backing = shelf.take(high, layout());
        shelf.give(backing, high);
        assert_eq!(kept(&shelf), indices[..KEPT]);
        assert_eq!(mapped(high), 0);
        // Even if there was some when it looked: two threads' last.
        let backing = shelf.take(high, layout());
        backing.clean(high);
        shelf.put(high.index(), backing);
        assert_eq!(kept(&shelf), indices[..KEPT]);
        assert_eq!(mapped(high), 0);
    }
}
