//! Work requests as they are posted.

use bitflags::bitflags;

/// One piece of local memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sge {
    /// Key of the region.
    pub key: u32,
    /// Address inside the region: `base_va` given at registration plus an offset.
    pub va: u64,
    /// Bytes.
    pub len: u32,
}

bitflags! {
    /// How a send-queue request is to be treated.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct SendFlags: u8 {
        /// No completion if it succeeds. Failure and flush still complete.
        const SILENT = 0x01;
        /// Start only when every earlier READ of this queue pair has its data.
        const FENCE = 0x02;
        /// The peer's receive completion counts as solicited.
        const SOLICITED = 0x04;
        /// More requests follow at once: need not be sent before one without this flag is posted.
        const DEFER = 0x08;
    }
}

/// What a send-queue request does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendOp {
    /// Send a message into the peer's next receive.
    Send,
    /// The same, and the peer invalidates this remote key.
    SendInvalidate(u32),
    /// Write to the peer's memory.
    Write {
        /// Address in the peer's region.
        remote_va: u64,
        /// The region's key.
        rkey: u32,
    },
    /// Read from the peer's memory into the local elements.
    Read {
        /// Address in the peer's region.
        remote_va: u64,
        /// The region's key.
        rkey: u32,
    },
}

/// A request for the send queue. Everything is copied when it is posted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SendRequest<'a> {
    /// Returned in the completion.
    pub context: u64,
    /// What to do.
    pub op: SendOp,
    /// Local memory: source, or for a READ destination.
    pub sgl: &'a [Sge],
    /// Data to send instead of `sgl`, gathered in order. Not for READ.
    pub inline: Option<&'a [&'a [u8]]>,
    /// Modifiers.
    pub flags: SendFlags,
}

/// Why a request was not accepted. It will not complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PostError {
    /// No such queue pair.
    UnknownQp,
    /// No such shared receive queue, or it has failed.
    UnknownSrq,
    /// The queue pair is not connected, or not any more; or, for a receive, its completion queue has failed.
    NotConnected,
    /// The queue has no free entry.
    QueueFull,
    /// More elements than the queue was created for.
    TooManySges,
    /// Longer than `Config::max_message`.
    TooLong,
    /// More inline data than the queue pair was created for.
    InlineTooLong,
    /// A READ, but the connection was set up with none allowed; or an inline READ; or a receive for a queue pair that receives
    /// from a shared queue.
    InvalidRequest,
}
