//! Driver code that never comes back: it uses up its stack, or loops for ever.
#![allow(unsafe_code, reason = "calls exports as drivers do")]

use std::hint::black_box;
use std::time::Duration;

use ndis_sys::imports::*;
use ntsim::verifier::rules;
use ntsim::{MachineConfig, MachineId, World};

fn world_with(limit: Duration) -> (World, MachineId) {
    let mut world = World::builder()
        .seed(77)
        .collect_violations()
        .watchdog(limit)
        .build();
    let machine = world.add_machine(MachineConfig::named("A"));
    (world, machine)
}

/// A world in which the watchdog has nothing to say, however slow the machine is that runs it.
fn world() -> (World, MachineId) {
    world_with(Duration::from_secs(60))
}

/// Calls itself, with a kernel call now and then.
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if black_box(depth) == u64::MAX {
        return 0;
    }
    if depth.is_multiple_of(16) {
        // SAFETY: needs nothing.
        unsafe { KeGetCurrentIrql() };
    }
    recurse(depth + 1) + frame[depth as usize % 64]
}

#[track_caller]
fn one_violation(world: &mut World, rule: &str) {
    let violations = world.take_violations();
    assert_eq!(violations.len(), 1, "{violations:?}");
    let violation = &violations[0];
    assert_eq!(violation.rule, rule);
    assert!(
        violation
            .text
            .contains("kernel thread 1 (machine A, processor 0, IRQL 0"),
        "{violation}"
    );
    let last = violation.history.last().expect("a history");
    assert_eq!(last.function, "KeGetCurrentIrql");
}

#[test]
fn a_stack_that_is_used_up_ends_the_world_with_a_report() {
    let (mut world, a) = world();
    assert_eq!(world.try_call(a, || recurse(0)), None);
    one_violation(&mut world, rules::STACK_OVERFLOW);
}

#[inline(never)]
fn large_frame<const BYTES: usize>() -> u8 {
    let frame = [black_box(0_u8); BYTES];
    black_box(&frame)[BYTES / 2]
}

#[test]
fn a_stack_that_is_used_too_much_is_accused() {
    let (mut world, a) = world();
    world.call(a, large_frame::<{ 32 << 10 }>);
    assert!(world.take_violations().is_empty());
    world.call(a, large_frame::<{ 200 << 10 }>);
    let rules: Vec<_> = world.take_violations().iter().map(|v| v.rule).collect();
    assert_eq!(rules, [rules::STACK_DEPTH]);
    // It was once.
    world.call(a, large_frame::<{ 32 << 10 }>);
    assert!(world.take_violations().is_empty());
}

#[test]
fn a_loop_without_end_ends_the_world_with_a_report() {
    let (mut world, a) = world_with(Duration::from_millis(400));
    let returned = world.try_call(a, || {
        // SAFETY: needs nothing.
        unsafe { KeGetCurrentIrql() };
        while black_box(true) {
            std::hint::spin_loop();
        }
    });
    assert_eq!(returned, None);
    one_violation(&mut world, rules::HANG);
}

#[test]
fn a_loop_without_end_that_calls_the_kernel_ends_too() {
    // Long enough that a busy machine does not leave the loop without a turn for so long.
    let limit = Duration::from_millis(400);
    let (mut world, a) = world_with(limit);
    let began = std::time::Instant::now();
    let returned = world.try_call(a, || {
        while black_box(true) {
            // SAFETY: needs nothing.
            unsafe { KeGetCurrentIrql() };
        }
    });
    assert_eq!(returned, None);
    one_violation(&mut world, rules::HANG);
    let elapsed = began.elapsed();
    assert!(elapsed > 5 * limit, "after {elapsed:?}");
}

#[test]
fn turns_that_end_may_be_many() {
    let limit = Duration::from_secs(2);
    let (mut world, a) = world_with(limit);
    let began = std::time::Instant::now();
    while began.elapsed() < limit + limit / 2 {
        world.call(a, || black_box(()));
    }
    assert!(world.take_violations().is_empty());
}

#[test]
fn a_world_that_does_nothing_is_not_lost() {
    let limit = Duration::from_secs(1);
    let (mut world, a) = world_with(limit);
    world.call(a, || ());
    std::thread::sleep(limit + limit / 2);
    world.call(a, || ());
    assert!(world.take_violations().is_empty());
}
