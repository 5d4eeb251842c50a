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
    /// Calls a function with two arguments: schedules without allocating.
    Plain(fn(usize, u64), usize, u64),
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
    /// Entries of the heap whose events were cancelled.
    cancelled: Cell<usize>,
}

/// Fewer cancelled entries than this are not worth tidying up.
const TIDY: usize = 256;

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
        // The slot is given back when its heap entry comes up, or when there are many such.
        let cancelled = self.cancelled.get() + 1;
        self.cancelled.set(cancelled);
        if cancelled >= TIDY && cancelled > self.heap.borrow().len() / 2 {
            self.tidy();
        }
        true
    }

    /// Takes the entries of cancelled events out of the heap. Timers that are set again and again make many.
    fn tidy(&self) {
        let slots = self.slots.borrow();
        let mut free = self.free.borrow_mut();
        self.heap.borrow_mut().retain(|Reverse((_, _, slot))| {
            let live = slots[*slot as usize].event.is_some();
            if !live {
                free.push(*slot);
            }
            live
        });
        self.cancelled.set(0);
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
            self.cancelled.set(self.cancelled.get() - 1);
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
        self.cancelled.set(0);
        drop(slots);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue_with(times: &[u64]) -> (EventQueue, Vec<EventId>) {
        let queue = EventQueue::default();
        let ids = times
            .iter()
            .map(|at| queue.push(*at, Event::Plain(|_, _| (), 0, *at), None, false))
            .collect();
        (queue, ids)
    }

    fn drain(queue: &EventQueue) -> Vec<u64> {
        let mut order = Vec::new();
        while let Some(due) = queue.take_due(u64::MAX) {
            match due.event {
                Event::Plain(_, _, at) => order.push(at),
                _ => unreachable!("only plain events were pushed"),
            }
        }
        order
    }

    #[test]
    fn events_come_in_the_order_of_time() {
        let (queue, ids) = queue_with(&[30, 10, 20, 40]);
        assert!(queue.take_due(9).is_none());
        assert!(queue.cancel(ids[2]));
        assert!(!queue.cancel(ids[2]));
        assert_eq!(drain(&queue), [10, 30, 40]);
        assert!(queue.is_idle());
        assert!(!queue.cancel(ids[0]));
    }

    #[test]
    fn an_old_name_does_not_cancel_a_new_event() {
        let (queue, ids) = queue_with(&[1]);
        assert_eq!(drain(&queue), [1]);
        queue.push(2, Event::Plain(|_, _| (), 0, 2), None, false);
        assert!(!queue.cancel(ids[0]));
        assert_eq!(drain(&queue), [2]);
    }

    #[test]
    fn cancelled_events_do_not_pile_up() {
        let queue = EventQueue::default();
        for at in 0..100_000 {
            let id = queue.push(at, Event::Plain(|_, _| (), 0, at), None, false);
            assert!(queue.cancel(id));
        }
        let kept = queue.push(7, Event::Plain(|_, _| (), 0, 7), None, false);
        assert!(queue.heap.borrow().len() <= TIDY + 1);
        assert!(queue.slots.borrow().len() <= TIDY + 1);
        assert_eq!(drain(&queue), [7]);
        assert!(!queue.cancel(kept));
    }
}
