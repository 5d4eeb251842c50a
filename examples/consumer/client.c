// The active end. Its thread connects, writes a block, asks whether it came, reads it back, and so on; then it disconnects. PASSIVE_LEVEL
// but for the callbacks.

#include "consumer.h"

typedef struct _CLIENT {
    ENDPOINT Endpoint;
    CONSUMER *Consumer;
    WELCOME Welcome;
    // Something happened: look at the completion queue, and at what follows.
    KEVENT Wake;
    // The peer disconnected, or the connection broke.
    volatile BOOLEAN Gone;
    // Why the completion queue is dead, if it is.
    volatile NTSTATUS Dead;
} CLIENT;

static VOID NTAPI OnCompletions(PVOID Context, NTSTATUS Status)
{
    CLIENT *client = Context;
    if (client->Consumer->Settings.Mistake == MistakeWaitInCallback) {
        KeWaitForSingleObject(&client->Consumer->Stop, Executive, KernelMode, FALSE, NULL);
    }
    client->Dead = Status;
    KeSetEvent(&client->Wake, IO_NO_INCREMENT, FALSE);
}

static VOID NTAPI OnDisconnect(PVOID Context)
{
    CLIENT *client = Context;
    client->Gone = TRUE;
    KeSetEvent(&client->Wake, IO_NO_INCREMENT, FALSE);
}

// The next result, or why there will be none.
static NTSTATUS NextResult(CLIENT *Client, NDK_RESULT *Result)
{
    NDK_CQ *cq = Client->Endpoint.Cq;
    for (;;) {
        if (cq->Dispatch->NdkGetCqResults(cq, Result, 1) == 1) return Result->Status;
        cq->Dispatch->NdkArmCq(cq, NDK_CQ_NOTIFY_ANY);
        // One that came between the two calls need not be notified if the queue was notified of it before.
        if (cq->Dispatch->NdkGetCqResults(cq, Result, 1) == 1) return Result->Status;
        if (!NT_SUCCESS(Client->Dead)) return Client->Dead;
        // A peer that goes does not end our requests, and DriverUnload waits for us.
        if (Client->Gone) return STATUS_CONNECTION_ABORTED;
        PVOID objects[] = {&Client->Consumer->Stop, &Client->Wake};
        NTSTATUS status = KeWaitForMultipleObjects(
            RTL_NUMBER_OF(objects), objects, WaitAny, Executive, KernelMode, FALSE, NULL, NULL);
        if (status == STATUS_WAIT_0) return STATUS_CANCELLED;
    }
}

// Waits for one result of each kind in a set of kinds.
static NTSTATUS Await(CLIENT *Client, ULONG Kinds)
{
    while (Kinds) {
        NDK_RESULT result;
        NTSTATUS status = NextResult(Client, &result);
        if (!NT_SUCCESS(status)) return status;
        ULONG kind = 1ul << (ULONG_PTR)result.RequestContext;
        if (!(Kinds & kind)) return STATUS_DATA_ERROR;
        Kinds &= ~kind;
    }
    return STATUS_SUCCESS;
}

static NTSTATUS Round(CLIENT *Client, ULONG Number)
{
    ENDPOINT *endpoint = &Client->Endpoint;
    MESSAGE *question = (MESSAGE *)(endpoint->Memory + SENT), *answer = (MESSAGE *)(endpoint->Memory + RECEIVED);
    // First the receive for the answer, then the question.
    NTSTATUS status = PostReceive(endpoint);
    if (!NT_SUCCESS(status)) return status;
    FillBlock(endpoint, Number);
    question->Round = Number;
    question->Status = STATUS_SUCCESS;
    status = PostWrite(endpoint, &Client->Welcome);
    if (!NT_SUCCESS(status)) return status;
    // The peer has the block before it has the message.
    status = PostSend(endpoint);
    if (!NT_SUCCESS(status)) return status;
    status = Await(Client, 1 << RequestWrite | 1 << RequestSend | 1 << RequestReceive);
    if (!NT_SUCCESS(status)) return status;
    if (answer->Round != Number || !NT_SUCCESS(answer->Status)) return STATUS_DATA_ERROR;

    RtlZeroMemory(endpoint->Memory + BLOCK, endpoint->BlockSize);
    status = PostRead(endpoint, &Client->Welcome);
    if (!NT_SUCCESS(status)) return status;
    status = Await(Client, 1 << RequestRead);
    if (!NT_SUCCESS(status)) return status;
    return BlockIs(endpoint, Number) ? STATUS_SUCCESS : STATUS_DATA_ERROR;
}

static NTSTATUS Connect(CLIENT *Client)
{
    SETTINGS *settings = &Client->Consumer->Settings;
    NDK_ADAPTER *adapter = Client->Consumer->Adapter.Raw;
    ENDPOINT *endpoint = &Client->Endpoint;
    SOCKADDR_IN from = AddressWithPort(settings->Local, 0), to = AddressWithPort(settings->Peer, settings->Port);
    HELLO hello = {"consumer", settings->BlockSize, settings->Rounds};
    NTSTATUS status;
    CREATE(status, endpoint->Connector, adapter->Dispatch->NdkCreateConnector, adapter);
    if (!NT_SUCCESS(status)) return status;
    NDK_CONNECTOR *connector = endpoint->Connector;
    // The server may not listen yet.
    for (ULONG attempt = 0;; attempt++) {
        REQUEST(status, connector->Dispatch->NdkConnect, connector, endpoint->Qp, (SOCKADDR *)&from, sizeof(from),
            (SOCKADDR *)&to, sizeof(to), 1, 1, &hello, sizeof(hello));
        if (status != STATUS_CONNECTION_REFUSED || attempt == 20) break;
        LARGE_INTEGER pause = {.QuadPart = -1000000};
        status = KeWaitForSingleObject(&Client->Consumer->Stop, Executive, KernelMode, FALSE, &pause);
        if (status == STATUS_SUCCESS) return STATUS_CANCELLED;
    }
    if (!NT_SUCCESS(status)) return status;
    // The peer has accepted, and waits: now is the time to look at its answer.
    status = EndpointConnectionData(connector, &Client->Welcome, sizeof(Client->Welcome));
    if (NT_SUCCESS(status) && Client->Welcome.Size < settings->BlockSize) status = STATUS_REMOTE_RESOURCES;
    if (!NT_SUCCESS(status)) {
        connector->Dispatch->NdkReject(connector, NULL, 0);
        return status;
    }
    REQUEST(status, connector->Dispatch->NdkCompleteConnect, connector, OnDisconnect, Client);
    return status;
}

NTSTATUS ClientRun(CONSUMER *Consumer)
{
    SETTINGS *settings = &Consumer->Settings;
    // In pool: callbacks come on any thread, at DISPATCH_LEVEL.
    CLIENT *client = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(CLIENT), TAG);
    if (!client) return STATUS_INSUFFICIENT_RESOURCES;
    client->Consumer = Consumer;
    KeInitializeEvent(&client->Wake, SynchronizationEvent, FALSE);
    NTSTATUS status = EndpointCreate(&client->Endpoint, &Consumer->Adapter, settings->BlockSize, OnCompletions, client);
    if (NT_SUCCESS(status)) status = Connect(client);
    for (ULONG round = 0; NT_SUCCESS(status) && round < settings->Rounds; round++) status = Round(client, round);
    if (NT_SUCCESS(status)) {
        Say("%u blocks of %u bytes were written, answered and read back\n", settings->Rounds, settings->BlockSize);
    }
    EndpointDisconnect(&client->Endpoint);
    EndpointClose(&client->Endpoint, settings->Mistake);
    ExFreePoolWithTag(client, TAG);
    return status;
}
