//! Shared endpoints (`ndkpi.h`).

use crate::object::*;
use crate::types::*;

callbacks! {
    /// `NdkGetLocalAddress` of a shared endpoint: its address, with the port the provider chose.
    ///
    /// `pAddressLength` holds the size of the buffer on entry, and the number of bytes written, or needed, on return.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`. Never pends.
    ///
    /// Returns `STATUS_SUCCESS`, or `STATUS_BUFFER_TOO_SMALL`.
    fn NDK_FN_GET_SHARED_ENDPOINT_LOCAL_ADDRESS(
        pNdkSharedEndpoint: *mut NDK_SHARED_ENDPOINT,
        pAddress: *mut SOCKADDR,
        pAddressLength: *mut u32,
    ) -> NTSTATUS;
}

layouts! {
    /// A shared endpoint. The provider's own state follows.
    pub struct NDK_SHARED_ENDPOINT(48) {
        /// `NdkObjectTypeSharedEndpoint`.
        0x00 Header: NDK_OBJECT_HEADER,
        /// Set by the provider, never read by it.
        0x28 Dispatch: *const NDK_SHARED_ENDPOINT_DISPATCH,
    }
}

tables! {
    /// Functions of a shared endpoint.
    pub struct NDK_SHARED_ENDPOINT_DISPATCH(24) {
        /// See the type.
        0x00 NdkCloseSharedEndpoint: NDK_FN_CLOSE_OBJECT,
        /// See the type.
        0x08 NdkQueryExtension: NDK_FN_QUERY_EXTENSION_INTERFACE,
        /// See the type.
        0x10 NdkGetLocalAddress: NDK_FN_GET_SHARED_ENDPOINT_LOCAL_ADDRESS,
    }
}
