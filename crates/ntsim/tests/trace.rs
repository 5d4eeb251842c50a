//! The trace of what crosses the boundary, as text and as Chrome's trace events.
#![allow(unsafe_code, reason = "tiny drivers")]

mod common;

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use common::{TAG, start};
use ndis_sys::imports::*;
use ndis_sys::status::STATUS_INSUFFICIENT_RESOURCES;
use ndis_sys::types::{KernelMode, NTSTATUS};
use ndis_sys::wdm::*;
use ntsim::trace::{Form, Trace, TraceConfig};
use ntsim::{MachineConfig, World};
use serde_json::Value;

/// What two threads and a DPC share.
struct Shared {
    dpc: KDPC,
    timer: KTIMER,
    event: KEVENT,
}

unsafe extern "efiapi" fn expired(
    _dpc: *mut KDPC,
    context: *mut c_void,
    _first: *mut c_void,
    _second: *mut c_void,
) {
    // SAFETY: the story's event, which stays until the story is over.
    unsafe { KeSetEvent(context.cast(), 0, 0) };
}

unsafe extern "efiapi" fn waits(context: *mut c_void) {
    // SAFETY: as above.
    unsafe { KeWaitForSingleObject(context, Executive, KernelMode, 0, ptr::null_mut()) };
}

/// A thread and the test wait for what a timer's DPC sets after 1.5 us.
fn story(world: &mut World) {
    let machine = world.add_machine(MachineConfig::named("A"));
    world.call(machine, || {
        let mut shared = Box::new(Shared {
            dpc: KDPC::ZEROED,
            timer: KTIMER::ZEROED,
            event: KEVENT::ZEROED,
        });
        let event = &raw mut shared.event;
        // SAFETY: initialised before they are used, and idle when they go.
        unsafe {
            KeInitializeEvent(event, NotificationEvent, 0);
            KeInitializeDpc(&mut shared.dpc, expired, event.cast());
            KeInitializeTimerEx(&mut shared.timer, NotificationTimer);
            KeSetTimer(&mut shared.timer, -15, &mut shared.dpc);
            let thread = start(waits, event.cast()).expect("a thread");
            KeWaitForSingleObject(event.cast(), Executive, KernelMode, 0, ptr::null_mut());
            // The thread is over when its own object is signalled.
            ZwClose(thread);
            KeStallExecutionProcessor(3);
        }
    });
    world.run_until_idle();
}

fn config(form: Form) -> TraceConfig {
    TraceConfig {
        form,
        ..TraceConfig::default()
    }
}

/// The trace of a story, which may end badly.
fn traced(form: Form, story: impl FnOnce(&mut World)) -> String {
    let mut world = World::builder().ignore_environment().seed(5).build();
    let trace: Trace = world.trace_to_memory(config(form));
    let _ = catch_unwind(AssertUnwindSafe(|| story(&mut world)));
    let _ = world.finish();
    trace.flush().expect("memory takes everything");
    String::from_utf8(trace.bytes()).expect("a text")
}

unsafe extern "efiapi" fn refuses(
    _driver: *mut DRIVER_OBJECT,
    _path: *mut UNICODE_STRING,
) -> NTSTATUS {
    STATUS_INSUFFICIENT_RESOURCES
}

#[test]
fn what_a_driver_answers_is_there() {
    let text = traced(Form::Text, |world| {
        let machine = world.add_machine(MachineConfig::named("A"));
        assert!(world.load_driver(machine, "refuses", refuses).is_err());
    });
    assert!(
        text.contains("DriverEntry: STATUS_INSUFFICIENT_RESOURCES"),
        "{text}"
    );
}

/// The events of a trace, which must be whole: on every track begins and ends nest, none is left, and times rise.
fn events(text: &str) -> Vec<Value> {
    let whole: Value = serde_json::from_str(text).expect("the trace is JSON");
    let events = whole["traceEvents"].as_array().expect("events").clone();
    let mut open: BTreeMap<(u64, u64), Vec<String>> = BTreeMap::new();
    let mut names = BTreeMap::new();
    let mut last = -1.0;
    for event in &events {
        let number = |key: &str| event[key].as_u64().expect("a number");
        let track = (number("pid"), number("tid"));
        let name = event["name"].as_str().expect("a name").to_owned();
        let phase = event["ph"].as_str().expect("a phase");
        if phase == "M" {
            if name == "thread_name" || name == "process_name" {
                let known = names.insert((track, name), event["args"]["name"].to_string());
                assert_eq!(known, None, "named twice: {event}");
            }
            continue;
        }
        let time = event["ts"].as_f64().expect("a time");
        assert!(time > last, "{event} comes after {last}");
        last = time;
        match phase {
            "B" => open.entry(track).or_default().push(name),
            "E" => assert_eq!(open.entry(track).or_default().pop(), Some(name), "{event}"),
            "i" => {}
            _ => panic!("what is {event}?"),
        }
    }
    for (track @ (pid, _), left) in open {
        assert!(left.is_empty(), "{left:?} is open on {track:?}");
        assert!(names.contains_key(&(track, "thread_name".to_owned())));
        assert!(names.contains_key(&((pid, 0), "process_name".to_owned())));
    }
    events
}

#[test]
fn a_small_trace_reads_like_this() {
    assert_eq!(traced(Form::Text, story), include_str!("trace/small.txt"));
}

#[test]
fn a_trace_is_drawn_with_a_track_for_each_processor_and_dpc() {
    let text = traced(Form::Json, story);
    let events = events(&text);
    let named = |what: &str| -> Vec<_> {
        let named = events.iter().filter(|event| event["name"] == what);
        named
            .filter_map(|event| event["args"]["name"].as_str())
            .collect()
    };
    assert_eq!(named("process_name"), ["A", "A: DPCs"]);
    assert_eq!(named("thread_name"), ["cpu 0", "DPC 1: DPC routine"]);
    // Both wait until 1.5 us, one for the processor too until the other has stalled; each is drawn until it waits, and from when it goes
    // on.
    let waits: Vec<_> = events
        .iter()
        .filter(|event| event["name"] == "KeWaitForSingleObject")
        .collect();
    let ends = waits.iter().filter(|event| event["ph"] == "E");
    let over = |event: &Value| event["args"]["pauses"] != true;
    let ended: Vec<_> = ends
        .filter(|event| over(event))
        .map(|event| &event["args"]["ns"])
        .collect();
    assert_eq!(ended, [1500, 4500]);
    assert_eq!(waits.len(), 8);
}

#[test]
fn two_runs_of_one_seed_write_the_same() {
    for form in [Form::Text, Form::Json] {
        assert_eq!(traced(form, story), traced(form, story));
    }
}

#[test]
fn how_long_the_host_took_is_told_if_asked_for() {
    let mut world = World::builder().ignore_environment().build();
    let trace = world.trace_to_memory(TraceConfig {
        form: Form::Text,
        wall_time: true,
    });
    story(&mut world);
    world.end_trace();
    let text = String::from_utf8(trace.bytes()).expect("a text");
    let returns: Vec<_> = text.lines().filter(|l| l.contains(" returns")).collect();
    assert!(!returns.is_empty());
    assert!(returns.iter().all(|line| line.ends_with(" ns of the host")));
}

/// Breaks a rule in a DPC that interrupts a call.
fn offence(world: &mut World) {
    unsafe extern "efiapi" fn offends(
        _dpc: *mut KDPC,
        _context: *mut c_void,
        _first: *mut c_void,
        _second: *mut c_void,
    ) {
        // SAFETY: wrong, and the simulator survives it.
        unsafe { ExFreePoolWithTag(ptr::without_provenance_mut(0x1000), TAG) };
    }
    let machine = world.add_machine(MachineConfig::named("A"));
    world.call(machine, || {
        let mut dpc = KDPC::ZEROED;
        // SAFETY: the world ends before the DPC goes.
        unsafe {
            KeInitializeDpc(&mut dpc, offends, ptr::null_mut());
            KeInsertQueueDpc(&mut dpc, ptr::null_mut(), ptr::null_mut());
        }
    });
}

#[test]
fn a_run_that_a_violation_ends_leaves_a_whole_trace() {
    let text = traced(Form::Text, offence);
    let lines: Vec<_> = text.lines().collect();
    let last: Vec<_> = lines.iter().rev().take(3).collect();
    assert!(last[0].starts_with("# end at 0 ns, "), "{text}");
    assert!(last[1].ends_with("thread 1 is left for good"), "{text}");
    assert!(last[2].contains("violation: 0 ns: pool-bad-free"), "{text}");
    assert!(last[2].ends_with("[failed]"), "{text}");

    let events = events(&traced(Form::Json, offence));
    let failed = events.iter().filter(|e| e["args"]["failed"] == true);
    assert_eq!(failed.count(), 1);
}

#[test]
fn a_trace_ends_where_it_is_ended_and_begins_in_the_middle() {
    let mut world = World::builder().ignore_environment().build();
    let machine = world.add_machine(MachineConfig::named("A"));
    // SAFETY: needs nothing.
    let look = || unsafe { KeGetCurrentIrql() };
    world.call(machine, look);
    let trace = world.trace_to_memory(config(Form::Text));
    world.call(machine, look);
    world.end_trace();
    let bytes = trace.bytes();
    world.call(machine, look);
    assert_eq!(trace.bytes(), bytes);
    let text = String::from_utf8(bytes).expect("a text");
    assert_eq!(text.matches("<- KeGetCurrentIrql").count(), 1);
    assert!(text.ends_with("4 records\n"), "{text}");
}

#[test]
fn a_file_gets_what_memory_gets_and_must_be_there() {
    let path = std::env::temp_dir().join(format!("ntsim-trace-{}.json", std::process::id()));
    assert_eq!(Form::of(&path), Some(Form::Json));
    assert_eq!(Form::of(path.with_extension("pcapng").as_path()), None);
    let mut world = World::builder().ignore_environment().seed(5).build();
    let trace = world
        .trace_to(&path, config(Form::Json))
        .expect("the file is made");
    story(&mut world);
    drop(world);
    trace.flush().expect("it was written");
    let text = std::fs::read_to_string(&path).expect("the file is there");
    std::fs::remove_file(&path).expect("the file is ours");
    assert_eq!(text, traced(Form::Json, story));

    let mut world = World::builder().build();
    assert!(
        world
            .trace_to("/nonexistent/trace.txt", TraceConfig::default())
            .is_err()
    );
    // By its name somebody would take it for what it is not.
    let error = world.trace_to(&path, TraceConfig::default()).unwrap_err();
    assert!(error.to_string().contains("the form of the trace is Text"));
    assert!(!path.exists());
}
