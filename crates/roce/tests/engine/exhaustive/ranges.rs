//! Ranges: whatever lies inside a region is reached at its place, and nothing else is.

use super::port::{BASE, MTU, NOW, Outcome, Port};
use crate::util::memory::TestMemory;
use roce::wire::{ExtHeaders, Opcode, Reth};
use roce::{Access, Atomic, Fault, Memory, MrKey, RegionId, RegisterError, SendOp, Sge, Status};

/// The most that a READ can bring: one more packet, and it would take half of all PSNs.
const LONGEST: u32 = (1 << 31) - MTU;

/// A region without end: it says where it was asked for.
#[derive(Default)]
struct Endless {
    written: Vec<(u64, usize)>,
}

impl Memory for Endless {
    fn write(&mut self, _: RegionId, offset: u64, data: &[u8]) -> Result<(), Fault> {
        self.written.push((offset, data.len()));
        Ok(())
    }

    fn atomic(&mut self, _: RegionId, offset: u64, _: Atomic) -> Result<u64, Fault> {
        self.written.push((offset, 8));
        Ok(0)
    }

    fn visit(&self, _: RegionId, _: u64, len: u32, f: &mut dyn FnMut(&[u8])) -> Result<(), Fault> {
        f(&vec![0; len as usize]);
        Ok(())
    }
}

/// Whether a range is inside a region, in numbers that do not wrap.
fn inside(base: u64, size: u64, va: u64, len: u32) -> bool {
    let (base, va) = (u128::from(base), u128::from(va));
    va >= base && va + u128::from(len) <= base + u128::from(size)
}

fn read<M: Memory>(port: &mut Port<M>, reth: Reth) -> Outcome {
    let ext = ExtHeaders {
        reth: Some(reth),
        ..ExtHeaders::NONE
    };
    port.outcome(Opcode::ReadRequest, ext, &[])
}

/// What a READ of this range must bring.
fn check_read<M: Memory>(port: &mut Port<M>, base: u64, size: u64, reth: Reth) {
    let outcome = read(port, reth);
    let right = if reth.len > LONGEST {
        outcome == Outcome::Nak(0x61)
    } else if reth.len == 0 {
        outcome == Outcome::Data(None)
    } else if inside(base, size, reth.va, reth.len) {
        matches!(outcome, Outcome::Data(Some(piece))
            if piece.offset == reth.va.wrapping_sub(base) && piece.len == reth.len.min(MTU))
    } else {
        outcome == Outcome::Nak(0x62)
    };
    assert!(right, "{base:#x} + {size:#x}: {reth:x?}: {outcome:?}");
    if reth.len > MTU || matches!(outcome, Outcome::Nak(_)) {
        port.renew();
    }
}

/// Every range in and around regions of every size up to 20 bytes, by READ, by WRITE and by SEND.
#[test]
fn every_range_around_a_small_region() {
    for size in 0..=20_u64 {
        let mut port = Port::at(TestMemory::default(), 100);
        let key = port.open(size as usize);
        for offset in 0..=size + 3 {
            for len in 0..=size as u32 + 3 {
                let va = BASE - 2 + offset;
                let reth = Reth {
                    va,
                    rkey: key.0,
                    len,
                };
                check_read(&mut port, BASE, size, reth);
                check_write(&mut port, size, reth);
                check_source(&mut port, size, key, va, len);
                check_receive(&mut port, size, key, va, len);
            }
        }
    }
}

/// A WRITE changes what it names, or nothing.
fn check_write(port: &mut Port<TestMemory>, size: u64, reth: Reth) {
    port.memory.regions[0].fill(0);
    let ext = ExtHeaders {
        reth: Some(reth),
        ..ExtHeaders::NONE
    };
    let outcome = port.outcome(Opcode::WriteOnly, ext, &vec![9; reth.len as usize]);
    let allowed = reth.len == 0 || inside(BASE, size, reth.va, reth.len);
    let mut want = vec![0; size as usize];
    if allowed && reth.len > 0 {
        let at = (reth.va - BASE) as usize;
        want[at..at + reth.len as usize].fill(9);
    }
    assert_eq!(port.memory.regions[0], want, "{reth:x?}");
    assert_eq!(allowed, matches!(outcome, Outcome::Ack(_)), "{reth:x?}");
    if !allowed {
        assert_eq!(outcome, Outcome::Nak(0x62));
        port.renew();
    }
}

/// A request's own memory is read where it lies, or the request fails.
fn check_source(port: &mut Port<TestMemory>, size: u64, key: MrKey, va: u64, len: u32) {
    let sge = Sge {
        key: key.0,
        va,
        len,
    };
    port.post(port.qp, SendOp::Send, &[sge]);
    let sent = port.transmit();
    let allowed = len == 0 || inside(BASE, size, va, len);
    assert_eq!(allowed, sent.is_some(), "{va:#x} {len}");
    if let Some(piece) = sent.and_then(|s| s.piece) {
        assert_eq!((piece.offset, piece.len), (va - BASE, len));
    }
    if !allowed {
        let failed = port.completions();
        assert_eq!(failed[0].status, Status::LocalProtection);
    }
    port.renew();
}

/// A SEND is placed where the receive says, or the receive fails.
fn check_receive(port: &mut Port<TestMemory>, size: u64, key: MrKey, va: u64, len: u32) {
    port.memory.regions[0].fill(0);
    let sge = Sge {
        key: key.0,
        va,
        len,
    };
    port.engine.post_recv(NOW, port.qp, 3, &[sge]).unwrap();
    let outcome = port.outcome(Opcode::SendOnly, ExtHeaders::NONE, &vec![7; len as usize]);
    let done = port.completions()[0].status;
    let mut want = vec![0; size as usize];
    if len == 0 || inside(BASE, size, va, len) {
        assert!(matches!(outcome, Outcome::Ack(_)), "{va:#x} {len}");
        assert_eq!(done, Status::Success);
        if len > 0 {
            let at = (va - BASE) as usize;
            want[at..at + len as usize].fill(7);
        }
    } else {
        assert_eq!(outcome, Outcome::Nak(0x63), "{va:#x} {len}");
        assert_eq!(done, Status::LocalProtection);
        port.renew();
    }
    assert_eq!(port.memory.regions[0], want, "{va:#x} {len}");
}

/// Numbers next to one at which something wraps or changes.
fn around(edges: &[u64]) -> Vec<u64> {
    let near = |e: &u64| [-2_i64, -1, 0, 1, 2].map(|d| e.wrapping_add_signed(d));
    let mut all: Vec<u64> = edges.iter().flat_map(near).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Regions at every edge of the address space and of every size at an edge of 32 or 64 bits, and ranges around each of their ends: none
/// that wraps is taken for one that does not.
#[test]
fn every_range_around_the_edges_of_the_numbers() {
    let (big, small) = (1_u64 << 32, 1_u64 << 31);
    let bases = around(&[0, small, big, 1 << 63, u64::MAX - big, u64::MAX]);
    let sizes = around(&[0, MTU.into(), small, big, 1 << 63, u64::MAX]);
    let lengths = around(&[0, MTU.into(), small, u64::from(u32::MAX) - 1]);
    let (mut registered, mut asked) = (0, 0);
    let mut port = Port::at(Endless::default(), 100);
    for base in bases {
        for size in &sizes {
            let result = port
                .engine
                .register(port.pd, base, *size, Access::all(), RegionId(0));
            let wraps = u128::from(base) + u128::from(*size) > u128::from(u64::MAX);
            let key = match result {
                Ok(key) => key,
                Err(error) => {
                    assert!(wraps, "{base:#x} + {size:#x}");
                    assert_eq!(error, RegisterError::InvalidRange);
                    continue;
                }
            };
            assert!(!wraps, "{base:#x} + {size:#x}");
            registered += 1;
            let end = base + size;
            for len in lengths.iter().filter_map(|n| u32::try_from(*n).ok()) {
                for va in around(&[base, end, end.wrapping_sub(len.into()), u64::MAX]) {
                    let rkey = key.0;
                    check_read(&mut port, base, *size, Reth { va, rkey, len });
                    asked += 1;
                }
            }
            port.engine.deregister(key).unwrap();
        }
    }
    assert!(registered > 200 && asked > 50_000, "{registered} {asked}");
}

/// An atomic operation is on eight bytes at a multiple of eight, all of them inside.
#[test]
fn every_place_of_an_atomic_operation() {
    let (big, top) = (1_u64 << 32, u64::MAX);
    for base in [0, 8, BASE, BASE + 3, big - 16, top - 40] {
        for size in 0..=24_u64 {
            let mut port = Port::at(Endless::default(), 100);
            let region = RegionId(0);
            let key = port
                .engine
                .register(port.pd, base, size, Access::all(), region)
                .unwrap();
            for step in 0..48 {
                let va = base.wrapping_sub(12).wrapping_add(step);
                let outcome = port.atomic(Opcode::FetchAdd, va, key.0);
                let written = std::mem::take(&mut port.memory.written);
                if va % 8 != 0 {
                    assert_eq!(outcome, Outcome::Nak(0x61), "{base:#x} {size} {va:#x}");
                } else if inside(base, size, va, 8) {
                    assert_eq!(outcome, Outcome::Data(None), "{base:#x} {size} {va:#x}");
                    assert_eq!(written, [(va - base, 8)]);
                    continue;
                } else {
                    assert_eq!(outcome, Outcome::Nak(0x62), "{base:#x} {size} {va:#x}");
                }
                assert_eq!(written, []);
                port.renew();
            }
        }
    }
}

/// A window opens its own part of the region, wherever that lies in it.
#[test]
fn every_range_around_a_window() {
    const SIZE: u64 = 12;
    let mut port = Port::at(TestMemory::default(), 100);
    let mr = port.open(SIZE as usize);
    let window = port.engine.create_window(port.pd, 1).unwrap();
    let mut newest = window;
    for from in 0..=SIZE {
        for size in 1..=SIZE - from {
            for offset in 0..SIZE {
                for len in 1..=SIZE as u32 - offset as u32 {
                    let op = SendOp::Bind {
                        window: newest,
                        mr,
                        va: BASE + from,
                        len: size,
                        access: Access::REMOTE_READ,
                    };
                    newest = port.post(port.qp, op, &[]).unwrap();
                    assert!(port.transmit().is_none());
                    let reth = Reth {
                        va: BASE + offset,
                        rkey: newest.0,
                        len,
                    };
                    match read(&mut port, reth) {
                        Outcome::Data(Some(piece)) => {
                            assert!(inside(BASE + from, size, reth.va, len), "{reth:x?}");
                            assert_eq!((piece.offset, piece.len), (offset, len));
                        }
                        outcome => {
                            assert!(!inside(BASE + from, size, reth.va, len), "{reth:x?}");
                            assert_eq!(outcome, Outcome::Nak(0x62));
                        }
                    }
                    port.renew();
                }
            }
        }
    }
}
