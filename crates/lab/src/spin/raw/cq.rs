//! NDK_CQ_DISPATCH.

use super::events::on_request;
use super::{Raw, context};
use ndkpi::*;

pub(in crate::spin) fn resize_cq(cq: Raw, depth: u32, token: u64) -> NTSTATUS {
    let table = cq.table::<NDK_CQ_DISPATCH>();
    // SAFETY: as the module above says.
    unsafe { (table.NdkResizeCq)(cq.at(), depth, on_request, context(token)) }
}

pub(in crate::spin) fn arm_cq(cq: Raw, kind: u32) {
    // SAFETY: as the module above says.
    unsafe { (cq.table::<NDK_CQ_DISPATCH>().NdkArmCq)(cq.at(), kind) }
}

pub(in crate::spin) fn moderate(cq: Raw, interval: u32, count: u32) -> NTSTATUS {
    let table = cq.table::<NDK_CQ_DISPATCH>();
    // SAFETY: as the module above says.
    unsafe { (table.NdkControlCqInterruptModeration)(cq.at(), interval, count) }
}

/// A result as the walk looks at it.
#[derive(Clone, Copy)]
pub(in crate::spin) struct Taken {
    pub(in crate::spin) status: NTSTATUS,
    pub(in crate::spin) bytes: u32,
    pub(in crate::spin) qp: u64,
    pub(in crate::spin) request: u64,
    /// Only the Ex form tells.
    pub(in crate::spin) kind: Option<NDK_OPERATION_TYPE>,
}

/// Results taken at a time.
pub(in crate::spin) const BATCH: usize = 8;

/// Takes up to `room` results.
pub(in crate::spin) fn results(
    cq: Raw,
    room: usize,
    ex: bool,
    into: &mut [Option<Taken>; BATCH],
) -> usize {
    let table = cq.table::<NDK_CQ_DISPATCH>();
    let room = room.min(BATCH);
    if ex {
        let mut results = [NDK_RESULT_EX::ZEROED; BATCH];
        // SAFETY: as the module above says; there is room for so many.
        let count =
            unsafe { (table.NdkGetCqResultsEx)(cq.at(), results.as_mut_ptr(), room as u32) };
        for (into, result) in into.iter_mut().zip(&results[..count as usize]) {
            *into = Some(Taken {
                status: result.Status,
                bytes: result.BytesTransferred,
                qp: result.QPContext.addr() as u64,
                request: result.RequestContext.addr() as u64,
                kind: Some(result.Type),
            });
        }
        return count as usize;
    }
    let mut results = [NDK_RESULT::ZEROED; BATCH];
    // SAFETY: as the module above says; there is room for so many.
    let count = unsafe { (table.NdkGetCqResults)(cq.at(), results.as_mut_ptr(), room as u32) };
    for (into, result) in into.iter_mut().zip(&results[..count as usize]) {
        *into = Some(Taken {
            status: result.Status,
            bytes: result.BytesTransferred,
            qp: result.QPContext.addr() as u64,
            request: result.RequestContext.addr() as u64,
            kind: None,
        });
    }
    count as usize
}
