//! What a connected queue pair knows of its connection. Constant while the connection lasts.

use super::frame::Template;
use crate::PdId;
use crate::cm::QpAttributes;
use crate::config::Config;
use crate::path::Path;
use crate::psn::Psn;
use crate::rc::QpId;
use core::net::{IpAddr, Ipv4Addr};

/// Parameters of a connection.
pub(super) struct Link {
    pub qp: QpId,
    pub pd: PdId,
    /// The headers of every frame, as far as they are always the same.
    pub template: Template,
    pub local_ip: IpAddr,
    pub peer_ip: IpAddr,
    /// Path MTU in bytes: a power of two.
    pub mtu: u32,
    mtu_shift: u32,
    /// The first PSN to send.
    pub send_psn: Psn,
    pub retry_count: u8,
    pub rnr_retry_count: u8,
    pub ack_timeout: u8,
    pub min_rnr_timer: u8,
    /// READs that the peer may have outstanding here.
    pub responder_resources: u8,
    /// READ request packets that may be outstanding at the peer.
    pub initiator_depth: u8,
    /// Request packets that may be ahead of their acknowledgement.
    pub send_window: u32,
    /// The same while one of them is missing, towards a peer that keeps what comes behind it.
    pub recovery_window: u32,
    /// READ response packets that may be asked for ahead of their arrival.
    pub read_window: u32,
    /// Response packets of one READ request packet.
    read_chunk: u32,
    /// Packets after which an acknowledgement is asked for at the latest: several times per window.
    pub ack_interval: u32,
}

impl Link {
    /// Before there is a connection.
    pub fn none(qp: QpId, pd: PdId) -> Link {
        let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Link {
            qp,
            pd,
            template: Template::default(),
            local_ip: nowhere,
            peer_ip: nowhere,
            mtu: 256,
            mtu_shift: 8,
            send_psn: Psn::ZERO,
            retry_count: 0,
            rnr_retry_count: 0,
            ack_timeout: 0,
            min_rnr_timer: 0,
            responder_resources: 0,
            initiator_depth: 0,
            send_window: 1,
            recovery_window: 1,
            read_window: 1,
            read_chunk: 1,
            ack_interval: 1,
        }
    }

    pub fn new(qp: QpId, pd: PdId, qpn: u32, attributes: &QpAttributes, config: &Config) -> Link {
        let path = &attributes.path;
        let mtu = path.mtu.bytes();
        let marked = Path {
            traffic_class: config.ecn.traffic_class(path.traffic_class),
            ..*path
        };
        Link {
            qp,
            pd,
            template: Template::new(&marked, qpn, attributes.peer_qpn),
            local_ip: path.src_ip,
            peer_ip: path.dst_ip,
            mtu,
            mtu_shift: mtu.trailing_zeros(),
            send_psn: attributes.send_psn,
            retry_count: attributes.retry_count.min(7),
            rnr_retry_count: attributes.rnr_retry_count.min(7),
            ack_timeout: attributes.ack_timeout & 31,
            min_rnr_timer: config.min_rnr_timer,
            responder_resources: attributes.responder_resources,
            initiator_depth: attributes.initiator_depth,
            send_window: config.send_window,
            // A peer that keeps early packets has room like this side's, which is not all for one connection.
            recovery_window: (config.early_frames / 4 * 3)
                .min(config.send_window * 2)
                .max(config.send_window),
            read_window: config.read_window,
            read_chunk: config.read_chunk,
            ack_interval: (config.send_window / 4).max(1),
        }
    }

    /// Packets that a message of `len` bytes takes.
    pub fn packets(&self, len: u32) -> u32 {
        // No sum that could overflow: full packets, and one more for what is left.
        ((len >> self.mtu_shift) + u32::from(len & (self.mtu - 1) != 0)).max(1)
    }

    /// Byte at which packet `index` of a message starts.
    pub fn offset(&self, index: u32) -> u32 {
        index.wrapping_shl(self.mtu_shift)
    }

    /// Chunks of a READ that lie before response `index`.
    pub fn read_chunks_before(&self, index: u32) -> u32 {
        index / self.read_chunk.max(1)
    }

    /// The first response of the chunk that response `index` lies in.
    pub fn read_chunk_start(&self, index: u32) -> u32 {
        index - index % self.read_chunk.max(1)
    }

    /// How many of a READ's `packets` responses the request packet asks for that starts at response `index`: to the end of the
    /// chunk that `index` lies in.
    pub fn read_chunk_after(&self, index: u32, packets: u32) -> u32 {
        let in_chunk = self.read_chunk - index % self.read_chunk.max(1);
        in_chunk.min(packets.saturating_sub(index)).max(1)
    }
}
