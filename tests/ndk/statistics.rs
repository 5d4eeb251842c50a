//! What NDIS can ask about NDK.

use std::net::SocketAddr;

use ndkpi::status::*;
use ndkpi::{
    NDIS_NDK_CONNECTIONS, NDIS_NDK_LOCAL_ENDPOINT_ENTRY, NDIS_NDK_LOCAL_ENDPOINTS,
    NDIS_NDK_STATISTICS_INFO, NDK_VERSION_2_1, OID_NDK_CONNECTIONS, OID_NDK_LOCAL_ENDPOINTS,
    OID_NDK_SET_STATE, OID_NDK_STATISTICS, SOCKADDR_INET,
};
use ntsim::MachineId;
use ntsim::ndis::OidRequest;
use ntsim::ndk::{Adapter, ReadLimits};
use ntsim::virtio_net::NicConfig;

use crate::lab::{B, Lab, SOON, failure, from, to};
use crate::raw::{Completed, Shared};
use crate::story::Story;

/// NDIS_STATUS_ADAPTER_NOT_READY.
const NOT_READY: i32 = 0xc001_0011_u32 as i32;

fn query(lab: &mut Lab, machine: MachineId, oid: u32, length: usize) -> Vec<u8> {
    let result = lab
        .world
        .oid(machine, &OidRequest::Query(oid, length))
        .expect("an adapter");
    assert_eq!(result.status, 0, "OID {oid:#x}");
    result.data
}

/// What OID_NDK_STATISTICS says.
pub fn statistics(lab: &mut Lab, machine: MachineId) -> NDIS_NDK_STATISTICS_INFO {
    let data = query(
        lab,
        machine,
        OID_NDK_STATISTICS,
        size_of::<NDIS_NDK_STATISTICS_INFO>(),
    );
    assert_eq!(data.len(), size_of::<NDIS_NDK_STATISTICS_INFO>());
    // SAFETY: plain numbers, and as many bytes as the structure has.
    unsafe {
        data.as_ptr()
            .cast::<NDIS_NDK_STATISTICS_INFO>()
            .read_unaligned()
    }
}

fn address(inet: &SOCKADDR_INET) -> SocketAddr {
    // SAFETY: the lab speaks IPv4.
    let v4 = unsafe { inet.Ipv4 };
    SocketAddr::new(v4.sin_addr.into(), u16::from_be(v4.sin_port))
}

#[test]
fn n14_the_counters_follow_what_happens() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let fresh = statistics(&mut lab, a.machine);
    assert_eq!(
        (
            fresh.Header.Type,
            fresh.Header.Revision,
            fresh.Header.Size,
            fresh.Flags
        ),
        (0x80, 1, 248, 0)
    );
    assert_eq!(fresh.CounterSet.ActiveConnection, 0);
    let active = lab.connector(&a);
    let connecting = lab.on(&a, || {
        active.start_connect(&a.qp, from(&a), to(&b), ReadLimits::default(), &[])
    });
    assert_eq!(
        failure(connecting.wait(&mut lab.world)),
        STATUS_CONNECTION_REFUSED
    );
    lab.on(&a, || active.close());
    assert_eq!(statistics(&mut lab, a.machine).CounterSet.ConnectFailure, 1);
    let connected = lab.connect(&a, &b);
    let (here, there) = (
        statistics(&mut lab, a.machine).CounterSet,
        statistics(&mut lab, b.machine).CounterSet,
    );
    assert_eq!(
        (here.Connect, here.Accept, here.ActiveConnection),
        (1, 0, 1)
    );
    assert_eq!(
        (there.Connect, there.Accept, there.ActiveConnection),
        (0, 1, 1)
    );
    // One write of two packets, each with its headers, and an acknowledgement.
    let (ours, theirs) = lab.regions(&a, &b, 2000, 3);
    let (at, token) = lab.on(&b, || theirs.remote());
    lab.on(&a, || a.qp.write(1, &[ours.sge(0, 2000)], at, token, 0))
        .unwrap();
    assert_eq!(lab.result(&a).Status, STATUS_SUCCESS);
    let after = statistics(&mut lab, a.machine).CounterSet;
    assert_eq!(after.RDMAOutFrames - here.RDMAOutFrames, 2);
    // Ethernet 14, IPv4 20, UDP 8, BTH 12, RETH 16 once, ICRC 4.
    assert_eq!(
        after.RDMAOutOctets - here.RDMAOutOctets,
        2000 + 2 * (14 + 20 + 8 + 12 + 4) + 16
    );
    assert!(after.RDMAInFrames > here.RDMAInFrames);
    assert!(after.Reserved.iter().all(|counter| *counter == 0));
    lab.hang_up(&a, &b, connected);
    let end = statistics(&mut lab, a.machine).CounterSet;
    assert_eq!(
        (end.ActiveConnection, end.ConnectionError, end.CQError),
        (0, 0, 0)
    );
    lab.on(&a, || ours.close());
    lab.on(&b, || theirs.close());
    lab.end(a, b);
}

#[test]
fn n15_n22_every_counter_is_kept() {
    let mut s = Story::begin();
    let (a, b) = (s.a.machine, s.b.machine);
    for machine in [a, b] {
        let (capabilities, _) = s.lab.world.adapter(machine).unwrap().ndk.unwrap();
        assert_eq!(capabilities.MissingCounterMask, 0, "none is missing");
    }
    // Attempts that fail, on both sides: B rejects.
    let active = s.lab.connector(&s.a);
    let qp = s.lab.queue_pair(&s.a);
    let limits = ReadLimits::default();
    let connecting = s.lab.on(&s.a, || {
        active.start_connect(&qp, from(&s.a), to(&s.b), limits, &[])
    });
    let passive = s.lab.request(&s.connected.listener);
    s.lab.on(&s.b, || passive.reject(&[])).unwrap();
    assert!(connecting.wait(&mut s.lab.world).is_err());
    s.lab.on(&s.a, || {
        active.close();
        qp.close();
    });
    s.lab.on(&s.b, || passive.close());
    let counted = |s: &mut Story, machine| {
        let counters = statistics(&mut s.lab, machine).CounterSet;
        (
            counters.ConnectFailure,
            counters.ConnectionError,
            counters.ActiveConnection,
            counters.CQError,
        )
    };
    assert_eq!(counted(&mut s, a), (1, 0, 1, 0));
    assert_eq!(counted(&mut s, b), (1, 0, 1, 0));
    // The connection breaks on both sides, by a write to where there is nothing.
    let (element, _, _) = s.target();
    s.lab
        .on(&s.a, || s.a.qp.write(1, &[element], 0, 0, 0))
        .unwrap();
    assert_eq!(s.outcome().1, STATUS_REMOTE_RESOURCES);
    s.lab.world.run_for(SOON);
    assert_eq!(counted(&mut s, a), (1, 1, 0, 0));
    assert_eq!(counted(&mut s, b), (1, 1, 0, 0));
    // A completion queue with room for one entry gets two, which is the consumer's mistake.
    let rule = ntsim::ndk::rules::CONSUMER_OVERRUN;
    s.lab.world.pardon(rule);
    s.lab.on(&s.a, || {
        let small = s.a.adapter.create_cq(1).unwrap();
        let limits = crate::lab::limits();
        let qp = s.a.pd.create_qp(&small, &small, limits).unwrap();
        qp.receive(1, &[]).unwrap();
        qp.receive(2, &[]).unwrap();
        qp.flush();
        qp.close();
        small.close();
    });
    assert_eq!(s.lab.world.pardoned(rule), 1);
    assert_eq!(counted(&mut s, a), (1, 1, 0, 1));
    s.end();
}

#[test]
fn n16_rdma_is_counted_with_the_adapters_traffic_and_ordinary_traffic_not_with_rdma() {
    const GEN_STATISTICS: u32 = 0x0002_0106;
    /// Where NDIS_STATISTICS_INFO has ifHCInOctets and ifHCOutOctets.
    const OCTETS: [usize; 2] = [0x18, 0x38];
    let mut s = Story::begin();
    let machine = s.a.machine;
    let all = |s: &mut Story| {
        let data = query(&mut s.lab, machine, GEN_STATISTICS, 152);
        OCTETS.map(|at| u64::from_le_bytes(data[at..at + 8].try_into().unwrap()))
    };
    let rdma = |s: &mut Story| {
        let counters = statistics(&mut s.lab, machine).CounterSet;
        [counters.RDMAInOctets, counters.RDMAOutOctets]
    };
    let grown = |after: [u64; 2], before: [u64; 2]| [after[0] - before[0], after[1] - before[1]];
    let before = (all(&mut s), rdma(&mut s));
    s.send(0);
    let after = (all(&mut s), rdma(&mut s));
    let (all_grown, rdma_grown) = (grown(after.0, before.0), grown(after.1, before.1));
    assert!(rdma_grown[0] > 0 && rdma_grown[1] > 0);
    assert_eq!(all_grown, rdma_grown, "the adapter's octets include them");
    assert!(s.lab.world.ping(machine, B).is_some());
    let pinged = (all(&mut s), rdma(&mut s));
    assert_eq!(pinged.1, after.1, "a ping is no RDMA");
    assert!(pinged.0[0] > after.0[0] && pinged.0[1] > after.0[1]);
    s.end();
}

#[test]
fn n11_disabling_waits_until_the_last_adapter_is_closed() {
    let mut lab = Lab::new();
    let a = lab.side_a();
    let machine = lab.a;
    let set = |lab: &mut Lab, on: u8| {
        let bytes = [on];
        let result = lab
            .world
            .oid(machine, &OidRequest::Set(OID_NDK_SET_STATE, &bytes))
            .unwrap();
        assert_eq!((result.status, result.pended), (STATUS_SUCCESS, false));
        lab.world.run_for(SOON);
        lab.world.adapter(machine).unwrap().ndk_enabled
    };
    assert!(!set(&mut lab, 0));
    // The event that NDK is disabled is still under way: the one that it is enabled again cannot be raised.
    assert!(!set(&mut lab, 1));
    lab.close(a);
    lab.world.run_for(SOON);
    assert!(lab.world.adapter(machine).unwrap().ndk_enabled);
    let a = lab.side_a();
    lab.close(a);
    lab.finish();
}

#[test]
fn n07_opening_survives_the_lack_of_memory() {
    let mut lab = Lab::new();
    let machine = lab.a;
    let open = |lab: &mut Lab| {
        lab.world.call(machine, || {
            Adapter::open(NDK_VERSION_2_1).map(Adapter::close)
        })
    };
    open(&mut lab).unwrap();
    let before = lab.world.pool_stats(machine).driver_blocks;
    let mut failures = 0;
    for after in 0.. {
        lab.world.fail_allocations(machine, Some(after), true);
        let result = open(&mut lab);
        lab.world.fail_allocations(machine, None, false);
        assert_eq!(lab.world.pool_stats(machine).driver_blocks, before);
        match result {
            Ok(()) => break,
            // The same number as NDIS_STATUS_RESOURCES.
            Err(status) => assert_eq!(status, STATUS_INSUFFICIENT_RESOURCES),
        }
        failures += 1;
    }
    assert!(failures >= 2, "object and event, at the least");
    lab.finish();
}

#[test]
fn statistics_are_answered_on_the_direct_path() {
    let mut lab = Lab::new();
    let machine = lab.a;
    let length = size_of::<NDIS_NDK_STATISTICS_INFO>();
    let result = lab
        .world
        .direct_oid(machine, &OidRequest::Query(OID_NDK_STATISTICS, length))
        .unwrap();
    assert_eq!((result.status, result.data.len()), (0, length));
    lab.finish();
}

/// The connections of a machine, as NDIS is told.
fn connections(lab: &mut Lab, machine: MachineId) -> (NDIS_NDK_CONNECTIONS, Vec<u8>) {
    let mut data = query(lab, machine, OID_NDK_CONNECTIONS, 1 << 17);
    let length = data.len();
    data.resize(length.max(size_of::<NDIS_NDK_CONNECTIONS>()), 0);
    // SAFETY: plain numbers, and as many bytes as the structure has.
    let head = unsafe {
        data.as_ptr()
            .cast::<NDIS_NDK_CONNECTIONS>()
            .read_unaligned()
    };
    let entries = data[16..].to_vec();
    assert_eq!(length, 16 + 64 * head.Count as usize);
    (head, entries)
}

#[test]
fn n17_n18_n19_connections_and_endpoints_are_listed() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    let here = lab.on(&a, || connected.active.local_address()).unwrap();
    let (list, _) = connections(&mut lab, b.machine);
    assert_eq!(
        (
            list.Count,
            list.Header.Size,
            list.NDConnectionsMappedtoTCPConnections
        ),
        (1, 80, 0)
    );
    assert_eq!(address(&list.Connections[0].Local), to(&b));
    assert_eq!(address(&list.Connections[0].Remote), here);
    assert_eq!(list.Connections[0].UserModeOwner, 0);
    // A listener and a shared endpoint.
    let (shared, port) = lab.on(&b, || {
        let shared = Shared::create(&b, from(&b)).unwrap();
        let port = shared.port();
        (shared, port)
    });
    let data = query(&mut lab, b.machine, OID_NDK_LOCAL_ENDPOINTS, 16 + 4 * 36);
    assert_eq!(data.len(), 16 + 2 * 36);
    // SAFETY: plain numbers, and room for one entry.
    let list = unsafe {
        data.as_ptr()
            .cast::<NDIS_NDK_LOCAL_ENDPOINTS>()
            .read_unaligned()
    };
    assert_eq!(
        (list.Count, list.NDLocalEndpointsMappedtoTCPLocalEndpoints),
        (2, 0)
    );
    let mut endpoints: Vec<_> = data[16..]
        .chunks(36)
        .map(|entry| {
            // SAFETY: as above: an entry has 36 bytes.
            let entry = unsafe {
                entry
                    .as_ptr()
                    .cast::<NDIS_NDK_LOCAL_ENDPOINT_ENTRY>()
                    .read_unaligned()
            };
            assert_eq!(entry.UserModeOwner, 0);
            (address(&entry.Local), entry.Listener)
        })
        .collect();
    endpoints.sort_unstable();
    assert_eq!(
        endpoints,
        [(to(&b), 1), (SocketAddr::new(b.address, port), 0)]
    );
    assert_eq!(
        lab.on(&b, || shared.close(&Completed::default())),
        STATUS_SUCCESS
    );
    lab.hang_up(&a, &b, connected);
    assert_eq!(connections(&mut lab, b.machine).0.Count, 0);
    lab.end(a, b);
}

#[test]
fn n17_a_list_too_long_for_its_header_says_so() {
    const MANY: usize = 1024;
    let mut lab = Lab::new();
    let (mut a, mut b) = (lab.side_a(), lab.side_b());
    let listener = lab.listen(&b);
    let mut open = Vec::new();
    for made in 1..=MANY {
        let (active, passive) = lab.establish(&a, &b, &listener);
        open.push((active, passive));
        if made < MANY {
            // The queue pairs are in use.
            let fresh = (lab.queue_pair(&a), lab.queue_pair(&b));
            let used = (
                std::mem::replace(&mut a.qp, fresh.0),
                std::mem::replace(&mut b.qp, fresh.1),
            );
            // Their closes wait for the connectors.
            let _ = lab.on(&a, || used.0.start_close());
            let _ = lab.on(&b, || used.1.start_close());
        }
    }
    let (list, entries) = connections(&mut lab, b.machine);
    assert_eq!(list.Count as usize, MANY);
    assert_eq!(list.Header.Size, u16::MAX, "{} bytes", 16 + 64 * MANY);
    let mut ports: Vec<_> = entries
        .chunks(64)
        .map(|entry| u16::from_be_bytes([entry[30], entry[31]]))
        .collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), MANY, "each from a port of its own");
    for (active, passive) in open {
        lab.on(&a, || active.close());
        lab.on(&b, || passive.close());
    }
    lab.on(&b, || listener.close());
    lab.end(a, b);
}

#[test]
fn n02_n03_a_disabled_provider_has_capabilities_but_no_adapters() {
    let mut lab = Lab::with_keywords(&[("*NetworkDirect", "0")]);
    let machine = lab.a;
    let info = lab.world.adapter(machine).unwrap();
    assert!(info.ndk.is_some() && !info.ndk_enabled);
    lab.world.call(machine, || {
        assert_eq!(Adapter::open(NDK_VERSION_2_1).err(), Some(NOT_READY));
    });
    lab.finish();
}

#[test]
fn n21_the_largest_frame_size_within_the_jumbo_packet_is_in_use() {
    const BYTES: usize = 8192;
    const BIG: (&str, &str) = ("*NetworkDirectRoCEFrameSize", "4096");
    let nic = NicConfig {
        mtu: 4200,
        ..NicConfig::default()
    };
    for (keywords, size) in [
        (&[("*JumboPacket", "4214")][..], 1024),
        (&[BIG], 1024),
        (&[BIG, ("*JumboPacket", "3000")], 2048),
        (&[BIG, ("*JumboPacket", "4214")], 4096),
    ] {
        let mut s = Story::begin_in(Lab::with(keywords, nic.clone()));
        let machine = s.a.machine;
        let (_, address, token) = s.target();
        let before = statistics(&mut s.lab, machine).CounterSet.RDMAOutFrames;
        s.lab
            .on(&s.a, || {
                s.a.qp.write(1, &[s.ours.sge(0, BYTES)], address, token, 0)
            })
            .unwrap();
        assert_eq!(s.outcome().1, STATUS_SUCCESS);
        let after = statistics(&mut s.lab, machine).CounterSet.RDMAOutFrames;
        assert_eq!(after - before, (BYTES / size) as u64, "{keywords:?}");
        s.end();
    }
}

#[test]
fn n14_an_attempt_that_ends_without_a_connection_counts_once_whoever_ends_it() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let listener = lab.listen(&b);
    let failures = |lab: &mut Lab| {
        [lab.a, lab.b].map(|machine| statistics(lab, machine).CounterSet.ConnectFailure)
    };
    // This side closes while the peer thinks, the peer hears of it, and rejects all the same.
    let active = lab.connector(&a);
    let connecting = lab.dial(&a, &active, &b);
    let passive = lab.request(&listener);
    lab.on(&a, || active.close());
    assert_eq!(failure(connecting.wait(&mut lab.world)), STATUS_CANCELLED);
    lab.world.run_for(SOON);
    let rejected = lab.on(&b, || passive.reject(&[]));
    assert_eq!(rejected, Err(STATUS_CONNECTION_ABORTED));
    assert_eq!(failures(&mut lab), [1, 1]);
    lab.on(&b, || passive.close());
    // The peer closes without an answer.
    let active = lab.connector(&a);
    let connecting = lab.dial(&a, &active, &b);
    let passive = lab.request(&listener);
    lab.on(&b, || passive.close());
    let refused = failure(connecting.wait(&mut lab.world));
    assert_eq!(refused, STATUS_CONNECTION_REFUSED);
    assert_eq!(failures(&mut lab), [2, 2]);
    // This side does not want any more what the peer accepted.
    let connecting = lab.dial(&a, &active, &b);
    let passive = lab.request(&listener);
    let accepting = lab.accept(&b, &passive);
    connecting.wait(&mut lab.world).unwrap();
    lab.on(&a, || active.close());
    assert!(accepting.wait(&mut lab.world).is_err());
    lab.on(&b, || passive.close());
    assert_eq!(failures(&mut lab), [3, 3]);
    lab.on(&b, || listener.close());
    lab.end(a, b);
}
