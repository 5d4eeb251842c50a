//! What goes wrong: memory that is not there, a device that does not send any more.

use std::time::Duration;

use std::collections::BTreeSet;

use ntsim::World;
use ntsim::ndis::DriverImage;
use ntsim::virtio_net::NicConfig;

use super::{INX, clean_up, image, ip, station};

#[test]
fn every_allocation_of_the_installation_may_fail() {
    let mut world = World::builder().seed(1).build();
    let net = world.switch(Default::default());
    let (a, _) = station(&mut world, &net, 1, NicConfig::default());
    let (b, _) = station(&mut world, &net, 2, NicConfig::default());
    world.install(b, INX, image()).unwrap();
    let mut failures = 0;
    let mut failed = BTreeSet::new();
    for after in 0.. {
        world.fail_allocations(a, Some(after), false);
        let result = world.install(a, INX, image());
        let untouched = world.allocation_failure_pending(a);
        world.fail_allocations(a, None, false);
        failed.extend(world.take_failed_functions(a));
        if result.is_ok() {
            assert!(world.ping(a, ip(2)).is_some());
            world.uninstall(a);
        } else {
            failures += 1;
        }
        if untouched {
            break;
        }
    }
    assert!(failures > 20, "{failures} allocations");
    // An image's own allocator takes from the pool as any driver does.
    let heap = match image() {
        DriverImage::Linked(_) => "the Rust heap",
        DriverImage::File(_) => "ExAllocatePool2",
    };
    for function in [
        "AllocateCommonBuffer",
        "IoAllocateDriverObjectExtension",
        "IoGetDmaAdapter",
        "MmMapIoSpaceEx",
        "NdisAllocateIoWorkItem",
        "NdisAllocateMdl",
        "NdisAllocateNetBufferAndNetBufferList",
        "NdisAllocateNetBufferListPool",
        "NdisMRegisterInterruptEx",
        "NdisMRegisterScatterGatherDma",
        "NotifyUnicastIpAddressChange",
        heap,
    ] {
        assert!(failed.contains(function), "{function} is not in {failed:?}");
    }
    assert!(world.install(a, INX, image()).is_ok());
    assert!(world.ping(a, ip(2)).is_some());
    clean_up(world, &[a, b]);
}

#[test]
fn a_device_that_stops_sending_is_given_up_and_what_it_had_comes_back() {
    let mut world = World::builder().seed(3).build();
    let net = world.switch(Default::default());
    let stuck = NicConfig {
        transmit_latency: Duration::from_secs(3600),
        ..NicConfig::default()
    };
    let (a, nic) = station(&mut world, &net, 1, stuck);
    world.install(a, INX, image()).unwrap();
    assert!(world.ping(a, ip(2)).is_none(), "nothing goes out");
    let begin = world.now();
    world.uninstall(a);
    let took = world.now() - begin;
    assert!(took < Duration::from_secs(60), "{took:?}");
    assert!(!nic.is_running());
    let report = world.finish();
    assert!(report.is_clean() && report.leaks.is_empty(), "{report}");
}
