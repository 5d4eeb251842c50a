//! Traces that are texts.

use super::record::{Kind, Record, What};

/// What a line says; None if it is none of a trace.
pub(super) fn record(line: &str) -> Option<Record> {
    if let Some(comment) = line.strip_prefix("# ") {
        let end = comment.strip_prefix("end at ")?;
        let (time, _) = end.split_once(" ns")?;
        return Some(Record {
            time: time.parse().ok()?,
            machine: String::new(),
            processor: None,
            thread: 0,
            what: What::Whole,
        });
    }
    let (time, rest) = line.split_once(" ns  ")?;
    let (machine, rest) = rest.split_once(" cpu ")?;
    let (processor, rest) = rest.split_once(" irql ")?;
    let (_irql, rest) = rest.trim_start().split_once(" thread ")?;
    let (thread, what) = rest.trim_start().split_once("  ")?;
    Some(Record {
        time: time.trim_start().parse().ok()?,
        machine: machine.to_owned(),
        processor: Some(processor.parse().ok()?),
        thread: thread.parse().ok()?,
        what: what_of(what.trim_start())?,
    })
}

fn what_of(text: &str) -> Option<What> {
    let (text, failed) = match text.strip_suffix(" [failed]") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let (text, host) = match text.strip_suffix(" ns of the host") {
        Some(text) => {
            let (text, host) = text.rsplit_once(", ")?;
            (text, Some(host.parse().ok()?))
        }
        None => (text, None),
    };
    let end = |answer: &str| What::End {
        answer: answer.to_owned(),
        failed,
        host,
    };
    let begin = |kind: fn(String) -> Kind, name: &str| What::Begin(kind(name.to_owned()));
    let into = text.strip_prefix("-> ");
    let what = if let Some(call) = into.or_else(|| text.strip_prefix("<- ")) {
        match call.strip_suffix(" returns") {
            Some(_) => end(""),
            None if into.is_some() => begin(Kind::Callback, call),
            None => begin(Kind::Export, call),
        }
    } else if let Some(call) = text.strip_prefix("NDK ") {
        match call.split_once(": ") {
            Some((_, answer)) => end(answer),
            None => {
                let (function, object) = call.split_once(" on ")?;
                What::Begin(Kind::Ndk(function.to_owned(), object.to_owned()))
            }
        }
    } else if text.starts_with("DPC ") {
        match (text.strip_suffix(" begins"), text.split_once(" ends")) {
            (Some(dpc), _) => begin(Kind::Dpc, dpc),
            (None, Some((_, answer))) => end(answer.trim_start_matches(": ")),
            (None, None) => return None,
        }
    } else {
        What::note(text, failed)
    };
    Some(what)
}
