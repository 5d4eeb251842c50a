//! Our side of a case: a `vroce-lab peer` process, one simulated server with the driver on the guest's wire.

use super::cases::Speaker;
use super::guest::WirePaths;
use crate::image::IMAGE_VARIABLE;
use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A command whose process ends when this one does, however that ends.
pub fn dying_with_us(program: impl AsRef<OsStr>) -> Command {
    // Of Debian's util-linux, which is always there.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Which driver the peers load.
pub struct Driver {
    /// The file, if it is not the linked driver.
    image: Option<PathBuf>,
    /// What a peer says when it has it.
    says: String,
}

impl Driver {
    /// The linked driver, or that in an image.
    pub fn new(image: Option<&Path>) -> Result<Driver> {
        let image = image
            .map(|image| {
                image
                    .canonicalize()
                    .with_context(|| image.display().to_string())
            })
            .transpose()?;
        let name = image.as_deref().and_then(Path::file_name);
        let says = name.map_or_else(
            || "driver: linked".to_owned(),
            |name| format!("driver: image {}", name.to_string_lossy()),
        );
        Ok(Driver { image, says })
    }
}

/// How long a peer may take until it has its driver: a busy machine is much slower than an idle one.
const START: Duration = Duration::from_secs(60);

/// A running peer. Dropping it ends the process.
pub struct Peer {
    process: Child,
    lines: Receiver<String>,
    printed: String,
}

impl Peer {
    /// Starts `vroce-lab peer CASE` on the wire, capturing it to `capture`.
    pub fn start(
        lab: &Path,
        driver: &Driver,
        wire: &WirePaths,
        capture: &Path,
        speaker: Speaker,
        case: &[&str],
    ) -> Result<Peer> {
        let _ = std::fs::remove_file(&wire.host);
        let mut command = dying_with_us(lab);
        match &driver.image {
            Some(image) => command.env(IMAGE_VARIABLE, image),
            None => command.env_remove(IMAGE_VARIABLE),
        };
        let mut process = command
            .arg("peer")
            .arg("--wire")
            .arg(format!("unix:{}", wire.guest.display()))
            .arg("--local")
            .arg(&wire.host)
            .arg("--capture")
            .arg(capture)
            .args(case)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| lab.display().to_string())?;
        let output = process.stdout.take().context("the peer has no output")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut peer = Peer {
            process,
            lines,
            printed: String::new(),
        };
        let says = match speaker {
            Speaker::Driver => &driver.says,
            Speaker::Engine => "driver: none",
        };
        peer.wait_for(says, START)?;
        Ok(peer)
    }

    /// Waits until the peer prints a line that starts with `prefix`.
    pub fn wait_for(&mut self, prefix: &str, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.printed.push_str(&line);
                    self.printed.push('\n');
                    if line.starts_with(prefix) {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!(
                        "vroce did not say {prefix:?} in {limit:?}, only:\n{}",
                        self.printed
                    )
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("vroce ended without saying {prefix:?}:\n{}", self.printed)
                }
            }
        }
    }

    /// Waits for the process to end well and returns all it printed.
    pub fn finish(mut self, limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.printed.push_str(&line);
                    self.printed.push('\n');
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!(
                        "vroce did not end in {limit:?}; it printed:\n{}",
                        self.printed
                    )
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = loop {
            if let Some(status) = self.process.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                bail!(
                    "vroce closed its output and did not end in {limit:?}; it printed:\n{}",
                    self.printed
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        if !status.success() {
            bail!("vroce failed ({status}):\n{}", self.printed);
        }
        Ok(std::mem::take(&mut self.printed))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
