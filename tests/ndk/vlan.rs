//! VLAN tags: the adapter is in no VLAN, and frames of others are not for its connections.

use std::time::Duration;

use ndkpi::status::STATUS_SUCCESS;
use ntsim::wire::Frame;

use crate::story::Story;

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
        let caught = s.catch_write();
        let net = &s.lab.net;
        net.inject(Frame::from(tagged(&caught, control).as_slice()));
        s.lab.world.run_for(Duration::from_millis(1));
        let written = s.theirs.buffer.bytes()[..10] == [0xa5; 10];
        assert_eq!(written, reaches, "{control:#x}");
        s.let_through();
        assert_eq!(s.outcome().1, STATUS_SUCCESS);
        s.end();
    }
}
