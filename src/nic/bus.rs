//! A PCI function: configuration space and memory resources.
#![allow(
    unsafe_code,
    reason = "configuration space is reached through NDIS, registers by mapping physical addresses"
)]

use arrayvec::ArrayVec;
use nt::sys::types::NDIS_HANDLE;
use nt::sys::wdm::{
    CM_PARTIAL_RESOURCE_DESCRIPTOR, CM_PARTIAL_RESOURCE_LIST, CM_RESOURCE_INTERRUPT_MESSAGE,
    CmResourceTypeInterrupt, CmResourceTypeMemory, PCI_WHICHSPACE_CONFIG,
};
use nt::{Mmio, Status, sys};

/// Offset of the command register, and its bit that lets the function master the bus.
const COMMAND: u32 = 0x04;
const BUS_MASTER: u16 = 0x4;

/// The function an adapter drives.
#[derive(Debug)]
pub struct Function {
    adapter: NDIS_HANDLE,
    memory: ArrayVec<Memory, 6>,
    /// Interrupt messages the function was given; none: a line interrupt.
    messages: u32,
}

// SAFETY: the NDIS handle may be used from any processor for the functions called with it.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

/// A memory resource: where a BAR ended up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Memory {
    start: u64,
    len: u32,
}

impl Function {
    /// The function of an adapter with its resources, as `MiniportInitializeEx` gets them.
    ///
    /// # Safety
    /// `adapter` is the NDIS handle of the adapter that is being initialised and outlives this; `resources` is null or its list of
    /// translated resources.
    pub unsafe fn new(adapter: NDIS_HANDLE, resources: *const CM_PARTIAL_RESOURCE_LIST) -> Self {
        let mut function = Self {
            adapter,
            memory: ArrayVec::new(),
            messages: 0,
        };
        // SAFETY: null or a valid list, of which `Count` descriptors are there.
        let descriptors: &[CM_PARTIAL_RESOURCE_DESCRIPTOR] = unsafe {
            match resources.as_ref() {
                Some(list) => core::slice::from_raw_parts(
                    (&raw const (*resources).PartialDescriptors).cast(),
                    list.Count as usize,
                ),
                None => &[],
            }
        };
        for descriptor in descriptors {
            if descriptor.Type == CmResourceTypeMemory {
                // SAFETY: the union holds a range of memory, as the type says.
                let range = unsafe { descriptor.u.Memory };
                // A PCI function has six BARs; what does not fit is not a BAR.
                let _ = function.memory.try_push(Memory {
                    start: { range.Start }.cast_unsigned(),
                    len: range.Length,
                });
            } else if descriptor.Type == CmResourceTypeInterrupt
                && descriptor.Flags & CM_RESOURCE_INTERRUPT_MESSAGE != 0
            {
                function.messages += 1;
            }
        }
        function
    }

    /// Interrupt messages the function was given; zero: a line interrupt.
    pub fn messages(&self) -> u32 {
        self.messages
    }

    /// Reads from configuration space; what cannot be read is zero. IRQL: any.
    pub fn read<const N: usize>(&self, offset: u32) -> [u8; N] {
        let mut bytes = [0; N];
        // SAFETY: the buffer has N bytes; the handle is valid by the promise given to `new`.
        unsafe {
            sys::NdisMGetBusData(
                self.adapter,
                PCI_WHICHSPACE_CONFIG,
                offset,
                bytes.as_mut_ptr().cast(),
                N as u32,
            );
        }
        bytes
    }

    /// Lets the function master the bus, or not. IRQL: any.
    pub fn set_bus_master(&self, on: bool) {
        let before = u16::from_le_bytes(self.read(COMMAND));
        let after = if on {
            before | BUS_MASTER
        } else {
            before & !BUS_MASTER
        };
        if after != before {
            let mut bytes = after.to_le_bytes();
            // SAFETY: two bytes; the handle is valid by the promise given to `new`.
            unsafe {
                sys::NdisMSetBusData(
                    self.adapter,
                    PCI_WHICHSPACE_CONFIG,
                    COMMAND,
                    bytes.as_mut_ptr().cast(),
                    2,
                );
            }
        }
    }

    /// Maps a part of a BAR that is set to `bar`: `None` if the part is not inside the function's resources. IRQL: <= DISPATCH_LEVEL.
    ///
    /// # Errors
    /// No system page table entries.
    pub fn map(&self, bar: u64, offset: u32, len: u32) -> Option<Result<Mmio, Status>> {
        // On x64 the translated address of memory is the raw one, so the BAR's value names the resource.
        let memory = self.memory.iter().find(|memory| memory.start == bar)?;
        let end = offset.checked_add(len)?;
        if len == 0 || end > memory.len {
            return None;
        }
        let physical = memory.start.checked_add(u64::from(offset))?;
        // SAFETY: inside a memory resource of this driver's device.
        Some(unsafe { Mmio::map(physical, len as usize) })
    }
}
