//! What miniports tell upwards: status indications and Plug and Play events.

use std::rc::Rc;

use ndis_sys::ndis::*;
use ndis_sys::status::*;
use ndis_sys::types::*;

use super::adapter::{Adapter, Link, StatusIndication};
use super::{header, ndis, rules};
use crate::ndk::leave::{self, Leave};
use crate::verifier::violation;
use crate::world::wait::wait_until;

/// `NdisMIndicateStatusEx`.
///
/// # Safety
/// As for the exported function.
pub(crate) unsafe fn indicate(handle: NDIS_HANDLE, indication: *const NDIS_STATUS_INDICATION) {
    const F: &str = "NdisMIndicateStatusEx";
    let Some(adapter) = ndis().handles.get::<Adapter>(handle, F) else {
        return;
    };
    if indication.is_null() {
        violation(rules::STATUS, format!("{F}: null pointer"));
        return;
    }
    // SAFETY: begins with a header.
    let head = unsafe { (*indication).Header };
    let sizes = [(
        NDIS_STATUS_INDICATION_REVISION_1,
        NDIS_SIZEOF_STATUS_INDICATION_REVISION_1,
    )];
    if !header::check(F, head, NDIS_OBJECT_TYPE_STATUS_INDICATION, &sizes) {
        return;
    }
    // SAFETY: as long as its header says.
    let i: NDIS_STATUS_INDICATION = unsafe { header::copy(indication, head.Size) };
    if i.SourceHandle != handle {
        violation(
            rules::STATUS,
            format!("{F}: SourceHandle is not the miniport adapter handle"),
        );
    }
    if i.StatusBuffer.is_null() && i.StatusBufferSize != 0 {
        violation(
            rules::STATUS,
            format!("{F}: null StatusBuffer of {} bytes", i.StatusBufferSize),
        );
        return;
    }
    let data = if i.StatusBufferSize == 0 {
        Vec::new()
    } else {
        // SAFETY: the driver's buffer of that size.
        unsafe {
            std::slice::from_raw_parts(i.StatusBuffer.cast::<u8>(), i.StatusBufferSize as usize)
        }
        .to_vec()
    };
    if i.StatusCode == NDIS_STATUS_LINK_STATE {
        link_state(&adapter, &data);
    }
    adapter.indications.borrow_mut().push(StatusIndication {
        code: i.StatusCode.cast_unsigned(),
        data,
    });
}

fn link_state(adapter: &Rc<Adapter>, data: &[u8]) {
    const F: &str = "NDIS_STATUS_LINK_STATE";
    if data.len() < usize::from(NDIS_SIZEOF_LINK_STATE_REVISION_1) {
        violation(rules::STATUS, format!("{F}: {} bytes", data.len()));
        return;
    }
    // SAFETY: that many bytes; read without assuming alignment.
    let state: NDIS_LINK_STATE =
        unsafe { data.as_ptr().cast::<NDIS_LINK_STATE>().read_unaligned() };
    let sizes = [(
        NDIS_LINK_STATE_REVISION_1,
        NDIS_SIZEOF_LINK_STATE_REVISION_1,
    )];
    if !header::check(F, state.Header, NDIS_OBJECT_TYPE_DEFAULT, &sizes) {
        return;
    }
    adapter.link.set(Link {
        up: state.MediaConnectState == MediaConnectStateConnected,
        transmit_speed: state.XmitLinkSpeed,
        receive_speed: state.RcvLinkSpeed,
    });
    crate::tcpip::link_changed(adapter);
}

/// `NdisMNetPnPEvent`.
///
/// # Safety
/// As for the exported function.
pub(crate) unsafe fn pnp_event(
    handle: NDIS_HANDLE,
    notification: *const NET_PNP_EVENT_NOTIFICATION,
) -> NDIS_STATUS {
    const F: &str = "NdisMNetPnPEvent";
    let Some(adapter) = ndis().handles.get::<Adapter>(handle, F) else {
        return NDIS_STATUS_INVALID_PARAMETER;
    };
    if notification.is_null() {
        violation(rules::PNP_EVENT, format!("{F}: null pointer"));
        return NDIS_STATUS_INVALID_PARAMETER;
    }
    // SAFETY: begins with a header.
    let head = unsafe { (*notification).Header };
    let sizes = [
        (
            NET_PNP_EVENT_NOTIFICATION_REVISION_1,
            NDIS_SIZEOF_NET_PNP_EVENT_NOTIFICATION_REVISION_1,
        ),
        (
            NET_PNP_EVENT_NOTIFICATION_REVISION_2,
            NDIS_SIZEOF_NET_PNP_EVENT_NOTIFICATION_REVISION_2,
        ),
    ];
    if !header::check(F, head, NDIS_OBJECT_TYPE_DEFAULT, &sizes) {
        return NDIS_STATUS_INVALID_PARAMETER;
    }
    if adapter.requests.wait_for_this_thread() {
        violation(
            rules::PNP_EVENT,
            format!("{F}: called while an OID request is at the miniport: a deadlock on Windows"),
        );
    } else {
        wait_until(
            || !adapter.requests.busy(),
            None,
            "NdisMNetPnPEvent waits for an OID request to end",
        );
    }
    // SAFETY: as long as its header says.
    let n: NET_PNP_EVENT_NOTIFICATION = unsafe { header::copy(notification, head.Size) };
    let event = n.NetPnPEvent;
    match event.NetEvent {
        NetEventNDKEnable | NetEventNDKDisable => {
            if adapter.ndk.get().is_none() {
                violation(
                    rules::PNP_EVENT,
                    format!("{F}: an NDK event without NDK attributes"),
                );
                return NDIS_STATUS_INVALID_PARAMETER;
            }
            if !event.Buffer.is_null() || event.BufferLength != 0 {
                violation(rules::PNP_EVENT, format!("{F}: NDK events carry no buffer"));
            }
            let enable = event.NetEvent == NetEventNDKEnable;
            adapter.ndk_enabled.set(enable);
            if !enable {
                // Consumers are told, and leave; the event lasts until they have.
                leave::tell(&adapter, Leave::Disabled);
                wait_until(
                    || !crate::ndk::any_open(&adapter),
                    None,
                    "NetEventNDKDisable waits for NDK adapters to be closed",
                );
            }
            NDIS_STATUS_SUCCESS
        }
        NetEventPortActivation | NetEventPortDeactivation => NDIS_STATUS_SUCCESS,
        other => {
            violation(
                rules::PNP_EVENT,
                format!("{F}: a miniport does not originate event {other}"),
            );
            NDIS_STATUS_NOT_SUPPORTED
        }
    }
}
