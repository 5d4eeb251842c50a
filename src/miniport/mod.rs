//! The miniport: NDIS's view of the driver. The handlers here only turn NDIS's contexts and pointers into ours.
#![allow(unsafe_code, reason = "called by NDIS with its pointers")]

pub mod attributes;
pub mod events;
pub mod filter;
pub mod gate;
pub mod initialize;
pub mod interrupt;
pub mod link;
pub mod ndk;
mod oid;
pub mod receive;
pub mod send;
pub mod settings;
pub mod statistics;

use core::ffi::c_void;

use nt::sys;
use nt::sys::ndis::*;
use nt::sys::status::{NDIS_STATUS_PENDING, NDIS_STATUS_SUCCESS};
use nt::sys::types::{NDIS_HANDLE, NDIS_PORT_NUMBER, NDIS_STATUS};
use nt::{Passive, debug_print};

use crate::adapter::Adapter;
use crate::driver::{self, Driver};
use crate::ndk::provider;
use crate::trace::AdapterNotInitialized;

/// Version of the driver, as NDIS and the INF know it.
pub const MAJOR_DRIVER_VERSION: u8 = 0;
/// Version of the driver, as NDIS and the INF know it.
pub const MINOR_DRIVER_VERSION: u8 = 1;

/// What the driver registers with NDIS: a 6.80 miniport.
pub fn characteristics() -> NDIS_MINIPORT_DRIVER_CHARACTERISTICS {
    NDIS_MINIPORT_DRIVER_CHARACTERISTICS {
        Header: NDIS_OBJECT_HEADER {
            Type: NDIS_OBJECT_TYPE_MINIPORT_DRIVER_CHARACTERISTICS,
            Revision: NDIS_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_3,
            Size: NDIS_SIZEOF_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_3,
        },
        MajorNdisVersion: 6,
        MinorNdisVersion: 80,
        MajorDriverVersion: MAJOR_DRIVER_VERSION,
        MinorDriverVersion: MINOR_DRIVER_VERSION,
        Flags: 0,
        SetOptionsHandler: Some(set_options),
        InitializeHandlerEx: Some(initialize),
        HaltHandlerEx: Some(halt),
        UnloadHandler: Some(driver::unload),
        PauseHandler: Some(pause),
        RestartHandler: Some(restart),
        OidRequestHandler: Some(oid_request),
        SendNetBufferListsHandler: Some(send_net_buffer_lists),
        ReturnNetBufferListsHandler: Some(return_net_buffer_lists),
        CancelSendHandler: Some(cancel_send),
        // A driver for Windows Server must not have NDIS look for hangs and reset it (page "Miniport Adapter Check-for-Hang and Reset
        // Operations"); a device that fails is restarted by the driver itself, see `adapter::standstill`.
        CheckForHangHandlerEx: None,
        ResetHandlerEx: None,
        DevicePnPEventNotifyHandler: Some(device_pnp_event_notify),
        ShutdownHandlerEx: Some(shutdown),
        CancelOidRequestHandler: Some(cancel_oid_request),
        DirectOidRequestHandler: Some(direct_oid_request),
        CancelDirectOidRequestHandler: Some(cancel_oid_request),
        SynchronousOidRequestHandler: None,
    }
}

/// # Safety
/// `context` is an adapter that is initialised and not halted.
unsafe fn adapter<'a>(context: *mut c_void) -> &'a Adapter {
    // SAFETY: the caller's promise.
    unsafe { &*context.cast_const().cast::<Adapter>() }
}

/// IRQL: PASSIVE_LEVEL, inside NdisMRegisterMiniportDriver.
unsafe extern "efiapi" fn set_options(driver: NDIS_HANDLE, _context: NDIS_HANDLE) -> NDIS_STATUS {
    let mut provider = provider::characteristics(ndk::open, ndk::close);
    // SAFETY: NDIS's handle; the header says which handlers these are.
    unsafe { sys::NdisSetOptionalHandlers(driver, (&raw mut provider).cast()) }
}

/// IRQL: PASSIVE_LEVEL.
unsafe extern "efiapi" fn initialize(
    handle: NDIS_HANDLE,
    context: NDIS_HANDLE,
    parameters: *mut NDIS_MINIPORT_INIT_PARAMETERS,
) -> NDIS_STATUS {
    // SAFETY: the context is the driver's, see `driver::enter`; NDIS's parameters; documented to be called at PASSIVE_LEVEL.
    let (trace, result) = unsafe {
        let driver = &*context.cast_const().cast::<Driver>();
        let parameters = &*parameters;
        let trace = driver.trace(parameters.NetLuid.Value);
        let passive = Passive::assume();
        let result = initialize::initialize(handle, driver, parameters, &trace, passive);
        (trace, result)
    };
    match result {
        Ok(()) => NDIS_STATUS_SUCCESS,
        Err(status) => {
            debug_print!(Error, "adapter does not start: {status}");
            trace.write(|adapter| AdapterNotInitialized { adapter, status });
            status.0
        }
    }
}

/// IRQL: PASSIVE_LEVEL.
unsafe extern "efiapi" fn halt(context: NDIS_HANDLE, _action: NDIS_HALT_ACTION) {
    // SAFETY: NDIS halts an adapter once, paused; documented to be called at PASSIVE_LEVEL.
    unsafe { initialize::halt(context, Passive::assume()) }
}

/// Closes the Ethernet path; RDMA goes on (decision X-49). IRQL: PASSIVE_LEVEL.
unsafe extern "efiapi" fn pause(
    context: NDIS_HANDLE,
    _parameters: *mut NDIS_MINIPORT_PAUSE_PARAMETERS,
) -> NDIS_STATUS {
    // SAFETY: NDIS's context.
    let adapter = unsafe { adapter(context) };
    // One more inside keeps the pause from being completed before the waiting frames are given up.
    let inside = adapter.gate().enter();
    let empty = adapter.gate().close();
    adapter.abort_all();
    if inside {
        if adapter.gate().leave(1) {
            return NDIS_STATUS_SUCCESS;
        }
    } else if empty {
        return NDIS_STATUS_SUCCESS;
    }
    // Whoever leaves last completes it.
    NDIS_STATUS_PENDING
}

/// Opens the Ethernet path. IRQL: PASSIVE_LEVEL.
unsafe extern "efiapi" fn restart(
    context: NDIS_HANDLE,
    _parameters: *mut NDIS_MINIPORT_RESTART_PARAMETERS,
) -> NDIS_STATUS {
    // SAFETY: NDIS's context.
    unsafe { adapter(context) }.gate().open();
    NDIS_STATUS_SUCCESS
}

/// IRQL: PASSIVE_LEVEL.
unsafe extern "efiapi" fn oid_request(
    context: NDIS_HANDLE,
    request: *mut NDIS_OID_REQUEST,
) -> NDIS_STATUS {
    // SAFETY: NDIS's context and request.
    unsafe { oid::request(adapter(context), &mut *request) }
}

/// IRQL: <= DISPATCH_LEVEL.
unsafe extern "efiapi" fn direct_oid_request(
    context: NDIS_HANDLE,
    request: *mut NDIS_OID_REQUEST,
) -> NDIS_STATUS {
    // SAFETY: NDIS's context and request.
    unsafe { oid::direct_request(adapter(context), &mut *request) }
}

/// There is never a pending request. IRQL: <= DISPATCH_LEVEL.
unsafe extern "efiapi" fn cancel_oid_request(_context: NDIS_HANDLE, _id: *mut c_void) {}

/// IRQL: <= DISPATCH_LEVEL.
unsafe extern "efiapi" fn send_net_buffer_lists(
    context: NDIS_HANDLE,
    lists: *mut NET_BUFFER_LIST,
    _port: NDIS_PORT_NUMBER,
    _flags: u32,
) {
    // SAFETY: NDIS's context and lists.
    unsafe { adapter(context).send(lists) }
}

/// IRQL: <= DISPATCH_LEVEL.
unsafe extern "efiapi" fn return_net_buffer_lists(
    context: NDIS_HANDLE,
    lists: *mut NET_BUFFER_LIST,
    _flags: u32,
) {
    // SAFETY: NDIS's context; lists the adapter indicated.
    unsafe { adapter(context).give_back(lists) }
}

/// IRQL: <= DISPATCH_LEVEL.
unsafe extern "efiapi" fn cancel_send(context: NDIS_HANDLE, id: *mut c_void) {
    // SAFETY: NDIS's context.
    unsafe { adapter(context) }.cancel_sends(id);
}

/// IRQL: PASSIVE_LEVEL.
unsafe extern "efiapi" fn device_pnp_event_notify(
    context: NDIS_HANDLE,
    event: *mut NET_DEVICE_PNP_EVENT,
) {
    // SAFETY: NDIS's context and event; documented to be called at PASSIVE_LEVEL.
    unsafe {
        if (*event).DevicePnPEvent == NdisDevicePnPEventSurpriseRemoved {
            adapter(context).remove(Passive::assume());
        }
    }
}

/// The system goes down, or has crashed: the device must leave memory alone. IRQL: any.
unsafe extern "efiapi" fn shutdown(context: NDIS_HANDLE, action: NDIS_SHUTDOWN_ACTION) {
    if action == NdisShutdownPowerOff {
        // SAFETY: NDIS's context; with this action the level is PASSIVE_LEVEL.
        unsafe { adapter(context).nic().stop(Passive::assume()) };
    }
    // After a bug check no lock may be taken; the adapter did not ask to be called then (its registration flags), so nothing is lost.
}
