//! Completion queues: a bounded ring, and the one-shot notification that tells of new entries.

use crate::completion::{Completion, Status};
use crate::table::{IndexList, OutOfMemory, Table, id, try_vec};
use alloc::vec::Vec;

id! {
    /// A completion queue.
    CqId
}

impl CqId {
    /// A number below `Config::max_cqs` that no other live completion queue has.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0.index as usize
    }
}

/// What a notification is asked for. Of two requests that are not yet satisfied the later variant wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Arm {
    /// Failure of the queue, or an entry with an error status.
    Errors,
    /// A solicited receive, or what satisfies [`Arm::Errors`].
    Solicited,
    /// Any entry.
    Any,
}

/// What a notification says about the queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CqStatus {
    /// There are entries.
    Ready,
    /// More completions than the queue can hold. The queue and every queue pair that uses it are dead; entries already there
    /// can still be polled.
    Overflow,
    /// The queue failed otherwise, with the same consequences.
    Failed,
}

/// Why a completion queue could not be resized.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResizeError {
    /// No such queue.
    Unknown,
    /// Zero, or more than `Config::max_cq_depth`.
    InvalidDepth,
    /// It holds more entries than the new depth; it stays as it was.
    TooSmall,
    /// No memory; it stays as it was.
    OutOfMemory,
}

/// How many entries there have been that satisfy each kind of request.
#[derive(Clone, Copy, Default)]
struct Tally {
    errors: u64,
    solicited: u64,
    any: u64,
}

impl Tally {
    fn of(self, arm: Arm) -> u64 {
        match arm {
            Arm::Errors => self.errors,
            Arm::Solicited => self.solicited,
            Arm::Any => self.any,
        }
    }
}

/// The notification that is due but not yet taken by the caller.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    No,
    Once,
    /// Armed again and satisfied again before the first was taken.
    Twice,
}

/// One completion queue.
pub(crate) struct Cq {
    ring: Vec<Completion>,
    head: usize,
    count: usize,
    armed: Option<Arm>,
    added: Tally,
    /// `added` when the last notification was taken.
    told: Tally,
    due: Due,
    failure: Option<CqStatus>,
    failure_told: bool,
    /// Queue pairs that complete here.
    pub users: u32,
}

impl Cq {
    pub fn try_new(depth: u32) -> Result<Cq, OutOfMemory> {
        Ok(Cq {
            ring: try_vec(depth as usize, |_| Completion::default())?,
            head: 0,
            count: 0,
            armed: None,
            added: Tally::default(),
            told: Tally::default(),
            due: Due::No,
            failure: None,
            failure_told: false,
            users: 0,
        })
    }

    /// Adds an entry. False if it did not fit: the queue has failed now.
    fn push(&mut self, completion: &Completion) -> bool {
        if self.failure.is_some() {
            return true;
        }
        let free = self.ring.len() - self.count;
        // Neither term exceeds the length, so one subtraction brings the sum back into the ring.
        let mut at = self.head + self.count;
        if at >= self.ring.len() {
            at -= self.ring.len();
        }
        let slot = match self.ring.get_mut(at) {
            Some(slot) if free > 0 => slot,
            _ => {
                self.fail(CqStatus::Overflow);
                return false;
            }
        };
        *slot = *completion;
        self.count += 1;
        let error = completion.status != Status::Success;
        self.added.any = self.added.any.wrapping_add(1);
        if error || completion.solicited {
            self.added.solicited = self.added.solicited.wrapping_add(1);
        }
        if error {
            self.added.errors = self.added.errors.wrapping_add(1);
        }
        let satisfied = match self.armed {
            None => false,
            Some(Arm::Errors) => error,
            Some(Arm::Solicited) => error || completion.solicited,
            Some(Arm::Any) => true,
        };
        if satisfied {
            self.fire();
        }
        true
    }

    fn fire(&mut self) {
        self.armed = None;
        self.due = if self.due == Due::No {
            Due::Once
        } else {
            Due::Twice
        };
    }

    fn fail(&mut self, status: CqStatus) {
        if self.failure.is_none() {
            self.failure = Some(status);
            if self.armed.is_some() {
                self.fire();
            }
        }
    }

    fn arm(&mut self, arm: Arm) {
        if self.failure.is_some() {
            // The failure waited for somebody to ask.
            if !self.failure_told && self.due == Due::No {
                self.fire();
            }
            return;
        }
        let arm = self.armed.map_or(arm, |earlier| earlier.max(arm));
        self.armed = Some(arm);
        // Entries that came before the last notification may wait for a new one; later ones must not. While a notification
        // is due, whoever takes it will see everything there is now.
        if self.due == Due::No && self.added.of(arm) != self.told.of(arm) {
            self.fire();
        }
    }

    fn take_notification(&mut self) -> Option<CqStatus> {
        self.due = match self.due {
            Due::No => return None,
            Due::Once => Due::No,
            Due::Twice => Due::Once,
        };
        self.told = self.added;
        if let Some(failure) = self.failure {
            self.failure_told = true;
            self.due = Due::No;
            return Some(failure);
        }
        Some(CqStatus::Ready)
    }

    fn poll(&mut self, out: &mut [Completion]) -> usize {
        let n = out.len().min(self.count);
        for to in out.iter_mut().take(n) {
            if let Some(from) = self.ring.get(self.head) {
                *to = *from;
            }
            self.head += 1;
            if self.head >= self.ring.len() {
                self.head = 0;
            }
        }
        self.count -= n;
        n
    }

    fn resize(&mut self, depth: u32) -> Result<(), ResizeError> {
        if (depth as usize) < self.count {
            return Err(ResizeError::TooSmall);
        }
        let mut ring = try_vec(depth as usize, |_| Completion::default())
            .map_err(|OutOfMemory| ResizeError::OutOfMemory)?;
        let count = self.poll(&mut ring);
        self.ring = ring;
        self.head = 0;
        self.count = count;
        Ok(())
    }
}

/// All completion queues of an adapter.
pub(crate) struct CqSet {
    table: Table<Cq>,
    /// Queues with a notification due.
    due: IndexList,
    /// Queues that have failed, and whose queue pairs do not know yet.
    pub failed: u32,
}

impl CqSet {
    pub fn try_new(capacity: u32) -> Result<CqSet, OutOfMemory> {
        Ok(CqSet {
            table: Table::try_new(capacity)?,
            due: IndexList::try_new(capacity)?,
            failed: 0,
        })
    }

    pub fn is_full(&self) -> bool {
        self.table.is_full()
    }

    pub fn insert(&mut self, cq: Cq) -> Option<CqId> {
        self.table.insert(cq).ok().map(CqId)
    }

    pub fn get_mut(&mut self, id: CqId) -> Option<&mut Cq> {
        self.table.get_mut(id.0)
    }

    pub fn remove(&mut self, id: CqId) -> Option<Cq> {
        self.table.remove(id.0)
    }

    /// Queues in use.
    pub fn len(&self) -> u32 {
        self.table.len()
    }

    /// Whether the queue has failed. A queue that does not exist has.
    pub fn has_failed(&self, id: CqId) -> bool {
        self.table.get(id.0).is_none_or(|cq| cq.failure.is_some())
    }

    fn with<R>(&mut self, id: CqId, f: impl FnOnce(&mut Cq) -> R) -> Option<R> {
        let cq = self.table.get_mut(id.0)?;
        let result = f(cq);
        if cq.due != Due::No {
            self.due.push(id.0.index);
        }
        Some(result)
    }

    /// Adds an entry to a queue.
    pub fn push(&mut self, id: CqId, completion: &Completion) {
        if self.with(id, |cq| cq.push(completion)) == Some(false) {
            self.failed = self.failed.saturating_add(1);
        }
    }

    pub fn arm(&mut self, id: CqId, arm: Arm) {
        self.with(id, |cq| cq.arm(arm));
    }

    pub fn poll(&mut self, id: CqId, out: &mut [Completion]) -> usize {
        self.table.get_mut(id.0).map_or(0, |cq| cq.poll(out))
    }

    pub fn resize(&mut self, id: CqId, depth: u32) -> Result<(), ResizeError> {
        self.table
            .get_mut(id.0)
            .map_or(Err(ResizeError::Unknown), |cq| cq.resize(depth))
    }

    /// The next notification that is due.
    pub fn pop_notification(&mut self) -> Option<(CqId, CqStatus)> {
        while let Some(index) = self.due.pop() {
            // The queue may have been destroyed, and its slot even reused, since the index was pushed.
            let Some((slot, cq)) = self.table.at_mut(index) else {
                continue;
            };
            let Some(status) = cq.take_notification() else {
                continue;
            };
            if cq.due != Due::No {
                self.due.push(index);
            }
            return Some((CqId(slot), status));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(context: u64) -> Completion {
        Completion {
            context,
            ..Completion::default()
        }
    }

    fn solicited() -> Completion {
        Completion {
            solicited: true,
            ..Completion::default()
        }
    }

    fn error() -> Completion {
        Completion {
            status: Status::Flushed,
            ..Completion::default()
        }
    }

    fn set(depth: u32) -> (CqSet, CqId) {
        let mut s = CqSet::try_new(2).unwrap();
        let id = s.insert(Cq::try_new(depth).unwrap()).unwrap();
        (s, id)
    }

    fn drain(s: &mut CqSet, id: CqId) -> Vec<u64> {
        let mut out = [Completion::default(); 3];
        let mut all = Vec::new();
        loop {
            let n = s.poll(id, &mut out);
            if n == 0 {
                return all;
            }
            all.extend(out[..n].iter().map(|c| c.context));
        }
    }

    #[test]
    fn entries_come_out_in_order_across_the_end_of_the_ring() {
        let (mut s, id) = set(5);
        for round in 0..7 {
            for i in 0..4 {
                s.push(id, &entry(round * 4 + i));
            }
            assert_eq!(
                drain(&mut s, id),
                (round * 4..round * 4 + 4).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn poll_takes_as_many_as_asked_for() {
        let (mut s, id) = set(4);
        (0..3).for_each(|i| s.push(id, &entry(i)));
        let mut out = [Completion::default(); 2];
        assert_eq!(s.poll(id, &mut []), 0);
        assert_eq!(s.poll(id, &mut out), 2);
        assert_eq!(s.poll(id, &mut out), 1);
        assert_eq!(out[0].context, 2);
        assert_eq!(s.poll(id, &mut out), 0);
    }

    #[test]
    fn unarmed_queues_are_silent() {
        let (mut s, id) = set(4);
        s.push(id, &error());
        assert_eq!(s.pop_notification(), None);
    }

    #[test]
    fn one_arm_gives_one_notification() {
        let (mut s, id) = set(8);
        s.arm(id, Arm::Any);
        assert_eq!(s.pop_notification(), None);
        (0..3).for_each(|i| s.push(id, &entry(i)));
        assert_eq!(s.pop_notification(), Some((id, CqStatus::Ready)));
        s.push(id, &entry(3));
        assert_eq!(s.pop_notification(), None);
    }

    #[test]
    fn entries_newer_than_the_last_notification_satisfy_an_arm_at_once() {
        let (mut s, id) = set(8);
        s.push(id, &entry(0));
        s.arm(id, Arm::Any);
        assert_eq!(s.pop_notification(), Some((id, CqStatus::Ready)));
        // Nothing new since: wait.
        s.arm(id, Arm::Any);
        assert_eq!(s.pop_notification(), None);
        s.push(id, &entry(1));
        assert_eq!(s.pop_notification(), Some((id, CqStatus::Ready)));
        // New but polled already: still new since the last notification.
        s.push(id, &entry(2));
        assert_eq!(drain(&mut s, id).len(), 3);
        s.arm(id, Arm::Any);
        assert_eq!(s.pop_notification(), Some((id, CqStatus::Ready)));
    }

    /// All nine pairs of arms, against the three kinds of entries.
    #[test]
    fn two_arms_merge_to_the_stronger() {
        use Arm::{Any, Errors, Solicited};
        for first in [Errors, Solicited, Any] {
            for second in [Errors, Solicited, Any] {
                let merged = match (first, second) {
                    (Any, _) | (_, Any) => Any,
                    (Solicited, _) | (_, Solicited) => Solicited,
                    _ => Errors,
                };
                for (c, strength) in [(entry(0), Any), (solicited(), Solicited), (error(), Errors)]
                {
                    let (mut s, id) = set(4);
                    s.arm(id, first);
                    s.arm(id, second);
                    s.push(id, &c);
                    // An entry fires an arm that is at least as broad as the narrowest that the entry satisfies.
                    assert_eq!(
                        s.pop_notification().is_some(),
                        merged >= strength,
                        "{first:?} {second:?} {c:?}"
                    );
                    assert_eq!(s.pop_notification(), None);
                }
            }
        }
    }

    #[test]
    fn rearming_before_the_notification_is_taken_loses_nothing() {
        let (mut s, id) = set(8);
        s.arm(id, Arm::Any);
        s.push(id, &entry(0));
        s.arm(id, Arm::Any);
        s.push(id, &entry(1));
        assert_eq!(s.pop_notification(), Some((id, CqStatus::Ready)));
        assert_eq!(s.pop_notification(), Some((id, CqStatus::Ready)));
        assert_eq!(s.pop_notification(), None);
        s.arm(id, Arm::Any);
        s.push(id, &entry(2));
        s.arm(id, Arm::Any);
        assert_eq!(s.pop_notification(), Some((id, CqStatus::Ready)));
        assert_eq!(s.pop_notification(), None);
        s.push(id, &entry(3));
        assert_eq!(s.pop_notification(), Some((id, CqStatus::Ready)));
    }

    #[test]
    fn overflow_is_told_once_and_entries_stay_readable() {
        let (mut s, id) = set(2);
        s.arm(id, Arm::Errors);
        (0..3).for_each(|i| s.push(id, &entry(i)));
        assert!(s.failed == 1 && s.has_failed(id));
        assert_eq!(s.pop_notification(), Some((id, CqStatus::Overflow)));
        s.push(id, &entry(9));
        s.arm(id, Arm::Any);
        assert_eq!(s.pop_notification(), None);
        assert_eq!(drain(&mut s, id), [0, 1]);
    }

    #[test]
    fn overflow_while_unarmed_waits_for_the_next_arm() {
        let (mut s, id) = set(1);
        (0..2).for_each(|i| s.push(id, &entry(i)));
        assert_eq!(s.pop_notification(), None);
        s.arm(id, Arm::Errors);
        assert_eq!(s.pop_notification(), Some((id, CqStatus::Overflow)));
        s.arm(id, Arm::Any);
        assert_eq!(s.pop_notification(), None);
    }

    #[test]
    fn resize_keeps_entries_or_refuses() {
        let (mut s, id) = set(3);
        (0..2).for_each(|i| s.push(id, &entry(i)));
        drain(&mut s, id);
        (2..5).for_each(|i| s.push(id, &entry(i)));
        assert_eq!(s.resize(id, 2), Err(ResizeError::TooSmall));
        assert_eq!(s.resize(id, 4), Ok(()));
        s.push(id, &entry(5));
        assert_eq!(s.failed, 0);
        assert_eq!(drain(&mut s, id), [2, 3, 4, 5]);
    }

    #[test]
    fn a_destroyed_queue_does_not_notify() {
        let (mut s, id) = set(3);
        s.arm(id, Arm::Any);
        s.push(id, &entry(0));
        s.remove(id);
        assert_eq!(s.pop_notification(), None);
        let other = s.insert(Cq::try_new(1).unwrap()).unwrap();
        s.push(id, &entry(0));
        assert_eq!(s.poll(other, &mut [Completion::default()]), 0);
        assert_eq!(s.pop_notification(), None);
    }
}
