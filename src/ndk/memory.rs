//! Registered memory: where a region's bytes are, for the processor that copies received data and for the NIC that reads what is sent.
//!
//! IRQL: <= DISPATCH_LEVEL, under the port's lock.
#![allow(unsafe_code, reason = "this is where a checked range becomes memory")]

use alloc::vec::Vec;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use arrayvec::ArrayVec;
use ndis_sys::types::PAGE_SIZE;
use nt::NoMemory;
use roce::{Atomic, Crc32, Fault, Memory, Piece, RegionId};

use super::lam::Lams;
use super::mapping::Mapping;
use super::slab::{Key, Slab};
use crate::nic::DmaPiece;

/// A stretch of a fast-registered region whose logical addresses follow each other.
#[derive(Clone, Copy)]
struct Run {
    /// Bytes from the start of the region.
    offset: u64,
    length: u64,
    /// Logical address of the first byte.
    address: u64,
}

/// The logical pages of a fast registration. Room for them is set aside before; naming them allocates nothing.
pub struct Pages {
    runs: Vec<Run>,
    /// How many pages it was made for.
    limit: usize,
}

impl Pages {
    /// Room for `limit` pages. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn try_new(limit: usize) -> Result<Self, NoMemory> {
        let mut runs = Vec::new();
        runs.try_reserve_exact(limit).map_err(|_| NoMemory)?;
        Ok(Self { runs, limit })
    }

    /// Names `length` bytes, of which the first lies `first_byte` bytes into the first page. Neighbouring pages become one run. What
    /// there is no room for cannot be reached.
    fn name(&mut self, pages: impl Iterator<Item = u64>, first_byte: u64, length: u64) {
        self.runs.clear();
        let mut offset = 0;
        for (page, inside, take) in in_pages(pages, first_byte, length).take(self.limit) {
            let address = page | inside;
            match self.runs.last_mut() {
                Some(last) if last.address.wrapping_add(last.length) == address => {
                    last.length += take;
                }
                // Never more runs than pages, for which there is room.
                _ => self.runs.push(Run {
                    offset,
                    length: take,
                    address,
                }),
            }
            offset += take;
        }
    }
}

/// The pages that `length` bytes touch, of which the first lies `first_byte` bytes into the first page: each with where the bytes
/// begin in it and how many there are.
fn in_pages(
    pages: impl Iterator<Item = u64>,
    first_byte: u64,
    length: u64,
) -> impl Iterator<Item = (u64, u64, u64)> {
    let mut inside = first_byte;
    let mut rest = length;
    pages.map_while(move |page| {
        let take = (PAGE_SIZE as u64).checked_sub(inside)?.min(rest);
        rest -= take;
        (take > 0).then(|| (page, core::mem::take(&mut inside), take))
    })
}

/// What lies behind a region.
enum Backing {
    /// Memory that was mapped for it.
    Mapping(Mapping),
    /// Logical addresses: memory that NdkBuildLAM mapped.
    Pages(Pages),
}

/// A registered region, and the registration it belongs to.
pub struct Region {
    backing: Backing,
    owner: Key,
}

impl Region {
    /// A region that `mapping` is.
    pub const fn mapped(mapping: Mapping, owner: Key) -> Self {
        Self {
            backing: Backing::Mapping(mapping),
            owner,
        }
    }

    /// A region of logical pages that are still to be named.
    pub const fn paged(pages: Pages, owner: Key) -> Self {
        Self {
            backing: Backing::Pages(pages),
            owner,
        }
    }
}

/// All registered regions of a port: what the engine reaches memory through.
pub struct Regions {
    table: Slab<Region>,
    /// Logical address mappings: what the privileged key and fast-registered regions reach.
    pub lams: Lams,
}

/// The region behind every protection domain's privileged key. Its offsets are logical addresses.
pub const PRIVILEGED: RegionId = RegionId(u64::MAX);

impl Regions {
    /// No regions; at most `limit`.
    pub const fn new(limit: u32) -> Self {
        Self {
            table: Slab::new(limit),
            lams: Lams::new(),
        }
    }

    /// Adds a region. Gives it back, to be dropped without the lock, if the table is full.
    pub fn insert(&mut self, region: Region) -> Result<RegionId, Region> {
        self.table.insert(region).map(|key| RegionId(key.to_bits()))
    }

    /// Whether `length` bytes, of which the first lies `first_byte` bytes into the first page, are all mapped.
    pub fn are_mapped(
        &self,
        pages: impl Iterator<Item = u64>,
        first_byte: u64,
        length: u64,
    ) -> bool {
        in_pages(pages, first_byte, length).all(|(page, inside, take)| {
            page % PAGE_SIZE as u64 == 0 && self.lams.find(page | inside, take).is_some()
        })
    }

    /// Says which logical pages a region of pages consists of.
    pub fn name_pages(
        &mut self,
        region: RegionId,
        pages: impl Iterator<Item = u64>,
        first_byte: u64,
        length: u64,
    ) {
        if let Some(Region {
            backing: Backing::Pages(named),
            ..
        }) = self.table.get_mut(Key::from_bits(region.0))
        {
            named.name(pages, first_byte, length);
        }
    }

    /// Takes a region out, to be dropped without the lock.
    pub fn remove(&mut self, region: RegionId) -> Option<Region> {
        self.table.remove(Key::from_bits(region.0))
    }

    /// The registration that a region belongs to.
    pub fn owner(&self, region: RegionId) -> Option<Key> {
        self.table
            .get(Key::from_bits(region.0))
            .map(|region| region.owner)
    }

    /// Hands the mapped stretches of a range to `each` in order: a mapping, an offset in it, and a length.
    fn range(
        &self,
        region: RegionId,
        offset: u64,
        length: u64,
        mut each: impl FnMut(&Mapping, u64, u64) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if region == PRIVILEGED {
            let (mapping, at) = self.lams.find(offset, length).ok_or(Fault)?;
            return each(mapping, at, length);
        }
        let found = self.table.get(Key::from_bits(region.0)).ok_or(Fault)?;
        let pages = match &found.backing {
            Backing::Mapping(mapping) => return each(mapping, offset, length),
            Backing::Pages(pages) => pages,
        };
        let end = offset.checked_add(length).ok_or(Fault)?;
        let first = pages
            .runs
            .partition_point(|run| run.offset + run.length <= offset);
        let mut at = offset;
        for run in pages.runs.iter().skip(first) {
            if at >= end {
                break;
            }
            let inside = at - run.offset;
            let take = (run.length - inside).min(end - at);
            // The consumer may have released the mapping since.
            let (mapping, start) = self.lams.find(run.address + inside, take).ok_or(Fault)?;
            each(mapping, start, take)?;
            at += take;
        }
        if at >= end { Ok(()) } else { Err(Fault) }
    }

    /// Appends where the NIC finds a piece of a frame. False if it does not.
    pub fn dma<const N: usize>(&self, piece: &Piece, out: &mut ArrayVec<DmaPiece, N>) -> bool {
        let length = u64::from(piece.len);
        self.range(piece.region, piece.offset, length, |mapping, at, take| {
            mapping.nic_range(at, take, out).then_some(()).ok_or(Fault)
        })
        .is_ok()
    }
}

/// Copies received bytes so that the last one is written after all the others: NDK_ADAPTER_FLAG_IN_ORDER_DMA_SUPPORTED promises it,
/// and consumers poll on it.
///
/// # Safety
/// `to` has room for all of `from`.
unsafe fn place_in_order(to: NonNull<u8>, from: &[u8]) {
    let Some((last, head)) = from.split_last() else {
        return;
    };
    // SAFETY: by the caller's promise. Received bytes come from the NIC's buffer, which is never registered memory.
    unsafe { ptr::copy_nonoverlapping(head.as_ptr(), to.as_ptr(), head.len()) };
    // SAFETY: as above; a byte is always aligned.
    unsafe { AtomicU8::from_ptr(to.add(head.len()).as_ptr()) }.store(*last, Ordering::Release);
}

impl Regions {
    /// Hands each stretch of a range to `each`, with the bytes of `data` that are to go there.
    fn scatter(
        &self,
        region: RegionId,
        offset: u64,
        data: &[u8],
        mut each: impl FnMut(NonNull<u8>, &[u8]),
    ) -> Result<(), Fault> {
        let mut rest = data;
        self.range(region, offset, data.len() as u64, |mapping, at, length| {
            mapping.processor_range(at, length, |to, length| {
                if let Some((now, later)) = rest.split_at_checked(length) {
                    each(to, now);
                    rest = later;
                }
            })
        })
    }
}

impl Memory for Regions {
    fn write(&mut self, region: RegionId, offset: u64, data: &[u8]) -> Result<(), Fault> {
        self.scatter(region, offset, data, |to, from| {
            // SAFETY: the stretch is as many bytes of mapped memory.
            unsafe { place_in_order(to, from) };
        })
    }

    /// The engine has the last bytes of a piece written when it knows the CRC to be right: that puts them last.
    fn place(
        &mut self,
        region: RegionId,
        offset: u64,
        data: &[u8],
        crc: &mut Crc32,
    ) -> Result<(), Fault> {
        self.scatter(region, offset, data, |to, from| {
            // SAFETY: the stretch is as many bytes of mapped memory. Received bytes come from the NIC's buffer, which is never registered
            // memory.
            unsafe { crc.copy_raw(from, to.as_ptr()) };
        })
    }

    /// Atomic for the processors too.
    fn atomic(&mut self, region: RegionId, offset: u64, operation: Atomic) -> Result<u64, Fault> {
        let mut original = None;
        self.range(region, offset, 8, |mapping, at, length| {
            mapping.processor_range(at, length, |at, length| {
                let at = at.cast::<AtomicU64>();
                if length != 8 || !at.is_aligned() {
                    return;
                }
                // SAFETY: eight bytes of mapped memory, aligned; what a consumer's own code does to them meanwhile is its own affair, as
                // for everything that it lets a peer write.
                let value = unsafe { at.as_ref() };
                original = Some(match operation {
                    Atomic::CompareSwap { compare, swap } => value
                        .compare_exchange(compare, swap, Ordering::SeqCst, Ordering::SeqCst)
                        .unwrap_or_else(|found| found),
                    Atomic::FetchAdd { add } => value.fetch_add(add, Ordering::SeqCst),
                });
            })
        })?;
        original.ok_or(Fault)
    }

    fn visit(
        &self,
        region: RegionId,
        offset: u64,
        len: u32,
        f: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Fault> {
        self.range(region, offset, u64::from(len), |mapping, at, length| {
            mapping.processor_range(at, length, |from, length| {
                // SAFETY: the stretch is `length` bytes of mapped memory. The consumer must leave it alone while a request sends it;
                // if it does not, the CRC computed here may not fit what the NIC reads, and the peer drops the frame.
                f(unsafe { core::slice::from_raw_parts(from.as_ptr(), length) });
            })
        })
    }
}
