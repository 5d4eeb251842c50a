//! Telling NDIS about the link.
#![allow(unsafe_code, reason = "NDIS is called with the adapter's handle")]

use nt::sys;
use nt::sys::ndis::{
    MediaConnectStateConnected, MediaConnectStateDisconnected, MediaDuplexStateFull,
    MediaDuplexStateUnknown, NDIS_LINK_SPEED_UNKNOWN, NDIS_LINK_STATE, NDIS_LINK_STATE_REVISION_1,
    NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_DEFAULT, NDIS_OBJECT_TYPE_STATUS_INDICATION,
    NDIS_SIZEOF_LINK_STATE_REVISION_1, NDIS_SIZEOF_STATUS_INDICATION_REVISION_1,
    NDIS_STATUS_INDICATION, NDIS_STATUS_INDICATION_REVISION_1, NET_IF_MEDIA_CONNECT_STATE,
    NET_IF_MEDIA_DUPLEX_STATE, NdisPauseFunctionsUnsupported,
};
use nt::sys::status::NDIS_STATUS_LINK_STATE;
use nt::sys::types::NDIS_HANDLE;

use crate::nic::Link;

/// How a link looks to NDIS: connected, duplex, speed in bits per second.
pub fn view(link: Link) -> (NET_IF_MEDIA_CONNECT_STATE, NET_IF_MEDIA_DUPLEX_STATE, u64) {
    if link.up {
        (MediaConnectStateConnected, MediaDuplexStateFull, link.speed)
    } else {
        (
            MediaConnectStateDisconnected,
            MediaDuplexStateUnknown,
            NDIS_LINK_SPEED_UNKNOWN,
        )
    }
}

/// Indicates the state of the link. IRQL: <= DISPATCH_LEVEL, no lock held.
pub fn indicate(adapter: NDIS_HANDLE, link: Link) {
    let (connected, duplex, speed) = view(link);
    let mut state = NDIS_LINK_STATE {
        Header: NDIS_OBJECT_HEADER {
            Type: NDIS_OBJECT_TYPE_DEFAULT,
            Revision: NDIS_LINK_STATE_REVISION_1,
            Size: NDIS_SIZEOF_LINK_STATE_REVISION_1,
        },
        MediaConnectState: connected,
        MediaDuplexState: duplex,
        XmitLinkSpeed: speed,
        RcvLinkSpeed: speed,
        PauseFunctions: NdisPauseFunctionsUnsupported,
        AutoNegotiationFlags: 0,
    };
    let mut indication = NDIS_STATUS_INDICATION {
        Header: NDIS_OBJECT_HEADER {
            Type: NDIS_OBJECT_TYPE_STATUS_INDICATION,
            Revision: NDIS_STATUS_INDICATION_REVISION_1,
            Size: NDIS_SIZEOF_STATUS_INDICATION_REVISION_1,
        },
        SourceHandle: adapter,
        StatusCode: NDIS_STATUS_LINK_STATE,
        StatusBuffer: (&raw mut state).cast(),
        StatusBufferSize: size_of::<NDIS_LINK_STATE>() as u32,
        ..NDIS_STATUS_INDICATION::ZEROED
    };
    // SAFETY: the adapter's own handle; NDIS reads both structures within the call.
    unsafe { sys::NdisMIndicateStatusEx(adapter, &raw mut indication) }
}
