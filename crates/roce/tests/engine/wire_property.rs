//! Any bytes: nothing panics. Any packet: what is built parses to the same.

use arrayvec::ArrayVec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use roce::wire::{
    Aeth, AtomicAckEth, AtomicEth, Bth, Deth, ExtHeaders, Icrc, Ieth, Immediate, Ip, Opcode,
    Packet, Reth, Syndrome, cm_msg, cma, frame, mad,
};
use roce::{Path, PathMtu, Psn};
use std::net::IpAddr;

/// The extended headers of an opcode, filled in at random.
fn ext(opcode: Opcode, r: [u64; 4]) -> ExtHeaders {
    // Each field gets what it can hold.
    let low = |v: u64| (v & 0xffff_ffff) as u32;
    let low24 = |v: u64| (v & 0xff_ffff) as u32;
    ExtHeaders {
        deth: opcode.has_deth().then_some(Deth {
            qkey: low(r[0]),
            src_qpn: low24(r[1]),
        }),
        reth: opcode.has_reth().then_some(Reth {
            va: r[0],
            rkey: low(r[1]),
            len: low(r[2]),
        }),
        atomic: opcode.has_atomic_eth().then_some(AtomicEth {
            va: r[0],
            rkey: low(r[1]),
            swap_add: r[2],
            compare: r[3],
        }),
        aeth: opcode.has_aeth().then_some(Aeth {
            syndrome: Syndrome::from_u8((r[0] & 0xff) as u8),
            msn: low24(r[1]),
        }),
        atomic_ack: opcode
            .has_atomic_ack_eth()
            .then_some(AtomicAckEth { original: r[2] }),
        immediate: opcode
            .has_immediate()
            .then_some(Immediate(low(r[3]).to_be_bytes())),
        ieth: opcode.has_ieth().then_some(Ieth { rkey: low(r[3]) }),
    }
}

fn addresses() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    prop_oneof![
        any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (a.into(), b.into())),
        any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (a.into(), b.into())),
    ]
}

fn path() -> impl Strategy<Value = Path> {
    (
        any::<[u8; 6]>(),
        any::<[u8; 6]>(),
        addresses(),
        any::<Option<u16>>(),
        any::<u8>(),
        any::<u8>(),
    )
        .prop_map(
            |(src_mac, dst_mac, (src_ip, dst_ip), vlan, hop_limit, traffic_class)| Path {
                src_mac,
                dst_mac,
                vlan,
                src_ip,
                dst_ip,
                hop_limit,
                traffic_class,
                mtu: PathMtu::Mtu4096,
            },
        )
}

fn bth() -> impl Strategy<Value = Bth> {
    (
        any::<u8>(),
        any::<[bool; 5]>(),
        any::<u16>(),
        1u32..1 << 24,
        any::<u32>(),
    )
        .prop_map(|(opcode, flags, pkey, dest_qpn, psn)| Bth {
            solicited: flags[0],
            mig_req: flags[1],
            fecn: flags[2],
            becn: flags[3],
            ack_req: flags[4],
            pkey,
            ..Bth::new(Opcode::from_u8(opcode), dest_qpn, Psn::new(psn))
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_built_parses_to_the_same(
        path in path(),
        bth in bth(),
        fields in any::<[u64; 4]>(),
        ports in any::<(u16, u16)>(),
        payload in proptest::collection::vec(any::<u8>(), 0..300),
        cut in any::<prop::sample::Index>(),
    ) {
        let ext = ext(bth.opcode, fields);
        let header = frame::Header { ident: ports.1, ..frame::Header::new(&path, ports.0, bth, ext) };
        let mut head = ArrayVec::<u8, { frame::MAX_HEADER }>::new();
        let mut icrc = header.write(payload.len(), &mut head).unwrap();
        let (first, second) = payload.split_at(cut.index(payload.len() + 1));
        icrc.update(first);
        icrc.update(second);
        let mut bytes = head.to_vec();
        bytes.extend(&payload);
        bytes.extend(icrc.trailer(frame::pad_of(payload.len())));

        if !payload.is_empty() && !bth.opcode.has_payload() {
            prop_assert_eq!(Packet::parse(&bytes).err(), Some(roce::wire::Error::BadLength));
            return Ok(());
        }
        let packet = Packet::parse(&bytes).unwrap();
        prop_assert_eq!(packet.verify_icrc(), Ok(()));
        prop_assert_eq!(packet.bth, Bth { pad: frame::pad_of(payload.len()), ..bth });
        prop_assert_eq!(packet.ext, ext);
        prop_assert_eq!(packet.payload, &payload[..]);
        prop_assert_eq!((packet.ip.src(), packet.ip.dst()), (path.src_ip, path.dst_ip));
        prop_assert_eq!((packet.ip.hop_limit(), packet.ip.traffic_class()), (path.hop_limit, path.traffic_class));
        prop_assert_eq!((packet.eth.src, packet.eth.dst, packet.eth.vlan), (path.src_mac, path.dst_mac, path.vlan));
        prop_assert_eq!(packet.udp.src_port, ports.0);
        if let Ip::V4(ip) = packet.ip {
            prop_assert_eq!(ip.ident, ports.1);
            prop_assert_eq!(&ip.emit()[..], &bytes[bytes.len() - usize::from(ip.total_len)..][..20]);
        }
        // Any part of it is refused or wrong, and no part makes anything panic.
        for len in 0..bytes.len() {
            prop_assert!(Packet::parse(&bytes[..len]).and_then(|p| p.verify_icrc()).is_err());
        }
    }

    #[test]
    fn any_bytes_are_taken_in_good_part(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Packet::parse(&bytes);
        let _ = Icrc::start(&bytes);
        for opcode in 0..=255 {
            let _ = ExtHeaders::parse(Opcode::from_u8(opcode), &bytes);
        }
        if let Some((mad, _)) = bytes.split_first_chunk::<{ mad::LEN }>() {
            let _ = cm_msg::Message::parse(mad);
        }
        if let Some((header, _)) = bytes.split_first_chunk::<{ cma::Header::LEN }>() {
            let _ = cma::Header::parse(header);
        }
    }

    /// Random bytes rarely get past the UDP port: begin with something that does.
    #[test]
    fn a_frame_with_any_bytes_changed_is_taken_in_good_part(
        path in path(),
        bth in bth(),
        fields in any::<[u64; 4]>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        len in 0usize..64,
        tail in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let header = frame::Header::new(&path, 0xc000, bth, ext(bth.opcode, fields));
        let mut head = ArrayVec::<u8, { frame::MAX_HEADER }>::new();
        header.write(len, &mut head).unwrap();
        let mut bytes = head.to_vec();
        bytes.extend(&tail);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(packet) = Packet::parse(&bytes) {
            prop_assert!(packet.payload.len() + packet.pad.len() <= bytes.len());
            prop_assert!(packet.bth.dest_qpn != 0 && packet.bth.tver == 0);
            let _ = packet.verify_icrc();
            let _ = mad::of_packet(&packet);
        }
    }

    #[test]
    fn an_ip_service_header_maps_back(ips in addresses(), src_port in any::<u16>(), port in any::<u16>()) {
        let header = cma::Header { src_port, src: ips.0, dst: ips.1 };
        prop_assert_eq!(cma::Header::parse(&header.emit()), Ok(header));
        prop_assert_eq!(cma::port_of(cma::service_id(port)), Some(port));
    }
}

#[test]
fn a_builder_refuses_what_cannot_be() {
    let path = Path {
        src_mac: [2; 6],
        dst_mac: [4; 6],
        vlan: None,
        src_ip: [10, 0, 0, 1].into(),
        dst_ip: [10, 0, 0, 2].into(),
        hop_limit: 64,
        traffic_class: 0,
        mtu: PathMtu::Mtu4096,
    };
    let bth = Bth::new(Opcode::SendOnly, 2, Psn::ZERO);
    let mut out = ArrayVec::<u8, { frame::MAX_HEADER }>::new();
    out.push(7);
    let write = |path: &Path, bth, ext, len, out: &mut ArrayVec<u8, { frame::MAX_HEADER }>| {
        frame::Header::new(path, 0xc000, bth, ext)
            .write(len, out)
            .map(|_| ())
            .unwrap_err()
    };
    use roce::wire::Error;
    assert_eq!(
        write(&path, bth, ExtHeaders::NONE, 65_536, &mut out),
        Error::TooLong
    );
    assert_eq!(
        write(&path, bth, ExtHeaders::NONE, usize::MAX, &mut out),
        Error::TooLong
    );
    // The UDP length would still fit, the IP length does not.
    assert_eq!(
        write(&path, bth, ExtHeaders::NONE, 65_535 - 40, &mut out),
        Error::TooLong
    );
    let ack = Bth::new(Opcode::Acknowledge, 2, Psn::ZERO);
    assert_eq!(
        write(&path, ack, ExtHeaders::NONE, 0, &mut out),
        Error::HeaderMismatch
    );
    let mixed = Path {
        src_ip: "fd00::1".parse().unwrap(),
        ..path
    };
    assert_eq!(
        write(&mixed, bth, ExtHeaders::NONE, 0, &mut out),
        Error::HeaderMismatch
    );
    assert_eq!(out[..], [7]);
    let mut small = ArrayVec::<u8, 20>::new();
    assert!(
        frame::Header::new(&path, 0xc000, bth, ExtHeaders::NONE)
            .write(0, &mut small)
            .is_err()
    );
    assert!(small.is_empty());
}

/// The IP header says where the datagram ends, whatever the UDP header claims and whatever follows in the frame.
#[test]
fn a_datagram_ends_with_its_ip_packet() {
    for ip in [["10.0.0.1", "10.0.0.2"], ["fd00::1", "fd00::2"]] {
        let [src_ip, dst_ip] = ip.map(|ip| ip.parse().unwrap());
        let path = Path {
            src_mac: [2, 0, 0, 0, 0, 1],
            dst_mac: [2, 0, 0, 0, 0, 2],
            vlan: None,
            src_ip,
            dst_ip,
            hop_limit: 64,
            traffic_class: 0,
            mtu: PathMtu::Mtu4096,
        };
        let bth = Bth::new(Opcode::SendOnly, 5, Psn::new(1));
        let header = frame::Header::new(&path, 0xc000, bth, ExtHeaders::NONE);
        let mut head = ArrayVec::<u8, { frame::MAX_HEADER }>::new();
        let mut icrc = header.write(8, &mut head).unwrap();
        icrc.update(&[7; 8]);
        let mut bytes = head.to_vec();
        bytes.extend([7; 8]);
        bytes.extend(icrc.trailer(0));
        // Padding of the Ethernet does not matter.
        bytes.extend([0xee; 30]);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(
            (packet.payload, packet.verify_icrc()),
            (&[7; 8][..], Ok(()))
        );
        // An IP packet shorter than its datagram: what follows in the frame is not the datagram's.
        let at = if src_ip.is_ipv4() { 14 + 2 } else { 14 + 4 };
        let len = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        for shorter in 1..len.min(24) {
            let mut cut = bytes.clone();
            cut[at..at + 2].copy_from_slice(&(len - shorter).to_be_bytes());
            assert!(Packet::parse(&cut).is_err(), "{src_ip} {shorter}");
        }
    }
}
