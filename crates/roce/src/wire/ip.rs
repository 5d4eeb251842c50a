//! Either IP header.

use super::{EcnCodepoint, Error, EtherType, Ethernet, Ipv4, Ipv6};
use core::net::IpAddr;

/// IP protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;

/// IPv4 or IPv6 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ip {
    /// IPv4.
    V4(Ipv4),
    /// IPv6.
    V6(Ipv6),
}

impl Ip {
    /// Reads the IP header behind an Ethernet header; also gives its payload.
    ///
    /// # Errors
    /// `NotRoce` when the frame carries something else.
    pub fn parse<'a>(eth: &Ethernet, bytes: &'a [u8]) -> Result<(Self, &'a [u8]), Error> {
        match eth.ethertype {
            EtherType::Ipv4 => Ipv4::parse(bytes).map(|(h, rest)| (Self::V4(h), rest)),
            EtherType::Ipv6 => Ipv6::parse(bytes).map(|(h, rest)| (Self::V6(h), rest)),
            EtherType::Arp | EtherType::Other(_) => Err(Error::NotRoce),
        }
    }

    /// Source address.
    #[must_use]
    pub const fn src(&self) -> IpAddr {
        match self {
            Self::V4(h) => IpAddr::V4(h.src),
            Self::V6(h) => IpAddr::V6(h.src),
        }
    }

    /// Destination address.
    #[must_use]
    pub const fn dst(&self) -> IpAddr {
        match self {
            Self::V4(h) => IpAddr::V4(h.dst),
            Self::V6(h) => IpAddr::V6(h.dst),
        }
    }

    /// Whether the payload is a whole UDP datagram.
    #[must_use]
    pub const fn is_udp(&self) -> bool {
        match self {
            Self::V4(h) => h.protocol == PROTOCOL_UDP && !h.is_fragment(),
            Self::V6(h) => h.next_header == PROTOCOL_UDP,
        }
    }

    /// TOS or traffic class.
    #[must_use]
    pub const fn traffic_class(&self) -> u8 {
        match self {
            Self::V4(h) => h.tos,
            Self::V6(h) => h.traffic_class,
        }
    }

    /// Explicit congestion notification.
    #[must_use]
    pub const fn ecn(&self) -> EcnCodepoint {
        EcnCodepoint::of(self.traffic_class())
    }

    /// TTL or hop limit.
    #[must_use]
    pub const fn hop_limit(&self) -> u8 {
        match self {
            Self::V4(h) => h.ttl,
            Self::V6(h) => h.hop_limit,
        }
    }

    /// Length on the wire, bytes.
    #[must_use]
    pub const fn header_len(&self) -> usize {
        match self {
            Self::V4(_) => Ipv4::LEN,
            Self::V6(_) => Ipv6::LEN,
        }
    }
}
