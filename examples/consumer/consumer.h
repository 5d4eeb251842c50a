// An NDK consumer as a driver: what its parts have in common.
//
// driver.c    entry point, unloading, the system thread
// settings.c  what the registry says
// adapter.c   the way to a provider and back
// wait.c      calls that may pend
// endpoint.c  completion queue, protection domain, queue pair, memory
// client.c    the active end: connects, writes, asks, reads back
// server.c    the passive end: accepts, looks at what was written, answers in its completion callback
// guard.c     tables of control flow guard, for an image that is built without the WDK
#pragma once

#include <ntddk.h>
#include <wsk.h>
#include <netioapi.h>
#include <ndkpi.h>
#include <wskndk.h>

#define TAG 'snoC'

#define Say(...) DbgPrintEx(DPFLTR_IHVDRIVER_ID, DPFLTR_INFO_LEVEL, "consumer: " __VA_ARGS__)

// ---- Settings: values of the service's key Parameters

typedef enum _MISTAKE {
    MistakeNone,
    // The completion queue is closed twice.
    MistakeCloseTwice,
    // Memory is written to after it was freed.
    MistakeFreedMemory,
    // The completion callback waits, at DISPATCH_LEVEL.
    MistakeWaitInCallback,
} MISTAKE;

typedef struct _SETTINGS {
    // REG_SZ Role: "server" or "client".
    BOOLEAN Server;
    // REG_SZ LocalAddress and PeerAddress: IPv4. The peer's is the client's only.
    IN_ADDR Local, Peer;
    // REG_DWORD Port.
    USHORT Port;
    // REG_DWORD Rounds and BlockSize (bytes): what the client does.
    ULONG Rounds, BlockSize;
    // REG_DWORD Mistake: what to do wrong, for those who want to see a report.
    MISTAKE Mistake;
} SETTINGS;

NTSTATUS SettingsRead(PUNICODE_STRING RegistryPath, SETTINGS *Settings);

// ---- The driver's own state: one instance, as there is one thread

typedef struct _ADAPTER {
    WSK_REGISTRATION Registration;
    WSK_PROVIDER_NPI Provider;
    WSK_PROVIDER_NDK_DISPATCH Ndk;
    NDK_ADAPTER *Raw;
    NDK_ADAPTER_INFO Info;
} ADAPTER;

typedef struct _CONSUMER {
    SETTINGS Settings;
    ADAPTER Adapter;
    // DriverUnload wants the thread to end.
    KEVENT Stop;
    PVOID Thread;
} CONSUMER;

NTSTATUS ClientRun(CONSUMER *Consumer);
NTSTATUS ServerRun(CONSUMER *Consumer);

// ---- The way to a provider. PASSIVE_LEVEL.

NTSTATUS AdapterOpen(ADAPTER *Adapter, IN_ADDR Address);
VOID AdapterClose(ADAPTER *Adapter);
SOCKADDR_IN AddressWithPort(IN_ADDR Address, USHORT Port);

// ---- Calls that may pend. PASSIVE_LEVEL.

// The context of one call. It may lie on the stack because whoever makes the call waits without a timeout.
typedef struct _CALL {
    KEVENT Done;
    NTSTATUS Status;
    NDK_OBJECT_HEADER *Object;
} CALL;

VOID CallBegin(CALL *Call);
// What a call comes to that returned this.
NTSTATUS CallEnd(CALL *Call, NTSTATUS Returned);
VOID NTAPI CallCreated(PVOID Context, NTSTATUS Status, NDK_OBJECT_HEADER *Object);
VOID NTAPI CallDone(PVOID Context, NTSTATUS Status);
VOID NTAPI CallClosed(PVOID Context);
VOID CloseAndWait(NDK_FN_CLOSE_OBJECT Close, PVOID Object);

// A call that creates an object: what it would give at once, or by callback.
#define CREATE(status, out, function, ...) \
    do { \
        CALL call_; \
        CallBegin(&call_); \
        (out) = NULL; \
        (status) = CallEnd(&call_, function(__VA_ARGS__, CallCreated, &call_, &(out))); \
        if (NT_SUCCESS(status) && call_.Object) (out) = (PVOID)call_.Object; \
    } while (0)

// A call with a completion.
#define REQUEST(status, function, ...) \
    do { \
        CALL call_; \
        CallBegin(&call_); \
        (status) = CallEnd(&call_, function(__VA_ARGS__, CallDone, &call_)); \
    } while (0)

// ---- What either end has

// What a request is, and its context.
typedef enum _REQUEST_KIND { RequestReceive = 1, RequestSend, RequestWrite, RequestRead } REQUEST_KIND;

typedef struct _MESSAGE {
    ULONG Round;
    NTSTATUS Status;
} MESSAGE;

// Private data of the connection request.
typedef struct _HELLO {
    CHAR Magic[8];
    ULONG BlockSize;
    ULONG Rounds;
} HELLO;

// Private data of the answer: where the client may write.
typedef struct _WELCOME {
    UINT64 Address;
    ULONG Token;
    ULONG Size;
} WELCOME;

typedef struct _ENDPOINT {
    NDK_CQ *Cq;
    NDK_PD *Pd;
    NDK_QP *Qp;
    NDK_MR *Mr;
    NDK_CONNECTOR *Connector;
    BOOLEAN Registered;
    ULONG LocalToken, RemoteToken;
    // The registered memory: a message to receive, one to send, and the block.
    PUCHAR Memory;
    ULONG MemorySize, BlockSize;
    PMDL Mdl;
} ENDPOINT;

#define RECEIVED 0
#define SENT 64
#define BLOCK 128

// PASSIVE_LEVEL. What was created before a failure remains for EndpointClose.
NTSTATUS EndpointCreate(
    ENDPOINT *Endpoint, ADAPTER *Adapter, ULONG BlockSize, NDK_FN_CQ_NOTIFICATION_CALLBACK Notification, PVOID Context);
VOID EndpointDisconnect(ENDPOINT *Endpoint);
VOID EndpointClose(ENDPOINT *Endpoint, MISTAKE Mistake);
NTSTATUS EndpointConnectionData(NDK_CONNECTOR *Connector, PVOID Data, ULONG Length);

// At or below DISPATCH_LEVEL.
NTSTATUS PostReceive(ENDPOINT *Endpoint);
NTSTATUS PostSend(ENDPOINT *Endpoint);
NTSTATUS PostWrite(ENDPOINT *Endpoint, CONST WELCOME *To);
NTSTATUS PostRead(ENDPOINT *Endpoint, CONST WELCOME *From);
VOID FillBlock(ENDPOINT *Endpoint, ULONG Round);
BOOLEAN BlockIs(ENDPOINT *Endpoint, ULONG Round);
