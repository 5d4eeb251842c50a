//! NDK_QP_DISPATCH.

use super::{Raw, context};
use ndkpi::*;

pub(in crate::spin) fn flush(qp: Raw) {
    // SAFETY: as the module above says.
    unsafe { (qp.table::<NDK_QP_DISPATCH>().NdkFlush)(qp.at()) }
}

/// A request with a list of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::spin) enum Transfer {
    Send,
    SendAndInvalidate { token: u32 },
    Read { address: u64, token: u32 },
    Write { address: u64, token: u32 },
    Receive,
}

pub(in crate::spin) fn post(
    qp: Raw,
    what: Transfer,
    request: u64,
    sgl: &[NDK_SGE],
    flags: u32,
) -> NTSTATUS {
    let table = qp.table::<NDK_QP_DISPATCH>();
    let (qp, request, list, count) = (qp.at(), context(request), sgl.as_ptr(), sgl.len() as u32);
    // SAFETY: as the module above says; the list is valid during the call.
    unsafe {
        match what {
            Transfer::Send => (table.NdkSend)(qp, request, list, count, flags),
            Transfer::SendAndInvalidate { token } => {
                (table.NdkSendAndInvalidate)(qp, request, list, count, flags, token)
            }
            Transfer::Read { address, token } => {
                (table.NdkRead)(qp, request, list, count, address, token, flags)
            }
            Transfer::Write { address, token } => {
                (table.NdkWrite)(qp, request, list, count, address, token, flags)
            }
            Transfer::Receive => (table.NdkReceive)(qp, request, list, count),
        }
    }
}

/// What a fast registration names.
pub(in crate::spin) struct Registration<'a> {
    pub(in crate::spin) mr: Raw,
    pub(in crate::spin) pages: &'a [NDK_LOGICAL_ADDRESS],
    pub(in crate::spin) first_byte: u32,
    pub(in crate::spin) length: u32,
    pub(in crate::spin) base: u64,
}

pub(in crate::spin) fn fast_register(
    qp: Raw,
    request: u64,
    what: &Registration<'_>,
    flags: u32,
) -> NTSTATUS {
    let table = qp.table::<NDK_QP_DISPATCH>();
    // SAFETY: as the module above says; the pages are valid during the call.
    unsafe {
        (table.NdkFastRegister)(
            qp.at(),
            context(request),
            what.mr.at(),
            what.pages.len() as u32,
            what.pages.as_ptr(),
            what.first_byte,
            what.length as usize,
            context(what.base),
            flags,
        )
    }
}

/// What a window is bound to.
pub(in crate::spin) struct Binding {
    pub(in crate::spin) mr: Raw,
    pub(in crate::spin) mw: Raw,
    pub(in crate::spin) address: u64,
    pub(in crate::spin) length: usize,
}

pub(in crate::spin) fn bind(qp: Raw, request: u64, what: &Binding, flags: u32) -> NTSTATUS {
    let table = qp.table::<NDK_QP_DISPATCH>();
    // SAFETY: as the module above says.
    unsafe {
        (table.NdkBind)(
            qp.at(),
            context(request),
            what.mr.at(),
            what.mw.at(),
            context(what.address),
            what.length,
            flags,
        )
    }
}

pub(in crate::spin) fn invalidate(qp: Raw, request: u64, what: Raw, flags: u32) -> NTSTATUS {
    let table = qp.table::<NDK_QP_DISPATCH>();
    // SAFETY: as the module above says.
    unsafe { (table.NdkInvalidate)(qp.at(), context(request), what.at(), flags) }
}
