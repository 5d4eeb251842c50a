//! Timers.

use alloc::boxed::Box;
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::time::Duration;

use crate::boxed::try_box;
use crate::dpc::Context;
use crate::irql::Passive;
use crate::once::Once;
use crate::status::NoMemory;
use crate::sys;
use crate::sys::wdm::{KDPC, KTIMER, NotificationTimer};

/// A one-shot timer that calls `routine(&context)` from a DPC.
///
/// It is made without a context, so that it can be a field of the very thing it will call back, and does nothing until it is bound to
/// one. Dropping it cancels it and waits for a run in progress. Resolution: the machine's clock tick, up to 15.6 ms.
#[derive(Debug)]
pub struct Timer<T> {
    inner: Box<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    timer: UnsafeCell<KTIMER>,
    dpc: UnsafeCell<KDPC>,
    routine: fn(&T),
    context: Once<Context<T>>,
}

// SAFETY: the kernel locks KTIMER and KDPC; the rest does not change after `bind`.
unsafe impl<T: Sync> Send for Timer<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Timer<T> {}

impl<T: Sync> Timer<T> {
    /// A timer not bound to a context yet. IRQL: <= DISPATCH_LEVEL.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn try_new(routine: fn(&T)) -> Result<Self, NoMemory> {
        let inner = try_box(Inner {
            timer: UnsafeCell::new(KTIMER::ZEROED),
            dpc: UnsafeCell::new(KDPC::ZEROED),
            routine,
            context: Once::new(),
        })?;
        let argument = core::ptr::from_ref(&*inner).cast_mut().cast::<c_void>();
        // SAFETY: timer and DPC are at their final address in non-paged memory, and so is the argument; they live until `drop` has
        // cancelled and flushed.
        unsafe {
            sys::KeInitializeTimerEx(inner.timer.get(), NotificationTimer);
            sys::KeInitializeDpc(inner.dpc.get(), run::<T>, argument);
        }
        Ok(Self { inner })
    }

    /// Says what the routine is called with. Only the first call counts. IRQL: any.
    ///
    /// # Safety
    /// `context` stays valid, at this address, until this timer is dropped or [`Timer::stop`] has returned and nobody sets it any more.
    pub unsafe fn bind(&self, context: *const T) {
        self.inner.context.set(Context(context));
    }

    /// Lets the routine run once after `after`. A setting that has not expired is replaced. IRQL: <= DISPATCH_LEVEL.
    pub fn set(&self, after: Duration) {
        let due = crate::time::relative_due(after);
        // SAFETY: initialised by `try_new`.
        unsafe { sys::KeSetTimer(self.inner.timer.get(), due, self.inner.dpc.get()) };
    }

    /// Lets the routine run once when [`time::now`](crate::time::now) has reached `deadline` (ns), at once if it is past.
    /// IRQL: <= DISPATCH_LEVEL.
    pub fn set_at(&self, deadline: u64) {
        self.set(Duration::from_nanos(
            deadline.saturating_sub(crate::time::now()),
        ));
    }

    /// Cancels the setting: true if there was one. The routine may be about to run, or running, all the same. IRQL: <= DISPATCH_LEVEL.
    pub fn cancel(&self) -> bool {
        // SAFETY: initialised by `try_new`.
        unsafe { sys::KeCancelTimer(self.inner.timer.get()) != 0 }
    }

    /// Cancels, and waits for a run that has begun or is queued. Whether it is set again afterwards is up to the caller.
    pub fn stop(&self, _: Passive) {
        // SAFETY: initialised by `try_new`; the token says that waiting is allowed.
        unsafe { self.inner.stop() }
    }
}

impl<T> Inner<T> {
    /// # Safety
    /// Initialised; IRQL: PASSIVE_LEVEL.
    unsafe fn stop(&self) {
        // SAFETY: the caller's promise.
        unsafe {
            sys::KeCancelTimer(self.timer.get());
            sys::KeRemoveQueueDpc(self.dpc.get());
            sys::KeFlushQueuedDpcs();
        }
    }
}

/// IRQL: DISPATCH_LEVEL.
unsafe extern "efiapi" fn run<T: Sync>(
    _: *mut KDPC,
    argument: *mut c_void,
    _: *mut c_void,
    _: *mut c_void,
) {
    // SAFETY: `argument` is the `Inner` this DPC was initialised with; drop flushes before it frees it.
    let inner = unsafe { &*argument.cast::<Inner<T>>().cast_const() };
    if let Some(context) = inner.context.get() {
        // SAFETY: valid by the promise given to `bind`.
        (inner.routine)(unsafe { &*context.0 });
    }
}

impl<T> Drop for Timer<T> {
    /// IRQL: PASSIVE_LEVEL.
    fn drop(&mut self) {
        // SAFETY: initialised by `try_new`. Whoever drops a timer is at PASSIVE_LEVEL.
        unsafe { self.inner.stop() }
    }
}
