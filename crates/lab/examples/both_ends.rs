//! A test of an NDK consumer in ten lines, with both ends: the consumer runs as a thread of one machine, its peer as one of the other, over vroce.
//!
//! `cargo test -p vroce-lab --example both_ends` runs it; `docs/consumers-guide.md` shows it.

use std::net::SocketAddr;

use anyhow::Result;
use ndkpi::NDK_OP_FLAG_SEND_AND_SOLICIT_EVENT;
use ntsim::World;
use ntsim::ndk::{self, Endpoint, Listener};
use vroce_lab::status::Doing;

/// The consumer: connects and sends a message.
fn my_consumer(from: SocketAddr, to: SocketAddr) -> ndk::Result<()> {
    let mut end = Endpoint::open(64)?;
    let connector = end.connect(from, to, b"hello")?;
    end.buffer.bytes_mut()[..4].copy_from_slice(b"ping");
    let flags = NDK_OP_FLAG_SEND_AND_SOLICIT_EVENT;
    end.qp.send(1, &[end.sge(0, 4)], flags)?;
    ndk::check(end.cq.wait()?.Status)?;
    connector.disconnect()?;
    connector.close();
    end.close()
}

/// Its peer: accepts and takes the message.
fn peer((end, listener): (Endpoint, Listener)) -> ndk::Result<Vec<u8>> {
    end.qp.receive(1, &[end.sge(0, 64)])?;
    let connector = end.accept(listener, b"welcome")?;
    let result = end.cq.wait()?;
    ndk::check(result.Status)?;
    let message = end.buffer.bytes()[..result.BytesTransferred as usize].to_vec();
    connector.disconnect()?;
    connector.close();
    end.close()?;
    Ok(message)
}

/// The test.
pub fn the_peer_gets_the_message(mut world: World) -> Result<()> {
    let [a, b] = vroce_lab::pair(&mut world)?;
    let ready = world.call(b.machine, || Endpoint::listening(64, b.at(445)));
    let ready = ready.doing("listening")?;
    let peer = world.spawn(b.machine, move || peer(ready));
    let mine = world.spawn(a.machine, move || my_consumer(a.at(0), b.at(445)));
    mine.wait(&mut world).doing("my consumer")?;
    assert_eq!(peer.wait(&mut world).doing("its peer")?, b"ping");
    vroce_lab::end(world, [a, b])
}

fn main() -> Result<()> {
    the_peer_gets_the_message(World::builder().build())?;
    println!("the peer got the message");
    Ok(())
}

#[cfg(test)]
mod tests {
    use ntsim::World;

    #[test]
    fn the_peer_gets_the_message() {
        super::the_peer_gets_the_message(World::builder().build()).unwrap();
    }

    /// Answers that pend, in an order of chance, do not make it another test.
    #[test]
    fn the_peer_gets_it_whatever_pends() {
        for seed in 1..=25 {
            let world = World::builder().seed(seed).pend(2).ignore_environment();
            super::the_peer_gets_the_message(world.build()).unwrap();
        }
    }

    /// Without indentation and empty lines.
    fn plain(text: &str) -> String {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_guide_shows_this() {
        let source = plain(include_str!("both_ends.rs"));
        let guide = include_str!("../../../docs/consumers-guide.md");
        let mut shown = 0;
        for block in guide.split("```rust\n").skip(1) {
            let code = plain(block.split("```").next().unwrap());
            assert!(source.contains(&code), "not in the example:\n{code}");
            shown += 1;
        }
        assert_eq!(shown, 2);
    }
}
