//! The interleaving explorer: races that it finds, and nothing found where there is none.
#![allow(unsafe_code, reason = "tiny drivers")]

mod common;

use std::cell::Cell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::time::Duration;

use common::{TAG, start};
use ndis_sys::imports::*;
use ndis_sys::types::KernelMode;
use ndis_sys::wdm::*;
use ntsim::trace::TraceConfig;
use ntsim::world::explore::search;
use ntsim::{MachineConfig, Schedule, World, WorldBuilder, explore};

/// What two threads add to.
struct Counter {
    value: Cell<u32>,
    mutex: FAST_MUTEX,
    /// Whether they take it.
    careful: bool,
    left: Cell<u32>,
    over: KEVENT,
}

unsafe extern "efiapi" fn add(context: *mut c_void) {
    // SAFETY: the story's, which waits for both.
    unsafe {
        let counter: *mut Counter = context.cast();
        if (*counter).careful {
            ExAcquireFastMutex(&raw mut (*counter).mutex);
        }
        let value = (*counter).value.get();
        KeGetCurrentIrql();
        (*counter).value.set(value + 1);
        if (*counter).careful {
            ExReleaseFastMutex(&raw mut (*counter).mutex);
        }
        let left = (*counter).left.get() - 1;
        (*counter).left.set(left);
        if left == 0 {
            KeSetEvent(&raw mut (*counter).over, 0, 0);
        }
    }
}

/// Two threads add one each.
fn adders(builder: WorldBuilder, careful: bool) {
    let mut world = builder.ignore_environment().build();
    let machine = world.add_machine(MachineConfig::named("A"));
    let sum = world.call(machine, || {
        let mut counter = Counter {
            value: Cell::new(0),
            mutex: FAST_MUTEX {
                Count: 1,
                ..FAST_MUTEX::ZEROED
            },
            careful,
            left: Cell::new(2),
            over: KEVENT::ZEROED,
        };
        let counter = &raw mut counter;
        // SAFETY: on this stack, which stays until both threads have set the event, or nobody runs any more.
        unsafe {
            KeInitializeEvent(&raw mut (*counter).mutex.Event, SynchronizationEvent, 0);
            KeInitializeEvent(&raw mut (*counter).over, NotificationEvent, 0);
            for _ in 0..2 {
                ZwClose(start(add, counter.cast()).expect("a thread"));
            }
            let over = (&raw mut (*counter).over).cast();
            KeWaitForSingleObject(over, Executive, KernelMode, 0, ptr::null_mut());
            (*counter).value.get()
        }
    });
    assert_eq!(sum, 2, "an update is lost");
    world.run_until_idle();
    let report = world.finish();
    assert!(report.is_clean(), "{report}");
}

#[test]
fn an_update_that_two_threads_lose_is_found_with_one_preemption() {
    // Nothing is lost if threads go on until they wait, whatever else comes in between.
    for seed in 1..=100 {
        adders(World::builder().seed(seed).interleave(2), false);
    }
    let found = search(100, |builder| adders(builder, false)).expect("the race is found");
    assert_eq!(found.schedule.places().len(), 1, "{}", found.schedule);
    assert!(found.text.contains("an update is lost"), "{}", found.text);

    // It is the place between the two halves, and the schedule as a text repeats it.
    let again: Schedule = found.schedule.to_string().parse().expect("a schedule");
    assert_eq!(again, found.schedule);
    let ended = |schedule: Schedule| {
        let run = || adders(World::builder().explore(schedule), false);
        catch_unwind(AssertUnwindSafe(run)).is_ok()
    };
    assert!(!ended(again));
    assert!(ended(Schedule::default()));
}

#[test]
fn code_that_takes_its_mutex_is_clean_however_it_is_preempted() {
    let found = search(200, |builder| adders(builder, true));
    assert!(found.is_none(), "{found:?}");
}

/// What a work item and a halt share.
struct Adapter {
    buffer: Cell<*mut c_void>,
    done: KEVENT,
    /// The halt waits for the work item.
    patient: bool,
}

/// Frees the buffer if it is still there.
unsafe fn let_go(adapter: *const Adapter) {
    // SAFETY: the adapter outlives all who come here.
    unsafe {
        let buffer = (*adapter).buffer.get();
        if !buffer.is_null() {
            ExFreePoolWithTag(buffer, TAG);
            (*adapter).buffer.set(ptr::null_mut());
        }
    }
}

unsafe extern "efiapi" fn work(_object: *mut c_void, context: *mut c_void, item: *mut IO_WORKITEM) {
    // SAFETY: an adapter that outlives the item.
    unsafe {
        let adapter: *mut Adapter = context.cast();
        let_go(adapter);
        IoFreeWorkItem(item);
        KeSetEvent(&raw mut (*adapter).done, 0, 0);
    }
}

/// A work item is queued, and some time later the adapter is halted: both let the buffer go.
fn halted(builder: WorldBuilder, patient: bool) {
    let mut world = builder.ignore_environment().build();
    let machine = world.add_machine(MachineConfig::named("A"));
    let mut adapter = Box::new(Adapter {
        buffer: Cell::new(ptr::null_mut()),
        done: KEVENT::ZEROED,
        patient,
    });
    let adapter = &raw mut *adapter;
    world.call(machine, || {
        // SAFETY: the adapter outlives the world.
        unsafe {
            KeInitializeEvent(&raw mut (*adapter).done, NotificationEvent, 0);
            let buffer = ExAllocatePool2(POOL_FLAG_NON_PAGED, 64, TAG);
            (*adapter).buffer.set(buffer);
            let device = ptr::without_provenance_mut(0x1000);
            let item = IoAllocateWorkItem(device);
            IoQueueWorkItemEx(item, work, DelayedWorkQueue, adapter.cast());
        }
    });
    world.run_for(Duration::from_micros(5));
    world.call(machine, || {
        // SAFETY: as above.
        unsafe {
            if (*adapter).patient {
                let done = (&raw mut (*adapter).done).cast();
                KeWaitForSingleObject(done, Executive, KernelMode, 0, ptr::null_mut());
            }
            let_go(adapter);
        }
    });
    world.run_until_idle();
    let report = world.finish();
    assert!(report.is_clean() && report.leaks.is_empty(), "{report}");
}

#[test]
fn a_work_item_that_races_a_halt_is_found() {
    let found = search(200, |builder| halted(builder, false)).expect("the race is found");
    assert!(found.schedule.places().len() <= 2, "{}", found.schedule);
    assert!(found.text.contains("pool-double-free"), "{}", found.text);
}

#[test]
fn a_halt_that_waits_for_its_work_item_is_clean() {
    let found = search(200, |builder| halted(builder, true));
    assert!(found.is_none(), "{found:?}");
}

#[test]
fn a_test_that_explores_fails_with_what_repeats_it() {
    let run = || explore(100, |builder| adders(builder, false));
    let payload = catch_unwind(run).expect_err("the race is found");
    let text = payload.downcast_ref::<String>().expect("a text");
    let (_, schedule) = text.split_once("NTSIM_EXPLORE=").expect("how to repeat it");
    assert!(schedule.trim().parse::<Schedule>().is_ok(), "{text}");
}

#[test]
fn a_report_tells_the_schedule() {
    let mut world = World::builder().explore(Schedule::at(3, [7, 2])).build();
    let machine = world.add_machine(MachineConfig::named("A"));
    let offend = || {
        // SAFETY: wrong, and the simulator survives it.
        unsafe { ExFreePoolWithTag(ptr::without_provenance_mut(0x1000), TAG) };
    };
    let run = AssertUnwindSafe(|| world.call(machine, offend));
    let payload = catch_unwind(run).expect_err("a rule is broken");
    let text = payload.downcast_ref::<String>().expect("a text");
    assert!(text.contains(" NTSIM_EXPLORE=3:@2,7\n"), "{text}");
}

#[test]
fn a_schedule_gives_the_same_run_each_time() {
    let traced = |schedule: &str| {
        let schedule = schedule.parse().expect("a schedule");
        let mut world = World::builder()
            .ignore_environment()
            .explore(schedule)
            .build();
        let trace = world.trace_to_memory(TraceConfig::default());
        let machine = world.add_machine(MachineConfig::named("A"));
        world.call(machine, || {
            let mut interval = -100;
            for _ in 0..50 {
                // SAFETY: a time on this stack.
                unsafe { KeDelayExecutionThread(KernelMode, 0, &mut interval) };
            }
        });
        assert!(world.places() > 50);
        drop(world);
        trace.bytes()
    };
    assert!(traced("9:@5,20") == traced("9:@5,20"));
    assert!(traced("9:@5,20") != traced("9:@"));
    assert!(traced("9:4") == traced("9:4"));
}

#[test]
fn schedules_are_texts() {
    assert_eq!("7:@3,1,3".parse(), Ok(Schedule::at(7, [1, 3])));
    assert_eq!("7:@".parse(), Ok(Schedule::at(7, [])));
    assert_eq!("7:2".parse(), Ok(Schedule::random(7, 2)));
    assert_eq!(Schedule::at(7, [3, 1]).to_string(), "7:@1,3");
    for bad in ["", "7", "7:", "x:2", "7:x", "7:@x", "7:@1,", "7:-1"] {
        assert!(bad.parse::<Schedule>().is_err(), "{bad}");
    }
    assert!(Schedule::random(1, 3).places().len() <= 3);
    assert_ne!(Schedule::random(1, 3), Schedule::random(2, 3));
}
