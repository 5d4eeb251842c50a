//! The path MTU that follows from *JumboPacket and *NetworkDirectRoCEFrameSize: connections come about with it, whatever the link.

use std::cell::Cell;
use std::rc::Rc;

use ndkpi::status::STATUS_SUCCESS;
use ntsim::virtio_net::NicConfig;
use ntsim::wire::Verdict;

use crate::lab::Lab;
use crate::story::Story;

/// Bytes around the payload of a WRITE's first packet over IPv4: Ethernet, IP, UDP, BTH, RETH, ICRC.
const HEADERS: usize = 14 + 20 + 8 + 12 + 16 + 4;

/// A lab whose links carry IP packets of so many bytes, and whose administrator wants path MTUs of so many.
fn lab(link_mtu: usize, wanted: &str) -> Lab {
    let nic = NicConfig {
        mtu: 9000,
        ..Default::default()
    };
    let jumbo = (link_mtu + 14).to_string();
    let keywords = [
        ("*JumboPacket", jumbo.as_str()),
        ("*NetworkDirectRoCEFrameSize", wanted),
    ];
    Lab::with(&keywords, nic)
}

/// Connects, writes 8 KiB, and gives the payload of the longest packet.
fn longest_payload(lab: Lab) -> usize {
    let mut s = Story::begin_in(lab);
    let longest = Rc::new(Cell::new(0));
    let seen = Rc::clone(&longest);
    let to_b = s.lab.net.ports()[1].0;
    s.lab.net.set_filter(to_b, move |frame| {
        seen.set(seen.get().max(frame.len()));
        Verdict::Pass
    });
    let (address, token) = s.lab.on(&s.b, || {
        (s.theirs.buffer.address(), s.theirs.mr.remote_token())
    });
    s.lab
        .on(&s.a, || {
            s.a.qp.write(1, &[s.ours.sge(0, 8192)], address, token, 0)
        })
        .unwrap();
    assert_eq!(s.outcome().1, STATUS_SUCCESS);
    s.lab.net.clear_filter(to_b);
    s.end();
    longest.get() - HEADERS
}

#[test]
fn r099_every_link_mtu_around_an_edge_connects_with_the_path_mtu_that_fits() {
    // 96 bytes are for headers: 4206 bytes of *JumboPacket are the fewest for 4096.
    for (fits, below, path_mtu) in [(2144, 1024, 2048), (4206 - 14, 2048, 4096)] {
        for (link_mtu, expected) in [(fits - 1, below), (fits, path_mtu), (fits + 1, path_mtu)] {
            let longest = longest_payload(lab(link_mtu, "4096"));
            assert_eq!(longest, expected, "link MTU {link_mtu}");
        }
    }
    // Room for the headers of what this side sends, but not for all that the RDMA-CM convention counts.
    assert_eq!(longest_payload(lab(4176, "4096")), 2048);
    assert_eq!(longest_payload(lab(4200, "1024")), 1024, "as wished");
    for (usual, path_mtu) in [(1500, 1024), (4200, 4096)] {
        assert_eq!(longest_payload(lab(usual, "4096")), path_mtu);
    }
}
