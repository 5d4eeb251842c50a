//! Scatter/gather DMA and shared memory of a miniport.

use super::object::NDIS_OBJECT_HEADER;
use crate::types::*;
use crate::wdm::{DEVICE_OBJECT, SCATTER_GATHER_LIST};

/// What shared memory is for.
pub type NDIS_SHARED_MEMORY_USAGE = i32;

callbacks! {
    /// Receives the scatter/gather list of a net buffer. IRQL: DISPATCH_LEVEL.
    fn MINIPORT_PROCESS_SG_LIST(
        pDO: *mut DEVICE_OBJECT,
        Reserved: *mut c_void,
        pSGL: *mut SCATTER_GATHER_LIST,
        Context: *mut c_void,
    );

    /// Receives memory of `NdisMAllocateSharedMemoryAsyncEx`; null: none. IRQL: PASSIVE_LEVEL.
    fn MINIPORT_ALLOCATE_SHARED_MEM_COMPLETE(
        MiniportAdapterContext: NDIS_HANDLE,
        VirtualAddress: *mut c_void,
        PhysicalAddress: *mut NDIS_PHYSICAL_ADDRESS,
        Length: u32,
        Context: *mut c_void,
    );
}

layouts! {
    /// Registration for `NdisMRegisterScatterGatherDma`.
    pub struct NDIS_SG_DMA_DESCRIPTION(40) {
        /// `NDIS_OBJECT_TYPE_SG_DMA_DESCRIPTION`, revision 1, `NDIS_SIZEOF_SG_DMA_DESCRIPTION_REVISION_1`.
        0x00 Header: NDIS_OBJECT_HEADER,
        /// `NDIS_SG_DMA_*`.
        0x04 Flags: u32,
        /// Bytes of the longest transfer.
        0x08 MaximumPhysicalMapping: u32,
        0x10 ProcessSGListHandler: Option<MINIPORT_PROCESS_SG_LIST>,
        0x18 SharedMemAllocateCompleteHandler: Option<MINIPORT_ALLOCATE_SHARED_MEM_COMPLETE>,
        /// Out: bytes of the buffer to be passed to `NdisMAllocateNetBufferSGList`.
        0x20 ScatterGatherListSize: u32,
    }

    /// Shared memory of `NdisAllocateSharedMemory`.
    pub struct NDIS_SHARED_MEMORY_PARAMETERS(72) {
        0x00 Header: NDIS_OBJECT_HEADER,
        0x04 Flags: u32,
        0x08 QueueId: u32,
        0x10 SharedMemoryHandle: NDIS_HANDLE,
        0x18 PreferredNode: u32,
        0x1c Usage: NDIS_SHARED_MEMORY_USAGE,
        0x20 Length: u32,
        0x28 VirtualAddress: *mut c_void,
        0x30 SGListBufferLength: u32,
        0x38 SGListBuffer: *mut SCATTER_GATHER_LIST,
        0x40 VPortId: NDIS_NIC_SWITCH_VPORT_ID,
    }
}

constants! {
    /// Revisions of the DMA structures.
    u8 {
        NDIS_SG_DMA_DESCRIPTION_REVISION_1 = 1;
        NDIS_SHARED_MEMORY_PARAMETERS_REVISION_1 = 1;
        NDIS_SHARED_MEMORY_PARAMETERS_REVISION_2 = 2;
    }
    /// Sizes of the DMA structures, for their headers.
    u16 {
        NDIS_SIZEOF_SG_DMA_DESCRIPTION_REVISION_1 = 0x24;
        NDIS_SIZEOF_SHARED_MEMORY_PARAMETERS_REVISION_1 = 0x40;
        NDIS_SIZEOF_SHARED_MEMORY_PARAMETERS_REVISION_2 = 0x44;
    }
    /// Flags of a DMA description.
    u32 {
        NDIS_SG_DMA_64_BIT_ADDRESS = 1;
        NDIS_SG_DMA_HYBRID_DMA = 4;
        NDIS_SG_DMA_V3_HAL_API = 2;
    }
    /// Flags of `NdisMAllocateNetBufferSGList`.
    u32 {
        NDIS_SG_LIST_WRITE_TO_DEVICE = 1;
    }
    /// What shared memory is for.
    NDIS_SHARED_MEMORY_USAGE {
        NdisSharedMemoryUsageUndefined = 0;
        NdisSharedMemoryUsageXmit = 1;
        NdisSharedMemoryUsageXmitHeader = 2;
        NdisSharedMemoryUsageXmitData = 3;
        NdisSharedMemoryUsageReceive = 4;
        NdisSharedMemoryUsageReceiveLookahead = 5;
        NdisSharedMemoryUsageReceivePostLookahead = 6;
        NdisSharedMemoryUsageReceiveHeader = 7;
        NdisSharedMemoryUsageReceiveData = 8;
        NdisSharedMemoryUsageOther = 9;
        NdisSharedMemoryUsageMax = 0xa;
    }
}
