//! DREQ: request to disconnect (IBTA 12.6.10).

use super::high24;
use crate::wire::mad;
use zerocopy::byteorder::network_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    local_comm_id: U32,
    remote_comm_id: U32,
    remote_qpn: U32,
    private: [u8; Dreq::PRIVATE_LEN],
}

/// Request to disconnect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dreq {
    /// The sender's name for the connection.
    pub local_comm_id: u32,
    /// The receiver's.
    pub remote_comm_id: u32,
    /// The receiver's queue pair, 24 bits.
    pub remote_qpn: u32,
    /// Private data.
    pub private: [u8; Self::PRIVATE_LEN],
}

impl Dreq {
    /// Attribute ID.
    pub const ATTRIBUTE: u16 = 0x0015;

    /// Bytes of private data.
    pub const PRIVATE_LEN: usize = 220;

    /// Reads the body of a MAD.
    #[must_use]
    pub fn parse(body: &[u8; mad::BODY_LEN]) -> Self {
        let raw: &Raw = zerocopy::transmute_ref!(body);
        Self {
            local_comm_id: raw.local_comm_id.get(),
            remote_comm_id: raw.remote_comm_id.get(),
            remote_qpn: high24(raw.remote_qpn),
            private: raw.private,
        }
    }

    /// The body of a MAD.
    #[must_use]
    pub fn emit(&self) -> [u8; mad::BODY_LEN] {
        zerocopy::transmute!(Raw {
            local_comm_id: U32::new(self.local_comm_id),
            remote_comm_id: U32::new(self.remote_comm_id),
            remote_qpn: U32::new(self.remote_qpn << 8),
            private: self.private,
        })
    }
}
