//! `DbgPrint` and `DbgPrintEx`.

use std::arch::naked_asm;
use std::fmt::{self, Write};
use std::time::Duration;

use ndis_sys::types::NTSTATUS;
use ndis_sys::wdm::{DPFLTR_INFO_LEVEL, UNICODE_STRING};

use super::rtl;
use crate::verifier::{self, cross, rules};
use crate::world::context;
use crate::world::processor::PASSIVE;

exports_unchecked! {
    "ntoskrnl.exe";
    DbgPrintEx: PASSIVE..=DEVICE,
    DbgPrint: PASSIVE..=DEVICE,
}

/// Prints to the world's debug log.
///
/// Rust cannot define variadic functions; this puts the argument registers where the caller left room for them, in front of the
/// arguments on the stack. The directives are for the unwinder, which has to find who called.
///
/// # Safety
/// To be called as `DbgPrintEx(ComponentId: u32, Level: u32, Format: *const u8, ...) -> NTSTATUS`, with arguments as the format says.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn DbgPrintEx() {
    naked_asm!(
        ".cfi_startproc",
        "mov [rsp + 32], r9",
        "lea r9, [rsp + 32]",
        "sub rsp, 40",
        ".cfi_adjust_cfa_offset 40",
        "call {print}",
        "add rsp, 40",
        ".cfi_adjust_cfa_offset -40",
        "ret",
        ".cfi_endproc",
        print = sym print_ex,
    )
}

/// Prints to the world's debug log, as [`DbgPrintEx`].
///
/// # Safety
/// To be called as `DbgPrint(Format: *const u8, ...) -> NTSTATUS`, with arguments as the format says.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn DbgPrint() {
    naked_asm!(
        ".cfi_startproc",
        "mov [rsp + 16], rdx",
        "mov [rsp + 24], r8",
        "mov [rsp + 32], r9",
        "lea rdx, [rsp + 16]",
        "sub rsp, 40",
        ".cfi_adjust_cfa_offset 40",
        "call {print}",
        "add rsp, 40",
        ".cfi_adjust_cfa_offset -40",
        "ret",
        ".cfi_endproc",
        print = sym print,
    )
}

/// # Safety
/// As [`told`].
unsafe extern "efiapi" fn print_ex(
    _component: u32,
    level: u32,
    format: *const u8,
    arguments: *const u64,
) -> NTSTATUS {
    let _crossing = cross(&functions::DbgPrintEx);
    // SAFETY: promised by the caller.
    unsafe { told("DbgPrintEx", level, format, arguments) }
}

/// # Safety
/// As [`told`].
unsafe extern "efiapi" fn print(format: *const u8, arguments: *const u64) -> NTSTATUS {
    let _crossing = cross(&functions::DbgPrint);
    // SAFETY: promised by the caller.
    unsafe { told("DbgPrint", DPFLTR_INFO_LEVEL, format, arguments) }
}

/// # Safety
/// `format` must be a terminated string, and `arguments` the words after it, as it says.
unsafe fn told(by: &str, level: u32, format: *const u8, arguments: *const u64) -> NTSTATUS {
    // SAFETY: promised by the caller.
    let format = unsafe { std::ffi::CStr::from_ptr(format.cast()) }.to_bytes();
    let mut next = arguments;
    let mut argument = || {
        // SAFETY: the caller promises as many words as the format wants.
        unsafe {
            let value = *next;
            next = next.add(1);
            value
        }
    };
    // SAFETY: promised by the caller.
    let Formatted { text, unicode } = unsafe { format_text(format, &mut argument) };
    // Code pages lie in paged memory (nf-wdm-dbgprint, nf-wdm-dbgprintex: %C %S %lc %ls %wc %ws %wZ).
    if unicode && context::irql() > PASSIVE {
        verifier::violation(
            rules::IRQL,
            format!(
                "{by} is asked for a Unicode format at IRQL {}, allowed at PASSIVE_LEVEL only: {:?}",
                context::irql(),
                String::from_utf8_lossy(format)
            ),
        );
    }
    let core = context::core();
    let line = DebugLine {
        time: Duration::from_nanos(core.now()),
        machine: context::machine().name.clone(),
        level,
        text,
    };
    if core.echo_debug {
        eprintln!("{line} (level {level})");
    }
    core.debug_log.borrow_mut().push(line);
    0
}

/// What a driver printed with one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugLine {
    /// When, since the world began.
    pub time: Duration,
    /// Name of the machine.
    pub machine: String,
    /// `DPFLTR_*_LEVEL`.
    pub level: u32,
    /// The text, with its end of line if it has one.
    pub text: String,
}

impl fmt::Display for DebugLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text.trim_end();
        write!(
            f,
            "{:>12} ns [{}] {text}",
            self.time.as_nanos(),
            self.machine
        )
    }
}

#[derive(Default)]
struct Spec {
    minus: bool,
    plus: bool,
    space: bool,
    zero: bool,
    sharp: bool,
    width: usize,
    precision: Option<usize>,
    /// Bytes of an integer.
    size: u32,
    wide: bool,
}

impl Spec {
    fn pad(&self, out: &mut String, text: &str, zero: bool) {
        let missing = self.width.saturating_sub(text.chars().count());
        if self.minus {
            out.push_str(text);
            out.extend(std::iter::repeat_n(' ', missing));
        } else if zero && self.zero {
            let sign = usize::from(text.starts_with(['-', '+', ' ']));
            out.push_str(&text[..sign]);
            out.extend(std::iter::repeat_n('0', missing));
            out.push_str(&text[sign..]);
        } else {
            out.extend(std::iter::repeat_n(' ', missing));
            out.push_str(text);
        }
    }

    fn number(&self, out: &mut String, sign: &str, digits: &str) {
        let mut text = String::from(sign);
        let missing = self.precision.unwrap_or(0).saturating_sub(digits.len());
        text.extend(std::iter::repeat_n('0', missing));
        text.push_str(digits);
        self.pad(out, &text, self.precision.is_none());
    }

    fn text(&self, out: &mut String, text: &str) {
        let cut: String = text
            .chars()
            .take(self.precision.unwrap_or(usize::MAX))
            .collect();
        self.pad(out, &cut, false);
    }

    fn truncate(&self, value: u64) -> u64 {
        match self.size {
            1 => u64::from(value as u8),
            2 => u64::from(value as u16),
            4 => u64::from(value as u32),
            _ => value,
        }
    }

    fn extend(&self, value: u64) -> i64 {
        match self.size {
            1 => i64::from(value as i8),
            2 => i64::from(value as i16),
            4 => i64::from(value as i32),
            _ => value.cast_signed(),
        }
    }
}

type Format<'a> = std::iter::Peekable<std::iter::Copied<std::slice::Iter<'a, u8>>>;

/// A width or precision.
fn number(rest: &mut Format<'_>, next: &mut dyn FnMut() -> u64) -> usize {
    if rest.next_if_eq(&b'*').is_some() {
        return (next() as u32 as usize).min(512);
    }
    let mut value = 0usize;
    while let Some(digit) = rest.next_if(u8::is_ascii_digit) {
        value = (value * 10 + usize::from(digit - b'0')).min(512);
    }
    value
}

/// What was formatted.
struct Formatted {
    text: String,
    /// Whether anything of it was text in Unicode.
    unicode: bool,
}

/// Formats as the kernel's C library does, for everything but floating point.
///
/// # Safety
/// The words that `next` gives must be what the format says.
unsafe fn format_text(format: &[u8], next: &mut dyn FnMut() -> u64) -> Formatted {
    let mut out = String::new();
    let mut unicode = false;
    let mut rest: Format<'_> = format.iter().copied().peekable();
    while let Some(c) = rest.next() {
        if c != b'%' {
            out.push(char::from(c));
            continue;
        }
        let mut spec = Spec {
            size: 4,
            ..Spec::default()
        };
        while let Some(flag) = rest.peek() {
            match flag {
                b'-' => spec.minus = true,
                b'+' => spec.plus = true,
                b' ' => spec.space = true,
                b'0' => spec.zero = true,
                b'#' => spec.sharp = true,
                _ => break,
            }
            rest.next();
        }
        spec.width = number(&mut rest, next);
        if rest.next_if_eq(&b'.').is_some() {
            spec.precision = Some(number(&mut rest, next));
        }
        loop {
            match rest.peek() {
                // On Windows, long is 32 bits.
                Some(b'l') => {
                    rest.next();
                    spec.wide = true;
                    if rest.next_if_eq(&b'l').is_some() {
                        spec.size = 8;
                    }
                }
                Some(b'h') => {
                    rest.next();
                    spec.size = if rest.next_if_eq(&b'h').is_some() {
                        1
                    } else {
                        2
                    };
                }
                Some(b'I') => {
                    rest.next();
                    spec.size = 8;
                    if rest.next_if_eq(&b'3').is_some() {
                        rest.next_if_eq(&b'2');
                        spec.size = 4;
                    } else if rest.next_if_eq(&b'6').is_some() {
                        rest.next_if_eq(&b'4');
                    }
                }
                Some(b'z' | b't' | b'j') => {
                    rest.next();
                    spec.size = 8;
                }
                Some(b'w') => {
                    rest.next();
                    spec.wide = true;
                }
                _ => break,
            }
        }
        let Some(conversion) = rest.next() else {
            break;
        };
        unicode |= match conversion {
            b'C' | b'S' => spec.size != 2,
            b'c' | b's' | b'Z' => spec.wide,
            _ => false,
        };
        // SAFETY: promised by the caller.
        unsafe { convert(&mut out, &spec, conversion, next) };
    }
    Formatted { text: out, unicode }
}

/// # Safety
/// The words that `next` gives must be what the conversion says.
unsafe fn convert(out: &mut String, spec: &Spec, conversion: u8, next: &mut dyn FnMut() -> u64) {
    match conversion {
        b'%' => out.push('%'),
        b'd' | b'i' => {
            let value = spec.extend(next());
            let sign = match value {
                v if v < 0 => "-",
                _ if spec.plus => "+",
                _ if spec.space => " ",
                _ => "",
            };
            spec.number(out, sign, &value.unsigned_abs().to_string());
        }
        b'u' => spec.number(out, "", &spec.truncate(next()).to_string()),
        b'x' | b'X' | b'o' => {
            let value = spec.truncate(next());
            let digits = match conversion {
                b'x' => format!("{value:x}"),
                b'X' => format!("{value:X}"),
                _ => format!("{value:o}"),
            };
            let prefix = match conversion {
                b'x' if spec.sharp && value != 0 => "0x",
                b'X' if spec.sharp && value != 0 => "0X",
                b'o' if spec.sharp => "0",
                _ => "",
            };
            spec.number(out, prefix, &digits);
        }
        b'p' => spec.pad(out, &format!("{:016X}", next()), false),
        b'c' => {
            let c = char::from_u32(next() as u32 & 0xffff).unwrap_or('?');
            spec.text(out, &c.to_string());
        }
        b'C' => {
            let c = char::from_u32(next() as u32 & 0xffff).unwrap_or('?');
            spec.text(out, &c.to_string());
        }
        b's' | b'S' => {
            let address = next();
            // %S is wide where %s is not, and the other way round with h.
            let wide = if conversion == b'S' {
                spec.size != 2
            } else {
                spec.wide
            };
            let limit = spec.precision.unwrap_or(512).min(512);
            let text = if address == 0 {
                "(null)".to_owned()
            } else if wide {
                // SAFETY: promised by the caller.
                unsafe { wide_text(address as *const u16, limit) }
            } else {
                // SAFETY: promised by the caller.
                unsafe { narrow_text(address as *const u8, limit) }
            };
            spec.text(out, &text);
        }
        b'Z' => {
            let address = next();
            let text = if spec.wide {
                // SAFETY: promised by the caller.
                String::from_utf16_lossy(unsafe { rtl::counted(address as *const UNICODE_STRING) })
            } else {
                // An ANSI_STRING has the layout of a UNICODE_STRING with bytes for units.
                // SAFETY: promised by the caller.
                match unsafe { (address as *const UNICODE_STRING).as_ref() } {
                    Some(s) if !s.Buffer.is_null() => {
                        // SAFETY: promised by the caller.
                        let bytes = unsafe {
                            std::slice::from_raw_parts(s.Buffer.cast::<u8>(), s.Length.into())
                        };
                        String::from_utf8_lossy(bytes).into_owned()
                    }
                    _ => String::new(),
                }
            };
            spec.text(out, &text);
        }
        other => {
            let _ = write!(out, "%{}", char::from(other));
        }
    }
}

/// # Safety
/// `string` must point at `limit` units or at units up to a zero.
unsafe fn wide_text(string: *const u16, limit: usize) -> String {
    let units: Vec<u16> = (0..limit)
        // SAFETY: promised by the caller.
        .map(|i| unsafe { *string.add(i) })
        .take_while(|unit| *unit != 0)
        .collect();
    String::from_utf16_lossy(&units)
}

/// # Safety
/// `string` must point at `limit` bytes or at bytes up to a zero.
unsafe fn narrow_text(string: *const u8, limit: usize) -> String {
    let bytes: Vec<u8> = (0..limit)
        // SAFETY: promised by the caller.
        .map(|i| unsafe { *string.add(i) })
        .take_while(|byte| *byte != 0)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::format_text;

    fn text(format: &str, arguments: &[u64]) -> String {
        let mut arguments = arguments.iter().copied();
        // SAFETY: the tests below pass what their formats say.
        unsafe { format_text(format.as_bytes(), &mut || arguments.next().unwrap_or(0)).text }
    }

    #[test]
    fn integers() {
        let minus_one = u64::MAX;
        assert_eq!(text("%d %u", &[minus_one, minus_one]), "-1 4294967295");
        assert_eq!(text("%I64d %llu", &[minus_one, 7]), "-1 7");
        assert_eq!(
            text("%08x|%-6X|%#x", &[0xbeef, 0xab, 16]),
            "0000beef|AB    |0x10"
        );
        assert_eq!(
            text("%5d|%-5d|%05d|%.3d", &[42, 42, 42, 7]),
            "   42|42   |00042|007"
        );
        assert_eq!(
            text("%hhu %hu %lu", &[0x1ff, 0x1_ffff, 0x1_0000_0001]),
            "255 65535 1"
        );
        assert_eq!(
            text("%*d|%zu", &[4, 1, u64::MAX]),
            "   1|18446744073709551615"
        );
        assert_eq!(text("100%%", &[]), "100%");
    }

    #[test]
    fn strings() {
        let narrow = c"abc";
        let wide: Vec<u16> = "xyz\0".encode_utf16().collect();
        let arguments = [narrow.as_ptr() as u64, wide.as_ptr() as u64];
        assert_eq!(text("%s-%ws", &arguments), "abc-xyz");
        assert_eq!(text("%.2s-%S", &arguments), "ab-xyz");
        assert_eq!(text("%s|%p", &[0, 0x1234]), "(null)|0000000000001234");
        assert_eq!(text("%c%C", &[65, 66]), "AB");
    }
}
