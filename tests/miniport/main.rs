//! The miniport in the simulator: what it takes to be installed, to carry Ethernet, to pause, to be told things, and to go.

use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use ntsim::ndis::DriverImage;
use ntsim::virtio_net::{Nic, NicConfig};
use ntsim::wire::Switch;
use ntsim::{MachineConfig, MachineId, World};

const INX: &str = include_str!("../inf/vroce.inx");

fn image() -> DriverImage {
    DriverImage::Linked(vroce::DriverEntry)
}

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

/// Adds a machine with a NIC on the wire; nothing is installed yet.
fn station(world: &mut World, net: &Switch, last: u8, nic: NicConfig) -> (MachineId, Rc<Nic>) {
    let name = format!("S{last}");
    let machine = world.add_machine(MachineConfig::named(&name).ipv4(ip(last), 24));
    let nic = world.attach_nic(machine, net, nic);
    (machine, nic)
}

/// Takes the drivers away, and finds nothing of them left.
fn clean_up(mut world: World, machines: &[MachineId]) {
    for &machine in machines {
        world.uninstall(machine);
    }
    let report = world.finish();
    assert!(report.is_clean() && report.leaks.is_empty(), "{report}");
}

#[test]
fn installs_and_leaves() {
    let mut world = World::builder().seed(1).build();
    let net = world.switch(Default::default());
    let (a, _) = station(&mut world, &net, 1, NicConfig::default());
    world.install(a, INX, image()).unwrap();
    assert!(world.adapter(a).unwrap().running);
    clean_up(world, &[a]);
}

#[test]
fn machines_ping_each_other() {
    let mut world = World::builder().seed(2).build();
    let net = world.switch(Default::default());
    let (a, _) = station(&mut world, &net, 1, NicConfig::default());
    let (b, _) = station(&mut world, &net, 2, NicConfig::default());
    world.install(a, INX, image()).unwrap();
    world.install(b, INX, image()).unwrap();
    for (from, to) in [(a, ip(2)), (b, ip(1))] {
        for len in [0, 1, 56, 1000, 1472] {
            let answer = world.ping_with(from, IpAddr::V4(to), len);
            assert!(answer.is_some(), "{len} bytes to {to}");
        }
    }
    clean_up(world, &[a, b]);
}
