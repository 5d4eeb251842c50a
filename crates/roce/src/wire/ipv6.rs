//! IPv6 header without extension headers (RFC 8200), as RoCEv2 uses it.

use super::Error;
use core::net::Ipv6Addr;
use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    version_class_flow: U32,
    payload_len: U16,
    next_header: u8,
    hop_limit: u8,
    src: [u8; 16],
    dst: [u8; 16],
}

/// IPv6 header of 40 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6 {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Flow label, 20 bits.
    pub flow_label: u32,
    /// Bytes after this header.
    pub payload_len: u16,
    /// Payload protocol.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source.
    pub src: Ipv6Addr,
    /// Destination.
    pub dst: Ipv6Addr,
}

impl Ipv6 {
    /// Length on the wire, bytes.
    pub const LEN: usize = 40;

    /// Reads the header at the front of `bytes`; also gives what follows it, cut to the payload length.
    ///
    /// # Errors
    /// `NotRoce` for another IP version.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), Error> {
        let (raw, rest) = Raw::ref_from_prefix(bytes).map_err(|_| Error::Truncated)?;
        let word = raw.version_class_flow.get();
        let [first, ..] = word.to_be_bytes();
        if first >> 4 != 6 {
            return Err(Error::NotRoce);
        }
        let payload_len = raw.payload_len.get();
        let payload = rest
            .get(..usize::from(payload_len))
            .ok_or(Error::Truncated)?;
        Ok((
            Self {
                traffic_class: (word >> 20 & 0xff) as u8,
                flow_label: word & 0xf_ffff,
                payload_len,
                next_header: raw.next_header,
                hop_limit: raw.hop_limit,
                src: Ipv6Addr::from(raw.src),
                dst: Ipv6Addr::from(raw.dst),
            },
            payload,
        ))
    }

    /// The wire bytes.
    #[must_use]
    pub fn emit(&self) -> [u8; Self::LEN] {
        zerocopy::transmute!(Raw {
            version_class_flow: U32::new(
                6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & 0xf_ffff,
            ),
            payload_len: U16::new(self.payload_len),
            next_header: self.next_header,
            hop_limit: self.hop_limit,
            src: self.src.octets(),
            dst: self.dst.octets(),
        })
    }
}
