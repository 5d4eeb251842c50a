//! DPCs and timers: when they run, and what the verifier accuses of.
#![allow(unsafe_code, reason = "tiny drivers")]

mod common;

use std::cell::RefCell;
use std::ffi::c_void;
use std::fmt::Write;
use std::ptr;
use std::time::Duration;

use common::{TAG, broken, suspects, suspects_with};
use ndis_sys::imports::*;
use ndis_sys::status::STATUS_SUCCESS;
use ndis_sys::types::NTSTATUS;
use ndis_sys::wdm::*;
use ntsim::verifier::rules;
use ntsim::{MachineConfig, World};

thread_local! {
    static LOG: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Notes what happened. Does not allocate, as it is called by drivers.
fn log(text: std::fmt::Arguments<'_>) {
    LOG.with(|log| {
        let mut log = log.borrow_mut();
        assert!(log.len() + 100 < log.capacity());
        writeln!(log, "{text}").expect("strings take everything");
    });
}

fn fresh_log() {
    LOG.with(|log| *log.borrow_mut() = String::with_capacity(8192));
}

fn logged() -> Vec<String> {
    let text =
        LOG.with(|log| std::mem::replace(&mut *log.borrow_mut(), String::with_capacity(8192)));
    text.lines().map(str::to_owned).collect()
}

unsafe extern "efiapi" fn note(
    _dpc: *mut KDPC,
    context: *mut c_void,
    first: *mut c_void,
    second: *mut c_void,
) {
    // SAFETY: need nothing.
    let (irql, cpu) = unsafe {
        (
            KeGetCurrentIrql(),
            KeGetCurrentProcessorNumberEx(ptr::null_mut()),
        )
    };
    log(format_args!(
        "dpc {} ({},{}) irql {irql} cpu {cpu}",
        context.addr(),
        first.addr(),
        second.addr()
    ));
}

fn number(n: usize) -> *mut c_void {
    ptr::without_provenance_mut(n)
}

#[test]
fn a_dpc_queued_at_passive_level_runs_at_once() {
    let (mut world, a) = suspects();
    fresh_log();
    world.call(a, || {
        let mut dpc = KDPC::ZEROED;
        // SAFETY: the DPC is on this stack and has run when it goes.
        unsafe {
            KeInitializeDpc(&mut dpc, note, number(1));
            log(format_args!("before"));
            assert_eq!(KeInsertQueueDpc(&mut dpc, number(5), number(6)), 1);
            log(format_args!("after"));
        }
    });
    assert_eq!(logged(), ["before", "dpc 1 (5,6) irql 2 cpu 0", "after"]);
    assert_eq!(broken(&mut world), [""; 0]);
}

#[test]
fn a_dpc_queued_at_dispatch_level_waits_until_the_irql_is_lowered() {
    let (mut world, a) = suspects();
    fresh_log();
    world.call(a, || {
        let mut dpcs = [KDPC::ZEROED; 3];
        // SAFETY: the DPCs are on this stack and have run when it goes.
        unsafe {
            for (i, dpc) in dpcs.iter_mut().enumerate() {
                KeInitializeDpc(dpc, note, number(i));
            }
            KeSetImportanceDpc(&mut dpcs[2], HighImportance);
            let old = KfRaiseIrql(2);
            assert_eq!(KeInsertQueueDpc(&mut dpcs[0], number(0), number(0)), 1);
            assert_eq!(KeInsertQueueDpc(&mut dpcs[0], number(9), number(9)), 0);
            assert_eq!(KeInsertQueueDpc(&mut dpcs[1], number(0), number(0)), 1);
            assert_eq!(KeInsertQueueDpc(&mut dpcs[2], number(0), number(0)), 1);
            assert_eq!(KeRemoveQueueDpc(&mut dpcs[1]), 1);
            assert_eq!(KeRemoveQueueDpc(&mut dpcs[1]), 0);
            log(format_args!("lowering"));
            KeLowerIrql(old);
            log(format_args!("lowered"));
        }
    });
    assert_eq!(
        logged(),
        [
            "lowering",
            "dpc 2 (0,0) irql 2 cpu 0",
            "dpc 0 (0,0) irql 2 cpu 0",
            "lowered"
        ]
    );
    assert_eq!(broken(&mut world), [""; 0]);
}

#[test]
fn a_dpc_for_another_processor_runs_there() {
    let (mut world, a) = suspects_with(2);
    fresh_log();
    let mut dpc = KDPC::ZEROED;
    let dpc = &raw mut dpc;
    world.call(a, || {
        // SAFETY: the DPC is the test's.
        unsafe {
            KeInitializeDpc(dpc, note, number(1));
            let mut there = PROCESSOR_NUMBER::ZEROED;
            assert_eq!(KeGetProcessorNumberFromIndex(1, &mut there), STATUS_SUCCESS);
            assert_eq!(KeSetTargetProcessorDpcEx(dpc, &mut there), STATUS_SUCCESS);
            assert_eq!(KeInsertQueueDpc(dpc, number(0), number(0)), 1);
            log(format_args!("queued"));
            KeFlushQueuedDpcs();
            log(format_args!("flushed"));
        }
    });
    assert_eq!(logged(), ["queued", "dpc 1 (0,0) irql 2 cpu 1", "flushed"]);
    assert_eq!(broken(&mut world), [""; 0]);
}

#[test]
fn a_timer_expires_when_due_and_queues_its_dpc() {
    let mut world = World::builder().seed(1).build();
    let a = world.add_machine(MachineConfig::named("A"));
    fresh_log();
    let (mut timer, mut dpc) = (KTIMER::ZEROED, KDPC::ZEROED);
    let (timer, dpc) = (&raw mut timer, &raw mut dpc);
    world.call(a, || {
        // SAFETY: both are the test's and outlive the timer's running.
        unsafe {
            KeInitializeTimerEx(timer, NotificationTimer);
            KeInitializeDpc(dpc, note, number(1));
            assert_eq!(KeSetCoalescableTimer(timer, -20_000, 0, 5, dpc), 0);
            assert_eq!(KeReadStateTimer(timer), 0);
        }
    });
    world.run_for(Duration::from_micros(1999));
    assert_eq!(logged(), [""; 0]);
    world.run_for(Duration::from_micros(1));
    assert_eq!(logged(), ["dpc 1 (0,0) irql 2 cpu 0"]);
    world.call(a, || {
        // SAFETY: as above.
        unsafe {
            assert_eq!(KeReadStateTimer(timer), 1);
            // Set again while it runs: only the last due time counts.
            assert_eq!(KeSetTimer(timer, -10_000, dpc), 0);
            assert_eq!(KeSetTimer(timer, -50_000, dpc), 1);
        }
    });
    world.run_for(Duration::from_millis(4));
    assert_eq!(logged(), [""; 0]);
    world.call(a, || {
        // SAFETY: as above.
        unsafe {
            assert_eq!(KeCancelTimer(timer), 1);
            assert_eq!(KeCancelTimer(timer), 0);
        }
    });
    world.run_for(Duration::from_millis(10));
    assert_eq!(logged(), [""; 0]);
}

#[test]
fn a_periodic_timer_and_absolute_time() {
    let mut world = World::builder().seed(1).build();
    let a = world.add_machine(MachineConfig::named("A"));
    fresh_log();
    let (mut timer, mut dpc) = (KTIMER::ZEROED, KDPC::ZEROED);
    let (timer, dpc) = (&raw mut timer, &raw mut dpc);
    world.call(a, || {
        let mut now = 0;
        // SAFETY: both are the test's and outlive the timer's running.
        unsafe {
            KeInitializeTimerEx(timer, SynchronizationTimer);
            KeInitializeDpc(dpc, note, number(1));
            KeQuerySystemTimePrecise(&mut now);
            KeSetTimerEx(timer, now + 10_000, 2, dpc);
        }
    });
    world.run_for(Duration::from_millis(6));
    assert_eq!(logged().len(), 3, "at 1, 3 and 5 ms");
    // A timer that never ends does not keep the world busy.
    world.run_until_idle();
    world.call(a, || {
        // SAFETY: as above.
        unsafe { KeCancelTimer(timer) };
    });
    world.run_for(Duration::from_millis(6));
    assert_eq!(logged(), [""; 0]);
}

#[test]
fn timers_keep_to_clock_ticks_if_told_to() {
    let mut world = World::builder().seed(1).build();
    let config = MachineConfig {
        timer_tick: 1_000_000,
        ..MachineConfig::named("A")
    };
    let a = world.add_machine(config);
    fresh_log();
    let (mut timer, mut dpc) = (KTIMER::ZEROED, KDPC::ZEROED);
    let (timer, dpc) = (&raw mut timer, &raw mut dpc);
    world.call(a, || {
        // SAFETY: both are the test's and outlive the timer's running.
        unsafe {
            KeInitializeTimerEx(timer, NotificationTimer);
            KeInitializeDpc(dpc, note, number(1));
            KeSetTimer(timer, -3000, dpc);
        }
    });
    world.run_for(Duration::from_micros(999));
    assert_eq!(logged(), [""; 0]);
    world.run_for(Duration::from_micros(1));
    assert_eq!(logged().len(), 1);
}

unsafe extern "efiapi" fn ex_note(_timer: *mut EX_TIMER, context: *mut c_void) {
    // SAFETY: needs nothing.
    let irql = unsafe { KeGetCurrentIrql() };
    log(format_args!("ex timer {} irql {irql}", context.addr()));
}

#[test]
fn timers_with_callbacks() {
    let mut world = World::builder().seed(1).build();
    let a = world.add_machine(MachineConfig::named("A"));
    fresh_log();
    let timer = world.call(a, || {
        // SAFETY: needs nothing.
        unsafe {
            let timer = ExAllocateTimer(ex_note, number(4), EX_TIMER_HIGH_RESOLUTION);
            assert!(!timer.is_null());
            assert_eq!(ExSetTimer(timer, -10_000, 0, ptr::null_mut()), 0);
            timer
        }
    });
    world.run_for(Duration::from_millis(2));
    assert_eq!(logged(), ["ex timer 4 irql 2"]);
    world.call(a, || {
        // SAFETY: allocated above.
        unsafe {
            assert_eq!(ExSetTimer(timer, -10_000, 0, ptr::null_mut()), 0);
            assert_eq!(ExDeleteTimer(timer, 1, 1, ptr::null_mut()), 1);
        }
    });
    world.run_for(Duration::from_millis(2));
    assert_eq!(logged(), [""; 0]);
    assert_eq!(world.pool_stats(a).driver_blocks, 0);
}

unsafe extern "efiapi" fn deleted(context: *mut c_void) {
    // SAFETY: needs nothing.
    let irql = unsafe { KeGetCurrentIrql() };
    log(format_args!("deleted {} irql {irql}", context.addr()));
}

#[test]
fn who_deletes_a_timer_hears_when_it_is_gone_at_dispatch_level() {
    let mut world = World::builder().seed(1).build();
    let a = world.add_machine(MachineConfig::named("A"));
    fresh_log();
    // Not set; set and cancelled; set and let expire.
    for (set, cancel) in [(false, 0), (true, 1), (true, 0)] {
        world.call(a, || {
            // SAFETY: used as documented.
            unsafe {
                let timer = ExAllocateTimer(ex_note, number(5), EX_TIMER_HIGH_RESOLUTION);
                if set {
                    ExSetTimer(timer, -10_000, 0, ptr::null_mut());
                }
                let mut parameters = EXT_DELETE_PARAMETERS {
                    DeleteCallback: Some(deleted),
                    DeleteContext: number(6),
                    ..EXT_DELETE_PARAMETERS::ZEROED
                };
                ExDeleteTimer(timer, cancel, 0, &raw mut parameters);
                assert_eq!(KeGetCurrentIrql(), 0);
            }
        });
        if set && cancel == 0 {
            assert_eq!(logged(), [""; 0]);
            world.run_for(Duration::from_millis(2));
            assert_eq!(logged(), ["ex timer 5 irql 2", "deleted 6 irql 2"]);
        } else {
            assert_eq!(logged(), ["deleted 6 irql 2"]);
        }
        assert_eq!(world.pool_stats(a).driver_blocks, 0);
        fresh_log();
    }
}

#[test]
fn a_periodic_timer_deleted_but_not_cancelled_expires_once_more() {
    let mut world = World::builder().seed(1).build();
    let a = world.add_machine(MachineConfig::named("A"));
    fresh_log();
    let timer = world.call(a, || {
        // SAFETY: used as documented.
        unsafe {
            let timer = ExAllocateTimer(ex_note, number(5), EX_TIMER_HIGH_RESOLUTION);
            ExSetTimer(timer, -10_000, 10_000, ptr::null_mut());
            timer
        }
    });
    world.run_for(Duration::from_micros(1500));
    assert_eq!(logged(), ["ex timer 5 irql 2"]);
    world.call(a, || {
        // SAFETY: as above; it stays until it has expired.
        unsafe {
            assert_eq!(ExDeleteTimer(timer, 0, 0, ptr::null_mut()), 0);
            // Disabled: nothing does anything with it any more.
            assert_eq!(ExSetTimer(timer, -1, 0, ptr::null_mut()), 0);
            assert_eq!(ExCancelTimer(timer, ptr::null_mut()), 0);
            assert_eq!(ExDeleteTimer(timer, 1, 0, ptr::null_mut()), 0);
        }
    });
    world.run_for(Duration::from_millis(5));
    assert_eq!(logged(), ["ex timer 5 irql 2"]);
    assert_eq!(world.pool_stats(a).driver_blocks, 0);
}

#[test]
fn a_dpc_or_timer_that_was_never_initialised() {
    for case in 0..3 {
        let (mut world, a) = suspects();
        let returned = world.try_call(a, || {
            let (mut dpc, mut timer) = (KDPC::ZEROED, KTIMER::ZEROED);
            // SAFETY: on this stack.
            unsafe {
                match case {
                    0 => {
                        KeInsertQueueDpc(&mut dpc, number(0), number(0));
                    }
                    1 => {
                        KeSetTimer(&mut timer, -1, ptr::null_mut());
                    }
                    _ => {
                        KeCancelTimer(&mut timer);
                    }
                }
            }
        });
        assert!(returned.is_none());
        assert_eq!(broken(&mut world), [rules::UNINITIALIZED], "case {case}");
    }
}

#[test]
fn initialising_what_is_in_use() {
    let (mut world, a) = suspects();
    let (mut timer, mut dpc) = (KTIMER::ZEROED, KDPC::ZEROED);
    let (timer, dpc) = (&raw mut timer, &raw mut dpc);
    world.call(a, || {
        // SAFETY: the test's.
        unsafe {
            KeInitializeTimerEx(timer, NotificationTimer);
            KeInitializeDpc(dpc, note, number(1));
            KeSetTimer(timer, -10_000, dpc);
            KeInitializeTimerEx(timer, NotificationTimer);
            KeCancelTimer(timer);
            let old = KfRaiseIrql(2);
            KeInsertQueueDpc(dpc, number(0), number(0));
            KeInitializeDpc(dpc, note, number(1));
            KeRemoveQueueDpc(dpc);
            KeLowerIrql(old);
        }
    });
    assert_eq!(broken(&mut world), [rules::OBJECT_IN_USE; 2]);
}

/// A KTIMER and a KDPC in pool memory.
#[repr(C)]
struct Both {
    timer: KTIMER,
    dpc: KDPC,
}

unsafe fn both() -> *mut Both {
    // SAFETY: allocated of that size.
    unsafe {
        let both: *mut Both = ExAllocatePool2(POOL_FLAG_NON_PAGED, size_of::<Both>(), TAG).cast();
        KeInitializeTimerEx(&raw mut (*both).timer, NotificationTimer);
        KeInitializeDpc(&raw mut (*both).dpc, note, number(1));
        both
    }
}

#[test]
fn freeing_memory_with_a_running_timer_or_a_queued_dpc_in_it() {
    let (mut world, a) = suspects();
    fresh_log();
    world.call(a, || {
        // SAFETY: freed too early on purpose; nothing runs before the next line takes it back.
        unsafe {
            let b = both();
            KeSetTimer(&raw mut (*b).timer, -10_000, ptr::null_mut());
            ExFreePool(b.cast());
            // Only the DPC lies in what is freed here; the timer that will queue it does not.
            let (b, c) = (both(), both());
            KeSetTimer(&raw mut (*b).timer, -10_000, &raw mut (*c).dpc);
            ExFreePool(c.cast());
            KeCancelTimer(&raw mut (*b).timer);
            ExFreePool(b.cast());
            let b = both();
            let old = KfRaiseIrql(2);
            KeInsertQueueDpc(&raw mut (*b).dpc, number(0), number(0));
            ExFreePool(b.cast());
            let _ = old;
        }
    });
    let rules = broken(&mut world);
    assert_eq!(rules[..3], [rules::FREED_IN_USE; 3], "{rules:?}");
}

unsafe extern "efiapi" fn again(dpc: *mut KDPC, _: *mut c_void, _: *mut c_void, _: *mut c_void) {
    // SAFETY: the DPC is initialised.
    unsafe { KeInsertQueueDpc(dpc, ptr::null_mut(), ptr::null_mut()) };
}

#[test]
fn a_dpc_that_queues_itself_for_ever() {
    let (mut world, a) = suspects();
    let returned = world.try_call(a, || {
        let mut dpc = KDPC::ZEROED;
        // SAFETY: on this stack, which stays when the world stops.
        unsafe {
            KeInitializeDpc(&mut dpc, again, ptr::null_mut());
            KeInsertQueueDpc(&mut dpc, ptr::null_mut(), ptr::null_mut());
        }
    });
    assert!(returned.is_none());
    assert_eq!(broken(&mut world), [rules::DPC_STORM]);
}

unsafe extern "efiapi" fn careless_entry(
    object: *mut DRIVER_OBJECT,
    _path: *mut UNICODE_STRING,
) -> NTSTATUS {
    // SAFETY: the object is the driver's; the extension is of that size.
    unsafe {
        let mut extension = ptr::null_mut();
        assert_eq!(
            IoAllocateDriverObjectExtension(
                object,
                number(1),
                size_of::<Both>() as u32,
                &mut extension
            ),
            STATUS_SUCCESS
        );
        assert_eq!(IoGetDriverObjectExtension(object, number(1)), extension);
        assert!(IoGetDriverObjectExtension(object, number(2)).is_null());
        let both = extension.cast::<Both>();
        KeInitializeTimerEx(&raw mut (*both).timer, NotificationTimer);
        KeInitializeDpc(&raw mut (*both).dpc, note, number(1));
        (*object).DriverUnload = Some(careless_unload);
    }
    STATUS_SUCCESS
}

unsafe extern "efiapi" fn careless_unload(object: *mut DRIVER_OBJECT) {
    // SAFETY: the extension holds what the entry point put there.
    unsafe {
        let both = IoGetDriverObjectExtension(object, number(1)).cast::<Both>();
        KeSetTimer(&raw mut (*both).timer, -10_000, &raw mut (*both).dpc);
        let mut there = PROCESSOR_NUMBER {
            Number: 1,
            ..PROCESSOR_NUMBER::ZEROED
        };
        KeSetTargetProcessorDpcEx(&raw mut (*both).dpc, &mut there);
        KeInsertQueueDpc(&raw mut (*both).dpc, ptr::null_mut(), ptr::null_mut());
    }
}

#[test]
fn a_driver_that_goes_while_its_timer_runs_and_its_dpc_is_queued() {
    let (mut world, a) = suspects_with(2);
    fresh_log();
    let driver = world
        .load_driver(a, "careless", careless_entry)
        .expect("it loads");
    world.unload_driver(driver);
    assert_eq!(
        broken(&mut world),
        [rules::TIMER_AT_UNLOAD, rules::DPC_AT_UNLOAD]
    );
    world.run_for(Duration::from_millis(5));
    assert_eq!(logged(), [""; 0], "neither runs in a driver that is gone");
}

unsafe extern "efiapi" fn increment(
    _dpc: *mut KDPC,
    context: *mut c_void,
    _: *mut c_void,
    _: *mut c_void,
) {
    // SAFETY: the context is a number that outlives the DPC.
    unsafe { *context.cast::<u32>() += 1 };
}

/// A thread and a DPC of another processor increment a number without a lock, several times; what comes out.
fn race(seed: u64, interleave: u32) -> u32 {
    const TIMES: u32 = 10;
    let mut world = World::builder().seed(seed).interleave(interleave).build();
    let a = world.add_machine(MachineConfig::named("A").processors(2));
    let (mut count, mut dpc) = (0u32, KDPC::ZEROED);
    let (count, dpc) = (&raw mut count, &raw mut dpc);
    for _ in 0..TIMES {
        world.call(a, || {
            let mut there = PROCESSOR_NUMBER {
                Number: 1,
                ..PROCESSOR_NUMBER::ZEROED
            };
            // SAFETY: both outlive the DPC, which has run when the world is idle.
            unsafe {
                KeInitializeDpc(dpc, increment, count.cast());
                KeSetTargetProcessorDpcEx(dpc, &mut there);
                KeInsertQueueDpc(dpc, ptr::null_mut(), ptr::null_mut());
                let read = *count;
                KeGetCurrentIrql();
                *count = read + 1;
            }
        });
        world.run_until_idle();
    }
    // SAFETY: nobody uses it any more.
    2 * TIMES - unsafe { *count }
}

#[test]
fn interleaving_loses_updates_that_nothing_protects() {
    assert_eq!(race(1, 0), 0, "without it, processors take turns");
    let lost: Vec<_> = (1..=8).map(|seed| race(seed, 3)).collect();
    assert!(lost.iter().any(|n| *n > 0), "{lost:?}");
    assert_eq!(lost, (1..=8).map(|seed| race(seed, 3)).collect::<Vec<_>>());
}

unsafe extern "efiapi" fn raise_flag(
    _dpc: *mut KDPC,
    context: *mut c_void,
    _: *mut c_void,
    _: *mut c_void,
) {
    // SAFETY: the context is a number that outlives the DPC.
    unsafe { context.cast::<u32>().write_volatile(1) };
}

#[test]
fn who_stalls_lets_other_processors_go_on() {
    for held in [false, true] {
        let (mut world, a) = suspects_with(2);
        let mut guarded = Guarded { lock: 0, count: 0 };
        let (mut flag, mut dpcs) = (0u32, [KDPC::ZEROED; 2]);
        let (guarded, flag, dpcs) = (&raw mut guarded, &raw mut flag, &raw mut dpcs);
        let waited = world.try_call(a, || {
            // SAFETY: all outlive the DPCs, which have run when the world is idle.
            unsafe {
                let mut there = PROCESSOR_NUMBER {
                    Number: 1,
                    ..PROCESSOR_NUMBER::ZEROED
                };
                KeInitializeDpc(&raw mut (*dpcs)[0], raise_flag, flag.cast());
                KeInitializeDpc(&raw mut (*dpcs)[1], increment_locked, guarded.cast());
                let old = KeAcquireSpinLockRaiseToDpc(&raw mut (*guarded).lock);
                for dpc in [&raw mut (*dpcs)[0], &raw mut (*dpcs)[1]] {
                    KeSetTargetProcessorDpcEx(dpc, &mut there);
                }
                // The second wants the lock, and spins on its processor until it gets it.
                KeInsertQueueDpc(&raw mut (*dpcs)[0], ptr::null_mut(), ptr::null_mut());
                if held {
                    KeInsertQueueDpc(&raw mut (*dpcs)[1], ptr::null_mut(), ptr::null_mut());
                }
                let mut waited = 0;
                while flag.read_volatile() == 0 {
                    KeStallExecutionProcessor(10);
                    waited += 1;
                }
                let read = (*guarded).count;
                KeStallExecutionProcessor(10);
                (*guarded).count = read + 1;
                KeReleaseSpinLock(&raw mut (*guarded).lock, old);
                waited
            }
        });
        world.run_until_idle();
        assert_eq!(waited, Some(1));
        // SAFETY: nobody uses it any more.
        assert_eq!(unsafe { (*guarded).count }, 1 + u32::from(held));
        assert_eq!(broken(&mut world), [""; 0]);
    }
}

/// What a DPC under a lock works on.
struct Guarded {
    lock: usize,
    count: u32,
}

unsafe extern "efiapi" fn increment_locked(
    _dpc: *mut KDPC,
    context: *mut c_void,
    _: *mut c_void,
    _: *mut c_void,
) {
    let guarded = context.cast::<Guarded>();
    // SAFETY: the context outlives the DPC.
    unsafe {
        KeAcquireSpinLockAtDpcLevel(&raw mut (*guarded).lock);
        let read = (*guarded).count;
        KeGetCurrentIrql();
        (*guarded).count = read + 1;
        KeReleaseSpinLockFromDpcLevel(&raw mut (*guarded).lock);
    }
}

unsafe extern "efiapi" fn increment_unlocked(
    _dpc: *mut KDPC,
    context: *mut c_void,
    _: *mut c_void,
    _: *mut c_void,
) {
    // SAFETY: the context outlives the DPC.
    unsafe { (*context.cast::<Guarded>()).count += 1 };
}

/// A thread increments a number under a lock while DPCs of two other processors increment it their way; what comes out.
fn under_a_lock(seed: u64, other: KDEFERRED_ROUTINE) -> u32 {
    let mut world = World::builder().seed(seed).interleave(2).build();
    let a = world.add_machine(MachineConfig::named("A").processors(3));
    let mut guarded = Guarded { lock: 0, count: 0 };
    let mut dpcs = [KDPC::ZEROED; 2];
    let (guarded, dpcs) = (&raw mut guarded, &raw mut dpcs);
    world.call(a, || {
        // SAFETY: all outlive the DPCs.
        unsafe {
            let old = KeAcquireSpinLockRaiseToDpc(&raw mut (*guarded).lock);
            for (dpc, number) in [(&raw mut (*dpcs)[0], 1), (&raw mut (*dpcs)[1], 2)] {
                let mut there = PROCESSOR_NUMBER {
                    Number: number,
                    ..PROCESSOR_NUMBER::ZEROED
                };
                KeInitializeDpc(dpc, other, guarded.cast());
                KeSetTargetProcessorDpcEx(dpc, &mut there);
                KeInsertQueueDpc(dpc, ptr::null_mut(), ptr::null_mut());
            }
            let read = (*guarded).count;
            KeGetCurrentIrql();
            KeGetCurrentIrql();
            (*guarded).count = read + 1;
            KeReleaseSpinLock(&raw mut (*guarded).lock, old);
        }
    });
    world.run_until_idle();
    // SAFETY: nobody uses it any more.
    unsafe { (*guarded).count }
}

#[test]
fn who_wants_a_lock_spins_until_it_is_released() {
    for seed in 0..16 {
        assert_eq!(under_a_lock(seed, increment_locked), 3, "seed {seed}");
    }
}

#[test]
fn who_forgets_the_lock_is_found_out() {
    let sums: Vec<_> = (0..16)
        .map(|seed| under_a_lock(seed, increment_unlocked))
        .collect();
    assert!(sums.iter().any(|sum| *sum < 3), "{sums:?}");
}

/// Two locks taken in both orders, on two processors at once.
unsafe extern "efiapi" fn take_both(
    _dpc: *mut KDPC,
    context: *mut c_void,
    _: *mut c_void,
    _: *mut c_void,
) {
    let locks = context.cast::<[usize; 2]>();
    // SAFETY: the context outlives the DPC.
    unsafe {
        KeAcquireSpinLockAtDpcLevel(&raw mut (*locks)[1]);
        KeGetCurrentIrql();
        KeAcquireSpinLockAtDpcLevel(&raw mut (*locks)[0]);
        KeReleaseSpinLockFromDpcLevel(&raw mut (*locks)[0]);
        KeReleaseSpinLockFromDpcLevel(&raw mut (*locks)[1]);
    }
}

#[test]
fn a_deadlock_of_spin_locks_is_told() {
    let mut deadlocks = 0;
    for seed in 0..16 {
        let mut world = World::builder()
            .seed(seed)
            .interleave(2)
            .collect_violations()
            .build();
        let a = world.add_machine(MachineConfig::named("A").processors(2));
        let (mut locks, mut dpc) = ([0_usize; 2], KDPC::ZEROED);
        let (locks, dpc) = (&raw mut locks, &raw mut dpc);
        let returned = world.try_call(a, || {
            let mut there = PROCESSOR_NUMBER {
                Number: 1,
                ..PROCESSOR_NUMBER::ZEROED
            };
            // SAFETY: all outlive the DPC.
            unsafe {
                KeInitializeDpc(dpc, take_both, locks.cast());
                KeSetTargetProcessorDpcEx(dpc, &mut there);
                let old = KeAcquireSpinLockRaiseToDpc(&raw mut (*locks)[0]);
                KeInsertQueueDpc(dpc, ptr::null_mut(), ptr::null_mut());
                KeGetCurrentIrql();
                KeAcquireSpinLockAtDpcLevel(&raw mut (*locks)[1]);
                KeReleaseSpinLockFromDpcLevel(&raw mut (*locks)[1]);
                KeReleaseSpinLock(&raw mut (*locks)[0], old);
            }
        });
        let names = broken(&mut world);
        if returned.is_none() {
            assert!(names.contains(&rules::DEADLOCK), "{names:?}");
            deadlocks += 1;
        }
    }
    assert!(deadlocks > 0);
}
