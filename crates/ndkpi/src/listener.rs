//! Listeners (`ndkpi.h`).

use crate::callback::NDK_FN_REQUEST_COMPLETION;
use crate::object::*;
use crate::types::*;

callbacks! {
    /// `NdkListen`: begins to listen on a local address and port; connect events may follow. Port 0 lets the provider choose one from
    /// 49152 to 65535.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`.
    ///
    /// Returns `STATUS_SUCCESS`, `STATUS_PENDING`, `STATUS_TOO_MANY_ADDRESSES` (no port is free), or, also by callback,
    /// `STATUS_INSUFFICIENT_RESOURCES`, `STATUS_SHARING_VIOLATION` (address in use), `STATUS_INVALID_ADDRESS` (not the adapter's).
    fn NDK_FN_LISTEN(
        pNdkListener: *mut NDK_LISTENER,
        pAddress: *const SOCKADDR,
        AddressLength: u32,
        RequestCompletion: NDK_FN_REQUEST_COMPLETION,
        RequestContext: *mut c_void,
    ) -> NTSTATUS;

    /// `NdkGetLocalAddress` of a listener: its address, with the port the provider chose.
    ///
    /// `pAddressLength` holds the size of the buffer on entry, and the number of bytes written, or needed, on return.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`. Never pends.
    ///
    /// Returns `STATUS_SUCCESS`, or `STATUS_BUFFER_TOO_SMALL`.
    fn NDK_FN_GET_LISTENER_LOCAL_ADDRESS(
        pNdkListener: *mut NDK_LISTENER,
        pAddress: *mut SOCKADDR,
        pAddressLength: *mut u32,
    ) -> NTSTATUS;

    /// `NdkControlConnectEvents`: pauses a listener, so that peers find nobody there, or resumes it.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`. Never pends.
    fn NDK_FN_CONTROL_CONNECT_EVENTS(pNdkListener: *mut NDK_LISTENER, Pause: BOOLEAN);
}

layouts! {
    /// A listener. The provider's own state follows.
    pub struct NDK_LISTENER(48) {
        /// `NdkObjectTypeListener`.
        0x00 Header: NDK_OBJECT_HEADER,
        /// Set by the provider, never read by it.
        0x28 Dispatch: *const NDK_LISTENER_DISPATCH,
    }
}

tables! {
    /// Functions of a listener.
    pub struct NDK_LISTENER_DISPATCH(40) {
        /// See the type.
        0x00 NdkCloseListener: NDK_FN_CLOSE_OBJECT,
        /// See the type.
        0x08 NdkQueryExtension: NDK_FN_QUERY_EXTENSION_INTERFACE,
        /// See the type.
        0x10 NdkListen: NDK_FN_LISTEN,
        /// See the type.
        0x18 NdkGetLocalAddress: NDK_FN_GET_LISTENER_LOCAL_ADDRESS,
        /// See the type.
        0x20 NdkControlConnectEvents: NDK_FN_CONTROL_CONNECT_EVENTS,
    }
}
