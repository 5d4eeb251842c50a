//! `--bench`: the figures of the README.

use crate::cli::DemoOptions;
use crate::demo::measure;
use crate::figures::Figures;
use crate::flow::{Operation, Outcome, Workload, ping_pong, stream};
use crate::server::{Server, finish};
use crate::table;
use anyhow::Result;
use ntsim::wire::SwitchConfig;
use ntsim::{Verify, World};

/// What the figures are of.
pub const HOW: &str =
    "both servers, their simulated kernels and the wire in one thread, path MTU 4096, wall time";

/// What is measured.
pub const ROWS: &[Row] = &[
    Row::Stream(Workload::new(Operation::Write, 1_048_576, 4_000, 8)),
    Row::Stream(Workload::new(Operation::Write, 65_536, 40_000, 32)),
    Row::Stream(Workload::new(Operation::Write, 4096, 500_000, 64)),
    Row::Stream(Workload::new(Operation::Write, 64, 500_000, 64)),
    Row::Stream(Workload::new(Operation::Read, 1_048_576, 4_000, 8)),
    Row::Stream(Workload::new(Operation::Read, 4096, 300_000, 16)),
    Row::Stream(Workload::new(Operation::Send, 4096, 300_000, 64)),
    Row::Stream(Workload::new(Operation::Send, 64, 300_000, 64)),
    Row::PingPong(200_000),
];

/// Bytes of a ping-pong's message.
const BALL: usize = 64;

/// A row of the table.
#[derive(Clone, Copy)]
pub enum Row {
    /// Messages in one direction.
    Stream(Workload),
    /// So many messages to and fro.
    PingPong(u64),
}

impl Row {
    /// The same with fewer messages.
    pub fn shortened(self, by: u64) -> Row {
        match self {
            Row::Stream(workload) => Row::Stream(Workload {
                count: workload.count / by,
                ..workload
            }),
            Row::PingPong(count) => Row::PingPong(count / by),
        }
    }

    /// Operation, size of a message, and how many are in flight.
    pub fn what(self) -> (&'static str, usize, usize) {
        match self {
            Row::Stream(workload) => (workload.operation.name(), workload.size, workload.in_flight),
            Row::PingPong(_) => ("send ping-pong", BALL, 1),
        }
    }

    /// Runs it on a connection of its own.
    pub fn run(self, world: &mut World, a: Server, b: Server) -> Result<Outcome> {
        match self {
            Row::Stream(workload) => measure(world, a, b, workload.bytes(), |world, from, to| {
                stream(world, from, to, workload, &|_| ())
            }),
            Row::PingPong(count) => measure(world, a, b, 2 * BALL, |world, from, to| {
                ping_pong(world, from, to, BALL, count, &|_| ())
            }),
        }
    }
}

/// Measures and prints.
pub fn run(options: &DemoOptions) -> Result<()> {
    let verify = options.verify.unwrap_or(Verify::Cheap);
    if !options.starts {
        streams(options, verify)?;
        out!();
    }
    Figures::measure(options.seed, verify)?.tell();
    Ok(())
}

/// What is sent from one server to the other.
fn streams(options: &DemoOptions, verify: Verify) -> Result<()> {
    let mut world = World::builder()
        .seed(options.seed)
        .verify(verify)
        .ignore_environment()
        .build();
    let switch = world.switch(SwitchConfig::default());
    let a = Server::install(&mut world, &switch, "A", [10, 0, 0, 1].into())?;
    let b = Server::install(&mut world, &switch, "B", [10, 0, 0, 2].into())?;
    out!("{HOW}");
    table::head();
    for row in ROWS {
        let outcome = row.run(&mut world, a, b)?;
        table::row(row.what(), &outcome);
    }
    for server in [a, b] {
        world.uninstall(server.machine);
    }
    finish(world).map(drop)
}
