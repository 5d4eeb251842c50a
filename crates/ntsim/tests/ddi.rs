//! Rules of single functions: what must follow a call, and where what they are given may lie.
#![allow(unsafe_code, reason = "tiny drivers")]

mod common;

use std::ffi::c_void;
use std::ptr::{self, null_mut};
use std::time::Duration;

use common::{TAG, broken, suspects};
use ndis_sys::imports::*;
use ndis_sys::status::STATUS_SUCCESS;
use ndis_sys::types::KernelMode;
use ndis_sys::wdm::*;
use ntsim::verifier::rules;

/// Runs a closure as driver code at PASSIVE_LEVEL in a world of its own; the rules it broke.
fn accused(f: impl FnOnce()) -> Vec<&'static str> {
    let (mut world, a) = suspects();
    world.try_call(a, f);
    broken(&mut world)
}

/// Makes an event that nobody has set.
fn initialize(event: &mut KEVENT) {
    // SAFETY: a variable, which stays where it is.
    unsafe { KeInitializeEvent(event, NotificationEvent, 0) };
}

unsafe fn wait_for(event: &mut KEVENT) -> i32 {
    let event = (&raw mut *event).cast();
    // SAFETY: an event.
    unsafe { KeWaitForSingleObject(event, Executive, KernelMode, 0, null_mut()) }
}

#[test]
fn a_wait_that_was_announced_follows_at_once() {
    let rules = accused(|| {
        let (mut first, mut second) = (KEVENT::ZEROED, KEVENT::ZEROED);
        initialize(&mut first);
        initialize(&mut second);
        // SAFETY: events on this stack.
        unsafe {
            KeSetEvent(&mut second, 0, 0);
            KeSetEvent(&mut first, 0, 1);
            wait_for(&mut second);
            let mut objects = [(&raw mut first).cast(), (&raw mut second).cast()];
            KeSetEvent(&mut first, 0, 1);
            let (all, out) = (objects.as_mut_ptr(), null_mut());
            KeWaitForMultipleObjects(2, all, WaitAll, Executive, KernelMode, 0, null_mut(), out);
            KeGetCurrentIrql();
        }
    });
    assert_eq!(rules, [""; 0]);
}

#[test]
fn something_comes_between_an_announced_wait_and_its_announcement() {
    let between = accused(|| {
        let mut event = KEVENT::ZEROED;
        initialize(&mut event);
        // SAFETY: an event on this stack.
        unsafe {
            KeSetEvent(&mut event, 0, 1);
            KeGetCurrentIrql();
            wait_for(&mut event);
        }
    });
    assert_eq!(between, [rules::SET_AND_WAIT]);
    let returned = accused(|| {
        let mut semaphore = KSEMAPHORE::ZEROED;
        // SAFETY: a semaphore on this stack.
        unsafe {
            KeInitializeSemaphore(&mut semaphore, 0, 1);
            KeReleaseSemaphore(&mut semaphore, 0, 1, 1);
        }
    });
    assert_eq!(returned, [rules::SET_AND_WAIT]);
    let above = accused(|| {
        let mut event = KEVENT::ZEROED;
        initialize(&mut event);
        // SAFETY: an event on this stack.
        unsafe {
            let old = KfRaiseIrql(2);
            KeSetEvent(&mut event, 0, 1);
            KeLowerIrql(old);
        }
    });
    assert_eq!(above, [rules::IRQL, rules::SET_AND_WAIT]);
}

unsafe extern "efiapi" fn nothing(_: *mut KDPC, _: *mut c_void, _: *mut c_void, _: *mut c_void) {}

// Each in a frame of its own.
#[inline(never)]
fn uses_a_timer(cancel: bool) {
    let (mut timer, mut dpc) = (KTIMER::ZEROED, KDPC::ZEROED);
    // SAFETY: on this stack; the timer is left running on purpose.
    unsafe {
        KeInitializeTimerEx(&mut timer, NotificationTimer);
        KeInitializeDpc(&mut dpc, nothing, null_mut());
        KeSetTimer(&mut timer, -10_000_000, &mut dpc);
        if cancel {
            KeCancelTimer(&mut timer);
        }
    }
}

#[inline(never)]
fn queues_a_dpc() {
    let mut dpc = KDPC::ZEROED;
    // SAFETY: on this stack; it is left queued on purpose.
    unsafe {
        KeInitializeDpc(&mut dpc, nothing, null_mut());
        KeInsertQueueDpc(&mut dpc, null_mut(), null_mut());
    }
}

#[inline(never)]
fn makes_a_resource() {
    let mut resource = ERESOURCE::ZEROED;
    // SAFETY: on this stack; it is not deleted on purpose.
    unsafe { ExInitializeResourceLite(&mut resource) };
}

#[inline(never)]
fn makes_a_list() {
    let mut list = LOOKASIDE_LIST_EX::ZEROED;
    // SAFETY: as above.
    unsafe { ExInitializeLookasideListEx(&mut list, None, None, NX, 0, 64, TAG, 0) };
}

/// NonPagedPoolNx.
const NX: i32 = 512;

#[test]
fn what_the_kernel_uses_outlives_the_function_whose_variable_it_is() {
    assert_eq!(accused(|| uses_a_timer(true)), [""; 0]);
    let cases: [(&str, fn()); 4] = [
        ("a running timer", || uses_a_timer(false)),
        ("a queued DPC", queues_a_dpc),
        ("a resource", makes_a_resource),
        ("a lookaside list", makes_a_list),
    ];
    for (what, case) in cases {
        let (mut world, a) = suspects();
        let irql = if what == "a queued DPC" { 2 } else { 0 };
        world.call_on(a, 0, irql, case);
        world.run_for(Duration::from_millis(1));
        let found = world.take_violations();
        assert_eq!(found.len(), 1, "{what}: {found:?}");
        assert_eq!(found[0].rule, rules::FREED_IN_USE);
        assert!(found[0].text.contains(what), "{}", found[0]);
    }
}

unsafe extern "efiapi" fn rings(_: *mut EX_TIMER, _: *mut c_void) {}

unsafe extern "efiapi" fn allocates_a_timer(_: *mut DRIVER_OBJECT, _: *mut UNICODE_STRING) -> i32 {
    // SAFETY: it is left on purpose, and not set.
    unsafe { ExAllocateTimer(rings, null_mut(), 0) };
    STATUS_SUCCESS
}

unsafe extern "efiapi" fn allocates_an_entry(
    object: *mut DRIVER_OBJECT,
    _: *mut UNICODE_STRING,
) -> i32 {
    // SAFETY: it is left on purpose.
    unsafe { IoAllocateErrorLogEntry(object.cast(), 64) };
    STATUS_SUCCESS
}

#[test]
fn timers_and_entries_of_the_log_that_a_driver_leaves_are_leaks() {
    type Entry = unsafe extern "efiapi" fn(*mut DRIVER_OBJECT, *mut UNICODE_STRING) -> i32;
    let cases: [(Entry, &str); 2] = [
        (allocates_a_timer, "ExAllocateTimer"),
        (allocates_an_entry, "IoAllocateErrorLogEntry"),
    ];
    for (entry, function) in cases {
        let (mut world, a) = suspects();
        let driver = world.load_driver(a, "forgetful", entry).unwrap();
        world.unload_driver(driver);
        let found = world.take_violations();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].rule, rules::POOL_LEAK);
        assert!(found[0].text.contains(function), "{}", found[0]);
    }
}

#[test]
fn an_entry_of_the_log_is_written_or_freed_once() {
    let entry = || {
        let object = ptr::without_provenance_mut(0x1000);
        // SAFETY: the object is only a name.
        unsafe { IoAllocateErrorLogEntry(object, 64) }
    };
    let twice = accused(|| {
        let entry = entry();
        // SAFETY: freed twice on purpose.
        unsafe {
            IoFreeErrorLogEntry(entry);
            IoFreeErrorLogEntry(entry);
        }
    });
    assert_eq!(twice, [rules::POOL_DOUBLE_FREE]);
    let written_and_freed = accused(|| {
        let entry = entry();
        // SAFETY: writing gives it back; freed again on purpose.
        unsafe {
            IoWriteErrorLogEntry(entry);
            IoFreeErrorLogEntry(entry);
        }
    });
    assert_eq!(written_and_freed, [rules::POOL_DOUBLE_FREE]);
    let not_one = accused(|| {
        // SAFETY: a block of another kind, and too short.
        unsafe { IoWriteErrorLogEntry(ExAllocatePool2(POOL_FLAG_NON_PAGED, 16, TAG)) };
    });
    assert_eq!(not_one, [rules::BAD_ADDRESS]);
}

#[test]
fn the_most_that_drivers_have_held_at_a_time_is_known() {
    let (mut world, a) = suspects();
    world.call(a, || {
        // SAFETY: each is freed once.
        unsafe {
            let [first, second] =
                [1000, 500].map(|size| ExAllocatePool2(POOL_FLAG_NON_PAGED, size, TAG));
            ExFreePoolWithTag(first, TAG);
            ExFreePoolWithTag(second, TAG);
            ExFreePoolWithTag(ExAllocatePool2(POOL_FLAG_NON_PAGED, 700, TAG), TAG);
        }
    });
    let stats = world.pool_stats(a);
    assert_eq!((stats.driver_bytes, stats.peak_bytes), (0, 1500));
}
