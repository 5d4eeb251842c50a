//! What goes wrong: memory that is not there, a device that does not send any more.

use std::time::Duration;

use std::collections::BTreeSet;

use ndis_sys::status::STATUS_INSUFFICIENT_RESOURCES;
use ntsim::virtio_net::NicConfig;
use ntsim::{InstallError, World};

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
        if let Err(error) = result {
            assert!(
                matches!(
                    error,
                    InstallError::DriverEntry(STATUS_INSUFFICIENT_RESOURCES)
                        | InstallError::AddDevice(STATUS_INSUFFICIENT_RESOURCES)
                        | InstallError::Initialize(STATUS_INSUFFICIENT_RESOURCES)
                        | InstallError::Restart(STATUS_INSUFFICIENT_RESOURCES)
                ),
                "without allocation {after}: {error}"
            );
            failures += 1;
        } else {
            assert!(world.ping(a, ip(2)).is_some());
            world.uninstall(a);
        }
        let left = world.pool_stats(a);
        assert_eq!(
            left.driver_blocks, 0,
            "without allocation {after}: {left:?}"
        );
        if untouched {
            break;
        }
    }
    assert!(failures > 20, "{failures} allocations");
    for function in [
        "AllocateCommonBuffer",
        "ExAllocatePool2",
        "IoAllocateDriverObjectExtension",
        "IoGetDmaAdapter",
        "MmMapIoSpaceEx",
        "NdisAllocateIoWorkItem",
        "NdisAllocateMdl",
        "NdisAllocateNetBufferAndNetBufferList",
        "NdisAllocateNetBufferListPool",
        "NdisMRegisterInterruptEx",
        "NdisMRegisterMiniportDriver",
        "NdisMRegisterScatterGatherDma",
        "NdisOpenConfigurationEx",
        "NdisReadConfiguration",
        "NotifyUnicastIpAddressChange",
        "WdfVersionBind",
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
