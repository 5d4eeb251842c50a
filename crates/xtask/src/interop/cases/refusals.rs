//! Connections that do not come about.

use super::{Bench, GUEST, LIMIT, VROCE};
use anyhow::{Result, ensure};

pub fn linux_rejects(bench: &mut Bench<'_>) -> Result<String> {
    let guest = bench.guest()?;
    let dir = "/sys/kernel/config/nvmet";
    for command in [
        format!("mkdir -p {dir}/subsystems/vroce {dir}/ports/1"),
        format!("echo rdma > {dir}/ports/1/addr_trtype"),
        format!("echo ipv4 > {dir}/ports/1/addr_adrfam"),
        format!("echo {GUEST} > {dir}/ports/1/addr_traddr"),
        format!("echo 4420 > {dir}/ports/1/addr_trsvcid"),
        format!("ln -s {dir}/subsystems/vroce {dir}/ports/1/subsystems/vroce"),
    ] {
        guest.run_checked(&command)?;
    }
    // 32 bytes of 0xFF: an NVMe/RDMA connect header with an unknown record format, which the target must refuse
    // with its own private data.
    let peer = (bench.start)(&[
        "expect-reject",
        "--to",
        GUEST,
        "--port",
        "4420",
        "--data",
        &"ff".repeat(32),
    ])?;
    let ours = peer.finish(LIMIT)?;
    let guest = bench.guest()?;
    guest.run_checked(&format!(
        "rm {dir}/ports/1/subsystems/vroce && rmdir {dir}/ports/1 {dir}/subsystems/vroce"
    ))?;
    // NVMe/RDMA reject: record format 0, status 2 (invalid record format), little-endian.
    ensure!(
        ours.contains("private data 00000200"),
        "not nvmet's reject data:\n{ours}"
    );
    Ok("STATUS_CONNECTION_REFUSED with nvmet's private data".to_owned())
}

pub fn vroce_rejects(bench: &mut Bench<'_>) -> Result<String> {
    let mut peer = (bench.start)(&["rejecting-server"])?;
    peer.wait_for("ready", LIMIT)?;
    let guest = bench.guest()?;
    let (_, output) = guest.run_job(&format!("rping -c -v -C 1 -a {VROCE}"), LIMIT)?;
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
    let peer = (bench.start)(&["expect-refused", "--to", GUEST, "--port", "7999"])?;
    peer.finish(LIMIT)?;
    Ok("STATUS_CONNECTION_REFUSED".to_owned())
}

pub fn nobody_on_vroce(bench: &mut Bench<'_>) -> Result<String> {
    let mut peer = (bench.start)(&["idle", "--until-refused"])?;
    peer.wait_for("ready", LIMIT)?;
    let guest = bench.guest()?;
    let (_, output) = guest.run_job(&format!("rping -c -v -C 1 -a {VROCE}"), LIMIT)?;
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
