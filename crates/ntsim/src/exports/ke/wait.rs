//! Events, semaphores, and waiting for them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::c_void;

use ndis_sys::status::{STATUS_SUCCESS, STATUS_TIMEOUT};
use ndis_sys::types::{BOOLEAN, KPRIORITY, KPROCESSOR_MODE, LARGE_INTEGER, NTSTATUS, UserMode};
use ndis_sys::wdm::{
    DISPATCHER_HEADER, EVENT_TYPE, KEVENT, KSEMAPHORE, KWAIT_REASON, LIST_ENTRY, NotificationEvent,
    SynchronizationEvent,
};

use super::time;
use crate::exports::resource;
use crate::memory::paged;
use crate::verifier::{self, cross, owed_wait, rules};
use crate::world::processor::APC;
use crate::world::wait::{Outcome, WaitFor, block, sleep_until};
use crate::world::{context, thread};

exports! {
    "ntoskrnl.exe";
    KeInitializeEvent: PASSIVE..=HIGH,
    KeSetEvent: PASSIVE..=DISPATCH,
    KeClearEvent: PASSIVE..=DISPATCH,
    KeResetEvent: PASSIVE..=DISPATCH,
    KeReadStateEvent: PASSIVE..=DISPATCH,
    KeWaitForSingleObject: PASSIVE..=DISPATCH,
    KeDelayExecutionThread: PASSIVE..=APC,
    KeInitializeSemaphore: PASSIVE..=PASSIVE,
    KeReleaseSemaphore: PASSIVE..=DISPATCH,
    KeEnterCriticalRegion: PASSIVE..=APC,
    KeLeaveCriticalRegion: PASSIVE..=APC,
}

/// Kinds of dispatcher objects (`KOBJECTS`).
pub(crate) mod kind {
    pub(crate) const NOTIFICATION_EVENT: u8 = 0;
    pub(crate) const SYNCHRONIZATION_EVENT: u8 = 1;
    pub(crate) const SEMAPHORE: u8 = 5;
    pub(crate) const THREAD: u8 = 6;
    pub(crate) const NOTIFICATION_TIMER: u8 = 8;
    pub(crate) const SYNCHRONIZATION_TIMER: u8 = 9;
}

/// A header for a new object. Its list head points at itself, as an empty list does: this is also how initialised
/// objects are told from others.
///
/// # Safety
/// `header` must be valid for a write.
pub(crate) unsafe fn initialize_header(
    header: *mut DISPATCHER_HEADER,
    kind: u8,
    size: usize,
    state: i32,
) {
    paged::expect_resident(
        header as usize,
        "the dispatcher object",
        "the initialisation of an object",
    );
    // SAFETY: promised by the caller.
    unsafe {
        let head = &raw mut (*header).WaitListHead;
        header.write(DISPATCHER_HEADER {
            Type: kind,
            Size: (size / 4) as u8,
            SignalState: state,
            WaitListHead: LIST_ENTRY {
                Flink: head,
                Blink: head,
            },
            ..DISPATCHER_HEADER::ZEROED
        });
    }
}

/// # Safety
/// `header` must point at readable memory.
pub(crate) unsafe fn check_initialized(header: *mut DISPATCHER_HEADER, kinds: &[u8], by: &str) {
    // SAFETY: promised by the caller.
    let (kind, list, head) = unsafe {
        (
            (*header).Type,
            (*header).WaitListHead.Flink,
            &raw mut (*header).WaitListHead,
        )
    };
    if list != head || !kinds.contains(&kind) {
        verifier::bugcheck(
            rules::UNINITIALIZED,
            format!(
                "{by}: the object at {header:p} was never initialised (or is overwritten){}",
                whereabouts(header.addr())
            ),
        );
    }
}

/// Where an object lies that is none.
fn whereabouts(object: usize) -> String {
    let core = context::core();
    match core.on_a_stack(object) {
        Some((thread, true)) => format!(
            "; it is on the stack of kernel thread {thread}, in a frame that is gone: the function has returned"
        ),
        Some((thread, false)) => format!(
            "; it is on the stack of kernel thread {thread}, where the frame may be another function's by now"
        ),
        None => core
            .name(object)
            .map_or_else(String::new, |name| format!("; it is {name}")),
    }
}

/// Takes the signal of an object that is signalled, if it is of a kind that one wait uses up. False if it is not
/// signalled.
pub(super) fn take(object: usize) -> bool {
    let header = object as *mut DISPATCHER_HEADER;
    // SAFETY: objects waited for are checked when the wait begins, and those signalled when they are signalled.
    unsafe {
        if (*header).SignalState <= 0 {
            return false;
        }
        match (*header).Type {
            kind::SYNCHRONIZATION_EVENT | kind::SYNCHRONIZATION_TIMER => {
                (*header).SignalState = 0;
            }
            kind::SEMAPHORE => (*header).SignalState -= 1,
            _ => {}
        }
    }
    true
}

/// Sets an object's state and ends the waits that this satisfies. Returns the old state.
///
/// # Safety
/// `header` must point at an initialised dispatcher object.
pub(crate) unsafe fn signal(header: *mut DISPATCHER_HEADER, state: i32) -> i32 {
    // SAFETY: promised by the caller.
    let old = unsafe { std::mem::replace(&mut (*header).SignalState, state) };
    if state > 0 {
        context::core().signalled(header as usize, &|| take(header as usize));
    }
    old
}

/// Initialises an event.
///
/// # Safety
/// `Event` must be valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeInitializeEvent(
    Event: *mut KEVENT,
    Type: EVENT_TYPE,
    State: BOOLEAN,
) {
    let _crossing = cross(&functions::KeInitializeEvent);
    if context::core()
        .find_wait(|object| object == Event as usize)
        .is_some()
    {
        verifier::violation(
            rules::OBJECT_IN_USE,
            format!(
                "KeInitializeEvent initialises the event at {Event:p}, which somebody waits for"
            ),
        );
    }
    crate::ndk::initialised(Event as usize);
    context::core()
        .verifier
        .lock_order
        .initialised(Event as usize);
    let kind = if Type == NotificationEvent {
        kind::NOTIFICATION_EVENT
    } else if Type == SynchronizationEvent {
        kind::SYNCHRONIZATION_EVENT
    } else {
        verifier::bugcheck(
            rules::UNINITIALIZED,
            format!("KeInitializeEvent: there is no event type {Type}"),
        );
    };
    // SAFETY: promised by the caller; an event is just a header.
    unsafe {
        initialize_header(
            Event.cast(),
            kind,
            size_of::<KEVENT>(),
            i32::from(State != 0),
        )
    };
}

const EVENTS: &[u8] = &[kind::NOTIFICATION_EVENT, kind::SYNCHRONIZATION_EVENT];

/// Signals an event.
///
/// # Safety
/// `Event` must point at an initialised event.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeSetEvent(
    Event: *mut KEVENT,
    Increment: KPRIORITY,
    Wait: BOOLEAN,
) -> i32 {
    let _crossing = cross(&functions::KeSetEvent);
    let _ = Increment;
    if Wait != 0 && context::irql() > APC {
        verifier::violation(
            rules::IRQL,
            "KeSetEvent was called with Wait above APC_LEVEL",
        );
    }
    // SAFETY: promised by the caller.
    unsafe {
        check_initialized(Event.cast(), EVENTS, "KeSetEvent");
        let was = signal(Event.cast(), 1);
        owed_wait::promise(Wait);
        was
    }
}

/// Makes an event not signalled.
///
/// # Safety
/// `Event` must point at an initialised event.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeClearEvent(Event: *mut KEVENT) {
    let _crossing = cross(&functions::KeClearEvent);
    // SAFETY: promised by the caller.
    unsafe {
        check_initialized(Event.cast(), EVENTS, "KeClearEvent");
        (*Event).Header.SignalState = 0;
    }
}

/// Makes an event not signalled; returns its state before.
///
/// # Safety
/// `Event` must point at an initialised event.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeResetEvent(Event: *mut KEVENT) -> i32 {
    let _crossing = cross(&functions::KeResetEvent);
    // SAFETY: promised by the caller.
    unsafe {
        check_initialized(Event.cast(), EVENTS, "KeResetEvent");
        std::mem::replace(&mut (*Event).Header.SignalState, 0)
    }
}

/// Whether an event is signalled.
///
/// # Safety
/// `Event` must point at an initialised event.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeReadStateEvent(Event: *mut KEVENT) -> i32 {
    let _crossing = cross(&functions::KeReadStateEvent);
    // SAFETY: promised by the caller.
    unsafe {
        check_initialized(Event.cast(), EVENTS, "KeReadStateEvent");
        (*Event).Header.SignalState
    }
}

/// Initialises a semaphore.
///
/// # Safety
/// `Semaphore` must be valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeInitializeSemaphore(
    Semaphore: *mut KSEMAPHORE,
    Count: i32,
    Limit: i32,
) {
    let _crossing = cross(&functions::KeInitializeSemaphore);
    // SAFETY: promised by the caller.
    unsafe {
        initialize_header(
            Semaphore.cast(),
            kind::SEMAPHORE,
            size_of::<KSEMAPHORE>(),
            Count,
        );
        (*Semaphore).Limit = Limit;
    }
}

/// Raises a semaphore's count.
///
/// # Safety
/// `Semaphore` must point at an initialised semaphore.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeReleaseSemaphore(
    Semaphore: *mut KSEMAPHORE,
    Increment: KPRIORITY,
    Adjustment: i32,
    Wait: BOOLEAN,
) -> i32 {
    let _crossing = cross(&functions::KeReleaseSemaphore);
    let _ = Increment;
    if Wait != 0 && context::irql() > APC {
        verifier::violation(
            rules::IRQL,
            "KeReleaseSemaphore was called with Wait above APC_LEVEL",
        );
    }
    // SAFETY: promised by the caller.
    let (old, limit) = unsafe {
        check_initialized(Semaphore.cast(), &[kind::SEMAPHORE], "KeReleaseSemaphore");
        ((*Semaphore).Header.SignalState, (*Semaphore).Limit)
    };
    match old.checked_add(Adjustment) {
        Some(new) if Adjustment > 0 && new <= limit => {
            // SAFETY: promised by the caller.
            unsafe { (*Semaphore).Header.SignalState = new };
            context::core().signalled(Semaphore as usize, &|| take(Semaphore as usize));
            owed_wait::promise(Wait);
        }
        _ => verifier::bugcheck(
            rules::BUGCHECK,
            format!(
                "KeReleaseSemaphore raises STATUS_SEMAPHORE_LIMIT_EXCEEDED: count {old}, plus {Adjustment}, limit {limit}"
            ),
        ),
    }
    old
}

/// What can be waited for.
pub(super) const WAITABLE: &[u8] = &[
    kind::NOTIFICATION_EVENT,
    kind::SYNCHRONIZATION_EVENT,
    kind::SEMAPHORE,
    kind::THREAD,
    kind::NOTIFICATION_TIMER,
    kind::SYNCHRONIZATION_TIMER,
];

/// Accuses of a wait at DISPATCH_LEVEL, where one may only look.
pub(super) fn may_wait(timeout: Option<LARGE_INTEGER>, by: &str) {
    if timeout != Some(0) && context::irql() > APC {
        verifier::bugcheck(
            rules::WAIT_AT_DISPATCH,
            format!(
                "{by} was called at IRQL {} with a timeout that is not zero",
                context::irql()
            ),
        );
    }
}

/// Accuses if what a wait uses lies on a stack that may be paged out during it: that of a thread that waits in `UserMode`
/// (nf-wdm-kewaitforsingleobject, parameter WaitMode).
pub(super) fn expect_off_stack(mode: KPROCESSOR_MODE, address: usize, what: &str, by: &str) {
    if mode == UserMode && thread::stack_word(address).is_some() {
        verifier::violation(
            rules::PAGED_ACCESS,
            format!("{by} waits in UserMode, and {what} at {address:#x} lies on the stack"),
        );
    }
}

/// Waits for an object.
///
/// # Safety
/// `Object` must point at an initialised dispatcher object that stays until the wait is over; `Timeout` must be null
/// or point at a time.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeWaitForSingleObject(
    Object: *mut c_void,
    WaitReason: KWAIT_REASON,
    WaitMode: KPROCESSOR_MODE,
    Alertable: BOOLEAN,
    Timeout: *mut LARGE_INTEGER,
) -> NTSTATUS {
    let _crossing = cross(&functions::KeWaitForSingleObject);
    let _ = (WaitReason, Alertable);
    expect_off_stack(
        WaitMode,
        Object.addr(),
        "the object",
        "KeWaitForSingleObject",
    );
    // SAFETY: promised by the caller.
    let timeout = unsafe {
        check_initialized(Object.cast(), WAITABLE, "KeWaitForSingleObject");
        Timeout.as_ref().copied()
    };
    may_wait(timeout, "KeWaitForSingleObject");
    if take(Object as usize) {
        return STATUS_SUCCESS;
    }
    if timeout == Some(0) {
        return STATUS_TIMEOUT;
    }
    let deadline = timeout.map(time::due);
    let story = format!("KeWaitForSingleObject waits for the object at {Object:p}");
    match block(WaitFor::Object(Object as usize), deadline, story) {
        Outcome::Satisfied => STATUS_SUCCESS,
        Outcome::TimedOut => STATUS_TIMEOUT,
    }
}

/// Sleeps.
///
/// # Safety
/// `Interval` must point at a time.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeDelayExecutionThread(
    WaitMode: KPROCESSOR_MODE,
    Alertable: BOOLEAN,
    Interval: *mut LARGE_INTEGER,
) -> NTSTATUS {
    let _crossing = cross(&functions::KeDelayExecutionThread);
    let _ = (WaitMode, Alertable);
    // SAFETY: promised by the caller.
    let at = time::due(unsafe { *Interval });
    sleep_until(at);
    STATUS_SUCCESS
}

/// How deep threads are in critical regions, by number. There are no APCs here to be kept away, but rules that want it.
#[derive(Default)]
pub(crate) struct Regions(RefCell<BTreeMap<usize, u32>>);

impl Regions {
    /// Whether the running thread is in one.
    pub(crate) fn inside(&self) -> bool {
        self.0.borrow().contains_key(&thread::number())
    }

    /// Accuses a system thread that ends inside of one: bug check KERNEL_APC_PENDING_DURING_EXIT, for its APCs are disabled.
    pub(crate) fn expect_left(&self) {
        if self.0.borrow_mut().remove(&thread::number()).is_some() {
            verifier::violation(
                rules::RESOURCE,
                "a system thread ends inside a critical region",
            );
        }
    }
}

/// Keeps normal kernel APCs away.
///
/// # Safety
/// None needed.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeEnterCriticalRegion() {
    let _crossing = cross(&functions::KeEnterCriticalRegion);
    let regions = context::machine().ext::<Regions>();
    *regions.0.borrow_mut().entry(thread::number()).or_default() += 1;
}

/// Lets normal kernel APCs in again.
///
/// # Safety
/// None needed.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeLeaveCriticalRegion() {
    let _crossing = cross(&functions::KeLeaveCriticalRegion);
    let regions = context::machine().ext::<Regions>();
    let mut regions = regions.0.borrow_mut();
    match regions.get_mut(&thread::number()) {
        Some(depth) if *depth > 1 => *depth -= 1,
        Some(_) => {
            regions.remove(&thread::number());
            drop(regions);
            if context::irql() < APC {
                resource::expect_none_owned("the last critical region is left");
            }
        }
        None => verifier::violation(
            rules::RESOURCE,
            "KeLeaveCriticalRegion leaves a critical region that this thread did not enter",
        ),
    }
}
