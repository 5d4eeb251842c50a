//! What strangers and peers cannot do: end the connections of others, fill the table, or keep this side waiting.

use super::*;
use crate::cm::tests::link::Fate;
use crate::wire::Gid;
use crate::wire::cm_msg::{Answered, Message, Mra, Rep, Req, private_data};
use crate::wire::cma;

fn request(link: &mut Link, port: u16, qpn: u32) -> Req {
    let a = link.connect(port, &qp(qpn), &[]).unwrap();
    link.exchange();
    let Message::Req(req) = link.sent.last().unwrap().message() else {
        panic!("not a REQ");
    };
    link.agents[A].forget(link.now, a);
    link.clear_flight();
    link.run_until_idle();
    link.sent.clear();
    req
}

/// The same request as another host would send it that wants it to be taken for its own.
fn from_stranger(link: &Link, req: &Req) -> (Path, Req) {
    let path = Path {
        src_ip: "10.0.0.66".parse().unwrap(),
        src_mac: [2, 0, 0, 0, 0, 0x66],
        ..link.path(A)
    };
    let header = cma::Header {
        src_port: 999,
        src: path.src_ip,
        dst: path.dst_ip,
    };
    let mut req = *req;
    req.local_comm_id ^= 0x0f0f;
    req.primary.local_gid = Gid::from(path.src_ip);
    req.private = private_data(&header.emit());
    (path, req)
}

#[test]
fn a_stranger_with_a_peers_guid_and_qpn_ends_no_connection() {
    let mut link = Link::new();
    let (_, b) = connected_with(&mut link, 1, 0x111, 0x222);
    let req = request(&mut link, 2, 0x111);
    let (path, req) = from_stranger(&link, &req);
    link.send_by(B, &path, &Message::Req(req), 1);
    // It is a request like any other.
    assert_ne!(link.requested(), b);
    link.run_for(Duration::from_secs(1));
    link.no_events();
    assert_eq!(
        link.agents[B].connection(b).unwrap().state,
        ConnState::Established
    );
}

#[test]
fn a_strangers_reply_with_a_peers_guid_and_qpn_ends_no_connection() {
    let mut link = Link::new();
    let (a, _) = connected_with(&mut link, 1, 0x111, 0x222);
    let Message::Rep(rep) = link.sent_by(B, 0x13)[0].message() else {
        panic!("not a REP");
    };
    // A asks another host, which answers with what it has seen of B.
    let mut params = link.connect_params(2, &qp(0x333), &[]);
    params.path.dst_ip = "10.0.0.66".parse().unwrap();
    let other = link.agents[A]
        .connect(link.now, &params, &qp(0x333))
        .unwrap();
    link.exchange();
    let Message::Req(req) = link.sent.last().unwrap().message() else {
        panic!("not a REQ");
    };
    link.clear_flight();
    let reply = Rep {
        local_comm_id: 77,
        remote_comm_id: req.local_comm_id,
        ..rep
    };
    let path = Path {
        src_ip: params.path.dst_ip,
        ..link.path(B)
    };
    link.send_by(A, &path, &Message::Rep(reply), link.transaction(A));
    link.expect(A, Event::Replied { conn: other });
    assert_eq!(
        link.agents[A].connection(a).unwrap().state,
        ConnState::Established
    );
}

/// Rejected requests rest for two seconds, accepted ones wait for their confirmation: neither may take the room that the owner needs.
#[test]
fn what_strangers_ask_for_leaves_room_for_the_owner_whatever_is_answered() {
    for accept in [false, true] {
        let mut link = Link::new();
        let req = request(&mut link, 1, 0x500);
        link.judge(|from, _| {
            if from == B {
                Fate::IsLost
            } else {
                Fate::Arrives
            }
        });
        for n in 0..40 {
            let req = Req {
                local_comm_id: 0x9000 + n,
                qpn: 0x9000 + n,
                ..req
            };
            link.send(B, &Message::Req(req), 1);
            link.run_for(Duration::from_millis(1));
            for event in link.take_events(B) {
                let Event::ConnectRequest { conn, .. } = event else {
                    panic!("{event:?}");
                };
                if accept {
                    link.accept(conn, &qp(0x700 + n), &[]).unwrap();
                } else {
                    link.agents[B].reject(link.now, conn, &[]).unwrap();
                    link.agents[B].forget(link.now, conn);
                }
            }
        }
        assert_eq!(link.agents[B].len(), 8, "accept: {accept}");
        let params = ConnectParams {
            path: link.path(B),
            ..link.connect_params(9, &qp(0x800), &[])
        };
        for n in 0..8 {
            let params = ConnectParams {
                local_port: 100 + n,
                ..params
            };
            link.agents[B]
                .connect(link.now, &params, &qp(0x800))
                .unwrap();
        }
    }
}

#[test]
fn r089_a_proposed_timeout_is_kept_within_bounds() {
    let ours = link::config(B).ack_timeout;
    for (proposed, want) in [(0, ours), (1, 8), (8, 8), (19, 19), (22, 22), (31, 22)] {
        let mut link = Link::new();
        let mut req = request(&mut link, 1, 5);
        req.primary.ack_timeout = proposed;
        link.send(B, &Message::Req(req), 1);
        let b = link.requested();
        let attributes = link.accept(b, &qp(6), &[]).unwrap();
        assert_eq!(attributes.ack_timeout, want, "proposed {proposed}");
    }
}

#[test]
fn r086_a_peer_cannot_make_the_wait_for_its_confirmation_long() {
    for code in [14, 18, 20, 22, 31] {
        let mut link = Link::new();
        let mut req = request(&mut link, 1, 5);
        req.max_cm_retries = 15;
        req.local_cm_timeout = code;
        link.send(B, &Message::Req(req), 1);
        let conn = link.requested();
        let start = link.now;
        link.accept(conn, &qp(6), &[]).unwrap();
        let reason = ConnectFailure::Timeout;
        link.expect(B, Event::EstablishFailed { conn, reason });
        assert!(
            link.now.since(start) <= Duration::from_secs(30),
            "code {code}"
        );
    }
}

/// The DREQ keeps this side's time, whatever the peer said of its own when it connected.
#[test]
fn r093_a_disconnect_ends_in_time_whatever_the_peer_asked_for() {
    for (code, retries) in [(31, 15), (14, 0), (14, 15)] {
        let mut link = Link::new();
        let mut req = request(&mut link, 1, 5);
        req.max_cm_retries = retries;
        req.local_cm_timeout = code;
        link.send(B, &Message::Req(req), 1);
        let conn = link.requested();
        link.accept(conn, &qp(6), &[]).unwrap();
        link.agents[B].communication_established(conn);
        link.expect(B, Event::Established { conn });
        link.judge(|_, _| Fate::IsLost);
        let start = link.now;
        link.agents[B].disconnect(link.now, conn).unwrap();
        let result = DisconnectResult::Timeout;
        link.expect(B, Event::DisconnectDone { conn, result });
        let took = link.now.since(start);
        assert!(took > Duration::from_secs(10) && took < Duration::from_secs(20));
        assert_eq!(link.sent_by(B, 0x15).len(), 16);
    }
}

/// A peer that asks for time again and again gets five minutes, however much it asks for at once.
#[test]
fn r076_a_peer_that_always_asks_for_time_is_left() {
    for service_timeout in [18, 31] {
        let mut link = Link::new();
        let conn = link.connect(1, &qp(5), &[]).unwrap();
        link.exchange();
        let Message::Req(req) = link.sent.last().unwrap().message() else {
            panic!("not a REQ");
        };
        let tid = link.transaction(A);
        link.clear_flight();
        link.judge(|_, _| Fate::IsLost);
        let start = link.now;
        let mra = Message::Mra(Mra {
            local_comm_id: 9,
            remote_comm_id: req.local_comm_id,
            message: Answered::Req,
            service_timeout,
            private: private_data(&[]),
        });
        let mut events = std::vec::Vec::new();
        while events.is_empty() {
            assert!(link.now.since(start) < Duration::from_secs(400));
            link.send(A, &mra, tid);
            link.run_for(Duration::from_millis(500));
            events = link.take_events(A);
        }
        let reason = ConnectFailure::Timeout;
        assert_eq!(events, [Event::ConnectFailed { conn, reason }]);
        assert!(link.now.since(start) > Duration::from_secs(200));
    }
}

#[test]
fn messages_to_addresses_that_are_not_ours_are_not_answered() {
    let mut link = Link::new();
    let ours = link.ips[B];
    let req = request(&mut link, 1, 5);
    let elsewhere = Path {
        dst_ip: "10.0.0.77".parse().unwrap(),
        ..link.path(A)
    };
    let header = cma::Header {
        src_port: 999,
        src: elsewhere.src_ip,
        dst: elsewhere.dst_ip,
    };
    let mut stray = req;
    stray.primary.remote_gid = Gid::from(elsewhere.dst_ip);
    stray.private = private_data(&header.emit());
    let nobody = Req {
        service_id: 1,
        ..stray
    };
    link.agents[B].set_addresses([ours]);
    for message in [Message::Req(stray), Message::Req(nobody)] {
        link.send_by(B, &elsewhere, &message, 1);
        link.run_for(Duration::from_secs(1));
        link.no_events();
        assert_eq!(link.sent.len(), 0);
    }
    link.send(B, &Message::Req(req), 1);
    link.requested();
    // It is ours from now on.
    link.agents[B].set_addresses([ours, elsewhere.dst_ip]);
    stray.local_comm_id ^= 1;
    stray.qpn ^= 1;
    link.send_by(B, &elsewhere, &Message::Req(stray), 1);
    link.requested();
}
