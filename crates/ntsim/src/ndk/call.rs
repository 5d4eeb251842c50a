//! Functions that may pend: creating, requests and closing, from the call to the completion callback.
//!
//! Each completion callback is replaced by one of this layer's, whose context is the handle of a [`Call`]: it knows what was
//! called, on what, and what the consumer wanted. What a provider answers at once, [`late`] may keep for a callback.

use std::cell::{Cell, UnsafeCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use ndkpi::status::*;
use ndkpi::*;

use super::callback::Callback;
use super::connector;
use super::hook::{Hook, enter};
use super::late::{self, Late};
use super::object::{Kind, Object, Part, State, layer_if_any, with_layer};
use super::rules;
use super::slab::Handle;
use super::trail;
use crate::consumer::Status;
use crate::exports::lists_wait;
use crate::verifier::{Function, place, violation};
use crate::world::Core;
use crate::world::driver::DriverNumber;
use crate::world::frame::Frame;
use crate::world::machine::MachineId;
use crate::world::overdue::Overdue;
use crate::world::processor::{DISPATCH, PASSIVE};

/// What the consumer wants to be called when a function that pended is done.
#[derive(Clone, Copy)]
pub(super) enum Completion {
    Create(NDK_FN_CREATE_COMPLETION),
    Request(NDK_FN_REQUEST_COMPLETION),
    Close(NDK_FN_CLOSE_COMPLETION),
}

impl Completion {
    pub(super) fn function(self) -> &'static Function {
        match self {
            Completion::Create(_) => &CREATE_COMPLETION,
            Completion::Request(_) => &REQUEST_COMPLETION,
            Completion::Close(_) => &CLOSE_COMPLETION,
        }
    }
}

/// What to do when a request is done, before the consumer is told.
pub(super) type Then = Box<dyn FnOnce(NTSTATUS)>;

/// When that is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// When the provider answers.
    Answered,
    /// When the consumer is about to be told, which may be later: until then it may rely on nothing.
    Told,
}

/// A function that may pend, from its call to the completion.
pub(super) struct Call {
    pub(super) handle: Handle,
    pub(super) function: &'static Function,
    /// On what it was called.
    pub(super) object: Rc<Object>,
    /// What a create makes.
    child: Option<Rc<Object>>,
    pub(super) completion: Completion,
    pub(super) context: *mut c_void,
    /// Where the context lies, if that is the caller's stack.
    pub(super) frame: Option<Frame>,
    /// The context lay in memory that has been freed.
    pub(super) freed: Cell<bool>,
    consumer: DriverNumber,
    /// When it was called.
    pub(super) since: u64,
    /// What the function returned, once it has.
    returned: Cell<Option<NTSTATUS>>,
    /// How often the completion was called.
    completed: Cell<u32>,
    /// It has returned.
    released: Cell<bool>,
    /// Out parameter of a create. The provider has its address.
    out: UnsafeCell<*mut c_void>,
    then: Cell<Option<(When, Then)>>,
    /// What the provider has answered and the consumer has not been told.
    pub(super) late: Cell<Option<Late>>,
    /// A close that is told of when something else is over.
    pub(super) waits: Cell<bool>,
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
        then: Option<(When, Then)>,
    ) -> Rc<Call> {
        with_layer(|layer| {
            let call = layer.calls.insert(|handle| Call {
                handle,
                function: hook.function,
                object: Rc::clone(&hook.object),
                child: child.cloned(),
                completion,
                context,
                frame: Frame::of(context.addr()),
                freed: Cell::new(false),
                consumer: hook.consumer,
                since: place().time,
                returned: Cell::new(None),
                completed: Cell::new(0),
                released: Cell::new(false),
                out: UnsafeCell::new(untouched()),
                then: Cell::new(then),
                late: Cell::new(None),
                waits: Cell::new(false),
            });
            layer.contexts.add(&call);
            call
        })
    }

    pub(super) fn retire(&self) {
        with_layer(|layer| {
            layer.contexts.remove(self);
            layer.calls.retire(self.handle);
        });
    }

    /// The function has returned. True if that was the end of it: no callback of the provider is to come or has come.
    fn returns(&self, status: NTSTATUS) -> bool {
        self.returned.set(Some(status));
        if self.released.get() {
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

    pub(super) fn story(&self) -> String {
        format!("{} on {}", self.function.name, self.object)
    }

    /// Where it was made, if that is known.
    pub(super) fn called_in(&self) -> String {
        match self.frame.as_ref().map(Frame::place) {
            Some(place) if !place.is_empty() => format!("; it was made in {place}"),
            _ => String::new(),
        }
    }

    /// Whether the consumer can be told: whether the context is still there.
    fn has_context(&self) -> bool {
        let gone = self.frame.as_ref().is_some_and(Frame::is_gone);
        if gone {
            violation(
                rules::CONSUMER_CONTEXT,
                format!(
                    "{} completes, but its context {:p} lay on a stack in a frame that is gone: its callback is not called{}",
                    self.story(),
                    self.context,
                    self.called_in()
                ),
            );
        }
        !gone && !self.freed.get()
    }

    /// Does what is to be done then, unless it was done before.
    pub(super) fn done(&self, now: When, status: NTSTATUS) {
        match self.then.take() {
            Some((when, then)) if when == now || now == When::Told => then(status),
            other => self.then.set(other),
        }
    }

    /// Tells the consumer by its callback, which gets the object that a create made, or null.
    pub(super) fn tell(&self, callback: &Callback, status: NTSTATUS, made: *mut NDK_OBJECT_HEADER) {
        self.done(When::Told, status);
        if !self.has_context() {
            return;
        }
        let with = match self.completion {
            Completion::Close(_) => None,
            _ => Some(status),
        };
        trail::told(&self.object, callback.function, Some(self.function), with);
        // SAFETY: the consumer's callback and its context.
        callback.pass_on(
            &self.object.provider,
            self.consumer,
            self.target(),
            || unsafe {
                match self.completion {
                    Completion::Create(completion) => completion(self.context, status, made),
                    Completion::Request(completion) => completion(self.context, status),
                    Completion::Close(completion) => completion(self.context),
                }
            },
        );
    }

    /// The consumer's callback.
    pub(super) fn target(&self) -> *const () {
        match self.completion {
            Completion::Create(completion) => completion as *const (),
            Completion::Request(completion) => completion as *const (),
            Completion::Close(completion) => completion as *const (),
        }
    }

    /// Whether the consumer waits to be told.
    pub(super) fn pends(&self) -> bool {
        self.pends_at_provider() || self.late.get().is_some()
    }

    /// Whether the provider has still to answer.
    fn pends_at_provider(&self) -> bool {
        self.returned.get() == Some(STATUS_PENDING) && self.completed.get() == 0
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
    pending.retain(|call| call.pends() && !matches!(call.completion, Completion::Close(_)));
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

/// The functions of NDK whose calls a machine's provider has still to answer, each once.
pub(crate) fn pending_on(machine: MachineId) -> BTreeSet<&'static str> {
    let calls = layer_if_any(|layer| layer.calls.values()).unwrap_or_default();
    let here = calls
        .iter()
        .filter(|call| call.pends_at_provider() && call.object.provider.machine == machine);
    here.map(|call| call.function.name).collect()
}

/// How long a request may pend of which only the provider is to decide when it is over, in nanoseconds.
const LOCAL: u64 = 10 * 1_000_000_000;

impl Call {
    /// How long it may pend. What waits for a peer, or for resources that others have, has longer than any timeout; and so has a close, which
    /// may wait for a NIC that has stopped.
    fn patience(&self, overdue: Overdue) -> u64 {
        let is_close = matches!(self.completion, Completion::Close(_));
        let others = matches!(self.object.kind, Kind::Connector | Kind::Adapter);
        match is_close || others {
            true => overdue.patience(),
            false => overdue.patience().min(LOCAL),
        }
    }

    /// Whether the provider alone could end it, and has let it pend for too long.
    fn is_overdue(&self, core: &Core, overdue: Overdue, unanswered: bool) -> bool {
        let object = &self.object;
        let owed = match self.completion {
            Completion::Close(_) => overdue.is_waited_for() && object.held_by().is_empty(),
            // What a close waits for is told where somebody waits for the close.
            _ => overdue.is_waited_for() || object.state.get() == State::Open,
        };
        let machine = core.machine(object.provider.machine);
        let excused = || {
            super::is_asleep(&machine)
                || lists_wait(&machine)
                || unanswered && connector::waits_for_consumer(self.function)
        };
        self.pends_at_provider()
            && owed
            && core.now().saturating_sub(self.since) >= self.patience(overdue)
            && !excused()
    }
}

/// Accuses providers of requests, creates and closes that they will not complete.
pub(crate) fn accuse(core: &Core, overdue: Overdue) {
    let Some((mut calls, known)) = layer_if_any(|layer| (layer.calls.values(), layer.known()))
    else {
        return;
    };
    // What two providers have to do with each other only they know: any consumer may be the one that is waited for.
    let unanswered = connector::is_any_unanswered(&known);
    // A consumer that waits in a callback may hold up what its machine's providers do, for whichever of their objects.
    let is_held_up = |machine| {
        let mut providers = known.iter().map(|object| &object.provider);
        providers.any(|p| p.machine == machine && p.telling.get() > 0)
    };
    calls.retain(|call| {
        call.is_overdue(core, overdue, unanswered) && !is_held_up(call.object.provider.machine)
    });
    calls.sort_by_key(|call| call.since);
    for call in calls.iter().take(LISTED) {
        violation(
            rules::COMPLETION_NEVER,
            format!(
                "{} returned STATUS_PENDING at {} ns and is not completed at {} ns{overdue}",
                call.story(),
                call.since,
                core.now(),
            ),
        );
    }
}

/// Calls a function with a request completion. `f` gets the completion and the context for the provider; `then` runs
/// when the provider has answered, before the consumer knows.
pub(super) fn request(
    hook: &Hook,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
    then: Option<Then>,
    f: impl FnOnce(NDK_FN_REQUEST_COMPLETION, *mut c_void) -> NTSTATUS,
) -> NTSTATUS {
    let then = then.map(|then| (When::Answered, then));
    request_then(hook, completion, context, then, f)
}

/// As [`request`], for what ends something that the consumer may have in use until it is told.
pub(super) fn request_end(
    hook: &Hook,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
    then: Then,
    f: impl FnOnce(NDK_FN_REQUEST_COMPLETION, *mut c_void) -> NTSTATUS,
) -> NTSTATUS {
    request_then(hook, completion, context, Some((When::Told, then)), f)
}

fn request_then(
    hook: &Hook,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
    then: Option<(When, Then)>,
    f: impl FnOnce(NDK_FN_REQUEST_COMPLETION, *mut c_void) -> NTSTATUS,
) -> NTSTATUS {
    let call = Call::new(hook, None, Completion::Request(completion), context, then);
    let object = &hook.object;
    object.requests.set(object.requests.get() + 1);
    let answered = |status| {
        if !call.returns(status) {
            return status;
        }
        object.requests.set(object.requests.get() - 1);
        call.done(When::Answered, status);
        late::answer(&call, status, std::ptr::null_mut())
    };
    hook.call_and(|| f(on_request, call.handle.context()), answered)
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
    let answered = |status| {
        if status == STATUS_PENDING {
            call.check_untouched();
        }
        if !call.returns(status) {
            return status;
        }
        object.requests.set(object.requests.get() - 1);
        let (status, made) = call.made(status);
        let told = late::answer(&call, status, made);
        if told == STATUS_SUCCESS {
            // SAFETY: the caller's promise.
            unsafe { out.write(made.cast()) };
        }
        told
    };
    hook.call_and(
        || f(on_create, call.handle.context(), call.out.get().cast()),
        answered,
    )
}

impl Call {
    /// Takes over what a create made at once. Its status, and the object if there is one.
    fn made(&self, status: NTSTATUS) -> (NTSTATUS, *mut NDK_OBJECT_HEADER) {
        // SAFETY: the provider's function has returned.
        let made = unsafe { self.out.get().read() };
        let none = std::ptr::null_mut();
        let Some(child) = &self.child else {
            return (status, none);
        };
        let missing = status == STATUS_SUCCESS && (made.is_null() || made == untouched());
        if missing {
            violation(
                rules::CREATE_WITHOUT_OBJECT,
                format!("{} returned STATUS_SUCCESS without an object", self.story()),
            );
        }
        if status == STATUS_SUCCESS && !missing && child.adopt(made.cast()) {
            return (status, made.cast());
        }
        child.forget();
        if status == STATUS_SUCCESS {
            return (STATUS_INTERNAL_ERROR, none);
        }
        (status, none)
    }
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

pub(super) static CREATE_COMPLETION: Function =
    Function::export("", "NdkCreateCompletion", PASSIVE..=DISPATCH);
pub(super) static REQUEST_COMPLETION: Function =
    Function::export("", "NdkRequestCompletion", PASSIVE..=DISPATCH);
pub(super) static CLOSE_COMPLETION: Function =
    Function::export("", "NdkCloseCompletion", PASSIVE..=DISPATCH);

unsafe extern "efiapi" fn on_request(context: *mut c_void, status: NTSTATUS) {
    let callback = Callback::enter(&REQUEST_COMPLETION);
    let Some(call) = callback.call(context) else {
        return;
    };
    callback.final_status(&call, status);
    late::tell_now(&call.object);
    call.tell(&callback, status, std::ptr::null_mut());
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
    call.tell(&callback, status, header);
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
    if late::must_wait(object) {
        late::keep(&call, STATUS_SUCCESS, std::ptr::null_mut());
        return;
    }
    object.ended();
    call.tell(&callback, STATUS_SUCCESS, std::ptr::null_mut());
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
    match &object.part {
        Part::Qp(part) => part.leave_windows(),
        Part::Connector(part) => part.leave(),
        _ => {}
    }
    let call = Call::new(&hook, None, Completion::Close(completion), context, None);
    // SAFETY: the close function is the first of the table, as checked when the object was adopted.
    let original = unsafe { object.table::<NDK_FN_CLOSE_OBJECT>().read() };
    let answered = |status| {
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
        // Not before this one has returned.
        late::look_again();
        if !over {
            return status;
        }
        object.check_may_close("returns");
        object.closed();
        let told = late::answer(&call, status, std::ptr::null_mut());
        if told != STATUS_PENDING {
            object.ended();
            object.gone();
        }
        told
    };
    let context = call.handle.context();
    // SAFETY: called as the consumer called.
    hook.call_and(|| unsafe { original(header, on_close, context) }, answered)
}
