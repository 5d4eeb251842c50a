//! Completion queues and their entries (`ndkpi.h`).

use crate::callback::NDK_FN_REQUEST_COMPLETION;
use crate::object::*;
use crate::types::*;

/// Kind of a completed work request.
pub type NDK_OPERATION_TYPE = u32;

callbacks! {
    /// `NdkResizeCq`: changes the depth of a completion queue. No completion is lost.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`.
    ///
    /// Returns `STATUS_SUCCESS`, `STATUS_PENDING`, `STATUS_INVALID_PARAMETER` (deeper than `MaxCqDepth`), or
    /// `STATUS_INSUFFICIENT_RESOURCES` (also by callback).
    fn NDK_FN_RESIZE_CQ(
        pNdkCq: *mut NDK_CQ,
        CqDepth: u32,
        RequestCompletion: NDK_FN_REQUEST_COMPLETION,
        RequestContext: *mut c_void,
    ) -> NTSTATUS;

    /// `NdkArmCq`: asks for one notification, of the kind `NDK_CQ_NOTIFY_*`.
    ///
    /// Armed twice, the stronger kind counts: any over solicited over errors. If a matching entry arrived since the last notification,
    /// the notification follows at once; never from within this call.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`. Not concurrent with [`NDK_FN_GET_CQ_RESULTS`] on the same queue.
    fn NDK_FN_ARM_CQ(pNdkCq: *mut NDK_CQ, Type: u32);

    /// `NdkGetCqResults`: takes entries out of the queue; returns how many, zero if it is empty.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`. Not concurrent with itself or [`NDK_FN_ARM_CQ`] on the same queue.
    fn NDK_FN_GET_CQ_RESULTS(pNdkCq: *mut NDK_CQ, Results: *mut NDK_RESULT, nResults: u32) -> u32;

    /// `NdkGetCqResultsEx` (1.2): as [`NDK_FN_GET_CQ_RESULTS`], with the kind of request and what belongs to it.
    fn NDK_FN_GET_CQ_RESULTS_EX(pNdkCq: *mut NDK_CQ, Results: *mut NDK_RESULT_EX, nResults: u32) -> u32;

    /// `NdkControlCqInterruptModeration`: lets notifications wait for more completions.
    ///
    /// `ModerationInterval`, microseconds, and `ModerationCount`, completions: whichever is reached first. An interval of 0, or a count of
    /// 0 or 1, ends moderation. `MAXULONG` leaves one of the two unlimited.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`. Never pends.
    ///
    /// Returns `STATUS_SUCCESS`, `STATUS_INSUFFICIENT_RESOURCES`, `STATUS_INVALID_PARAMETER_MIX` (both unlimited), or
    /// `STATUS_NOT_SUPPORTED`, exactly if the adapter lacks `NDK_ADAPTER_FLAG_CQ_INTERRUPT_MODERATION_SUPPORTED`.
    fn NDK_FN_CONTROL_CQ_INTERRUPT_MODERATION(
        pNdkCq: *mut NDK_CQ,
        ModerationInterval: u32,
        ModerationCount: u32,
    ) -> NTSTATUS;
}

layouts! {
    /// A completion queue. The provider's own state follows.
    pub struct NDK_CQ(48) {
        /// `NdkObjectTypeCq`.
        0x00 Header: NDK_OBJECT_HEADER,
        /// Set by the provider, never read by it.
        0x28 Dispatch: *const NDK_CQ_DISPATCH,
    }

    /// A completed work request.
    pub struct NDK_RESULT(24) {
        /// `STATUS_SUCCESS`, `STATUS_CANCELLED` if flushed, or what went wrong.
        0x00 Status: NTSTATUS,
        /// Bytes received; defined for receives only.
        0x04 BytesTransferred: u32,
        /// Context of the queue pair.
        0x08 QPContext: *mut c_void,
        /// Context of the request.
        0x10 RequestContext: *mut c_void,
    }

    /// A completed work request, with its kind (1.2).
    pub struct NDK_RESULT_EX(40) {
        /// `STATUS_SUCCESS`, `STATUS_CANCELLED` if flushed, or what went wrong.
        0x00 Status: NTSTATUS,
        /// Bytes received; defined for receives only.
        0x04 BytesTransferred: u32,
        /// Context of the queue pair.
        0x08 QPContext: *mut c_void,
        /// Context of the request.
        0x10 RequestContext: *mut c_void,
        /// `NdkOperationType*`.
        0x18 Type: NDK_OPERATION_TYPE,
        /// The provider's own code of a failure; zero on success (2.1, padding before).
        0x1c ProviderErrorCode: u32,
        /// For `NdkOperationTypeReceiveAndInvalidate`: the token that was invalidated.
        0x20 TypeSpecificCompletionOutput: usize,
    }
}

tables! {
    /// Functions of a completion queue.
    pub struct NDK_CQ_DISPATCH(56) {
        /// See the type.
        0x00 NdkCloseCq: NDK_FN_CLOSE_OBJECT,
        /// See the type.
        0x08 NdkQueryExtension: NDK_FN_QUERY_EXTENSION_INTERFACE,
        /// See the type.
        0x10 NdkResizeCq: NDK_FN_RESIZE_CQ,
        /// See the type.
        0x18 NdkArmCq: NDK_FN_ARM_CQ,
        /// See the type.
        0x20 NdkGetCqResults: NDK_FN_GET_CQ_RESULTS,
        /// See the type.
        0x28 NdkControlCqInterruptModeration: NDK_FN_CONTROL_CQ_INTERRUPT_MODERATION,
        /// 1.2. See the type.
        0x30 NdkGetCqResultsEx: NDK_FN_GET_CQ_RESULTS_EX,
    }
}

constants! {
    /// What a completion queue is armed for.
    u32 {
        /// Failures of the queue itself.
        NDK_CQ_NOTIFY_ERRORS = 0;
        /// The next completion.
        NDK_CQ_NOTIFY_ANY = 1;
        /// The next receive of a send with `NDK_OP_FLAG_SEND_AND_SOLICIT_EVENT`, or the next failure.
        NDK_CQ_NOTIFY_SOLICITED = 2;
    }
    /// Kind of a completed work request.
    NDK_OPERATION_TYPE {
        NdkOperationTypeReceive = 1;
        NdkOperationTypeReceiveAndInvalidate = 0x8001;
        NdkOperationTypeSend = 2;
        NdkOperationTypeFastRegister = 4;
        NdkOperationTypeBind = 8;
        NdkOperationTypeInvalidate = 0x10;
        NdkOperationTypeRead = 0x20;
        NdkOperationTypeWrite = 0x40;
    }
}
