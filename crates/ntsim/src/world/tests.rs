//! What ends the process, seen from another.

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::rc::Rc;

use super::context::{self, KernelMode};
use super::driver_call::{NOT_ITS_OWN, call_driver};
use super::wait::{sleep_until, wait_until};
use super::{Core, MachineConfig, World};
use crate::verifier::{Function, cross};

fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if black_box(depth) == u64::MAX {
        return 0;
    }
    recurse(depth + 1) + frame[depth as usize % 64]
}

#[test]
#[ignore = "ends the process"]
fn uses_up_the_stack_inside_the_kernel() {
    static F: Function = Function::export("test", "TestRecurses", 0..=2);
    let mut world = World::builder().seed(77).build();
    let a = world.add_machine(MachineConfig::named("A"));
    world.call(a, || {
        let _crossing = cross(&F);
        let _kernel = KernelMode::enter();
        recurse(0)
    });
}

#[test]
fn a_stack_used_up_inside_the_kernel_ends_the_process_with_a_report() {
    let program = std::env::current_exe().expect("this program");
    let test = "world::tests::uses_up_the_stack_inside_the_kernel";
    let output = Command::new(program)
        .args(["--exact", test, "--ignored"])
        .output()
        .expect("it runs");
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr);
    for part in [
        "rule stack-overflow broken inside the simulated kernel",
        "kernel thread 1 (machine A, processor 0, IRQL 0",
        "<- TestRecurses",
        "NTSIM_SEED=77 NTSIM_INTERLEAVE=0",
    ] {
        assert!(told.contains(part), "{part} is not in:\n{told}");
    }
}

#[test]
fn who_unwinds_out_of_a_call_leaves_a_world_that_stands_still() {
    let mut world = World::builder().build();
    let a = world.add_machine(MachineConfig::named("A"));
    let core = Rc::clone(&world.core);
    core.schedule(1000, || panic!("the test's own"));
    let gone_on = Rc::new(Cell::new(false));
    let note = Rc::clone(&gone_on);
    let call = AssertUnwindSafe(|| {
        world.on_machine(a, |_| {
            sleep_until(2000);
            note.set(true);
        });
    });
    assert!(catch_unwind(call).is_err());
    // The thread's job lay on the stack that was unwound.
    core.run_to(5000);
    assert!(core.stopped.get() && !gone_on.get());
    drop(world);
}

#[test]
fn who_unwinds_out_of_a_wait_of_the_host_waits_no_more() {
    let mut world = World::builder().build();
    let a = world.add_machine(MachineConfig::named("A"));
    let core = Rc::clone(&world.core);
    core.schedule(1000, || panic!("the test's own"));
    let machine = world.machine(a);
    let waits = AssertUnwindSafe(|| {
        let _entered = machine.enter(0);
        wait_until(|| false, None, "for nothing");
    });
    assert!(catch_unwind(waits).is_err());
    assert!(core.waits.borrow().is_empty());
    core.run_to(5000);
    assert_eq!(core.now(), 5000);
}

#[test]
fn every_vector_has_a_message_of_its_own() {
    let mut world = World::builder().build();
    let a = world.add_machine(MachineConfig::named("A"));
    let machine = world.machine(a);
    let count = 600;
    let raised: Rc<RefCell<Vec<u32>>> = Rc::new(RefCell::new(vec![0; count]));
    let vectors: Vec<_> = (0..count)
        .map(|index| {
            let raised = Rc::clone(&raised);
            let isr = Rc::new(move || raised.borrow_mut()[index] += 1);
            machine.interrupts.connect(5, 0, isr)
        })
        .collect();
    for vector in vectors {
        let (address, data) = machine.interrupts.message(vector);
        machine.msi_write(address, data);
    }
    world.run_until_idle();
    assert_eq!(*raised.borrow(), vec![1; count]);
}

/// What the import of an image noted that is called now.
fn noted() -> usize {
    context::with(|c| c.import.stack.get())
}

/// Whether an address on a stack is said to be in a frame that is gone.
fn is_gone(core: &Core, address: usize) -> bool {
    core.on_a_stack(address).expect("on a stack").1
}

#[test]
fn what_an_import_noted_is_of_its_own_call_and_thread_only() {
    static F: Function = Function::callback("a callback", 0..=2);
    let mut world = World::builder().build();
    let a = world.add_machine(MachineConfig::named("A"));
    let core = Rc::clone(&world.core);
    let woken = Rc::new(Cell::new(false));
    let awake = Rc::clone(&woken);
    let machine = world.machine(a);
    let entered = machine.enter(0);
    core.spawn(Box::new(move || {
        let frame = 0_u8;
        let caller = (&raw const frame).addr() + 64;
        context::with(|c| c.import.stack.set(caller));
        sleep_until(1000);
        assert_eq!(noted(), caller, "others have run since");
        awake.set(true);
    }));
    drop(entered);
    world.call(a, move || {
        let _kernel = KernelMode::enter();
        assert_eq!(noted(), 0, "another thread's");
        let frame = [0_u64; 16];
        let address = (&raw const frame).addr();
        let caller = address + size_of_val(&frame);
        context::with(|c| c.import.stack.set(caller));
        assert!(is_gone(&core, address));
        call_driver(&F, NOT_ITS_OWN, || {
            assert_eq!(noted(), 0, "it has called nothing");
            assert!(!is_gone(&core, address), "an outer frame");
            context::with(|c| c.import.stack.set(address));
        });
        assert_eq!(noted(), caller);
        // Of another stack, it says nothing of this one.
        context::with(|c| c.import.stack.set(usize::MAX));
        assert!(!is_gone(&core, address));
        context::with(|c| c.import.stack.set(0));
    });
    world.run_for(std::time::Duration::from_micros(2));
    assert!(woken.get());
}
