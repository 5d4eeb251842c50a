//! The side that is asked.

use super::*;
use crate::wire::cm_msg::{
    Answered, Drep, Message, Rej, RejReason, Req, Rtu, TransportService, private_data,
};
use link::Fate;

/// A REQ as A sends it, not delivered.
fn request(link: &mut Link) -> Req {
    link.connect(1, &qp(5), b"hi").unwrap();
    link.exchange();
    let Message::Req(req) = link.sent.last().unwrap().message() else {
        panic!("not a REQ");
    };
    // From here on A knows of nothing, and says nothing.
    link.agents[A] = link::agent(&link::config(A), 55);
    link.clear_flight();
    link.sent.clear();
    req
}

/// What B says to a request.
fn rejection(link: &mut Link, req: Req) -> Rej {
    link.send(B, &Message::Req(req), 0x1234);
    link.run_for(Duration::from_millis(1));
    link.no_events();
    let sent = link.sent_by(B, 0x12);
    let Message::Rej(rej) = sent.last().expect("a REJ").message() else {
        panic!("not a REJ");
    };
    let mad = sent.last().unwrap().mad();
    assert_eq!(mad[8..16], 0x1234_u64.to_be_bytes());
    assert_eq!(rej.message, Answered::Req);
    assert_eq!(
        (rej.local_comm_id, rej.remote_comm_id),
        (0, req.local_comm_id)
    );
    link.sent.clear();
    rej
}

#[test]
fn r080_r081_r084_requests_that_cannot_be_had_are_refused_with_the_reason() {
    for ips in FAMILIES {
        let link = Link::with(&[link::config(A), link::config(B)], ips, 1);
        refusals(link);
    }
}

fn refusals(mut link: Link) {
    let is_ipv6 = link.ips[B].is_ipv6();
    let req = request(&mut link);
    let refused = |link: &mut Link, req: Req| rejection(link, req).reason;

    let mut bad = req;
    bad.service_id += 1;
    assert_eq!(refused(&mut link, bad), RejReason::INVALID_SERVICE_ID);
    // UDP port space.
    bad.service_id = 0x0111_1c06;
    assert_eq!(refused(&mut link, bad), RejReason::INVALID_SERVICE_ID);

    for transport in [
        TransportService::Uc,
        TransportService::Rd,
        TransportService::Extended,
    ] {
        let bad = Req { transport, ..req };
        assert_eq!(refused(&mut link, bad), RejReason::INVALID_TRANSPORT);
    }

    for mtu_code in [0].into_iter().chain(6..16) {
        let rej = rejection(&mut link, Req { mtu_code, ..req });
        assert_eq!(rej.reason, RejReason::INVALID_MTU, "{mtu_code}");
        assert_eq!((rej.info_len, rej.info[0]), (1, 5));
    }

    let mut bad = req;
    bad.private[0] = 0x10;
    assert_eq!(refused(&mut link, bad), RejReason::CONSUMER);
    bad.private[0] = 0;
    // Any other version, that of the other family included.
    let (ours, other) = if is_ipv6 { (6, 4) } else { (4, 6) };
    assert_eq!(bad.private[1], ours << 4);
    for version in [other, 0, 1, 5, 7, 15] {
        bad.private[1] = version << 4;
        assert_eq!(refused(&mut link, bad), RejReason::CONSUMER, "{version}");
    }

    // Another destination, another source than the frame's: in every byte that the family has.
    let (source, destination) = if is_ipv6 {
        (4..20, 20..36)
    } else {
        (16..20, 32..36)
    };
    for at in source.chain(destination) {
        let mut bad = req;
        bad.private[at] ^= 1;
        assert_eq!(refused(&mut link, bad), RejReason::CONSUMER);
    }
    let mut bad = req;
    bad.primary.remote_gid.0[15] ^= 1;
    let rej = rejection(&mut link, bad);
    assert_eq!(rej.reason, RejReason::INVALID_GID);
    assert_eq!(rej.info_len, 16);
    assert_eq!(rej.info[..16], req.primary.remote_gid.0);

    assert_eq!(refused(&mut link, Req { qpn: 0, ..req }), RejReason::NO_QP);

    // Data of another partition would never arrive. Who is a limited member of ours is welcome.
    for bit in 0..15 {
        let pkey = 0xffff ^ 1 << bit;
        let bad = Req { pkey, ..req };
        assert_eq!(refused(&mut link, bad), RejReason::CONSUMER, "{pkey:#x}");
    }

    link.agents[B].pause_listener(link.listener, true).unwrap();
    assert_eq!(refused(&mut link, req), RejReason::INVALID_SERVICE_ID);
    link.agents[B].pause_listener(link.listener, false).unwrap();

    // And the good one is good.
    link.send(B, &Message::Req(req), 1);
    let b = link.requested();
    let info = link.agents[B].connection(b).unwrap();
    assert_eq!(
        (info.peer.ip(), info.local.ip()),
        (link.ips[A], link.ips[B])
    );
    let limited = Req {
        pkey: 0x7fff,
        local_comm_id: req.local_comm_id ^ 1,
        qpn: req.qpn ^ 1,
        ..req
    };
    link.send(B, &Message::Req(limited), 2);
    link.requested();
}

#[test]
fn r081_a_small_link_refuses_large_mtus() {
    let configs = [
        link::config(A),
        crate::Config {
            local_mtu: 1500,
            ..link::config(B)
        },
    ];
    let mut link = Link::with(&configs, ["10.0.0.1", "10.0.0.2"], 4);
    let a = link.connect(1, &qp(5), &[]).unwrap();
    link.expect(
        A,
        Event::ConnectFailed {
            conn: a,
            reason: ConnectFailure::Rejected { reason: 26 },
        },
    );
    let Message::Rej(rej) = link.sent_by(B, 0x12)[0].message() else {
        panic!("not a REJ");
    };
    assert_eq!((rej.info_len, rej.info[0]), (1, 3));
}

/// What B says to the same request, once more, in transaction `tid`.
fn again(link: &mut Link, req: &Req, tid: u64) -> std::vec::Vec<(Message, u64)> {
    link.exchange();
    let before = link.sent.len();
    link.send(B, &Message::Req(*req), tid);
    link.run_for(Duration::from_micros(200));
    let said = link.sent[before..].iter().filter(|s| s.from == B);
    said.map(|s| (s.message(), s.transaction())).collect()
}

#[test]
fn r082_a_duplicate_request_is_no_second_connection() {
    let mut link = Link::new();
    let req = request(&mut link);
    link.send(B, &Message::Req(req), 1);
    let b = link.requested();
    // Undecided: please wait.
    for tid in [1, 1, 2] {
        let [(Message::Mra(mra), answered)] = again(&mut link, &req, tid)[..] else {
            panic!("not an MRA");
        };
        assert_eq!((mra.message, answered), (Answered::Req, tid));
    }
    // Nothing says more after the decision: the reply has a timer, and then the peer has it.
    link.accept(b, &qp(6), &[]).unwrap();
    assert_eq!(again(&mut link, &req, 1), []);
    link.agents[B].communication_established(b);
    link.expect(B, Event::Established { conn: b });
    assert_eq!(again(&mut link, &req, 1), []);
    link.agents[B].disconnect(link.now, b).unwrap();
    assert_eq!(again(&mut link, &req, 1), []);
    // The end: the peer confirms, and what it called so is over.
    let Message::Dreq(dreq) = link.sent_by(B, 0x15)[0].message() else {
        panic!("not a DREQ");
    };
    let drep = Message::Drep(Drep {
        local_comm_id: dreq.remote_comm_id,
        remote_comm_id: dreq.local_comm_id,
        private: private_data(&[]),
    });
    link.send(B, &drep, 1);
    let result = DisconnectResult::Graceful;
    link.expect(B, Event::DisconnectDone { conn: b, result });
    for tid in [1, 7] {
        let [(Message::Rej(rej), answered)] = again(&mut link, &req, tid)[..] else {
            panic!("not a REJ");
        };
        assert_eq!(rej.reason, RejReason::STALE_CONNECTION);
        assert_eq!((rej.message, rej.info_len), (Answered::Req, 0));
        assert_eq!(rej.remote_comm_id, req.local_comm_id);
        // Who asks goes by its own transaction.
        assert_eq!(answered, tid);
    }
    link.no_events();
    assert_eq!(link.agents[B].len(), 1);
    // When the name has rested, it is a name like any other.
    link.agents[B].forget(link.now, b);
    link.run_until_idle();
    assert_eq!(link.agents[B].len(), 0);
    link.send(B, &Message::Req(req), 9);
    link.requested();
}

#[test]
fn r082_a_duplicate_of_a_rejected_request_is_rejected_again() {
    let mut link = Link::new();
    let req = request(&mut link);
    link.send(B, &Message::Req(req), 1);
    let b = link.requested();
    link.agents[B].reject(link.now, b, b"no").unwrap();
    link.exchange();
    let [first] = &link.sent_by(B, 0x12)[..] else {
        panic!("not one REJ");
    };
    assert_eq!(again(&mut link, &req, 1), [(first.message(), 1)]);
    // The same name in another transaction is another request, and the name still rests.
    let [(Message::Rej(rej), 2)] = again(&mut link, &req, 2)[..] else {
        panic!("not a REJ");
    };
    assert_eq!(rej.reason, RejReason::STALE_CONNECTION);
    link.no_events();
}

#[test]
fn a_strangers_copy_of_a_request_is_refused_as_one_that_speaks_of_others() {
    let mut link = Link::new();
    let req = request(&mut link);
    link.send(B, &Message::Req(req), 1);
    let b = link.requested();
    let stranger = Path {
        src_ip: "10.0.0.3".parse().unwrap(),
        ..link.path(A)
    };
    link.send_by(B, &stranger, &Message::Req(req), 1);
    link.run_for(Duration::from_millis(1));
    link.no_events();
    // It is not taken for a repetition, which would be asked to wait.
    assert_eq!(link.sent.len(), 1);
    let Message::Rej(rej) = link.sent[0].message() else {
        panic!("not a REJ");
    };
    assert_eq!(rej.reason, RejReason::CONSUMER);
    // And the request is still to be had.
    link.accept(b, &qp(6), &[]).unwrap();
}

#[test]
fn a_connection_the_other_way_is_no_duplicate() {
    let mut link = Link::new();
    connected(&mut link);
    let Message::Rep(rep) = link.sent_by(B, 0x13)[0].message() else {
        panic!("not a REP");
    };
    let Message::Req(mut req) = link.sent_by(A, 0x10)[0].message() else {
        panic!("not a REQ");
    };
    // B, too, asks for one, and names it as it named the other: its names are its own affair.
    core::mem::swap(&mut req.primary.local_gid, &mut req.primary.remote_gid);
    req.private[16..20].copy_from_slice(&[10, 0, 0, 2]);
    req.private[32..36].copy_from_slice(&[10, 0, 0, 1]);
    req.ca_guid = rep.ca_guid;
    req.local_comm_id = rep.local_comm_id;
    req.qpn = 0x333;
    link.agents[A]
        .listen("10.0.0.1".parse().unwrap(), PORT)
        .unwrap();
    link.send(A, &Message::Req(req), 1);
    assert!(matches!(link.event(A), Event::ConnectRequest { .. }));
}

#[test]
fn the_way_to_the_peer_is_what_the_owner_says() {
    let mut link = Link::new();
    link.connect(1, &qp(5), &[]).unwrap();
    let b = link.requested();
    let gateway = [2, 0, 0, 0, 0, 0xfe];
    let path = Path {
        dst_mac: gateway,
        hop_limit: 17,
        mtu: PathMtu::Mtu256,
        dst_ip: "10.9.9.9".parse().unwrap(),
        ..link.path(B)
    };
    let params = AcceptParams {
        path,
        ..link.accept_params(&qp(6), &[])
    };
    let attributes = link.agents[B].accept(link.now, b, &params, &qp(6)).unwrap();
    // But addresses and MTU are the request's.
    let right = Path {
        dst_mac: gateway,
        hop_limit: 17,
        ..link.path(B)
    };
    assert_eq!(attributes.path, right);
    link.exchange();
    let reply = &link.sent_by(B, 0x13)[0];
    let packet = reply.packet();
    assert_eq!(packet.eth.dst, gateway);
    assert_eq!(packet.ip.hop_limit(), 17);
    assert_eq!(packet.ip.dst(), link.ips[A]);
}

#[test]
fn r083_a_queue_pair_that_comes_back_was_lost() {
    let mut link = Link::new();
    let (_, old) = connected_with(&mut link, 1, 0x111, 0x222);
    link.agents[A] = link::agent(&link::config(A), 77);
    let a = link.connect(2, &qp(0x111), &[]).unwrap();
    let asked = link.now;
    link.expect(
        B,
        Event::Disconnected {
            conn: old,
            reason: DisconnectReason::Stale,
        },
    );
    // Soon, and not before it has had its time to say that it lives: 134 ms, twice that, and five times four times that.
    let took = link.now.since(asked);
    assert!(took > Duration::from_millis(3087) && took < Duration::from_millis(3088));
    link.expect(
        A,
        Event::ConnectFailed {
            conn: a,
            reason: ConnectFailure::Rejected { reason: 10 },
        },
    );
    connected_with(&mut link, 3, 0x111, 0x223);
}

/// The peer's address can be forged, its GUID and its queue pair be guessed: one such request must not end what lives.
#[test]
fn r083_a_connection_whose_peer_lives_survives_a_request_for_its_queue_pair() {
    let mut link = Link::new();
    let (_, b) = connected_with(&mut link, 1, 0x111, 0x222);
    let Message::Req(req) = link.sent_by(A, 0x10)[0].message() else {
        panic!("not a REQ");
    };
    let start = link.now;
    let mut probes = 0;
    for n in 0..20 {
        let forged = Req {
            local_comm_id: 0x4000 + n,
            ..req
        };
        link.send(B, &Message::Req(forged), 1);
        // Every other sign of life comes after the third probe only.
        link.run_for(Duration::from_millis(1));
        for interval in [250, 500, 1000].into_iter().take(1 + n as usize % 2 * 2) {
            assert_eq!(link.agents[B].poll_probe(), Some(b));
            assert_eq!(link.agents[B].poll_probe(), None);
            probes += 1;
            if n % 2 == 1 {
                link.run_for(Duration::from_millis(interval - 1));
                assert_eq!(link.agents[B].poll_probe(), None);
                link.run_for(Duration::from_millis(1));
            }
        }
        link.agents[B].heard(b);
        link.no_events();
    }
    assert_eq!(probes, 40);
    assert_eq!(link.sent_by(B, 0x12).len(), 20);
    link.run_for(Duration::from_secs(10));
    link.no_events();
    assert!(link.now.since(start) > Duration::from_secs(20));
    assert_eq!(
        link.agents[B].connection(b).unwrap().state,
        ConnState::Established
    );
}

/// At growing distances, but not so far apart that a peer that is back is not noticed.
#[test]
fn r083_signs_of_life_are_asked_for_more_and_more_rarely() {
    let configs = [A, B].map(|side| crate::Config {
        ack_timeout: 22,
        ..link::config(side)
    });
    let mut link = Link::with(&configs, ["10.0.0.1", "10.0.0.2"], 1);
    let (_, b) = connected_with(&mut link, 1, 0x111, 0x222);
    let Message::Req(req) = link.sent_by(A, 0x10)[0].message() else {
        panic!("not a REQ");
    };
    let forged = Req {
        local_comm_id: 0x4000,
        ..req
    };
    link.send(B, &Message::Req(forged), 1);
    let start = link.now;
    let mut probes = std::vec::Vec::new();
    while link.take_events(B).is_empty() {
        link.run_for(Duration::from_millis(1));
        if link.agents[B].poll_probe() == Some(b) {
            probes.push(link.now.since(start).as_millis());
        }
    }
    let at = [
        1, 251, 751, 1751, 3751, 7751, 11_751, 15_751, 19_751, 23_751, 27_751,
    ];
    assert_eq!(probes, at);
    assert_eq!(link.now.since(start).as_millis(), 30_001);
}

/// What is being set up has timers of its own, and no queue pair yet that could ask.
#[test]
fn r083_a_connection_that_is_being_set_up_survives_a_request_for_its_queue_pair() {
    for accepted in [false, true] {
        let mut link = Link::new();
        let a = link.connect(1, &qp(0x111), &[]).unwrap();
        let b = link.requested();
        let Message::Req(req) = link.sent_by(A, 0x10)[0].message() else {
            panic!("not a REQ");
        };
        if accepted {
            link.lose(0x13, 1);
            link.accept(b, &qp(0x222), &[]).unwrap();
            link.exchange();
        }
        let forged = Req {
            local_comm_id: 0x4000,
            ..req
        };
        link.send(B, &Message::Req(forged), 1);
        link.run_for(Duration::from_millis(1));
        link.no_events();
        if !accepted {
            link.accept(b, &qp(0x222), &[]).unwrap();
        }
        link.expect(A, Event::Replied { conn: a });
        link.establish(a).unwrap();
        link.expect(B, Event::Established { conn: b });
    }
}

#[test]
fn r085_data_is_as_good_as_a_confirmation() {
    let mut link = Link::new();
    link.lose(0x14, usize::MAX);
    let a = link.connect(1, &qp(5), &[]).unwrap();
    let b = link.requested();
    link.accept(b, &qp(6), &[]).unwrap();
    link.expect(A, Event::Replied { conn: a });
    link.establish(a).unwrap();
    link.expect(A, Event::Established { conn: a });
    link.agents[B].communication_established(b);
    link.expect(B, Event::Established { conn: b });
    link.agents[B].communication_established(b);
    link.run_until_idle();
    link.no_events();
    assert_eq!(link.sent_by(B, 0x13).len(), 1);
}

#[test]
fn r086_the_reply_is_repeated_as_often_as_the_request_allows() {
    let mut link = Link::new();
    let mut req = request(&mut link);
    req.max_cm_retries = 4;
    req.local_cm_timeout = 20;
    link.send(B, &Message::Req(req), 1);
    let b = link.requested();
    link.accept(b, &qp(6), &[]).unwrap();
    link.expect(
        B,
        Event::EstablishFailed {
            conn: b,
            reason: ConnectFailure::Timeout,
        },
    );
    let replies = link.sent_by(B, 0x13);
    assert_eq!(replies.len(), 5);
    for pair in replies.windows(2) {
        assert_eq!(pair[0].mad(), pair[1].mad());
        assert_eq!(pair[1].at.since(pair[0].at), Duration::from_millis(4096));
    }
    link.exchange();
    let Message::Rej(rej) = link.sent_by(B, 0x12)[0].message() else {
        panic!("not a REJ");
    };
    assert_eq!(rej.reason, RejReason::TIMEOUT);
    assert_eq!(rej.remote_comm_id, req.local_comm_id);
}

/// The confirmation ends the repetition, and so does data; one that is lost does not.
#[test]
fn r086_the_reply_is_repeated_until_it_is_confirmed() {
    for by_data in [false, true] {
        let mut link = Link::new();
        let req = request(&mut link);
        link.send(B, &Message::Req(req), 1);
        let b = link.requested();
        link.accept(b, &qp(6), &[]).unwrap();
        let start = link.now;
        while link.sent_by(B, 0x13).len() < 3 {
            link.run_for(Duration::from_millis(1));
        }
        // Both of its repetitions after the time that the request gave.
        let took = link.now.since(start);
        assert!(took > Duration::from_millis(2047) && took < Duration::from_millis(2050));
        let Message::Rep(rep) = link.sent_by(B, 0x13)[0].message() else {
            panic!("not a REP");
        };
        if by_data {
            link.agents[B].communication_established(b);
        } else {
            let rtu = Message::Rtu(Rtu {
                local_comm_id: rep.remote_comm_id,
                remote_comm_id: rep.local_comm_id,
                private: private_data(&[]),
            });
            link.send(B, &rtu, 1);
        }
        link.expect(B, Event::Established { conn: b });
        link.run_for(Duration::from_secs(100));
        link.no_events();
        assert_eq!(link.sent_by(B, 0x13).len(), 3);
    }
}

#[test]
fn r087_a_rejection_carries_its_data() {
    let mut link = Link::new();
    // It is lost once; the repeated request gets it again, and no new connection.
    link.lose(0x12, 1);
    let a = link.connect(1, &qp(5), &[]).unwrap();
    let b = link.requested();
    link.agents[B].reject(link.now, b, &[0x5a; 148]).unwrap();
    assert_eq!(link.accept(b, &qp(6), &[]), Err(CmError::InvalidState));
    link.expect(
        A,
        Event::ConnectFailed {
            conn: a,
            reason: ConnectFailure::Rejected { reason: 28 },
        },
    );
    let info = link.agents[A].connection(a).unwrap();
    assert_eq!(info.private_data[..], [0x5a; 148]);
    link.run_until_idle();
    link.no_events();
    assert_eq!(link.sent_by(B, 0x12).len(), 2);
}

/// Path migration does not exist on RoCE: who proposes an alternate path is told so.
#[test]
fn an_alternate_path_is_not_accepted_with_the_connection() {
    for (alternate, failover) in [(false, 0), (true, 1)] {
        let mut link = Link::new();
        let mut req = request(&mut link);
        if alternate {
            req.alternate = crate::wire::cm_msg::ReqPath {
                local_gid: crate::wire::Gid::from("10.0.0.3".parse::<core::net::IpAddr>().unwrap()),
                ..req.primary
            };
        }
        link.send(B, &Message::Req(req), 1);
        let b = link.requested();
        link.accept(b, &qp(6), &[]).unwrap();
        link.exchange();
        let Message::Rep(rep) = link.sent_by(B, 0x13)[0].message() else {
            panic!("not a REP");
        };
        assert_eq!(rep.failover_accepted, failover);
    }
}

#[test]
fn r089_the_requests_values_are_the_requesters() {
    let mut link = Link::new();
    let mut req = request(&mut link);
    req.retry_count = 5;
    req.rnr_retry_count = 0;
    req.primary.ack_timeout = 19;
    // What is said of congestion is of this packet alone.
    req.primary.traffic_class = 0x6b;
    req.mtu_code = 2;
    req.starting_psn = Psn::new(0x12_3456);
    link.send(B, &Message::Req(req), 1);
    let b = link.requested();
    let attributes = link.accept(b, &qp(6), &[]).unwrap();
    assert_eq!(attributes.retry_count, 5);
    assert_eq!(attributes.rnr_retry_count, 0);
    assert_eq!(attributes.ack_timeout, 19);
    assert_eq!(attributes.path.traffic_class, 0x68);
    assert_eq!(attributes.path.mtu, PathMtu::Mtu512);
    assert_eq!(attributes.send_psn, Psn::new(0x12_3456));
    link.exchange();
    let reply = link.sent_by(B, 0x13);
    assert_eq!(reply[0].packet().ip.traffic_class(), 0x68);
}

#[test]
fn a_withdrawn_request_cannot_be_accepted() {
    let mut link = Link::new();
    link.judge(|from, m| {
        // A hears nothing, and gives up.
        if from == B && m.attribute() == 0x11 {
            Fate::IsLost
        } else {
            Fate::Arrives
        }
    });
    let a = link.connect(1, &qp(5), &[]).unwrap();
    let b = link.requested();
    link.expect(
        A,
        Event::ConnectFailed {
            conn: a,
            reason: ConnectFailure::Timeout,
        },
    );
    link.run_for(Duration::from_millis(1));
    link.no_events();
    assert_eq!(link.accept(b, &qp(6), &[]), Err(CmError::PeerGone));
    assert_eq!(
        link.agents[B].reject(link.now, b, &[]),
        Err(CmError::PeerGone)
    );
}

#[test]
fn whoever_forgets_a_request_refuses_it() {
    let mut link = Link::new();
    let a = link.connect(1, &qp(5), &[]).unwrap();
    let b = link.requested();
    link.agents[B].forget(link.now, b);
    link.expect(
        A,
        Event::ConnectFailed {
            conn: a,
            reason: ConnectFailure::Rejected { reason: 28 },
        },
    );
    link.agents[A].forget(link.now, a);
    link.run_until_idle();
    assert!(link.agents.iter().all(|a| a.len() == 0));
}

#[test]
fn a_failed_queue_pair_ends_an_acceptance() {
    let mut link = Link::new();
    let a = link.connect(1, &qp(5), &[]).unwrap();
    let b = link.requested();
    link.accept(b, &qp(6), &[]).unwrap();
    link.expect(A, Event::Replied { conn: a });
    link.agents[B].abort(link.now, b);
    link.expect(
        B,
        Event::EstablishFailed {
            conn: b,
            reason: ConnectFailure::Aborted,
        },
    );
    link.run_for(Duration::from_millis(1));
    assert_eq!(link.establish(a), Err(CmError::PeerGone));
}

#[test]
fn unlistening_leaves_what_came_in() {
    let mut link = Link::new();
    let a = link.connect(1, &qp(5), &[]).unwrap();
    let b = link.requested();
    link.agents[B].unlisten(link.listener).unwrap();
    link.accept(b, &qp(6), &[]).unwrap();
    link.expect(A, Event::Replied { conn: a });
    link.connect(2, &qp(7), &[]).unwrap();
    assert!(matches!(
        link.event(A),
        Event::ConnectFailed {
            reason: ConnectFailure::Rejected { reason: 8 },
            ..
        }
    ));
}
