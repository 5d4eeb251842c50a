//! `--trace-file` and `vroce-lab trace` as somebody runs them.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn lab(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vroce-lab"))
        .args(arguments)
        .output()
        .expect("the program runs")
}

/// What the program printed.
fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("a text")
}

/// A short walk of the spinner, traced.
fn walk(file: &Path) -> Vec<u8> {
    let path = file.to_str().expect("a path");
    let output = lab(&[
        "spin",
        "--seed",
        "3",
        "--calls",
        "1",
        "--epoch",
        "300",
        "--trace-file",
        path,
    ]);
    assert!(printed(&output).contains("the last epoch's trace: "));
    std::fs::read(file).expect("the trace is there")
}

fn file(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("vroce-trace-{}-{name}", std::process::id()))
}

#[test]
fn a_walk_is_traced_in_both_forms_and_the_same_each_time() {
    let mut summaries = Vec::new();
    for name in ["walk.txt", "walk.json"] {
        let path = file(name);
        let bytes = walk(&path);
        let path_text = path.to_str().expect("a path");
        let summary = printed(&lab(&["trace", path_text, "--rows", "1000"]));
        let again = walk(&path);
        std::fs::remove_file(&path).expect("the file is ours");
        assert!(
            bytes == again,
            "two walks of one seed are traced differently"
        );
        let text = String::from_utf8_lossy(&bytes);
        for part in ["OID 0x0001010e, set", "interrupt 0x", " waits"] {
            assert!(text.contains(part), "{part} in {name}");
        }
        for part in [
            "MiniportInitializeEx ",
            "NdkCreateQp ",
            "A cpu 0 ",
            ": MiniportMessageInterruptDPC ",
            "A connector ",
        ] {
            assert!(summary.contains(part), "{part} in {summary}");
        }
        if name.ends_with("json") {
            whole(&bytes);
        }
        summaries.push(summary);
    }
    assert_eq!(summaries[0], summaries[1]);
    assert!(!summaries[0].contains("not whole"), "{}", summaries[0]);
}

/// On every track begins and ends nest, and none is left.
fn whole(bytes: &[u8]) {
    let trace: Value = serde_json::from_slice(bytes).expect("JSON");
    let mut open: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for event in trace["traceEvents"].as_array().expect("events") {
        let track = (event["pid"].as_u64(), event["tid"].as_u64());
        let name = event["name"].as_str().expect("a name").to_owned();
        let track = open.entry(track).or_default();
        match event["ph"].as_str() {
            Some("B") => track.push(name),
            Some("E") => assert_eq!(track.pop(), Some(name), "{event}"),
            _ => {}
        }
    }
    open.retain(|_, left| !left.is_empty());
    assert!(open.is_empty(), "{open:?} never end");
}

#[test]
fn what_is_no_trace_is_an_error_of_one_line() {
    let other = file("other.txt");
    std::fs::write(&other, "something else\n").expect("the file is written");
    let other = other.to_str().expect("a path");
    for (arguments, part) in [
        (&["trace", other][..], "it begins with \"something else\""),
        (&["trace", "/nonexistent"], "No such file"),
        (&["spin", "--trace-file", "x.pcapng"], ".txt or .json"),
        (&["--bench", "--trace-file", "x.txt"], "cannot be used with"),
        (
            &["spin", "--calls", "1", "--trace-file", "/nonexistent/x.txt"],
            "writing /nonexistent/x.txt",
        ),
    ] {
        let output = lab(arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(text.contains(part), "{arguments:?}: {text}");
    }
    std::fs::remove_file(other).expect("the file is ours");
}
