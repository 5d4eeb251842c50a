//! The table of shared receive queues.

use ndkpi::status::*;
use ndkpi::*;

use super::super::fake::Misdeed;
use super::{close, query_extension, thing};

pub(super) static SRQ: NDK_SRQ_DISPATCH = NDK_SRQ_DISPATCH {
    NdkCloseSrq: close,
    NdkQueryExtension: query_extension,
    NdkModifySrq: modify_srq,
    NdkSrqReceive: srq_receive,
};

/// It has no memory for more requests than these.
pub(in crate::ndk::tests) const DEEPEST: u32 = 64;

unsafe extern "efiapi" fn modify_srq(
    srq: *mut NDK_SRQ,
    depth: u32,
    threshold: u32,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: an object.
    let thing = unsafe { thing(srq) };
    let fake = thing.fake();
    if depth > DEEPEST {
        return fake.finish(thing, completion, context, STATUS_INSUFFICIENT_RESOURCES);
    }
    let status = if fake.does(Misdeed::SrqNotifiesOddStatus) {
        STATUS_CANCELLED
    } else {
        STATUS_SUCCESS
    };
    if let Some(notification) = thing.srq_notification.get()
        && (threshold > 0 || fake.does(Misdeed::SrqNotifiesUnarmed))
    {
        fake.defer(move || {
            // SAFETY: the consumer's callback.
            unsafe { notification(thing.context.get(), status) }
        });
    }
    let status = if fake.does(Misdeed::SrqNotifiesAfterFailure) {
        STATUS_BUFFER_OVERFLOW
    } else {
        STATUS_SUCCESS
    };
    fake.finish(thing, completion, context, status)
}

unsafe extern "efiapi" fn srq_receive(
    srq: *mut NDK_SRQ,
    context: *mut c_void,
    _sgl: *const NDK_SGE,
    _count: u32,
) -> NTSTATUS {
    // SAFETY: an object.
    let thing = unsafe { thing(srq) };
    thing.fake().queue_receive(thing, context);
    STATUS_SUCCESS
}
