//! Time, and stopping.

use ndis_sys::types::LARGE_INTEGER;

use crate::image::Images;
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
    let machine = context::machine();
    let images = machine.ext::<Images>();
    let parameters = [
        BugCheckParameter1,
        BugCheckParameter2,
        BugCheckParameter3,
        BugCheckParameter4,
    ];
    let parameters = told(parameters, |at, len| images.text(at, len));
    let text = format!(
        "KeBugCheckEx({BugCheckCode:#010x}, {}) on machine {}",
        parameters.join(", "),
        machine.name
    );
    // Nothing on this stack is dropped any more.
    drop((images, machine));
    verifier::bugcheck(rules::BUGCHECK, text);
}

/// The parameters of a bug check, as who debugs it would look at them: characters, and text that lies in an image, its length in the
/// parameter after it. What follows that may be a line's number.
fn told(parameters: [usize; 4], text: impl Fn(usize, usize) -> Option<String>) -> Vec<String> {
    let mut after_text = 0;
    let mut told = Vec::new();
    for (index, parameter) in parameters.into_iter().enumerate() {
        let mut shown = format!("{parameter:#x}");
        let length = parameters.get(index + 1).filter(|len| **len <= 512);
        if let Some(text) = length.and_then(|len| text(parameter, *len)) {
            shown += &format!(" = {text:?}");
            after_text = index + 2;
        } else if let Some(mark) = characters(parameter) {
            shown += &format!(" = {mark:?}");
        } else if index > 0 && index == after_text {
            shown += &format!(" = {parameter}");
        }
        told.push(shown);
    }
    told
}

/// The bytes of a number, if they are characters and a few more than chance makes.
fn characters(number: usize) -> Option<String> {
    let bytes = number.to_le_bytes();
    let used = &bytes[..bytes.len() - number.leading_zeros() as usize / 8];
    let printable = used.len() >= 4 && used.iter().all(u8::is_ascii_graphic);
    printable.then(|| String::from_utf8_lossy(used).into_owned())
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn parameters_are_shown_as_what_they_may_be() {
        let mark = usize::from_le_bytes(*b"marked\0\0");
        let text = |at, len| (at == 0x1000 && len == 9).then(|| "some text".to_owned());
        assert_eq!(
            told([mark, 0x1000, 9, 42], text),
            [
                "0x64656b72616d = \"marked\"",
                "0x1000 = \"some text\"",
                "0x9",
                "0x2a = 42"
            ]
        );
        assert_eq!(
            told([1, 2, 0x2000, 9], text),
            ["0x1", "0x2", "0x2000", "0x9"]
        );
    }
}
