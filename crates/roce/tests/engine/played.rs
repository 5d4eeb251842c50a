//! Whole captured conversations of Linux soft-RoCE peers: one peer says its part again, packet by packet, and the engine takes the
//! other's. It is told to do what that one was told; then it says the same, header by header and byte by byte.

use crate::util::capture::{frame, message, roce_frames};
use crate::util::*;
use roce::cm::QpAttributes;
use roce::wire::{Bth, ExtHeaders, Opcode, Packet, Reth, cm_msg::Message};
use roce::{Completion, Config, Instant, Path, PathMtu, Psn, QpId, SendOp, Status};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

const CAPTURES: [(&str, &[u8]); 5] = [
    ("rping", include_bytes!("../../data/rping.pcap")),
    ("send", include_bytes!("../../data/send.pcap")),
    ("write", include_bytes!("../../data/write.pcap")),
    ("read", include_bytes!("../../data/read.pcap")),
    ("atomic", include_bytes!("../../data/atomic.pcap")),
];

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const NOW: Instant = Instant(1_000_000_000);

/// One end of a connection, as its REQ or REP tells.
#[derive(Clone, Copy, Debug)]
struct End {
    qpn: u32,
    /// The first PSN that it expects.
    expects: Psn,
}

/// A connection of the capture, and the queue pair that takes the engine's part.
struct Played {
    engine: End,
    peer: End,
    qp: QpId,
    /// The queue pair's own number.
    qpn: u32,
    path: Path,
    /// What the engine has sent and the capture has not come to yet.
    said: VecDeque<Vec<u8>>,
}

/// Both ends of each connection: the client's, the server's.
fn connections(frames: &[Vec<u8>]) -> Vec<(End, End)> {
    let mut asked = BTreeMap::new();
    let mut all = Vec::new();
    for f in frames {
        match message(f) {
            // Each side names the first PSN of what it will be sent.
            Some((tid, Message::Req(req))) => {
                asked.insert(tid, (req.qpn, req.starting_psn));
            }
            Some((tid, Message::Rep(rep))) => {
                let (qpn, expects) = asked[&tid];
                let server = End {
                    qpn: rep.qpn,
                    expects: rep.starting_psn,
                };
                all.push((End { qpn, expects }, server));
            }
            _ => {}
        }
    }
    all
}

/// Memory of the engine that the peer's requests name: their keys with what the capture says of their bytes.
#[derive(Default)]
struct Named {
    start: u64,
    end: u64,
    /// What atomic requests will find. Of READs see below.
    before: BTreeMap<u64, Vec<u8>>,
    /// What writes will leave.
    after: BTreeMap<u64, Vec<u8>>,
}

impl Named {
    fn of(capture: &[Packet<'_>], engine: IpAddr) -> BTreeMap<u32, Named> {
        let mut all: BTreeMap<u32, Named> = BTreeMap::new();
        for p in capture {
            let range = match (p.ext.reth, p.ext.atomic) {
                (Some(reth), _) => (reth.rkey, reth.va, u64::from(reth.len)),
                (_, Some(atomic)) => (atomic.rkey, atomic.va, 8),
                _ => continue,
            };
            if p.ip.dst() != engine {
                continue;
            }
            let (key, va, len) = range;
            let named = all.entry(key).or_insert(Named {
                start: va,
                end: va,
                ..Named::default()
            });
            named.start = named.start.min(va);
            named.end = named.end.max(va + len);
            match p.bth.opcode {
                Opcode::ReadRequest => {}
                Opcode::CompareSwap | Opcode::FetchAdd => {
                    let found = original(capture, p.bth.psn, engine);
                    named.before.entry(va).or_insert(found.to_ne_bytes().into());
                    let new = found + p.ext.atomic.unwrap().swap_add;
                    assert_eq!(p.bth.opcode, Opcode::FetchAdd, "in no capture");
                    named.after.insert(va, new.to_ne_bytes().into());
                }
                _ => {
                    let data = whole(capture, p);
                    assert_eq!(data.len(), len as usize);
                    named.after.insert(va, data);
                }
            }
        }
        all
    }
}

/// The data of the READ with this PSN, which that side answers.
fn answer(capture: &[Packet<'_>], psn: Psn, from: IpAddr, len: usize) -> Vec<u8> {
    let mut data = Vec::new();
    for p in capture {
        let ours = p.ip.src() == from && p.bth.opcode.is_read_response();
        if ours && p.bth.psn.since(psn) as usize * PathMtu::Mtu4096.bytes() as usize == data.len() {
            data.extend(p.payload);
            if data.len() >= len {
                break;
            }
        }
    }
    assert_eq!(data.len(), len);
    data
}

/// The bytes of the message that begins with this packet.
fn whole(capture: &[Packet<'_>], first: &Packet<'_>) -> Vec<u8> {
    let mut data = Vec::new();
    let parts = capture
        .iter()
        .filter(|p| p.ip.src() == first.ip.src() && p.bth.dest_qpn == first.bth.dest_qpn);
    for p in parts.skip_while(|p| p.bth.psn != first.bth.psn || !p.bth.opcode.is_rc_request()) {
        data.extend(p.payload);
        if !p.bth.opcode.is_first() && !p.bth.opcode.is_middle() {
            break;
        }
    }
    data
}

/// What the atomic request with this PSN found at that side.
fn original(capture: &[Packet<'_>], psn: Psn, from: IpAddr) -> u64 {
    capture
        .iter()
        .filter(|p| p.ip.src() == from && p.bth.psn == psn)
        .find_map(|p| p.ext.atomic_ack)
        .unwrap()
        .original
}

/// What the engine has to send after something happened.
fn collect(host: &mut Host, played: &mut [Played]) {
    while let Some(f) = host.transmit(NOW) {
        host.reap(NOW);
        let qpn = Packet::parse(&f).unwrap().bth.dest_qpn;
        let to = played.iter_mut().find(|c| c.peer.qpn == qpn);
        to.expect("sent to nobody").said.push_back(f);
    }
    host.collect();
}

/// Everything but the source port, which is chance, and the IP identification: the engine sends what the Linux peer sent.
fn compare(name: &str, number: usize, ours: &[u8], theirs: &Packet<'_>) {
    let ours = Packet::parse(ours).unwrap();
    ours.verify_icrc().unwrap();
    let what = format!("{name}, frame {number}");
    assert_eq!(ours.eth, theirs.eth, "{what}");
    let ip = |p: &Packet<'_>| {
        let ip = p.ip;
        (ip.src(), ip.dst(), ip.hop_limit(), ip.traffic_class())
    };
    assert_eq!(ip(&ours), ip(theirs), "{what}");
    assert_eq!(ours.udp.dst_port, theirs.udp.dst_port, "{what}");
    assert_eq!(ours.udp.length, theirs.udp.length, "{what}");
    assert_eq!(ours.bth, theirs.bth, "{what}");
    assert_eq!(ours.ext, theirs.ext, "{what}");
    assert!(ours.payload == theirs.payload, "{what}: the payload");
    assert_eq!(ours.pad, theirs.pad, "{what}");
}

/// The engine takes the part of the peer with this address.
fn play(name: &str, pcap: &'static [u8], engine: IpAddr) {
    let frames = roce_frames(pcap);
    let pairs = connections(&frames);
    let capture: Vec<Packet<'_>> = frames
        .iter()
        .map(|f| Packet::parse(f).unwrap())
        .filter(|p| p.ext.deth.is_none())
        .collect();
    let mut host = Host::new(&Config {
        local_mtu: 4200,
        ..Setup::default().config
    });
    let mut played: Vec<Played> = Vec::new();
    for (client, server) in pairs {
        let (engine_end, peer) = match engine == SERVER {
            true => (server, client),
            false => (client, server),
        };
        let qp = host.create_qp();
        let local = host.engine.prepare(qp, Some(engine_end.expects)).unwrap();
        let sample = capture.iter().find(|p| p.ip.src() == engine).unwrap();
        let path = Path {
            src_mac: sample.eth.src,
            dst_mac: sample.eth.dst,
            vlan: None,
            src_ip: sample.ip.src(),
            dst_ip: sample.ip.dst(),
            hop_limit: sample.ip.hop_limit(),
            traffic_class: sample.ip.traffic_class(),
            mtu: PathMtu::Mtu4096,
        };
        let attributes = QpAttributes {
            peer_qpn: peer.qpn,
            path,
            send_psn: peer.expects,
            retry_count: 7,
            rnr_retry_count: 7,
            ack_timeout: 14,
            responder_resources: 16,
            initiator_depth: 16,
        };
        host.engine.attach(qp, &attributes).unwrap();
        played.push(Played {
            engine: engine_end,
            peer,
            qp,
            qpn: local.qpn,
            path,
            said: VecDeque::new(),
        });
    }

    // The memory that the peer will name, at the addresses by which it does.
    let named = Named::of(&capture, engine);
    let mut keys = BTreeMap::new();
    for (key, named) in &named {
        let mut bytes = vec![0xee; (named.end - named.start) as usize];
        for (va, data) in &named.before {
            bytes[(va - named.start) as usize..][..data.len()].copy_from_slice(data);
        }
        let len = bytes.len() as u64;
        let region = host.memory.add(bytes);
        let access = ALL | roce::Access::REMOTE_ATOMIC;
        let ours = host
            .engine
            .register(host.pd, named.start, len, access, region)
            .unwrap();
        keys.insert(*key, (ours, region));
    }

    // A receive for each message of the peer.
    let mut context = 0;
    let mut receives = BTreeMap::new();
    for p in capture.iter().filter(|p| p.ip.dst() == engine) {
        let op = p.bth.opcode;
        if matches!(op, Opcode::SendFirst | Opcode::SendOnly) {
            let data = whole(&capture, p);
            let memory = host.open(vec![0; data.len() + 10]);
            let to = played.iter().find(|c| c.engine.qpn == p.bth.dest_qpn);
            context += 1;
            let sgl = [memory.all()];
            host.engine
                .post_recv(NOW, to.unwrap().qp, context, &sgl)
                .unwrap();
            receives.insert(context, (memory, data));
        }
    }

    // Requests of the engine that bring bytes back, with what they have to bring.
    let mut brings = Vec::new();
    let mut posted = Vec::new();
    for (number, p) in capture.iter().enumerate() {
        if p.ip.dst() == engine {
            let to = played
                .iter()
                .position(|c| c.engine.qpn == p.bth.dest_qpn)
                .unwrap();
            let ours = |key: u32| keys[&key].0.0;
            if let (Opcode::ReadRequest, Some(r)) = (p.bth.opcode, p.ext.reth) {
                // What its owner had put there.
                let data = answer(&capture, p.bth.psn, engine, r.len as usize);
                let bytes = &mut host.memory.regions[keys[&r.rkey].1.0 as usize];
                let at = (r.va - named[&r.rkey].start) as usize;
                bytes[at..at + data.len()].copy_from_slice(&data);
            }
            let ext = ExtHeaders {
                reth: p.ext.reth.map(|r| Reth {
                    rkey: ours(r.rkey),
                    ..r
                }),
                atomic: p.ext.atomic.map(|a| roce::wire::AtomicEth {
                    rkey: ours(a.rkey),
                    ..a
                }),
                ..p.ext
            };
            let bth = Bth {
                dest_qpn: played[to].qpn,
                ..p.bth
            };
            let back = Path {
                src_mac: p.eth.src,
                dst_mac: p.eth.dst,
                src_ip: p.ip.src(),
                dst_ip: p.ip.dst(),
                ..played[to].path
            };
            let f = frame(&back, p.udp.src_port, bth, ext, p.payload);
            host.engine.receive(NOW, &f, &mut host.memory);
            collect(&mut host, &mut played);
            continue;
        }
        let from = played
            .iter()
            .position(|c| c.peer.qpn == p.bth.dest_qpn)
            .unwrap();
        let op = p.bth.opcode;
        if op.is_rc_request() && !op.is_middle() && !op.is_last() {
            context += 1;
            posted.push(context);
            let qp = played[from].qp;
            let remote = p.ext.reth.map(|r| (r.va, r.rkey, r.len as usize));
            let mut sink = |host: &mut Host, want: Vec<u8>| {
                let memory = host.open(vec![0xee; want.len()]);
                brings.push((memory, want));
                memory
            };
            let (op, memory) = match (op, remote, p.ext.atomic) {
                (Opcode::ReadRequest, Some((remote_va, rkey, len)), _) => {
                    let want = answer(&capture, p.bth.psn, p.ip.dst(), len);
                    let memory = sink(&mut host, want);
                    (SendOp::Read { remote_va, rkey }, memory)
                }
                (_, Some((remote_va, rkey, _)), _) => {
                    let memory = host.open(whole(&capture, p));
                    (SendOp::Write { remote_va, rkey }, memory)
                }
                (Opcode::FetchAdd, _, Some(a)) => {
                    let found = original(&capture, p.bth.psn, p.ip.dst());
                    let memory = sink(&mut host, found.to_ne_bytes().into());
                    let op = SendOp::FetchAdd {
                        remote_va: a.va,
                        rkey: a.rkey,
                        add: a.swap_add,
                    };
                    (op, memory)
                }
                (Opcode::SendFirst | Opcode::SendOnly, ..) => {
                    (SendOp::Send, host.open(whole(&capture, p)))
                }
                _ => panic!("in no capture: {op:?}"),
            };
            host.send(NOW, qp, context, op, &[memory.all()]);
            collect(&mut host, &mut played);
        }
        let ours = played[from].said.pop_front();
        let ours = ours.unwrap_or_else(|| panic!("{name}, frame {number}: nothing is said"));
        compare(name, number, &ours, p);
    }

    for c in &played {
        assert_eq!(c.said, VecDeque::<Vec<u8>>::new(), "{name}: more is said");
    }
    let by_context = |c: &Completion| (c.context, c.status);
    let mut done: Vec<_> = host.completions.iter().map(by_context).collect();
    done.sort_unstable_by_key(|(context, _)| *context);
    let want: Vec<_> = (1..=context).map(|c| (c, Status::Success)).collect();
    assert_eq!(done, want, "{name}");
    for (memory, data) in receives.values() {
        assert!(host.bytes(memory)[..data.len()] == *data, "{name}: receive");
    }
    for (memory, data) in &brings {
        assert!(host.bytes(memory) == data, "{name}: READ or atomic");
    }
    for (key, named) in &named {
        let bytes = &host.memory.regions[keys[key].1.0 as usize];
        for (va, data) in &named.after {
            let at = (va - named.start) as usize;
            assert!(bytes[at..at + data.len()] == *data, "{name}: memory");
        }
    }
    // Neither side of a capture is silent.
    assert!(!receives.is_empty() && !posted.is_empty(), "{name}");
}

#[test]
fn the_engine_is_the_server_of_every_capture() {
    for (name, pcap) in CAPTURES {
        play(name, pcap, SERVER);
    }
}

#[test]
fn the_engine_is_the_client_of_every_capture() {
    for (name, pcap) in CAPTURES {
        play(name, pcap, CLIENT);
    }
}
