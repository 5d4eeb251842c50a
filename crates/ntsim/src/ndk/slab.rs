//! Handles: what the layer gives a provider as contexts, so that a callback with a wrong, old or foreign context is
//! found out instead of being followed.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use ndkpi::c_void;

/// A value that looks like a kernel address, can be followed by nobody, and is not used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handle(usize);

impl Handle {
    /// As a callback's context.
    pub(super) fn context(self) -> *mut c_void {
        std::ptr::without_provenance_mut(self.0)
    }

    pub(super) fn bits(self) -> usize {
        self.0
    }

    /// What a callback got as context.
    pub(super) fn from_context(context: *mut c_void) -> Handle {
        Handle(context.addr())
    }
}

struct Slot<T> {
    generation: usize,
    value: Option<Rc<T>>,
}

/// Values by handle. A value that was retired stays for a while, so that a late use of its handle can be explained.
pub(super) struct Slab<T> {
    kind: Kind,
    slots: RefCell<Vec<Slot<T>>>,
    retired: RefCell<VecDeque<usize>>,
}

/// Tells handles of different slabs apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Object = 0xf_fffc,
    Call = 0xf_fffd,
}

const KIND_SHIFT: u32 = 44;
const GENERATION_SHIFT: u32 = 24;
const GENERATION_MASK: usize = 0xf_ffff;
const INDEX_SHIFT: u32 = 4;
const INDEX_MASK: usize = 0xf_ffff;
/// Retired values kept at least.
const KEPT: usize = 512;

impl<T> Slab<T> {
    pub(super) fn new(kind: Kind) -> Self {
        Slab {
            kind,
            slots: RefCell::default(),
            retired: RefCell::default(),
        }
    }

    fn handle(&self, index: usize, generation: usize) -> Handle {
        Handle(
            (self.kind as usize) << KIND_SHIFT
                | generation << GENERATION_SHIFT
                | index << INDEX_SHIFT,
        )
    }

    /// Makes a value and its handle; `make` gets the handle.
    pub(super) fn insert(&self, make: impl FnOnce(Handle) -> T) -> Rc<T> {
        let index = {
            let mut retired = self.retired.borrow_mut();
            if retired.len() > KEPT {
                retired.pop_front()
            } else {
                None
            }
        };
        let mut slots = self.slots.borrow_mut();
        let index = index.unwrap_or_else(|| {
            slots.push(Slot {
                generation: 0,
                value: None,
            });
            slots.len() - 1
        });
        assert!(index <= INDEX_MASK, "too many NDK objects or requests");
        let slot = &mut slots[index];
        slot.generation = slot.generation.wrapping_add(1) & GENERATION_MASK;
        let value = Rc::new(make(self.handle(index, slot.generation)));
        let old = slot.value.replace(Rc::clone(&value));
        drop(slots);
        drop(old);
        value
    }

    /// The value of a handle, perhaps a retired one.
    #[inline]
    pub(super) fn get(&self, handle: Handle) -> Option<Rc<T>> {
        let index = (handle.0 >> INDEX_SHIFT) & INDEX_MASK;
        let slots = self.slots.borrow();
        let slot = slots.get(index)?;
        if self.handle(index, slot.generation) != handle {
            return None;
        }
        slot.value.clone()
    }

    /// All values, those that are retired and not replaced too.
    pub(super) fn values(&self) -> Vec<Rc<T>> {
        let slots = self.slots.borrow();
        slots.iter().filter_map(|slot| slot.value.clone()).collect()
    }

    /// Lets a value's place be used again, later.
    pub(super) fn retire(&self, handle: Handle) {
        let index = (handle.0 >> INDEX_SHIFT) & INDEX_MASK;
        self.retired.borrow_mut().push_back(index);
    }

    /// Drops everything.
    pub(super) fn clear(&self) {
        let slots = std::mem::take(&mut *self.slots.borrow_mut());
        drop(slots);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_finds_its_value_until_long_after_it_was_retired() {
        let slab = Slab::new(Kind::Call);
        let mut handles = Vec::new();
        for n in 0..2000_usize {
            let mut handle = None;
            let value = slab.insert(|h| {
                handle = Some(h);
                n
            });
            let handle = handle.unwrap();
            assert!(!handles.contains(&handle), "handle {n} was given twice");
            assert_eq!(slab.get(handle), Some(value));
            slab.retire(handle);
            handles.push(handle);
        }
        assert_eq!(
            slab.get(handles[1999 - KEPT]).as_deref(),
            Some(&(1999 - KEPT))
        );
        assert_eq!(slab.get(handles[0]), None);
        assert_eq!(slab.get(Handle(0x1000)), None);
        assert_eq!(slab.get(Handle(handles[1999].0 | 8)), None);
    }

    #[test]
    fn handles_of_objects_and_calls_differ() {
        let (objects, calls) = (Slab::new(Kind::Object), Slab::new(Kind::Call));
        let mut handle = None;
        objects.insert(|h| handle = Some(h));
        calls.insert(|_| ());
        assert_eq!(calls.get(handle.unwrap()), None);
    }
}
