//! What a driver's data path calls: frames through NDIS, requests through NDK. Nothing of a driver's own work is in it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ndis_sys::types::DISPATCH_LEVEL;
use ndkpi::NDK_CQ_NOTIFY_ANY;
use ntsim::ndk::{Endpoint, Result};
use ntsim::wire::SwitchConfig;
use ntsim::{DriverImage, MachineConfig, MachineId, NicConfig, Verify, World};

use super::miniport::{self, Adapter};
use super::{Rows, measure};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// All rows, with a verifier that looks at so much and finds nothing.
pub fn rows(verify: Verify) -> Rows {
    let mut rows = Rows::new();
    let mut world = World::builder().verify(verify).ignore_environment().build();
    let a = world.add_machine(MachineConfig::named("A").ipv4(ADDRESS, 24));
    // The device that the driver is installed for. It is never touched.
    let switch = world.switch(SwitchConfig::default());
    world.attach_nic(a, &switch, NicConfig::default());
    let image = DriverImage::Linked(miniport::driver_entry);
    world.install(a, miniport::INF, image).expect("installed");
    world.run_for(Duration::from_secs(5));
    ndis(&mut world, a, &mut rows);
    let ended = world.call(a, || ndk(&mut rows));
    assert_eq!(ended, Ok(()));
    world.uninstall(a);
    let report = world.finish();
    assert!(report.is_clean() && report.leaks.is_empty(), "{report}");
    rows
}

/// Frames.
fn ndis(world: &mut World, a: MachineId, rows: &mut Rows) {
    let adapter = Adapter::installed();
    world.call(a, || {
        measure(rows, "NET_BUFFER_LIST and back, 2 calls", || {
            let list = adapter.allocate();
            // SAFETY: just allocated.
            unsafe { adapter.free(list) };
        });
    });
    let frame = vec![vec![vec![0xff; 60]]];
    let before = world.sends(a);
    let mut given = 0;
    measure(rows, "frame sent and completed, 2 calls", || {
        world.send_lists(a, &frame);
        given += 1;
    });
    let after = world.sends(a);
    assert_eq!(
        (after.sent - before.sent, after.outstanding),
        (given, 0),
        "{after:?}"
    );
    // Three of four come back when the protocol is done with them, which is after the call.
    measure(rows, "frame indicated and returned, 2 calls", || {
        world.call_on(a, 0, DISPATCH_LEVEL, || adapter.indicate());
        if !adapter.is_returned() {
            world.run_for(Duration::ZERO);
        }
        assert!(adapter.is_returned());
    });
}

/// Requests. Kernel code at PASSIVE_LEVEL, of a consumer.
fn ndk(rows: &mut Rows) -> Result<()> {
    let end = Endpoint::open(4096)?;
    let at = |host, port| SocketAddr::new(IpAddr::V4(host), port);
    let peer = Ipv4Addr::new(10, 0, 0, 2);
    let connector = end.connect(at(ADDRESS, 0), at(peer, 445), &[])?;
    let sgl = [end.sge(0, 64)];
    let (address, token) = end.remote();
    let write = || end.qp.write(7, &sgl, address, token, 0);
    let take = || end.cq.poll().map(|result| result.RequestContext.addr());
    measure(rows, "NdkGetRemoteTokenFromMr", || {
        assert_eq!(end.mr.remote_token(), token);
    });
    measure(rows, "NdkGetCqResults, nothing there", || {
        assert_eq!(take(), None);
    });
    measure(rows, "NdkSend and its result, 2 calls", || {
        assert_eq!(end.qp.send(7, &sgl, 0), Ok(()));
        assert_eq!(take(), Some(7));
    });
    measure(rows, "NdkWrite and its result, 2 calls", || {
        assert_eq!(write(), Ok(()));
        assert_eq!(take(), Some(7));
    });
    // NdkArmCq, NdkWrite, KeInsertQueueDpc, the DPC, the notification, NdkGetCqResults.
    let mut notified = 0;
    measure(rows, "NdkWrite, armed, DPC, result, 6 calls", || {
        end.cq.arm(NDK_CQ_NOTIFY_ANY);
        assert_eq!(write(), Ok(()));
        notified += 1;
        assert_eq!(end.cq.notifications().count(), notified);
        assert_eq!(take(), Some(7));
    });
    measure(rows, "NdkArmCq, armed already", || {
        end.cq.arm(NDK_CQ_NOTIFY_ANY);
    });
    connector.disconnect()?;
    connector.close();
    end.close()
}
