//! Memory as the device sees it: by logical addresses, and only what is mapped for DMA.

use std::cell::Cell;
use std::fmt;
use std::iter::FusedIterator;

use vm_memory::bitmap::BS;
use vm_memory::guest_memory::{Error, GuestMemorySliceIterator, Result};
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryMmap, Permissions, VolatileSlice};

use crate::memory::{Ended, Ram};

/// An access that is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    address: u64,
    length: usize,
    write: bool,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} bytes at {:#x}",
            if self.write { "write" } else { "read" },
            self.length,
            self.address
        )
    }
}

/// A machine's memory for the duration of one piece of the device's work. virtio-queue says of an access that it
/// failed, not which: the first one is remembered here.
pub(super) struct DmaMemory<'a> {
    ram: &'a Ram,
    fault: Cell<Option<Fault>>,
}

impl<'a> DmaMemory<'a> {
    pub(super) fn new(ram: &'a Ram) -> Self {
        DmaMemory {
            ram,
            fault: Cell::new(None),
        }
    }

    /// The first access that was not allowed.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault.get()
    }

    /// The mapping that allowed it once, if that has ended.
    pub(super) fn ended(&self, fault: Fault) -> Option<Ended> {
        self.ram.dma_ended(fault.address, fault.length, fault.write)
    }

    /// Whether the driver has given the device a physical address.
    pub(super) fn is_physical(&self, fault: Fault) -> bool {
        self.ram.is_physical(fault.address)
    }

    /// Where a piece of memory is in this process, if the device may access it so.
    #[inline]
    fn pointer(&self, address: u64, length: usize, write: bool) -> Option<*mut u8> {
        let pointer = self.ram.device_ptr(address, length);
        match pointer {
            Some(pointer) if self.ram.dma_allowed(address, length, write) => Some(pointer),
            _ => {
                if self.fault.get().is_none() {
                    self.fault.set(Some(Fault {
                        address,
                        length,
                        write,
                    }));
                }
                None
            }
        }
    }

    /// Lets `f` read a piece of memory.
    #[inline]
    pub(super) fn read<R>(
        &self,
        address: u64,
        length: usize,
        f: impl FnOnce(&[u8]) -> R,
    ) -> Option<R> {
        let pointer = self.pointer(address, length, false)?;
        // SAFETY: `length` bytes of the machine's memory, which stays mapped; nothing else runs while `f` does, so
        // nobody changes them.
        Some(f(unsafe { std::slice::from_raw_parts(pointer, length) }))
    }

    /// Copies bytes to memory; false if the device may not write there.
    #[inline]
    pub(super) fn write(&self, address: u64, bytes: &[u8]) -> bool {
        let Some(pointer) = self.pointer(address, bytes.len(), true) else {
            return false;
        };
        // SAFETY: as in `read`; `bytes` is the simulator's own memory, no part of the machine's.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), pointer, bytes.len()) };
        true
    }
}

/// The one slice that a piece of memory is: it is contiguous for devices.
pub(super) struct Whole<'a>(Option<Result<VolatileSlice<'a, ()>>>);

impl<'a> Iterator for Whole<'a> {
    type Item = Result<VolatileSlice<'a, ()>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.0.take()
    }
}

impl FusedIterator for Whole<'_> {}

impl<'a> GuestMemorySliceIterator<'a, ()> for Whole<'a> {}

/// As `Permissions::has_write`, which is not inlined.
#[inline]
fn writes(access: Permissions) -> bool {
    access as u8 & Permissions::Write as u8 != 0
}

impl GuestMemory for DmaMemory<'_> {
    type PhysicalMemory = GuestMemoryMmap<()>;
    type Bitmap = ();

    fn check_range(&self, address: GuestAddress, count: usize, access: Permissions) -> bool {
        self.pointer(address.0, count, writes(access)).is_some()
    }

    #[inline]
    fn get_slices<'b>(
        &'b self,
        address: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Result<impl GuestMemorySliceIterator<'b, BS<'b, Self::Bitmap>>> {
        if count == 0 {
            return Ok(Whole(None));
        }
        match self.pointer(address.0, count, writes(access)) {
            // SAFETY: `count` bytes of the machine's memory, which stays mapped as long as the borrow of it.
            Some(pointer) => Ok(Whole(Some(Ok(unsafe {
                VolatileSlice::new(pointer, count)
            })))),
            None => Err(Error::InvalidGuestAddress(address)),
        }
    }
}
