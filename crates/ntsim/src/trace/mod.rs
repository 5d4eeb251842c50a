//! A trace of everything that crosses the boundary between drivers and the kernel: written to a file as it happens, to be read or to be
//! looked at in Perfetto.
//!
//! What is in it: every exported function that a driver calls and every callback of a driver, as they are called and as they return;
//! DPCs and interrupts; kernel threads that wait and go on; NDK calls with their objects and statuses; OIDs and what drivers say
//! to being loaded, added, initialised, restarted, paused and reset; violations. Functions of the
//! kernel that the kernel itself calls cross nothing and are left out.

mod json;
mod out;
mod recorder;
mod text;

use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;
use std::rc::Rc;

use crate::World;
use crate::consumer::Status;
use crate::verifier::Function;
use crate::wire::Shared;
use crate::world::{Core, context, thread};
use out::Out;
use recorder::{Frame, Place, Recorder};

/// How a trace is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// A line for each record, indented by what is on the stack: when in nanoseconds of the world's clock, on which machine, processor and
    /// kernel thread, at which IRQL, and what. `->` leads into a driver, `<-` out of it.
    #[default]
    Text,
    /// Chrome's trace events, which Perfetto and chrome://tracing show. A process for each machine has a track for each processor; two
    /// more have tracks for its DPCs and for its NDK objects. What happens at one moment of the virtual clock is drawn a nanosecond
    /// apart, for else nobody would see it; `args.ns` is the true time of what is drawn at another.
    Json,
}

impl Form {
    /// The form that a file's name asks for: `.txt` or `.json`.
    #[must_use]
    pub fn of(path: &Path) -> Option<Form> {
        match path.extension()?.to_str()? {
            "txt" => Some(Form::Text),
            "json" => Some(Form::Json),
            _ => None,
        }
    }
}

/// What a trace is to be.
#[derive(Clone, Copy, Debug, Default)]
pub struct TraceConfig {
    /// How it is written.
    pub form: Form,
    /// With how long each call took in nanoseconds of the host's clock, which no two runs have in common.
    pub wall_time: bool,
}

/// A trace that is being written. Cheap to clone.
///
/// A write error (a full disk) ends the trace, not the simulation; [`Trace::flush`] tells it then and whenever it is called later.
#[derive(Clone)]
pub struct Trace {
    recorder: Rc<RefCell<Recorder>>,
    memory: Option<Rc<RefCell<Vec<u8>>>>,
}

impl Trace {
    fn new(out: Out, memory: Option<Rc<RefCell<Vec<u8>>>>, config: TraceConfig, seed: u64) -> Self {
        let recorder = Recorder::new(out, config, seed);
        Trace {
            recorder: Rc::new(RefCell::new(recorder)),
            memory,
        }
    }

    /// What was written so far, if to memory. It is complete when the trace or the world has ended.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let memory = self.memory.as_ref();
        memory.map_or_else(Vec::new, |memory| memory.borrow().clone())
    }

    /// Has everything recorded so far written out.
    ///
    /// # Errors
    /// If it cannot be written, or something recorded before could not.
    pub fn flush(&self) -> io::Result<()> {
        self.recorder.borrow_mut().out.flush()
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").finish_non_exhaustive()
    }
}

impl World {
    /// Writes from now on everything that crosses the boundary to a file, until the world ends, or [`World::end_trace`]. A world has one
    /// trace: an earlier one ends.
    ///
    /// # Errors
    /// If the file cannot be created, or its name asks for another form than the configuration does ([`Form::of`]).
    pub fn trace_to(&mut self, path: impl AsRef<Path>, config: TraceConfig) -> io::Result<Trace> {
        let asked = Form::of(path.as_ref());
        if asked.is_some_and(|form| form != config.form) {
            let text = format!(
                "{} would not be what its name says: the form of the trace is {:?}",
                path.as_ref().display(),
                config.form
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let file = BufWriter::with_capacity(256 << 10, File::create(path.as_ref())?);
        Ok(self.begin_trace(Trace::new(
            Out::new(Box::new(file)),
            None,
            config,
            self.seed(),
        )))
    }

    /// As [`World::trace_to`], in memory: see [`Trace::bytes`].
    pub fn trace_to_memory(&mut self, config: TraceConfig) -> Trace {
        let memory = Rc::new(RefCell::new(Vec::new()));
        let out = Out::new(Box::new(Shared(Rc::clone(&memory))));
        self.begin_trace(Trace::new(out, Some(memory), config, self.seed()))
    }

    fn begin_trace(&mut self, trace: Trace) -> Trace {
        self.core.end_trace();
        *self.core.trace.borrow_mut() = Some(trace.clone());
        self.core.traced.set(true);
        self.core.meddles.set(true);
        trace
    }

    /// Ends the trace, if there is one: it is complete.
    pub fn end_trace(&mut self) {
        self.core.end_trace();
    }
}

impl Core {
    /// Writes out what was traced so far.
    pub(crate) fn flush_trace(&self) {
        if let Some(trace) = &*self.trace.borrow() {
            // Who wants to know whether that went well asks with `Trace::flush`.
            let _ = trace.flush();
        }
    }

    /// Ends the trace: everything that is open in it is closed. Also for when the process is about to end.
    pub(crate) fn end_trace(&self) {
        self.traced.set(false);
        self.meddles.set(self.meddles_still());
        let _kernel = context::KernelMode::enter();
        if let Ok(mut trace) = self.trace.try_borrow_mut()
            && let Some(trace) = trace.take()
            && let Ok(mut recorder) = trace.recorder.try_borrow_mut()
        {
            recorder.end(self.now());
        }
    }
}

/// The world, if it has a trace.
#[inline(always)]
fn traced() -> Option<Rc<Core>> {
    let core = context::with(|c| c.core.get());
    // SAFETY: null, or kept by the world while it is in the context.
    let on = unsafe { core.as_ref() }.is_some_and(|core| core.traced.get());
    if on { context::try_core() } else { None }
}

/// Records something that happens here.
#[cold]
#[inline(never)]
fn record(core: &Core, f: impl FnOnce(&mut Recorder, Place)) {
    let _kernel = context::KernelMode::enter();
    let Some(machine) = context::try_machine() else {
        return;
    };
    let (processor, irql) = context::with_processor(|p| (p.number, p.irql()));
    // A signal's handler may have interrupted the recorder itself.
    if let Ok(trace) = core.trace.try_borrow()
        && let Some(trace) = &*trace
        && let Ok(mut recorder) = trace.recorder.try_borrow_mut()
    {
        recorder.knows(&machine);
        let place = Place {
            time: core.now(),
            machine: machine.id.0,
            processor,
            irql,
            thread: thread::number(),
        };
        f(&mut recorder, place);
    }
}

/// A function is called: of the kernel by a driver, or of a driver. [`returned`] follows.
#[cold]
#[inline(never)]
pub(crate) fn called(core: &Core, function: &'static Function, into_driver: bool) {
    if into_driver || context::in_driver() {
        let frame = Frame::Call {
            function: function.name,
            into_driver,
        };
        record(core, |recorder, place| recorder.begin(place, frame));
    }
}

/// The function that was called last on this thread, and has not returned, returns.
#[cold]
#[inline(never)]
pub(crate) fn returned(core: &Core) {
    record(core, |recorder, place| recorder.end_call(place));
}

/// Something that lasts until this is dropped, if there is a trace.
pub(crate) struct During(Option<Rc<Core>>);

impl During {
    fn begin(core: Option<Rc<Core>>, frame: impl FnOnce(&mut Recorder, Place) -> Frame) -> During {
        if let Some(core) = &core {
            record(core, |recorder, place| {
                let frame = frame(recorder, place);
                recorder.begin(place, frame);
            });
        }
        During(core)
    }

    /// It ends with an answer, and whether that is a failure.
    #[inline(always)]
    pub(crate) fn answers(mut self, answer: impl FnOnce() -> (String, bool)) {
        if let Some(core) = self.0.take() {
            record(&core, |recorder, place| {
                let (text, failed) = answer();
                recorder.end_with(place, &text, failed);
            });
        }
    }
}

impl Drop for During {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(core) = self.0.take() {
            record(&core, |recorder, place| {
                recorder.end_with(place, "", false);
            });
        }
    }
}

/// A DPC runs.
#[inline]
pub(crate) fn dpc(object: usize) -> During {
    During::begin(traced(), |recorder, place| Frame::Dpc {
        number: recorder.dpc(place.machine, object),
    })
}

/// An NDK consumer's call on an object, until it is answered.
#[inline]
pub(crate) fn ndk(function: &'static Function, kind: &'static str, number: u32) -> During {
    During::begin(traced(), |_, _| Frame::Ndk {
        function: function.name,
        object: (kind, number),
    })
}

/// Something that an NDK object has to do with happens; whether it is a failure.
#[inline]
pub(crate) fn ndk_note(kind: &'static str, number: u32, text: impl FnOnce() -> (String, bool)) {
    if let Some(core) = traced() {
        record(&core, |recorder, place| {
            let (text, failed) = text();
            recorder.note(place, Some((kind, number)), &text, failed);
        });
    }
}

/// Something happens; whether it is a failure.
#[inline]
pub(crate) fn note(text: impl FnOnce() -> (String, bool)) {
    if let Some(core) = traced() {
        record(&core, |recorder, place| {
            let (text, failed) = text();
            recorder.note(place, None, &text, failed);
        });
    }
}

/// A driver's function has answered with a status.
pub(crate) fn answered(function: &Function, status: i32) {
    note(|| (format!("{}: {}", function.name, Status(status)), status < 0));
}

/// A kernel thread gets something to do, from the code that runs here.
#[inline]
pub(crate) fn job(core: &Core, thread: usize) {
    if core.traced.get() {
        record(core, |recorder, place| recorder.job(place.thread, thread));
    }
}

/// This kernel thread gives the processor back: it waits, or it is left for good.
#[inline]
pub(crate) fn leaves(core: &Core, waits: bool) {
    if core.traced.get() {
        record(core, |recorder, place| recorder.leaves(place, waits));
    }
}

/// This kernel thread goes on after it has waited.
#[inline]
pub(crate) fn goes_on(core: &Core) {
    if core.traced.get() {
        record(core, |recorder, place| recorder.goes_on(place));
    }
}
