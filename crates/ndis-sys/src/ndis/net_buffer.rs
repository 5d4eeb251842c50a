//! Net buffers and net buffer lists: frames on their way.

use super::object::NDIS_OBJECT_HEADER;
use crate::types::*;
use crate::wdm::{MDL, SCATTER_GATHER_LIST};

/// Index into the information array of a net buffer list.
pub type NDIS_NET_BUFFER_LIST_INFO = i32;

layouts! {
    /// A frame: a chain of MDLs, where in it the data begins, and how long it is.
    #[repr(align(16))]
    pub struct NET_BUFFER(176) {
        /// Next frame of the list.
        0x00 Next: *mut NET_BUFFER,
        /// MDL the data begins in.
        0x08 CurrentMdl: *mut MDL,
        /// Offset of the data in `CurrentMdl`.
        0x10 CurrentMdlOffset: u32,
        0x18 Anonymous: NET_BUFFER_DATA_LENGTH,
        0x20 MdlChain: *mut MDL,
        /// Offset of the data in the chain.
        0x28 DataOffset: u32,
        /// To a multiple of 16 bytes.
        0x2c Padding: u32,
        0x30 ChecksumBias: u16,
        0x32 Reserved: u16,
        0x38 NdisPoolHandle: NDIS_HANDLE,
        0x40 NdisReserved: [*mut c_void; 2],
        0x50 ProtocolReserved: [*mut c_void; 6],
        /// The miniport's, between send and completion.
        0x80 MiniportReserved: [*mut c_void; 4],
        0xa0 DataPhysicalAddress: NDIS_PHYSICAL_ADDRESS,
        0xa8 Anonymous1: NET_BUFFER_SG,
    }

    /// Bytes of data of a net buffer.
    pub union NET_BUFFER_DATA_LENGTH(8) {
        0x00 DataLength: u32,
        0x00 stDataLength: usize,
    }

    /// Where a net buffer's memory is, for the device.
    pub union NET_BUFFER_SG(8) {
        0x00 SharedMemoryInfo: *mut NET_BUFFER_SHARED_MEMORY,
        0x00 ScatterGatherList: *mut SCATTER_GATHER_LIST,
    }

    /// A piece of shared memory that a net buffer uses.
    pub struct NET_BUFFER_SHARED_MEMORY(32) {
        0x00 NextSharedMemorySegment: *mut NET_BUFFER_SHARED_MEMORY,
        0x08 SharedMemoryFlags: u32,
        0x10 SharedMemoryHandle: NDIS_HANDLE,
        0x18 SharedMemoryOffset: u32,
        0x1c SharedMemoryLength: u32,
    }

    /// Frames that belong together, with what is to be known of them.
    #[repr(align(16))]
    pub struct NET_BUFFER_LIST(368) {
        0x00 Next: *mut NET_BUFFER_LIST,
        0x08 FirstNetBuffer: *mut NET_BUFFER,
        0x10 Context: *mut NET_BUFFER_LIST_CONTEXT,
        0x18 ParentNetBufferList: *mut NET_BUFFER_LIST,
        0x20 NdisPoolHandle: NDIS_HANDLE,
        /// To a multiple of 16 bytes.
        0x28 Padding: usize,
        0x30 NdisReserved: [*mut c_void; 2],
        0x40 ProtocolReserved: [*mut c_void; 4],
        /// The miniport's, between send and completion, or while it owns the list.
        0x60 MiniportReserved: [*mut c_void; 2],
        /// For whoever owns the list at the moment.
        0x70 Scratch: *mut c_void,
        /// Who sent it.
        0x78 SourceHandle: NDIS_HANDLE,
        /// `NBL_FLAGS_*`, `NDIS_NBL_FLAGS_*`.
        0x80 NblFlags: u32,
        0x84 ChildRefCount: i32,
        0x88 Flags: u32,
        /// Result of a send.
        0x8c Status: NDIS_STATUS,
        /// By `NDIS_NET_BUFFER_LIST_INFO`.
        0x90 NetBufferListInfo: [*mut c_void; 27],
    }

    /// Space a driver allocated together with a net buffer list; the bytes follow.
    #[repr(align(16))]
    pub struct NET_BUFFER_LIST_CONTEXT(16) {
        0x00 Next: *mut NET_BUFFER_LIST_CONTEXT,
        0x08 Size: u16,
        0x0a Offset: u16,
        /// To a multiple of 16 bytes.
        0x0c Padding: u32,
        0x10 ContextData: [u8; 0],
    }

    /// A pool of net buffer lists.
    pub struct NET_BUFFER_LIST_POOL_PARAMETERS(16) {
        /// `NDIS_OBJECT_TYPE_DEFAULT`, `NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1`.
        0x00 Header: NDIS_OBJECT_HEADER,
        0x04 ProtocolId: u8,
        /// Each list comes with a net buffer.
        0x05 fAllocateNetBuffer: BOOLEAN,
        /// Bytes, a multiple of `MEMORY_ALLOCATION_ALIGNMENT`.
        0x06 ContextSize: u16,
        0x08 PoolTag: u32,
        /// Bytes of data memory per buffer; zero: none.
        0x0c DataSize: u32,
    }

    /// A pool of net buffers.
    pub struct NET_BUFFER_POOL_PARAMETERS(12) {
        0x00 Header: NDIS_OBJECT_HEADER,
        0x04 PoolTag: u32,
        0x08 DataSize: u32,
    }
}

constants! {
    /// Revisions of the pool parameters.
    u8 {
        NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1 = 1;
        NET_BUFFER_POOL_PARAMETERS_REVISION_1 = 1;
    }
    /// Sizes of the pool parameters, for their headers.
    u16 {
        NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1 = 0x10;
        NDIS_SIZEOF_NET_BUFFER_POOL_PARAMETERS_REVISION_1 = 0xc;
    }
    /// Whose the bits of `NblFlags` are.
    u32 {
        NBL_FLAGS_MINIPORT_RESERVED = 0xf000;
        NBL_FLAGS_NDIS_RESERVED = 0xffc;
        NBL_FLAGS_PROTOCOL_RESERVED = 0xfff00003;
        NBL_FLAGS_SCRATCH = 0xf0000;
        NDIS_NBL_FLAGS_CAPTURE_TIMESTAMP_ON_TRANSMIT = 0x10000;
        NDIS_NBL_FLAGS_HD_SPLIT = 0x100;
        NDIS_NBL_FLAGS_IS_IPV4 = 0x200;
        NDIS_NBL_FLAGS_IS_IPV6 = 0x400;
        NDIS_NBL_FLAGS_IS_LOOPBACK_PACKET = 0x8000;
        NDIS_NBL_FLAGS_IS_TCP = 0x800;
        NDIS_NBL_FLAGS_IS_UDP = 0x1000;
        NDIS_NBL_FLAGS_RECV_READ_ONLY = 2;
        NDIS_NBL_FLAGS_SEND_READ_ONLY = 1;
        NDIS_NBL_FLAGS_SPLIT_AT_UPPER_LAYER_PROTOCOL_HEADER = 0x2000;
        NDIS_NBL_FLAGS_SPLIT_AT_UPPER_LAYER_PROTOCOL_PAYLOAD = 0x4000;
    }
    /// What an element of `NetBufferListInfo` is.
    NDIS_NET_BUFFER_LIST_INFO {
        TcpIpChecksumNetBufferListInfo = 0;
        TcpLargeSendNetBufferListInfo = 2;
        ClassificationHandleNetBufferListInfo = 3;
        Ieee8021QNetBufferListInfo = 4;
        NetBufferListCancelId = 5;
        MediaSpecificInformation = 6;
        NetBufferListFrameType = 7;
        NetBufferListProtocolId = 7;
        NetBufferListHashValue = 8;
        NetBufferListHashInfo = 9;
        WfpNetBufferListInfo = 0xa;
        NetBufferListFilteringInfo = 0xe;
        TcpRecvSegCoalesceInfo = 0x16;
        UdpSegmentationOffloadInfo = 0x16;
        MaxNetBufferListInfo = 0x1b;
    }
    /// Alignment of allocations, bytes.
    u16 {
        MEMORY_ALLOCATION_ALIGNMENT = 0x10;
    }
    /// Who a pool of net buffer lists belongs to.
    u8 {
        NDIS_PROTOCOL_ID_DEFAULT = 0;
        NDIS_PROTOCOL_ID_TCP_IP = 2;
        NDIS_PROTOCOL_ID_IP6 = 3;
    }
}
