//! What is inside frames, as far as the device looks: the TCP or UDP part, its checksum, and whose flow it is.

use std::ops::Range;

use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Packet, Ipv6Packet, checksum,
};

/// Bytes of an Ethernet header, and of a VLAN tag.
const ETHERNET: usize = 14;
const TAG: usize = 4;
/// EtherType of a VLAN tag.
const TAGGED: [u8; 2] = [0x81, 0x00];

/// The TCP or UDP part of a frame, in one piece.
pub(super) struct Segment {
    source: IpAddress,
    destination: IpAddress,
    protocol: IpProtocol,
    range: Range<usize>,
}

impl Segment {
    /// Of a frame; None if it has none, or only a fragment of one.
    pub(super) fn of(frame: &[u8]) -> Option<Segment> {
        let tag = if frame.get(12..14)? == TAGGED { TAG } else { 0 };
        let kind = EthernetFrame::new_checked(frame.get(tag..)?)
            .ok()?
            .ethertype();
        let at = ETHERNET + tag;
        let packet = frame.get(at..)?;
        let segment = match kind {
            EthernetProtocol::Ipv4 => {
                let packet = Ipv4Packet::new_checked(packet).ok()?;
                if packet.more_frags() || packet.frag_offset() != 0 {
                    return None;
                }
                Segment {
                    source: packet.src_addr().into(),
                    destination: packet.dst_addr().into(),
                    protocol: packet.next_header(),
                    range: at + usize::from(packet.header_len())
                        ..at + usize::from(packet.total_len()),
                }
            }
            EthernetProtocol::Ipv6 => {
                let packet = Ipv6Packet::new_checked(packet).ok()?;
                let begin = at + packet.header_len();
                Segment {
                    source: packet.src_addr().into(),
                    destination: packet.dst_addr().into(),
                    protocol: packet.next_header(),
                    range: begin..begin + usize::from(packet.payload_len()),
                }
            }
            _ => return None,
        };
        let header = match segment.protocol {
            IpProtocol::Tcp => 20,
            IpProtocol::Udp => 8,
            _ => return None,
        };
        (segment.range.len() >= header).then_some(segment)
    }

    /// Where in the frame it begins.
    pub(super) fn start(&self) -> usize {
        self.range.start
    }

    /// Whether its checksum is right; None if it has none. `frame` is the one that it is of.
    pub(super) fn is_valid(&self, frame: &[u8]) -> Option<bool> {
        let bytes = &frame[self.range.clone()];
        if self.protocol == IpProtocol::Udp && bytes[6..8] == [0, 0] {
            return None;
        }
        let pseudo_header = checksum::pseudo_header(
            &self.source,
            &self.destination,
            self.protocol,
            bytes.len() as u32,
        );
        Some(checksum::combine(&[pseudo_header, checksum::data(bytes)]) == !0)
    }

    /// A number for the flow, the same in both directions.
    fn flow(&self, frame: &[u8]) -> u32 {
        let end = |address: IpAddress, port: usize| {
            let at = self.range.start + port;
            let mut bytes = match address {
                IpAddress::Ipv4(address) => address.octets().to_vec(),
                IpAddress::Ipv6(address) => address.octets().to_vec(),
            };
            bytes.extend_from_slice(&frame[at..at + 2]);
            bytes
        };
        let mut ends = [end(self.source, 0), end(self.destination, 2)];
        ends.sort();
        hash(ends.concat().into_iter().chain([self.protocol.into()]))
    }
}

/// FNV-1a, which spreads well enough and is the same everywhere.
fn hash(bytes: impl Iterator<Item = u8>) -> u32 {
    bytes.fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// A number for the flow that a frame belongs to, the same in both directions: of its addresses and ports if it is TCP or UDP, else of
/// its Ethernet addresses.
pub(super) fn flow(frame: &[u8]) -> u32 {
    match Segment::of(frame) {
        Some(segment) => segment.flow(frame),
        None => {
            let (to, from) = (frame.get(..6), frame.get(6..12));
            let mut ends = [to.unwrap_or_default(), from.unwrap_or_default()];
            ends.sort_unstable();
            hash(ends.concat().into_iter())
        }
    }
}

/// Completes the checksum of a frame: sums from `start` to the end and puts the result `offset` bytes behind `start`. False if there is no
/// room for it in the frame.
pub(super) fn complete(frame: &mut [u8], start: usize, offset: usize) -> bool {
    let Some(summed) = frame.get_mut(start..) else {
        return false;
    };
    let sum = !checksum::data(summed);
    let Some(field) = summed.get_mut(offset..offset + 2) else {
        return false;
    };
    // A sum of zero means "none" in UDP; this is the same number.
    let sum = if sum == 0 { !0 } else { sum };
    field.copy_from_slice(&sum.to_be_bytes());
    true
}
