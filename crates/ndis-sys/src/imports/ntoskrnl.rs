//! `ntoskrnl.exe`: the kernel.

use crate::types::*;
use crate::wdm::*;

imports! {
    "ntoskrnl.exe" {
        /// Acquires a spin lock and raises to DISPATCH_LEVEL; returns the IRQL to go back to. IRQL: <=
        /// DISPATCH_LEVEL.
        fn KeAcquireSpinLockRaiseToDpc(SpinLock: *mut KSPIN_LOCK) -> KIRQL;
        /// Releases a spin lock and goes back to an IRQL. IRQL: DISPATCH_LEVEL.
        fn KeReleaseSpinLock(SpinLock: *mut KSPIN_LOCK, NewIrql: KIRQL);
        /// Acquires a spin lock when already at DISPATCH_LEVEL. IRQL: >= DISPATCH_LEVEL.
        fn KeAcquireSpinLockAtDpcLevel(SpinLock: *mut KSPIN_LOCK);
        /// Releases a spin lock and stays where it is. IRQL: >= DISPATCH_LEVEL.
        fn KeReleaseSpinLockFromDpcLevel(SpinLock: *mut KSPIN_LOCK);
        /// Acquires a spin lock if it is free. IRQL: >= DISPATCH_LEVEL.
        fn KeTryToAcquireSpinLockAtDpcLevel(SpinLock: *mut KSPIN_LOCK) -> BOOLEAN;
        /// Whether a spin lock is free. IRQL: >= DISPATCH_LEVEL.
        fn KeTestSpinLock(SpinLock: *mut KSPIN_LOCK) -> BOOLEAN;
        /// Acquires a spin lock in order of arrival and raises to DISPATCH_LEVEL. The handle, on the caller's stack, remembers the
        /// IRQL. IRQL: <= DISPATCH_LEVEL.
        fn KeAcquireInStackQueuedSpinLock(SpinLock: *mut KSPIN_LOCK, LockHandle: *mut KLOCK_QUEUE_HANDLE);
        /// Releases what `KeAcquireInStackQueuedSpinLock` acquired, and goes back to the IRQL. IRQL: DISPATCH_LEVEL.
        fn KeReleaseInStackQueuedSpinLock(LockHandle: *mut KLOCK_QUEUE_HANDLE);
        /// As `KeAcquireInStackQueuedSpinLock`, when already at DISPATCH_LEVEL. IRQL: >= DISPATCH_LEVEL.
        fn KeAcquireInStackQueuedSpinLockAtDpcLevel(
            SpinLock: *mut KSPIN_LOCK,
            LockHandle: *mut KLOCK_QUEUE_HANDLE,
        );
        /// Releases what `KeAcquireInStackQueuedSpinLockAtDpcLevel` acquired. IRQL: >= DISPATCH_LEVEL.
        fn KeReleaseInStackQueuedSpinLockFromDpcLevel(LockHandle: *mut KLOCK_QUEUE_HANDLE);
        /// Makes a spin lock free. IRQL: any.
        fn KeInitializeSpinLock(SpinLock: *mut KSPIN_LOCK);
        /// The processor's IRQL. IRQL: any.
        fn KeGetCurrentIrql() -> KIRQL;
        /// Raises the IRQL; returns the old one. IRQL: <= NewIrql.
        fn KfRaiseIrql(NewIrql: KIRQL) -> KIRQL;
        /// Lowers the IRQL to what it was before. IRQL: >= NewIrql.
        fn KeLowerIrql(NewIrql: KIRQL);
        /// Initialises a DPC. IRQL: any.
        fn KeInitializeDpc(Dpc: *mut KDPC, DeferredRoutine: KDEFERRED_ROUTINE, DeferredContext: *mut c_void);
        /// Queues a DPC unless it is queued already; tells whether it did. IRQL: any.
        fn KeInsertQueueDpc(
            Dpc: *mut KDPC,
            SystemArgument1: *mut c_void,
            SystemArgument2: *mut c_void,
        ) -> BOOLEAN;
        /// Takes a DPC out of the queue; tells whether it was there. IRQL: any.
        fn KeRemoveQueueDpc(Dpc: *mut KDPC) -> BOOLEAN;
        /// Says on which processor a DPC runs. IRQL: any.
        fn KeSetTargetProcessorDpcEx(Dpc: *mut KDPC, ProcNumber: *mut PROCESSOR_NUMBER) -> NTSTATUS;
        /// Says how urgent a DPC is. IRQL: any.
        fn KeSetImportanceDpc(Dpc: *mut KDPC, Importance: KDPC_IMPORTANCE);
        /// Returns when every DPC queued before has run. IRQL: PASSIVE_LEVEL.
        fn KeFlushQueuedDpcs();
        /// Initialises a timer. IRQL: <= DISPATCH_LEVEL.
        fn KeInitializeTimerEx(Timer: *mut KTIMER, Type: TIMER_TYPE);
        /// Sets a timer; due time in 100 ns, negative: relative. True if it was set already. IRQL: <=
        /// DISPATCH_LEVEL.
        fn KeSetTimer(Timer: *mut KTIMER, DueTime: LARGE_INTEGER, Dpc: *mut KDPC) -> BOOLEAN;
        /// As `KeSetTimer`, with a period in milliseconds. IRQL: <= DISPATCH_LEVEL.
        fn KeSetTimerEx(Timer: *mut KTIMER, DueTime: LARGE_INTEGER, Period: i32, Dpc: *mut KDPC) -> BOOLEAN;
        /// As `KeSetTimerEx`, with a delay that is tolerable, milliseconds. IRQL: <= DISPATCH_LEVEL.
        fn KeSetCoalescableTimer(
            Timer: *mut KTIMER,
            DueTime: LARGE_INTEGER,
            Period: u32,
            TolerableDelay: u32,
            Dpc: *mut KDPC,
        ) -> BOOLEAN;
        /// Cancels a timer; true if it was set. Its DPC may still be queued or running. IRQL: <=
        /// DISPATCH_LEVEL.
        fn KeCancelTimer(Timer: *mut KTIMER) -> BOOLEAN;
        /// Whether a timer is signalled. IRQL: <= DISPATCH_LEVEL.
        fn KeReadStateTimer(Timer: *mut KTIMER) -> BOOLEAN;
        /// Allocates a timer; null on failure. IRQL: <= DISPATCH_LEVEL.
        fn ExAllocateTimer(
            Callback: EXT_CALLBACK,
            CallbackContext: *mut c_void,
            Attributes: u32,
        ) -> *mut EX_TIMER;
        /// Sets a timer; true if it was set already. IRQL: <= DISPATCH_LEVEL.
        fn ExSetTimer(
            Timer: *mut EX_TIMER,
            DueTime: i64,
            Period: i64,
            Parameters: *mut EXT_SET_PARAMETERS_V0,
        ) -> BOOLEAN;
        /// Cancels a timer; true if it was set. IRQL: <= DISPATCH_LEVEL.
        fn ExCancelTimer(Timer: *mut EX_TIMER, Parameters: *mut c_void) -> BOOLEAN;
        /// Deletes a timer, cancelling it and waiting for its routine if asked to. IRQL: <= DISPATCH_LEVEL; <=
        /// APC_LEVEL when waiting.
        fn ExDeleteTimer(
            Timer: *mut EX_TIMER,
            Cancel: BOOLEAN,
            Wait: BOOLEAN,
            Parameters: *mut EXT_DELETE_PARAMETERS,
        ) -> BOOLEAN;
        /// Initialises an event. IRQL: any.
        fn KeInitializeEvent(Event: *mut KEVENT, Type: EVENT_TYPE, State: BOOLEAN);
        /// Signals an event; returns its previous state. IRQL: <= DISPATCH_LEVEL; PASSIVE_LEVEL if Wait is
        /// true.
        fn KeSetEvent(Event: *mut KEVENT, Increment: KPRIORITY, Wait: BOOLEAN) -> i32;
        /// Makes an event not signalled. IRQL: <= DISPATCH_LEVEL.
        fn KeClearEvent(Event: *mut KEVENT);
        /// Makes an event not signalled; returns its previous state. IRQL: <= DISPATCH_LEVEL.
        fn KeResetEvent(Event: *mut KEVENT) -> i32;
        /// Whether an event is signalled. IRQL: <= DISPATCH_LEVEL.
        fn KeReadStateEvent(Event: *mut KEVENT) -> i32;
        /// Waits for an object. IRQL: <= APC_LEVEL; <= DISPATCH_LEVEL with a zero timeout.
        fn KeWaitForSingleObject(
            Object: *mut c_void,
            WaitReason: KWAIT_REASON,
            WaitMode: KPROCESSOR_MODE,
            Alertable: BOOLEAN,
            Timeout: *mut LARGE_INTEGER,
        ) -> NTSTATUS;
        /// Waits for one of several objects, or for all of them. IRQL: as `KeWaitForSingleObject`.
        fn KeWaitForMultipleObjects(
            Count: u32,
            Object: *mut *mut c_void,
            WaitType: WAIT_TYPE,
            WaitReason: KWAIT_REASON,
            WaitMode: KPROCESSOR_MODE,
            Alertable: BOOLEAN,
            Timeout: *mut LARGE_INTEGER,
            WaitBlockArray: *mut KWAIT_BLOCK,
        ) -> NTSTATUS;
        /// Sleeps; in 100 ns, negative: relative. IRQL: <= APC_LEVEL.
        fn KeDelayExecutionThread(
            WaitMode: KPROCESSOR_MODE,
            Alertable: BOOLEAN,
            Interval: *mut LARGE_INTEGER,
        ) -> NTSTATUS;
        /// Initialises a semaphore. IRQL: PASSIVE_LEVEL.
        fn KeInitializeSemaphore(Semaphore: *mut KSEMAPHORE, Count: i32, Limit: i32);
        /// Raises a semaphore's count; returns its previous state. IRQL: <= DISPATCH_LEVEL.
        fn KeReleaseSemaphore(
            Semaphore: *mut KSEMAPHORE,
            Increment: KPRIORITY,
            Adjustment: i32,
            Wait: BOOLEAN,
        ) -> i32;
        /// Keeps normal kernel APCs away. IRQL: <= APC_LEVEL.
        fn KeEnterCriticalRegion();
        /// Lets normal kernel APCs in again. IRQL: <= APC_LEVEL.
        fn KeLeaveCriticalRegion();
        /// Interrupt time, 100 ns, and the performance counter at that moment. IRQL: any.
        fn KeQueryInterruptTimePrecise(QpcTimeStamp: *mut u64) -> u64;
        /// System time, 100 ns since 1601. IRQL: any.
        fn KeQuerySystemTimePrecise(CurrentTime: *mut LARGE_INTEGER);
        /// Performance counter, and its frequency in Hz if asked. IRQL: any.
        fn KeQueryPerformanceCounter(PerformanceFrequency: *mut LARGE_INTEGER) -> LARGE_INTEGER;
        /// Interrupt time without time asleep, 100 ns. IRQL: any.
        fn KeQueryUnbiasedInterruptTime() -> u64;
        /// 100 ns units between clock interrupts. IRQL: any.
        fn KeQueryTimeIncrement() -> u32;
        /// Spins; microseconds, at most 50. IRQL: any.
        fn KeStallExecutionProcessor(MicroSeconds: u32);
        /// Stops the system. IRQL: any.
        fn KeBugCheckEx(
            BugCheckCode: u32,
            BugCheckParameter1: usize,
            BugCheckParameter2: usize,
            BugCheckParameter3: usize,
            BugCheckParameter4: usize,
        ) -> !;
        /// Number of the processor; its group and number if asked. IRQL: any.
        fn KeGetCurrentProcessorNumberEx(ProcNumber: *mut PROCESSOR_NUMBER) -> u32;
        /// Active processors of a group or of all. IRQL: any.
        fn KeQueryActiveProcessorCountEx(GroupNumber: u16) -> u32;
        /// Processors of a group or of all there can ever be. IRQL: any.
        fn KeQueryMaximumProcessorCountEx(GroupNumber: u16) -> u32;
        /// Group and number of a processor. IRQL: any.
        fn KeGetProcessorNumberFromIndex(ProcIndex: u32, ProcNumber: *mut PROCESSOR_NUMBER) -> NTSTATUS;
        /// System-wide index of a processor. IRQL: any.
        fn KeGetProcessorIndexFromNumber(ProcNumber: *mut PROCESSOR_NUMBER) -> u32;
        /// Moves the thread to processors of a group. IRQL: <= DISPATCH_LEVEL.
        fn KeSetSystemGroupAffinityThread(
            Affinity: *mut GROUP_AFFINITY,
            PreviousAffinity: *mut GROUP_AFFINITY,
        );
        /// Moves the thread back. IRQL: <= DISPATCH_LEVEL.
        fn KeRevertToUserGroupAffinityThread(PreviousAffinity: *mut GROUP_AFFINITY);
        /// Creates a system thread; close its handle with `ZwClose`. IRQL: PASSIVE_LEVEL.
        fn PsCreateSystemThread(
            ThreadHandle: *mut HANDLE,
            DesiredAccess: u32,
            ObjectAttributes: *mut OBJECT_ATTRIBUTES,
            ProcessHandle: HANDLE,
            ClientId: *mut CLIENT_ID,
            StartRoutine: KSTART_ROUTINE,
            StartContext: *mut c_void,
        ) -> NTSTATUS;
        /// Ends the calling system thread. IRQL: PASSIVE_LEVEL.
        fn PsTerminateSystemThread(ExitStatus: NTSTATUS) -> NTSTATUS;
        /// Closes a handle. IRQL: PASSIVE_LEVEL.
        fn ZwClose(Handle: HANDLE) -> NTSTATUS;
        /// Opens a key of the registry; close its handle with `ZwClose`. IRQL: PASSIVE_LEVEL.
        fn ZwOpenKey(
            KeyHandle: *mut HANDLE,
            DesiredAccess: u32,
            ObjectAttributes: *mut OBJECT_ATTRIBUTES,
        ) -> NTSTATUS;
        /// Type and data of a key's value. IRQL: PASSIVE_LEVEL.
        fn ZwQueryValueKey(
            KeyHandle: HANDLE,
            ValueName: *mut UNICODE_STRING,
            KeyValueInformationClass: KEY_VALUE_INFORMATION_CLASS,
            KeyValueInformation: *mut c_void,
            Length: u32,
            ResultLength: *mut u32,
        ) -> NTSTATUS;
        /// References the object of a handle. IRQL: PASSIVE_LEVEL.
        fn ObReferenceObjectByHandle(
            Handle: HANDLE,
            DesiredAccess: u32,
            ObjectType: *mut c_void,
            AccessMode: KPROCESSOR_MODE,
            Object: *mut *mut c_void,
            HandleInformation: *mut c_void,
        ) -> NTSTATUS;
        /// References an object. IRQL: <= DISPATCH_LEVEL.
        fn ObfReferenceObject(Object: *mut c_void) -> isize;
        /// Dereferences an object. IRQL: <= DISPATCH_LEVEL.
        fn ObfDereferenceObject(Object: *mut c_void) -> isize;
        /// Allocates zeroed memory; null on failure unless a flag says raise. IRQL: <= DISPATCH_LEVEL; <=
        /// APC_LEVEL for paged pool.
        fn ExAllocatePool2(Flags: POOL_FLAGS, NumberOfBytes: usize, Tag: u32) -> *mut c_void;
        /// Allocates memory that is not zeroed; null on failure. `ExAllocatePool2` took its place. IRQL: as that.
        fn ExAllocatePoolWithTag(PoolType: POOL_TYPE, NumberOfBytes: usize, Tag: u32) -> *mut c_void;
        /// Makes a list of blocks of one size. IRQL: <= DISPATCH_LEVEL; <= APC_LEVEL for paged pool.
        fn ExInitializeLookasideListEx(
            Lookaside: *mut LOOKASIDE_LIST_EX,
            Allocate: Option<ALLOCATE_FUNCTION_EX>,
            Free: Option<FREE_FUNCTION_EX>,
            PoolType: POOL_TYPE,
            Flags: u32,
            Size: usize,
            Tag: u32,
            Depth: u16,
        ) -> NTSTATUS;
        /// Takes a block; null on failure. IRQL: <= DISPATCH_LEVEL; <= APC_LEVEL for paged pool.
        fn ExAllocateFromLookasideListEx(Lookaside: *mut LOOKASIDE_LIST_EX) -> *mut c_void;
        /// Gives a block back. IRQL: <= DISPATCH_LEVEL; <= APC_LEVEL for paged pool.
        fn ExFreeToLookasideListEx(Lookaside: *mut LOOKASIDE_LIST_EX, Entry: *mut c_void);
        /// Frees a list with what it keeps. IRQL: <= DISPATCH_LEVEL; <= APC_LEVEL for paged pool.
        fn ExDeleteLookasideListEx(Lookaside: *mut LOOKASIDE_LIST_EX);
        /// Initialises a resource. IRQL: <= DISPATCH_LEVEL.
        fn ExInitializeResourceLite(Resource: *mut ERESOURCE) -> NTSTATUS;
        /// Deletes a resource that nobody owns. IRQL: <= APC_LEVEL.
        fn ExDeleteResourceLite(Resource: *mut ERESOURCE) -> NTSTATUS;
        /// Acquires a resource for its thread alone; with kernel APCs kept away. IRQL: <= APC_LEVEL.
        fn ExAcquireResourceExclusiveLite(Resource: *mut ERESOURCE, Wait: BOOLEAN) -> BOOLEAN;
        /// Acquires a resource together with others; with kernel APCs kept away. IRQL: <= APC_LEVEL.
        fn ExAcquireResourceSharedLite(Resource: *mut ERESOURCE, Wait: BOOLEAN) -> BOOLEAN;
        /// Releases a resource that the thread owns. IRQL: <= DISPATCH_LEVEL.
        fn ExReleaseResourceLite(Resource: *mut ERESOURCE);
        /// Frees pool memory. IRQL: <= DISPATCH_LEVEL; <= APC_LEVEL for paged pool.
        fn ExFreePool(P: *mut c_void);
        /// Frees pool memory and checks its tag. IRQL: <= DISPATCH_LEVEL; <= APC_LEVEL for paged pool.
        fn ExFreePoolWithTag(P: *mut c_void, Tag: u32);
        /// Initialises rundown protection. IRQL: <= APC_LEVEL.
        fn ExInitializeRundownProtection(RunRef: *mut EX_RUNDOWN_REF);
        /// Takes protection; false once rundown has begun. IRQL: <= DISPATCH_LEVEL.
        fn ExAcquireRundownProtection(RunRef: *mut EX_RUNDOWN_REF) -> BOOLEAN;
        /// Gives protection back. IRQL: <= DISPATCH_LEVEL.
        fn ExReleaseRundownProtection(RunRef: *mut EX_RUNDOWN_REF);
        /// Begins rundown and waits until all protection is given back. IRQL: <= APC_LEVEL.
        fn ExWaitForRundownProtectionRelease(RunRef: *mut EX_RUNDOWN_REF);
        /// Says that rundown is complete. IRQL: <= APC_LEVEL.
        fn ExRundownCompleted(RunRef: *mut EX_RUNDOWN_REF);
        /// Makes rundown protection usable again after it was run down. IRQL: <= APC_LEVEL.
        fn ExReInitializeRundownProtection(RunRef: *mut EX_RUNDOWN_REF);
        /// Acquires a fast mutex and raises to APC_LEVEL. IRQL: <= APC_LEVEL.
        fn ExAcquireFastMutex(FastMutex: *mut FAST_MUTEX);
        /// Releases a fast mutex. IRQL: APC_LEVEL.
        fn ExReleaseFastMutex(FastMutex: *mut FAST_MUTEX);
        /// Allocates a work item for a device; null on failure. IRQL: <= DISPATCH_LEVEL.
        fn IoAllocateWorkItem(DeviceObject: *mut DEVICE_OBJECT) -> *mut IO_WORKITEM;
        /// Frees a work item that is not queued. IRQL: <= DISPATCH_LEVEL.
        fn IoFreeWorkItem(IoWorkItem: *mut IO_WORKITEM);
        /// Queues a work item that is not queued already. IRQL: <= DISPATCH_LEVEL.
        fn IoQueueWorkItem(
            IoWorkItem: *mut IO_WORKITEM,
            WorkerRoutine: IO_WORKITEM_ROUTINE,
            QueueType: WORK_QUEUE_TYPE,
            Context: *mut c_void,
        );
        /// As `IoQueueWorkItem`; the routine gets the item too and may free it. IRQL: <= DISPATCH_LEVEL.
        fn IoQueueWorkItemEx(
            IoWorkItem: *mut IO_WORKITEM,
            WorkerRoutine: IO_WORKITEM_ROUTINE_EX,
            QueueType: WORK_QUEUE_TYPE,
            Context: *mut c_void,
        );
        /// Allocates memory that lives as long as the driver object, found by a key. IRQL: <= DISPATCH_LEVEL.
        fn IoAllocateDriverObjectExtension(
            DriverObject: *mut DRIVER_OBJECT,
            ClientIdentificationAddress: *mut c_void,
            DriverObjectExtensionSize: u32,
            DriverObjectExtension: *mut *mut c_void,
        ) -> NTSTATUS;
        /// Finds memory of `IoAllocateDriverObjectExtension`; null if there is none. IRQL: <= DISPATCH_LEVEL.
        fn IoGetDriverObjectExtension(
            DriverObject: *mut DRIVER_OBJECT,
            ClientIdentificationAddress: *mut c_void,
        ) -> *mut c_void;
        /// Allocates an entry of the event log, `ERROR_LOG_MAXIMUM_SIZE` bytes at most; null on failure. IRQL:
        /// <= DISPATCH_LEVEL.
        fn IoAllocateErrorLogEntry(IoObject: *mut c_void, EntrySize: u8) -> *mut c_void;
        /// Writes an entry and frees it. IRQL: <= DISPATCH_LEVEL.
        fn IoWriteErrorLogEntry(ElEntry: *mut c_void);
        /// Frees an entry that is not to be written. IRQL: <= DISPATCH_LEVEL.
        fn IoFreeErrorLogEntry(ElEntry: *mut c_void);
        /// Gets a device's DMA adapter; null on failure. Released with `PutDmaAdapter`. IRQL: PASSIVE_LEVEL.
        fn IoGetDmaAdapter(
            PhysicalDeviceObject: *mut DEVICE_OBJECT,
            DeviceDescription: *mut DEVICE_DESCRIPTION,
            NumberOfMapRegisters: *mut u32,
        ) -> *mut DMA_ADAPTER;
        /// Allocates an MDL; null on failure. IRQL: <= DISPATCH_LEVEL.
        fn IoAllocateMdl(
            VirtualAddress: *mut c_void,
            Length: u32,
            SecondaryBuffer: BOOLEAN,
            ChargeQuota: BOOLEAN,
            Irp: *mut IRP,
        ) -> *mut MDL;
        /// Frees an MDL. IRQL: <= DISPATCH_LEVEL.
        fn IoFreeMdl(Mdl: *mut MDL);
        /// Makes an MDL describe a part of what another describes. IRQL: <= DISPATCH_LEVEL.
        fn IoBuildPartialMdl(
            SourceMdl: *mut MDL,
            TargetMdl: *mut MDL,
            VirtualAddress: *mut c_void,
            Length: u32,
        );
        /// A property of a device. IRQL: PASSIVE_LEVEL.
        fn IoGetDeviceProperty(
            DeviceObject: *mut DEVICE_OBJECT,
            DeviceProperty: DEVICE_REGISTRY_PROPERTY,
            BufferLength: u32,
            PropertyBuffer: *mut c_void,
            ResultLength: *mut u32,
        ) -> NTSTATUS;
        /// Maps an MDL's pages; null on failure for kernel mode. IRQL: <= DISPATCH_LEVEL for kernel mode.
        fn MmMapLockedPagesSpecifyCache(
            MemoryDescriptorList: *mut MDL,
            AccessMode: KPROCESSOR_MODE,
            CacheType: MEMORY_CACHING_TYPE,
            RequestedAddress: *mut c_void,
            BugCheckOnFailure: u32,
            Priority: u32,
        ) -> *mut c_void;
        /// Undoes `MmMapLockedPagesSpecifyCache`. IRQL: <= DISPATCH_LEVEL for kernel mode.
        fn MmUnmapLockedPages(BaseAddress: *mut c_void, MemoryDescriptorList: *mut MDL);
        /// Fills in the pages of an MDL over non-paged pool. IRQL: <= DISPATCH_LEVEL.
        fn MmBuildMdlForNonPagedPool(MemoryDescriptorList: *mut MDL);
        /// Locks an MDL's pages. Raises an exception on failure, for user addresses. IRQL: <= DISPATCH_LEVEL
        /// for memory that is not pageable, else <= APC_LEVEL.
        fn MmProbeAndLockPages(
            MemoryDescriptorList: *mut MDL,
            AccessMode: KPROCESSOR_MODE,
            Operation: LOCK_OPERATION,
        );
        /// Unlocks an MDL's pages. IRQL: <= DISPATCH_LEVEL.
        fn MmUnlockPages(MemoryDescriptorList: *mut MDL);
        /// Physical address of a resident virtual one. IRQL: any.
        fn MmGetPhysicalAddress(BaseAddress: *mut c_void) -> PHYSICAL_ADDRESS;
        /// Maps device memory; null on failure. IRQL: <= DISPATCH_LEVEL.
        fn MmMapIoSpaceEx(
            PhysicalAddress: PHYSICAL_ADDRESS,
            NumberOfBytes: usize,
            Protect: u32,
        ) -> *mut c_void;
        /// Undoes `MmMapIoSpaceEx`. IRQL: <= DISPATCH_LEVEL.
        fn MmUnmapIoSpace(BaseAddress: *mut c_void, NumberOfBytes: usize);
        /// Whether an access would fault. IRQL: <= DISPATCH_LEVEL.
        fn MmIsAddressValid(VirtualAddress: *mut c_void) -> BOOLEAN;
        /// Bytes an MDL needs for a buffer. IRQL: any.
        fn MmSizeOfMdl(Base: *mut c_void, Length: usize) -> usize;
        /// Address of a routine of the kernel or the HAL; null if there is none. IRQL: PASSIVE_LEVEL.
        fn MmGetSystemRoutineAddress(SystemRoutineName: *mut UNICODE_STRING) -> *mut c_void;
        /// Makes a counted string of a terminated one. IRQL: any.
        fn RtlInitUnicodeString(DestinationString: *mut UNICODE_STRING, SourceString: *const u16);
        /// Copies as much as the destination can hold. IRQL: any, for resident strings.
        fn RtlCopyUnicodeString(DestinationString: *mut UNICODE_STRING, SourceString: *const UNICODE_STRING);
        /// Whether two strings are equal. IRQL: PASSIVE_LEVEL.
        fn RtlEqualUnicodeString(
            String1: *const UNICODE_STRING,
            String2: *const UNICODE_STRING,
            CaseInSensitive: BOOLEAN,
        ) -> BOOLEAN;
        /// Orders two strings. IRQL: PASSIVE_LEVEL.
        fn RtlCompareUnicodeString(
            String1: *const UNICODE_STRING,
            String2: *const UNICODE_STRING,
            CaseInSensitive: BOOLEAN,
        ) -> i32;
        /// How many leading bytes are equal. IRQL: any, for resident memory.
        fn RtlCompareMemory(Source1: *const c_void, Source2: *const c_void, Length: usize) -> usize;
        /// A pseudo-random number below 2^31; changes the seed. IRQL: < DISPATCH_LEVEL.
        fn RtlRandomEx(Seed: *mut u32) -> u32;
        /// Registers a provider of events. Calls the callback, if a session waits for the provider. IRQL: PASSIVE_LEVEL.
        fn EtwRegister(
            ProviderId: *const GUID,
            EnableCallback: Option<ETWENABLECALLBACK>,
            CallbackContext: *mut c_void,
            RegHandle: *mut REGHANDLE,
        ) -> NTSTATUS;
        /// Ends a registration; the callback is not called any more. IRQL: PASSIVE_LEVEL.
        fn EtwUnregister(RegHandle: REGHANDLE) -> NTSTATUS;
        /// Sets something of a provider. IRQL: PASSIVE_LEVEL.
        fn EtwSetInformation(
            RegHandle: REGHANDLE,
            InformationClass: EVENT_INFO_CLASS,
            EventInformation: *mut c_void,
            InformationLength: u32,
        ) -> NTSTATUS;
        /// Writes an event to the sessions that want it. IRQL: any; above APC_LEVEL nothing may be pageable.
        fn EtwWriteTransfer(
            RegHandle: REGHANDLE,
            EventDescriptor: *const EVENT_DESCRIPTOR,
            ActivityId: *const GUID,
            RelatedActivityId: *const GUID,
            UserDataCount: u32,
            UserData: *mut EVENT_DATA_DESCRIPTOR,
        ) -> NTSTATUS;
    }
    variadic {
        /// Prints to the debugger; a format of the C language, at most 512 bytes. A simulator may define it with as many integer
        /// parameters as it cares to print. IRQL: <= DIRQL.
        fn DbgPrintEx(ComponentId: u32, Level: u32, Format: *const u8, ...) -> u32;
        /// Prints to the debugger, as information of the component DEFAULT. IRQL: <= DIRQL, for Unicode PASSIVE_LEVEL.
        fn DbgPrint(Format: *const u8, ...) -> u32;
    }
}
