//! The miniport in the simulator: what it takes to be installed, to carry Ethernet, to pause, to be told things, and to go.

mod failures;
mod faults;
mod install;
mod lies;
mod oids;
mod power;
mod settings;
mod states;
mod traffic;

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use ntsim::ndis::DriverImage;
use ntsim::virtio_net::{Nic, NicConfig};
use ntsim::wire::{Endpoint, Frame, Port, Switch};
use ntsim::{MachineConfig, MachineId, World};

const INX: &str = include_str!("../../inf/vroce.inx");

fn image() -> DriverImage {
    DriverImage::linked_or_file(vroce::DriverEntry).expect("the image that NTSIM_IMAGE names")
}

fn ip(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

/// Adds a machine with a NIC on the wire; nothing is installed yet.
fn station(world: &mut World, net: &Switch, last: u8, nic: NicConfig) -> (MachineId, Rc<Nic>) {
    let config = MachineConfig::named(format!("S{last}")).ipv4(Ipv4Addr::new(10, 0, 0, last), 24);
    let machine = world.add_machine(config);
    let nic = world.attach_nic(machine, net, nic);
    (machine, nic)
}

/// A world of two machines with the driver installed on both.
struct Pair {
    world: World,
    net: Switch,
    a: MachineId,
    b: MachineId,
    nic_a: Rc<Nic>,
}

impl Pair {
    fn new(seed: u64) -> Self {
        Self::with(seed, NicConfig::default(), &[])
    }

    /// With NICs of a kind, and keywords set before the adapters start.
    fn with(seed: u64, nic: NicConfig, keywords: &[(&str, &str)]) -> Self {
        let mut world = World::builder().seed(seed).build();
        let net = world.switch(Default::default());
        let (a, nic_a) = station(&mut world, &net, 1, nic.clone());
        let (b, _) = station(&mut world, &net, 2, nic);
        for machine in [a, b] {
            world.install_with(machine, INX, image(), keywords).unwrap();
        }
        Self {
            world,
            net,
            a,
            b,
            nic_a,
        }
    }

    /// A ping from A to B with so many bytes of data comes back.
    fn ping(&mut self, bytes: usize) -> bool {
        self.world.ping_with(self.a, ip(2), bytes).is_some()
    }

    fn clean_up(self) {
        clean_up(self.world, &[self.a, self.b]);
    }
}

/// Takes the drivers away, and finds nothing of them left.
fn clean_up(mut world: World, machines: &[MachineId]) {
    for &machine in machines {
        world.uninstall(machine);
    }
    let report = world.finish();
    assert!(report.is_clean() && report.leaks.is_empty(), "{report}");
}

/// Something on the wire that keeps all it hears.
struct Listener {
    port: RefCell<Option<Port>>,
    heard: RefCell<Vec<Vec<u8>>>,
}

impl Listener {
    fn on(net: &Switch) -> Rc<Self> {
        let listener = Rc::new(Self {
            port: RefCell::new(None),
            heard: RefCell::default(),
        });
        let weak = Rc::downgrade(&listener);
        let endpoint: std::rc::Weak<dyn Endpoint> = weak;
        *listener.port.borrow_mut() = Some(net.connect("listener", endpoint));
        listener
    }

    fn say(&self, frame: &[u8]) {
        if let Some(port) = &*self.port.borrow() {
            port.send(Frame::from(frame));
        }
    }

    /// What was heard that carries this Ethernet type.
    fn heard(&self, ether_type: u16) -> Vec<Vec<u8>> {
        let heard = self.heard.borrow();
        heard
            .iter()
            .filter(|frame| frame[12..14] == ether_type.to_be_bytes())
            .cloned()
            .collect()
    }
}

impl Endpoint for Listener {
    fn deliver(&self, frame: Frame) {
        self.heard.borrow_mut().push(frame.to_vec());
    }
}

/// An Ethernet type nobody uses (IEEE's for experiments).
const EXPERIMENT: u16 = 0x88b5;

/// A frame with an experimental type, of a length.
fn frame(to: [u8; 6], from: [u8; 6], len: usize) -> Vec<u8> {
    let mut frame = vec![0; len];
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&from);
    frame[12..14].copy_from_slice(&EXPERIMENT.to_be_bytes());
    for (i, byte) in frame.iter_mut().enumerate().skip(14) {
        *byte = i as u8;
    }
    frame
}
