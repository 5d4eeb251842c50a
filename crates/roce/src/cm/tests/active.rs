//! The side that asks.

use super::*;
use crate::wire::cm_msg::{Answered, Message, Mra, Rej, RejReason, Rep, private_data};
use link::Fate;

/// Of our REQs: twice the packet lifetime (128 ms for an ACK timeout of 15, less one) and 1024 ms.
const INTERVAL: Duration = Duration::from_millis(2 * 64 + 1024);

#[test]
fn r073_a_request_is_repeated_unchanged_until_the_end() {
    let mut link = Link::new();
    link.judge(|from, _| {
        if from == A {
            Fate::IsLost
        } else {
            Fate::Arrives
        }
    });
    let a = link.connect(1, &qp(5), b"x").unwrap();
    link.expect(
        A,
        Event::ConnectFailed {
            conn: a,
            reason: ConnectFailure::Timeout,
        },
    );
    let sent = link.sent_by(A, 0x10);
    assert_eq!(sent.len(), 16);
    for (i, pair) in sent.windows(2).enumerate() {
        assert_eq!(pair[0].mad(), pair[1].mad());
        assert_eq!(pair[1].at.since(pair[0].at), INTERVAL);
        // Only the datagram's own sequence number moves on.
        assert_eq!(pair[0].packet().bth.psn.get(), i as u32);
    }
    assert_eq!(link.now.since(sent[0].at), INTERVAL * 16);
    // The peer is told, in case it only could not be heard.
    link.exchange();
    let Message::Rej(rej) = link.sent.last().unwrap().message() else {
        panic!("not a REJ");
    };
    assert_eq!(rej.reason, RejReason::TIMEOUT);
    assert_eq!(rej.message, Answered::Other);
    assert_eq!(rej.info_len, 8);
    assert_eq!(rej.info[..8], link::config(A).guid.to_be_bytes());
    assert_eq!(
        link.agents[A].connection(a).unwrap().state,
        ConnState::Closed
    );
}

#[test]
fn r074_a_duplicate_reply_gets_the_confirmation_again() {
    let mut link = Link::new();
    link.lose(0x14, 3);
    let (_, _) = connected(&mut link);
    let confirmations = link.sent_by(A, 0x14);
    assert_eq!(confirmations.len(), 4);
    assert!(confirmations.windows(2).all(|w| w[0].mad() == w[1].mad()));
    let replies = link.sent_by(B, 0x13);
    assert_eq!(replies.len(), 4);
    assert!(replies.windows(2).all(|w| w[0].mad() == w[1].mad()));
}

/// What the peer says of itself in its reply is what this side goes by.
#[test]
fn r074_the_replys_values_are_the_requesters() {
    for (rnr, delay, ack_timeout) in [(0, 0, 15), (3, 14, 16), (6, 20, 20), (5, 31, 22)] {
        let mut link = Link::new();
        let a = link.connect(1, &qp(5), &[]).unwrap();
        let b = link.requested();
        link.accept(b, &qp(6), &[]).unwrap();
        link.exchange();
        let Message::Rep(rep) = link.sent_by(B, 0x13)[0].message() else {
            panic!("not a REP");
        };
        link.clear_flight();
        assert_eq!((rep.rnr_retry_count, rep.target_ack_delay), (7, 15));
        let reply = Rep {
            rnr_retry_count: rnr,
            target_ack_delay: delay,
            starting_psn: Psn::new(0xab_cdef),
            qpn: 0x77_7777,
            ..rep
        };
        link.send(A, &Message::Rep(reply), link.transaction(A));
        link.expect(A, Event::Replied { conn: a });
        let attributes = link.establish(a).unwrap();
        assert_eq!(attributes.rnr_retry_count, rnr);
        assert_eq!(attributes.ack_timeout, ack_timeout, "{delay}");
        assert_eq!(attributes.send_psn, Psn::new(0xab_cdef));
        assert_eq!(attributes.peer_qpn, 0x77_7777);
        // Its own, and not what it offers to others.
        assert_eq!(attributes.retry_count, 7);
    }
}

/// Linux's numbers (20 for the connection manager, 19 for the acknowledgement) give Linux's times.
#[test]
fn r073_r086_r093_with_linuxs_codes_the_times_are_linuxs() {
    let config = |side| crate::Config {
        ack_timeout: 19,
        cm_response_timeout: 20,
        cm_disconnect_timeout: 20,
        ..link::config(side)
    };
    let apart = |sent: &[link::Sent]| -> std::vec::Vec<Duration> {
        sent.windows(2).map(|w| w[1].at.since(w[0].at)).collect()
    };
    let lossy = |lost: u16| {
        let mut link = Link::with(&[config(A), config(B)], ["10.0.0.1", "10.0.0.2"], 1);
        link.lose(lost, usize::MAX);
        link
    };
    let mut link = lossy(0x10);
    let conn = link.connect(1, &qp(5), &[]).unwrap();
    let start = link.now;
    let reason = ConnectFailure::Timeout;
    link.expect(A, Event::ConnectFailed { conn, reason });
    let times = apart(&link.sent_by(A, 0x10));
    assert_eq!(times, [Duration::from_millis(6144); 15]);
    assert_eq!(link.now.since(start), Duration::from_millis(6144 * 16));

    let mut link = lossy(0x13);
    link.connect(1, &qp(5), &[]).unwrap();
    let conn = link.requested();
    link.accept(conn, &qp(6), &[]).unwrap();
    link.expect(B, Event::EstablishFailed { conn, reason });
    let times = apart(&link.sent_by(B, 0x13));
    assert_eq!(times, [Duration::from_millis(4096); 15]);

    let mut link = lossy(0x15);
    let (conn, _) = connected(&mut link);
    link.agents[A].disconnect(link.now, conn).unwrap();
    let result = DisconnectResult::Timeout;
    link.expect(A, Event::DisconnectDone { conn, result });
    let times = apart(&link.sent_by(A, 0x15));
    assert_eq!(times, [Duration::from_millis(4096); 15]);
}

#[test]
fn r075_every_reason_is_reported_and_the_consumers_data_comes_along() {
    for reason in 1..=35 {
        let mut link = Link::new();
        link.judge(|_, _| Fate::IsLost);
        let a = link.connect(1, &qp(5), &[]).unwrap();
        link.exchange();
        let Message::Req(req) = link.sent[0].message() else {
            panic!("not a REQ");
        };
        let rej = Message::Rej(Rej {
            local_comm_id: 0,
            remote_comm_id: req.local_comm_id,
            message: Answered::Req,
            info_len: reason as u8 * 3,
            reason: RejReason(reason),
            info: [!reason as u8; Rej::INFO_LEN],
            private: [reason as u8; Rej::PRIVATE_LEN],
        });
        link.send(A, &rej, link.transaction(A));
        link.expect(
            A,
            Event::ConnectFailed {
                conn: a,
                reason: ConnectFailure::Rejected { reason },
            },
        );
        let info = link.agents[A].connection(a).unwrap();
        assert_eq!(info.private_data[..], [reason as u8; Rej::PRIVATE_LEN]);
        assert_eq!(info.reject_reason, Some(reason));
        // However much the message says that it has.
        let len = Rej::INFO_LEN.min(usize::from(reason) * 3);
        assert_eq!(info.reject_info[..], [!reason as u8; Rej::INFO_LEN][..len]);
    }
}

#[test]
fn r076_a_slow_consumer_at_the_other_side_is_waited_for() {
    let mut link = Link::new();
    let a = link.connect(1, &qp(5), &[]).unwrap();
    let b = link.requested();
    // The second REQ is answered by an MRA that asks for 17 s; so is the one after that, and so on.
    link.run_for(Duration::from_secs(120));
    assert!(link.sent_by(A, 0x10).len() <= 9);
    assert!(!link.sent_by(B, 0x11).is_empty());
    link.no_events();
    link.accept(b, &qp(6), &[]).unwrap();
    link.expect(A, Event::Replied { conn: a });
}

/// The MRA names the connection: whoever withdraws then, or is answered, uses that name.
#[test]
fn r076_the_name_in_an_mra_is_kept() {
    let mut link = Link::new();
    let a = link.connect(1, &qp(5), &[]).unwrap();
    link.exchange();
    let Message::Req(req) = link.sent[0].message() else {
        panic!("not a REQ");
    };
    let tid = link.transaction(A);
    link.clear_flight();
    let mra = |local_comm_id| {
        Message::Mra(Mra {
            local_comm_id,
            remote_comm_id: req.local_comm_id,
            message: Answered::Req,
            service_timeout: 20,
            private: private_data(&[]),
        })
    };
    link.send(A, &mra(0x77), tid);
    link.run_for(Duration::from_millis(1));
    // Another name is another's, be it in an MRA or in a rejection; a rejection may do without.
    link.send(A, &mra(0x78), tid);
    let rej = |local_comm_id| {
        Message::Rej(Rej {
            local_comm_id,
            remote_comm_id: req.local_comm_id,
            message: Answered::Req,
            info_len: 0,
            reason: RejReason::NO_RESOURCES,
            info: private_data(&[]),
            private: private_data(&[]),
        })
    };
    link.send(A, &rej(0x78), tid);
    link.run_for(Duration::from_millis(1));
    link.no_events();
    link.agents[A].forget(link.now, a);
    link.exchange();
    let Message::Rej(withdrawal) = link.sent.last().unwrap().message() else {
        panic!("not a REJ");
    };
    assert_eq!(withdrawal.remote_comm_id, 0x77);
    assert_eq!(withdrawal.reason, RejReason::TIMEOUT);
    for (name, refused) in [(0, true), (0x77, true), (0x78, false)] {
        let mut link = Link::new();
        let conn = link.connect(1, &qp(5), &[]).unwrap();
        link.exchange();
        link.clear_flight();
        link.send(A, &mra(0x77), tid);
        link.send(A, &rej(name), tid);
        link.run_for(Duration::from_millis(1));
        let reason = ConnectFailure::Rejected { reason: 3 };
        let told = refused.then_some(Event::ConnectFailed { conn, reason });
        assert_eq!(link.take_events(A), told.as_slice());
    }
}

#[test]
fn a_slow_consumer_on_this_side_is_announced() {
    let mut link = Link::new();
    let a = link.connect(1, &qp(5), &[]).unwrap();
    let b = link.requested();
    link.accept(b, &qp(6), &[]).unwrap();
    link.expect(A, Event::Replied { conn: a });
    link.run_for(Duration::from_secs(15));
    assert_eq!(link.sent_by(B, 0x13).len(), 2);
    assert_eq!(link.sent_by(A, 0x11).len(), 1);
    link.establish(a).unwrap();
    link.expect(A, Event::Established { conn: a });
    link.expect(B, Event::Established { conn: b });
}

#[test]
fn a_consumer_that_never_decides_is_given_up_by_the_peer() {
    let mut link = Link::new();
    let a = link.connect(1, &qp(5), &[]).unwrap();
    let b = link.requested();
    link.accept(b, &qp(6), &[]).unwrap();
    link.expect(A, Event::Replied { conn: a });
    link.expect(
        B,
        Event::EstablishFailed {
            conn: b,
            reason: ConnectFailure::Timeout,
        },
    );
    // The first MRA was honoured, the others were not: this consumer waits, too.
    let replies = link.sent_by(B, 0x13);
    assert_eq!(replies.len(), 16);
    assert!(link.sent_by(A, 0x11).len() > 10);
    let took = link.now.since(replies[0].at);
    assert!(took > Duration::from_secs(30) && took < Duration::from_secs(40));
    // A is told, and so is its consumer when it comes back.
    link.run_for(Duration::from_secs(1));
    assert_eq!(link.establish(a), Err(CmError::PeerGone));
    assert_eq!(
        link.agents[A].reject(link.now, a, &[]),
        Err(CmError::PeerGone)
    );
}

#[test]
fn r077_a_reply_for_no_connection_is_ignored() {
    let mut link = Link::new();
    let a = link.connect(1, &qp(5), &[]).unwrap();
    let b = link.requested();
    link.accept(b, &qp(6), &[]).unwrap();
    link.exchange();
    let Message::Rep(rep) = link.sent_by(B, 0x13)[0].message() else {
        panic!("not a REP");
    };
    link.clear_flight();
    let before = link.sent.len();
    let wrong = Rep {
        remote_comm_id: rep.remote_comm_id ^ 1,
        ..rep
    };
    link.send(A, &Message::Rep(wrong), link.transaction(A));
    link.run_for(Duration::from_millis(10));
    link.no_events();
    assert_eq!(link.sent.len(), before);
    // The right one from a stranger's address does not count either.
    let stranger = Path {
        src_ip: "10.0.0.3".parse().unwrap(),
        ..link.path(B)
    };
    link.send_by(A, &stranger, &Message::Rep(rep), link.transaction(A));
    link.run_for(Duration::from_millis(10));
    link.no_events();
    link.expect(A, Event::Replied { conn: a });
}

#[test]
fn a_reply_without_a_queue_pair_is_refused() {
    let mut link = Link::new();
    let a = link.connect(1, &qp(5), &[]).unwrap();
    let b = link.requested();
    link.accept(b, &qp(6), &[]).unwrap();
    link.exchange();
    let Message::Rep(rep) = link.sent_by(B, 0x13)[0].message() else {
        panic!("not a REP");
    };
    link.clear_flight();
    let nameless = Message::Rep(Rep { qpn: 0, ..rep });
    link.send(A, &nameless, link.transaction(A));
    link.expect(
        A,
        Event::ConnectFailed {
            conn: a,
            reason: ConnectFailure::Aborted,
        },
    );
    link.expect(
        B,
        Event::EstablishFailed {
            conn: b,
            reason: ConnectFailure::Rejected { reason: 1 },
        },
    );
}

/// A peer may grant more than it was asked for, or want more than it was offered: that counts for nothing.
#[test]
fn r078_r088_a_greedy_reply_is_clamped() {
    let mut link = Link::new();
    let a = link.connect(1, &qp(5), &[]).unwrap();
    let b = link.requested();
    link.accept(b, &qp(6), &[]).unwrap();
    link.exchange();
    let Message::Rep(rep) = link.sent_by(B, 0x13)[0].message() else {
        panic!("not a REP");
    };
    link.clear_flight();
    let greedy = Rep {
        responder_resources: 255,
        initiator_depth: 255,
        ..rep
    };
    link.send(A, &Message::Rep(greedy), link.transaction(A));
    link.expect(A, Event::Replied { conn: a });
    let attributes = link.establish(a).unwrap();
    assert_eq!(
        (attributes.responder_resources, attributes.initiator_depth),
        (8, 4)
    );
}

#[test]
fn the_reply_can_be_rejected() {
    let mut link = Link::new();
    link.lose(0x12, 1);
    let a = link.connect(1, &qp(5), &[]).unwrap();
    let b = link.requested();
    link.accept(b, &qp(6), &[]).unwrap();
    link.expect(A, Event::Replied { conn: a });
    link.agents[A].reject(link.now, a, b"too few").unwrap();
    // The first rejection is lost; the repeated reply gets it again.
    link.expect(
        B,
        Event::EstablishFailed {
            conn: b,
            reason: ConnectFailure::Rejected { reason: 28 },
        },
    );
    assert!(
        link.agents[B]
            .connection(b)
            .unwrap()
            .private_data
            .starts_with(b"too few\0")
    );
    let info = link.agents[B].connection(b).unwrap();
    assert_eq!((info.reject_reason, info.reject_info.len()), (Some(28), 0));
    let Message::Rej(rej) = link.sent_by(A, 0x12)[1].message() else {
        panic!("not a REJ");
    };
    assert_eq!(rej.message, Answered::Rep);
    assert_eq!(rej.reason, RejReason::CONSUMER);
    link.run_until_idle();
    link.no_events();
    assert_eq!(link.establish(a), Err(CmError::InvalidState));
}

#[test]
fn whoever_forgets_a_request_withdraws_it() {
    let mut link = Link::new();
    let a = link.connect(1, &qp(5), &[]).unwrap();
    let b = link.requested();
    link.agents[A].forget(link.now, a);
    assert!(link.agents[A].connection(a).is_none());
    link.run_for(Duration::from_millis(10));
    // Here the peer's name of the connection was not known: the rejection says who we are.
    link.no_events();
    assert_eq!(link.accept(b, &qp(6), &[]), Err(CmError::PeerGone));
    link.agents[B].forget(link.now, b);
    link.run_until_idle();
    link.no_events();
    assert!(link.agents.iter().all(|a| a.len() == 0));
}

#[test]
fn r068_r079_what_linux_wants_to_see_in_a_request_is_there() {
    let mut link = Link::new();
    let mut params = link.connect_params(40_000, &qp(5), &[]);
    params.path.traffic_class = 0xb9;
    link.agents[A].connect(link.now, &params, &qp(5)).unwrap();
    link.exchange();
    let packet = link.sent[0].packet();
    assert_eq!(packet.ip.traffic_class(), 0xb9);
    // The datagram around it.
    assert_eq!(packet.bth.opcode.to_u8(), 0x64);
    assert_eq!((packet.bth.dest_qpn, packet.bth.pkey), (1, 0xffff));
    let deth = packet.ext.deth.unwrap();
    assert_eq!((deth.qkey, deth.src_qpn), (0x8001_0000, 1));
    assert_eq!((packet.udp.length, packet.payload.len()), (288, 256));
    assert!(!packet.bth.ack_req);
    let Message::Req(req) = link.sent[0].message() else {
        panic!("not a REQ");
    };
    assert_eq!(req.alternate, crate::wire::cm_msg::ReqPath::default());
    assert_eq!(req.primary.hop_limit, 64);
    assert_eq!(req.primary.traffic_class, 0xb9);
    assert_eq!(req.retry_count, 6);
    assert!(!req.primary.subnet_local);
    assert_eq!(req.primary.local_lid, 0xffff);
    assert_eq!(req.primary.flow_label, 0x307c6);
    assert_eq!(req.service_id, 0x0106_1c06);
    assert_eq!(req.ca_guid, link::config(A).guid);
    assert_eq!(req.mtu_code, 5);
    assert_eq!(req.private[..4], [0, 0x40, 0x9c, 0x40]);
}

#[test]
fn the_link_limits_the_mtu_that_is_asked_for() {
    let configs = [
        crate::Config {
            local_mtu: 1500,
            ..link::config(A)
        },
        link::config(B),
    ];
    let mut link = Link::with(&configs, ["10.0.0.1", "10.0.0.2"], 3);
    link.connect(1, &qp(5), &[]).unwrap();
    let b = link.requested();
    let attributes = link.accept(b, &qp(6), &[]).unwrap();
    assert_eq!(attributes.path.mtu, PathMtu::Mtu1024);
}

#[test]
fn a_reply_with_a_queue_pair_that_was_lost_ends_the_old_connection() {
    let mut link = Link::new();
    let (old, old_b) = connected_with(&mut link, 1, 0x111, 0x222);
    // B restarts, and by chance uses the same queue pair for its first connection.
    link.agents[B] = link::agent(&link::config(B), 99);
    link.listener = link.agents[B]
        .listen("0.0.0.0".parse().unwrap(), PORT)
        .unwrap();
    let _ = old_b;
    let a = link.connect(2, &qp(0x112), &[]).unwrap();
    let b = link.requested();
    link.accept(b, &qp(0x222), &[]).unwrap();
    link.expect(
        A,
        Event::ConnectFailed {
            conn: a,
            reason: ConnectFailure::Aborted,
        },
    );
    link.expect(
        B,
        Event::EstablishFailed {
            conn: b,
            reason: ConnectFailure::Rejected { reason: 10 },
        },
    );
    link.expect(
        A,
        Event::Disconnected {
            conn: old,
            reason: DisconnectReason::Stale,
        },
    );
    // Next time there is nothing in the way.
    connected_with(&mut link, 3, 0x113, 0x222);
}

#[test]
fn a_rejection_by_another_name_is_ignored() {
    let mut link = Link::new();
    let (a, b) = connected(&mut link);
    let Message::Rep(rep) = link.sent_by(B, 0x13)[0].message() else {
        panic!("not a REP");
    };
    let rej = |local_comm_id| {
        Message::Rej(Rej {
            local_comm_id,
            remote_comm_id: rep.remote_comm_id,
            message: Answered::Other,
            info_len: 0,
            reason: RejReason::STALE_CONNECTION,
            info: private_data(&[]),
            private: private_data(&[]),
        })
    };
    for wrong in [0, rep.local_comm_id ^ 1] {
        link.send(A, &rej(wrong), 1);
        link.run_for(Duration::from_millis(1));
        link.no_events();
    }
    link.send(A, &rej(rep.local_comm_id), 1);
    link.expect(
        A,
        Event::Disconnected {
            conn: a,
            reason: DisconnectReason::Rejected { reason: 10 },
        },
    );
    let _ = b;
}

#[test]
fn a_withdrawal_is_sent_however_late_the_nic_takes_it() {
    let mut link = Link::new();
    let a = link.connect(1, &qp(5), &[]).unwrap();
    link.requested();
    link.agents[A].forget(link.now, a);
    // Nobody polls until the connection's rest is over.
    let late = link.now.after(Duration::from_secs(10));
    link.agents[A].handle_timeout(late);
    assert_eq!(link.sent_by(A, 0x12).len(), 0);
    link.exchange();
    assert_eq!(link.sent_by(A, 0x12).len(), 1);
    assert_eq!(link.agents[A].len(), 0);
}
