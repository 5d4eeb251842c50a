//! Real conversations between Linux soft-RoCE peers, and published frames: everything parses, every ICRC is right, and what
//! was parsed builds the same bytes again.

use arrayvec::ArrayVec;
use pcap_file::pcap::PcapReader;
use roce::wire::{
    Bth, EcnCodepoint, Error, EtherType, Ethernet, ExtHeaders, Icrc, Ip, Opcode, Packet, Udp,
    cm_msg, cma, frame, mad,
};
use roce::{Path, PathMtu};
use std::collections::BTreeMap;

const CAPTURES: [(&str, &[u8]); 6] = [
    ("rping", include_bytes!("../../data/rping.pcap")),
    ("write", include_bytes!("../../data/write.pcap")),
    ("read", include_bytes!("../../data/read.pcap")),
    ("send", include_bytes!("../../data/send.pcap")),
    ("atomic", include_bytes!("../../data/atomic.pcap")),
    ("noserver", include_bytes!("../../data/noserver.pcap")),
];

fn frames(pcap: &'static [u8]) -> Vec<Vec<u8>> {
    let mut reader = PcapReader::new(pcap).expect("a pcap file");
    let mut out = Vec::new();
    while let Some(packet) = reader.next_packet() {
        out.push(packet.expect("a whole packet").data.into_owned());
    }
    out
}

/// Layer by layer, from the representations alone.
fn rebuild(packet: &Packet<'_>, payload: &[u8]) -> Vec<u8> {
    let mut out = packet.eth.emit().to_vec();
    let ip_start = out.len();
    match packet.ip {
        Ip::V4(h) => out.extend(h.emit()),
        Ip::V6(h) => out.extend(h.emit()),
    }
    out.extend(packet.udp.emit());
    out.extend(packet.bth.emit());
    out.extend(packet.ext.emit(packet.bth.opcode).unwrap());
    let mut icrc = Icrc::start(&out[ip_start..]).unwrap();
    // In pieces, as payload of several buffers comes.
    for piece in payload.chunks(100) {
        icrc.update(piece);
    }
    out.extend(payload);
    out.extend(icrc.trailer(packet.bth.pad));
    out
}

/// By the way the engine builds frames: lengths, pad and checksum are computed, not carried over.
fn rebuild_by_header(packet: &Packet<'_>, payload: &[u8]) -> Vec<u8> {
    let path = Path {
        src_mac: packet.eth.src,
        dst_mac: packet.eth.dst,
        vlan: packet.eth.vlan,
        src_ip: packet.ip.src(),
        dst_ip: packet.ip.dst(),
        hop_limit: packet.ip.hop_limit(),
        traffic_class: packet.ip.traffic_class(),
        mtu: PathMtu::Mtu4096,
    };
    let bth = Bth {
        pad: 0,
        ..packet.bth
    };
    let header = frame::Header {
        ident: match packet.ip {
            Ip::V4(h) => h.ident,
            Ip::V6(_) => 0,
        },
        ..frame::Header::new(&path, packet.udp.src_port, bth, packet.ext)
    };
    let mut out = ArrayVec::<u8, { frame::MAX_HEADER }>::new();
    let mut icrc = header.write(payload.len(), &mut out).unwrap();
    icrc.update(payload);
    let mut out = out.to_vec();
    out.extend(payload);
    out.extend(icrc.trailer(frame::pad_of(payload.len())));
    out
}

/// Parses a MAD to a typed message and builds it again.
fn rebuild_mad(bytes: &[u8; mad::LEN]) -> [u8; mad::LEN] {
    let (header, message) = cm_msg::Message::parse(bytes).expect("a CM message");
    let message = match message {
        cm_msg::Message::Req(mut req) => {
            let (cma_bytes, _) = req.private.split_first_chunk().unwrap();
            let cma = cma::Header::parse(cma_bytes).expect("an IP service header");
            let port = cma::port_of(req.service_id).expect("a port of the TCP space");
            // These are rebuilt from their fields as well.
            req.private[..cma::Header::LEN].copy_from_slice(&cma.emit());
            req.service_id = cma::service_id(port);
            cm_msg::Message::Req(req)
        }
        other => other,
    };
    message.emit(header.transaction_id)
}

#[test]
fn every_captured_frame_rebuilds_bit_for_bit() {
    for (name, pcap) in CAPTURES {
        let mut roce = 0;
        let mut lan = 0;
        let mut messages = BTreeMap::<u16, usize>::new();
        for (number, bytes) in frames(pcap).iter().enumerate() {
            let at = format!("{name}.pcap frame {}", number + 1);
            let packet = match Packet::parse(bytes) {
                Ok(packet) => packet,
                Err(error) => {
                    assert_eq!(error, Error::NotRoce, "{at}");
                    assert!(is_housekeeping(bytes), "{at}");
                    lan += 1;
                    continue;
                }
            };
            roce += 1;
            assert_eq!(packet.verify_icrc(), Ok(()), "{at}");
            assert!(packet.pad.iter().all(|b| *b == 0), "{at}");
            assert!(!matches!(packet.bth.opcode, Opcode::Unknown(_)), "{at}");
            let payload = match mad::of_packet(&packet) {
                Some(bytes) => {
                    let (header, _) = mad::Header::parse(bytes);
                    *messages.entry(header.attribute_id).or_default() += 1;
                    rebuild_mad(bytes).to_vec()
                }
                None => {
                    assert!(!packet.bth.opcode.is_ud(), "{at}");
                    packet.payload.to_vec()
                }
            };
            assert_eq!(&rebuild(&packet, &payload), bytes, "{at}");
            assert_eq!(&rebuild_by_header(&packet, &payload), bytes, "{at}");
        }
        println!("{name}: {roce} RoCE, {lan} others, CM messages {messages:x?}");
        assert!(roce > 0 && lan > 0, "{name}");
        if name == "noserver" {
            assert_eq!(messages.keys().copied().collect::<Vec<_>>(), [0x10, 0x12]);
        } else {
            for attribute in [0x10, 0x13, 0x14, 0x15, 0x16] {
                assert!(messages.contains_key(&attribute), "{name}: {attribute:#x}");
            }
        }
    }
}

/// ARP, ICMPv6, or multicast listener reports behind a hop-by-hop header.
fn is_housekeeping(bytes: &[u8]) -> bool {
    let (eth, rest) = Ethernet::parse(bytes).unwrap();
    match eth.ethertype {
        EtherType::Arp => true,
        EtherType::Ipv6 => {
            matches!(Ip::parse(&eth, rest), Ok((Ip::V6(h), _)) if [0, 58].contains(&h.next_header))
        }
        EtherType::Ipv4 | EtherType::Other(_) => false,
    }
}

#[test]
fn captures_contain_what_their_commands_say() {
    let opcodes = |name: &str| {
        let (_, pcap) = CAPTURES.iter().find(|(n, _)| *n == name).unwrap();
        let mut found = BTreeMap::<u8, usize>::new();
        for bytes in frames(pcap) {
            if let Ok(packet) = Packet::parse(&bytes) {
                *found.entry(packet.bth.opcode.to_u8()).or_default() += 1;
            }
        }
        found
    };
    // 10000 bytes are three packets of a path MTU of 4096, five times.
    for (name, opcode) in [
        ("write", Opcode::WriteFirst),
        ("write", Opcode::WriteMiddle),
        ("write", Opcode::WriteLast),
        ("read", Opcode::ReadRequest),
        ("read", Opcode::ReadResponseFirst),
        ("read", Opcode::ReadResponseMiddle),
        ("read", Opcode::ReadResponseLast),
        ("send", Opcode::SendFirst),
        ("send", Opcode::SendLast),
        ("atomic", Opcode::FetchAdd),
        ("atomic", Opcode::AtomicAcknowledge),
    ] {
        assert_eq!(
            opcodes(name).get(&opcode.to_u8()),
            Some(&5),
            "{name} {opcode:?}"
        );
    }
}

#[test]
fn the_rejection_of_the_missing_server_reads_as_such() {
    let mut rejected = 0;
    for bytes in frames(CAPTURES[5].1) {
        let Ok(packet) = Packet::parse(&bytes) else {
            continue;
        };
        let mad = mad::of_packet(&packet).expect("only MADs here");
        if let (_, cm_msg::Message::Rej(rej)) = cm_msg::Message::parse(mad).unwrap() {
            assert_eq!(rej.reason, cm_msg::RejReason::INVALID_SERVICE_ID);
            assert_eq!(rej.message, cm_msg::Answered::Req);
            rejected += 1;
        }
    }
    assert!(rejected > 0);
}

fn is_refused(bytes: &[u8]) -> bool {
    Packet::parse(bytes).and_then(|p| p.verify_icrc()).is_err()
}

#[test]
fn r002_r003_only_what_routers_change_may_change() {
    // IPv4 TOS, TTL, header checksum; UDP checksum; BTH congestion byte.
    const VARIANT: [usize; 7] = [15, 22, 24, 25, 40, 41, 46];
    let frames = frames(CAPTURES[0].1);
    let bytes = frames
        .iter()
        .find(|f| Packet::parse(f).is_ok_and(|p| p.bth.opcode == Opcode::SendOnly))
        .expect("a SEND");
    for at in 14..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            assert_eq!(
                is_refused(&changed),
                !VARIANT.contains(&at),
                "byte {at} bit {bit}"
            );
        }
    }
    for len in 0..bytes.len() {
        assert!(is_refused(&bytes[..len]), "cut to {len}");
    }
}

#[test]
fn r005_ethernet_padding_is_ignored() {
    let plain = framed(VECTORS[0].1);
    let mut padded = plain.clone();
    padded.resize(plain.len() + 20, 0xa5);
    let packet = Packet::parse(&padded).unwrap();
    assert_eq!(packet.verify_icrc(), Ok(()));
    assert_eq!(rebuild(&packet, packet.payload), plain);
}

/// An IP packet in hexadecimal, framed.
fn framed(ip_hex: &str) -> Vec<u8> {
    let ip = unhex(ip_hex);
    let eth = Ethernet {
        dst: [2, 0, 0, 0, 0, 2],
        src: [2, 0, 0, 0, 0, 1],
        vlan: None,
        ethertype: if ip[0] >> 4 == 4 {
            EtherType::Ipv4
        } else {
            EtherType::Ipv6
        },
    };
    let mut frame = eth.emit().to_vec();
    frame.extend(ip);
    frame
}

fn unhex(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|d| u8::try_from(d).unwrap())
        .collect();
    digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect()
}

const VECTORS: [(&str, &str); 10] = [
    (
        "V1 ACK",
        "45000030 00004000 4011b969 c0a80002 c0a80001 df9412b7 001c0000 1100ffff 00000011 00000100 1f000001 dfb6c78e",
    ),
    (
        "V2 SEND ONLY, pad 3",
        "45000034 00004000 4011b965 c0a80001 c0a80002 df9412b7 00200000 0430ffff 00000012 80000100 68656c6c 6f000000 7d57f02f",
    ),
    (
        "V3 WRITE ONLY over IPv6",
        "60000000 002c1140 fd000000 00000000 00000000 00000001 fd000000 00000000 00000000 00000002 df9412b7 002c0000
         0a00ffff 00000012 80ffffff 00007f00 00001000 00001234 00000004 deadbeef 69dda317",
    ),
    (
        "V4 READ REQUEST",
        "4500003c 00004000 4011b95d c0a80001 c0a80002 df9412b7 00280000 0c00ffff 00000012 80000101 00000000 00001000
         00001234 00001000 9c721599",
    ),
    (
        "V5 RNR NAK",
        "45000030 00004000 4011b969 c0a80002 c0a80001 df9412b7 001c0000 1100ffff 00000011 00000102 2c000002 4ae3908f",
    ),
    (
        "V11 CMP SWAP",
        "45000048 00004000 4011b951 c0a80001 c0a80002 df9412b7 00340000 1300ffff 00000012 80000200 00000000 00002000
         00001234 11111111 22222222 33333333 44444444 7a9bca3a",
    ),
    (
        "V12 ATOMIC ACK",
        "45000038 00004000 4011b961 c0a80002 c0a80001 df9412b7 00240000 1200ffff 00000011 00000200 1f000003 33333333
         44444444 58ba1700",
    ),
    (
        "V13 SEND ONLY INV",
        "45000030 00004000 4011b969 c0a80001 c0a80002 df9412b7 001c0000 1700ffff 00000012 80000201 00001234 3c13ccba",
    ),
    (
        "HW1 CNP",
        "45c2003c 718c4000 40119161 0a001101 0a001201 000012b7 00280000 8100ffff 40000118 00000000
         00000000 00000000 00000000 00000000 82fd002a",
    ),
    (
        "HW2 UC SEND ONLY, pad 2",
        "45010040 04784000 4011b4d5 c0a80007 c0a80007 c00012b7 002c0000 2460ffff 000000d3 00cf1710
         4630818b e28935d9 0e9a9550 5401be88 5e500000 78f353f3",
    ),
];

#[test]
fn marks_of_real_packets_and_a_real_congestion_notification() {
    let ecn = |name: &str| {
        let (_, hex) = VECTORS.iter().find(|(n, _)| n.starts_with(name)).unwrap();
        let bytes = framed(hex);
        Packet::parse(&bytes).unwrap().ecn()
    };
    assert_eq!(ecn("V5"), EcnCodepoint::NotCapable);
    assert_eq!(ecn("HW1"), EcnCodepoint::Capable0);
    assert_eq!(ecn("HW2"), EcnCodepoint::Capable1);
    let (_, hex) = VECTORS.iter().find(|(n, _)| *n == "HW1 CNP").unwrap();
    let mut bytes = framed(hex);
    let packet = Packet::parse(&bytes).unwrap();
    assert_eq!(packet.bth.opcode, Opcode::Cnp);
    assert!(packet.bth.becn && !packet.bth.fecn);
    assert_eq!((packet.bth.dest_qpn, packet.bth.psn.get()), (0x118, 0));
    assert_eq!(packet.payload, [0; 16]);
    // A switch may mark it on its way.
    bytes[15] |= 3;
    let packet = Packet::parse(&bytes).unwrap();
    assert_eq!(packet.ecn(), EcnCodepoint::Congested);
    assert_eq!(packet.verify_icrc(), Ok(()));
}

#[test]
fn r001_icrc_of_the_vectors() {
    for (name, hex) in VECTORS {
        let bytes = framed(hex);
        let packet = Packet::parse(&bytes).expect(name);
        assert_eq!(packet.verify_icrc(), Ok(()), "{name}");
        assert_eq!(rebuild(&packet, packet.payload), bytes, "{name}");
        assert_eq!(rebuild_by_header(&packet, packet.payload), bytes, "{name}");
    }
}

#[test]
fn r009_reserved_bits_and_migration_state_are_ignored() {
    // The reserved bits of BTH byte 8 are covered by the ICRC, which therefore has to be computed anew.
    let mut bytes = framed(VECTORS[0].1);
    bytes[43] |= 0x40;
    bytes[50] |= 0x7f;
    let end = bytes.len() - 4;
    let icrc = Icrc::start(&bytes[14..end]).unwrap().finish();
    bytes[end..].copy_from_slice(&icrc);
    let packet = Packet::parse(&bytes).unwrap();
    assert_eq!(packet.verify_icrc(), Ok(()));
    assert!(packet.bth.mig_req && !packet.bth.ack_req);
    let plain = framed(VECTORS[0].1);
    let plain = Packet::parse(&plain).unwrap();
    assert_eq!(
        Bth {
            mig_req: false,
            ..packet.bth
        },
        plain.bth
    );
}

#[test]
fn r012_a_vlan_tag_changes_nothing_else() {
    for (name, hex) in VECTORS {
        let plain = framed(hex);
        let mut tagged = plain[..12].to_vec();
        tagged.extend([0x81, 0x00, 0x60, 0x05]);
        tagged.extend(&plain[12..]);
        let packet = Packet::parse(&tagged).expect(name);
        assert_eq!(packet.eth.vlan, Some(0x6005));
        assert_eq!(packet.verify_icrc(), Ok(()), "{name}");
        assert_eq!(packet.icrc, Packet::parse(&plain).unwrap().icrc);
        assert_eq!(rebuild_by_header(&packet, packet.payload), tagged, "{name}");
    }
}

#[test]
fn r013_ipv6_flow_label_and_traffic_class_do_not_matter() {
    let mut bytes = framed(VECTORS[2].1);
    bytes[14..18].copy_from_slice(&[0x6b, 0x8a, 0xbc, 0xde]);
    let packet = Packet::parse(&bytes).unwrap();
    assert_eq!(packet.verify_icrc(), Ok(()));
    let Ip::V6(ip) = packet.ip else {
        panic!("IPv6")
    };
    assert_eq!((ip.traffic_class, ip.flow_label), (0xb8, 0xa_bcde));
    assert_eq!(rebuild(&packet, packet.payload), bytes);
}

#[test]
fn r004_pad_follows_the_length() {
    let bytes = framed(VECTORS[0].1);
    let ack = Packet::parse(&bytes).unwrap();
    for len in 0..64 {
        let payload: Vec<u8> = (0..len).collect();
        let mut send = ack;
        send.bth.opcode = Opcode::SendOnly;
        send.ext = ExtHeaders::NONE;
        let bytes = rebuild_by_header(&send, &payload);
        let parsed = Packet::parse(&bytes).unwrap();
        assert_eq!(parsed.verify_icrc(), Ok(()));
        assert_eq!(parsed.payload, payload);
        assert_eq!(parsed.pad.len(), (4 - payload.len() % 4) % 4);
        assert!(parsed.pad.iter().all(|b| *b == 0));
    }
}

#[test]
fn r006_malformed_packets_are_refused() {
    let good = framed(VECTORS[0].1);
    let changed = |at: usize, to: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + to.len()].copy_from_slice(to);
        Packet::parse(&bytes).map(|_| ()).unwrap_err()
    };
    // BTH begins at 14 + 20 + 8.
    assert_eq!(changed(43, &[0x01]), Error::TransportVersion);
    assert_eq!(changed(47, &[0, 0, 0]), Error::ZeroQpn);
    assert_eq!(changed(36, &[0x12, 0xb8]), Error::NotRoce);
    assert_eq!(changed(38, &[0, 7]), Error::BadLength);
    assert_eq!(changed(38, &[0, 8]), Error::BadLength);
    assert_eq!(changed(38, &[0, 23]), Error::BadLength);
    assert_eq!(changed(38, &[0, 29]), Error::Truncated);
    // Pad without payload.
    assert_eq!(changed(43, &[0x10]), Error::BadLength);
    // More fragments follow; a later fragment.
    assert_eq!(changed(20, &[0x20, 0]), Error::NotRoce);
    assert_eq!(changed(20, &[0, 1]), Error::NotRoce);
}

#[test]
fn udp_of_another_port_is_not_ours() {
    let mut bytes = framed(VECTORS[0].1);
    let udp = Packet::parse(&bytes).unwrap().udp;
    let other = Udp {
        dst_port: 53,
        ..udp
    };
    bytes[34..42].copy_from_slice(&other.emit());
    assert_eq!(Packet::parse(&bytes).unwrap_err(), Error::NotRoce);
}
