//! What this provider can do: NDK_ADAPTER_INFO and NDIS_NDK_CAPABILITIES, from one set of numbers.
//!
//! IRQL: any: numbers only.

use ndkpi::{
    NDK_ADAPTER_FLAG_CQ_INTERRUPT_MODERATION_SUPPORTED, NDK_ADAPTER_FLAG_CQ_RESIZE_SUPPORTED,
    NDK_ADAPTER_FLAG_IN_ORDER_DMA_SUPPORTED, NDK_ADAPTER_FLAG_LOOPBACK_CONNECTIONS_SUPPORTED,
    NDK_ADAPTER_FLAG_RDMA_READ_LOCAL_INVALIDATE_SUPPORTED,
    NDK_ADAPTER_FLAG_RDMA_READ_SINK_NOT_REQUIRED, NDK_ADAPTER_INFO, NDK_VERSION,
};

/// Versions offered: for each major the highest minor. An open with a lower minor of the same major gets the highest.
///
/// Decisions: 1.2 and 2.1; 2.0 opens as 2.1, 1.0 and 1.1 open as 1.2, everything else is a bad version.
pub const VERSIONS: [NDK_VERSION; 2] = [
    NDK_VERSION { Major: 1, Minor: 2 },
    NDK_VERSION { Major: 2, Minor: 1 },
];

/// Bytes of private data that a connect request carries.
///
/// A CM REQ has 92 bytes of it, of which the RDMA-CM IP header takes 36.
pub const MAX_CALLER_DATA: usize = 56;
/// Bytes of private data that an accept or a reject carries. A CM REP has room for 196, a REJ for 148: the smaller of the two,
/// because NDK has one limit for both.
pub const MAX_CALLEE_DATA: usize = 148;

/// Queue pairs of one adapter. What each needs is had when it is made.
pub const MAX_QPS: u32 = 16384;
/// Completion queues of one adapter.
pub const MAX_CQS: u32 = 16384;
/// Shared receive queues of one adapter.
pub const MAX_SRQS: u32 = 1024;
/// Protection domains of one adapter.
pub const MAX_PDS: u32 = 1024;
/// Memory regions of one adapter.
pub const MAX_MRS: u32 = 65536;
/// Memory windows of one adapter.
pub const MAX_MWS: u32 = 16384;
/// Connections of one adapter: one for each queue pair, and those that are being set up or rest before their names are free. Those that
/// peers ask for and that are not established yet may be half of them: of more that come at once, the rest are asked for again.
pub const MAX_CONNECTIONS: u32 = 20480;
/// Listeners of one adapter that listen: enough to take every port that the provider chooses from.
pub const MAX_LISTENERS: u32 = 17 * 1024;
/// Connector objects, and listener objects, of one adapter.
pub const MAX_CONNECTORS: u32 = 32 * 1024;

/// Logical address mappings of one adapter.
pub const MAX_LAMS: u32 = 1 << 18;

/// Bytes in one registration, and in one window.
pub const MAX_REGISTRATION: usize = 1 << 30;
/// Bytes in one transfer, over all its SGEs. RoCEv2 itself ends at 2^31.
pub const MAX_TRANSFER: u32 = 1 << 30;
/// SGEs in one request of any kind.
pub const MAX_SGE: usize = 16;
/// Bytes of one inline request.
pub const MAX_INLINE: usize = 256;
/// Reads in progress, in each direction, of one queue pair.
pub const MAX_READS: u32 = 16;
/// Requests that one receive or initiator queue holds.
pub const MAX_QUEUE_DEPTH: u32 = 8192;
/// Requests that one shared receive queue holds.
pub const MAX_SRQ_DEPTH: u32 = 16384;
/// Entries that one completion queue holds.
pub const MAX_CQ_DEPTH: u32 = 65536;
/// Pages of one fast registration: what FRMRPageCount says, and the most that a region can be initialised for.
pub const FRMR_PAGES: u32 = 1024;

/// NDK_ADAPTER_INFO for an adapter opened with `version`. RdmaTechnology has the number that *NetworkDirectTechnology has (decision
///
///
/// In-order placement is true because received bytes are copied by this driver in the order of the message, the last byte of each
/// piece last. Reads need no read-sink right for the same reason: the driver places them itself. Vendor and device are zero:
/// this provider has no OUI of its own.
pub fn adapter_info(version: NDK_VERSION) -> NDK_ADAPTER_INFO {
    NDK_ADAPTER_INFO {
        Version: version,
        VendorId: 0,
        DeviceId: 0,
        MaxRegistrationSize: MAX_REGISTRATION,
        MaxWindowSize: MAX_REGISTRATION,
        FRMRPageCount: FRMR_PAGES,
        MaxInitiatorRequestSge: MAX_SGE as u32,
        MaxReceiveRequestSge: MAX_SGE as u32,
        MaxReadRequestSge: MAX_SGE as u32,
        MaxTransferLength: MAX_TRANSFER,
        MaxInlineDataSize: MAX_INLINE as u32,
        MaxInboundReadLimit: MAX_READS,
        MaxOutboundReadLimit: MAX_READS,
        MaxReceiveQueueDepth: MAX_QUEUE_DEPTH,
        MaxInitiatorQueueDepth: MAX_QUEUE_DEPTH,
        MaxSrqDepth: MAX_SRQ_DEPTH,
        MaxCqDepth: MAX_CQ_DEPTH,
        LargeRequestThreshold: 16384,
        MaxCallerData: MAX_CALLER_DATA as u32,
        MaxCalleeData: MAX_CALLEE_DATA as u32,
        AdapterFlags: NDK_ADAPTER_FLAG_IN_ORDER_DMA_SUPPORTED
            | NDK_ADAPTER_FLAG_RDMA_READ_SINK_NOT_REQUIRED
            | NDK_ADAPTER_FLAG_CQ_INTERRUPT_MODERATION_SUPPORTED
            | NDK_ADAPTER_FLAG_RDMA_READ_LOCAL_INVALIDATE_SUPPORTED
            | NDK_ADAPTER_FLAG_CQ_RESIZE_SUPPORTED
            | NDK_ADAPTER_FLAG_LOOPBACK_CONNECTIONS_SUPPORTED,
        RdmaTechnology: ndkpi::NdkRoCEv2,
    }
}

/// How late frames may be asked for, in microseconds: the port's timer comes with the machine's clock tick.
const TIMER_RESOLUTION_US: u32 = 16_000;

/// The reaction to congestion on a link of `speed` bits per second, if there is to be one. IRQL: any.
pub fn ecn(dcqcn: bool, speed: u64) -> roce::Ecn {
    if !dcqcn {
        return roce::Ecn::Off;
    }
    roce::Ecn::Dcqcn(roce::Dcqcn {
        link_mbps: u32::try_from(speed / 1_000_000).unwrap_or(u32::MAX),
        catch_up_us: TIMER_RESOLUTION_US,
        ..roce::Dcqcn::default()
    })
}

/// An engine's configuration, for a NIC with that address and link MTU. IRQL: any.
#[inline(never)]
pub fn of_engine(mac: [u8; 6], local_mtu: u16, seed: u128, ecn: roce::Ecn) -> roce::Config {
    roce::Config {
        local_mtu,
        ecn,
        max_qps: MAX_QPS,
        max_cqs: MAX_CQS,
        max_srqs: MAX_SRQS,
        max_pds: MAX_PDS,
        // Every protection domain has a key of its own.
        max_keys: MAX_MRS + MAX_MWS + MAX_PDS,
        max_connections: MAX_CONNECTIONS,
        max_listeners: MAX_LISTENERS,
        max_cq_depth: MAX_CQ_DEPTH,
        max_queue_depth: MAX_QUEUE_DEPTH,
        max_srq_depth: MAX_SRQ_DEPTH,
        max_sge: MAX_SGE as u32,
        max_inline: MAX_INLINE as u32,
        max_message: MAX_TRANSFER,
        max_inbound_reads: MAX_READS as u8,
        max_outbound_reads: MAX_READS as u8,
        seed,
        guid: roce::wire::address::guid_from_mac(mac),
        ..roce::Config::default()
    }
}
