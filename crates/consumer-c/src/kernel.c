// A driver that calls what the headers of examples/consumer declare beyond what the example needs, above all what they define themselves:
// lists, interlocked operations, and what else is macro or inline function in the WDK. It runs in its DriverEntry, and says what failed.

#include <ntddk.h>

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
    KSPIN_LOCK lock;
    KIRQL old;
    FAST_MUTEX mutex;
    ERESOURCE resource;
    EX_RUNDOWN_REF rundown;
    KSEMAPHORE semaphore;
    LARGE_INTEGER none = {.QuadPart = 0};
    KeInitializeSpinLock(&lock);
    KeAcquireSpinLock(&lock, &old);
    CHECK(old == PASSIVE_LEVEL && KeGetCurrentIrql() == DISPATCH_LEVEL && !KeTestSpinLock(&lock));
    KeReleaseSpinLock(&lock, old);
    KeRaiseIrql(DISPATCH_LEVEL, &old);
    CHECK(KeTryToAcquireSpinLockAtDpcLevel(&lock));
    KeReleaseSpinLockFromDpcLevel(&lock);
    KeLowerIrql(old);
    ExInitializeFastMutex(&mutex);
    ExAcquireFastMutex(&mutex);
    CHECK(KeGetCurrentIrql() == APC_LEVEL);
    ExReleaseFastMutex(&mutex);
    CHECK(KeGetCurrentIrql() == PASSIVE_LEVEL);
    CHECK(NT_SUCCESS(ExInitializeResourceLite(&resource)));
    KeEnterCriticalRegion();
    CHECK(ExAcquireResourceExclusiveLite(&resource, TRUE));
    ExReleaseResourceLite(&resource);
    KeLeaveCriticalRegion();
    CHECK(NT_SUCCESS(ExDeleteResourceLite(&resource)));
    ExInitializeRundownProtection(&rundown);
    CHECK(ExAcquireRundownProtection(&rundown));
    ExReleaseRundownProtection(&rundown);
    ExWaitForRundownProtectionRelease(&rundown);
    CHECK(!ExAcquireRundownProtection(&rundown));
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
    KeFlushQueuedDpcs();

    PEX_TIMER extended = ExAllocateTimer(OnTimer, &told, EX_TIMER_NOTIFICATION);
    CHECK(extended);
    CHECK(!ExSetTimer(extended, -10000, 0, NULL));
    KeWaitForSingleObject(&told.Event, Executive, KernelMode, FALSE, NULL);
    CHECK(told.First == extended && told.Irql == DISPATCH_LEVEL);
    ExDeleteTimer(extended, TRUE, TRUE, NULL);

    PIO_WORKITEM item = IoAllocateWorkItem((PDEVICE_OBJECT)Driver);
    CHECK(item);
    IoQueueWorkItem(item, OnWork, DelayedWorkQueue, &told);
    KeWaitForSingleObject(&told.Event, Executive, KernelMode, FALSE, NULL);
    CHECK(told.First == Driver && told.Irql == PASSIVE_LEVEL);
    IoFreeWorkItem(item);
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
    ExFreePoolWithTag(pages, TAG);
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
    if (NT_SUCCESS(status)) status = Memory();
    if (NT_SUCCESS(status)) status = Strings();
    return status;
}
