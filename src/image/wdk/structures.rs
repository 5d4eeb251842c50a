//! Structures: their size, and where each field is.

use core::mem::offset_of;

/// Asserts that both declarations of a structure have these fields at the same offsets and, unless it is called open, the same size.
macro_rules! same_layout {
    ($( $name:ident { $($field:ident)* $(.. $open:tt)? } )*) => { $(
        const _: () = {
            type Ours = nt::sys::wdm::$name;
            type Theirs = wdk_sys::$name;
            $( assert!(
                offset_of!(Ours, $field) == offset_of!(Theirs, $field),
                concat!("the WDK has another offset for ", stringify!($name), ".", stringify!($field))
            ); )*
            assert!(
                same_layout!(@open $($open)?) || size_of::<Ours>() == size_of::<Theirs>(),
                concat!("the WDK has another size for ", stringify!($name))
            );
        };
    )* };
    (@open) => { false };
    (@open open) => { true };
}

same_layout! {
    UNICODE_STRING { Length MaximumLength Buffer }
    LIST_ENTRY { Flink Blink }
    SINGLE_LIST_ENTRY { Next }
    PROCESSOR_NUMBER { Group Number Reserved }
    GROUP_AFFINITY { Mask Group Reserved }
    MDL { Next Size MdlFlags Process MappedSystemVa StartVa ByteCount ByteOffset }
    DISPATCHER_HEADER { SignalState WaitListHead }
    KDPC {
        DpcListEntry ProcessorHistory DeferredRoutine DeferredContext SystemArgument1 SystemArgument2 DpcData
    }
    KTIMER { Header DueTime TimerListEntry Dpc }
    KEVENT { Header }
    DRIVER_OBJECT {
        Type Size DeviceObject Flags DriverStart DriverSize DriverSection DriverExtension DriverName HardwareDatabase
        FastIoDispatch DriverInit DriverStartIo DriverUnload MajorFunction
    }
    DRIVER_EXTENSION { DriverObject AddDevice Count ServiceKeyName }
    // Open: it is aligned to 16 bytes, which the metadata behind the stand-in of `cargo xtask check-wdk` do not say.
    DEVICE_OBJECT {
        Type Size ReferenceCount DriverObject NextDevice AttachedDevice CurrentIrp Timer Flags Characteristics Vpb
        DeviceExtension DeviceType StackSize Queue AlignmentRequirement DeviceQueue Dpc ActiveThreadCount
        SecurityDescriptor DeviceLock SectorSize Spare1 DeviceObjectExtension Reserved .. open
    }
    IO_ERROR_LOG_PACKET {
        MajorFunctionCode RetryCount DumpDataSize NumberOfStrings StringOffset EventCategory ErrorCode UniqueErrorValue
        FinalStatus SequenceNumber IoControlCode DeviceOffset DumpData
    }
    DEVICE_DESCRIPTION {
        Version Master ScatterGather DemandMode AutoInitialize Dma32BitAddresses IgnoreCount Reserved1
        Dma64BitAddresses BusNumber DmaChannel InterfaceType DmaWidth DmaSpeed MaximumLength DmaPort DmaAddressWidth
        DmaControllerInstance DmaRequestLine DeviceAddress
    }
    DMA_ADAPTER { Version Size DmaOperations }
    // Open: versions of Windows have added to it.
    DMA_OPERATIONS {
        Size PutDmaAdapter AllocateCommonBuffer FreeCommonBuffer AllocateAdapterChannel FlushAdapterBuffers
        FreeAdapterChannel FreeMapRegisters MapTransfer GetDmaAlignment ReadDmaCounter GetScatterGatherList
        PutScatterGatherList CalculateScatterGatherList BuildScatterGatherList BuildMdlFromScatterGatherList
        GetDmaAdapterInfo GetDmaTransferInfo InitializeDmaTransferContext AllocateCommonBufferEx .. open
    }
    // Open: C has no number for its elements.
    SCATTER_GATHER_LIST { NumberOfElements Reserved Elements .. open }
    SCATTER_GATHER_ELEMENT { Address Length Reserved }
    CM_RESOURCE_LIST { Count List }
    CM_FULL_RESOURCE_DESCRIPTOR { InterfaceType BusNumber PartialResourceList }
    CM_PARTIAL_RESOURCE_LIST { Version Revision Count PartialDescriptors }
    CM_PARTIAL_RESOURCE_DESCRIPTOR { Type ShareDisposition Flags u }
    IO_INTERRUPT_MESSAGE_INFO { UnifiedIrql MessageCount MessageInfo }
    IO_INTERRUPT_MESSAGE_INFO_ENTRY {
        MessageAddress TargetProcessorSet InterruptObject MessageData Vector Irql Mode Polarity
    }
    PCI_COMMON_CONFIG { DeviceSpecific }
}
