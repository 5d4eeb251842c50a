//! What is run under faults: each test of the driver, and the demo.

use crate::workspace::{build_lab, cargo, printed, root, target};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The driver's test binaries in which it is loaded.
const LOADING: &[&str] = &["miniport", "ndk"];

/// A test or the demo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    pub name: String,
    pub program: PathBuf,
    /// It is the demo, which ignores the environment.
    is_demo: bool,
}

impl Story {
    pub fn new(name: &str, program: &Path, is_demo: bool) -> Self {
        Story {
            name: name.to_owned(),
            program: program.to_owned(),
            is_demo,
        }
    }

    /// What runs it: `faults` is what is to fail, `capture` a file for what the demo captures.
    pub fn command(&self, faults: Option<&str>, capture: &Path) -> Command {
        let mut command = Command::new(&self.program);
        if self.is_demo {
            command.arg("--capture").arg(capture);
            faults.map(|faults| command.args(["--faults", faults]));
        } else {
            command.args(["--exact", &self.name, "--nocapture"]);
            faults.map(|faults| command.env("NTSIM_FAULTS", faults));
        }
        command
    }

    /// The same for a shell.
    pub fn repeat(&self, faults: Option<&str>) -> String {
        let command = self.command(faults, Path::new("faults.pcapng"));
        let mut line = String::new();
        for (name, value) in command.get_envs() {
            let value = value.unwrap_or_default();
            line += &format!("{}={} ", name.display(), value.display());
        }
        line += &self.program.display().to_string();
        for argument in command.get_args() {
            line += &format!(" {}", argument.display());
        }
        line
    }
}

/// The demo, built.
pub fn demo() -> Result<Story> {
    Ok(Story::new("demo", &build_lab(&root(), &target()?)?, true))
}

/// The tests that load the driver, built; only those of some binaries, if there are any.
pub fn tests(binaries: &[String]) -> Result<Vec<Story>> {
    let mut programs = Vec::new();
    let binaries: Vec<&str> = match binaries {
        [] => LOADING.to_vec(),
        some => some.iter().map(String::as_str).collect(),
    };
    let mut command = cargo();
    // Of all default members, whose features `cargo test` joins: the package by itself would be built once more.
    command.args(["test", "--locked", "--no-run"]);
    command.arg("--message-format=json-render-diagnostics");
    for binary in &binaries {
        command.args(["--test", binary]);
    }
    let output = printed(&mut command)?;
    ensure!(output.status.success(), "the tests did not build");
    for program in executables(&String::from_utf8_lossy(&output.stdout)) {
        let listed = Command::new(&program)
            .args(["--list", "--format", "terse"])
            .output()
            .with_context(|| program.display().to_string())?;
        let listed = String::from_utf8_lossy(&listed.stdout);
        let names = listed
            .lines()
            .filter_map(|line| line.strip_suffix(": test"));
        programs.push(
            names
                .map(|name| Story::new(name, &program, false))
                .collect(),
        );
    }
    Ok(in_turn(programs))
}

/// One story of each program after the other: linked with the driver, programs have no path in common.
fn in_turn(programs: Vec<Vec<Story>>) -> Vec<Story> {
    let mut programs: Vec<_> = programs.into_iter().map(Vec::into_iter).collect();
    let mut stories = Vec::new();
    loop {
        let before = stories.len();
        stories.extend(programs.iter_mut().filter_map(Iterator::next));
        if stories.len() == before {
            return stories;
        }
    }
}

/// The test programs that cargo says it has built, by name: it tells of them as each is ready, which the host's speed decides.
fn executables(messages: &str) -> Vec<PathBuf> {
    let path = |line: &str| {
        let (_, rest) = line.split_once("\"executable\":\"")?;
        Some(PathBuf::from(rest.split('"').next()?))
    };
    let artifacts = messages
        .lines()
        .filter(|l| l.contains("\"compiler-artifact\""));
    let mut programs: Vec<_> = artifacts.filter_map(path).collect();
    // Behind the name is a hash, which is not the same everywhere.
    let name = |program: &PathBuf| {
        let stem = program.file_stem().unwrap_or_default().to_string_lossy();
        let name = stem.rsplit_once('-').map_or(&*stem, |(name, _)| name);
        name.to_owned()
    };
    programs.sort_by_key(name);
    programs
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn which_program_is_built_first_makes_no_difference() {
        let built = |program: &str| {
            let path = format!(r#""executable":"/t/debug/deps/{program}""#);
            format!(r#"{{"reason":"compiler-artifact","target":{{"kind":["test"]}},{path}}}"#)
        };
        // By their paths they would be the other way round.
        let ends = ["ndk-f1", "ndk-big-1"].map(built);
        let programs = ["ndk-f1", "ndk-big-1"].map(|p| Path::new("/t/debug/deps").join(p));
        for said in [[&*ends[0], &ends[1]], [&ends[1], &ends[0]]] {
            assert_eq!(executables(&said.join("\n")), programs);
        }
    }

    #[test]
    fn the_programs_take_turns() {
        let story = |name: &str| Story::new(name, Path::new("/t/a"), false);
        let programs = [&["a1", "a2", "a3"][..], &["b1"], &[], &["c1", "c2"]];
        let programs = programs.map(|names| names.iter().copied().map(story).collect());
        let stories = in_turn(programs.to_vec());
        let names: Vec<_> = stories.iter().map(|story| &*story.name).collect();
        assert_eq!(names, ["a1", "b1", "c1", "a2", "c2", "a3"]);
    }

    #[test]
    fn a_story_is_repeated_by_one_line() {
        let test = Story::new("a::b", Path::new("/t/ndk-1"), false);
        assert_eq!(
            test.repeat(Some("only:1,2")),
            "NTSIM_FAULTS=only:1,2 /t/ndk-1 --exact a::b --nocapture"
        );
        assert_eq!(test.repeat(None), "/t/ndk-1 --exact a::b --nocapture");
        let demo = Story::new("demo", Path::new("/t/vroce-lab"), true);
        assert_eq!(
            demo.repeat(Some("only:1")),
            "/t/vroce-lab --capture faults.pcapng --faults only:1"
        );
    }
}
