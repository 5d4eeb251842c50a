//! Hooked protection domains.

use std::cell::Cell;
use std::rc::Rc;

use ndkpi::status::*;
use ndkpi::*;

use super::account::Account;
use super::call::create;
use super::hook::{Hook, enter};
use super::in_flight::InFlight;
use super::mr::MrPart;
use super::mw::MwPart;
use super::object::{Kind, Object, Part};
use super::qp::QpPart;
use super::srq::{self, SrqPart, Thresholds};
use super::tables::{common, slots};

/// What only a protection domain has.
pub(super) struct PdPart {
    pub(super) adapter: Rc<Object>,
    /// Its privileged token, once the consumer has asked for it.
    pub(super) privileged: Cell<Option<u32>>,
}

impl PdPart {
    pub(super) fn new(adapter: &Rc<Object>) -> PdPart {
        PdPart {
            adapter: Rc::clone(adapter),
            privileged: Cell::new(None),
        }
    }
}

slots![
    NdkClosePd,
    NdkQueryExtension,
    NdkCreateMr,
    NdkCreateMw,
    NdkCreateSrq,
    NdkCreateQp,
    NdkCreateQpWithSrq,
    NdkGetPrivilegedMemoryRegionToken,
];

pub(super) static HOOKS: NDK_PD_DISPATCH = NDK_PD_DISPATCH {
    NdkClosePd: close,
    NdkQueryExtension: query_extension,
    NdkCreateMr: create_mr,
    NdkCreateMw: create_mw,
    NdkCreateSrq: create_srq,
    NdkCreateQp: create_qp,
    NdkCreateQpWithSrq: create_qp_with_srq,
    NdkGetPrivilegedMemoryRegionToken: privileged_token,
};

common!(Pd, NdkClosePd);

unsafe extern "efiapi" fn create_mr(
    pd: *mut NDK_PD,
    fast: BOOLEAN,
    completion: NDK_FN_CREATE_COMPLETION,
    context: *mut c_void,
    out: *mut *mut NDK_MR,
) -> NTSTATUS {
    let Some(hook) = enter(pd.cast(), Kind::Pd, &NdkCreateMr) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    let provider = &hook.object.provider;
    let part = Part::Mr(MrPart::new(&hook.object, fast != 0));
    let child = Object::unborn(Kind::Mr, provider, NdkCreateMr.name, part, &[&hook.object]);
    let table = hook.object.table::<NDK_PD_DISPATCH>();
    // SAFETY: the provider's table; called as the consumer called.
    unsafe {
        create(
            &hook,
            &child,
            completion,
            context,
            out,
            |done, cookie, out| ((*table).NdkCreateMr)(pd, fast, done, cookie, out),
        )
    }
}

unsafe extern "efiapi" fn create_mw(
    pd: *mut NDK_PD,
    completion: NDK_FN_CREATE_COMPLETION,
    context: *mut c_void,
    out: *mut *mut NDK_MW,
) -> NTSTATUS {
    let Some(hook) = enter(pd.cast(), Kind::Pd, &NdkCreateMw) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    let provider = &hook.object.provider;
    let child = Object::unborn(
        Kind::Mw,
        provider,
        NdkCreateMw.name,
        Part::Mw(MwPart::default()),
        &[&hook.object],
    );
    let table = hook.object.table::<NDK_PD_DISPATCH>();
    // SAFETY: the provider's table; called as the consumer called.
    unsafe {
        create(
            &hook,
            &child,
            completion,
            context,
            out,
            |done, cookie, out| ((*table).NdkCreateMw)(pd, done, cookie, out),
        )
    }
}

unsafe extern "efiapi" fn create_srq(
    pd: *mut NDK_PD,
    depth: u32,
    sges: u32,
    threshold: u32,
    notification: Option<NDK_FN_SRQ_NOTIFICATION_CALLBACK>,
    notification_context: *mut c_void,
    affinity: *mut GROUP_AFFINITY,
    completion: NDK_FN_CREATE_COMPLETION,
    context: *mut c_void,
    out: *mut *mut NDK_SRQ,
) -> NTSTATUS {
    let Some(hook) = enter(pd.cast(), Kind::Pd, &NdkCreateSrq) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    let part = Part::Srq(SrqPart {
        notification,
        context: notification_context,
        consumer: hook.consumer,
        thresholds: Thresholds::new(threshold),
        dead: Cell::new(false),
        account: Account::default(),
        most: Cell::new(0),
        pd: Rc::clone(&hook.object),
        receives: InFlight::default(),
    });
    let provider = &hook.object.provider;
    let child = Object::unborn(
        Kind::Srq,
        provider,
        NdkCreateSrq.name,
        part,
        &[&hook.object],
    );
    let callback = notification.map(|_| srq::notification as NDK_FN_SRQ_NOTIFICATION_CALLBACK);
    let notify_context = child.handle.context();
    let table = hook.object.table::<NDK_PD_DISPATCH>();
    // SAFETY: the provider's table; called as the consumer called.
    unsafe {
        create(
            &hook,
            &child,
            completion,
            context,
            out,
            |done, cookie, out| {
                ((*table).NdkCreateSrq)(
                    pd,
                    depth,
                    sges,
                    threshold,
                    callback,
                    notify_context,
                    affinity,
                    done,
                    cookie,
                    out,
                )
            },
        )
    }
}

/// A record for a queue pair that is about to be created. None if the consumer passes something else than two
/// completion queues and, if it passes one at all, a shared receive queue.
fn queue_pair(
    hook: &Hook,
    context: *mut c_void,
    receive: *mut NDK_CQ,
    initiator: *mut NDK_CQ,
    srq: Option<*mut NDK_SRQ>,
) -> Option<Rc<Object>> {
    let receive = hook.argument(receive, Kind::Cq)?;
    let initiator = hook.argument(initiator, Kind::Cq)?;
    let srq = match srq {
        Some(srq) => Some(hook.argument(srq, Kind::Srq)?),
        None => None,
    };
    let part = QpPart::new(
        context,
        Rc::clone(&hook.object),
        receive.clone(),
        initiator.clone(),
        srq.clone(),
    );
    let mut antecedents = vec![&hook.object, &receive, &initiator];
    antecedents.extend(&srq);
    let provider = &hook.object.provider;
    Some(Object::unborn(
        Kind::Qp,
        provider,
        hook.function.name,
        Part::Qp(part),
        &antecedents,
    ))
}

unsafe extern "efiapi" fn create_qp(
    pd: *mut NDK_PD,
    receive_cq: *mut NDK_CQ,
    initiator_cq: *mut NDK_CQ,
    qp_context: *mut c_void,
    receive_depth: u32,
    initiator_depth: u32,
    receive_sges: u32,
    initiator_sges: u32,
    inline: u32,
    completion: NDK_FN_CREATE_COMPLETION,
    context: *mut c_void,
    out: *mut *mut NDK_QP,
) -> NTSTATUS {
    let Some(hook) = enter(pd.cast(), Kind::Pd, &NdkCreateQp) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    let Some(child) = queue_pair(&hook, qp_context, receive_cq, initiator_cq, None) else {
        return STATUS_INVALID_PARAMETER;
    };
    let qp_context = child.handle.context();
    let table = hook.object.table::<NDK_PD_DISPATCH>();
    // SAFETY: the provider's table; called as the consumer called.
    unsafe {
        create(
            &hook,
            &child,
            completion,
            context,
            out,
            |done, cookie, out| {
                ((*table).NdkCreateQp)(
                    pd,
                    receive_cq,
                    initiator_cq,
                    qp_context,
                    receive_depth,
                    initiator_depth,
                    receive_sges,
                    initiator_sges,
                    inline,
                    done,
                    cookie,
                    out,
                )
            },
        )
    }
}

unsafe extern "efiapi" fn create_qp_with_srq(
    pd: *mut NDK_PD,
    receive_cq: *mut NDK_CQ,
    initiator_cq: *mut NDK_CQ,
    srq: *mut NDK_SRQ,
    qp_context: *mut c_void,
    initiator_depth: u32,
    initiator_sges: u32,
    inline: u32,
    completion: NDK_FN_CREATE_COMPLETION,
    context: *mut c_void,
    out: *mut *mut NDK_QP,
) -> NTSTATUS {
    let Some(hook) = enter(pd.cast(), Kind::Pd, &NdkCreateQpWithSrq) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    let Some(child) = queue_pair(&hook, qp_context, receive_cq, initiator_cq, Some(srq)) else {
        return STATUS_INVALID_PARAMETER;
    };
    let qp_context = child.handle.context();
    let table = hook.object.table::<NDK_PD_DISPATCH>();
    // SAFETY: the provider's table; called as the consumer called.
    unsafe {
        create(
            &hook,
            &child,
            completion,
            context,
            out,
            |done, cookie, out| {
                ((*table).NdkCreateQpWithSrq)(
                    pd,
                    receive_cq,
                    initiator_cq,
                    srq,
                    qp_context,
                    initiator_depth,
                    initiator_sges,
                    inline,
                    done,
                    cookie,
                    out,
                )
            },
        )
    }
}

unsafe extern "efiapi" fn privileged_token(pd: *mut NDK_PD, token: *mut u32) {
    let Some(hook) = enter(pd.cast(), Kind::Pd, &NdkGetPrivilegedMemoryRegionToken) else {
        return;
    };
    if hook.null(token, "the out parameter") {
        return;
    }
    let table = hook.object.table::<NDK_PD_DISPATCH>();
    // SAFETY: the provider's table; called as the consumer called.
    hook.call(|| unsafe { ((*table).NdkGetPrivilegedMemoryRegionToken)(pd, token) });
    if let Part::Pd(part) = &hook.object.part {
        // SAFETY: not null, so the consumer's.
        part.privileged.set(Some(unsafe { *token }));
    }
}
