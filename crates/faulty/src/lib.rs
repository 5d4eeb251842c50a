//! A driver that fails in the way that the name of its service says, with the driver's own panic handler, allocator and stack probes:
//! what they do in an image, which the driver's own must never show. `cargo xtask test-image` makes it, and `crates/ntsim/tests/faulty.rs`
//! loads it.
#![cfg_attr(target_os = "windows", no_std)]
#![allow(unsafe_code, reason = "called by the kernel")]

#[cfg(target_os = "windows")]
extern crate alloc;

#[cfg(target_os = "windows")]
mod driver;

#[cfg(target_os = "windows")]
#[path = "../../../src/image/guard.rs"]
mod guard;
#[cfg(target_os = "windows")]
#[path = "../../../src/image/runtime.rs"]
mod runtime;
