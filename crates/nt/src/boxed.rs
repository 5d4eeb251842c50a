//! Fallible boxes.

use alloc::alloc::{Layout, alloc};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

use crate::status::NoMemory;

/// Allocates memory for a `T`, or nothing if `T` has no size (then a dangling, aligned pointer is the right one).
pub(crate) fn allocate<T>() -> Result<NonNull<T>, NoMemory> {
    let layout = Layout::new::<T>();
    if layout.size() == 0 {
        return Ok(NonNull::dangling());
    }
    // SAFETY: the layout's size is not zero.
    let memory = unsafe { alloc(layout) };
    NonNull::new(memory.cast::<T>()).ok_or(NoMemory)
}

/// `Box::new` that reports lack of memory instead of stopping the machine.
///
/// IRQL: <= DISPATCH_LEVEL (non-paged pool).
///
/// # Errors
/// [`NoMemory`]; `value` is dropped.
pub fn try_box<T>(value: T) -> Result<Box<T>, NoMemory> {
    let memory = allocate::<T>()?;
    // SAFETY: freshly allocated from the global allocator with the layout of `T` (or dangling for a size of zero), not aliased;
    // after the write it holds a `T`, which is what `from_raw` wants.
    unsafe {
        memory.as_ptr().write(value);
        Ok(Box::from_raw(memory.as_ptr()))
    }
}

/// A box of what `make` makes. Of something large there is one copy less on the stack than with [`try_box`], and none in the caller's
/// frame: a kernel stack has 24 KiB.
///
/// IRQL: <= DISPATCH_LEVEL (non-paged pool).
///
/// # Errors
/// [`NoMemory`], or why `make` failed.
#[inline(never)]
pub fn try_box_with<T, E: From<NoMemory>>(
    make: impl FnOnce() -> Result<T, E>,
) -> Result<Box<T>, E> {
    // A box that is not filled gives its memory back.
    let mut place = try_box(MaybeUninit::uninit())?;
    place.write(make()?);
    // SAFETY: written just now.
    Ok(unsafe { place.assume_init() })
}

/// A vector of `len` elements made by `element`, with exactly that capacity.
///
/// IRQL: <= DISPATCH_LEVEL (non-paged pool).
///
/// # Errors
/// [`NoMemory`].
pub fn try_vec<T>(len: usize, mut element: impl FnMut(usize) -> T) -> Result<Vec<T>, NoMemory> {
    let mut vec = Vec::new();
    vec.try_reserve_exact(len).map_err(|_| NoMemory)?;
    vec.extend((0..len).map(&mut element));
    Ok(vec)
}
