//! Creating and destroying objects.

use super::{CreateError, DestroyError, Engine, Pd, PdId};
use crate::cq::{Cq, CqId, CqMemory, ResizeError};
use crate::key::{Access, DeregisterError, MrKey, RegisterError};
use crate::memory::RegionId;
use crate::rc::qp::Qp;
use crate::rc::{QpId, QpMemory, QpParams};
use crate::table::OutOfMemory;
use crate::time::Instant;

impl Engine {
    /// Creates a protection domain.
    ///
    /// # Errors
    /// [`CreateError::TableFull`], [`CreateError::EngineFailed`].
    pub fn create_pd(&mut self) -> Result<PdId, CreateError> {
        self.may_create()?;
        self.pds
            .insert(Pd::default())
            .map(PdId)
            .map_err(|_| CreateError::TableFull)
    }

    /// Destroys a protection domain.
    ///
    /// # Errors
    /// [`DestroyError::Busy`] while it has queue pairs, shared receive queues or keys.
    pub fn destroy_pd(&mut self, pd: PdId) -> Result<(), DestroyError> {
        match self.pds.get(pd.0) {
            None => Err(DestroyError::Unknown),
            Some(p) if p.users > 0 => Err(DestroyError::Busy),
            Some(_) => {
                self.pds.remove(pd.0);
                Ok(())
            }
        }
    }

    /// Creates a completion queue for `depth` entries, 1 to `Config::max_cq_depth`.
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn create_cq(&mut self, depth: u32) -> Result<CqId, CreateError> {
        if depth > self.config.max_cq_depth {
            return Err(CreateError::InvalidParameter);
        }
        self.create_cq_in(CqMemory::try_new(depth)?)
    }

    /// The same, in memory got beforehand.
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn create_cq_in(&mut self, memory: CqMemory) -> Result<CqId, CreateError> {
        self.may_create()?;
        if !self.is_cq_depth(memory.depth()) {
            return Err(CreateError::InvalidParameter);
        }
        self.cqs
            .insert(Cq::new(memory))
            .ok_or(CreateError::TableFull)
    }

    fn is_cq_depth(&self, depth: usize) -> bool {
        (1..=self.config.max_cq_depth as usize).contains(&depth)
    }

    /// Changes a completion queue's depth; its entries stay.
    ///
    /// # Errors
    /// [`ResizeError`].
    pub fn resize_cq(&mut self, cq: CqId, depth: u32) -> Result<(), ResizeError> {
        if depth > self.config.max_cq_depth {
            return Err(ResizeError::InvalidDepth);
        }
        let memory = CqMemory::try_new(depth).map_err(|OutOfMemory| ResizeError::OutOfMemory)?;
        self.resize_cq_in(cq, &mut { memory })
    }

    /// The same, with memory got beforehand. What the queue had is there afterwards.
    ///
    /// # Errors
    /// [`ResizeError`].
    pub fn resize_cq_in(&mut self, cq: CqId, memory: &mut CqMemory) -> Result<(), ResizeError> {
        if !self.is_cq_depth(memory.depth()) {
            return Err(ResizeError::InvalidDepth);
        }
        self.cqs.resize(cq, memory)
    }

    /// Destroys a completion queue and the entries in it.
    ///
    /// # Errors
    /// [`DestroyError::Busy`] while queue pairs use it.
    pub fn destroy_cq(&mut self, cq: CqId) -> Result<(), DestroyError> {
        match self.cqs.get_mut(cq) {
            None => Err(DestroyError::Unknown),
            Some(c) if c.users > 0 => Err(DestroyError::Busy),
            Some(_) => {
                self.cqs.remove(cq);
                Ok(())
            }
        }
    }

    /// Creates a queue pair. Receives can be posted at once, sends when a connection is established.
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn create_qp(&mut self, params: &QpParams) -> Result<QpId, CreateError> {
        self.check_qp(params)?;
        self.create_qp_in(QpMemory::try_new(&self.config, params)?)
    }

    /// The same, in memory got beforehand, by this engine's configuration.
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn create_qp_in(&mut self, mut memory: QpMemory) -> Result<QpId, CreateError> {
        let params = *memory.params();
        self.check_qp(&params)?;
        // The elements of shared receives are of the shared queue's domain.
        if let Some((pd, ..)) = params.srq.and_then(|srq| self.srqs.shape(srq)) {
            memory.receive_in(pd);
        }
        let id = QpId(self.qps.next_slot().ok_or(CreateError::TableFull)?);
        let number = self.draw_qpn();
        self.qps
            .insert(Qp::new(id, number, memory))
            .map_err(|_| CreateError::TableFull)?;
        self.qpns.assign(id.0.index, number);
        self.count_qp(&params, true);
        Ok(id)
    }

    fn check_qp(&mut self, params: &QpParams) -> Result<(), CreateError> {
        self.may_create()?;
        let c = &self.config;
        let (rq_depth, max_recv_sge) = params.own_receives();
        let depths = [params.sq_depth, rq_depth];
        let sges = [params.max_send_sge, max_recv_sge, params.max_read_sge];
        if depths.iter().any(|d| *d > c.max_queue_depth)
            || sges.iter().any(|s| *s > c.max_sge)
            || params.max_inline > c.max_inline
        {
            return Err(CreateError::InvalidParameter);
        }
        if self.pds.get(params.pd.0).is_none()
            || self.cqs.get_mut(params.send_cq).is_none()
            || self.cqs.get_mut(params.recv_cq).is_none()
            || params
                .srq
                .is_some_and(|srq| self.srqs.get_mut(srq).is_none())
        {
            return Err(CreateError::UnknownObject);
        }
        // What completes there would never be told.
        if self.cqs.has_failed(params.send_cq)
            || self.cqs.has_failed(params.recv_cq)
            || params.srq.is_some_and(|srq| self.srqs.has_failed(srq))
        {
            return Err(CreateError::DeadQueue);
        }
        Ok(())
    }

    /// Destroys a queue pair: flushes it first, and aborts its connection if it still has one.
    ///
    /// # Errors
    /// [`DestroyError::Busy`] if the NIC still reads its memory; [`Event::QpIdle`](crate::Event::QpIdle) follows.
    pub fn destroy_qp(&mut self, now: Instant, qp: QpId) -> Result<(), DestroyError> {
        self.see(now);
        let (conn, dying) = match self.qps.get_mut(qp.0) {
            None => return Err(DestroyError::Unknown),
            Some(q) => (q.conn, core::mem::replace(&mut q.dying, true)),
        };
        if dying {
            return Err(DestroyError::Unknown);
        }
        if let Some(conn) = conn {
            self.cm.abort(self.now, conn);
        }
        let quiet = self.with_qp(qp, |q, shared| {
            q.flush(shared);
            q.silence();
            q.is_quiet()
        });
        if quiet == Some(false) {
            return Err(DestroyError::Busy);
        }
        self.remove_qp(qp);
        Ok(())
    }

    pub(super) fn remove_qp(&mut self, qp: QpId) {
        if let Some(q) = self.qps.remove(qp.0) {
            self.qpns.release(qp.0.index);
            self.count_qp(&q.params, false);
        }
    }

    /// Counts a queue pair as a user of what it refers to, or no longer.
    fn count_qp(&mut self, params: &QpParams, more: bool) {
        let step = |users: &mut u32| {
            *users = if more {
                *users + 1
            } else {
                users.saturating_sub(1)
            }
        };
        if let Some(pd) = self.pds.get_mut(params.pd.0) {
            step(&mut pd.users);
        }
        for cq in [params.send_cq, params.recv_cq] {
            if let Some(cq) = self.cqs.get_mut(cq) {
                step(&mut cq.users);
            }
        }
        if let Some(srq) = params.srq.and_then(|srq| self.srqs.get_mut(srq)) {
            step(&mut srq.users);
        }
    }

    /// The queue pair's number on the wire.
    #[must_use]
    pub fn qp_number(&self, qp: QpId) -> Option<u32> {
        self.qps.get(qp.0).map(|q| q.number)
    }

    /// Registers memory: `len` bytes that the peer and work requests address from `base_va` on.
    ///
    /// # Errors
    /// [`RegisterError`].
    pub fn register(
        &mut self,
        pd: PdId,
        base_va: u64,
        len: u64,
        access: Access,
        region: RegionId,
    ) -> Result<MrKey, RegisterError> {
        let users = &mut self
            .pds
            .get_mut(pd.0)
            .ok_or(RegisterError::UnknownPd)?
            .users;
        let key = self.keys.register(pd, base_va, len, access, region)?;
        *users += 1;
        Ok(key)
    }

    /// Makes a key that gives access to nothing until [`SendOp::FastRegister`](crate::SendOp::FastRegister) registers it, and after
    /// [`SendOp::Invalidate`](crate::SendOp::Invalidate) or the peer's SEND with invalidate until the next registration (IBTA 10.6,
    /// NDKPI: NdkInitializeFastRegisterMr). Its registrations can give the peer access only if `remote`.
    ///
    /// # Errors
    /// [`RegisterError::UnknownPd`], [`RegisterError::TableFull`].
    pub fn register_fast(&mut self, pd: PdId, remote: bool) -> Result<MrKey, RegisterError> {
        let users = &mut self
            .pds
            .get_mut(pd.0)
            .ok_or(RegisterError::UnknownPd)?
            .users;
        let key = self.keys.register_fast(pd, remote)?;
        *users += 1;
        Ok(key)
    }

    /// Makes a memory window: a key through which the peer gets at part of a region once [`SendOp::Bind`](crate::SendOp::Bind) has
    /// bound it, and which opens nothing until then. Windows count as keys. `name` is what events call it.
    ///
    /// # Errors
    /// [`RegisterError::UnknownPd`], [`RegisterError::TableFull`].
    pub fn create_window(&mut self, pd: PdId, name: u64) -> Result<MrKey, RegisterError> {
        let users = &mut self
            .pds
            .get_mut(pd.0)
            .ok_or(RegisterError::UnknownPd)?
            .users;
        let key = self.keys.create_window(pd, name)?;
        *users += 1;
        Ok(key)
    }

    /// Ends a window, whatever it is bound to; `window` is its newest key. A binding that has been posted fails when its turn comes.
    ///
    /// # Errors
    /// [`DeregisterError::Unknown`]; [`DeregisterError::Busy`] if the NIC still reads through it:
    /// [`Event::WindowIdle`](crate::Event::WindowIdle) follows.
    pub fn destroy_window(&mut self, window: MrKey) -> Result<(), DeregisterError> {
        let given = self.keys.destroy_window(window);
        self.count_key_off(given)
    }

    /// The protection domain has one key less.
    fn count_key_off(
        &mut self,
        given: Result<PdId, (DeregisterError, Option<PdId>)>,
    ) -> Result<(), DeregisterError> {
        let (pd, result) = match given {
            Ok(pd) => (Some(pd), Ok(())),
            Err((error, pd)) => (pd, Err(error)),
        };
        if let Some(p) = pd.and_then(|pd| self.pds.get_mut(pd.0)) {
            p.users = p.users.saturating_sub(1);
        }
        result
    }

    /// The key to use for what an entry gives access to, or will when the registration or binding posted last has been executed.
    /// `newest` is the entry's newest key, by which its owner asks for it: of the two, only that of a registration or binding that was
    /// flushed has ended without ever giving access.
    #[must_use]
    pub fn current_key(&self, newest: MrKey) -> Option<MrKey> {
        self.keys.current(newest)
    }

    /// Of two regions that a fast registered entry refers to in turn, the one that its next registration can have: through the other
    /// there is access, or transmissions still read it. `key` is the newest key.
    #[must_use]
    pub fn spare_region(&self, key: MrKey, regions: [RegionId; 2]) -> RegionId {
        self.keys.spare_region(key, regions)
    }

    /// The region that is accessible through an entry now: `key` is its newest key, and need not be valid yet. `None` if it has no
    /// valid registration.
    #[must_use]
    pub fn valid_region(&self, key: MrKey) -> Option<RegionId> {
        self.keys.valid_region(key)
    }

    /// Ends a registration. The key is dead at once, also for requests already posted. Fast registered keys are ended by their newest
    /// key and in any state; a registration of theirs that has been posted fails when its turn comes.
    ///
    /// # Errors
    /// [`DeregisterError::Busy`] if the NIC still reads the memory, or windows are bound to it or posted to be, which go on giving
    /// access; [`Event::RegionIdle`](crate::Event::RegionIdle) follows.
    pub fn deregister(&mut self, key: MrKey) -> Result<(), DeregisterError> {
        let given = self.keys.deregister(key);
        self.count_key_off(given)
    }
}
