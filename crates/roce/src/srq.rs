//! Shared receive queues: receives that several queue pairs take from, and the one-shot notification that they run low.

use crate::PdId;
use crate::config::Config;
use crate::rc::recv_queue::RecvQueue;
use crate::request::{PostError, Sge};
use crate::table::{IndexList, OutOfMemory, Table, id};

id! {
    /// A shared receive queue.
    SrqId
}

impl SrqId {
    /// A number below `Config::max_srqs` that no other live shared receive queue has.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0.index as usize
    }
}

/// What a notification says about a shared receive queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SrqStatus {
    /// Fewer receives are queued than the threshold says. None follows until the threshold is set again.
    Low,
    /// The queue failed. The receives in it are lost without completions, and every queue pair that uses it is dead.
    Failed,
}

/// Why a shared receive queue could not be modified. It is as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ModifySrqError {
    /// No such queue.
    Unknown,
    /// More than `Config::max_srq_depth`.
    InvalidDepth,
    /// The threshold in effect would exceed the depth in effect.
    InvalidThreshold,
    /// It holds more receives than the new depth.
    TooSmall,
    /// The memory is for receives with another number of elements, or of another protection domain.
    OtherShape,
    /// No memory.
    OutOfMemory,
}

/// Whether running low will be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Watch {
    /// No threshold was ever set, or it has been told.
    Off,
    /// A new queue is empty: not before it has held as many as the threshold says.
    Filling,
    On,
}

/// Memory of a shared receive queue that is still to be created or resized: for who must not be held up by the getting of it.
pub struct SrqMemory(pub(crate) RecvQueue);

impl SrqMemory {
    /// For `depth` receives of `max_sge` elements, in an engine with this configuration.
    ///
    /// # Errors
    /// No memory.
    pub fn try_new(
        config: &Config,
        pd: PdId,
        depth: u32,
        max_sge: u32,
    ) -> Result<SrqMemory, OutOfMemory> {
        RecvQueue::try_new(pd, depth, max_sge, config.max_message).map(SrqMemory)
    }
}

/// One shared receive queue.
pub(crate) struct Srq {
    queue: RecvQueue,
    threshold: u32,
    watch: Watch,
    /// The notification that is due but not yet taken by the caller.
    due: Option<SrqStatus>,
    failed: bool,
    /// Queue pairs that receive from it.
    pub users: u32,
}

impl Srq {
    pub fn new(queue: RecvQueue, threshold: u32) -> Srq {
        Srq {
            queue,
            threshold,
            watch: if threshold > 0 {
                Watch::Filling
            } else {
                Watch::Off
            },
            due: None,
            failed: false,
            users: 0,
        }
    }

    fn post(&mut self, context: u64, sgl: &[Sge]) -> Result<(), PostError> {
        if self.failed {
            return Err(PostError::UnknownSrq);
        }
        self.queue.post(context, sgl)?;
        if self.watch == Watch::Filling && self.queue.len() >= self.threshold {
            self.watch = Watch::On;
        }
        Ok(())
    }

    fn take(&mut self, to: &mut RecvQueue) {
        if !self.failed && self.queue.move_front(to) {
            self.look();
        }
    }

    /// Tells that the queue runs low, if it does and somebody wants to know.
    fn look(&mut self) {
        if self.watch == Watch::On && self.queue.len() < self.threshold {
            self.watch = Watch::Off;
            self.due = Some(SrqStatus::Low);
        }
    }

    /// Moves to other memory, if there is some, and leaves its own there.
    fn modify(
        &mut self,
        memory: Option<&mut SrqMemory>,
        threshold: u32,
    ) -> Result<(), ModifySrqError> {
        let shape = |queue: &RecvQueue| (queue.pd, queue.max_sge());
        if memory
            .as_ref()
            .is_some_and(|m| shape(&m.0) != shape(&self.queue))
        {
            return Err(ModifySrqError::OtherShape);
        }
        let new_depth = memory.as_ref().map_or(self.queue.depth(), |m| m.0.depth());
        let new_threshold = if threshold == 0 {
            self.threshold
        } else {
            threshold
        };
        if new_threshold > new_depth {
            return Err(ModifySrqError::InvalidThreshold);
        }
        if new_depth < self.queue.len() {
            return Err(ModifySrqError::TooSmall);
        }
        if let Some(SrqMemory(queue)) = memory {
            while self.queue.move_front(queue) {}
            core::mem::swap(&mut self.queue, queue);
        }
        if threshold > 0 && !self.failed {
            self.threshold = threshold;
            self.watch = Watch::On;
            self.look();
        }
        Ok(())
    }

    fn fail(&mut self) {
        self.failed = true;
        self.watch = Watch::Off;
        self.due = Some(SrqStatus::Failed);
    }
}

/// All shared receive queues of an adapter.
pub(crate) struct SrqSet {
    table: Table<Srq>,
    /// Queues with a notification due.
    due: IndexList,
    /// A queue failed, and its queue pairs do not know yet.
    pub failed: bool,
}

impl SrqSet {
    pub fn try_new(capacity: u32) -> Result<SrqSet, OutOfMemory> {
        Ok(SrqSet {
            table: Table::try_new(capacity)?,
            due: IndexList::try_new(capacity)?,
            failed: false,
        })
    }

    /// Queues in use.
    pub fn len(&self) -> u32 {
        self.table.len()
    }

    pub fn insert(&mut self, srq: Srq) -> Option<SrqId> {
        self.table.insert(srq).ok().map(SrqId)
    }

    pub fn get_mut(&mut self, id: SrqId) -> Option<&mut Srq> {
        self.table.get_mut(id.0)
    }

    /// Removes a queue and gives the protection domain that it belonged to.
    pub fn remove(&mut self, id: SrqId) -> Option<PdId> {
        self.table.remove(id.0).map(|srq| srq.queue.pd)
    }

    /// The protection domain, depth and most elements of a queue.
    pub fn shape(&self, id: SrqId) -> Option<(PdId, u32, u32)> {
        let queue = &self.table.get(id.0)?.queue;
        Some((queue.pd, queue.depth(), queue.max_sge()))
    }

    /// Whether the queue has failed. A queue that does not exist has.
    pub fn has_failed(&self, id: SrqId) -> bool {
        self.table.get(id.0).is_none_or(|srq| srq.failed)
    }

    /// Whether there is no receive to be had.
    pub fn is_empty(&self, id: SrqId) -> bool {
        self.table
            .get(id.0)
            .is_none_or(|srq| srq.failed || srq.queue.is_empty())
    }

    fn with<R>(&mut self, id: SrqId, f: impl FnOnce(&mut Srq) -> R) -> Option<R> {
        let srq = self.table.get_mut(id.0)?;
        let result = f(srq);
        if srq.due.is_some() {
            self.due.push(id.0.index);
        }
        Some(result)
    }

    /// Adds a receive.
    pub fn post(&mut self, id: SrqId, context: u64, sgl: &[Sge]) -> Result<(), PostError> {
        self.with(id, |srq| srq.post(context, sgl))
            .unwrap_or(Err(PostError::UnknownSrq))
    }

    /// Moves the oldest receive, if there is one, to the queue of a queue pair.
    pub fn take(&mut self, id: SrqId, to: &mut RecvQueue) {
        self.with(id, |srq| srq.take(to));
    }

    pub fn modify(
        &mut self,
        id: SrqId,
        memory: Option<&mut SrqMemory>,
        threshold: u32,
    ) -> Result<(), ModifySrqError> {
        self.with(id, |srq| srq.modify(memory, threshold))
            .unwrap_or(Err(ModifySrqError::Unknown))
    }

    /// Fails a queue, unless it has failed.
    pub fn fail(&mut self, id: SrqId) {
        if !self.has_failed(id) {
            self.with(id, Srq::fail);
            self.failed = true;
        }
    }

    /// Fails all queues.
    pub fn fail_all(&mut self) {
        for index in 0..self.table.slots() {
            if let Some((slot, _)) = self.table.at(index) {
                self.fail(SrqId(slot));
            }
        }
    }

    /// The next notification that is due.
    pub fn pop_notification(&mut self) -> Option<(SrqId, SrqStatus)> {
        while let Some(index) = self.due.pop() {
            // The queue may have been destroyed, and its slot even reused, since the index was pushed.
            if let Some((slot, srq)) = self.table.at_mut(index)
                && let Some(status) = srq.due.take()
            {
                return Some((SrqId(slot), status));
            }
        }
        None
    }
}
