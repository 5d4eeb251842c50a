//! vroce: an NDIS miniport for virtio-net that is also a Network Direct Kernel provider over RoCEv2.
#![no_std]

// On a host other than Windows the driver is linked into tests and tools, which bring the standard library's panic handler and
// allocator; the driver itself uses only core and alloc everywhere.
#[cfg(not(target_os = "windows"))]
extern crate std;

extern crate alloc;

mod adapter;
mod driver;
mod image;
mod miniport;
mod ndk;
mod nic;
pub mod trace;
mod turn;
mod wdf;

/// Atomics, by a name that the model checker's can take (tests/turns.rs, tests/lives.rs).
mod sync {
    pub use core::sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicUsize, Ordering, fence,
    };
}

pub use image::DriverEntry;
