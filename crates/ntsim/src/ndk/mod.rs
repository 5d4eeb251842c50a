//! NDK: the objects of NDKPI as Rust types, for tests, demos and benchmarks of consumers; and the layer below, which judges both sides.
//!
//! # Consumers
//!
//! The types are what a consumer's own wrappers are. They must run as kernel code of a machine, that is inside
//! [`World::call`](crate::World::call), or in a thread that [`World::spawn`](crate::World::spawn) begins:
//!
//! ```no_run
//! use ndkpi::NDK_VERSION_2_1;
//! use ntsim::ndk::{Adapter, Connector, Qp, QpLimits, Status};
//! use ntsim::{MachineId, World};
//!
//! fn prepare(world: &mut World, machine: MachineId) -> Result<(Qp, Connector), Status> {
//!     world.call(machine, || {
//!         let adapter = Adapter::open(NDK_VERSION_2_1)?;
//!         let cq = adapter.create_cq(64)?;
//!         let pd = adapter.create_pd()?;
//!         let qp = pd.create_qp(&cq, &cq, QpLimits::default())?;
//!         Ok((qp, adapter.create_connector()?))
//!     })
//! }
//! ```
//!
//! Functions that may pend come in two forms. The plain one waits at PASSIVE_LEVEL, while the world goes on. The one that
//! `start`s returns a [`Pending`], which the host may wait for with [`Pending::wait`] between two calls. Objects must be closed; what is not
//! closed is reported as a leak when the adapter closes. [`Endpoint`] has at once what most consumers open.
//!
//! `crates/lab/examples/both_ends.rs` is a whole test, `first_test.rs` beside it one that the host plays by itself;
//! `docs/testing-a-consumer.md` explains them. C code is linked as that page says.
//!
//! # The layer
//!
//! It stands between consumers and providers: it opens and closes adapters, and its hooks judge.
//!
//! Every object that a provider hands out gets dispatch tables of this layer: its `Dispatch` and the `NdkReserved` words
//! of its header belong to whoever sits between provider and consumer. What the consumer calls, and what it wants to be
//! called back, thus passes here; [`rules`] is what is checked on the way.
//!
//! [`object`] is the record of an object and its life; [`hook`] and [`callback`] are the mechanism of calls in both
//! directions, [`call`] that of functions that may pend and of closing. The other files have one kind of object each. Contexts that a provider gets
//! are handles ([`slab`]), the context of a queue pair too, so that a wrong one is noticed and not followed.

mod account;
mod adapter;
mod call;
mod callback;
mod connector;
mod contexts;
mod cq;
mod endpoint;
mod graph;
mod graves;
mod hook;
mod in_flight;
mod lam;
mod late;
pub(crate) mod leave;
mod listener;
mod mr;
mod mw;
mod object;
pub use crate::consumer::{
    Adapter, Bookkeeping, Buffer, Call, ConnectionData, Connector, Cq, DisconnectEvents, Endpoint,
    Invalidated, Lam, Listener, Mr, Mw, Notifications, Pd, Pending, Qp, QpLimits, ReadLimits,
    Result, Srq, Status, Thread, bookkeeping, check, leaving, on_leave, sge,
};
pub(crate) use call::{accuse, pending_calls, pending_on};
pub(crate) use contexts::{freed, initialised};
pub(crate) use graph::objects;
pub(crate) use graves::{forget, tombstones};
pub use leave::Leave;
pub(crate) use mr::unlocking;
pub(crate) use object::{busy_queues, pending_closes};
pub use trail::NdkUse;
pub(crate) use trail::last_calls;
mod pd;
mod place;
mod private_data;
mod qp;
pub mod rules;
mod slab;
mod srq;
mod tables;
pub use tables::functions;
#[cfg(test)]
mod tests;
mod trail;

use std::cell::RefCell;
use std::rc::Rc;

use ndis_sys::status::*;
use ndis_sys::types::*;
use ndkpi::{NDIS_OPEN_NDK_ADAPTER_PARAMETERS, NDK_ADAPTER, NDK_VERSION};

use crate::ndis::adapter::{Adapter as Miniport, State};
use crate::verifier::{Function, violation};
use crate::world::context;
use crate::world::driver_call::call_driver;
use crate::world::machine::Machine;
use crate::world::processor::PASSIVE;

static OPEN: Function = Function::callback("OpenNDKAdapterHandler", PASSIVE..=PASSIVE);
static CLOSE: Function = Function::callback("CloseNDKAdapterHandler", PASSIVE..=PASSIVE);

/// The NDK adapters open on a machine.
#[derive(Default)]
pub(crate) struct Layer {
    pub(crate) open: RefCell<Vec<Rc<Opened>>>,
}

/// An open NDK adapter.
pub(crate) struct Opened {
    pub(crate) adapter: Rc<Miniport>,
    pub(crate) object: *mut NDK_ADAPTER,
    hooked: Rc<object::Object>,
    notice: leave::Notice,
}

pub(crate) fn layer(machine: &Machine) -> Rc<Layer> {
    machine.ext::<Layer>()
}

/// Opens an NDK adapter over the miniport adapter with an interface index.
pub(crate) fn open(version: NDK_VERSION, if_index: u32) -> Result<*mut NDK_ADAPTER> {
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
        call_driver(&OPEN, handler as *const (), || unsafe {
            handler(adapter.context.get(), &raw mut parameters, &raw mut object)
        })
    };
    judge_open(status, object)?;
    let provider = object::Provider::new(
        format!("{} on {}", adapter.driver.name(), machine.name),
        adapter.driver.driver.number,
        machine.id,
    );
    let Some(hooked) = self::adapter::adopt(object, version, &provider) else {
        call_close_handler(&adapter, object);
        return Err(STATUS_UNSUCCESSFUL);
    };
    layer(&machine).open.borrow_mut().push(Rc::new(Opened {
        adapter,
        object,
        hooked,
        notice: leave::Notice::default(),
    }));
    Ok(object)
}

/// Judges the answer of an open handler.
fn judge_open(status: NDIS_STATUS, object: *mut NDK_ADAPTER) -> Result<()> {
    let wrong = match status {
        NDIS_STATUS_PENDING => "returned NDIS_STATUS_PENDING: it is synchronous",
        NDIS_STATUS_SUCCESS if object.is_null() => "succeeded without an adapter object",
        NDIS_STATUS_SUCCESS => return Ok(()),
        _ if !object.is_null() => "failed and gave an adapter object",
        _ => return Err(status),
    };
    violation(rules::OPEN, format!("OpenNDKAdapterHandler {wrong}"));
    Err(STATUS_UNSUCCESSFUL)
}

fn close_handler(adapter: &Miniport) -> Option<ndkpi::CLOSE_NDK_ADAPTER_HANDLER> {
    adapter.driver.ndk.get()?.CloseNDKAdapterHandler
}

fn call_close_handler(adapter: &Miniport, object: *mut NDK_ADAPTER) {
    if let Some(close) = close_handler(adapter) {
        let _charged = adapter.driver.driver.charge();
        // SAFETY: a handler the driver registered, called as its type demands.
        call_driver(&CLOSE, close as *const (), || unsafe {
            close(adapter.context.get(), object)
        });
    }
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
    let handler = close_handler(&opened.adapter);
    let target = handler.map_or(std::ptr::null(), |close| close as *const ());
    self::adapter::close(&opened.hooked, &CLOSE, target, || {
        if let Some(close) = handler {
            // SAFETY: a handler the driver registered, called as its type demands.
            unsafe { close(opened.adapter.context.get(), object) };
        }
    });
    layer.open.borrow_mut().retain(|o| !Rc::ptr_eq(o, &opened));
}

/// Whether a device over which an NDK adapter is open on a machine sleeps.
fn is_asleep(machine: &Machine) -> bool {
    let layer = layer(machine);
    let open = layer.open.borrow();
    open.iter().any(|opened| opened.adapter.asleep.get())
}

/// Whether NDK adapters are open over a miniport adapter.
pub(crate) fn any_open(adapter: &Rc<Miniport>) -> bool {
    layer(&adapter.machine())
        .open
        .borrow()
        .iter()
        .any(|o| Rc::ptr_eq(&o.adapter, adapter))
}
