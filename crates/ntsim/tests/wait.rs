//! Waiting: events, semaphores, threads, time; and waits that never end.
#![allow(unsafe_code, reason = "tiny drivers")]

mod common;

use std::cell::Cell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::time::Duration;

use common::{broken, start, suspects};
use ndis_sys::imports::*;
use ndis_sys::ndis::NDIS_EVENT;
use ndis_sys::status::{STATUS_SUCCESS, STATUS_TIMEOUT};
use ndis_sys::types::KernelMode;
use ndis_sys::wdm::*;
use ntsim::verifier::rules;
use ntsim::{Clock, MachineConfig, MachineId, World};

fn clean() -> (World, MachineId) {
    let mut world = World::builder().seed(5).build();
    let a = world.add_machine(MachineConfig::named("A"));
    (world, a)
}

unsafe fn wait(object: *mut c_void, timeout: Option<i64>) -> i32 {
    let mut timeout = timeout;
    let timeout = timeout.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
    // SAFETY: promised by the caller.
    unsafe { KeWaitForSingleObject(object, Executive, KernelMode, 0, timeout) }
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

#[test]
fn a_timers_dpc_ends_a_wait() {
    let (mut world, a) = clean();
    world.call(a, || {
        let (mut event, mut timer, mut dpc) = (KEVENT::ZEROED, KTIMER::ZEROED, KDPC::ZEROED);
        let object = (&raw mut event).cast();
        // SAFETY: all on this stack, which stays until the wait is over.
        unsafe {
            KeInitializeEvent(&raw mut event, SynchronizationEvent, 0);
            KeInitializeTimerEx(&mut timer, NotificationTimer);
            KeInitializeDpc(&mut dpc, set_event, object);
            KeSetTimer(&mut timer, -50_000, &mut dpc);
            let before = KeQueryUnbiasedInterruptTime();
            assert_eq!(wait(object, None), STATUS_SUCCESS);
            assert_eq!(KeQueryUnbiasedInterruptTime() - before, 50_000);
            // A synchronisation event is used up by one wait, a notification timer is not.
            assert_eq!(wait(object, Some(0)), STATUS_TIMEOUT);
            assert_eq!(wait((&raw mut timer).cast(), Some(0)), STATUS_SUCCESS);
            assert_eq!(wait((&raw mut timer).cast(), Some(0)), STATUS_SUCCESS);
            assert_eq!(KeSetEvent(&raw mut event, 0, 0), 0);
            assert_eq!(KeSetEvent(&raw mut event, 0, 0), 1);
            assert_eq!(KeReadStateEvent(&raw mut event), 1);
            assert_eq!(KeResetEvent(&raw mut event), 1);
            assert_eq!(KeResetEvent(&raw mut event), 0);
        }
    });
    assert_eq!(world.now(), Duration::from_millis(5));
}

#[test]
fn a_wait_times_out() {
    let (mut world, a) = clean();
    world.call(a, || {
        let mut event = KEVENT::ZEROED;
        let object = (&raw mut event).cast();
        // SAFETY: on this stack, which stays until the wait is over.
        unsafe {
            KeInitializeEvent(&raw mut event, NotificationEvent, 0);
            assert_eq!(wait(object, Some(-30_000)), STATUS_TIMEOUT);
            let mut now = 0;
            KeQuerySystemTimePrecise(&mut now);
            assert_eq!(wait(object, Some(now + 10_000)), STATUS_TIMEOUT);
            let mut interval = -10_000;
            assert_eq!(
                KeDelayExecutionThread(KernelMode, 0, &mut interval),
                STATUS_SUCCESS
            );
        }
    });
    assert_eq!(world.now(), Duration::from_millis(5));
}

/// What two threads play with.
struct PingPong {
    ping: KEVENT,
    pong: KEVENT,
    rounds: Cell<u32>,
}

unsafe extern "efiapi" fn pong(context: *mut c_void) {
    let game = context.cast::<PingPong>();
    // SAFETY: the game outlives the thread, which is waited for.
    unsafe {
        for _ in 0..3 {
            wait((&raw mut (*game).ping).cast(), None);
            (*game).rounds.set((*game).rounds.get() + 1);
            KeSetEvent(&raw mut (*game).pong, 0, 0);
        }
    }
}

#[test]
fn two_threads_play_ping_pong() {
    let (mut world, a) = clean();
    let rounds = world.call(a, || {
        let mut game = PingPong {
            ping: KEVENT::ZEROED,
            pong: KEVENT::ZEROED,
            rounds: Cell::new(0),
        };
        let game = &raw mut game;
        // SAFETY: the game stays on this stack until the thread has ended.
        unsafe {
            KeInitializeEvent(&raw mut (*game).ping, SynchronizationEvent, 0);
            KeInitializeEvent(&raw mut (*game).pong, SynchronizationEvent, 0);
            let handle = start(pong, game.cast()).expect("a thread");
            let mut thread = ptr::null_mut();
            let status = ObReferenceObjectByHandle(
                handle,
                0,
                ptr::null_mut(),
                KernelMode,
                &mut thread,
                ptr::null_mut(),
            );
            assert_eq!(status, STATUS_SUCCESS);
            assert_eq!(ZwClose(handle), STATUS_SUCCESS);
            for _ in 0..3 {
                KeSetEvent(&raw mut (*game).ping, 0, 0);
                wait((&raw mut (*game).pong).cast(), None);
            }
            assert_eq!(wait(thread, None), STATUS_SUCCESS);
            ObfDereferenceObject(thread);
            (*game).rounds.get()
        }
    });
    assert_eq!(rounds, 3);
}

unsafe extern "efiapi" fn terminate(context: *mut c_void) {
    // SAFETY: the event outlives the thread.
    unsafe {
        KeSetEvent(context.cast(), 0, 0);
        PsTerminateSystemThread(STATUS_SUCCESS);
    }
    unreachable!("the thread has ended");
}

#[test]
fn a_thread_ends_itself_and_a_semaphore_counts() {
    let (mut world, a) = clean();
    world.call(a, || {
        let (mut event, mut semaphore) = (KEVENT::ZEROED, KSEMAPHORE::ZEROED);
        // SAFETY: on this stack, which stays until the thread has ended.
        unsafe {
            KeInitializeEvent(&raw mut event, NotificationEvent, 0);
            let handle = start(terminate, (&raw mut event).cast()).expect("a thread");
            wait((&raw mut event).cast(), None);
            ZwClose(handle);
            let object = (&raw mut semaphore).cast();
            KeInitializeSemaphore(&raw mut semaphore, 1, 3);
            assert_eq!(wait(object, Some(0)), STATUS_SUCCESS);
            assert_eq!(wait(object, Some(0)), STATUS_TIMEOUT);
            assert_eq!(KeReleaseSemaphore(&raw mut semaphore, 0, 2, 0), 0);
            assert_eq!(wait(object, None), STATUS_SUCCESS);
            assert_eq!(wait(object, None), STATUS_SUCCESS);
            assert_eq!(wait(object, Some(0)), STATUS_TIMEOUT);
        }
    });
    world.run_until_idle();
}

#[test]
fn a_wait_that_nothing_can_end_is_a_deadlock() {
    let mut world = World::builder().seed(5).build();
    let a = world.add_machine(MachineConfig::named("A"));
    let failed = catch_unwind(AssertUnwindSafe(|| {
        world.call(a, || {
            let mut event = KEVENT::ZEROED;
            // SAFETY: on this stack, which stays when the world stops.
            unsafe {
                KeInitializeEvent(&raw mut event, NotificationEvent, 0);
                wait((&raw mut event).cast(), None);
            }
        });
    }));
    let payload = failed.expect_err("it cannot return");
    let text = payload.downcast_ref::<String>().expect("a report");
    assert!(text.contains("rule deadlock broken"), "{text}");
    assert!(
        text.contains("KeWaitForSingleObject waits for the object"),
        "{text}"
    );
}

#[test]
fn a_wait_is_a_deadlock_even_if_a_timer_ticks_for_ever() {
    let (mut world, a) = suspects();
    let (mut timer, mut event) = (KTIMER::ZEROED, KEVENT::ZEROED);
    let (timer, event) = (&raw mut timer, &raw mut event);
    let returned = world.try_call(a, || {
        // SAFETY: the test's.
        unsafe {
            KeInitializeTimerEx(timer, NotificationTimer);
            KeSetTimerEx(timer, -10_000_000, 1000, ptr::null_mut());
            KeInitializeEvent(event, NotificationEvent, 0);
            wait(event.cast(), None);
        }
    });
    assert!(returned.is_none());
    assert_eq!(broken(&mut world), [rules::DEADLOCK]);
}

unsafe extern "efiapi" fn idle_worker(context: *mut c_void) {
    // SAFETY: the context is an event that outlives the thread.
    unsafe { wait(context, None) };
}

/// Starts a thread that waits for an event.
fn start_worker(world: &mut World, a: MachineId, event: *mut KEVENT) {
    world.call(a, || {
        let mut handle = ptr::null_mut();
        // SAFETY: the event outlives the thread.
        unsafe {
            KeInitializeEvent(event, NotificationEvent, 0);
            let status = PsCreateSystemThread(
                &mut handle,
                0,
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null_mut(),
                idle_worker,
                event.cast(),
            );
            assert_eq!(status, STATUS_SUCCESS);
            ZwClose(handle);
        }
    });
}

#[test]
fn a_thread_that_waits_for_work_may_wait_for_ever() {
    let (mut world, a) = suspects();
    let mut event = KEVENT::ZEROED;
    let event = &raw mut event;
    start_worker(&mut world, a, event);
    world.run_for(Duration::from_secs(3600));
    // SAFETY: the times are on this stack.
    world.call(a, || unsafe {
        for _ in 0..10 {
            KeDelayExecutionThread(KernelMode, 0, &mut -10_000_000);
        }
        KeSetEvent(event, IO_NO_INCREMENT, 0);
    });
    world.run_until_idle();
    assert_eq!(broken(&mut world), [""; 0]);
}

#[test]
fn looking_again_and_again_for_what_nobody_does_is_a_deadlock() {
    let mut world = World::builder()
        .collect_violations()
        .wait_horizon(Duration::from_secs(1))
        .build();
    let a = world.add_machine(MachineConfig::named("A"));
    let mut event = KEVENT::ZEROED;
    let event = &raw mut event;
    start_worker(&mut world, a, event);
    let returned = world.try_call(a, || {
        loop {
            // SAFETY: the time is on this stack.
            unsafe { KeDelayExecutionThread(KernelMode, 0, &mut -1_000_000) };
        }
    });
    assert!(returned.is_none());
    assert_eq!(broken(&mut world), [rules::DEADLOCK]);
}

#[test]
fn waiting_where_one_must_not() {
    let (mut world, a) = suspects();
    let returned = world.try_call(a, || {
        let mut event = KEVENT::ZEROED;
        // SAFETY: on this stack, which stays when the world stops.
        unsafe {
            KeInitializeEvent(&raw mut event, NotificationEvent, 0);
            KfRaiseIrql(2);
            // Looking is allowed, waiting is not.
            assert_eq!(wait((&raw mut event).cast(), Some(0)), STATUS_TIMEOUT);
            wait((&raw mut event).cast(), Some(-1));
        }
    });
    assert!(returned.is_none());
    assert_eq!(broken(&mut world), [rules::WAIT_AT_DISPATCH]);
}

unsafe extern "efiapi" fn set_ndis_event(
    _dpc: *mut KDPC,
    context: *mut c_void,
    _: *mut c_void,
    _: *mut c_void,
) {
    // SAFETY: the context is an event of NDIS.
    unsafe { NdisSetEvent(context.cast()) };
}

#[test]
fn events_of_ndis_stay_signalled() {
    let (mut world, a) = clean();
    world.call(a, || {
        let (mut event, mut timer, mut dpc) = (NDIS_EVENT::ZEROED, KTIMER::ZEROED, KDPC::ZEROED);
        let event = &raw mut event;
        // SAFETY: all on this stack, which stays until the wait is over.
        unsafe {
            NdisInitializeEvent(event);
            assert_eq!(NdisWaitEvent(event, 2), 0);
            KeInitializeTimerEx(&mut timer, NotificationTimer);
            KeInitializeDpc(&mut dpc, set_ndis_event, event.cast());
            KeSetTimer(&mut timer, -10_000, &mut dpc);
            assert_eq!(NdisWaitEvent(event, 0), 1);
            assert_eq!(NdisWaitEvent(event, 5), 1);
            NdisResetEvent(event);
            assert_eq!(NdisWaitEvent(event, 1), 0);
        }
    });
    assert_eq!(world.now(), Duration::from_millis(4));
}

#[test]
fn waiting_with_a_lock_held() {
    let (mut world, a) = suspects();
    let returned = world.try_call(a, || {
        let mut lock = 0usize;
        let mut interval = -10;
        // SAFETY: on this stack, which stays when the world stops.
        unsafe {
            KeAcquireSpinLockRaiseToDpc(&mut lock);
            KeLowerIrql(0);
            KeDelayExecutionThread(KernelMode, 0, &mut interval);
        }
    });
    assert!(returned.is_none());
    assert_eq!(
        broken(&mut world),
        [rules::LOCK_IRQL, rules::WAIT_WITH_LOCK]
    );
}

#[test]
fn waiting_for_what_is_no_object() {
    let (mut world, a) = suspects();
    let returned = world.try_call(a, || {
        let mut event = KEVENT::ZEROED;
        // SAFETY: on this stack.
        unsafe { wait((&raw mut event).cast(), Some(0)) };
    });
    assert!(returned.is_none());
    assert_eq!(broken(&mut world), [rules::UNINITIALIZED]);
}

#[test]
fn a_bugcheck_ends_the_test_with_the_report() {
    let mut world = World::builder().seed(6).build();
    let a = world.add_machine(MachineConfig::named("A"));
    let failed = catch_unwind(AssertUnwindSafe(|| {
        world.call(a, || {
            // SAFETY: needs nothing.
            unsafe { KeBugCheckEx(0xe2, 1, 2, 3, 4) };
        });
    }));
    let payload = failed.expect_err("it cannot return");
    let text = payload.downcast_ref::<String>().expect("a report");
    let told =
        "rule bugcheck broken by code of the test: KeBugCheckEx(0x000000e2, 0x1, 0x2, 0x3, 0x4)";
    assert!(text.contains(told), "{text}");
}

#[test]
fn a_wild_pointer_ends_the_test_with_the_report() {
    let (mut world, a) = suspects();
    let returned = world.try_call(a, || {
        let nowhere = std::hint::black_box(ptr::without_provenance_mut::<u32>(8));
        // SAFETY: there is none; that is the point.
        unsafe { nowhere.write_volatile(5) };
    });
    assert!(returned.is_none());
    let violations = world.take_violations();
    assert_eq!(violations.len(), 1);
    assert_eq!(violations[0].rule, rules::ACCESS_VIOLATION);
    assert!(
        violations[0].text.contains("driver code: store to 0x8"),
        "{}",
        violations[0]
    );
}

#[test]
fn a_long_stall() {
    let (mut world, a) = suspects();
    world.call(a, || {
        // SAFETY: needs nothing.
        unsafe {
            KeStallExecutionProcessor(50);
            KeStallExecutionProcessor(51);
        }
    });
    assert_eq!(broken(&mut world), [rules::STALL]);
    assert_eq!(world.now(), Duration::from_micros(101));
}

#[test]
fn spinning_for_ever() {
    let (mut world, a) = suspects();
    let returned = world.try_call(a, || {
        loop {
            // SAFETY: needs nothing.
            unsafe { KeStallExecutionProcessor(10) };
        }
    });
    assert!(returned.is_none());
    assert_eq!(broken(&mut world), [rules::STALL]);
}

#[test]
fn waiting_for_time_that_does_not_pass() {
    let (mut world, a) = suspects();
    let returned = world.try_call(a, || {
        // SAFETY: needs nothing.
        unsafe {
            let end = KeQueryUnbiasedInterruptTime() + 10;
            while KeQueryUnbiasedInterruptTime() < end {}
        }
    });
    assert!(returned.is_none());
    assert_eq!(broken(&mut world), [rules::STALL]);
}

// Waits in earnest, 3 ms in all: that is what real-time worlds do. It wants no more than that to have passed, so that it
// does not depend on how fast the host is.
#[test]
fn real_time_follows_the_host() {
    let mut world = World::builder().seed(5).clock(Clock::RealTime).build();
    let a = world.add_machine(MachineConfig::named("A"));
    let before = world.now();
    world.call(a, || {
        let mut interval = -20_000;
        // SAFETY: on this stack.
        unsafe { KeDelayExecutionThread(KernelMode, 0, &mut interval) };
    });
    assert!(world.now() - before >= Duration::from_millis(2));
    let before = world.now();
    world.run_for(Duration::from_millis(1));
    assert!(world.now() - before >= Duration::from_millis(1));
}

#[test]
fn rundown_waits_for_the_last_user() {
    let (mut world, a) = suspects();
    world.call(a, || {
        let mut rundown = EX_RUNDOWN_REF::ZEROED;
        let rundown = &raw mut rundown;
        // SAFETY: on this stack, which stays until the wait is over.
        unsafe {
            ExInitializeRundownProtection(rundown);
            assert_eq!(ExAcquireRundownProtection(rundown), 1);
            assert_eq!(ExAcquireRundownProtection(rundown), 1);
            ExReleaseRundownProtection(rundown);
            let (mut timer, mut dpc) = (KTIMER::ZEROED, KDPC::ZEROED);
            KeInitializeTimerEx(&mut timer, NotificationTimer);
            KeInitializeDpc(&mut dpc, release, rundown.cast());
            KeSetTimer(&mut timer, -70_000, &mut dpc);
            ExWaitForRundownProtectionRelease(rundown);
            assert_eq!(ExAcquireRundownProtection(rundown), 0);
            ExRundownCompleted(rundown);
            assert_eq!(ExAcquireRundownProtection(rundown), 0);
            ExReInitializeRundownProtection(rundown);
            assert_eq!(ExAcquireRundownProtection(rundown), 1);
            ExReleaseRundownProtection(rundown);
        }
    });
    assert_eq!(world.now(), Duration::from_millis(7));
    assert_eq!(broken(&mut world), [""; 0]);
    world.call(a, || {
        let mut rundown = EX_RUNDOWN_REF::ZEROED;
        // SAFETY: on this stack.
        unsafe {
            ExReleaseRundownProtection(&mut rundown);
            ExReInitializeRundownProtection(&mut rundown);
        }
    });
    assert_eq!(broken(&mut world), [rules::RUNDOWN; 2]);
}

unsafe extern "efiapi" fn release(
    _dpc: *mut KDPC,
    context: *mut c_void,
    _: *mut c_void,
    _: *mut c_void,
) {
    // SAFETY: the context is rundown protection.
    unsafe { ExReleaseRundownProtection(context.cast()) };
}

#[test]
fn a_fast_mutex_raises_to_apc_level() {
    let (mut world, a) = suspects();
    let returned = world.try_call(a, || {
        let mut mutex = FAST_MUTEX {
            Count: 1,
            ..FAST_MUTEX::ZEROED
        };
        // SAFETY: on this stack.
        unsafe {
            ExAcquireFastMutex(&mut mutex);
            assert_eq!(KeGetCurrentIrql(), 1);
            ExReleaseFastMutex(&mut mutex);
            assert_eq!(KeGetCurrentIrql(), 0);
            ExAcquireFastMutex(&mut mutex);
            ExAcquireFastMutex(&mut mutex);
        }
    });
    assert!(returned.is_none());
    assert_eq!(broken(&mut world), [rules::LOCK_RECURSIVE]);
}

#[test]
fn a_thread_moves_to_another_processor() {
    let (mut world, a) = common::suspects_with(2);
    world.call(a, || {
        let (mut there, mut back) = (
            GROUP_AFFINITY {
                Mask: 2,
                ..GROUP_AFFINITY::ZEROED
            },
            GROUP_AFFINITY::ZEROED,
        );
        // SAFETY: on this stack.
        unsafe {
            assert_eq!(KeQueryActiveProcessorCountEx(ALL_PROCESSOR_GROUPS), 2);
            assert_eq!(KeGetCurrentProcessorNumberEx(ptr::null_mut()), 0);
            KeSetSystemGroupAffinityThread(&mut there, &mut back);
            assert_eq!(KeGetCurrentProcessorNumberEx(ptr::null_mut()), 1);
            let mut interval = -10_000;
            KeDelayExecutionThread(KernelMode, 0, &mut interval);
            assert_eq!(KeGetCurrentProcessorNumberEx(ptr::null_mut()), 1);
            KeRevertToUserGroupAffinityThread(&mut back);
            assert_eq!(KeGetCurrentProcessorNumberEx(ptr::null_mut()), 0);
        }
    });
    assert_eq!(broken(&mut world), [""; 0]);
}

#[test]
fn references_and_handles() {
    let (mut world, a) = suspects();
    world.call(a, || {
        // SAFETY: neither is accessed.
        unsafe {
            ObfDereferenceObject(ptr::without_provenance_mut(0x1000));
            ZwClose(ptr::without_provenance_mut(0x44));
        }
    });
    assert_eq!(broken(&mut world), [rules::REFERENCE; 2]);
}

/// Threads that contend for a fast mutex.
struct Contended {
    mutex: FAST_MUTEX,
    inside: Cell<u32>,
    most: Cell<u32>,
    done: Cell<u32>,
}

unsafe extern "efiapi" fn contender(context: *mut c_void) {
    let contended = context.cast::<Contended>();
    // SAFETY: what they contend for outlives the threads, which are waited for.
    unsafe {
        ExAcquireFastMutex(&raw mut (*contended).mutex);
        let inside = (*contended).inside.get() + 1;
        (*contended).inside.set(inside);
        (*contended).most.set((*contended).most.get().max(inside));
        let mut interval = -10_000;
        KeDelayExecutionThread(KernelMode, 0, &mut interval);
        (*contended).inside.set((*contended).inside.get() - 1);
        ExReleaseFastMutex(&raw mut (*contended).mutex);
        (*contended).done.set((*contended).done.get() + 1);
    }
}

#[test]
fn a_fast_mutex_admits_one_thread_at_a_time() {
    let (mut world, a) = clean();
    let most = world.call(a, || {
        let mut contended = Contended {
            mutex: FAST_MUTEX::ZEROED,
            inside: Cell::new(0),
            most: Cell::new(0),
            done: Cell::new(0),
        };
        contended.mutex.Count = 1;
        let contended = &raw mut contended;
        // SAFETY: it stays on this stack until the threads have ended.
        unsafe {
            for _ in 0..3 {
                let handle = start(contender, contended.cast()).expect("a thread");
                ZwClose(handle);
            }
            while (*contended).done.get() < 3 {
                let mut interval = -10_000;
                KeDelayExecutionThread(KernelMode, 0, &mut interval);
            }
            (*contended).most.get()
        }
    });
    assert_eq!(most, 1);
}
