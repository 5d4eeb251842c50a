//! The miniport in the simulator: what it takes to be installed, to carry Ethernet, to pause, to be told things, and to go.

use core::time::Duration;

use ntsim::ndis::DriverImage;
use ntsim::{MachineConfig, MachineId, World};

const INX: &str = include_str!("../inf/vroce.inx");

fn image() -> DriverImage {
    DriverImage::Linked(vroce::DriverEntry)
}

#[test]
fn installs_and_leaves() {
    let mut world = World::builder().seed(1).build();
    let net = world.switch(ntsim::wire::SwitchConfig::default());
    let a = world.add_machine(MachineConfig::named("A").ipv4([10, 0, 0, 1].into(), 24));
    world.attach_nic(a, &net, ntsim::virtio_net::NicConfig::default());
    world.install(a, INX, image()).unwrap();
    assert!(world.adapter(a).unwrap().running);
    world.uninstall(a);
    let report = world.finish();
    assert!(report.is_clean() && report.leaks.is_empty(), "{report}");
}
