//! Common buffers: `AllocateCommonBuffer` of `DMA_OPERATIONS` and what goes with it.
//!
//! They are contiguous for devices. With full verification each ends at a page that nobody may access; what its own last page holds behind
//! it is looked at when it is freed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;

use ndis_sys::types::{BOOLEAN, PHYSICAL_ADDRESS};
use ndis_sys::wdm::DMA_ADAPTER;

use super::dma::{Dma, check_adapter, operations};
use crate::memory::PAGE;
use crate::verifier::{self, Crossing, Verify, cross, rules};
use crate::world::context;
use crate::world::driver::DriverNumber;
use crate::world::machine::Machine;

/// What a common buffer holds, with full verification, before anybody writes to it: no page says that it is zeroed.
const UNWRITTEN: u8 = 0xa5;
/// What the last page of a common buffer holds behind it.
const BEHIND: u8 = 0xfa;

/// One that is out.
pub(crate) struct CommonBuffer {
    pub(super) adapter: usize,
    logical: u64,
    len: u32,
    /// Behind the last, with full verification, is one more, which nobody may access.
    pages: u32,
    guarded: bool,
    cached: bool,
    pub(super) owner: DriverNumber,
}

/// A machine's common buffers, by address.
#[derive(Default)]
pub(crate) struct CommonBuffers(RefCell<HashMap<usize, CommonBuffer>>);

impl CommonBuffers {
    /// How many of them are `such`.
    pub(super) fn count(&self, such: impl Fn(&CommonBuffer) -> bool) -> usize {
        self.0
            .borrow()
            .values()
            .filter(|buffer| such(buffer))
            .count()
    }

    /// The common buffer behind which an address lies that is inaccessible because it guards that, as reports name it.
    pub(crate) fn guarded_around(&self, address: usize) -> Option<String> {
        let _kernel = context::KernelMode::enter();
        let buffers = self.0.try_borrow().ok()?;
        let (start, buffer) = buffers.iter().find(|(start, buffer)| {
            let end = **start + buffer.pages as usize * PAGE;
            buffer.guarded && address.wrapping_sub(end) < PAGE
        })?;
        let behind = address - start - buffer.len as usize;
        Some(format!(
            "{behind} bytes behind the common buffer of {} bytes at {start:#x}",
            buffer.len
        ))
    }
}

pub(super) unsafe extern "efiapi" fn allocate_common_buffer(
    adapter: *mut DMA_ADAPTER,
    length: u32,
    logical: *mut PHYSICAL_ADDRESS,
    cached: BOOLEAN,
) -> *mut c_void {
    let crossing = cross(&operations::ALLOCATE);
    // SAFETY: promised by the caller.
    unsafe { common_buffer(&crossing, adapter, length, logical, cached, u64::MAX) }
}

pub(super) unsafe extern "efiapi" fn allocate_common_buffer_ex(
    adapter: *mut DMA_ADAPTER,
    maximum: *mut PHYSICAL_ADDRESS,
    length: u32,
    logical: *mut PHYSICAL_ADDRESS,
    cached: BOOLEAN,
    _node: u32,
) -> *mut c_void {
    let crossing = cross(&operations::ALLOCATE);
    // SAFETY: promised by the caller.
    unsafe {
        let limit = maximum.as_ref().map_or(u64::MAX, |m| m.cast_unsigned());
        common_buffer(&crossing, adapter, length, logical, cached, limit)
    }
}

/// # Safety
/// `logical` must be valid for a write.
unsafe fn common_buffer(
    crossing: &Crossing,
    adapter: *mut DMA_ADAPTER,
    length: u32,
    logical: *mut PHYSICAL_ADDRESS,
    cached: BOOLEAN,
    limit: u64,
) -> *mut c_void {
    let machine = context::machine();
    check_adapter(&machine, adapter, "AllocateCommonBuffer");
    let owner = machine.owner(crossing);
    match allocate_buffer(&machine, adapter as usize, length, cached != 0, owner) {
        // The limit is the last byte that the device reaches.
        Some((address, at)) if at + u64::from(length) - 1 <= limit => {
            // SAFETY: promised by the caller.
            unsafe { logical.write(at.cast_signed()) };
            address as *mut c_void
        }
        Some((address, _)) => {
            free_buffer(
                &machine,
                adapter as usize,
                address,
                "AllocateCommonBufferEx",
            );
            ptr::null_mut()
        }
        None => ptr::null_mut(),
    }
}

/// Allocates a common buffer: kernel and logical address.
fn allocate_buffer(
    machine: &Machine,
    adapter: usize,
    len: u32,
    cached: bool,
    owner: DriverNumber,
) -> Option<(usize, u64)> {
    if len == 0 {
        verifier::violation(
            rules::DMA_MISUSE,
            "a common buffer of no bytes was asked for",
        );
        return None;
    }
    if owner != 0 && machine.faults.strikes("AllocateCommonBuffer") {
        return None;
    }
    let pages = len.div_ceil(PAGE as u32);
    let bytes = pages as usize * PAGE;
    let full = context::core().verify == Verify::Full;
    let with_guard = full.then(|| allocate_guarded(machine, pages)).flatten();
    let (address, logical) = match with_guard {
        Some(place) => place,
        None => machine.ram.alloc_contiguous(pages)?,
    };
    // SAFETY: just allocated, so many pages.
    unsafe {
        if full {
            ptr::write_bytes(address as *mut u8, UNWRITTEN, len as usize);
        } else {
            machine.ram.clear(address, len as usize);
        }
        ptr::write_bytes(
            (address + len as usize) as *mut u8,
            BEHIND,
            bytes - len as usize,
        );
    }
    machine.ram.dma_map(logical, bytes, true);
    machine.ext::<Dma>().buffers.0.borrow_mut().insert(
        address,
        CommonBuffer {
            adapter,
            logical,
            len,
            pages,
            guarded: with_guard.is_some(),
            cached,
            owner,
        },
    );
    Some((address, logical))
}

/// Pages with an inaccessible one behind them, if there is room for that.
fn allocate_guarded(machine: &Machine, pages: u32) -> Option<(usize, u64)> {
    let place = machine.ram.alloc_contiguous(pages + 1)?;
    if !machine.ram.close(place.0 + pages as usize * PAGE, 1) {
        machine.ram.free_contiguous(place.0, pages + 1);
        return None;
    }
    Some(place)
}

/// Frees a common buffer; false, and an accusation, if there is none.
fn free_buffer(machine: &Machine, adapter: usize, address: usize, by: &'static str) -> bool {
    let dma = machine.ext::<Dma>();
    let buffer = dma.buffers.0.borrow_mut().remove(&address);
    let Some(buffer) = buffer.filter(|b| b.adapter == adapter) else {
        verifier::violation(
            rules::DMA_MISUSE,
            format!("{by}: this adapter has no common buffer at {address:#x}"),
        );
        return false;
    };
    let bytes = buffer.pages as usize * PAGE;
    crate::memory::check_not_in_use(machine, address, buffer.len as usize, by);
    machine.ram.dma_unmap(buffer.logical, bytes, true, by);
    let len = buffer.len as usize;
    // SAFETY: the buffer's own pages.
    let behind = unsafe { std::slice::from_raw_parts((address + len) as *const u8, bytes - len) };
    if let Some(at) = behind.iter().position(|byte| *byte != BEHIND) {
        verifier::violation(
            rules::DMA_MISUSE,
            format!(
                "somebody wrote {at} bytes behind the common buffer of {len} bytes at {address:#x}, a processor or a device; \
                 found by {by}"
            ),
        );
    }
    // SAFETY: the buffer's own pages, which nobody uses any more.
    unsafe { ptr::write_bytes(address as *mut u8, 0x6b, bytes) };
    if buffer.guarded {
        machine.ram.open(address + bytes, 1);
    }
    let guard = u32::from(buffer.guarded);
    machine.ram.free_contiguous(address, buffer.pages + guard);
    true
}

pub(super) unsafe extern "efiapi" fn free_common_buffer(
    adapter: *mut DMA_ADAPTER,
    length: u32,
    logical: PHYSICAL_ADDRESS,
    address: *mut c_void,
    cached: BOOLEAN,
) {
    let _crossing = cross(&operations::FREE);
    let machine = context::machine();
    check_adapter(&machine, adapter, "FreeCommonBuffer");
    let known = machine
        .ext::<Dma>()
        .buffers
        .0
        .borrow()
        .get(&(address as usize))
        .map(|b| (b.len, b.logical, b.cached));
    if known.is_some_and(|known| known != (length, logical.cast_unsigned(), cached != 0)) {
        verifier::violation(
            rules::DMA_MISUSE,
            format!(
                "FreeCommonBuffer: length {length}, logical address {logical:#x} and CacheEnabled {cached} are not \
                 those of the buffer at {address:p}"
            ),
        );
    }
    free_buffer(
        &machine,
        adapter as usize,
        address as usize,
        "FreeCommonBuffer",
    );
}
