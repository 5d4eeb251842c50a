//! Lookaside lists, resources, and pool as older drivers allocate it.
#![allow(unsafe_code, reason = "tiny drivers")]

mod common;

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;

use common::{broken, start, suspects};
use ndis_sys::imports::*;
use ndis_sys::status::STATUS_SUCCESS;
use ndis_sys::types::NTSTATUS;
use ndis_sys::wdm::*;
use ntsim::verifier::rules;

const TAG: u32 = u32::from_le_bytes(*b"Test");
/// NonPagedPoolNx
const NX: POOL_TYPE = 512;
/// STATUS_INVALID_PARAMETER_4, of the pool type
const INVALID_PARAMETER_4: NTSTATUS = 0xc000_00f2_u32.cast_signed();
/// STATUS_INVALID_PARAMETER_5, of the flags
const INVALID_PARAMETER_5: NTSTATUS = 0xc000_00f3_u32.cast_signed();

/// Runs a closure as driver code at PASSIVE_LEVEL in a world of its own; the rules it broke.
fn accused(f: impl FnOnce()) -> Vec<&'static str> {
    let (mut world, a) = suspects();
    world.try_call(a, f);
    broken(&mut world)
}

unsafe fn list(list: *mut LOOKASIDE_LIST_EX, size: usize) {
    // SAFETY: promised by the caller.
    let status = unsafe { ExInitializeLookasideListEx(list, None, None, NX, 0, size, TAG, 0) };
    assert_eq!(status, STATUS_SUCCESS);
}

#[test]
fn a_list_gives_blocks_and_takes_them_back() {
    let rules = accused(|| {
        let mut place = LOOKASIDE_LIST_EX::ZEROED;
        // SAFETY: a list on this stack, deleted below; blocks of its size.
        unsafe {
            list(&mut place, 100);
            let first = ExAllocateFromLookasideListEx(&mut place);
            let second = ExAllocateFromLookasideListEx(&mut place);
            assert!(!first.is_null() && first != second);
            first.cast::<u8>().write_bytes(7, 100);
            ExFreeToLookasideListEx(&mut place, first);
            ExFreeToLookasideListEx(&mut place, second);
            ExDeleteLookasideListEx(&mut place);
        }
    });
    assert_eq!(rules, [""; 0]);
}

unsafe extern "efiapi" fn own_allocate(
    kind: POOL_TYPE,
    size: usize,
    tag: u32,
    list: *mut LOOKASIDE_LIST_EX,
) -> *mut c_void {
    assert_eq!((kind, size, tag, list.is_null()), (NX, 8, TAG, false));
    // SAFETY: as any allocation.
    unsafe { ExAllocatePoolWithTag(kind, size, tag) }
}

unsafe extern "efiapi" fn own_free(block: *mut c_void, _list: *mut LOOKASIDE_LIST_EX) {
    // SAFETY: allocated above.
    unsafe { ExFreePoolWithTag(block, TAG) };
}

#[test]
fn a_driver_may_allocate_the_blocks_itself() {
    let rules = accused(|| {
        let mut place = LOOKASIDE_LIST_EX::ZEROED;
        let list = &raw mut place;
        let (allocate, free) = (Some(own_allocate as _), Some(own_free as _));
        // SAFETY: as above.
        unsafe {
            ExInitializeLookasideListEx(list, allocate, free, NX, 0, 8, TAG, 0);
            let block = ExAllocateFromLookasideListEx(list);
            assert!(!block.is_null());
            ExFreeToLookasideListEx(list, block);
            ExDeleteLookasideListEx(list);
        }
    });
    assert_eq!(rules, [""; 0]);
}

#[test]
fn what_goes_wrong_with_lists() {
    let overrun = || {
        let mut place = LOOKASIDE_LIST_EX::ZEROED;
        // SAFETY: all but the write behind the block, which is what the rule is about.
        unsafe {
            list(&mut place, 16);
            let block = ExAllocateFromLookasideListEx(&mut place);
            block.cast::<u8>().add(16).write(1);
            ExFreeToLookasideListEx(&mut place, block);
            ExDeleteLookasideListEx(&mut place);
        }
    };
    assert_eq!(accused(overrun), [rules::POOL_GUARD]);
    let deleted = || {
        let mut place = LOOKASIDE_LIST_EX::ZEROED;
        // SAFETY: a list on this stack.
        unsafe {
            list(&mut place, 16);
            ExDeleteLookasideListEx(&mut place);
            ExAllocateFromLookasideListEx(&mut place);
        }
    };
    assert_eq!(accused(deleted), [rules::UNINITIALIZED]);
    let freed_around = || {
        // SAFETY: pool memory of the list's size.
        unsafe {
            let place = ExAllocatePool2(POOL_FLAG_NON_PAGED, 96, TAG);
            list(place.cast(), 16);
            ExFreePool(place);
        }
    };
    assert_eq!(accused(freed_around), [rules::FREED_IN_USE]);
}

thread_local! {
    /// The pool type that `noting_allocate` was last called with.
    static ASKED: Cell<POOL_TYPE> = const { Cell::new(0) };
}

unsafe extern "efiapi" fn noting_allocate(
    kind: POOL_TYPE,
    size: usize,
    tag: u32,
    _list: *mut LOOKASIDE_LIST_EX,
) -> *mut c_void {
    ASKED.set(kind);
    // SAFETY: as any allocation.
    unsafe { ExAllocatePoolWithTag(kind, size, tag) }
}

/// Makes a list of blocks of 8 bytes, takes one and deletes the list: the status, and the rules that were broken.
fn made(own: bool, kind: POOL_TYPE, flags: u32) -> (NTSTATUS, Vec<&'static str>) {
    let mut made = STATUS_SUCCESS;
    let rules = accused(|| {
        let mut place = LOOKASIDE_LIST_EX::ZEROED;
        let list = &raw mut place;
        let allocate = own.then_some(noting_allocate as _);
        // SAFETY: a list on this stack, which is deleted if it was made.
        unsafe {
            made = ExInitializeLookasideListEx(list, allocate, None, kind, flags, 8, TAG, 0);
            if made == STATUS_SUCCESS {
                let block = ExAllocateFromLookasideListEx(list);
                assert!(!block.is_null());
                ExFreeToLookasideListEx(list, block);
                ExDeleteLookasideListEx(list);
            }
        }
    });
    (made, rules)
}

/// EX_LOOKASIDE_LIST_EX_FLAGS_RAISE_ON_FAIL
const RAISE_ON_FAIL: u32 = 1;
/// EX_LOOKASIDE_LIST_EX_FLAGS_FAIL_NO_RAISE
const FAIL_NO_RAISE: u32 = 2;

#[test]
fn a_routine_of_the_drivers_own_is_told_how_to_fail() {
    // POOL_RAISE_IF_ALLOCATION_FAILURE, POOL_QUOTA_FAIL_INSTEAD_OF_RAISE.
    for (flags, bit) in [(0, 0), (RAISE_ON_FAIL, 16), (FAIL_NO_RAISE, 8)] {
        assert_eq!(made(true, NX, flags), (STATUS_SUCCESS, vec![]));
        assert_eq!(ASKED.get(), NX | bit);
    }
}

#[test]
fn a_list_without_a_routine_may_raise_but_not_be_told_not_to() {
    assert_eq!(made(false, NX, RAISE_ON_FAIL), (STATUS_SUCCESS, vec![]));
    let refused = (INVALID_PARAMETER_5, vec![rules::POOL_ARGUMENT]);
    assert_eq!(made(false, NX, FAIL_NO_RAISE), refused);
}

#[test]
fn a_list_with_undefined_flags_or_both_is_none() {
    let refused = (INVALID_PARAMETER_5, vec![rules::POOL_ARGUMENT]);
    assert_eq!(made(true, NX, 4), refused);
    assert_eq!(made(true, NX, RAISE_ON_FAIL | FAIL_NO_RAISE), refused);
}

#[test]
fn a_list_of_an_undefined_pool_type_is_refused_when_it_is_made() {
    let refused = (INVALID_PARAMETER_4, vec![rules::POOL_ARGUMENT]);
    assert_eq!(made(false, 0x4000, 0), refused);
}

#[test]
fn a_list_is_aligned() {
    let misaligned = || {
        // SAFETY: pool memory with room for the list behind 8 bytes.
        unsafe {
            let place = ExAllocatePool2(POOL_FLAG_NON_PAGED, 8 + 96, TAG);
            let at = place.cast::<u8>().add(8).cast();
            list(at, 16);
            ExDeleteLookasideListEx(at);
            ExFreePool(place);
        }
    };
    assert_eq!(accused(misaligned), [rules::POOL_ARGUMENT]);
}

#[test]
fn a_resource_is_shared_or_owned_and_may_be_acquired_again() {
    let rules = accused(|| {
        let mut place = ERESOURCE::ZEROED;
        let resource = &raw mut place;
        // SAFETY: a resource on this stack, deleted below.
        unsafe {
            assert_eq!(ExInitializeResourceLite(resource), STATUS_SUCCESS);
            KeEnterCriticalRegion();
            assert_eq!(ExAcquireResourceSharedLite(resource, 1), 1);
            // Not even who shares it alone gets it for himself.
            assert_eq!(ExAcquireResourceExclusiveLite(resource, 0), 0);
            ExReleaseResourceLite(resource);
            assert_eq!(ExAcquireResourceExclusiveLite(resource, 0), 1);
            assert_eq!(ExAcquireResourceSharedLite(resource, 0), 1);
            ExReleaseResourceLite(resource);
            ExReleaseResourceLite(resource);
            KeLeaveCriticalRegion();
            assert_eq!(ExDeleteResourceLite(resource), STATUS_SUCCESS);
        }
    });
    assert_eq!(rules, [""; 0]);
}

/// A resource, and an event that a thread sets when it has had it.
#[repr(C)]
struct Shared(ERESOURCE, KEVENT);

unsafe extern "efiapi" fn wants_it(context: *mut c_void) {
    let shared = context.cast::<Shared>();
    // SAFETY: whoever created the thread waits for the event.
    unsafe {
        KeEnterCriticalRegion();
        assert_eq!(ExAcquireResourceExclusiveLite(&raw mut (*shared).0, 0), 0);
        assert_eq!(ExAcquireResourceExclusiveLite(&raw mut (*shared).0, 1), 1);
        ExReleaseResourceLite(&raw mut (*shared).0);
        KeLeaveCriticalRegion();
        KeSetEvent(&raw mut (*shared).1, 0, 0);
    }
}

#[test]
fn another_thread_waits_until_it_is_released() {
    let rules = accused(|| {
        let mut place = Shared(ERESOURCE::ZEROED, KEVENT::ZEROED);
        let shared = &raw mut place;
        // SAFETY: on this stack, which stays until the thread has set the event.
        unsafe {
            let (resource, event) = (&raw mut (*shared).0, &raw mut (*shared).1);
            ExInitializeResourceLite(resource);
            KeInitializeEvent(event, NotificationEvent, 0);
            KeEnterCriticalRegion();
            ExAcquireResourceExclusiveLite(resource, 1);
            let mut thread = ptr::null_mut();
            let none: *mut c_void = ptr::null_mut();
            PsCreateSystemThread(
                &mut thread,
                0,
                none.cast(),
                none,
                none.cast(),
                wants_it,
                shared.cast(),
            );
            ZwClose(thread);
            let mut pause = -10_000;
            KeDelayExecutionThread(0, 0, &mut pause);
            assert_eq!(KeReadStateEvent(event), 0);
            ExReleaseResourceLite(resource);
            KeLeaveCriticalRegion();
            KeWaitForSingleObject(event.cast(), Executive, 0, 0, ptr::null_mut());
            ExDeleteResourceLite(resource);
        }
    });
    assert_eq!(rules, [""; 0]);
}

#[test]
fn what_goes_wrong_with_resources() {
    let wrong = |f: unsafe fn(*mut ERESOURCE)| {
        accused(|| {
            let mut place = ERESOURCE::ZEROED;
            // SAFETY: a resource on this stack.
            unsafe {
                ExInitializeResourceLite(&mut place);
                f(&mut place);
            }
        })
    };
    let outside_a_region = wrong(|resource| {
        // SAFETY: a resource.
        unsafe {
            ExAcquireResourceExclusiveLite(resource, 1);
            ExReleaseResourceLite(resource);
            ExDeleteResourceLite(resource);
        }
    });
    assert_eq!(outside_a_region, [rules::RESOURCE]);
    let not_owned = wrong(|resource| {
        // SAFETY: a resource.
        unsafe {
            ExReleaseResourceLite(resource);
            ExDeleteResourceLite(resource);
        }
    });
    assert_eq!(not_owned, [rules::RESOURCE]);
    let deleted_while_owned = wrong(|resource| {
        // SAFETY: a resource.
        unsafe {
            KeEnterCriticalRegion();
            ExAcquireResourceSharedLite(resource, 1);
            ExDeleteResourceLite(resource);
            KeLeaveCriticalRegion();
        }
    });
    assert_eq!(deleted_while_owned, [rules::RESOURCE]);
    let not_entered = wrong(|resource| {
        // SAFETY: a resource.
        unsafe {
            KeLeaveCriticalRegion();
            ExDeleteResourceLite(resource);
        }
    });
    assert_eq!(not_entered, [rules::RESOURCE]);
}

#[test]
fn a_region_is_left_after_what_it_protects() {
    // SAFETY: as each test needs it.
    let accused = |f: unsafe fn(*mut ERESOURCE)| {
        accused(|| {
            let mut place = ERESOURCE::ZEROED;
            // SAFETY: a resource on this stack.
            unsafe {
                ExInitializeResourceLite(&mut place);
                KeEnterCriticalRegion();
                f(&mut place);
                ExDeleteResourceLite(&mut place);
            }
        })
    };
    let too_early = accused(|resource| {
        // SAFETY: a resource.
        unsafe {
            ExAcquireResourceSharedLite(resource, 1);
            KeLeaveCriticalRegion();
            ExReleaseResourceLite(resource);
        }
    });
    assert_eq!(too_early, [rules::RESOURCE]);
    let from_an_inner_one = accused(|resource| {
        // SAFETY: a resource.
        unsafe {
            ExAcquireResourceExclusiveLite(resource, 1);
            KeEnterCriticalRegion();
            KeLeaveCriticalRegion();
            ExReleaseResourceLite(resource);
            KeLeaveCriticalRegion();
        }
    });
    assert_eq!(from_an_inner_one, [""; 0]);
    // APC_LEVEL keeps APCs away just as well.
    let at_apc_level = accused(|resource| {
        // SAFETY: a resource.
        unsafe {
            let old = KfRaiseIrql(1);
            ExAcquireResourceExclusiveLite(resource, 1);
            KeLeaveCriticalRegion();
            ExReleaseResourceLite(resource);
            KeLowerIrql(old);
        }
    });
    assert_eq!(at_apc_level, [""; 0]);
}

unsafe extern "efiapi" fn ends_as_owner(context: *mut c_void) {
    // SAFETY: the context is a resource.
    unsafe {
        KeEnterCriticalRegion();
        ExAcquireResourceExclusiveLite(context.cast(), 1);
        PsTerminateSystemThread(STATUS_SUCCESS);
    }
}

unsafe extern "efiapi" fn ends_in_a_region(_: *mut c_void) {
    // SAFETY: nothing is needed.
    unsafe { KeEnterCriticalRegion() };
}

#[test]
fn a_thread_ends_outside_of_regions_and_owns_nothing() {
    let told = |routine| {
        let (mut world, a) = suspects();
        // Stays for as long as the thread may run.
        let resource: *mut ERESOURCE = Box::leak(Box::new(ERESOURCE::ZEROED));
        world.call(a, || {
            // SAFETY: a resource; the thread gets it.
            unsafe {
                ExInitializeResourceLite(resource);
                let handle = start(routine, resource.cast()).expect("a thread");
                ZwClose(handle);
            }
        });
        world.run_for(std::time::Duration::from_millis(1));
        let found = world.take_violations();
        assert!(found.iter().all(|v| v.rule == rules::RESOURCE), "{found:?}");
        found.into_iter().map(|v| v.text).collect::<Vec<_>>()
    };
    let owner = told(ends_as_owner);
    assert_eq!(owner.len(), 2, "{owner:?}");
    assert!(owner[0].starts_with("a system thread ends while this thread owns the resource"));
    let inside = "a system thread ends inside a critical region";
    assert_eq!(owner[1], inside);
    assert_eq!(told(ends_in_a_region), [inside]);
}

unsafe extern "efiapi" fn forgetful(object: *mut DRIVER_OBJECT, _: *mut UNICODE_STRING) -> i32 {
    // Its memory is left as well: otherwise the list would be told of when that is freed.
    let place = Box::leak(Box::new(LOOKASIDE_LIST_EX::ZEROED));
    // SAFETY: memory that stays.
    unsafe { list(place, (*object).Size as usize) };
    STATUS_SUCCESS
}

#[test]
fn a_driver_that_goes_and_leaves_a_list() {
    let (mut world, a) = suspects();
    let driver = world.load_driver(a, "forgetful", forgetful).unwrap();
    world.unload_driver(driver);
    assert_eq!(
        broken(&mut world),
        [rules::EXECUTIVE_AT_UNLOAD, rules::POOL_LEAK]
    );
}

#[test]
fn pool_with_a_tag() {
    let rules = accused(|| {
        // SAFETY: allocated and freed once.
        unsafe {
            let block = ExAllocatePoolWithTag(NX | 1024, 64, TAG);
            assert_eq!(std::slice::from_raw_parts(block.cast::<u8>(), 64), [0; 64]);
            ExFreePoolWithTag(block, TAG);
            assert!(ExAllocatePoolWithTag(NX, 0, TAG).is_null());
        }
    });
    assert_eq!(rules, [rules::POOL_ARGUMENT]);
}
