//! Interrupts: every one ends in the adapter's service routine at DISPATCH_LEVEL.
#![allow(unsafe_code, reason = "called by NDIS with the adapter as context")]

use core::ffi::c_void;
use core::ptr::null_mut;

use nt::sys::ndis::{
    NDIS_CONNECT_MESSAGE_BASED, NDIS_MINIPORT_INTERRUPT_CHARACTERISTICS,
    NDIS_MINIPORT_INTERRUPT_REVISION_1, NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_MINIPORT_INTERRUPT,
    NDIS_RECEIVE_THROTTLE_PARAMETERS, NDIS_SIZEOF_MINIPORT_INTERRUPT_CHARACTERISTICS_REVISION_1,
};
use nt::sys::types::{BOOLEAN, FALSE, NDIS_HANDLE, TRUE};
use nt::{Passive, Status, sys};

use crate::adapter::Adapter;
use crate::nic::Vectors;

/// Number of the message for changes of the device's configuration.
pub const CONFIG_MESSAGE: u16 = 0;

/// Where a line interrupt is among the messages.
const LINE: usize = 0;

/// A registered interrupt.
#[derive(Debug)]
pub struct Interrupt {
    handle: NDIS_HANDLE,
    vectors: Vectors,
}

// SAFETY: the handle may be used from any processor.
unsafe impl Send for Interrupt {}
// SAFETY: as above.
unsafe impl Sync for Interrupt {}

impl Interrupt {
    /// Connects the adapter's interrupts: from here on, service routines run.
    ///
    /// # Safety
    /// `adapter` stays valid until the interrupt is dropped, and is `ndis`'s adapter, whose registration attributes are set.
    ///
    /// # Errors
    /// What NDIS answers.
    pub unsafe fn connect(
        adapter: *const Adapter,
        ndis: NDIS_HANDLE,
        _: Passive,
    ) -> Result<Self, Status> {
        let mut characteristics = NDIS_MINIPORT_INTERRUPT_CHARACTERISTICS {
            Header: NDIS_OBJECT_HEADER {
                Type: NDIS_OBJECT_TYPE_MINIPORT_INTERRUPT,
                Revision: NDIS_MINIPORT_INTERRUPT_REVISION_1,
                Size: NDIS_SIZEOF_MINIPORT_INTERRUPT_CHARACTERISTICS_REVISION_1,
            },
            InterruptHandler: Some(line_interrupt),
            InterruptDpcHandler: Some(line_dpc),
            DisableInterruptHandler: Some(disable_line),
            EnableInterruptHandler: Some(enable_line),
            MsiSupported: TRUE,
            MsiSyncWithAllMessages: FALSE,
            MessageInterruptHandler: Some(message_interrupt),
            MessageInterruptDpcHandler: Some(message_dpc),
            DisableMessageInterruptHandler: Some(disable_message),
            EnableMessageInterruptHandler: Some(enable_message),
            ..NDIS_MINIPORT_INTERRUPT_CHARACTERISTICS::ZEROED
        };
        let mut handle = null_mut();
        // SAFETY: the caller's promise; the characteristics live across the call.
        let status = unsafe {
            sys::NdisMRegisterInterruptEx(
                ndis,
                adapter.cast_mut().cast(),
                &raw mut characteristics,
                &raw mut handle,
            )
        };
        Status(status).ok()?;
        // SAFETY: filled in by NDIS if the interrupts are messages; the table lives as long as the registration.
        let messages = match unsafe { characteristics.MessageInfoTable.as_ref() } {
            Some(table) if characteristics.InterruptType == NDIS_CONNECT_MESSAGE_BASED => {
                table.MessageCount
            }
            _ => 0,
        };
        let vectors = match messages {
            0 => Vectors::Line,
            // A message for everything.
            1 => Vectors::Messages {
                config: CONFIG_MESSAGE,
                queues: CONFIG_MESSAGE,
            },
            _ => Vectors::Messages {
                config: CONFIG_MESSAGE,
                queues: 1,
            },
        };
        Ok(Self { handle, vectors })
    }

    /// What the device is to use.
    pub fn vectors(&self) -> Vectors {
        self.vectors
    }

    /// Has NDIS run the interrupt DPC on this processor; if it is queued there already, that run serves. IRQL: DISPATCH_LEVEL.
    pub fn queue_dpc(&self) {
        let message = match self.vectors {
            Vectors::Line => 0,
            Vectors::Messages { queues, .. } => u32::from(queues),
        };
        // SAFETY: registered by `connect`, deregistered by `drop`.
        unsafe { sys::NdisMQueueDpc(self.handle, message, processor_bit(), null_mut()) };
    }
}

/// The bit of this processor where NDIS takes 32 of them; those beyond leave it to the first. IRQL: DISPATCH_LEVEL.
fn processor_bit() -> u32 {
    1_u32.checked_shl(nt::irql::processor()).unwrap_or(1)
}

impl Drop for Interrupt {
    /// Waits for interrupt routines and DPCs that run. IRQL: PASSIVE_LEVEL, and the device does not interrupt any more.
    fn drop(&mut self) {
        // SAFETY: registered by `connect`.
        unsafe { sys::NdisMDeregisterInterruptEx(self.handle) }
    }
}

/// # Safety
/// `context` is what `Interrupt::connect` registered.
unsafe fn adapter<'a>(context: NDIS_HANDLE) -> &'a Adapter {
    // SAFETY: the adapter outlives its interrupt.
    unsafe { &*context.cast_const().cast::<Adapter>() }
}

/// Tells NDIS whether to queue the DPC, on this processor.
///
/// # Safety
/// Both pointers are NDIS's.
unsafe fn queue_dpc(queue: *mut BOOLEAN, processors: *mut u32, wanted: bool) {
    // SAFETY: the caller's promise.
    unsafe {
        queue.write(BOOLEAN::from(wanted));
        processors.write(0);
    }
}

/// IRQL: DIRQL. Takes no lock.
unsafe extern "efiapi" fn message_interrupt(
    context: NDIS_HANDLE,
    message: u32,
    queue: *mut BOOLEAN,
    processors: *mut u32,
) -> BOOLEAN {
    // SAFETY: registered so; NDIS's pointers.
    unsafe {
        let wanted =
            adapter(context).on_interrupt(message as usize, message == u32::from(CONFIG_MESSAGE));
        queue_dpc(queue, processors, wanted);
    }
    TRUE
}

/// IRQL: DIRQL. Takes no lock.
unsafe extern "efiapi" fn line_interrupt(
    context: NDIS_HANDLE,
    queue: *mut BOOLEAN,
    processors: *mut u32,
) -> BOOLEAN {
    // SAFETY: registered so; NDIS's pointers.
    unsafe {
        let adapter = adapter(context);
        let cause = adapter.nic().acknowledge_interrupt();
        let ours = cause.is_some();
        let wanted = cause.is_some_and(|cause| adapter.on_interrupt(LINE, cause.config));
        queue_dpc(queue, processors, wanted);
        BOOLEAN::from(ours)
    }
}

/// IRQL: DISPATCH_LEVEL.
unsafe extern "efiapi" fn message_dpc(
    context: NDIS_HANDLE,
    _message: u32,
    _dpc_context: *mut c_void,
    throttle: *mut c_void,
    _reserved: *mut c_void,
) {
    // SAFETY: registered so; NDIS's pointer.
    unsafe { serve(context, throttle) }
}

/// IRQL: DISPATCH_LEVEL.
unsafe extern "efiapi" fn line_dpc(
    context: NDIS_HANDLE,
    _dpc_context: *mut c_void,
    throttle: *mut c_void,
    _reserved: *mut c_void,
) {
    // SAFETY: registered so; NDIS's pointer.
    unsafe { serve(context, throttle) }
}

/// # Safety
/// As of the two above.
unsafe fn serve(context: NDIS_HANDLE, throttle: *mut c_void) {
    // SAFETY: the caller's promise; null if NDIS does not throttle.
    let throttle = unsafe { throttle.cast::<NDIS_RECEIVE_THROTTLE_PARAMETERS>().as_mut() };
    let most = throttle
        .as_ref()
        .map_or(u32::MAX, |throttle| throttle.MaxNblsToIndicate);
    // SAFETY: the caller's promise.
    let adapter = unsafe { adapter(context) };
    if adapter.serve(usize::try_from(most).unwrap_or(usize::MAX)) {
        match throttle {
            Some(throttle) => throttle.MoreNblsPending |= 1,
            None => adapter.serve_soon(),
        }
    }
}

/// IRQL: DIRQL.
unsafe extern "efiapi" fn disable_line(context: NDIS_HANDLE) {
    // SAFETY: registered so.
    unsafe { adapter(context) }.mask_interrupts(LINE, true);
}

/// IRQL: DIRQL.
unsafe extern "efiapi" fn enable_line(context: NDIS_HANDLE) {
    // SAFETY: registered so.
    unsafe { adapter(context) }.mask_interrupts(LINE, false);
}

/// IRQL: DIRQL.
unsafe extern "efiapi" fn disable_message(context: NDIS_HANDLE, message: u32) {
    // SAFETY: registered so.
    unsafe { adapter(context) }.mask_interrupts(message as usize, true);
}

/// IRQL: DIRQL.
unsafe extern "efiapi" fn enable_message(context: NDIS_HANDLE, message: u32) {
    // SAFETY: registered so.
    unsafe { adapter(context) }.mask_interrupts(message as usize, false);
}
