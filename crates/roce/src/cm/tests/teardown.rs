//! How connections end.

use super::*;
use crate::wire::cm_msg::{Dreq, Message, SidrReq, private_data};
use link::Fate;

fn forget_both(link: &mut Link, a: ConnId, b: ConnId) {
    link.agents[A].forget(link.now, a);
    link.agents[B].forget(link.now, b);
    link.run_until_idle();
    link.no_events();
    assert!(link.agents.iter().all(|a| a.len() == 0));
}

#[test]
fn r068_every_message_of_a_connections_life_is_a_datagram_from_gsi_to_gsi() {
    for ips in FAMILIES {
        let mut link = Link::with(&[link::config(A), link::config(B)], ips, 1);
        let (a, _) = connected(&mut link);
        link.agents[A].disconnect(link.now, a).unwrap();
        link.run_until_idle();
        link.take_events(B);
        // A second one is rejected.
        link.connect(2, &qp(0x333), &[]).unwrap();
        let b = link.requested();
        // Who asks again while its consumer thinks is told to wait.
        link.run_for(Duration::from_secs(2));
        link.agents[B].reject(link.now, b, &[]).unwrap();
        link.run_until_idle();
        let question = Message::SidrReq(SidrReq {
            request_id: 1,
            pkey: 0xffff,
            service_id: 1,
            private: private_data(&[]),
        });
        link.send(B, &question, 5);
        link.run_for(Duration::from_millis(1));
        let mut kinds: std::vec::Vec<u16> = link.sent.iter().map(|s| s.attribute()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(
            kinds,
            [0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x18],
            "all that this side ever says"
        );
        for sent in &link.sent {
            let packet = sent.packet();
            assert_eq!(packet.bth.opcode.to_u8(), 0x64);
            assert_eq!((packet.bth.dest_qpn, packet.bth.pkey), (1, 0xffff));
            let deth = packet.ext.deth.unwrap();
            assert_eq!((deth.qkey, deth.src_qpn), (0x8001_0000, 1));
            assert_eq!((packet.udp.length, packet.payload.len()), (288, 256));
            assert!(!packet.bth.ack_req && !packet.bth.solicited);
        }
    }
}

#[test]
fn one_side_disconnects_and_both_know() {
    let mut link = Link::new();
    let (a, b) = connected(&mut link);
    link.agents[A].disconnect(link.now, a).unwrap();
    assert_eq!(
        link.agents[A].connection(a).unwrap().state,
        ConnState::Disconnecting
    );
    link.expect(
        B,
        Event::Disconnected {
            conn: b,
            reason: DisconnectReason::Peer,
        },
    );
    link.expect(
        A,
        Event::DisconnectDone {
            conn: a,
            result: DisconnectResult::Graceful,
        },
    );
    let (dreq, drep) = (&link.sent_by(A, 0x15)[0], &link.sent_by(B, 0x16)[0]);
    let Message::Dreq(message) = dreq.message() else {
        panic!("not a DREQ");
    };
    assert_eq!(message.remote_qpn, 0x222);
    assert_eq!(dreq.mad()[8..16], drep.mad()[8..16]);
    // The other side's own disconnect has nothing left to do.
    link.agents[B].disconnect(link.now, b).unwrap();
    link.expect(
        B,
        Event::DisconnectDone {
            conn: b,
            result: DisconnectResult::Graceful,
        },
    );
    assert_eq!(
        link.agents[B].disconnect(link.now, b),
        Err(CmError::InvalidState)
    );
    assert_eq!(link.sent_by(B, 0x15).len(), 0);
    forget_both(&mut link, a, b);
}

#[test]
fn the_passive_side_may_end_it_too() {
    let mut link = Link::new();
    let (a, b) = connected(&mut link);
    link.agents[B].disconnect(link.now, b).unwrap();
    link.expect(
        A,
        Event::Disconnected {
            conn: a,
            reason: DisconnectReason::Peer,
        },
    );
    link.expect(
        B,
        Event::DisconnectDone {
            conn: b,
            result: DisconnectResult::Graceful,
        },
    );
    forget_both(&mut link, a, b);
}

#[test]
fn r091_a_disconnect_for_another_queue_pair_is_ignored() {
    let mut link = Link::new();
    let (a, b) = connected(&mut link);
    link.agents[A].disconnect(link.now, a).unwrap();
    link.exchange();
    let Message::Dreq(dreq) = link.sent_by(A, 0x15)[0].message() else {
        panic!("not a DREQ");
    };
    link.clear_flight();
    let wrong = Dreq {
        remote_qpn: 0x333,
        ..dreq
    };
    link.send(B, &Message::Dreq(wrong), 1);
    link.run_for(Duration::from_millis(10));
    link.no_events();
    assert_eq!(link.sent_by(B, 0x16).len(), 0);
    // The right one comes again by itself.
    link.expect(
        B,
        Event::Disconnected {
            conn: b,
            reason: DisconnectReason::Peer,
        },
    );
}

#[test]
fn r092_every_disconnect_is_answered_even_when_all_is_forgotten() {
    let mut link = Link::new();
    let (a, b) = connected(&mut link);
    // The answer is lost time and again.
    link.lose(0x16, 3);
    link.agents[A].disconnect(link.now, a).unwrap();
    link.expect(
        B,
        Event::Disconnected {
            conn: b,
            reason: DisconnectReason::Peer,
        },
    );
    link.agents[B].forget(link.now, b);
    link.expect(
        A,
        Event::DisconnectDone {
            conn: a,
            result: DisconnectResult::Graceful,
        },
    );
    let (requests, answers) = (link.sent_by(A, 0x15), link.sent_by(B, 0x16));
    assert_eq!((requests.len(), answers.len()), (4, 4));
    assert!(requests.windows(2).all(|w| w[0].mad() == w[1].mad()));
    assert!(answers.windows(2).all(|w| w[0].mad() == w[1].mad()));
    link.run_until_idle();
    assert_eq!(link.agents[B].len(), 0);
    link.sent.clear();
    // A stranger's gets one as well.
    let dreq = Message::Dreq(Dreq {
        local_comm_id: 77,
        remote_comm_id: 88,
        remote_qpn: 99,
        private: private_data(&[]),
    });
    link.send(B, &dreq, 0xabcd);
    link.run_for(Duration::from_millis(1));
    let answer = &link.sent_by(B, 0x16)[0];
    let Message::Drep(drep) = answer.message() else {
        panic!("not a DREP");
    };
    assert_eq!((drep.local_comm_id, drep.remote_comm_id), (88, 77));
    assert_eq!(answer.mad()[8..16], 0xabcd_u64.to_be_bytes());
}

#[test]
fn r093_a_silent_peer_is_left_after_a_while() {
    let mut link = Link::new();
    let (a, b) = connected(&mut link);
    link.judge(|_, _| Fate::IsLost);
    let start = link.now;
    link.agents[A].disconnect(link.now, a).unwrap();
    link.expect(
        A,
        Event::DisconnectDone {
            conn: a,
            result: DisconnectResult::Timeout,
        },
    );
    assert_eq!(link.sent_by(A, 0x15).len(), 16);
    assert!(link.now.since(start) < Duration::from_secs(20));
    link.agents[A].forget(link.now, a);
    assert_eq!(link.agents[A].len(), 1);
    link.run_for(Duration::from_secs(3));
    assert_eq!(link.agents[A].len(), 0);
    // B knows of nothing.
    link.no_events();
    assert_eq!(
        link.agents[B].connection(b).unwrap().state,
        ConnState::Established
    );
}

/// Whichever of both is lost, if any, and whichever answer. The peer's own DREQ is as good as an answer: who has had one asks no more.
#[test]
fn r094_crossing_disconnects_end_well_on_both_sides() {
    for (lost, requests) in [
        (&[][..], [1, 1]),
        (&[(A, 0x15)], [1, 1]),
        (&[(B, 0x15)], [1, 1]),
        (&[(A, 0x15), (B, 0x15)], [2, 2]),
        (&[(A, 0x15), (A, 0x16)], [1, 2]),
        (&[(A, 0x16), (B, 0x16)], [1, 1]),
    ] {
        let mut link = Link::new();
        let (a, b) = connected(&mut link);
        let mut to_lose = lost.to_vec();
        link.judge(move |from, m| {
            let this = (from, m.attribute());
            match to_lose.iter().position(|l| *l == this) {
                Some(at) => {
                    to_lose.remove(at);
                    Fate::IsLost
                }
                None => Fate::Arrives,
            }
        });
        link.agents[A].disconnect(link.now, a).unwrap();
        link.agents[B].disconnect(link.now, b).unwrap();
        let result = DisconnectResult::Graceful;
        for (side, conn) in [(A, a), (B, b)] {
            link.expect(side, Event::DisconnectDone { conn, result });
        }
        let sent = [A, B].map(|side| link.sent_by(side, 0x15).len());
        assert_eq!(sent, requests, "{lost:?}");
        forget_both(&mut link, a, b);
    }
}

#[test]
fn whoever_disconnects_first_is_not_told_that_he_is_disconnected() {
    let mut link = Link::new();
    let (a, b) = connected(&mut link);
    link.agents[A].disconnect(link.now, a).unwrap();
    link.exchange();
    let dreq = link.sent_by(A, 0x15)[0].clone();
    // B has received it, but its owner has not been told when he disconnects.
    link.hand(B, &dreq.frame);
    link.agents[B].disconnect(link.now, b).unwrap();
    link.expect(
        B,
        Event::DisconnectDone {
            conn: b,
            result: DisconnectResult::Graceful,
        },
    );
    link.run_until_idle();
    assert_eq!(link.take_events(B), []);
}

#[test]
fn a_failed_queue_pair_takes_the_connection_with_it_on_both_sides() {
    let mut link = Link::new();
    let (a, b) = connected(&mut link);
    link.agents[A].abort(link.now, a);
    link.expect(
        A,
        Event::Disconnected {
            conn: a,
            reason: DisconnectReason::QpError,
        },
    );
    assert_eq!(
        link.agents[A].connection(a).unwrap().state,
        ConnState::Closed
    );
    link.agents[A].abort(link.now, a);
    link.expect(
        B,
        Event::Disconnected {
            conn: b,
            reason: DisconnectReason::Peer,
        },
    );
    link.run_for(Duration::from_millis(1));
    link.no_events();
    link.agents[A].disconnect(link.now, a).unwrap();
    link.expect(
        A,
        Event::DisconnectDone {
            conn: a,
            result: DisconnectResult::Graceful,
        },
    );
    forget_both(&mut link, a, b);
}

#[test]
fn disconnecting_after_a_failure_waits_for_the_peer() {
    let mut link = Link::new();
    let (a, b) = connected(&mut link);
    link.judge(|_, _| Fate::IsLost);
    link.agents[A].abort(link.now, a);
    link.agents[A].disconnect(link.now, a).unwrap();
    link.expect(
        A,
        Event::DisconnectDone {
            conn: a,
            result: DisconnectResult::Timeout,
        },
    );
    link.no_events();
    link.judge(|_, _| Fate::Arrives);
    forget_both(&mut link, a, b);
}

#[test]
fn whoever_forgets_a_connection_disconnects_it() {
    let mut link = Link::new();
    let (a, b) = connected(&mut link);
    link.lose(0x15, 2);
    link.agents[B].forget(link.now, b);
    link.expect(
        A,
        Event::Disconnected {
            conn: a,
            reason: DisconnectReason::Peer,
        },
    );
    link.agents[A].forget(link.now, a);
    link.run_until_idle();
    link.no_events();
    assert!(link.agents.iter().all(|a| a.len() == 0));
}

#[test]
fn nothing_but_an_established_connection_can_be_disconnected() {
    let mut link = Link::new();
    let a = link.connect(1, &qp(5), &[]).unwrap();
    assert_eq!(
        link.agents[A].disconnect(link.now, a),
        Err(CmError::InvalidState)
    );
    let b = link.requested();
    assert_eq!(
        link.agents[B].disconnect(link.now, b),
        Err(CmError::InvalidState)
    );
    link.agents[B].forget(link.now, b);
    assert_eq!(
        link.agents[B].disconnect(link.now, b),
        Err(CmError::Unknown)
    );
}

/// There are only some more names than connections: each draw would meet one that rests, if those were not left out.
#[test]
fn r096_a_name_rests_as_long_as_its_connection() {
    let mut link = Link::new();
    let mut rng = crate::Rng::new(7);
    link.agents[A] = crate::cm::Agent::with_comm_ids(&link::config(A), &mut rng, 1..=20).unwrap();
    let mut told = std::vec::Vec::new();
    for port in 0..1000 {
        let conn = link
            .connect(port, &qp(0x1000 + u32::from(port)), &[])
            .unwrap();
        link.exchange();
        let Message::Req(req) = link.sent_by(A, 0x10)[0].message() else {
            panic!("not a REQ");
        };
        let name = req.local_comm_id;
        assert!((1..=20).contains(&name));
        told.retain(|(_, since)| link.now.since(*since) < Duration::from_millis(2048));
        assert!(told.len() > 10 || port < 20);
        assert!(told.iter().all(|(other, _)| *other != name), "{name}");
        link.agents[A].forget(link.now, conn);
        told.push((name, link.now));
        link.run_for(Duration::from_millis(150));
        link.sent.clear();
        for event in link.take_events(B) {
            let Event::ConnectRequest { conn, .. } = event else {
                panic!("{event:?}");
            };
            link.agents[B].forget(link.now, conn);
        }
    }
}

#[test]
fn r096_names_rest_before_they_are_used_again() {
    let mut link = Link::new();
    let mut seen = std::collections::BTreeSet::new();
    for i in 0..64 {
        let (a, b) = connected_with(&mut link, 1 + i, 0x1000 + u32::from(i), 0x2000);
        link.agents[A].disconnect(link.now, a).unwrap();
        link.event(A);
        link.event(B);
        link.agents[A].forget(link.now, a);
        link.agents[B].forget(link.now, b);
        assert_eq!(link.agents[A].len(), 1);
        for sent in link.sent_by(A, 0x10) {
            seen.insert(sent.mad()[24..28].to_vec());
        }
        link.sent.clear();
        link.run_for(Duration::from_secs(3));
        assert_eq!(link.agents[A].len(), 0);
    }
    assert_eq!(seen.len(), 64);
}

#[test]
fn a_confirmed_connection_that_the_peer_gave_up_is_over() {
    // Every RTU is lost, and there is no data.
    let mut link = Link::new();
    link.lose(0x14, usize::MAX);
    let a = link.connect(1, &qp(5), &[]).unwrap();
    let b = link.requested();
    link.accept(b, &qp(6), &[]).unwrap();
    link.expect(A, Event::Replied { conn: a });
    link.establish(a).unwrap();
    link.expect(A, Event::Established { conn: a });
    link.expect(
        B,
        Event::EstablishFailed {
            conn: b,
            reason: ConnectFailure::Timeout,
        },
    );
    link.expect(
        A,
        Event::Disconnected {
            conn: a,
            reason: DisconnectReason::Rejected { reason: 4 },
        },
    );
}

#[test]
fn a_disconnect_that_overtakes_the_confirmation_ends_the_acceptance() {
    let mut link = Link::new();
    link.lose(0x14, 1);
    let a = link.connect(1, &qp(5), &[]).unwrap();
    let b = link.requested();
    link.accept(b, &qp(6), &[]).unwrap();
    link.expect(A, Event::Replied { conn: a });
    link.establish(a).unwrap();
    link.expect(A, Event::Established { conn: a });
    link.exchange();
    link.agents[A].disconnect(link.now, a).unwrap();
    link.expect(
        B,
        Event::EstablishFailed {
            conn: b,
            reason: ConnectFailure::Aborted,
        },
    );
    link.expect(
        A,
        Event::DisconnectDone {
            conn: a,
            result: DisconnectResult::Graceful,
        },
    );
}

/// What is under way may be as late as the peer's time to acknowledge: its answer to that, too, is waited for.
#[test]
fn r096_names_rest_as_long_as_the_peer_may_be_late() {
    for (code, ms) in [(15, 2048), (20, 4096), (22, 16384)] {
        let configs = [A, B].map(|side| crate::Config {
            ack_timeout: code,
            ..link::config(side)
        });
        let mut link = Link::with(&configs, ["10.0.0.1", "10.0.0.2"], 4);
        let (a, b) = connected(&mut link);
        link.agents[A].disconnect(link.now, a).unwrap();
        link.run_for(Duration::from_micros(200));
        assert_eq!(
            (link.take_events(A).len(), link.take_events(B).len()),
            (1, 1)
        );
        link.agents[A].forget(link.now, a);
        link.agents[B].forget(link.now, b);
        let rest = Duration::from_millis(ms);
        let start = link.now;
        link.run_for(rest - Duration::from_millis(1));
        assert_eq!(
            link.agents.iter().map(|a| a.len()).sum::<u32>(),
            2,
            "{code}"
        );
        link.run_for(Duration::from_millis(2));
        assert_eq!(
            link.agents.iter().map(|a| a.len()).sum::<u32>(),
            0,
            "{code}"
        );
        assert!(link.now.since(start) > rest);
    }
}

#[test]
fn an_answer_stops_the_question() {
    let mut link = Link::new();
    let (a, _) = connected(&mut link);
    link.lose(0x16, 1);
    link.agents[A].disconnect(link.now, a).unwrap();
    link.run_for(Duration::from_millis(10));
    let drep = link.sent_by(B, 0x16)[0].clone();
    // The timer has run out, but the NIC has not taken the repetition when the answer comes.
    let later = link.now.after(Duration::from_secs(2));
    link.agents[A].handle_timeout(later);
    link.agents[A].receive(later, &drep.packet(), &mut link.counters[A]);
    link.expect(
        A,
        Event::DisconnectDone {
            conn: a,
            result: DisconnectResult::Graceful,
        },
    );
    link.run_until_idle();
    assert_eq!(link.sent_by(A, 0x15).len(), 1);
}
