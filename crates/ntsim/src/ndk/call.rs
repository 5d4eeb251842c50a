//! Functions that may pend: creating, requests and closing, from the call to the completion callback.
//!
//! Each completion callback is replaced by one of this layer's, whose context is the handle of a [`Call`]: it knows what was
//! called, on what, and what the consumer wanted.

use std::cell::{Cell, UnsafeCell};
use std::rc::Rc;

use ndkpi::status::*;
use ndkpi::*;

use super::callback::Callback;
use super::hook::{Hook, enter};
use super::object::{Kind, Object, Part, State, layer_if_any, with_layer};
use super::rules;
use super::slab::Handle;
use super::trail;
use crate::consumer::Status;
use crate::verifier::{Function, place, violation};
use crate::world::driver::DriverNumber;
use crate::world::frame::Frame;
use crate::world::processor::{DISPATCH, PASSIVE};

/// What the consumer wants to be called when a function that pended is done.
#[derive(Clone, Copy)]
pub(super) enum Completion {
    Create(NDK_FN_CREATE_COMPLETION),
    Request(NDK_FN_REQUEST_COMPLETION),
    Close(NDK_FN_CLOSE_COMPLETION),
}

impl Completion {
    fn function(self) -> &'static Function {
        match self {
            Completion::Create(_) => &CREATE_COMPLETION,
            Completion::Request(_) => &REQUEST_COMPLETION,
            Completion::Close(_) => &CLOSE_COMPLETION,
        }
    }
}

/// What to do when a request is done, before the consumer is told.
pub(super) type Then = Box<dyn FnOnce(NTSTATUS)>;

/// A function that may pend, from its call to the completion.
pub(super) struct Call {
    handle: Handle,
    function: &'static Function,
    /// On what it was called.
    object: Rc<Object>,
    /// What a create makes.
    child: Option<Rc<Object>>,
    completion: Completion,
    context: *mut c_void,
    /// Where the context lies, if that is the caller's stack.
    frame: Option<Frame>,
    consumer: DriverNumber,
    /// When it was called.
    since: u64,
    /// What the function returned, once it has.
    returned: Cell<Option<NTSTATUS>>,
    /// How often the completion was called.
    completed: Cell<u32>,
    /// It has returned.
    released: Cell<bool>,
    /// Out parameter of a create. The provider has its address.
    out: UnsafeCell<*mut c_void>,
    then: Cell<Option<Then>>,
}

/// What lies in an out parameter that was not written.
fn untouched() -> *mut c_void {
    std::ptr::without_provenance_mut(0xffff_eeee_dead_0b1e_u64 as usize)
}

impl Call {
    fn new(
        hook: &Hook,
        child: Option<&Rc<Object>>,
        completion: Completion,
        context: *mut c_void,
        then: Option<Then>,
    ) -> Rc<Call> {
        with_layer(|layer| {
            layer.calls.insert(|handle| Call {
                handle,
                function: hook.function,
                object: Rc::clone(&hook.object),
                child: child.cloned(),
                completion,
                context,
                frame: Frame::of(context.addr()),
                consumer: hook.consumer,
                since: place().time,
                returned: Cell::new(None),
                completed: Cell::new(0),
                released: Cell::new(false),
                out: UnsafeCell::new(untouched()),
                then: Cell::new(then),
            })
        })
    }

    fn retire(&self) {
        with_layer(|l| l.calls.retire(self.handle));
    }

    /// The function has returned. True if that was the end of it: no callback is to come or has come.
    fn returns(&self, status: NTSTATUS) -> bool {
        self.returned.set(Some(status));
        if self.released.get() || status != STATUS_PENDING && self.completed.get() == 0 {
            self.retire();
        }
        if status == STATUS_PENDING {
            return false;
        }
        if self.completed.get() > 0 {
            violation(
                rules::COMPLETION_NOT_PENDING,
                format!(
                    "{} returned {} although its completion callback was called",
                    self.story(),
                    Status(status)
                ),
            );
            return false;
        }
        true
    }

    /// The out parameter must not have been written.
    fn check_untouched(&self) {
        // SAFETY: the provider may only write it while its function runs, which is not now.
        let out = unsafe { self.out.get().read() };
        if self.child.is_some() && out != untouched() {
            violation(
                rules::OUT_AFTER_PENDING,
                format!(
                    "{} returned STATUS_PENDING and wrote {out:p} to its out parameter",
                    self.story()
                ),
            );
            // SAFETY: as above. One accusation is enough.
            unsafe { self.out.get().write(untouched()) };
        }
    }

    fn story(&self) -> String {
        format!("{} on {}", self.function.name, self.object)
    }

    /// Whether the consumer can be told: whether the context is still there.
    fn has_context(&self) -> bool {
        let gone = self.frame.as_ref().is_some_and(Frame::is_gone);
        if gone {
            violation(
                rules::CONSUMER_CONTEXT,
                format!(
                    "{} completes, but its context {:p} lay on a stack in a frame that is gone: its callback is not called",
                    self.story(),
                    self.context
                ),
            );
        }
        !gone
    }

    fn done(&self, status: NTSTATUS) {
        if let Some(then) = self.then.take() {
            then(status);
        }
    }

    /// The consumer is about to be told.
    fn told(&self, callback: &Callback, status: Option<NTSTATUS>) {
        let of = Some(self.function);
        trail::told(&self.object, callback.function, of, status);
    }

    /// The completion has returned.
    fn release(&self) {
        self.released.set(true);
        if self.returned.get().is_some() {
            self.retire();
        }
    }
}

/// More of them say no more.
const LISTED: usize = 16;

/// The requests and creates that pend, oldest first, for reports of waits that never end.
pub(crate) fn pending_calls() -> Vec<String> {
    let mut pending = layer_if_any(|layer| layer.calls.values()).unwrap_or_default();
    pending.retain(|call| {
        call.returned.get() == Some(STATUS_PENDING)
            && call.completed.get() == 0
            && !matches!(call.completion, Completion::Close(_))
    });
    pending.sort_by_key(|call| call.since);
    let more = pending.len().saturating_sub(LISTED);
    let mut lines: Vec<_> = pending
        .iter()
        .take(LISTED)
        .map(|call| format!("{} pends since {} ns", call.story(), call.since))
        .collect();
    if more > 0 {
        lines.push(format!("and {more} more pend"));
    }
    lines
}

/// Calls a function with a request completion. `f` gets the completion and the context for the provider; `then` runs
/// when the request is done, before the consumer knows.
pub(super) fn request(
    hook: &Hook,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
    then: Option<Then>,
    f: impl FnOnce(NDK_FN_REQUEST_COMPLETION, *mut c_void) -> NTSTATUS,
) -> NTSTATUS {
    let call = Call::new(hook, None, Completion::Request(completion), context, then);
    let object = &hook.object;
    object.requests.set(object.requests.get() + 1);
    let status = hook.call(|| f(on_request, call.handle.context()));
    if call.returns(status) {
        object.requests.set(object.requests.get() - 1);
        call.done(status);
    }
    status
}

/// Calls a function that creates `child`. `f` gets completion, context and out parameter for the provider.
///
/// # Safety
/// `out` is null or valid for a write.
pub(super) unsafe fn create<T>(
    hook: &Hook,
    child: &Rc<Object>,
    completion: NDK_FN_CREATE_COMPLETION,
    context: *mut c_void,
    out: *mut *mut T,
    f: impl FnOnce(NDK_FN_CREATE_COMPLETION, *mut c_void, *mut *mut T) -> NTSTATUS,
) -> NTSTATUS {
    if hook.null(out, "the out parameter") {
        child.forget();
        return STATUS_INVALID_PARAMETER;
    }
    let call = Call::new(
        hook,
        Some(child),
        Completion::Create(completion),
        context,
        None,
    );
    let object = &hook.object;
    object.requests.set(object.requests.get() + 1);
    let status = hook.call(|| f(on_create, call.handle.context(), call.out.get().cast()));
    if status == STATUS_PENDING {
        call.check_untouched();
    }
    if !call.returns(status) {
        return status;
    }
    object.requests.set(object.requests.get() - 1);
    if status != STATUS_SUCCESS {
        child.forget();
        return status;
    }
    // SAFETY: the provider's function has returned.
    let made = unsafe { call.out.get().read() };
    if made.is_null() || made == untouched() {
        violation(
            rules::CREATE_WITHOUT_OBJECT,
            format!("{} returned STATUS_SUCCESS without an object", call.story()),
        );
        child.forget();
        return STATUS_INTERNAL_ERROR;
    }
    if !child.adopt(made.cast()) {
        child.forget();
        return STATUS_INTERNAL_ERROR;
    }
    // SAFETY: the caller's promise.
    unsafe { out.write(made.cast()) };
    STATUS_SUCCESS
}

impl Callback {
    /// The call whose handle was given as the context of a completion callback. None, and an accusation, if it must
    /// not be completed.
    fn call(&self, context: *mut c_void) -> Option<Rc<Call>> {
        let name = self.function.name;
        let call = with_layer(|l| l.calls.get(Handle::from_context(context)));
        let call = call.filter(|c| std::ptr::eq(c.completion.function(), self.function));
        let Some(call) = call else {
            violation(
                rules::CALLBACK_CONTEXT,
                format!("{name} is called with context {context:p}, which was not given with it"),
            );
            return None;
        };
        call.completed.set(call.completed.get() + 1);
        let times = call.completed.get();
        match call.returned.get() {
            Some(status) if status != STATUS_PENDING => {
                violation(
                    rules::COMPLETION_NOT_PENDING,
                    format!(
                        "{name} is called for {}, which returned {}",
                        call.story(),
                        Status(status)
                    ),
                );
                return None;
            }
            _ if times > 1 => {
                violation(
                    rules::COMPLETION_TWICE,
                    format!(
                        "{name} is called for {} for the {times}. time",
                        call.story()
                    ),
                );
                return None;
            }
            _ => {}
        }
        self.check(&call.object).then_some(call)
    }

    fn final_status(&self, call: &Call, status: NTSTATUS) {
        if status == STATUS_PENDING {
            violation(
                rules::COMPLETION_STATUS,
                format!(
                    "{} for {} has status STATUS_PENDING",
                    self.function.name,
                    call.story()
                ),
            );
        }
    }
}

static CREATE_COMPLETION: Function =
    Function::export("", "NdkCreateCompletion", PASSIVE..=DISPATCH);
static REQUEST_COMPLETION: Function =
    Function::export("", "NdkRequestCompletion", PASSIVE..=DISPATCH);
static CLOSE_COMPLETION: Function = Function::export("", "NdkCloseCompletion", PASSIVE..=DISPATCH);

unsafe extern "efiapi" fn on_request(context: *mut c_void, status: NTSTATUS) {
    let callback = Callback::enter(&REQUEST_COMPLETION);
    let Some(call) = callback.call(context) else {
        return;
    };
    callback.final_status(&call, status);
    call.done(status);
    if let Completion::Request(completion) = call.completion
        && call.has_context()
    {
        call.told(&callback, Some(status));
        // SAFETY: the consumer's callback and its context.
        callback.pass_on(call.consumer, completion as *const (), || unsafe {
            completion(call.context, status)
        });
    }
    call.object.requests.set(call.object.requests.get() - 1);
    call.release();
}

unsafe extern "efiapi" fn on_create(
    context: *mut c_void,
    mut status: NTSTATUS,
    mut header: *mut NDK_OBJECT_HEADER,
) {
    let callback = Callback::enter(&CREATE_COMPLETION);
    let Some(call) = callback.call(context) else {
        return;
    };
    callback.final_status(&call, status);
    if call.returned.get().is_some() {
        call.check_untouched();
    }
    if let Some(child) = &call.child {
        if status == STATUS_SUCCESS && header.is_null() {
            violation(
                rules::CREATE_WITHOUT_OBJECT,
                format!(
                    "{} completes with STATUS_SUCCESS without an object",
                    call.story()
                ),
            );
            status = STATUS_INTERNAL_ERROR;
        }
        if status == STATUS_SUCCESS && !child.adopt(header) {
            status = STATUS_INTERNAL_ERROR;
            header = std::ptr::null_mut();
        }
        if status != STATUS_SUCCESS {
            child.forget();
        }
    }
    if let Completion::Create(completion) = call.completion
        && call.has_context()
    {
        call.told(&callback, Some(status));
        // SAFETY: the consumer's callback and its context.
        callback.pass_on(call.consumer, completion as *const (), || unsafe {
            completion(call.context, status, header)
        });
    }
    call.object.requests.set(call.object.requests.get() - 1);
    call.release();
}

unsafe extern "efiapi" fn on_close(context: *mut c_void) {
    let callback = Callback::enter(&CLOSE_COMPLETION);
    let Some(call) = callback.call(context) else {
        return;
    };
    let object = &call.object;
    object.check_may_close("completes");
    check_overtaken(object);
    object.closed();
    if let Completion::Close(completion) = call.completion
        && call.has_context()
    {
        call.told(&callback, None);
        // SAFETY: the consumer's callback and its context.
        callback.pass_on(call.consumer, completion as *const (), || unsafe {
            completion(call.context)
        });
    }
    object.gone();
    call.release();
}

/// The close of an object pends: no object that it depends on may have been closed meanwhile.
fn check_overtaken(object: &Object) {
    for antecedent in std::mem::take(&mut *object.overtaken_by.borrow_mut()) {
        violation(
            rules::CLOSE_BEFORE_SUCCESSORS,
            format!(
                "close of {antecedent} was finished before {}, whose close pends",
                object.story()
            ),
        );
    }
}

/// `NdkCloseXxx` of every kind: slot 0.
pub(super) fn close(
    header: *mut NDK_OBJECT_HEADER,
    kind: Kind,
    function: &'static Function,
    completion: NDK_FN_CLOSE_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    let Some(hook) = enter(header, kind, function) else {
        return STATUS_SUCCESS;
    };
    let object = &hook.object;
    object.state.set(State::Closing);
    object.in_close.set(true);
    if let Part::Qp(part) = &object.part {
        part.leave_windows();
    }
    let call = Call::new(&hook, None, Completion::Close(completion), context, None);
    // SAFETY: the close function is the first of the table, as checked when the object was adopted.
    let original = unsafe { object.table::<NDK_FN_CLOSE_OBJECT>().read() };
    // SAFETY: called as the consumer called.
    let status = hook.call(|| unsafe { original(header, on_close, call.handle.context()) });
    object.in_close.set(false);
    let over = call.returns(status);
    match status {
        STATUS_PENDING => check_overtaken(object),
        STATUS_SUCCESS => {}
        _ => violation(
            rules::CLOSE_STATUS,
            format!("{} on {object} returned {}", function.name, Status(status)),
        ),
    }
    if over {
        object.check_may_close("returns");
        object.closed();
        object.gone();
    }
    status
}
