//! Which received frames protocols want.

use core::sync::atomic::{AtomicU32, Ordering};

use arrayvec::ArrayVec;
use nt::SpinLock;
use nt::sys::ndis::{
    NDIS_PACKET_TYPE_ALL_MULTICAST, NDIS_PACKET_TYPE_BROADCAST, NDIS_PACKET_TYPE_DIRECTED,
    NDIS_PACKET_TYPE_MULTICAST, NDIS_PACKET_TYPE_PROMISCUOUS,
};

use super::statistics::Cast;

/// Filters the driver knows.
pub const SUPPORTED: u32 = NDIS_PACKET_TYPE_DIRECTED
    | NDIS_PACKET_TYPE_MULTICAST
    | NDIS_PACKET_TYPE_ALL_MULTICAST
    | NDIS_PACKET_TYPE_BROADCAST
    | NDIS_PACKET_TYPE_PROMISCUOUS;

/// Most multicast addresses; protocols that want more get all multicast frames.
pub const MAX_MULTICAST: usize = 32;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// The filter. Frames come before it at DISPATCH_LEVEL while it may be changed on another processor.
#[derive(Debug)]
pub struct Filter {
    packet_types: AtomicU32,
    multicast: SpinLock<ArrayVec<Mac, MAX_MULTICAST>>,
}

impl Filter {
    /// Lets nothing pass.
    pub const fn new() -> Self {
        Self {
            packet_types: AtomicU32::new(0),
            multicast: SpinLock::new(ArrayVec::new_const()),
        }
    }

    /// The packet types that pass. IRQL: any.
    pub fn packet_types(&self) -> u32 {
        self.packet_types.load(Ordering::Relaxed)
    }

    /// Sets the packet types that pass: false if there are some the driver does not know. IRQL: any.
    pub fn set_packet_types(&self, types: u32) -> bool {
        let known = types & !SUPPORTED == 0;
        if known {
            self.packet_types.store(types, Ordering::Relaxed);
        }
        known
    }

    /// Sets the multicast addresses. IRQL: <= DISPATCH_LEVEL.
    pub fn set_multicast(&self, list: ArrayVec<Mac, MAX_MULTICAST>) {
        *self.multicast.lock() = list;
    }

    /// The multicast addresses. IRQL: <= DISPATCH_LEVEL.
    pub fn multicast(&self) -> ArrayVec<Mac, MAX_MULTICAST> {
        self.multicast.lock().clone()
    }

    /// Whether a frame (beginning with its destination) passes at a station with an address. IRQL: <= DISPATCH_LEVEL.
    pub fn passes(&self, frame: &[u8], mac: &Mac) -> bool {
        let types = self.packet_types();
        let wanted = |bit| types & bit != 0;
        if wanted(NDIS_PACKET_TYPE_PROMISCUOUS) {
            return true;
        }
        match Cast::of(frame) {
            Cast::Broadcast => wanted(NDIS_PACKET_TYPE_BROADCAST),
            Cast::Multicast => {
                wanted(NDIS_PACKET_TYPE_ALL_MULTICAST)
                    || wanted(NDIS_PACKET_TYPE_MULTICAST)
                        && self
                            .multicast
                            .lock()
                            .iter()
                            .any(|group| frame.starts_with(group))
            }
            Cast::Unicast => wanted(NDIS_PACKET_TYPE_DIRECTED) && frame.starts_with(mac),
        }
    }
}
