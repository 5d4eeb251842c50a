//! NDK_MW: a memory window. Not supported yet: MaxWindowSize and MaxMwCount are 0.
#![allow(
    unsafe_code,
    reason = "dispatch functions take the consumer's pointers"
)]

use core::ffi::c_void;

use ndis_sys::status::STATUS_NOT_SUPPORTED;
use ndis_sys::types::NTSTATUS;
use ndkpi::{NDK_FN_CREATE_COMPLETION, NDK_MW, NDK_PD};

/// NdkCreateMw: STATUS_NOT_SUPPORTED. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// None: the parameters are not looked at.
pub unsafe extern "efiapi" fn create_mw(
    _pd: *mut NDK_PD,
    _completion: NDK_FN_CREATE_COMPLETION,
    _context: *mut c_void,
    _out: *mut *mut NDK_MW,
) -> NTSTATUS {
    STATUS_NOT_SUPPORTED
}
