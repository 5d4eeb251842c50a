//! Answers that consumers hear later than providers give them.
//!
//! Where a function may pend, a provider may answer either way each time (pages of NDK_FN_CREATE_COMPLETION,
//! NDK_FN_REQUEST_COMPLETION and NDK_FN_CLOSE_COMPLETION), and one that mostly answers at once leaves the other way of its consumers
//! untested. So in worlds that ask for it the layer keeps one in so many of those answers, returns STATUS_PENDING, and tells the consumer
//! by its callback, from a DPC: perhaps before the function has returned, perhaps much later.
//!
//! To the provider all is over when it has answered; the consumer must see the order that it is promised. So the close of an object
//! is kept too while the consumer was not told of all that is on the object: requests, creates, and closes of what depends on it; and
//! of the requests of an object it hears in the order in which they were answered. (But of those of the adapter, which are of many
//! mappings.) It hears of a connection before it hears of its end, and of what comes over it: only who holds a spin lock while it takes
//! results may find one there first. The close of the adapter waits for everything.

use std::rc::Rc;

use ndkpi::status::*;
use ndkpi::*;

use super::call::{Call, Completion, When};
use super::callback::Callback;
use super::hook::Hook;
use super::object::{Kind, Layer, Object, State, with_layer};
use super::rules;
use super::slab::Handle;
use crate::verifier::violation;
use crate::world::context;
use crate::world::processor::Dpc;
use crate::world::wait::wait_until;

/// An answer that was kept.
#[derive(Clone, Copy)]
pub(super) struct Late {
    status: NTSTATUS,
    /// What a create made.
    made: *mut NDK_OBJECT_HEADER,
}

/// Most answers that come later come within so many nanoseconds.
const SOON: u64 = 20_000;
/// And all of them within so many.
const LATE: u64 = 2_000_000;

/// Whether a status may come by a completion callback: success, and the failures that are documented for both ways.
fn may_pend(status: NTSTATUS) -> bool {
    matches!(
        status,
        STATUS_SUCCESS
            | STATUS_INSUFFICIENT_RESOURCES
            | STATUS_SHARING_VIOLATION
            | STATUS_INVALID_ADDRESS
            | STATUS_IO_TIMEOUT
            | STATUS_CONNECTION_REFUSED
            | STATUS_CONNECTION_ABORTED
            | STATUS_NETWORK_UNREACHABLE
            | STATUS_HOST_UNREACHABLE
    )
}

fn is_close(call: &Call) -> bool {
    matches!(call.completion, Completion::Close(_))
}

/// Whether the consumer hears of it in the order of the object's requests. Creates make objects that do not know of each other.
fn in_order(call: &Call) -> bool {
    matches!(call.completion, Completion::Request(_)) && call.object.kind != Kind::Adapter
}

/// The object's requests of which the consumer was not told, in the order of their answers.
fn kept_requests(object: &Object) -> Vec<Rc<Call>> {
    if object.late.get() == 0 {
        return Vec::new();
    }
    with_layer(|layer| {
        let late = layer.late.borrow();
        let requests = late.iter().filter(|call| in_order(call));
        requests
            .filter(|call| call.object.handle == object.handle)
            .cloned()
            .collect()
    })
}

/// A provider has answered at once. What the consumer's call returns: that, or STATUS_PENDING if it will be told.
pub(super) fn answer(call: &Rc<Call>, status: NTSTATUS, made: *mut NDK_OBJECT_HEADER) -> NTSTATUS {
    let by_chance = || {
        let core = context::core();
        core.pend != 0 && may_pend(status) && core.pend_rng.below(u64::from(core.pend)) == 0
    };
    let behind = || in_order(call) && may_pend(status) && !kept_requests(&call.object).is_empty();
    if is_close(call) && must_wait(&call.object) || behind() || by_chance() {
        keep(call, status, made);
        return STATUS_PENDING;
    }
    call.done(When::Told, status);
    call.retire();
    status
}

/// Whether the consumer must be told of something else before it is told that the object is closed.
pub(super) fn must_wait(object: &Rc<Object>) -> bool {
    if context::core().pend == 0 {
        return false;
    }
    // Its own close is no obstacle.
    let own = u32::from(object.kept.get());
    object.late.get() > own
        || object.successors.get() > 0
            && object
                .live_successors()
                .iter()
                .any(|s| s.in_close.get() || s.kept.get())
}

/// Keeps an answer for later.
pub(super) fn keep(call: &Rc<Call>, status: NTSTATUS, made: *mut NDK_OBJECT_HEADER) {
    call.late.set(Some(Late { status, made }));
    let object = &call.object;
    object.late.update(|late| late + 1);
    object.provider.late.update(|late| late + 1);
    if is_close(call) {
        object.kept.set(true);
    }
    with_layer(|layer| layer.late.borrow_mut().push(Rc::clone(call)));
    let core = context::core();
    let within = match core.pend_rng.below(4) {
        0 => return interrupt(call),
        1 => LATE,
        _ => SOON,
    };
    tell_at(call, core.now() + core.pend_rng.below(within));
}

fn tell_at(call: &Rc<Call>, at: u64) {
    let core = context::core();
    let machine = core.machine(call.object.provider.machine);
    let call = Rc::clone(call);
    core.schedule_on(&machine, at, move || interrupt(&call));
}

/// Has the consumer told by a DPC on any processor of its machine. On this one it may run at once.
fn interrupt(call: &Call) {
    let core = context::core();
    let machine = core.machine(call.object.provider.machine);
    let processor = core.pend_rng.below(machine.processors.len() as u64) as u32;
    let dpc = Dpc {
        object: call.handle.bits(),
        run: |bits| {
            let handle = Handle::from_context(std::ptr::without_provenance_mut(bits));
            let Some(call) = with_layer(|layer| layer.calls.get(handle)) else {
                return;
            };
            if is_close(&call) && must_wait(&call.object) {
                call.waits.set(true);
                return;
            }
            if in_order(&call) {
                let requests = kept_requests(&call.object);
                let before = requests.iter().take_while(|c| !Rc::ptr_eq(c, &call));
                before.for_each(tell);
            }
            tell(&call);
        },
    };
    machine.queue_dpc(processor, dpc, false);
}

/// Tells the consumer, unless it has been told.
fn tell(call: &Rc<Call>) {
    let Some(late) = call.late.take() else { return };
    with_layer(|layer| layer.late.borrow_mut().retain(|c| !Rc::ptr_eq(c, call)));
    let object = &call.object;
    let callback = Callback::enter(call.completion.function());
    if is_close(call) {
        object.ended();
    }
    call.tell(&callback, late.status, late.made);
    drop(callback);
    if is_close(call) {
        object.kept.set(false);
        object.gone();
    }
    object.late.update(|late| late - 1);
    object.provider.late.update(|late| late - 1);
    call.retire();
    look_again();
}

/// Something is over that a close may have had to wait for.
pub(super) fn look_again() {
    let ready: Vec<_> = with_layer(|layer| {
        let late = layer.late.borrow();
        let waiting = late.iter().filter(|call| call.waits.get());
        waiting
            .filter(|call| !must_wait(&call.object))
            .cloned()
            .collect()
    });
    for call in ready {
        call.waits.set(false);
        tell_at(&call, context::core().now() + SOON);
    }
}

/// Tells the consumer of an object's requests before something else about it. At or below DISPATCH_LEVEL.
pub(super) fn tell_now(object: &Object) {
    kept_requests(object).iter().for_each(tell);
}

/// Tells the consumer of the connections whose results the completion queue gets. At or below DISPATCH_LEVEL.
#[inline]
pub(super) fn tell_connections(cq: &Object) {
    if cq.provider.late.get() > 0 {
        tell_those_connections(cq);
    }
}

#[cold]
fn tell_those_connections(cq: &Object) {
    let connections: Vec<_> = with_layer(|layer| {
        let late = layer.late.borrow();
        let requests = late.iter().filter(|call| in_order(call));
        requests
            .filter(|call| call.object.is_connection_on(cq))
            .cloned()
            .collect()
    });
    connections.iter().for_each(tell);
}

/// Accuses the consumer if it relies on one of these functions of the object, of whose success it has not been told.
pub(super) fn check_heard(hook: &Hook, functions: &[&str]) {
    let unheard = kept_requests(&hook.object).into_iter().find(|call| {
        let succeeded = call.late.get().is_some_and(|l| l.status == STATUS_SUCCESS);
        succeeded && functions.contains(&call.function.name)
    });
    if let Some(call) = unheard {
        violation(
            rules::CONSUMER,
            format!(
                "{} is called on {} although {} pends, whose success it presupposes",
                hook.function.name, hook.object, call.function.name
            ),
        );
    }
}

/// Waits until the consumer of an adapter was told everything, and its callbacks have returned. PASSIVE_LEVEL if there is anything.
pub(super) fn wait(adapter: &Object) {
    let late = || adapter.provider.late.get();
    wait_until(
        || late() == 0,
        None,
        format!("the close of {adapter} waits for {} callback(s)", late()),
    );
}

/// The objects that are closed and whose consumers do not know.
pub(super) fn closed(layer: &Layer) -> Vec<Rc<Object>> {
    let late = layer.late.borrow();
    let closes = late.iter().filter(|call| is_close(call));
    closes
        .map(|call| Rc::clone(&call.object))
        .filter(|object| object.state.get() == State::Closed)
        .collect()
}
