//! `cargo xtask audit-image`: what can be seen of an image without running it.

mod code;
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
    /// The image [default: builds vroce.sys for x64].
    image: Option<PathBuf>,
    /// Install a compiler for the target if none is here (Debian, needs root).
    #[arg(long)]
    install: bool,
}

/// One thing that was looked at.
pub struct Finding {
    /// What.
    pub what: &'static str,
    /// What was seen, or what is wrong.
    pub seen: Result<String, String>,
}

/// Audits an image; `false` when something is wrong.
pub fn run(options: &Options) -> Result<bool> {
    let path = match &options.image {
        Some(path) => path.clone(),
        None => super::build(Arch::X64, options.install)?.image,
    };
    let findings = audit(&path)?;
    let width = findings.iter().map(|f| f.what.len()).max().unwrap_or(0);
    for finding in &findings {
        match &finding.seen {
            Ok(seen) => println!("ok     {:<width$}  {seen}", finding.what),
            Err(wrong) => println!("WRONG  {:<width$}  {wrong}", finding.what),
        }
    }
    let wrong = findings.iter().filter(|f| f.seen.is_err()).count();
    println!("{} passed, {wrong} failed", findings.len() - wrong);
    Ok(wrong == 0)
}

/// Looks at everything.
pub fn audit(path: &Path) -> Result<Vec<Finding>> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let image = pe::Pe::parse(&bytes).with_context(|| format!("{} is no image", path.display()))?;
    let mut findings = headers::look(&image);
    findings.extend(code::look(&image));
    findings.push(stack::look(&image, &names::Names::beside(path, &image)));
    Ok(findings)
}
