//! What a RoCEv2 frame is, in words, for recordings: Wireshark shows them beside the packet.
//!
//! Layouts are those of IBTA's specification, volume 1: base transport header 9.2, extended headers 9.3, opcodes 9.2 (table 38), syndromes 9.7.5,
//! connection management 12.6; in UDP by annex A17.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

/// UDP port of RoCEv2.
const PORT: u16 = 4791;
/// Bytes of the invariant CRC, which ends a packet.
const ICRC: usize = 4;

/// What follows the base transport header.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extended {
    Reth,
    Aeth,
    Atomic,
    AtomicAck,
    Immediate,
    Invalidate,
    Deth,
}

/// Opcodes, their names, and what follows.
const OPCODES: &[(u8, &str, &[Extended])] = {
    use Extended::{Aeth, Atomic, AtomicAck, Deth, Immediate, Invalidate, Reth};
    &[
        (0x00, "SEND First", &[]),
        (0x01, "SEND Middle", &[]),
        (0x02, "SEND Last", &[]),
        (0x03, "SEND Last with Immediate", &[Immediate]),
        (0x04, "SEND Only", &[]),
        (0x05, "SEND Only with Immediate", &[Immediate]),
        (0x06, "RDMA WRITE First", &[Reth]),
        (0x07, "RDMA WRITE Middle", &[]),
        (0x08, "RDMA WRITE Last", &[]),
        (0x09, "RDMA WRITE Last with Immediate", &[Immediate]),
        (0x0a, "RDMA WRITE Only", &[Reth]),
        (0x0b, "RDMA WRITE Only with Immediate", &[Reth, Immediate]),
        (0x0c, "RDMA READ Request", &[Reth]),
        (0x0d, "RDMA READ Response First", &[Aeth]),
        (0x0e, "RDMA READ Response Middle", &[]),
        (0x0f, "RDMA READ Response Last", &[Aeth]),
        (0x10, "RDMA READ Response Only", &[Aeth]),
        (0x11, "Acknowledge", &[Aeth]),
        (0x12, "ATOMIC Acknowledge", &[Aeth, AtomicAck]),
        (0x13, "CmpSwap", &[Atomic]),
        (0x14, "FetchAdd", &[Atomic]),
        (0x16, "SEND Last with Invalidate", &[Invalidate]),
        (0x17, "SEND Only with Invalidate", &[Invalidate]),
        (0x64, "UD SEND Only", &[Deth]),
        (0x65, "UD SEND Only with Immediate", &[Deth, Immediate]),
        (0x81, "CNP", &[]),
    ]
};

/// Messages of the connection manager, by attribute.
const MESSAGES: &[(u16, &str)] = &[
    (0x10, "REQ"),
    (0x11, "MRA"),
    (0x12, "REJ"),
    (0x13, "REP"),
    (0x14, "RTU"),
    (0x15, "DREQ"),
    (0x16, "DREP"),
    (0x17, "SIDR_REQ"),
    (0x18, "SIDR_REP"),
    (0x19, "LAP"),
    (0x1a, "APR"),
];

/// Bytes that are taken off one after the other.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of so many bytes, at most 8.
    fn number(&mut self, bytes: usize) -> Option<u64> {
        let taken = self.take(bytes)?;
        Some(taken.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }
}

/// What a frame is; None if it is not of RoCEv2, or too short for what it says to be.
pub(super) fn describe(frame: &[u8]) -> Option<String> {
    let mut rest = Rest(frame);
    rest.take(12)?;
    let mut kind = rest.number(2)?;
    if kind == 0x8100 {
        rest.take(2)?;
        kind = rest.number(2)?;
    }
    let to = match kind {
        0x0800 => {
            let length = usize::from(*rest.0.first()? & 15) * 4;
            let header = rest.take(length)?;
            let to = <[u8; 4]>::try_from(header.get(16..20)?).ok()?;
            (header[9] == 17).then(|| Ipv4Addr::from(to).to_string())?
        }
        0x86dd => {
            let header = rest.take(40)?;
            let to = <[u8; 16]>::try_from(&header[24..]).ok()?;
            (header[6] == 17).then(|| Ipv6Addr::from(to).to_string())?
        }
        _ => return None,
    };
    rest.take(2)?;
    if rest.number(2)? != u64::from(PORT) {
        return None;
    }
    let length = usize::try_from(rest.number(2)?).ok()?;
    rest.take(2)?;
    packet(rest.0.get(..length.checked_sub(8)?)?, &to)
}

/// What a packet is, from its base transport header on, to that address.
fn packet(packet: &[u8], to: &str) -> Option<String> {
    let mut rest = Rest(packet.get(..packet.len().checked_sub(ICRC)?)?);
    let opcode = rest.number(1)? as u8;
    let flags = rest.number(1)?;
    rest.take(3)?;
    let qp = rest.number(3)?;
    let ask = rest.number(1)? & 0x80 != 0;
    let psn = rest.number(3)?;
    let found = OPCODES.iter().find(|(code, _, _)| *code == opcode);
    let Some((_, name, extended)) = found else {
        return Some(format!(
            "opcode {opcode:#04x} to QP {qp:#x} of {to}, PSN {psn}"
        ));
    };
    let mut text = format!("{name} to QP {qp:#x} of {to}, PSN {psn}");
    for header in *extended {
        tell(*header, &mut rest, &mut text)?;
    }
    let pad = usize::try_from(flags >> 4 & 3).ok()?;
    let payload = rest.0.get(..rest.0.len().checked_sub(pad)?)?;
    if qp == 1 && extended.contains(&Extended::Deth) {
        text += &management(payload).unwrap_or_default();
    } else if !payload.is_empty() {
        write!(text, ", {} bytes of payload", payload.len()).ok()?;
    }
    if flags & 0x80 != 0 {
        text += ", solicited event";
    }
    if ask {
        text += ", acknowledgement asked for";
    }
    Some(text)
}

/// Adds what an extended header says.
fn tell(header: Extended, rest: &mut Rest<'_>, text: &mut String) -> Option<()> {
    let said = match header {
        Extended::Reth => {
            let (va, key, length) = (rest.number(8)?, rest.number(4)?, rest.number(4)?);
            format!(", {length} bytes at {va:#x} by R_Key {key:#x}")
        }
        Extended::Aeth => {
            let (syndrome, msn) = (rest.number(1)?, rest.number(3)?);
            format!(", {}, MSN {msn}", said_by(syndrome))
        }
        Extended::Atomic => {
            let (va, key) = (rest.number(8)?, rest.number(4)?);
            let (swap_add, compare) = (rest.number(8)?, rest.number(8)?);
            format!(", {swap_add:#x} (compared with {compare:#x}) at {va:#x} by R_Key {key:#x}")
        }
        Extended::AtomicAck => format!(", it was {:#x}", rest.number(8)?),
        Extended::Immediate => format!(", immediate {:#x}", rest.number(4)?),
        Extended::Invalidate => format!(", invalidates R_Key {:#x}", rest.number(4)?),
        Extended::Deth => {
            rest.take(5)?;
            format!(", from QP {:#x}", rest.number(3)?)
        }
    };
    text.push_str(&said);
    Some(())
}

/// What a syndrome says.
fn said_by(syndrome: u64) -> String {
    let value = syndrome & 31;
    match syndrome >> 5 & 3 {
        0 => "ACK".to_owned(),
        1 => format!("RNR NAK with timer {value}"),
        3 => format!(
            "NAK: {}",
            match value {
                0 => "PSN sequence error",
                1 => "invalid request",
                2 => "remote access error",
                3 => "remote operational error",
                4 => "invalid RD request",
                _ => "reserved code",
            }
        ),
        _ => "reserved syndrome".to_owned(),
    }
}

/// What a management datagram is, if it is the connection manager's.
fn management(datagram: &[u8]) -> Option<String> {
    const COMMUNICATION: u8 = 7;
    if *datagram.get(1)? != COMMUNICATION {
        return None;
    }
    let mut rest = Rest(datagram.get(16..)?);
    let attribute = rest.number(2)?;
    let found = MESSAGES.iter().find(|(id, _)| u64::from(*id) == attribute);
    let (_, name) = found?;
    rest.take(6)?;
    let (local, remote) = (rest.number(4)?, rest.number(4)?);
    Some(match *name {
        // Its second word is reserved.
        "REQ" => format!(", CM REQ of communication {local:#x}"),
        "SIDR_REQ" | "SIDR_REP" => format!(", CM {name}, request {local:#x}"),
        _ => format!(", CM {name} of communication {local:#x} to {remote:#x}"),
    })
}

#[cfg(test)]
mod tests {
    use super::{describe, packet, said_by};
    use pcap_file::pcap::PcapReader;

    /// What Linux's rdma_rxe has sent.
    fn captured(file: &[u8]) -> Vec<String> {
        let mut reader = PcapReader::new(file).expect("a capture");
        let mut all = Vec::new();
        while let Some(packet) = reader.next_packet() {
            all.extend(describe(&packet.expect("a packet").data));
        }
        all
    }

    #[test]
    fn what_linux_sends_is_told() {
        let all = captured(include_bytes!("../../../roce/data/atomic.pcap"));
        for part in [
            "UD SEND Only to QP 0x1 of ",
            ", CM REQ of communication 0x",
            ", CM DREP of communication 0x",
            "FetchAdd to QP 0x",
            ", ACK, MSN 1, it was 0x",
        ] {
            assert!(all.iter().any(|c| c.contains(part)), "{part:?} in {all:#?}");
        }
    }

    fn bth(opcode: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![opcode, flags, 0xff, 0xff, 0, 0, 0, 0x12, 0x80, 0, 1, 2];
        bytes.extend_from_slice(rest);
        bytes.extend_from_slice(&[0; 4]);
        bytes
    }

    #[test]
    fn headers_and_flags_are_told() {
        let mut write = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 9, 0, 0, 0, 5];
        write.extend_from_slice(&[0xaa, 0, 0, 7]);
        write.extend_from_slice(&[1, 2, 3, 4, 5, 0, 0, 0]);
        assert_eq!(
            packet(&bth(0x0b, 0xb0, &write), "10.0.0.2").unwrap(),
            "RDMA WRITE Only with Immediate to QP 0x12 of 10.0.0.2, PSN 258, 5 bytes at 0x10000 by R_Key 0x9, \
             immediate 0xaa000007, 5 bytes of payload, solicited event, acknowledgement asked for"
        );
        assert_eq!(
            packet(&bth(0x3f, 0, &[]), "::1").unwrap(),
            "opcode 0x3f to QP 0x12 of ::1, PSN 258"
        );
        assert_eq!(said_by(0x1f), "ACK");
        assert_eq!(said_by(0x2c), "RNR NAK with timer 12");
        assert_eq!(said_by(0x63), "NAK: remote operational error");
    }

    /// However it is cut, nothing is read beyond its end, and nothing told that is not there.
    #[test]
    fn what_is_too_short_is_not_told() {
        let full = bth(0x13, 0x80, &[0; 28]);
        assert!(packet(&full, "::1").is_some());
        for len in 0..full.len() {
            assert_eq!(packet(&full[..len], "::1"), None, "{len}");
            assert_eq!(describe(&full[..len]), None);
        }
    }
}
