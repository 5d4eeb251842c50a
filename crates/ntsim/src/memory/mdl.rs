//! Memory descriptor lists: walking them, and what is known of those that exist.

use std::cell::RefCell;
use std::collections::BTreeMap;

use ndis_sys::wdm::{
    MDL, MDL_MAPPED_TO_SYSTEM_VA, MDL_PAGES_LOCKED, MDL_PARTIAL, MDL_SOURCE_IS_NONPAGED_POOL,
};

use super::ram::PAGE;

/// Flags of which at least one says that the page array is filled in.
pub(crate) const DESCRIBED: i16 = MDL_PAGES_LOCKED | MDL_SOURCE_IS_NONPAGED_POOL | MDL_PARTIAL;
/// Flags of which at least one says that `MappedSystemVa` is valid.
pub(crate) const ADDRESSED: i16 = MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL;

/// Bytes of an MDL for a buffer.
pub(crate) fn size(address: usize, len: usize) -> usize {
    size_of::<MDL>() + pages(address, len) * size_of::<u64>()
}

/// Pages a buffer touches.
pub(crate) fn pages(address: usize, len: usize) -> usize {
    (address % PAGE + len).div_ceil(PAGE)
}

/// The page array behind an MDL.
pub(crate) fn pfns(mdl: *mut MDL) -> *mut u64 {
    mdl.wrapping_add(1).cast()
}

/// The buffer's virtual address, as it was given when the MDL was made: an index into it, not to be accessed.
///
/// # Safety
/// `mdl` must point at an MDL.
pub(crate) unsafe fn virtual_address(mdl: *const MDL) -> usize {
    // SAFETY: promised by the caller.
    unsafe { (*mdl).StartVa as usize + (*mdl).ByteOffset as usize }
}

/// A piece of a buffer that is contiguous in physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) physical: u64,
    pub(crate) len: u32,
}

/// The physically contiguous pieces of `len` bytes from `offset` in a chain of MDLs. None if the chain is shorter or
/// an MDL in it has no pages filled in.
///
/// # Safety
/// `mdl` must point at a chain of MDLs.
pub(crate) unsafe fn walk(
    mut mdl: *mut MDL,
    mut offset: usize,
    mut len: usize,
    emit: &mut dyn FnMut(Piece),
) -> Option<()> {
    let mut open: Option<Piece> = None;
    while len > 0 {
        // SAFETY: promised by the caller.
        let header = unsafe { mdl.as_ref() }?;
        let bytes = header.ByteCount as usize;
        if offset >= bytes {
            offset -= bytes;
            mdl = header.Next;
            continue;
        }
        if header.MdlFlags & DESCRIBED == 0 {
            return None;
        }
        let mut take = (bytes - offset).min(len);
        let mut at = header.ByteOffset as usize + offset;
        len -= take;
        while take > 0 {
            let part = take.min(PAGE - at % PAGE);
            // SAFETY: within the page array, as it describes `ByteCount` bytes from `ByteOffset`.
            let pfn = unsafe { *pfns(mdl).add(at / PAGE) };
            let physical = pfn * PAGE as u64 + (at % PAGE) as u64;
            match &mut open {
                Some(piece) if piece.physical + u64::from(piece.len) == physical => {
                    piece.len += part as u32;
                }
                _ => {
                    if let Some(piece) = open.take() {
                        emit(piece);
                    }
                    open = Some(Piece {
                        physical,
                        len: part as u32,
                    });
                }
            }
            at += part;
            take -= part;
        }
        offset = 0;
        mdl = header.Next;
    }
    if let Some(piece) = open {
        emit(piece);
    }
    Some(())
}

/// Why an MDL must not be forgotten.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct State {
    /// The range its pages were locked over.
    pub(crate) locked: Option<(usize, usize)>,
    /// Where its pages are mapped, and how many.
    pub(crate) mapped: Option<(usize, usize)>,
    /// By whom it was mapped or locked.
    pub(crate) owner: u32,
}

/// The MDLs of a machine that are locked or mapped, by address: what reports name does not vary.
#[derive(Default)]
pub(crate) struct Mdls(RefCell<BTreeMap<usize, State>>);

impl Mdls {
    pub(crate) fn get(&self, mdl: usize) -> State {
        self.0.borrow().get(&mdl).copied().unwrap_or_default()
    }

    pub(crate) fn update(&self, mdl: usize, f: impl FnOnce(&mut State)) {
        let mut all = self.0.borrow_mut();
        let state = all.entry(mdl).or_default();
        f(state);
        if state.locked.is_none() && state.mapped.is_none() {
            all.remove(&mdl);
        }
    }

    /// An MDL locked over memory in a range.
    pub(crate) fn locked_over(&self, start: usize, len: usize) -> Option<usize> {
        self.0
            .borrow()
            .iter()
            .find(|(_, state)| {
                state
                    .locked
                    .is_some_and(|(at, bytes)| at < start + len && start < at + bytes)
            })
            .map(|(mdl, _)| *mdl)
    }

    /// MDLs that a driver has locked or mapped.
    pub(crate) fn of_owner(&self, owner: u32) -> Vec<usize> {
        let all = self.0.borrow();
        let mut mdls: Vec<_> = all
            .iter()
            .filter(|(_, state)| state.owner == owner)
            .map(|(mdl, _)| *mdl)
            .collect();
        mdls.sort_unstable();
        mdls
    }
}
