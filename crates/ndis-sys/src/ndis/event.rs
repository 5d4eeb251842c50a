//! What a miniport indicates: status, network Plug and Play events.

use super::object::NDIS_OBJECT_HEADER;
use crate::types::*;
use crate::wdm::GUID;

/// Kind of a network Plug and Play event.
pub type NET_PNP_EVENT_CODE = i32;

layouts! {
    /// A change of state, given to `NdisMIndicateStatusEx`.
    pub struct NDIS_STATUS_INDICATION(112) {
        /// `NDIS_OBJECT_TYPE_STATUS_INDICATION`, revision 1.
        0x00 Header: NDIS_OBJECT_HEADER,
        /// The miniport adapter's handle.
        0x08 SourceHandle: NDIS_HANDLE,
        0x10 PortNumber: NDIS_PORT_NUMBER,
        0x14 StatusCode: NDIS_STATUS,
        0x18 Flags: u32,
        0x20 DestinationHandle: NDIS_HANDLE,
        0x28 RequestId: *mut c_void,
        0x30 StatusBuffer: *mut c_void,
        /// Bytes.
        0x38 StatusBufferSize: u32,
        0x3c Guid: GUID,
        0x50 NdisReserved: [*mut c_void; 4],
    }

    /// An event for protocols, given to `NdisMNetPnPEvent`.
    pub struct NET_PNP_EVENT_NOTIFICATION(176) {
        /// `NDIS_OBJECT_TYPE_DEFAULT`.
        0x00 Header: NDIS_OBJECT_HEADER,
        0x04 PortNumber: NDIS_PORT_NUMBER,
        0x08 NetPnPEvent: NET_PNP_EVENT,
        0xa0 Flags: u32,
        0xa4 SwitchId: NDIS_NIC_SWITCH_ID,
        0xa8 VPortId: NDIS_NIC_SWITCH_VPORT_ID,
    }

    /// The event proper.
    pub struct NET_PNP_EVENT(152) {
        0x00 NetEvent: NET_PNP_EVENT_CODE,
        0x08 Buffer: *mut c_void,
        0x10 BufferLength: u32,
        0x18 NdisReserved: [usize; 4],
        0x38 TransportReserved: [usize; 4],
        0x58 TdiReserved: [usize; 4],
        0x78 TdiClientReserved: [usize; 4],
    }
}

constants! {
    /// Revisions of the indications.
    u8 {
        NDIS_STATUS_INDICATION_REVISION_1 = 1;
        NET_PNP_EVENT_NOTIFICATION_REVISION_1 = 1;
        NET_PNP_EVENT_NOTIFICATION_REVISION_2 = 2;
    }
    /// Sizes of the indications, for their headers.
    u16 {
        NDIS_SIZEOF_STATUS_INDICATION_REVISION_1 = 0x70;
        NDIS_SIZEOF_NET_PNP_EVENT_NOTIFICATION_REVISION_1 = 0xa4;
        NDIS_SIZEOF_NET_PNP_EVENT_NOTIFICATION_REVISION_2 = 0xac;
    }
    /// Network Plug and Play events.
    NET_PNP_EVENT_CODE {
        NetEventSetPower = 0;
        NetEventQueryPower = 1;
        NetEventQueryRemoveDevice = 2;
        NetEventCancelRemoveDevice = 3;
        NetEventReconfigure = 4;
        NetEventBindList = 5;
        NetEventBindsComplete = 6;
        NetEventPnPCapabilities = 7;
        NetEventPause = 8;
        NetEventRestart = 9;
        NetEventPortActivation = 0xa;
        NetEventPortDeactivation = 0xb;
        NetEventIMReEnableDevice = 0xc;
        NetEventNDKEnable = 0xd;
        NetEventNDKDisable = 0xe;
        NetEventFilterPreDetach = 0xf;
        NetEventBindFailed = 0x10;
        NetEventSwitchActivate = 0x11;
        NetEventAllowBindsAbove = 0x12;
        NetEventInhibitBindsAbove = 0x13;
        NetEventAllowStart = 0x14;
        NetEventRequirePause = 0x15;
        NetEventUploadGftFlowEntries = 0x16;
        NetEventMaximum = 0x17;
    }
}
