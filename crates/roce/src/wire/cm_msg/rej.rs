//! REJ: rejection (IBTA 12.6.7).

use super::Answered;
use crate::wire::mad;
use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    local_comm_id: U32,
    remote_comm_id: U32,
    message: u8,
    info_len: u8,
    reason: U16,
    info: [u8; Rej::INFO_LEN],
    private: [u8; Rej::PRIVATE_LEN],
}

/// Reason codes (IBTA table 103). There is no 34.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejReason(pub u16);

impl RejReason {
    /// No queue pair to be had.
    pub const NO_QP: Self = Self(1);
    /// No end-to-end context to be had.
    pub const NO_EEC: Self = Self(2);
    /// No room.
    pub const NO_RESOURCES: Self = Self(3);
    /// The sender has waited long enough; the information is its CA GUID.
    pub const TIMEOUT: Self = Self(4);
    /// The message is not one that the sender deals in.
    pub const UNSUPPORTED: Self = Self(5);
    /// No such communication ID.
    pub const INVALID_COMM_ID: Self = Self(6);
    /// The IDs, queue pairs or contexts do not belong together.
    pub const INVALID_COMM_INSTANCE: Self = Self(7);
    /// Nobody listens for the service ID.
    pub const INVALID_SERVICE_ID: Self = Self(8);
    /// Not a transport that the service has; here: not a reliable connection.
    pub const INVALID_TRANSPORT: Self = Self(9);
    /// The queue pair or the communication ID is in use for an earlier connection.
    pub const STALE_CONNECTION: Self = Self(10);
    /// The reliable datagram channel does not exist.
    pub const NO_RDC: Self = Self(11);
    /// The primary remote GID is not the sender's; the information is one that is.
    pub const INVALID_GID: Self = Self(12);
    /// The primary LID cannot be had; the information is one that can.
    pub const INVALID_LID: Self = Self(13);
    /// Nor can the primary service level.
    pub const INVALID_SL: Self = Self(14);
    /// Nor can the primary traffic class.
    pub const INVALID_TRAFFIC_CLASS: Self = Self(15);
    /// Nor can the primary hop limit.
    pub const INVALID_HOP_LIMIT: Self = Self(16);
    /// Nor can the primary packet rate.
    pub const INVALID_PACKET_RATE: Self = Self(17);
    /// The alternate remote GID is not the sender's; the information is one that is.
    pub const INVALID_ALTERNATE_GID: Self = Self(18);
    /// The alternate LID cannot be had; the information is one that can.
    pub const INVALID_ALTERNATE_LID: Self = Self(19);
    /// Nor can the alternate service level.
    pub const INVALID_ALTERNATE_SL: Self = Self(20);
    /// Nor can the alternate traffic class.
    pub const INVALID_ALTERNATE_TRAFFIC_CLASS: Self = Self(21);
    /// Nor can the alternate hop limit.
    pub const INVALID_ALTERNATE_HOP_LIMIT: Self = Self(22);
    /// Nor can the alternate packet rate.
    pub const INVALID_ALTERNATE_PACKET_RATE: Self = Self(23);
    /// Another port, and the connection manager there, is to be asked; the information is its ClassPortInfo.
    pub const PORT_AND_CM_REDIRECT: Self = Self(24);
    /// The connection is to use another port; the information is where that is.
    pub const PORT_REDIRECT: Self = Self(25);
    /// The path MTU cannot be had; the information is the largest that can.
    pub const INVALID_MTU: Self = Self(26);
    /// The sender wants more READs outstanding than are offered.
    pub const INSUFFICIENT_RESPONDER_RESOURCES: Self = Self(27);
    /// The consumer does not want to; the private data is its own.
    pub const CONSUMER: Self = Self(28);
    /// The RNR retry count cannot be had.
    pub const INVALID_RNR_RETRY: Self = Self(29);
    /// The communication ID is in use.
    pub const DUPLICATE_COMM_ID: Self = Self(30);
    /// The class version is not one of the sender's.
    pub const CLASS_VERSION: Self = Self(31);
    /// The primary flow label cannot be had.
    pub const INVALID_FLOW_LABEL: Self = Self(32);
    /// Nor can the alternate flow label.
    pub const INVALID_ALTERNATE_FLOW_LABEL: Self = Self(33);
    /// The vendor's options for the establishment are not supported.
    pub const VENDOR_OPTION: Self = Self(35);
}

/// Rejection of a REQ or REP, or of a whole exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rej {
    /// The sender's name for the connection, 0 if it has given none.
    pub local_comm_id: u32,
    /// The receiver's.
    pub remote_comm_id: u32,
    /// The message that is rejected.
    pub message: Answered,
    /// Bytes of `info` that mean something, 7 bits.
    pub info_len: u8,
    /// Why.
    pub reason: RejReason,
    /// Additional information, by reason.
    pub info: [u8; Self::INFO_LEN],
    /// Private data.
    pub private: [u8; Self::PRIVATE_LEN],
}

impl Rej {
    /// Attribute ID.
    pub const ATTRIBUTE: u16 = 0x0012;

    /// Bytes of additional information.
    pub const INFO_LEN: usize = 72;

    /// Bytes of private data.
    pub const PRIVATE_LEN: usize = 148;

    /// Reads the body of a MAD. Reserved bits are ignored.
    #[must_use]
    pub fn parse(body: &[u8; mad::BODY_LEN]) -> Self {
        let raw: &Raw = zerocopy::transmute_ref!(body);
        Self {
            local_comm_id: raw.local_comm_id.get(),
            remote_comm_id: raw.remote_comm_id.get(),
            message: Answered::from_bits(raw.message >> 6),
            info_len: raw.info_len >> 1,
            reason: RejReason(raw.reason.get()),
            info: raw.info,
            private: raw.private,
        }
    }

    /// The body of a MAD. Fields wider than their place are cut.
    #[must_use]
    pub fn emit(&self) -> [u8; mad::BODY_LEN] {
        zerocopy::transmute!(Raw {
            local_comm_id: U32::new(self.local_comm_id),
            remote_comm_id: U32::new(self.remote_comm_id),
            message: self.message.bits() << 6,
            info_len: self.info_len << 1,
            reason: U16::new(self.reason.0),
            info: self.info,
            private: self.private,
        })
    }
}
