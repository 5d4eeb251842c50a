//! What each side of the wire sends, seen from the wire: frames are looked at before anything can happen to them, so that a repeated
//! packet sequence number is the sender's doing and not the wire's.

use super::perftest_atomic::Answers;
use ntsim::wire::{PortId, Switch, Verdict};
use roce::PathMtu;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// RC packets of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packets {
    /// Packets of requests.
    pub requests: u64,
    /// Those of them whose sequence number had been sent before.
    pub repeated_requests: u64,
    /// Packets of answers to READs and atomic operations.
    pub responses: u64,
    /// Those of them whose sequence number had been sent before.
    pub repeated_responses: u64,
    /// Packets of answers that requests have asked for, each time they were sent.
    pub asked: u64,
    /// What one of them has asked for at most.
    pub most_asked: u64,
    /// Acknowledgements, good or bad.
    pub acknowledgements: u64,
    /// Those of them that say that no receive is posted: the request has to be sent again.
    pub not_ready: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Request,
    Response,
}

/// Follows the sequence numbers of one direction.
#[derive(Default)]
struct Watch {
    packets: Packets,
    frames: u64,
    /// Bytes of payload of the longest packet.
    longest: usize,
    /// The last new sequence number, by destination queue pair.
    latest: BTreeMap<(u32, Kind), u32>,
    /// Answers to atomic operations.
    atomic_answers: Answers,
    /// Requests of the connection manager for a connection, and rejections.
    calls: u64,
    rejections: u64,
    /// Rejections that the wire does not lose.
    arriving: u64,
    /// Bytes of payload in a packet of an answer.
    mtu: u64,
    /// Whether something happens to those: a few frames, which chance would spare.
    hostile: bool,
}

impl Watch {
    /// Looks at a frame, and decides what happens to it.
    ///
    /// On a hostile wire the first request is lost, and so is the first rejection, which answers the second request; the third
    /// request and the second rejection come twice.
    fn see(&mut self, frame: &[u8]) -> Verdict {
        self.frames += 1;
        let Some(bth) = base_header(frame) else {
            return Verdict::Pass;
        };
        self.count(bth);
        let verdict = match cm_attribute(bth) {
            Some(REQ) => {
                self.calls += 1;
                match self.calls {
                    1 => Verdict::Drop,
                    3 => Verdict::Duplicate,
                    _ => Verdict::Pass,
                }
            }
            Some(REJ) => {
                self.rejections += 1;
                match self.rejections {
                    1 => Verdict::Drop,
                    2 => Verdict::Duplicate,
                    _ => Verdict::Pass,
                }
            }
            _ => Verdict::Pass,
        };
        let verdict = if self.hostile { verdict } else { Verdict::Pass };
        self.arriving += u64::from(cm_attribute(bth) == Some(REJ) && verdict != Verdict::Drop);
        verdict
    }

    fn count(&mut self, bth: &[u8]) {
        if let Some(value) = atomic_answer(bth) {
            *self.atomic_answers.entry(value).or_default() += 1;
        }
        if let [ACKNOWLEDGE, ..] = bth {
            self.packets.acknowledgements += 1;
            // IBTA 9.7.5.2.8: type 01 of the AETH's syndrome.
            let not_ready = bth.get(12).is_some_and(|syndrome| syndrome & 0x60 == 0x20);
            self.packets.not_ready += u64::from(not_ready);
        }
        let Some((kind, qp, psn)) = rc_packet(bth) else {
            return;
        };
        let latest = self.latest.entry((qp, kind)).or_insert(psn.wrapping_sub(1));
        self.longest = self.longest.max(payload(bth).unwrap_or(0));
        // Serial arithmetic in 24 bits: the upper half of the circle lies behind.
        let ahead = psn.wrapping_sub(*latest) & 0xFF_FFFF;
        let repeated = ahead == 0 || ahead >= 0x80_0000;
        if !repeated {
            *latest = psn;
        }
        let packets = &mut self.packets;
        let (all, again) = match kind {
            Kind::Request => {
                let asked = answers(bth, self.mtu).unwrap_or(0);
                packets.asked += asked;
                packets.most_asked = packets.most_asked.max(asked);
                (&mut packets.requests, &mut packets.repeated_requests)
            }
            Kind::Response => (&mut packets.responses, &mut packets.repeated_responses),
        };
        *all += 1;
        *again += u64::from(repeated);
    }
}

/// A RoCEv2 packet from its base transport header on.
fn base_header(frame: &[u8]) -> Option<&[u8]> {
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
    (frame.get(udp + 2..udp + 4)? == ROCE_V2).then(|| frame.get(udp + UDP..))?
}

/// Kind, destination queue pair and sequence number of a packet of a reliable connection. Acknowledgements are none of both kinds: they
/// may carry the same number any number of times.
fn rc_packet(bth: &[u8]) -> Option<(Kind, u32, u32)> {
    let bth: &[u8; 12] = bth.first_chunk()?;
    // IBTA: the upper three bits are 0 for RC.
    let kind = match bth[0] {
        0x00..=0x0C | 0x13..=0x17 => Kind::Request,
        0x0D..=0x10 | ATOMIC_ACKNOWLEDGE => Kind::Response,
        _ => return None,
    };
    let number = |at: usize| u32::from_be_bytes([0, bth[at], bth[at + 1], bth[at + 2]]);
    Some((kind, number(5), number(9)))
}

/// IBTA's code of an acknowledgement, which may be a bad one.
const ACKNOWLEDGE: u8 = 0x11;

/// IBTA's code of an answer to an atomic operation.
const ATOMIC_ACKNOWLEDGE: u8 = 0x12;

/// Packets of the answer to a READ or an atomic operation.
fn answers(bth: &[u8], mtu: u64) -> Option<u64> {
    const READ: u8 = 0x0C;
    // Behind the base header, the address and the key.
    const LENGTH: usize = 12 + 8 + 4;
    match *bth.first()? {
        READ => {
            let length = u32::from_be_bytes(*bth.get(LENGTH..)?.first_chunk()?);
            Some(u64::from(length).div_ceil(mtu).max(1))
        }
        COMPARE_AND_SWAP | FETCH_AND_ADD => Some(1),
        _ => None,
    }
}

/// IBTA's codes of atomic operations.
const COMPARE_AND_SWAP: u8 = 0x13;
const FETCH_AND_ADD: u8 = 0x14;

/// Bytes of payload of a packet that has some, padding included.
fn payload(bth: &[u8]) -> Option<usize> {
    const BASE: usize = 12;
    const ICRC: usize = 4;
    let extensions = match bth.first()? {
        // First, middle, last and only of SEND and WRITE; the RETH; immediate data and the key to invalidate.
        0x00..=0x02 | 0x04 | 0x07 | 0x08 => 0,
        0x03 | 0x05 | 0x09 | 0x16 | 0x17 => 4,
        0x06 | 0x0A => 16,
        0x0B => 20,
        // READ responses: all but the middle have an AETH.
        0x0E => 0,
        0x0D | 0x0F | 0x10 => 4,
        _ => return None,
    };
    bth.len().checked_sub(BASE + extensions + ICRC)
}

/// The connection manager's request for a connection, and its rejection (IBTA 12.6.5 and 12.6.7).
const REQ: u16 = 0x0010;
const REJ: u16 = 0x0012;

/// What a message of the connection manager is (IBTA 13.4.2).
fn cm_attribute(bth: &[u8]) -> Option<u16> {
    // Behind base header and DETH, 16 bytes into the MAD.
    const ATTRIBUTE: usize = 36;
    const UD_SEND_ONLY: u8 = 0x64;
    if *bth.first()? != UD_SEND_ONLY {
        return None;
    }
    Some(u16::from_be_bytes(*bth.get(ATTRIBUTE..)?.first_chunk()?))
}

/// The value that an answer to an atomic operation names.
fn atomic_answer(bth: &[u8]) -> Option<u64> {
    // Behind the base header and the acknowledgement's.
    const AT: usize = 12 + 4;
    if *bth.first()? != ATOMIC_ACKNOWLEDGE {
        return None;
    }
    Some(u64::from_be_bytes(*bth.get(AT..)?.first_chunk()?))
}

/// Watches what is sent to the ports of a switch.
pub struct WireWatch {
    ports: Vec<(PortId, String, Rc<RefCell<Watch>>)>,
}

impl WireWatch {
    /// Watches every port that the switch has. Takes the place of the ports' filters. A `hostile` wire does something to requests
    /// for connections and to rejections.
    pub fn start(switch: &Switch, mtu: PathMtu, hostile: bool) -> WireWatch {
        let ports = switch
            .ports()
            .into_iter()
            .map(|(port, name)| {
                let watch = Rc::new(RefCell::new(Watch {
                    mtu: u64::from(mtu.bytes()),
                    hostile,
                    ..Watch::default()
                }));
                let seen = Rc::clone(&watch);
                switch.set_filter(port, move |frame| seen.borrow_mut().see(frame));
                (port, name, watch)
            })
            .collect();
        WireWatch { ports }
    }

    /// The answers to atomic operations that were sent, to whichever port.
    pub fn atomic_answers(&self) -> Answers {
        let mut all = Answers::new();
        for (_, _, watch) in &self.ports {
            for (value, times) in &watch.borrow().atomic_answers {
                *all.entry(*value).or_default() += times;
            }
        }
        all
    }

    /// How many rejections the wire has taken to whichever port.
    pub fn rejections(&self) -> u64 {
        let each = self.ports.iter();
        each.map(|(_, _, watch)| watch.borrow().arriving).sum()
    }

    /// Tells, for each port, what was sent to it and what happened on the way.
    pub fn tell(&self, switch: &Switch) {
        for (port, name, watch) in &self.ports {
            let counters = switch.counters(*port);
            let Watch {
                packets,
                frames,
                longest,
                calls,
                rejections,
                ..
            } = *watch.borrow();
            out!(
                "to {name}: frames {frames} longest {longest} lost {} reordered {} duplicated {} requests {} repeated-requests {} responses {} repeated-responses {} asked {} most-asked {} acknowledgements {} not-ready {} calls {calls} rejections {rejections}",
                counters.lost + counters.filtered,
                counters.reordered,
                counters.duplicated,
                packets.requests,
                packets.repeated_requests,
                packets.responses,
                packets.repeated_responses,
                packets.asked,
                packets.most_asked,
                packets.acknowledgements,
                packets.not_ready
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
            for syndrome in [0x1F, 0x2E, 0x60] {
                let mut acknowledgement = frame(v6, ACKNOWLEDGE, 7, 5);
                acknowledgement.extend([syndrome, 0, 0, 1, 0, 0, 0, 0]);
                watch.see(&acknowledgement);
            }
            let expected = Packets {
                requests: 7,
                repeated_requests: 2,
                responses: 3,
                repeated_responses: 1,
                asked: 0,
                most_asked: 0,
                acknowledgements: 5,
                not_ready: 1,
            };
            assert_eq!(watch.packets, expected);
            assert_eq!(watch.frames, 15);
        }
    }

    #[test]
    fn what_requests_ask_for_is_counted_each_time() {
        let mut watch = Watch {
            mtu: 1024,
            ..Watch::default()
        };
        for (opcode, psn, length) in [
            (0x0C, 1, 1024_u32),
            (0x0C, 2, 5000),
            (0x0C, 2, 5000),
            (0x0C, 7, 0),
            (FETCH_AND_ADD, 8, 0),
            (0x0A, 9, 5000),
        ] {
            let mut frame = frame(false, opcode, 7, psn);
            frame.extend([0; 12]);
            frame.extend(length.to_be_bytes());
            watch.see(&frame);
        }
        assert_eq!((watch.packets.asked, watch.packets.most_asked), (13, 5));
    }

    #[test]
    fn the_longest_payload_is_told_from_headers() {
        const ICRC: usize = 4;
        for (opcode, extension) in [(0x00, 0), (0x06, 16), (0x0E, 0), (0x0F, 4), (0x0B, 20)] {
            let mut watch = Watch::default();
            for length in [8, 1024, 12] {
                let mut frame = frame(true, opcode, 7, 1);
                frame.extend(vec![0; extension + length + ICRC]);
                watch.see(&frame);
            }
            assert_eq!(watch.longest, 1024, "{opcode:#x}");
        }
        // A READ request has a RETH and no payload.
        let mut watch = Watch {
            mtu: 1024,
            ..Watch::default()
        };
        let mut request = frame(false, 0x0C, 7, 1);
        request.extend([0; 20]);
        watch.see(&request);
        assert_eq!((watch.longest, watch.frames), (0, 1));
    }

    /// A message of the connection manager.
    fn cm(v6: bool, attribute: u16) -> Vec<u8> {
        let mut frame = frame(v6, 0x64, 1, 1);
        frame.extend([0; 8 + 16]);
        frame.extend(attribute.to_be_bytes());
        frame
    }

    #[test]
    fn rejections_are_counted_in_either_family() {
        let mut watch = Watch::default();
        for v6 in [false, true] {
            for attribute in [REJ, 0x0013] {
                assert_eq!(watch.see(&cm(v6, attribute)), Verdict::Pass);
            }
        }
        assert_eq!((watch.rejections, watch.arriving, watch.calls), (2, 2, 0));
    }

    #[test]
    fn a_hostile_wire_loses_the_first_of_a_kind_and_doubles_one() {
        let mut watch = Watch {
            hostile: true,
            ..Watch::default()
        };
        let mut fates = |attribute| [(); 4].map(|()| watch.see(&cm(true, attribute)));
        use Verdict::{Drop, Duplicate, Pass};
        assert_eq!(fates(REQ), [Drop, Pass, Duplicate, Pass]);
        assert_eq!(fates(REJ), [Drop, Duplicate, Pass, Pass]);
        assert_eq!(fates(0x0013), [Pass; 4]);
        assert_eq!((watch.calls, watch.rejections, watch.arriving), (4, 4, 3));
    }

    #[test]
    fn answers_to_atomic_operations_are_counted_by_value() {
        let mut watch = Watch::default();
        for (psn, value) in [(5, 7_u64), (6, 1 << 40), (5, 7)] {
            let mut frame = frame(false, ATOMIC_ACKNOWLEDGE, 7, psn);
            frame.extend([0x1F, 0, 0, 1]);
            frame.extend(value.to_be_bytes());
            assert_eq!(atomic_answer(&frame[42..frame.len() - 1]), None);
            watch.see(&frame);
        }
        assert_eq!(watch.atomic_answers, Answers::from([(7, 2), (1 << 40, 1)]));
        assert_eq!(watch.packets.repeated_responses, 1);
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
        assert_eq!(watch.packets, Packets::default());
    }
}
