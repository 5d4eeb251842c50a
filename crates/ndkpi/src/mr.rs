//! Memory regions (`ndkpi.h`).

use crate::callback::NDK_FN_REQUEST_COMPLETION;
use crate::object::*;
use crate::types::*;

callbacks! {
    /// `NdkRegisterMr`: registers the first `Length` bytes of an MDL chain. Only for a region not created for fast registration.
    ///
    /// The region is addressed by the first MDL's virtual address, which is only an index. `Flags` are `NDK_MR_FLAG_*`.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`.
    ///
    /// Returns `STATUS_SUCCESS`, `STATUS_PENDING`, `STATUS_INVALID_PARAMETER` (not virtually contiguous), or
    /// `STATUS_INSUFFICIENT_RESOURCES` (also by callback).
    fn NDK_FN_REGISTER_MR(
        pNdkMr: *mut NDK_MR,
        Mdl: *mut MDL,
        Length: usize,
        Flags: u32,
        RequestCompletion: NDK_FN_REQUEST_COMPLETION,
        RequestContext: *mut c_void,
    ) -> NTSTATUS;

    /// `NdkDeregisterMr`: undoes [`NDK_FN_REGISTER_MR`].
    ///
    /// IRQL: <= `DISPATCH_LEVEL`.
    ///
    /// Returns `STATUS_SUCCESS` or `STATUS_PENDING`.
    fn NDK_FN_DEREGISTER_MR(
        pNdkMr: *mut NDK_MR,
        RequestCompletion: NDK_FN_REQUEST_COMPLETION,
        RequestContext: *mut c_void,
    ) -> NTSTATUS;

    /// `NdkInitializeFastRegisterMr`: prepares a region for fast registrations of up to `AdapterPageCount` pages. With `RemoteAccess` false
    /// none of them may grant rights to the peer.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`.
    ///
    /// Returns `STATUS_SUCCESS`, `STATUS_PENDING`, or `STATUS_IMPLEMENTATION_LIMIT` (so many pages are not supported).
    fn NDK_FN_INITIALIZE_FAST_REGISTER_MR(
        pNdkMr: *mut NDK_MR,
        AdapterPageCount: u32,
        RemoteAccess: BOOLEAN,
        RequestCompletion: NDK_FN_REQUEST_COMPLETION,
        RequestContext: *mut c_void,
    ) -> NTSTATUS;

    /// `NdkGetRemoteTokenFromMr`: the token a peer needs. After a fast registration was posted it is the new one already.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`. Never pends.
    fn NDK_FN_GET_REMOTE_TOKEN_FROM_MR(pNdkMr: *mut NDK_MR) -> u32;

    /// `NdkGetLocalTokenFromMr`: the token for elements of local lists.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`. Never pends.
    fn NDK_FN_GET_LOCAL_TOKEN_FROM_MR(pNdkMr: *mut NDK_MR) -> u32;
}

layouts! {
    /// A memory region. The provider's own state follows.
    pub struct NDK_MR(48) {
        /// `NdkObjectTypeMr`.
        0x00 Header: NDK_OBJECT_HEADER,
        /// Set by the provider, never read by it.
        0x28 Dispatch: *const NDK_MR_DISPATCH,
    }
}

tables! {
    /// Functions of a memory region.
    pub struct NDK_MR_DISPATCH(56) {
        /// See the type.
        0x00 NdkCloseMr: NDK_FN_CLOSE_OBJECT,
        /// See the type.
        0x08 NdkQueryExtension: NDK_FN_QUERY_EXTENSION_INTERFACE,
        /// See the type.
        0x10 NdkRegisterMr: NDK_FN_REGISTER_MR,
        /// See the type.
        0x18 NdkDeregisterMr: NDK_FN_DEREGISTER_MR,
        /// See the type.
        0x20 NdkInitializeFastRegisterMr: NDK_FN_INITIALIZE_FAST_REGISTER_MR,
        /// See the type.
        0x28 NdkGetRemoteTokenFromMr: NDK_FN_GET_REMOTE_TOKEN_FROM_MR,
        /// See the type.
        0x30 NdkGetLocalTokenFromMr: NDK_FN_GET_LOCAL_TOKEN_FROM_MR,
    }
}

constants! {
    /// Rights of a registration.
    u32 {
        /// Always granted.
        NDK_MR_FLAG_ALLOW_LOCAL_READ = 0;
        NDK_MR_FLAG_ALLOW_LOCAL_WRITE = 1;
        NDK_MR_FLAG_ALLOW_REMOTE_READ = 2;
        /// Includes local write: compare under this mask.
        NDK_MR_FLAG_ALLOW_REMOTE_WRITE = 5;
        /// May receive the data of a read. Ignored by an adapter with `NDK_ADAPTER_FLAG_RDMA_READ_SINK_NOT_REQUIRED`.
        NDK_MR_FLAG_RDMA_READ_SINK = 8;
    }
}
