//! Contexts of calls that pend: memory of the consumer's, which must stay what it is until the completion callback.
//!
//! Several calls may have one context, with an event that each callback sets: who waits for that may count them. Who does not, and goes on too
//! early, is accused of what it then does to the memory.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::call::Call;
use super::object::layer_if_any;
use super::rules;
use crate::verifier::violation;

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
