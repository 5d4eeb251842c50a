//! Posting work and collecting completions.

use super::Engine;
use crate::completion::Completion;
use crate::cq::{Arm, CqId, ModerateError};
use crate::key::MrKey;
use crate::rc::QpId;
use crate::rc::qp::Qp;
use crate::request::{PostError, SendFlags, SendRequest, Sge};
use crate::time::Instant;

impl Engine {
    /// Posts a request to a send queue. The answer to a [`SendOp::FastRegister`](crate::SendOp::FastRegister) is the key that the
    /// registration will have; there is none for other requests.
    ///
    /// Its place in the queue is free again when its entry is made, or when it is done silently; that the completion queue has room is
    /// up to the consumer (decision X-19).
    ///
    /// # Errors
    /// [`PostError`]; requests deferred earlier go out all the same.
    pub fn post_send(
        &mut self,
        now: Instant,
        qp: QpId,
        request: &SendRequest<'_>,
    ) -> Result<Option<MrKey>, PostError> {
        self.see(now);
        let q = self.qps.get_mut(qp.0).ok_or(PostError::UnknownQp)?;
        let result = q.post_send(request, &mut self.keys, &self.cqs);
        if (result.is_err() || !request.flags.contains(SendFlags::DEFER)) && q.has_work() {
            self.ready.push(qp.0.index);
        }
        if result.is_ok() && request.flags.contains(SendFlags::DRAIN) {
            self.with_qp(qp, Qp::complete_ready);
        }
        result
    }

    /// Posts a receive. In a failed or flushed queue pair it completes as flushed.
    ///
    /// # Errors
    /// [`PostError`].
    pub fn post_recv(
        &mut self,
        now: Instant,
        qp: QpId,
        context: u64,
        sgl: &[Sge],
    ) -> Result<(), PostError> {
        self.see(now);
        self.with_qp(qp, |q, shared| q.post_recv(context, sgl, shared.cqs))
            .unwrap_or(Err(PostError::UnknownQp))
    }

    /// Completes everything pending on both queues as flushed; requests that the NIC still reads follow when it is done with
    /// them. A queue pair that is or was connected takes no further sends, and its connection is left to
    /// [`disconnect`](Self::disconnect) or [`forget`](Self::forget).
    pub fn flush(&mut self, now: Instant, qp: QpId) {
        self.see(now);
        self.with_qp(qp, |q, shared| q.flush(shared));
    }

    /// Takes entries out of a completion queue, oldest first. Gives how many. Those of one send queue, and of one receive queue, come in
    /// the order of their posts; between queues there is no order (decision X-31).
    pub fn poll_cq(&mut self, cq: CqId, out: &mut [Completion]) -> usize {
        self.cqs.poll(cq, out)
    }

    /// Asks for one [`Event::CqNotify`](crate::Event::CqNotify). A second request before that event widens the first.
    ///
    /// Decisions: entries newer than the last event satisfy it at once if one of them is of the kind asked for; a queue that
    /// failed while nothing was asked for tells it then.
    pub fn arm_cq(&mut self, now: Instant, cq: CqId, arm: Arm) {
        self.see(now);
        self.cqs.arm(cq, arm);
    }

    /// Takes back what was asked for and has not been satisfied: for an owner that is about to tell of an earlier event, in which whoever
    /// asked again meanwhile finds everything.
    pub fn disarm_cq(&mut self, cq: CqId) {
        self.cqs.disarm(cq);
    }

    /// Lets notifications of a completion queue wait for more to tell: up to `interval_us` microseconds from the first entry that
    /// satisfies the arm on, or until there are `count` entries, that one included, whichever comes first.
    /// [`MODERATION_UNLIMITED`](crate::MODERATION_UNLIMITED) is no limit of its kind, nor is a count that the queue cannot hold. An
    /// interval of 0, or a count of 0 or 1, is no moderation, as in a new queue. Errors, and a queue that is full or has failed,
    /// are told at once. A wait in progress is measured by the new limits (NDKPI: NdkControlCqInterruptModeration, whose page crosses
    /// the names of interval and count: decision X-11).
    ///
    /// # Errors
    /// [`ModerateError`]; nothing has changed then.
    pub fn moderate_cq(
        &mut self,
        now: Instant,
        cq: CqId,
        interval_us: u32,
        count: u32,
    ) -> Result<(), ModerateError> {
        self.see(now);
        self.cqs.moderate(cq, interval_us, count)
    }

    /// Declares a completion queue unusable, for an owner that has found it so: nothing more completes there,
    /// [`CqStatus::Failed`](crate::CqStatus::Failed) is told once, when somebody asks, and every queue pair that uses it fails.
    pub fn fail_cq(&mut self, now: Instant, cq: CqId) {
        self.see(now);
        self.cqs.fail(cq);
        self.fail_users_of_dead_queues();
    }
}
