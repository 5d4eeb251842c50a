//! Plug and Play events a miniport is told of.

use super::object::NDIS_OBJECT_HEADER;
use crate::types::*;

/// Kind of a device event.
pub type NDIS_DEVICE_PNP_EVENT = i32;

layouts! {
    /// What `MINIPORT_DEVICE_PNP_EVENT_NOTIFY` learns.
    pub struct NET_DEVICE_PNP_EVENT(48) {
        0x00 Header: NDIS_OBJECT_HEADER,
        0x04 PortNumber: NDIS_PORT_NUMBER,
        0x08 DevicePnPEvent: NDIS_DEVICE_PNP_EVENT,
        0x10 InformationBuffer: *mut c_void,
        0x18 InformationBufferLength: u32,
        0x1c NdisReserved: [u8; 16],
    }
}

constants! {
    /// Revision of the event structure.
    u8 {
        NET_DEVICE_PNP_EVENT_REVISION_1 = 1;
    }
    /// Size of the event structure, for its header.
    u16 {
        NDIS_SIZEOF_NET_DEVICE_PNP_EVENT_REVISION_1 = 0x2c;
    }
    /// Device events.
    NDIS_DEVICE_PNP_EVENT {
        NdisDevicePnPEventQueryRemoved = 0;
        NdisDevicePnPEventRemoved = 1;
        NdisDevicePnPEventSurpriseRemoved = 2;
        NdisDevicePnPEventQueryStopped = 3;
        NdisDevicePnPEventStopped = 4;
        NdisDevicePnPEventPowerProfileChanged = 5;
        NdisDevicePnPEventFilterListChanged = 6;
        NdisDevicePnPEventMaximum = 7;
    }
    /// Data of the power profile event.
    i32 {
        NdisPowerProfileBattery = 0;
        NdisPowerProfileAcOnLine = 1;
    }
}
