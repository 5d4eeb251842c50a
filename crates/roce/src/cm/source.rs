//! Where a message came from, and the way back.

use crate::wire::cm_msg::Req;
use crate::wire::{EcnCodepoint, Packet, Path, PathMtu};
use core::net::IpAddr;

/// Hops that an answer may take: the peer says nothing about it.
const HOP_LIMIT: u8 = 64;

/// Where a message came from.
pub(super) struct Source<'a> {
    pub packet: &'a Packet<'a>,
}

impl Source<'_> {
    pub fn ip(&self) -> IpAddr {
        self.packet.ip.src()
    }

    pub fn destination(&self) -> IpAddr {
        self.packet.ip.dst()
    }

    /// The way the message came, backwards, with its VLAN tag.
    pub fn way_back(&self) -> Path {
        Path {
            src_mac: self.packet.eth.dst,
            dst_mac: self.packet.eth.src,
            vlan: self.packet.eth.vlan,
            src_ip: self.destination(),
            dst_ip: self.ip(),
            hop_limit: HOP_LIMIT,
            traffic_class: 0,
            mtu: PathMtu::Mtu256,
        }
    }

    /// The same with what the request says about the path.
    pub fn path(&self, req: &Req) -> Path {
        Path {
            // Its low bits say whether a packet may be, or has been, marked: that is not the peer's to say of this side's.
            traffic_class: EcnCodepoint::NotCapable.mark(req.primary.traffic_class),
            mtu: PathMtu::from_code(req.mtu_code).unwrap_or(PathMtu::Mtu256),
            ..self.way_back()
        }
    }
}
