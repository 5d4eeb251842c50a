//! Objects that are closed, by the addresses where they were: for consumers who use them nevertheless.
//!
//! A provider frees an object's memory when it is closed. The pool fills it with a pattern then, and a consumer that calls
//! through it would be told of a bad address and of nothing else. So the pool leaves a dispatch pointer there, as long as the
//! memory is in quarantine: that of the layer's hooks, which find no object and look here.

use std::cell::RefCell;
use std::collections::BTreeMap;

use ndkpi::NDK_OBJECT_HEADER;

use super::object::{Kind, Object, State, dispatch_of, layer_if_any};
use super::tables::hooks_of;
use crate::verifier::place;

struct Grave {
    kind: Kind,
    story: String,
}

/// All that were closed and whose memory nobody has used since.
#[derive(Default)]
pub(super) struct Graves(RefCell<BTreeMap<usize, Grave>>);

impl Graves {
    /// An object is closed.
    pub(super) fn add(&self, object: &Object) {
        let at = place();
        let story = format!(
            "{object}, which was closed at {} ns (cpu {}, irql {})",
            at.time, at.processor, at.irql
        );
        let grave = Grave {
            kind: object.kind,
            story,
        };
        self.0
            .borrow_mut()
            .insert(object.header.get().addr(), grave);
    }

    /// Another object is there now.
    pub(super) fn remove(&self, address: usize) {
        self.0.borrow_mut().remove(&address);
    }

    /// What was at an address, and when it was closed.
    pub(super) fn story(&self, address: usize) -> Option<String> {
        let graves = self.0.borrow();
        graves.get(&address).map(|grave| grave.story.clone())
    }
}

/// The words that freed memory holds for consumers, as address and value.
pub(crate) fn tombstones(address: usize, size: usize) -> Vec<(usize, usize)> {
    let range = address..address + size;
    let mut dead = Vec::new();
    layer_if_any(|layer| {
        let graves = layer.graves.0.borrow();
        dead.extend(graves.range(range.clone()).map(|(at, g)| (*at, g.kind)));
        // A close that does not pend frees before the layer knows that it is done.
        let objects = layer.by_address.borrow();
        let closing = objects.range(range.clone()).filter_map(|(at, handle)| {
            let object = layer.objects.get(*handle)?;
            (object.state.get() == State::Closing).then_some((*at, object.kind))
        });
        dead.extend(closing);
    });
    let words = dead.into_iter().map(|(at, kind)| {
        let header: *mut NDK_OBJECT_HEADER = std::ptr::without_provenance_mut(at);
        (dispatch_of(header).addr(), hooks_of(kind).addr())
    });
    words
        .filter(|(at, _)| at + size_of::<usize>() <= range.end)
        .collect()
}

/// Memory is no longer what was freed: nobody remembers what was there.
pub(crate) fn forget(address: usize, size: usize) {
    layer_if_any(|layer| {
        let mut graves = layer.graves.0.borrow_mut();
        let gone: Vec<_> = graves
            .range(address..address + size)
            .map(|(at, _)| *at)
            .collect();
        for at in gone {
            graves.remove(&at);
        }
    });
}
