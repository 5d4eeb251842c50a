//! The cases: what Linux runs, what vroce runs, and what both must say afterwards.

mod faulty;
mod nfs;
mod nvmet;
mod perftest;
mod pingpong;
mod refusals;
mod rping;
mod tolls;
mod ucmatose;
mod variant;

pub use faulty::WIRE;
pub use variant::{Ends, V4, V6, Variant};

use super::guest::Guest;
use super::host::Peer;
use anyhow::{Context, Result, ensure};
use faulty::Before;
use std::path::Path;
use std::time::{Duration, Instant};
use tolls::Tolls;

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

    /// Waits until vroce is ready and Linux knows its hardware address: programs of rdma_cm give up after two seconds, in which Linux asks
    /// twice, and on a faulty wire both may be lost.
    fn meet(&mut self, peer: &mut Peer) -> Result<()> {
        peer.wait_for("ready", LIMIT)?;
        let ends = self.ends();
        let known = format!("ip neigh show {} | grep -q lladdr", ends.vroce);
        let ping = match ends.vroce.contains(':') {
            true => "ping6",
            false => "ping",
        };
        let ask = format!("{ping} -c 1 -W 1 {} >/dev/null", ends.vroce);
        let tries = "for i in 1 2 3 4 5 6 7 8 9 10";
        let command = format!("{tries}; do {known} && exit; {ask}; done; {known}");
        self.guest()?
            .run_checked(&format!("sh -c '{command}'"))
            .context("Linux does not find vroce's hardware address")?;
        Ok(())
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
    /// As `Both`; but the guest is dead in the end, and its counters with it.
    Killed,
    /// Nothing is left to chance, which would spare so few frames: the first request for a connection is lost and the first rejection,
    /// and one of either comes twice.
    Refusal,
}

/// Bytes of the longest message in either direction, data of RDMA included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Longest {
    /// What vroce sends.
    pub to_linux: u64,
    /// What Linux sends.
    pub to_vroce: u64,
}

impl Longest {
    /// The same in both.
    const fn both(bytes: u64) -> Longest {
        Longest {
            to_linux: bytes,
            to_vroce: bytes,
        }
    }

    /// Whether some packet is as long as either path MTU permits.
    fn fills_packets(self) -> bool {
        self.to_linux.max(self.to_vroce) >= 4096
    }
}

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
    /// How long its messages are: long enough, and packets prove the path MTU.
    pub longest: Longest,
    /// So much is under way at once that an emulated guest acknowledges it later than the sender waits: the 67 ms of the programs that
    /// have no connection manager, the time that a hundred connections need. Then packets are sent again that were not lost.
    pub crowded: bool,
    /// Its addresses.
    pub families: Families,
    /// Who speaks for us.
    pub speaker: Speaker,
}

impl Case {
    /// Whether it can be run so.
    fn suits(&self, variant: Variant) -> bool {
        self.families == Families::All || !variant.v6
    }

    /// What it can be run with: everything, or a cover of it for the case of this number.
    pub fn variants(&self, cover: Option<usize>) -> Vec<Variant> {
        match cover {
            Some(number) => {
                // These wait for timers most of the time.
                let long = matches!(self.faults, Faults::Killed | Faults::Refusal);
                Variant::cover(number, self.families == Families::All, long)
            }
            None => Variant::all().filter(|v| self.suits(*v)).collect(),
        }
    }

    /// What it is not run with, and why.
    pub fn limits(&self) -> Vec<String> {
        let mut limits = Vec::new();
        if let Families::V4(reason) = self.families {
            limits.push(format!("not over IPv6: {reason}"));
        }
        let bytes = self.longest.to_linux.max(self.longest.to_vroce);
        if !self.longest.fills_packets() {
            limits.push(match bytes {
                0 => "packets that fill neither path MTU: no data is moved".to_owned(),
                _ => {
                    format!("packets that fill neither path MTU: messages of at most {bytes} bytes")
                }
            });
        }
        limits
    }

    /// Runs it, and judges what the wire has seen.
    pub fn run(&self, bench: &mut Bench<'_>) -> Result<String> {
        let faulty = bench.variant.faulty;
        let counted = faulty && !matches!(self.faults, Faults::Killed | Faults::Refusal);
        let before = if counted {
            Some(Before::read(bench.guest()?)?)
        } else {
            None
        };
        let remark = (self.run)(bench)?;
        let wire = Tolls::parse(&bench.told)?;
        let judged = || {
            wire.check_longest(bench.variant.mtu(), self.longest)?;
            wire.check_repeats(faulty || self.crowded)?;
            if faulty {
                wire.check_faults(self.faults)?;
            }
            anyhow::Ok(())
        };
        judged().with_context(|| format!("{remark}; {wire}"))?;
        let Some(before) = before else {
            return Ok(format!("{remark}; {wire}"));
        };
        let counted = before.judge(bench.guest()?, self.faults)?;
        Ok(format!("{remark}; {wire}; rxe: {counted}"))
    }
}

/// All cases in the order in which they run. The last one kills the guest.
pub const CASES: &[Case] = &[
    Case {
        name: "rping-to-linux",
        story: "vroce connects to rping -s",
        run: rping::to_linux,
        faults: Faults::Both,
        longest: Longest::both(rping::SIZE),
        crowded: false,
        families: Families::All,
        speaker: Speaker::Driver,
    },
    Case {
        name: "rping-to-vroce",
        story: "rping -c -V -S 60000 connects to vroce",
        run: rping::to_vroce,
        faults: Faults::Both,
        longest: Longest::both(rping::SIZE),
        crowded: false,
        families: Families::All,
        speaker: Speaker::Driver,
    },
    Case {
        name: "write-bw",
        story: "ib_write_bw -R against vroce",
        run: |bench| perftest::bandwidth(bench, perftest::WRITE),
        faults: Faults::ToVroce,
        longest: perftest::DATA_TO_VROCE,
        crowded: false,
        families: NO_V6,
        speaker: Speaker::Driver,
    },
    Case {
        name: "read-bw",
        story: "ib_read_bw -R against vroce",
        run: |bench| perftest::bandwidth(bench, perftest::READ),
        faults: Faults::Both,
        longest: perftest::DATA_TO_LINUX,
        crowded: false,
        families: NO_V6,
        speaker: Speaker::Driver,
    },
    Case {
        name: "read-bw-to-linux",
        story: "vroce reads from ib_read_bw -R",
        run: perftest::read_from_linux,
        faults: Faults::Both,
        longest: perftest::DATA_TO_VROCE,
        crowded: false,
        families: NO_V6,
        speaker: Speaker::Driver,
    },
    Case {
        name: "send-bw",
        story: "ib_send_bw -R against vroce",
        run: |bench| perftest::bandwidth(bench, perftest::SEND),
        faults: Faults::ToVroce,
        longest: perftest::DATA_TO_VROCE,
        crowded: false,
        families: NO_V6,
        speaker: Speaker::Driver,
    },
    Case {
        name: "fetch-add",
        story: "ib_atomic_bw -R adds to vroce's memory",
        run: |bench| perftest::bandwidth(bench, perftest::FETCH_ADD),
        faults: Faults::Both,
        longest: perftest::NO_DATA,
        crowded: false,
        families: NO_V6,
        speaker: Speaker::Driver,
    },
    Case {
        name: "cmp-swap",
        story: "ib_atomic_bw -R compares and swaps in it",
        run: |bench| perftest::bandwidth(bench, perftest::CMP_SWAP),
        faults: Faults::Both,
        longest: perftest::NO_DATA,
        crowded: false,
        families: NO_V6,
        speaker: Speaker::Driver,
    },
    Case {
        name: "rc-pingpong-to-linux",
        story: "the engine plays with ibv_rc_pingpong's server",
        run: |bench| pingpong::to_linux(bench, pingpong::RC),
        faults: Faults::Both,
        longest: Longest::both(pingpong::SIZE),
        crowded: true,
        families: Families::All,
        speaker: Speaker::Engine,
    },
    Case {
        name: "rc-pingpong-to-vroce",
        story: "ibv_rc_pingpong plays with the engine",
        run: |bench| pingpong::to_vroce(bench, pingpong::RC),
        faults: Faults::Both,
        longest: Longest::both(pingpong::SIZE),
        crowded: true,
        families: Families::All,
        speaker: Speaker::Engine,
    },
    Case {
        name: "srq-pingpong-to-linux",
        story: "the engine plays with ibv_srq_pingpong's server",
        run: |bench| pingpong::to_linux(bench, pingpong::SRQ),
        faults: Faults::Both,
        longest: Longest::both(pingpong::SIZE),
        crowded: true,
        families: Families::All,
        speaker: Speaker::Engine,
    },
    Case {
        name: "srq-pingpong-to-vroce",
        story: "ibv_srq_pingpong plays with the engine",
        run: |bench| pingpong::to_vroce(bench, pingpong::SRQ),
        faults: Faults::Both,
        longest: Longest::both(pingpong::SIZE),
        crowded: true,
        families: Families::All,
        speaker: Speaker::Engine,
    },
    Case {
        name: "ucmatose-to-linux",
        story: "vroce makes 100 connections to ucmatose at once",
        run: ucmatose::to_linux,
        faults: Faults::Both,
        longest: Longest::both(ucmatose::SIZE),
        crowded: true,
        families: Families::All,
        speaker: Speaker::Driver,
    },
    Case {
        name: "ucmatose-to-vroce",
        story: "ucmatose -c 100 connects to vroce",
        run: ucmatose::to_vroce,
        faults: Faults::Both,
        longest: Longest::both(ucmatose::SIZE),
        crowded: true,
        families: Families::All,
        speaker: Speaker::Driver,
    },
    Case {
        name: "nfs",
        story: "vroce copies a file on the kernel's NFS server",
        run: nfs::copy_a_file,
        faults: Faults::Few,
        longest: Longest::both(nfs::PIECE),
        crowded: false,
        families: Families::All,
        speaker: Speaker::Driver,
    },
    Case {
        name: "linux-rejects",
        story: "nvmet-rdma rejects vroce, with private data",
        run: nvmet::rejects,
        faults: Faults::Refusal,
        longest: Longest::both(0),
        crowded: false,
        families: Families::All,
        speaker: Speaker::Driver,
    },
    Case {
        name: "nvme-to-linux",
        story: "vroce reads and writes a disk of nvmet-rdma",
        run: nvmet::transfers,
        faults: Faults::Both,
        longest: Longest::both(nvmet::LARGEST),
        crowded: false,
        families: Families::All,
        speaker: Speaker::Driver,
    },
    Case {
        name: "vroce-rejects",
        story: "vroce rejects rping, with private data",
        run: refusals::vroce_rejects,
        faults: Faults::Refusal,
        longest: Longest::both(0),
        crowded: false,
        families: Families::All,
        speaker: Speaker::Driver,
    },
    Case {
        name: "linux-silent",
        story: "nobody listens on Linux",
        run: refusals::nobody_on_linux,
        faults: Faults::Refusal,
        longest: Longest::both(0),
        crowded: false,
        families: Families::All,
        speaker: Speaker::Driver,
    },
    Case {
        name: "vroce-silent",
        story: "nobody listens on vroce",
        run: refusals::nobody_on_vroce,
        faults: Faults::Refusal,
        longest: Longest::both(0),
        crowded: false,
        families: Families::All,
        speaker: Speaker::Driver,
    },
    Case {
        name: "guest-killed",
        story: "the guest dies in mid-transfer",
        run: rping::guest_killed,
        faults: Faults::Killed,
        longest: Longest::both(rping::SIZE),
        crowded: false,
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
