//! How frames reach a peer.

use core::net::IpAddr;

/// Path MTU: the most payload that one packet carries. The discriminants are the wire's codes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum PathMtu {
    /// 256 bytes.
    Mtu256 = 1,
    /// 512 bytes.
    Mtu512 = 2,
    /// 1024 bytes.
    Mtu1024 = 3,
    /// 2048 bytes.
    Mtu2048 = 4,
    /// 4096 bytes.
    Mtu4096 = 5,
}

impl PathMtu {
    /// Bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        128 << self as u32
    }

    /// The wire's code, 1..=5.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The MTU with this code.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<PathMtu> {
        Some(match code {
            1 => PathMtu::Mtu256,
            2 => PathMtu::Mtu512,
            3 => PathMtu::Mtu1024,
            4 => PathMtu::Mtu2048,
            5 => PathMtu::Mtu4096,
            _ => return None,
        })
    }

    /// The largest that fits a link whose largest IP packet has `link_mtu` bytes, leaving the 96 bytes that the RDMA-CM
    /// convention reserves for headers. A link too small for any gets the smallest.
    #[must_use]
    pub const fn for_link(link_mtu: u16) -> PathMtu {
        match link_mtu.saturating_sub(96) {
            4096.. => PathMtu::Mtu4096,
            2048.. => PathMtu::Mtu2048,
            1024.. => PathMtu::Mtu1024,
            512.. => PathMtu::Mtu512,
            _ => PathMtu::Mtu256,
        }
    }
}

/// Addresses and parameters of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Path {
    /// Local MAC address.
    pub src_mac: [u8; 6],
    /// MAC address of the peer or of the next hop.
    pub dst_mac: [u8; 6],
    /// 802.1Q tag control information of every frame: priority, drop eligibility, VLAN ID. `None`: untagged.
    pub vlan: Option<u16>,
    /// Local IP address; same family as `dst_ip`.
    pub src_ip: IpAddr,
    /// The peer's IP address.
    pub dst_ip: IpAddr,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Type of service or traffic class.
    pub traffic_class: u8,
    /// Path MTU.
    pub mtu: PathMtu,
}

#[cfg(test)]
mod tests {
    use super::PathMtu;

    #[test]
    fn r099_path_mtu_derives_from_the_link_mtu() {
        for (link, bytes) in [
            (1500, 1024),
            (4200, 4096),
            (4192, 4096),
            (4191, 2048),
            (9000, 4096),
            (576, 256),
            (0, 256),
        ] {
            assert_eq!(PathMtu::for_link(link).bytes(), bytes, "link MTU {link}");
        }
        for code in 0..=255 {
            if let Some(mtu) = PathMtu::from_code(code) {
                assert_eq!((mtu.code(), mtu.bytes()), (code, 128 << code));
            } else {
                assert!(!(1..=5).contains(&code));
            }
        }
    }
}
