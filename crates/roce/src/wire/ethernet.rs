//! Ethernet II header with an optional 802.1Q tag.

use super::{Error, MacAddr};
use arrayvec::ArrayVec;
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    dst: MacAddr,
    src: MacAddr,
    ethertype: U16,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawTag {
    tci: U16,
    ethertype: U16,
}

const TPID: u16 = 0x8100;

/// What an Ethernet frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtherType {
    /// 0x0800.
    Ipv4,
    /// 0x0806.
    Arp,
    /// 0x86DD.
    Ipv6,
    /// Anything else.
    Other(u16),
}

impl EtherType {
    /// From the wire value.
    #[must_use]
    pub const fn from_u16(v: u16) -> Self {
        match v {
            0x0800 => Self::Ipv4,
            0x0806 => Self::Arp,
            0x86dd => Self::Ipv6,
            other => Self::Other(other),
        }
    }

    /// The wire value.
    #[must_use]
    pub const fn to_u16(self) -> u16 {
        match self {
            Self::Ipv4 => 0x0800,
            Self::Arp => 0x0806,
            Self::Ipv6 => 0x86dd,
            Self::Other(v) => v,
        }
    }
}

/// Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// Destination.
    pub dst: MacAddr,
    /// Source.
    pub src: MacAddr,
    /// 802.1Q tag control information, when tagged. Of several tags only the first is understood.
    pub vlan: Option<u16>,
    /// What follows (the inner type when tagged).
    pub ethertype: EtherType,
}

impl Ethernet {
    /// Longest form on the wire, bytes.
    pub const MAX_LEN: usize = 18;

    /// Reads the header at the front of `bytes`; also gives what follows it.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), Error> {
        let (raw, rest) = Raw::ref_from_prefix(bytes).map_err(|_| Error::Truncated)?;
        let mut eth = Self {
            dst: raw.dst,
            src: raw.src,
            vlan: None,
            ethertype: EtherType::from_u16(raw.ethertype.get()),
        };
        if raw.ethertype.get() != TPID {
            return Ok((eth, rest));
        }
        let (tag, rest) = RawTag::ref_from_prefix(rest).map_err(|_| Error::Truncated)?;
        eth.vlan = Some(tag.tci.get());
        eth.ethertype = EtherType::from_u16(tag.ethertype.get());
        Ok((eth, rest))
    }

    /// The wire bytes: 14, or 18 when tagged.
    #[must_use]
    pub fn emit(&self) -> ArrayVec<u8, { Self::MAX_LEN }> {
        let ethertype = U16::new(self.ethertype.to_u16());
        let mut out = ArrayVec::new();
        let raw = Raw {
            dst: self.dst,
            src: self.src,
            ethertype: if self.vlan.is_some() {
                U16::new(TPID)
            } else {
                ethertype
            },
        };
        // 14 + 4 bytes fit by the choice of MAX_LEN.
        let _ = out.try_extend_from_slice(raw.as_bytes());
        if let Some(tci) = self.vlan {
            let tag = RawTag {
                tci: U16::new(tci),
                ethertype,
            };
            let _ = out.try_extend_from_slice(tag.as_bytes());
        }
        out
    }
}
