//! Wires between machines: a switch in this process, a way out of it, and recordings of what passes.
//!
//! A [`Switch`] learns addresses and forwards Ethernet frames between its ports. The link behind each port can
//! lose, duplicate, reorder, corrupt and delay frames and have a limited rate ([`LinkConfig`]); chance comes from
//! the world's seed. On a port sits an [`Endpoint`]: a simulated NIC, or a [`SocketWire`] to another process.

mod capture;
mod comment;
mod frame;
mod link;
mod pcapng;
mod socket;
mod switch;
mod world;

#[cfg(test)]
mod tests;

pub(crate) use capture::Shared;
pub use capture::{Capture, CaptureConfig};
pub use frame::Frame;
pub(crate) use frame::Gather;
pub use link::{LinkConfig, LinkConfig as SwitchConfig, Verdict};
pub use pcapng::Direction;
pub use socket::{SocketConfig, SocketCounters, SocketWire};
pub use switch::{Port, PortCounters, PortId, Switch};
pub(crate) use world::flush;

/// What sits at the other end of a switch port's link.
pub trait Endpoint {
    /// A frame has arrived. May send frames itself.
    fn deliver(&self, frame: Frame);
    /// The link went up or down.
    fn link_changed(&self, up: bool) {
        let _ = up;
    }
}
