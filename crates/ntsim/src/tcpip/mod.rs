//! The simulated machine's TCP/IP, bound above NDIS: enough IP to be pinged, to ping, and to resolve neighbours.

#![allow(
    dead_code,
    reason = "the binding above NDIS arrives with the NDIS core"
)]

pub(crate) mod stack;

pub use stack::Address;
