//! rping, as client and as server of vroce.

use super::faulty::{self, Before};
use super::{Bench, Ends, LIMIT, V4, wait_for_listener};
use anyhow::{Context, Result, ensure};

/// vroce is the client.
pub fn to_linux(bench: &mut Bench<'_>, ends: Ends) -> Result<String> {
    let guest = bench.guest()?;
    let server = guest.spawn(&format!("rping -s -v -V -C 20 -S 60000 -a {}", ends.guest))?;
    wait_for_listener(guest, 7174)?;
    let peer = (bench.start)(&[
        "--address",
        ends.vroce,
        "rping-client",
        "--to",
        ends.guest,
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

/// vroce is the server.
pub fn to_vroce(bench: &mut Bench<'_>, ends: Ends) -> Result<String> {
    serve(bench, ends, 100, &[])?;
    Ok("100 rounds of 60000 bytes, verified by rping".to_owned())
}

/// vroce is the server, and has to deal with loss, disorder and doubles in both directions.
pub fn on_a_faulty_wire(bench: &mut Bench<'_>) -> Result<String> {
    let before = Before::read(bench.guest()?)?;
    let ours = serve(bench, V4, 40, faulty::WIRE)?;
    let toll = before.judge(bench.guest()?, &ours, true)?;
    Ok(format!("40 rounds; {toll}"))
}

/// Serves some rounds of `rping -c`, which verifies what comes back; returns what vroce says.
fn serve(bench: &mut Bench<'_>, ends: Ends, rounds: u64, wire: &[&str]) -> Result<String> {
    let arguments = [wire, &["--address", ends.vroce, "rping-server"]].concat();
    let mut peer = (bench.start)(&arguments)?;
    peer.wait_for("ready", LIMIT)?;
    let guest = bench.guest()?;
    let (job, output) = guest.run_job(
        &format!("rping -c -v -V -C {rounds} -S 60000 -a {}", ends.vroce),
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
    let ours = peer.finish(LIMIT)?;
    ensure!(
        ours.contains(&format!("served {rounds} ")),
        "vroce did not serve {rounds} rounds:\n{ours}"
    );
    Ok(ours)
}

/// The guest dies while it serves vroce.
pub fn guest_killed(bench: &mut Bench<'_>) -> Result<String> {
    let guest = bench.guest()?;
    let _server = guest.spawn(&format!("rping -s -v -S 60000 -a {}", V4.guest))?;
    wait_for_listener(guest, 7174)?;
    let mut peer = (bench.start)(&[
        "rping-client",
        "--to",
        V4.guest,
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
