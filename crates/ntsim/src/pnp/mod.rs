//! Plug and Play: driver packages, the registry, devices being started and removed.

pub mod ids;
pub mod inf;
pub mod package;
pub mod registry;
