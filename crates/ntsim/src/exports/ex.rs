//! `Ex*`: pool memory, rundown protection, fast mutexes.

use std::ffi::c_void;
use std::ptr;

use ndis_sys::types::{BOOLEAN, FALSE, TRUE};
use ndis_sys::wdm::{
    EX_RUNDOWN_ACTIVE, EX_RUNDOWN_COUNT_INC, EX_RUNDOWN_REF, FAST_MUTEX, POOL_FLAG_CACHE_ALIGNED,
    POOL_FLAG_NON_PAGED, POOL_FLAG_NON_PAGED_EXECUTE, POOL_FLAG_PAGED, POOL_FLAG_RAISE_ON_FAILURE,
    POOL_FLAG_REQUIRED_MASK, POOL_FLAG_UNINITIALIZED, POOL_FLAG_USE_QUOTA, POOL_FLAGS, POOL_TYPE,
};

use crate::memory::Request;
use crate::verifier::mutexes::{self, Lock};
use crate::verifier::{self, cross, rules};
use crate::world::context;
use crate::world::driver::DriverNumber;
use crate::world::processor::APC;
use crate::world::wait::wait_until;

exports! {
    "ntoskrnl.exe";
    ExAllocatePool2: PASSIVE..=DISPATCH,
    ExAllocatePoolWithTag: PASSIVE..=DISPATCH,
    ExFreePool: PASSIVE..=DISPATCH,
    ExFreePoolWithTag: PASSIVE..=DISPATCH,
    ExInitializeRundownProtection: PASSIVE..=APC,
    ExAcquireRundownProtection: PASSIVE..=DISPATCH,
    ExReleaseRundownProtection: PASSIVE..=DISPATCH,
    ExWaitForRundownProtectionRelease: PASSIVE..=APC,
    ExRundownCompleted: PASSIVE..=APC,
    ExReInitializeRundownProtection: PASSIVE..=APC,
    ExAcquireFastMutex: PASSIVE..=APC,
    ExReleaseFastMutex: APC..=APC,
}

const CACHE_LINE: usize = 64;

/// Allocates pool memory.
///
/// # Safety
/// None needed.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ExAllocatePool2(
    Flags: POOL_FLAGS,
    NumberOfBytes: usize,
    Tag: u32,
) -> *mut c_void {
    const KINDS: POOL_FLAGS = POOL_FLAG_NON_PAGED | POOL_FLAG_NON_PAGED_EXECUTE | POOL_FLAG_PAGED;
    const KNOWN: POOL_FLAGS = KINDS
        | POOL_FLAG_USE_QUOTA
        | POOL_FLAG_UNINITIALIZED
        | POOL_FLAG_CACHE_ALIGNED
        | POOL_FLAG_RAISE_ON_FAILURE;
    let crossing = cross(&functions::ExAllocatePool2);
    if NumberOfBytes == 0 || Tag == 0 {
        verifier::violation(
            rules::POOL_ARGUMENT,
            format!(
                "ExAllocatePool2({Flags:#x}, {NumberOfBytes}, {Tag:#x}): size and tag must not be zero"
            ),
        );
        return ptr::null_mut();
    }
    let required = Flags & POOL_FLAG_REQUIRED_MASK;
    if required & !KNOWN != 0 || (Flags & KINDS).count_ones() != 1 {
        verifier::violation(
            rules::POOL_ARGUMENT,
            format!("ExAllocatePool2: the flags {Flags:#x} are not a kind of pool and modifiers"),
        );
        return ptr::null_mut();
    }
    let paged = Flags & POOL_FLAG_PAGED != 0;
    if paged && context::irql() > APC {
        verifier::violation(
            rules::IRQL,
            format!(
                "ExAllocatePool2 was asked for paged pool at IRQL {}",
                context::irql()
            ),
        );
    }
    let machine = context::machine();
    let address = machine.pool_alloc(&Request {
        size: NumberOfBytes,
        align: if Flags & POOL_FLAG_CACHE_ALIGNED != 0 {
            CACHE_LINE
        } else {
            16
        },
        tag: Tag,
        zero: Flags & POOL_FLAG_UNINITIALIZED == 0,
        paged,
        owner: machine.owner(&crossing),
        function: "ExAllocatePool2",
    });
    match address {
        Some(address) => address as *mut c_void,
        None if Flags & POOL_FLAG_RAISE_ON_FAILURE != 0 => verifier::bugcheck(
            rules::BUGCHECK,
            "ExAllocatePool2 raises STATUS_INSUFFICIENT_RESOURCES, which nobody catches here",
        ),
        None => ptr::null_mut(),
    }
}

/// Bits of a POOL_TYPE: paged, aligned to cache lines, not raising when a quota is used up, raising on failure, of no weight, not
/// executable, zeroed.
pub(super) mod pool_type {
    pub(in super::super) const PAGED: i32 = 1;
    pub(in super::super) const CACHE_ALIGNED: i32 = 4;
    pub(in super::super) const QUOTA_FAIL_NO_RAISE: i32 = 8;
    pub(in super::super) const RAISE: i32 = 16;
    pub(in super::super) const COLD: i32 = 256;
    pub(in super::super) const NX: i32 = 512;
    pub(in super::super) const ZERO: i32 = 1024;

    /// Whether these are bits of a pool type, and no others.
    pub(in super::super) fn is_known(kind: i32) -> bool {
        let known = PAGED | CACHE_ALIGNED | QUOTA_FAIL_NO_RAISE | RAISE | COLD | NX | ZERO;
        kind & !known == 0
    }
}

/// Allocates as functions do that take a POOL_TYPE.
pub(super) fn allocate(
    owner: DriverNumber,
    kind: POOL_TYPE,
    size: usize,
    tag: u32,
    by: &'static str,
) -> *mut c_void {
    use pool_type::*;
    let has = |bit: i32| kind & bit != 0;
    if size == 0 || tag == 0 || !is_known(kind) {
        verifier::violation(
            rules::POOL_ARGUMENT,
            format!("{by}: pool type {kind:#x}, {size} bytes, tag {tag:#x}"),
        );
        return ptr::null_mut();
    }
    if has(PAGED) && context::irql() > APC {
        verifier::violation(
            rules::IRQL,
            format!("{by} was asked for paged pool at IRQL {}", context::irql()),
        );
    }
    let address = context::machine().pool_alloc(&Request {
        size,
        align: if has(CACHE_ALIGNED) { CACHE_LINE } else { 16 },
        tag,
        zero: has(ZERO),
        paged: has(PAGED),
        owner,
        function: by,
    });
    match address {
        Some(address) => address as *mut c_void,
        None if has(RAISE) => verifier::bugcheck(
            rules::BUGCHECK,
            format!("{by} raises STATUS_INSUFFICIENT_RESOURCES, which nobody catches here"),
        ),
        None => ptr::null_mut(),
    }
}

/// Allocates pool memory whose contents are undefined.
///
/// # Safety
/// None needed.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ExAllocatePoolWithTag(
    PoolType: POOL_TYPE,
    NumberOfBytes: usize,
    Tag: u32,
) -> *mut c_void {
    let crossing = cross(&functions::ExAllocatePoolWithTag);
    let owner = context::machine().owner(&crossing);
    allocate(owner, PoolType, NumberOfBytes, Tag, "ExAllocatePoolWithTag")
}

pub(super) fn free(address: *mut c_void, tag: Option<u32>, by: &'static str) {
    let machine = context::machine();
    if machine.pool.is_paged(address as usize) && context::irql() > APC {
        verifier::violation(
            rules::IRQL,
            format!("{by} frees paged pool at IRQL {}", context::irql()),
        );
    }
    machine.pool_free(address as usize, tag, by);
}

/// Frees pool memory.
///
/// # Safety
/// Nobody may use the memory any more.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ExFreePool(P: *mut c_void) {
    let _crossing = cross(&functions::ExFreePool);
    free(P, None, "ExFreePool");
}

/// Frees pool memory that has that tag. Zero stands for any.
///
/// # Safety
/// Nobody may use the memory any more.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ExFreePoolWithTag(P: *mut c_void, Tag: u32) {
    let _crossing = cross(&functions::ExFreePoolWithTag);
    free(P, (Tag != 0).then_some(Tag), "ExFreePoolWithTag");
}

/// Initialises rundown protection.
///
/// # Safety
/// `RunRef` must be valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ExInitializeRundownProtection(RunRef: *mut EX_RUNDOWN_REF) {
    let _crossing = cross(&functions::ExInitializeRundownProtection);
    // SAFETY: promised by the caller.
    unsafe { (*RunRef).Count = 0 };
}

/// Takes protection.
///
/// # Safety
/// `RunRef` must point at initialised rundown protection.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ExAcquireRundownProtection(RunRef: *mut EX_RUNDOWN_REF) -> BOOLEAN {
    let _crossing = cross(&functions::ExAcquireRundownProtection);
    // SAFETY: promised by the caller.
    unsafe {
        if (*RunRef).Count & EX_RUNDOWN_ACTIVE != 0 {
            return FALSE;
        }
        (*RunRef).Count += EX_RUNDOWN_COUNT_INC;
    }
    TRUE
}

/// Gives protection back.
///
/// # Safety
/// `RunRef` must point at initialised rundown protection.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ExReleaseRundownProtection(RunRef: *mut EX_RUNDOWN_REF) {
    let _crossing = cross(&functions::ExReleaseRundownProtection);
    // SAFETY: promised by the caller.
    unsafe {
        if (*RunRef).Count < EX_RUNDOWN_COUNT_INC {
            verifier::violation(
                rules::RUNDOWN,
                format!(
                    "ExReleaseRundownProtection gives back protection of {RunRef:p} that nobody has"
                ),
            );
            return;
        }
        (*RunRef).Count -= EX_RUNDOWN_COUNT_INC;
    }
}

/// Begins rundown and waits for the last protection to be given back.
///
/// # Safety
/// `RunRef` must point at initialised rundown protection that stays until the wait is over.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ExWaitForRundownProtectionRelease(RunRef: *mut EX_RUNDOWN_REF) {
    let _crossing = cross(&functions::ExWaitForRundownProtectionRelease);
    // SAFETY: promised by the caller.
    unsafe { (*RunRef).Count |= EX_RUNDOWN_ACTIVE };
    wait_until(
        // SAFETY: promised by the caller.
        || unsafe { (*RunRef).Count } == EX_RUNDOWN_ACTIVE,
        None,
        format!("ExWaitForRundownProtectionRelease waits for the protection at {RunRef:p}"),
    );
}

/// # Safety
/// `run_ref` must point at initialised rundown protection.
unsafe fn check_run_down(run_ref: *mut EX_RUNDOWN_REF, by: &str) {
    // SAFETY: promised by the caller.
    let count = unsafe { (*run_ref).Count };
    if count != EX_RUNDOWN_ACTIVE {
        verifier::violation(
            rules::RUNDOWN,
            format!("{by}: the protection at {run_ref:p} has not been run down (count {count:#x})"),
        );
    }
}

/// Says that rundown is complete.
///
/// # Safety
/// `RunRef` must point at initialised rundown protection.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ExRundownCompleted(RunRef: *mut EX_RUNDOWN_REF) {
    let _crossing = cross(&functions::ExRundownCompleted);
    // SAFETY: promised by the caller.
    unsafe {
        check_run_down(RunRef, "ExRundownCompleted");
        (*RunRef).Count = EX_RUNDOWN_ACTIVE;
    }
}

/// Makes rundown protection usable again.
///
/// # Safety
/// `RunRef` must point at initialised rundown protection.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ExReInitializeRundownProtection(RunRef: *mut EX_RUNDOWN_REF) {
    let _crossing = cross(&functions::ExReInitializeRundownProtection);
    // SAFETY: promised by the caller.
    unsafe {
        check_run_down(RunRef, "ExReInitializeRundownProtection");
        (*RunRef).Count = 0;
    }
}

/// Acquires a fast mutex.
///
/// # Safety
/// `FastMutex` must point at an initialised fast mutex.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ExAcquireFastMutex(FastMutex: *mut FAST_MUTEX) {
    const F: &str = "ExAcquireFastMutex";
    let _crossing = cross(&functions::ExAcquireFastMutex);
    let me = context::with(|c| c.thread.get()).cast_mut().cast();
    // SAFETY: promised by the caller.
    unsafe {
        if (*FastMutex).Count < 1 && (*FastMutex).Owner == me {
            verifier::bugcheck(
                rules::LOCK_RECURSIVE,
                format!("{F}: this thread owns the mutex at {FastMutex:p} already"),
            );
        }
        mutexes::check_order(Lock::fast_mutex(FastMutex.addr()), F);
        let old = context::irql();
        wait_until(
            || (*FastMutex).Count == 1,
            None,
            format!("{F} waits for the mutex at {FastMutex:p}"),
        );
        (*FastMutex).Count = 0;
        (*FastMutex).Owner = me;
        (*FastMutex).OldIrql = u32::from(old);
    }
    context::core()
        .verifier
        .lock_order
        .note_mutex(FastMutex.addr());
    mutexes::acquired(Lock::fast_mutex(FastMutex.addr()), F);
    context::with_processor(|p| p.set_irql(APC));
}

/// Releases a fast mutex.
///
/// # Safety
/// `FastMutex` must point at an initialised fast mutex.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ExReleaseFastMutex(FastMutex: *mut FAST_MUTEX) {
    let _crossing = cross(&functions::ExReleaseFastMutex);
    // SAFETY: promised by the caller.
    let old = unsafe {
        if (*FastMutex).Count == 1 {
            verifier::violation(
                rules::LOCK_NOT_HELD,
                format!(
                    "ExReleaseFastMutex releases the mutex at {FastMutex:p}, which nobody owns"
                ),
            );
            return;
        }
        if !mutexes::released(FastMutex.addr()) {
            verifier::violation(
                rules::LOCK_NOT_HELD,
                format!(
                    "ExReleaseFastMutex releases the mutex at {FastMutex:p}, which another thread owns"
                ),
            );
            // It stays the owner's, who has done nothing wrong.
            return;
        }
        (*FastMutex).Count = 1;
        (*FastMutex).Owner = ptr::null_mut();
        (*FastMutex).OldIrql
    };
    context::with_processor(|p| p.lower_irql(old as u8));
}
