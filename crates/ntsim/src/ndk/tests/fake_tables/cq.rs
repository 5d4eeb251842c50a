//! The table of completion queues.

use std::slice;

use ndkpi::status::*;
use ndkpi::*;

use super::super::fake::Misdeed;
use super::{close, query_extension, thing};

pub(super) static CQ: NDK_CQ_DISPATCH = NDK_CQ_DISPATCH {
    NdkCloseCq: close,
    NdkQueryExtension: query_extension,
    NdkResizeCq: resize_cq,
    NdkArmCq: arm_cq,
    NdkGetCqResults: results,
    NdkControlCqInterruptModeration: moderate,
    NdkGetCqResultsEx: results_ex,
};

/// A function of the table.
pub(in crate::ndk::tests) fn arm_of_cq() -> usize {
    (CQ.NdkArmCq as *const ()).addr()
}

/// A table with a hole.
pub(in crate::ndk::tests) fn cq_without_arm() -> *const c_void {
    let words = size_of::<NDK_CQ_DISPATCH>() / 8;
    // SAFETY: a table of as many pointers.
    let table = unsafe { slice::from_raw_parts((&raw const CQ).cast::<usize>(), words) };
    let mut table = table.to_vec();
    table[3] = 0;
    table.leak().as_ptr().cast()
}

unsafe extern "efiapi" fn resize_cq(
    cq: *mut NDK_CQ,
    _depth: u32,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: an object.
    unsafe {
        let thing = thing(cq);
        if thing.fake().does(Misdeed::ReservedWritten) {
            (*cq).Header.NdkReserved.rf[1] = std::ptr::null_mut();
        }
        if thing.fake().does(Misdeed::DispatchWritten) {
            (*cq).Dispatch = &CQ;
        }
        if thing.fake().does(Misdeed::DispatchReadBack) {
            ((*(*cq).Dispatch).NdkArmCq)(cq, NDK_CQ_NOTIFY_ERRORS);
        }
        if thing.fake().does(Misdeed::CallsAtHighIrql) {
            let old = crate::world::context::with_processor(|p| p.set_irql(5));
            let status = thing
                .fake()
                .finish(thing, completion, context, STATUS_SUCCESS);
            crate::world::context::with_processor(|p| p.set_irql(old));
            return status;
        }
        thing
            .fake()
            .finish(thing, completion, context, STATUS_SUCCESS)
    }
}

unsafe extern "efiapi" fn arm_cq(cq: *mut NDK_CQ, _kind: u32) {
    // SAFETY: an object.
    let thing = unsafe { thing(cq) };
    thing.fake().arm(thing);
}

unsafe extern "efiapi" fn results(cq: *mut NDK_CQ, results: *mut NDK_RESULT, room: u32) -> u32 {
    // SAFETY: an object and the consumer's array.
    unsafe {
        let thing = thing(cq);
        let taken = thing.fake().take(thing, room);
        for (index, entry) in taken.iter().enumerate() {
            *results.add(index) = NDK_RESULT {
                Status: entry.Status,
                BytesTransferred: entry.BytesTransferred,
                QPContext: entry.QPContext,
                RequestContext: entry.RequestContext,
            };
        }
        let more = u32::from(thing.fake().does(Misdeed::TooManyResults)) * 100;
        taken.len() as u32 + more
    }
}

unsafe extern "efiapi" fn results_ex(
    cq: *mut NDK_CQ,
    results: *mut NDK_RESULT_EX,
    room: u32,
) -> u32 {
    // SAFETY: an object and the consumer's array.
    unsafe {
        let thing = thing(cq);
        let taken = thing.fake().take(thing, room);
        for (index, entry) in taken.iter().enumerate() {
            *results.add(index) = *entry;
        }
        taken.len() as u32
    }
}

unsafe extern "efiapi" fn moderate(_cq: *mut NDK_CQ, _interval: u32, _count: u32) -> NTSTATUS {
    STATUS_NOT_SUPPORTED
}
