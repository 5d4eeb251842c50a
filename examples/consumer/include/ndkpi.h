// NDKPI, the interface of Network Direct Kernel, versions 1.1 to 2.1, as its consumers see it. Names, order and types of everything are
// those of the public declarations; the words are ours. With the WDK, use the header of the same name that comes with it.
//
// Sizes, offsets and numbers are proven: `cargo xtask consumer` compares each with the facts in crates/ndkpi/data.
#pragma once

#include <ntddk.h>
#include <ws2def.h>

typedef struct _NDK_ADAPTER NDK_ADAPTER;
typedef struct _NDK_CQ NDK_CQ;
typedef struct _NDK_SRQ NDK_SRQ;
typedef struct _NDK_PD NDK_PD;
typedef struct _NDK_MR NDK_MR;
typedef struct _NDK_MW NDK_MW;
typedef struct _NDK_QP NDK_QP;
typedef struct _NDK_SHARED_ENDPOINT NDK_SHARED_ENDPOINT;
typedef struct _NDK_CONNECTOR NDK_CONNECTOR;
typedef struct _NDK_LISTENER NDK_LISTENER;
typedef struct _NDK_LOGICAL_ADDRESS_MAPPING NDK_LOGICAL_ADDRESS_MAPPING;
typedef PHYSICAL_ADDRESS NDK_LOGICAL_ADDRESS;

typedef enum _NDK_OBJECT_TYPE {
    NdkObjectTypeUndefined = 0,
    NdkObjectTypeAdapter = 1,
    NdkObjectTypeQp = 2,
    NdkObjectTypeCq = 3,
    NdkObjectTypeMr = 4,
    NdkObjectTypeMw = 5,
    NdkObjectTypePd = 6,
    NdkObjectTypeSharedEndpoint = 7,
    NdkObjectTypeConnector = 8,
    NdkObjectTypeListener = 9,
    NdkObjectTypeSrq = 0xa,
    NdkObjectTypeMax = 0xb,
} NDK_OBJECT_TYPE;

typedef enum _NDK_OPERATION_TYPE {
    NdkOperationTypeReceive = 1,
    NdkOperationTypeReceiveAndInvalidate = 0x8001,
    NdkOperationTypeSend = 2,
    NdkOperationTypeFastRegister = 4,
    NdkOperationTypeBind = 8,
    NdkOperationTypeInvalidate = 0x10,
    NdkOperationTypeRead = 0x20,
    NdkOperationTypeWrite = 0x40,
} NDK_OPERATION_TYPE;

typedef enum _NDK_RDMA_TECHNOLOGY {
    NdkUndefined = 0,
    NdkiWarp = 1,
    NdkInfiniBand = 2,
    NdkRoCE = 3,
    NdkRoCEv2 = 4,
    NdkMaxTechnology = 5,
} NDK_RDMA_TECHNOLOGY;

// What a completion queue is armed for.
#define NDK_CQ_NOTIFY_ERRORS 0x0
#define NDK_CQ_NOTIFY_ANY 0x1
#define NDK_CQ_NOTIFY_SOLICITED 0x2

// What a memory region allows.
#define NDK_MR_FLAG_ALLOW_LOCAL_READ 0x0
#define NDK_MR_FLAG_ALLOW_LOCAL_WRITE 0x1
#define NDK_MR_FLAG_ALLOW_REMOTE_READ 0x2
#define NDK_MR_FLAG_ALLOW_REMOTE_WRITE 0x5
#define NDK_MR_FLAG_RDMA_READ_SINK 0x8

// Flags of requests.
#define NDK_OP_FLAG_SILENT_SUCCESS 0x1
#define NDK_OP_FLAG_READ_FENCE 0x2
#define NDK_OP_FLAG_SEND_AND_SOLICIT_EVENT 0x4
#define NDK_OP_FLAG_ALLOW_REMOTE_READ 0x8
#define NDK_OP_FLAG_ALLOW_LOCAL_WRITE 0x10
#define NDK_OP_FLAG_ALLOW_REMOTE_WRITE 0x30
#define NDK_OP_FLAG_INLINE 0x40
#define NDK_OP_FLAG_RDMA_READ_SINK 0x80
#define NDK_OP_FLAG_RDMA_READ_LOCAL_INVALIDATE 0x100
#define NDK_OP_FLAG_DEFER 0x200

// What an adapter can do.
#define NDK_ADAPTER_FLAG_IN_ORDER_DMA_SUPPORTED 0x1
#define NDK_ADAPTER_FLAG_RDMA_READ_SINK_NOT_REQUIRED 0x2
#define NDK_ADAPTER_FLAG_CQ_INTERRUPT_MODERATION_SUPPORTED 0x4
#define NDK_ADAPTER_FLAG_MULTI_ENGINE_SUPPORTED 0x8
#define NDK_ADAPTER_FLAG_RDMA_READ_LOCAL_INVALIDATE_SUPPORTED 0x10
#define NDK_ADAPTER_FLAG_CQ_RESIZE_SUPPORTED 0x100
#define NDK_ADAPTER_FLAG_LOOPBACK_CONNECTIONS_SUPPORTED 0x10000

// An NDK version: {1, 1}, {1, 2}, {2, 1}.
typedef struct _NDK_VERSION {
    USHORT Major;
    USHORT Minor;
} NDK_VERSION;

// Words of the layer above.
typedef struct _NDK_OBJECT_HEADER_RESERVED_BLOCK {
    PVOID rf[4];
} NDK_OBJECT_HEADER_RESERVED_BLOCK;

// Head of every object.
typedef struct _NDK_OBJECT_HEADER {
    NDK_VERSION Version;
    NDK_OBJECT_TYPE ObjectType;
    NDK_OBJECT_HEADER_RESERVED_BLOCK NdkReserved;
} NDK_OBJECT_HEADER;

// What NdkQueryExtension finds.
typedef struct _NDK_EXTENSION_INTERFACE {
    const void *Dispatch;
} NDK_EXTENSION_INTERFACE;

// An element of a request's list: a piece of local memory.
typedef struct _NDK_SGE {
    union {
        PVOID VirtualAddress;
        NDK_LOGICAL_ADDRESS LogicalAddress;
    };
    ULONG Length;
    ULONG MemoryRegionToken;
} NDK_SGE;

// A completed work request.
typedef struct _NDK_RESULT {
    NTSTATUS Status;
    ULONG BytesTransferred;
    PVOID QPContext;
    PVOID RequestContext;
} NDK_RESULT;

// A completed work request, with its kind (1.2).
typedef struct _NDK_RESULT_EX {
    NTSTATUS Status;
    ULONG BytesTransferred;
    PVOID QPContext;
    PVOID RequestContext;
    NDK_OPERATION_TYPE Type;
    ULONG ProviderErrorCode;
    ULONG_PTR TypeSpecificCompletionOutput;
} NDK_RESULT_EX;

// Limits and abilities of an adapter, as one consumer sees them.
typedef struct _NDK_ADAPTER_INFO {
    NDK_VERSION Version;
    ULONG VendorId;
    ULONG DeviceId;
    ULONG_PTR MaxRegistrationSize;
    ULONG_PTR MaxWindowSize;
    ULONG FRMRPageCount;
    ULONG MaxInitiatorRequestSge;
    ULONG MaxReceiveRequestSge;
    ULONG MaxReadRequestSge;
    ULONG MaxTransferLength;
    ULONG MaxInlineDataSize;
    ULONG MaxInboundReadLimit;
    ULONG MaxOutboundReadLimit;
    ULONG MaxReceiveQueueDepth;
    ULONG MaxInitiatorQueueDepth;
    ULONG MaxSrqDepth;
    ULONG MaxCqDepth;
    ULONG LargeRequestThreshold;
    ULONG MaxCallerData;
    ULONG MaxCalleeData;
    ULONG AdapterFlags;
    NDK_RDMA_TECHNOLOGY RdmaTechnology;
} NDK_ADAPTER_INFO;

// A mapping: AdapterPageCount page addresses, in a buffer of the consumer.
typedef struct _NDK_LOGICAL_ADDRESS_MAPPING {
    PVOID AdapterContext;
    ULONG AdapterPageCount;
    NDK_LOGICAL_ADDRESS AdapterPageArray[1];
} NDK_LOGICAL_ADDRESS_MAPPING;

// ---- Callbacks of the consumer, at IRQL <= DISPATCH_LEVEL

// NdkCreateCompletion: a create function that returned STATUS_PENDING is done.
typedef VOID (NTAPI *NDK_FN_CREATE_COMPLETION)(
    PVOID Context, NTSTATUS Status, NDK_OBJECT_HEADER *pNdkObject);

// NdkRequestCompletion: a request that returned STATUS_PENDING is done.
typedef VOID (NTAPI *NDK_FN_REQUEST_COMPLETION)(
    PVOID Context, NTSTATUS Status);

// NdkCloseCompletion: a close function that returned STATUS_PENDING is done.
typedef VOID (NTAPI *NDK_FN_CLOSE_COMPLETION)(
    PVOID Context);

// NdkCqNotificationCallback: what the completion queue was armed for happened.
typedef VOID (NTAPI *NDK_FN_CQ_NOTIFICATION_CALLBACK)(
    PVOID CqNotificationContext, NTSTATUS CqStatus);

// NdkSrqNotificationCallback: the number of receives in a shared receive queue fell below its threshold.
typedef VOID (NTAPI *NDK_FN_SRQ_NOTIFICATION_CALLBACK)(
    PVOID SrqNotificationContext, NTSTATUS SrqStatus);

// NdkConnectEventCallback: a peer wants to connect to a listener.
typedef VOID (NTAPI *NDK_FN_CONNECT_EVENT_CALLBACK)(
    PVOID ConnectEventContext, NDK_CONNECTOR *pNdkConnector);

// NdkDisconnectEventCallback: the peer disconnected, or the connection broke.
typedef VOID (NTAPI *NDK_FN_DISCONNECT_EVENT_CALLBACK)(
    PVOID DisconnectEventContext);

// NdkDisconnectEventCallbackEx (2.1): as NDK_FN_DISCONNECT_EVENT_CALLBACK, with the provider's reason; zero: none given.
typedef VOID (NTAPI *NDK_FN_DISCONNECT_EVENT_CALLBACK_EX)(
    PVOID DisconnectEventContext, ULONG ProviderDisconnectReason);

// ---- Every object

// NdkClose*: closes an object.
typedef NTSTATUS (NTAPI *NDK_FN_CLOSE_OBJECT)(
    NDK_OBJECT_HEADER *pNdkObject, NDK_FN_CLOSE_COMPLETION CloseCompletion, PVOID RequestContext);

// NdkQueryExtension: looks for functions beyond this interface.
typedef NTSTATUS (NTAPI *NDK_FN_QUERY_EXTENSION_INTERFACE)(
    NDK_OBJECT_HEADER *pNdkObject, GUID *ExtensionInterfaceID,
    NDK_VERSION ExtensionInterfaceVersion, NDK_EXTENSION_INTERFACE *pExtensionInterface);

// ---- Completion queues

// NdkResizeCq: changes the depth of a completion queue.
typedef NTSTATUS (NTAPI *NDK_FN_RESIZE_CQ)(
    NDK_CQ *pNdkCq, ULONG CqDepth, NDK_FN_REQUEST_COMPLETION RequestCompletion,
    PVOID RequestContext);

// NdkArmCq: asks for one notification, of the kind NDK_CQ_NOTIFY_*.
typedef VOID (NTAPI *NDK_FN_ARM_CQ)(
    NDK_CQ *pNdkCq, ULONG Type);

// NdkGetCqResults: takes entries out of the queue; returns how many, zero if it is empty.
typedef ULONG (NTAPI *NDK_FN_GET_CQ_RESULTS)(
    NDK_CQ *pNdkCq, NDK_RESULT *Results, ULONG nResults);

// NdkGetCqResultsEx (1.2): as NDK_FN_GET_CQ_RESULTS, with the kind of request and what belongs to it.
typedef ULONG (NTAPI *NDK_FN_GET_CQ_RESULTS_EX)(
    NDK_CQ *pNdkCq, NDK_RESULT_EX *Results, ULONG nResults);

// NdkControlCqInterruptModeration: lets notifications wait for more completions.
typedef NTSTATUS (NTAPI *NDK_FN_CONTROL_CQ_INTERRUPT_MODERATION)(
    NDK_CQ *pNdkCq, ULONG ModerationInterval, ULONG ModerationCount);

// Functions of a completion queue.
typedef struct _NDK_CQ_DISPATCH {
    NDK_FN_CLOSE_OBJECT NdkCloseCq;
    NDK_FN_QUERY_EXTENSION_INTERFACE NdkQueryExtension;
    NDK_FN_RESIZE_CQ NdkResizeCq;
    NDK_FN_ARM_CQ NdkArmCq;
    NDK_FN_GET_CQ_RESULTS NdkGetCqResults;
    NDK_FN_CONTROL_CQ_INTERRUPT_MODERATION NdkControlCqInterruptModeration;
    NDK_FN_GET_CQ_RESULTS_EX NdkGetCqResultsEx;
} NDK_CQ_DISPATCH;

// A completion queue.
typedef struct _NDK_CQ {
    NDK_OBJECT_HEADER Header;
    const NDK_CQ_DISPATCH *Dispatch;
} NDK_CQ;

// ---- Shared receive queues

// NdkModifySrq: changes the depth or the threshold; zero leaves each as it is.
typedef NTSTATUS (NTAPI *NDK_FN_MODIFY_SRQ)(
    NDK_SRQ *pNdkSrq, ULONG SrqDepth, ULONG NotifyThreshold,
    NDK_FN_REQUEST_COMPLETION RequestCompletion, PVOID RequestContext);

// NdkSrqReceive: posts a receive for whichever queue pair needs one first.
typedef NTSTATUS (NTAPI *NDK_FN_SRQ_RECEIVE)(
    NDK_SRQ *pNdkSrq, PVOID RequestContext, const NDK_SGE *pSgl, ULONG nSge);

// Functions of a shared receive queue.
typedef struct _NDK_SRQ_DISPATCH {
    NDK_FN_CLOSE_OBJECT NdkCloseSrq;
    NDK_FN_QUERY_EXTENSION_INTERFACE NdkQueryExtension;
    NDK_FN_MODIFY_SRQ NdkModifySrq;
    NDK_FN_SRQ_RECEIVE NdkSrqReceive;
} NDK_SRQ_DISPATCH;

// A shared receive queue.
typedef struct _NDK_SRQ {
    NDK_OBJECT_HEADER Header;
    const NDK_SRQ_DISPATCH *Dispatch;
} NDK_SRQ;

// ---- Memory regions

// NdkRegisterMr: registers the first Length bytes of an MDL chain.
typedef NTSTATUS (NTAPI *NDK_FN_REGISTER_MR)(
    NDK_MR *pNdkMr, MDL *Mdl, ULONG_PTR Length, ULONG Flags,
    NDK_FN_REQUEST_COMPLETION RequestCompletion, PVOID RequestContext);

// NdkDeregisterMr: undoes NDK_FN_REGISTER_MR.
typedef NTSTATUS (NTAPI *NDK_FN_DEREGISTER_MR)(
    NDK_MR *pNdkMr, NDK_FN_REQUEST_COMPLETION RequestCompletion, PVOID RequestContext);

// NdkInitializeFastRegisterMr: prepares a region for fast registrations of up to AdapterPageCount pages.
typedef NTSTATUS (NTAPI *NDK_FN_INITIALIZE_FAST_REGISTER_MR)(
    NDK_MR *pNdkMr, ULONG AdapterPageCount, BOOLEAN RemoteAccess,
    NDK_FN_REQUEST_COMPLETION RequestCompletion, PVOID RequestContext);

// NdkGetRemoteTokenFromMr: the token a peer needs.
typedef ULONG (NTAPI *NDK_FN_GET_REMOTE_TOKEN_FROM_MR)(
    NDK_MR *pNdkMr);

// NdkGetLocalTokenFromMr: the token for elements of local lists.
typedef ULONG (NTAPI *NDK_FN_GET_LOCAL_TOKEN_FROM_MR)(
    NDK_MR *pNdkMr);

// Functions of a memory region.
typedef struct _NDK_MR_DISPATCH {
    NDK_FN_CLOSE_OBJECT NdkCloseMr;
    NDK_FN_QUERY_EXTENSION_INTERFACE NdkQueryExtension;
    NDK_FN_REGISTER_MR NdkRegisterMr;
    NDK_FN_DEREGISTER_MR NdkDeregisterMr;
    NDK_FN_INITIALIZE_FAST_REGISTER_MR NdkInitializeFastRegisterMr;
    NDK_FN_GET_REMOTE_TOKEN_FROM_MR NdkGetRemoteTokenFromMr;
    NDK_FN_GET_LOCAL_TOKEN_FROM_MR NdkGetLocalTokenFromMr;
} NDK_MR_DISPATCH;

// A memory region.
typedef struct _NDK_MR {
    NDK_OBJECT_HEADER Header;
    const NDK_MR_DISPATCH *Dispatch;
} NDK_MR;

// ---- Memory windows

// NdkGetRemoteTokenFromMw: the token a peer needs; readable once NdkBind has returned, before the bind completes.
typedef ULONG (NTAPI *NDK_FN_GET_REMOTE_TOKEN_FROM_MW)(
    NDK_MW *pNdkMw);

// Functions of a memory window.
typedef struct _NDK_MW_DISPATCH {
    NDK_FN_CLOSE_OBJECT NdkCloseMw;
    NDK_FN_QUERY_EXTENSION_INTERFACE NdkQueryExtension;
    NDK_FN_GET_REMOTE_TOKEN_FROM_MW NdkGetRemoteTokenFromMw;
} NDK_MW_DISPATCH;

// A memory window.
typedef struct _NDK_MW {
    NDK_OBJECT_HEADER Header;
    const NDK_MW_DISPATCH *Dispatch;
} NDK_MW;

// ---- Queue pairs

// NdkFlush: begins to cancel everything pending on both queues; it completes with STATUS_CANCELLED.
typedef VOID (NTAPI *NDK_FN_FLUSH)(
    NDK_QP *pNdkQp);

// NdkSend: sends a message to the peer's next receive.
typedef NTSTATUS (NTAPI *NDK_FN_SEND)(
    NDK_QP *pNdkQp, PVOID RequestContext, const NDK_SGE *pSgl, ULONG nSge, ULONG Flags);

// NdkReceive: posts a buffer for a message.
typedef NTSTATUS (NTAPI *NDK_FN_RECEIVE)(
    NDK_QP *pNdkQp, PVOID RequestContext, const NDK_SGE *pSgl, ULONG nSge);

// NdkBind: opens a window on a part of a registered region to the peer.
typedef NTSTATUS (NTAPI *NDK_FN_BIND)(
    NDK_QP *pNdkQp, PVOID RequestContext, NDK_MR *pMr, NDK_MW *pMw, PVOID VirtualAddress,
    ULONG_PTR Length, ULONG Flags);

// NdkFastRegister: gives a region prepared with NdkInitializeFastRegisterMr its pages.
typedef NTSTATUS (NTAPI *NDK_FN_FAST_REGISTER)(
    NDK_QP *pNdkQp, PVOID RequestContext, NDK_MR *pMr, ULONG AdapterPageCount,
    const NDK_LOGICAL_ADDRESS *AdapterPageArray, ULONG FBO, ULONG_PTR Length,
    PVOID BaseVirtualAddress, ULONG Flags);

// NdkInvalidate: ends a window's binding or a region's fast registration.
typedef NTSTATUS (NTAPI *NDK_FN_INVALIDATE)(
    NDK_QP *pNdkQp, PVOID RequestContext, NDK_OBJECT_HEADER *pNdkMrOrMw, ULONG Flags);

// NdkRead: reads the peer's memory.
typedef NTSTATUS (NTAPI *NDK_FN_READ)(
    NDK_QP *pNdkQp, PVOID RequestContext, const NDK_SGE *pSgl, ULONG nSge, UINT64 RemoteAddress,
    ULONG RemoteToken, ULONG Flags);

// NdkWrite: writes to the peer's memory.
typedef NTSTATUS (NTAPI *NDK_FN_WRITE)(
    NDK_QP *pNdkQp, PVOID RequestContext, const NDK_SGE *pSgl, ULONG nSge, UINT64 RemoteAddress,
    ULONG RemoteToken, ULONG Flags);

// NdkSendAndInvalidate (1.2): as NDK_FN_SEND; the peer's token is invalid before its receive completes.
typedef NTSTATUS (NTAPI *NDK_FN_SEND_AND_INVALIDATE)(
    NDK_QP *pNdkQp, PVOID RequestContext, const NDK_SGE *pSgl, ULONG nSge, ULONG Flags,
    ULONG RemoteToken);

// Functions of a queue pair.
typedef struct _NDK_QP_DISPATCH {
    NDK_FN_CLOSE_OBJECT NdkCloseQp;
    NDK_FN_QUERY_EXTENSION_INTERFACE NdkQueryExtension;
    NDK_FN_FLUSH NdkFlush;
    NDK_FN_SEND NdkSend;
    NDK_FN_RECEIVE NdkReceive;
    NDK_FN_BIND NdkBind;
    NDK_FN_FAST_REGISTER NdkFastRegister;
    NDK_FN_INVALIDATE NdkInvalidate;
    NDK_FN_READ NdkRead;
    NDK_FN_WRITE NdkWrite;
    NDK_FN_SEND_AND_INVALIDATE NdkSendAndInvalidate;
} NDK_QP_DISPATCH;

// A queue pair.
typedef struct _NDK_QP {
    NDK_OBJECT_HEADER Header;
    const NDK_QP_DISPATCH *Dispatch;
} NDK_QP;

// ---- Protection domains

// NdkCreateMr: creates a memory region without memory.
typedef NTSTATUS (NTAPI *NDK_FN_CREATE_MR)(
    NDK_PD *pNdkPd, BOOLEAN FastRegister, NDK_FN_CREATE_COMPLETION CreateCompletion,
    PVOID RequestContext, NDK_MR **ppNdkMr);

// NdkCreateMw: creates a memory window bound to nothing.
typedef NTSTATUS (NTAPI *NDK_FN_CREATE_MW)(
    NDK_PD *pNdkPd, NDK_FN_CREATE_COMPLETION CreateCompletion, PVOID RequestContext,
    NDK_MW **ppNdkMw);

// NdkCreateSrq: creates a shared receive queue.
typedef NTSTATUS (NTAPI *NDK_FN_CREATE_SRQ)(
    NDK_PD *pNdkPd, ULONG SrqDepth, ULONG MaxReceiveRequestSge, ULONG NotifyThreshold,
    NDK_FN_SRQ_NOTIFICATION_CALLBACK SrqNotification, PVOID SrqNotificationContext,
    GROUP_AFFINITY *Affinity, NDK_FN_CREATE_COMPLETION CreateCompletion, PVOID RequestContext,
    NDK_SRQ **ppNdkSrq);

// NdkCreateQp: creates a queue pair.
typedef NTSTATUS (NTAPI *NDK_FN_CREATE_QP)(
    NDK_PD *pNdkPd, NDK_CQ *pReceiveCq, NDK_CQ *pInitiatorCq, PVOID QPContext,
    ULONG ReceiveQueueDepth, ULONG InitiatorQueueDepth, ULONG MaxReceiveRequestSge,
    ULONG MaxInitiatorRequestSge, ULONG InlineDataSize,
    NDK_FN_CREATE_COMPLETION CreateCompletion, PVOID RequestContext, NDK_QP **ppNdkQp);

// NdkCreateQpWithSrq: as NDK_FN_CREATE_QP, but receives come from a shared receive queue, which exists already: one page names
// this function as its creator (decision X-07).
typedef NTSTATUS (NTAPI *NDK_FN_CREATE_QP_WITH_SRQ)(
    NDK_PD *pNdkPd, NDK_CQ *pReceiveCq, NDK_CQ *pInitiatorCq, NDK_SRQ *pSrq, PVOID QPContext,
    ULONG InitiatorQueueDepth, ULONG MaxInitiatorRequestSge, ULONG InlineDataSize,
    NDK_FN_CREATE_COMPLETION CreateCompletion, PVOID RequestContext, NDK_QP **ppNdkQp);

// NdkGetPrivilegedMemoryRegionToken: the token with which an element of a list names a logical address instead of registered
// memory.
typedef VOID (NTAPI *NDK_FN_GET_PRIVILEGED_MEMORY_REGION_TOKEN)(
    NDK_PD *pNdkPd, ULONG *pToken);

// Functions of a protection domain.
typedef struct _NDK_PD_DISPATCH {
    NDK_FN_CLOSE_OBJECT NdkClosePd;
    NDK_FN_QUERY_EXTENSION_INTERFACE NdkQueryExtension;
    NDK_FN_CREATE_MR NdkCreateMr;
    NDK_FN_CREATE_MW NdkCreateMw;
    NDK_FN_CREATE_SRQ NdkCreateSrq;
    NDK_FN_CREATE_QP NdkCreateQp;
    NDK_FN_CREATE_QP_WITH_SRQ NdkCreateQpWithSrq;
    NDK_FN_GET_PRIVILEGED_MEMORY_REGION_TOKEN NdkGetPrivilegedMemoryRegionToken;
} NDK_PD_DISPATCH;

// A protection domain.
typedef struct _NDK_PD {
    NDK_OBJECT_HEADER Header;
    const NDK_PD_DISPATCH *Dispatch;
} NDK_PD;

// ---- Shared endpoints

// NdkGetLocalAddress of a shared endpoint: its address, with the port the provider chose.
typedef NTSTATUS (NTAPI *NDK_FN_GET_SHARED_ENDPOINT_LOCAL_ADDRESS)(
    NDK_SHARED_ENDPOINT *pNdkSharedEndpoint, SOCKADDR *pAddress, ULONG *pAddressLength);

// Functions of a shared endpoint.
typedef struct _NDK_SHARED_ENDPOINT_DISPATCH {
    NDK_FN_CLOSE_OBJECT NdkCloseSharedEndpoint;
    NDK_FN_QUERY_EXTENSION_INTERFACE NdkQueryExtension;
    NDK_FN_GET_SHARED_ENDPOINT_LOCAL_ADDRESS NdkGetLocalAddress;
} NDK_SHARED_ENDPOINT_DISPATCH;

// A shared endpoint.
typedef struct _NDK_SHARED_ENDPOINT {
    NDK_OBJECT_HEADER Header;
    const NDK_SHARED_ENDPOINT_DISPATCH *Dispatch;
} NDK_SHARED_ENDPOINT;

// ---- Connectors

// NdkConnect: asks a peer for a connection; completes when the peer accepted or refused.
typedef NTSTATUS (NTAPI *NDK_FN_CONNECT)(
    NDK_CONNECTOR *pNdkConnector, NDK_QP *pNdkQp, const SOCKADDR *pSrcAddress,
    ULONG SrcAddressLength, const SOCKADDR *pDestAddress, ULONG DestAddressLength,
    ULONG InboundReadLimit, ULONG OutboundReadLimit, const void *pPrivateData,
    ULONG PrivateDataLength, NDK_FN_REQUEST_COMPLETION RequestCompletion, PVOID RequestContext);

// NdkConnectWithSharedEndpoint: as NDK_FN_CONNECT, from the address of a shared endpoint; hence without its failures about
// source addresses.
typedef NTSTATUS (NTAPI *NDK_FN_CONNECT_WITH_SHARED_ENDPOINT)(
    NDK_CONNECTOR *pNdkConnector, NDK_QP *pNdkQp, NDK_SHARED_ENDPOINT *pNdkSharedEndpoint,
    const SOCKADDR *pDestAddress, ULONG DestAddressLength, ULONG InboundReadLimit,
    ULONG OutboundReadLimit, const void *pPrivateData, ULONG PrivateDataLength,
    NDK_FN_REQUEST_COMPLETION RequestCompletion, PVOID RequestContext);

// NdkCompleteConnect: tells the peer that the connection stands; then data may flow.
typedef NTSTATUS (NTAPI *NDK_FN_COMPLETE_CONNECT)(
    NDK_CONNECTOR *pNdkConnector, NDK_FN_DISCONNECT_EVENT_CALLBACK DisconnectEvent,
    PVOID DisconnectEventContext, NDK_FN_REQUEST_COMPLETION RequestCompletion,
    PVOID RequestContext);

// NdkCompleteConnectEx (2.1): as NDK_FN_COMPLETE_CONNECT; the disconnect event carries a reason.
typedef NTSTATUS (NTAPI *NDK_FN_COMPLETE_CONNECT_EX)(
    NDK_CONNECTOR *pNdkConnector, NDK_FN_DISCONNECT_EVENT_CALLBACK_EX DisconnectEvent,
    PVOID DisconnectEventContext, NDK_FN_REQUEST_COMPLETION RequestCompletion,
    PVOID RequestContext);

// NdkAccept: accepts an incoming connection; completes when the peer completed it.
typedef NTSTATUS (NTAPI *NDK_FN_ACCEPT)(
    NDK_CONNECTOR *pNdkConnector, NDK_QP *pNdkQp, ULONG InboundReadLimit,
    ULONG OutboundReadLimit, const void *pPrivateData, ULONG PrivateDataLength,
    NDK_FN_DISCONNECT_EVENT_CALLBACK DisconnectEvent, PVOID DisconnectEventContext,
    NDK_FN_REQUEST_COMPLETION RequestCompletion, PVOID RequestContext);

// NdkAcceptEx (2.1): as NDK_FN_ACCEPT; the disconnect event carries a reason.
typedef NTSTATUS (NTAPI *NDK_FN_ACCEPT_EX)(
    NDK_CONNECTOR *pNdkConnector, NDK_QP *pNdkQp, ULONG InboundReadLimit,
    ULONG OutboundReadLimit, const void *pPrivateData, ULONG PrivateDataLength,
    NDK_FN_DISCONNECT_EVENT_CALLBACK_EX DisconnectEvent, PVOID DisconnectEventContext,
    NDK_FN_REQUEST_COMPLETION RequestCompletion, PVOID RequestContext);

// NdkReject: refuses an incoming connection, or, on the active side, one whose answer displeases.
typedef NTSTATUS (NTAPI *NDK_FN_REJECT)(
    NDK_CONNECTOR *pNdkConnector, const void *pPrivateData, ULONG PrivateDataLength);

// NdkGetConnectionData: what the peer sent, and the effective read limits.
typedef NTSTATUS (NTAPI *NDK_FN_GET_CONNECTION_DATA)(
    NDK_CONNECTOR *pNdkConnector, ULONG *pInboundReadLimit, ULONG *pOutboundReadLimit,
    PVOID pPrivateData, ULONG *pPrivateDataLength);

// NdkGetLocalAddress of a connector.
typedef NTSTATUS (NTAPI *NDK_FN_GET_LOCAL_ADDRESS)(
    NDK_CONNECTOR *pNdkConnector, SOCKADDR *pAddress, ULONG *pAddressLength);

// NdkGetPeerAddress: as NDK_FN_GET_LOCAL_ADDRESS, for the other end.
typedef NTSTATUS (NTAPI *NDK_FN_GET_PEER_ADDRESS)(
    NDK_CONNECTOR *pNdkConnector, SOCKADDR *pAddress, ULONG *pAddressLength);

// NdkDisconnect: ends the connection; completes when the peer answered (or did not in time), and nothing accesses the queue
// pair's memory any more.
typedef NTSTATUS (NTAPI *NDK_FN_DISCONNECT)(
    NDK_CONNECTOR *pNdkConnector, NDK_FN_REQUEST_COMPLETION RequestCompletion,
    PVOID RequestContext);

// Declared in the headers from NDIS 6.50 on, but in no table.
typedef NTSTATUS (NTAPI *NDK_FN_DISCONNECT_EX)(
    NDK_CONNECTOR *pNdkConnector, BOOLEAN Abortive, NDK_FN_REQUEST_COMPLETION RequestCompletion,
    PVOID RequestContext);

// Functions of a connector.
typedef struct _NDK_CONNECTOR_DISPATCH {
    NDK_FN_CLOSE_OBJECT NdkCloseConnector;
    NDK_FN_QUERY_EXTENSION_INTERFACE NdkQueryExtension;
    NDK_FN_CONNECT NdkConnect;
    NDK_FN_CONNECT_WITH_SHARED_ENDPOINT NdkConnectWithSharedEndpoint;
    NDK_FN_COMPLETE_CONNECT NdkCompleteConnect;
    NDK_FN_ACCEPT NdkAccept;
    NDK_FN_REJECT NdkReject;
    NDK_FN_GET_CONNECTION_DATA NdkGetConnectionData;
    NDK_FN_GET_LOCAL_ADDRESS NdkGetLocalAddress;
    NDK_FN_GET_PEER_ADDRESS NdkGetPeerAddress;
    NDK_FN_DISCONNECT NdkDisconnect;
    NDK_FN_COMPLETE_CONNECT_EX NdkCompleteConnectEx;
    NDK_FN_ACCEPT_EX NdkAcceptEx;
} NDK_CONNECTOR_DISPATCH;

// A connector.
typedef struct _NDK_CONNECTOR {
    NDK_OBJECT_HEADER Header;
    const NDK_CONNECTOR_DISPATCH *Dispatch;
} NDK_CONNECTOR;

// ---- Listeners

// NdkListen: begins to listen on a local address and port; connect events may follow.
typedef NTSTATUS (NTAPI *NDK_FN_LISTEN)(
    NDK_LISTENER *pNdkListener, const SOCKADDR *pAddress, ULONG AddressLength,
    NDK_FN_REQUEST_COMPLETION RequestCompletion, PVOID RequestContext);

// NdkGetLocalAddress of a listener: its address, with the port the provider chose.
typedef NTSTATUS (NTAPI *NDK_FN_GET_LISTENER_LOCAL_ADDRESS)(
    NDK_LISTENER *pNdkListener, SOCKADDR *pAddress, ULONG *pAddressLength);

// NdkControlConnectEvents: pauses a listener, so that peers find nobody there, or resumes it.
typedef VOID (NTAPI *NDK_FN_CONTROL_CONNECT_EVENTS)(
    NDK_LISTENER *pNdkListener, BOOLEAN Pause);

// Functions of a listener.
typedef struct _NDK_LISTENER_DISPATCH {
    NDK_FN_CLOSE_OBJECT NdkCloseListener;
    NDK_FN_QUERY_EXTENSION_INTERFACE NdkQueryExtension;
    NDK_FN_LISTEN NdkListen;
    NDK_FN_GET_LISTENER_LOCAL_ADDRESS NdkGetLocalAddress;
    NDK_FN_CONTROL_CONNECT_EVENTS NdkControlConnectEvents;
} NDK_LISTENER_DISPATCH;

// A listener.
typedef struct _NDK_LISTENER {
    NDK_OBJECT_HEADER Header;
    const NDK_LISTENER_DISPATCH *Dispatch;
} NDK_LISTENER;

// ---- Logical address mappings

// NdkBuildLAM: maps the first Length bytes of an MDL chain for the adapter.
typedef NTSTATUS (NTAPI *NDK_FN_BUILD_LAM)(
    NDK_ADAPTER *pNdkAdapter, MDL *Mdl, ULONG_PTR Length,
    NDK_FN_REQUEST_COMPLETION RequestCompletion, PVOID RequestContext,
    NDK_LOGICAL_ADDRESS_MAPPING *pNdkLAM, ULONG *pLAMSize, ULONG *pFBO);

// NdkReleaseLAM: undoes NDK_FN_BUILD_LAM and leaves the MDL as it was.
typedef VOID (NTAPI *NDK_FN_RELEASE_LAM)(
    NDK_ADAPTER *pNdkAdapter, NDK_LOGICAL_ADDRESS_MAPPING *pNdkLAM);

// ---- Adapters

// NdkQueryAdapterInfo: the adapter's limits and abilities.
typedef NTSTATUS (NTAPI *NDK_FN_QUERY_ADAPTER_INFO)(
    NDK_ADAPTER *pNdkAdapter, NDK_ADAPTER_INFO *pInfo, ULONG *pBufferSize);

// Declared in the headers from NDIS 6.50 on, but in no table.
typedef NTSTATUS (NTAPI *NDK_FN_QUERY_ADAPTER_INFO_EX)(
    NDK_ADAPTER *pNdkAdapter, NDK_VERSION Version, NDK_ADAPTER_INFO *pInfo, ULONG *pBufferSize);

// NdkCreateCq: creates a completion queue of CqDepth entries.
typedef NTSTATUS (NTAPI *NDK_FN_CREATE_CQ)(
    NDK_ADAPTER *pNdkAdapter, ULONG CqDepth, NDK_FN_CQ_NOTIFICATION_CALLBACK CqNotification,
    PVOID CqNotificationContext, GROUP_AFFINITY *Affinity,
    NDK_FN_CREATE_COMPLETION CreateCompletion, PVOID RequestContext, NDK_CQ **ppNdkCq);

// NdkCreatePd: creates a protection domain.
typedef NTSTATUS (NTAPI *NDK_FN_CREATE_PD)(
    NDK_ADAPTER *pNdkAdapter, NDK_FN_CREATE_COMPLETION CreateCompletion, PVOID RequestContext,
    NDK_PD **ppNdkPd);

// NdkCreateSharedEndpoint: creates a local address and port that several connectors may connect from.
typedef NTSTATUS (NTAPI *NDK_FN_CREATE_SHARED_ENDPOINT)(
    NDK_ADAPTER *pNdkAdapter, const SOCKADDR *pAddress, ULONG AddressLength,
    NDK_FN_CREATE_COMPLETION CreateCompletion, PVOID RequestContext,
    NDK_SHARED_ENDPOINT **ppNdkSharedEndpoint);

// NdkCreateConnector: creates a connector, not connected to anything.
typedef NTSTATUS (NTAPI *NDK_FN_CREATE_CONNECTOR)(
    NDK_ADAPTER *pNdkAdapter, NDK_FN_CREATE_COMPLETION CreateCompletion, PVOID RequestContext,
    NDK_CONNECTOR **ppNdkConnector);

// NdkCreateListener: creates a listener that does not listen yet.
typedef NTSTATUS (NTAPI *NDK_FN_CREATE_LISTENER)(
    NDK_ADAPTER *pNdkAdapter, NDK_FN_CONNECT_EVENT_CALLBACK ConnectEvent,
    PVOID ConnectEventContext, NDK_FN_CREATE_COMPLETION CreateCompletion, PVOID RequestContext,
    NDK_LISTENER **ppNdkListener);

// Functions of an adapter.
typedef struct _NDK_ADAPTER_DISPATCH {
    NDK_FN_QUERY_EXTENSION_INTERFACE NdkQueryExtension;
    NDK_FN_QUERY_ADAPTER_INFO NdkQueryAdapterInfo;
    NDK_FN_CREATE_CQ NdkCreateCq;
    NDK_FN_CREATE_PD NdkCreatePd;
    NDK_FN_CREATE_SHARED_ENDPOINT NdkCreateSharedEndpoint;
    NDK_FN_CREATE_CONNECTOR NdkCreateConnector;
    NDK_FN_CREATE_LISTENER NdkCreateListener;
    NDK_FN_BUILD_LAM NdkBuildLAM;
    NDK_FN_RELEASE_LAM NdkReleaseLAM;
} NDK_ADAPTER_DISPATCH;

// An opened adapter.
typedef struct _NDK_ADAPTER {
    NDK_OBJECT_HEADER Header;
    const NDK_ADAPTER_DISPATCH *Dispatch;
} NDK_ADAPTER;
