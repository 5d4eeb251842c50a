//! Memory of queue pairs.

use crate::PdId;
use crate::config::Config;
use crate::rc::QpParams;
use crate::rc::congestion::Congestion;
use crate::rc::parked::Parked;
use crate::rc::recv_queue::RecvQueue;
use crate::rc::responder::Responder;
use crate::rc::send_queue::{Limits, SendQueue};
use crate::table::OutOfMemory;

/// Receives of one queue pair that can be done and wait for the NIC, at most.
const MAX_PARKED: u32 = 256;

/// The same for a queue pair that shares its receives: it has no queue of its own that says how many it may need, and there may be very
/// many like it. The peer repeats what finds no room.
const MAX_PARKED_OF_SHARED: u32 = 16;

/// Memory of a queue pair that is still to be created: for who must not be held up by the getting of it.
pub struct QpMemory {
    pub(super) params: QpParams,
    pub(super) sq: SendQueue,
    /// Room for one receive at a time if they come from a shared queue.
    pub(super) rq: RecvQueue,
    pub(super) parked: Parked,
    pub(super) responder: Responder,
    pub(super) congestion: Congestion,
}

impl QpMemory {
    /// For a queue pair of an engine with this configuration.
    ///
    /// # Errors
    /// No memory.
    pub fn try_new(config: &Config, params: &QpParams) -> Result<QpMemory, OutOfMemory> {
        let limits = Limits {
            depth: params.sq_depth,
            send_sge: params.max_send_sge,
            read_sge: params.max_read_sge,
            inline: params.max_inline,
            atomics: params.atomics,
            message: config.max_message,
        };
        let (depth, max_sge) = match params.srq {
            Some(_) => (1, config.max_sge),
            None => params.own_receives(),
        };
        let parked = match params.srq {
            Some(_) => MAX_PARKED_OF_SHARED,
            None => params.rq_depth.clamp(1, MAX_PARKED),
        };
        Ok(QpMemory {
            params: *params,
            sq: SendQueue::try_new(limits)?,
            rq: RecvQueue::try_new(params.pd, depth, max_sge, config.max_message)?,
            parked: Parked::try_new(parked)?,
            responder: Responder::try_new(config.max_inbound_reads)?,
            congestion: Congestion::try_new(config.ecn.dcqcn())?,
        })
    }

    pub(crate) fn params(&self) -> &QpParams {
        &self.params
    }

    /// Receives name keys of this protection domain.
    pub(crate) fn receive_in(&mut self, pd: PdId) {
        self.rq.pd = pd;
    }
}
