//! Reliable connected queue pairs: requester and responder as separate state machines over PSN arithmetic.
//!
//! `qp` holds a queue pair together. Its one half sends requests: `requester` cuts those of the `send_queue` into packets, and
//! `ack` takes what comes back, which `said` reads, as far as `counting` believes it; `rtt` and `mending` say what is sent again after a loss, and when; `doubt`
//! notices when nothing comes back. The other half answers: `responder` executes the peer's requests
//! into buffers of the `recv_queue`, `replay` sends READ data, again if the peer asks again, `owed` keeps the acknowledgement that
//! is due, `early` the requests that came before those that were lost, and `parked` the completions that wait. `congestion` slows both
//! down, and has the peer slowed down. Both use `link`, what is known of the connection, `frame`, which builds packets,
//! and `sgl`, which walks element lists.

mod ack;
mod congestion;
mod counting;
mod doubt;
pub(crate) mod early;
mod frame;
mod link;
mod mending;
mod owed;
mod parked;
pub(crate) mod qp;
pub(crate) mod recv_queue;
mod replay;
mod requester;
mod responder;
mod rtt;
mod said;
mod send_queue;
mod sgl;

pub use qp::QpMemory;
pub(crate) use responder::Request;

use crate::cq::CqId;
use crate::table::id;

id! {
    /// A queue pair.
    QpId
}

impl QpId {
    /// A number below `Config::max_qps` that no other live queue pair has.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0.index as usize
    }
}

/// What a queue pair is created with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QpParams {
    /// Its protection domain.
    pub pd: crate::PdId,
    /// Where send-queue requests complete.
    pub send_cq: CqId,
    /// Where receives complete.
    pub recv_cq: CqId,
    /// Requests the send queue can hold.
    pub sq_depth: u32,
    /// The shared receive queue to receive from, instead of a queue of its own: `rq_depth` and `max_recv_sge` mean nothing then.
    pub srq: Option<crate::SrqId>,
    /// Requests the receive queue can hold.
    pub rq_depth: u32,
    /// Elements of a SEND or WRITE.
    pub max_send_sge: u32,
    /// Elements of a receive.
    pub max_recv_sge: u32,
    /// Elements of a READ.
    pub max_read_sge: u32,
    /// Bytes of inline data.
    pub max_inline: u32,
    /// Whether atomic requests can be posted: their operands take 16 bytes for each place of the send queue. The peer's are answered in
    /// any case.
    pub atomics: bool,
    /// Returned in every completion as `qp_context`.
    pub context: u64,
}

impl QpParams {
    /// Depth and elements of its own receive queue.
    pub(crate) fn own_receives(&self) -> (u32, u32) {
        match self.srq {
            Some(_) => (0, 0),
            None => (self.rq_depth, self.max_recv_sge),
        }
    }
}
