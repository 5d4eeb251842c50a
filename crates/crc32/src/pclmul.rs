//! The fast way on x86-64: carry-less multiplication folds 64 bytes a step.
//!
//! The method is that of Intel's white paper "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction" (2009),
//! in its bit-reflected form; the constants are powers of x modulo the polynomial.

use core::arch::x86_64::{
    __cpuid, __m128i, _mm_and_si128, _mm_clmulepi64_si128, _mm_extract_epi32, _mm_loadu_si128,
    _mm_set_epi64x, _mm_srli_si128, _mm_storeu_si128, _mm_xor_si128,
};
use core::sync::atomic::{AtomicU8, Ordering};

#[cfg(any(test, feature = "avx"))]
mod wide;

/// Shorter inputs go through the tables.
pub(crate) const MIN_LENGTH: usize = 24;

/// x^(4·128+32) and x^(4·128-32): fold over 64 bytes.
const FOLD_64: (i64, i64) = (0x1_5444_2bd4, 0x1_c6e4_1596);
/// x^(128+32) and x^(128-32): fold over 16 bytes.
const FOLD_16: (i64, i64) = (0x1_7519_97d0, 0x0_ccaa_009e);
/// x^64: from 96 bits to 64.
const FOLD_4: i64 = 0x1_63cd_6124;
/// The polynomial with its top bit, and its Barrett inverse.
const BARRETT: (i64, i64) = (0x1_DB71_0641, 0x1_F701_1641);

/// 0 unknown, 1 no, 2 yes. Every writer writes the same value, so that no ordering is needed.
static AVAILABLE: AtomicU8 = AtomicU8::new(0);

#[inline]
pub(crate) fn available() -> bool {
    match AVAILABLE.load(Ordering::Relaxed) {
        0 => detect(),
        known => known == 2,
    }
}

#[cold]
fn detect() -> bool {
    const PCLMULQDQ: u32 = 1 << 1;
    const SSE4_1: u32 = 1 << 19;
    let needed = PCLMULQDQ | SSE4_1;
    let yes = __cpuid(1).ecx & needed == needed;
    AVAILABLE.store(1 + u8::from(yes), Ordering::Relaxed);
    yes
}

/// Appends `bytes` to the register.
#[target_feature(enable = "pclmulqdq,sse2,sse4.1")]
pub(crate) fn update(register: u32, bytes: &[u8]) -> u32 {
    // SAFETY: nothing is written.
    unsafe { run::<false>(register, bytes, core::ptr::null_mut()) }
}

/// Appends `from` to the register and copies it to `to`, from the first byte to the last, each read once.
///
/// # Safety
/// `to` is valid for writes of as many bytes, which are none of `from`.
#[target_feature(enable = "pclmulqdq,sse2,sse4.1")]
pub(crate) unsafe fn copy(register: u32, from: &[u8], to: *mut u8) -> u32 {
    // SAFETY: by the caller's promise.
    unsafe { run::<true>(register, from, to) }
}

/// # Safety
/// `from` has [`MIN_LENGTH`] bytes or more. With COPY, that of [`copy`].
#[inline]
#[target_feature(enable = "pclmulqdq,sse2,sse4.1")]
unsafe fn run<const COPY: bool>(register: u32, from: &[u8], mut to: *mut u8) -> u32 {
    // What is no whole block comes first: zero bytes in front change nothing as long as the register has not been added.
    let odd = from.len() % 16;
    let (blocks, _) = from.get(odd..).unwrap_or(&[]).as_chunks::<16>();
    let (Some(front), Some((first, mut blocks))) = (from.first_chunk(), blocks.split_first())
    else {
        return register;
    };
    let register = u128::from(register);
    let front_block = (u128::from_le_bytes(*front) ^ register).checked_shl(8 * (16 - odd as u32));
    if COPY && odd > 0 {
        // SAFETY: by the caller's promise: `front` is of `from`. Its bytes behind the odd ones are written once more, with the first block.
        unsafe { to.cast::<[u8; 16]>().write_unaligned(*front) };
        // SAFETY: as above.
        to = unsafe { to.add(odd) };
    }
    let next = |block: &[u8; 16], to: &mut *mut u8| {
        // SAFETY: by the caller's promise: this is done once for each whole block of `from`, in order.
        unsafe { take::<COPY>(block, to) }
    };
    let fold_16 = constants(FOLD_16);
    let first = _mm_xor_si128(next(first, &mut to), vector(register >> (8 * odd)));
    let mut x = match front_block {
        Some(front) => fold(vector(front), fold_16, first),
        None => first,
    };
    #[cfg(any(test, feature = "avx"))]
    if blocks.len() >= wide::MIN_BLOCKS && wide::available() {
        // SAFETY: `available` has just confirmed the processor features; the rest is the caller's promise.
        (x, blocks) = unsafe { wide::fold::<COPY>(x, blocks, &mut to) };
    }
    if let Some((others, later)) = blocks.split_first_chunk::<3>() {
        let mut lanes = [
            x,
            next(&others[0], &mut to),
            next(&others[1], &mut to),
            next(&others[2], &mut to),
        ];
        let fold_64 = constants(FOLD_64);
        let (groups, later) = later.as_chunks::<4>();
        for group in groups {
            for (lane, block) in lanes.iter_mut().zip(group) {
                *lane = fold(*lane, fold_64, next(block, &mut to));
            }
        }
        let [first, others @ ..] = lanes;
        x = others.iter().fold(first, |x, lane| fold(x, fold_16, *lane));
        blocks = later;
    }
    for block in blocks {
        x = fold(x, fold_16, next(block, &mut to));
    }
    reduce(x, fold_16)
}

/// Loads a block; with COPY, stores it as well and moves on by its length.
///
/// # Safety
/// With COPY, `to` is valid for writes of 16 bytes, which are none of `block`.
#[inline]
#[target_feature(enable = "sse2")]
unsafe fn take<const COPY: bool>(block: &[u8; 16], to: &mut *mut u8) -> __m128i {
    let block = load(block);
    if COPY {
        // SAFETY: by the caller's promise.
        unsafe {
            _mm_storeu_si128(to.cast(), block);
            *to = to.add(16);
        }
    }
    block
}

#[target_feature(enable = "sse2")]
fn vector(bits: u128) -> __m128i {
    _mm_set_epi64x((bits >> 64) as i64, bits as i64)
}

#[target_feature(enable = "sse2")]
fn constants((low, high): (i64, i64)) -> __m128i {
    _mm_set_epi64x(high, low)
}

#[target_feature(enable = "sse2")]
fn load(block: &[u8; 16]) -> __m128i {
    // SAFETY: the reference covers the 16 bytes that are read; unaligned addresses are allowed.
    unsafe { _mm_loadu_si128(block.as_ptr().cast()) }
}

/// Moves `x` past the bits that the constants stand for and adds `next`.
#[target_feature(enable = "pclmulqdq,sse2")]
fn fold(x: __m128i, constants: __m128i, next: __m128i) -> __m128i {
    let low = _mm_clmulepi64_si128::<0x00>(x, constants);
    let high = _mm_clmulepi64_si128::<0x11>(x, constants);
    _mm_xor_si128(_mm_xor_si128(low, high), next)
}

/// From 128 bits to the 32 of the register.
#[target_feature(enable = "pclmulqdq,sse2,sse4.1")]
fn reduce(x: __m128i, fold_16: __m128i) -> u32 {
    let low_32 = _mm_set_epi64x(0, 0xFFFF_FFFF);
    let x = _mm_xor_si128(
        _mm_clmulepi64_si128::<0x10>(x, fold_16),
        _mm_srli_si128::<8>(x),
    );
    let x = _mm_xor_si128(
        _mm_clmulepi64_si128::<0x00>(_mm_and_si128(x, low_32), _mm_set_epi64x(0, FOLD_4)),
        _mm_srli_si128::<4>(x),
    );
    let barrett = constants(BARRETT);
    let quotient = _mm_clmulepi64_si128::<0x10>(_mm_and_si128(x, low_32), barrett);
    let product = _mm_clmulepi64_si128::<0x00>(_mm_and_si128(quotient, low_32), barrett);
    _mm_extract_epi32::<1>(_mm_xor_si128(x, product)).cast_unsigned()
}
