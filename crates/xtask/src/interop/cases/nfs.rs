//! NFS over RDMA: the Linux kernel's server, which nobody has tuned for us.

use super::{Bench, LIMIT, V4, V6};
use crate::interop::guest::Guest;
use anyhow::{Context, Result, ensure};
use std::time::Duration;

/// Bytes that one call reads or writes.
pub const PIECE: u64 = BYTES / CALLS;

/// What the client copies, and in how many calls each way.
const BYTES: u64 = 512 << 10;
const CALLS: u64 = 8;

/// Serves the folder /export with a file of random bytes, `from`, and an empty one, `to`, by NFS 4.0 over RDMA only.
///
/// What `exportfs` and `mountd` would tell the kernel is told by hand: the client, its right to the folder (0x2412: any port, no
/// wait for the disk, no subtree check, known by the number that follows), and which folder has that number. All that stays as it is:
/// it is in nobody's way, and the guest does not outlive the run.
fn serve(guest: &mut Guest) -> Result<()> {
    // It may have been told already, with another path MTU or wire.
    let up = guest.run("grep -q rdma /proc/fs/nfsd/portlist 2>/dev/null", LIMIT)?;
    if up.status == 0 {
        guest.run_checked(": >/export/to")?;
        return Ok(());
    }
    const SETUP: &str = "modprobe nfsd && modprobe rpcrdma && mkdir -p /export /var/lib/nfs/v4recovery && mount -t tmpfs none /export \
        && mount -t nfsd none /proc/fs/nfsd && echo \"-3 +4 -4.1 -4.2\" >/proc/fs/nfsd/versions \
        && head -c 524288 /dev/urandom >/export/from && : >/export/to";
    let modules = guest.run(SETUP, Duration::from_secs(40))?;
    ensure!(
        modules.status == 0,
        "the guest has no NFS server: {}",
        modules.text
    );
    for (cache, entry) in [
        (
            "auth.unix.ip",
            format!("nfsd {} 2147483647 vroce", V4.vroce),
        ),
        (
            "auth.unix.ip",
            format!("nfsd {} 2147483647 vroce", V6.vroce),
        ),
        (
            "nfsd.export",
            "vroce /export 2147483647 9234 0 0 0".to_owned(),
        ),
        (
            "nfsd.fh",
            r"vroce 1 \\x00000000 2147483647 /export".to_owned(),
        ),
    ] {
        guest.run_checked(&format!("echo \"{entry}\" >/proc/net/rpc/{cache}/channel"))?;
    }
    guest.run_checked("echo \"rdma 20049\" >/proc/fs/nfsd/portlist")?;
    let threads = guest.run("echo 2 >/proc/fs/nfsd/threads", LIMIT)?;
    ensure!(threads.status == 0, "nfsd does not start: {}", threads.text);
    // No client of an earlier life has to be waited for.
    guest.run_checked("echo Y >/proc/fs/nfsd/v4_end_grace")?;
    Ok(())
}

/// What the server's RDMA has done: reads and writes of chunks.
fn figures(guest: &mut Guest) -> Result<[u64; 2]> {
    let mut figures = [0; 2];
    for (figure, name) in figures.iter_mut().zip(["read", "write"]) {
        *figure = guest
            .run_checked(&format!("cat /proc/sys/sunrpc/svc_rdma/rdma_stat_{name}"))?
            .trim()
            .parse()
            .with_context(|| format!("rdma_stat_{name}"))?;
    }
    Ok(figures)
}

/// vroce reads a file and writes it back under another name.
pub fn copy_a_file(bench: &mut Bench<'_>) -> Result<String> {
    serve(bench.guest()?)?;
    let before = figures(bench.guest()?)?;
    let to = bench.ends().guest;
    let peer = (bench.start)(&["nfs-client", "--to", to, "--port", "20049"])?;
    let ours = bench.finish(peer)?;
    ensure!(
        ours.contains(&format!("copied {BYTES} bytes")),
        "vroce did not copy the file:\n{ours}"
    );
    let guest = bench.guest()?;
    let after = figures(guest)?;
    guest
        .run_checked("cmp /export/from /export/to")
        .context("the copy differs from the file")?;
    let [reads, writes] = [after[0] - before[0], after[1] - before[1]];
    ensure!(
        reads >= CALLS && writes >= CALLS,
        "the server counts {reads} RDMA reads and {writes} writes for {CALLS} + {CALLS} calls"
    );
    Ok(format!(
        "512 KiB by {writes} RDMA writes and {reads} RDMA reads of the server, compared there"
    ))
}
