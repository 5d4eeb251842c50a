//! Carries out a decoded access on a device and on the interrupted code's registers.

use libc::ucontext_t;

use super::Registers;
use super::alu::{Alu, ZF};
use super::decode::{Access, Gpr, Operation, Source, mask};

/// The direction flag: string instructions go down.
const DF: u64 = 1 << 10;

/// Index of the saved register by encoding number.
const SAVED: [i32; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

const RAX: u8 = 0;
const RCX: u8 = 1;
const RSI: u8 = 6;
const RDI: u8 = 7;

/// The interrupted code's registers.
struct Cpu<'a>(&'a mut ucontext_t);

impl Cpu<'_> {
    fn whole(&mut self, number: u8) -> &mut i64 {
        &mut self.0.uc_mcontext.gregs[SAVED[usize::from(number)] as usize]
    }

    fn get(&mut self, gpr: Gpr) -> u64 {
        let value = *self.whole(gpr.number) as u64;
        if gpr.high {
            value >> 8 & 0xff
        } else {
            value & mask(gpr.width)
        }
    }

    /// As the processor does: a 32-bit result clears the upper half, narrower ones leave the rest alone.
    fn set(&mut self, gpr: Gpr, value: u64) {
        let slot = self.whole(gpr.number);
        let old = *slot as u64;
        let value = value & mask(gpr.width);
        let new = match gpr.width {
            4 | 8 => value,
            _ if gpr.high => old & !0xff00 | value << 8,
            width => old & !mask(width) | value,
        };
        *slot = new as i64;
    }

    fn source(&mut self, source: Source) -> u64 {
        match source {
            Source::Gpr(gpr) => self.get(gpr),
            Source::Immediate(value) => value,
        }
    }

    fn flags(&self) -> u64 {
        self.0.uc_mcontext.gregs[libc::REG_EFL as usize] as u64
    }

    fn set_flags(&mut self, flags: u64) {
        self.0.uc_mcontext.gregs[libc::REG_EFL as usize] = flags as i64;
    }

    fn compute(&mut self, alu: Alu, a: u64, b: u64, width: u8) -> u64 {
        let (result, flags) = alu.compute(a, b, width, self.flags());
        self.set_flags(flags);
        result
    }

    fn step(&mut self, length: u8) {
        self.0.uc_mcontext.gregs[libc::REG_RIP as usize] += i64::from(length);
    }
}

fn swap(value: u64, width: u8) -> u64 {
    value.swap_bytes() >> (64 - 8 * u32::from(width))
}

fn sign_extend(value: u64, width: u8) -> u64 {
    let unused = 64 - 8 * u32::from(width);
    ((value << unused) as i64 >> unused) as u64
}

/// Carries out an access at an offset of the registers and steps behind the instruction. False if it cannot be.
pub(super) fn perform(
    access: &Access,
    context: &mut ucontext_t,
    registers: &dyn Registers,
    offset: u64,
) -> bool {
    let width = access.width;
    let mut cpu = Cpu(context);
    let read = || registers.read(offset, width) & mask(width);
    let write = |value: u64| registers.write(offset, width, value & mask(width));
    match access.operation {
        Operation::Load { to, signed } => {
            let value = read();
            cpu.set(
                to,
                if signed {
                    sign_extend(value, width)
                } else {
                    value
                },
            );
        }
        Operation::LoadSwapped { to } => {
            let value = read();
            cpu.set(to, swap(value, width));
        }
        Operation::LoadIf { to, condition } => {
            let value = read();
            let kept = cpu.get(to);
            let take = condition.holds(cpu.flags());
            // A 32-bit conditional move clears the upper half even if it does not move.
            cpu.set(to, if take { value } else { kept });
        }
        Operation::Store { from } => write(cpu.source(from)),
        Operation::StoreSwapped { from } => write(swap(cpu.get(from), width)),
        Operation::StoreIf { condition } => write(u64::from(condition.holds(cpu.flags()))),
        Operation::Modify { alu, with } => {
            let with = cpu.source(with);
            let result = cpu.compute(alu, read(), with, width);
            if alu.writes() {
                write(result);
            }
        }
        Operation::Combine { alu, to } => {
            let with = cpu.get(to);
            let result = cpu.compute(alu, with, read(), width);
            if alu.writes() {
                cpu.set(to, result);
            }
        }
        Operation::Exchange { with } => {
            let old = read();
            write(cpu.get(with));
            cpu.set(with, old);
        }
        Operation::ExchangeAdd { with } => {
            let old = read();
            let addend = cpu.get(with);
            write(cpu.compute(Alu::Add, old, addend, width));
            cpu.set(with, old);
        }
        Operation::CompareExchange { with } => {
            let accumulator = Gpr {
                number: RAX,
                width,
                high: false,
            };
            let old = read();
            let expected = cpu.get(accumulator);
            cpu.compute(Alu::Cmp, expected, old, width);
            if cpu.flags() & ZF != 0 {
                write(cpu.get(with));
            } else {
                // The processor writes the old value back in this case.
                write(old);
                cpu.set(accumulator, old);
            }
        }
        Operation::String { copy, repeat } => {
            return string(access, &mut cpu, registers, offset, copy, repeat);
        }
    }
    cpu.step(access.length);
    true
}

/// One element of a string instruction. A repeated one faults again for the next element.
fn string(
    access: &Access,
    cpu: &mut Cpu<'_>,
    registers: &dyn Registers,
    offset: u64,
    copy: bool,
    repeat: bool,
) -> bool {
    let width = access.width;
    let bytes = usize::from(width);
    let source = *cpu.whole(RSI) as usize;
    let destination = *cpu.whole(RDI) as usize;
    // Which end is the device's? `find` knows; the fault was at the one that it knows.
    let source_is_device = copy && super::mapping::find(source).is_some();
    if source_is_device {
        if super::mapping::find(destination).is_some() {
            return false;
        }
        let value = registers.read(offset, width) & mask(width);
        // SAFETY: the interrupted instruction was about to store there itself. If that faults, it is handled as
        // any fault of the interrupted code.
        unsafe {
            std::ptr::copy_nonoverlapping(
                value.to_le_bytes().as_ptr(),
                destination as *mut u8,
                bytes,
            );
        }
    } else {
        let value = if copy {
            let mut value = [0; 8];
            // SAFETY: the interrupted instruction was about to load from there itself.
            unsafe {
                std::ptr::copy_nonoverlapping(source as *const u8, value.as_mut_ptr(), bytes);
            }
            u64::from_le_bytes(value)
        } else {
            *cpu.whole(RAX) as u64
        };
        registers.write(offset, width, value & mask(width));
    }
    let down = cpu.flags() & DF != 0;
    let advance = |slot: &mut i64| {
        *slot = if down {
            slot.wrapping_sub(i64::from(width))
        } else {
            slot.wrapping_add(i64::from(width))
        };
    };
    advance(cpu.whole(RDI));
    if copy {
        advance(cpu.whole(RSI));
    }
    if repeat {
        let count = cpu.whole(RCX);
        *count = count.wrapping_sub(1);
        if *count != 0 {
            return true;
        }
    }
    cpu.step(access.length);
    true
}
