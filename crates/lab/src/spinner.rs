//! `vroce-lab spin`: see [`vroce_lab::spin`].

use crate::cli::{EPOCH_CALLS, SpinOptions};
use crate::trace_file;
use anyhow::{Context, Result, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use ntsim::{FaultPath, FaultPaths};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use vroce_lab::spin::{Faults, Tally, trace_epochs, trace_of_epochs, walk};

/// Without a terminal, a line that often.
const LINE: Duration = Duration::from_secs(10);

/// The epoch that runs: a panic that ends the process should tell too.
static CURRENT: AtomicU64 = AtomicU64::new(0);
/// How many paths had failed before it.
static FAILED: AtomicUsize = AtomicUsize::new(0);

/// Walks, and tells what came of it.
pub fn run(options: &SpinOptions) -> Result<()> {
    let started = Instant::now();
    let seed = options.seed.unwrap_or_else(from_the_clock);
    let end = Duration::from_secs(options.seconds.unwrap_or(60));
    let epoch = options.epoch;
    let paths = match &options.fail_paths[..] {
        [] => options.fail_new_paths.then(FaultPaths::new),
        some => Some(FaultPaths::only(some.iter().copied())),
    };
    let faults = Faults {
        paths,
        low_resources: options.low_resources,
    };
    out!("seed {seed}, epochs of {epoch} calls or more");
    tell_of_panics(epoch, faults.clone());
    ntsim::interrupt::catch();
    let trace = &options.trace_file;
    if let Some(path) = &trace.trace_file {
        trace_epochs(path, trace_file::config(path, trace.trace_host_time));
    }
    let progress = Progress::new();
    let (tally, failure) = walk(seed, epoch, &faults, |tally, next| {
        CURRENT.store(next, Ordering::Relaxed);
        FAILED.store(failed(&faults).len(), Ordering::Relaxed);
        progress.show(tally, started.elapsed());
        let on = match options.calls {
            Some(calls) => tally.total() < calls,
            None => started.elapsed() < end,
        };
        on && !ntsim::interrupt::caught()
    });
    progress.bar.finish_and_clear();
    out!("{tally}");
    if let Some(path) = &options.tally {
        std::fs::write(path, tally.to_string())
            .with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(path) = &trace.trace_file {
        trace_of_epochs().with_context(|| format!("writing {}", path.display()))?;
        out!("the last epoch's trace: {}", trace_file::advice(path));
    }
    let elapsed = started.elapsed();
    out!(
        "{} calls in {:.1} s, {:.0} calls/s",
        tally.total(),
        elapsed.as_secs_f64(),
        tally.total() as f64 / elapsed.as_secs_f64()
    );
    match failure {
        None => {
            if ntsim::interrupt::caught() {
                out!("interrupted: the epoch that ran was finished");
            }
            if faults.paths.is_some() {
                out!("{} new paths failed", failed(&faults).len());
            }
            out!("violations 0, leaks 0");
            Ok(())
        }
        Some(failure) => Err(anyhow!(
            "seed {}: {}\nrepeat with: {}",
            failure.seed,
            in_short(&failure.text),
            again(failure.seed, epoch) + &fail_again(&failure.paths, options.low_resources)
        )),
    }
}

/// A report without the simulator's own advice how to repeat it, which is for tests.
fn in_short(text: &str) -> String {
    let lines = text.lines().filter(|l| !l.starts_with("repeat with NTSIM"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The command that repeats an epoch.
fn again(seed: u64, epoch: u64) -> String {
    let length = if epoch == EPOCH_CALLS {
        String::new()
    } else {
        format!(" --epoch {epoch}")
    };
    format!("cargo run --release -- spin --seed {seed} --calls 1{length}")
}

/// The paths that have failed.
fn failed(faults: &Faults) -> Vec<FaultPath> {
    faults
        .paths
        .as_ref()
        .map(FaultPaths::failed)
        .unwrap_or_default()
}

/// What of the command has the same fail.
fn fail_again(paths: &[FaultPath], low_resources: u32) -> String {
    let mut text = String::new();
    if !paths.is_empty() {
        let paths: Vec<_> = paths.iter().map(FaultPath::to_string).collect();
        text += &format!(" --fail-paths {}", paths.join(","));
    }
    if low_resources > 0 {
        text += &format!(" --low-resources {low_resources}");
    }
    text
}

fn from_the_clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    // As short as people can type it.
    now.map_or(1, |now| now.as_millis() as u64 & 0xff_ffff)
}

/// A panic is told at once in short, with the way to repeat it, because one in a function that cannot unwind ends the process. The
/// others' reports come at the end.
fn tell_of_panics(epoch: u64, faults: Faults) {
    std::panic::set_hook(Box::new(move |info| {
        let payload = info.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        let first = text.unwrap_or_default().lines().next().unwrap_or_default();
        let place = info.location().map(ToString::to_string);
        let seed = CURRENT.load(Ordering::Relaxed);
        let paths = failed(&faults).split_off(FAILED.load(Ordering::Relaxed));
        crate::output::error(format_args!(
            "{first} ({}), {}{}",
            place.unwrap_or_default(),
            again(seed, epoch),
            fail_again(&paths, faults.low_resources)
        ));
    }));
}

/// What there is to see while it runs.
struct Progress {
    bar: ProgressBar,
    last: std::cell::Cell<Duration>,
}

impl Progress {
    fn new() -> Progress {
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{spinner} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        Progress {
            bar,
            last: std::cell::Cell::default(),
        }
    }

    fn show(&self, tally: &Tally, elapsed: Duration) {
        let text = || {
            format!(
                "{:.0} s, {} epochs, {} calls, {} callbacks, {} allocation failures",
                elapsed.as_secs_f64(),
                tally.epochs,
                tally.total(),
                tally.callbacks.values().sum::<u64>(),
                tally.failed.values().sum::<u64>(),
            )
        };
        if std::io::stderr().is_terminal() {
            self.bar.set_message(text());
            self.bar.tick();
        } else if elapsed - self.last.get() >= LINE {
            self.last.set(elapsed);
            out!("{}", text());
        }
    }
}
