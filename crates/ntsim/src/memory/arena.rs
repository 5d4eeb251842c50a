//! Where machines' kernel addresses are: one reservation of address space for the whole process, in windows.
//!
//! That the windows are in one known place lets the global allocator, which may be asked from any thread and long
//! after a world is gone, tell simulated memory by its address alone.
//!
//! The reservation is at the same address in every process where that is free, and a world gets the first windows that are:
//! kernel addresses travel (in the headers of RDMA writes, for one), and a run should repeat to the last byte elsewhere. Worlds
//! that live at the same time, as those of parallel tests do, cannot have the same windows.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ptr;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use crate::world::machine::Machine;

/// Address space of one machine.
pub(crate) const WINDOW: usize = 4 << 30;
const WINDOWS: usize = 1024;
/// Where the reservation begins if nothing else is there: far from where Linux puts programs, heaps and libraries.
const PREFERRED: usize = 0x2000_0000_0000;

/// First address of the reservation; 0 before there is one.
static BASE: AtomicUsize = AtomicUsize::new(0);
static MACHINES: [AtomicPtr<Machine>; WINDOWS] =
    [const { AtomicPtr::new(ptr::null_mut()) }; WINDOWS];
static FREE: OnceLock<Mutex<BTreeSet<usize>>> = OnceLock::new();

/// Reserves address space: at that address or, if it is null, anywhere.
fn reserve(at: usize, flags: libc::c_int) -> *mut libc::c_void {
    // SAFETY: a new mapping that replaces none; nothing can be accessed there.
    unsafe {
        libc::mmap(
            at as *mut libc::c_void,
            WINDOW * WINDOWS,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | flags,
            -1,
            0,
        )
    }
}

fn free() -> &'static Mutex<BTreeSet<usize>> {
    FREE.get_or_init(|| {
        let mut base = reserve(PREFERRED, libc::MAP_FIXED_NOREPLACE);
        if base == libc::MAP_FAILED {
            base = reserve(0, 0);
        }
        assert!(
            base != libc::MAP_FAILED,
            "ntsim needs 4 TiB of address space (no memory): {}",
            std::io::Error::last_os_error()
        );
        BASE.store(base as usize, Ordering::Release);
        // The first window stays unused: a guard below.
        Mutex::new((1..WINDOWS).collect())
    })
}

/// Whether an address lies in some machine's window, of a living world or a past one.
#[inline(always)]
pub(crate) fn contains(address: usize) -> bool {
    let base = BASE.load(Ordering::Relaxed);
    base != 0 && address.wrapping_sub(base) < WINDOW * WINDOWS
}

/// The machine in whose window an address lies; null if its world is gone. The pointer may only be used on the
/// thread of that machine's world.
#[inline]
pub(crate) fn machine_at(address: usize) -> *const Machine {
    let base = BASE.load(Ordering::Relaxed);
    let index = address.wrapping_sub(base) / WINDOW;
    MACHINES
        .get(index)
        .map_or(ptr::null(), |m| m.load(Ordering::Acquire).cast_const())
}

/// What may be done to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    /// Nothing.
    Inaccessible,
    /// It may be read.
    ReadOnly,
    /// It may be read and written.
    ReadWrite,
    /// It may be read and executed.
    Execute,
}

impl Protection {
    /// For data that nobody may access at times.
    pub(crate) fn unless(inaccessible: bool) -> Self {
        if inaccessible {
            Self::Inaccessible
        } else {
            Self::ReadWrite
        }
    }
}

/// Makes part of a window inaccessible: one's own, or one that nobody can have anything mapped in yet.
pub(super) fn unmap(index: usize, at: usize, len: usize) {
    assert!(index < WINDOWS && at + len <= WINDOW);
    let base = BASE.load(Ordering::Acquire) + index * WINDOW;
    // SAFETY: replaces pages of a window, in which nobody else has anything.
    let mapped = unsafe {
        libc::mmap(
            (base + at) as *mut libc::c_void,
            len,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    assert!(
        mapped != libc::MAP_FAILED,
        "unmapping simulated memory: {}",
        std::io::Error::last_os_error()
    );
}

/// A machine's window. Inaccessible until something is mapped into it.
pub(crate) struct Window {
    index: usize,
    base: usize,
    /// What is mapped stays when the window is dropped.
    keep: Cell<bool>,
    released: Cell<bool>,
}

/// Maps a part of a file, for reading and writing: at an address, or where the system chooses if that is null.
///
/// # Safety
/// What is mapped at the address must be the caller's to replace.
pub(super) unsafe fn map_file(at: *mut u8, len: usize, fd: i32, file_offset: usize) -> *mut u8 {
    let flags = match at.is_null() {
        true => libc::MAP_SHARED,
        false => libc::MAP_SHARED | libc::MAP_FIXED,
    };
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: promised by the caller.
    let mapped = unsafe {
        libc::mmap(
            at.cast(),
            len,
            protection,
            flags,
            fd,
            file_offset as libc::off_t,
        )
    };
    assert!(
        mapped != libc::MAP_FAILED,
        "mapping simulated memory: {}",
        std::io::Error::last_os_error()
    );
    mapped.cast()
}

impl Window {
    pub(crate) fn claim() -> Window {
        let index = free()
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .pop_first()
            .expect("at most 1023 machines at a time in one process");
        Window {
            index,
            base: BASE.load(Ordering::Acquire) + index * WINDOW,
            keep: Cell::new(false),
            released: Cell::new(false),
        }
    }

    pub(crate) fn base(&self) -> usize {
        self.base
    }

    /// Leaves the memory accessible for good.
    pub(crate) fn keep(&self) {
        self.keep.set(true);
    }

    /// Makes the machine findable by address.
    pub(crate) fn publish(&self, machine: *const Machine) {
        MACHINES[self.index].store(machine.cast_mut(), Ordering::Release);
    }

    /// Which window it is: no other that lives at the same time has that number.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Maps `len` bytes of a file at an offset in the window.
    pub(crate) fn map(&self, at: usize, len: usize, fd: i32, file_offset: usize) {
        assert!(at + len <= WINDOW);
        let place = (self.base + at) as *mut u8;
        // SAFETY: replaces pages of our own window, which holds nothing else.
        unsafe { map_file(place, len, fd, file_offset) };
    }

    /// Sets who may access mapped pages, and how.
    pub(crate) fn protect(&self, at: usize, len: usize, protection: Protection) {
        assert!(at + len <= WINDOW);
        let protection = match protection {
            Protection::Inaccessible => libc::PROT_NONE,
            Protection::ReadOnly => libc::PROT_READ,
            Protection::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
            Protection::Execute => libc::PROT_READ | libc::PROT_EXEC,
        };
        // SAFETY: pages of our own window.
        let done =
            unsafe { libc::mprotect((self.base + at) as *mut libc::c_void, len, protection) };
        assert!(
            done == 0,
            "protecting simulated memory: {}",
            std::io::Error::last_os_error()
        );
    }

    /// Makes part of the window inaccessible again.
    pub(crate) fn unmap(&self, at: usize, len: usize) {
        unmap(self.index, at, len);
    }
}

impl Window {
    /// Gives the window back, when `clean` has made all of it inaccessible. It must not be used any more.
    pub(crate) fn release(&self, clean: impl FnOnce()) {
        if self.released.replace(true) {
            return;
        }
        MACHINES[self.index].store(ptr::null_mut(), Ordering::Release);
        if self.keep.get() {
            return;
        }
        clean();
        free()
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .insert(self.index);
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.release(|| self.unmap(0, WINDOW));
    }
}
