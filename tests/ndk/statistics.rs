//! What NDIS can ask about NDK.

use std::net::SocketAddr;

use ndkpi::status::*;
use ndkpi::{
    NDIS_NDK_CONNECTIONS, NDIS_NDK_LOCAL_ENDPOINTS, NDIS_NDK_STATISTICS_INFO, NDK_VERSION_2_1,
    OID_NDK_CONNECTIONS, OID_NDK_LOCAL_ENDPOINTS, OID_NDK_STATISTICS, SOCKADDR_INET,
};
use ntsim::MachineId;
use ntsim::consumer::{Adapter, ReadLimits};
use ntsim::ndis::OidRequest;

use crate::lab::{ALL_RIGHTS, Lab, failure, from, to};

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

fn statistics(lab: &mut Lab, machine: MachineId) -> NDIS_NDK_STATISTICS_INFO {
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
    let (ours, theirs) = (
        lab.region(&a, 2000, ALL_RIGHTS, 3),
        lab.region(&b, 2000, ALL_RIGHTS, 0),
    );
    let (at, token) = lab.on(&b, || (theirs.buffer.address(), theirs.mr.remote_token()));
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
    lab.close(a);
    lab.close(b);
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

#[test]
fn n19_connections_and_endpoints_are_listed() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    let here = lab.on(&a, || connected.active.local_address()).unwrap();
    let data = query(&mut lab, b.machine, OID_NDK_CONNECTIONS, 16 + 4 * 64);
    assert_eq!(data.len(), 16 + 64);
    // SAFETY: plain numbers, and room for one entry.
    let list = unsafe {
        data.as_ptr()
            .cast::<NDIS_NDK_CONNECTIONS>()
            .read_unaligned()
    };
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
    let data = query(&mut lab, b.machine, OID_NDK_LOCAL_ENDPOINTS, 16 + 4 * 36);
    assert_eq!(data.len(), 16 + 36);
    // SAFETY: as above.
    let list = unsafe {
        data.as_ptr()
            .cast::<NDIS_NDK_LOCAL_ENDPOINTS>()
            .read_unaligned()
    };
    assert_eq!(
        (list.Count, list.NDLocalEndpointsMappedtoTCPLocalEndpoints),
        (1, 0)
    );
    assert_eq!(
        (
            address(&list.LocalEndpoints[0].Local),
            list.LocalEndpoints[0].Listener
        ),
        (to(&b), 1)
    );
    lab.hang_up(&a, &b, connected);
    assert_eq!(
        query(&mut lab, b.machine, OID_NDK_CONNECTIONS, 16 + 4 * 64).len(),
        16
    );
    lab.close(a);
    lab.close(b);
    lab.finish();
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
