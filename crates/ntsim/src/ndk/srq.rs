//! Hooked shared receive queues.

use std::cell::Cell;
use std::rc::Rc;

use ndkpi::status::*;
use ndkpi::*;

use super::account::Account;
use super::call::{Then, request};
use super::callback::Callback;
use super::hook::enter;
use super::in_flight::{InFlight, elements};
use super::lam;
use super::object::{Kind, Object, Part};
use super::rules;
use super::tables::{common, slots};
use super::trail;
use crate::consumer::Status;
use crate::verifier::{Function, violation};
use crate::world::driver::DriverNumber;
use crate::world::processor::{DISPATCH, PASSIVE};

/// What only a shared receive queue has.
pub(super) struct SrqPart {
    pub(super) notification: Option<NDK_FN_SRQ_NOTIFICATION_CALLBACK>,
    pub(super) context: *mut c_void,
    pub(super) consumer: DriverNumber,
    /// A threshold was set and has not been notified.
    pub(super) armed: Cell<bool>,
    /// It was notified that it is dead.
    pub(super) dead: Cell<bool>,
    pub(super) account: Account,
    /// The most requests without a result that there have been.
    pub(super) most: Cell<u64>,
    pub(super) pd: Rc<Object>,
    /// What its receives use.
    pub(super) receives: InFlight,
}

pub(super) const SLOTS: &[(&str, NDK_VERSION)] =
    slots![NdkCloseSrq, NdkQueryExtension, NdkModifySrq, NdkSrqReceive];

pub(super) static HOOKS: NDK_SRQ_DISPATCH = NDK_SRQ_DISPATCH {
    NdkCloseSrq: close,
    NdkQueryExtension: query_extension,
    NdkModifySrq: modify,
    NdkSrqReceive: receive,
};

common!(Srq, "NdkCloseSrq");

/// Whether a threshold is set that was not notified: sets it, and gives what it was.
fn arm(srq: &Object, armed: bool) -> bool {
    match &srq.part {
        Part::Srq(part) => part.armed.replace(armed),
        _ => false,
    }
}

unsafe extern "efiapi" fn modify(
    srq: *mut NDK_SRQ,
    depth: u32,
    threshold: u32,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    static F: Function = Function::callback("NdkModifySrq", PASSIVE..=DISPATCH);
    let Some(hook) = enter(srq.cast(), Kind::Srq, &F) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    // The new threshold may be notified before the call returns; if it fails, there is none.
    let then = (threshold > 0).then(|| {
        let srq = Rc::clone(&hook.object);
        let before = arm(&srq, true);
        Box::new(move |status| {
            let notified = !arm(&srq, true);
            arm(&srq, !notified && (status == STATUS_SUCCESS || before));
        }) as Then
    });
    let table = hook.object.table::<NDK_SRQ_DISPATCH>();
    request(&hook, completion, context, then, |done, cookie| {
        // SAFETY: the provider's table; called as the consumer called.
        unsafe { ((*table).NdkModifySrq)(srq, depth, threshold, done, cookie) }
    })
}

unsafe extern "efiapi" fn receive(
    srq: *mut NDK_SRQ,
    context: *mut c_void,
    sgl: *const NDK_SGE,
    count: u32,
) -> NTSTATUS {
    static F: Function = Function::callback("NdkSrqReceive", PASSIVE..=DISPATCH);
    let Some(hook) = enter(srq.cast(), Kind::Srq, &F) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    if count > 0 && hook.null(sgl, "the list") {
        return STATUS_INVALID_PARAMETER;
    }
    let Part::Srq(part) = &hook.object.part else {
        return STATUS_INTERNAL_ERROR;
    };
    part.account.post(context, false);
    let outstanding = part.account.outstanding();
    // SAFETY: the consumer's list.
    let list = unsafe { elements(sgl, count) };
    lam::check_elements(&hook, &part.pd, list.clone());
    part.receives.post(F.name, context, list);
    let table = hook.object.table::<NDK_SRQ_DISPATCH>();
    // SAFETY: the provider's table; called as the consumer called.
    let status = hook.call_sync(|| unsafe { ((*table).NdkSrqReceive)(srq, context, sgl, count) });
    if status == STATUS_SUCCESS {
        part.most.update(|most| most.max(outstanding));
    } else {
        part.account.reject(context, false);
        if count > 0 {
            part.receives.reject(context);
        }
    }
    status
}

static NOTIFICATION: Function =
    Function::export("", "NdkSrqNotificationCallback", PASSIVE..=DISPATCH);

/// What the provider calls.
pub(super) unsafe extern "efiapi" fn notification(context: *mut c_void, status: NTSTATUS) {
    let callback = Callback::enter(&NOTIFICATION);
    let Some(object) = callback.object(context, Kind::Srq) else {
        return;
    };
    let Part::Srq(part) = &object.part else {
        return;
    };
    let armed = part.armed.replace(false);
    match status {
        _ if part.dead.get() => violation(
            rules::NOTIFY_AFTER_ERROR,
            format!(
                "{object} notifies {} after it notified that it is dead",
                Status(status)
            ),
        ),
        STATUS_SUCCESS if !armed => violation(
            rules::SRQ_NOTIFY_UNARMED,
            format!("{object} notifies although no threshold was set since it did last"),
        ),
        STATUS_SUCCESS => {}
        STATUS_INTERNAL_ERROR => part.dead.set(true),
        _ => violation(
            rules::NOTIFY_STATUS,
            format!("{object} notifies with status {}", Status(status)),
        ),
    }
    if let Some(notification) = part.notification {
        object.events.set(object.events.get() + 1);
        trail::told(&object, callback.function, None, Some(status));
        // SAFETY: the consumer's callback and its context.
        callback.pass_on(part.consumer, || unsafe {
            notification(part.context, status)
        });
        object.events.set(object.events.get() - 1);
    }
}
