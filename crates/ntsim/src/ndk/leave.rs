//! How consumers learn that they have to close an adapter.
//!
//! NDK is disabled with an event that goes to the drivers above the miniport, and that lasts until they have closed their adapters
//! ("Enabling and Disabling NDK Functionality"); before a miniport is halted they are unbound from it. Consumers that are not NDIS
//! protocols are told by whoever stands between: here, at PASSIVE_LEVEL, in the thread of that event.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ndkpi::NDK_ADAPTER;

use super::layer;
use crate::ndis::adapter::Adapter;
use crate::verifier::Function;
use crate::world::context;
use crate::world::driver::{Charged, UNNAMED};
use crate::world::driver_call::{NOT_ITS_OWN, call_driver};
use crate::world::processor::PASSIVE;

/// Why a consumer has to close its adapter. Whoever raised the event waits for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// NDK has been disabled: `NetEventNDKDisable`.
    Disabled,
    /// The miniport is going to be halted.
    Halting,
}

/// What is called to tell a consumer.
pub(crate) type Listener = Box<dyn Fn(Leave)>;

/// What one open adapter has been told, and who listens.
#[derive(Default)]
pub(super) struct Notice {
    told: Cell<Option<Leave>>,
    listeners: RefCell<Vec<Listener>>,
}

/// Tells the consumers of all NDK adapters that are open over a miniport adapter. PASSIVE_LEVEL.
pub(crate) fn tell(adapter: &Rc<Adapter>, why: Leave) {
    static LISTENER: Function =
        Function::callback("consumer's handler of the NDK event", PASSIVE..=PASSIVE);
    let open = layer(&adapter.machine()).open.borrow().clone();
    for opened in open.iter().filter(|o| Rc::ptr_eq(&o.adapter, adapter)) {
        opened.notice.told.set(Some(why));
        let listeners = opened.notice.listeners.take();
        let _charged = Charged::to(UNNAMED);
        for listener in &listeners {
            call_driver(&LISTENER, NOT_ITS_OWN, || listener(why));
        }
        opened.notice.listeners.borrow_mut().extend(listeners);
    }
}

/// Has `f` called when an adapter is to be closed. False if it is not open on this machine.
pub(crate) fn listen(object: *mut NDK_ADAPTER, f: Listener) -> bool {
    let machine = context::machine();
    let open = layer(&machine).open.borrow().clone();
    let Some(opened) = open.iter().find(|o| o.object == object) else {
        return false;
    };
    opened.notice.listeners.borrow_mut().push(f);
    true
}

/// What the consumer of an adapter was told.
pub(crate) fn told(object: *mut NDK_ADAPTER) -> Option<Leave> {
    let core = context::core();
    let machines = core.machines.borrow().clone();
    machines.iter().find_map(|machine| {
        let open = layer(machine).open.borrow().clone();
        let opened = open.iter().find(|o| o.object == object)?;
        opened.notice.told.get()
    })
}
