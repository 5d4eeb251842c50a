//! The receive path: indications of the miniport to the protocol, and their return.

use std::cell::{Cell, RefCell};

use ndis_sys::ndis::*;
use ndis_sys::types::*;

use super::adapter::{Adapter, State};
use super::pool::NetPool;
use super::{mdl, ndis, rules};
use crate::verifier::{Function, rules as kernel, violation};
use crate::world::address_map::AddressMap;
use crate::world::context;
use crate::world::driver_call::call_driver;
use crate::world::processor::{self, DISPATCH, PASSIVE};

/// Receive indications outstanding at an adapter.
#[derive(Default)]
pub(crate) struct Receives {
    /// Lists the protocol owns, by address: what their data is.
    outstanding: RefCell<AddressMap<Option<u64>>>,
    pub(crate) frames: Cell<u64>,
}

impl Receives {
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding.borrow().len()
    }
}

/// One in so many indications is returned before its call is over.
const INLINE_ONE_IN: u64 = 4;

static RETURN: Function = Function::callback("MiniportReturnNetBufferLists", PASSIVE..=DISPATCH);

/// Whether a list is in the protocol's hands.
pub(crate) fn outstanding(list: *mut NET_BUFFER_LIST) -> bool {
    ndis()
        .adapters
        .borrow()
        .iter()
        .any(|a| a.receives.outstanding.borrow().contains_key(&list.addr()))
}

/// Forgets a list that the driver freed while it was in the protocol's hands.
pub(crate) fn forget(list: *mut NET_BUFFER_LIST) {
    for adapter in ndis().adapters.borrow().iter() {
        adapter
            .receives
            .outstanding
            .borrow_mut()
            .remove(&list.addr());
    }
}

/// `NdisMIndicateReceiveNetBufferLists`.
///
/// # Safety
/// As for the exported function.
pub(crate) unsafe fn indicate(
    handle: NDIS_HANDLE,
    lists: *mut NET_BUFFER_LIST,
    port: NDIS_PORT_NUMBER,
    count: u32,
    flags: u32,
) {
    const F: &str = "NdisMIndicateReceiveNetBufferLists";
    let ndis = ndis();
    let Some(adapter) = ndis.handles.get::<Adapter>(handle, F) else {
        return;
    };
    let accuse = |text: String| violation(rules::RECEIVE, format!("{F}: {text}"));
    if flags & NDIS_RECEIVE_FLAGS_DISPATCH_LEVEL != 0 && context::irql() != DISPATCH {
        accuse(format!(
            "NDIS_RECEIVE_FLAGS_DISPATCH_LEVEL at IRQL {}",
            context::irql()
        ));
    }
    if port != NDIS_DEFAULT_PORT_NUMBER {
        accuse(format!("port {port} does not exist"));
    }
    match adapter.state.get() {
        // As soon as MiniportRestart is called.
        State::Running | State::Pausing | State::Restarting => {}
        state => accuse(format!("the adapter is {state:?}")),
    }
    let resources = flags & NDIS_RECEIVE_FLAGS_RESOURCES != 0;
    let pools = ndis.handles.all::<NetPool>();
    let mut taken = Vec::new();
    let mut frames = Vec::new();
    let mut list = lists;
    while !list.is_null() {
        let address = list.addr();
        if !pools.iter().any(|p| p.owns(address)) {
            accuse(format!(
                "{list:p} is not allocated from a pool of net buffer lists (any more)"
            ));
            break;
        }
        if taken.contains(&address) || outstanding(list) {
            accuse(format!(
                "{list:p} is indicated a second time before it was returned"
            ));
            break;
        }
        // SAFETY: allocated from a pool and not freed.
        let (next, source, mut buffer) =
            unsafe { ((*list).Next, (*list).SourceHandle, (*list).FirstNetBuffer) };
        if source != handle {
            accuse(format!(
                "SourceHandle of {list:p} is {source:p}, not the miniport adapter handle"
            ));
        }
        if buffer.is_null() {
            accuse(format!("{list:p} has no net buffer"));
        }
        while !buffer.is_null() {
            // SAFETY: the driver's net buffer and its chain.
            match unsafe { mdl::read(buffer) } {
                Some(frame) if frame.len() < 14 => {
                    accuse(format!("a frame of {} bytes", frame.len()))
                }
                Some(frame) if frame.len() > adapter.mtu() as usize + 18 => {
                    accuse(format!(
                        "a frame of {} bytes, the MTU is {}",
                        frame.len(),
                        adapter.mtu()
                    ));
                }
                Some(frame) => frames.push(frame),
                None => accuse(format!(
                    "the MDL chain of {buffer:p} is shorter than its data, or not mapped"
                )),
            }
            // SAFETY: as above.
            buffer = unsafe { (*buffer).Next };
        }
        taken.push(address);
        list = next;
    }
    if taken.len() != count as usize {
        accuse(format!(
            "NumberOfNetBufferLists is {count}, the chain has {}",
            taken.len()
        ));
    }
    adapter
        .receives
        .frames
        .set(adapter.receives.frames.get() + frames.len() as u64);
    if adapter.state.get() == State::Running {
        for frame in frames {
            crate::tcpip::received(&adapter, &frame);
        }
    }
    if resources {
        // The protocol copied; the lists are the miniport's again when this returns.
        return;
    }
    let with_sum = |address: &usize| {
        let list = std::ptr::with_exposed_provenance(*address);
        // SAFETY: allocated from a pool and not freed.
        (*address, unsafe { mdl::sum(list) })
    };
    let lent: Vec<_> = taken.iter().map(with_sum).collect();
    adapter.receives.outstanding.borrow_mut().extend(lent);
    if taken.is_empty() {
        return;
    }
    // Some protocols are done with a frame when they have seen it, others a little later, in a thread or a DPC.
    let core = context::core();
    if core.rng.below(INLINE_ONE_IN) == 0 {
        return give_back(&adapter, &taken, context::irql() == DISPATCH);
    }
    let dispatch = core.rng.below(2) == 0;
    let machine = adapter.machine();
    core.schedule_on(&machine, core.now(), move || {
        let _raised = dispatch.then(|| processor::raise_irql(DISPATCH));
        give_back(&adapter, &taken, dispatch);
    });
}

/// Returns lists to the miniport.
fn give_back(adapter: &Adapter, lists: &[usize], dispatch: bool) {
    let mut next: *mut NET_BUFFER_LIST = std::ptr::null_mut();
    for address in lists.iter().rev() {
        // One that the driver freed meanwhile, and was accused for, is not returned.
        let Some(sum) = adapter.receives.outstanding.borrow_mut().remove(address) else {
            continue;
        };
        let list: *mut NET_BUFFER_LIST = std::ptr::with_exposed_provenance_mut(*address);
        // SAFETY: outstanding, so the driver has not freed it.
        if unsafe { mdl::sum(list) } != sum {
            violation(
                kernel::MDL_INVARIANT,
                format!(
                    "the data of {list:p} has changed since it was indicated, before it was returned"
                ),
            );
        }
        // SAFETY: outstanding, so the driver has not freed it.
        unsafe { (*list).Next = next };
        next = list;
    }
    if next.is_null() {
        return;
    }
    let Some(handler) = adapter.driver.handlers.ReturnNetBufferListsHandler else {
        return;
    };
    let _charged = adapter.driver.driver.charge();
    let flags = if dispatch {
        NDIS_RETURN_FLAGS_DISPATCH_LEVEL
    } else {
        0
    };
    // SAFETY: a handler the driver registered, called as its type demands.
    call_driver(&RETURN, handler as *const (), || unsafe {
        handler(adapter.context.get(), next, flags)
    });
}
