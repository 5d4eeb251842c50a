//! `--trace-file`, which writes everything that crosses the boundary between drivers and the kernel, and `vroce-lab trace`, which sums up
//! such a file.

mod json;
mod record;
mod summary;
mod text;

use crate::cli::TraceOptions;
use anyhow::{Context, Result, bail};
use ntsim::World;
use ntsim::trace::{Form, Trace, TraceConfig};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use summary::Summary;

/// A trace that is being written, and where.
pub struct Written {
    path: PathBuf,
    trace: Trace,
}

/// What the form of a trace follows from.
pub fn config(path: &Path, host_time: bool) -> TraceConfig {
    TraceConfig {
        form: Form::of(path).unwrap_or_default(),
        wall_time: host_time,
    }
}

/// Begins a trace of a world, if one is wanted.
pub fn begin(world: &mut World, path: Option<&Path>, host_time: bool) -> Result<Option<Written>> {
    let Some(path) = path else { return Ok(None) };
    let trace = world
        .trace_to(path, config(path, host_time))
        .with_context(|| writing(path))?;
    let path = path.to_owned();
    Ok(Some(Written { path, trace }))
}

fn writing(path: &Path) -> String {
    format!("writing {}", path.display())
}

impl Written {
    /// Tells where it is. The world has ended.
    pub fn tell(&self) -> Result<()> {
        self.trace.flush().with_context(|| writing(&self.path))?;
        out!("{:<10} {}", "trace", advice(&self.path));
        Ok(())
    }
}

/// What can be done with a trace.
pub fn advice(path: &Path) -> String {
    let shown = path.display();
    match Form::of(path) {
        Some(Form::Json) => {
            format!("{shown} (open it at ui.perfetto.dev, or `vroce-lab trace {shown}`)")
        }
        _ => format!("{shown} (a text; `vroce-lab trace {shown}` sums it up)"),
    }
}

/// Takes a path for a trace.
pub fn path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match Form::of(&path) {
        Some(_) => Ok(path),
        None => Err("a file whose name ends in .txt or .json, as the trace is to be".to_owned()),
    }
}

/// Sums up a trace.
pub fn run(options: &TraceOptions) -> Result<()> {
    let path = &options.file;
    let summary = read(path).with_context(|| path.display().to_string())?;
    summary.print(options.rows as usize);
    Ok(())
}

/// Reads a trace of either form.
fn read(path: &Path) -> Result<Summary> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut summary = Summary::default();
    let mut line = Vec::new();
    let mut drawing = json::Reader::default();
    let mut form = None;
    for number in 1.. {
        line.clear();
        if file.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let text = std::str::from_utf8(&line).unwrap_or("\u{fffd}").trim_end();
        let Some(form) = form else {
            form = Some(form_of(text)?);
            continue;
        };
        let record = match form {
            Form::Text => text::record(text),
            Form::Json => drawing.record(text),
        };
        match record {
            Some(record) => summary.add(record),
            None => bail!("line {number} is none of a trace: {}", in_short(text)),
        }
    }
    if form.is_none() {
        bail!("{NONE}: it is empty");
    }
    Ok(summary)
}

const NONE: &str = "this is no trace that --trace-file has written";

/// What the first line says.
fn form_of(first: &str) -> Result<Form> {
    if first.starts_with("# ntsim trace") {
        Ok(Form::Text)
    } else if first.starts_with('{') && first.contains("\"program\":\"ntsim\"") {
        Ok(Form::Json)
    } else if first.starts_with(['{', '[']) {
        bail!("{NONE}, but JSON of something else")
    } else {
        bail!("{NONE}: it begins with {}", in_short(first))
    }
}

fn in_short(text: &str) -> String {
    let most: String = text.chars().take(60).collect();
    format!("{most:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# ntsim trace, seed 5: -> into a driver, <- out of it; times are of the world's clock
           0 ns  A cpu 0 irql  0 thread  1  -> test driver code
           0 ns  A cpu 0 irql  0 thread  1    <- KeSetTimer
           0 ns  A cpu 0 irql  0 thread  1    -> KeSetTimer returns, 700 ns of the host
           0 ns  A cpu 0 irql  0 thread  1    <- KeWaitForSingleObject
           0 ns  A cpu 0 irql  0 thread  1      thread 1 waits
        1500 ns  A cpu 0 irql  2 thread  0  DPC 1 begins
        1500 ns  A cpu 0 irql  2 thread  3    -> DPC routine
        1600 ns  A cpu 0 irql  2 thread  3    <- DPC routine returns, 90 ns of the host
        1600 ns  A cpu 0 irql  2 thread  0  DPC 1 ends: DPC routine, 100 ns of the host
        1600 ns  A cpu 0 irql  0 thread  1      thread 1 goes on
        1600 ns  A cpu 0 irql  0 thread  1    -> KeWaitForSingleObject returns, 900 ns of the host
        1600 ns  A cpu 0 irql  0 thread  1    NDK NdkConnect on connector 2
        1600 ns  A cpu 0 irql  0 thread  1      -> NdkConnect
        1600 ns  A cpu 0 irql  0 thread  1      <- NdkConnect returns, 5 ns of the host
        1600 ns  A cpu 0 irql  0 thread  1    NDK NdkConnect on connector 2: STATUS_CONNECTION_REFUSED (0xc0000236), 7 ns of the host [failed]
        2000 ns  A cpu 0 irql  0 thread  1  <- test driver code returns, 3000 ns of the host
# end at 2000 ns, 16 records
";

    /// The summary of a file with that in it.
    fn of(name: &str, bytes: &[u8]) -> Result<Summary> {
        let name = format!("vroce-lab-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, bytes).expect("the file is written");
        let summary = read(&path);
        std::fs::remove_file(&path).expect("the file is ours");
        summary
    }

    #[test]
    fn a_text_is_summed_up() {
        let summary = of("text", TEXT.as_bytes()).expect("a trace");
        let lines = summary.lines(10).into_iter();
        let one_space = |line: String| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<_> = lines.map(one_space).collect();
        for expected in [
            "16 records in 2000 ns of virtual time, from 0 ns to 2000 ns",
            "KeWaitForSingleObject 1 1600 1600 1600 900 900 900",
            "A cpu 0 5 calls 100.0 % busy 500 ns 25.0 %",
            "A DPC 1: DPC routine 1 runs, longest 100 ns at 1500 ns (100 ns of the host)",
            "A connector 2 1 calls, 1 failed",
            "1 A: NdkConnect on connector 2: STATUS_CONNECTION_REFUSED (0xc0000236), last at 1600 ns",
        ] {
            assert!(
                lines.iter().any(|line| line == expected),
                "{expected:?} in {lines:#?}"
            );
        }
        assert!(!lines.iter().any(|line| line.contains("not whole")));
    }

    #[test]
    fn what_is_no_trace_is_said_to_be_none() {
        for (bytes, part) in [
            (&b""[..], "it is empty"),
            (b"\n\r\r\n\xff\xfe", "it begins with"),
            (b"{\"traceEvents\":[]}", "JSON of something else"),
            (b"# ntsim trace\nnonsense\n", "line 2 is none of a trace"),
        ] {
            let error = of("none", bytes).err().expect("no trace");
            assert!(error.to_string().contains(part), "{error}");
        }
        let missing = read(Path::new("/nonexistent")).err().expect("no file");
        assert!(missing.to_string().contains("No such file"), "{missing}");
    }

    #[test]
    fn a_trace_that_is_cut_off_is_summed_up_as_far_as_it_goes() {
        let end = TEXT.find("# end").expect("an end");
        let summary = of("cut", &TEXT.as_bytes()[..end]).expect("a trace");
        let lines = summary.lines(10);
        assert!(lines.iter().any(|line| line.contains("not whole")));
    }

    #[test]
    fn the_name_of_a_trace_tells_its_form() {
        assert!(path("x.json").is_ok() && path("x.txt").is_ok());
        assert!(path("x").is_err() && path("x.pcapng").is_err());
    }
}
