//! Work requests as they are posted.

use crate::key::{Access, MrKey};
use crate::memory::RegionId;
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
        /// Start only when every earlier READ and atomic request of this queue pair has its data.
        const FENCE = 0x02;
        /// The peer's receive completion counts as solicited.
        const SOLICITED = 0x04;
        /// More requests follow at once: need not be sent before one without this flag is posted.
        const DEFER = 0x08;
        /// READ only: once the data is there, and before the request completes, the key of the first element is invalidated as by
        /// [`SendOp::Invalidate`]. A READ whose first element has a key that cannot be invalidated fails with
        /// [`Status::LocalOperation`](crate::Status::LocalOperation) without being sent (NDKPI: RDMA_READ_LOCAL_INVALIDATE; IBTA
        /// has no such operation).
        const INVALIDATE_LOCAL = 0x10;
        /// The marker of a drain: taken by a failed or flushed queue pair too, where it completes as flushed, behind everything that was
        /// posted before. Requests without this flag are [refused](PostError::NotConnected) there.
        const DRAIN = 0x20;
    }
}

/// What a send-queue request does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendOp {
    /// Send a message into the peer's next receive.
    Send,
    /// The same, and the peer's completion has these four bytes as they are here (IBTA 9.2.6).
    SendImmediate([u8; 4]),
    /// Send, and the peer invalidates this remote key before its receive completes (IBTA 9.4.1.1.2, NDKPI:
    /// NdkSendAndInvalidate). A key that the peer cannot invalidate ends the connection. Earlier READs through the key need
    /// [`SendFlags::FENCE`]: without it the key may be dead before their data has been taken.
    SendInvalidate(u32),
    /// Write to the peer's memory.
    Write {
        /// Address in the peer's region.
        remote_va: u64,
        /// The region's key.
        rkey: u32,
    },
    /// The same, and a receive of the peer's completes with these four bytes as they are here. Nothing comes into the receive's memory.
    WriteImmediate {
        /// Address in the peer's region.
        remote_va: u64,
        /// The region's key.
        rkey: u32,
        /// For the peer's completion.
        immediate: [u8; 4],
    },
    /// Read from the peer's memory into the local elements.
    Read {
        /// Address in the peer's region.
        remote_va: u64,
        /// The region's key.
        rkey: u32,
    },
    /// Eight bytes of the peer's memory, as a number in the peer's byte order, become `swap` if they are `compare` (IBTA 9.4.5). The
    /// local elements, eight bytes in all, receive what they were before, in this host's byte order. Counts as a READ against the limit of
    /// the connection.
    CompareSwap {
        /// Address in the peer's region, a multiple of eight.
        remote_va: u64,
        /// The region's key.
        rkey: u32,
        /// What they have to be.
        compare: u64,
        /// What they become.
        swap: u64,
    },
    /// The same with an addition, modulo 2^64.
    FetchAdd {
        /// Address in the peer's region, a multiple of eight.
        remote_va: u64,
        /// The region's key.
        rkey: u32,
        /// What is added.
        add: u64,
    },
    /// Local: gives a key made by [`Engine::register_fast`](crate::Engine::register_fast) access to memory (IBTA 10.6, NDKPI:
    /// NdkFastRegister). The post answers with the key that the registration will have; until the request has been executed, that
    /// key opens nothing.
    ///
    /// Fails with [`Status::LocalOperation`](crate::Status::LocalOperation), and the queue pair with it, if the entry still has a
    /// valid registration, or is gone.
    FastRegister {
        /// The entry: its newest key.
        key: MrKey,
        /// Address of the first byte, as the peer and work requests will name it.
        base: u64,
        /// Bytes.
        len: u64,
        /// What is permitted.
        access: Access,
        /// The memory.
        region: RegionId,
    },
    /// Local: lets the peer of this queue pair, and of no other, at part of a region through the window's key (IBTA 10.6.7, type 2;
    /// NDKPI: NdkBind). What the window was bound to before is no longer accessible through it. The post answers with the key that
    /// the window will have; until the request has been executed, that key opens nothing. With length 0 the window opens nothing
    /// afterwards, and the request completes when no transmission that the NIC holds reads through it.
    ///
    /// Fails with [`Status::WindowBind`](crate::Status::WindowBind), and the queue pair with it, if the region's key is not valid or
    /// the range is not inside the region.
    Bind {
        /// The window: its newest key.
        window: MrKey,
        /// The region: a key that is valid, or that a registration posted before will make valid. Means nothing if `len` is 0.
        mr: MrKey,
        /// First byte: an address inside the region, and the one that the peer will use.
        va: u64,
        /// Bytes.
        len: u64,
        /// What the peer is permitted, [`Access::LOCAL_WRITE`] being ignored. Writing and atomics need
        /// [`Access::LOCAL_WRITE`] on the region.
        access: Access,
    },
    /// Local: ends the access that a fast registered key or a window gives (IBTA 10.6, NDKPI: NdkInvalidate). Executed when all earlier
    /// requests of the queue pair are done; the key opens nothing from then on. Completes when, besides, no transmission that the NIC
    /// holds reads through the key.
    ///
    /// Fails with [`Status::LocalOperation`](crate::Status::LocalOperation), and the queue pair with it, if the key is not valid:
    /// because the peer has invalidated it, for instance.
    Invalidate {
        /// The key to invalidate, as a whole: tag and all.
        key: MrKey,
    },
}

/// A request for the send queue. Everything is copied when it is posted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SendRequest<'a> {
    /// Returned in the completion.
    pub context: u64,
    /// What to do.
    pub op: SendOp,
    /// Local memory: source, or for a READ or atomic request destination.
    pub sgl: &'a [Sge],
    /// Data to send instead of `sgl`, gathered in order. Not for what brings data back.
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
    /// A READ or atomic request, but the connection was set up with none allowed, or it is inline; an atomic request with other than
    /// eight bytes of elements; a local operation with elements or inline data;
    /// [`SendFlags::INVALIDATE_LOCAL`] on anything but a READ with elements; or a receive for a queue pair that receives from a
    /// shared queue.
    InvalidRequest,
    /// The key to register, to bind or to invalidate does not exist, is not the newest of its entry, or is not of the kind for that.
    UnknownKey,
    /// The key belongs to another protection domain than the queue pair.
    WrongPd,
    /// Rights for the peer on a key that was made without remote use, or to write through a window over a region that cannot be
    /// written.
    AccessDenied,
    /// The key has a registration or binding that has been posted and not been executed.
    KeyBusy,
    /// The range wraps around the end of the address space.
    InvalidRange,
}
