//! Shared receive queues (`ndkpi.h`).

use crate::callback::NDK_FN_REQUEST_COMPLETION;
use crate::object::*;
use crate::qp::NDK_SGE;
use crate::types::*;

callbacks! {
    /// `NdkModifySrq`: changes the depth or the threshold; zero leaves each as it is.
    ///
    /// A threshold arms one notification: when fewer receives than that are queued, at once if it is so already.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`.
    ///
    /// Returns `STATUS_SUCCESS`, `STATUS_PENDING`, or `STATUS_INVALID_PARAMETER` (outside the adapter's limits).
    fn NDK_FN_MODIFY_SRQ(
        pNdkSrq: *mut NDK_SRQ,
        SrqDepth: u32,
        NotifyThreshold: u32,
        RequestCompletion: NDK_FN_REQUEST_COMPLETION,
        RequestContext: *mut c_void,
    ) -> NTSTATUS;

    /// `NdkSrqReceive`: posts a receive for whichever queue pair needs one first. It completes on that queue pair's completion queue, with
    /// its context.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`. Never pends.
    ///
    /// Returns `STATUS_SUCCESS` if a completion will follow.
    fn NDK_FN_SRQ_RECEIVE(
        pNdkSrq: *mut NDK_SRQ,
        RequestContext: *mut c_void,
        pSgl: *const NDK_SGE,
        nSge: u32,
    ) -> NTSTATUS;
}

layouts! {
    /// A shared receive queue. The provider's own state follows.
    pub struct NDK_SRQ(48) {
        /// `NdkObjectTypeSrq`.
        0x00 Header: NDK_OBJECT_HEADER,
        /// Set by the provider, never read by it.
        0x28 Dispatch: *const NDK_SRQ_DISPATCH,
    }
}

tables! {
    /// Functions of a shared receive queue.
    pub struct NDK_SRQ_DISPATCH(32) {
        /// See the type.
        0x00 NdkCloseSrq: NDK_FN_CLOSE_OBJECT,
        /// See the type.
        0x08 NdkQueryExtension: NDK_FN_QUERY_EXTENSION_INTERFACE,
        /// See the type.
        0x10 NdkModifySrq: NDK_FN_MODIFY_SRQ,
        /// See the type.
        0x18 NdkSrqReceive: NDK_FN_SRQ_RECEIVE,
    }
}
