//! Datagram Extended Transport Header (IBTA 9.3.2).

use super::{Error, u24_from_bytes, u24_to_bytes};
use zerocopy::byteorder::network_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    qkey: U32,
    reserved: u8,
    src_qpn: [u8; 3],
}

/// The Q_Key of the general services interface (QP 1).
pub const GSI_QKEY: u32 = 0x8001_0000;

/// Datagram Extended Transport Header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deth {
    /// Must equal the Q_Key of the receiving queue pair.
    pub qkey: u32,
    /// Sending queue pair, 24 bits.
    pub src_qpn: u32,
}

impl Deth {
    /// Length on the wire, bytes.
    pub const LEN: usize = 8;

    /// Reads the header at the front of `bytes`; also gives what follows it.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), Error> {
        let (raw, rest) = Raw::ref_from_prefix(bytes).map_err(|_| Error::Truncated)?;
        Ok((
            Self {
                qkey: raw.qkey.get(),
                src_qpn: u24_from_bytes(raw.src_qpn),
            },
            rest,
        ))
    }

    /// The wire bytes.
    #[must_use]
    pub fn emit(&self) -> [u8; Self::LEN] {
        zerocopy::transmute!(Raw {
            qkey: U32::new(self.qkey),
            reserved: 0,
            src_qpn: u24_to_bytes(self.src_qpn),
        })
    }
}
