//! ucmatose: a hundred connections at once.

use super::{Bench, LIMIT, wait_for_listener};
use anyhow::{Result, ensure};

const CONNECTIONS: &str = "100";

/// Messages each way on a connection, and on all of them.
const MESSAGES: u64 = 3;
const ALL: u64 = 300;

/// Bytes of a message: two packets of 4096 and five of 1024.
pub const SIZE: u64 = 4200;

/// vroce is the server; it verifies the replies.
pub fn to_vroce(bench: &mut Bench<'_>) -> Result<String> {
    let mut peer = (bench.start)(&["ucmatose-server", "--count", CONNECTIONS])?;
    bench.meet(&mut peer)?;
    let ends = bench.ends();
    let guest = bench.guest()?;
    let command = format!(
        "ucmatose -c {CONNECTIONS} -C {MESSAGES} -S {SIZE} -s {}",
        ends.vroce
    );
    let (_, output) = guest.run_job(&command, LIMIT)?;
    ended_well(output.status, &output.text)?;
    let ours = bench.finish(peer)?;
    ensure!(
        ours.contains(&format!(
            "verified {ALL} replies on {CONNECTIONS} connections"
        )),
        "vroce did not get all replies:\n{ours}"
    );
    Ok(format!(
        "{CONNECTIONS} connections, {ALL} messages each way, replies verified"
    ))
}

/// vroce is the client; ucmatose counts the messages that it receives.
pub fn to_linux(bench: &mut Bench<'_>) -> Result<String> {
    let ends = bench.ends();
    let guest = bench.guest()?;
    let server = guest.spawn(&format!(
        "ucmatose -c {CONNECTIONS} -C {MESSAGES} -S {SIZE} -b {}",
        ends.guest
    ))?;
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
        ours.contains(&format!(
            "received {ALL} messages on {CONNECTIONS} connections"
        )),
        "vroce did not get all messages:\n{ours}"
    );
    let output = bench.guest()?.wait(&server, LIMIT)?;
    ended_well(output.status, &output.text)?;
    Ok(format!(
        "{CONNECTIONS} connections, {ALL} messages each way"
    ))
}

fn ended_well(status: i32, text: &str) -> Result<()> {
    ensure!(
        status == 0 && text.contains("data transfers complete") && text.contains("return status 0"),
        "ucmatose ended with {status}: {text}"
    );
    Ok(())
}
