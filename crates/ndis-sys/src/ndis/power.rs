//! Power management.

use super::object::NDIS_OBJECT_HEADER;

/// D0 to D3.
pub type NDIS_DEVICE_POWER_STATE = i32;

layouts! {
    /// Wake-up abilities, in the manner before NDIS 6.20.
    pub struct NDIS_PM_WAKE_UP_CAPABILITIES(12) {
        0x00 MinMagicPacketWakeUp: NDIS_DEVICE_POWER_STATE,
        0x04 MinPatternWakeUp: NDIS_DEVICE_POWER_STATE,
        0x08 MinLinkChangeWakeUp: NDIS_DEVICE_POWER_STATE,
    }

    /// Power abilities, in the manner before NDIS 6.20.
    pub struct NDIS_PNP_CAPABILITIES(16) {
        0x00 Flags: u32,
        0x04 WakeUpCapabilities: NDIS_PM_WAKE_UP_CAPABILITIES,
    }

    /// Power abilities.
    pub struct NDIS_PM_CAPABILITIES(60) {
        /// `NDIS_OBJECT_TYPE_DEFAULT`, revision 2.
        0x00 Header: NDIS_OBJECT_HEADER,
        0x04 Flags: u32,
        0x08 SupportedWoLPacketPatterns: u32,
        0x0c NumTotalWoLPatterns: u32,
        0x10 MaxWoLPatternSize: u32,
        0x14 MaxWoLPatternOffset: u32,
        0x18 MaxWoLPacketSaveBuffer: u32,
        0x1c SupportedProtocolOffloads: u32,
        0x20 NumArpOffloadIPv4Addresses: u32,
        0x24 NumNSOffloadIPv6Addresses: u32,
        0x28 MinMagicPacketWakeUp: NDIS_DEVICE_POWER_STATE,
        0x2c MinPatternWakeUp: NDIS_DEVICE_POWER_STATE,
        0x30 MinLinkChangeWakeUp: NDIS_DEVICE_POWER_STATE,
        0x34 SupportedWakeUpEvents: u32,
        0x38 MediaSpecificWakeUpEvents: u32,
    }

    /// Data of `OID_PM_PARAMETERS`.
    pub struct NDIS_PM_PARAMETERS(20) {
        0x00 Header: NDIS_OBJECT_HEADER,
        0x04 EnabledWoLPacketPatterns: u32,
        0x08 EnabledProtocolOffloads: u32,
        0x0c WakeUpFlags: u32,
        0x10 MediaSpecificWakeUpEvents: u32,
    }
}

constants! {
    /// Revisions of the power structures.
    u8 {
        NDIS_PM_CAPABILITIES_REVISION_1 = 1;
        NDIS_PM_CAPABILITIES_REVISION_2 = 2;
        NDIS_PM_PARAMETERS_REVISION_1 = 1;
        NDIS_PM_PARAMETERS_REVISION_2 = 2;
    }
    /// Sizes of the power structures, for their headers.
    u16 {
        NDIS_SIZEOF_NDIS_PM_CAPABILITIES_REVISION_1 = 0x34;
        NDIS_SIZEOF_NDIS_PM_CAPABILITIES_REVISION_2 = 0x3c;
        NDIS_SIZEOF_NDIS_PM_PARAMETERS_REVISION_1 = 0x10;
        NDIS_SIZEOF_NDIS_PM_PARAMETERS_REVISION_2 = 0x14;
    }
    /// D0 to D3.
    NDIS_DEVICE_POWER_STATE {
        NdisDeviceStateUnspecified = 0;
        NdisDeviceStateD0 = 1;
        NdisDeviceStateD1 = 2;
        NdisDeviceStateD2 = 3;
        NdisDeviceStateD3 = 4;
        NdisDeviceStateMaximum = 5;
    }
}
