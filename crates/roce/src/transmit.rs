//! Frames to be sent: headers by value, payload by reference, and the accounting of what the NIC still reads.

use crate::memory::RegionId;
use arrayvec::ArrayVec;

/// Bytes of [`Transmit::header`] at most: Ethernet to extension headers plus inline payload, or a whole MAD.
pub const MAX_HEADER: usize = 512;

/// Pieces of one frame at most.
pub const MAX_PIECES: usize = crate::config::MAX_SGE as usize;

/// Payload inside a registered region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// The region.
    pub region: RegionId,
    /// Bytes from its start.
    pub offset: u64,
    /// Bytes.
    pub len: u32,
}

/// One frame: `header`, then the bytes behind `pieces`, then `trailer`.
///
/// The caller keeps one and hands it to every [`Engine::poll_transmit`](crate::Engine::poll_transmit).
#[derive(Clone, Debug, Default)]
pub struct Transmit {
    /// Ethernet header to the last extension header, and payload that is not in a region.
    pub header: ArrayVec<u8, MAX_HEADER>,
    /// Payload in regions.
    pub pieces: ArrayVec<Piece, MAX_PIECES>,
    /// Padding and invariant CRC.
    pub trailer: ArrayVec<u8, 8>,
    /// Present if there are pieces: to be given back when the NIC no longer reads them.
    pub token: Option<TxToken>,
}

impl Transmit {
    /// An empty one.
    #[must_use]
    pub fn new() -> Transmit {
        Transmit::default()
    }

    /// Its length.
    pub(crate) fn bytes(&self) -> u64 {
        let pieces: u64 = self.pieces.iter().map(|p| u64::from(p.len)).sum();
        let rest = self.header.len().saturating_add(self.trailer.len());
        pieces.saturating_add(rest as u64)
    }

    /// Forgets the frame.
    pub(crate) fn clear(&mut self) {
        self.header.clear();
        self.pieces.clear();
        self.trailer.clear();
        self.token = None;
    }
}

/// Names one transmission that reads registered memory. Every token is owed one call of
/// [`Engine::transmitted`](crate::Engine::transmitted): completions and deregistrations wait for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TxToken(pub(crate) crate::table::Slot);

impl TxToken {
    /// The token as one word.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        (self.0.generation as u64) << 32 | self.0.index as u64
    }

    /// The token that [`to_bits`](Self::to_bits) gave.
    #[must_use]
    pub const fn from_bits(bits: u64) -> TxToken {
        TxToken(crate::table::Slot {
            index: bits as u32,
            generation: (bits >> 32) as u32,
        })
    }
}
