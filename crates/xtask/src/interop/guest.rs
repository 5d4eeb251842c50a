//! A running Linux guest: a QEMU process, a command channel, a NIC on a pair of unix datagram sockets.

use super::cases::Ends;
use super::host::dying_with_us;
use super::image::Image;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// How long a guest may take to boot under software emulation on a busy machine.
const BOOT_LIMIT: Duration = Duration::from_secs(180);

/// The link MTU of the guest's NIC: 4096 bytes of payload and the headers around it.
const MTU: u16 = 4192;

/// That of most networks, for a path MTU of 1024.
const USUAL_MTU: u16 = 1500;

/// What a command in the guest printed, and its exit status.
#[derive(Debug)]
pub struct Output {
    /// Exit status of the shell that ran it.
    pub status: i32,
    /// Standard output and error, interleaved.
    pub text: String,
}

/// A guest that answers commands. Dropping it ends the QEMU process.
pub struct Guest {
    qemu: Child,
    channel: BufReader<UnixStream>,
    next_number: u32,
}

/// A command left running in the guest.
pub struct Job(u32);

/// The two ends of the guest's wire: QEMU receives on `guest` and sends to `host`.
pub struct WirePaths {
    /// Bound by QEMU.
    pub guest: PathBuf,
    /// Bound by the simulated wire.
    pub host: PathBuf,
}

impl Guest {
    /// Boots `image` and waits until it takes commands. What its console says goes to the file `console`, what QEMU says beside it,
    /// the command socket into `sockets`.
    pub fn boot(image: &Image, console: &Path, sockets: &Path, wire: &WirePaths) -> Result<Guest> {
        let channel_path = sockets.join("command");
        for path in [&channel_path, &wire.guest] {
            let _ = std::fs::remove_file(path);
        }
        let qemu_log = console.with_extension("qemu.log");
        let log = File::create(&qemu_log)?;
        let mut qemu = dying_with_us("qemu-system-x86_64")
            .args(["-nodefaults", "-display", "none", "-no-reboot"])
            .args(["-machine", "q35", "-cpu", "max", "-m", "512"])
            // For one processor that stays alone, QEMU's translation leaves out what makes instructions atomic, and barriers with it,
            // although its devices work on another thread: then a notification of virtio gets lost now and then, and the NIC is deaf
            // or dumb for good. A second one that could come is enough.
            .args(["-smp", "1,maxcpus=2"])
            .args(["-accel", "tcg,thread=multi"])
            .arg("-kernel")
            .arg(&image.kernel)
            .arg("-initrd")
            .arg(&image.initramfs)
            // On a machine with much to do, the emulated timer may be too late for the kernel's look whether it works at all.
            .args(["-append", "console=ttyS0 quiet panic=-1 no_timer_check"])
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .arg("-serial")
            .arg(format!(
                "unix:{},server=on,wait=off",
                channel_path.display()
            ))
            .arg("-netdev")
            .arg(format!(
                "dgram,id=n0,local.type=unix,local.path={},remote.type=unix,remote.path={}",
                wire.guest.display(),
                wire.host.display()
            ))
            .arg("-device")
            .arg(format!(
                "virtio-net-pci,netdev=n0,mac=52:54:00:00:00:02,host_mtu={MTU},mrg_rxbuf=off"
            ))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("qemu-system-x86_64")?;
        let started = Instant::now();
        let stream = loop {
            match UnixStream::connect(&channel_path) {
                Ok(stream) => break stream,
                Err(_) if started.elapsed() < BOOT_LIMIT && qemu.try_wait()?.is_none() => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => {
                    let _ = qemu.kill();
                    let _ = qemu.wait();
                    bail!("QEMU did not start ({error}); see {}", qemu_log.display());
                }
            }
        };
        let mut guest = Guest {
            qemu,
            channel: BufReader::new(stream),
            next_number: 0,
        };
        guest
            .read_until("##ready", BOOT_LIMIT)
            .with_context(|| format!("the guest did not boot; see {}", console.display()))?;
        Ok(guest)
    }

    /// Gives the NIC its addresses and puts soft-RoCE on it. Fails with what the guest said when it cannot.
    pub fn bring_up_rdma(&mut self, addresses: &[Ends]) -> Result<()> {
        self.run_checked(&format!("ip link set eth0 mtu {MTU}"))?;
        // Nobody else is there: an IPv6 address needs no time to find out that it is the only one.
        self.run_checked("echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad")?;
        for ends in addresses {
            self.run_checked(&format!(
                "ip addr add {}/{} dev eth0",
                ends.guest, ends.prefix
            ))?;
        }
        self.run_checked("ip link set eth0 up")?;
        self.run_checked("rdma link add rxe0 type rxe netdev eth0")?;
        // The GID table follows the address list through a notifier; RDMA-CM wants the entry of the address it is given.
        for ends in addresses {
            let gid = gid(ends.guest)?;
            self.run_checked(&format!(
                "for i in 1 2 3 4 5 6 7 8 9 10; do grep -q {gid} /sys/class/infiniband/rxe0/ports/1/gids/* 2>/dev/null && exit 0; sleep 0.2; done; exit 1"
            ))
            .with_context(|| format!("no GID for {} appeared", ends.guest))?;
        }
        Ok(())
    }

    /// Sets the NIC up for a path MTU of 4096, or of 1024.
    pub fn set_path_mtu(&mut self, wide: bool) -> Result<()> {
        let mtu = if wide { MTU } else { USUAL_MTU };
        self.run_checked(&format!("ip link set eth0 mtu {mtu}"))
            .map(drop)
    }

    /// The number of an address's GID in the table of rdma_rxe.
    pub fn gid_index(&mut self, address: &str) -> Result<u32> {
        let gid = gid(address)?;
        let folder = "/sys/class/infiniband/rxe0/ports/1/gids";
        let path =
            self.run_checked(&format!("grep -l {gid} {folder}/* 2>/dev/null | head -n 1"))?;
        let name = path.trim().rsplit('/').next().unwrap_or_default();
        name.parse()
            .with_context(|| format!("no GID for {address} among {path:?}"))
    }

    /// Runs a command line and waits for it. What it prints comes over an emulated serial line, so it should be little.
    pub fn run(&mut self, command: &str, limit: Duration) -> Result<Output> {
        debug_assert!(!command.contains('\n'), "one command, one line");
        // Answers of a command that was given up on come late; the number tells them apart.
        let number = self.next_number();
        writeln!(self.channel.get_mut(), "{number} {command}")?;
        let marker = format!("##done {number} ");
        let text = self
            .read_until(&marker, limit)
            .with_context(|| format!("in the guest: {command}"))?;
        let (text, status) = text
            .rsplit_once(&marker)
            .context("the guest's answer has no status")?;
        let text = text.rsplit("##done ").next().unwrap_or(text);
        Ok(Output {
            status: status.trim().parse().context("exit status")?,
            text: text.to_owned(),
        })
    }

    fn next_number(&mut self) -> u32 {
        self.next_number += 1;
        self.next_number
    }

    /// What its NIC has counted (bytes, packets, errors and losses either way, interrupts) and what its kernel has said last, or that
    /// it does not answer: for who asks why a row failed.
    pub fn state(&mut self) -> String {
        let look = "grep eth0 /proc/net/dev; grep virtio /proc/interrupts; dmesg | tail -n 3";
        match self.run(look, Duration::from_secs(10)) {
            Ok(output) => output.text,
            Err(error) => format!("{error:#}"),
        }
    }

    /// Runs a command line that must succeed.
    pub fn run_checked(&mut self, command: &str) -> Result<String> {
        let output = self.run(command, Duration::from_secs(20))?;
        if output.status != 0 {
            bail!(
                "in the guest: `{command}` ended with {}: {}",
                output.status,
                output.text.trim()
            );
        }
        Ok(output.text)
    }

    /// Starts a command in the background of the guest.
    pub fn spawn(&mut self, command: &str) -> Result<Job> {
        let n = self.next_number();
        self.run_checked(&format!(
            "(sh -c '{command}' >/tmp/job{n}.log 2>&1; echo $? >/tmp/job{n}.rc) & echo $!"
        ))?;
        Ok(Job(n))
    }

    /// Waits for a background command. Of what it printed, the end is returned.
    pub fn wait(&mut self, job: &Job, limit: Duration) -> Result<Output> {
        let n = job.0;
        let deadline = Instant::now() + limit;
        loop {
            let rc = self.run_checked(&format!("cat /tmp/job{n}.rc 2>/dev/null || true"))?;
            if let Ok(status) = rc.trim().parse() {
                let text = self.log(job)?;
                return Ok(Output { status, text });
            }
            if Instant::now() > deadline {
                let text = self.log(job)?;
                bail!(
                    "the guest's command did not end in {limit:?}; it printed: {}",
                    text.trim()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Runs a command in the background and waits for it.
    pub fn run_job(&mut self, command: &str, limit: Duration) -> Result<(Job, Output)> {
        let job = self.spawn(command)?;
        let output = self.wait(&job, limit)?;
        Ok((job, output))
    }

    /// How many lines a background command has printed that contain `needle`.
    pub fn count_lines(&mut self, job: &Job, needle: &str) -> Result<u64> {
        self.run_checked(&format!("grep -c '{needle}' /tmp/job{}.log || true", job.0))?
            .trim()
            .parse()
            .context("grep -c")
    }

    /// The end of what a background command has printed so far.
    pub fn log(&mut self, job: &Job) -> Result<String> {
        self.run_checked(&format!("tail -c 2000 /tmp/job{}.log", job.0))
    }

    /// A counter of rdma_rxe or of the connection manager, by its path below `/sys/class/infiniband/rxe0/ports/1/`.
    pub fn counter(&mut self, path: &str) -> Result<u64> {
        self.run_checked(&format!("cat /sys/class/infiniband/rxe0/ports/1/{path}"))?
            .trim()
            .parse()
            .with_context(|| format!("counter {path}"))
    }

    /// Ends the guest at once, as a power failure would.
    pub fn kill(mut self) -> Result<()> {
        self.qemu.kill()?;
        self.qemu.wait()?;
        Ok(())
    }

    fn read_until(&mut self, marker: &str, limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        let mut bytes = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!(
                    "no answer in {limit:?}; so far: {}",
                    String::from_utf8_lossy(&bytes).trim()
                );
            }
            self.channel.get_ref().set_read_timeout(Some(left))?;
            let line_start = bytes.len();
            match self.channel.read_until(b'\n', &mut bytes) {
                Ok(0) => bail!("the guest is gone"),
                Ok(_) => {
                    if String::from_utf8_lossy(&bytes[line_start..]).contains(marker) {
                        return Ok(String::from_utf8_lossy(&bytes).replace('\r', ""));
                    }
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// An address's GID as sysfs writes it.
fn gid(address: &str) -> Result<String> {
    let v6 = match address.parse().context("an IP address")? {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let groups: Vec<String> = v6
        .segments()
        .iter()
        .map(|group| format!("{group:04x}"))
        .collect();
    Ok(groups.join(":"))
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
