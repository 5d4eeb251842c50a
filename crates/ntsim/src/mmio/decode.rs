//! What an instruction that touched a register wants done.

use std::cell::RefCell;

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use super::alu::{Alu, Condition};

/// The longest x86 instruction.
const MAX_LENGTH: usize = 15;
const PAGE: usize = 4096;

/// Has the decoder make its tables, as it does when it is first used: that takes more stack than the host has for signals.
pub(super) fn prepare() {
    let _ = Decoder::new(64, &[], DecoderOptions::NONE);
}

/// A general-purpose register or part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gpr {
    /// Encoding number: 0 rax, 1 rcx, 2 rdx, 3 rbx, 4 rsp, 5 rbp, 6 rsi, 7 rdi, 8..=15.
    pub(super) number: u8,
    /// Bytes: 1, 2, 4 or 8.
    pub(super) width: u8,
    /// The second byte (ah, ch, dh, bh).
    pub(super) high: bool,
}

/// Where a value comes from that is not the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Gpr(Gpr),
    /// Already extended to the access's width.
    Immediate(u64),
}

/// What to do with the memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// Register from memory, zero- or sign-extended to the register's width.
    Load { to: Gpr, signed: bool },
    /// Register from memory in reverse byte order.
    LoadSwapped { to: Gpr },
    /// Register from memory if the condition holds; the memory is read anyway.
    LoadIf { to: Gpr, condition: Condition },
    /// Memory from a register or immediate.
    Store { from: Source },
    /// Memory from a register in reverse byte order.
    StoreSwapped { from: Gpr },
    /// Memory from a condition.
    StoreIf { condition: Condition },
    /// `alu memory, source`; written back unless the operation only compares.
    Modify { alu: Alu, with: Source },
    /// `alu register, memory`; written back unless the operation only compares.
    Combine { alu: Alu, to: Gpr },
    /// Swaps memory and register.
    Exchange { with: Gpr },
    /// Adds to memory and leaves the old value in the register.
    ExchangeAdd { with: Gpr },
    /// Stores the register if memory equals the accumulator.
    CompareExchange { with: Gpr },
    /// One step of MOVS with the device as the source or destination, or of STOS to it.
    String { copy: bool, repeat: bool },
}

/// A decoded access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) operation: Operation,
    /// Bytes of memory touched.
    pub(super) width: u8,
    /// Bytes of the instruction.
    pub(super) length: u8,
}

/// A decoded instruction and the bytes it was decoded from: code at an address may change when an image is
/// unloaded and another takes its place.
#[derive(Clone, Copy)]
struct Cached {
    rip: usize,
    bytes: [u8; MAX_LENGTH],
    access: Access,
}

const CACHE_SIZE: usize = 64;

thread_local! {
    static CACHE: RefCell<[Option<Cached>; CACHE_SIZE]> = const { RefCell::new([None; CACHE_SIZE]) };
}

/// Decodes the instruction at an address. `Err` carries the bytes of one that is not supported.
///
/// # Safety
/// A whole instruction must be readable there.
pub(super) unsafe fn at(rip: usize) -> Result<Access, Vec<u8>> {
    CACHE.with_borrow_mut(|cache| {
        let slot = &mut cache[(rip ^ rip >> 6) % CACHE_SIZE];
        if let Some(cached) = slot
            && cached.rip == rip
        {
            let length = usize::from(cached.access.length);
            // SAFETY: at least the first byte of an instruction is readable, and comparing stops at the first
            // difference: bytes are only read while they belong to the instruction that was executed.
            let same =
                (0..length).all(|i| unsafe { *(rip as *const u8).add(i) } == cached.bytes[i]);
            if same {
                return Ok(cached.access);
            }
        }
        let mut bytes = [0; MAX_LENGTH];
        // First what is in the page; the next page may not exist if the instruction does not extend into it.
        let in_page = (PAGE - rip % PAGE).min(MAX_LENGTH);
        let mut instruction = Instruction::default();
        for available in [in_page, MAX_LENGTH] {
            for (i, byte) in bytes.iter_mut().enumerate().take(available) {
                // SAFETY: within the page of the first byte, and in the second round the instruction did not end
                // there, so that it continues in the next page.
                *byte = unsafe { *(rip as *const u8).add(i) };
            }
            Decoder::with_ip(64, &bytes[..available], rip as u64, DecoderOptions::NONE)
                .decode_out(&mut instruction);
            if !instruction.is_invalid() {
                break;
            }
        }
        let Some(access) = classify(&instruction) else {
            return Err(bytes[..in_page].to_vec());
        };
        *slot = Some(Cached { rip, bytes, access });
        Ok(access)
    })
}

/// What an instruction does, if it is one that registers are accessed with.
fn classify(instruction: &Instruction) -> Option<Access> {
    let (operation, width) = match instruction.mnemonic() {
        Mnemonic::Movsb | Mnemonic::Movsw | Mnemonic::Movsd | Mnemonic::Movsq
            if instruction.op_kind(0) == OpKind::MemoryESRDI =>
        {
            string(instruction, true)?
        }
        Mnemonic::Stosb | Mnemonic::Stosw | Mnemonic::Stosd | Mnemonic::Stosq => {
            string(instruction, false)?
        }
        _ => operand(instruction)?,
    };
    Some(Access {
        operation,
        width,
        length: u8::try_from(instruction.len()).ok()?,
    })
}

fn string(instruction: &Instruction, copy: bool) -> Option<(Operation, u8)> {
    let width = match instruction.mnemonic() {
        Mnemonic::Movsb | Mnemonic::Stosb => 1,
        Mnemonic::Movsw | Mnemonic::Stosw => 2,
        Mnemonic::Movsd | Mnemonic::Stosd => 4,
        Mnemonic::Movsq | Mnemonic::Stosq => 8,
        _ => return None,
    };
    let repeat = instruction.has_rep_prefix();
    Some((Operation::String { copy, repeat }, width))
}

fn operand(instruction: &Instruction) -> Option<(Operation, u8)> {
    let count = instruction.op_count();
    let memory = (0..count).find(|&i| instruction.op_kind(i) == OpKind::Memory)?;
    let width = memory_width(instruction)?;
    let source = || -> Option<Source> {
        if count != 2 || memory != 0 {
            None
        } else if instruction.op_kind(1) == OpKind::Register {
            gpr(instruction.op_register(1)).map(Source::Gpr)
        } else {
            let value = instruction.try_immediate(1).ok()?;
            Some(Source::Immediate(value & mask(width)))
        }
    };
    let register = |index: u32| -> Option<Gpr> {
        (instruction.op_kind(index) == OpKind::Register)
            .then(|| gpr(instruction.op_register(index)))
            .flatten()
    };
    let arithmetic = |alu: Alu| -> Option<Operation> {
        if memory == 0 {
            let with = source()?;
            Some(Operation::Modify { alu, with })
        } else {
            let to = register(0)?;
            Some(Operation::Combine { alu, to })
        }
    };
    let unary = |alu: Alu| {
        let with = Source::Immediate(1);
        Some(Operation::Modify { alu, with })
    };
    let load = |signed: bool| {
        Some(Operation::Load {
            to: register(0)?,
            signed,
        })
    };
    let operation = match instruction.mnemonic() {
        Mnemonic::Mov if memory == 1 => load(false),
        Mnemonic::Mov | Mnemonic::Movnti => Some(Operation::Store { from: source()? }),
        Mnemonic::Movzx => load(false),
        Mnemonic::Movsx | Mnemonic::Movsxd => load(true),
        Mnemonic::Movbe if memory == 1 => Some(Operation::LoadSwapped { to: register(0)? }),
        Mnemonic::Movbe => Some(Operation::StoreSwapped { from: register(1)? }),
        Mnemonic::Add => arithmetic(Alu::Add),
        Mnemonic::Or => arithmetic(Alu::Or),
        Mnemonic::Adc => arithmetic(Alu::Adc),
        Mnemonic::Sbb => arithmetic(Alu::Sbb),
        Mnemonic::And => arithmetic(Alu::And),
        Mnemonic::Sub => arithmetic(Alu::Sub),
        Mnemonic::Xor => arithmetic(Alu::Xor),
        Mnemonic::Cmp => arithmetic(Alu::Cmp),
        Mnemonic::Test => arithmetic(Alu::Test),
        Mnemonic::Inc => unary(Alu::Inc),
        Mnemonic::Dec => unary(Alu::Dec),
        Mnemonic::Not => unary(Alu::Not),
        Mnemonic::Neg => unary(Alu::Neg),
        Mnemonic::Bt if instruction.op_kind(1) != OpKind::Register => arithmetic(Alu::Bt),
        Mnemonic::Bts if instruction.op_kind(1) != OpKind::Register => arithmetic(Alu::Bts),
        Mnemonic::Btr if instruction.op_kind(1) != OpKind::Register => arithmetic(Alu::Btr),
        Mnemonic::Btc if instruction.op_kind(1) != OpKind::Register => arithmetic(Alu::Btc),
        Mnemonic::Xchg => Some(Operation::Exchange {
            with: register(1 - memory)?,
        }),
        Mnemonic::Xadd => Some(Operation::ExchangeAdd { with: register(1)? }),
        Mnemonic::Cmpxchg => Some(Operation::CompareExchange { with: register(1)? }),
        mnemonic => {
            let condition = condition(mnemonic)?;
            if memory == 1 {
                Some(Operation::LoadIf {
                    to: register(0)?,
                    condition,
                })
            } else {
                Some(Operation::StoreIf { condition })
            }
        }
    };
    Some((operation?, width))
}

/// The condition of a conditional move or set.
fn condition(mnemonic: Mnemonic) -> Option<Condition> {
    let encoding = match mnemonic {
        Mnemonic::Cmovo | Mnemonic::Seto => 0,
        Mnemonic::Cmovno | Mnemonic::Setno => 1,
        Mnemonic::Cmovb | Mnemonic::Setb => 2,
        Mnemonic::Cmovae | Mnemonic::Setae => 3,
        Mnemonic::Cmove | Mnemonic::Sete => 4,
        Mnemonic::Cmovne | Mnemonic::Setne => 5,
        Mnemonic::Cmovbe | Mnemonic::Setbe => 6,
        Mnemonic::Cmova | Mnemonic::Seta => 7,
        Mnemonic::Cmovs | Mnemonic::Sets => 8,
        Mnemonic::Cmovns | Mnemonic::Setns => 9,
        Mnemonic::Cmovp | Mnemonic::Setp => 10,
        Mnemonic::Cmovnp | Mnemonic::Setnp => 11,
        Mnemonic::Cmovl | Mnemonic::Setl => 12,
        Mnemonic::Cmovge | Mnemonic::Setge => 13,
        Mnemonic::Cmovle | Mnemonic::Setle => 14,
        Mnemonic::Cmovg | Mnemonic::Setg => 15,
        _ => return None,
    };
    Some(Condition(encoding))
}

fn memory_width(instruction: &Instruction) -> Option<u8> {
    use iced_x86::MemorySize as M;
    match instruction.memory_size() {
        M::UInt8 | M::Int8 => Some(1),
        M::UInt16 | M::Int16 => Some(2),
        M::UInt32 | M::Int32 => Some(4),
        M::UInt64 | M::Int64 => Some(8),
        _ => None,
    }
}

fn gpr(register: Register) -> Option<Gpr> {
    let number = register as u32;
    let within = |first: Register, last: Register| {
        (first as u32..=last as u32)
            .contains(&number)
            .then(|| (number - first as u32) as u8)
    };
    let part = |number: u8, width: u8, high: bool| {
        Some(Gpr {
            number,
            width,
            high,
        })
    };
    if let Some(n) = within(Register::AL, Register::BL) {
        part(n, 1, false)
    } else if let Some(n) = within(Register::AH, Register::BH) {
        part(n, 1, true)
    } else if let Some(n) = within(Register::SPL, Register::R15L) {
        part(n + 4, 1, false)
    } else if let Some(n) = within(Register::AX, Register::R15W) {
        part(n, 2, false)
    } else if let Some(n) = within(Register::EAX, Register::R15D) {
        part(n, 4, false)
    } else {
        part(within(Register::RAX, Register::R15)?, 8, false)
    }
}

/// The bits of a value `width` bytes wide.
pub(super) fn mask(width: u8) -> u64 {
    u64::MAX >> (64 - 8 * u32::from(width))
}
