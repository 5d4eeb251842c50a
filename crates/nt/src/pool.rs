//! Non-paged pool.

use alloc::alloc::{GlobalAlloc, Layout};
use core::ptr::null_mut;

use crate::sys;
use crate::sys::types::PAGE_SIZE;
use crate::sys::wdm::{POOL_FLAG_NON_PAGED, POOL_FLAG_UNINITIALIZED};

/// The tag of the driver's allocations, as debuggers show it: `vroc`.
pub const TAG: u32 = u32::from_le_bytes(*b"vroc");

/// Alignment of small blocks. A block of a page or more begins at a page.
const ALIGNMENT: usize = 16;

/// The global allocator of the driver's image: non-paged pool. IRQL: <= DISPATCH_LEVEL.
#[derive(Debug)]
pub struct Allocator;

impl Allocator {
    fn allocate(layout: Layout, flags: u64) -> *mut u8 {
        let size = if layout.align() <= ALIGNMENT {
            layout.size()
        } else if layout.align() <= PAGE_SIZE {
            layout.size().max(PAGE_SIZE)
        } else {
            return null_mut();
        };
        // SAFETY: the size is not zero (a rule of `GlobalAlloc`); the flags do not raise exceptions.
        unsafe { sys::ExAllocatePool2(flags, size, TAG) }.cast()
    }
}

// SAFETY: blocks of pool are at least as large and as aligned as asked, see `allocate`, and stay until they are freed.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::allocate(layout, POOL_FLAG_NON_PAGED | POOL_FLAG_UNINITIALIZED)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // Zeroed unless the flag says otherwise.
        Self::allocate(layout, POOL_FLAG_NON_PAGED)
    }

    unsafe fn dealloc(&self, memory: *mut u8, _: Layout) {
        // SAFETY: allocated above with this tag.
        unsafe { sys::ExFreePoolWithTag(memory.cast(), TAG) }
    }
}
