//! The control queue, and what it sets: what is received, and on how many queues.

use super::checksums::ports;
use super::driver::{
    ANNOUNCE, CTRL_MAC_ADDR, CTRL_RX, CTRL_RX_EXTRA, CTRL_VQ, Control, Driver, EVENT_IDX, Host, MQ,
    Registers, rules as names,
};
use super::{BASIC, notified};
use crate::virtio_net::{NicConfig, rules};
use crate::wire::SwitchConfig;
use crate::{Violation, World};

const OK: u8 = 0;
const ERROR: u8 = 1;
/// All that needs a control queue, but more pairs.
const CONTROLLED: u64 = CTRL_VQ | CTRL_RX | CTRL_RX_EXTRA | CTRL_MAC_ADDR | ANNOUNCE;

fn with_pairs(queue_pairs: u16) -> NicConfig {
    NicConfig {
        control: true,
        queue_pairs,
        messages: 20,
        ..NicConfig::default()
    }
}

/// A machine that sends, and one that receives under control.
struct Story {
    world: World,
    at_a: Driver,
    b: Host,
    at_b: Driver,
    control: Control,
}

impl Story {
    fn new() -> Story {
        let mut world = World::builder().build();
        let switch = world.switch(SwitchConfig::default());
        let a = Host::new(&mut world, &switch, NicConfig::default());
        let b = Host::new(&mut world, &switch, with_pairs(1));
        let at_a = a.bring_up(BASIC);
        // Without more pairs the control queue is the third.
        let (mut drivers, control) = b.bring_up_controlled(BASIC | CONTROLLED, 1, 2);
        let mut at_b = drivers.remove(0);
        at_b.add_buffers(64, 2048);
        // So that the switch knows the way.
        at_b.send([0xff; 6], b"here");
        world.run_until_idle();
        Story {
            world,
            at_a,
            b,
            at_b,
            control,
        }
    }

    fn command(&mut self, command: &[u8]) -> u8 {
        self.control.command(&mut self.world, command)
    }

    /// Which of these addresses the second machine receives frames to.
    fn hears(&mut self, addresses: &[[u8; 6]]) -> Vec<bool> {
        addresses
            .iter()
            .map(|&to| {
                self.at_a.send(to, b"?");
                self.world.run_until_idle();
                self.at_b.drain().len() == 1
            })
            .collect()
    }
}

const OTHER: [u8; 6] = [2, 9, 9, 9, 9, 1];
const GROUP: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ALL: [u8; 6] = [0xff; 6];

#[test]
fn a_driver_says_what_it_wants_to_receive() {
    let mut story = Story::new();
    let own = story.b.mac;
    let addresses = [own, OTHER, GROUP, ALL];
    let mode = |story: &mut Story, mode: u8, on: u8| {
        assert_eq!(story.command(&[0, mode, on]), OK);
        story.hears(&addresses)
    };
    assert_eq!(story.hears(&addresses), [true, false, false, true]);
    assert_eq!(mode(&mut story, 1, 1), [true, false, true, true]);
    assert_eq!(mode(&mut story, 2, 1), [true, true, true, true]);
    assert_eq!(mode(&mut story, 3, 1), [true, true, false, true]);
    assert_eq!(mode(&mut story, 4, 1), [false, false, false, true]);
    assert_eq!(mode(&mut story, 5, 1), [false; 4]);
    // Whatever else is set.
    assert_eq!(mode(&mut story, 0, 1), [true; 4]);
    for off in 0..6 {
        mode(&mut story, off, 0);
    }
    assert_eq!(story.hears(&addresses), [true, false, false, true]);
    assert!(story.b.nic.counters().filtered > 10);
    // Tables, each of which replaces the one before.
    let tables = |unicast: &[[u8; 6]], multicast: &[[u8; 6]]| {
        let mut command = vec![1, 0];
        for table in [unicast, multicast] {
            command.extend((table.len() as u32).to_le_bytes());
            command.extend(table.iter().flatten());
        }
        command
    };
    assert_eq!(story.command(&tables(&[OTHER], &[GROUP])), OK);
    assert_eq!(story.hears(&addresses), [true; 4]);
    assert_eq!(story.command(&tables(&[], &[GROUP])), OK);
    assert_eq!(story.hears(&addresses), [true, false, true, true]);
    // An address of its own, which the configuration shows.
    let generation: u8 = story.b.common(0x15);
    let command: Vec<u8> = [1, 1].into_iter().chain(OTHER).collect();
    assert_eq!(story.command(&command), OK);
    assert_eq!(story.hears(&addresses), [false, true, true, true]);
    let shown =
        |host: &Host| [0, 1, 2, 3, 4, 5].map(|at| Registers::get::<u8>(host.registers.config, at));
    assert_eq!(shown(&story.b), OTHER);
    assert_ne!(story.b.common::<u8>(0x15), generation);
    // A reset forgets all that; and who has not taken it on hears everything.
    story.at_b = story.b.bring_up(BASIC);
    story.at_b.add_buffers(8, 2048);
    assert_eq!(shown(&story.b), own);
    assert_eq!(story.hears(&addresses), [true; 4]);
    assert!(story.world.finish().is_clean());
}

#[test]
fn a_driver_is_asked_to_announce_itself() {
    let mut story = Story::new();
    let status = |story: &Story| Registers::get::<u16>(story.b.registers.config, 6);
    assert_eq!(story.command(&[3, 0]), ERROR, "nobody has asked");
    story.b.interrupts.came();
    assert!(story.b.nic.ask_to_announce());
    story.world.run_until_idle();
    assert_eq!(
        story.b.interrupts.came(),
        [0],
        "the configuration has changed"
    );
    assert_eq!(status(&story), 3);
    assert!(story.b.nic.is_announcing());
    assert_eq!(story.command(&[3, 0]), OK);
    assert_eq!(status(&story), 1);
    assert!(!story.b.nic.is_announcing());
    // Who has not agreed to is not asked.
    story.at_b = story.b.bring_up(BASIC);
    assert!(!story.b.nic.ask_to_announce());
    assert!(story.world.finish().is_clean());
}

/// A frame of a flow, from machine 1's side or from the other's.
fn flow(to: [u8; 6], from: [u8; 6], number: u16, back: bool) -> Vec<u8> {
    let mut frame = [&to[..], &from, &[8, 0]].concat();
    let mut packet = ports(false, 6, [number, 80], &number.to_le_bytes());
    if back {
        packet[12..20].rotate_left(4);
        packet[20..24].rotate_left(2);
    }
    frame.extend(packet);
    frame
}

#[test]
fn flows_come_back_where_they_were_sent_from() {
    for (base, pairs) in [(with_pairs(8), 8), (notified(), 4), (with_pairs(8), 3)] {
        let config = NicConfig {
            busy_poll: base.busy_poll,
            ..with_pairs(pairs.max(4))
        };
        let mut world = World::builder().build();
        let switch = world.switch(SwitchConfig::default());
        let a = Host::new(&mut world, &switch, NicConfig::default());
        let b = Host::new(&mut world, &switch, config);
        let most = b.nic.config().queue_pairs;
        assert_eq!(b.offered() & MQ, MQ);
        assert_eq!(b.common::<u16>(0x12), 2 * most + 1);
        assert_eq!(Registers::get::<u16>(b.registers.config, 8), most);
        let mut at_a = a.bring_up(BASIC);
        at_a.add_buffers(256, 2048);
        let (mut at_b, mut control) =
            b.bring_up_controlled(BASIC | CONTROLLED | MQ | EVENT_IDX, pairs, 2 * most);
        for driver in &mut at_b {
            driver.add_buffers(64, 2048);
            driver.receive.want_interrupts(true);
        }
        at_b[0].send([0xff; 6], b"here");
        world.run_until_idle();
        at_a.drain();
        b.interrupts.came();
        // For now one pair is all.
        let mut send = |world: &mut World, number: u16| {
            assert!(at_a.queue(&flow(b.mac, a.mac, number, false), &[]));
            at_a.transmit.kick();
            world.run_until_idle();
        };
        let taken = |at_b: &mut [Driver]| -> Vec<usize> {
            at_b.iter_mut().map(|driver| driver.drain().len()).collect()
        };
        for number in 0..20 {
            send(&mut world, number);
        }
        let before = taken(&mut at_b);
        assert_eq!((before[0], before.iter().sum()), (20, 20));
        assert_eq!(b.interrupts.came(), [1], "message of the first queue");
        // Then flows that nobody knows go anywhere, but each to one place.
        assert_eq!(control.use_pairs(&mut world, pairs), OK);
        assert_eq!(b.nic.active_pairs(), usize::from(pairs));
        let mut used = vec![false; pairs.into()];
        for number in 0..60 {
            send(&mut world, number);
            let first = taken(&mut at_b);
            send(&mut world, number);
            assert_eq!(taken(&mut at_b), first, "the same flow");
            used[first.iter().position(|count| *count == 1).unwrap()] = true;
        }
        assert!(used.iter().all(|used| *used), "{used:?}");
        // And one that was sent from a queue comes back to its pair, with its message.
        for number in 0..40 {
            let pair = usize::from(number % pairs);
            assert!(at_b[pair].queue(&flow(a.mac, b.mac, number, true), &[]));
            at_b[pair].transmit.kick();
            world.run_until_idle();
            at_b[pair].reap_sent();
            at_b[pair].receive.want_interrupts(true);
            b.interrupts.came();
            send(&mut world, number);
            assert_eq!(b.interrupts.came(), [2 * pair + 1]);
            let got = taken(&mut at_b);
            assert_eq!((got[pair], got.iter().sum()), (1, 1));
        }
        // Back to one pair.
        assert_eq!(control.use_pairs(&mut world, 1), OK);
        for number in 0..20 {
            send(&mut world, number);
        }
        let after = taken(&mut at_b);
        assert_eq!((after[0], after.iter().sum()), (20, 20));
        b.set_status(0);
        assert_eq!(b.nic.active_pairs(), 1);
        assert!(world.finish().is_clean());
    }
}

#[test]
fn frames_that_wait_follow_the_queues_in_use() {
    let mut world = World::builder().build();
    let switch = world.switch(SwitchConfig::default());
    let a = Host::new(&mut world, &switch, NicConfig::default());
    let b = Host::new(&mut world, &switch, with_pairs(2));
    let mut at_a = a.bring_up(BASIC);
    let (mut at_b, mut control) = b.bring_up_controlled(BASIC | CTRL_VQ | MQ, 2, 4);
    at_b[0].send([0xff; 6], b"here");
    assert_eq!(control.use_pairs(&mut world, 2), OK);
    // The first pair alone has buffers.
    at_b[0].add_buffers(64, 2048);
    for number in 0..40 {
        assert!(at_a.queue(&flow(b.mac, a.mac, number, false), &[]));
    }
    at_a.transmit.kick();
    world.run_until_idle();
    let first = at_b[0].drain().len();
    assert!((1..40).contains(&first), "{first}");
    assert_eq!(control.use_pairs(&mut world, 1), OK);
    world.run_until_idle();
    assert_eq!(first + at_b[0].drain().len(), 40);
    assert!(world.finish().is_clean());
}

/// What a driver with two of four pairs set up is accused of, and the answers to its commands.
fn accused(features: u64, commands: &[&[u8]]) -> (Vec<Violation>, Vec<u8>) {
    let mut world = World::builder().collect_violations().build();
    let switch = world.switch(SwitchConfig::default());
    let host = Host::new(&mut world, &switch, with_pairs(4));
    let at = if features & MQ != 0 { 8 } else { 2 };
    let pairs = if features & MQ != 0 { 2 } else { 1 };
    let (_drivers, mut control) = host.bring_up_controlled(BASIC | features, pairs, at);
    let answers = commands
        .iter()
        .map(|command| control.command(&mut world, command))
        .collect();
    assert!(host.nic.is_running());
    (world.finish().violations, answers)
}

#[test]
fn commands_that_are_none() {
    let commands: [&[u8]; 16] = [
        &[0],
        // No such class or command; a mode that is not on or off; one without a value.
        &[9, 0],
        &[0, 6, 1],
        &[0, 0, 2],
        &[0, 1],
        &[0, 1, 1, 1],
        // Tables cut off, with something behind them, with addresses of the wrong kind.
        &[1, 0, 1, 0, 0, 0, 2, 0, 0],
        &[1, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
        &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7],
        &[1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0],
        &[1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 1],
        // Addresses of its own.
        &[1, 1, 1, 2, 3, 4, 5, 6],
        &[1, 1, 2, 2, 3, 4, 5],
        &[3, 0, 0],
        // No pairs, or half a number.
        &[4, 0, 0, 0],
        &[4, 0, 2],
    ];
    let (found, answers) = accused(CONTROLLED | MQ, &commands);
    assert_eq!(names(&found), [rules::CONTROL; 16]);
    assert_eq!(answers, [ERROR; 16]);
}

#[test]
fn more_pairs_than_there_are_or_are_set_up() {
    let (found, answers) = accused(
        CTRL_VQ | MQ,
        &[&[4, 0, 5, 0], &[4, 0, 3, 0], &[4, 0, 2, 0], &[4, 0, 1, 0]],
    );
    assert_eq!(names(&found), [rules::CONTROL; 2]);
    assert!(found[0].text.contains("of 4"), "{}", found[0].text);
    assert!(found[1].text.contains("set up"), "{}", found[1].text);
    assert_eq!(answers, [ERROR, ERROR, OK, OK]);
}

#[test]
fn commands_of_features_that_were_not_accepted() {
    let commands: [&[u8]; 5] = [
        &[0, 0, 1],
        &[0, 2, 1],
        &[1, 1, 2, 0, 0, 0, 0, 1],
        &[3, 0],
        &[4, 0, 1, 0],
    ];
    let (found, answers) = accused(CTRL_VQ, &commands);
    assert_eq!(names(&found), [rules::CONTROL; 5]);
    assert_eq!(answers, [ERROR; 5]);
}

#[test]
fn a_command_without_room_for_the_answer_or_in_the_wrong_order() {
    let mut world = World::builder().collect_violations().build();
    let switch = world.switch(SwitchConfig::default());
    let host = Host::new(&mut world, &switch, with_pairs(1));
    let (_, mut control) = host.bring_up_controlled(BASIC | CONTROLLED, 1, 2);
    let memory = control.memory;
    control.ring.add(&[(memory.logical, 3)], false).unwrap();
    world.run_until_idle();
    assert!(host.nic.is_running());
    assert!(control.ring.reap().is_some());
    // The answer first.
    let table = control.ring.descriptors;
    let ring = &mut control.ring;
    ring.write_descriptor(table, 0, (memory.logical, 1), 1 | 2, 1);
    ring.write_descriptor(table, 1, (memory.logical, 3), 0, 0);
    ring.publish(0);
    world.run_until_idle();
    assert!(!host.nic.is_running());
    let found = world.finish().violations;
    assert_eq!(names(&found), [rules::CONTROL, rules::RING]);
}

#[test]
fn frames_on_queues_that_no_command_has_put_in_use() {
    let mut world = World::builder().collect_violations().build();
    let switch = world.switch(SwitchConfig::default());
    let host = Host::new(&mut world, &switch, with_pairs(2));
    let (mut drivers, mut control) = host.bring_up_controlled(BASIC | CTRL_VQ | MQ, 2, 4);
    // Twice in one go is once; then in order; then what was queued when there were two pairs, and once more too late.
    drivers[1].send([0xff; 6], b"early");
    drivers[1].send([0xff; 6], b"early");
    world.run_until_idle();
    assert_eq!(control.use_pairs(&mut world, 2), OK);
    drivers[1].send([0xff; 6], b"in order");
    assert_eq!(control.use_pairs(&mut world, 1), OK);
    drivers[0].send([0xff; 6], b"in order");
    world.run_until_idle();
    drivers[1].send([0xff; 6], b"late");
    world.run_until_idle();
    assert_eq!(host.nic.counters().sent, 5);
    assert_eq!(
        names(&world.finish().violations),
        [rules::CONTROL, rules::CONTROL]
    );
}

#[test]
fn queues_and_features_that_need_others() {
    let mut world = World::builder().collect_violations().build();
    let switch = world.switch(SwitchConfig::default());
    let host = Host::new(&mut world, &switch, with_pairs(2));
    host.set_status(1);
    host.set_status(3);
    host.accept(BASIC | MQ);
    host.set_status(11);
    assert_eq!(host.status(), 3, "more pairs without a control queue");
    // Without more pairs the fourth queue does not exist, and the third is the control queue.
    host.accept(BASIC | CTRL_VQ);
    host.set_status(11);
    host.set_up_queue(3, 16, 1, false);
    host.set_up_queue(2, 16, 1, false);
    let found = world.finish().violations;
    assert_eq!(names(&found), [rules::FEATURES, rules::QUEUE]);
}

/// Whatever bytes a driver sends, it gets an answer.
#[test]
fn no_command_makes_the_device_panic() {
    for seed in 0..4 {
        let mut world = World::builder().seed(seed).collect_violations().build();
        let rng = world.core.rng.fork();
        let switch = world.switch(SwitchConfig::default());
        let host = Host::new(&mut world, &switch, with_pairs(2));
        let (_drivers, mut control) = host.bring_up_controlled(BASIC | CONTROLLED | MQ, 2, 4);
        for _ in 0..1000 {
            let mut command = vec![rng.below(6) as u8, rng.below(7) as u8];
            command.extend((0..rng.below(24)).map(|_| rng.below(3) as u8));
            let answer = control.command(&mut world, &command);
            assert!(answer <= ERROR, "seed {seed}: {command:x?}");
        }
        assert!(host.nic.is_running());
        let found = world.finish().violations;
        assert!(found.iter().all(|found| found.rule == rules::CONTROL));
    }
}
