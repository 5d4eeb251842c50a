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

#[cfg(all(target_os = "windows", not(feature = "wdk")))]
mod runtime {
    use core::panic::PanicInfo;

    #[global_allocator]
    static ALLOCATOR: nt::pool::Allocator = nt::pool::Allocator;

    /// MANUALLY_INITIATED_CRASH1: a code no component of the system uses for itself.
    const BUG_CHECK: u32 = 0xdead_dead;

    /// A panic is a bug in the driver, and the machine stops. The parameters lead to the place: the file's name, its length, the line.
    #[panic_handler]
    fn panic(info: &PanicInfo<'_>) -> ! {
        nt::debug_print!(Error, "{info}");
        let (file, len, line) = match info.location() {
            Some(at) => (
                at.file().as_ptr().addr(),
                at.file().len(),
                at.line() as usize,
            ),
            None => (0, 0, 0),
        };
        // SAFETY: never returns; no conditions.
        unsafe {
            nt::sys::KeBugCheckEx(
                BUG_CHECK,
                usize::from_le_bytes(*b"vroce\0\0\0"),
                file,
                len,
                line,
            )
        }
    }

    /// The compiler refers to it wherever floating point occurs.
    #[unsafe(no_mangle)]
    static _fltused: i32 = 0;
}
