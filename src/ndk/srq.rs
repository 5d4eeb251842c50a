//! NDK_SRQ: a shared receive queue. Not supported yet: MaxSrqDepth and MaxSrqCount are 0.
#![allow(
    unsafe_code,
    reason = "dispatch functions take the consumer's pointers"
)]

use core::ffi::c_void;

use ndis_sys::status::STATUS_NOT_SUPPORTED;
use ndis_sys::types::NTSTATUS;
use ndkpi::{
    GROUP_AFFINITY, NDK_FN_CREATE_COMPLETION, NDK_FN_SRQ_NOTIFICATION_CALLBACK, NDK_PD, NDK_SRQ,
};

/// NdkCreateSrq: STATUS_NOT_SUPPORTED. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// None: the parameters are not looked at.
pub unsafe extern "efiapi" fn create_srq(
    _pd: *mut NDK_PD,
    _depth: u32,
    _max_sge: u32,
    _threshold: u32,
    _notification: Option<NDK_FN_SRQ_NOTIFICATION_CALLBACK>,
    _notification_context: *mut c_void,
    _affinity: *mut GROUP_AFFINITY,
    _completion: NDK_FN_CREATE_COMPLETION,
    _context: *mut c_void,
    _out: *mut *mut NDK_SRQ,
) -> NTSTATUS {
    STATUS_NOT_SUPPORTED
}
