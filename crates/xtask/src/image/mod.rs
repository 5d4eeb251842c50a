//! `cargo xtask image`: the driver as Windows loads it, made on this machine: on Linux; on Windows nobody has tried it.

pub mod audit;
mod same;
pub mod test;
pub mod toolchain;
pub mod wdk;

use crate::workspace::{root, target};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::time::Instant;
use toolchain::Toolchain;

/// The environment variable by which simulated machines load an image in place of the linked driver.
pub const IMAGE_VARIABLE: &str = "NTSIM_IMAGE";

/// Options of `cargo xtask image`.
#[derive(clap::Args)]
pub struct Options {
    /// The processor the image is for.
    #[arg(long, value_enum, default_value = "x64")]
    arch: Arch,
    /// Install a compiler for the target if none is here (Debian, needs root).
    #[arg(long)]
    install: bool,
}

/// A processor, as INF files call it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Arch {
    /// x86-64.
    X64,
    /// AArch64: built, never run.
    Arm64,
}

impl Arch {
    fn target(self) -> &'static str {
        match self {
            Self::X64 => "x86_64-pc-windows-msvc",
            Self::Arm64 => "aarch64-pc-windows-msvc",
        }
    }

    /// As in the names of folders and packages.
    pub fn name(self) -> &'static str {
        match self {
            Self::X64 => "x64",
            Self::Arm64 => "arm64",
        }
    }

    /// As in the decorations of an INF.
    pub fn decoration(self) -> &'static str {
        match self {
            Self::X64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}

/// An image and the symbols that belong to it.
pub struct Built {
    /// `vroce.sys`.
    pub image: PathBuf,
    /// `vroce.pdb`.
    pub symbols: PathBuf,
}

/// Builds the image and says what it is.
pub fn run(options: &Options) -> Result<bool> {
    let started = Instant::now();
    let built = build(options.arch, options.install)?;
    let size = std::fs::metadata(&built.image)?.len();
    println!(
        "image    {} ({} KiB)",
        built.image.display(),
        size.div_ceil(1024)
    );
    println!("symbols  {}", built.symbols.display());
    println!("built in {:.1} s", started.elapsed().as_secs_f64());
    Ok(true)
}

/// Builds the driver's image for a processor.
pub fn build(arch: Arch, install: bool) -> Result<Built> {
    build_package("vroce", arch, install)
}

/// Builds the image of a package for a processor.
fn build_package(package: &str, arch: Arch, install: bool) -> Result<Built> {
    let toolchain = Toolchain::find(arch.target(), install)?;
    println!("compiler {toolchain}");
    let target = target()?.join("image");
    let status = toolchain
        .cargo("build", arch.target())?
        .args([
            "--profile",
            "image",
            "--locked",
            "--package",
            package,
            "--lib",
        ])
        .arg("--no-default-features")
        .arg("--target-dir")
        .arg(&target)
        .current_dir(root())
        .status()
        .context("cargo")?;
    if !status.success() {
        bail!("the image did not build");
    }
    let made = target.join(arch.target()).join("image");
    let out = target.join(arch.name());
    std::fs::create_dir_all(&out)?;
    let copy = |from: &str, to: &str| -> Result<PathBuf> {
        let name = |kind| format!("{package}.{kind}");
        let (from, to) = (made.join(name(from)), out.join(name(to)));
        copy(&from, &to)?;
        Ok(to)
    };
    Ok(Built {
        image: copy("dll", "sys")?,
        symbols: copy("pdb", "pdb")?,
    })
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to)
        .with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
    Ok(())
}
