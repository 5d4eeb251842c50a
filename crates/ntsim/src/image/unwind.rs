//! From a frame of an image's code to its caller's, by the tables of the exception directory that every x64 image has ("x64 exception
//! handling" of Microsoft's C++ documentation: `RUNTIME_FUNCTION`, `UNWIND_INFO`, `UNWIND_CODE`).
//!
//! Tables and stacks may be damaged: every read of either can fail, and every loop ends.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

/// What lies in an image's file, by relative virtual address.
pub(super) trait Contents {
    /// So many bytes; None if not all of them are there.
    fn bytes(&self, at: u32, len: usize) -> Option<&[u8]>;
}

/// The exception directory: where, and how many bytes.
pub(super) type Table = (u32, u32);

/// A word of the stack; None if it does not lie on it.
pub(crate) type Stack<'a> = &'a dyn Fn(usize) -> Option<usize>;

/// What is known of the registers in a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The next instruction.
    pub(crate) ip: usize,
    /// Whether that one has been called from here (and comes next when the call returns), or is about to be executed.
    pub(crate) calls: bool,
    pub(crate) sp: usize,
    /// The others by their numbers in instructions, as far as they are known.
    pub(crate) general: [Option<usize>; 16],
}

pub(crate) const RBX: usize = 3;
pub(crate) const RBP: usize = 5;

/// More parts than any function is chained from.
const PARTS: usize = 32;
/// Bytes of a `RUNTIME_FUNCTION`.
const FUNCTION: usize = 12;
/// More instructions than an epilogue has: one register each, a `lea`, and the return.
const EPILOGUE: usize = 12;

impl Frame {
    /// An address in the instruction that this frame is at.
    pub(crate) fn address(&self) -> usize {
        self.ip.saturating_sub(usize::from(self.calls))
    }

    /// Takes a word off the stack.
    fn pop(&mut self, stack: Stack<'_>) -> Option<usize> {
        let word = stack(self.sp)?;
        self.sp = self.sp.checked_add(8)?;
        Some(word)
    }

    /// Goes back to the caller, whose address is on top.
    pub(crate) fn returned(mut self, stack: Stack<'_>) -> Option<Frame> {
        self.ip = self.pop(stack)?;
        self.calls = true;
        Some(self)
    }
}

#[derive(Clone, Copy)]
struct Function {
    begin: u32,
    end: u32,
    info: u32,
}

impl Function {
    fn read(code: &dyn Contents, at: u32) -> Option<Function> {
        let bytes = code.bytes(at, FUNCTION)?;
        let word = |at| bytes[at..].first_chunk().copied().map(u32::from_le_bytes);
        Some(Function {
            begin: word(0)?,
            end: word(4)?,
            info: word(8)?,
        })
    }

    /// What the table says of the function that code is part of. None if the table does not tell: it cannot be read, or is empty.
    fn around(code: &dyn Contents, (table, len): Table, at: u32) -> Option<Entry> {
        let entry = |index: u32| Function::read(code, table.checked_add(index * FUNCTION as u32)?);
        let (mut low, mut high) = (0, len / FUNCTION as u32);
        if high == 0 {
            return None;
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if entry(middle)?.begin <= at {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let Some(last) = low.checked_sub(1) else {
            return Some(Entry::Leaf);
        };
        let function = entry(last)?;
        Some(match at < function.end {
            true => Entry::Of(function),
            false => Entry::Leaf,
        })
    }

    /// The entry that holds for this one, which may only point to another: then the address of that, which is odd, takes the place of the
    /// unwind information's.
    fn followed(self, code: &dyn Contents) -> Option<Function> {
        let mut function = self;
        for _ in 0..PARTS {
            if function.info & 1 == 0 {
                return Some(function);
            }
            function = Function::read(code, function.info & !1)?;
        }
        None
    }
}

/// What is known of the function around an address.
enum Entry {
    /// It has none: it neither calls nor touches its stack.
    Leaf,
    Of(Function),
}

/// How a function, or the part of one, changed its frame.
struct Info<'a> {
    prologue: u8,
    /// The register that points into the frame, and how far.
    pointer: Option<(usize, usize)>,
    version: u8,
    codes: &'a [u8],
    /// What it is chained to.
    chained: Option<Function>,
}

impl<'a> Info<'a> {
    /// None too for versions and flags that are not documented: what follows may have another layout.
    fn read(code: &'a dyn Contents, at: u32) -> Option<Info<'a>> {
        const CHAINED: u8 = 4;
        const FLAGS: u8 = 7;
        let &[first, prologue, count, frame] = code.bytes(at, 4)?.first_chunk()?;
        let (version, flags) = (first & 7, first >> 3);
        if !matches!(version, 1 | 2) || flags & !FLAGS != 0 {
            return None;
        }
        let codes = code.bytes(at.checked_add(4)?, usize::from(count) * 2)?;
        let behind = at.checked_add(4 + u32::from(count).next_multiple_of(2) * 2)?;
        let chained = match flags & CHAINED {
            0 => None,
            _ => Some(Function::read(code, behind)?),
        };
        Some(Info {
            prologue,
            pointer: (frame & 15 != 0)
                .then(|| (usize::from(frame & 15), usize::from(frame >> 4) * 16)),
            version,
            codes,
            chained,
        })
    }

    /// Undoes what of the prologue was done: all that ends at or before an offset into it.
    fn undo(&self, offset: u32, frame: &mut Frame, stack: Stack<'_>) -> Option<Undone> {
        let word = |slot: usize| {
            let bytes = self.codes.get(slot * 2..)?.first_chunk()?;
            Some(usize::from(u16::from_le_bytes(*bytes)))
        };
        let long = |slot: usize| Some(word(slot)? | word(slot + 1)? << 16);
        // Registers are saved at distances from where the frame's pointer points, once it does.
        let based = |frame: &Frame| {
            let (register, distance) = self.pointer?;
            frame.general[register]?.checked_sub(distance)
        };
        let mut base = frame.sp;
        if self.pointer.is_some() && offset >= u32::from(self.prologue) {
            base = based(frame)?;
        }
        let mut slot = 0;
        let mut undone = Undone::Frame;
        while slot * 2 < self.codes.len() {
            let (at, code) = (self.codes[slot * 2], self.codes[slot * 2 + 1]);
            let (operation, operand) = (code & 15, usize::from(code >> 4));
            let slots = match operation {
                0 | 2 | 3 | 10 => 1,
                1 if operand == 0 => 2,
                1 => 3,
                4 | 8 => 2,
                5 | 9 => 3,
                6 if self.version == 2 => 1,
                6 => 2,
                7 => 3,
                _ => return None,
            };
            // The description of an epilogue (6) has an offset of another kind, and undoes nothing.
            let done = u32::from(at) <= offset;
            match operation {
                _ if !done => {}
                0 => frame.general[operand] = Some(frame.pop(stack)?),
                1 if operand == 0 => frame.sp = frame.sp.checked_add(word(slot + 1)? * 8)?,
                1 => frame.sp = frame.sp.checked_add(long(slot + 1)?)?,
                2 => frame.sp = frame.sp.checked_add(operand * 8 + 8)?,
                3 => {
                    frame.sp = based(frame)?;
                    base = frame.sp;
                }
                4 => {
                    let at = base.checked_add(word(slot + 1)? * 8)?;
                    frame.general[operand] = Some(stack(at)?);
                }
                5 => {
                    let at = base.checked_add(long(slot + 1)?)?;
                    frame.general[operand] = Some(stack(at)?);
                }
                10 => {
                    // The processor's own, of an interrupt: perhaps an error code, then RIP, CS, EFLAGS, RSP.
                    let at = frame.sp.checked_add(operand * 8)?;
                    frame.ip = stack(at)?;
                    frame.calls = false;
                    frame.sp = stack(at.checked_add(24)?)?;
                    undone = Undone::Interrupt;
                }
                // Vector registers say nothing of frames.
                _ => {}
            }
            slot += slots;
        }
        Some(undone)
    }
}

/// What undoing a prologue came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Undone {
    /// The return address is on top of the stack.
    Frame,
    /// The frame that was interrupted is there already.
    Interrupt,
}

/// The frame of the caller. `at` is the relative virtual address of the frame's code. None where tables or stack do not tell.
pub(super) fn caller(
    code: &dyn Contents,
    table: Table,
    at: u32,
    frame: &Frame,
    stack: Stack<'_>,
) -> Option<Frame> {
    let mut frame = *frame;
    let function = match Function::around(code, table, at)? {
        Entry::Leaf => return frame.returned(stack),
        Entry::Of(function) => function,
    };
    let part = function.followed(code)?;
    let mut info = Info::read(code, part.info)?;
    if !frame.calls
        && let Some(done) = epilogue(code, &function, &info, at, &frame, stack)
    {
        return Some(done);
    }
    // Before the function whose entry it is, as a part that lies elsewhere may: its prologue is over.
    let mut offset = at.checked_sub(part.begin).unwrap_or(u32::MAX);
    for _ in 0..PARTS {
        if info.undo(offset, &mut frame, stack)? == Undone::Interrupt {
            return Some(frame);
        }
        let Some(next) = info.chained else {
            return frame.returned(stack);
        };
        info = Info::read(code, next.followed(code)?.info)?;
        // Whose prologue came before, all of it.
        offset = u32::MAX;
    }
    None
}

/// If what is left of a function is its epilogue, does that. An epilogue is `add rsp` or `lea rsp` or none, `pop`s, and a return or a jump to
/// another function.
fn epilogue(
    code: &dyn Contents,
    function: &Function,
    info: &Info<'_>,
    at: u32,
    frame: &Frame,
    stack: Stack<'_>,
) -> Option<Frame> {
    let bytes = code.bytes(at, function.end.checked_sub(at)? as usize)?;
    let mut frame = *frame;
    let decoder = Decoder::with_ip(64, bytes, u64::from(at), DecoderOptions::NONE);
    for (index, instruction) in decoder.into_iter().take(EPILOGUE).enumerate() {
        let to_rsp = instruction.op0_kind() == OpKind::Register
            && instruction.op0_register() == Register::RSP;
        match instruction.mnemonic() {
            Mnemonic::Add if index == 0 && to_rsp && has_constant(&instruction) => {
                frame.sp = frame
                    .sp
                    .checked_add_signed(instruction.immediate(1) as isize)?;
            }
            Mnemonic::Lea if index == 0 && to_rsp => {
                // From the register that points into the frame, and from nothing else.
                let base = number(instruction.memory_base())?;
                if info.pointer.is_none_or(|(register, _)| register != base)
                    || instruction.memory_index() != Register::None
                {
                    return None;
                }
                let base = frame.general[base]?;
                let distance = instruction.memory_displacement64() as isize;
                frame.sp = base.checked_add_signed(distance)?;
            }
            Mnemonic::Pop if instruction.code() == Code::Pop_r64 => {
                let register = number(instruction.op0_register())?;
                frame.general[register] = Some(frame.pop(stack)?);
            }
            Mnemonic::Ret => return frame.returned(stack),
            Mnemonic::Jmp if leaves(&instruction, function) => return frame.returned(stack),
            _ => return None,
        }
    }
    None
}

fn has_constant(instruction: &Instruction) -> bool {
    matches!(
        instruction.op1_kind(),
        OpKind::Immediate8to64 | OpKind::Immediate32to64
    )
}

/// Whether a jump is one to another function, as the last call of a function may be.
fn leaves(jump: &Instruction, function: &Function) -> bool {
    match jump.op0_kind() {
        OpKind::NearBranch64 => {
            let inside = u64::from(function.begin)..u64::from(function.end);
            !inside.contains(&jump.near_branch64())
        }
        OpKind::Memory => jump.is_ip_rel_memory_operand(),
        _ => false,
    }
}

/// A register's number in instructions.
fn number(register: Register) -> Option<usize> {
    let number = (register as usize).checked_sub(Register::RAX as usize)?;
    (number < 16).then_some(number)
}
