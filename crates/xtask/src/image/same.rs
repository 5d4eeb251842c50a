//! Same seeds, same results: what the linked driver and its image do from one seed is compared.

use super::IMAGE_VARIABLE;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The lab, an image, and where what they write goes.
pub struct Comparison<'a> {
    /// `vroce-lab`.
    pub lab: &'a Path,
    /// The image.
    pub image: &'a Path,
    /// Folder of the files that are compared.
    pub folder: &'a Path,
}

impl Comparison<'_> {
    /// Whether the demo puts the same frames on the wire, byte by byte and at the same times: on a good wire, and on one that loses
    /// frames.
    pub fn demo(&self) -> Result<bool> {
        let demo = |name: &str, wire: &[&str]| {
            self.compare(name, "pcapng", |file| {
                let mut arguments = vec!["--capture", file];
                arguments.extend(wire);
                arguments.into_iter().map(str::to_owned).collect()
            })
        };
        Ok(demo("demo", &["--seed", "1"])? && demo("lossy", &["--seed", "7", "--loss", "0.01"])?)
    }

    /// Whether a random walk of so many calls gets the same answers and callbacks.
    pub fn walk(&self, calls: u64) -> Result<bool> {
        self.compare("walk", "txt", |file| {
            [
                "spin",
                "--seed",
                "1",
                "--calls",
                &calls.to_string(),
                "--tally",
                file,
            ]
            .map(str::to_owned)
            .into()
        })
    }

    /// Runs the lab with either driver; `false` if one fails or they write different files.
    fn compare(
        &self,
        name: &str,
        kind: &str,
        arguments: impl Fn(&str) -> Vec<String>,
    ) -> Result<bool> {
        let path =
            |driver: &str| -> PathBuf { self.folder.join(format!("{name}-{driver}.{kind}")) };
        let (linked, image) = (path("linked"), path("image"));
        for (file, driver) in [(&linked, None), (&image, Some(self.image))] {
            println!(
                "{name} of {}",
                driver.map_or("the linked driver", |_| "the image")
            );
            let mut lab = Command::new(self.lab);
            match driver {
                Some(image) => lab.env(IMAGE_VARIABLE, image),
                None => lab.env_remove(IMAGE_VARIABLE),
            };
            let _ = std::fs::remove_file(file);
            let status = lab
                .args(arguments(&file.to_string_lossy()))
                .status()
                .with_context(|| self.lab.display().to_string())?;
            if !status.success() {
                return Ok(false);
            }
        }
        let read = |path: &Path| std::fs::read(path).with_context(|| path.display().to_string());
        match difference(&read(&linked)?, &read(&image)?) {
            None => {
                println!("{name}: the image does what the linked driver does");
                Ok(true)
            }
            Some(at) => {
                println!(
                    "{name}: {} and {} differ from byte {at} on: from one seed, the image does not do what the linked driver does",
                    linked.display(),
                    image.display()
                );
                Ok(false)
            }
        }
    }
}

/// The first byte that differs. A file that is empty is like no other: whoever should have written it did not.
fn difference(a: &[u8], b: &[u8]) -> Option<usize> {
    if a == b && !a.is_empty() {
        return None;
    }
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    Some(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_found() {
        assert_eq!(difference(b"abc", b"abc"), None);
        assert_eq!(difference(b"abc", b"abd"), Some(2));
        assert_eq!(difference(b"abc", b"ab"), Some(2));
        assert_eq!(difference(b"", b""), Some(0));
    }
}
