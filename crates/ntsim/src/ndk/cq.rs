//! Hooked completion queues: arming, notifications, results.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ndkpi::status::*;
use ndkpi::*;

use super::account::Wrong;
use super::call::{Then, request};
use super::callback::Callback;
use super::hook::{Hook, enter};
use super::late;
use super::object::{Kind, Object, Part, with_layer};
use super::place::Place;
use super::rules;
use super::slab::Handle;
use super::tables::{common, slots};
use super::trail;
use crate::consumer::Status;
use crate::verifier::{Function, violation};
use crate::world::context;
use crate::world::driver::DriverNumber;
use crate::world::processor::{DISPATCH, PASSIVE};

/// What only a completion queue has.
pub(super) struct CqPart {
    pub(super) notification: NDK_FN_CQ_NOTIFICATION_CALLBACK,
    pub(super) context: *mut c_void,
    pub(super) consumer: DriverNumber,
    /// A notification is due.
    armed: Cell<u32>,
    /// Where NdkArmCq runs.
    arming: Cell<Option<Place>>,
    /// Where the consumer is inside a function that it must serialise.
    busy: Cell<Option<Place>>,
    /// It was notified that it is dead.
    dead: Cell<bool>,
    /// Results that it has room for.
    depth: Cell<u32>,
    /// Requests that were posted and complete here, less the results taken; without those of shared receive queues.
    expected: Cell<u64>,
    /// The most of them that there have been since the depth was set.
    most: Cell<u64>,
    /// Shared receive queues whose receives may complete here, and how many queue pairs take them from there.
    shared: RefCell<Vec<(Rc<Object>, u32)>>,
    /// It may have run over before the depth was set, or before a shared receive queue was let go.
    may_have_overrun: Cell<bool>,
    /// Results came of which it is unknown what they are for: nobody knows how many are still to come.
    blurred: Cell<bool>,
    /// The consumer was accused of lost results.
    judged: Cell<bool>,
    /// Queue pairs that are closed and may have results here.
    leaving: RefCell<Vec<Handle>>,
    /// Queue pairs whose provider is suspected, until nothing is in the queue any more that could explain it.
    suspected: RefCell<Vec<Handle>>,
}

impl CqPart {
    pub(super) fn new(
        notification: NDK_FN_CQ_NOTIFICATION_CALLBACK,
        context: *mut c_void,
        consumer: DriverNumber,
        depth: u32,
    ) -> CqPart {
        CqPart {
            notification,
            context,
            consumer,
            armed: Cell::new(0),
            arming: Cell::new(None),
            busy: Cell::new(None),
            dead: Cell::new(false),
            depth: Cell::new(depth),
            expected: Cell::new(0),
            most: Cell::new(0),
            shared: RefCell::default(),
            may_have_overrun: Cell::new(false),
            blurred: Cell::new(false),
            judged: Cell::new(false),
            leaving: RefCell::default(),
            suspected: RefCell::default(),
        }
    }

    /// A notification is due.
    pub(super) fn is_armed(&self) -> bool {
        self.armed.get() > 0
    }

    /// Requests whose results were not taken and come here; of shared receive queues, those that may.
    pub(super) fn outstanding(&self) -> u64 {
        let shared = self.shared.borrow();
        let receives = shared.iter().map(|(srq, _)| match &srq.part {
            Part::Srq(part) => part.account.outstanding(),
            _ => 0,
        });
        self.expected.get() + receives.sum::<u64>()
    }

    /// A request is about to be posted that completes here. How many that makes.
    #[inline]
    pub(super) fn expect(&self) -> u64 {
        let expected = self.expected.get() + 1;
        self.expected.set(expected);
        expected
    }

    /// Its post succeeded, which made so many.
    #[inline]
    pub(super) fn accept(&self, expected: u64) {
        self.most.set(self.most.get().max(expected));
    }

    /// So many of the requests are over: they were not accepted, or their results were taken.
    #[inline]
    pub(super) fn settle(&self, count: u64) {
        self.expected.set(self.expected.get().saturating_sub(count));
    }

    /// A queue pair was created whose receives, from a shared queue, complete here.
    pub(super) fn share(&self, srq: &Rc<Object>) {
        let mut shared = self.shared.borrow_mut();
        match shared.iter_mut().find(|(s, _)| s.handle == srq.handle) {
            Some((_, users)) => *users += 1,
            None => shared.push((Rc::clone(srq), 1)),
        }
    }

    /// A queue pair that shared a queue has no results here any more. There may have been too many while it had.
    pub(super) fn unshare(&self, srq: &Object) {
        let overrun = self.may_have_overrun();
        let mut shared = self.shared.borrow_mut();
        let Some(index) = shared.iter().position(|(s, _)| s.handle == srq.handle) else {
            return;
        };
        shared[index].1 -= 1;
        if shared[index].1 == 0 {
            shared.remove(index);
            self.may_have_overrun.set(overrun);
        }
    }

    /// A result came that may or may not be of a shared receive queue.
    pub(super) fn blur(&self) {
        self.blurred.set(true);
    }

    /// Whether there have been more requests at some time than entries. A queue that runs over while it is not armed tells nobody,
    /// and loses what it has no room for.
    fn may_have_overrun(&self) -> bool {
        let shared = self.shared.borrow();
        let receives = shared.iter().map(|(srq, _)| match &srq.part {
            Part::Srq(part) => part.most.get(),
            _ => 0,
        });
        let most = self.most.get() + receives.sum::<u64>();
        self.may_have_overrun.get() || most > u64::from(self.depth.get())
    }

    /// Results are missing that the queue had no room for: more requests that complete here were outstanding than it has entries.
    /// Who does not arm it hears nothing of that.
    fn lost(&self, qp: &Object, cq: &Object, results: u64) {
        let (most, depth) = (self.most.get(), self.depth.get());
        if self.dead.get() || results == 0 || most <= u64::from(depth) || self.judged.replace(true)
        {
            return;
        }
        violation(
            rules::CONSUMER_OVERRUN,
            format!(
                "{cq} has {depth} entries, {most} requests that complete there were outstanding at a time, and {results} of {qp}, which is \
                 closed, have no result"
            ),
        );
    }

    /// It has so many entries now. Before it was made larger fewer may have been too many.
    fn resize(&self, depth: u32) {
        if depth > self.depth.get() {
            self.may_have_overrun.set(self.may_have_overrun());
            self.most.set(self.expected.get());
        }
        self.depth.set(depth);
    }

    /// A queue pair is closed and may still have results here.
    pub(super) fn leave(&self, qp: Handle) {
        self.leaving.borrow_mut().push(qp);
    }

    /// The provider of a queue pair is suspected: see [`super::mw`].
    pub(super) fn suspect(&self, qp: Handle) {
        self.suspected.borrow_mut().push(qp);
    }

    /// Everything was taken that was in the queue when `before` was noted. What happened in the middle of the call may have put more
    /// in, and judges nobody yet.
    fn emptied(&self, before: Waiting) {
        self.left(before.leaving, true);
        for handle in first(&self.suspected, before.suspected) {
            if let Some(qp) = with_layer(|l| l.objects.get(handle))
                && let Part::Qp(part) = &qp.part
            {
                part.bindings.convict();
            }
        }
    }

    /// The completion queue is closed: results that it held are lost.
    pub(super) fn closed(&self) {
        self.left(usize::MAX, false);
    }

    /// What waits for the queue to be empty.
    fn waiting(&self) -> Waiting {
        Waiting {
            leaving: self.leaving.borrow().len(),
            suspected: self.suspected.borrow().len(),
        }
    }

    /// NdkArmCq is called.
    fn arm(&self) {
        self.armed.set(self.armed.get().saturating_add(1));
    }

    /// A notification came. Whether the queue was armed.
    ///
    /// Armed twice before it came, it should come once. But the second arm may have come when the provider was already on its way
    /// to tell of the first, from a DPC that was queued for instance: then another notification is right.
    fn disarm(&self) -> bool {
        let armed = self.armed.get();
        self.armed.set(u32::from(armed > 1));
        armed > 0
    }

    /// Nothing of the first `count` queue pairs that are closed is in the queue any more.
    fn left(&self, count: usize, taken: bool) {
        for handle in first(&self.leaving, count) {
            if let Some(qp) = with_layer(|l| l.objects.get(handle))
                && let Part::Qp(part) = &qp.part
            {
                let (cq, missing) = part.missing();
                // Those that were not taken may still have been in it, as many as it holds.
                let lost = taken || missing > u64::from(self.depth.get());
                self.lost(&qp, cq, if lost { missing } else { 0 });
                part.left(&qp, taken && !self.dead.get() && !self.may_have_overrun());
            }
        }
    }
}

/// How many queue pairs are judged when the queue is empty.
struct Waiting {
    leaving: usize,
    suspected: usize,
}

/// Takes out the first `count`.
fn first(queue_pairs: &RefCell<Vec<Handle>>, count: usize) -> Vec<Handle> {
    let mut queue_pairs = queue_pairs.borrow_mut();
    let count = count.min(queue_pairs.len());
    queue_pairs.drain(..count).collect()
}

slots![
    NdkCloseCq,
    NdkQueryExtension,
    NdkResizeCq,
    NdkArmCq,
    NdkGetCqResults,
    NdkControlCqInterruptModeration,
    NdkGetCqResultsEx since NDK_VERSION_1_2,
];

pub(super) static HOOKS: NDK_CQ_DISPATCH = NDK_CQ_DISPATCH {
    NdkCloseCq: close,
    NdkQueryExtension: query_extension,
    NdkResizeCq: resize,
    NdkArmCq: arm,
    NdkGetCqResults: results,
    NdkControlCqInterruptModeration: moderate,
    NdkGetCqResultsEx: results_ex,
};

common!(Cq, NdkCloseCq);

/// The hook and its completion queue.
#[inline]
fn part(hook: &Hook) -> &CqPart {
    match &hook.object.part {
        Part::Cq(part) => part,
        _ => unreachable!("only completion queues have these functions"),
    }
}

/// Begins a function that the consumer must serialise.
#[inline]
fn serial<'a>(hook: &Hook, part: &'a CqPart) -> Serial<'a> {
    let here = Place::here();
    let was = part.busy.replace(Some(here));
    if was.is_some_and(|at| at != here) {
        overlap(hook);
    }
    Serial { part, was }
}

#[cold]
#[inline(never)]
fn overlap(hook: &Hook) {
    violation(
        rules::CONSUMER_OVERLAP,
        format!(
            "{} on {} is called while NdkArmCq or NdkGetCqResults of it runs elsewhere",
            hook.function.name, hook.object
        ),
    );
}

struct Serial<'a> {
    part: &'a CqPart,
    was: Option<Place>,
}

impl Drop for Serial<'_> {
    fn drop(&mut self) {
        self.part.busy.set(self.was);
    }
}

unsafe extern "efiapi" fn resize(
    cq: *mut NDK_CQ,
    depth: u32,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    let Some(hook) = enter(cq.cast(), Kind::Cq, &NdkResizeCq) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    let resized = Rc::clone(&hook.object);
    let then: Then = Box::new(move |status| {
        if let (STATUS_SUCCESS, Part::Cq(part)) = (status, &resized.part) {
            part.resize(depth);
        }
    });
    let table = hook.object.table::<NDK_CQ_DISPATCH>();
    request(&hook, completion, context, Some(then), |done, cookie| {
        // SAFETY: the provider's table; called as the consumer called.
        unsafe { ((*table).NdkResizeCq)(cq, depth, done, cookie) }
    })
}

unsafe extern "efiapi" fn moderate(cq: *mut NDK_CQ, interval: u32, count: u32) -> NTSTATUS {
    let Some(hook) = enter(cq.cast(), Kind::Cq, &NdkControlCqInterruptModeration) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    let table = hook.object.table::<NDK_CQ_DISPATCH>();
    // SAFETY: the provider's table; called as the consumer called.
    hook.call_sync(|| unsafe { ((*table).NdkControlCqInterruptModeration)(cq, interval, count) })
}

unsafe extern "efiapi" fn arm(cq: *mut NDK_CQ, kind: u32) {
    let Some(hook) = enter(cq.cast(), Kind::Cq, &NdkArmCq) else {
        return;
    };
    if kind > NDK_CQ_NOTIFY_SOLICITED {
        return hook.bad_parameter(&format!("type {kind} is none"));
    }
    let part = part(&hook);
    let _serial = serial(&hook, part);
    // The notification may come before the call has returned, from a DPC.
    part.arm();
    let outer = part.arming.replace(Some(Place::here()));
    let table = hook.object.table::<NDK_CQ_DISPATCH>();
    // SAFETY: the provider's table; called as the consumer called.
    hook.call(|| unsafe { ((*table).NdkArmCq)(cq, kind) });
    part.arming.set(outer);
}

pub(super) static NOTIFICATION: Function =
    Function::export("", "NdkCqNotificationCallback", PASSIVE..=DISPATCH);

/// What the provider calls.
pub(super) unsafe extern "efiapi" fn notification(context: *mut c_void, status: NTSTATUS) {
    let callback = Callback::enter(&NOTIFICATION);
    let Some(object) = callback.object(context, Kind::Cq) else {
        return;
    };
    let Part::Cq(part) = &object.part else {
        return;
    };
    check_notification(&object, part, status);
    late::tell_connections(&object);
    object.events.set(object.events.get() + 1);
    trail::told(&object, callback.function, None, Some(status));
    // SAFETY: the consumer's callback and its context.
    callback.pass_on(
        &object.provider,
        part.consumer,
        part.notification as *const (),
        || unsafe { (part.notification)(part.context, status) },
    );
    object.events.set(object.events.get() - 1);
}

fn check_notification(object: &Object, part: &CqPart, status: NTSTATUS) {
    let armed = part.disarm();
    if part.dead.get() {
        violation(
            rules::NOTIFY_AFTER_ERROR,
            format!(
                "{object} notifies {} after it notified that it is dead",
                Status(status)
            ),
        );
    } else if !armed {
        violation(
            rules::NOTIFY_UNARMED,
            format!("{object} notifies although it was not armed since it did last"),
        );
    }
    if object.events.get() > 0 {
        violation(
            rules::NOTIFY_OVERLAP,
            format!("{object} notifies while its last notification callback runs"),
        );
    }
    if part.arming.get() == Some(Place::here()) {
        violation(
            rules::NOTIFY_IN_ARM,
            format!("{object} notifies from within NdkArmCq"),
        );
    }
    match status {
        STATUS_SUCCESS => {}
        STATUS_BUFFER_OVERFLOW => {
            part.dead.set(true);
            check_overrun(object, part);
        }
        STATUS_INTERNAL_ERROR => part.dead.set(true),
        _ => violation(
            rules::NOTIFY_STATUS,
            format!("{object} notifies with status {}", Status(status)),
        ),
    }
}

/// The queue ran over: the consumer's fault if more requests are outstanding than it has entries.
fn check_overrun(cq: &Object, part: &CqPart) {
    let (outstanding, depth) = (part.outstanding(), part.depth.get());
    if outstanding > u64::from(depth) && !part.blurred.get() {
        violation(
            rules::CONSUMER_OVERRUN,
            format!(
                "{cq} ran over: it has {depth} entries, and {outstanding} request(s) that complete there have no result taken"
            ),
        );
    }
}

/// What is checked of a result, whatever its form.
struct Taken {
    status: NTSTATUS,
    qp_context: *mut c_void,
    context: *mut c_void,
    kind: Option<NDK_OPERATION_TYPE>,
    error_code: u32,
}

unsafe extern "efiapi" fn results(cq: *mut NDK_CQ, results: *mut NDK_RESULT, room: u32) -> u32 {
    let Some(hook) = enter(cq.cast(), Kind::Cq, &NdkGetCqResults) else {
        return 0;
    };
    let table = hook.object.table::<NDK_CQ_DISPATCH>();
    // SAFETY: the provider's table; called as the consumer called.
    take(
        &hook,
        results,
        room,
        || unsafe { ((*table).NdkGetCqResults)(cq, results, room) },
        |r| {
            let taken = Taken {
                status: r.Status,
                qp_context: r.QPContext,
                context: r.RequestContext,
                kind: None,
                error_code: 0,
            };
            (taken, &mut r.QPContext)
        },
    )
}

unsafe extern "efiapi" fn results_ex(
    cq: *mut NDK_CQ,
    results: *mut NDK_RESULT_EX,
    room: u32,
) -> u32 {
    let Some(hook) = enter(cq.cast(), Kind::Cq, &NdkGetCqResultsEx) else {
        return 0;
    };
    if !hook.since(NDK_VERSION_1_2) {
        return 0;
    }
    // Padding before.
    let codes = hook.object.has(NDK_VERSION_2_1);
    let table = hook.object.table::<NDK_CQ_DISPATCH>();
    // SAFETY: the provider's table; called as the consumer called.
    take(
        &hook,
        results,
        room,
        || unsafe { ((*table).NdkGetCqResultsEx)(cq, results, room) },
        |r| {
            let taken = Taken {
                status: r.Status,
                qp_context: r.QPContext,
                context: r.RequestContext,
                kind: Some(r.Type),
                error_code: if codes { r.ProviderErrorCode } else { 0 },
            };
            (taken, &mut r.QPContext)
        },
    )
}

/// Takes results: gives each the context that the consumer knows its queue pair by.
#[inline]
fn take<T>(
    hook: &Hook,
    results: *mut T,
    room: u32,
    call: impl FnOnce() -> u32,
    look: impl Fn(&mut T) -> (Taken, &mut *mut c_void),
) -> u32 {
    if room > 0 && hook.null(results, "the array of results") {
        return 0;
    }
    if context::with_processor(|p| p.locks.len() == 0) {
        late::tell_connections(&hook.object);
    }
    let part = part(hook);
    let _serial = serial(hook, part);
    let waiting = part.waiting();
    let mut count = hook.call(call);
    if count > room {
        violation(
            rules::RESULT_COUNT,
            format!(
                "{} on {} gives {count} results where {room} have room",
                hook.function.name, hook.object
            ),
        );
        count = room;
    }
    for index in 0..count as usize {
        // SAFETY: the consumer's array has room for as many, and the provider filled in so many.
        let result = unsafe { &mut *results.add(index) };
        let (taken, qp_context) = look(result);
        if let Some(context) = judge(&hook.object, &taken) {
            *qp_context = context;
        }
    }
    if count < room {
        part.emptied(waiting);
    }
    count
}

/// Checks a result; the context that the consumer gave its queue pair.
#[inline]
fn judge(cq: &Object, taken: &Taken) -> Option<*mut c_void> {
    let qp = with_layer(|l| l.objects.get(Handle::from_context(taken.qp_context)));
    let Some((qp, part)) = qp.as_ref().and_then(|qp| match &qp.part {
        Part::Qp(part) if part.uses(cq) => Some((qp, part)),
        _ => None,
    }) else {
        accuse(
            rules::RESULT_QP,
            cq,
            taken,
            "its QPContext is that of no QP which uses this completion queue",
        );
        return None;
    };
    if taken.status != STATUS_SUCCESS {
        trail::failed(qp, taken.status);
    }
    if taken.status == STATUS_PENDING {
        accuse(rules::RESULT_STATUS, cq, taken, "it is not final");
    }
    if taken.status == STATUS_SUCCESS && taken.error_code != 0 {
        accuse(
            rules::RESULT_ERROR_CODE,
            cq,
            taken,
            &format!("ProviderErrorCode is {:#x}", taken.error_code),
        );
    }
    let receive = match taken.kind {
        Some(NdkOperationTypeReceive | NdkOperationTypeReceiveAndInvalidate) => Some(true),
        Some(
            NdkOperationTypeSend
            | NdkOperationTypeFastRegister
            | NdkOperationTypeBind
            | NdkOperationTypeInvalidate
            | NdkOperationTypeRead
            | NdkOperationTypeWrite,
        ) => Some(false),
        Some(other) => {
            accuse(
                rules::RESULT_TYPE,
                cq,
                taken,
                &format!("its type is {other:#x}"),
            );
            None
        }
        None => None,
    };
    if receive.is_some_and(|receive| !part.completes_on(cq, receive)) {
        accuse(
            rules::RESULT_TYPE,
            cq,
            taken,
            &format!("results of that type of {qp} come on its other completion queue"),
        );
    }
    match taken.kind {
        Some(NdkOperationTypeReceiveAndInvalidate) => part.bindings.end(),
        Some(NdkOperationTypeBind) => {
            part.bindings.result(qp.handle, taken.context, taken.status);
        }
        Some(_) => {}
        // It may be either.
        None => {
            let bind = part.bindings.result(qp.handle, taken.context, taken.status);
            if !bind && part.may_receive() && part.completes_on(cq, true) {
                part.bindings.end();
            }
        }
    }
    match part.result(cq, receive, taken.context) {
        Ok(()) => {}
        Err(Wrong::Unexpected) => accuse(
            rules::RESULT_UNEXPECTED,
            cq,
            taken,
            &format!("{qp} has no request left that it could be for"),
        ),
        Err(Wrong::Contexts) => accuse(
            rules::RESULT_REQUEST,
            cq,
            taken,
            &format!(
                "it is the last of {qp}, but their contexts together are not those that were posted"
            ),
        ),
    }
    Some(part.context)
}

#[cold]
#[inline(never)]
fn accuse(rule: &'static str, cq: &Object, taken: &Taken, text: &str) {
    violation(
        rule,
        format!(
            "result on {cq} (status {}, request {:p}): {text}",
            Status(taken.status),
            taken.context
        ),
    );
}
