//! `cargo xtask fuzz`: the targets of `crates/roce/fuzz`, for a while.
//!
//! libFuzzer guides itself by counters that LLVM puts in, which a stable compiler does as well if it is told so. What needs a nightly one
//! are the sanitizers: they look for what safe Rust rules out. `cargo fuzz` runs the same targets (`--sanitizer none` on stable).

use crate::{BadArgument, debian, workspace};
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const TARGETS: [&str; 3] = ["frames", "mads", "captures"];

/// As `cargo fuzz` compiles: counters at every edge, the operands of comparisons, and no function left out.
const FLAGS: [&str; 8] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Clink-dead-code",
    "-Ccodegen-units=1",
];

/// The longest input, in bytes: some hundred steps.
const LONGEST: u32 = 2048;

#[derive(Args)]
pub struct Options {
    /// Seconds for which each target runs, all at the same time.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Run this target alone: frames, mads or captures.
    #[arg(long)]
    only: Option<String>,
    /// Begin here: what is tried depends on it, and on how fast the machine is.
    #[arg(long, default_value_t = 1)]
    seed: u32,
    /// Run these inputs of the target once, instead.
    #[arg(requires = "only")]
    inputs: Vec<PathBuf>,
    /// Afterwards put into the repository, in place of its corpus, the fewest inputs that reach as much as all that were found.
    #[arg(long, conflicts_with = "inputs")]
    keep: bool,
    /// Install a C++ compiler, for libFuzzer, if there is none. Needs root.
    #[arg(long)]
    install: bool,
}

/// One target, running.
struct Run {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

pub fn run(options: &Options) -> Result<bool> {
    let targets: Vec<&str> =
        match &options.only {
            None => TARGETS.to_vec(),
            Some(only) => {
                let found = TARGETS.into_iter().find(|t| t == only);
                vec![found.ok_or_else(|| {
                    BadArgument(format!("--only {only}: there is no such target"))
                })?]
            }
        };
    let out = workspace::target()?.join("fuzz");
    let _lock = workspace::lock(&out)?;
    let programs = build(&out, options.install)?;
    if let (false, [target]) = (options.inputs.is_empty(), &targets[..]) {
        let status = Command::new(programs.join(target))
            .args(&options.inputs)
            .status()?;
        return Ok(status.success());
    }
    let runs: Vec<Run> = targets
        .into_iter()
        .map(|name| start(name, &programs, &out, options))
        .collect::<Result<_>>()?;
    let mut good = true;
    for run in runs {
        good &= finish(run, &programs, &out, options)?;
    }
    Ok(good)
}

fn corpus(target: &str) -> PathBuf {
    workspace::root()
        .join("crates/roce/fuzz/corpus")
        .join(target)
}

/// Builds the targets, and gives the folder that they are in.
fn build(out: &Path, install: bool) -> Result<PathBuf> {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let found = || {
        let mut version = Command::new(&compiler);
        version.arg("--version").stdout(Stdio::null());
        version.status().is_ok_and(|s| s.success())
    };
    if !found() && install {
        debian::install(&["g++"])?;
    }
    ensure!(
        found(),
        "a C++ compiler is not here: on Debian `apt-get install g++` (--install does that); CXX names another"
    );
    // Named, so that the flags are not for what runs while building.
    let host = &host()?;
    let status = workspace::cargo()
        .args(["build", "--release", "--locked", "--target", host])
        .arg("--target-dir")
        .arg(out)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"))
        .current_dir(workspace::root().join("crates/roce/fuzz"))
        .status()
        .context("cargo")?;
    ensure!(status.success(), "the targets did not build");
    Ok(out.join(host).join("release"))
}

/// What this machine is called as a target.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Command::new(rustc).arg("-vV").output().context("rustc")?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let host = said.lines().find_map(|l| l.strip_prefix("host: "));
    Ok(host.context("rustc does not say where it runs")?.to_owned())
}

fn start(name: &'static str, programs: &Path, out: &Path, options: &Options) -> Result<Run> {
    let found = out.join("corpus").join(name);
    let artifacts = out.join("artifacts").join(name);
    for folder in [&found, &artifacts] {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let log = out.join(name).with_extension("log");
    let child = Command::new(programs.join(name))
        .arg(format!("-max_total_time={}", options.seconds))
        .arg(format!("-max_len={LONGEST}"))
        .arg(format!("-seed={}", options.seed))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg("-print_final_stats=1")
        .args([&found, &corpus(name)])
        .stdout(Stdio::null())
        .stderr(File::create(&log)?)
        .spawn()
        .with_context(|| name.to_owned())?;
    Ok(Run { name, child, log })
}

/// Waits for the end of a target, and says what came of it.
fn finish(mut run: Run, programs: &Path, out: &Path, options: &Options) -> Result<bool> {
    let name = run.name;
    let status = run.child.wait()?;
    let log = String::from_utf8_lossy(&std::fs::read(&run.log)?).into_owned();
    if !status.success() {
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.iter().position(|l| l.contains("panicked at"));
        let shown = &lines[from.unwrap_or(lines.len().saturating_sub(20))..];
        for line in shown.iter().take(20) {
            println!("{line}");
        }
        let input = log
            .lines()
            .find_map(|l| l.split_once("Test unit written to ").map(|(_, f)| f));
        println!("failed {name}: {}", run.log.display());
        if let Some(input) = input {
            println!("repeat with `cargo xtask fuzz --only {name} {input}`");
        }
        return Ok(false);
    }
    let last = |what: &str| {
        let line = log.lines().rfind(|l| l.contains(what));
        line.unwrap_or("said nothing").trim().to_owned()
    };
    println!("ok {name}: {}", last("cov: "));
    println!("   {}", last("stat::number_of_executed_units"));
    if options.keep {
        keep(name, programs, out)?;
    }
    Ok(true)
}

/// Replaces the corpus in the repository.
fn keep(name: &str, programs: &Path, out: &Path) -> Result<()> {
    let kept = corpus(name);
    let found = out.join("corpus").join(name);
    // First quickly, then thoroughly, which takes a time that grows with the square.
    let few = merge(name, programs, out, "merge", &[&found, &kept])?;
    let fewest = merge(name, programs, out, "set_cover_merge", &[&few])?;
    std::fs::remove_dir_all(&kept)?;
    std::fs::create_dir_all(&kept)?;
    let (mut files, mut bytes) = (0, 0);
    for file in std::fs::read_dir(&fewest)? {
        let file = file?;
        bytes += std::fs::copy(file.path(), kept.join(file.file_name()))?;
        files += 1;
    }
    println!("kept {name}: {files} inputs, {bytes} bytes");
    Ok(())
}

/// Leaves out inputs that reach nothing that others do not. How often an edge is passed does not count: that would leave thousands.
fn merge(name: &str, programs: &Path, out: &Path, how: &str, from: &[&Path]) -> Result<PathBuf> {
    let to = out.join(how).join(name);
    if to.exists() {
        std::fs::remove_dir_all(&to)?;
    }
    std::fs::create_dir_all(&to)?;
    let status = Command::new(programs.join(name))
        .arg(format!("-{how}=1"))
        .arg("-use_counters=0")
        .arg(format!("-max_len={LONGEST}"))
        .arg(&to)
        .args(from)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    ensure!(status.success(), "{name}: libFuzzer did not merge");
    Ok(to)
}
