//! Plug and Play: driver packages, the registry, devices being started and removed.

use std::cell::RefCell;

pub mod device;
pub mod ids;
pub mod inf;
pub mod package;
pub mod registry;

/// A machine's registry.
#[derive(Default)]
pub(crate) struct MachineRegistry(pub(crate) RefCell<registry::Registry>);
