//! Stories of frames on wires.

use std::cell::RefCell;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::time::Duration;

use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::blocks::section_header::SectionHeaderOption;
use pcap_file::pcapng::{Block, PcapNgReader};

use super::{
    CaptureConfig, Endpoint, Frame, LinkConfig, Port, SocketConfig, Switch, SwitchConfig, Verdict,
};
use crate::world::context;
use crate::{Clock, World};

/// A station that keeps what it receives, with the time.
struct Station {
    mac: [u8; 6],
    port: RefCell<Option<Port>>,
    got: RefCell<Vec<(u64, Frame)>>,
    links: RefCell<Vec<bool>>,
}

impl Endpoint for Station {
    fn deliver(&self, frame: Frame) {
        let now = context::core().now();
        self.got.borrow_mut().push((now, frame));
    }

    fn link_changed(&self, up: bool) {
        self.links.borrow_mut().push(up);
    }
}

impl Station {
    fn on(switch: &Switch, number: u8) -> Rc<Station> {
        let station = Rc::new(Station {
            mac: [2, 0, 0, 0, 0, number],
            port: RefCell::default(),
            got: RefCell::default(),
            links: RefCell::default(),
        });
        let endpoint: Weak<Station> = Rc::downgrade(&station);
        let port = switch.connect(&format!("station {number}"), endpoint);
        *station.port.borrow_mut() = Some(port);
        station
    }

    fn port(&self) -> Port {
        self.port.borrow().clone().unwrap()
    }

    fn send_to(&self, destination: [u8; 6], content: u32) {
        self.send_as([0x88, 0xb5], destination, &content.to_be_bytes());
    }

    fn send_as(&self, kind: [u8; 2], destination: [u8; 6], content: &[u8]) {
        let mut frame = Frame::with_capacity(64);
        frame.extend(&destination);
        frame.extend(&self.mac);
        frame.extend(&kind);
        frame.extend(content);
        self.port().send(frame);
    }

    /// Contents of what came since the last call, in order.
    fn got(&self) -> Vec<u32> {
        self.got_at()
            .into_iter()
            .map(|(_, content)| content)
            .collect()
    }

    /// With the time each came at.
    fn got_at(&self) -> Vec<(u64, u32)> {
        let got = std::mem::take(&mut *self.got.borrow_mut());
        got.iter()
            .map(|(at, frame)| (*at, u32::from_be_bytes(frame[14..18].try_into().unwrap())))
            .collect()
    }
}

const BROADCAST: [u8; 6] = [0xff; 6];

/// Two stations that know of each other.
fn pair(world: &mut World, link: LinkConfig) -> (Switch, Rc<Station>, Rc<Station>) {
    let switch = world.switch(SwitchConfig::default());
    let (a, b) = (Station::on(&switch, 1), Station::on(&switch, 2));
    a.send_to(BROADCAST, 0);
    b.send_to(BROADCAST, 0);
    a.got();
    b.got();
    switch.set_links(link);
    (switch, a, b)
}

#[test]
fn frames_go_where_their_address_was_last_seen() {
    let mut world = World::builder().build();
    let switch = world.switch(SwitchConfig::default());
    let stations: Vec<_> = (1..=3).map(|n| Station::on(&switch, n)).collect();
    let [a, b, c] = [&stations[0], &stations[1], &stations[2]];
    // Nobody knows b yet: everybody but the sender hears it.
    a.send_to(b.mac, 1);
    assert_eq!((a.got(), b.got(), c.got()), (vec![], vec![1], vec![1]));
    b.send_to(a.mac, 2);
    assert_eq!((a.got(), b.got(), c.got()), (vec![2], vec![], vec![]));
    a.send_to(b.mac, 3);
    assert_eq!((a.got(), b.got(), c.got()), (vec![], vec![3], vec![]));
    c.send_to(BROADCAST, 4);
    assert_eq!((a.got(), b.got(), c.got()), (vec![4], vec![4], vec![]));
    // A frame to somebody behind the sender's own port goes nowhere.
    a.send_to(a.mac, 5);
    assert_eq!((a.got(), b.got(), c.got()), (vec![], vec![], vec![]));
    // b moves to c's port.
    c.port().send(Frame::from(&[a.mac, b.mac].concat()[..]));
    c.port().send({
        let mut frame = Frame::from(&[a.mac, b.mac].concat()[..]);
        frame.extend(&[0x88, 0xb5, 0, 0, 0, 6]);
        frame
    });
    a.got();
    a.send_to(b.mac, 7);
    assert_eq!((a.got(), b.got(), c.got()), (vec![], vec![], vec![7]));

    let counters = switch.counters(a.port().id());
    assert_eq!((counters.sent, counters.sent_bytes), (4, 4 * 18));
    assert_eq!((counters.received, counters.looped), (3, 1));
    assert_eq!(switch.counters(c.port().id()).malformed, 1);
}

#[test]
fn chance_strikes_the_same_frames_for_the_same_seed() {
    let run = |seed: u64, link: LinkConfig| {
        let mut world = World::builder().seed(seed).build();
        let (switch, a, b) = pair(&mut world, link);
        for i in 0..2000 {
            a.send_to(b.mac, i);
        }
        world.run_until_idle();
        (b.got(), switch.counters(b.port().id()))
    };
    let lossy = LinkConfig {
        loss: 0.1,
        ..LinkConfig::default()
    };
    let (got, counters) = run(7, lossy);
    assert_eq!(got.len() as u64 + counters.lost, 2000);
    assert!((150..250).contains(&counters.lost), "{counters:?}");
    assert_eq!(run(7, lossy), (got.clone(), counters));
    assert_ne!(run(8, lossy).0, got);
    // More kinds of misfortune do not change which frames are lost.
    let worse = LinkConfig {
        duplicate: 0.05,
        reorder: 0.05,
        ..lossy
    };
    let (mut others, counters) = run(7, worse);
    assert!(counters.duplicated > 50 && counters.reordered > 50);
    assert_eq!(
        others.len() as u64,
        2000 - counters.lost + counters.duplicated
    );
    assert!(!others.is_sorted());
    others.sort_unstable();
    others.dedup();
    assert_eq!(others, got);
}

#[test]
fn loss_is_that_of_the_receivers_link() {
    let mut world = World::builder().build();
    let (switch, a, b) = pair(&mut world, LinkConfig::default());
    let dead = LinkConfig {
        loss: 1.0,
        ..LinkConfig::default()
    };
    switch.set_link(b.port().id(), dead);
    a.send_to(b.mac, 1);
    b.send_to(a.mac, 2);
    assert_eq!((a.got(), b.got()), (vec![2], vec![]));
    assert_eq!(switch.counters(b.port().id()).lost, 1);
    assert_eq!(switch.link(b.port().id()), dead);
}

#[test]
fn reordered_frames_are_overtaken_and_still_arrive() {
    let mut world = World::builder().build();
    let link = LinkConfig {
        reorder: 1.0,
        reorder_depth: 1,
        ..LinkConfig::default()
    };
    let (switch, a, b) = pair(&mut world, LinkConfig::default());
    switch.set_link(b.port().id(), link);
    a.send_to(b.mac, 1);
    assert!(b.got().is_empty());
    switch.set_link(b.port().id(), LinkConfig::default());
    a.send_to(b.mac, 2);
    a.send_to(b.mac, 3);
    assert_eq!(b.got(), [2, 1, 3]);
    // The last frame of all is not held back for ever.
    switch.set_link(b.port().id(), link);
    a.send_to(b.mac, 4);
    world.run_until_idle();
    assert_eq!(b.got_at(), [(100_000, 4)]);
}

#[test]
fn one_bit_is_inverted() {
    let mut world = World::builder().build();
    let (switch, a, b) = pair(&mut world, LinkConfig::default());
    let corrupt = LinkConfig {
        corrupt: 1.0,
        ..LinkConfig::default()
    };
    switch.set_link(b.port().id(), corrupt);
    let mut sent = Vec::new();
    sent.extend_from_slice(&b.mac);
    sent.extend_from_slice(&a.mac);
    sent.extend_from_slice(&[0x5a; 100]);
    let mut bits = Vec::new();
    for _ in 0..50 {
        a.port().send(Frame::from(&sent[..]));
        let (_, got) = b.got.borrow_mut().pop().unwrap();
        let differing: Vec<usize> = (0..sent.len() * 8)
            .filter(|bit| (got[bit / 8] ^ sent[bit / 8]) >> (bit % 8) & 1 != 0)
            .collect();
        assert_eq!(differing.len(), 1);
        bits.push(differing[0]);
    }
    bits.sort_unstable();
    bits.dedup();
    assert!(bits.len() > 30, "{bits:?}");
}

#[test]
fn a_slow_link_paces_queues_and_drops() {
    let mut world = World::builder().build();
    let link = LinkConfig {
        // 42 bytes (18 and the medium's 24) take 42 us.
        bandwidth: Some(8_000_000),
        delay: Duration::from_micros(100),
        queue: 4,
        ..LinkConfig::default()
    };
    let (switch, a, b) = pair(&mut world, link);
    for i in 0..8 {
        a.send_to(b.mac, i);
    }
    world.run_until_idle();
    // One on the medium and four waiting.
    let expected: Vec<(u64, u32)> = (0..5)
        .map(|i| (42_000 * (u64::from(i) + 1) + 100_000, i))
        .collect();
    assert_eq!(b.got_at(), expected);
    assert_eq!(switch.counters(b.port().id()).queue_full, 3);
    // Later there is room again.
    a.send_to(b.mac, 9);
    world.run_until_idle();
    assert_eq!(b.got_at(), [(310_000 + 142_000, 9)]);
}

#[test]
fn delay_with_jitter_keeps_the_order() {
    let mut world = World::builder().seed(3).build();
    let link = LinkConfig {
        delay: Duration::from_micros(50),
        jitter: Duration::from_micros(40),
        ..LinkConfig::default()
    };
    let (_switch, a, b) = pair(&mut world, link);
    for i in 0..100 {
        a.send_to(b.mac, i);
        world.run_for(Duration::from_micros(1));
    }
    world.run_until_idle();
    let got = b.got_at();
    assert_eq!(got.len(), 100);
    assert!(got.is_sorted());
    for (at, i) in &got {
        let sent = u64::from(*i) * 1000;
        assert!((sent + 50_000..sent + 90_000).contains(at) || *at == got[*i as usize - 1].0);
    }
}

#[test]
fn a_test_decides_the_fate_of_single_frames() {
    let mut world = World::builder().build();
    let (switch, a, b) = pair(&mut world, LinkConfig::default());
    let mut seen = 0;
    switch.set_filter(b.port().id(), move |frame| {
        assert_eq!(frame.len(), 18);
        seen += 1;
        match seen {
            1 => Verdict::Drop,
            2 => Verdict::Duplicate,
            3 => Verdict::Corrupt(17 * 8),
            4 => Verdict::Overtake(2),
            7 => Verdict::Delay(Duration::from_micros(5)),
            _ => Verdict::Pass,
        }
    });
    for i in 1..=8 {
        a.send_to(b.mac, i * 16);
    }
    world.run_until_idle();
    assert_eq!(b.got(), [32, 32, 49, 80, 96, 64, 128, 112]);
    let counters = switch.counters(b.port().id());
    assert_eq!(
        (counters.filtered, counters.lost, counters.duplicated),
        (1, 0, 1)
    );
    switch.clear_filter(b.port().id());
    a.send_to(b.mac, 1);
    assert_eq!(b.got(), [1]);
}

#[test]
fn a_pulled_cable_loses_what_is_under_way() {
    let mut world = World::builder().build();
    let link = LinkConfig {
        delay: Duration::from_micros(10),
        ..LinkConfig::default()
    };
    let (switch, a, b) = pair(&mut world, link);
    a.send_to(b.mac, 1);
    switch.set_up(b.port().id(), false);
    a.send_to(b.mac, 2);
    b.send_to(a.mac, 3);
    world.run_until_idle();
    assert_eq!((a.got(), b.got()), (vec![], vec![]));
    switch.set_up(b.port().id(), true);
    a.send_to(b.mac, 4);
    a.send_to(b.mac, 5);
    world.run_until_idle();
    assert_eq!(b.got(), [4, 5]);
    assert_eq!(*b.links.borrow(), [false, true]);
    assert_eq!(switch.counters(b.port().id()).link_down, 3);
    b.port().disconnect();
    a.send_to(b.mac, 6);
    world.run_until_idle();
    assert!(b.got().is_empty());
}

/// A recorded packet: interface name, time, direction flag, frame, comments.
type Recorded = (String, u64, u32, Vec<u8>, Vec<String>);

/// A recording's comment and its packets.
fn parse(bytes: &[u8]) -> (String, Vec<Recorded>) {
    let mut reader = PcapNgReader::new(bytes).unwrap();
    let section = reader.section().clone();
    let comment = section.options.iter().find_map(|option| match option {
        SectionHeaderOption::Comment(comment) => Some(comment.to_string()),
        _ => None,
    });
    let (mut names, mut packets) = (Vec::new(), Vec::new());
    while let Some(block) = reader.next_block() {
        match block.unwrap() {
            Block::InterfaceDescription(interface) => {
                for option in &interface.options {
                    match option {
                        InterfaceDescriptionOption::IfName(name) => names.push(name.to_string()),
                        InterfaceDescriptionOption::IfTsResol(resolution) => {
                            assert_eq!(*resolution, 9);
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
            Block::EnhancedPacket(packet) => {
                let (mut flags, mut comments) = (0, Vec::new());
                for option in &packet.options {
                    match option {
                        EnhancedPacketOption::Flags(value) => flags = *value,
                        EnhancedPacketOption::Comment(text) => comments.push(text.to_string()),
                        other => panic!("{other:?}"),
                    }
                }
                packets.push((
                    names[packet.interface_id as usize].clone(),
                    packet.timestamp.as_nanos() as u64,
                    flags,
                    packet.data.to_vec(),
                    comments,
                ));
            }
            other => panic!("{other:?}"),
        }
    }
    (comment.unwrap_or_default(), packets)
}

#[test]
fn a_recording_tells_what_happened() {
    let mut world = World::builder().seed(99).build();
    let (switch, a, b) = pair(&mut world, LinkConfig::default());
    let capture = world
        .capture_to_memory(&switch, CaptureConfig::default())
        .unwrap();
    let mut seen = 0;
    switch.set_filter(b.port().id(), move |_| {
        seen += 1;
        match seen {
            2 => Verdict::Drop,
            3 => Verdict::Corrupt(14 * 8),
            _ => Verdict::Pass,
        }
    });
    world.run_for(Duration::from_nanos(1_234_567_891_012));
    for i in 1..=3 {
        a.send_to(b.mac, i);
    }
    b.send_to(BROADCAST, 4);
    // A port connected during the recording.
    let c = Station::on(&switch, 3);
    c.send_to(a.mac, 5);

    let (comment, packets) = parse(&capture.bytes());
    assert_eq!(comment, "seed 99");
    assert!(packets.iter().all(|packet| packet.1 == 1_234_567_891_012));
    let told: Vec<(&str, u32, u8, u8, &[String])> = packets
        .iter()
        .map(|(name, _, flags, frame, comments)| {
            (name.as_str(), *flags, frame[14], frame[17], &comments[..])
        })
        .collect();
    let lost = ["dropped by a filter on the way to station 2".to_owned()];
    let changed = ["bit 112 inverted on the way to station 2".to_owned()];
    assert_eq!(
        told,
        [
            ("station 1", 2, 0, 1, &[][..]),
            ("station 1", 2, 0, 2, &lost[..]),
            ("station 1", 2, 0, 3, &changed[..]),
            ("station 2", 1, 1, 3, &changed[..]),
            ("station 2", 2, 0, 4, &[]),
            ("station 3", 2, 0, 5, &[]),
        ]
    );
    assert_eq!(packets[0].3.len(), 18);

    // The same with all deliveries, in a file.
    let path = scratch("recording.pcapng");
    let capture = world
        .capture(&switch, &path, CaptureConfig { deliveries: true })
        .unwrap();
    a.send_to(b.mac, 6);
    capture.flush().unwrap();
    let (_, packets) = parse(&std::fs::read(&path).unwrap());
    let told: Vec<(&str, u32)> = packets.iter().map(|p| (p.0.as_str(), p.2)).collect();
    assert_eq!(told, [("station 1", 2), ("station 2", 1)]);
    std::fs::remove_file(path).unwrap();
}

/// Wherever it goes to, with what becomes of it.
#[test]
fn recordings_say_what_rocev2_packets_are() {
    let mut world = World::builder().build();
    let (switch, a, b) = pair(&mut world, LinkConfig::default());
    let capture = world
        .capture_to_memory(&switch, CaptureConfig::default())
        .unwrap();
    switch.set_filter(b.port().id(), |_| Verdict::Drop);
    let mut packet = [0; 20 + 8 + 12 + 4];
    packet[0] = 0x45;
    packet[9] = 17;
    packet[16..20].copy_from_slice(&[10, 0, 0, 2]);
    packet[22..26].copy_from_slice(&[0x12, 0xb7, 0, 24]);
    // SEND Only, to queue pair 3, the fourth packet.
    packet[28] = 4;
    packet[35] = 3;
    packet[39] = 4;
    for to in [b.mac, BROADCAST] {
        a.send_as([8, 0], to, &packet);
    }
    let (_, packets) = parse(&capture.bytes());
    let told: Vec<_> = packets.iter().map(|p| &p.4[..]).collect();
    let comments = [
        "SEND Only to QP 0x3 of 10.0.0.2, PSN 4",
        "dropped by a filter on the way to station 2",
    ];
    assert_eq!(told, [comments, comments]);
}

/// A path in the temporary directory that no other test or process uses.
fn scratch(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("ntsim-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    directory.join(name)
}

/// Who runs a process for its wire may end it at any time.
#[test]
fn what_was_recorded_is_written_when_a_world_waits_for_real_time() {
    let mut world = World::builder().clock(Clock::RealTime).build();
    let (switch, a, b) = pair(&mut world, LinkConfig::default());
    let path = scratch("waiting.pcapng");
    let _capture = world
        .capture(&switch, &path, CaptureConfig::default())
        .unwrap();
    a.send_to(b.mac, 6);
    world.run_for(Duration::from_millis(20));
    let (_, packets) = parse(&std::fs::read(&path).unwrap());
    assert_eq!(packets.len(), 1);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn frames_cross_to_another_process_and_back() {
    let (ours, theirs) = (scratch("ours"), scratch("theirs"));
    let mut world = World::builder().clock(Clock::RealTime).build();
    let switch = world.switch(SwitchConfig::default());
    let a = Station::on(&switch, 1);
    let config = SocketConfig {
        local: ours.clone(),
        remote: theirs.clone(),
        backlog: 100,
    };
    let wire = world.socket_wire(&switch, "peer", config.clone()).unwrap();
    // Nobody is there yet.
    a.send_to(BROADCAST, 1);
    assert_eq!(wire.counters().no_peer, 1);

    let peer = UnixDatagram::bind(&theirs).unwrap();
    peer.set_nonblocking(true).unwrap();
    peer.connect(&ours).unwrap();
    a.send_to(BROADCAST, 2);
    let mut buffer = [0; 100];
    assert_eq!(peer.recv(&mut buffer).unwrap(), 18);
    assert_eq!(
        buffer[..18],
        [&BROADCAST[..], &a.mac, &[0x88, 0xb5, 0, 0, 0, 2]].concat()
    );

    let answer = [&a.mac[..], &[2, 0, 0, 0, 0, 9], &[0x88, 0xb5, 0, 0, 0, 3]].concat();
    peer.send(&answer).unwrap();
    let waiting = Rc::clone(&a);
    let within = Duration::from_secs(10);
    assert!(world.run_until(|_| !waiting.got.borrow().is_empty(), within));
    assert_eq!(a.got(), [3]);

    // A peer that is slow for a while loses nothing: its queue is offered the rest again and again.
    for i in 0..60 {
        a.send_to([2, 0, 0, 0, 0, 9], i);
    }
    let mut next = 0;
    let all = world.run_until(
        |_| {
            while peer.recv(&mut buffer).is_ok() {
                assert_eq!(buffer[14..18], u32::to_be_bytes(next));
                next += 1;
            }
            next == 60
        },
        within,
    );
    assert!(all, "{:?}", wire.counters());
    // One that does not take anything for too long does.
    for i in 0..10_000 {
        a.send_to([2, 0, 0, 0, 0, 9], i);
    }
    assert!(wire.counters().backlog_full > 0);

    world.remove_socket_wire(&wire);
    drop(wire);
    assert!(!ours.exists());
    // What a crashed run leaves behind does not prevent the next.
    drop(UnixDatagram::bind(&ours).unwrap());
    assert!(ours.exists());
    drop(world.socket_wire(&switch, "peer", config).unwrap());
    std::fs::remove_file(theirs).unwrap();
}

/// What a machine sent before it was switched off is on the way: the peer gets it when it next looks.
#[test]
fn frames_on_the_wire_outlive_the_world() {
    let (ours, theirs) = (scratch("last-ours"), scratch("last-theirs"));
    let peer = UnixDatagram::bind(&theirs).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut world = World::builder().clock(Clock::RealTime).build();
    let switch = world.switch(SwitchConfig::default());
    let a = Station::on(&switch, 1);
    let config = SocketConfig {
        local: ours,
        remote: theirs.clone(),
        backlog: 1000,
    };
    let wire = world.socket_wire(&switch, "peer", config).unwrap();
    for i in 0..1000 {
        a.send_to([2, 0, 0, 0, 0, 9], i);
    }
    assert!(wire.counters().sent < 1000, "no queue is that long");
    drop(wire);
    let slow = std::thread::spawn(move || {
        let mut buffer = [0; 100];
        for i in 0..1000_u32 {
            assert_eq!(peer.recv(&mut buffer).unwrap(), 18);
            assert_eq!(buffer[14..18], i.to_be_bytes());
        }
    });
    drop(world);
    slow.join().unwrap();
    std::fs::remove_file(theirs).unwrap();
}

#[test]
fn a_path_that_somebody_uses_is_left_alone() {
    let ours = scratch("in-use");
    let config = SocketConfig {
        local: ours.clone(),
        remote: scratch("absent"),
        backlog: 1,
    };
    {
        let mut world = World::builder().clock(Clock::RealTime).build();
        let switch = world.switch(SwitchConfig::default());
        let other = UnixDatagram::bind(&ours).unwrap();
        let Err(error) = world.socket_wire(&switch, "peer", config.clone()) else {
            panic!("the other process lost its socket");
        };
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
        // It ends, and leaves its socket behind.
        drop(other);
        assert!(ours.exists());
        drop(world.socket_wire(&switch, "peer", config).unwrap());
    }
    assert!(!ours.exists(), "the socket of a world that has ended");
}

#[test]
fn a_virtual_clock_is_no_wire_to_another_process() {
    let mut world = World::builder().build();
    let switch = world.switch(SwitchConfig::default());
    let config = SocketConfig {
        local: scratch("none"),
        remote: scratch("nobody"),
        backlog: 1,
    };
    assert!(world.socket_wire(&switch, "peer", config).is_err());
}

/// A virtual machine without a disk asks the network what to boot: QEMU's end of the wire is as we think it is.
#[test]
#[ignore = "needs qemu-system-x86_64 with its boot ROMs"]
fn qemu_talks_over_the_wire() {
    let (ours, theirs) = (scratch("vm-ours"), scratch("vm-theirs"));
    let mut world = World::builder().clock(Clock::RealTime).build();
    let switch = world.switch(SwitchConfig::default());
    let station = Station::on(&switch, 1);
    let config = SocketConfig {
        local: ours.clone(),
        remote: theirs.clone(),
        backlog: 100,
    };
    let _wire = world.socket_wire(&switch, "qemu", config).unwrap();
    let netdev = format!(
        "dgram,id=n0,local.type=unix,local.path={},remote.type=unix,remote.path={}",
        theirs.display(),
        ours.display()
    );
    let mut qemu = std::process::Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg", "-display", "none", "-serial", "none"])
        .args(["-monitor", "none", "-boot", "n", "-netdev", &netdev])
        .args(["-device", "virtio-net-pci,netdev=n0,mac=52:54:00:00:00:01"])
        .spawn()
        .unwrap();
    let waiting = Rc::clone(&station);
    let discover = world.run_until(
        |_| {
            waiting.got.borrow().iter().any(|(_, frame)| {
                // A broadcast from the virtual machine's card, IPv4, UDP, to the DHCP server's port.
                frame.destination() == BROADCAST
                    && frame.source() == [0x52, 0x54, 0, 0, 0, 1]
                    && frame[12..14] == [8, 0]
                    && frame[23] == 17
                    && frame[36..38] == [0, 67]
            })
        },
        Duration::from_secs(60),
    );
    qemu.kill().unwrap();
    qemu.wait().unwrap();
    let _ = std::fs::remove_file(theirs);
    assert!(discover);
}

#[test]
fn the_capture_of_a_run_that_panics_holds_its_last_frame() {
    let path = std::env::temp_dir().join(format!("ntsim-panic-{}.pcapng", std::process::id()));
    let outcome = std::panic::catch_unwind(|| {
        let mut world = World::builder().build();
        let (switch, a, b) = pair(&mut world, LinkConfig::default());
        // A test's clone must not be what has it written.
        let kept = world.capture(&switch, &path, CaptureConfig::default());
        std::mem::forget(kept);
        a.send_to(b.mac, 0xdead_beef);
        panic!("the test fails");
    });
    assert!(outcome.is_err());
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let (_, packets) = parse(&bytes);
    let last = &packets.last().expect("a frame").3;
    assert!(last.ends_with(&0xdead_beef_u32.to_be_bytes()));
}

#[test]
fn a_recording_tells_that_the_disk_was_full() {
    let mut world = World::builder().build();
    let switch = world.switch(SwitchConfig::default());
    let capture = world
        .capture(&switch, "/dev/full", CaptureConfig::default())
        .expect("the header is written later");
    for _ in 0..2 {
        let error = capture.flush().expect_err("there is no room");
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }
}
