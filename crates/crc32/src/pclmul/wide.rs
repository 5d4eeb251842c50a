//! The same with two blocks to a register: VPCLMULQDQ folds 128 bytes a step.
//!
//! For programs in user mode, whose AVX registers the system saves. It does not do that for drivers, which would spoil those of the
//! program that they interrupt.

use super::{FOLD_16, FOLD_64, constants};
use core::arch::x86_64::{
    __cpuid, __cpuid_count, __m128i, __m256i, _mm_loadu_si128, _mm_storeu_si128,
    _mm256_broadcastsi128_si256, _mm256_castsi256_si128, _mm256_clmulepi64_epi128,
    _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_set_m128i, _mm256_storeu_si256,
    _mm256_xor_si256, _xgetbv,
};
use core::sync::atomic::{AtomicU8, Ordering};

/// Fewer blocks are not worth it: those that lanes begin with, and two steps.
pub(super) const MIN_BLOCKS: usize = 7 + 16;

/// x^(8·128+32) and x^(8·128-32): fold over 128 bytes.
const FOLD_128: (i64, i64) = (0x1_e88e_f372, 0x1_4a7f_e880);
/// x^(2·128+32) and x^(2·128-32): fold over 32 bytes.
const FOLD_32: (i64, i64) = (0xf1da_05aa, 0x1_5a54_6366);

/// As that of PCLMULQDQ alone.
static AVAILABLE: AtomicU8 = AtomicU8::new(0);

#[inline]
pub(super) fn available() -> bool {
    match AVAILABLE.load(Ordering::Relaxed) {
        0 => detect(),
        known => known == 2,
    }
}

#[cold]
fn detect() -> bool {
    const OSXSAVE: u32 = 1 << 27;
    const AVX: u32 = 1 << 28;
    const AVX2: u32 = 1 << 5;
    const VPCLMULQDQ: u32 = 1 << 10;
    let has = |register: u32, bits: u32| register & bits == bits;
    let yes = __cpuid(0).eax >= 7
        && has(__cpuid(1).ecx, OSXSAVE | AVX)
        && has(__cpuid_count(7, 0).ebx, AVX2)
        && has(__cpuid_count(7, 0).ecx, VPCLMULQDQ)
        // SAFETY: OSXSAVE says that there is XGETBV.
        && unsafe { ymm_is_saved() };
    AVAILABLE.store(1 + u8::from(yes), Ordering::Relaxed);
    yes
}

/// Whether the system saves XMM and YMM registers.
#[target_feature(enable = "xsave")]
fn ymm_is_saved() -> bool {
    // SAFETY: register 0 exists where XGETBV does.
    unsafe { _xgetbv(0) & 6 == 6 }
}

/// Folds as many groups of eight blocks as there are into `x`; gives what is left.
///
/// # Safety
/// With COPY, `to` is valid for writes of all blocks, which are none of them.
#[target_feature(enable = "avx2,vpclmulqdq,pclmulqdq,sse4.1")]
pub(super) unsafe fn fold<'a, const COPY: bool>(
    x: __m128i,
    blocks: &'a [[u8; 16]],
    to: &mut *mut u8,
) -> (__m128i, &'a [[u8; 16]]) {
    let Some((first, blocks)) = blocks.split_first_chunk::<7>() else {
        return (x, blocks);
    };
    let (groups, rest) = blocks.as_chunks::<8>();
    let [single, pairs @ ..] = first;
    // SAFETY: the reference covers the 16 bytes that are read; unaligned addresses are allowed.
    let single = unsafe { _mm_loadu_si128(single.as_ptr().cast()) };
    if COPY {
        // SAFETY: by the caller's promise: this is the first block.
        unsafe {
            _mm_storeu_si128(to.cast(), single);
            *to = to.add(16);
        }
    }
    let (pairs, _) = pairs.as_chunks::<2>();
    let mut lanes = [_mm256_set_m128i(single, x); 4];
    for (lane, pair) in lanes.iter_mut().skip(1).zip(pairs) {
        // SAFETY: by the caller's promise: each block once, in order.
        *lane = unsafe { take::<COPY>(pair, to) };
    }
    let fold_128 = _mm256_broadcastsi128_si256(constants(FOLD_128));
    for group in groups {
        let (pairs, _) = group.as_chunks::<2>();
        for (lane, pair) in lanes.iter_mut().zip(pairs) {
            // SAFETY: as above.
            *lane = fold_2(*lane, fold_128, unsafe { take::<COPY>(pair, to) });
        }
    }
    let fold_64 = _mm256_broadcastsi128_si256(constants(FOLD_64));
    let fold_32 = _mm256_broadcastsi128_si256(constants(FOLD_32));
    let [a, b, c, d] = lanes;
    let both = fold_2(fold_2(a, fold_64, c), fold_32, fold_2(b, fold_64, d));
    let (low, high) = (
        _mm256_castsi256_si128(both),
        _mm256_extracti128_si256::<1>(both),
    );
    (super::fold(low, constants(FOLD_16), high), rest)
}

/// Two blocks: see [`super::take`].
///
/// # Safety
/// With COPY, `to` is valid for writes of 32 bytes, which are none of `pair`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn take<const COPY: bool>(pair: &[[u8; 16]; 2], to: &mut *mut u8) -> __m256i {
    // SAFETY: the reference covers the 32 bytes that are read; unaligned addresses are allowed.
    let blocks = unsafe { _mm256_loadu_si256(pair.as_ptr().cast()) };
    if COPY {
        // SAFETY: by the caller's promise.
        unsafe {
            _mm256_storeu_si256(to.cast(), blocks);
            *to = to.add(32);
        }
    }
    blocks
}

/// Moves both blocks of `x` past the bits that the constants stand for and adds `next`.
#[inline]
#[target_feature(enable = "avx2,vpclmulqdq")]
fn fold_2(x: __m256i, constants: __m256i, next: __m256i) -> __m256i {
    let low = _mm256_clmulepi64_epi128::<0x00>(x, constants);
    let high = _mm256_clmulepi64_epi128::<0x11>(x, constants);
    _mm256_xor_si256(_mm256_xor_si256(low, high), next)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use crate::Crc32;
    use std::vec;
    use std::vec::Vec;

    /// Where there is VPCLMULQDQ, it is what inputs of these lengths go through in this crate's own tests; elsewhere they say nothing.
    #[test]
    fn wide_registers_agree_with_the_oracle() {
        let data: Vec<u8> = (0..9000u32)
            .map(|i| (i.wrapping_mul(0x9e37_79b9) >> 13) as u8)
            .collect();
        for start in [0, 1, 7, 15, 16, 31] {
            for length in (300..1000).chain([1023, 1024, 4080, 4096, 4097, 8191]) {
                let slice = &data[start..start + length];
                let mut crc = Crc32::new();
                crc.update(slice);
                assert_eq!(
                    crc.finish(),
                    crc32fast::hash(slice),
                    "{length} from {start}"
                );
                let mut to = vec![0xee; length + 2];
                let mut copied = Crc32::new();
                copied.copy(slice, &mut to[1..=length]);
                assert_eq!(copied, crc);
                assert!(to[1..].starts_with(slice));
                assert_eq!((to[0], to[length + 1]), (0xee, 0xee));
            }
        }
    }
}
