//! Memory that knows who may touch it.

use roce::{Atomic, Fault, Memory, RegionId};

/// Bytes in front of every region and behind it that nobody may change.
const GUARD: usize = 32;
const CANARY: u8 = 0xee;

struct Region {
    /// With its guards.
    bytes: Vec<u8>,
    may_read: bool,
    may_write: bool,
}

/// Regions are indices.
#[derive(Default)]
pub struct Guarded {
    regions: Vec<Region>,
}

impl Guarded {
    /// Adds a region that may be read, because something may be sent from it, or written, because something may arrive there.
    pub fn add(&mut self, len: usize, may_read: bool, may_write: bool) -> RegionId {
        let mut bytes = vec![CANARY; len + 2 * GUARD];
        for (i, b) in bytes[GUARD..GUARD + len].iter_mut().enumerate() {
            *b = i as u8;
        }
        self.regions.push(Region {
            bytes,
            may_read,
            may_write,
        });
        RegionId(self.regions.len() as u64 - 1)
    }

    fn range(
        &self,
        region: RegionId,
        offset: u64,
        len: usize,
    ) -> (&Region, std::ops::Range<usize>) {
        let region = self
            .regions
            .get(region.0 as usize)
            .expect("the engine made up a region");
        let size = (region.bytes.len() - 2 * GUARD) as u64;
        let end = offset.checked_add(len as u64).expect("a range that wraps");
        assert!(end <= size, "the engine left a region: {end} > {size}");
        let start = offset as usize + GUARD;
        (region, start..start + len)
    }

    fn place(&mut self, region: RegionId, offset: u64, len: usize) -> &mut [u8] {
        let (r, range) = self.range(region, offset, len);
        assert!(r.may_write, "the engine wrote to {region:?}");
        &mut self.regions[region.0 as usize].bytes[range]
    }

    /// From here on nobody may touch it.
    pub fn close(&mut self, region: RegionId) {
        let r = &mut self.regions[region.0 as usize];
        (r.may_read, r.may_write) = (false, false);
        // What it was does not matter.
        let len = r.bytes.len() - 2 * GUARD;
        for (i, b) in r.bytes[GUARD..GUARD + len].iter_mut().enumerate() {
            *b = i as u8;
        }
    }

    /// The bytes of a region.
    pub fn bytes(&self, region: RegionId) -> &[u8] {
        let all = &self.regions[region.0 as usize].bytes;
        &all[GUARD..all.len() - GUARD]
    }

    /// Nobody has touched what surrounds the regions, or those that are not to be written.
    pub fn check(&self) {
        for (i, r) in self.regions.iter().enumerate() {
            let (front, rest) = r.bytes.split_at(GUARD);
            let (inside, back) = rest.split_at(rest.len() - GUARD);
            assert!(front.iter().chain(back).all(|b| *b == CANARY));
            let untouched = || inside.iter().enumerate().all(|(i, b)| *b == i as u8);
            assert!(r.may_write || untouched(), "region {i}");
        }
    }
}

impl Memory for Guarded {
    fn write(&mut self, region: RegionId, offset: u64, data: &[u8]) -> Result<(), Fault> {
        self.place(region, offset, data.len()).copy_from_slice(data);
        Ok(())
    }

    fn atomic(&mut self, region: RegionId, offset: u64, operation: Atomic) -> Result<u64, Fault> {
        let bytes = self.place(region, offset, 8);
        let original = u64::from_ne_bytes(bytes.try_into().expect("eight bytes"));
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
        let (r, range) = self.range(region, offset, len as usize);
        assert!(r.may_read, "the engine read {region:?}");
        f(&r.bytes[range]);
        Ok(())
    }
}
