//! rping, as client and as server of vroce.

use super::{Bench, GUEST, LIMIT, VROCE, wait_for_listener};
use anyhow::{Context, Result, ensure};

pub fn to_linux(bench: &mut Bench<'_>) -> Result<String> {
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

pub fn to_vroce(bench: &mut Bench<'_>) -> Result<String> {
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

pub fn guest_killed(bench: &mut Bench<'_>) -> Result<String> {
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
