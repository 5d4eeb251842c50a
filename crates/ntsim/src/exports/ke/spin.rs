//! Spin locks and the IRQL.

use ndis_sys::types::{BOOLEAN, FALSE, KIRQL, KSPIN_LOCK, TRUE};

use crate::memory::paged;
use crate::verifier::locks::{Held, Kind, Mode};
use crate::verifier::{self, cross, rules};
use crate::world::context;
use crate::world::processor::{DISPATCH, Processor};
use crate::world::spinning;

exports! {
    "ntoskrnl.exe";
    KeInitializeSpinLock: PASSIVE..=HIGH,
    KeAcquireSpinLockRaiseToDpc: PASSIVE..=DISPATCH,
    KeReleaseSpinLock: DISPATCH..=DISPATCH,
    KeAcquireSpinLockAtDpcLevel: DISPATCH..=HIGH,
    KeReleaseSpinLockFromDpcLevel: DISPATCH..=HIGH,
    KeTryToAcquireSpinLockAtDpcLevel: DISPATCH..=DISPATCH,
    KeTestSpinLock: DISPATCH..=HIGH,
    KeGetCurrentIrql: PASSIVE..=HIGH,
    KfRaiseIrql: PASSIVE..=HIGH,
    KeLowerIrql: PASSIVE..=HIGH,
}

const FREE: KSPIN_LOCK = 0;
const TAKEN: KSPIN_LOCK = 1;

/// Waits for a lock and takes it for the current processor. The IRQL has been raised.
///
/// # Safety
/// `lock` must point at a lock.
pub(crate) unsafe fn acquire(
    processor: &Processor,
    lock: *mut KSPIN_LOCK,
    kind: Kind,
    old_irql: KIRQL,
    by: &'static str,
) {
    loop {
        // SAFETY: promised by the caller.
        if unsafe { *lock } == FREE {
            break;
        }
        not_free(processor, lock, by);
    }
    if processor.locks.len() > 0 {
        check_order(processor, lock as usize, by);
    }
    // SAFETY: as above.
    unsafe { take(processor, lock, kind, old_irql, by) };
}

/// Takes a free lock for the current processor. Who takes a lock without waiting for it adds nothing to the order of
/// locks: a ring closes only where each waits.
///
/// # Safety
/// `lock` must point at a lock.
unsafe fn take(
    processor: &Processor,
    lock: *mut KSPIN_LOCK,
    kind: Kind,
    old_irql: KIRQL,
    by: &'static str,
) {
    let order = &context::core().verifier.lock_order;
    if let Some(other) = order.mixes(lock as usize, kind, by) {
        mixed(lock, by, other);
    }
    // SAFETY: promised by the caller.
    unsafe { *lock = TAKEN };
    let held = Held {
        lock: lock as usize,
        kind,
        old_irql,
        by,
        from: verifier::origin::caller(),
    };
    if !processor.locks.push(held) {
        verifier::bugcheck(
            rules::LOCK_RECURSIVE,
            format!("{by} acquires one spin lock more than can sensibly be held at a time"),
        );
    }
}

/// Spins, if code on another processor holds the lock; otherwise it can never be acquired.
#[cold]
#[inline(never)]
fn not_free(processor: &Processor, lock: *mut KSPIN_LOCK, by: &'static str) {
    let holder = processor.locks.iter().find(|h| h.lock == lock as usize);
    let held_elsewhere = context::machine()
        .processors
        .iter()
        .filter(|p| !std::ptr::eq(*p, processor))
        .any(|p| p.locks.iter().any(|h| h.lock == lock as usize));
    if holder.is_none() && held_elsewhere {
        spinning::spin(lock as usize, by);
        return;
    }
    let left_by = context::core().verifier.lock_order.left_by(lock as usize);
    match (holder, left_by) {
        (Some(held), _) => verifier::bugcheck(
            rules::LOCK_RECURSIVE,
            format!(
                "{by} acquires the spin lock at {lock:p}, which the same processor acquired with {} and still holds",
                held.by
            ),
        ),
        (None, Some(function)) => verifier::bugcheck(
            rules::LOCK_AT_RETURN,
            format!(
                "{by} waits for ever for the spin lock at {lock:p}, which {function} held when it returned"
            ),
        ),
        (None, None) => verifier::bugcheck(
            rules::UNINITIALIZED,
            format!(
                "{by} acquires the spin lock at {lock:p}, which was never initialised (or is overwritten)"
            ),
        ),
    }
}

/// A lock is always queued or always ordinary (nf-wdm-keacquireinstackqueuedspinlockatdpclevel).
#[cold]
#[inline(never)]
fn mixed(lock: *mut KSPIN_LOCK, by: &str, other: &str) {
    verifier::violation(
        rules::LOCK_MIXED,
        format!(
            "{by} acquires the spin lock at {lock:p}, which {other} has acquired: it is either queued or ordinary"
        ),
    );
}

#[cold]
#[inline(never)]
fn check_order(processor: &Processor, lock: usize, by: &'static str) {
    let core = context::core();
    for held in processor.locks.iter() {
        let (first, second) = ((held.lock, Mode::Exclusive), (lock, Mode::Exclusive));
        if let Some(other) = core.verifier.lock_order.record(first, second, by) {
            verifier::violation(
                rules::LOCK_ORDER,
                format!(
                    "{by} acquires the spin lock at {lock:#x} while the one at {:#x} is held (by {}); \
                     they have been acquired in the other order too (by {other})",
                    held.lock, held.by
                ),
            );
        }
    }
}

/// Gives a lock back. The IRQL is not changed.
///
/// # Safety
/// `lock` must point at a lock.
pub(crate) unsafe fn release(
    processor: &Processor,
    lock: *mut KSPIN_LOCK,
    kind: Kind,
    new_irql: KIRQL,
    by: &'static str,
) {
    match processor.locks.remove(lock as usize) {
        None => {
            verifier::violation(
                rules::LOCK_NOT_HELD,
                format!(
                    "{by} releases the spin lock at {lock:p}, which this processor does not hold"
                ),
            );
            return;
        }
        Some(held) if held.kind != kind => verifier::violation(
            rules::LOCK_IRQL,
            format!(
                "{by} releases the spin lock at {lock:p}, which {} acquired: the IRQL comes out wrong",
                held.by
            ),
        ),
        Some(_) => {}
    }
    if matches!(kind, Kind::Raised | Kind::QueuedRaised) {
        let expected = if processor.locks.len() == 0 {
            processor.locks.base_irql()
        } else {
            DISPATCH
        };
        if new_irql != expected {
            verifier::violation(
                rules::LOCK_IRQL,
                format!(
                    "{by} releases the spin lock at {lock:p} and goes to IRQL {new_irql}; it should go to {expected}"
                ),
            );
        }
    }
    // SAFETY: promised by the caller.
    unsafe { *lock = FREE };
    spinning::released(lock as usize);
}

/// Makes a spin lock free.
///
/// # Safety
/// `SpinLock` must be valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeInitializeSpinLock(SpinLock: *mut KSPIN_LOCK) {
    let _crossing = cross(&functions::KeInitializeSpinLock);
    paged::expect_resident(SpinLock as usize, "the spin lock", "KeInitializeSpinLock");
    context::with_processor(|p| {
        if p.locks.iter().any(|h| h.lock == SpinLock as usize) {
            verifier::violation(
                rules::OBJECT_IN_USE,
                format!(
                    "KeInitializeSpinLock initialises the spin lock at {SpinLock:p}, which is held"
                ),
            );
        }
    });
    context::core()
        .verifier
        .lock_order
        .forget(SpinLock as usize, size_of::<KSPIN_LOCK>());
    // SAFETY: promised by the caller.
    unsafe { SpinLock.write(FREE) };
}

/// Acquires a spin lock, raising to DISPATCH_LEVEL.
///
/// # Safety
/// `SpinLock` must point at an initialised lock.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeAcquireSpinLockRaiseToDpc(SpinLock: *mut KSPIN_LOCK) -> KIRQL {
    let _crossing = cross(&functions::KeAcquireSpinLockRaiseToDpc);
    context::with_processor(|p| {
        let old = p.set_irql(p.irql().max(DISPATCH));
        // SAFETY: promised by the caller.
        unsafe {
            acquire(
                p,
                SpinLock,
                Kind::Raised,
                old,
                "KeAcquireSpinLockRaiseToDpc",
            )
        };
        old
    })
}

/// Releases a spin lock and lowers the IRQL.
///
/// # Safety
/// `SpinLock` must point at an initialised lock.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeReleaseSpinLock(SpinLock: *mut KSPIN_LOCK, NewIrql: KIRQL) {
    let _crossing = cross(&functions::KeReleaseSpinLock);
    context::with_processor(|p| {
        // SAFETY: promised by the caller.
        unsafe { release(p, SpinLock, Kind::Raised, NewIrql, "KeReleaseSpinLock") };
        p.lower_irql(NewIrql.min(DISPATCH));
    });
}

/// Acquires a spin lock at DISPATCH_LEVEL.
///
/// # Safety
/// `SpinLock` must point at an initialised lock.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeAcquireSpinLockAtDpcLevel(SpinLock: *mut KSPIN_LOCK) {
    let _crossing = cross(&functions::KeAcquireSpinLockAtDpcLevel);
    context::with_processor(|p| {
        let irql = p.irql();
        // SAFETY: promised by the caller.
        unsafe {
            acquire(
                p,
                SpinLock,
                Kind::AtDpc,
                irql,
                "KeAcquireSpinLockAtDpcLevel",
            )
        };
    });
}

/// Releases a spin lock and stays at DISPATCH_LEVEL.
///
/// # Safety
/// `SpinLock` must point at an initialised lock.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeReleaseSpinLockFromDpcLevel(SpinLock: *mut KSPIN_LOCK) {
    let _crossing = cross(&functions::KeReleaseSpinLockFromDpcLevel);
    context::with_processor(|p| {
        let irql = p.irql();
        // SAFETY: promised by the caller.
        unsafe {
            release(
                p,
                SpinLock,
                Kind::AtDpc,
                irql,
                "KeReleaseSpinLockFromDpcLevel",
            );
        }
    });
}

/// Acquires a spin lock if it is free.
///
/// # Safety
/// `SpinLock` must point at an initialised lock.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeTryToAcquireSpinLockAtDpcLevel(
    SpinLock: *mut KSPIN_LOCK,
) -> BOOLEAN {
    let _crossing = cross(&functions::KeTryToAcquireSpinLockAtDpcLevel);
    const BY: &str = "KeTryToAcquireSpinLockAtDpcLevel";
    context::with_processor(|p| {
        // SAFETY: promised by the caller.
        match unsafe { *SpinLock } {
            TAKEN => return FALSE,
            FREE => {}
            _ => not_free(p, SpinLock, BY),
        }
        // SAFETY: promised by the caller.
        unsafe { take(p, SpinLock, Kind::AtDpc, p.irql(), BY) };
        TRUE
    })
}

/// Whether a spin lock is free.
///
/// # Safety
/// `SpinLock` must point at an initialised lock.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeTestSpinLock(SpinLock: *mut KSPIN_LOCK) -> BOOLEAN {
    let _crossing = cross(&functions::KeTestSpinLock);
    // SAFETY: promised by the caller.
    BOOLEAN::from(unsafe { *SpinLock } == FREE)
}

/// The processor's IRQL.
///
/// # Safety
/// None needed.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeGetCurrentIrql() -> KIRQL {
    let _crossing = cross(&functions::KeGetCurrentIrql);
    context::irql()
}

/// Raises the IRQL.
///
/// # Safety
/// None needed.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KfRaiseIrql(NewIrql: KIRQL) -> KIRQL {
    let _crossing = cross(&functions::KfRaiseIrql);
    context::with_processor(|p| {
        let old = p.irql();
        if NewIrql < old {
            verifier::violation(
                rules::IRQL_DIRECTION,
                format!("KfRaiseIrql raises the IRQL from {old} to {NewIrql}"),
            );
            return old;
        }
        p.set_irql(NewIrql)
    })
}

/// Lowers the IRQL.
///
/// # Safety
/// None needed.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeLowerIrql(NewIrql: KIRQL) {
    let _crossing = cross(&functions::KeLowerIrql);
    context::with_processor(|p| {
        let old = p.irql();
        if NewIrql > old {
            verifier::violation(
                rules::IRQL_DIRECTION,
                format!("KeLowerIrql lowers the IRQL from {old} to {NewIrql}"),
            );
            return;
        }
        if NewIrql < DISPATCH && p.locks.len() > 0 {
            verifier::violation(
                rules::LOCK_IRQL,
                format!(
                    "KeLowerIrql goes to IRQL {NewIrql} while {} spin lock(s) are held",
                    p.locks.len()
                ),
            );
        }
        p.lower_irql(NewIrql);
    });
}
