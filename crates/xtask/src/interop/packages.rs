//! The Debian packages that the Linux peer is made of.

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
            "these Debian packages are missing: {list}\n  run `cargo xtask interop --install`, or `apt-get install {list}`"
        );
    }
    println!("installing {list}");
    apt(&["update", "-qq"])?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(&missing);
    apt(&arguments)
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

fn apt(arguments: &[&str]) -> Result<()> {
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

/// The name of the newest Debian kernel package, e.g. `linux-image-6.1.0-50-amd64`.
pub fn kernel_package() -> Result<String> {
    let output = Command::new("apt-cache")
        .args(["depends", "linux-image-amd64"])
        .output()
        .context("apt-cache")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-"))
        .map(str::to_owned)
        .context("apt-cache knows no kernel for linux-image-amd64: run `apt-get update`")
}
