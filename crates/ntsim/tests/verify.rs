//! What a broken rule does to the run, and what the report of it has.
#![allow(unsafe_code, reason = "tiny drivers")]

mod common;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use common::TAG;
use ndis_sys::imports::{ExFreePoolWithTag, KeGetCurrentIrql, KeLowerIrql};
use ntsim::verifier::{self, Class, rules};
use ntsim::{MachineConfig, MachineId, Verify, World, WorldBuilder};

fn with_machine(builder: WorldBuilder) -> (World, MachineId) {
    let mut world = builder.build();
    let machine = world.add_machine(MachineConfig::named("A"));
    (world, machine)
}

/// Breaks a rule, calls the kernel once more, and notes how far it came.
fn offend(steps: &Cell<u32>) {
    steps.set(1);
    // SAFETY: wrong, and the simulator survives it.
    unsafe { ExFreePoolWithTag(std::ptr::without_provenance_mut(0x1000), TAG) };
    steps.set(2);
    // SAFETY: needs nothing.
    unsafe { KeGetCurrentIrql() };
    steps.set(3);
}

/// What a run panicked with.
fn report(run: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(run)).expect_err("a rule was broken");
    *payload.downcast::<String>().expect("a text")
}

#[test]
fn a_violation_stops_the_driver_where_the_kernel_would_return_to_it() {
    let (mut world, a) = with_machine(World::builder().seed(5));
    let steps = Cell::new(0);
    let text = report(|| world.call(a, || offend(&steps)));
    assert_eq!(steps.get(), 1);
    for part in [
        "rule pool-bad-free broken by code of the test: ExFreePoolWithTag frees 0x1000",
        "that is: Memory was freed that the pool never gave out",
        "crossings before:",
        "verified full",
        "repeat with NTSIM_SEED=5 NTSIM_INTERLEAVE=0\n",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
}

#[test]
fn who_collects_violations_or_pardons_the_rule_sees_how_it_goes_on() {
    let (mut world, a) = with_machine(World::builder().collect_violations());
    let steps = Cell::new(0);
    world.call(a, || offend(&steps));
    assert_eq!(steps.take(), 3);
    assert_eq!(common::broken(&mut world), [rules::POOL_BAD_FREE]);
    drop(world);

    let (mut world, a) = with_machine(World::builder());
    world.pardon(rules::POOL_BAD_FREE);
    world.call(a, || offend(&steps));
    assert_eq!(steps.get(), 3);
    assert_eq!(world.pardoned(rules::POOL_BAD_FREE), 1);
}

/// The world is not run on by who waits for something in it.
#[test]
fn nothing_that_was_to_happen_happens_any_more() {
    let (mut world, a) = with_machine(World::builder());
    let later = Rc::new(Cell::new(false));
    let seen = Rc::clone(&later);
    let text = report(|| {
        world.call(a, || ());
        world.run_until(
            move |world| {
                world.call(a, || {
                    // SAFETY: wrong: it is raised. The return to the kernel finds it as well.
                    unsafe { KeLowerIrql(2) };
                });
                seen.set(true);
                false
            },
            Duration::from_secs(1),
        );
    });
    assert!(!later.get());
    assert!(text.contains("rule irql-direction broken"), "{text}");
}

#[test]
fn levels_have_the_names_by_which_the_environment_knows_them() {
    for level in [Verify::Cheap, Verify::Full] {
        assert_eq!(level.to_string().parse(), Ok(level));
    }
    assert!("most".parse::<Verify>().is_err());
    let report = World::builder()
        .ignore_environment()
        .verify(Verify::Cheap)
        .build()
        .finish();
    assert_eq!(report.verify, Verify::Cheap);
    assert!(report.to_string().contains("verified cheap"), "{report}");
}

#[test]
fn every_rule_is_listed_with_what_it_is_about() {
    let all = verifier::rules();
    let class = |name| all.iter().find(|r| r.name == name).map(|r| r.class);
    assert_eq!(class(rules::POOL_GUARD), Some(Class::SpecialPool));
    assert_eq!(class(rules::WORK_ITEM_AT_UNLOAD), Some(Class::Unload));
    assert_eq!(class(rules::WORK_ITEM), Some(Class::Io));
    assert_eq!(class(ntsim::ndis::rules::OID), Some(Class::Ndis));
    assert_eq!(
        class(ntsim::ndk::rules::OBJECT_TYPE),
        Some(Class::NdkProvider)
    );
    assert!(all.len() > 130, "{}", all.len());
    assert!(all.iter().all(|r| !r.text.is_empty()));
}
