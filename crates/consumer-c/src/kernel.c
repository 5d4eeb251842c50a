// A driver that calls what the headers of examples/consumer declare beyond what the example needs, and what they define themselves: lists,
// interlocked operations, and what else is macro or inline function in the WDK. It runs in its DriverEntry, and says what failed.

#include <netioapi.h>

#define TAG 'nreK'

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            DbgPrint("kernel.c:%u: %s\n", (ULONG)__LINE__, #condition); \
            return STATUS_UNSUCCESSFUL; \
        } \
    } while (0)

typedef struct _ITEM {
    ULONG Number;
    LIST_ENTRY Link;
    SINGLE_LIST_ENTRY Single;
} ITEM;

static NTSTATUS Lists(VOID)
{
    ITEM items[4];
    LIST_ENTRY head, other;
    SINGLE_LIST_ENTRY stack = {NULL};
    InitializeListHead(&head);
    InitializeListHead(&other);
    CHECK(IsListEmpty(&head));
    for (ULONG i = 0; i < RTL_NUMBER_OF(items); i++) items[i].Number = i;
    InsertTailList(&head, &items[1].Link);
    InsertTailList(&head, &items[2].Link);
    InsertHeadList(&head, &items[0].Link);
    InsertTailList(&other, &items[3].Link);
    // Without its head.
    RemoveEntryList(&other);
    AppendTailList(&head, &items[3].Link);
    ULONG number = 0;
    for (PLIST_ENTRY at = head.Flink; at != &head; at = at->Flink) {
        CHECK(CONTAINING_RECORD(at, ITEM, Link)->Number == number++);
        CHECK(at->Flink->Blink == at);
    }
    CHECK(number == 4);
    CHECK(!RemoveEntryList(&items[1].Link));
    CHECK(RemoveHeadList(&head) == &items[0].Link);
    CHECK(RemoveTailList(&head) == &items[3].Link);
    CHECK(RemoveEntryList(&items[2].Link));
    CHECK(IsListEmpty(&head) && RemoveHeadList(&head) == &head);
    PushEntryList(&stack, &items[0].Single);
    PushEntryList(&stack, &items[1].Single);
    CHECK(PopEntryList(&stack) == &items[1].Single && PopEntryList(&stack) == &items[0].Single && !PopEntryList(&stack));
    return STATUS_SUCCESS;
}

static NTSTATUS Interlocked(VOID)
{
    LONG n = 1;
    LONG64 m = 1LL << 40;
    PVOID p = NULL;
    CHECK(InterlockedIncrement(&n) == 2 && InterlockedDecrement(&n) == 1);
    CHECK(InterlockedAdd(&n, 4) == 5 && InterlockedExchangeAdd(&n, 2) == 5 && n == 7);
    CHECK(InterlockedOr(&n, 8) == 7 && InterlockedAnd(&n, 12) == 15 && InterlockedXor(&n, 4) == 12 && n == 8);
    CHECK(InterlockedExchange(&n, 3) == 8);
    CHECK(InterlockedCompareExchange(&n, 9, 4) == 3 && n == 3);
    CHECK(InterlockedCompareExchange(&n, 9, 3) == 3 && n == 9);
    CHECK(InterlockedBitTestAndSet(&n, 1) == 0 && n == 11 && InterlockedBitTestAndReset(&n, 3) == 1 && n == 3);
    CHECK(InterlockedIncrement64(&m) == (1LL << 40) + 1 && InterlockedDecrement64(&m) == 1LL << 40);
    CHECK(InterlockedCompareExchange64(&m, -1, 1LL << 40) == 1LL << 40 && InterlockedExchangeAdd64(&m, 1) == -1 && m == 0);
    CHECK(InterlockedCompareExchangePointer(&p, &n, NULL) == NULL && InterlockedExchangePointer(&p, NULL) == &n && !p);
    return STATUS_SUCCESS;
}

static NTSTATUS Locks(VOID)
{
    KSPIN_LOCK lock, fair;
    KLOCK_QUEUE_HANDLE queued;
    KEVENT event;
    KIRQL old;
    FAST_MUTEX mutex;
    ERESOURCE resource;
    EX_RUNDOWN_REF rundown;
    KSEMAPHORE semaphore;
    LARGE_INTEGER none = {.QuadPart = 0};
    KeInitializeSpinLock(&lock);
    KeInitializeSpinLock(&fair);
    KeAcquireSpinLock(&lock, &old);
    CHECK(old == PASSIVE_LEVEL && KeGetCurrentIrql() == DISPATCH_LEVEL && !KeTestSpinLock(&lock));
    KeReleaseSpinLock(&lock, old);
    KeRaiseIrql(DISPATCH_LEVEL, &old);
    CHECK(KeTryToAcquireSpinLockAtDpcLevel(&lock));
    KeReleaseSpinLockFromDpcLevel(&lock);
    KeAcquireSpinLockAtDpcLevel(&lock);
    KeReleaseSpinLockFromDpcLevel(&lock);
    KeAcquireInStackQueuedSpinLockAtDpcLevel(&fair, &queued);
    KeReleaseInStackQueuedSpinLockFromDpcLevel(&queued);
    KeLowerIrql(old);
    KeInitializeEvent(&event, NotificationEvent, TRUE);
    CHECK(KeReadStateEvent(&event) && KeResetEvent(&event) && !KeReadStateEvent(&event));
    ExInitializeFastMutex(&mutex);
    ExAcquireFastMutex(&mutex);
    CHECK(KeGetCurrentIrql() == APC_LEVEL);
    ExReleaseFastMutex(&mutex);
    CHECK(KeGetCurrentIrql() == PASSIVE_LEVEL);
    CHECK(NT_SUCCESS(ExInitializeResourceLite(&resource)));
    KeEnterCriticalRegion();
    CHECK(ExAcquireResourceExclusiveLite(&resource, TRUE));
    ExReleaseResourceLite(&resource);
    CHECK(ExAcquireResourceSharedLite(&resource, TRUE) && ExAcquireResourceSharedLite(&resource, FALSE));
    ExReleaseResourceLite(&resource);
    ExReleaseResourceLite(&resource);
    KeLeaveCriticalRegion();
    CHECK(NT_SUCCESS(ExDeleteResourceLite(&resource)));
    ExInitializeRundownProtection(&rundown);
    CHECK(ExAcquireRundownProtection(&rundown));
    ExReleaseRundownProtection(&rundown);
    ExWaitForRundownProtectionRelease(&rundown);
    CHECK(!ExAcquireRundownProtection(&rundown));
    ExRundownCompleted(&rundown);
    ExReInitializeRundownProtection(&rundown);
    CHECK(ExAcquireRundownProtection(&rundown));
    ExReleaseRundownProtection(&rundown);
    ExWaitForRundownProtectionRelease(&rundown);
    KeInitializeSemaphore(&semaphore, 0, 2);
    CHECK(KeReleaseSemaphore(&semaphore, IO_NO_INCREMENT, 2, FALSE) == 0);
    CHECK(KeWaitForSingleObject(&semaphore, Executive, KernelMode, FALSE, &none) == STATUS_SUCCESS);
    CHECK(KeWaitForSingleObject(&semaphore, Executive, KernelMode, FALSE, &none) == STATUS_SUCCESS);
    CHECK(KeWaitForSingleObject(&semaphore, Executive, KernelMode, FALSE, &none) == STATUS_TIMEOUT);
    return STATUS_SUCCESS;
}

typedef struct _TOLD {
    KEVENT Event;
    PVOID First, Second;
    KIRQL Irql;
} TOLD;

static VOID Tell(TOLD *Told, PVOID First, PVOID Second)
{
    Told->First = First;
    Told->Second = Second;
    Told->Irql = KeGetCurrentIrql();
    KeSetEvent(&Told->Event, IO_NO_INCREMENT, FALSE);
}

static VOID NTAPI OnDpc(struct _KDPC *Dpc, PVOID Context, PVOID First, PVOID Second)
{
    UNREFERENCED_PARAMETER(Dpc);
    Tell(Context, First, Second);
}

static VOID NTAPI OnTimer(PEX_TIMER Timer, PVOID Context)
{
    Tell(Context, Timer, NULL);
}

static VOID NTAPI OnWork(PDEVICE_OBJECT Object, PVOID Context)
{
    Tell(Context, Object, NULL);
}

static VOID NTAPI OnWorkEx(PVOID Object, PVOID Context, PIO_WORKITEM Item)
{
    Tell(Context, Object, Item);
}

static NTSTATUS Time(PDRIVER_OBJECT Driver)
{
    TOLD told;
    KDPC dpc;
    KTIMER timer;
    LARGE_INTEGER due = {.QuadPart = -10000}, before, after;
    KeInitializeEvent(&told.Event, SynchronizationEvent, FALSE);
    KeInitializeDpc(&dpc, OnDpc, &told);
    CHECK(KeInsertQueueDpc(&dpc, &timer, &due));
    KeWaitForSingleObject(&told.Event, Executive, KernelMode, FALSE, NULL);
    CHECK(told.First == &timer && told.Second == &due && told.Irql == DISPATCH_LEVEL);
    PROCESSOR_NUMBER here;
    CHECK(NT_SUCCESS(KeGetProcessorNumberFromIndex(0, &here)) && NT_SUCCESS(KeSetTargetProcessorDpcEx(&dpc, &here)));
    KeSetImportanceDpc(&dpc, HighImportance);
    CHECK(!KeRemoveQueueDpc(&dpc));

    KeInitializeTimerEx(&timer, NotificationTimer);
    ULONGLONG start = KeQueryInterruptTime();
    KeQuerySystemTime(&before);
    CHECK(!KeSetTimer(&timer, due, &dpc));
    KeWaitForSingleObject(&told.Event, Executive, KernelMode, FALSE, NULL);
    KeQuerySystemTime(&after);
    CHECK(KeQueryInterruptTime() - start >= 10000 && after.QuadPart - before.QuadPart >= 10000);
    CHECK(KeReadStateTimer(&timer) && !KeCancelTimer(&timer));
    due.QuadPart = -100 * 10000;
    KeQueryTickCount(&before);
    CHECK(!KeSetTimerEx(&timer, due, 100, NULL) && KeCancelTimer(&timer));
    KeDelayExecutionThread(KernelMode, FALSE, &due);
    KeQueryTickCount(&after);
    CHECK(after.QuadPart - before.QuadPart >= 6);
    CHECK(!KeSetCoalescableTimer(&timer, due, 0, 10, NULL));
    KeWaitForSingleObject(&timer, Executive, KernelMode, FALSE, NULL);
    ULONGLONG awake = KeQueryUnbiasedInterruptTime();
    LARGE_INTEGER frequency, counter = KeQueryPerformanceCounter(&frequency);
    KeStallExecutionProcessor(50);
    CHECK(KeQueryUnbiasedInterruptTime() - awake >= 500);
    CHECK((KeQueryPerformanceCounter(NULL).QuadPart - counter.QuadPart) * 1000000 / frequency.QuadPart >= 50);
    KeFlushQueuedDpcs();

    PEX_TIMER extended = ExAllocateTimer(OnTimer, &told, EX_TIMER_NOTIFICATION);
    CHECK(extended);
    CHECK(!ExSetTimer(extended, -10000, 0, NULL));
    KeWaitForSingleObject(&told.Event, Executive, KernelMode, FALSE, NULL);
    CHECK(told.First == extended && told.Irql == DISPATCH_LEVEL);
    CHECK(!ExSetTimer(extended, -10000, 0, NULL) && ExCancelTimer(extended, NULL) && !ExCancelTimer(extended, NULL));
    ExDeleteTimer(extended, TRUE, TRUE, NULL);

    PIO_WORKITEM item = IoAllocateWorkItem((PDEVICE_OBJECT)Driver);
    CHECK(item);
    IoQueueWorkItem(item, OnWork, DelayedWorkQueue, &told);
    KeWaitForSingleObject(&told.Event, Executive, KernelMode, FALSE, NULL);
    CHECK(told.First == Driver && told.Irql == PASSIVE_LEVEL);
    IoQueueWorkItemEx(item, OnWorkEx, DelayedWorkQueue, &told);
    KeWaitForSingleObject(&told.Event, Executive, KernelMode, FALSE, NULL);
    CHECK(told.First == Driver && told.Second == item);
    IoFreeWorkItem(item);
    return STATUS_SUCCESS;
}

static VOID NTAPI Thread(PVOID Context)
{
    Tell(Context, NULL, NULL);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static NTSTATUS Threads(VOID)
{
    TOLD told;
    HANDLE handle;
    PVOID thread;
    KeInitializeEvent(&told.Event, SynchronizationEvent, FALSE);
    CHECK(NT_SUCCESS(PsCreateSystemThread(&handle, THREAD_ALL_ACCESS, NULL, NULL, NULL, Thread, &told)));
    CHECK(NT_SUCCESS(ObReferenceObjectByHandle(handle, THREAD_ALL_ACCESS, NULL, KernelMode, &thread, NULL)));
    ZwClose(handle);
    CHECK(ObReferenceObject(thread) > 1 && ObDereferenceObject(thread) > 0);
    KeWaitForSingleObject(thread, Executive, KernelMode, FALSE, NULL);
    ObDereferenceObject(thread);
    CHECK(KeReadStateEvent(&told.Event) && told.Irql == PASSIVE_LEVEL);
    return STATUS_SUCCESS;
}

static NTSTATUS Processors(VOID)
{
    PROCESSOR_NUMBER number;
    ULONG count = KeQueryActiveProcessorCountEx(ALL_PROCESSOR_GROUPS);
    CHECK(count && count <= KeQueryMaximumProcessorCountEx(ALL_PROCESSOR_GROUPS));
    CHECK(NT_SUCCESS(KeGetProcessorNumberFromIndex(count - 1, &number)));
    CHECK(KeGetProcessorIndexFromNumber(&number) == count - 1);
    GROUP_AFFINITY last = {.Mask = (KAFFINITY)1 << number.Number, .Group = number.Group}, before;
    KeSetSystemGroupAffinityThread(&last, &before);
    CHECK(KeGetCurrentProcessorNumberEx(&number) == count - 1 && (KAFFINITY)1 << number.Number == last.Mask);
    KeRevertToUserGroupAffinityThread(&before);
    return STATUS_SUCCESS;
}

static VOID NTAPI OnEnable(
    LPCGUID SourceId, ULONG ControlCode, UCHAR Level, ULONGLONG MatchAnyKeyword, ULONGLONG MatchAllKeyword,
    PEVENT_FILTER_DESCRIPTOR FilterData, PVOID CallbackContext)
{
    UNREFERENCED_PARAMETER(SourceId);
    UNREFERENCED_PARAMETER(ControlCode);
    UNREFERENCED_PARAMETER(Level);
    UNREFERENCED_PARAMETER(MatchAnyKeyword);
    UNREFERENCED_PARAMETER(MatchAllKeyword);
    UNREFERENCED_PARAMETER(FilterData);
    UNREFERENCED_PARAMETER(CallbackContext);
}

static NTSTATUS Logs(PDRIVER_OBJECT Driver)
{
    static const GUID provider = {0x5ac1a2b0, 0x3b0d, 0x4b43, {0x9c, 0x1e, 0x6d, 0x2f, 0x70, 0x11, 0x8e, 0x05}};
    // The length of it all, and the provider's name.
    static const char traits[] = "\x09\0kernel";
    EVENT_DESCRIPTOR event = {.Level = 4};
    EVENT_DATA_DESCRIPTOR data;
    REGHANDLE handle;
    CHECK(NT_SUCCESS(EtwRegister(&provider, OnEnable, NULL, &handle)));
    CHECK(NT_SUCCESS(EtwSetInformation(handle, EventProviderSetTraits, (PVOID)traits, sizeof(traits))));
    EventDataDescCreate(&data, traits, sizeof(traits));
    CHECK(NT_SUCCESS(EtwWriteTransfer(handle, &event, NULL, NULL, 1, &data)));
    CHECK(NT_SUCCESS(EtwUnregister(handle)));

    PIO_ERROR_LOG_PACKET packet = IoAllocateErrorLogEntry(Driver, sizeof(IO_ERROR_LOG_PACKET));
    CHECK(packet);
    packet->ErrorCode = STATUS_UNSUCCESSFUL;
    packet->DumpDataSize = sizeof(ULONG);
    IoWriteErrorLogEntry(packet);
    packet = IoAllocateErrorLogEntry(Driver, ERROR_LOG_MAXIMUM_SIZE);
    CHECK(packet);
    IoFreeErrorLogEntry(packet);
    DbgPrintEx(DPFLTR_IHVDRIVER_ID, DPFLTR_ERROR_LEVEL, "kernel.c: %s\n", "as an error");
    return STATUS_SUCCESS;
}

static VOID NTAPI OnAddress(PVOID Context, PMIB_UNICASTIPADDRESS_ROW Row, MIB_NOTIFICATION_TYPE Type)
{
    UNREFERENCED_PARAMETER(Row);
    if (Type == MibInitialNotification) KeSetEvent(Context, IO_NO_INCREMENT, FALSE);
}

static VOID NTAPI OnRoute(PVOID Context, PMIB_IPFORWARD_ROW2 Row, MIB_NOTIFICATION_TYPE Type)
{
    UNREFERENCED_PARAMETER(Context);
    UNREFERENCED_PARAMETER(Row);
    UNREFERENCED_PARAMETER(Type);
}

// Of a machine without a network, which has nothing to find.
static NTSTATUS Network(VOID)
{
    NET_LUID luid = {.Info = {.IfType = 6, .NetLuidIndex = 0x123456}};
    NET_IFINDEX index;
    MIB_UNICASTIPADDRESS_TABLE *table;
    MIB_UNICASTIPADDRESS_ROW address = {.Address.si_family = AF_INET};
    MIB_IPNET_ROW2 neighbour = {.Address.si_family = AF_INET};
    MIB_IPFORWARD_ROW2 route;
    SOCKADDR_INET to = {.Ipv4 = {.sin_family = AF_INET, .sin_addr.S_un.S_un_b = {10, 0, 0, 9}}}, from;
    KEVENT event;
    HANDLE addresses, routes;
    CHECK(luid.Value == 0x0006123456000000);
    KeInitializeEvent(&event, SynchronizationEvent, FALSE);
    CHECK(GetUnicastIpAddressTable(AF_UNSPEC, &table) == STATUS_NOT_FOUND);
    CHECK(!NT_SUCCESS(GetUnicastIpAddressEntry(&address)));
    CHECK(!NT_SUCCESS(ConvertInterfaceLuidToIndex(&luid, &index)) && !NT_SUCCESS(ConvertInterfaceIndexToLuid(77, &luid)));
    CHECK(!NT_SUCCESS(GetIpNetEntry2(&neighbour)) && !NT_SUCCESS(ResolveIpNetEntry2(&neighbour, NULL)));
    CHECK(!NT_SUCCESS(GetBestRoute2(NULL, 0, NULL, &to, 0, &route, &from)));
    CHECK(NT_SUCCESS(NotifyUnicastIpAddressChange(AF_INET, OnAddress, &event, TRUE, &addresses)));
    KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, NULL);
    CHECK(NT_SUCCESS(NotifyRouteChange2(AF_INET, OnRoute, NULL, FALSE, &routes)));
    CHECK(NT_SUCCESS(CancelMibChangeNotify2(routes)) && NT_SUCCESS(CancelMibChangeNotify2(addresses)));
    return STATUS_SUCCESS;
}

static NTSTATUS Memory(VOID)
{
    // The kernel wants a list at a multiple of 16, which only its type can see to here.
    struct {
        UCHAR Before;
        LOOKASIDE_LIST_EX List;
    } own;
    CHECK(NT_SUCCESS(ExInitializeLookasideListEx(&own.List, NULL, NULL, NonPagedPoolNx, 0, 100, TAG, 0)));
    PUCHAR entry = ExAllocateFromLookasideListEx(&own.List);
    CHECK(entry);
    ExFreeToLookasideListEx(&own.List, entry);
    ExDeleteLookasideListEx(&own.List);

    PUCHAR pages = ExAllocatePoolZero(NonPagedPoolNx, 3 * PAGE_SIZE, TAG);
    CHECK(pages && pages[0] == 0 && pages[3 * PAGE_SIZE - 1] == 0);
    PMDL mdl = IoAllocateMdl(pages + 10, 2 * PAGE_SIZE, FALSE, FALSE, NULL);
    CHECK(mdl && MmSizeOfMdl(pages + 10, 2 * PAGE_SIZE) == sizeof(MDL) + ADDRESS_AND_SIZE_TO_SPAN_PAGES(pages + 10, 2 * PAGE_SIZE) * sizeof(PFN_NUMBER));
    MmProbeAndLockPages(mdl, KernelMode, IoModifyAccess);
    CHECK(MmGetMdlVirtualAddress(mdl) == pages + 10 && MmGetMdlByteCount(mdl) == 2 * PAGE_SIZE);
    CHECK(MmGetMdlPfnArray(mdl)[0] == (PFN_NUMBER)MmGetPhysicalAddress(pages).QuadPart >> PAGE_SHIFT);
    PUCHAR mapped = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority | MdlMappingNoExecute);
    CHECK(mapped && mapped == MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority));
    mapped[0] = 7;
    CHECK(pages[10] == 7);
    PMDL part = IoAllocateMdl(pages + 10, PAGE_SIZE, FALSE, FALSE, NULL);
    CHECK(part);
    IoBuildPartialMdl(mdl, part, pages + 20, 5);
    CHECK(MmGetMdlByteOffset(part) == BYTE_OFFSET(pages + 20) && MmGetMdlByteCount(part) == 5);
    MmPrepareMdlForReuse(part);
    IoFreeMdl(part);
    MmUnlockPages(mdl);
    IoFreeMdl(mdl);
    RtlMoveMemory(pages + 1, pages, 20);
    CHECK(pages[11] == 7 && MmIsAddressValid(pages));
    ExFreePool(pages);
    return STATUS_SUCCESS;
}

static NTSTATUS Strings(VOID)
{
    DECLARE_CONST_UNICODE_STRING(fixed, L"Parameters");
    UNICODE_STRING other;
    WCHAR room[4];
    UNICODE_STRING small = {0, sizeof(room), room};
    RtlInitUnicodeString(&other, L"PARAMETERS");
    CHECK(fixed.Length == 20 && fixed.MaximumLength == 22);
    CHECK(RtlEqualUnicodeString(&fixed, &other, TRUE) && !RtlEqualUnicodeString(&fixed, &other, FALSE));
    CHECK(RtlCompareUnicodeString(&fixed, &other, FALSE) > 0);
    RtlCopyUnicodeString(&small, &fixed);
    CHECK(small.Length == sizeof(room) && RtlEqualMemory(room, L"Para", sizeof(room)));
    CHECK(RtlCompareMemory(room, L"Pare", sizeof(room)) == 6);
    ULONG seed = 1;
    CHECK(RtlRandomEx(&seed) < 0x80000000 && seed != 1);
    RtlInitUnicodeString(&other, L"KeBugCheckEx");
    CHECK(MmGetSystemRoutineAddress(&other));
    return STATUS_SUCCESS;
}

static VOID NTAPI Unload(PDRIVER_OBJECT Driver)
{
    UNREFERENCED_PARAMETER(Driver);
}

NTSTATUS NTAPI KernelDriverEntry(PDRIVER_OBJECT Driver, PUNICODE_STRING RegistryPath)
{
    UNREFERENCED_PARAMETER(RegistryPath);
    Driver->DriverUnload = Unload;
    NTSTATUS status = Lists();
    if (NT_SUCCESS(status)) status = Interlocked();
    if (NT_SUCCESS(status)) status = Locks();
    if (NT_SUCCESS(status)) status = Time(Driver);
    if (NT_SUCCESS(status)) status = Threads();
    if (NT_SUCCESS(status)) status = Processors();
    if (NT_SUCCESS(status)) status = Logs(Driver);
    if (NT_SUCCESS(status)) status = Network();
    if (NT_SUCCESS(status)) status = Memory();
    if (NT_SUCCESS(status)) status = Strings();
    return status;
}
