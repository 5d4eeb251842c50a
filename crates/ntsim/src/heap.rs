//! Rust's global allocator in processes that link drivers: what drivers allocate comes from the simulated pool.
//!
//! What a driver that is loaded allocates, it asks the kernel for, as its image does, whose allocator calls `ExAllocatePool2`: the same
//! blocks, at the same addresses, with the same things happening in between. So a linked driver and its image do the same from one
//! seed.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::c_void;
use std::ptr::null_mut;

use ndis_sys::wdm::{POOL_FLAG_NON_PAGED, POOL_FLAG_UNINITIALIZED};

use crate::exports::ex::{ExAllocatePool2, ExFreePoolWithTag};
use crate::memory::arena;
use crate::memory::pool::HEAP_TAG;
use crate::memory::{PAGE, Request};
use crate::world::context;
use crate::world::driver::UNNAMED;

/// Alignment of small blocks of pool. A block of a page or more begins at a page.
const ALIGNMENT: usize = 16;

struct Heap;

#[global_allocator]
static HEAP: Heap = Heap;

/// Whether a driver's own code runs, and not a consumer's or a test's, which no image holds. What a panic allocates is neither's.
fn in_loaded_driver() -> bool {
    !matches!(context::with(|c| c.driver.get()), 0 | UNNAMED) && !std::thread::panicking()
}

/// Allocates for driver code.
#[cold]
#[inline(never)]
fn pool_alloc(layout: Layout, zero: bool) -> *mut u8 {
    if layout.align() > PAGE {
        return null_mut();
    }
    if in_loaded_driver() {
        let size = if layout.align() > ALIGNMENT {
            layout.size().max(PAGE)
        } else {
            layout.size()
        };
        let flags = if zero { 0 } else { POOL_FLAG_UNINITIALIZED };
        // SAFETY: needs nothing.
        return unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED | flags, size, HEAP_TAG) }.cast();
    }
    let _kernel = context::KernelMode::enter();
    let Some(machine) = context::try_machine() else {
        return null_mut();
    };
    machine
        .heap_alloc(&Request {
            size: layout.size(),
            align: layout.align(),
            tag: HEAP_TAG,
            zero,
            paged: false,
            owner: machine.charged_driver(),
            function: "the Rust heap",
        })
        .map_or(null_mut(), |address| address as *mut u8)
}

/// Frees a block of the simulated pool.
#[cold]
#[inline(never)]
fn pool_free(address: usize) {
    if context::in_driver() && in_loaded_driver() {
        // SAFETY: whoever gives the block to its allocator does not use it any more.
        return unsafe { ExFreePoolWithTag(address as *mut c_void, HEAP_TAG) };
    }
    let _kernel = context::KernelMode::enter();
    let machine = arena::machine_at(address);
    let Some(core) = context::try_core() else {
        // The world is gone, and the memory with it.
        return;
    };
    let machine = core
        .machines
        .try_borrow()
        .ok()
        .and_then(|all| all.iter().find(|m| std::ptr::eq(&***m, machine)).cloned());
    if let Some(machine) = machine {
        machine.heap_free(address);
    }
}

// SAFETY: memory comes from `System`, or from a pool whose blocks are as large and aligned as asked and stay until
// they are freed; which of the two a block is from is told by its address.
unsafe impl GlobalAlloc for Heap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if context::in_driver() {
            return pool_alloc(layout, false);
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if context::in_driver() {
            return pool_alloc(layout, true);
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if arena::contains(block as usize) {
            pool_free(block as usize);
        } else {
            // SAFETY: the caller's promise, and the block is `System`'s.
            unsafe { System.dealloc(block, layout) };
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !arena::contains(block as usize) {
            // What the host allocated stays the host's, even if driver code makes it grow.
            // SAFETY: the caller's promise, and the block is `System`'s.
            return unsafe { System.realloc(block, layout, size) };
        }
        // SAFETY: the caller promises that `size` is valid with the layout's alignment.
        let new = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !new.is_null() {
            // SAFETY: both blocks are at least this large, and distinct.
            unsafe {
                std::ptr::copy_nonoverlapping(block, new, layout.size().min(size));
                self.dealloc(block, layout);
            }
        }
        new
    }
}
