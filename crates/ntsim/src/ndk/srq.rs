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
    pub(super) thresholds: Thresholds,
    /// It was notified that it is dead.
    pub(super) dead: Cell<bool>,
    pub(super) account: Account,
    /// The most requests without a result that there have been.
    pub(super) most: Cell<u64>,
    pub(super) pd: Rc<Object>,
    /// What its receives use.
    pub(super) receives: InFlight,
}

/// How often a queue may notify. A threshold that is set replaces the one before, but the notification of that one may be on its way
/// already: once for each. While NdkModifySrq runs more than once at a time, nobody can tell which thresholds were reached.
#[derive(Default)]
pub(super) struct Thresholds {
    allowed: Cell<u32>,
    /// Calls of NdkModifySrq with a threshold that are not done.
    changing: Cell<u32>,
}

impl Thresholds {
    /// Of a new queue.
    pub(super) fn new(threshold: u32) -> Thresholds {
        Thresholds {
            allowed: Cell::new(u32::from(threshold > 0)),
            ..Thresholds::default()
        }
    }

    /// One is about to be set.
    fn begin(&self) {
        self.changing.set(self.changing.get() + 1);
        self.allowed.set(self.allowed.get() + 1);
    }

    /// It was, or not.
    fn end(&self, is_set: bool) {
        self.changing.set(self.changing.get() - 1);
        let mut allowed = self.allowed.get();
        if !is_set {
            allowed = allowed.saturating_sub(1);
        }
        if self.changing.get() == 0 {
            allowed = allowed.min(2);
        }
        self.allowed.set(allowed);
    }

    /// A notification came. Whether it may.
    fn notify(&self) -> bool {
        let allowed = self.allowed.get();
        self.allowed.set(allowed.saturating_sub(1));
        allowed > 0
    }
}

slots![NdkCloseSrq, NdkQueryExtension, NdkModifySrq, NdkSrqReceive];

pub(super) static HOOKS: NDK_SRQ_DISPATCH = NDK_SRQ_DISPATCH {
    NdkCloseSrq: close,
    NdkQueryExtension: query_extension,
    NdkModifySrq: modify,
    NdkSrqReceive: receive,
};

common!(Srq, NdkCloseSrq);

fn part(object: &Object) -> &SrqPart {
    match &object.part {
        Part::Srq(part) => part,
        _ => unreachable!("only shared receive queues have these functions"),
    }
}

unsafe extern "efiapi" fn modify(
    srq: *mut NDK_SRQ,
    depth: u32,
    threshold: u32,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    let Some(hook) = enter(srq.cast(), Kind::Srq, &NdkModifySrq) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    // The new threshold may be notified before the call returns; if it fails, there is none.
    let then = (threshold > 0).then(|| {
        let srq = Rc::clone(&hook.object);
        part(&srq).thresholds.begin();
        Box::new(move |status| part(&srq).thresholds.end(status == STATUS_SUCCESS)) as Then
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
    let Some(hook) = enter(srq.cast(), Kind::Srq, &NdkSrqReceive) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    if count > 0 && hook.null(sgl, "the list") {
        return STATUS_INVALID_PARAMETER;
    }
    let part = part(&hook.object);
    part.account.post(context, false);
    let outstanding = part.account.outstanding();
    // SAFETY: the consumer's list.
    let list = unsafe { elements(sgl, count) };
    lam::check_elements(&hook, &part.pd, list.clone());
    part.receives.post(NdkSrqReceive.name, context, list);
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

pub(super) static NOTIFICATION: Function =
    Function::export("", "NdkSrqNotificationCallback", PASSIVE..=DISPATCH);

/// What the provider calls.
pub(super) unsafe extern "efiapi" fn notification(context: *mut c_void, status: NTSTATUS) {
    let callback = Callback::enter(&NOTIFICATION);
    let Some(object) = callback.object(context, Kind::Srq) else {
        return;
    };
    let part = part(&object);
    let armed = part.thresholds.notify();
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
        callback.pass_on(
            &object.provider,
            part.consumer,
            notification as *const (),
            || unsafe { notification(part.context, status) },
        );
        object.events.set(object.events.get() - 1);
    }
}
