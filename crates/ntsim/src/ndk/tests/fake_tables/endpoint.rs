//! The tables of shared endpoints and listeners.

use ndkpi::*;

use super::{address, close, query_extension, thing};

pub(super) static ENDPOINT: NDK_SHARED_ENDPOINT_DISPATCH = NDK_SHARED_ENDPOINT_DISPATCH {
    NdkCloseSharedEndpoint: close,
    NdkQueryExtension: query_extension,
    NdkGetLocalAddress: endpoint_address,
};

unsafe extern "efiapi" fn endpoint_address(
    _endpoint: *mut NDK_SHARED_ENDPOINT,
    _address: *mut SOCKADDR,
    length: *mut u32,
) -> NTSTATUS {
    // SAFETY: the consumer's variable.
    unsafe { address(length) }
}

pub(super) static LISTENER: NDK_LISTENER_DISPATCH = NDK_LISTENER_DISPATCH {
    NdkCloseListener: close,
    NdkQueryExtension: query_extension,
    NdkListen: listen,
    NdkGetLocalAddress: listener_address,
    NdkControlConnectEvents: control,
};

unsafe extern "efiapi" fn listen(
    listener: *mut NDK_LISTENER,
    _address: *const SOCKADDR,
    _length: u32,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: an object.
    let thing = unsafe { thing(listener) };
    let fake = thing.fake();
    fake.finish(thing, completion, context, fake.listens.get())
}

unsafe extern "efiapi" fn listener_address(
    _listener: *mut NDK_LISTENER,
    _address: *mut SOCKADDR,
    length: *mut u32,
) -> NTSTATUS {
    // SAFETY: the consumer's variable.
    unsafe { address(length) }
}

unsafe extern "efiapi" fn control(_listener: *mut NDK_LISTENER, _pause: BOOLEAN) {}
