//! perftest's bandwidth tests.

use super::faulty::{self, Before};
use super::{Bench, LIMIT, V4, wait_for_listener};
use anyhow::{Context, Result, ensure};

/// A bandwidth test whose server vroce is.
pub struct Test {
    tool: &'static str,
    /// The case of vroce-lab that serves it.
    server: &'static str,
    /// Whether that case has to be told how many messages will come.
    counts: bool,
    /// What it says when all is well; `#` stands for the number of messages.
    well: &'static str,
    /// rdma_rxe's counter that the data moves.
    counter: &'static str,
}

const SENT: &str = "hw_counters/sent_pkts";
const RECEIVED: &str = "hw_counters/rcvd_pkts";

/// Linux writes.
pub const WRITE: Test = Test {
    tool: "ib_write_bw",
    server: "write-bw-server",
    counts: false,
    well: "verified 65536 bytes written, nothing beyond;",
    counter: SENT,
};
/// Linux reads, and does not look at what it has read: that it got as many packets is all that can be said.
pub const READ: Test = Test {
    tool: "ib_read_bw",
    server: "read-bw-server",
    counts: false,
    well: "unchanged: nothing was written;",
    counter: RECEIVED,
};
/// Linux sends.
pub const SEND: Test = Test {
    tool: "ib_send_bw",
    server: "send-bw-server",
    counts: true,
    well: "verified # messages of 65536 bytes",
    counter: SENT,
};

/// Runs a test of 500 messages.
pub fn bandwidth(bench: &mut Bench<'_>, test: Test) -> Result<String> {
    run(bench, test, 500, &[]).map(|run| run.remark)
}

/// vroce is the client of ib_read_bw and verifies what it reads.
pub fn read_from_linux(bench: &mut Bench<'_>) -> Result<String> {
    const MESSAGES: u64 = 500;
    let guest = bench.guest()?;
    let before = guest.counter(SENT)?;
    let server = guest.spawn("ib_read_bw -R -F")?;
    wait_for_listener(guest, 18515)?;
    let peer = (bench.start)(&[
        "read-bw-client",
        "--to",
        V4.guest,
        "--port",
        "18515",
        "--count",
        &MESSAGES.to_string(),
    ])?;
    let ours = peer.finish(LIMIT)?;
    ensure!(
        ours.contains(&format!("verified {MESSAGES} reads")),
        "vroce did not verify what it read:\n{ours}"
    );
    let guest = bench.guest()?;
    let output = guest.wait(&server, LIMIT)?;
    ensure!(
        output.status == 0,
        "ib_read_bw ended with {}: {}",
        output.status,
        output.text
    );
    let sent = guest.counter(SENT)? - before;
    ensure!(
        sent >= MESSAGES * PACKETS,
        "rdma_rxe sent only {sent} packets"
    );
    let rate = rate(&output.text)?;
    Ok(format!(
        "{MESSAGES} x 64 KiB, {rate:.0} MB/s, {sent} packets, every read verified"
    ))
}

/// ib_write_bw, with loss, disorder and doubles in both directions.
pub fn write_on_a_faulty_wire(bench: &mut Bench<'_>) -> Result<String> {
    let before = Before::read(bench.guest()?)?;
    let run = run(bench, WRITE, 250, faulty::WIRE)?;
    let toll = before.judge(bench.guest()?, &run.ours, false)?;
    Ok(format!("{}; {toll}", run.remark))
}

/// How a test went.
struct Run {
    remark: String,
    /// What vroce said.
    ours: String,
}

/// Packets of a message.
const PACKETS: u64 = 16;

fn run(bench: &mut Bench<'_>, test: Test, messages: u64, wire: &[&str]) -> Result<Run> {
    let Test {
        tool,
        server,
        counts,
        well,
        counter,
    } = test;
    let count = messages.to_string();
    let told: &[&str] = if counts { &["--count", &count] } else { &[] };
    let mut peer = (bench.start)(&[wire, &[server], told].concat())?;
    peer.wait_for("ready", LIMIT)?;
    let guest = bench.guest()?;
    let before = guest.counter(counter)?;
    let (_, output) = guest.run_job(&format!("{tool} -R -F -n {count} {}", V4.vroce), LIMIT)?;
    let packets = guest.counter(counter)? - before;
    ensure!(
        output.status == 0,
        "{tool} ended with {}: {}",
        output.status,
        output.text
    );
    let ours = peer.finish(LIMIT)?;
    let well = well.replace('#', &count);
    ensure!(ours.contains(&well), "vroce did not say {well:?}:\n{ours}");
    ensure!(
        packets >= messages * PACKETS,
        "{messages} x 64 KiB are {} packets of 4 KiB; rdma_rxe counted {packets} in {counter}",
        messages * PACKETS
    );
    let rate = rate(&output.text)?;
    Ok(Run {
        remark: format!("{messages} x 64 KiB, {rate:.0} MB/s under emulation, {packets} packets"),
        ours,
    })
}

/// The average bandwidth that a tool reports.
fn rate(text: &str) -> Result<f64> {
    let figures: Vec<f64> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("65536"))
        .flat_map(str::split_whitespace)
        .filter_map(|word| word.parse().ok())
        .collect();
    figures
        .get(2)
        .copied()
        .context("no bandwidth in the tool's report")
}
