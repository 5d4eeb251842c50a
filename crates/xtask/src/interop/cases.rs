//! The cases: what Linux runs, what vroce runs, and what both must say afterwards.

mod faulty;
mod nfs;
pub mod nvmet;
mod perftest;
mod refusals;
mod rping;
mod ucmatose;

use super::guest::Guest;
use super::host::Peer;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::time::{Duration, Instant};

/// The two ends of the wire, by one family of addresses.
#[derive(Clone, Copy)]
pub struct Ends {
    /// The guest's address.
    pub guest: &'static str,
    /// vroce's address.
    pub vroce: &'static str,
    /// Length of the prefix that they share.
    pub prefix: u8,
}

/// IPv4.
pub const V4: Ends = Ends {
    guest: "10.0.0.2",
    vroce: "10.0.0.1",
    prefix: 24,
};
/// IPv6.
pub const V6: Ends = Ends {
    guest: "fd00::2",
    vroce: "fd00::1",
    prefix: 64,
};

/// How long one step of a case may take. Most take seconds; a busy machine that emulates the guest is much slower than an idle one.
const LIMIT: Duration = Duration::from_secs(120);

/// What a case needs: the guest, and a way to start vroce.
pub struct Bench<'a> {
    /// The booted guest. Taken by the case that kills it.
    pub guest: &'a mut Option<Guest>,
    /// Starts `vroce-lab peer` with these arguments on the guest's wire.
    pub start: &'a dyn Fn(&[&str]) -> Result<Peer>,
    /// Where that captures the wire.
    pub capture: &'a Path,
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
        run: |bench| rping::to_linux(bench, V4),
    },
    Case {
        name: "rping-to-vroce",
        story: "rping -c -V -C 100 -S 60000 connects to vroce",
        run: |bench| rping::to_vroce(bench, V4),
    },
    Case {
        name: "rping6-to-linux",
        story: "the same as rping-to-linux over IPv6",
        run: |bench| rping::to_linux(bench, V6),
    },
    Case {
        name: "rping6-to-vroce",
        story: "the same as rping-to-vroce over IPv6",
        run: |bench| rping::to_vroce(bench, V6),
    },
    Case {
        name: "rping-faulty",
        story: "rping -c on a wire that loses, reorders, doubles",
        run: rping::on_a_faulty_wire,
    },
    Case {
        name: "write-bw",
        story: "ib_write_bw -R against vroce",
        run: |bench| perftest::bandwidth(bench, perftest::WRITE),
    },
    Case {
        name: "write-bw-faulty",
        story: "ib_write_bw -R on a wire like rping-faulty's",
        run: perftest::write_on_a_faulty_wire,
    },
    Case {
        name: "read-bw",
        story: "ib_read_bw -R against vroce",
        run: |bench| perftest::bandwidth(bench, perftest::READ),
    },
    Case {
        name: "read-bw-to-linux",
        story: "vroce reads from ib_read_bw -R",
        run: perftest::read_from_linux,
    },
    Case {
        name: "send-bw",
        story: "ib_send_bw -R against vroce",
        run: |bench| perftest::bandwidth(bench, perftest::SEND),
    },
    Case {
        name: "ucmatose-to-linux",
        story: "vroce makes 100 connections to ucmatose at once",
        run: |bench| ucmatose::to_linux(bench, V4),
    },
    Case {
        name: "ucmatose-to-vroce",
        story: "ucmatose -c 100 connects to vroce",
        run: |bench| ucmatose::to_vroce(bench, V4),
    },
    Case {
        name: "ucmatose6-to-linux",
        story: "the same as ucmatose-to-linux over IPv6",
        run: |bench| ucmatose::to_linux(bench, V6),
    },
    Case {
        name: "ucmatose6-to-vroce",
        story: "the same as ucmatose-to-vroce over IPv6",
        run: |bench| ucmatose::to_vroce(bench, V6),
    },
    Case {
        name: "nfs",
        story: "vroce copies a file on the kernel's NFS server",
        run: nfs::copy_a_file,
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
        name: "nvme-faulty",
        story: "nvme-to-linux on a wire like rping-faulty's",
        run: nvmet::transfers_on_a_faulty_wire,
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
