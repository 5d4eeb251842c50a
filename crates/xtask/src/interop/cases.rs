//! The cases: what Linux runs, what vroce runs, and what both must say afterwards.

mod faulty;
mod nfs;
pub mod nvmet;
mod perftest;
mod pingpong;
mod refusals;
mod rping;
mod ucmatose;
mod variant;

pub use faulty::WIRE;
pub use variant::{Ends, V4, V6, Variant};

use super::guest::Guest;
use super::host::Peer;
use anyhow::{Context, Result, ensure};
use faulty::{Before, Tolls};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long one step of a case may take. Most take seconds; a busy machine that emulates the guest is much slower than an idle one.
const LIMIT: Duration = Duration::from_secs(120);

/// What a case needs: the guest, and a way to start vroce.
pub struct Bench<'a> {
    /// What it is run with.
    pub variant: Variant,
    /// The booted guest. Taken by the case that kills it.
    pub guest: &'a mut Option<Guest>,
    /// Starts `vroce-lab peer` with these arguments on the guest's wire.
    pub start: &'a dyn Fn(&[&str]) -> Result<Peer>,
    /// Where that captures the wire.
    pub capture: &'a Path,
    /// What vroce has said, once it has ended.
    pub told: String,
}

impl Bench<'_> {
    fn guest(&mut self) -> Result<&mut Guest> {
        self.guest
            .as_mut()
            .context("the guest was killed by an earlier case")
    }

    /// The addresses.
    fn ends(&self) -> Ends {
        self.variant.ends()
    }

    /// Waits for vroce to end well and returns what it has said.
    fn finish(&mut self, peer: Peer) -> Result<String> {
        self.told = peer.finish(LIMIT)?;
        Ok(self.told.clone())
    }
}

/// Who speaks for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// The driver.
    Driver,
    /// The engine alone: nothing of the driver takes part.
    Engine,
}

/// What is to be seen on a wire on which things go wrong: losses, doubles and disorder in both directions, unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// Both sides have to send something again.
    Both,
    /// Only Linux has: vroce sends acknowledgements alone.
    ToVroce,
    /// So few frames that not everything happens to them: something has to, in either direction.
    Few,
    /// The case is not run on one, for this reason.
    Never(&'static str),
}

const SHORT: &str = "a few frames, to which nothing would happen";
const DEAD: &str = "the guest's counters die with it";

/// Which addresses a case can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// Both.
    All,
    /// Those of IPv4, for this reason.
    V4(&'static str),
}

/// perftest 4.5 says so itself: "Address family for hostname not supported"; as a server it listens on 0.0.0.0. Its `--ipv6` picks a GID
/// for queue pairs that are agreed on without the connection manager. IPv6 carries the same operations in `rping-*`, `nvme-to-linux` and
/// `nfs`, but for atomic ones, which no other program of Linux has.
const NO_V6: Families = Families::V4("perftest's -R takes addresses of IPv4 alone");

/// One case.
pub struct Case {
    /// Its name on the command line and in file names.
    pub name: &'static str,
    /// What it shows.
    pub story: &'static str,
    /// Runs it; `Ok` carries a short remark for the table.
    pub run: fn(&mut Bench<'_>) -> Result<String>,
    /// What a faulty wire does to it.
    pub faults: Faults,
    /// Its addresses.
    pub families: Families,
    /// Who speaks for us.
    pub speaker: Speaker,
}

impl Case {
    /// Whether it can be run so.
    fn suits(&self, variant: Variant) -> bool {
        (self.families == Families::All || !variant.v6)
            && !(variant.faulty && matches!(self.faults, Faults::Never(_)))
    }

    /// What it can be run with: everything, or a cover of it for the case of this number.
    pub fn variants(&self, cover: Option<usize>) -> Vec<Variant> {
        match cover {
            Some(number) => Variant::cover(number, |variant| self.suits(variant)),
            None => Variant::all().filter(|v| self.suits(*v)).collect(),
        }
    }

    /// What it is not run with, and why.
    pub fn limits(&self) -> Vec<String> {
        let mut limits = Vec::new();
        if let Families::V4(reason) = self.families {
            limits.push(format!("not over IPv6: {reason}"));
        }
        if let Faults::Never(reason) = self.faults {
            limits.push(format!("not on a faulty wire: {reason}"));
        }
        limits
    }

    /// Runs it, and judges what the wire has done.
    pub fn run(&self, bench: &mut Bench<'_>) -> Result<String> {
        let before = match self.faults {
            Faults::Never(_) => None,
            _ if bench.variant.faulty => Some(Before::read(bench.guest()?)?),
            _ => None,
        };
        let remark = (self.run)(bench)?;
        let wire = Tolls::parse(&bench.told)?;
        wire.check_mtu(bench.variant.mtu())?;
        let Some(before) = before else {
            return Ok(remark);
        };
        let toll = before.judge(bench.guest()?, &wire, self.faults)?;
        Ok(format!("{remark}; {toll}"))
    }
}

/// All cases in the order in which they run. The last one kills the guest.
pub const CASES: &[Case] = &[
    Case {
        name: "rping-to-linux",
        story: "vroce connects to rping -s",
        run: rping::to_linux,
        faults: Faults::Both,
        families: Families::All,
        speaker: Speaker::Driver,
    },
    Case {
        name: "rping-to-vroce",
        story: "rping -c -V -S 60000 connects to vroce",
        run: rping::to_vroce,
        faults: Faults::Both,
        families: Families::All,
        speaker: Speaker::Driver,
    },
    Case {
        name: "write-bw",
        story: "ib_write_bw -R against vroce",
        run: |bench| perftest::bandwidth(bench, perftest::WRITE),
        faults: Faults::ToVroce,
        families: NO_V6,
        speaker: Speaker::Driver,
    },
    Case {
        name: "read-bw",
        story: "ib_read_bw -R against vroce",
        run: |bench| perftest::bandwidth(bench, perftest::READ),
        faults: Faults::Both,
        families: NO_V6,
        speaker: Speaker::Driver,
    },
    Case {
        name: "read-bw-to-linux",
        story: "vroce reads from ib_read_bw -R",
        run: perftest::read_from_linux,
        faults: Faults::Both,
        families: NO_V6,
        speaker: Speaker::Driver,
    },
    Case {
        name: "send-bw",
        story: "ib_send_bw -R against vroce",
        run: |bench| perftest::bandwidth(bench, perftest::SEND),
        faults: Faults::ToVroce,
        families: NO_V6,
        speaker: Speaker::Driver,
    },
    Case {
        name: "fetch-add",
        story: "ib_atomic_bw -R adds to vroce's memory",
        run: |bench| perftest::bandwidth(bench, perftest::FETCH_ADD),
        faults: Faults::Both,
        families: NO_V6,
        speaker: Speaker::Driver,
    },
    Case {
        name: "cmp-swap",
        story: "ib_atomic_bw -R compares and swaps in it",
        run: |bench| perftest::bandwidth(bench, perftest::CMP_SWAP),
        faults: Faults::Both,
        families: NO_V6,
        speaker: Speaker::Driver,
    },
    Case {
        name: "rc-pingpong-to-linux",
        story: "the engine plays with ibv_rc_pingpong's server",
        run: |bench| pingpong::to_linux(bench, pingpong::RC),
        faults: Faults::Both,
        families: Families::All,
        speaker: Speaker::Engine,
    },
    Case {
        name: "rc-pingpong-to-vroce",
        story: "ibv_rc_pingpong plays with the engine",
        run: |bench| pingpong::to_vroce(bench, pingpong::RC),
        faults: Faults::Both,
        families: Families::All,
        speaker: Speaker::Engine,
    },
    Case {
        name: "srq-pingpong-to-linux",
        story: "the engine plays with ibv_srq_pingpong's server",
        run: |bench| pingpong::to_linux(bench, pingpong::SRQ),
        faults: Faults::Both,
        families: Families::All,
        speaker: Speaker::Engine,
    },
    Case {
        name: "srq-pingpong-to-vroce",
        story: "ibv_srq_pingpong plays with the engine",
        run: |bench| pingpong::to_vroce(bench, pingpong::SRQ),
        faults: Faults::Both,
        families: Families::All,
        speaker: Speaker::Engine,
    },
    Case {
        name: "ucmatose-to-linux",
        story: "vroce makes 100 connections to ucmatose at once",
        run: ucmatose::to_linux,
        faults: Faults::Both,
        families: Families::All,
        speaker: Speaker::Driver,
    },
    Case {
        name: "ucmatose-to-vroce",
        story: "ucmatose -c 100 connects to vroce",
        run: ucmatose::to_vroce,
        faults: Faults::Both,
        families: Families::All,
        speaker: Speaker::Driver,
    },
    Case {
        name: "nfs",
        story: "vroce copies a file on the kernel's NFS server",
        run: nfs::copy_a_file,
        faults: Faults::Few,
        families: Families::All,
        speaker: Speaker::Driver,
    },
    Case {
        name: "linux-rejects",
        story: "nvmet-rdma rejects vroce, with private data",
        run: nvmet::rejects,
        faults: Faults::Never(SHORT),
        families: Families::All,
        speaker: Speaker::Driver,
    },
    Case {
        name: "nvme-to-linux",
        story: "vroce reads and writes a disk of nvmet-rdma",
        run: nvmet::transfers,
        faults: Faults::Both,
        families: Families::All,
        speaker: Speaker::Driver,
    },
    Case {
        name: "vroce-rejects",
        story: "vroce rejects rping, with private data",
        run: refusals::vroce_rejects,
        faults: Faults::Never(SHORT),
        families: Families::All,
        speaker: Speaker::Driver,
    },
    Case {
        name: "linux-silent",
        story: "nobody listens on Linux",
        run: refusals::nobody_on_linux,
        faults: Faults::Never(SHORT),
        families: Families::All,
        speaker: Speaker::Driver,
    },
    Case {
        name: "vroce-silent",
        story: "nobody listens on vroce",
        run: refusals::nobody_on_vroce,
        faults: Faults::Never(SHORT),
        families: Families::All,
        speaker: Speaker::Driver,
    },
    Case {
        name: "guest-killed",
        story: "the guest dies in mid-transfer",
        run: rping::guest_killed,
        faults: Faults::Never(DEAD),
        families: Families::All,
        speaker: Speaker::Driver,
    },
];

/// Waits until a server that was just started in the guest listens on its port.
fn wait_for_listener(guest: &mut Guest, port: u16) -> Result<()> {
    let look = format!("rdma res show cm_id | grep -q LISTEN.*:{port}");
    let deadline = Instant::now() + LIMIT;
    while guest.run(&look, LIMIT)?.status != 0 {
        ensure!(
            Instant::now() < deadline,
            "nobody listens on port {port} of the guest after {LIMIT:?}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
