//! VLAN tags: the adapter is in no VLAN, and frames of others are not for its connections.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ndkpi::status::STATUS_SUCCESS;
use ntsim::wire::{Endpoint, Frame, Verdict};

use crate::story::Story;

/// Something on the wire that only speaks.
struct Speaker;

impl Endpoint for Speaker {
    fn deliver(&self, _: Frame) {}
}

/// The frame with a tag (IEEE 802.1Q).
fn tagged(frame: &[u8], control: u16) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(12);
    let tag = [0x8100, control].map(u16::to_be_bytes);
    [addresses, tag.as_flattened(), rest].concat()
}

#[test]
fn frames_of_a_vlan_do_not_reach_a_connection_outside_of_it() {
    const VLAN_5: u16 = 5;
    const PRIORITY_3_OF_VLAN_5: u16 = 3 << 13 | 5;
    const PRIORITY_3: u16 = 3 << 13;
    for (control, reaches) in [
        (VLAN_5, false),
        (PRIORITY_3_OF_VLAN_5, false),
        (PRIORITY_3, true),
    ] {
        let mut s = Story::begin();
        let (element, address, token) = s.target();
        let caught = Rc::new(RefCell::new(None));
        let net = Rc::clone(&caught);
        let to_b = s.lab.net.ports()[1].0;
        // Nothing of A's comes through as it is.
        s.lab.net.set_filter(to_b, move |frame| {
            if frame[12..14] == [0x08, 0x00] {
                net.borrow_mut().get_or_insert_with(|| frame.to_vec());
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
        port.send(Frame::from(tagged(&caught, control).as_slice()));
        s.lab.world.run_for(Duration::from_millis(1));
        let written = s.theirs.buffer.bytes()[..10] == [0xa5; 10];
        assert_eq!(written, reaches, "{control:#x}");
        s.lab.net.clear_filter(to_b);
        assert_eq!(s.outcome().1, STATUS_SUCCESS);
        s.end();
    }
}
