//! NDK_SHARED_ENDPOINT: one local address and port for many outgoing connections. Not supported yet.
#![allow(
    unsafe_code,
    reason = "dispatch functions take the consumer's pointers"
)]

use core::ffi::c_void;

use ndis_sys::status::STATUS_NOT_SUPPORTED;
use ndis_sys::types::NTSTATUS;
use ndkpi::{NDK_ADAPTER, NDK_FN_CREATE_COMPLETION, NDK_SHARED_ENDPOINT, SOCKADDR};

/// NdkCreateSharedEndpoint: STATUS_NOT_SUPPORTED. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// None: the parameters are not looked at.
pub unsafe extern "efiapi" fn create_shared_endpoint(
    _adapter: *mut NDK_ADAPTER,
    _address: *const SOCKADDR,
    _length: u32,
    _completion: NDK_FN_CREATE_COMPLETION,
    _context: *mut c_void,
    _out: *mut *mut NDK_SHARED_ENDPOINT,
) -> NTSTATUS {
    STATUS_NOT_SUPPORTED
}
