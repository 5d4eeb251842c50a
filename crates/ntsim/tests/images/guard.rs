//! Control flow guard: functions that the image's table lacks.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ntsim::verifier::rules;
use ntsim::world::LoadError;
use ntsim::{ImageError, MachineConfig, Violation, World};

use super::pe::{GUARD_CHECK, GUARD_DISPATCH, Guard, IMPORTS, Pe, RDATA, TEXT};
use super::{Code, image};

/// A function that only returns: DriverUnload, or the target of an indirect call.
const FUNCTION: u32 = TEXT + 0x200;

fn with_function(code: Code) -> Pe {
    Pe::with(&code.epilogue().pad(FUNCTION).bytes(&[0xc3]).0)
}

fn unloadable(guard: Guard) -> Pe {
    let mut pe = with_function(Code::default().prologue().unload_is(FUNCTION));
    pe.guard = Some(guard);
    pe
}

/// What was accused of while an image was loaded and unloaded, and what it printed.
fn run(pe: &Pe) -> (Vec<Violation>, Vec<String>) {
    let mut world = World::builder().collect_violations().build();
    let a = world.add_machine(MachineConfig::named("A"));
    let driver = world.load_image(a, "tiny", &image(pe)).unwrap();
    world.unload_driver(driver);
    (world.take_violations(), world.debug_log())
}

#[test]
fn the_kernel_calls_what_the_table_lacks() {
    let (found, _) = run(&unloadable(Guard::of(&[TEXT])));
    let [found] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!(found.rule, rules::GUARD_TARGET);
    assert_eq!(found.culprit, "driver tiny");
    let text =
        "DriverUnload is tiny.sys+0x1200 (.text), which the image's table of allowed targets lacks";
    assert_eq!(found.text, text);
    let (found, _) = run(&unloadable(Guard::of(&[FUNCTION])));
    assert_eq!(found.len(), 1);
    assert!(found[0].text.starts_with("DriverEntry is tiny.sys+0x1000"));
    let (found, _) = run(&unloadable(Guard::of(&[TEXT, FUNCTION])));
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn an_image_that_was_not_made_for_control_flow_guard_is_not_accused() {
    let lacking = Guard::of(&[TEXT]);
    for guard in [
        Guard {
            linked: false,
            ..lacking.clone()
        },
        // A table, but calls are not instrumented.
        Guard {
            flags: 0x400,
            ..lacking.clone()
        },
        // The other way round.
        Guard {
            flags: 0x100,
            ..lacking
        },
    ] {
        let (found, _) = run(&unloadable(guard));
        assert!(found.is_empty(), "{found:?}");
    }
}

#[test]
fn entries_have_flags_of_their_own() {
    let table = |last: u8| {
        let entries = [(TEXT, 0), (FUNCTION, last)];
        Guard {
            flags: 0x1000_0500,
            targets: entries
                .map(|(at, flags)| [&at.to_le_bytes()[..], &[flags]].concat())
                .to_vec(),
            ..Guard::of(&[TEXT, FUNCTION])
        }
    };
    // 2: its address is exported and not taken, which concerns programs that ask for it.
    for flags in [0, 2] {
        let (found, _) = run(&unloadable(table(flags)));
        assert!(found.is_empty(), "{found:?}");
    }
    let (found, _) = run(&unloadable(table(1)));
    assert_eq!(found.len(), 1);
    assert!(found[0].text.contains("tiny.sys+0x1200"));
}

#[test]
fn a_table_that_is_none_is_refused() {
    let load = |guard| {
        let mut world = World::builder().build();
        let a = world.add_machine(MachineConfig::named("A"));
        world.load_image(a, "tiny", &image(&unloadable(guard)))
    };
    for (guard, why) in [
        (Guard::of(&[FUNCTION, TEXT]), "order"),
        (
            Guard {
                count: 0x1000,
                ..Guard::of(&[TEXT])
            },
            "outside the image",
        ),
        (
            Guard {
                count: u64::MAX / 4,
                ..Guard::of(&[TEXT])
            },
            "outside the image",
        ),
    ] {
        match load(guard) {
            Err(LoadError::Image(ImageError::Malformed(text))) => {
                assert!(text.contains(why), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// DbgPrintEx(rcx, 0, "said %d\n", r9), through whatever comes before.
fn printing(code: Code) -> Pe {
    let mut pe = with_function(code);
    pe.rdata = b"said %d\n\0".to_vec();
    pe.imports = vec![("ntoskrnl.exe", "DbgPrintEx")];
    pe.guard = Some(Guard::of(&[TEXT]));
    pe
}

/// xor edx, edx; lea r8, [text]; mov r9d, 7: arguments that a check must leave alone.
fn arguments() -> Code {
    Code::default()
        .prologue()
        .bytes(&[0x31, 0xd2])
        .at(&[0x4c, 0x8d, 0x05], RDATA)
        .bytes(&[0x41, 0xb9, 7, 0, 0, 0])
}

#[test]
fn an_image_checks_what_its_table_lacks() {
    // movd xmm5, r9d; lea rcx, [function]; call [check]; movd r9d, xmm5; call [DbgPrintEx]
    let code = arguments()
        .bytes(&[0x66, 0x41, 0x0f, 0x6e, 0xe9])
        .at(&[0x48, 0x8d, 0x0d], FUNCTION)
        .at(&[0xff, 0x15], GUARD_CHECK);
    let last = code.here() - 1;
    let code = code
        .bytes(&[0x66, 0x41, 0x0f, 0x7e, 0xe9])
        .at(&[0xff, 0x15], IMPORTS);
    let mut pe = printing(code);
    let (found, log) = run(&pe);
    let [found] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!(found.rule, rules::GUARD_TARGET);
    let text = "the target of an indirect call is tiny.sys+0x1200 (.text), which";
    assert!(found.text.starts_with(text), "{found}");
    assert_eq!(found.site[0], format!("tiny.sys+{last:#x} (.text)"));
    assert_eq!(log, ["[A] said 7\n"]);
    pe.guard = Some(Guard::of(&[TEXT, FUNCTION]));
    let (found, log) = run(&pe);
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(log, ["[A] said 7\n"]);
}

#[test]
fn an_image_dispatches_to_what_its_table_lacks() {
    // lea rax, [function]; call [dispatch]: the function returns, and has changed nothing.
    let code = arguments()
        .at(&[0x48, 0x8d, 0x05], FUNCTION)
        .at(&[0xff, 0x15], GUARD_DISPATCH);
    let last = code.here() - 1;
    // What lies outside of images passes: mov rax, [DbgPrintEx]; call [dispatch]
    let code = code
        .at(&[0x48, 0x8b, 0x05], IMPORTS)
        .at(&[0xff, 0x15], GUARD_DISPATCH);
    let (found, log) = run(&printing(code));
    let [found] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!(found.rule, rules::GUARD_TARGET);
    assert_eq!(found.site[0], format!("tiny.sys+{last:#x} (.text)"));
    assert_eq!(log, ["[A] said 7\n"]);
}

#[test]
fn the_table_goes_with_the_image() {
    let pe = unloadable(Guard::of(&[TEXT]));
    for _ in 0..3 {
        let (found, _) = run(&pe);
        assert_eq!(found.len(), 1, "{found:?}");
    }
}

#[test]
fn the_table_goes_with_a_world_that_a_bug_check_ended() {
    // xor ecx, ecx; call [KeBugCheckEx]
    let code = Code::default()
        .prologue()
        .bytes(&[0x31, 0xc9])
        .at(&[0xff, 0x15], IMPORTS);
    let mut ended = with_function(code);
    ended.imports = vec![("ntoskrnl.exe", "KeBugCheckEx")];
    ended.guard = Some(Guard::of(&[TEXT]));
    let mut world = World::builder().collect_violations().build();
    let a = world.add_machine(MachineConfig::named("A"));
    let load = AssertUnwindSafe(|| world.load_image(a, "tiny", &image(&ended)));
    assert!(catch_unwind(load).is_err(), "nobody returns from it");
    let found = world.take_violations();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].rule, rules::BUGCHECK);
    drop(world);
    // These lie where that one lay.
    let mut without = unloadable(Guard::of(&[]));
    without.guard = None;
    for pe in [unloadable(Guard::of(&[TEXT, FUNCTION])), without] {
        let (found, _) = run(&pe);
        assert!(found.is_empty(), "{found:?}");
    }
    let (found, _) = run(&unloadable(Guard::of(&[FUNCTION])));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].text.starts_with("DriverEntry is "), "{found:?}");
}
