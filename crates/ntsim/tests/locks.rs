//! Spin locks, fast mutexes, resources and the IRQL: what the verifier accuses of, and what it does not.
#![allow(unsafe_code, reason = "tiny drivers")]

mod common;

use std::ffi::c_void;

use common::{TAG, broken, start, suspects, suspects_with};
use ndis_sys::imports::{
    ExAcquireFastMutex, ExAcquireResourceExclusiveLite, ExAcquireResourceSharedLite,
    ExAllocatePool2, ExDeleteResourceLite, ExFreePoolWithTag, ExInitializeResourceLite,
    ExReleaseFastMutex, ExReleaseResourceLite, KeAcquireInStackQueuedSpinLock,
    KeAcquireInStackQueuedSpinLockAtDpcLevel, KeAcquireSpinLockAtDpcLevel,
    KeAcquireSpinLockRaiseToDpc, KeDelayExecutionThread, KeEnterCriticalRegion, KeGetCurrentIrql,
    KeInitializeEvent, KeInitializeSpinLock, KeLeaveCriticalRegion, KeLowerIrql,
    KeReleaseInStackQueuedSpinLock, KeReleaseInStackQueuedSpinLockFromDpcLevel, KeReleaseSpinLock,
    KeReleaseSpinLockFromDpcLevel, KeSetEvent, KeTryToAcquireSpinLockAtDpcLevel,
    KeWaitForSingleObject, KfRaiseIrql, RtlRandomEx, ZwClose,
};
use ndis_sys::types::KernelMode;
use ndis_sys::wdm::{
    ERESOURCE, Executive, FAST_MUTEX, KEVENT, KLOCK_QUEUE_HANDLE, POOL_FLAG_NON_PAGED,
    SynchronizationEvent,
};
use ntsim::verifier::rules;

/// Runs a closure as driver code at PASSIVE_LEVEL in a world of its own; the rules it broke.
fn accused(f: impl FnOnce()) -> Vec<&'static str> {
    let (mut world, a) = suspects();
    world.try_call(a, f);
    broken(&mut world)
}

#[test]
fn orderly_locking_is_silent() {
    let rules = accused(|| {
        let (mut outer, mut inner) = (7usize, 7usize);
        // SAFETY: locks on this stack.
        unsafe {
            KeInitializeSpinLock(&mut outer);
            KeInitializeSpinLock(&mut inner);
            for _ in 0..2 {
                let old = KeAcquireSpinLockRaiseToDpc(&mut outer);
                assert_eq!((old, KeGetCurrentIrql()), (0, 2));
                KeAcquireSpinLockAtDpcLevel(&mut inner);
                KeReleaseSpinLockFromDpcLevel(&mut inner);
                assert_eq!(KeTryToAcquireSpinLockAtDpcLevel(&mut inner), 1);
                assert_eq!(KeTryToAcquireSpinLockAtDpcLevel(&mut inner), 0);
                KeReleaseSpinLockFromDpcLevel(&mut inner);
                KeReleaseSpinLock(&mut outer, old);
                assert_eq!(KeGetCurrentIrql(), 0);
            }
            // Released in the order of acquisition: allowed, if the last goes to where the first came from.
            let old = KeAcquireSpinLockRaiseToDpc(&mut outer);
            let between = KeAcquireSpinLockRaiseToDpc(&mut inner);
            assert_eq!(between, 2);
            KeReleaseSpinLock(&mut outer, between);
            KeReleaseSpinLock(&mut inner, old);
        }
    });
    assert_eq!(rules, [""; 0]);
}

#[test]
fn acquiring_a_lock_twice_stops_the_world() {
    let (mut world, a) = suspects();
    let returned = world.try_call(a, || {
        let mut lock = 0usize;
        // SAFETY: a lock on this stack.
        unsafe {
            KeAcquireSpinLockRaiseToDpc(&mut lock);
            KeAcquireSpinLockRaiseToDpc(&mut lock);
        }
    });
    assert!(returned.is_none(), "it would spin for ever");
    assert_eq!(broken(&mut world), [rules::LOCK_RECURSIVE]);
}

#[test]
fn a_lock_that_was_never_initialised() {
    let rules = accused(|| {
        let mut lock = 0xdead_beefusize;
        // SAFETY: a lock on this stack.
        unsafe { KeAcquireSpinLockRaiseToDpc(&mut lock) };
    });
    assert_eq!(rules, [rules::UNINITIALIZED]);
}

#[test]
fn releasing_what_is_not_held() {
    let rules = accused(|| {
        let mut lock = 0usize;
        // SAFETY: a lock on this stack.
        unsafe {
            let old = KfRaiseIrql(2);
            KeReleaseSpinLockFromDpcLevel(&mut lock);
            KeLowerIrql(old);
        }
    });
    assert_eq!(rules, [rules::LOCK_NOT_HELD]);
}

#[test]
fn releasing_with_the_wrong_kind_of_function() {
    let rules = accused(|| {
        let mut lock = 0usize;
        // SAFETY: a lock on this stack.
        unsafe {
            let old = KeAcquireSpinLockRaiseToDpc(&mut lock);
            KeReleaseSpinLockFromDpcLevel(&mut lock);
            KeLowerIrql(old);
        }
    });
    assert_eq!(rules, [rules::LOCK_IRQL]);
}

#[test]
fn releasing_to_the_wrong_irql() {
    let rules = accused(|| {
        let mut lock = 0usize;
        // SAFETY: a lock on this stack.
        unsafe {
            KeAcquireSpinLockRaiseToDpc(&mut lock);
            KeReleaseSpinLock(&mut lock, 1);
            KeLowerIrql(0);
        }
    });
    assert_eq!(rules, [rules::LOCK_IRQL]);
}

#[test]
fn releasing_at_passive_level() {
    let rules = accused(|| {
        let mut lock = 0usize;
        // SAFETY: a lock on this stack.
        unsafe {
            KeAcquireSpinLockRaiseToDpc(&mut lock);
            KeLowerIrql(0);
            KeReleaseSpinLock(&mut lock, 0);
        }
    });
    assert_eq!(rules, [rules::LOCK_IRQL, rules::IRQL]);
}

#[test]
fn the_dispatch_level_variant_at_passive_level() {
    let rules = accused(|| {
        let mut lock = 0usize;
        // SAFETY: a lock on this stack.
        unsafe {
            KeAcquireSpinLockAtDpcLevel(&mut lock);
            KeReleaseSpinLockFromDpcLevel(&mut lock);
        }
    });
    assert_eq!(rules, [rules::IRQL, rules::IRQL]);
}

#[test]
fn returning_with_a_lock_held() {
    let rules = accused(|| {
        let mut lock = 0usize;
        // SAFETY: a lock on this stack.
        unsafe { KeAcquireSpinLockRaiseToDpc(&mut lock) };
    });
    assert_eq!(rules, [rules::IRQL_AT_RETURN, rules::LOCK_AT_RETURN]);
}

#[test]
fn returning_at_a_raised_irql() {
    let rules = accused(|| {
        // SAFETY: needs nothing.
        unsafe { KfRaiseIrql(2) };
    });
    assert_eq!(rules, [rules::IRQL_AT_RETURN]);
}

#[test]
fn raising_downwards_and_lowering_upwards() {
    let rules = accused(|| {
        // SAFETY: needs nothing.
        unsafe {
            let old = KfRaiseIrql(2);
            KfRaiseIrql(1);
            KeLowerIrql(3);
            KeLowerIrql(old);
        }
    });
    assert_eq!(rules, [rules::IRQL_DIRECTION, rules::IRQL_DIRECTION]);
}

#[test]
fn a_passive_level_function_at_dispatch_level_is_named() {
    let (mut world, a) = suspects();
    world.call_on(a, 0, 2, || {
        let mut seed = 5;
        // SAFETY: a seed on this stack.
        unsafe { RtlRandomEx(&mut seed) };
    });
    let violations = world.take_violations();
    let [violation] = violations.as_slice() else {
        panic!("one violation: {violations:?}");
    };
    assert_eq!(violation.rule, rules::IRQL);
    assert!(violation.text.contains("RtlRandomEx"), "{violation}");
    assert_eq!((violation.irql, violation.machine.as_str()), (2, "A"));
    let last = violation.history.last().expect("a history");
    assert_eq!(last.function, "RtlRandomEx");
}

#[test]
fn two_locks_in_both_orders() {
    let (mut world, a) = suspects_with(2);
    let (mut first, mut second) = (0usize, 0usize);
    let mut both = |x: *mut usize, y: *mut usize, cpu| {
        world.call_on(a, cpu, 2, || {
            // SAFETY: locks of the test.
            unsafe {
                KeAcquireSpinLockAtDpcLevel(x);
                KeAcquireSpinLockAtDpcLevel(y);
                KeReleaseSpinLockFromDpcLevel(y);
                KeReleaseSpinLockFromDpcLevel(x);
            }
        });
        broken(&mut world)
    };
    assert_eq!(both(&mut first, &mut second, 0), [""; 0]);
    assert_eq!(both(&mut first, &mut second, 1), [""; 0]);
    // It has not happened, but on two processors at a time it can: each holds what the other wants.
    assert_eq!(both(&mut second, &mut first, 1), [rules::LOCK_ORDER]);
}

#[test]
fn three_locks_in_a_ring() {
    let (mut world, a) = suspects();
    let mut locks = [0usize; 3];
    for (x, y) in [(0, 1), (1, 2), (2, 0)] {
        assert_eq!(broken(&mut world), [""; 0]);
        let (x, y) = (&raw mut locks[x], &raw mut locks[y]);
        world.call_on(a, 0, 2, || {
            // SAFETY: locks of the test.
            unsafe {
                KeAcquireSpinLockAtDpcLevel(x);
                KeAcquireSpinLockAtDpcLevel(y);
                KeReleaseSpinLockFromDpcLevel(y);
                KeReleaseSpinLockFromDpcLevel(x);
            }
        });
    }
    assert_eq!(broken(&mut world), [rules::LOCK_ORDER]);
}

#[test]
fn a_lock_initialised_anew_is_another_lock() {
    let rules = accused(|| {
        let mut locks = [0usize; 2];
        let [x, y] = &mut locks;
        let (x, y) = (&raw mut *x, &raw mut *y);
        // SAFETY: locks on this stack.
        unsafe {
            let old = KfRaiseIrql(2);
            for (first, second) in [(x, y), (y, x)] {
                KeInitializeSpinLock(first);
                KeInitializeSpinLock(second);
                KeAcquireSpinLockAtDpcLevel(first);
                KeAcquireSpinLockAtDpcLevel(second);
                KeReleaseSpinLockFromDpcLevel(second);
                KeReleaseSpinLockFromDpcLevel(first);
            }
            KeLowerIrql(old);
        }
    });
    assert_eq!(rules, [""; 0]);
}

#[test]
fn a_lock_taken_without_waiting_closes_no_ring() {
    let taken = |trying: bool| {
        accused(|| {
            let (mut first, mut second) = (0usize, 0usize);
            // SAFETY: locks on this stack.
            unsafe {
                let old = KfRaiseIrql(2);
                KeAcquireSpinLockAtDpcLevel(&mut first);
                KeAcquireSpinLockAtDpcLevel(&mut second);
                KeReleaseSpinLockFromDpcLevel(&mut second);
                KeReleaseSpinLockFromDpcLevel(&mut first);
                KeAcquireSpinLockAtDpcLevel(&mut second);
                // Against the order: who finds it held here goes without.
                if trying {
                    assert_eq!(KeTryToAcquireSpinLockAtDpcLevel(&mut first), 1);
                } else {
                    KeAcquireSpinLockAtDpcLevel(&mut first);
                }
                KeReleaseSpinLockFromDpcLevel(&mut first);
                KeReleaseSpinLockFromDpcLevel(&mut second);
                KeLowerIrql(old);
            }
        })
    };
    assert_eq!(taken(true), [""; 0]);
    assert_eq!(taken(false), [rules::LOCK_ORDER]);
}

#[test]
fn a_lock_that_a_handler_left_taken_is_named_so() {
    let (mut world, a) = suspects();
    let mut lock = 0usize;
    let lock = &raw mut lock;
    // SAFETY: a lock of the test.
    world.call(a, || unsafe { KeAcquireSpinLockRaiseToDpc(lock) });
    let rules = [rules::IRQL_AT_RETURN, rules::LOCK_AT_RETURN];
    assert_eq!(broken(&mut world), rules);
    // SAFETY: as above.
    let returned = world.try_call(a, || unsafe { KeAcquireSpinLockRaiseToDpc(lock) });
    assert!(returned.is_none(), "it would spin for ever");
    let violations = world.take_violations();
    assert_eq!(violations[0].rule, rules[1]);
    assert!(violations[0].text.contains("test driver code held"));
}

#[test]
fn violations_beyond_those_kept_are_counted() {
    let (mut world, a) = suspects();
    world.call(a, || {
        let mut lock = 0usize;
        // SAFETY: a lock on this stack.
        unsafe {
            let old = KfRaiseIrql(2);
            for _ in 0..100 {
                KeReleaseSpinLockFromDpcLevel(&mut lock);
            }
            KeLowerIrql(old);
        }
    });
    let report = world.finish();
    assert_eq!((report.violations.len(), report.more), (64, 36));
    assert!(report.to_string().contains("and 36 more violation(s)"));
}

#[test]
fn queued_locks_go_back_to_the_irql_that_their_handles_remember() {
    let rules = accused(|| {
        let (mut outer, mut inner) = (0usize, 0usize);
        let mut handles = [KLOCK_QUEUE_HANDLE::ZEROED; 2];
        let [first, second] = &mut handles;
        // SAFETY: locks and handles on this stack.
        unsafe {
            for _ in 0..2 {
                KeAcquireInStackQueuedSpinLock(&mut outer, first);
                KeAcquireInStackQueuedSpinLockAtDpcLevel(&mut inner, second);
                assert_eq!((KeGetCurrentIrql(), outer, inner), (2, 1, 1));
                KeReleaseInStackQueuedSpinLockFromDpcLevel(second);
                KeReleaseInStackQueuedSpinLock(first);
                assert_eq!((KeGetCurrentIrql(), outer, inner), (0, 0, 0));
            }
        }
    });
    assert_eq!(rules, [""; 0]);
}

#[test]
fn a_queued_lock_is_released_once_and_by_its_own_kind_of_function() {
    let twice = || {
        let (mut lock, mut handle) = (0usize, KLOCK_QUEUE_HANDLE::ZEROED);
        // SAFETY: a lock and a handle on this stack.
        unsafe {
            KeAcquireInStackQueuedSpinLock(&mut lock, &mut handle);
            KeReleaseInStackQueuedSpinLock(&mut handle);
            let old = KfRaiseIrql(2);
            KeReleaseInStackQueuedSpinLock(&mut handle);
            KeLowerIrql(old);
        }
    };
    assert_eq!(accused(twice), [rules::LOCK_NOT_HELD]);
    let mixed = || {
        let (mut lock, mut handle) = (0usize, KLOCK_QUEUE_HANDLE::ZEROED);
        // SAFETY: as above.
        unsafe {
            KeAcquireInStackQueuedSpinLock(&mut lock, &mut handle);
            KeReleaseSpinLock(&mut lock, 0);
        }
    };
    assert_eq!(accused(mixed), [rules::LOCK_IRQL]);
}

#[test]
fn a_lock_is_queued_or_ordinary_but_not_both() {
    let ordinary = |lock: &mut usize| {
        // SAFETY: a lock.
        unsafe {
            let old = KeAcquireSpinLockRaiseToDpc(lock);
            KeReleaseSpinLock(lock, old);
        }
    };
    let queued = |lock: &mut usize| {
        let mut handle = KLOCK_QUEUE_HANDLE::ZEROED;
        // SAFETY: a lock, and a handle on this stack.
        unsafe {
            KeAcquireInStackQueuedSpinLock(lock, &mut handle);
            KeReleaseInStackQueuedSpinLock(&mut handle);
        }
    };
    let mut lock = 0;
    assert_eq!(
        accused(|| {
            queued(&mut lock);
            ordinary(&mut lock);
        }),
        [rules::LOCK_MIXED]
    );
    assert_eq!(
        accused(|| {
            ordinary(&mut lock);
            queued(&mut lock);
        }),
        [rules::LOCK_MIXED]
    );
    // Whoever initialises it starts anew; who only tries to acquire it uses it as an ordinary one.
    let rules = accused(|| {
        ordinary(&mut lock);
        // SAFETY: a lock on this stack, which nobody holds.
        unsafe { KeInitializeSpinLock(&mut lock) };
        queued(&mut lock);
        queued(&mut lock);
        // SAFETY: as above.
        unsafe {
            let old = KfRaiseIrql(2);
            assert_eq!(KeTryToAcquireSpinLockAtDpcLevel(&mut lock), 1);
            KeReleaseSpinLockFromDpcLevel(&mut lock);
            KeLowerIrql(old);
        }
    });
    assert_eq!(rules, [rules::LOCK_MIXED]);
}

/// A free fast mutex.
const MUTEX: FAST_MUTEX = FAST_MUTEX {
    Count: 1,
    ..FAST_MUTEX::ZEROED
};

#[test]
fn two_fast_mutexes_in_both_orders() {
    let both = |again: bool| {
        accused(|| {
            let (mut first, mut second) = (MUTEX, MUTEX);
            let (first, second) = (&raw mut first, &raw mut second);
            // SAFETY: mutexes on this stack.
            unsafe {
                for (outer, inner) in [(first, second), (second, first)] {
                    ExAcquireFastMutex(outer);
                    ExAcquireFastMutex(inner);
                    ExReleaseFastMutex(inner);
                    ExReleaseFastMutex(outer);
                    if again {
                        // As ExInitializeFastMutex does: what lies there now are other mutexes.
                        for mutex in [first, second] {
                            (*mutex).Count = 1;
                            KeInitializeEvent(&raw mut (*mutex).Event, SynchronizationEvent, 0);
                        }
                    }
                }
            }
        })
    };
    assert_eq!(both(false), [rules::LOCK_ORDER]);
    assert_eq!(both(true), [""; 0]);
}

/// Runs a closure as driver code with a fast mutex and a resource, in a critical region.
fn accused_with(f: impl FnOnce(*mut FAST_MUTEX, *mut ERESOURCE)) -> Vec<&'static str> {
    accused(|| {
        let (mut mutex, mut resource) = (MUTEX, ERESOURCE::ZEROED);
        // SAFETY: both on this stack.
        unsafe {
            ExInitializeResourceLite(&mut resource);
            KeEnterCriticalRegion();
            f(&mut mutex, &mut resource);
            KeLeaveCriticalRegion();
            ExDeleteResourceLite(&mut resource);
        }
    })
}

#[test]
fn a_fast_mutex_and_a_resource_in_both_orders() {
    let both = |wait| {
        accused_with(|mutex, resource| {
            // SAFETY: a mutex and a resource.
            unsafe {
                ExAcquireResourceSharedLite(resource, 1);
                ExAcquireFastMutex(mutex);
                // Nobody waits for what he has.
                ExAcquireResourceSharedLite(resource, 1);
                ExReleaseResourceLite(resource);
                ExReleaseFastMutex(mutex);
                ExReleaseResourceLite(resource);
                ExAcquireFastMutex(mutex);
                assert_eq!(ExAcquireResourceExclusiveLite(resource, wait), 1);
                ExReleaseResourceLite(resource);
                ExReleaseFastMutex(mutex);
            }
        })
    };
    assert_eq!(both(1), [rules::LOCK_ORDER]);
    assert_eq!(both(0), [""; 0]);
}

#[test]
fn two_resources_in_both_orders() {
    #[derive(Clone, Copy, PartialEq)]
    enum How {
        Shared,
        Alone,
        AloneIfFree,
    }
    use How::{Alone, AloneIfFree, Shared};
    let acquire = |resource: *mut ERESOURCE, how| {
        // SAFETY: a resource, in a critical region.
        let has = unsafe {
            match how {
                Shared => ExAcquireResourceSharedLite(resource, 1),
                Alone => ExAcquireResourceExclusiveLite(resource, 1),
                AloneIfFree => ExAcquireResourceExclusiveLite(resource, 0),
            }
        };
        assert_eq!(has, 1);
    };
    let release = |resource: *mut ERESOURCE| {
        // SAFETY: acquired before.
        unsafe { ExReleaseResourceLite(resource) };
    };
    // One order, the other, and who wants one of them alone, before and after.
    let both = |one: [How; 2], other: [How; 2], first: [Option<How>; 2], last: [Option<How>; 2]| {
        accused_with(|_, a| {
            let (a, mut b): (*mut ERESOURCE, _) = (a, ERESOURCE::ZEROED);
            let b = &raw mut b;
            // SAFETY: resources on this stack.
            unsafe { ExInitializeResourceLite(b) };
            let alone = |hows: [Option<How>; 2]| {
                for (resource, how) in [a, b].into_iter().zip(hows) {
                    if let Some(how) = how {
                        acquire(resource, how);
                        release(resource);
                    }
                }
            };
            alone(first);
            for ([outer, inner], [how, then]) in [([a, b], one), ([b, a], other)] {
                acquire(outer, how);
                acquire(inner, then);
                release(inner);
                release(outer);
            }
            alone(last);
            // SAFETY: nobody has it.
            unsafe { ExDeleteResourceLite(b) };
        })
    };
    let nobody = [None; 2];
    let everybody = [Some(Alone); 2];
    // They share both: nobody waits for anybody.
    assert_eq!(both([Shared; 2], [Shared; 2], nobody, nobody), [""; 0]);
    assert_eq!(
        both([Shared; 2], [Shared; 2], [Some(AloneIfFree); 2], nobody),
        [""; 0]
    );
    // But behind who waits for one of them alone, the next waits; there must be such a one for each.
    assert_eq!(
        both([Shared; 2], [Shared; 2], everybody, nobody),
        [rules::LOCK_ORDER]
    );
    assert_eq!(
        both([Shared; 2], [Shared; 2], nobody, everybody),
        [rules::LOCK_ORDER]
    );
    assert_eq!(
        both([Shared; 2], [Shared; 2], [Some(Alone), None], nobody),
        [""; 0]
    );
    // What one has alone, or wants alone.
    assert_eq!(
        both([Alone; 2], [Shared; 2], nobody, nobody),
        [rules::LOCK_ORDER]
    );
    assert_eq!(
        both([Shared, Alone], [Shared, Alone], nobody, nobody),
        [rules::LOCK_ORDER]
    );
    assert_eq!(
        both(
            [Alone, Shared],
            [Shared; 2],
            [None, Some(AloneIfFree)],
            nobody
        ),
        [""; 0]
    );
}

#[test]
fn a_fast_mutex_of_another_thread_is_not_released_and_its_owner_is_not_blamed() {
    struct Two {
        mutex: FAST_MUTEX,
        owned: KEVENT,
        released: KEVENT,
    }
    unsafe extern "efiapi" fn owner(context: *mut c_void) {
        let two: *mut Two = context.cast();
        // SAFETY: the test waits for this thread.
        unsafe {
            ExAcquireFastMutex(&raw mut (*two).mutex);
            KeSetEvent(&raw mut (*two).owned, 0, 0);
            let released = (&raw mut (*two).released).cast();
            KeWaitForSingleObject(released, Executive, KernelMode, 0, std::ptr::null_mut());
            ExReleaseFastMutex(&raw mut (*two).mutex);
            KeSetEvent(&raw mut (*two).owned, 0, 0);
        }
    }
    let (mut world, a) = suspects();
    world.call(a, || {
        let mut two = Two {
            mutex: MUTEX,
            owned: KEVENT::ZEROED,
            released: KEVENT::ZEROED,
        };
        let two = &raw mut two;
        // SAFETY: on this stack, until the thread has set the event for the second time.
        unsafe {
            KeInitializeEvent(&raw mut (*two).mutex.Event, SynchronizationEvent, 0);
            KeInitializeEvent(&raw mut (*two).owned, SynchronizationEvent, 0);
            KeInitializeEvent(&raw mut (*two).released, SynchronizationEvent, 0);
            ZwClose(start(owner, two.cast()).expect("a thread"));
            let owned = (&raw mut (*two).owned).cast();
            KeWaitForSingleObject(owned, Executive, KernelMode, 0, std::ptr::null_mut());
            let old = KfRaiseIrql(1);
            ExReleaseFastMutex(&raw mut (*two).mutex);
            KeLowerIrql(old);
            KeSetEvent(&raw mut (*two).released, 0, 0);
            KeWaitForSingleObject(owned, Executive, KernelMode, 0, std::ptr::null_mut());
        }
    });
    world.run_until_idle();
    let found = world.take_violations();
    let texts: Vec<_> = found.iter().map(|v| (v.rule, &v.text)).collect();
    assert_eq!(found.len(), 1, "{texts:?}");
    assert_eq!(found[0].rule, rules::LOCK_NOT_HELD);
    assert!(
        found[0].text.contains("which another thread owns"),
        "{texts:?}"
    );
}

#[test]
fn who_shares_a_resource_cannot_wait_until_nobody_does() {
    let (mut world, a) = suspects();
    let returned = world.try_call(a, || {
        let mut resource = ERESOURCE::ZEROED;
        // SAFETY: a resource on this stack.
        unsafe {
            ExInitializeResourceLite(&mut resource);
            KeEnterCriticalRegion();
            ExAcquireResourceSharedLite(&mut resource, 1);
            assert_eq!(ExAcquireResourceExclusiveLite(&mut resource, 0), 0);
            ExAcquireResourceExclusiveLite(&mut resource, 1);
        }
    });
    assert!(returned.is_none(), "it would wait for ever");
    assert_eq!(broken(&mut world), [rules::LOCK_RECURSIVE]);
}

#[test]
fn returning_with_a_resource_or_a_fast_mutex() {
    let (mut world, a) = suspects();
    let resource: *mut ERESOURCE = Box::leak(Box::new(ERESOURCE::ZEROED));
    // SAFETY: a resource that stays.
    world.call(a, || unsafe {
        ExInitializeResourceLite(resource);
        KeEnterCriticalRegion();
        ExAcquireResourceSharedLite(resource, 1);
    });
    let found = world.take_violations();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].rule, rules::LOCK_AT_RETURN);
    let text = &found[0].text;
    assert!(text.contains("the resource at"), "{text}");
    assert!(text.contains("by ExAcquireResourceSharedLite"), "{text}");
    let mutex: *mut FAST_MUTEX = Box::leak(Box::new(MUTEX));
    // SAFETY: a mutex that stays.
    world.call(a, || unsafe { ExAcquireFastMutex(mutex) });
    assert_eq!(
        broken(&mut world),
        [rules::LOCK_AT_RETURN, rules::IRQL_AT_RETURN]
    );
}

unsafe extern "efiapi" fn acquires(context: *mut c_void) {
    // SAFETY: the context is a fast mutex, and nobody has ended the test.
    unsafe {
        ExAcquireFastMutex(context.cast());
        let mut interval = -10_000_000;
        KeDelayExecutionThread(KernelMode, 0, &mut interval);
    }
}

#[test]
fn a_fast_mutex_is_released_by_the_thread_that_owns_it() {
    let (mut world, a) = suspects();
    let mutex: *mut FAST_MUTEX = Box::leak(Box::new(MUTEX));
    // SAFETY: a mutex that stays.
    world.call(a, || unsafe {
        ZwClose(start(acquires, mutex.cast()).expect("a thread"));
        let mut interval = -10_000;
        KeDelayExecutionThread(KernelMode, 0, &mut interval);
        let old = KfRaiseIrql(1);
        ExReleaseFastMutex(mutex);
        KeLowerIrql(old);
    });
    assert_eq!(broken(&mut world), [rules::LOCK_NOT_HELD]);
}

#[test]
fn memory_with_a_fast_mutex_that_somebody_owns() {
    let rules = accused(|| {
        // SAFETY: a mutex in memory that is this test's.
        unsafe {
            let mutex: *mut FAST_MUTEX =
                ExAllocatePool2(POOL_FLAG_NON_PAGED, size_of::<FAST_MUTEX>(), TAG).cast();
            mutex.write(MUTEX);
            ExAcquireFastMutex(mutex);
            ExReleaseFastMutex(mutex);
            ExAcquireFastMutex(mutex);
            ExFreePoolWithTag(mutex.cast(), TAG);
            KeLowerIrql(0);
        }
    });
    assert_eq!(rules, [rules::FREED_IN_USE, rules::LOCK_AT_RETURN]);
}
