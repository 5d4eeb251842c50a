//! Equal pieces of memory that the device reaches.

use alloc::vec::Vec;

use nt::dma::{Adapter, CommonBuffer};
use nt::{Passive, Status};

/// Contiguous memory is asked for in pieces of this size, bytes, because large ones are hard to come by.
const CHUNK: usize = 64 * 1024;

/// A number of slots, each contiguous, in as many buffers as that takes.
#[derive(Debug)]
pub struct Slots {
    chunks: Vec<CommonBuffer>,
    per_chunk: usize,
    stride: usize,
    count: u16,
}

/// Where a slot is.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a> {
    /// The buffer it is in.
    pub buffer: &'a CommonBuffer,
    /// Offset in the buffer.
    pub offset: usize,
    /// Logical address.
    pub logical: u64,
}

impl Slots {
    /// Allocates `count` zeroed slots of `size` bytes, aligned to 64.
    ///
    /// # Errors
    /// No memory.
    pub fn try_new(
        adapter: &Adapter,
        count: u16,
        size: usize,
        passive: Passive,
    ) -> Result<Self, Status> {
        let stride = size.max(1).next_multiple_of(64);
        let per_chunk = (CHUNK / stride).max(1);
        let mut left = usize::from(count);
        let mut chunks = Vec::new();
        chunks
            .try_reserve_exact(left.div_ceil(per_chunk))
            .map_err(|_| nt::NoMemory)?;
        while left > 0 {
            let here = left.min(per_chunk);
            chunks.push(adapter.common_buffer(here * stride, passive)?);
            left -= here;
        }
        Ok(Self {
            chunks,
            per_chunk,
            stride,
            count,
        })
    }

    /// A slot, if there is one of this number.
    pub fn get(&self, slot: u16) -> Option<Slot<'_>> {
        if slot >= self.count {
            return None;
        }
        let slot = usize::from(slot);
        let buffer = self.chunks.get(slot / self.per_chunk)?;
        let offset = slot % self.per_chunk * self.stride;
        Some(Slot {
            buffer,
            offset,
            logical: buffer.logical() + offset as u64,
        })
    }
}
