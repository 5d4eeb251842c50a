//! `cargo xtask faults`: the driver's tests and the demo, while everything that may fail around the driver fails once.
//!
//! Each of them, a story, runs in a process of its own, again and again until it comes across no new path: the simulator fails each
//! function once for each path by which the driver calls it (`NTSIM_FAULTS`). Stories say what happens where nothing fails, so that their
//! own assertions mean nothing where something has; what the simulator's verifier says, and the driver's own panics, mean all the more.

mod story;
mod verdict;

use crate::image::IMAGE_VARIABLE;
use crate::workspace::{lock, root, target};
use anyhow::{Context, Result, bail};
use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};
use story::Story;
use verdict::{Verdict, judge};

/// Options of `cargo xtask faults`.
#[derive(clap::Args)]
pub struct Options {
    /// The driver's image to test instead of the linked driver.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Only the tests of this binary, and not the demo; may be repeated [default: all].
    #[arg(long, value_name = "BINARY")]
    test: Vec<String>,
    /// Run each story so often at most, instead of until it comes across no new path.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    runs: Option<u32>,
    /// Run so many stories at a time [default: as many as there are processors].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    jobs: Option<u32>,
    /// Only stories whose names contain this; that of the demo is `demo`.
    #[arg(value_name = "NAME")]
    filter: Option<String>,
}

/// No story takes as long, in the host's time.
const LIMIT: Duration = Duration::from_secs(300);

/// Without news, a line that often.
const LINE: Duration = Duration::from_secs(20);

/// Runs the stories; `false` if there is a finding.
pub fn run(options: &Options) -> Result<bool> {
    let image = options.image.as_ref().map(|image| {
        let path = image.canonicalize();
        path.with_context(|| image.display().to_string())
    });
    let image = image.transpose()?;
    let folder = target()?.join("faults");
    let _lock = lock(&folder)?;
    let mut stories = story::all(&options.test)?;
    if let Some(part) = &options.filter {
        stories.retain(|story| story.name.contains(&**part));
    }
    if stories.is_empty() {
        bail!("there is no such story");
    }
    let jobs = options.jobs.map_or_else(
        || std::thread::available_parallelism().map_or(1, usize::from),
        |jobs| jobs as usize,
    );
    let count = stories.len();
    println!("{count} stories, {jobs} at a time");
    let bench = Bench {
        folder: &folder,
        image: image.as_deref(),
        runs: options.runs,
        state: Mutex::new(State {
            queue: stories.into(),
            left: 0,
            paths: Vec::new(),
            known: BTreeSet::new(),
            runs: 0,
            gone: 0,
            findings: Vec::new(),
            told: Instant::now(),
        }),
        started: Instant::now(),
    };
    let work = |worker: usize| bench.work(worker);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|n| scope.spawn(move || work(n))).collect();
        let mut results = workers.into_iter().map(|worker| worker.join());
        results.try_for_each(|result| result.unwrap_or_else(|_| bail!("a panic of the runner")))
    })?;
    let state = bench.state.into_inner().unwrap_or_else(|e| e.into_inner());
    std::fs::write(folder.join("paths.txt"), state.paths.concat())?;
    for finding in &state.findings {
        println!("FINDING {finding}");
    }
    println!(
        "{count} stories in {} runs and {:.0} s; {} paths failed, which are in {}; of {} runs the story's own premise was gone; {}{} findings",
        state.runs,
        bench.started.elapsed().as_secs_f64(),
        state.paths.len(),
        folder.join("paths.txt").display(),
        state.gone,
        match state.left {
            0 => String::new(),
            left => format!("{left} stories may come across more paths; "),
        },
        state.findings.len()
    );
    Ok(state.findings.is_empty())
}

/// What is to be done, and what is known so far.
struct State {
    /// A story is in it, or runs, until it comes across no new path.
    queue: VecDeque<Story>,
    /// Stories that have run as often as they may, and came across a new path the last time.
    left: usize,
    /// The lines of the paths that have failed, without those of one path twice.
    paths: Vec<String>,
    known: BTreeSet<String>,
    runs: usize,
    gone: usize,
    findings: Vec<String>,
    /// When there was a line last.
    told: Instant,
}

struct Bench<'a> {
    folder: &'a Path,
    image: Option<&'a Path>,
    runs: Option<u32>,
    state: Mutex<State>,
    started: Instant,
}

impl Bench<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Runs what is in the queue, one after the other.
    fn work(&self, worker: usize) -> Result<()> {
        loop {
            let next = self.state().queue.pop_front();
            let Some(mut story) = next else {
                return Ok(());
            };
            let again = self.run(worker, &story)?;
            story.runs += 1;
            let mut state = self.state();
            if again && self.runs.is_some_and(|runs| story.runs >= runs) {
                state.left += 1;
            } else if again {
                state.queue.push_back(story);
            }
            if state.told.elapsed() >= LINE {
                state.told = Instant::now();
                println!(
                    "{:.0} s: {} runs, {} paths, {} findings, {} stories to go on with",
                    self.started.elapsed().as_secs_f64(),
                    state.runs,
                    state.paths.len(),
                    state.findings.len(),
                    state.queue.len()
                );
            }
        }
    }

    /// Runs a story; whether it came across a new path.
    fn run(&self, worker: usize, story: &Story) -> Result<bool> {
        let paths = self.folder.join(format!("paths-{worker}"));
        let before = self.state().paths.concat();
        std::fs::write(&paths, &before)?;
        let log = self.folder.join(format!("log-{worker}"));
        let ended = self.execute(story, worker, &paths, &log)?;
        let text = std::fs::read(&log)?;
        let text = String::from_utf8_lossy(&text);
        let after = std::fs::read_to_string(&paths)?;
        let failed = after.strip_prefix(&before).context("paths were lost")?;
        let mut state = self.state();
        for line in failed.lines() {
            let path = line.split(' ').next().unwrap_or_default();
            if state.known.insert(path.to_owned()) {
                state.paths.push(format!("{line}\n"));
            }
        }
        state.runs += 1;
        let finding = match judge(ended, &text) {
            Verdict::Passed => None,
            Verdict::PremiseGone if failed.is_empty() => {
                Some("it fails without anything that fails on purpose".to_owned())
            }
            Verdict::PremiseGone => {
                state.gone += 1;
                None
            }
            Verdict::Finding(finding) => Some(finding),
        };
        if let Some(finding) = finding {
            println!("{}: {finding}", story.name);
            let finding = self.told(story, &finding, failed, &text)?;
            state.findings.push(finding);
        }
        Ok(!failed.is_empty())
    }

    /// A finding, and how it is repeated. What the story printed is kept.
    fn told(&self, story: &Story, finding: &str, failed: &str, text: &str) -> Result<String> {
        let log = self.folder.join(story.name.replace("::", "-") + ".log");
        std::fs::write(&log, text)?;
        let paths: Vec<_> = failed.lines().filter_map(|l| l.split(' ').next()).collect();
        let only = (!paths.is_empty()).then(|| format!("only:{}", paths.join(",")));
        let image = self.image.map_or_else(String::new, |image| {
            format!("{IMAGE_VARIABLE}={} ", image.display())
        });
        Ok(format!(
            "{}: {finding}\n  what it printed is in {}; repeat with: {image}{}",
            story.name,
            log.display(),
            story.repeat(only.as_deref())
        ))
    }

    /// Runs a story to its end, or until it has taken too long: then nothing.
    fn execute(
        &self,
        story: &Story,
        worker: usize,
        paths: &Path,
        log: &Path,
    ) -> Result<Option<ExitStatus>> {
        let out = File::create(log)?;
        let capture = self.folder.join(format!("capture-{worker}.pcapng"));
        let mut command = story.command(paths.to_str(), &capture);
        command
            .current_dir(root())
            .env_remove(IMAGE_VARIABLE)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        if let Some(image) = self.image {
            command.env(IMAGE_VARIABLE, image);
        }
        let mut child = command
            .spawn()
            .with_context(|| story.program.display().to_string())?;
        // Time in which this process was stopped, as the story may have been, does not count.
        let mut waited = Duration::ZERO;
        let mut pause = Duration::from_millis(1);
        while waited < LIMIT {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            std::thread::sleep(pause);
            waited += pause;
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        child.kill()?;
        child.wait()?;
        Ok(None)
    }
}
