//! Waiting for one of several objects, or for all of them.
#![allow(unsafe_code, reason = "tiny drivers")]

mod common;

use std::ffi::c_void;
use std::ptr;

use common::{broken, suspects};
use ndis_sys::imports::*;
use ndis_sys::status::STATUS_TIMEOUT;
use ndis_sys::types::{KernelMode, UserMode};
use ndis_sys::wdm::*;
use ntsim::verifier::rules;

/// Waits for events; a timeout of None is none.
unsafe fn wait(events: &mut [KEVENT], kind: WAIT_TYPE, timeout: Option<i64>) -> i32 {
    let mut timeout = timeout;
    let timeout = timeout.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
    let mut objects: Vec<*mut c_void> =
        events.iter_mut().map(|e| ptr::from_mut(e).cast()).collect();
    let (count, objects) = (objects.len() as u32, objects.as_mut_ptr());
    // SAFETY: promised by the caller.
    unsafe {
        KeWaitForMultipleObjects(
            count,
            objects,
            kind,
            Executive,
            KernelMode,
            0,
            timeout,
            ptr::null_mut(),
        )
    }
}

unsafe extern "efiapi" fn set_event(
    _dpc: *mut KDPC,
    context: *mut c_void,
    _: *mut c_void,
    _: *mut c_void,
) {
    // SAFETY: the context is an event.
    unsafe { KeSetEvent(context.cast(), IO_NO_INCREMENT, 0) };
}

/// Has a DPC set an event after that many milliseconds.
struct Later(KTIMER, KDPC);

impl Later {
    unsafe fn set(&mut self, event: *mut KEVENT, milliseconds: i64) {
        // SAFETY: it stays where it is until the timer has expired.
        unsafe {
            KeInitializeTimerEx(&mut self.0, NotificationTimer);
            KeInitializeDpc(&mut self.1, set_event, event.cast());
            KeSetTimer(&mut self.0, milliseconds * -10_000, &mut self.1);
        }
    }
}

unsafe fn events<const N: usize>(events: &mut [KEVENT; N]) {
    for event in events {
        // SAFETY: it stays where it is.
        unsafe { KeInitializeEvent(event, SynchronizationEvent, 0) };
    }
}

/// Runs a closure as driver code at PASSIVE_LEVEL in a world of its own; the rules it broke.
fn accused(f: impl FnOnce()) -> Vec<&'static str> {
    let (mut world, a) = suspects();
    world.try_call(a, f);
    broken(&mut world)
}

#[test]
fn a_wait_for_one_tells_which_and_uses_up_no_other() {
    let rules = accused(|| {
        let mut three = [KEVENT::ZEROED; 3];
        let mut later = [
            Later(KTIMER::ZEROED, KDPC::ZEROED),
            Later(KTIMER::ZEROED, KDPC::ZEROED),
        ];
        // SAFETY: everything lies on this stack, which stays until the waits are over.
        unsafe {
            events(&mut three);
            assert_eq!(wait(&mut three, WaitAny, Some(0)), STATUS_TIMEOUT);
            KeSetEvent(&mut three[1], 0, 0);
            KeSetEvent(&mut three[2], 0, 0);
            assert_eq!(wait(&mut three, WaitAny, None), 1);
            assert_eq!(wait(&mut three, WaitAny, None), 2);
            later[0].set(&mut three[2], 5);
            later[1].set(&mut three[0], 7);
            assert_eq!(wait(&mut three, WaitAny, Some(-10_000)), STATUS_TIMEOUT);
            assert_eq!(wait(&mut three, WaitAny, None), 2);
            assert_eq!(wait(&mut three, WaitAny, None), 0);
            assert_eq!(wait(&mut three, WaitAny, Some(0)), STATUS_TIMEOUT);
        }
    });
    assert_eq!(rules, [""; 0]);
}

#[test]
fn a_wait_for_all_takes_all_at_once_or_nothing() {
    let rules = accused(|| {
        let mut two = [KEVENT::ZEROED; 2];
        let mut later = Later(KTIMER::ZEROED, KDPC::ZEROED);
        // SAFETY: as above.
        unsafe {
            events(&mut two);
            KeSetEvent(&mut two[0], 0, 0);
            assert_eq!(wait(&mut two, WaitAll, Some(0)), STATUS_TIMEOUT);
            assert_eq!(wait(&mut two, WaitAll, Some(-10_000)), STATUS_TIMEOUT);
            // Not even a synchronisation event is used up by a wait in vain.
            assert_eq!(KeReadStateEvent(&mut two[0]), 1);
            later.set(&mut two[1], 5);
            assert_eq!(wait(&mut two, WaitAll, None), 0);
            assert_eq!(
                (KeReadStateEvent(&mut two[0]), KeReadStateEvent(&mut two[1])),
                (0, 0)
            );
        }
    });
    assert_eq!(rules, [""; 0]);
}

#[test]
fn what_stops_the_system() {
    let at_dispatch = || {
        let mut two = [KEVENT::ZEROED; 2];
        // SAFETY: as above.
        unsafe {
            events(&mut two);
            KfRaiseIrql(2);
            wait(&mut two, WaitAny, None);
        }
    };
    assert_eq!(accused(at_dispatch), [rules::WAIT_AT_DISPATCH]);
    // Four need wait blocks.
    let too_many = || {
        let mut four = [KEVENT::ZEROED; 4];
        // SAFETY: as above.
        unsafe {
            events(&mut four);
            wait(&mut four, WaitAny, None);
        }
    };
    assert_eq!(accused(too_many), [rules::BUGCHECK]);
    let never_initialised = || {
        // SAFETY: as above.
        unsafe { wait(&mut [KEVENT::ZEROED], WaitAny, None) };
    };
    assert_eq!(accused(never_initialised), [rules::UNINITIALIZED]);
    let for_ever = || {
        let mut two = [KEVENT::ZEROED; 2];
        // SAFETY: as above.
        unsafe {
            events(&mut two);
            wait(&mut two, WaitAll, None);
        }
    };
    assert_eq!(accused(for_ever), [rules::DEADLOCK]);
}

#[test]
fn what_a_wait_uses_stays_resident() {
    // Events on the stack, which stays where it is in a wait in KernelMode; wait blocks and the array of pointers as they are given.
    let waits = |mode, pointers: *mut *mut c_void, blocks: *mut KWAIT_BLOCK| {
        let mut event = KEVENT::ZEROED;
        let mut timeout = -10_000;
        // SAFETY: there is room for a pointer; the event stays until the wait is over.
        unsafe {
            KeInitializeEvent(&mut event, NotificationEvent, 0);
            pointers.write((&raw mut event).cast());
            KeWaitForMultipleObjects(
                1,
                pointers,
                WaitAny,
                Executive,
                mode,
                0,
                &mut timeout,
                blocks,
            );
        }
    };
    // SAFETY: memory that is freed at the end.
    let with = |flags, f: &mut dyn FnMut(*mut c_void)| unsafe {
        let memory = ExAllocatePool2(flags, 256, common::TAG);
        f(memory);
        ExFreePool(memory);
    };
    let own = ptr::null_mut();
    let resident = || {
        with(POOL_FLAG_NON_PAGED, &mut |p| {
            waits(KernelMode, p.cast(), own)
        });
        let mut pointer = ptr::null_mut();
        with(POOL_FLAG_NON_PAGED, &mut |p| {
            waits(KernelMode, &raw mut pointer, p.cast())
        });
    };
    assert_eq!(accused(resident), [""; 0]);
    let pointers = || with(POOL_FLAG_PAGED, &mut |p| waits(KernelMode, p.cast(), own));
    assert_eq!(accused(pointers), [rules::PAGED_ACCESS]);
    let blocks = || {
        let mut pointer = ptr::null_mut();
        with(POOL_FLAG_PAGED, &mut |p| {
            waits(KernelMode, &raw mut pointer, p.cast())
        });
    };
    assert_eq!(accused(blocks), [rules::PAGED_ACCESS]);
    // The event is on the stack, whatever else is not.
    let in_user_mode = || with(POOL_FLAG_NON_PAGED, &mut |p| waits(UserMode, p.cast(), own));
    assert_eq!(accused(in_user_mode), [rules::PAGED_ACCESS]);
    let one_object = || {
        let mut event = KEVENT::ZEROED;
        let mut timeout = -10_000;
        // SAFETY: an event and a time on this stack.
        unsafe {
            KeInitializeEvent(&mut event, NotificationEvent, 0);
            let event = (&raw mut event).cast();
            KeWaitForSingleObject(event, Executive, UserMode, 0, &mut timeout);
        }
    };
    assert_eq!(accused(one_object), [rules::PAGED_ACCESS]);
}

unsafe extern "efiapi" fn free_memory(
    _dpc: *mut KDPC,
    context: *mut c_void,
    _: *mut c_void,
    _: *mut c_void,
) {
    // SAFETY: as a driver does it that frees too early.
    unsafe { ExFreePool(context) };
}

#[test]
fn wait_blocks_stay_until_the_wait_is_over() {
    let rules = accused(|| {
        let mut event = KEVENT::ZEROED;
        let mut pointer = (&raw mut event).cast();
        let (mut timer, mut dpc) = (KTIMER::ZEROED, KDPC::ZEROED);
        let mut timeout = -50_000;
        // SAFETY: everything stays until the wait is over, but for the wait blocks.
        unsafe {
            let blocks = ExAllocatePool2(POOL_FLAG_NON_PAGED, 256, common::TAG);
            KeInitializeEvent(&mut event, NotificationEvent, 0);
            KeInitializeTimerEx(&mut timer, NotificationTimer);
            KeInitializeDpc(&mut dpc, free_memory, blocks);
            KeSetTimer(&mut timer, -10_000, &mut dpc);
            KeWaitForMultipleObjects(
                1,
                &mut pointer,
                WaitAny,
                Executive,
                KernelMode,
                0,
                &mut timeout,
                blocks.cast(),
            );
        }
    });
    assert_eq!(rules, [rules::FREED_IN_USE]);
}
