//! perftest's bandwidth tests.

use super::{Bench, LIMIT, Longest, wait_for_listener};
use anyhow::{Context, Result, ensure};

/// A bandwidth test whose server vroce is.
pub struct Test {
    tool: &'static str,
    /// What it is told besides.
    options: &'static str,
    /// The case of vroce-lab that serves it, and what that is told.
    server: &'static [&'static str],
    /// Whether that case has to be told how many messages will come.
    counts: bool,
    /// Bytes of a message.
    size: u64,
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
    options: "",
    server: &["write-bw-server"],
    counts: false,
    size: SIZE,
    well: "verified 65536 bytes written, nothing beyond;",
    counter: SENT,
};
/// Linux reads, and does not look at what it has read: that it got as many packets is all that can be said.
pub const READ: Test = Test {
    tool: "ib_read_bw",
    options: "",
    server: &["read-bw-server"],
    counts: false,
    size: SIZE,
    well: "unchanged: nothing was written;",
    counter: RECEIVED,
};
/// Linux sends.
pub const SEND: Test = Test {
    tool: "ib_send_bw",
    options: "",
    server: &["send-bw-server"],
    counts: true,
    size: SIZE,
    well: "verified # messages of 65536 bytes",
    counter: SENT,
};
/// Linux adds to words of vroce's memory, which must have grown by as much as its answers said.
pub const FETCH_ADD: Test = Test {
    tool: "ib_atomic_bw",
    options: "-A FETCH_AND_ADD",
    server: &["atomic-bw-server"],
    counts: true,
    size: 8,
    well: "verified # atomic operations by memory and answers",
    counter: SENT,
};
/// Linux swaps zeros for zeros, which must change nothing and be answered with what is there.
pub const CMP_SWAP: Test = Test {
    options: "-A CMP_AND_SWAP",
    server: &["atomic-bw-server", "--swap"],
    ..FETCH_ADD
};

/// Bytes of the longest message of a control connection: a queue pair and its buffer.
const CONTROL: u64 = 56;

/// Linux writes or sends, or vroce reads.
pub const DATA_TO_VROCE: Longest = Longest {
    to_linux: CONTROL,
    to_vroce: SIZE,
};
/// Linux reads.
pub const DATA_TO_LINUX: Longest = Longest {
    to_linux: SIZE,
    to_vroce: CONTROL,
};
/// Atomic operations, whose eight bytes are part of the headers.
pub const NO_DATA: Longest = Longest::both(CONTROL);

/// Messages of a test.
fn messages(bench: &Bench<'_>, size: u64) -> u64 {
    match (size == SIZE, bench.variant.wide) {
        (false, _) => 2000,
        (true, true) if !bench.variant.faulty => 500,
        // rdma_rxe gets stuck for 2 s now and then when something is lost.
        (true, true) => 400,
        // As many packets with a path MTU of 1024: the emulated guest needs nearly as long for a short one.
        (true, false) => 125,
    }
}

/// vroce is the client of ib_read_bw and verifies what it reads.
pub fn read_from_linux(bench: &mut Bench<'_>) -> Result<String> {
    let ends = bench.ends();
    let messages = messages(bench, SIZE);
    let guest = bench.guest()?;
    let before = guest.counter(SENT)?;
    let server = guest.spawn("ib_read_bw -R -F")?;
    wait_for_listener(guest, 18515)?;
    let peer = (bench.start)(&[
        "read-bw-client",
        "--to",
        ends.guest,
        "--port",
        "18515",
        "--count",
        &messages.to_string(),
    ])?;
    let ours = bench.finish(peer)?;
    ensure!(
        ours.contains(&format!("verified {messages} reads")),
        "vroce did not verify what it read:\n{ours}"
    );
    let least = messages * packets(bench, SIZE);
    let guest = bench.guest()?;
    let output = guest.wait(&server, LIMIT)?;
    ensure!(
        output.status == 0,
        "ib_read_bw ended with {}: {}",
        output.status,
        output.text
    );
    let sent = guest.counter(SENT)? - before;
    ensure!(sent >= least, "rdma_rxe sent only {sent} packets");
    let rate = rate(&output.text, SIZE)?;
    Ok(format!(
        "{messages} x {SIZE} bytes, {rate:.0} MB/s, {sent} packets, every read verified"
    ))
}

/// Bytes of a message, but for atomic operations.
const SIZE: u64 = 65536;

/// Packets of so many bytes.
fn packets(bench: &Bench<'_>, bytes: u64) -> u64 {
    bytes.div_ceil(bench.variant.mtu())
}

/// Runs a test.
pub fn bandwidth(bench: &mut Bench<'_>, test: Test) -> Result<String> {
    let Test {
        tool,
        options,
        server,
        counts,
        size,
        well,
        counter,
    } = test;
    let ends = bench.ends();
    let messages = messages(bench, size);
    let count = messages.to_string();
    let told: &[&str] = if counts { &["--count", &count] } else { &[] };
    let mut peer = (bench.start)(&[server, told].concat())?;
    bench.meet(&mut peer)?;
    let least = messages * packets(bench, size);
    let guest = bench.guest()?;
    let before = guest.counter(counter)?;
    let command = format!("{tool} -R -F -n {count} {options} {}", ends.vroce);
    let (_, output) = guest.run_job(&command, LIMIT)?;
    let counted = guest.counter(counter)? - before;
    ensure!(
        output.status == 0,
        "{tool} ended with {}: {}",
        output.status,
        output.text
    );
    let ours = bench.finish(peer)?;
    let well = well.replace('#', &count);
    ensure!(ours.contains(&well), "vroce did not say {well:?}:\n{ours}");
    ensure!(
        counted >= least,
        "{messages} x {size} bytes are {least} packets; rdma_rxe counted {counted} in {counter}"
    );
    let rate = rate(&output.text, size)?;
    Ok(format!(
        "{messages} x {size} bytes, {rate:.1} MB/s under emulation, {counted} packets"
    ))
}

/// The average bandwidth that a tool reports for messages of so many bytes.
fn rate(text: &str, size: u64) -> Result<f64> {
    let size = format!("{size} ");
    let figures: Vec<f64> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix(&size))
        .flat_map(str::split_whitespace)
        .filter_map(|word| word.parse().ok())
        .collect();
    figures
        .get(2)
        .copied()
        .context("no bandwidth in the tool's report")
}
