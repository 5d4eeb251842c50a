//! Where a trace goes.

use std::fmt::Arguments;
use std::io::{self, Write};

/// A file or memory, or why nothing is written to it any more.
pub(super) struct Out(Result<Box<dyn Write>, (io::ErrorKind, String)>);

impl Out {
    pub(super) fn new(to: Box<dyn Write>) -> Out {
        Out(Ok(to))
    }

    fn with(&mut self, f: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        if let Ok(to) = &mut self.0
            && let Err(error) = f(to)
        {
            self.0 = Err((error.kind(), error.to_string()));
        }
    }

    pub(super) fn put(&mut self, text: Arguments<'_>) {
        self.with(|to| to.write_fmt(text));
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.with(|to| to.flush());
        match &self.0 {
            Ok(_) => Ok(()),
            Err((kind, text)) => Err(io::Error::new(*kind, text.clone())),
        }
    }
}
