//! `cargo xtask audit-image`: what can be seen of an image without running it.

mod code;
mod handlers;
mod headers;
mod names;
mod pe;
mod stack;

use super::Arch;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Options of `cargo xtask audit-image`.
#[derive(clap::Args)]
pub struct Options {
    /// The image, signed or not, with its symbols beside it [default: builds vroce.sys].
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// The processor the image is for.
    #[arg(long, value_enum, default_value = "x64")]
    arch: Arch,
    /// Install a compiler for the target if none is here (Debian, needs root).
    #[arg(long)]
    install: bool,
}

/// One thing that was looked at.
pub struct Finding {
    /// What.
    pub what: &'static str,
    /// What was seen.
    pub seen: Seen,
}

/// What came of a look.
pub enum Seen {
    /// What it should be.
    Right(String),
    /// What is wrong.
    Wrong(String),
    /// Nobody looked, because nobody here can.
    Nothing(&'static str),
}

impl From<Result<String, String>> for Seen {
    fn from(seen: Result<String, String>) -> Self {
        match seen {
            Ok(seen) => Self::Right(seen),
            Err(wrong) => Self::Wrong(wrong),
        }
    }
}

/// Why the code of an image for another processor than x64 is not looked at.
const X64_ONLY: &str = "not looked at: the decoder knows x64 only";

/// Audits an image; `false` when something is wrong.
pub fn run(options: &Options) -> Result<bool> {
    let path = match &options.image {
        Some(path) => path.clone(),
        None => super::build(options.arch, options.install)?.image,
    };
    let findings = audit(&path, options.arch)?;
    let width = findings.iter().map(|f| f.what.len()).max().unwrap_or(0);
    let (mut right, mut wrong, mut nothing) = (0, 0, 0);
    for Finding { what, seen } in &findings {
        let (word, text, count) = match seen {
            Seen::Right(text) => ("ok", text.as_str(), &mut right),
            Seen::Wrong(text) => ("WRONG", text.as_str(), &mut wrong),
            Seen::Nothing(text) => ("-", *text, &mut nothing),
        };
        println!("{word:<5}  {what:<width$}  {text}");
        *count += 1;
    }
    println!("{right} passed, {wrong} failed, {nothing} skipped");
    Ok(wrong == 0)
}

/// What can be seen of the control flow guard of an image for x64: its calls are checked, and its table of targets is one.
pub fn guard(path: &Path) -> Result<Finding> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let image = pe::Pe::parse(&bytes).with_context(|| format!("{} is no image", path.display()))?;
    Ok(headers::guarded(&image))
}

/// Looks at everything.
pub fn audit(path: &Path, arch: Arch) -> Result<Vec<Finding>> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let image = pe::Pe::parse(&bytes).with_context(|| format!("{} is no image", path.display()))?;
    Ok(look(&image, arch, &names::Names::beside(path, &image)))
}

fn look(image: &pe::Pe<'_>, arch: Arch, names: &names::Names) -> Vec<Finding> {
    let mut findings = headers::look(image, arch);
    findings.push(code::look(image, names));
    findings.push(stack::look(image, names));
    findings.push(handlers::look(image));
    findings
}

#[cfg(test)]
mod small;
#[cfg(test)]
mod tests;
