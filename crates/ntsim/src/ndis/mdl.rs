//! Memory descriptor lists as NDIS reads and makes them.

use ndis_sys::wdm::*;

use crate::memory::{PAGE, Request};
use crate::world::machine::Machine;

/// An MDL over kernel memory that stays where it is.
pub(crate) fn over(machine: &Machine, address: usize, length: usize) -> Option<*mut MDL> {
    over_owned(machine, address, length, 0, "NDIS's MDLs")
}

/// As [`over`], charged to a driver.
pub(crate) fn over_owned(
    machine: &Machine,
    address: usize,
    length: usize,
    owner: u32,
    function: &'static str,
) -> Option<*mut MDL> {
    let first = address / PAGE;
    let pages = (address + length.max(1)).div_ceil(PAGE) - first;
    let size = size_of::<MDL>() + pages * size_of::<u64>();
    let tag = u32::from_le_bytes(*b"Mdl ");
    let request = Request {
        size,
        align: 16,
        tag,
        zero: true,
        paged: false,
        owner,
        function,
    };
    let at = machine.pool_alloc(&request)?;
    let mdl: *mut MDL = std::ptr::with_exposed_provenance_mut(at);
    // SAFETY: freshly allocated, with room for the frame numbers.
    unsafe {
        (*mdl).Size = i16::try_from(size).ok()?;
        (*mdl).MdlFlags = MDL_SOURCE_IS_NONPAGED_POOL;
        (*mdl).MappedSystemVa = std::ptr::with_exposed_provenance_mut(address);
        (*mdl).StartVa = std::ptr::with_exposed_provenance_mut(first * PAGE);
        (*mdl).ByteCount = u32::try_from(length).ok()?;
        (*mdl).ByteOffset = (address % PAGE) as u32;
        let frames = mdl.add(1).cast::<u64>();
        for page in 0..pages {
            let physical = machine.ram.physical((first + page) * PAGE)?;
            frames.add(page).write(physical / PAGE as u64);
        }
    }
    Some(mdl)
}

/// Frees an MDL of [`over`].
///
/// # Safety
/// It must be one, and not in use.
pub(crate) unsafe fn free(machine: &Machine, mdl: *mut MDL) {
    machine.pool_free(mdl.expose_provenance(), None, "NDIS's MDLs");
}

/// A piece of physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) physical: u64,
    pub(crate) length: u32,
}

/// The physical pieces of `length` bytes of a chain from its first byte, neighbours merged. `None` when the chain is
/// shorter or an MDL has no pages.
///
/// # Safety
/// `mdl` is a valid chain.
pub(crate) unsafe fn pieces(mut mdl: *const MDL, length: usize) -> Option<Vec<Piece>> {
    let mut out: Vec<Piece> = Vec::new();
    let mut left = length;
    while left > 0 {
        if mdl.is_null() {
            return None;
        }
        // SAFETY: valid, as the caller promises; the frame numbers follow the structure.
        unsafe {
            if (*mdl).MdlFlags & (MDL_PAGES_LOCKED | MDL_SOURCE_IS_NONPAGED_POOL | MDL_PARTIAL) == 0
            {
                return None;
            }
            let frames = mdl.add(1).cast::<u64>();
            let mut offset = (*mdl).ByteOffset as usize;
            let mut here = ((*mdl).ByteCount as usize).min(left);
            left -= here;
            while here > 0 {
                let in_page = (PAGE - offset % PAGE).min(here);
                let physical =
                    frames.add(offset / PAGE).read() * PAGE as u64 + (offset % PAGE) as u64;
                match out.last_mut() {
                    Some(last) if last.physical + u64::from(last.length) == physical => {
                        last.length += in_page as u32
                    }
                    _ => out.push(Piece {
                        physical,
                        length: in_page as u32,
                    }),
                }
                offset += in_page;
                here -= in_page;
            }
            mdl = (*mdl).Next;
        }
    }
    Some(out)
}

/// Copies the data of a net buffer out of its chain; `None` when the chain is shorter than it says or not mapped.
///
/// # Safety
/// The net buffer and its chain are valid.
pub(crate) unsafe fn read(buffer: *const ndis_sys::ndis::NET_BUFFER) -> Option<Vec<u8>> {
    // SAFETY: valid, as the caller promises.
    unsafe {
        let length = (*buffer).Anonymous.DataLength as usize;
        let mut out = Vec::with_capacity(length);
        let mut mdl = (*buffer).CurrentMdl;
        let mut offset = (*buffer).CurrentMdlOffset as usize;
        while out.len() < length {
            if mdl.is_null() {
                return None;
            }
            let mapped = (*mdl).MappedSystemVa;
            if mapped.is_null()
                || (*mdl).MdlFlags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL) == 0
            {
                return None;
            }
            let count = (*mdl).ByteCount as usize;
            let here = count.checked_sub(offset)?.min(length - out.len());
            let data = std::slice::from_raw_parts(mapped.cast::<u8>().add(offset), here);
            out.extend_from_slice(data);
            offset = 0;
            mdl = (*mdl).Next;
        }
        Some(out)
    }
}

/// `NdisGetDataBuffer`: the first bytes of a net buffer in one piece, in place if they are and lie as asked, else copied
/// to `storage`; null when that is null or the data is shorter.
///
/// # Safety
/// The net buffer and its chain are valid; `storage` is null or has room.
pub(crate) unsafe fn contiguous(
    buffer: *mut ndis_sys::ndis::NET_BUFFER,
    needed: usize,
    storage: *mut std::ffi::c_void,
    multiple: usize,
    offset: usize,
) -> *mut std::ffi::c_void {
    // SAFETY: valid, as the caller promises.
    unsafe {
        let (mdl, start) = ((*buffer).CurrentMdl, (*buffer).CurrentMdlOffset as usize);
        if (*buffer).Anonymous.DataLength as usize >= needed && !mdl.is_null() {
            let mapped = (*mdl).MappedSystemVa.cast::<u8>();
            if !mapped.is_null() && start + needed <= (*mdl).ByteCount as usize {
                let at = mapped.add(start);
                if at.addr() % multiple == offset {
                    return at.cast();
                }
            }
        }
        let Some(data) = read(buffer) else {
            return std::ptr::null_mut();
        };
        if data.len() < needed || storage.is_null() {
            return std::ptr::null_mut();
        }
        storage
            .cast::<u8>()
            .copy_from_nonoverlapping(data.as_ptr(), needed);
        storage
    }
}
