//! The adapter object and what it can do (`ndkpi.h`, `ndkinfo.h`).

use crate::callback::*;
use crate::connector::NDK_CONNECTOR;
use crate::cq::NDK_CQ;
use crate::endpoint::NDK_SHARED_ENDPOINT;
use crate::lam::{NDK_FN_BUILD_LAM, NDK_FN_RELEASE_LAM};
use crate::listener::NDK_LISTENER;
use crate::object::*;
use crate::pd::NDK_PD;
use crate::types::*;

/// Protocol an adapter speaks.
pub type NDK_RDMA_TECHNOLOGY = u32;

callbacks! {
    /// `NdkQueryAdapterInfo`: the adapter's limits and abilities.
    ///
    /// `pBufferSize` holds the size of the buffer on entry, and the number of bytes written, or needed, on return.
    ///
    /// IRQL: `PASSIVE_LEVEL`, the only function of the interface that demands it. Never pends.
    ///
    /// Returns `STATUS_SUCCESS`, or `STATUS_BUFFER_TOO_SMALL`.
    fn NDK_FN_QUERY_ADAPTER_INFO(
        pNdkAdapter: *mut NDK_ADAPTER,
        pInfo: *mut NDK_ADAPTER_INFO,
        pBufferSize: *mut u32,
    ) -> NTSTATUS;

    /// Declared in the headers from NDIS 6.50 on, but in no table.
    fn NDK_FN_QUERY_ADAPTER_INFO_EX(
        pNdkAdapter: *mut NDK_ADAPTER,
        Version: NDK_VERSION,
        pInfo: *mut NDK_ADAPTER_INFO,
        pBufferSize: *mut u32,
    ) -> NTSTATUS;

    /// `NdkCreateCq`: creates a completion queue of `CqDepth` entries.
    ///
    /// It notifies only after `NdkArmCq`, and begins without moderation. `Affinity`, if not null, is a wish for the processors that
    /// notifications run on.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`.
    ///
    /// Returns `STATUS_SUCCESS`, `STATUS_PENDING`, `STATUS_INVALID_PARAMETER` (deeper than `MaxCqDepth`), or
    /// `STATUS_INSUFFICIENT_RESOURCES` (also by callback).
    fn NDK_FN_CREATE_CQ(
        pNdkAdapter: *mut NDK_ADAPTER,
        CqDepth: u32,
        CqNotification: NDK_FN_CQ_NOTIFICATION_CALLBACK,
        CqNotificationContext: *mut c_void,
        Affinity: *mut GROUP_AFFINITY,
        CreateCompletion: NDK_FN_CREATE_COMPLETION,
        RequestContext: *mut c_void,
        ppNdkCq: *mut *mut NDK_CQ,
    ) -> NTSTATUS;

    /// `NdkCreatePd`: creates a protection domain.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`.
    ///
    /// Returns `STATUS_SUCCESS`, `STATUS_PENDING`, or `STATUS_INSUFFICIENT_RESOURCES` (also by callback).
    fn NDK_FN_CREATE_PD(
        pNdkAdapter: *mut NDK_ADAPTER,
        CreateCompletion: NDK_FN_CREATE_COMPLETION,
        RequestContext: *mut c_void,
        ppNdkPd: *mut *mut NDK_PD,
    ) -> NTSTATUS;

    /// `NdkCreateSharedEndpoint`: creates a local address and port that several connectors may connect from.
    ///
    /// Port 0 lets the provider choose one from 49152 to 65535.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`.
    ///
    /// Returns `STATUS_SUCCESS`, `STATUS_PENDING`, `STATUS_TOO_MANY_ADDRESSES` (no port is free), or, also by callback,
    /// `STATUS_INSUFFICIENT_RESOURCES`, `STATUS_SHARING_VIOLATION` (address in use), `STATUS_INVALID_ADDRESS` (not the adapter's).
    fn NDK_FN_CREATE_SHARED_ENDPOINT(
        pNdkAdapter: *mut NDK_ADAPTER,
        pAddress: *const SOCKADDR,
        AddressLength: u32,
        CreateCompletion: NDK_FN_CREATE_COMPLETION,
        RequestContext: *mut c_void,
        ppNdkSharedEndpoint: *mut *mut NDK_SHARED_ENDPOINT,
    ) -> NTSTATUS;

    /// `NdkCreateConnector`: creates a connector, not connected to anything.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`.
    ///
    /// Returns `STATUS_SUCCESS`, `STATUS_PENDING`, or `STATUS_INSUFFICIENT_RESOURCES` (also by callback).
    fn NDK_FN_CREATE_CONNECTOR(
        pNdkAdapter: *mut NDK_ADAPTER,
        CreateCompletion: NDK_FN_CREATE_COMPLETION,
        RequestContext: *mut c_void,
        ppNdkConnector: *mut *mut NDK_CONNECTOR,
    ) -> NTSTATUS;

    /// `NdkCreateListener`: creates a listener that does not listen yet.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`.
    ///
    /// Returns `STATUS_SUCCESS`, `STATUS_PENDING`, or `STATUS_INSUFFICIENT_RESOURCES` (also by callback).
    fn NDK_FN_CREATE_LISTENER(
        pNdkAdapter: *mut NDK_ADAPTER,
        ConnectEvent: NDK_FN_CONNECT_EVENT_CALLBACK,
        ConnectEventContext: *mut c_void,
        CreateCompletion: NDK_FN_CREATE_COMPLETION,
        RequestContext: *mut c_void,
        ppNdkListener: *mut *mut NDK_LISTENER,
    ) -> NTSTATUS;
}

layouts! {
    /// An opened adapter. The provider's own state follows.
    pub struct NDK_ADAPTER(48) {
        /// `NdkObjectTypeAdapter`.
        0x00 Header: NDK_OBJECT_HEADER,
        /// Set by the provider, never read by it.
        0x28 Dispatch: *const NDK_ADAPTER_DISPATCH,
    }

    /// Limits and abilities of an adapter, as one consumer sees them. Up to `AdapterFlags` in headers of Windows Server 2012 R2
    /// (96 bytes).
    pub struct NDK_ADAPTER_INFO(104) {
        /// NDK version in use: the highest minor version of the major one that was asked for.
        0x00 Version: NDK_VERSION,
        /// Organizationally unique identifier of the vendor.
        0x04 VendorId: u32,
        /// The vendor's.
        0x08 DeviceId: u32,
        /// Bytes of one registration.
        0x10 MaxRegistrationSize: usize,
        /// Bytes of one memory window.
        0x18 MaxWindowSize: usize,
        /// Pages of a fast-register region with which the adapter has the most regions; at least 16.
        0x20 FRMRPageCount: u32,
        /// Elements of a request of the initiator queue.
        0x24 MaxInitiatorRequestSge: u32,
        /// Elements of a receive.
        0x28 MaxReceiveRequestSge: u32,
        /// Elements of a read; overrides `MaxInitiatorRequestSge`.
        0x2c MaxReadRequestSge: u32,
        /// Bytes of one send, receive, read or write.
        0x30 MaxTransferLength: u32,
        /// Bytes of inline data of one request.
        0x34 MaxInlineDataSize: u32,
        /// Reads by the peer in progress on one queue pair.
        0x38 MaxInboundReadLimit: u32,
        /// Reads of the peer's memory in progress on one queue pair.
        0x3c MaxOutboundReadLimit: u32,
        /// Outstanding receives of a queue pair.
        0x40 MaxReceiveQueueDepth: u32,
        /// Outstanding requests of a queue pair's initiator queue.
        0x44 MaxInitiatorQueueDepth: u32,
        /// Outstanding receives of a shared receive queue; zero: there are none.
        0x48 MaxSrqDepth: u32,
        /// Entries of a completion queue.
        0x4c MaxCqDepth: u32,
        /// Bytes above which a read or write is faster than sends; a hint.
        0x50 LargeRequestThreshold: u32,
        /// Bytes of private data with a connect request.
        0x54 MaxCallerData: u32,
        /// Bytes of private data with an accept or a reject.
        0x58 MaxCalleeData: u32,
        /// `NDK_ADAPTER_FLAG_*`.
        0x5c AdapterFlags: u32,
        /// Protocol; agrees with the `*NetworkDirectTechnology` keyword.
        0x60 RdmaTechnology: NDK_RDMA_TECHNOLOGY,
    }
}

tables! {
    /// Functions of an adapter. It has no close function: NDIS closes it through `CLOSE_NDK_ADAPTER_HANDLER`.
    pub struct NDK_ADAPTER_DISPATCH(72) {
        /// See the type.
        0x00 NdkQueryExtension: NDK_FN_QUERY_EXTENSION_INTERFACE,
        /// See the type.
        0x08 NdkQueryAdapterInfo: NDK_FN_QUERY_ADAPTER_INFO,
        /// See the type.
        0x10 NdkCreateCq: NDK_FN_CREATE_CQ,
        /// See the type.
        0x18 NdkCreatePd: NDK_FN_CREATE_PD,
        /// See the type.
        0x20 NdkCreateSharedEndpoint: NDK_FN_CREATE_SHARED_ENDPOINT,
        /// See the type.
        0x28 NdkCreateConnector: NDK_FN_CREATE_CONNECTOR,
        /// See the type.
        0x30 NdkCreateListener: NDK_FN_CREATE_LISTENER,
        /// See the type.
        0x38 NdkBuildLAM: NDK_FN_BUILD_LAM,
        /// See the type.
        0x40 NdkReleaseLAM: NDK_FN_RELEASE_LAM,
    }
}

constants! {
    /// Ability of an adapter.
    u32 {
        /// The last byte of a message is never written before the others.
        NDK_ADAPTER_FLAG_IN_ORDER_DMA_SUPPORTED = 1;
        /// A read may place its data in any local memory; the `READ_SINK` flags are not needed.
        NDK_ADAPTER_FLAG_RDMA_READ_SINK_NOT_REQUIRED = 2;
        /// `NdkControlCqInterruptModeration` works. Pages spell the name in two ways (decision X-12: one flag).
        NDK_ADAPTER_FLAG_CQ_INTERRUPT_MODERATION_SUPPORTED = 4;
        /// Several connections run faster than one.
        NDK_ADAPTER_FLAG_MULTI_ENGINE_SUPPORTED = 8;
        /// A read may invalidate its local token (1.2).
        NDK_ADAPTER_FLAG_RDMA_READ_LOCAL_INVALIDATE_SUPPORTED = 0x10;
        /// `NdkResizeCq` works.
        NDK_ADAPTER_FLAG_CQ_RESIZE_SUPPORTED = 0x100;
        /// A local address can connect to itself.
        NDK_ADAPTER_FLAG_LOOPBACK_CONNECTIONS_SUPPORTED = 0x10000;
    }
    /// Protocol of an adapter.
    NDK_RDMA_TECHNOLOGY {
        NdkUndefined = 0;
        NdkiWarp = 1;
        NdkInfiniBand = 2;
        NdkRoCE = 3;
        NdkRoCEv2 = 4;
        NdkMaxTechnology = 5;
    }
}

/// Size of [`NDK_ADAPTER_INFO`] as consumers built for NDK 1.1 know it: it ends before `RdmaTechnology`.
pub const NDK_ADAPTER_INFO_SIZE_1_1: usize =
    core::mem::offset_of!(NDK_ADAPTER_INFO, RdmaTechnology);
