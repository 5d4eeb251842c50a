//! What there is of communication management besides connections: questions for datagram services, and path migration.

use super::*;
use crate::wire::cm_msg::{Apr, Lap, Message, ReqPath, SidrReq, private_data};

/// There are none, and whoever asks is told at once, as Linux tells where nobody listens.
#[test]
fn a_question_for_a_datagram_service_is_answered_in_the_negative() {
    let mut link = Link::new();
    for (request_id, service_id) in [(0x77, 0x0111_1c06), (0, 0x0106_1c06), (u32::MAX, 1)] {
        let req = Message::SidrReq(SidrReq {
            request_id,
            pkey: 0xffff,
            service_id,
            private: private_data(&[0, 0x40]),
        });
        let path = Path {
            vlan: Some(5),
            ..link.path(A)
        };
        link.sent.clear();
        link.send_by(B, &path, &req, 0xabcd);
        link.run_for(Duration::from_millis(1));
        link.no_events();
        let [answer] = &link.sent[..] else {
            panic!("{:?}", link.sent);
        };
        let Message::SidrRep(rep) = answer.message() else {
            panic!("not a SIDR_REP");
        };
        assert_eq!((rep.request_id, rep.status), (request_id, 1));
        assert_eq!((rep.service_id, rep.qpn, rep.qkey), (service_id, 0, 0));
        assert_eq!(rep.info_len, 0);
        assert_eq!(answer.transaction(), 0xabcd);
        assert_eq!(answer.packet().ip.dst(), link.ips[A]);
        assert_eq!(answer.packet().eth.vlan, Some(5));
    }
    assert_eq!(link.agents[B].len(), 0);
}

/// Linux ignores path migration on RoCE, whoever it comes from; so does this side.
#[test]
fn path_migration_is_ignored_and_changes_nothing() {
    let mut link = Link::new();
    let (a, b) = connected(&mut link);
    let (Message::Req(req), Message::Rep(rep)) = (
        link.sent_by(A, 0x10)[0].message(),
        link.sent_by(B, 0x13)[0].message(),
    ) else {
        panic!("not a REQ and a REP");
    };
    let lap = Message::Lap(Lap {
        local_comm_id: req.local_comm_id,
        remote_comm_id: rep.local_comm_id,
        remote_qpn: rep.qpn,
        remote_cm_timeout: 20,
        path: ReqPath {
            hop_limit: 9,
            ..req.primary
        },
        private: private_data(&[]),
    });
    let apr = Message::Apr(Apr {
        local_comm_id: req.local_comm_id,
        remote_comm_id: rep.local_comm_id,
        info_len: 0,
        status: 0,
        info: private_data(&[]),
        private: private_data(&[]),
    });
    link.sent.clear();
    let before = link.agents[B].connection(b).unwrap().clone();
    let way = link.agents[B].way_back(b);
    for (n, message) in [lap, apr].into_iter().enumerate() {
        link.send(B, &message, 7);
        link.run_for(Duration::from_secs(1));
        link.no_events();
        assert_eq!(link.sent.len(), 0);
        assert_eq!(link.counters[B].cm_drop_path_migration, 1 + n as u64);
    }
    let after = link.agents[B].connection(b).unwrap();
    assert_eq!(std::format!("{before:?}"), std::format!("{after:?}"));
    assert_eq!(link.agents[B].way_back(b), way);
    // It ends as ever.
    link.agents[A].disconnect(link.now, a).unwrap();
    let reason = DisconnectReason::Peer;
    link.expect(B, Event::Disconnected { conn: b, reason });
}
