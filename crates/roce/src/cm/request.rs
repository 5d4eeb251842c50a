//! The REQ: how this side writes it, and how it takes it apart.

use super::{LocalQp, negotiate};
use crate::config::Config;
use crate::connection::ConnectParams;
use crate::wire::bth::DEFAULT_PKEY;
use crate::wire::cm_msg::{Req, ReqPath, TransportService, private_data};
use crate::wire::{Gid, Path, cma};

/// Retries that the peer is told to make at most. Seven would be endless for rdma_rxe, which then never notices that this side is gone.
const MAX_OFFERED_RETRIES: u8 = 6;

/// Retransmissions of an unanswered message, the most that its field holds.
pub(super) const MAX_RETRIES: u8 = 15;

/// A request, taken apart.
pub(super) struct Request<'a> {
    pub req: &'a Req,
    pub cma: cma::Header,
    /// Destination port.
    pub port: u16,
    pub transaction_id: u64,
    /// The way it came, backwards.
    pub path: Path,
}

/// The IP service header and the consumer's data of a request.
pub(super) fn split_private(private: &[u8; Req::PRIVATE_LEN]) -> [&[u8]; 2] {
    match private.split_at_checked(cma::Header::LEN) {
        Some((header, user)) => [header, user],
        None => [&[], &[]],
    }
}

/// The REQ that asks for a connection over `path`, offering and wanting so many READs.
pub(super) fn compose(
    config: &Config,
    comm_id: u32,
    params: &ConnectParams<'_>,
    local: &LocalQp,
    path: &Path,
    responder_resources: u8,
    initiator_depth: u8,
) -> Req {
    // In RoCE, LIDs only tell whether the path is routed. Linux requires that of the alternate path to be 0.
    let routed = path.hop_limit > 1;
    let lid = if routed { 0xffff } else { 0 };
    let header = cma::Header {
        src_port: params.local_port,
        src: path.src_ip,
        dst: path.dst_ip,
    };
    let mut private = private_data(&header.emit());
    if let Some(user) = private.get_mut(cma::Header::LEN..) {
        for (to, from) in user.iter_mut().zip(params.private_data) {
            *to = *from;
        }
    }
    Req {
        local_comm_id: comm_id,
        vendor_id: 0,
        service_id: cma::service_id(params.remote_port),
        ca_guid: config.guid,
        qkey: 0,
        qpn: local.qpn,
        responder_resources,
        local_eecn: 0,
        initiator_depth,
        remote_eecn: 0,
        remote_cm_timeout: config.cm_response_timeout,
        transport: TransportService::Rc,
        flow_control: false,
        starting_psn: local.psn,
        local_cm_timeout: config.cm_response_timeout,
        retry_count: config.retry_count.min(MAX_OFFERED_RETRIES),
        pkey: DEFAULT_PKEY,
        mtu_code: path.mtu.code(),
        rdc_exists: false,
        rnr_retry_count: config.rnr_retry_count,
        max_cm_retries: MAX_RETRIES,
        srq: local.srq,
        extended_transport: 0,
        primary: ReqPath {
            local_lid: lid,
            remote_lid: lid,
            local_gid: Gid::from(path.src_ip),
            remote_gid: Gid::from(path.dst_ip),
            flow_label: negotiate::flow_label(params.local_port, params.remote_port),
            packet_rate: 0,
            traffic_class: path.traffic_class,
            hop_limit: path.hop_limit,
            sl: 0,
            subnet_local: !routed,
            ack_timeout: config.ack_timeout,
        },
        alternate: ReqPath::default(),
        private,
    }
}
