//! Atomic request and response headers (IBTA 9.3.4 and 9.5.3).

use super::Error;
use zerocopy::byteorder::network_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    va: U64,
    rkey: U32,
    swap_add: U64,
    compare: U64,
}

/// AtomicETH: operands of a compare-and-swap or fetch-and-add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtomicEth {
    /// Remote virtual address, 8-byte aligned.
    pub va: u64,
    /// Remote key.
    pub rkey: u32,
    /// Value to store (compare-and-swap) or to add.
    pub swap_add: u64,
    /// Value to compare with; fetch-and-add senders may leave anything here.
    pub compare: u64,
}

impl AtomicEth {
    /// Length on the wire, bytes.
    pub const LEN: usize = 28;

    /// Reads the header at the front of `bytes`; also gives what follows it.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), Error> {
        let (raw, rest) = Raw::ref_from_prefix(bytes).map_err(|_| Error::Truncated)?;
        Ok((
            Self {
                va: raw.va.get(),
                rkey: raw.rkey.get(),
                swap_add: raw.swap_add.get(),
                compare: raw.compare.get(),
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
            swap_add: U64::new(self.swap_add),
            compare: U64::new(self.compare),
        })
    }
}

/// AtomicAckETH: what was at the address before the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtomicAckEth {
    /// Original value.
    pub original: u64,
}

impl AtomicAckEth {
    /// Length on the wire, bytes.
    pub const LEN: usize = 8;

    /// Reads the header at the front of `bytes`; also gives what follows it.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), Error> {
        let (raw, rest) = U64::read_from_prefix(bytes).map_err(|_| Error::Truncated)?;
        Ok((
            Self {
                original: raw.get(),
            },
            rest,
        ))
    }

    /// The wire bytes.
    #[must_use]
    pub const fn emit(&self) -> [u8; Self::LEN] {
        self.original.to_be_bytes()
    }
}
