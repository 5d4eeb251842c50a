//! Traces that are Chrome's trace events, as ntsim writes them: an event a line.

use super::record::{Kind, Record, What};
use serde_json::Value;
use std::collections::HashMap;

/// What has been read tells whose the tracks are.
#[derive(Default)]
pub(super) struct Reader {
    machines: HashMap<u64, String>,
    /// Objects, by process and thread.
    objects: HashMap<(u64, u64), String>,
}

impl Reader {
    /// What a line says; None if it is none of a trace.
    pub(super) fn record(&mut self, line: &str) -> Option<Record> {
        let line = line.trim_end_matches(',');
        if matches!(line, "" | "]}") {
            return Some(nothing(What::Nothing, 0));
        }
        let event: Value = serde_json::from_str(line).ok()?;
        let number = |key: &str| event[key].as_u64();
        let (pid, tid) = (number("pid")?, number("tid")?);
        let (phase, name) = (event["ph"].as_str()?, event["name"].as_str()?);
        let args = &event["args"];
        if phase == "M" {
            return Some(self.names(pid, tid, name, args));
        }
        // What is drawn again, or not to the end, was read already.
        if args["pauses"] == true || args["goes_on"] == true {
            return Some(nothing(What::Nothing, 0));
        }
        let time = match args["ns"].as_u64() {
            Some(time) => time,
            None => (event["ts"].as_f64()? * 1000.0).round() as u64,
        };
        let failed = args["failed"] == true;
        let category = event["cat"].as_str()?;
        let what = match phase {
            "B" => What::Begin(match category {
                "export" => Kind::Export(name.to_owned()),
                "callback" => Kind::Callback(name.to_owned()),
                "dpc" => Kind::Dpc(name.to_owned()),
                _ => {
                    let object = self.objects.get(&(pid, tid))?;
                    Kind::Ndk(name.to_owned(), object.clone())
                }
            }),
            // It was left for good with its thread.
            "E" if args["left"] == true => What::Nothing,
            "E" => What::End {
                answer: args["answer"].as_str().unwrap_or_default().to_owned(),
                failed,
                host: args["host_ns"].as_u64(),
            },
            "i" => What::note(name, failed),
            _ => return None,
        };
        let on_processor = matches!(category, "export" | "callback" | "note");
        Some(Record {
            time,
            machine: self.machines.get(&pid)?.clone(),
            processor: on_processor.then(|| tid.saturating_sub(1)),
            thread: args["thread"].as_u64()?,
            what,
        })
    }

    fn names(&mut self, pid: u64, tid: u64, what: &str, args: &Value) -> Record {
        let name = args["name"].as_str().unwrap_or_default();
        match what {
            "process_name" => {
                let machine = name.trim_end_matches(": DPCs");
                let machine = machine.trim_end_matches(": NDK objects");
                self.machines.insert(pid, machine.to_owned());
            }
            "thread_name" => {
                let object = name.trim_end_matches(", beside");
                self.objects.insert((pid, tid), object.to_owned());
            }
            "end" => return nothing(What::Whole, args["ns"].as_u64().unwrap_or_default()),
            _ => {}
        }
        nothing(What::Nothing, 0)
    }
}

fn nothing(what: What, time: u64) -> Record {
    Record {
        time,
        machine: String::new(),
        processor: None,
        thread: 0,
        what,
    }
}
