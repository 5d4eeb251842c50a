//! What is going to happen: a queue ordered by time, then by order of scheduling.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

use super::machine::Machine;

/// Names a scheduled event so that it can be cancelled. Stale names are harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventId {
    slot: u32,
    sequence: u64,
}

/// What an event does when its time has come.
pub(crate) enum Event {
    /// Calls a closure once.
    Once(Box<dyn FnOnce()>),
    /// Calls a shared closure with an argument: schedules without allocating.
    Shared(Rc<dyn Fn(u64)>, u64),
}

struct Slot {
    sequence: u64,
    event: Option<Event>,
    /// Made current, with its processor 0, while the event runs.
    machine: Option<Rc<Machine>>,
    background: bool,
}

/// The queue. Times are nanoseconds of the world's clock.
#[derive(Default)]
pub(crate) struct EventQueue {
    heap: RefCell<BinaryHeap<Reverse<(u64, u64, u32)>>>,
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<u32>>,
    sequence: Cell<u64>,
    foreground: Cell<usize>,
}

/// An event taken from the queue because it is due.
pub(crate) struct Due {
    pub(crate) event: Event,
    pub(crate) machine: Option<Rc<Machine>>,
}

impl EventQueue {
    /// Adds an event. A background event (periodic housekeeping) does not keep `run_until_idle` running.
    pub(crate) fn push(
        &self,
        at: u64,
        event: Event,
        machine: Option<Rc<Machine>>,
        background: bool,
    ) -> EventId {
        let sequence = self.sequence.get();
        self.sequence.set(sequence + 1);
        let mut slots = self.slots.borrow_mut();
        let content = Slot {
            sequence,
            event: Some(event),
            machine,
            background,
        };
        let slot = if let Some(slot) = self.free.borrow_mut().pop() {
            slots[slot as usize] = content;
            slot
        } else {
            slots.push(content);
            u32::try_from(slots.len() - 1).expect("fewer than 2^32 events")
        };
        self.heap.borrow_mut().push(Reverse((at, sequence, slot)));
        if !background {
            self.foreground.set(self.foreground.get() + 1);
        }
        EventId { slot, sequence }
    }

    /// Cancels an event that has not run yet; false if it has, or was cancelled before.
    pub(crate) fn cancel(&self, id: EventId) -> bool {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(id.slot as usize) else {
            return false;
        };
        if slot.sequence != id.sequence || slot.event.is_none() {
            return false;
        }
        let content = (slot.event.take(), slot.machine.take());
        if !slot.background {
            self.foreground.set(self.foreground.get() - 1);
        }
        // Dropping a closure may run arbitrary code: not while the slots are borrowed.
        drop(slots);
        drop(content);
        // The slot is given back when its heap entry comes up.
        true
    }

    /// The time of the earliest event.
    pub(crate) fn next_time(&self) -> Option<u64> {
        loop {
            let Reverse((at, sequence, slot)) = *self.heap.borrow().peek()?;
            let slots = self.slots.borrow();
            let content = &slots[slot as usize];
            if content.sequence == sequence && content.event.is_some() {
                return Some(at);
            }
            drop(slots);
            self.heap.borrow_mut().pop();
            self.free.borrow_mut().push(slot);
        }
    }

    /// Takes the earliest event if it is due at `now`.
    pub(crate) fn take_due(&self, now: u64) -> Option<Due> {
        if self.next_time()? > now {
            return None;
        }
        let Reverse((_, _, slot)) = self.heap.borrow_mut().pop()?;
        let mut slots = self.slots.borrow_mut();
        let content = &mut slots[slot as usize];
        let event = content.event.take()?;
        let machine = content.machine.take();
        if !content.background {
            self.foreground.set(self.foreground.get() - 1);
        }
        self.free.borrow_mut().push(slot);
        Some(Due { event, machine })
    }

    /// Whether nothing but background events is left.
    pub(crate) fn is_idle(&self) -> bool {
        self.foreground.get() == 0
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.heap.borrow_mut().clear();
        self.free.borrow_mut().clear();
        let slots = std::mem::take(&mut *self.slots.borrow_mut());
        self.foreground.set(0);
        drop(slots);
    }
}
