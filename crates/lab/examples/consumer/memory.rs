//! Non-paged pool: for what callbacks touch, and for what is registered.

use std::ptr::{NonNull, null_mut};

use ndis_sys::imports::{
    ExAllocatePool2, ExFreePoolWithTag, IoAllocateMdl, IoFreeMdl, MmBuildMdlForNonPagedPool,
};
use ndis_sys::wdm::{MDL, POOL_FLAG_NON_PAGED};
use ndkpi::status::STATUS_INSUFFICIENT_RESOURCES;

use crate::wait::Result;

const TAG: u32 = u32::from_le_bytes(*b"Exmp");

fn allocate_bytes(bytes: usize) -> Result<NonNull<u8>> {
    // SAFETY: no contract beyond the IRQL.
    let address = unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED, bytes, TAG) };
    NonNull::new(address.cast()).ok_or(STATUS_INSUFFICIENT_RESOURCES)
}

/// Puts a value where callbacks can get at it, at any IRQL and on any thread.
pub fn allocate<T>(value: T) -> Result<NonNull<T>> {
    let place = allocate_bytes(size_of::<T>())?.cast::<T>();
    // SAFETY: just allocated; pool is aligned for everything here.
    unsafe { place.write(value) };
    Ok(place)
}

/// Gives back what [`allocate`] gave.
///
/// # Safety
/// Nobody uses it any more: every object with a callback to it is closed.
pub unsafe fn free<T>(place: NonNull<T>) {
    // SAFETY: the caller's promise.
    unsafe {
        place.drop_in_place();
        ExFreePoolWithTag(place.as_ptr().cast(), TAG);
    }
}

/// Memory with the MDL that NdkRegisterMr wants.
pub struct Buffer {
    pub address: NonNull<u8>,
    pub bytes: usize,
    pub mdl: NonNull<MDL>,
}

impl Buffer {
    /// Memory of one's own. Somebody else's, a file system's for instance, comes with an MDL: check that it is locked, and that what it
    /// describes is contiguous in virtual addresses.
    pub fn new(bytes: usize) -> Result<Buffer> {
        let address = allocate_bytes(bytes)?;
        // SAFETY: the range was just allocated.
        let mdl = unsafe { IoAllocateMdl(address.as_ptr().cast(), bytes as u32, 0, 0, null_mut()) };
        let Some(mdl) = NonNull::new(mdl) else {
            // SAFETY: as above, and nobody knows it yet.
            unsafe { free(address) };
            return Err(STATUS_INSUFFICIENT_RESOURCES);
        };
        // Non-paged pool is resident: its MDL is built, not locked.
        // SAFETY: the MDL describes the range.
        unsafe { MmBuildMdlForNonPagedPool(mdl.as_ptr()) };
        Ok(Buffer {
            address,
            bytes,
            mdl,
        })
    }

    /// Bytes of it.
    ///
    /// # Safety
    /// No request that writes there is outstanding, nor may the peer write there meanwhile.
    #[allow(clippy::mut_from_ref, reason = "the caller sees to it")]
    pub unsafe fn bytes(&self, offset: usize, length: usize) -> &mut [u8] {
        assert!(offset + length <= self.bytes);
        // SAFETY: within the allocation, which is zeroed; the rest is the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.address.as_ptr().add(offset), length) }
    }
}

impl Drop for Buffer {
    /// It is registered nowhere any more: whoever owns it has closed the region before.
    fn drop(&mut self) {
        // SAFETY: both are of `new`.
        unsafe {
            IoFreeMdl(self.mdl.as_ptr());
            free(self.address);
        }
    }
}
