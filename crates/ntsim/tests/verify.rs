//! What a broken rule does to the run, and what the report of it has.
#![allow(unsafe_code, reason = "tiny drivers")]

mod common;

use std::cell::Cell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use common::TAG;
use ndis_sys::imports::*;
use ndis_sys::wdm::*;
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

/// Notes in its context that it ran, and breaks a rule.
unsafe extern "efiapi" fn offending_dpc(
    _dpc: *mut KDPC,
    context: *mut c_void,
    _first: *mut c_void,
    _second: *mut c_void,
) {
    // SAFETY: the test's, which outlives its DPCs.
    offend(unsafe { &*context.cast::<Cell<u32>>() });
}

/// Two DPCs, and how far each has come.
struct Pair {
    dpcs: [KDPC; 2],
    steps: [Cell<u32>; 2],
}

impl Pair {
    fn new() -> Box<Pair> {
        Box::new(Pair {
            // SAFETY: zeros are a KDPC that was not initialised.
            dpcs: unsafe { std::mem::zeroed() },
            steps: Default::default(),
        })
    }

    fn queue(&mut self) {
        for (dpc, steps) in self.dpcs.iter_mut().zip(&self.steps) {
            let context = std::ptr::from_ref(steps).cast_mut().cast();
            // SAFETY: both outlive the DPC.
            unsafe {
                KeInitializeDpc(dpc, offending_dpc, context);
                KeInsertQueueDpc(dpc, std::ptr::null_mut(), std::ptr::null_mut());
            }
        }
    }

    fn steps(&self) -> [u32; 2] {
        self.steps.each_ref().map(Cell::get)
    }
}

const DISPATCH: u8 = 2;

#[test]
fn what_was_queued_behind_it_does_not_run() {
    let (mut world, a) = with_machine(World::builder());
    let mut pair = Pair::new();
    let text = report(|| world.call_on(a, 0, DISPATCH, || pair.queue()));
    assert!(text.contains("rule pool-bad-free broken"), "{text}");
    assert_eq!(pair.steps(), [1, 0]);
}

/// A function that breaks a rule and would let DPCs run before it returns.
#[test]
fn not_even_what_the_function_that_broke_the_rule_lets_run() {
    let (mut world, a) = with_machine(World::builder());
    let mut pair = Pair::new();
    let mut lock = 0;
    let text = report(|| {
        world.call_on(a, 0, DISPATCH, || {
            pair.queue();
            // SAFETY: wrong: nobody holds it.
            unsafe { KeReleaseSpinLock(&mut lock, 0) };
        });
    });
    assert!(text.contains("rule lock-not-held broken"), "{text}");
    assert_eq!(pair.steps(), [0, 0]);
}

/// What the host's side of the kernel finds, where no driver is to return to.
#[test]
fn who_waits_for_something_in_the_world_is_told() {
    let (mut world, a) = with_machine(World::builder());
    let mut pair = Pair::new();
    let mut timer: KTIMER = {
        // SAFETY: zeros are a timer that was not initialised.
        unsafe { std::mem::zeroed() }
    };
    world.call(a, || {
        let context = std::ptr::from_ref(&pair.steps[0]).cast_mut().cast();
        // SAFETY: all outlive the run.
        unsafe {
            KeInitializeTimerEx(&mut timer, NotificationTimer);
            KeInitializeDpc(&mut pair.dpcs[0], offending_dpc, context);
            KeSetTimer(&mut timer, -10_000, &mut pair.dpcs[0]);
        }
    });
    let text = report(|| {
        world.run_until(|_| false, Duration::from_secs(1));
    });
    assert!(text.contains("rule pool-bad-free broken"), "{text}");
    assert!(text.contains("at 1000000 ns on A"), "{text}");
    assert_eq!(pair.steps(), [1, 0]);
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
    let all = verifier::all_rules();
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
