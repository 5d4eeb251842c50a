//! IPv4 header without options (RFC 791), as RoCEv2 uses it.

use super::Error;
use core::net::Ipv4Addr;
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    version_ihl: u8,
    tos: u8,
    total_len: U16,
    ident: U16,
    flags_fragment: U16,
    ttl: u8,
    protocol: u8,
    checksum: U16,
    src: [u8; 4],
    dst: [u8; 4],
}

/// IPv4 header of 20 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// DSCP and ECN.
    pub tos: u8,
    /// Header and payload, bytes.
    pub total_len: u16,
    /// Identification.
    pub ident: u16,
    /// Don't fragment.
    pub dont_fragment: bool,
    /// More fragments follow.
    pub more_fragments: bool,
    /// Fragment offset in units of 8 bytes, 13 bits.
    pub fragment_offset: u16,
    /// Time to live.
    pub ttl: u8,
    /// Payload protocol.
    pub protocol: u8,
    /// Checksum as received; [`Ipv4::emit`] computes it anew.
    pub checksum: u16,
    /// Source.
    pub src: Ipv4Addr,
    /// Destination.
    pub dst: Ipv4Addr,
}

impl Ipv4 {
    /// Length on the wire, bytes.
    pub const LEN: usize = 20;

    /// Reads the header at the front of `bytes`; also gives what follows it, cut to the total length.
    ///
    /// The checksum is not verified: what matters of the header is covered by the ICRC, and routers may be halfway
    /// through a change of the rest.
    ///
    /// # Errors
    /// `NotRoce` for another IP version or a header with options.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), Error> {
        let (raw, rest) = Raw::ref_from_prefix(bytes).map_err(|_| Error::Truncated)?;
        if raw.version_ihl != 0x45 {
            return Err(Error::NotRoce);
        }
        let total_len = raw.total_len.get();
        let payload_len = usize::from(total_len)
            .checked_sub(Self::LEN)
            .ok_or(Error::BadLength)?;
        let payload = rest.get(..payload_len).ok_or(Error::Truncated)?;
        let fragment = raw.flags_fragment.get();
        Ok((
            Self {
                tos: raw.tos,
                total_len,
                ident: raw.ident.get(),
                dont_fragment: fragment & 0x4000 != 0,
                more_fragments: fragment & 0x2000 != 0,
                fragment_offset: fragment & 0x1fff,
                ttl: raw.ttl,
                protocol: raw.protocol,
                checksum: raw.checksum.get(),
                src: Ipv4Addr::from(raw.src),
                dst: Ipv4Addr::from(raw.dst),
            },
            payload,
        ))
    }

    /// Whether this is a piece of a larger packet.
    #[must_use]
    pub const fn is_fragment(&self) -> bool {
        self.more_fragments || self.fragment_offset != 0
    }

    /// The wire bytes, with the checksum computed.
    #[must_use]
    pub fn emit(&self) -> [u8; Self::LEN] {
        let mut raw = Raw {
            version_ihl: 0x45,
            tos: self.tos,
            total_len: U16::new(self.total_len),
            ident: U16::new(self.ident),
            flags_fragment: U16::new(
                u16::from(self.dont_fragment) << 14
                    | u16::from(self.more_fragments) << 13
                    | self.fragment_offset & 0x1fff,
            ),
            ttl: self.ttl,
            protocol: self.protocol,
            checksum: U16::ZERO,
            src: self.src.octets(),
            dst: self.dst.octets(),
        };
        raw.checksum = U16::new(checksum(sum(raw.as_bytes())));
        zerocopy::transmute!(raw)
    }
}

/// The sum of the words of an even number of bytes, to be finished by [`checksum`]. More can be added before.
pub(crate) fn sum(bytes: &[u8]) -> u32 {
    // A header is 10 words: the sum needs 20 bits.
    let mut sum: u32 = 0;
    for word in bytes.chunks_exact(2) {
        if let &[hi, lo] = word {
            sum = sum.wrapping_add(u32::from(u16::from_be_bytes([hi, lo])));
        }
    }
    sum
}

/// Internet checksum (RFC 1071) of what has been summed up.
pub(crate) const fn checksum(sum: u32) -> u16 {
    let folded = (sum & 0xffff).wrapping_add(sum >> 16);
    let folded = (folded & 0xffff).wrapping_add(folded >> 16);
    // Two folds leave 16 bits.
    !(folded as u16)
}
