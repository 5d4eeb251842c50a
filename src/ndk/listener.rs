//! NDK_LISTENER: waits for peers that want to connect.
#![allow(
    unsafe_code,
    reason = "dispatch functions take the consumer's pointers"
)]

use core::ffi::c_void;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicU64, Ordering};

use ndis_sys::status::{
    STATUS_CANCELLED, STATUS_INSUFFICIENT_RESOURCES, STATUS_INTERNAL_ERROR, STATUS_INVALID_ADDRESS,
    STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_DEVICE_STATE, STATUS_PENDING, STATUS_SUCCESS,
};
use ndis_sys::types::{BOOLEAN, NTSTATUS};
use ndkpi::{
    NDK_ADAPTER, NDK_CONNECTOR, NDK_FN_CONNECT_EVENT_CALLBACK, NDK_FN_CREATE_COMPLETION,
    NDK_FN_REQUEST_COMPLETION, NDK_LISTENER, NDK_LISTENER_DISPATCH, NDK_VERSION, SOCKADDR,
};
use roce::ListenerId;

use super::adapter::Adapter;
use super::address;
use super::object::{
    self, Context, Kind, Listed, Object, Quiet, Ref, Request, header, query_extension,
};
use super::slab::Key;
use super::state::State;
use super::status;

/// The private part of an NDK_LISTENER.
pub struct Listener {
    key: AtomicU64,
    connect_event: NDK_FN_CONNECT_EVENT_CALLBACK,
    context: Context,
    adapter: Ref<Adapter>,
}

static DISPATCH: NDK_LISTENER_DISPATCH = NDK_LISTENER_DISPATCH {
    NdkCloseListener: object::close::<Listener>,
    NdkQueryExtension: query_extension,
    NdkListen: listen,
    NdkGetLocalAddress: get_listener_local_address,
    NdkControlConnectEvents: control_connect_events,
};

/// What the port knows about a listener.
pub struct Listening {
    object: Listed<Listener>,
    /// Where it listens, or is going to once the adapter's addresses have been read again.
    endpoint: Option<SocketAddr>,
    /// The engine's listener.
    id: Option<ListenerId>,
    paused: bool,
    /// A listen call that waits for the adapter's addresses, or whose end the consumer has not been told.
    request: Option<Request<Listener>>,
    outcome: Option<NTSTATUS>,
}

impl Listening {
    /// The listener, unless it is being closed.
    pub fn open_object(&self) -> Option<&Object<Listener>> {
        Some(self.object.get()).filter(|listener| !listener.is_closing())
    }

    /// Where it listens.
    pub fn endpoint(&self) -> Option<SocketAddr> {
        self.endpoint.filter(|_| self.id.is_some())
    }
}

impl State {
    /// NdkListen. `Ok(true)`: it listens. `Ok(false)`: the address is not known, the list of addresses has to be read again.
    fn listen(
        &mut self,
        key: Key,
        wanted: SocketAddr,
        request: Request<Listener>,
    ) -> Result<bool, NTSTATUS> {
        let known = self.addresses.is_local(wanted.ip(), true);
        let listening = self.listeners.get_mut(key).ok_or(STATUS_INTERNAL_ERROR)?;
        // A listen that has failed pends until its completion callback was called.
        if listening.endpoint.is_some() || listening.request.is_some() {
            return Err(STATUS_INVALID_DEVICE_REQUEST);
        }
        let wanted = self.addresses.scoped(wanted);
        let endpoint = self.ports.claim(wanted).map_err(status::of_claim)?;
        listening.endpoint = Some(endpoint);
        if known {
            return self.listen_now(key).map(|()| true);
        }
        if let Some(listening) = self.listeners.get_mut(key) {
            listening.request = Some(request);
        }
        Ok(false)
    }

    /// The endpoint is claimed and the address is the adapter's.
    fn listen_now(&mut self, key: Key) -> Result<(), NTSTATUS> {
        let endpoint = self
            .listeners
            .get(key)
            .and_then(|l| l.endpoint)
            .ok_or(STATUS_INTERNAL_ERROR)?;
        match self.engine.listen(endpoint.ip(), endpoint.port()) {
            Ok(id) => {
                self.by_listener.set(id.index(), key);
                self.note_listening(endpoint);
                if let Some(listening) = self.listeners.get_mut(key) {
                    listening.id = Some(id);
                    if listening.paused {
                        let _ = self.engine.pause_listener(id, true);
                    }
                }
                Ok(())
            }
            Err(error) => {
                self.release_listener_endpoint(key);
                Err(status::of_cm(error))
            }
        }
    }

    /// The adapter's addresses have been read again: those who waited for that can go on.
    pub(super) fn listen_again(&mut self) {
        let mut at = 0;
        while let Some(key) = self.listeners.next(at) {
            at = key.index() + 1;
            if self
                .listeners
                .get(key)
                .is_none_or(|l| l.request.is_none() || l.outcome.is_some())
            {
                continue;
            }
            let Some(endpoint) = self.listeners.get(key).and_then(|l| l.endpoint) else {
                continue;
            };
            // The list may have been empty when this was asked for.
            let endpoint = self.addresses.scoped(endpoint);
            if let Some(listening) = self.listeners.get_mut(key) {
                listening.endpoint = Some(endpoint);
            }
            let outcome = if self.addresses.is_local(endpoint.ip(), true) {
                self.listen_now(key).err().unwrap_or(STATUS_SUCCESS)
            } else {
                self.release_listener_endpoint(key);
                STATUS_INVALID_ADDRESS
            };
            if let Some(listening) = self.listeners.get_mut(key) {
                listening.outcome = Some(outcome);
                object::tell(listening.object.get());
            }
        }
    }

    fn release_listener_endpoint(&mut self, key: Key) {
        if let Some(endpoint) = self.listeners.get_mut(key).and_then(|l| l.endpoint.take()) {
            self.ports.release(endpoint);
        }
    }

    fn stop_listening(&mut self, key: Key) {
        let Some(listening) = self.listeners.get_mut(key) else {
            return;
        };
        if listening.request.is_some() && listening.outcome.is_none() {
            listening.outcome = Some(STATUS_CANCELLED);
            object::tell(listening.object.get());
        }
        if let Some(id) = listening.id.take() {
            self.by_listener.clear(id.index());
            let _ = self.engine.unlisten(id);
        }
    }
}

impl Kind for Listener {
    type Raw = NDK_LISTENER;

    fn raw(version: NDK_VERSION) -> NDK_LISTENER {
        NDK_LISTENER {
            Header: header(version, ndkpi::NdkObjectTypeListener),
            Dispatch: &DISPATCH,
        }
    }

    /// From here on requests are refused, though the close may stay pending until every connector that came in is closed (L-17;
    /// decision X-05: pending, not an error).
    fn closing(listener: &Object<Self>) {
        listener
            .port()
            .with(|state| state.stop_listening(listener.key()));
    }

    fn quiesce(listener: &Object<Self>) -> Quiet {
        listener.port().peek(|state| {
            state.release_listener_endpoint(listener.key());
            state.listeners.remove(listener.key());
        });
        Quiet::Yes
    }

    fn tell(listener: &Object<Self>) {
        let news = listener.port().peek(|state| {
            let listening = state.listeners.get_mut(listener.key())?;
            Some((listening.outcome.take()?, listening.request.take()?))
        });
        if let Some((status, request)) = news {
            request.complete(status);
        }
    }
}

impl Listener {
    fn key(&self) -> Key {
        Key::from_bits(self.key.load(Ordering::Acquire))
    }

    /// The adapter it belongs to.
    pub fn adapter(&self) -> &Ref<Adapter> {
        &self.adapter
    }

    /// Raises the connect event. IRQL: DISPATCH_LEVEL, in the port's DPC, no lock held.
    pub(super) fn connect_event(&self, connector: *mut NDK_CONNECTOR) {
        // SAFETY: the consumer's callback with the consumer's context; the connector holds this listener until it is closed.
        unsafe { (self.connect_event)(self.context.0, connector) };
    }
}

/// NdkCreateListener. Never pends; does not listen yet. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// The consumer passes an open adapter and a place for the result.
pub unsafe extern "efiapi" fn create_listener(
    adapter: *mut NDK_ADAPTER,
    connect_event: NDK_FN_CONNECT_EVENT_CALLBACK,
    event_context: *mut c_void,
    _completion: NDK_FN_CREATE_COMPLETION,
    _context: *mut c_void,
    out: *mut *mut NDK_LISTENER,
) -> NTSTATUS {
    // SAFETY: by the contract of this function.
    let adapter = unsafe { Object::<Adapter>::from_raw(adapter) };
    if let Err(status) = adapter.port().ready() {
        return adapter.port().answer("NdkCreateListener", status);
    }
    let body = Listener {
        key: AtomicU64::new(0),
        connect_event,
        context: Context(event_context),
        adapter: adapter.reference(),
    };
    let Ok(listener) = adapter.try_new_child(body) else {
        return adapter
            .port()
            .answer("NdkCreateListener", STATUS_INSUFFICIENT_RESOURCES);
    };
    // SAFETY: quiesce takes the entry out.
    let object = unsafe { Listed::new(listener) };
    let entry = Listening {
        object,
        endpoint: None,
        id: None,
        paused: false,
        request: None,
        outcome: None,
    };
    match adapter.port().peek(|state| state.listeners.insert(entry)) {
        Ok(key) => {
            listener.key.store(key.to_bits(), Ordering::Release);
            // SAFETY: by the contract of this function.
            unsafe { out.write(listener.as_raw()) };
            STATUS_SUCCESS
        }
        Err(_) => {
            // SAFETY: nobody knows it.
            unsafe { object::discard(listener) };
            adapter
                .port()
                .answer("NdkCreateListener", STATUS_INSUFFICIENT_RESOURCES)
        }
    }
}

/// NdkListen. Pends only if the address is not among those known, until they have been read again. IRQL <= DISPATCH_LEVEL.
///
/// Decisions: an address that cannot be read is STATUS_INVALID_ADDRESS; the unspecified address listens on every
/// address of the adapter. A listener that listens already, or has been asked to
/// and has not said how that ended, is STATUS_INVALID_DEVICE_REQUEST. It is not paused afterwards unless it
/// was paused before.
unsafe extern "efiapi" fn listen(
    listener: *mut NDK_LISTENER,
    address: *const SOCKADDR,
    length: u32,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: the consumer passes an open listener.
    let listener = unsafe { Object::<Listener>::from_raw(listener) };
    // SAFETY: the consumer passes an address with its length.
    let Some(wanted) = (unsafe { address::read(address.cast(), length) }) else {
        return listener.port().answer("NdkListen", STATUS_INVALID_ADDRESS);
    };
    let port = listener.port();
    if let Err(status) = port.ready() {
        return port.answer("NdkListen", status);
    }
    let request = Request::new(listener, completion, context);
    match port.with(|state| state.listen(listener.key(), wanted, request)) {
        Ok(true) => STATUS_SUCCESS,
        Ok(false) => {
            // A listen that pends may end elsewhere at any time, and the consumer may close the listener when it does.
            port.read_addresses_soon();
            STATUS_PENDING
        }
        Err(status) => port.answer("NdkListen", status),
    }
}

/// NdkGetListenerLocalAddress. A listener that does not listen has none: STATUS_INVALID_DEVICE_STATE. IRQL <= DISPATCH_LEVEL.
unsafe extern "efiapi" fn get_listener_local_address(
    listener: *mut NDK_LISTENER,
    address: *mut SOCKADDR,
    length: *mut u32,
) -> NTSTATUS {
    // SAFETY: the consumer passes an open listener.
    let listener = unsafe { Object::<Listener>::from_raw(listener) };
    match listener.port().peek(|state| {
        state
            .listeners
            .get(listener.key())
            .and_then(Listening::endpoint)
    }) {
        // SAFETY: the consumer passes a buffer with its length.
        Some(endpoint) => unsafe { address::write(endpoint, address.cast(), length) },
        None => STATUS_INVALID_DEVICE_STATE,
    }
}

/// NdkControlConnectEvents. Affects later requests only (decision X-38). IRQL <= DISPATCH_LEVEL.
unsafe extern "efiapi" fn control_connect_events(listener: *mut NDK_LISTENER, pause: BOOLEAN) {
    // SAFETY: the consumer passes an open listener.
    let listener = unsafe { Object::<Listener>::from_raw(listener) };
    listener.port().peek(|state| {
        if let Some(listening) = state.listeners.get_mut(listener.key()) {
            listening.paused = pause != 0;
            if let Some(id) = listening.id {
                let _ = state.engine.pause_listener(id, pause != 0);
            }
        }
    });
}
