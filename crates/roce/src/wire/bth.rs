//! Base Transport Header (IBTA 9.2).

use super::{Error, Opcode, u24_from_bytes, u24_to_bytes};
use crate::psn::Psn;
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    opcode: u8,
    flags: u8,
    pkey: U16,
    congestion: u8,
    dest_qpn: [u8; 3],
    ack: u8,
    psn: [u8; 3],
}

/// The partition every RoCE port belongs to, as a full member.
pub const DEFAULT_PKEY: u16 = 0xffff;

/// Base Transport Header. Reserved bits are ignored on receive and sent as zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bth {
    /// Transport and operation.
    pub opcode: Opcode,
    /// Solicited event.
    pub solicited: bool,
    /// Migration state; ignored on receive.
    pub mig_req: bool,
    /// Zero bytes between payload and ICRC, 0..3.
    pub pad: u8,
    /// Transport version, 0..15; only 0 exists.
    pub tver: u8,
    /// Partition key.
    pub pkey: u16,
    /// Forward congestion notification.
    pub fecn: bool,
    /// Backward congestion notification.
    pub becn: bool,
    /// Destination queue pair, 24 bits.
    pub dest_qpn: u32,
    /// The responder shall acknowledge.
    pub ack_req: bool,
    /// Packet sequence number.
    pub psn: Psn,
}

impl Bth {
    /// Length on the wire, bytes.
    pub const LEN: usize = 12;

    /// A header with everything but these three at rest: default P_Key, no flags, no pad.
    #[must_use]
    pub const fn new(opcode: Opcode, dest_qpn: u32, psn: Psn) -> Self {
        Self {
            opcode,
            solicited: false,
            mig_req: false,
            pad: 0,
            tver: 0,
            pkey: DEFAULT_PKEY,
            fecn: false,
            becn: false,
            dest_qpn,
            ack_req: false,
            psn,
        }
    }

    /// Reads the header at the front of `bytes`; also gives what follows it.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), Error> {
        let (raw, rest) = Raw::ref_from_prefix(bytes).map_err(|_| Error::Truncated)?;
        Ok((
            Self {
                opcode: Opcode::from_u8(raw.opcode),
                solicited: raw.flags & 0x80 != 0,
                mig_req: raw.flags & 0x40 != 0,
                pad: raw.flags >> 4 & 3,
                tver: raw.flags & 0xf,
                pkey: raw.pkey.get(),
                fecn: raw.congestion & 0x80 != 0,
                becn: raw.congestion & 0x40 != 0,
                dest_qpn: u24_from_bytes(raw.dest_qpn),
                ack_req: raw.ack & 0x80 != 0,
                psn: Psn::new(u24_from_bytes(raw.psn)),
            },
            rest,
        ))
    }

    /// The wire bytes. Fields wider than their place are cut.
    #[must_use]
    pub fn emit(&self) -> [u8; Self::LEN] {
        zerocopy::transmute!(Raw {
            opcode: self.opcode.to_u8(),
            flags: u8::from(self.solicited) << 7
                | u8::from(self.mig_req) << 6
                | (self.pad & 3) << 4
                | self.tver & 0xf,
            pkey: U16::new(self.pkey),
            congestion: u8::from(self.fecn) << 7 | u8::from(self.becn) << 6,
            dest_qpn: u24_to_bytes(self.dest_qpn),
            ack: u8::from(self.ack_req) << 7,
            psn: u24_to_bytes(self.psn.get()),
        })
    }

    /// Whether the port takes this P_Key.
    #[must_use]
    pub const fn pkey_matches(&self) -> bool {
        pkey_matches(self.pkey)
    }
}

/// Whether the port, a full member of the default partition and of no other, takes this P_Key: the low 15 bits decide.
#[must_use]
pub const fn pkey_matches(pkey: u16) -> bool {
    pkey & 0x7fff == DEFAULT_PKEY & 0x7fff
}
