//! Entries that stay where they are, and whose memory is had as they are first used: what the tables here, and those of an owner who
//! keeps something of his own beside them, are made of.

use crate::table::OutOfMemory;
use alloc::vec::Vec;

/// Bytes of one allocation, about.
const CHUNK: usize = 8192;

/// Up to `capacity` entries. Memory is had for some at a time, and kept.
#[derive(Debug)]
pub struct Chunks<T> {
    chunks: Vec<Vec<T>>,
    len: u32,
    capacity: u32,
}

impl<T> Chunks<T> {
    /// Entries of one allocation: a power of two.
    const EACH: usize = {
        let fit = CHUNK
            / if size_of::<T>() == 0 {
                1
            } else {
                size_of::<T>()
            };
        if fit <= 1 { 1 } else { 1 << fit.ilog2() }
    };

    /// Room for `capacity` entries, without their memory.
    #[must_use]
    pub const fn new(capacity: u32) -> Chunks<T> {
        Chunks {
            chunks: Vec::new(),
            len: 0,
            capacity,
        }
    }

    /// Most entries that there can be.
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Entries that there are.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an entry behind the others, and gives its index.
    ///
    /// # Errors
    /// The entry, if there is no room or no memory; then nothing has changed.
    pub fn push(&mut self, entry: T) -> Result<u32, T> {
        let Some(chunk) = self.last_chunk() else {
            return Err(entry);
        };
        // Within what was reserved.
        chunk.push(entry);
        let index = self.len;
        self.len += 1;
        Ok(index)
    }

    /// Adds an entry that the optimiser can make where it will be, so that a large one need not be on the stack; it usually does, and the
    /// driver's image is looked at for what it did. `None` if there is no room or no memory.
    pub(crate) fn push_with(&mut self, make: impl FnMut() -> T) -> Option<u32> {
        let chunk = self.last_chunk()?;
        // Within what was reserved.
        chunk.resize_with(chunk.len() + 1, make);
        let index = self.len;
        self.len += 1;
        Some(index)
    }

    /// Gets the memory for `len` entries, or for as many as there can be, those that there are included: adding one gets none then.
    ///
    /// # Errors
    /// No memory. What has been had is kept.
    pub fn reserve(&mut self, len: u32) -> Result<(), OutOfMemory> {
        let chunks = (len.min(self.capacity) as usize).div_ceil(Self::EACH);
        self.chunks
            .try_reserve(chunks.saturating_sub(self.chunks.len()))
            .map_err(|_| OutOfMemory)?;
        while self.chunks.len() < chunks {
            self.chunks
                .push(with_room(Self::EACH.min(self.capacity as usize))?);
        }
        Ok(())
    }

    /// Where the next entry goes.
    fn last_chunk(&mut self) -> Option<&mut Vec<T>> {
        if self.len >= self.capacity {
            return None;
        }
        self.reserve(self.len + 1).ok()?;
        let (chunk, _) = Self::place(self.len);
        self.chunks.get_mut(chunk)
    }

    /// An entry.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&T> {
        let (chunk, at) = Self::place(index);
        self.chunks.get(chunk)?.get(at)
    }

    /// An entry, to be changed.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let (chunk, at) = Self::place(index);
        self.chunks.get_mut(chunk)?.get_mut(at)
    }

    /// All entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    /// All entries, in order, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.chunks.iter_mut().flatten()
    }

    fn place(index: u32) -> (usize, usize) {
        (index as usize / Self::EACH, index as usize % Self::EACH)
    }
}

fn with_room<T>(entries: usize) -> Result<Vec<T>, OutOfMemory> {
    let mut chunk = Vec::new();
    chunk.try_reserve_exact(entries).map_err(|_| OutOfMemory)?;
    Ok(chunk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_where_they_were_put() {
        let mut c = Chunks::new(3000);
        for n in 0..3000u64 {
            assert_eq!(c.push(n * 7), Ok(n as u32));
        }
        assert_eq!((c.push(0), c.len(), c.capacity()), (Err(0), 3000, 3000));
        assert!(c.chunks.len() > 1 && c.chunks.iter().all(|chunk| chunk.capacity() <= 1024));
        *c.get_mut(1024).unwrap() = 1;
        let expected = |n: u64| if n == 1024 { 1 } else { n * 7 };
        assert!((0..3000).all(|n| c.get(n as u32) == Some(&expected(n))));
        assert!(c.iter().copied().eq((0..3000).map(expected)));
        assert!(c.get(3000).is_none() && c.get_mut(u32::MAX).is_none());
    }

    #[test]
    fn memory_can_be_had_before_the_entries() {
        let mut c: Chunks<u64> = Chunks::new(3000);
        for (len, chunks) in [(0, 0), (1, 1), (1024, 1), (1025, 2), (u32::MAX, 3), (5, 3)] {
            assert_eq!((c.reserve(len), c.chunks.len()), (Ok(()), chunks));
        }
        assert!(c.is_empty() && c.get(0).is_none() && c.iter().next().is_none());
        for n in 0..3000 {
            assert_eq!(c.push(n), Ok(n as u32));
        }
        assert!(c.iter().copied().eq(0..3000) && c.chunks.len() == 3);
    }

    #[test]
    fn entries_larger_than_an_allocation_get_one_each() {
        let mut c = Chunks::new(2);
        for n in 0..2u8 {
            assert_eq!(c.push([n; CHUNK + 1]), Ok(u32::from(n)));
        }
        assert_eq!(c.get(1).map(|e| e[0]), Some(1));
        assert_eq!(Chunks::new(0).push(()), Err(()));
    }
}
