//! Logical address mappings. Not supported yet.
#![allow(
    unsafe_code,
    reason = "dispatch functions take the consumer's pointers"
)]

use core::ffi::c_void;

use ndis_sys::status::STATUS_NOT_SUPPORTED;
use ndis_sys::types::NTSTATUS;
use ndkpi::{MDL, NDK_ADAPTER, NDK_FN_REQUEST_COMPLETION, NDK_LOGICAL_ADDRESS_MAPPING};

/// NdkBuildLAM: STATUS_NOT_SUPPORTED. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// None: the parameters are not looked at.
pub unsafe extern "efiapi" fn build_lam(
    _adapter: *mut NDK_ADAPTER,
    _mdl: *mut MDL,
    _length: usize,
    _completion: Option<NDK_FN_REQUEST_COMPLETION>,
    _context: *mut c_void,
    _lam: *mut NDK_LOGICAL_ADDRESS_MAPPING,
    _lam_size: *mut u32,
    _fbo: *mut u32,
) -> NTSTATUS {
    STATUS_NOT_SUPPORTED
}

/// NdkReleaseLAM: there is no mapping that could be released. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// None: the parameters are not looked at.
pub unsafe extern "efiapi" fn release_lam(
    _adapter: *mut NDK_ADAPTER,
    _lam: *mut NDK_LOGICAL_ADDRESS_MAPPING,
) {
}
