//! `cargo xtask test-consumer`: the example's image, run to its end beside vroce, and with each of the mistakes that it can make.

use super::mistakes::MISTAKES;
use crate::image::{self, audit};
use crate::workspace::root;
use anyhow::{Context, Result};
use std::path::Path;
use std::process::{Command, Output};

/// Options of `cargo xtask test-consumer`.
#[derive(clap::Args)]
pub struct Options {
    /// Install clang, and a compiler for vroce's image, if they are not here (Debian, needs root).
    #[arg(long)]
    install: bool,
    /// Do not build vroce's image and load it once as well: only the linked driver.
    #[arg(long)]
    linked_only: bool,
}

/// What a run must come to.
struct Case {
    name: &'static str,
    arguments: &'static [&'static str],
    /// Whether the verifier has no complaint.
    clean: bool,
    /// What must be in the output.
    says: &'static [&'static str],
}

const DONE: [&str; 4] = [
    "--expect",
    "were written, answered and read back",
    "--expect",
    "came and went: 16 answers",
];

const CASES: [Case; 7] = [
    Case {
        name: "to its end",
        arguments: &[],
        clean: true,
        says: &[
            "0 violations, 0 leaks",
            "[A] consumer: client ended well",
            "[B] consumer: server ended well",
        ],
    },
    Case {
        name: "interleaved, with two processors and loss",
        arguments: &[
            "--interleave",
            "3",
            "--processors",
            "2",
            "--loss",
            "0.01",
            "--seed",
            "7",
        ],
        clean: true,
        says: &["0 violations, 0 leaks"],
    },
    Case {
        name: "a setting that is wrong",
        arguments: &["--set", "Port=x"],
        clean: false,
        says: &[
            "value Port",
            "DriverEntry failed with STATUS_OBJECT_TYPE_MISMATCH",
        ],
    },
    Case {
        name: "unloaded while it waits for a peer that never comes",
        arguments: &[
            "--set",
            "A:PeerAddress=10.0.0.9",
            "--seconds",
            "1",
            "--expect",
            "client ended with",
        ],
        clean: true,
        says: &["0 violations, 0 leaks"],
    },
    Case {
        name: "a queue closed twice",
        arguments: &["--set", "A:Mistake=1"],
        clean: false,
        says: &[
            "rule ndk.consumer broken by the NDK consumer: NdkCloseCq",
            "in consumer.sys!CloseAndWait",
            "wait.c:",
            "called from consumer.sys!EndpointClose",
            "called from consumer.sys!ClientRun",
        ],
    },
    Case {
        name: "freed memory written to",
        arguments: &["--set", "A:Mistake=2"],
        clean: false,
        says: &[
            "rule pool-use-after-free broken by driver consumer",
            "in consumer.sys!EndpointClose",
            "endpoint.c:",
        ],
    },
    Case {
        name: "a wait in a callback",
        arguments: &["--set", "A:Mistake=3"],
        clean: false,
        says: &[
            "rule wait-at-dispatch broken by driver consumer",
            "in consumer.sys!OnCompletions",
            "client.c:",
        ],
    },
];

/// Builds everything, and runs every case; `false` when one did not come out as it must.
pub fn run(options: &Options) -> Result<bool> {
    let clang = super::clang(options.install)?;
    let consumer = super::build(&clang)?;
    let mut good = guarded(&consumer)?;
    good &= cases("vroce linked", &consumer, None)?;
    good &= mistakes(&clang)?;
    good &= without_symbols(&consumer)?;
    if !options.linked_only {
        let vroce = image::build(image::Arch::X64, options.install)?.image;
        good &= cases("vroce's image", &consumer, Some(&vroce))?;
    }
    Ok(good)
}

/// Whether the example can be called back where the kernel enforces control flow guard.
fn guarded(consumer: &Path) -> Result<bool> {
    let found = audit::guard(consumer)?;
    let (good, text) = match &found.seen {
        audit::Seen::Right(text) => (true, text.as_str()),
        audit::Seen::Wrong(text) => (false, text.as_str()),
        audit::Seen::Nothing(text) => (false, *text),
    };
    let word = if good { "ok    " } else { "FAILED" };
    println!("{word} consumer.sys: {}: {text}", found.what);
    Ok(good)
}

fn cases(with: &str, consumer: &Path, vroce: Option<&Path>) -> Result<bool> {
    let mut good = true;
    for case in &CASES {
        let output = lab(consumer, vroce, case.arguments)?;
        let text = text(&output);
        let missing: Vec<_> = case
            .says
            .iter()
            .filter(|part| !text.contains(**part))
            .collect();
        if output.status.success() == case.clean && missing.is_empty() {
            println!("ok     {with}: {}", case.name);
        } else {
            good = false;
            println!(
                "{text}\nFAILED {with}: {} ({}); not said: {missing:?}",
                case.name, output.status
            );
        }
    }
    Ok(good)
}

/// Builds the example with each mistake in its sources, and judges the reports.
fn mistakes(clang: &Path) -> Result<bool> {
    let mut good = true;
    for mistake in &MISTAKES {
        let consumer = mistake.build(clang)?;
        let output = lab(&consumer, None, mistake.arguments)?;
        let text = text(&output);
        let expected = mistake.expected()?;
        let missing: Vec<_> = expected
            .iter()
            .filter(|part| !text.contains(*part))
            .collect();
        let wrong: Vec<_> = mistake
            .not
            .iter()
            .filter(|part| text.contains(**part))
            .collect();
        if output.status.success() || !missing.is_empty() || !wrong.is_empty() {
            good = false;
            println!(
                "{text}\nFAILED mistake: {} ({}); not said: {missing:?}; said: {wrong:?}",
                mistake.name, output.status
            );
        } else {
            println!("ok     mistake: {}", mistake.name);
        }
    }
    Ok(good)
}

/// Whether a report says why it names no functions, where the symbols are something else.
fn without_symbols(consumer: &Path) -> Result<bool> {
    let folder = consumer.with_file_name("without-symbols");
    std::fs::create_dir_all(&folder)?;
    let image = folder.join("consumer.sys");
    std::fs::copy(consumer, &image)?;
    std::fs::write(image.with_extension("pdb"), "text")?;
    let output = lab(&image, None, &["--set", "A:Mistake=1"])?;
    let text = text(&output);
    let places = text.matches("(.text; consumer.pdb is not usable: ").count();
    // The wrong place, and its callers as well.
    let good = places >= 4 && !text.contains("consumer.sys!");
    if good {
        println!("ok     symbols that are none");
    } else {
        println!("{text}\nFAILED symbols that are none: {places} places without");
    }
    Ok(good)
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn lab(consumer: &Path, vroce: Option<&Path>, arguments: &[&str]) -> Result<Output> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args([
            "run",
            "--release",
            "--locked",
            "--quiet",
            "--package",
            "vroce-lab",
            "--",
        ])
        .args(["consumer", "--image"])
        .arg(consumer)
        .args(arguments)
        .env_remove("NTSIM_IMAGE")
        .current_dir(root());
    if !arguments.contains(&"--expect") {
        cargo.args(DONE);
    }
    if let Some(vroce) = vroce {
        cargo.env("NTSIM_IMAGE", vroce);
    }
    cargo.output().context("cargo")
}
