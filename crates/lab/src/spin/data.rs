//! The bytes that requests move, and whether they arrive.
//!
//! Memory holds a pattern of its own. The first half of a buffer is only ever read, by as many requests as like to; in the second half
//! each request that writes has a piece of its own. So what a request was to bring is known, and nothing else may have changed.

use super::chance::Chance;
use ntsim::ndk::Buffer;
use std::ops::Range;

/// Names a buffer of the epoch, for good.
pub(super) type GroundId = usize;

/// A part of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) ground: GroundId,
    pub(super) offset: u32,
    pub(super) length: u32,
}

/// Bytes of pieces together.
pub(super) fn length(pieces: &[Piece]) -> u32 {
    pieces.iter().map(|piece| piece.length).sum()
}

/// A buffer with its pattern.
struct Ground {
    buffer: Option<Buffer>,
    address: u64,
    length: u32,
    /// Where that is which requests write to.
    middle: u32,
    /// What they may be writing to.
    taken: Vec<Range<u32>>,
}

/// All buffers of an epoch.
#[derive(Default)]
pub(super) struct Grounds(Vec<Ground>);

/// The eight bytes at eight times an index in a buffer.
fn word(ground: GroundId, index: u32) -> [u8; 8] {
    Chance::new((ground as u64) << 32 | u64::from(index))
        .number()
        .to_le_bytes()
}

/// The bytes of a piece that nobody has written to.
fn pattern(piece: Piece) -> impl Iterator<Item = u8> {
    let end = piece.offset + piece.length;
    let words = piece.offset / 8..end.div_ceil(8);
    words
        .flat_map(move |index| word(piece.ground, index))
        .skip(piece.offset as usize % 8)
        .take(piece.length as usize)
}

/// The bytes that pieces of sources hold.
pub(super) fn content(pieces: &[Piece]) -> Vec<u8> {
    pieces.iter().flat_map(|piece| pattern(*piece)).collect()
}

fn range(piece: Piece) -> Range<usize> {
    let offset = piece.offset as usize;
    offset..offset + piece.length as usize
}

impl Grounds {
    /// Lays the pattern.
    pub(super) fn add(&mut self, mut buffer: Buffer) -> GroundId {
        let ground = self.0.len();
        let length = buffer.len() as u32;
        let all = Piece {
            ground,
            offset: 0,
            length,
        };
        for (byte, value) in buffer.bytes_mut().iter_mut().zip(pattern(all)) {
            *byte = value;
        }
        self.0.push(Ground {
            address: buffer.address(),
            buffer: Some(buffer),
            length,
            middle: length / 2,
            taken: Vec::new(),
        });
        ground
    }

    pub(super) fn address(&self, ground: GroundId) -> u64 {
        self.0[ground].address
    }

    pub(super) fn length(&self, ground: GroundId) -> u32 {
        self.0[ground].length
    }

    /// Most bytes that a request may read there.
    pub(super) fn readable(&self, ground: GroundId) -> u32 {
        self.0[ground].middle
    }

    pub(super) fn buffer(&self, ground: GroundId) -> Option<&Buffer> {
        self.0[ground].buffer.as_ref()
    }

    /// So many bytes to read, or fewer.
    pub(super) fn source(&self, chance: &mut Chance, ground: GroundId, most: u32) -> Piece {
        let middle = self.0[ground].middle;
        let length = most.min(middle);
        Piece {
            ground,
            offset: chance.below(u64::from(middle - length) + 1) as u32,
            length,
        }
    }

    /// So many bytes to write to that nobody else writes to, or fewer; perhaps none.
    pub(super) fn sink(&mut self, chance: &mut Chance, ground: GroundId, most: u32) -> Piece {
        let Ground {
            middle,
            length: end,
            taken,
            ..
        } = &mut self.0[ground];
        let mut length = most.min(*end - *middle);
        while length > 0 {
            let spare = u64::from(*end - *middle - length);
            let offset = *middle + chance.below(spare + 1) as u32;
            let wanted = offset..offset + length;
            let free = |taken: &Range<u32>| taken.end <= wanted.start || taken.start >= wanted.end;
            if taken.iter().all(free) {
                taken.push(wanted);
                return Piece {
                    ground,
                    offset,
                    length,
                };
            }
            length /= 4;
        }
        Piece {
            ground,
            offset: *middle,
            length: 0,
        }
    }

    /// The request that was to write to a piece writes to fewer bytes of it.
    pub(super) fn shorten(&mut self, piece: &mut Piece, length: u32) {
        let taken = &mut self.0[piece.ground].taken;
        let at = taken
            .iter()
            .position(|t| t.start == piece.offset && piece.length > 0);
        piece.length = length;
        match at {
            Some(at) if length == 0 => {
                taken.swap_remove(at);
            }
            Some(at) => taken[at].end = piece.offset + length,
            None => {}
        }
    }

    /// Whether the first bytes of pieces are those. What memory is gone is not looked at.
    pub(super) fn hold(&self, pieces: &[Piece], bytes: &[u8]) -> bool {
        let mut rest = bytes;
        pieces.iter().all(|piece| {
            let (here, others) = rest.split_at(rest.len().min(piece.length as usize));
            rest = others;
            let buffer = self.buffer(piece.ground);
            buffer.is_none_or(|buffer| buffer.bytes()[range(*piece)].starts_with(here))
        })
    }

    /// A request writes to a piece no more: it has its pattern again, and others may write to it.
    pub(super) fn give_back(&mut self, piece: Piece) {
        if piece.length == 0 {
            return;
        }
        let ground = &mut self.0[piece.ground];
        ground.taken.retain(|taken| taken.start != piece.offset);
        if let Some(buffer) = &mut ground.buffer {
            let bytes = &mut buffer.bytes_mut()[range(piece)];
            for (byte, value) in bytes.iter_mut().zip(pattern(piece)) {
                *byte = value;
            }
        }
    }

    /// Writes to a piece as a request would.
    #[cfg(test)]
    pub(super) fn write(&mut self, piece: Piece, bytes: &[u8]) {
        if let Some(buffer) = &mut self.0[piece.ground].buffer {
            buffer.bytes_mut()[range(piece)][..bytes.len()].copy_from_slice(bytes);
        }
    }

    /// Gives up a buffer. Where it was written to although nobody should, if it was.
    pub(super) fn give_up(&mut self, ground: GroundId) -> (Option<Buffer>, Option<u32>) {
        let buffer = self.0[ground].buffer.take();
        let changed = buffer.as_ref().and_then(|buffer| {
            let all = Piece {
                ground,
                offset: 0,
                length: buffer.len() as u32,
            };
            let taken = &self.0[ground].taken;
            let pairs = buffer.bytes().iter().zip(pattern(all));
            let mut offsets = (0_u32..).zip(pairs);
            offsets.find_map(|(offset, (is, was))| {
                let changed = *is != was && !taken.iter().any(|t| t.contains(&offset));
                changed.then_some(offset)
            })
        });
        (buffer, changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kernel code on a machine of its own.
    fn in_kernel(f: impl FnOnce() + 'static) {
        let mut world = ntsim::World::builder().seed(1).build();
        let machine = world.add_machine(ntsim::MachineConfig::named("A"));
        world.call(machine, f);
    }

    #[test]
    fn what_is_written_where_nobody_may_is_found() {
        in_kernel(|| {
            for stray in [None, Some(3), Some(99)] {
                let mut grounds = Grounds::default();
                let ground = grounds.add(Buffer::new(100).unwrap());
                let sink = grounds.sink(&mut Chance::new(1), ground, 9);
                assert!(sink.length == 9 && sink.offset >= 50);
                let buffer = grounds.0[ground].buffer.as_mut().unwrap();
                buffer.bytes_mut()[sink.offset as usize] ^= 1;
                let stray = stray.filter(|at| !range(sink).contains(&(*at as usize)));
                if let Some(at) = stray {
                    buffer.bytes_mut()[at as usize] ^= 1;
                }
                let (buffer, changed) = grounds.give_up(ground);
                assert_eq!(changed, stray);
                buffer.unwrap().free();
            }
        });
    }

    #[test]
    fn a_piece_holds_what_was_written_until_it_is_given_back() {
        in_kernel(|| {
            let mut grounds = Grounds::default();
            let mut chance = Chance::new(1);
            let [from, into] = [(); 2].map(|()| grounds.add(Buffer::new(5000).unwrap()));
            let source = grounds.source(&mut chance, from, 700);
            let sinks = [500, 300].map(|most| grounds.sink(&mut chance, into, most));
            let bytes = content(&[source]);
            assert!(bytes.len() == 700 && !grounds.hold(&sinks, &bytes));
            let mut rest = &bytes[..];
            for sink in sinks {
                let (here, others) = rest.split_at(rest.len().min(sink.length as usize));
                rest = others;
                grounds.write(sink, here);
            }
            assert!(grounds.hold(&sinks, &bytes));
            for sink in sinks {
                grounds.give_back(sink);
            }
            assert!(!grounds.hold(&sinks, &bytes));
            for ground in [from, into] {
                let (buffer, changed) = grounds.give_up(ground);
                assert_eq!(changed, None);
                buffer.unwrap().free();
            }
        });
    }

    #[test]
    fn pieces_that_are_written_to_do_not_overlap() {
        in_kernel(|| {
            let mut grounds = Grounds::default();
            let mut chance = Chance::new(1);
            let ground = grounds.add(Buffer::new(1000).unwrap());
            let mut written = [0; 1000];
            for _ in 0..200 {
                let piece = grounds.sink(&mut chance, ground, 40);
                written[range(piece)].iter_mut().for_each(|n| *n += 1);
            }
            assert!(written[..500].iter().all(|n| *n == 0));
            assert!(written.iter().all(|n| *n <= 1) && written.iter().sum::<i32>() > 300);
            grounds.give_up(ground).0.unwrap().free();
        });
    }
}
