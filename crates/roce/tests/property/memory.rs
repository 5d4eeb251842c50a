//! Who has what in its memory, and from when on.

use crate::util::{Host, Mr, pattern};
use std::collections::VecDeque;
use std::sync::OnceLock;

/// Between the parts of requests, and what fills what a request has no use for any more.
const GAP: u32 = 5;
const USED: u8 = 0xd5;

/// So many of always the same bytes.
pub fn bytes(seed: u64, len: u32) -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    let all = BYTES.get_or_init(|| pattern(1 << 18, 7));
    let from = seed as usize % 4096;
    &all[from..from + len as usize]
}

/// A side's memory. Every request has a part of it, which its owner writes over when the request is done.
pub struct Memory {
    /// To send from, remotely readable.
    pub source: Mr,
    pub sink: Mr,
    /// Where the next parts begin.
    lent: u32,
    free: u32,
    /// What must have come to the sink by now.
    image: Vec<u8>,
}

/// Bytes that a request reads.
#[derive(Clone, Copy)]
pub struct Lent {
    /// The request, by its place in the case.
    pub index: usize,
    pub at: u32,
    pub len: u32,
}

/// Bytes that a request brings.
pub struct Landing {
    /// The request, by its place in the case.
    pub index: usize,
    pub at: u32,
    pub bytes: Vec<u8>,
}

impl Landing {
    fn covers(&self, byte: usize) -> bool {
        let at = self.at as usize;
        (at..at + self.bytes.len()).contains(&byte)
    }
}

impl Memory {
    /// With room for so many bytes in so many parts.
    pub fn new(host: &mut Host, room: u32, parts: u32) -> Memory {
        let room = (room + (parts + 1) * GAP) as usize;
        Memory {
            source: host.open(vec![0; room]),
            sink: host.open(vec![0; room]),
            lent: 0,
            free: 0,
            image: vec![0; room],
        }
    }

    /// A part of the source, `offset` bytes behind the last one, with `bytes` in it.
    pub fn lend(&mut self, host: &mut Host, index: usize, offset: u32, bytes: &[u8]) -> Lent {
        let len = bytes.len() as u32;
        let at = self.lent + GAP + offset;
        self.lent = at + len;
        host.bytes_mut(&self.source)[at as usize..][..bytes.len()].copy_from_slice(bytes);
        Lent { index, at, len }
    }

    /// A part of the sink.
    pub fn allocate(&mut self, len: u32) -> u32 {
        let at = self.free + GAP;
        self.free = at + len;
        at
    }

    /// The request is done that read this: its owner uses the memory for something else.
    pub fn take_back(&self, host: &mut Host, lent: Lent) {
        host.bytes_mut(&self.source)[lent.at as usize..][..lent.len as usize].fill(USED);
    }

    /// The first of `due` must have landed, up to and with request `last`. Where one of those behind goes, anything may be by now.
    pub fn arrived(&mut self, host: &Host, due: &mut VecDeque<Landing>, last: usize) {
        let n = due.partition_point(|landing| landing.index <= last);
        let done: Vec<Landing> = due.drain(..n).collect();
        for Landing { at, bytes, .. } in &done {
            self.image[*at as usize..][..bytes.len()].copy_from_slice(bytes);
        }
        let is = host.bytes(&self.sink);
        for Landing { index, at, bytes } in &done {
            let wrong = (*at as usize..)
                .take(bytes.len())
                .find(|i| is[*i] != self.image[*i] && !due.iter().any(|later| later.covers(*i)));
            assert_eq!(wrong, None, "byte of {index}, and {last} has completed");
        }
    }

    /// These bytes must be there; their owner takes them, and uses the memory for something else.
    pub fn taken(&mut self, host: &mut Host, at: u32, bytes: &[u8]) {
        let at = at as usize..at as usize + bytes.len();
        let is = &mut host.bytes_mut(&self.sink)[at.clone()];
        let wrong = is.iter().zip(bytes).position(|(is, want)| is != want);
        assert_eq!(wrong, None, "byte of what has completed");
        is.fill(USED);
        self.image[at].fill(USED);
    }

    /// Nothing is in the sink but what belongs there.
    pub fn assert_exact(&self, host: &Host) {
        let is = host.bytes(&self.sink);
        let wrong = is.iter().zip(&self.image).position(|(is, want)| is != want);
        assert_eq!(wrong, None, "byte of the sink");
    }
}
