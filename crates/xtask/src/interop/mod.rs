//! `cargo xtask interop`: the driver against a real Linux kernel.

mod cases;
mod guest;
mod host;
mod image;
mod packages;

use crate::BadArgument;
use crate::workspace::{self, build_lab, root, target};
use anyhow::{Context, Result, bail};
use cases::{Bench, CASES, Case};
use guest::{Guest, WirePaths};
use host::{Driver, Peer};
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Options of `cargo xtask interop`.
#[derive(clap::Args)]
pub struct Options {
    /// Install missing Debian packages (needs root).
    #[arg(long)]
    install: bool,
    /// Run only the cases whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// List the cases and stop.
    #[arg(long)]
    list: bool,
    /// Where captures, logs and the guest's image go [default: interop in cargo's target folder].
    #[arg(long)]
    out: Option<PathBuf>,
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
            image: Some(image.to_owned()),
        }
    }
}

/// Whether the suite has a case of this name.
pub fn is_case(name: &str) -> bool {
    CASES.iter().any(|case| case.name == name)
}

/// Runs the suite; `false` when a case failed.
pub fn run(options: &Options) -> Result<bool> {
    let cases: Vec<&Case> = CASES
        .iter()
        .filter(|case| {
            options
                .only
                .as_ref()
                .is_none_or(|part| case.name.contains(part.as_str()))
        })
        .collect();
    if cases.is_empty() {
        bail!(BadArgument(format!(
            "no case is named like {:?}; --list shows them",
            options.only.as_deref().unwrap_or("")
        )));
    }
    if options.list {
        for case in cases {
            println!("{:<18} {}", case.name, case.story);
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

    let started = Instant::now();
    let mut guest = Guest::boot(&image, out, &sockets.0, &wire)?;
    guest.bring_up_rdma(&[cases::V4, cases::V6])?;
    println!(
        "Linux is up with rdma_rxe after {:.1} s",
        started.elapsed().as_secs_f32()
    );

    let mut guest = Some(guest);
    let mut rows = Vec::new();
    for case in cases {
        let capture = out.join(format!("{}.pcapng", case.name));
        let _ = std::fs::remove_file(&capture);
        let started = Instant::now();
        let outcome = (case.run)(&mut Bench {
            guest: &mut guest,
            start: &|arguments| Peer::start(&lab, &driver, &wire, &capture, arguments),
            capture: &capture,
        })
        .and_then(|remark| check_capture(&capture).map(|()| remark));
        let seconds = started.elapsed().as_secs_f32();
        match &outcome {
            Ok(remark) => println!("ok     {:<18} {seconds:5.1} s  {remark}", case.name),
            Err(error) => println!("FAILED {:<18} {seconds:5.1} s  {error:#}", case.name),
        }
        if outcome.is_err()
            && let Some(guest) = &mut guest
            && let Err(error) = guest.clean_up()
        {
            println!("       cleaning up in the guest: {error:#}");
        }
        rows.push((case, seconds, outcome, capture));
    }
    print_table(&rows);
    Ok(rows.iter().all(|(_, _, outcome, _)| outcome.is_ok()))
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

fn print_table(rows: &[(&Case, f32, Result<String>, PathBuf)]) {
    println!();
    println!(
        "{:<18} {:<48} {:<7} {:>7}  capture",
        "case", "story", "result", "seconds"
    );
    for (case, seconds, outcome, capture) in rows {
        let result = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!(
            "{:<18} {:<48} {result:<7} {seconds:>7.1}  {}",
            case.name,
            case.story,
            capture.display()
        );
    }
    let passed = rows
        .iter()
        .filter(|(_, _, outcome, _)| outcome.is_ok())
        .count();
    println!("\ninterop: {passed} passed, {} failed", rows.len() - passed);
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
