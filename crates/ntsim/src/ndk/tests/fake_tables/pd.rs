//! The table of protection domains.

use ndkpi::*;

use super::super::fake::Thing;
use super::memory::MR;
use super::memory::MW;
use super::qp::QP;
use super::srq::SRQ;
use super::{close, query_extension, thing};
use crate::ndk::object::Kind;

pub(super) static PD: NDK_PD_DISPATCH = NDK_PD_DISPATCH {
    NdkClosePd: close,
    NdkQueryExtension: query_extension,
    NdkCreateMr: create_mr,
    NdkCreateMw: create_mw,
    NdkCreateSrq: create_srq,
    NdkCreateQp: create_qp,
    NdkCreateQpWithSrq: create_qp_with_srq,
    NdkGetPrivilegedMemoryRegionToken: privileged_token,
};

unsafe extern "efiapi" fn create_mr(
    pd: *mut NDK_PD,
    _fast: BOOLEAN,
    completion: NDK_FN_CREATE_COMPLETION,
    context: *mut c_void,
    out: *mut *mut NDK_MR,
) -> NTSTATUS {
    // SAFETY: an object and the consumer's callback.
    unsafe {
        let parent = thing(pd);
        let mr = parent
            .fake()
            .make(Kind::Mr, (&raw const MR).cast(), &[parent]);
        parent.fake().created(parent, mr, completion, context, out)
    }
}

unsafe extern "efiapi" fn create_mw(
    pd: *mut NDK_PD,
    completion: NDK_FN_CREATE_COMPLETION,
    context: *mut c_void,
    out: *mut *mut NDK_MW,
) -> NTSTATUS {
    // SAFETY: an object and the consumer's callback.
    unsafe {
        let parent = thing(pd);
        let mw = parent
            .fake()
            .make(Kind::Mw, (&raw const MW).cast(), &[parent]);
        parent.fake().created(parent, mw, completion, context, out)
    }
}

unsafe extern "efiapi" fn create_srq(
    pd: *mut NDK_PD,
    _depth: u32,
    _sges: u32,
    _threshold: u32,
    notification: Option<NDK_FN_SRQ_NOTIFICATION_CALLBACK>,
    notification_context: *mut c_void,
    _affinity: *mut GROUP_AFFINITY,
    completion: NDK_FN_CREATE_COMPLETION,
    context: *mut c_void,
    out: *mut *mut NDK_SRQ,
) -> NTSTATUS {
    // SAFETY: an object and the consumer's callbacks.
    unsafe {
        let parent = thing(pd);
        let srq = parent
            .fake()
            .make(Kind::Srq, (&raw const SRQ).cast(), &[parent]);
        (*srq).srq_notification.set(notification);
        (*srq).context.set(notification_context);
        parent.fake().created(parent, srq, completion, context, out)
    }
}

unsafe extern "efiapi" fn create_qp(
    pd: *mut NDK_PD,
    receive: *mut NDK_CQ,
    initiator: *mut NDK_CQ,
    qp_context: *mut c_void,
    _receive_depth: u32,
    _initiator_depth: u32,
    _receive_sges: u32,
    _initiator_sges: u32,
    _inline: u32,
    completion: NDK_FN_CREATE_COMPLETION,
    context: *mut c_void,
    out: *mut *mut NDK_QP,
) -> NTSTATUS {
    // SAFETY: objects and the consumer's callback.
    unsafe {
        let (parent, receive, initiator) = (thing(pd), thing(receive), thing(initiator));
        let antecedents: [*const Thing; 3] = [parent, receive, initiator];
        let qp = parent
            .fake()
            .make(Kind::Qp, (&raw const QP).cast(), &antecedents);
        (*qp).context.set(qp_context);
        (*qp).receive_cq.set(receive);
        (*qp).initiator_cq.set(initiator);
        parent.fake().created(parent, qp, completion, context, out)
    }
}

unsafe extern "efiapi" fn create_qp_with_srq(
    pd: *mut NDK_PD,
    receive: *mut NDK_CQ,
    initiator: *mut NDK_CQ,
    srq: *mut NDK_SRQ,
    qp_context: *mut c_void,
    _initiator_depth: u32,
    _initiator_sges: u32,
    _inline: u32,
    completion: NDK_FN_CREATE_COMPLETION,
    context: *mut c_void,
    out: *mut *mut NDK_QP,
) -> NTSTATUS {
    // SAFETY: objects and the consumer's callback.
    unsafe {
        let (parent, receive, initiator) = (thing(pd), thing(receive), thing(initiator));
        let antecedents: [*const Thing; 4] = [parent, receive, initiator, thing(srq)];
        let qp = parent
            .fake()
            .make(Kind::Qp, (&raw const QP).cast(), &antecedents);
        (*qp).context.set(qp_context);
        (*qp).receive_cq.set(receive);
        (*qp).initiator_cq.set(initiator);
        parent.fake().created(parent, qp, completion, context, out)
    }
}

unsafe extern "efiapi" fn privileged_token(_pd: *mut NDK_PD, token: *mut u32) {
    // SAFETY: the consumer's variable.
    unsafe { *token = 1 };
}
