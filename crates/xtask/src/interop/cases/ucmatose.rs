//! ucmatose: a hundred connections at once.

use super::{Bench, LIMIT, wait_for_listener};
use anyhow::{Result, ensure};

const CONNECTIONS: &str = "100";

/// vroce is the server; it verifies the replies.
pub fn to_vroce(bench: &mut Bench<'_>) -> Result<String> {
    let mut peer = (bench.start)(&["ucmatose-server", "--count", CONNECTIONS])?;
    peer.wait_for("ready", LIMIT)?;
    let ends = bench.ends();
    let guest = bench.guest()?;
    let command = format!("ucmatose -c {CONNECTIONS} -s {}", ends.vroce);
    let (_, output) = guest.run_job(&command, LIMIT)?;
    ended_well(output.status, &output.text)?;
    let ours = bench.finish(peer)?;
    ensure!(
        ours.contains("verified 1000 replies on 100 connections"),
        "vroce did not get all replies:\n{ours}"
    );
    Ok("100 connections, 1000 messages each way, replies verified".to_owned())
}

/// vroce is the client; ucmatose counts the messages that it receives.
pub fn to_linux(bench: &mut Bench<'_>) -> Result<String> {
    let ends = bench.ends();
    let guest = bench.guest()?;
    let server = guest.spawn(&format!("ucmatose -c {CONNECTIONS} -b {}", ends.guest))?;
    wait_for_listener(guest, 7471)?;
    let peer = (bench.start)(&[
        "ucmatose-client",
        "--to",
        ends.guest,
        "--port",
        "7471",
        "--count",
        CONNECTIONS,
    ])?;
    let ours = bench.finish(peer)?;
    ensure!(
        ours.contains("received 1000 messages on 100 connections"),
        "vroce did not get all messages:\n{ours}"
    );
    let output = bench.guest()?.wait(&server, LIMIT)?;
    ended_well(output.status, &output.text)?;
    Ok("100 connections, 1000 messages each way".to_owned())
}

fn ended_well(status: i32, text: &str) -> Result<()> {
    ensure!(
        status == 0 && text.contains("data transfers complete") && text.contains("return status 0"),
        "ucmatose ended with {status}: {text}"
    );
    Ok(())
}
