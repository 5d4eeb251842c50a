//! SIDR_REP: answer to the question who serves a service ID with datagrams (IBTA 12.11.2).

use super::{high24, low8, word24_8};
use crate::wire::mad;
use zerocopy::byteorder::network_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    request_id: U32,
    status: u8,
    info_len: u8,
    vendor_high: U16,
    qpn_vendor: U32,
    service_id: U64,
    qkey: U32,
    info: [u8; SidrRep::INFO_LEN],
    private: [u8; SidrRep::PRIVATE_LEN],
}

/// Answer to the question for the queue pair of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SidrRep {
    /// The asker's name for the question.
    pub request_id: u32,
    /// 0 for a queue pair, or why there is none.
    pub status: u8,
    /// Bytes of `info` that mean something.
    pub info_len: u8,
    /// Vendor ID of enhanced connection establishment, 24 bits.
    pub vendor_id: u32,
    /// The queue pair, 24 bits.
    pub qpn: u32,
    /// The service that was asked for.
    pub service_id: u64,
    /// Key of the queue pair's datagrams.
    pub qkey: u32,
    /// Additional information, by status.
    pub info: [u8; Self::INFO_LEN],
    /// Private data.
    pub private: [u8; Self::PRIVATE_LEN],
}

impl SidrRep {
    /// Attribute ID.
    pub const ATTRIBUTE: u16 = 0x0018;

    /// Status: nobody serves the service ID.
    pub const UNSUPPORTED: u8 = 1;

    /// Bytes of additional information.
    pub const INFO_LEN: usize = 72;

    /// Bytes of private data.
    pub const PRIVATE_LEN: usize = 136;

    /// Reads the body of a MAD.
    #[must_use]
    pub fn parse(body: &[u8; mad::BODY_LEN]) -> Self {
        let raw: &Raw = zerocopy::transmute_ref!(body);
        Self {
            request_id: raw.request_id.get(),
            status: raw.status,
            info_len: raw.info_len,
            vendor_id: u32::from(raw.vendor_high.get()) << 8 | u32::from(low8(raw.qpn_vendor)),
            qpn: high24(raw.qpn_vendor),
            service_id: raw.service_id.get(),
            qkey: raw.qkey.get(),
            info: raw.info,
            private: raw.private,
        }
    }

    /// The body of a MAD. Fields wider than their place are cut.
    #[must_use]
    pub fn emit(&self) -> [u8; mad::BODY_LEN] {
        let [_, a, b, c] = self.vendor_id.to_be_bytes();
        zerocopy::transmute!(Raw {
            request_id: U32::new(self.request_id),
            status: self.status,
            info_len: self.info_len,
            vendor_high: U16::from_bytes([a, b]),
            qpn_vendor: word24_8(self.qpn, c),
            service_id: U64::new(self.service_id),
            qkey: U32::new(self.qkey),
            info: self.info,
            private: self.private,
        })
    }
}
