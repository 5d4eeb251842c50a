//! `--bench`: the figures of the README.

use crate::cli::DemoOptions;
use crate::demo::measure;
use crate::flow::{Operation, Workload, ping_pong, stream};
use crate::server::{Server, finish};
use crate::table;
use anyhow::Result;
use ntsim::World;
use ntsim::wire::SwitchConfig;

const STREAMS: &[Workload] = &[
    Workload::new(Operation::Write, 1_048_576, 4_000, 8),
    Workload::new(Operation::Write, 65_536, 40_000, 32),
    Workload::new(Operation::Write, 4096, 500_000, 64),
    Workload::new(Operation::Write, 64, 500_000, 64),
    Workload::new(Operation::Read, 1_048_576, 4_000, 8),
    Workload::new(Operation::Read, 4096, 300_000, 16),
    Workload::new(Operation::Send, 4096, 300_000, 64),
    Workload::new(Operation::Send, 64, 300_000, 64),
];

/// Measures and prints.
pub fn run(options: &DemoOptions) -> Result<()> {
    let mut world = World::builder()
        .seed(options.seed)
        .ignore_environment()
        .build();
    let switch = world.switch(SwitchConfig::default());
    let a = Server::install(&mut world, &switch, "A", [10, 0, 0, 1].into())?;
    let b = Server::install(&mut world, &switch, "B", [10, 0, 0, 2].into())?;
    out!(
        "both servers, their simulated kernels and the wire in one thread, path MTU 4096, wall time"
    );
    table::head();
    for workload in STREAMS {
        let outcome = measure(&mut world, a, b, workload.bytes(), |world, from, to| {
            stream(world, from, to, *workload, &|_| ())
        })?;
        table::row(workload, &outcome);
    }
    let outcome = measure(&mut world, a, b, 128, |world, from, to| {
        ping_pong(world, from, to, 64, 200_000, &|_| ())
    })?;
    table::ping_pong(64, &outcome);
    for server in [a, b] {
        world.uninstall(server.machine);
    }
    finish(world).map(drop)
}
