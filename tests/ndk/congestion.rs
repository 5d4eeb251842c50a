//! The keyword DcQcnEnable: what is sent may be marked by switches, and who receives what they have marked tells the sender.

use std::cell::RefCell;
use std::rc::Rc;

use ndkpi::status::STATUS_SUCCESS;
use ntsim::virtio_net::NicConfig;
use ntsim::wire::Verdict;

use crate::lab::Lab;
use crate::story::Story;

/// Type of service, UDP destination port, opcode and destination queue pair, in a frame over IPv4.
const TOS: usize = 15;
const PORT: usize = 36;
const OPCODE: usize = 42;
const QPN: usize = 47;

/// RoCEv2's port; the general service interface; a congestion notification.
const ROCE: [u8; 2] = [0x12, 0xb7];
const GSI: [u8; 3] = [0, 0, 1];
const CNP: u8 = 0x81;

/// What was seen on the wire.
#[derive(Default)]
struct Seen {
    /// The bits of congestion in frames of connections, and in those of the connection manager.
    connections: Vec<u8>,
    cm: Vec<u8>,
    notifications: usize,
}

impl Seen {
    fn look(&mut self, frame: &[u8]) -> Verdict {
        if frame.get(PORT..PORT + 2) != Some(&ROCE) {
            return Verdict::Pass;
        }
        let bits = frame[TOS] & 3;
        if frame[QPN..QPN + 3] == GSI {
            self.cm.push(bits);
            return Verdict::Pass;
        }
        self.connections.push(bits);
        self.notifications += usize::from(frame[OPCODE] == CNP);
        // From "may be marked" to "is marked", where it may.
        match bits {
            2 => Verdict::Corrupt(8 * TOS),
            _ => Verdict::Pass,
        }
    }
}

#[test]
fn frames_are_marked_and_senders_told_only_if_the_administrator_wants_it() {
    for (value, bits) in [("0", 0), ("1", 2)] {
        let lab = Lab::with(&[("DcQcnEnable", value)], NicConfig::default());
        let seen = Rc::new(RefCell::new(Seen::default()));
        for (port, _) in lab.net.ports() {
            let seen = Rc::clone(&seen);
            lab.net
                .set_filter(port, move |frame| seen.borrow_mut().look(frame));
        }
        let mut s = Story::begin_in(lab);
        let (address, token) = s.lab.on(&s.b, || {
            (s.theirs.buffer.address(), s.theirs.mr.remote_token())
        });
        s.lab
            .on(&s.a, || {
                s.a.qp.write(1, &[s.ours.sge(0, 8192)], address, token, 0)
            })
            .unwrap();
        assert_eq!(s.outcome().1, STATUS_SUCCESS);
        s.end();
        let seen = seen.borrow();
        // Eight packets and an acknowledgement.
        assert!(seen.connections.len() >= 9 && seen.cm.len() >= 5);
        assert!(seen.connections.iter().all(|&b| b == bits), "{value}");
        assert!(seen.cm.iter().all(|&b| b == 0), "{value}");
        assert_eq!(seen.notifications > 0, bits == 2);
    }
}
