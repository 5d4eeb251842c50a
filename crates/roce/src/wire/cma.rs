//! The RDMA-CM IP service (IBTA annex A11): IP addresses and ports over InfiniBand connection management.

use super::Gid;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Service IDs of the TCP port space: this plus the destination port.
const TCP_SERVICE: u64 = 0x0000_0000_0106_0000;

/// The service ID of a port of the TCP port space.
#[must_use]
pub const fn service_id(port: u16) -> u64 {
    TCP_SERVICE | port as u64
}

/// The port of a service ID, if it is of the TCP port space.
#[must_use]
pub const fn port_of(service_id: u64) -> Option<u16> {
    if service_id & !0xffff == TCP_SERVICE {
        // Sixteen bits remain.
        Some((service_id & 0xffff) as u16)
    } else {
        None
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    version: u8,
    ip_version: u8,
    port: U16,
    src: [u8; 16],
    dst: [u8; 16],
}

/// What the first 36 bytes of a REQ's private data say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Port of the active side.
    pub src_port: u16,
    /// Address of the active side.
    pub src: IpAddr,
    /// Address of the passive side; of the same family.
    pub dst: IpAddr,
}

/// Why private data is no such header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A version other than 0.
    Version,
    /// Neither IPv4 nor IPv6.
    IpVersion,
}

impl Header {
    /// Length on the wire, bytes.
    pub const LEN: usize = 36;

    /// Reads the header.
    pub fn parse(bytes: &[u8; Self::LEN]) -> Result<Self, Error> {
        let raw: &Raw = zerocopy::transmute_ref!(bytes);
        if raw.version != 0 {
            return Err(Error::Version);
        }
        let address = |bytes: [u8; 16]| match raw.ip_version >> 4 {
            4 => {
                let [.., a, b, c, d] = bytes;
                Ok(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
            }
            6 => Ok(IpAddr::V6(Ipv6Addr::from(bytes))),
            _ => Err(Error::IpVersion),
        };
        Ok(Self {
            src_port: raw.port.get(),
            src: address(raw.src)?,
            dst: address(raw.dst)?,
        })
    }

    /// The wire bytes.
    #[must_use]
    pub fn emit(&self) -> [u8; Self::LEN] {
        let address = |ip: IpAddr| match ip {
            IpAddr::V4(v4) => {
                // Right-aligned, not mapped: the other twelve bytes are zero.
                let [a, b, c, d] = v4.octets();
                [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d]
            }
            IpAddr::V6(_) => Gid::from(ip).0,
        };
        zerocopy::transmute!(Raw {
            version: 0,
            ip_version: if self.dst.is_ipv4() { 0x40 } else { 0x60 },
            port: U16::new(self.src_port),
            src: address(self.src),
            dst: address(self.dst),
        })
    }
}
