//! `cargo xtask faults`: the driver's tests, while everything that may fail around the driver fails once.
//!
//! Each test runs in a process of its own, again and again until it comes across no new path: the simulator fails each function once for
//! each path by which the driver calls it (`NTSIM_FAULTS`). Tests say what happens where nothing fails, so that their own assertions mean
//! nothing where something has; what the simulator's verifier says, and the driver's own panics, mean all the more.

use crate::image::IMAGE_VARIABLE;
use crate::workspace::{cargo, lock, root, target};
use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Options of `cargo xtask faults`.
#[derive(clap::Args)]
pub struct Options {
    /// The driver's image to test instead of the linked driver.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Only the tests of this binary; may be repeated [default: lives, miniport, ndk].
    #[arg(long, value_name = "BINARY")]
    test: Vec<String>,
    /// Run every test so often at most, instead of until it comes across no new path.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    passes: Option<u32>,
    /// Run so many tests at a time [default: as many as there are processors].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    jobs: Option<u32>,
    /// Only tests whose names contain this.
    #[arg(value_name = "NAME")]
    filter: Option<String>,
}

/// The driver's test binaries in which it is loaded.
const BINARIES: &[&str] = &["lives", "miniport", "ndk"];

/// No test takes as long, in the host's time.
const LIMIT: Duration = Duration::from_secs(300);

/// Without news, a line that often.
const LINE: Duration = Duration::from_secs(20);

/// A test of a binary.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Test {
    binary: PathBuf,
    name: String,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    /// Its own assertions failed, or what it did next was wrong: what it is about did not happen.
    PremiseGone,
    /// The driver, or the simulator, did wrong.
    Finding(String),
}

/// Runs the tests; `false` if there is a finding.
pub fn run(options: &Options) -> Result<bool> {
    let image = options.image.as_ref().map(|image| {
        let path = image.canonicalize();
        path.with_context(|| image.display().to_string())
    });
    let image = image.transpose()?;
    let folder = target()?.join("faults");
    let _lock = lock(&folder)?;
    let tests = tests(options)?;
    let jobs = options.jobs.map_or_else(
        || std::thread::available_parallelism().map_or(1, usize::from),
        |jobs| jobs as usize,
    );
    println!("{} tests, {jobs} at a time", tests.len());
    let bench = Bench {
        folder: &folder,
        image: image.as_deref(),
        count: tests.len(),
        state: Mutex::new(State::default()),
        started: Instant::now(),
    };
    let mut left = tests.clone();
    let mut pass = 0;
    while !left.is_empty() && options.passes.is_none_or(|passes| pass < passes) {
        pass += 1;
        left = bench.pass(pass, left, jobs)?;
    }
    let state = bench.state.into_inner().unwrap_or_else(|e| e.into_inner());
    std::fs::write(folder.join("paths.txt"), state.paths.concat())?;
    for finding in &state.findings {
        println!("FINDING {finding}");
    }
    println!(
        "{} tests in {} runs and {pass} passes; {} paths failed, which are in {}; of {} runs the test's own premise was gone; {}{} findings",
        tests.len(),
        state.runs,
        state.paths.len(),
        folder.join("paths.txt").display(),
        state.gone,
        match left.len() {
            0 => String::new(),
            left => format!("{left} tests may come across more paths; "),
        },
        state.findings.len()
    );
    Ok(state.findings.is_empty())
}

/// The tests that are asked for, built.
fn tests(options: &Options) -> Result<Vec<Test>> {
    let binaries: Vec<&str> = match &options.test[..] {
        [] => BINARIES.to_vec(),
        some => some.iter().map(String::as_str).collect(),
    };
    let mut command = cargo();
    command.args(["test", "--locked", "--package", "vroce", "--no-run"]);
    command.arg("--message-format=json-render-diagnostics");
    for binary in &binaries {
        command.args(["--test", binary]);
    }
    let output = command
        .current_dir(root())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cargo")?;
    ensure!(output.status.success(), "the tests did not build");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut tests = Vec::new();
    for binary in executables(&text) {
        let listed = Command::new(&binary)
            .args(["--list", "--format", "terse"])
            .output()
            .with_context(|| binary.display().to_string())?;
        for line in String::from_utf8_lossy(&listed.stdout).lines() {
            let Some(name) = line.strip_suffix(": test") else {
                continue;
            };
            if options
                .filter
                .as_ref()
                .is_none_or(|part| name.contains(&**part))
            {
                tests.push(Test {
                    binary: binary.clone(),
                    name: name.to_owned(),
                });
            }
        }
    }
    if tests.is_empty() {
        bail!("there is no such test");
    }
    Ok(tests)
}

/// The test programs that cargo says it has built.
fn executables(messages: &str) -> Vec<PathBuf> {
    let path = |line: &str| {
        let (_, rest) = line.split_once("\"executable\":\"")?;
        Some(PathBuf::from(rest.split('"').next()?))
    };
    let artifacts = messages
        .lines()
        .filter(|l| l.contains("\"compiler-artifact\""));
    artifacts.filter_map(path).collect()
}

/// What is known so far.
#[derive(Default)]
struct State {
    /// The lines of the paths that have failed, without those of one path twice.
    paths: Vec<String>,
    known: BTreeSet<String>,
    runs: usize,
    gone: usize,
    findings: Vec<String>,
}

struct Bench<'a> {
    folder: &'a Path,
    image: Option<&'a Path>,
    count: usize,
    state: Mutex<State>,
    started: Instant,
}

impl Bench<'_> {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Runs tests, some at a time. Gives those that came across a new path.
    fn pass(&self, pass: u32, tests: Vec<Test>, jobs: usize) -> Result<Vec<Test>> {
        let all = tests.len();
        let queue = Mutex::new(VecDeque::from(tests));
        let more = Mutex::new(Vec::new());
        let told = Mutex::new(Instant::now());
        let work = |worker: usize| -> Result<()> {
            loop {
                let next = queue.lock().unwrap_or_else(|e| e.into_inner()).pop_front();
                let Some(test) = next else {
                    return Ok(());
                };
                if self.run(worker, &test)? {
                    more.lock().unwrap_or_else(|e| e.into_inner()).push(test);
                }
                let mut told = told.lock().unwrap_or_else(|e| e.into_inner());
                if told.elapsed() >= LINE {
                    *told = Instant::now();
                    let left = queue.lock().unwrap_or_else(|e| e.into_inner()).len();
                    self.tell(pass, all - left, all);
                }
            }
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..jobs).map(|n| scope.spawn(move || work(n))).collect();
            let mut results = workers.into_iter().map(|worker| worker.join());
            results.try_for_each(|result| result.unwrap_or_else(|_| bail!("a panic of the runner")))
        })?;
        self.tell(pass, all, all);
        let mut more = more.into_inner().unwrap_or_else(|e| e.into_inner());
        more.sort();
        Ok(more)
    }

    fn tell(&self, pass: u32, done: usize, all: usize) {
        let state = self.state();
        println!(
            "{:.0} s: pass {pass}, {done} of {all} tests ({} in all), {} runs, {} paths, {} findings",
            self.started.elapsed().as_secs_f64(),
            self.count,
            state.runs,
            state.paths.len(),
            state.findings.len()
        );
    }

    /// Runs a test; whether it came across a new path.
    fn run(&self, worker: usize, test: &Test) -> Result<bool> {
        let paths = self.folder.join(format!("paths-{worker}"));
        let before = self.state().paths.concat();
        std::fs::write(&paths, &before)?;
        let log = self.folder.join(format!("log-{worker}"));
        let ended = self.execute(test, &paths, &log)?;
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
        match judge(ended, &text) {
            Verdict::Passed => {}
            // Nothing failed on purpose.
            Verdict::PremiseGone if failed.is_empty() => {
                let finding = "it fails without anything that fails on purpose".to_owned();
                state
                    .findings
                    .push(self.told(test, &finding, failed, &text)?);
            }
            Verdict::PremiseGone => state.gone += 1,
            Verdict::Finding(finding) => {
                println!("{}: {finding}", test.name);
                state
                    .findings
                    .push(self.told(test, &finding, failed, &text)?);
            }
        }
        Ok(!failed.is_empty())
    }

    /// A finding, and how it is repeated. What the test printed is kept.
    fn told(&self, test: &Test, finding: &str, failed: &str, text: &str) -> Result<String> {
        let paths: Vec<_> = failed.lines().filter_map(|l| l.split(' ').next()).collect();
        let log = self.folder.join(test.name.replace("::", "-") + ".log");
        std::fs::write(&log, text)?;
        let mut with = String::new();
        if !paths.is_empty() {
            with = format!("NTSIM_FAULTS=only:{} ", paths.join(","));
        }
        if let Some(image) = self.image {
            with += &format!("{IMAGE_VARIABLE}={} ", image.display());
        }
        Ok(format!(
            "{}: {finding}\n  what it printed is in {}; repeat with: {with}{} --exact {} --nocapture",
            test.name,
            log.display(),
            test.binary.display(),
            test.name
        ))
    }

    /// Runs a test to its end, or until it has taken too long: then nothing.
    fn execute(&self, test: &Test, paths: &Path, log: &Path) -> Result<Option<ExitStatus>> {
        let out = File::create(log)?;
        let mut command = Command::new(&test.binary);
        command
            .args(["--exact", &test.name, "--nocapture"])
            .current_dir(root())
            .env_remove(IMAGE_VARIABLE)
            .env("NTSIM_FAULTS", paths)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        if let Some(image) = self.image {
            command.env(IMAGE_VARIABLE, image);
        }
        let mut child = command
            .spawn()
            .with_context(|| test.binary.display().to_string())?;
        // Time in which this process was stopped, as the test may have been, does not count.
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

/// What a run means that ended so and printed that.
fn judge(ended: Option<ExitStatus>, text: &str) -> Verdict {
    let finding = |text: &str| Verdict::Finding(text.to_owned());
    let Some(status) = ended else {
        return finding("it did not end");
    };
    if status.success() {
        return Verdict::Passed;
    }
    // What else the process says where it ended by itself says it better.
    let broken: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("ntsim: ").or(Some(line)))
        .filter(|line| line.starts_with("rule ") && line.contains(" broken"))
        .collect();
    // The consumers are tests', and stumble where the story does not go on.
    let tests = [" broken by code of the test", " broken by the NDK consumer"];
    let is_tests = |line: &&&str| tests.iter().any(|by| line.contains(by));
    if let Some(line) = broken.iter().find(|line| !is_tests(line)) {
        return finding(line);
    }
    if !broken.is_empty() {
        return Verdict::PremiseGone;
    }
    if let Some(line) = text.lines().find(|line| line.contains("not simulated")) {
        return finding(line);
    }
    let panics = text.lines().filter_map(|line| {
        let (_, place) = line.split_once(" panicked at ")?;
        line.starts_with("thread ").then_some(place)
    });
    for place in panics {
        if ["src/", "crates/"]
            .iter()
            .any(|part| place.starts_with(part))
        {
            return finding(&format!("a panic at {place}"));
        }
    }
    // A consumer's callback, which cannot unwind: the process ends with it.
    let was_tests = text.contains(" panicked at tests/");
    if status.code().is_none() && !was_tests {
        let last = text.lines().rfind(|line| !line.trim().is_empty());
        return finding(&format!("{status}, after: {}", last.unwrap_or_default()));
    }
    Verdict::PremiseGone
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    const FAILED: i32 = 101 << 8;

    fn judged(status: i32, text: &str) -> Verdict {
        judge(Some(ExitStatus::from_raw(status)), text)
    }

    #[test]
    fn what_the_driver_did_wrong_is_a_finding() {
        for (status, text, said) in [
            (
                FAILED,
                "thread 'a' (7) panicked at crates/ntsim/src/world/mod.rs:1:2:\nntsim: seed 1\nrule irql broken by driver vroce: x\n",
                "rule irql broken by driver vroce: x",
            ),
            (
                6,
                "ntsim: rule hang broken inside the simulated kernel: x\n",
                "rule hang broken inside the simulated kernel: x",
            ),
            (
                FAILED,
                "thread 'a' (7) panicked at src/ndk/qp.rs:1:2:\nindex out of bounds\n",
                "a panic at src/ndk/qp.rs:1:2:",
            ),
            (
                6,
                "\nmemory allocation of 64 bytes failed\n",
                "signal: 6 (SIGABRT), after: memory allocation of 64 bytes failed",
            ),
        ] {
            assert_eq!(judged(status, text), Verdict::Finding(said.to_owned()));
        }
        assert_eq!(
            judge(None, ""),
            Verdict::Finding("it did not end".to_owned())
        );
    }

    #[test]
    fn what_the_test_did_wrong_is_none() {
        assert_eq!(
            judged(0, "rule irql broken by driver vroce"),
            Verdict::Passed
        );
        for text in [
            "thread 'a' (7) panicked at tests/ndk/lab.rs:1:2:\ncalled `Option::unwrap()` on a `None` value\n",
            "rule ndk.consumer broken by the NDK consumer: x\n",
            "rule deadlock broken by code of the test: it waits for ever\n",
        ] {
            assert_eq!(judged(FAILED, text), Verdict::PremiseGone, "{text}");
        }
        let callback = "thread 'a' (7) panicked at tests/ndk/lab.rs:1:2:\nx\npanic in a function that cannot unwind\n";
        assert_eq!(judged(6, callback), Verdict::PremiseGone);
    }

    #[test]
    fn test_programs_are_found_in_what_cargo_says() {
        let said = concat!(
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"]},"executable":null,"fresh":true}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"kind":["test"]},"executable":"/t/debug/deps/ndk-1","fresh":true}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(executables(said), [PathBuf::from("/t/debug/deps/ndk-1")]);
    }
}
