//! The NDK provider, driven through its dispatch tables by a consumer in the simulated kernel.
//!
//! Each test tells one story. Where it proves requirements of NDKPI, its name has their numbers in the project's list
//! (`crates/xtask/data/requirements.tsv`): `m01_...` is M-01. `cargo xtask conformance` makes a page of them. What the verifier judges in
//! all of them is in `rules.tsv` beside it. Three digits, `r097_...`, are a requirement of RoCEv2 (`rocev2.tsv`, `cargo xtask
//! requirements`).

#![allow(
    unsafe_code,
    reason = "plays a consumer, which calls through dispatch tables"
)]

mod adversity;
mod callbacks;
mod closing;
mod completion;
mod congestion;
mod connect;
mod connections;
mod detour;
mod disconnects;
mod endpoints;
mod explored;
mod fast;
mod immediate;
mod jumbo;
mod lab;
mod lam;
mod late;
mod leaving;
mod lost;
mod makers;
mod memory;
mod mistakes;
mod moderation;
mod negotiate;
mod neighbours;
mod objects;
mod placed;
mod queues;
mod races;
mod raw;
mod remote;
mod scale;
mod sends;
mod shared;
mod srq;
mod standstill;
mod statistics;
mod story;
mod traces;
mod untold;
mod vlan;
mod windows;
