//! Ethernet addresses, GIDs and GUIDs.

use core::net::{IpAddr, Ipv6Addr};

/// Ethernet address.
pub type MacAddr = [u8; 6];

/// EUI-64 made from a MAC address (universal/local bit flipped, FFFE inserted): the node GUID of a port.
#[must_use]
pub const fn guid_from_mac(mac: MacAddr) -> u64 {
    let [a, b, c, d, e, f] = mac;
    u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// A RoCEv2 GID: an IPv6 address, or an IPv4 address mapped into one (`::ffff:a.b.c.d`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Gid(pub [u8; 16]);

impl From<IpAddr> for Gid {
    fn from(ip: IpAddr) -> Self {
        Self(match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        })
    }
}

impl From<Gid> for IpAddr {
    fn from(gid: Gid) -> Self {
        Ipv6Addr::from(gid.0).to_canonical()
    }
}

/// Whether a consumer may be reached at, or connect from, this address: neither unspecified, loopback nor multicast
/// nor the IPv4 limited broadcast.
#[must_use]
pub const fn is_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(a) => {
            !(a.is_unspecified() || a.is_loopback() || a.is_multicast() || a.is_broadcast())
        }
        IpAddr::V6(a) => !(a.is_unspecified() || a.is_loopback() || a.is_multicast()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gid_of_an_address_maps_back() {
        for text in ["10.0.0.1", "fd00::1", "fe80::5054:ff:fe00:1"] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(IpAddr::from(Gid::from(ip)), ip);
        }
    }

    #[test]
    fn guid_is_the_eui64_of_the_mac() {
        assert_eq!(guid_from_mac([0, 0, 0, 0, 0, 1]), 0x0200_00ff_fe00_0001);
    }
}
