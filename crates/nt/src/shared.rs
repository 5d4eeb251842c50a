//! Shared ownership with fallible creation.

use alloc::boxed::Box;
use core::fmt;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering, fence};

use crate::boxed::try_box;
use crate::status::NoMemory;

/// A reference-counted value, as `Arc` without weak references: made fallibly, at a stable address, convertible to a raw pointer for
/// the contexts of callbacks.
///
/// Cloning and dropping: any IRQL at which `T` may be dropped; the last drop frees non-paged pool (<= DISPATCH_LEVEL).
pub struct Shared<T> {
    inner: NonNull<Inner<T>>,
}

#[repr(C)]
struct Inner<T> {
    count: AtomicUsize,
    value: T,
}

// SAFETY: a `Shared` gives out `&T` on whatever processor holds it and drops the `T` on the last one: both are allowed for a `T` that
// is `Send` and `Sync`. The count is atomic.
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: as above: `&Shared<T>` can be cloned into a `Shared<T>`.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// Allocates `value` with a count of one.
    ///
    /// # Errors
    /// [`NoMemory`]; `value` is dropped.
    pub fn try_new(value: T) -> Result<Self, NoMemory> {
        let inner = try_box(Inner {
            count: AtomicUsize::new(1),
            value,
        })?;
        Ok(Self {
            inner: NonNull::from(Box::leak(inner)),
        })
    }

    /// Pointer to the value. Stable as long as the value lives.
    pub fn as_ptr(this: &Self) -> *const T {
        // SAFETY: `inner` is live; taking a field's address reads nothing.
        unsafe { &raw const (*this.inner.as_ptr()).value }
    }

    /// Gives up this reference without counting down; [`Shared::from_raw`] takes it back.
    pub fn into_raw(this: Self) -> *const T {
        let value = Self::as_ptr(&this);
        core::mem::forget(this);
        value
    }

    /// Takes back a reference given up by [`Shared::into_raw`].
    ///
    /// # Safety
    /// `value` came from `into_raw` of this type, and is taken back once for each time.
    pub unsafe fn from_raw(value: *const T) -> Self {
        let offset = core::mem::offset_of!(Inner<T>, value);
        // SAFETY: by the caller's promise `value` is the field of a live `Inner<T>`, `offset` bytes before it is the start.
        let inner =
            unsafe { NonNull::new_unchecked(value.cast_mut().byte_sub(offset).cast::<Inner<T>>()) };
        Self { inner }
    }

    /// Another reference to the value behind a raw pointer, which stays given up.
    ///
    /// # Safety
    /// `value` came from `into_raw` (or `as_ptr`) of this type and the reference it stands for is still counted.
    pub unsafe fn clone_raw(value: *const T) -> Self {
        // SAFETY: by the caller's promise.
        let this = core::mem::ManuallyDrop::new(unsafe { Self::from_raw(value) });
        Self::clone(&this)
    }

    /// Number of references. Only good for diagnostics and assertions.
    pub fn count(this: &Self) -> usize {
        this.inner().count.load(Ordering::Relaxed)
    }

    fn inner(&self) -> &Inner<T> {
        // SAFETY: our reference keeps it alive.
        unsafe { self.inner.as_ref() }
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        // More references than memory can hold cannot exist: `Shared`s are leaked only by `into_raw`, which the driver pairs.
        self.inner().count.fetch_add(1, Ordering::Relaxed);
        Self { inner: self.inner }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner().value
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        if self.inner().count.fetch_sub(1, Ordering::Release) == 1 {
            // All uses by other processors happen before the value is dropped here.
            fence(Ordering::Acquire);
            // SAFETY: the count was ours and the last: nobody else has the pointer. It came from a leaked box.
            drop(unsafe { Box::from_raw(self.inner.as_ptr()) });
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner().value.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dropped<'a>(&'a AtomicUsize);
    impl Drop for Dropped<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_last_reference_drops_the_value() {
        let drops = AtomicUsize::new(0);
        let a = Shared::try_new(Dropped(&drops)).unwrap();
        let b = a.clone();
        drop(a);
        assert_eq!(drops.load(Ordering::Relaxed), 0);
        drop(b);
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_raw_reference_is_counted_until_it_is_taken_back() {
        let drops = AtomicUsize::new(0);
        let raw = Shared::into_raw(Shared::try_new(Dropped(&drops)).unwrap());
        // SAFETY: `raw` is a given-up reference.
        let second = unsafe { Shared::clone_raw(raw) };
        assert_eq!(Shared::count(&second), 2);
        // SAFETY: taken back once.
        drop(unsafe { Shared::from_raw(raw) });
        assert_eq!(drops.load(Ordering::Relaxed), 0);
        drop(second);
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    }
}
