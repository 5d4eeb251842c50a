//! NDK_PD_DISPATCH.

use super::events::{on_create, on_srq};
use super::{Raw, context, create};
use ndkpi::*;
use std::ptr::null_mut;

pub(in crate::spin) fn create_mr(pd: Raw, fast: bool, token: u64) -> (NTSTATUS, Option<Raw>) {
    let table = pd.table::<NDK_PD_DISPATCH>();
    // SAFETY: as the module above says.
    create(|out| unsafe {
        (table.NdkCreateMr)(pd.at(), u8::from(fast), on_create, context(token), out)
    })
}

pub(in crate::spin) fn create_mw(pd: Raw, token: u64) -> (NTSTATUS, Option<Raw>) {
    let table = pd.table::<NDK_PD_DISPATCH>();
    // SAFETY: as the module above says.
    create(|out| unsafe { (table.NdkCreateMw)(pd.at(), on_create, context(token), out) })
}

pub(in crate::spin) fn create_srq(
    pd: Raw,
    depth: u32,
    sges: u32,
    threshold: u32,
    notified: bool,
    srq: u64,
    token: u64,
) -> (NTSTATUS, Option<Raw>) {
    let table = pd.table::<NDK_PD_DISPATCH>();
    // SAFETY: as the module above says.
    create(|out| unsafe {
        (table.NdkCreateSrq)(
            pd.at(),
            depth,
            sges,
            threshold,
            notified.then_some(on_srq as NDK_FN_SRQ_NOTIFICATION_CALLBACK),
            context(srq),
            null_mut(),
            on_create,
            context(token),
            out,
        )
    })
}

/// Sizes of a queue pair.
#[derive(Clone, Copy, Debug)]
pub(in crate::spin) struct Sizes {
    pub(in crate::spin) receive_depth: u32,
    pub(in crate::spin) initiator_depth: u32,
    pub(in crate::spin) receive_sges: u32,
    pub(in crate::spin) initiator_sges: u32,
    pub(in crate::spin) inline: u32,
}

pub(in crate::spin) fn create_qp(
    pd: Raw,
    receive_cq: Raw,
    initiator_cq: Raw,
    srq: Option<Raw>,
    sizes: Sizes,
    qp: u64,
    token: u64,
) -> (NTSTATUS, Option<Raw>) {
    let table = pd.table::<NDK_PD_DISPATCH>();
    // SAFETY: as the module above says.
    create(|out| unsafe {
        match srq {
            None => (table.NdkCreateQp)(
                pd.at(),
                receive_cq.at(),
                initiator_cq.at(),
                context(qp),
                sizes.receive_depth,
                sizes.initiator_depth,
                sizes.receive_sges,
                sizes.initiator_sges,
                sizes.inline,
                on_create,
                context(token),
                out,
            ),
            Some(srq) => (table.NdkCreateQpWithSrq)(
                pd.at(),
                receive_cq.at(),
                initiator_cq.at(),
                srq.at(),
                context(qp),
                sizes.initiator_depth,
                sizes.initiator_sges,
                sizes.inline,
                on_create,
                context(token),
                out,
            ),
        }
    })
}

pub(in crate::spin) fn privileged_token(pd: Raw) -> u32 {
    let mut token = 0;
    let table = pd.table::<NDK_PD_DISPATCH>();
    // SAFETY: as the module above says.
    unsafe { (table.NdkGetPrivilegedMemoryRegionToken)(pd.at(), &raw mut token) };
    token
}
