//! Paged pool: where it may be used, and what the verifier accuses of.
#![allow(unsafe_code, reason = "tiny drivers")]

mod common;

use std::ffi::c_void;
use std::ptr;

use common::{TAG, broken, suspects};
use ndis_sys::imports::*;
use ndis_sys::types::KernelMode;
use ndis_sys::wdm::*;
use ntsim::verifier::rules;

/// Runs a closure on paged pool, as driver code at PASSIVE_LEVEL in a world of its own; the rules it broke.
fn accused(size: usize, f: impl FnOnce(*mut u8)) -> Vec<&'static str> {
    let (mut world, a) = suspects();
    world.try_call(a, || {
        // SAFETY: needs nothing.
        let block: *mut u8 = unsafe { ExAllocatePool2(POOL_FLAG_PAGED, size, TAG).cast() };
        f(block);
        // SAFETY: freed once.
        unsafe { ExFreePoolWithTag(block.cast(), TAG) };
    });
    world.check_pool(a);
    broken(&mut world)
}

fn at_dispatch<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: lowered again.
    unsafe {
        let old = KfRaiseIrql(2);
        let result = f();
        KeLowerIrql(old);
        result
    }
}

#[test]
fn below_dispatch_level_it_is_memory() {
    for size in [40, 4096, 10_000] {
        let rules = accused(size, |block| {
            // SAFETY: within the block.
            let bytes = unsafe { std::slice::from_raw_parts_mut(block, size) };
            assert!(bytes.iter().all(|b| *b == 0));
            bytes.fill(7);
            at_dispatch(|| ());
            assert!(bytes.iter().all(|b| *b == 7));
        });
        assert_eq!(rules, [""; 0], "{size} bytes");
    }
}

#[test]
fn writing_behind_it_is_found() {
    // SAFETY: outside the block, but inside the pool.
    let rules = accused(40, |block| unsafe { *block.add(40) = 1 });
    assert_eq!(rules, [rules::POOL_GUARD]);
}

#[test]
fn at_dispatch_level_it_is_not_there() {
    let read = accused(40, |block| {
        // SAFETY: at the wrong IRQL on purpose.
        at_dispatch(|| unsafe { block.read_volatile() });
    });
    assert_eq!(read, [rules::PAGED_ACCESS]);
    let written = accused(5000, |block| {
        // SAFETY: below DISPATCH_LEVEL, and at the wrong IRQL on purpose.
        unsafe {
            block.add(4500).write_volatile(1);
            at_dispatch(|| block.add(4500).write_volatile(2));
        }
    });
    assert_eq!(written, [rules::PAGED_ACCESS]);
}

#[test]
fn nothing_lies_in_it_that_the_kernel_uses_at_dispatch_level() {
    unsafe extern "efiapi" fn routine(
        _: *mut KDPC,
        _: *mut c_void,
        _: *mut c_void,
        _: *mut c_void,
    ) {
    }
    let cases: [fn(*mut u8); 5] = [
        // SAFETY: within the block.
        |block| unsafe { KeInitializeEvent(block.cast(), NotificationEvent, 0) },
        // SAFETY: within the block.
        |block| unsafe { KeInitializeSemaphore(block.cast(), 0, 1) },
        // SAFETY: within the block.
        |block| unsafe { KeInitializeTimerEx(block.cast(), NotificationTimer) },
        // SAFETY: within the block.
        |block| unsafe { KeInitializeDpc(block.cast(), routine, ptr::null_mut()) },
        // SAFETY: within the block.
        |block| unsafe { KeInitializeSpinLock(block.cast()) },
    ];
    for (number, case) in cases.into_iter().enumerate() {
        let rules = accused(400, case);
        assert_eq!(rules, [rules::PAGED_ACCESS], "case {number}");
    }
}

#[test]
fn an_mdl_over_it_must_be_locked_below_dispatch_level() {
    let built = accused(4096, |block| {
        // SAFETY: paged on purpose.
        unsafe {
            let mdl = IoAllocateMdl(block.cast(), 4096, 0, 0, ptr::null_mut());
            MmBuildMdlForNonPagedPool(mdl);
            IoFreeMdl(mdl);
        }
    });
    assert_eq!(built, [rules::PAGED_ACCESS]);
    let lock = |block: *mut u8, high: bool| {
        // SAFETY: within the block.
        unsafe {
            let mdl = IoAllocateMdl(block.cast(), 4096, 0, 0, ptr::null_mut());
            let lock = || MmProbeAndLockPages(mdl, KernelMode, IoWriteAccess);
            if high {
                at_dispatch(lock)
            } else {
                lock()
            }
            // Locked pages are resident.
            at_dispatch(|| block.write_volatile(1));
            MmUnlockPages(mdl);
            IoFreeMdl(mdl);
        }
    };
    assert_eq!(accused(4096, |block| lock(block, false)), [""; 0]);
    assert_eq!(accused(4096, |block| lock(block, true)), [rules::IRQL]);
}
