//! What the environment says of a run. Each story runs in a process of its own, with an environment of its own.

use std::process::{Command, Output};

use ntsim::World;

/// The story of the child processes.
#[test]
fn a_world_with_seed_5_and_interleaving_2() {
    let world = World::builder().seed(5).interleave(2).build();
    let report = world.finish();
    println!("seed {} interleave {}", report.seed, report.interleave);
}

fn child(environment: &[(&str, &str)]) -> Output {
    Command::new(std::env::current_exe().expect("this test"))
        .args([
            "--exact",
            "a_world_with_seed_5_and_interleaving_2",
            "--nocapture",
        ])
        .env_remove("NTSIM_SEED")
        .env_remove("NTSIM_INTERLEAVE")
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
        "seed 99 interleave 0"
    ));
}

#[test]
fn what_is_no_number_is_refused() {
    for (name, value) in [("NTSIM_SEED", "0x7"), ("NTSIM_INTERLEAVE", "often")] {
        let output = child(&[(name, value)]);
        assert!(!output.status.success());
        assert!(says(
            &output,
            &format!("{name} must be a number, not {value}")
        ));
    }
}
