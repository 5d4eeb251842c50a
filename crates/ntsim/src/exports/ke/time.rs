//! Time, and stopping.

use ndis_sys::types::LARGE_INTEGER;

use crate::verifier::{self, cross, rules};
use crate::world::context;

exports! {
    "ntoskrnl.exe";
    KeQueryInterruptTimePrecise: PASSIVE..=HIGH,
    KeQueryUnbiasedInterruptTime: PASSIVE..=HIGH,
    KeQuerySystemTimePrecise: PASSIVE..=HIGH,
    KeQueryPerformanceCounter: PASSIVE..=HIGH,
    KeQueryTimeIncrement: PASSIVE..=HIGH,
    KeStallExecutionProcessor: PASSIVE..=HIGH,
    KeBugCheckEx: PASSIVE..=HIGH,
}

/// The machines were started so long before the world's time 0, in 100 ns: a minute.
const BOOT: u64 = 600_000_000;
/// System time at the world's time 0, in 100 ns since 1601: 2024-01-01 00:00 UTC.
const EPOCH: u64 = 133_485_408_000_000_000;
/// Hz: what current Windows versions use, whatever the processor.
const FREQUENCY: i64 = 10_000_000;

fn now_100ns() -> u64 {
    context::core().now() / 100
}

/// Interrupt time of now, 100 ns.
pub(crate) fn interrupt_time() -> u64 {
    BOOT + now_100ns()
}

/// The time of the world's clock that a due time or timeout of the kernel means: negative is relative, else absolute
/// system time; in 100 ns.
pub(crate) fn due(time: LARGE_INTEGER) -> u64 {
    if time < 0 {
        let ns = time.unsigned_abs().saturating_mul(100);
        context::core().now().saturating_add(ns)
    } else {
        time.unsigned_abs()
            .saturating_sub(EPOCH)
            .saturating_mul(100)
    }
}

/// Interrupt time, and the performance counter at that moment.
///
/// # Safety
/// `QpcTimeStamp` must be valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeQueryInterruptTimePrecise(QpcTimeStamp: *mut u64) -> u64 {
    let _crossing = cross(&functions::KeQueryInterruptTimePrecise);
    context::core().looked_at_clock();
    let time = interrupt_time();
    // SAFETY: promised by the caller.
    unsafe { QpcTimeStamp.write(time) };
    time
}

/// Interrupt time without time asleep: these machines never sleep.
///
/// # Safety
/// None needed.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeQueryUnbiasedInterruptTime() -> u64 {
    let _crossing = cross(&functions::KeQueryUnbiasedInterruptTime);
    context::core().looked_at_clock();
    interrupt_time()
}

/// System time.
///
/// # Safety
/// `CurrentTime` must be valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeQuerySystemTimePrecise(CurrentTime: *mut LARGE_INTEGER) {
    let _crossing = cross(&functions::KeQuerySystemTimePrecise);
    context::core().looked_at_clock();
    // SAFETY: promised by the caller.
    unsafe { CurrentTime.write((EPOCH + now_100ns()).cast_signed()) };
}

/// The performance counter.
///
/// # Safety
/// `PerformanceFrequency` must be null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeQueryPerformanceCounter(
    PerformanceFrequency: *mut LARGE_INTEGER,
) -> LARGE_INTEGER {
    let _crossing = cross(&functions::KeQueryPerformanceCounter);
    context::core().looked_at_clock();
    if !PerformanceFrequency.is_null() {
        // SAFETY: promised by the caller.
        unsafe { PerformanceFrequency.write(FREQUENCY) };
    }
    interrupt_time().cast_signed()
}

/// 100 ns units between clock ticks.
///
/// # Safety
/// None needed.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeQueryTimeIncrement() -> u32 {
    let _crossing = cross(&functions::KeQueryTimeIncrement);
    match context::machine().config.timer_tick {
        0 => 156_250,
        tick => u32::try_from(tick / 100).unwrap_or(u32::MAX),
    }
}

/// Spins.
///
/// # Safety
/// None needed.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeStallExecutionProcessor(MicroSeconds: u32) {
    let _crossing = cross(&functions::KeStallExecutionProcessor);
    if MicroSeconds > 50 {
        verifier::violation(
            rules::STALL,
            format!("KeStallExecutionProcessor spins {MicroSeconds} us; more than 50 are too many"),
        );
    }
    context::core().stall(u64::from(MicroSeconds) * 1000);
}

/// Stops the system.
///
/// # Safety
/// None needed.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeBugCheckEx(
    BugCheckCode: u32,
    BugCheckParameter1: usize,
    BugCheckParameter2: usize,
    BugCheckParameter3: usize,
    BugCheckParameter4: usize,
) -> ! {
    let _crossing = cross(&functions::KeBugCheckEx);
    verifier::bugcheck(
        rules::BUGCHECK,
        format!(
            "KeBugCheckEx({BugCheckCode:#010x}, {BugCheckParameter1:#x}, {BugCheckParameter2:#x}, \
             {BugCheckParameter3:#x}, {BugCheckParameter4:#x})"
        ),
    );
}
