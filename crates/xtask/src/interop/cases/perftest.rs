//! perftest's bandwidth tests.

use super::{Bench, LIMIT, VROCE};
use anyhow::{Context, Result, ensure};

pub fn bandwidth(bench: &mut Bench<'_>, tool: &str, server: &str) -> Result<String> {
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
