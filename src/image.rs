//! What makes the driver an image: its entry point, and on Windows its allocator and panic handler.
#![allow(unsafe_code, reason = "called by the kernel")]

use nt::sys::types::NTSTATUS;
use nt::sys::wdm::{DRIVER_OBJECT, UNICODE_STRING};

/// The entry point.
///
/// # Safety
/// Called by the kernel, once per load of the driver, with its driver object and the path of its registry key. IRQL: PASSIVE_LEVEL.
#[cfg_attr(target_os = "windows", unsafe(no_mangle))]
#[allow(non_snake_case, reason = "the name every driver's entry point has")]
pub unsafe extern "efiapi" fn DriverEntry(
    driver: *mut DRIVER_OBJECT,
    registry_path: *const UNICODE_STRING,
) -> NTSTATUS {
    // SAFETY: the kernel's arguments.
    unsafe { crate::driver::enter(driver, registry_path) }
}

#[cfg(all(target_os = "windows", vroce_wdk))]
mod wdk;

/// Without the WDK: what its libraries would bring.
#[cfg(all(target_os = "windows", not(vroce_wdk)))]
mod guard;
#[cfg(all(target_os = "windows", not(vroce_wdk)))]
mod runtime;
