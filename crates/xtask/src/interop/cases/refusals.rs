//! Connections that do not come about.

use super::{Bench, LIMIT, V4};
use anyhow::{Result, ensure};

pub fn vroce_rejects(bench: &mut Bench<'_>) -> Result<String> {
    let mut peer = (bench.start)(&["rejecting-server"])?;
    peer.wait_for("ready", LIMIT)?;
    let guest = bench.guest()?;
    let (_, output) = guest.run_job(&format!("rping -c -v -C 1 -a {}", V4.vroce), LIMIT)?;
    ensure!(
        output.status != 0,
        "rping -c was not refused: {}",
        output.text
    );
    ensure!(
        output.text.contains("RDMA_CM_EVENT_REJECTED, error 28"),
        "not a consumer reject (28): {}",
        output.text
    );
    peer.finish(LIMIT)?;
    Ok("rping sees reason 28".to_owned())
}

pub fn nobody_on_linux(bench: &mut Bench<'_>) -> Result<String> {
    let peer = (bench.start)(&["expect-refused", "--to", V4.guest, "--port", "7999"])?;
    peer.finish(LIMIT)?;
    Ok("STATUS_CONNECTION_REFUSED".to_owned())
}

pub fn nobody_on_vroce(bench: &mut Bench<'_>) -> Result<String> {
    let mut peer = (bench.start)(&["idle", "--until-refused"])?;
    peer.wait_for("ready", LIMIT)?;
    let guest = bench.guest()?;
    let (_, output) = guest.run_job(&format!("rping -c -v -C 1 -a {}", V4.vroce), LIMIT)?;
    ensure!(
        output.status != 0,
        "rping -c was not refused: {}",
        output.text
    );
    ensure!(
        output.text.contains("RDMA_CM_EVENT_REJECTED, error 8"),
        "not an invalid service ID (8): {}",
        output.text
    );
    peer.finish(LIMIT)?;
    Ok("rping sees reason 8".to_owned())
}
