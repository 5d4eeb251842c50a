//! `cargo xtask faults`: the driver's tests and the demo, while everything that may fail around the driver fails once.
//!
//! Each of them, a story, runs in a process of its own, again and again until it comes across no new path: the simulator fails each
//! function once for each path by which the driver calls it (`NTSIM_FAULTS`). Stories say what happens where nothing fails, so that their
//! own assertions mean nothing where something has; what the simulator's verifier says, and the driver's own panics, mean all the more.

mod rounds;
mod story;
mod verdict;

use crate::image::IMAGE_VARIABLE;
use crate::workspace::{lock, root, target};
use anyhow::{Context, Result, bail};
use rounds::{Paths, Rounds, Tale, tell_all, walk};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
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
    /// Run so many stories at a time, which changes no run [default: as many as there are processors].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    jobs: Option<u32>,
    /// Only stories whose names contain this; that of the demo is `demo`.
    #[arg(value_name = "NAME")]
    filter: Option<String>,
}

/// No run of a story takes as long, in the host's time.
const LIMIT: Duration = Duration::from_secs(300);

/// Runs the stories; `false` if there is a finding.
pub fn run(options: &Options) -> Result<bool> {
    let image = options.image.as_ref().map(|image| {
        let path = image.canonicalize();
        path.with_context(|| image.display().to_string())
    });
    let image = image.transpose()?;
    let folder = target()?.join("faults");
    let _lock = lock(&folder)?;
    let demo = options.test.is_empty().then(story::demo).transpose()?;
    let is_meant = |story: &Story| {
        let part = options.filter.as_deref();
        part.is_none_or(|part| story.name.contains(part))
    };
    let mut tests = story::tests(&options.test)?;
    tests.retain(is_meant);
    // It has the most paths by far.
    let mut rounds = Rounds::new(tests, demo.filter(is_meant));
    let count = rounds.to_go();
    if count == 0 {
        bail!("there is no such story");
    }
    let jobs = options.jobs.map_or_else(
        || std::thread::available_parallelism().map_or(1, |count| count.get()),
        |jobs| jobs as usize,
    );
    println!("{count} stories, {jobs} at a time");
    let bench = Bench {
        folder: &folder,
        image: image.as_deref(),
    };
    let started = Instant::now();
    let (mut runs, mut left) = (0, 0);
    // Runs in which the story's own premise was gone.
    let mut gone = 0;
    let (mut findings, mut errors) = (Vec::new(), Vec::new());
    let tell =
        |worker, story: &Story, paths: &Paths| bench.tell(worker, story, paths, options.runs);
    let paths = tell_all(&mut rounds, jobs, tell, |paths, round, to_go| {
        for told in round {
            runs += told.runs;
            gone += told.gone;
            left += usize::from(!told.is_through);
            findings.extend(told.findings);
            errors.extend(told.error);
        }
        println!(
            "{:.0} s: {runs} runs, {} paths, {} findings, {to_go} stories to go",
            started.elapsed().as_secs_f64(),
            paths.count(),
            findings.len(),
        );
        errors.is_empty()
    });
    for (_, how) in &findings {
        println!("FINDING {how}");
    }
    // Last: what was found is told whatever becomes of the files about it.
    let list = folder.join("paths.txt");
    std::fs::write(&list, paths.lines()).with_context(|| list.display().to_string())?;
    println!(
        "{count} stories in {runs} runs and {:.0} s; {} paths failed, which are in {}; of {gone} runs the story's own premise was gone; {}{} findings",
        started.elapsed().as_secs_f64(),
        paths.count(),
        list.display(),
        match left {
            0 => String::new(),
            left => format!("{left} stories may come across more paths; "),
        },
        findings.len()
    );
    match errors.into_iter().next() {
        Some(error) => Err(error),
        None => Ok(findings.is_empty()),
    }
}

/// What came of all runs of a story.
#[derive(Default)]
struct Told {
    runs: usize,
    /// Runs in which the story's own premise was gone.
    gone: usize,
    /// What each is, and how it is repeated.
    findings: Vec<(String, String)>,
    /// The lines of what failed.
    failed: String,
    /// It came across no new path in the end.
    is_through: bool,
    /// Why it could not be told to its end.
    error: Option<anyhow::Error>,
}

impl Tale for Told {
    fn failed(&self) -> &str {
        &self.failed
    }
}

/// A run that has ended.
struct Run {
    /// None if it took too long.
    ended: Option<ExitStatus>,
    /// The lines of what failed.
    failed: Result<String>,
    /// What it printed.
    text: String,
}

impl Run {
    fn verdict(&self) -> Verdict {
        match judge(self.ended, &self.text) {
            Verdict::PremiseGone if self.failed.as_ref().is_ok_and(String::is_empty) => {
                Verdict::Finding("it fails without anything that fails on purpose".to_owned())
            }
            verdict => verdict,
        }
    }
}

/// The lines that a run has added to the known paths.
fn failed(paths: &Path, known: &str) -> Result<String> {
    let after = std::fs::read_to_string(paths).with_context(|| paths.display().to_string())?;
    let failed = after.strip_prefix(known).with_context(|| {
        format!(
            "{} does not begin with the paths that were known: the run may only add to it",
            paths.display()
        )
    })?;
    Ok(failed.to_owned())
}

struct Bench<'a> {
    folder: &'a Path,
    image: Option<&'a Path>,
}

impl Bench<'_> {
    /// Runs a story until it comes across no path that is new besides the known ones, and prints what is found at once. `slot` is a number
    /// that no other story has now.
    fn tell(&self, slot: usize, story: &Story, known: &Paths, limit: Option<u32>) -> Told {
        let mut told = Told::default();
        let through = walk(known.clone(), limit, |known| {
            let run = self.run(slot, story, known)?;
            told.runs += 1;
            match run.verdict() {
                Verdict::Passed => {}
                Verdict::PremiseGone => told.gone += 1,
                Verdict::Finding(finding) => {
                    println!("{}: {finding}", story.name);
                    let how = self.describe(story, told.findings.len(), &finding, &run);
                    told.findings.push((finding, how));
                }
            }
            let failed = run.failed?;
            told.failed += &failed;
            anyhow::Ok(failed)
        });
        match through.with_context(|| story.name.clone()) {
            Ok(through) => told.is_through = through,
            Err(error) => told.error = Some(error),
        }
        told
    }

    /// Runs a story while all but the known paths fail.
    fn run(&self, slot: usize, story: &Story, known: &str) -> Result<Run> {
        let paths = self.folder.join(format!("paths-{slot}"));
        std::fs::write(&paths, known)?;
        let log = self.folder.join(format!("log-{slot}"));
        let ended = self.execute(story, slot, &paths, &log)?;
        let text = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
        let failed = failed(&paths, known);
        Ok(Run {
            ended,
            failed,
            text,
        })
    }

    /// A finding, and how it is repeated. What the run printed is kept; `before` are the story's findings before it.
    fn describe(&self, story: &Story, before: usize, finding: &str, run: &Run) -> String {
        let number = match before {
            0 => String::new(),
            before => format!("-{}", before + 1),
        };
        let name = story.name.replace("::", "-");
        let log = self.folder.join(format!("{name}{number}.log"));
        let kept = match std::fs::write(&log, &run.text) {
            Ok(()) => format!("is in {}", log.display()),
            Err(error) => format!("could not be kept in {} ({error})", log.display()),
        };
        let failed = run.failed.as_deref().unwrap_or_default();
        let paths: Vec<_> = failed.lines().filter_map(|l| l.split(' ').next()).collect();
        let only = (!paths.is_empty()).then(|| format!("only:{}", paths.join(",")));
        let image = self.image.map_or_else(String::new, |image| {
            format!("{IMAGE_VARIABLE}={} ", image.display())
        });
        format!(
            "{}: {finding}\n  what it printed {kept}; repeat with: {image}{}",
            story.name,
            story.repeat(only.as_deref())
        )
    }

    /// Runs a story to its end, or until it has taken too long: then nothing.
    fn execute(
        &self,
        story: &Story,
        slot: usize,
        paths: &Path,
        log: &Path,
    ) -> Result<Option<ExitStatus>> {
        let out = File::create(log)?;
        let capture = self.folder.join(format!("capture-{slot}.pcapng"));
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
            pause = (pause * 2).min(Duration::from_millis(4));
        }
        child.kill()?;
        child.wait()?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Tests here that the next test takes for stories.
    const STORIES: [&str; 2] = [
        "faults::tests::a_story_with_a_finding_in_each_run",
        "faults::tests::a_story_that_loses_paths",
    ];

    /// Where a story notes what failed, if this process runs it.
    fn paths() -> Option<std::ffi::OsString> {
        std::env::var_os("NTSIM_FAULTS")
    }

    #[test]
    fn a_story_with_a_finding_in_each_run() {
        let Some(paths) = paths() else { return };
        let known = std::fs::read_to_string(&paths).unwrap().lines().count();
        let mut paths = File::options().append(true).open(paths).unwrap();
        writeln!(paths, "path{known} failed").unwrap();
        eprintln!("rule number{known} broken by driver vroce: on purpose");
        panic!("a rule is broken");
    }

    #[test]
    fn a_story_that_loses_paths() {
        let Some(paths) = paths() else { return };
        let known = std::fs::read_to_string(&paths).unwrap().lines().count();
        let lines = if known == 1 {
            "path0 failed\npath1 failed\n"
        } else {
            ""
        };
        std::fs::write(paths, lines).unwrap();
        eprintln!("rule number{known} broken by driver vroce: on purpose");
        panic!("a rule is broken");
    }

    #[test]
    fn each_finding_of_a_story_keeps_what_its_run_printed() {
        let folder = std::env::temp_dir().join(format!("vroce-faults-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let bench = Bench {
            folder: &folder,
            image: None,
        };
        let [finds, loses] = STORIES.map(|name| {
            let program = std::env::current_exe().unwrap();
            Story::new(name, &program, false)
        });
        let mut known = Paths::default();
        known.add("path0 failed\n");
        let told = bench.tell(0, &finds, &known, Some(2));
        assert!(told.runs == 2 && !told.is_through);
        assert_eq!(told.findings.len(), 2);
        let name = finds.name.replace("::", "-");
        for (number, (finding, how)) in told.findings.iter().enumerate() {
            let rule = format!("rule number{} broken", number + 1);
            assert!(finding.starts_with(&rule), "{finding}");
            let log = format!("{name}{}.log", ["", "-2"][number]);
            let log = folder.join(log);
            assert!(how.contains(&format!("is in {};", log.display())), "{how}");
            assert!(how.contains(&format!("only:path{} ", number + 1)), "{how}");
            let printed = std::fs::read_to_string(log).unwrap();
            assert!(printed.contains(&rule), "{printed}");
        }
        // What was found before an error, and in the run that it comes from, is not lost.
        let told = bench.tell(0, &loses, &known, None);
        assert_eq!(told.error.unwrap().to_string(), loses.name);
        assert_eq!(told.findings.len(), 2);
        // Nor if there is no room for what was printed: here because the log's name is a folder's.
        let log = folder.join(format!("{name}.log"));
        std::fs::remove_file(&log).unwrap();
        std::fs::create_dir(&log).unwrap();
        let told = bench.tell(0, &finds, &known, Some(1));
        assert!(told.error.is_none());
        let how = &told.findings[0].1;
        let text = format!("could not be kept in {}", log.display());
        assert!(how.contains(&text), "{how}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
