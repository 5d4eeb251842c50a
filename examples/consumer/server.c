// The passive end. Its thread waits for connections, accepts one after the other, and closes what was its; everything between happens in
// callbacks at DISPATCH_LEVEL.

#include "consumer.h"

typedef struct _SERVER {
    ENDPOINT Endpoint;
    CONSUMER *Consumer;
    NDK_LISTENER *Listener;
    // Guards the next three.
    KSPIN_LOCK Lock;
    // A connector that a connect event brought, and nobody has taken yet.
    NDK_CONNECTOR *Waiting;
    // Nobody will take another.
    BOOLEAN Ending;
    // The queue pair is about to be closed: the completion callback, which only the completion queue's close waits for, posts no more.
    BOOLEAN Closing;
    KEVENT Asked;
    // The connection is over, and why if it was an error.
    KEVENT Over;
    volatile NTSTATUS Failure;
    // Touched by completions only.
    ULONG Answered;
    BOOLEAN Answering, Owed;
} SERVER;

static VOID End(SERVER *Server, NTSTATUS Status)
{
    // What a disconnect leaves of requests is no failure.
    if (!NT_SUCCESS(Status) && Status != STATUS_CANCELLED && NT_SUCCESS(Server->Failure)) Server->Failure = Status;
    KeSetEvent(&Server->Over, IO_NO_INCREMENT, FALSE);
}

// The lock is held for both, so that the close of the queue pair does not begin between the look at the flag and the end of the calls.
static NTSTATUS Post(SERVER *Server)
{
    KLOCK_QUEUE_HANDLE lock;
    KeAcquireInStackQueuedSpinLock(&Server->Lock, &lock);
    NTSTATUS status = STATUS_CANCELLED;
    if (!Server->Closing) {
        // The answer lets the peer ask again: first the receive for that.
        status = PostReceive(&Server->Endpoint);
        if (NT_SUCCESS(status)) status = PostSend(&Server->Endpoint);
    }
    KeReleaseInStackQueuedSpinLock(&lock);
    return status;
}

static VOID SetClosing(SERVER *Server, BOOLEAN Closing)
{
    KLOCK_QUEUE_HANDLE lock;
    KeAcquireInStackQueuedSpinLock(&Server->Lock, &lock);
    Server->Closing = Closing;
    KeReleaseInStackQueuedSpinLock(&lock);
}

// Answers the message that was received: whether the block that it tells of is there.
static NTSTATUS Answer(SERVER *Server)
{
    ENDPOINT *endpoint = &Server->Endpoint;
    MESSAGE *question = (MESSAGE *)(endpoint->Memory + RECEIVED), *answer = (MESSAGE *)(endpoint->Memory + SENT);
    if (Server->Answering) {
        // The peer had the last answer before we had its result; its memory is not ours yet.
        Server->Owed = TRUE;
        return STATUS_SUCCESS;
    }
    answer->Round = question->Round;
    answer->Status = BlockIs(endpoint, question->Round) ? STATUS_SUCCESS : STATUS_DATA_ERROR;
    NTSTATUS status = Post(Server);
    if (!NT_SUCCESS(status)) return status;
    Server->Answering = TRUE;
    Server->Answered++;
    return answer->Status;
}

static NTSTATUS Completed(SERVER *Server, CONST NDK_RESULT *Result)
{
    if (!NT_SUCCESS(Result->Status)) return Result->Status;
    if ((ULONG_PTR)Result->RequestContext == RequestReceive) return Answer(Server);
    Server->Answering = FALSE;
    if (!Server->Owed) return STATUS_SUCCESS;
    Server->Owed = FALSE;
    return Answer(Server);
}

static VOID NTAPI OnCompletions(PVOID Context, NTSTATUS Status)
{
    SERVER *server = Context;
    NDK_CQ *cq = server->Endpoint.Cq;
    NDK_RESULT result;
    if (!NT_SUCCESS(Status)) {
        // The queue and its queue pairs are dead. It notifies no more.
        End(server, Status);
        return;
    }
    while (cq->Dispatch->NdkGetCqResults(cq, &result, 1) == 1) {
        NTSTATUS status = Completed(server, &result);
        if (!NT_SUCCESS(status)) End(server, status);
    }
    // One notification for one arm. What comes from now on gives another callback, after this one has returned.
    cq->Dispatch->NdkArmCq(cq, NDK_CQ_NOTIFY_ANY);
}

static VOID NTAPI OnDisconnect(PVOID Context)
{
    // Neither NdkDisconnect nor a close is waited for here, at DISPATCH_LEVEL: the thread does that.
    End(Context, STATUS_SUCCESS);
}

static VOID NTAPI OnRefusedClosed(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
}

// It has to be closed too. Nobody waits for that but the listener's close.
static VOID Refuse(NDK_CONNECTOR *Connector)
{
    Connector->Dispatch->NdkReject(Connector, NULL, 0);
    Connector->Dispatch->NdkCloseConnector((NDK_OBJECT_HEADER *)Connector, OnRefusedClosed, NULL);
}

static VOID NTAPI OnConnect(PVOID Context, NDK_CONNECTOR *Connector)
{
    SERVER *server = Context;
    KLOCK_QUEUE_HANDLE lock;
    KeAcquireInStackQueuedSpinLock(&server->Lock, &lock);
    BOOLEAN taken = !server->Waiting && !server->Ending;
    if (taken) server->Waiting = Connector;
    KeReleaseInStackQueuedSpinLock(&lock);
    if (taken) {
        KeSetEvent(&server->Asked, IO_NO_INCREMENT, FALSE);
    } else {
        Refuse(Connector);
    }
}

static NDK_CONNECTOR *TakeWaiting(SERVER *Server, BOOLEAN Ending)
{
    KLOCK_QUEUE_HANDLE lock;
    KeAcquireInStackQueuedSpinLock(&Server->Lock, &lock);
    NDK_CONNECTOR *connector = Server->Waiting;
    Server->Waiting = NULL;
    Server->Ending = Ending;
    KeReleaseInStackQueuedSpinLock(&lock);
    return connector;
}

// Accepts, once everything is there that a connection needs.
static NTSTATUS Accept(SERVER *Server, NDK_CONNECTOR *Connector)
{
    ENDPOINT *endpoint = &Server->Endpoint;
    HELLO hello;
    NTSTATUS status = EndpointConnectionData(Connector, &hello, sizeof(hello));
    if (NT_SUCCESS(status) && (memcmp(hello.Magic, "consumer", sizeof(hello.Magic)) || hello.BlockSize > 1 << 20)) {
        status = STATUS_DATA_ERROR;
    }
    if (NT_SUCCESS(status)) {
        status = EndpointCreate(endpoint, &Server->Consumer->Adapter, hello.BlockSize, OnCompletions, Server);
    }
    if (NT_SUCCESS(status)) {
        // Armed while nothing can complete: so the callback, which polls, cannot run while this call does.
        endpoint->Cq->Dispatch->NdkArmCq(endpoint->Cq, NDK_CQ_NOTIFY_ANY);
        status = PostReceive(endpoint);
    }
    if (!NT_SUCCESS(status)) {
        Refuse(Connector);
        return status;
    }
    endpoint->Connector = Connector;
    WELCOME welcome = {(UINT64)(endpoint->Memory + BLOCK), endpoint->RemoteToken, endpoint->BlockSize};
    REQUEST(status, Connector->Dispatch->NdkAccept, Connector, endpoint->Qp, 1, 1, &welcome, sizeof(welcome), OnDisconnect,
        Server);
    return status;
}

static VOID Serve(SERVER *Server, NDK_CONNECTOR *Connector)
{
    KeClearEvent(&Server->Over);
    Server->Failure = STATUS_SUCCESS;
    Server->Answered = 0;
    Server->Answering = Server->Owed = FALSE;
    SetClosing(Server, FALSE);
    NTSTATUS status = Accept(Server, Connector);
    if (NT_SUCCESS(status)) {
        PVOID objects[] = {&Server->Consumer->Stop, &Server->Over};
        KeWaitForMultipleObjects(RTL_NUMBER_OF(objects), objects, WaitAny, Executive, KernelMode, FALSE, NULL, NULL);
        EndpointDisconnect(&Server->Endpoint);
        status = Server->Failure;
    }
    // A result that came before the disconnect may still be polled.
    SetClosing(Server, TRUE);
    EndpointClose(&Server->Endpoint, MistakeNone);
    if (NT_SUCCESS(status)) {
        Say("a connection came and went: %u answers\n", Server->Answered);
    } else {
        Say("a connection ended with %08x after %u answers\n", status, Server->Answered);
    }
}

static NTSTATUS Listen(SERVER *Server)
{
    NTSTATUS status;
    NDK_ADAPTER *adapter = Server->Consumer->Adapter.Raw;
    CREATE(status, Server->Listener, adapter->Dispatch->NdkCreateListener, adapter, OnConnect, Server);
    if (!NT_SUCCESS(status)) return status;
    SOCKADDR_IN at = AddressWithPort(Server->Consumer->Settings.Local, Server->Consumer->Settings.Port);
    REQUEST(status, Server->Listener->Dispatch->NdkListen, Server->Listener, (SOCKADDR *)&at, sizeof(at));
    return status;
}

NTSTATUS ServerRun(CONSUMER *Consumer)
{
    SERVER *server = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(SERVER), TAG);
    if (!server) return STATUS_INSUFFICIENT_RESOURCES;
    server->Consumer = Consumer;
    KeInitializeSpinLock(&server->Lock);
    KeInitializeEvent(&server->Asked, SynchronizationEvent, FALSE);
    KeInitializeEvent(&server->Over, NotificationEvent, FALSE);
    NTSTATUS status = Listen(server);
    if (NT_SUCCESS(status)) Say("listening on port %u\n", Consumer->Settings.Port);
    while (NT_SUCCESS(status)) {
        PVOID objects[] = {&Consumer->Stop, &server->Asked};
        NTSTATUS which = KeWaitForMultipleObjects(
            RTL_NUMBER_OF(objects), objects, WaitAny, Executive, KernelMode, FALSE, NULL, NULL);
        if (which == STATUS_WAIT_0) break;
        NDK_CONNECTOR *connector = TakeWaiting(server, FALSE);
        if (connector) Serve(server, connector);
    }
    if (server->Listener) {
        // The close pends until every connector that came from it is closed.
        NDK_CONNECTOR *connector = TakeWaiting(server, TRUE);
        if (connector) Refuse(connector);
        CloseAndWait(server->Listener->Dispatch->NdkCloseListener, server->Listener);
    }
    ExFreePoolWithTag(server, TAG);
    return status;
}
