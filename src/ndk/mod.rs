//! The NDK provider: NDK objects over the RoCEv2 engine.
//!
//! # Layers
//! A consumer calls a dispatch function of an object (`cq`, `qp`, `connector`, ...). The function checks its arguments, takes the
//! port's lock, changes the `state::State` (the engine and what the port knows about each object), sends what there is to send and
//! lets go of the lock. What has to be told to a consumer is noted under the lock, and told afterwards from the port's DPC.
//!
//! # Locks
//! There is one spin lock, the port's, around the whole state. Order:
//!
//! 1. the port's lock ([`port::Port::with`] and friends), then
//! 2. the NIC's transmit queue lock (frames are handed over under the port's lock).
//!
//! The queue of objects that have something to tell is lock-free and may be touched under either. No callback of a consumer, no
//! function of netio and no mapping of memory happens under a lock. The NIC calls [`port::Port::receive`] and
//! [`port::Port::transmitted`] with none of its own locks held.
//!
//! # IRQL
//! Dispatch functions: <= DISPATCH_LEVEL, except NdkQueryAdapterInfo (PASSIVE_LEVEL). Callbacks to consumers: DISPATCH_LEVEL, in a
//! DPC, one at a time per port. Opening and closing adapters, and work with TCP/IP: PASSIVE_LEVEL.

mod adapter;
mod address;
mod connection;
mod connector;
mod cq;
mod endpoint;
mod fast;
mod journal;
mod lam;
mod life;
pub mod limits;
mod line;
mod listener;
mod lookup;
mod mapping;
mod memory;
mod mr;
mod mw;
mod neighbour;
mod object;
mod pd;
mod platform;
mod port;
mod ports;
pub mod provider;
mod qp;
mod slab;
mod srq;
mod state;
mod statistics;
mod status;

pub use platform::Platform;
pub use port::{Port, PortConfig, random_seed};
pub use statistics::{TooShort, capabilities};
