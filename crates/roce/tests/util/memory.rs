//! Registered memory as plain vectors.

use roce::{Atomic, Crc32, Fault, Memory, RegionId};
use std::cell::Cell;

/// Regions are indices.
#[derive(Default)]
pub struct TestMemory {
    pub regions: Vec<Vec<u8>>,
    /// Regions that cannot be reached although they are registered.
    pub faulty: Vec<RegionId>,
    /// Places no payload before its CRC is known.
    pub two_passes: bool,
    /// Bytes that came with their CRC still to be computed.
    pub placed: u64,
    /// Bytes that came without.
    pub written: u64,
    /// Bytes looked at for the CRC of what is sent.
    pub visited: Cell<u64>,
    /// What nobody may read any more, as (region, from, to): the requests that it belongs to have completed.
    ended: Vec<(RegionId, u64, u64)>,
}

impl TestMemory {
    pub fn add(&mut self, bytes: Vec<u8>) -> RegionId {
        self.regions.push(bytes);
        RegionId(self.regions.len() as u64 - 1)
    }

    /// The consumer has these bytes back: neither the engine nor the NIC reads them any more.
    pub fn end(&mut self, region: RegionId, offset: u32, len: u32) {
        let from = u64::from(offset);
        if len > 0 {
            self.ended.push((region, from, from + u64::from(len)));
        }
    }

    /// What is read for transmission.
    pub fn sent(&self, region: RegionId, offset: u64, len: u32) -> &[u8] {
        let end = offset + u64::from(len);
        for ended in &self.ended {
            let apart = ended.0 != region || ended.2 <= offset || end <= ended.1;
            assert!(apart, "memory of a completed request is read");
        }
        &self.regions[region.0 as usize][offset as usize..end as usize]
    }

    fn range(
        &self,
        region: RegionId,
        offset: u64,
        len: usize,
    ) -> Result<std::ops::Range<usize>, Fault> {
        if self.faulty.contains(&region) {
            return Err(Fault);
        }
        let size = self
            .regions
            .get(region.0 as usize)
            .expect("the engine made up a region")
            .len();
        let end = offset as usize + len;
        assert!(
            end <= size,
            "the engine left the region: {offset} + {len} > {size}"
        );
        Ok(offset as usize..end)
    }
}

impl Memory for TestMemory {
    fn write(&mut self, region: RegionId, offset: u64, data: &[u8]) -> Result<(), Fault> {
        let range = self.range(region, offset, data.len())?;
        self.regions[region.0 as usize][range].copy_from_slice(data);
        self.written += data.len() as u64;
        Ok(())
    }

    fn place(
        &mut self,
        region: RegionId,
        offset: u64,
        data: &[u8],
        crc: &mut Crc32,
    ) -> Result<(), Fault> {
        if self.two_passes {
            return Err(Fault);
        }
        let range = self.range(region, offset, data.len())?;
        crc.copy(data, &mut self.regions[region.0 as usize][range]);
        self.placed += data.len() as u64;
        Ok(())
    }

    fn atomic(&mut self, region: RegionId, offset: u64, operation: Atomic) -> Result<u64, Fault> {
        let range = self.range(region, offset, 8)?;
        let bytes = &mut self.regions[region.0 as usize][range];
        let original = u64::from_ne_bytes(bytes.try_into().unwrap());
        bytes.copy_from_slice(&operation.result(original).to_ne_bytes());
        Ok(original)
    }

    fn visit(
        &self,
        region: RegionId,
        offset: u64,
        len: u32,
        f: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Fault> {
        self.range(region, offset, len as usize)?;
        self.visited.update(|n| n + u64::from(len));
        // In two fragments, as pages would have it.
        let (a, b) = self.sent(region, offset, len).split_at(len as usize / 3);
        f(a);
        f(b);
        Ok(())
    }
}
