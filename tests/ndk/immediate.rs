//! Immediate data: NDKPI has none, but a peer may send it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ndkpi::status::STATUS_SUCCESS;
use ntsim::wire::{Endpoint, Frame, Verdict};
use roce::wire::{Icrc, Opcode, Packet};

use crate::story::Story;

/// Something on the wire that only speaks.
struct Speaker;

impl Endpoint for Speaker {
    fn deliver(&self, _: Frame) {}
}

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
    let (element, address, token) = s.target();
    let caught = Rc::new(RefCell::new(None));
    let net = Rc::clone(&caught);
    let to_b = s.lab.net.ports()[1].0;
    s.lab.net.set_filter(to_b, move |frame| {
        let is_write = Packet::parse(frame).is_ok_and(|p| p.bth.opcode == Opcode::WriteOnly);
        if is_write && net.borrow().is_none() {
            *net.borrow_mut() = Some(frame.to_vec());
            Verdict::Drop
        } else {
            Verdict::Pass
        }
    });
    s.lab
        .on(&s.a, || s.a.qp.write(1, &[element], address, token, 0))
        .unwrap();
    s.lab.world.run_for(Duration::from_millis(1));
    let caught = caught.take().expect("a frame with the write");
    let speaker: Rc<dyn Endpoint> = Rc::new(Speaker);
    let port = s.lab.net.connect("speaker", Rc::downgrade(&speaker));
    port.send(Frame::from(with_immediate(&caught).as_slice()));
    assert_eq!(s.outcome().1, STATUS_SUCCESS);
    assert_eq!(s.theirs.buffer.bytes()[..10], [0xa5; 10]);
    let received = s.lab.result(&s.b);
    let found = (received.RequestContext as u64, received.Status);
    assert_eq!(found, (70, STATUS_SUCCESS));
    assert_eq!(received.BytesTransferred, 0);
    s.end();
}
