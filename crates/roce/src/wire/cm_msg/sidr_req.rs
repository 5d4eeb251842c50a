//! SIDR_REQ: who serves a service ID with datagrams (IBTA 12.11.1)?

use crate::wire::mad;
use zerocopy::byteorder::network_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    request_id: U32,
    pkey: U16,
    reserved: U16,
    service_id: U64,
    private: [u8; SidrReq::PRIVATE_LEN],
}

/// Question for the queue pair that serves a service ID with datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SidrReq {
    /// The sender's name for the question.
    pub request_id: u32,
    /// Partition of the service.
    pub pkey: u16,
    /// The service; of IP, the UDP port space and a port.
    pub service_id: u64,
    /// Private data; with an IP service ID it begins with a [`cma::Header`](crate::wire::cma::Header).
    pub private: [u8; Self::PRIVATE_LEN],
}

impl SidrReq {
    /// Attribute ID.
    pub const ATTRIBUTE: u16 = 0x0017;

    /// Bytes of private data.
    pub const PRIVATE_LEN: usize = 216;

    /// Reads the body of a MAD. Reserved bits are ignored.
    #[must_use]
    pub fn parse(body: &[u8; mad::BODY_LEN]) -> Self {
        let raw: &Raw = zerocopy::transmute_ref!(body);
        Self {
            request_id: raw.request_id.get(),
            pkey: raw.pkey.get(),
            service_id: raw.service_id.get(),
            private: raw.private,
        }
    }

    /// The body of a MAD.
    #[must_use]
    pub fn emit(&self) -> [u8; mad::BODY_LEN] {
        zerocopy::transmute!(Raw {
            request_id: U32::new(self.request_id),
            pkey: U16::new(self.pkey),
            reserved: U16::ZERO,
            service_id: U64::new(self.service_id),
            private: self.private,
        })
    }
}
