//! Requests that may pend, and the callbacks that end them.

use super::{Result, Status, check, in_kernel};
use crate::World;
use crate::world::context;
use ndis_sys::imports::{KeGetCurrentIrql, KeInitializeEvent, KeSetEvent, KeWaitForSingleObject};
use ndis_sys::wdm::{KEVENT, NotificationEvent, SynchronizationEvent};
use ndkpi::status::{STATUS_PENDING, STATUS_SUCCESS};
use ndkpi::{NDK_OBJECT_HEADER, NTSTATUS, c_void};
use std::any::Any;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::fmt;
use std::ptr::{NonNull, null_mut};
use std::rc::Rc;

/// One call of a callback, as the consumer saw it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The status passed in; `STATUS_SUCCESS` for callbacks without one.
    pub status: NTSTATUS,
    /// IRQL at which the provider called.
    pub irql: u8,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("status", &Status(self.status))
            .field("irql", &self.irql)
            .finish()
    }
}

/// How a callback wakes a thread that waits for what it tells.
pub(super) struct Wake {
    event: UnsafeCell<KEVENT>,
    /// Somebody waits, or has waited, so the event is one.
    used: Cell<bool>,
    /// Threads that wait.
    waiting: Cell<u32>,
}

impl Default for Wake {
    fn default() -> Wake {
        Wake {
            event: UnsafeCell::new(KEVENT::ZEROED),
            used: Cell::new(false),
            waiting: Cell::new(0),
        }
    }
}

impl Wake {
    /// Tells whoever waits. <= DISPATCH_LEVEL.
    pub(super) fn up(&self) {
        if self.used.get() {
            // SAFETY: the event was initialised when it was first used.
            unsafe { KeSetEvent(self.event.get(), 0, 0) };
        }
    }

    /// Waits until `done`, which is looked at first and whenever there is something to be told. PASSIVE_LEVEL.
    pub(super) fn until(&self, mut done: impl FnMut() -> bool) {
        if !self.used.replace(true) {
            // SAFETY: nobody uses it yet; it stays where it is as long as callbacks come.
            unsafe { KeInitializeEvent(self.event.get(), SynchronizationEvent, 0) };
        }
        self.waiting.update(|waiting| waiting + 1);
        while !done() {
            // SAFETY: initialised above.
            unsafe { KeWaitForSingleObject(self.event.get().cast(), 0, 0, 0, null_mut()) };
        }
        self.waiting.update(|waiting| waiting - 1);
        // One callback may tell of several things, and woke one thread: the next one looks what is left.
        if self.waiting.get() > 0 {
            self.up();
        }
    }
}

/// What a callback's context points to. Lives as long as the world, so that a callback that comes too often or too late is recorded
/// instead of being a wild write.
pub(super) struct State {
    event: UnsafeCell<KEVENT>,
    calls: RefCell<Vec<Call>>,
    object: Cell<*mut NDK_OBJECT_HEADER>,
}

/// Contexts of callbacks, kept until the world ends.
#[derive(Default)]
pub(super) struct Contexts(RefCell<Vec<Rc<dyn Any>>>);

/// Keeps a callback's context until the world ends.
pub(super) fn keep<T: 'static>(context: T) -> Rc<T> {
    let _kernel = context::KernelMode::enter();
    let context = Rc::new(context);
    context::core()
        .ext::<Contexts>()
        .0
        .borrow_mut()
        .push(Rc::clone(&context) as Rc<dyn Any>);
    context
}

/// The current IRQL, as a consumer asks for it.
pub(super) fn irql() -> u8 {
    // SAFETY: callable anywhere.
    unsafe { KeGetCurrentIrql() }
}

impl State {
    pub(super) fn new() -> Rc<State> {
        in_kernel();
        let state = keep(State {
            event: UnsafeCell::new(KEVENT::ZEROED),
            calls: RefCell::default(),
            object: Cell::new(null_mut()),
        });
        // SAFETY: the event lives in the state, which the world keeps.
        unsafe { KeInitializeEvent(state.event.get(), NotificationEvent, 0) };
        state
    }

    pub(super) fn context(self: &Rc<Self>) -> *mut c_void {
        Rc::as_ptr(self).cast_mut().cast()
    }

    fn record(&self, status: NTSTATUS) {
        let call = Call {
            status,
            irql: irql(),
        };
        {
            let _kernel = context::KernelMode::enter();
            self.calls.borrow_mut().push(call);
        }
        // SAFETY: the event was initialised in `new`.
        unsafe { KeSetEvent(self.event.get(), 0, 0) };
    }
}

/// # Safety
/// `context` comes from [`State::context`] in this world.
unsafe fn state<'a>(context: *mut c_void) -> &'a State {
    // SAFETY: the world keeps every state until it ends, and callbacks happen only in the world.
    unsafe { &*context.cast::<State>() }
}

/// NdkCreateCompletion.
pub(super) unsafe extern "efiapi" fn on_create(
    context: *mut c_void,
    status: NTSTATUS,
    object: *mut NDK_OBJECT_HEADER,
) {
    // SAFETY: the provider passes back the context it was given.
    let state = unsafe { state(context) };
    state.object.set(object);
    state.record(status);
}

/// NdkRequestCompletion.
pub(super) unsafe extern "efiapi" fn on_request(context: *mut c_void, status: NTSTATUS) {
    // SAFETY: the provider passes back the context it was given.
    unsafe { state(context) }.record(status);
}

/// NdkCloseCompletion.
pub(super) unsafe extern "efiapi" fn on_close(context: *mut c_void) {
    // SAFETY: the provider passes back the context it was given.
    unsafe { state(context) }.record(STATUS_SUCCESS);
}

/// A request that the provider may still be working on.
pub struct Pending {
    state: Rc<State>,
    inline: NTSTATUS,
}

impl Pending {
    /// A request that `call` makes, with the context that its completion callback must get.
    pub(super) fn start(call: impl FnOnce(*mut c_void) -> NTSTATUS) -> Pending {
        let state = State::new();
        let inline = call(state.context());
        Pending { state, inline }
    }

    /// What the function itself returned.
    #[must_use]
    pub fn inline_status(&self) -> NTSTATUS {
        self.inline
    }

    /// The final status, when there is one.
    #[must_use]
    pub fn status(&self) -> Option<NTSTATUS> {
        if self.inline == STATUS_PENDING {
            self.state.calls.borrow().first().map(|call| call.status)
        } else {
            Some(self.inline)
        }
    }

    /// Whether the request is over.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.status().is_some()
    }

    /// The calls of the completion callback so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.state.calls.borrow().clone()
    }

    /// Lets the world run until the request is over. For the host.
    ///
    /// # Panics
    /// If it is not over after ten minutes of the world's time: with the report, if the provider is to blame.
    #[track_caller]
    pub fn wait(&self, world: &mut World) -> Result<()> {
        world.run_until_done(|_| self.is_done());
        match self.status() {
            Some(status) => check(status),
            None => panic!("the provider did not complete a request in ten minutes"),
        }
    }

    /// Waits at PASSIVE_LEVEL until the request is over. For kernel code.
    pub fn wait_here(&self) -> Result<()> {
        if self.inline == STATUS_PENDING {
            // SAFETY: the event was initialised in `State::new` and lives as long as the world.
            unsafe {
                KeWaitForSingleObject(self.state.event.get().cast(), 0, 0, 0, null_mut());
            }
        }
        check(self.status().unwrap_or(STATUS_PENDING))
    }

    fn object(&self) -> *mut NDK_OBJECT_HEADER {
        self.state.object.get()
    }
}

/// Creates an object with `call`, which gets the context of the create completion and the out parameter, and waits for it.
pub(super) fn create<T>(
    call: impl FnOnce(*mut c_void, *mut *mut T) -> NTSTATUS,
) -> Result<NonNull<T>> {
    let mut out: *mut T = null_mut();
    let pending = Pending::start(|context| call(context, &raw mut out));
    let pended = pending.inline_status() == STATUS_PENDING;
    pending.wait_here()?;
    let object = if pended { pending.object().cast() } else { out };
    Ok(NonNull::new(object).expect("a successful create gives an object"))
}

#[cfg(test)]
mod tests {
    use super::Wake;
    use crate::{MachineConfig, World};
    use ndis_sys::imports::KeDelayExecutionThread;
    use std::cell::Cell;
    use std::rc::Rc;

    #[test]
    fn one_callback_wakes_all_who_wait_if_it_tells_of_enough() {
        let mut world = World::builder().build();
        let machine = world.add_machine(MachineConfig::named("A"));
        let told = Rc::new((Wake::default(), Cell::new(0)));
        let waiters = [(); 3].map(|()| {
            let told = Rc::clone(&told);
            world.spawn(machine, move || {
                let (wake, things) = &*told;
                wake.until(|| {
                    let left = things.get();
                    things.set(left - i32::from(left > 0));
                    left > 0
                });
            })
        });
        let tells = world.spawn(machine, move || {
            let mut interval = -10_000_i64;
            // SAFETY: at PASSIVE_LEVEL, with a variable of this frame.
            unsafe { KeDelayExecutionThread(0, 0, (&raw mut interval).cast()) };
            told.1.set(3);
            told.0.up();
        });
        tells.wait(&mut world);
        for waiter in waiters {
            waiter.wait(&mut world);
        }
    }
}
