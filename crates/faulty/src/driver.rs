//! The entry point, and the ways to fail.

use alloc::boxed::Box;
use core::hint::black_box;

use ndis_sys::status::STATUS_SUCCESS;
use ndis_sys::types::NTSTATUS;
use ndis_sys::wdm::{DRIVER_OBJECT, UNICODE_STRING};

/// The entry point.
///
/// # Safety
/// Called by the kernel with its driver object and the path of its registry key, which ends in the name of the service.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the name every driver's entry point has")]
pub unsafe extern "efiapi" fn DriverEntry(
    _driver: *mut DRIVER_OBJECT,
    registry_path: *const UNICODE_STRING,
) -> NTSTATUS {
    // SAFETY: the kernel's string, which stays during the call.
    let path = unsafe {
        let UNICODE_STRING { Length, Buffer, .. } = *registry_path;
        core::slice::from_raw_parts(Buffer.cast_const(), usize::from(Length) / 2)
    };
    let named = |name: &str| {
        let end = path
            .len()
            .checked_sub(name.len())
            .and_then(|at| path.get(at..));
        end.is_some_and(|end| end.iter().copied().eq(name.encode_utf16()))
    };
    if named("panic") {
        panic_here(path.len());
    } else if named("memory") {
        // Does not ask whether there is any: the allocator's caller panics.
        black_box(Box::new(black_box([1u8; 64])));
    } else if named("recursion") {
        black_box(recurse(0));
    } else if named("frame") {
        black_box(large_frame());
    }
    STATUS_SUCCESS
}

#[inline(never)]
fn panic_here(index: usize) {
    let values = black_box([1u8; 4]);
    black_box(values[index]);
}

/// Calls itself until the stack ends.
#[inline(never)]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 16]);
    if black_box(depth) == u64::MAX {
        return 0;
    }
    recurse(depth + 1) + frame[depth as usize % 16]
}

/// Larger than the stack and the pages below it: without probes it would reach over them.
#[inline(never)]
fn large_frame() -> u8 {
    let mut frame = [0u8; 4 << 20];
    black_box(&mut frame)[0] = 1;
    black_box(&frame)[7]
}
