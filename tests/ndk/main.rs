//! The NDK provider, driven through its dispatch tables by a consumer in the simulated kernel.
//!
//! Each test tells one story. Where it checks a requirement of NDKPI, its name begins with the number the requirement has in the
//! project's list: `m01_...` is M-01.

#![allow(
    unsafe_code,
    reason = "plays a consumer, which calls through dispatch tables"
)]

mod adversity;
mod callbacks;
mod connections;
mod data;
mod disconnects;
mod endpoints;
mod lab;
mod memory;
mod objects;
mod shared;
mod statistics;
