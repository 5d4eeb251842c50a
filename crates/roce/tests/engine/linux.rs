//! A captured Linux peer says its part again; the engine takes the other one.

use crate::util::capture::{frame, message, roce_frames};
use crate::util::*;
use roce::wire::{Opcode, Packet, cm_msg::Message, udp};
use roce::{
    AcceptParams, Config, ConnState, ConnectFailure, ConnectParams, DisconnectReason,
    DisconnectResult, Event, Instant, Path, PathMtu, SendOp, Status,
};
use std::net::IpAddr;
use std::time::Duration;

const RPING: &[u8] = include_bytes!("../../data/rping.pcap");
const NO_SERVER: &[u8] = include_bytes!("../../data/noserver.pcap");

const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

/// The captured message of a kind.
fn captured(pcap: &'static [u8], attribute: u16) -> (Vec<u8>, u64, Message) {
    roce_frames(pcap)
        .into_iter()
        .find_map(|f| {
            let (tid, m) = message(&f)?;
            (m.attribute() == attribute).then_some((f, tid, m))
        })
        .unwrap()
}

/// A message in the frame of another of the same sender.
fn reframed(template: &[u8], message: &Message, tid: u64) -> Vec<u8> {
    let packet = Packet::parse(template).unwrap();
    let path = Path {
        src_mac: packet.eth.src,
        dst_mac: packet.eth.dst,
        vlan: None,
        src_ip: packet.ip.src(),
        dst_ip: packet.ip.dst(),
        hop_limit: 64,
        traffic_class: 0,
        mtu: PathMtu::Mtu4096,
    };
    frame(
        &path,
        udp::source_port(1),
        packet.bth,
        packet.ext,
        &message.emit(tid),
    )
}

fn host() -> Host {
    Host::new(&Config {
        local_mtu: 4200,
        max_qps: 16,
        max_cqs: 16,
        max_pds: 8,
        max_keys: 64,
        guid: 0x0200_00ff_fe00_0001,
        seed: 5,
        ..Config::default()
    })
}

fn receive(host: &mut Host, now: Instant, frame: &[u8]) {
    host.engine.receive(now, frame, &mut host.memory);
    host.collect();
}

/// The one CM message that the host wants to send now.
fn said(host: &mut Host, now: Instant) -> (u64, Message) {
    let frame = host.transmit(now).expect("nothing to send");
    message(&frame).expect("not a MAD")
}

/// The path back along a captured frame.
fn way_back(template: &[u8]) -> Path {
    let packet = Packet::parse(template).unwrap();
    Path {
        src_mac: packet.eth.dst,
        dst_mac: packet.eth.src,
        vlan: None,
        src_ip: packet.ip.dst(),
        dst_ip: packet.ip.src(),
        hop_limit: 64,
        traffic_class: 0,
        mtu: PathMtu::Mtu4096,
    }
}

#[test]
fn a_linux_client_is_served() {
    let now = Instant(1_000_000_000);
    let (req_frame, tid, req) = captured(RPING, 0x10);
    let Message::Req(req) = req else {
        panic!("not a REQ")
    };
    let mut server = host();
    server.engine.listen(SERVER, 7174).unwrap();
    receive(&mut server, now, &req_frame);
    let [Event::ConnectRequest { conn, .. }] = server.events[..] else {
        panic!("{:?}", server.events)
    };
    server.events.clear();
    let info = server.engine.connection(conn).unwrap().clone();
    assert_eq!((info.local.ip(), info.local.port()), (SERVER, 7174));
    assert_eq!(info.peer.ip(), CLIENT);
    assert_eq!((info.responder_resources, info.initiator_depth), (1, 1));

    let qp = server.create_qp();
    let src = server.open(pattern(16, 1));
    let params = AcceptParams {
        qp,
        path: way_back(&req_frame),
        private_data: &[],
        responder_resources: 1,
        initiator_depth: 1,
    };
    server.engine.accept(now, conn, &params).unwrap();
    let (said_tid, Message::Rep(rep)) = said(&mut server, now) else {
        panic!("not a REP")
    };
    // What the real server said differs in names only, and in what it was configured to.
    let (_, _, Message::Rep(theirs)) = captured(RPING, 0x13) else {
        panic!("not a REP")
    };
    assert_eq!(said_tid, tid);
    assert_eq!(
        rep,
        roce::wire::cm_msg::Rep {
            local_comm_id: rep.local_comm_id,
            qpn: rep.qpn,
            starting_psn: rep.starting_psn,
            ca_guid: rep.ca_guid,
            flow_control: rep.flow_control,
            ..theirs
        }
    );

    let (rtu_frame, rtu_tid, Message::Rtu(rtu)) = captured(RPING, 0x14) else {
        panic!("not an RTU")
    };
    assert_eq!(rtu.local_comm_id, req.local_comm_id);
    let rtu = Message::Rtu(roce::wire::cm_msg::Rtu {
        remote_comm_id: rep.local_comm_id,
        ..rtu
    });
    let rtu = reframed(&rtu_frame, &rtu, rtu_tid);
    receive(&mut server, now, &rtu);
    assert_eq!(server.events, [Event::Established { conn }]);
    server.events.clear();

    // The client's first SEND of the capture, readdressed.
    let dst = server.open(vec![0; 16]);
    server.engine.post_recv(now, qp, 1, &[dst.all()]).unwrap();
    let send_frame = roce_frames(RPING)
        .into_iter()
        .find(|f| {
            let p = Packet::parse(f).unwrap();
            p.bth.opcode == Opcode::SendOnly && p.ip.src() == CLIENT
        })
        .unwrap();
    let send = Packet::parse(&send_frame).unwrap();
    // Linux begins with the PSN of the REP, like anybody.
    assert_eq!(send.bth.psn, theirs.starting_psn);
    let mut bth = send.bth;
    bth.dest_qpn = rep.qpn;
    bth.psn = rep.starting_psn;
    let path = Path {
        src_mac: send.eth.src,
        dst_mac: send.eth.dst,
        vlan: None,
        src_ip: CLIENT,
        dst_ip: SERVER,
        ..way_back(&req_frame)
    };
    let bytes = frame(&path, send.udp.src_port, bth, send.ext, send.payload);
    receive(&mut server, now, &bytes);
    assert_eq!(outcomes(&server.completions), [(1, Status::Success)]);
    assert_eq!(server.bytes(&dst), send.payload);
    let ack = server.transmit(now).unwrap();
    let ack = Packet::parse(&ack).unwrap();
    // As the real server acknowledged it.
    let theirs = roce_frames(RPING)
        .into_iter()
        .find(|f| {
            let p = Packet::parse(f).unwrap();
            p.bth.opcode == Opcode::Acknowledge && p.ip.src() == SERVER
        })
        .unwrap();
    let theirs = Packet::parse(&theirs).unwrap();
    assert_eq!(ack.ext, theirs.ext);
    assert_eq!(ack.bth.dest_qpn, theirs.bth.dest_qpn);
    server.send(now, qp, 2, SendOp::Send, &[src.all()]);
    let first = server.transmit(now).unwrap();
    let first = Packet::parse(&first).unwrap();
    assert_eq!(first.bth.psn, req.starting_psn);
    assert_eq!(first.bth.dest_qpn, req.qpn);

    // The client ends it.
    let (dreq_frame, dreq_tid, Message::Dreq(dreq)) = captured(RPING, 0x15) else {
        panic!("not a DREQ")
    };
    let dreq = Message::Dreq(roce::wire::cm_msg::Dreq {
        remote_comm_id: rep.local_comm_id,
        remote_qpn: rep.qpn,
        ..dreq
    });
    let dreq = reframed(&dreq_frame, &dreq, dreq_tid);
    receive(&mut server, now, &dreq);
    assert_eq!(
        server.events,
        [Event::Disconnected {
            conn,
            reason: DisconnectReason::Peer
        }]
    );
    let (drep_tid, Message::Drep(drep)) = said(&mut server, now) else {
        panic!("not a DREP")
    };
    let (_, theirs_tid, Message::Drep(theirs)) = captured(RPING, 0x16) else {
        panic!("not a DREP")
    };
    assert_eq!(drep_tid, theirs_tid);
    assert_eq!(drep.remote_comm_id, theirs.remote_comm_id);
    assert_eq!(drep.private, theirs.private);
}

#[test]
fn a_linux_server_is_asked() {
    let now = Instant(1_000_000_000);
    let (_, _, Message::Req(theirs)) = captured(RPING, 0x10) else {
        panic!("not a REQ")
    };
    let (rep_frame, _, Message::Rep(rep)) = captured(RPING, 0x13) else {
        panic!("not a REP")
    };
    let mut client = host();
    let qp = client.create_qp();
    let params = ConnectParams {
        qp,
        path: way_back(&rep_frame),
        local_port: u16::from_be_bytes([theirs.private[2], theirs.private[3]]),
        remote_port: 7174,
        private_data: &[],
        responder_resources: 1,
        initiator_depth: 1,
    };
    let conn = client.engine.connect(now, &params).unwrap();
    let (tid, Message::Req(req)) = said(&mut client, now) else {
        panic!("not a REQ")
    };
    // The same as the real client's but for names, timers, retries and the flow control that nobody uses.
    let mut as_theirs = req;
    as_theirs.local_comm_id = theirs.local_comm_id;
    as_theirs.qpn = theirs.qpn;
    as_theirs.starting_psn = theirs.starting_psn;
    as_theirs.ca_guid = theirs.ca_guid;
    as_theirs.remote_cm_timeout = theirs.remote_cm_timeout;
    as_theirs.local_cm_timeout = theirs.local_cm_timeout;
    as_theirs.primary.ack_timeout = theirs.primary.ack_timeout;
    as_theirs.flow_control = theirs.flow_control;
    assert_eq!((req.retry_count, theirs.retry_count), (6, 7));
    as_theirs.retry_count = theirs.retry_count;
    assert_eq!(as_theirs, theirs);

    let answer = Message::Rep(roce::wire::cm_msg::Rep {
        remote_comm_id: req.local_comm_id,
        ..rep
    });
    receive(&mut client, now, &reframed(&rep_frame, &answer, tid));
    assert_eq!(client.events, [Event::Replied { conn }]);
    client.events.clear();
    client.engine.establish(now, conn).unwrap();
    client.collect();
    assert_eq!(client.events, [Event::Established { conn }]);
    client.events.clear();
    let (rtu_tid, Message::Rtu(rtu)) = said(&mut client, now) else {
        panic!("not an RTU")
    };
    assert_eq!(rtu_tid, tid);
    assert_eq!(
        (rtu.local_comm_id, rtu.remote_comm_id),
        (req.local_comm_id, rep.local_comm_id)
    );
    let src = client.open(pattern(16, 1));
    client.send(now, qp, 2, SendOp::Send, &[src.all()]);
    let first = client.transmit(now).unwrap();
    let first = Packet::parse(&first).unwrap();
    assert_eq!(first.bth.psn, rep.starting_psn);
    assert_eq!(first.bth.dest_qpn, rep.qpn);

    client.engine.disconnect(now, conn).unwrap();
    let (dreq_tid, Message::Dreq(dreq)) = said(&mut client, now) else {
        panic!("not a DREQ")
    };
    assert_eq!(dreq.remote_qpn, rep.qpn);
    let (drep_frame, _, Message::Drep(drep)) = captured(RPING, 0x16) else {
        panic!("not a DREP")
    };
    let answer = Message::Drep(roce::wire::cm_msg::Drep {
        local_comm_id: rep.local_comm_id,
        remote_comm_id: req.local_comm_id,
        ..drep
    });
    receive(&mut client, now, &reframed(&drep_frame, &answer, dreq_tid));
    client.release_all(now);
    client.collect();
    assert_eq!(
        client.events,
        [Event::DisconnectDone {
            conn,
            result: DisconnectResult::Graceful
        }]
    );
}

#[test]
fn r080_a_linux_client_is_refused_as_linux_refuses() {
    let now = Instant(1);
    let (req_frame, _, _) = captured(NO_SERVER, 0x10);
    let (_, tid, theirs) = captured(NO_SERVER, 0x12);
    let mut server = host();
    receive(&mut server, now, &req_frame);
    let (said_tid, ours) = said(&mut server, now);
    assert_eq!((said_tid, ours), (tid, theirs));
}

#[test]
fn a_linux_refusal_is_understood() {
    let now = Instant(1);
    let (rej_frame, _, Message::Rej(rej)) = captured(NO_SERVER, 0x12) else {
        panic!("not a REJ")
    };
    let mut client = host();
    let qp = client.create_qp();
    let params = ConnectParams {
        qp,
        path: way_back(&rej_frame),
        local_port: 1,
        remote_port: 7174,
        private_data: &[],
        responder_resources: 1,
        initiator_depth: 1,
    };
    let conn = client.engine.connect(now, &params).unwrap();
    let (tid, Message::Req(req)) = said(&mut client, now) else {
        panic!("not a REQ")
    };
    let rej = Message::Rej(roce::wire::cm_msg::Rej {
        remote_comm_id: req.local_comm_id,
        ..rej
    });
    receive(&mut client, now, &reframed(&rej_frame, &rej, tid));
    assert_eq!(
        client.events,
        [Event::ConnectFailed {
            conn,
            reason: ConnectFailure::Rejected { reason: 8 }
        }]
    );
    assert_eq!(
        client.engine.connection(conn).unwrap().state,
        ConnState::Closed
    );
    let end = now.after(Duration::from_secs(10));
    client.engine.handle_timeout(end);
    client.engine.forget(end, conn);
    assert_eq!(client.engine.connection(conn).map(|c| c.state), None);
}
