//! All completion queues of an adapter, and which of them have something to tell.

use super::{Arm, Cq, CqId, CqMemory, CqStatus, Due, ModerateError, ResizeError};
use crate::completion::Completion;
use crate::table::{IndexList, OutOfMemory, Table};
use crate::time::Instant;
use crate::timers::Timers;

/// All completion queues of an adapter.
pub(crate) struct CqSet {
    table: Table<Cq>,
    /// Queues with a notification due.
    due: IndexList,
    /// Queues whose notification waits for more entries.
    timers: Timers,
    /// The latest time told.
    pub(super) now: Instant,
    /// Queues that have failed, and whose queue pairs do not know yet.
    pub failed: u32,
}

impl CqSet {
    pub fn try_new(capacity: u32) -> Result<CqSet, OutOfMemory> {
        Ok(CqSet {
            table: Table::try_new(capacity)?,
            due: IndexList::try_new(capacity)?,
            timers: Timers::try_new(capacity)?,
            now: Instant::ZERO,
            failed: 0,
        })
    }

    /// Tells the time. It never goes back.
    pub fn see(&mut self, now: Instant) {
        self.now = now;
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

    fn with<R>(&mut self, id: CqId, f: impl FnOnce(&mut Cq, Instant) -> R) -> Option<R> {
        let cq = self.table.get_mut(id.0)?;
        let result = f(cq, self.now);
        if cq.due != Due::No {
            self.due.push(id.0.index);
        }
        if let Some(at) = cq.deadline() {
            self.timers.wake(id.0.index, at);
        }
        Some(result)
    }

    /// Adds an entry to a queue.
    pub fn push(&mut self, id: CqId, completion: &Completion) {
        if self.with(id, |cq, now| cq.push(now, completion)) == Some(false) {
            self.failed = self.failed.saturating_add(1);
        }
    }

    pub fn arm(&mut self, id: CqId, arm: Arm) {
        self.with(id, |cq, now| cq.arm(now, arm));
    }

    pub fn disarm(&mut self, id: CqId) {
        self.with(id, |cq, _| cq.disarm());
    }

    pub fn moderate(
        &mut self,
        id: CqId,
        interval_us: u32,
        count: u32,
    ) -> Result<(), ModerateError> {
        self.with(id, |cq, now| cq.moderate(now, interval_us, count))
            .unwrap_or(Err(ModerateError::Unknown))
    }

    /// Fails a queue, unless it has failed.
    pub fn fail(&mut self, id: CqId) {
        if !self.has_failed(id) {
            self.with(id, |cq, _| cq.fail(CqStatus::Failed));
            self.failed = self.failed.saturating_add(1);
        }
    }

    /// Fails all queues that have not failed, or of whose failure nobody has been told.
    pub fn fail_all(&mut self) {
        for index in 0..self.table.slots() {
            if let Some((slot, cq)) = self.table.at_mut(index) {
                // Flushing everything may have overflown it: that is not what its owner is to hear.
                if !cq.failure_told && cq.failure.is_some() {
                    cq.failure = Some(CqStatus::Failed);
                }
                self.fail(CqId(slot));
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Ends waits that have lasted long enough.
    pub fn handle_timeout(&mut self) {
        while let Some(index) = self.timers.pop_due(self.now) {
            if let Some((slot, _)) = self.table.at(index) {
                self.with(CqId(slot), Cq::on_timer);
            }
        }
    }

    pub fn poll(&mut self, id: CqId, out: &mut [Completion]) -> usize {
        self.table.get_mut(id.0).map_or(0, |cq| cq.poll(out))
    }

    pub fn resize(&mut self, id: CqId, memory: &mut CqMemory) -> Result<(), ResizeError> {
        self.with(id, |cq, now| {
            cq.resize(memory)?;
            cq.on_timer(now);
            Ok(())
        })
        .unwrap_or(Err(ResizeError::Unknown))
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
