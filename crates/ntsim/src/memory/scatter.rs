//! Scatter/gather lists: what a device is told of a chain of MDLs.

use ndis_sys::wdm::{MDL, SCATTER_GATHER_ELEMENT, SCATTER_GATHER_LIST};

use super::mdl::{self, Piece};
use super::ram::Ram;

/// The pieces of a buffer that a device may access while a list of them is out.
pub(crate) struct Scatter {
    pieces: Vec<Piece>,
    device_writes: bool,
}

/// Bytes of a list of so many elements.
pub(crate) const fn list_size(elements: usize) -> usize {
    size_of::<SCATTER_GATHER_LIST>() + elements * size_of::<SCATTER_GATHER_ELEMENT>()
}

impl Scatter {
    /// `len` bytes from `offset` in a chain of MDLs. None if the chain is shorter or an MDL in it has no pages filled in.
    ///
    /// # Safety
    /// `mdl` must point at a chain of MDLs.
    pub(crate) unsafe fn of(
        mdl: *mut MDL,
        offset: usize,
        len: usize,
        device_writes: bool,
    ) -> Option<Scatter> {
        let mut pieces = Vec::new();
        // SAFETY: promised by the caller.
        unsafe { mdl::walk(mdl, offset, len, &mut |piece| pieces.push(piece)) }?;
        Some(Scatter {
            pieces,
            device_writes,
        })
    }

    /// Physically contiguous pieces, neighbours merged.
    pub(crate) fn len(&self) -> usize {
        self.pieces.len()
    }

    pub(crate) fn device_writes(&self) -> bool {
        self.device_writes
    }

    /// Writes the list and lets the device access the pieces.
    ///
    /// # Safety
    /// `list` must be valid for writes of [`list_size`] bytes.
    pub(crate) unsafe fn publish(&self, ram: &Ram, list: *mut SCATTER_GATHER_LIST) {
        // SAFETY: promised by the caller.
        unsafe {
            (*list).NumberOfElements = self.pieces.len() as u32;
            (*list).Reserved = 0;
            let elements = list.add(1).cast::<SCATTER_GATHER_ELEMENT>();
            for (i, piece) in self.pieces.iter().enumerate() {
                elements.add(i).write(SCATTER_GATHER_ELEMENT {
                    Address: ram.logical(piece.physical).cast_signed(),
                    Length: piece.len,
                    Reserved: 0,
                });
            }
        }
        for piece in &self.pieces {
            let at = ram.logical(piece.physical);
            ram.dma_map(at, piece.len as usize, self.device_writes);
        }
    }

    /// The device must not access the pieces any more, says the function `by`.
    pub(crate) fn retire(&self, ram: &Ram, by: &'static str) {
        for piece in &self.pieces {
            let at = ram.logical(piece.physical);
            ram.dma_unmap(at, piece.len as usize, self.device_writes, by);
        }
    }
}
