//! Device registers mapped into memory.

use core::ptr::NonNull;

use crate::status::Status;
use crate::sys;
use crate::sys::status::STATUS_INSUFFICIENT_RESOURCES;
use crate::sys::wdm::{PAGE_NOCACHE, PAGE_READWRITE};

/// A mapped range of device registers. Every access is one volatile load or store of its width.
///
/// A read outside the range, or not aligned to its width, gives all ones, as from a device that is not there; such a write goes nowhere.
#[derive(Debug)]
pub struct Mmio {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: registers can be reached from any processor; races between accesses are the device's semantics, not memory's.
unsafe impl Send for Mmio {}
// SAFETY: as above.
unsafe impl Sync for Mmio {}

macro_rules! access {
    ($($read:ident $write:ident $ty:ty),*) => { $(
        /// Reads a register, little-endian as PCI is. IRQL: any.
        pub fn $read(&self, offset: usize) -> $ty {
            match self.register::<$ty>(offset) {
                // SAFETY: inside the mapping and aligned, see `register`.
                Some(register) => <$ty>::from_le(unsafe { register.read_volatile() }),
                None => <$ty>::MAX,
            }
        }

        /// Writes a register, little-endian as PCI is. IRQL: any.
        pub fn $write(&self, offset: usize, value: $ty) {
            if let Some(register) = self.register::<$ty>(offset) {
                // SAFETY: inside the mapping and aligned, see `register`.
                unsafe { register.write_volatile(value.to_le()) }
            }
        }
    )* };
}

impl Mmio {
    /// Maps `len` bytes of registers at a physical address (not necessarily that of a page), not cached.
    ///
    /// # Safety
    /// The range is registers assigned to this driver's device (a translated memory resource). IRQL: <= DISPATCH_LEVEL.
    ///
    /// # Errors
    /// STATUS_INSUFFICIENT_RESOURCES.
    pub unsafe fn map(physical: u64, len: usize) -> Result<Self, Status> {
        // SAFETY: the range is the caller's promise.
        let base = unsafe {
            sys::MmMapIoSpaceEx(physical.cast_signed(), len, PAGE_READWRITE | PAGE_NOCACHE)
        };
        let base = NonNull::new(base.cast::<u8>()).ok_or(Status(STATUS_INSUFFICIENT_RESOURCES))?;
        Ok(Self { base, len })
    }

    /// Length of the range, bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the range is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn register<T>(&self, offset: usize) -> Option<*mut T> {
        let end = offset.checked_add(size_of::<T>())?;
        if end > self.len {
            return None;
        }
        // SAFETY: the offset is inside the mapping.
        let register = unsafe { self.base.as_ptr().add(offset) }.cast::<T>();
        register.is_aligned().then_some(register)
    }

    access!(read_u8 write_u8 u8, read_u16 write_u16 u16, read_u32 write_u32 u32);

    /// Writes a 64-bit register as two 32-bit ones, low half first, as virtio wants it. IRQL: any.
    pub fn write_u64_halves(&self, offset: usize, value: u64) {
        self.write_u32(offset, value as u32);
        self.write_u32(offset.saturating_add(4), (value >> 32) as u32);
    }
}

impl Drop for Mmio {
    /// IRQL: <= DISPATCH_LEVEL.
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length, and nobody has a pointer into it.
        unsafe { sys::MmUnmapIoSpace(self.base.as_ptr().cast(), self.len) }
    }
}
