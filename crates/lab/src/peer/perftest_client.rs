//! The client's side of perftest's `ib_read_bw -R`.

use super::PATIENCE;
use super::perftest_wire::{Destination, LONGEST_RUN, MESSAGE, SENTINEL, longest_run};
use crate::cli::Target;
use crate::server::Server;
use crate::side::Side;
use crate::status::{self, Doing};
use anyhow::{Context, Result, bail, ensure};
use ndkpi::status::{STATUS_CONNECTION_REFUSED, STATUS_SUCCESS};
use ntsim::World;
use ntsim::ndk::Connector;
use roce::PathMtu;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What the server compares with its own: protocol version, cycle buffer and cache line in bytes; last the number of the MTU.
const SETTINGS: [&[u8]; 3] = [
    b"6.06\0\0\0\0\0\0\0\0\0\0\0\0",
    &4096_u32.to_be_bytes(),
    &64_u32.to_be_bytes(),
];

/// Reads in flight; each has a slot of memory of its own.
const IN_FLIGHT: usize = 8;

/// How often to ask for the test connection before giving up, and how long to wait in between: the server listens for it only some
/// time after it has said that it will.
const DIALS: u32 = 30;
const BETWEEN_DIALS: Duration = Duration::from_millis(100);

const RECEIVE: u64 = 1;
const SEND: u64 = 2;
const INCOMING: usize = 0;
const OUTGOING: usize = Destination::LEN;

/// The control connection.
struct Control {
    side: Side,
    connector: Connector,
}

impl Control {
    /// Says something and returns the server's answer, which has the same length.
    fn exchange(&mut self, world: &mut World, message: &[u8]) -> Result<Vec<u8>> {
        let machine = self.side.server.machine;
        self.side.buffer.bytes_mut()[OUTGOING..][..message.len()].copy_from_slice(message);
        let side = &self.side;
        world
            .call(machine, || {
                side.queues
                    .qp
                    .receive(RECEIVE, &[side.sge(INCOMING, Destination::LEN)])?;
                side.queues
                    .qp
                    .send(SEND, &[side.sge(OUTGOING, message.len())], 0)
            })
            .doing("posting a control message")?;
        let mut answer = None;
        for _ in 0..2 {
            let result = side.next_result(world, PATIENCE)?;
            ensure!(
                result.Status == STATUS_SUCCESS,
                "the control connection failed with {}",
                status::name(result.Status)
            );
            if result.RequestContext.addr() as u64 == RECEIVE {
                answer = Some(result.BytesTransferred as usize);
            }
        }
        let length = answer.context("a send completed twice")?;
        ensure!(
            length == message.len(),
            "an answer of {length} bytes to a control message of {}",
            message.len()
        );
        Ok(side.buffer.bytes()[INCOMING..][..length].to_vec())
    }
}

/// Connects, again and again while nobody listens yet.
fn dial(world: &mut World, side: &Side, target: Target) -> Result<Connector> {
    for _ in 0..DIALS {
        match side.connect(world, (target.to, target.port), b"")? {
            Ok(connector) => return Ok(connector),
            Err((STATUS_CONNECTION_REFUSED, connector)) => {
                world.call(side.server.machine, || connector.close());
                world.run_for(BETWEEN_DIALS);
            }
            Err((status, _)) => bail!("NdkConnect: {}", status::name(status)),
        }
    }
    bail!("refused {DIALS} times")
}

/// Runs as `ib_read_bw -R -n COUNT`. The server fills its buffer with random bytes before the test: every read must bring the same.
pub fn read_client(
    world: &mut World,
    server: Server,
    target: Target,
    count: u64,
    mtu: PathMtu,
) -> Result<()> {
    let side = Side::open(world, server, 2 * Destination::LEN)?;
    let adapter = Rc::clone(&side.adapter);
    let connector = dial(world, &side, target)?;
    let mut control = Control { side, connector };
    let mtu = [b'0' + mtu.code(), 0];
    for setting in SETTINGS.into_iter().chain([&mtu[..]]) {
        let theirs = control.exchange(world, setting)?;
        ensure!(
            theirs == setting,
            "the server has {theirs:?} where we have {setting:?}"
        );
    }
    control.exchange(world, &[0; Destination::LEN])?;
    let mut test = Side::open_on(world, server, adapter, IN_FLIGHT * MESSAGE)?;
    let test_connector = dial(world, &test, target)?;
    control.exchange(world, &[0; Destination::LEN])?;
    let (address, key) = test.remote();
    let ours = Destination::new(server.address, address, key).to_bytes();
    let theirs = Destination::from_bytes(control.exchange(world, &ours)?.as_slice().try_into()?);
    for _ in 0..2 {
        control.exchange(world, &ours)?;
    }
    out!("connected");

    let started = Instant::now();
    read(world, &mut test, &theirs, count)?;
    let seconds = started.elapsed().as_secs_f64();

    control.exchange(world, &ours)?;
    let megabytes = (count * MESSAGE as u64) as f64 / f64::from(1 << 20);
    // Message size, iterations, peak and average in MiB/s, millions of messages a second.
    for figure in [
        (MESSAGE as u64).to_be_bytes(),
        count.to_be_bytes(),
        (megabytes / seconds).to_be_bytes(),
        (megabytes / seconds).to_be_bytes(),
        (count as f64 / seconds / 1e6).to_be_bytes(),
    ] {
        control.exchange(world, &figure)?;
    }
    control.exchange(world, &ours)?;
    out!("verified {count} reads of {MESSAGE} bytes");
    let Control { side, connector } = control;
    for connector in [test_connector, connector] {
        let disconnect = world.call(server.machine, || connector.start_disconnect());
        // The server leaves at the same time; either way the connection is over.
        let _ = disconnect.wait(world);
        world.call(server.machine, || connector.close());
    }
    side.close(world)?;
    test.close(world)
}

/// Reads the same memory again and again and compares what comes.
fn read(world: &mut World, test: &mut Side, theirs: &Destination, count: u64) -> Result<()> {
    test.buffer.bytes_mut().fill(SENTINEL);
    let post = |world: &mut World, test: &Side, slot: usize| {
        world
            .call(test.server.machine, || {
                let sge = test.sge(slot * MESSAGE, MESSAGE);
                let qp = &test.queues.qp;
                qp.read(slot as u64, &[sge], theirs.address, theirs.key, 0)
            })
            .doing("NdkRead")
    };
    let mut posted = 0;
    for slot in 0..IN_FLIGHT.min(usize::try_from(count)?) {
        post(world, test, slot)?;
        posted += 1;
    }
    let mut first: Option<Vec<u8>> = None;
    for number in 0..count {
        let result = test.next_result(world, PATIENCE)?;
        ensure!(
            result.Status == STATUS_SUCCESS,
            "read {number} failed with {}",
            status::name(result.Status)
        );
        let slot = result.RequestContext.addr();
        let bytes = &mut test.buffer.bytes_mut()[slot * MESSAGE..][..MESSAGE];
        match &first {
            None => {
                let longest = longest_run(bytes);
                ensure!(
                    longest < LONGEST_RUN,
                    "{longest} bytes in a row were not read"
                );
                first = Some(bytes.to_vec());
            }
            Some(first) => ensure!(
                bytes == first,
                "read {number} brought other bytes than the first"
            ),
        }
        bytes.fill(SENTINEL);
        if posted < count {
            post(world, test, slot)?;
            posted += 1;
        }
    }
    Ok(())
}
