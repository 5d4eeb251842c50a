//! LAP: request for another alternate path (IBTA 12.8.1). Meaningless where addresses are IP addresses: Linux, too, ignores it on RoCE.

use super::req::ReqPath;
use super::{high24, low8, word24_8};
use crate::wire::{Gid, mad};
use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    local_comm_id: U32,
    remote_comm_id: U32,
    reserved: U32,
    qpn_timeout: U32,
    reserved2: U32,
    local_lid: U16,
    remote_lid: U16,
    local_gid: [u8; 16],
    remote_gid: [u8; 16],
    /// Flow label, 4 reserved bits, traffic class.
    label_class: U32,
    hop_limit: u8,
    rate: u8,
    sl_subnet: u8,
    timeout: u8,
    private: [u8; Lap::PRIVATE_LEN],
}

/// Request for another alternate path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lap {
    /// The sender's name for the connection.
    pub local_comm_id: u32,
    /// The receiver's.
    pub remote_comm_id: u32,
    /// The receiver's queue pair, 24 bits.
    pub remote_qpn: u32,
    /// Time the receiver is given to answer, `4.096 us * 2^n`, 5 bits.
    pub remote_cm_timeout: u8,
    /// The path.
    pub path: ReqPath,
    /// Private data.
    pub private: [u8; Self::PRIVATE_LEN],
}

impl Lap {
    /// Attribute ID.
    pub const ATTRIBUTE: u16 = 0x0019;

    /// Bytes of private data.
    pub const PRIVATE_LEN: usize = 168;

    /// Reads the body of a MAD. Reserved bits are ignored.
    #[must_use]
    pub fn parse(body: &[u8; mad::BODY_LEN]) -> Self {
        let raw: &Raw = zerocopy::transmute_ref!(body);
        Self {
            local_comm_id: raw.local_comm_id.get(),
            remote_comm_id: raw.remote_comm_id.get(),
            remote_qpn: high24(raw.qpn_timeout),
            remote_cm_timeout: low8(raw.qpn_timeout) >> 3,
            path: ReqPath {
                local_lid: raw.local_lid.get(),
                remote_lid: raw.remote_lid.get(),
                local_gid: Gid(raw.local_gid),
                remote_gid: Gid(raw.remote_gid),
                flow_label: raw.label_class.get() >> 12,
                packet_rate: raw.rate & 0x3f,
                traffic_class: low8(raw.label_class),
                hop_limit: raw.hop_limit,
                sl: raw.sl_subnet >> 4,
                subnet_local: raw.sl_subnet & 0x08 != 0,
                ack_timeout: raw.timeout >> 3,
            },
            private: raw.private,
        }
    }

    /// The body of a MAD. Fields wider than their place are cut.
    #[must_use]
    pub fn emit(&self) -> [u8; mad::BODY_LEN] {
        let path = &self.path;
        zerocopy::transmute!(Raw {
            local_comm_id: U32::new(self.local_comm_id),
            remote_comm_id: U32::new(self.remote_comm_id),
            reserved: U32::ZERO,
            qpn_timeout: word24_8(self.remote_qpn, self.remote_cm_timeout << 3),
            reserved2: U32::ZERO,
            local_lid: U16::new(path.local_lid),
            remote_lid: U16::new(path.remote_lid),
            local_gid: path.local_gid.0,
            remote_gid: path.remote_gid.0,
            label_class: U32::new(path.flow_label << 12 | u32::from(path.traffic_class)),
            hop_limit: path.hop_limit,
            rate: path.packet_rate & 0x3f,
            sl_subnet: path.sl << 4 | u8::from(path.subnet_local) << 3,
            timeout: path.ack_timeout << 3,
            private: self.private,
        })
    }
}
