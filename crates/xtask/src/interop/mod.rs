//! `cargo xtask interop`: the driver against a real Linux kernel.

mod cases;
mod guest;
mod host;
mod image;
mod packages;
mod suite;

use crate::BadArgument;
use crate::workspace::{self, build_lab, root, target};
use anyhow::{Context, Result, anyhow, bail};
use cases::{Bench, CASES, Case, Speaker, Variant, WIRE};
use guest::{Guest, WirePaths};
use host::{Driver, Peer};
use image::Image;
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Instant;
use suite::Done;

/// Which variants of the cases run.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Matrix {
    /// Each case once on a good wire, and on a faulty one with both families of addresses that it knows and both path MTUs; refusals and
    /// the death of the guest, which wait for timers, with only one of each. Over four cases these are all pairs of values. The guest is
    /// emulated: more would take too long for every change. What is left to `full`: the other three combinations of family and path MTU
    /// on a good wire, the other two on a faulty one, or three.
    Ci,
    /// Every case with everything it can be run with.
    Full,
}

impl Matrix {
    /// Its rows, in the order in which they run.
    fn rows(self) -> Vec<Row> {
        let of = |(number, case): (usize, &'static Case)| {
            let variants = case.variants((self == Matrix::Ci).then_some(number));
            variants
                .into_iter()
                .map(move |variant| Row { case, variant })
        };
        CASES.iter().enumerate().flat_map(of).collect()
    }
}

/// A case and what it is run with.
struct Row {
    case: &'static Case,
    variant: Variant,
}

impl Row {
    /// Its name on the command line and, but for the slash, in file names.
    fn name(&self) -> String {
        format!("{}/{}", self.case.name, self.variant)
    }

    /// Where its wire is captured.
    fn capture(&self, out: &Path) -> PathBuf {
        out.join(format!("{}.pcapng", self.name().replace('/', "-")))
    }
}

/// Options of `cargo xtask interop`.
#[derive(clap::Args)]
pub struct Options {
    /// Install missing Debian packages (needs root).
    #[arg(long)]
    install: bool,
    /// Run only the cases whose name and variant, such as `rping-to-linux/v6-1024-faulty`, contain this. Those that the matrix leaves
    /// out count if it has none.
    #[arg(long)]
    only: Option<String>,
    /// List the rows, and what cases are not run with, and stop.
    #[arg(long)]
    list: bool,
    /// Where captures, logs and the guest's image go [default: interop in cargo's target folder].
    #[arg(long)]
    out: Option<PathBuf>,
    /// Which variants of the cases: by IPv4 or IPv6, with a path MTU of 4096 or 1024, on a good or a faulty wire.
    #[arg(long, value_enum, default_value_t = Matrix::Ci)]
    matrix: Matrix,
    /// Seed of what happens on a faulty wire.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The driver's image to load in place of the linked driver.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
}

impl Options {
    /// Those of a run with an image, into a folder of its own.
    pub fn of_image(image: &Path, out: PathBuf, only: Option<&str>, install: bool) -> Options {
        Options {
            install,
            only: only.map(str::to_owned),
            list: false,
            out: Some(out),
            matrix: Matrix::Ci,
            seed: 1,
            image: Some(image.to_owned()),
        }
    }
}

/// Whether the suite has a case, or a row that runs for every change, of this name.
pub fn is_case(name: &str) -> bool {
    CASES.iter().any(|case| case.name == name)
        || Matrix::Ci.rows().iter().any(|row| row.name() == name)
}

/// Runs the suite; `false` when a case failed.
pub fn run(options: &Options) -> Result<bool> {
    let rows = chosen(options)?;
    if options.list {
        for row in &rows {
            println!("{:<36} {}", row.name(), row.case.story);
        }
        let cases = CASES.iter();
        for case in cases.filter(|case| rows.iter().any(|row| row.case.name == case.name)) {
            for limit in case.limits() {
                println!("{}: {limit}", case.name);
            }
        }
        return Ok(true);
    }
    let target = target()?;
    let out = &options
        .out
        .clone()
        .unwrap_or_else(|| target.join("interop"));
    let driver = Driver::new(options.image.as_deref())?;
    packages::ensure(options.install)?;
    let _lock = workspace::lock(out)?;
    let image = image::build(&out.join("image"), options.install)?;
    let lab = build_lab(&root(), &target)?;
    // A socket's path has at most 107 bytes, and the output folder may lie deep.
    let sockets = SocketFolder::create()?;
    let wire = WirePaths {
        guest: sockets.0.join("guest"),
        host: sockets.0.join("host"),
    };

    println!(
        "a faulty wire does to frames what {WIRE:?} say, by seed {}",
        options.seed
    );
    let mut linux = Linux {
        image,
        out,
        sockets: &sockets.0,
        wire,
        lab,
        driver,
        seed: options.seed.to_string(),
        boots: 0,
    };
    let done = suite::run(&mut linux, rows);
    print_table(&done, out);
    Ok(done.iter().all(|done| done.outcome.is_ok()))
}

/// What the rows need.
struct Linux<'a> {
    image: Image,
    out: &'a Path,
    sockets: &'a Path,
    wire: WirePaths,
    lab: PathBuf,
    driver: Driver,
    seed: String,
    /// Guests started so far.
    boots: u32,
}

impl suite::Ground for Linux<'_> {
    type Guest = Guest;

    fn boot(&mut self) -> Result<Guest> {
        let started = Instant::now();
        self.boots += 1;
        let console = self.out.join(format!("console-{}.log", self.boots));
        let mut guest = Guest::boot(&self.image, &console, self.sockets, &self.wire)?;
        guest.bring_up_rdma(&[cases::V4, cases::V6])?;
        println!(
            "Linux is up with rdma_rxe after {:.1} s; {}",
            started.elapsed().as_secs_f32(),
            console.display()
        );
        Ok(guest)
    }

    fn run(&mut self, row: &Row, guest: &mut Option<Guest>) -> Result<String> {
        let variant = row.variant;
        let capture = row.capture(self.out);
        let _ = std::fs::remove_file(&capture);
        let mtu = variant.mtu().to_string();
        let mut before = vec![
            "--seed",
            &self.seed,
            "--address",
            variant.ends().vroce,
            "--path-mtu",
            &mtu,
        ];
        if variant.faulty {
            before.extend(WIRE);
        }
        let Linux {
            lab, driver, wire, ..
        } = self;
        if let Some(guest) = guest {
            guest.set_path_mtu(variant.wide)?;
        }
        let outcome = row.case.run(&mut Bench {
            variant,
            guest,
            start: &|arguments| {
                let arguments = [&before, arguments].concat();
                Peer::start(lab, driver, wire, &capture, row.case.speaker, &arguments)
            },
            capture: &capture,
            told: String::new(),
        });
        let remark = outcome.map_err(|error| match guest {
            Some(guest) => anyhow!("{error:#}\nLinux, afterwards:\n{}", guest.state()),
            None => error,
        })?;
        check_capture(&capture)?;
        Ok(remark)
    }
}

/// The rows to run.
fn chosen(options: &Options) -> Result<Vec<Row>> {
    // An image has nothing to do with the engine alone.
    let concerned = |row: &Row| options.image.is_none() || row.case.speaker == Speaker::Driver;
    let named = |row: &Row| {
        let part = options.only.as_deref().unwrap_or_default();
        concerned(row) && row.name().contains(part)
    };
    for matrix in [options.matrix, Matrix::Full] {
        let rows: Vec<Row> = matrix.rows().into_iter().filter(named).collect();
        if !rows.is_empty() {
            return Ok(rows);
        }
    }
    bail!(BadArgument(format!(
        "no case is named like {:?}; --list --matrix full shows them",
        options.only.as_deref().unwrap_or("")
    )))
}

/// Every case leaves a capture with frames in it: an empty one means that the wire was not watched.
fn check_capture(capture: &Path) -> Result<()> {
    let bytes = std::fs::metadata(capture)
        .with_context(|| format!("no capture {}", capture.display()))?
        .len();
    if bytes < 200 {
        bail!("the capture {} holds no frames", capture.display());
    }
    Ok(())
}

fn print_table(rows: &[Done], out: &Path) {
    println!();
    println!(
        "{:<36} {:<48} {:<7} {:>7}",
        "case", "story", "result", "seconds"
    );
    for done in rows {
        let result = if done.outcome.is_ok() { "ok" } else { "FAILED" };
        println!(
            "{:<36} {:<48} {result:<7} {:>7.1}",
            done.row.name(),
            done.row.case.story,
            done.seconds
        );
    }
    let mut failed = 0;
    for done in rows {
        if let Err(error) = &done.outcome {
            failed += 1;
            let capture = done.row.capture(out);
            println!("\n{}: {error:#}", done.row.name());
            println!("its wire is in {}", capture.display());
        }
    }
    let seconds: f32 = rows.iter().map(|done| done.seconds).sum();
    println!(
        "\ninterop: {} passed, {failed} failed, in {seconds:.0} s",
        rows.len() - failed
    );
}

/// A folder for sockets that goes away with the run.
struct SocketFolder(PathBuf);

impl SocketFolder {
    /// A new one, which nobody else can look into.
    fn create() -> Result<SocketFolder> {
        SocketFolder::create_in(&std::env::temp_dir())
    }

    fn create_in(folder: &Path) -> Result<SocketFolder> {
        let us = std::process::id();
        // A name that is taken may be anybody's.
        for number in 0..1000 {
            let path = folder.join(format!("vroce-{us}-{number}"));
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| path.display().to_string()),
                Ok(()) => {
                    let created = SocketFolder(path);
                    created.sweep(folder);
                    return Ok(created);
                }
            }
        }
        bail!(
            "no folder for sockets could be made in {}",
            folder.display()
        )
    }

    /// Removes what runs left behind that could not clean up (Ctrl-C): folders of this user's whose process is gone.
    fn sweep(&self, folder: &Path) {
        let owner = |path: &Path| Some(std::fs::symlink_metadata(path).ok()?.uid());
        let ours = owner(&self.0);
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let process = name.to_str().and_then(|name| {
                let (process, number) = name.strip_prefix("vroce-")?.split_once('-')?;
                number.parse::<u32>().ok()?;
                process.parse::<u32>().ok()
            });
            let gone =
                process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists());
            if gone && owner(&entry.path()) == ours {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
}

impl Drop for SocketFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_folder_for_sockets_is_new_and_nobody_elses() {
        let scratch = target()
            .unwrap()
            .join(format!("sockets-{}", std::process::id()));
        std::fs::create_dir_all(&scratch).unwrap();
        let us = std::process::id();
        let taken = scratch.join(format!("vroce-{us}-0"));
        // No process has such a number.
        let (left, other) = (
            scratch.join("vroce-4294967295-3"),
            scratch.join("vroce-x-3"),
        );
        for folder in [&taken, &left, &other] {
            std::fs::create_dir(folder).unwrap();
        }
        let folder = SocketFolder::create_in(&scratch).unwrap();
        let path = folder.0.clone();
        assert_eq!(path, scratch.join(format!("vroce-{us}-1")));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert!(taken.exists() && other.exists() && !left.exists());
        drop(folder);
        assert!(!path.exists());
        std::fs::remove_dir_all(scratch).unwrap();
    }
}
