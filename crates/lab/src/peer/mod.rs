//! vroce's half of the interop cases: one simulated server whose wire leads to another process, in real time.

mod nfs;
mod nfs_wire;
mod nvme;
mod perftest;
mod perftest_client;
mod perftest_wire;
mod refusals;
mod rping;
mod rping_wire;
mod ucmatose;
mod wire_watch;

use crate::cli::{DemoOptions, PeerCase, PeerOptions, WireFaults};
use crate::server::{Server, finish};
use anyhow::{Context, Result};
use ntsim::wire::{Capture, CaptureConfig, SocketConfig, Switch, SwitchConfig};
use ntsim::{Clock, World};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use wire_watch::WireWatch;

/// How long a case waits for the other process to do something.
const PATIENCE: Duration = Duration::from_secs(60);

/// Our server, and the switch between it and the other process.
struct Bench {
    world: World,
    switch: Switch,
    capture: Option<Capture>,
    server: Server,
    /// Of a wire on which something goes wrong.
    watch: Option<WireWatch>,
}

impl Bench {
    fn new(
        peer: &Path,
        local: Option<&Path>,
        capture: Option<&Path>,
        seed: u64,
        address: IpAddr,
        faults: WireFaults,
    ) -> Result<Bench> {
        let local = local.map_or_else(
            || {
                let mut name = peer.as_os_str().to_owned();
                name.push(".vroce");
                PathBuf::from(name)
            },
            Path::to_owned,
        );
        let mut world = World::builder()
            .seed(seed)
            .ignore_environment()
            .clock(Clock::RealTime)
            .build();
        let switch = world.switch(SwitchConfig {
            loss: faults.loss,
            reorder: faults.reorder,
            duplicate: faults.duplicate,
            // An emulated peer's frames come in bursts with long gaps; a frame held up by less would not be overtaken.
            reorder_hold: Duration::from_millis(2),
            ..SwitchConfig::default()
        });
        world
            .socket_wire(
                &switch,
                "peer",
                SocketConfig {
                    local: local.clone(),
                    remote: peer.to_owned(),
                    backlog: 4096,
                },
            )
            .with_context(|| format!("binding {}", local.display()))?;
        // Not before there is something to record: an earlier capture would be lost for nothing.
        let capture = capture
            .map(|path| {
                world
                    .capture(&switch, path, CaptureConfig::default())
                    .with_context(|| format!("writing {}", path.display()))
            })
            .transpose()?;
        let server = Server::install(&mut world, &switch, "vroce", address)?;
        let watch = faults.any().then(|| WireWatch::start(&switch));
        Ok(Bench {
            world,
            switch,
            capture,
            server,
            watch,
        })
    }

    /// Unloads the driver and ends the world, which must have been without fault.
    fn end(mut self) -> Result<()> {
        self.world.uninstall(self.server.machine);
        let report = finish(self.world)?;
        if let Some(capture) = self.capture {
            capture.flush().context("writing the capture")?;
        }
        if let Some(watch) = self.watch {
            watch.tell(&self.switch);
        }
        out!(
            "verifier: {} violations, {} leaks",
            report.violations.len(),
            report.leaks.len()
        );
        Ok(())
    }
}

/// Runs a case.
pub fn run(options: &PeerOptions) -> Result<()> {
    let mut bench = Bench::new(
        &options.wire,
        options.local.as_deref(),
        options.capture.as_deref(),
        options.seed,
        options.address,
        options.wire_faults,
    )?;
    out!("driver: {}", vroce_lab::driver_name()?);
    let Bench {
        world,
        switch,
        server,
        ..
    } = &mut bench;
    match &options.case {
        PeerCase::RpingClient {
            target,
            count,
            size,
            expect_abort,
        } => rping::client(world, *server, *target, *count, *size, *expect_abort),
        PeerCase::RpingServer => rping::server(world, *server),
        PeerCase::WriteBwServer => perftest::write_server(world, *server),
        PeerCase::ReadBwServer => perftest::read_server(world, *server),
        PeerCase::ReadBwClient { target, count } => {
            perftest_client::read_client(world, *server, *target, *count)
        }
        PeerCase::SendBwServer { count } => perftest::send_server(world, *server, *count),
        PeerCase::NfsClient { target } => nfs::client(world, *server, *target),
        PeerCase::UcmatoseServer { count } => ucmatose::server(world, *server, *count),
        PeerCase::UcmatoseClient { target, count } => {
            ucmatose::client(world, *server, *target, *count)
        }
        PeerCase::RejectingServer => refusals::reject(world, *server),
        PeerCase::ExpectReject { target, data } => {
            refusals::expect_reject(world, *server, *target, &data.0)
        }
        PeerCase::ExpectRefused { target } => refusals::expect_refused(world, *server, *target),
        PeerCase::NvmeInitiator { target, subsystem } => {
            nvme::initiate(world, *server, *target, subsystem)
        }
        PeerCase::Idle { until_refused } => {
            refusals::idle(world, switch, *until_refused);
            Ok(())
        }
    }?;
    bench.end()
}

/// Serves rping on a wire to another process, one client after the other, until interrupted.
pub fn serve(peer: &Path, options: &DemoOptions) -> Result<()> {
    let address = IpAddr::from([10, 0, 0, 1]);
    let mut bench = Bench::new(
        peer,
        None,
        Some(&options.capture),
        options.seed,
        address,
        WireFaults::NONE,
    )?;
    out!(
        "vroce serves rping on {address}:{}; the wire leads to {}; interrupt to end",
        rping_wire::PORT,
        peer.display()
    );
    ntsim::interrupt::catch();
    while !ntsim::interrupt::caught() {
        match rping::serve_one(&mut bench.world, bench.server, Duration::MAX)? {
            Ok(rounds) => out!("a client ran {rounds} rounds"),
            Err(_) if ntsim::interrupt::caught() => {}
            Err(error) => out!("a client failed: {error:#}"),
        }
    }
    bench.end()
}
