//! Attributes of a miniport adapter, and the parameters of its state changes.

use super::link::{
    NET_IF_ACCESS_TYPE, NET_IF_CONNECTION_TYPE, NET_IF_DIRECTION_TYPE, NET_IF_MEDIA_CONNECT_STATE,
    NET_IF_MEDIA_DUPLEX_STATE,
};
use super::object::NDIS_OBJECT_HEADER;
use super::offload::{NDIS_OFFLOAD, NDIS_TCP_CONNECTION_OFFLOAD};
use super::power::{NDIS_PM_CAPABILITIES, NDIS_PNP_CAPABILITIES};
use super::rss::NDIS_RECEIVE_SCALE_CAPABILITIES;
use crate::netioapi::NET_LUID;
use crate::types::*;
use crate::wdm::{CM_PARTIAL_RESOURCE_LIST, INTERFACE_TYPE};

/// Kind of medium the miniport presents.
pub type NDIS_MEDIUM = i32;
/// Kind of medium underneath.
pub type NDIS_PHYSICAL_MEDIUM = i32;
/// Kind of bus the device sits on.
pub type NDIS_INTERFACE_TYPE = INTERFACE_TYPE;

layouts! {
    /// What `MINIPORT_INITIALIZE` learns.
    pub struct NDIS_MINIPORT_INIT_PARAMETERS(64) {
        0x00 Header: NDIS_OBJECT_HEADER,
        0x04 Flags: u32,
        /// Translated resources; null if the device has none.
        0x08 AllocatedResources: *mut CM_PARTIAL_RESOURCE_LIST,
        0x10 IMDeviceInstanceContext: NDIS_HANDLE,
        /// As `MINIPORT_ADD_DEVICE` set it.
        0x18 MiniportAddDeviceContext: NDIS_HANDLE,
        0x20 IfIndex: NET_IFINDEX,
        0x28 NetLuid: NET_LUID,
        0x30 DefaultPortAuthStates: *mut NDIS_PORT_AUTHENTICATION_PARAMETERS,
        0x38 PciDeviceCustomProperties: *mut NDIS_PCI_DEVICE_CUSTOM_PROPERTIES,
    }

    /// Authentication states of the default port.
    pub struct NDIS_PORT_AUTHENTICATION_PARAMETERS(20) {
        0x00 Header: NDIS_OBJECT_HEADER,
        0x04 SendControlState: i32,
        0x08 RcvControlState: i32,
        0x0c SendAuthorizationState: i32,
        0x10 RcvAuthorizationState: i32,
    }

    /// What the PCI bus says of the device.
    pub struct NDIS_PCI_DEVICE_CUSTOM_PROPERTIES(52) {
        0x00 Header: NDIS_OBJECT_HEADER,
        0x04 DeviceType: u32,
        0x08 CurrentSpeedAndMode: u32,
        0x0c CurrentPayloadSize: u32,
        0x10 MaxPayloadSize: u32,
        0x14 MaxReadRequestSize: u32,
        0x18 CurrentLinkSpeed: u32,
        0x1c CurrentLinkWidth: u32,
        0x20 MaxLinkSpeed: u32,
        0x24 MaxLinkWidth: u32,
        0x28 PciExpressVersion: u32,
        0x2c InterruptType: u32,
        0x30 MaxInterruptMessages: u32,
    }

    /// What `MINIPORT_PAUSE` learns.
    pub struct NDIS_MINIPORT_PAUSE_PARAMETERS(12) {
        0x00 Header: NDIS_OBJECT_HEADER,
        0x04 Flags: u32,
        /// `NDIS_PAUSE_*`.
        0x08 PauseReason: u32,
    }

    /// What `MINIPORT_RESTART` learns.
    pub struct NDIS_MINIPORT_RESTART_PARAMETERS(24) {
        0x00 Header: NDIS_OBJECT_HEADER,
        0x08 RestartAttributes: *mut NDIS_RESTART_ATTRIBUTES,
        0x10 Flags: u32,
    }

    /// A link of the chain of restart attributes; the data follows.
    #[repr(align(16))]
    pub struct NDIS_RESTART_ATTRIBUTES(32) {
        0x00 Next: *mut NDIS_RESTART_ATTRIBUTES,
        0x08 Oid: NDIS_OID,
        0x0c DataLength: u32,
        /// First of `DataLength` bytes, aligned to the size of a pointer.
        0x10 Data: [u8; 1],
    }

    /// Restart attributes of `OID_GEN_MINIPORT_RESTART_ATTRIBUTES`.
    pub struct NDIS_RESTART_GENERAL_ATTRIBUTES(88) {
        0x00 Header: NDIS_OBJECT_HEADER,
        0x04 MtuSize: u32,
        0x08 MaxXmitLinkSpeed: u64,
        0x10 MaxRcvLinkSpeed: u64,
        0x18 LookaheadSize: u32,
        0x1c MacOptions: u32,
        0x20 SupportedPacketFilters: u32,
        0x24 MaxMulticastListSize: u32,
        0x28 RecvScaleCapabilities: *mut NDIS_RECEIVE_SCALE_CAPABILITIES,
        0x30 AccessType: NET_IF_ACCESS_TYPE,
        0x34 Flags: u32,
        0x38 ConnectionType: NET_IF_CONNECTION_TYPE,
        0x3c SupportedStatistics: u32,
        0x40 DataBackFillSize: u32,
        0x44 ContextBackFillSize: u32,
        0x48 SupportedOidList: *mut NDIS_OID,
        0x50 SupportedOidListLength: u32,
        0x54 MaxLookaheadSizeAccessed: u32,
    }

    /// First attributes a miniport sets: its context.
    pub struct NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES(32) {
        /// Revision 2, size `NDIS_SIZEOF_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_2`.
        0x00 Header: NDIS_OBJECT_HEADER,
        /// Passed to every handler of the adapter.
        0x08 MiniportAdapterContext: NDIS_HANDLE,
        /// `NDIS_MINIPORT_ATTRIBUTES_*`.
        0x10 AttributeFlags: u32,
        /// Zero: two seconds, the default.
        0x14 CheckForHangTimeInSeconds: u32,
        0x18 InterfaceType: NDIS_INTERFACE_TYPE,
    }

    /// Attributes set within `MINIPORT_ADD_DEVICE`.
    pub struct NDIS_MINIPORT_ADD_DEVICE_REGISTRATION_ATTRIBUTES(24) {
        0x00 Header: NDIS_OBJECT_HEADER,
        0x08 MiniportAddDeviceContext: NDIS_HANDLE,
        0x10 Flags: u32,
    }

    /// Second attributes a miniport sets: medium, address, speed, supported OIDs.
    pub struct NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES(224) {
        /// Revision 2.
        0x00 Header: NDIS_OBJECT_HEADER,
        0x04 Flags: u32,
        0x08 MediaType: NDIS_MEDIUM,
        0x0c PhysicalMediumType: NDIS_PHYSICAL_MEDIUM,
        /// Bytes of payload of a frame, without the Ethernet header.
        0x10 MtuSize: u32,
        /// Bits per second.
        0x18 MaxXmitLinkSpeed: u64,
        /// Bits per second.
        0x20 XmitLinkSpeed: u64,
        /// Bits per second.
        0x28 MaxRcvLinkSpeed: u64,
        /// Bits per second.
        0x30 RcvLinkSpeed: u64,
        0x38 MediaConnectState: NET_IF_MEDIA_CONNECT_STATE,
        0x3c MediaDuplexState: NET_IF_MEDIA_DUPLEX_STATE,
        0x40 LookaheadSize: u32,
        /// For NDIS before 6.20; null.
        0x48 PowerManagementCapabilities: *mut NDIS_PNP_CAPABILITIES,
        /// `NDIS_MAC_OPTION_*`.
        0x50 MacOptions: u32,
        /// `NDIS_PACKET_TYPE_*`.
        0x54 SupportedPacketFilters: u32,
        0x58 MaxMulticastListSize: u32,
        /// Bytes.
        0x5c MacAddressLength: u16,
        0x5e PermanentMacAddress: [u8; 32],
        0x7e CurrentMacAddress: [u8; 32],
        /// Null: no receive-side scaling.
        0xa0 RecvScaleCapabilities: *mut NDIS_RECEIVE_SCALE_CAPABILITIES,
        0xa8 AccessType: NET_IF_ACCESS_TYPE,
        0xac DirectionType: NET_IF_DIRECTION_TYPE,
        0xb0 ConnectionType: NET_IF_CONNECTION_TYPE,
        /// `IF_TYPE_*`.
        0xb4 IfType: NET_IFTYPE,
        /// There is a connector, that is, the adapter is hardware.
        0xb6 IfConnectorPresent: BOOLEAN,
        /// `NDIS_STATISTICS_*_SUPPORTED`.
        0xb8 SupportedStatistics: u32,
        0xbc SupportedPauseFunctions: u32,
        0xc0 DataBackFillSize: u32,
        0xc4 ContextBackFillSize: u32,
        0xc8 SupportedOidList: *mut NDIS_OID,
        /// Bytes.
        0xd0 SupportedOidListLength: u32,
        0xd4 AutoNegotiationFlags: u32,
        0xd8 PowerManagementCapabilitiesEx: *mut NDIS_PM_CAPABILITIES,
    }

    /// Offloads the adapter can do and does.
    pub struct NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES(40) {
        0x00 Header: NDIS_OBJECT_HEADER,
        0x08 DefaultOffloadConfiguration: *mut NDIS_OFFLOAD,
        0x10 HardwareOffloadCapabilities: *mut NDIS_OFFLOAD,
        0x18 DefaultTcpConnectionOffloadConfiguration: *mut NDIS_TCP_CONNECTION_OFFLOAD,
        0x20 TcpConnectionOffloadHardwareCapabilities: *mut NDIS_TCP_CONNECTION_OFFLOAD,
    }

    /// NDK state and capabilities. `NdkCapabilities` points at an `NDIS_NDK_CAPABILITIES` (crate `ndkpi`).
    pub struct NDIS_MINIPORT_ADAPTER_NDK_ATTRIBUTES(16) {
        0x00 Header: NDIS_OBJECT_HEADER,
        0x04 Enabled: BOOLEAN,
        0x08 NdkCapabilities: *mut c_void,
    }

    /// Any of the attributes `NdisMSetMiniportAttributes` takes.
    pub union NDIS_MINIPORT_ADAPTER_ATTRIBUTES(224) {
        0x00 Header: NDIS_OBJECT_HEADER,
        0x00 AddDeviceRegistrationAttributes: NDIS_MINIPORT_ADD_DEVICE_REGISTRATION_ATTRIBUTES,
        0x00 RegistrationAttributes: NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES,
        0x00 GeneralAttributes: NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES,
        0x00 OffloadAttributes: NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES,
        0x00 NDKAttributes: NDIS_MINIPORT_ADAPTER_NDK_ATTRIBUTES,
    }
}

constants! {
    /// Revisions of the attribute and parameter structures.
    u8 {
        NDIS_MINIPORT_INIT_PARAMETERS_REVISION_1 = 1;
        NDIS_MINIPORT_PAUSE_PARAMETERS_REVISION_1 = 1;
        NDIS_MINIPORT_RESTART_PARAMETERS_REVISION_1 = 1;
        NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_1 = 1;
        NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_2 = 2;
        NDIS_MINIPORT_ADD_DEVICE_REGISTRATION_ATTRIBUTES_REVISION_1 = 1;
        NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_1 = 1;
        NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_2 = 2;
        NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES_REVISION_1 = 1;
        NDIS_MINIPORT_ADAPTER_NDK_ATTRIBUTES_REVISION_1 = 1;
        NDIS_RESTART_GENERAL_ATTRIBUTES_REVISION_1 = 1;
        NDIS_RESTART_GENERAL_ATTRIBUTES_REVISION_2 = 2;
    }
    /// Sizes of the attribute and parameter structures, for their headers.
    u16 {
        NDIS_SIZEOF_MINIPORT_INIT_PARAMETER_REVISION_1 = 0x40;
        NDIS_SIZEOF_MINIPORT_PAUSE_PARAMETERS_REVISION_1 = 0xc;
        NDIS_SIZEOF_MINIPORT_RESTART_PARAMETERS_REVISION_1 = 0x14;
        NDIS_SIZEOF_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_1 = 0x1c;
        NDIS_SIZEOF_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_2 = 0x1c;
        NDIS_SIZEOF_MINIPORT_ADD_DEVICE_REGISTRATION_ATTRIBUTES_REVISION_1 = 0x14;
        NDIS_SIZEOF_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_1 = 0xd8;
        NDIS_SIZEOF_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_2 = 0xe0;
        NDIS_SIZEOF_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES_REVISION_1 = 0x28;
        NDIS_SIZEOF_MINIPORT_ADAPTER_NDK_ATTRIBUTES_REVISION_1 = 0x10;
        NDIS_SIZEOF_RESTART_GENERAL_ATTRIBUTES_REVISION_1 = 0x54;
        NDIS_SIZEOF_RESTART_GENERAL_ATTRIBUTES_REVISION_2 = 0x58;
    }
    /// Flags of the registration attributes.
    u32 {
        NDIS_MINIPORT_ATTRIBUTES_BUS_MASTER = 0x40;
        NDIS_MINIPORT_ATTRIBUTES_CONTROLS_DEFAULT_PORT = 0x80;
        NDIS_MINIPORT_ATTRIBUTES_DO_NOT_BIND_TO_ALL_CO = 0x10;
        NDIS_MINIPORT_ATTRIBUTES_HARDWARE_DEVICE = 1;
        NDIS_MINIPORT_ATTRIBUTES_NDIS_WDM = 2;
        NDIS_MINIPORT_ATTRIBUTES_NOT_CO_NDIS = 8;
        NDIS_MINIPORT_ATTRIBUTES_NO_HALT_ON_SUSPEND = 0x20;
        NDIS_MINIPORT_ATTRIBUTES_NO_OID_INTERCEPT_ON_NONDEFAULT_PORTS = 0x200;
        NDIS_MINIPORT_ATTRIBUTES_NO_PAUSE_ON_SUSPEND = 0x100;
        NDIS_MINIPORT_ATTRIBUTES_REGISTER_BUGCHECK_CALLBACK = 0x400;
        NDIS_MINIPORT_ATTRIBUTES_SURPRISE_REMOVE_OK = 4;
    }
    /// Why an adapter is paused.
    u32 {
        NDIS_PAUSE_ATTACH_FILTER = 0x10;
        NDIS_PAUSE_BIND_PROTOCOL = 4;
        NDIS_PAUSE_DETACH_FILTER = 0x20;
        NDIS_PAUSE_FILTER_RESTART_STACK = 0x40;
        NDIS_PAUSE_LOW_POWER = 2;
        NDIS_PAUSE_MINIPORT_DEVICE_REMOVE = 0x80;
        NDIS_PAUSE_NDIS_INTERNAL = 1;
        NDIS_PAUSE_UNBIND_PROTOCOL = 8;
    }
    /// Medium presented.
    NDIS_MEDIUM {
        NdisMedium802_3 = 0;
        NdisMediumLoopback = 0x11;
        NdisMediumIP = 0x13;
        NdisMediumInfiniBand = 0xe;
        NdisMediumTunnel = 0xf;
    }
    /// Medium underneath.
    NDIS_PHYSICAL_MEDIUM {
        NdisPhysicalMediumUnspecified = 0;
        NdisPhysicalMedium802_3 = 0xe;
        NdisPhysicalMediumInfiniband = 0xb;
        NdisPhysicalMediumOther = 0x13;
    }
    /// Kind of bus.
    NDIS_INTERFACE_TYPE {
        NdisInterfaceInternal = 0;
        NdisInterfacePci = 5;
        NdisInterfacePNPBus = 0xf;
    }
    /// Options of the medium access layer.
    u32 {
        NDIS_MAC_OPTION_8021P_PRIORITY = 0x40;
        NDIS_MAC_OPTION_8021Q_VLAN = 0x200;
        NDIS_MAC_OPTION_COPY_LOOKAHEAD_DATA = 1;
        NDIS_MAC_OPTION_EOTX_INDICATION = 0x20;
        NDIS_MAC_OPTION_FULL_DUPLEX = 0x10;
        NDIS_MAC_OPTION_NO_LOOPBACK = 8;
        NDIS_MAC_OPTION_RECEIVE_AT_DPC = 0x100;
        NDIS_MAC_OPTION_RECEIVE_SERIALIZED = 2;
        NDIS_MAC_OPTION_RESERVED = 0x80000000;
        NDIS_MAC_OPTION_SUPPORTS_MAC_ADDRESS_OVERWRITE = 0x80;
        NDIS_MAC_OPTION_TRANSFERS_NOT_PEND = 4;
    }
    /// Most bytes of a physical address.
    usize {
        NDIS_MAX_PHYS_ADDRESS_LENGTH = 0x20;
    }
    /// Interface types.
    NET_IFTYPE {
        IF_TYPE_OTHER = 1;
        IF_TYPE_ETHERNET_CSMACD = 6;
        IF_TYPE_SOFTWARE_LOOPBACK = 0x18;
    }
}
