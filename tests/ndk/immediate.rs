//! Immediate data: NDKPI has none, but a peer may send it.

use ndkpi::status::STATUS_SUCCESS;
use ntsim::wire::Frame;
use roce::wire::{Icrc, Opcode};

use crate::story::Story;

/// The WRITE with immediate data: behind the RETH, of a frame with an IPv4 header.
fn with_immediate(frame: &[u8]) -> Vec<u8> {
    const IP: usize = 14;
    const UDP: usize = IP + 20;
    const BTH: usize = UDP + 8;
    const PAYLOAD: usize = BTH + 12 + 16;
    let (headers, rest) = frame.split_at(PAYLOAD);
    let mut frame = [headers, &[1, 2, 3, 4], rest].concat();
    for length in [IP + 2, UDP + 4] {
        let longer = u16::from_be_bytes([frame[length], frame[length + 1]]) + 4;
        frame[length..length + 2].copy_from_slice(&longer.to_be_bytes());
    }
    frame[BTH] = Opcode::WriteOnlyImm.to_u8();
    let end = frame.len() - 4;
    let icrc = Icrc::start(&frame[IP..end]).unwrap().finish();
    frame[end..].copy_from_slice(&icrc);
    frame
}

/// It takes a receive, into which nothing comes, however long the WRITE is.
#[test]
fn q17_a_write_with_immediate_brings_nothing_into_the_receive_that_it_takes() {
    let mut s = Story::begin();
    s.lab
        .on(&s.b, || s.b.qp.receive(70, &[s.theirs.sge(4096, 4)]))
        .unwrap();
    let caught = s.catch_write();
    s.let_through();
    let net = &s.lab.net;
    net.inject(Frame::from(with_immediate(&caught).as_slice()));
    assert_eq!(s.outcome().1, STATUS_SUCCESS);
    assert_eq!(s.theirs.buffer.bytes()[..10], [0xa5; 10]);
    let received = s.lab.result(&s.b);
    let found = (received.RequestContext as u64, received.Status);
    assert_eq!(found, (70, STATUS_SUCCESS));
    assert_eq!(received.BytesTransferred, 0);
    s.end();
}
