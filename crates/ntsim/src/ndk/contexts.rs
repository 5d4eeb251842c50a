//! Contexts of calls that pend: memory of the consumer's, which must stay what it is until the completion callback.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use ndis_sys::wdm::{KEVENT, NotificationEvent};

use super::call::Call;
use super::object::{layer_if_any, with_layer};
use super::rules;
use crate::verifier::violation;
use crate::world::context;

/// Calls by the addresses of their contexts and their handles.
#[derive(Default)]
pub(super) struct Contexts(RefCell<BTreeMap<(usize, usize), Rc<Call>>>);

impl Contexts {
    pub(super) fn add(&self, call: &Rc<Call>) {
        if !call.context.is_null() {
            self.0.borrow_mut().insert(key(call), Rc::clone(call));
        }
    }

    pub(super) fn remove(&self, call: &Call) {
        self.0.borrow_mut().remove(&key(call));
    }

    pub(super) fn clear(&self) {
        self.0.take();
    }

    /// Those that pend and whose contexts lie in so many bytes at an address.
    fn pending_in(&self, address: usize, length: usize) -> Vec<Rc<Call>> {
        let end = address.saturating_add(length);
        let calls = self.0.borrow();
        let inside = calls.range((address, 0)..(end, 0)).map(|(_, call)| call);
        inside.filter(|call| call.pends()).cloned().collect()
    }
}

fn key(call: &Call) -> (usize, usize) {
    (call.context.addr(), call.handle.bits())
}

fn pending_in(address: usize, length: usize) -> Vec<Rc<Call>> {
    layer_if_any(|layer| layer.contexts.pending_in(address, length)).unwrap_or_default()
}

/// An event is initialised. One that a completion callback is to set must stay as it is.
pub(crate) fn initialised(event: usize) {
    // On a stack, that is: what lies elsewhere may be a structure with an event at its beginning that the callback has nothing to do with.
    let pending = pending_in(event, 1);
    if let Some(call) = pending.iter().find(|call| call.frame.is_some()) {
        violation(
            rules::CONSUMER_CONTEXT,
            format!(
                "KeInitializeEvent initialises the event at {event:#x}, but that is the context of {}, which pends since {} ns and was not \
                 waited for{}",
                call.story(),
                call.since,
                call.called_in()
            ),
        );
    }
}

/// Memory is freed. Callbacks whose contexts lie in it are not called any more.
pub(crate) fn freed(address: usize, length: usize, by: &str) {
    for call in pending_in(address, length) {
        call.freed.set(true);
        violation(
            rules::CONSUMER_CONTEXT,
            format!(
                "{by} frees {length} bytes at {address:#x}; in them, at {:p}, lies the context of {}, which pends since {} ns: its callback \
                 will not be called",
                call.context,
                call.story(),
                call.since
            ),
        );
    }
}

/// Whether the context of a call is a notification event that is set, as far as that can be told.
fn is_set_event(call: &Call) -> bool {
    let event = call.context.cast::<KEVENT>();
    let machine = context::machine();
    let in_pool = |address| machine.pool.describe(address).is_some();
    let there = call.frame.as_ref().is_some_and(|frame| !frame.is_gone())
        || in_pool(event.addr()) && in_pool(event.addr() + size_of::<KEVENT>() - 1);
    if !there || !event.is_aligned() {
        return false;
    }
    // SAFETY: it is there, on a stack or in a block of the pool.
    let (header, head) = unsafe { (&(*event).Header, &raw const (*event).Header.WaitListHead) };
    header.WaitListHead.Flink.cast_const() == head
        && i32::from(header.Type) == NotificationEvent
        && header.SignalState > 0
}

/// A consumer was told that a call is over. If its context is an event that is set now, whoever waits for it takes all for over that have it.
pub(super) fn told(call: &Call) {
    let address = call.context.addr();
    let same = |other: &Rc<Call>| other.pends() && other.target() == call.target();
    let other = with_layer(|layer| {
        let calls = layer.contexts.0.borrow();
        let mut others = calls.range((address, 0)..=(address, usize::MAX));
        others.find_map(|(_, other)| same(other).then(|| Rc::clone(other)))
    });
    let Some(other) = other else { return };
    if is_set_event(call) {
        violation(
            rules::CONSUMER_CONTEXT,
            format!(
                "{} is over and its callback has set the event at {address:#x}, which is the context of {} too, which pends since {} ns: \
                 who waits for the event goes on before that is over",
                call.story(),
                other.story(),
                other.since
            ),
        );
    }
}
