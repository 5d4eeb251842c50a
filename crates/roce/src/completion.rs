//! What the engine reports about finished work requests.

/// How a work request ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Status {
    /// It did what it was asked to.
    #[default]
    Success,
    /// Given up because the queue pair was flushed, or because an earlier request failed.
    Flushed,
    /// The incoming message is longer than the receive buffers.
    LocalLength,
    /// A local key does not give access to a local buffer, or the memory could not be reached.
    LocalProtection,
    /// The queue pair could not execute an operation, its own or the peer's; or a queue that it completes into or receives from has
    /// failed.
    LocalOperation,
    /// The peer answered a READ or an atomic request with something else than was asked for.
    BadResponse,
    /// The peer says the request is invalid.
    RemoteInvalidRequest,
    /// The peer denies access to its memory.
    RemoteAccess,
    /// The peer could not execute the request.
    RemoteOperation,
    /// A window could not be bound: the region's key is not valid when the turn comes, or the range is not inside the region.
    WindowBind,
    /// The peer asked this side to invalidate a key that cannot be invalidated.
    RemoteInvalidate,
    /// The peer does not answer; all retries are used up.
    RetryExceeded,
    /// The peer has no receive posted; all retries are used up.
    RnrRetryExceeded,
}

/// What kind of request a completion belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum CompletionOp {
    /// SEND, with or without invalidate or immediate data.
    #[default]
    Send,
    /// RDMA WRITE, with or without immediate data.
    Write,
    /// RDMA READ.
    Read,
    /// COMPARE & SWAP.
    CompareSwap,
    /// FETCH & ADD.
    FetchAdd,
    /// Fast registration.
    FastRegister,
    /// Binding of a window.
    Bind,
    /// Local invalidation.
    Invalidate,
    /// A receive consumed by a SEND (or not consumed: flushed).
    Receive,
    /// A receive consumed by a SEND with invalidate; `Completion::invalidated` names the key.
    ReceiveInvalidate,
    /// A receive consumed by a WRITE with immediate; the data went where the peer said.
    ReceiveWrite,
}

/// One entry of a completion queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Completion {
    /// The request's context, as posted.
    pub context: u64,
    /// The queue pair's context, as created. The queue pair may be gone.
    pub qp_context: u64,
    /// How it ended.
    pub status: Status,
    /// What it was.
    pub op: CompletionOp,
    /// Bytes received; meaningful for successful receives.
    pub bytes: u32,
    /// The key the peer invalidated.
    pub invalidated: Option<u32>,
    /// Immediate data that came with the message, in wire order.
    pub immediate: Option<[u8; 4]>,
    /// The peer marked the message as solicited.
    pub solicited: bool,
}
