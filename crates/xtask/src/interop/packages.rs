//! The Debian packages that the Linux peer is made of.

use crate::debian::apt;
use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};

/// Packages that must be installed on the host: QEMU runs the guest, the others are copied into it.
const PACKAGES: &[&str] = &[
    "busybox-static",
    "cpio",
    "ibverbs-providers",
    "ibverbs-utils",
    "iproute2",
    "kmod",
    "perftest",
    "qemu-system-x86",
    "rdmacm-utils",
];

/// Checks that every package is installed; installs what is missing when `install` is set.
pub fn ensure(install: bool) -> Result<()> {
    let missing = missing()?;
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !install {
        bail!(
            "these Debian packages are missing: {list}: run `cargo xtask interop --install`, or `apt-get install {list}`"
        );
    }
    crate::debian::install(&missing)
}

fn missing() -> Result<Vec<&'static str>> {
    let mut missing = Vec::new();
    for package in PACKAGES {
        let output = Command::new("dpkg-query")
            .args(["-W", "-f", "${db:Status-Status}", package])
            .stderr(Stdio::null())
            .output()
            .context("dpkg-query: the interop suite needs a Debian system")?;
        if output.stdout != b"installed" {
            missing.push(*package);
        }
    }
    Ok(missing)
}

/// The versions of the packages that the guest is made of, the kernel's included.
pub fn versions(kernel: &str) -> Result<String> {
    let installed = Command::new("dpkg-query")
        .args(["-W", "-f", "${Package} ${Version}\n"])
        .args(PACKAGES)
        .output()
        .context("dpkg-query")?;
    let available = Command::new("apt-cache")
        .args(["show", "--no-all-versions", kernel])
        .output()
        .context("apt-cache")?;
    let available = String::from_utf8_lossy(&available.stdout);
    let version = available.lines().find(|line| line.starts_with("Version:"));
    Ok(format!(
        "{}{kernel} {}",
        String::from_utf8_lossy(&installed.stdout),
        version.unwrap_or("of no known version")
    ))
}

/// The name of the newest Debian kernel package, e.g. `linux-image-6.1.0-50-amd64`. Where no lists of packages are they are
/// fetched if `update` is set.
pub fn kernel_package(update: bool) -> Result<String> {
    if let Some(package) = known_kernel()? {
        return Ok(package);
    }
    if update {
        apt(&["update", "-qq"])?;
    }
    known_kernel()?.context(
        "apt-cache knows no kernel for linux-image-amd64: run `cargo xtask interop --install`, or `apt-get update`",
    )
}

fn known_kernel() -> Result<Option<String>> {
    let output = Command::new("apt-cache")
        .args(["depends", "linux-image-amd64"])
        .output()
        .context("apt-cache")?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-"))
        .map(str::to_owned))
}
