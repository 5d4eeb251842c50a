//! Memory windows (`ndkpi.h`).

use crate::object::*;

callbacks! {
    /// `NdkGetRemoteTokenFromMw`: the token a peer needs; readable once `NdkBind` has returned, before the bind completes.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`. Never pends.
    fn NDK_FN_GET_REMOTE_TOKEN_FROM_MW(pNdkMw: *mut NDK_MW) -> u32;
}

layouts! {
    /// A memory window. The provider's own state follows.
    pub struct NDK_MW(48) {
        /// `NdkObjectTypeMw`.
        0x00 Header: NDK_OBJECT_HEADER,
        /// Set by the provider, never read by it.
        0x28 Dispatch: *const NDK_MW_DISPATCH,
    }
}

tables! {
    /// Functions of a memory window.
    pub struct NDK_MW_DISPATCH(24) {
        /// See the type.
        0x00 NdkCloseMw: NDK_FN_CLOSE_OBJECT,
        /// See the type.
        0x08 NdkQueryExtension: NDK_FN_QUERY_EXTENSION_INTERFACE,
        /// See the type.
        0x10 NdkGetRemoteTokenFromMw: NDK_FN_GET_REMOTE_TOKEN_FROM_MW,
    }
}
