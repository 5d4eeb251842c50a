//! NDK_SHARED_ENDPOINT: one local address and port for many outgoing connections.
#![allow(
    unsafe_code,
    reason = "dispatch functions take the consumer's pointers"
)]

use core::ffi::c_void;
use core::net::SocketAddr;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use ndis_sys::status::{
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_ADDRESS, STATUS_INVALID_DEVICE_STATE,
    STATUS_PENDING, STATUS_SUCCESS,
};
use ndis_sys::types::NTSTATUS;
use ndkpi::{
    NDK_ADAPTER, NDK_FN_CREATE_COMPLETION, NDK_SHARED_ENDPOINT, NDK_SHARED_ENDPOINT_DISPATCH,
    NDK_VERSION, SOCKADDR,
};

use super::adapter::Adapter;
use super::address;
use super::object::{self, Context, Kind, Listed, Object, Quiet, Ref, header, query_extension};
use super::slab::Key;
use super::state::State;
use super::status;

/// The private part of an NDK_SHARED_ENDPOINT.
pub struct SharedEndpoint {
    key: AtomicU64,
    _adapter: Ref<Adapter>,
}

static DISPATCH: NDK_SHARED_ENDPOINT_DISPATCH = NDK_SHARED_ENDPOINT_DISPATCH {
    NdkCloseSharedEndpoint: object::close::<SharedEndpoint>,
    NdkQueryExtension: query_extension,
    NdkGetLocalAddress: get_shared_endpoint_local_address,
};

/// A create call that waits for the adapter's addresses to be read again.
struct PendingCreate {
    completion: NDK_FN_CREATE_COMPLETION,
    context: Context,
    outcome: Option<NTSTATUS>,
}

/// What the port knows about a shared endpoint.
pub struct SharedEntry {
    object: Listed<SharedEndpoint>,
    endpoint: Option<SocketAddr>,
    pending: Option<PendingCreate>,
}

impl SharedEntry {
    /// Its address and port, if the consumer has it already.
    pub fn endpoint(&self) -> Option<SocketAddr> {
        self.endpoint.filter(|_| self.pending.is_none())
    }
}

impl State {
    /// The adapter's addresses have been read again: creations that waited for that can go on.
    pub(super) fn share_again(&mut self) {
        for entry in self.shared.iter_mut() {
            let Some(pending) = entry
                .pending
                .as_mut()
                .filter(|pending| pending.outcome.is_none())
            else {
                continue;
            };
            let Some(endpoint) = entry.endpoint else {
                continue;
            };
            let endpoint = self.addresses.scoped(endpoint);
            entry.endpoint = Some(endpoint);
            let local = self.addresses.is_local(endpoint.ip(), false);
            pending.outcome = Some(if local {
                STATUS_SUCCESS
            } else {
                STATUS_INVALID_ADDRESS
            });
            object::tell(entry.object.get());
        }
    }
}

impl Kind for SharedEndpoint {
    type Raw = NDK_SHARED_ENDPOINT;

    fn raw(version: NDK_VERSION) -> NDK_SHARED_ENDPOINT {
        NDK_SHARED_ENDPOINT {
            Header: header(version, ndkpi::NdkObjectTypeSharedEndpoint),
            Dispatch: &DISPATCH,
        }
    }

    fn quiesce(shared: &Object<Self>) -> Quiet {
        shared.port().peek(|state| {
            if let Some(endpoint) = state
                .shared
                .remove(shared.key())
                .and_then(|entry| entry.endpoint)
            {
                state.ports.release(endpoint);
            }
        });
        Quiet::Yes
    }

    /// Decision X-53: a create that fails after it pended passes a null object.
    fn tell(shared: &Object<Self>) {
        let news = shared.port().peek(|state| {
            let entry = state.shared.get_mut(shared.key())?;
            let outcome = entry.pending.as_ref()?.outcome?;
            Some((entry.pending.take()?, outcome))
        });
        let Some((pending, outcome)) = news else {
            return;
        };
        let object = if outcome == STATUS_SUCCESS {
            shared.as_raw().cast()
        } else {
            ptr::null_mut()
        };
        // SAFETY: the consumer's callback with the consumer's context, once. The queue's reference holds the object.
        unsafe { (pending.completion)(pending.context.0, outcome, object) };
        if outcome != STATUS_SUCCESS {
            // SAFETY: never handed out, so the handle is still the provider's.
            unsafe { object::abandon(shared) };
        }
    }
}

impl SharedEndpoint {
    /// Its key in the port's table.
    pub fn key(&self) -> Key {
        Key::from_bits(self.key.load(Ordering::Acquire))
    }
}

/// NdkCreateSharedEndpoint. Takes the address and port (decision X-06: not the first connect from it). Pends only if the address is
/// not among those known, until they have been read again.
/// IRQL <= DISPATCH_LEVEL.
///
/// Decision X-61: an address that cannot be read, and the unspecified one, are STATUS_INVALID_ADDRESS.
///
/// # Safety
/// The consumer passes an open adapter, an address with its length, and a place for the result.
pub unsafe extern "efiapi" fn create_shared_endpoint(
    adapter: *mut NDK_ADAPTER,
    address: *const SOCKADDR,
    length: u32,
    completion: NDK_FN_CREATE_COMPLETION,
    context: *mut c_void,
    out: *mut *mut NDK_SHARED_ENDPOINT,
) -> NTSTATUS {
    // SAFETY: by the contract of this function.
    let wanted = match unsafe { address::read(address.cast(), length) } {
        Some(wanted) if address::is_host(wanted.ip()) => wanted,
        _ => return STATUS_INVALID_ADDRESS,
    };
    // SAFETY: by the contract of this function.
    let adapter = unsafe { Object::<Adapter>::from_raw(adapter) };
    if let Err(status) = adapter.port().ready() {
        return adapter.port().answer("NdkCreateSharedEndpoint", status);
    }
    let body = SharedEndpoint {
        key: AtomicU64::new(0),
        _adapter: adapter.reference(),
    };
    let Ok(shared) = adapter.try_new_child(body) else {
        return adapter
            .port()
            .answer("NdkCreateSharedEndpoint", STATUS_INSUFFICIENT_RESOURCES);
    };
    // SAFETY: quiesce takes the entry out.
    let listed = unsafe { Listed::new(shared) };
    let result = shared.port().peek(|state| {
        let wanted = state.addresses.scoped(wanted);
        let endpoint = state.ports.claim(wanted).map_err(status::of_claim)?;
        let known = state.addresses.is_local(endpoint.ip(), false);
        let pending = PendingCreate {
            completion,
            context: Context(context),
            outcome: None,
        };
        let entry = SharedEntry {
            object: listed,
            endpoint: Some(endpoint),
            pending: Some(pending).filter(|_| !known),
        };
        match state.shared.insert(entry) {
            Ok(key) => {
                shared.key.store(key.to_bits(), Ordering::Release);
                Ok(known)
            }
            Err(_) => {
                state.ports.release(endpoint);
                Err(STATUS_INSUFFICIENT_RESOURCES)
            }
        }
    });
    match result {
        Ok(true) => {
            // SAFETY: by the contract of this function.
            unsafe { out.write(shared.as_raw()) };
            STATUS_SUCCESS
        }
        Ok(false) => {
            adapter.port().read_addresses_soon();
            STATUS_PENDING
        }
        Err(status) => {
            // SAFETY: nobody knows it.
            unsafe { object::discard(shared) };
            status
        }
    }
}

/// NdkGetSharedEndpointLocalAddress. IRQL <= DISPATCH_LEVEL.
unsafe extern "efiapi" fn get_shared_endpoint_local_address(
    shared: *mut NDK_SHARED_ENDPOINT,
    address: *mut SOCKADDR,
    length: *mut u32,
) -> NTSTATUS {
    // SAFETY: the consumer passes an open shared endpoint.
    let shared = unsafe { Object::<SharedEndpoint>::from_raw(shared) };
    match shared.port().peek(|state| {
        state
            .shared
            .get(shared.key())
            .and_then(|entry| entry.endpoint)
    }) {
        // SAFETY: the consumer passes a buffer with its length.
        Some(endpoint) => unsafe { address::write(endpoint, address.cast(), length) },
        None => STATUS_INVALID_DEVICE_STATE,
    }
}
