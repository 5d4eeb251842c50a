//! An NFS client over RDMA, as far as it takes to copy a file on a Linux server: what the server writes into our memory is what it
//! has to read from there again.

use super::PATIENCE;
use super::nfs_wire::{Call, MESSAGE, PRIVATE_DATA, Reply, Segment};
use crate::cli::Target;
use crate::server::Server;
use crate::side::Side;
use crate::status::{self, Doing};
use anyhow::{Context, Result, bail, ensure};
use ndkpi::status::STATUS_SUCCESS;
use ntsim::World;

/// Calls outstanding, each with a piece of the file.
const CALLS: usize = 8;
const PIECE: usize = 64 * 1024;
const FILE: usize = CALLS * PIECE;

/// Layout of the registered buffer: what is read, what is written, then messages.
const SOURCE: usize = FILE;
const INCOMING: usize = 2 * FILE;
const OUTGOING: usize = INCOMING + CALLS * MESSAGE;
const BYTES: usize = OUTGOING + CALLS * MESSAGE;

/// Contexts of requests: the slot for receives, and that much more for sends.
const SEND: u64 = 100;

/// The files in the server's root folder: the one to read and the one to write, which is there too.
const FROM: &str = "from";
const TO: &str = "to";

/// Copies the file.
pub fn client(world: &mut World, server: Server, target: Target) -> Result<()> {
    let mut side = Side::open(world, server, BYTES)?;
    for slot in 0..CALLS {
        receive(world, &side, slot)?;
    }
    let connector = match side.connect(world, (target.to, target.port), &PRIVATE_DATA)? {
        Ok(connector) => connector,
        Err((status, _)) => bail!("NdkConnect: {}", status::name(status)),
    };
    let told = world
        .call(server.machine, || connector.connection_data())
        .doing("NdkGetConnectionData")?;
    // Its format's magic number and version are those of ours.
    ensure!(
        told.private_data.starts_with(&PRIVATE_DATA[..5]),
        "the server's private data is not RPC-over-RDMA's: {:02x?}",
        told.private_data
    );
    out!("connected");
    round(world, &mut side, 1, &[Call::Null])?;
    let (address, key) = side.remote();
    let piece = |slot: usize, at: usize| Segment {
        key,
        length: PIECE as u32,
        address: address + (at + slot * PIECE) as u64,
    };
    let offset = |slot: usize| (slot * PIECE) as u64;
    let reads: [Call<'_>; CALLS] =
        std::array::from_fn(|slot| Call::Read(FROM, offset(slot), piece(slot, 0)));
    round(world, &mut side, 100, &reads)?;
    // Elsewhere, so that it is this that is written and nothing that was left in place.
    let (read, source) = side.buffer.bytes_mut().split_at_mut(SOURCE);
    source[..FILE].copy_from_slice(read);
    read.fill(0);
    let writes: [Call<'_>; CALLS] =
        std::array::from_fn(|slot| Call::Write(TO, offset(slot), piece(slot, SOURCE)));
    round(world, &mut side, 200, &writes)?;
    ensure!(
        side.buffer.bytes()[..FILE].iter().all(|byte| *byte == 0),
        "the server wrote into our memory when it should have read"
    );
    out!("copied {FILE} bytes in {CALLS} + {CALLS} calls");
    let disconnect = world.call(server.machine, || connector.start_disconnect());
    disconnect.wait(world).doing("NdkDisconnect")?;
    world.call(server.machine, || connector.close());
    side.close(world)
}

fn receive(world: &mut World, side: &Side, slot: usize) -> Result<()> {
    world
        .call(side.server.machine, || {
            let qp = &side.queues.qp;
            qp.receive(slot as u64, &[side.sge(INCOMING + slot * MESSAGE, MESSAGE)])
        })
        .doing("NdkReceive")
}

/// Where the numbers of this process's calls begin. A server remembers for minutes how it has answered a number, and says the same
/// again without doing what is asked: nobody must come back with the numbers of an earlier run.
fn first_number() -> u32 {
    std::process::id().wrapping_mul(1000)
}

/// Makes calls, all at once, and checks the replies, which may come in any order. The calls' numbers begin with `first`, of this
/// process's.
fn round(world: &mut World, side: &mut Side, first: u32, calls: &[Call<'_>]) -> Result<()> {
    let first = first_number().wrapping_add(first);
    for (slot, call) in calls.iter().enumerate() {
        let message = call.to_bytes(first.wrapping_add(slot as u32));
        let at = OUTGOING + slot * MESSAGE;
        side.buffer.bytes_mut()[at..][..message.len()].copy_from_slice(&message);
        let side = &*side;
        world
            .call(side.server.machine, || {
                let qp = &side.queues.qp;
                qp.send(SEND + slot as u64, &[side.sge(at, message.len())], 0)
            })
            .doing("NdkSend")?;
    }
    let mut answered = [false; CALLS];
    for _ in 0..2 * calls.len() {
        let result = side.next_result(world, PATIENCE)?;
        ensure!(
            result.Status == STATUS_SUCCESS,
            "a request failed with {}",
            status::name(result.Status)
        );
        let slot = result.RequestContext.addr();
        if slot as u64 >= SEND {
            continue;
        }
        let bytes = &side.buffer.bytes()[INCOMING + slot * MESSAGE..];
        let reply = Reply::from_bytes(&bytes[..result.BytesTransferred as usize])?;
        let number = reply.xid.wrapping_sub(first) as usize;
        let call = calls.get(number).context("a reply to no call")?;
        call.check(&reply).with_context(|| format!("{call:?}"))?;
        ensure!(
            !std::mem::replace(&mut answered[number], true),
            "two replies to one call"
        );
        receive(world, side, slot)?;
    }
    Ok(())
}
