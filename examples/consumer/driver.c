// The driver: entry point, unloading, and the system thread that does the work.

#include "consumer.h"

DRIVER_INITIALIZE DriverEntry;
DRIVER_UNLOAD DriverUnload;
KSTART_ROUTINE ConsumerThread;

// One thread, one adapter: no device object is needed to hang this on.
static CONSUMER *TheConsumer;

// PASSIVE_LEVEL.
VOID ConsumerThread(PVOID Context)
{
    CONSUMER *consumer = Context;
    CONST CHAR *role = consumer->Settings.Server ? "server" : "client";
    NTSTATUS status = AdapterOpen(&consumer->Adapter, consumer->Settings.Local);
    if (NT_SUCCESS(status)) {
        Say("%s on an adapter of NDK %u.%u, at most %u bytes a transfer\n", role, consumer->Adapter.Info.Version.Major,
            consumer->Adapter.Info.Version.Minor, consumer->Adapter.Info.MaxTransferLength);
        status = consumer->Settings.Server ? ServerRun(consumer) : ClientRun(consumer);
        AdapterClose(&consumer->Adapter);
    }
    if (NT_SUCCESS(status)) {
        Say("%s ended well\n", role);
    } else {
        Say("%s ended with %08x\n", role, status);
    }
    PsTerminateSystemThread(status);
}

NTSTATUS DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
    CONSUMER *consumer = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(CONSUMER), TAG);
    if (!consumer) return STATUS_INSUFFICIENT_RESOURCES;
    KeInitializeEvent(&consumer->Stop, NotificationEvent, FALSE);

    NTSTATUS status = SettingsRead(RegistryPath, &consumer->Settings);
    if (NT_SUCCESS(status)) {
        OBJECT_ATTRIBUTES attributes;
        HANDLE thread;
        InitializeObjectAttributes(&attributes, NULL, OBJ_KERNEL_HANDLE, NULL, NULL);
        status = PsCreateSystemThread(&thread, THREAD_ALL_ACCESS, &attributes, NULL, NULL, ConsumerThread, consumer);
        if (NT_SUCCESS(status)) {
            // What DriverUnload waits for. It cannot fail: the handle is the kernel's and open.
            ObReferenceObjectByHandle(thread, THREAD_ALL_ACCESS, NULL, KernelMode, &consumer->Thread, NULL);
            ZwClose(thread);
        }
    }
    if (!NT_SUCCESS(status)) {
        ExFreePoolWithTag(consumer, TAG);
        return status;
    }
    TheConsumer = consumer;
    DriverObject->DriverUnload = DriverUnload;
    return STATUS_SUCCESS;
}

VOID DriverUnload(PDRIVER_OBJECT DriverObject)
{
    UNREFERENCED_PARAMETER(DriverObject);
    KeSetEvent(&TheConsumer->Stop, IO_NO_INCREMENT, FALSE);
    // Its code must not go while the thread runs in it.
    KeWaitForSingleObject(TheConsumer->Thread, Executive, KernelMode, FALSE, NULL);
    ObDereferenceObject(TheConsumer->Thread);
    ExFreePoolWithTag(TheConsumer, TAG);
    TheConsumer = NULL;
}
