//! What is printed, where nobody may be left to read it.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::OnceLock;

static FAILURE: OnceLock<String> = OnceLock::new();

/// Prints a line. A reader that has gone away is no reason to stop; what else goes wrong is told at the end.
pub fn line(text: Arguments<'_>) {
    let mut out = io::stdout().lock();
    if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush())
        && error.kind() != ErrorKind::BrokenPipe
    {
        let _ = FAILURE.set(error.to_string());
    }
}

/// Why not all could be printed.
pub fn failure() -> Option<&'static str> {
    FAILURE.get().map(String::as_str)
}

/// Prints a line about what went wrong.
pub fn error(text: Arguments<'_>) {
    // There is nowhere left to tell.
    let _ = writeln!(io::stderr(), "error: {text}");
}
