//! Memory descriptor lists as NDIS reads and makes them.

use std::hash::{DefaultHasher, Hash, Hasher};

use ndis_sys::wdm::*;

use crate::exports::mm;
use crate::memory::mdl::ADDRESSED;
use crate::verifier::Verify;
use crate::world::context;
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
    let mdl = mm::allocate(address, u32::try_from(length).ok()?, owner, function)?;
    // SAFETY: just allocated, with room for its pages.
    unsafe {
        (*mdl).MdlFlags |= MDL_SOURCE_IS_NONPAGED_POOL;
        (*mdl).MappedSystemVa = std::ptr::with_exposed_provenance_mut(address);
        if !mm::fill(mdl, function) {
            free(machine, mdl);
            return None;
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
            if mapped.is_null() || (*mdl).MdlFlags & ADDRESSED == 0 {
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

/// What tells whether the data of a list's net buffers has changed; None where nobody looks, and if it cannot be read.
///
/// # Safety
/// The net buffers and their chains are valid.
pub(crate) unsafe fn sum(list: *const ndis_sys::ndis::NET_BUFFER_LIST) -> Option<u64> {
    if context::core().verify != Verify::Full {
        return None;
    }
    let mut sum = DefaultHasher::new();
    // SAFETY: promised by the caller.
    unsafe {
        let mut buffer = (*list).FirstNetBuffer;
        while !buffer.is_null() {
            read(buffer)?.hash(&mut sum);
            buffer = (*buffer).Next;
        }
    }
    Some(sum.finish())
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
