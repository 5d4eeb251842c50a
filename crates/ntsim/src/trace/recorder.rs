//! What is under way in a traced world: what each kernel thread has on its stack.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Instant;

use super::json::Drawing;
use super::out::Out;
use super::{Form, TraceConfig, text};
use crate::world::machine::Machine;

/// Where and when something happens.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// In nanoseconds of the world's clock.
    pub(super) time: u64,
    pub(super) machine: u32,
    pub(super) processor: u32,
    pub(super) irql: u8,
    /// Number of the kernel thread, 0 for the host.
    pub(super) thread: usize,
}

/// An NDK object: kind and number.
pub(super) type Object = (&'static str, u32);

/// Something that begins and ends.
#[derive(Clone, Copy)]
pub(super) enum Frame {
    Call {
        function: &'static str,
        into_driver: bool,
    },
    Dpc {
        /// Counts the world's DPCs in the order in which they first ran.
        number: u32,
    },
    Ndk {
        function: &'static str,
        object: Object,
    },
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Frame::Call { function, .. } => f.write_str(function),
            Frame::Dpc { number } => write!(f, "DPC {number}"),
            Frame::Ndk {
                function,
                object: (kind, number),
            } => write!(f, "{function} on {kind} {number}"),
        }
    }
}

/// How a frame ends.
#[derive(Clone, Copy, Default)]
pub(super) struct End<'a> {
    /// Empty if there is none.
    pub(super) answer: &'a str,
    pub(super) failed: bool,
    /// How long it took, in nanoseconds of the host's clock.
    pub(super) wall: Option<u64>,
}

/// A kernel thread.
#[derive(Default)]
struct Thread {
    /// How deep the code was that gave it something to do.
    base: usize,
    frames: Vec<(Frame, Option<Instant>)>,
}

impl Thread {
    fn depth(&self) -> usize {
        self.base + self.frames.len()
    }
}

enum Writer {
    Text,
    Json(Drawing),
}

/// Writes what happens.
pub(super) struct Recorder {
    pub(super) out: Out,
    writer: Writer,
    wall_time: bool,
    threads: BTreeMap<usize, Thread>,
    /// The numbers of DPCs, by machine and address.
    dpcs: HashMap<(u32, usize), u32>,
    /// What each calls in a driver, by number.
    routines: HashMap<u32, &'static str>,
    /// A DPC that has begun, and has called nothing.
    begun: Option<u32>,
    /// By machine.
    names: Vec<String>,
    records: u64,
}

impl Recorder {
    pub(super) fn new(mut out: Out, config: TraceConfig, seed: u64) -> Recorder {
        let writer = match config.form {
            Form::Text => {
                text::head(&mut out, seed);
                Writer::Text
            }
            Form::Json => Writer::Json(Drawing::new(&mut out, seed)),
        };
        Recorder {
            out,
            writer,
            wall_time: config.wall_time,
            threads: BTreeMap::new(),
            dpcs: HashMap::new(),
            routines: HashMap::new(),
            begun: None,
            names: Vec::new(),
            records: 0,
        }
    }

    /// Something will happen on that machine.
    pub(super) fn knows(&mut self, machine: &Machine) {
        let index = machine.id.0 as usize;
        if self.names.len() <= index {
            self.names.resize(index + 1, String::new());
        }
        if self.names[index].is_empty() {
            self.names[index].clone_from(&machine.name);
        }
    }

    /// The number of a DPC.
    pub(super) fn dpc(&mut self, machine: u32, object: usize) -> u32 {
        let next = u32::try_from(self.dpcs.len()).unwrap_or(u32::MAX) + 1;
        *self.dpcs.entry((machine, object)).or_insert(next)
    }

    fn line(&mut self, place: Place, depth: usize, what: fmt::Arguments<'_>) {
        let machine = &self.names[place.machine as usize];
        text::line(&mut self.out, machine, place, depth, what);
    }

    pub(super) fn begin(&mut self, place: Place, frame: Frame) {
        self.records += 1;
        match frame {
            Frame::Dpc { number } => self.begun = Some(number),
            Frame::Call {
                function,
                into_driver: true,
            } => {
                if let Some(number) = self.begun.take() {
                    self.routines.insert(number, function);
                }
            }
            _ => {}
        }
        let depth = self.depth(place.thread);
        match &mut self.writer {
            Writer::Text => self.line(place, depth, format_args!("{}", text::Begin(frame))),
            Writer::Json(drawing) => drawing.begin(&mut self.out, &self.names, place, frame),
        }
        let since = self.wall_time.then(Instant::now);
        let thread = self.threads.entry(place.thread).or_default();
        thread.frames.push((frame, since));
    }

    fn depth(&self, thread: usize) -> usize {
        self.threads.get(&thread).map_or(0, Thread::depth)
    }

    /// A call returns. One that began before the trace did is none of its.
    pub(super) fn end_call(&mut self, place: Place) {
        let frames = self.threads.get(&place.thread).map(|t| &t.frames);
        if let Some((Frame::Call { .. }, _)) = frames.and_then(|frames| frames.last()) {
            self.end_with(place, "", false);
        }
    }

    /// What began last on this thread ends.
    pub(super) fn end_with(&mut self, place: Place, answer: &str, failed: bool) {
        let thread = self.threads.entry(place.thread).or_default();
        let Some((frame, since)) = thread.frames.pop() else {
            return;
        };
        let wall = since.map(|s| u64::try_from(s.elapsed().as_nanos()).unwrap_or(u64::MAX));
        let answer = match frame {
            Frame::Dpc { number } => self.routines.get(&number).copied().unwrap_or_default(),
            _ => answer,
        };
        let end = End {
            answer,
            failed,
            wall,
        };
        self.records += 1;
        let depth = self.depth(place.thread);
        match &mut self.writer {
            Writer::Text => self.line(place, depth, format_args!("{}", text::Over(frame, end))),
            Writer::Json(drawing) => drawing.end(&mut self.out, &self.names, place, frame, end),
        }
    }

    /// Something that takes no time.
    pub(super) fn note(&mut self, place: Place, object: Option<Object>, what: &str, failed: bool) {
        self.records += 1;
        let depth = self.depth(place.thread);
        match &mut self.writer {
            Writer::Text => {
                let failed = if failed { text::FAILED } else { "" };
                self.line(place, depth, format_args!("{what}{failed}"));
            }
            Writer::Json(drawing) => {
                drawing.note(&mut self.out, &self.names, place, object, what, failed);
            }
        }
    }

    /// A thread is given something to do by another.
    pub(super) fn job(&mut self, by: usize, thread: usize) {
        let base = self.depth(by);
        let thread = self.threads.entry(thread).or_default();
        thread.base = base;
    }

    /// The thread waits, or it is left for good.
    pub(super) fn leaves(&mut self, place: Place, waits: bool) {
        let how = if waits { "waits" } else { "is left for good" };
        self.note(
            place,
            None,
            &format!("thread {} {how}", place.thread),
            false,
        );
        if let Writer::Json(drawing) = &mut self.writer {
            drawing.leaves(&mut self.out, place, waits);
        }
        if !waits {
            self.threads.remove(&place.thread);
        }
    }

    /// The thread goes on after it has waited.
    pub(super) fn goes_on(&mut self, place: Place) {
        if let Writer::Json(drawing) = &mut self.writer {
            drawing.goes_on(&mut self.out, &self.names, place);
        }
        let text = format!("thread {} goes on", place.thread);
        self.note(place, None, &text, false);
    }

    /// Nothing more comes.
    pub(super) fn end(&mut self, time: u64) {
        match &mut self.writer {
            Writer::Text => text::foot(&mut self.out, time, self.records),
            Writer::Json(drawing) => drawing.close(&mut self.out, time, self.records),
        }
        // Who wants to know whether that went well asks with `Trace::flush`.
        let _ = self.out.flush();
    }
}
