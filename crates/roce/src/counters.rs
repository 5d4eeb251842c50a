//! Counters: traffic, and why frames were dropped.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Monotonic counters of one engine.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        #[non_exhaustive]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Every counter with its name.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    /// RoCE frames received, whatever became of them.
    rx_frames,
    /// Payload bytes of accepted requests and responses.
    rx_bytes,
    /// Frames handed out for transmission.
    tx_frames,
    /// Payload bytes handed out, retransmissions included.
    tx_bytes,
    /// Dropped: malformed (too short, wrong version, inconsistent lengths).
    drop_malformed,
    /// Dropped: invariant CRC does not match.
    drop_icrc,
    /// Dropped: partition key does not match.
    drop_pkey,
    /// Dropped: no such queue pair.
    drop_unknown_qp,
    /// Dropped: the queue pair's state does not take it.
    drop_qp_state,
    /// Dropped: addresses are not those of the connection.
    drop_wrong_peer,
    /// Dropped: opcode unknown or not of this transport.
    drop_opcode,
    /// Dropped: the engine has failed.
    drop_failed,
    /// Dropped by the connection manager: a datagram to queue pair 1 that is no management datagram.
    cm_drop_not_mad,
    /// Dropped by the connection manager: a management datagram of another class, version or method.
    cm_drop_not_cm,
    /// Dropped by the connection manager: an attribute that means nothing here.
    cm_drop_attribute,
    /// Dropped by the connection manager: path migration (LAP, APR), which does not exist on RoCE.
    cm_drop_path_migration,
    /// Dropped by the connection manager: from or to an address that can be nobody's.
    cm_drop_source,
    /// Dropped by the connection manager: to an address that is not ours.
    cm_drop_not_here,
    /// Dropped by the connection manager: a request without a name.
    cm_drop_malformed,
    /// Dropped by the connection manager: about no connection, or not from its peer, by its names or in its transaction.
    cm_drop_unmatched,
    /// Dropped by the connection manager: about a connection that has no use for it now: late, again, or too early.
    cm_drop_state,
    /// Dropped by the connection manager: a request for a connection for which there is no room.
    cm_drop_no_room,
    /// Dropped by the connection manager: the answer finds no room, because none are taken to be sent.
    cm_drop_answer,
    /// Dropped: a response that nothing waits for (acknowledgement of what was not sent, stale READ data).
    drop_unexpected_response,
    /// Dropped: a response that counts other messages than were sent (MSN). It is made up, or its sender counts differently.
    drop_wrong_msn,
    /// Dropped: duplicate READ that cannot be replayed.
    drop_unreplayable,
    /// Requests received again and not executed again.
    duplicate_requests,
    /// Requests that came too early.
    out_of_sequence_requests,
    /// READ responses that came too early.
    out_of_sequence_responses,
    /// Acknowledgements sent.
    tx_acks,
    /// Sequence error NAKs sent.
    tx_sequence_naks,
    /// Receiver-not-ready NAKs sent.
    tx_rnr_naks,
    /// NAKs sent that end a connection.
    tx_fatal_naks,
    /// Sequence error NAKs received.
    rx_sequence_naks,
    /// Receiver-not-ready NAKs received.
    rx_rnr_naks,
    /// NAKs received that end a connection.
    rx_fatal_naks,
    /// Frames of connections received that the network has marked: there is congestion on their way.
    rx_congested,
    /// Congestion notification packets received.
    rx_cnps,
    /// Congestion notification packets sent.
    tx_cnps,
    /// Acknowledgement timeouts.
    timeouts,
    /// Times transmission went back: after a NAK, a timeout or a probe, or because READ data was missing.
    retransmissions,
    /// Queue pairs that failed.
    qp_errors,
    /// Completion queues that failed.
    cq_errors,
    /// Requests that came early and were kept.
    early_requests_kept,
    /// Requests that were kept and executed when their turn came, or refused then.
    early_requests_executed,
    /// Requests that were kept in vain: the connection has ended, or something else took their PSN.
    early_requests_dropped,
    /// Packets sent again because nothing was heard, well before the timeout.
    probes,
    /// Missing packets sent again alone, and missing READ data asked for again, without what is behind them.
    mended,
    /// Dropped: requests, while as many receives as can wait for the NIC do.
    drop_receives_wait,
}
