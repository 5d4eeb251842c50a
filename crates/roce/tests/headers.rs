//! Packets as they come: which headers matter, what is dropped, and what changes nothing.

mod util;

use roce::wire::Opcode::*;
use roce::wire::{Bth, ExtHeaders, Opcode, Reth};
use util::raw::syndrome::*;
use util::raw::{PSN, Raw};
use util::*;

#[test]
fn r011_unknown_opcodes_and_notifications_of_congestion_change_nothing() {
    let mut r = Raw::small();
    for op in [0x15, 0x18, 0x1c, 0x1f, 0x81, 0x20, 0x44, 0xe0, 0x64] {
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
    assert_eq!(r.host.engine.counters().drop_opcode, 9);
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
    let mut frame = r.frame(good, ext, &[]);
    let last = frame.len() - 1;
    frame[last] ^= 1;
    r.feed(&frame);
    assert_eq!(counters(&r).drop_icrc, 1);
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
    assert_eq!(counters(&r).rx_frames, 6);
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
