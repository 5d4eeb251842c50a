//! rping's two roles, played by an NDK consumer on vroce.

use super::PATIENCE;
use super::rping_wire::{BufferInfo, PORT, ping_text};
use crate::cli::Target;
use crate::server::Server;
use crate::side::Side;
use crate::status::{self, Doing};
use anyhow::{Context, Result, bail, ensure};
use ndkpi::NDK_RESULT;
use ndkpi::status::STATUS_SUCCESS;
use ntsim::World;
use ntsim::ndk::{Connector, Listener};
use std::time::Duration;

/// Layout of the registered buffer: two areas of data, then the messages.
const AREA: usize = 65_536;
const SINK: usize = AREA;
const INCOMING: usize = 2 * AREA;
const OUTGOING: usize = INCOMING + BufferInfo::LEN;
const BYTES: usize = OUTGOING + BufferInfo::LEN;

/// Contexts of requests.
const RECEIVE: u64 = 1;
const SEND: u64 = 2;
const RDMA: u64 = 3;
const ASK: u64 = 4;

/// How long a client that expects its peer to die waits until it asks. Who has no request under way does not notice.
const ASK_AFTER: Duration = Duration::from_secs(2);

/// One end of an rping conversation.
struct Talk<'a> {
    world: &'a mut World,
    side: &'a mut Side,
    /// A message came in before it was waited for.
    received: bool,
    /// Requests posted that have no result yet.
    outstanding: u32,
    /// Whether the peer is asked if it is still there, while a message of its is waited for.
    asks: bool,
}

impl Talk<'_> {
    fn post_receive(&mut self) -> Result<()> {
        let side = &*self.side;
        self.world
            .call(side.server.machine, || {
                side.queues
                    .qp
                    .receive(RECEIVE, &[side.sge(INCOMING, BufferInfo::LEN)])
            })
            .doing("NdkReceive")?;
        self.outstanding += 1;
        Ok(())
    }

    /// Waits for a completion; messages may come in before our own send is acknowledged.
    fn wait(&mut self, context: u64) -> Result<()> {
        loop {
            if context == RECEIVE && self.received {
                self.received = false;
                return Ok(());
            }
            let result = self.next()?;
            self.outstanding -= 1;
            if result.Status != STATUS_SUCCESS {
                bail!("a request failed with {}", status::name(result.Status));
            }
            match result.RequestContext.addr() as u64 {
                RECEIVE => {
                    ensure!(
                        result.BytesTransferred as usize == BufferInfo::LEN,
                        "a message of {} bytes is not rping's",
                        result.BytesTransferred
                    );
                    self.received = true;
                }
                ASK => {}
                other if other == context => return Ok(()),
                other => bail!("request {other} completed instead of {context}"),
            }
        }
    }

    /// The next result. If it does not come soon, the peer may be asked for a sign of life.
    fn next(&mut self) -> Result<NDK_RESULT> {
        if self.asks {
            if let Ok(result) = self.side.next_result(self.world, ASK_AFTER) {
                return Ok(result);
            }
            self.ask()?;
        }
        self.side.next_result(self.world, PATIENCE)
    }

    /// A WRITE of nothing, for which no key is needed: who is there acknowledges it.
    fn ask(&mut self) -> Result<()> {
        let side = &*self.side;
        self.world
            .call(side.server.machine, || {
                side.queues.qp.write(ASK, &[side.sge(0, 0)], 0, 0, 0)
            })
            .doing("NdkWrite")?;
        self.outstanding += 1;
        Ok(())
    }

    fn send(&mut self, info: BufferInfo) -> Result<()> {
        self.side.buffer.bytes_mut()[OUTGOING..][..BufferInfo::LEN]
            .copy_from_slice(&info.to_bytes());
        let side = &*self.side;
        self.world
            .call(side.server.machine, || {
                side.queues
                    .qp
                    .send(SEND, &[side.sge(OUTGOING, BufferInfo::LEN)], 0)
            })
            .doing("NdkSend")?;
        self.outstanding += 1;
        self.wait(SEND)
    }

    /// Waits for the peer's message, makes room for the next one, and returns it.
    fn receive(&mut self) -> Result<BufferInfo> {
        self.wait(RECEIVE)?;
        let info = self.side.buffer.bytes()[INCOMING..][..BufferInfo::LEN].try_into()?;
        self.post_receive()?;
        Ok(BufferInfo::from_bytes(info))
    }

    fn info(&self, offset: usize, length: u32) -> BufferInfo {
        let (address, key) = self.side.remote();
        BufferInfo {
            address: address + offset as u64,
            key,
            length,
        }
    }

    /// One round as the client: our text is read, then written back.
    fn client_round(&mut self, round: u32, size: usize) -> Result<()> {
        let text = ping_text(round, size);
        self.side.buffer.bytes_mut()[..size].copy_from_slice(&text);
        self.side.buffer.bytes_mut()[SINK..][..size].fill(0);
        let length = u32::try_from(size)?;
        self.send(self.info(0, length))?;
        self.receive()?;
        self.send(self.info(SINK, length))?;
        self.receive()?;
        ensure!(
            self.side.buffer.bytes()[SINK..][..size] == text[..],
            "round {round}: what the server wrote back differs from what it read"
        );
        Ok(())
    }

    /// One round as the server: read the client's text, check it, write it back.
    fn server_round(&mut self, round: u32, source: BufferInfo) -> Result<()> {
        let size = source.length as usize;
        ensure!((1..=AREA).contains(&size), "rping never uses {size} bytes");
        let side = &*self.side;
        self.world
            .call(side.server.machine, || {
                side.queues
                    .qp
                    .read(RDMA, &[side.sge(0, size)], source.address, source.key, 0)
            })
            .doing("NdkRead")?;
        self.outstanding += 1;
        self.wait(RDMA)?;
        ensure!(
            self.side.buffer.bytes()[..size] == ping_text(round, size)[..],
            "round {round}: the text read is not rping's"
        );
        self.send(self.info(0, 0))?;
        let sink = self.receive()?;
        let side = &*self.side;
        self.world
            .call(side.server.machine, || {
                side.queues
                    .qp
                    .write(RDMA, &[side.sge(0, size)], sink.address, sink.key, 0)
            })
            .doing("NdkWrite")?;
        self.outstanding += 1;
        self.wait(RDMA)?;
        self.send(self.info(0, 0))
    }
}

/// Runs as `rping -c`.
pub fn client(
    world: &mut World,
    server: Server,
    target: Target,
    count: u32,
    size: u32,
    expect_abort: bool,
) -> Result<()> {
    let mut side = Side::open(world, server, BYTES)?;
    let mut talk = Talk {
        world,
        side: &mut side,
        received: false,
        outstanding: 0,
        asks: expect_abort,
    };
    talk.post_receive()?;
    let connector = match talk
        .side
        .connect(talk.world, (target.to, target.port), b"")?
    {
        Ok(connector) => connector,
        Err((status, _)) => bail!("NdkConnect: {}", status::name(status)),
    };
    out!("connected");
    let mut verified = 0;
    let mut failure = None;
    for round in 0..count {
        match talk.client_round(round, size as usize) {
            Ok(()) => verified += 1,
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
        if verified < 10 || verified % 10 == 0 {
            out!("round {verified}");
        }
    }
    out!("verified {verified} rounds");
    if expect_abort {
        let failure = failure.context("the peer did not die")?;
        out!("ended by: {failure:#}");
        let outstanding = talk.outstanding;
        aborted(world, &side, connector, outstanding)?;
    } else {
        if let Some(failure) = failure {
            return Err(failure);
        }
        let disconnect = world.call(server.machine, || connector.start_disconnect());
        disconnect.wait(world).doing("NdkDisconnect")?;
        world.call(server.machine, || connector.close());
    }
    side.close(world)
}

/// The peer has died: one disconnect event, and every outstanding request flushed by our own disconnect.
fn aborted(world: &mut World, side: &Side, connector: Connector, outstanding: u32) -> Result<()> {
    world.run_until(|_| connector.disconnect_events().count() > 0, PATIENCE);
    // A second event would follow the first closely.
    world.run_for(Duration::from_millis(500));
    let events = connector.disconnect_events().calls();
    for (index, event) in events.iter().enumerate() {
        out!(
            "disconnect event {} at {}",
            index + 1,
            status::irql(event.irql)
        );
    }
    ensure!(
        events.len() == 1,
        "{} disconnect events instead of one",
        events.len()
    );
    let disconnect = world.call(side.server.machine, || connector.start_disconnect());
    let outcome = disconnect.wait(world);
    out!(
        "NdkDisconnect: {}",
        status::name(outcome.err().unwrap_or(STATUS_SUCCESS))
    );
    let mut flushed = 0;
    while world
        .call(side.server.machine, || side.queues.cq.poll())
        .is_some()
    {
        flushed += 1;
    }
    out!("flushed {flushed} of {outstanding} requests");
    ensure!(
        flushed == outstanding,
        "{flushed} of {outstanding} outstanding requests were flushed"
    );
    world.call(side.server.machine, || connector.close());
    Ok(())
}

/// A client that says nothing for so long has left. Linux does not repeat a disconnect request of a process that has ended, so one that
/// is lost never comes; and its transport is silent for about two seconds whenever it loses a repetition.
const SILENCE: Duration = Duration::from_secs(20);

/// Runs as `rping -s` for one client.
pub fn server(world: &mut World, server: Server) -> Result<()> {
    out!("ready");
    let rounds = serve_one(world, server, SILENCE)??;
    out!("served {rounds} rounds");
    Ok(())
}

/// Listens for one client and serves it to its end; returns the number of rounds. The outer error is ours: there is no
/// use in trying again. The inner one is the client's. All that was opened is closed in either case.
pub fn serve_one(world: &mut World, server: Server, patience: Duration) -> Result<Result<u32>> {
    let mut side = Side::open(world, server, BYTES)?;
    let served = match side.listen(world, PORT) {
        Ok(listener) => Ok(serve_client(world, &mut side, listener, patience)),
        Err(error) => Err(error),
    };
    side.close(world)?;
    served
}

fn serve_client(
    world: &mut World,
    side: &mut Side,
    listener: Listener,
    patience: Duration,
) -> Result<u32> {
    let machine = side.server.machine;
    let request = side.next_request(world, &listener, patience);
    // It goes when the connector that came through it does.
    let closing = world.call(machine, || listener.start_close());
    let outcome = request.and_then(|connector| {
        let outcome = converse(world, side, &connector, patience);
        let disconnect = world.call(machine, || connector.start_disconnect());
        // The client may be gone already; its disconnect was seen or will be by the timeout.
        let _ = disconnect.wait(world);
        world.call(machine, || connector.close());
        outcome
    });
    let _ = closing.wait(world);
    outcome
}

/// Accepts a client and serves it until it leaves.
fn converse(
    world: &mut World,
    side: &mut Side,
    connector: &Connector,
    patience: Duration,
) -> Result<u32> {
    let machine = side.server.machine;
    let mut talk = Talk {
        world,
        side,
        received: false,
        outstanding: 0,
        asks: false,
    };
    talk.post_receive()?;
    let accept = talk.world.call(machine, || {
        connector.start_accept_ex(&talk.side.queues.qp, ntsim::ndk::ReadLimits::default(), b"")
    });
    accept.wait(talk.world).doing("NdkAcceptEx")?;
    let mut rounds = 0;
    loop {
        // The client either asks for a round or leaves.
        talk.world.run_until(
            |world| {
                if talk.received {
                    return true;
                }
                if let Some(result) = world.call(machine, || talk.side.queues.cq.poll()) {
                    talk.outstanding -= 1;
                    talk.received = result.Status == STATUS_SUCCESS
                        && result.RequestContext.addr() as u64 == RECEIVE;
                    return true;
                }
                connector.disconnect_events().count() > 0 || ntsim::interrupt::caught()
            },
            patience,
        );
        if !talk.received {
            return Ok(rounds);
        }
        talk.receive()
            .and_then(|source| talk.server_round(rounds, source))
            .with_context(|| format!("after {rounds} rounds"))?;
        rounds += 1;
    }
}
