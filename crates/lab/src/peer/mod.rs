//! vroce's half of the interop cases: one simulated server whose wire leads to another process, in real time.

mod engine;
mod nfs;
mod nfs_wire;
mod nvme;
mod perftest;
mod perftest_atomic;
mod perftest_client;
mod perftest_wire;
mod refusals;
mod rping;
mod rping_wire;
mod ucmatose;
mod wire_watch;

use crate::cli::{self, DemoOptions, PeerCase, PeerOptions, WireFaults};
use crate::server::{Server, finish};
use anyhow::{Context, Result, bail};
use engine::Host;
use engine::pingpong::{self, Game};
use ntsim::wire::{Capture, CaptureConfig, SocketConfig, Switch, SwitchConfig};
use ntsim::{Clock, World};
use perftest_atomic::Atomic;
use roce::PathMtu;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use wire_watch::WireWatch;

/// How long a case waits for the other process to do something.
const PATIENCE: Duration = Duration::from_secs(60);

/// The switch between us and the other process.
struct Wire {
    world: World,
    switch: Switch,
    capture: Option<Capture>,
}

impl Wire {
    fn open(
        peer: &Path,
        local: Option<&Path>,
        capture: Option<&Path>,
        seed: u64,
        faults: WireFaults,
    ) -> Result<Wire> {
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
        Ok(Wire {
            world,
            switch,
            capture,
        })
    }

    /// Ends the world, which must have been without fault.
    fn end(self, watch: &WireWatch) -> Result<()> {
        let report = finish(self.world)?;
        if let Some(capture) = self.capture {
            capture.flush().context("writing the capture")?;
        }
        watch.tell(&self.switch);
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
    let wire = Wire::open(
        &options.wire,
        options.local.as_deref(),
        options.capture.as_deref(),
        options.seed,
        if is_hostile(options) {
            WireFaults::NONE
        } else {
            options.wire_faults
        },
    )?;
    match options.case {
        PeerCase::PingpongServer { game } => play(wire, options, game, None),
        PeerCase::PingpongClient { game, target } => play(wire, options, game, Some(target)),
        _ => run_with_driver(wire, options),
    }
}

/// Whether what goes wrong is decided and not left to chance: a case of so few frames that chance would do nothing to them.
fn is_hostile(options: &PeerOptions) -> bool {
    let few = matches!(
        options.case,
        PeerCase::RejectingServer
            | PeerCase::ExpectReject { .. }
            | PeerCase::ExpectRefused { .. }
            | PeerCase::Idle { .. }
    );
    few && options.wire_faults.loss > 0.0
}

/// A case of the engine alone.
fn play(
    mut wire: Wire,
    options: &PeerOptions,
    game: cli::Pingpong,
    target: Option<cli::Target>,
) -> Result<()> {
    let addresses: Vec<IpAddr> = [options.address]
        .into_iter()
        .chain(options.second_address)
        .collect();
    let mut host = Host::connect(&wire.switch, &addresses, options.path_mtu, options.seed)?;
    let watch = WireWatch::start(&wire.switch, options.path_mtu, false);
    out!("driver: none");
    let game = Game {
        address: options.address,
        shared: game.shared,
        rounds: game.count,
        size: game.size as usize,
        mtu: options.path_mtu,
    };
    let world = &mut wire.world;
    match target {
        None => pingpong::serve(world, &mut host, game, options.seed),
        Some(target) => {
            let to = (target.to, target.port).into();
            pingpong::connect(world, &mut host, game, options.seed, to)
        }
    }?;
    drop(host);
    wire.end(&watch)
}

/// A case of the driver.
fn run_with_driver(mut wire: Wire, options: &PeerOptions) -> Result<()> {
    let install = match options.path_mtu {
        PathMtu::Mtu4096 => Server::install,
        _ => Server::install_on_usual_link,
    };
    let server = install(&mut wire.world, &wire.switch, "vroce", options.address)?;
    let watch = WireWatch::start(&wire.switch, options.path_mtu, is_hostile(options));
    out!("driver: {}", vroce_lab::driver_name()?);
    let world = &mut wire.world;
    match &options.case {
        PeerCase::RpingClient {
            target,
            count,
            size,
            expect_abort,
        } => rping::client(world, server, *target, *count, *size, *expect_abort),
        PeerCase::RpingServer => rping::server(world, server),
        PeerCase::WriteBwServer => perftest::write_server(world, server),
        PeerCase::ReadBwServer => perftest::read_server(world, server),
        PeerCase::ReadBwClient { target, count } => {
            perftest_client::read_client(world, server, *target, *count, options.path_mtu)
        }
        PeerCase::SendBwServer { count } => perftest::send_server(world, server, *count),
        PeerCase::AtomicBwServer { count, swap } => {
            let atomic = if *swap { Atomic::Swap } else { Atomic::Add };
            perftest::atomic_server(world, server, &watch, *count, atomic)
        }
        PeerCase::PingpongServer { .. } | PeerCase::PingpongClient { .. } => {
            bail!("a case of the engine alone")
        }
        PeerCase::NfsClient { target } => nfs::client(world, server, *target),
        PeerCase::UcmatoseServer { count } => ucmatose::server(world, server, *count),
        PeerCase::UcmatoseClient { target, count } => {
            ucmatose::client(world, server, *target, *count)
        }
        PeerCase::RejectingServer => refusals::reject(world, server, &watch),
        PeerCase::ExpectReject { target, data } => {
            refusals::expect_reject(world, server, *target, &data.0)
        }
        PeerCase::ExpectRefused { target } => refusals::expect_refused(world, server, *target),
        PeerCase::NvmeInitiator { target, subsystem } => {
            nvme::initiate(world, server, *target, subsystem)
        }
        PeerCase::Idle { until_refused } => {
            refusals::idle(world, &watch, *until_refused);
            Ok(())
        }
    }?;
    wire.world.uninstall(server.machine);
    wire.end(&watch)
}

/// Serves rping on a wire to another process, one client after the other, until interrupted.
pub fn serve(peer: &Path, options: &DemoOptions) -> Result<()> {
    let address = IpAddr::from([10, 0, 0, 1]);
    let capture = options.capture.as_deref();
    let mut wire = Wire::open(peer, None, capture, options.seed, WireFaults::NONE)?;
    let server = Server::install(&mut wire.world, &wire.switch, "vroce", address)?;
    let watch = WireWatch::start(&wire.switch, PathMtu::Mtu4096, false);
    out!(
        "vroce serves rping on {address}:{}; the wire leads to {}; interrupt to end",
        rping_wire::PORT,
        peer.display()
    );
    ntsim::interrupt::catch();
    while !ntsim::interrupt::caught() {
        match rping::serve_one(&mut wire.world, server, Duration::MAX)? {
            Ok(rounds) => out!("a client ran {rounds} rounds"),
            Err(_) if ntsim::interrupt::caught() => {}
            Err(error) => out!("a client failed: {error:#}"),
        }
    }
    wire.world.uninstall(server.machine);
    wire.end(&watch)
}
