//! How a miniport driver offers NDK to NDIS (`ndisndk.h`, and the NDK parts of `ntddndis.h` and `ndis.h`).

use crate::adapter::{NDK_ADAPTER, NDK_ADAPTER_INFO};
use crate::object::NDK_VERSION;
use crate::types::*;

callbacks! {
    /// `OpenNDKAdapterHandler`: opens an adapter for a consumer. Several may be open.
    ///
    /// The adapter works at the highest minor version of the major one asked for.
    ///
    /// IRQL: `PASSIVE_LEVEL`.
    ///
    /// Returns `NDIS_STATUS_SUCCESS`, `NDIS_STATUS_ADAPTER_NOT_READY` (NDK is disabled), `NDIS_STATUS_BAD_VERSION` (major version unknown,
    /// or minor one above the highest), or `NDIS_STATUS_RESOURCES`.
    fn OPEN_NDK_ADAPTER_HANDLER(
        MiniportAdapterContext: NDIS_HANDLE,
        Parameters: *mut NDIS_OPEN_NDK_ADAPTER_PARAMETERS,
        ppNdkAdapter: *mut *mut NDK_ADAPTER,
    ) -> NDIS_STATUS;

    /// `CloseNDKAdapterHandler`: closes an adapter. Blocks until every callback of every object of it has returned.
    ///
    /// IRQL: `PASSIVE_LEVEL`.
    fn CLOSE_NDK_ADAPTER_HANDLER(MiniportAdapterContext: NDIS_HANDLE, pNdkAdapter: *mut NDK_ADAPTER);
}

layouts! {
    /// Type, revision and size of an NDIS structure.
    #[derive(Debug, PartialEq, Eq)]
    pub struct NDIS_OBJECT_HEADER(4) {
        /// `NDIS_OBJECT_TYPE_*`.
        0x00 Type: u8,
        /// `*_REVISION_*`.
        0x01 Revision: u8,
        /// Bytes, `NDIS_SIZEOF_*`.
        0x02 Size: u16,
    }

    /// A provider, registered with `NdisSetOptionalHandlers`.
    pub struct NDIS_NDK_PROVIDER_CHARACTERISTICS(24) {
        /// `NDIS_OBJECT_TYPE_NDK_PROVIDER_CHARACTERISTICS`, revision 1.
        0x00 Header: NDIS_OBJECT_HEADER,
        /// Zero.
        0x04 Flags: u32,
        /// See the type.
        0x08 OpenNDKAdapterHandler: Option<OPEN_NDK_ADAPTER_HANDLER>,
        /// See the type.
        0x10 CloseNDKAdapterHandler: Option<CLOSE_NDK_ADAPTER_HANDLER>,
    }

    /// What to open. Ends after `Version` for a driver built for NDIS before 6.50.
    pub struct NDIS_OPEN_NDK_ADAPTER_PARAMETERS(12) {
        /// NDK version the consumer wants.
        0x00 Version: NDK_VERSION,
        /// NIC switch; 0 is the default one.
        0x04 SwitchId: u32,
        /// Port of the NIC switch; 0 is the default one.
        0x08 VPortId: u32,
    }

    /// What a whole adapter can do, for all consumers together.
    pub struct NDIS_NDK_CAPABILITIES(56) {
        /// `NDIS_OBJECT_TYPE_DEFAULT`, revision 1.
        0x00 Header: NDIS_OBJECT_HEADER,
        /// Zero.
        0x04 Flags: u32,
        /// Queue pairs.
        0x08 MaxQpCount: u32,
        /// Completion queues.
        0x0c MaxCqCount: u32,
        /// Memory regions.
        0x10 MaxMrCount: u32,
        /// Protection domains.
        0x14 MaxPdCount: u32,
        /// Reads by peers in progress; zero: no limit besides that of each queue pair.
        0x18 MaxInboundReadLimit: u32,
        /// Reads of peers' memory in progress; zero: no limit besides that of each queue pair.
        0x1c MaxOutboundReadLimit: u32,
        /// Memory windows.
        0x20 MaxMwCount: u32,
        /// Shared receive queues; zero: none.
        0x24 MaxSrqCount: u32,
        /// Bit n: counter n of [`NDIS_NDK_PERFORMANCE_COUNTERS`] is not kept.
        0x28 MissingCounterMask: u64,
        /// Limits for one consumer.
        0x30 NdkInfo: *mut NDK_ADAPTER_INFO,
    }

    /// NDK attributes of a miniport adapter, for `NdisMSetMiniportAttributes`.
    pub struct NDIS_MINIPORT_ADAPTER_NDK_ATTRIBUTES(16) {
        /// `NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_NDK_ATTRIBUTES`, revision 1.
        0x00 Header: NDIS_OBJECT_HEADER,
        /// NDK is enabled now.
        0x04 Enabled: BOOLEAN,
        /// Given even if it is not.
        0x08 NdkCapabilities: *mut NDIS_NDK_CAPABILITIES,
    }

    /// Counters of an adapter.
    pub struct NDIS_NDK_PERFORMANCE_COUNTERS(240) {
        /// Outbound connections established.
        0x00 Connect: u64,
        /// Inbound connections established.
        0x08 Accept: u64,
        /// Attempts to connect that failed, in both directions.
        0x10 ConnectFailure: u64,
        /// Established connections that broke before the consumer disconnected.
        0x18 ConnectionError: u64,
        /// Connections established now.
        0x20 ActiveConnection: u64,
        /// Zero: twenty counters of no meaning.
        0x28 Reserved: [u64; 20],
        /// Completion queues that failed.
        0xc8 CQError: u64,
        /// Bytes received as RDMA traffic, layer 2 included.
        0xd0 RDMAInOctets: u64,
        /// Bytes sent as RDMA traffic, layer 2 included.
        0xd8 RDMAOutOctets: u64,
        /// Frames received as RDMA traffic.
        0xe0 RDMAInFrames: u64,
        /// Frames sent as RDMA traffic.
        0xe8 RDMAOutFrames: u64,
    }

    /// Answer to `OID_NDK_STATISTICS`.
    pub struct NDIS_NDK_STATISTICS_INFO(248) {
        /// `NDIS_OBJECT_TYPE_DEFAULT`, revision 1.
        0x00 Header: NDIS_OBJECT_HEADER,
        /// Zero.
        0x04 Flags: u32,
        /// The counters.
        0x08 CounterSet: NDIS_NDK_PERFORMANCE_COUNTERS,
    }

    /// A connection.
    pub struct NDIS_NDK_CONNECTION_ENTRY(64) {
        /// Local address and port.
        0x00 Local: SOCKADDR_INET,
        /// The peer's address and port.
        0x1c Remote: SOCKADDR_INET,
        /// The consumer is a user-mode one.
        0x38 UserModeOwner: BOOLEAN,
        /// Its process, if so.
        0x3c OwnerPid: u32,
    }

    /// Answer to `OID_NDK_CONNECTIONS`: `Count` entries.
    pub struct NDIS_NDK_CONNECTIONS(80) {
        /// `NDIS_OBJECT_TYPE_DEFAULT`, revision 1; the size is that of the whole, 0xFFFF at most.
        0x00 Header: NDIS_OBJECT_HEADER,
        /// Zero.
        0x04 Flags: u32,
        /// Entries that follow.
        0x08 Count: u32,
        /// Entries come in pairs, the second with the address of the underlying TCP connection. Not so for RoCE.
        0x0c NDConnectionsMappedtoTCPConnections: BOOLEAN,
        /// First entry.
        0x10 Connections: [NDIS_NDK_CONNECTION_ENTRY; 1],
    }

    /// A listener or a shared endpoint.
    pub struct NDIS_NDK_LOCAL_ENDPOINT_ENTRY(36) {
        /// Address and port.
        0x00 Local: SOCKADDR_INET,
        /// The consumer is a user-mode one.
        0x1c UserModeOwner: BOOLEAN,
        /// A listener, not a shared endpoint.
        0x1d Listener: BOOLEAN,
        /// Process of a user-mode consumer.
        0x20 OwnerPid: u32,
    }

    /// Answer to `OID_NDK_LOCAL_ENDPOINTS`: `Count` entries.
    pub struct NDIS_NDK_LOCAL_ENDPOINTS(52) {
        /// `NDIS_OBJECT_TYPE_DEFAULT`, revision 1; the size is that of the whole, 0xFFFF at most.
        0x00 Header: NDIS_OBJECT_HEADER,
        /// Zero.
        0x04 Flags: u32,
        /// Entries that follow.
        0x08 Count: u32,
        /// Entries come in pairs, the second with the address of the underlying TCP endpoint. Not so for RoCE.
        0x0c NDLocalEndpointsMappedtoTCPLocalEndpoints: BOOLEAN,
        /// First entry.
        0x10 LocalEndpoints: [NDIS_NDK_LOCAL_ENDPOINT_ENTRY; 1],
    }
}

constants! {
    /// Type of an NDIS structure.
    u8 {
        NDIS_OBJECT_TYPE_DEFAULT = 0x80;
        NDIS_OBJECT_TYPE_NDK_PROVIDER_CHARACTERISTICS = 0xb2;
        NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_NDK_ATTRIBUTES = 0xb3;
    }
    /// Revision of an NDK structure.
    u8 {
        NDIS_NDK_PROVIDER_CHARACTERISTICS_REVISION_1 = 1;
        NDIS_NDK_CAPABILITIES_REVISION_1 = 1;
        NDIS_MINIPORT_ADAPTER_NDK_ATTRIBUTES_REVISION_1 = 1;
        NDIS_NDK_STATISTICS_INFO_REVISION_1 = 1;
        NDIS_NDK_CONNECTIONS_REVISION_1 = 1;
        NDIS_NDK_LOCAL_ENDPOINTS_REVISION_1 = 1;
    }
    /// Size of an NDK structure, for its header.
    u16 {
        NDIS_SIZEOF_NDK_PROVIDER_CHARACTERISTICS_REVISION_1 = 0x18;
        NDIS_SIZEOF_NDK_CAPABILITIES_REVISION_1 = 0x38;
        NDIS_SIZEOF_MINIPORT_ADAPTER_NDK_ATTRIBUTES_REVISION_1 = 0x10;
        NDIS_SIZEOF_NDK_STATISTICS_INFO_REVISION_1 = 0xf8;
    }
    /// OID of an NDK-capable miniport.
    u32 {
        /// Set, a `BOOLEAN`: enable or disable NDK. Never pended; the event that reports the change comes from a work item.
        OID_NDK_SET_STATE = 0xfc040201;
        /// Query, [`NDIS_NDK_STATISTICS_INFO`]; also as a direct OID request.
        OID_NDK_STATISTICS = 0xfc040202;
        /// Query, [`NDIS_NDK_CONNECTIONS`].
        OID_NDK_CONNECTIONS = 0xfc040203;
        /// Query, [`NDIS_NDK_LOCAL_ENDPOINTS`].
        OID_NDK_LOCAL_ENDPOINTS = 0xfc040204;
    }
}

/// Size of [`NDIS_NDK_CONNECTIONS`] with `count` entries, bytes.
pub const fn NDIS_SIZEOF_NDK_CONNECTIONS_REVISION_1(count: usize) -> usize {
    core::mem::offset_of!(NDIS_NDK_CONNECTIONS, Connections)
        + count * size_of::<NDIS_NDK_CONNECTION_ENTRY>()
}

/// Size of [`NDIS_NDK_LOCAL_ENDPOINTS`] with `count` entries, bytes.
pub const fn NDIS_SIZEOF_NDK_LOCAL_ENDPOINTS_REVISION_1(count: usize) -> usize {
    core::mem::offset_of!(NDIS_NDK_LOCAL_ENDPOINTS, LocalEndpoints)
        + count * size_of::<NDIS_NDK_LOCAL_ENDPOINT_ENTRY>()
}
