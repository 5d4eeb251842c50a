//! What the wire may bring that no honest peer sends.

use super::*;
use crate::wire::cm_msg::Message;
use crate::wire::{Bth, Deth, ExtHeaders, Gid, Opcode, frame, mad};
use arrayvec::ArrayVec;
use proptest::prelude::*;

/// A REQ from A as a frame, and the means to change what is around it.
fn frame_with(
    link: &Link,
    mad: &[u8],
    change: impl FnOnce(&mut Bth, &mut ExtHeaders),
) -> std::vec::Vec<u8> {
    let (mut bth, mut ext) = mad::transport_headers(Psn::ZERO);
    change(&mut bth, &mut ext);
    let path = link.path(A);
    let mut out = ArrayVec::<u8, 1024>::new();
    let mut icrc = frame::Header::new(&path, 0xc000, bth, ext)
        .write(mad.len(), &mut out)
        .unwrap();
    icrc.update(mad);
    out.try_extend_from_slice(mad).unwrap();
    out.try_extend_from_slice(&icrc.trailer(frame::pad_of(mad.len())))
        .unwrap();
    out.to_vec()
}

fn req_mad(link: &mut Link) -> [u8; 256] {
    let a = link.connect(1, &qp(5), b"hi").unwrap();
    link.exchange();
    let mad = link.sent.last().unwrap().mad();
    link.agents[A].forget(link.now, a);
    link.clear_flight();
    link.sent.clear();
    mad
}

#[test]
fn r069_r070_r071_only_cm_datagrams_to_the_gsi_count() {
    let mut link = Link::new();
    let mad = req_mad(&mut link);
    let mut frames = std::vec::Vec::new();
    frames.push(frame_with(&link, &mad, |_, ext| {
        ext.deth = Some(Deth {
            qkey: 0x8001_0001,
            src_qpn: 1,
        });
    }));
    frames.push(frame_with(&link, &mad, |_, ext| {
        ext.deth = Some(Deth {
            qkey: 0x8001_0000,
            src_qpn: 2,
        });
    }));
    frames.push(frame_with(&link, &mad, |bth, _| bth.dest_qpn = 2));
    frames.push(frame_with(&link, &mad, |bth, _| bth.pkey = 0x8001));
    frames.push(frame_with(&link, &mad, |bth, ext| {
        bth.opcode = Opcode::SendOnly;
        *ext = ExtHeaders::NONE;
    }));
    frames.push(frame_with(&link, &mad[..255], |_, _| {}));
    frames.push(frame_with(&link, &[&mad[..], &[0]].concat(), |_, _| {}));
    // Base version, class, class version, method, attribute.
    for (at, value) in [
        (0, 2),
        (1, 3),
        (2, 1),
        (3, 0x81),
        (17, 0x18),
        (17, 0x1b),
        (16, 1),
    ] {
        let mut changed = mad;
        changed[at] = value;
        frames.push(frame_with(&link, &changed, |_, _| {}));
    }
    for frame in frames {
        link.inject(B, &frame);
        link.run_for(Duration::from_millis(1));
        link.no_events();
        assert_eq!(link.sent.len(), 0);
    }
    let frame = frame_with(&link, &mad, |bth, _| {
        bth.ack_req = true;
        bth.mig_req = true;
        bth.solicited = true;
        bth.pkey = 0x7fff;
    });
    link.inject(B, &frame);
    link.requested();
    assert_eq!(link.sent.len(), 0);
}

#[test]
fn nobody_is_answered_who_cannot_be_a_sender() {
    let mut link = Link::new();
    let mad = req_mad(&mut link);
    let (_, message) = Message::parse(&mad).unwrap();
    for (src, dst) in [
        ("224.0.0.1", "10.0.0.2"),
        ("255.255.255.255", "10.0.0.2"),
        ("127.0.0.1", "10.0.0.2"),
        ("0.0.0.0", "10.0.0.2"),
        ("10.0.0.1", "224.0.0.1"),
        ("10.0.0.1", "255.255.255.255"),
    ] {
        let path = Path {
            src_ip: src.parse().unwrap(),
            dst_ip: dst.parse().unwrap(),
            ..link.path(A)
        };
        link.send_by(B, &path, &message, 1);
        link.run_for(Duration::from_millis(1));
        link.no_events();
        assert_eq!(link.sent.len(), 0);
    }
}

#[test]
fn a_flood_of_requests_leaves_room() {
    let mut link = Link::new();
    let mad = req_mad(&mut link);
    let (_, Message::Req(req)) = Message::parse(&mad).unwrap() else {
        panic!("not a REQ");
    };
    for i in 0..1000 {
        let mut req = req;
        req.local_comm_id = 1000 + i;
        req.qpn = 1000 + i;
        link.send(B, &Message::Req(req), 1);
    }
    link.run_for(Duration::from_millis(1));
    assert_eq!(link.take_events(B).len(), 8);
    assert_eq!(link.agents[B].len(), 8);
    // Nor do answers pile up.
    for i in 0..1000 {
        let mut req = req;
        req.local_comm_id = 5000 + i;
        req.qpn = 5000 + i;
        req.service_id = 1;
        let frame = link.frame(&link.path(A), &Message::Req(req), 1);
        link.hand(B, &frame);
    }
    link.sent.clear();
    link.exchange();
    assert_eq!(link.sent.len(), 32);
}

proptest! {
    #![proptest_config(cases(64))]

    /// Random bodies under every attribute, between the steps of a conversation: nothing panics, and the tables stay whole.
    #[test]
    fn random_messages_do_no_harm(
        seed in any::<u64>(),
        noise in proptest::collection::vec(
            (0x10u8..0x1c, proptest::collection::vec(any::<u8>(), 232), any::<bool>(), any::<u8>()),
            1..60,
        ),
    ) {
        let configs = [link::config(A), link::config(B)];
        let mut link = Link::with(&configs, FAMILIES[seed as usize % 2], seed);
        let (a, b) = connected(&mut link);
        let known: std::vec::Vec<_> = link.sent.iter().map(link::Sent::mad).collect();
        for (attribute, body, to_a, cut) in noise {
            let to = if to_a { A } else { B };
            let mut mad = [0; 256];
            // Half of the bodies begin like real ones, so that they find the connection.
            let real = known[usize::from(cut) % known.len()];
            mad.copy_from_slice(&real);
            mad[17] = attribute;
            let keep = if cut % 2 == 0 { usize::from(cut % 64) } else { 0 };
            mad[24 + keep..].copy_from_slice(&body[keep..]);
            if cut % 8 == 0 {
                // As its peer names it.
                let (x, y) = (real[24..28].to_vec(), real[28..32].to_vec());
                mad[24..28].copy_from_slice(&x);
                mad[28..32].copy_from_slice(&y);
            }
            let frame = link.frame_of(&link.path(1 - to), &mad);
            link.inject(to, &frame);
            link.run_for(Duration::from_millis(700));
        }
        link.take_events(A);
        let came: std::vec::Vec<_> = link.take_events(B);
        link.agents[A].forget(link.now, a);
        link.agents[B].forget(link.now, b);
        for event in came {
            if let Event::ConnectRequest { conn, .. } = event {
                link.agents[B].forget(link.now, conn);
            }
        }
        link.run_until_idle();
        prop_assert_eq!(link.agents[A].len() + link.agents[B].len(), 0);
    }
}

/// Somebody has listened, and takes the name of a connection before its owner does.
#[test]
fn a_request_is_heard_though_another_host_has_sent_the_same_names() {
    let mut link = Link::new();
    let mad = req_mad(&mut link);
    let (_, message) = Message::parse(&mad).unwrap();
    let Message::Req(honest) = message else {
        panic!("not a REQ");
    };
    let thief: core::net::IpAddr = "10.0.0.9".parse().unwrap();
    let mut copied = honest;
    // The source address of the RDMA-CM header.
    copied.private[19] = 9;
    copied.primary.local_gid = Gid::from(thief);
    let path = Path {
        src_ip: thief,
        ..link.path(A)
    };
    link.send_by(B, &path, &Message::Req(copied), 1);
    let stolen = link.requested();
    link.send(B, &Message::Req(honest), 2);
    let conn = link.requested();
    assert_ne!(stolen, conn);
    let peer = link.agents[B].connection(conn).unwrap().peer;
    assert_eq!(peer.ip(), link.path(A).src_ip);
    // And a repetition is one of its own.
    link.send(B, &Message::Req(honest), 2);
    link.run_for(Duration::from_millis(1));
    link.no_events();
}
