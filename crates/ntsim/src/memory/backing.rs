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
use std::sync::{Mutex, PoisonError};

use super::arena::{Protection, WINDOW, Window};

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

/// What is kept, by the number of the window that it is mapped in.
static SHELF: Mutex<BTreeMap<usize, Backing>> = Mutex::new(BTreeMap::new());

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

/// Maps a file of so many bytes: at an address where it is mapped already, or one of the system's choice.
fn map_all(fd: RawFd, size: usize, at: *mut u8) -> *mut u8 {
    let flags = match at.is_null() {
        true => libc::MAP_SHARED,
        false => libc::MAP_SHARED | libc::MAP_FIXED,
    };
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping, or one in place of our own, which nobody uses.
    let mapped = unsafe { libc::mmap(at.cast(), size, protection, flags, fd, 0) };
    assert!(
        mapped != libc::MAP_FAILED,
        "mapping a machine's memory: {}",
        std::io::Error::last_os_error()
    );
    mapped.cast()
}

impl Backing {
    /// Zeros in a window. The contiguous zone may be accessed; the pool may not, yet; devices see the contiguous zone only.
    pub(super) fn take(window: &Window, size: usize) -> Backing {
        let kept = SHELF
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&window.index());
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
        let devices = map_all(fd, size, ptr::null_mut());
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
        let mapped = unsafe {
            libc::mmap(
                self.devices.add(physical * GROUP).cast(),
                GROUP,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_FIXED,
                self.fd(),
                (group * GROUP) as libc::off_t,
            )
        };
        assert!(
            mapped != libc::MAP_FAILED,
            "mapping memory for devices: {}",
            std::io::Error::last_os_error()
        );
    }

    /// The zones in the window: where each begins, and which bytes of the file it is.
    fn zones(&self) -> [(usize, Range<usize>); 2] {
        let contiguous = contiguous_bytes(self.size);
        [(0, 0..contiguous), (POOL_AT, contiguous..self.size)]
    }

    /// Keeps the memory, zeroed, for the next machine in the window, or gives it back to the system. Nobody may use it any more; nobody can
    /// access it.
    pub(super) fn give(self, window: &Window) {
        let used = self.file.metadata().map_or(u64::MAX, |m| m.blocks() * 512);
        let shelf = || SHELF.lock().unwrap_or_else(PoisonError::into_inner);
        if used > LARGEST || shelf().len() >= KEPT {
            window.unmap(0, WINDOW);
            return;
        }
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
        map_all(self.fd(), self.size, self.devices);
        shelf().insert(window.index(), self);
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

    /// Sizes that no machine has.
    const SIZE: usize = 3 << 20;
    const LARGE: usize = 44 << 20;

    #[test]
    fn memory_that_was_used_is_zero_for_the_next() {
        let window = Window::claim();
        let first = Backing::take(&window, SIZE);
        let fd = first.fd();
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
        first.give(&window);
        let second = Backing::take(&window, SIZE);
        assert_eq!(second.fd(), fd, "the same");
        window.protect(POOL_AT, pool, Protection::ReadWrite);
        for place in places {
            // SAFETY: as above.
            assert_eq!(unsafe { byte(place).read() }, 0);
        }
        second.give(&window);
        // Another size is another memory.
        let third = Backing::take(&window, 2 * SIZE);
        // SAFETY: as above.
        assert_eq!(unsafe { byte(0).read() }, 0);
        drop(third);
    }

    #[test]
    fn what_was_used_much_is_not_kept() {
        let window = Window::claim();
        let backing = Backing::take(&window, LARGE);
        let len = LARGEST as usize + 4096;
        // SAFETY: the devices' view of it.
        unsafe { backing.devices().write_bytes(1, len) };
        backing.give(&window);
        let kept = SHELF.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(!kept.contains_key(&window.index()));
    }
}
