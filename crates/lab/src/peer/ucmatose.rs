//! ucmatose's two roles: many connections at once, a few messages each way on each of them, told by `-C` and `-S`.
//!
//! Its server sends first, its client answers from the very buffer into which it has received: what comes back is the last message
//! that it was sent. What its server sends is whatever its memory held.

use super::PATIENCE;
use crate::cli::Target;
use crate::server::Server;
use crate::side::Side;
use crate::status::{self, Doing};
use anyhow::{Context, Result, bail, ensure};
use ndkpi::NDK_RESULT;
use ndkpi::status::STATUS_SUCCESS;
use ntsim::World;
use ntsim::ndk::{Connector, Pending, ReadLimits};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// ucmatose's port unless `-p` is given.
const PORT: u16 = 7471;
/// Messages in each direction of a connection, and bytes of each.
const MESSAGES: usize = 3;
const LENGTH: usize = 4200;

/// Layout of the registered buffer: a slot for every incoming message, then one for every outgoing.
const OUTGOING: usize = MESSAGES * LENGTH;
const BYTES: usize = 2 * OUTGOING;
/// Contexts of requests: the slot for receives, and that much more for sends.
const SEND: usize = 1000;

/// One connection, from before it is made.
struct Connection {
    side: Side,
    connector: Connector,
    /// The connect, accept or disconnect under way.
    pending: Pending,
    received: usize,
    sent: usize,
}

impl Connection {
    /// What is sent as the message of this number on a connection.
    fn text(connection: usize, message: usize) -> [u8; LENGTH] {
        let first = connection * 31 + message * 7;
        // The lower byte is wanted.
        std::array::from_fn(|at| (first + at) as u8)
    }

    fn post_receives(world: &mut World, side: &Side) -> Result<()> {
        world
            .call(side.server.machine, || {
                (0..MESSAGES).try_for_each(|slot| {
                    let qp = &side.queues.qp;
                    qp.receive(slot as u64, &[side.sge(slot * LENGTH, LENGTH)])
                })
            })
            .doing("NdkReceive")
    }

    fn post_sends(&mut self, world: &mut World, number: usize) -> Result<()> {
        for slot in 0..MESSAGES {
            self.side.buffer.bytes_mut()[OUTGOING + slot * LENGTH..][..LENGTH]
                .copy_from_slice(&Self::text(number, slot));
        }
        let side = &self.side;
        world
            .call(side.server.machine, || {
                (0..MESSAGES).try_for_each(|slot| {
                    let qp = &side.queues.qp;
                    let sge = side.sge(OUTGOING + slot * LENGTH, LENGTH);
                    qp.send((SEND + slot) as u64, &[sge], 0)
                })
            })
            .doing("NdkSend")
    }

    /// Whether all that was sent is acknowledged; or the peer has left, as it may once it has everything: then an acknowledgement that
    /// gets lost does not come again.
    fn is_done_sending(&self) -> bool {
        self.sent == MESSAGES || self.has_left()
    }

    fn has_left(&self) -> bool {
        self.connector.disconnect_events().count() > 0
    }

    fn note(&mut self, result: &NDK_RESULT) -> Result<()> {
        let context = result.RequestContext.addr();
        if result.Status != STATUS_SUCCESS {
            ensure!(
                context >= SEND && self.has_left(),
                "request {context} failed with {}",
                status::name(result.Status)
            );
            return Ok(());
        }
        if context >= SEND {
            self.sent += 1;
            return Ok(());
        }
        ensure!(
            context == self.received && result.BytesTransferred as usize == LENGTH,
            "{} bytes in receive {context} instead of {LENGTH} in {}",
            result.BytesTransferred,
            self.received
        );
        self.received += 1;
        Ok(())
    }
}

/// Lets the world run until `done` holds for all connections; meanwhile takes their results.
fn drive(
    world: &mut World,
    connections: &mut [Connection],
    what: &str,
    done: impl Fn(&Connection) -> bool,
) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !connections.iter().all(&done) {
        world.run_for(Duration::from_millis(1));
        for (number, connection) in connections.iter_mut().enumerate() {
            let machine = connection.side.server.machine;
            while let Some(result) = world.call(machine, || connection.side.queues.cq.poll()) {
                connection
                    .note(&result)
                    .with_context(|| format!("connection {number}"))?;
            }
        }
        if Instant::now() > deadline {
            let missing = connections.iter().filter(|c| !done(c)).count();
            bail!("{missing} connections are not {what} after {PATIENCE:?}");
        }
    }
    Ok(())
}

/// Waits for what is pending on all connections, which must go well.
fn settle(world: &mut World, connections: &mut [Connection], call: &str) -> Result<()> {
    drive(world, connections, call, |c| c.pending.is_done())?;
    for connection in connections {
        let status = connection.pending.status().unwrap_or(STATUS_SUCCESS);
        ensure!(status == STATUS_SUCCESS, "{call}: {}", status::name(status));
    }
    Ok(())
}

/// Runs as `ucmatose -c COUNT`, the server: sends, and gets the last message of each connection back.
pub fn server(world: &mut World, server: Server, count: usize) -> Result<()> {
    let mut sides = open(world, server, count)?;
    let listener = sides
        .first()
        .context("no connections")?
        .listen(world, PORT)?;
    out!("ready");
    let mut connections = Vec::with_capacity(count);
    while let Some(side) = sides.pop() {
        let connector = side.next_request(world, &listener, PATIENCE)?;
        Connection::post_receives(world, &side)?;
        let pending = world.call(server.machine, || {
            connector.start_accept_ex(&side.queues.qp, ReadLimits::default(), b"")
        });
        connections.push(Connection {
            side,
            connector,
            pending,
            received: 0,
            sent: 0,
        });
    }
    settle(world, &mut connections, "NdkAcceptEx")?;
    out!("connected {count}");
    for (number, connection) in connections.iter_mut().enumerate() {
        connection.post_sends(world, number)?;
    }
    drive(world, &mut connections, "through", |c| {
        c.is_done_sending() && c.received == MESSAGES
    })?;
    for (number, connection) in connections.iter().enumerate() {
        let last = Connection::text(number, MESSAGES - 1);
        for reply in connection.side.buffer.bytes()[..OUTGOING].chunks(LENGTH) {
            ensure!(
                reply == last,
                "connection {number}: a reply is not the last message that was sent"
            );
        }
    }
    out!(
        "verified {} replies on {count} connections",
        count * MESSAGES
    );
    let closing = world.call(server.machine, || listener.start_close());
    end(world, server, connections)?;
    let _ = closing.wait(world);
    Ok(())
}

/// Runs as `ucmatose -c COUNT -s SERVER`: receives, then replies.
pub fn client(world: &mut World, server: Server, target: Target, count: usize) -> Result<()> {
    let mut connections = Vec::with_capacity(count);
    for side in open(world, server, count)? {
        Connection::post_receives(world, &side)?;
        let connector = world
            .call(server.machine, || side.adapter.create_connector())
            .doing("NdkCreateConnector")?;
        let pending = world.call(server.machine, || {
            connector.start_connect(
                &side.queues.qp,
                side.at(0),
                (target.to, target.port).into(),
                ReadLimits::default(),
                b"",
            )
        });
        connections.push(Connection {
            side,
            connector,
            pending,
            received: 0,
            sent: 0,
        });
    }
    settle(world, &mut connections, "NdkConnect")?;
    for connection in &mut connections {
        connection.pending = world.call(server.machine, || {
            connection.connector.start_complete_connect_ex()
        });
    }
    settle(world, &mut connections, "NdkCompleteConnectEx")?;
    out!("connected {count}");
    drive(world, &mut connections, "served", |c| {
        c.received == MESSAGES
    })?;
    for (number, connection) in connections.iter_mut().enumerate() {
        connection.post_sends(world, number)?;
    }
    // The server leaves when it has all replies.
    drive(world, &mut connections, "through", Connection::has_left)?;
    out!(
        "received {} messages on {count} connections",
        count * MESSAGES
    );
    end(world, server, connections)
}

/// As many sides on one adapter.
fn open(world: &mut World, server: Server, count: usize) -> Result<Vec<Side>> {
    let first = Side::open(world, server, BYTES)?;
    let adapter = Rc::clone(&first.adapter);
    let mut sides = vec![first];
    while sides.len() < count {
        sides.push(Side::open_on(world, server, Rc::clone(&adapter), BYTES)?);
    }
    Ok(sides)
}

/// Disconnects all, whoever began with it, and takes everything down. Nobody may be told of the end twice.
fn end(world: &mut World, server: Server, mut connections: Vec<Connection>) -> Result<()> {
    for connection in &mut connections {
        connection.pending = world.call(server.machine, || connection.connector.start_disconnect());
    }
    drive(world, &mut connections, "disconnected", |c| {
        c.pending.is_done()
    })?;
    for Connection {
        side, connector, ..
    } in connections
    {
        let events = connector.disconnect_events().count();
        ensure!(events <= 1, "{events} disconnect events of one connection");
        world.call(server.machine, || connector.close());
        side.close(world)?;
    }
    Ok(())
}
