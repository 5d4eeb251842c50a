//! Installing, restarting, removing.

use ntsim::World;
use ntsim::virtio_net::NicConfig;

use super::{INX, Pair, clean_up, image, ip, station};

#[test]
fn installs_and_leaves() {
    let mut world = World::builder().seed(1).build();
    let net = world.switch(Default::default());
    let (a, nic) = station(&mut world, &net, 1, NicConfig::default());
    world.install(a, INX, image()).unwrap();
    let adapter = world.adapter(a).unwrap();
    assert!(adapter.running);
    assert!(adapter.link.up);
    assert_eq!(adapter.link.transmit_speed, 10_000_000_000);
    assert_eq!(adapter.mac, nic.mac());
    assert_eq!(adapter.mtu, 1500);
    assert!(nic.is_running());
    world.uninstall(a);
    assert!(!nic.is_running());
    clean_up(world, &[]);
}

#[test]
fn a_driver_installed_again_works_again() {
    let mut world = World::builder().seed(2).build();
    let net = world.switch(Default::default());
    let (a, _) = station(&mut world, &net, 1, NicConfig::default());
    let (b, _) = station(&mut world, &net, 2, NicConfig::default());
    world.install(b, INX, image()).unwrap();
    for _ in 0..3 {
        world.install(a, INX, image()).unwrap();
        assert!(world.ping(a, ip(2)).is_some());
        world.uninstall(a);
    }
    clean_up(world, &[b]);
}

#[test]
fn an_adapter_restarted_works_again() {
    let mut pair = Pair::new(3);
    for _ in 0..3 {
        pair.world.restart_adapters(pair.a).unwrap();
        assert!(pair.ping(56));
    }
    pair.clean_up();
}

#[test]
fn one_driver_serves_machines_of_several_processors() {
    let mut world = World::builder().seed(4).build();
    let net = world.switch(Default::default());
    let config = |name: &str, last| {
        ntsim::MachineConfig::named(name)
            .ipv4(std::net::Ipv4Addr::new(10, 0, 0, last), 24)
            .processors(4)
    };
    let a = world.add_machine(config("A", 1));
    let b = world.add_machine(config("B", 2));
    for machine in [a, b] {
        world.attach_nic(machine, &net, NicConfig::default());
        world.install(machine, INX, image()).unwrap();
    }
    for _ in 0..20 {
        assert!(world.ping_with(a, ip(2), 1000).is_some());
    }
    clean_up(world, &[a, b]);
}

#[test]
fn the_inf_offers_what_the_driver_reads() {
    let package = ntsim::pnp::package::Package::parse(INX).unwrap();
    drop(package);
    for keyword in [
        "*JumboPacket",
        "*NetworkDirect",
        "*NetworkDirectTechnology",
        "*NetworkDirectRoCEFrameSize",
        "DcQcnEnable",
        "*ReceiveBuffers",
        "*TransmitBuffers",
        "NetworkAddress",
    ] {
        let name = format!("Ndi\\Params\\{keyword},");
        assert!(INX.contains(&name), "{keyword}");
    }
}

#[test]
fn the_system_going_down_leaves_the_device_at_rest() {
    let mut pair = Pair::new(5);
    pair.world.shutdown(pair.a);
    assert!(!pair.nic_a.is_running());
    assert!(!pair.ping(56));
    pair.clean_up();
}
