//! The cases: what Linux runs, what vroce runs, and what both must say afterwards.

pub mod nvmet;
mod perftest;
mod refusals;
mod rping;

use super::guest::Guest;
use super::host::Peer;
use anyhow::{Context, Result};
use std::time::Duration;

/// Where the guest listens and where vroce listens.
pub const GUEST: &str = "10.0.0.2";
const VROCE: &str = "10.0.0.1";

const LIMIT: Duration = Duration::from_secs(40);

/// What a case needs: the guest, and a way to start vroce.
pub struct Bench<'a> {
    /// The booted guest. Taken by the case that kills it.
    pub guest: &'a mut Option<Guest>,
    /// Starts `vroce-lab peer` with these arguments on the guest's wire.
    pub start: &'a dyn Fn(&[&str]) -> Result<Peer>,
}

impl Bench<'_> {
    fn guest(&mut self) -> Result<&mut Guest> {
        self.guest
            .as_mut()
            .context("the guest was killed by an earlier case")
    }
}

/// One case.
pub struct Case {
    /// Its name on the command line and in file names.
    pub name: &'static str,
    /// What it shows.
    pub story: &'static str,
    /// Runs it; `Ok` carries a short remark for the table.
    pub run: fn(&mut Bench<'_>) -> Result<String>,
}

/// All cases in the order in which they run. The last one kills the guest.
pub const CASES: &[Case] = &[
    Case {
        name: "rping-to-linux",
        story: "vroce connects to rping -s",
        run: rping::to_linux,
    },
    Case {
        name: "rping-to-vroce",
        story: "rping -c -V -C 100 -S 60000 connects to vroce",
        run: rping::to_vroce,
    },
    Case {
        name: "write-bw",
        story: "ib_write_bw -R against vroce",
        run: |bench| perftest::bandwidth(bench, "ib_write_bw", "write-bw-server"),
    },
    Case {
        name: "send-bw",
        story: "ib_send_bw -R against vroce",
        run: |bench| perftest::bandwidth(bench, "ib_send_bw", "send-bw-server"),
    },
    Case {
        name: "linux-rejects",
        story: "nvmet-rdma rejects vroce, with private data",
        run: nvmet::rejects,
    },
    Case {
        name: "nvme-to-linux",
        story: "vroce reads and writes a disk of nvmet-rdma",
        run: nvmet::transfers,
    },
    Case {
        name: "vroce-rejects",
        story: "vroce rejects rping, with private data",
        run: refusals::vroce_rejects,
    },
    Case {
        name: "linux-silent",
        story: "nobody listens on Linux",
        run: refusals::nobody_on_linux,
    },
    Case {
        name: "vroce-silent",
        story: "nobody listens on vroce",
        run: refusals::nobody_on_vroce,
    },
    Case {
        name: "guest-killed",
        story: "the guest dies in mid-transfer",
        run: rping::guest_killed,
    },
];

/// Waits until a server that was just started in the guest listens.
fn wait_for_listener(guest: &mut Guest) -> Result<()> {
    guest
        .run_checked("for i in 1 2 3 4 5 6 7 8 9 10; do rdma res show cm_id | grep -q LISTEN && exit 0; sleep 0.1; done; exit 1")
        .context("nobody listens in the guest")?;
    Ok(())
}
