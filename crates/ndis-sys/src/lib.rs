//! The parts of NT, NDIS, netio, WSK and WDF that vroce and its simulator use, as raw ABI.
#![no_std]
#![allow(unsafe_code, reason = "raw ABI")]
