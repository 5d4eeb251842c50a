//! Device memory: which physical addresses are devices' registers, and where the process can access them.

use std::cell::RefCell;

struct Range {
    physical: u64,
    len: usize,
    address: usize,
}

/// A machine's device memory. Devices add their ranges; drivers map them.
#[derive(Default)]
pub(crate) struct IoSpace {
    ranges: RefCell<Vec<Range>>,
    mapped: RefCell<Vec<(usize, usize)>>,
}

impl IoSpace {
    /// Says that physical addresses are a device's, and at which address in the process accesses to them arrive.
    pub(crate) fn add(&self, physical: u64, len: usize, address: usize) {
        self.ranges.borrow_mut().push(Range {
            physical,
            len,
            address,
        });
    }

    /// Maps device memory for a driver; None if no device is there.
    pub(crate) fn map(&self, physical: u64, len: usize) -> Option<usize> {
        let ranges = self.ranges.borrow();
        let address = ranges.iter().find_map(|range| {
            let offset = usize::try_from(physical.checked_sub(range.physical)?).ok()?;
            (offset.checked_add(len)? <= range.len).then_some(range.address + offset)
        })?;
        self.mapped.borrow_mut().push((address, len));
        Some(address)
    }

    /// Undoes `map`; false if there is no such mapping.
    pub(crate) fn unmap(&self, address: usize, len: usize) -> bool {
        let mut mapped = self.mapped.borrow_mut();
        let Some(index) = mapped.iter().position(|m| *m == (address, len)) else {
            return false;
        };
        mapped.swap_remove(index);
        true
    }

    /// Whether a driver has mapped the device memory at an address.
    pub(crate) fn is_mapped(&self, address: usize) -> bool {
        let mapped = self.mapped.borrow();
        mapped
            .iter()
            .any(|&(at, len)| address.wrapping_sub(at) < len)
    }
}
