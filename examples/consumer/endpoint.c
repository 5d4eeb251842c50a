// What either end has: a completion queue, a protection domain, a queue pair, registered memory, a connector.

#include "consumer.h"

// Receives and requests outstanding at once: one message each way, a write or a read. More results than the completion queue has room
// for kill it and its queue pairs.
#define RECEIVES 1
#define INITIATED 2

static NTSTATUS Register(ENDPOINT *Endpoint, ULONG BlockSize)
{
    NTSTATUS status;
    Endpoint->BlockSize = BlockSize;
    Endpoint->MemorySize = BLOCK + BlockSize;
    Endpoint->Memory = ExAllocatePool2(POOL_FLAG_NON_PAGED, Endpoint->MemorySize, TAG);
    if (!Endpoint->Memory) return STATUS_INSUFFICIENT_RESOURCES;
    Endpoint->Mdl = IoAllocateMdl(Endpoint->Memory, Endpoint->MemorySize, FALSE, FALSE, NULL);
    if (!Endpoint->Mdl) return STATUS_INSUFFICIENT_RESOURCES;
    MmBuildMdlForNonPagedPool(Endpoint->Mdl);

    CREATE(status, Endpoint->Mr, Endpoint->Pd->Dispatch->NdkCreateMr, Endpoint->Pd, FALSE);
    if (!NT_SUCCESS(status)) return status;
    REQUEST(status, Endpoint->Mr->Dispatch->NdkRegisterMr, Endpoint->Mr, Endpoint->Mdl, Endpoint->MemorySize,
        NDK_MR_FLAG_ALLOW_LOCAL_WRITE | NDK_MR_FLAG_ALLOW_REMOTE_READ | NDK_MR_FLAG_ALLOW_REMOTE_WRITE);
    if (!NT_SUCCESS(status)) return status;
    Endpoint->Registered = TRUE;
    Endpoint->LocalToken = Endpoint->Mr->Dispatch->NdkGetLocalTokenFromMr(Endpoint->Mr);
    Endpoint->RemoteToken = Endpoint->Mr->Dispatch->NdkGetRemoteTokenFromMr(Endpoint->Mr);
    return status;
}

NTSTATUS EndpointCreate(
    ENDPOINT *Endpoint, ADAPTER *Adapter, ULONG BlockSize, NDK_FN_CQ_NOTIFICATION_CALLBACK Notification, PVOID Context)
{
    NTSTATUS status;
    NDK_ADAPTER *adapter = Adapter->Raw;
    if (BlockSize > Adapter->Info.MaxTransferLength) return STATUS_NOT_SUPPORTED;
    CREATE(status, Endpoint->Cq, adapter->Dispatch->NdkCreateCq, adapter, RECEIVES + INITIATED, Notification, Context, NULL);
    if (!NT_SUCCESS(status)) return status;
    CREATE(status, Endpoint->Pd, adapter->Dispatch->NdkCreatePd, adapter);
    if (!NT_SUCCESS(status)) return status;
    CREATE(status, Endpoint->Qp, Endpoint->Pd->Dispatch->NdkCreateQp, Endpoint->Pd, Endpoint->Cq, Endpoint->Cq, Context,
        RECEIVES, INITIATED, 1, 1, 0);
    if (!NT_SUCCESS(status)) return status;
    return Register(Endpoint, BlockSize);
}

// When it is done, whatever its status, nothing accesses the memory any more.
VOID EndpointDisconnect(ENDPOINT *Endpoint)
{
    NTSTATUS status;
    if (!Endpoint->Connector) return;
    REQUEST(status, Endpoint->Connector->Dispatch->NdkDisconnect, Endpoint->Connector);
    // Fails where there is no connection (any more), and there is nothing to be done about that.
    UNREFERENCED_PARAMETER(status);
}

// Closes everything, dependents first. Then the memory may go.
VOID EndpointClose(ENDPOINT *Endpoint, MISTAKE Mistake)
{
    NTSTATUS status;
    if (Endpoint->Connector) CloseAndWait(Endpoint->Connector->Dispatch->NdkCloseConnector, Endpoint->Connector);
    if (Endpoint->Qp) CloseAndWait(Endpoint->Qp->Dispatch->NdkCloseQp, Endpoint->Qp);
    if (Endpoint->Registered) {
        REQUEST(status, Endpoint->Mr->Dispatch->NdkDeregisterMr, Endpoint->Mr);
        // As above.
        UNREFERENCED_PARAMETER(status);
    }
    if (Endpoint->Mr) CloseAndWait(Endpoint->Mr->Dispatch->NdkCloseMr, Endpoint->Mr);
    if (Endpoint->Pd) CloseAndWait(Endpoint->Pd->Dispatch->NdkClosePd, Endpoint->Pd);
    if (Endpoint->Cq) {
        NDK_FN_CLOSE_OBJECT close = Endpoint->Cq->Dispatch->NdkCloseCq;
        CloseAndWait(close, Endpoint->Cq);
        if (Mistake == MistakeCloseTwice) CloseAndWait(close, Endpoint->Cq);
    }
    if (Endpoint->Mdl) IoFreeMdl(Endpoint->Mdl);
    if (Endpoint->Memory) {
        ExFreePoolWithTag(Endpoint->Memory, TAG);
        if (Mistake == MistakeFreedMemory) *(volatile UCHAR *)Endpoint->Memory = 0;
    }
    RtlZeroMemory(Endpoint, sizeof(*Endpoint));
}

// What the peer sent with its request or its answer. The length that is told may be more than it sent: the rest is zero.
NTSTATUS EndpointConnectionData(NDK_CONNECTOR *Connector, PVOID Data, ULONG Length)
{
    UCHAR room[256];
    ULONG length = 0;
    NTSTATUS status = Connector->Dispatch->NdkGetConnectionData(Connector, NULL, NULL, NULL, &length);
    if (!NT_SUCCESS(status) && status != STATUS_BUFFER_TOO_SMALL) return status;
    if (length < Length || length > sizeof(room)) return STATUS_DATA_ERROR;
    status = Connector->Dispatch->NdkGetConnectionData(Connector, NULL, NULL, room, &length);
    if (NT_SUCCESS(status)) RtlCopyMemory(Data, room, Length);
    return status;
}

// The list need only last as long as the call, the memory until the result.
static NDK_SGE Element(ENDPOINT *Endpoint, ULONG Offset, ULONG Length)
{
    NDK_SGE element;
    element.VirtualAddress = Endpoint->Memory + Offset;
    element.Length = Length;
    element.MemoryRegionToken = Endpoint->LocalToken;
    return element;
}

#define CONTEXT(kind) ((PVOID)(ULONG_PTR)(kind))

NTSTATUS PostReceive(ENDPOINT *Endpoint)
{
    NDK_SGE element = Element(Endpoint, RECEIVED, sizeof(MESSAGE));
    return Endpoint->Qp->Dispatch->NdkReceive(Endpoint->Qp, CONTEXT(RequestReceive), &element, 1);
}

NTSTATUS PostSend(ENDPOINT *Endpoint)
{
    NDK_SGE element = Element(Endpoint, SENT, sizeof(MESSAGE));
    return Endpoint->Qp->Dispatch->NdkSend(
        Endpoint->Qp, CONTEXT(RequestSend), &element, 1, NDK_OP_FLAG_SEND_AND_SOLICIT_EVENT);
}

NTSTATUS PostWrite(ENDPOINT *Endpoint, CONST WELCOME *To)
{
    NDK_SGE element = Element(Endpoint, BLOCK, Endpoint->BlockSize);
    return Endpoint->Qp->Dispatch->NdkWrite(
        Endpoint->Qp, CONTEXT(RequestWrite), &element, 1, To->Address, To->Token, 0);
}

NTSTATUS PostRead(ENDPOINT *Endpoint, CONST WELCOME *From)
{
    NDK_SGE element = Element(Endpoint, BLOCK, Endpoint->BlockSize);
    return Endpoint->Qp->Dispatch->NdkRead(
        Endpoint->Qp, CONTEXT(RequestRead), &element, 1, From->Address, From->Token, 0);
}

static UCHAR PatternAt(ULONG Round, ULONG At)
{
    return (UCHAR)(Round * 31 + At + (At >> 8));
}

VOID FillBlock(ENDPOINT *Endpoint, ULONG Round)
{
    for (ULONG i = 0; i < Endpoint->BlockSize; i++) Endpoint->Memory[BLOCK + i] = PatternAt(Round, i);
}

BOOLEAN BlockIs(ENDPOINT *Endpoint, ULONG Round)
{
    for (ULONG i = 0; i < Endpoint->BlockSize; i++) {
        if (Endpoint->Memory[BLOCK + i] != PatternAt(Round, i)) return FALSE;
    }
    return TRUE;
}
