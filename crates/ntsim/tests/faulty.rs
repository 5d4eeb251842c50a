//! What becomes of an image that panics, has no memory, or uses up its stack: the image of `crates/faulty`, which has the driver's own
//! panic handler, allocator and stack probes.
//!
//! It is made by a compiler for Windows, which a machine need not have: `cargo xtask test-image` makes it and runs these.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use ntsim::verifier::rules;
use ntsim::{Image, MachineConfig, World};

/// Names the image.
const VARIABLE: &str = "NTSIM_FAULTY_IMAGE";
const SOURCE: &str = include_str!("../../faulty/src/driver.rs");

fn image() -> Image {
    let path = std::env::var_os(VARIABLE).expect("NTSIM_FAULTY_IMAGE names the image");
    Image::read(Path::new(&path)).expect("an image")
}

/// Loads the driver under a name that says how it is to fail: the rule that it breaks, and what the report says. Without memory if
/// asked for.
fn accused(name: &str, memory: bool) -> (&'static str, String, Vec<String>) {
    let mut world = World::builder().collect_violations().build();
    let a = world.add_machine(MachineConfig::named("A"));
    let image = image();
    if !memory {
        world.fail_allocations(a, Some(0), true);
    }
    // The world ends in the middle of the entry point.
    let loaded = catch_unwind(AssertUnwindSafe(|| {
        world.load_image(a, name, &image).is_ok()
    }));
    assert!(loaded.is_err(), "the driver went on");
    let violations = world.take_violations();
    assert_eq!(violations.len(), 1, "{violations:?}");
    let log = world.debug_log();
    (violations[0].rule, violations[0].to_string(), log)
}

#[track_caller]
fn says(report: &str, parts: &[&str]) {
    for part in parts {
        assert!(report.contains(part), "{part:?} is not in\n{report}");
    }
}

#[test]
#[ignore = "needs the image that cargo xtask test-image makes"]
fn a_panic_is_a_bug_check_that_names_the_place_in_the_source() {
    let (rule, report, log) = accused("panic", true);
    assert_eq!(rule, rules::BUGCHECK);
    let line = 1 + SOURCE
        .lines()
        .position(|line| line.contains("values[index]"))
        .expect("the line that panics");
    says(
        &report,
        &[
            "broken by driver panic",
            "KeBugCheckEx(0xdeaddead, 0x65636f7276 = \"vroce\"",
            "faulty/src/driver.rs\"",
            &format!("= {line})"),
            "in faulty.sys!",
            "on machine A",
        ],
    );
    let said = log.join("\n");
    says(
        &said,
        &["index out of bounds", &format!("driver.rs:{line}:")],
    );
}

#[test]
#[ignore = "needs the image that cargo xtask test-image makes"]
fn memory_that_is_not_there_and_was_not_asked_about_is_a_bug_check_too() {
    let (rule, report, log) = accused("memory", false);
    assert_eq!(rule, rules::BUGCHECK);
    says(
        &report,
        &["KeBugCheckEx(0xdeaddead, 0x65636f7276 = \"vroce\""],
    );
    says(&log.join("\n"), &["memory allocation of 64 bytes failed"]);
}

#[test]
#[ignore = "needs the image that cargo xtask test-image makes"]
fn a_stack_that_is_used_up_meets_the_pages_below_it() {
    let (rule, report, _) = accused("recursion", true);
    assert_eq!(rule, rules::STACK_OVERFLOW);
    says(
        &report,
        &[
            "double fault",
            "by faulty.sys!",
            "faulty::driver::recurse+",
            "called from faulty.sys!faulty::driver::recurse",
            "machine A",
            "driver recursion",
        ],
    );
}

#[test]
#[ignore = "needs the image that cargo xtask test-image makes"]
fn a_frame_larger_than_all_that_is_probed() {
    let (rule, report, _) = accused("frame", true);
    assert_eq!(rule, rules::STACK_OVERFLOW);
    says(
        &report,
        &[
            "double fault",
            "by faulty.sys!",
            "faulty::driver::large_frame",
        ],
    );
}
