//! `ndis.sys`: the network driver interface.

use crate::ndis::*;
use crate::types::*;
use crate::wdm::*;

imports! {
    "ndis.sys" {
        /// Registers a miniport driver. Calls its set-options handler. IRQL: PASSIVE_LEVEL.
        fn NdisMRegisterMiniportDriver(
            DriverObject: *mut DRIVER_OBJECT,
            RegistryPath: *mut UNICODE_STRING,
            MiniportDriverContext: NDIS_HANDLE,
            MiniportDriverCharacteristics: *mut NDIS_MINIPORT_DRIVER_CHARACTERISTICS,
            NdisMiniportDriverHandle: *mut NDIS_HANDLE,
        ) -> NDIS_STATUS;
        /// Undoes `NdisMRegisterMiniportDriver`. IRQL: PASSIVE_LEVEL.
        fn NdisMDeregisterMiniportDriver(NdisMiniportDriverHandle: NDIS_HANDLE);
        /// Registers optional handlers; within the set-options handler. IRQL: PASSIVE_LEVEL.
        fn NdisSetOptionalHandlers(
            NdisHandle: NDIS_HANDLE,
            OptionalHandlers: *mut NDIS_DRIVER_OPTIONAL_HANDLERS,
        ) -> NDIS_STATUS;
        /// Sets attributes of an adapter; within the initialise handler. IRQL: PASSIVE_LEVEL.
        fn NdisMSetMiniportAttributes(
            NdisMiniportHandle: NDIS_HANDLE,
            MiniportAttributes: *mut NDIS_MINIPORT_ADAPTER_ATTRIBUTES,
        ) -> NDIS_STATUS;
        /// Connects an adapter's interrupts. They may come before this returns. IRQL: PASSIVE_LEVEL.
        fn NdisMRegisterInterruptEx(
            MiniportAdapterHandle: NDIS_HANDLE,
            MiniportInterruptContext: NDIS_HANDLE,
            MiniportInterruptCharacteristics: *mut NDIS_MINIPORT_INTERRUPT_CHARACTERISTICS,
            NdisInterruptHandle: *mut NDIS_HANDLE,
        ) -> NDIS_STATUS;
        /// Undoes `NdisMRegisterInterruptEx`; waits for handlers and DPCs. IRQL: PASSIVE_LEVEL.
        fn NdisMDeregisterInterruptEx(NdisInterruptHandle: NDIS_HANDLE);
        /// Runs a function that excludes an interrupt handler. IRQL: <= DIRQL.
        fn NdisMSynchronizeWithInterruptEx(
            NdisInterruptHandle: NDIS_HANDLE,
            MessageId: u32,
            SynchronizeFunction: MINIPORT_SYNCHRONIZE_INTERRUPT,
            SynchronizeContext: *mut c_void,
        ) -> BOOLEAN;
        /// Queues interrupt DPCs to processors; returns those it queued. IRQL: any.
        fn NdisMQueueDpc(
            NdisInterruptHandle: NDIS_HANDLE,
            MessageId: u32,
            TargetProcessors: u32,
            MiniportDpcContext: *mut c_void,
        ) -> u32;
        /// As `NdisMQueueDpc`, with a processor group. IRQL: any.
        fn NdisMQueueDpcEx(
            NdisInterruptHandle: NDIS_HANDLE,
            MessageId: u32,
            TargetProcessors: *mut GROUP_AFFINITY,
            MiniportDpcContext: *mut c_void,
        ) -> KAFFINITY;
        /// Reads the device's configuration space; returns the bytes read. IRQL: any.
        fn NdisMGetBusData(
            NdisMiniportHandle: NDIS_HANDLE,
            WhichSpace: u32,
            Offset: u32,
            Buffer: *mut c_void,
            Length: u32,
        ) -> u32;
        /// Writes the device's configuration space; returns the bytes written. IRQL: any.
        fn NdisMSetBusData(
            NdisMiniportHandle: NDIS_HANDLE,
            WhichSpace: u32,
            Offset: u32,
            Buffer: *mut c_void,
            Length: u32,
        ) -> u32;
        /// Maps device memory. IRQL: PASSIVE_LEVEL.
        fn NdisMMapIoSpace(
            VirtualAddress: *mut *mut c_void,
            MiniportAdapterHandle: NDIS_HANDLE,
            PhysicalAddress: NDIS_PHYSICAL_ADDRESS,
            Length: u32,
        ) -> NDIS_STATUS;
        /// Undoes `NdisMMapIoSpace`. IRQL: PASSIVE_LEVEL.
        fn NdisMUnmapIoSpace(MiniportAdapterHandle: NDIS_HANDLE, VirtualAddress: *mut c_void, Length: u32);
        /// The adapter's device objects and resources; any of the pointers may be null. IRQL: PASSIVE_LEVEL.
        fn NdisMGetDeviceProperty(
            MiniportAdapterHandle: NDIS_HANDLE,
            PhysicalDeviceObject: *mut *mut DEVICE_OBJECT,
            FunctionalDeviceObject: *mut *mut DEVICE_OBJECT,
            NextDeviceObject: *mut *mut DEVICE_OBJECT,
            AllocatedResources: *mut *mut CM_RESOURCE_LIST,
            AllocatedResourcesTranslated: *mut *mut CM_RESOURCE_LIST,
        );
        /// Alignment the DMA adapter wants, bytes. IRQL: PASSIVE_LEVEL.
        fn NdisMGetDmaAlignment(MiniportAdapterHandle: NDIS_HANDLE) -> u32;
        /// Registers scatter/gather DMA for an adapter. IRQL: PASSIVE_LEVEL.
        fn NdisMRegisterScatterGatherDma(
            MiniportAdapterHandle: NDIS_HANDLE,
            DmaDescription: *mut NDIS_SG_DMA_DESCRIPTION,
            NdisMiniportDmaHandle: *mut NDIS_HANDLE,
        ) -> NDIS_STATUS;
        /// Undoes `NdisMRegisterScatterGatherDma`. IRQL: PASSIVE_LEVEL.
        fn NdisMDeregisterScatterGatherDma(NdisMiniportDmaHandle: NDIS_HANDLE);
        /// Builds a net buffer's scatter/gather list and passes it to the handler, now or later. IRQL:
        /// DISPATCH_LEVEL.
        fn NdisMAllocateNetBufferSGList(
            NdisMiniportDmaHandle: NDIS_HANDLE,
            NetBuffer: *mut NET_BUFFER,
            Context: *mut c_void,
            Flags: u32,
            ScatterGatherListBuffer: *mut c_void,
            ScatterGatherListBufferSize: u32,
        ) -> NDIS_STATUS;
        /// Frees a list of `NdisMAllocateNetBufferSGList`. IRQL: DISPATCH_LEVEL.
        fn NdisMFreeNetBufferSGList(
            NdisMiniportDmaHandle: NDIS_HANDLE,
            pSGL: *mut SCATTER_GATHER_LIST,
            NetBuffer: *mut NET_BUFFER,
        );
        /// Allocates memory processor and device share; null on failure. IRQL: PASSIVE_LEVEL.
        fn NdisMAllocateSharedMemory(
            MiniportAdapterHandle: NDIS_HANDLE,
            Length: u32,
            Cached: BOOLEAN,
            VirtualAddress: *mut *mut c_void,
            PhysicalAddress: *mut NDIS_PHYSICAL_ADDRESS,
        );
        /// As `NdisMAllocateSharedMemory`, told later. IRQL: <= DISPATCH_LEVEL.
        fn NdisMAllocateSharedMemoryAsyncEx(
            MiniportDmaHandle: NDIS_HANDLE,
            Length: u32,
            Cached: BOOLEAN,
            Context: *mut c_void,
        ) -> NDIS_STATUS;
        /// Frees shared memory. IRQL: PASSIVE_LEVEL.
        fn NdisMFreeSharedMemory(
            MiniportAdapterHandle: NDIS_HANDLE,
            Length: u32,
            Cached: BOOLEAN,
            VirtualAddress: *mut c_void,
            PhysicalAddress: NDIS_PHYSICAL_ADDRESS,
        );
        /// Allocates a pool of net buffer lists; null on failure. IRQL: <= DISPATCH_LEVEL.
        fn NdisAllocateNetBufferListPool(
            NdisHandle: NDIS_HANDLE,
            Parameters: *const NET_BUFFER_LIST_POOL_PARAMETERS,
        ) -> NDIS_HANDLE;
        /// Frees a pool all of whose lists are back. IRQL: <= DISPATCH_LEVEL.
        fn NdisFreeNetBufferListPool(PoolHandle: NDIS_HANDLE);
        /// Allocates a pool of net buffers; null on failure. IRQL: <= DISPATCH_LEVEL.
        fn NdisAllocateNetBufferPool(
            NdisHandle: NDIS_HANDLE,
            Parameters: *const NET_BUFFER_POOL_PARAMETERS,
        ) -> NDIS_HANDLE;
        /// Frees a pool all of whose net buffers are back. IRQL: <= DISPATCH_LEVEL.
        fn NdisFreeNetBufferPool(PoolHandle: NDIS_HANDLE);
        /// Allocates a list with one net buffer; null on failure. IRQL: <= DISPATCH_LEVEL.
        fn NdisAllocateNetBufferAndNetBufferList(
            PoolHandle: NDIS_HANDLE,
            ContextSize: u16,
            ContextBackFill: u16,
            MdlChain: *mut MDL,
            DataOffset: u32,
            DataLength: usize,
        ) -> *mut NET_BUFFER_LIST;
        /// Allocates a list; null on failure. IRQL: <= DISPATCH_LEVEL.
        fn NdisAllocateNetBufferList(
            PoolHandle: NDIS_HANDLE,
            ContextSize: u16,
            ContextBackFill: u16,
        ) -> *mut NET_BUFFER_LIST;
        /// Frees a list, with its preallocated net buffer. IRQL: <= DISPATCH_LEVEL.
        fn NdisFreeNetBufferList(NetBufferList: *mut NET_BUFFER_LIST);
        /// Allocates a net buffer; null on failure. IRQL: <= DISPATCH_LEVEL.
        fn NdisAllocateNetBuffer(
            PoolHandle: NDIS_HANDLE,
            MdlChain: *mut MDL,
            DataOffset: u32,
            DataLength: usize,
        ) -> *mut NET_BUFFER;
        /// Allocates a net buffer with an MDL and memory; null on failure. IRQL: <= DISPATCH_LEVEL.
        fn NdisAllocateNetBufferMdlAndData(PoolHandle: NDIS_HANDLE) -> *mut NET_BUFFER;
        /// Frees a net buffer. IRQL: <= DISPATCH_LEVEL.
        fn NdisFreeNetBuffer(NetBuffer: *mut NET_BUFFER);
        /// Allocates an MDL over non-paged memory; null on failure. IRQL: <= DISPATCH_LEVEL.
        fn NdisAllocateMdl(NdisHandle: NDIS_HANDLE, VirtualAddress: *mut c_void, Length: u32) -> *mut MDL;
        /// Frees an MDL of `NdisAllocateMdl`. IRQL: <= DISPATCH_LEVEL.
        fn NdisFreeMdl(Mdl: *mut MDL);
        /// A net buffer's first bytes in one piece: in place, or copied to `Storage`; null if impossible. IRQL:
        /// <= DISPATCH_LEVEL.
        fn NdisGetDataBuffer(
            NetBuffer: *mut NET_BUFFER,
            BytesNeeded: u32,
            Storage: *mut c_void,
            AlignMultiple: u32,
            AlignOffset: u32,
        ) -> *mut c_void;
        /// How many physical pieces a net buffer has. IRQL: <= DISPATCH_LEVEL.
        fn NdisQueryNetBufferPhysicalCount(NetBuffer: *mut NET_BUFFER) -> u32;
        /// Indicates received frames. IRQL: <= DISPATCH_LEVEL.
        fn NdisMIndicateReceiveNetBufferLists(
            MiniportAdapterHandle: NDIS_HANDLE,
            NetBufferList: *mut NET_BUFFER_LIST,
            PortNumber: NDIS_PORT_NUMBER,
            NumberOfNetBufferLists: u32,
            ReceiveFlags: u32,
        );
        /// Completes sends. IRQL: <= DISPATCH_LEVEL.
        fn NdisMSendNetBufferListsComplete(
            MiniportAdapterHandle: NDIS_HANDLE,
            NetBufferList: *mut NET_BUFFER_LIST,
            SendCompleteFlags: u32,
        );
        /// Completes a pending OID request. IRQL: <= DISPATCH_LEVEL.
        fn NdisMOidRequestComplete(
            MiniportAdapterHandle: NDIS_HANDLE,
            OidRequest: *mut NDIS_OID_REQUEST,
            Status: NDIS_STATUS,
        );
        /// Completes a pending direct OID request. IRQL: <= DISPATCH_LEVEL.
        fn NdisMDirectOidRequestComplete(
            MiniportAdapterHandle: NDIS_HANDLE,
            OidRequest: *mut NDIS_OID_REQUEST,
            Status: NDIS_STATUS,
        );
        /// Indicates a change of state. IRQL: <= DISPATCH_LEVEL.
        fn NdisMIndicateStatusEx(
            MiniportAdapterHandle: NDIS_HANDLE,
            StatusIndication: *mut NDIS_STATUS_INDICATION,
        );
        /// Completes a pending pause. IRQL: <= DISPATCH_LEVEL.
        fn NdisMPauseComplete(MiniportAdapterHandle: NDIS_HANDLE);
        /// Completes a pending restart. IRQL: <= DISPATCH_LEVEL.
        fn NdisMRestartComplete(MiniportAdapterHandle: NDIS_HANDLE, Status: NDIS_STATUS);
        /// Completes a pending reset. IRQL: DISPATCH_LEVEL.
        fn NdisMResetComplete(
            MiniportAdapterHandle: NDIS_HANDLE,
            Status: NDIS_STATUS,
            AddressingReset: BOOLEAN,
        );
        /// Asks NDIS to reset the adapter. IRQL: <= DISPATCH_LEVEL.
        fn NdisMResetMiniport(MiniportAdapterHandle: NDIS_HANDLE);
        /// Asks Plug and Play to remove a failed adapter. IRQL: <= DISPATCH_LEVEL.
        fn NdisMRemoveMiniport(MiniportHandle: NDIS_HANDLE) -> NDIS_STATUS;
        /// Originates a network Plug and Play event. IRQL: PASSIVE_LEVEL.
        fn NdisMNetPnPEvent(
            MiniportAdapterHandle: NDIS_HANDLE,
            NetPnPEventNotification: *mut NET_PNP_EVENT_NOTIFICATION,
        ) -> NDIS_STATUS;
        /// Sleeps; microseconds. IRQL: < DISPATCH_LEVEL.
        fn NdisMSleep(MicrosecondsToSleep: u32);
        /// Opens an adapter's settings. IRQL: PASSIVE_LEVEL.
        fn NdisOpenConfigurationEx(
            ConfigObject: *mut NDIS_CONFIGURATION_OBJECT,
            ConfigurationHandle: *mut NDIS_HANDLE,
        ) -> NDIS_STATUS;
        /// Reads a setting; the value lives until the settings are closed. IRQL: PASSIVE_LEVEL.
        fn NdisReadConfiguration(
            Status: *mut NDIS_STATUS,
            ParameterValue: *mut *mut NDIS_CONFIGURATION_PARAMETER,
            ConfigurationHandle: NDIS_HANDLE,
            Keyword: *mut NDIS_STRING,
            ParameterType: NDIS_PARAMETER_TYPE,
        );
        /// Writes a setting. IRQL: PASSIVE_LEVEL.
        fn NdisWriteConfiguration(
            Status: *mut NDIS_STATUS,
            ConfigurationHandle: NDIS_HANDLE,
            Keyword: *mut NDIS_STRING,
            ParameterValue: *mut NDIS_CONFIGURATION_PARAMETER,
        );
        /// Closes settings. IRQL: PASSIVE_LEVEL.
        fn NdisCloseConfiguration(ConfigurationHandle: NDIS_HANDLE);
        /// Reads the address set by the administrator, if any. IRQL: PASSIVE_LEVEL.
        fn NdisReadNetworkAddress(
            Status: *mut NDIS_STATUS,
            NetworkAddress: *mut *mut c_void,
            NetworkAddressLength: *mut u32,
            ConfigurationHandle: NDIS_HANDLE,
        );
        /// Allocates a work item; null on failure. IRQL: <= DISPATCH_LEVEL.
        fn NdisAllocateIoWorkItem(NdisObjectHandle: NDIS_HANDLE) -> NDIS_HANDLE;
        /// Frees a work item that is not queued. IRQL: <= DISPATCH_LEVEL.
        fn NdisFreeIoWorkItem(NdisIoWorkItemHandle: NDIS_HANDLE);
        /// Queues a work item that is not queued already. IRQL: <= DISPATCH_LEVEL.
        fn NdisQueueIoWorkItem(
            NdisIoWorkItemHandle: NDIS_HANDLE,
            Routine: NDIS_IO_WORKITEM_FUNCTION,
            WorkItemContext: *mut c_void,
        );
        /// Allocates a timer. IRQL: <= DISPATCH_LEVEL.
        fn NdisAllocateTimerObject(
            NdisHandle: NDIS_HANDLE,
            TimerCharacteristics: *mut NDIS_TIMER_CHARACTERISTICS,
            pTimerObject: *mut NDIS_HANDLE,
        ) -> NDIS_STATUS;
        /// Sets a timer; true if it was set already. IRQL: <= DISPATCH_LEVEL.
        fn NdisSetTimerObject(
            TimerObject: NDIS_HANDLE,
            DueTime: LARGE_INTEGER,
            MillisecondsPeriod: i32,
            FunctionContext: *mut c_void,
        ) -> BOOLEAN;
        /// Cancels a timer; true if it was set. IRQL: <= DISPATCH_LEVEL.
        fn NdisCancelTimerObject(TimerObject: NDIS_HANDLE) -> BOOLEAN;
        /// Frees a timer that is not set. IRQL: <= DISPATCH_LEVEL.
        fn NdisFreeTimerObject(TimerObject: NDIS_HANDLE);
        /// Initialises an event, not signalled. IRQL: any.
        fn NdisInitializeEvent(Event: *mut NDIS_EVENT);
        /// Signals an event. IRQL: <= DISPATCH_LEVEL.
        fn NdisSetEvent(Event: *mut NDIS_EVENT);
        /// Makes an event not signalled. IRQL: <= DISPATCH_LEVEL.
        fn NdisResetEvent(Event: *mut NDIS_EVENT);
        /// Waits for an event, milliseconds; zero: for ever. True if it was signalled. IRQL: PASSIVE_LEVEL.
        fn NdisWaitEvent(Event: *mut NDIS_EVENT, MsToWait: u32) -> BOOLEAN;
        /// Milliseconds since the system started. IRQL: any.
        fn NdisGetSystemUpTimeEx(pSystemUpTime: *mut LARGE_INTEGER);
        /// Processors receive-side scaling may use. IRQL: <= DISPATCH_LEVEL.
        fn NdisGetRssProcessorInformation(
            NdisHandle: NDIS_HANDLE,
            RssProcessorInfo: *mut NDIS_RSS_PROCESSOR_INFO,
            Size: *mut usize,
        ) -> NDIS_STATUS;
        /// Version of NDIS, major in the upper half. IRQL: <= DISPATCH_LEVEL.
        fn NdisGetVersion() -> u32;
        /// Allocates non-paged memory; null on failure. IRQL: <= DISPATCH_LEVEL.
        fn NdisAllocateMemoryWithTagPriority(
            NdisHandle: NDIS_HANDLE,
            Length: u32,
            Tag: u32,
            Priority: EX_POOL_PRIORITY,
        ) -> *mut c_void;
        /// Frees memory of `NdisAllocateMemoryWithTagPriority`. IRQL: <= DISPATCH_LEVEL.
        fn NdisFreeMemory(VirtualAddress: *mut c_void, Length: u32, MemoryFlags: u32);
        /// Writes an entry of the event log. IRQL: <= DISPATCH_LEVEL.
        fn NdisWriteEventLogEntry(
            LogHandle: *mut c_void,
            EventCode: NDIS_STATUS,
            UniqueEventValue: u32,
            NumStrings: u16,
            StringsList: *mut c_void,
            DataSize: u32,
            Data: *mut c_void,
        ) -> NDIS_STATUS;
    }
    variadic {
        /// Writes an entry of the event log; `NumberOfErrorValues` 32-bit values follow. A simulator may define it with as many integer
        /// parameters as it cares to keep. IRQL: <= DISPATCH_LEVEL.
        fn NdisWriteErrorLogEntry(
            NdisAdapterHandle: NDIS_HANDLE,
            ErrorCode: u32,
            NumberOfErrorValues: u32,
            ...
        );
    }
}
