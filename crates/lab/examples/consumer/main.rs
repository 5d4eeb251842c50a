//! A complete NDK consumer, both ends, as driver code would be written: against the dispatch tables and the kernel's own functions.
//! `docs/consumers-guide.md` explains it. Only this file knows that it runs in a simulator.
//!
//! `cargo run -p vroce-lab --example consumer` runs it, and `cargo test -p vroce-lab --example consumer` its tests.
#![allow(
    unsafe_code,
    reason = "a driver calls tables of function pointers and the kernel"
)]

mod adapter;
mod client;
mod endpoint;
mod memory;
mod protocol;
mod server;
mod wait;

use std::cell::Cell;
use std::ptr::NonNull;
use std::rc::Rc;

use anyhow::{Result, ensure};
use ntsim::World;
use ntsim::ndk::on_leave;
use ntsim::wire::SwitchConfig;
use vroce_lab::status::Doing;
use vroce_lab::{Server, finish};

/// `object->Dispatch->Function(object, ...)`.
macro_rules! ndk {
    ($object:expr, $function:ident $(, $argument:expr)* $(,)?) => {{
        let object = $object;
        ((*(*object).Dispatch).$function)(object $(, $argument)*)
    }};
}
pub(crate) use ndk;

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];
const PORT: u16 = 445;

/// Two machines with the driver.
fn machines() -> Result<(World, Server, Server)> {
    let mut world = World::builder().build();
    let switch = world.switch(SwitchConfig::default());
    let a = Server::install(&mut world, &switch, "A", A.into())?;
    let b = Server::install(&mut world, &switch, "B", B.into())?;
    Ok((world, a, b))
}

/// Unloads the drivers. Fails if a rule was broken or something was left over.
fn end(mut world: World, a: Server, b: Server) -> Result<()> {
    world.uninstall(a.machine);
    world.uninstall(b.machine);
    finish(world).map(drop)
}

/// What became of a server that was told to leave its adapter.
type Left = Rc<Cell<Option<wait::Result<u32>>>>;

/// Starts the server, which stops when it is told to leave.
fn serve(world: &mut World, on: Server, left: &Left) -> Result<NonNull<server::Server>> {
    let left = Rc::clone(left);
    let server = world.call(on.machine, || {
        let server = server::start(B, PORT)?;
        // On Windows this comes from whoever stands between the consumer and NDIS.
        on_leave(server::adapter(server), move |_why| {
            left.set(Some(server::stop(server)));
        });
        Ok(server)
    });
    server.doing("starting the server")
}

/// Blocks are written, confirmed and read back.
fn story() -> Result<u32> {
    let (mut world, a, b) = machines()?;
    let server = serve(&mut world, b, &Left::default())?;
    // While it waits, the world goes on: the other machine too.
    let client = world.call(a.machine, || client::run(A, B, PORT));
    client.doing("the client")?;
    let served = world.call(b.machine, || {
        server::wait_for_end(server);
        server::stop(server)
    });
    let served = served.doing("the server")?;
    end(world, a, b)?;
    Ok(served)
}

fn main() -> Result<()> {
    let served = story()?;
    ensure!(served as usize == protocol::BLOCKS, "only {served} blocks");
    println!("{served} blocks were written, confirmed and read back");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    use ndkpi::status::{STATUS_CONNECTION_REFUSED, STATUS_INSUFFICIENT_RESOURCES};

    #[test]
    fn blocks_are_written_confirmed_and_read_back() {
        assert_eq!(story().unwrap() as usize, protocol::BLOCKS);
    }

    #[test]
    fn a_server_that_nobody_came_to_stops() {
        let (mut world, a, b) = machines().unwrap();
        let server = world.call(b.machine, || server::start(B, PORT)).unwrap();
        let served = world.call(b.machine, || server::stop(server));
        assert_eq!(served, Ok(0));
        end(world, a, b).unwrap();
    }

    #[test]
    fn a_server_leaves_when_its_adapter_goes() {
        let (mut world, a, b) = machines().unwrap();
        let left = Left::default();
        serve(&mut world, b, &left).unwrap();
        world.restart_adapters(b.machine).unwrap();
        assert_eq!(left.take(), Some(Ok(0)));
        end(world, a, b).unwrap();
    }

    // The other machine has no listener, so that each run ends where the connect is refused, if not before.
    #[test]
    fn whichever_allocation_fails_everything_is_undone() {
        let (mut world, a, b) = machines().unwrap();
        let mut failures = 0;
        loop {
            world.fail_allocations(a.machine, Some(failures), false);
            let result = world.call(a.machine, || client::run(A, B, PORT));
            let failed = world.take_failed_functions(a.machine);
            world.fail_allocations(a.machine, None, false);
            if failed.is_empty() {
                assert_eq!(result, Err(STATUS_CONNECTION_REFUSED));
                break;
            }
            let expected = [STATUS_INSUFFICIENT_RESOURCES, STATUS_CONNECTION_REFUSED];
            assert!(
                result.is_err_and(|status| expected.contains(&status)),
                "{failed:?}: {result:?}"
            );
            failures += 1;
        }
        assert!(failures > 10, "only {failures} allocations failed");
        end(world, a, b).unwrap();
    }

    /// Code without its indentation.
    fn plain(code: &str) -> String {
        let lines = code.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_guide_shows_this_code() {
        let sources = plain(concat!(
            include_str!("adapter.rs"),
            include_str!("client.rs"),
            include_str!("endpoint.rs"),
            include_str!("main.rs"),
            include_str!("memory.rs"),
            include_str!("server.rs"),
            include_str!("wait.rs"),
        ));
        let guide = include_str!("../../../../docs/consumers-guide.md");
        let mut shown = 0;
        for block in guide.split("```rust,ignore\n").skip(1) {
            let code = plain(block.split("```").next().unwrap());
            assert!(sources.contains(&code), "not in the example:\n{code}");
            shown += 1;
        }
        assert!(shown >= 5, "the guide shows only {shown} pieces");
    }

    /// The text of every source file below a folder.
    fn sources(folder: &Path, text: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, text);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }

    #[test]
    fn the_tests_that_the_guide_names_exist() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut text = String::new();
        for folder in ["tests", "crates"] {
            sources(&root.join(folder), &mut text);
        }
        let guide = include_str!("../../../../docs/consumers-guide.md");
        let (_, mistakes) = guide.split_once("## Known mistakes").unwrap();
        let mut named = 0;
        for row in mistakes.lines().filter(|line| line.ends_with(" |")) {
            let cell = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
            for name in cell.split('`').skip(1).step_by(2) {
                let there = text.contains(&format!("fn {name}("));
                assert!(there, "no test is named {name}: {row}");
                named += 1;
            }
        }
        assert!(named >= 30, "only {named} tests are named");
    }
}
