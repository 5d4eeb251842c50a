//! With the WDK: its allocator and panic handler, and what its headers say of the declarations that we call it by.
//!
//! Our declarations (`ndis_sys`) are written by hand, because the WDK's crates know neither NDIS nor NDK. `wdk_sys` is made from the
//! headers that are installed where the driver is built: where it declares the same thing, the compiler compares the two, and what
//! differs does not build. Only names are compared that the headers have on every processor, as structures with named fields and as
//! functions proper, so that another version of the WDK is no reason to fail.

extern crate wdk_panic;

mod functions;
mod statuses;
mod structures;

use alloc::alloc::{GlobalAlloc, Layout};
use core::ptr::null_mut;
use wdk_alloc::WdkAllocator;

/// What blocks of pool of less than a page are aligned to (MEMORY_ALLOCATION_ALIGNMENT of 64-bit processors).
const ALIGNMENT: usize = 16;

/// The WDK's allocator, which does not look at the alignment: a block that it would not align is refused.
struct Aligned(WdkAllocator);

// SAFETY: what is not refused is the WDK's allocator's, and as aligned as asked.
unsafe impl GlobalAlloc for Aligned {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() > ALIGNMENT {
            return null_mut();
        }
        // SAFETY: the caller's promise.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: allocated above, by the caller's promise.
        unsafe { self.0.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Aligned = Aligned(WdkAllocator);
