//! Traces to be looked at: Chrome's trace events.
//!
//! A track's begins and ends must nest. A processor's do because a thread that waits ends what is drawn of it there, and draws it again
//! where it goes on; those of DPCs and NDK objects because each thread that is in one has a track of its own if another is drawn already.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};

use super::out::Out;
use super::recorder::{End, Frame, Object, Place};

/// The groups of a machine's tracks.
const GROUPS: u32 = 3;
const PROCESSORS: u32 = 0;
const DPCS: u32 = 1;
const OBJECTS: u32 = 2;

/// Process and thread, as the format calls them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Track {
    pid: u32,
    tid: u32,
}

impl Track {
    fn of_processor(place: Place) -> Track {
        Track {
            pid: pid(place.machine, PROCESSORS),
            tid: place.processor + 1,
        }
    }
}

fn pid(machine: u32, group: u32) -> u32 {
    machine * GROUPS + group + 1
}

/// One of the tracks of a DPC or an object.
struct Lane {
    track: Track,
    /// The thread that is drawn there.
    owner: usize,
    open: Vec<Frame>,
}

/// What of a thread is drawn on processors' tracks.
#[derive(Default)]
struct Drawn {
    /// None while it waits.
    on: Option<Track>,
    open: Vec<Frame>,
}

/// What has been drawn.
pub(super) struct Drawing {
    /// Something is in the list.
    begun: bool,
    /// Where the last event was drawn, in nanoseconds.
    last: Option<u64>,
    threads: BTreeMap<usize, Drawn>,
    /// By process and name.
    lanes: BTreeMap<(u32, String), Vec<Lane>>,
    /// Tracks of processors that have names.
    named: BTreeSet<Track>,
    /// The last track of each process of DPCs or objects.
    tracks: BTreeMap<u32, u32>,
}

/// An event's `args`.
#[derive(Default)]
struct Args(String);

impl Args {
    fn add(mut self, key: &str, value: impl fmt::Display) -> Args {
        let comma = if self.0.is_empty() { "" } else { "," };
        // Writing to a string does not fail.
        let _ = write!(self.0, "{comma}\"{key}\":{value}");
        self
    }

    fn add_if(self, holds: bool, key: &str) -> Args {
        if holds { self.add(key, true) } else { self }
    }
}

/// A text as JSON has it.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c if c < ' ' => write!(f, "\\u{:04x}", c as u32)?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

impl Drawing {
    pub(super) fn new(out: &mut Out, seed: u64) -> Drawing {
        out.put(format_args!(
            "{{\"displayTimeUnit\":\"ns\",\"otherData\":{{\"program\":\"ntsim\",\"seed\":{seed}}},\"traceEvents\":["
        ));
        Drawing {
            begun: false,
            last: None,
            threads: BTreeMap::new(),
            lanes: BTreeMap::new(),
            named: BTreeSet::new(),
            tracks: BTreeMap::new(),
        }
    }

    fn comma(&mut self) -> &'static str {
        if std::mem::replace(&mut self.begun, true) {
            ",\n"
        } else {
            "\n"
        }
    }

    /// An event at a time.
    fn event(
        &mut self,
        out: &mut Out,
        (phase, track): (&str, Track),
        time: u64,
        (category, name): (&str, &str),
        args: Args,
    ) {
        let drawn = self.last.map_or(time, |last| time.max(last + 1));
        self.last = Some(drawn);
        let args = if drawn == time {
            args
        } else {
            args.add("ns", time)
        };
        let (micro, nano) = (drawn / 1000, drawn % 1000);
        out.put(format_args!(
            "{}{{\"ph\":\"{phase}\",\"pid\":{},\"tid\":{},\"ts\":{micro}.{nano:03},\"cat\":\"{category}\",\"name\":{},\"args\":{{{}}}}}",
            self.comma(),
            track.pid,
            track.tid,
            Quoted(name),
            args.0
        ));
    }

    /// The name of a process or thread.
    fn name(&mut self, out: &mut Out, what: &str, Track { pid, tid }: Track, name: &str) {
        out.put(format_args!(
            "{}{{\"ph\":\"M\",\"pid\":{pid},\"tid\":{tid},\"name\":\"{what}_name\",\"args\":{{\"name\":{}}}}}",
            self.comma(),
            Quoted(name)
        ));
        out.put(format_args!(
            "{}{{\"ph\":\"M\",\"pid\":{pid},\"tid\":{tid},\"name\":\"{what}_sort_index\",\"args\":{{\"sort_index\":{}}}}}",
            self.comma(),
            if what == "process" { pid } else { tid }
        ));
    }

    /// The track of a processor.
    fn processor(&mut self, out: &mut Out, names: &[String], place: Place) -> Track {
        let track = Track::of_processor(place);
        let process = Track { tid: 0, ..track };
        if self.named.insert(process) {
            self.name(out, "process", process, &names[place.machine as usize]);
        }
        if self.named.insert(track) {
            self.name(out, "thread", track, &format!("cpu {}", place.processor));
        }
        track
    }

    /// A track of a DPC or an object where the thread can be drawn.
    fn lane(
        &mut self,
        out: &mut Out,
        names: &[String],
        place: Place,
        (group, name): (u32, String),
    ) -> &mut Lane {
        let pid = pid(place.machine, group);
        let process = Track { pid, tid: 0 };
        if self.named.insert(process) {
            let machine = &names[place.machine as usize];
            let what = match group {
                DPCS => "DPCs",
                _ => "NDK objects",
            };
            self.name(out, "process", process, &format!("{machine}: {what}"));
        }
        let lanes = self.lanes.entry((pid, name.clone())).or_default();
        let own = |l: &Lane| !l.open.is_empty() && l.owner == place.thread;
        let fit = lanes.iter().position(own);
        let fit = fit.or_else(|| lanes.iter().position(|l| l.open.is_empty()));
        let index = fit.unwrap_or_else(|| {
            let last = self.tracks.entry(pid).or_default();
            *last += 1;
            lanes.push(Lane {
                track: Track { pid, tid: *last },
                owner: place.thread,
                open: Vec::new(),
            });
            lanes.len() - 1
        });
        let track = lanes[index].track;
        // What a DPC is, is known when it has ended.
        if group == OBJECTS && self.named.insert(track) {
            let beside = if index == 0 { "" } else { ", beside" };
            self.name(out, "thread", track, &format!("{name}{beside}"));
        }
        let lanes = self.lanes.entry((pid, name)).or_default();
        let lane = &mut lanes[index];
        lane.owner = place.thread;
        lane
    }

    pub(super) fn begin(&mut self, out: &mut Out, names: &[String], place: Place, frame: Frame) {
        let args = at(place);
        let (track, name) = match frame {
            Frame::Call { function, .. } => {
                self.move_to(out, names, place);
                let drawn = self.threads.entry(place.thread).or_default();
                drawn.open.push(frame);
                (Track::of_processor(place), function.to_owned())
            }
            Frame::Dpc { .. } | Frame::Ndk { .. } => {
                let lane = self.lane(out, names, place, lane_of(frame));
                lane.open.push(frame);
                (lane.track, named(frame))
            }
        };
        self.event(
            out,
            ("B", track),
            place.time,
            (category(frame), &name),
            args,
        );
    }

    pub(super) fn end(
        &mut self,
        out: &mut Out,
        names: &[String],
        place: Place,
        frame: Frame,
        end: End<'_>,
    ) {
        let mut args = Args::default().add("thread", place.thread);
        if let Some(wall) = end.wall {
            args = args.add("host_ns", wall);
        }
        if !end.answer.is_empty() {
            args = args.add("answer", Quoted(end.answer));
        }
        args = args.add_if(end.failed, "failed");
        let track = match frame {
            Frame::Call { .. } => {
                self.move_to(out, names, place);
                let drawn = self.threads.entry(place.thread).or_default();
                drawn.open.pop();
                Track::of_processor(place)
            }
            Frame::Dpc { .. } | Frame::Ndk { .. } => {
                let lane = self.lane(out, names, place, lane_of(frame));
                lane.open.pop();
                lane.track
            }
        };
        let what = (category(frame), &*named(frame));
        self.event(out, ("E", track), place.time, what, args);
        if matches!(frame, Frame::Dpc { .. }) && self.named.insert(track) {
            self.name(out, "thread", track, &format!("{frame}: {}", end.answer));
        }
    }

    pub(super) fn note(
        &mut self,
        out: &mut Out,
        names: &[String],
        place: Place,
        object: Option<Object>,
        text: &str,
        failed: bool,
    ) {
        let args = at(place).add_if(failed, "failed");
        let (track, category) = match object {
            None => (self.processor(out, names, place), "note"),
            Some((kind, number)) => {
                let name = format!("{kind} {number}");
                let lane = self.lane(out, names, place, (OBJECTS, name));
                (lane.track, "ndk")
            }
        };
        self.event(out, ("i", track), place.time, (category, text), args);
    }

    /// The thread is drawn on this processor from here on.
    fn move_to(&mut self, out: &mut Out, names: &[String], place: Place) {
        let track = self.processor(out, names, place);
        let drawn = self.threads.entry(place.thread).or_default();
        if drawn.on != Some(track) {
            self.pause(out, place.thread, place.time);
            self.resume(out, track, place);
        }
    }

    /// What is drawn of a thread ends for now.
    fn pause(&mut self, out: &mut Out, thread: usize, time: u64) {
        let Some(drawn) = self.threads.get_mut(&thread) else {
            return;
        };
        let Some(track) = drawn.on.take() else { return };
        for frame in drawn.open.clone().into_iter().rev() {
            let args = Args::default().add("thread", thread).add("pauses", true);
            let what = (category(frame), &*named(frame));
            self.event(out, ("E", track), time, what, args);
        }
    }

    fn resume(&mut self, out: &mut Out, track: Track, place: Place) {
        let drawn = self.threads.entry(place.thread).or_default();
        drawn.on = Some(track);
        for frame in drawn.open.clone() {
            let args = at(place).add("goes_on", true);
            let what = (category(frame), &*named(frame));
            self.event(out, ("B", track), place.time, what, args);
        }
    }

    /// The thread waits, or is left for good.
    pub(super) fn leaves(&mut self, out: &mut Out, place: Place, waits: bool) {
        self.pause(out, place.thread, place.time);
        if !waits {
            self.threads.remove(&place.thread);
            self.close_lanes(out, place.time, Some(place.thread));
        }
    }

    pub(super) fn goes_on(&mut self, out: &mut Out, names: &[String], place: Place) {
        self.move_to(out, names, place);
    }

    /// Ends what is drawn of DPCs and objects: of that thread, or of all.
    fn close_lanes(&mut self, out: &mut Out, time: u64, of: Option<usize>) {
        let mut open = Vec::new();
        for ((_, name), lanes) in &mut self.lanes {
            let own = |l: &&mut Lane| of.is_none_or(|thread| l.owner == thread);
            for lane in lanes.iter_mut().filter(own) {
                let left = std::mem::take(&mut lane.open).into_iter().rev();
                open.extend(left.map(|frame| (lane.track, lane.owner, frame, name.clone())));
            }
        }
        for (track, thread, frame, name) in open {
            let args = Args::default().add("thread", thread).add("left", true);
            let what = (category(frame), &*named(frame));
            self.event(out, ("E", track), time, what, args);
            if self.named.insert(track) {
                self.name(out, "thread", track, &name);
            }
        }
    }

    /// Ends everything.
    pub(super) fn close(&mut self, out: &mut Out, time: u64, records: u64) {
        for thread in self.threads.keys().copied().collect::<Vec<_>>() {
            self.pause(out, thread, time);
        }
        self.close_lanes(out, time, None);
        out.put(format_args!(
            "{}{{\"ph\":\"M\",\"pid\":1,\"tid\":0,\"name\":\"end\",\"args\":{{\"ns\":{time},\"records\":{records}}}}}\n]}}\n",
            self.comma()
        ));
    }
}

/// What tells where something happens.
fn at(place: Place) -> Args {
    Args::default()
        .add("irql", place.irql)
        .add("thread", place.thread)
}

fn category(frame: Frame) -> &'static str {
    match frame {
        Frame::Call {
            into_driver: true, ..
        } => "callback",
        Frame::Call { .. } => "export",
        Frame::Dpc { .. } => "dpc",
        Frame::Ndk { .. } => "ndk",
    }
}

/// What is written on it.
fn named(frame: Frame) -> String {
    match frame {
        Frame::Ndk { function, .. } => function.to_owned(),
        _ => frame.to_string(),
    }
}

/// The group and name of its tracks.
fn lane_of(frame: Frame) -> (u32, String) {
    match frame {
        Frame::Ndk {
            object: (kind, number),
            ..
        } => (OBJECTS, format!("{kind} {number}")),
        _ => (DPCS, frame.to_string()),
    }
}
