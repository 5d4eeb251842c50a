//! Failures by new call paths and by chance: what fails, how often, and who is named that does not bear it.
#![allow(unsafe_code, reason = "tiny drivers")]

mod common;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::Command;

use common::TAG;
use ndis_sys::imports::{
    ExAllocatePool2, ExFreePoolWithTag, KeInitializeEvent, KeWaitForSingleObject,
};
use ndis_sys::status::{STATUS_INSUFFICIENT_RESOURCES, STATUS_SUCCESS};
use ndis_sys::types::NTSTATUS;
use ndis_sys::wdm::{
    DRIVER_OBJECT, KEVENT, POOL_FLAG_NON_PAGED, SynchronizationEvent, UNICODE_STRING,
};
use ntsim::{FaultPaths, MachineConfig, MachineId, World, WorldBuilder};

type Entry =
    unsafe extern "efiapi" fn(object: *mut DRIVER_OBJECT, path: *mut UNICODE_STRING) -> NTSTATUS;

fn with_machine(builder: WorldBuilder) -> (World, MachineId) {
    let mut world = builder.build();
    let machine = world.add_machine(MachineConfig::named("A"));
    (world, machine)
}

unsafe fn allocate(size: usize) -> *mut u8 {
    // SAFETY: needs nothing.
    unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED, size, TAG).cast() }
}

unsafe fn free(block: *mut u8) {
    // SAFETY: promised by the caller.
    unsafe { ExFreePoolWithTag(block.cast(), TAG) };
}

thread_local! {
    /// Allocations that the drivers here got, and those that failed.
    static GOT: Cell<[u32; 2]> = const { Cell::new([0; 2]) };
}

/// Allocates, counts, and frees what it got.
#[inline(never)]
unsafe fn try_one(size: usize) -> bool {
    // SAFETY: freed once.
    unsafe {
        let block = allocate(size);
        let [got, failed] = GOT.get();
        if block.is_null() {
            GOT.set([got, failed + 1]);
            return false;
        }
        GOT.set([got + 1, failed]);
        free(block);
        true
    }
}

#[inline(never)]
unsafe fn deeper() -> bool {
    // SAFETY: as `try_one`.
    unsafe { try_one(16) && std::hint::black_box(true) }
}

/// A function that allocates and is called in three places, of which one is a loop.
unsafe extern "efiapi" fn three_paths(_: *mut DRIVER_OBJECT, _: *mut UNICODE_STRING) -> NTSTATUS {
    // SAFETY: calls as documented.
    let well = unsafe {
        let mut well = try_one(16);
        let mut size = 0;
        while well && size < std::hint::black_box(10) {
            well = try_one(16 + size);
            size += 1;
        }
        well && deeper()
    };
    match well {
        true => STATUS_SUCCESS,
        false => STATUS_INSUFFICIENT_RESOURCES,
    }
}

/// Loads a driver in a world of its own.
fn load(paths: &FaultPaths, entry: Entry) -> Result<(), NTSTATUS> {
    let (mut world, a) = with_machine(World::builder().fail_new_paths(paths));
    let loaded = world.load_driver(a, "tiny", entry).map(|_| ());
    assert!(world.finish().is_clean());
    loaded
}

#[test]
fn three_paths_to_one_allocation_fail_once_each() {
    let paths = FaultPaths::new();
    for failed in 1..=3 {
        assert_eq!(
            load(&paths, three_paths),
            Err(STATUS_INSUFFICIENT_RESOURCES)
        );
        assert_eq!(paths.failed().len(), failed);
    }
    for _ in 0..2 {
        GOT.take();
        assert_eq!(load(&paths, three_paths), Ok(()));
        assert_eq!(GOT.take(), [12, 0]);
    }
    assert_eq!(paths.failed().len(), 3);
}

#[test]
fn one_path_is_failed_once_more_by_its_name() {
    let paths = FaultPaths::new();
    for _ in 0..3 {
        assert!(load(&paths, three_paths).is_err());
    }
    let [_, second, _] = paths.failed()[..] else {
        panic!("{:?}", paths.failed());
    };
    let one: FaultPaths = format!("only:{second}")
        .parse()
        .expect("as a report has it");
    GOT.take();
    assert!(load(&one, three_paths).is_err());
    assert_eq!(GOT.take(), [1, 1], "the first call of the second path");
    assert_eq!(load(&one, three_paths), Ok(()), "once");
    assert_eq!(one.failed(), [second]);
}

#[test]
fn code_of_tests_gets_what_it_asks_for() {
    let paths = FaultPaths::new();
    let builder = World::builder().fail_new_paths(&paths).low_resources(1);
    let (mut world, a) = with_machine(builder);
    // SAFETY: as `try_one`.
    assert!(world.call(a, || unsafe { try_one(16) }));
    assert!(paths.failed().is_empty());
}

unsafe extern "efiapi" fn careless(_: *mut DRIVER_OBJECT, _: *mut UNICODE_STRING) -> NTSTATUS {
    // SAFETY: wrong, as the block may be none: that is the point.
    unsafe {
        let block = allocate(64);
        block.write_volatile(1);
        free(block);
    }
    STATUS_SUCCESS
}

/// Takes two blocks that its unload routine frees, and gives up without the second, but keeps the first.
unsafe extern "efiapi" fn leaky(object: *mut DRIVER_OBJECT, _: *mut UNICODE_STRING) -> NTSTATUS {
    // SAFETY: as documented, but for the point.
    unsafe {
        let first = allocate(100);
        if first.is_null() {
            return STATUS_INSUFFICIENT_RESOURCES;
        }
        let second = allocate(200);
        if second.is_null() {
            return STATUS_INSUFFICIENT_RESOURCES;
        }
        free(first);
        free(second);
        (*object).DriverUnload = None;
    }
    STATUS_SUCCESS
}

/// The report of the first run that breaks a rule, of as many as it takes.
fn report(entry: Entry) -> String {
    let paths = FaultPaths::new();
    loop {
        let before = paths.failed().len();
        let run = AssertUnwindSafe(|| load(&paths, entry));
        if let Err(payload) = catch_unwind(run) {
            return *payload.downcast::<String>().expect("a text");
        }
        assert!(paths.failed().len() > before, "every path bears it");
    }
}

fn says(report: &str, parts: &[&str]) {
    for part in parts {
        assert!(report.contains(part), "{part:?} in {report}");
    }
}

#[test]
fn who_uses_what_it_did_not_get_is_named_with_the_path() {
    let report = report(careless);
    says(
        &report,
        &[
            "rule access-violation broken by driver tiny",
            "failed on purpose: ExAllocatePool2, called by driver tiny in DriverEntry on A at 0 ns\n",
            "careless (tests/faults.rs:",
            " NTSIM_FAULTS=only:",
        ],
    );
}

#[test]
fn who_leaks_on_the_way_out_of_an_error_is_named_with_the_path() {
    let report = report(leaky);
    says(
        &report,
        &[
            "rule pool-leak broken: after DriverEntry failed: A: tiny has 1 block(s)",
            "100 bytes",
            "failed on purpose: ExAllocatePool2, called by driver tiny in DriverEntry",
            "leaky (tests/faults.rs:",
        ],
    );
}

/// Allocates a thousand times when it starts, and when it goes.
unsafe extern "efiapi" fn hungry(object: *mut DRIVER_OBJECT, _: *mut UNICODE_STRING) -> NTSTATUS {
    // SAFETY: the driver's own object.
    unsafe { (*object).DriverUnload = Some(hungry_still) };
    GOT.take();
    // SAFETY: as `try_one`.
    match (0..1000).all(|_| unsafe { try_one(32) }) {
        true => STATUS_SUCCESS,
        false => STATUS_INSUFFICIENT_RESOURCES,
    }
}

unsafe extern "efiapi" fn hungry_still(_: *mut DRIVER_OBJECT) {
    GOT.take();
    for _ in 0..1000 {
        // SAFETY: as `try_one`.
        unsafe { try_one(32) };
    }
}

#[test]
fn resources_are_low_once_the_driver_has_started_and_the_seed_says_when() {
    let of_seed = |seed| {
        let (mut world, a) = with_machine(World::builder().seed(seed).low_resources(10));
        let driver = world.load_driver(a, "hungry", hungry).expect("it starts");
        assert_eq!(GOT.get(), [1000, 0]);
        world.unload_driver(driver);
        let [got, failed] = GOT.get();
        assert!((50..200).contains(&failed), "{failed} of {}", got + failed);
        failed
    };
    assert_eq!(of_seed(7), of_seed(7));
    assert!((1..10).any(|seed| of_seed(seed) != of_seed(7)));
}

/// A file of paths of this test program, that is gone with the value.
struct Paths(PathBuf);

impl Paths {
    fn new(name: &str) -> Self {
        let name = format!("ntsim-{name}-{}", std::process::id());
        Paths(std::env::temp_dir().join(name))
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.0).expect("the file of paths")
    }
}

impl Drop for Paths {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn what_a_file_has_of_another_build_is_not_believed() {
    let file = Paths::new("other-build");
    std::fs::write(&file.0, "0123456789abcdef ExAllocatePool2\nno path\n").expect("written");
    let paths = FaultPaths::of_file(&file.0).expect("a file");
    assert!(load(&paths, three_paths).is_err());
    let [failed] = paths.failed()[..] else {
        panic!("{:?}", paths.failed());
    };
    let told = format!("{failed} ExAllocatePool2, called by driver tiny in DriverEntry\n");
    assert!(file.text().ends_with(&told), "{}", file.text());
}

/// The story of the child processes.
#[test]
fn a_driver_that_is_loaded() {
    let (mut world, a) = with_machine(World::builder());
    let loaded = world.load_driver(a, "tiny", three_paths);
    println!("loaded: {}", loaded.is_ok());
}

/// What a story prints as a process of its own, with these paths.
fn child(story: &str, file: &Paths) -> String {
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", story, "--nocapture"])
        .env("NTSIM_FAULTS", &file.0)
        .output()
        .expect("a child process");
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}

/// They lie at other addresses each time.
#[test]
fn processes_share_a_file_of_paths() {
    let file = Paths::new("shared");
    for (paths, loads) in [(1, false), (2, false), (3, false), (3, true)] {
        let said = child("a_driver_that_is_loaded", &file);
        assert!(said.contains(&format!("loaded: {loads}")), "{said}");
        assert_eq!(file.text().lines().count(), paths);
    }
}

/// The story of a child process.
#[test]
fn worlds_of_two_threads() {
    let make = || std::thread::spawn(|| drop(World::builder().build())).join();
    let (mut world, a) = with_machine(World::builder());
    // What is on its stack is never dropped.
    let _waiting = world.spawn(a, || {
        let mut event = KEVENT::ZEROED;
        let event = &raw mut event;
        // SAFETY: at PASSIVE_LEVEL, with a variable of this frame.
        unsafe {
            KeInitializeEvent(event, SynchronizationEvent, 0);
            KeWaitForSingleObject(event.cast(), 0, 0, 0, std::ptr::null_mut());
        }
    });
    world.run_until_idle();
    println!("beside: {}", make().is_ok());
    drop(world);
    println!("afterwards: {}", make().is_ok());
}

#[test]
fn threads_do_not_share_the_paths_of_the_environment_at_a_time() {
    let said = child("worlds_of_two_threads", &Paths::new("threads"));
    says(
        &said,
        &[
            "beside: false",
            "afterwards: true",
            "one test at a time",
            "--exact",
        ],
    );
}
