//! RoCEv2 as a sans-IO engine: wire formats, reliable connections, connection manager.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;
