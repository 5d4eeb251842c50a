//! A network device: virtio 1.2 on PCI, modern registers, split rings.
//!
//! Drivers find it as PCI function 1AF4:1041: registers in BAR 4 (common configuration, ISR, network configuration,
//! notifications), the MSI-X table in BAR 1. Queue 0 receives, queue 1 sends; there can be more such pairs, and a control
//! queue. The rings are served by rust-vmm's `virtio-queue` on the machine's physical memory, and only where it is
//! mapped for DMA.
//!
//! The device works when the world's loop gets to it ([`crate::world::device`]), not inside the driver's register
//! accesses. A busy-polling device ([`NicConfig::busy_poll`]) looks at its rings each time, and tells the driver not
//! to notify it.
//!
//! What a driver does against the specification is a violation of one of the [`rules`]. A ring that cannot be used
//! any more makes the device ask for a reset (`DEVICE_NEEDS_RESET`), as real ones do.

mod control;
mod layout;
mod memory;
mod nic;
mod queue;
mod receive;
mod registers;
pub mod rules;
mod sabotage;
mod steering;
mod transmit;
mod transport;

#[cfg(test)]
mod tests;

pub use nic::{Nic, NicConfig, NicCounters};
pub use sabotage::{Lies, Side, Structure, UsedFlaw};
