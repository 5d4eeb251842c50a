//! NDIS events: notification events in a structure of NDIS.

use ndis_sys::ndis::NDIS_EVENT;
use ndis_sys::types::BOOLEAN;
use ndis_sys::wdm::KEVENT;

use super::ke::wait::{self, kind};
use crate::verifier::cross;
use crate::world::context;
use crate::world::wait::{Outcome, WaitFor, block};

exports! {
    "ndis.sys";
    NdisInitializeEvent: PASSIVE..=HIGH,
    NdisSetEvent: PASSIVE..=DISPATCH,
    NdisResetEvent: PASSIVE..=DISPATCH,
    NdisWaitEvent: PASSIVE..=PASSIVE,
}

const EVENT: &[u8] = &[kind::NOTIFICATION_EVENT];

/// Initialises an event, not signalled.
///
/// # Safety
/// `Event` must be valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn NdisInitializeEvent(Event: *mut NDIS_EVENT) {
    let _crossing = cross(&functions::NdisInitializeEvent);
    // SAFETY: promised by the caller.
    unsafe {
        wait::initialize_header(
            Event.cast(),
            kind::NOTIFICATION_EVENT,
            size_of::<KEVENT>(),
            0,
        );
    }
}

/// Signals an event.
///
/// # Safety
/// `Event` must point at an initialised event.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn NdisSetEvent(Event: *mut NDIS_EVENT) {
    let _crossing = cross(&functions::NdisSetEvent);
    // SAFETY: promised by the caller.
    unsafe {
        wait::check_initialized(Event.cast(), EVENT, "NdisSetEvent");
        wait::signal(Event.cast(), 1);
    }
}

/// Makes an event not signalled.
///
/// # Safety
/// `Event` must point at an initialised event.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn NdisResetEvent(Event: *mut NDIS_EVENT) {
    let _crossing = cross(&functions::NdisResetEvent);
    // SAFETY: promised by the caller.
    unsafe {
        wait::check_initialized(Event.cast(), EVENT, "NdisResetEvent");
        wait::signal(Event.cast(), 0);
    }
}

/// Waits for an event; false if it was not signalled in time.
///
/// # Safety
/// `Event` must point at an initialised event that stays until the wait is over.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn NdisWaitEvent(Event: *mut NDIS_EVENT, MsToWait: u32) -> BOOLEAN {
    let _crossing = cross(&functions::NdisWaitEvent);
    // SAFETY: promised by the caller.
    unsafe {
        wait::check_initialized(Event.cast(), EVENT, "NdisWaitEvent");
        if (*Event).Event.Header.SignalState > 0 {
            return 1;
        }
    }
    let deadline = (MsToWait != 0).then(|| context::core().now() + u64::from(MsToWait) * 1_000_000);
    let story = format!("NdisWaitEvent waits for the event at {Event:p}");
    let outcome = block(WaitFor::Object(Event as usize), deadline, story);
    BOOLEAN::from(outcome == Outcome::Satisfied)
}
