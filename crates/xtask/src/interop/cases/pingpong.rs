//! libibverbs's pingpong programs, which agree on their queue pairs over TCP and know no connection manager.

use super::{Bench, LIMIT, V4, V6};
use crate::interop::guest::Guest;
use crate::interop::host::Peer;
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

/// One of the programs.
#[derive(Clone, Copy)]
pub struct Program {
    name: &'static str,
    /// What vroce-lab is told of it.
    shared: bool,
    queue_pairs: u64,
}

/// One queue pair.
pub const RC: Program = Program {
    name: "ibv_rc_pingpong",
    shared: false,
    queue_pairs: 1,
};
/// Several, which receive from a shared queue.
pub const SRQ: Program = Program {
    name: "ibv_srq_pingpong",
    shared: true,
    queue_pairs: 8,
};

/// Messages each way.
const COUNT: &str = "400";

/// Their bytes: three packets of 4096 and nine of 1024.
pub const SIZE: u64 = 8200;

const PORT: &str = "18515";

impl Program {
    /// The command line in the guest, for a server, or for the client of `to`.
    fn command(self, bench: &mut Bench<'_>, to: &str) -> Result<String> {
        let (ends, mtu) = (bench.ends(), bench.variant.mtu());
        let gid = bench.guest()?.gid_index(ends.guest)?;
        let name = self.name;
        let sharing = if self.shared {
            format!("-q {}", self.queue_pairs)
        } else {
            String::new()
        };
        Ok(format!(
            "{name} {sharing} -g {gid} -m {mtu} -n {COUNT} -s {SIZE} -c {to}"
        ))
    }

    /// Starts vroce-lab. It has an address of the other family as well, in case the program speaks TCP over that.
    fn start(self, bench: &Bench<'_>, case: &[&str]) -> Result<Peer> {
        let second = if bench.variant.v6 { V4 } else { V6 };
        let size = SIZE.to_string();
        let mut ours = vec!["--second-address", second.vroce];
        ours.extend(case);
        ours.extend(["--count", COUNT, "--size", &size]);
        if self.shared {
            ours.push("--shared");
        }
        (bench.start)(&ours)
    }

    /// What it says when all is well: how much it has moved, both ways, and nothing about data that is not what it should be.
    fn judge(self, status: i32, text: &str) -> Result<()> {
        ensure!(
            status == 0
                && text.contains(&format!("{COUNT} iters in "))
                && !text.contains("invalid"),
            "{} ended with {status}: {text}",
            self.name
        );
        Ok(())
    }
}

/// vroce is the client, and knows what has to come back.
pub fn to_linux(bench: &mut Bench<'_>, program: Program) -> Result<String> {
    let command = program.command(bench, "")?;
    let guest = bench.guest()?;
    let server = guest.spawn(&command)?;
    wait_for_tcp(guest)?;
    // The programs listen on IPv4 alone; the addresses of the queue pairs have nothing to do with that.
    let case = ["pingpong-client", "--to", V4.guest, "--port", PORT];
    let peer = program.start(bench, &case)?;
    let ours = match bench.finish(peer) {
        Ok(ours) => ours,
        Err(error) => {
            let theirs = bench.guest()?.log(&server)?;
            return Err(error.context(format!("{} says: {theirs}", program.name)));
        }
    };
    let said = format!(
        "verified {COUNT} messages that came back, on {} queue pairs",
        program.queue_pairs
    );
    ensure!(ours.contains(&said), "vroce did not say {said:?}:\n{ours}");
    let output = bench.guest()?.wait(&server, LIMIT)?;
    program.judge(output.status, &output.text)?;
    Ok(format!(
        "{COUNT} messages of {SIZE} bytes each way, all different and verified"
    ))
}

/// vroce is the server.
pub fn to_vroce(bench: &mut Bench<'_>, program: Program) -> Result<String> {
    let mut peer = program.start(bench, &["pingpong-server"])?;
    peer.wait_for("ready", LIMIT)?;
    let command = program.command(bench, bench.ends().vroce)?;
    let (_, output) = bench.guest()?.run_job(&command, LIMIT)?;
    program.judge(output.status, &output.text)?;
    let ours = bench.finish(peer)?;
    // The clients of several queue pairs send on until they have enough back.
    let said = format!(
        "answered each with another, on {} queue pairs",
        program.queue_pairs
    );
    ensure!(ours.contains(&said), "vroce did not say {said:?}:\n{ours}");
    Ok(format!(
        "{COUNT} messages of {SIZE} bytes each way, all different and verified"
    ))
}

/// Waits until a server in the guest listens.
fn wait_for_tcp(guest: &mut Guest) -> Result<()> {
    // The port in hex, and the state in which sockets listen.
    const LOOK: &str = "grep -q :4853.*:0000.0A /proc/net/tcp /proc/net/tcp6";
    let deadline = Instant::now() + LIMIT;
    while guest.run(LOOK, LIMIT)?.status != 0 {
        ensure!(
            Instant::now() < deadline,
            "nobody listens on port {PORT} of the guest after {LIMIT:?}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
