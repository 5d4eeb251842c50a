//! Answers that consumers hear later than providers give them.
//!
//! Where a function may pend, a provider may answer either way each time (pages of NDK_FN_CREATE_COMPLETION,
//! NDK_FN_REQUEST_COMPLETION and NDK_FN_CLOSE_COMPLETION), and one that mostly answers at once leaves the other way of its consumers
//! untested. So in worlds that ask for it the layer keeps one in so many of those answers, returns STATUS_PENDING, and tells the consumer
//! by its callback, from a DPC: perhaps before the function has returned, perhaps much later.
//!
//! To the provider all is over when it has answered; the consumer must see the order that it is promised. So the close of an object
//! is kept too while the consumer was not told of all that is on the object: requests, creates, and closes of what depends on it. It
//! hears of a connection before it hears of its end, and the close of the adapter waits for everything.

use std::rc::Rc;

use ndkpi::status::*;
use ndkpi::*;

use super::call::{Call, Completion, When};
use super::callback::Callback;
use super::object::{Layer, Object, State, with_layer};
use super::slab::Handle;
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
/// When to look again whether what must come first has come.
const AGAIN: u64 = 1_000;

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

/// A provider has answered at once. What the consumer's call returns: that, or STATUS_PENDING if it will be told.
pub(super) fn answer(call: &Rc<Call>, status: NTSTATUS, made: *mut NDK_OBJECT_HEADER) -> NTSTATUS {
    let by_chance = || {
        let core = context::core();
        core.pend != 0 && may_pend(status) && core.pend_rng.below(u64::from(core.pend)) == 0
    };
    if is_close(call) && must_wait(&call.object) || by_chance() {
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
                tell_at(&call, context::core().now() + AGAIN);
            } else {
                tell(&call);
            }
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
}

/// Tells the consumer all that is to be told before something else about an object. At or below DISPATCH_LEVEL.
pub(super) fn tell_now(object: &Rc<Object>) {
    if object.late.get() == 0 {
        return;
    }
    let calls: Vec<_> = with_layer(|layer| {
        let late = layer.late.borrow();
        late.iter()
            .filter(|c| Rc::ptr_eq(&c.object, object) && !is_close(c))
            .cloned()
            .collect()
    });
    calls.iter().for_each(tell);
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
