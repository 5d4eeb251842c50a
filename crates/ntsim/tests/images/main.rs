//! Drivers that are loaded from images.
#![allow(unsafe_code, reason = "tiny drivers")]

mod guard;
mod pe;

use ntsim::world::LoadError;
use ntsim::{FaultPaths, Image, ImageError, MachineConfig, Verify, World};
use pe::{DATA, IMPORTS, Pe, RDATA, TEXT};

/// A displacement relative to the instruction after it, whose address is `next`.
fn to(target: u32, next: u32) -> [u8; 4] {
    (target.wrapping_sub(next)).to_le_bytes()
}

/// Code at the entry point, put together piece by piece.
#[derive(Default)]
struct Code(Vec<u8>);

impl Code {
    fn here(&self) -> u32 {
        TEXT + self.0.len() as u32
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// An instruction that ends in the displacement of `target`.
    fn at(mut self, opcode: &[u8], target: u32) -> Self {
        let next = self.here() + opcode.len() as u32 + 4;
        self.0.extend(opcode);
        self.0.extend(to(target, next));
        self
    }

    /// Room for callees, as the convention wants it, and alignment.
    fn prologue(self) -> Self {
        self.bytes(&[0x48, 0x83, 0xec, 0x28])
    }

    /// Gives the driver object that the entry point gets in RCX a DriverUnload.
    fn unload_is(self, at: u32) -> Self {
        // lea rax, [at]; mov [rcx + 0x68], rax
        self.at(&[0x48, 0x8d, 0x05], at)
            .bytes(&[0x48, 0x89, 0x41, 0x68])
    }

    /// Goes on at a later address.
    fn pad(mut self, at: u32) -> Self {
        self.0.resize((at - TEXT) as usize, 0xcc);
        self
    }

    /// Returns STATUS_SUCCESS.
    fn epilogue(self) -> Self {
        // xor eax, eax; add rsp, 40; ret
        self.bytes(&[0x31, 0xc0, 0x48, 0x83, 0xc4, 0x28, 0xc3])
    }

    /// DbgPrintEx(77, 0, r8, r9): the first import.
    fn print(self) -> Self {
        // mov ecx, 77; xor edx, edx; call [import]
        self.bytes(&[0xb9, 77, 0, 0, 0, 0x31, 0xd2])
            .at(&[0xff, 0x15], IMPORTS)
    }
}

/// Says what its data holds and adds one to it. The text is found through an address that has to be relocated.
fn talkative() -> Pe {
    let code = Code::default()
        .prologue()
        // inc dword [counter]; mov r8, [pointer to the text]; mov r9d, [counter]
        .at(&[0xff, 0x05], DATA)
        .at(&[0x4c, 0x8b, 0x05], DATA + 8)
        .at(&[0x44, 0x8b, 0x0d], DATA)
        .print()
        // mov eax, 16384; call [__chkstk]
        .bytes(&[0xb8, 0, 0x40, 0, 0])
        .at(&[0xff, 0x15], IMPORTS + 8)
        .epilogue();
    let mut image = Pe::with(&code.0);
    image.imports = vec![("ntoskrnl.exe", "DbgPrintEx"), ("ntoskrnl.exe", "__chkstk")];
    image.rdata = b"loaded %d time(s)\n\0".to_vec();
    image.data = [0, pe::BASE + u64::from(RDATA)]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    image.relocations = vec![DATA + 8];
    image
}

fn image(pe: &Pe) -> Image {
    Image::parse("tiny.sys", pe.bytes()).expect("an image")
}

fn refused(bytes: Vec<u8>) -> String {
    Image::parse("tiny.sys", bytes)
        .expect_err("it is refused")
        .to_string()
}

#[test]
fn an_image_is_relocated_bound_and_run() {
    let mut world = World::builder().build();
    let a = world.add_machine(MachineConfig::named("A"));
    let driver = world.load_image(a, "tiny", &image(&talkative())).unwrap();
    assert_eq!(world.debug_log(), ["[A] loaded 1 time(s)\n"]);
    world.unload_driver(driver);
}

#[test]
fn every_load_has_a_copy_of_its_own() {
    let mut world = World::builder().build();
    let a = world.add_machine(MachineConfig::named("A"));
    let b = world.add_machine(MachineConfig::named("B"));
    let image = image(&talkative());
    let drivers = [a, b, a].map(|machine| world.load_image(machine, "tiny", &image).unwrap());
    // Loaded again after it was unloaded, too; more often than unloaded images are remembered.
    for driver in drivers {
        world.unload_driver(driver);
    }
    for _ in 0..6 {
        let driver = world.load_image(b, "tiny", &image).unwrap();
        world.unload_driver(driver);
    }
    let log = world.debug_log();
    assert_eq!(log.len(), 9);
    assert!(log.iter().all(|line| line.ends_with("loaded 1 time(s)\n")));
}

#[test]
fn imports_that_nobody_exports_are_named() {
    let mut pe = talkative();
    pe.imports.push(("ntoskrnl.exe", "KeDoTheImpossible"));
    pe.imports.push(("ndis.sys", "KeSetEvent"));
    pe.imports.push(("nobody.sys", "KeSetEvent"));
    let mut world = World::builder().build();
    let a = world.add_machine(MachineConfig::named("A"));
    let error = world.load_image(a, "tiny", &image(&pe)).unwrap_err();
    let missing = [
        "ntoskrnl.exe!KeDoTheImpossible",
        "ndis.sys!KeSetEvent",
        "nobody.sys!KeSetEvent",
    ];
    assert_eq!(
        error,
        LoadError::Image(ImageError::Imports(missing.map(String::from).to_vec()))
    );
}

#[test]
fn what_is_no_drivers_image_is_refused() {
    let good = talkative().bytes();
    assert!(refused(b"MZ and nothing else".to_vec()).contains("not an image"));
    for cut in [0x90, 0x180, 0x1200, good.len() - 0x800] {
        assert!(
            Image::parse("cut.sys", good[..cut].to_vec()).is_err(),
            "{cut:#x}"
        );
    }
    let mut changed = good.clone();
    changed[pe::offset(TEXT)] ^= 1;
    assert!(refused(changed).contains("checksum"));
    let program = Pe {
        subsystem: 3,
        ..talkative()
    };
    assert!(refused(program.bytes()).contains("subsystem"));
    let arm = Pe {
        machine: 0xaa64,
        ..talkative()
    };
    assert!(refused(arm.bytes()).contains("0xaa64"));
    let careless = Pe {
        text_flags: 0x8000_0000,
        ..talkative()
    };
    assert!(refused(careless.bytes()).contains("writable and executable"));
    let mut astray = talkative();
    astray.relocations.push(0x5000 - 4);
    assert!(refused(astray.bytes()).contains("relocation"));
}

/// Loads a driver that does what it must not; what the report says.
fn accused(pe: &Pe) -> String {
    let mut world = World::builder().collect_violations().build();
    let a = world.add_machine(MachineConfig::named("A"));
    let image = image(pe);
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = world.load_image(a, "tiny", &image);
    }));
    let found = world.take_violations();
    assert!(!found.is_empty(), "nobody said anything");
    found[0].to_string()
}

#[test]
fn constants_cannot_be_written_and_data_not_executed() {
    // mov byte [constant], 1: the displacement is followed by a byte of the instruction.
    let code = Code::default().prologue();
    let next = code.here() + 7;
    let code = code
        .bytes(&[0xc6, 0x05])
        .bytes(&to(RDATA, next))
        .bytes(&[1])
        .epilogue();
    let report = accused(&Pe::with(&code.0));
    assert!(report.contains("store to"), "{report}");
    assert!(report.contains("tiny.sys+0x2000 (.rdata)"), "{report}");
    assert!(report.contains("tiny.sys+0x1004 (.text)"), "{report}");

    let code = Code::default().prologue().at(&[0xe8], DATA).epilogue();
    let report = accused(&Pe::with(&code.0));
    assert!(report.contains("jump to"), "{report}");
    assert!(report.contains("tiny.sys+0x3000 (.data)"), "{report}");
}

#[test]
fn a_report_names_the_place_in_the_image_that_called() {
    // mov ecx, 4; call [ZwClose]: the displacement ends at `after`.
    let code = Code::default()
        .prologue()
        .bytes(&[0xb9, 4, 0, 0, 0])
        .at(&[0xff, 0x15], IMPORTS);
    let last = code.here() - 1;
    let mut pe = Pe::with(&code.epilogue().0);
    pe.imports = vec![("ntoskrnl.exe", "ZwClose")];
    let report = accused(&pe);
    assert!(report.contains("not an open handle"), "{report}");
    let place = format!("in tiny.sys+{last:#x} (.text)");
    assert!(report.contains(&place), "{place}: {report}");
}

#[test]
fn what_is_called_with_a_variable_number_of_arguments_is_found_in_the_image_too() {
    // KfRaiseIrql(DISPATCH_LEVEL); DbgPrint(text): r8 is the first of the arguments that the function finds on the stack.
    let code = Code::default()
        .prologue()
        .bytes(&[0xb9, 2, 0, 0, 0])
        .at(&[0xff, 0x15], IMPORTS + 8)
        .at(&[0x48, 0x8d, 0x0d], RDATA)
        .at(&[0xff, 0x15], IMPORTS);
    let last = code.here() - 1;
    let mut pe = Pe::with(&code.epilogue().0);
    pe.imports = vec![
        ("ntoskrnl.exe", "DbgPrint"),
        ("ntoskrnl.exe", "KfRaiseIrql"),
    ];
    pe.rdata = b"%C\0".to_vec();
    let report = accused(&pe);
    assert!(report.contains("a Unicode format at IRQL 2"), "{report}");
    let place = format!("in tiny.sys+{last:#x} (.text)");
    assert!(report.contains(&place), "{place}: {report}");

    // DbgPrintEx(77, 0, text).
    let code = Code::default()
        .prologue()
        .bytes(&[0xb9, 2, 0, 0, 0])
        .at(&[0xff, 0x15], IMPORTS + 8)
        .at(&[0x4c, 0x8d, 0x05], RDATA)
        .print();
    let last = code.here() - 1;
    pe.text = code.epilogue().0;
    pe.imports[0].1 = "DbgPrintEx";
    let report = accused(&pe);
    let place = format!("in tiny.sys+{last:#x} (.text)");
    assert!(report.contains(&place), "{place}: {report}");
}

#[test]
fn a_bug_check_names_the_place_in_the_image_that_called() {
    // mov ecx, 0xe2; mov edx, 1; call [KeBugCheckEx]: what else it is told is chance.
    let code = Code::default()
        .prologue()
        .bytes(&[0xb9, 0xe2, 0, 0, 0, 0xba, 1, 0, 0, 0])
        .at(&[0xff, 0x15], IMPORTS);
    let last = code.here() - 1;
    let mut pe = Pe::with(&code.epilogue().0);
    pe.imports = vec![("ntoskrnl.exe", "KeBugCheckEx")];
    let report = accused(&pe);
    assert!(
        report.contains("KeBugCheckEx(0x000000e2, 0x1, "),
        "{report}"
    );
    let place = format!("in tiny.sys+{last:#x} (.text)");
    assert!(report.contains(&place), "{place}: {report}");
}

#[test]
fn what_is_called_after_unloading_is_named() {
    // DriverUnload queues a work item and does not wait for it.
    let (unload, routine) = (TEXT + 0x200, TEXT + 0x300);
    let code = Code::default()
        .prologue()
        .unload_is(unload)
        .epilogue()
        .pad(unload)
        .prologue()
        // IoAllocateWorkItem(rcx); IoQueueWorkItem(rax, routine, DelayedWorkQueue, 0)
        .at(&[0xff, 0x15], IMPORTS)
        .bytes(&[0x48, 0x89, 0xc1])
        .at(&[0x48, 0x8d, 0x15], routine)
        .bytes(&[0x41, 0xb8, 1, 0, 0, 0, 0x45, 0x31, 0xc9])
        .at(&[0xff, 0x15], IMPORTS + 8)
        .epilogue()
        .pad(routine)
        .bytes(&[0xc3]);
    let mut pe = Pe::with(&code.0);
    pe.imports = vec![
        ("ntoskrnl.exe", "IoAllocateWorkItem"),
        ("ntoskrnl.exe", "IoQueueWorkItem"),
    ];
    let mut world = World::builder().collect_violations().build();
    let a = world.add_machine(MachineConfig::named("A"));
    let driver = world.load_image(a, "tiny", &image(&pe)).unwrap();
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        world.unload_driver(driver);
        world.run_for(std::time::Duration::from_millis(1));
    }));
    let found = world.take_violations();
    let rules: Vec<_> = found.iter().map(|v| v.rule).collect();
    assert_eq!(
        rules[0],
        ntsim::verifier::rules::WORK_ITEM_AT_UNLOAD,
        "{found:?}"
    );
    let last = found.last().unwrap();
    assert_eq!(last.rule, ntsim::verifier::rules::ACCESS_VIOLATION);
    let place = "= tiny.sys+0x1300 (.text), which is unloaded";
    assert!(last.text.contains("jump to"), "{last}");
    assert!(last.text.contains(place), "{last}");
}

#[test]
fn what_is_called_after_it_was_discarded_is_named() {
    // All of the code is in a section that goes when DriverEntry has returned; DriverUnload too.
    let unload = TEXT + 0x200;
    let code = Code::default()
        .prologue()
        .unload_is(unload)
        .epilogue()
        .pad(unload)
        .bytes(&[0xc3]);
    let pe = Pe {
        text_flags: 0x0200_0000,
        ..Pe::with(&code.0)
    };
    let mut world = World::builder().collect_violations().build();
    let a = world.add_machine(MachineConfig::named("A"));
    let driver = world.load_image(a, "tiny", &image(&pe)).unwrap();
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.unload_driver(driver)));
    let found = world.take_violations();
    assert_eq!(found[0].rule, ntsim::verifier::rules::ACCESS_VIOLATION);
    let text = &found[0].text;
    assert!(text.contains("jump to"), "{text}");
    assert!(text.contains("= tiny.sys+0x1200 (.text)"), "{text}");
}

#[test]
fn what_the_loader_of_the_kernel_does_not_serve_is_refused() {
    // The directories of thread-local storage and of delayed imports.
    for (number, name) in [(9, "thread-local storage"), (13, "delayed imports")] {
        let mut pe = talkative();
        pe.directories = vec![(number, RDATA + 0x40, 40)];
        let error = refused(pe.bytes());
        assert!(error.contains(name), "{error}");
    }
}

/// An image whose entry point raises the IRQL and then reads the first byte of its data.
fn raises_and_reads() -> Pe {
    // mov al, [DATA]; mov cl, 2; call [KfRaiseIrql]; mov cl, [DATA]; mov cl, 0; call [KeLowerIrql]
    let code = Code::default()
        .prologue()
        .at(&[0x8a, 0x05], DATA)
        .bytes(&[0xb1, 2])
        .at(&[0xff, 0x15], IMPORTS)
        .at(&[0x8a, 0x0d], DATA)
        .bytes(&[0xb1, 0])
        .at(&[0xff, 0x15], IMPORTS + 8);
    let mut pe = Pe::with(&code.epilogue().0);
    pe.imports = vec![
        ("ntoskrnl.exe", "KfRaiseIrql"),
        ("ntoskrnl.exe", "KeLowerIrql"),
    ];
    pe
}

/// Loads an image; what rules it broke.
fn broken(pe: &Pe, verify: Verify) -> Vec<ntsim::Violation> {
    let builder = World::builder().ignore_environment().verify(verify);
    let mut world = builder.collect_violations().build();
    let a = world.add_machine(MachineConfig::named("A"));
    let load = || world.load_image(a, "tiny", &image(pe)).map(|_| ());
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(load));
    world.take_violations()
}

#[test]
fn pageable_sections_are_not_there_at_dispatch_level() {
    let mut pe = raises_and_reads();
    let cases = [
        (".text", ".data", None),
        // Where it goes on at DISPATCH_LEVEL.
        ("PAGE", ".data", Some("jump to")),
        (".text", "PAGEDATA", Some("load from")),
    ];
    for (text, data, what) in cases {
        (pe.text_name, pe.data_name) = (text, data);
        assert!(broken(&pe, Verify::Cheap).is_empty());
        let found = broken(&pe, Verify::Full);
        let Some(what) = what else {
            assert!(found.is_empty(), "{found:?}");
            continue;
        };
        assert_eq!(found[0].rule, ntsim::verifier::rules::PAGED_ACCESS);
        let name = if text == "PAGE" { text } else { data };
        let section = format!("which is the pageable section {name} of tiny.sys");
        let text = &found[0].text;
        assert!(text.contains(what) && text.contains(&section), "{text}");
    }
    // Its section says that it is not: IMAGE_SCN_MEM_NOT_PAGED.
    (pe.text_name, pe.data_name) = ("PAGE", ".data");
    pe.text_flags = 0x0800_0000;
    assert!(broken(&pe, Verify::Full).is_empty());
}

#[test]
fn what_lies_in_a_pageable_section_is_protected_as_elsewhere() {
    // mov al, [TEXT]; mov [TEXT], al
    let code = Code::default()
        .prologue()
        .at(&[0x8a, 0x05], TEXT)
        .at(&[0x88, 0x05], TEXT);
    let mut pe = Pe::with(&code.epilogue().0);
    pe.text_name = "PAGE";
    let found = broken(&pe, Verify::Full);
    assert_eq!(found[0].rule, ntsim::verifier::rules::ACCESS_VIOLATION);
}

#[test]
fn a_frame_that_leaves_nothing_of_windows_stack_is_accused() {
    // sub rsp, frame; call [KeGetCurrentIrql]; xor eax, eax; add rsp, frame; ret
    let with_frame = |frame: u32| {
        let code = Code::default()
            .bytes(&[0x48, 0x81, 0xec])
            .bytes(&frame.to_le_bytes())
            .at(&[0xff, 0x15], IMPORTS)
            .bytes(&[0x31, 0xc0, 0x48, 0x81, 0xc4])
            .bytes(&frame.to_le_bytes())
            .bytes(&[0xc3]);
        let mut pe = Pe::with(&code.0);
        pe.imports = vec![("ntoskrnl.exe", "KeGetCurrentIrql")];
        broken(&pe, Verify::Full)
    };
    assert!(with_frame(0x4008).is_empty());
    let found = with_frame(0x5008);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].rule, ntsim::verifier::rules::STACK_DEPTH);
    let text = &found[0].text;
    assert!(text.contains("where KeGetCurrentIrql is called"), "{text}");
    assert!(found[0].site[0].contains("tiny.sys"), "{found:?}");
}

#[test]
fn a_system_thread_has_more_of_the_stack_than_who_is_called() {
    let with_frame = |frame: u32| {
        // sub rsp, 0x48; lea rcx, [handle]; xor edx, edx; xor r8d, r8d; xor r9d, r9d; mov [rsp + 0x20], rdx
        let code = Code::default()
            .bytes(&[0x48, 0x83, 0xec, 0x48])
            .at(&[0x48, 0x8d, 0x0d], DATA)
            .bytes(&[0x31, 0xd2, 0x45, 0x31, 0xc0, 0x45, 0x31, 0xc9])
            .bytes(&[0x48, 0x89, 0x54, 0x24, 0x20]);
        // lea rax, [routine]; mov [rsp + 0x28], rax; mov [rsp + 0x30], rdx; call [PsCreateSystemThread]
        let routine = TEXT + 0x100;
        let code = code
            .at(&[0x48, 0x8d, 0x05], routine)
            .bytes(&[0x48, 0x89, 0x44, 0x24, 0x28, 0x48, 0x89, 0x54, 0x24, 0x30])
            .at(&[0xff, 0x15], IMPORTS)
            // mov rcx, [handle]; call [ZwClose]; xor eax, eax; add rsp, 0x48; ret
            .at(&[0x48, 0x8b, 0x0d], DATA)
            .at(&[0xff, 0x15], IMPORTS + 8)
            .bytes(&[0x31, 0xc0, 0x48, 0x83, 0xc4, 0x48, 0xc3])
            .pad(routine)
            // sub rsp, frame; call [KeGetCurrentIrql]; add rsp, frame; ret
            .bytes(&[0x48, 0x81, 0xec])
            .bytes(&frame.to_le_bytes())
            .at(&[0xff, 0x15], IMPORTS + 16)
            .bytes(&[0x48, 0x81, 0xc4])
            .bytes(&frame.to_le_bytes())
            .bytes(&[0xc3]);
        let mut pe = Pe::with(&code.0);
        pe.imports = ["PsCreateSystemThread", "ZwClose", "KeGetCurrentIrql"]
            .map(|name| ("ntoskrnl.exe", name))
            .to_vec();
        pe.data = vec![0; 8];
        let builder = World::builder().ignore_environment();
        let mut world = builder.collect_violations().build();
        let machine = world.add_machine(MachineConfig::named("A"));
        world.load_image(machine, "tiny", &image(&pe)).unwrap();
        world.run_until_idle();
        world.take_violations()
    };
    assert!(with_frame(0x5008).is_empty());
    let found = with_frame(0x5a08);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].rule, ntsim::verifier::rules::STACK_DEPTH);
    assert!(found[0].text.contains("22528 are theirs"), "{found:?}");
    assert_eq!(found[0].culprit, "driver tiny");
}

#[test]
fn each_place_in_an_image_that_calls_fails_once() {
    // ExAllocatePool2(POOL_FLAG_NON_PAGED, 16, 4).
    let call = |code: Code| {
        code.bytes(&[0xb9, 0x40, 0, 0, 0, 0xba, 16, 0, 0, 0])
            .bytes(&[0x41, 0xb8, 4, 0, 0, 0])
            .at(&[0xff, 0x15], IMPORTS)
    };
    let code = call(call(Code::default().prologue()));
    let mut pe = Pe::with(&code.epilogue().0);
    pe.imports = vec![("ntoskrnl.exe", "ExAllocatePool2")];
    let image = image(&pe);
    let paths = FaultPaths::new();
    let load = |image: &Image| {
        let builder = World::builder().fail_new_paths(&paths);
        let mut world = builder.collect_violations().build();
        // Elsewhere each time.
        for name in ["one", "two"] {
            let machine = world.add_machine(MachineConfig::named(name));
            world.load_image(machine, "tiny", image).unwrap();
        }
        drop(world);
        paths.failed().len()
    };
    assert_eq!(load(&image), 2);
    assert_eq!(load(&image), 2);
    // Another build's are others.
    pe.data = vec![1];
    let other = Image::parse("tiny.sys", pe.bytes()).expect("an image");
    assert_eq!(load(&other), 4);
    assert_eq!(load(&image), 4);
}
