//! Inaccessible address space that stands for registers, and the list of it that each thread keeps.

use std::cell::Cell;
use std::io;
use std::ptr::{self, NonNull};
use std::rc::Rc;

use super::{Registers, fault};

/// Page size of the host.
const PAGE: usize = 4096;

/// Address space that stands for a range of a device's registers, until dropped.
///
/// Not `Send`: only the thread that made it can use it.
pub struct Mapping {
    base: NonNull<u8>,
    length: usize,
}

struct Entry {
    start: usize,
    length: usize,
    registers: Rc<dyn Registers>,
}

thread_local! {
    /// This thread's mappings; null while there are none. A plain pointer because the fault handler reads it at
    /// places where nothing can be initialised.
    static ENTRIES: Cell<*mut Vec<Entry>> = const { Cell::new(ptr::null_mut()) };
}

impl Mapping {
    /// Reserves address space for `length` bytes of registers (rounded up to whole pages) and serves accesses to
    /// it. Offsets given to `registers` count from the start of the mapping.
    pub fn new(length: usize, registers: Rc<dyn Registers>) -> io::Result<Mapping> {
        fault::install();
        let length = length.max(1).next_multiple_of(PAGE);
        // SAFETY: an anonymous mapping at an address of the system's choice affects nothing else.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let Some(base) = NonNull::new(base.cast::<u8>()) else {
            return Err(io::Error::from(io::ErrorKind::OutOfMemory));
        };
        let entry = Entry {
            start: base.as_ptr() as usize,
            length,
            registers,
        };
        ENTRIES.with(|entries| {
            if entries.get().is_null() {
                entries.set(Box::into_raw(Box::default()));
            }
            // SAFETY: not null, so it is the box made above; only this thread reaches it, and no reference to it
            // outlives a call in this file.
            unsafe { (*entries.get()).push(entry) };
        });
        Ok(Mapping { base, length })
    }

    /// Where the driver finds the first register.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let start = self.base.as_ptr() as usize;
        let removed = ENTRIES.with(|entries| {
            let list = entries.get();
            // SAFETY: the list exists while there is a mapping; see `new` for who reaches it.
            let (removed, empty) = unsafe {
                let list = &mut *list;
                let index = list.iter().position(|entry| entry.start == start);
                (index.map(|index| list.swap_remove(index)), list.is_empty())
            };
            if empty {
                entries.set(ptr::null_mut());
                // SAFETY: made by `Box::into_raw` in `new`, and forgotten just now.
                drop(unsafe { Box::from_raw(list) });
            }
            removed
        });
        // The device may own other mappings: drop it when the list is not in use.
        drop(removed);
        // SAFETY: our own mapping; nothing was ever stored in it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.length) };
    }
}

/// The registers that this thread maps at an address, and the offset in them.
pub(super) fn find(address: usize) -> Option<(Rc<dyn Registers>, u64)> {
    let list = ENTRIES.with(Cell::get);
    if list.is_null() {
        return None;
    }
    // SAFETY: see `Mapping::new`. A fault can only come from driver or test code, not from within this file, so
    // nobody is changing the list.
    let list = unsafe { &*list };
    list.iter().find_map(|entry| {
        let offset = address.wrapping_sub(entry.start);
        (offset < entry.length).then(|| (Rc::clone(&entry.registers), offset as u64))
    })
}
