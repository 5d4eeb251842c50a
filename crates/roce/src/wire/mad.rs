//! Management datagrams (IBTA 13.4): the common header and the datagram on queue pair 1.

use super::deth::GSI_QKEY;
use super::{Bth, Deth, ExtHeaders, Opcode, Packet};
use crate::psn::Psn;
use zerocopy::byteorder::network_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Every MAD has this many bytes.
pub const LEN: usize = 256;

/// Bytes after the common header.
pub const BODY_LEN: usize = LEN - Header::LEN;

/// Queue pair of the general services interface.
pub const GSI_QPN: u32 = 1;

/// Base version of every MAD.
pub const BASE_VERSION: u8 = 1;

/// Management class of communication management.
pub const CLASS_CM: u8 = 0x07;

/// Class version of communication management.
pub const CLASS_VERSION_CM: u8 = 2;

/// The only method of communication management.
pub const METHOD_SEND: u8 = 0x03;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    base_version: u8,
    class: u8,
    class_version: u8,
    method: u8,
    status: U16,
    class_specific: U16,
    transaction_id: U64,
    attribute_id: U16,
    reserved: U16,
    attribute_modifier: U32,
}

/// The header that all management classes share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Always 1.
    pub base_version: u8,
    /// Management class.
    pub class: u8,
    /// Version of that class.
    pub class_version: u8,
    /// What is to be done.
    pub method: u8,
    /// Status, 0 in requests.
    pub status: u16,
    /// Belongs to the class.
    pub class_specific: u16,
    /// Chosen by whoever began the exchange.
    pub transaction_id: u64,
    /// What it is to be done to.
    pub attribute_id: u16,
    /// Refines the attribute.
    pub attribute_modifier: u32,
}

impl Header {
    /// Length on the wire, bytes.
    pub const LEN: usize = 24;

    /// The header of a CM message.
    #[must_use]
    pub const fn cm(attribute_id: u16, transaction_id: u64) -> Self {
        Self {
            base_version: BASE_VERSION,
            class: CLASS_CM,
            class_version: CLASS_VERSION_CM,
            method: METHOD_SEND,
            status: 0,
            class_specific: 0,
            transaction_id,
            attribute_id,
            attribute_modifier: 0,
        }
    }

    /// Whether version, class and method are those of a CM message.
    #[must_use]
    pub const fn is_cm(&self) -> bool {
        self.base_version == BASE_VERSION
            && self.class == CLASS_CM
            && self.class_version == CLASS_VERSION_CM
            && self.method == METHOD_SEND
    }

    /// Reads the header of a MAD; also gives its body.
    #[must_use]
    pub fn parse(mad: &[u8; LEN]) -> (Self, &[u8; BODY_LEN]) {
        let mad: &RawMad = zerocopy::transmute_ref!(mad);
        (Self::from_raw(&mad.header), &mad.body)
    }

    fn from_raw(raw: &Raw) -> Self {
        Self {
            base_version: raw.base_version,
            class: raw.class,
            class_version: raw.class_version,
            method: raw.method,
            status: raw.status.get(),
            class_specific: raw.class_specific.get(),
            transaction_id: raw.transaction_id.get(),
            attribute_id: raw.attribute_id.get(),
            attribute_modifier: raw.attribute_modifier.get(),
        }
    }

    /// The MAD with this header and body.
    #[must_use]
    pub fn emit(&self, body: &[u8; BODY_LEN]) -> [u8; LEN] {
        zerocopy::transmute!(RawMad {
            header: Raw {
                base_version: self.base_version,
                class: self.class,
                class_version: self.class_version,
                method: self.method,
                status: U16::new(self.status),
                class_specific: U16::new(self.class_specific),
                transaction_id: U64::new(self.transaction_id),
                attribute_id: U16::new(self.attribute_id),
                reserved: U16::ZERO,
                attribute_modifier: U32::new(self.attribute_modifier),
            },
            body: *body,
        })
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawMad {
    header: Raw,
    body: [u8; BODY_LEN],
}

/// The MAD in a packet to queue pair 1, if it is one: a UD SEND of exactly 256 bytes from queue pair 1 with the Q_Key
/// of the general services interface and a P_Key of the default partition.
#[must_use]
pub fn of_packet<'a>(packet: &Packet<'a>) -> Option<&'a [u8; LEN]> {
    let deth = packet.ext.deth?;
    let right = packet.bth.opcode == Opcode::UdSendOnly
        && packet.bth.dest_qpn == GSI_QPN
        && packet.bth.pkey_matches()
        && deth.qkey == GSI_QKEY
        && deth.src_qpn == GSI_QPN;
    if !right {
        return None;
    }
    packet.payload.try_into().ok()
}

/// BTH and extended headers of a packet that carries a MAD.
#[must_use]
pub const fn transport_headers(psn: Psn) -> (Bth, ExtHeaders) {
    let ext = ExtHeaders {
        deth: Some(Deth {
            qkey: GSI_QKEY,
            src_qpn: GSI_QPN,
        }),
        ..ExtHeaders::NONE
    };
    (Bth::new(Opcode::UdSendOnly, GSI_QPN, psn), ext)
}
