//! Spin locks.

use core::cell::UnsafeCell;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use crate::sys;
use crate::sys::types::{KIRQL, KSPIN_LOCK};

/// A value behind a spin lock. IRQL: <= DISPATCH_LEVEL; raised to DISPATCH_LEVEL while it is held.
///
/// Not recursive. The memory must be non-paged (the driver's whole heap is).
pub struct SpinLock<T: ?Sized> {
    lock: UnsafeCell<KSPIN_LOCK>,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands the value to one processor at a time, so it may travel (`T: Send`); nothing is shared without the lock.
unsafe impl<T: ?Sized + Send> Send for SpinLock<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    /// A free lock.
    pub const fn new(value: T) -> Self {
        // A free KSPIN_LOCK is zero: KeInitializeSpinLock does nothing else on this architecture.
        Self {
            lock: UnsafeCell::new(0),
            value: UnsafeCell::new(value),
        }
    }

    /// The value, out of the lock.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> SpinLock<T> {
    /// Raises to DISPATCH_LEVEL and takes the lock; the guard gives both back. IRQL: <= DISPATCH_LEVEL.
    pub fn lock(&self) -> SpinLockGuard<'_, T> {
        // SAFETY: the lock word was initialised by `new`, lives as long as `self`, and cannot move while borrowed.
        let old = unsafe { sys::KeAcquireSpinLockRaiseToDpc(self.lock.get()) };
        SpinLockGuard {
            lock: self,
            old: Some(old),
            not_send: PhantomData,
        }
    }

    /// Takes the lock without touching the IRQL: cheaper than [`SpinLock::lock`] in a DPC.
    ///
    /// # Safety
    /// IRQL: DISPATCH_LEVEL, and it stays there until the guard is gone.
    pub unsafe fn lock_at_dpc(&self) -> SpinLockGuard<'_, T> {
        // SAFETY: as in `lock`; the level is the caller's promise.
        unsafe { sys::KeAcquireSpinLockAtDpcLevel(self.lock.get()) };
        SpinLockGuard {
            lock: self,
            old: None,
            not_send: PhantomData,
        }
    }

    /// The value, without locking: the borrow shows that nobody else has it.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: ?Sized> fmt::Debug for SpinLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SpinLock(..)")
    }
}

/// The lock is held as long as this lives. It must be dropped on the processor that took it, and guards in reverse order.
pub struct SpinLockGuard<'a, T: ?Sized> {
    lock: &'a SpinLock<T>,
    old: Option<KIRQL>,
    not_send: PhantomData<*const ()>,
}

impl<T: ?Sized> Deref for SpinLockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the lock is held.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for SpinLockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held, and the guard is borrowed mutably.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for SpinLockGuard<'_, T> {
    fn drop(&mut self) {
        let word = self.lock.lock.get();
        // SAFETY: this guard holds the lock, and took it the way it now gives it back.
        unsafe {
            match self.old {
                Some(old) => sys::KeReleaseSpinLock(word, old),
                None => sys::KeReleaseSpinLockFromDpcLevel(word),
            }
        }
    }
}
