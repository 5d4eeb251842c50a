//! What perftest's control connection carries between `ib_*_bw -R` client and server.
//!
//! The client sends, the server answers in kind: a version string, integers that are only compared, the description of a queue
//! pair and its buffer ([`Destination`]), and at the end the figures. Seen on the wire with perftest 4.5 (protocol "6.06").

use std::net::IpAddr;

/// perftest's default port.
pub const PORT: u16 = 18515;

/// Size of every message of the bandwidth tests, unless `-s` is given.
pub const MESSAGE: usize = 65536;

/// What memory holds before the test writes it.
pub const SENTINEL: u8 = 0xA5;

/// perftest fills its buffers with random bytes: so long a run of the sentinel means that something was not transferred.
pub const LONGEST_RUN: usize = 8;

/// The longest run of the sentinel.
pub fn longest_run(bytes: &[u8]) -> usize {
    bytes
        .split(|byte| *byte != SENTINEL)
        .map(<[u8]>::len)
        .max()
        .unwrap_or(0)
}

/// One message of the control connection, told apart by its length.
#[derive(Debug, PartialEq, Eq)]
pub enum Control {
    /// Something the server answers with the same bytes: version, cycle buffer, cache line, MTU, figures.
    Echo,
    /// The client's queue pair and buffer; the server answers with its own.
    Destination,
}

impl Control {
    /// Classifies a message of `length` bytes, or says that this version is not understood.
    pub fn classify(length: usize) -> Option<Control> {
        match length {
            2 | 4 | 8 | 16 => Some(Control::Echo),
            Destination::LEN => Some(Control::Destination),
            _ => None,
        }
    }
}

/// A queue pair and the buffer that the peer may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    /// READs the sender accepts.
    pub read_limit: u32,
    /// Queue pair number. Informational with RDMA-CM.
    pub qpn: u32,
    /// Initial PSN. Informational with RDMA-CM.
    pub psn: u32,
    /// R_Key of the buffer.
    pub key: u32,
    /// Its virtual address.
    pub address: u64,
    /// The sender's GID: its IPv6 address, or its IPv4 address mapped to one.
    pub gid: [u8; 16],
}

impl Destination {
    /// Bytes on the wire, protocol 6.06.
    pub const LEN: usize = 56;

    /// A buffer on the server with this address.
    pub fn new(server: IpAddr, address: u64, key: u32) -> Destination {
        let gid = match server {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        Destination {
            read_limit: 1,
            qpn: 0,
            psn: 0,
            key,
            address,
            gid: gid.octets(),
        }
    }

    /// From a received message.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Destination {
        let word = |at: usize| {
            u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let mut gid = [0; 16];
        gid.copy_from_slice(&bytes[32..48]);
        Destination {
            read_limit: word(4),
            qpn: word(8),
            psn: word(12),
            key: word(16),
            address: u64::from(word(24)) << 32 | u64::from(word(28)),
            gid,
        }
    }

    /// All integers big-endian: LID, reads, QPN, PSN, key, padding, address, GID, SRQ number, GID index.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[4..8].copy_from_slice(&self.read_limit.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.qpn.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.psn.to_be_bytes());
        bytes[16..20].copy_from_slice(&self.key.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.address.to_be_bytes());
        bytes[32..48].copy_from_slice(&self.gid);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_lies_as_on_the_wire() {
        // Field offsets from a captured exchange of ib_write_bw 6.06: key at 16, address at 24, GID at 32.
        let destination = Destination {
            read_limit: 1,
            qpn: 0x12,
            psn: 0x7_B30D,
            key: 0x38E,
            address: 0x5641_D3E0_0710,
            gid: *b"0123456789abcdef",
        };
        let bytes = destination.to_bytes();
        assert_eq!(
            bytes[4..24],
            [
                0, 0, 0, 1, 0, 0, 0, 0x12, 0, 7, 0xB3, 0x0D, 0, 0, 3, 0x8E, 0, 0, 0, 0
            ]
        );
        assert_eq!(bytes[24..32], [0, 0, 0x56, 0x41, 0xD3, 0xE0, 7, 0x10]);
        assert_eq!(&bytes[32..48], b"0123456789abcdef");
        assert_eq!(Destination::from_bytes(&bytes), destination);
    }

    #[test]
    fn messages_are_told_apart_by_length() {
        assert_eq!(Control::classify(16), Some(Control::Echo));
        assert_eq!(Control::classify(56), Some(Control::Destination));
        assert_eq!(Control::classify(64), None);
    }
}
