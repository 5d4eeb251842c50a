//! Connectors: how a queue pair comes to have a peer (`ndkpi.h`).
//!
//! The active side connects, looks at what the peer answered, and completes the connection or rejects it. The passive side gets a
//! connector from its listener, and accepts or rejects; its accept completes when the active side completed. Either side then
//! disconnects once. Neither connector nor queue pair can be used for another connection.

use crate::callback::*;
use crate::endpoint::NDK_SHARED_ENDPOINT;
use crate::object::*;
use crate::qp::NDK_QP;
use crate::types::*;

callbacks! {
    /// `NdkConnect`: asks a peer for a connection; completes when the peer accepted or refused.
    ///
    /// Source port 0 lets the provider choose one from 49152 to 65535. The read limits are lowered to what both adapters and the peer
    /// allow. `pPrivateData` may be null.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`.
    ///
    /// Returns `STATUS_SUCCESS`, `STATUS_PENDING`, or, also by callback: `STATUS_INSUFFICIENT_RESOURCES`, `STATUS_NETWORK_UNREACHABLE`,
    /// `STATUS_HOST_UNREACHABLE`, `STATUS_CONNECTION_REFUSED` (nobody listens there, or the peer rejects), `STATUS_IO_TIMEOUT`,
    /// `STATUS_SHARING_VIOLATION` (source address in use), `STATUS_INVALID_ADDRESS` (source address not the adapter's),
    /// `STATUS_TOO_MANY_ADDRESSES` (no port is free), `STATUS_ADDRESS_ALREADY_EXISTS` (there is such a connection already). After the
    /// unreachable ones, a refusal and a timeout the consumer may try again.
    fn NDK_FN_CONNECT(
        pNdkConnector: *mut NDK_CONNECTOR,
        pNdkQp: *mut NDK_QP,
        pSrcAddress: *const SOCKADDR,
        SrcAddressLength: u32,
        pDestAddress: *const SOCKADDR,
        DestAddressLength: u32,
        InboundReadLimit: u32,
        OutboundReadLimit: u32,
        pPrivateData: *const c_void,
        PrivateDataLength: u32,
        RequestCompletion: NDK_FN_REQUEST_COMPLETION,
        RequestContext: *mut c_void,
    ) -> NTSTATUS;

    /// `NdkConnectWithSharedEndpoint`: as [`NDK_FN_CONNECT`], from the address of a shared endpoint; hence without its failures about
    /// source addresses.
    fn NDK_FN_CONNECT_WITH_SHARED_ENDPOINT(
        pNdkConnector: *mut NDK_CONNECTOR,
        pNdkQp: *mut NDK_QP,
        pNdkSharedEndpoint: *mut NDK_SHARED_ENDPOINT,
        pDestAddress: *const SOCKADDR,
        DestAddressLength: u32,
        InboundReadLimit: u32,
        OutboundReadLimit: u32,
        pPrivateData: *const c_void,
        PrivateDataLength: u32,
        RequestCompletion: NDK_FN_REQUEST_COMPLETION,
        RequestContext: *mut c_void,
    ) -> NTSTATUS;

    /// `NdkCompleteConnect`: tells the peer that the connection stands; then data may flow. Active side, after `NdkConnect` succeeded.
    ///
    /// The disconnect event may be left out.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`.
    ///
    /// Returns `STATUS_SUCCESS`, `STATUS_PENDING`, `STATUS_CONNECTION_ABORTED` (the peer gave up), or, also by callback,
    /// `STATUS_CONNECTION_INVALID` (not connecting), `STATUS_IO_TIMEOUT`.
    fn NDK_FN_COMPLETE_CONNECT(
        pNdkConnector: *mut NDK_CONNECTOR,
        DisconnectEvent: Option<NDK_FN_DISCONNECT_EVENT_CALLBACK>,
        DisconnectEventContext: *mut c_void,
        RequestCompletion: NDK_FN_REQUEST_COMPLETION,
        RequestContext: *mut c_void,
    ) -> NTSTATUS;

    /// `NdkCompleteConnectEx` (2.1): as [`NDK_FN_COMPLETE_CONNECT`]; the disconnect event carries a reason.
    fn NDK_FN_COMPLETE_CONNECT_EX(
        pNdkConnector: *mut NDK_CONNECTOR,
        DisconnectEvent: Option<NDK_FN_DISCONNECT_EVENT_CALLBACK_EX>,
        DisconnectEventContext: *mut c_void,
        RequestCompletion: NDK_FN_REQUEST_COMPLETION,
        RequestContext: *mut c_void,
    ) -> NTSTATUS;

    /// `NdkAccept`: accepts an incoming connection; completes when the peer completed it.
    ///
    /// The disconnect event may be left out.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`.
    ///
    /// Returns `STATUS_SUCCESS`, `STATUS_PENDING`, `STATUS_CONNECTION_ABORTED` (the peer gave up), or `STATUS_IO_TIMEOUT` (it never
    /// completed).
    fn NDK_FN_ACCEPT(
        pNdkConnector: *mut NDK_CONNECTOR,
        pNdkQp: *mut NDK_QP,
        InboundReadLimit: u32,
        OutboundReadLimit: u32,
        pPrivateData: *const c_void,
        PrivateDataLength: u32,
        DisconnectEvent: Option<NDK_FN_DISCONNECT_EVENT_CALLBACK>,
        DisconnectEventContext: *mut c_void,
        RequestCompletion: NDK_FN_REQUEST_COMPLETION,
        RequestContext: *mut c_void,
    ) -> NTSTATUS;

    /// `NdkAcceptEx` (2.1): as [`NDK_FN_ACCEPT`]; the disconnect event carries a reason.
    fn NDK_FN_ACCEPT_EX(
        pNdkConnector: *mut NDK_CONNECTOR,
        pNdkQp: *mut NDK_QP,
        InboundReadLimit: u32,
        OutboundReadLimit: u32,
        pPrivateData: *const c_void,
        PrivateDataLength: u32,
        DisconnectEvent: Option<NDK_FN_DISCONNECT_EVENT_CALLBACK_EX>,
        DisconnectEventContext: *mut c_void,
        RequestCompletion: NDK_FN_REQUEST_COMPLETION,
        RequestContext: *mut c_void,
    ) -> NTSTATUS;

    /// `NdkReject`: refuses an incoming connection, or, on the active side, one whose answer displeases.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`. Never pends.
    ///
    /// Returns `STATUS_SUCCESS`, or `STATUS_CONNECTION_ABORTED` (the peer gave up already).
    fn NDK_FN_REJECT(
        pNdkConnector: *mut NDK_CONNECTOR,
        pPrivateData: *const c_void,
        PrivateDataLength: u32,
    ) -> NTSTATUS;

    /// `NdkGetConnectionData`: what the peer sent, and the effective read limits. Passive side: before accepting. Active side: before
    /// completing.
    ///
    /// Both limits may be null. `pPrivateDataLength` holds the size of the buffer on entry, the size of buffer required on return; a null
    /// buffer of size zero asks for it.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`. Never pends.
    ///
    /// Returns `STATUS_SUCCESS`, or `STATUS_BUFFER_TOO_SMALL` with as much of the data as fits.
    fn NDK_FN_GET_CONNECTION_DATA(
        pNdkConnector: *mut NDK_CONNECTOR,
        pInboundReadLimit: *mut u32,
        pOutboundReadLimit: *mut u32,
        pPrivateData: *mut c_void,
        pPrivateDataLength: *mut u32,
    ) -> NTSTATUS;

    /// `NdkGetLocalAddress` of a connector.
    ///
    /// `pAddressLength` holds the size of the buffer on entry, and the number of bytes written, or needed, on return.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`. Never pends.
    ///
    /// Returns `STATUS_SUCCESS`, or `STATUS_BUFFER_TOO_SMALL`.
    fn NDK_FN_GET_LOCAL_ADDRESS(
        pNdkConnector: *mut NDK_CONNECTOR,
        pAddress: *mut SOCKADDR,
        pAddressLength: *mut u32,
    ) -> NTSTATUS;

    /// `NdkGetPeerAddress`: as [`NDK_FN_GET_LOCAL_ADDRESS`], for the other end.
    fn NDK_FN_GET_PEER_ADDRESS(
        pNdkConnector: *mut NDK_CONNECTOR,
        pAddress: *mut SOCKADDR,
        pAddressLength: *mut u32,
    ) -> NTSTATUS;

    /// `NdkDisconnect`: ends the connection; completes when the peer answered (or did not in time), and nothing accesses the queue pair's
    /// memory any more. Pending requests complete with `STATUS_CANCELLED`. Whatever the status, the connection is gone then.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`.
    ///
    /// Returns `STATUS_SUCCESS`, `STATUS_PENDING`, or `STATUS_IO_TIMEOUT` (also by callback).
    fn NDK_FN_DISCONNECT(
        pNdkConnector: *mut NDK_CONNECTOR,
        RequestCompletion: NDK_FN_REQUEST_COMPLETION,
        RequestContext: *mut c_void,
    ) -> NTSTATUS;

    /// Declared in the headers from NDIS 6.50 on, but in no table.
    fn NDK_FN_DISCONNECT_EX(
        pNdkConnector: *mut NDK_CONNECTOR,
        Abortive: BOOLEAN,
        RequestCompletion: NDK_FN_REQUEST_COMPLETION,
        RequestContext: *mut c_void,
    ) -> NTSTATUS;
}

layouts! {
    /// A connector. The provider's own state follows.
    pub struct NDK_CONNECTOR(48) {
        /// `NdkObjectTypeConnector`.
        0x00 Header: NDK_OBJECT_HEADER,
        /// Set by the provider, never read by it.
        0x28 Dispatch: *const NDK_CONNECTOR_DISPATCH,
    }
}

tables! {
    /// Functions of a connector.
    pub struct NDK_CONNECTOR_DISPATCH(104) {
        /// See the type.
        0x00 NdkCloseConnector: NDK_FN_CLOSE_OBJECT,
        /// See the type.
        0x08 NdkQueryExtension: NDK_FN_QUERY_EXTENSION_INTERFACE,
        /// See the type.
        0x10 NdkConnect: NDK_FN_CONNECT,
        /// See the type.
        0x18 NdkConnectWithSharedEndpoint: NDK_FN_CONNECT_WITH_SHARED_ENDPOINT,
        /// See the type.
        0x20 NdkCompleteConnect: NDK_FN_COMPLETE_CONNECT,
        /// See the type.
        0x28 NdkAccept: NDK_FN_ACCEPT,
        /// See the type.
        0x30 NdkReject: NDK_FN_REJECT,
        /// See the type.
        0x38 NdkGetConnectionData: NDK_FN_GET_CONNECTION_DATA,
        /// See the type.
        0x40 NdkGetLocalAddress: NDK_FN_GET_LOCAL_ADDRESS,
        /// See the type.
        0x48 NdkGetPeerAddress: NDK_FN_GET_PEER_ADDRESS,
        /// See the type.
        0x50 NdkDisconnect: NDK_FN_DISCONNECT,
        /// 2.1. See the type.
        0x58 NdkCompleteConnectEx: NDK_FN_COMPLETE_CONNECT_EX,
        /// 2.1. See the type.
        0x60 NdkAcceptEx: NDK_FN_ACCEPT_EX,
    }
}
