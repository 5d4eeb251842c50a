//! NDIS handles: numbers a driver can neither dereference nor confuse without being told.

use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;

use ndis_sys::types::NDIS_HANDLE;

use super::rules;
use crate::verifier::violation;

/// What a handle can stand for.
pub(crate) trait Handled: 'static {
    /// What reports call it.
    const KIND: &'static str;
}

struct Slot {
    generation: u32,
    kind: &'static str,
    object: Option<Rc<dyn Any>>,
}

/// A machine's NDIS handles.
#[derive(Default)]
pub(crate) struct Handles(RefCell<Vec<Slot>>);

/// Looks like a kernel address and is none: whoever dereferences a handle faults.
const BASE: usize = 0xffff_b000_0000_0000;
const INDEX_SHIFT: u32 = 4;
const INDEX_BITS: u32 = 20;
const GENERATION_MASK: u32 = 0xf_ffff;

impl Handles {
    /// Makes a handle for an object.
    pub(crate) fn insert<T: Handled>(&self, object: Rc<T>) -> NDIS_HANDLE {
        let mut slots = self.0.borrow_mut();
        let index = slots
            .iter()
            .position(|s| s.object.is_none() && s.generation < GENERATION_MASK);
        let index = index.unwrap_or_else(|| {
            slots.push(Slot {
                generation: 0,
                kind: T::KIND,
                object: None,
            });
            slots.len() - 1
        });
        let slot = &mut slots[index];
        slot.generation += 1;
        slot.kind = T::KIND;
        slot.object = Some(object);
        let value =
            BASE | (slot.generation as usize) << (INDEX_SHIFT + INDEX_BITS) | index << INDEX_SHIFT;
        std::ptr::without_provenance_mut(value)
    }

    fn locate(handle: NDIS_HANDLE) -> Option<(usize, u32)> {
        let value = handle.addr();
        if value & BASE != BASE || value & 0xf != 0 {
            return None;
        }
        let index = (value >> INDEX_SHIFT) & ((1 << INDEX_BITS) - 1);
        let generation = (value & !BASE) >> (INDEX_SHIFT + INDEX_BITS);
        Some((index, u32::try_from(generation).ok()?))
    }

    /// The object a handle stands for; `None`, and a violation, if it stands for none of that kind.
    pub(crate) fn get<T: Handled>(&self, handle: NDIS_HANDLE, function: &str) -> Option<Rc<T>> {
        match self.peek::<T>(handle) {
            Ok(object) => Some(object),
            Err(text) => {
                violation(
                    rules::HANDLE,
                    format!("{function}: {text}, expected {}", T::KIND),
                );
                None
            }
        }
    }

    /// As [`Self::get`], with the accusation as text instead.
    pub(crate) fn peek<T: Handled>(&self, handle: NDIS_HANDLE) -> Result<Rc<T>, String> {
        let slots = self.0.borrow();
        let found = Self::locate(handle)
            .and_then(|(index, generation)| Some((slots.get(index)?, generation)));
        let Some((slot, generation)) = found else {
            return Err(format!("{handle:p} is no NDIS handle"));
        };
        match &slot.object {
            Some(object) if slot.generation == generation => Rc::clone(object)
                .downcast()
                .map_err(|_| format!("handle {handle:p} is {}", slot.kind)),
            _ => Err(format!("handle {handle:p} was freed")),
        }
    }

    /// Ends a handle.
    pub(crate) fn remove(&self, handle: NDIS_HANDLE) {
        let Some((index, generation)) = Self::locate(handle) else {
            return;
        };
        let object = {
            let mut slots = self.0.borrow_mut();
            match slots.get_mut(index) {
                Some(slot) if slot.generation == generation => slot.object.take(),
                _ => None,
            }
        };
        drop(object);
    }

    /// The first live object of a kind that is such.
    pub(crate) fn find<T: Handled>(&self, such: impl Fn(&T) -> bool) -> Option<Rc<T>> {
        let slots = self.0.borrow();
        let mut objects = slots.iter().filter_map(|s| s.object.as_ref());
        let object = objects.find(|o| o.downcast_ref().is_some_and(&such))?;
        Rc::clone(object).downcast().ok()
    }

    /// Every live object of a kind.
    pub(crate) fn all<T: Handled>(&self) -> Vec<Rc<T>> {
        self.0
            .borrow()
            .iter()
            .filter_map(|s| s.object.as_ref())
            .filter_map(|o| Rc::clone(o).downcast().ok())
            .collect()
    }
}
