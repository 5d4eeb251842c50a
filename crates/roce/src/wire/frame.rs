//! Building frames: everything in front of the payload, and the ICRC started over it.

use super::{
    Bth, Error, EtherType, Ethernet, ExtHeaders, Icrc, Ipv4, Ipv6, Path, Udp, icrc, ip, udp,
};
use arrayvec::ArrayVec;
use core::net::IpAddr;

/// Longest header that [`Header::write`] makes, bytes: VLAN-tagged IPv6 with the longest extended headers.
pub const MAX_HEADER: usize =
    Ethernet::MAX_LEN + Ipv6::LEN + Udp::LEN + Bth::LEN + ExtHeaders::MAX_LEN;

/// What goes in front of a payload.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    /// Addresses, VLAN tag, hop limit, traffic class.
    pub path: &'a Path,
    /// UDP source port; see [`udp::source_port`].
    pub src_port: u16,
    /// IPv4 identification. Packets are never fragmented, so any value will do.
    pub ident: u16,
    /// Base transport header. Its pad count is computed.
    pub bth: Bth,
    /// Extended headers, those of the opcode.
    pub ext: ExtHeaders,
}

impl<'a> Header<'a> {
    /// A header with IPv4 identification 0.
    #[must_use]
    pub const fn new(path: &'a Path, src_port: u16, bth: Bth, ext: ExtHeaders) -> Self {
        Self {
            path,
            src_port,
            ident: 0,
            bth,
            ext,
        }
    }

    /// Appends the header bytes of a packet with `payload_len` bytes of payload to `out`. The lengths in them are
    /// final. Feed the payload to the returned ICRC, then take its [`Icrc::trailer`] with [`pad_of`] the length.
    ///
    /// # Errors
    /// `HeaderMismatch` when `ext` does not belong to the opcode or the path mixes address families; `TooLong` when
    /// `out` or an IP length field is too small. `out` is then unchanged.
    pub fn write<const N: usize>(
        &self,
        payload_len: usize,
        out: &mut ArrayVec<u8, N>,
    ) -> Result<Icrc, Error> {
        let start = out.len();
        let result = self.append(payload_len, out);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    fn append<const N: usize>(
        &self,
        payload_len: usize,
        out: &mut ArrayVec<u8, N>,
    ) -> Result<Icrc, Error> {
        let ext = self.ext.emit(self.bth.opcode)?;
        let pad = pad_of(payload_len);
        let udp_len = payload_len
            .checked_add(usize::from(pad))
            .and_then(|n| n.checked_add(Udp::LEN + Bth::LEN + icrc::LEN))
            .and_then(|n| n.checked_add(ext.len()))
            .and_then(|n| u16::try_from(n).ok())
            .ok_or(Error::TooLong)?;
        let path = self.path;
        let eth = Ethernet {
            dst: path.dst_mac,
            src: path.src_mac,
            vlan: path.vlan,
            ethertype: match path.dst_ip {
                IpAddr::V4(_) => EtherType::Ipv4,
                IpAddr::V6(_) => EtherType::Ipv6,
            },
        };
        put(out, &eth.emit())?;
        let ip_start = out.len();
        match (path.src_ip, path.dst_ip) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let header = Ipv4 {
                    tos: path.traffic_class,
                    total_len: udp_len.checked_add(20).ok_or(Error::TooLong)?,
                    ident: self.ident,
                    dont_fragment: true,
                    more_fragments: false,
                    fragment_offset: 0,
                    ttl: path.hop_limit,
                    protocol: ip::PROTOCOL_UDP,
                    checksum: 0,
                    src,
                    dst,
                };
                put(out, &header.emit())?;
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let header = Ipv6 {
                    traffic_class: path.traffic_class,
                    flow_label: 0,
                    payload_len: udp_len,
                    next_header: ip::PROTOCOL_UDP,
                    hop_limit: path.hop_limit,
                    src,
                    dst,
                };
                put(out, &header.emit())?;
            }
            _ => return Err(Error::HeaderMismatch),
        }
        let udp = Udp {
            src_port: self.src_port,
            dst_port: udp::ROCE_PORT,
            length: udp_len,
            checksum: 0,
        };
        put(out, &udp.emit())?;
        put(out, &Bth { pad, ..self.bth }.emit())?;
        put(out, &ext)?;
        Icrc::start(out.get(ip_start..).unwrap_or(&[]))
    }
}

/// Zero bytes that follow a payload of `len` bytes, 0..3.
#[must_use]
pub const fn pad_of(len: usize) -> u8 {
    // Two bits.
    (len.wrapping_neg() & 3) as u8
}

fn put<const N: usize>(out: &mut ArrayVec<u8, N>, bytes: &[u8]) -> Result<(), Error> {
    out.try_extend_from_slice(bytes).map_err(|_| Error::TooLong)
}
