//! Queue pairs and work requests (`ndkpi.h`).
//!
//! Posting never pends: after `STATUS_SUCCESS` a completion follows (unless the request succeeds and was posted with
//! `NDK_OP_FLAG_SILENT_SUCCESS`), after any other status none does. The consumer serialises posts to one queue; a post to the other
//! queue, a flush or a close may run at the same time. The list of a request is read only during the call.
//!
//! Where NDKPI names no status, providers use those of the user-mode sister interface: `STATUS_NO_MORE_ENTRIES` (queue full),
//! `STATUS_DATA_OVERRUN` (too many elements), `STATUS_BUFFER_OVERFLOW` (too long).

use crate::lam::NDK_LOGICAL_ADDRESS;
use crate::mr::NDK_MR;
use crate::mw::NDK_MW;
use crate::object::*;
use crate::types::*;

callbacks! {
    /// `NdkFlush`: begins to cancel everything pending on both queues; it completes with `STATUS_CANCELLED`.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`. Does not wait.
    fn NDK_FN_FLUSH(pNdkQp: *mut NDK_QP);

    /// `NdkSend`: sends a message to the peer's next receive.
    ///
    /// Flags: silent success, read fence, solicit event, inline, defer.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`.
    ///
    /// Returns `STATUS_SUCCESS`, or `STATUS_CONNECTION_INVALID` (not connected).
    fn NDK_FN_SEND(
        pNdkQp: *mut NDK_QP,
        RequestContext: *mut c_void,
        pSgl: *const NDK_SGE,
        nSge: u32,
        Flags: u32,
    ) -> NTSTATUS;

    /// `NdkReceive`: posts a buffer for a message. Allowed before the queue pair is connected.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`.
    ///
    /// Returns `STATUS_SUCCESS`.
    fn NDK_FN_RECEIVE(
        pNdkQp: *mut NDK_QP,
        RequestContext: *mut c_void,
        pSgl: *const NDK_SGE,
        nSge: u32,
    ) -> NTSTATUS;

    /// `NdkBind`: opens a window on a part of a registered region to the peer.
    ///
    /// Decisions: the flag that lets peers write is [`NDK_OP_FLAG_ALLOW_REMOTE_WRITE`], whatever the page calls it. The window
    /// lets go of the region when it is invalidated, bound anew or closed, when the fast registration that it lies in is invalidated, or
    /// when this request is flushed.
    ///
    /// `VirtualAddress` lies within the region and is only an index. Flags: silent success, read fence, remote read, remote write, defer.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`.
    ///
    /// Returns `STATUS_SUCCESS`, `STATUS_CONNECTION_INVALID`, or `STATUS_ACCESS_VIOLATION` (the region lacks a right; a window for writing
    /// needs local write).
    fn NDK_FN_BIND(
        pNdkQp: *mut NDK_QP,
        RequestContext: *mut c_void,
        pMr: *mut NDK_MR,
        pMw: *mut NDK_MW,
        VirtualAddress: *mut c_void,
        Length: usize,
        Flags: u32,
    ) -> NTSTATUS;

    /// `NdkFastRegister`: gives a region prepared with `NdkInitializeFastRegisterMr` its pages.
    ///
    /// Decisions: a base address of 0 is one like any other, if the first byte begins a page; there is no addressing by offset.
    /// The array of pages comes directly after their number, as in the header, not last as on the page.
    ///
    /// `FBO` is the offset of the first byte in the first page, and `BaseVirtualAddress`, by which the region is addressed, equals it
    /// modulo the page size. Flags: silent success, read fence, remote read, local write, remote write, read sink, defer.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`.
    ///
    /// Returns `STATUS_SUCCESS`, `STATUS_CONNECTION_INVALID`, or `STATUS_ACCESS_VIOLATION` (a remote right for a region prepared without).
    fn NDK_FN_FAST_REGISTER(
        pNdkQp: *mut NDK_QP,
        RequestContext: *mut c_void,
        pMr: *mut NDK_MR,
        AdapterPageCount: u32,
        AdapterPageArray: *const NDK_LOGICAL_ADDRESS,
        FBO: u32,
        Length: usize,
        BaseVirtualAddress: *mut c_void,
        Flags: u32,
    ) -> NTSTATUS;

    /// `NdkInvalidate`: ends a window's binding or a region's fast registration.
    ///
    /// Flags: silent success, read fence, defer.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`.
    ///
    /// Returns `STATUS_SUCCESS`, or `STATUS_CONNECTION_INVALID`.
    fn NDK_FN_INVALIDATE(
        pNdkQp: *mut NDK_QP,
        RequestContext: *mut c_void,
        pNdkMrOrMw: *mut NDK_OBJECT_HEADER,
        Flags: u32,
    ) -> NTSTATUS;

    /// `NdkRead`: reads the peer's memory.
    ///
    /// Flags: silent success, read fence, local invalidate (of the token of the first element), defer.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`.
    ///
    /// Returns `STATUS_SUCCESS`, `STATUS_CONNECTION_INVALID`; `STATUS_REMOTE_RESOURCES`, for memory the peer does not grant, is in the
    /// completion.
    fn NDK_FN_READ(
        pNdkQp: *mut NDK_QP,
        RequestContext: *mut c_void,
        pSgl: *const NDK_SGE,
        nSge: u32,
        RemoteAddress: u64,
        RemoteToken: u32,
        Flags: u32,
    ) -> NTSTATUS;

    /// `NdkWrite`: writes to the peer's memory.
    ///
    /// Flags: silent success, read fence, inline, defer.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`.
    ///
    /// Returns `STATUS_SUCCESS`, or `STATUS_CONNECTION_INVALID`.
    fn NDK_FN_WRITE(
        pNdkQp: *mut NDK_QP,
        RequestContext: *mut c_void,
        pSgl: *const NDK_SGE,
        nSge: u32,
        RemoteAddress: u64,
        RemoteToken: u32,
        Flags: u32,
    ) -> NTSTATUS;

    /// `NdkSendAndInvalidate` (1.2): as [`NDK_FN_SEND`]; the peer's token is invalid before its receive completes.
    fn NDK_FN_SEND_AND_INVALIDATE(
        pNdkQp: *mut NDK_QP,
        RequestContext: *mut c_void,
        pSgl: *const NDK_SGE,
        nSge: u32,
        Flags: u32,
        RemoteToken: u32,
    ) -> NTSTATUS;
}

layouts! {
    /// A queue pair. The provider's own state follows.
    pub struct NDK_QP(48) {
        /// `NdkObjectTypeQp`.
        0x00 Header: NDK_OBJECT_HEADER,
        /// Set by the provider, never read by it.
        0x28 Dispatch: *const NDK_QP_DISPATCH,
    }

    /// An element of a request's list: a piece of local memory.
    pub struct NDK_SGE(16) {
        /// Where it is.
        0x00 Anonymous: NDK_SGE_ADDRESS,
        /// Bytes.
        0x08 Length: u32,
        /// Token of the region, or the privileged token. Ignored for inline data.
        0x0c MemoryRegionToken: u32,
    }

    /// Where an element's memory is.
    pub union NDK_SGE_ADDRESS(8) {
        /// Within a registered region; for inline data a real address.
        0x00 VirtualAddress: *mut c_void,
        /// With the privileged token.
        0x00 LogicalAddress: NDK_LOGICAL_ADDRESS,
    }
}

tables! {
    /// Functions of a queue pair.
    pub struct NDK_QP_DISPATCH(88) {
        /// See the type.
        0x00 NdkCloseQp: NDK_FN_CLOSE_OBJECT,
        /// See the type.
        0x08 NdkQueryExtension: NDK_FN_QUERY_EXTENSION_INTERFACE,
        /// See the type.
        0x10 NdkFlush: NDK_FN_FLUSH,
        /// See the type.
        0x18 NdkSend: NDK_FN_SEND,
        /// See the type.
        0x20 NdkReceive: NDK_FN_RECEIVE,
        /// See the type.
        0x28 NdkBind: NDK_FN_BIND,
        /// See the type.
        0x30 NdkFastRegister: NDK_FN_FAST_REGISTER,
        /// See the type.
        0x38 NdkInvalidate: NDK_FN_INVALIDATE,
        /// See the type.
        0x40 NdkRead: NDK_FN_READ,
        /// See the type.
        0x48 NdkWrite: NDK_FN_WRITE,
        /// 1.2. See the type.
        0x50 NdkSendAndInvalidate: NDK_FN_SEND_AND_INVALIDATE,
    }
}

constants! {
    /// Flag of a work request.
    u32 {
        /// No completion if it succeeds.
        NDK_OP_FLAG_SILENT_SUCCESS = 1;
        /// Wait for all reads posted before.
        NDK_OP_FLAG_READ_FENCE = 2;
        /// The peer's receive is a solicited completion.
        NDK_OP_FLAG_SEND_AND_SOLICIT_EVENT = 4;
        NDK_OP_FLAG_ALLOW_REMOTE_READ = 8;
        NDK_OP_FLAG_ALLOW_LOCAL_WRITE = 0x10;
        /// Includes local write: compare under this mask.
        NDK_OP_FLAG_ALLOW_REMOTE_WRITE = 0x30;
        /// Copy the data before the call returns; tokens do not matter.
        NDK_OP_FLAG_INLINE = 0x40;
        /// May receive the data of a read. Ignored by an adapter with `NDK_ADAPTER_FLAG_RDMA_READ_SINK_NOT_REQUIRED`.
        /// The page of NdkFastRegister does not list it (decision X-02: it is accepted).
        NDK_OP_FLAG_RDMA_READ_SINK = 0x80;
        /// Invalidate the token of the first element once the read succeeded (1.2). Not 0x200, as the page of NdkRead prints: that is
        /// [`NDK_OP_FLAG_DEFER`] (decision X-01).
        NDK_OP_FLAG_RDMA_READ_LOCAL_INVALIDATE = 0x100;
        /// More requests follow: handing this one to the hardware may wait (1.2).
        NDK_OP_FLAG_DEFER = 0x200;
    }
}
