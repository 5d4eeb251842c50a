//! What goes wrong: memory that is not there.

use ntsim::World;
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
    for after in 0.. {
        world.fail_allocations(a, Some(after), false);
        let result = world.install(a, INX, image());
        let untouched = world.allocation_failure_pending(a);
        world.fail_allocations(a, None, false);
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
    assert!(world.install(a, INX, image()).is_ok());
    assert!(world.ping(a, ip(2)).is_some());
    clean_up(world, &[a, b]);
}
