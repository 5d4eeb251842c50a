//! The zip, and the list of what is in it.

use super::stamp;
use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::path::{Path, PathBuf};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Names and contents of a folder's files, by name.
fn files(folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        all.push((name, std::fs::read(entry.path())?));
    }
    all.sort();
    Ok(all)
}

/// What sha256sum prints of the files of a folder.
pub fn list(folder: &Path) -> Result<String> {
    Ok(files(folder)?
        .into_iter()
        .map(|(name, bytes)| told(&name, &bytes))
        .collect())
}

/// What sha256sum prints of one file, without its folder.
pub fn line(path: &Path) -> Result<String> {
    let name = path.file_name().context("a file without a name")?;
    Ok(told(&name.to_string_lossy(), &std::fs::read(path)?))
}

fn told(name: &str, bytes: &[u8]) -> String {
    let hash: String = sha256(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("{hash}  {name}\n")
}

/// Writes SHA256SUMS into a folder, and the folder into a zip beside it, under a name.
pub fn pack(folder: &Path, name: &str, seconds: i64) -> Result<PathBuf> {
    std::fs::write(folder.join("SHA256SUMS"), list(folder)?)?;
    let path = folder.with_file_name(format!("{name}.zip"));
    let mut zip = ZipWriter::new(std::fs::File::create(&path)?);
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(time(seconds)?)
        .unix_permissions(0o644);
    for (file, bytes) in files(folder)? {
        zip.start_file(format!("{name}/{file}"), options)?;
        zip.write_all(&bytes)?;
    }
    zip.finish()?;
    Ok(path)
}

/// A moment as zip files have it, UTC.
fn time(seconds: i64) -> Result<DateTime> {
    let (year, month, day) = stamp::civil(seconds.div_euclid(86_400));
    let (hour, minute, second) = stamp::clock(seconds);
    DateTime::from_date_and_time(
        u16::try_from(year)?,
        month as u8,
        day as u8,
        hour as u8,
        minute as u8,
        second as u8,
    )
    .context("zip files begin in 1980")
}

/// A file's size, rounded up.
pub fn kib(path: &Path) -> Result<u64> {
    Ok(std::fs::metadata(path)?.len().div_ceil(1024))
}
