//! Safe Windows kernel primitives: spin locks, DPCs, timers, work items, events, MDLs, MMIO, pool.
#![no_std]
#![allow(
    unsafe_code,
    reason = "this crate is where the kernel's contracts become types"
)]
