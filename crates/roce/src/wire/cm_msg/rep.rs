//! REP: acceptance of a connection (IBTA 12.6.8).

use super::{high24, low8, word24_8};
use crate::psn::Psn;
use crate::wire::mad;
use zerocopy::byteorder::network_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    local_comm_id: U32,
    remote_comm_id: U32,
    qkey: U32,
    qpn_vendor: U32,
    eecn_vendor: U32,
    psn_vendor: U32,
    responder_resources: u8,
    initiator_depth: u8,
    delay_flow: u8,
    rnr_srq: u8,
    ca_guid: U64,
    private: [u8; Rep::PRIVATE_LEN],
}

/// Acceptance of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rep {
    /// The passive side's name for the connection.
    pub local_comm_id: u32,
    /// The active side's.
    pub remote_comm_id: u32,
    /// Datagram key, 0 for connections.
    pub qkey: u32,
    /// Queue pair of the passive side, 24 bits.
    pub qpn: u32,
    /// Vendor ID of enhanced connection establishment, 24 bits.
    pub vendor_id: u32,
    /// End-to-end context of reliable datagrams, 24 bits.
    pub local_eecn: u32,
    /// First PSN that the active side sends.
    pub starting_psn: Psn,
    /// READs and atomics that the passive side executes at once.
    pub responder_resources: u8,
    /// READs and atomics that the passive side will have outstanding.
    pub initiator_depth: u8,
    /// Time the passive side takes to acknowledge, `4.096 us * 2^n`, 5 bits.
    pub target_ack_delay: u8,
    /// What became of the alternate path, 2 bits.
    pub failover_accepted: u8,
    /// The passive side's receive queue gives credits.
    pub flow_control: bool,
    /// RNR retry count of the active side's requester, 3 bits.
    pub rnr_retry_count: u8,
    /// The passive side's queue pair has a shared receive queue.
    pub srq: bool,
    /// Node of the passive side.
    pub ca_guid: u64,
    /// Private data.
    pub private: [u8; Self::PRIVATE_LEN],
}

impl Rep {
    /// Attribute ID.
    pub const ATTRIBUTE: u16 = 0x0013;

    /// Bytes of private data.
    pub const PRIVATE_LEN: usize = 196;

    /// Reads the body of a MAD. Reserved bits are ignored.
    #[must_use]
    pub fn parse(body: &[u8; mad::BODY_LEN]) -> Self {
        let raw: &Raw = zerocopy::transmute_ref!(body);
        Self {
            local_comm_id: raw.local_comm_id.get(),
            remote_comm_id: raw.remote_comm_id.get(),
            qkey: raw.qkey.get(),
            qpn: high24(raw.qpn_vendor),
            vendor_id: u32::from_be_bytes([
                0,
                low8(raw.qpn_vendor),
                low8(raw.eecn_vendor),
                low8(raw.psn_vendor),
            ]),
            local_eecn: high24(raw.eecn_vendor),
            starting_psn: Psn::new(high24(raw.psn_vendor)),
            responder_resources: raw.responder_resources,
            initiator_depth: raw.initiator_depth,
            target_ack_delay: raw.delay_flow >> 3,
            failover_accepted: raw.delay_flow >> 1 & 3,
            flow_control: raw.delay_flow & 1 != 0,
            rnr_retry_count: raw.rnr_srq >> 5,
            srq: raw.rnr_srq & 0x10 != 0,
            ca_guid: raw.ca_guid.get(),
            private: raw.private,
        }
    }

    /// The body of a MAD. Fields wider than their place are cut.
    #[must_use]
    pub fn emit(&self) -> [u8; mad::BODY_LEN] {
        let [_, vendor_high, vendor_middle, vendor_low] = self.vendor_id.to_be_bytes();
        zerocopy::transmute!(Raw {
            local_comm_id: U32::new(self.local_comm_id),
            remote_comm_id: U32::new(self.remote_comm_id),
            qkey: U32::new(self.qkey),
            qpn_vendor: word24_8(self.qpn, vendor_high),
            eecn_vendor: word24_8(self.local_eecn, vendor_middle),
            psn_vendor: word24_8(self.starting_psn.get(), vendor_low),
            responder_resources: self.responder_resources,
            initiator_depth: self.initiator_depth,
            delay_flow: self.target_ack_delay << 3
                | (self.failover_accepted & 3) << 1
                | u8::from(self.flow_control),
            rnr_srq: self.rnr_retry_count << 5 | u8::from(self.srq) << 4,
            ca_guid: U64::new(self.ca_guid),
            private: self.private,
        })
    }
}
