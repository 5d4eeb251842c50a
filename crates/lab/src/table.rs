//! The tables at the end of demo and benchmark.

use crate::flow::Outcome;
use std::time::Duration;

/// Prints the head.
pub fn head() {
    out!(
        "{:<18} {:>8} {:>10} {:>12} {:>10} {:>10} {:>10}",
        "operation",
        "size",
        "in flight",
        "messages/s",
        "MB/s",
        "p50",
        "p99"
    );
}

/// Prints a row, by operation, size of a message, and how many are in flight. The latency of a ping-pong is the round trip's.
pub fn row((operation, size, in_flight): (&str, usize, usize), outcome: &Outcome) {
    out!(
        "{operation:<18} {:>8} {in_flight:>10} {:>12.0} {:>10.1} {:>10} {:>10}",
        bytes(size),
        outcome.message_rate(),
        outcome.megabytes(),
        short(outcome.percentile(0.50)),
        short(outcome.percentile(0.99)),
    );
}

/// A size in bytes, KiB, MiB or GiB.
pub fn bytes(size: usize) -> String {
    match size {
        0x4000_0000.. if size.is_multiple_of(0x4000_0000) => format!("{} GiB", size >> 30),
        1_048_576.. if size.is_multiple_of(1_048_576) => format!("{} MiB", size >> 20),
        1024.. if size.is_multiple_of(1024) => format!("{} KiB", size >> 10),
        _ => format!("{size} B"),
    }
}

fn short(time: Duration) -> String {
    let us = time.as_secs_f64() * 1e6;
    if us < 10_000.0 {
        format!("{us:.1} us")
    } else {
        format!("{:.1} ms", us / 1e3)
    }
}
