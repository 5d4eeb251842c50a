//! Posting work and collecting completions.

use super::Engine;
use crate::completion::Completion;
use crate::cq::{Arm, CqId};
use crate::rc::QpId;
use crate::request::{PostError, SendFlags, SendRequest, Sge};
use crate::time::Instant;

impl Engine {
    /// Posts a request to a send queue.
    ///
    /// # Errors
    /// [`PostError`]; requests deferred earlier go out all the same.
    pub fn post_send(
        &mut self,
        now: Instant,
        qp: QpId,
        request: &SendRequest<'_>,
    ) -> Result<(), PostError> {
        self.see(now);
        let q = self.qps.get_mut(qp.0).ok_or(PostError::UnknownQp)?;
        let result = q.post_send(request);
        if (result.is_err() || !request.flags.contains(SendFlags::DEFER)) && q.has_work() {
            self.ready.push(qp.0.index);
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
        self.with_qp(qp, |q, shared| q.flush(shared.cqs));
    }

    /// Takes entries out of a completion queue, oldest first. Gives how many.
    pub fn poll_cq(&mut self, cq: CqId, out: &mut [Completion]) -> usize {
        self.cqs.poll(cq, out)
    }

    /// Asks for one [`Event::CqNotify`](crate::Event::CqNotify). A second request before that event widens the first.
    pub fn arm_cq(&mut self, cq: CqId, arm: Arm) {
        self.cqs.arm(cq, arm);
    }
}
