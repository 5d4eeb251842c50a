//! RoCEv2 as a sans-IO engine: wire formats, reliable connections, connection manager.
//!
//! [`Engine`] is fed received frames, posted work and the time; it is asked for frames to send, completions, events and its next
//! deadline. It never reads a clock, takes a lock, calls back, or allocates once an object exists: for connections that peers
//! ask for, too, once their places have been [reserved](Engine::reserve). Memory is reached through
//! [`Memory`], a trait of the caller. `examples/two_engines.rs` does all of it between two engines, in one page and a half.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::todo,
        reason = "a panic in a driver stops the machine, and the wire must not be able to cause one"
    )
)]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod chunks;
pub mod cm;
mod completion;
mod config;
mod connection;
mod counters;
mod cq;
mod ecn;
mod engine;
mod event;
mod key;
mod memory;
mod numbers;
mod path;

pub mod psn;
mod rc;
mod request;
mod rng;
mod srq;
mod table;
pub mod time;
mod timers;
mod transmit;
pub mod wire;

pub use chunks::Chunks;
pub use completion::{Completion, CompletionOp, Status};
pub use config::{Config, MAX_INLINE, MAX_SGE};
pub use connection::{
    AcceptParams, CmError, ConnId, ConnInfo, ConnState, ConnectFailure, ConnectParams,
    DisconnectReason, DisconnectResult, ListenerId, MAX_REJECT_DATA, MAX_REPLY_DATA,
    MAX_REQUEST_DATA,
};
pub use counters::Counters;
pub use cq::{Arm, CqId, CqMemory, CqStatus, MODERATION_UNLIMITED, ModerateError, ResizeError};
pub use ecn::{Dcqcn, Ecn};
pub use engine::{CreateError, DestroyError, Engine, PdId, Usage, Verdict};
pub use event::Event;
pub use key::{Access, DeregisterError, MrKey, RegisterError};
pub use memory::{Atomic, Crc32, Fault, Memory, RegionId};
pub use path::{Path, PathMtu};
pub use psn::Psn;
pub use rc::{QpId, QpMemory, QpParams};
pub use request::{PostError, SendFlags, SendOp, SendRequest, Sge};
pub use rng::Rng;
pub use srq::{ModifySrqError, SrqId, SrqMemory, SrqStatus};
pub use table::OutOfMemory;
pub use time::Instant;
pub use transmit::{MAX_HEADER, MAX_PIECES, Piece, Transmit, TxToken};
