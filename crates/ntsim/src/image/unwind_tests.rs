//! Unwind information made by hand, as the documentation of x64 exception handling describes it.

use super::unwind::{Contents, Frame, RBP, RBX, caller};

const CODE: u32 = 0x1000;
const TABLE: u32 = 0x2000;
const INFO: u32 = 0x3000;
const STACK: usize = 0x7000;
const RDI: usize = 7;

/// Pieces of an image: where, and what.
#[derive(Default)]
struct Made(Vec<(u32, Vec<u8>)>);

impl Contents for Made {
    fn bytes(&self, at: u32, len: usize) -> Option<&[u8]> {
        let (start, bytes) = self
            .0
            .iter()
            .find(|(start, bytes)| at.wrapping_sub(*start) < bytes.len() as u32)?;
        bytes.get((at - start) as usize..)?.get(..len)
    }
}

fn entry(begin: u32, end: u32, info: u32) -> Vec<u8> {
    [begin, end, info]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect()
}

/// One function of 0x100 bytes with this unwind information.
fn function(info: &[u8]) -> Made {
    Made(vec![
        (TABLE, entry(CODE, CODE + 0x100, INFO)),
        (INFO, info.to_vec()),
        (CODE, vec![0x90; 0x100]),
    ])
}

/// A stack that holds these words.
fn on(words: &[usize]) -> impl Fn(usize) -> Option<usize> {
    move |at| {
        let offset = at.checked_sub(STACK)?;
        assert_eq!(offset % 8, 0, "an aligned read");
        words.get(offset / 8).copied()
    }
}

fn frame() -> Frame {
    Frame {
        ip: 0,
        calls: true,
        sp: STACK,
        general: [None; 16],
    }
}

fn unwound(made: &Made, at: u32, frame: Frame, words: &[usize]) -> Option<Frame> {
    let len: usize = made
        .0
        .iter()
        .filter(|(at, _)| *at == TABLE)
        .map(|(_, bytes)| bytes.len())
        .sum();
    caller(made, (TABLE, len as u32), CODE + at, &frame, &on(words))
}

/// `push rbx` (1 byte); `push rdi` (2); `sub rsp, 16` (6).
const PUSHES: [u8; 12] = [1, 6, 3, 0, 6, 0x12, 2, 0x70, 1, 0x30, 0, 0];

#[test]
fn pushed_registers_and_an_allocation_are_undone() {
    let made = function(&PUSHES);
    let back = unwound(&made, 0x50, frame(), &[0, 0, 0xd1, 0xb, 0xca11]).unwrap();
    assert_eq!((back.ip, back.sp), (0xca11, STACK + 40));
    assert_eq!(
        (back.general[RDI], back.general[RBX]),
        (Some(0xd1), Some(0xb))
    );
    assert!(back.calls);
}

#[test]
fn in_a_prologue_only_what_was_done_is_undone() {
    let made = function(&PUSHES);
    let here = Frame {
        calls: false,
        ..frame()
    };
    let back = unwound(&made, 0, here, &[0xca11]).unwrap();
    assert_eq!((back.ip, back.general[RBX]), (0xca11, None));
    let back = unwound(&made, 1, here, &[0xb, 0xca11]).unwrap();
    assert_eq!((back.ip, back.general[RBX]), (0xca11, Some(0xb)));
    let back = unwound(&made, 2, here, &[0xd1, 0xb, 0xca11]).unwrap();
    assert_eq!((back.ip, back.general[RDI]), (0xca11, Some(0xd1)));
}

#[test]
fn a_function_without_an_entry_has_its_return_address_on_top() {
    let made = function(&PUSHES);
    let back = unwound(&made, 0x100, frame(), &[0xca11]).unwrap();
    assert_eq!((back.ip, back.sp), (0xca11, STACK + 8));
}

#[test]
fn the_pointer_into_a_frame_counts_where_there_is_one() {
    // push rbp (1); sub rsp, 32 (5); lea rbp, [rsp + 16] (10); then something of unknown size is allocated; RDI is saved 8 bytes into the
    // frame, from where the pointer points minus 16.
    let info = [
        1, 14, 5, 0x15, 14, 0x74, 1, 0, 10, 0x03, 5, 0x32, 1, 0x50, 0, 0,
    ];
    let made = function(&info);
    let mut here = frame();
    here.general[RBP] = Some(STACK + 64 + 16);
    let mut words = [0; 16];
    (words[9], words[12], words[13]) = (0xd1, 0xb9, 0xca11);
    let back = unwound(&made, 0x50, here, &words).unwrap();
    assert_eq!((back.ip, back.sp), (0xca11, STACK + 14 * 8));
    assert_eq!(
        (back.general[RDI], back.general[RBP]),
        (Some(0xd1), Some(0xb9))
    );
    // Unknown, it leads nowhere.
    assert_eq!(unwound(&made, 0x50, frame(), &words), None);
}

#[test]
fn large_allocations_and_registers_saved_with_moves() {
    // sub rsp, 88 as a large one; RBX saved at 48, RDI at 64 in the long form; a vector register of 16 bytes.
    let info = [
        1, 20, 9, 0, 20, 0x68, 1, 0, 16, 0x75, 64, 0, 0, 0, 12, 0x34, 6, 0, 8, 0x01, 11, 0, 0, 0,
    ];
    let made = function(&info);
    let mut words = [0; 12];
    (words[6], words[8], words[11]) = (0xb, 0xd1, 0xca11);
    let back = unwound(&made, 0x50, frame(), &words).unwrap();
    assert_eq!((back.ip, back.sp), (0xca11, STACK + 96));
    assert_eq!(
        (back.general[RDI], back.general[RBX]),
        (Some(0xd1), Some(0xb))
    );
    // The form for more than 512 KiB, of which 64 are asked here.
    let made = function(&[1, 7, 3, 0, 7, 0x11, 64, 0, 0, 0, 0, 0]);
    let back = unwound(&made, 0x50, frame(), &[0, 0, 0, 0, 0, 0, 0, 0, 0xca11]).unwrap();
    assert_eq!((back.ip, back.sp), (0xca11, STACK + 72));
}

#[test]
fn a_part_that_is_chained_has_the_prologue_of_the_whole() {
    // push rdi (1) in the part, which is chained to the function that pushed RBX.
    let part = INFO + 0x40;
    let mut chained = vec![0x21, 1, 1, 0, 1, 0x70, 0, 0];
    chained.extend(entry(CODE, CODE + 0x20, INFO));
    let mut table = entry(CODE, CODE + 0x20, INFO);
    table.extend(entry(CODE + 0x20, CODE + 0x40, part));
    let made = Made(vec![
        (TABLE, table),
        (INFO, vec![1, 1, 1, 0, 1, 0x30, 0, 0]),
        (part, chained),
    ]);
    let back = unwound(&made, 0x30, frame(), &[0xd1, 0xb, 0xca11]).unwrap();
    assert_eq!(
        (back.ip, back.general[RBX], back.sp),
        (0xca11, Some(0xb), STACK + 24)
    );
    let back = unwound(&made, 0x18, frame(), &[0xb, 0xca11]).unwrap();
    assert_eq!((back.ip, back.general[RBX]), (0xca11, Some(0xb)));
}

#[test]
fn an_interrupt_left_where_it_came_from() {
    let made = function(&[1, 0, 1, 0, 0, 0x1a, 0, 0]);
    let sp = STACK + 0x100;
    let back = unwound(&made, 0x50, frame(), &[0xe, 0xca11, 0x10, 0x202, sp]).unwrap();
    assert_eq!((back.ip, back.sp, back.calls), (0xca11, sp, false));
}

#[test]
fn an_epilogue_has_undone_some_of_it_already() {
    let mut made = function(&PUSHES);
    // add rsp, 16; pop rdi; pop rbx; ret
    let code = [0x48, 0x83, 0xc4, 16, 0x5f, 0x5b, 0xc3];
    made.0[2].1[0x80..0x87].copy_from_slice(&code);
    let here = Frame {
        calls: false,
        ..frame()
    };
    for (at, words) in [
        (0x80, &[0, 0, 0xd1, 0xb, 0xca11][..]),
        (0x84, &[0xd1, 0xb, 0xca11]),
        (0x85, &[0xb, 0xca11]),
        (0x86, &[0xca11]),
    ] {
        let back = unwound(&made, at, here, words).unwrap();
        assert_eq!(
            (back.ip, back.sp),
            (0xca11, STACK + words.len() * 8),
            "{at:#x}"
        );
    }
    // A jump to another function instead of the return; one within it is none.
    for (displacement, sp) in [(0x100_u32, STACK + 8), (0, STACK + 40)] {
        made.0[2].1[0x86] = 0xe9;
        made.0[2].1[0x87..0x8b].copy_from_slice(&displacement.to_le_bytes());
        let back = unwound(&made, 0x86, here, &[0xca11, 1, 2, 3, 0xca11]).unwrap();
        assert_eq!((back.ip, back.sp), (0xca11, sp));
    }
}

#[test]
fn descriptions_of_epilogues_undo_nothing() {
    // Version 2: two epilogues, then `push rbx`.
    let made = function(&[2, 1, 3, 0, 2, 0x16, 0x20, 0x06, 1, 0x30, 0, 0]);
    let back = unwound(&made, 0x50, frame(), &[0xb, 0xca11]).unwrap();
    assert_eq!((back.ip, back.general[RBX]), (0xca11, Some(0xb)));
}

#[test]
fn damaged_tables_and_stacks_lead_nowhere() {
    // The stack ends before the frame does.
    assert_eq!(
        unwound(&function(&PUSHES), 0x50, frame(), &[0, 0, 0xd1]),
        None
    );
    // More codes than there are bytes; a code that does not exist; a slot that is missing.
    for info in [&[1, 6, 200, 0, 6, 0x12][..], &[1, 2, 1, 0, 1, 0x0b, 0, 0]] {
        assert_eq!(unwound(&function(info), 0x50, frame(), &[1; 8]), None);
    }
    let short = function(&[1, 6, 1, 0, 6, 0x01]);
    assert_eq!(unwound(&short, 0x50, frame(), &[1; 8]), None);
    // Chained to itself.
    let mut info = vec![0x21, 0, 0, 0];
    info.extend(entry(CODE, CODE + 0x100, INFO));
    assert_eq!(unwound(&function(&info), 0x50, frame(), &[1; 8]), None);
    // Information that is not in the image.
    let made = Made(vec![(TABLE, entry(CODE, CODE + 0x100, 0x9000))]);
    assert_eq!(unwound(&made, 0x50, frame(), &[1; 8]), None);
}

#[test]
fn an_entry_that_cannot_be_read_is_no_leaf() {
    let ask = |made: &Made, len, at| caller(made, (TABLE, len), at, &frame(), &on(&[0xca11]));
    let back = ask(&function(&PUSHES), 12, CODE + 0x100);
    assert_eq!(back.map(|frame| frame.ip), Some(0xca11), "a leaf after it");
    assert!(ask(&function(&PUSHES), 12, CODE - 1).is_some(), "before it");
    // Of two entries the file has one; there is no table.
    assert_eq!(ask(&function(&PUSHES), 24, CODE + 0x100), None);
    assert_eq!(ask(&function(&PUSHES), 0, CODE + 0x100), None);
}

#[test]
fn unknown_versions_and_flags_are_refused() {
    // Versions 1 and 2 with all documented flags but the chain; then others.
    for (first, is_known) in [
        (1, true),
        (2, true),
        (0x19, true),
        (0, false),
        (3, false),
        (4, false),
        (7, false),
        (0x41, false),
        (0x81, false),
    ] {
        let mut info = PUSHES;
        info[0] = first;
        let back = unwound(&function(&info), 0x50, frame(), &[0, 0, 0xd1, 0xb, 0xca11]);
        assert_eq!(back.is_some(), is_known, "{first:#x}");
    }
}

#[test]
fn an_entry_that_points_to_another_counts_from_where_that_begins() {
    let (elsewhere, second) = (TABLE + 0x100, CODE + 0x40);
    let mut table = entry(CODE, second, elsewhere + 1);
    table.extend(entry(second, CODE + 0x80, elsewhere + 1));
    let mut made = function(&PUSHES);
    made.0[0].1 = table;
    made.0
        .push((elsewhere, entry(second - 1, CODE + 0x80, INFO)));
    // Two bytes behind where the entry that is pointed to begins: RDI and RBX have been pushed.
    let back = unwound(&made, 0x41, frame(), &[0xd1, 0xb, 0xca11, 1, 2]).unwrap();
    assert_eq!((back.ip, back.sp), (0xca11, STACK + 24));
    assert_eq!(back.general[RDI], Some(0xd1));
    // Before it: all of the prologue is over.
    let back = unwound(&made, 0, frame(), &[0, 0, 0xd1, 0xb, 0xca11]).unwrap();
    assert_eq!((back.ip, back.sp), (0xca11, STACK + 40));
    // To itself, for ever; to nothing.
    for target in [TABLE + 1, 0x9001] {
        let made = Made(vec![(TABLE, entry(CODE, CODE + 0x100, target))]);
        assert_eq!(unwound(&made, 0x50, frame(), &[1; 8]), None);
    }
}

/// `push rbp` (1); `sub rsp, 32` (5); `lea rbp, [rsp + 16]` (10).
const POINTED: [u8; 12] = [1, 10, 3, 0x15, 10, 0x03, 5, 0x32, 1, 0x50, 0, 0];

#[test]
fn a_pointer_into_a_frame_counts_once_it_is_set() {
    let made = function(&POINTED);
    let mut here = frame();
    here.calls = false;
    // What the caller had there.
    here.general[RBP] = Some(0xb9);
    let back = unwound(&made, 5, here, &[0, 0, 0, 0, 0xb9, 0xca11]).unwrap();
    assert_eq!((back.ip, back.sp), (0xca11, STACK + 48));
    here.general[RBP] = Some(STACK + 16);
    let back = unwound(&made, 10, here, &[0, 0, 0, 0, 0xb9, 0xca11]).unwrap();
    assert_eq!((back.ip, back.sp), (0xca11, STACK + 48));
    assert_eq!(back.general[RBP], Some(0xb9));
}

#[test]
fn an_epilogue_takes_the_stack_back_from_the_pointer_into_the_frame() {
    let mut made = function(&POINTED);
    // lea rsp, [rbp + 24]; pop rbp; ret: 8 bytes more than were allocated, so that it is seen what counts.
    made.0[2].1[0x80..0x86].copy_from_slice(&[0x48, 0x8d, 0x65, 24, 0x5d, 0xc3]);
    let mut here = frame();
    here.calls = false;
    here.general[RBP] = Some(STACK + 16);
    let back = unwound(&made, 0x80, here, &[0, 0, 0, 0, 0, 0xb9, 0xca11]).unwrap();
    assert_eq!((back.ip, back.sp), (0xca11, STACK + 56));
    assert_eq!(back.general[RBP], Some(0xb9));
    // No epilogue: lea rsp, [rbp + rcx + 0]; pop rbp; ret. And lea rsp, [rbx + 0]; pop rbp; ret.
    for code in [
        &[0x48, 0x8d, 0x64, 0x0d, 0, 0x5d, 0xc3][..],
        &[0x48, 0x8d, 0x63, 0, 0x5d, 0xc3],
    ] {
        made.0[2].1[0x80..][..code.len()].copy_from_slice(code);
        here.general[RBX] = Some(STACK);
        let back = unwound(&made, 0x80, here, &[0, 0, 0, 0, 0xb9, 0xca11]).unwrap();
        assert_eq!((back.ip, back.sp), (0xca11, STACK + 48));
    }
}

#[test]
fn a_jump_through_the_table_of_imports_leaves_the_function() {
    let mut made = function(&PUSHES);
    let here = Frame {
        calls: false,
        ..frame()
    };
    // jmp [rip + 0x100]; then jmp [rax], as of a switch.
    for (code, sp) in [
        (&[0xff, 0x25, 0, 1, 0, 0][..], STACK + 8),
        (&[0xff, 0x20], STACK + 40),
    ] {
        made.0[2].1[0x86..][..code.len()].copy_from_slice(code);
        let back = unwound(&made, 0x86, here, &[0xca11, 1, 2, 3, 0xca11]).unwrap();
        assert_eq!((back.ip, back.sp), (0xca11, sp));
    }
}

#[test]
fn whatever_tables_say_an_answer_comes() {
    let mut state = 1_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut answers = 0;
    for _ in 0..50_000 {
        let mut info: Vec<u8> = (0..64).map(|_| random() as u8).collect();
        // Of the kinds that there are, rather than of those that are refused at once.
        info[0] = [1, 2, 0x21][random() as usize % 3];
        info[2] %= 30;
        let mut made = function(&info);
        made.0[2].1 = (0..0x100).map(|_| random() as u8).collect();
        let mut here = frame();
        here.calls = random() % 2 == 0;
        here.general = std::array::from_fn(|_| Some(random() as usize));
        let words: Vec<usize> = (0..64).map(|_| random() as usize).collect();
        // Reads need not be aligned: whoever gives the stack looks at that.
        let stack = |at: usize| words.get(at.checked_sub(STACK)? / 8).copied();
        let at = CODE + random() as u32 % 0x100;
        answers += usize::from(caller(&made, (TABLE, 12), at, &here, &stack).is_some());
    }
    assert!(answers > 100, "{answers}");
}
