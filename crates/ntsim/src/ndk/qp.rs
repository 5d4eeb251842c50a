//! Hooked queue pairs: posting.

use std::cell::Cell;
use std::rc::Rc;

use ndkpi::status::*;
use ndkpi::*;

use super::account::{Account, Wrong};
use super::hook::{Hook, enter};
use super::in_flight::{Element, InFlight, elements};
use super::lam;
use super::mr;
use super::mw::{self, Bindings};
use super::object::{Kind, Object, Part};
use super::place::Place;
use super::rules;
use super::slab::Handle;
use super::tables::{common, slots};
use crate::verifier::violation;

/// What only a queue pair has.
pub(super) struct QpPart {
    /// The consumer's; the provider is given the record's handle.
    pub(super) context: *mut c_void,
    receive_cq: Rc<Object>,
    initiator_cq: Rc<Object>,
    srq: Option<Rc<Object>>,
    pub(super) account: Account,
    pub(super) pd: Rc<Object>,
    /// What its requests use: those of the initiator queue, and its receives.
    initiated: InFlight,
    receives: InFlight,
    /// It was given to a connector.
    connecting: Cell<bool>,
    /// A receive was posted.
    received: Cell<bool>,
    pub(super) bindings: Bindings,
    /// Where a post to the initiator queue runs.
    initiator: Cell<Option<Place>>,
    /// Where a post to the receive queue runs.
    receive: Cell<Option<Place>>,
    /// Closed, and this many completion queues may have results of it.
    leaving: Cell<u32>,
    /// All its completion queues were emptied since it was closed.
    emptied: Cell<bool>,
}

impl QpPart {
    pub(super) fn new(
        context: *mut c_void,
        pd: Rc<Object>,
        receive_cq: Rc<Object>,
        initiator_cq: Rc<Object>,
        srq: Option<Rc<Object>>,
    ) -> QpPart {
        QpPart {
            context,
            receive_cq,
            initiator_cq,
            srq,
            account: Account::default(),
            pd,
            initiated: InFlight::default(),
            receives: InFlight::default(),
            connecting: Cell::new(false),
            received: Cell::new(false),
            bindings: Bindings::default(),
            initiator: Cell::new(None),
            receive: Cell::new(None),
            leaving: Cell::new(0),
            emptied: Cell::new(true),
        }
    }

    /// It is given to a connector.
    pub(super) fn connect(&self) {
        self.connecting.set(true);
    }

    #[inline]
    pub(super) fn uses(&self, cq: &Object) -> bool {
        self.receive_cq.handle == cq.handle || self.initiator_cq.handle == cq.handle
    }

    /// Whether receives, or initiator requests, complete there.
    #[inline]
    pub(super) fn completes_on(&self, cq: &Object, receive: bool) -> bool {
        let expected = if receive {
            &self.receive_cq
        } else {
            &self.initiator_cq
        };
        expected.handle == cq.handle
    }

    /// It was created.
    pub(super) fn created(&self) {
        if let (Part::Cq(cq), Some(srq)) = (&self.receive_cq.part, &self.srq) {
            cq.share(srq);
        }
    }

    /// A request of it that uses such memory.
    pub(super) fn user(&self, is: impl Fn(&Element) -> bool) -> Option<String> {
        self.initiated.find(&is).or_else(|| self.receives.find(&is))
    }

    /// Nothing that it had outstanding accesses memory any more. What it took from a shared queue is not told apart from the rest.
    pub(super) fn end_requests(&self) {
        self.initiated.end();
        self.receives.end();
        if let Some(Part::Srq(srq)) = self.srq.as_ref().map(|srq| &srq.part) {
            srq.receives.end();
        }
    }

    /// A result was taken: its request uses no memory any more.
    #[inline]
    fn forget_request(&self, cq: &Object, receive: Option<bool>, context: *mut c_void) {
        let two = self.receive_cq.handle != self.initiator_cq.handle;
        let receive = receive.or_else(|| two.then(|| self.completes_on(cq, true)));
        if receive != Some(true) {
            self.initiated.result(context);
        }
        if receive != Some(false) {
            match self.srq.as_ref().map(|srq| &srq.part) {
                Some(Part::Srq(srq)) => srq.receives.result(context),
                _ => self.receives.result(context),
            }
        }
    }

    /// A result was taken.
    #[inline]
    pub(super) fn result(
        &self,
        cq: &Object,
        receive: Option<bool>,
        context: *mut c_void,
    ) -> Result<(), Wrong> {
        self.forget_request(cq, receive, context);
        let Some(srq) = &self.srq else {
            settle(cq, 1);
            return self.account.result(context);
        };
        let Part::Srq(srq) = &srq.part else {
            return Ok(());
        };
        let two = self.receive_cq.handle != self.initiator_cq.handle;
        match receive.or_else(|| two.then(|| self.completes_on(cq, true))) {
            Some(true) => srq.account.result(context),
            Some(false) => {
                settle(cq, 1);
                self.account.result(context)
            }
            None => {
                srq.account.blur();
                self.account.blur();
                if let Part::Cq(cq) = &cq.part {
                    cq.blur();
                }
                Ok(())
            }
        }
    }

    /// Whether a result of a receive can turn up.
    pub(super) fn may_receive(&self) -> bool {
        self.srq.is_some() || self.received.get()
    }

    /// Its provider finished the close of a region too early, unless a result of a receive tells that the peer invalidated
    /// the window: that is known when the completion queue was emptied.
    pub(super) fn suspect(&self, own: Handle, text: String) {
        self.bindings.suspect(text);
        if let Part::Cq(cq) = &self.receive_cq.part {
            cq.suspect(own);
        }
    }

    /// Its close begins: no result will tell what its peer has invalidated.
    pub(super) fn leave_windows(&self) {
        self.bindings.end();
        if self.may_receive() {
            mr::invalidate_those(&self.pd, |_| true);
        }
    }

    /// It is closed. Whether results of it may still be taken.
    pub(super) fn remains(&self, qp: &Object) -> bool {
        if self.srq.is_none() && self.account.is_settled() {
            return false;
        }
        let same = self.receive_cq.handle == self.initiator_cq.handle;
        let both = [&self.receive_cq, &self.initiator_cq];
        for cq in &both[usize::from(same)..] {
            if let Part::Cq(part) = &cq.part {
                self.leaving.set(self.leaving.get() + 1);
                part.leave(qp.handle);
            }
        }
        true
    }

    /// Its completion queue, and how many results of requests of its own are missing: none if it has two queues, whose results are
    /// counted together.
    pub(super) fn missing(&self) -> (&Object, u64) {
        let same = self.receive_cq.handle == self.initiator_cq.handle;
        let missing = if same { self.account.missing() } else { 0 };
        (&self.initiator_cq, missing)
    }

    /// A completion queue has no results of it any more: they were taken, or lost.
    pub(super) fn left(&self, qp: &Object, taken: bool) {
        if !taken {
            self.emptied.set(false);
        }
        self.leaving.set(self.leaving.get() - 1);
        if self.leaving.get() > 0 {
            return;
        }
        // Requests that succeed without a word come from the initiator queue.
        settle(&self.initiator_cq, self.account.outstanding());
        if let (Part::Cq(cq), Some(srq)) = (&self.receive_cq.part, &self.srq) {
            cq.unshare(srq);
        }
        let missing = self.account.missing();
        if self.emptied.get() && missing > 0 {
            violation(
                rules::RESULT_MISSING,
                format!(
                    "{qp} is closed and its completion queues are empty, but {missing} request(s) had no result"
                ),
            );
        }
        qp.forget();
    }
}

slots![
    NdkCloseQp,
    NdkQueryExtension,
    NdkFlush,
    NdkSend,
    NdkReceive,
    NdkBind,
    NdkFastRegister,
    NdkInvalidate,
    NdkRead,
    NdkWrite,
    NdkSendAndInvalidate since NDK_VERSION_1_2,
];

pub(super) static HOOKS: NDK_QP_DISPATCH = NDK_QP_DISPATCH {
    NdkCloseQp: close,
    NdkQueryExtension: query_extension,
    NdkFlush: flush,
    NdkSend: send,
    NdkReceive: receive,
    NdkBind: bind,
    NdkFastRegister: fast_register,
    NdkInvalidate: invalidate,
    NdkRead: read,
    NdkWrite: write,
    NdkSendAndInvalidate: send_and_invalidate,
};

common!(Qp, NdkCloseQp);

#[inline]
fn part(hook: &Hook) -> &QpPart {
    match &hook.object.part {
        Part::Qp(part) => part,
        _ => unreachable!("only queue pairs have these functions"),
    }
}

unsafe extern "efiapi" fn flush(qp: *mut NDK_QP) {
    let Some(hook) = enter(qp.cast(), Kind::Qp, &NdkFlush) else {
        return;
    };
    let table = hook.object.table::<NDK_QP_DISPATCH>();
    // SAFETY: the provider's table; called as the consumer called.
    hook.call(|| unsafe { ((*table).NdkFlush)(qp) });
}

/// So many requests that complete there are over.
#[inline]
fn settle(cq: &Object, count: u64) {
    if let Part::Cq(part) = &cq.part {
        part.settle(count);
    }
}

/// Posts a request to one of the queues, which completes on `cq`.
#[inline]
fn post(
    hook: &Hook,
    part: &QpPart,
    (queue, cq): (&Cell<Option<Place>>, &Object),
    context: *mut c_void,
    flags: u32,
    call: impl FnOnce() -> NTSTATUS,
) -> NTSTATUS {
    let here = Place::here();
    let outer = queue.replace(Some(here));
    if outer.is_some_and(|at| at != here) {
        overlap(hook);
    }
    let silent = flags & NDK_OP_FLAG_SILENT_SUCCESS != 0;
    // Its result may be taken before the post has returned.
    part.account.post(context, silent);
    let Part::Cq(completes) = &cq.part else {
        unreachable!("the queue pair was created with completion queues");
    };
    let expected = completes.expect();
    let status = hook.call_sync(call);
    queue.set(outer);
    if status == STATUS_SUCCESS {
        completes.accept(expected);
    } else {
        completes.settle(1);
        part.account.reject(context, silent);
    }
    status
}

/// Posts a request to the initiator queue.
#[inline]
fn initiate(
    hook: &Hook,
    context: *mut c_void,
    flags: u32,
    call: impl FnOnce() -> NTSTATUS,
) -> NTSTATUS {
    let part = part(hook);
    let status = post(
        hook,
        part,
        (&part.initiator, &part.initiator_cq),
        context,
        flags,
        call,
    );
    if status == STATUS_SUCCESS && !part.connecting.get() {
        unconnected(hook);
    }
    status
}

/// Posts a request of the initiator queue that moves data.
#[inline]
fn transfer(
    hook: &Hook,
    context: *mut c_void,
    list: impl Iterator<Item = Element> + Clone,
    flags: u32,
    call: impl FnOnce() -> NTSTATUS,
) -> NTSTATUS {
    // Inline data is copied. Of a silent request nobody is told when it is over.
    if flags & NDK_OP_FLAG_INLINE != 0 {
        return initiate(hook, context, flags, call);
    }
    let part = part(hook);
    lam::check_elements(hook, &part.pd, list.clone());
    if flags & NDK_OP_FLAG_SILENT_SUCCESS != 0 {
        return initiate(hook, context, flags, call);
    }
    let has_elements = list.clone().next().is_some();
    part.initiated.post(hook.function.name, context, list);
    let status = initiate(hook, context, flags, call);
    if status != STATUS_SUCCESS && has_elements {
        part.initiated.reject(context);
    }
    status
}

/// Whether the consumer passes no list but says that it has elements.
#[inline]
fn no_list(hook: &Hook, sgl: *const NDK_SGE, count: u32) -> bool {
    count > 0 && hook.null(sgl, "the list")
}

#[cold]
#[inline(never)]
fn unconnected(hook: &Hook) {
    violation(
        rules::POST_UNCONNECTED,
        format!(
            "{} on {} succeeded, which was never given to a connector",
            hook.function.name, hook.object
        ),
    );
}

#[cold]
#[inline(never)]
fn overlap(hook: &Hook) {
    violation(
        rules::CONSUMER_OVERLAP,
        format!(
            "{} on {} is called while another post to the same queue runs elsewhere",
            hook.function.name, hook.object
        ),
    );
}

unsafe extern "efiapi" fn send(
    qp: *mut NDK_QP,
    context: *mut c_void,
    sgl: *const NDK_SGE,
    count: u32,
    flags: u32,
) -> NTSTATUS {
    let Some(hook) = enter(qp.cast(), Kind::Qp, &NdkSend) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    if no_list(&hook, sgl, count) {
        return STATUS_INVALID_PARAMETER;
    }
    let table = hook.object.table::<NDK_QP_DISPATCH>();
    // SAFETY: the consumer's list.
    let list = unsafe { elements(sgl, count) };
    transfer(&hook, context, list, flags, || {
        // SAFETY: the provider's table; called as the consumer called.
        unsafe { ((*table).NdkSend)(qp, context, sgl, count, flags) }
    })
}

unsafe extern "efiapi" fn send_and_invalidate(
    qp: *mut NDK_QP,
    context: *mut c_void,
    sgl: *const NDK_SGE,
    count: u32,
    flags: u32,
    token: u32,
) -> NTSTATUS {
    let Some(hook) = enter(qp.cast(), Kind::Qp, &NdkSendAndInvalidate) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    if !hook.since(NDK_VERSION_1_2) {
        return STATUS_NOT_SUPPORTED;
    }
    if no_list(&hook, sgl, count) {
        return STATUS_INVALID_PARAMETER;
    }
    let table = hook.object.table::<NDK_QP_DISPATCH>();
    // SAFETY: the consumer's list.
    let list = unsafe { elements(sgl, count) };
    transfer(&hook, context, list, flags, || {
        // SAFETY: the provider's table; called as the consumer called.
        unsafe { ((*table).NdkSendAndInvalidate)(qp, context, sgl, count, flags, token) }
    })
}

unsafe extern "efiapi" fn receive(
    qp: *mut NDK_QP,
    context: *mut c_void,
    sgl: *const NDK_SGE,
    count: u32,
) -> NTSTATUS {
    let Some(hook) = enter(qp.cast(), Kind::Qp, &NdkReceive) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    if no_list(&hook, sgl, count) {
        return STATUS_INVALID_PARAMETER;
    }
    let part = part(&hook);
    part.received.set(true);
    let table = hook.object.table::<NDK_QP_DISPATCH>();
    // SAFETY: the consumer's list.
    let list = unsafe { elements(sgl, count) };
    lam::check_elements(&hook, &part.pd, list.clone());
    part.receives.post(NdkReceive.name, context, list);
    let status = post(
        &hook,
        part,
        (&part.receive, &part.receive_cq),
        context,
        0,
        || {
            // SAFETY: the provider's table; called as the consumer called.
            unsafe { ((*table).NdkReceive)(qp, context, sgl, count) }
        },
    );
    if status != STATUS_SUCCESS && count > 0 {
        part.receives.reject(context);
    }
    status
}

unsafe extern "efiapi" fn bind(
    qp: *mut NDK_QP,
    context: *mut c_void,
    mr: *mut NDK_MR,
    mw: *mut NDK_MW,
    address: *mut c_void,
    length: usize,
    flags: u32,
) -> NTSTATUS {
    let Some(hook) = enter(qp.cast(), Kind::Qp, &NdkBind) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    let (Some(region), Some(window)) = (hook.argument(mr, Kind::Mr), hook.argument(mw, Kind::Mw))
    else {
        return STATUS_INVALID_PARAMETER;
    };
    let bindings = &part(&hook).bindings;
    if length > 0 {
        bindings.post(&window, &region, context);
    } else {
        // That opens nothing, and so needs nothing of the region.
        mw::unbind(&window);
    }
    let table = hook.object.table::<NDK_QP_DISPATCH>();
    let status = initiate(&hook, context, flags, || {
        // SAFETY: the provider's table; called as the consumer called.
        unsafe { ((*table).NdkBind)(qp, context, mr, mw, address, length, flags) }
    });
    if status != STATUS_SUCCESS {
        bindings.reject(context);
    }
    status
}

unsafe extern "efiapi" fn fast_register(
    qp: *mut NDK_QP,
    context: *mut c_void,
    mr: *mut NDK_MR,
    pages: u32,
    array: *const NDK_LOGICAL_ADDRESS,
    offset: u32,
    length: usize,
    base: *mut c_void,
    flags: u32,
) -> NTSTATUS {
    let Some(hook) = enter(qp.cast(), Kind::Qp, &NdkFastRegister) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    let Some(region) = hook.argument(mr, Kind::Mr) else {
        return STATUS_INVALID_PARAMETER;
    };
    if pages > 0 && hook.null(array, "the page array") {
        return STATUS_INVALID_PARAMETER;
    }
    mr::check_kind(&hook, &region, true);
    // SAFETY: the consumer's array; not null if it has elements.
    let array_of = |index| unsafe { *array.add(index) };
    let all = (0..pages as usize).map(array_of);
    lam::check_pages(
        &hook,
        &part(&hook).pd,
        all.map(NDK_LOGICAL_ADDRESS::cast_unsigned),
    );
    let table = hook.object.table::<NDK_QP_DISPATCH>();
    initiate(&hook, context, flags, || {
        // SAFETY: the provider's table; called as the consumer called.
        unsafe {
            ((*table).NdkFastRegister)(qp, context, mr, pages, array, offset, length, base, flags)
        }
    })
}

unsafe extern "efiapi" fn invalidate(
    qp: *mut NDK_QP,
    context: *mut c_void,
    object: *mut NDK_OBJECT_HEADER,
    flags: u32,
) -> NTSTATUS {
    let Some(hook) = enter(qp.cast(), Kind::Qp, &NdkInvalidate) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    if hook.null(object, "the object") {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: the consumer passes an object.
    let kind = match unsafe { (*object).ObjectType } {
        NdkObjectTypeMw => Kind::Mw,
        _ => Kind::Mr,
    };
    let Some(argument) = hook.argument(object, kind) else {
        return STATUS_INVALID_PARAMETER;
    };
    if kind == Kind::Mw {
        mw::unbind(&argument);
    } else {
        mr::check_kind(&hook, &argument, true);
        mr::invalidate(&argument);
    }
    let table = hook.object.table::<NDK_QP_DISPATCH>();
    initiate(&hook, context, flags, || {
        // SAFETY: the provider's table; called as the consumer called.
        unsafe { ((*table).NdkInvalidate)(qp, context, object, flags) }
    })
}

unsafe extern "efiapi" fn read(
    qp: *mut NDK_QP,
    context: *mut c_void,
    sgl: *const NDK_SGE,
    count: u32,
    address: u64,
    token: u32,
    flags: u32,
) -> NTSTATUS {
    let Some(hook) = enter(qp.cast(), Kind::Qp, &NdkRead) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    if no_list(&hook, sgl, count) {
        return STATUS_INVALID_PARAMETER;
    }
    let table = hook.object.table::<NDK_QP_DISPATCH>();
    // SAFETY: the consumer's list.
    let list = unsafe { elements(sgl, count) };
    if flags & NDK_OP_FLAG_RDMA_READ_LOCAL_INVALIDATE != 0 {
        let names = |token| list.clone().any(|element| element.token == token);
        mr::invalidate_those(&part(&hook).pd, |mr| mr.token().is_some_and(names));
    }
    transfer(&hook, context, list, flags, || {
        // SAFETY: the provider's table; called as the consumer called.
        unsafe { ((*table).NdkRead)(qp, context, sgl, count, address, token, flags) }
    })
}

unsafe extern "efiapi" fn write(
    qp: *mut NDK_QP,
    context: *mut c_void,
    sgl: *const NDK_SGE,
    count: u32,
    address: u64,
    token: u32,
    flags: u32,
) -> NTSTATUS {
    let Some(hook) = enter(qp.cast(), Kind::Qp, &NdkWrite) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    if no_list(&hook, sgl, count) {
        return STATUS_INVALID_PARAMETER;
    }
    let table = hook.object.table::<NDK_QP_DISPATCH>();
    // SAFETY: the consumer's list.
    let list = unsafe { elements(sgl, count) };
    transfer(&hook, context, list, flags, || {
        // SAFETY: the provider's table; called as the consumer called.
        unsafe { ((*table).NdkWrite)(qp, context, sgl, count, address, token, flags) }
    })
}
