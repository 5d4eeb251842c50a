//! Limits and policies of an engine.

use crate::ecn::Ecn;

/// What an [`Engine`](crate::Engine) is created with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Link MTU in bytes: the largest IP packet. The path MTU derives from it.
    pub local_mtu: u16,
    /// Queue pairs, at most 2^17: few of the 2^24 numbers there are, so that a number is hard to guess and rests before it comes again.
    pub max_qps: u32,
    /// Completion queues.
    pub max_cqs: u32,
    /// Shared receive queues.
    pub max_srqs: u32,
    /// Protection domains.
    pub max_pds: u32,
    /// Memory keys, fewer than 2^24.
    pub max_keys: u32,
    /// Connections in any state, those being set up and those that rest included, at most 2^18.
    ///
    /// Half of them at most are such as peers have asked for and that have not been established: all peers share that half, and who
    /// forges requests can fill it, whatever address it speaks from. Each takes its place for as long as its REP is repeated, half a
    /// minute, or until the owner rejects it and it has rested for two seconds. Requests of others go unanswered meanwhile, and are
    /// repeated; connections that exist, and those that this side asks for, are not concerned. An owner that waits for many peers at once
    /// leaves room.
    pub max_connections: u32,
    /// Listeners.
    pub max_listeners: u32,
    /// Transmitted frames that the NIC may hold at once and that refer to consumers' memory.
    pub max_transmissions: u32,
    /// Deepest completion queue, in entries.
    pub max_cq_depth: u32,
    /// Deepest send or receive queue, in requests.
    pub max_queue_depth: u32,
    /// Deepest shared receive queue, in requests.
    pub max_srq_depth: u32,
    /// Most scatter/gather elements of one request, at most [`MAX_SGE`].
    pub max_sge: u32,
    /// Most bytes of inline data of one request, at most [`MAX_INLINE`].
    pub max_inline: u32,
    /// Longest message in bytes, at most 2^31.
    pub max_message: u32,
    /// READs that one peer may have outstanding here: a power of two up to 128, or 0. Peers may round up what they are granted, and there
    /// is room for that.
    pub max_inbound_reads: u8,
    /// READs that one queue pair here may have outstanding at its peer.
    pub max_outbound_reads: u8,
    /// Request packets that one queue pair sends ahead of their acknowledgement.
    pub send_window: u32,
    /// READ response packets that one queue pair asks for ahead of their arrival.
    pub read_window: u32,
    /// Response packets asked for by one READ request packet; a longer READ is a sequence of them.
    pub read_chunk: u32,
    /// Packets with requests or READ data, of all peers together, that are kept when they come before one that is missing, at most 1024. With
    /// fewer than 2 every peer has to repeat them. Each takes a little more than the path MTU of the link.
    pub early_frames: u32,
    /// Retries after a timeout, 0..=7, as used here and offered to the peer; to whom 7 is offered as 6, because rdma_rxe takes 7 for no end.
    /// A sequence error takes one only if there is no timeout.
    pub retry_count: u8,
    /// Retries after "receiver not ready", 0..=7; 7 never gives up.
    pub rnr_retry_count: u8,
    /// Least wait asked of a peer that finds no receive posted: a 5-bit timer code.
    pub min_rnr_timer: u8,
    /// Local ACK timeout `4.096 us * 2^n`, 0 for none. Doubled, and doubled again, while nothing comes back. With a peer that says in its
    /// acceptance that it takes long to acknowledge, the connecting side waits for that, too.
    pub ack_timeout: u8,
    /// Time that each side is given to answer a message of the connection manager, as a code `4.096 us * 2^n` of 14..=24 (67 ms to 69 s);
    /// a REQ also has the round trip, twice the packet lifetime, which is half of `ack_timeout`. Sixteen times unanswered is too often.
    /// A longer answer announces itself. Linux has 20.
    pub cm_response_timeout: u8,
    /// Time after which an unanswered DREQ is repeated, a code of 14..=24. Sixteen times unanswered, and the connection is over.
    pub cm_disconnect_timeout: u8,
    /// Reaction to congestion that the network reports.
    pub ecn: Ecn,
    /// Seed of QPNs, PSNs, key tags and communication IDs: different at every start of the machine, and nobody's to guess.
    pub seed: u128,
    /// CA GUID shown to peers.
    pub guid: u64,
}

/// Scatter/gather elements that one request can have at most.
pub const MAX_SGE: u32 = 16;

/// Longest message of the protocol, in bytes.
pub(crate) const MAX_MESSAGE: u32 = 1 << 31;

/// Objects of one kind, and entries of one queue, at most: indices and running numbers stay far from where they wrap.
const MAX_ENTRIES: u32 = 1 << 24;

/// Bytes of inline data that one request can have at most.
pub const MAX_INLINE: u32 = 256;

impl Default for Config {
    fn default() -> Config {
        Config {
            local_mtu: 1500,
            max_qps: 1024,
            max_cqs: 1024,
            max_srqs: 256,
            max_pds: 1024,
            max_keys: 16 * 1024,
            max_connections: 1024,
            max_listeners: 64,
            max_transmissions: 4096,
            max_cq_depth: 64 * 1024,
            max_queue_depth: 16 * 1024,
            max_srq_depth: 16 * 1024,
            max_sge: MAX_SGE,
            max_inline: MAX_INLINE,
            max_message: MAX_MESSAGE,
            max_inbound_reads: 16,
            max_outbound_reads: 16,
            send_window: 128,
            read_window: 256,
            read_chunk: 128,
            early_frames: 256,
            retry_count: 7,
            rnr_retry_count: 7,
            min_rnr_timer: 12,
            ack_timeout: 15,
            cm_response_timeout: 18,
            cm_disconnect_timeout: 18,
            ecn: Ecn::Off,
            seed: 0,
            guid: 0,
        }
    }
}

impl Config {
    /// The same with every field inside the limits that the protocol and the engine set. Nobody else lowers them.
    #[must_use]
    pub(crate) fn clamped(&self) -> Config {
        Config {
            max_qps: self.max_qps.min(1 << 17),
            max_cqs: self.max_cqs.min(MAX_ENTRIES),
            max_srqs: self.max_srqs.min(MAX_ENTRIES),
            max_pds: self.max_pds.min(MAX_ENTRIES),
            max_keys: self.max_keys.min(MAX_ENTRIES - 2),
            max_connections: self.max_connections.min(1 << 18),
            max_listeners: self.max_listeners.min(MAX_ENTRIES),
            max_transmissions: self.max_transmissions.min(MAX_ENTRIES),
            max_cq_depth: self.max_cq_depth.min(MAX_ENTRIES),
            max_queue_depth: self.max_queue_depth.min(MAX_ENTRIES),
            max_srq_depth: self.max_srq_depth.min(MAX_ENTRIES),
            max_sge: self.max_sge.clamp(1, MAX_SGE),
            max_inline: self.max_inline.min(MAX_INLINE),
            max_message: self.max_message.min(MAX_MESSAGE),
            max_inbound_reads: power_of_two_in(self.max_inbound_reads.min(128)),
            max_outbound_reads: self.max_outbound_reads.min(128),
            send_window: self.send_window.clamp(1, 1 << 16),
            read_window: self.read_window.clamp(1, 1 << 16),
            read_chunk: self.read_chunk.clamp(1, 1 << 16),
            early_frames: self.early_frames.min(1 << 10),
            retry_count: self.retry_count.min(7),
            rnr_retry_count: self.rnr_retry_count.min(7),
            min_rnr_timer: self.min_rnr_timer.min(31),
            ack_timeout: self.ack_timeout.min(31),
            cm_response_timeout: self.cm_response_timeout.clamp(14, 24),
            cm_disconnect_timeout: self.cm_disconnect_timeout.clamp(14, 24),
            local_mtu: self.local_mtu,
            ecn: self.ecn.clamped(),
            seed: self.seed,
            guid: self.guid,
        }
    }
}

/// The largest power of two that is not larger, or 0.
const fn power_of_two_in(n: u8) -> u8 {
    match n.checked_ilog2() {
        Some(log) => 1 << log,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r088_reads_are_granted_by_powers_of_two() {
        for (wish, granted) in [
            (0, 0),
            (1, 1),
            (3, 2),
            (16, 16),
            (100, 64),
            (128, 128),
            (255, 128),
        ] {
            let config = Config {
                max_inbound_reads: wish,
                ..Config::default()
            };
            assert_eq!(config.clamped().max_inbound_reads, granted, "{wish}");
        }
    }

    /// Sequence numbers tell what is new from what is old as long as less than half of them are under way.
    #[test]
    fn r018_no_window_reaches_half_of_the_sequence_numbers() {
        let config = Config {
            send_window: u32::MAX,
            read_window: u32::MAX,
            read_chunk: u32::MAX,
            ..Config::default()
        };
        let widest = config.clamped();
        assert!(widest.send_window.max(widest.read_chunk) + widest.read_window < 1 << 23);
        assert!(widest.read_window >= 1 << 16, "it need not be small");
    }

    #[test]
    fn times_of_the_connection_manager_make_neither_storms_nor_eternities() {
        for (wish, code) in [(0, 14), (14, 14), (20, 20), (31, 24), (255, 24)] {
            let config = Config {
                cm_response_timeout: wish,
                cm_disconnect_timeout: wish,
                ..Config::default()
            };
            let config = config.clamped();
            assert_eq!(config.cm_response_timeout, code);
            assert_eq!(config.cm_disconnect_timeout, code);
        }
    }
}
