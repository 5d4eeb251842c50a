//! RDMA Extended Transport Header (IBTA 9.3.3).

use super::Error;
use zerocopy::byteorder::network_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    va: U64,
    rkey: U32,
    len: U32,
}

/// RDMA Extended Transport Header: the remote memory of a WRITE or READ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reth {
    /// Remote virtual address.
    pub va: u64,
    /// Remote key.
    pub rkey: u32,
    /// Length of the whole message, bytes; legal up to 2^31.
    pub len: u32,
}

impl Reth {
    /// Length on the wire, bytes.
    pub const LEN: usize = 16;

    /// Reads the header at the front of `bytes`; also gives what follows it.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), Error> {
        let (raw, rest) = Raw::ref_from_prefix(bytes).map_err(|_| Error::Truncated)?;
        Ok((
            Self {
                va: raw.va.get(),
                rkey: raw.rkey.get(),
                len: raw.len.get(),
            },
            rest,
        ))
    }

    /// The wire bytes.
    #[must_use]
    pub fn emit(&self) -> [u8; Self::LEN] {
        zerocopy::transmute!(Raw {
            va: U64::new(self.va),
            rkey: U32::new(self.rkey),
            len: U32::new(self.len),
        })
    }
}
