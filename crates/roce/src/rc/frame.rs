//! Frames of a connection: a template made once, patched for every packet.

use crate::memory::{Fault, Memory};
use crate::psn::Psn;
use crate::transmit::Transmit;
use crate::wire::frame::{Header, pad_of};
use crate::wire::{
    AtomicAckEth, AtomicEth, Bth, Ethernet, ExtHeaders, Icrc, Ieth, Ipv4, Ipv6, Opcode, Path, Reth,
    Udp, icrc, ipv4, udp,
};
use arrayvec::ArrayVec;

/// The extension header of an outgoing packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Extension {
    None,
    Reth(Reth),
    /// Syndrome byte and MSN.
    Aeth(u8, u32),
    AtomicAck(u8, u32, AtomicAckEth),
    Atomic(AtomicEth),
    Ieth(Ieth),
    Immediate([u8; 4]),
    RethImmediate(Reth, [u8; 4]),
}

/// What to send, payload aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Outgoing {
    pub op: Opcode,
    pub psn: Psn,
    pub solicited: bool,
    pub ack_request: bool,
    pub extension: Extension,
}

/// The bit of the BTH that tells the receiver of congestion on the way to its peer.
const BECN: u8 = 0x40;

const MAX_LEN: usize = Ethernet::MAX_LEN + Ipv6::LEN + Udp::LEN + Bth::LEN;

/// Ethernet, IP, UDP and BTH as they are in every frame of a connection; lengths, checksum, opcode, flags and PSN are to be
/// filled in.
#[derive(Clone, Default)]
pub(super) struct Template {
    bytes: ArrayVec<u8, MAX_LEN>,
    /// Where the IP header starts.
    ip: usize,
    /// Where the BTH starts.
    bth: usize,
    /// IPv4: ones' complement sum of the header with length and checksum zero.
    ipv4_sum: Option<u32>,
}

impl Template {
    /// A path that mixes address families gives an empty template, with which every [`write()`] fails.
    pub fn new(path: &Path, qpn: u32, peer_qpn: u32) -> Template {
        let bth = Bth::new(Opcode::SendOnly, peer_qpn, Psn::ZERO);
        let header = Header::new(path, udp::source_port(qpn), bth, ExtHeaders::NONE);
        let mut bytes = ArrayVec::new();
        if header.write(0, &mut bytes).is_err() {
            return Template::default();
        }
        let bth = bytes.len().saturating_sub(Bth::LEN);
        let ip_len = if path.dst_ip.is_ipv4() {
            Ipv4::LEN
        } else {
            Ipv6::LEN
        };
        let ip = bth.saturating_sub(Udp::LEN + ip_len);
        let mut template = Template {
            bytes,
            ip,
            bth,
            ipv4_sum: None,
        };
        if path.dst_ip.is_ipv4() {
            put(&mut template.bytes, ip + 2, &[0, 0]);
            put(&mut template.bytes, ip + 10, &[0, 0]);
            let header = template.bytes.get(ip..ip + Ipv4::LEN).unwrap_or(&[]);
            template.ipv4_sum = Some(ipv4::sum(header));
        }
        template
    }

    /// Sends to another next hop from now on.
    pub fn redirect(&mut self, mac: [u8; 6]) {
        put(&mut self.bytes, 0, &mac);
    }
}

fn aeth(syndrome: u8, msn: u32) -> [u8; 4] {
    let [_, a, b, c] = msn.to_be_bytes();
    [syndrome, a, b, c]
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at.wrapping_add(value.len())) {
        place.copy_from_slice(value);
    }
}

/// Writes a frame around the payload: `inline`, or the pieces already in `out`, `len` bytes in either case.
///
/// # Errors
/// [`Fault`] if the pieces cannot be read, or the header does not fit.
pub(super) fn write<M: Memory>(
    template: &Template,
    packet: &Outgoing,
    inline: Option<&[u8]>,
    len: u32,
    memory: &M,
    out: &mut Transmit,
) -> Result<(), Fault> {
    let header = &mut out.header;
    header.clear();
    header
        .try_extend_from_slice(&template.bytes)
        .map_err(|_| Fault)?;
    match &packet.extension {
        Extension::None => Ok(()),
        Extension::Reth(reth) => header.try_extend_from_slice(&reth.emit()),
        Extension::Aeth(syndrome, msn) => header.try_extend_from_slice(&aeth(*syndrome, *msn)),
        Extension::AtomicAck(syndrome, msn, ack) => header
            .try_extend_from_slice(&aeth(*syndrome, *msn))
            .and_then(|()| header.try_extend_from_slice(&ack.emit())),
        Extension::Atomic(operands) => header.try_extend_from_slice(&operands.emit()),
        Extension::Ieth(ieth) => header.try_extend_from_slice(&ieth.emit()),
        Extension::Immediate(data) => header.try_extend_from_slice(data),
        Extension::RethImmediate(reth, data) => header
            .try_extend_from_slice(&reth.emit())
            .and_then(|()| header.try_extend_from_slice(data)),
    }
    .map_err(|_| Fault)?;

    let pad = pad_of(len as usize);
    let headers = header.len().saturating_sub(template.ip);
    let ip_len = headers + len as usize + usize::from(pad) + icrc::LEN;
    let ip_len = u16::try_from(ip_len).map_err(|_| Fault)?;
    let udp_at = template.bth.saturating_sub(Udp::LEN);
    let udp_len = ip_len.saturating_sub(udp_at.saturating_sub(template.ip) as u16);
    if let Some(sum) = template.ipv4_sum {
        let checksum = ipv4::checksum(sum + u32::from(ip_len));
        put(header, template.ip + 2, &ip_len.to_be_bytes());
        put(header, template.ip + 10, &checksum.to_be_bytes());
    } else {
        put(header, template.ip + 4, &udp_len.to_be_bytes());
    }
    put(header, udp_at + 4, &udp_len.to_be_bytes());
    let flags = u8::from(packet.solicited) << 7 | pad << 4;
    put(header, template.bth, &[packet.op.to_u8(), flags]);
    if packet.op == Opcode::Cnp {
        put(header, template.bth + 4, &[BECN]);
    }
    let [_, a, b, c] = packet.psn.get().to_be_bytes();
    put(
        header,
        template.bth + 8,
        &[u8::from(packet.ack_request) << 7, a, b, c],
    );

    if let Some(data) = inline {
        header.try_extend_from_slice(data).map_err(|_| Fault)?;
    }
    let mut icrc = Icrc::start(header.get(template.ip..).unwrap_or(&[])).map_err(|_| Fault)?;
    for piece in &out.pieces {
        memory.visit(piece.region, piece.offset, piece.len, &mut |bytes| {
            icrc.update(bytes)
        })?;
    }
    out.trailer = icrc.trailer(pad);
    Ok(())
}
