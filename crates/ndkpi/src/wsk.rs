//! How a consumer gets at an adapter: through Winsock Kernel (`wskndk.h`).
//!
//! The consumer registers with WSK, captures the provider interface and calls `WskControlClient` with
//! [`WSKNDK_GET_WSK_PROVIDER_NDK_DISPATCH`].

use crate::adapter::NDK_ADAPTER;
use crate::object::NDK_VERSION;
use crate::types::*;

/// The subsystem's handle of a client: opaque.
#[repr(C)]
pub struct WSK_CLIENT {
    _opaque: [u8; 0],
}

callbacks! {
    /// `WskOpenNdkAdapter`: opens the adapter of an interface.
    ///
    /// IRQL: `PASSIVE_LEVEL`.
    fn PFN_WSK_NDK_OPEN_ADAPTER(
        Client: *mut WSK_CLIENT,
        NdkVersion: NDK_VERSION,
        IfIndex: NET_IFINDEX,
        ppNdkAdapter: *mut *mut NDK_ADAPTER,
    ) -> NTSTATUS;

    /// `WskCloseNdkAdapter`: closes an adapter all of whose objects are closed. Returns when no callback runs any more; not to be called
    /// from one.
    ///
    /// IRQL: `PASSIVE_LEVEL`.
    fn PFN_WSK_NDK_CLOSE_ADAPTER(Client: *mut WSK_CLIENT, pNdkAdapter: *mut NDK_ADAPTER);
}

tables! {
    /// Functions for consumers.
    pub struct WSK_PROVIDER_NDK_DISPATCH(16) {
        /// See the type.
        0x00 WskOpenNdkAdapter: PFN_WSK_NDK_OPEN_ADAPTER,
        /// See the type.
        0x08 WskCloseNdkAdapter: PFN_WSK_NDK_CLOSE_ADAPTER,
    }
}

constants! {
    /// Control code of `WskControlClient` that fetches [`WSK_PROVIDER_NDK_DISPATCH`].
    u32 {
        WSKNDK_GET_WSK_PROVIDER_NDK_DISPATCH = 0x4e444b44;
    }
}
