//! What the wire's delay is to a consumer: the ready-made servers have none unless asked.

use std::time::Duration;

use anyhow::Result;
use ntsim::World;
use ntsim::wire::SwitchConfig;
use vroce_lab::status::Doing;
use vroce_lab::{Server, Side, end, link, pair, pair_on};

/// How long a write takes, in virtual time, between servers that `make` makes.
fn write(make: impl FnOnce(&mut World) -> Result<[Server; 2]>) -> Result<Duration> {
    let mut world = World::builder().ignore_environment().build();
    let [a, b] = make(&mut world)?;
    let client = Side::open(&mut world, a, 4096)?;
    let server = Side::open(&mut world, b, 4096)?;
    let connection = link(&mut world, &client, &server, 445, b"", b"")?;
    let (address, token) = server.remote();
    let begun = world.now();
    world
        .call(a.machine, || {
            let sge = client.sge(0, 4096);
            client.queues.qp.write(1, &[sge], address, token, 0)
        })
        .doing("NdkWrite")?;
    client.complete(&mut world, 1)?;
    let took = world.now() - begun;
    connection.end(&mut world, &client, &server)?;
    client.close(&mut world)?;
    server.close(&mut world)?;
    end(world, [a, b])?;
    Ok(took)
}

#[test]
fn a_write_takes_the_way_there_and_back() {
    assert_eq!(write(pair).unwrap(), Duration::ZERO);
    let delay = Duration::from_micros(100);
    let wire = SwitchConfig {
        delay,
        ..SwitchConfig::default()
    };
    let took = write(|world| pair_on(world, wire)).unwrap();
    assert_eq!(took, 2 * delay);
}
