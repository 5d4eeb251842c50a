//! Only who knows both names of a connection may say something about it; and connections are found among many.

use super::*;
use crate::wire::cm_msg::{
    Answered, Drep, Dreq, Message, Mra, Rej, RejReason, Rep, Rtu, private_data,
};

fn rep_of(link: &Link, nth: usize) -> Rep {
    match link.sent_by(B, 0x13)[nth].message() {
        Message::Rep(rep) => rep,
        other => panic!("{other:?}"),
    }
}

/// A connection that B has accepted and A not yet confirmed; B's REP.
fn accepted(link: &mut Link) -> (ConnId, ConnId, Rep) {
    let a = link.connect(1, &qp(0x111), &[]).unwrap();
    let b = link.requested();
    link.accept(b, &qp(0x222), &[]).unwrap();
    link.expect(A, Event::Replied { conn: a });
    let rep = rep_of(link, 0);
    (a, b, rep)
}

#[test]
fn a_confirmation_by_another_name_confirms_nothing() {
    let mut link = Link::new();
    let (_, b, rep) = accepted(&mut link);
    let rtu = |local_comm_id, remote_comm_id| {
        Message::Rtu(Rtu {
            local_comm_id,
            remote_comm_id,
            private: private_data(&[]),
        })
    };
    let (peers, ours) = (rep.remote_comm_id, rep.local_comm_id);
    for (local, remote) in [(peers ^ 1, ours), (0, ours), (peers, ours ^ 1), (peers, 0)] {
        link.send(B, &rtu(local, remote), 1);
        link.run_for(Duration::from_millis(1));
        link.no_events();
    }
    link.send(B, &rtu(peers, ours), 1);
    link.expect(B, Event::Established { conn: b });
}

#[test]
fn r091_a_disconnect_by_another_name_ends_nothing() {
    let mut link = Link::new();
    let (_, b) = connected(&mut link);
    let rep = rep_of(&link, 0);
    let dreq = |local_comm_id| {
        Message::Dreq(Dreq {
            local_comm_id,
            remote_comm_id: rep.local_comm_id,
            remote_qpn: rep.qpn,
            private: private_data(&[]),
        })
    };
    for wrong in [rep.remote_comm_id ^ 1, 0] {
        link.send(B, &dreq(wrong), 1);
        link.run_for(Duration::from_millis(1));
        link.no_events();
    }
    // Whoever asks so is told that what it means is gone.
    assert_eq!(link.sent_by(B, 0x16).len(), 2);
    link.send(B, &dreq(rep.remote_comm_id), 1);
    link.expect(
        B,
        Event::Disconnected {
            conn: b,
            reason: DisconnectReason::Peer,
        },
    );
}

#[test]
fn an_answer_by_another_name_does_not_end_a_disconnect() {
    let mut link = Link::new();
    let (a, _) = connected(&mut link);
    let rep = rep_of(&link, 0);
    link.agents[A].disconnect(link.now, a).unwrap();
    link.clear_flight();
    let drep = |local_comm_id| {
        Message::Drep(Drep {
            local_comm_id,
            remote_comm_id: rep.remote_comm_id,
            private: private_data(&[]),
        })
    };
    for wrong in [rep.local_comm_id ^ 1, 0] {
        link.send(A, &drep(wrong), 1);
        link.run_for(Duration::from_millis(1));
        link.no_events();
    }
    link.send(A, &drep(rep.local_comm_id), 1);
    link.run_for(Duration::from_millis(1));
    assert_eq!(
        link.take_events(A),
        [Event::DisconnectDone {
            conn: a,
            result: DisconnectResult::Graceful
        }]
    );
}

/// Only a first reply tells of a lost queue pair. One that comes late or again, or is made up, ends no other connection.
#[test]
fn a_repeated_reply_makes_no_other_connection_stale() {
    let mut link = Link::new();
    connected_with(&mut link, 1, 0x111, 0x222);
    let a = link.connect(2, &qp(0x112), &[]).unwrap();
    let b = link.requested();
    link.accept(b, &qp(0x223), &[]).unwrap();
    link.expect(A, Event::Replied { conn: a });
    let rep = Rep {
        // The first connection's.
        qpn: 0x222,
        ..rep_of(&link, 1)
    };
    link.send(A, &Message::Rep(rep), 1);
    link.run_for(Duration::from_millis(1));
    link.no_events();
    link.establish(a).unwrap();
    link.expect(A, Event::Established { conn: a });
    link.expect(B, Event::Established { conn: b });
    link.send(A, &Message::Rep(rep), 1);
    link.run_for(Duration::from_millis(1));
    link.no_events();
}

/// The passive side may be told of a withdrawal by a peer that never learned its name.
#[test]
fn a_withdrawal_finds_its_connection_by_the_peers_name_and_guid() {
    let mut link = Link::new();
    let mut requested = std::vec::Vec::new();
    for port in 1..6 {
        link.connect(port, &qp(u32::from(port)), &[]).unwrap();
        requested.push(link.requested());
    }
    let asked = &link.sent_by(A, 0x10)[2];
    let tid = asked.transaction();
    let name = match asked.message() {
        Message::Req(req) => req.local_comm_id,
        other => panic!("{other:?}"),
    };
    let guid = link::config(A).guid;
    let rej = |local_comm_id, guid: u64| {
        Message::Rej(Rej {
            local_comm_id,
            remote_comm_id: 0,
            message: Answered::Other,
            info_len: 8,
            reason: RejReason::TIMEOUT,
            info: private_data(&guid.to_be_bytes()),
            private: private_data(&[]),
        })
    };
    for (name, guid, tid) in [
        (name ^ 1, guid, tid),
        (name, guid ^ 1, tid),
        (name, guid, tid ^ 1),
        (name, guid, tid),
    ] {
        link.send(B, &rej(name, guid), tid);
        link.run_for(Duration::from_millis(1));
    }
    for (n, conn) in requested.into_iter().enumerate() {
        let result = link.accept(conn, &qp(0x300 + n as u32), &[]);
        assert_eq!(result.err(), (n == 2).then_some(CmError::PeerGone), "{n}");
    }
}

/// Once it is established, the peer knows both names, and who withdraws by one of them is somebody else.
#[test]
fn a_withdrawal_by_the_peers_name_alone_ends_nothing_that_is_established() {
    let mut link = Link::new();
    let (_, b) = connected(&mut link);
    let Message::Req(req) = link.sent_by(A, 0x10)[0].message() else {
        panic!("not a REQ");
    };
    let rej = Message::Rej(Rej {
        local_comm_id: req.local_comm_id,
        remote_comm_id: 0,
        message: Answered::Other,
        info_len: 8,
        reason: RejReason::TIMEOUT,
        info: private_data(&req.ca_guid.to_be_bytes()),
        private: private_data(&[]),
    });
    link.send(B, &rej, link.transaction(A));
    link.run_for(Duration::from_millis(1));
    link.no_events();
    assert_eq!(
        link.agents[B].connection(b).unwrap().state,
        ConnState::Established
    );
}

/// What may answer a request of this name.
fn answers(id: u32) -> [Message; 3] {
    let rep = Rep {
        local_comm_id: 0x1234,
        remote_comm_id: id,
        qkey: 0,
        qpn: 0x222,
        vendor_id: 0,
        local_eecn: 0,
        starting_psn: Psn::ZERO,
        responder_resources: 1,
        initiator_depth: 1,
        target_ack_delay: 15,
        failover_accepted: 0,
        flow_control: false,
        rnr_retry_count: 7,
        srq: false,
        ca_guid: 7,
        private: private_data(&[]),
    };
    let rej = Rej {
        local_comm_id: 0x1234,
        remote_comm_id: id,
        message: Answered::Req,
        info_len: 0,
        reason: RejReason::CONSUMER,
        info: private_data(&[]),
        private: private_data(&[]),
    };
    let mra = Mra {
        local_comm_id: 0x1234,
        remote_comm_id: id,
        message: Answered::Req,
        service_timeout: 22,
        private: private_data(&[]),
    };
    [Message::Rep(rep), Message::Rej(rej), Message::Mra(mra)]
}

/// While this side asks, its own name is all that it shares with the peer; a blind forger has to hit that and the transaction. Every bit
/// of both counts, as do both addresses.
#[test]
fn what_answers_a_request_cannot_be_guessed() {
    let mut link = Link::new();
    let a = link.connect(1, &qp(0x111), &[]).unwrap();
    link.exchange();
    let (id, tid) = match link.sent[0].message() {
        Message::Req(req) => (req.local_comm_id, link.transaction(A)),
        other => panic!("{other:?}"),
    };
    link.clear_flight();
    let path = link.path(B);
    let mut rng = crate::Rng::new(9);
    // Neighbours of the truth first: each bit of the 96, alone. Then anything.
    let neighbours = (0..32)
        .map(|bit| (id ^ 1 << bit, tid))
        .chain((0..64).map(|bit| (id, tid ^ 1 << bit)));
    let tried = core::cell::Cell::new(0_u32);
    let try_one = |link: &mut Link, path: &Path, id: u32, tid: u64| {
        for message in answers(id) {
            let frame = link.frame(path, &message, tid);
            link.hand(A, &frame);
            tried.set(tried.get() + 1);
        }
    };
    for (id, tid) in neighbours {
        try_one(&mut link, &path, id, tid);
    }
    for _ in 0..20_000 {
        try_one(&mut link, &path, rng.next_u32(), rng.next_u64());
        try_one(&mut link, &path, id, rng.next_u64());
    }
    for (src, dst) in [("10.0.0.3", "10.0.0.1"), ("10.0.0.2", "10.0.0.4")] {
        let path = Path {
            src_ip: src.parse().unwrap(),
            dst_ip: dst.parse().unwrap(),
            ..path
        };
        try_one(&mut link, &path, id, tid);
    }
    assert_eq!(tried.get(), 3 * (96 + 40_000 + 2));
    link.no_events();
    // Not one has been taken: no name was kept, no time was granted, and nothing was answered.
    assert_eq!(link.sent.len(), 1);
    link.run_for(Duration::from_millis(1200));
    assert_eq!(link.sent_by(A, 0x10).len(), 2);
    link.clear_flight();
    try_one(&mut link, &path, id, tid);
    link.expect(A, Event::Replied { conn: a });
}

/// Who ends what is established has to hit both names, our 32 random bits and the peer's, and for a DREQ our queue pair's number as well;
/// who makes it established before the peer does, both names. Every bit counts. Blind, that is one message in 2^88, and one in 2^64;
/// whoever sees the messages pass knows them all: the protocol has no secret to tell such a one from the peer.
#[test]
fn what_is_said_of_a_connection_cannot_be_guessed() {
    let mut link = Link::new();
    let (_, b) = connected(&mut link);
    let (_, undecided, rep) = {
        let a = link.connect(2, &qp(0x333), &[]).unwrap();
        let b = link.requested();
        link.accept(b, &qp(0x444), &[]).unwrap();
        link.expect(A, Event::Replied { conn: a });
        (a, b, rep_of(&link, 1))
    };
    let known = rep_of(&link, 0);
    let rej = |local_comm_id, remote_comm_id| {
        Message::Rej(Rej {
            local_comm_id,
            remote_comm_id,
            message: Answered::Other,
            info_len: 0,
            reason: RejReason::STALE_CONNECTION,
            info: private_data(&[]),
            private: private_data(&[]),
        })
    };
    let dreq = |local_comm_id, remote_comm_id, remote_qpn| {
        Message::Dreq(Dreq {
            local_comm_id,
            remote_comm_id,
            remote_qpn,
            private: private_data(&[]),
        })
    };
    let rtu = |local_comm_id, remote_comm_id| {
        Message::Rtu(Rtu {
            local_comm_id,
            remote_comm_id,
            private: private_data(&[]),
        })
    };
    let (theirs, ours) = (known.remote_comm_id, known.local_comm_id);
    let mut wrong = std::vec::Vec::new();
    for bit in 0..32 {
        for (l, r) in [(1 << bit, 0), (0, 1 << bit)] {
            wrong.push(rej(theirs ^ l, ours ^ r));
            wrong.push(dreq(theirs ^ l, ours ^ r, known.qpn));
            wrong.push(rtu(rep.remote_comm_id ^ l, rep.local_comm_id ^ r));
        }
    }
    wrong.extend((0..24).map(|bit| dreq(theirs, ours, known.qpn ^ 1 << bit)));
    // One's names are nothing for the other.
    wrong.push(rej(theirs, rep.local_comm_id));
    wrong.push(dreq(theirs, rep.local_comm_id, rep.qpn));
    for message in wrong {
        let frame = link.frame(&link.path(A), &message, 1);
        link.hand(B, &frame);
        assert_eq!(link.agents[B].poll_event(), None, "{message:?}");
    }
    for (message, event) in [
        (
            rtu(rep.remote_comm_id, rep.local_comm_id),
            Event::Established { conn: undecided },
        ),
        (
            dreq(theirs, ours, known.qpn),
            Event::Disconnected {
                conn: b,
                reason: DisconnectReason::Peer,
            },
        ),
        (
            rej(rep.remote_comm_id, rep.local_comm_id),
            Event::Disconnected {
                conn: undecided,
                reason: DisconnectReason::UNKNOWN,
            },
        ),
    ] {
        let frame = link.frame(&link.path(A), &message, 1);
        link.hand(B, &frame);
        assert_eq!(link.agents[B].poll_event(), Some(event));
    }
}

/// What the indices say stays true while connections come and go.
#[test]
fn names_of_the_past_name_nothing() {
    let mut link = Link::new();
    for round in 0..40_u16 {
        let qpn = 0x100 + u32::from(round % 3);
        // The same ports and queue pairs again and again.
        let (a, b) = connected_with(&mut link, 7 + round % 2, qpn, qpn + 0x100);
        assert_eq!(
            link.connect(7 + round % 2, &qp(9), &[]),
            Err(CmError::ConnectionExists)
        );
        link.agents[A].disconnect(link.now, a).unwrap();
        link.run_for(Duration::from_millis(1));
        link.agents[A].forget(link.now, a);
        link.agents[B].forget(link.now, b);
        link.take_events(A);
        link.take_events(B);
        if round % 4 == 0 {
            link.run_until_idle();
            assert_eq!((link.agents[A].len(), link.agents[B].len()), (0, 0));
        }
    }
}

/// Undecided requests are counted as they come and go, however they go.
#[test]
fn room_for_requests_comes_back() {
    let mut link = Link::new();
    let half = 8;
    for round in 0..4_u32 {
        let mut conns = std::vec::Vec::new();
        let mut asked = std::vec::Vec::new();
        for n in 0..half {
            let port = 1 + n as u16;
            asked.push(link.connect(port, &qp(0x100 + n), &[]).unwrap());
            conns.push(link.requested());
        }
        // No room for one more: the request stays unanswered.
        let more = link.connect(100, &qp(0x200), &[]).unwrap();
        link.run_for(Duration::from_millis(1));
        link.no_events();
        link.agents[A].forget(link.now, more);
        for conn in &conns {
            match round {
                0 => link.agents[B].reject(link.now, *conn, &[]).unwrap(),
                1 => link.agents[B].forget(link.now, *conn),
                2 => drop(link.accept(*conn, &qp(0x300), &[])),
                _ => {}
            }
        }
        link.run_for(Duration::from_millis(1));
        for conn in asked {
            link.agents[A].forget(link.now, conn);
        }
        link.run_for(Duration::from_millis(1));
        for conn in conns {
            link.agents[B].forget(link.now, conn);
        }
        link.run_until_idle();
        link.take_events(A);
        link.take_events(B);
    }
    assert_eq!(link.agents[B].len(), 0);
}
