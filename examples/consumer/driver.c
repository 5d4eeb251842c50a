// The driver: entry point, unloading, and the system thread that does the work.

#include "consumer.h"

DRIVER_INITIALIZE DriverEntry;
DRIVER_UNLOAD DriverUnload;
KSTART_ROUTINE ConsumerThread;

// PASSIVE_LEVEL.
VOID NTAPI ConsumerThread(PVOID Context)
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

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
    // One thread, one adapter: no device object is needed to hang this on. It goes with the driver object, and every load has its own, where
    // a static variable of linked code would be that of all machines.
    CONSUMER *consumer;
    NTSTATUS status = IoAllocateDriverObjectExtension(DriverObject, (PVOID)DriverEntry, sizeof(CONSUMER), (PVOID *)&consumer);
    if (!NT_SUCCESS(status)) return status;
    RtlZeroMemory(consumer, sizeof(*consumer));
    KeInitializeEvent(&consumer->Stop, NotificationEvent, FALSE);

    status = SettingsRead(RegistryPath, &consumer->Settings);
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
    if (!NT_SUCCESS(status)) return status;
    DriverObject->DriverUnload = DriverUnload;
    return STATUS_SUCCESS;
}

VOID NTAPI DriverUnload(PDRIVER_OBJECT DriverObject)
{
    CONSUMER *consumer = IoGetDriverObjectExtension(DriverObject, (PVOID)DriverEntry);
    KeSetEvent(&consumer->Stop, IO_NO_INCREMENT, FALSE);
    // Its code must not go while the thread runs in it.
    KeWaitForSingleObject(consumer->Thread, Executive, KernelMode, FALSE, NULL);
    ObDereferenceObject(consumer->Thread);
}
