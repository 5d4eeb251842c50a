//! The table of connectors.

use ndkpi::status::*;
use ndkpi::*;

use super::super::fake::{Misdeed, depend};
use super::{address, close, query_extension, thing};

static CONNECTOR: NDK_CONNECTOR_DISPATCH = NDK_CONNECTOR_DISPATCH {
    NdkCloseConnector: close,
    NdkQueryExtension: query_extension,
    NdkConnect: connect,
    NdkConnectWithSharedEndpoint: connect_with_endpoint,
    NdkCompleteConnect: complete_connect,
    NdkAccept: accept,
    NdkReject: reject,
    NdkGetConnectionData: connection_data,
    NdkGetLocalAddress: connector_address,
    NdkGetPeerAddress: connector_address,
    NdkDisconnect: disconnect,
    NdkCompleteConnectEx: complete_connect_ex,
    NdkAcceptEx: accept_ex,
};

pub(in crate::ndk::tests) fn connector() -> *const c_void {
    (&raw const CONNECTOR).cast()
}

unsafe extern "efiapi" fn connect(
    connector: *mut NDK_CONNECTOR,
    qp: *mut NDK_QP,
    _source: *const SOCKADDR,
    _source_length: u32,
    _destination: *const SOCKADDR,
    _destination_length: u32,
    _inbound: u32,
    _outbound: u32,
    _data: *const c_void,
    _data_length: u32,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: objects.
    let (thing, qp) = unsafe { (thing(connector), thing(qp)) };
    depend(thing, qp);
    qp.connected.set(true);
    thing
        .fake()
        .finish(thing, completion, context, STATUS_SUCCESS)
}

unsafe extern "efiapi" fn connect_with_endpoint(
    connector: *mut NDK_CONNECTOR,
    qp: *mut NDK_QP,
    endpoint: *mut NDK_SHARED_ENDPOINT,
    _destination: *const SOCKADDR,
    _destination_length: u32,
    _inbound: u32,
    _outbound: u32,
    _data: *const c_void,
    _data_length: u32,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: objects.
    let (thing, qp, endpoint) = unsafe { (thing(connector), thing(qp), thing(endpoint)) };
    depend(thing, qp);
    depend(thing, endpoint);
    qp.connected.set(true);
    thing
        .fake()
        .finish(thing, completion, context, STATUS_SUCCESS)
}

unsafe extern "efiapi" fn complete_connect(
    connector: *mut NDK_CONNECTOR,
    event: Option<NDK_FN_DISCONNECT_EVENT_CALLBACK>,
    event_context: *mut c_void,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: an object.
    let thing = unsafe { thing(connector) };
    thing.disconnect_event.set(event);
    thing.context.set(event_context);
    let fake = thing.fake();
    if fake.does(Misdeed::DisconnectsUnconnected) {
        fake.peer_disconnects(thing);
        return fake.finish(thing, completion, context, STATUS_CONNECTION_ABORTED);
    }
    fake.finish(thing, completion, context, STATUS_SUCCESS)
}

unsafe extern "efiapi" fn complete_connect_ex(
    connector: *mut NDK_CONNECTOR,
    event: Option<NDK_FN_DISCONNECT_EVENT_CALLBACK_EX>,
    event_context: *mut c_void,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: an object.
    let thing = unsafe { thing(connector) };
    thing.disconnect_event_ex.set(event);
    thing.context.set(event_context);
    thing
        .fake()
        .finish(thing, completion, context, STATUS_SUCCESS)
}

unsafe extern "efiapi" fn accept(
    connector: *mut NDK_CONNECTOR,
    qp: *mut NDK_QP,
    _inbound: u32,
    _outbound: u32,
    _data: *const c_void,
    _data_length: u32,
    event: Option<NDK_FN_DISCONNECT_EVENT_CALLBACK>,
    event_context: *mut c_void,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: objects.
    let (thing, qp) = unsafe { (thing(connector), thing(qp)) };
    depend(thing, qp);
    qp.connected.set(true);
    thing.disconnect_event.set(event);
    thing.context.set(event_context);
    thing
        .fake()
        .finish(thing, completion, context, STATUS_SUCCESS)
}

unsafe extern "efiapi" fn accept_ex(
    connector: *mut NDK_CONNECTOR,
    qp: *mut NDK_QP,
    _inbound: u32,
    _outbound: u32,
    _data: *const c_void,
    _data_length: u32,
    event: Option<NDK_FN_DISCONNECT_EVENT_CALLBACK_EX>,
    event_context: *mut c_void,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: objects.
    let (thing, qp) = unsafe { (thing(connector), thing(qp)) };
    depend(thing, qp);
    qp.connected.set(true);
    thing.disconnect_event_ex.set(event);
    thing.context.set(event_context);
    thing
        .fake()
        .finish(thing, completion, context, STATUS_SUCCESS)
}

unsafe extern "efiapi" fn reject(
    _connector: *mut NDK_CONNECTOR,
    _data: *const c_void,
    _data_length: u32,
) -> NTSTATUS {
    STATUS_SUCCESS
}

unsafe extern "efiapi" fn connection_data(
    _connector: *mut NDK_CONNECTOR,
    _inbound: *mut u32,
    _outbound: *mut u32,
    data: *mut c_void,
    length: *mut u32,
) -> NTSTATUS {
    // SAFETY: the consumer's variable.
    let length = unsafe { &mut *length };
    let room = std::mem::replace(length, 56);
    if room < 56 && !data.is_null() {
        STATUS_BUFFER_TOO_SMALL
    } else {
        STATUS_SUCCESS
    }
}

unsafe extern "efiapi" fn connector_address(
    _connector: *mut NDK_CONNECTOR,
    _address: *mut SOCKADDR,
    length: *mut u32,
) -> NTSTATUS {
    // SAFETY: the consumer's variable.
    unsafe { address(length) }
}

unsafe extern "efiapi" fn disconnect(
    connector: *mut NDK_CONNECTOR,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: an object.
    let thing = unsafe { thing(connector) };
    thing
        .fake()
        .finish(thing, completion, context, STATUS_SUCCESS)
}
