//! Calls on another processor.

use super::super::callbacks;
use super::context;
use ndis_sys::imports::{KeInitializeDpc, KeInsertQueueDpc, KeSetTargetProcessorDpcEx};
use ndis_sys::wdm::{KDPC, PROCESSOR_NUMBER};
use ndkpi::c_void;
use std::cell::UnsafeCell;
use std::ptr::null_mut;

/// A DPC that does something with a side.
pub(in crate::spin) struct Elsewhere(Box<UnsafeCell<KDPC>>);

impl Elsewhere {
    /// Kernel code.
    pub(in crate::spin) fn new() -> Elsewhere {
        Elsewhere(Box::new(UnsafeCell::new(KDPC::ZEROED)))
    }

    /// Binds it to a side and to a processor of its machine. Kernel code; it is not queued.
    pub(in crate::spin) fn bind(&self, side: usize, processor: u8) {
        let mut number = PROCESSOR_NUMBER {
            Number: processor,
            ..PROCESSOR_NUMBER::ZEROED
        };
        // SAFETY: it is in a box and not queued.
        unsafe {
            KeInitializeDpc(self.0.get(), on_dpc, context(side as u64));
            KeSetTargetProcessorDpcEx(self.0.get(), &raw mut number);
        }
    }

    /// Queues it. Kernel code.
    pub(in crate::spin) fn queue(&self) {
        // SAFETY: bound, and it stays until its machine has run what was queued.
        unsafe { KeInsertQueueDpc(self.0.get(), null_mut(), null_mut()) };
    }
}

unsafe extern "efiapi" fn on_dpc(
    _: *mut KDPC,
    context: *mut c_void,
    _: *mut c_void,
    _: *mut c_void,
) {
    callbacks::elsewhere(context.addr());
}
