//! What a machine's memory is to this process: a file, mapped in the machine's window and, for its devices, once more.
//!
//! The memory of machines that are gone is kept for those to come: to ask the system for pages, and to map them one by one, is most of what
//! the start of a machine costs. A machine gets zeros at addresses that its number among the living ones and its seed determine, whether its
//! memory is new or not.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::arena::{self, Protection, WINDOW, Window, map_file};

/// Bytes that stay together in the pool's view, and in the devices'.
pub(super) const GROUP: usize = 64 << 10;
/// Where the pool's view begins in the window.
pub(super) const POOL_AT: usize = 1 << 30;
/// Where mappings of MDLs begin in the window.
pub(super) const MAP_AT: usize = 2 << 30;
/// Room for mappings of MDLs.
pub(super) const MAP_LEN: usize = 1 << 30;

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

    /// Zeros in a window. The contiguous zone may be accessed; the pool may not, yet; devices see the contiguous zone only.
    pub(super) fn take(&self, window: &Window, size: usize) -> Backing {
        let kept = self.kept().remove(&window.index());
        match kept {
            Some(backing) if backing.size == size => {
                window.protect(0, contiguous_bytes(size), Protection::ReadWrite);
                backing
            }
            Some(_) => {
                window.unmap(0, WINDOW);
                Backing::new(window, size)
            }
            None => Backing::new(window, size),
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

/// The memory of one machine.
///
/// The file is in the order of the kernel's addresses: first the contiguous zone, then the pool. So each of the two is one mapping in the
/// window. Devices see the pool's groups elsewhere.
pub(super) struct Backing {
    file: File,
    size: usize,
    devices: *mut u8,
}

// SAFETY: a file and mappings of it, which whoever owns this has for himself.
unsafe impl Send for Backing {}

/// Bytes of the contiguous zone of a memory of `size` bytes.
pub(super) fn contiguous_bytes(size: usize) -> usize {
    (size / 4).next_multiple_of(GROUP)
}

impl Backing {
    fn new(window: &Window, size: usize) -> Backing {
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
        // SAFETY: replaces nothing.
        let devices = unsafe { map_file(ptr::null_mut(), size, fd, 0) };
        let backing = Backing {
            file,
            size,
            devices,
        };
        let contiguous = contiguous_bytes(size);
        window.map(0, contiguous, fd, 0);
        window.map(POOL_AT, size - contiguous, fd, contiguous);
        window.protect(POOL_AT, size - contiguous, Protection::Inaccessible);
        backing
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
        assert!((physical + 1) * GROUP <= self.size && (group + 1) * GROUP <= self.size);
        // SAFETY: replaces pages of our own mapping, which devices have not seen yet.
        unsafe {
            let at = self.devices.add(physical * GROUP);
            map_file(at, GROUP, self.fd(), group * GROUP);
        }
    }

    /// The zones in the window: where each begins, and which bytes of the file it is.
    fn zones(&self) -> [(usize, Range<usize>); 2] {
        let contiguous = contiguous_bytes(self.size);
        [(0, 0..contiguous), (POOL_AT, contiguous..self.size)]
    }

    /// Bytes that the system has given for it.
    fn used(&self) -> u64 {
        self.file.metadata().map_or(u64::MAX, |m| m.blocks() * 512)
    }

    /// Zeroes the memory, and makes all of the window inaccessible.
    fn clean(&self, window: &Window) {
        for (at, zone) in self.zones() {
            window.protect(at, zone.len(), Protection::ReadWrite);
            for piece in self.pieces(&zone) {
                let start = window.base() + at + (piece.start - zone.start);
                // SAFETY: pages of the window that are mapped, which nobody else uses.
                unsafe { ptr::write_bytes(start as *mut u8, 0, piece.len()) };
            }
            window.protect(at, zone.len(), Protection::Inaccessible);
        }
        window.unmap(MAP_AT, MAP_LEN);
        // Groups that devices have seen are mappings of their own.
        // SAFETY: replaces our own, which nobody uses.
        unsafe { map_file(self.devices, self.size, self.fd(), 0) };
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
                Ok(start) => start,
                Err(error) if error.raw_os_error() == Some(libc::ENXIO) => break,
                Err(_) => return vec![part.clone()],
            };
            let end = seek(start, libc::SEEK_HOLE).unwrap_or(self.size);
            let piece = start.min(part.end)..end.min(part.end);
            at = end;
            pieces.push(piece);
        }
        pieces
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        // SAFETY: our own mapping; devices that used it are gone with the machine.
        unsafe { libc::munmap(self.devices.cast(), self.size) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 3 << 20;
    const LARGE: usize = 44 << 20;

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
        let first = shelf.take(&window, SIZE);
        let file = inode(&first);
        let pool = SIZE - contiguous_bytes(SIZE);
        window.protect(POOL_AT, pool, Protection::ReadWrite);
        let byte = |at: usize| ptr::with_exposed_provenance_mut::<u8>(window.base() + at);
        // The first page of each zone, the last, and what nobody may access in between.
        let places = [0, contiguous_bytes(SIZE) - 1, POOL_AT, POOL_AT + pool - 1];
        for place in places {
            // SAFETY: accessible memory of this window.
            unsafe { byte(place).write(0xab) };
        }
        window.protect(POOL_AT, 4096, Protection::Inaccessible);
        shelf.give(first, &window);
        let second = shelf.take(&window, SIZE);
        assert_eq!(inode(&second), file, "the same");
        window.protect(POOL_AT, pool, Protection::ReadWrite);
        for place in places {
            // SAFETY: as above.
            assert_eq!(unsafe { byte(place).read() }, 0);
        }
        shelf.give(second, &window);
        // Another size is another memory.
        let third = shelf.take(&window, 2 * SIZE);
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
            let backing = shelf.take(&window, LARGE);
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
        let backings: Vec<_> = windows.iter().map(|w| shelf.take(w, SIZE)).collect();
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
        let backing = shelf.take(high, SIZE);
        shelf.give(backing, high);
        assert_eq!(kept(&shelf), indices[..KEPT]);
        assert_eq!(mapped(high), 0);
        // Even if there was some when it looked: two threads' last.
        let backing = shelf.take(high, SIZE);
        backing.clean(high);
        shelf.put(high.index(), backing);
        assert_eq!(kept(&shelf), indices[..KEPT]);
        assert_eq!(mapped(high), 0);
    }
}
