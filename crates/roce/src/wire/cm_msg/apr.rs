//! APR: answer to a request for another alternate path (IBTA 12.8.2).

use crate::wire::mad;
use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    local_comm_id: U32,
    remote_comm_id: U32,
    info_len: u8,
    status: u8,
    reserved: U16,
    info: [u8; Apr::INFO_LEN],
    private: [u8; Apr::PRIVATE_LEN],
}

/// Answer to a request for another alternate path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Apr {
    /// The sender's name for the connection.
    pub local_comm_id: u32,
    /// The receiver's.
    pub remote_comm_id: u32,
    /// Bytes of `info` that mean something.
    pub info_len: u8,
    /// What became of the path; 0 that it is taken.
    pub status: u8,
    /// Additional information, by status.
    pub info: [u8; Self::INFO_LEN],
    /// Private data.
    pub private: [u8; Self::PRIVATE_LEN],
}

impl Apr {
    /// Attribute ID.
    pub const ATTRIBUTE: u16 = 0x001a;

    /// Bytes of additional information.
    pub const INFO_LEN: usize = 72;

    /// Bytes of private data.
    pub const PRIVATE_LEN: usize = 148;

    /// Reads the body of a MAD. Reserved bits are ignored.
    #[must_use]
    pub fn parse(body: &[u8; mad::BODY_LEN]) -> Self {
        let raw: &Raw = zerocopy::transmute_ref!(body);
        Self {
            local_comm_id: raw.local_comm_id.get(),
            remote_comm_id: raw.remote_comm_id.get(),
            info_len: raw.info_len,
            status: raw.status,
            info: raw.info,
            private: raw.private,
        }
    }

    /// The body of a MAD.
    #[must_use]
    pub fn emit(&self) -> [u8; mad::BODY_LEN] {
        zerocopy::transmute!(Raw {
            local_comm_id: U32::new(self.local_comm_id),
            remote_comm_id: U32::new(self.remote_comm_id),
            info_len: self.info_len,
            status: self.status,
            reserved: U16::ZERO,
            info: self.info,
            private: self.private,
        })
    }
}
