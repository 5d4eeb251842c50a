//! The fast way on x86-64: carry-less multiplication folds 64 bytes a step.
//!
//! The method is that of Intel's white paper "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction" (2009),
//! in its bit-reflected form; the constants are powers of x modulo the polynomial.

use core::arch::x86_64::{
    __cpuid, __m128i, _mm_and_si128, _mm_clmulepi64_si128, _mm_cvtsi32_si128, _mm_extract_epi32,
    _mm_loadu_si128, _mm_set_epi64x, _mm_srli_si128, _mm_storeu_si128, _mm_xor_si128,
};
use core::sync::atomic::{AtomicU8, Ordering};

/// Shorter inputs go through the tables.
pub(crate) const MIN_LENGTH: usize = 32;

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
/// With COPY, that of [`copy`].
#[inline]
#[target_feature(enable = "pclmulqdq,sse2,sse4.1")]
unsafe fn run<const COPY: bool>(register: u32, from: &[u8], mut to: *mut u8) -> u32 {
    let (blocks, last) = from.as_chunks::<16>();
    let Some((first, mut blocks)) = blocks.split_first() else {
        // SAFETY: by the caller's promise.
        return unsafe { rest::<COPY>(register, last, to) };
    };
    let mut next = |block: &[u8; 16]| {
        let block = load(block);
        if COPY {
            // SAFETY: by the caller's promise: this is called once for each block of `from`, in order.
            unsafe {
                _mm_storeu_si128(to.cast(), block);
                to = to.add(16);
            }
        }
        block
    };
    let fold_16 = _mm_set_epi64x(FOLD_16.1, FOLD_16.0);
    let mut x = _mm_xor_si128(next(first), _mm_cvtsi32_si128(register.cast_signed()));
    if let Some((others, later)) = blocks.split_first_chunk::<3>() {
        let mut lanes = [x, next(&others[0]), next(&others[1]), next(&others[2])];
        let fold_64 = _mm_set_epi64x(FOLD_64.1, FOLD_64.0);
        let (groups, later) = later.as_chunks::<4>();
        for group in groups {
            for (lane, block) in lanes.iter_mut().zip(group) {
                *lane = fold(*lane, fold_64, next(block));
            }
        }
        let [first, others @ ..] = lanes;
        x = others.iter().fold(first, |x, lane| fold(x, fold_16, *lane));
        blocks = later;
    }
    for block in blocks {
        x = fold(x, fold_16, next(block));
    }
    // SAFETY: by the caller's promise: all whole blocks have been written.
    unsafe { rest::<COPY>(reduce(x, fold_16), last, to) }
}

/// # Safety
/// With COPY, that of [`copy`].
#[inline]
unsafe fn rest<const COPY: bool>(register: u32, last: &[u8], to: *mut u8) -> u32 {
    if COPY {
        // SAFETY: by the caller's promise.
        unsafe { crate::table::copy(register, last, to) }
    } else {
        crate::table::update(register, last)
    }
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
    let barrett = _mm_set_epi64x(BARRETT.1, BARRETT.0);
    let quotient = _mm_clmulepi64_si128::<0x10>(_mm_and_si128(x, low_32), barrett);
    let product = _mm_clmulepi64_si128::<0x00>(_mm_and_si128(quotient, low_32), barrett);
    _mm_extract_epi32::<1>(_mm_xor_si128(x, product)).cast_unsigned()
}
