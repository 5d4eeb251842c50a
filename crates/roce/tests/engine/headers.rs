//! Packets as they come: which headers matter, what is dropped, and what changes nothing.

use crate::util::raw::syndrome::*;
use crate::util::raw::{PSN, Raw};
use crate::util::*;
use roce::wire::Opcode::*;
use roce::wire::frame::{Header, pad_of};
use roce::wire::{Bth, EcnCodepoint, ExtHeaders, Opcode, Packet, Reth};
use roce::{Status, Verdict};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;

#[test]
fn r011_unknown_opcodes_change_nothing() {
    let mut r = Raw::small();
    for op in [0x15, 0x18, 0x1c, 0x1f, 0x20, 0x44, 0xe0, 0x64] {
        let op = Opcode::from_u8(op);
        let deth = op.has_deth().then_some(roce::wire::Deth {
            qkey: 0,
            src_qpn: 1,
        });
        r.inject_ext(
            op,
            PSN,
            ExtHeaders {
                deth,
                ..ExtHeaders::NONE
            },
            &[0; 16],
        );
        r.silence();
    }
    assert_eq!(r.host.engine.counters().drop_opcode, 8);
    r.inject_reth(
        WriteOnly,
        PSN,
        Reth {
            va: 0,
            rkey: 0,
            len: 0,
        },
        &[],
    );
    assert_eq!(r.only_ack(), (PSN, ACK));
}

/// To who does not react to congestion, notifications mean nothing, not even that the peer lives; what is none is told apart all the same.
#[test]
fn r011_notifications_of_congestion_are_consumed_and_change_nothing() {
    for ipv6 in [false, true] {
        let mut r = Raw::new(Setup {
            ipv6,
            ..Setup::small()
        });
        let src = r.host.open(pattern(600, 1));
        r.host
            .send(r.now, r.qp, 1, roce::SendOp::Send, &[src.all()]);
        assert_eq!(r.replies().len(), 3);
        let deadline = r.host.engine.next_deadline();
        assert!(deadline.is_some());
        let path = r.path;
        let good = Bth {
            becn: true,
            ..r.bth(Cnp, 0)
        };
        let cnp = |r: &Raw, bth, payload: &[u8]| r.frame(bth, ExtHeaders::NONE, payload);
        for reserved in [[0; 16], [0xff; 16]] {
            let frame = cnp(&r, good, &reserved);
            r.feed(&frame);
            r.silence();
        }
        let counters = *r.host.engine.counters();
        assert_eq!((counters.rx_cnps, counters.rx_frames), (2, 2));
        assert_eq!(counters.drop_opcode + counters.drop_qp_state, 0);
        for len in [0, 12, 20] {
            let frame = cnp(&r, good, &vec![0; len]);
            r.feed(&frame);
        }
        let other = Bth {
            pkey: 0x8001,
            ..good
        };
        let frame = cnp(&r, other, &[0; 16]);
        r.feed(&frame);
        let mut frame = cnp(&r, good, &[0; 16]);
        let last = frame.len() - 1;
        frame[last] ^= 1;
        r.feed(&frame);
        r.path.src_ip = r.path.dst_ip;
        let frame = cnp(&r, good, &[0; 16]);
        r.feed(&frame);
        r.path = path;
        r.silence();
        let counters = *r.host.engine.counters();
        assert_eq!(counters.rx_cnps, 2);
        assert_eq!(counters.drop_malformed, 3);
        let dropped = [
            counters.drop_pkey,
            counters.drop_icrc,
            counters.drop_wrong_peer,
        ];
        assert_eq!(dropped, [1; 3]);
        assert_eq!(r.host.engine.next_deadline(), deadline);
        // Neither did they acknowledge anything, nor fail it.
        r.acknowledge(PSN + 2, ACK);
        r.silence();
        assert_eq!(outcomes(&r.host.completions), [(1, Status::Success)]);
    }
}

/// What the network marks is counted, and otherwise as good as any other frame.
#[test]
fn marks_of_congestion_are_counted_and_change_nothing() {
    for ipv6 in [false, true] {
        let mut r = Raw::new(Setup {
            ipv6,
            ..Setup::small()
        });
        for ecn in 0..4 {
            r.path.traffic_class = 0xb8 | ecn;
            let psn = PSN + u32::from(ecn);
            let zero = Reth {
                va: 0,
                rkey: 0,
                len: 0,
            };
            r.inject_reth(WriteOnly, psn, zero, &[]);
            let frame = r.host.transmit(r.now).unwrap();
            let packet = Packet::parse(&frame).unwrap();
            assert_eq!(
                (packet.bth.opcode, packet.bth.psn.get()),
                (Acknowledge, psn)
            );
            assert_eq!(packet.ecn(), EcnCodepoint::NotCapable);
            r.silence();
        }
        let counters = r.host.engine.counters();
        assert_eq!((counters.rx_congested, counters.tx_cnps), (1, 0));
    }
}

#[test]
fn r003_r006_r007_r009_r010_what_is_dropped_and_what_is_not() {
    let mut r = Raw::small();
    let zero = Reth {
        va: 0,
        rkey: 0,
        len: 0,
    };
    let ext = ExtHeaders {
        reth: Some(zero),
        ..ExtHeaders::NONE
    };
    let good = Bth {
        ack_req: true,
        ..r.bth(WriteOnly, PSN)
    };
    let counters = |r: &Raw| *r.host.engine.counters();

    let frame = r.frame(
        Bth {
            dest_qpn: r.qpn ^ 0x10_0000,
            ..good
        },
        ext,
        &[],
    );
    r.feed(&frame);
    assert_eq!(counters(&r).drop_unknown_qp, 1);
    let frame = r.frame(
        Bth {
            pkey: 0x8001,
            ..good
        },
        ext,
        &[],
    );
    r.feed(&frame);
    assert_eq!(counters(&r).drop_pkey, 1);
    // The IP identification, the UDP source port, AckReq and PSN, and all that follows, the ICRC itself included.
    let frame = r.frame(good, ext, &[]);
    let mut changed = 0;
    for at in [18, 19, 34, 35].into_iter().chain(50..frame.len()) {
        let mut frame = frame.clone();
        frame[at] ^= 1;
        r.feed(&frame);
        r.silence();
        changed += 1;
        assert_eq!(counters(&r).drop_icrc, changed, "byte {at}");
    }
    let path = r.path;
    r.path.src_ip = "10.0.0.3".parse().unwrap();
    let frame = r.frame(good, ext, &[]);
    r.feed(&frame);
    assert_eq!(counters(&r).drop_wrong_peer, 1);
    r.path = path;
    let frame = r.frame(Bth { tver: 1, ..good }, ext, &[]);
    r.feed(&frame);
    assert_eq!(counters(&r).drop_malformed, 1);
    r.silence();

    // Limited membership, migration bit, congestion marks: all fine. And Ethernet padding is not payload.
    let odd = Bth {
        pkey: 0x7fff,
        mig_req: true,
        fecn: true,
        becn: true,
        ..good
    };
    let mut frame = r.frame(odd, ext, &[]);
    frame.extend([0; 9]);
    r.feed(&frame);
    assert_eq!(r.only_ack(), (PSN, ACK));
    assert_eq!(counters(&r).rx_frames, 5 + changed);
}

#[test]
fn r008_any_source_port_is_accepted_and_ours_is_constant() {
    let mut r = Raw::small();
    let zero = Reth {
        va: 0,
        rkey: 0,
        len: 0,
    };
    let mut ports = Vec::new();
    for (i, port) in [0u16, 1, 4791, 0xffff].into_iter().enumerate() {
        let ext = ExtHeaders {
            reth: Some(zero),
            ..ExtHeaders::NONE
        };
        let bth = Bth {
            ack_req: true,
            ..r.bth(WriteOnly, PSN + i as u32)
        };
        let mut header = arrayvec::ArrayVec::<u8, 256>::new();
        let icrc = roce::wire::frame::Header::new(&r.path, port, bth, ext)
            .write(0, &mut header)
            .unwrap();
        let frame = [&header[..], &icrc.trailer(0)].concat();
        r.feed(&frame);
        let frame = r.host.transmit(r.now).unwrap();
        ports.push(u16::from_be_bytes([frame[34], frame[35]]));
    }
    assert!(
        ports[0] >= 0xc000 && ports.iter().all(|p| *p == ports[0]),
        "{ports:x?}"
    );
}

/// A WRITE of nothing to nowhere that asks for an acknowledgement.
fn nothing(r: &Raw, psn: u32) -> (Bth, ExtHeaders) {
    let bth = Bth {
        ack_req: true,
        ..r.bth(WriteOnly, psn)
    };
    let reth = Reth {
        va: 0,
        rkey: 0,
        len: 0,
    };
    let ext = ExtHeaders {
        reth: Some(reth),
        ..ExtHeaders::NONE
    };
    (bth, ext)
}

/// A pad need not be zero, whatever the specification wants of who sends it.
#[test]
fn r004_a_pad_is_no_part_of_what_is_delivered() {
    for len in 1..9 {
        for op in [SendOnly, WriteOnly] {
            let mut r = Raw::small();
            let mr = r.host.open(vec![0; 16]);
            r.receive(1, &mr);
            let ext = ExtHeaders {
                reth: op.has_reth().then(|| mr.reth(0, len as u32)),
                ..ExtHeaders::NONE
            };
            let bth = Bth {
                ack_req: true,
                ..r.bth(op, PSN)
            };
            let mut header = arrayvec::ArrayVec::<u8, 256>::new();
            let mut icrc = Header::new(&r.path, 0xc123, bth, ext)
                .write(len, &mut header)
                .unwrap();
            let body = [vec![1; len], vec![0xff; pad_of(len).into()]].concat();
            icrc.update(&body);
            let frame = [&header[..], &body, &icrc.trailer(0)].concat();
            r.feed(&frame);
            assert_eq!(r.only_ack(), (PSN, ACK), "{op:?} {len}");
            assert_eq!(
                r.host.bytes(&mr),
                [vec![1; len], vec![0; 16 - len]].concat()
            );
            let bytes: Vec<_> = r.host.completions.iter().map(|c| c.bytes).collect();
            let want: &[u32] = if op == SendOnly { &[len as u32] } else { &[] };
            assert_eq!(bytes, want);
        }
    }
}

#[test]
fn r006_impossible_lengths_and_numbers_are_malformed_and_other_ports_are_others() {
    let mut r = Raw::small();
    let (good, ext) = nothing(&r, PSN);
    let frame = r.frame(good, ext, &[]);
    let length = u16::from_be_bytes([frame[38], frame[39]]);
    assert_eq!(usize::from(length), frame.len() - 34);
    let mut malformed = 0;
    let mut wrong = |r: &mut Raw, frame: &[u8], what: String| {
        r.feed(frame);
        r.silence();
        malformed += 1;
        assert_eq!(r.host.engine.counters().drop_malformed, malformed, "{what}");
    };
    // Any shorter one, and longer ones than there are bytes.
    for other in (0..length).chain([length + 1, length + 4, u16::MAX]) {
        let mut frame = frame.clone();
        frame[38..40].copy_from_slice(&other.to_be_bytes());
        wrong(&mut r, &frame, format!("length {other}"));
    }
    for tver in 1..16 {
        let frame = r.frame(Bth { tver, ..good }, ext, &[]);
        wrong(&mut r, &frame, format!("version {tver}"));
    }
    let number = Bth {
        dest_qpn: 0,
        ..good
    };
    let zero = r.frame(number, ext, &[]);
    wrong(&mut r, &zero, "number 0".into());
    for port in [0, 4790, 4792, 0xc123] {
        let mut frame = frame.clone();
        frame[36..38].copy_from_slice(&u16::to_be_bytes(port));
        let verdict = r.host.engine.receive(r.now, &frame, &mut r.host.memory);
        assert_eq!(verdict, Verdict::NotRoce, "port {port}");
    }
    assert_eq!(r.host.engine.counters().rx_frames, malformed);
    r.silence();
    r.feed(&frame);
    assert_eq!(r.only_ack(), (PSN, ACK));
}

#[test]
fn r007_two_partition_keys_are_accepted_and_no_other() {
    let mut r = Raw::small();
    let mut accepted = Vec::new();
    for pkey in 0..=u16::MAX {
        let (bth, ext) = nothing(&r, PSN + accepted.len() as u32);
        let frame = r.frame(Bth { pkey, ..bth }, ext, &[]);
        r.feed(&frame);
        if !r.packets().is_empty() {
            accepted.push(pkey);
        }
    }
    assert_eq!(accepted, [0x7fff, 0xffff]);
    assert_eq!(r.host.engine.counters().drop_pkey, 0x10000 - 2);
}

/// From and to anybody else, over either protocol, whether it asks or answers.
#[test]
fn r010_packets_between_other_addresses_are_dropped() {
    for ipv6 in [false, true] {
        let mut r = Raw::new(Setup {
            ipv6,
            ..Setup::small()
        });
        let path = r.path;
        let stranger: IpAddr = match ipv6 {
            false => "10.0.0.3".parse().unwrap(),
            true => "fd00::3".parse().unwrap(),
        };
        r.host.send(r.now, r.qp, 1, roce::SendOp::Send, &[]);
        assert_eq!(r.packets(), [(SendOnly, PSN)]);
        let exchange = |r: &mut Raw| {
            let (bth, ext) = nothing(r, PSN);
            let frame = r.frame(bth, ext, &[]);
            r.feed(&frame);
            r.acknowledge(PSN, ACK);
        };
        for (n, (src_ip, dst_ip)) in [
            (stranger, path.dst_ip),
            (path.src_ip, stranger),
            (stranger, stranger),
            (path.dst_ip, path.src_ip),
        ]
        .into_iter()
        .enumerate()
        {
            r.path = roce::Path {
                src_ip,
                dst_ip,
                ..path
            };
            exchange(&mut r);
            r.silence();
            assert_eq!(r.host.completions, []);
            let dropped = r.host.engine.counters().drop_wrong_peer;
            assert_eq!(dropped, 2 * (n as u64 + 1), "{src_ip} {dst_ip}");
        }
        r.path = path;
        exchange(&mut r);
        assert_eq!(r.only_ack(), (PSN, ACK));
        assert_eq!(outcomes(&r.host.completions), [(1, Status::Success)]);
    }
}

#[test]
fn r008_each_queue_pair_sends_everything_from_one_port() {
    let (mut p, qa, qb) = Pair::attached(Setup::small());
    let (qa2, qb2) = p.attach();
    let ports = Rc::new(RefCell::new(BTreeMap::<_, BTreeSet<u16>>::new()));
    let seen = ports.clone();
    p.net.script = Box::new(move |from, packet| {
        let mut seen = seen.borrow_mut();
        let ports = seen.entry((from, packet.bth.dest_qpn)).or_default();
        ports.insert(packet.udp.src_port);
        // Repetitions, too.
        match packet.bth.psn.get() % 5 {
            0 => Fate::Twice,
            _ => Fate::Pass,
        }
    });
    let memory = [p.a.open(pattern(2000, 1)), p.b.open(pattern(2000, 2))];
    for (from, qp, peer) in [
        (Side::A, qa, qb),
        (Side::B, qb, qa),
        (Side::A, qa2, qb2),
        (Side::B, qb2, qa2),
    ] {
        let now = p.now;
        let (own, other) = (memory[from as usize], memory[from.other() as usize]);
        let receiver = p.host(from.other());
        receiver
            .engine
            .post_recv(now, peer, 1, &[other.all()])
            .unwrap();
        let sender = p.host(from);
        sender.send(now, qp, 2, roce::SendOp::Send, &[own.all()]);
        sender.send(now, qp, 3, other.write(), &[own.all()]);
        sender.send(now, qp, 4, other.read(), &[own.all()]);
        p.run(SECOND);
    }
    assert_eq!((p.a.completions.len(), p.b.completions.len()), (8, 8));
    let ports = ports.borrow();
    assert_eq!(ports.len(), 4);
    for (way, ports) in ports.iter() {
        assert!(
            ports.len() == 1 && *ports.first().unwrap() >= 0xc000,
            "{way:?} {ports:x?}"
        );
    }
    // They are spread.
    assert!(ports.values().flatten().collect::<BTreeSet<_>>().len() > 1);
}

#[test]
fn r002_r012_r013_what_routers_and_bridges_change_does_not_matter() {
    for ipv6 in [false, true] {
        let mut r = Raw::new(Setup {
            ipv6,
            ..Setup::default()
        });
        let zero = Reth {
            va: 0,
            rkey: 0,
            len: 0,
        };
        let ext = ExtHeaders {
            reth: Some(zero),
            ..ExtHeaders::NONE
        };
        let next = |r: &Raw, psn| {
            let bth = Bth {
                ack_req: true,
                ..r.bth(WriteOnly, psn)
            };
            r.frame(bth, ext, &[])
        };
        // A VLAN tag.
        let frame = next(&r, PSN);
        let tagged = [&frame[..12], &[0x81, 0, 0x60, 5], &frame[12..]].concat();
        r.feed(&tagged);
        assert_eq!(r.only_ack(), (PSN, ACK));
        // Hop limit, class of traffic, flow label or checksums, congestion.
        let mut frame = next(&r, PSN + 1);
        let changes: &[usize] = if ipv6 {
            &[15, 16, 17, 21, 60, 61, 66]
        } else {
            &[15, 22, 24, 25, 40, 41, 46]
        };
        for at in changes {
            frame[*at] ^= 0x5a;
        }
        if !ipv6 {
            // The header checksum has to be right on its own account.
            frame[24..26].fill(0);
            let sum: u32 = frame[14..34]
                .chunks(2)
                .map(|w| u32::from(w[0]) << 8 | u32::from(w[1]))
                .sum();
            let sum = (sum & 0xffff) + (sum >> 16);
            let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        // A UDP checksum may be absent, and is not looked at.
        r.feed(&frame);
        assert_eq!(r.only_ack(), (PSN + 1, ACK), "IPv6: {ipv6}");
        // Anything else does.
        for at in (if ipv6 { 54 } else { 34 })..frame.len() {
            if changes.contains(&at) {
                continue;
            }
            let mut frame = next(&r, PSN + 2);
            frame[at] ^= 1;
            r.host.engine.receive(r.now, &frame, &mut r.host.memory);
            r.silence();
        }
        r.inject_reth(WriteOnly, PSN + 2, zero, &[]);
        assert_eq!(r.only_ack(), (PSN + 2, ACK));
    }
}
