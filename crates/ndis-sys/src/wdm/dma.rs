//! Direct memory access.

use super::driver::{DEVICE_OBJECT, IRP};
use super::mdl::MDL;
use crate::types::*;

/// Width of DMA transfers of a system DMA controller.
pub type DMA_WIDTH = i32;
/// Speed of DMA transfers of a system DMA controller.
pub type DMA_SPEED = i32;

callbacks! {
    /// Receives a scatter/gather list once map registers are available. IRQL: DISPATCH_LEVEL.
    fn DRIVER_LIST_CONTROL(
        DeviceObject: *mut DEVICE_OBJECT,
        Irp: *mut IRP,
        ScatterGather: *mut SCATTER_GATHER_LIST,
        Context: *mut c_void,
    );

    /// Releases a DMA adapter. IRQL: PASSIVE_LEVEL.
    fn PUT_DMA_ADAPTER(DmaAdapter: *mut DMA_ADAPTER);

    /// Allocates physically contiguous memory both the processor and the device can reach; null on failure. IRQL: PASSIVE_LEVEL.
    fn ALLOCATE_COMMON_BUFFER(
        DmaAdapter: *mut DMA_ADAPTER,
        Length: u32,
        LogicalAddress: *mut PHYSICAL_ADDRESS,
        CacheEnabled: BOOLEAN,
    ) -> *mut c_void;

    /// Frees a common buffer; all arguments as when it was allocated. IRQL: PASSIVE_LEVEL.
    fn FREE_COMMON_BUFFER(
        DmaAdapter: *mut DMA_ADAPTER,
        Length: u32,
        LogicalAddress: PHYSICAL_ADDRESS,
        VirtualAddress: *mut c_void,
        CacheEnabled: BOOLEAN,
    );

    /// Alignment the adapter wants, bytes. IRQL: PASSIVE_LEVEL.
    fn GET_DMA_ALIGNMENT(DmaAdapter: *mut DMA_ADAPTER) -> u32;

    /// Builds a scatter/gather list in memory of the system and passes it to a routine. IRQL: DISPATCH_LEVEL.
    fn GET_SCATTER_GATHER_LIST(
        DmaAdapter: *mut DMA_ADAPTER,
        DeviceObject: *mut DEVICE_OBJECT,
        Mdl: *mut MDL,
        CurrentVa: *mut c_void,
        Length: u32,
        ExecutionRoutine: DRIVER_LIST_CONTROL,
        Context: *mut c_void,
        WriteToDevice: BOOLEAN,
    ) -> NTSTATUS;

    /// Gives back a list of either function that makes one. IRQL: DISPATCH_LEVEL.
    fn PUT_SCATTER_GATHER_LIST(
        DmaAdapter: *mut DMA_ADAPTER,
        ScatterGather: *mut SCATTER_GATHER_LIST,
        WriteToDevice: BOOLEAN,
    );

    /// Size of the list a buffer needs, bytes, and optionally the number of map registers. IRQL: <= DISPATCH_LEVEL.
    fn CALCULATE_SCATTER_GATHER_LIST(
        DmaAdapter: *mut DMA_ADAPTER,
        Mdl: *mut MDL,
        CurrentVa: *mut c_void,
        Length: u32,
        ScatterGatherListSize: *mut u32,
        NumberOfMapRegisters: *mut u32,
    ) -> NTSTATUS;

    /// Builds a scatter/gather list in memory of the caller and passes it to a routine. IRQL: DISPATCH_LEVEL.
    fn BUILD_SCATTER_GATHER_LIST(
        DmaAdapter: *mut DMA_ADAPTER,
        DeviceObject: *mut DEVICE_OBJECT,
        Mdl: *mut MDL,
        CurrentVa: *mut c_void,
        Length: u32,
        ExecutionRoutine: DRIVER_LIST_CONTROL,
        Context: *mut c_void,
        WriteToDevice: BOOLEAN,
        ScatterGatherBuffer: *mut c_void,
        ScatterGatherLength: u32,
    ) -> NTSTATUS;

    /// Flushes what is left in the adapter's buffers after a transfer. IRQL: <= DISPATCH_LEVEL.
    fn FLUSH_ADAPTER_BUFFERS(
        DmaAdapter: *mut DMA_ADAPTER,
        Mdl: *mut MDL,
        MapRegisterBase: *mut c_void,
        CurrentVa: *mut c_void,
        Length: u32,
        WriteToDevice: BOOLEAN,
    ) -> BOOLEAN;

    /// Allocates a common buffer on a node, below an address. IRQL: PASSIVE_LEVEL.
    fn ALLOCATE_COMMON_BUFFER_EX(
        DmaAdapter: *mut DMA_ADAPTER,
        MaximumAddress: *mut PHYSICAL_ADDRESS,
        Length: u32,
        LogicalAddress: *mut PHYSICAL_ADDRESS,
        CacheEnabled: BOOLEAN,
        PreferredNode: u32,
    ) -> *mut c_void;
}

/// An entry of the table that is not declared here.
pub type DMA_OPERATION = unsafe extern "efiapi" fn();

layouts! {
    /// What a device says about its DMA to `IoGetDmaAdapter`.
    pub struct DEVICE_DESCRIPTION(64) {
        /// `DEVICE_DESCRIPTION_VERSION*`.
        0x00 Version: u32,
        /// The device masters the bus.
        0x04 Master: BOOLEAN,
        0x05 ScatterGather: BOOLEAN,
        0x06 DemandMode: BOOLEAN,
        0x07 AutoInitialize: BOOLEAN,
        0x08 Dma32BitAddresses: BOOLEAN,
        0x09 IgnoreCount: BOOLEAN,
        0x0a Reserved1: BOOLEAN,
        0x0b Dma64BitAddresses: BOOLEAN,
        0x0c BusNumber: u32,
        0x10 DmaChannel: u32,
        0x14 InterfaceType: super::resource::INTERFACE_TYPE,
        0x18 DmaWidth: DMA_WIDTH,
        0x1c DmaSpeed: DMA_SPEED,
        /// Bytes in one transfer at most.
        0x20 MaximumLength: u32,
        0x24 DmaPort: u32,
        /// Address bits, version 3.
        0x28 DmaAddressWidth: u32,
        0x2c DmaControllerInstance: u32,
        0x30 DmaRequestLine: u32,
        0x38 DeviceAddress: PHYSICAL_ADDRESS,
    }

    /// A device's way to memory.
    pub struct DMA_ADAPTER(16) {
        0x00 Version: u16,
        0x02 Size: u16,
        0x08 DmaOperations: *const DMA_OPERATIONS,
    }

    /// Functions of a DMA adapter. How many there are depends on `Size`; older adapters end earlier.
    pub struct DMA_OPERATIONS(320) {
        /// Of this structure, bytes.
        0x00 Size: u32,
        0x08 PutDmaAdapter: Option<PUT_DMA_ADAPTER>,
        0x10 AllocateCommonBuffer: Option<ALLOCATE_COMMON_BUFFER>,
        0x18 FreeCommonBuffer: Option<FREE_COMMON_BUFFER>,
        0x20 AllocateAdapterChannel: Option<DMA_OPERATION>,
        0x28 FlushAdapterBuffers: Option<FLUSH_ADAPTER_BUFFERS>,
        0x30 FreeAdapterChannel: Option<DMA_OPERATION>,
        0x38 FreeMapRegisters: Option<DMA_OPERATION>,
        0x40 MapTransfer: Option<DMA_OPERATION>,
        0x48 GetDmaAlignment: Option<GET_DMA_ALIGNMENT>,
        0x50 ReadDmaCounter: Option<DMA_OPERATION>,
        0x58 GetScatterGatherList: Option<GET_SCATTER_GATHER_LIST>,
        0x60 PutScatterGatherList: Option<PUT_SCATTER_GATHER_LIST>,
        0x68 CalculateScatterGatherList: Option<CALCULATE_SCATTER_GATHER_LIST>,
        0x70 BuildScatterGatherList: Option<BUILD_SCATTER_GATHER_LIST>,
        0x78 BuildMdlFromScatterGatherList: Option<DMA_OPERATION>,
        0x80 GetDmaAdapterInfo: Option<DMA_OPERATION>,
        0x88 GetDmaTransferInfo: Option<DMA_OPERATION>,
        0x90 InitializeDmaTransferContext: Option<DMA_OPERATION>,
        0x98 AllocateCommonBufferEx: Option<ALLOCATE_COMMON_BUFFER_EX>,
        0xa0 AllocateAdapterChannelEx: Option<DMA_OPERATION>,
        0xa8 ConfigureAdapterChannel: Option<DMA_OPERATION>,
        0xb0 CancelAdapterChannel: Option<DMA_OPERATION>,
        0xb8 MapTransferEx: Option<DMA_OPERATION>,
        0xc0 GetScatterGatherListEx: Option<DMA_OPERATION>,
        0xc8 BuildScatterGatherListEx: Option<DMA_OPERATION>,
        0xd0 FlushAdapterBuffersEx: Option<DMA_OPERATION>,
        0xd8 FreeAdapterObject: Option<DMA_OPERATION>,
        0xe0 CancelMappedTransfer: Option<DMA_OPERATION>,
        0xe8 AllocateDomainCommonBuffer: Option<DMA_OPERATION>,
        0xf0 FlushDmaBuffer: Option<DMA_OPERATION>,
        0xf8 JoinDmaDomain: Option<DMA_OPERATION>,
        0x100 LeaveDmaDomain: Option<DMA_OPERATION>,
        0x108 GetDmaDomain: Option<DMA_OPERATION>,
        0x110 AllocateCommonBufferWithBounds: Option<DMA_OPERATION>,
        0x118 AllocateCommonBufferVector: Option<DMA_OPERATION>,
        0x120 GetCommonBufferFromVectorByIndex: Option<DMA_OPERATION>,
        0x128 FreeCommonBufferFromVector: Option<DMA_OPERATION>,
        0x130 FreeCommonBufferVector: Option<DMA_OPERATION>,
        0x138 CreateCommonBufferFromMdl: Option<DMA_OPERATION>,
    }

    /// Pieces of a buffer as the device sees them: `NumberOfElements` elements follow the structure.
    pub struct SCATTER_GATHER_LIST(16) {
        0x00 NumberOfElements: u32,
        0x08 Reserved: usize,
        0x10 Elements: [SCATTER_GATHER_ELEMENT; 0],
    }

    /// A piece of a buffer: a logical (bus) address and a length.
    pub struct SCATTER_GATHER_ELEMENT(24) {
        0x00 Address: PHYSICAL_ADDRESS,
        /// Bytes.
        0x08 Length: u32,
        0x10 Reserved: usize,
    }
}

constants! {
    /// Version of a device description.
    u32 {
        DEVICE_DESCRIPTION_VERSION = 0;
        DEVICE_DESCRIPTION_VERSION1 = 1;
        DEVICE_DESCRIPTION_VERSION2 = 2;
        DEVICE_DESCRIPTION_VERSION3 = 3;
    }
}
