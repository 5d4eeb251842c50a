//! The program as somebody runs it.

use std::path::PathBuf;
use std::process::{Command, Output};

fn lab(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vroce-lab"))
        .args(arguments)
        .env_remove("NTSIM_SEED")
        .env_remove("NTSIM_INTERLEAVE")
        .envs(environment.iter().copied())
        .output()
        .expect("the program runs")
}

/// What the spinner did, without how long that took.
fn done(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let timeless = text.lines().filter(|line| !line.contains("calls/s"));
    timeless.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_seed_that_is_given_counts_more_than_the_environment() {
    let walk = ["spin", "--seed", "1", "--calls", "1", "--epoch", "60"];
    let plain = done(&lab(&walk, &[]));
    assert!(plain.contains("seed 1,"), "{plain}");
    for variables in [
        [("NTSIM_SEED", "5"), ("NTSIM_INTERLEAVE", "2")],
        [("NTSIM_SEED", "abc"), ("NTSIM_INTERLEAVE", "often")],
    ] {
        assert_eq!(done(&lab(&walk, &variables)), plain);
    }
}

#[test]
fn a_wire_that_leads_nowhere_costs_no_capture() {
    let capture: PathBuf =
        std::env::temp_dir().join(format!("vroce-cli-{}.pcapng", std::process::id()));
    std::fs::write(&capture, b"of yesterday").unwrap();
    let path = capture.to_str().unwrap();
    let output = lab(
        &["--peer", "unix:/nonexistent/wire", "--capture", path],
        &[],
    );
    assert!(!output.status.success());
    let kept = std::fs::read(&capture).unwrap();
    std::fs::remove_file(&capture).unwrap();
    assert_eq!(kept, b"of yesterday", "{output:?}");
}
