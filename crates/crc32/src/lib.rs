//! CRC-32 (Ethernet polynomial) with PCLMULQDQ chosen at run time, for no_std.
#![no_std]
#![allow(
    unsafe_code,
    reason = "the PCLMULQDQ path calls target-feature functions"
)]
