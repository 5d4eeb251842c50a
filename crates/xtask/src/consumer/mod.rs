//! `cargo xtask consumer`: the example of an NDK consumer in C, built as a driver's image on this machine.

mod exports;
mod facts;
pub(crate) mod interfaces;
mod mistakes;
pub mod test;

use crate::image::toolchain::{linker, output};
use crate::workspace::{root, target};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Options of `cargo xtask consumer`.
#[derive(clap::Args)]
pub struct Options {
    /// Install clang if it is not here (Debian, needs root).
    #[arg(long)]
    install: bool,
}

/// What every source is compiled with. Run in the example's folder, so that no path of this machine gets into the symbols.
const COMPILE: [&str; 14] = [
    "--target=x86_64-pc-windows-msvc",
    "-ffreestanding",
    // Which free-standing code has not by itself, and every function of an image for x64 must have.
    "-fasynchronous-unwind-tables",
    "-std=c17",
    "-O2",
    "-g",
    "-gcodeview",
    "-fdebug-compilation-dir=.",
    // A provider calls back through pointers: where the kernel checks such calls, only into drivers that have a table of their targets.
    "-Xclang",
    "-cfguard",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Iinclude",
];

/// What the headers are compiled with for this machine, as crates/consumer-c does to link the example: long has 64 bits here.
const COMPILE_HERE: [&str; 6] = [
    "-ffreestanding",
    "-fshort-wchar",
    "-std=c17",
    "-Wall",
    "-Werror",
    "-Iinclude",
];

/// How a driver is linked without the WDK.
const LINK: [&str; 13] = [
    "/DRIVER",
    "/SUBSYSTEM:NATIVE,10.00",
    "/ENTRY:DriverEntry",
    "/NODEFAULTLIB",
    "/MANIFEST:NO",
    "/DYNAMICBASE",
    "/HIGHENTROPYVA",
    "/NXCOMPAT",
    // Nothing jumps as longjmp does: no second table.
    "/guard:cf,nolongjmp",
    // A checksum, which the kernel's loader verifies for drivers.
    "/RELEASE",
    "/DEBUG",
    "/PDBALTPATH:consumer.pdb",
    "/Brepro",
];

/// The compiler of this machine, as crates/consumer-c finds it.
#[cfg(test)]
fn compiler_here() -> Command {
    Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
}

/// Builds the example and says where it is.
pub fn run(options: &Options) -> Result<bool> {
    let image = build(&clang(options.install)?)?;
    println!("image    {}", image.display());
    println!("symbols  {}", image.with_extension("pdb").display());
    println!(
        "try it   cargo run --release -- consumer --image {}",
        image.display()
    );
    Ok(true)
}

/// The folder of the example's sources.
fn source() -> PathBuf {
    root().join("examples/consumer")
}

/// Builds `consumer.sys`, and compares its headers with the facts.
pub fn build(clang: &Path) -> Result<PathBuf> {
    let source = source();
    let out = target()?.join("consumer");
    std::fs::create_dir_all(&out)?;
    let facts = out.canonicalize()?.join("facts.c");
    std::fs::write(&facts, facts::assertions(&source.join("include"))?)?;
    let object = facts.with_extension("obj");
    for (target, options) in [("Windows", &COMPILE[..]), ("this machine", &COMPILE_HERE)] {
        compile(clang, options, &source, &facts, &object)
            .with_context(|| format!("for {target} the headers differ from the facts"))?;
    }
    build_from(clang, &source, &out)
}

/// Builds `consumer.sys` in a folder from the sources in another.
fn build_from(clang: &Path, source: &Path, out: &Path) -> Result<PathBuf> {
    let out = out.canonicalize()?;
    let mut inputs = Vec::new();
    for file in with_extension(source, "c")? {
        let object = out.join(file.with_extension("obj"));
        compile(clang, &COMPILE, source, &file, &object)?;
        inputs.push(object);
    }
    for file in with_extension(source, "def")? {
        let library = out.join(file.with_extension("lib"));
        link(source, |lld| {
            lld.args(["/lib", "/machine:x64"])
                .arg(format!("/def:{}", file.display()))
                .arg(format!("/out:{}", library.display()));
        })?;
        inputs.push(library);
    }
    let image = out.join("consumer.sys");
    link(source, |lld| {
        lld.args(LINK)
            .arg(format!("/OUT:{}", image.display()))
            .args(&inputs);
    })?;
    Ok(image)
}

/// clang, which compiles for every target.
fn clang(install: bool) -> Result<PathBuf> {
    let clang = PathBuf::from(std::env::var_os("CLANG").unwrap_or_else(|| "clang".into()));
    let found = || output(Command::new(&clang).arg("--version"));
    if found().is_err() && install {
        crate::debian::install(&["clang"])?;
    }
    match found() {
        Ok(version) => {
            println!("compiler {}", version.lines().next().unwrap_or_default());
            Ok(clang)
        }
        Err(_) => bail!(
            "clang is not here: on Debian `apt-get install clang` (--install does that); CLANG names another"
        ),
    }
}

/// Files of a folder, by name.
fn with_extension(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = PathBuf::from(entry?.file_name());
        if path.extension().is_some_and(|e| e == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn compile(
    clang: &Path,
    options: &[&str],
    folder: &Path,
    source: &Path,
    object: &Path,
) -> Result<()> {
    let status = Command::new(clang)
        .current_dir(folder)
        .args(options)
        .arg("-c")
        .arg(source)
        .arg("-o")
        .arg(object)
        .status()
        .context("clang")?;
    if !status.success() {
        bail!("{} does not compile", source.display());
    }
    Ok(())
}

/// Runs lld as Microsoft's linker.
fn link(folder: &Path, arguments: impl FnOnce(&mut Command)) -> Result<()> {
    let linker = linker()?;
    let mut lld = Command::new(&linker);
    lld.current_dir(folder);
    if linker.file_stem().is_some_and(|name| name == "rust-lld") {
        lld.args(["-flavor", "link"]);
    }
    arguments(&mut lld);
    let status = lld.status().with_context(|| linker.display().to_string())?;
    if !status.success() {
        bail!("{} failed", linker.display());
    }
    Ok(())
}
