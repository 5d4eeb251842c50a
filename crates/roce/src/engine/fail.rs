//! The end of everything at once: the adapter is reset, broken or gone.

use super::{CreateError, Engine};
use crate::connection::CmError;
use crate::rc::QpId;
use crate::rc::qp::Qp;
use crate::time::Instant;

impl Engine {
    /// Fails the engine as a whole, for an adapter that is reset, broken or gone. Idempotent, and final: a new engine begins anew.
    ///
    /// * Nothing is sent any more, and what is received is dropped. No deadline is left.
    /// * Every connection ends: with [`Event::Disconnected`](crate::Event::Disconnected), or `ConnectFailed` or `EstablishFailed`
    ///   where that was awaited, because of `EngineFailed`; where the owner's decision was awaited, that is refused with
    ///   [`CmError::EngineFailed`]. A `disconnect` under way ends with [`DisconnectResult::Timeout`](crate::DisconnectResult::Timeout).
    /// * Every queue pair fails, and its requests complete as flushed. Requests that the NIC still holds do not complete any more:
    ///   an owner who stops the NIC and gives everything back ([`transmitted`](Self::transmitted)) before this call loses none.
    /// * Then every completion queue fails, and every shared receive queue: after
    ///   [`CqStatus::Failed`](crate::CqStatus::Failed) no completion is added (NDKPI 4.4), and those that are there can be polled.
    /// * Posts, new objects and new connections are refused. Everything can be destroyed and forgotten as ever; what the NIC still
    ///   holds has to be given back first, as ever.
    pub fn fail(&mut self, now: Instant) {
        self.see(now);
        if self.failed {
            return;
        }
        self.failed = true;
        self.cm.fail();
        for index in 0..self.qps.slots() {
            if let Some((slot, _)) = self.qps.at(index) {
                self.with_qp_only(QpId(slot), Qp::fail_for_queue);
            }
        }
        self.srqs.fail_all();
        self.cqs.fail_all();
        self.fail_users_of_dead_queues();
    }

    /// Whether [`fail`](Self::fail) was called.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Whether objects can be created.
    pub(super) fn may_create(&self) -> Result<(), CreateError> {
        if self.failed {
            Err(CreateError::EngineFailed)
        } else {
            Ok(())
        }
    }

    /// Whether connections can be made.
    pub(super) fn may_connect(&self) -> Result<(), CmError> {
        if self.failed {
            Err(CmError::EngineFailed)
        } else {
            Ok(())
        }
    }
}
