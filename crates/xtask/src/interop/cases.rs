//! The cases: what Linux runs, what vroce runs, and what both must say afterwards.

use super::guest::Guest;
use super::host::Peer;
use anyhow::{Context, Result, ensure};
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
        run: rping_to_linux,
    },
    Case {
        name: "rping-to-vroce",
        story: "rping -c -V -C 100 -S 60000 connects to vroce",
        run: rping_to_vroce,
    },
    Case {
        name: "write-bw",
        story: "ib_write_bw -R against vroce",
        run: |bench| perftest(bench, "ib_write_bw", "write-bw-server"),
    },
    Case {
        name: "send-bw",
        story: "ib_send_bw -R against vroce",
        run: |bench| perftest(bench, "ib_send_bw", "send-bw-server"),
    },
    Case {
        name: "linux-rejects",
        story: "nvmet-rdma rejects vroce, with private data",
        run: linux_rejects,
    },
    Case {
        name: "vroce-rejects",
        story: "vroce rejects rping, with private data",
        run: vroce_rejects,
    },
    Case {
        name: "linux-silent",
        story: "nobody listens on Linux",
        run: nobody_on_linux,
    },
    Case {
        name: "vroce-silent",
        story: "nobody listens on vroce",
        run: nobody_on_vroce,
    },
    Case {
        name: "guest-killed",
        story: "the guest dies in mid-transfer",
        run: guest_killed,
    },
];

/// Waits until a server that was just started in the guest listens.
fn wait_for_listener(guest: &mut Guest) -> Result<()> {
    guest
        .run_checked("for i in 1 2 3 4 5 6 7 8 9 10; do rdma res show cm_id | grep -q LISTEN && exit 0; sleep 0.1; done; exit 1")
        .context("nobody listens in the guest")?;
    Ok(())
}

fn rping_to_linux(bench: &mut Bench<'_>) -> Result<String> {
    let guest = bench.guest()?;
    let server = guest.spawn(&format!("rping -s -v -V -C 20 -S 60000 -a {GUEST}"))?;
    wait_for_listener(guest)?;
    let peer = (bench.start)(&[
        "rping-client",
        "--to",
        GUEST,
        "--count",
        "20",
        "--size",
        "60000",
    ])?;
    let ours = peer.finish(LIMIT)?;
    ensure!(
        ours.contains("verified 20"),
        "vroce did not verify 20 rounds:\n{ours}"
    );
    let guest = bench.guest()?;
    let theirs = guest.wait(&server, LIMIT)?;
    ensure!(
        theirs.status == 0,
        "rping -s ended with {}: {}",
        theirs.status,
        theirs.text
    );
    let pings = guest.count_lines(&server, "server ping data")?;
    ensure!(
        pings == 20,
        "rping -s saw {pings} pings of 20: {}",
        theirs.text
    );
    Ok("20 rounds of 60000 bytes".to_owned())
}

fn rping_to_vroce(bench: &mut Bench<'_>) -> Result<String> {
    let mut peer = (bench.start)(&["rping-server"])?;
    peer.wait_for("ready", LIMIT)?;
    let guest = bench.guest()?;
    let (job, output) =
        guest.run_job(&format!("rping -c -v -V -C 100 -S 60000 -a {VROCE}"), LIMIT)?;
    ensure!(
        output.status == 0,
        "rping -c ended with {}: {}",
        output.status,
        output.text
    );
    let pings = guest.count_lines(&job, "ping data: rdma-ping")?;
    ensure!(
        pings == 100,
        "rping -c verified {pings} pings of 100: {}",
        output.text
    );
    let ours = peer.finish(LIMIT)?;
    ensure!(
        ours.contains("served 100"),
        "vroce did not serve 100 rounds:\n{ours}"
    );
    Ok("100 rounds of 60000 bytes, verified by rping".to_owned())
}

fn perftest(bench: &mut Bench<'_>, tool: &str, server: &str) -> Result<String> {
    let mut peer = (bench.start)(&[server])?;
    peer.wait_for("ready", LIMIT)?;
    let guest = bench.guest()?;
    let before = guest.counter("hw_counters/sent_pkts")?;
    let (_, output) = guest.run_job(&format!("{tool} -R -F -n 1000 {VROCE}"), LIMIT)?;
    let sent = guest.counter("hw_counters/sent_pkts")? - before;
    ensure!(
        output.status == 0,
        "{tool} ended with {}: {}",
        output.status,
        output.text
    );
    let ours = peer.finish(LIMIT)?;
    ensure!(
        ours.contains("verified"),
        "vroce did not verify the transfer:\n{ours}"
    );
    ensure!(
        sent >= 16_000,
        "1000 x 64 KiB are 16000 packets of 4 KiB; rdma_rxe sent {sent}"
    );
    let figures: Vec<f64> = output
        .text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("65536"))
        .flat_map(str::split_whitespace)
        .filter_map(|word| word.parse().ok())
        .collect();
    let rate = figures
        .get(2)
        .context("no bandwidth in the tool's report")?;
    Ok(format!(
        "1000 x 64 KiB, {rate:.0} MB/s under emulation, {sent} packets"
    ))
}

fn linux_rejects(bench: &mut Bench<'_>) -> Result<String> {
    let guest = bench.guest()?;
    let dir = "/sys/kernel/config/nvmet";
    for command in [
        format!("mkdir -p {dir}/subsystems/vroce {dir}/ports/1"),
        format!("echo rdma > {dir}/ports/1/addr_trtype"),
        format!("echo ipv4 > {dir}/ports/1/addr_adrfam"),
        format!("echo {GUEST} > {dir}/ports/1/addr_traddr"),
        format!("echo 4420 > {dir}/ports/1/addr_trsvcid"),
        format!("ln -s {dir}/subsystems/vroce {dir}/ports/1/subsystems/vroce"),
    ] {
        guest.run_checked(&command)?;
    }
    // 32 bytes of 0xFF: an NVMe/RDMA connect header with an unknown record format, which the target must refuse
    // with its own private data.
    let peer = (bench.start)(&[
        "expect-reject",
        "--to",
        GUEST,
        "--port",
        "4420",
        "--data",
        &"ff".repeat(32),
    ])?;
    let ours = peer.finish(LIMIT)?;
    let guest = bench.guest()?;
    guest.run_checked(&format!(
        "rm {dir}/ports/1/subsystems/vroce && rmdir {dir}/ports/1 {dir}/subsystems/vroce"
    ))?;
    // NVMe/RDMA reject: record format 0, status 2 (invalid record format), little-endian.
    ensure!(
        ours.contains("private data 00000200"),
        "not nvmet's reject data:\n{ours}"
    );
    Ok("STATUS_CONNECTION_REFUSED with nvmet's private data".to_owned())
}

fn vroce_rejects(bench: &mut Bench<'_>) -> Result<String> {
    let mut peer = (bench.start)(&["rejecting-server"])?;
    peer.wait_for("ready", LIMIT)?;
    let guest = bench.guest()?;
    let (_, output) = guest.run_job(&format!("rping -c -v -C 1 -a {VROCE}"), LIMIT)?;
    ensure!(
        output.status != 0,
        "rping -c was not refused: {}",
        output.text
    );
    ensure!(
        output.text.contains("RDMA_CM_EVENT_REJECTED, error 28"),
        "not a consumer reject (28): {}",
        output.text
    );
    peer.finish(LIMIT)?;
    Ok("rping sees reason 28".to_owned())
}

fn nobody_on_linux(bench: &mut Bench<'_>) -> Result<String> {
    let peer = (bench.start)(&["expect-refused", "--to", GUEST, "--port", "7999"])?;
    peer.finish(LIMIT)?;
    Ok("STATUS_CONNECTION_REFUSED".to_owned())
}

fn nobody_on_vroce(bench: &mut Bench<'_>) -> Result<String> {
    let mut peer = (bench.start)(&["idle", "--until-refused"])?;
    peer.wait_for("ready", LIMIT)?;
    let guest = bench.guest()?;
    let (_, output) = guest.run_job(&format!("rping -c -v -C 1 -a {VROCE}"), LIMIT)?;
    ensure!(
        output.status != 0,
        "rping -c was not refused: {}",
        output.text
    );
    ensure!(
        output.text.contains("RDMA_CM_EVENT_REJECTED, error 8"),
        "not an invalid service ID (8): {}",
        output.text
    );
    peer.finish(LIMIT)?;
    Ok("rping sees reason 8".to_owned())
}

fn guest_killed(bench: &mut Bench<'_>) -> Result<String> {
    let guest = bench.guest()?;
    let _server = guest.spawn(&format!("rping -s -v -S 60000 -a {GUEST}"))?;
    wait_for_listener(guest)?;
    let mut peer = (bench.start)(&[
        "rping-client",
        "--to",
        GUEST,
        "--count",
        "1000000",
        "--size",
        "60000",
        "--expect-abort",
    ])?;
    peer.wait_for("round 10", LIMIT)?;
    bench.guest.take().context("the guest")?.kill()?;
    let ours = peer.finish(LIMIT)?;
    ensure!(
        ours.contains("disconnect event 1 at DISPATCH_LEVEL"),
        "vroce's consumer did not get exactly one disconnect event:\n{ours}"
    );
    let flushed = ours
        .lines()
        .find(|line| line.starts_with("flushed "))
        .with_context(|| format!("vroce's consumer does not say what was flushed:\n{ours}"))?;
    ensure!(
        ours.contains("verifier: 0 violations, 0 leaks"),
        "vroce did not end without fault:\n{ours}"
    );
    Ok(format!("one disconnect event, {flushed}, no leak"))
}
