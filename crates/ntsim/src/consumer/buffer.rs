//! Memory of a consumer: non-paged pool with an MDL over it.

use super::{Result, in_kernel};
use crate::exports::mm;
use ndis_sys::imports::{
    ExAllocatePool2, ExFreePoolWithTag, IoAllocateMdl, IoFreeMdl, MmBuildMdlForNonPagedPool,
    MmUnlockPages,
};
use ndis_sys::wdm::{MDL, MDL_PAGES_LOCKED, POOL_FLAG_NON_PAGED};
use ndkpi::status::STATUS_INSUFFICIENT_RESOURCES;
use std::ptr::{NonNull, null_mut};

/// 'Cons'
const TAG: u32 = u32::from_le_bytes(*b"Cons");

/// Non-paged memory that can be registered.
pub struct Buffer {
    address: NonNull<u8>,
    length: usize,
    mdl: NonNull<MDL>,
}

impl Buffer {
    /// Zeroed memory. <= DISPATCH_LEVEL.
    pub fn new(length: usize) -> Result<Buffer> {
        in_kernel();
        // SAFETY: no contract beyond IRQL.
        let address = unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED, length, TAG) };
        let address = NonNull::<u8>::new(address.cast()).ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
        let bytes = u32::try_from(length).expect("a buffer of less than 4 GiB");
        // SAFETY: the range was just allocated.
        let mdl = unsafe { IoAllocateMdl(address.as_ptr().cast(), bytes, 0, 0, null_mut()) };
        let Some(mdl) = NonNull::new(mdl) else {
            // SAFETY: allocated above with this tag.
            unsafe { ExFreePoolWithTag(address.as_ptr().cast(), TAG) };
            return Err(STATUS_INSUFFICIENT_RESOURCES);
        };
        // SAFETY: the MDL describes non-paged pool.
        unsafe { MmBuildMdlForNonPagedPool(mdl.as_ptr()) };
        Ok(Buffer {
            address,
            length,
            mdl,
        })
    }

    /// Kernel virtual address: what goes into an SGE, and what a peer is told.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address.as_ptr().addr() as u64
    }

    /// Bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The MDL.
    #[must_use]
    pub fn mdl(&self) -> *mut MDL {
        self.mdl.as_ptr()
    }

    /// The bytes as they are now.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: allocated with this length and initialised; the world runs on this thread, so nothing writes while the slice is
        // borrowed without a call into the world.
        unsafe { std::slice::from_raw_parts(self.address.as_ptr(), self.length) }
    }

    /// The bytes, to be written.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `bytes`.
        unsafe { std::slice::from_raw_parts_mut(self.address.as_ptr(), self.length) }
    }

    /// Makes its MDL one of locked pages of another process, where the memory begins in the page at `address`: nothing here is mapped there.
    /// Before it is registered. <= DISPATCH_LEVEL.
    pub fn lock_elsewhere(&self, address: usize) {
        in_kernel();
        // SAFETY: the buffer's own MDL, which is built.
        unsafe { mm::lock_elsewhere(self.mdl.as_ptr(), address) };
    }

    /// Gives the memory back. <= DISPATCH_LEVEL.
    pub fn free(self) {
        in_kernel();
        // SAFETY: both were allocated in `new`; the provider is done with them or is about to be accused.
        unsafe {
            if (*self.mdl.as_ptr()).MdlFlags & MDL_PAGES_LOCKED != 0 {
                MmUnlockPages(self.mdl.as_ptr());
            }
            IoFreeMdl(self.mdl.as_ptr());
            ExFreePoolWithTag(self.address.as_ptr().cast(), TAG);
        }
    }
}
