//! Received payload on its way into memory.

use std::cell::Cell;
use std::rc::Rc;

use ndkpi::status::STATUS_SUCCESS;
use ndkpi::{NDK_OP_FLAG_ALLOW_REMOTE_READ, NDK_OP_FLAG_ALLOW_REMOTE_WRITE};
use ntsim::wire::Verdict;

use crate::fast::{Fast, PAGE};
use crate::remote::opcode;
use crate::story::Story;

/// RC RDMA WRITE middle, and where its payload begins in a frame with an IPv4 header.
const MIDDLE: u8 = 0x07;
const PAYLOAD: usize = 14 + 20 + 8 + 12;

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 7 + n / 251) as u8).collect()
}

/// The region's pages lie in memory the other way round, so that packets end in the middle of a stretch, and go on in another.
#[test]
fn payload_goes_to_its_pages_and_to_no_other_byte_though_packets_are_wrong_and_come_again() {
    const PAGES: usize = 4;
    const AT: usize = 1001;
    const LENGTH: usize = 3 * PAGE - 5;
    const FILL: u8 = 0x11;
    let mut s = Story::begin();
    // The first page and the last are not registered.
    let fast = Fast::new(&mut s.lab, &s.b, (PAGES + 2) * PAGE, FILL);
    let skipped = PAGE - fast.lam.first_byte() as usize;
    let pages: Vec<_> = fast.lam.pages()[1..=PAGES].iter().rev().copied().collect();
    let rights = NDK_OP_FLAG_ALLOW_REMOTE_READ | NDK_OP_FLAG_ALLOW_REMOTE_WRITE;
    s.lab
        .on(&s.b, || {
            s.b.qp
                .fast_register(90, &fast.mr, &pages, 0, PAGES * PAGE, 0, rights)
        })
        .unwrap();
    assert_eq!(s.lab.result(&s.b).Status, STATUS_SUCCESS);
    let token = s.lab.on(&s.b, || fast.mr.remote_token());

    // Every third packet has a wrong bit: in its first byte, or so far on.
    let (seen, spoilt) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let counts = (Rc::clone(&seen), Rc::clone(&spoilt));
    let to_b = s.lab.net.ports()[1].0;
    s.lab.net.set_filter(to_b, move |frame| {
        let (seen, spoilt) = &counts;
        if opcode(frame) != Some(MIDDLE) {
            return Verdict::Pass;
        }
        seen.set(seen.get() + 1);
        if seen.get() % 3 != 0 {
            return Verdict::Pass;
        }
        let byte = PAYLOAD + 300 * spoilt.get();
        spoilt.set(spoilt.get() + 1);
        Verdict::Corrupt(8 * byte)
    });
    let sent = pattern(LENGTH);
    s.lab
        .on(&s.a, || {
            s.ours.buffer.bytes_mut()[..LENGTH].copy_from_slice(&sent);
            s.a.qp
                .write(1, &[s.ours.sge(0, LENGTH)], AT as u64, token, 0)
        })
        .unwrap();
    assert_eq!(s.outcome().1, STATUS_SUCCESS);
    s.lab.net.clear_filter(to_b);
    assert!(spoilt.get() >= 3, "{} of {}", spoilt.get(), seen.get());

    let mut expected = vec![FILL; (PAGES + 2) * PAGE];
    for (at, byte) in (AT..).zip(&sent) {
        let page = PAGES - 1 - at / PAGE;
        expected[skipped + page * PAGE + at % PAGE] = *byte;
    }
    s.lab.on(&s.b, || {
        let found = fast.buffer.bytes();
        let wrong = found.iter().zip(&expected).position(|(a, b)| a != b);
        assert_eq!((wrong, found.len()), (None, expected.len()));
        fast.close(&s.b);
    });
    s.end();
}
