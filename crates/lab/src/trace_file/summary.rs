//! What `vroce-lab trace` tells of a trace.

use super::record::{Kind, Record, What};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Records shown at the end.
const LAST: usize = 16;

/// How long something took, each time.
#[derive(Default)]
struct Times {
    virtual_: Vec<u64>,
    host: Vec<u64>,
}

impl Times {
    fn add(&mut self, time: u64, host: Option<u64>) {
        self.virtual_.push(time);
        self.host.extend(host);
    }
}

/// The least, the median and the most.
fn spread(times: &[u64]) -> Option<[u64; 3]> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    Some([*sorted.first()?, sorted[sorted.len() / 2], *sorted.last()?])
}

/// Something that has begun on a thread.
struct Open {
    kind: Kind,
    since: u64,
}

/// A kernel thread, or the host where no thread runs.
#[derive(Default)]
struct Thread {
    open: Vec<Open>,
    /// Of them, calls.
    calls: usize,
    /// The processor that it keeps busy.
    on: Option<Processor>,
}

type Processor = (String, u64);

#[derive(Default)]
struct Busy {
    calls: u64,
    /// Threads that run there, one inside another.
    threads: usize,
    since: u64,
    nanoseconds: u64,
}

/// A DPC.
#[derive(Default)]
struct Runs {
    routine: String,
    count: u64,
    /// Of the longest: host's and virtual time, and when.
    longest: (u64, u64, u64),
    measured: bool,
}

/// Calls on an object.
#[derive(Default)]
struct Calls {
    count: u64,
    failed: u64,
}

/// What is known of a trace.
#[derive(Default)]
pub(super) struct Summary {
    records: u64,
    first: Option<u64>,
    end: u64,
    whole: bool,
    threads: HashMap<(String, u64), Thread>,
    functions: BTreeMap<String, Times>,
    processors: BTreeMap<Processor, Busy>,
    dpcs: BTreeMap<(String, String), Runs>,
    objects: BTreeMap<(String, String), Calls>,
    /// How often, and when last.
    failures: BTreeMap<String, (u64, u64)>,
    last: VecDeque<String>,
}

impl Summary {
    pub(super) fn add(&mut self, record: Record) {
        match record.what {
            What::Nothing => return,
            What::Whole => {
                self.whole = true;
                self.end = self.end.max(record.time);
                return;
            }
            _ => {}
        }
        self.records += 1;
        self.first.get_or_insert(record.time);
        self.end = self.end.max(record.time);
        let key = (record.machine.clone(), record.thread);
        // The host has no stack of its own on each machine, but what it begins it ends.
        let mut thread = self.threads.remove(&key).unwrap_or_default();
        let told = self.take(&record, &mut thread);
        self.threads.insert(key, thread);
        if let Some(told) = told {
            if self.last.len() == LAST {
                self.last.pop_front();
            }
            let Record { time, machine, .. } = record;
            let thread = record.thread;
            self.last.push_back(format!(
                "{time:>12} ns  {machine} thread {thread:>2}  {told}"
            ));
        }
    }

    /// Takes in what happens to a thread; in words.
    fn take(&mut self, record: &Record, thread: &mut Thread) -> Option<String> {
        let time = record.time;
        match &record.what {
            What::Begin(kind) => {
                let is_call = matches!(kind, Kind::Export(_) | Kind::Callback(_));
                if is_call && let Some(processor) = record.processor {
                    let on = (record.machine.clone(), processor);
                    self.processors.entry(on.clone()).or_default().calls += 1;
                    thread.calls += 1;
                    self.runs_on(thread, Some(on), time);
                }
                let kind = kind.clone();
                let told = told(&kind);
                thread.open.push(Open { kind, since: time });
                Some(told)
            }
            What::End {
                answer,
                failed,
                host,
            } => {
                let Open { kind, since } = thread.open.pop()?;
                let took = time.saturating_sub(since);
                let told = told(&kind);
                match kind {
                    Kind::Export(name) | Kind::Callback(name) => {
                        thread.calls = thread.calls.saturating_sub(1);
                        if thread.calls == 0 {
                            self.runs_on(thread, None, time);
                        }
                        self.functions.entry(name).or_default().add(took, *host);
                    }
                    Kind::Dpc(name) => {
                        let runs = self.dpcs.entry((record.machine.clone(), name)).or_default();
                        runs.count += 1;
                        runs.routine.clone_from(answer);
                        runs.measured |= host.is_some();
                        let this = (host.unwrap_or_default(), took, since);
                        if (this.0, this.1) > (runs.longest.0, runs.longest.1) || runs.count == 1 {
                            runs.longest = this;
                        }
                    }
                    Kind::Ndk(function, object) => {
                        let of = (record.machine.clone(), object.clone());
                        let calls = self.objects.entry(of).or_default();
                        calls.count += 1;
                        calls.failed += u64::from(*failed);
                        if *failed {
                            self.fails(record, &format!("{function} on {object}: {answer}"));
                        }
                    }
                }
                let answer = match answer.as_str() {
                    "" => String::new(),
                    answer => format!(": {answer}"),
                };
                Some(format!("{told} is over{answer}"))
            }
            What::Waits => {
                self.runs_on(thread, None, time);
                Some("waits".to_owned())
            }
            What::GoesOn => {
                let on = record.processor.map(|p| (record.machine.clone(), p));
                if thread.calls > 0 {
                    self.runs_on(thread, on, time);
                }
                Some("goes on".to_owned())
            }
            What::Left => {
                self.runs_on(thread, None, time);
                thread.open.clear();
                thread.calls = 0;
                Some("is left for good".to_owned())
            }
            What::Note { text, failed } => {
                if *failed {
                    self.fails(record, text);
                }
                Some(text.clone())
            }
            What::Nothing | What::Whole => None,
        }
    }

    fn fails(&mut self, record: &Record, text: &str) {
        let what = format!("{}: {text}", record.machine);
        let failure = self.failures.entry(what).or_default();
        *failure = (failure.0 + 1, record.time);
    }

    /// A thread keeps a processor busy from now on, or none.
    fn runs_on(&mut self, thread: &mut Thread, on: Option<Processor>, time: u64) {
        if thread.on == on {
            return;
        }
        if let Some(busy) = thread.on.take().and_then(|p| self.processors.get_mut(&p)) {
            busy.threads -= 1;
            if busy.threads == 0 {
                busy.nanoseconds += time.saturating_sub(busy.since);
            }
        }
        if let Some(on) = &on {
            let busy = self.processors.entry(on.clone()).or_default();
            if busy.threads == 0 {
                busy.since = time;
            }
            busy.threads += 1;
        }
        thread.on = on;
    }

    pub(super) fn print(&self, rows: usize) {
        for line in self.lines(rows) {
            out!("{line}");
        }
    }

    /// All of it, with so many rows of each table at most.
    pub(super) fn lines(&self, rows: usize) -> Vec<String> {
        let mut lines = Vec::new();
        let first = self.first.unwrap_or_default();
        let duration = self.end - first;
        lines.push(format!(
            "{} records in {duration} ns of virtual time, from {first} ns to {} ns",
            self.records, self.end
        ));
        if !self.whole {
            lines.push("the trace is not whole: the run that wrote it was killed".to_owned());
        }
        self.functions(rows, &mut lines);
        self.processors(duration, &mut lines);
        self.dpcs(rows, &mut lines);
        self.objects(rows, &mut lines);
        lines.push(String::new());
        lines.push(format!("failures: {}", or_none(&self.failures)));
        let mut failures: Vec<_> = self.failures.iter().collect();
        failures.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        for (what, (count, last)) in failures.iter().take(rows) {
            lines.push(format!("  {count:>6}  {what}, last at {last} ns"));
        }
        lines.extend(left_out(failures.len(), rows));
        lines.push(String::new());
        lines.push("the last records:".to_owned());
        lines.extend(self.last.iter().cloned());
        lines
    }

    /// Calls by function, the most frequent first.
    fn functions(&self, rows: usize, lines: &mut Vec<String>) {
        let mut functions: Vec<_> = self.functions.iter().collect();
        functions.sort_by_key(|(_, times)| std::cmp::Reverse(times.virtual_.len()));
        let measured = functions.iter().any(|(_, times)| !times.host.is_empty());
        lines.push(String::new());
        let mut head = format!(
            "{:<30} {:>8} {:>12} {:>12} {:>12}",
            "calls that returned", "count", "min ns", "median ns", "max ns"
        );
        if measured {
            head += &format!(
                " {:>12} {:>12} {:>12}",
                "host min ns", "host median", "host max"
            );
        }
        lines.push(head);
        for (name, times) in functions.iter().take(rows) {
            let count = times.virtual_.len();
            let mut line = format!("{name:<30} {count:>8}");
            for [min, median, max] in [&times.virtual_, &times.host]
                .into_iter()
                .filter_map(|t| spread(t))
            {
                line += &format!(" {min:>12} {median:>12} {max:>12}");
            }
            lines.push(line);
        }
        lines.extend(left_out(functions.len(), rows));
    }

    fn processors(&self, duration: u64, lines: &mut Vec<String>) {
        let calls: u64 = self.processors.values().map(|p| p.calls).sum();
        lines.push(String::new());
        lines.push("processors, by calls begun there, and how long driver code ran:".to_owned());
        for ((machine, number), busy) in &self.processors {
            // What runs at the end runs until then.
            let open = if busy.threads > 0 {
                self.end.saturating_sub(busy.since)
            } else {
                0
            };
            let busy_for = busy.nanoseconds + open;
            lines.push(format!(
                "{:<16} {:>8} calls {:>6.1} %  busy {busy_for:>12} ns {:>6.1} %",
                format!("{machine} cpu {number}"),
                busy.calls,
                percent(busy.calls, calls),
                percent(busy_for, duration),
            ));
        }
    }

    fn dpcs(&self, rows: usize, lines: &mut Vec<String>) {
        let mut dpcs: Vec<_> = self.dpcs.iter().collect();
        dpcs.sort_by_key(|(_, runs)| {
            std::cmp::Reverse((runs.longest.0, runs.longest.1, runs.count))
        });
        lines.push(String::new());
        let measured = self.dpcs.values().any(|runs| runs.measured);
        let hint = match measured || self.dpcs.is_empty() {
            true => "",
            false => " (--trace-host-time tells how long they take on the host)",
        };
        let count = or_none(&self.dpcs);
        lines.push(format!("DPCs, the longest first: {count}{hint}"));
        for ((machine, name), runs) in dpcs.iter().take(rows) {
            let (host, took, since) = runs.longest;
            let routine = match runs.routine.as_str() {
                "" => String::new(),
                routine => format!(": {routine}"),
            };
            let mut line = format!(
                "{:<30} {:>6} runs, longest {took} ns at {since} ns",
                format!("{machine} {name}{routine}"),
                runs.count
            );
            if runs.measured {
                line += &format!(" ({host} ns of the host)");
            }
            lines.push(line);
        }
        lines.extend(left_out(dpcs.len(), rows));
    }

    fn objects(&self, rows: usize, lines: &mut Vec<String>) {
        let mut objects: Vec<_> = self.objects.iter().collect();
        objects.sort_by_key(|(_, calls)| std::cmp::Reverse(calls.count));
        lines.push(String::new());
        lines.push(format!("NDK objects: {}", or_none(&self.objects)));
        for ((machine, object), calls) in objects.iter().take(rows) {
            let failed = match calls.failed {
                0 => String::new(),
                failed => format!(", {failed} failed"),
            };
            lines.push(format!(
                "{:<30} {:>6} calls{failed}",
                format!("{machine} {object}"),
                calls.count
            ));
        }
        lines.extend(left_out(objects.len(), rows));
    }
}

fn told(kind: &Kind) -> String {
    match kind {
        Kind::Export(name) => format!("<- {name}"),
        Kind::Callback(name) => format!("-> {name}"),
        Kind::Dpc(name) => name.clone(),
        Kind::Ndk(function, object) => format!("{function} on {object}"),
    }
}

fn or_none<K, V>(all: &BTreeMap<K, V>) -> String {
    match all.len() {
        0 => "none".to_owned(),
        count => count.to_string(),
    }
}

/// What a table leaves out.
fn left_out(all: usize, rows: usize) -> Option<String> {
    (all > rows).then(|| format!("(and {} more: --rows shows more)", all - rows))
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 * 100.0 / whole as f64
}
