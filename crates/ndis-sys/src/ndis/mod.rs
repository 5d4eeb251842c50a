//! NDIS 6.80: `ndis.h` and `ntddndis.h`, as a miniport sees them.

mod adapter;
mod config;
mod dma;
mod driver;
mod event;
mod interrupt;
mod link;
mod net_buffer;
mod object;
mod offload;
mod oid_request;
mod packet;
mod pnp;
mod power;
mod rss;
mod statistics;
mod timer;

pub use adapter::*;
pub use config::*;
pub use dma::*;
pub use driver::*;
pub use event::*;
pub use interrupt::*;
pub use link::*;
pub use net_buffer::*;
pub use object::*;
pub use offload::*;
pub use oid_request::*;
pub use packet::*;
pub use pnp::*;
pub use power::*;
pub use rss::*;
pub use statistics::*;
pub use timer::*;

#[cfg(test)]
pub(crate) const LAYOUTS: &[&[crate::facts::Layout]] = &[
    adapter::LAYOUTS,
    config::LAYOUTS,
    dma::LAYOUTS,
    driver::LAYOUTS,
    event::LAYOUTS,
    interrupt::LAYOUTS,
    link::LAYOUTS,
    net_buffer::LAYOUTS,
    object::LAYOUTS,
    offload::LAYOUTS,
    oid_request::LAYOUTS,
    pnp::LAYOUTS,
    power::LAYOUTS,
    rss::LAYOUTS,
    statistics::LAYOUTS,
    timer::LAYOUTS,
];

#[cfg(test)]
pub(crate) const CONSTANTS: &[&[crate::facts::Constant]] = &[
    adapter::CONSTANTS,
    config::CONSTANTS,
    dma::CONSTANTS,
    driver::CONSTANTS,
    event::CONSTANTS,
    interrupt::CONSTANTS,
    link::CONSTANTS,
    net_buffer::CONSTANTS,
    object::CONSTANTS,
    offload::CONSTANTS,
    oid_request::CONSTANTS,
    packet::CONSTANTS,
    pnp::CONSTANTS,
    power::CONSTANTS,
    rss::CONSTANTS,
    statistics::CONSTANTS,
    timer::CONSTANTS,
];

#[cfg(test)]
pub(crate) const CALLBACKS: &[&[crate::facts::Prototype]] = &[
    dma::CALLBACKS,
    driver::CALLBACKS,
    interrupt::CALLBACKS,
    timer::CALLBACKS,
];
