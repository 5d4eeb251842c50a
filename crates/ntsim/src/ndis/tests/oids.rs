//! The test miniport's answers to OID requests.

use std::ptr::null_mut;

use ndis_sys::imports::*;
use ndis_sys::ndis::*;
use ndis_sys::oid::*;
use ndis_sys::status::*;
use ndis_sys::types::*;

use super::fault::{Fault, KEEP_OIDS, OIDS_INSIDE, PEND_OIDS, RESETS, is, log};
use super::miniport::{header, of};

pub(super) unsafe extern "efiapi" fn cancel_oid(context: NDIS_HANDLE, id: *mut c_void) {
    log("cancel OID");
    let adapter = of(context);
    let request = adapter.pending_oid.get();
    // SAFETY: NDIS's request, which is pending if it was kept.
    unsafe {
        if KEEP_OIDS.get() && (*request).RequestId == id {
            NdisMOidRequestComplete(adapter.handle, request, NDIS_STATUS_REQUEST_ABORTED);
        }
    }
}

pub(super) unsafe extern "efiapi" fn oid_request(
    context: NDIS_HANDLE,
    request: *mut NDIS_OID_REQUEST,
) -> NDIS_STATUS {
    let adapter = of(context);
    // SAFETY: NDIS's request; calls as documented, or wrong on purpose.
    unsafe {
        if is(Fault::PowerKeepsTimer) && (*request).DATA.Oid == OID_PNP_SET_POWER {
            NdisSetTimerObject(adapter.timer.get(), -1_000_000_000, 0, null_mut());
        }
        if is(Fault::PnpEventInOid) {
            let mut notification = NET_PNP_EVENT_NOTIFICATION {
                Header: header(
                    NDIS_OBJECT_TYPE_DEFAULT,
                    NET_PNP_EVENT_NOTIFICATION_REVISION_1,
                    NDIS_SIZEOF_NET_PNP_EVENT_NOTIFICATION_REVISION_1,
                ),
                ..Default::default()
            };
            notification.NetPnPEvent.NetEvent = NetEventPortActivation;
            NdisMNetPnPEvent(adapter.handle, &raw mut notification);
        }
        if adapter.removed.get() {
            return NDIS_STATUS_NOT_ACCEPTED;
        }
        if KEEP_OIDS.get() {
            adapter.pending_oid.set(request);
            return NDIS_STATUS_PENDING;
        }
        if PEND_OIDS.get() {
            let (inside, most) = OIDS_INSIDE.get();
            OIDS_INSIDE.set((inside + 1, most.max(inside + 1)));
            adapter.pending_oid.set(request);
            NdisQueueIoWorkItem(adapter.work, complete_oid, context);
            return NDIS_STATUS_PENDING;
        }
        answer(request)
    }
}

unsafe extern "efiapi" fn complete_oid(context: *mut c_void, _item: NDIS_HANDLE) {
    let adapter = of(context);
    let request = adapter.pending_oid.get();
    // SAFETY: NDIS's pending request.
    unsafe {
        let status = answer(request);
        let (inside, most) = OIDS_INSIDE.get();
        OIDS_INSIDE.set((inside - 1, most));
        NdisMOidRequestComplete(adapter.handle, request, status);
        if is(Fault::OidCompletesTwice) {
            NdisMOidRequestComplete(adapter.handle, request, status);
        }
    }
}

/// Answers the request that was kept.
pub(super) fn answer_kept(context: NDIS_HANDLE) {
    let adapter = of(context);
    let request = adapter.pending_oid.get();
    // SAFETY: NDIS's pending request.
    unsafe {
        let status = answer(request);
        NdisMOidRequestComplete(adapter.handle, request, status);
    }
}

unsafe fn answer(request: *mut NDIS_OID_REQUEST) -> NDIS_STATUS {
    // SAFETY: NDIS's request.
    unsafe {
        let oid = (*request).DATA.Oid;
        if matches!(oid, OID_PNP_QUERY_POWER | OID_PNP_SET_POWER) {
            let state = (*request).DATA.SET_INFORMATION.InformationBuffer;
            log(format_args!(
                "{} {}",
                if oid == OID_PNP_SET_POWER { "D" } else { "D?" },
                state.cast::<NDIS_DEVICE_POWER_STATE>().read() - NdisDeviceStateD0
            ));
            return if is(Fault::PowerRefused) {
                NDIS_STATUS_FAILURE
            } else {
                NDIS_STATUS_SUCCESS
            };
        }
        if matches!(
            oid,
            OID_GEN_CURRENT_PACKET_FILTER | OID_802_3_MULTICAST_LIST
        ) && RESETS.get()
        {
            log(format_args!("set {oid:#x}"));
        }
        match (*request).RequestType {
            NdisRequestSetInformation => {
                (*request).DATA.SET_INFORMATION.BytesRead =
                    (*request).DATA.SET_INFORMATION.InformationBufferLength;
                NDIS_STATUS_SUCCESS
            }
            _ => {
                let query = &mut (*request).DATA.QUERY_INFORMATION;
                if query.Oid != OID_GEN_STATISTICS {
                    return NDIS_STATUS_NOT_SUPPORTED;
                }
                let size = size_of::<NDIS_STATISTICS_INFO>() as u32;
                if query.InformationBufferLength < size {
                    query.BytesNeeded = if is(Fault::OidTooShortWithoutNeed) {
                        0
                    } else {
                        size
                    };
                    return NDIS_STATUS_BUFFER_TOO_SHORT;
                }
                query
                    .InformationBuffer
                    .cast::<NDIS_STATISTICS_INFO>()
                    .write(Default::default());
                query.BytesWritten = if is(Fault::OidWritesTooMuch) {
                    1 << 20
                } else {
                    size
                };
                NDIS_STATUS_SUCCESS
            }
        }
    }
}

pub(super) unsafe extern "efiapi" fn direct_oid_request(
    context: NDIS_HANDLE,
    request: *mut NDIS_OID_REQUEST,
) -> NDIS_STATUS {
    let adapter = of(context);
    // SAFETY: NDIS's request; calls as documented.
    unsafe {
        if adapter.removed.get() {
            return NDIS_STATUS_NOT_ACCEPTED;
        }
        if PEND_OIDS.get() {
            adapter.pending_oid.set(request);
            NdisQueueIoWorkItem(adapter.work, complete_direct_oid, context);
            return NDIS_STATUS_PENDING;
        }
        answer(request)
    }
}

unsafe extern "efiapi" fn complete_direct_oid(context: *mut c_void, _item: NDIS_HANDLE) {
    let adapter = of(context);
    let request = adapter.pending_oid.get();
    // SAFETY: NDIS's pending request.
    unsafe {
        let status = answer(request);
        NdisMDirectOidRequestComplete(adapter.handle, request, status);
    }
}
