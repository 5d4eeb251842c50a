//! Where things are, and building what the tasks run.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Cargo's target folder: xtask itself runs from its `debug`.
pub fn target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2);
    Ok(target
        .context("xtask runs outside a target folder")?
        .to_owned())
}

/// Builds the lab of the tree at `root`, optimised. Gives the program.
pub fn build_lab(root: &Path, target: &Path) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(&cargo)
        .args(["build", "--release", "--locked", "--package", "vroce-lab"])
        .arg("--target-dir")
        .arg(target)
        .current_dir(root)
        .status()
        .context("cargo")?;
    if !status.success() {
        bail!("vroce-lab did not build");
    }
    Ok(target.join("release/vroce-lab"))
}
