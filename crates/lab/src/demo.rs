//! `cargo run --release`: what vroce does, shown and checked.

use crate::bench::Row;
use crate::cli::DemoOptions;
use crate::driver::driver;
use crate::flow::{Operation, Outcome, Workload, ping_pong, stream};
use crate::server::Server;
use crate::side::{Side, link};
use crate::status::{self, Doing};
use crate::table;
use crate::trace_file;
use crate::tracer::Tracer;
use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use ndkpi::NDK_OP_FLAG_SEND_AND_SOLICIT_EVENT;
use ndkpi::status::{STATUS_CONNECTION_REFUSED, STATUS_SUCCESS};
use ntsim::ndk::ReadLimits;
use ntsim::wire::{CaptureConfig, Switch, SwitchConfig};
use ntsim::{MachineConfig, World};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{Duration, Instant};

const ADDRESS_A: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const ADDRESS_B: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const PORT: u16 = 445;

/// The rows of the table.
const ROWS: &[Workload] = &[
    Workload::new(Operation::Send, 64, 20_000, 64),
    Workload::new(Operation::Send, 4096, 20_000, 64),
    Workload::new(Operation::Write, 4096, 20_000, 64),
    Workload::new(Operation::Write, 65_536, 4_000, 16),
    Workload::new(Operation::Write, 1_048_576, 256, 4),
    Workload::new(Operation::Read, 4096, 20_000, 16),
    Workload::new(Operation::Read, 1_048_576, 256, 4),
];

const PING_PONGS: u64 = 20_000;

/// Runs the demo.
pub fn run(options: &DemoOptions) -> Result<()> {
    let started = Instant::now();
    let mut world = World::builder()
        .seed(options.seed)
        .verify(options.verify.unwrap_or_default())
        .ignore_environment();
    if let Some(paths) = &options.faults {
        world = world.fail_new_paths(paths);
    }
    let mut world = world.build();
    out!(
        "vroce demo, seed {}{}",
        options.seed,
        loss_text(options.loss)
    );
    let switch = world.switch(SwitchConfig {
        loss: options.loss,
        ..wire()
    });
    let path = options.capture.as_deref();
    let path = path.unwrap_or(Path::new("vroce-demo.pcapng"));
    let writing = || format!("writing {}", path.display());
    let capture = world
        .capture(&switch, path, CaptureConfig::default())
        .with_context(writing)?;

    let file = options.trace_file.as_deref();
    let trace = trace_file::begin(&mut world, file, options.trace_host_time)?;

    let mut tracer = Tracer::default();
    let told = show(&mut world, &switch, options, &mut tracer);
    tracer.print(&world);
    let seed = world.seed();
    let report = world.finish();
    let flushed = capture.flush().with_context(writing);
    if report.is_clean()
        && let Err(error) = told
    {
        // What was open when it failed is still held: only broken rules say something.
        return Err(error.context(format!(
            "seed {seed}, 0 violations, capture {}",
            path.display()
        )));
    }
    ensure!(
        report.is_clean() && report.leaks.is_empty(),
        "the verifier has complaints:\n{report}"
    );
    ensure!(
        report.unguarded == 0,
        "{} allocations of the drivers were not guarded: no clean run says much of them",
        report.unguarded
    );
    say("verifier", "0 violations, 0 leaks");
    flushed?;
    if let Some(trace) = trace {
        trace.tell()?;
    }
    say(
        "capture",
        &format!("{} (open it with Wireshark)", path.display()),
    );
    say(
        "done",
        &format!("in {:.1} s", started.elapsed().as_secs_f32()),
    );
    Ok(())
}

/// A wire of 25 Gbit/s: the time stamps in the capture are those of a network.
fn wire() -> SwitchConfig {
    SwitchConfig {
        delay: Duration::from_micros(2),
        bandwidth: Some(25_000_000_000),
        ..SwitchConfig::default()
    }
}

/// What there is to see.
fn show(
    world: &mut World,
    switch: &Switch,
    options: &DemoOptions,
    tracer: &mut Tracer,
) -> Result<()> {
    let mut install = |name, address| {
        let server = Server::without_driver(world, switch, MachineConfig::named(name), address);
        if options.trace {
            tracer.listen(world, server.machine);
        }
        server.install_driver(world, driver()?)?;
        anyhow::Ok(server)
    };
    let (a, b) = (install("A", ADDRESS_A)?, install("B", ADDRESS_B)?);
    say(
        "install",
        "vroce.inx on two servers: hardware ID matched, DriverEntry, NDIS initialised, TCP/IP bound",
    );
    ping(world, &a, ADDRESS_B)?;

    tracer.print(world);

    describe_adapter(world, a)?;
    connect_and_move(world, a, b).context("moving data")?;
    tracer.print(world);
    refused(world, a, b).context("connecting to a port where nobody listens")?;
    tracer.print(world);
    rejected(world, a, b).context("being rejected")?;
    tracer.print(world);

    // What follows would fill the disk, and measures the driver, not a wire.
    switch.record(None);
    world.end_trace();
    switch.set_links(SwitchConfig {
        loss: options.loss,
        ..SwitchConfig::default()
    });
    out!();
    if options.loss > 0.0 {
        out!("what follows is measured{}", loss_text(options.loss));
    }
    table::head();
    let bar = progress_bar();
    for row in ROWS {
        let mut workload = *row;
        if options.loss > 0.0 {
            workload.count /= 20;
        }
        let outcome = measure(world, a, b, workload.bytes(), |world, from, to| {
            bar.set_length(workload.count);
            bar.set_message(format!(
                "{} {}",
                workload.operation.name(),
                table::bytes(workload.size)
            ));
            stream(world, from, to, workload, &|done| bar.set_position(done))
        })
        .with_context(|| {
            format!(
                "{} of {}",
                workload.operation.name(),
                table::bytes(workload.size)
            )
        })?;
        bar.suspend(|| table::row(Row::Stream(workload).what(), &outcome));
    }
    let rounds = if options.loss > 0.0 {
        PING_PONGS / 20
    } else {
        PING_PONGS
    };
    let outcome = measure(world, a, b, 128, |world, from, to| {
        bar.set_length(rounds);
        bar.set_message("ping-pong");
        ping_pong(world, from, to, 64, rounds, &|done| bar.set_position(done))
    })?;
    bar.finish_and_clear();
    table::row(Row::PingPong(rounds).what(), &outcome);
    out!(
        "(wall time of one thread that runs both servers, the simulated kernels and the wire; p99 is that of the host's scheduler more\n than of the driver)"
    );
    out!();

    for server in [a, b] {
        world.uninstall(server.machine);
    }
    say("unload", "both drivers");
    Ok(())
}

fn say(what: &str, text: &str) {
    out!("{what:<10} {text}");
}

fn loss_text(loss: f64) -> String {
    if loss > 0.0 {
        format!(", the wire loses a frame with probability {loss}")
    } else {
        String::new()
    }
}

fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{msg:<18} [{bar:40}] {pos}/{len}") {
        bar.set_style(style);
    }
    bar
}

fn ping(world: &mut World, from: &Server, to: IpAddr) -> Result<()> {
    // The first echo waits for ARP; a lossy wire may eat some.
    for _ in 0..20 {
        if let Some(time) = world.ping(from.machine, to) {
            say(
                "ping",
                &format!("{to} answers through NDIS after {time:?} of virtual time"),
            );
            return Ok(());
        }
    }
    anyhow::bail!("{to} does not answer pings")
}

fn describe_adapter(world: &mut World, server: Server) -> Result<()> {
    let side = Side::open(world, server, 4096)?;
    let info = world
        .call(server.machine, || side.adapter.info())
        .doing("NdkQueryAdapterInfo")?;
    say(
        "adapter",
        &format!(
            "NDK {}.{}, RDMA technology {} (RoCEv2), registrations to {}, transfers to {}, {} reads each way, private data {}/{} bytes",
            info.Version.Major,
            info.Version.Minor,
            info.RdmaTechnology,
            table::bytes(info.MaxRegistrationSize),
            table::bytes(info.MaxTransferLength as usize),
            info.MaxInboundReadLimit,
            info.MaxCallerData,
            info.MaxCalleeData,
        ),
    );
    side.close(world)
}

/// A connection with private data both ways, one message of each kind with its contents checked, and the end.
fn connect_and_move(world: &mut World, a: Server, b: Server) -> Result<()> {
    const SIZE: usize = 1 << 20;
    let (request, reply) = (b"hello from A".as_slice(), b"hello from B".as_slice());
    let mut from = Side::open(world, a, 2 * SIZE)?;
    let mut to = Side::open(world, b, 2 * SIZE)?;
    let connection = link(world, &from, &to, PORT, request, reply)?;
    say(
        "connect",
        "A to B, private data both ways, both connectors connected",
    );

    pattern(from.buffer.bytes_mut(), 1);
    let text = b"the quick brown fox";
    from.buffer.bytes_mut()[..text.len()].copy_from_slice(text);
    world
        .call(b.machine, || to.queues.qp.receive(7, &[to.sge(0, 64)]))
        .doing("NdkReceive")?;
    world
        .call(a.machine, || {
            from.queues.qp.send(
                8,
                &[from.sge(0, text.len())],
                NDK_OP_FLAG_SEND_AND_SOLICIT_EVENT,
            )
        })
        .doing("NdkSend")?;
    from.complete(world, 8)?;
    let received = to.complete(world, 7)?;
    ensure!(
        received as usize == text.len(),
        "{received} bytes received instead of {}",
        text.len()
    );
    ensure!(
        to.buffer.bytes().starts_with(text),
        "the received text is another"
    );
    say(
        "send",
        &format!("{} bytes into a posted receive, contents equal", text.len()),
    );

    let (address, token) = to.remote();
    world
        .call(a.machine, || {
            from.queues
                .qp
                .write(9, &[from.sge(0, SIZE)], address, token, 0)
        })
        .doing("NdkWrite")?;
    from.complete(world, 9)?;
    ensure!(
        to.buffer.bytes()[..SIZE] == from.buffer.bytes()[..SIZE],
        "the written memory differs"
    );
    say("write", "1 MiB into B's memory, contents equal");

    pattern(to.buffer.bytes_mut(), 2);
    world
        .call(a.machine, || {
            from.queues
                .qp
                .read(10, &[from.sge(SIZE, SIZE)], address, token, 0)
        })
        .doing("NdkRead")?;
    from.complete(world, 10)?;
    ensure!(
        to.buffer.bytes()[..SIZE] == from.buffer.bytes()[SIZE..],
        "the memory read differs"
    );
    say("read", "1 MiB from B's memory, contents equal");

    connection.end(world, &from, &to)?;
    say(
        "disconnect",
        "by A; B's consumer was told exactly once, at DISPATCH_LEVEL",
    );
    from.close(world)?;
    to.close(world)
}

fn refused(world: &mut World, a: Server, b: Server) -> Result<()> {
    let side = Side::open(world, a, 4096)?;
    match side.connect(world, (b.address, 9), b"")? {
        Ok(_) => anyhow::bail!("a connection to a port without listener was accepted"),
        Err((status, connector)) => {
            ensure!(
                status == STATUS_CONNECTION_REFUSED,
                "without listener: {} instead of STATUS_CONNECTION_REFUSED",
                status::name(status)
            );
            world.call(a.machine, || connector.close());
        }
    }
    say(
        "refused",
        "port 9, where nobody listens: STATUS_CONNECTION_REFUSED",
    );
    side.close(world)
}

fn rejected(world: &mut World, a: Server, b: Server) -> Result<()> {
    let why = b"come back later";
    let active = Side::open(world, a, 4096)?;
    let passive = Side::open(world, b, 4096)?;
    let listener = passive.listen(world, PORT)?;
    let connector = world
        .call(a.machine, || active.adapter.create_connector())
        .doing("NdkCreateConnector")?;
    let connect = world.call(a.machine, || {
        connector.start_connect(
            &active.queues.qp,
            active.at(0),
            passive.at(PORT),
            ReadLimits::default(),
            b"",
        )
    });
    let request = passive.next_request(world, &listener, Duration::from_secs(60))?;
    world
        .call(b.machine, || request.reject(why))
        .doing("NdkReject")?;
    world.call(b.machine, || {
        request.close();
        listener.close();
    });
    let status = connect.wait(world).err().unwrap_or(STATUS_SUCCESS);
    ensure!(
        status == STATUS_CONNECTION_REFUSED,
        "rejected: {} instead of STATUS_CONNECTION_REFUSED",
        status::name(status)
    );
    let data = world
        .call(a.machine, || connector.connection_data())
        .doing("NdkGetConnectionData")?;
    ensure!(
        data.private_data.starts_with(why),
        "the reason did not arrive"
    );
    say(
        "rejected",
        &format!(
            "by B's consumer, saying \"{}\"",
            String::from_utf8_lossy(why)
        ),
    );
    world.call(a.machine, || connector.close());
    active.close(world)?;
    passive.close(world)
}

/// Runs a workload on a connection of its own.
pub fn measure(
    world: &mut World,
    a: Server,
    b: Server,
    bytes: usize,
    work: impl FnOnce(&mut World, &Side, &Side) -> Result<Outcome>,
) -> Result<Outcome> {
    let mut from = Side::open(world, a, bytes)?;
    let to = Side::open(world, b, bytes)?;
    pattern(from.buffer.bytes_mut(), 3);
    let connection = link(world, &from, &to, PORT, b"", b"")?;
    let outcome = work(world, &from, &to)?;
    connection.end(world, &from, &to)?;
    from.close(world)?;
    to.close(world)?;
    Ok(outcome)
}

/// Fills memory with something that shows every misplaced byte.
fn pattern(bytes: &mut [u8], seed: u64) {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for chunk in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let word = state.to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
}
