//! The kernel proper: `wdm.h` and `ntddk.h`.

mod dma;
mod driver;
mod etw;
mod executive;
mod mdl;
mod pci;
mod pool;
mod processor;
mod registry;
mod resource;
mod string;
mod sync;

pub use dma::*;
pub use driver::*;
pub use etw::*;
pub use executive::*;
pub use mdl::*;
pub use pci::*;
pub use pool::*;
pub use processor::*;
pub use registry::*;
pub use resource::*;
pub use string::*;
pub use sync::*;

#[cfg(test)]
pub(crate) const LAYOUTS: &[&[crate::facts::Layout]] = &[
    dma::LAYOUTS,
    driver::LAYOUTS,
    etw::LAYOUTS,
    executive::LAYOUTS,
    mdl::LAYOUTS,
    pci::LAYOUTS,
    processor::LAYOUTS,
    registry::LAYOUTS,
    resource::LAYOUTS,
    string::LAYOUTS,
    sync::LAYOUTS,
];

#[cfg(test)]
pub(crate) const CONSTANTS: &[&[crate::facts::Constant]] = &[
    dma::CONSTANTS,
    driver::CONSTANTS,
    etw::CONSTANTS,
    mdl::CONSTANTS,
    pci::CONSTANTS,
    pool::CONSTANTS,
    processor::CONSTANTS,
    registry::CONSTANTS,
    resource::CONSTANTS,
    sync::CONSTANTS,
];

#[cfg(test)]
pub(crate) const CALLBACKS: &[&[crate::facts::Prototype]] = &[
    dma::CALLBACKS,
    driver::CALLBACKS,
    etw::CALLBACKS,
    executive::CALLBACKS,
    sync::CALLBACKS,
];
