//! What a peer may send to a responder: messages in order, most of them right, and what becomes of packets on the way.

use crate::util::pattern;
use crate::util::random::{below, pick};
use roce::wire::Opcode::{self, *};
use roce::wire::{AtomicEth, ExtHeaders, Ieth, Immediate, Reth};
use roce::{Access, Rng};

pub const MTU: u32 = 256;
/// Bytes of a region.
pub const SIZE: usize = 1500;
/// Packets ahead of the expected one at which nobody is.
pub const ABSURD: u32 = 1 << 21;

/// A request packet; its PSN is counted from the first.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    pub op: Opcode,
    pub at: u32,
    pub ack: bool,
    pub solicited: bool,
    pub ext: ExtHeaders,
    pub payload: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Key {
    pub mr: Region,
    pub access: Access,
    /// It can be invalidated.
    pub fast: bool,
    pub valid: bool,
}

/// A region by its place in the model's memory.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Region {
    pub key: u32,
    pub va: u64,
    pub region: usize,
}

/// What the peer wants to send, packet by packet.
#[derive(Default)]
pub struct Plan {
    packets: Vec<Request>,
    next: u32,
}

impl Plan {
    /// One more message, in which nothing is wrong.
    fn message(&mut self, rng: &mut Rng, keys: &[Key]) {
        let len = match below(rng, 4) {
            0 => below(rng, 9),
            1 => MTU * below(rng, 4),
            _ => below(rng, 900),
        };
        // The key that is open for everything, or one that is not there for long.
        let key = pick(rng, &[keys[0], keys[0], keys[0], keys[3]]);
        let offset = u64::from(below(rng, SIZE as u32 - len));
        let reth = Reth {
            va: key.mr.va + offset,
            rkey: key.mr.key,
            len,
        };
        let solicited = below(rng, 2) == 0;
        match below(rng, 10) {
            0 | 1 => {
                // Not of what a SEND behind it may close.
                let key = pick(rng, &[keys[0], keys[1]]);
                let reth = Reth {
                    va: key.mr.va + offset,
                    rkey: key.mr.key,
                    len,
                };
                let ext = ExtHeaders {
                    reth: Some(reth),
                    ..ExtHeaders::NONE
                };
                let packets = len.div_ceil(MTU).max(1);
                self.push(ReadRequest, ext, vec![], true, false, packets);
            }
            2 => {
                let op = pick(rng, &[CompareSwap, FetchAdd]);
                let ext = ExtHeaders {
                    atomic: Some(AtomicEth {
                        va: keys[0].mr.va + 8 * u64::from(below(rng, 4)),
                        rkey: keys[0].mr.key,
                        swap_add: rng.next_u64() % 4,
                        compare: rng.next_u64() % 4,
                    }),
                    ..ExtHeaders::NONE
                };
                self.push(op, ext, vec![], true, false, 1);
            }
            kind => {
                let payload = pattern(len as usize, rng.next_u64());
                let is_write = kind < 6;
                let immediate = Immediate(rng.next_u32().to_be_bytes());
                // An invalidation ends most that follows.
                let with = match below(rng, 20) {
                    0 if !is_write => 2,
                    n => n % 2,
                };
                let packets = len.div_ceil(MTU).max(1);
                for i in 0..packets {
                    let (first, last) = (i == 0, i + 1 == packets);
                    let base = match (is_write, first, last) {
                        (true, true, true) => [WriteOnly, WriteOnlyImm, WriteOnly],
                        (true, true, false) => [WriteFirst; 3],
                        (true, false, false) => [WriteMiddle; 3],
                        (true, false, true) => [WriteLast, WriteLastImm, WriteLast],
                        (false, true, true) => [SendOnly, SendOnlyImm, SendOnlyInvalidate],
                        (false, true, false) => [SendFirst; 3],
                        (false, false, false) => [SendMiddle; 3],
                        (false, false, true) => [SendLast, SendLastImm, SendLastInvalidate],
                    };
                    let op = base[with as usize];
                    let ext = ExtHeaders {
                        reth: op.has_reth().then_some(reth),
                        immediate: op.has_immediate().then_some(immediate),
                        ieth: op.has_ieth().then_some(Ieth {
                            rkey: keys[3].mr.key,
                        }),
                        ..ExtHeaders::NONE
                    };
                    let from = (i * MTU) as usize;
                    let to = payload.len().min(from + MTU as usize);
                    let ack = last && below(rng, 4) > 0 || below(rng, 6) == 0;
                    self.push(
                        op,
                        ext,
                        payload[from..to].to_vec(),
                        ack,
                        solicited && last,
                        1,
                    );
                }
            }
        }
    }

    fn push(
        &mut self,
        op: Opcode,
        ext: ExtHeaders,
        payload: Vec<u8>,
        ack: bool,
        solicited: bool,
        packets: u32,
    ) {
        self.packets.push(Request {
            op,
            at: self.next,
            ack,
            solicited,
            ext,
            payload,
        });
        self.next += packets;
    }
}

/// Spoils a request.
fn spoil(rng: &mut Rng, r: &mut Request, keys: &[Key]) {
    match below(rng, 7) {
        0 => {
            let ops = [
                SendFirst,
                SendMiddle,
                SendLast,
                SendOnly,
                WriteMiddle,
                WriteLast,
                SendOnly,
            ];
            r.op = pick(rng, &ops);
            r.ext = ExtHeaders::NONE;
        }
        1 if r.op.has_payload() => r.payload.truncate(r.payload.len() / 2),
        2 if r.op.has_payload() => r.payload.extend([1, 2, 3, 4, 5]),
        3 => {
            if let Some(reth) = &mut r.ext.reth {
                reth.len = reth.len.wrapping_add(pick(rng, &[1, 256, u32::MAX, 2000])) & 0xffff;
            }
        }
        4 => {
            let key = pick(rng, keys).mr.key ^ (below(rng, 4) / 3);
            if let Some(reth) = &mut r.ext.reth {
                reth.rkey = key;
            }
            if let Some(atomic) = &mut r.ext.atomic {
                atomic.rkey = key;
            }
            if let Some(ieth) = &mut r.ext.ieth {
                ieth.rkey = key;
            }
        }
        _ => {
            let step = pick(rng, &[1, 8, 1400, 1 << 40]);
            if let Some(reth) = &mut r.ext.reth {
                reth.va = reth.va.wrapping_add(step);
            }
            if let Some(atomic) = &mut r.ext.atomic {
                atomic.va = atomic.va.wrapping_add(step);
            }
        }
    }
}

/// Most often the next in order.
pub fn next_request(rng: &mut Rng, plan: &mut Plan, expected: u32, keys: &[Key]) -> Request {
    while plan.next < expected + 20 {
        plan.message(rng, keys);
    }
    let find = |at: u32| plan.packets.iter().find(|r| r.at >= at).unwrap().clone();
    match below(rng, 40) {
        0..8 if expected > 0 => {
            // Again; of a READ perhaps a part.
            let back = below(rng, expected.min(12)) + 1;
            let mut r = find(expected - back);
            if r.at >= expected {
                return r;
            }
            r.ack = below(rng, 2) == 0;
            if let (ReadRequest, Some(reth)) = (r.op, &mut r.ext.reth) {
                let skip = below(rng, reth.len.div_ceil(MTU).max(1));
                r.at += skip;
                reth.va += u64::from(skip * MTU);
                reth.len -= (skip * MTU).min(reth.len);
            }
            if below(rng, 8) == 0 {
                spoil(rng, &mut r, keys);
            }
            r
        }
        8..14 => find(expected + 1 + below(rng, 4)),
        14 => Request {
            at: expected + ABSURD + below(rng, 1000),
            ..find(expected)
        },
        15 if below(rng, 3) == 0 => {
            let mut r = find(expected);
            spoil(rng, &mut r, keys);
            r
        }
        _ => find(expected),
    }
}
