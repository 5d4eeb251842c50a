//! MRA: message receipt acknowledgement (IBTA 12.6.6).

use super::Answered;
use crate::wire::mad;
use zerocopy::byteorder::network_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    local_comm_id: U32,
    remote_comm_id: U32,
    message: u8,
    service_timeout: u8,
    private: [u8; Mra::PRIVATE_LEN],
}

/// The message arrived, the answer to it takes longer than the sender was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mra {
    /// The sender's name for the connection.
    pub local_comm_id: u32,
    /// The receiver's.
    pub remote_comm_id: u32,
    /// The message that arrived.
    pub message: Answered,
    /// Time until the answer, `4.096 us * 2^n`, 5 bits.
    pub service_timeout: u8,
    /// Private data.
    pub private: [u8; Self::PRIVATE_LEN],
}

impl Mra {
    /// Attribute ID.
    pub const ATTRIBUTE: u16 = 0x0011;

    /// Bytes of private data.
    pub const PRIVATE_LEN: usize = 222;

    /// Reads the body of a MAD. Reserved bits are ignored.
    #[must_use]
    pub fn parse(body: &[u8; mad::BODY_LEN]) -> Self {
        let raw: &Raw = zerocopy::transmute_ref!(body);
        Self {
            local_comm_id: raw.local_comm_id.get(),
            remote_comm_id: raw.remote_comm_id.get(),
            message: Answered::from_bits(raw.message >> 6),
            service_timeout: raw.service_timeout >> 3,
            private: raw.private,
        }
    }

    /// The body of a MAD. Fields wider than their place are cut.
    #[must_use]
    pub fn emit(&self) -> [u8; mad::BODY_LEN] {
        zerocopy::transmute!(Raw {
            local_comm_id: U32::new(self.local_comm_id),
            remote_comm_id: U32::new(self.remote_comm_id),
            message: self.message.bits() << 6,
            service_timeout: self.service_timeout << 3,
            private: self.private,
        })
    }
}
