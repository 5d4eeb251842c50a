//! Installing packages of Debian.

use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};

/// Runs apt-get, quietly. Needs root.
pub fn apt(arguments: &[&str]) -> Result<()> {
    let status = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::null())
        .status()
        .context("apt-get")?;
    if !status.success() {
        bail!("`apt-get {}` failed ({status})", arguments.join(" "));
    }
    Ok(())
}
