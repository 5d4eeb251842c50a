//! NDK_MR_DISPATCH.

use super::events::on_request;
use super::{Raw, context};
use ndkpi::*;

pub(in crate::spin) fn register_mr(
    mr: Raw,
    mdl: *mut ndis_sys::wdm::MDL,
    length: usize,
    flags: u32,
    token: u64,
) -> NTSTATUS {
    let table = mr.table::<NDK_MR_DISPATCH>();
    // SAFETY: as the module above says; whoever calls keeps the MDL until the region is deregistered.
    unsafe {
        (table.NdkRegisterMr)(
            mr.at(),
            mdl.cast(),
            length,
            flags,
            on_request,
            context(token),
        )
    }
}

pub(in crate::spin) fn deregister_mr(mr: Raw, token: u64) -> NTSTATUS {
    let table = mr.table::<NDK_MR_DISPATCH>();
    // SAFETY: as the module above says.
    unsafe { (table.NdkDeregisterMr)(mr.at(), on_request, context(token)) }
}

pub(in crate::spin) fn initialize_fast(mr: Raw, pages: u32, remote: bool, token: u64) -> NTSTATUS {
    let table = mr.table::<NDK_MR_DISPATCH>();
    // SAFETY: as the module above says.
    unsafe {
        (table.NdkInitializeFastRegisterMr)(
            mr.at(),
            pages,
            u8::from(remote),
            on_request,
            context(token),
        )
    }
}

pub(in crate::spin) fn mr_token(mr: Raw, remote: bool) -> u32 {
    let table = mr.table::<NDK_MR_DISPATCH>();
    // SAFETY: as the module above says.
    unsafe {
        if remote {
            (table.NdkGetRemoteTokenFromMr)(mr.at())
        } else {
            (table.NdkGetLocalTokenFromMr)(mr.at())
        }
    }
}
