//! A request for a connection that names the queue pair of one that exists: its peer has lost that one, or somebody else speaks in the
//! peer's name. One frame that anybody can write must not end what lives.

use crate::util::*;
use roce::wire::cm_msg::{Message, Req};
use roce::wire::frame::Header;
use roce::wire::{Opcode, Packet, mad};
use roce::{
    AcceptParams, Config, ConnId, ConnState, ConnectParams, DisconnectReason, Event, PathMtu, Psn,
    QpId, SendOp, Status,
};
use std::time::Duration;

/// Both ends of a connection, and the request that began it.
struct Ends {
    a: ConnId,
    b: ConnId,
    qa: QpId,
    qb: QpId,
    req: Req,
    /// B's queue pair.
    peer_qpn: u32,
}

/// The message of a frame that a host sends next; what else it sends arrives.
fn next_message(p: &mut Pair, from: Side) -> (Vec<u8>, Message) {
    let now = p.now;
    let frame = p.host(from).transmit(now).expect("a message");
    let packet = Packet::parse(&frame).unwrap();
    let (_, message) = Message::parse(mad::of_packet(&packet).unwrap()).unwrap();
    (frame, message)
}

fn connected(setup: Setup) -> (Pair, Ends) {
    let mut p = Pair::new(setup);
    let qa = p.a.create_qp();
    let qb = p.b.create_qp();
    let to_b = path(Side::A, PathMtu::Mtu1024);
    for (host, port) in [(&mut p.a, 446), (&mut p.b, 445)] {
        host.engine
            .listen("0.0.0.0".parse().unwrap(), port)
            .unwrap();
    }
    let params = ConnectParams {
        qp: qa,
        path: to_b,
        local_port: 1000,
        remote_port: 445,
        private_data: &[],
        responder_resources: 4,
        initiator_depth: 4,
    };
    let a = p.a.engine.connect(p.now, &params).unwrap();
    let (frame, Message::Req(req)) = next_message(&mut p, Side::A) else {
        panic!("not a REQ");
    };
    p.net.send(p.now, Side::A, frame);
    p.run(Duration::from_millis(1));
    let [Event::ConnectRequest { conn: b, .. }] = p.b.events[..] else {
        panic!("{:?}", p.b.events);
    };
    let params = AcceptParams {
        qp: qb,
        path: path(Side::B, PathMtu::Mtu1024),
        private_data: &[],
        responder_resources: 4,
        initiator_depth: 4,
    };
    p.b.engine.accept(p.now, b, &params).unwrap();
    let (frame, Message::Rep(rep)) = next_message(&mut p, Side::B) else {
        panic!("not a REP");
    };
    p.net.send(p.now, Side::B, frame);
    p.run(Duration::from_millis(1));
    p.a.engine.establish(p.now, a).unwrap();
    p.run(Duration::from_millis(1));
    assert!(p.a.events.contains(&Event::Established { conn: a }));
    assert!(p.b.events.contains(&Event::Established { conn: b }));
    p.a.events.clear();
    p.b.events.clear();
    p.log.clear();
    let peer_qpn = rep.qpn;
    (
        p,
        Ends {
            a,
            b,
            qa,
            qb,
            req,
            peer_qpn,
        },
    )
}

impl Ends {
    /// A request to `to` in the name of the other, for the other's queue pair.
    fn forged(&self, to: Side, comm_id: u32) -> Vec<u8> {
        let mut req = Req {
            local_comm_id: comm_id,
            ..self.req
        };
        if to == Side::A {
            core::mem::swap(&mut req.primary.local_gid, &mut req.primary.remote_gid);
            let (from, to) = (req.private[16..20].to_vec(), req.private[32..36].to_vec());
            req.private[16..20].copy_from_slice(&to);
            req.private[32..36].copy_from_slice(&from);
            req.service_id += 1;
            req.qpn = self.peer_qpn;
        }
        let mad = Message::Req(req).emit(77);
        let (bth, ext) = mad::transport_headers(Psn::ZERO);
        let mut frame = arrayvec::ArrayVec::<u8, 512>::new();
        let path = path(to.other(), PathMtu::Mtu1024);
        let mut icrc = Header::new(&path, 0xc001, bth, ext)
            .write(mad.len(), &mut frame)
            .unwrap();
        icrc.update(&mad);
        [&frame[..], &mad[..], &icrc.trailer(0)[..]].concat()
    }

    /// Puts a forged request before `to`.
    fn spoof(&self, p: &mut Pair, to: Side, comm_id: u32) {
        let now = p.now;
        let frame = self.forged(to, comm_id);
        let host = p.host(to);
        host.engine.receive(now, &frame, &mut host.memory);
    }

    fn assert_alive(&self, p: &mut Pair) {
        for host in [&mut p.a, &mut p.b] {
            // That its peer repeats itself may make a host look for a better way.
            host.events
                .retain(|e| !matches!(e, Event::PathDoubted { .. }));
            assert_eq!(host.events, []);
        }
        for (host, conn) in [(&p.a, self.a), (&p.b, self.b)] {
            let info = host.engine.connection(conn).unwrap();
            assert_eq!(info.state, ConnState::Established);
        }
        // It also works.
        let (from, to) = (p.a.open(pattern(3000, 1)), p.b.open(vec![0; 3000]));
        p.a.send(p.now, self.qa, 1, to.write(), &[from.all()]);
        let back = p.b.open(vec![0; 3000]);
        p.b.send(p.now, self.qb, 2, from.read(), &[back.all()]);
        p.run(Duration::from_millis(10));
        for host in [&mut p.a, &mut p.b] {
            let [done] = host.completions[..] else {
                panic!("{:?}", host.completions);
            };
            assert_eq!(done.status, Status::Success);
            host.completions.clear();
        }
        assert_eq!(p.b.bytes(&back), pattern(3000, 1));
        assert_eq!(p.b.bytes(&to), pattern(3000, 1));
    }
}

fn setup() -> Setup {
    Setup {
        config: Config {
            max_connections: 16,
            guid: 0x0200_00ff_fe00_0001,
            ..Setup::default().config
        },
        ..Setup::default()
    }
}

/// Either side is asked, whether its peer has ever had a request from it or not.
#[test]
fn r083_a_forged_request_ends_no_connection() {
    for to in [Side::A, Side::B] {
        let (mut p, ends) = connected(setup());
        for n in 0..3 {
            p.log.clear();
            ends.spoof(&mut p, to, 1 + n);
            p.run(Duration::from_secs(10));
            // The refusal, and one probe, which is answered.
            let said: Vec<_> = p.log.iter().map(|s| (s.from, s.op)).collect();
            let other = to.other();
            assert_eq!(
                said,
                [
                    (to, Opcode::WriteOnly),
                    (to, Opcode::UdSendOnly),
                    (other, Opcode::Acknowledge)
                ],
                "{n}"
            );
            ends.assert_alive(&mut p);
        }
    }
}

/// A flood makes no more noise than it brings, and one that never ends neither.
#[test]
fn r083_a_flood_of_forged_requests_ends_no_connection() {
    let (mut p, ends) = connected(setup());
    for n in 0..1000 {
        ends.spoof(&mut p, Side::B, 1 + n);
        p.run(Duration::from_micros(3));
    }
    p.run(Duration::from_secs(10));
    let sent = |op| {
        let from_b = p.log.iter().filter(|s| s.from == Side::B);
        from_b.filter(|s| s.op == op).count()
    };
    assert!((1..=500).contains(&sent(Opcode::WriteOnly)));
    assert_eq!(sent(Opcode::UdSendOnly), 1000);
    ends.assert_alive(&mut p);
}

/// The wire may lose three probes or answers of four.
#[test]
fn r083_a_peer_that_is_hard_to_hear_keeps_its_connection() {
    let (mut p, ends) = connected(setup());
    let mut lost = 0;
    p.net.script = Box::new(move |_, packet| {
        let probes = matches!(packet.bth.opcode, Opcode::WriteOnly | Opcode::Acknowledge);
        if probes && lost < 3 {
            lost += 1;
            return Fate::Drop;
        }
        Fate::Pass
    });
    ends.spoof(&mut p, Side::B, 1);
    p.run(Duration::from_secs(10));
    assert_eq!(p.sent(Side::B).len(), 5, "four probes and a refusal");
    ends.assert_alive(&mut p);
}

/// An outage that data would survive is survived in doubt, too: a link that fails over, a machine that moves.
#[test]
fn r083_a_peer_that_is_silent_for_a_while_keeps_its_connection() {
    let mut setup = setup();
    // Half a second.
    setup.config.ack_timeout = 17;
    for (to, busy) in [
        (Side::A, false),
        (Side::B, false),
        (Side::A, true),
        (Side::B, true),
    ] {
        let (mut p, ends) = connected(setup);
        p.net.script = Box::new(|_, _| Fate::Drop);
        if busy {
            let (now, from, qp) = (p.now, to, if to == Side::A { ends.qa } else { ends.qb });
            let target = p.host(to.other()).open(vec![0; 100]);
            let source = p.host(from).open(pattern(100, 1));
            p.host(from)
                .send(now, qp, 3, target.write(), &[source.all()]);
        }
        ends.spoof(&mut p, to, 1);
        p.run(Duration::from_secs(5));
        p.net.script = Box::new(|_, _| Fate::Pass);
        p.run(Duration::from_secs(60));
        for host in [&mut p.a, &mut p.b] {
            assert!(host.completions.iter().all(|c| c.status == Status::Success));
            host.completions.clear();
        }
        ends.assert_alive(&mut p);
    }
}

/// Neither is a forged request of use where data would fail, nor is the truth about a lost peer withheld for longer.
#[test]
fn r083_a_peer_that_is_doubted_has_the_time_that_data_gives_it() {
    for code in [15, 16, 18] {
        let mut setup = setup();
        setup.config.ack_timeout = code;
        let took = [false, true].map(|data| {
            let (mut p, ends) = connected(setup);
            p.net.script = Box::new(|_, _| Fate::Drop);
            let start = p.now;
            if data {
                p.b.send(p.now, ends.qb, 3, SendOp::Send, &[]);
            } else {
                ends.spoof(&mut p, Side::B, 1);
            }
            let over = |e: &Event| matches!(e, Event::Disconnected { .. });
            p.run_until(SECOND * 60, |p| p.b.events.iter().any(over));
            p.now.since(start)
        });
        let [doubted, waited] = took;
        assert_eq!(doubted, waited, "{code}");
        assert!(doubted > SECOND * 3, "{code}");
    }
}

/// Nor does it matter that the NIC is busy: a probe has no payload to wait for.
#[test]
fn r083_a_probe_does_not_wait_for_the_nic() {
    let mut setup = setup();
    setup.config.max_transmissions = 2;
    let (mut p, ends) = connected(setup);
    p.b.nic_holds = Some(Duration::from_secs(5));
    let (from, to) = (p.b.open(pattern(9000, 1)), p.a.open(vec![0; 9000]));
    p.b.send(p.now, ends.qb, 2, to.write(), &[from.all()]);
    p.run(Duration::from_millis(10));
    assert_eq!(p.ops(Side::B).len(), 2);
    ends.spoof(&mut p, Side::B, 1);
    p.run(Duration::from_millis(10));
    assert_eq!(p.ops(Side::B)[2..], [Opcode::WriteOnly, Opcode::UdSendOnly]);
    p.b.nic_holds = Some(Duration::ZERO);
    p.b.release_all(p.now);
    p.run(Duration::from_secs(60));
    assert_eq!(p.b.completions.len(), 1);
    p.b.completions.clear();
    ends.assert_alive(&mut p);
}

/// And the meaning of the rule: who is not there any more is not waited for.
#[test]
fn r083_a_peer_that_is_gone_loses_its_connection() {
    let (mut p, ends) = connected(setup());
    // A has started anew, and answers nothing that is for its past.
    p.net.script = Box::new(|from, _| {
        if from == Side::B {
            Fate::Drop
        } else {
            Fate::Pass
        }
    });
    ends.spoof(&mut p, Side::B, 1);
    p.run(Duration::from_millis(3000));
    assert_eq!(p.b.events, []);
    p.run(Duration::from_millis(100));
    let (conn, reason) = (ends.b, DisconnectReason::Stale);
    assert_eq!(p.b.events, [Event::Disconnected { conn, reason }]);
    let sends = p.b.engine.post_send(p.now, ends.qb, &request(SendOp::Send));
    assert!(sends.is_err());
}
