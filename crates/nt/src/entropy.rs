//! Numbers that are hard to guess.

use crate::irql::Passive;
use crate::sys;

/// A number to seed generators with. IRQL: PASSIVE_LEVEL.
///
/// It is drawn from the kernel's generator, stirred with the clocks: different on every start, not of cryptographic quality.
pub fn entropy(_: Passive) -> u64 {
    let mut qpc = 0;
    let mut wall = 0;
    // SAFETY: the results go to locals.
    let uptime = unsafe {
        sys::KeQuerySystemTimePrecise(&raw mut wall);
        sys::KeQueryInterruptTimePrecise(&raw mut qpc)
    };
    let mut seed = (wall ^ wall.rotate_right(32)) as u32;
    // SAFETY: the seed is a local.
    let (high, low) = unsafe {
        (
            sys::RtlRandomEx(&raw mut seed),
            sys::RtlRandomEx(&raw mut seed),
        )
    };
    mix((u64::from(high) << 32 | u64::from(low)) ^ mix(qpc) ^ mix(uptime.rotate_left(17)))
}

/// Spreads each bit over all others (the finaliser of SplitMix64).
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
