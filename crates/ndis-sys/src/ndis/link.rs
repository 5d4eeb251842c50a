//! State of the link.

use super::object::NDIS_OBJECT_HEADER;

/// Connected or not.
pub type NET_IF_MEDIA_CONNECT_STATE = i32;
/// Half or full duplex.
pub type NET_IF_MEDIA_DUPLEX_STATE = i32;
/// Loopback, broadcast, point to point.
pub type NET_IF_ACCESS_TYPE = i32;
/// Sends, receives, or both.
pub type NET_IF_DIRECTION_TYPE = i32;
/// Dedicated, passive, on demand.
pub type NET_IF_CONNECTION_TYPE = i32;
/// Whether the adapter obeys and sends PAUSE frames.
pub type NDIS_SUPPORTED_PAUSE_FUNCTIONS = i32;
/// Answer to `OID_GEN_MEDIA_CONNECT_STATUS`.
pub type NDIS_MEDIA_STATE = i32;
/// Answer to `OID_GEN_HARDWARE_STATUS`.
pub type NDIS_HARDWARE_STATUS = i32;
/// Operational state of an interface.
pub type NET_IF_OPER_STATUS = i32;

layouts! {
    /// Data of the indication `NDIS_STATUS_LINK_STATE`.
    pub struct NDIS_LINK_STATE(40) {
        /// `NDIS_OBJECT_TYPE_DEFAULT`, revision 1.
        0x00 Header: NDIS_OBJECT_HEADER,
        0x04 MediaConnectState: NET_IF_MEDIA_CONNECT_STATE,
        0x08 MediaDuplexState: NET_IF_MEDIA_DUPLEX_STATE,
        /// Bits per second, or `NDIS_LINK_SPEED_UNKNOWN`.
        0x10 XmitLinkSpeed: u64,
        /// Bits per second, or `NDIS_LINK_SPEED_UNKNOWN`.
        0x18 RcvLinkSpeed: u64,
        0x20 PauseFunctions: NDIS_SUPPORTED_PAUSE_FUNCTIONS,
        0x24 AutoNegotiationFlags: u32,
    }

    /// Data of `OID_GEN_LINK_PARAMETERS`.
    pub struct NDIS_LINK_PARAMETERS(32) {
        0x00 Header: NDIS_OBJECT_HEADER,
        0x04 MediaDuplexState: NET_IF_MEDIA_DUPLEX_STATE,
        0x08 XmitLinkSpeed: u64,
        0x10 RcvLinkSpeed: u64,
        0x18 PauseFunctions: NDIS_SUPPORTED_PAUSE_FUNCTIONS,
        0x1c AutoNegotiationFlags: u32,
    }

    /// Data of `OID_GEN_LINK_SPEED_EX`.
    pub struct NDIS_LINK_SPEED(16) {
        0x00 XmitLinkSpeed: u64,
        0x08 RcvLinkSpeed: u64,
    }

    /// Data of the indication `NDIS_STATUS_OPER_STATUS`.
    pub struct NDIS_OPER_STATE(12) {
        0x00 Header: NDIS_OBJECT_HEADER,
        0x04 OperationalStatus: NET_IF_OPER_STATUS,
        0x08 OperationalStatusFlags: u32,
    }
}

constants! {
    /// Revisions of the link structures.
    u8 {
        NDIS_LINK_STATE_REVISION_1 = 1;
        NDIS_LINK_PARAMETERS_REVISION_1 = 1;
        NDIS_OPER_STATE_REVISION_1 = 1;
    }
    /// Sizes of the link structures, for their headers.
    u16 {
        NDIS_SIZEOF_LINK_STATE_REVISION_1 = 0x28;
        NDIS_SIZEOF_LINK_PARAMETERS_REVISION_1 = 0x20;
    }
    /// A speed that is not known.
    u64 {
        NDIS_LINK_SPEED_UNKNOWN = u64::MAX;
    }
    /// What was negotiated rather than configured.
    u32 {
        NDIS_LINK_STATE_DUPLEX_AUTO_NEGOTIATED = 4;
        NDIS_LINK_STATE_PAUSE_FUNCTIONS_AUTO_NEGOTIATED = 8;
        NDIS_LINK_STATE_RCV_LINK_SPEED_AUTO_NEGOTIATED = 2;
        NDIS_LINK_STATE_XMIT_LINK_SPEED_AUTO_NEGOTIATED = 1;
    }
    /// Connected or not.
    NET_IF_MEDIA_CONNECT_STATE {
        MediaConnectStateUnknown = 0;
        MediaConnectStateConnected = 1;
        MediaConnectStateDisconnected = 2;
    }
    /// Half or full duplex.
    NET_IF_MEDIA_DUPLEX_STATE {
        MediaDuplexStateUnknown = 0;
        MediaDuplexStateHalf = 1;
        MediaDuplexStateFull = 2;
    }
    /// Loopback, broadcast, point to point.
    NET_IF_ACCESS_TYPE {
        NET_IF_ACCESS_LOOPBACK = 1;
        NET_IF_ACCESS_BROADCAST = 2;
        NET_IF_ACCESS_POINT_TO_POINT = 3;
        NET_IF_ACCESS_POINT_TO_MULTI_POINT = 4;
        NET_IF_ACCESS_MAXIMUM = 5;
    }
    /// Sends, receives, or both.
    NET_IF_DIRECTION_TYPE {
        NET_IF_DIRECTION_SENDRECEIVE = 0;
        NET_IF_DIRECTION_SENDONLY = 1;
        NET_IF_DIRECTION_RECEIVEONLY = 2;
        NET_IF_DIRECTION_MAXIMUM = 3;
    }
    /// Dedicated, passive, on demand.
    NET_IF_CONNECTION_TYPE {
        NET_IF_CONNECTION_DEDICATED = 1;
        NET_IF_CONNECTION_PASSIVE = 2;
        NET_IF_CONNECTION_DEMAND = 3;
        NET_IF_CONNECTION_MAXIMUM = 4;
    }
    /// PAUSE frames.
    NDIS_SUPPORTED_PAUSE_FUNCTIONS {
        NdisPauseFunctionsUnsupported = 0;
        NdisPauseFunctionsSendOnly = 1;
        NdisPauseFunctionsReceiveOnly = 2;
        NdisPauseFunctionsSendAndReceive = 3;
        NdisPauseFunctionsUnknown = 4;
    }
    /// Connected or not, as `OID_GEN_MEDIA_CONNECT_STATUS` has it.
    NDIS_MEDIA_STATE {
        NdisMediaStateConnected = 0;
        NdisMediaStateDisconnected = 1;
    }
    /// State of the hardware.
    NDIS_HARDWARE_STATUS {
        NdisHardwareStatusReady = 0;
        NdisHardwareStatusInitializing = 1;
        NdisHardwareStatusReset = 2;
        NdisHardwareStatusClosing = 3;
        NdisHardwareStatusNotReady = 4;
    }
    /// Operational state.
    NET_IF_OPER_STATUS {
        NET_IF_OPER_STATUS_UP = 1;
        NET_IF_OPER_STATUS_DOWN = 2;
        NET_IF_OPER_STATUS_TESTING = 3;
        NET_IF_OPER_STATUS_UNKNOWN = 4;
        NET_IF_OPER_STATUS_DORMANT = 5;
        NET_IF_OPER_STATUS_NOT_PRESENT = 6;
        NET_IF_OPER_STATUS_LOWER_LAYER_DOWN = 7;
    }
}
