//! What the NDK OIDs report (pages oid-ndk-statistics, oid-ndk-connections, oid-ndk-local-endpoints).
#![allow(
    unsafe_code,
    reason = "an OID's variable-length answer is written through NDIS's buffer"
)]

use core::net::SocketAddr;

use ndkpi::{
    AF_INET, AF_INET6, NDIS_NDK_CAPABILITIES, NDIS_NDK_CAPABILITIES_REVISION_1,
    NDIS_NDK_CONNECTION_ENTRY, NDIS_NDK_CONNECTIONS, NDIS_NDK_CONNECTIONS_REVISION_1,
    NDIS_NDK_LOCAL_ENDPOINT_ENTRY, NDIS_NDK_LOCAL_ENDPOINTS, NDIS_NDK_LOCAL_ENDPOINTS_REVISION_1,
    NDIS_NDK_PERFORMANCE_COUNTERS, NDIS_NDK_STATISTICS_INFO, NDIS_NDK_STATISTICS_INFO_REVISION_1,
    NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_DEFAULT, NDIS_SIZEOF_NDK_CAPABILITIES_REVISION_1,
    NDIS_SIZEOF_NDK_CONNECTIONS_REVISION_1, NDIS_SIZEOF_NDK_LOCAL_ENDPOINTS_REVISION_1,
    NDIS_SIZEOF_NDK_STATISTICS_INFO_REVISION_1, NDK_ADAPTER_INFO, SOCKADDR_IN, SOCKADDR_IN6,
    SOCKADDR_INET,
};

use super::connection::Connection;
use super::endpoint::SharedEntry;
use super::limits;
use super::listener::Listening;
use super::port::Port;

fn header(revision: u8, size: usize) -> NDIS_OBJECT_HEADER {
    // Lists can be longer than the field can say; then it says 0xFFFF (page oid-ndk-connections).
    NDIS_OBJECT_HEADER {
        Type: NDIS_OBJECT_TYPE_DEFAULT,
        Revision: revision,
        Size: u16::try_from(size).unwrap_or(u16::MAX),
    }
}

/// NDIS_NDK_CAPABILITIES of a port, reported whether it is enabled or not. `info` stays the caller's and must live as long.
pub fn capabilities(info: *mut NDK_ADAPTER_INFO) -> NDIS_NDK_CAPABILITIES {
    NDIS_NDK_CAPABILITIES {
        Header: header(
            NDIS_NDK_CAPABILITIES_REVISION_1,
            usize::from(NDIS_SIZEOF_NDK_CAPABILITIES_REVISION_1),
        ),
        Flags: 0,
        MaxQpCount: limits::MAX_QPS,
        MaxCqCount: limits::MAX_CQS,
        MaxMrCount: limits::MAX_MRS,
        MaxPdCount: limits::MAX_PDS,
        // No limit for the adapter as a whole.
        MaxInboundReadLimit: 0,
        MaxOutboundReadLimit: 0,
        MaxMwCount: limits::MAX_MWS,
        MaxSrqCount: limits::MAX_SRQS,
        MissingCounterMask: 0,
        NdkInfo: info,
    }
}

fn to_inet(endpoint: SocketAddr) -> SOCKADDR_INET {
    match endpoint {
        SocketAddr::V4(v4) => SOCKADDR_INET {
            Ipv4: SOCKADDR_IN {
                sin_family: AF_INET,
                sin_port: v4.port().to_be(),
                sin_addr: v4.ip().octets(),
                sin_zero: [0; 8],
            },
        },
        SocketAddr::V6(v6) => SOCKADDR_INET {
            Ipv6: SOCKADDR_IN6 {
                sin6_family: AF_INET6,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: v6.ip().octets(),
                sin6_scope_id: v6.scope_id(),
            },
        },
    }
}

/// An answer that did not fit: how many bytes it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooShort {
    /// Bytes.
    pub needed: usize,
}

impl Port {
    /// Answer to OID_NDK_STATISTICS. IRQL <= DISPATCH_LEVEL.
    pub fn statistics(&self) -> NDIS_NDK_STATISTICS_INFO {
        // The engine knows of completion queues that failed unarmed, too.
        let (counters, cq_errors) =
            self.peek(|state| (state.counters, state.engine.counters().cq_errors));
        let cq_errors = counters.cq_errors + cq_errors;
        let [octets_in, octets_out, frames_in, frames_out] = self.traffic();
        NDIS_NDK_STATISTICS_INFO {
            Header: header(
                NDIS_NDK_STATISTICS_INFO_REVISION_1,
                usize::from(NDIS_SIZEOF_NDK_STATISTICS_INFO_REVISION_1),
            ),
            Flags: 0,
            CounterSet: NDIS_NDK_PERFORMANCE_COUNTERS {
                Connect: counters.connects,
                Accept: counters.accepts,
                ConnectFailure: counters.connect_failures,
                ConnectionError: counters.connection_errors,
                ActiveConnection: counters.active_connections,
                Reserved: [0; 20],
                CQError: cq_errors,
                RDMAInOctets: octets_in,
                RDMAOutOctets: octets_out,
                RDMAInFrames: frames_in,
                RDMAOutFrames: frames_out,
            },
        }
    }

    /// Writes the answer to OID_NDK_CONNECTIONS, every established connection, and returns its length in bytes.
    ///
    /// # Safety
    /// `buffer` has `room` writable bytes, aligned for the structure. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Errors
    /// [`TooShort`]; nothing has been written.
    pub unsafe fn write_connections(
        &self,
        buffer: *mut NDIS_NDK_CONNECTIONS,
        room: usize,
    ) -> Result<usize, TooShort> {
        self.peek(|state| {
            let connected = || state.connections.iter().filter(|c| c.is_connected());
            let count = connected().count();
            let needed = NDIS_SIZEOF_NDK_CONNECTIONS_REVISION_1(count);
            if room < needed {
                return Err(TooShort { needed });
            }
            // SAFETY: the buffer has room for the head and `count` entries. Fields are written one by one, because the declared
            // structure has one entry and the buffer may have none.
            unsafe {
                (&raw mut (*buffer).Header).write(header(NDIS_NDK_CONNECTIONS_REVISION_1, needed));
                (&raw mut (*buffer).Flags).write(0);
                (&raw mut (*buffer).Count).write(count as u32);
                (&raw mut (*buffer).NDConnectionsMappedtoTCPConnections).write(0);
                let entries = (&raw mut (*buffer).Connections).cast::<NDIS_NDK_CONNECTION_ENTRY>();
                for (index, connection) in connected().take(count).enumerate() {
                    entries.add(index).write(connection_entry(connection));
                }
            }
            Ok(needed)
        })
    }

    /// Writes the answer to OID_NDK_LOCAL_ENDPOINTS, every listener that listens and every shared endpoint, and returns its length in bytes.
    ///
    /// # Safety
    /// `buffer` has `room` writable bytes, aligned for the structure. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Errors
    /// [`TooShort`]; nothing has been written.
    pub unsafe fn write_local_endpoints(
        &self,
        buffer: *mut NDIS_NDK_LOCAL_ENDPOINTS,
        room: usize,
    ) -> Result<usize, TooShort> {
        self.peek(|state| {
            let listening = || {
                let listeners = state
                    .listeners
                    .iter()
                    .filter_map(Listening::endpoint)
                    .map(|at| (at, true));
                let shared = state
                    .shared
                    .iter()
                    .filter_map(SharedEntry::endpoint)
                    .map(|at| (at, false));
                listeners.chain(shared)
            };
            let count = listening().count();
            let needed = NDIS_SIZEOF_NDK_LOCAL_ENDPOINTS_REVISION_1(count);
            if room < needed {
                return Err(TooShort { needed });
            }
            // SAFETY: as in `write_connections`.
            unsafe {
                (&raw mut (*buffer).Header)
                    .write(header(NDIS_NDK_LOCAL_ENDPOINTS_REVISION_1, needed));
                (&raw mut (*buffer).Flags).write(0);
                (&raw mut (*buffer).Count).write(count as u32);
                (&raw mut (*buffer).NDLocalEndpointsMappedtoTCPLocalEndpoints).write(0);
                let entries =
                    (&raw mut (*buffer).LocalEndpoints).cast::<NDIS_NDK_LOCAL_ENDPOINT_ENTRY>();
                for (index, (endpoint, listener)) in listening().take(count).enumerate() {
                    let entry = NDIS_NDK_LOCAL_ENDPOINT_ENTRY {
                        Local: to_inet(endpoint),
                        UserModeOwner: 0,
                        Listener: u8::from(listener),
                        OwnerPid: 0,
                    };
                    entries.add(index).write(entry);
                }
            }
            Ok(needed)
        })
    }
}

fn connection_entry(connection: &Connection) -> NDIS_NDK_CONNECTION_ENTRY {
    let end = |endpoint: Option<SocketAddr>| endpoint.map_or(SOCKADDR_INET::ZEROED, to_inet);
    NDIS_NDK_CONNECTION_ENTRY {
        Local: end(connection.local()),
        Remote: end(connection.peer()),
        UserModeOwner: 0,
        OwnerPid: 0,
    }
}
