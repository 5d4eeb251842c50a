//! Arithmetic with a memory operand: results and flags as the processor computes them.

use super::decode::mask;

/// Carry flag.
pub(super) const CF: u64 = 1 << 0;
const PF: u64 = 1 << 2;
const AF: u64 = 1 << 4;
/// Zero flag.
pub(super) const ZF: u64 = 1 << 6;
const SF: u64 = 1 << 7;
const OF: u64 = 1 << 11;

/// An operation of two operands (the second is ignored by the unary ones).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alu {
    Add,
    Or,
    Adc,
    Sbb,
    And,
    Sub,
    Xor,
    Cmp,
    Test,
    Inc,
    Dec,
    Not,
    Neg,
    Bt,
    Bts,
    Btr,
    Btc,
}

impl Alu {
    /// Whether the result goes to the first operand.
    pub(super) fn writes(self) -> bool {
        !matches!(self, Alu::Cmp | Alu::Test | Alu::Bt)
    }

    /// Computes `a op b` at a width; returns the result and the new flags register.
    pub(super) fn compute(self, a: u64, b: u64, width: u8, flags: u64) -> (u64, u64) {
        let mask = mask(width);
        let (a, b) = (a & mask, b & mask);
        let carry = flags & CF;
        let keep_carry = |flags_out: u64| flags_out & !CF | carry;
        match self {
            Alu::Add => add(a, b, 0, width, flags),
            Alu::Adc => add(a, b, carry, width, flags),
            Alu::Sub | Alu::Cmp => subtract(a, b, 0, width, flags),
            Alu::Sbb => subtract(a, b, carry, width, flags),
            Alu::And | Alu::Test => logic(a & b, width, flags),
            Alu::Or => logic(a | b, width, flags),
            Alu::Xor => logic(a ^ b, width, flags),
            Alu::Inc => {
                let (result, flags) = add(a, 1, 0, width, flags);
                (result, keep_carry(flags))
            }
            Alu::Dec => {
                let (result, flags) = subtract(a, 1, 0, width, flags);
                (result, keep_carry(flags))
            }
            Alu::Neg => subtract(0, a, 0, width, flags),
            Alu::Not => (!a & mask, flags),
            Alu::Bt | Alu::Bts | Alu::Btr | Alu::Btc => {
                let bit = 1u64 << (b % (8 * u64::from(width)));
                let flags = flags & !CF | u64::from(a & bit != 0);
                let result = match self {
                    Alu::Bts => a | bit,
                    Alu::Btr => a & !bit,
                    Alu::Btc => a ^ bit,
                    _ => a,
                };
                (result, flags)
            }
        }
    }
}

fn set(flags: u64, flag: u64, on: bool) -> u64 {
    if on { flags | flag } else { flags & !flag }
}

fn sign(value: u64, width: u8) -> bool {
    value >> (8 * u32::from(width) - 1) & 1 != 0
}

fn result_flags(flags: u64, result: u64, width: u8) -> u64 {
    let flags = set(flags, ZF, result == 0);
    let flags = set(flags, SF, sign(result, width));
    set(flags, PF, (result as u8).count_ones().is_multiple_of(2))
}

fn add(a: u64, b: u64, carry: u64, width: u8, flags: u64) -> (u64, u64) {
    let sum = u128::from(a) + u128::from(b) + u128::from(carry);
    let result = sum as u64 & mask(width);
    let flags = result_flags(flags, result, width);
    let flags = set(flags, CF, sum > u128::from(mask(width)));
    let flags = set(flags, AF, (a ^ b ^ result) & 0x10 != 0);
    let overflow = sign((a ^ result) & (b ^ result), width);
    (result, set(flags, OF, overflow))
}

fn subtract(a: u64, b: u64, borrow: u64, width: u8, flags: u64) -> (u64, u64) {
    let result = a.wrapping_sub(b).wrapping_sub(borrow) & mask(width);
    let flags = result_flags(flags, result, width);
    let flags = set(
        flags,
        CF,
        u128::from(a) < u128::from(b) + u128::from(borrow),
    );
    let flags = set(flags, AF, (a ^ b ^ result) & 0x10 != 0);
    let overflow = sign((a ^ b) & (a ^ result), width);
    (result, set(flags, OF, overflow))
}

/// The processor leaves AF undefined; it stays as it was.
fn logic(result: u64, width: u8, flags: u64) -> (u64, u64) {
    (result, result_flags(flags & !(CF | OF), result, width))
}

/// A condition as instructions encode it in their low four bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition(pub(super) u8);

impl Condition {
    /// Whether it holds under these flags.
    pub(super) fn holds(self, flags: u64) -> bool {
        let is = |flag: u64| flags & flag != 0;
        let holds = match self.0 >> 1 {
            0 => is(OF),
            1 => is(CF),
            2 => is(ZF),
            3 => is(CF | ZF),
            4 => is(SF),
            5 => is(PF),
            6 => is(SF) != is(OF),
            _ => is(ZF) || is(SF) != is(OF),
        };
        // Odd encodings are the negations.
        holds != (self.0 & 1 != 0)
    }
}
