//! The test of docs/simulator.md: ten lines around a consumer; and that it fails if the consumer does wrong.

use std::cell::Cell;
use std::panic::catch_unwind;

use anyhow::Result;
use ntsim::World;
use ntsim::ndk::{self, Endpoint};
use ntsim::wire::SwitchConfig;
use vroce_lab::status::Doing;
use vroce_lab::{Server, finish};

thread_local! {
    static FORGETS: Cell<bool> = const { Cell::new(false) };
}

/// Opens an adapter with what a connection needs, makes a memory window, and closes all of it, if it does not forget the window.
fn my_consumer() -> ndk::Result<()> {
    let end = Endpoint::open(4096)?;
    let window = end.pd.create_mw()?;
    if !FORGETS.get() {
        window.close();
    }
    end.close()
}

fn my_consumer_does_nothing_wrong() -> Result<()> {
    let mut world = World::builder().build();
    let switch = world.switch(SwitchConfig::default());
    let server = Server::install(&mut world, &switch, "A", [10, 0, 0, 1].into())?;
    world
        .call(server.machine, my_consumer)
        .doing("my consumer")?;
    world.uninstall(server.machine);
    finish(world).map(drop)
}

#[test]
fn a_consumer_that_does_nothing_wrong_passes() {
    my_consumer_does_nothing_wrong().unwrap();
}

#[test]
fn one_that_forgets_to_close_what_it_made_fails_and_is_told_what() {
    FORGETS.set(true);
    let failed = catch_unwind(my_consumer_does_nothing_wrong).expect_err("it should fail");
    let report = failed.downcast_ref::<String>().expect("a report");
    let held = "the close of PD 1 of vroce on A pends, held by MW 1 of vroce on A, not closed";
    assert!(report.contains(held), "{report}");
}

/// Whatever vroce cannot have while the kit opens an end, the kit closes what it has.
#[test]
fn an_end_that_cannot_be_opened_leaves_nothing() {
    let mut world = World::builder().ignore_environment().build();
    let switch = world.switch(SwitchConfig::default());
    let server = Server::install(&mut world, &switch, "A", [10, 0, 0, 1].into()).unwrap();
    let machine = server.machine;
    let at = "10.0.0.1:445".parse().unwrap();
    let mut failures = 0;
    loop {
        world.fail_allocations(machine, Some(failures), false);
        let opened = world.call(machine, || Endpoint::listening(4096, at));
        let struck = !world.allocation_failure_pending(machine);
        world.fail_allocations(machine, None, false);
        if let Ok((end, listener)) = opened {
            world.call(machine, || {
                listener.close();
                end.close().unwrap();
            });
            if !struck {
                break;
            }
        }
        failures += 1;
    }
    assert!(failures > 20, "{failures}");
    world.uninstall(machine);
    finish(world).map(drop).unwrap();
}

#[test]
fn the_documentation_shows_this_test() {
    let source = include_str!("ten_lines.rs");
    let begin = source.find("fn my_consumer_does_nothing_wrong").unwrap();
    let function = &source[begin..];
    let function = &function[..function.find("\n}\n").unwrap() + 3];
    assert_eq!(function.lines().count(), 10);
    let page = include_str!("../../../docs/simulator.md");
    assert!(
        page.contains(function),
        "docs/simulator.md has not\n{function}"
    );
}
