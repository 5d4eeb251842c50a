//! What the engine costs: both ends of a connection in one thread, and a wire that is one copy of each frame.
//!
//! `cargo bench -p roce` measures everything and prints the best of each kind beside the committed baseline, with the ratio of the two;
//! `cargo bench -p roce -- NAME` only what has NAME in its name. With `ROCE_BENCH_WRITE=1` the run becomes the baseline of what it measures,
//! and with `ROCE_BENCH_MOST=1.3` it fails if a figure is more than 1.3 times its baseline.
//! With `--features avx` the CRC of long payloads is computed as programs in user mode may, and drivers may not. Figures are per machine and
//! decide nothing.

mod baseline;
mod ends;
mod many;

use baseline::Figures;
use criterion::{BenchmarkId, Criterion, Throughput};
use ends::{Op, Pair};
use many::{Connecting, Crowd};
use roce::PathMtu;
use std::time::{Duration, Instant};

const MTUS: [PathMtu; 5] = [
    PathMtu::Mtu256,
    PathMtu::Mtu512,
    PathMtu::Mtu1024,
    PathMtu::Mtu2048,
    PathMtu::Mtu4096,
];

/// What the CRC of long payloads is computed with, if that is not what a driver may use.
const WITH: &str = if cfg!(feature = "avx") {
    " with AVX"
} else {
    ""
};

/// Bytes of a large request.
const LARGE: u32 = 1 << 20;

/// Measures `run`, which does so many of something.
fn measure(
    c: &mut Criterion,
    figures: &mut Figures,
    (group, name): (&str, &str),
    throughput: Throughput,
    mut run: impl FnMut(u64),
) {
    let mut group_of = c.benchmark_group(group);
    group_of.throughput(throughput);
    group_of.bench_function(BenchmarkId::from_parameter(name), |bencher| {
        bencher.iter_custom(|count| {
            let start = Instant::now();
            run(count);
            let time = start.elapsed();
            figures.took(&format!("{group}/{name}"), count, time);
            time
        });
    });
    group_of.finish();
}

/// What one request with one packet costs, both ends and the acknowledgement together.
fn packets(c: &mut Criterion, figures: &mut Figures) {
    for (name, op, len) in [
        ("send", Op::Send, 64),
        ("send with immediate", Op::SendImmediate, 64),
        ("send with invalidate", Op::SendInvalidate, 64),
        ("write", Op::Write, 64),
        ("write with immediate", Op::WriteImmediate, 64),
        ("read", Op::Read, 64),
        ("compare and swap", Op::CompareSwap, 8),
        ("fetch and add", Op::FetchAdd, 8),
    ] {
        let mut pair = Pair::new(PathMtu::Mtu4096);
        measure(c, figures, ("64", name), Throughput::Elements(1), |n| {
            pair.transfer(op, len, n);
        });
    }
}

fn bytes(c: &mut Criterion, figures: &mut Figures) {
    let throughput = || Throughput::Bytes(u64::from(LARGE));
    for (name, op) in [("write", Op::Write), ("read", Op::Read), ("send", Op::Send)] {
        for mtu in MTUS {
            let mut pair = Pair::new(mtu);
            let name = format!("{name} {}{WITH}", mtu.bytes());
            measure(c, figures, ("1M", &name), throughput(), |n| {
                pair.transfer(op, LARGE, n);
            });
        }
        // What it would cost to compute the CRC first and to copy then.
        let mut pair = Pair::with_two_passes(PathMtu::Mtu4096);
        let name = format!("{name} 4096 in two passes{WITH}");
        measure(c, figures, ("1M", &name), throughput(), |n| {
            pair.transfer(op, LARGE, n);
        });
    }
}

/// An empty SEND and its acknowledgement between two of so many queue pairs of one engine.
fn crowds(c: &mut Criterion, figures: &mut Figures, quick: bool) {
    for qps in [2, 1000, 10_000, 100_000] {
        let mut crowd = None;
        let name = format!("{qps} queue pairs");
        measure(c, figures, ("among", &name), Throughput::Elements(1), |n| {
            crowd
                .get_or_insert_with(|| Crowd::new(if quick { 2 } else { qps }))
                .send(n);
        });
    }
}

fn connections(c: &mut Criterion, figures: &mut Figures, quick: bool) {
    const AT_ONCE: u64 = 1000;
    let mut group = c.benchmark_group("connect");
    group.throughput(Throughput::Elements(1));
    group.bench_function("connection", |bencher| {
        bencher.iter_custom(|count| {
            let mut time = Duration::ZERO;
            let mut left = count;
            while left > 0 {
                let now = left.min(AT_ONCE);
                let mut connecting = Connecting::new(now as u32);
                let start = Instant::now();
                connecting.connect();
                time += start.elapsed();
                left -= now;
            }
            figures.took("connect/connection", count, time);
            time
        });
    });
    group.finish();
    let count = if quick { 20 } else { 10_000 };
    figures.saw(
        "memory/connected queue pair",
        "B",
        many::bytes_per_connection(count),
    );
}

fn main() {
    // `cargo test --benches` runs this too; then once around is enough.
    let quick = !std::env::args().any(|a| a == "--bench");
    let mut c = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .configure_from_args();
    let mut figures = Figures::default();
    packets(&mut c, &mut figures);
    bytes(&mut c, &mut figures);
    crowds(&mut c, &mut figures, quick);
    connections(&mut c, &mut figures, quick);
    c.final_summary();
    if !quick && !figures.report(|name| name.starts_with("1M/").then_some(u64::from(LARGE))) {
        std::process::exit(1);
    }
}
