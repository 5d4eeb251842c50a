//! The endpoint's memory: buffers, each a region of its own.

use roce::{Atomic, Fault, Memory, RegionId};
use std::ops::Range;

/// Buffers by number.
#[derive(Default)]
pub struct Buffers(Vec<Vec<u8>>);

impl Buffers {
    /// Adds a buffer.
    pub fn add(&mut self, bytes: Vec<u8>) -> RegionId {
        self.0.push(bytes);
        RegionId(self.0.len() as u64 - 1)
    }

    fn range(
        &self,
        region: RegionId,
        offset: u64,
        len: usize,
    ) -> Result<(usize, Range<usize>), Fault> {
        let number = usize::try_from(region.0).map_err(|_| Fault)?;
        let offset = usize::try_from(offset).map_err(|_| Fault)?;
        let end = offset.checked_add(len).ok_or(Fault)?;
        let buffer = self.0.get(number).ok_or(Fault)?;
        if end > buffer.len() {
            return Err(Fault);
        }
        Ok((number, offset..end))
    }

    /// Bytes of a buffer.
    pub fn get(&self, region: RegionId, offset: u64, len: usize) -> Result<&[u8], Fault> {
        let (number, range) = self.range(region, offset, len)?;
        Ok(&self.0[number][range])
    }

    /// The same, to change them.
    pub fn get_mut(
        &mut self,
        region: RegionId,
        offset: u64,
        len: usize,
    ) -> Result<&mut [u8], Fault> {
        let (number, range) = self.range(region, offset, len)?;
        Ok(&mut self.0[number][range])
    }
}

impl Memory for Buffers {
    fn write(&mut self, region: RegionId, offset: u64, data: &[u8]) -> Result<(), Fault> {
        self.get_mut(region, offset, data.len())?
            .copy_from_slice(data);
        Ok(())
    }

    /// Nobody is given a key for it.
    fn atomic(&mut self, _: RegionId, _: u64, _: Atomic) -> Result<u64, Fault> {
        Err(Fault)
    }

    fn visit(
        &self,
        region: RegionId,
        offset: u64,
        len: u32,
        f: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Fault> {
        f(self.get(region, offset, len as usize)?);
        Ok(())
    }
}
