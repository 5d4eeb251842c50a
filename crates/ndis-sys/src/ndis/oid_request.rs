//! OID requests.

use super::object::NDIS_OBJECT_HEADER;
use crate::types::*;

/// Query, set, method.
pub type NDIS_REQUEST_TYPE = i32;

layouts! {
    /// A question to a miniport or an order to it.
    pub struct NDIS_OID_REQUEST(248) {
        /// `NDIS_OBJECT_TYPE_OID_REQUEST`.
        0x00 Header: NDIS_OBJECT_HEADER,
        0x04 RequestType: NDIS_REQUEST_TYPE,
        0x08 PortNumber: NDIS_PORT_NUMBER,
        /// Seconds.
        0x0c Timeout: u32,
        0x10 RequestId: *mut c_void,
        0x18 RequestHandle: NDIS_HANDLE,
        0x20 DATA: NDIS_OID_REQUEST_DATA,
        0x48 NdisReserved: [u8; 128],
        /// The miniport's, while it holds the request.
        0xc8 MiniportReserved: [u8; 16],
        0xd8 SourceReserved: [u8; 16],
        0xe8 SupportedRevision: u8,
        0xe9 Reserved1: u8,
        0xea Reserved2: u16,
        0xec SwitchId: NDIS_NIC_SWITCH_ID,
        0xf0 VPortId: NDIS_NIC_SWITCH_VPORT_ID,
        0xf4 Flags: u32,
    }

    /// The request proper, by its type.
    pub union NDIS_OID_REQUEST_DATA(40) {
        0x00 Oid: NDIS_OID,
        0x00 QUERY_INFORMATION: NDIS_OID_REQUEST_QUERY,
        0x00 SET_INFORMATION: NDIS_OID_REQUEST_SET,
        0x00 METHOD_INFORMATION: NDIS_OID_REQUEST_METHOD,
    }

    /// A query, or a query of statistics.
    pub struct NDIS_OID_REQUEST_QUERY(32) {
        0x00 Oid: NDIS_OID,
        0x08 InformationBuffer: *mut c_void,
        0x10 InformationBufferLength: u32,
        /// Out.
        0x14 BytesWritten: u32,
        /// Out, when the buffer is too short.
        0x18 BytesNeeded: u32,
    }

    /// A set.
    pub struct NDIS_OID_REQUEST_SET(32) {
        0x00 Oid: NDIS_OID,
        0x08 InformationBuffer: *mut c_void,
        0x10 InformationBufferLength: u32,
        /// Out.
        0x14 BytesRead: u32,
        /// Out, when the buffer is too short.
        0x18 BytesNeeded: u32,
    }

    /// A method: in and out in one buffer.
    pub struct NDIS_OID_REQUEST_METHOD(40) {
        0x00 Oid: NDIS_OID,
        0x08 InformationBuffer: *mut c_void,
        0x10 InputBufferLength: u32,
        0x14 OutputBufferLength: u32,
        0x18 MethodId: u32,
        /// Out.
        0x1c BytesWritten: u32,
        /// Out.
        0x20 BytesRead: u32,
        /// Out, when the buffer is too short.
        0x24 BytesNeeded: u32,
    }
}

constants! {
    /// Revisions of an OID request.
    u8 {
        NDIS_OID_REQUEST_REVISION_1 = 1;
        NDIS_OID_REQUEST_REVISION_2 = 2;
    }
    /// Sizes of an OID request, for its header.
    u16 {
        NDIS_SIZEOF_OID_REQUEST_REVISION_1 = 0xec;
        NDIS_SIZEOF_OID_REQUEST_REVISION_2 = 0xf8;
    }
    /// Query, set, method.
    NDIS_REQUEST_TYPE {
        NdisRequestQueryInformation = 0;
        NdisRequestSetInformation = 1;
        NdisRequestQueryStatistics = 2;
        NdisRequestOpen = 3;
        NdisRequestClose = 4;
        NdisRequestSend = 5;
        NdisRequestTransferData = 6;
        NdisRequestReset = 7;
        NdisRequestGeneric1 = 8;
        NdisRequestGeneric2 = 9;
        NdisRequestGeneric3 = 0xa;
        NdisRequestGeneric4 = 0xb;
        NdisRequestMethod = 0xc;
    }
    /// No timeout.
    u32 {
        NDIS_OID_REQUEST_TIMEOUT_INFINITE = 0;
    }
}
