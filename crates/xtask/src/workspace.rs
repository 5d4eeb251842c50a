//! Where things are, and building what the tasks run.

use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

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

/// The cargo that runs this, or the one on the path.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs cargo at the root of the repository: what it prints for programs is caught, what it says to people is shown.
pub fn printed(command: &mut Command) -> Result<Output> {
    let command = command.current_dir(root()).stdin(Stdio::null());
    command.stderr(Stdio::inherit()).output().context("cargo")
}

/// Makes a folder of a task's own; nobody else works in it as long as the lock lives.
pub fn lock(folder: &Path) -> Result<File> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let lock = File::create(folder.join("lock"))?;
    if lock.try_lock().is_err() {
        bail!("another run works in {}", folder.display());
    }
    Ok(lock)
}

/// Builds the lab of the tree at `root`, optimised. Gives the program.
///
/// It is for this machine, whatever the environment says that others are built for: so cargo puts it where it is looked for.
pub fn build_lab(root: &Path, target: &Path) -> Result<PathBuf> {
    let status = cargo()
        .args(["build", "--release", "--locked", "--package", "vroce-lab"])
        .arg("--target-dir")
        .arg(target)
        .env_remove("CARGO_BUILD_TARGET")
        .current_dir(root)
        .status()
        .context("cargo")?;
    if !status.success() {
        bail!("vroce-lab did not build");
    }
    let program = target
        .join("release/vroce-lab")
        .with_extension(std::env::consts::EXE_EXTENSION);
    ensure!(
        program.exists(),
        "cargo did not put vroce-lab at {}",
        program.display()
    );
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Folders below `from` with sources in them, but for tests.
    fn folders(root: &Path, from: &str, found: &mut Vec<String>) {
        let mut sources = false;
        for entry in std::fs::read_dir(root.join(from)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if entry.file_type().unwrap().is_dir() {
                if name != "tests" {
                    folders(root, &format!("{from}/{name}"), found);
                }
            } else {
                sources |= [".rs", ".c", ".h"].iter().any(|end| name.ends_with(end));
            }
        }
        if sources {
            found.push(from.to_owned());
        }
    }

    #[test]
    fn every_folder_of_sources_is_in_the_architecture() {
        let root = root();
        let text = std::fs::read_to_string(root.join("docs/architecture.md")).unwrap();
        let mut found = Vec::new();
        for from in ["src", "examples", "tests/ndk", "tests/miniport"] {
            folders(&root, from, &mut found);
        }
        for package in ["lab", "ntsim", "roce", "xtask"] {
            folders(&root, &format!("crates/{package}/src"), &mut found);
        }
        assert!(found.len() > 40, "{found:?}");
        // What a package is for stands in the table of packages; what is part of one file is for the same as that.
        found.retain(|folder| folder != "src" && !folder.ends_with("/src"));
        found.retain(|folder| !root.join(format!("{folder}.rs")).exists());
        found.retain(|folder| !text.contains(&format!("`{folder}`")));
        assert!(found.is_empty(), "not named: {found:?}");
    }

    #[test]
    fn a_folder_is_locked_once() {
        let folder = target()
            .unwrap()
            .join(format!("lock-{}", std::process::id()));
        let first = lock(&folder).unwrap();
        assert!(lock(&folder).is_err());
        drop(first);
        assert!(lock(&folder).is_ok());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
