//! What a thread owns that others wait for: fast mutexes and resources. As with spin locks, it counts in which orders they are acquired.
//! The two are no part of one order: whoever holds a spin lock may not acquire these at all.

use std::cell::{Cell, RefCell};
use std::fmt;

use super::locks::Mode;
use super::{origin, rules, violation};
use crate::world::{context, thread};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    FastMutex,
    Resource,
}

/// A fast mutex or a resource.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lock {
    kind: Kind,
    mode: Mode,
    address: usize,
}

impl Lock {
    pub(crate) fn fast_mutex(address: usize) -> Lock {
        Lock {
            kind: Kind::FastMutex,
            mode: Mode::Exclusive,
            address,
        }
    }

    pub(crate) fn resource(address: usize, mode: Mode) -> Lock {
        Lock {
            kind: Kind::Resource,
            mode,
            address,
        }
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::FastMutex => "fast mutex",
            Kind::Resource => "resource",
        };
        write!(f, "the {kind} at {:#x}", self.address)
    }
}

/// A fast mutex or a resource that a thread owns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owned {
    pub(crate) lock: Lock,
    /// The function that acquired it.
    pub(crate) by: &'static str,
    /// The address in an image that this returned to, or 0.
    from: usize,
}

/// What a thread owns, in order of acquisition; a resource as often as it was acquired.
#[derive(Default)]
pub(crate) struct Mutexes {
    owned: RefCell<Vec<Owned>>,
    len: Cell<usize>,
}

impl Mutexes {
    fn change<R>(&self, f: impl FnOnce(&mut Vec<Owned>) -> R) -> R {
        let mut owned = self.owned.borrow_mut();
        let result = f(&mut owned);
        self.len.set(owned.len());
        result
    }

    /// A fast mutex of them in that memory.
    pub(crate) fn find_mutex(&self, inside: impl Fn(usize) -> bool) -> Option<usize> {
        let owned = self.owned.borrow();
        let mutexes = owned.iter().filter(|o| o.lock.kind == Kind::FastMutex);
        mutexes.map(|o| o.lock.address).find(|at| inside(*at))
    }

    fn owns(&self, address: usize) -> bool {
        self.owned
            .borrow()
            .iter()
            .any(|o| o.lock.address == address)
    }
}

/// How much the running thread owns.
#[inline]
pub(crate) fn count() -> usize {
    thread::with_mutexes(|m| m.len.get()).unwrap_or(0)
}

/// The running thread is going to wait for a lock that it does not own. Accuses if it owns another that has been acquired after this one
/// elsewhere.
pub(crate) fn check_order(lock: Lock, by: &'static str) {
    let owned = thread::with_mutexes(|m| m.owned.borrow().clone());
    let core = context::core();
    let order = &core.verifier.lock_order;
    if lock.kind == Kind::Resource
        && lock.mode == Mode::Exclusive
        && let Some((second, acquired, other)) = order.record_alone(lock.address)
    {
        violation(
            rules::LOCK_ORDER,
            format!(
                "{by} waits until nobody else has {lock}: with the lock at {second:#x} it has been acquired in both orders \
                 (by {acquired} and by {other}), and who shares it waits behind this one"
            ),
        );
    }
    for held in owned.iter().flatten() {
        let (first, second) = (held.lock, lock);
        let other = order.record(
            (first.address, first.mode),
            (second.address, second.mode),
            by,
        );
        if let Some(other) = other {
            violation(
                rules::LOCK_ORDER,
                format!(
                    "{by} acquires {lock} while {} is held (by {}); they have been acquired in the other order too (by {other})",
                    held.lock, held.by
                ),
            );
        }
    }
}

/// The running thread has acquired a fast mutex or a resource.
pub(crate) fn acquired(lock: Lock, by: &'static str) {
    let owned = Owned {
        lock,
        by,
        from: origin::caller(),
    };
    thread::with_mutexes(|m| m.change(|all| all.push(owned)));
}

/// The running thread gives one back, that it acquired last if there are several; false if it owns none there.
pub(crate) fn released(address: usize) -> bool {
    let taken = thread::with_mutexes(|m| {
        m.change(|all| {
            let index = all.iter().rposition(|o| o.lock.address == address)?;
            Some(all.remove(index))
        })
    });
    taken.flatten().is_some()
}

/// Whether the running thread owns it already.
pub(crate) fn is_owned(address: usize) -> bool {
    thread::with_mutexes(|m| m.owns(address)).unwrap_or(false)
}

/// Accuses the running thread, which owns more than the first `before`, and forgets those. `function` has returned.
#[cold]
#[inline(never)]
pub(crate) fn kept(before: usize, function: &str) {
    let kept = thread::with_mutexes(|m| m.change(|all| all.split_off(before)));
    let kept: String = kept
        .iter()
        .flatten()
        .map(|o| {
            format!(
                "\n    {}, acquired by {}{}",
                o.lock,
                o.by,
                origin::at(o.from)
            )
        })
        .collect();
    violation(
        rules::LOCK_AT_RETURN,
        format!("{function} returned, and its thread still owns what it acquired there:{kept}"),
    );
}
