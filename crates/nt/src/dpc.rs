//! Deferred procedure calls.

use alloc::boxed::Box;
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr::null_mut;

use crate::boxed::try_box;
use crate::irql::Passive;
use crate::once::Once;
use crate::status::NoMemory;
use crate::sys;
use crate::sys::wdm::KDPC;

/// A DPC that calls `routine(&context)` at DISPATCH_LEVEL.
///
/// It is made without a context, so that it can be a field of the very thing it will call back, and does nothing until it is bound to
/// one. Dropping it removes it from the queue and waits for a run in progress.
#[derive(Debug)]
pub struct Dpc<T> {
    inner: Box<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    raw: UnsafeCell<KDPC>,
    routine: fn(&T),
    context: Once<Context<T>>,
}

/// A pointer promised to be good for as long as the callback can run.
#[derive(Debug)]
pub(crate) struct Context<T>(pub(crate) *const T);

// SAFETY: the pointer is only turned into `&T`, on whatever processor the callback runs, which `T: Sync` allows.
unsafe impl<T: Sync> Send for Context<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Context<T> {}

// SAFETY: the kernel locks a KDPC; the rest does not change after `bind`.
unsafe impl<T: Sync> Send for Dpc<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Dpc<T> {}

impl<T: Sync> Dpc<T> {
    /// A DPC not bound to a context yet. IRQL: <= DISPATCH_LEVEL.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn try_new(routine: fn(&T)) -> Result<Self, NoMemory> {
        let inner = try_box(Inner {
            raw: UnsafeCell::new(KDPC::ZEROED),
            routine,
            context: Once::new(),
        })?;
        let argument = core::ptr::from_ref(&*inner).cast_mut().cast::<c_void>();
        // SAFETY: the KDPC is at its final address in non-paged memory, and so is its argument; both live until `drop` has flushed.
        unsafe { sys::KeInitializeDpc(inner.raw.get(), run::<T>, argument) };
        Ok(Self { inner })
    }

    /// Says what the routine is called with. Only the first call counts. IRQL: any.
    ///
    /// # Safety
    /// `context` stays valid, at this address, until this DPC is dropped or [`Dpc::stop`] has returned and nobody queues it any more.
    pub unsafe fn bind(&self, context: *const T) {
        self.inner.context.set(Context(context));
    }

    /// Queues the routine to run once; false if it is queued already (then one run serves both). IRQL: any.
    pub fn queue(&self) -> bool {
        // SAFETY: initialised by `try_new`.
        unsafe { sys::KeInsertQueueDpc(self.inner.raw.get(), null_mut(), null_mut()) != 0 }
    }

    /// A handle that queues this DPC and knows nothing else about it.
    ///
    /// # Safety
    /// Nobody uses the handle after this DPC has been dropped.
    pub unsafe fn waker(&self) -> Waker {
        Waker(self.inner.raw.get())
    }

    /// Removes it from the queue, and waits for a run in progress on another processor.
    pub fn stop(&self, _: Passive) {
        // SAFETY: initialised by `try_new`; the token says that waiting is allowed.
        unsafe {
            sys::KeRemoveQueueDpc(self.inner.raw.get());
            sys::KeFlushQueuedDpcs();
        }
    }
}

/// Waits until every DPC that is queued or runs, whosever and on whatever processor, has run.
pub fn flush_dpcs(_: Passive) {
    // SAFETY: the token says that waiting is allowed.
    unsafe { sys::KeFlushQueuedDpcs() }
}

/// Queues somebody's DPC, see [`Dpc::waker`].
#[derive(Clone, Copy, Debug)]
pub struct Waker(*mut KDPC);

// SAFETY: the kernel locks a KDPC.
unsafe impl Send for Waker {}
// SAFETY: as above.
unsafe impl Sync for Waker {}

impl Waker {
    /// Queues the DPC. IRQL: any.
    pub fn wake(&self) {
        // SAFETY: initialised, and not dropped by the promise given to `waker`.
        unsafe { sys::KeInsertQueueDpc(self.0, null_mut(), null_mut()) };
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

impl<T> Drop for Dpc<T> {
    /// IRQL: PASSIVE_LEVEL.
    fn drop(&mut self) {
        // SAFETY: initialised by `try_new`. Whoever drops a DPC is at PASSIVE_LEVEL.
        unsafe {
            sys::KeRemoveQueueDpc(self.inner.raw.get());
            sys::KeFlushQueuedDpcs();
        }
    }
}
