//! REQ: request for a connection (IBTA 12.6.5).

use super::{high24, low8, word24_8};
use crate::psn::Psn;
use crate::wire::{Gid, mad};
use zerocopy::byteorder::network_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawPath {
    local_lid: U16,
    remote_lid: U16,
    local_gid: [u8; 16],
    remote_gid: [u8; 16],
    flow_rate: U32,
    traffic_class: u8,
    hop_limit: u8,
    sl: u8,
    ack_timeout: u8,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    local_comm_id: U32,
    vendor: U32,
    service_id: U64,
    ca_guid: U64,
    reserved: U32,
    qkey: U32,
    qpn_resources: U32,
    local_eecn_depth: U32,
    remote_eecn_timeout: U32,
    psn_timeout_retry: U32,
    pkey: U16,
    mtu_rnr: u8,
    retries_srq: u8,
    primary: RawPath,
    alternate: RawPath,
    private: [u8; Req::PRIVATE_LEN],
}

/// What kind of service the active side wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportService {
    /// Reliable connection.
    Rc,
    /// Unreliable connection.
    Uc,
    /// Reliable datagram.
    Rd,
    /// See the extended transport type.
    Extended,
}

impl TransportService {
    const fn from_bits(bits: u32) -> Self {
        match bits & 3 {
            0 => Self::Rc,
            1 => Self::Uc,
            2 => Self::Rd,
            _ => Self::Extended,
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Rc => 0,
            Self::Uc => 1,
            Self::Rd => 2,
            Self::Extended => 3,
        }
    }
}

/// A path as a REQ describes it, from the active side's point of view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReqPath {
    /// LID of the active side; has no meaning in RoCE.
    pub local_lid: u16,
    /// LID of the passive side; has no meaning in RoCE.
    pub remote_lid: u16,
    /// GID of the active side.
    pub local_gid: Gid,
    /// GID of the passive side.
    pub remote_gid: Gid,
    /// 20 bits.
    pub flow_label: u32,
    /// Static rate code, 6 bits; 0 is the port's own rate.
    pub packet_rate: u8,
    /// Traffic class for packets to the active side.
    pub traffic_class: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Service level, 4 bits.
    pub sl: u8,
    /// Not routed.
    pub subnet_local: bool,
    /// Local ACK timeout exponent, 5 bits.
    pub ack_timeout: u8,
}

impl ReqPath {
    fn from_raw(raw: &RawPath) -> Self {
        let flow_rate = raw.flow_rate.get();
        Self {
            local_lid: raw.local_lid.get(),
            remote_lid: raw.remote_lid.get(),
            local_gid: Gid(raw.local_gid),
            remote_gid: Gid(raw.remote_gid),
            flow_label: flow_rate >> 12,
            packet_rate: (flow_rate & 0x3f) as u8,
            traffic_class: raw.traffic_class,
            hop_limit: raw.hop_limit,
            sl: raw.sl >> 4,
            subnet_local: raw.sl & 0x08 != 0,
            ack_timeout: raw.ack_timeout >> 3,
        }
    }

    fn to_raw(self) -> RawPath {
        RawPath {
            local_lid: U16::new(self.local_lid),
            remote_lid: U16::new(self.remote_lid),
            local_gid: self.local_gid.0,
            remote_gid: self.remote_gid.0,
            flow_rate: U32::new(self.flow_label << 12 | u32::from(self.packet_rate & 0x3f)),
            traffic_class: self.traffic_class,
            hop_limit: self.hop_limit,
            sl: self.sl << 4 | u8::from(self.subnet_local) << 3,
            ack_timeout: self.ack_timeout << 3,
        }
    }
}

/// Request for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Req {
    /// The active side's name for the connection.
    pub local_comm_id: u32,
    /// Vendor ID of enhanced connection establishment, 24 bits.
    pub vendor_id: u32,
    /// What is asked for; see [`cma`](crate::wire::cma).
    pub service_id: u64,
    /// Node of the active side.
    pub ca_guid: u64,
    /// Datagram key, 0 for connections.
    pub qkey: u32,
    /// Queue pair of the active side, 24 bits.
    pub qpn: u32,
    /// READs and atomics that the active side executes at once.
    pub responder_resources: u8,
    /// Local end-to-end context of reliable datagrams, 24 bits.
    pub local_eecn: u32,
    /// READs and atomics that the active side wants to have outstanding.
    pub initiator_depth: u8,
    /// Remote end-to-end context of reliable datagrams, 24 bits.
    pub remote_eecn: u32,
    /// Time the passive side has to answer, `4.096 us * 2^n`, 5 bits.
    pub remote_cm_timeout: u8,
    /// Kind of service.
    pub transport: TransportService,
    /// The active side's receive queue gives credits.
    pub flow_control: bool,
    /// First PSN that the passive side sends.
    pub starting_psn: Psn,
    /// Time the active side takes to answer, `4.096 us * 2^n`, 5 bits.
    pub local_cm_timeout: u8,
    /// Retry count of the passive side's requester, 3 bits.
    pub retry_count: u8,
    /// Partition.
    pub pkey: u16,
    /// Path MTU code, 4 bits: see [`PathMtu`](crate::PathMtu); not checked.
    pub mtu_code: u8,
    /// Reliable datagram channel exists.
    pub rdc_exists: bool,
    /// RNR retry count of the passive side's requester, 3 bits.
    pub rnr_retry_count: u8,
    /// How often the passive side may resend its REP, 4 bits.
    pub max_cm_retries: u8,
    /// The active side's queue pair has a shared receive queue.
    pub srq: bool,
    /// Extended transport type, 3 bits.
    pub extended_transport: u8,
    /// The path.
    pub primary: ReqPath,
    /// Second path, for automatic migration.
    pub alternate: ReqPath,
    /// Private data; with an IP service ID it begins with a [`cma::Header`](crate::wire::cma::Header).
    pub private: [u8; Self::PRIVATE_LEN],
}

impl Req {
    /// Attribute ID.
    pub const ATTRIBUTE: u16 = 0x0010;

    /// Bytes of private data.
    pub const PRIVATE_LEN: usize = 92;

    /// Reads the body of a MAD. Reserved bits are ignored.
    #[must_use]
    pub fn parse(body: &[u8; mad::BODY_LEN]) -> Self {
        let raw: &Raw = zerocopy::transmute_ref!(body);
        let timeout_transport = u32::from(low8(raw.remote_eecn_timeout));
        let timeout_retry = low8(raw.psn_timeout_retry);
        Self {
            local_comm_id: raw.local_comm_id.get(),
            vendor_id: raw.vendor.get() & 0xff_ffff,
            service_id: raw.service_id.get(),
            ca_guid: raw.ca_guid.get(),
            qkey: raw.qkey.get(),
            qpn: high24(raw.qpn_resources),
            responder_resources: low8(raw.qpn_resources),
            local_eecn: high24(raw.local_eecn_depth),
            initiator_depth: low8(raw.local_eecn_depth),
            remote_eecn: high24(raw.remote_eecn_timeout),
            remote_cm_timeout: low8(raw.remote_eecn_timeout) >> 3,
            transport: TransportService::from_bits(timeout_transport >> 1),
            flow_control: timeout_transport & 1 != 0,
            starting_psn: Psn::new(high24(raw.psn_timeout_retry)),
            local_cm_timeout: timeout_retry >> 3,
            retry_count: timeout_retry & 7,
            pkey: raw.pkey.get(),
            mtu_code: raw.mtu_rnr >> 4,
            rdc_exists: raw.mtu_rnr & 0x08 != 0,
            rnr_retry_count: raw.mtu_rnr & 7,
            max_cm_retries: raw.retries_srq >> 4,
            srq: raw.retries_srq & 0x08 != 0,
            extended_transport: raw.retries_srq & 7,
            primary: ReqPath::from_raw(&raw.primary),
            alternate: ReqPath::from_raw(&raw.alternate),
            private: raw.private,
        }
    }

    /// The body of a MAD. Fields wider than their place are cut.
    #[must_use]
    pub fn emit(&self) -> [u8; mad::BODY_LEN] {
        zerocopy::transmute!(Raw {
            local_comm_id: U32::new(self.local_comm_id),
            vendor: U32::new(self.vendor_id & 0xff_ffff),
            service_id: U64::new(self.service_id),
            ca_guid: U64::new(self.ca_guid),
            reserved: U32::ZERO,
            qkey: U32::new(self.qkey),
            qpn_resources: word24_8(self.qpn, self.responder_resources),
            local_eecn_depth: word24_8(self.local_eecn, self.initiator_depth),
            remote_eecn_timeout: word24_8(
                self.remote_eecn,
                self.remote_cm_timeout << 3
                    | self.transport.bits() << 1
                    | u8::from(self.flow_control),
            ),
            psn_timeout_retry: word24_8(
                self.starting_psn.get(),
                self.local_cm_timeout << 3 | self.retry_count & 7,
            ),
            pkey: U16::new(self.pkey),
            mtu_rnr: self.mtu_code << 4 | u8::from(self.rdc_exists) << 3 | self.rnr_retry_count & 7,
            retries_srq: self.max_cm_retries << 4
                | u8::from(self.srq) << 3
                | self.extended_transport & 7,
            primary: self.primary.to_raw(),
            alternate: self.alternate.to_raw(),
            private: self.private,
        })
    }
}
