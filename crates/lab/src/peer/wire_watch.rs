//! What each side of the wire sends again, seen from the wire: frames are looked at before anything can happen to them, so that a
//! repeated packet sequence number is the sender's doing and not the wire's.

use ntsim::wire::{PortId, Switch, Verdict};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// RC packets of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repeats {
    /// Packets of requests.
    pub requests: u64,
    /// Packets of requests whose sequence number had been sent before.
    pub repeated_requests: u64,
    /// Packets of read responses whose sequence number had been sent before.
    pub repeated_responses: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Request,
    Response,
}

/// Follows the sequence numbers of one direction.
#[derive(Default)]
struct Watch {
    repeats: Repeats,
    /// The last new sequence number, by destination queue pair.
    latest: BTreeMap<(u32, Kind), u32>,
}

impl Watch {
    fn see(&mut self, frame: &[u8]) {
        let Some((kind, qp, psn)) = rc_packet(frame) else {
            return;
        };
        let latest = self.latest.entry((qp, kind)).or_insert(psn.wrapping_sub(1));
        // Serial arithmetic in 24 bits: the upper half of the circle lies behind.
        let ahead = psn.wrapping_sub(*latest) & 0xFF_FFFF;
        let repeated = ahead == 0 || ahead >= 0x80_0000;
        if !repeated {
            *latest = psn;
        }
        match kind {
            Kind::Request => {
                self.repeats.requests += 1;
                self.repeats.repeated_requests += u64::from(repeated);
            }
            Kind::Response => self.repeats.repeated_responses += u64::from(repeated),
        }
    }
}

/// Kind, destination queue pair and sequence number of a RoCEv2 packet of a reliable connection. Acknowledgements are none of both
/// kinds: they may carry the same number any number of times.
fn rc_packet(frame: &[u8]) -> Option<(Kind, u32, u32)> {
    const ETHERNET: usize = 14;
    const UDP: usize = 8;
    const ROCE_V2: [u8; 2] = 4791_u16.to_be_bytes();
    let udp = match frame.get(12..14)? {
        [0x08, 0x00] if frame.get(23)? == &17 => {
            ETHERNET + usize::from(frame.get(ETHERNET)? & 0xF) * 4
        }
        [0x86, 0xDD] if frame.get(20)? == &17 => ETHERNET + 40,
        _ => return None,
    };
    if frame.get(udp + 2..udp + 4)? != ROCE_V2 {
        return None;
    }
    let bth: &[u8; 12] = frame.get(udp + UDP..)?.first_chunk()?;
    // IBTA: the upper three bits are 0 for RC.
    let kind = match bth[0] {
        0x00..=0x0C | 0x13..=0x17 => Kind::Request,
        0x0D..=0x10 => Kind::Response,
        _ => return None,
    };
    let number = |at: usize| u32::from_be_bytes([0, bth[at], bth[at + 1], bth[at + 2]]);
    Some((kind, number(5), number(9)))
}

/// Watches what is sent to the ports of a switch.
pub struct WireWatch {
    ports: Vec<(PortId, String, Rc<RefCell<Watch>>)>,
}

impl WireWatch {
    /// Watches every port that the switch has. Takes the place of the ports' filters.
    pub fn start(switch: &Switch) -> WireWatch {
        let ports = switch
            .ports()
            .into_iter()
            .map(|(port, name)| {
                let watch = Rc::new(RefCell::new(Watch::default()));
                let seen = Rc::clone(&watch);
                switch.set_filter(port, move |frame| {
                    seen.borrow_mut().see(frame);
                    Verdict::Pass
                });
                (port, name, watch)
            })
            .collect();
        WireWatch { ports }
    }

    /// Tells, for each port, what happened on the way to it.
    pub fn tell(&self, switch: &Switch) {
        for (port, name, watch) in &self.ports {
            let counters = switch.counters(*port);
            let repeats = watch.borrow().repeats;
            out!(
                "to {name}: lost {} reordered {} duplicated {} requests {} repeated-requests {} repeated-responses {}",
                counters.lost,
                counters.reordered,
                counters.duplicated,
                repeats.requests,
                repeats.repeated_requests,
                repeats.repeated_responses
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(v6: bool, opcode: u8, qp: u32, psn: u32) -> Vec<u8> {
        let mut frame = vec![0; 14];
        if v6 {
            frame[12..].copy_from_slice(&[0x86, 0xDD]);
            frame.extend([0x60, 0, 0, 0, 0, 0, 17, 64]);
            frame.extend([0; 32]);
        } else {
            frame[12..].copy_from_slice(&[0x08, 0x00]);
            frame.extend([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17]);
            frame.extend([0; 10]);
        }
        frame.extend([0xC0, 0, 0x12, 0xB7, 0, 0, 0, 0]);
        frame.extend([opcode, 0, 0xFF, 0xFF]);
        frame.extend(qp.to_be_bytes());
        frame.extend(psn.to_be_bytes());
        frame
    }

    #[test]
    fn a_number_sent_again_is_counted_once_for_each_time() {
        const WRITE_ONLY: u8 = 0x0A;
        const READ_RESPONSE_MIDDLE: u8 = 0x0E;
        const ACKNOWLEDGE: u8 = 0x11;
        for v6 in [false, true] {
            let mut watch = Watch::default();
            for psn in [0xFF_FFFE, 0xFF_FFFF, 0, 0xFF_FFFF, 0, 1] {
                watch.see(&frame(v6, WRITE_ONLY, 7, psn));
            }
            // Another queue pair, another kind: their numbers have nothing to do with those.
            watch.see(&frame(v6, WRITE_ONLY, 8, 0));
            watch.see(&frame(v6, READ_RESPONSE_MIDDLE, 7, 0));
            for _ in 0..2 {
                watch.see(&frame(v6, READ_RESPONSE_MIDDLE, 7, 5));
                watch.see(&frame(v6, ACKNOWLEDGE, 7, 5));
            }
            let expected = Repeats {
                requests: 7,
                repeated_requests: 2,
                repeated_responses: 1,
            };
            assert_eq!(watch.repeats, expected);
        }
    }

    #[test]
    fn other_frames_and_pieces_of_frames_are_passed_over() {
        let whole = frame(false, 0x0A, 7, 1);
        let mut watch = Watch::default();
        for cut in 0..whole.len() {
            watch.see(&whole[..cut]);
        }
        let mut dns = whole;
        dns[36..38].copy_from_slice(&53_u16.to_be_bytes());
        watch.see(&dns);
        assert_eq!(watch.repeats, Repeats::default());
    }
}
