//! Stories of a driver and the device.

mod checksums;
mod control;
mod driver;
mod misbehaviour;

use std::time::Duration;

use super::{Nic, NicConfig};
use crate::wire::{CaptureConfig, LinkConfig, SocketConfig, SwitchConfig};
use crate::world::processor;
use crate::{Clock, World};
use driver::{
    ACCESS_PLATFORM, Driver, EVENT_IDX, Host, INDIRECT, MAC, MERGEABLE, MTU, Registers, STATUS,
    VERSION_1,
};

const BASIC: u64 = VERSION_1 | ACCESS_PLATFORM | MAC | STATUS | MTU;

fn notified() -> NicConfig {
    NicConfig {
        busy_poll: false,
        ..NicConfig::default()
    }
}

/// Two machines with running devices and receive buffers on a switch.
fn two(world: &mut World, config: &NicConfig, features: u64) -> [(Host, Driver); 2] {
    let switch = world.switch(SwitchConfig::default());
    [(); 2].map(|()| {
        let host = Host::new(world, &switch, config.clone());
        let mut driver = host.bring_up(features);
        driver.add_buffers(64, 2048);
        (host, driver)
    })
}

#[test]
fn a_driver_learns_what_the_device_is() {
    let mut world = World::builder().build();
    let switch = world.switch(SwitchConfig::default());
    let config = NicConfig {
        mac: Some([2, 0xaa, 3, 4, 5, 6]),
        mtu: 4200,
        speed: 25_000,
        ..NicConfig::default()
    };
    let host = Host::new(&mut world, &switch, config);
    assert_eq!(host.offered(), BASIC | EVENT_IDX | INDIRECT | 1 << 63);
    // Feature groups beyond the second have nothing.
    host.set_common(0, 2_u32);
    assert_eq!(host.common::<u32>(4), 0);
    let config = host.registers.config;
    let mac: Vec<u8> = (0..6).map(|at| Registers::get(config, at)).collect();
    assert_eq!(mac, [2, 0xaa, 3, 4, 5, 6]);
    assert_eq!(Registers::get::<u16>(config, 6), 1, "link is up");
    assert_eq!(Registers::get::<u16>(config, 8), 1, "one pair of queues");
    assert_eq!(Registers::get::<u16>(config, 10), 4200);
    assert_eq!(Registers::get::<u32>(config, 12), 25_000);
    assert_eq!(Registers::get::<u8>(config, 16), 1, "full duplex");
    assert_eq!(host.common::<u16>(0x12), 2);
    for (queue, size) in [(0, 1024), (1, 1024), (2, 0)] {
        host.set_common(0x16, queue as u16);
        assert_eq!(host.common::<u16>(0x18), size);
    }
    assert_eq!(host.registers.multiplier, 4);
    // A message the device does not have is refused.
    host.set_common(0x16, 0_u16);
    host.set_common(0x1a, 3_u16);
    assert_eq!(host.common::<u16>(0x1a), 0xffff);
    assert!(world.finish().is_clean());
}

#[test]
fn without_version_1_the_device_does_not_work() {
    let mut world = World::builder().build();
    let switch = world.switch(SwitchConfig::default());
    let host = Host::new(&mut world, &switch, NicConfig::default());
    host.set_status(1);
    host.set_status(3);
    host.accept(MAC);
    host.set_status(11);
    assert_eq!(host.status(), 3);
    host.set_status(0x80);
    assert!(
        world.finish().violations.len() == 1,
        "giving up takes bits back"
    );
}

/// Runs the world until a driver has received so many frames, and returns them.
fn receive(world: &mut World, driver: &mut Driver, count: usize) -> Vec<Vec<u8>> {
    receive_within(world, driver, count, Duration::from_secs(1))
}

fn receive_within(
    world: &mut World,
    driver: &mut Driver,
    count: usize,
    within: Duration,
) -> Vec<Vec<u8>> {
    let mut got = Vec::new();
    let all = world.run_until(
        |_| {
            got.extend(driver.drain());
            got.len() >= count
        },
        within,
    );
    assert!(all, "{} of {count} frames", got.len());
    got
}

#[test]
fn frames_go_back_and_forth() {
    for config in [NicConfig::default(), notified()] {
        for features in [0, EVENT_IDX, INDIRECT, EVENT_IDX | INDIRECT] {
            let mut world = World::builder().build();
            let [(a, mut at_a), (b, mut at_b)] = two(&mut world, &config, BASIC | features);
            at_a.send([0xff; 6], b"who is there?");
            assert_eq!(receive(&mut world, &mut at_b, 1), [b"who is there?"]);
            at_b.send(a.mac, b"me");
            assert_eq!(receive(&mut world, &mut at_a, 1), [b"me"]);
            // Many frames of all sizes, in pieces: more than fit in the rings at once.
            let mut sent = Vec::new();
            let mut got = Vec::new();
            for i in 0..3000_usize {
                let content: Vec<u8> = (0..i % 1500 + 1).map(|at| (at * 7 + i) as u8).collect();
                let frame = at_a.frame(b.mac, &content);
                while !at_a.queue(&frame, &[14, 1, i % 500]) {
                    at_a.transmit.kick();
                    assert!(world.step(), "the device takes what is there");
                    got.extend(at_b.drain());
                }
                at_a.transmit.kick();
                sent.push(content);
            }
            while got.len() < sent.len() {
                assert!(world.step(), "{} of {}", got.len(), sent.len());
                got.extend(at_b.drain());
            }
            assert!(got == sent);
            world.run_until_idle();
            let counters = a.nic.counters();
            assert_eq!(counters.sent, 3001);
            assert_eq!(b.nic.counters().received, 3001);
            assert_eq!(counters.sent_bytes, b.nic.counters().received_bytes);
            if config.busy_poll {
                assert_eq!(counters.notifications + b.nic.counters().notifications, 0);
            } else {
                assert!(counters.notifications > 0);
            }
            assert!(world.finish().is_clean());
        }
    }
}

#[test]
fn a_busy_polling_device_never_wants_notifications() {
    // More chains than 16 bits count: the suppression must not wear off.
    for features in [0, EVENT_IDX] {
        let mut world = World::builder().build();
        let [(a, mut at_a), (b, mut at_b)] =
            two(&mut world, &NicConfig::default(), BASIC | features);
        at_b.send(a.mac, b"here I am");
        for i in 0..70_000_u32 {
            at_a.send(b.mac, &i.to_le_bytes());
            if i % 32 == 31 {
                world.run_until_idle();
                assert_eq!(at_b.drain().len(), 32);
            }
        }
        at_a.drain();
        assert_eq!(a.nic.counters().notifications, 0);
        assert_eq!(b.nic.counters().notifications, 0);
        assert_eq!(b.nic.counters().received, 70_000 / 32 * 32);
        world.run_until_idle();
        assert!(world.finish().is_clean());
    }
}

#[test]
fn a_notified_device_waits_for_notifications() {
    for features in [0, EVENT_IDX] {
        let mut world = World::builder().build();
        let [(a, mut at_a), (b, mut at_b)] = two(&mut world, &notified(), BASIC | features);
        world.run_until_idle();
        let frame = at_a.frame(b.mac, b"quiet");
        assert!(at_a.queue(&frame, &[]));
        world.run_until_idle();
        assert_eq!(at_b.drain().len(), 0);
        assert!(at_a.transmit.kick());
        world.run_until_idle();
        assert_eq!(at_b.drain(), [b"quiet"]);
        // Buffers are not announced while there are enough; and the next frame is.
        assert_eq!(b.nic.counters().notifications, 0);
        at_a.send(b.mac, b"again");
        assert_eq!(a.nic.counters().notifications, 2);
        world.run_until_idle();
        assert_eq!(at_b.drain(), [b"again"]);
        assert!(world.finish().is_clean());
    }
}

#[test]
fn frames_wait_for_buffers_and_the_driver_is_asked_for_them() {
    for config in [NicConfig::default(), notified()] {
        let config = NicConfig {
            backlog: 10,
            ..config
        };
        let mut world = World::builder().build();
        let switch = world.switch(SwitchConfig::default());
        let a = Host::new(&mut world, &switch, config.clone());
        let b = Host::new(&mut world, &switch, config.clone());
        let (mut at_a, mut at_b) = (a.bring_up(BASIC), b.bring_up(BASIC));
        at_b.send(a.mac, b"");
        at_b.add_buffers(4, 2048);
        for i in 0..20 {
            at_a.send(b.mac, &[i]);
        }
        world.run_until_idle();
        let counters = b.nic.counters();
        assert_eq!((counters.received, counters.no_buffer), (4, 6));
        // Each buffer given back lets a waiting frame in.
        let first = at_b.drain();
        assert_eq!(first.len(), 4);
        world.run_until_idle();
        let mut all = first;
        for _ in 0..4 {
            all.extend(at_b.drain());
            world.run_until_idle();
        }
        let numbers: Vec<u8> = all.iter().map(|content| content[0]).collect();
        assert_eq!(numbers, (0..14).collect::<Vec<u8>>());
        assert_eq!(
            b.nic.counters().notifications > 1,
            !config.busy_poll,
            "{:?}",
            b.nic.counters()
        );
        assert!(world.finish().is_clean());
    }
}

#[test]
fn interrupts_come_when_wanted_and_once_per_batch() {
    for features in [0, EVENT_IDX] {
        let mut world = World::builder().build();
        let [(a, mut at_a), (b, mut at_b)] =
            two(&mut world, &NicConfig::default(), BASIC | features);
        at_a.transmit.want_interrupts(false);
        at_b.receive.want_interrupts(true);
        for _ in 0..5 {
            at_a.send(b.mac, b"x");
        }
        world.run_until_idle();
        assert_eq!(b.interrupts.taken(), [0, 1, 0]);
        assert_eq!(a.interrupts.taken(), [0, 0, 0]);
        if features == EVENT_IDX {
            // Not asked for again: none, however many come.
            at_a.send(b.mac, b"x");
            world.run_until_idle();
            assert_eq!(b.interrupts.taken(), [0, 0, 0]);
        }
        at_b.drain();
        at_b.receive.want_interrupts(false);
        at_a.reap_sent();
        at_a.transmit.want_interrupts(true);
        at_a.send(b.mac, b"x");
        world.run_until_idle();
        assert_eq!(b.interrupts.taken(), [0, 0, 0]);
        assert_eq!(a.interrupts.taken(), [0, 0, 1]);
        at_b.drain();
        assert!(world.finish().is_clean());
    }
}

#[test]
fn masked_messages_wait() {
    let mut world = World::builder().build();
    let [(_a, mut at_a), (b, mut at_b)] = two(&mut world, &NicConfig::default(), BASIC);
    b.function.mask_message(1, true);
    for _ in 0..3 {
        at_a.send(b.mac, b"x");
        world.run_until_idle();
    }
    assert_eq!(b.interrupts.taken(), [0, 0, 0]);
    assert!(b.function.is_pending(1));
    b.function.mask_message(1, false);
    world.run_until_idle();
    assert_eq!(b.interrupts.taken(), [0, 1, 0]);
    // Without MSI-X the cause is in the ISR register, which reading clears.
    at_b.drain();
    b.function.enable_messages(false);
    at_a.send(b.mac, b"x");
    world.run_until_idle();
    assert_eq!(b.interrupts.taken(), [0, 0, 0]);
    assert_eq!(Registers::get::<u8>(b.registers.isr, 0), 1);
    assert_eq!(Registers::get::<u8>(b.registers.isr, 0), 0);
    assert!(world.finish().is_clean());
}

#[test]
fn interrupts_wait_for_the_irql() {
    let mut world = World::builder().build();
    let [(_a, mut at_a), (b, mut at_b)] = two(&mut world, &NicConfig::default(), BASIC);
    at_a.send(b.mac, b"x");
    let interrupts = b.interrupts.clone();
    let core = std::rc::Rc::clone(&world.core);
    world.call_on(b.id, 0, processor::HIGH, || {
        core.run_devices();
        assert_eq!(interrupts.taken(), [0, 0, 0]);
    });
    world.run_until_idle();
    assert_eq!(b.interrupts.taken(), [0, 1, 0]);
    assert_eq!(at_b.drain(), [b"x"]);
    assert!(world.finish().is_clean());
}

#[test]
fn long_frames_fill_several_mergeable_buffers() {
    let config = NicConfig {
        mergeable: true,
        mtu: 4200,
        ..NicConfig::default()
    };
    let mut world = World::builder().build();
    let switch = world.switch(SwitchConfig::default());
    let a = Host::new(&mut world, &switch, config.clone());
    let b = Host::new(&mut world, &switch, config);
    let mut at_a = a.bring_up(BASIC | MERGEABLE | EVENT_IDX);
    let mut at_b = b.bring_up(BASIC | MERGEABLE | EVENT_IDX);
    at_b.add_buffers(8, 1024);
    let contents: Vec<Vec<u8>> = [4200, 1, 998, 999, 2022, 2023, 4200]
        .iter()
        .map(|&length| (0..length).map(|at| (at % 251) as u8).collect())
        .collect();
    for content in &contents {
        at_a.send(b.mac, content);
    }
    // 5 + 1 + 1 buffers are enough for three; the fourth takes two, and one is left.
    world.run_until_idle();
    assert_eq!(b.nic.counters().received, 3);
    let mut got = at_b.drain();
    while got.len() < contents.len() {
        assert!(world.step());
        got.extend(at_b.drain());
    }
    assert!(got == contents);
    assert_eq!(b.nic.counters().no_buffer, 0);
    assert!(world.finish().is_clean());
}

#[test]
fn the_driver_hears_of_the_link() {
    let mut world = World::builder().build();
    let [(a, mut at_a), (b, mut at_b)] = two(&mut world, &NicConfig::default(), BASIC);
    let status = |host: &Host| Registers::get::<u16>(host.registers.config, 6);
    let generation = b.common::<u8>(0x15);
    b.nic.set_link(false);
    world.run_until_idle();
    assert_eq!(b.interrupts.taken(), [1, 0, 0]);
    assert_eq!((status(&a), status(&b)), (1, 0));
    assert_ne!(b.common::<u8>(0x15), generation);
    // Nothing passes in either direction.
    at_a.send(b.mac, b"lost");
    at_b.send(a.mac, b"lost");
    world.run_until_idle();
    assert_eq!(at_a.drain().len() + at_b.drain().len(), 0);
    assert_eq!(at_b.reap_sent(), 1);
    assert_eq!(b.nic.counters().sent_link_down, 1);
    assert_eq!(b.nic.counters().not_running, 1);
    b.nic.set_link(true);
    b.nic.set_link(true);
    world.run_until_idle();
    assert_eq!(b.interrupts.taken()[0], 1);
    assert_eq!(status(&b), 1);
    at_a.send(b.mac, b"found");
    world.run_until_idle();
    assert_eq!(at_b.drain(), [b"found"]);
    // A pulled cable looks the same.
    let switch = a.nic.switch().unwrap();
    switch.set_up(a.nic.port(), false);
    world.run_until_idle();
    assert_eq!(a.interrupts.taken()[0], 1);
    assert_eq!(status(&a), 0);
    assert!(world.finish().is_clean());
}

#[test]
fn losses_repeat_with_the_seed_and_are_recorded() {
    let run = |seed: u64| {
        let mut world = World::builder().seed(seed).build();
        let [(a, mut at_a), (b, mut at_b)] =
            two(&mut world, &NicConfig::default(), BASIC | EVENT_IDX);
        at_b.send(a.mac, b"");
        world.run_until_idle();
        let switch = a.nic.switch().unwrap();
        let capture = world
            .capture_to_memory(&switch, CaptureConfig { deliveries: true })
            .unwrap();
        switch.set_links(LinkConfig {
            loss: 0.05,
            duplicate: 0.02,
            reorder: 0.02,
            corrupt: 0.02,
            ..LinkConfig::default()
        });
        let mut got = Vec::new();
        for i in 0..1000_u32 {
            at_a.send(b.mac, &[i as u8; 40]);
            if i % 16 == 0 {
                world.run_until_idle();
                got.extend(at_b.drain());
            }
        }
        world.run_until_idle();
        got.extend(at_b.drain());
        let counters = switch.counters(b.nic.port());
        // Some corrupted frames were for somebody else then, but on this wire they arrive all the same.
        assert_eq!(got.len() as u64, 1000 - counters.lost + counters.duplicated);
        assert!(counters.lost > 20 && counters.reordered > 5, "{counters:?}");
        assert!(world.finish().is_clean());
        (got, counters, capture.bytes())
    };
    let first = run(5);
    assert!(run(5) == first);
    assert!(run(6).0 != first.0);
}

#[test]
fn memory_is_read_when_the_latency_has_passed() {
    for config in [NicConfig::default(), notified()] {
        let config = NicConfig {
            transmit_latency: Duration::from_micros(20),
            transmit_batch: 2,
            ..config
        };
        let mut world = World::builder().build();
        let [(_a, mut at_a), (b, mut at_b)] = two(&mut world, &config, BASIC);
        let frame = at_a.frame(b.mac, b"first");
        for _ in 0..3 {
            assert!(at_a.queue(&frame, &[]));
        }
        at_a.transmit.kick();
        world.run_for(Duration::from_micros(15));
        at_a.send(b.mac, b"second");
        world.run_for(Duration::from_micros(4));
        assert_eq!((at_a.reap_sent(), at_b.drain().len()), (0, 0));
        world.run_for(Duration::from_micros(2));
        assert_eq!((at_a.reap_sent(), at_b.drain().len()), (3, 3));
        world.run_for(Duration::from_micros(15));
        assert_eq!((at_a.reap_sent(), at_b.drain().len()), (1, 1));
        world.run_until_idle();
        assert!(world.finish().is_clean());
    }
}

#[test]
fn a_reset_device_starts_afresh() {
    let mut world = World::builder().build();
    let [(a, mut at_a), (b, at_b)] = two(&mut world, &NicConfig::default(), BASIC | EVENT_IDX);
    at_a.send(b.mac, b"never seen");
    b.set_status(0);
    assert_eq!((b.status(), b.nic.driver_features()), (0, 0));
    assert!(!b.nic.is_running());
    world.run_until_idle();
    assert_eq!(b.nic.counters().not_running, 1);
    drop(at_b);
    let mut at_b = b.bring_up(BASIC);
    at_b.add_buffers(3, 2048);
    at_a.send(b.mac, b"seen");
    assert_eq!(receive(&mut world, &mut at_b, 1), [b"seen"]);
    a.set_status(0);
    b.set_status(0);
    a.function.stop();
    b.function.stop();
    assert!(world.finish().is_clean());
}

#[test]
fn an_unplugged_device_is_gone() {
    let mut world = World::builder().build();
    let [(a, mut at_a), (b, mut at_b)] = two(&mut world, &NicConfig::default(), BASIC);
    at_b.send(a.mac, b"x");
    world.run_until_idle();
    at_a.send(b.mac, b"never seen");
    b.interrupts.taken();
    b.nic.unplug();
    at_b.send(a.mac, b"never seen");
    world.run_until_idle();
    assert_eq!(b.status(), 0xff);
    b.set_status(0);
    assert_eq!(b.common::<u32>(0x4), u32::MAX);
    let mut id = [0; 4];
    b.function.read_config(0, &mut id);
    assert_eq!(id, [0xff; 4]);
    assert_eq!((at_b.drain().len(), at_b.reap_sent()), (0, 0));
    assert_eq!(at_a.drain(), [b"x"]);
    assert_eq!(b.interrupts.taken(), [0, 0, 0]);
    b.function.stop();
    assert!(world.finish().is_clean());
}

/// Garbage in the rings never does more than break the device.
#[test]
fn no_ring_makes_the_device_panic() {
    for seed in 0..300 {
        let mut world = World::builder().seed(seed).collect_violations().build();
        let rng = world.core.rng.fork();
        let [(_a, mut at_a), (b, at_b)] = two(&mut world, &NicConfig::default(), {
            let pick = rng.below(8);
            BASIC
                | if pick & 1 != 0 { EVENT_IDX } else { 0 }
                | if pick & 2 != 0 { INDIRECT } else { 0 }
        });
        let base = b.machine.ram.logical(b.machine.ram.physical_base());
        for _ in 0..20 {
            let ring = if rng.chance(0.5) {
                &at_b.receive
            } else {
                &at_b.transmit
            };
            for _ in 0..rng.below(40) {
                let slot = rng.below(8) as u16;
                let piece = match rng.below(4) {
                    0 => (rng.next(), rng.next() as u32),
                    1 => (
                        ring.descriptors.logical + 16 * rng.below(64),
                        16 * rng.below(8) as u32,
                    ),
                    _ => (base + rng.below(1 << 22), rng.below(3000) as u32),
                };
                let flags = rng.below(8) as u16;
                ring.write_descriptor(ring.descriptors, slot, piece, flags, rng.below(9) as u16);
                let entry = 4 + 2 * rng.below(8) as usize;
                let head = if rng.chance(0.01) {
                    rng.next()
                } else {
                    rng.below(8)
                };
                ring.available.put(entry, head as u16);
            }
            let old: u16 = ring.available.get(2);
            let step = if rng.chance(0.02) {
                rng.next()
            } else {
                rng.below(6)
            };
            ring.available.put(2, old.wrapping_add(step as u16));
            at_a.send([0xff; 6], &[1; 700]);
            at_a.reap_sent();
            world.run_until_idle();
            if b.status() & 0x40 != 0 {
                break;
            }
        }
        let rules: Vec<_> = driver::rules(&world.finish().violations);
        assert!(
            rules
                .iter()
                .all(|rule| rule.starts_with("virtio") || rule.starts_with("dma"))
        );
    }
}

#[test]
fn devices_work_in_real_time() {
    let mut world = World::builder().clock(Clock::RealTime).build();
    let [(a, mut at_a), (b, mut at_b)] = two(&mut world, &NicConfig::default(), BASIC);
    at_a.send(b.mac, b"ping");
    assert_eq!(receive(&mut world, &mut at_b, 1), [b"ping"]);
    at_b.send(a.mac, b"pong");
    assert_eq!(receive(&mut world, &mut at_a, 1), [b"pong"]);
    assert!(world.finish().is_clean());
}

/// Two worlds, each with its own thread and clock, and a socket between their switches.
#[test]
fn worlds_talk_over_a_socket() {
    let directory = std::env::temp_dir().join(format!("ntsim-worlds-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = |name: &str| directory.join(name);
    let world = |local: &str, remote: &str| {
        let mut world = World::builder().clock(Clock::RealTime).build();
        let switch = world.switch(SwitchConfig::default());
        let config = SocketConfig {
            local: path(local),
            remote: path(remote),
            backlog: 1000,
        };
        let wire = world.socket_wire(&switch, "other world", config).unwrap();
        (world, switch, wire)
    };
    let within = Duration::from_secs(20);
    let content = |i: u32| -> Vec<u8> { (0..1000).map(|at| (at + i) as u8).collect() };
    std::thread::scope(|scope| {
        // One echoes until the other says so.
        scope.spawn(|| {
            let (mut world, switch, _wire) = world("echo", "asker");
            let host = Host::new(&mut world, &switch, notified());
            let mut driver = host.bring_up(BASIC | EVENT_IDX);
            driver.add_buffers(64, 2048);
            let mut done = false;
            let mut echoed = 0_u32;
            let ended = world.run_until(
                |_| {
                    for content in driver.drain() {
                        done |= content == b"enough";
                        driver.send([0xff; 6], &content);
                        echoed += 1;
                    }
                    done
                },
                within,
            );
            assert!(ended, "{echoed} echoed");
            world.run_for(Duration::from_millis(1));
            assert!(world.finish().is_clean());
        });
        let (mut world, switch, wire) = world("asker", "echo");
        let host = Host::new(&mut world, &switch, NicConfig::default());
        let mut driver = host.bring_up(BASIC);
        driver.add_buffers(64, 2048);
        // The other world may not be there yet: ask until it is.
        let mut asked = 0_u32;
        while driver.drain().is_empty() {
            driver.send([0xff; 6], b"are you there?");
            world.run_for(Duration::from_millis(1));
            asked += 1;
            assert!(asked < 20_000, "{:?}", wire.counters());
        }
        for i in 0..200 {
            driver.send([0xff; 6], &content(i));
            // Answers to what was asked before may still come.
            let mut answers = vec![b"are you there?".to_vec()];
            while answers.iter().all(|answer| answer == b"are you there?") {
                answers = receive_within(&mut world, &mut driver, 1, within);
            }
            assert!(answers.contains(&content(i)), "{i}");
        }
        driver.send([0xff; 6], b"enough");
        world.run_for(Duration::from_millis(1));
        assert!(world.finish().is_clean());
    });
    std::fs::remove_dir_all(directory).unwrap();
}

/// Time of one frame through two devices and the switch. For people: run it by name.
#[test]
#[ignore = "measures, proves nothing"]
fn measure() {
    for features in [EVENT_IDX, EVENT_IDX | INDIRECT] {
        for size in [64, 4096] {
            let mut world = World::builder().build();
            let config = NicConfig {
                mtu: 4200,
                ..NicConfig::default()
            };
            let switch = world.switch(SwitchConfig::default());
            let a = Host::new(&mut world, &switch, config.clone());
            let b = Host::new(&mut world, &switch, config);
            let (mut at_a, mut at_b) = (a.bring_up(BASIC | features), b.bring_up(BASIC | features));
            at_b.add_buffers(256, 4300);
            at_b.send(a.mac, b"");
            let content = vec![7; size];
            let frame = at_a.frame(b.mac, &content);
            let mut nanoseconds = 0;
            let rounds = 2000;
            let core = std::rc::Rc::clone(&world.core);
            for _ in 0..rounds {
                for _ in 0..64 {
                    assert!(at_a.queue(&frame, &[14, size - 4]));
                }
                let before = std::time::Instant::now();
                assert!(core.run_devices());
                nanoseconds += before.elapsed().as_nanos();
                while at_b.take_quickly() {}
            }
            let each = nanoseconds / (rounds * 64);
            println!(
                "{size} bytes, indirect {}: {each} ns",
                features & INDIRECT != 0
            );
            let idle = std::time::Instant::now();
            for _ in 0..100_000 {
                core.run_devices();
            }
            println!("idle turn: {} ns", idle.elapsed().as_nanos() / 100_000);
            let doorbell = std::time::Instant::now();
            for _ in 0..20_000 {
                a.common::<u8>(0x14);
            }
            println!(
                "register access: {} ns",
                doorbell.elapsed().as_nanos() / 20_000
            );
        }
    }
}

impl Driver {
    /// Takes a received frame without looking at it.
    fn take_quickly(&mut self) -> bool {
        let Some((head, _)) = self.receive.reap() else {
            return false;
        };
        self.give_back(head);
        true
    }
}

impl Nic {
    fn switch(&self) -> Option<crate::wire::Switch> {
        self.port_handle().map(|port| port.switch())
    }
}
