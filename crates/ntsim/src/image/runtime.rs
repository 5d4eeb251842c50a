//! What images import besides the kernel's functions: what compilers call by name.
//!
//! Linked drivers have these from the host's own libraries.

use std::arch::naked_asm;
use std::ffi::{c_char, c_int, c_void};

use crate::exports::{self, Export};
use crate::verifier::{self, rules};

/// What an import is bound to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Target {
    pub(super) address: usize,
    /// Whether it is the kernel's, which forgets where it was called from when it returns.
    pub(super) is_kernel: bool,
}

/// The function that a module exports under this name; None if nobody does.
pub(super) fn resolve(module: &str, function: &str) -> Option<Target> {
    // The functions of the hardware abstraction layer have long been the kernel's own.
    let module = if module.eq_ignore_ascii_case("hal.dll") {
        "ntoskrnl.exe"
    } else {
        module
    };
    if module.eq_ignore_ascii_case("ntoskrnl.exe")
        && let Some((_, address)) = COMPILER.iter().find(|(name, _)| *name == function)
    {
        return Some(Target {
            address: address.0.addr(),
            is_kernel: false,
        });
    }
    exports::find(function)
        .filter(|Export { function, .. }| function.module.eq_ignore_ascii_case(module))
        .map(|export| Target {
            address: export.address.addr(),
            is_kernel: true,
        })
}

struct Address(*const ());

// SAFETY: addresses of functions do not change.
unsafe impl Sync for Address {}

/// What compilers call by name; ntoskrnl.exe exports all of it.
static COMPILER: &[(&str, Address)] = &[
    ("__chkstk", Address(check_stack as *const ())),
    ("memcpy", Address(copy as *const ())),
    ("memmove", Address(copy as *const ())),
    ("memset", Address(set as *const ())),
    ("memcmp", Address(compare as *const ())),
    ("strlen", Address(length as *const ())),
    (
        "__C_specific_handler",
        Address(specific_handler as *const ()),
    ),
];

/// Touches the stack page by page down to RAX bytes below, so that the guard page is met. Changes no register but R10, R11 and flags.
///
/// # Safety
/// Called by a function's prologue.
#[unsafe(naked)]
unsafe extern "efiapi" fn check_stack() {
    naked_asm!(
        "mov r10, rsp",
        "mov r11, rax",
        "2:",
        "cmp r11, 4096",
        "jb 3f",
        "sub r10, 4096",
        "sub r11, 4096",
        "test [r10], r10",
        "jmp 2b",
        "3:",
        "sub r10, r11",
        "test [r10], r10",
        "ret",
    )
}

/// # Safety
/// As `memmove`.
unsafe extern "efiapi" fn copy(to: *mut c_void, from: *const c_void, len: usize) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { libc::memmove(to, from, len) }
}

/// # Safety
/// As `memset`.
unsafe extern "efiapi" fn set(to: *mut c_void, byte: c_int, len: usize) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { libc::memset(to, byte, len) }
}

/// # Safety
/// As `memcmp`.
unsafe extern "efiapi" fn compare(a: *const c_void, b: *const c_void, len: usize) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { libc::memcmp(a, b, len) }
}

/// # Safety
/// As `strlen`.
unsafe extern "efiapi" fn length(text: *const c_char) -> usize {
    // SAFETY: the caller's promise.
    unsafe { libc::strlen(text) }
}

/// What images with `__try` name in their tables: an exception looks for its handler through it. None is raised here.
unsafe extern "efiapi" fn specific_handler() -> c_int {
    verifier::bugcheck(
        rules::NOT_SIMULATED,
        "__C_specific_handler was called: structured exceptions are not raised here",
    );
}
