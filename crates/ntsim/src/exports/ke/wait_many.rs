//! Waiting for several objects.

use std::cell::Cell;
use std::ffi::c_void;

use ndis_sys::status::{STATUS_SUCCESS, STATUS_TIMEOUT};
use ndis_sys::types::{BOOLEAN, KPROCESSOR_MODE, LARGE_INTEGER, NTSTATUS};
use ndis_sys::wdm::{
    DISPATCHER_HEADER, KWAIT_BLOCK, KWAIT_REASON, MAXIMUM_WAIT_OBJECTS, THREAD_WAIT_OBJECTS,
    WAIT_TYPE, WaitAll, WaitAny,
};

use super::time;
use super::wait::{WAITABLE, check_initialized, expect_off_stack, may_wait, take};
use crate::memory::paged;
use crate::verifier::{self, cross, rules};
use crate::world::wait::{Outcome, WaitFor, block};

exports! {
    "ntoskrnl.exe";
    KeWaitForMultipleObjects: PASSIVE..=DISPATCH,
}

fn signalled(object: usize) -> bool {
    // SAFETY: checked when the wait began; objects stay until it is over.
    unsafe { (*(object as *const DISPATCHER_HEADER)).SignalState > 0 }
}

/// Takes what a wait for these objects uses up: the first that is signalled, or all of them at once. Its index; zero for all.
fn take_of(objects: &[usize], all: bool) -> Option<usize> {
    if !all {
        return objects.iter().position(|o| take(*o));
    }
    if !objects.iter().all(|o| signalled(*o)) {
        return None;
    }
    for object in objects {
        take(*object);
    }
    Some(0)
}

/// Waits for one of several objects, or for all. Returns STATUS_WAIT_0 plus the object's index.
///
/// # Safety
/// `Object` must point at `Count` pointers to initialised dispatcher objects that stay until the wait is over; `Timeout` must be null
/// or point at a time; `WaitBlockArray` must be null or point at `Count` wait blocks.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeWaitForMultipleObjects(
    Count: u32,
    Object: *mut *mut c_void,
    WaitType: WAIT_TYPE,
    WaitReason: KWAIT_REASON,
    WaitMode: KPROCESSOR_MODE,
    Alertable: BOOLEAN,
    Timeout: *mut LARGE_INTEGER,
    WaitBlockArray: *mut KWAIT_BLOCK,
) -> NTSTATUS {
    const F: &str = "KeWaitForMultipleObjects";
    let _crossing = cross(&functions::KeWaitForMultipleObjects);
    let _ = (WaitReason, Alertable);
    let most = if WaitBlockArray.is_null() {
        THREAD_WAIT_OBJECTS
    } else {
        MAXIMUM_WAIT_OBJECTS
    };
    if Count == 0 || Count > most {
        verifier::bugcheck(
            rules::BUGCHECK,
            format!(
                "{F} stops the system with MAXIMUM_WAIT_OBJECTS_EXCEEDED: {Count} objects, at most {most} {} wait blocks",
                if WaitBlockArray.is_null() {
                    "without"
                } else {
                    "with"
                }
            ),
        );
    }
    if WaitType != WaitAll && WaitType != WaitAny {
        verifier::bugcheck(
            rules::BUGCHECK,
            format!("{F}: there is no wait type {WaitType}"),
        );
    }
    // SAFETY: promised by the caller.
    let objects: Vec<usize> = unsafe { std::slice::from_raw_parts(Object, Count as usize) }
        .iter()
        .map(|object| object.addr())
        .collect();
    // "Both the pointer array and dispatcher objects must reside in nonpaged system memory", and the array of wait blocks.
    let arrays = [
        (Object.addr(), "the array of objects"),
        (WaitBlockArray.addr(), "the array of wait blocks"),
    ];
    for (address, what) in arrays {
        paged::expect_resident(address, what, F);
        expect_off_stack(WaitMode, address, what, F);
    }
    for object in &objects {
        expect_off_stack(WaitMode, *object, "the object", F);
        // SAFETY: promised by the caller.
        unsafe { check_initialized(*object as *mut DISPATCHER_HEADER, WAITABLE, F) };
    }
    let all = WaitType == WaitAll;
    if all
        && objects
            .iter()
            .enumerate()
            .any(|(i, o)| objects[..i].contains(o))
    {
        verifier::bugcheck(
            rules::BUGCHECK,
            format!("{F} raises STATUS_INVALID_PARAMETER_MIX: one object twice in a wait for all"),
        );
    }
    // SAFETY: promised by the caller.
    let timeout = unsafe { Timeout.as_ref().copied() };
    may_wait(timeout, F);
    let status = |index: usize| STATUS_SUCCESS + index as NTSTATUS;
    if let Some(index) = take_of(&objects, all) {
        return status(index);
    }
    if timeout == Some(0) {
        return STATUS_TIMEOUT;
    }
    let deadline = timeout.map(time::due);
    let story = format!(
        "{F} waits for {} of the objects at {}",
        if all { "all" } else { "one" },
        objects
            .iter()
            .map(|o| format!("{o:#x}"))
            .collect::<Vec<_>>()
            .join(", ")
    );
    let taken = Cell::new(None);
    let these = objects.clone();
    let take_these = || {
        taken.set(take_of(&these, all));
        taken.get().is_some()
    };
    let take_these: &dyn Fn() -> bool = &take_these;
    // SAFETY: only extends the lifetime: the wait is over when this function returns.
    let lent: *const (dyn Fn() -> bool + 'static) = unsafe {
        std::mem::transmute::<*const (dyn Fn() -> bool + '_), *const (dyn Fn() -> bool + 'static)>(
            take_these,
        )
    };
    let what = WaitFor::Objects {
        objects,
        blocks: WaitBlockArray.addr(),
        take: lent,
    };
    match block(what, deadline, story) {
        Outcome::Satisfied => status(taken.get().unwrap_or(0)),
        Outcome::TimedOut => STATUS_TIMEOUT,
    }
}
