//! Safe Windows kernel primitives: spin locks, DPCs, timers, work items, events, MDLs, MMIO, DMA, pool.
//!
//! Each item says at which IRQL it may be used. Where getting that wrong blocks the processor for good, the function asks for a token
//! ([`irql::Passive`]) that only code at that level can honestly make.
//!
//! The functions of the kernel are reached through one seam, [`sys`].
#![no_std]
#![allow(
    unsafe_code,
    reason = "this crate is where the kernel's contracts become types"
)]

extern crate alloc;
#[cfg(test)]
extern crate std;
// The simulator defines the functions that the tests link against.
#[cfg(test)]
extern crate ntsim as _;

pub mod boxed;
pub mod dma;
mod dpc;
mod entropy;
mod event;
pub mod eventlog;
pub mod irql;
mod lock;
pub mod mdl;
mod mmio;
mod once;
pub mod pool;
pub mod print;
mod rundown;
mod shared;
mod status;
pub mod string;
pub mod sys;
pub mod time;
mod timer;
pub mod trace;
mod work;

pub use dpc::{Dpc, Waker, flush_dpcs};
pub use entropy::entropy;
pub use event::{Event, EventKind};
pub use irql::{Irql, Passive};
pub use lock::{SpinLock, SpinLockGuard};
pub use mmio::Mmio;
pub use once::Once;
pub use rundown::{Rundown, RundownGuard};
pub use shared::Shared;
pub use status::{NoMemory, Status};
pub use timer::Timer;
pub use work::WorkItem;
