//! One misbehaving driver per rule.

use std::ptr;
use std::time::Duration;

use ndis_sys::imports::IoGetDmaAdapter;
use ndis_sys::wdm::{DEVICE_DESCRIPTION, DEVICE_DESCRIPTION_VERSION};

use super::driver::{
    ACCESS_PLATFORM, Dma, EVENT_IDX, Host, INDIRECT, Registers, VERSION_1, rules as names,
};
use super::{BASIC, two};
use crate::memory::PAGE;
use crate::pci;
use crate::verifier;
use crate::virtio_net::{NicConfig, rules};
use crate::wire::SwitchConfig;
use crate::{Violation, World};

/// Lets `f` misbehave with a device that is not set up yet; returns what it is accused of.
fn accused(f: impl FnOnce(&mut World, &Host)) -> Vec<Violation> {
    let mut world = World::builder().collect_violations().build();
    let switch = world.switch(SwitchConfig::default());
    let host = Host::new(&mut world, &switch, NicConfig::default());
    f(&mut world, &host);
    world.run_until_idle();
    world.finish().violations
}

#[test]
fn status_out_of_order() {
    let found = accused(|_, host| {
        host.set_status(3);
        host.set_status(0);
        host.set_status(1);
        host.set_status(7);
        assert_eq!(
            host.status(),
            3,
            "DRIVER_OK without FEATURES_OK has no effect"
        );
        host.set_status(1);
    });
    assert_eq!(names(&found), [rules::STATUS; 3]);
    assert_eq!(found[0].machine, "host");
    assert!(found[2].text.contains("takes back"), "{}", found[2].text);
}

#[test]
fn features_nobody_offered_or_too_late() {
    let found = accused(|_, host| {
        host.set_status(1);
        host.set_status(3);
        host.accept(BASIC | 1 << 40);
        host.set_status(11);
        assert_eq!(host.status(), 3);
        // By which addresses would the device be told of memory? By none that it has.
        host.accept(VERSION_1);
        host.set_status(11);
        assert_eq!(host.status(), 3);
        host.accept(VERSION_1 | ACCESS_PLATFORM);
        host.set_status(11);
        assert_eq!(host.status(), 11);
        host.accept(BASIC | EVENT_IDX);
    });
    assert_eq!(names(&found), [rules::FEATURES; 3]);
}

#[test]
fn registers_accessed_wrongly() {
    let found = accused(|_, host| {
        host.common::<u16>(0x14);
        host.common::<u32>(0x3c);
        host.set_common(0x20, 0_u64);
        host.set_common(0x12, 5_u16);
        Registers::put(host.registers.config, 6, 0_u16);
        Registers::get::<u32>(host.registers.config, 0);
        Registers::put(host.registers.isr, 0, 0_u8);
        Registers::get::<u16>(host.registers.notify, 0);
    });
    assert_eq!(names(&found), [rules::REGISTER; 8]);
}

#[test]
fn queues_set_up_wrongly() {
    let found = accused(|_, host| {
        host.set_common(0x16, 0_u16);
        host.set_common(0x1c, 1_u16);
        host.set_status(1);
        host.set_status(3);
        host.accept(BASIC);
        host.set_status(11);
        host.set_common(0x16, 9_u16);
        host.set_common(0x18, 16_u16);
        host.set_common(0x16, 0_u16);
        host.set_common(0x18, 48_u16);
        host.set_common(0x18, 2048_u16);
        let memory = Dma::new(&host.machine, PAGE);
        host.set_common(0x20, memory.logical as u32 + 8);
        host.set_common(0x24, (memory.logical >> 32) as u32);
        host.set_common(0x1c, 1_u16);
        // In memory, but not mapped for the device.
        let (_, logical) = host.machine.ram.alloc_contiguous(16).unwrap();
        for part in 0..3_usize {
            let address = logical + (part * 4 * PAGE) as u64;
            host.set_common(0x20 + 8 * part, address as u32);
            host.set_common(0x24 + 8 * part, (address >> 32) as u32);
        }
        host.set_common(0x1c, 1_u16);
        assert_eq!(host.common::<u16>(0x1c), 0);
        host.set_common(0x1c, 0_u16);
        host.set_up_queue(0, 16, 1, false);
        assert_eq!(host.common::<u16>(0x1c), 1);
        host.set_common(0x18, 8_u16);
    });
    assert_eq!(names(&found), [rules::QUEUE; 8]);
}

#[test]
fn notifications_of_what_does_not_run() {
    let found = accused(|_, host| {
        let notify = host.registers.notify;
        Registers::put(notify, 0, 0_u16);
        host.bring_up(BASIC);
        Registers::put(notify, 0, 0_u16);
        Registers::put(notify, 4, 1_u32);
        Registers::put(notify, 0, 1_u16);
        Registers::put(notify, 8, 2_u16);
    });
    assert_eq!(names(&found), [rules::NOTIFY; 4]);
}

/// Lets `f` misuse the rings of a running device. Afterwards the device must want a reset, and have said so.
fn broken(features: u64, f: impl FnOnce(&Host, &mut super::Driver)) -> Violation {
    let mut violations = accused(|world, host| {
        let mut driver = host.bring_up(BASIC | features);
        world.run_until_idle();
        f(host, &mut driver);
        world.run_until_idle();
        assert_eq!(host.status() & 0x40, 0x40, "the device wants a reset");
        assert_eq!(host.interrupts.taken()[0], 1);
        assert!(!host.nic.is_running());
        // After the reset it works again.
        host.bring_up(BASIC);
        assert!(host.nic.is_running());
    });
    assert_eq!(violations.len(), 1, "{violations:?}");
    violations.remove(0)
}

#[test]
fn an_available_index_out_of_reach() {
    let violation = broken(0, |_, driver| driver.transmit.available.put(2, 1025_u16));
    assert_eq!(violation.rule, rules::RING);
    assert!(violation.text.contains("ahead"), "{}", violation.text);
}

#[test]
fn a_head_that_does_not_exist() {
    let violation = broken(0, |_, driver| driver.transmit.publish(1024));
    assert_eq!(violation.rule, rules::RING);
}

#[test]
fn a_buffer_given_twice() {
    let violation = broken(0, |host, driver| {
        driver.add_buffers(1, 2048);
        driver.receive.publish(0);
        // The device looks when a frame comes.
        let frame = driver.frame([0xff; 6], b"x");
        let switch = host.nic.switch().unwrap();
        switch.inject((&frame[..]).into());
    });
    assert_eq!(violation.rule, rules::RING);
    assert!(violation.text.contains("again"), "{}", violation.text);
}

#[test]
fn chains_that_break_off_or_loop() {
    let memory = |host: &Host| Dma::new(&host.machine, PAGE).logical;
    let violation = broken(0, |host, driver| {
        let ring = &mut driver.transmit;
        ring.write_descriptor(ring.descriptors, 0, (memory(host), 12), 1, 2000);
        ring.publish(0);
    });
    assert_eq!(violation.rule, rules::RING);
    let violation = broken(0, |host, driver| {
        let ring = &mut driver.transmit;
        ring.write_descriptor(ring.descriptors, 0, (memory(host), 1), 1, 1);
        ring.write_descriptor(ring.descriptors, 1, (memory(host), 1), 1, 0);
        ring.publish(0);
    });
    assert_eq!(violation.rule, rules::RING);
    let violation = broken(0, |host, driver| {
        let ring = &mut driver.transmit;
        ring.write_descriptor(ring.descriptors, 0, (memory(host), 12), 1, 1);
        ring.write_descriptor(ring.descriptors, 1, (memory(host), 0), 0, 0);
        ring.publish(0);
    });
    assert!(violation.text.contains("empty"), "{}", violation.text);
}

#[test]
fn descriptors_of_the_wrong_direction_or_kind() {
    let violation = broken(0, |host, driver| {
        let memory = Dma::new(&host.machine, PAGE);
        driver.transmit.add(&[(memory.logical, 60)], true).unwrap();
    });
    assert!(violation.text.contains("writable"), "{}", violation.text);
    let violation = broken(0, |host, driver| {
        let memory = Dma::new(&host.machine, PAGE);
        let table = memory.part(2048);
        driver
            .transmit
            .add_indirect(table, &[(memory.logical, 60)], false)
            .unwrap();
    });
    assert!(
        violation.text.contains("not negotiated"),
        "{}",
        violation.text
    );
    let violation = broken(INDIRECT, |host, driver| {
        // A table in a table.
        let memory = Dma::new(&host.machine, PAGE);
        let ring = &mut driver.transmit;
        ring.write_descriptor(memory, 0, (memory.logical + 16, 16), 4, 0);
        ring.write_descriptor(ring.descriptors, 0, (memory.logical, 16), 4, 0);
        ring.publish(0);
    });
    assert_eq!(violation.rule, rules::RING);
}

#[test]
fn memory_that_is_not_mapped_for_the_device() {
    let violation = broken(0, |host, driver| {
        let (_, logical) = host.machine.ram.alloc_contiguous(1).unwrap();
        driver.transmit.add(&[(logical, 60)], false).unwrap();
    });
    assert_eq!(violation.rule, verifier::rules::DMA_UNMAPPED);
    assert!(
        violation.text.contains("read 60 bytes"),
        "{}",
        violation.text
    );
    // Beyond all memory.
    let violation = broken(0, |_, driver| {
        driver.transmit.add(&[(0x1234, 60)], false).unwrap();
    });
    assert_eq!(violation.rule, verifier::rules::DMA_UNMAPPED);
    // Mapped for reading only.
    let violation = broken(0, |host, driver| {
        let (_, logical) = host.machine.ram.alloc_contiguous(1).unwrap();
        host.machine.ram.dma_map(logical, PAGE, false);
        driver.receive.add(&[(logical, 2048)], true).unwrap();
        let frame = driver.frame([0xff; 6], b"x");
        host.nic.switch().unwrap().inject((&frame[..]).into());
    });
    assert_eq!(violation.rule, verifier::rules::DMA_UNMAPPED);
    assert!(violation.text.contains("write"), "{}", violation.text);
}

/// A driver that asks MmGetPhysicalAddress what to give the device.
#[test]
fn memory_by_its_physical_address() {
    let violation = broken(0, |host, driver| {
        let memory = Dma::new(&host.machine, PAGE);
        let _entered = host.machine.enter(0);
        // SAFETY: any address may be asked about.
        let physical = unsafe { ndis_sys::imports::MmGetPhysicalAddress(memory.address as *mut _) }
            .cast_unsigned();
        assert!(host.machine.ram.is_physical(physical));
        assert!(!host.machine.ram.is_physical(memory.logical));
        driver.transmit.add(&[(physical, 60)], false).unwrap();
    });
    assert_eq!(violation.rule, rules::PHYSICAL);
    let text = &violation.text;
    assert!(text.contains("which is a physical address"), "{text}");
}

/// A driver that sends from a common buffer that it has given back; when and by what is told.
#[test]
fn memory_whose_mapping_has_ended() {
    let mut world = World::builder().collect_violations().build();
    let switch = world.switch(SwitchConfig::default());
    let host = Host::new(&mut world, &switch, NicConfig::default());
    let mut driver = host.bring_up(BASIC);
    let mut description = DEVICE_DESCRIPTION {
        Version: DEVICE_DESCRIPTION_VERSION,
        Master: 1,
        ScatterGather: 1,
        Dma64BitAddresses: 1,
        MaximumLength: 1 << 20,
        ..DEVICE_DESCRIPTION::ZEROED
    };
    let mut registers = 0;
    let pdo = ptr::without_provenance_mut(0x1000);
    let (adapter, buffer, physical) = world.call(host.id, || {
        // SAFETY: the description is on the stack; the device object is only a name.
        unsafe {
            let adapter = IoGetDmaAdapter(pdo, &mut description, &mut registers);
            let mut physical = 0;
            let allocate = (*(*adapter).DmaOperations).AllocateCommonBuffer;
            let buffer = allocate.expect("an entry")(adapter, 8000, &mut physical, 1);
            buffer.cast::<u8>().write_bytes(0, 8000);
            (adapter, buffer, physical)
        }
    });
    let piece = (physical.cast_unsigned() + 4096, 60);
    driver.transmit.add(&[piece], false).unwrap();
    driver.transmit.kick();
    world.run_until_idle();
    assert_eq!(host.nic.counters().sent, 1);
    world.run_for(Duration::from_nanos(4321));
    world.call(host.id, || {
        // SAFETY: as they were allocated.
        unsafe {
            let operations = &*(*adapter).DmaOperations;
            let free = operations.FreeCommonBuffer.expect("an entry");
            free(adapter, 8000, physical, buffer, 1);
            operations.PutDmaAdapter.expect("an entry")(adapter);
        }
    });
    world.run_for(Duration::from_micros(1));
    driver.transmit.add(&[piece], false).unwrap();
    driver.transmit.kick();
    world.run_until_idle();
    assert!(!host.nic.is_running());
    let found = world.finish().violations;
    assert_eq!(names(&found), [rules::STALE]);
    let text = &found[0].text;
    let ended =
        format!("8192 bytes at {physical:#x} were mapped until FreeCommonBuffer at 4321 ns");
    assert!(text.contains("read 60 bytes"), "{text}");
    assert!(text.contains(&ended), "{text}");
}

#[test]
fn frames_that_are_none() {
    let found = accused(|world, host| {
        let mut driver = host.bring_up(BASIC);
        let long = driver.frame([0xff; 6], &[0; 1501]);
        assert!(driver.queue(&long, &[]));
        let far_too_long = driver.frame([0xff; 6], &[0; 4000]);
        assert!(driver.queue(&far_too_long, &[]));
        assert!(driver.queue(&[0xff; 13], &[]));
        let memory = Dma::new(&host.machine, PAGE);
        driver.transmit.add(&[(memory.logical, 11)], false).unwrap();
        memory.part(2048).put(1, 1_u8);
        driver
            .transmit
            .add(&[(memory.logical + 2048, 12 + 60)], false)
            .unwrap();
        world.run_until_idle();
        assert_eq!(host.nic.counters().sent, 1);
        // A tag makes a frame longer; that is allowed.
        let mut tagged = driver.frame([0xff; 6], &[0; 1504]);
        tagged[12..14].copy_from_slice(&[0x81, 0]);
        assert!(driver.queue(&tagged, &[]));
        world.run_until_idle();
        assert_eq!(host.nic.counters().sent, 2);
        assert!(host.nic.is_running());
    });
    assert_eq!(
        names(&found),
        [
            rules::FRAME,
            rules::FRAME,
            rules::FRAME,
            rules::HEADER,
            rules::HEADER
        ]
    );
}

#[test]
fn receive_buffers_too_short_for_the_mtu() {
    let mut world = World::builder().collect_violations().build();
    let [(_a, mut at_a), (b, mut at_b)] = two(&mut world, &NicConfig::default(), BASIC);
    at_b.drain();
    b.set_status(0);
    let mut at_b = b.bring_up(BASIC);
    at_b.add_buffers(2, 1000);
    at_a.send(b.mac, &[1; 1500]);
    at_a.send(b.mac, &[2; 100]);
    world.run_until_idle();
    assert_eq!(at_b.drain(), [[2; 100]]);
    assert_eq!(b.nic.counters().too_long, 1);
    assert_eq!(names(&world.finish().violations), [rules::BUFFER]);
}

#[test]
fn a_device_left_running() {
    let found = accused(|_, host| {
        host.bring_up(BASIC);
        host.function.stop();
        assert!(!host.nic.is_running());
    });
    assert_eq!(names(&found), [rules::RUNNING]);
}

#[test]
fn registers_of_a_stopped_or_unmapped_device() {
    let found = accused(|_, host| {
        host.function.stop();
        assert_eq!(host.status(), 0xff);
        host.function.start();
        let base = host.registers.common as usize;
        assert!(host.machine.io_space.unmap(base, 0x4000));
        host.status();
    });
    assert_eq!(
        names(&found),
        [pci::rules::NOT_DECODING, pci::rules::NOT_MAPPED]
    );
}

#[test]
fn the_interrupt_table_is_not_the_drivers() {
    let found = accused(|_, host| {
        let memory = host.function.resources().memory[0];
        let base = host
            .machine
            .io_space
            .map(memory.physical, memory.length as usize)
            .unwrap() as *mut u8;
        assert_ne!(Registers::get::<u32>(base, 0), 0, "reading is harmless");
        Registers::put(base, 12, 1_u32);
        assert_eq!(Registers::get::<u32>(base, 12), 1);
    });
    assert_eq!(names(&found), [pci::rules::MSIX_TABLE]);
}
