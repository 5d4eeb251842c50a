//! RoCEv2 wire formats: one file per header.
//!
//! Every header has a typed representation with `parse` (from the front of a byte slice) and `emit` (to an array).
//! [`Packet`] parses a whole Ethernet frame; [`frame`] builds one. Nothing here allocates, and no input panics.
//! Multi-byte fields are big-endian on the wire and native in the representations.
//! Sources: IBTA volume 1 chapters 5 and 9, annex A17 (RoCEv2).

pub mod address;
pub mod aeth;
pub mod atomic;
pub mod bth;
pub mod cm_msg;
pub mod cma;
pub mod deth;
pub mod ecn;
pub mod ethernet;
pub mod ext;
pub mod frame;
pub mod icrc;
pub mod ieth;
pub mod immediate;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod mad;
pub mod opcode;
pub mod packet;
pub mod reth;
pub mod udp;

pub use crate::path::{Path, PathMtu};
pub use address::{Gid, MacAddr};
pub use aeth::{Aeth, NakCode, Syndrome};
pub use atomic::{AtomicAckEth, AtomicEth};
pub use bth::Bth;
pub use deth::Deth;
pub use ecn::EcnCodepoint;
pub use ethernet::{EtherType, Ethernet};
pub use ext::ExtHeaders;
pub use icrc::Icrc;
pub use ieth::Ieth;
pub use immediate::Immediate;
pub use ip::Ip;
pub use ipv4::Ipv4;
pub use ipv6::Ipv6;
pub use opcode::Opcode;
pub use packet::Packet;
pub use reth::Reth;
pub use udp::Udp;

/// Why bytes are not the thing they were parsed as, or why a header cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A frame for somebody else: not IP, not UDP, a fragment, or another UDP port. Belongs to the LAN path.
    NotRoce,
    /// The frame ends before a header or a length field says it does.
    Truncated,
    /// A length field is smaller than the headers it must cover, what follows the headers is no whole number of words, or there
    /// is payload where the opcode has none.
    BadLength,
    /// BTH transport version other than 0.
    TransportVersion,
    /// Destination QPN 0.
    ZeroQpn,
    /// The ICRC does not match.
    Icrc,
    /// The extended headers handed to a builder are not those of the opcode.
    HeaderMismatch,
    /// The output buffer is too small, or the packet would exceed 65535 bytes.
    TooLong,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NotRoce => "not a RoCEv2 frame",
            Self::Truncated => "truncated",
            Self::BadLength => "length field too small",
            Self::TransportVersion => "unknown transport version",
            Self::ZeroQpn => "destination QPN 0",
            Self::Icrc => "ICRC mismatch",
            Self::HeaderMismatch => "extended headers do not fit the opcode",
            Self::TooLong => "too long",
        })
    }
}

impl core::error::Error for Error {}

/// Low 24 bits as the three wire bytes of a QPN, PSN or MSN.
pub(crate) const fn u24_to_bytes(v: u32) -> [u8; 3] {
    let [_, a, b, c] = v.to_be_bytes();
    [a, b, c]
}

/// Three wire bytes as a number.
pub(crate) const fn u24_from_bytes(b: [u8; 3]) -> u32 {
    let [x, y, z] = b;
    u32::from_be_bytes([0, x, y, z])
}
