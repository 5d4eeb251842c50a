//! Opening and closing NDK adapters: what NDIS calls (pages OPEN_NDK_ADAPTER_HANDLER,
//! CLOSE_NDK_ADAPTER_HANDLER).
#![allow(unsafe_code, reason = "called by NDIS with its pointers")]

use ndis_sys::status::{
    NDIS_STATUS_ADAPTER_NOT_READY, NDIS_STATUS_BAD_VERSION, NDIS_STATUS_NOT_SUPPORTED,
    NDIS_STATUS_RESOURCES, NDIS_STATUS_SUCCESS, STATUS_PENDING,
};
use ndis_sys::types::NDIS_STATUS;
use ndkpi::{
    CLOSE_NDK_ADAPTER_HANDLER, NDIS_NDK_PROVIDER_CHARACTERISTICS,
    NDIS_NDK_PROVIDER_CHARACTERISTICS_REVISION_1, NDIS_OBJECT_HEADER,
    NDIS_OBJECT_TYPE_NDK_PROVIDER_CHARACTERISTICS, NDIS_OPEN_NDK_ADAPTER_PARAMETERS,
    NDIS_SIZEOF_NDK_PROVIDER_CHARACTERISTICS_REVISION_1, NDK_ADAPTER, NDK_VERSION,
    OPEN_NDK_ADAPTER_HANDLER,
};
use nt::{NoMemory, Passive, Shared, Status};

use super::adapter::{self, Adapter};
use super::limits::VERSIONS;
use super::object::{self, Object};
use super::port::Port;
use crate::trace::{NdkAdapterClosed, NdkAdapterOpened, NdkAdapterRefused};

/// What the miniport registers with NdisSetOptionalHandlers; the handlers are the miniport's, because only it knows its contexts.
///
/// Decision X-46: the driver fills the header in.
pub fn characteristics(
    open: OPEN_NDK_ADAPTER_HANDLER,
    close: CLOSE_NDK_ADAPTER_HANDLER,
) -> NDIS_NDK_PROVIDER_CHARACTERISTICS {
    NDIS_NDK_PROVIDER_CHARACTERISTICS {
        Header: NDIS_OBJECT_HEADER {
            Type: NDIS_OBJECT_TYPE_NDK_PROVIDER_CHARACTERISTICS,
            Revision: NDIS_NDK_PROVIDER_CHARACTERISTICS_REVISION_1,
            Size: NDIS_SIZEOF_NDK_PROVIDER_CHARACTERISTICS_REVISION_1,
        },
        Flags: 0,
        OpenNDKAdapterHandler: Some(open),
        CloseNDKAdapterHandler: Some(close),
    }
}

/// The version at which an adapter works that is opened with `wanted`: the highest minor of that major.
fn negotiate(wanted: NDK_VERSION) -> Option<NDK_VERSION> {
    VERSIONS
        .into_iter()
        .find(|offered| offered.Major == wanted.Major && wanted.Minor <= offered.Minor)
}

/// OpenNDKAdapterHandler. IRQL: PASSIVE_LEVEL.
///
/// Decisions: the port being disabled is looked at first, then the version; a NIC switch or virtual port other than the default is
/// NDIS_STATUS_NOT_SUPPORTED (decision X-43): this NIC has no switch.
///
/// # Safety
/// `parameters` and `out` are NDIS's, `port` stays valid until the adapter is closed.
pub unsafe fn open(
    port: &Port,
    parameters: *const NDIS_OPEN_NDK_ADAPTER_PARAMETERS,
    out: *mut *mut NDK_ADAPTER,
) -> NDIS_STATUS {
    // SAFETY: by the contract of this function. The driver is built for NDIS 6.50 or later, so all three fields are there.
    let parameters = unsafe { *parameters };
    if !port.opens().try_enter() {
        return refused(port, NDIS_STATUS_ADAPTER_NOT_READY);
    }
    // Looked at from inside: whoever disables the port afterwards, and waits until every adapter is closed, waits for this one too.
    if !port.is_enabled() {
        port.opens().leave();
        return refused(port, NDIS_STATUS_ADAPTER_NOT_READY);
    }
    let result = match negotiate(parameters.Version) {
        None => Err(NDIS_STATUS_BAD_VERSION),
        Some(_) if parameters.SwitchId != 0 || parameters.VPortId != 0 => {
            Err(NDIS_STATUS_NOT_SUPPORTED)
        }
        Some(version) => match Adapter::try_new() {
            // SAFETY: the port outlives the adapter by the contract of this function.
            Ok(body) => unsafe { Object::try_new(port.into(), version, body) }
                .map_err(|_| NDIS_STATUS_RESOURCES),
            Err(NoMemory) => Err(NDIS_STATUS_RESOURCES),
        },
    };
    match result {
        Ok(adapter) => {
            // SAFETY: by the contract of this function; the adapter is new and alive.
            unsafe { out.write(adapter.as_ref().as_raw()) };
            port.trace().write(|adapter| NdkAdapterOpened {
                adapter,
                major: parameters.Version.Major,
                minor: parameters.Version.Minor,
            });
            NDIS_STATUS_SUCCESS
        }
        Err(status) => {
            port.opens().leave();
            refused(port, status)
        }
    }
}

fn refused(port: &Port, status: NDIS_STATUS) -> NDIS_STATUS {
    port.trace().write(|adapter| NdkAdapterRefused {
        adapter,
        status: Status(status),
    });
    status
}

/// CloseNDKAdapterHandler. Blocks until every callback of every descendant has returned. IRQL: PASSIVE_LEVEL.
///
/// Decision X-04: NDIS calls it, and it is the only way to close an adapter, whose dispatch table has no close.
///
/// # Safety
/// `adapter` was opened over `port` and is closed once, not from inside a callback.
pub unsafe fn close(port: &Port, adapter: *mut NDK_ADAPTER, passive: Passive) {
    // SAFETY: by the contract of this function.
    let closed = unsafe { Object::<Adapter>::from_raw(adapter) }.closed_event();
    let context = Shared::as_ptr(&closed).cast_mut().cast();
    // SAFETY: by the contract of this function; `closed` keeps the event until it has been waited for.
    let status = unsafe { object::close::<Adapter>(adapter.cast(), adapter::closed, context) };
    if status == STATUS_PENDING {
        closed.wait(passive);
    }
    port.trace().write(|adapter| NdkAdapterClosed { adapter });
    port.opens().leave();
}
