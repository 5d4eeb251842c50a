//! A simulated Windows kernel in which NDIS miniports, NDK providers and consumers run and are judged.
#![allow(
    unsafe_code,
    reason = "a kernel: every exported function takes raw pointers"
)]

pub mod mmio;
pub mod pnp;
pub mod tcpip;
