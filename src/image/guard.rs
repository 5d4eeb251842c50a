//! Without the WDK: what its libraries would bring for control flow guard, the check that an indirect call goes to the start of a
//! function that may be called so.
//!
//! The compiler sends indirect calls through two pointers, the linker gathers the allowed targets in a table, and the load
//! configuration tells the kernel's loader where all three are ("PE format", section "Load Configuration"). Where the kernel enforces
//! the check, the loader redirects the pointers. Callers outside look targets up in the table too: what it lacks is bug check 0x139.
//! Callbacks of an image without a table have been seen to end so as well; documented that is not.

use core::arch::naked_asm;

// Made by the linker: where the table of allowed targets is; how many there are and which flags hold, as addresses.
unsafe extern "C" {
    static __guard_fids_table: u8;
    static __guard_fids_count: u8;
    static __guard_flags: u8;
}

/// A pointer that the loader may change, or the address of a symbol of the linker's.
#[repr(transparent)]
struct Pointer(*const u8);

// SAFETY: the driver only reads them.
unsafe impl Sync for Pointer {}

/// IMAGE_LOAD_CONFIG_DIRECTORY64 up to and with GuardFlags; the loader takes what `Size` says is there.
#[repr(C)]
struct LoadConfig {
    size: u32,
    /// TimeDateStamp to CSDVersion: nothing in them concerns a driver.
    unused: [u32; 19],
    edit_list: u64,
    security_cookie: u64,
    se_handlers: [u64; 2],
    guard_check: &'static Pointer,
    guard_dispatch: &'static Pointer,
    guard_table: Pointer,
    guard_count: Pointer,
    /// A 32-bit field, and padding, which is zero as the upper half of the linker's value is.
    guard_flags: Pointer,
}

const _: () = {
    assert!(core::mem::offset_of!(LoadConfig, security_cookie) == 0x58);
    assert!(core::mem::offset_of!(LoadConfig, guard_check) == 0x70);
    assert!(core::mem::offset_of!(LoadConfig, guard_table) == 0x80);
    assert!(core::mem::offset_of!(LoadConfig, guard_flags) == 0x90);
};

/// The linker finds the load configuration by this name.
#[used]
#[unsafe(no_mangle)]
static _load_config_used: LoadConfig = LoadConfig {
    size: 0x94,
    unused: [0; 19],
    edit_list: 0,
    security_cookie: 0,
    se_handlers: [0; 2],
    guard_check: &__guard_check_icall_fptr,
    guard_dispatch: &__guard_dispatch_icall_fptr,
    guard_table: Pointer(&raw const __guard_fids_table),
    guard_count: Pointer(&raw const __guard_fids_count),
    guard_flags: Pointer(&raw const __guard_flags),
};

/// Checks the target in RCX (x86-64) or X15 (AArch64).
#[unsafe(no_mangle)]
#[unsafe(link_section = ".00cfg")]
static __guard_check_icall_fptr: Pointer = Pointer(check as *const u8);

/// Checks the target in RAX (x86-64) and goes there.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".00cfg")]
static __guard_dispatch_icall_fptr: Pointer = Pointer(dispatch as *const u8);

/// What checks until a loader says otherwise: every target passes.
///
/// # Safety
/// Called by instrumented code only.
#[unsafe(naked)]
unsafe extern "C" fn check() {
    naked_asm!("ret")
}

/// # Safety
/// Called by instrumented code only.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C" fn dispatch() {
    naked_asm!("jmp rax")
}

/// # Safety
/// Nobody calls it: on this processor calls are checked, not dispatched.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
unsafe extern "C" fn dispatch() {
    naked_asm!("ret")
}
