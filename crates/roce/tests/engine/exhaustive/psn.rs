//! PSNs: 24 bits, modulo 2^24.

use super::port::{Outcome, Port};
use crate::util::memory::TestMemory;
use roce::Psn;
use roce::wire::Opcode;

const ALL: u32 = 1 << 24;

/// Where arithmetic could go wrong, and two places where it has no reason to.
const ANCHORS: [u32; 8] = [
    0, 1, 0x7f_ffff, 0x80_0000, 0x80_0001, 0xff_ffff, 0x12_3456, 0xca_fe00,
];

/// From these every distance there is.
const FULL: [u32; 3] = [0, 0x80_0000, 0xca_fe00];

#[test]
fn every_distance_from_an_anchor_is_what_the_definition_says() {
    for anchor in FULL {
        let from = Psn::new(anchor);
        for steps in 0..ALL {
            let to = from.add(steps);
            // By the definition, in numbers that cannot overflow.
            let value = (u64::from(anchor) + u64::from(steps)) % u64::from(ALL);
            let signed = if steps < ALL / 2 {
                i64::from(steps)
            } else {
                i64::from(steps) - i64::from(ALL)
            };
            let right = u64::from(to.get()) == value
                && to == Psn::new(value as u32)
                && to.sub(steps) == from
                && to.since(from) == steps
                && i64::from(to.distance(from)) == signed
                && to.is_after(from) == (signed > 0)
                && to.is_before(from) == (signed < 0)
                && to.next().prev() == to
                && to.next() == from.add(steps + 1);
            assert!(right, "{anchor:#x} + {steps:#x}");
            // The other way round, save for the one distance that has no opposite.
            if steps != ALL / 2 {
                assert_eq!(
                    i64::from(from.distance(to)),
                    -signed,
                    "{anchor:#x} {steps:#x}"
                );
            }
        }
    }
}

/// Bits above the 24 mean nothing, in whatever a PSN is made from.
#[test]
fn bits_above_the_24_mean_nothing() {
    for high in 0..=0xff_u32 {
        for low in ANCHORS {
            let value = high << 24 | low;
            assert_eq!(Psn::new(value), Psn::new(low));
            assert_eq!(Psn::new(low).add(value), Psn::new(low).add(low));
            assert_eq!(Psn::new(low).sub(value), Psn::ZERO);
        }
    }
}

/// What a responder makes of a request depends on the distance alone, wherever the PSNs wrap: the next is executed, what is earlier is
/// acknowledged and no more, what is later is asked for again, and what is absurdly far ahead gets no answer.
#[test]
fn a_responder_judges_by_the_distance_wherever_it_stands() {
    let mut executed = 0;
    for anchor in ANCHORS {
        for bit in 0..24 {
            for steps in [(1_u32 << bit) - 1, 1 << bit, (1 << bit) + 1] {
                for psn in [anchor.wrapping_add(steps), anchor.wrapping_sub(steps)] {
                    let psn = psn % ALL;
                    let mut port = Port::at(TestMemory::default(), anchor);
                    let outcome = port.empty_write(psn);
                    let distance = (psn.wrapping_sub(anchor) << 8) as i32 >> 8;
                    let right = match distance {
                        0 => outcome == Outcome::Ack(anchor),
                        // Nothing has been executed: the packet before the first is the newest that is acknowledged.
                        i32::MIN..0 => outcome == Outcome::Ack(anchor.wrapping_sub(1) % ALL),
                        1..0x10_0000 => outcome == Outcome::Nak(0x60),
                        0x10_0000.. => outcome == Outcome::Silence,
                    };
                    assert!(right, "{anchor:#x} {psn:#x} {distance}: {outcome:?}");
                    executed += u32::from(distance == 0);
                    // It still stands where it stood, or one further.
                    let next = if distance == 0 { anchor + 1 } else { anchor };
                    assert_eq!(
                        port.empty_write(next % ALL),
                        Outcome::Ack(next % ALL),
                        "{anchor:#x} {psn:#x}"
                    );
                }
            }
        }
    }
    assert_eq!(executed, 2 * ANCHORS.len() as u32);
}

/// A READ takes as many PSNs as it has responses, also across the wrap.
#[test]
fn reads_take_their_psns_across_the_wrap() {
    for packets in 1..=9 {
        for before in 0..=10 {
            let first = ALL - before;
            let mut port = Port::at(TestMemory::default(), first % ALL);
            let key = port.open(4096);
            let range = port.reth(key, 0, packets * 256 - 255);
            let psns: Vec<u32> = port
                .ask(Opcode::ReadRequest, first % ALL, Some(range), &[])
                .iter()
                .map(|r| r.psn)
                .collect();
            let want: Vec<u32> = (first..first + packets).map(|p| p % ALL).collect();
            assert_eq!(psns, want);
            let next = (first + packets) % ALL;
            assert_eq!(port.empty_write(next), Outcome::Ack(next));
        }
    }
}
