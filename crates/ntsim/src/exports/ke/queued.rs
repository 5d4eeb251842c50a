//! In-stack queued spin locks. Whoever waits is served in order of arrival anyway: what the queue is for has no counterpart here, and the
//! handle only remembers the lock and the IRQL.

use std::ptr;

use ndis_sys::types::{KIRQL, KSPIN_LOCK};
use ndis_sys::wdm::{KLOCK_QUEUE_HANDLE, KSPIN_LOCK_QUEUE};

use super::spin::{acquire, release};
use crate::verifier::locks::Kind;
use crate::verifier::{self, cross, rules};
use crate::world::context;
use crate::world::processor::DISPATCH;

exports! {
    "ntoskrnl.exe";
    KeAcquireInStackQueuedSpinLock: PASSIVE..=DISPATCH,
    KeReleaseInStackQueuedSpinLock: DISPATCH..=DISPATCH,
    KeAcquireInStackQueuedSpinLockAtDpcLevel: DISPATCH..=HIGH,
    KeReleaseInStackQueuedSpinLockFromDpcLevel: DISPATCH..=HIGH,
}

/// Fills in the handle of a lock that is held now.
///
/// # Safety
/// `handle` must be valid for a write.
unsafe fn fill(handle: *mut KLOCK_QUEUE_HANDLE, lock: *mut KSPIN_LOCK, old: KIRQL) {
    // SAFETY: promised by the caller.
    unsafe {
        handle.write(KLOCK_QUEUE_HANDLE {
            LockQueue: KSPIN_LOCK_QUEUE {
                Next: ptr::null_mut(),
                Lock: lock,
            },
            OldIrql: old,
        });
    }
}

/// Takes lock and IRQL out of a handle; the handle names no lock any more.
///
/// # Safety
/// `handle` must be one.
unsafe fn take(handle: *mut KLOCK_QUEUE_HANDLE, by: &str) -> Option<(*mut KSPIN_LOCK, KIRQL)> {
    // SAFETY: promised by the caller.
    let (lock, old) = unsafe {
        let lock = &raw mut (*handle).LockQueue.Lock;
        (lock.replace(ptr::null_mut()), (*handle).OldIrql)
    };
    if lock.is_null() {
        verifier::violation(
            rules::LOCK_NOT_HELD,
            format!("{by} releases the handle at {handle:p}, with which no spin lock is held"),
        );
        return None;
    }
    Some((lock, old))
}

/// Acquires a spin lock, raising to DISPATCH_LEVEL.
///
/// # Safety
/// `SpinLock` must point at an initialised lock, `LockHandle` at room for a handle.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeAcquireInStackQueuedSpinLock(
    SpinLock: *mut KSPIN_LOCK,
    LockHandle: *mut KLOCK_QUEUE_HANDLE,
) {
    let _crossing = cross(&functions::KeAcquireInStackQueuedSpinLock);
    context::with_processor(|p| {
        let old = p.set_irql(p.irql().max(DISPATCH));
        // SAFETY: promised by the caller.
        unsafe {
            acquire(
                p,
                SpinLock,
                Kind::QueuedRaised,
                old,
                "KeAcquireInStackQueuedSpinLock",
            );
            fill(LockHandle, SpinLock, old);
        }
    });
}

/// Releases a spin lock and lowers the IRQL.
///
/// # Safety
/// `LockHandle` must be one that was filled in.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeReleaseInStackQueuedSpinLock(LockHandle: *mut KLOCK_QUEUE_HANDLE) {
    const BY: &str = "KeReleaseInStackQueuedSpinLock";
    let _crossing = cross(&functions::KeReleaseInStackQueuedSpinLock);
    // SAFETY: promised by the caller.
    let Some((lock, old)) = (unsafe { take(LockHandle, BY) }) else {
        return;
    };
    context::with_processor(|p| {
        // SAFETY: the lock was acquired with the handle.
        unsafe { release(p, lock, Kind::QueuedRaised, old, BY) };
        p.lower_irql(old.min(DISPATCH));
    });
}

/// Acquires a spin lock at DISPATCH_LEVEL.
///
/// # Safety
/// As [`KeAcquireInStackQueuedSpinLock`].
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeAcquireInStackQueuedSpinLockAtDpcLevel(
    SpinLock: *mut KSPIN_LOCK,
    LockHandle: *mut KLOCK_QUEUE_HANDLE,
) {
    let _crossing = cross(&functions::KeAcquireInStackQueuedSpinLockAtDpcLevel);
    context::with_processor(|p| {
        let irql = p.irql();
        // SAFETY: promised by the caller.
        unsafe {
            acquire(
                p,
                SpinLock,
                Kind::QueuedAtDpc,
                irql,
                "KeAcquireInStackQueuedSpinLockAtDpcLevel",
            );
            fill(LockHandle, SpinLock, irql);
        }
    });
}

/// Releases a spin lock and stays at DISPATCH_LEVEL.
///
/// # Safety
/// As [`KeReleaseInStackQueuedSpinLock`].
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeReleaseInStackQueuedSpinLockFromDpcLevel(
    LockHandle: *mut KLOCK_QUEUE_HANDLE,
) {
    const BY: &str = "KeReleaseInStackQueuedSpinLockFromDpcLevel";
    let _crossing = cross(&functions::KeReleaseInStackQueuedSpinLockFromDpcLevel);
    // SAFETY: promised by the caller.
    let Some((lock, old)) = (unsafe { take(LockHandle, BY) }) else {
        return;
    };
    // SAFETY: the lock was acquired with the handle.
    context::with_processor(|p| unsafe { release(p, lock, Kind::QueuedAtDpc, old, BY) });
}
