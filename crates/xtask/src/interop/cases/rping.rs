//! rping, as client and as server of vroce.

use super::{Bench, LIMIT, wait_for_listener};
use anyhow::{Context, Result, ensure};

/// Bytes of a round, which go both ways: read by one side and written back by it.
pub const SIZE: u64 = 60_000;

/// Rounds of a test: fewer where the emulated guest has to wait for what gets lost, or has four times as many packets to look at.
fn rounds(bench: &Bench<'_>) -> u64 {
    if bench.variant.faulty || !bench.variant.wide {
        40
    } else {
        100
    }
}

/// vroce is the client.
pub fn to_linux(bench: &mut Bench<'_>) -> Result<String> {
    let (ends, rounds) = (bench.ends(), rounds(bench));
    let guest = bench.guest()?;
    let server = guest.spawn(&format!(
        "rping -s -v -V -C {rounds} -S {SIZE} -a {}",
        ends.guest
    ))?;
    wait_for_listener(guest, 7174)?;
    let peer = (bench.start)(&[
        "rping-client",
        "--to",
        ends.guest,
        "--count",
        &rounds.to_string(),
        "--size",
        &SIZE.to_string(),
    ])?;
    let ours = bench.finish(peer)?;
    ensure!(
        ours.contains(&format!("verified {rounds}")),
        "vroce did not verify {rounds} rounds:\n{ours}"
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
        pings == rounds,
        "rping -s saw {pings} pings of {rounds}: {}",
        theirs.text
    );
    Ok(format!("{rounds} rounds of {SIZE} bytes"))
}

/// vroce is the server of `rping -c`, which verifies what comes back.
pub fn to_vroce(bench: &mut Bench<'_>) -> Result<String> {
    let mut peer = (bench.start)(&["rping-server"])?;
    bench.meet(&mut peer)?;
    let (ends, rounds) = (bench.ends(), rounds(bench));
    let guest = bench.guest()?;
    let (job, output) = guest.run_job(
        &format!("rping -c -v -V -C {rounds} -S {SIZE} -a {}", ends.vroce),
        LIMIT,
    )?;
    ensure!(
        output.status == 0,
        "rping -c ended with {}: {}",
        output.status,
        output.text
    );
    let pings = guest.count_lines(&job, "ping data: rdma-ping")?;
    ensure!(
        pings == rounds,
        "rping -c verified {pings} pings of {rounds}: {}",
        output.text
    );
    let ours = bench.finish(peer)?;
    ensure!(
        ours.contains(&format!("served {rounds} ")),
        "vroce did not serve {rounds} rounds:\n{ours}"
    );
    Ok(format!(
        "{rounds} rounds of {SIZE} bytes, verified by rping"
    ))
}

/// The guest dies while it serves vroce.
pub fn guest_killed(bench: &mut Bench<'_>) -> Result<String> {
    let ends = bench.ends();
    let guest = bench.guest()?;
    let _server = guest.spawn(&format!("rping -s -v -S {SIZE} -a {}", ends.guest))?;
    wait_for_listener(guest, 7174)?;
    let mut peer = (bench.start)(&[
        "rping-client",
        "--to",
        ends.guest,
        "--count",
        "1000000",
        "--size",
        &SIZE.to_string(),
        "--expect-abort",
    ])?;
    let round = if bench.variant.faulty {
        "round 40"
    } else {
        "round 10"
    };
    peer.wait_for(round, LIMIT)?;
    bench.guest.take().context("the guest")?.kill()?;
    let ours = bench.finish(peer)?;
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
