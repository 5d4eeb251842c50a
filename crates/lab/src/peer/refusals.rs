//! Connections that do not come about.

use super::PATIENCE;
use super::rping_wire;
use super::wire_watch::WireWatch;
use crate::cli::Target;
use crate::server::Server;
use crate::side::Side;
use crate::status::{self, Doing};
use anyhow::{Result, bail, ensure};
use ndkpi::status::STATUS_CONNECTION_REFUSED;
use ntsim::World;
use ntsim::ndk::Connector;
use std::fmt::Write;
use std::time::Duration;

/// Listens on rping's port and rejects a client, with private data. If the rejection gets lost the client asks again, and it is for
/// the consumer to reject that too.
pub fn reject(world: &mut World, server: Server, watch: &WireWatch) -> Result<()> {
    let side = Side::open(world, server, 4096)?;
    let listener = side.listen(world, rping_wire::PORT)?;
    out!("ready");
    let mut requests = Vec::new();
    while watch.rejections() == 0 {
        let request = side.next_request(world, &listener, PATIENCE)?;
        world
            .call(server.machine, || request.reject(b"not today"))
            .doing("NdkReject")?;
        requests.push(request);
        // The reject has to leave.
        world.run_for(Duration::from_millis(100));
    }
    out!("rejected");
    world.call(server.machine, || {
        requests.into_iter().for_each(Connector::close);
        listener.close();
    });
    side.close(world)
}

/// Connects to somebody who does not want it; returns the connector for what it has to tell.
fn fail_to_connect(
    world: &mut World,
    side: &Side,
    target: Target,
    data: &[u8],
) -> Result<Connector> {
    match side.connect(world, (target.to, target.port), data)? {
        Ok(_) => bail!("the connection was accepted"),
        Err((status, connector)) => {
            out!("NdkConnect: {}", status::name(status));
            ensure!(
                status == STATUS_CONNECTION_REFUSED,
                "STATUS_CONNECTION_REFUSED was expected"
            );
            Ok(connector)
        }
    }
}

/// Expects to be rejected, and prints the private data that came with it.
pub fn expect_reject(world: &mut World, server: Server, target: Target, data: &[u8]) -> Result<()> {
    let side = Side::open(world, server, 4096)?;
    let connector = fail_to_connect(world, &side, target, data)?;
    let told = world
        .call(server.machine, || connector.connection_data())
        .doing("NdkGetConnectionData")?;
    let mut hex = String::new();
    for byte in &told.private_data {
        write!(hex, "{byte:02x}")?;
    }
    out!("private data {hex}");
    world.call(server.machine, || connector.close());
    side.close(world)
}

/// Expects that nobody listens.
pub fn expect_refused(world: &mut World, server: Server, target: Target) -> Result<()> {
    let side = Side::open(world, server, 4096)?;
    let connector = fail_to_connect(world, &side, target, b"")?;
    world.call(server.machine, || connector.close());
    side.close(world)
}

/// Listens on nothing. The provider must refuse by itself; a rejection on the wire is how we know that it did.
pub fn idle(world: &mut World, watch: &WireWatch, until_refused: bool) {
    out!("ready");
    let patience = if until_refused {
        PATIENCE
    } else {
        Duration::MAX
    };
    if world.run_until(|_| until_refused && watch.rejections() > 0, patience) {
        out!("refused");
    }
}
