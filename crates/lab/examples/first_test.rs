//! A first test of an NDK consumer: two machines, a connection, a message, a write, and everything closed again.
//!
//! `cargo test -p vroce-lab --example first_test` runs it. The consumer here is the test itself; put calls of your own in the
//! place of those inside [`World::call`], which runs them as kernel code of a machine, at PASSIVE_LEVEL.

use anyhow::{Result, ensure};
use ndkpi::NDK_OP_FLAG_SEND_AND_SOLICIT_EVENT;
use ntsim::World;
use ntsim::wire::SwitchConfig;
use vroce_lab::status::Doing;
use vroce_lab::{Server, Side, finish, link};

/// The story. Everything that happens by chance follows from the seed: `NTSIM_SEED` in the environment repeats a failure.
pub fn story() -> Result<()> {
    let mut world = World::builder().build();
    let switch = world.switch(SwitchConfig::default());
    let a = Server::install(&mut world, &switch, "A", [10, 0, 0, 1].into())?;
    let b = Server::install(&mut world, &switch, "B", [10, 0, 0, 2].into())?;

    // On each machine: WskOpenNdkAdapter, a completion queue, a protection domain, a queue pair, 4096 registered bytes.
    let mut client = Side::open(&mut world, a, 4096)?;
    let server = Side::open(&mut world, b, 4096)?;
    let connection = link(&mut world, &client, &server, 445, b"hello", b"welcome")?;

    let post = world.call(b.machine, || {
        server.queues.qp.receive(1, &[server.sge(0, 4096)])
    });
    post.doing("NdkReceive")?;
    client.buffer.bytes_mut()[..4].copy_from_slice(b"ping");
    let send = world.call(a.machine, || {
        let flags = NDK_OP_FLAG_SEND_AND_SOLICIT_EVENT;
        client.queues.qp.send(2, &[client.sge(0, 4)], flags)
    });
    send.doing("NdkSend")?;
    client.complete(&mut world, 2)?;
    ensure!(server.complete(&mut world, 1)? == 4, "not four bytes");
    ensure!(
        server.buffer.bytes().starts_with(b"ping"),
        "not the bytes sent"
    );

    client.buffer.bytes_mut().fill(7);
    let (address, token) = server.remote();
    let write = world.call(a.machine, || {
        let (qp, sge) = (&client.queues.qp, client.sge(0, 4096));
        qp.write(3, &[sge], address, token, 0)
    });
    write.doing("NdkWrite")?;
    client.complete(&mut world, 3)?;
    ensure!(
        server.buffer.bytes().iter().all(|byte| *byte == 7),
        "not written"
    );

    connection.end(&mut world, &client, &server)?;
    client.close(&mut world)?;
    server.close(&mut world)?;
    world.uninstall(a.machine);
    world.uninstall(b.machine);
    // Fails if a rule was broken or something was left over.
    finish(world).map(drop)
}

fn main() -> Result<()> {
    story()?;
    println!("the story went well");
    Ok(())
}

#[test]
fn the_consumer_sends_and_writes() {
    story().unwrap();
}
