//! UDP header (RFC 768) and the choice of source port.

use super::Error;
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// UDP destination port of RoCEv2.
pub const ROCE_PORT: u16 = 4791;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    src_port: U16,
    dst_port: U16,
    length: U16,
    checksum: U16,
}

/// UDP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Source port: only entropy for switches and receive-side scaling.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Header and payload, bytes.
    pub length: u16,
    /// Checksum; RoCEv2 senders leave it zero, and the ICRC makes it redundant.
    pub checksum: u16,
}

impl Udp {
    /// Length on the wire, bytes.
    pub const LEN: usize = 8;

    /// Reads the header at the front of `bytes`; also gives everything after it, not yet cut to the length field.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), Error> {
        let (raw, rest) = Raw::ref_from_prefix(bytes).map_err(|_| Error::Truncated)?;
        Ok((
            Self {
                src_port: raw.src_port.get(),
                dst_port: raw.dst_port.get(),
                length: raw.length.get(),
                checksum: raw.checksum.get(),
            },
            rest,
        ))
    }

    /// The wire bytes.
    #[must_use]
    pub fn emit(&self) -> [u8; Self::LEN] {
        zerocopy::transmute!(Raw {
            src_port: U16::new(self.src_port),
            dst_port: U16::new(self.dst_port),
            length: U16::new(self.length),
            checksum: U16::new(self.checksum),
        })
    }
}

/// The source port of everything a queue pair sends: 0xC000..=0xFFFF, spread by the golden ratio so that
/// neighbouring QPNs take different ways through a fabric.
#[must_use]
pub const fn source_port(local_qpn: u32) -> u16 {
    let hash = local_qpn.wrapping_mul(0x61c8_8647) >> 18;
    // 14 bits remain.
    0xc000 | hash as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r008_source_port_is_dynamic_and_constant_per_qp() {
        for (qpn, port) in [(1, 0xd872), (17, 0xdf94), (18, 0xf806), (19, 0xd078)] {
            assert_eq!(source_port(qpn), port);
        }
        for qpn in (0..1 << 24).step_by(977) {
            assert!(source_port(qpn) >= 0xc000);
        }
    }
}
