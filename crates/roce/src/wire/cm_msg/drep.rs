//! DREP: answer to a request to disconnect (IBTA 12.6.11).

use crate::wire::mad;
use zerocopy::byteorder::network_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    local_comm_id: U32,
    remote_comm_id: U32,
    private: [u8; Drep::PRIVATE_LEN],
}

/// Answer to a request to disconnect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drep {
    /// The sender's name for the connection.
    pub local_comm_id: u32,
    /// The receiver's.
    pub remote_comm_id: u32,
    /// Private data.
    pub private: [u8; Self::PRIVATE_LEN],
}

impl Drep {
    /// Attribute ID.
    pub const ATTRIBUTE: u16 = 0x0016;

    /// Bytes of private data.
    pub const PRIVATE_LEN: usize = 224;

    /// Reads the body of a MAD.
    #[must_use]
    pub fn parse(body: &[u8; mad::BODY_LEN]) -> Self {
        let raw: &Raw = zerocopy::transmute_ref!(body);
        Self {
            local_comm_id: raw.local_comm_id.get(),
            remote_comm_id: raw.remote_comm_id.get(),
            private: raw.private,
        }
    }

    /// The body of a MAD.
    #[must_use]
    pub fn emit(&self) -> [u8; mad::BODY_LEN] {
        zerocopy::transmute!(Raw {
            local_comm_id: U32::new(self.local_comm_id),
            remote_comm_id: U32::new(self.remote_comm_id),
            private: self.private,
        })
    }
}
