//! Shared receive queues: creating, feeding, changing, ending.

use super::{CreateError, DestroyError, Engine, PdId};
use crate::request::{PostError, Sge};
use crate::srq::{ModifySrqError, Srq, SrqId, SrqMemory};
use crate::table::OutOfMemory;
use crate::time::Instant;

impl Engine {
    /// Creates a queue of receives for several queue pairs: `depth` of them, 1 to `Config::max_srq_depth`, of `max_sge` elements
    /// each. With a `threshold` > 0, [`Event::SrqNotify`](crate::Event::SrqNotify) comes once when, after at least so many have
    /// been queued, fewer are (NDKPI: NdkCreateSrq; decision X-40: a new queue, which is empty, must not notify at once).
    ///
    /// A queue pair takes a receive when a message begins that needs one; the receive then completes on that queue pair's receive
    /// completion queue with its context, or is flushed with it. The others stay for other queue pairs whatever becomes of this one
    /// (IBTA 10.2.9).
    ///
    /// # Errors
    /// [`CreateError`]; a threshold above the depth is [`CreateError::InvalidParameter`].
    pub fn create_srq(
        &mut self,
        pd: PdId,
        depth: u32,
        max_sge: u32,
        threshold: u32,
    ) -> Result<SrqId, CreateError> {
        if depth > self.config.max_srq_depth || max_sge > self.config.max_sge {
            return Err(CreateError::InvalidParameter);
        }
        let memory = SrqMemory::try_new(&self.config, pd, depth, max_sge)?;
        self.create_srq_in(memory, threshold)
    }

    /// The same, in memory got beforehand, by this engine's configuration.
    ///
    /// # Errors
    /// As of [`create_srq`](Self::create_srq).
    pub fn create_srq_in(
        &mut self,
        memory: SrqMemory,
        threshold: u32,
    ) -> Result<SrqId, CreateError> {
        self.may_create()?;
        let c = &self.config;
        let SrqMemory(queue) = memory;
        let depth = queue.depth();
        if depth == 0 || depth > c.max_srq_depth || queue.max_sge() > c.max_sge || threshold > depth
        {
            return Err(CreateError::InvalidParameter);
        }
        let users = &mut self
            .pds
            .get_mut(queue.pd.0)
            .ok_or(CreateError::UnknownObject)?
            .users;
        let id = self
            .srqs
            .insert(Srq::new(queue, threshold))
            .ok_or(CreateError::TableFull)?;
        *users += 1;
        Ok(id)
    }

    /// Destroys a shared receive queue. The receives in it end without completions.
    ///
    /// # Errors
    /// [`DestroyError::Busy`] while queue pairs receive from it, dying ones included.
    pub fn destroy_srq(&mut self, srq: SrqId) -> Result<(), DestroyError> {
        match self.srqs.get_mut(srq) {
            None => return Err(DestroyError::Unknown),
            Some(s) if s.users > 0 => return Err(DestroyError::Busy),
            Some(_) => {}
        }
        if let Some(pd) = self.srqs.remove(srq).and_then(|pd| self.pds.get_mut(pd.0)) {
            pd.users = pd.users.saturating_sub(1);
        }
        Ok(())
    }

    /// Posts a receive for whichever queue pair needs one first.
    ///
    /// # Errors
    /// [`PostError::UnknownSrq`], also when it has failed; `QueueFull`, `TooManySges`, `TooLong`.
    pub fn post_srq_recv(
        &mut self,
        srq: SrqId,
        context: u64,
        sgl: &[Sge],
    ) -> Result<(), PostError> {
        self.srqs.post(srq, context, sgl)
    }

    /// Changes depth and threshold of a shared receive queue; 0 keeps what there is, for the threshold also whether it has been
    /// told. A threshold > 0 asks for one [`Event::SrqNotify`](crate::Event::SrqNotify), which comes at once if fewer receives are
    /// queued already (NDKPI: NdkModifySrq). What is queued stays.
    ///
    /// # Errors
    /// [`ModifySrqError`]; nothing has changed then.
    pub fn modify_srq(
        &mut self,
        srq: SrqId,
        depth: u32,
        threshold: u32,
    ) -> Result<(), ModifySrqError> {
        if depth > self.config.max_srq_depth {
            return Err(ModifySrqError::InvalidDepth);
        }
        let (pd, old, max_sge) = self.srqs.shape(srq).ok_or(ModifySrqError::Unknown)?;
        let mut memory = if depth == 0 || depth == old {
            None
        } else {
            let memory = SrqMemory::try_new(&self.config, pd, depth, max_sge)
                .map_err(|OutOfMemory| ModifySrqError::OutOfMemory)?;
            Some(memory)
        };
        self.modify_srq_in(srq, memory.as_mut(), threshold)
    }

    /// The same, with memory got beforehand if the depth is to change. What the queue had is there afterwards. The memory is to be for
    /// receives of as many elements as the queue's.
    ///
    /// # Errors
    /// [`ModifySrqError`]; nothing has changed then.
    pub fn modify_srq_in(
        &mut self,
        srq: SrqId,
        memory: Option<&mut SrqMemory>,
        threshold: u32,
    ) -> Result<(), ModifySrqError> {
        let most = self.config.max_srq_depth;
        if memory.as_ref().is_some_and(|m| m.0.depth() > most) {
            return Err(ModifySrqError::InvalidDepth);
        }
        self.srqs.modify(srq, memory, threshold)
    }

    /// Declares a shared receive queue unusable, for an owner that has found it so:
    /// [`SrqStatus::Failed`](crate::SrqStatus::Failed) is told once, its receives end without completions, and every queue pair that
    /// uses it fails: what those have under way completes as flushed.
    pub fn fail_srq(&mut self, now: Instant, srq: SrqId) {
        self.see(now);
        self.srqs.fail(srq);
        self.fail_users_of_dead_queues();
    }
}
