//! How connections come about.

use super::*;
use crate::wire::cm_msg::Message;

#[test]
fn three_messages_and_both_know_everything() {
    let mut link = Link::new();
    let a = link.connect(40_000, &qp(0x111), b"hello").unwrap();
    let b = link.requested();
    let info = link.agents[B].connection(b).unwrap().clone();
    assert_eq!(info.state, ConnState::Requested);
    assert_eq!(info.listener, Some(link.listener));
    assert_eq!(info.local, "10.0.0.2:7174".parse().unwrap());
    assert_eq!(info.peer, "10.0.0.1:40000".parse().unwrap());
    assert_eq!(info.private_data.len(), crate::MAX_REQUEST_DATA);
    assert!(info.private_data.starts_with(b"hello\0"));
    // What A wants to issue, what A executes.
    assert_eq!((info.responder_resources, info.initiator_depth), (4, 8));

    let at_b = link.accept(b, &qp(0x222), b"welcome").unwrap();
    assert_eq!(
        at_b,
        QpAttributes {
            peer_qpn: 0x111,
            path: link.path(B),
            send_psn: qp(0x111).psn,
            // As offered.
            retry_count: 6,
            rnr_retry_count: 7,
            ack_timeout: 15,
            responder_resources: 4,
            initiator_depth: 8,
        }
    );
    link.expect(A, Event::Replied { conn: a });
    let info = link.agents[A].connection(a).unwrap().clone();
    assert_eq!(info.state, ConnState::Replied);
    assert_eq!(info.private_data.len(), crate::MAX_REPLY_DATA);
    assert!(info.private_data.starts_with(b"welcome\0"));
    assert_eq!((info.responder_resources, info.initiator_depth), (8, 4));

    let at_a = link.establish(a).unwrap();
    assert_eq!(
        at_a,
        QpAttributes {
            peer_qpn: 0x222,
            path: link.path(A),
            send_psn: qp(0x222).psn,
            retry_count: 7,
            rnr_retry_count: 7,
            // With the peer's time to acknowledge.
            ack_timeout: 16,
            responder_resources: 8,
            initiator_depth: 4,
        }
    );
    link.expect(A, Event::Established { conn: a });
    link.expect(B, Event::Established { conn: b });
    link.run_until_idle();
    link.no_events();
    let story: std::vec::Vec<_> = link.sent.iter().map(|s| (s.from, s.attribute())).collect();
    assert_eq!(story, [(A, 0x10), (B, 0x13), (A, 0x14)]);
}

#[test]
fn it_works_over_ipv6() {
    let configs = [super::link::config(A), super::link::config(B)];
    let mut link = Link::with(&configs, ["fd00::1", "fd00::2"], 2);
    let (_, b) = connected(&mut link);
    let info = link.agents[B].connection(b).unwrap();
    assert_eq!(info.peer, "[fd00::1]:40000".parse().unwrap());
    assert_eq!(info.local, "[fd00::2]:7174".parse().unwrap());
}

/// What is agreed upon is the least of the wish, the offer and both limits, to the number: NDK tells its consumers so. Powers of two is
/// what there is room for, and so what is offered to whoever wants all there is.
#[test]
fn r088_depths_are_capped_by_both_sides() {
    for ((responder, initiator), (offered, wanted), (granted, used), room) in [
        ((255, 255), (16, 16), (16, 16), 16),
        ((3, 3), (3, 3), (3, 3), 4),
        ((0, 0), (0, 0), (0, 0), 0),
        ((1, 200), (1, 16), (16, 1), 16),
        ((200, 5), (16, 5), (5, 9), 8),
    ] {
        let mut link = Link::new();
        let params = ConnectParams {
            responder_resources: responder,
            initiator_depth: initiator,
            ..link.connect_params(1, &qp(5), &[])
        };
        let a = link.agents[A].connect(link.now, &params, &qp(5)).unwrap();
        let b = link.requested();
        let Message::Req(req) = link.sent_by(A, 0x10)[0].message() else {
            panic!("not a REQ");
        };
        assert_eq!(
            (req.responder_resources, req.initiator_depth),
            (offered, wanted)
        );
        let params = AcceptParams {
            responder_resources: 255,
            // All, or fewer than are offered.
            initiator_depth: if used == 9 { 9 } else { 255 },
            ..link.accept_params(&qp(6), &[])
        };
        let at_b = link.agents[B].accept(link.now, b, &params, &qp(6)).unwrap();
        assert_eq!(
            (at_b.responder_resources, at_b.initiator_depth),
            (room, used),
            "{responder} {initiator}"
        );
        link.expect(A, Event::Replied { conn: a });
        let Message::Rep(rep) = link.sent_by(B, 0x13)[0].message() else {
            panic!("not a REP");
        };
        assert_eq!(
            (rep.responder_resources, rep.initiator_depth),
            (granted, used),
            "{responder} {initiator}"
        );
        let at_a = link.establish(a).unwrap();
        assert_eq!(at_a.initiator_depth, granted);
        assert!(at_a.responder_resources >= at_b.initiator_depth);
        assert!(at_a.responder_resources < 2 * used.max(1));
        for (side, conn, limits) in [(B, b, (granted, used)), (A, a, (used, granted))] {
            let info = link.agents[side].connection(conn).unwrap();
            assert_eq!((info.responder_resources, info.initiator_depth), limits);
        }
    }
}

#[test]
fn r090_private_data_has_its_limits() {
    let mut link = Link::new();
    let long = [0xa5; 197];
    assert_eq!(
        link.connect(1, &qp(5), &long[..57]),
        Err(CmError::PrivateDataTooLong)
    );
    let a = link.connect(1, &qp(5), &long[..56]).unwrap();
    let b = link.requested();
    assert_eq!(
        link.agents[B].connection(b).unwrap().private_data[..],
        long[..56]
    );
    assert_eq!(
        link.accept(b, &qp(6), &long),
        Err(CmError::PrivateDataTooLong)
    );
    assert_eq!(
        link.agents[B].reject(link.now, b, &long[..149]),
        Err(CmError::PrivateDataTooLong)
    );
    link.accept(b, &qp(6), &long[..196]).unwrap();
    link.expect(A, Event::Replied { conn: a });
    assert_eq!(
        link.agents[A].connection(a).unwrap().private_data[..],
        long[..196]
    );
}

#[test]
fn any_message_of_the_handshake_may_be_lost_or_repeated() {
    for attribute in [0x10, 0x13, 0x14] {
        for count in [1, 5] {
            let mut link = Link::new();
            link.lose(attribute, count);
            let (a, b) = connected(&mut link);
            link.run_until_idle();
            link.no_events();
            assert_eq!(
                link.agents[A].connection(a).unwrap().state,
                ConnState::Established
            );
            assert_eq!(
                link.agents[B].connection(b).unwrap().state,
                ConnState::Established
            );
        }
        let mut link = Link::new();
        link.judge(move |_, m| {
            if m.attribute() == attribute {
                link::Fate::ArrivesTwice
            } else {
                link::Fate::Arrives
            }
        });
        connected(&mut link);
        link.run_until_idle();
        link.no_events();
    }
}

#[test]
fn a_request_that_overtakes_nothing_is_late() {
    // Every message is repeated, the repetition a second later than anything it could belong to.
    let mut link = Link::new();
    let mut first = true;
    link.judge(move |_, m| {
        if m.attribute() == 0x10 && first {
            first = false;
            link::Fate::IsLate(Duration::from_millis(1500))
        } else {
            link::Fate::Arrives
        }
    });
    let (a, b) = connected(&mut link);
    // The first REQ arrives when its retransmission has been answered.
    link.run_for(Duration::from_secs(5));
    link.no_events();
    for (side, conn) in [(A, a), (B, b)] {
        assert_eq!(
            link.agents[side].connection(conn).unwrap().state,
            ConnState::Established
        );
    }
}

#[test]
fn connections_are_many_and_tables_have_an_end() {
    let mut link = Link::new();
    for i in 0..8 {
        connected_with(
            &mut link,
            100 + i,
            0x1000 + u32::from(i),
            0x2000 + u32::from(i),
        );
    }
    // B decides nothing: half of its table may wait for that.
    for i in 8..16 {
        link.connect(100 + i, &qp(0x1000 + u32::from(i)), &[])
            .unwrap();
    }
    assert_eq!(link.connect(99, &qp(9), &[]), Err(CmError::TableFull));
    link.run_for(Duration::from_millis(100));
    assert_eq!(link.take_events(B).len(), 8);
}

#[test]
fn the_same_addresses_and_ports_connect_once() {
    let mut link = Link::new();
    let a = link.connect(1, &qp(5), &[]).unwrap();
    assert_eq!(link.connect(1, &qp(6), &[]), Err(CmError::ConnectionExists));
    link.agents[A].forget(link.now, a);
    link.connect(1, &qp(6), &[]).unwrap();
}

#[test]
fn r096_names_differ_from_start_to_start() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let configs = [super::link::config(A), super::link::config(B)];
        let mut link = Link::with(&configs, ["10.0.0.1", "10.0.0.2"], seed);
        link.connect(1, &qp(5), &[]).unwrap();
        link.exchange();
        let Message::Req(req) = link.sent[0].message() else {
            panic!("not a REQ");
        };
        assert_ne!(req.local_comm_id, 0);
        seen.insert(req.local_comm_id);
    }
    assert!(seen.len() > 98);
}
