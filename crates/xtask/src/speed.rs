//! `cargo xtask speed`: the benchmark of this tree against that of an earlier commit, or of the driver's image against that of the
//! linked driver, in turn on the same machine.

use crate::workspace::{build_lab, lock, root, target};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Options of `cargo xtask speed`.
#[derive(clap::Args)]
pub struct Options {
    /// The commit to compare with, by any name that git knows.
    #[arg(long, value_name = "REV", default_value = "HEAD~1")]
    against: String,
    /// How often each is run; the best of a row counts, because what disturbs a run only makes it slower [default: 3, with --image
    /// 10].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// Fail if a row is slower than this, as a share of the earlier commit's messages a second.
    #[arg(long, value_name = "RATIO")]
    least: Option<f64>,
    /// Compare this image of the driver with the linked driver instead; without FILE it is built. Fails if a row of the image is
    /// slower by more than 10 %, or if it takes more than 50 ms to start.
    #[arg(long, value_name = "FILE", num_args = 0..=1, conflicts_with_all = ["against", "least"])]
    image: Option<Option<PathBuf>>,
}

/// How much slower the image may be than the linked driver.
const PERCENT: &str = "10";

/// One line of the benchmark.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    /// Operation, size and how many are in flight.
    name: String,
    /// Messages a second.
    rate: f64,
}

/// Measures and prints; `false` if a row is slower than allowed.
pub fn run(options: &Options) -> Result<bool> {
    if let Some(image) = &options.image {
        return run_image(image.as_deref(), options.rounds);
    }
    let rounds = options.rounds.unwrap_or(3);
    let root = root();
    let folder = target()?.join("speed");
    let _lock = lock(&folder)?;
    let tree = Tree::check_out(&root, &options.against, folder.join("tree"))?;
    println!("building this tree");
    let now = build_lab(&root, &target()?)?;
    println!("building {}", options.against);
    let then = build_lab(&tree.path, &folder.join("target"))?;
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        println!("round {round} of {rounds}");
        keep_best(&mut before, measure(&then)?);
        keep_best(&mut after, measure(&now)?);
    }
    println!();
    println!(
        "{:<44} {:>12} {:>12} {:>7}",
        "messages/s, best of the rounds", options.against, "this tree", "ratio"
    );
    let mut well = true;
    for (name, old, new) in pairs(&before, &after) {
        let figure = |rate: Option<f64>| rate.map_or("-".into(), |rate| format!("{rate:.0}"));
        let ratio = old.zip(new).map(|(old, new)| new / old);
        let told = ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
        println!(
            "{name:<44} {:>12} {:>12} {told:>7}",
            figure(old),
            figure(new)
        );
        well &= options.least.is_none_or(|least| is_well(old, new, least));
    }
    Ok(well)
}

/// Has the lab measure the image and the linked driver in turn; `false` if the image is slower than allowed.
fn run_image(image: Option<&Path>, rounds: Option<u32>) -> Result<bool> {
    let image = match image {
        Some(image) => image
            .canonicalize()
            .with_context(|| image.display().to_string())?,
        None => crate::image::build(crate::image::Arch::X64, false)?.image,
    };
    let lab = build_lab(&root(), &target()?)?;
    let mut bench = Command::new(&lab);
    bench
        .args(["--bench", "--within", PERCENT, "--against-image"])
        .arg(image);
    if let Some(rounds) = rounds {
        bench.args(["--rounds", &rounds.to_string()]);
    }
    let status = bench.status().with_context(|| lab.display().to_string())?;
    Ok(status.success())
}

/// Each row's name and both rates, as far as there are.
fn pairs<'a>(before: &'a [Row], after: &'a [Row]) -> Vec<(&'a str, Option<f64>, Option<f64>)> {
    fn rate(rows: &[Row], name: &str) -> Option<f64> {
        rows.iter().find(|row| row.name == name).map(|row| row.rate)
    }
    let is_new = |row: &&Row| rate(before, &row.name).is_none();
    before
        .iter()
        .chain(after.iter().filter(is_new))
        .map(|Row { name, .. }| (name.as_str(), rate(before, name), rate(after, name)))
        .collect()
}

/// Whether a row is as fast as it has to be. One that is gone is not; a new one has nothing to be compared with.
fn is_well(old: Option<f64>, new: Option<f64>, least: f64) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => new / old >= least,
        (Some(_), None) => false,
        (None, _) => true,
    }
}

/// An earlier commit, checked out beside this tree for as long as this lives.
struct Tree {
    root: PathBuf,
    path: PathBuf,
}

impl Tree {
    fn check_out(root: &Path, revision: &str, path: PathBuf) -> Result<Tree> {
        let tree = Tree {
            root: root.to_owned(),
            path,
        };
        // What an interrupted run left.
        tree.remove();
        let output = tree
            .git(&["worktree", "add", "--detach"])
            .arg(&tree.path)
            .arg(revision)
            .output()
            .context("git")?;
        ensure!(
            output.status.success(),
            "git worktree add {revision}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(tree)
    }

    fn git(&self, arguments: &[&str]) -> Command {
        let mut git = Command::new("git");
        git.current_dir(&self.root).args(arguments);
        git
    }

    fn remove(&self) {
        // It fails if there is none.
        let _ = self
            .git(&["worktree", "remove", "--force"])
            .arg(&self.path)
            .output();
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.remove();
    }
}

fn measure(program: &Path) -> Result<Vec<Row>> {
    let output = Command::new(program)
        .arg("--bench")
        .output()
        .with_context(|| program.display().to_string())?;
    if !output.status.success() {
        bail!(
            "{} --bench: {}",
            program.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let rows = parse(&String::from_utf8_lossy(&output.stdout));
    ensure!(
        !rows.is_empty(),
        "{} --bench printed no table",
        program.display()
    );
    Ok(rows)
}

/// The rows of the table: columns are at least two spaces apart, the fourth is the rate.
fn parse(output: &str) -> Vec<Row> {
    output
        .lines()
        .filter_map(|line| {
            let mut columns = line
                .split("  ")
                .map(str::trim)
                .filter(|column| !column.is_empty());
            let (operation, size, in_flight) = (columns.next()?, columns.next()?, columns.next()?);
            let rate = columns.next()?.parse().ok()?;
            Some(Row {
                name: format!("{operation}, {size}, {in_flight} in flight"),
                rate,
            })
        })
        .collect()
}

fn keep_best(best: &mut Vec<Row>, rows: Vec<Row>) {
    for row in rows {
        match best.iter_mut().find(|known| known.name == row.name) {
            Some(known) => known.rate = known.rate.max(row.rate),
            None => best.push(row),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
both servers, their simulated kernels and the wire in one thread, path MTU 4096, wall time
operation              size  in flight   messages/s       MB/s        p50        p99
write                 1 MiB          8         1050     1100.8  7604.1 us    11.8 ms
send ping-pong         64 B          1        50296        3.2    19.4 us    66.9 us
";

    #[test]
    fn the_table_of_the_benchmark_is_understood() {
        let rows = parse(OUTPUT);
        let found: Vec<_> = rows.iter().map(|row| (&*row.name, row.rate)).collect();
        let expected = [
            ("write, 1 MiB, 8 in flight", 1050.0),
            ("send ping-pong, 64 B, 1 in flight", 50296.0),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_row_that_is_slow_or_gone_is_not_well() {
        let row = |name: &str, rate| Row {
            name: name.into(),
            rate,
        };
        let before = [row("slower", 10.0), row("gone", 1.0), row("same", 5.0)];
        let after = [row("same", 5.0), row("slower", 8.0), row("new", 1.0)];
        let judged: Vec<_> = pairs(&before, &after)
            .into_iter()
            .map(|(name, old, new)| (name, is_well(old, new, 0.9)))
            .collect();
        let expected = [
            ("slower", false),
            ("gone", false),
            ("same", true),
            ("new", true),
        ];
        assert_eq!(judged, expected);
        assert!(is_well(Some(10.0), Some(8.0), 0.8));
    }

    #[test]
    fn the_best_of_each_row_is_kept() {
        let row = |name: &str, rate| Row {
            name: name.into(),
            rate,
        };
        let mut best = Vec::new();
        keep_best(&mut best, vec![row("a", 2.0), row("b", 1.0)]);
        keep_best(&mut best, vec![row("a", 1.0), row("b", 3.0)]);
        assert_eq!(best, [row("a", 2.0), row("b", 3.0)]);
    }
}
