//! What the bus driver does with a function, on the network device.

use std::rc::Rc;

use super::functions;
use crate::World;
use crate::pnp::ids::PciIdentity;
use crate::virtio_net::NicConfig;
use crate::wire::SwitchConfig;
use crate::world::machine::MachineConfig;

fn long(config: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(config[at..at + 4].try_into().unwrap())
}

#[test]
fn functions_are_found_and_identified() {
    let mut world = World::builder().build();
    let switch = world.switch(SwitchConfig::default());
    let id = world.add_machine(MachineConfig::named("two cards"));
    let nics = [(); 2].map(|()| world.attach_nic(id, &switch, NicConfig::default()));
    let machine = world.machine(id);
    let found = functions(&machine);
    assert_eq!(found.len(), 2);
    for (function, nic) in found.iter().zip(&nics) {
        assert!(Rc::ptr_eq(function, &nic.function()));
        let identity = PciIdentity::from_config(&function.config()).unwrap();
        assert_eq!(
            identity.hardware_ids()[0],
            "PCI\\VEN_1AF4&DEV_1041&SUBSYS_11001AF4&REV_01"
        );
        assert_eq!(identity.class, [2, 0, 0]);
        assert_eq!(function.resources().messages, 3);
    }
    assert_ne!(found[0].location(), found[1].location());
    let mut ranges: Vec<(u64, u64)> = found
        .iter()
        .flat_map(|function| function.resources().memory)
        .map(|memory| (memory.physical, memory.length))
        .collect();
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{ranges:x?}");
    }
    for (physical, length) in ranges {
        assert_eq!(physical % length, 0, "BARs are naturally aligned");
        assert!(machine.io_space.map(physical, length as usize).is_some());
    }
}

#[test]
fn bars_are_sized_by_writing_ones() {
    let mut world = World::builder().build();
    let switch = world.switch(SwitchConfig::default());
    let id = world.add_machine(MachineConfig::named("host"));
    let function = world
        .attach_nic(id, &switch, NicConfig::default())
        .function();
    let config = function.config();
    let memory = function.resources().memory;
    assert_eq!(u64::from(long(&config, 0x14)), memory[0].physical);
    let wide = u64::from(long(&config, 0x24)) << 32 | u64::from(long(&config, 0x20));
    assert_eq!(wide, memory[1].physical | 0b1100, "64 bits, prefetchable");
    for at in [0x10, 0x14, 0x18, 0x20, 0x24] {
        function.write_config(at, &[0xff; 4]);
    }
    let sized = function.config();
    assert_eq!(long(&sized, 0x10), 0);
    assert_eq!(long(&sized, 0x14), 0xffff_f000);
    assert_eq!(long(&sized, 0x18), 0);
    assert_eq!(long(&sized, 0x20), 0xffff_c00c);
    assert_eq!(long(&sized, 0x24), 0xffff_ffff);
    // What cannot be written stays.
    function.write_config(0, &[0; 4]);
    assert_eq!(long(&function.config(), 0), 0x1041_1af4);
    // Beyond the end there is nothing.
    let mut beyond = [0; 8];
    assert_eq!(function.read_config(252, &mut beyond), 4);
    assert_eq!(beyond[4..], [0xff; 4]);
}

#[test]
fn registers_are_reached_through_configuration_space_too() {
    let mut world = World::builder().build();
    let switch = world.switch(SwitchConfig::default());
    let id = world.add_machine(MachineConfig::named("host"));
    let nic = world.attach_nic(id, &switch, NicConfig::default());
    let function = nic.function();
    function.start();
    let config = function.config();
    let mut at = usize::from(config[0x34]);
    while config[at] != 9 || config[at + 3] != 5 {
        at = usize::from(config[at + 1]);
        assert_ne!(at, 0);
    }
    let access = |offset: u32, width: u32| {
        function.write_config(at + 4, &[4]);
        function.write_config(at + 8, &offset.to_le_bytes());
        function.write_config(at + 12, &width.to_le_bytes());
    };
    // The address, a byte at a time, from the network configuration.
    for (i, byte) in nic.mac().iter().enumerate() {
        access(0x2000 + i as u32, 1);
        let mut data = [0; 4];
        function.read_config(at + 16, &mut data);
        assert_eq!(data[0], *byte);
    }
    // The device status.
    access(0x14, 1);
    function.write_config(at + 16, &[1]);
    let mut data = [0; 1];
    function.read_config(at + 16, &mut data);
    assert_eq!(data, [1]);
    assert!(world.finish().is_clean());
}
