//! NDK_CONNECTOR: the dispatch functions around a connection. What they do is in `connection`.
#![allow(
    unsafe_code,
    reason = "dispatch functions take the consumer's pointers"
)]

use core::ffi::c_void;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicU64, Ordering};

use ndis_sys::status::{
    STATUS_BUFFER_TOO_SMALL, STATUS_CONNECTION_INVALID, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_ADDRESS, STATUS_INVALID_BUFFER_SIZE, STATUS_INVALID_PARAMETER, STATUS_PENDING,
    STATUS_SUCCESS,
};
use ndis_sys::types::NTSTATUS;
use ndkpi::{
    NDK_ADAPTER, NDK_CONNECTOR, NDK_CONNECTOR_DISPATCH, NDK_FN_CREATE_COMPLETION,
    NDK_FN_DISCONNECT_EVENT_CALLBACK, NDK_FN_DISCONNECT_EVENT_CALLBACK_EX,
    NDK_FN_REQUEST_COMPLETION, NDK_QP, NDK_SHARED_ENDPOINT, NDK_VERSION, SOCKADDR,
};

use super::adapter::Adapter;
use super::address;
use super::connection::{
    Accept, Connect, Connection, DisconnectSink, News, PrivateData, ReadLimits, Source,
};
use super::endpoint::{SharedEndpoint, SharedEntry};
use super::limits::{MAX_CALLEE_DATA, MAX_CALLER_DATA};
use super::listener::Listener;
use super::object::{self, Context, Kind, Listed, Object, Ref, Request, header, query_extension};
use super::qp::Qp;
use super::slab::Key;

/// The private part of an NDK_CONNECTOR.
pub struct Connector {
    key: AtomicU64,
    adapter: Ref<Adapter>,
    /// The listener over which the request came in.
    listener: Option<Ref<Listener>>,
}

static DISPATCH: NDK_CONNECTOR_DISPATCH = NDK_CONNECTOR_DISPATCH {
    NdkCloseConnector: object::close::<Connector>,
    NdkQueryExtension: query_extension,
    NdkConnect: connect,
    NdkConnectWithSharedEndpoint: connect_with_shared_endpoint,
    NdkCompleteConnect: complete_connect,
    NdkAccept: accept,
    NdkReject: reject,
    NdkGetConnectionData: get_connection_data,
    NdkGetLocalAddress: get_local_address,
    NdkGetPeerAddress: get_peer_address,
    NdkDisconnect: disconnect,
    NdkCompleteConnectEx: complete_connect_ex,
    NdkAcceptEx: accept_ex,
};

impl Kind for Connector {
    type Raw = NDK_CONNECTOR;

    fn raw(version: NDK_VERSION) -> NDK_CONNECTOR {
        NDK_CONNECTOR {
            Header: header(version, ndkpi::NdkObjectTypeConnector),
            Dispatch: &DISPATCH,
        }
    }

    fn closing(connector: &Object<Self>) {
        connector
            .port()
            .with(|state| state.close_connection(connector.key()));
    }

    fn quiesce(connector: &Object<Self>) -> object::Quiet {
        // The endpoint is free when the consumer hears that the connector is closed; everything else waits for `drop`.
        connector
            .port()
            .peek(|state| state.release_endpoint(connector.key()));
        object::Quiet::Yes
    }

    fn tell(connector: &Object<Self>) {
        while let Some(news) = connector
            .port()
            .peek(|state| state.connections.get_mut(connector.key())?.take_news())
        {
            match news {
                News::ConnectEvent => connector.offer(),
                News::Completed(request, status, held) => {
                    request.complete(status);
                    drop(held);
                }
                News::Disconnected(DisconnectSink::Plain(callback, context), _) => {
                    // SAFETY: the consumer's callback with the consumer's context; the queue's reference holds the connector.
                    unsafe { callback(context.0) };
                }
                News::Disconnected(DisconnectSink::WithReason(callback, context), reason) => {
                    // SAFETY: as above.
                    unsafe { callback(context.0, reason) };
                }
            }
        }
    }
}

impl Drop for Connector {
    /// Takes the connector out of the port's table, and with it the references to QP and endpoint: after CloseCompletion returned. One
    /// that came into no table, because there was no memory for it, may be dropped under the port's lock.
    fn drop(&mut self) {
        if self.key() == Key::NONE {
            return;
        }
        let left = self.adapter.port().peek(|state| {
            let qp = state.detach_qp(self.key());
            (qp, state.connections.remove(self.key()))
        });
        drop(left);
    }
}

impl Connector {
    /// Its key in the port's table.
    pub fn key(&self) -> Key {
        Key::from_bits(self.key.load(Ordering::Acquire))
    }

    /// A connector for a request that came in over `listener`. Called under the port's lock.
    pub(super) fn for_listener(listener: &Object<Listener>) -> Option<Unborn> {
        let body = Connector {
            key: AtomicU64::new(Key::NONE.to_bits()),
            adapter: listener.adapter().clone(),
            listener: Some(listener.reference()),
        };
        listener.try_new_child(body).ok().map(Unborn)
    }
}

/// A connector that is in no table yet and that nobody else knows.
pub(super) struct Unborn(&'static Object<Connector>);

impl Unborn {
    /// Its entry for the port's table.
    pub(super) fn listed(&self) -> Listed<Connector> {
        // SAFETY: the drop of the body takes the entry out.
        unsafe { Listed::new(self.0) }
    }

    /// It is in the table now.
    pub(super) fn admit(self, key: Key) -> &'static Object<Connector> {
        self.0.key.store(key.to_bits(), Ordering::Release);
        self.0
    }

    /// It is not needed after all. Called under the port's lock.
    pub(super) fn discard(self) {
        // SAFETY: nobody else knows it.
        unsafe { object::discard_later(self.0) };
    }
}

impl Object<Connector> {
    /// Raises the connect event for a connector that came in: from here on it is the consumer's.
    ///
    /// Decision X-37: ownership passes at callback entry; the consumer closes it whatever it does with it. If the
    /// listener is being closed no event is started any more: the peer is refused and the connector goes away.
    fn offer(&self) {
        let Some(listener) = &self.listener else {
            return;
        };
        if listener.is_closing() {
            // SAFETY: never handed out, so the handle is still the provider's.
            unsafe { object::abandon(self) };
            return;
        }
        listener.connect_event(self.as_raw());
    }
}

/// NdkCreateConnector. Never pends. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// The consumer passes an open adapter and a place for the result.
pub unsafe extern "efiapi" fn create_connector(
    adapter: *mut NDK_ADAPTER,
    _completion: NDK_FN_CREATE_COMPLETION,
    _context: *mut c_void,
    out: *mut *mut NDK_CONNECTOR,
) -> NTSTATUS {
    // SAFETY: by the contract of this function.
    let adapter = unsafe { Object::<Adapter>::from_raw(adapter) };
    if let Err(status) = adapter.port().ready() {
        return adapter.port().answer("NdkCreateConnector", status);
    }
    let body = Connector {
        key: AtomicU64::new(Key::NONE.to_bits()),
        adapter: adapter.reference(),
        listener: None,
    };
    let Ok(connector) = adapter.try_new_child(body) else {
        return adapter
            .port()
            .answer("NdkCreateConnector", STATUS_INSUFFICIENT_RESOURCES);
    };
    // SAFETY: the drop of the body takes the entry out.
    let listed = unsafe { Listed::new(connector) };
    match adapter
        .port()
        .peek(|state| state.connections.insert(Connection::new(listed)).ok())
    {
        Some(key) => {
            connector.key.store(key.to_bits(), Ordering::Release);
            // SAFETY: by the contract of this function.
            unsafe { out.write(connector.as_raw()) };
            STATUS_SUCCESS
        }
        None => {
            // SAFETY: nobody knows it.
            unsafe { object::discard(connector) };
            adapter
                .port()
                .answer("NdkCreateConnector", STATUS_INSUFFICIENT_RESOURCES)
        }
    }
}

/// A copy of a consumer's private data, made before any lock is taken.
///
/// Decision X-36: more than `most` bytes, what the message carries, is STATUS_INVALID_BUFFER_SIZE.
///
/// # Safety
/// `data` is null or points at `length` readable bytes that stay as they are for the call.
unsafe fn private_data(
    data: *const c_void,
    length: u32,
    most: usize,
) -> Result<PrivateData, NTSTATUS> {
    let mut copy = PrivateData::new();
    if data.is_null() || length == 0 {
        return Ok(copy);
    }
    let length = length as usize;
    if length > most {
        return Err(STATUS_INVALID_BUFFER_SIZE);
    }
    // SAFETY: by the caller's promise.
    let data = unsafe { core::slice::from_raw_parts(data.cast::<u8>(), length) };
    copy.try_extend_from_slice(data)
        .map_err(|_| STATUS_INVALID_BUFFER_SIZE)?;
    Ok(copy)
}

/// NdkConnect. Pends until the peer has answered. IRQL <= DISPATCH_LEVEL.
///
/// Decision X-61: a local address that cannot be read, or is the unspecified one, is STATUS_INVALID_ADDRESS like one
/// that is not the adapter's; a destination that cannot be read, is no single host's, has port 0 or another family is
/// STATUS_INVALID_PARAMETER. Private data is copied before this returns.
unsafe extern "efiapi" fn connect(
    connector: *mut NDK_CONNECTOR,
    qp: *mut NDK_QP,
    source: *const SOCKADDR,
    source_length: u32,
    destination: *const SOCKADDR,
    destination_length: u32,
    inbound: u32,
    outbound: u32,
    data: *const c_void,
    data_length: u32,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: the consumer passes an open connector and an open QP.
    let (connector, qp) = unsafe {
        (
            Object::<Connector>::from_raw(connector),
            Object::<Qp>::from_raw(qp),
        )
    };
    // SAFETY: the consumer passes addresses and data with their lengths.
    let (local, peer, data) = unsafe {
        (
            address::read(source.cast(), source_length),
            address::read(destination.cast(), destination_length),
            private_data(data, data_length, MAX_CALLER_DATA),
        )
    };
    let local = match local {
        Some(local) if address::is_host(local.ip()) => local,
        _ => {
            return connector
                .port()
                .answer("NdkConnect", STATUS_INVALID_ADDRESS);
        }
    };
    let peer = match peer {
        Some(peer)
            if address::is_host(peer.ip())
                && peer.port() != 0
                && peer.is_ipv4() == local.is_ipv4() =>
        {
            peer
        }
        _ => {
            return connector
                .port()
                .answer("NdkConnect", STATUS_INVALID_PARAMETER);
        }
    };
    let data = match data {
        Ok(data) => data,
        Err(status) => return connector.port().answer("NdkConnect", status),
    };
    let want = Connect {
        qp,
        source: Source::Address(local),
        peer,
        limits: ReadLimits { inbound, outbound },
        data,
    };
    let request = Request::new(connector, completion, context);
    connector.start("NdkConnect", |state, key| {
        state.connect(key, &want, request)
    })
}

/// NdkConnectWithSharedEndpoint. As NdkConnect, from the address and port of a shared endpoint. IRQL <= DISPATCH_LEVEL.
unsafe extern "efiapi" fn connect_with_shared_endpoint(
    connector: *mut NDK_CONNECTOR,
    qp: *mut NDK_QP,
    shared: *mut NDK_SHARED_ENDPOINT,
    destination: *const SOCKADDR,
    destination_length: u32,
    inbound: u32,
    outbound: u32,
    data: *const c_void,
    data_length: u32,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: the consumer passes an open connector, an open QP and an open shared endpoint.
    let (connector, qp, shared) = unsafe {
        (
            Object::<Connector>::from_raw(connector),
            Object::<Qp>::from_raw(qp),
            Object::<SharedEndpoint>::from_raw(shared),
        )
    };
    // SAFETY: the consumer passes address and data with their lengths.
    let (peer, data) = unsafe {
        (
            address::read(destination.cast(), destination_length),
            private_data(data, data_length, MAX_CALLER_DATA),
        )
    };
    let local = connector.port().peek(|state| {
        state
            .shared
            .get(shared.key())
            .and_then(SharedEntry::endpoint)
    });
    let peer = match (peer, local) {
        (Some(peer), Some(local))
            if address::is_host(peer.ip())
                && peer.port() != 0
                && peer.is_ipv4() == local.is_ipv4() =>
        {
            peer
        }
        _ => {
            return connector
                .port()
                .answer("NdkConnectWithSharedEndpoint", STATUS_INVALID_PARAMETER);
        }
    };
    let data = match data {
        Ok(data) => data,
        Err(status) => {
            return connector
                .port()
                .answer("NdkConnectWithSharedEndpoint", status);
        }
    };
    let want = Connect {
        qp,
        source: Source::Shared(shared),
        peer,
        limits: ReadLimits { inbound, outbound },
        data,
    };
    let request = Request::new(connector, completion, context);
    connector.start("NdkConnectWithSharedEndpoint", |state, key| {
        state.connect(key, &want, request)
    })
}

impl Object<Connector> {
    /// Begins a request that needs the way to the peer, and has it looked up.
    ///
    /// Once it has begun it may end elsewhere at any time, and the consumer may close the connector when it does: all that is used then is
    /// the port.
    fn start(
        &self,
        call: &'static str,
        begin: impl FnOnce(&mut super::state::State, Key) -> Result<(), NTSTATUS>,
    ) -> NTSTATUS {
        let port = self.port();
        match port
            .ready()
            .and_then(|()| port.with(|state| begin(state, self.key())))
        {
            Ok(()) => {
                port.resolve_soon();
                STATUS_PENDING
            }
            Err(status) => port.answer(call, status),
        }
    }

    /// As [`Object::begin`], unless the adapter is lost or without power.
    fn begin_if_ready(
        &self,
        call: &'static str,
        begin: impl FnOnce(&mut super::state::State, Key) -> Result<(), NTSTATUS>,
    ) -> NTSTATUS {
        match self.port().ready() {
            Ok(()) => self.begin(call, begin),
            Err(status) => self.port().answer(call, status),
        }
    }

    /// Begins a request that the engine finishes.
    fn begin(
        &self,
        call: &'static str,
        begin: impl FnOnce(&mut super::state::State, Key) -> Result<(), NTSTATUS>,
    ) -> NTSTATUS {
        let port = self.port();
        match port.with(|state| begin(state, self.key())) {
            Ok(()) => STATUS_PENDING,
            Err(status) => port.answer(call, status),
        }
    }
}

/// NdkCompleteConnect. IRQL <= DISPATCH_LEVEL.
unsafe extern "efiapi" fn complete_connect(
    connector: *mut NDK_CONNECTOR,
    event: Option<NDK_FN_DISCONNECT_EVENT_CALLBACK>,
    event_context: *mut c_void,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: the consumer passes an open connector.
    let connector = unsafe { Object::<Connector>::from_raw(connector) };
    let sink = event.map(|event| DisconnectSink::Plain(event, Context(event_context)));
    let request = Request::new(connector, completion, context);
    connector.begin("NdkCompleteConnect", |state, key| {
        state.complete_connect(key, sink, request)
    })
}

/// NdkCompleteConnectEx. IRQL <= DISPATCH_LEVEL.
unsafe extern "efiapi" fn complete_connect_ex(
    connector: *mut NDK_CONNECTOR,
    event: Option<NDK_FN_DISCONNECT_EVENT_CALLBACK_EX>,
    event_context: *mut c_void,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: the consumer passes an open connector.
    let connector = unsafe { Object::<Connector>::from_raw(connector) };
    let sink = event.map(|event| DisconnectSink::WithReason(event, Context(event_context)));
    let request = Request::new(connector, completion, context);
    connector.begin("NdkCompleteConnectEx", |state, key| {
        state.complete_connect(key, sink, request)
    })
}

/// NdkAccept. Pends until the peer has completed the connection. IRQL <= DISPATCH_LEVEL.
///
/// Decision X-09: the disconnect event gets the context that is given here, or to NdkCompleteConnect on the other side.
unsafe extern "efiapi" fn accept(
    connector: *mut NDK_CONNECTOR,
    qp: *mut NDK_QP,
    inbound: u32,
    outbound: u32,
    data: *const c_void,
    data_length: u32,
    event: Option<NDK_FN_DISCONNECT_EVENT_CALLBACK>,
    event_context: *mut c_void,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: the consumer passes an open connector, an open QP and data with its length.
    let (connector, qp, data) = unsafe {
        (
            Object::<Connector>::from_raw(connector),
            Object::<Qp>::from_raw(qp),
            private_data(data, data_length, MAX_CALLEE_DATA),
        )
    };
    let data = match data {
        Ok(data) => data,
        Err(status) => return connector.port().answer("NdkAccept", status),
    };
    let sink = event.map(|event| DisconnectSink::Plain(event, Context(event_context)));
    let want = Accept {
        qp,
        limits: ReadLimits { inbound, outbound },
        mtu: connector.port().mtu(),
        data,
        sink,
    };
    let request = Request::new(connector, completion, context);
    connector.begin_if_ready("NdkAccept", |state, key| state.accept(key, &want, request))
}

/// NdkAcceptEx. Pends until the peer has completed the connection. IRQL <= DISPATCH_LEVEL.
unsafe extern "efiapi" fn accept_ex(
    connector: *mut NDK_CONNECTOR,
    qp: *mut NDK_QP,
    inbound: u32,
    outbound: u32,
    data: *const c_void,
    data_length: u32,
    event: Option<NDK_FN_DISCONNECT_EVENT_CALLBACK_EX>,
    event_context: *mut c_void,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: the consumer passes an open connector, an open QP and data with its length.
    let (connector, qp, data) = unsafe {
        (
            Object::<Connector>::from_raw(connector),
            Object::<Qp>::from_raw(qp),
            private_data(data, data_length, MAX_CALLEE_DATA),
        )
    };
    let data = match data {
        Ok(data) => data,
        Err(status) => return connector.port().answer("NdkAcceptEx", status),
    };
    let sink = event.map(|event| DisconnectSink::WithReason(event, Context(event_context)));
    let want = Accept {
        qp,
        limits: ReadLimits { inbound, outbound },
        mtu: connector.port().mtu(),
        data,
        sink,
    };
    let request = Request::new(connector, completion, context);
    connector.begin_if_ready("NdkAcceptEx", |state, key| {
        state.accept(key, &want, request)
    })
}

/// NdkReject. Synchronous. IRQL <= DISPATCH_LEVEL.
unsafe extern "efiapi" fn reject(
    connector: *mut NDK_CONNECTOR,
    data: *const c_void,
    data_length: u32,
) -> NTSTATUS {
    // SAFETY: the consumer passes an open connector, and data with its length.
    let (connector, data) = unsafe {
        (
            Object::<Connector>::from_raw(connector),
            private_data(data, data_length, MAX_CALLEE_DATA),
        )
    };
    let data = match data {
        Ok(data) => data,
        Err(status) => return connector.port().answer("NdkReject", status),
    };
    match connector
        .port()
        .with(|state| state.reject(connector.key(), &data))
    {
        Ok(()) => STATUS_SUCCESS,
        Err(status) => connector.port().answer("NdkReject", status),
    }
}

/// NdkGetConnectionData. Synchronous. IRQL <= DISPATCH_LEVEL.
///
/// Decision X-08: for the connector of a connect event until it is accepted, and after a connect that was accepted or rejected;
/// asking for the size alone is a success.
///
/// The required size is what the CM message can carry: 56 bytes for a request, 196 for an acceptance, 148 for a rejection, zeros
/// behind what the peer sent. Decisions: the read limits are written in every case in which there are any; it can
/// be called after a connect that was refused too, because a rejection carries data; a null buffer with a length is
/// STATUS_INVALID_PARAMETER and writes nothing.
unsafe extern "efiapi" fn get_connection_data(
    connector: *mut NDK_CONNECTOR,
    inbound: *mut u32,
    outbound: *mut u32,
    data: *mut c_void,
    data_length: *mut u32,
) -> NTSTATUS {
    // SAFETY: the consumer passes an open connector.
    let connector = unsafe { Object::<Connector>::from_raw(connector) };
    // SAFETY: the consumer's in/out parameter.
    let room = unsafe { *data_length } as usize;
    if data.is_null() && room > 0 {
        return STATUS_INVALID_PARAMETER;
    }
    // Copied out of the lock's reach before it goes into memory of the consumer's.
    let info = connector.port().peek(|state| {
        let conn = state.connections.get(connector.key())?.conn()?;
        state.engine.connection(conn).cloned()
    });
    let Some(info) = info else {
        return STATUS_CONNECTION_INVALID;
    };
    // SAFETY: each is null or the consumer's out parameter.
    unsafe {
        if !inbound.is_null() {
            *inbound = u32::from(info.responder_resources);
        }
        if !outbound.is_null() {
            *outbound = u32::from(info.initiator_depth);
        }
        *data_length = info.private_data.len() as u32;
    }
    if data.is_null() {
        return STATUS_SUCCESS;
    }
    let length = room.min(info.private_data.len());
    // SAFETY: the consumer's buffer has `room` bytes, the data at least `length`.
    unsafe {
        core::ptr::copy_nonoverlapping(info.private_data.as_ptr(), data.cast::<u8>(), length)
    };
    if length < info.private_data.len() {
        STATUS_BUFFER_TOO_SMALL
    } else {
        STATUS_SUCCESS
    }
}

/// # Safety
/// The consumer passes an open connector, and a buffer with its length.
unsafe fn give_address(
    connector: *mut NDK_CONNECTOR,
    address: *mut SOCKADDR,
    length: *mut u32,
    which: fn(&Connection) -> Option<SocketAddr>,
) -> NTSTATUS {
    // SAFETY: by the caller's promise.
    let connector = unsafe { Object::<Connector>::from_raw(connector) };
    match connector
        .port()
        .peek(|state| state.connections.get(connector.key()).and_then(which))
    {
        // SAFETY: by the caller's promise.
        Some(endpoint) => unsafe { address::write(endpoint, address.cast(), length) },
        None => STATUS_CONNECTION_INVALID,
    }
}

/// NdkGetLocalAddress. A connector that never tried to connect has none: STATUS_CONNECTION_INVALID. IRQL <= DISPATCH_LEVEL.
unsafe extern "efiapi" fn get_local_address(
    connector: *mut NDK_CONNECTOR,
    address: *mut SOCKADDR,
    length: *mut u32,
) -> NTSTATUS {
    // SAFETY: the consumer passes an open connector, and a buffer with its length.
    unsafe { give_address(connector, address, length, Connection::local) }
}

/// NdkGetPeerAddress. A connector that never tried to connect has none: STATUS_CONNECTION_INVALID. IRQL <= DISPATCH_LEVEL.
unsafe extern "efiapi" fn get_peer_address(
    connector: *mut NDK_CONNECTOR,
    address: *mut SOCKADDR,
    length: *mut u32,
) -> NTSTATUS {
    // SAFETY: the consumer passes an open connector, and a buffer with its length.
    unsafe { give_address(connector, address, length, Connection::peer) }
}

/// NdkDisconnect. Pends until the peer has answered and nothing of the QP is in the NIC. IRQL <= DISPATCH_LEVEL.
unsafe extern "efiapi" fn disconnect(
    connector: *mut NDK_CONNECTOR,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: the consumer passes an open connector.
    let connector = unsafe { Object::<Connector>::from_raw(connector) };
    let request = Request::new(connector, completion, context);
    connector.begin("NdkDisconnect", |state, key| state.disconnect(key, request))
}
