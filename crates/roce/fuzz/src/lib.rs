//! What a peer, or who pretends to be one, can do to the engine: each module runs one input. An input is a program; one that has come to
//! its end goes on with zeros. Whatever it does, nothing panics, no memory is touched that has not been granted for that, nothing completes
//! twice or out of order, and in the end everything can be taken down to the last object.
//!
//! The targets in `fuzz_targets` look for such inputs, guided by coverage; `cargo test -p roce --test fuzz` repeats those of `corpus`.

pub mod captures;
pub mod frames;
mod input;
mod machine;
pub mod mads;
mod memory;
pub mod recent;
