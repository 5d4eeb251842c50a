//! NDK_SRQ_DISPATCH.

use super::events::on_request;
use super::{Raw, context};
use ndkpi::*;

pub(in crate::spin) fn srq_receive(srq: Raw, request: u64, sgl: &[NDK_SGE]) -> NTSTATUS {
    let table = srq.table::<NDK_SRQ_DISPATCH>();
    // SAFETY: as the module above says; the list is valid during the call.
    unsafe { (table.NdkSrqReceive)(srq.at(), context(request), sgl.as_ptr(), sgl.len() as u32) }
}

pub(in crate::spin) fn modify_srq(srq: Raw, depth: u32, threshold: u32, token: u64) -> NTSTATUS {
    let table = srq.table::<NDK_SRQ_DISPATCH>();
    // SAFETY: as the module above says.
    unsafe { (table.NdkModifySrq)(srq.at(), depth, threshold, on_request, context(token)) }
}
