//! `cargo xtask check-wdk`: the way through the WDK, as far as it can be checked without Windows.
//!
//! The driver is type-checked for Windows with the feature `wdk` and the real crates wdk, wdk-alloc and wdk-panic. Two crates compile
//! on Windows only and are replaced (`data/wdk-stand-ins`): wdk-sys by Microsoft's metadata under its names, wdk-build by its
//! signatures. The driver's build script runs as on a Windows host, and so do the comparisons of `src/image/wdk`.

use super::Arch;
use super::toolchain::Toolchain;
use crate::workspace::{lock, root, target};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Options of `cargo xtask check-wdk`.
#[derive(clap::Args)]
pub struct Options {
    /// The processor the driver is checked for.
    #[arg(long, value_enum, default_value = "x64")]
    arch: Arch,
    /// Install a compiler for the target if none is here (Debian, needs root).
    #[arg(long)]
    install: bool,
}

/// What cargo reads of the repository.
const TREE: [&str; 6] = ["Cargo.toml", "build.rs", "build", "crates", "src", "tests"];

/// Checks; `false` when the driver does not compile.
pub fn run(options: &Options) -> Result<bool> {
    let started = Instant::now();
    let toolchain = Toolchain::find(options.arch.target(), options.install)?;
    println!("compiler {toolchain}");
    let root = root().canonicalize()?;
    let target = target()?;
    let folder = target.join("wdk");
    let _lock = lock(&folder)?;
    let tree = mirror(&root, &folder.join("tree"))?;
    let stand_in = |name: &str| {
        let path = root.join("crates/xtask/data/wdk-stand-ins").join(name);
        format!("patch.crates-io.{name}.path='{}'", path.display())
    };
    let status = toolchain
        .cargo("check", options.arch.target())?
        .args(["--profile", "image", "--package", "vroce", "--lib"])
        .args(["--config", &stand_in("wdk-build")])
        .args(["--config", &stand_in("wdk-sys")])
        // For what is built for this machine: the build script.
        .args(["-Zhost-config", "-Ztarget-applies-to-host"])
        .args(["--config", "target-applies-to-host=false"])
        .args(["--config", "host.rustflags=['--cfg', 'wdk_stand_in']"])
        // `-Z` outside of a nightly.
        .env("RUSTC_BOOTSTRAP", "1")
        .arg("--target-dir")
        // The image's, for the `core` that is there.
        .arg(target.join("image"))
        .current_dir(&tree)
        .status()
        .context("cargo")?;
    println!("checked in {:.1} s", started.elapsed().as_secs_f64());
    Ok(status.success())
}

/// The repository as links in a folder of our own, with a copy of Cargo.lock: cargo writes the stand-ins into it.
fn mirror(root: &Path, tree: &Path) -> Result<PathBuf> {
    if tree.exists() {
        std::fs::remove_dir_all(tree).with_context(|| tree.display().to_string())?;
    }
    std::fs::create_dir_all(tree)?;
    for name in TREE {
        link(&root.join(name), &tree.join(name)).with_context(|| format!("linking {name}"))?;
    }
    std::fs::copy(root.join("Cargo.lock"), tree.join("Cargo.lock"))?;
    Ok(tree.to_owned())
}

#[cfg(unix)]
fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(from, to)
}

#[cfg(not(unix))]
fn link(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(std::io::Error::other(
        "on Windows, build with the WDK instead",
    ))
}

#[cfg(test)]
mod tests {
    use crate::workspace::root;

    /// Nothing here can run `cargo make`: these are the names in three files that have to agree for it to work.
    #[test]
    fn cargo_make_builds_what_windows_can_load() {
        let file = |name: &str| std::fs::read_to_string(root().join(name)).unwrap();
        let (makefile, manifest) = (file("Makefile.toml"), file("Cargo.toml"));
        let profile = makefile
            .lines()
            .find_map(|line| line.strip_prefix("CARGO_MAKE_CARGO_PROFILE = "))
            .expect("where wdk-build looks for the driver");
        assert!(
            makefile.contains(&format!("\"--profile\",\n  {profile},")),
            "the driver is built where wdk-build looks for it"
        );
        let name = profile.trim_matches('"');
        let section = manifest
            .split("\n[")
            .find(|section| section.starts_with(&format!("profile.{name}]")))
            .expect("the profile");
        assert!(
            section.contains("panic = \"abort\""),
            "a driver does not unwind"
        );
        assert!(file(".cargo/config.toml").contains("target-feature=+crt-static"));
        let inx = "inf/vroce.inx";
        assert!(makefile.contains(inx) && root().join(inx).exists());
    }
}
