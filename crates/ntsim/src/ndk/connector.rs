//! Hooked connectors.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use ndkpi::status::*;
use ndkpi::*;

use super::call::{Then, request, request_end};
use super::callback::Callback;
use super::hook::{Hook, enter};
use super::late;
use super::object::{Kind, Object, Part, State};
use super::private_data::{self, Over};
use super::rules;
use super::tables::{common, slots};
use super::trail;
use crate::verifier::{Function, violation};
use crate::world::driver::{DriverNumber, UNNAMED};
use crate::world::processor::{DISPATCH, PASSIVE};

/// What the consumer wants to be called when the connection ends.
#[derive(Clone, Copy)]
enum DisconnectEvent {
    Plain(NDK_FN_DISCONNECT_EVENT_CALLBACK),
    Ex(NDK_FN_DISCONNECT_EVENT_CALLBACK_EX),
}

/// How far a connection got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connection {
    None,
    /// NdkAccept or NdkCompleteConnect pends.
    Establishing,
    Established,
    /// NdkAccept or NdkCompleteConnect failed.
    Failed,
}

/// What only a connector has.
pub(super) struct ConnectorPart {
    event: Cell<Option<DisconnectEvent>>,
    context: Cell<*mut c_void>,
    consumer: Cell<DriverNumber>,
    connection: Cell<Connection>,
    /// Disconnect events so far.
    events: Cell<u32>,
    /// Where it was connected to, if NdkConnect succeeded.
    peer: Cell<Option<SocketAddr>>,
    /// Of the private data that was given with it.
    given: RefCell<Option<Over>>,
    /// NdkReject was called.
    rejected: Cell<bool>,
    /// The consumer has heard of the request or of the answer, and is to go on with the connection or to refuse it.
    unanswered: Cell<bool>,
}

impl ConnectorPart {
    /// Of a connector that the consumer creates.
    pub(super) fn new() -> ConnectorPart {
        ConnectorPart {
            event: Cell::new(None),
            context: Cell::new(std::ptr::null_mut()),
            consumer: Cell::new(UNNAMED),
            connection: Cell::new(Connection::None),
            events: Cell::new(0),
            peer: Cell::new(None),
            given: RefCell::default(),
            rejected: Cell::new(false),
            unanswered: Cell::new(false),
        }
    }

    /// Its consumer goes, or there is no connection: what it gave counts no more, unless there has been one.
    pub(super) fn leave(&self) {
        if self.connection.get() != Connection::Established
            && let Some(given) = self.given.take()
        {
            given.set(true);
        }
    }

    /// Of a connector that a listener makes.
    pub(super) fn incoming() -> ConnectorPart {
        let part = ConnectorPart::new();
        part.unanswered.set(true);
        part
    }
}

/// Whether one of these objects is a connector of which a consumer has heard, and with which it has neither gone on nor ended it. A peer's
/// NdkConnect or NdkAccept may wait for that for as long as the consumer likes.
pub(super) fn is_any_unanswered(objects: &[Rc<Object>]) -> bool {
    let is_unanswered = |object: &Rc<Object>| match &object.part {
        Part::Connector(part) => object.state.get() == State::Open && part.unanswered.get(),
        _ => false,
    };
    objects.iter().any(is_unanswered)
}

/// Whether a function of a connector is not done before the consumer of the other end has answered.
pub(super) fn waits_for_consumer(function: &'static Function) -> bool {
    [
        &NdkConnect,
        &NdkConnectWithSharedEndpoint,
        &NdkAccept,
        &NdkAcceptEx,
    ]
    .into_iter()
    .any(|one| std::ptr::eq(one, function))
}

slots![
    NdkCloseConnector,
    NdkQueryExtension,
    NdkConnect,
    NdkConnectWithSharedEndpoint,
    NdkCompleteConnect,
    NdkAccept,
    NdkReject,
    NdkGetConnectionData,
    NdkGetLocalAddress,
    NdkGetPeerAddress,
    NdkDisconnect,
    NdkCompleteConnectEx since NDK_VERSION_2_1,
    NdkAcceptEx since NDK_VERSION_2_1,
];

pub(super) static HOOKS: NDK_CONNECTOR_DISPATCH = NDK_CONNECTOR_DISPATCH {
    NdkCloseConnector: close,
    NdkQueryExtension: query_extension,
    NdkConnect: connect,
    NdkConnectWithSharedEndpoint: connect_with_shared_endpoint,
    NdkCompleteConnect: complete_connect,
    NdkAccept: accept,
    NdkReject: reject,
    NdkGetConnectionData: connection_data,
    NdkGetLocalAddress: local_address,
    NdkGetPeerAddress: peer_address,
    NdkDisconnect: disconnect,
    NdkCompleteConnectEx: complete_connect_ex,
    NdkAcceptEx: accept_ex,
};

common!(Connector, NdkCloseConnector);

fn part(object: &Object) -> &ConnectorPart {
    match &object.part {
        Part::Connector(part) => part,
        _ => unreachable!("only connectors have these functions"),
    }
}

/// The connector depends on these objects from now on, unless the request fails.
fn use_objects(hook: &Hook, objects: Vec<Rc<Object>>) -> Then {
    for object in &objects {
        hook.object.depend_on(object);
        if let Part::Qp(qp) = &object.part {
            qp.connect();
        }
    }
    let connector = Rc::clone(&hook.object);
    Box::new(move |status| {
        if status != STATUS_SUCCESS && status != STATUS_PENDING {
            for object in &objects {
                connector.part_from(object);
            }
        }
    })
}

/// A request for a connection begins. `to` is None where that is no address.
fn ask(hook: &Hook, to: Option<(SocketAddr, Over)>, data_length: u32, and: Then) -> Then {
    let (to, over) = to.unzip();
    part(&hook.object).peer.set(None);
    // Of an earlier try nothing is known any more.
    part(&hook.object).leave();
    *part(&hook.object).given.borrow_mut() = over;
    let (object, name) = (Rc::clone(&hook.object), hook.function.name);
    Box::new(move |status| {
        match status {
            STATUS_SUCCESS => {
                part(&object).peer.set(to);
                part(&object).unanswered.set(true);
            }
            STATUS_PENDING => {}
            _ => part(&object).leave(),
        }
        let most = object.provider.private_data.get().map(|l| l.caller);
        private_data::taken(&object, name, data_length, most, status);
        and(status);
    })
}

/// A connection is accepted or rejected with so many bytes of private data.
fn answered(object: &Object, name: &str, data_length: u32, status: NTSTATUS) {
    let most = object.provider.private_data.get().map(|l| l.callee);
    private_data::taken(object, name, data_length, most, status);
}

/// As [`use_objects`] for a queue pair with which a connection is accepted.
fn accept_with(hook: &Hook, pair: Rc<Object>, over: Option<Over>, data_length: u32) -> Then {
    *part(&hook.object).given.borrow_mut() = over;
    let used = use_objects(hook, vec![pair]);
    let (object, name) = (Rc::clone(&hook.object), hook.function.name);
    Box::new(move |status| {
        answered(&object, name, data_length, status);
        if status != STATUS_SUCCESS && status != STATUS_PENDING {
            part(&object).leave();
        }
        used(status);
    })
}

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
    let Some(hook) = enter(connector.cast(), Kind::Connector, &NdkConnect) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    let Some(pair) = hook.argument(qp, Kind::Qp) else {
        return STATUS_INVALID_PARAMETER;
    };
    if hook.null(source, "the source address")
        || hook.null(destination, "the destination address")
        || data_length > 0 && hook.null(data, "the private data")
    {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: as the consumer passes them.
    let to = unsafe {
        private_data::requested(
            (source, source_length),
            (destination, destination_length),
            (data, data_length),
        )
    };
    let then = ask(&hook, to, data_length, use_objects(&hook, vec![pair]));
    let table = hook.object.table::<NDK_CONNECTOR_DISPATCH>();
    request(&hook, completion, context, Some(then), |done, cookie| {
        // SAFETY: the provider's table; called as the consumer called.
        unsafe {
            ((*table).NdkConnect)(
                connector,
                qp,
                source,
                source_length,
                destination,
                destination_length,
                inbound,
                outbound,
                data,
                data_length,
                done,
                cookie,
            )
        }
    })
}

unsafe extern "efiapi" fn connect_with_shared_endpoint(
    connector: *mut NDK_CONNECTOR,
    qp: *mut NDK_QP,
    endpoint: *mut NDK_SHARED_ENDPOINT,
    destination: *const SOCKADDR,
    destination_length: u32,
    inbound: u32,
    outbound: u32,
    data: *const c_void,
    data_length: u32,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    let Some(hook) = enter(
        connector.cast(),
        Kind::Connector,
        &NdkConnectWithSharedEndpoint,
    ) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    let (Some(pair), Some(from)) = (
        hook.argument(qp, Kind::Qp),
        hook.argument(endpoint, Kind::SharedEndpoint),
    ) else {
        return STATUS_INVALID_PARAMETER;
    };
    if hook.null(destination, "the destination address")
        || data_length > 0 && hook.null(data, "the private data")
    {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: as the consumer passes them.
    let to = unsafe {
        private_data::requested(
            (std::ptr::null(), 0),
            (destination, destination_length),
            (data, data_length),
        )
    };
    let used = use_objects(&hook, vec![pair, from]);
    let then = ask(&hook, to, data_length, used);
    let table = hook.object.table::<NDK_CONNECTOR_DISPATCH>();
    request(&hook, completion, context, Some(then), |done, cookie| {
        // SAFETY: the provider's table; called as the consumer called.
        unsafe {
            ((*table).NdkConnectWithSharedEndpoint)(
                connector,
                qp,
                endpoint,
                destination,
                destination_length,
                inbound,
                outbound,
                data,
                data_length,
                done,
                cookie,
            )
        }
    })
}

/// A request begins that establishes the connection if it succeeds.
fn establish(
    hook: &Hook,
    event: Option<DisconnectEvent>,
    context: *mut c_void,
    and: Option<Then>,
) -> Then {
    let now = part(&hook.object);
    let was_unanswered = now.unanswered.replace(false);
    let was = now.connection.get();
    if was != Connection::Established && was != Connection::Establishing {
        now.connection.set(Connection::Establishing);
        now.event.set(event);
        now.context.set(context);
        now.consumer.set(hook.consumer);
    }
    let object = Rc::clone(&hook.object);
    Box::new(move |status| {
        let part = part(&object);
        if status != STATUS_SUCCESS {
            // The consumer may try again, reject or close.
            part.unanswered.set(was_unanswered);
        }
        if was != Connection::Established && was != Connection::Establishing {
            part.connection.set(if status == STATUS_SUCCESS {
                trail::connected(&object);
                Connection::Established
            } else {
                Connection::Failed
            });
        }
        if let Some(and) = and {
            and(status);
        }
    })
}

/// The consumer goes on with a connect that has succeeded.
fn check_connected(hook: &Hook) {
    late::check_heard(hook, &["NdkConnect", "NdkConnectWithSharedEndpoint"]);
}

unsafe extern "efiapi" fn complete_connect(
    connector: *mut NDK_CONNECTOR,
    event: Option<NDK_FN_DISCONNECT_EVENT_CALLBACK>,
    event_context: *mut c_void,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    let Some(hook) = enter(connector.cast(), Kind::Connector, &NdkCompleteConnect) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    check_connected(&hook);
    let then = establish(
        &hook,
        event.map(DisconnectEvent::Plain),
        event_context,
        None,
    );
    let event = event.map(|_| disconnect_event as NDK_FN_DISCONNECT_EVENT_CALLBACK);
    let event_context = hook.object.handle.context();
    let table = hook.object.table::<NDK_CONNECTOR_DISPATCH>();
    request(&hook, completion, context, Some(then), |done, cookie| {
        // SAFETY: the provider's table; called as the consumer called.
        unsafe { ((*table).NdkCompleteConnect)(connector, event, event_context, done, cookie) }
    })
}

unsafe extern "efiapi" fn complete_connect_ex(
    connector: *mut NDK_CONNECTOR,
    event: Option<NDK_FN_DISCONNECT_EVENT_CALLBACK_EX>,
    event_context: *mut c_void,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    let Some(hook) = enter(connector.cast(), Kind::Connector, &NdkCompleteConnectEx) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    if !hook.since(NDK_VERSION_2_1) {
        return STATUS_NOT_SUPPORTED;
    }
    check_connected(&hook);
    let then = establish(&hook, event.map(DisconnectEvent::Ex), event_context, None);
    let event = event.map(|_| disconnect_event_ex as NDK_FN_DISCONNECT_EVENT_CALLBACK_EX);
    let event_context = hook.object.handle.context();
    let table = hook.object.table::<NDK_CONNECTOR_DISPATCH>();
    request(&hook, completion, context, Some(then), |done, cookie| {
        // SAFETY: the provider's table; called as the consumer called.
        unsafe { ((*table).NdkCompleteConnectEx)(connector, event, event_context, done, cookie) }
    })
}

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
    let Some(hook) = enter(connector.cast(), Kind::Connector, &NdkAccept) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    let Some(pair) = hook.argument(qp, Kind::Qp) else {
        return STATUS_INVALID_PARAMETER;
    };
    if data_length > 0 && hook.null(data, "the private data") {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: the private data is as the consumer passes it.
    let over = unsafe { private_data::answered(&hook, data, data_length) };
    let used = accept_with(&hook, pair, over, data_length);
    let then = establish(
        &hook,
        event.map(DisconnectEvent::Plain),
        event_context,
        Some(used),
    );
    let event = event.map(|_| disconnect_event as NDK_FN_DISCONNECT_EVENT_CALLBACK);
    let event_context = hook.object.handle.context();
    let table = hook.object.table::<NDK_CONNECTOR_DISPATCH>();
    request(&hook, completion, context, Some(then), |done, cookie| {
        // SAFETY: the provider's table; called as the consumer called.
        unsafe {
            ((*table).NdkAccept)(
                connector,
                qp,
                inbound,
                outbound,
                data,
                data_length,
                event,
                event_context,
                done,
                cookie,
            )
        }
    })
}

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
    let Some(hook) = enter(connector.cast(), Kind::Connector, &NdkAcceptEx) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    if !hook.since(NDK_VERSION_2_1) {
        return STATUS_NOT_SUPPORTED;
    }
    let Some(pair) = hook.argument(qp, Kind::Qp) else {
        return STATUS_INVALID_PARAMETER;
    };
    if data_length > 0 && hook.null(data, "the private data") {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: the private data is as the consumer passes it.
    let over = unsafe { private_data::answered(&hook, data, data_length) };
    let used = accept_with(&hook, pair, over, data_length);
    let then = establish(
        &hook,
        event.map(DisconnectEvent::Ex),
        event_context,
        Some(used),
    );
    let event = event.map(|_| disconnect_event_ex as NDK_FN_DISCONNECT_EVENT_CALLBACK_EX);
    let event_context = hook.object.handle.context();
    let table = hook.object.table::<NDK_CONNECTOR_DISPATCH>();
    request(&hook, completion, context, Some(then), |done, cookie| {
        // SAFETY: the provider's table; called as the consumer called.
        unsafe {
            ((*table).NdkAcceptEx)(
                connector,
                qp,
                inbound,
                outbound,
                data,
                data_length,
                event,
                event_context,
                done,
                cookie,
            )
        }
    })
}

unsafe extern "efiapi" fn reject(
    connector: *mut NDK_CONNECTOR,
    data: *const c_void,
    data_length: u32,
) -> NTSTATUS {
    let Some(hook) = enter(connector.cast(), Kind::Connector, &NdkReject) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    if data_length > 0 && hook.null(data, "the private data") {
        return STATUS_INVALID_PARAMETER;
    }
    let table = hook.object.table::<NDK_CONNECTOR_DISPATCH>();
    // SAFETY: the private data is as the consumer passes it.
    unsafe { private_data::answered(&hook, data, data_length) };
    part(&hook.object).rejected.set(true);
    part(&hook.object).leave();
    // SAFETY: the provider's table; called as the consumer called.
    let status = hook.call_sync(|| unsafe { ((*table).NdkReject)(connector, data, data_length) });
    if status == STATUS_SUCCESS {
        part(&hook.object).unanswered.set(false);
    }
    answered(&hook.object, hook.function.name, data_length, status);
    status
}

unsafe extern "efiapi" fn connection_data(
    connector: *mut NDK_CONNECTOR,
    inbound: *mut u32,
    outbound: *mut u32,
    data: *mut c_void,
    length: *mut u32,
) -> NTSTATUS {
    let Some(hook) = enter(connector.cast(), Kind::Connector, &NdkGetConnectionData) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    if hook.null(length, "pPrivateDataLength") {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: not null, so the consumer's.
    let before = unsafe { *length };
    // Wrong, but something that the provider can tell; it must not write to where null points.
    let _ = before > 0 && hook.null(data, "pPrivateData");
    check_connected(&hook);
    let table = hook.object.table::<NDK_CONNECTOR_DISPATCH>();
    // SAFETY: the provider's table; called as the consumer called.
    let status = hook.call_sync(|| unsafe {
        ((*table).NdkGetConnectionData)(connector, inbound, outbound, data, length)
    });
    // SAFETY: as above.
    let after = unsafe { *length };
    // No buffer, no room: that asks for the size, and succeeds.
    if !data.is_null() {
        hook.check_length(status, before, after);
        let (shown, whole) = match status {
            STATUS_SUCCESS => (after.min(before), true),
            STATUS_BUFFER_TOO_SMALL => (before, false),
            _ => return status,
        };
        // SAFETY: the consumer's buffer has `before` bytes.
        let shown = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), shown as usize) };
        let part = part(&hook.object);
        if part.connection.get() == Connection::None && !part.rejected.get() {
            private_data::judge(&hook, part.peer.get(), shown, whole);
        }
    }
    status
}

unsafe extern "efiapi" fn local_address(
    connector: *mut NDK_CONNECTOR,
    address: *mut SOCKADDR,
    length: *mut u32,
) -> NTSTATUS {
    let Some(hook) = enter(connector.cast(), Kind::Connector, &NdkGetLocalAddress) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    let table = hook.object.table::<NDK_CONNECTOR_DISPATCH>();
    // SAFETY: the consumer's length; the provider's table.
    unsafe {
        hook.with_length(length, |length| {
            ((*table).NdkGetLocalAddress)(connector, address, length)
        })
    }
}

unsafe extern "efiapi" fn peer_address(
    connector: *mut NDK_CONNECTOR,
    address: *mut SOCKADDR,
    length: *mut u32,
) -> NTSTATUS {
    let Some(hook) = enter(connector.cast(), Kind::Connector, &NdkGetPeerAddress) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    let table = hook.object.table::<NDK_CONNECTOR_DISPATCH>();
    // SAFETY: the consumer's length; the provider's table.
    unsafe {
        hook.with_length(length, |length| {
            ((*table).NdkGetPeerAddress)(connector, address, length)
        })
    }
}

unsafe extern "efiapi" fn disconnect(
    connector: *mut NDK_CONNECTOR,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    let Some(hook) = enter(connector.cast(), Kind::Connector, &NdkDisconnect) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    part(&hook.object).unanswered.set(false);
    // Whatever its status: nothing accesses memory for the queue pair any more.
    let object = Rc::clone(&hook.object);
    let then: Then = Box::new(move |_| object.end_requests());
    let table = hook.object.table::<NDK_CONNECTOR_DISPATCH>();
    request_end(&hook, completion, context, then, |done, cookie| {
        // SAFETY: the provider's table; called as the consumer called.
        unsafe { ((*table).NdkDisconnect)(connector, done, cookie) }
    })
}

pub(super) static DISCONNECT_EVENT: Function =
    Function::export("", "NdkDisconnectEventCallback", PASSIVE..=DISPATCH);
pub(super) static DISCONNECT_EVENT_EX: Function =
    Function::export("", "NdkDisconnectEventCallbackEx", PASSIVE..=DISPATCH);

unsafe extern "efiapi" fn disconnect_event(context: *mut c_void) {
    event(Callback::enter(&DISCONNECT_EVENT), context, |part| {
        if let Some(DisconnectEvent::Plain(event)) = part.event.get() {
            // SAFETY: the consumer's callback and its context.
            unsafe { event(part.context.get()) };
        }
    });
}

unsafe extern "efiapi" fn disconnect_event_ex(context: *mut c_void, reason: u32) {
    event(Callback::enter(&DISCONNECT_EVENT_EX), context, |part| {
        if let Some(DisconnectEvent::Ex(event)) = part.event.get() {
            // SAFETY: the consumer's callback and its context.
            unsafe { event(part.context.get(), reason) };
        }
    });
}

fn event(callback: Callback, context: *mut c_void, tell: impl FnOnce(&ConnectorPart)) {
    let Some(object) = callback.object(context, Kind::Connector) else {
        return;
    };
    // First that there is a connection.
    late::tell_now(&object);
    let part = part(&object);
    part.events.set(part.events.get() + 1);
    let (rule, text) = if part.events.get() > 1 {
        (rules::DISCONNECT_TWICE, "there was one before")
    } else if matches!(part.connection.get(), Connection::None | Connection::Failed) {
        (rules::DISCONNECT_UNCONNECTED, "which was not connected")
    } else {
        object.events.set(object.events.get() + 1);
        trail::told(&object, callback.function, None, None);
        let target = match part.event.get() {
            Some(DisconnectEvent::Plain(event)) => event as *const (),
            Some(DisconnectEvent::Ex(event)) => event as *const (),
            None => std::ptr::null(),
        };
        callback.pass_on(&object.provider, part.consumer.get(), target, || tell(part));
        object.events.set(object.events.get() - 1);
        return;
    };
    violation(rule, format!("disconnect event of {object}: {text}"));
}
