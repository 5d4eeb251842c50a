//! What frames look like on their way: next hops, hop limits, VLAN tags; and frames that are somebody else's.

use crate::util::connections::PORT;
use crate::util::raw::{PSN, Raw};
use crate::util::*;
use roce::wire::{Aeth, Opcode, Packet, Syndrome};
use roce::{AcceptParams, ConnectParams, Event, Path, SendOp, Status, Verdict};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
/// The router's MAC addresses, as A and as B see it.
const ROUTER: [[u8; 6]; 2] = [[2, 0, 0, 0, 1, 0xa], [2, 0, 0, 0, 1, 0xb]];
const TAG: u16 = 0x6005;

/// Of every frame sent: by whom, Ethernet destination, tag, hop limit, whether to the GSI.
type Seen = Rc<RefCell<Vec<(Side, [u8; 6], Option<u16>, u8, bool)>>>;

/// A whole life of a connection from A to B with data both ways, over such paths.
fn life(setup: Setup, paths: [Path; 2]) -> Seen {
    let mut p = Pair::new(setup);
    let seen = Seen::default();
    let log = seen.clone();
    p.net.script = Box::new(move |from, packet: &Packet<'_>| {
        log.borrow_mut().push((
            from,
            packet.eth.dst,
            packet.eth.vlan,
            packet.ip.hop_limit(),
            packet.bth.dest_qpn == 1,
        ));
        Fate::Pass
    });
    p.listen();
    let qa = p.a.create_qp();
    let params = ConnectParams {
        path: paths[0],
        ..p.connect_params(qa, 1000)
    };
    let a = p.a.engine.connect(p.now, &params).unwrap();
    p.run(MS);
    let b = p.requests()[0];
    let qb = p.b.create_qp();
    let params = AcceptParams {
        path: paths[1],
        ..p.accept_params(qb)
    };
    p.b.engine.accept(p.now, b, &params).unwrap();
    p.run(MS);
    p.a.engine.establish(p.now, a).unwrap();
    p.run(MS);
    let memory = [p.a.open(pattern(3000, 1)), p.b.open(pattern(3000, 2))];
    for (from, to, qps, from_memory, to_memory) in [
        (Side::A, Side::B, [qa, qb], memory[0], memory[1]),
        (Side::B, Side::A, [qb, qa], memory[1], memory[0]),
    ] {
        let now = p.now;
        p.host(to)
            .engine
            .post_recv(now, qps[1], 1, &[to_memory.all()])
            .unwrap();
        let host = p.host(from);
        host.send(now, qps[0], 2, SendOp::Send, &[from_memory.all()]);
        let (remote_va, rkey) = (to_memory.va, to_memory.key.0);
        let read = SendOp::Read { remote_va, rkey };
        host.send(now, qps[0], 3, read, &[from_memory.all()]);
        p.run(SECOND);
    }
    assert_eq!((p.a.completions.len(), p.b.completions.len()), (3, 3));
    p.a.engine.disconnect(p.now, a).unwrap();
    p.run(SECOND);
    let ended = |e: &Event| matches!(e, Event::DisconnectDone { .. });
    assert!(p.a.events.iter().any(ended));
    seen
}

#[test]
fn r098_routed_peers_are_reached_by_the_next_hop_with_hops_to_spare() {
    for ipv6 in [false, true] {
        routed(Setup {
            ipv6,
            ..Setup::default()
        });
    }
}

fn routed(setup: Setup) {
    let paths = [Side::A, Side::B].map(|side| Path {
        dst_mac: ROUTER[side as usize],
        hop_limit: 9,
        ..setup.path(side)
    });
    let seen = life(setup, paths);
    for (from, destination, tag, hops, gsi) in seen.borrow().iter() {
        // Those that only echo where a message came from: the script's wire has no router to rewrite addresses.
        let echo = *gsi && *hops == 64;
        if !echo {
            assert_eq!(*destination, ROUTER[*from as usize], "{from:?} {gsi}");
            assert_eq!(*hops, 9);
        }
        assert!(*hops > 1);
        assert_eq!(*tag, None);
    }
    let ordinary = |side| {
        let seen = seen.borrow();
        seen.iter().filter(|s| s.0 == side && s.3 == 9).count()
    };
    assert!(ordinary(Side::A) > 8 && ordinary(Side::B) > 8);
}

#[test]
fn a_tag_is_on_every_frame_of_the_connection_both_ways() {
    let [a, b] = [Side::A, Side::B].map(|side| path(side, Setup::default().mtu));
    let tagged = |path| Path {
        vlan: Some(TAG),
        ..path
    };
    // The passive side need not know of it.
    for paths in [[tagged(a), b], [tagged(a), tagged(b)]] {
        let seen = life(Setup::default(), paths);
        assert!(seen.borrow().iter().all(|s| s.2 == Some(TAG)));
        for gsi in [false, true] {
            for side in [Side::A, Side::B] {
                assert!(seen.borrow().iter().any(|s| s.0 == side && s.4 == gsi));
            }
        }
    }
}

/// ARP requests and neighbour solicitations are the host's to answer, connections or not.
#[test]
fn r097_address_resolution_is_left_to_the_host() {
    let mut p = Pair::new(Setup::default());
    p.listen();
    let mut arp = vec![0xff; 6];
    arp.extend(MAC_A);
    arp.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
    arp.extend(MAC_A);
    arp.extend([10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
    let mut solicitation = vec![0x33, 0x33, 0xff, 0, 0, 2];
    solicitation.extend(MAC_A);
    solicitation.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 24, 58, 255]);
    solicitation.extend([0; 32]);
    solicitation.extend([135, 0, 0, 0, 0, 0, 0, 0]);
    solicitation.extend([0; 16]);
    let check = |p: &mut Pair| {
        for frame in [&arp, &solicitation] {
            for tag in [None, Some(TAG)] {
                let mut frame = frame.clone();
                if let Some(tag) = tag {
                    let [a, b] = tag.to_be_bytes();
                    frame.splice(12..12, [0x81, 0x00, a, b]);
                }
                frame.resize(frame.len().max(60), 0);
                let host = &mut p.b;
                let verdict = host.engine.receive(p.now, &frame, &mut host.memory);
                assert_eq!(verdict, Verdict::NotRoce);
            }
        }
        assert_eq!(p.b.transmit(p.now), None);
    };
    check(&mut p);
    let (conn, _) = p.request(PORT);
    p.run(MS);
    let b = p.requests()[0];
    p.accept(b);
    check_after(&mut p, &check, MS);
    p.a.engine.establish(p.now, conn).unwrap();
    check_after(&mut p, &check, MS);
}

fn check_after(p: &mut Pair, check: &impl Fn(&mut Pair), time: Duration) {
    p.run(time);
    check(p);
}

/// The next hop after it has changed.
const NEW: [u8; 6] = [2, 0, 0, 0, 2, 0xb];

fn doubts(raw: &mut Raw) -> usize {
    raw.host.collect();
    let doubted = Event::PathDoubted { qp: raw.qp };
    let count = raw.host.events.iter().filter(|e| **e == doubted).count();
    raw.host.events.clear();
    count
}

/// Where everything goes that the engine wants to send now.
fn hops(raw: &mut Raw) -> Vec<[u8; 6]> {
    let sent = std::iter::from_fn(|| raw.host.transmit(raw.now));
    sent.map(|frame| {
        let packet = Packet::parse(&frame).unwrap();
        packet.verify_icrc().unwrap();
        packet.eth.dst
    })
    .collect()
}

#[test]
fn requests_that_are_not_heard_go_to_the_next_hop_that_was_looked_up_again() {
    let mut raw = Raw::new(Setup::default());
    let old = raw.path.src_mac;
    raw.host.send(raw.now, raw.qp, 1, SendOp::Send, &[]);
    assert_eq!(hops(&mut raw), [old]);
    raw.wait(5 * MS);
    assert_eq!(doubts(&mut raw), 0, "one frame may be lost");
    assert_eq!(hops(&mut raw), [old]);
    raw.wait(10 * MS);
    assert_eq!(doubts(&mut raw), 1);
    assert_eq!(hops(&mut raw), [old]);
    raw.wait(20 * MS);
    assert_eq!(doubts(&mut raw), 0, "not so soon again");
    assert_eq!(hops(&mut raw), [old]);
    raw.host.engine.redirect(raw.qp, NEW);
    assert_eq!(hops(&mut raw), [NEW], "at once");
    let aeth = Aeth {
        syndrome: Syndrome::ACK,
        msn: 1,
    };
    raw.respond_with(Opcode::Acknowledge, PSN, Some(aeth), &[]);
    raw.host.collect();
    assert_eq!(outcomes(&raw.host.completions), [(1, Status::Success)]);
    raw.host.send(raw.now, raw.qp, 2, SendOp::Send, &[]);
    assert_eq!(hops(&mut raw), [NEW]);
}

#[test]
fn acknowledgements_that_are_not_heard_go_to_the_next_hop_that_was_looked_up_again() {
    let mut raw = Raw::new(Setup::default());
    let old = raw.path.src_mac;
    for psn in [PSN, PSN + 1, PSN + 2] {
        raw.host.engine.post_recv(raw.now, raw.qp, 1, &[]).unwrap();
        // Each is repeated once: its acknowledgement was lost, or late.
        raw.inject(Opcode::SendOnly, psn, &[]);
        raw.inject(Opcode::SendOnly, psn, &[]);
        assert_eq!((doubts(&mut raw), hops(&mut raw)), (0, vec![old]));
    }
    raw.inject(Opcode::SendOnly, PSN + 2, &[]);
    assert_eq!((doubts(&mut raw), hops(&mut raw)), (1, vec![old]));
    raw.inject(Opcode::SendOnly, PSN + 2, &[]);
    assert_eq!((doubts(&mut raw), hops(&mut raw)), (0, vec![old]));
    raw.host.engine.redirect(raw.qp, NEW);
    assert_eq!(hops(&mut raw), [NEW], "at once");
    raw.host.engine.flush(raw.now, raw.qp);
    raw.host.engine.redirect(raw.qp, old);
    assert_eq!((doubts(&mut raw), hops(&mut raw)), (0, vec![]));
}
