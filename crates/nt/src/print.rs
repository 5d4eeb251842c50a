//! Output to the kernel debugger.

use core::fmt;

use crate::sys;
use crate::sys::wdm::{
    DPFLTR_ERROR_LEVEL, DPFLTR_INFO_LEVEL, DPFLTR_TRACE_LEVEL, DPFLTR_WARNING_LEVEL,
};

/// The component that network drivers of independent vendors print as; its mask decides what is shown.
const DPFLTR_IHVNETWORK_ID: u32 = 80;

/// How urgent a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is odd.
    Warning,
    /// Something happened.
    Trace,
    /// Detail.
    Info,
}

/// A line being put together, cut off at its end.
struct Line {
    text: [u8; 256],
    len: usize,
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // The line is the format string of the kernel's function: a percent sign stands for itself when doubled.
            let width = if byte == b'%' { 2 } else { 1 };
            // The last byte stays zero.
            let end = self.len + width;
            match self.text.get_mut(self.len..end) {
                Some(slots) if end < 256 => slots.fill(byte),
                _ => return Ok(()),
            }
            self.len = end;
        }
        Ok(())
    }
}

/// Prints a line. Use [`debug_print!`](crate::debug_print). IRQL: any.
pub fn write(level: Level, text: fmt::Arguments<'_>) {
    let mut line = Line {
        text: [0; 256],
        len: 0,
    };
    let _ = fmt::write(&mut line, format_args!("vroce: {text}\n"));
    let level = match level {
        Level::Error => DPFLTR_ERROR_LEVEL,
        Level::Warning => DPFLTR_WARNING_LEVEL,
        Level::Trace => DPFLTR_TRACE_LEVEL,
        Level::Info => DPFLTR_INFO_LEVEL,
    };
    // SAFETY: terminated (the last byte is never written) and without conversions.
    unsafe { sys::DbgPrintEx(DPFLTR_IHVNETWORK_ID, level, line.text.as_ptr()) };
}

/// Prints a line to the kernel debugger: `debug_print!(Error, "no memory for {what}")`. 247 bytes at most. IRQL: any.
#[macro_export]
macro_rules! debug_print {
    ($level:ident, $($text:tt)+) => {
        $crate::print::write($crate::print::Level::$level, ::core::format_args!($($text)+))
    };
}
