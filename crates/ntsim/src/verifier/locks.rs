//! Which spin locks a processor's code holds, and in which orders locks have been acquired.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::mem::offset_of;

use ndis_sys::wdm::FAST_MUTEX;

/// How a spin lock was acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// By a function that raised the IRQL.
    Raised,
    /// By an `AtDpcLevel` function.
    AtDpc,
    /// By an in-stack queued function that raised the IRQL.
    QueuedRaised,
    /// By an in-stack queued function at DISPATCH_LEVEL.
    QueuedAtDpc,
}

impl Kind {
    /// Whether the lock is acquired with a handle in a queue.
    fn is_queued(self) -> bool {
        matches!(self, Kind::QueuedRaised | Kind::QueuedAtDpc)
    }
}

/// A lock held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    /// Address of the KSPIN_LOCK (or what plays its part).
    pub(crate) lock: usize,
    pub(crate) kind: Kind,
    /// IRQL before it was acquired.
    pub(crate) old_irql: u8,
    /// The function that acquired it.
    pub(crate) by: &'static str,
    /// The address in an image that this returned to, or 0.
    pub(crate) from: usize,
}

impl Held {
    /// A line of a report.
    pub(crate) fn told(self) -> String {
        format!(
            "\n    the lock at {:#x}, acquired by {}{}",
            self.lock,
            self.by,
            super::origin::at(self.from)
        )
    }
}

const DEPTH: usize = 16;

/// The locks a processor's code holds, in order of acquisition.
pub(crate) struct LockStack {
    held: [Cell<Option<Held>>; DEPTH],
    len: Cell<usize>,
    /// IRQL before the first of them was acquired.
    base_irql: Cell<u8>,
}

impl Default for LockStack {
    fn default() -> Self {
        LockStack {
            held: [const { Cell::new(None) }; DEPTH],
            len: Cell::new(0),
            base_irql: Cell::new(0),
        }
    }
}

impl LockStack {
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.len.get()
    }

    /// The IRQL to be at when none is held any more.
    pub(crate) fn base_irql(&self) -> u8 {
        self.base_irql.get()
    }

    /// False if too many locks are held to keep track of.
    #[inline]
    pub(crate) fn push(&self, held: Held) -> bool {
        let len = self.len.get();
        let Some(slot) = self.held.get(len) else {
            return false;
        };
        slot.set(Some(held));
        if len == 0 {
            self.base_irql.set(held.old_irql);
        }
        self.len.set(len + 1);
        true
    }

    /// Takes a lock off, wherever it is in the stack.
    #[inline]
    pub(crate) fn remove(&self, lock: usize) -> Option<Held> {
        let len = self.len.get();
        let index = (0..len)
            .rev()
            .find(|i| self.held[*i].get().is_some_and(|h| h.lock == lock))?;
        let held = self.held[index].get();
        for i in index..len - 1 {
            self.held[i].set(self.held[i + 1].get());
        }
        self.held[len - 1].set(None);
        self.len.set(len - 1);
        held
    }

    /// Forgets locks acquired after the first `len`.
    pub(crate) fn truncate(&self, len: usize) {
        while self.len.get() > len {
            self.len.set(self.len.get() - 1);
            self.held[self.len.get()].set(None);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Held> + '_ {
        self.held[..self.len.get()].iter().filter_map(Cell::get)
    }
}

/// How a lock is held, or waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// By one alone. Spin locks and fast mutexes always are.
    Exclusive,
    /// A resource, together with others.
    Shared,
}

/// The functions that acquired one lock while another was held, by how that was held and how this was acquired.
#[derive(Clone, Copy, Default)]
struct Acquired([Option<&'static str>; 4]);

impl Acquired {
    fn slot(&mut self, held: Mode, wanted: Mode) -> &mut Option<&'static str> {
        &mut self.0[held as usize * 2 + wanted as usize]
    }

    fn each(&self) -> impl Iterator<Item = (Mode, Mode, &'static str)> + '_ {
        const MODES: [Mode; 2] = [Mode::Exclusive, Mode::Shared];
        let all = self.0.iter().enumerate();
        all.filter_map(|(slot, by)| Some((MODES[slot / 2], MODES[slot % 2], (*by)?)))
    }
}

/// The orders in which locks have been acquired: who was held when another was taken.
#[derive(Default)]
pub(crate) struct LockOrder {
    /// For each lock, those acquired while it was held.
    after: RefCell<BTreeMap<usize, BTreeMap<usize, Acquired>>>,
    /// Resources that somebody waits for who wants them alone. Who wants to share one waits behind him, though others share it
    /// (nf-ntddk-exacquireresourcesharedlite).
    waited_for: RefCell<BTreeSet<usize>>,
    /// The fast mutexes among them.
    mutexes: RefCell<BTreeSet<usize>>,
    /// Locks that nobody will release: those that a handler or callback held when it returned, and its name.
    left: RefCell<BTreeMap<usize, &'static str>>,
    /// For each lock, how it was first acquired, and by which function.
    kinds: RefCell<BTreeMap<usize, (Kind, &'static str)>>,
}

impl LockOrder {
    /// Records that `second` was acquired while `first` was held. If somewhere `first` was acquired while `second`
    /// was held, perhaps by way of other locks, and each would wait for the other, tells by which function.
    pub(crate) fn record(
        &self,
        (first, held): (usize, Mode),
        (second, wanted): (usize, Mode),
        by: &'static str,
    ) -> Option<&'static str> {
        {
            let mut after = self.after.borrow_mut();
            let acquired = after.entry(first).or_default().entry(second).or_default();
            if acquired.slot(held, wanted).replace(by).is_some() {
                return None;
            }
        }
        self.ring((first, held), (second, wanted))
    }

    /// Records that somebody waits until nobody else has a resource. If it closes a ring of those who share it, tells of a lock in it, by
    /// which function that was acquired, and by which the resource.
    pub(crate) fn record_alone(
        &self,
        resource: usize,
    ) -> Option<(usize, &'static str, &'static str)> {
        if !self.waited_for.borrow_mut().insert(resource) {
            return None;
        }
        let next = self.after.borrow().get(&resource).cloned()?;
        next.iter().find_map(|(second, acquired)| {
            let mut shared = acquired.each().filter(|(held, ..)| *held == Mode::Shared);
            shared.find_map(|(held, wanted, by)| {
                let other = self.ring((resource, held), (*second, wanted))?;
                Some((*second, by, other))
            })
        })
    }

    /// Whether who wants a lock in that way waits for who holds it in that.
    fn waits(&self, lock: usize, wanted: Mode, held: Mode) -> bool {
        (wanted, held) != (Mode::Shared, Mode::Shared) || self.waited_for.borrow().contains(&lock)
    }

    /// If who holds `first` and wants `second` can wait for himself: the function that acquires the next lock of the ring.
    fn ring(&self, first: (usize, Mode), second: (usize, Mode)) -> Option<&'static str> {
        let after = self.after.borrow();
        let mut reached = vec![second];
        let mut open = vec![(second, None)];
        while let Some(((lock, wanted), via)) = open.pop() {
            for (next, acquired) in after.get(&lock).into_iter().flatten() {
                for (held, next_wanted, by) in acquired.each() {
                    if !self.waits(lock, wanted, held) {
                        continue;
                    }
                    let via = via.or(Some(by));
                    if *next == first.0 && self.waits(*next, next_wanted, first.1) {
                        return via;
                    }
                    if !reached.contains(&(*next, next_wanted)) {
                        reached.push((*next, next_wanted));
                        open.push(((*next, next_wanted), via));
                    }
                }
            }
        }
        None
    }

    /// Notes that a fast mutex is there.
    pub(crate) fn note_mutex(&self, address: usize) {
        self.mutexes.borrow_mut().insert(address);
    }

    /// An event was initialised: if it is that of a fast mutex, so is the mutex, whose other parts its macro sets by itself.
    pub(crate) fn initialised(&self, event: usize) {
        let mutex = event.wrapping_sub(offset_of!(FAST_MUTEX, Event));
        if self.mutexes.borrow().contains(&mutex) {
            self.forget(mutex, 1);
        }
    }

    /// Records how a lock is acquired. If that mixes queued and ordinary use, tells by which function it was acquired first.
    #[inline]
    pub(crate) fn mixes(&self, lock: usize, kind: Kind, by: &'static str) -> Option<&'static str> {
        let mut kinds = self.kinds.borrow_mut();
        let (first, function) = *kinds.entry(lock).or_insert((kind, by));
        (first.is_queued() != kind.is_queued()).then_some(function)
    }

    /// Notes that a handler or callback returned with a lock held.
    pub(crate) fn leave(&self, lock: usize, function: &'static str) {
        self.left.borrow_mut().insert(lock, function);
    }

    /// The handler or callback that returned with a lock held.
    pub(crate) fn left_by(&self, lock: usize) -> Option<&'static str> {
        self.left.borrow().get(&lock).copied()
    }

    /// Forgets locks in memory that is freed or initialised: what comes there next is another lock.
    pub(crate) fn forget(&self, start: usize, len: usize) {
        let gone = |lock: &usize| lock.wrapping_sub(start) < len;
        self.left.borrow_mut().retain(|lock, _| !gone(lock));
        self.kinds.borrow_mut().retain(|lock, _| !gone(lock));
        self.mutexes.borrow_mut().retain(|lock| !gone(lock));
        self.waited_for.borrow_mut().retain(|lock| !gone(lock));
        let mut after = self.after.borrow_mut();
        if after.is_empty() {
            return;
        }
        after.retain(|lock, seconds| {
            seconds.retain(|second, _| !gone(second));
            !gone(lock) && !seconds.is_empty()
        });
    }
}
