//! Checksums that the device completes, and those that it looks at.

use smoltcp::wire::{IpAddress, IpProtocol, checksum};

use super::driver::{CSUM, Driver, GUEST_CSUM, Host, rules as names};
use super::{BASIC, two};
use crate::World;
use crate::virtio_net::{NicConfig, rules};

const UDP: u8 = 17;
const TCP: u8 = 6;

fn config() -> NicConfig {
    NicConfig {
        checksums: true,
        ..NicConfig::default()
    }
}

/// An address of machine `last`.
fn address(v6: bool, last: u8) -> IpAddress {
    if v6 {
        IpAddress::v6(0xfd00, 0, 0, 0, 0, 0, 0, last.into())
    } else {
        IpAddress::v4(10, 0, 0, last)
    }
}

fn octets(address: IpAddress) -> Vec<u8> {
    match address {
        IpAddress::Ipv4(address) => address.octets().to_vec(),
        IpAddress::Ipv6(address) => address.octets().to_vec(),
    }
}

/// Where the segment begins, and its checksum in it.
fn places(v6: bool, protocol: u8) -> (usize, usize) {
    (
        if v6 { 54 } else { 34 },
        if protocol == UDP { 6 } else { 16 },
    )
}

/// A packet from 1 to 2, behind an Ethernet header; its checksum is the pseudo header's sum, as a driver leaves it.
pub(super) fn packet(v6: bool, protocol: u8, content: &[u8]) -> Vec<u8> {
    ports(v6, protocol, [40_000, 50_000], content)
}

/// The same between two ports.
pub(super) fn ports(v6: bool, protocol: u8, ports: [u16; 2], content: &[u8]) -> Vec<u8> {
    let (from, to) = (address(v6, 1), address(v6, 2));
    let header = if protocol == UDP { 8 } else { 20 };
    let length = header + content.len();
    let mut packet = if v6 {
        let mut header = vec![0x60, 0, 0, 0, 0, 0, protocol, 64];
        header[4..6].copy_from_slice(&(length as u16).to_be_bytes());
        header
    } else {
        let mut header = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
        header[2..4].copy_from_slice(&(20 + length as u16).to_be_bytes());
        header
    };
    packet.extend(octets(from));
    packet.extend(octets(to));
    let mut segment = vec![0; header];
    segment[..2].copy_from_slice(&ports[0].to_be_bytes());
    segment[2..4].copy_from_slice(&ports[1].to_be_bytes());
    if protocol == UDP {
        segment[4..6].copy_from_slice(&(length as u16).to_be_bytes());
    } else {
        segment[12] = 0x50;
    }
    segment.extend(content);
    let sum = checksum::pseudo_header(&from, &to, IpProtocol::from(protocol), length as u32);
    let at = places(v6, protocol).1;
    segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    packet.extend(segment);
    packet
}

fn frame(to: &Host, from: &Host, v6: bool, packet: &[u8]) -> Vec<u8> {
    let kind: [u8; 2] = if v6 { [0x86, 0xdd] } else { [8, 0] };
    [&to.mac[..], &from.mac, &kind, packet].concat()
}

/// Asks for the checksum from `start` on, at `offset` from there.
fn ask(driver: &mut Driver, start: usize, offset: usize) {
    driver.header = [0; 12];
    driver.header[0] = 1;
    driver.header[6..8].copy_from_slice(&(start as u16).to_le_bytes());
    driver.header[8..10].copy_from_slice(&(offset as u16).to_le_bytes());
}

#[test]
fn the_device_completes_checksums_and_says_which_it_found_right() {
    let mut world = World::builder().build();
    let [(a, mut at_a), (b, mut at_b)] = two(&mut world, &config(), BASIC | CSUM | GUEST_CSUM);
    assert_eq!(a.offered() & 3, CSUM | GUEST_CSUM);
    for (v6, protocol) in [(false, UDP), (false, TCP), (true, UDP), (true, TCP)] {
        // Of odd length too.
        for length in [0, 1, 2, 777, 1400] {
            let content: Vec<u8> = (0..length).map(|i| (i * 11) as u8).collect();
            let packet = packet(v6, protocol, &content);
            let (start, offset) = places(v6, protocol);
            ask(&mut at_a, start, offset);
            assert!(at_a.queue(&frame(&b, &a, v6, &packet), &[14, 3]));
            at_a.transmit.kick();
            world.run_until_idle();
            let got = at_b.take().expect("a frame");
            assert_eq!(at_b.flags, 2, "found right");
            // The checksum alone differs, and the whole sums up.
            let at = start - 14 + offset;
            let mut expected = packet;
            assert_ne!(got[at..at + 2], expected[at..at + 2]);
            expected[at..at + 2].copy_from_slice(&got[at..at + 2]);
            assert_eq!(got, expected);
            let segment = &got[start - 14..];
            let pseudo_header = checksum::pseudo_header(
                &address(v6, 1),
                &address(v6, 2),
                IpProtocol::from(protocol),
                segment.len() as u32,
            );
            assert_eq!(
                checksum::combine(&[pseudo_header, checksum::data(segment)]),
                !0
            );
        }
    }
    assert!(world.finish().is_clean());
}

#[test]
fn of_a_wrong_checksum_or_none_the_device_says_nothing() {
    let mut world = World::builder().build();
    let [(a, mut at_a), (b, mut at_b)] = two(&mut world, &config(), BASIC | CSUM | GUEST_CSUM);
    let wrong = packet(false, TCP, b"wrong");
    let mut none = packet(false, UDP, b"none");
    none[26..28].fill(0);
    let mut fragment = packet(false, UDP, b"a fragment");
    fragment[6] = 0x20;
    for packet in [&wrong, &none, &fragment, &b"no packet at all".to_vec()] {
        assert!(at_a.queue(&frame(&b, &a, false, packet), &[]));
        at_a.transmit.kick();
        world.run_until_idle();
        assert_eq!(at_b.take().as_ref(), Some(packet));
        assert_eq!(at_b.flags, 0);
    }
    assert!(world.finish().is_clean());
}

#[test]
fn who_has_not_taken_checksums_on_hears_nothing_of_them() {
    let mut world = World::builder().build();
    let switch = world.switch(Default::default());
    let a = Host::new(&mut world, &switch, config());
    let b = Host::new(&mut world, &switch, config());
    let (mut at_a, mut at_b) = (a.bring_up(BASIC | CSUM), b.bring_up(BASIC));
    at_b.add_buffers(4, 2048);
    at_b.send(a.mac, b"here");
    ask(&mut at_a, 34, 6);
    assert!(at_a.queue(&frame(&b, &a, false, &packet(false, UDP, b"x")), &[]));
    at_a.transmit.kick();
    world.run_until_idle();
    // Taking the frame sees that the header is empty.
    assert!(at_b.take().is_some());
    assert!(world.finish().is_clean());
}

#[test]
fn checksums_asked_for_wrongly() {
    let mut world = World::builder().collect_violations().build();
    let [(a, mut at_a), (b, _)] = two(&mut world, &config(), BASIC | CSUM);
    let send = |driver: &mut Driver, packet: &[u8]| {
        assert!(driver.queue(&frame(&b, &a, false, packet), &[]));
        driver.transmit.kick();
    };
    let good = packet(false, UDP, b"content");
    // Behind the end, across it, and in the Ethernet header.
    for (start, offset) in [(2000, 0), (34, 14), (34, 2000), (13, 6)] {
        ask(&mut at_a, start, offset);
        send(&mut at_a, &good);
    }
    // In segments; with a count of buffers; that have been looked at.
    for (at, value) in [(1, 1), (4, 100), (10, 1), (0, 2)] {
        ask(&mut at_a, 34, 6);
        at_a.header[at] = value;
        send(&mut at_a, &good);
    }
    // The field holds something else than the pseudo header's sum.
    let mut bad = good.clone();
    bad[26] ^= 1;
    ask(&mut at_a, 34, 6);
    send(&mut at_a, &bad);
    send(&mut at_a, &good);
    world.run_until_idle();
    assert_eq!(a.nic.counters().sent, 10);
    let report = world.finish();
    assert_eq!(names(&report.violations), [rules::HEADER; 9]);
    let text = &report.violations[8].text;
    assert!(text.contains("pseudo header"), "{text}");
}
