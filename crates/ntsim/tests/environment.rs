//! What the environment says of a run. Each story runs in a process of its own, with an environment of its own.
#![allow(unsafe_code, reason = "calls of the kernel")]

use std::process::{Command, Output};

use ndis_sys::imports::KeQueryActiveProcessorCountEx;
use ntsim::{MachineConfig, World};

/// The story of the child processes.
#[test]
fn a_world_with_seed_5_and_interleaving_2() {
    let mut world = World::builder().seed(5).interleave(2).build();
    for asked in [1, 3] {
        let config = MachineConfig::default().processors(asked);
        let machine = world.add_machine(config);
        // SAFETY: needs nothing.
        let count = world.call(machine, || unsafe { KeQueryActiveProcessorCountEx(0) });
        println!("{count} processors instead of {asked}");
    }
    let report = world.finish();
    println!(
        "seed {} interleave {} pend {}",
        report.seed, report.interleave, report.pend
    );
}

/// The other story of the child processes.
#[test]
fn a_world_with_seed_5_that_ignores_the_environment() {
    let world = World::builder().seed(5).ignore_environment().build();
    let report = world.finish();
    println!("seed {} interleave {}", report.seed, report.interleave);
}

/// The same.
#[test]
fn a_world_with_seed_5_that_is_dropped() {
    let mut world = World::builder().seed(5).build();
    world.add_machine(MachineConfig::named("A"));
}

#[test]
fn a_world_that_is_dropped_says_what_repeats_it() {
    let dropped = child_of(
        "a_world_with_seed_5_that_is_dropped",
        &[("NTSIM_SEED", "7"), ("NTSIM_PEND", "2")],
    );
    let text =
        "has not come to World::finish: repeat with NTSIM_SEED=7 NTSIM_INTERLEAVE=0 NTSIM_PEND=2\n";
    assert!(says(&dropped, text), "{dropped:?}");
    // Others said it themselves, or do not look there.
    for story in [
        "a_world_with_seed_5_and_interleaving_2",
        "a_world_with_seed_5_that_ignores_the_environment",
    ] {
        let ended = child_of(story, &[("NTSIM_SEED", "7")]);
        assert!(!says(&ended, "World::finish"), "{ended:?}");
    }
}

fn child(environment: &[(&str, &str)]) -> Output {
    child_of("a_world_with_seed_5_and_interleaving_2", environment)
}

fn child_of(story: &str, environment: &[(&str, &str)]) -> Output {
    Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", story, "--nocapture"])
        .env_remove("NTSIM_SEED")
        .env_remove("NTSIM_INTERLEAVE")
        .env_remove("NTSIM_EXPLORE")
        .env_remove("NTSIM_PEND")
        .env_remove("NTSIM_PROCESSORS")
        .env_remove("NTSIM_TIMER_TICK")
        .envs(environment.iter().copied())
        .output()
        .expect("a child process")
}

fn says(output: &Output, text: &str) -> bool {
    [&output.stdout, &output.stderr]
        .iter()
        .any(|out| String::from_utf8_lossy(out).contains(text))
}

#[test]
fn the_environment_counts_more_than_the_test() {
    assert!(says(&child(&[]), "seed 5 interleave 2"));
    assert!(says(
        &child(&[("NTSIM_SEED", "99")]),
        "seed 99 interleave 2"
    ));
    assert!(says(
        &child(&[("NTSIM_SEED", "99"), ("NTSIM_INTERLEAVE", "0")]),
        "seed 99 interleave 0 pend 0"
    ));
    assert!(says(&child(&[("NTSIM_PEND", "4")]), "pend 4"));
}

#[test]
fn a_world_may_be_deaf_to_the_environment() {
    let environment = [("NTSIM_SEED", "99"), ("NTSIM_INTERLEAVE", "often")];
    let story = "a_world_with_seed_5_that_ignores_the_environment";
    assert!(says(&child_of(story, &environment), "seed 5 interleave 0"));
}

#[test]
fn what_is_no_number_is_refused() {
    for (name, value) in [
        ("NTSIM_SEED", "0x7"),
        ("NTSIM_INTERLEAVE", "often"),
        ("NTSIM_PEND", "x"),
    ] {
        let output = child(&[(name, value)]);
        assert!(!output.status.success());
        assert!(says(
            &output,
            &format!("{name} must be a number, not {value}")
        ));
    }
    let output = child(&[("NTSIM_EXPLORE", "7")]);
    assert!(!output.status.success());
    assert!(says(
        &output,
        "NTSIM_EXPLORE must be SEED:DEPTH or SEED:@PLACE,PLACE, not 7"
    ));
    let output = child(&[("NTSIM_VERIFY", "most")]);
    assert!(!output.status.success());
    assert!(says(
        &output,
        "NTSIM_VERIFY must be cheap or full, not most"
    ));
}

#[test]
fn a_name_that_nobody_knows_is_refused() {
    // Also where the rest is not looked at, as its debug output is.
    for story in [
        "a_world_with_seed_5_and_interleaving_2",
        "a_world_with_seed_5_that_ignores_the_environment",
    ] {
        let output = child_of(story, &[("NTSIM_VERIFIY", "cheap")]);
        assert!(!output.status.success());
        let text = "nothing looks at NTSIM_VERIFIY, which the environment has. The nearest that there is: NTSIM_VERIFY (";
        assert!(says(&output, text), "{output:?}");
        let output = child_of(story, &[("NTSIM_FAULTY_IMAGE", "of_another_test.sys")]);
        assert!(output.status.success(), "{output:?}");
    }
}

/// A story that breaks a rule.
#[test]
#[ignore = "fails"]
fn a_world_that_ends_with_a_report() {
    let mut world = World::builder().build();
    let machine = world.add_machine(MachineConfig::default());
    // SAFETY: too long on purpose.
    world.call(machine, || unsafe {
        ndis_sys::imports::KeStallExecutionProcessor(1000)
    });
}

#[test]
fn machines_have_at_least_so_many_processors() {
    let output = child(&[]);
    for text in ["1 processors instead of 1", "3 processors instead of 3"] {
        assert!(says(&output, text), "{text}");
    }
    // A test that needs more keeps them.
    let output = child(&[("NTSIM_PROCESSORS", "2")]);
    for text in ["2 processors instead of 1", "3 processors instead of 3"] {
        assert!(says(&output, text), "{text}");
    }
}

#[test]
fn a_report_names_all_that_repeats_the_run() {
    let environment = [
        ("NTSIM_SEED", "7"),
        ("NTSIM_PEND", "3"),
        ("NTSIM_VERIFY", "cheap"),
        ("NTSIM_PROCESSORS", "2"),
        ("NTSIM_TIMER_TICK", "15625000"),
    ];
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "a_world_that_ends_with_a_report", "--ignored"])
        .env_remove("NTSIM_INTERLEAVE")
        .envs(environment)
        .output()
        .expect("a child process");
    assert!(says(
        &output,
        "repeat with NTSIM_SEED=7 NTSIM_INTERLEAVE=0 NTSIM_VERIFY=cheap NTSIM_PEND=3 NTSIM_PROCESSORS=2 NTSIM_TIMER_TICK=15625000"
    ));
}
