//! The cases against nvmet-rdma, Linux's NVMe over Fabrics target.

use super::{Bench, Ends, LIMIT, V6};
use crate::interop::guest::Guest;
use anyhow::{Context, Result, ensure};
use std::fmt::Write;

const CONFIG: &str = "/sys/kernel/config/nvmet";
const PORT: &str = "4420";

/// Bytes of the largest command, which vroce-lab chooses.
pub const LARGEST: u64 = 1 << 20;

/// The namespace: a disk in the guest's memory, without udev and without buffers that outlive its last user.
const DISK: &str = "/dev/ram0";
const KIB: u32 = 8192;

/// What may be left of either case, taken back. Succeeds whatever is there.
const CLEAN_UP: &str = "cd /sys/kernel/config/nvmet; rm -f ports/1/subsystems/vroce; \
    rmdir ports/1 subsystems/vroce/namespaces/1 subsystems/vroce 2>/dev/null; \
    rmmod brd 2>/dev/null; rm -f /tmp/pattern /tmp/expected /tmp/disk; true";

/// Makes the subsystem `vroce` on a port, with the disk as its namespace if `disk` is set.
fn serve(guest: &mut Guest, ends: Ends, disk: bool) -> Result<()> {
    guest.run_checked(&format!(
        "mkdir -p {CONFIG}/subsystems/vroce {CONFIG}/ports/1"
    ))?;
    if disk {
        let namespace = format!("{CONFIG}/subsystems/vroce/namespaces/1");
        guest.run_checked(&format!(
            "echo 1 > {CONFIG}/subsystems/vroce/attr_allow_any_host; mkdir {namespace}; \
             echo {DISK} > {namespace}/device_path; echo 1 > {namespace}/enable"
        ))?;
    }
    let family = if ends == V6 { "ipv6" } else { "ipv4" };
    for (attribute, value) in [
        ("addr_trtype", "rdma"),
        ("addr_adrfam", family),
        ("addr_traddr", ends.guest),
        ("addr_trsvcid", PORT),
    ] {
        guest.run_checked(&format!("echo {value} > {CONFIG}/ports/1/{attribute}"))?;
    }
    guest.run_checked(&format!(
        "ln -s {CONFIG}/subsystems/vroce {CONFIG}/ports/1/subsystems/vroce"
    ))?;
    Ok(())
}

/// vroce's private data is refused, with the target's own.
pub fn rejects(bench: &mut Bench<'_>) -> Result<String> {
    let ends = bench.ends();
    serve(bench.guest()?, ends, false)?;
    // 32 bytes of 0xFF: an NVMe/RDMA connect header with an unknown record format, which the target must refuse
    // with its own private data.
    let peer = (bench.start)(&[
        "expect-reject",
        "--to",
        ends.guest,
        "--port",
        PORT,
        "--data",
        &"ff".repeat(32),
    ])?;
    let ours = bench.finish(peer)?;
    bench.guest()?.run_checked(CLEAN_UP)?;
    // NVMe/RDMA reject: record format 0, status 2 (invalid record format), little-endian.
    ensure!(
        ours.contains("private data 00000200"),
        "not nvmet's reject data:\n{ours}"
    );
    Ok("STATUS_CONNECTION_REFUSED with nvmet's private data".to_owned())
}

/// An awk program that prints what author `a` puts into blocks `f` to `e`: each has the author's letter, its place in the
/// namespace, and printable characters in order.
const PATTERN: &str = r#"BEGIN { for (i = 0; i < 495; i++) t = t sprintf("%c", 33 + i % 94); for (o = f * 512; o < e * 512; o += 512) printf "%s%014x\n%s\n", a, o, t }"#;

/// A command line that prints the pattern of an author for some blocks.
fn pattern(author: &str, first: u64, end: u64) -> String {
    format!("awk -v a={author} -v f={first} -v e={end} -f /tmp/pattern")
}

/// Runs a command that takes its time under emulation.
fn run_long(guest: &mut Guest, command: &str) -> Result<()> {
    let (_, output) = guest.run_job(command, LIMIT)?;
    ensure!(
        output.status == 0,
        "in the guest: `{command}` ended with {}: {}",
        output.status,
        output.text.trim()
    );
    Ok(())
}

/// vroce is an initiator: it reads what the guest wrote, and the guest compares what vroce wrote.
pub fn transfers(bench: &mut Bench<'_>) -> Result<String> {
    let ends = bench.ends();
    let guest = bench.guest()?;
    let all = u64::from(KIB) * 2;
    guest.run_checked(&format!("modprobe brd rd_nr=1 rd_size={KIB}"))?;
    guest.run_checked(&format!("echo '{PATTERN}' > /tmp/pattern"))?;
    let fill = pattern("G", 0, all);
    run_long(guest, &format!("{fill} > {DISK} && sync"))?;
    serve(guest, ends, true)?;
    let initiator = ["nvme-initiator", "--to", ends.guest, "--port", PORT];
    let peer = (bench.start)(&initiator)?;
    let ours = bench.finish(peer)?;
    ensure!(
        ours.contains("verifier: 0 violations, 0 leaks"),
        "vroce did not end without fault:\n{ours}"
    );
    let verified = ours
        .lines()
        .find_map(|line| line.strip_prefix("verified "))
        .with_context(|| format!("vroce does not say what it verified:\n{ours}"))?;

    // Who wrote which blocks, in order: "blocks FIRST END AUTHOR". What they hold the guest works out by itself.
    let mut commands = String::from("(");
    let mut next = 0;
    for line in ours.lines().filter_map(|line| line.strip_prefix("blocks ")) {
        let mut words = line.split(' ');
        let mut number = || words.next()?.parse().ok();
        let range = number().zip(number());
        let (Some((first, end)), Some(author)) = (range, words.next()) else {
            anyhow::bail!("not a range of blocks: {line:?}");
        };
        ensure!(first == next, "nobody wrote blocks {next} to {first}");
        next = end;
        write!(commands, "{};", pattern(author, first, end))?;
    }
    ensure!(next == all, "vroce tells of {next} blocks of {all}");
    // Past the page cache, which does not see what the target writes.
    write!(
        commands,
        ") > /tmp/expected && dd if={DISK} of=/tmp/disk bs=64k iflag=direct status=none && cmp /tmp/disk /tmp/expected"
    )?;
    let guest = bench.guest()?;
    run_long(guest, &commands)?;
    guest.run_checked(CLEAN_UP)?;
    Ok(format!(
        "{verified}; {} MiB compared by the guest",
        KIB / 1024
    ))
}
