//! What ends the process, seen from another.

use std::hint::black_box;
use std::process::Command;

use super::context::KernelMode;
use super::{MachineConfig, World};
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
        "NTSIM_SEED=77",
    ] {
        assert!(told.contains(part), "{part} is not in:\n{told}");
    }
}
