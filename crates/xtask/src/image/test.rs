//! `cargo xtask test-image`: the tests of the driver, once more, with its image loaded by the simulated kernel.

use super::Arch;
use crate::workspace::root;
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::Command;

/// Options of `cargo xtask test-image`.
#[derive(clap::Args)]
pub struct Options {
    /// The image to test [default: builds vroce.sys for x64].
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Install a compiler for the image if none is here (Debian, needs root).
    #[arg(long)]
    install: bool,
    /// Functions that the spinner calls; 0 leaves it out.
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    calls: u64,
    /// Only the tests whose names contain this, and neither demo nor spinner.
    #[arg(value_name = "NAME")]
    filter: Option<String>,
}

/// Runs everything that judges the linked driver on the image; `false` when something failed.
pub fn run(options: &Options) -> Result<bool> {
    let image = match &options.image {
        Some(image) => image.clone(),
        None => super::build(Arch::X64, options.install)?.image,
    };
    let image = image
        .canonicalize()
        .with_context(|| image.display().to_string())?;
    println!("testing {}", image.display());
    let cargo = |arguments: &[&str]| -> Result<bool> {
        let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(arguments)
            .env("NTSIM_IMAGE", &image)
            .current_dir(root())
            .status()
            .context("cargo")?;
        Ok(status.success())
    };
    let mut tests = vec![
        "test",
        "--locked",
        "--package",
        "vroce",
        "--test",
        "miniport",
        "--test",
        "ndk",
    ];
    if let Some(filter) = &options.filter {
        tests.extend(["--", filter]);
        return cargo(&tests);
    }
    if !cargo(&tests)? {
        return Ok(false);
    }
    let lab = [
        "run",
        "--release",
        "--locked",
        "--package",
        "vroce-lab",
        "--",
    ];
    let capture = crate::workspace::target()?.join("image/demo.pcapng");
    let capture = capture.to_string_lossy();
    let demo: Vec<&str> = lab.iter().copied().chain(["--capture", &capture]).collect();
    if !cargo(&demo)? {
        return Ok(false);
    }
    if options.calls == 0 {
        return Ok(true);
    }
    let calls = options.calls.to_string();
    let spin = ["spin", "--seed", "1", "--calls", &calls];
    cargo(&lab.iter().copied().chain(spin).collect::<Vec<_>>())
}
