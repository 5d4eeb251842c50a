//! Logical addresses: by which devices access memory.
//!
//! As behind an IOMMU that remaps DMA, they are no physical addresses: what a driver gives a device must be from the functions that map memory for
//! it. The same pages have the same logical addresses each time, and neighbours remain neighbours, so that lists are as long as memory is scattered.

/// Logical addresses are so far from physical ones: beyond the memory of 2047 machines, within the 48 bits that IOMMUs translate.
const DISTANCE: u64 = 1 << 47;

/// The logical address of a physical one.
#[inline]
pub(crate) const fn of(physical: u64) -> u64 {
    physical + DISTANCE
}

/// The physical address of a logical one; None if it is none.
#[inline]
pub(crate) const fn physical(logical: u64) -> Option<u64> {
    logical.checked_sub(DISTANCE)
}
