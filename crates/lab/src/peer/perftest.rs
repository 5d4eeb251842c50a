//! The server's side of perftest's `ib_write_bw -R`, `ib_read_bw -R`, `ib_send_bw -R` and `ib_atomic_bw -R`.

use super::PATIENCE;
use super::perftest_atomic::Atomic;
use super::perftest_wire::{
    Control, Destination, LONGEST_RUN, MESSAGE, PORT, SENTINEL, longest_run,
};
use super::wire_watch::WireWatch;
use crate::server::Server;
use crate::side::Side;
use crate::status::{self, Doing};
use anyhow::{Context, Result, bail, ensure};
use ndkpi::status::STATUS_SUCCESS;
use ntsim::World;
use ntsim::ndk::{Connector, Listener, ReadLimits};
use std::rc::Rc;

/// Receives posted on the test connection; as many messages of memory.
const RECEIVES: usize = 32;

/// Bytes of one control message at most.
const CONTROL: usize = 64;
const CONTROL_RECEIVES: usize = 4;
const SEND: u64 = 1000;

/// Serves one `ib_write_bw -R`: its writes go to the first half of our memory, the second must stay untouched.
pub fn write_server(world: &mut World, server: Server) -> Result<()> {
    let mut test = Side::open(world, server, 2 * MESSAGE)?;
    test.buffer.bytes_mut().fill(SENTINEL);
    let outcome = serve(world, server, &test, |_, _| Ok(0))?;
    let (written, beyond) = test.buffer.bytes().split_at(MESSAGE);
    let longest = longest_run(written);
    ensure!(
        longest < LONGEST_RUN,
        "{longest} bytes in a row were not written"
    );
    ensure!(
        beyond.iter().all(|byte| *byte == SENTINEL),
        "memory beyond the message was written"
    );
    out!(
        "verified {MESSAGE} bytes written, nothing beyond; {} control messages",
        outcome.control
    );
    test.close(world)
}

/// Serves one `ib_read_bw -R`, which does not look at what it reads: our memory must stay as it is.
pub fn read_server(world: &mut World, server: Server) -> Result<()> {
    let mut test = Side::open(world, server, MESSAGE)?;
    test.buffer.bytes_mut().fill(SENTINEL);
    let outcome = serve(world, server, &test, |_, _| Ok(0))?;
    ensure!(
        test.buffer.bytes().iter().all(|byte| *byte == SENTINEL),
        "a test that only reads has written"
    );
    out!(
        "unchanged: nothing was written; {} control messages",
        outcome.control
    );
    test.close(world)
}

/// Serves one `ib_send_bw -R` of so many messages: counts them and checks their length.
pub fn send_server(world: &mut World, server: Server, count: u64) -> Result<()> {
    let mut test = Side::open(world, server, RECEIVES * MESSAGE)?;
    test.buffer.bytes_mut().fill(SENTINEL);
    let repost = |world: &mut World, test: &Side, slot: usize| {
        world
            .call(server.machine, || {
                test.queues
                    .qp
                    .receive(slot as u64, &[test.sge(slot * MESSAGE, MESSAGE)])
            })
            .doing("NdkReceive")
    };
    for slot in 0..RECEIVES {
        repost(world, &test, slot)?;
    }
    let outcome = serve(world, server, &test, |world, test| {
        let mut messages = 0;
        while let Some(result) = world.call(server.machine, || test.queues.cq.poll()) {
            if result.Status != STATUS_SUCCESS {
                break;
            }
            ensure!(
                result.BytesTransferred as usize == MESSAGE,
                "a message of {} bytes instead of {MESSAGE}",
                result.BytesTransferred
            );
            messages += 1;
            repost(world, test, result.RequestContext.addr())?;
        }
        Ok(messages)
    })?;
    ensure!(
        outcome.messages == count,
        "{} messages of {count}",
        outcome.messages
    );
    // Only as many leave no receive untouched.
    let used = RECEIVES.min(usize::try_from(count)?) * MESSAGE;
    let longest = longest_run(&test.buffer.bytes()[..used]);
    ensure!(
        longest < LONGEST_RUN,
        "{longest} bytes in a row never received"
    );
    out!("verified {} messages of {MESSAGE} bytes", outcome.messages);
    test.close(world)
}

/// Serves one `ib_atomic_bw -R` of so many operations; `watch` sees our answers on the wire.
pub fn atomic_server(
    world: &mut World,
    server: Server,
    watch: &WireWatch,
    count: u64,
    atomic: Atomic,
) -> Result<()> {
    let mut test = Side::open(world, server, MESSAGE)?;
    let words = test.buffer.bytes_mut().as_chunks_mut().0;
    for (index, word) in words.iter_mut().enumerate() {
        *word = atomic.start(index).to_ne_bytes();
    }
    serve(world, server, &test, |_, _| Ok(0))?;
    let words = test.buffer.bytes().as_chunks().0.iter();
    let words: Vec<u64> = words.copied().map(u64::from_ne_bytes).collect();
    atomic.judge(&words, &watch.atomic_answers(), count)?;
    out!("verified {count} atomic operations by memory and answers");
    test.close(world)
}

struct Outcome {
    control: u64,
    messages: u64,
}

/// Plays the control connection and accepts the test connection, until the client disconnects. `look` is called again and again to
/// deal with the test connection's completions; it returns how many messages there were.
fn serve(
    world: &mut World,
    server: Server,
    test: &Side,
    mut look: impl FnMut(&mut World, &Side) -> Result<u64>,
) -> Result<Outcome> {
    let mut control = Side::open_on(
        world,
        server,
        Rc::clone(&test.adapter),
        (CONTROL_RECEIVES + 1) * CONTROL,
    )?;
    let listener = test.listen(world, PORT)?;
    out!("ready");
    for slot in 0..CONTROL_RECEIVES {
        receive_control(world, &control, slot)?;
    }
    let request = test.next_request(world, &listener, PATIENCE)?;
    let control_connector = accept(world, &control, request)?;
    let mut test_connector = None;
    let mut outcome = Outcome {
        control: 0,
        messages: 0,
    };
    loop {
        let mut result = None;
        let progress = world.run_until(
            |world| {
                result = world.call(server.machine, || control.queues.cq.poll());
                result.is_some()
                    || listener.waiting() > 0
                    || control_connector.disconnect_events().count() > 0
                    || test_connector
                        .as_ref()
                        .is_some_and(|c: &Connector| c.disconnect_events().count() > 0)
            },
            std::time::Duration::from_millis(1),
        );
        outcome.messages += look(world, test)?;
        if let Some(result) = result {
            if result.Status != STATUS_SUCCESS {
                bail!(
                    "the control connection failed with {}",
                    status::name(result.Status)
                );
            }
            if result.RequestContext.addr() as u64 != SEND {
                outcome.control += 1;
                answer(
                    world,
                    &mut control,
                    test,
                    result.RequestContext.addr(),
                    result.BytesTransferred as usize,
                )?;
            }
        } else if listener.waiting() > 0 {
            let request = test.next_request(world, &listener, PATIENCE)?;
            ensure!(test_connector.is_none(), "a third connection was asked for");
            test_connector = Some(accept(world, test, request)?);
        } else if progress {
            break;
        }
    }
    let test_connector = test_connector.context("the client left without a test connection")?;
    end(world, server, [test_connector, control_connector], listener);
    control.close(world)?;
    Ok(outcome)
}

fn receive_control(world: &mut World, control: &Side, slot: usize) -> Result<()> {
    world
        .call(control.server.machine, || {
            control
                .queues
                .qp
                .receive(slot as u64, &[control.sge(slot * CONTROL, CONTROL)])
        })
        .doing("NdkReceive")
}

/// Answers a control message in kind.
fn answer(
    world: &mut World,
    control: &mut Side,
    test: &Side,
    slot: usize,
    length: usize,
) -> Result<()> {
    let message: Vec<u8> = control.buffer.bytes()[slot * CONTROL..][..length].to_vec();
    receive_control(world, control, slot)?;
    let kind = Control::classify(length).with_context(|| {
        format!("a control message of {length} bytes is not one of perftest's protocol 6.06")
    })?;
    let reply = match kind {
        Control::Echo => message,
        Control::Destination => {
            let (address, key) = test.remote();
            Destination::new(test.server.address, address, key)
                .to_bytes()
                .to_vec()
        }
    };
    let at = CONTROL_RECEIVES * CONTROL;
    control.buffer.bytes_mut()[at..][..reply.len()].copy_from_slice(&reply);
    world
        .call(control.server.machine, || {
            control
                .queues
                .qp
                .send(SEND, &[control.sge(at, reply.len())], 0)
        })
        .doing("NdkSend")
}

fn accept(world: &mut World, side: &Side, connector: Connector) -> Result<Connector> {
    let accept = world.call(side.server.machine, || {
        connector.start_accept_ex(&side.queues.qp, ReadLimits::default(), b"")
    });
    accept.wait(world).doing("NdkAcceptEx")?;
    Ok(connector)
}

fn end(world: &mut World, server: Server, connectors: [Connector; 2], listener: Listener) {
    for connector in connectors {
        let disconnect = world.call(server.machine, || connector.start_disconnect());
        // The client disconnects too; either way the connection is over.
        let _ = disconnect.wait(world);
        world.call(server.machine, || connector.close());
    }
    world.call(server.machine, || listener.close());
}
