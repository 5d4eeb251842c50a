//! The consumer in C of `examples/consumer`, linked into this test: two drivers of it over vroce, to their end and into each of their
//! mistakes.

use consumer_c::{ConsumerDriverEntry, KernelDriverEntry};
use ntsim::verifier::rules::{POOL_USE_AFTER_FREE, WAIT_AT_DISPATCH};
use ntsim::wire::SwitchConfig;
use ntsim::{DriverId, MachineConfig, Report, World, WorldBuilder};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use vroce_lab::Server;

/// What both ends print when all that they had to do is done.
const DONE: [&str; 2] = [
    "[A] consumer: client ended well",
    "[B] consumer: a connection came and went: 16 answers",
];

/// Installs vroce on two machines and loads the consumer on both, B's first, which listens. The client makes that mistake.
fn load(world: &mut World, mistake: u32) -> [(Server, DriverId); 2] {
    let switch = world.switch(SwitchConfig::default());
    let [a, b] = [("A", 1), ("B", 2)].map(|(name, last)| {
        Server::install(world, &switch, name, [10, 0, 0, last].into()).unwrap()
    });
    let [b, a] = [(b, a, "server"), (a, b, "client")].map(|(server, peer, role)| {
        world.registry(server.machine, |registry| {
            let key = r"System\CurrentControlSet\Services\consumer\Parameters";
            let key = registry.create(key);
            key.set("Role", role);
            key.set("LocalAddress", server.address.to_string());
            key.set("PeerAddress", peer.address.to_string());
            if role == "client" {
                key.set("Mistake", mistake);
            }
        });
        let driver = world
            .load_driver(server.machine, "consumer", ConsumerDriverEntry)
            .unwrap();
        (server, driver)
    });
    [a, b]
}

/// From loading to unloading.
fn story(world: &mut World, mistake: u32) {
    let [a, b] = load(world, mistake);
    let done = |world: &World| {
        let log = world.debug_log();
        let said = |text: &&str| log.iter().any(|line| line.contains(*text));
        DONE.iter().all(said)
    };
    world.run_until(|world| done(world), Duration::from_secs(10));
    let log = world.debug_log();
    assert!(done(world), "{log:#?}");
    // The server waits for the next client: unloading ends it.
    for (server, driver) in [a, b] {
        world.unload_driver(driver);
        world.uninstall(server.machine);
    }
}

/// Runs the story in which the client makes that mistake. How the world ends.
fn run(builder: WorldBuilder, mistake: u32) -> Report {
    let mut world = builder.build();
    // A broken rule panics where this test goes on.
    let told = catch_unwind(AssertUnwindSafe(|| story(&mut world, mistake)));
    let report = world.finish();
    if report.is_clean()
        && let Err(panic) = told
    {
        std::panic::resume_unwind(panic);
    }
    report
}

#[test]
fn a_driver_in_c_runs_to_its_end() {
    for builder in [
        World::builder(),
        // Races, and answers that come later.
        World::builder().seed(7).interleave(3).pend(2),
    ] {
        let report = run(builder, 0);
        assert!(report.is_clean() && report.leaks.is_empty(), "{report}");
    }
}

/// The only rule broken, by whom, and what is said of it.
fn broken(mistake: u32) -> (&'static str, String, String) {
    let report = run(World::builder(), mistake);
    let [violation] = &report.violations[..] else {
        panic!("{report}");
    };
    assert_eq!(violation.machine, "A", "{report}");
    (
        violation.rule,
        violation.culprit.clone(),
        report.to_string(),
    )
}

#[test]
fn a_queue_closed_twice() {
    let (rule, culprit, report) = broken(1);
    assert_eq!(rule, ntsim::ndk::rules::CONSUMER, "{report}");
    assert_eq!(culprit, "the NDK consumer", "{report}");
    assert!(
        report.contains("NdkCloseCq is called with CQ 1 of vroce on A, which was closed"),
        "{report}"
    );
}

#[test]
fn memory_written_to_after_it_was_freed() {
    let (rule, culprit, report) = broken(2);
    assert_eq!(rule, POOL_USE_AFTER_FREE, "{report}");
    assert_eq!(culprit, "driver consumer", "{report}");
}

#[test]
fn a_wait_in_a_callback_at_dispatch_level() {
    let (rule, culprit, report) = broken(3);
    assert_eq!(rule, WAIT_AT_DISPATCH, "{report}");
    assert_eq!(culprit, "driver consumer", "{report}");
    // What crossed the boundary, and of which driver.
    let last = [
        "  <- NdkCqNotificationCallback (vroce)",
        "-> NdkCqNotificationCallback (consumer)",
        "  <- KeWaitForSingleObject (consumer)",
    ];
    let crossed: Vec<_> = report.lines().filter(|l| l.contains(" irql ")).collect();
    let same = |lines: &[&str]| {
        lines
            .iter()
            .zip(last)
            .all(|(line, end)| line.ends_with(end))
    };
    assert!(crossed.windows(3).any(same), "{report}");
}

#[test]
fn what_the_headers_declare_does_what_the_kernel_does() {
    let mut world = World::builder().build();
    let machine = world.add_machine(MachineConfig::default());
    let loaded = world.load_driver(machine, "kernel", KernelDriverEntry);
    let driver = loaded.unwrap_or_else(|error| panic!("{error:?}: {:#?}", world.debug_log()));
    world.unload_driver(driver);
    let report = world.finish();
    assert!(report.is_clean() && report.leaks.is_empty(), "{report}");
}
