//! Protection domains (`ndkpi.h`).

use crate::callback::*;
use crate::cq::NDK_CQ;
use crate::mr::NDK_MR;
use crate::mw::NDK_MW;
use crate::object::*;
use crate::qp::NDK_QP;
use crate::srq::NDK_SRQ;
use crate::types::*;

callbacks! {
    /// `NdkCreateMr`: creates a memory region without memory.
    ///
    /// `FastRegister` decides its use for good: fast registration through a queue pair, or `NdkRegisterMr`.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`.
    ///
    /// Returns `STATUS_SUCCESS`, `STATUS_PENDING`, or `STATUS_INSUFFICIENT_RESOURCES` (also by callback).
    fn NDK_FN_CREATE_MR(
        pNdkPd: *mut NDK_PD,
        FastRegister: BOOLEAN,
        CreateCompletion: NDK_FN_CREATE_COMPLETION,
        RequestContext: *mut c_void,
        ppNdkMr: *mut *mut NDK_MR,
    ) -> NTSTATUS;

    /// `NdkCreateMw`: creates a memory window bound to nothing.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`.
    ///
    /// Returns `STATUS_SUCCESS`, `STATUS_PENDING`, or `STATUS_INSUFFICIENT_RESOURCES` (also by callback).
    fn NDK_FN_CREATE_MW(
        pNdkPd: *mut NDK_PD,
        CreateCompletion: NDK_FN_CREATE_COMPLETION,
        RequestContext: *mut c_void,
        ppNdkMw: *mut *mut NDK_MW,
    ) -> NTSTATUS;

    /// `NdkCreateSrq`: creates a shared receive queue. Its notification may be left out.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`.
    ///
    /// Returns `STATUS_SUCCESS`, `STATUS_PENDING`, `STATUS_INVALID_PARAMETER` (above a limit of the adapter), or
    /// `STATUS_INSUFFICIENT_RESOURCES` (also by callback).
    fn NDK_FN_CREATE_SRQ(
        pNdkPd: *mut NDK_PD,
        SrqDepth: u32,
        MaxReceiveRequestSge: u32,
        NotifyThreshold: u32,
        SrqNotification: Option<NDK_FN_SRQ_NOTIFICATION_CALLBACK>,
        SrqNotificationContext: *mut c_void,
        Affinity: *mut GROUP_AFFINITY,
        CreateCompletion: NDK_FN_CREATE_COMPLETION,
        RequestContext: *mut c_void,
        ppNdkSrq: *mut *mut NDK_SRQ,
    ) -> NTSTATUS;

    /// `NdkCreateQp`: creates a queue pair. Both completion queues may be the same.
    ///
    /// `QPContext` is in every completion of the queue pair. `InlineDataSize` is the most inline data of one request, bytes.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`.
    ///
    /// Returns `STATUS_SUCCESS`, `STATUS_PENDING`, `STATUS_INVALID_PARAMETER` (above a limit of the adapter), or
    /// `STATUS_INSUFFICIENT_RESOURCES` (also by callback).
    fn NDK_FN_CREATE_QP(
        pNdkPd: *mut NDK_PD,
        pReceiveCq: *mut NDK_CQ,
        pInitiatorCq: *mut NDK_CQ,
        QPContext: *mut c_void,
        ReceiveQueueDepth: u32,
        InitiatorQueueDepth: u32,
        MaxReceiveRequestSge: u32,
        MaxInitiatorRequestSge: u32,
        InlineDataSize: u32,
        CreateCompletion: NDK_FN_CREATE_COMPLETION,
        RequestContext: *mut c_void,
        ppNdkQp: *mut *mut NDK_QP,
    ) -> NTSTATUS;

    /// `NdkCreateQpWithSrq`: as [`NDK_FN_CREATE_QP`], but receives come from a shared receive queue, which exists already: one page
    /// names this function as its creator (decision X-07).
    fn NDK_FN_CREATE_QP_WITH_SRQ(
        pNdkPd: *mut NDK_PD,
        pReceiveCq: *mut NDK_CQ,
        pInitiatorCq: *mut NDK_CQ,
        pSrq: *mut NDK_SRQ,
        QPContext: *mut c_void,
        InitiatorQueueDepth: u32,
        MaxInitiatorRequestSge: u32,
        InlineDataSize: u32,
        CreateCompletion: NDK_FN_CREATE_COMPLETION,
        RequestContext: *mut c_void,
        ppNdkQp: *mut *mut NDK_QP,
    ) -> NTSTATUS;

    /// `NdkGetPrivilegedMemoryRegionToken`: the token with which an element of a list names a logical address instead of registered memory.
    /// It gives local access to anything the adapter can reach, and no remote access.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`. Never pends.
    fn NDK_FN_GET_PRIVILEGED_MEMORY_REGION_TOKEN(pNdkPd: *mut NDK_PD, pToken: *mut u32);
}

layouts! {
    /// A protection domain. The provider's own state follows.
    pub struct NDK_PD(48) {
        /// `NdkObjectTypePd`.
        0x00 Header: NDK_OBJECT_HEADER,
        /// Set by the provider, never read by it.
        0x28 Dispatch: *const NDK_PD_DISPATCH,
    }
}

tables! {
    /// Functions of a protection domain.
    pub struct NDK_PD_DISPATCH(64) {
        /// See the type.
        0x00 NdkClosePd: NDK_FN_CLOSE_OBJECT,
        /// See the type.
        0x08 NdkQueryExtension: NDK_FN_QUERY_EXTENSION_INTERFACE,
        /// See the type.
        0x10 NdkCreateMr: NDK_FN_CREATE_MR,
        /// See the type.
        0x18 NdkCreateMw: NDK_FN_CREATE_MW,
        /// See the type.
        0x20 NdkCreateSrq: NDK_FN_CREATE_SRQ,
        /// See the type.
        0x28 NdkCreateQp: NDK_FN_CREATE_QP,
        /// See the type.
        0x30 NdkCreateQpWithSrq: NDK_FN_CREATE_QP_WITH_SRQ,
        /// See the type.
        0x38 NdkGetPrivilegedMemoryRegionToken: NDK_FN_GET_PRIVILEGED_MEMORY_REGION_TOKEN,
    }
}
