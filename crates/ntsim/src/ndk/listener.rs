//! Hooked listeners.

use std::cell::Cell;
use std::net::SocketAddr;

use ndkpi::status::*;
use ndkpi::*;

use super::call::request;
use super::callback::Callback;
use super::connector::ConnectorPart;
use super::hook::enter;
use super::object::{Kind, Object, Part, State};
use super::rules;
use super::tables::{common, slots};
use super::trail;
use crate::consumer::Address;
use crate::verifier::{Function, violation};
use crate::world::driver::DriverNumber;
use crate::world::processor::{DISPATCH, PASSIVE};

/// What only a listener has.
pub(super) struct ListenerPart {
    pub(super) event: NDK_FN_CONNECT_EVENT_CALLBACK,
    pub(super) context: *mut c_void,
    pub(super) consumer: DriverNumber,
    /// Calls of NdkListen that have not failed. One may succeed while another, that came before it, fails.
    pub(super) listening: Cell<u32>,
    /// Where, as the consumer said with its last NdkListen.
    pub(super) address: Cell<Option<SocketAddr>>,
}

slots![
    NdkCloseListener,
    NdkQueryExtension,
    NdkListen,
    NdkGetLocalAddress called "NdkGetLocalAddress (listener)",
    NdkControlConnectEvents,
];

pub(super) static HOOKS: NDK_LISTENER_DISPATCH = NDK_LISTENER_DISPATCH {
    NdkCloseListener: close,
    NdkQueryExtension: query_extension,
    NdkListen: listen,
    NdkGetLocalAddress: local_address,
    NdkControlConnectEvents: control,
};

common!(Listener, NdkCloseListener);

fn part(object: &Object) -> &ListenerPart {
    match &object.part {
        Part::Listener(part) => part,
        _ => unreachable!("only listeners have these functions"),
    }
}

unsafe extern "efiapi" fn listen(
    listener: *mut NDK_LISTENER,
    address: *const SOCKADDR,
    length: u32,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    let Some(hook) = enter(listener.cast(), Kind::Listener, &NdkListen) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    if hook.null(address, "the address") {
        return STATUS_INVALID_PARAMETER;
    }
    // An event may come before NdkListen has returned.
    part(&hook.object).listening.update(|calls| calls + 1);
    // SAFETY: not null, so the consumer's, of that length.
    let at = unsafe { Address::read(address, length) };
    let before = part(&hook.object).address.replace(at);
    let object = hook.object.clone();
    let then = Box::new(move |status| {
        if status != STATUS_SUCCESS {
            part(&object).listening.update(|calls| calls - 1);
            part(&object).address.set(before);
        }
    });
    let table = hook.object.table::<NDK_LISTENER_DISPATCH>();
    request(&hook, completion, context, Some(then), |done, cookie| {
        // SAFETY: the provider's table; called as the consumer called.
        unsafe { ((*table).NdkListen)(listener, address, length, done, cookie) }
    })
}

unsafe extern "efiapi" fn local_address(
    listener: *mut NDK_LISTENER,
    address: *mut SOCKADDR,
    length: *mut u32,
) -> NTSTATUS {
    let Some(hook) = enter(listener.cast(), Kind::Listener, &NdkGetLocalAddress) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    let table = hook.object.table::<NDK_LISTENER_DISPATCH>();
    // SAFETY: the consumer's length; the provider's table.
    unsafe {
        hook.with_length(length, |length| {
            ((*table).NdkGetLocalAddress)(listener, address, length)
        })
    }
}

unsafe extern "efiapi" fn control(listener: *mut NDK_LISTENER, pause: BOOLEAN) {
    let Some(hook) = enter(listener.cast(), Kind::Listener, &NdkControlConnectEvents) else {
        return;
    };
    let table = hook.object.table::<NDK_LISTENER_DISPATCH>();
    // SAFETY: the provider's table; called as the consumer called.
    hook.call(|| unsafe { ((*table).NdkControlConnectEvents)(listener, pause) });
}

pub(super) static CONNECT_EVENT: Function =
    Function::export("", "NdkConnectEventCallback", PASSIVE..=DISPATCH);

/// What the provider calls.
pub(super) unsafe extern "efiapi" fn connect_event(
    context: *mut c_void,
    connector: *mut NDK_CONNECTOR,
) {
    let callback = Callback::enter(&CONNECT_EVENT);
    let Some(object) = callback.object(context, Kind::Listener) else {
        return;
    };
    let part = part(&object);
    if connector.is_null() {
        violation(
            rules::CONNECT_EVENT,
            format!("connect event of {object} without a connector"),
        );
        return;
    }
    if object.state.get() == State::Closing {
        violation(
            rules::CONNECT_EVENT,
            format!("connect event of {object}, whose close was called"),
        );
    } else if part.listening.get() == 0 {
        violation(
            rules::CONNECT_EVENT,
            format!("connect event of {object}, which does not listen"),
        );
    }
    let incoming = ConnectorPart::incoming();
    let child = Object::unborn(
        Kind::Connector,
        &object.provider,
        CONNECT_EVENT.name,
        Part::Connector(incoming),
        &[&object],
    );
    if !child.adopt(connector.cast()) {
        child.forget();
        return;
    }
    object.events.set(object.events.get() + 1);
    trail::told(&object, callback.function, None, None);
    // SAFETY: the consumer's callback and its context.
    callback.pass_on(
        &object.provider,
        part.consumer,
        part.event as *const (),
        || unsafe { (part.event)(part.context, connector) },
    );
    object.events.set(object.events.get() - 1);
}
