//! The table of connectors.

use ndkpi::status::*;
use ndkpi::*;

use super::super::fake::{Fake, Misdeed, Thing, depend};
use super::{address, close, query_extension, thing};
use crate::world::context::KernelMode;

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

/// How much private data it takes, and shows at the other end.
pub(super) const PRIVATE_DATA: u32 = 56;

/// Keeps private data, unless it is too much.
///
/// # Safety
/// `data` is valid for `length` bytes, or the length is 0.
unsafe fn takes(thing: &Thing, data: *const c_void, length: u32) -> bool {
    let _kernel = KernelMode::enter();
    let fake = thing.fake();
    if length > PRIVATE_DATA || fake.does(Misdeed::RefusesPrivateData) {
        return false;
    }
    let mut bytes = vec![0; length as usize];
    if length > 0 {
        // SAFETY: the caller's promise.
        unsafe { data.cast::<u8>().copy_to(bytes.as_mut_ptr(), bytes.len()) };
    }
    *fake.private_data.borrow_mut() = bytes;
    true
}

/// The buffer that a consumer gets at the other end.
fn shown(fake: &Fake) -> Vec<u8> {
    let mut bytes = fake.private_data.borrow().clone();
    if fake.does(Misdeed::LosesPrivateData) {
        bytes.clear();
    }
    if fake.does(Misdeed::CutsPrivateData) {
        bytes.truncate(2);
    }
    let rubbish = fake.does(Misdeed::LeavesRubbishBehindPrivateData);
    bytes.resize(PRIVATE_DATA as usize, if rubbish { 0xaa } else { 0 });
    bytes
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
    data: *const c_void,
    data_length: u32,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: objects.
    let (thing, qp) = unsafe { (thing(connector), thing(qp)) };
    // SAFETY: the consumer's.
    if !unsafe { takes(thing, data, data_length) } {
        return STATUS_INVALID_BUFFER_SIZE;
    }
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
    data: *const c_void,
    data_length: u32,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: objects.
    let (thing, qp, endpoint) = unsafe { (thing(connector), thing(qp), thing(endpoint)) };
    // SAFETY: the consumer's.
    if !unsafe { takes(thing, data, data_length) } {
        return STATUS_INVALID_BUFFER_SIZE;
    }
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
    data: *const c_void,
    data_length: u32,
    event: Option<NDK_FN_DISCONNECT_EVENT_CALLBACK>,
    event_context: *mut c_void,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: objects.
    let (thing, qp) = unsafe { (thing(connector), thing(qp)) };
    // SAFETY: the consumer's.
    if !unsafe { takes(thing, data, data_length) } {
        return STATUS_INVALID_BUFFER_SIZE;
    }
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
    data: *const c_void,
    data_length: u32,
    event: Option<NDK_FN_DISCONNECT_EVENT_CALLBACK_EX>,
    event_context: *mut c_void,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: objects.
    let (thing, qp) = unsafe { (thing(connector), thing(qp)) };
    // SAFETY: the consumer's.
    if !unsafe { takes(thing, data, data_length) } {
        return STATUS_INVALID_BUFFER_SIZE;
    }
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
    connector: *mut NDK_CONNECTOR,
    _inbound: *mut u32,
    _outbound: *mut u32,
    data: *mut c_void,
    length: *mut u32,
) -> NTSTATUS {
    let _kernel = KernelMode::enter();
    // SAFETY: an object; the consumer's variable and buffer of that length.
    unsafe {
        let room = std::mem::replace(&mut *length, PRIVATE_DATA);
        if data.is_null() {
            return STATUS_SUCCESS;
        }
        let shown = shown(thing(connector).fake());
        let most = shown.len().min(room as usize);
        data.cast::<u8>().copy_from(shown.as_ptr(), most);
        match room < PRIVATE_DATA {
            true => STATUS_BUFFER_TOO_SMALL,
            false => STATUS_SUCCESS,
        }
    }
}

/// Every consumer and every peer has the same.
pub(in crate::ndk::tests) const ADDRESS: [u8; 4] = [10, 0, 0, 1];

unsafe extern "efiapi" fn connector_address(
    _connector: *mut NDK_CONNECTOR,
    room: *mut SOCKADDR,
    length: *mut u32,
) -> NTSTATUS {
    // SAFETY: the consumer's variable, and a buffer of that length.
    unsafe {
        let status = address(length);
        if status == STATUS_SUCCESS {
            room.cast::<SOCKADDR_IN>().write_unaligned(SOCKADDR_IN {
                sin_family: AF_INET,
                sin_addr: ADDRESS,
                ..SOCKADDR_IN::ZEROED
            });
        }
        status
    }
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
