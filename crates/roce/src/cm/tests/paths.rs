//! How messages reach the peer, and what they say about it.

use super::*;
use crate::wire::cm_msg::{Message, Req};

fn request_over(path: Path) -> Req {
    let mut link = Link::new();
    let params = ConnectParams {
        path,
        ..link.connect_params(1, &qp(5), &[])
    };
    link.agents[A].connect(link.now, &params, &qp(5)).unwrap();
    link.exchange();
    match link.sent[0].message() {
        Message::Req(req) => req,
        other => panic!("{other:?}"),
    }
}

/// IBTA 12.7.11 as Linux fills it in for RoCE: the LIDs and the flag tell the same.
#[test]
fn a_request_says_whether_the_path_is_routed() {
    let path = Link::new().path(A);
    for (hop_limit, routed) in [(0, false), (1, false), (2, true), (64, true), (255, true)] {
        let req = request_over(Path { hop_limit, ..path });
        let lid = if routed { 0xffff } else { 0 };
        assert_eq!(req.primary.subnet_local, !routed, "{hop_limit}");
        assert_eq!(
            (req.primary.local_lid, req.primary.remote_lid),
            (lid, lid),
            "{hop_limit}"
        );
        assert_eq!(req.primary.hop_limit, hop_limit);
        // A path that is not there.
        assert_eq!((req.alternate.local_lid, req.alternate.remote_lid), (0, 0));
    }
}

/// A neighbour's request, in the words of a peer that does not route, is as good as any; answers may take more hops.
#[test]
fn r098_a_request_from_the_subnet_is_answered_with_hops_to_spare() {
    let mut link = Link::new();
    let params = ConnectParams {
        path: Path {
            hop_limit: 1,
            ..link.path(A)
        },
        ..link.connect_params(1, &qp(5), &[])
    };
    link.agents[A].connect(link.now, &params, &qp(5)).unwrap();
    let b = link.requested();
    link.agents[B].reject(link.now, b, &[]).unwrap();
    link.exchange();
    assert_eq!(link.sent[0].packet().ip.hop_limit(), 1);
    assert!(link.sent_by(B, 0x12)[0].packet().ip.hop_limit() > 1);
}

#[test]
fn whether_receives_are_shared_is_told() {
    let mut link = Link::new();
    for srq in [false, true] {
        let local = |qpn| LocalQp { srq, ..qp(qpn) };
        link.sent.clear();
        link.connect(1 + u16::from(srq), &local(5 + u32::from(srq)), &[])
            .unwrap();
        let b = link.requested();
        link.accept(b, &local(7 + u32::from(srq)), &[]).unwrap();
        link.exchange();
        let said = |side, attribute| match link.sent_by(side, attribute)[0].message() {
            Message::Req(m) => m.srq,
            Message::Rep(m) => m.srq,
            other => panic!("{other:?}"),
        };
        assert_eq!((said(A, 0x10), said(B, 0x13)), (srq, srq));
    }
}

/// Priority 3, VLAN 5.
const TAG: u16 = 0x6005;

#[test]
fn every_answer_carries_the_tag_of_what_it_answers() {
    let mut link = Link::new();
    let tagged = Path {
        vlan: Some(TAG),
        ..link.path(A)
    };
    let params = ConnectParams {
        path: tagged,
        ..link.connect_params(1, &qp(5), &[])
    };
    let a = link.agents[A].connect(link.now, &params, &qp(5)).unwrap();
    let b = link.requested();
    // B's owner says nothing of a tag.
    link.accept(b, &qp(6), &[]).unwrap();
    link.expect(A, Event::Replied { conn: a });
    let attributes = link.establish(a).unwrap();
    assert_eq!(attributes.path.vlan, Some(TAG));
    link.expect(B, Event::Established { conn: b });
    link.agents[A].disconnect(link.now, a).unwrap();
    link.run_for(Duration::from_millis(1));
    // One that finds nobody.
    let params = ConnectParams {
        remote_port: PORT + 1,
        local_port: 2,
        ..params
    };
    link.agents[A].connect(link.now, &params, &qp(7)).unwrap();
    link.run_for(Duration::from_millis(1));
    let attributes: std::collections::BTreeSet<u16> =
        link.sent.iter().map(link::Sent::attribute).collect();
    assert_eq!(attributes, [0x10, 0x12, 0x13, 0x14, 0x15, 0x16].into());
    for sent in &link.sent {
        let tag = sent.packet().eth.vlan;
        assert_eq!(tag, Some(TAG), "{:?}", sent.message());
    }
}

#[test]
fn the_owner_may_choose_another_tag_to_accept_with() {
    let mut link = Link::new();
    link.connect(1, &qp(5), &[]).unwrap();
    let b = link.requested();
    let params = AcceptParams {
        path: Path {
            vlan: Some(TAG),
            ..link.path(B)
        },
        ..link.accept_params(&qp(6), &[])
    };
    let attributes = link.agents[B].accept(link.now, b, &params, &qp(6)).unwrap();
    assert_eq!(attributes.path.vlan, Some(TAG));
    link.exchange();
    assert_eq!(link.sent_by(B, 0x13)[0].packet().eth.vlan, Some(TAG));
}
