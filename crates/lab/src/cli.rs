//! The command line of `vroce-lab`.

use clap::{Args, Parser, Subcommand};
use ntsim::Verify;
use roce::PathMtu;
use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// Two simulated Windows servers with vroce installed, one wire, one NDK consumer on each.
///
/// Without arguments it installs the driver on both, connects them, moves data by send, write and read, refuses,
/// rejects, disconnects and unloads, and ends with a table and the path of a capture that Wireshark opens.
#[derive(Parser, Debug)]
#[command(name = "vroce-lab", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Options of the demo and of the benchmark.
    #[command(flatten)]
    pub demo: DemoOptions,
    /// What to run instead of the demo.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Options of the demo and of the benchmark.
#[derive(Args, Debug, Clone)]
pub struct DemoOptions {
    /// Seed of everything that is random: the same seed replays the same run.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = decimal, allow_negative_numbers = true)]
    pub seed: u64,
    /// Probability that the wire loses a frame.
    #[arg(long, default_value_t = 0.0, value_name = "P", value_parser = probability, allow_negative_numbers = true)]
    pub loss: f64,
    /// The wire leads to another process, over unix datagrams as QEMU's `-netdev dgram` speaks them: serve rping on
    /// 10.0.0.1 port 7174 there until interrupted, instead of running the demo. PATH is the other process's socket; ours is
    /// PATH.vroce. A guest for the other end:
    /// `qemu-system-x86_64 ... -netdev dgram,id=n,local.type=unix,local.path=PATH,remote.type=unix,remote.path=PATH.vroce
    /// -device virtio-net-pci,netdev=n,host_mtu=4192`, in it rdma_rxe with an address of 10.0.0.0/24, and
    /// `rping -c -v -a 10.0.0.1`. Without KVM the guest needs `-smp 1,maxcpus=2`, or two processors: for one alone QEMU leaves out
    /// memory barriers, and its NIC may fall silent.
    #[arg(long, value_name = "unix:PATH", value_parser = unix_path, conflicts_with_all = ["bench", "loss"])]
    pub peer: Option<PathBuf>,
    /// Measure instead of demonstrating: no capture, no loss, wall time.
    #[arg(long, conflicts_with_all = ["loss", "capture"])]
    pub bench: bool,
    /// Measure the linked driver and this image of it, in turn, each run in a world of its own, and print the ratios.
    #[arg(long, value_name = "FILE", requires = "bench")]
    pub against_image: Option<PathBuf>,
    /// How often each row is run with either driver.
    #[arg(long, value_name = "N", default_value_t = 10, requires = "against_image", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Fail if a row of the image is slower by more than so many percent, or if it takes more than 50 ms to start.
    #[arg(long, value_name = "PERCENT", requires = "against_image", value_parser = clap::value_parser!(u32).range(0..=99))]
    pub within: Option<u32>,
    /// Measure only how long servers take to start, and what idle ones cost; with --against-image only the starts, in so many
    /// rounds, and fail if the image takes more than 50 ms.
    #[arg(long, requires = "bench", conflicts_with = "within")]
    pub starts: bool,
    /// Where the capture goes [default: vroce-demo.pcapng; with --peer there is none].
    #[arg(long, value_name = "FILE")]
    pub capture: Option<PathBuf>,
    /// How much the verifier looks at [default: full; with --bench cheap]. Cheap has no special pool.
    #[arg(long, value_name = "cheap|full", conflicts_with_all = ["peer", "against_image"])]
    pub verify: Option<Verify>,
    /// Fail each function that may fail once for each path by which the driver calls it: each whose path is not in this file yet, which
    /// gets it. `only:PATH,...` fails these alone. The demo cannot go on then, but nothing may break a rule.
    #[arg(long, value_name = "FILE|only:PATH,...", conflicts_with_all = ["bench", "peer"])]
    pub faults: Option<ntsim::FaultPaths>,
    /// Print what the driver tells event tracing, with virtual time and machine.
    #[arg(long, conflicts_with_all = ["bench", "peer"])]
    pub trace: bool,
    /// Write everything that crosses the boundary between drivers and the kernel to this file: a text if its name ends in .txt, what
    /// ui.perfetto.dev shows if in .json. It ends where what is measured begins. `vroce-lab trace FILE` sums it up.
    #[arg(long, value_name = "FILE", value_parser = crate::trace_file::path, conflicts_with_all = ["bench", "peer"])]
    pub trace_file: Option<PathBuf>,
    /// With how long each call took on the host, which no two runs have in common.
    #[arg(long, requires = "trace_file")]
    pub trace_host_time: bool,
}

/// What to run instead of the demo.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Load the image of an NDK consumer's driver on two simulated servers with vroce, and judge it.
    ///
    /// A is the client (10.0.0.1), B the server (10.0.0.2). On each machine the image becomes the driver of a service that is called
    /// as the file, and its key Parameters gets Role ("client" or "server"), LocalAddress and PeerAddress, and what --set says.
    /// First B's driver is loaded, then A's; what they print with DbgPrint appears with the virtual time and the machine, vroce's own
    /// lines among it. When everything expected was printed, or after --seconds, A's driver is unloaded, then, 0.1 s later, B's: each must
    /// end by itself in its DriverUnload whatever it is doing then, and has to return from there. The exit status is 1 if a rule was
    /// broken, memory was left over, something expected was not printed, or no driver called NDK.
    ///
    /// Code that neither calls the kernel nor returns is reported as `hang` after 60 s of the host's time; NTSIM_WATCHDOG=N makes it N s.
    Consumer(ConsumerOptions),
    /// One side of an interop case: one simulated server whose wire leads to another process.
    Peer(PeerOptions),
    /// The API spinner: a random walk over the dispatch tables, on two machines, with memory that fails and devices that go away.
    ///
    /// The walk is made of epochs, each from a seed of its own. When something is wrong the seed is printed with the command
    /// that repeats the epoch, and the exit status is 1. In one epoch of eight the consumers break some rules on purpose, which that
    /// epoch pardons; in the others nothing is pardoned.
    Spin(SpinOptions),
    /// Sum up what --trace-file has written: calls by function, processors, DPCs, NDK objects, failures, the last records.
    Trace(TraceOptions),
}

/// Options of the summary of a trace.
#[derive(Args, Debug, Clone)]
pub struct TraceOptions {
    /// What --trace-file has written.
    pub file: PathBuf,
    /// Rows of each table.
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub rows: u32,
}

/// Where to write everything that crosses the boundary.
#[derive(Args, Debug, Clone)]
pub struct TraceFile {
    /// Write everything that crosses the boundary between drivers and the kernel to this file: a text if its name ends in .txt, what
    /// ui.perfetto.dev shows if in .json. `vroce-lab trace FILE` sums it up.
    #[arg(long, value_name = "FILE", value_parser = crate::trace_file::path)]
    pub trace_file: Option<PathBuf>,
    /// With how long each call took on the host, which no two runs have in common.
    #[arg(long, requires = "trace_file")]
    pub trace_host_time: bool,
}

/// Options of a consumer's run.
#[derive(Args, Debug, Clone)]
pub struct ConsumerOptions {
    /// The driver: a .sys file for x86-64. Reports name its functions and lines if its .pdb lies beside it.
    #[arg(long, value_name = "FILE")]
    pub image: PathBuf,
    /// Another driver for B [default: the same].
    #[arg(long, value_name = "FILE")]
    pub server: Option<PathBuf>,
    /// A value of the service's key Parameters, on both machines or on one. May be repeated.
    ///
    /// A number, decimal or 0x and hex, becomes a REG_DWORD, anything else a REG_SZ. A prefix of VALUE says otherwise: dword:16, qword:16,
    /// sz:16 (a text), expand:TEXT, multi:TEXT;TEXT, hex:00ff (REG_BINARY).
    #[arg(long, value_name = "[A:|B:]NAME=VALUE", value_parser = crate::consumer::setting)]
    pub set: Vec<Setting>,
    /// Text that a driver must print; when all were printed the run ends. May be repeated.
    #[arg(long, value_name = "TEXT", value_parser = crate::consumer::expected)]
    pub expect: Vec<String>,
    /// Seconds of virtual time that the run may take.
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub seconds: u64,
    /// Seed of everything that is random: the same seed replays the same run.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = decimal, allow_negative_numbers = true)]
    pub seed: u64,
    /// Interrupt driver code on one in N of its returns from the kernel, to find races; 0 for never.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub interleave: u32,
    /// Let one in N of the NDK functions that may pend do so where vroce would answer at once, chosen by the seed; 0 for never, 1 for
    /// always.
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub pend: u32,
    /// How much the verifier looks at. Cheap has no special pool.
    #[arg(long, default_value_t = Verify::Full, value_name = "cheap|full")]
    pub verify: Verify,
    /// Processors of each machine.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = crate::consumer::processors)]
    pub processors: u32,
    /// Probability that the wire loses a frame.
    #[arg(long, default_value_t = 0.0, value_name = "P", value_parser = probability, allow_negative_numbers = true)]
    pub loss: f64,
    /// Print every NDK call, when it returns.
    #[arg(long)]
    pub trace: bool,
    /// Everything that crosses the boundary.
    #[command(flatten)]
    pub trace_file: TraceFile,
    /// Write every frame on the wire to this pcapng file.
    #[arg(long, value_name = "FILE")]
    pub capture: Option<PathBuf>,
}

/// A value of a driver's key Parameters.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The only machine that gets it.
    pub machine: Option<String>,
    /// The value's name.
    pub name: String,
    /// Its type and data.
    pub value: ntsim::pnp::registry::Value,
}

/// Options of the spinner.
#[derive(Args, Debug, Clone)]
pub struct SpinOptions {
    /// Walk that long [default: 60, if no number of calls is given].
    #[arg(long, value_name = "N", conflicts_with = "calls", value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: Option<u64>,
    /// Walk until so many functions were called, in whole epochs.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub calls: Option<u64>,
    /// Seed of the first epoch, from which the others follow [default: drawn from the clock].
    #[arg(long, value_name = "S", value_parser = decimal, allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// Calls in an epoch, at least: what is begun is brought to its end, and everything closed.
    #[arg(long, value_name = "N", default_value_t = EPOCH_CALLS, value_parser = clap::value_parser!(u64).range(1..))]
    pub epoch: u64,
    /// Fail each function that may fail once for each path by which the driver calls it, over all epochs.
    #[arg(long)]
    pub fail_new_paths: bool,
    /// Fail these paths alone, as a failure names them.
    #[arg(
        long,
        value_name = "PATH,...",
        value_delimiter = ',',
        conflicts_with = "fail_new_paths"
    )]
    pub fail_paths: Vec<ntsim::FaultPath>,
    /// Fail one in so many of the driver's calls to what may fail, once it has started.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = low)]
    pub low_resources: u32,
    /// Write what was done, which the seed and the options decide alone, to this file too.
    #[arg(long, value_name = "FILE")]
    pub tally: Option<PathBuf>,
    /// Everything that crosses the boundary in the epoch walked last, which is the one that failed if one did.
    #[command(flatten)]
    pub trace_file: TraceFile,
}

/// Calls in an epoch of the spinner, if nothing else is asked for.
pub const EPOCH_CALLS: u64 = 3000;

/// Options of every interop case.
#[derive(Args, Debug)]
#[command(arg_required_else_help = false)]
pub struct PeerOptions {
    /// The other process's datagram socket.
    #[arg(long, value_name = "unix:PATH", value_parser = unix_path)]
    pub wire: PathBuf,
    /// Our datagram socket [default: the other's path with .vroce appended].
    #[arg(long, value_name = "PATH")]
    pub local: Option<PathBuf>,
    /// Address of the simulated server, IPv4 or IPv6.
    #[arg(long, default_value = "10.0.0.1", value_name = "ADDRESS")]
    pub address: IpAddr,
    /// Another address of it, of the other family: the pingpong cases agree over TCP on either.
    #[arg(long, value_name = "ADDRESS")]
    pub second_address: Option<IpAddr>,
    /// Path MTU of the server: 4096, or 1024 on a link of 1500 bytes.
    #[arg(long, default_value = "4096", value_name = "BYTES", value_parser = path_mtu)]
    pub path_mtu: PathMtu,
    /// Write every frame on the wire to this pcapng file.
    #[arg(long, value_name = "FILE")]
    pub capture: Option<PathBuf>,
    /// Seed of everything that is random.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = decimal, allow_negative_numbers = true)]
    pub seed: u64,
    /// Misfortunes of the wire.
    #[command(flatten)]
    pub wire_faults: WireFaults,
    /// Which case.
    #[command(subcommand)]
    pub case: PeerCase,
}

/// What goes wrong on the wire, in both directions. The case ends by telling how often it happened, and how many packets each side
/// sent again.
#[derive(Args, Debug, Clone, Copy)]
pub struct WireFaults {
    /// Probability that the wire loses a frame.
    #[arg(long, default_value_t = 0.0, value_name = "P", value_parser = probability)]
    pub loss: f64,
    /// Probability that a frame is overtaken by up to four later ones.
    #[arg(long, default_value_t = 0.0, value_name = "P", value_parser = probability)]
    pub reorder: f64,
    /// Probability that a frame arrives twice.
    #[arg(long, default_value_t = 0.0, value_name = "P", value_parser = probability)]
    pub duplicate: f64,
}

impl WireFaults {
    /// None of them.
    pub const NONE: WireFaults = WireFaults {
        loss: 0.0,
        reorder: 0.0,
        duplicate: 0.0,
    };
}

/// Where a case connects to.
#[derive(Args, Debug, Clone, Copy)]
pub struct Target {
    /// The peer's address.
    #[arg(long, value_name = "ADDRESS")]
    pub to: IpAddr,
    /// The peer's port.
    #[arg(long, default_value_t = 7174, value_name = "PORT")]
    pub port: u16,
}

/// What the pingpong programs are told.
#[derive(Args, Debug, Clone, Copy)]
pub struct Pingpong {
    /// It is `ibv_srq_pingpong`, told `-q 8`.
    #[arg(long)]
    pub shared: bool,
    /// Messages each way.
    #[arg(long, default_value_t = 1000)]
    pub count: u64,
    /// Bytes of a message.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub size: u32,
}

/// The interop cases, by what vroce does in them.
#[derive(Subcommand, Debug)]
pub enum PeerCase {
    /// Be `rping -c`: the server reads and writes our memory; every round is verified.
    RpingClient {
        /// Where the server is.
        #[command(flatten)]
        target: Target,
        /// Rounds to run.
        #[arg(long, default_value_t = 10)]
        count: u32,
        /// Bytes a round.
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(32..=65535))]
        size: u32,
        /// The peer dies on the way: succeed when the consumer is told exactly once and everything is flushed.
        #[arg(long)]
        expect_abort: bool,
    },
    /// Be `rping -s` for one client.
    RpingServer,
    /// Be the server of one `ib_write_bw -R`.
    WriteBwServer,
    /// Be the server of one `ib_read_bw -R`.
    ReadBwServer,
    /// Be the client of `ib_read_bw -R`.
    ReadBwClient {
        /// Where the server is; perftest's port is 18515.
        #[command(flatten)]
        target: Target,
        /// Reads of 64 KiB.
        #[arg(long, default_value_t = 1000)]
        count: u64,
    },
    /// Be the server of one `ib_send_bw -R`.
    SendBwServer {
        /// Messages of 64 KiB that must come; perftest sends 1000 unless `-n` is given.
        #[arg(long, default_value_t = 1000)]
        count: u64,
    },
    /// Be the server of one `ib_atomic_bw -R`.
    AtomicBwServer {
        /// Operations that must come; perftest sends 1000 unless `-n` is given.
        #[arg(long, default_value_t = 1000)]
        count: u64,
        /// They are those of `-A CMP_AND_SWAP`.
        #[arg(long)]
        swap: bool,
    },
    /// Be the server of one `ibv_rc_pingpong` or `ibv_srq_pingpong`: the engine alone, without the driver.
    PingpongServer {
        /// What is played.
        #[command(flatten)]
        game: Pingpong,
    },
    /// Be the client of `ibv_rc_pingpong` or `ibv_srq_pingpong`: the engine alone, without the driver.
    PingpongClient {
        /// Where the server is; the programs' port is 18515.
        #[command(flatten)]
        target: Target,
        /// What is played.
        #[command(flatten)]
        game: Pingpong,
    },
    /// Copy a file on an NFS server over RDMA: 512 KiB from `from` to `to`, which both exist in the root folder.
    NfsClient {
        /// Where the server is; NFS over RDMA has the port 20049.
        #[command(flatten)]
        target: Target,
    },
    /// Be `ucmatose -c COUNT`, the server: many connections at once.
    UcmatoseServer {
        /// How many.
        #[arg(long, default_value_t = 1)]
        count: usize,
    },
    /// Be `ucmatose -c COUNT -s ADDRESS`, the client.
    UcmatoseClient {
        /// Where the server is; ucmatose's port is 7471.
        #[command(flatten)]
        target: Target,
        /// How many connections at once.
        #[arg(long, default_value_t = 1)]
        count: usize,
    },
    /// Listen on the rping port and reject the first request with private data.
    RejectingServer,
    /// Connect and expect to be rejected with private data, which is printed.
    ExpectReject {
        /// Where to connect.
        #[command(flatten)]
        target: Target,
        /// Private data to send, in hex.
        #[arg(long, default_value = "", value_parser = hex)]
        data: Hex,
    },
    /// Connect and expect to be refused because nobody listens.
    ExpectRefused {
        /// Where to connect.
        #[command(flatten)]
        target: Target,
    },
    /// Be an NVMe over Fabrics host: read, write and verify 8 MiB of a namespace that holds the guest's pattern.
    NvmeInitiator {
        /// Where the target is.
        #[command(flatten)]
        target: Target,
        /// The subsystem's name.
        #[arg(long, default_value = "vroce")]
        subsystem: String,
    },
    /// Listen on nothing.
    Idle {
        /// End after the first refused request.
        #[arg(long)]
        until_refused: bool,
    },
}

/// Bytes given in hex.
#[derive(Debug, Clone, Default)]
pub struct Hex(pub Vec<u8>);

/// Parses the command line; a mistake in it is one line and exit status 2.
pub fn parse() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| {
        if error.use_stderr() {
            // Nobody may be there to read it; the status tells too.
            let _ = writeln!(std::io::stderr(), "{}", in_one_line(&error.to_string()));
            ExitCode::from(2)
        } else {
            let _ = write!(std::io::stdout(), "{error}");
            ExitCode::SUCCESS
        }
    })
}

/// The first paragraph of clap's message: what is wrong, and with which arguments.
fn in_one_line(message: &str) -> String {
    let lines: Vec<_> = message
        .lines()
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    lines.join(" ")
}

fn decimal(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("a decimal number from 0 to {}", u64::MAX))
}

/// One in so many: where all fail, nothing comes to an end.
fn low(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(1) | Err(_) => Err("a number from 2 on, or 0 for none".to_owned()),
        Ok(one_in) => Ok(one_in),
    }
}

fn probability(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(p) if (0.0..1.0).contains(&p) => Ok(p),
        _ => Err("a probability from 0 to below 1, such as 0.01".to_owned()),
    }
}

fn path_mtu(text: &str) -> Result<PathMtu, String> {
    match text {
        "1024" => Ok(PathMtu::Mtu1024),
        "4096" => Ok(PathMtu::Mtu4096),
        _ => Err("1024 or 4096".to_owned()),
    }
}

fn unix_path(text: &str) -> Result<PathBuf, String> {
    match text.strip_prefix("unix:") {
        Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
        _ => Err("a path of the form unix:PATH".to_owned()),
    }
}

pub fn hex(text: &str) -> Result<Hex, String> {
    let digits = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect::<Option<Vec<u8>>>()
        .filter(|digits| digits.len().is_multiple_of(2))
        .ok_or_else(|| "an even number of hex digits".to_owned())?;
    Ok(Hex(digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    fn mistake(arguments: &[&str]) -> String {
        let arguments = ["vroce-lab"].iter().chain(arguments);
        let error = Cli::try_parse_from(arguments).expect_err("a mistake");
        in_one_line(&error.to_string())
    }

    #[test]
    fn a_mistake_is_named_in_one_line() {
        let missing = mistake(&["peer", "--wire", "unix:w", "expect-refused"]);
        assert!(missing.contains("--to <ADDRESS>"), "{missing}");
        let missing = mistake(&["peer", "idle"]);
        assert!(missing.contains("--wire <unix:PATH>"), "{missing}");
        let missing = mistake(&["peer"]);
        assert!(missing.contains("requires a subcommand"), "{missing}");
        for text in [missing, mistake(&["--seed", "x"]), mistake(&["--bogus"])] {
            assert!(text.starts_with("error: "), "{text}");
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }

    #[test]
    fn a_benchmark_has_no_loss() {
        assert!(mistake(&["--bench", "--loss", "0.1"]).contains("cannot be used with"));
        assert!(mistake(&["--bench", "--capture", "x"]).contains("cannot be used with"));
        assert!(Cli::try_parse_from(["vroce-lab", "--bench"]).is_ok());
    }

    #[test]
    fn an_image_is_measured_by_the_benchmark_only() {
        assert!(mistake(&["--against-image", "x"]).contains("--bench"));
        assert!(mistake(&["--bench", "--within", "10"]).contains("--against-image"));
        let good = [
            "vroce-lab",
            "--bench",
            "--against-image",
            "x",
            "--within",
            "10",
        ];
        assert!(Cli::try_parse_from(good).is_ok());
    }

    #[test]
    fn a_seed_is_decimal_and_not_negative() {
        for bad in ["-1", "0x7", "18446744073709551616"] {
            for command in [&["--seed", bad][..], &["spin", "--seed", bad]] {
                let text = mistake(command);
                assert!(text.contains("a decimal number from 0 to"), "{text}");
            }
        }
        let most = Cli::try_parse_from(["vroce-lab", "--seed", "18446744073709551615"]);
        assert_eq!(most.map(|cli| cli.demo.seed).ok(), Some(u64::MAX));
    }

    #[test]
    fn a_probability_must_be_one() {
        assert!(probability("0.25").is_ok());
        for bad in ["1", "-0.1", "nan", "much"] {
            assert!(probability(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hex_is_pairs_of_digits() {
        assert_eq!(hex("00ff1A").map(|h| h.0), Ok(vec![0, 0xFF, 0x1A]));
        assert!(hex("0").is_err());
        assert!(hex("zz").is_err());
    }
}
