//! What the RDMA port needs of the adapter around it, besides the NIC.
#![allow(unsafe_code, reason = "holds the adapter's NDIS handle")]

use ndis_sys::types::NDIS_HANDLE;

/// The adapter as NDIS, the DMA layer and TCP/IP know it.
pub struct Platform {
    adapter: NDIS_HANDLE,
    /// Maps memory for the NIC.
    pub dma: nt::dma::Adapter,
    /// Locally unique identifier of the interface (NET_LUID).
    pub luid: u64,
}

// SAFETY: an NDIS adapter handle may be used from any processor.
unsafe impl Send for Platform {}
// SAFETY: as above.
unsafe impl Sync for Platform {}

impl Platform {
    /// # Safety
    /// `adapter` is the NDIS handle of the miniport adapter and outlives the port that is made with this.
    pub unsafe fn new(adapter: NDIS_HANDLE, dma: nt::dma::Adapter, luid: u64) -> Self {
        Self { adapter, dma, luid }
    }

    /// The NDIS handle of the adapter, for work items.
    pub fn adapter(&self) -> NDIS_HANDLE {
        self.adapter
    }
}
