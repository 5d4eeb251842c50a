//! Work items: code moved to PASSIVE_LEVEL.

use alloc::boxed::Box;
use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, Ordering};

use crate::boxed::try_box;
use crate::dpc::Context;
use crate::event::{Event, EventKind};
use crate::irql::Passive;
use crate::once::Once;
use crate::status::NoMemory;
use crate::sys;
use crate::sys::types::NDIS_HANDLE;

/// Not queued.
const IDLE: u8 = 0;
/// Queued, not begun.
const QUEUED: u8 = 1;
/// Running.
const RUNNING: u8 = 2;
/// Running, and wanted again.
const AGAIN: u8 = 3;
/// Bit: takes no more.
const CLOSED: u8 = 4;

/// Calls `routine(&context, token)` from a system thread at PASSIVE_LEVEL.
///
/// Queuing it while it waits changes nothing; queuing it while it runs makes it run once more afterwards. It never runs twice at the
/// same time. Dropping it closes it and waits (IRQL: PASSIVE_LEVEL, and not from inside the routine).
#[derive(Debug)]
pub struct WorkItem<T> {
    inner: Box<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    handle: NonNull<c_void>,
    state: AtomicU8,
    done: Event,
    routine: fn(&T, Passive),
    context: Once<Context<T>>,
}

// SAFETY: NDIS locks its work items; the rest is atomic or does not change after `bind`.
unsafe impl<T: Sync> Send for WorkItem<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for WorkItem<T> {}

impl<T: Sync> WorkItem<T> {
    /// A work item of a miniport adapter, not bound to a context yet. IRQL: <= DISPATCH_LEVEL.
    ///
    /// # Safety
    /// `adapter` is the NDIS handle of an initialised miniport adapter (or driver) that outlives the work item.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub unsafe fn try_new(
        adapter: NDIS_HANDLE,
        routine: fn(&T, Passive),
    ) -> Result<Self, NoMemory> {
        let done = Event::try_new(EventKind::Notification, false)?;
        // SAFETY: the handle is the caller's promise.
        let handle = unsafe { sys::NdisAllocateIoWorkItem(adapter) };
        let handle = NonNull::new(handle).ok_or(NoMemory)?;
        let inner = try_box(Inner {
            handle,
            state: AtomicU8::new(IDLE),
            done,
            routine,
            context: Once::new(),
        });
        if inner.is_err() {
            // SAFETY: allocated above, never queued.
            unsafe { sys::NdisFreeIoWorkItem(handle.as_ptr()) };
        }
        Ok(Self { inner: inner? })
    }

    /// Says what the routine is called with. Only the first call counts. IRQL: any.
    ///
    /// # Safety
    /// `context` stays valid, at this address, until this work item is dropped or [`WorkItem::close`] has returned.
    pub unsafe fn bind(&self, context: *const T) {
        self.inner.context.set(Context(context));
    }

    /// Lets the routine run, see the type. False if it is closed. IRQL: <= DISPATCH_LEVEL.
    pub fn queue(&self) -> bool {
        let next = |state| match state {
            IDLE => Some(QUEUED),
            RUNNING => Some(AGAIN),
            // Nothing to change: waiting anyway, or closed.
            _ => None,
        };
        match self
            .inner
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next)
        {
            Ok(IDLE) => {
                self.inner.enqueue();
                true
            }
            Ok(_) => true,
            Err(state) => state & CLOSED == 0,
        }
    }

    /// Takes no more, and waits until what is queued or running has ended. Not from inside the routine.
    pub fn close(&self, passive: Passive) {
        self.inner.close(passive);
    }
}

impl<T> Inner<T> {
    fn close(&self, passive: Passive) {
        let before = self.state.fetch_or(CLOSED, Ordering::AcqRel);
        if before == IDLE {
            self.done.set();
        }
        self.done.wait(passive);
    }
}

impl<T: Sync> Inner<T> {
    fn enqueue(&self) {
        let argument = core::ptr::from_ref(self).cast_mut().cast::<c_void>();
        // SAFETY: the item is not queued (state QUEUED was reached from IDLE or AGAIN by the caller), and `self` stays until `close`
        // has seen the routine end.
        unsafe { sys::NdisQueueIoWorkItem(self.handle.as_ptr(), run::<T>, argument) };
    }
}

/// IRQL: PASSIVE_LEVEL.
unsafe extern "efiapi" fn run<T: Sync>(argument: *mut c_void, _: NDIS_HANDLE) {
    // SAFETY: `argument` is the `Inner` that queued itself; it waits for this routine before it goes.
    let inner = unsafe { &*argument.cast::<Inner<T>>().cast_const() };
    let start = |state| Some(RUNNING | (state & CLOSED));
    let _ = inner
        .state
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, start);
    if let Some(context) = inner.context.get() {
        // SAFETY: work items run at PASSIVE_LEVEL with no lock held; the context is valid by the promise given to `bind`.
        unsafe { (inner.routine)(&*context.0, Passive::assume()) };
    }
    let end = |state: u8| {
        let next = if state & !CLOSED == AGAIN {
            QUEUED
        } else {
            IDLE
        };
        Some(next | (state & CLOSED))
    };
    match inner
        .state
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, end)
    {
        Ok(state) if state & !CLOSED == AGAIN => inner.enqueue(),
        // The last touch: whoever waits may free `inner` at once.
        Ok(state) if state & CLOSED != 0 => inner.done.set(),
        _ => {}
    }
}

impl<T> Drop for WorkItem<T> {
    fn drop(&mut self) {
        // SAFETY: whoever drops a work item is at PASSIVE_LEVEL.
        self.inner.close(unsafe { Passive::assume() });
        // SAFETY: neither queued nor running.
        unsafe { sys::NdisFreeIoWorkItem(self.inner.handle.as_ptr()) }
    }
}
