//! NDK as NDIS sees it: opening and closing adapters, and the event of a change of state.
#![allow(unsafe_code, reason = "called by NDIS with the adapter as context")]

use ndkpi::{NDIS_OPEN_NDK_ADAPTER_PARAMETERS, NDK_ADAPTER};
use nt::sys::ndis::{
    NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_DEFAULT,
    NDIS_SIZEOF_NET_PNP_EVENT_NOTIFICATION_REVISION_2, NET_PNP_EVENT, NET_PNP_EVENT_NOTIFICATION,
    NET_PNP_EVENT_NOTIFICATION_REVISION_2, NetEventNDKDisable, NetEventNDKEnable,
};
use nt::sys::status::{NDIS_STATUS_ADAPTER_NOT_READY, NDIS_STATUS_SUCCESS};
use nt::sys::types::{NDIS_HANDLE, NDIS_STATUS};
use nt::{Passive, Status, debug_print, sys};

use super::adapter;
use crate::ndk::provider;

/// IRQL: PASSIVE_LEVEL.
pub unsafe extern "efiapi" fn open(
    context: ndkpi::NDIS_HANDLE,
    parameters: *mut NDIS_OPEN_NDK_ADAPTER_PARAMETERS,
    out: *mut *mut NDK_ADAPTER,
) -> NDIS_STATUS {
    // SAFETY: NDIS's pointers; the adapter is not halted before its NDK adapters are closed.
    unsafe {
        let adapter = adapter(context);
        if adapter.is_removed() {
            return NDIS_STATUS_ADAPTER_NOT_READY;
        }
        provider::open(adapter.port(), parameters, out)
    }
}

/// IRQL: PASSIVE_LEVEL.
pub unsafe extern "efiapi" fn close(context: ndkpi::NDIS_HANDLE, ndk_adapter: *mut NDK_ADAPTER) {
    // SAFETY: NDIS's pointers; documented to be called at PASSIVE_LEVEL.
    unsafe { provider::close(adapter(context).port(), ndk_adapter, Passive::assume()) }
}

/// Tells NDIS that NDK is enabled or disabled. That of disabling returns when every open NDK adapter is closed.
///
/// Decision X-45: a page of NDIS reserves NdisMNetPnPEvent for port events; those of NDK, which ask for it, are the more precise.
pub fn raise_event(adapter: NDIS_HANDLE, enabled: bool, _: Passive) {
    let mut event = NET_PNP_EVENT_NOTIFICATION {
        Header: NDIS_OBJECT_HEADER {
            Type: NDIS_OBJECT_TYPE_DEFAULT,
            Revision: NET_PNP_EVENT_NOTIFICATION_REVISION_2,
            Size: NDIS_SIZEOF_NET_PNP_EVENT_NOTIFICATION_REVISION_2,
        },
        NetPnPEvent: NET_PNP_EVENT {
            NetEvent: if enabled {
                NetEventNDKEnable
            } else {
                NetEventNDKDisable
            },
            ..NET_PNP_EVENT::ZEROED
        },
        ..NET_PNP_EVENT_NOTIFICATION::ZEROED
    };
    // SAFETY: the adapter's own handle; the event lives across the call; the token says this is PASSIVE_LEVEL.
    let status = unsafe { sys::NdisMNetPnPEvent(adapter, &raw mut event) };
    if status != NDIS_STATUS_SUCCESS {
        debug_print!(Warning, "NDK event: {}", Status(status));
    }
}
