//! The Network Direct Kernel Provider Interface (NDKPI 1.1 to 2.1) as Rust types.
#![no_std]
#![allow(unsafe_code, reason = "raw ABI")]
