//! The layer between NDK consumers and providers: opening and closing adapters, and the hooks that judge a provider.

pub mod rules;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ndis_sys::status::*;
use ndis_sys::types::*;
use ndkpi::{NDIS_OPEN_NDK_ADAPTER_PARAMETERS, NDK_ADAPTER, NDK_VERSION};

use crate::ndis::adapter::{Adapter, State};
use crate::verifier::{Function, violation};
use crate::world::context;
use crate::world::machine::Machine;
use crate::world::processor::PASSIVE;
use crate::world::thread::call_driver;

static OPEN: Function = Function::callback("OpenNDKAdapterHandler", PASSIVE..=PASSIVE);
static CLOSE: Function = Function::callback("CloseNDKAdapterHandler", PASSIVE..=PASSIVE);

/// The NDK adapters open on a machine.
#[derive(Default)]
pub(crate) struct Layer {
    pub(crate) open: RefCell<Vec<Rc<Opened>>>,
}

/// An open NDK adapter.
pub(crate) struct Opened {
    pub(crate) adapter: Rc<Adapter>,
    pub(crate) object: *mut NDK_ADAPTER,
    /// The version that was asked for.
    pub(crate) requested: NDK_VERSION,
    /// NDK is being disabled or the adapter removed: the consumer is to close.
    pub(crate) leaving: Cell<bool>,
}

pub(crate) fn layer(machine: &Machine) -> Rc<Layer> {
    machine.ext::<Layer>()
}

/// Opens an NDK adapter over the miniport adapter with an interface index.
pub(crate) fn open(version: NDK_VERSION, if_index: u32) -> Result<*mut NDK_ADAPTER, NTSTATUS> {
    let machine = context::machine();
    let ndis = crate::ndis::ndis();
    let found = ndis
        .adapters
        .borrow()
        .iter()
        .find(|a| a.if_index == if_index)
        .map(Rc::clone);
    let Some(adapter) = found else {
        return Err(STATUS_NOT_FOUND);
    };
    if matches!(
        adapter.state.get(),
        State::Halted | State::Initializing | State::Halting
    ) {
        return Err(STATUS_DEVICE_NOT_READY);
    }
    let Some(handler) = adapter
        .driver
        .ndk
        .get()
        .and_then(|n| n.OpenNDKAdapterHandler)
    else {
        return Err(STATUS_NOT_SUPPORTED);
    };
    if adapter.ndk.get().is_none() {
        return Err(STATUS_NOT_SUPPORTED);
    }
    let mut parameters = NDIS_OPEN_NDK_ADAPTER_PARAMETERS {
        Version: version,
        SwitchId: 0,
        VPortId: 0,
    };
    let mut object: *mut NDK_ADAPTER = std::ptr::null_mut();
    let status = {
        let _charged = adapter.driver.driver.charge();
        // SAFETY: a handler the driver registered, called as its type demands.
        call_driver(&OPEN, || unsafe {
            handler(adapter.context.get(), &raw mut parameters, &raw mut object)
        })
    };
    if status != NDIS_STATUS_SUCCESS {
        if status == NDIS_STATUS_PENDING {
            violation(
                rules::OPEN,
                "OpenNDKAdapterHandler returned NDIS_STATUS_PENDING: it is synchronous",
            );
            return Err(STATUS_UNSUCCESSFUL);
        }
        return Err(status);
    }
    if object.is_null() {
        violation(
            rules::OPEN,
            "OpenNDKAdapterHandler succeeded without an adapter object",
        );
        return Err(STATUS_UNSUCCESSFUL);
    }
    layer(&machine).open.borrow_mut().push(Rc::new(Opened {
        adapter,
        object,
        requested: version,
        leaving: Cell::new(false),
    }));
    Ok(object)
}

/// Closes an NDK adapter: blocks until all its callbacks have returned.
pub(crate) fn close(object: *mut NDK_ADAPTER) {
    let machine = context::machine();
    let layer = layer(&machine);
    let found = layer
        .open
        .borrow()
        .iter()
        .find(|o| o.object == object)
        .map(Rc::clone);
    let Some(opened) = found else {
        violation(
            rules::CONSUMER,
            format!("WskCloseNdkAdapter: {object:p} is not open (any more)"),
        );
        return;
    };
    let adapter = &opened.adapter;
    if let Some(handler) = adapter
        .driver
        .ndk
        .get()
        .and_then(|n| n.CloseNDKAdapterHandler)
    {
        let _charged = adapter.driver.driver.charge();
        // SAFETY: a handler the driver registered, called as its type demands.
        call_driver(&CLOSE, || unsafe { handler(adapter.context.get(), object) });
    }
    layer.open.borrow_mut().retain(|o| !Rc::ptr_eq(o, &opened));
}

/// Whether NDK adapters are open over a miniport adapter.
pub(crate) fn any_open(adapter: &Rc<Adapter>) -> bool {
    layer(&adapter.machine())
        .open
        .borrow()
        .iter()
        .any(|o| Rc::ptr_eq(&o.adapter, adapter))
}

/// NDK was enabled or is about to be disabled over a miniport adapter.
pub(crate) fn state_changed(adapter: &Rc<Adapter>, enabled: bool) {
    let opened: Vec<_> = layer(&adapter.machine()).open.borrow().clone();
    for opened in opened.iter().filter(|o| Rc::ptr_eq(&o.adapter, adapter)) {
        opened.leaving.set(!enabled);
    }
}

/// Whether the consumer of an open adapter is asked to close it.
pub(crate) fn leaving(machine: &Machine, object: *mut NDK_ADAPTER) -> bool {
    layer(machine)
        .open
        .borrow()
        .iter()
        .any(|o| o.object == object && o.leaving.get())
}
