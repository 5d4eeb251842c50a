//! Which compiler makes the image, and with which linker.

use anyhow::{Context, Result, bail};
use std::env::consts::EXE_SUFFIX;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Debian's Rust with the standard library's source, from which `core` and `alloc` are built for any target.
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
const DEBIAN_LIBRARY: &str = "/usr/lib/rustlib/src/rust/library/core/src/lib.rs";

/// Has lld-link.
const DEBIAN_LINKER: &str = "lld";

/// Where `core` and `alloc` for the target come from.
pub enum Toolchain {
    /// From the Rust in use: somebody has added the target.
    Rustup,
    /// Built from source with Debian's Rust.
    Debian,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rustup => "the Rust in use, which has the target",
            Self::Debian => "Debian's Rust (rustc-web), building core and alloc from rust-web-src",
        })
    }
}

/// What a command prints, without the end of line.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("{command:?} does not start"))?;
    if !output.status.success() {
        bail!(
            "{command:?} failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn rustc() -> OsString {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}

impl Toolchain {
    /// The first that can build for the target. With `install`, compiler and linker are installed if none is here.
    pub fn find(target: &str, install: bool) -> Result<Toolchain> {
        if install && linker().is_err() {
            crate::debian::install(&[DEBIAN_LINKER])?;
        }
        let library =
            output(Command::new(rustc()).args(["--print", "target-libdir", "--target", target]));
        if library.is_ok_and(|library| has_core(Path::new(&library))) {
            return Ok(Toolchain::Rustup);
        }
        if install && !Path::new(DEBIAN_LIBRARY).exists() {
            crate::debian::install(&DEBIAN_PACKAGES)?;
        }
        if Path::new(DEBIAN_LIBRARY).exists() {
            return Ok(Toolchain::Debian);
        }
        bail!(
            "no Rust here can build for {target}: `rustup target add {target}`, or on Debian `apt-get install {}` \
             (--install does that)",
            DEBIAN_PACKAGES.join(" ")
        )
    }

    /// A cargo that does something (build, check) for the target, with everything set but what to do it with.
    pub fn cargo(&self, command: &str, target: &str) -> Result<Command> {
        let mut cargo = match self {
            Self::Rustup => crate::workspace::cargo(),
            Self::Debian => Command::new("/usr/bin/cargo"),
        };
        cargo.args([command, "--target", target]);
        let variable = |what: &str| {
            format!(
                "CARGO_TARGET_{}_{what}",
                target.to_uppercase().replace('-', "_")
            )
        };
        cargo
            .env(variable("LINKER"), linker()?)
            .env(variable("RUSTFLAGS"), rustflags(target)?)
            // What the surroundings set is for the host.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env_remove("CARGO_BUILD_TARGET");
        if let Self::Debian = self {
            cargo
                .arg("-Zbuild-std=core,alloc")
                // `-Z` outside of a nightly.
                .env("RUSTC_BOOTSTRAP", "1")
                .env("RUSTC", "/usr/bin/rustc")
                .env_remove("RUSTUP_TOOLCHAIN");
        }
        Ok(cargo)
    }
}

fn has_core(library: &Path) -> bool {
    std::fs::read_dir(library).is_ok_and(|files| {
        files
            .flatten()
            .any(|file| file.file_name().to_string_lossy().starts_with("libcore-"))
    })
}

/// rust-lld, which every rustup toolchain has, or LLVM's lld-link.
pub fn linker() -> Result<PathBuf> {
    let own = output(Command::new(rustc()).args(["--print", "sysroot"])).and_then(|sysroot| {
        let version = output(Command::new(rustc()).arg("--version").arg("--verbose"))?;
        let host = version
            .lines()
            .find_map(|line| line.strip_prefix("host: "))
            .context("rustc names no host")?
            .to_owned();
        let folder = Path::new(&sysroot).join(format!("lib/rustlib/{host}/bin"));
        Ok(folder.join(format!("rust-lld{EXE_SUFFIX}")))
    });
    if let Ok(linker) = own
        && linker.exists()
    {
        return Ok(linker);
    }
    if output(Command::new("lld-link").arg("--version")).is_ok() {
        return Ok("lld-link".into());
    }
    bail!(
        "no linker for Windows images: neither rustup's rust-lld nor lld-link is here (rustup's toolchains have it; Debian: \
         apt-get install {DEBIAN_LINKER}, which --install does)"
    )
}

/// What the image is compiled with. No path of this machine gets into it.
fn rustflags(target: &str) -> Result<String> {
    let root = crate::workspace::root().canonicalize()?;
    let mut flags = vec![
        "-Ctarget-feature=+crt-static".to_owned(),
        "-Clink-arg=/PDBALTPATH:vroce.pdb".to_owned(),
        // The time stamp is a hash of the contents.
        "-Clink-arg=/Brepro".to_owned(),
        format!("--remap-path-prefix={}=vroce", root.display()),
    ];
    // rust-lld does not mark them by itself, as Microsoft's linker does for drivers: r, w, e as they are, p for "not paged".
    for (section, attributes) in [
        (".text", "erp"),
        (".rdata", "rp"),
        (".data", "rwp"),
        (".pdata", "rp"),
        (".rsrc", "rp"),
    ] {
        flags.push(format!("-Clink-arg=/SECTION:{section},{attributes}"));
    }
    if target.starts_with("x86_64") || target.starts_with("aarch64") {
        flags.push("-Ccontrol-flow-guard=checks".to_owned());
    }
    if let Some(home) = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
    {
        flags.push(format!("--remap-path-prefix={}=cargo", home.display()));
    }
    Ok(flags.join(" "))
}
