//! Whatever comes to nothing is counted, each by its cause.

use super::*;
use crate::Counters;
use crate::wire::cm_msg::{
    Answered, Drep, Dreq, Message, Mra, Rej, RejReason, Rep, Req, Rtu, SidrRep, private_data,
};
use crate::wire::{Bth, ExtHeaders, frame, mad};
use arrayvec::ArrayVec;

/// What a frame to `to` adds to its counters.
fn counted(link: &mut Link, to: usize, frame: &[u8]) -> std::vec::Vec<(&'static str, u64)> {
    let before = link.counters[to];
    link.hand(to, frame);
    differences(&before, &link.counters[to])
}

fn differences(before: &Counters, after: &Counters) -> std::vec::Vec<(&'static str, u64)> {
    before
        .iter()
        .zip(after.iter())
        .filter(|((_, old), (_, new))| old != new)
        .map(|((name, old), (_, new))| (name, new - old))
        .collect()
}

fn framed(
    path: &Path,
    mad: &[u8],
    change: impl FnOnce(&mut Bth, &mut ExtHeaders),
) -> std::vec::Vec<u8> {
    let (mut bth, mut ext) = mad::transport_headers(Psn::ZERO);
    change(&mut bth, &mut ext);
    let mut out = ArrayVec::<u8, 512>::new();
    let mut icrc = frame::Header::new(path, 0xc000, bth, ext)
        .write(mad.len(), &mut out)
        .unwrap();
    icrc.update(mad);
    [&out[..], mad, &icrc.trailer(frame::pad_of(mad.len()))[..]].concat()
}

/// Both messages of a connection's beginning.
fn beginning(link: &Link) -> (Req, Rep) {
    match (
        link.sent_by(A, 0x10)[0].message(),
        link.sent_by(B, 0x13)[0].message(),
    ) {
        (Message::Req(req), Message::Rep(rep)) => (req, rep),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_message_for_this_side_is_counted() {
    let mut link = Link::new();
    connected(&mut link);
    let (req, _) = beginning(&link);
    let path = link.path(A);
    let good = Message::Req(req).emit(1);
    let with = |at: usize, value| {
        let mut mad = good;
        mad[at] = value;
        mad
    };
    let plain = |_: &mut Bth, _: &mut ExtHeaders| {};
    let elsewhere = |src: &str, dst: &str| Path {
        src_ip: src.parse().unwrap(),
        dst_ip: dst.parse().unwrap(),
        ..path
    };
    link.agents[B].set_addresses([link.ips[B]]);
    let nameless = Message::Req(Req {
        local_comm_id: 0,
        ..req
    });
    for (frame, cause) in [
        (framed(&path, &good[..252], plain), "cm_drop_not_mad"),
        (
            framed(&path, &good, |_, ext| {
                ext.deth.as_mut().unwrap().src_qpn = 2
            }),
            "cm_drop_not_mad",
        ),
        (
            framed(&path, &good, |_, ext| ext.deth.as_mut().unwrap().qkey ^= 1),
            "cm_drop_not_mad",
        ),
        (framed(&path, &with(0, 2), plain), "cm_drop_not_cm"),
        (framed(&path, &with(1, 3), plain), "cm_drop_not_cm"),
        (framed(&path, &with(2, 1), plain), "cm_drop_not_cm"),
        (framed(&path, &with(3, 0x81), plain), "cm_drop_not_cm"),
        (framed(&path, &with(17, 1), plain), "cm_drop_attribute"),
        (framed(&path, &with(17, 0x1b), plain), "cm_drop_attribute"),
        (
            framed(&path, &with(17, 0x19), plain),
            "cm_drop_path_migration",
        ),
        (
            framed(&path, &with(17, 0x1a), plain),
            "cm_drop_path_migration",
        ),
        (
            framed(&elsewhere("224.0.0.1", "10.0.0.2"), &good, plain),
            "cm_drop_source",
        ),
        (
            framed(&elsewhere("10.0.0.1", "255.255.255.255"), &good, plain),
            "cm_drop_source",
        ),
        (
            framed(&elsewhere("10.0.0.1", "10.0.0.3"), &good, plain),
            "cm_drop_not_here",
        ),
        (link.frame(&path, &nameless, 1), "cm_drop_malformed"),
    ] {
        assert_eq!(counted(&mut link, B, &frame), [(cause, 1)]);
    }
}

#[test]
fn what_is_about_no_connection_is_counted() {
    let mut link = Link::new();
    connected(&mut link);
    let (req, rep) = beginning(&link);
    let (theirs, ours) = (req.local_comm_id ^ 1, rep.local_comm_id);
    let rej = Rej {
        local_comm_id: theirs,
        remote_comm_id: ours,
        message: Answered::Other,
        info_len: 8,
        reason: RejReason::TIMEOUT,
        info: private_data(&req.ca_guid.to_be_bytes()),
        private: private_data(&[]),
    };
    let withdrawal = Rej {
        local_comm_id: req.local_comm_id,
        remote_comm_id: 0,
        ..rej
    };
    let dreq = Dreq {
        local_comm_id: req.local_comm_id,
        remote_comm_id: ours,
        remote_qpn: rep.qpn ^ 1,
        private: private_data(&[]),
    };
    let rtu = Rtu {
        local_comm_id: theirs,
        remote_comm_id: ours,
        private: private_data(&[]),
    };
    let drep = Drep {
        local_comm_id: theirs,
        remote_comm_id: ours,
        private: private_data(&[]),
    };
    let mra = Mra {
        local_comm_id: theirs,
        remote_comm_id: ours,
        message: Answered::Rep,
        service_timeout: 20,
        private: private_data(&[]),
    };
    let path = link.path(A);
    let mut sidr = Message::SidrReq(crate::wire::cm_msg::SidrReq {
        request_id: 1,
        pkey: 0xffff,
        service_id: 1,
        private: private_data(&[]),
    })
    .emit(1);
    sidr[17] = SidrRep::ATTRIBUTE as u8;
    let stray = Rep {
        remote_comm_id: ours,
        local_comm_id: theirs,
        ..rep
    };
    for message in [
        Message::Rej(rej),
        Message::Rej(withdrawal),
        Message::Dreq(dreq),
        Message::Rtu(rtu),
        Message::Drep(drep),
        Message::Mra(mra),
        Message::Rep(stray),
    ] {
        let frame = link.frame(&path, &message, 1);
        let cause = counted(&mut link, B, &frame);
        assert_eq!(cause, [("cm_drop_unmatched", 1)], "{message:?}");
    }
    let frame = link.frame_of(&path, &sidr);
    assert_eq!(counted(&mut link, B, &frame), [("cm_drop_unmatched", 1)]);
    // An answer to a request, but in another transaction.
    let mut link = Link::new();
    link.connect(1, &qp(5), &[]).unwrap();
    link.exchange();
    let tid = link.transaction(A);
    let Message::Req(req) = link.sent[0].message() else {
        panic!("not a REQ");
    };
    let reply = Message::Rep(Rep {
        remote_comm_id: req.local_comm_id,
        ..rep
    });
    let path = link.path(B);
    let frame = link.frame(&path, &reply, tid ^ 1);
    assert_eq!(counted(&mut link, A, &frame), [("cm_drop_unmatched", 1)]);
    let frame = link.frame(&path, &reply, tid);
    assert_eq!(counted(&mut link, A, &frame), []);
}

#[test]
fn what_a_connection_has_no_use_for_now_is_counted() {
    let mut link = Link::new();
    let (a, b) = connected(&mut link);
    let (req, rep) = beginning(&link);
    let (theirs, ours) = (req.local_comm_id, rep.local_comm_id);
    let tid = link.transaction(A);
    let rtu = Message::Rtu(Rtu {
        local_comm_id: theirs,
        remote_comm_id: ours,
        private: private_data(&[]),
    });
    let drep = Message::Drep(Drep {
        local_comm_id: theirs,
        remote_comm_id: ours,
        private: private_data(&[]),
    });
    let mra = Message::Mra(Mra {
        local_comm_id: theirs,
        remote_comm_id: ours,
        message: Answered::Rep,
        service_timeout: 20,
        private: private_data(&[]),
    });
    let rej = Message::Rej(Rej {
        local_comm_id: theirs,
        remote_comm_id: ours,
        message: Answered::Other,
        info_len: 0,
        reason: RejReason::CONSUMER,
        info: private_data(&[]),
        private: private_data(&[]),
    });
    // The passive side takes no reply.
    let reversed = Message::Rep(Rep {
        local_comm_id: theirs,
        remote_comm_id: ours,
        ..rep
    });
    let path = link.path(A);
    for message in [Message::Req(req), rtu, drep, mra, reversed] {
        let frame = link.frame(&path, &message, tid);
        let cause = counted(&mut link, B, &frame);
        assert_eq!(cause, [("cm_drop_state", 1)], "{message:?}");
    }
    link.agents[A].disconnect(link.now, a).unwrap();
    link.run_for(Duration::from_millis(1));
    let frame = link.frame(&path, &rej, tid);
    assert_eq!(counted(&mut link, B, &frame), [("cm_drop_state", 1)]);
    // Who has been asked only is not disconnected.
    let mut link = Link::new();
    link.connect(1, &qp(0x111), &[]).unwrap();
    let _ = b;
    let asked = link.requested();
    link.exchange();
    let Message::Req(req) = link.sent[0].message() else {
        panic!("not a REQ");
    };
    let tid = link.transaction(A);
    let reject = |link: &mut Link| link.agents[B].reject(link.now, asked, &[]);
    let frame = link.frame(&path, &Message::Req(req), tid);
    assert_eq!(counted(&mut link, B, &frame), [], "asked to wait");
    reject(&mut link).unwrap();
    assert_eq!(counted(&mut link, B, &frame), [], "rejected again");
}

/// Another request like it, for a service.
fn ask(link: &Link, req: &Req, n: u32, service_id: u64) -> std::vec::Vec<u8> {
    let req = Req {
        local_comm_id: 0x9000 + n,
        qpn: 0x9000 + n,
        service_id,
        ..*req
    };
    link.frame(&link.path(A), &Message::Req(req), 1)
}

#[test]
fn what_finds_no_room_is_counted() {
    let mut link = Link::new();
    connected(&mut link);
    let (req, _) = beginning(&link);
    // Half of the sixteen places; the established connection is none of them.
    for n in 0..8 {
        let frame = ask(&link, &req, n, req.service_id);
        assert_eq!(counted(&mut link, B, &frame), [], "{n}");
    }
    let frame = ask(&link, &req, 8, req.service_id);
    assert_eq!(counted(&mut link, B, &frame), [("cm_drop_no_room", 1)]);
    // Nobody takes the answers out.
    for n in 0..32 {
        let frame = ask(&link, &req, n + 100, 1);
        assert_eq!(counted(&mut link, B, &frame), [], "{n}");
    }
    let frame = ask(&link, &req, 200, 1);
    assert_eq!(counted(&mut link, B, &frame), [("cm_drop_answer", 1)]);
    link.exchange();
    assert_eq!(counted(&mut link, B, &frame), []);
}
